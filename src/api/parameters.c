/* Parameters and bodies in, JSON out, as moby reads and writes them. */
#include "api/api-internal.h"

#include "base/parse.h"
#include "base/timestamp.h"

#include <string.h>

const char *api_query(const struct api_request *request, const char *name)
{
    const char *value = http_request_query(http_exchange_request(request->http), name);
    return value && *value ? value : NULL;
}

bool api_query_bool(const struct api_request *request, const char *name)
{
    static const char *const no[] = { "", "0", "no", "false", "none", NULL };
    const char *value = api_query(request, name);
    g_autofree char *trimmed = value ? g_strstrip(g_ascii_strdown(value, -1)) : NULL;
    return trimmed && !g_strv_contains(no, trimmed);
}

bool api_query_bool_default(const struct api_request *request, const char *name, bool fallback)
{
    return http_request_query(http_exchange_request(request->http), name) ? api_query_bool(request, name) : fallback;
}

bool api_query_int(const struct api_request *request, const char *name, gint64 min, gint64 max, gint64 fallback, gint64 *ret,
                   GError **error)
{
    const char *value = api_query(request, name);
    if (!value)
        return *ret = fallback, true;
    return parse_int(value, min, max, ret) ||
           error_set(error, TARE_ERROR_INVALID,
                     "invalid value for parameter \"%s\": strconv.ParseInt: parsing \"%s\": invalid syntax", name, value);
}

bool api_query_filters(const struct api_request *request, json_t **ret, GError **error)
{
    const char *text = api_query(request, "filters");
    *ret = NULL;
    if (!text)
        return true;
    g_autoptr(json_t) filters = json_parse(text, strlen(text), HTTP_MAX_TARGET, "filters", NULL);
    if (!filters || !json_is_object(filters))
        return error_set(error, TARE_ERROR_INVALID, "invalid filter");
    const char *key;
    json_t *values;
    json_object_foreach(filters, key, values) if (!json_is_object(values) && !json_is_array(values)) return error_set(
        error, TARE_ERROR_INVALID, "invalid filter");
    *ret = json_object_size(filters) ? g_steal_pointer(&filters) : NULL;
    return true;
}

/* "1136073600" or "1136073600.000000001". */
static bool parse_seconds(const char *text, gint64 *ret_ns)
{
    g_auto(GStrv) parts = g_strsplit(text, ".", 2);
    gint64 seconds, fraction = 0;
    if (!parts[0] || !parse_int(parts[0], -G_MAXINT64 / 1000000000, G_MAXINT64 / 1000000000 - 1, &seconds))
        return false;
    if (parts[1] && *parts[1]) {
        size_t digits = strlen(parts[1]);
        if (digits > 9 || !parse_int(parts[1], 0, 999999999, &fraction))
            return false;
        for (; digits < 9; digits++)
            fraction *= 10;
    }
    *ret_ns = seconds * 1000000000 + fraction;
    return true;
}

bool api_query_time(const struct api_request *request, const char *name, gint64 *ret_ns, GError **error)
{
    const char *text = api_query(request, name);
    *ret_ns = 0;
    if (!text || parse_seconds(text, ret_ns) || timestamp_parse_given(text, timestamp_now(), ret_ns))
        return true;
    return error_set(error, TARE_ERROR_INVALID, "invalid value for \"%s\": value is not a valid time: %s", name, text);
}

char *api_query_reference(const struct api_request *request)
{
    const char *repo = api_query(request, "repo"), *tag = api_query(request, "tag");
    if (!repo)
        return NULL;
    if (!tag)
        return g_strdup(repo);
    return g_strconcat(repo, strchr(tag, ':') ? "@" : ":", tag, NULL);
}

static bool check_json_type(const struct http_request *http, GError **error)
{
    const char *type = http_request_header(http, "Content-Type");
    if (!type && !http->has_body)
        return true;
    g_autofree char *media = g_strndup(type ? type : "", strcspn(type ? type : "", ";"));
    g_strstrip(media);
    if (!*media)
        return error_set(error, TARE_ERROR_INVALID, "malformed Content-Type header (%s): mime: no media type", type ? type : "");
    return g_ascii_strcasecmp(media, "application/json") == 0 ||
           error_set(error, TARE_ERROR_INVALID, "unsupported Content-Type header (%s): must be 'application/json'", type);
}

bool api_read_json(struct api_request *request, json_t **ret, GError **error)
{
    const struct http_request *http = http_exchange_request(request->http);
    g_autofree char *text = NULL;
    gsize length = 0;
    *ret = NULL;
    if (!http->has_body)
        return true;
    if (!check_json_type(http, error) || !http_exchange_read_body(request->http, HTTP_MAX_JSON, &text, &length, error))
        return false;
    if (strspn(text, " \t\r\n") == length)
        return http->chunked || error_set(error, TARE_ERROR_INVALID, "invalid JSON: got EOF while reading request body");
    g_autoptr(json_t) value = json_parse(text, length, HTTP_MAX_JSON, "invalid JSON", error);
    if (!value)
        return false;
    if (json_is_null(value))
        return true;
    if (!json_is_object(value))
        return error_set(error, TARE_ERROR_INVALID, "invalid JSON: an object was expected");
    *ret = g_steal_pointer(&value);
    return true;
}

bool api_respond_json(struct api_request *request, int status, json_t *value)
{
    http_exchange_respond_json(request->http, status, value);
    json_decref(value);
    return true;
}

bool api_respond_text(struct api_request *request, GString *text)
{
    g_string_append_c(text, '\n');
    http_exchange_respond(request->http, 200, "application/json", text->str, text->len);
    return true;
}

bool api_respond_empty(struct api_request *request, int status)
{
    http_exchange_respond_empty(request->http, status);
    return true;
}

bool api_stream_begin(struct api_stream *stream, GError **error)
{
    struct http_exchange *http = stream->request->http;
    return http_exchange_has_begun(http) || http_exchange_begin(http, 200, stream->content_type, stream->buffered, error);
}

static bool write_stream(struct byte_sink *sink, const void *data, gsize length, GError **error)
{
    struct api_stream *stream = (struct api_stream *)sink;
    return api_stream_begin(stream, error) && sink_write(http_exchange_sink(stream->request->http), data, length, error);
}

void api_stream_init(struct api_stream *stream, struct api_request *request, const char *content_type, bool buffered)
{
    *stream = (struct api_stream){ { write_stream }, request, content_type, buffered };
}

static bool send_line(struct api_request *request, json_t *message, const char *end, GError **error)
{
    struct api_stream stream;
    g_autofree char *text = json_text(message);
    g_autofree char *line = g_strconcat(text, end, NULL);
    json_decref(message);
    api_stream_init(&stream, request, "application/json", false);
    return write_stream(&stream.sink, line, strlen(line), error);
}

bool api_send_message(struct api_request *request, json_t *message, GError **error)
{
    return send_line(request, message, "\r\n", error);
}

bool api_send_line(struct api_request *request, json_t *message, GError **error)
{
    return send_line(request, message, "\n", error);
}

bool api_finish_messages(struct api_request *request, bool ok, GError **error)
{
    if (ok)
        return http_exchange_has_begun(request->http) ||
               http_exchange_begin(request->http, 200, "application/json", false, error);
    if (!http_exchange_has_begun(request->http))
        return false;
    g_autoptr(GError) failure = NULL;
    if (error)
        g_propagate_error(&failure, g_steal_pointer(error));
    return api_send_error(request, failure);
}

bool api_send_error(struct api_request *request, const GError *error)
{
    g_assert(error);
    json_t *message = json_object(), *detail = json_object();
    json_object_set_new(detail, "message", json_string_lossy(error->message));
    json_object_set_new(message, "errorDetail", detail);
    json_object_set_new(message, "error", json_string_lossy(error->message));
    return api_send_message(request, message, NULL);
}

bool api_query_platform(const struct api_request *request, const char *name, unsigned min_version, struct platform *ret,
                        bool *ret_given, GError **error)
{
    g_autofree const char **all = http_request_query_all(http_exchange_request(request->http), name);
    *ret_given = false;
    if (request->version < min_version || !all || !all[0] || !*all[0])
        return true;
    if (all[1])
        return error_set(error, TARE_ERROR_INVALID, "multiple platform parameters are not supported in this API version");
    g_autoptr(json_t) object = json_parse(all[0], strlen(all[0]), HTTP_MAX_JSON, "failed to parse platform", error);
    if (!object)
        return false;
    bool has_os = *json_get_string(object, "os", ""), has_architecture = *json_get_string(object, "architecture", "");
    bool has_others = *json_get_string(object, "variant", "") || *json_get_string(object, "os.version", "") ||
                      json_array_size(json_get_array(object, "os.features")) > 0;
    if (!has_os && !has_architecture && has_others)
        return error_set(error, TARE_ERROR_INVALID, "optional platform fields provided, but OS and Architecture are missing");
    if (!has_os || !has_architecture)
        return error_set(error, TARE_ERROR_INVALID, "both OS and Architecture must be provided");
    platform_from_json(object, ret);
    *ret_given = true;
    return true;
}
