#include "layer/layer-internal.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define WHITEOUT_PREFIX ".wh."
#define OPAQUE_NAME ".wh..wh..opq"
#define OPAQUE_XATTR "trusted.overlay.opaque"
/* Trees may be deeper than a process may have files open: directories further up are closed and found again. */
#define MAX_OPEN_LEVELS 64
#define MAX_XATTR_LIST 65536
#define COPY_ROOM (128u << 10)

/* A directory on the way down. */
struct level {
    int fd; /* -1: closed for now */
    char *path;
    GPtrArray *names; /* sorted */
    guint next;
};

/* A stack of layers may show files of several file systems. */
struct inode {
    dev_t device;
    ino_t number;
};

struct seal {
    struct tar_writer *writer;
    const struct layer_seal_options *options;
    int upper_fd;
    GPtrArray *levels;
    GHashTable *linked;   /* struct inode → path of its first name */
    GHashTable *excluded; /* set of paths */
    void *buffer;
};

static guint hash_inode(gconstpointer key)
{
    const struct inode *inode = key;
    return g_int64_hash(&(gint64){ (gint64)inode->number }) ^ (guint)inode->device;
}

static gboolean same_inode(gconstpointer a, gconstpointer b)
{
    const struct inode *first = a, *second = b;
    return first->number == second->number && first->device == second->device;
}

/* ---- levels ---- */

static void level_free(gpointer data)
{
    struct level *level = data;
    fd_close(level->fd);
    g_free(level->path);
    g_ptr_array_unref(level->names);
    g_free(level);
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static GPtrArray *read_names(int fd, GError **error)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir) {
        error_set_errno(error, errno, "open directory");
        fd_close(copy);
        return NULL;
    }
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            g_ptr_array_add(names, g_strdup(entry->d_name));
    closedir(dir);
    g_ptr_array_sort(names, compare_names);
    return names;
}

/* Takes fd. */
static bool push_level(struct seal *seal, int fd, const char *path, GError **error)
{
    g_autofd int held = fd;
    GPtrArray *names = read_names(fd, error);
    if (!names)
        return false;
    struct level *level = g_new0(struct level, 1);
    level->fd = fd_steal(&held);
    level->path = g_strdup(path);
    level->names = names;
    g_ptr_array_add(seal->levels, level);
    if (seal->levels->len > MAX_OPEN_LEVELS)
        fd_clear(&((struct level *)seal->levels->pdata[seal->levels->len - 1 - MAX_OPEN_LEVELS])->fd);
    return true;
}

/* Opens a directory below the upper one step by step, so that no link is followed and no path is too long. */
static int open_again(struct seal *seal, const char *path, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    g_autofd int fd = openat(seal->upper_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (char **part = parts; fd >= 0 && *part; part++) {
        int next = openat(fd, *part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        fd_clear(&fd);
        fd = next;
    }
    if (fd < 0)
        error_set_errno(error, errno, "open %s", path);
    return fd_steal(&fd);
}

/* ---- attributes ---- */

/* Labels of the host's security modules are not the image's, and what overlayfs notes for itself would show one directory under
 * another. */
static bool keeps_xattr(const char *name)
{
    if (g_str_has_prefix(name, "trusted.overlay.") || g_str_has_prefix(name, "user.overlay."))
        return false;
    return g_str_has_prefix(name, "user.") || g_str_has_prefix(name, "trusted.") || g_str_has_prefix(name, "system.posix_acl_") ||
           strcmp(name, "security.capability") == 0;
}

static bool read_xattr(const char *path, const char *name, struct tar_entry *entry, bool *ret_opaque, GError **error)
{
    bool is_opaque = strcmp(name, OPAQUE_XATTR) == 0;
    if (!is_opaque && !keeps_xattr(name))
        return true;
    g_autofree char *value = g_malloc(MAX_XATTR_LIST);
    ssize_t n = lgetxattr(path, name, value, MAX_XATTR_LIST);
    if (n < 0)
        return errno == ENODATA || error_set_errno(error, errno, "read attribute %s of %s", name, entry->path);
    if (is_opaque)
        *ret_opaque = n == 1 && value[0] == 'y';
    else
        tar_entry_set_xattr(entry, name, value, (gsize)n);
    return true;
}

/* By the magic link of the directory's fd, for links and devices cannot be opened. */
static bool read_xattrs(int dir, const char *name, struct tar_entry *entry, bool *ret_opaque, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/%s", dir, name);
    g_autofree char *large = NULL;
    char small[512], *list = small;
    ssize_t n = llistxattr(path, small, sizeof small);
    if (n < 0 && errno == ERANGE) {
        list = large = g_malloc(MAX_XATTR_LIST);
        n = llistxattr(path, large, MAX_XATTR_LIST);
    }
    if (n < 0)
        return errno == ENOTSUP || error_set_errno(error, errno, "list attributes of %s", entry->path);
    for (const char *at = list; at < list + n; at += strlen(at) + 1)
        if (!read_xattr(path, at, entry, ret_opaque, error))
            return false;
    return true;
}

static void fill_from_stat(struct seal *seal, const struct stat *st, struct tar_entry *entry)
{
    entry->mode = st->st_mode;
    entry->uid = st->st_uid;
    entry->gid = st->st_gid;
    entry->mtime = st->st_mtim.tv_sec;
    if (seal->options->clamp_mtime >= 0)
        entry->mtime = MIN(entry->mtime, seal->options->clamp_mtime);
    if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
        entry->major = major(st->st_rdev);
        entry->minor = minor(st->st_rdev);
    }
}

/* ---- contents ---- */

/* The runs of data of a file with holes; NULL where it has none. */
static GArray *find_extents(int fd, const struct stat *st)
{
    if ((guint64)st->st_blocks * 512 >= (guint64)st->st_size)
        return NULL;
    GArray *extents = g_array_new(FALSE, TRUE, sizeof(struct tar_extent));
    off_t at = 0;
    while (at < st->st_size) {
        off_t data = lseek(fd, at, SEEK_DATA);
        if (data < 0 && errno != ENXIO) {
            g_array_unref(extents);
            return NULL;
        }
        if (data < 0 || data >= st->st_size)
            break;
        off_t hole = lseek(fd, data, SEEK_HOLE);
        at = hole < 0 ? st->st_size : MIN(hole, st->st_size);
        struct tar_extent extent = { .offset = (guint64)data, .length = (guint64)(at - data) };
        g_array_append_val(extents, extent);
    }
    return extents;
}

/* Exactly length bytes: a file that shrinks meanwhile (a running container's) ends in zeros. */
static bool copy_range(struct seal *seal, int fd, guint64 offset, guint64 length, const char *path, GError **error)
{
    while (length > 0) {
        gsize want = (gsize)MIN(length, COPY_ROOM);
        ssize_t n = fd_pread_full(fd, seal->buffer, want, (off_t)offset);
        if (n < 0)
            return error_set_errno(error, errno, "read %s", path);
        memset((char *)seal->buffer + n, 0, want - (gsize)n);
        if (!tar_writer_data(seal->writer, seal->buffer, want, error))
            return false;
        offset += want;
        length -= want;
    }
    return cancel_check(seal->options->cancel, error);
}

static bool write_file(struct seal *seal, int dir, const char *name, struct tar_entry *entry, GError **error)
{
    g_autofd int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "open %s", entry->path);
    if (!S_ISREG(st.st_mode))
        return error_set(error, TARE_ERROR_INTERNAL, "%s changed while it was read", entry->path);
    entry->size = entry->stored_size = (guint64)st.st_size;
    entry->extents = find_extents(fd, &st);
    if (!entry->extents)
        return tar_writer_entry(seal->writer, entry, error) && copy_range(seal, fd, 0, entry->size, entry->path, error);
    entry->stored_size = 0;
    for (guint i = 0; i < entry->extents->len; i++)
        entry->stored_size += g_array_index(entry->extents, struct tar_extent, i).length;
    if (!tar_writer_entry(seal->writer, entry, error))
        return false;
    for (guint i = 0; i < entry->extents->len; i++) {
        const struct tar_extent *extent = &g_array_index(entry->extents, struct tar_extent, i);
        if (!copy_range(seal, fd, extent->offset, extent->length, entry->path, error))
            return false;
    }
    return true;
}

/* ---- entries ---- */

static char *join(const char *directory, const char *name)
{
    return directory[0] ? g_strconcat(directory, "/", name, NULL) : g_strdup(name);
}

/* A deletion has no owner and no time that anyone could see: with those of its device the same step would never give the same
 * layer. */
static bool write_whiteout(struct seal *seal, const char *directory, const char *name, GError **error)
{
    struct tar_entry entry = { .path = join(directory, name), .mode = S_IFREG | 0600 };
    bool ok = tar_writer_entry(seal->writer, &entry, error);
    tar_entry_clear(&entry);
    return ok;
}

static bool write_directory(struct seal *seal, int dir, const char *name, struct tar_entry *entry, bool opaque, GError **error)
{
    if (!tar_writer_entry(seal->writer, entry, error) || (opaque && !write_whiteout(seal, entry->path, OPAQUE_NAME, error)))
        return false;
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, errno, "open %s", entry->path);
    return push_level(seal, fd, entry->path, error);
}

static bool read_link(int dir, const char *name, const struct stat *st, struct tar_entry *entry, GError **error)
{
    gsize room = (gsize)st->st_size + 1;
    entry->link = g_malloc(room + 1);
    ssize_t n = readlinkat(dir, name, entry->link, room);
    if (n < 0 || (gsize)n == room)
        return error_set_errno(error, n < 0 ? errno : ESTALE, "read link %s", entry->path);
    entry->link[n] = '\0';
    return true;
}

/* A further name of an inode that was written already: 1 written, 0 not one, -1 error. */
static int write_further_name(struct seal *seal, const struct stat *st, struct tar_entry *entry, GError **error)
{
    if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
        return 0;
    const struct inode inode = { .device = st->st_dev, .number = st->st_ino };
    const char *first = g_hash_table_lookup(seal->linked, &inode);
    if (!first) {
        g_hash_table_insert(seal->linked, g_memdup2(&inode, sizeof inode), g_strdup(entry->path));
        return 0;
    }
    entry->is_hard_link = true;
    entry->link = g_strdup(first);
    return tar_writer_entry(seal->writer, entry, error) ? 1 : -1;
}

static bool write_by_type(struct seal *seal, int dir, const char *name, const struct stat *st, struct tar_entry *entry,
                          GError **error)
{
    bool opaque = false;
    fill_from_stat(seal, st, entry);
    int further = write_further_name(seal, st, entry, error);
    if (further != 0)
        return further > 0;
    if (!read_xattrs(dir, name, entry, &opaque, error))
        return false;
    if (S_ISDIR(st->st_mode))
        return write_directory(seal, dir, name, entry, opaque, error);
    if (S_ISREG(st->st_mode))
        return write_file(seal, dir, name, entry, error);
    if (S_ISLNK(st->st_mode) && !read_link(dir, name, st, entry, error))
        return false;
    return tar_writer_entry(seal->writer, entry, error);
}

static bool seal_name(struct seal *seal, const struct level *level, const char *name, GError **error)
{
    g_autofree char *path = join(level->path, name);
    struct stat st;
    /* A file that is called like a whiteout cannot be in a layer: left out, it deletes nothing. */
    if (g_hash_table_contains(seal->excluded, path) || g_str_has_prefix(name, WHITEOUT_PREFIX) ||
        (seal->options->only && !g_hash_table_contains(seal->options->only, path)))
        return true;
    if (fstatat(level->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || error_set_errno(error, errno, "stat %s", path);
    if (S_ISSOCK(st.st_mode))
        return true;
    if (S_ISCHR(st.st_mode) && st.st_rdev == 0) {
        g_autofree char *whiteout = g_strconcat(WHITEOUT_PREFIX, name, NULL);
        return write_whiteout(seal, level->path, whiteout, error);
    }
    struct tar_entry entry = { .path = g_steal_pointer(&path) };
    bool ok = write_by_type(seal, level->fd, name, &st, &entry, error);
    tar_entry_clear(&entry);
    return ok;
}

static bool seal_tree(struct seal *seal, GError **error)
{
    int top = openat(seal->upper_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0)
        return error_set_errno(error, errno, "open upper directory");
    if (!push_level(seal, top, "", error))
        return false;
    while (seal->levels->len > 0) {
        struct level *level = seal->levels->pdata[seal->levels->len - 1];
        if (level->next == level->names->len) {
            g_ptr_array_set_size(seal->levels, (gint)seal->levels->len - 1);
            continue;
        }
        if (level->fd < 0 && (level->fd = open_again(seal, level->path, error)) < 0)
            return false;
        if (!cancel_check(seal->options->cancel, error) || !seal_name(seal, level, level->names->pdata[level->next++], error))
            return false;
    }
    return true;
}

static bool write_removed(struct seal *seal, GError **error)
{
    for (const char *const *path = seal->options->removed; path && *path; path++) {
        g_autofree char *directory = g_path_get_dirname(*path), *name = g_path_get_basename(*path);
        g_autofree char *whiteout = g_strconcat(WHITEOUT_PREFIX, name, NULL);
        if (!write_whiteout(seal, strcmp(directory, ".") == 0 ? "" : directory, whiteout, error))
            return false;
    }
    return true;
}

bool layer_store_seal(struct layer_store *store, int upper_fd, const struct layer_seal_options *options, struct layer_info *ret,
                      GError **error)
{
    struct layer_draft *draft;
    if (!layer_draft_new(store, &draft, error))
        return false;
    layer_draft_set_claim(draft, options->claim);
    struct seal seal = { .writer = layer_draft_writer(draft), .options = options, .upper_fd = upper_fd };
    g_autoptr(GPtrArray) levels = seal.levels = g_ptr_array_new_with_free_func(level_free);
    g_autoptr(GHashTable) linked = seal.linked = g_hash_table_new_full(hash_inode, same_inode, g_free, g_free);
    g_autoptr(GHashTable) excluded = seal.excluded = g_hash_table_new(g_str_hash, g_str_equal);
    g_autofree void *buffer = seal.buffer = g_malloc(COPY_ROOM);
    for (const char *const *path = options->exclude; path && *path; path++)
        g_hash_table_add(excluded, (gpointer)*path);
    if (seal_tree(&seal, error) && write_removed(&seal, error))
        return layer_draft_commit(draft, ret, error);
    layer_draft_discard(draft);
    return false;
}
