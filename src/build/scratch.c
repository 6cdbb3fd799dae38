/* A small file system in memory that no path leads to: for here-documents, secrets and agents' sockets. It goes with its last fd,
 * so nothing is left of it whatever happens to the engine. */
#include "base/fd.h"
#include "build/build-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int scratch_open(GError **error)
{
    g_autofd int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
    int root = -1;

    if (fs >= 0)
        syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "noswap", NULL, 0); /* Linux 6.4; secrets should not go to a disk */
    if (fs >= 0 && syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0755", 0) == 0 &&
        syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        root = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (root < 0)
        error_set_errno(error, errno, "make a file system in memory");
    return root;
}

bool scratch_write(int root, const struct scratch_file *file, GError **error)
{
    const struct timespec times[2] = { { .tv_sec = file->mtime }, { .tv_sec = file->mtime } };
    g_autofd int fd = openat(root, file->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0 || fd_write_full(fd, file->data, file->length) < 0 || fchown(fd, file->uid, file->gid) < 0 ||
        fchmod(fd, file->mode) < 0 || futimens(fd, times) < 0)
        return error_set_errno(error, errno, "write %s", file->name);
    return true;
}

int mount_clone(int fd, GError **error)
{
    int tree = (int)syscall(SYS_open_tree, fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

    if (tree < 0)
        error_set_errno(error, errno, "take a mount for a step");
    return tree;
}
