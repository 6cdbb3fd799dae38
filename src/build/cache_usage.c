/* What the build cache occupies, and its pruning: contexts that are kept, and steps whose images nothing else needs. */
#include "base/filter.h"
#include "base/timestamp.h"
#include "build/build-internal.h"

#include <string.h>

struct cache_record {
    char *id, *type, *description;
    char *key;    /* of a context */
    char *parent; /* of a step's image; may be NULL */
    bool is_mount, in_use;
    bool shared; /* with an image that is listed */
    gint64 created, used;
    gint64 size;
};

static void record_free(gpointer data)
{
    struct cache_record *record = data;

    g_free(record->id);
    g_free(record->type);
    g_free(record->description);
    g_free(record->key);
    g_free(record->parent);
    g_free(record);
}

static char *text_of(sqlite3_stmt *row, int column)
{
    return g_strdup((const char *)sqlite3_column_text(row, column));
}

static bool take_context(sqlite3_stmt *row, void *user, GError **error)
{
    struct cache_record *record = g_new0(struct cache_record, 1);

    record->key = text_of(row, 0);
    record->id = g_strndup(record->key, 25);
    record->type = g_strdup("source.local");
    record->description =
        g_strdup_printf("local source, %" G_GINT64_FORMAT " bytes of listing", (gint64)sqlite3_column_int64(row, 4));
    record->created = sqlite3_column_int64(row, 1);
    record->used = sqlite3_column_int64(row, 2);
    record->size = sqlite3_column_int64(row, 3);
    g_ptr_array_add(user, record);
    return true;
}

static bool take_step(sqlite3_stmt *row, void *user, GError **error)
{
    struct cache_record *record = g_new0(struct cache_record, 1);

    record->id = text_of(row, 0);
    record->parent = text_of(row, 1);
    record->type = g_strdup("regular");
    record->created = record->used = sqlite3_column_int64(row, 2);
    record->size = sqlite3_column_int64(row, 3);
    g_ptr_array_add(user, record);
    return true;
}

/* Steps that a named image stands on are the image's; what else of a step can go is the cache's alone. */
static bool mark_shared(struct builder *builder, const GPtrArray *records, GError **error)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) named = g_hash_table_new(g_str_hash, g_str_equal);

    if (!database_get_strings(
            builder->database, all, error,
            "WITH RECURSIVE needed(id) AS (SELECT image FROM image_name UNION SELECT image.parent FROM image JOIN "
            "needed ON image.id = needed.id WHERE image.parent IS NOT NULL) SELECT id FROM needed",
            ""))
        return false;
    for (guint i = 0; i < all->len; i++)
        g_hash_table_add(named, all->pdata[i]);
    for (guint i = 0; i < records->len; i++) {
        struct cache_record *record = records->pdata[i];

        record->shared = !record->key && !record->is_mount && g_hash_table_contains(named, record->id);
    }
    return true;
}

static gint least_recently_used(gconstpointer a, gconstpointer b)
{
    const struct cache_record *first = *(const struct cache_record *const *)a, *second = *(const struct cache_record *const *)b;

    return first->used < second->used ? -1 : first->used > second->used;
}

/* Of a step: the layers that its image has beyond its parent's. */
#define STEP_SIZE                                                                                                              \
    "(SELECT coalesce(sum(layer.tar_bytes + layer.index_bytes), 0) FROM image_layer JOIN layer ON layer.diff_id = "            \
    "image_layer.diff_id WHERE image_layer.image = image.id AND image_layer.position >= (SELECT count(*) FROM image_layer AS " \
    "below WHERE below.image = image.parent))"
#define CONTEXT_SIZE                                                                                                             \
    "(SELECT coalesce(sum(layer.tar_bytes + layer.index_bytes), 0) FROM layer WHERE instr(build_context.layers, layer.diff_id) " \
    "> 0)"

static bool add_mounts(struct builder *builder, GPtrArray *records, GError **error)
{
    g_autoptr(json_t) mounts = NULL;
    size_t i;
    json_t *mount;

    if (!builder_cache_mounts(builder, &mounts, error))
        return false;
    json_array_foreach(mounts, i, mount)
    {
        struct cache_record *record = g_new0(struct cache_record, 1);

        record->is_mount = true;
        record->id = g_strdup(json_get_string(mount, "ID", ""));
        record->type = g_strdup(json_get_string(mount, "Type", ""));
        record->description = g_strdup(json_get_string(mount, "Description", ""));
        record->in_use = json_get_bool(mount, "InUse", record->in_use);
        record->size = json_get_int(mount, "Size", 0);
        timestamp_parse(json_get_string(mount, "CreatedAt", ""), &record->created);
        timestamp_parse(json_get_string(mount, "LastUsedAt", ""), &record->used);
        g_ptr_array_add(records, record);
    }
    return true;
}

static bool read_records(struct builder *builder, GPtrArray **ret, GError **error)
{
    g_autoptr(GPtrArray) records = g_ptr_array_new_with_free_func(record_free);

    if (!database_query(builder->database, take_context, records, error,
                        "SELECT key, created, used, " CONTEXT_SIZE ", listing_bytes FROM build_context", "") ||
        !database_query(builder->database, take_step, records, error,
                        "SELECT DISTINCT image.id, image.parent, build_cache.created, " STEP_SIZE
                        " FROM build_cache JOIN image ON image.id = build_cache.image",
                        "") ||
        !mark_shared(builder, records, error) || !add_mounts(builder, records, error))
        return false;
    g_ptr_array_sort(records, least_recently_used);
    *ret = g_steal_pointer(&records);
    return true;
}

bool builder_usage(struct builder *builder, json_t **ret, GError **error)
{
    g_autoptr(GPtrArray) records = NULL;
    json_t *list;

    if (!read_records(builder, &records, error))
        return false;
    list = json_array();
    for (guint i = 0; i < records->len; i++) {
        const struct cache_record *record = records->pdata[i];
        char created[TIMESTAMP_ROOM], used[TIMESTAMP_ROOM];

        timestamp_format(record->created, created);
        timestamp_format(record->used, used);
        json_array_append_new(list, json_pack("{s:s, s:s?, s:s, s:s, s:b, s:b, s:I, s:s, s:s, s:i}", "ID", record->id, "Parent",
                                              record->parent ? record->parent : "", "Type", record->type, "Description",
                                              record->description ? record->description : "step of a build", "InUse", false,
                                              "Shared", record->shared, "Size", (json_int_t)record->size, "CreatedAt", created,
                                              "LastUsedAt", used, "UsageCount", 1));
    }
    *ret = list;
    return true;
}

/* ---- pruning ---- */

static bool may_go(const struct cache_record *record, const struct builder_prune_options *options, gint64 before)
{
    g_auto(GStrv) ids = filters_values(options->filters, "id"), types = filters_values(options->filters, "type");
    bool found = !ids[0];

    if (filters_has(options->filters, "label")) /* nothing of a cache has labels */
        return false;
    if (record->in_use || (record->shared && !options->all) || (before > 0 && record->used > before) ||
        (types[0] && !g_strv_contains((const char *const *)types, record->type)))
        return false;
    for (char **id = ids; *id; id++)
        found = found || g_str_has_prefix(record->id, *id);
    return found;
}

/* From the last step back, for an image that others stand on cannot go. */
static guint64 remove_records(struct builder *builder, const GPtrArray *chosen, json_t *deleted)
{
    guint64 freed = 0;

    for (guint i = chosen->len; i-- > 0;) {
        guint64 bytes = 0;
        const struct cache_record *record = chosen->pdata[i];
        g_autoptr(json_t) gone = NULL;

        if (record->is_mount) {
            if (!builder_cache_mount_remove(builder, record->id, &bytes, NULL))
                continue; /* a step has it by now */
            freed += bytes;
        } else if (record->key) {
            context_store_forget(builder, record->key);
        } else {
            database_run(builder->database, NULL, "DELETE FROM build_cache WHERE image = ?", "s", record->id);
            if (!record->shared)
                image_store_remove(builder->images, record->id, false, false, &gone, NULL);
        }
        json_array_append_new(deleted, json_string(record->id));
    }
    return freed;
}

static bool stored_bytes(struct builder *builder, gint64 *ret, GError **error)
{
    return database_get_int(builder->database, 0, ret, error, "SELECT coalesce(sum(tar_bytes + index_bytes), 0) FROM layer", "");
}

bool builder_prune(struct builder *builder, const struct builder_prune_options *options, json_t **ret, GError **error)
{
    /* system prune sends all kinds the same filters. */
    static const char *const known[] = { "id", "type", "until", "unused-for", "label", "label!", NULL };
    g_autoptr(GPtrArray) records = NULL, chosen = g_ptr_array_new();
    g_autoptr(json_t) deleted = json_array();
    gint64 before, total = 0, bytes_before, bytes_after;
    guint64 freed;

    if (!filters_validate(options->filters, known, error) || !filters_until(options->filters, &before, error) ||
        !read_records(builder, &records, error) || !stored_bytes(builder, &bytes_before, error))
        return false;
    for (guint i = 0; i < records->len; i++)
        total +=
            ((const struct cache_record *)records->pdata[i])->shared ? 0 : ((const struct cache_record *)records->pdata[i])->size;
    for (guint i = 0; i < records->len && !(options->keep_storage > 0 && total <= options->keep_storage); i++) {
        struct cache_record *record = records->pdata[i];

        if (!may_go(record, options, before))
            continue;
        g_ptr_array_add(chosen, record);
        total -= record->shared ? 0 : record->size;
    }
    freed = remove_records(builder, chosen, deleted);
    /* Steps whose images went in another way are no cache, and nobody may come to them again. */
    database_run(builder->database, NULL, "DELETE FROM build_cache WHERE image NOT IN (SELECT id FROM image)", "");
    if (!stored_bytes(builder, &bytes_after, error))
        return false;
    *ret = json_pack("{s:O, s:I}", "CachesDeleted", deleted, "SpaceReclaimed",
                     (json_int_t)(MAX(bytes_before - bytes_after, 0) + (gint64)freed));
    return true;
}
