#include "base/frame.h"

#include "base/fd.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static guint32 length_from(const guint8 *bytes)
{
    return (guint32)bytes[0] | (guint32)bytes[1] << 8 | (guint32)bytes[2] << 16 | (guint32)bytes[3] << 24;
}

bool frame_send(int socket, const json_t *value, const int *fds, size_t n_fds, GError **error)
{
    g_autofree char *text = json_text(value);
    size_t length = strlen(text);
    if (length > FRAME_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "message of %zu bytes is too large", length);
    g_autofree guint8 *frame = g_malloc(4 + length);
    for (int i = 0; i < 4; i++)
        frame[i] = (guint8)(length >> (8 * i));
    memcpy(frame + 4, text, length);
    return fd_send(socket, frame, 4 + length, fds, n_fds) == 0 || error_set_errno(error, errno, "send message");
}

static void close_fds(int *fds, size_t *n_fds)
{
    for (size_t i = 0; n_fds && i < *n_fds; i++)
        fd_close(fds[i]);
    if (n_fds)
        *n_fds = 0;
}

static bool receive_rest(int socket, guint8 *buffer, size_t length, GError **error)
{
    ssize_t n = fd_read_full(socket, buffer, length);
    if (n < 0)
        return error_set_errno(error, errno, "receive message");
    if ((size_t)n < length)
        return error_set(error, TARE_ERROR_INTERNAL, "receive message: unexpected end of file");
    return true;
}

bool frame_receive(int socket, json_t **ret_value, int *fds, size_t *n_fds, GError **error)
{
    guint8 header[4];
    ssize_t n = fd_receive(socket, header, sizeof header, fds, n_fds);
    if (n < 0)
        return error_set_errno(error, errno, "receive message");
    if (n == 0) {
        *ret_value = NULL;
        return true;
    }
    bool ok = receive_rest(socket, header + n, sizeof header - (size_t)n, error);
    guint32 length = ok ? length_from(header) : 0;
    if (ok && length > FRAME_MAX)
        ok = error_set(error, TARE_ERROR_TOO_LARGE, "message of %u bytes is too large", length);
    g_autofree guint8 *text = ok ? g_malloc(length + 1) : NULL;
    json_t *value = NULL;
    ok = ok && receive_rest(socket, text, length, error) &&
         (value = json_parse((char *)text, length, FRAME_MAX, "message", error));
    if (!ok) {
        close_fds(fds, n_fds);
        return false;
    }
    *ret_value = value;
    return true;
}

void frame_parser_init(struct frame_parser *parser)
{
    parser->pending = g_byte_array_new();
}

void frame_parser_clear(struct frame_parser *parser)
{
    g_clear_pointer(&parser->pending, g_byte_array_unref);
}

bool frame_parser_feed(struct frame_parser *parser, const void *data, size_t length, GError **error)
{
    if (parser->pending->len + length > FRAME_MAX + 65536u)
        return error_set(error, TARE_ERROR_TOO_LARGE, "messages pile up");
    g_byte_array_append(parser->pending, data, (guint)length);
    if (parser->pending->len >= 4 && length_from(parser->pending->data) > FRAME_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "message of %u bytes is too large", length_from(parser->pending->data));
    return true;
}

int frame_parser_take(struct frame_parser *parser, json_t **ret_value, GError **error)
{
    if (parser->pending->len < 4)
        return 0;
    guint32 length = length_from(parser->pending->data);
    if (length > FRAME_MAX) {
        error_set(error, TARE_ERROR_TOO_LARGE, "message of %u bytes is too large", length);
        return -1;
    }
    if (parser->pending->len < 4 + length)
        return 0;
    *ret_value = json_parse((char *)parser->pending->data + 4, length, FRAME_MAX, "message", error);
    g_byte_array_remove_range(parser->pending, 0, 4 + length);
    return *ret_value ? 1 : -1;
}
