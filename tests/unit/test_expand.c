/* Expansion of variables and quotes in arguments of instructions. */
#include "build/build-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static GHashTable *variables(void)
{
    GHashTable *table = g_hash_table_new(g_str_hash, g_str_equal);

    g_hash_table_insert(table, (char *)"x", (char *)"val");
    g_hash_table_insert(table, (char *)"empty", (char *)"");
    g_hash_table_insert(table, (char *)"ports", (char *)"80 443/udp");
    g_hash_table_insert(table, (char *)"path", (char *)"a/b/c.tar.gz");
    g_hash_table_insert(table, (char *)"stars", (char *)"**b");
    g_hash_table_insert(table, (char *)"HOME", (char *)"/root");
    return table;
}

static const struct {
    const char *word, *expected; /* expected begins with "!" for an error */
} cases[] = {
    { "plain", "plain" },
    { "$x", "val" },
    { "${x}y", "valy" },
    { "$xy", "" },
    { "$unset-", "-" },
    { "a$", "a$" },
    { "a$/b", "a$/b" },
    { "\\$x", "$x" },
    { "'$x'", "$x" },
    { "\"$x\"", "val" },
    { "\"\\$x \\a \\\"\"", "$x \\a \"" },
    { "a\\ b", "a b" },
    { "\\\\", "\\" },
    { "${x:-d}", "val" },
    { "${unset:-d}", "d" },
    { "${empty:-d}", "d" },
    { "${empty-d}", "" },
    { "${unset-d}", "d" },
    { "${unset:-$x}", "val" },
    { "${unset:-${empty:-deep}}", "deep" },
    { "${x:+alt}", "alt" },
    { "${unset:+alt}", "" },
    { "${empty+alt}", "alt" },
    { "${x?no}", "val" },
    { "${unset:-a b}", "a b" },
    { "${unset:-'a}b'}", "a}b" },
    { "$HOME/bin:$x", "/root/bin:val" },
    { "é$x", "éval" },
    { "a\\", "a" },
    { "${unset?gone}", "!failed to process \"${unset?gone}\": unset: gone" },
    { "${unset:?}", "!failed to process \"${unset:?}\": unset: is not allowed to be unset" },
    { "${empty:?}", "!failed to process \"${empty:?}\": empty: is not allowed to be empty" },
    { "${x", "!failed to process \"${x\": missing ':' in substitution" },
    { "${", "!failed to process \"${\": syntax error: missing '}'" },
    { "${x:-a", "!failed to process \"${x:-a\": syntax error: missing '}'" },
    { "${}", "!failed to process \"${}\": syntax error: bad substitution" },
    { "${path#*/}", "b/c.tar.gz" },
    { "${path##*/}", "c.tar.gz" },
    { "${path%.*}", "a/b/c.tar" },
    { "${path%%.*}", "a/b/c" },
    { "${path%/*}", "a/b" },
    { "${path%%/*}", "a" },
    { "${path#nothing}", "a/b/c.tar.gz" },
    { "${path#?}", "/b/c.tar.gz" },
    { "${path##}", "a/b/c.tar.gz" },
    { "${path%c*z}", "a/b/" },
    { "${unset#a}", "" },
    { "${path/\\//-}", "a-b/c.tar.gz" },
    { "${path//\\//-}", "a-b-c.tar.gz" },
    { "${path/b*./<>}", "a/<>gz" },
    { "${path//?}", "!failed to process \"${path//?}\": syntax error: missing '/' in ${}" },
    { "${path//./}", "a/b/ctargz" },
    { "${stars#\\*}", "*b" },
    { "${stars//\\*/x}", "xxb" },
    { "${x#${x%l}}", "l" },
    { "\"${path##*/}\"", "c.tar.gz" },
    { "${x/a", "!failed to process \"${x/a\": syntax error: missing '/' in ${}" },
    { "${x/a/b", "!failed to process \"${x/a/b\": syntax error: missing '}'" },
    { "${x%", "!failed to process \"${x%\": syntax error: missing '}'" },
    { "${x#\\}", "!failed to process \"${x#\\\\}\": syntax error: missing '}'" },
    { "${x:y}", "!failed to process \"${x:y}\": unsupported modifier (y) in substitution" },
    { "\"a", "!failed to process \"\\\"a\": unexpected end of statement while looking for matching double-quote" },
    { "'a", "!failed to process \"'a\": unexpected end of statement while looking for matching single-quote" },
};

static void test_words(void **state)
{
    g_autoptr(GHashTable) table = variables();

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *got = expand_word(cases[i].word, table, '\\', &error);

        if (cases[i].expected[0] == '!') {
            assert_null(got);
            assert_string_equal(error->message, cases[i].expected + 1);
        } else {
            assert_non_null(got);
            assert_string_equal(got, cases[i].expected);
        }
    }
}

static void test_splitting(void **state)
{
    static const struct {
        const char *word, *expected;
    } splits[] = {
        { "$ports", "[\"80\" \"443/udp\"]" },
        { "\"$ports\"", "[\"80 443/udp\"]" },
        { "a  b", "[\"a\" \"b\"]" },
        { "a$ports", "[\"a80\" \"443/udp\"]" },
        { "$empty", "[]" },
        { "a\\ b", "[\"a b\"]" },
    };
    g_autoptr(GHashTable) table = variables();

    for (size_t i = 0; i < G_N_ELEMENTS(splits); i++) {
        g_auto(GStrv) words = expand_words(splits[i].word, table, '\\', NULL);
        g_autofree char *got = go_quote_list((const char *const *)words);

        assert_string_equal(got, splits[i].expected);
    }
}

static void test_other_escape_and_depth(void **state)
{
    g_autoptr(GHashTable) table = variables();
    g_autofree char *path = expand_word("c:\\$x`$x", table, '`', NULL), *deep = NULL;
    g_autoptr(GString) nested = g_string_new(NULL);
    g_autoptr(GError) error = NULL;

    assert_string_equal(path, "c:\\val$x");
    for (int i = 0; i < 100000; i++)
        g_string_append(nested, "${a:-");
    deep = expand_word(nested->str, table, '\\', &error);
    assert_null(deep);
    assert_non_null(error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_splitting),
        cmocka_unit_test(test_other_escape_and_depth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
