/* Host ports: bound, so that nobody else on the host takes a published port. Those of IPv4 do not listen: the kernel's address
 * translation answers before them. */
#include "network/network-internal.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct {
    const char *name;
    int number, type;
} protocols[] = { { "tcp", IPPROTO_TCP, SOCK_STREAM },
                  { "udp", IPPROTO_UDP, SOCK_DGRAM },
                  { "sctp", IPPROTO_SCTP, SOCK_STREAM } };

int protocol_number(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(protocols); i++)
        if (strcmp(protocols[i].name, name) == 0)
            return protocols[i].number;
    return -1;
}

const char *protocol_name(int number)
{
    for (size_t i = 0; i < G_N_ELEMENTS(protocols); i++)
        if (protocols[i].number == number)
            return protocols[i].name;
    return "tcp";
}

static int bind_v4(int protocol, int type, struct in_addr address, guint16 port)
{
    struct sockaddr_in where = { .sin_family = AF_INET, .sin_addr = address, .sin_port = htons(port) };
    g_autofd int fd = socket(AF_INET, type | SOCK_CLOEXEC, protocol);
    if (fd < 0 || bind(fd, (struct sockaddr *)&where, sizeof where) < 0)
        return -1;
    return fd_steal(&fd);
}

static int bind_v6(int protocol, int type, struct in6_addr address, guint16 port)
{
    int one = 1;
    struct sockaddr_in6 where = { .sin6_family = AF_INET6, .sin6_addr = address, .sin6_port = htons(port) };
    g_autofd int fd = socket(AF_INET6, type | SOCK_CLOEXEC, protocol);
    if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) < 0)
        return -1;
    /* The shim serves it, so connections of the last one may linger; that two have it at a time only the listening prevents. */
    if (type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0)
        return -1;
    if (bind(fd, (struct sockaddr *)&where, sizeof where) < 0 || (type == SOCK_STREAM && listen(fd, SOMAXCONN) < 0))
        return -1;
    return fd_steal(&fd);
}

static void take(struct network_port *port, int fd, GArray *fds)
{
    struct sockaddr_in6 bound = { 0 }; /* the port stands at the same place as IPv4's */
    socklen_t length = sizeof bound;
    if (port->host_port == 0 && getsockname(fd, (struct sockaddr *)&bound, &length) == 0)
        port->host_port = ntohs(bound.sin6_port);
    g_array_append_val(fds, fd);
}

/* On an address of IPv6 alone. */
static bool reserve_v6(struct network_port *port, struct in6_addr address, GArray *fds, GError **error)
{
    int protocol = protocol_number(port->protocol);
    int fd = bind_v6(protocol, protocol == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM, address, port->host_port);
    if (fd < 0)
        return error_set(error, TARE_ERROR_INTERNAL, "Error starting userland proxy: listen %s6 [%s]:%u: bind: %s",
                         port->protocol, port->host_ip, port->host_port, error_errno_text(errno));
    take(port, fd, fds);
    return true;
}

bool port_is_v6(const struct network_port *port, struct in6_addr *ret)
{
    return inet_pton(AF_INET6, port->host_ip, ret) == 1;
}

bool port_reserve(struct network_port *port, GArray *fds, GError **error)
{
    struct in6_addr six = in6addr_any;
    struct in_addr address = { .s_addr = INADDR_ANY };
    int protocol = protocol_number(port->protocol);
    const char *shown = *port->host_ip ? port->host_ip : "0.0.0.0";
    if (protocol < 0)
        return error_set(error, TARE_ERROR_INVALID, "invalid proto: %s", port->protocol);
    if (port_is_v6(port, &six))
        return reserve_v6(port, six, fds, error);
    if (*port->host_ip && inet_pton(AF_INET, port->host_ip, &address) != 1)
        return error_set(error, TARE_ERROR_INVALID, "invalid IP address: %s", port->host_ip);
    int type = protocol == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM;
    if (protocol == IPPROTO_SCTP) /* a kernel without the module has no sockets of it, and then no competitors either */
        return port->host_port != 0 || error_set(error, TARE_ERROR_INVALID, "sctp ports need an explicit host port");
    g_autofd int fd = bind_v4(protocol, type, address, port->host_port);
    if (fd < 0)
        return error_set(error, TARE_ERROR_INTERNAL, "Error starting userland proxy: listen %s4 %s:%u: bind: %s", port->protocol,
                         shown, port->host_port, error_errno_text(errno));
    take(port, fd_steal(&fd), fds);
    if (address.s_addr == INADDR_ANY) {
        int other = bind_v6(protocol, type, in6addr_any, port->host_port); /* a host without IPv6 has none to reserve */
        if (other < 0 && errno == EADDRINUSE)
            return error_set(error, TARE_ERROR_INTERNAL, "Error starting userland proxy: listen %s6 [::]:%u: bind: %s",
                             port->protocol, port->host_port, error_errno_text(errno));
        if (other >= 0)
            g_array_append_val(fds, other);
    }
    return true;
}
