#include "shim/shim-internal.h"

#include <string.h>

void attach_frame_header(unsigned stream, guint32 length, guint8 ret[ATTACH_FRAME_HEADER])
{
    memset(ret, 0, ATTACH_FRAME_HEADER);
    ret[0] = (guint8)stream;
    for (int i = 0; i < 4; i++)
        ret[4 + i] = (guint8)(length >> (24 - 8 * i));
}

static bool take_header(struct attach_frame_decoder *decoder, GError **error)
{
    const guint8 *header = decoder->header;
    if (header[0] > 3 || header[1] || header[2] || header[3])
        return error_set(error, TARE_ERROR_INVALID, "unrecognized stream: %u", header[0]);
    decoder->left = (guint32)header[4] << 24 | (guint32)header[5] << 16 | (guint32)header[6] << 8 | header[7];
    if (decoder->left > ATTACH_FRAME_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "frame of %u bytes is too large", decoder->left);
    if (decoder->left == 0)
        decoder->n_header = 0;
    return true;
}

bool attach_frame_decode(struct attach_frame_decoder *decoder, const void *data, size_t length,
                         void (*payload)(void *user, unsigned stream, const void *data, size_t length), void *user,
                         GError **error)
{
    const guint8 *at = data;
    while (length > 0) {
        if (decoder->n_header < ATTACH_FRAME_HEADER) {
            size_t n = MIN(length, ATTACH_FRAME_HEADER - decoder->n_header);
            memcpy(decoder->header + decoder->n_header, at, n);
            decoder->n_header += (unsigned)n;
            at += n;
            length -= n;
            if (decoder->n_header == ATTACH_FRAME_HEADER && !take_header(decoder, error))
                return false;
            continue;
        }
        size_t n = MIN(length, decoder->left);
        payload(user, decoder->header[0], at, n);
        at += n;
        length -= n;
        decoder->left -= (guint32)n;
        if (decoder->left == 0)
            decoder->n_header = 0;
    }
    return true;
}

bool attach_frame_at_boundary(const struct attach_frame_decoder *decoder)
{
    return decoder->n_header == 0;
}
