/* The records: schema, registration, and images read back from rows. */
#include "image/image-internal.h"

#include "base/digest.h"
#include "base/timestamp.h"

#include <string.h>

static const char *const schema[] = {
    "CREATE TABLE image (id TEXT PRIMARY KEY, config TEXT NOT NULL, labels TEXT, parent TEXT, created INTEGER NOT NULL, size "
    "INTEGER NOT NULL,"
    "                    last_tagged INTEGER NOT NULL DEFAULT 0, serial INTEGER NOT NULL);"
    "CREATE INDEX image_parent ON image (parent);"
    "CREATE TABLE layer (diff_id TEXT PRIMARY KEY, tar_bytes INTEGER NOT NULL, index_bytes INTEGER NOT NULL, content_bytes "
    "INTEGER NOT NULL,"
    "                    index_digest TEXT NOT NULL, durable INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;"
    "CREATE TABLE image_layer (image TEXT NOT NULL REFERENCES image (id) ON DELETE CASCADE, position INTEGER NOT NULL,"
    "                          diff_id TEXT NOT NULL REFERENCES layer (diff_id), chain_id TEXT NOT NULL, PRIMARY KEY (image, "
    "position)) WITHOUT ROWID;"
    "CREATE INDEX image_layer_diff ON image_layer (diff_id);"
    "CREATE INDEX image_layer_chain ON image_layer (chain_id);"
    "CREATE TABLE layer_hold (holder TEXT NOT NULL, diff_id TEXT NOT NULL REFERENCES layer (diff_id), PRIMARY KEY (holder, "
    "diff_id)) WITHOUT ROWID;"
    "CREATE INDEX layer_hold_diff ON layer_hold (diff_id);"
    "CREATE TABLE image_name (name TEXT NOT NULL, value TEXT NOT NULL, is_digest INTEGER NOT NULL, image TEXT NOT NULL "
    "REFERENCES image (id),"
    "                         PRIMARY KEY (name, value)) WITHOUT ROWID;"
    "CREATE INDEX image_name_image ON image_name (image);",
    /* All that a list shows, so that it need not walk the rows with their configs. */
    "CREATE INDEX image_listing ON image (created DESC, serial DESC, id, labels, parent, size);"
    "CREATE INDEX image_serial ON image (serial);",
};

struct image *image_ref(struct image *image)
{
    g_atomic_int_inc(&image->references);
    return image;
}

void image_unref(struct image *image)
{
    if (!image || !g_atomic_int_dec_and_test(&image->references))
        return;
    g_free(image->id);
    g_free(image->parent);
    json_decref(image->config);
    g_strfreev(image->diff_ids);
    g_strfreev(image->repo_tags);
    g_strfreev(image->repo_digests);
    g_free(image);
}

const json_t *image_run_config(const struct image *image)
{
    static json_t *empty;
    const json_t *config = json_get_object(image->config, "config");
    if (config)
        return config;
    if (g_once_init_enter(&empty))
        g_once_init_leave(&empty, json_object());
    return empty;
}

bool image_store_open(struct database *database, struct layer_store *layers, const struct event_sink *events,
                      struct image_store **ret, GError **error)
{
    if (!database_migrate(database, "image", schema, G_N_ELEMENTS(schema), error))
        return false;
    struct image_store *store = g_new0(struct image_store, 1);
    store->database = database;
    store->layers = layers;
    store->events = events;
    g_mutex_init(&store->lock);
    *ret = store;
    return true;
}

void image_store_close(struct image_store *store)
{
    if (!store)
        return;
    g_mutex_clear(&store->lock);
    g_free(store);
}

void image_store_set_user_check(struct image_store *store, image_user_check check, void *user)
{
    store->user_check = check;
    store->user_check_data = user;
}

const json_t *store_labels(const json_t *config)
{
    return json_get_object(json_get_object(config, "config"), "Labels");
}

void store_emit(struct image_store *store, const char *action, const char *id, const json_t *labels, const char *name)
{
    g_autoptr(json_t) attributes = labels ? json_copy((json_t *)labels) : json_object();
    g_autofree char *familiar = name ? reference_familiar_text(name) : NULL;
    if (familiar)
        json_object_set_new(attributes, "name", json_string_lossy(familiar));
    event_emit(store->events, "image", action, id, attributes);
}

/* ---- reading ---- */

static bool take_image(sqlite3_stmt *row, void *user, GError **error)
{
    const char *text = (const char *)sqlite3_column_text(row, 1);
    json_t *config = json_parse(text, strlen(text), 64 << 20, "image configuration", error);
    if (!config)
        return false;
    struct image *image = g_new0(struct image, 1);
    image->references = 1;
    image->id = g_strdup((const char *)sqlite3_column_text(row, 0));
    image->config = config;
    image->parent = g_strdup((const char *)sqlite3_column_text(row, 2));
    image->created_ns = sqlite3_column_int64(row, 3);
    image->size = (guint64)sqlite3_column_int64(row, 4);
    image->last_tagged_ns = sqlite3_column_int64(row, 5);
    g_ptr_array_add(user, image);
    return true;
}

static char **take_strings(GPtrArray *strings)
{
    g_ptr_array_add(strings, NULL);
    return (char **)g_ptr_array_free(strings, FALSE);
}

static bool fill_names(struct image_store *store, struct image *image, GError **error)
{
    g_autoptr(GPtrArray) names = NULL;
    if (!store_names(store, image->id, &names, error))
        return false;
    GPtrArray *tags = g_ptr_array_new(), *digests = g_ptr_array_new();
    for (guint i = 0; i < names->len; i++) {
        struct image_name *name = names->pdata[i];
        g_ptr_array_add(name->is_digest ? digests : tags, image_name_text(name));
    }
    image->repo_tags = take_strings(tags);
    image->repo_digests = take_strings(digests);
    return true;
}

static bool fill(struct image_store *store, struct image *image, GError **error)
{
    GPtrArray *diff_ids = g_ptr_array_new();
    bool ok = database_get_strings(store->database, diff_ids, error,
                                   "SELECT diff_id FROM image_layer WHERE image = ? ORDER BY position", "s", image->id);
    image->diff_ids = take_strings(diff_ids);
    return ok && fill_names(store, image, error);
}

static void unref_image(gpointer image)
{
    image_unref(image);
}

bool store_load(struct image_store *store, const char *id, struct image **ret, GError **error)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(unref_image);
    if (!database_query(store->database, take_image, found, error,
                        "SELECT id, config, parent, created, size, last_tagged FROM image WHERE id = ?", "s", id))
        return false;
    if (found->len == 0) {
        *ret = NULL;
        return true;
    }
    if (!fill(store, found->pdata[0], error))
        return false;
    *ret = image_ref(found->pdata[0]);
    return true;
}

bool image_store_get(struct image_store *store, const char *text, struct image **ret, GError **error)
{
    g_autofree char *id = NULL;
    struct image *image = NULL;
    if (!store_resolve(store, text, &id, error) || (id && !store_load(store, id, &image, error)))
        return false;
    if (!image)
        return store_no_such_image(text, error);
    *ret = image;
    return true;
}

bool image_store_list(struct image_store *store, GPtrArray **ret, GError **error)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(unref_image);
    if (!database_query(store->database, take_image, found, error,
                        "SELECT id, config, parent, created, size, last_tagged FROM image ORDER BY created DESC, serial DESC",
                        NULL))
        return false;
    for (guint i = 0; i < found->len; i++)
        if (!fill(store, found->pdata[i], error))
            return false;
    *ret = g_steal_pointer(&found);
    return true;
}

bool image_store_count(struct image_store *store, gint64 *ret, GError **error)
{
    return database_get_int(store->database, 0, ret, error, "SELECT count(*) FROM image", NULL);
}

static bool take_layer(sqlite3_stmt *row, void *user, GError **error)
{
    struct layer_info layer = { 0 };
    g_strlcpy(layer.diff_id, (const char *)sqlite3_column_text(row, 0), sizeof layer.diff_id);
    layer.tar_bytes = (guint64)sqlite3_column_int64(row, 1);
    layer.index_bytes = (guint64)sqlite3_column_int64(row, 2);
    layer.content_bytes = (guint64)sqlite3_column_int64(row, 3);
    g_strlcpy(layer.index_digest, (const char *)sqlite3_column_text(row, 4), sizeof layer.index_digest);
    g_array_append_val((GArray *)user, layer);
    return true;
}

bool image_store_layers(struct image_store *store, const struct image *image, struct layer_info **ret, size_t *ret_n,
                        GError **error)
{
    GArray *layers = g_array_new(FALSE, TRUE, sizeof(struct layer_info));
    bool ok = database_query(
        store->database, take_layer, layers, error,
        "SELECT layer.diff_id, tar_bytes, index_bytes, content_bytes, index_digest FROM image_layer JOIN layer USING (diff_id) "
        "WHERE image = ? ORDER BY position",
        "s", image->id);
    size_t n = layers->len;
    struct layer_info *data = (struct layer_info *)g_array_free(layers, !ok);
    if (!ok)
        return false;
    *ret = data;
    *ret_n = n;
    return true;
}

bool image_store_config_text(struct image_store *store, const struct image *image, char **ret, GError **error)
{
    g_autofree char *text = NULL;
    if (!database_get_string(store->database, &text, error, "SELECT config FROM image WHERE id = ?", "s", image->id))
        return false;
    if (!text)
        return store_no_such_image(image->id, error);
    *ret = g_steal_pointer(&text);
    return true;
}

/* ---- registering ---- */

/* The text that is stored and hashed: the caller's exact bytes, or the document with rootfs and created put in. */
static char *config_document(const struct image_new_options *options, json_t **ret_config)
{
    if (options->raw_config) {
        *ret_config = json_deep_copy(options->config);
        return g_strdup(options->config_text);
    }
    json_t *config = json_deep_copy(options->config);
    if (!json_get_string(config, "created", NULL)) {
        char now[TIMESTAMP_ROOM];
        timestamp_format(timestamp_now(), now);
        json_object_set_new(config, "created", json_string(now));
    }
    json_t *diff_ids = json_array();
    for (size_t i = 0; i < options->n_layers; i++)
        json_array_append_new(diff_ids, json_string(options->layers[i].diff_id));
    json_object_set_new(config, "rootfs", json_pack("{s:s, s:o}", "type", "layers", "diff_ids", diff_ids));
    *ret_config = config;
    return json_text(config);
}

bool store_put_layer(struct image_store *store, const struct layer_info *layer, GError **error)
{
    return database_run(store->database, error,
                        "INSERT INTO layer (diff_id, tar_bytes, index_bytes, content_bytes, index_digest) VALUES (?, ?, ?, ?, ?) "
                        "ON CONFLICT (diff_id) DO NOTHING",
                        "siiis", layer->diff_id, (gint64)layer->tar_bytes, (gint64)layer->index_bytes,
                        (gint64)layer->content_bytes, layer->index_digest);
}

static bool insert_layers(struct image_store *store, const char *id, const struct image_new_options *options,
                          const char *const *diff_ids, GError **error)
{
    for (size_t i = 0; i < options->n_layers; i++) {
        g_autofree const char **prefix = g_new0(const char *, i + 2);
        memcpy(prefix, diff_ids, (i + 1) * sizeof *prefix);
        char chain_id[72];
        layer_chain_id(prefix, chain_id);
        if (!store_put_layer(store, &options->layers[i], error) ||
            !database_run(store->database, error,
                          "INSERT INTO image_layer (image, position, diff_id, chain_id) VALUES (?, ?, ?, ?)", "siss", id,
                          (gint64)i, options->layers[i].diff_id, chain_id))
            return false;
    }
    return true;
}

static bool insert_image(struct image_store *store, const char *id, const char *text, const json_t *config,
                         const struct image_new_options *options, const char *const *diff_ids, GError **error)
{
    gint64 known, created = 0;
    guint64 size = 0;
    for (size_t i = 0; i < options->n_layers; i++)
        size += options->layers[i].content_bytes;
    if (!database_get_int(store->database, 0, &known, error, "SELECT count(*) FROM image WHERE id = ?", "s", id))
        return false;
    if (known)
        return true;
    timestamp_parse(json_get_string(config, "created", TIMESTAMP_ZERO), &created);
    if (options->created_ns)
        created = options->created_ns;
    const json_t *labels = store_labels(config);
    g_autofree char *labels_text = labels ? json_text(labels) : NULL;
    return database_run(store->database, error,
                        "INSERT INTO image (id, config, labels, parent, created, size, serial) VALUES (?, ?, ?, ?, ?, ?, (SELECT "
                        "coalesce(max(serial), 0) + 1 FROM image))",
                        "ssssii", id, text, labels_text, options->parent, created, (gint64)size) &&
           insert_layers(store, id, options, diff_ids, error);
}

static bool check_layers(struct image_store *store, const struct image_new_options *options, GError **error)
{
    if (options->n_layers > 127)
        return error_set(error, TARE_ERROR_INVALID, "max depth exceeded");
    for (size_t i = 0; i < options->n_layers; i++)
        if (layer_store_is_damaged(store->layers, options->layers[i].diff_id))
            return error_set(error, TARE_ERROR_CONFLICT, "layer %s is damaged", options->layers[i].diff_id);
        else if (!layer_store_has(store->layers, options->layers[i].diff_id))
            return error_set(error, TARE_ERROR_INTERNAL, "layer %s is not in the store", options->layers[i].diff_id);
    return true;
}

static bool put_references(struct image_store *store, const char *id, const char *const *references, GError **error)
{
    for (; references && *references; references++) {
        struct reference reference;
        if (!reference_parse(*references, &reference, error))
            return false;
        reference_default_tag(&reference);
        g_autofree char *name = reference_familiar_name(&reference);
        bool is_digest = reference.tag == NULL;
        bool ok = database_run(store->database, error,
                               "INSERT INTO image_name (name, value, is_digest, image) VALUES (?, ?, ?, ?) ON CONFLICT (name, "
                               "value) DO UPDATE SET image = excluded.image",
                               "ssis", name, is_digest ? reference.digest : reference.tag, (gint64)is_digest, id);
        reference_clear(&reference);
        if (!ok)
            return false;
    }
    return true;
}

bool store_note_tagging(struct image_store *store, const char *id, GError **error)
{
    return database_run(store->database, error, "UPDATE image SET last_tagged = ? WHERE id = ?", "is", timestamp_now(), id);
}

static bool register_image(struct image_store *store, const char *id, const char *text, const json_t *config,
                           const struct image_new_options *options, const char *const *diff_ids, bool has_fixup, GError **error)
{
    if (!check_layers(store, options, error) ||
        (has_fixup && !layer_chain_has_fixup(store->layers, diff_ids) &&
         !layer_chain_prepare(store->layers, diff_ids, error)) || /* the removal of an equal chain took it */
        !database_begin(store->database, !options->intermediate, error))
        return false;
    bool tagged = options->references && options->references[0];
    bool ok = insert_image(store, id, text, config, options, diff_ids, error) &&
              put_references(store, id, options->references, error) && (!tagged || store_note_tagging(store, id, error));
    return database_end(store->database, ok, error);
}

bool image_store_add(struct image_store *store, const struct image_new_options *options, struct image **ret, GError **error)
{
    g_autoptr(json_t) config = NULL;
    g_autofree char *text = config_document(options, &config);
    char id[DIGEST_ROOM];
    digest_of(text, strlen(text), id);
    g_autofree const char **diff_ids = g_new0(const char *, options->n_layers + 1);
    for (size_t i = 0; i < options->n_layers; i++)
        diff_ids[i] = options->layers[i].diff_id;
    /* Not under the lock: long chains that depend on one another take their time. The caller holds the layers. */
    if (!check_layers(store, options, error) || !layer_chain_prepare(store->layers, diff_ids, error))
        return false;
    bool has_fixup = layer_chain_has_fixup(store->layers, diff_ids);
    g_mutex_lock(&store->lock);
    bool ok = register_image(store, id, text, config, options, diff_ids, has_fixup, error);
    g_mutex_unlock(&store->lock);
    if (!ok)
        return false;
    for (const char *const *name = options->pulled ? NULL : options->references; name && *name; name++)
        store_emit(store, "tag", id, store_labels(config), *name);
    return ret ? store_load(store, id, ret, error) : true;
}

bool image_store_put_names(struct image_store *store, const char *image_id, const char *const *references, GError **error)
{
    g_mutex_lock(&store->lock);
    bool ok =
        database_begin(store->database, true, error) &&
        database_end(store->database,
                     put_references(store, image_id, references, error) && store_note_tagging(store, image_id, error), error);
    g_mutex_unlock(&store->lock);
    return ok;
}
