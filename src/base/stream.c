#include "base/stream.h"

#include "base/fd.h"

#include <sys/stat.h>
#include <sys/mman.h>
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

/* From one page cache into another with one copy: a write from mapped memory is several times faster here than copy_file_range
 * and sendfile, which go page by page. The kernel alone touches the mapping, so that a file that is cut short or cannot be read
 * is an error and no signal. */
static bool fd_sink_write_file(struct byte_sink *sink, int fd, guint64 offset, guint64 length, GError **error)
{
    enum { SLICE = 4 << 20 };
    const struct fd_sink *self = (struct fd_sink *)sink;
    gsize before = (gsize)(offset % (guint64)sysconf(_SC_PAGESIZE));
    if (length == 0)
        return true;
    char *mapped = mmap(NULL, before + (gsize)length, PROT_READ, MAP_SHARED, fd, (off_t)(offset - before));
    if (mapped == MAP_FAILED)
        return error_set_errno(error, errno, "map file");
    madvise(mapped, before + (gsize)length, MADV_SEQUENTIAL);
    int r = 0;
    for (guint64 done = 0; r == 0 && done < length; done += SLICE)
        r = fd_write_full(self->fd, mapped + before + done, (gsize)MIN(length - done, SLICE));
    bool ok = r == 0 || error_set_errno(error, errno, "write %s", self->what);
    munmap(mapped, before + (gsize)length);
    return ok;
}

void fd_sink_init(struct fd_sink *self, int fd, const char *what)
{
    *self = (struct fd_sink){ .sink = { .write = fd_sink_write, .write_file = fd_sink_write_file }, .fd = fd, .what = what };
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

bool sink_write_file(struct byte_sink *sink, int fd, guint64 length, GError **error)
{
    enum { CHUNK = 1 << 17, WORTHWHILE = 1 << 20 };
    off_t at = sink->write_file && length >= WORTHWHILE ? lseek(fd, 0, SEEK_CUR) : -1;
    struct stat st;
    if (at >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (guint64)st.st_size >= (guint64)at + length)
        return sink->write_file(sink, fd, (guint64)at, length, error) &&
               (lseek(fd, (off_t)length, SEEK_CUR) >= 0 || error_set_errno(error, errno, "seek"));
    g_autofree char *buffer = g_malloc((gsize)MIN(length, CHUNK) + 1);
    while (length > 0) {
        gsize wanted = (gsize)MIN(length, CHUNK);
        ssize_t n = fd_read_full(fd, buffer, wanted);
        if (n < 0)
            return error_set_errno(error, errno, "read file for tar");
        if ((gsize)n < wanted)
            return error_set(error, TARE_ERROR_CONFLICT, "file became shorter while it was read");
        if (!sink_write(sink, buffer, wanted, error))
            return false;
        length -= wanted;
    }
    return true;
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
