/* Dockerfile as text: lines, directives, comments, continuations, forms of arguments. */
#include "build/build-internal.h"

#include "base/timestamp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

/* "line command[flags](args) …" of all instructions. */
static char *dump(const char *text, size_t length)
{
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    struct dockerfile *dockerfile;

    if (!dockerfile_parse(text, length, &dockerfile, &error))
        return g_strdup(error->message);
    for (guint i = 0; i < dockerfile->instructions->len; i++) {
        const struct dockerfile_instruction *instruction = dockerfile->instructions->pdata[i];
        g_autofree char *flags = go_quote_list((const char *const *)instruction->flags);
        g_autofree char *args = go_quote_list((const char *const *)instruction->args);

        g_string_append_printf(out, "%u %s%s%s%s\n", instruction->line, instruction->command, instruction->flags[0] ? flags : "",
                               instruction->is_json ? "json" : "", args);
    }
    for (guint i = 0; i < dockerfile->warnings->len; i++)
        g_string_append_printf(out, "%s\n", (char *)dockerfile->warnings->pdata[i]);
    dockerfile_free(dockerfile);
    return g_strdup(out->str);
}

static const struct {
    const char *text, *expected;
} cases[] = {
    { "FROM a\nRUN echo hi\n", "1 from[\"a\"]\n2 run[\"echo hi\"]\n" },
    { "\xef\xbb\xbf"
      "FROM a\r\nRUN b\r\n",
      "1 from[\"a\"]\n2 run[\"b\"]\n" },
    { "FROM a\nRUN a \\\n  # a comment\n  b \\\n# another\n\tc\nCMD x", "1 from[\"a\"]\n2 run[\"a   b \\tc\"]\n7 cmd[\"x\"]\n" },
    { "FROM a\nLABEL a=1 \\\n\n b=2\n",
      "1 from[\"a\"]\n2 label[\"a\" \"1\" \"b\" \"2\"]\n[WARNING]: Empty continuation line found in:\n    LABEL a=1  b=2\n"
      "[WARNING]: Empty continuation lines will become errors in a future release.\n" },
    { "# escape=`\nFROM a\nRUN b `\n c \\\nCMD d\n", "2 from[\"a\"]\n3 run[\"b  c \\\\\"]\n5 cmd[\"d\"]\n" },
    { "# syntax=docker/dockerfile:1\n#escape = `\nFROM a\nRUN b `\n c\n", "3 from[\"a\"]\n4 run[\"b  c\"]\n" },
    { "# a comment\n# escape=`\nFROM a\nRUN b \\\n c\n", "3 from[\"a\"]\n4 run[\"b  c\"]\n" },
    { "# escape=x\nFROM a\n", "invalid escape token 'x' does not match ` or \\" },
    { "# escape=`\n# escape=`\nFROM a\n", "only one escape parser directive can be used" },
    { "RUN a \\\\\nRUN b\n", "1 run[\"a \\\\\\\\\"]\n2 run[\"b\"]\n" },
    { "RUN a \\", "1 run[\"a\"]\n" },
    { "RUN [\"a\", \"b c\"]\nCMD [\"x\", y]\nCMD []\nRUN\n",
      "1 runjson[\"a\" \"b c\"]\n2 cmd[\"[\\\"x\\\", y]\"]\n3 cmdjson[]\n4 run[]\n" },
    { "CMD [\"a\", 1]", "when using JSON array syntax, arrays must be comprised of strings only" },
    { "COPY --from=x --chown='a b':c  a\tb /d/\nADD [\"a b\",\"/c\"]",
      "1 copy[\"--from=x\" \"--chown=a b:c\"][\"a\" \"b\" \"/d/\"]\n2 addjson[\"a b\" \"/c\"]\n" },
    { "ENV a=1 b=\"x y\" c=a\\ b\nENV old style  value\nENV q='a\"b' \"k\"=v\n",
      "1 env[\"a\" \"1\" \"b\" \"\\\"x y\\\"\" \"c\" \"a\\\\ b\"]\n2 env[\"old\" \"style  value\"]\n3 env[\"q\" \"'a\\\"b'\" "
      "\"\\\"k\\\"\" \"v\"]\n" },
    { "ENV a", "ENV must have two arguments" },
    { "LABEL a=1 b", "Syntax error - can't find = in \"b\". Must be of the form: name=value" },
    { "ARG a b=1 \"c=d e\"", "1 arg[\"a\" \"b=1\" \"\\\"c=d e\\\"\"]\n" },
    { "HEALTHCHECK --interval=5s CMD [\"a\"]\nHEALTHCHECK CMD a  b\nHEALTHCHECK none",
      "1 healthcheck[\"--interval=5s\"]json[\"CMD\" \"a\"]\n2 healthcheck[\"CMD\" \"a  b\"]\n3 healthcheck[\"none\"]\n" },
    { "ONBUILD RUN a b\nONBUILD ONBUILD x\nONBUILD", "1 onbuild[\"run\" \"a b\"]\n2 onbuild[\"onbuild\" \"x\"]\n3 onbuild[]\n" },
    { "ONBUILD ENV a", "ENV must have two arguments" },
    { "WORKDIR  a b \nUSER a b\nFOO a\n", "1 workdir[\"a b\"]\n2 user[\"a b\"]\n3 foo[]\n" },
    { "", "file with no instructions" },
    { "# x\n\n  \n", "file with no instructions" },
};

static void test_cases(void **state)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *got = dump(cases[i].text, strlen(cases[i].text));

        assert_string_equal(got, cases[i].expected);
    }
}

static void test_bounds(void **state)
{
    g_autoptr(GString) text = g_string_new("RUN ");
    g_autofree char *got = NULL, *nul = NULL, *nested = NULL;

    while (text->len < 70000)
        g_string_append(text, "xxxxxxxxxx");
    got = dump(text->str, text->len);
    assert_string_equal(got, "dockerfile line greater than max allowed size of 65535");
    nul = dump("RUN a\0b", 7);
    assert_string_equal(nul, "line 1 has a NUL byte");
    g_string_truncate(text, 0);
    for (int i = 0; i < 1000; i++)
        g_string_append(text, "ONBUILD ");
    nested = dump(text->str, text->len);
    assert_string_equal(nested, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
}

static void test_go_text(void **state)
{
    static const struct {
        gint64 ns;
        const char *text;
    } durations[] = {
        { 0, "0s" },
        { 1500, "1.5µs" },
        { 1000000, "1ms" },
        { 5000000000, "5s" },
        { 90000000000, "1m30s" },
        { 60000000000, "1m0s" },
        { 3600000000000, "1h0m0s" },
        { 1500000000, "1.5s" },
        { 17, "17ns" },
    };
    static const struct {
        const char *path, *clean;
    } paths[] = {
        { "/a/../b//c/.", "/b/c" }, { "", "." }, { "../a", "../a" }, { "a/../..", ".." }, { "/..", "/" }, { "a/", "a" }
    };
    g_autofree char *quoted = go_quote("a\"b\\\n\x01é\xff"), *rune = go_quote_rune(3), *feed = go_quote_rune(10),
                    *big = go_quote_rune(65);
    g_autofree char *joined = go_join_path("/wd", "../x/");

    for (size_t i = 0; i < G_N_ELEMENTS(durations); i++) {
        g_autofree char *text = duration_go(durations[i].ns);

        assert_string_equal(text, durations[i].text);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autofree char *clean = go_clean_path(paths[i].path);

        assert_string_equal(clean, paths[i].clean);
    }
    assert_string_equal(quoted, "\"a\\\"b\\\\\\n\\x01é\\xff\"");
    assert_string_equal(rune, "'\\x03'");
    assert_string_equal(feed, "'\\n'");
    assert_string_equal(big, "'A'");
    assert_string_equal(joined, "/x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_go_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
