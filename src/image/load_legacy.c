/* Archives of Docker 1.9 and older: no manifest, but a directory for each layer, an image of its own, with "VERSION", "json" and
 * "layer.tar" in it, and "repositories" for the names. Configs are made from the old ones as Docker does, so that ids agree. */
#include "image/load-internal.h"

#include "base/digest.h"
#include "base/timestamp.h"

#include <string.h>

/* What one directory became. */
struct legacy_image {
    char *id;
    json_t *rootfs, *history;
    struct layer_info *layers;
    guint n_layers;
};

static void legacy_image_free(gpointer data)
{
    struct legacy_image *image = data;
    g_free(image->id);
    json_decref(image->rootfs);
    json_decref(image->history);
    g_free(image->layers);
    g_free(image);
}

struct legacy {
    struct loading *loading;
    GHashTable *images;  /* old id → struct legacy_image */
    GHashTable *foreign; /* old ids of those for another platform: at most layers of others */
};

static char *member_path(const char *old_id, const char *name)
{
    return g_strconcat(old_id, "/", name, NULL);
}

bool load_is_legacy(struct loading *loading)
{
    return !layer_archive_has(loading->archive, "manifest.json") && !layer_archive_has(loading->archive, "index.json") &&
           layer_archive_has(loading->archive, "repositories");
}

/* ---- the new document ---- */

static json_t *rootfs_after(const struct legacy_image *parent, const char *diff_id)
{
    json_t *diff_ids = parent ? json_copy(json_get_array(parent->rootfs, "diff_ids")) : json_array();
    json_array_append_new(diff_ids, json_string(diff_id));
    return json_pack("{s:s, s:o}", "type", "layers", "diff_ids", diff_ids);
}

static char *command_of(const json_t *old)
{
    g_auto(GStrv) words = json_string_array(json_get_array(json_get_object(old, "container_config"), "Cmd"));
    return words ? g_strjoinv(" ", words) : g_strdup("");
}

static json_t *history_after(const struct legacy_image *parent, const json_t *old)
{
    static const char *const copied[] = { "author", "comment" };
    json_t *history = parent ? json_copy(parent->history) : json_array(), *entry = json_object();
    g_autofree char *command = command_of(old);
    gint64 created_ns = 0;
    char created[TIMESTAMP_ROOM];
    timestamp_parse(json_get_string(old, "created", TIMESTAMP_ZERO), &created_ns);
    timestamp_format(created_ns, created);
    json_object_set_new(entry, "created", json_string(created));
    if (*json_get_string(old, copied[0], ""))
        json_object_set(entry, copied[0], json_object_get(old, copied[0]));
    if (*command)
        json_object_set_new(entry, "created_by", json_string_lossy(command));
    if (*json_get_string(old, copied[1], ""))
        json_object_set(entry, copied[1], json_object_get(old, copied[1]));
    json_array_append_new(history, entry);
    return history;
}

static gint compare_keys(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The old members as they are, without those of the old ways of naming, sorted. */
static json_t *document(const json_t *old, json_t *rootfs, json_t *history)
{
    static const char *const gone[] = { "id", "parent", "Size", "parent_id", "layer_id", "throwaway", "rootfs", "history", NULL };
    g_autoptr(json_t) whole = json_object();
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    const char *key;
    json_t *value, *sorted = json_object();
    json_object_foreach((json_t *)old, key, value) if (!g_strv_contains(gone, key)) json_object_set(whole, key, value);
    json_object_set(whole, "rootfs", rootfs);
    json_object_set(whole, "history", history);
    json_object_foreach(whole, key, value) g_ptr_array_add(keys, (gpointer)key);
    g_ptr_array_sort(keys, compare_keys);
    for (guint i = 0; i < keys->len; i++)
        json_object_set(sorted, keys->pdata[i], json_object_get(whole, keys->pdata[i]));
    return sorted;
}

/* ---- one directory ---- */

static bool register_image(struct legacy *legacy, const char *old_id, const json_t *old, const struct legacy_image *parent,
                           const struct layer_info *layer, GError **error)
{
    struct legacy_image *made = g_new0(struct legacy_image, 1);
    made->n_layers = (parent ? parent->n_layers : 0) + 1;
    made->layers = g_new0(struct layer_info, made->n_layers);
    if (parent)
        memcpy(made->layers, parent->layers, parent->n_layers * sizeof *made->layers);
    made->layers[made->n_layers - 1] = *layer;
    made->rootfs = rootfs_after(parent, layer->diff_id);
    made->history = history_after(parent, old);
    g_autoptr(json_t) config = document(old, made->rootfs, made->history);
    g_autofree char *text = json_text(config);
    const struct image_new_options options = {
        .config = config,
        .config_text = text,
        .raw_config = true,
        .layers = made->layers,
        .n_layers = made->n_layers,
        .parent = parent ? parent->id : NULL,
    };
    g_autoimage struct image *image = NULL;
    bool ok = image_store_add(legacy->loading->store, &options, &image, error);
    if (ok)
        made->id = g_strdup(image->id);
    if (ok)
        g_hash_table_insert(legacy->images, g_strdup(old_id), made);
    else
        legacy_image_free(made);
    return ok;
}

/* An old id becomes a path. */
static bool check_old_id(const char *old_id, GError **error)
{
    gsize length = strlen(old_id);
    return (length == 64 && strspn(old_id, "0123456789abcdef") == length) ||
           error_set(error, TARE_ERROR_INVALID, "invalid image id %s in the archive", old_id);
}

static bool take_directory(struct legacy *legacy, const char *old_id, const json_t *old, GError **error)
{
    const char *os = json_get_string(old, "os", ""), *parent_id = json_get_string(old, "parent", "");
    const struct legacy_image *parent = *parent_id ? g_hash_table_lookup(legacy->images, parent_id) : NULL;
    if (*os && strcmp(os, "linux") != 0)
        return error_set(error, TARE_ERROR_INVALID, "cannot load %s image on linux", os);
    if (parent && parent->n_layers >= LAYERS_MAX)
        return error_set(error, TARE_ERROR_INVALID, "max depth exceeded");
    g_autofree char *path = member_path(old_id, "layer.tar");
    struct layer_info layer;
    return load_layer(legacy->loading, path, NULL, &layer, error) && register_image(legacy, old_id, old, parent, &layer, error);
}

/* Parents first: down to one that is there, then up again. */
static bool load_chain(struct legacy *legacy, const char *first, GError **error)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) configs = g_ptr_array_new_with_free_func((GDestroyNotify)json_decref);
    g_autofree char *old_id = g_strdup(first);
    while (*old_id && !g_hash_table_contains(legacy->images, old_id)) {
        if (ids->len > LAYERS_MAX)
            return error_set(error, TARE_ERROR_INVALID, "max depth exceeded");
        if (!check_old_id(old_id, error))
            return false;
        g_autofree char *path = member_path(old_id, "json");
        json_t *old = load_read_json(legacy->loading, path, error);
        if (!old)
            return false;
        g_ptr_array_add(configs, old);
        g_ptr_array_add(ids, g_steal_pointer(&old_id));
        old_id = g_strdup(json_get_string(old, "parent", ""));
    }
    for (guint i = ids->len; i-- > 0;)
        if (!cancel_check(legacy->loading->cancel, error) || !take_directory(legacy, ids->pdata[i], configs->pdata[i], error))
            return false;
    return true;
}

static bool read_platform(struct legacy *legacy, const char *path, bool *ret_is_foreign, GError **error)
{
    *ret_is_foreign = false;
    if (!legacy->loading->platform)
        return true;
    g_autoptr(json_t) old = load_read_json(legacy->loading, path, error);
    *ret_is_foreign = old && !image_is_for(old, legacy->loading->platform);
    return old != NULL;
}

static bool load_directories(struct legacy *legacy, GError **error)
{
    g_autofree const char **paths = layer_archive_paths(legacy->loading->archive);
    for (const char **path = paths; *path; path++) {
        const char *slash = strchr(*path, '/');
        if (!slash || strcmp(slash, "/json") != 0)
            continue;
        g_autofree char *old_id = g_strndup(*path, (gsize)(slash - *path));
        bool is_foreign;
        if (!check_old_id(old_id, error) || !read_platform(legacy, *path, &is_foreign, error))
            return false;
        if (is_foreign)
            g_hash_table_add(legacy->foreign, g_steal_pointer(&old_id));
        else if (!load_chain(legacy, old_id, error))
            return false;
        else
            legacy->loading->n_loaded++;
    }
    return true;
}

/* ---- names ---- */

static bool tag_one(struct legacy *legacy, const char *name, const char *tag, const json_t *old_id, GError **error)
{
    const char *key = json_string_value(old_id);
    const struct legacy_image *made = key ? g_hash_table_lookup(legacy->images, key) : NULL;
    g_autofree char *reference = g_strconcat(name, ":", tag, NULL);
    char *const tags[] = { reference, NULL };
    g_autoimage struct image *image = NULL;
    if (key && g_hash_table_contains(legacy->foreign, key))
        return true;
    if (!made)
        return error_set(error, TARE_ERROR_INVALID, "invalid target ID: %s", key ? key : "");
    return image_store_get(legacy->loading->store, made->id, &image, error) &&
           load_tell_moved(legacy->loading, tags, made->id, error) &&
           image_store_tag(legacy->loading->store, image, reference, error) && load_announce(legacy->loading, tags, image, error);
}

static bool tag_all(struct legacy *legacy, GError **error)
{
    g_autoptr(json_t) repositories = load_read_json(legacy->loading, "repositories", error);
    if (!repositories)
        return false;
    const char *name, *tag;
    json_t *tags, *old_id;
    json_object_foreach(repositories, name, tags)
    {
        json_object_foreach(tags, tag, old_id) if (!tag_one(legacy, name, tag, old_id, error)) return false;
    }
    return true;
}

bool load_legacy(struct loading *loading, GError **error)
{
    struct legacy legacy = { .loading = loading,
                             .images = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, legacy_image_free),
                             .foreign = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL) };
    bool ok = load_directories(&legacy, error) && tag_all(&legacy, error);
    g_hash_table_unref(legacy.foreign);
    g_hash_table_unref(legacy.images);
    return ok;
}
