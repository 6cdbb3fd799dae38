/* /images: looking at them, naming, removing, saving and loading. */
#include "api/api-internal.h"

#include "base/fd.h"

#include <string.h>

static bool list_images(struct api_request *request, GError **error)
{
    g_autoptr(json_t) filters = NULL;
    g_autoptr(GString) answer = g_string_new(NULL);
    if (!api_query_filters(request, &filters, error))
        return false;
    const char *old_filter = request->version < 25 ? api_query(request, "filter") : NULL;
    if (old_filter && !filters_has(filters, "reference")) {
        if (!filters)
            filters = json_object();
        json_object_set_new(filters, "reference", json_pack("{s:b}", old_filter, 1));
    }
    const struct image_list_options options = { .all = api_query_bool(request, "all"),
                                                .with_shared = request->version >= 42 && api_query_bool(request, "shared-size"),
                                                .filters = filters,
                                                .api_version = request->version };
    return image_store_list_json(request->engine->images, &options, answer, error) && api_respond_text(request, answer);
}

/* The image that is asked about must be for the platform that is asked for. */
static bool check_platform(struct api_request *request, const char *parameter, unsigned min_version, GError **error)
{
    struct platform platform;
    bool given;
    if (!api_query_platform(request, parameter, min_version, &platform, &given, error))
        return false;
    if (!given)
        return true;
    bool ok = image_store_check_platform(request->engine->images, request->name, &platform, error);
    platform_clear(&platform);
    return ok;
}

static bool inspect_image(struct api_request *request, GError **error)
{
    json_t *answer = NULL;
    if (request->version >= 49 && api_query(request, "platform") && api_query_bool(request, "manifests"))
        return error_set(error, TARE_ERROR_INVALID, "conflicting options: manifests and platform options cannot both be set");
    return check_platform(request, "platform", 49, error) &&
           image_store_inspect(request->engine->images, request->name, request->version, &answer, error) &&
           api_respond_json(request, 200, answer);
}

static bool show_history(struct api_request *request, GError **error)
{
    json_t *answer = NULL;
    return check_platform(request, "platform", 48, error) &&
           image_store_history(request->engine->images, request->name, &answer, error) && api_respond_json(request, 200, answer);
}

static bool tag_image(struct api_request *request, GError **error)
{
    g_autofree char *reference = api_query_reference(request);
    struct image *image = NULL;
    if (!reference)
        return error_set(error, TARE_ERROR_INVALID, "invalid reference format");
    if (!image_store_get(request->engine->images, request->name, &image, error))
        return false;
    bool ok = image_store_tag(request->engine->images, image, reference, error);
    image_unref(image);
    return ok && api_respond_empty(request, 201);
}

static bool remove_image(struct api_request *request, GError **error)
{
    json_t *answer = NULL;
    if (strspn(request->name, " \t") == strlen(request->name))
        return error_set(error, TARE_ERROR_INVALID, "image name cannot be blank");
    return check_platform(request, "platforms", 50, error) &&
           image_store_remove(request->engine->images, request->name, api_query_bool(request, "force"),
                              !api_query_bool(request, "noprune"), &answer, error) &&
           api_respond_json(request, 200, answer);
}

static bool prune_images(struct api_request *request, GError **error)
{
    g_autoptr(json_t) filters = NULL;
    json_t *answer = NULL;
    bool dangling = true;
    if (!api_query_filters(request, &filters, error) || !filters_bool(filters, "dangling", true, &dangling, error))
        return false;
    return image_store_prune(request->engine->images, dangling, filters, &answer, error) &&
           api_respond_json(request, 200, answer);
}

/* A tar that fails half-way is cut off, so that nobody takes it for whole. */
static bool send_archive(struct api_request *request, const char *const *names, const struct image_save_options *options,
                         GError **error)
{
    struct api_stream answer;
    g_autofd int file = http_exchange_take_file(request->http, "output");
    if (file < 0) {
        api_stream_init(&answer, request, "application/x-tar", true);
        return image_save(request->engine->images, names, options, &answer.sink, error);
    }
    struct fd_sink sink;
    fd_sink_init(&sink, file, "archive");
    if (!image_save(request->engine->images, names, options, &sink.sink, error))
        return false;
    http_exchange_header(request->http, "X-Tare-File", "written");
    return api_respond_empty(request, 200);
}

static bool save(struct api_request *request, const char *const *names, GError **error)
{
    /* Ours: the layers that whoever asked has already. */
    g_autofree const char **without = http_request_query_all(http_exchange_request(request->http), "without");
    /* And: one image for several platforms, by these names. */
    g_autofree const char **index = http_request_query_all(http_exchange_request(request->http), "index");
    struct platform platform;
    bool given;
    if (!api_query_platform(request, "platform", 48, &platform, &given, error))
        return false;
    const struct image_save_options options = { .without = without,
                                                .index = *index ? index : NULL,
                                                .platform = given ? &platform : NULL,
                                                .cancel = http_exchange_cancel(request->http) };
    bool ok = send_archive(request, names, &options, error);
    if (given)
        platform_clear(&platform);
    return ok;
}

static bool save_one(struct api_request *request, GError **error)
{
    const char *const names[] = { request->name, NULL };
    return save(request, names, error);
}

static bool save_many(struct api_request *request, GError **error)
{
    g_autofree const char **names = http_request_query_all(http_exchange_request(request->http), "names");
    return save(request, names, error);
}

static bool load_images(struct api_request *request, GError **error)
{
    struct api_stream progress;
    struct platform platform;
    bool given;
    if (!api_query_platform(request, "platform", 48, &platform, &given, error))
        return false;
    api_stream_init(&progress, request, "application/json", false);
    const struct image_load_options options = { .quiet = api_query_bool_default(request, "quiet", true),
                                                .platform = given ? &platform : NULL,
                                                .cancel = http_exchange_cancel(request->http) };
    g_autofd int file = http_exchange_take_file(request->http, "input");
    struct fd_source source;
    fd_source_init(&source, file, "archive");
    struct byte_source *archive = file >= 0 ? &source.source : http_exchange_body(request->http);
    bool ok = image_load(request->engine->images, archive, &options, &progress.sink, error);
    if (given)
        platform_clear(&platform);
    return api_finish_messages(request, ok, error);
}

const struct api_route image_routes[] = {
    { "GET", "/images/json", 0, 0, list_images },
    { "GET", "/images/get", 0, 0, save_many },
    { "GET", "/images/{name*}/get", 0, 0, save_one },
    { "GET", "/images/{name*}/json", 0, 0, inspect_image },
    { "GET", "/images/{name*}/history", 0, 0, show_history },
    { "POST", "/images/load", 0, 0, load_images },
    { "POST", "/images/prune", 25, 0, prune_images },
    { "POST", "/images/{name*}/tag", 0, 0, tag_image },
    { "DELETE", "/images/{name*}", 0, 0, remove_image },
    { NULL },
};
