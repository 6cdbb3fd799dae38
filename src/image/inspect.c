/* GET /images/{name}/json and /history: an image as the API shows it. */
#include "image/image-internal.h"

#include "base/timestamp.h"

#include <string.h>

static json_t *string_or_empty(const json_t *document, const char *key)
{
    return json_string(json_get_string(document, key, ""));
}

static json_t *rootfs(const struct image *image)
{
    return json_pack("{s:s, s:o}", "Type", "layers", "Layers", json_from_strv((const char *const *)image->diff_ids));
}

static const char *last_comment(const struct image *image)
{
    const json_t *history = json_get_array(image->config, "history");
    const json_t *last = json_array_get(history, json_array_size(history) - 1);
    const char *own = json_get_string(image->config, "comment", NULL);
    return own ? own : json_get_string(last, "comment", "");
}

/* Where a container's lower directories are, as Docker's drivers tell it: the image's top layer, and below it the others from the
 * top down. */
static json_t *graph_driver(struct image_store *store, const struct image *image)
{
    bool unpacked = layer_store_mode(store->layers) == LAYER_MOUNT_UNPACKED;
    json_t *data = json_object();
    g_autoptr(GString) lower = g_string_new(NULL);
    guint n = g_strv_length(image->diff_ids);
    for (guint i = n; i-- > 0;) {
        g_autofree char *path = layer_store_mounted_path(store->layers, image->diff_ids[i]);
        if (i == n - 1) {
            g_autofree char *tar = layer_store_tar_path(store->layers, image->diff_ids[i]);
            json_object_set_new(data, "Tar", json_string_lossy(tar));
            json_object_set_new(data, unpacked ? "UpperDir" : "Index", json_string_lossy(path));
        } else {
            g_string_append_printf(lower, "%s%s", lower->len ? ":" : "", path);
        }
    }
    if (lower->len)
        json_object_set_new(data, unpacked ? "LowerDir" : "LowerIndexes", json_string_lossy(lower->str));
    return json_pack("{s:o, s:s}", "Data", data, "Name", unpacked ? "unpacked" : "erofs");
}

/* The container's settings that an image's config had by accident are left out since 1.50; where there is none, there was none
 * before. */
static json_t *shown_config(const struct image *image, unsigned api_version)
{
    static const char *const dropped[] = { "Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr",
                                           "Tty",      "OpenStdin",  "StdinOnce",   "Image",        "StopTimeout" };
    if (api_version < 50 && !json_get_object(image->config, "config"))
        return json_null();
    json_t *config = image_canonical_config(image_run_config(image));
    for (size_t i = 0; i < G_N_ELEMENTS(dropped) && api_version >= 50; i++)
        json_object_del(config, dropped[i]);
    return config;
}

bool image_is_for(const json_t *config, const struct platform *platform)
{
    struct platform own;
    platform_from_json(config, &own);
    bool same = platform_score(platform, &own) == PLATFORM_SAME;
    platform_clear(&own);
    return same;
}

bool image_store_check_platform(struct image_store *store, const char *name, const struct platform *platform, GError **error)
{
    g_autoimage struct image *image = NULL;
    struct platform own;
    if (!image_store_get(store, name, &image, error))
        return false;
    platform_from_json(image->config, &own);
    /* An image that names no variant runs on each. */
    bool ok = platform_score(platform, &own) > 0 ||
              (!*own.variant && strcmp(own.os, platform->os) == 0 && strcmp(own.architecture, platform->architecture) == 0);
    g_autofree char *is = platform_text(&own), *wanted = platform_text(platform);
    platform_clear(&own);
    return ok || error_set(error, TARE_ERROR_NOT_FOUND,
                           "image with reference %s was found but its platform (%s) does not match the specified platform (%s)",
                           name, is, wanted);
}

bool image_store_inspect(struct image_store *store, const char *name, unsigned api_version, json_t **ret, GError **error)
{
    g_autoimage struct image *image = NULL;
    g_autoptr(GError) problem = NULL;
    if (!image_store_get(store, name, &image, &problem)) {
        if (error_is(problem, TARE_ERROR_NOT_FOUND))
            g_prefix_error(&problem, "no such image: %s: ", name);
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    char tagged[TIMESTAMP_ROOM] = TIMESTAMP_ZERO;
    if (image->last_tagged_ns)
        timestamp_format(image->last_tagged_ns, tagged);
    json_t *object = json_pack(
        "{s:s, s:o, s:o, s:s, s:s, s:s}", "Id", image->id, "RepoTags", json_from_strv((const char *const *)image->repo_tags),
        "RepoDigests", json_from_strv((const char *const *)image->repo_digests), "Parent", image->parent ? image->parent : "",
        "Comment", last_comment(image), "Created", json_get_string(image->config, "created", TIMESTAMP_ZERO));
    if (api_version < 45) { /* newer versions dropped them */
        json_object_set_new(object, "Container", string_or_empty(image->config, "container"));
        json_object_set_new(object, "ContainerConfig",
                            image_canonical_config(json_get_object(image->config, "container_config")));
    }
    json_object_set_new(object, "DockerVersion", string_or_empty(image->config, "docker_version"));
    json_object_set_new(object, "Author", string_or_empty(image->config, "author"));
    json_object_set_new(object, "Config", shown_config(image, api_version));
    json_object_set_new(object, "Architecture", string_or_empty(image->config, "architecture"));
    if (*json_get_string(image->config, "variant", ""))
        json_object_set_new(object, "Variant", string_or_empty(image->config, "variant"));
    json_object_set_new(object, "Os", json_string(json_get_string(image->config, "os", "linux")));
    if (*json_get_string(image->config, "os.version", ""))
        json_object_set_new(object, "OsVersion", string_or_empty(image->config, "os.version"));
    json_object_set_new(object, "Size", json_integer((json_int_t)image->size));
    if (api_version < 44)
        json_object_set_new(object, "VirtualSize", json_integer((json_int_t)image->size));
    json_object_set_new(object, "GraphDriver", graph_driver(store, image));
    json_object_set_new(object, "RootFS", rootfs(image));
    json_object_set_new(object, "Metadata", json_pack("{s:s}", "LastTagTime", tagged));
    *ret = object;
    return true;
}

static json_t *history_row(const json_t *entry, gint64 size)
{
    gint64 created = 0;
    timestamp_parse(json_get_string(entry, "created", TIMESTAMP_ZERO), &created);
    return json_pack("{s:s, s:I, s:s, s:n, s:I, s:s}", "Id", "<missing>", "Created", (json_int_t)(created / 1000000000),
                     "CreatedBy", json_get_string(entry, "created_by", ""), "Tags", "Size", (json_int_t)size, "Comment",
                     json_get_string(entry, "comment", ""));
}

/* The newest rows carry the ids and tags of the image and its local parents. */
static bool name_history_rows(struct image_store *store, struct image *image, json_t *rows, GError **error)
{
    size_t i;
    json_t *row;
    g_autoimage struct image *at = image_ref(image);
    json_array_foreach(rows, i, row)
    {
        struct image *parent = NULL;
        json_object_set_new(row, "Id", json_string(at->id));
        if (at->repo_tags[0])
            json_object_set_new(row, "Tags", json_from_strv((const char *const *)at->repo_tags));
        if (!at->parent)
            return true;
        if (!store_load(store, at->parent, &parent, error))
            return false;
        if (!parent)
            return true;
        image_clear(&at);
        at = parent;
    }
    return true;
}

bool image_store_history(struct image_store *store, const char *name, json_t **ret, GError **error)
{
    g_autoimage struct image *image = NULL;
    g_autofree struct layer_info *layers = NULL;
    size_t n_layers, used = 0, i;
    if (!image_store_get(store, name, &image, error) || !image_store_layers(store, image, &layers, &n_layers, error))
        return false;
    g_autoptr(json_t) rows = json_array();
    json_t *entry;
    json_array_foreach(json_get_array(image->config, "history"), i, entry)
    {
        gint64 size = 0;
        if (!json_get_bool(entry, "empty_layer", false) && used < n_layers)
            size = (gint64)layers[used++].content_bytes;
        json_array_insert_new(rows, 0, history_row(entry, size));
    }
    if (!name_history_rows(store, image, rows, error))
        return false;
    *ret = g_steal_pointer(&rows);
    return true;
}

bool image_store_usage(struct image_store *store, bool with_disk, struct image_usage *ret, GError **error)
{
    ret->disk_bytes = with_disk ? layer_store_disk_bytes(store->layers) : 0;
    return database_get_int(
        store->database, 0, &ret->content_bytes, error,
        "SELECT coalesce(sum(content_bytes), 0) FROM layer WHERE diff_id IN (SELECT diff_id FROM image_layer)", NULL);
}
