/* base/database: schemas, and transactions that end in each of the three ways. */
#include "base/database.h"
#include "base/fd.h"
#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const char *const schema[] = {
    "CREATE TABLE parent (id INTEGER PRIMARY KEY)",
    "CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)",
};

struct fixture {
    char *directory;
    struct database *database;
};

static int set_up(void **state)
{
    g_autoptr(GError) error = NULL;
    struct fixture *fixture = g_new0(struct fixture, 1);
    fixture->directory = g_dir_make_tmp("tare-database-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(fixture->directory, "tare.db", NULL);
    *state = fixture;
    return database_open(path, &fixture->database, &error) &&
                   database_migrate(fixture->database, "test", schema, G_N_ELEMENTS(schema), &error)
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    database_close(fixture->database);
    bool ok = dir_remove_tree(AT_FDCWD, fixture->directory, NULL);
    g_free(fixture->directory);
    g_free(fixture);
    return ok ? 0 : -1;
}

static gint64 count(struct database *database, const char *sql)
{
    gint64 n = -1;
    assert_true(database_get_int(database, -1, &n, NULL, sql, ""));
    return n;
}

/* In a thread of its own: what another one has left locked would stop it for good. */
static gpointer insert_parent(gpointer data)
{
    struct database *database = data;
    bool ok = database_begin(database, false, NULL) &&
              database_end(database, database_run(database, NULL, "INSERT INTO parent DEFAULT VALUES", ""), NULL);
    return GINT_TO_POINTER(ok);
}

static void others_get_their_turn(struct database *database)
{
    gint64 before = count(database, "SELECT count(*) FROM parent");
    assert_true(GPOINTER_TO_INT(g_thread_join(g_thread_new("other", insert_parent, database))));
    assert_int_equal(count(database, "SELECT count(*) FROM parent"), before + 1);
}

static void a_transaction_is_kept(void **state)
{
    struct database *database = ((struct fixture *)*state)->database;
    for (int durable = 0; durable < 2; durable++) {
        assert_true(database_begin(database, durable, NULL));
        bool ok = database_run(database, NULL, "INSERT INTO parent DEFAULT VALUES", "");
        assert_true(database_end(database, ok, NULL));
        assert_int_equal(count(database, "PRAGMA synchronous"), 1);
        others_get_their_turn(database);
    }
    assert_int_equal(count(database, "SELECT count(*) FROM parent"), 4);
}

static void a_transaction_is_taken_back(void **state)
{
    struct database *database = ((struct fixture *)*state)->database;
    g_autoptr(GError) error = NULL;
    assert_true(database_begin(database, true, NULL));
    assert_true(database_run(database, NULL, "INSERT INTO parent (id) VALUES (?)", "i", (gint64)7));
    assert_false(database_run(database, &error, "INSERT INTO parent (id) VALUES (?)", "i", (gint64)7));
    assert_true(error_is(error, TARE_ERROR_CONFLICT));
    assert_false(database_end(database, false, &error)); /* and the error stays the first one */
    assert_int_equal(count(database, "SELECT count(*) FROM parent"), 0);
    others_get_their_turn(database);
}

/* The reference is checked at the end alone: all went well until then. */
static void a_commit_that_fails_ends_the_transaction(void **state)
{
    struct database *database = ((struct fixture *)*state)->database;
    for (int durable = 0; durable < 2; durable++) {
        g_autoptr(GError) error = NULL;
        assert_true(database_begin(database, durable, NULL));
        bool ok = database_run(database, NULL, "INSERT INTO child (parent) VALUES (99)", "");
        assert_true(ok);
        assert_false(database_end(database, ok, &error));
        assert_true(error_is(error, TARE_ERROR_CONFLICT));
        assert_int_equal(count(database, "SELECT count(*) FROM child"), 0);
        assert_int_equal(count(database, "PRAGMA synchronous"), 1);
        others_get_their_turn(database);
    }
}

static void a_schema_of_the_future_is_refused(void **state)
{
    struct database *database = ((struct fixture *)*state)->database;
    g_autoptr(GError) error = NULL;
    assert_true(database_migrate(database, "test", schema, 2, NULL));
    assert_false(database_migrate(database, "test", schema, 1, &error));
    assert_non_null(strstr(error->message, "written by a newer tare"));
    static const char *const broken[] = { "CREATE TABLE good (id)", "CREATE TABLE bad bad bad" };
    assert_false(database_migrate(database, "broken", broken, 2, NULL));
    assert_int_equal(count(database, "SELECT count(*) FROM sqlite_master WHERE name = 'good'"), 0);
    others_get_their_turn(database);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_transaction_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_transaction_is_taken_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_commit_that_fails_ends_the_transaction, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_schema_of_the_future_is_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
