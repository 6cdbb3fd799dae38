/* Netlink requests in batches over libmnl. A message that does not fit is refused, never wrapped (CVE-2021-43784). */
#include "network/network-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH_ROOM 65536
#define MESSAGE_ROOM 4096 /* the largest single request that we build */
#define REQUESTS_MAX 4096

struct netlink {
    struct mnl_socket *socket;
    char *buffer;
    size_t used;
    guint32 sequence, first_sequence;
    GPtrArray *what; /* static text of each request, by sequence */
    struct nlmsghdr *open;
};

/* A socket belongs to the namespace that its thread was in when it was made. */
static struct mnl_socket *open_in(int protocol, int netns_fd, GError **error)
{
    g_autofd int own = -1;
    if (netns_fd >= 0) {
        own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        if (own < 0 || setns(netns_fd, CLONE_NEWNET) < 0) {
            error_set_errno(error, errno, "enter network namespace");
            return NULL;
        }
    }
    struct mnl_socket *socket = mnl_socket_open2(protocol, SOCK_CLOEXEC);
    int saved = errno;
    if (own >= 0 && setns(own, CLONE_NEWNET) < 0)
        g_error(
            "cannot return to the host's network namespace"); /* going on would configure a container's network as the host's */
    if (!socket)
        error_set_errno(error, saved, "netlink socket");
    return socket;
}

struct netlink *netlink_open(int protocol, int netns_fd, GError **error)
{
    struct mnl_socket *socket = open_in(protocol, netns_fd, error);
    if (!socket)
        return NULL;
    if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
        error_set_errno(error, errno, "bind netlink socket");
        mnl_socket_close(socket);
        return NULL;
    }
    struct netlink *netlink = g_new0(struct netlink, 1);
    netlink->socket = socket;
    netlink->buffer = g_malloc(BATCH_ROOM);
    netlink->sequence = netlink->first_sequence = 1;
    netlink->what = g_ptr_array_new();
    return netlink;
}

void netlink_close(struct netlink *netlink)
{
    if (!netlink)
        return;
    mnl_socket_close(netlink->socket);
    g_ptr_array_unref(netlink->what);
    g_free(netlink->buffer);
    g_free(netlink);
}

static void close_request(struct netlink *netlink)
{
    if (!netlink->open)
        return;
    g_assert(netlink->open->nlmsg_len <= MESSAGE_ROOM);
    netlink->used += NLMSG_ALIGN(netlink->open->nlmsg_len);
    netlink->open = NULL;
}

struct nlmsghdr *netlink_add(struct netlink *netlink, guint16 type, guint16 flags, size_t header_size, void **ret_header,
                             const char *what)
{
    close_request(netlink);
    if (netlink->used + MESSAGE_ROOM > BATCH_ROOM)
        return NULL;
    struct nlmsghdr *message = mnl_nlmsg_put_header(netlink->buffer + netlink->used);
    message->nlmsg_type = type;
    message->nlmsg_flags = NLM_F_REQUEST | flags;
    message->nlmsg_seq = netlink->sequence++;
    void *header = mnl_nlmsg_put_extra_header(message, header_size);
    if (ret_header)
        *ret_header = header;
    g_ptr_array_add(netlink->what, (gpointer)what);
    netlink->open = message;
    return message;
}

/* Reads acknowledgements until the last request that asked for one has answered. */
static bool read_answers(struct netlink *netlink, guint32 wanted, int *ret_errno, GError **error)
{
    bool ok = true;
    char buffer[16384];
    while (wanted > 0) {
        ssize_t n = mnl_socket_recvfrom(netlink->socket, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, errno, "read netlink answer");
        int left = (int)n;
        for (struct nlmsghdr *message = (struct nlmsghdr *)buffer; mnl_nlmsg_ok(message, left);
             message = mnl_nlmsg_next(message, &left)) {
            guint32 index = message->nlmsg_seq - netlink->first_sequence;
            if (message->nlmsg_type != NLMSG_ERROR || index >= netlink->what->len)
                continue;
            const struct nlmsgerr *answer = mnl_nlmsg_get_payload(message);
            wanted--;
            if (answer->error == 0 || !ok)
                continue;
            ok = false;
            if (ret_errno)
                *ret_errno = -answer->error;
            error_set_errno(error, -answer->error, "%s", (const char *)netlink->what->pdata[index]);
            /* nftables drops a whole batch at its first error: nothing more comes. */
            if (message->nlmsg_seq == 0)
                return false;
        }
    }
    return ok;
}

bool netlink_run(struct netlink *netlink, int *ret_errno, GError **error)
{
    close_request(netlink);
    guint32 wanted = 0;
    int left = (int)netlink->used;
    for (struct nlmsghdr *message = (struct nlmsghdr *)netlink->buffer; mnl_nlmsg_ok(message, left);
         message = mnl_nlmsg_next(message, &left))
        wanted += (message->nlmsg_flags & NLM_F_ACK) != 0;
    bool ok = netlink->used == 0 || mnl_socket_sendto(netlink->socket, netlink->buffer, netlink->used) >= 0 ||
              error_set_errno(error, errno, "send netlink request");
    ok = ok && read_answers(netlink, wanted, ret_errno, error);
    netlink->used = 0;
    netlink->first_sequence = netlink->sequence;
    g_ptr_array_set_size(netlink->what, 0);
    return ok;
}

bool netlink_dump(struct netlink *netlink, guint16 type, guint8 family, mnl_cb_t callback, void *user, GError **error)
{
    char buffer[32768];
    struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
    message->nlmsg_type = type;
    message->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    message->nlmsg_seq = netlink->sequence++;
    netlink->first_sequence = netlink->sequence;
    /* The family is the first byte of every header that we list; 32 bytes cover them all (the kernel reads what it knows). */
    *(guint8 *)mnl_nlmsg_put_extra_header(message, 16) = family;
    if (mnl_socket_sendto(netlink->socket, message, message->nlmsg_len) < 0)
        return error_set_errno(error, errno, "send netlink request");
    int r = MNL_CB_OK;
    while (r > MNL_CB_STOP) {
        ssize_t n = mnl_socket_recvfrom(netlink->socket, buffer, sizeof buffer);
        if (n < 0)
            return error_set_errno(error, errno, "read netlink answer");
        r = mnl_cb_run(buffer, (size_t)n, message->nlmsg_seq, mnl_socket_get_portid(netlink->socket), callback, user);
    }
    return r == MNL_CB_STOP || error_set_errno(error, errno, "read netlink answer");
}
