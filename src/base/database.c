#include "base/database.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <unistd.h>

#define RESERVE_BYTES (1 << 20)

struct database {
    sqlite3 *handle;
    GRecMutex lock;
    char *reserve_path;
    GHashTable *statements; /* sql text (static) → sqlite3_stmt *, prepared once */
    bool is_durable;        /* the open transaction is */
};

static bool set_sqlite_error(struct database *database, const char *what, GError **error)
{
    int code = sqlite3_errcode(database->handle);
    enum tare_error kind = TARE_ERROR_INTERNAL;
    if (code == SQLITE_FULL || (code == SQLITE_IOERR && sqlite3_system_errno(database->handle) == ENOSPC))
        return error_set(error, TARE_ERROR_NO_SPACE, "database: %s: no space left on device", what);
    if (code == SQLITE_CONSTRAINT)
        kind = TARE_ERROR_CONFLICT;
    return error_set(error, kind, "database: %s: %s", what, sqlite3_errmsg(database->handle));
}

static bool execute(struct database *database, const char *sql, GError **error)
{
    return sqlite3_exec(database->handle, sql, NULL, NULL, NULL) == SQLITE_OK || set_sqlite_error(database, sql, error);
}

static void finalize_statement(gpointer statement)
{
    sqlite3_finalize(statement);
}

bool database_open(const char *path, struct database **ret, GError **error)
{
    struct database *database = g_new0(struct database, 1);
    g_rec_mutex_init(&database->lock);
    database->reserve_path = g_strconcat(path, ".reserve", NULL);
    database->statements = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, finalize_statement);
    if (sqlite3_open_v2(path, &database->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) !=
            SQLITE_OK ||
        !execute(database, "PRAGMA journal_mode=WAL", NULL) || !execute(database, "PRAGMA synchronous=NORMAL", NULL) ||
        !execute(database, "PRAGMA foreign_keys=ON", NULL) ||
        !execute(database,
                 "CREATE TABLE IF NOT EXISTS schema_version (module TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID",
                 NULL)) {
        set_sqlite_error(database, path, error);
        database_close(database);
        return false;
    }
    sqlite3_busy_timeout(database->handle, 5000);
    database_restore_reserve(database);
    *ret = database;
    return true;
}

void database_close(struct database *database)
{
    if (!database)
        return;
    g_hash_table_unref(database->statements);
    sqlite3_close(database->handle);
    g_rec_mutex_clear(&database->lock);
    g_free(database->reserve_path);
    g_free(database);
}

bool database_migrate(struct database *database, const char *module, const char *const *steps, size_t n_steps, GError **error)
{
    gint64 version;
    if (!database_get_int(database, 0, &version, error, "SELECT version FROM schema_version WHERE module = ?", "s", module))
        return false;
    if (version > (gint64)n_steps)
        return error_set(error, TARE_ERROR_INTERNAL,
                         "the database's %s schema has version %" G_GINT64_FORMAT
                         ", this program knows %zu: it was written by a newer tare",
                         module, version, n_steps);
    if (version == (gint64)n_steps)
        return true;
    if (!database_begin(database, true, error))
        return false;
    bool ok = true;
    for (size_t i = (size_t)version; ok && i < n_steps; i++)
        ok = execute(database, steps[i], error);
    ok = ok && database_run(database, error,
                            "INSERT INTO schema_version (module, version) VALUES (?, ?) ON CONFLICT (module) DO UPDATE SET "
                            "version = excluded.version",
                            "si", module, (gint64)n_steps);
    if (!ok) {
        database_rollback(database);
        return false;
    }
    return database_commit(database, error);
}

/* What follows a durable transaction must not pay for it: single statements commit by themselves. */
static void end_transaction(struct database *database)
{
    if (database->is_durable)
        execute(database, "PRAGMA synchronous=NORMAL", NULL);
    database->is_durable = false;
    g_rec_mutex_unlock(&database->lock);
}

bool database_begin(struct database *database, bool durable, GError **error)
{
    g_rec_mutex_lock(&database->lock);
    /* synchronous cannot change inside a transaction, so it is set just before. */
    database->is_durable = durable;
    if ((!durable || execute(database, "PRAGMA synchronous=FULL", error)) && execute(database, "BEGIN IMMEDIATE", error))
        return true;
    end_transaction(database);
    return false;
}

bool database_commit(struct database *database, GError **error)
{
    bool ok = execute(database, "COMMIT", error);
    if (!ok)
        execute(database, "ROLLBACK", NULL);
    end_transaction(database);
    return ok;
}

void database_rollback(struct database *database)
{
    execute(database, "ROLLBACK", NULL);
    end_transaction(database);
}

static sqlite3_stmt *take_statement(struct database *database, const char *sql, GError **error)
{
    sqlite3_stmt *statement = g_hash_table_lookup(database->statements, sql);
    if (statement && !sqlite3_stmt_busy(statement))
        return statement;
    bool nested = statement != NULL;
    if (sqlite3_prepare_v2(database->handle, sql, -1, &statement, NULL) != SQLITE_OK) {
        set_sqlite_error(database, sql, error);
        return NULL;
    }
    if (!nested)
        g_hash_table_insert(database->statements, (gpointer)sql, statement);
    return statement;
}

/* A cached statement is reset; one that was prepared because its twin is running goes. */
static void return_statement(struct database *database, const char *sql, sqlite3_stmt *statement)
{
    if (g_hash_table_lookup(database->statements, sql) == statement) {
        sqlite3_reset(statement);
        sqlite3_clear_bindings(statement);
    } else {
        sqlite3_finalize(statement);
    }
}

static void bind_values(sqlite3_stmt *statement, const char *format, va_list args)
{
    for (int i = 1; format && *format; format++, i++) {
        if (*format == 's') {
            const char *text = va_arg(args, const char *);
            sqlite3_bind_text(statement, i, text, -1, SQLITE_TRANSIENT);
        } else if (*format == 'i') {
            sqlite3_bind_int64(statement, i, va_arg(args, gint64));
        } else {
            const void *data = va_arg(args, const void *);
            gsize length = va_arg(args, gsize);
            sqlite3_bind_blob64(statement, i, data, length, SQLITE_TRANSIENT);
        }
    }
}

static bool query_valist(struct database *database, database_row_func row, void *user, GError **error, const char *sql,
                         const char *format, va_list args)
{
    g_rec_mutex_lock(&database->lock);
    sqlite3_stmt *statement = take_statement(database, sql, error);
    bool ok = statement != NULL;
    if (ok) {
        bind_values(statement, format, args);
        GError *row_error = NULL;
        int r;
        while ((r = sqlite3_step(statement)) == SQLITE_ROW)
            if (row && !row(statement, user, &row_error))
                break;
        if (row_error) {
            ok = false;
            g_propagate_error(error, row_error);
        } else if (r != SQLITE_ROW && r != SQLITE_DONE) {
            ok = set_sqlite_error(database, sql, error);
        }
        return_statement(database, sql, statement);
    }
    g_rec_mutex_unlock(&database->lock);
    return ok;
}

bool database_run(struct database *database, GError **error, const char *sql, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    bool ok = query_valist(database, NULL, NULL, error, sql, format, args);
    va_end(args);
    return ok;
}

bool database_query(struct database *database, database_row_func row, void *user, GError **error, const char *sql,
                    const char *format, ...)
{
    va_list args;
    va_start(args, format);
    bool ok = query_valist(database, row, user, error, sql, format, args);
    va_end(args);
    return ok;
}

static bool take_int(sqlite3_stmt *row, void *user, GError **error)
{
    *(gint64 *)user = sqlite3_column_int64(row, 0);
    return false;
}

bool database_get_int(struct database *database, gint64 fallback, gint64 *ret, GError **error, const char *sql,
                      const char *format, ...)
{
    gint64 value = fallback;
    va_list args;
    va_start(args, format);
    bool ok = query_valist(database, take_int, &value, error, sql, format, args);
    va_end(args);
    if (ok)
        *ret = value;
    return ok;
}

static bool take_string(sqlite3_stmt *row, void *user, GError **error)
{
    *(char **)user = g_strdup((const char *)sqlite3_column_text(row, 0));
    return false;
}

bool database_get_string(struct database *database, char **ret, GError **error, const char *sql, const char *format, ...)
{
    char *value = NULL;
    va_list args;
    va_start(args, format);
    bool ok = query_valist(database, take_string, &value, error, sql, format, args);
    va_end(args);
    if (ok)
        *ret = value;
    else
        g_free(value);
    return ok;
}

void database_release_reserve(struct database *database)
{
    unlink(database->reserve_path);
}

void database_restore_reserve(struct database *database)
{
    g_autofd int fd = open(database->reserve_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    /* Real blocks, not a hole; a disk that is full already has none to spare, and that is what the caller finds out anyway. */
    if (fd >= 0 && posix_fallocate(fd, 0, RESERVE_BYTES) != 0)
        unlink(database->reserve_path);
}
