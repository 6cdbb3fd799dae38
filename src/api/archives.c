/* Content of containers: cp, export, commit. */
#include "api/api-internal.h"

#include "base/fd.h"

#include <string.h>

static struct container_manager *manager(const struct api_request *request)
{
    return request->engine->containers;
}

static bool query_path(struct api_request *request, const char **ret, GError **error)
{
    *ret = api_query(request, "path");
    return *ret || error_set(error, TARE_ERROR_INVALID, "bad parameter: path cannot be empty");
}

/* What stands at the path, in the header that `docker cp` reads before the archive. */
static bool add_stat_header(struct api_request *request, const char *path, GError **error)
{
    g_autoptr(json_t) stat = NULL;
    if (!container_archive_stat(manager(request), request->name, path, &stat, error))
        return false;
    g_autofree char *text = json_text(stat);
    g_autofree char *encoded = g_base64_encode((const guchar *)text, strlen(text));
    http_exchange_header(request->http, "X-Docker-Container-Path-Stat", encoded);
    return true;
}

static bool stat_archive(struct api_request *request, GError **error)
{
    const char *path = NULL;
    return query_path(request, &path, error) && add_stat_header(request, path, error) && api_respond_empty(request, 200);
}

static bool get_archive(struct api_request *request, GError **error)
{
    const char *path = NULL;
    if (!query_path(request, &path, error) || !add_stat_header(request, path, error))
        return false;
    struct api_stream answer;
    api_stream_init(&answer, request, "application/x-tar", true);
    return container_archive_get(manager(request), request->name, path, &answer.sink, error);
}

static bool put_archive(struct api_request *request, GError **error)
{
    const char *path = NULL;
    return query_path(request, &path, error) &&
           container_archive_put(manager(request), request->name, path, http_exchange_body(request->http),
                                 api_query_bool(request, "noOverwriteDirNonDir"), api_query_bool(request, "copyUIDGID"), error) &&
           api_respond_empty(request, 200);
}

static bool export_container(struct api_request *request, GError **error)
{
    struct api_stream answer;
    g_autofd int file = http_exchange_take_file(request->http, "output");
    if (file >= 0) {
        struct fd_sink sink;
        fd_sink_init(&sink, file, "archive");
        if (!container_export(manager(request), request->name, &sink.sink, http_exchange_cancel(request->http), error))
            return false;
        http_exchange_header(request->http, "X-Tare-File", "written");
        return api_respond_empty(request, 200);
    }
    api_stream_init(&answer, request, "application/octet-stream", true);
    return container_export(manager(request), request->name, &answer.sink, http_exchange_cancel(request->http), error);
}

/* The config that a commit begins with: the body's where there is one, else the container's. Changes are applied to it. */
static bool commit_config(struct api_request *request, const char *container, json_t **ret, GError **error)
{
    g_autofree const char **changes = http_request_query_all(http_exchange_request(request->http), "changes");
    g_autoptr(json_t) body = NULL, inspected = NULL;
    *ret = NULL;
    if (!api_read_json(request, &body, error))
        return false;
    if (!changes[0]) {
        *ret = json_object_size(body) ? g_steal_pointer(&body) : NULL;
        return true;
    }
    const json_t *config = json_object_size(body) ? body : NULL;
    if (!config) {
        if (!container_inspect(manager(request), container, false, request->version, &inspected, error))
            return false;
        config = json_get_object(inspected, "Config");
    }
    return build_apply_changes(config, changes, ret, error);
}

static bool commit_container(struct api_request *request, GError **error)
{
    const char *container = api_query(request, "container");
    g_autoptr(json_t) config = NULL;
    g_autofree char *reference = api_query_reference(request);
    struct image *image = NULL;
    if (!container)
        return error_set(error, TARE_ERROR_NOT_FOUND, "No such container: ");
    if (!commit_config(request, container, &config, error))
        return false;
    const struct container_commit_options options = {
        .reference = reference,
        .comment = api_query(request, "comment"),
        .author = api_query(request, "author"),
        .config = config,
        .clamp_mtime = -1,
        .pause = api_query_bool_default(request, "pause", true),
    };
    if (!container_commit(manager(request), container, &options, &image, error))
        return false;
    json_t *answer = json_pack("{s:s}", "Id", image->id);
    image_unref(image);
    return api_respond_json(request, 201, answer);
}

const struct api_route archive_routes[] = {
    { "HEAD", "/containers/{name}/archive", 0, 0, stat_archive },
    { "GET", "/containers/{name}/archive", 0, 0, get_archive },
    { "PUT", "/containers/{name}/archive", 0, 0, put_archive },
    { "GET", "/containers/{name}/export", 0, 0, export_container },
    { "POST", "/commit", 0, 0, commit_container },
    { NULL },
};
