#include "layer/mounts.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Overlay refuses more; with the container's own two directories on top this is Docker's limit too, plus the fix-up index. */
#define MAX_LOWER 500

bool overlay_force_old_mount;

static bool set_flag(int fs, const char *key)
{
    return syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, key, NULL, 0) == 0;
}

static bool set_string(int fs, const char *key, const char *value)
{
    return syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0) == 0;
}

bool mount_fail_with_log(int fs, const char *what, GError **error)
{
    int saved = errno;
    char log[256];
    ssize_t n = read(fs, log, sizeof log - 1);
    if (n <= 2)
        return error_set_errno(error, saved, "%s", what);
    log[n] = '\0';
    g_strchomp(log);
    return error_set_errno(error, saved, "%s: %s", what, log + 2);
}

static size_t count_lowers(const struct overlay_options *options)
{
    return options->lower_fds ? options->n_lower_fds : g_strv_length((char **)options->lower_paths);
}

/* Without an upper there must be two layers: an empty one does no harm under a single one. */
static bool needs_empty(const struct overlay_options *options)
{
    return !options->upper && count_lowers(options) == 1;
}

/* 1 done, 0 this kernel does not take layers one by one, -1 error. */
static int set_lowers(int fs, const struct overlay_options *options, GError **error)
{
    bool by_fd = options->lower_fds != NULL;
    size_t n = count_lowers(options);
    if (overlay_force_old_mount)
        return 0;
    for (size_t i = 0; i < n; i++) {
        long r = by_fd ? syscall(SYS_fsconfig, fs, FSCONFIG_SET_FD, "lowerdir+", NULL, options->lower_fds[i])
                       : syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "lowerdir+", options->lower_paths[i], 0);
        /* Kernels before 6.5 take paths as words of unknown meaning, until these fill a page. */
        if (r < 0 && (i == 0 || !by_fd) && (errno == EINVAL || errno == EOPNOTSUPP))
            return 0;
        if (r < 0) {
            mount_fail_with_log(fs, "add overlay layer", error);
            return -1;
        }
    }
    return 1;
}

/* Upper and work directory need not fit into the 255 bytes of an option: fds do where the kernel takes them (6.13). */
static bool set_directory(int fs, const char *key, const char *path, GError **error)
{
    g_autofd int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, errno, "open %s", path);
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_FD, key, NULL, fd) == 0)
        return true;
    return set_string(fs, key, path) || mount_fail_with_log(fs, key, error);
}

static bool set_options(int fs, const struct overlay_options *options, GError **error)
{
    static const struct {
        const char *key, *value;
    } always[] = { { "redirect_dir", "nofollow" }, { "metacopy", "off" }, { "index", "off" } };
    for (size_t i = 0; i < G_N_ELEMENTS(always); i++)
        if (!set_string(fs, always[i].key, always[i].value))
            return mount_fail_with_log(fs, always[i].key, error);
    if (!set_string(fs, "xino", options->no_xino ? "off" : "on") || !set_string(fs, "source", "overlay"))
        return mount_fail_with_log(fs, "overlay options", error);
    if (options->label && !set_string(fs, "context", options->label))
        return mount_fail_with_log(fs, "SELinux context", error);
    if (!options->upper)
        return true;
    if (options->is_volatile && !set_flag(fs, "volatile"))
        return mount_fail_with_log(fs, "volatile", error);
    return set_directory(fs, "upperdir", options->upper, error) && set_directory(fs, "workdir", options->work, error);
}

/* Why nothing can be made in the directory; 0 where something can. */
static int cannot_make(const char *directory)
{
    g_autofree char *name = g_build_filename(directory, "probe", NULL);
    if (mkdir(name, 0700) < 0 && errno != EEXIST)
        return errno;
    rmdir(name);
    return 0;
}

/* Overlay turns itself read-only, with a line in the kernel's log alone, where it cannot write its work directory. */
static bool check_writable(int mount, const struct overlay_options *options, GError **error)
{
    struct statvfs st;
    if (fstatvfs(mount, &st) < 0)
        return error_set_errno(error, errno, "stat overlay");
    if (!(st.f_flag & ST_RDONLY))
        return true;
    int reason = cannot_make(options->work);
    return reason ? error_set_errno(error, reason, "mount overlay: its work directory")
                  : error_set(error, TARE_ERROR_INTERNAL, "overlay fell back to read-only");
}

/* ---- mount(2), for kernels before 6.7 ---- */

static bool add_directory(GArray *fds, GString *data, const char *path, GError **error)
{
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, errno, "open %s", path);
    g_array_append_val(fds, fd);
    g_string_append_printf(data, "/proc/self/fd/%d", fd);
    return true;
}

static bool write_old_lowers(const struct overlay_options *options, GArray *fds, GString *data, GError **error)
{
    size_t n = count_lowers(options);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            g_string_append_c(data, ':');
        if (options->lower_fds)
            g_string_append_printf(data, "/proc/self/fd/%d", options->lower_fds[i]);
        else if (!add_directory(fds, data, options->lower_paths[i], error))
            return false;
    }
    return true;
}

/* All options must fit into a page: layers are named by their fds, at most 18 bytes each. */
static bool write_old_options(const struct overlay_options *options, GArray *fds, GString *data, GError **error)
{
    g_string_append_printf(data, ",redirect_dir=nofollow,metacopy=off,index=off,xino=%s", options->no_xino ? "off" : "on");
    if (options->label)
        g_string_append_printf(data, ",context=\"%s\"", options->label);
    if (options->upper) {
        g_string_append(data, ",upperdir=");
        if (!add_directory(fds, data, options->upper, error))
            return false;
        g_string_append(data, ",workdir=");
        if (!add_directory(fds, data, options->work, error))
            return false;
        if (options->is_volatile)
            g_string_append(data, ",volatile");
    }
    return data->len < 4096 || error_set(error, TARE_ERROR_INVALID, "max depth exceeded");
}

/* A file system at place with an empty directory for a layer and another one to mount at. These kernels take no layer from a
 * mount that is attached nowhere. */
static bool mount_empty_at(const char *place, GArray *fds, GString *data, GError **error)
{
    g_autofree char *empty = g_build_filename(place, "empty", NULL);
    g_autofree char *merged = g_build_filename(place, "merged", NULL);
    if (mount("tmpfs", place, "tmpfs", 0, "mode=0755") < 0 || mkdir(empty, 0755) < 0 || mkdir(merged, 0755) < 0)
        return error_set_errno(error, errno, "make an empty directory");
    g_string_append_c(data, ':');
    return add_directory(fds, data, empty, error);
}

static int mount_and_take(const char *target, const char *data, bool is_read_only, GError **error)
{
    if (mount("overlay", target, "overlay", is_read_only ? MS_RDONLY : 0, data) < 0) {
        error_set_errno(error, errno, "mount overlay");
        return -1;
    }
    int fd = (int)syscall(SYS_open_tree, AT_FDCWD, target, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (fd < 0)
        error_set_errno(error, errno, "take the overlay");
    return fd;
}

/* mount(2) wants a place, from which the mount is taken away again at once. */
static int mount_old(const struct overlay_options *options, GError **error)
{
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_autoptr(GString) data = g_string_new(NULL);
    char place[] = "/tmp/.tare-overlay-XXXXXX";
    int mount = -1;
    if (!mkdtemp(place)) {
        error_set_errno(error, errno, "make a mount point");
        return -1;
    }
    g_autofree char *target = needs_empty(options) ? g_build_filename(place, "merged", NULL) : g_strdup(place);
    g_string_append(data, "lowerdir=");
    if (write_old_lowers(options, fds, data, error) && (!needs_empty(options) || mount_empty_at(place, fds, data, error)) &&
        write_old_options(options, fds, data, error))
        mount = mount_and_take(target, data->str, options->upper == NULL, error);
    umount2(place, MNT_DETACH);
    rmdir(place);
    for (guint i = 0; i < fds->len; i++)
        fd_close(g_array_index(fds, int, i));
    return mount;
}

/* ---- fsopen(2) ---- */

int mount_empty(GError **error)
{
    g_autofd int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
        syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
        error_set_errno(error, errno, "make an empty directory");
        return -1;
    }
    int mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY);
    if (mount < 0)
        error_set_errno(error, errno, "mount an empty directory");
    return mount;
}

/* 1 and a mount, 0 to be tried with mount(2), -1 error. */
static int mount_new(const struct overlay_options *options, int *ret_mount, GError **error)
{
    g_autofd int fs = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
    if (fs < 0) {
        error_set_errno(error, errno, "open overlay file system");
        return -1;
    }
    int lowers = set_lowers(fs, options, error);
    if (lowers <= 0)
        return lowers;
    g_autofd int empty = -1; /* open until it is mounted */
    if (needs_empty(options)) {
        empty = mount_empty(error);
        if (empty < 0)
            return -1;
        if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_FD, "lowerdir+", NULL, empty) < 0) {
            mount_fail_with_log(fs, "add overlay layer", error);
            return -1;
        }
    }
    if (!set_options(fs, options, error))
        return -1;
    if (!options->upper && !set_flag(fs, "ro")) {
        mount_fail_with_log(fs, "overlay read-only", error);
        return -1;
    }
    if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
        if (errno == EINVAL && !options->lower_fds) /* kernels before 6.5 take any word as an option, until this call */
            return 0;
        mount_fail_with_log(fs, "create overlay", error);
        return -1;
    }
    *ret_mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, options->upper ? 0 : MOUNT_ATTR_RDONLY);
    if (*ret_mount < 0)
        error_set_errno(error, errno, "mount overlay");
    return *ret_mount < 0 ? -1 : 1;
}

int overlay_mount(const struct overlay_options *options, GError **error)
{
    g_autofd int mount = -1;
    size_t n = count_lowers(options);
    if (n == 0 || n > MAX_LOWER) {
        error_set(error, TARE_ERROR_INVALID, "max depth exceeded");
        return -1;
    }
    int made = mount_new(options, &mount, error);
    if (made == 0)
        mount = mount_old(options, error);
    if (mount < 0 || (options->upper && !check_writable(mount, options, error)))
        return -1;
    return fd_steal(&mount);
}
