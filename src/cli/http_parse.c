/* Heads and bodies of HTTP/1.1 responses out of bytes: strict, bounded, without input or output. */
#include "cli/cli-internal.h"

#include "base/parse.h"

#include <string.h>

void http_head_clear(struct http_head *head)
{
    g_clear_pointer(&head->reason, g_free);
    g_clear_pointer(&head->headers, g_hash_table_unref);
}

/* Length of the head with its empty line, or 0. */
static gsize head_length(const char *data, gsize length)
{
    for (gsize i = 0; i + 1 < length; i++)
        if (data[i] == '\n' && (data[i + 1] == '\n' || (data[i + 1] == '\r' && i + 2 < length && data[i + 2] == '\n')))
            return i + (data[i + 1] == '\n' ? 2 : 3);
    return 0;
}

static bool parse_status_line(const char *line, struct http_head *head, int *ret_minor, GError **error)
{
    guint64 status;
    bool shaped = line && g_str_has_prefix(line, "HTTP/1.") && g_ascii_isdigit(line[7]) && line[8] == ' ' && strlen(line) >= 12;
    g_autofree char *digits = shaped ? g_strndup(line + 9, 3) : NULL;
    if (!shaped || !parse_uint(digits, 999, &status) || status < 100 || (line[12] && line[12] != ' '))
        return error_set(error, TARE_ERROR_INVALID, "malformed HTTP response \"%.60s\"", line);
    *ret_minor = line[7] - '0';
    head->status = (int)status;
    head->reason = g_strdup(line[12] ? line + 13 : "");
    return true;
}

static bool parse_header(char *line, GHashTable *headers, GError **error)
{
    char *colon = strchr(line, ':');
    if (!colon || colon == line || strcspn(line, " \t") < (size_t)(colon - line))
        return error_set(error, TARE_ERROR_INVALID, "malformed HTTP header \"%.60s\"", line);
    *colon = '\0';
    char *name = g_ascii_strdown(line, -1);
    const char *old = g_hash_table_lookup(headers, name);
    g_strstrip(colon + 1);
    bool clash = old && strcmp(name, "content-length") == 0 && strcmp(old, colon + 1) != 0;
    g_hash_table_insert(headers, name, g_strdup(colon + 1));
    return !clash || error_set(error, TARE_ERROR_INVALID, "HTTP response with two lengths");
}

static bool header_has(const struct http_head *head, const char *name, const char *token)
{
    const char *value = g_hash_table_lookup(head->headers, name);
    g_auto(GStrv) tokens = g_strsplit(value ? value : "", ",", -1);
    for (char **t = tokens; *t; t++)
        if (g_ascii_strcasecmp(g_strstrip(*t), token) == 0)
            return true;
    return false;
}

static bool decide_framing(struct http_head *head, int minor, bool no_body, GError **error)
{
    const char *length = g_hash_table_lookup(head->headers, "content-length");
    const char *encoding = g_hash_table_lookup(head->headers, "transfer-encoding");
    head->keep_alive = minor >= 1 ? !header_has(head, "connection", "close") : header_has(head, "connection", "keep-alive");
    if (no_body || head->status / 100 == 1 || head->status == 204 || head->status == 304) {
        head->framing = HTTP_NO_BODY;
    } else if (encoding) {
        if (g_ascii_strcasecmp(encoding, "chunked") != 0)
            return error_set(error, TARE_ERROR_INVALID, "unsupported transfer encoding %.60s", encoding);
        head->framing = HTTP_CHUNKED;
    } else if (length) {
        if (!parse_uint(length, G_MAXINT64, &head->length))
            return error_set(error, TARE_ERROR_INVALID, "bad Content-Length \"%.60s\"", length);
        head->framing = HTTP_LENGTH;
    } else {
        head->framing = HTTP_UNTIL_CLOSE;
        head->keep_alive = false;
    }
    return true;
}

static bool parse_lines(char **lines, bool no_body, struct http_head *head, GError **error)
{
    int minor = 1;
    if (!parse_status_line(lines[0], head, &minor, error))
        return false;
    head->headers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    guint n = 0;
    for (char **line = lines + 1; *line && **line; line++) {
        if (++n > HTTP_HEADERS_MAX)
            return error_set(error, TARE_ERROR_TOO_LARGE, "HTTP response with too many headers");
        if (!parse_header(*line, head->headers, error))
            return false;
    }
    return decide_framing(head, minor, no_body, error);
}

gssize http_head_parse(const char *data, gsize length, bool no_body, struct http_head *ret, GError **error)
{
    gsize taken = head_length(data, MIN(length, HTTP_HEAD_MAX));
    if (taken == 0) {
        if (length < HTTP_HEAD_MAX)
            return 0;
        error_set(error, TARE_ERROR_TOO_LARGE, "head of the HTTP response is too large");
        return -1;
    }
    struct http_head head = { 0 };
    g_autofree char *text = g_strndup(data, taken);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++)
        g_strchomp(*line);
    if (memchr(data, '\0', taken) ? !error_set(error, TARE_ERROR_INVALID, "malformed HTTP response")
                                  : !parse_lines(lines, no_body, &head, error)) {
        http_head_clear(&head);
        return -1;
    }
    *ret = head;
    return (gssize)taken;
}

enum chunk_state { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_AFTER_DATA, CHUNK_TRAILER, CHUNK_TRAILER_LINE };

void http_body_init(struct http_body *body, const struct http_head *head)
{
    *body = (struct http_body){ .framing = head->framing,
                                .left = head->framing == HTTP_LENGTH ? head->length : 0,
                                .state = CHUNK_SIZE };
    body->done = head->framing == HTTP_NO_BODY || (head->framing == HTTP_LENGTH && head->length == 0);
}

/* One byte of what stands around chunks. */
static bool chunk_byte(struct http_body *body, char c, GError **error)
{
    switch (body->state) {
    case CHUNK_SIZE:
        if (g_ascii_isxdigit(c)) {
            if (body->left >> 59)
                return error_set(error, TARE_ERROR_TOO_LARGE, "HTTP chunk is too large");
            body->left = body->left * 16 + (guint64)g_ascii_xdigit_value(c);
            return true;
        }
        if (c == '\n')
            body->state = body->left ? CHUNK_DATA : CHUNK_TRAILER;
        else if (c == ';' || c == ' ' || c == '\r')
            body->state = CHUNK_EXTENSION;
        else
            return error_set(error, TARE_ERROR_INVALID, "malformed chunk in HTTP response");
        return true;
    case CHUNK_EXTENSION:
        if (c == '\n')
            body->state = body->left ? CHUNK_DATA : CHUNK_TRAILER;
        return true;
    case CHUNK_AFTER_DATA:
        if (c == '\n')
            body->state = CHUNK_SIZE;
        else if (c != '\r')
            return error_set(error, TARE_ERROR_INVALID, "malformed chunk in HTTP response");
        return true;
    case CHUNK_TRAILER:
        if (c == '\n')
            body->done = true;
        else if (c != '\r')
            body->state = CHUNK_TRAILER_LINE;
        return true;
    default:
        if (c == '\n')
            body->state = CHUNK_TRAILER;
        return true;
    }
}

bool http_body_take(struct http_body *body, const char *data, gsize length, gsize *ret_taken, const char **ret_content,
                    gsize *ret_length, GError **error)
{
    *ret_taken = *ret_length = 0;
    *ret_content = data;
    if (body->done)
        return true;
    if (body->framing == HTTP_UNTIL_CLOSE) {
        *ret_taken = *ret_length = length;
        return true;
    }
    gsize at = 0;
    while (body->framing == HTTP_CHUNKED && at < length && body->state != CHUNK_DATA && !body->done)
        if (!chunk_byte(body, data[at++], error))
            return false;
    if (!body->done && (body->framing == HTTP_LENGTH || body->state == CHUNK_DATA)) {
        gsize n = (gsize)MIN(body->left, length - at);
        *ret_content = data + at;
        *ret_length = n;
        at += n;
        body->left -= n;
        if (body->left == 0 && body->framing == HTTP_LENGTH)
            body->done = true;
        else if (body->left == 0)
            body->state = CHUNK_AFTER_DATA;
    }
    *ret_taken = at;
    return true;
}
