/* HTTP/1.1 over one connection. The body of a request is sent while the answer is already read, for engines report progress and
 * errors before they have all of it; one thread, one poll loop, so that TLS needs no lock. */
#include "cli/cli-internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define READ_SIZE (128 * 1024)
#define SEND_SIZE (256 * 1024)

struct connection {
    struct transport *transport;
    GByteArray *in; /* received, from in_at on not yet taken */
    gsize in_at;
    GByteArray *out; /* to be sent, from out_at on */
    gsize out_at;
    int body_fd;      /* -1 when there is nothing more to send */
    bool end_of_file; /* the engine closed */
    bool keep_alive;
    bool exchanged; /* an answer came before: a failure may be the idle connection's */
    struct http_body body;
};

struct connection *connection_open(const struct endpoint *endpoint, GError **error)
{
    struct transport *transport = transport_open(endpoint, error);
    if (!transport)
        return NULL;
    struct connection *connection = g_new0(struct connection, 1);
    connection->transport = transport;
    connection->in = g_byte_array_new();
    connection->out = g_byte_array_new();
    connection->body_fd = -1;
    return connection;
}

void connection_free(struct connection *connection)
{
    if (!connection)
        return;
    transport_free(connection->transport);
    g_byte_array_unref(connection->in);
    g_byte_array_unref(connection->out);
    g_free(connection);
}

static void append_text(GByteArray *bytes, const char *text)
{
    g_byte_array_append(bytes, (const guint8 *)text, (guint)strlen(text));
}

/* Turns the next piece of the body's fd into a chunk. False and an error when it cannot be read. */
static bool refill(struct connection *connection, GError **error)
{
    g_byte_array_set_size(connection->out, 0);
    connection->out_at = 0;
    enum { HEADER = 10 }; /* "00040000\r\n" */
    g_byte_array_set_size(connection->out, HEADER + SEND_SIZE + 2);
    ssize_t n;
    do
        n = read(connection->body_fd, connection->out->data + HEADER, SEND_SIZE);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) {
        g_byte_array_set_size(connection->out, 0);
        return true;
    }
    if (n < 0)
        return error_set_errno(error, errno, "read what is to be sent");
    char header[HEADER + 1];
    g_snprintf(header, sizeof header, "%08x\r\n", (unsigned)n);
    if (n == 0) {
        connection->body_fd = -1;
        g_byte_array_set_size(connection->out, 0);
        append_text(connection->out, "0\r\n\r\n");
        return true;
    }
    memcpy(connection->out->data, header, HEADER);
    memcpy(connection->out->data + HEADER + n, "\r\n", 2);
    g_byte_array_set_size(connection->out, (guint)(HEADER + n + 2));
    return true;
}

static bool output_waits(const struct connection *connection)
{
    return connection->out_at < connection->out->len;
}

/* A peer that stops listening may have an answer for us: sending ends, reading goes on. */
static void stop_sending(struct connection *connection)
{
    connection->body_fd = -1;
    g_byte_array_set_size(connection->out, 0);
    connection->out_at = 0;
    connection->keep_alive = false;
}

static void send_some(struct connection *connection)
{
    ssize_t n = transport_write(connection->transport, connection->out->data + connection->out_at,
                                connection->out->len - connection->out_at);
    if (n > 0)
        connection->out_at += (gsize)n;
    else if (n < 0 && errno != EAGAIN)
        stop_sending(connection);
}

static bool receive_some(struct connection *connection, GError **error)
{
    if (connection->in_at == connection->in->len) {
        g_byte_array_set_size(connection->in, 0);
        connection->in_at = 0;
    }
    guint old = connection->in->len;
    g_byte_array_set_size(connection->in, old + READ_SIZE);
    ssize_t n = transport_read(connection->transport, connection->in->data + old, READ_SIZE);
    int errnum = errno;
    g_byte_array_set_size(connection->in, old + (n > 0 ? (guint)n : 0));
    if (n == 0 || (n < 0 && errnum == ECONNRESET))
        connection->end_of_file = true;
    else if (n < 0 && errnum == EPROTO && connection->transport->tls && tls_problem(connection->transport->tls))
        return error_set(error, TARE_ERROR_UNAVAILABLE, "error during connect: %s", tls_problem(connection->transport->tls));
    else if (n < 0 && errnum != EAGAIN)
        return error_set_errno(error, errnum, "error during connect: read");
    return true;
}

/* Sends what there is to send until something was received or the engine closed. */
static bool pump(struct connection *connection, GError **error)
{
    guint before = connection->in->len - (guint)connection->in_at;
    while (!connection->end_of_file && connection->in->len - connection->in_at == before) {
        bool waits = output_waits(connection);
        struct pollfd fds[2] = { { .fd = connection->transport->fd, .events = POLLIN }, { .fd = -1, .events = POLLIN } };
        if (waits)
            fds[0].events |= POLLOUT;
        else if (connection->body_fd >= 0)
            fds[1].fd = connection->body_fd;
        int timeout = transport_pending(connection->transport) ? 0 : -1;
        if (poll(fds, 2, timeout) < 0 && errno != EINTR)
            return error_set_errno(error, errno, "poll");
        if (fds[1].revents && !refill(connection, error))
            return false;
        if (fds[0].revents & (POLLOUT | POLLERR) && waits)
            send_some(connection);
        if ((fds[0].revents & (POLLIN | POLLHUP | POLLERR) || timeout == 0) && !receive_some(connection, error))
            return false;
    }
    return true;
}

static void append_head(struct connection *connection, const struct http_request *request)
{
    g_autoptr(GString) head = g_string_new(NULL);
    g_string_append_printf(head, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Docker-Client/28.2 (linux) tare/%s\r\n",
                           request->method, request->target, request->host ? request->host : "api.moby.localhost", TARE_VERSION);
    for (const char *const *header = request->headers; header && header[0]; header += 2)
        g_string_append_printf(head, "%s: %s\r\n", header[0], header[1]);
    if (request->body_fd >= 0)
        g_string_append(head, "Transfer-Encoding: chunked\r\n");
    else if (request->body)
        g_string_append_printf(head, "Content-Length: %" G_GSIZE_FORMAT "\r\n", request->body_length);
    else if (strcmp(request->method, "POST") == 0 || strcmp(request->method, "PUT") == 0)
        g_string_append(head, "Content-Length: 0\r\n");
    if (request->upgrade)
        g_string_append(head, "Connection: Upgrade\r\nUpgrade: tcp\r\n");
    g_string_append(head, "\r\n");
    append_text(connection->out, head->str);
    if (request->body)
        g_byte_array_append(connection->out, (const guint8 *)request->body, (guint)request->body_length);
}

static bool read_head(struct connection *connection, bool no_body, struct http_head *ret, GError **error)
{
    for (;;) {
        gsize available = connection->in->len - connection->in_at;
        gssize taken =
            available ? http_head_parse((char *)connection->in->data + connection->in_at, available, no_body, ret, error) : 0;
        if (taken < 0) {
            g_prefix_error(error, "error during connect: ");
            return false;
        }
        connection->in_at += (gsize)taken;
        if (taken > 0 && ret->status / 100 == 1 && ret->status != 101) { /* informational: the answer follows */
            http_head_clear(ret);
            continue;
        }
        if (taken > 0)
            return true;
        if (connection->end_of_file)
            return error_set(error, TARE_ERROR_UNAVAILABLE, "error during connect: EOF");
        if (!pump(connection, error))
            return false;
    }
}

bool http_exchange(struct connection *connection, const struct http_request *request, struct http_head *ret_head, GError **error)
{
    g_byte_array_set_size(connection->out, 0);
    connection->out_at = 0;
    connection->body_fd = request->body_fd;
    connection->transport->to_pass = request->file;
    connection->keep_alive = true;
    append_head(connection, request);
    if (!read_head(connection, strcmp(request->method, "HEAD") == 0, ret_head, error))
        return false;
    connection->keep_alive = connection->keep_alive && ret_head->keep_alive;
    connection->exchanged = true;
    if (request->upgrade && (ret_head->status == 101 || ret_head->status == 200)) {
        connection->keep_alive = false;
        ret_head->framing = HTTP_UNTIL_CLOSE;
    }
    http_body_init(&connection->body, ret_head);
    return true;
}

gssize http_read(struct connection *connection, void *buffer, gsize length, GError **error)
{
    while (!connection->body.done) {
        gsize available = MIN(connection->in->len - connection->in_at, length), taken, n;
        const char *content;
        if (available > 0) {
            if (!http_body_take(&connection->body, (char *)connection->in->data + connection->in_at, available, &taken, &content,
                                &n, error))
                return -1;
            memcpy(buffer, content, n);
            connection->in_at += taken;
            if (n > 0)
                return (gssize)n;
            continue;
        }
        if (connection->end_of_file) {
            if (connection->body.framing == HTTP_UNTIL_CLOSE)
                break;
            error_set(error, TARE_ERROR_UNAVAILABLE, "unexpected EOF");
            return -1;
        }
        if (!pump(connection, error))
            return -1;
    }
    return 0;
}

bool http_reusable(const struct connection *connection)
{
    return connection->body.done && connection->keep_alive && !connection->end_of_file && connection->body_fd < 0 &&
           !output_waits(connection) && connection->in_at == connection->in->len;
}

struct transport *connection_transport(struct connection *connection)
{
    return connection->transport;
}

const char *connection_leftover(const struct connection *connection, gsize *ret_length)
{
    *ret_length = connection->in->len - connection->in_at;
    return (const char *)connection->in->data + connection->in_at;
}
