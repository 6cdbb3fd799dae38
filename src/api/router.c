/* From a path to an endpoint. */
#include "api/api-internal.h"

#include "base/log.h"
#include "base/parse.h"

#include <string.h>

static const struct api_route *const tables[] = {
    system_routes, event_routes,   info_routes,    registry_routes, push_routes,    layer_routes,     image_routes,
    verify_routes, import_routes,  volume_routes,  disk_routes,     network_routes, container_routes, stream_routes,
    exec_routes,   archive_routes, process_routes, build_routes,    refused_routes, /* last: what is not there yet, with a reason
                                                                                     */
};

bool api_route_match(const char *pattern, const char *path, char **ret_name)
{
    const char *open = strchr(pattern, '{');
    *ret_name = NULL;
    if (!open)
        return strcmp(pattern, path) == 0;
    const char *close = strchr(open, '}'), *suffix = close + 1;
    bool many = close[-1] == '*';
    size_t prefix_length = (size_t)(open - pattern), path_length = strlen(path), suffix_length = strlen(suffix);
    if (path_length <= prefix_length + suffix_length || strncmp(pattern, path, prefix_length) != 0 ||
        strcmp(path + path_length - suffix_length, suffix) != 0)
        return false;
    g_autofree char *name = g_strndup(path + prefix_length, path_length - prefix_length - suffix_length);
    if (!many && strchr(name, '/'))
        return false;
    *ret_name = g_steal_pointer(&name);
    return true;
}

bool api_path_version(const char *path, unsigned *ret_version, const char **ret_rest, GError **error)
{
    *ret_version = ENGINE_API_VERSION;
    *ret_rest = path;
    if (path[0] != '/' || path[1] != 'v' || !g_ascii_isdigit(path[2]))
        return true;
    size_t length = strcspn(path + 2, "/");
    g_autofree char *text = g_strndup(path + 2, length);
    if (strspn(text, "0123456789.") != length)
        return true; /* no version: some other path that begins with a v */
    g_auto(GStrv) parts = g_strsplit(text, ".", 3);
    guint64 major, minor = 0;
    if (!parse_uint(parts[0], 1000, &major) || (parts[1] && !parse_uint(parts[1], 1000000, &minor)))
        return error_set(error, TARE_ERROR_INVALID, "invalid API version: %s", text);
    if (major > 1 || (major == 1 && minor > ENGINE_API_VERSION))
        return error_set(error, TARE_ERROR_INVALID, "client version %s is too new. Maximum supported API version is 1.%d", text,
                         ENGINE_API_VERSION);
    if (major < 1 || minor < ENGINE_API_VERSION_MIN)
        return error_set(
            error, TARE_ERROR_INVALID,
            "client version %s is too old. Minimum supported API version is 1.%d, please upgrade your client to a newer version",
            text, ENGINE_API_VERSION_MIN);
    *ret_version = (unsigned)minor;
    *ret_rest = path + 2 + length;
    return true;
}

static const struct api_route *find_route(const char *method, const char *path, unsigned version, char **ret_name)
{
    for (size_t t = 0; t < G_N_ELEMENTS(tables); t++)
        for (const struct api_route *route = tables[t]; route->method; route++) {
            if (strcmp(route->method, method) != 0 || version < route->min_version ||
                (route->max_version && version > route->max_version))
                continue;
            if (api_route_match(route->pattern, path, ret_name))
                return route;
        }
    return NULL;
}

static bool dispatch(struct api_request *request, const struct http_request *http, GError **error)
{
    const char *path = NULL;
    if (!api_path_version(http->path, &request->version, &path, error))
        return false;
    const struct api_route *route = find_route(http->method, path, request->version, &request->name);
    if (!route)
        return error_set(error, TARE_ERROR_NOT_FOUND, "page not found");
    return route->function(request, error);
}

/* What the engine could not do is logged; what a client asked wrongly is its own affair, and one that went away nobody's. */
static void log_request(const struct http_exchange *exchange, const GError *error, gint64 begun)
{
    const struct http_request *http = http_exchange_request(exchange);
    g_autofree char *number = g_strdup_printf("%" G_GUINT64_FORMAT, http_exchange_number(exchange));
    g_autofree char *took = g_strdup_printf("%" G_GINT64_FORMAT "us", g_get_monotonic_time() - begun);
    if (error && error_http_status(error) == 500)
        log_error(error, "request failed", "request", number, "method", http->method, "path", http->path, NULL);
    else
        log_line(LOG_LEVEL_DEBUG, "request", "request", number, "method", http->method, "path", http->path, "took", took, "error",
                 error ? error->message : NULL, NULL);
}

void api_handle(struct http_exchange *exchange, void *user)
{
    struct api_request request = { .engine = user, .http = exchange };
    gint64 begun = g_get_monotonic_time();
    g_autoptr(GError) error = NULL;
    bool ok = dispatch(&request, http_exchange_request(exchange), &error);
    if (!ok && !http_exchange_has_begun(exchange))
        http_exchange_respond_error(exchange, error);
    else if (!ok)
        http_exchange_abort(exchange);
    log_request(exchange, error, begun);
    g_free(request.name);
}
