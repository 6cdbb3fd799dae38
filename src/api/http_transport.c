/* The bytes of a connection. TLS sockets are non-blocking and driven by poll, so that one thread can copy both ways over them. */
#include "api/http-internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int wait_for(int fd, short events, int timeout_ms)
{
    struct pollfd poll_fd = { .fd = fd, .events = events };
    for (;;) {
        int n = poll(&poll_fd, 1, timeout_ms);
        if (n > 0)
            return 0;
        if (n == 0) {
            errno = EAGAIN;
            return -1;
        }
        if (errno != EINTR)
            return -1;
    }
}

/* After a TLS call returned r: 1 try again when the returned events come, 0 end of stream, -1 error with errno. */
static int tls_wants(SSL *tls, int r, short *ret_events)
{
    int saved = errno;
    switch (SSL_get_error(tls, r)) {
    case SSL_ERROR_WANT_READ:
        *ret_events = POLLIN;
        return 1;
    case SSL_ERROR_WANT_WRITE:
        *ret_events = POLLOUT;
        return 1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        ERR_clear_error();
        errno = saved ? saved : ECONNRESET;
        return -1;
    }
}

/* Clients of our own on this machine may send the file along that they want read or written (http_exchange_take_file). */
static ssize_t receive_with_fd(struct http_transport *transport, void *buffer, gsize length)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec piece = { .iov_base = buffer, .iov_len = length };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    ssize_t n = recvmsg(transport->fd, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *header = n >= 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int))) {
        fd_close(transport->passed);
        memcpy(&transport->passed, CMSG_DATA(header), sizeof(int));
    }
    return n;
}

gssize http_transport_read(struct http_transport *transport, void *buffer, gsize length, int timeout_ms)
{
    for (;;) {
        short events = POLLIN;
        if (transport->tls) {
            errno = 0;
            int n = SSL_read(transport->tls, buffer, (int)MIN(length, 1u << 30));
            int wants = n > 0 ? 1 : tls_wants(transport->tls, n, &events);
            if (n > 0 || wants <= 0)
                return n > 0 ? n : wants;
        }
        if ((timeout_ms >= 0 || transport->tls) && wait_for(transport->fd, events, timeout_ms) < 0)
            return -1;
        if (transport->tls)
            continue;
        ssize_t n = receive_with_fd(transport, buffer, length);
        if (n >= 0 || errno != EINTR)
            return n;
    }
}

int http_transport_write(struct http_transport *transport, const void *data, gsize length)
{
    gsize done = 0;
    while (done < length) {
        if (transport->tls) {
            short events = 0;
            errno = 0;
            int n = SSL_write(transport->tls, (const char *)data + done, (int)MIN(length - done, 1u << 30));
            if (n > 0) {
                done += (gsize)n;
                continue;
            }
            if (tls_wants(transport->tls, n, &events) <= 0 || wait_for(transport->fd, events, -1) < 0)
                return -1;
            continue;
        }
        ssize_t n = send(transport->fd, (const char *)data + done, length - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            if (wait_for(transport->fd, POLLOUT, -1) < 0)
                return -1;
            continue;
        }
        if (n < 0 && errno != EINTR)
            return -1;
        done += n > 0 ? (gsize)n : 0;
    }
    return 0;
}

bool http_transport_accept_tls(struct http_transport *transport, SSL_CTX *context, int timeout_ms)
{
    transport->tls = SSL_new(context);
    if (!transport->tls || SSL_set_fd(transport->tls, transport->fd) != 1 || fd_set_nonblocking(transport->fd, true) < 0)
        return false;
    gint64 deadline = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    for (;;) {
        short events = 0;
        errno = 0;
        int r = SSL_accept(transport->tls);
        if (r == 1)
            return true;
        gint64 left = (deadline - g_get_monotonic_time()) / 1000;
        if (left <= 0 || tls_wants(transport->tls, r, &events) <= 0 || wait_for(transport->fd, events, (int)left) < 0)
            return false;
    }
}

/* ---- pump ---- */

enum { PUMP_ROOM = 32768 };

/* One direction of a pump: bytes on their way. */
struct flow {
    char bytes[PUMP_ROOM];
    gsize at, end;
    bool source_ended, sink_ended;
};

static bool flow_has_room(const struct flow *flow)
{
    return !flow->source_ended && !flow->sink_ended && flow->at == flow->end;
}

static void flow_filled(struct flow *flow, gssize n)
{
    flow->at = 0;
    flow->end = n > 0 ? (gsize)n : 0;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        flow->source_ended = true;
}

static void flow_drained(struct flow *flow, gssize n)
{
    if (n > 0)
        flow->at += (gsize)n;
    else if (errno != EAGAIN && errno != EINTR) {
        flow->sink_ended = true;
        flow->at = flow->end = 0;
    }
}

/* Non-blocking step on the client's side; *events collects what to wait for. */
static gssize client_step(struct http_transport *transport, bool is_write, void *data, gsize length, short *events)
{
    if (!transport->tls) {
        gssize n = is_write ? send(transport->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT)
                            : recv(transport->fd, data, length, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            *events |= is_write ? POLLOUT : POLLIN;
        return n;
    }
    short wanted = 0;
    errno = 0;
    int n = is_write ? SSL_write(transport->tls, data, (int)length) : SSL_read(transport->tls, data, (int)length);
    if (n > 0)
        return n;
    int wants = tls_wants(transport->tls, n, &wanted);
    if (wants == 1) {
        *events |= wanted;
        errno = EAGAIN;
        return -1;
    }
    return wants;
}

static gssize socket_step(int fd, bool is_write, void *data, gsize length, short *events)
{
    gssize n = is_write ? send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT) : recv(fd, data, length, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        *events |= is_write ? POLLOUT : POLLIN;
    return n;
}

static void half_close_client(struct http_transport *transport)
{
    if (transport->tls)
        SSL_shutdown(transport->tls);
    else
        shutdown(transport->fd, SHUT_WR);
}

/* One round over both directions; true when any byte moved or an end was found. */
static bool pump_round(struct http_transport *transport, int socket, struct flow *up, struct flow *down, short *client_events,
                       short *socket_events)
{
    bool moved = false;
    if (flow_has_room(up)) {
        flow_filled(up, client_step(transport, false, up->bytes, PUMP_ROOM, client_events));
        moved |= up->at < up->end || up->source_ended;
    }
    if (flow_has_room(down)) {
        flow_filled(down, socket_step(socket, false, down->bytes, PUMP_ROOM, socket_events));
        moved |= down->at < down->end || down->source_ended;
    }
    gsize up_at = up->at, down_at = down->at;
    if (up->at < up->end)
        flow_drained(up, socket_step(socket, true, up->bytes + up->at, up->end - up->at, socket_events));
    if (down->at < down->end)
        flow_drained(down, client_step(transport, true, down->bytes + down->at, down->end - down->at, client_events));
    return moved || up->at != up_at || down->at != down_at;
}

void http_transport_pump(struct http_transport *transport, int socket, const void *prefix, gsize prefix_length)
{
    g_autofree struct flow *up = g_new0(struct flow, 1); /* client → socket */
    g_autofree struct flow *down = g_new0(struct flow, 1);
    bool up_closed = false;
    if (prefix_length > 0 && fd_write_full(socket, prefix, prefix_length) < 0)
        return;
    for (;;) {
        short client_events = 0, socket_events = 0;
        bool moved = pump_round(transport, socket, up, down, &client_events, &socket_events);
        if (!up_closed && up->at == up->end && (up->source_ended || up->sink_ended)) {
            shutdown(socket, SHUT_WR);
            up_closed = true;
        }
        /* The session is over when the program's side has ended and all of it was delivered; a client that only stops sending
         * still wants the rest. */
        if (down->at == down->end && (down->source_ended || down->sink_ended)) {
            half_close_client(transport);
            return;
        }
        if (moved)
            continue;
        struct pollfd fds[2] = { { .fd = client_events ? transport->fd : -1, .events = client_events },
                                 { .fd = socket_events ? socket : -1, .events = socket_events } };
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return;
    }
}
