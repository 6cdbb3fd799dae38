/* Who needs a layer: images, and holders such as containers and builds. What nobody needs is removed. */
#include "image/image-internal.h"

#include <string.h>

#define IS_UNUSED                                                                       \
    "NOT EXISTS (SELECT 1 FROM image_layer WHERE image_layer.diff_id = layer.diff_id) " \
    "AND NOT EXISTS (SELECT 1 FROM layer_hold WHERE layer_hold.diff_id = layer.diff_id)"

static bool find_unused(struct image_store *store, GHashTable *candidates, GPtrArray *unused, GError **error)
{
    if (!candidates)
        return database_get_strings(store->database, unused, error, "SELECT diff_id FROM layer WHERE " IS_UNUSED, NULL);
    GHashTableIter iter;
    gpointer diff_id;
    g_hash_table_iter_init(&iter, candidates);
    while (g_hash_table_iter_next(&iter, &diff_id, NULL))
        if (!database_get_strings(store->database, unused, error, "SELECT diff_id FROM layer WHERE diff_id = ? AND " IS_UNUSED,
                                  "s", diff_id))
            return false;
    return true;
}

static bool delete_rows(struct image_store *store, const GPtrArray *unused, GError **error)
{
    if (!database_begin(store->database, false, error))
        return false;
    bool ok = true;
    for (guint i = 0; ok && i < unused->len; i++)
        ok = database_run(store->database, error, "DELETE FROM layer WHERE diff_id = ?", "s", unused->pdata[i]);
    return database_end(store->database, ok, error);
}

bool store_collect_layers(struct image_store *store, GHashTable *candidates, GError **error)
{
    g_autoptr(GPtrArray) unused = g_ptr_array_new_with_free_func(g_free);
    if (!find_unused(store, candidates, unused, error))
        return false;
    /* The rows first: a file without a row is swept at the next start, a row without a file would be a lie. */
    if (unused->len > 0 && !delete_rows(store, unused, error))
        return false;
    for (guint i = 0; i < unused->len; i++)
        if (!layer_store_remove(store->layers, unused->pdata[i], error))
            return false;
    return true;
}

static bool hold(struct image_store *store, const char *holder, const char *const *diff_ids, GError **error)
{
    if (!database_begin(store->database, false, error))
        return false;
    bool ok = true;
    for (; ok && *diff_ids; diff_ids++) {
        gint64 known;
        ok = database_get_int(store->database, 0, &known, error, "SELECT count(*) FROM layer WHERE diff_id = ?", "s", *diff_ids);
        if (ok && !known)
            ok = error_set(error, TARE_ERROR_NOT_FOUND, "layer %s is not in the store", *diff_ids);
        ok = ok &&
             database_run(store->database, error, "INSERT INTO layer_hold (holder, diff_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
                          "ss", holder, *diff_ids);
    }
    return database_end(store->database, ok, error);
}

bool image_store_hold_layers(struct image_store *store, const char *holder, const char *const *diff_ids, GError **error)
{
    g_mutex_lock(&store->lock);
    bool ok = hold(store, holder, diff_ids, error);
    g_mutex_unlock(&store->lock);
    return ok;
}

/* Lock held. */
static bool hold_new_layer(struct image_store *store, const char *holder, const struct layer_info *layer, GError **error)
{
    if (!layer_store_has(store->layers, layer->diff_id))
        return error_set(error, TARE_ERROR_NOT_FOUND, "layer %s is not in the store", layer->diff_id);
    if (!database_begin(store->database, false, error))
        return false;
    bool ok =
        store_put_layer(store, layer, error) &&
        database_run(store->database, error, "INSERT INTO layer_hold (holder, diff_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
                     "ss", holder, layer->diff_id);
    return database_end(store->database, ok, error);
}

bool image_store_hold_new_layer(struct image_store *store, const char *holder, const struct layer_info *layer, GError **error)
{
    g_mutex_lock(&store->lock);
    bool ok = hold_new_layer(store, holder, layer, error);
    g_mutex_unlock(&store->lock);
    return ok;
}

static bool take_claim(void *user, const struct layer_info *layer, GError **error)
{
    struct image_layer_claim *claim = user;
    return hold_new_layer(claim->store, claim->holder, layer, error);
}

void image_layer_claim_init(struct image_layer_claim *claim, struct image_store *store, const char *holder)
{
    *claim = (struct image_layer_claim){ .claim = { .lock = &store->lock, .take = take_claim, .user = claim },
                                         .store = store,
                                         .holder = holder };
}

static bool take_facts(sqlite3_stmt *row, void *user, GError **error)
{
    struct layer_info *layer = user;
    layer->tar_bytes = (guint64)sqlite3_column_int64(row, 0);
    layer->index_bytes = (guint64)sqlite3_column_int64(row, 1);
    layer->content_bytes = (guint64)sqlite3_column_int64(row, 2);
    g_strlcpy(layer->index_digest, (const char *)sqlite3_column_text(row, 3), sizeof layer->index_digest);
    return true;
}

bool image_store_hold_known_layer(struct image_store *store, const char *holder, const char *diff_id, struct layer_info *ret,
                                  GError **error)
{
    const char *const diff_ids[] = { diff_id, NULL };
    struct layer_info layer = { 0 };
    g_strlcpy(layer.diff_id, diff_id, sizeof layer.diff_id);
    g_mutex_lock(&store->lock);
    bool ok =
        (layer_store_has(store->layers, diff_id) ||
         error_set(error, TARE_ERROR_NOT_FOUND, "layer %s is not in the store", diff_id)) &&
        hold(store, holder, diff_ids, error) &&
        database_query(store->database, take_facts, &layer, error,
                       "SELECT tar_bytes, index_bytes, content_bytes, index_digest FROM layer WHERE diff_id = ?", "s", diff_id);
    g_mutex_unlock(&store->lock);
    if (ok)
        *ret = layer;
    return ok;
}

static bool delete_holders(struct image_store *store, const char *const *holders, GPtrArray *held, GError **error)
{
    if (!database_begin(store->database, false, error))
        return false;
    bool ok = true;
    for (; ok && *holders; holders++)
        ok = database_get_strings(store->database, held, error, "SELECT diff_id FROM layer_hold WHERE holder = ?", "s",
                                  *holders) &&
             database_run(store->database, error, "DELETE FROM layer_hold WHERE holder = ?", "s", *holders);
    return database_end(store->database, ok, error);
}

/* Fix-ups that belong to no image's chain. A holder's chain is not known here, so they wait for the last one. Lock held. */
static bool sweep_fixups(struct image_store *store, GError **error)
{
    gint64 holders, known;
    if (!database_get_int(store->database, 0, &holders, error, "SELECT count(*) FROM layer_hold", NULL))
        return false;
    if (holders > 0)
        return true;
    store->fixups_wait = false;
    g_auto(GStrv) fixups = layer_store_list_fixups(store->layers, error);
    for (char **chain_id = fixups; chain_id && *chain_id; chain_id++)
        if (!database_get_int(store->database, 0, &known, error, "SELECT count(*) FROM image_layer WHERE chain_id = ?", "s",
                              *chain_id) ||
            (!known && !layer_store_remove_fixups(store->layers, *chain_id, error)))
            return false;
    return fixups != NULL;
}

static bool release(struct image_store *store, const char *const *holders, GError **error)
{
    g_autoptr(GPtrArray) held = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) candidates = g_hash_table_new(g_str_hash, g_str_equal);
    if (!delete_holders(store, holders, held, error))
        return false;
    for (guint i = 0; i < held->len; i++)
        g_hash_table_add(candidates, held->pdata[i]);
    return store_collect_layers(store, candidates, error) && (!store->fixups_wait || sweep_fixups(store, error));
}

bool image_store_release_holders(struct image_store *store, const char *const *holders, GError **error)
{
    g_mutex_lock(&store->lock);
    bool ok = release(store, holders, error);
    g_mutex_unlock(&store->lock);
    return ok;
}

bool image_store_release_layers(struct image_store *store, const char *holder, GError **error)
{
    g_mutex_lock(&store->lock);
    gint64 held = 0;
    bool ok = database_get_int(store->database, 0, &held, error, "SELECT count(*) FROM layer_hold WHERE holder = ?", "s", holder);
    const char *const holders[] = { holder, NULL };
    if (ok && held > 0)
        ok = release(store, holders, error);
    g_mutex_unlock(&store->lock);
    return ok;
}

static bool release_strangers(struct image_store *store, bool (*keep)(void *user, const char *holder), void *user, GError **error)
{
    g_autoptr(GPtrArray) holders = g_ptr_array_new_with_free_func(g_free);
    if (!database_get_strings(store->database, holders, error, "SELECT DISTINCT holder FROM layer_hold", NULL))
        return false;
    bool has_left = !layer_store_was_left_whole(store->layers);
    for (guint i = 0; i < holders->len; i++) {
        if (keep(user, holders->pdata[i]))
            continue;
        has_left = true;
        if (!database_run(store->database, error, "DELETE FROM layer_hold WHERE holder = ?", "s", holders->pdata[i]))
            return false;
    }
    return !has_left || store_collect_layers(store, NULL, error);
}

/* Files of layers that no row names: what a killed ingest or removal left. */
static bool remove_unknown_files(struct image_store *store, GError **error)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) known = g_hash_table_new(g_str_hash, g_str_equal);
    g_auto(GStrv) stored = layer_store_list(store->layers, error);
    if (!stored || !database_get_strings(store->database, rows, error, "SELECT diff_id FROM layer", NULL))
        return false;
    for (guint i = 0; i < rows->len; i++)
        g_hash_table_add(known, rows->pdata[i]);
    for (char **diff_id = stored; *diff_id; diff_id++)
        if (!g_hash_table_contains(known, *diff_id) && !layer_store_remove(store->layers, *diff_id, error))
            return false;
    return true;
}

bool image_store_sweep_holders(struct image_store *store, bool (*keep)(void *user, const char *holder), void *user,
                               GError **error)
{
    g_mutex_lock(&store->lock);
    bool ok = release_strangers(store, keep, user, error) &&
              (layer_store_was_left_whole(store->layers) || (remove_unknown_files(store, error) && sweep_fixups(store, error)));
    store->fixups_wait = true; /* what was left for holders' sake */
    g_mutex_unlock(&store->lock);
    return ok;
}
