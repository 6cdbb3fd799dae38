#include "shim/shim-internal.h"

#include "base/log.h"
#include "layer/layer.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The shim keeps a detached mount of the container's root of its own, and the container gets a clone. So the end of the
 * container's mount namespace never is the last unmount, which syncs the whole file system of the data root where the overlay is
 * not volatile: the exit is reported first. A restart clones again. */

static int mount_overlay(const struct shim_config *config, GError **error)
{
    const struct overlay_options options = {
        .lower_fds = config->lowers,
        .n_lower_fds = config->n_lowers,
        .lower_paths = (const char *const *)config->lower_paths,
        .upper = config->upper,
        .work = config->work,
        .is_volatile = config->is_volatile,
        .no_xino = config->no_xino,
        .label = config->label,
    };
    return overlay_mount(&options, error);
}

/* Lower layers that are paths live in a namespace that tared holds; a single-threaded process may visit it. */
static int mount_overlay_there(const struct shim_config *config, GError **error)
{
    if (config->mount_namespace_fd < 0)
        return mount_overlay(config, error);
    g_autofd int home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (home < 0 || setns(config->mount_namespace_fd, CLONE_NEWNS) < 0) {
        error_set_errno(error, errno, "enter the namespace of the layers");
        return -1;
    }
    g_autofd int fd = mount_overlay(config, error);
    if (setns(home, CLONE_NEWNS) < 0) {
        if (fd >= 0)
            error_set_errno(error, errno, "leave the namespace of the layers");
        return -1;
    }
    return fd_steal(&fd);
}

static int clone_mount(int fd)
{
    return (int)syscall(SYS_open_tree, fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
}

bool overlay_take(struct shim *shim, int *ret_fd, GError **error)
{
    if (!shim->config->has_overlay) {
        *ret_fd = -1;
        return true;
    }
    if (shim->overlay_moved)
        fd_clear(&shim->overlay_fd);
    if (shim->overlay_fd < 0)
        shim->overlay_fd = mount_overlay_there(shim->config, error);
    if (shim->overlay_fd < 0)
        return false;
    int fd = clone_mount(shim->overlay_fd);
    if (fd < 0) {
        shim->overlay_moved = true;
        fd = fcntl(shim->overlay_fd, F_DUPFD_CLOEXEC, 3);
    }
    if (fd < 0)
        return error_set_errno(error, errno, "container root");
    *ret_fd = fd;
    return true;
}

/* ---- letting go ---- */

/* Holds the mount, and nothing else of ours, until the parent has let go of it; then this process's end is the unmount. */
static void G_GNUC_NORETURN hold_and_exit(int overlay_fd, int wait_fd)
{
    char byte;
    if (dup3(overlay_fd, 0, 0) < 0 || dup3(wait_fd, 1, 0) < 0 || syscall(SYS_close_range, 2, ~0U, 0) < 0)
        _exit(1);
    while (read(1, &byte, 1) < 0 && errno == EINTR)
        ;
    _exit(0);
}

static void on_unmounted(void *user, uint32_t events)
{
    struct shim *shim = user;
    exit_reap(shim->unmount_pidfd);
    g_clear_pointer(&shim->unmount_watch, loop_watch_free);
    fd_clear(&shim->unmount_pidfd);
    shim->unmount_pid = 0;
    shim_consider_end(shim);
}

static bool release_in_child(struct shim *shim)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return false;
    pid_t pid = fork();
    if (pid == 0)
        hold_and_exit(shim->overlay_fd, ends[0]);
    if (pid > 0)
        fd_clear(&shim->overlay_fd);
    /* The child goes on when the last writer has gone: now that the mount is its alone. */
    fd_close(ends[0]);
    fd_close(ends[1]);
    if (pid < 0)
        return false;
    shim->unmount_pid = pid;
    shim->unmount_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    shim->unmount_watch =
        shim->unmount_pidfd < 0 ? NULL : loop_watch_new(shim->loop, shim->unmount_pidfd, EPOLLIN, on_unmounted, shim);
    if (!shim->unmount_watch)
        log_line(LOG_LEVEL_WARNING, "cannot watch the unmount", "container", shim->config->id, "error", error_errno_text(errno),
                 NULL);
    return true;
}

void overlay_release(struct shim *shim)
{
    if (shim->overlay_fd < 0)
        return;
    if (shim->config->is_volatile || !release_in_child(shim))
        fd_clear(&shim->overlay_fd);
}

bool overlay_is_released(const struct shim *shim)
{
    return shim->overlay_fd < 0 && !shim->unmount_watch;
}
