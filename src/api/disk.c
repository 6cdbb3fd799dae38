/* GET /system/df. */
#include "api/api-internal.h"

static bool wants(const char *const *types, const char *type)
{
    return !types[0] || g_strv_contains(types, type);
}

/* Layers are counted once, however many images stand on them. */
static gint64 layers_size(struct engine *engine)
{
    g_auto(GStrv) ids = layer_store_list(engine->layers, NULL);
    gint64 total = 0;
    for (char **id = ids; id && *id; id++) {
        struct layer_info info;
        if (layer_store_info(engine->layers, *id, &info, NULL))
            total += (gint64)info.content_bytes;
    }
    return total;
}

static bool add_images(struct api_request *request, json_t *answer, GError **error)
{
    json_t *images = NULL;
    if (!image_store_summaries(request->engine->images, true, false, NULL, request->version, &images, error))
        return false;
    json_object_set_new(answer, "LayersSize", json_integer(layers_size(request->engine)));
    json_object_set_new(answer, "Images", images);
    return true;
}

static bool add_volumes(struct api_request *request, json_t *answer, GError **error)
{
    g_autoptr(json_t) volumes = NULL;
    if (!volume_list(request->engine->volumes, NULL, &volumes, error))
        return false;
    json_t *list = json_get_array(volumes, "Volumes");
    json_object_set_new(answer, "Volumes", list ? json_incref(list) : json_array());
    return true;
}

static bool add_containers(struct api_request *request, json_t *answer, GError **error)
{
    json_t *containers = NULL;
    if (!container_list(request->engine->containers, true, 0, true, NULL, request->version, &containers, error))
        return false;
    json_object_set_new(answer, "Containers", containers);
    return true;
}

static bool show_usage(struct api_request *request, GError **error)
{
    g_autofree const char **types = http_request_query_all(http_exchange_request(request->http), "type");
    g_autoptr(json_t) answer = json_object();
    for (const char **type = types; *type; type++) {
        static const char *const known[] = { "container", "image", "volume", "build-cache", NULL };
        if (!g_strv_contains(known, *type))
            return error_set(error, TARE_ERROR_INVALID, "unknown object type: %s", *type);
    }
    if ((wants(types, "image") && !add_images(request, answer, error)) ||
        (wants(types, "container") && !add_containers(request, answer, error)) ||
        (wants(types, "volume") && !add_volumes(request, answer, error)))
        return false;
    if (wants(types, "build-cache")) {
        json_object_set_new(answer, "BuildCache", json_array());
        if (request->version < 42)
            json_object_set_new(answer, "BuilderSize", json_integer(0));
    }
    return api_respond_json(request, 200, g_steal_pointer(&answer));
}

const struct api_route disk_routes[] = {
    { "GET", "/system/df", 0, 0, show_usage },
    { NULL },
};
