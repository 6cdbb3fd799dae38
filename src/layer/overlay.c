#include "layer/layer.h"

#include "base/fd.h"

#include <errno.h>
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

static bool set_flag(int fs, const char *key)
{
    return syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, key, NULL, 0) == 0;
}

static bool set_string(int fs, const char *key, const char *value)
{
    return syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0) == 0;
}

/* A failed mount's reason stands in the context's own log ("e overlay: …"), one message a read. */
static bool fail_with_log(int fs, const char *what, GError **error)
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

static bool set_lowers(int fs, const struct overlay_options *options, GError **error)
{
    bool by_fd = options->lower_fds != NULL;
    size_t n = by_fd ? options->n_lower_fds : g_strv_length((char **)options->lower_paths);
    if (n == 0 || n > MAX_LOWER)
        return error_set(error, TARE_ERROR_INVALID, "max depth exceeded");
    for (size_t i = 0; i < n; i++) {
        long r = by_fd ? syscall(SYS_fsconfig, fs, FSCONFIG_SET_FD, "lowerdir+", NULL, options->lower_fds[i])
                       : syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "lowerdir+", options->lower_paths[i], 0);
        if (r < 0)
            return fail_with_log(fs, "add overlay layer", error);
    }
    return true;
}

/* Upper and work directory need not fit into the 255 bytes of an option: fds do where the kernel takes them (6.13). */
static bool set_directory(int fs, const char *key, const char *path, GError **error)
{
    g_autofd int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, errno, "open %s", path);
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_FD, key, NULL, fd) == 0)
        return true;
    return set_string(fs, key, path) || fail_with_log(fs, key, error);
}

static bool set_options(int fs, const struct overlay_options *options, GError **error)
{
    static const struct {
        const char *key, *value;
    } always[] = { { "redirect_dir", "nofollow" }, { "metacopy", "off" }, { "index", "off" } };
    for (size_t i = 0; i < G_N_ELEMENTS(always); i++)
        if (!set_string(fs, always[i].key, always[i].value))
            return fail_with_log(fs, always[i].key, error);
    if (!set_string(fs, "xino", options->no_xino ? "off" : "on") || !set_string(fs, "source", "overlay"))
        return fail_with_log(fs, "overlay options", error);
    if (!options->upper)
        return true;
    if (options->is_volatile && !set_flag(fs, "volatile"))
        return fail_with_log(fs, "volatile", error);
    return set_directory(fs, "upperdir", options->upper, error) && set_directory(fs, "workdir", options->work, error);
}

/* Overlay turns itself read-only, with a line in the kernel's log alone, where it cannot write its work directory. */
static bool check_writable(int mount, GError **error)
{
    struct statvfs st;
    if (fstatvfs(mount, &st) < 0)
        return error_set_errno(error, errno, "stat overlay");
    return !(st.f_flag & ST_RDONLY) || error_set(error, TARE_ERROR_INTERNAL, "overlay fell back to read-only");
}

int overlay_mount(const struct overlay_options *options, GError **error)
{
    g_autofd int fs = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
    if (fs < 0) {
        error_set_errno(error, errno, "open overlay file system");
        return -1;
    }
    if (!set_lowers(fs, options, error) || !set_options(fs, options, error))
        return -1;
    if (!options->upper && !set_flag(fs, "ro")) {
        fail_with_log(fs, "overlay read-only", error);
        return -1;
    }
    if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
        fail_with_log(fs, "create overlay", error);
        return -1;
    }
    g_autofd int mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, options->upper ? 0 : MOUNT_ATTR_RDONLY);
    if (mount < 0) {
        error_set_errno(error, errno, "mount overlay");
        return -1;
    }
    if (options->upper && !check_writable(mount, error))
        return -1;
    return fd_steal(&mount);
}
