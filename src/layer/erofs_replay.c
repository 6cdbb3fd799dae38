#include "layer/erofs-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

/* A directory on the way down. Only the current one is open: a tree may be deeper than a process may have files. */
struct level {
    struct erofs_file dir;
    dev_t dev;
    ino_t ino;
    GPtrArray *names; /* of subdirectories that are still to do, last first */
    GArray *nids;
};

struct replay {
    struct erofs_reader *reader;
    const int *tar_fds;
    int root;
    char *staging_name;
    int staging;        /* holds one name of each file with several, until all are linked; -1 while there is none */
    GHashTable *staged; /* of nids */
    int dir;            /* the current directory */
    GArray *levels;
    guint8 *buffer;
};
enum { BUFFER = 1 << 17 };

static bool failed(GError **error, const char *step, const char *name)
{
    return error_set_errno(error, errno, "%s \"%s\"", step, name);
}

/* ---- attributes ---- */
struct xattr_target {
    int dir;
    const char *name;
};

static bool set_xattr(void *user, enum erofs_xattr_index index, const char *name, const void *value, gsize size, GError **error)
{
    const struct xattr_target *target = user;
    g_autofree char *full = erofs_xattr_full_name(index, name);
    /* There is no call by directory and name that does not follow a link; this path ends in one component that is not followed.
     */
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/%s", target->dir, target->name);
    if (!full)
        return error_set(error, TARE_ERROR_INVALID, "layer index: bad attributes");
    return lsetxattr(path, full, value, size, 0) == 0 ||
           error_set_errno(error, errno, "set attribute %s of \"%s\"", full, target->name);
}

/* The order matters: a change of owner clears set-id bits and capabilities; times come last. */
static bool set_attributes(struct replay *replay, int dir, const char *name, const struct erofs_file *file, GError **error)
{
    struct xattr_target target = { dir, name };
    struct timespec times[2] = { { .tv_sec = file->mtime, .tv_nsec = file->mtime_ns },
                                 { .tv_sec = file->mtime, .tv_nsec = file->mtime_ns } };
    if (fchownat(dir, name, file->uid, file->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return failed(error, "set owner of", name);
    if (!S_ISLNK(file->mode) && fchmodat(dir, name, file->mode & 07777, 0) < 0)
        return failed(error, "set mode of", name);
    if (!erofs_reader_xattrs(replay->reader, file, set_xattr, &target, error))
        return false;
    return utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) == 0 || failed(error, "set time of", name);
}

/* ---- content ---- */
struct copy {
    struct replay *replay;
    const char *name;
    int fd;
};

static bool all_zero(const guint8 *bytes, gsize length)
{
    return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

/* A chunk that the index has a copy of: its holes stay holes. */
static bool copy_from_index(struct copy *copy, guint64 offset, guint64 length, guint64 at, GError **error)
{
    enum { PIECE = 4096 };
    while (length > 0) {
        gsize n = (gsize)MIN(length, PIECE);
        if (!erofs_reader_pread(copy->replay->reader, at, copy->replay->buffer, n, error))
            return false;
        if (!all_zero(copy->replay->buffer, n) && fd_pwrite_full(copy->fd, copy->replay->buffer, n, (off_t)offset) < 0)
            return failed(error, "write", copy->name);
        offset += n;
        at += n;
        length -= n;
    }
    return true;
}

static bool copy_from_tar(struct copy *copy, int tar_fd, guint64 offset, guint64 length, guint64 at, GError **error)
{
    off_t in = (off_t)at, out = (off_t)offset;
    /* Shares the blocks where the file system can. */
    while (length > 0) {
        ssize_t n = copy_file_range(tar_fd, &in, copy->fd, &out, (size_t)MIN(length, 1 << 30), 0);
        if (n <= 0)
            break;
        length -= (guint64)n;
    }
    while (length > 0) {
        gsize n = (gsize)MIN(length, BUFFER);
        ssize_t got = fd_pread_full(tar_fd, copy->replay->buffer, n, in);
        if (got < 0)
            return failed(error, "read content of", copy->name);
        if ((gsize)got < n)
            return error_set(error, TARE_ERROR_INVALID, "the layer's tar ends within \"%s\"", copy->name);
        if (fd_pwrite_full(copy->fd, copy->replay->buffer, n, out) < 0)
            return failed(error, "write", copy->name);
        in += got;
        out += got;
        length -= n;
    }
    return true;
}

static bool copy_piece(void *user, guint64 offset, guint64 length, guint32 block, GError **error)
{
    struct copy *copy = user;
    struct erofs_reader *reader = copy->replay->reader;
    int device = erofs_reader_find_device(reader, block, erofs_round_up(length, EROFS_BLOCK) / EROFS_BLOCK);
    if (device < 0)
        return copy_from_index(copy, offset, length, (guint64)block * EROFS_BLOCK, error);
    guint64 at = (guint64)(block - erofs_reader_device_block(reader, (size_t)device)) * EROFS_BLOCK;
    return copy_from_tar(copy, copy->replay->tar_fds[device], offset, length, at, error);
}

static bool make_regular(struct replay *replay, const char *name, const struct erofs_file *file, GError **error)
{
    g_autofd int fd = openat(replay->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(error, "create", name);
    struct copy copy = { replay, name, fd };
    if (ftruncate(fd, (off_t)file->size) < 0)
        return failed(error, "set size of", name);
    return erofs_reader_pieces(replay->reader, file, copy_piece, &copy, error);
}

static bool make_link(struct replay *replay, const char *name, const struct erofs_file *file, GError **error)
{
    g_autofree char *target = erofs_reader_target(replay->reader, file, error);
    return target && (symlinkat(target, replay->dir, name) == 0 || failed(error, "create", name));
}

static bool make_node(struct replay *replay, const char *name, const struct erofs_file *file, GError **error)
{
    guint32 device = S_ISCHR(file->mode) || S_ISBLK(file->mode) ? file->where : 0;
    dev_t dev = makedev((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    return mknodat(replay->dir, name, file->mode & (S_IFMT | 0600), dev) == 0 || failed(error, "create", name);
}

/* ---- files with several names ---- */
static bool open_staging(struct replay *replay, GError **error)
{
    struct erofs_file root, other;
    if (replay->staging >= 0)
        return true;
    if (!erofs_reader_root(replay->reader, &root, error))
        return false;
    /* A name that the layer does not have. */
    for (unsigned i = 0, taken = 1; taken; i++) {
        g_free(replay->staging_name);
        replay->staging_name = g_strdup_printf(".tare-links-%u", i);
        int found = erofs_reader_lookup(replay->reader, &root, replay->staging_name, strlen(replay->staging_name), &other, error);
        if (found < 0)
            return false;
        taken = found > 0;
    }
    if (mkdirat(replay->root, replay->staging_name, 0700) < 0)
        return failed(error, "create", replay->staging_name);
    replay->staging = openat(replay->root, replay->staging_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return replay->staging >= 0 || failed(error, "open", replay->staging_name);
}

static char *staged_name(guint64 nid)
{
    return g_strdup_printf("%" G_GUINT64_FORMAT, nid);
}

static bool remove_staging(struct replay *replay, GError **error)
{
    if (replay->staging < 0)
        return true;
    GHashTableIter iterator;
    gpointer key;
    g_hash_table_iter_init(&iterator, replay->staged);
    while (g_hash_table_iter_next(&iterator, &key, NULL)) {
        g_autofree char *name = staged_name(GPOINTER_TO_UINT(key));
        if (unlinkat(replay->staging, name, 0) < 0)
            return failed(error, "remove", name);
    }
    return unlinkat(replay->root, replay->staging_name, AT_REMOVEDIR) == 0 || failed(error, "remove", replay->staging_name);
}

static bool make_file(struct replay *replay, const char *name, const struct erofs_file *file, GError **error)
{
    g_autofree char *staged = file->n_links > 1 ? staged_name(file->nid) : NULL;
    if (staged && g_hash_table_contains(replay->staged, GUINT_TO_POINTER((guint)file->nid)))
        return linkat(replay->staging, staged, replay->dir, name, 0) == 0 || failed(error, "link", name);
    bool made = S_ISREG(file->mode)   ? make_regular(replay, name, file, error)
                : S_ISLNK(file->mode) ? make_link(replay, name, file, error)
                                      : make_node(replay, name, file, error);
    if (!made || !set_attributes(replay, replay->dir, name, file, error))
        return false;
    if (!staged)
        return true;
    if (!open_staging(replay, error))
        return false;
    g_hash_table_add(replay->staged, GUINT_TO_POINTER((guint)file->nid));
    return linkat(replay->dir, name, replay->staging, staged, 0) == 0 || failed(error, "link", name);
}

/* ---- the walk ---- */
static bool take_entry(void *user, const char *name, gsize length, guint64 nid, guint8 type, GError **error)
{
    struct replay *replay = user;
    struct level *level = &g_array_index(replay->levels, struct level, replay->levels->len - 1);
    struct erofs_file file;
    g_autofree char *text = g_strndup(name, length);
    if (strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
        return true;
    if (!erofs_reader_inode(replay->reader, nid, &file, error))
        return false;
    if (!S_ISDIR(file.mode))
        return make_file(replay, text, &file, error);
    if (mkdirat(replay->dir, text, 0700) < 0)
        return failed(error, "create", text);
    g_ptr_array_add(level->names, g_steal_pointer(&text));
    g_array_append_val(level->nids, nid);
    return true;
}

static bool enter(struct replay *replay, const struct erofs_file *dir, GError **error)
{
    struct stat status;
    if (fstat(replay->dir, &status) < 0)
        return failed(error, "stat", "directory");
    struct level level = { .dir = *dir, .dev = status.st_dev, .ino = status.st_ino };
    level.names = g_ptr_array_new_with_free_func(g_free);
    level.nids = g_array_new(FALSE, FALSE, sizeof(guint64));
    g_array_append_val(replay->levels, level);
    return erofs_reader_list(replay->reader, dir, take_entry, replay, error);
}

static bool descend(struct replay *replay, struct level *level, GError **error)
{
    guint last = level->names->len - 1;
    struct erofs_file dir;
    if (!erofs_reader_inode(replay->reader, g_array_index(level->nids, guint64, last), &dir, error))
        return false;
    int fd = openat(replay->dir, level->names->pdata[last], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return failed(error, "open", level->names->pdata[last]);
    fd_clear(&replay->dir);
    replay->dir = fd;
    g_ptr_array_set_size(level->names, (gint)last);
    g_array_set_size(level->nids, last);
    return enter(replay, &dir, error);
}

static void drop_level(struct replay *replay)
{
    struct level *level = &g_array_index(replay->levels, struct level, replay->levels->len - 1);
    g_ptr_array_unref(level->names);
    g_array_unref(level->nids);
    g_array_set_size(replay->levels, replay->levels->len - 1);
}

/* Sets what the directory's own content would have changed, and goes up. */
static bool leave(struct replay *replay, GError **error)
{
    struct level *level = &g_array_index(replay->levels, struct level, replay->levels->len - 1);
    bool is_root = replay->levels->len == 1;
    if (is_root && !remove_staging(replay, error))
        return false;
    if (!set_attributes(replay, replay->dir, ".", &level->dir, error))
        return false;
    drop_level(replay);
    if (is_root)
        return true;
    level = &g_array_index(replay->levels, struct level, replay->levels->len - 1);
    struct stat status;
    int fd = openat(replay->dir, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return failed(error, "open", "..");
    fd_clear(&replay->dir);
    replay->dir = fd;
    if (fstat(fd, &status) < 0)
        return failed(error, "stat", "..");
    return (status.st_dev == level->dev && status.st_ino == level->ino) ||
           error_set(error, TARE_ERROR_CONFLICT, "directory was moved while a layer was unpacked into it");
}

static bool walk(struct replay *replay, GError **error)
{
    struct erofs_file root;
    if (!erofs_reader_root(replay->reader, &root, error) || !enter(replay, &root, error))
        return false;
    while (replay->levels->len > 0) {
        struct level *level = &g_array_index(replay->levels, struct level, replay->levels->len - 1);
        if (!(level->names->len > 0 ? descend(replay, level, error) : leave(replay, error)))
            return false;
    }
    return true;
}

bool erofs_replay(struct erofs_reader *reader, const int *tar_fds, int dirfd, GError **error)
{
    struct replay replay = { .reader = reader, .tar_fds = tar_fds, .root = dirfd, .staging = -1 };
    replay.dir = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (replay.dir < 0)
        return failed(error, "open", ".");
    replay.levels = g_array_new(FALSE, FALSE, sizeof(struct level));
    replay.staged = g_hash_table_new(NULL, NULL);
    replay.buffer = g_malloc(BUFFER);
    bool ok = walk(&replay, error);
    while (replay.levels->len > 0)
        drop_level(&replay);
    g_array_unref(replay.levels);
    g_hash_table_unref(replay.staged);
    g_free(replay.buffer);
    fd_clear(&replay.dir);
    fd_clear(&replay.staging);
    g_free(replay.staging_name);
    return ok;
}
