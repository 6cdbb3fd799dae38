/* Cache mounts by name, as tars: so that another engine can begin with what this one has. */
#include "base/fd.h"
#include "base/file.h"
#include "base/identifier.h"
#include "build/build-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 128 * 1024 };

bool builder_cache_mount_export(struct builder *builder, const char *name, struct byte_sink *sink, struct cancel *cancel,
                                GError **error)
{
    g_autofd int root = builder_cache_mount_open(builder, name, false, error);
    struct copy_sources sources = { .root_fd = root, .cancel = cancel };
    struct copy_layer_options options = { .target_fd = root, .keep_owner = true, .cancel = cancel };
    struct copy_layer *layer;
    struct tar_writer *writer;
    bool good;

    if (root < 0)
        return false;
    layer = copy_layer_new(&options);
    writer = tar_writer_new(sink);
    good = copy_layer_add_tree(layer, &sources, ".", "/", false, error) && copy_layer_write(layer, writer, error) &&
           tar_writer_finish(writer, error);
    tar_writer_free(writer);
    copy_layer_free(layer);
    return good;
}

/* ---- import ---- */

struct import {
    int from, to; /* the mounted tar; a directory that nobody else sees, so that its paths lead where they say */
    struct cancel *cancel;
};

static bool put_file(const struct import *import, const char *path, const struct stat *stat, GError **error)
{
    g_autofd int from = openat(import->from, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC),
                 to = openat(import->to, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    const struct timespec times[] = { stat->st_mtim, stat->st_mtim };
    g_autofree char *buffer = g_malloc(PIECE);
    ssize_t n = from < 0 || to < 0 ? -1 : 1;

    while (n > 0 && (n = fd_read_full(from, buffer, PIECE)) > 0) {
        if (!cancel_check(import->cancel, error))
            return false;
        if (fd_write_full(to, buffer, (size_t)n) < 0)
            n = -1;
    }
    return (n == 0 && fchown(to, stat->st_uid, stat->st_gid) == 0 && fchmod(to, stat->st_mode & 07777) == 0 &&
            futimens(to, times) == 0) ||
           error_set_errno(error, errno, "write %s", path);
}

static bool put_link(const struct import *import, const char *path, const struct stat *stat, GError **error)
{
    g_autofree char *text = g_malloc0((gsize)stat->st_size + 1);

    return (readlinkat(import->from, path, text, (gsize)stat->st_size) == stat->st_size &&
            symlinkat(text, import->to, path) == 0 &&
            fchownat(import->to, path, stat->st_uid, stat->st_gid, AT_SYMLINK_NOFOLLOW) == 0) ||
           error_set_errno(error, errno, "write %s", path);
}

/* Devices and the like are nobody's cache. */
static bool put_entry(void *user, const char *path, const struct stat *stat, GError **error)
{
    const struct import *import = user;

    if (S_ISREG(stat->st_mode))
        return put_file(import, path, stat, error);
    if (S_ISLNK(stat->st_mode))
        return put_link(import, path, stat, error);
    if (!S_ISDIR(stat->st_mode))
        return true;
    return (mkdirat(import->to, path, 0700) == 0 && fchownat(import->to, path, stat->st_uid, stat->st_gid, 0) == 0 &&
            fchmodat(import->to, path, stat->st_mode & 07777, 0) == 0) ||
           error_set_errno(error, errno, "write %s", path);
}

/* What is at the top of the archive takes the place of what the cache has by the same name. */
static bool move_in(void *user, const char *path, const struct stat *stat, GError **error)
{
    const struct import *import = user;

    if (S_ISCHR(stat->st_mode) || S_ISBLK(stat->st_mode) || S_ISFIFO(stat->st_mode) || strchr(path, '/'))
        return true;
    return dir_remove_tree(import->to, path, error) &&
           (renameat(import->from, path, import->to, path) == 0 || error_set_errno(error, errno, "move %s", path));
}

static bool unpack(struct builder *builder, int root, const char *name, struct cancel *cancel, GError **error)
{
    struct copy_sources sources = { .root_fd = root, .cancel = cancel };
    struct import import = { .from = root, .cancel = cancel };
    char *directory = builder_temporary(builder, error);
    g_autofd int to = directory ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    g_autofd int cache = to >= 0 ? builder_cache_mount_open(builder, name, true, error) : -1;
    bool good = cache >= 0;

    import.to = to;
    good = good && copy_walk(&sources, ".", G_MAXUINT, put_entry, &import, error);
    import = (struct import){ .from = to, .to = cache, .cancel = cancel };
    sources.root_fd = to;
    good = good && copy_walk(&sources, ".", 0, move_in, &import, error);
    builder_temporary_remove(builder, directory);
    return good;
}

bool builder_cache_mount_import(struct builder *builder, const char *name, struct byte_source *source, struct cancel *cancel,
                                GError **error)
{
    char id[IDENTIFIER_LENGTH + 1];
    g_autofree char *holder = NULL;
    struct image_layer_claim claim;
    struct layer_ingest_options options = { .name = "cache", .claim = &claim.claim, .cancel = cancel };
    struct layer_info layer;
    const char *diff_ids[] = { layer.diff_id, NULL };
    struct layer_stack *stack = NULL;
    g_autofd int root = -1;
    bool good;

    identifier_new(id);
    holder = g_strconcat("build/", id, NULL);
    image_layer_claim_init(&claim, builder->images, holder);
    builder_begin_taking(builder);
    good = layer_store_ingest(builder->layers, source, &options, &layer, error);
    builder_end_taking(builder);
    good = good && layer_chain_prepare(builder->layers, diff_ids, error) &&
           layer_stack_acquire(builder->layers, diff_ids, &stack, error) && (root = layer_stack_mount(stack, error)) >= 0 &&
           unpack(builder, root, name, cancel, error);
    fd_clear(&root);
    if (stack)
        layer_stack_release(stack);
    builder_release(builder, holder);
    return good;
}
