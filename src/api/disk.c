/* GET /system/df. */
#include "api/api-internal.h"

static bool wants(const char *const *types, const char *type)
{
    return !types[0] || g_strv_contains(types, type);
}

static gint64 layer_size(struct engine *engine, const char *diff_id)
{
    struct layer_info info;
    return layer_store_info(engine->layers, diff_id, &info, NULL) ? (gint64)info.content_bytes : 0;
}

/* Layers are counted once, however many images stand on them. */
static gint64 layers_size(struct engine *engine)
{
    g_auto(GStrv) ids = layer_store_list(engine->layers, NULL);
    gint64 total = 0;
    for (char **id = ids; id && *id; id++)
        total += layer_size(engine, *id);
    return total;
}

/* diff id → in how many images it stands. */
static GHashTable *layer_users(GPtrArray *images)
{
    GHashTable *users = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < images->len; i++) {
        const struct image *image = images->pdata[i];
        g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
        for (char **id = image->diff_ids; *id; id++) {
            if (!g_hash_table_add(seen, *id))
                continue; /* twice in one image is not shared */
            g_hash_table_insert(users, g_strdup(*id), GINT_TO_POINTER(GPOINTER_TO_INT(g_hash_table_lookup(users, *id)) + 1));
        }
    }
    return users;
}

static gint64 shared_size(struct engine *engine, const struct image *image, GHashTable *users)
{
    gint64 total = 0;
    for (char **id = image->diff_ids; *id; id++)
        if (GPOINTER_TO_INT(g_hash_table_lookup(users, *id)) > 1)
            total += layer_size(engine, *id);
    return total;
}

static json_int_t count_containers(const json_t *containers, const char *image_id)
{
    json_int_t n = 0;
    size_t i;
    json_t *container;
    json_array_foreach(containers, i, container) n += g_str_equal(json_get_string(container, "ImageID", ""), image_id);
    return n;
}

/* What the list of images leaves open: how much of each is shared, and how many containers use it. */
static bool complete_images(struct api_request *request, json_t *images, GError **error)
{
    g_autoptr(GPtrArray) records = NULL;
    g_autoptr(json_t) containers = NULL;
    if (!image_store_list(request->engine->images, &records, error) ||
        !container_list(request->engine->containers, true, 0, false, NULL, request->version, &containers, error))
        return false;
    g_autoptr(GHashTable) users = layer_users(records);
    size_t i;
    json_t *summary;
    json_array_foreach(images, i, summary)
    {
        const char *id = json_get_string(summary, "Id", "");
        json_object_set_new(summary, "Containers", json_integer(count_containers(containers, id)));
        for (guint record = 0; record < records->len; record++)
            if (g_str_equal(((const struct image *)records->pdata[record])->id, id))
                json_object_set_new(summary, "SharedSize",
                                    json_integer(shared_size(request->engine, records->pdata[record], users)));
    }
    return true;
}

static bool add_images(struct api_request *request, json_t *answer, GError **error)
{
    g_autoptr(json_t) images = NULL;
    if (!image_store_summaries(request->engine->images, false, false, NULL, request->version, &images, error) ||
        !complete_images(request, images, error))
        return false;
    json_object_set_new(answer, "LayersSize", json_integer(layers_size(request->engine)));
    json_object_set(answer, "Images", images);
    return true;
}

static bool add_volumes(struct api_request *request, json_t *answer, GError **error)
{
    g_autoptr(json_t) volumes = NULL;
    if (!volume_list(request->engine->volumes, NULL, &volumes, error))
        return false;
    json_t *list = json_get_array(volumes, "Volumes"), *volume;
    size_t i;
    /* Clients count on it: docker's `system df` ends where it is missing. */
    json_array_foreach(list, i, volume)
    {
        json_t *usage;
        if (!volume_usage(request->engine->volumes, json_get_string(volume, "Name", ""), &usage, error))
            return false;
        json_object_set_new(volume, "UsageData", usage);
    }
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
