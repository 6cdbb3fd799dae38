/* The terminal is a pty of the container's own devpts: its name is true inside, and its slave is the container's, not the host's.
 */
#include "runtime/runtime-internal.h"

#include "base/fd.h"
#include "base/root_path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <termios.h>
#include <unistd.h>

static int open_master(int root)
{
    struct statfs fs;
    g_autofd int pts = root_open(root, "/dev/pts", O_PATH | O_DIRECTORY, 0);
    if (pts < 0)
        return -errno;
    if (fstatfs(pts, &fs) < 0 || fs.f_type != DEVPTS_SUPER_MAGIC)
        return -ENODEV;
    g_autofd int path = openat(pts, "ptmx", O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int r = path < 0 ? -errno : device_check(path, S_IFCHR, makedev(5, 2));
    if (r < 0)
        return r;
    int master = openat(pts, "ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
    if (master < 0)
        return -errno;
    r = device_check(master, S_IFCHR, makedev(5, 2));
    if (r < 0)
        fd_close(master);
    return r < 0 ? r : master;
}

/* /dev/console is the slave, bound; runc and Docker have it so. */
static int bind_console(struct child *child, int slave)
{
    int file = openat(child->dev, "console", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (file < 0 && errno != EEXIST)
        return -errno;
    fd_close(file);
    g_autofd int target = openat(child->dev, "console", O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (target < 0)
        return -errno;
    g_autofd int tree = mount_open_tree(slave, "", AT_EMPTY_PATH);
    return tree < 0 ? tree : mount_place(tree, target);
}

int step_terminal(struct child *child)
{
    if (!child->process->terminal)
        return 0;
    int unlock = 0;
    child->master = open_master(child->root);
    if (child->master < 0)
        return child->master;
    if (ioctl(child->master, TIOCSPTLCK, &unlock) < 0)
        return -errno;
    int slave = ioctl(child->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        return -errno;
    struct winsize size = { .ws_row = (unsigned short)child->process->rows, .ws_col = (unsigned short)child->process->columns };
    if (size.ws_row && size.ws_col && ioctl(child->master, TIOCSWINSZ, &size) < 0)
        return -errno;
    if (child->plan && child->dev >= 0) {
        int r = bind_console(child, slave);
        if (r < 0)
            return r;
    }
    if (ioctl(slave, TIOCSCTTY, 0) < 0)
        return -errno;
    for (int i = 0; i < 3; i++)
        child->stdio[i] = slave;
    return 0;
}

/* The streams become 0, 1, 2, and the user's, so that /dev/stdout can be opened by one who is not root. */
int step_stdio(struct child *child)
{
    int high[3];
    for (int i = 0; i < 3; i++) {
        high[i] = fcntl(child->stdio[i], F_DUPFD_CLOEXEC, 3);
        if (high[i] < 0)
            return -errno;
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(high[i], i) < 0)
            return -errno;
        fd_close(high[i]);
        struct stat st;
        if (fstat(i, &st) < 0)
            return -errno;
        /* Not the null device, which is everybody's; a file system without owners is no reason to fail. */
        if (st.st_uid == child->uid || (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)))
            continue;
        if (fchown(i, child->uid, (gid_t)-1) < 0 && errno != EINVAL && errno != EPERM && errno != EROFS)
            return -errno;
    }
    return 0;
}
