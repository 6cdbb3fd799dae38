/* Layers compressed for a registry: the content comes back, the bytes are the same each time, and what cannot be read is said. */
#include "layer/encode.h"

#include "base/digest.h"
#include "base/fd.h"
#include "layer/decode.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* Text that repeats over long distances, then noise. */
static int make_file(gsize length)
{
    int fd = memfd_create("tar", MFD_CLOEXEC);
    assert_true(fd >= 0);
    g_autofree guint8 *data = g_malloc(MAX(length, 1));
    guint32 state = 12345;
    for (gsize i = 0; i < length; i++) {
        state = state * 1664525 + 1013904223;
        data[i] = (i / 100000) % 3 == 2 ? (guint8)(state >> 24) : (guint8)("/usr/share/doc/"[i % 15] + (i / 700) % 5);
    }
    assert_int_equal(fd_write_full(fd, data, length), 0);
    return fd;
}

static GByteArray *read_whole(struct byte_source *source, gsize step)
{
    GByteArray *all = g_byte_array_new();
    g_autofree guint8 *buffer = g_malloc(step);
    gssize n;
    g_autoptr(GError) error = NULL;
    while ((n = source_read(source, buffer, step, &error)) > 0)
        g_byte_array_append(all, buffer, (guint)n);
    assert_null(error);
    assert_int_equal(n, 0);
    assert_int_equal(source_read(source, buffer, step, &error), 0);
    return all;
}

struct collecting_sink {
    struct byte_sink sink;
    GByteArray *into;
};

static bool collect(struct byte_sink *self, const void *data, gsize length, GError **error)
{
    g_byte_array_append(((struct collecting_sink *)self)->into, data, (guint)length);
    return true;
}

static void check(gsize length, enum layer_encoding encoding)
{
    g_autofd int fd = make_file(length);
    struct layer_encoder_pool *pool = layer_encoder_pool_new();
    char digests[2][DIGEST_ROOM];
    for (unsigned round = 0; round < 2; round++) {
        struct layer_encoder *encoder = layer_encoder_new(pool, fd, length, encoding, NULL);
        g_autoptr(GByteArray) packed = read_whole(layer_encoder_source(encoder), round ? 777 : 65536);
        assert_int_equal(layer_encoder_consumed(encoder), length);
        layer_encoder_free(encoder);
        digest_of(packed->data, packed->len, digests[round]);
        assert_int_equal(decode_sniff(packed->data, packed->len), encoding == LAYER_ENCODING_GZIP ? DECODE_GZIP : DECODE_ZSTD);
        struct memory_source source;
        memory_source_init(&source, packed->data, packed->len);
        g_autoptr(GByteArray) back = g_byte_array_new();
        struct collecting_sink sink = { .sink.write = collect, .into = back };
        const struct decode_limits limits = { .max_output = length };
        g_autoptr(GError) error = NULL;
        assert_true(decode_stream(&source.source, &sink.sink, &limits, &error));
        assert_int_equal(back->len, length);
        g_autofree guint8 *expected = g_malloc(MAX(length, 1));
        assert_int_equal(fd_pread_full(fd, expected, length, 0), length);
        assert_true(length == 0 || memcmp(back->data, expected, length) == 0);
        assert_true(length < 1000 || packed->len < length);
    }
    assert_string_equal(digests[0], digests[1]);
    layer_encoder_pool_free(pool);
}

static void test_lengths(void **state)
{
    static const gsize lengths[] = { 0, 1, 511, 32768, 524287, 524288, 524289, 1048576, 3500000, 5 << 20 };
    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        check(lengths[i], LAYER_ENCODING_GZIP);
        check(lengths[i], LAYER_ENCODING_ZSTD);
    }
}

/* Some readers of layers stop at the first member. */
static void test_one_member(void **state)
{
    g_autofd int fd = make_file(2 << 20);
    struct layer_encoder_pool *pool = layer_encoder_pool_new();
    struct layer_encoder *encoder = layer_encoder_new(pool, fd, 2 << 20, LAYER_ENCODING_GZIP, NULL);
    g_autoptr(GByteArray) packed = read_whole(layer_encoder_source(encoder), 4096);
    layer_encoder_free(encoder);
    layer_encoder_pool_free(pool);
    guint n_headers = 0;
    for (guint i = 0; i + 9 < packed->len; i++)
        n_headers += memcmp(packed->data + i, "\x1f\x8b\x08\0\0\0\0\0\0\xff", 10) == 0;
    assert_int_equal(n_headers, 1);
}

static void test_failures(void **state)
{
    g_autofd int fd = make_file(1000);
    struct layer_encoder_pool *pool = layer_encoder_pool_new();
    struct layer_encoder *encoder = layer_encoder_new(pool, fd, 3 << 20, LAYER_ENCODING_GZIP, NULL);
    char buffer[4096];
    g_autoptr(GError) error = NULL;
    gssize n;
    while ((n = source_read(layer_encoder_source(encoder), buffer, sizeof buffer, &error)) > 0)
        ;
    assert_int_equal(n, -1);
    assert_string_equal(error->message, "read the layer: it has become shorter");
    layer_encoder_free(encoder);
    g_clear_error(&error);
    struct cancel *cancel = cancel_new();
    encoder = layer_encoder_new(pool, fd, 1000, LAYER_ENCODING_ZSTD, cancel);
    cancel_trigger(cancel);
    assert_int_equal(source_read(layer_encoder_source(encoder), buffer, sizeof buffer, &error), -1);
    assert_true(g_error_matches(error, TARE_ERROR, TARE_ERROR_CANCELLED));
    layer_encoder_free(encoder);
    /* Freed before anything was read, and with pieces under way. */
    encoder = layer_encoder_new(pool, fd, 1000, LAYER_ENCODING_GZIP, NULL);
    layer_encoder_free(encoder);
    encoder = layer_encoder_new(pool, fd, 1000, LAYER_ENCODING_GZIP, NULL);
    assert_int_equal(source_read(layer_encoder_source(encoder), buffer, 1, NULL), 1);
    layer_encoder_free(encoder);
    layer_encoder_pool_free(pool);
    cancel_unref(cancel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_one_member),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
