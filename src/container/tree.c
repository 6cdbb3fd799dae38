/* Directory trees through fds: copying one into another, and writing one as a tar. What is walked may be changed by a container
 * meanwhile: every step opens relative to a directory fd and follows no link. */
#include "container/container-internal.h"

#include "base/root_path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DEPTH_MAX 1000 /* one fd a level */
#define XATTR_LIST_MAX 65536

struct inode {
    dev_t device;
    ino_t number;
};

static guint inode_hash(gconstpointer key)
{
    const struct inode *inode = key;
    return (guint)inode->number ^ (guint)(inode->number >> 32) ^ (guint)inode->device;
}

static gboolean inode_equal(gconstpointer a, gconstpointer b)
{
    const struct inode *first = a, *second = b;
    return first->device == second->device && first->number == second->number;
}

static GHashTable *links_new(void)
{
    return g_hash_table_new_full(inode_hash, inode_equal, g_free, g_free);
}

/* The path under which this inode was met first, or NULL after noting it. */
static const char *link_target(GHashTable *links, const struct stat *st, const char *path)
{
    if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
        return NULL;
    struct inode key = { st->st_dev, st->st_ino };
    const char *first = g_hash_table_lookup(links, &key);
    if (!first)
        g_hash_table_insert(links, g_memdup2(&key, sizeof(key)), g_strdup(path));
    return first;
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of a directory, sorted by bytes. */
static GPtrArray *directory_names(int fd, GError **error)
{
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = again < 0 ? NULL : fdopendir(again);
    if (!directory) {
        error_set_errno(error, errno, "read directory");
        fd_close(again);
        return NULL;
    }
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    for (struct dirent *entry; (entry = readdir(directory));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            g_ptr_array_add(names, g_strdup(entry->d_name));
    closedir(directory);
    g_ptr_array_sort(names, compare_names);
    return names;
}

/* ---- extended attributes ---- */

typedef void (*xattr_func)(void *user, const char *name, const void *value, size_t size);

/* Calls back for each attribute that belongs to the file's content; overlayfs' own and labels of the host do not. */
static void each_xattr(int fd, xattr_func func, void *user)
{
    g_autofree char *list = g_malloc(XATTR_LIST_MAX);
    g_autofree char *value = g_malloc(XATTR_LIST_MAX);
    ssize_t length = flistxattr(fd, list, XATTR_LIST_MAX);
    for (const char *name = list; length > 0 && name < list + length; name += strlen(name) + 1) {
        if (strcmp(name, "security.capability") && !g_str_has_prefix(name, "user.") &&
            !g_str_has_prefix(name, "system.posix_acl_"))
            continue;
        if (g_str_has_prefix(name, "user.overlay."))
            continue;
        ssize_t size = fgetxattr(fd, name, value, XATTR_LIST_MAX);
        if (size >= 0)
            func(user, name, value, size);
    }
}

static void set_xattr(void *user, const char *name, const void *value, size_t size)
{
    fsetxattr(*(int *)user, name, value, size, 0); /* a file system that knows no such attribute loses it, as with tar */
}

static void add_xattr(void *user, const char *name, const void *value, size_t size)
{
    tar_entry_set_xattr(user, name, value, size);
}

/* ---- copying ---- */

struct copy {
    const struct tree_copy_options *options;
    int target_root;
    GHashTable *links;
};

static bool copy_directory(struct copy *copy, int from, int to, const char *path, unsigned depth, GError **error);

static bool fail(GError **error, const char *step, const char *path)
{
    return error_set_errno(error, errno, "%s %s", step, path);
}

/* Owner, mode, attributes and times of a file or directory that is open. The mode comes after the owner, which clears set-id
 * bits. */
static bool copy_attributes(int from, int to, const struct stat *st, const char *path, GError **error)
{
    const struct timespec times[2] = { st->st_atim, st->st_mtim };
    if (fchown(to, st->st_uid, st->st_gid) < 0)
        return fail(error, "chown", path);
    if (fchmod(to, st->st_mode & 07777) < 0)
        return fail(error, "chmod", path);
    each_xattr(from, set_xattr, &to);
    if (futimens(to, times) < 0)
        return fail(error, "set times of", path);
    return true;
}

static bool copy_regular(int from_dir, int to_dir, const char *name, const struct stat *st, const char *path, GError **error)
{
    g_autofd int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (from < 0)
        return fail(error, "open", path);
    g_autofd int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        return fail(error, "create", path);
    return fd_copy(from, to, -1, NULL, error) && copy_attributes(from, to, st, path, error);
}

static bool copy_link(int from_dir, int to_dir, const char *name, const struct stat *st, const char *path, GError **error)
{
    const struct timespec times[2] = { st->st_atim, st->st_mtim };
    g_autofree char *target = g_malloc0(ROOT_PATH_MAX);
    if (readlinkat(from_dir, name, target, ROOT_PATH_MAX - 1) < 0)
        return fail(error, "read link", path);
    if (symlinkat(target, to_dir, name) < 0)
        return fail(error, "make link", path);
    if (fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return fail(error, "chown", path);
    utimensat(to_dir, name, times, AT_SYMLINK_NOFOLLOW);
    return true;
}

static bool copy_special(int to_dir, const char *name, const struct stat *st, const char *path, GError **error)
{
    const struct timespec times[2] = { st->st_atim, st->st_mtim };
    if (S_ISSOCK(st->st_mode))
        return true;
    if (mknodat(to_dir, name, st->st_mode, st->st_rdev) < 0)
        return fail(error, "make node", path);
    if (fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return fail(error, "chown", path);
    g_autofd int node = openat(to_dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    g_autofree char *by_fd = g_strdup_printf("/proc/self/fd/%d", node);
    if (node < 0 || chmod(by_fd, st->st_mode & 07777) < 0)
        return fail(error, "chmod", path);
    utimensat(to_dir, name, times, AT_SYMLINK_NOFOLLOW);
    return true;
}

static bool copy_hard_link(struct copy *copy, const char *first, int to_dir, const char *name, const char *path, GError **error)
{
    const char *last;
    g_autofd int parent = root_open_parent(copy->target_root, first, &last);
    if (parent < 0 || linkat(parent, last, to_dir, name, 0) < 0)
        return fail(error, "link", path);
    return true;
}

/* Makes room for an entry: a directory may stay for a directory, everything else that is there goes. */
static bool make_room(struct copy *copy, int to_dir, const char *name, bool is_directory, const char *path, GError **error)
{
    struct stat there;
    if (fstatat(to_dir, name, &there, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || fail(error, "look at", path);
    bool was_directory = S_ISDIR(there.st_mode);
    if (was_directory && is_directory)
        return true;
    if (copy->options->no_overwrite_dir_non_dir && was_directory != is_directory)
        return was_directory ? error_set(error, TARE_ERROR_INVALID,
                                         "cannot overwrite directory \"/%s\" with non-directory \"/%s\"", path, path)
                             : error_set(error, TARE_ERROR_INVALID,
                                         "cannot overwrite non-directory \"/%s\" with directory \"/%s\"", path, path);
    if (unlinkat(to_dir, name, was_directory ? AT_REMOVEDIR : 0) < 0)
        return fail(error, "replace", path);
    return true;
}

static bool copy_subdirectory(struct copy *copy, int from_dir, int to_dir, const char *name, const struct stat *st,
                              const char *path, unsigned depth, GError **error)
{
    g_autofd int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0)
        return fail(error, "open", path);
    if (mkdirat(to_dir, name, 0700) < 0 && errno != EEXIST)
        return fail(error, "make directory", path);
    g_autofd int to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (to < 0)
        return fail(error, "open", path);
    return copy_directory(copy, from, to, path, depth + 1, error) && copy_attributes(from, to, st, path, error);
}

static bool copy_entry(struct copy *copy, int from_dir, int to_dir, const char *name, const char *path, unsigned depth,
                       GError **error)
{
    struct stat st;
    if (fstatat(from_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return fail(error, "look at", path);
    if (copy->options->set_owner) {
        st.st_uid = copy->options->uid;
        st.st_gid = copy->options->gid;
    }
    if (!make_room(copy, to_dir, name, S_ISDIR(st.st_mode), path, error))
        return false;
    const char *first = link_target(copy->links, &st, path);
    if (first)
        return copy_hard_link(copy, first, to_dir, name, path, error);
    if (S_ISDIR(st.st_mode))
        return copy_subdirectory(copy, from_dir, to_dir, name, &st, path, depth, error);
    if (S_ISREG(st.st_mode))
        return copy_regular(from_dir, to_dir, name, &st, path, error);
    if (S_ISLNK(st.st_mode))
        return copy_link(from_dir, to_dir, name, &st, path, error);
    return copy_special(to_dir, name, &st, path, error);
}

static bool copy_directory(struct copy *copy, int from, int to, const char *path, unsigned depth, GError **error)
{
    g_autoptr(GPtrArray) names = directory_names(from, error);
    if (!names)
        return false;
    if (depth > DEPTH_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "directories are nested too deeply at %s", path);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *below = *path ? g_strconcat(path, "/", names->pdata[i], NULL) : g_strdup(names->pdata[i]);
        if (!copy_entry(copy, from, to, names->pdata[i], below, depth, error))
            return false;
    }
    return true;
}

bool tree_copy(int from, int to, const struct tree_copy_options *options, GError **error)
{
    g_autoptr(GHashTable) links = links_new();
    struct copy copy = { .options = options, .target_root = to, .links = links };
    struct stat st;
    if (!copy_directory(&copy, from, to, "", 0, error))
        return false;
    if (options->keep_target)
        return true;
    if (fstat(from, &st) < 0)
        return fail(error, "look at", "/");
    return copy_attributes(from, to, &st, "/", error);
}

/* ---- writing a tar ---- */

struct tar_walk {
    struct tar_writer *writer;
    GHashTable *links;
    struct cancel *cancel;
};

static bool write_directory(struct tar_walk *walk, int fd, const char *path, unsigned depth, GError **error);

static void describe(struct tar_entry *entry, const struct stat *st, const char *path)
{
    entry->path = g_strdup(path);
    entry->mode = st->st_mode;
    entry->uid = st->st_uid;
    entry->gid = st->st_gid;
    entry->mtime = st->st_mtim.tv_sec;
    if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
        entry->major = major(st->st_rdev);
        entry->minor = minor(st->st_rdev);
    }
}

/* A regular file; what it loses or gains while it is read is padded or left out, for the header is gone already. */
static bool write_regular(struct tar_walk *walk, struct tar_entry *entry, int fd, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return error_set(error, TARE_ERROR_CONFLICT, "%s changed while it was read", entry->path);
    each_xattr(fd, add_xattr, entry);
    entry->size = entry->stored_size = st.st_size;
    if (!tar_writer_entry(walk->writer, entry, error))
        return false;
    g_autofree char *buffer = g_malloc(1 << 17);
    for (guint64 left = st.st_size; left;) {
        size_t wanted = MIN(left, 1 << 17);
        ssize_t n = fd_read_full(fd, buffer, wanted);
        if (n < 0)
            return error_set_errno(error, errno, "read %s", entry->path);
        memset(buffer + n, 0, wanted - n);
        if (!tar_writer_data(walk->writer, buffer, wanted, error) || !cancel_check(walk->cancel, error))
            return false;
        left -= wanted;
    }
    return true;
}

static bool write_entry(struct tar_walk *walk, int dirfd, const char *name, const char *path, unsigned depth, GError **error)
{
    struct stat st;
    struct tar_entry entry = { 0 };
    g_autofd int fd = -1;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || fail(error, "look at", path);
    if (S_ISSOCK(st.st_mode))
        return true; /* a tar cannot hold one */
    if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
        fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (S_ISDIR(st.st_mode) ? O_DIRECTORY : 0));
        if (fd < 0)
            return errno == ENOENT || fail(error, "open", path);
    }
    describe(&entry, &st, path);
    bool ok;
    const char *first = link_target(walk->links, &st, path);
    if (first) {
        entry.link = g_strdup(first);
        entry.is_hard_link = true;
        ok = tar_writer_entry(walk->writer, &entry, error);
    } else if (S_ISREG(st.st_mode)) {
        ok = write_regular(walk, &entry, fd, error);
    } else if (S_ISLNK(st.st_mode)) {
        entry.link = g_malloc0(ROOT_PATH_MAX);
        ok = readlinkat(dirfd, name, entry.link, ROOT_PATH_MAX - 1) >= 0 ? tar_writer_entry(walk->writer, &entry, error)
                                                                         : fail(error, "read link", path);
    } else {
        if (fd >= 0)
            each_xattr(fd, add_xattr, &entry);
        ok = tar_writer_entry(walk->writer, &entry, error) &&
             (!S_ISDIR(st.st_mode) || write_directory(walk, fd, path, depth + 1, error));
    }
    tar_entry_clear(&entry);
    return ok;
}

static bool write_directory(struct tar_walk *walk, int fd, const char *path, unsigned depth, GError **error)
{
    g_autoptr(GPtrArray) names = directory_names(fd, error);
    if (!names || !cancel_check(walk->cancel, error))
        return false;
    if (depth > DEPTH_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "directories are nested too deeply at %s", path);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *below = g_strconcat(path, *path && !g_str_has_suffix(path, "/") ? "/" : "", names->pdata[i], NULL);
        if (!write_entry(walk, fd, names->pdata[i], below, depth, error))
            return false;
    }
    return true;
}

bool tree_write_tar(int dirfd, const char *name, const char *prefix, struct tar_writer *writer, struct cancel *cancel,
                    GError **error)
{
    g_autoptr(GHashTable) links = links_new();
    struct tar_walk walk = { .writer = writer, .links = links, .cancel = cancel };
    if (*prefix)
        return write_entry(&walk, dirfd, name, prefix, 0, error);
    g_autofd int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail(error, "open", name);
    return write_directory(&walk, fd, "", 0, error);
}
