#include "base/file.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

bool file_read(int dirfd, const char *path, size_t max, char **ret, size_t *ret_length, GError **error)
{
    g_autofd int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return error_set(error, TARE_ERROR_NOT_FOUND, "open %s: no such file or directory", path);
    if (fd < 0)
        return error_set_errno(error, errno, "open %s", path);
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "stat %s", path);
    if (S_ISDIR(st.st_mode))
        return error_set_errno(error, EISDIR, "read %s", path);
    return fd_read_all(fd, max, path, ret, ret_length, error);
}

int file_new_temporary(int dirfd, mode_t mode, char **ret_name, GError **error)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        g_autofree char *name = g_strdup_printf(FILE_TEMPORARY_PREFIX "%08x%08x", g_random_int(), g_random_int());
        int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
        if (fd >= 0) {
            *ret_name = g_steal_pointer(&name);
            return fd;
        }
        if (errno != EEXIST)
            break;
    }
    error_set_errno(error, errno, "create temporary file");
    return -1;
}

bool file_publish(int dirfd, const char *temporary, int fd, const char *name, bool durable, GError **error)
{
    if (durable && fsync(fd) < 0)
        return error_set_errno(error, errno, "fsync %s", name);
    if (renameat(dirfd, temporary, dirfd, name) < 0)
        return error_set_errno(error, errno, "rename %s", name);
    if (durable && dirfd != AT_FDCWD && fsync(dirfd) < 0)
        return error_set_errno(error, errno, "fsync directory of %s", name);
    return true;
}

bool file_write(int dirfd, const char *name, const void *data, size_t length, mode_t mode, bool durable, GError **error)
{
    g_autofree char *temporary = NULL;
    g_autofd int fd = file_new_temporary(dirfd, mode, &temporary, error);
    if (fd < 0)
        return false;
    bool ok = fd_write_full(fd, data, length) == 0;
    if (!ok)
        error_set_errno(error, errno, "write %s", name);
    ok = ok && file_publish(dirfd, temporary, fd, name, durable, error);
    if (!ok)
        unlinkat(dirfd, temporary, 0);
    return ok;
}

static bool remove_entries(int dirfd, const char *prefix, GError **error)
{
    int copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir) {
        error_set_errno(error, errno, "open directory");
        fd_close(copy);
        return false;
    }
    bool ok = true;
    for (struct dirent *entry; ok && (entry = readdir(dir));)
        if (g_str_has_prefix(entry->d_name, prefix) && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            ok = dir_remove_tree(dirfd, entry->d_name, error);
    closedir(dir);
    return ok;
}

bool file_sweep_temporaries(int dirfd, GError **error)
{
    return remove_entries(dirfd, FILE_TEMPORARY_PREFIX, error);
}

bool dir_empty(int dirfd, GError **error)
{
    return remove_entries(dirfd, "", error);
}

int dir_make(int dirfd, const char *name, mode_t mode, GError **error)
{
    if (mkdirat(dirfd, name, mode) < 0 && errno != EEXIST) {
        error_set_errno(error, errno, "mkdir %s", name);
        return -1;
    }
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        error_set_errno(error, errno, "open %s", name);
    return fd;
}

int dir_make_path(const char *path, mode_t mode, GError **error)
{
    if (g_mkdir_with_parents(path, (int)mode) < 0) {
        error_set_errno(error, errno, "mkdir %s", path);
        return -1;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        error_set_errno(error, errno, "open %s", path);
    return fd;
}

void dir_spread(int dirfd)
{
    int flags = 0;
    if (ioctl(dirfd, FS_IOC_GETFLAGS, &flags) < 0 || flags & FS_TOPDIR_FL)
        return;
    flags |= FS_TOPDIR_FL;
    ioctl(dirfd, FS_IOC_SETFLAGS, &flags);
}

/* A directory being emptied. */
struct level {
    DIR *dir;
    char *name;
};

static void level_free(gpointer data)
{
    struct level *level = data;
    if (level->dir)
        closedir(level->dir);
    g_free(level->name);
    g_free(level);
}

/* Unlinks a non-directory or opens a directory as a new level: 1 opened, 0 gone, -1 error. */
static int unlink_or_descend(int parent, const char *name, dev_t device, GPtrArray *levels, GError **error)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM) {
        error_set_errno(error, errno, "unlink %s", name);
        return -1;
    }
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        error_set_errno(error, errno, "open %s", name);
        fd_close(fd);
        return -1;
    }
    if (device != 0 && st.st_dev != device) {
        fd_close(fd);
        error_set_errno(error, EBUSY, "remove %s: a file system is mounted there", name);
        return -1;
    }
    struct level *level = g_new0(struct level, 1);
    level->dir = fdopendir(fd);
    level->name = g_strdup(name);
    g_ptr_array_add(levels, level);
    if (!level->dir) {
        error_set_errno(error, errno, "open %s", name);
        fd_close(fd);
        return -1;
    }
    return 1;
}

bool dir_remove_tree(int at, const char *name, GError **error)
{
    g_autoptr(GPtrArray) levels = g_ptr_array_new_with_free_func(level_free);
    struct stat top;
    if (fstatat(at, name, &top, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno == ENOENT)
            return true;
        return error_set_errno(error, errno, "stat %s", name);
    }
    if (unlink_or_descend(at, name, 0, levels, error) < 0)
        return false;
    while (levels->len > 0) {
        struct level *level = levels->pdata[levels->len - 1];
        struct dirent *entry = readdir(level->dir);
        if (entry) {
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                continue;
            if (unlink_or_descend(dirfd(level->dir), entry->d_name, top.st_dev, levels, error) < 0)
                return false;
            continue;
        }
        int parent = levels->len > 1 ? dirfd(((struct level *)levels->pdata[levels->len - 2])->dir) : at;
        if (unlinkat(parent, level->name, AT_REMOVEDIR) < 0 && errno != ENOENT)
            return error_set_errno(error, errno, "rmdir %s", level->name);
        g_ptr_array_set_size(levels, (gint)levels->len - 1);
    }
    return true;
}
