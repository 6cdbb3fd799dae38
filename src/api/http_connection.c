/* A connection's life: heads, exchanges, and an end that loses no answer. */
#include "api/http-internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* A head that cannot be read gets its answer without an exchange. */
static void refuse(struct http_connection *connection, const GError *error)
{
    const char *status = error_is(error, TARE_ERROR_TOO_LARGE)         ? "431 Request Header Fields Too Large"
                         : error_is(error, TARE_ERROR_NOT_IMPLEMENTED) ? "501 Not Implemented"
                                                                       : "400 Bad Request";
    g_autofree char *text =
        g_strdup_printf("HTTP/1.1 %s\r\n%sContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n%s\n", status,
                        connection->server->headers->str, error->message);
    http_transport_write(&connection->transport, text, strlen(text));
}

/* Receives more, at most until the deadline. False at the connection's end. */
static bool fill_input(struct http_connection *connection, gint64 deadline)
{
    gint64 left = (deadline - g_get_monotonic_time()) / 1000;
    if (left <= 0)
        return false;
    if (connection->input_at == connection->input_end)
        connection->input_at = connection->input_end = 0;
    gssize n = http_transport_read(&connection->transport, connection->input + connection->input_end,
                                   HTTP_INPUT_ROOM - connection->input_end, (int)left);
    if (n <= 0)
        return false;
    connection->input_end += (gsize)n;
    return true;
}

/* The next request, or NULL at the connection's end. */
static struct http_request *read_head(struct http_connection *connection)
{
    struct http_request *request = NULL;
    gint64 deadline = g_get_monotonic_time() + HTTP_IDLE_TIMEOUT_MS * G_GINT64_CONSTANT(1000);
    bool begun = false;
    gsize total = 0;
    for (;;) {
        gsize waiting = connection->input_end - connection->input_at;
        if (waiting > 0 && !begun) {
            begun = true;
            deadline = g_get_monotonic_time() + HTTP_HEAD_TIMEOUT_MS * G_GINT64_CONSTANT(1000);
        }
        g_autoptr(GError) error = NULL;
        gssize eaten = waiting ? http_parser_state_head(connection->parser, connection->input + connection->input_at, waiting,
                                                        &request, &error)
                               : 0;
        if (eaten >= 0 && !request && (total += (gsize)eaten) > HTTP_MAX_HEAD) {
            error_set(&error, TARE_ERROR_TOO_LARGE, "HTTP request header is too large");
            eaten = -1;
        }
        if (eaten < 0) {
            refuse(connection, error);
            connection->broken = true; /* what follows cannot be told apart */
            return NULL;
        }
        connection->input_at += (gsize)eaten;
        if (request)
            return request;
        if (!fill_input(connection, deadline))
            return NULL;
    }
}

/* Serves one request; false when the connection is at its end. */
static bool serve_request(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    struct http_request *request = read_head(connection);
    if (!request)
        return false;
    struct http_exchange *exchange = http_exchange_new(connection, request);
    g_mutex_lock(&server->lock);
    exchange->number = ++server->next_number;
    g_hash_table_add(server->exchanges, exchange);
    if (server->stopping)
        cancel_trigger(exchange->cancel);
    g_mutex_unlock(&server->lock);

    server->handler(exchange, server->user);

    bool goes_on = http_exchange_finish(exchange);
    g_mutex_lock(&server->lock);
    g_hash_table_remove(server->exchanges, exchange);
    goes_on = goes_on && !server->stopping;
    g_mutex_unlock(&server->lock);
    http_exchange_free(exchange);
    return goes_on;
}

/* Closing a socket with unread bytes resets it, and the reset overtakes our answer: a client in the middle of an upload would see
 * a broken pipe and no reason. So the writing half is closed, and what still comes is read away until the client has understood.
 */
static void linger(struct http_connection *connection)
{
    char rest[16384];
    gint64 deadline = g_get_monotonic_time() + HTTP_LINGER_MS * G_GINT64_CONSTANT(1000);
    struct http_transport *transport = &connection->transport;
    if (transport->tls)
        SSL_shutdown(transport->tls);
    shutdown(transport->fd, SHUT_WR);
    for (;;) {
        gint64 left = (deadline - g_get_monotonic_time()) / 1000;
        struct pollfd poll_fd = { .fd = transport->fd, .events = POLLIN };
        if (left <= 0 || poll(&poll_fd, 1, (int)left) <= 0 || recv(transport->fd, rest, sizeof rest, MSG_DONTWAIT) <= 0)
            return;
    }
}

void http_connection_serve(struct http_server *server, int fd, bool tls)
{
    struct http_connection *connection = g_new0(struct http_connection, 1);
    connection->server = server;
    connection->transport.fd = fd;
    connection->transport.passed = -1;
    connection->hijack_pair = -1;
    connection->parser = http_parser_state_new();
    g_mutex_lock(&server->lock);
    g_hash_table_add(server->connections, connection);
    g_mutex_unlock(&server->lock);

    if (!tls || http_transport_accept_tls(&connection->transport, server->tls, HTTP_HEAD_TIMEOUT_MS))
        while (serve_request(connection))
            ;

    if (connection->hijacked && connection->hijack_pair >= 0)
        http_transport_pump(&connection->transport, connection->hijack_pair, connection->input + connection->input_at,
                            connection->input_end - connection->input_at);
    else if (!connection->hijacked)
        linger(connection);
    fd_close(connection->hijack_pair);

    g_mutex_lock(&server->lock);
    g_hash_table_remove(server->connections, connection);
    g_mutex_unlock(&server->lock);
    if (connection->transport.tls)
        SSL_free(connection->transport.tls);
    fd_close(connection->transport.passed);
    fd_close(connection->transport.fd);
    http_parser_state_free(connection->parser);
    g_free(connection);
}
