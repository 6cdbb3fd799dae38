#include "shim/shim-internal.h"

#include "base/frame.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define READ_SIZE 65536
#define REQUEST_FDS_MAX 8
/* What may wait for a peer that does not read: then it is dropped. */
#define QUEUE_MAX (32u << 20)
#define LENGTH_SIZE 4

struct message {
    GByteArray *bytes;
    guint sent;
    int *fds;
    size_t n_fds;
};

struct connection {
    struct shim *shim;
    int fd;
    struct loop_watch *watch;
    GByteArray *input; /* of one frame: never more than that is read, so that fds belong to it */
    int fds[REQUEST_FDS_MAX];
    size_t n_fds;
    GQueue queue; /* of struct message */
    size_t queued;
    bool subscribed;
    bool broken; /* ends at its next event */
};

static void message_free(gpointer data)
{
    struct message *message = data;
    for (size_t i = 0; i < message->n_fds; i++)
        fd_close(message->fds[i]);
    g_free(message->fds);
    g_byte_array_unref(message->bytes);
    g_free(message);
}

static void close_request_fds(struct connection *connection)
{
    for (size_t i = 0; i < connection->n_fds; i++)
        fd_close(connection->fds[i]);
    connection->n_fds = 0;
}

static void connection_free(struct connection *connection)
{
    struct shim *shim = connection->shim;
    g_ptr_array_remove_fast(shim->connections, connection);
    stop_forget(shim, connection);
    if (shim->quit_connection == connection)
        shim->quit_connection = NULL;
    loop_watch_free(connection->watch);
    fd_close(connection->fd);
    close_request_fds(connection);
    g_byte_array_unref(connection->input);
    g_queue_clear_full(&connection->queue, message_free);
    g_free(connection);
    shim_consider_end(shim);
}

/* ---- sending ---- */

/* 1: all of it, 0: some is left, -1: the peer has gone. */
static int send_message(struct connection *connection, struct message *message)
{
    if (message->n_fds > 0) {
        if (fd_send(connection->fd, message->bytes->data, 1, message->fds, message->n_fds) < 0)
            return errno == EAGAIN ? 0 : -1;
        message->sent = 1;
        for (size_t i = 0; i < message->n_fds; i++)
            fd_close(message->fds[i]);
        message->n_fds = 0;
    }
    while (message->sent < message->bytes->len) {
        ssize_t n = send(connection->fd, message->bytes->data + message->sent, message->bytes->len - message->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        message->sent += (guint)n;
    }
    return 1;
}

/* A connection ends from its own event alone: whoever sends may still hold it. */
static void break_connection(struct connection *connection)
{
    connection->broken = true;
    g_queue_clear_full(&connection->queue, message_free);
    connection->queued = 0;
    shutdown(connection->fd, SHUT_RDWR);
}

static void flush_queue(struct connection *connection)
{
    struct message *message;
    while ((message = g_queue_peek_head(&connection->queue))) {
        int result = send_message(connection, message);
        if (result < 0) {
            break_connection(connection);
            return;
        }
        if (result == 0)
            break;
        connection->queued -= message->bytes->len;
        message_free(g_queue_pop_head(&connection->queue));
    }
    loop_watch_set(connection->watch, EPOLLIN | (connection->queue.length > 0 ? EPOLLOUT : 0));
}

static GByteArray *frame_bytes(const json_t *value)
{
    g_autofree char *text = json_text(value);
    size_t length = strlen(text);
    GByteArray *bytes = g_byte_array_sized_new((guint)length + LENGTH_SIZE);
    guint8 header[LENGTH_SIZE];
    for (int i = 0; i < LENGTH_SIZE; i++)
        header[i] = (guint8)(length >> (8 * i));
    g_byte_array_append(bytes, header, sizeof header);
    g_byte_array_append(bytes, (const guint8 *)text, (guint)length);
    return bytes;
}

static void send_value(struct connection *connection, const json_t *value, const int *fds, size_t n_fds)
{
    struct message *message = g_new0(struct message, 1);
    message->bytes = frame_bytes(value);
    message->fds = g_memdup2(fds, n_fds * sizeof *fds);
    message->n_fds = n_fds;
    if (connection->broken || connection->queued + message->bytes->len > QUEUE_MAX) {
        message_free(message);
        if (!connection->broken)
            break_connection(connection);
        return;
    }
    connection->queued += message->bytes->len;
    g_queue_push_tail(&connection->queue, message);
    flush_queue(connection);
}

void server_reply(struct connection *connection, json_t *reply, int *fds, size_t n_fds)
{
    json_object_set_new(reply, "ok", json_true());
    send_value(connection, reply, fds, n_fds);
    json_decref(reply);
}

void server_reply_error(struct connection *connection, const GError *error)
{
    int code = error->domain == TARE_ERROR ? error->code : TARE_ERROR_INTERNAL;
    g_autoptr(json_t) message = json_string_lossy(error->message);
    g_autoptr(json_t) reply = json_pack("{s:{s:i,s:O}}", "error", "code", code, "message", message);
    send_value(connection, reply, NULL, 0);
}

void server_subscribe(struct connection *connection)
{
    connection->subscribed = true;
}

void server_emit(struct shim *shim, json_t *event)
{
    for (guint i = 0; shim->connections && i < shim->connections->len; i++) {
        struct connection *connection = shim->connections->pdata[i];
        if (connection->subscribed)
            send_value(connection, event, NULL, 0);
    }
    json_decref(event);
}

size_t server_n_connections(const struct shim *shim)
{
    return shim->connections ? shim->connections->len : 0;
}

/* ---- requests ---- */

static void perform(struct connection *connection, const json_t *body)
{
    g_autoptr(GError) error = NULL;
    const char *name = json_get_string(body, "op", "");
    operation_func operation = operation_find(name);
    g_autoptr(json_t) reply = json_object();
    struct request request = {
        .connection = connection, .body = body, .fds = connection->fds, .n_fds = connection->n_fds, .reply = reply
    };
    bool ok = operation ? operation(connection->shim, &request, &error)
                        : error_set(&error, TARE_ERROR_INVALID, "shim: unknown operation \"%s\"", name);
    close_request_fds(connection);
    if (!ok)
        server_reply_error(connection, error);
    else if (!request.later)
        server_reply(connection, json_incref(reply), request.reply_fds, request.n_reply_fds);
}

static guint32 length_of(const guint8 *bytes)
{
    return (guint32)bytes[0] | (guint32)bytes[1] << 8 | (guint32)bytes[2] << 16 | (guint32)bytes[3] << 24;
}

static size_t wanted_bytes(const struct connection *connection)
{
    const GByteArray *input = connection->input;
    return input->len < LENGTH_SIZE ? LENGTH_SIZE - input->len : LENGTH_SIZE + length_of(input->data) - input->len;
}

/* A frame is whole: false ends the connection. */
static bool take_frame(struct connection *connection)
{
    g_autoptr(GByteArray) frame = g_steal_pointer(&connection->input);
    g_autoptr(GError) error = NULL;
    connection->input = g_byte_array_new();
    g_autoptr(json_t) body =
        json_parse((const char *)frame->data + LENGTH_SIZE, frame->len - LENGTH_SIZE, FRAME_MAX, "request", &error);
    if (!body) {
        server_reply_error(connection, error);
        return false;
    }
    perform(connection, body);
    return true;
}

/* False at the end of the connection. */
static bool receive(struct connection *connection)
{
    static guint8 buffer[READ_SIZE];
    int fds[REQUEST_FDS_MAX];
    size_t n_fds = REQUEST_FDS_MAX - connection->n_fds;
    ssize_t n = fd_receive(connection->fd, buffer, MIN(wanted_bytes(connection), sizeof buffer), fds, &n_fds);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    for (size_t i = 0; i < n_fds; i++)
        connection->fds[connection->n_fds++] = fds[i];
    if (n == 0)
        return false;
    g_byte_array_append(connection->input, buffer, (guint)n);
    if (connection->input->len < LENGTH_SIZE)
        return true;
    guint32 length = length_of(connection->input->data);
    if (length > FRAME_MAX)
        return false;
    return connection->input->len < LENGTH_SIZE + length || take_frame(connection);
}

static void on_connection(void *user, uint32_t events)
{
    struct connection *connection = user;
    if (!connection->broken && (events & EPOLLOUT))
        flush_queue(connection);
    if (connection->broken || ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !receive(connection)))
        connection_free(connection);
}

/* ---- connections ---- */

/* The socket is 0600 in directories of 0700; a mistake there must not be an open door. */
static bool peer_is_ours(int fd)
{
    struct ucred peer;
    socklen_t length = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

static void on_listen(void *user, uint32_t events)
{
    struct shim *shim = user;
    g_autofd int fd = accept4(shim->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 || shim->connections->len >= CONNECTIONS_MAX || !peer_is_ours(fd))
        return;
    struct connection *connection = g_new0(struct connection, 1);
    connection->watch = loop_watch_new(shim->loop, fd, EPOLLIN, on_connection, connection);
    if (!connection->watch) {
        g_free(connection);
        return;
    }
    connection->shim = shim;
    connection->fd = fd_steal(&fd);
    connection->input = g_byte_array_new();
    g_queue_init(&connection->queue);
    g_ptr_array_add(shim->connections, connection);
}

bool server_start(struct shim *shim, int listen_fd, GError **error)
{
    shim->connections = g_ptr_array_new();
    shim->listen_fd = listen_fd;
    fd_set_nonblocking(listen_fd, true);
    shim->listen_watch = loop_watch_new(shim->loop, listen_fd, EPOLLIN, on_listen, shim);
    return shim->listen_watch || error_set_errno(error, errno, "listen");
}

void server_stop_listening(struct shim *shim)
{
    g_clear_pointer(&shim->listen_watch, loop_watch_free);
    fd_clear(&shim->listen_fd);
}

void server_clear(struct shim *shim)
{
    server_stop_listening(shim);
    while (shim->connections && shim->connections->len > 0)
        connection_free(shim->connections->pdata[0]);
    g_clear_pointer(&shim->connections, g_ptr_array_unref);
}
