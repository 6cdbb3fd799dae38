#include "base/stream.h"

#include "base/fd.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static gssize fd_source_read(struct byte_source *source, void *buffer, gsize length, GError **error)
{
    struct fd_source *self = (struct fd_source *)source;
    for (;;) {
        ssize_t n = read(self->fd, buffer, length);
        if (n >= 0)
            return n;
        if (errno != EINTR) {
            error_set_errno(error, errno, "read %s", self->what);
            return -1;
        }
    }
}

static bool fd_sink_write(struct byte_sink *sink, const void *data, gsize length, GError **error)
{
    struct fd_sink *self = (struct fd_sink *)sink;
    return fd_write_full(self->fd, data, length) == 0 || error_set_errno(error, errno, "write %s", self->what);
}

static gssize memory_source_read(struct byte_source *source, void *buffer, gsize length, GError **error)
{
    struct memory_source *self = (struct memory_source *)source;
    gsize n = MIN(length, self->length - self->at);
    if (n > 0)
        memcpy(buffer, self->data + self->at, n);
    self->at += n;
    return (gssize)n;
}

void fd_source_init(struct fd_source *self, int fd, const char *what)
{
    *self = (struct fd_source){ .source.read = fd_source_read, .fd = fd, .what = what };
}

void fd_sink_init(struct fd_sink *self, int fd, const char *what)
{
    *self = (struct fd_sink){ .sink.write = fd_sink_write, .fd = fd, .what = what };
}

void memory_source_init(struct memory_source *self, const void *data, gsize length)
{
    *self = (struct memory_source){ .source.read = memory_source_read, .data = data, .length = length };
}

gssize source_read(struct byte_source *source, void *buffer, gsize length, GError **error)
{
    return source->read(source, buffer, length, error);
}

gssize source_read_full(struct byte_source *source, void *buffer, gsize length, GError **error)
{
    gsize done = 0;
    while (done < length) {
        gssize n = source->read(source, (char *)buffer + done, length - done, error);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (gsize)n;
    }
    return (gssize)done;
}

bool sink_write(struct byte_sink *sink, const void *data, gsize length, GError **error)
{
    return sink->write(sink, data, length, error);
}

bool stream_copy(struct byte_source *from, struct byte_sink *to, guint64 *ret_copied, GError **error)
{
    enum { CHUNK = 1 << 17 };
    g_autofree char *buffer = g_malloc(CHUNK);
    guint64 copied = 0;
    gssize n;
    while ((n = from->read(from, buffer, CHUNK, error)) > 0) {
        if (!to->write(to, buffer, (gsize)n, error))
            return false;
        copied += (guint64)n;
    }
    if (n == 0 && ret_copied)
        *ret_copied = copied;
    return n == 0;
}
