/* docker image prune: what no container uses and, with -a, nothing names. */
#include "image/image-internal.h"

#include "base/filter.h"

#include <string.h>

struct candidate {
    char *id, *labels;
    gint64 created_ns;
    bool is_named, is_tagged, is_parent;
};

static void candidate_free(gpointer data)
{
    struct candidate *candidate = data;
    g_free(candidate->id);
    g_free(candidate->labels);
    g_free(candidate);
}

static bool take_candidate(sqlite3_stmt *row, void *user, GError **error)
{
    struct candidate *candidate = g_new0(struct candidate, 1);
    candidate->id = g_strdup((const char *)sqlite3_column_text(row, 0));
    candidate->labels = g_strdup((const char *)sqlite3_column_text(row, 1));
    candidate->created_ns = sqlite3_column_int64(row, 2);
    candidate->is_named = sqlite3_column_int(row, 3) != 0;
    candidate->is_tagged = sqlite3_column_int(row, 4) != 0;
    candidate->is_parent = sqlite3_column_int(row, 5) != 0;
    g_ptr_array_add(user, candidate);
    return true;
}

static bool is_wanted(struct image_store *store, const struct candidate *candidate, bool dangling_only, gint64 until_ns,
                      const json_t *filters)
{
    g_autofree char *running = NULL, *stopped = NULL;
    if (candidate->is_parent && (dangling_only || !candidate->is_named))
        return false;
    if ((dangling_only && candidate->is_tagged) || (until_ns && candidate->created_ns > until_ns))
        return false;
    if (filters_has(filters, "label") || filters_has(filters, "label!")) {
        g_autoptr(json_t) labels =
            candidate->labels ? json_parse(candidate->labels, strlen(candidate->labels), 64 << 20, "labels", NULL) : NULL;
        if (!filters_matches_labels(filters, labels))
            return false;
    }
    if (store->user_check)
        store->user_check(store->user_check_data, candidate->id, &running, &stopped);
    return !running && !stopped;
}

/* Each name by itself, so that the answer's lines are those of `image rm NAME`; a dangling image by its id. */
static bool add_names(struct image_store *store, const struct candidate *candidate, GPtrArray *all, GError **error)
{
    g_autoptr(GPtrArray) names = NULL;
    if (!candidate->is_named) {
        g_ptr_array_add(all, g_strdup(candidate->id));
        return true;
    }
    if (!store_names(store, candidate->id, &names, error))
        return false;
    for (guint i = 0; i < names->len; i++)
        if (!candidate->is_tagged || !((const struct image_name *)names->pdata[i])->is_digest) /* digests go with their tag */
            g_ptr_array_add(all, image_name_text(names->pdata[i]));
    return true;
}

static bool layers_size(struct image_store *store, gint64 *ret, GError **error)
{
    return database_get_int(store->database, 0, ret, error, "SELECT coalesce(sum(content_bytes), 0) FROM layer", NULL);
}

bool image_store_prune(struct image_store *store, bool dangling_only, const json_t *filters, json_t **ret, GError **error)
{
    static const char *const known[] = { "dangling", "label", "label!", "until", NULL };
    g_autoptr(GPtrArray) candidates = g_ptr_array_new_with_free_func(candidate_free);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    gint64 until_ns, before, after;
    if (!filters_validate(filters, known, error) || !filters_until(filters, &until_ns, error) ||
        !layers_size(store, &before, error) ||
        !database_query(
            store->database, take_candidate, candidates, error,
            "SELECT id, labels, created, EXISTS (SELECT 1 FROM image_name n WHERE n.image = image.id), EXISTS (SELECT 1 "
            "FROM image_name n WHERE n.image = image.id AND NOT n.is_digest), EXISTS (SELECT 1 FROM image c WHERE "
            "c.parent = image.id) FROM image ORDER BY created DESC, serial DESC",
            NULL))
        return false;
    for (guint i = 0; i < candidates->len; i++)
        if (is_wanted(store, candidates->pdata[i], dangling_only, until_ns, filters) &&
            !add_names(store, candidates->pdata[i], names, error))
            return false;
    g_ptr_array_add(names, NULL);
    g_autoptr(json_t) lines = json_array();
    if (!store_remove_many(store, (const char *const *)names->pdata, lines, error) || !layers_size(store, &after, error))
        return false;
    bool any = json_array_size(lines) > 0;
    layer_store_wait_for_space(store->layers);
    *ret = json_pack("{s:o, s:I}", "ImagesDeleted", any ? g_steal_pointer(&lines) : json_null(), "SpaceReclaimed",
                     (json_int_t)(before - after));
    return true;
}
