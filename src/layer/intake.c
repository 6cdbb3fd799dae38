#include "layer/layer-internal.h"

#include "base/fd.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <stdio.h>
#include <unistd.h>

/* Bytes are gathered in chunks; each full chunk is written to the file and then hashed by a thread beside us, which starts with
 * the second chunk: most build steps never need it. The chunks go round between the two. */
#define CHUNK_ROOM (256u << 10)
#define MAX_CHUNKS 6

struct chunk {
    gsize used;
    guint8 data[CHUNK_ROOM];
};

struct intake {
    struct layer_store *store;
    int fd;
    char *temporary;
    guint64 size, max_bytes;
    struct chunk *current;
    struct hasher *hasher;
    GThread *thread;    /* NULL: chunks are hashed here */
    GAsyncQueue *full;  /* to the thread; a chunk with used == 0 ends it */
    GAsyncQueue *empty; /* back from it */
    int n_chunks;
    bool first_written;
};

struct intake *intake_new(struct layer_store *store, guint64 max_bytes, GError **error)
{
    g_autofree char *temporary = NULL;
    release_wait(store->release); /* a removal made room for this, perhaps */
    int fd = file_new_temporary(store->fd, 0600, &temporary, error);
    if (fd < 0)
        return NULL;
    struct intake *intake = g_new0(struct intake, 1);
    intake->store = store;
    intake->fd = fd;
    intake->temporary = g_steal_pointer(&temporary);
    intake->max_bytes = max_bytes ? MIN(max_bytes, store->max_layer_bytes) : store->max_layer_bytes;
    intake->hasher = hasher_new();
    intake->current = g_new(struct chunk, 1);
    intake->current->used = 0;
    intake->n_chunks = 1;
    return intake;
}

static gpointer hash_chunks(gpointer data)
{
    struct intake *intake = data;
    for (;;) {
        struct chunk *chunk = g_async_queue_pop(intake->full);
        gsize used = chunk->used;
        hasher_update(intake->hasher, chunk->data, used);
        g_async_queue_push(intake->empty, chunk);
        if (used == 0)
            return NULL;
    }
}

static void start_hashing_beside(struct intake *intake)
{
    intake->full = g_async_queue_new();
    intake->empty = g_async_queue_new_full(g_free);
    intake->thread = g_thread_try_new("hash", hash_chunks, intake, NULL);
    if (!intake->thread) { /* no threads left: slower, not wrong */
        g_clear_pointer(&intake->full, g_async_queue_unref);
        g_clear_pointer(&intake->empty, g_async_queue_unref);
    }
}

static struct chunk *next_chunk(struct intake *intake)
{
    struct chunk *chunk = g_async_queue_try_pop(intake->empty);
    if (!chunk && intake->n_chunks < MAX_CHUNKS) {
        chunk = g_new(struct chunk, 1);
        intake->n_chunks++;
    }
    if (!chunk)
        chunk = g_async_queue_pop(intake->empty);
    chunk->used = 0;
    return chunk;
}

static bool flush_chunk(struct intake *intake, GError **error)
{
    struct chunk *chunk = intake->current;
    if (chunk->used == 0)
        return true;
    if (chunk->used > intake->max_bytes - intake->size)
        return error_set(error, TARE_ERROR_TOO_LARGE, "uncompressed data is larger than %" G_GUINT64_FORMAT " bytes",
                         intake->max_bytes);
    if (fd_write_full(intake->fd, chunk->data, chunk->used) < 0)
        return error_set_errno(error, errno, "write");
    intake->size += chunk->used;
    if (intake->first_written && !intake->thread)
        start_hashing_beside(intake);
    intake->first_written = true;
    if (intake->thread) {
        g_async_queue_push(intake->full, chunk);
        intake->current = next_chunk(intake);
    } else {
        hasher_update(intake->hasher, chunk->data, chunk->used);
        chunk->used = 0;
    }
    return true;
}

void *intake_room(struct intake *intake, gsize *ret_room)
{
    *ret_room = CHUNK_ROOM - intake->current->used;
    return intake->current->data + intake->current->used;
}

bool intake_advance(struct intake *intake, gsize length, GError **error)
{
    intake->current->used += length;
    return intake->current->used < CHUNK_ROOM || flush_chunk(intake, error);
}

bool intake_write(struct intake *intake, const void *data, gsize length, GError **error)
{
    while (length > 0) {
        gsize room;
        void *at = intake_room(intake, &room);
        room = MIN(room, length);
        memcpy(at, data, room);
        if (!intake_advance(intake, room, error))
            return false;
        data = (const char *)data + room;
        length -= room;
    }
    return true;
}

static void stop_hashing_beside(struct intake *intake)
{
    if (!intake->thread)
        return;
    intake->current->used = 0;
    g_async_queue_push(intake->full, g_steal_pointer(&intake->current));
    g_thread_join(g_steal_pointer(&intake->thread));
}

bool intake_finish(struct intake *intake, char ret_diff_id[DIGEST_ROOM], GError **error)
{
    if (!flush_chunk(intake, error))
        return false;
    stop_hashing_beside(intake);
    hasher_finish(intake->hasher, ret_diff_id);
    return true;
}

int intake_fd(const struct intake *intake)
{
    return intake->fd;
}

const char *intake_temporary(const struct intake *intake)
{
    return intake->temporary;
}

guint64 intake_size(const struct intake *intake)
{
    return intake->size;
}

void intake_park(struct intake *intake)
{
    fd_clear(&intake->fd);
    g_clear_pointer(&intake->current, g_free);
    g_clear_pointer(&intake->full, g_async_queue_unref);
    g_clear_pointer(&intake->empty, g_async_queue_unref);
}

int intake_open(const struct intake *intake, GError **error)
{
    int fd = openat(intake->store->fd, intake->temporary, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        error_set_errno(error, errno, "open a layer that was taken in");
    return fd;
}

bool intake_publish(struct intake *intake, const char *name, GError **error)
{
    if (renameat(intake->store->fd, intake->temporary, intake->store->fd, name) < 0)
        return error_set_errno(error, errno, "rename %s", name);
    g_clear_pointer(&intake->temporary, g_free);
    return true;
}

void intake_free(struct intake *intake)
{
    if (!intake)
        return;
    stop_hashing_beside(intake);
    if (intake->temporary)
        unlinkat(intake->store->fd, intake->temporary, 0);
    fd_close(intake->fd);
    hasher_free(intake->hasher);
    g_free(intake->current);
    g_clear_pointer(&intake->full, g_async_queue_unref);
    g_clear_pointer(&intake->empty, g_async_queue_unref);
    g_free(intake->temporary);
    g_free(intake);
}
