#include "volume/volume.h"

#include "base/measure.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/filter.h"
#include "base/identifier.h"
#include "base/timestamp.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct volume_manager {
    struct database *database;
    const struct event_sink *events;
    char *directory;
    int directory_fd;
    GMutex lock; /* held over "look, then change" of records and their directories */
};

struct volume {
    char *name;
    gint64 created_ns;
    char *labels, *options; /* JSON texts or NULL */
    bool anonymous;
};

static void volume_free(struct volume *volume)
{
    g_free(volume->name);
    g_free(volume->labels);
    g_free(volume->options);
    g_free(volume);
}

static const char *const schema[] = {
    "CREATE TABLE volume (name TEXT PRIMARY KEY, created INTEGER NOT NULL, labels TEXT, options TEXT, anonymous INTEGER NOT "
    "NULL) WITHOUT ROWID;"
    "CREATE TABLE volume_use (volume TEXT NOT NULL REFERENCES volume(name) ON DELETE CASCADE, container TEXT NOT NULL, PRIMARY "
    "KEY (volume, container)) WITHOUT ROWID;"
    "CREATE INDEX volume_use_container ON volume_use(container);",
};

bool volume_manager_open(struct database *database, const char *data_root, const struct event_sink *events,
                         struct volume_manager **ret, GError **error)
{
    if (!database_migrate(database, "volume", schema, G_N_ELEMENTS(schema), error))
        return false;
    g_autofree char *directory = g_build_filename(data_root, "volumes", NULL);
    int fd = dir_make_path(directory, 0701, error);
    if (fd < 0)
        return false;
    dir_spread(fd);
    struct volume_manager *manager = g_new0(struct volume_manager, 1);
    manager->database = database;
    manager->events = events;
    manager->directory = g_steal_pointer(&directory);
    manager->directory_fd = fd;
    g_mutex_init(&manager->lock);
    *ret = manager;
    return true;
}

void volume_manager_close(struct volume_manager *manager)
{
    if (!manager)
        return;
    fd_close(manager->directory_fd);
    g_free(manager->directory);
    g_mutex_clear(&manager->lock);
    g_free(manager);
}

void volume_place_clear(struct volume_place *place)
{
    g_clear_pointer(&place->name, g_free);
    g_clear_pointer(&place->path, g_free);
}

/* ---- records ---- */

static bool read_volume(sqlite3_stmt *row, void *user, GError **error)
{
    struct volume *volume = g_new0(struct volume, 1);
    volume->name = g_strdup((const char *)sqlite3_column_text(row, 0));
    volume->created_ns = sqlite3_column_int64(row, 1);
    volume->labels = g_strdup((const char *)sqlite3_column_text(row, 2));
    volume->options = g_strdup((const char *)sqlite3_column_text(row, 3));
    volume->anonymous = sqlite3_column_int(row, 4);
    g_ptr_array_add(user, volume);
    return true;
}

/* All volumes, or the one of this name (an empty array where there is none). */
static bool load_volumes(struct volume_manager *manager, const char *name, GPtrArray **ret, GError **error)
{
    g_autoptr(GPtrArray) volumes = g_ptr_array_new_with_free_func((GDestroyNotify)volume_free);
    bool ok =
        name ? database_query(manager->database, read_volume, volumes, error,
                              "SELECT name, created, labels, options, anonymous FROM volume WHERE name = ?", "s", name)
             : database_query(manager->database, read_volume, volumes, error,
                              "SELECT name, created, labels, options, anonymous FROM volume ORDER BY created DESC, name", "");
    if (!ok)
        return false;
    *ret = g_steal_pointer(&volumes);
    return true;
}

static bool load_users(struct volume_manager *manager, const char *name, GPtrArray **ret, GError **error)
{
    g_autoptr(GPtrArray) users = g_ptr_array_new_with_free_func(g_free);
    if (!database_get_strings(manager->database, users, error,
                              "SELECT container FROM volume_use WHERE volume = ? ORDER BY container", "s", name))
        return false;
    *ret = g_steal_pointer(&users);
    return true;
}

static json_t *parse_or_null(const char *text)
{
    json_t *value = text ? json_loads(text, 0, NULL) : NULL;
    return value ? value : json_null();
}

static json_t *volume_json(struct volume_manager *manager, const struct volume *volume)
{
    char created[TIMESTAMP_ROOM];
    timestamp_format(volume->created_ns / 1000000000 * 1000000000, created);
    g_autofree char *path = g_build_filename(manager->directory, volume->name, "_data", NULL);
    return json_pack("{s:s, s:s, s:o, s:s, s:s, s:o, s:s}", "CreatedAt", created, "Driver", "local", "Labels",
                     parse_or_null(volume->labels), "Mountpoint", path, "Name", volume->name, "Options",
                     parse_or_null(volume->options), "Scope", "local");
}

static void emit(struct volume_manager *manager, const char *action, const char *name)
{
    g_autoptr(json_t) attributes = json_pack("{s:s}", "driver", "local");
    event_emit(manager->events, "volume", action, name, attributes);
}

/* ---- making ---- */

static bool check_name(const char *name, GError **error)
{
    if (strlen(name) < 2)
        return error_set(error, TARE_ERROR_INVALID,
                         "create %s: volume name is too short, names should be at least two alphanumeric characters", name);
    if (strlen(name) > 255 || !identifier_is_name(name))
        return error_set(error, TARE_ERROR_INVALID,
                         "create %s: \"%s\" includes invalid characters for a local volume name, only "
                         "\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to "
                         "pass a host directory, use absolute path",
                         name, name);
    return true;
}

static bool check_driver(const char *name, const char *driver, const json_t *options, GError **error)
{
    if (driver && *driver && strcmp(driver, "local"))
        return error_set(error, TARE_ERROR_NOT_FOUND, "create %s: error looking up volume plugin %s: plugin \"%s\" not found",
                         name, driver, driver);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)options, key, value)
    {
        if (strcmp(key, "type") && strcmp(key, "o") && strcmp(key, "device"))
            return error_set(error, TARE_ERROR_INVALID, "create %s: invalid option: \"%s\"", name, key);
        return error_set(error, TARE_ERROR_NOT_IMPLEMENTED,
                         "create %s: mount options of the local driver are not supported by this engine", name);
    }
    return true;
}

static bool make_directories(struct volume_manager *manager, const char *name, GError **error)
{
    g_autofd int outer = dir_make(manager->directory_fd, name, 0701, error);
    if (outer < 0)
        return false;
    /* One that is there has the mode that its users gave it. */
    if (faccessat(outer, "_data", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return true;
    g_autofd int data = dir_make(outer, "_data", 0755, error);
    if (data < 0)
        return false;
    /* Whatever the engine's umask is: a container's user must get in. */
    if (fchmod(data, 0755) < 0)
        return error_set_errno(error, errno, "set mode of volume %s", name);
    return true;
}

struct volume_draft {
    const char *name, *driver;
    const json_t *options, *labels;
    bool anonymous;
    const char *container; /* its user, or NULL */
};

/* Volume and use in one: what a death cuts off is found by its user, which then does not exist. */
static bool insert_records(struct volume_manager *manager, const struct volume_draft *draft, bool present, GError **error)
{
    g_autofree char *labels = json_is_object(draft->labels) ? json_text(draft->labels) : NULL;
    g_autofree char *options = json_is_object(draft->options) ? json_text(draft->options) : NULL;
    if (!database_begin(manager->database, false, error))
        return false;
    bool ok = (present || database_run(manager->database, error,
                                       "INSERT INTO volume (name, created, labels, options, anonymous) VALUES (?, ?, ?, ?, ?)",
                                       "sissi", draft->name, timestamp_now(), labels, options, (gint64)draft->anonymous)) &&
              (!draft->container ||
               database_run(manager->database, error, "INSERT OR IGNORE INTO volume_use (volume, container) VALUES (?, ?)", "ss",
                            draft->name, draft->container));
    return database_end(manager->database, ok, error);
}

/* Caller holds the lock. True and *ret_created false where it exists already. The record first: a directory without one would be
 * nobody's, and one that is missing is made here. */
static bool ensure_volume(struct volume_manager *manager, const struct volume_draft *draft, bool *ret_created, GError **error)
{
    const char *name = draft->name;
    gint64 present;
    if (!check_driver(name, draft->driver, draft->options, error) || !check_name(name, error) ||
        !database_get_int(manager->database, 0, &present, error, "SELECT count(*) FROM volume WHERE name = ?", "s", name) ||
        !insert_records(manager, draft, present, error))
        return false;
    *ret_created = !present;
    if (!make_directories(manager, name, error)) {
        g_prefix_error(error, "create %s: ", name);
        if (!present)
            database_run(manager->database, NULL, "DELETE FROM volume WHERE name = ?", "s", name);
        return false;
    }
    if (!present)
        emit(manager, "create", name);
    return true;
}

bool volume_create(struct volume_manager *manager, const json_t *body, json_t **ret, GError **error)
{
    char random[IDENTIFIER_LENGTH + 1];
    const char *name = json_string_value(json_get_folded(body, "Name")),
               *driver = json_string_value(json_get_folded(body, "Driver"));
    bool anonymous = !name || !*name, created;
    if (anonymous) {
        identifier_new(random);
        name = random;
    }
    /* As Docker: created through the API, both are objects even when nothing was given. */
    const json_t *given_labels = json_get_folded(body, "Labels"), *given_options = json_get_folded(body, "DriverOpts");
    g_autoptr(json_t) labels = json_is_object(given_labels) ? json_deep_copy(given_labels) : json_object();
    g_autoptr(json_t) options = json_is_object(given_options) ? json_deep_copy(given_options) : json_object();
    if (anonymous)
        json_object_set_new(labels, "com.docker.volume.anonymous", json_string(""));
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&manager->lock);
    const struct volume_draft draft = {
        .name = name, .driver = driver, .options = options, .labels = labels, .anonymous = anonymous
    };
    if (!ensure_volume(manager, &draft, &created, error))
        return false;
    return volume_inspect(manager, name, ret, error);
}

bool volume_acquire(struct volume_manager *manager, const struct volume_request *request, struct volume_place *ret,
                    GError **error)
{
    char random[IDENTIFIER_LENGTH + 1];
    const char *name = request->name;
    bool created;
    if (!name) {
        identifier_new(random);
        name = random;
    }
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&manager->lock);
    const struct volume_draft draft = { name,           request->driver,   request->options, request->labels,
                                        !request->name, request->container };
    if (!ensure_volume(manager, &draft, &created, error))
        return false;
    ret->name = g_strdup(name);
    ret->path = g_build_filename(manager->directory, name, "_data", NULL);
    ret->created = created;
    return true;
}

/* ---- looking ---- */

bool volume_inspect(struct volume_manager *manager, const char *name, json_t **ret, GError **error)
{
    g_autoptr(GPtrArray) volumes = NULL;
    if (!load_volumes(manager, name, &volumes, error))
        return false;
    if (!volumes->len)
        return error_set(error, TARE_ERROR_NOT_FOUND, "get %s: no such volume", name);
    *ret = volume_json(manager, volumes->pdata[0]);
    return true;
}

bool volume_list(struct volume_manager *manager, const json_t *filters, json_t **ret, GError **error)
{
    static const char *const accepted[] = { "dangling", "driver", "label", "name", NULL };
    g_autoptr(GPtrArray) volumes = NULL;
    bool dangling;
    if (!filters_validate(filters, accepted, error) || !filters_bool(filters, "dangling", false, &dangling, error) ||
        !load_volumes(manager, NULL, &volumes, error))
        return false;
    g_autoptr(json_t) list = json_array();
    for (guint i = 0; i < volumes->len; i++) {
        const struct volume *volume = volumes->pdata[i];
        g_autoptr(json_t) labels = parse_or_null(volume->labels);
        if (!filters_matches(filters, "name", volume->name) || !filters_matches_exactly(filters, "driver", "local") ||
            !filters_matches_labels(filters, labels))
            continue;
        if (filters_has(filters, "dangling")) {
            gint64 uses;
            if (!database_get_int(manager->database, 0, &uses, error, "SELECT count(*) FROM volume_use WHERE volume = ?", "s",
                                  volume->name))
                return false;
            if (dangling != (uses == 0))
                continue;
        }
        json_array_append_new(list, volume_json(manager, volume));
    }
    *ret = json_pack("{s:O, s:n}", "Volumes", list, "Warnings");
    return true;
}

/* ---- removing ---- */

/* Data that goes is renamed before its record is deleted: after a death in between, the name says that the removal was decided.
 * No volume's name begins so. */
#define GONE_PREFIX ".gone-"

static bool put_away(struct volume_manager *manager, const char *name, GError **error)
{
    g_autofree char *gone = g_strconcat(GONE_PREFIX, name, NULL);
    if (renameat(manager->directory_fd, name, manager->directory_fd, gone) == 0 || errno == ENOENT)
        return true;
    return error_set_errno(error, errno, "remove %s", name);
}

static bool drop_data(struct volume_manager *manager, const char *name, GError **error)
{
    g_autofree char *gone = g_strconcat(GONE_PREFIX, name, NULL);
    return dir_remove_tree(manager->directory_fd, gone, error);
}

/* Caller holds the lock. */
static bool delete_volume(struct volume_manager *manager, const char *name, GError **error)
{
    if (!put_away(manager, name, error) ||
        !database_run(manager->database, error, "DELETE FROM volume WHERE name = ?", "s", name) ||
        !drop_data(manager, name, error))
        return false;
    emit(manager, "destroy", name);
    return true;
}

/* Removals that an earlier engine did not end. */
static bool finish_removals(struct volume_manager *manager, GError **error)
{
    g_autoptr(GDir) directory = g_dir_open(manager->directory, 0, NULL);
    for (const char *name; directory && (name = g_dir_read_name(directory));)
        if (g_str_has_prefix(name, GONE_PREFIX) &&
            (!database_run(manager->database, error, "DELETE FROM volume WHERE name = ?", "s", name + strlen(GONE_PREFIX)) ||
             !dir_remove_tree(manager->directory_fd, name, error)))
            return false;
    return true;
}

bool volume_remove(struct volume_manager *manager, const char *name, bool force, GError **error)
{
    g_autoptr(GPtrArray) volumes = NULL;
    g_autoptr(GPtrArray) users = NULL;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&manager->lock);
    if (!load_volumes(manager, name, &volumes, error) || !load_users(manager, name, &users, error))
        return false;
    if (!volumes->len)
        return force || error_set(error, TARE_ERROR_NOT_FOUND, "get %s: no such volume", name);
    if (users->len) {
        g_ptr_array_add(users, NULL);
        g_autofree char *ids = g_strjoinv(", ", (char **)users->pdata);
        return error_set(error, TARE_ERROR_CONFLICT, "remove %s: volume is in use - [%s]", name, ids);
    }
    return delete_volume(manager, name, error);
}

/* As docker measures it, without the directory itself. */
static guint64 volume_bytes(struct volume_manager *manager, const char *name)
{
    struct measure measured;
    measure_tree(manager->directory_fd, name, &measured);
    return measured.content_bytes;
}

bool volume_usage(struct volume_manager *manager, const char *name, json_t **ret, GError **error)
{
    g_autoptr(GPtrArray) users = NULL;
    if (!check_name(name, error))
        return false;
    g_mutex_lock(&manager->lock);
    bool ok = load_users(manager, name, &users, error);
    g_mutex_unlock(&manager->lock);
    if (!ok)
        return false;
    *ret = json_pack("{s:I, s:I}", "Size", (json_int_t)volume_bytes(manager, name), "RefCount", (json_int_t)users->len);
    return true;
}

bool volume_prune(struct volume_manager *manager, const json_t *filters, unsigned api_version, json_t **ret, GError **error)
{
    static const char *const accepted[] = { "label", "label!", "all", NULL };
    g_autoptr(GPtrArray) volumes = NULL;
    bool all;
    if (!filters_validate(filters, accepted, error) || !filters_bool(filters, "all", api_version % 100 < 42, &all, error))
        return false;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&manager->lock);
    if (!load_volumes(manager, NULL, &volumes, error))
        return false;
    g_autoptr(json_t) deleted = json_array();
    guint64 reclaimed = 0;
    for (guint i = 0; i < volumes->len; i++) {
        const struct volume *volume = volumes->pdata[i];
        g_autoptr(json_t) labels = parse_or_null(volume->labels);
        g_autoptr(GPtrArray) users = NULL;
        if (!load_users(manager, volume->name, &users, error))
            return false;
        if (users->len || (!all && !volume->anonymous) || !filters_matches_labels(filters, labels))
            continue;
        guint64 bytes = volume_bytes(manager, volume->name);
        if (!delete_volume(manager, volume->name, error))
            return false;
        reclaimed += bytes;
        json_array_append_new(deleted, json_string(volume->name));
    }
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, reclaimed);
    g_autoptr(json_t) attributes = json_pack("{s:s}", "reclaimed", text);
    event_emit(manager->events, "volume", "prune", "", attributes);
    *ret = json_pack("{s:O, s:I}", "VolumesDeleted", deleted, "SpaceReclaimed", (json_int_t)reclaimed);
    return true;
}

bool volume_release(struct volume_manager *manager, const char *container, bool remove_anonymous, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&manager->lock);
    if (remove_anonymous &&
        !database_get_strings(
            manager->database, names, error,
            "SELECT name FROM volume JOIN volume_use ON volume = name WHERE container = ?1 AND anonymous "
            "AND NOT EXISTS (SELECT 1 FROM volume_use AS other WHERE other.volume = name AND other.container <> ?1)",
            "s", container))
        return false;
    /* All that goes is marked before the uses are forgotten. */
    for (guint i = 0; i < names->len; i++)
        if (!put_away(manager, names->pdata[i], error))
            return false;
    if (!database_run(manager->database, error, "DELETE FROM volume_use WHERE container = ?", "s", container))
        return false;
    bool ok = true;
    for (guint i = 0; i < names->len; i++)
        ok = delete_volume(manager, names->pdata[i], ok ? error : NULL) && ok;
    return ok;
}

bool volume_sweep(struct volume_manager *manager, bool (*is_user)(void *user, const char *container), void *user, GError **error)
{
    g_autoptr(GPtrArray) users = g_ptr_array_new_with_free_func(g_free);
    if (!database_get_strings(manager->database, users, error, "SELECT DISTINCT container FROM volume_use", ""))
        return false;
    for (guint i = 0; i < users->len; i++)
        if (!is_user(user, users->pdata[i]) && !volume_release(manager, users->pdata[i], true, error))
            return false;
    return finish_removals(manager, error);
}
