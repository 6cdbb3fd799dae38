/* -v …:z and …:Z: a container's SELinux label for all that a mount shows it. */
#include "container/container-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DEPTH_MAX 1000 /* one fd a level */
#define LABEL_NAME "security.selinux"
#define LABEL_ROOM 4096

/* The host could not be used any more if these and all below belonged to one container. */
static bool is_excluded(const char *path)
{
    static const char *const excluded[] = { "/",     "/bin",     "/boot",       "/dev",   "/etc",   "/etc/passwd", "/etc/pki",
                                            "/home", "/lib",     "/etc/shadow", "/lib64", "/media", "/opt",        "/proc",
                                            "/root", "/run",     "/sbin",       "/srv",   "/sys",   "/tmp",        "/usr",
                                            "/var",  "/var/lib", "/var/log",    NULL };
    const char *home = g_getenv("HOME");
    return g_strv_contains(excluded, path) || (home && strcmp(home, path) == 0);
}

/* What has gone meanwhile needs no label; a file system that has none gets none. */
static bool set_label(const char *by_fd, const char *label, const char *path, GError **error)
{
    char now[LABEL_ROOM];
    ssize_t n = lgetxattr(by_fd, LABEL_NAME, now, sizeof now);
    size_t length = strlen(label);
    if ((n == (ssize_t)length || n == (ssize_t)length + 1) && memcmp(now, label, length) == 0)
        return true;
    if (lsetxattr(by_fd, LABEL_NAME, label, length + 1, 0) == 0 || errno == ENOENT || errno == ENOTSUP)
        return true;
    return error_set_errno(error, errno, "lsetxattr %s", path);
}

static bool relabel_directory(int fd, const char *label, const char *path, unsigned depth, GError **error);

/* By the magic link of the directory's fd, for links and devices cannot be opened. */
static bool relabel_entry(int dir, const char *name, const char *label, const char *path, unsigned depth, GError **error)
{
    g_autofree char *by_fd = g_strdup_printf("/proc/self/fd/%d/%s", dir, name);
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || error_set_errno(error, errno, "look at %s", path);
    if (S_ISDIR(st.st_mode)) {
        int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return errno == ENOENT || error_set_errno(error, errno, "open %s", path);
        bool ok = relabel_directory(fd, label, path, depth + 1, error);
        fd_close(fd);
        if (!ok)
            return false;
    }
    return set_label(by_fd, label, path, error);
}

static bool relabel_directory(int fd, const char *label, const char *path, unsigned depth, GError **error)
{
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = again < 0 ? NULL : fdopendir(again);
    bool ok = true;
    if (!directory) {
        error_set_errno(error, errno, "read %s", path);
        fd_close(again);
        return false;
    }
    if (depth > DEPTH_MAX)
        ok = error_set(error, TARE_ERROR_TOO_LARGE, "directories are nested too deeply at %s", path);
    for (struct dirent *entry; ok && (entry = readdir(directory));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        g_autofree char *below = g_build_filename(path, entry->d_name, NULL);
        ok = relabel_entry(fd, entry->d_name, label, below, depth, error);
    }
    closedir(directory);
    return ok;
}

bool selinux_relabel(const char *path, const char *label, bool is_shared, GError **error)
{
    if (!label)
        return true;
    g_autofree char *wanted = is_shared ? selinux_shared_label(label) : g_strdup(label);
    g_autofree char *resolved = realpath(path, NULL);
    if (!resolved)
        return error_set_errno(error, errno, "error evaluating symlinks from mount source \"%s\"", path);
    if (is_excluded(resolved))
        return error_set(error, TARE_ERROR_INVALID, "SELinux relabeling of %s is not allowed", resolved);
    g_autofd int fd = open(resolved, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "open %s", resolved);
    g_autofree char *by_fd = g_strdup_printf("/proc/self/fd/%d/.", fd);
    if (S_ISDIR(st.st_mode))
        return relabel_directory(fd, wanted, resolved, 0, error) && set_label(by_fd, wanted, resolved, error);
    g_autofree char *directory = g_path_get_dirname(resolved), *name = g_path_get_basename(resolved);
    g_autofd int parent = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return parent < 0 ? error_set_errno(error, errno, "open %s", directory)
                      : relabel_entry(parent, name, wanted, resolved, 0, error);
}
