/* The build cache: (parent image, what the step does) → image. An entry whose image is gone is dropped when it is met. */
#include "base/digest.h"
#include "base/timestamp.h"
#include "build/build-internal.h"

#include <string.h>

static const char *const schema[] = {
    "CREATE TABLE build_cache (parent TEXT NOT NULL, key TEXT NOT NULL, image TEXT NOT NULL, created INTEGER NOT NULL, "
    "PRIMARY KEY (parent, key)) WITHOUT ROWID",
};

bool cache_migrate(struct database *database, GError **error)
{
    return database_migrate(database, "build", schema, G_N_ELEMENTS(schema), error);
}

/* What Docker compares of two configs; times and names of hosts are none of it. */
char *cache_key(const struct build *build, const json_t *cmd, const json_t *entrypoint)
{
    static const char *const compared[] = { "User", "ExposedPorts", "Tty", "OpenStdin", "Env", "Volumes", "Labels" };
    g_autoptr(json_t) canonical = run_config_canonical(build->state->metadata.config);
    g_autoptr(json_t) key = json_object();
    g_autofree char *text = NULL;
    char digest[DIGEST_ROOM];

    for (size_t i = 0; i < G_N_ELEMENTS(compared); i++)
        json_object_set(key, compared[i], json_object_get(canonical, compared[i]));
    json_object_set(key, "Cmd", (json_t *)cmd);
    json_object_set(key, "Entrypoint", entrypoint ? (json_t *)entrypoint : json_object_get(canonical, "Entrypoint"));
    json_object_set_new(key, "Platform", json_string(build->request->platform ? build->request->platform : ""));
    text = json_dumps(key, JSON_SORT_KEYS | JSON_COMPACT);
    digest_of(text, strlen(text), digest);
    return g_strdup(digest);
}

bool cache_store(struct build *build, const char *parent, const char *key, GError **error)
{
    build->made_images = true;
    return database_run(build->builder->database, error,
                        "INSERT OR REPLACE INTO build_cache (parent, key, image, created) VALUES (?, ?, ?, ?)", "sssi", parent,
                        key, build->state->image->id, timestamp_now());
}

bool cache_finish(struct build *build, const struct image *image, GError **error)
{
    struct database *database = build->builder->database;

    if (!database_begin(database, true, error))
        return false;
    if (database_run(database, error, "UPDATE build_cache SET created = ? WHERE image = ?", "is", timestamp_now(), image->id))
        return database_commit(database, error);
    database_rollback(database);
    return false;
}

bool cache_probe(struct build *build, const json_t *cmd, const json_t *entrypoint, bool *ret_hit, GError **error)
{
    g_autofree char *key = NULL, *id = NULL;
    struct image *image;

    *ret_hit = false;
    if (build->request->no_cache || build->state->cache_missed)
        return true;
    key = cache_key(build, cmd, entrypoint);
    if (!database_get_string(build->builder->database, &id, error, "SELECT image FROM build_cache WHERE parent = ? AND key = ?",
                             "ss", build_parent_id(build), key))
        return false;
    if (!id || !image_store_get(build->builder->images, id, &image, NULL)) {
        build->state->cache_missed = true;
        return !id || database_run(build->builder->database, error, "DELETE FROM build_cache WHERE image = ?", "s", id);
    }
    if (build->state->image)
        image_unref(build->state->image);
    build->state->image = image;
    build_stream_text(&build->stream, " ---> Using cache\n");
    *ret_hit = true;
    return true;
}

bool builder_prune(struct builder *builder, json_t **ret, GError **error)
{
    if (!database_run(builder->database, error, "DELETE FROM build_cache", ""))
        return false;
    *ret = json_pack("{s:n, s:i}", "CachesDeleted", "SpaceReclaimed", 0);
    return true;
}
