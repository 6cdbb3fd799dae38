/* See encode.h. Pieces go round in a ring: one is read from while others are being compressed. */
#include "layer/encode.h"

#include "base/fd.h"

#include <errno.h>
#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <string.h>
#include <zstd.h>

enum {
    PIECE_BYTES = 512 << 10,
    HISTORY_BYTES = 32 << 10, /* deflate's window */
    N_PIECES = 3,
    GZIP_LEVEL = 2, /* as fast as 1 on Debian's files, and smaller */
    ZSTD_LEVEL = 3,
};

enum piece_state { PIECE_FREE, PIECE_BUSY, PIECE_DONE, PIECE_FAILED };

struct piece {
    struct layer_encoder *encoder;
    enum piece_state state; /* under the encoder's lock */
    guint64 offset;
    gsize history, length; /* in input: that many bytes from before the piece, then the piece */
    guint8 *input;
    GByteArray *output;
    GError *problem;
};

struct layer_encoder {
    struct byte_source source;
    struct layer_encoder_pool *pool;
    struct cancel *cancel;
    int fd;
    guint64 size, submitted, consumed;
    enum layer_encoding encoding;
    struct piece pieces[N_PIECES];
    unsigned head; /* the piece that is read from */
    gsize at;      /* in its output */
    guint32 crc;
    bool begun, ended;
    guint8 frame[10]; /* gzip's header, then its trailer */
    gsize frame_length, frame_at;
    GMutex lock;
    GCond changed;
};

struct layer_encoder_pool {
    GThreadPool *threads;
};

/* ---- compressing one piece, in a thread of the pool ---- */

static bool read_piece(struct piece *piece, GError **error)
{
    gsize wanted = piece->history + piece->length;
    ssize_t n = fd_pread_full(piece->encoder->fd, piece->input, wanted, (off_t)(piece->offset - piece->history));
    if (n < 0)
        return error_set_errno(error, errno, "read the layer");
    return (gsize)n == wanted || error_set(error, TARE_ERROR_INTERNAL, "read the layer: it has become shorter");
}

static bool deflate_piece(struct piece *piece, GError **error)
{
    /* For this piece alone: there are more pieces than threads, and these are half a piece large. */
    g_autofree struct isal_zstream *stream = g_new0(struct isal_zstream, 1);
    g_autofree guint8 *level_buffer = g_malloc(ISAL_DEF_LVL2_DEFAULT);
    isal_deflate_init(stream);
    stream->level = GZIP_LEVEL;
    stream->level_buf = level_buffer;
    stream->level_buf_size = ISAL_DEF_LVL2_DEFAULT;
    stream->flush = SYNC_FLUSH;
    stream->end_of_stream = piece->offset + piece->length == piece->encoder->size;
    if (piece->history && isal_deflate_set_dict(stream, piece->input, (uint32_t)piece->history) != COMP_OK)
        return error_set(error, TARE_ERROR_INTERNAL, "compress the layer: the history is refused");
    stream->next_in = piece->input + piece->history;
    stream->avail_in = (uint32_t)piece->length;
    gsize filled = 0;
    g_byte_array_set_size(piece->output, (guint)(piece->length + piece->length / 16 + 4096));
    do {
        if (filled == piece->output->len)
            g_byte_array_set_size(piece->output, piece->output->len * 2);
        stream->next_out = piece->output->data + filled;
        stream->avail_out = (uint32_t)(piece->output->len - filled);
        int r = isal_deflate(stream);
        if (r != COMP_OK)
            return error_set(error, TARE_ERROR_INTERNAL, "compress the layer: ISA-L says %d", r);
        filled = piece->output->len - stream->avail_out;
    } while (stream->avail_in > 0 || stream->avail_out == 0);
    g_byte_array_set_size(piece->output, (guint)filled);
    return true;
}

static bool zstd_piece(struct piece *piece, GError **error)
{
    g_byte_array_set_size(piece->output, (guint)ZSTD_compressBound(piece->length));
    size_t n = ZSTD_compress(piece->output->data, piece->output->len, piece->input, piece->length, ZSTD_LEVEL);
    if (ZSTD_isError(n))
        return error_set(error, TARE_ERROR_INTERNAL, "compress the layer: %s", ZSTD_getErrorName(n));
    g_byte_array_set_size(piece->output, (guint)n);
    return true;
}

static void compress_piece(gpointer data, gpointer user)
{
    struct piece *piece = data;
    struct layer_encoder *encoder = piece->encoder;
    bool ok = cancel_check(encoder->cancel, &piece->problem) && read_piece(piece, &piece->problem) &&
              (encoder->encoding == LAYER_ENCODING_GZIP ? deflate_piece : zstd_piece)(piece, &piece->problem);
    g_mutex_lock(&encoder->lock);
    piece->state = ok ? PIECE_DONE : PIECE_FAILED;
    g_cond_broadcast(&encoder->changed);
    g_mutex_unlock(&encoder->lock);
}

struct layer_encoder_pool *layer_encoder_pool_new(void)
{
    struct layer_encoder_pool *pool = g_new0(struct layer_encoder_pool, 1);
    pool->threads = g_thread_pool_new(compress_piece, NULL, (gint)g_get_num_processors(), FALSE, NULL);
    return pool;
}

void layer_encoder_pool_free(struct layer_encoder_pool *pool)
{
    if (!pool)
        return;
    g_thread_pool_free(pool->threads, FALSE, TRUE);
    g_free(pool);
}

/* ---- the stream that they make ---- */

static void submit(struct layer_encoder *encoder, struct piece *piece)
{
    /* An empty tar still is one (empty) piece. */
    bool is_first = encoder->submitted == 0 && !encoder->begun;
    if (encoder->submitted == encoder->size && !(is_first && encoder->size == 0))
        return;
    if (!piece->input) {
        piece->input = g_malloc(HISTORY_BYTES + PIECE_BYTES);
        piece->output = g_byte_array_new();
    }
    piece->offset = encoder->submitted;
    piece->length = (gsize)MIN(encoder->size - encoder->submitted, PIECE_BYTES);
    piece->history = encoder->encoding == LAYER_ENCODING_GZIP ? (gsize)MIN(piece->offset, HISTORY_BYTES) : 0;
    encoder->submitted += piece->length;
    piece->state = PIECE_BUSY;
    g_thread_pool_push(encoder->pool->threads, piece, NULL);
}

static void put_le32(guint8 *to, guint32 value)
{
    for (unsigned i = 0; i < 4; i++)
        to[i] = (guint8)(value >> (8 * i));
}

static void begin(struct layer_encoder *encoder)
{
    /* No name, no time: the same bytes tomorrow. */
    static const guint8 header[10] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255 };
    for (unsigned i = 0; i < N_PIECES; i++) {
        encoder->pieces[i].encoder = encoder;
        submit(encoder, &encoder->pieces[i]);
        encoder->begun = true;
    }
    if (encoder->encoding == LAYER_ENCODING_GZIP) {
        memcpy(encoder->frame, header, sizeof header);
        encoder->frame_length = sizeof header;
    }
}

static void end(struct layer_encoder *encoder)
{
    encoder->ended = true;
    encoder->frame_at = 0;
    encoder->frame_length = 0;
    if (encoder->encoding != LAYER_ENCODING_GZIP)
        return;
    put_le32(encoder->frame, encoder->crc);
    put_le32(encoder->frame + 4, (guint32)encoder->size);
    encoder->frame_length = 8;
}

/* The next piece, compressed; NULL and an error where that failed. */
static struct piece *await_head(struct layer_encoder *encoder, GError **error)
{
    struct piece *piece = &encoder->pieces[encoder->head];
    g_mutex_lock(&encoder->lock);
    while (piece->state == PIECE_BUSY)
        g_cond_wait(&encoder->changed, &encoder->lock);
    g_mutex_unlock(&encoder->lock);
    if (piece->state == PIECE_DONE)
        return piece;
    if (piece->problem)
        g_propagate_error(error, g_error_copy(piece->problem));
    else
        error_set(error, TARE_ERROR_INTERNAL, "compress the layer: read after its end");
    return NULL;
}

static void next_piece(struct layer_encoder *encoder, struct piece *piece)
{
    encoder->consumed += piece->length;
    piece->state = PIECE_FREE;
    encoder->at = 0;
    encoder->head = (encoder->head + 1) % N_PIECES;
    if (encoder->consumed == encoder->size)
        end(encoder);
    else
        submit(encoder, piece);
}

static gssize read_encoder(struct byte_source *self, void *buffer, gsize length, GError **error)
{
    struct layer_encoder *encoder = (struct layer_encoder *)self;
    if (!cancel_check(encoder->cancel, error))
        return -1;
    if (!encoder->begun)
        begin(encoder);
    if (encoder->frame_at < encoder->frame_length) {
        gsize n = MIN(length, encoder->frame_length - encoder->frame_at);
        memcpy(buffer, encoder->frame + encoder->frame_at, n);
        encoder->frame_at += n;
        return (gssize)n;
    }
    if (encoder->ended)
        return 0;
    struct piece *piece = await_head(encoder, error);
    if (!piece)
        return -1;
    if (encoder->at == 0 && encoder->encoding == LAYER_ENCODING_GZIP)
        encoder->crc = crc32_gzip_refl(encoder->crc, piece->input + piece->history, piece->length);
    gsize n = MIN(length, piece->output->len - encoder->at);
    memcpy(buffer, piece->output->data + encoder->at, n);
    encoder->at += n;
    if (encoder->at == piece->output->len)
        next_piece(encoder, piece);
    return (gssize)n;
}

struct layer_encoder *layer_encoder_new(struct layer_encoder_pool *pool, int tar_fd, guint64 size, enum layer_encoding encoding,
                                        struct cancel *cancel)
{
    struct layer_encoder *encoder = g_new0(struct layer_encoder, 1);
    encoder->source.read = read_encoder;
    encoder->pool = pool;
    encoder->cancel = cancel;
    encoder->fd = tar_fd;
    encoder->size = size;
    encoder->encoding = encoding;
    g_mutex_init(&encoder->lock);
    g_cond_init(&encoder->changed);
    return encoder;
}

struct byte_source *layer_encoder_source(struct layer_encoder *encoder)
{
    return &encoder->source;
}

guint64 layer_encoder_consumed(const struct layer_encoder *encoder)
{
    return encoder->consumed;
}

void layer_encoder_free(struct layer_encoder *encoder)
{
    if (!encoder)
        return;
    g_mutex_lock(&encoder->lock);
    for (unsigned i = 0; i < N_PIECES; i++)
        while (encoder->pieces[i].state == PIECE_BUSY)
            g_cond_wait(&encoder->changed, &encoder->lock);
    g_mutex_unlock(&encoder->lock);
    for (unsigned i = 0; i < N_PIECES; i++) {
        struct piece *piece = &encoder->pieces[i];
        g_free(piece->input);
        g_clear_error(&piece->problem);
        if (piece->output)
            g_byte_array_unref(piece->output);
    }
    g_cond_clear(&encoder->changed);
    g_mutex_clear(&encoder->lock);
    g_free(encoder);
}
