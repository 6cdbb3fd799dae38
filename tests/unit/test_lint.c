/* build --check: each rule has data/lint/RULE.dockerfile, and RULE.warnings says what is to be said of it. */
#include "base/file.h"
#include "build/lint-internal.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static json_t *base_env(void *user, const char *image)
{
    return g_str_has_prefix(image, "known") ? json_pack("[ss]", "PATH=/bin", "KNOWN=1") : NULL;
}

static char *read_data(const char *name, const char *suffix)
{
    g_autofree char *path = g_strdup_printf(TEST_DATA "/lint/%s.%s", name, suffix);
    char *text = NULL;

    if (!file_read(AT_FDCWD, path, 1 << 20, &text, NULL, NULL))
        fail_msg("%s is missing", path);
    return text;
}

static char *dump(const char *text)
{
    const struct lint_options options = { .dockerignore = "tmp\n*.log\n", .base_env = base_env };
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    struct dockerfile *dockerfile;
    struct lint_result result;

    assert_true(dockerfile_parse(text, strlen(text), &dockerfile, NULL));
    if (!dockerfile_lint(dockerfile, &options, &result, &error)) {
        dockerfile_free(dockerfile);
        return g_strdup(error->message);
    }
    if (result.is_error)
        g_string_append(out, "error\n");
    for (guint i = 0; i < result.warnings->len; i++) {
        const struct lint_warning *warning = result.warnings->pdata[i];

        g_string_append_printf(out, "%u-%u %s %s: %s\n", warning->line, warning->end, warning->rule, warning->url,
                               warning->message);
    }
    g_ptr_array_unref(result.warnings);
    dockerfile_free(dockerfile);
    return g_strdup(out->str);
}

static void check(const char *name)
{
    g_autofree char *text = read_data(name, "dockerfile"), *expected = read_data(name, "warnings"), *got = dump(text);
    g_autofree char *golden = g_strdup_printf(TEST_DATA "/lint/%s.warnings", name);

    if (g_getenv("TARE_WRITE_GOLDENS")) /* to be looked at before it is committed */
        assert_true(g_file_set_contents(golden, got, -1, NULL));
    else
        assert_string_equal(got, expected);
}

static void test_every_rule(void **state)
{
    for (int rule = 0; rule < LINT_N_RULES; rule++)
        check(lint_rule_name((enum lint_rule)rule));
}

static void test_configuration(void **state)
{
    check("skip");
    check("skip-all");
    check("clean");
}

static void test_bad_directive(void **state)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        { "# check=nothing\nFROM scratch\n", "invalid check option \"nothing\"" },
        { "# check=what=1\nFROM scratch\n", "invalid check option \"what\"" },
        { "# check=error=maybe\nFROM scratch\n", "failed to parse check option \"error=maybe\"" },
        { "# check=error=true\nFROM scratch\n", "error\n" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *got = dump(cases[i].text);

        assert_string_equal(got, cases[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_rule),
        cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_bad_directive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
