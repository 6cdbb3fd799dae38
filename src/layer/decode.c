#include "layer/decode.h"

#include <bzlib.h>
#include <isa-l/igzip_lib.h>
#include <lzma.h>
#include <string.h>
#include <zstd.h>

#define INPUT_ROOM (256u << 10)
#define OUTPUT_ROOM DECODE_OUTPUT_ROOM
#define PAGE_BYTES 4096u
#define DEFAULT_MEMORY (128u << 20)

struct decoder {
    struct byte_source *source;
    guint8 *input;
    gsize at, end; /* input[at..end) is not yet used */
    bool at_eof;

    struct byte_sink *sink;
    guint8 *output; /* the buffer in use, of n_outputs */
    guint8 *outputs;
    unsigned output_at, n_outputs;
    gsize used;
    guint64 total, max_output, max_memory;

    const char *name; /* of the format */
};

/* ---- recognising ---- */

enum decode_format decode_sniff(const void *data, gsize length)
{
    static const guint8 gzip[] = { 0x1f, 0x8b, 8 }, zstd[] = { 0x28, 0xb5, 0x2f, 0xfd }, xz[] = { 0xfd, '7', 'z', 'X', 'Z', 0 };
    static const guint8 block[] = { 0x31, 0x41, 0x59, 0x26, 0x53, 0x59 }, last[] = { 0x17, 0x72, 0x45, 0x38, 0x50, 0x90 };
    const guint8 *bytes = data;

    if (length >= sizeof gzip && memcmp(bytes, gzip, sizeof gzip) == 0)
        return DECODE_GZIP;
    if (length >= sizeof zstd && memcmp(bytes, zstd, sizeof zstd) == 0)
        return DECODE_ZSTD;
    if (length >= 4 && (bytes[0] & 0xf0) == 0x50 && memcmp(bytes + 1, "\x2a\x4d\x18", 3) == 0) /* a skippable frame first */
        return DECODE_ZSTD;
    if (length >= sizeof xz && memcmp(bytes, xz, sizeof xz) == 0)
        return DECODE_XZ;
    /* "BZh9" alone could begin a name in a tar: the mark of the first block (or of an empty stream's end) must follow. */
    if (length >= DECODE_SNIFF_BYTES && memcmp(bytes, "BZh", 3) == 0 && bytes[3] >= '1' && bytes[3] <= '9' &&
        (memcmp(bytes + 4, block, sizeof block) == 0 || memcmp(bytes + 4, last, sizeof last) == 0))
        return DECODE_BZIP2;
    return DECODE_PLAIN;
}

const char *decode_format_name(enum decode_format format)
{
    static const char *const names[] = { "plain", "gzip", "zstd", "xz", "bzip2" };
    return names[format];
}

/* ---- input and output ---- */

/* Makes at least `wanted` (small) unused bytes stand at input + at, fewer only at the end of the source. */
static bool need_input(struct decoder *decoder, gsize wanted, GError **error)
{
    if (decoder->end - decoder->at >= wanted || decoder->at_eof)
        return true;
    memmove(decoder->input, decoder->input + decoder->at, decoder->end - decoder->at);
    decoder->end -= decoder->at;
    decoder->at = 0;
    while (decoder->end < wanted && !decoder->at_eof) {
        gssize n = source_read(decoder->source, decoder->input + decoder->end, INPUT_ROOM - decoder->end, error);
        if (n < 0)
            return false;
        decoder->at_eof = n == 0;
        decoder->end += (gsize)n;
    }
    return true;
}

static bool flush_output(struct decoder *decoder, GError **error)
{
    if (decoder->used > decoder->max_output - decoder->total)
        return error_set(error, TARE_ERROR_TOO_LARGE, "uncompressed data is larger than %" G_GUINT64_FORMAT " bytes",
                         decoder->max_output);
    decoder->total += decoder->used;
    bool ok = decoder->used == 0 || sink_write(decoder->sink, decoder->output, decoder->used, error);
    decoder->output_at = (decoder->output_at + 1) % decoder->n_outputs;
    decoder->output = decoder->outputs + (gsize)decoder->output_at * OUTPUT_ROOM;
    decoder->used = 0;
    return ok;
}

static bool fail_truncated(const struct decoder *decoder, GError **error)
{
    return error_set(error, TARE_ERROR_INVALID, "unexpected end of %s stream", decoder->name);
}

static bool fail_corrupt(const struct decoder *decoder, const char *detail, GError **error)
{
    return error_set(error, TARE_ERROR_INVALID, "invalid %s data: %s", decoder->name, detail);
}

/* Before each step of a member: input must be there, and room for output. */
static bool ready(struct decoder *decoder, GError **error)
{
    if (decoder->used == OUTPUT_ROOM && !flush_output(decoder, error))
        return false;
    return need_input(decoder, 1, error);
}

/* ---- gzip ---- */

static const char *gzip_error_text(int code)
{
    switch (code) {
    case ISAL_INVALID_WRAPPER:
        return "bad header";
    case ISAL_UNSUPPORTED_METHOD:
        return "unknown compression method";
    case ISAL_INCORRECT_CHECKSUM:
        return "checksum does not match";
    case ISAL_INVALID_LOOKBACK:
        return "bad distance";
    case ISAL_INVALID_SYMBOL:
        return "bad code";
    default:
        return "bad block";
    }
}

/* The header is read here and not by isal_inflate, which forgets its flags when a header is cut by the end of a buffer. */
static bool gzip_header(struct decoder *decoder, struct inflate_state *state, GError **error)
{
    struct isal_gzip_header header;
    isal_gzip_header_init(&header);
    state->crc_flag = ISAL_GZIP_NO_HDR_VER;
    for (;;) {
        if (!need_input(decoder, 1, error))
            return false;
        if (decoder->at == decoder->end)
            return fail_truncated(decoder, error);
        state->next_in = decoder->input + decoder->at;
        state->avail_in = (guint32)(decoder->end - decoder->at);
        int code = isal_read_gzip_header(state, &header);
        decoder->at = decoder->end - state->avail_in;
        if (code < 0)
            return fail_corrupt(decoder, gzip_error_text(code), error);
        if (code == ISAL_DECOMP_OK)
            return true;
    }
}

static bool gzip_body(struct decoder *decoder, struct inflate_state *state, GError **error)
{
    while (state->block_state != ISAL_BLOCK_FINISH) {
        if (!ready(decoder, error))
            return false;
        gsize had_input = decoder->end - decoder->at, had_output = decoder->used;
        state->next_in = decoder->input + decoder->at;
        state->avail_in = (guint32)had_input;
        state->next_out = decoder->output + decoder->used;
        state->avail_out = (guint32)(OUTPUT_ROOM - decoder->used);
        int code = isal_inflate(state);
        decoder->at = decoder->end - state->avail_in;
        decoder->used = OUTPUT_ROOM - state->avail_out;
        if (code < 0)
            return fail_corrupt(decoder, gzip_error_text(code), error);
        if (code == ISAL_NEED_DICT)
            return fail_corrupt(decoder, "needs a dictionary", error);
        if (state->block_state != ISAL_BLOCK_FINISH && decoder->at_eof && had_input == 0 && decoder->used == had_output)
            return fail_truncated(decoder, error);
    }
    return true;
}

static bool gzip_member(struct decoder *decoder, GError **error)
{
    g_autofree struct inflate_state *state = g_new(struct inflate_state, 1);
    isal_inflate_init(state);
    return gzip_header(decoder, state, error) && gzip_body(decoder, state, error);
}

/* ---- zstd ---- */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(ZSTD_DCtx, ZSTD_freeDCtx)

static bool zstd_member(struct decoder *decoder, GError **error)
{
    g_autoptr(ZSTD_DCtx) context = ZSTD_createDCtx();
    if (!context)
        return error_set(error, TARE_ERROR_INTERNAL, "out of memory");
    ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, (int)g_bit_storage(decoder->max_memory) - 1);
    for (;;) {
        if (!ready(decoder, error))
            return false;
        ZSTD_inBuffer in = { decoder->input + decoder->at, decoder->end - decoder->at, 0 };
        ZSTD_outBuffer out = { decoder->output, OUTPUT_ROOM, decoder->used };
        size_t left = ZSTD_decompressStream(context, &out, &in);
        bool moved = in.pos > 0 || out.pos > decoder->used;
        decoder->at += in.pos;
        decoder->used = out.pos;
        if (ZSTD_isError(left)) {
            g_autofree char *detail = g_ascii_strdown(ZSTD_getErrorName(left), -1);
            return fail_corrupt(decoder, detail, error);
        }
        if (left == 0)
            return true;
        if (!moved && decoder->at_eof && decoder->used < OUTPUT_ROOM)
            return fail_truncated(decoder, error);
    }
}

/* ---- xz ---- */

static const char *xz_error_text(lzma_ret code)
{
    switch (code) {
    case LZMA_MEMLIMIT_ERROR:
    case LZMA_MEM_ERROR:
        return "needs too much memory";
    case LZMA_FORMAT_ERROR:
        return "bad header";
    case LZMA_OPTIONS_ERROR:
        return "unsupported options";
    default:
        return "damaged";
    }
}

static bool xz_run(struct decoder *decoder, lzma_stream *stream, GError **error)
{
    for (;;) {
        if (!ready(decoder, error))
            return false;
        gsize had_input = decoder->end - decoder->at, had_output = decoder->used;
        stream->next_in = decoder->input + decoder->at;
        stream->avail_in = had_input;
        stream->next_out = decoder->output + decoder->used;
        stream->avail_out = OUTPUT_ROOM - decoder->used;
        lzma_ret code = lzma_code(stream, LZMA_RUN);
        decoder->at = decoder->end - stream->avail_in;
        decoder->used = OUTPUT_ROOM - stream->avail_out;
        if (code == LZMA_STREAM_END)
            return true;
        if (code != LZMA_OK && code != LZMA_BUF_ERROR)
            return fail_corrupt(decoder, xz_error_text(code), error);
        if (decoder->at_eof && had_input == 0 && decoder->used == had_output)
            return fail_truncated(decoder, error);
    }
}

static bool xz_member(struct decoder *decoder, GError **error)
{
    lzma_stream stream = LZMA_STREAM_INIT;
    if (lzma_stream_decoder(&stream, decoder->max_memory, 0) != LZMA_OK)
        return error_set(error, TARE_ERROR_INTERNAL, "out of memory");
    bool ok = xz_run(decoder, &stream, error);
    lzma_end(&stream);
    return ok;
}

/* ---- bzip2 ---- */

static bool bzip2_run(struct decoder *decoder, bz_stream *stream, GError **error)
{
    for (;;) {
        if (!ready(decoder, error))
            return false;
        gsize had_input = decoder->end - decoder->at, had_output = decoder->used;
        stream->next_in = (char *)decoder->input + decoder->at;
        stream->avail_in = (unsigned)had_input;
        stream->next_out = (char *)decoder->output + decoder->used;
        stream->avail_out = (unsigned)(OUTPUT_ROOM - decoder->used);
        int code = BZ2_bzDecompress(stream);
        decoder->at = decoder->end - stream->avail_in;
        decoder->used = OUTPUT_ROOM - stream->avail_out;
        if (code == BZ_STREAM_END)
            return true;
        if (code != BZ_OK)
            return fail_corrupt(decoder, code == BZ_MEM_ERROR ? "needs too much memory" : "damaged", error);
        if (decoder->at_eof && had_input == 0 && decoder->used == had_output)
            return fail_truncated(decoder, error);
    }
}

static bool bzip2_member(struct decoder *decoder, GError **error)
{
    bz_stream stream = { 0 };
    if (BZ2_bzDecompressInit(&stream, 0, 0) != BZ_OK)
        return error_set(error, TARE_ERROR_INTERNAL, "out of memory");
    bool ok = bzip2_run(decoder, &stream, error);
    BZ2_bzDecompressEnd(&stream);
    return ok;
}

/* ---- streams ---- */

static bool pass_plain(struct decoder *decoder, GError **error)
{
    for (;;) {
        if (!need_input(decoder, 1, error))
            return false;
        gsize n = decoder->end - decoder->at;
        if (n == 0)
            return true;
        if (n > decoder->max_output - decoder->total)
            return error_set(error, TARE_ERROR_TOO_LARGE, "data is larger than %" G_GUINT64_FORMAT " bytes", decoder->max_output);
        decoder->total += n;
        if (!sink_write(decoder->sink, decoder->input + decoder->at, n, error))
            return false;
        decoder->at = decoder->end;
    }
}

/* What tapes and block devices leave behind the end, and xz between streams. */
static bool skip_zeros(struct decoder *decoder, guint64 *ret_count, GError **error)
{
    guint64 count = 0;
    for (;; count++, decoder->at++) {
        if (!need_input(decoder, 1, error))
            return false;
        if (decoder->at == decoder->end || decoder->input[decoder->at] != 0)
            break;
    }
    *ret_count = count;
    return true;
}

/* Zeros are the end, but in xz four times n of them are padding where another stream follows (its format's section 2.2). */
static bool decode_members(struct decoder *decoder, enum decode_format format, GError **error)
{
    static bool (*const member[])(struct decoder * decoder, GError * *error) = {
        [DECODE_GZIP] = gzip_member,
        [DECODE_ZSTD] = zstd_member,
        [DECODE_XZ] = xz_member,
        [DECODE_BZIP2] = bzip2_member,
    };
    for (;;) {
        guint64 zeros;
        if (!member[format](decoder, error) || !skip_zeros(decoder, &zeros, error) ||
            !need_input(decoder, DECODE_SNIFF_BYTES, error))
            return false;
        gsize left = decoder->end - decoder->at;
        if (left == 0)
            return flush_output(decoder, error);
        bool may_follow = zeros == 0 || (format == DECODE_XZ && zeros % 4 == 0);
        if (!may_follow || decode_sniff(decoder->input + decoder->at, left) != format)
            return error_set(error, TARE_ERROR_INVALID, "unexpected data after the end of the %s stream", decoder->name);
    }
}

bool decode_stream(struct byte_source *source, struct byte_sink *sink, const struct decode_limits *limits, GError **error)
{
    struct decoder decoder = {
        .source = source,
        .sink = sink,
        .max_output = limits->max_output,
        .max_memory = limits->max_memory ? limits->max_memory : DEFAULT_MEMORY,
        .n_outputs = MAX(limits->buffers, 1),
    };
    g_autofree guint8 *input = decoder.input = g_malloc(INPUT_ROOM);
    g_autofree guint8 *output = g_malloc((gsize)decoder.n_outputs * OUTPUT_ROOM + PAGE_BYTES);
    decoder.output = decoder.outputs = output + (PAGE_BYTES - (guintptr)output % PAGE_BYTES) % PAGE_BYTES;
    if (!need_input(&decoder, DECODE_SNIFF_BYTES, error))
        return false;
    enum decode_format format = decode_sniff(decoder.input, decoder.end);
    decoder.name = decode_format_name(format);
    return format == DECODE_PLAIN ? pass_plain(&decoder, error) : decode_members(&decoder, format, error);
}
