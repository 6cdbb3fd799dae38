/* The way to the engine: a unix socket, TCP, TLS over it, or the standard streams of ssh. All are one non-blocking fd in the end.
 */
#include "cli/cli-internal.h"

#include "base/fd.h"
#include "base/spawn.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static bool fail_to_connect(const struct endpoint *endpoint, int errnum, GError **error)
{
    if (errnum == EACCES || errnum == EPERM)
        return error_set(error, TARE_ERROR_UNAVAILABLE,
                         "permission denied while trying to connect to the Docker daemon socket at %s: dial unix %s: connect: "
                         "permission denied",
                         endpoint->host, endpoint->address);
    return error_set(error, TARE_ERROR_UNAVAILABLE, "Cannot connect to the Docker daemon at %s. Is the docker daemon running?",
                     endpoint->host);
}

static int connect_unix(const struct endpoint *endpoint, GError **error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t length = strlen(endpoint->address);
    if (length >= sizeof address.sun_path) {
        error_set(error, TARE_ERROR_INVALID, "unix socket path \"%s\" is too long", endpoint->address);
        return -1;
    }
    memcpy(address.sun_path, endpoint->address, length + 1);
    g_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        fail_to_connect(endpoint, errno, error);
        return -1;
    }
    return fd_steal(&fd);
}

static int connect_tcp(const struct endpoint *endpoint, GError **error)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    int r = getaddrinfo(endpoint->address, endpoint->port, &hints, &list);
    if (r != 0) {
        error_set(error, TARE_ERROR_UNAVAILABLE, "error during connect: lookup %s: %s", endpoint->address, gai_strerror(r));
        return -1;
    }
    int fd = -1, last = ECONNREFUSED;
    for (struct addrinfo *at = list; at && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) < 0) {
            last = errno;
            fd_clear(&fd);
        }
    }
    freeaddrinfo(list);
    if (fd < 0) {
        fail_to_connect(endpoint, last == EACCES ? ECONNREFUSED : last, error);
        return -1;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    return fd;
}

/* ssh [-p port] -- [user@]host docker system dial-stdio: what stock clients run, so that either end may be theirs. */
static int connect_ssh(const struct endpoint *endpoint, pid_t *ret_pid, GError **error)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        error_set_errno(error, errno, "socketpair");
        return -1;
    }
    g_autofd int ours = pair[0];
    g_autofd int theirs = pair[1];
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *quoted = endpoint->socket ? g_shell_quote(endpoint->socket) : NULL;
    g_autofree char *host_option = quoted ? g_strconcat("--host=unix://", quoted, NULL) : NULL;
    g_ptr_array_add(argv, (gpointer) "ssh");
    g_ptr_array_add(argv, (gpointer) "-o");
    g_ptr_array_add(argv, (gpointer) "ConnectTimeout=30");
    if (endpoint->port) {
        g_ptr_array_add(argv, (gpointer) "-p");
        g_ptr_array_add(argv, endpoint->port);
    }
    g_ptr_array_add(argv, (gpointer) "-T");
    g_ptr_array_add(argv, (gpointer) "--");
    g_ptr_array_add(argv, endpoint->address);
    g_autofree char *either = g_strdup_printf("command -v tare >/dev/null 2>&1 && exec tare %s system dial-stdio; exec docker %s "
                                              "system dial-stdio",
                                              host_option ? host_option : "", host_option ? host_option : "");
    if (endpoint->prefer_tare) {
        g_ptr_array_add(argv, either);
    } else {
        g_ptr_array_add(argv, (gpointer) "docker");
        if (host_option)
            g_ptr_array_add(argv, host_option);
        g_ptr_array_add(argv, (gpointer) "system");
        g_ptr_array_add(argv, (gpointer) "dial-stdio");
    }
    g_ptr_array_add(argv, NULL);
    struct spawn_fd fds[] = { { theirs, 0 }, { theirs, 1 }, { STDERR_FILENO, 2 } };
    extern char **environ;
    struct spawn_options options = { .argv = (const char *const *)argv->pdata,
                                     .envp = (const char *const *)environ,
                                     .fds = fds,
                                     .n_fds = G_N_ELEMENTS(fds),
                                     .search_path = true };
    *ret_pid = spawn_program(&options, error);
    return *ret_pid < 0 ? -1 : fd_steal(&ours);
}

struct transport *transport_open(const struct endpoint *endpoint, GError **error)
{
    struct transport *transport = g_new0(struct transport, 1);
    transport->to_pass = -1;
    transport->fd = endpoint->kind == ENDPOINT_UNIX  ? connect_unix(endpoint, error)
                    : endpoint->kind == ENDPOINT_TCP ? connect_tcp(endpoint, error)
                                                     : connect_ssh(endpoint, &transport->helper, error);
    bool ok = transport->fd >= 0;
    if (ok && endpoint->tls && endpoint->kind == ENDPOINT_TCP)
        ok = (transport->tls = tls_connect(transport->fd, endpoint, error)) != NULL;
    if (ok && fd_set_nonblocking(transport->fd, true) < 0)
        ok = error_set_errno(error, errno, "fcntl");
    if (!ok)
        g_clear_pointer(&transport, transport_free);
    return transport;
}

ssize_t transport_read(struct transport *transport, void *buffer, size_t length)
{
    ssize_t n;
    do
        n = transport->tls ? tls_read(transport->tls, buffer, length) : read(transport->fd, buffer, length);
    while (n < 0 && errno == EINTR);
    return n;
}

static ssize_t write_with_file(struct transport *transport, const void *data, size_t length)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec piece = { .iov_base = (void *)data, .iov_len = length };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &transport->to_pass, sizeof(int));
    ssize_t n = sendmsg(transport->fd, &message, MSG_NOSIGNAL);
    if (n > 0)
        transport->to_pass = -1;
    return n;
}

ssize_t transport_write(struct transport *transport, const void *data, size_t length)
{
    ssize_t n;
    do
        n = transport->tls            ? tls_write(transport->tls, data, length)
            : transport->to_pass >= 0 ? write_with_file(transport, data, length)
                                      : send(transport->fd, data, length, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n;
}

bool transport_pending(const struct transport *transport)
{
    return transport->tls && tls_pending(transport->tls);
}

void transport_close_write(struct transport *transport)
{
    if (transport->tls)
        tls_close_write(transport->tls);
    else
        shutdown(transport->fd, SHUT_WR);
}

void transport_free(struct transport *transport)
{
    if (!transport)
        return;
    tls_free(transport->tls);
    fd_close(transport->fd);
    if (transport->helper > 0) {
        kill(transport->helper, SIGTERM);
        spawn_wait(transport->helper);
    }
    g_free(transport);
}
