/* The index.json that is picked out of an archive on its way: of honest archives, and of all others. */
#include "cli/build-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define INDEX "{\"manifests\":[{\"mediaType\":\"text/x\",\"digest\":\"" DIGEST "\",\"size\":491}]}"
#define OTHER "{\"manifests\":[{\"mediaType\":\"text/y\",\"digest\":\"" DIGEST "\",\"size\":7}]}"

/* size: the field's twelve bytes, or NULL for the content's length. */
static void add(GString *archive, const char *name, char type, const char *size, const char *content)
{
    static const char zeros[512];
    char header[512] = "";
    gsize length = strlen(content);

    g_strlcpy(header, name, 100);
    if (size)
        memcpy(header + 124, size, 12);
    else
        g_snprintf(header + 124, 12, "%011zo", length);
    header[156] = type;
    g_string_append_len(archive, header, sizeof header);
    g_string_append_len(archive, content, (gssize)length);
    g_string_append_len(archive, zeros, (gssize)((512 - length % 512) % 512));
}

static void end(GString *archive)
{
    static const char zeros[1024];

    g_string_append_len(archive, zeros, sizeof zeros);
}

/* In pieces of so many bytes: "MEDIA-TYPE SIZE", or NULL where no index was found. */
static char *found_in(const GString *archive, gsize piece)
{
    struct archive_index *index = archive_index_new();

    for (gsize at = 0; at < archive->len; at += piece)
        archive_index_take(index, archive->str + at, MIN(piece, archive->len - at));
    g_autoptr(json_t) descriptor = archive_index_descriptor(index);

    archive_index_free(index);
    if (!descriptor)
        return NULL;
    assert_string_equal(json_get_string(descriptor, "digest", ""), DIGEST);
    return g_strdup_printf("%s %d", json_get_string(descriptor, "mediaType", "none"), (int)json_get_int(descriptor, "size", -1));
}

static void check(GString *archive, const char *expected)
{
    static const gsize pieces[] = { 1, 7, 511, 512, 513, 1 << 22 };

    for (size_t i = 0; i < G_N_ELEMENTS(pieces); i++) {
        g_autofree char *found = found_in(archive, pieces[i]);

        assert_true(g_strcmp0(found, expected) == 0);
    }
    g_string_free(archive, TRUE);
}

static void test_honest(void **state)
{
    GString *archive = g_string_new(NULL), *alone = g_string_new(NULL), *none = g_string_new(NULL);

    add(archive, "blobs/sha256/1", '0', NULL, "some content");
    add(archive, "blobs", '5', NULL, "");
    add(archive, "index.json", '0', NULL, INDEX);
    add(archive, "oci-layout", '0', NULL, "{}");
    end(archive);
    check(archive, "text/x 491");
    add(alone, "index.json", '\0', "\x80\0\0\0\0\0\0\0\0\0\0\x84", INDEX); /* 132, of base 256; the old kind of file */
    assert_int_equal(strlen(INDEX), 132);
    check(alone, "text/x 491");
    add(none, "index.jsonx", '0', NULL, INDEX);
    add(none, "a/index.json", '0', NULL, INDEX);
    end(none);
    check(none, NULL);
    check(g_string_new(NULL), NULL);
}

/* What no reader of the archive would take for its index is not taken here. */
static void test_in_the_wrong_place(void **state)
{
    GString *late = g_string_new(NULL), *directory = g_string_new(NULL), *content = g_string_new(NULL), *two = g_string_new(NULL),
            *inner = g_string_new(NULL);

    end(late);
    add(late, "index.json", '0', NULL, INDEX);
    check(late, NULL);
    for (const char *type = "12345xgLKS"; *type; type++)
        add(directory, "index.json", *type, NULL, OTHER);
    add(directory, "index.json", '0', NULL, INDEX);
    check(directory, "text/x 491");
    add(inner, "index.json", '0', NULL, OTHER);
    add(content, "blobs/sha256/1", '0', "00000002000", inner->str); /* 1024: a header and what belongs to it */
    g_string_truncate(content, 512);
    g_string_append_len(content, inner->str, (gssize)inner->len);
    add(content, "index.json", '0', NULL, INDEX);
    check(content, "text/x 491");
    add(two, "index.json", '0', NULL, INDEX);
    add(two, "index.json", '0', NULL, OTHER);
    check(two, "text/x 491");
    g_string_free(inner, TRUE);
}

static void test_sizes(void **state)
{
    static const char *const beyond[] = {
        "77777777777",
        "777777777777",
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
        "\x80\0\0\0\x80\0\0\0\0\0\0\0",
        "\x80\0\0\1\0\0\0\0\0\0\0\x84",
        "00004000001" /* a byte more than an index may have */
    };

    for (size_t i = 0; i < G_N_ELEMENTS(beyond); i++) {
        GString *itself = g_string_new(NULL), *before = g_string_new(NULL);

        add(itself, "index.json", '0', beyond[i], INDEX);
        end(itself);
        check(itself, NULL);
        add(before, "blobs/sha256/1", '0', beyond[i], "");
        add(before, "index.json", '0', NULL, INDEX);
        check(before, NULL);
    }
}

static void test_contents(void **state)
{
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "null",
        "{\"manifests\":{}}",
        "{\"manifests\":[]}",
        "{\"manifests\":[7]}",
        "{\"manifests\":[{}]}",
        "{\"manifests\":[{\"digest\":7}]}",
        "{\"manifests\":[{\"digest\":\"sha256:0\"}]}",
        "{\"manifests\":[{\"digest\":\"" DIGEST "0\"}]}",
        INDEX INDEX,
        "{\"manifests\":[],\"manifests\":[]}",
        "{\"manifests\":[{\"digest\":\"\xff\"}]}",
    };
    GString *archive = g_string_new(NULL), *deep = g_string_new(NULL), *odd = g_string_new(NULL);
    g_autofree char *brackets = g_strnfill(1 << 20, '[');

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        GString *one = g_string_new(NULL);

        add(one, "index.json", '0', NULL, bad[i]);
        end(one);
        check(one, NULL);
    }
    add(deep, "index.json", '0', NULL, brackets);
    check(deep, NULL);
    add(odd, "index.json", '0', NULL, "{\"manifests\":[{\"digest\":\"" DIGEST "\",\"mediaType\":[],\"size\":\"x\"}]}");
    check(odd, " 0");
    add(archive, "index.json", '0', NULL, INDEX);
    g_string_truncate(archive, 512 + strlen(INDEX) - 1); /* cut */
    check(archive, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_honest), cmocka_unit_test(test_in_the_wrong_place),
                                        cmocka_unit_test(test_sizes), cmocka_unit_test(test_contents) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
