/* Listings of clients' directories: their grammar, and what two of them differ in. */
#include "build/build-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

/* "facts|path\n" for each. */
static struct listing *listing_of(const char *text, GError **error)
{
    gsize length = strlen(text);
    char *data = g_memdup2(text, length);
    struct listing *listing = NULL;

    for (gsize i = 0; i < length; i++)
        if (data[i] == '|' || data[i] == '\n')
            data[i] = '\0';
    return listing_parse(data, length, &listing, error) ? listing : NULL;
}

static void test_refusals(void **state)
{
    static const char *const bad[] = {
        "100644 1 x|a",       "100644 1 x|a\n100644", "100644 1 x|\n",         "100644 1 x|/a\n",
        "100644 1 x|a/\n",    "100644 1 x|a//b\n",    "1 1 x|../a\n",          "1 1 x|a/./b\n",
        "1 1 x|b\n1 1 x|a\n", "1 1 x|a\n1 1 x|a\n",   "1 1 x|ab\n1 1 x|a/b\n",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        assert_null(listing_of(bad[i], &error));
        assert_true(error_is(error, TARE_ERROR_INVALID));
    }
}

static void test_order(void **state)
{
    /* What is in a directory follows it at once, whatever its neighbours are called. */
    struct listing *listing = listing_of("40755 0 1|a\n100644 1 2|a/z\n100644 1 2|a-b\n100644 1 2|ab\n", NULL);

    assert_non_null(listing);
    assert_int_equal(listing_find(listing, "a-b"), 2);
    assert_int_equal(listing_find(listing, "a/a"), 1);
    assert_int_equal(listing_find(listing, "zz"), 4);
    listing_free(listing);
}

static void test_size_in_a_tar(void **state)
{
    static const struct {
        const char *text;
        guint64 bytes;
    } cases[] = {
        { "", 1024 },
        { "40755 0 1|a\n100644 1 2|a/z\n", 1024 + 512 + 1024 },
        { "100644 512 2|a\n100644 513 3|b\n", 1024 + 1024 + 1536 },
        { "100644 600 2|a\n100644 600 2|hard\n100644 600 ?2|new\n100644 600 ?2|newer\n", 1024 + 4 * 512 + 2 * 1024 },
        { "nothing|a\n", 1024 + 512 },
        { "100644 9223372036854775807 1|a\n100644 9223372036854775807 2|b\n100644 9223372036854775807 3|c\n",
          1024 + 512 + G_GUINT64_CONSTANT(9223372036854775808) },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct listing *listing = listing_of(cases[i].text, NULL);

        assert_non_null(listing);
        assert_true(listing_tar_bytes(listing) == cases[i].bytes);
        listing_free(listing);
    }
}

static void test_facts(void **state)
{
    static const char *const bad[] = { "", "x", "100644", "100644 1", "100644  x", "8 1 x", "100644 -1 x", "7777777 1 x" };
    struct listing_facts facts;

    assert_true(listing_read_facts("120777 0 12.ab target with blanks", &facts));
    assert_true(S_ISLNK(facts.mode));
    assert_string_equal(facts.link, "target with blanks");
    assert_true(listing_read_facts("100644 17 stamp", &facts));
    assert_int_equal(facts.size, 17);
    assert_null(facts.link);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_false(listing_read_facts(bad[i], &facts));
}

static const struct {
    const char *old, *new, *expected;
} diffs[] = {
    { "100644 1 s|a\n", "100644 1 s|a\n", "need; keep 0=0; gone" },
    { "100644 1 s|a\n", "100644 1 t|a\n", "need 0; keep; gone" },
    { "100644 1 ?|a\n", "100644 1 ?|a\n", "need 0; keep; gone" },
    { "40755 0 s|d\n100644 1 s|d/a\n100644 1 s|d/b\n", "100644 1 s|e\n", "need 0; keep; gone d" },
    { "40755 0 s|d\n100644 1 s|d/a\n", "100644 1 s|d\n", "need 0; keep; gone" },
    { "100644 1 s|d\n", "40755 0 s|d\n100644 1 s|d/a\n", "need 0 1; keep; gone" },
    { "40755 0 s|d\n100644 1 s|d/a\n100644 1 s|d-\n", "40755 0 t|d\n100644 1 s|d-\n", "need 0; keep 2=1; gone d/a" },
    { "", "100644 1 s|a\n", "need 0; keep; gone" },
    { "100644 1 s|a\n", "", "need; keep; gone a" },
};

static void test_differences(void **state)
{
    for (size_t i = 0; i < G_N_ELEMENTS(diffs); i++) {
        struct listing *old = listing_of(diffs[i].old, NULL), *new = listing_of(diffs[i].new, NULL);
        g_autoptr(GArray) needed = g_array_new(FALSE, FALSE, sizeof(guint));
        g_autoptr(GArray) kept = g_array_new(FALSE, FALSE, sizeof(struct listing_pair));
        g_autoptr(GPtrArray) removed = g_ptr_array_new();
        g_autoptr(GString) got = g_string_new("need");

        listing_diff(old, new, needed, kept, removed);
        for (guint j = 0; j < needed->len; j++)
            g_string_append_printf(got, " %u", g_array_index(needed, guint, j));
        g_string_append(got, "; keep");
        for (guint j = 0; j < kept->len; j++)
            g_string_append_printf(got, " %u=%u", g_array_index(kept, struct listing_pair, j).old,
                                   g_array_index(kept, struct listing_pair, j).new);
        g_string_append(got, "; gone");
        for (guint j = 0; j < removed->len; j++)
            g_string_append_printf(got, " %s", (char *)removed->pdata[j]);
        assert_string_equal(got->str, diffs[i].expected);
        listing_free(old);
        listing_free(new);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_refusals), cmocka_unit_test(test_order),
                                        cmocka_unit_test(test_size_in_a_tar), cmocka_unit_test(test_facts),
                                        cmocka_unit_test(test_differences) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
