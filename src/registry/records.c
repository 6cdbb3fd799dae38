/* What is remembered of registries: manifests as they came, and which blobs a layer is where. */
#include "registry/registry-internal.h"

#include "base/timestamp.h"

#include <string.h>

/* Both go with what they are about. */
static const char *const schema[] = {
    "CREATE TABLE manifest (digest TEXT NOT NULL, image TEXT NOT NULL REFERENCES image (id) ON DELETE CASCADE, media_type TEXT "
    "NOT NULL,"
    "                       is_index INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (digest, image)) WITHOUT ROWID;"
    "CREATE INDEX manifest_image ON manifest (image);"
    "CREATE TABLE layer_blob (diff_id TEXT NOT NULL REFERENCES layer (diff_id) ON DELETE CASCADE, digest TEXT NOT NULL, "
    "repository TEXT "
    "NOT NULL, size INTEGER NOT NULL, media_type TEXT NOT NULL, seen INTEGER NOT NULL, PRIMARY KEY (diff_id, digest, "
    "repository)) "
    "WITHOUT ROWID;"
    "CREATE TABLE pulled_layer (diff_id TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;",
    "ALTER TABLE manifest ADD COLUMN at INTEGER NOT NULL DEFAULT 0;",
};

#define KEPT_HOLDER "pulled/"

bool records_open(struct registry *registry, GError **error)
{
    return database_migrate(registry->database, "registry", schema, G_N_ELEMENTS(schema), error);
}

/* ---- blobs ---- */

static void blob_free(gpointer data)
{
    struct registry_blob *blob = data;
    g_free(blob->media_type);
    g_free(blob->repository);
    g_free(blob);
}

static bool take_blob(sqlite3_stmt *row, void *user, GError **error)
{
    struct registry_blob *blob = g_new0(struct registry_blob, 1);
    g_strlcpy(blob->digest, (const char *)sqlite3_column_text(row, 0), sizeof blob->digest);
    blob->size = (guint64)sqlite3_column_int64(row, 1);
    blob->media_type = g_strdup((const char *)sqlite3_column_text(row, 2));
    blob->repository = g_strdup((const char *)sqlite3_column_text(row, 3));
    g_ptr_array_add(user, blob);
    return true;
}

bool registry_blobs_of_layer(struct registry *registry, const char *diff_id, GPtrArray **ret, GError **error)
{
    g_autoptr(GPtrArray) blobs = g_ptr_array_new_with_free_func(blob_free);
    if (!database_query(registry->database, take_blob, blobs, error,
                        "SELECT digest, size, media_type, repository FROM layer_blob WHERE diff_id = ? ORDER BY seen DESC", "s",
                        diff_id))
        return false;
    *ret = g_steal_pointer(&blobs);
    return true;
}

bool registry_note_blob(struct registry *registry, const char *diff_id, const char *digest, guint64 size, const char *media_type,
                        const char *repository, GError **error)
{
    return database_run(
        registry->database, error,
        "INSERT INTO layer_blob (diff_id, digest, repository, size, media_type, seen) SELECT ?, ?, ?, ?, ?, ? WHERE EXISTS "
        "(SELECT 1 FROM layer WHERE diff_id = ?) ON CONFLICT (diff_id, digest, repository) DO UPDATE SET seen = excluded.seen",
        "sssisis", diff_id, digest, repository, (gint64)size, media_type, timestamp_now(), diff_id);
}

/* ---- manifests ---- */

static void manifest_free(gpointer data)
{
    registry_manifest_clear(data);
    g_free(data);
}

static bool take_manifest(sqlite3_stmt *row, void *user, GError **error)
{
    struct registry_manifest *manifest = g_new0(struct registry_manifest, 1);
    const char *body = sqlite3_column_blob(row, 1);
    int length = sqlite3_column_bytes(row, 1);
    if (!registry_manifest_parse(body, (gsize)length, (const char *)sqlite3_column_text(row, 0), manifest, error)) {
        g_free(manifest);
        return false;
    }
    g_ptr_array_add(user, manifest);
    return true;
}

bool registry_manifests_of_image(struct registry *registry, const char *image_id, GPtrArray **ret, GError **error)
{
    g_autoptr(GPtrArray) manifests = g_ptr_array_new_with_free_func(manifest_free);
    if (!database_query(registry->database, take_manifest, manifests, error,
                        "SELECT media_type, body FROM manifest WHERE image = ? ORDER BY is_index, at, digest", "s", image_id))
        return false;
    *ret = g_steal_pointer(&manifests);
    return true;
}

bool registry_keep_manifest(struct registry *registry, const char *image_id, const struct registry_manifest *manifest,
                            GError **error)
{
    return database_run(
        registry->database, error,
        "INSERT INTO manifest (digest, image, media_type, is_index, body, at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        "sssibi", manifest->digest, image_id, manifest->media_type, (gint64)manifest->is_index, manifest->body, manifest->length,
        timestamp_now());
}

/* ---- layers that no image has yet ---- */

char *records_layer_holder(const char *diff_id)
{
    return g_strconcat(KEPT_HOLDER, diff_id, NULL);
}

bool records_expect_layer(struct registry *registry, const char *diff_id, GError **error)
{
    return database_run(registry->database, error, "REPLACE INTO pulled_layer (diff_id, at) VALUES (?, ?)", "si", diff_id,
                        timestamp_now());
}

static bool release_kept(struct registry *registry, const GPtrArray *diff_ids, const char *other_holder, GError **error)
{
    g_autoptr(GPtrArray) holders = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < diff_ids->len; i++)
        g_ptr_array_add(holders, records_layer_holder(diff_ids->pdata[i]));
    if (other_holder)
        g_ptr_array_add(holders, g_strdup(other_holder));
    g_ptr_array_add(holders, NULL);
    return image_store_release_holders(registry->images, (const char *const *)holders->pdata, error);
}

/* Also those that an image has: its pull was killed when all was done but this. */
void records_expire_layers(struct registry *registry, gint64 life_s)
{
    g_autoptr(GPtrArray) old = g_ptr_array_new_with_free_func(g_free);
    gint64 before = timestamp_now() - life_s * 1000000000;
    if (!database_get_strings(registry->database, old, NULL,
                              "SELECT diff_id FROM pulled_layer WHERE at < ? OR diff_id IN (SELECT diff_id FROM image_layer)",
                              "i", before) ||
        old->len == 0)
        return;
    if (release_kept(registry, old, NULL, NULL))
        database_run(registry->database, NULL,
                     "DELETE FROM pulled_layer WHERE at < ? OR diff_id IN (SELECT diff_id FROM image_layer)", "i", before);
}

static bool note_layers(struct registry *registry, const struct records_layer *layers, size_t n_layers, const char *repository,
                        GError **error)
{
    for (size_t i = 0; i < n_layers; i++)
        if (!registry_note_blob(registry, layers[i].diff_id, layers[i].digest, layers[i].size, layers[i].media_type, repository,
                                error) ||
            !database_run(registry->database, error, "DELETE FROM pulled_layer WHERE diff_id = ?", "s", layers[i].diff_id))
            return false;
    return true;
}

bool records_note_pull(struct registry *registry, const struct records_layer *layers, size_t n_layers, const char *repository,
                       const char *holder, GError **error)
{
    g_autoptr(GPtrArray) diff_ids = g_ptr_array_new();
    for (size_t i = 0; i < n_layers; i++)
        g_ptr_array_add(diff_ids, (gpointer)layers[i].diff_id);
    if (!database_begin(registry->database, false, error))
        return false;
    bool noted = note_layers(registry, layers, n_layers, repository, error);
    return database_end(registry->database, noted, error) && release_kept(registry, diff_ids, holder, error);
}
