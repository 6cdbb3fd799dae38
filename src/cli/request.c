/* One call of the Engine API: version, query, errors and answers. */
#include "cli/cli-internal.h"

#include "base/platform.h"

#include "base/fd.h"
#include "base/parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ERROR_BODY_MAX (1u << 20)

void query_add(GString *query, const char *key, const char *value)
{
    if (!value)
        return;
    g_autofree char *escaped = g_uri_escape_string(value, NULL, FALSE);
    g_string_append_printf(query, "%s%s=%s", query->len ? "&" : "", key, escaped);
}

void query_add_bool(GString *query, const char *key, bool value)
{
    if (value)
        query_add(query, key, "1");
}

void query_add_int(GString *query, const char *key, gint64 value)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, value);
    query_add(query, key, text);
}

void query_add_json(GString *query, const char *key, json_t *value)
{
    g_autofree char *text = json_text(value);
    json_decref(value);
    query_add(query, key, text);
}

bool query_add_platform(GString *query, const char *key, const char *text, GError **error)
{
    struct platform platform;
    if (!text || !*text)
        return true;
    if (!platform_parse(text, &platform, error))
        return false;
    query_add_json(query, key, platform_to_json(&platform));
    platform_clear(&platform);
    return true;
}

json_t *filters_from_options(const struct options *options, GError **error)
{
    json_t *filters = json_object();
    for (const char *const *filter = options_list(options, "filter"); *filter; filter++) {
        const char *equals = strchr(*filter, '=');
        if (!equals)
            continue;
        g_autofree char *key = g_strndup(*filter, (gsize)(equals - *filter));
        g_autofree char *lower = g_ascii_strdown(g_strstrip(key), -1), *value = g_strstrip(g_strdup(equals + 1));
        json_t *values = json_object_get(filters, lower);
        if (!values)
            json_object_set_new(filters, lower, values = json_object());
        json_object_set_new(values, value, json_true());
    }
    return filters;
}

void query_add_filters(GString *query, const struct options *options)
{
    json_t *filters = filters_from_options(options, NULL);
    if (json_object_size(filters) > 0)
        query_add_json(query, "filters", filters);
    else
        json_decref(filters);
}

char *path_escape(const char *segment)
{
    return g_uri_escape_string(segment, "!$&'()*+,;=:@", FALSE);
}

char *api_path(const char *collection, const char *id, const char *tail)
{
    g_autofree char *escaped = path_escape(id);
    return g_strconcat("/", collection, "/", escaped, tail, NULL);
}

static enum tare_error code_of_status(int status)
{
    for (int code = 0; code < TARE_ERROR_N_CODES; code++) {
        g_autoptr(GError) probe = g_error_new_literal(TARE_ERROR, code, "");
        if (error_http_status(probe) == status)
            return code;
    }
    return status >= 500 ? TARE_ERROR_INTERNAL : TARE_ERROR_INVALID;
}

/* The text of an answer of 400 and above. */
static void error_from_answer(struct response *response, const char *target, GError **error)
{
    g_autoptr(GString) body = g_string_new(NULL);
    char buffer[8192];
    gssize n;
    while (body->len < ERROR_BODY_MAX && (n = http_read(response->connection, buffer, sizeof buffer, NULL)) > 0)
        g_string_append_len(body, buffer, n);
    enum tare_error code = code_of_status(response->head.status);
    if (body->len == 0) {
        error_set(error, code,
                  "request returned %d %s for API route and version http://%s%s, check if the server supports the requested API "
                  "version",
                  response->head.status, response->head.reason, "api.moby.localhost", target);
        return;
    }
    g_autoptr(json_t) value = json_parse(body->str, body->len, ERROR_BODY_MAX, "answer", NULL);
    const char *message = json_get_string(value, "message", NULL);
    g_autofree char *text = g_strstrip(g_strdup(message ? message : body->str));
    if (value && !message)
        error_set(error, code, "Error response from daemon: API returned a %d (%s) but provided no error-message",
                  response->head.status, response->head.reason);
    else
        error_set(error, code, "Error response from daemon: %s", text);
}

void response_free(struct response *response)
{
    if (!response)
        return;
    if (response->connection && http_reusable(response->connection) && !response->cli->idle)
        response->cli->idle = response->connection;
    else
        connection_free(response->connection);
    http_head_clear(&response->head);
    g_free(response);
}

static struct connection *take_connection(struct cli *cli, GError **error)
{
    if (cli->idle)
        return g_steal_pointer(&cli->idle);
    return connection_open(cli->endpoint, error);
}

static struct response *exchange(struct cli *cli, const struct http_request *request, GError **error)
{
    bool reused = cli->idle != NULL;
    struct connection *connection = take_connection(cli, error);
    if (!connection)
        return NULL;
    struct response *response = g_new0(struct response, 1);
    response->cli = cli;
    response->connection = connection;
    g_autoptr(GError) problem = NULL;
    if (http_exchange(connection, request, &response->head, &problem))
        return response;
    response_free(response);
    /* An idle connection that the engine closed meanwhile is no failure of this call. */
    if (reused && request->body_fd < 0 && error_is(problem, TARE_ERROR_UNAVAILABLE))
        return exchange(cli, request, error);
    g_propagate_error(error, g_steal_pointer(&problem));
    return NULL;
}

static bool version_is_older(const char *a, const char *b)
{
    guint64 x = 0, y = 0;
    const char *dot_a = strchr(a, '.'), *dot_b = strchr(b, '.');
    return dot_a && dot_b && parse_uint(dot_a + 1, 10000, &x) && parse_uint(dot_b + 1, 10000, &y) && x < y;
}

const char *api_version(struct cli *cli, GError **error)
{
    if (cli->version)
        return cli->version;
    if (!cli->endpoint && !cli_resolve_endpoint(cli, error))
        return NULL;
    const char *forced = g_getenv("DOCKER_API_VERSION");
    struct http_request request = { .method = "HEAD", .target = "/_ping", .file = -1, .body_fd = -1 };
    struct response *response = exchange(cli, &request, error);
    if (!response)
        return NULL;
    const char *offered = g_hash_table_lookup(response->head.headers, "api-version");
    const char *os = g_hash_table_lookup(response->head.headers, "ostype");
    const char *server = g_hash_table_lookup(response->head.headers, "server");
    cli->os = g_strdup(os ? os : "linux");
    cli->takes_files = server && g_str_has_prefix(server, "Tare/") && cli->endpoint->kind == ENDPOINT_UNIX;
    if (forced && *forced)
        cli->version = g_strdup(*forced == 'v' ? forced + 1 : forced);
    else if (!offered)
        cli->version = g_strdup(API_VERSION_MIN);
    else
        cli->version = g_strdup(version_is_older(offered, API_VERSION_MAX) ? offered : API_VERSION_MAX);
    response_free(response);
    return cli->version;
}

bool api_at_least(struct cli *cli, int minor)
{
    g_autofree char *wanted = g_strdup_printf("1.%d", minor);
    const char *version = api_version(cli, NULL);
    return version && !version_is_older(version, wanted);
}

const char *api_os(struct cli *cli)
{
    return cli->os ? cli->os : "linux";
}

static bool is_regular_file(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

struct response *api_call(struct cli *cli, const struct call *call, GError **error)
{
    if (!cli->endpoint && !cli_resolve_endpoint(cli, error))
        return NULL;
    const char *version = call->unversioned ? "" : api_version(cli, error);
    if (!version)
        return NULL;
    g_autofree char *body = call->json ? json_text(call->json) : NULL;
    g_autofree char *target = g_strconcat(*version ? "/v" : "", version, call->path, call->query && *call->query ? "?" : "",
                                          call->query ? call->query : "", NULL);
    g_autoptr(GPtrArray) headers = g_ptr_array_new();
    for (const char *const *header = call->headers; header && *header; header++)
        g_ptr_array_add(headers, (gpointer)*header);
    if (body) {
        g_ptr_array_add(headers, (gpointer) "Content-Type");
        g_ptr_array_add(headers, (gpointer) "application/json");
    }
    bool passes = call->file_use && cli->takes_files && is_regular_file(call->file);
    if (passes) {
        g_ptr_array_add(headers, (gpointer) "X-Tare-File");
        g_ptr_array_add(headers, (gpointer)call->file_use);
    }
    g_ptr_array_add(headers, NULL);
    struct http_request request = { .method = call->method,
                                    .target = target,
                                    .headers = (const char *const *)headers->pdata,
                                    .body = body,
                                    .body_length = body ? strlen(body) : 0,
                                    .file = passes ? call->file : -1,
                                    .body_fd = call->has_body_fd && !passes ? call->body_fd : -1,
                                    .upgrade = call->upgrade };
    struct response *response = exchange(cli, &request, error);
    if (response && response->head.status >= 400) {
        error_from_answer(response, target, error);
        response_free(response);
        return NULL;
    }
    return response;
}

gssize response_read(struct response *response, void *buffer, gsize length, GError **error)
{
    return http_read(response->connection, buffer, length, error);
}

char *response_text(struct response *response, gsize *ret_length, GError **error)
{
    g_autoptr(GByteArray) text = g_byte_array_new();
    g_autofree char *buffer = g_malloc(65536);
    gssize n;
    while ((n = response_read(response, buffer, 65536, error)) > 0) {
        if (text->len + (gsize)n > API_JSON_MAX) {
            error_set(error, TARE_ERROR_TOO_LARGE, "answer of the engine is too large");
            return NULL;
        }
        g_byte_array_append(text, (guint8 *)buffer, (guint)n);
    }
    if (n < 0)
        return NULL;
    if (ret_length)
        *ret_length = text->len;
    g_byte_array_append(text, (const guint8 *)"", 1);
    return (char *)g_byte_array_free(g_steal_pointer(&text), FALSE);
}

json_t *response_json(struct response *response, GError **error)
{
    gsize length;
    g_autofree char *text = response_text(response, &length, error);
    return text ? json_parse(text, length, API_JSON_MAX, "answer of the engine", error) : NULL;
}

json_t *api_json(struct cli *cli, const struct call *call, GError **error)
{
    g_autoptr(response_t) response = api_call(cli, call, error);
    return response ? response_json(response, error) : NULL;
}

char *api_text(struct cli *cli, const struct call *call, gsize *ret_length, GError **error)
{
    g_autoptr(response_t) response = api_call(cli, call, error);
    return response ? response_text(response, ret_length, error) : NULL;
}

bool api_done(struct cli *cli, const struct call *call, GError **error)
{
    g_autofree char *text = api_text(cli, call, NULL, error);
    return text != NULL;
}

json_t *api_get(struct cli *cli, const char *path, const char *query, GError **error)
{
    struct call call = { .method = "GET", .path = path, .query = query };
    return api_json(cli, &call, error);
}

bool response_copy(struct response *response, int fd, GError **error)
{
    enum { SIZE = 256 * 1024 };
    g_autofree char *buffer = g_malloc(SIZE);
    gssize n;
    while ((n = response_read(response, buffer, SIZE, error)) > 0)
        if (fd_write_full(fd, buffer, (gsize)n) < 0)
            return error_set_errno(error, errno, "write");
    return n == 0;
}
