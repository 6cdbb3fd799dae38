#include "base/database.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define LOG_BYTES (4 << 20) /* of the write-ahead log that are there from the beginning, on a disk of 64 MB and more */
#define LOG_PART 16         /* … at most this part of the disk */
#define LOG_FRAME_BYTES (4096 + 24)
#define TRANSACTION_FRAMES 256 /* of the log that each transaction finds free */
#define SPARE_PAGES 64         /* of the database that what adds no rows may use */

#define NO_SPACE "database: no space left on device"

struct database {
    sqlite3 *handle;
    GRecMutex lock;
    int file_fd;            /* closed after the handle: closing any descriptor of a file drops the process's locks on it */
    gint64 secured_pages;   /* of the file: whatever becomes of the disk, they have their blocks */
    GHashTable *statements; /* sql text (static) → sqlite3_stmt *, prepared once */
    bool is_durable;        /* the open transaction is */
    bool is_growing;        /* the open transaction adds rows */
    bool is_fresh;          /* the file's first page has not been waited for */
};

static bool is_full(struct database *database)
{
    int code = sqlite3_errcode(database->handle);
    return code == SQLITE_FULL ||
           ((code == SQLITE_IOERR || code == SQLITE_CANTOPEN) && sqlite3_system_errno(database->handle) == ENOSPC);
}

static bool set_sqlite_error(struct database *database, const char *what, GError **error)
{
    int code = sqlite3_errcode(database->handle);
    enum tare_error kind = TARE_ERROR_INTERNAL;
    if (is_full(database))
        return error_set(error, TARE_ERROR_NO_SPACE, NO_SPACE);
    if (code == SQLITE_CONSTRAINT)
        kind = TARE_ERROR_CONFLICT;
    return error_set(error, kind, "database: %s: %s", what, sqlite3_errmsg(database->handle));
}

static bool execute(struct database *database, const char *sql, GError **error)
{
    return sqlite3_exec(database->handle, sql, NULL, NULL, NULL) == SQLITE_OK || set_sqlite_error(database, sql, error);
}

/* ---- a full disk ----
 *
 * Adding rows is what a full disk refuses. Everything else (removals, the end of a container) must succeed, or nothing could ever
 * be freed and what was said of a container would be lost. So the blocks that this needs belong to the two files at all times,
 * where nobody else can take them: the log has its first megabytes, is copied into the database while TRANSACTION_FRAMES of them
 * are left, and then begins again; and the database has SPARE_PAGES more than it uses, which a transaction that adds rows makes
 * sure of before it commits. */

static bool is_growing_statement(const char *sql)
{
    return g_str_has_prefix(sql, "INSERT");
}

/* Beyond the end of the file, which stays where it is. A file system that cannot do this gives no assurance. */
static bool allocate(int fd, gint64 bytes)
{
    return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, bytes) == 0 || (errno != ENOSPC && errno != EDQUOT);
}

static gint64 log_bytes(const char *path)
{
    struct statvfs status;
    if (statvfs(path, &status) < 0)
        return LOG_BYTES;
    return MIN(LOG_BYTES, (gint64)status.f_blocks * (gint64)status.f_frsize / LOG_PART);
}

static void secure_log(struct database *database)
{
    const char *path = sqlite3_db_filename(database->handle, "main");
    g_autofree char *log_path = g_strconcat(path, "-wal", NULL);
    g_autofd int fd = open(log_path, O_WRONLY | O_CLOEXEC);
    gint64 bytes = log_bytes(path);
    if (fd >= 0 && !allocate(fd, bytes))
        log_line(LOG_LEVEL_WARNING, "no room for the database's log: a full disk may not take what has to be recorded", NULL);
    sqlite3_wal_autocheckpoint(database->handle, (int)MAX(bytes / LOG_FRAME_BYTES - TRANSACTION_FRAMES, 1));
}

static bool secure_pages(struct database *database, GError **error)
{
    gint64 pages;
    if (!database_get_int(database, 0, &pages, error, "PRAGMA page_count", NULL))
        return false;
    if (pages + SPARE_PAGES <= database->secured_pages)
        return true;
    if (!allocate(database->file_fd, (pages + 2 * SPARE_PAGES) * 4096))
        return error_set(error, TARE_ERROR_NO_SPACE, NO_SPACE);
    database->secured_pages = pages + 2 * SPARE_PAGES;
    return true;
}

/* Lets the write-ahead log begin again, where it has its blocks already. */
static void rewind_log(struct database *database)
{
    sqlite3_wal_checkpoint_v2(database->handle, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
}

static void finalize_statement(gpointer statement)
{
    sqlite3_finalize(statement);
}

static bool set_up(struct database *database)
{
    /* The log's file stays at the end, and with its blocks (no journal_size_limit): the next start may find no room for a new
     * one. */
    int keep = 1;
    sqlite3_file_control(database->handle, NULL, SQLITE_FCNTL_PERSIST_WAL, &keep);
    /* Nobody else has business here (the engine's lock says so), and so there is no file of shared memory to find room for. */
    return execute(database, "PRAGMA locking_mode=EXCLUSIVE", NULL) &&
           execute(database, database->is_fresh ? "PRAGMA synchronous=OFF" : "PRAGMA synchronous=NORMAL", NULL) &&
           execute(database, "PRAGMA journal_mode=WAL", NULL) && execute(database, "PRAGMA synchronous=NORMAL", NULL) &&
           execute(database, "PRAGMA foreign_keys=ON", NULL) &&
           execute(database,
                   "CREATE TABLE IF NOT EXISTS schema_version (module TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID",
                   NULL);
}

/* A new database is set up without waiting for the disk: a crash that takes it back takes nothing. But the log of a database
 * whose file is empty counts for nothing either, so the file is waited for before the first transaction that is to be durable. */
static bool settle(struct database *database, GError **error)
{
    const char *path = sqlite3_db_filename(database->handle, "main");
    g_autofree char *directory = g_path_get_dirname(path);
    g_autofd int parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0 || fdatasync(database->file_fd) < 0 || fsync(parent) < 0)
        return error_set_errno(error, errno, "database: sync %s", path);
    database->is_fresh = false;
    return true;
}

bool database_open(const char *path, struct database **ret, GError **error)
{
    struct database *database = g_new0(struct database, 1);
    struct stat st;
    g_rec_mutex_init(&database->lock);
    database->statements = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, finalize_statement);
    database->file_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (database->file_fd < 0 || fstat(database->file_fd, &st) < 0) {
        error_set_errno(error, errno, "database: open %s", path);
        database_close(database);
        return false;
    }
    database->is_fresh = st.st_size == 0;
    if (sqlite3_open_v2(path, &database->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(database->handle, 5000) != SQLITE_OK || !set_up(database)) {
        set_sqlite_error(database, path, error);
        database_close(database);
        return false;
    }
    secure_log(database);
    secure_pages(database, NULL);
    *ret = database;
    return true;
}

/* A log whose frames are all in the database is read and checked again by the next start unless its head says that it is empty.
 */
static void empty_log(const char *path, bool is_copied)
{
    g_autofree char *log_path = g_strconcat(path, "-wal", NULL);
    g_autofd int fd = is_copied ? open(log_path, O_WRONLY | O_CLOEXEC) : -1;
    static const char nothing[32];
    if (fd >= 0)
        (void)!pwrite(fd, nothing, sizeof nothing, 0);
}

static void close_handle(struct database *database)
{
    int frames = -1, copied = -2;
    g_autofree char *path = g_strdup(sqlite3_db_filename(database->handle, "main"));
    int code = sqlite3_wal_checkpoint_v2(database->handle, NULL, SQLITE_CHECKPOINT_FULL, &frames, &copied);
    if (sqlite3_close(database->handle) == SQLITE_OK)
        empty_log(path, code == SQLITE_OK && frames == copied);
}

void database_close(struct database *database)
{
    if (!database)
        return;
    g_hash_table_unref(database->statements);
    if (database->handle)
        close_handle(database);
    fd_close(database->file_fd);
    g_rec_mutex_clear(&database->lock);
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
    /* A schema that a crash took back is made again: no need to wait for the disk. */
    if (!database_begin(database, false, error))
        return false;
    bool ok = true;
    for (size_t i = (size_t)version; ok && i < n_steps; i++)
        ok = execute(database, steps[i], error);
    ok = ok && database_run(database, error,
                            "INSERT INTO schema_version (module, version) VALUES (?, ?) ON CONFLICT (module) DO UPDATE SET "
                            "version = excluded.version",
                            "si", module, (gint64)n_steps);
    return database_end(database, ok, error);
}

/* What follows a durable transaction must not pay for it: single statements commit by themselves. */
static void end_transaction(struct database *database)
{
    if (database->is_durable)
        execute(database, "PRAGMA synchronous=NORMAL", NULL);
    database->is_durable = database->is_growing = false;
    secure_pages(database, NULL);
    g_rec_mutex_unlock(&database->lock);
}

bool database_begin(struct database *database, bool durable, GError **error)
{
    g_rec_mutex_lock(&database->lock);
    /* synchronous cannot change inside a transaction, so it is set just before. */
    database->is_durable = durable;
    if ((!durable || !database->is_fresh || settle(database, error)) &&
        (!durable || execute(database, "PRAGMA synchronous=FULL", error)) && execute(database, "BEGIN IMMEDIATE", error))
        return true;
    end_transaction(database);
    return false;
}

bool database_end(struct database *database, bool ok, GError **error)
{
    ok = ok && (!database->is_growing || secure_pages(database, error)) && execute(database, "COMMIT", error);
    if (!ok)
        execute(database, "ROLLBACK", NULL);
    end_transaction(database);
    return ok;
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

static bool run_growing(struct database *database, GError **error, const char *sql, const char *format, va_list args)
{
    if (!database_begin(database, false, error))
        return false;
    database->is_growing = true;
    return database_end(database, query_valist(database, NULL, NULL, error, sql, format, args), error);
}

static bool run_single(struct database *database, GError **error, const char *sql, const char *format, va_list args)
{
    va_list again;
    g_autoptr(GError) problem = NULL;
    va_copy(again, args);
    bool ok = query_valist(database, NULL, NULL, &problem, sql, format, args);
    if (!ok && error_is(problem, TARE_ERROR_NO_SPACE)) {
        g_clear_error(&problem);
        rewind_log(database);
        ok = query_valist(database, NULL, NULL, &problem, sql, format, again);
    }
    va_end(again);
    if (!ok)
        g_propagate_error(error, g_steal_pointer(&problem));
    return ok;
}

bool database_run(struct database *database, GError **error, const char *sql, const char *format, ...)
{
    bool ok, is_growing = is_growing_statement(sql);
    va_list args;
    g_rec_mutex_lock(&database->lock);
    va_start(args, format);
    if (!sqlite3_get_autocommit(database->handle)) {
        database->is_growing |= is_growing;
        ok = query_valist(database, NULL, NULL, error, sql, format, args);
    } else if (is_growing) {
        ok = run_growing(database, error, sql, format, args);
    } else {
        ok = run_single(database, error, sql, format, args);
    }
    va_end(args);
    g_rec_mutex_unlock(&database->lock);
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

static bool append_string(sqlite3_stmt *row, void *user, GError **error)
{
    g_ptr_array_add(user, g_strdup((const char *)sqlite3_column_text(row, 0)));
    return true;
}

bool database_get_strings(struct database *database, GPtrArray *strings, GError **error, const char *sql, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    bool ok = query_valist(database, append_string, strings, error, sql, format, args);
    va_end(args);
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
