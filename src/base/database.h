/* The SQLite database of an engine: the only index of its state. One connection, one writer at a time; any thread may use it, the
 * functions lock.
 *
 * Usage: hold the lock for a transaction (database_begin … database_end, same thread); single statements
 * lock for themselves. Statement text is constant; values are bound: the format has one letter per '?': s string (NULL allowed),
 * i gint64, b blob (const void *, gsize). Full disk gives TARE_ERROR_NO_SPACE; a UNIQUE or FOREIGN KEY violation gives
 * TARE_ERROR_CONFLICT. */
#pragma once

#include "base/error.h"

#include <sqlite3.h>

struct database;

/* Opens the database at path (WAL, foreign keys on, no other process); the schema is brought up by database_migrate. Both files
 * own the blocks that a full disk must not refuse: statements and transactions that insert nothing succeed there, as long as one
 * transaction changes no more than a megabyte; the others give TARE_ERROR_NO_SPACE. */
bool database_open(const char *path, struct database **ret, GError **error);
void database_close(struct database *database);

/* Each module keeps its own schema: steps[i] brings module from version i to i+1, within one transaction. A database that is
 * newer than n_steps is refused. */
bool database_migrate(struct database *database, const char *module, const char *const *steps, size_t n_steps, GError **error);

/* Transactions nest in no way. durable: synchronous=FULL for this one (images, tags), else NORMAL (container state). */
bool database_begin(struct database *database, bool durable, GError **error);
/* ok: commits, and is false with an error where that fails; else rolls back and is false, the error being the caller's already.
 */
bool database_end(struct database *database, bool ok, GError **error);

/* One statement without rows. */
bool database_run(struct database *database, GError **error, const char *sql, const char *format, ...);
/* One statement; row is called for each row (true goes on; false stops, and is an error when it set one). */
typedef bool (*database_row_func)(sqlite3_stmt *row, void *user, GError **error);
bool database_query(struct database *database, database_row_func row, void *user, GError **error, const char *sql,
                    const char *format, ...);
/* The first column of all rows, appended to strings as g_strdup'ed texts. */
bool database_get_strings(struct database *database, GPtrArray *strings, GError **error, const char *sql, const char *format,
                          ...);
/* The first column of the first row; *ret is fallback (or NULL) where there is none. */
bool database_get_int(struct database *database, gint64 fallback, gint64 *ret, GError **error, const char *sql,
                      const char *format, ...);
bool database_get_string(struct database *database, char **ret, GError **error, const char *sql, const char *format, ...);
