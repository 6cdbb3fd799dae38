/* Decoding by content: every format, its members, its padding, and every way to be broken. */
#include "layer/decode.h"

#include <bzlib.h>
#include <isa-l/igzip_lib.h>
#include <lzma.h>
#include <string.h>
#include <zstd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define NO_LIMIT G_MAXUINT64

/* ---- making compressed data ---- */

static void pack_gzip(GByteArray *out, const void *data, gsize length)
{
    g_autofree guint8 *room = g_malloc(length + length / 8 + 4096);
    g_autofree struct isal_zstream *stream = g_new0(struct isal_zstream, 1);
    isal_deflate_init(stream);
    stream->gzip_flag = IGZIP_GZIP;
    stream->end_of_stream = 1;
    stream->next_in = (guint8 *)data;
    stream->avail_in = (guint32)length;
    stream->next_out = room;
    stream->avail_out = (guint32)(length + length / 8 + 4096);
    assert_int_equal(isal_deflate(stream), COMP_OK);
    g_byte_array_append(out, room, stream->total_out);
}

static void pack_zstd(GByteArray *out, const void *data, gsize length)
{
    gsize bound = ZSTD_compressBound(length);
    g_autofree guint8 *room = g_malloc(bound);
    size_t n = ZSTD_compress(room, bound, data, length, 1);
    assert_false(ZSTD_isError(n));
    g_byte_array_append(out, room, (guint)n);
}

static void pack_xz(GByteArray *out, const void *data, gsize length)
{
    gsize bound = lzma_stream_buffer_bound(length), at = 0;
    g_autofree guint8 *room = g_malloc(bound);
    assert_int_equal(lzma_easy_buffer_encode(0, LZMA_CHECK_CRC64, NULL, data, length, room, &at, bound), LZMA_OK);
    g_byte_array_append(out, room, (guint)at);
}

static void pack_bzip2(GByteArray *out, const void *data, gsize length)
{
    unsigned n = (unsigned)(length + length / 50 + 1024);
    g_autofree char *room = g_malloc(n);
    assert_int_equal(BZ2_bzBuffToBuffCompress(room, &n, (char *)data, (unsigned)length, 1, 0, 0), BZ_OK);
    g_byte_array_append(out, (guint8 *)room, n);
}

static const struct {
    const char *name;
    enum decode_format format;
    void (*pack)(GByteArray *out, const void *data, gsize length);
} formats[] = {
    { "gzip", DECODE_GZIP, pack_gzip },
    { "zstd", DECODE_ZSTD, pack_zstd },
    { "xz", DECODE_XZ, pack_xz },
    { "bzip2", DECODE_BZIP2, pack_bzip2 },
};

/* ---- decoding ---- */

/* Gives its bytes in pieces of one size, so that buffers end anywhere. */
struct piece_source {
    struct byte_source source;
    const guint8 *data;
    gsize length, at, piece;
};

static gssize read_piece(struct byte_source *source, void *buffer, gsize length, GError **error)
{
    struct piece_source *self = (struct piece_source *)source;
    gsize n = MIN(MIN(length, self->piece), self->length - self->at);
    if (n > 0)
        memcpy(buffer, self->data + self->at, n);
    self->at += n;
    return (gssize)n;
}

struct array_sink {
    struct byte_sink sink;
    GByteArray *array;
};

static bool append(struct byte_sink *sink, const void *data, gsize length, GError **error)
{
    g_byte_array_append(((struct array_sink *)sink)->array, data, (guint)length);
    return true;
}

static bool decode(const guint8 *data, gsize length, gsize piece, guint64 max, GByteArray *out, GError **error)
{
    struct piece_source source = { .source.read = read_piece, .data = data, .length = length, .piece = piece };
    struct array_sink sink = { .sink.write = append, .array = out };
    struct decode_limits limits = { .max_output = max };
    g_byte_array_set_size(out, 0);
    return decode_stream(&source.source, &sink.sink, &limits, error);
}

static void assert_decodes(const GByteArray *packed, gsize piece, const void *expected, gsize length)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    if (!decode(packed->data, packed->len, piece, NO_LIMIT, out, &error))
        fail_msg("%s", error->message);
    assert_int_equal(out->len, length);
    assert_memory_equal(out->data, expected, length);
}

static void assert_refused(const guint8 *data, gsize length, guint64 max, enum tare_error code, const char *message)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    assert_false(decode(data, length, 4096, max, out, &error));
    assert_true(error_is(error, code));
    if (message)
        assert_string_equal(error->message, message);
}

/* Text that compresses a little and is not the same anywhere. */
static guint8 *make_text(gsize length)
{
    guint8 *text = g_malloc(length + 1);
    guint32 state = 1;
    for (gsize i = 0; i < length; i++) {
        state = state * 1664525 + 1013904223;
        text[i] = (guint8)('a' + (state >> 24) % 23);
    }
    return text;
}

/* ---- tests ---- */

static void test_sniff(void **state)
{
    assert_int_equal(decode_sniff("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", 10), DECODE_GZIP);
    assert_int_equal(decode_sniff("\x5a\x2a\x4d\x18\x00\x00\x00\x00", 8), DECODE_ZSTD);
    assert_int_equal(decode_sniff("BZh91AY&SY", 10), DECODE_BZIP2);
    assert_int_equal(decode_sniff("BZh9.txt\0\0", 10), DECODE_PLAIN);
    assert_int_equal(decode_sniff("\x1f\x8b", 2), DECODE_PLAIN);
    assert_int_equal(decode_sniff("", 0), DECODE_PLAIN);
}

static void test_plain_passes(void **state)
{
    g_autofree guint8 *text = make_text(700000);
    g_autoptr(GByteArray) packed = g_byte_array_new();
    assert_decodes(packed, 1, "", 0);
    g_byte_array_append(packed, text, 700000);
    assert_decodes(packed, 77777, text, 700000);
    assert_refused(packed->data, packed->len, 699999, TARE_ERROR_TOO_LARGE, "data is larger than 699999 bytes");
}

static void test_every_format_in_pieces(void **state)
{
    static const gsize lengths[] = { 0, 1, 1000, 900000 }, pieces[] = { 1, 7, 4096, 1 << 20 };
    for (size_t f = 0; f < G_N_ELEMENTS(formats); f++)
        for (size_t l = 0; l < G_N_ELEMENTS(lengths); l++) {
            g_autofree guint8 *text = make_text(lengths[l]);
            g_autoptr(GByteArray) packed = g_byte_array_new();
            formats[f].pack(packed, text, lengths[l]);
            assert_int_equal(decode_sniff(packed->data, packed->len), formats[f].format);
            for (size_t p = 0; p < G_N_ELEMENTS(pieces); p++)
                if (lengths[l] < 100000 || pieces[p] > 7)
                    assert_decodes(packed, pieces[p], text, lengths[l]);
        }
}

static void test_members_one_after_another(void **state)
{
    g_autofree guint8 *text = make_text(300000);
    for (size_t f = 0; f < G_N_ELEMENTS(formats); f++) {
        g_autoptr(GByteArray) packed = g_byte_array_new();
        formats[f].pack(packed, text, 100000);
        formats[f].pack(packed, text, 0);
        formats[f].pack(packed, text + 100000, 199999);
        formats[f].pack(packed, text + 299999, 1);
        for (gsize piece = 1; piece < 5000; piece = piece * 3 + 1)
            assert_decodes(packed, piece, text, 300000);
        /* … and zeros behind them, as tapes and block devices leave; nothing else. */
        g_byte_array_set_size(packed, packed->len + 10239);
        memset(packed->data + packed->len - 10239, 0, 10239);
        assert_decodes(packed, 500, text, 300000);
        packed->data[packed->len - 1] = 'x';
        g_autofree char *message = g_strdup_printf("unexpected data after the end of the %s stream", formats[f].name);
        assert_refused(packed->data, packed->len, NO_LIMIT, TARE_ERROR_INVALID, message);
        packed->data[packed->len - 10239] = 'x';
        assert_refused(packed->data, packed->len, NO_LIMIT, TARE_ERROR_INVALID, message);
        g_byte_array_set_size(packed, packed->len - 10238);
        assert_refused(packed->data, packed->len, NO_LIMIT, TARE_ERROR_INVALID, message);
    }
}

static void test_gzip_headers_cut_anywhere(void **state)
{
    /* FHCRC | FEXTRA | FNAME | FCOMMENT, then an empty deflate block; the header's check is the low half of its CRC-32. */
    static const guint8 start[] = { 0x1f, 0x8b, 8,   0x1e, 1,   2,   3,   4,   0, 3,   5,   0, 'e',
                                    'x',  't',  'r', 'a',  'n', 'a', 'm', 'e', 0, 'h', 'i', 0 };
    static const guint8 empty[] = { 3, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
    guint32 check = ~0u;
    for (gsize i = 0; i < sizeof start; i++) {
        check ^= start[i];
        for (int bit = 0; bit < 8; bit++)
            check = check >> 1 ^ (0xedb88320u & -(check & 1));
    }
    guint8 half[] = { (guint8)~check, (guint8)(~check >> 8) };
    g_autoptr(GByteArray) packed = g_byte_array_new();
    g_byte_array_append(packed, start, sizeof start);
    g_byte_array_append(packed, half, sizeof half);
    g_byte_array_append(packed, empty, sizeof empty);
    pack_gzip(packed, "hello", 5);
    for (gsize piece = 1; piece <= packed->len; piece++)
        assert_decodes(packed, piece, "hello", 5);
    packed->data[sizeof start] ^= 1;
    assert_refused(packed->data, packed->len, NO_LIMIT, TARE_ERROR_INVALID, "invalid gzip data: checksum does not match");
}

static void test_zstd_skippable_frames(void **state)
{
    static const guint8 skip[] = { 0x50, 0x2a, 0x4d, 0x18, 5, 0, 0, 0, 'h', 'e', 'l', 'l', 'o' };
    g_autoptr(GByteArray) packed = g_byte_array_new();
    g_byte_array_append(packed, skip, sizeof skip);
    pack_zstd(packed, "one ", 4);
    g_byte_array_append(packed, skip, sizeof skip);
    pack_zstd(packed, "two", 3);
    g_byte_array_append(packed, skip, sizeof skip);
    for (gsize piece = 1; piece <= packed->len; piece++)
        assert_decodes(packed, piece, "one two", 7);
}

static void test_zstd_window_is_limited(void **state)
{
    /* A frame header that asks for a window of 2 GiB (exponent 21), then an empty last block. */
    static const guint8 huge[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 1, 0, 0 };
    assert_refused(huge, sizeof huge, NO_LIMIT, TARE_ERROR_INVALID,
                   "invalid zstd data: frame requires too much memory for decoding");
}

static void test_truncation_at_every_point(void **state)
{
    g_autofree guint8 *text = make_text(3000);
    for (size_t f = 0; f < G_N_ELEMENTS(formats); f++) {
        g_autoptr(GByteArray) packed = g_byte_array_new();
        formats[f].pack(packed, text, 3000);
        g_autofree char *message = g_strdup_printf("unexpected end of %s stream", formats[f].name);
        for (gsize length = DECODE_SNIFF_BYTES; length < packed->len; length++)
            assert_refused(packed->data, length, NO_LIMIT, TARE_ERROR_INVALID, message);
    }
}

static void test_corruption_is_seen(void **state)
{
    g_autofree guint8 *text = make_text(20000);
    g_autoptr(GByteArray) out = g_byte_array_new();
    for (size_t f = 0; f < G_N_ELEMENTS(formats); f++) {
        g_autoptr(GByteArray) packed = g_byte_array_new();
        formats[f].pack(packed, text, 20000);
        for (gsize at = 20; at < packed->len; at += 37) {
            g_autoptr(GError) error = NULL;
            packed->data[at] ^= 0x10;
            /* zstd here has no checksum: then the digest finds it. Nothing may crash, and the others must see it. */
            bool ok = decode(packed->data, packed->len, 4096, NO_LIMIT, out, &error);
            if (formats[f].format != DECODE_ZSTD)
                assert_false(ok);
            packed->data[at] ^= 0x10;
        }
        assert_decodes(packed, 4096, text, 20000);
    }
}

static void test_bombs_stop_at_the_limit(void **state)
{
    gsize length = 16 << 20;
    g_autofree guint8 *zeros = g_malloc0(length);
    for (size_t f = 0; f < G_N_ELEMENTS(formats); f++) {
        g_autoptr(GByteArray) packed = g_byte_array_new();
        g_autoptr(GByteArray) out = g_byte_array_new();
        g_autoptr(GError) error = NULL;
        formats[f].pack(packed, zeros, length);
        assert_false(decode(packed->data, packed->len, 65536, 1 << 20, out, &error));
        assert_true(error_is(error, TARE_ERROR_TOO_LARGE));
        assert_string_equal(error->message, "uncompressed data is larger than 1048576 bytes");
        assert_true(out->len <= 1 << 20);
        g_clear_error(&error);
        assert_true(decode(packed->data, packed->len, 65536, length, out, &error));
    }
}

static bool refuse(struct byte_sink *sink, const void *data, gsize length, GError **error)
{
    return error_set(error, TARE_ERROR_NO_SPACE, "no space left on device");
}

static void test_errors_of_the_sink_come_through(void **state)
{
    for (size_t f = 0; f < G_N_ELEMENTS(formats); f++) {
        g_autoptr(GByteArray) packed = g_byte_array_new();
        g_autoptr(GError) error = NULL;
        formats[f].pack(packed, "hello", 5);
        struct memory_source source;
        struct byte_sink sink = { .write = refuse };
        struct decode_limits limits = { .max_output = NO_LIMIT };
        memory_source_init(&source, packed->data, packed->len);
        assert_false(decode_stream(&source.source, &sink, &limits, &error));
        assert_true(error_is(error, TARE_ERROR_NO_SPACE));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sniff),
        cmocka_unit_test(test_plain_passes),
        cmocka_unit_test(test_every_format_in_pieces),
        cmocka_unit_test(test_members_one_after_another),
        cmocka_unit_test(test_gzip_headers_cut_anywhere),
        cmocka_unit_test(test_zstd_skippable_frames),
        cmocka_unit_test(test_zstd_window_is_limited),
        cmocka_unit_test(test_truncation_at_every_point),
        cmocka_unit_test(test_corruption_is_seen),
        cmocka_unit_test(test_bombs_stop_at_the_limit),
        cmocka_unit_test(test_errors_of_the_sink_come_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
