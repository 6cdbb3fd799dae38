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
    "WITHOUT ROWID;",
};

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
                        "SELECT media_type, body FROM manifest WHERE image = ? ORDER BY is_index, digest", "s", image_id))
        return false;
    *ret = g_steal_pointer(&manifests);
    return true;
}

bool registry_keep_manifest(struct registry *registry, const char *image_id, const struct registry_manifest *manifest,
                            GError **error)
{
    return database_run(
        registry->database, error,
        "INSERT INTO manifest (digest, image, media_type, is_index, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", "sssib",
        manifest->digest, image_id, manifest->media_type, (gint64)manifest->is_index, manifest->body, manifest->length);
}
