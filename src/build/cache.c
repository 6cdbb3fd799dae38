/* The build cache: (parent image, what the step does) → image. An entry whose image is gone is dropped when it is met. */
#include "base/digest.h"
#include "base/fd.h"
#include "base/timestamp.h"
#include "build/build-internal.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

static const char *const schema[] = {
    "CREATE TABLE build_cache (parent TEXT NOT NULL, key TEXT NOT NULL, image TEXT NOT NULL, created INTEGER NOT NULL, "
    "PRIMARY KEY (parent, key)) WITHOUT ROWID",
    "CREATE TABLE build_context (key TEXT PRIMARY KEY, layers TEXT NOT NULL, listing BLOB NOT NULL, digests BLOB NOT NULL, "
    "created INTEGER NOT NULL, used INTEGER NOT NULL)",
    /* Listings and digests are in files since then. */
    "ALTER TABLE build_context ADD COLUMN listing_bytes INTEGER NOT NULL DEFAULT 0",
    "UPDATE build_context SET listing = x'', digests = x''",
};

bool cache_migrate(struct database *database, GError **error)
{
    return database_migrate(database, "build", schema, G_N_ELEMENTS(schema), error);
}

/* What Docker compares of two configs; times and names of hosts are none of it. */
char *cache_key(const struct build *build, const json_t *cmd, const json_t *entrypoint)
{
    static const char *const compared[] = { "User", "ExposedPorts", "Tty", "OpenStdin", "Env", "Volumes", "Labels" };
    g_autoptr(json_t) canonical = image_canonical_config(build->state->metadata.config);
    const char *epoch = json_get_string(build->request->build_args, "SOURCE_DATE_EPOCH", NULL);
    g_autoptr(json_t) key = json_object();
    g_autofree char *text = NULL;
    char digest[DIGEST_ROOM];

    for (size_t i = 0; i < G_N_ELEMENTS(compared); i++)
        json_object_set(key, compared[i], json_object_get(canonical, compared[i]));
    json_object_set(key, "Cmd", (json_t *)cmd);
    json_object_set(key, "Entrypoint", entrypoint ? (json_t *)entrypoint : json_object_get(canonical, "Entrypoint"));
    json_object_set_new(key, "Platform", json_string(build->request->platform ? build->request->platform : ""));
    if (epoch)
        json_object_set_new(key, "Epoch", json_string_lossy(epoch));
    if (build->cache_extra)
        json_object_set_new(key, "Extra", json_string_lossy(build->cache_extra));
    text = json_dumps(key, JSON_SORT_KEYS | JSON_COMPACT);
    digest_of(text, strlen(text), digest);
    return g_strdup(digest);
}

/* ---- the same step at the same time ---- */

/* Whoever does a step now; others that come to the same one wait for its end. */
struct flight {
    char *name;
    guint references; /* under the builder's flights_lock, as all here */
    int fd;           /* an eventfd, made by the first who waits; readable at the end */
    bool over;
};

static void flight_unref(struct flight *flight)
{
    if (--flight->references > 0)
        return;
    fd_close(flight->fd);
    g_free(flight->name);
    g_free(flight);
}

void cache_end_flight(struct build *build)
{
    struct flight *flight = g_steal_pointer(&build->flight);
    struct builder *builder = build->builder;
    guint64 one = 1;

    if (!flight)
        return;
    g_mutex_lock(&builder->flights_lock);
    g_hash_table_remove(builder->flights, flight->name);
    flight->over = true;
    if (flight->fd >= 0)
        fd_write_full(flight->fd, &one, sizeof one);
    flight_unref(flight);
    g_mutex_unlock(&builder->flights_lock);
}

/* Under the lock, which is let go of meanwhile. */
static bool wait_for_flight(struct build *build, struct flight *flight, GError **error)
{
    struct builder *builder = build->builder;
    bool good;

    if (flight->fd < 0)
        flight->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    flight->references++;
    g_mutex_unlock(&builder->flights_lock);
    good = cancel_poll(build->cancel, flight->fd, POLLIN, -1, error) >= 0;
    g_mutex_lock(&builder->flights_lock);
    flight_unref(flight);
    return good;
}

/* Returns when nobody else is at this step; until cache_end_flight nobody else will be. */
static bool begin_flight(struct build *build, const char *key, GError **error)
{
    g_autofree char *name = g_strconcat(build_parent_id(build), " ", key, NULL);
    struct builder *builder = build->builder;
    struct flight *other;
    bool good = true;

    g_mutex_lock(&builder->flights_lock);
    while (good && (other = g_hash_table_lookup(builder->flights, name)))
        good = wait_for_flight(build, other, error);
    if (good) {
        build->flight = g_new0(struct flight, 1);
        build->flight->fd = -1;
        build->flight->references = 1;
        build->flight->name = g_steal_pointer(&name);
        g_hash_table_insert(builder->flights, build->flight->name, build->flight);
    }
    g_mutex_unlock(&builder->flights_lock);
    return good;
}

/* ---- probing and storing ---- */

/* With --no-cache only what this build has made itself counts: a step that stands in two of its stages is done once. */
static bool may_use(struct build *build, const char *parent, const char *key)
{
    g_autofree char *name = g_strconcat(parent, " ", key, NULL);

    return !build->no_cache || build_made_step(build, name, false);
}

bool cache_store(struct build *build, const char *parent, const char *key, GError **error)
{
    g_autofree char *name = g_strconcat(parent, " ", key, NULL);
    bool good;

    build->made_images = true;
    good = database_run(build->builder->database, error,
                        "INSERT OR REPLACE INTO build_cache (parent, key, image, created) VALUES (?, ?, ?, ?)", "sssi", parent,
                        key, build->state->image->id, timestamp_now());
    build_made_step(build, name, good);
    cache_end_flight(build);
    return good;
}

bool cache_finish(struct build *build, const struct image *image, GError **error)
{
    struct database *database = build->builder->database;

    return database_begin(database, true, error) &&
           database_end(database,
                        database_run(database, error, "UPDATE build_cache SET created = ? WHERE image = ?", "is", timestamp_now(),
                                     image->id),
                        error);
}

/* From an image of --cache-from, which is remembered like a step of our own. */
static bool take_over(struct build *build, const json_t *cmd, const char *key, bool *ret_hit, GError **error)
{
    g_autofree char *parent = g_strdup(build_parent_id(build));

    if (!cache_take_over(build, cmd, ret_hit, error))
        return false;
    if (!*ret_hit)
        return true;
    build->was_cached = true;
    build_stream_text(&build->stream, " ---> Using cache\n");
    return cache_store(build, parent, key, error);
}

bool cache_probe(struct build *build, const json_t *cmd, const json_t *entrypoint, bool *ret_hit, GError **error)
{
    g_autofree char *key = NULL, *id = NULL;
    struct image *image;

    *ret_hit = false;
    key = cache_key(build, cmd, entrypoint);
    if (!begin_flight(build, key, error))
        return false;
    if (!may_use(build, build_parent_id(build), key))
        return true;
    if (!database_get_string(build->builder->database, &id, error, "SELECT image FROM build_cache WHERE parent = ? AND key = ?",
                             "ss", build_parent_id(build), key))
        return false;
    if (!id || !image_store_get(build->builder->images, id, &image, NULL)) {
        if (!build->no_cache && !take_over(build, cmd, key, ret_hit, error))
            return false;
        return !id || *ret_hit ||
               database_run(build->builder->database, error, "DELETE FROM build_cache WHERE image = ?", "s", id);
    }
    if (build->state->image)
        image_unref(build->state->image);
    build->state->image = image;
    build_stream_text(&build->stream, " ---> Using cache\n");
    *ret_hit = build->was_cached = true;
    cache_end_flight(build);
    return true;
}
