/* Patterns of .dockerignore, responses of HTTP, tables, and texts. */
#include "cli/build-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void test_ignore(void **state)
{
    static const struct {
        const char *patterns, *path;
        bool left_out;
    } cases[] = {
        { "*.log", "b.log", true },
        { "*.log", "sub/b.log", false },
        { "**/*.log", "sub/b.log", true },
        { "**/*.log", "b.log", true },
        { "sub", "sub/deep/x", true },
        { "sub/*", "sub/deep/x", true },
        { "sub\n!sub/keep", "sub/keep", false },
        { "sub\n!sub/keep", "sub/other", true },
        { "/abs", "abs", true },
        { "# c\n\n  a  ", "a", true },
        { "a/**", "a/b", true },
        { "a/**", "a", false },
        { "**", "any/thing", true },
        { "**/foo", "foo", true },
        { "**/foo", "a/foo", true },
        { "**/foo", "a/xfoo", false },
        { "a?c", "abc", true },
        { "a?c", "a/c", false },
        { "a[b-d]c", "acc", true },
        { "a[^b-d]c", "acc", false },
        { "a\\*b", "a*b", true },
        { "a\\*b", "axb", false },
        { "**/a/**/b", "x/a/y/z/b", true },
        { "**/a/**/b", "a/b", true },
        { "*\n!a.txt", "a.txt", false },
        { "*\n!a.txt", "b.txt", true },
        { "!a", "a", false },
        { "a/../b", "b", true },
        { "ä?", "äö", true },
        { "a.c", "abc", false },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GPtrArray) patterns = ignore_read(cases[i].patterns, strlen(cases[i].patterns));
        struct ignore *ignore = ignore_new(patterns, NULL);
        assert_non_null(ignore);
        if (ignore_matches(ignore, cases[i].path) != cases[i].left_out)
            fail_msg("%s against %s", cases[i].patterns, cases[i].path);
        ignore_free(ignore);
    }
    static const char *const malformed[][2] = { { "[", "syntax error in pattern" },
                                                { "a\\", "syntax error in pattern" },
                                                { "[]a]", "syntax error in pattern" },
                                                { "[-x]", "syntax error in pattern" },
                                                { "!", "illegal exclusion pattern: \"!\"" } };
    for (gsize i = 0; i < G_N_ELEMENTS(malformed); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) patterns = ignore_read(malformed[i][0], strlen(malformed[i][0]));
        assert_null(ignore_new(patterns, &error));
        assert_string_equal(error->message, malformed[i][1]);
    }
}

/* Many stars cost no more than their number times the path's length. */
static void test_ignore_is_fast(void **state)
{
    g_autoptr(GString) pattern = g_string_new(NULL), path = g_string_new(NULL);
    for (guint i = 0; i < 500; i++) {
        g_string_append(pattern, "*a");
        g_string_append(path, "aa");
    }
    g_string_append(pattern, "b");
    g_autoptr(GPtrArray) patterns = ignore_read(pattern->str, pattern->len);
    struct ignore *ignore = ignore_new(patterns, NULL);
    gint64 start = g_get_monotonic_time();
    assert_false(ignore_matches(ignore, path->str));
    assert_true(g_get_monotonic_time() - start < 5 * G_USEC_PER_SEC);
    ignore_free(ignore);
}

static void test_clean(void **state)
{
    static const char *const cases[][2] = {
        { "", "." }, { "a//b/./c/..", "a/b" }, { "/../a", "/a" }, { "../../a", "../../a" }, { "a/../../b", "../b" }, { "/", "/" }
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *clean = path_clean(cases[i][0]);
        assert_string_equal(clean, cases[i][1]);
    }
}

/* The content of a response fed byte by byte; NULL for a malformed one. */
static char *decode(const char *text, int *ret_status)
{
    struct http_head head;
    gsize size = strlen(text);
    gssize taken = http_head_parse(text, size, false, &head, NULL);
    if (taken <= 0)
        return NULL;
    *ret_status = head.status;
    struct http_body body;
    http_body_init(&body, &head);
    http_head_clear(&head);
    g_autoptr(GString) out = g_string_new(NULL);
    for (gsize at = (gsize)taken; at < size && !body.done;) {
        const char *content;
        gsize n, length;
        if (!http_body_take(&body, text + at, 1, &n, &content, &length, NULL))
            return NULL;
        g_string_append_len(out, content, (gssize)length);
        at += n;
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static void test_http(void **state)
{
    static const struct {
        const char *text, *content; /* NULL: malformed */
        int status;
    } cases[] = {
        { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", 200 },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", "hello!", 200 },
        { "HTTP/1.0 404 Not Found\n\nbody", "body", 404 },
        { "HTTP/1.1 204 No Content\r\n\r\nrest", "", 204 },
        { "HTTP/2 200 OK\r\n\r\n", NULL, 0 },
        { "HTTP/1.1 20x OK\r\n\r\n", NULL, 0 },
        { "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", NULL, 0 },
        { "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", NULL, 0 },
        { "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n", NULL, 0 },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", NULL, 0 },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", NULL, 0 },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", NULL, 0 },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        int status = 0;
        g_autofree char *content = decode(cases[i].text, &status);
        assert_true(g_strcmp0(content, cases[i].content) == 0);
        if (content)
            assert_int_equal(status, cases[i].status);
    }
}

static void test_tables(void **state)
{
    struct table *table = table_new(10, 3);
    table_line(table, "ID\tNAME\tX");
    table_line(table, "123456789\t日本\tend");
    table_line(table, "1\t\t");
    g_autofree char *text = table_finish(table);
    assert_string_equal(text, "ID          NAME      X\n123456789   日本      end\n1                     \n");
    g_autofree char *cut = text_ellipsis("/bin/sh -c 'exit 7; true'", 20), *whole = text_ellipsis("short", 20),
                    *wide = text_ellipsis("日本語", 5);
    assert_string_equal(cut, "/bin/sh -c 'exit 7;…");
    assert_string_equal(whole, "short");
    assert_string_equal(wide, "日本…");
    g_autofree char *indented = json_indent_raw("[{\"a\":[],\"b\":{\"c\":\"x, [y]\"}}]", 29);
    assert_string_equal(indented,
                        "[\n    {\n        \"a\": [],\n        \"b\": {\n            \"c\": \"x, [y]\"\n        }\n    }\n]");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_ignore), cmocka_unit_test(test_ignore_is_fast),
                                        cmocka_unit_test(test_clean), cmocka_unit_test(test_http),
                                        cmocka_unit_test(test_tables) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
