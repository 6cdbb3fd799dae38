/* One request and its answer: body reading, the answer's framing, taking the connection over. */
#include "api/http-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

enum { GATHER_ROOM = 32768 };

/* ---- reading the body ---- */

static gssize fail_body(struct http_exchange *exchange, GError **error)
{
    g_propagate_error(error, g_error_copy(exchange->body_error));
    return -1;
}

static void mark_body_done(struct http_exchange *exchange)
{
    exchange->body_done = true;
    if (exchange->watch)
        http_watch_body_done(exchange->watch);
}

/* Bytes as they came: what was received before first, else from the connection. 0 and an error at a premature end. */
static gssize take_input(struct http_exchange *exchange, char *buffer, gsize length)
{
    struct http_connection *connection = exchange->connection;
    gsize waiting = connection->input_end - connection->input_at;
    if (waiting > 0) {
        gsize n = MIN(length, waiting);
        memcpy(buffer, connection->input + connection->input_at, n);
        connection->input_at += n;
        return (gssize)n;
    }
    /* What lies beyond the body must fit back into the input buffer. */
    gssize n = http_transport_read(&connection->transport, buffer, MIN(length, HTTP_INPUT_ROOM), exchange->read_timeout_ms);
    if (n == 0)
        error_set(&exchange->body_error, TARE_ERROR_INVALID, "unexpected EOF");
    else if (n < 0)
        error_set_errno(&exchange->body_error, errno, "read request body");
    return n;
}

/* Bytes beyond the body belong to the next request. */
static void return_input(struct http_connection *connection, const char *data, gsize length)
{
    if (length == 0)
        return;
    if (connection->input_at >= length && connection->input_at > 0) {
        connection->input_at -= length;
    } else {
        memmove(connection->input + length, connection->input + connection->input_at,
                connection->input_end - connection->input_at);
        connection->input_end = connection->input_end - connection->input_at + length;
        connection->input_at = 0;
    }
    memcpy(connection->input + connection->input_at, data, length);
}

static gssize read_body(struct byte_source *source, void *buffer, gsize length, GError **error)
{
    struct http_exchange *exchange = ((struct http_body *)source)->exchange;
    if (exchange->body_error)
        return fail_body(exchange, error);
    if (exchange->request->expect_continue && !exchange->continue_sent && !exchange->body_done && !exchange->begun) {
        static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
        exchange->continue_sent = true;
        http_transport_write(&exchange->connection->transport, text, sizeof text - 1);
    }
    while (!exchange->body_done && length > 0) {
        gsize decoded = 0;
        bool done = false;
        gssize n = take_input(exchange, buffer, length);
        if (n <= 0)
            return fail_body(exchange, error);
        gssize eaten =
            http_parser_state_body(exchange->connection->parser, buffer, (gsize)n, &decoded, &done, &exchange->body_error);
        if (eaten < 0) {
            exchange->connection->broken = true;
            return fail_body(exchange, error);
        }
        return_input(exchange->connection, (char *)buffer + eaten, (gsize)(n - eaten));
        if (done)
            mark_body_done(exchange);
        if (decoded > 0)
            return (gssize)decoded;
    }
    return 0;
}

bool http_exchange_read_body(struct http_exchange *exchange, gsize max, char **ret, gsize *ret_length, GError **error)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    if (exchange->request->content_length > max)
        return error_set(error, TARE_ERROR_TOO_LARGE, "request body is larger than %zu bytes", max);
    char chunk[8192];
    gssize n;
    while ((n = read_body(&exchange->body.source, chunk, sizeof chunk, error)) > 0) {
        if (body->len + (gsize)n > max)
            return error_set(error, TARE_ERROR_TOO_LARGE, "request body is larger than %zu bytes", max);
        g_byte_array_append(body, (guint8 *)chunk, (guint)n);
    }
    if (n < 0)
        return false;
    *ret_length = body->len;
    g_byte_array_append(body, (const guint8 *)"", 1);
    *ret = (char *)g_byte_array_free(g_steal_pointer(&body), FALSE);
    return true;
}

/* ---- writing the answer ---- */

static bool raw_write(struct http_exchange *exchange, const void *data, gsize length, GError **error)
{
    struct http_connection *connection = exchange->connection;
    if (!connection->broken && http_transport_write(&connection->transport, data, length) == 0)
        return true;
    connection->broken = true;
    cancel_trigger(exchange->cancel);
    return error_set(error, TARE_ERROR_CANCELLED, "the client went away");
}

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {
        { 101, "UPGRADED" },
        { 200, "OK" },
        { 201, "Created" },
        { 202, "Accepted" },
        { 204, "No Content" },
        { 304, "Not Modified" },
        { 400, "Bad Request" },
        { 401, "Unauthorized" },
        { 403, "Forbidden" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 408, "Request Timeout" },
        { 409, "Conflict" },
        { 413, "Request Entity Too Large" },
        { 431, "Request Header Fields Too Large" },
        { 499, "Client Closed Request" },
        { 500, "Internal Server Error" },
        { 501, "Not Implemented" },
        { 503, "Service Unavailable" },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(reasons); i++)
        if (reasons[i].status == status)
            return reasons[i].text;
    return "Unknown";
}

static void append_date(GString *head)
{
    static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    g_string_append_printf(head, "Date: %s, %02d %s %d %02d:%02d:%02d GMT\r\n", days[utc.tm_wday], utc.tm_mday,
                           months[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

static GString *new_head(struct http_exchange *exchange, int status, const char *content_type)
{
    GString *head = g_string_sized_new(512);
    g_string_append_printf(head, "HTTP/1.1 %d %s\r\n", status, reason(status));
    g_string_append(head, exchange->connection->server->headers->str);
    g_string_append(head, exchange->headers->str);
    if (content_type)
        g_string_append_printf(head, "Content-Type: %s\r\n", content_type);
    append_date(head);
    exchange->begun = true;
    exchange->status = status;
    exchange->without_content = status == 204 || status == 304 || strcmp(exchange->request->method, "HEAD") == 0;
    return head;
}

/* An answer may come before the upload's end. Where much is left the connection cannot be used again, and the client must know
 * before it sends more. */
static void append_connection(struct http_exchange *exchange, GString *head)
{
    bool unread_upload = !exchange->body_done && exchange->request->expect_continue && !exchange->continue_sent;
    exchange->keep_alive =
        exchange->request->keep_alive && !unread_upload && !exchange->body_error && !exchange->connection->server->stopping;
    if (!exchange->keep_alive)
        g_string_append(head, "Connection: close\r\n");
    else if (exchange->request->minor == 0)
        g_string_append(head, "Connection: keep-alive\r\n");
}

void http_exchange_header(struct http_exchange *exchange, const char *name, const char *value)
{
    /* A header cannot be split by what a container or an image brought. */
    g_autofree char *clean = g_strdelimit(g_strdup(value), "\r\n", ' ');
    g_string_append_printf(exchange->headers, "%s: %s\r\n", name, clean);
}

void http_exchange_respond(struct http_exchange *exchange, int status, const char *content_type, const void *data, gsize length)
{
    g_return_if_fail(!exchange->begun);
    g_autoptr(GString) head = new_head(exchange, status, content_type);
    append_connection(exchange, head);
    if (status != 204 && status != 304)
        g_string_append_printf(head, "Content-Length: %zu\r\n", length);
    g_string_append(head, "\r\n");
    if (!exchange->without_content)
        g_string_append_len(head, data, (gssize)length);
    exchange->finished = true;
    raw_write(exchange, head->str, head->len, NULL);
}

void http_exchange_respond_json(struct http_exchange *exchange, int status, const json_t *value)
{
    /* Go's encoder for API answers leaves <, > and & as they are. */
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    g_autoptr(GString) body = g_string_new(text ? text : "null");
    free(text);
    g_string_append_c(body, '\n');
    http_exchange_respond(exchange, status, "application/json", body->str, body->len);
}

void http_exchange_respond_empty(struct http_exchange *exchange, int status)
{
    http_exchange_respond(exchange, status, NULL, "", 0);
}

void http_exchange_respond_error(struct http_exchange *exchange, const GError *error)
{
    int status = error_http_status(error);
    if (status == 304) {
        http_exchange_respond_empty(exchange, status);
        return;
    }
    json_t *body = json_object();
    json_object_set_new(body, "message", json_string_lossy(error ? error->message : "unknown error"));
    http_exchange_respond_json(exchange, status, body);
    json_decref(body);
}

bool http_exchange_begin(struct http_exchange *exchange, int status, const char *content_type, bool buffered, GError **error)
{
    g_assert(!exchange->begun);
    g_autoptr(GString) head = new_head(exchange, status, content_type);
    exchange->chunked = exchange->request->minor > 0;
    if (!exchange->chunked)
        exchange->request->keep_alive = false;
    append_connection(exchange, head);
    g_string_append(head, exchange->chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n");
    exchange->buffered = buffered;
    return raw_write(exchange, head->str, head->len, error);
}

/* A chunk of short content goes out in one segment; long content is not copied. */
static bool write_content(struct http_exchange *exchange, const void *data, gsize length, GError **error)
{
    if (length == 0 || exchange->without_content)
        return true;
    if (!exchange->chunked)
        return raw_write(exchange, data, length, error);
    char frame[4096];
    int size = g_snprintf(frame, sizeof frame, "%zx\r\n", length);
    if (length + (gsize)size + 2 <= sizeof frame) {
        memcpy(frame + size, data, length);
        memcpy(frame + size + length, "\r\n", 2);
        return raw_write(exchange, frame, (gsize)size + length + 2, error);
    }
    return raw_write(exchange, frame, (gsize)size, error) && raw_write(exchange, data, length, error) &&
           raw_write(exchange, "\r\n", 2, error);
}

bool http_exchange_flush(struct http_exchange *exchange, GError **error)
{
    bool ok = write_content(exchange, exchange->gathered->data, exchange->gathered->len, error);
    g_byte_array_set_size(exchange->gathered, 0);
    return ok;
}

static bool sink_content(struct byte_sink *sink, const void *data, gsize length, GError **error)
{
    struct http_exchange *exchange = ((struct http_sink *)sink)->exchange;
    g_assert(exchange->begun && !exchange->finished);
    if (exchange->buffered && exchange->gathered->len + length <= GATHER_ROOM) {
        g_byte_array_append(exchange->gathered, data, (guint)length);
        return true;
    }
    return http_exchange_flush(exchange, error) && write_content(exchange, data, length, error);
}

void http_exchange_abort(struct http_exchange *exchange)
{
    exchange->connection->broken = true;
}

/* ---- taking over ---- */

bool http_exchange_take_socket(struct http_exchange *exchange, int *ret_fd, GError **error)
{
    struct http_connection *connection = exchange->connection;
    int pair[2];
    /* Whatever of the body was not read belongs to no stream. */
    char rest[4096];
    gssize n;
    while ((n = read_body(&exchange->body.source, rest, sizeof rest, error)) > 0)
        ;
    if (n < 0)
        return false;
    if (!connection->transport.tls && connection->input_at == connection->input_end) {
        int copy = fcntl(connection->transport.fd, F_DUPFD_CLOEXEC, 3);
        if (copy < 0)
            return error_set_errno(error, errno, "duplicate connection");
        *ret_fd = copy;
        return true;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_set_errno(error, errno, "socketpair");
    fd_close(connection->hijack_pair); /* of an earlier request that came to nothing */
    connection->hijack_pair = pair[0];
    *ret_fd = pair[1];
    return true;
}

bool http_exchange_upgrade(struct http_exchange *exchange, const char *content_type, GError **error)
{
    struct http_connection *connection = exchange->connection;
    bool upgrade = exchange->request->upgrade;
    g_autoptr(GString) head = new_head(exchange, upgrade ? 101 : 200, content_type);
    if (upgrade)
        g_string_append(head, "Connection: Upgrade\r\nUpgrade: tcp\r\n");
    g_string_append(head, "\r\n");
    exchange->finished = true;
    /* From here on the client's half-close means the end of its standard input, and the session outlives this server. */
    http_watcher_remove(connection->server->watcher, g_steal_pointer(&exchange->watch));
    g_mutex_lock(&connection->server->lock);
    connection->hijacked = true;
    g_mutex_unlock(&connection->server->lock);
    return raw_write(exchange, head->str, head->len, error);
}

/* ---- life ---- */

struct http_exchange *http_exchange_new(struct http_connection *connection, struct http_request *request)
{
    struct http_exchange *exchange = g_new0(struct http_exchange, 1);
    exchange->connection = connection;
    exchange->request = request;
    exchange->cancel = cancel_new();
    exchange->read_timeout_ms = -1;
    exchange->body = (struct http_body){ .source.read = read_body, .exchange = exchange };
    exchange->sink = (struct http_sink){ .sink.write = sink_content, .exchange = exchange };
    exchange->headers = g_string_new(NULL);
    exchange->gathered = g_byte_array_new();
    exchange->body_done = !request->has_body;
    exchange->watch =
        http_watcher_add(connection->server->watcher, connection->transport.fd, exchange->cancel, exchange->body_done);
    return exchange;
}

void http_exchange_free(struct http_exchange *exchange)
{
    http_watcher_remove(exchange->connection->server->watcher, exchange->watch);
    cancel_unref(exchange->cancel);
    g_clear_error(&exchange->body_error);
    g_string_free(exchange->headers, TRUE);
    g_byte_array_unref(exchange->gathered);
    http_request_free(exchange->request);
    g_free(exchange);
}

/* A short rest of an upload is read away so that the connection can go on. */
static bool skip_body(struct http_exchange *exchange)
{
    enum { SHORT_REST = 262144 };
    if (exchange->body_done)
        return true;
    if (!exchange->keep_alive || exchange->body_error ||
        (!exchange->request->chunked && exchange->request->content_length > SHORT_REST))
        return false;
    exchange->read_timeout_ms = HTTP_LINGER_MS; /* a client that waits for us to end must not hold the thread */
    char rest[8192];
    gssize n = 1;
    for (gsize total = 0; total <= SHORT_REST && n > 0; total += (gsize)n) {
        n = read_body(&exchange->body.source, rest, sizeof rest, NULL);
        if (n < 0)
            return false;
    }
    return exchange->body_done;
}

bool http_exchange_finish(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    if (connection->hijacked || connection->broken)
        return false;
    if (!exchange->begun)
        http_exchange_respond(exchange, 500, "application/json", "{\"message\":\"no answer\"}\n", 24);
    if (!exchange->finished) {
        exchange->finished = true;
        if (!http_exchange_flush(exchange, NULL))
            return false;
        if (exchange->chunked && !exchange->without_content && !raw_write(exchange, "0\r\n\r\n", 5, NULL))
            return false;
    }
    return !connection->broken && exchange->keep_alive && skip_body(exchange);
}

const struct http_request *http_exchange_request(const struct http_exchange *exchange)
{
    return exchange->request;
}

struct byte_source *http_exchange_body(struct http_exchange *exchange)
{
    return &exchange->body.source;
}

struct byte_sink *http_exchange_sink(struct http_exchange *exchange)
{
    return &exchange->sink.sink;
}

struct cancel *http_exchange_cancel(struct http_exchange *exchange)
{
    return exchange->cancel;
}

guint64 http_exchange_number(const struct http_exchange *exchange)
{
    return exchange->number;
}

bool http_exchange_has_begun(const struct http_exchange *exchange)
{
    return exchange->begun;
}

int http_exchange_take_file(struct http_exchange *exchange, const char *use)
{
    const char *wanted = http_request_header(exchange->request, "X-Tare-File");
    int *passed = &exchange->connection->transport.passed;
    struct stat st;
    if (!wanted || strcmp(wanted, use) != 0 || *passed < 0 || fstat(*passed, &st) < 0 || !S_ISREG(st.st_mode))
        return -1;
    int access = fcntl(*passed, F_GETFL) & O_ACCMODE;
    if (access != O_RDWR && access != (strcmp(use, "output") == 0 ? O_WRONLY : O_RDONLY))
        return -1;
    return fd_steal(passed);
}
