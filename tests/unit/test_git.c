/* URL#ref:subdir of git contexts. */
#include "base/git.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void test_what_is_git(void **state)
{
    static const char *const yes[] = { "git://h/r",      "git@github.com:a/b", "ssh://h/r.git",
                                       "github.com/a/b", "https://h/r.git",    "http://h/r.git#main:d" };
    static const char *const no[] = { "https://h/r", "http://h/a.tar.gz", "./x.git", "r.git", "ftp://h/r.git", "" };

    for (size_t i = 0; i < G_N_ELEMENTS(yes); i++)
        assert_true(git_is_source(yes[i]));
    for (size_t i = 0; i < G_N_ELEMENTS(no); i++)
        assert_false(git_is_source(no[i]));
}

static const struct {
    const char *text, *url, *ref, *subdir;
} sources[] = {
    { "git://h/r", "git://h/r", NULL, NULL },
    { "github.com/a/b#main", "https://github.com/a/b", "main", NULL },
    { "git@h:a/b.git#v1:x/./y//z", "git@h:a/b.git", "v1", "x/y/z" },
    { "https://h/r.git#:sub", "https://h/r.git", NULL, "sub" },
    { "https://h/r.git#", "https://h/r.git", NULL, NULL },
    { "https://h/r.git#a:b/../c", "https://h/r.git", "a", "c" },
};

static void test_parts(void **state)
{
    static const char *const bad[] = { "git://h/r#--upload-pack=x", "git://h/r#:../x", "git://h/r#:a/../../x", "-x",
                                       "ssh://-oProxyCommand=x/r",  "git://h/r\n",     "git@-oX:r#\x01" };
    struct git_source source;

    for (size_t i = 0; i < G_N_ELEMENTS(sources); i++) {
        assert_true(git_source_parse(sources[i].text, &source, NULL));
        assert_string_equal(source.url, sources[i].url);
        assert_true(g_strcmp0(source.ref, sources[i].ref) == 0);
        assert_true(g_strcmp0(source.subdir, sources[i].subdir) == 0);
        git_source_clear(&source);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_false(git_source_parse(bad[i], &source, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_what_is_git), cmocka_unit_test(test_parts) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
