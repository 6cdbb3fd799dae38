/* Requests from bytes: the only file that knows the parser library. The library finds the pieces and the body's framing; what a
 * server must refuse beyond it (conflicting lengths, codings other than chunked, sizes) is refused here. */
#include "api/http.h"

#include <http_parser.h>
#include <string.h>

struct http_parser_state {
    http_parser parser;
    struct http_request *request;
    GString *name, *value; /* the header being read */
    bool in_value;
    bool too_large, head_done, message_done, after_cr;
    char *body; /* where decoded bytes go: start of the caller's buffer */
    gsize body_length;
};

static void pair_clear(gpointer data)
{
    struct http_pair *pair = data;
    g_free(pair->name);
    g_free(pair->value);
}

static struct http_request *request_new(void)
{
    struct http_request *request = g_new0(struct http_request, 1);
    request->query = g_array_new(FALSE, FALSE, sizeof(struct http_pair));
    request->headers = g_array_new(FALSE, FALSE, sizeof(struct http_pair));
    g_array_set_clear_func(request->query, pair_clear);
    g_array_set_clear_func(request->headers, pair_clear);
    return request;
}

void http_request_free(struct http_request *request)
{
    if (!request)
        return;
    g_free(request->method);
    g_free(request->target);
    g_free(request->path);
    g_array_unref(request->query);
    g_array_unref(request->headers);
    g_free(request);
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    for (guint i = 0; i < request->headers->len; i++) {
        const struct http_pair *pair = &g_array_index(request->headers, struct http_pair, i);
        if (g_ascii_strcasecmp(pair->name, name) == 0)
            return pair->value;
    }
    return NULL;
}

const char *http_request_query(const struct http_request *request, const char *name)
{
    for (guint i = 0; i < request->query->len; i++) {
        const struct http_pair *pair = &g_array_index(request->query, struct http_pair, i);
        if (strcmp(pair->name, name) == 0)
            return pair->value;
    }
    return NULL;
}

const char **http_request_query_all(const struct http_request *request, const char *name)
{
    GPtrArray *values = g_ptr_array_new();
    for (guint i = 0; i < request->query->len; i++) {
        const struct http_pair *pair = &g_array_index(request->query, struct http_pair, i);
        if (strcmp(pair->name, name) == 0)
            g_ptr_array_add(values, pair->value);
    }
    g_ptr_array_add(values, NULL);
    return (const char **)g_ptr_array_free(values, FALSE);
}

/* ---- the target ---- */

/* Percent-decoding; NULL for a broken escape or a NUL byte, which no name of ours has. */
static char *decode(const char *text, gsize length, bool plus_is_blank)
{
    g_autoptr(GString) out = g_string_sized_new(length);
    for (gsize i = 0; i < length; i++) {
        char c = text[i];
        if (c == '%') {
            if (i + 2 >= length || !g_ascii_isxdigit(text[i + 1]) || !g_ascii_isxdigit(text[i + 2]))
                return NULL;
            c = (char)(g_ascii_xdigit_value(text[i + 1]) << 4 | g_ascii_xdigit_value(text[i + 2]));
            i += 2;
        } else if (c == '+' && plus_is_blank) {
            c = ' ';
        }
        if (c == '\0')
            return NULL;
        g_string_append_c(out, c);
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static bool add_query(struct http_request *request, const char *text, gsize length)
{
    if (length == 0)
        return true;
    const char *equals = memchr(text, '=', length);
    gsize name_length = equals ? (gsize)(equals - text) : length;
    g_autofree char *name = decode(text, name_length, true);
    g_autofree char *value = equals ? decode(equals + 1, length - name_length - 1, true) : g_strdup("");
    if (!name || !value)
        return false;
    struct http_pair pair = { g_steal_pointer(&name), g_steal_pointer(&value) };
    g_array_append_val(request->query, pair);
    return true;
}

static bool split_target(struct http_request *request, GError **error)
{
    const char *target = request->target;
    /* The absolute form ("http://host/path"), that proxies send, names the same resource. */
    const char *authority = strstr(target, "://");
    if (target[0] != '/' && authority) {
        target = strchr(authority + 3, '/');
        if (!target)
            target = "/";
    }
    if (target[0] != '/')
        return error_set(error, TARE_ERROR_INVALID, "malformed HTTP request: invalid request target");
    gsize length = strcspn(target, "#"), path_length = strcspn(target, "?#");
    request->path = decode(target, path_length, false);
    if (!request->path)
        return error_set(error, TARE_ERROR_INVALID, "malformed HTTP request: invalid URL escape");
    for (gsize at = path_length + 1; at < length;) {
        gsize n = strcspn(target + at, "&#");
        if (!add_query(request, target + at, n))
            return error_set(error, TARE_ERROR_INVALID, "invalid URL escape in query string");
        at += n + 1;
    }
    return true;
}

/* ---- callbacks of the library ---- */

static int on_url(http_parser *parser, const char *at, size_t length)
{
    struct http_parser_state *state = parser->data;
    gsize before = state->value->len;
    if (before + length > HTTP_MAX_TARGET) {
        state->too_large = true;
        return 1;
    }
    g_string_append_len(state->value, at, (gssize)length);
    return 0;
}

static bool finish_header(struct http_parser_state *state)
{
    if (!state->in_value) {
        /* The first header's name begins: what was gathered until now is the target. */
        if (!state->request->target) {
            state->request->target = g_strndup(state->value->str, state->value->len);
            g_string_truncate(state->value, 0);
        }
        return true;
    }
    if (state->request->headers->len >= HTTP_MAX_HEADERS) {
        state->too_large = true;
        return false;
    }
    struct http_pair pair = { g_strndup(state->name->str, state->name->len), g_strndup(state->value->str, state->value->len) };
    g_strstrip(pair.value);
    g_array_append_val(state->request->headers, pair);
    g_string_truncate(state->name, 0);
    g_string_truncate(state->value, 0);
    state->in_value = false;
    return true;
}

static int on_header_field(http_parser *parser, const char *at, size_t length)
{
    struct http_parser_state *state = parser->data;
    if (state->head_done) /* trailers are allowed and mean nothing to us */
        return 0;
    if (!finish_header(state))
        return 1;
    g_string_append_len(state->name, at, (gssize)length);
    return 0;
}

static int on_header_value(http_parser *parser, const char *at, size_t length)
{
    struct http_parser_state *state = parser->data;
    if (state->head_done)
        return 0;
    state->in_value = true;
    g_string_append_len(state->value, at, (gssize)length);
    return 0;
}

static int on_headers_complete(http_parser *parser)
{
    struct http_parser_state *state = parser->data;
    if (!finish_header(state))
        return -1;
    state->head_done = true;
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t length)
{
    struct http_parser_state *state = parser->data;
    if (!state->body)
        return 1; /* a body within the head's bytes: a framing that the library sees and we do not */
    /* In place: decoded bytes never overtake the encoded ones. */
    memmove(state->body + state->body_length, at, length);
    state->body_length += length;
    return 0;
}

static int on_message_complete(http_parser *parser)
{
    struct http_parser_state *state = parser->data;
    state->message_done = true;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* ---- heads ---- */

static void begin_message(struct http_parser_state *state)
{
    http_parser_init(&state->parser, HTTP_REQUEST);
    state->parser.data = state;
    g_clear_pointer(&state->request, http_request_free);
    state->request = request_new();
    g_string_truncate(state->name, 0);
    g_string_truncate(state->value, 0);
    state->in_value = state->too_large = state->head_done = state->message_done = state->after_cr = false;
    state->body = NULL;
}

struct http_parser_state *http_parser_state_new(void)
{
    struct http_parser_state *state = g_new0(struct http_parser_state, 1);
    state->name = g_string_new(NULL);
    state->value = g_string_new(NULL);
    begin_message(state);
    return state;
}

void http_parser_state_free(struct http_parser_state *state)
{
    if (!state)
        return;
    http_request_free(state->request);
    g_string_free(state->name, TRUE);
    g_string_free(state->value, TRUE);
    g_free(state);
}

static bool set_parse_error(struct http_parser_state *state, GError **error)
{
    enum http_errno code = HTTP_PARSER_ERRNO(&state->parser);
    if (state->too_large || code == HPE_HEADER_OVERFLOW)
        return error_set(error, TARE_ERROR_TOO_LARGE, "HTTP request header is too large");
    return error_set(error, TARE_ERROR_INVALID, "malformed HTTP request: %s", http_errno_description(code));
}

static bool has_token(const char *list, const char *token)
{
    g_auto(GStrv) parts = g_strsplit(list ? list : "", ",", 16);
    for (char **part = parts; *part; part++)
        if (g_ascii_strcasecmp(g_strstrip(*part), token) == 0)
            return true;
    return false;
}

/* What two servers could read differently is refused, so that nothing in front of us can be made to see other requests than we
 * do. */
static bool check_framing(const struct http_request *request, GError **error)
{
    unsigned codings = 0, lengths = 0, hosts = 0;
    for (guint i = 0; i < request->headers->len; i++) {
        const struct http_pair *pair = &g_array_index(request->headers, struct http_pair, i);
        if (g_ascii_strcasecmp(pair->name, "Transfer-Encoding") == 0) {
            codings++;
            if (g_ascii_strcasecmp(pair->value, "chunked") != 0)
                return error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "unsupported transfer encoding: \"%s\"", pair->value);
        }
        lengths += g_ascii_strcasecmp(pair->name, "Content-Length") == 0;
        hosts += g_ascii_strcasecmp(pair->name, "Host") == 0;
    }
    if (codings > 1 || lengths > 1 || hosts > 1 || (codings && lengths))
        return error_set(error, TARE_ERROR_INVALID, "malformed HTTP request: conflicting headers");
    if (codings && request->minor == 0)
        return error_set(error, TARE_ERROR_INVALID, "malformed HTTP request: transfer encoding in HTTP/1.0");
    if (hosts == 0 && request->minor > 0)
        return error_set(error, TARE_ERROR_INVALID, "malformed HTTP request: missing required Host header");
    return true;
}

static bool complete_request(struct http_parser_state *state, GError **error)
{
    struct http_request *request = state->request;
    const http_parser *parser = &state->parser;
    if (!request->target) {
        request->target = g_strndup(state->value->str, state->value->len);
        g_string_truncate(state->value, 0);
    }
    if (parser->http_major != 1 || parser->http_minor > 1)
        return error_set(error, TARE_ERROR_INVALID, "malformed HTTP request: unsupported protocol version");
    request->method = g_strdup(http_method_str(parser->method));
    request->minor = parser->http_minor;
    request->chunked = (parser->flags & F_CHUNKED) != 0;
    request->has_body = request->chunked || ((parser->flags & F_CONTENTLENGTH) && parser->content_length > 0);
    request->content_length = request->has_body && !request->chunked ? parser->content_length : 0;
    const char *connection = http_request_header(request, "Connection");
    request->keep_alive = request->minor > 0 ? !has_token(connection, "close") : has_token(connection, "keep-alive");
    request->upgrade = http_request_header(request, "Upgrade") && has_token(connection, "upgrade");
    request->expect_continue = request->minor > 0 && has_token(http_request_header(request, "Expect"), "100-continue");
    if (parser->method == HTTP_CONNECT)
        return error_set(error, TARE_ERROR_INVALID, "malformed HTTP request: invalid method");
    return check_framing(request, error) && split_target(request, error);
}

/* The library, not built to be strict, takes any byte after a carriage return for the line's end: others would see another head
 * than we do. */
static bool check_line_ends(struct http_parser_state *state, const char *data, gsize length, GError **error)
{
    for (gsize i = 0; i < length; i++) {
        if (state->after_cr && data[i] != '\n')
            return error_set(error, TARE_ERROR_INVALID, "malformed HTTP request: invalid line end");
        state->after_cr = data[i] == '\r';
    }
    return true;
}

gssize http_parser_state_head(struct http_parser_state *state, const char *data, gsize length, struct http_request **ret_request,
                              GError **error)
{
    gsize eaten = 0;
    if (state->head_done)
        begin_message(state);
    /* Byte by byte up to the head's end would be slow; the library is stopped there instead: it gets whole lines. */
    while (eaten < length && !state->head_done) {
        const char *newline = memchr(data + eaten, '\n', length - eaten);
        gsize part = newline ? (gsize)(newline - data) - eaten + 1 : length - eaten;
        if (!check_line_ends(state, data + eaten, part, error))
            return -1;
        gsize n = http_parser_execute(&state->parser, &settings, data + eaten, part);
        enum http_errno code = HTTP_PARSER_ERRNO(&state->parser);
        if (state->too_large || (code != HPE_OK && code != HPE_PAUSED) || (n != part && !state->head_done)) {
            set_parse_error(state, error);
            return -1;
        }
        eaten += n;
    }
    if (!state->head_done)
        return (gssize)eaten;
    /* Where the message has no body the library is at its end now, and has been paused there. */
    struct http_request *request = state->request;
    bool has_body_by_library = !state->message_done;
    if (!complete_request(state, error))
        return -1;
    if (request->has_body != has_body_by_library) {
        error_set(error, TARE_ERROR_INVALID, "malformed HTTP request: unclear body");
        return -1;
    }
    *ret_request = g_steal_pointer(&state->request);
    return (gssize)eaten;
}

gssize http_parser_state_body(struct http_parser_state *state, char *data, gsize length, gsize *ret_body, bool *ret_done,
                              GError **error)
{
    g_assert(state->head_done);
    if (state->message_done) {
        *ret_body = 0;
        *ret_done = true;
        return 0;
    }
    state->body = data;
    state->body_length = 0;
    gsize n = http_parser_execute(&state->parser, &settings, data, length);
    enum http_errno code = HTTP_PARSER_ERRNO(&state->parser);
    if (code != HPE_OK && code != HPE_PAUSED) {
        set_parse_error(state, error);
        return -1;
    }
    *ret_body = state->body_length;
    *ret_done = state->message_done;
    return (gssize)n;
}
