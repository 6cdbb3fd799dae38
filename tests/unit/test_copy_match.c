/* Wildcards of COPY and rules of .dockerignore. */
#include "build/build-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const struct {
    const char *pattern, *name;
    int expected;
} matches[] = {
    { "abc", "abc", 1 },    { "*", "abc", 1 },        { "*c", "abc", 1 },        { "a*", "a", 1 },        { "a*", "ab/c", 0 },
    { "a*/b", "abc/b", 1 }, { "a*/b", "a/c/b", 0 },   { "ab[c]", "abc", 1 },     { "ab[b-d]", "abc", 1 }, { "ab[e-g]", "abc", 0 },
    { "ab[^c]", "abc", 0 }, { "ab[^e-g]", "abc", 1 }, { "a\\*b", "a*b", 1 },     { "a\\*b", "ab", 0 },    { "a?b", "a☺b", 1 },
    { "a[^a]b", "a☺b", 1 }, { "a???b", "a☺b", 0 },    { "[a-ζ]*", "α", 1 },      { "*[a-ζ]", "A", 0 },    { "a?b", "a/b", 0 },
    { "a*b", "a/b", 0 },    { "[\\]a]", "]", 1 },     { "[\\-]", "-", 1 },       { "[x\\-]", "x", 1 },    { "[]a]", "]", -1 },
    { "[-]", "-", -1 },     { "[x-]", "x", -1 },      { "[a-b-c]", "a", -1 },    { "[", "a", -1 },        { "[^", "a", -1 },
    { "a[", "a", -1 },      { "a[", "ab", -1 },       { "*x", "xxx", 1 },        { "a\\", "a", -1 },      { "", "", 1 },
    { "*", "", 1 },         { "", "a", 0 },           { "a*b*c", "aXbYbZc", 1 }, { "*.go", ".go", 1 },    { "?*?", "ab", 1 },
};

static void test_matches(void **state)
{
    for (size_t i = 0; i < G_N_ELEMENTS(matches); i++)
        assert_int_equal(copy_match(matches[i].pattern, matches[i].name), matches[i].expected);
}

static void test_wildcards(void **state)
{
    assert_true(copy_has_wildcards("a*"));
    assert_true(copy_has_wildcards("[a]"));
    assert_false(copy_has_wildcards("a\\*"));
    assert_false(copy_has_wildcards("plain\\"));
}

static const struct {
    const char *rules, *path;
    bool expected;
} rules[] = {
    { "Dockerfile\n", "Dockerfile", true },
    { "# Dockerfile\n", "Dockerfile", false },
    { "*\n!Dockerfile\n", "Dockerfile", false },
    { "*\n!Dockerfile\n", ".dockerignore", true },
    { "**/Dockerfile", "a/b/Dockerfile", true },
    { "**", "anything/at/all", true },
    { "a", "a/Dockerfile", true },
    { "a/*", "a/b/Dockerfile", true },
    { "/Dockerfile", "Dockerfile", true },
    { "./x/../Dockerfile", "Dockerfile", true },
    { "  Dockerfile  \r\n", "Dockerfile", true },
    { "!Dockerfile\nDockerfile", "Dockerfile", true },
    { "docker*", "Dockerfile", false },
    { "\xef\xbb\xbf"
      "Dockerfile",
      "Dockerfile", true },
    { "[\n", "Dockerfile", false },
    { "", "Dockerfile", false },
};

static void test_dockerignore(void **state)
{
    for (size_t i = 0; i < G_N_ELEMENTS(rules); i++)
        assert_int_equal(dockerignore_excludes(rules[i].rules, rules[i].path), rules[i].expected);
}

/* Patterns made to go wrong in a matcher that backtracks over every star. */
static void test_cost(void **state)
{
    g_autoptr(GString) pattern = g_string_new(NULL), name = g_string_new(NULL);

    for (int i = 0; i < 1000; i++) {
        g_string_append(pattern, "*a");
        g_string_append(name, "aa");
    }
    g_string_append_c(pattern, 'b');
    assert_int_equal(copy_match(pattern->str, name->str), 0);
    assert_false(dockerignore_excludes("**/**/**/**/**/**/**/**/**/**/x", "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/y"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_wildcards),
        cmocka_unit_test(test_dockerignore),
        cmocka_unit_test(test_cost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
