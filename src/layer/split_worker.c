#include "layer/split.h"

#include "base/fd.h"
#include "layer/tar.h"

#include <errno.h>
#include <string.h>

/* An archive of images has some hundred entries. */
#define MAX_ENTRIES 200000

struct split_source {
    struct byte_source source;
    int socket;
};

static bool say(int socket, const struct split_frame *frame, GError **error)
{
    return fd_write_full(socket, frame, sizeof *frame) == 0 || error_set_errno(error, errno, "write");
}

/* One block for each read, however many were asked for: so that the reader never has bytes of a content. */
static gssize read_block(struct byte_source *self, void *buffer, gsize length, GError **error)
{
    struct split_source *source = (struct split_source *)self;
    const struct split_frame frame = { .kind = SPLIT_READ };
    if (length < SPLIT_BLOCK) {
        error_set(error, TARE_ERROR_INTERNAL, "short read of an archive");
        return -1;
    }
    if (!say(source->socket, &frame, error))
        return -1;
    ssize_t n = fd_read_full(source->socket, buffer, SPLIT_BLOCK);
    if (n < 0)
        error_set_errno(error, errno, "read");
    return n;
}

static bool say_entry(int socket, const struct tar_entry *entry, enum split_kind kind, GError **error)
{
    gsize path = strlen(entry->path), link = entry->link ? strlen(entry->link) : 0;
    guint n = entry->extents ? entry->extents->len : 0;
    if (path > SPLIT_PATH_MAX || link > SPLIT_PATH_MAX || n > SPLIT_EXTENTS_MAX)
        return error_set(error, TARE_ERROR_INVALID, "an entry of the archive has too long a name or too many holes");
    const struct split_frame frame = {
        .kind = kind,
        .path_length = (guint32)path,
        .link_length = (guint32)link,
        .n_extents = n,
        .size = kind == SPLIT_FILE ? entry->size : 0,
        .stored = kind == SPLIT_FILE ? entry->stored_size : 0,
    };
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_byte_array_append(bytes, (const guint8 *)&frame, sizeof frame);
    g_byte_array_append(bytes, (const guint8 *)entry->path, (guint)path);
    g_byte_array_append(bytes, (const guint8 *)(entry->link ? entry->link : ""), (guint)link);
    for (guint i = 0; i < n; i++) {
        const struct tar_extent *extent = &g_array_index(entry->extents, struct tar_extent, i);
        const struct split_extent sent = { extent->offset, extent->length };
        g_byte_array_append(bytes, (const guint8 *)&sent, sizeof sent);
    }
    return fd_write_full(socket, bytes->data, bytes->len) == 0 || error_set_errno(error, errno, "write");
}

static bool take_entry(int socket, struct tar_reader *reader, const struct tar_entry *entry, GError **error)
{
    if (entry->is_hard_link)
        return say_entry(socket, entry, SPLIT_LINK, error);
    if (S_ISLNK(entry->mode))
        return say_entry(socket, entry, SPLIT_SYMLINK, error);
    if (!S_ISREG(entry->mode))
        return say_entry(socket, entry, SPLIT_OTHER, error);
    if (!say_entry(socket, entry, SPLIT_FILE, error))
        return false;
    tar_reader_content_taken(reader);
    return true;
}

bool split_worker_run(int socket, GError **error)
{
    struct split_source source = { .source.read = read_block, .socket = socket };
    const struct tar_limits limits = { .max_entries = MAX_ENTRIES, .max_path = SPLIT_PATH_MAX, .max_pax = 1 << 20 };
    const struct split_frame end = { .kind = SPLIT_END };
    const struct tar_entry *entry;
    struct tar_reader *reader = tar_reader_new(&source.source, &limits);
    int more;
    while ((more = tar_reader_next(reader, &entry, error)) > 0)
        if (!take_entry(socket, reader, entry, error))
            more = -1;
        else
            continue;
    bool ok = more == 0 && say(socket, &end, error);
    tar_reader_free(reader);
    return ok;
}
