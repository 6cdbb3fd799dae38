/* Container records in the database. Memory is the truth while the engine runs; a row is what the next engine starts from. */
#include "container/container-internal.h"

#include "base/log.h"

#include <string.h>

static const char *const schema[] = {
    "CREATE TABLE container ("
    "  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image TEXT NOT NULL, diff_ids TEXT NOT NULL, created INTEGER NOT NULL,"
    "  config TEXT NOT NULL, host_config TEXT NOT NULL, networking TEXT NOT NULL, mounts TEXT NOT NULL, volatile INTEGER NOT "
    "NULL,"
    "  status INTEGER NOT NULL, exit_code INTEGER NOT NULL, started INTEGER NOT NULL, finished INTEGER NOT NULL, oom_killed "
    "INTEGER NOT NULL,"
    "  restart_count INTEGER NOT NULL, stopped_by_user INTEGER NOT NULL, has_been_started INTEGER NOT NULL, error TEXT, endpoint "
    "TEXT"
    ") WITHOUT ROWID;",
    /* What is asked for after a container that removed itself has gone: by clients whose engine died before it could answer. */
    "CREATE TABLE departed (slot INTEGER PRIMARY KEY, id TEXT NOT NULL, exit_code INTEGER NOT NULL);",
    "ALTER TABLE container ADD COLUMN health TEXT;",
    "ALTER TABLE container ADD COLUMN process_label TEXT;",
    "ALTER TABLE container ADD COLUMN mount_label TEXT;",
};
#define DEPARTED_MAX 256

bool records_migrate(struct database *database, GError **error)
{
    return database_migrate(database, "container", schema, G_N_ELEMENTS(schema), error);
}

bool record_insert(struct container *container, GError **error)
{
    g_autofree char *config = json_text(container->config);
    g_autofree char *host_config = json_text(container->host_config);
    g_autofree char *networking = json_text(container->networking);
    g_autofree char *mounts = json_text(container->mounts);
    g_autofree char *diff_ids = g_strjoinv(" ", container->diff_ids);
    return database_run(container->manager->database, error,
                        "INSERT INTO container (id, name, image, diff_ids, created, config, host_config, networking, mounts, "
                        "volatile, status, exit_code, started,"
                        " finished, oom_killed, restart_count, stopped_by_user, has_been_started, error, endpoint, "
                        "process_label, mount_label)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, ?, ?)",
                        "ssssissssiss", container->id, container->name, container->image_id, diff_ids, container->created_ns,
                        config, host_config, networking, mounts, (gint64)container->is_volatile, container->process_label,
                        container->mount_label);
}

bool record_save_state(struct container *container, GError **error)
{
    g_mutex_lock(&container->lock);
    struct container_state state = container->state;
    g_autofree char *error_text = g_strdup(container->error);
    g_autofree char *endpoint = container->endpoint ? json_text(container->endpoint) : NULL;
    g_autofree char *health = container->health ? json_text(container->health) : NULL;
    g_mutex_unlock(&container->lock);
    return database_run(container->manager->database, error,
                        "UPDATE container SET status = ?, exit_code = ?, started = ?, finished = ?, oom_killed = ?, "
                        "restart_count = ?, stopped_by_user = ?,"
                        " has_been_started = ?, error = ?, endpoint = ?, health = ? WHERE id = ?",
                        "iiiiiiiissss", (gint64)state.status, (gint64)state.exit_code, state.started_at, state.finished_at,
                        (gint64)state.oom_killed, (gint64)state.restart_count, (gint64)state.stopped_by_user,
                        (gint64)state.has_been_started, error_text, endpoint, health, container->id);
}

void record_keep_state(struct container *container)
{
    g_autoptr(GError) error = NULL;
    if (!record_save_state(container, &error))
        log_error(error, "state of a container", "container", container->id, NULL);
}

bool record_save_host_config(struct container *container, GError **error)
{
    g_autoptr(json_t) host_config = container_get_host_config(container);
    g_autofree char *text = json_text(host_config);
    return database_run(container->manager->database, error, "UPDATE container SET host_config = ? WHERE id = ?", "ss", text,
                        container->id);
}

bool record_save_name(struct container_manager *manager, const char *id, const char *name, GError **error)
{
    return database_run(manager->database, error, "UPDATE container SET name = ? WHERE id = ?", "ss", name, id);
}

bool record_delete(struct container_manager *manager, const char *id, GError **error)
{
    return database_run(manager->database, error, "DELETE FROM container WHERE id = ?", "s", id);
}

/* REPLACE, not INSERT: a removal is not to be refused by a full disk, and these are few. */
static bool note_departure(struct container_manager *manager, const char *id, int exit_code, GError **error)
{
    return database_run(
               manager->database, error,
               "REPLACE INTO departed (slot, id, exit_code) VALUES ((SELECT ifnull(max(slot), 0) + 1 FROM departed), ?, ?)", "si",
               id, (gint64)exit_code) &&
           database_run(manager->database, error, "DELETE FROM departed WHERE slot <= (SELECT max(slot) FROM departed) - ?", "i",
                        (gint64)DEPARTED_MAX);
}

bool record_delete_departing(struct container_manager *manager, const char *id, int exit_code, GError **error)
{
    if (!database_begin(manager->database, false, error))
        return false;
    bool ok = record_delete(manager, id, error) && note_departure(manager, id, exit_code, error);
    return database_end(manager->database, ok, error);
}

bool record_departed(struct container_manager *manager, const char *id, int *ret_exit_code)
{
    gint64 code = -1;
    if (strlen(id) != IDENTIFIER_LENGTH ||
        !database_get_int(manager->database, -1, &code, NULL, "SELECT exit_code FROM departed WHERE id = ?", "s", id))
        return false;
    *ret_exit_code = (int)code;
    return code >= 0;
}

static json_t *column_json(sqlite3_stmt *row, int column)
{
    const char *text = (const char *)sqlite3_column_text(row, column);
    json_t *value = text ? json_loads(text, 0, NULL) : NULL;
    return value;
}

static json_t *unpack(const struct container *container, const char *text, bool is_list)
{
    json_t *value = text ? json_loads(text, 0, NULL) : NULL;
    if (is_list ? json_is_array(value) : json_is_object(value))
        return value;
    log_line(LOG_LEVEL_ERROR, "the record is damaged", "container", container->id, NULL);
    json_decref(value);
    return is_list ? json_array() : json_object();
}

void packed_free(struct packed_documents *packed)
{
    if (!packed)
        return;
    g_free(packed->config);
    g_free(packed->host_config);
    g_free(packed->networking);
    g_free(packed->mounts);
    g_free(packed);
}

void container_unpack(struct container *container)
{
    if (!g_atomic_pointer_get(&container->packed))
        return;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&container->manager->unpack_lock);
    struct packed_documents *packed = container->packed;
    if (!packed)
        return;
    container->config = unpack(container, packed->config, false);
    container->host_config = unpack(container, packed->host_config, false);
    container->networking = unpack(container, packed->networking, false);
    container->mounts = unpack(container, packed->mounts, true);
    g_atomic_pointer_set(&container->packed, NULL);
    packed_free(packed);
}

static bool load_row(sqlite3_stmt *row, void *user, GError **error)
{
    struct container_manager *manager = user;
    struct container *container = container_new(manager);
    g_strlcpy(container->id, (const char *)sqlite3_column_text(row, 0), sizeof(container->id));
    container->name = g_strdup((const char *)sqlite3_column_text(row, 1));
    container->image_id = g_strdup((const char *)sqlite3_column_text(row, 2));
    const char *diff_ids = (const char *)sqlite3_column_text(row, 3);
    container->diff_ids = g_strsplit(diff_ids, " ", -1);
    container->created_ns = sqlite3_column_int64(row, 4);
    container->packed = g_new0(struct packed_documents, 1);
    char **const documents[] = { &container->packed->config, &container->packed->host_config, &container->packed->networking,
                                 &container->packed->mounts };
    for (int i = 0; i < (int)G_N_ELEMENTS(documents); i++)
        *documents[i] = g_strdup((const char *)sqlite3_column_text(row, 5 + i));
    container->is_volatile = sqlite3_column_int(row, 9);
    struct container_state *state = &container->state;
    state->status = CLAMP(sqlite3_column_int(row, 10), 0, CONTAINER_DEAD);
    state->exit_code = sqlite3_column_int(row, 11);
    state->started_at = sqlite3_column_int64(row, 12);
    state->finished_at = sqlite3_column_int64(row, 13);
    state->oom_killed = sqlite3_column_int(row, 14);
    state->restart_count = sqlite3_column_int(row, 15);
    state->stopped_by_user = sqlite3_column_int(row, 16);
    state->has_been_started = sqlite3_column_int(row, 17);
    container->error = g_strdup((const char *)sqlite3_column_text(row, 18));
    container->endpoint = column_json(row, 19);
    container->health = column_json(row, 20);
    container->process_label = g_strdup((const char *)sqlite3_column_text(row, 21));
    container->mount_label = g_strdup((const char *)sqlite3_column_text(row, 22));
    selinux_hold(manager->selinux, container->process_label);
    if (!table_reserve_name(manager, container->name, container->id, error)) {
        container_unref(container);
        return false;
    }
    table_add(manager, container);
    container_unref(container);
    return true;
}

bool records_load(struct container_manager *manager, GError **error)
{
    return database_query(
        manager->database, load_row, manager, error,
        "SELECT id, name, image, diff_ids, created, config, host_config, networking, mounts, volatile, status, "
        "exit_code, started, finished,"
        " oom_killed, restart_count, stopped_by_user, has_been_started, error, endpoint, health, process_label, mount_label FROM "
        "container",
        "");
}
