/* GET /system/df. Written as text, for there may be 10,000 images. */
#include "api/api-internal.h"

#include "base/measure.h"

#include <fcntl.h>

struct usage {
    struct api_request *request;
    const char **types; /* what is asked for; none: all */
    GString *out;
    bool with_disk;
};

static bool wants(const struct usage *usage, const char *type)
{
    return !usage->types[0] || g_strv_contains(usage->types, type);
}

/* Begins a member of the answer. */
static void append_key(const struct usage *usage, const char *key)
{
    g_string_append_printf(usage->out, "%s\"%s\":", usage->out->len > 1 ? "," : "", key);
}

static void append_value(const struct usage *usage, const char *key, const json_t *value)
{
    append_key(usage, key);
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    g_string_append(usage->out, text ? text : "null");
    free(text);
}

/* How many containers use each image. */
static GHashTable *count_users(const json_t *containers)
{
    GHashTable *counts = g_hash_table_new(g_str_hash, g_str_equal);
    size_t i;
    json_t *container;
    json_array_foreach((json_t *)containers, i, container)
    {
        const char *id = json_get_string(container, "ImageID", "");
        g_hash_table_insert(counts, (gpointer)id, GUINT_TO_POINTER(GPOINTER_TO_UINT(g_hash_table_lookup(counts, id)) + 1));
    }
    return counts;
}

static guint containers_of(void *user, const char *image_id)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(user, image_id));
}

static bool add_images(const struct usage *usage, GError **error)
{
    struct api_request *request = usage->request;
    g_autoptr(json_t) containers = NULL;
    struct image_usage sums;
    if (!image_store_usage(request->engine->images, false, &sums, error) ||
        !container_list(request->engine->containers, true, 0, false, NULL, request->version, &containers, error))
        return false;
    append_key(usage, "LayersSize");
    g_string_append_printf(usage->out, "%" G_GINT64_FORMAT, sums.content_bytes);
    g_autoptr(GHashTable) counts = count_users(containers);
    const struct image_list_options options = {
        .with_shared = true, .api_version = request->version, .count_containers = containers_of, .count_containers_user = counts
    };
    append_key(usage, "Images");
    return image_store_list_json(request->engine->images, &options, usage->out, error);
}

static bool add_volumes(const struct usage *usage, GError **error)
{
    struct volume_manager *manager = usage->request->engine->volumes;
    g_autoptr(json_t) volumes = NULL;
    if (!volume_list(manager, NULL, &volumes, error))
        return false;
    json_t *list = json_get_array(volumes, "Volumes"), *volume;
    g_autoptr(json_t) none = json_array();
    size_t i;
    /* Clients count on it: docker's `system df` ends where it is missing. */
    json_array_foreach(list, i, volume)
    {
        json_t *size;
        if (!volume_usage(manager, json_get_string(volume, "Name", ""), &size, error))
            return false;
        json_object_set_new(volume, "UsageData", size);
    }
    append_value(usage, "Volumes", list ? list : none);
    return true;
}

static bool add_containers(const struct usage *usage, GError **error)
{
    g_autoptr(json_t) containers = NULL;
    if (!container_list(usage->request->engine->containers, true, 0, true, NULL, usage->request->version, &containers, error))
        return false;
    append_value(usage, "Containers", containers);
    return true;
}

static guint64 disk_bytes(const struct usage *usage, const char *directory)
{
    g_autofree char *path = g_build_filename(usage->request->engine->options->data_root, directory, NULL);
    struct measure measured;
    measure_tree(AT_FDCWD, path, &measured);
    return measured.disk_bytes;
}

/* "OnDisk", for those who ask with on-disk=1: what `du` says of each, which the sums of contents cannot. Steps of builds are
 * images. */
static bool add_disk(const struct usage *usage, GError **error)
{
    struct image_usage sums;
    if (!image_store_usage(usage->request->engine->images, true, &sums, error))
        return false;
    append_key(usage, "OnDisk");
    g_string_append_printf(usage->out,
                           "{\"Images\":%" G_GUINT64_FORMAT ",\"Containers\":%" G_GUINT64_FORMAT ",\"Volumes\":%" G_GUINT64_FORMAT
                           ",\"BuildCache\":0}",
                           sums.disk_bytes, disk_bytes(usage, "containers"), disk_bytes(usage, "volumes"));
    return true;
}

/* Steps are images, and counted with them: "Shared". */
static bool add_builds(const struct usage *usage, GError **error)
{
    g_autoptr(json_t) list = NULL;
    gint64 size = 0;
    size_t i;
    json_t *record;
    if (!builder_usage(usage->request->engine->builder, &list, error))
        return false;
    json_array_foreach(list, i, record)
    {
        if (strcmp(json_get_string(record, "Type", ""), "regular") == 0)
            json_object_set_new(record, "Shared", json_true());
        else
            size += json_get_int(record, "Size", 0);
    }
    append_value(usage, "BuildCache", list);
    if (usage->request->version < 42) {
        append_key(usage, "BuilderSize");
        g_string_append_printf(usage->out, "%" G_GINT64_FORMAT, size);
    }
    return true;
}

static bool add_all(const struct usage *usage, GError **error)
{
    if ((wants(usage, "image") && !add_images(usage, error)) || (wants(usage, "container") && !add_containers(usage, error)) ||
        (wants(usage, "volume") && !add_volumes(usage, error)) || (usage->with_disk && !add_disk(usage, error)))
        return false;
    if (!wants(usage, "build-cache"))
        return true;
    return add_builds(usage, error);
}

static bool show_usage(struct api_request *request, GError **error)
{
    g_autofree const char **types = http_request_query_all(http_exchange_request(request->http), "type");
    g_autoptr(GString) out = g_string_new("{");
    for (const char **type = types; *type; type++) {
        static const char *const known[] = { "container", "image", "volume", "build-cache", NULL };
        if (!g_strv_contains(known, *type))
            return error_set(error, TARE_ERROR_INVALID, "unknown object type: %s", *type);
    }
    const struct usage usage = {
        .request = request, .types = types, .out = out, .with_disk = api_query_bool(request, "on-disk")
    };
    if (!add_all(&usage, error))
        return false;
    g_string_append_c(out, '}');
    return api_respond_text(request, out);
}

const struct api_route disk_routes[] = {
    { "GET", "/system/df", 0, 0, show_usage },
    { NULL },
};
