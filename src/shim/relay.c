/* Published ports over IPv6. What comes over IPv4 the kernel's address translation sends to the container; on the default bridge
 * a container has no IPv6 address, so what comes over IPv6 the shim carries over itself, as docker's userland proxy does. */
#include "shim/shim-internal.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINKS_MAX 512     /* at a time, of both protocols together: more wait, or push out the one idle longest */
#define BUFFER_SIZE 16384 /* of each direction, while something waits in it */
#define DATAGRAM_MAX 65535
#define IDLE_MS 90000 /* docker's figure for datagrams */

struct listener {
    struct relay *relay;
    int fd;
    bool is_stream;
    guint16 port; /* the container's */
    struct loop_watch *watch;
};

/* One client. ends[0] is its side, ends[1] the container's; of datagrams only the latter. */
struct link {
    struct listener *listener;
    struct end {
        struct link *link;
        int fd;
        struct loop_watch *watch;
        guint8 *waiting; /* read here, not yet written to the other end */
        size_t n_waiting, written;
        bool over; /* nothing more comes from here */
    } ends[2];
    bool is_connecting;
    struct sockaddr_in6 client; /* of datagrams */
    struct in6_pktinfo local;
    gint64 used_us;
};

struct relay {
    struct shim *shim;
    struct in_addr address;
    struct listener *listeners;
    size_t n_listeners;
    GQueue links; /* the one used last first */
    struct loop_timer *idle_timer;
    guint8 *datagram;
};

static void listen_for_more(struct relay *relay, bool more)
{
    for (size_t i = 0; i < relay->n_listeners; i++)
        if (relay->listeners[i].is_stream)
            loop_watch_set(relay->listeners[i].watch, more ? EPOLLIN : 0);
}

static void link_free(struct link *link)
{
    struct relay *relay = link->listener->relay;
    for (size_t i = 0; i < G_N_ELEMENTS(link->ends); i++) {
        loop_watch_free(link->ends[i].watch);
        fd_close(link->ends[i].fd);
        g_free(link->ends[i].waiting);
    }
    if (relay->links.length == LINKS_MAX)
        listen_for_more(relay, true);
    g_queue_remove(&relay->links, link);
    g_free(link);
}

/* A socket on its way to the container's port, not waited for. */
static int connect_inside(const struct listener *listener)
{
    struct sockaddr_in inside = { .sin_family = AF_INET,
                                  .sin_port = htons(listener->port),
                                  .sin_addr = listener->relay->address };
    int type = listener->is_stream ? SOCK_STREAM : SOCK_DGRAM;
    g_autofd int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || (connect(fd, (struct sockaddr *)&inside, sizeof inside) < 0 && errno != EINPROGRESS))
        return -1;
    return fd_steal(&fd);
}

static struct link *link_new(struct listener *listener, int outside, int inside)
{
    struct link *link = g_new0(struct link, 1);
    link->listener = listener;
    link->ends[0] = (struct end){ .link = link, .fd = outside };
    link->ends[1] = (struct end){ .link = link, .fd = inside };
    link->used_us = g_get_monotonic_time();
    g_queue_push_head(&listener->relay->links, link);
    return link;
}

/* ---- streams ---- */

/* From one end to the other for as long as both go on; a few rounds, since others wait too. False: the connection is broken. */
static bool carry(struct end *from, struct end *to)
{
    for (int round = 0; round < 8; round++) {
        if (from->n_waiting == from->written) {
            if (from->over)
                return true;
            if (!from->waiting)
                from->waiting = g_malloc(BUFFER_SIZE);
            ssize_t n = recv(from->fd, from->waiting, BUFFER_SIZE, 0);
            from->n_waiting = n > 0 ? (size_t)n : 0;
            from->written = 0;
            if (n <= 0)
                g_clear_pointer(&from->waiting, g_free);
            if (n < 0)
                return errno == EAGAIN || errno == EINTR;
            if (n == 0) {
                from->over = true;
                shutdown(to->fd, SHUT_WR);
                return true;
            }
        }
        ssize_t n = send(to->fd, from->waiting + from->written, from->n_waiting - from->written, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        from->written += (size_t)n;
    }
    return true;
}

static void watch_ends(struct link *link)
{
    for (size_t i = 0; i < 2; i++) {
        const struct end *end = &link->ends[i], *other = &link->ends[!i];
        uint32_t events = 0;
        if (link->is_connecting)
            events = i == 1 ? EPOLLOUT : 0;
        else
            events =
                (!end->over && end->n_waiting == end->written ? EPOLLIN : 0) | (other->n_waiting > other->written ? EPOLLOUT : 0);
        loop_watch_set(end->watch, events);
    }
}

static void on_stream(void *user, uint32_t events)
{
    struct end *end = user;
    struct link *link = end->link;
    if (link->is_connecting && end == &link->ends[1]) {
        int problem = 0;
        socklen_t length = sizeof problem;
        if (getsockopt(end->fd, SOL_SOCKET, SO_ERROR, &problem, &length) < 0 || problem != 0) {
            link_free(link);
            return;
        }
        link->is_connecting = false;
    }
    if ((events & EPOLLERR) || !carry(&link->ends[0], &link->ends[1]) || !carry(&link->ends[1], &link->ends[0])) {
        link_free(link);
        return;
    }
    bool done = true;
    for (size_t i = 0; i < 2; i++)
        done = done && link->ends[i].over && link->ends[i].n_waiting == link->ends[i].written;
    if (done)
        link_free(link);
    else
        watch_ends(link);
}

static void on_client(void *user, uint32_t events)
{
    struct listener *listener = user;
    g_autofd int outside = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    g_autofd int inside = outside >= 0 ? connect_inside(listener) : -1;
    if (inside < 0) /* nobody listens there: the client sees its connection closed */
        return;
    struct link *link = link_new(listener, fd_steal(&outside), fd_steal(&inside));
    link->is_connecting = true;
    for (size_t i = 0; i < 2; i++)
        link->ends[i].watch = loop_watch_new(listener->relay->shim->loop, link->ends[i].fd, EPOLLOUT, on_stream, &link->ends[i]);
    if (!link->ends[0].watch || !link->ends[1].watch) {
        link_free(link);
        return;
    }
    watch_ends(link);
    if (listener->relay->links.length == LINKS_MAX)
        listen_for_more(listener->relay, false);
}

/* ---- datagrams ---- */

/* From the address that the client has written to: a socket bound to all of them would choose one by itself. */
static void answer(struct link *link, const guint8 *data, size_t length)
{
    union {
        char room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
        struct cmsghdr align;
    } control = { .room = { 0 } };
    struct iovec part = { (void *)data, length };
    struct msghdr message = { .msg_name = &link->client,
                              .msg_namelen = sizeof link->client,
                              .msg_iov = &part,
                              .msg_iovlen = 1,
                              .msg_control = control.room,
                              .msg_controllen = sizeof control.room };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = IPPROTO_IPV6;
    header->cmsg_type = IPV6_PKTINFO;
    header->cmsg_len = CMSG_LEN(sizeof link->local);
    memcpy(CMSG_DATA(header), &link->local, sizeof link->local);
    sendmsg(link->listener->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void touch(struct link *link)
{
    GQueue *links = &link->listener->relay->links;
    link->used_us = g_get_monotonic_time();
    if (g_queue_peek_head(links) == link)
        return;
    g_queue_remove(links, link);
    g_queue_push_head(links, link);
}

static void on_answer(void *user, uint32_t events)
{
    struct end *end = user;
    struct relay *relay = end->link->listener->relay;
    /* A refusal (nobody listens inside) is read away here too: datagrams may be lost. */
    ssize_t n = recv(end->fd, relay->datagram, DATAGRAM_MAX, 0);
    if (n < 0)
        return;
    touch(end->link);
    answer(end->link, relay->datagram, (size_t)n);
}

static void on_idle(void *user)
{
    struct relay *relay = user;
    gint64 now = g_get_monotonic_time();
    bool any = false;
    relay->idle_timer = NULL;
    for (GList *item = relay->links.tail; item;) {
        struct link *link = item->data;
        item = item->prev;
        if (link->listener->is_stream)
            continue;
        if (now - link->used_us >= IDLE_MS * 1000LL)
            link_free(link);
        else
            any = true;
    }
    if (any)
        relay->idle_timer = loop_timer_new(relay->shim->loop, IDLE_MS, on_idle, relay);
}

static void drop_oldest_datagrams(struct relay *relay)
{
    for (GList *item = relay->links.tail; item; item = item->prev)
        if (!((struct link *)item->data)->listener->is_stream) {
            link_free(item->data);
            return;
        }
}

static struct link *link_of(struct listener *listener, const struct sockaddr_in6 *client)
{
    struct relay *relay = listener->relay;
    for (GList *item = relay->links.head; item; item = item->next) {
        struct link *link = item->data;
        if (link->listener == listener && link->client.sin6_port == client->sin6_port &&
            link->client.sin6_scope_id == client->sin6_scope_id &&
            IN6_ARE_ADDR_EQUAL(&link->client.sin6_addr, &client->sin6_addr))
            return link;
    }
    if (relay->links.length == LINKS_MAX)
        drop_oldest_datagrams(relay);
    int inside = relay->links.length < LINKS_MAX ? connect_inside(listener) : -1;
    if (inside < 0)
        return NULL;
    struct link *link = link_new(listener, -1, inside);
    link->client = *client;
    link->ends[1].watch = loop_watch_new(relay->shim->loop, inside, EPOLLIN, on_answer, &link->ends[1]);
    if (!link->ends[1].watch) {
        link_free(link);
        return NULL;
    }
    if (!relay->idle_timer)
        relay->idle_timer = loop_timer_new(relay->shim->loop, IDLE_MS, on_idle, relay);
    return link;
}

static void on_datagram(void *user, uint32_t events)
{
    struct listener *listener = user;
    struct relay *relay = listener->relay;
    union {
        char room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
        struct cmsghdr align;
    } control;
    struct sockaddr_in6 client = { 0 };
    if (!relay->datagram)
        relay->datagram = g_malloc(DATAGRAM_MAX);
    struct iovec part = { relay->datagram, DATAGRAM_MAX };
    struct msghdr message = { .msg_name = &client,
                              .msg_namelen = sizeof client,
                              .msg_iov = &part,
                              .msg_iovlen = 1,
                              .msg_control = control.room,
                              .msg_controllen = sizeof control.room };
    ssize_t n = recvmsg(listener->fd, &message, MSG_DONTWAIT);
    struct link *link = n >= 0 ? link_of(listener, &client) : NULL;
    if (!link)
        return;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header))
        if (header->cmsg_level == IPPROTO_IPV6 && header->cmsg_type == IPV6_PKTINFO)
            memcpy(&link->local, CMSG_DATA(header), sizeof link->local);
    touch(link);
    send(link->ends[1].fd, relay->datagram, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* ---- life ---- */

static bool is_ipv6(int fd, int *ret_type)
{
    struct sockaddr_storage bound = { 0 };
    socklen_t length = sizeof bound, type_length = sizeof *ret_type;
    return getsockname(fd, (struct sockaddr *)&bound, &length) == 0 && bound.ss_family == AF_INET6 &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, ret_type, &type_length) == 0;
}

static bool serve(struct listener *listener)
{
    int one = 1;
    bool ok = listener->is_stream ? listen(listener->fd, SOMAXCONN) == 0
                                  : setsockopt(listener->fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof one) == 0;
    if (ok)
        listener->watch = loop_watch_new(listener->relay->shim->loop, listener->fd, EPOLLIN,
                                         listener->is_stream ? on_client : on_datagram, listener);
    return listener->watch;
}

void relay_start(struct shim *shim)
{
    const struct shim_config *config = shim->config;
    struct in_addr address;
    if (shim->relay || !config->relay_address || inet_pton(AF_INET, config->relay_address, &address) != 1)
        return;
    struct relay *relay = g_new0(struct relay, 1);
    relay->shim = shim;
    relay->address = address;
    relay->listeners = g_new0(struct listener, config->n_ports);
    g_queue_init(&relay->links);
    for (size_t i = 0; i < config->n_ports; i++) {
        int type = 0;
        struct listener *listener = &relay->listeners[relay->n_listeners];
        if (!is_ipv6(config->ports[i], &type) || config->relay_ports[i] == 0)
            continue;
        *listener = (struct listener){
            .relay = relay, .fd = config->ports[i], .is_stream = type == SOCK_STREAM, .port = config->relay_ports[i]
        };
        if (serve(listener))
            relay->n_listeners++;
        else
            log_line(LOG_LEVEL_WARNING, "a published port does not answer over IPv6", "container", config->id, "error",
                     error_errno_text(errno), NULL);
    }
    shim->relay = relay;
}

void relay_stop(struct shim *shim)
{
    struct relay *relay = g_steal_pointer(&shim->relay);
    if (!relay)
        return;
    while (relay->links.head)
        link_free(relay->links.head->data);
    for (size_t i = 0; i < relay->n_listeners; i++)
        loop_watch_free(relay->listeners[i].watch);
    loop_timer_free(relay->idle_timer);
    g_free(relay->listeners);
    g_free(relay->datagram);
    g_free(relay);
}
