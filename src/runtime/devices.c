/* /dev: its nodes and links, made through directory fds inside the new root, each checked for being the device that it claims to
 * be; and sysctls, written through a procfs of our own. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"
#include "base/root_path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

int device_check(int fd, mode_t type, dev_t number)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    return (st.st_mode & S_IFMT) == type && (type == S_IFIFO || st.st_rdev == number) ? 0 : -ENODEV;
}

/* In a user namespace nodes cannot be made: the host's is bound onto an empty file. */
static int bind_node(int parent, const char *name, const struct plan_device *device)
{
    int file = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (file < 0 && errno != EEXIST)
        return -errno;
    fd_close(file);
    g_autofd int target = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (target < 0)
        return -errno;
    g_autofd int tree = mount_open_tree(AT_FDCWD, device->path, 0);
    int r = tree < 0 ? tree : device_check(tree, device->mode & S_IFMT, device->number);
    return r < 0 ? r : mount_place(tree, target);
}

static int make_node(struct child *child, int parent, const char *name, const struct plan_device *device)
{
    if (child->target_namespaces || child->new_namespaces & CLONE_NEWUSER)
        return bind_node(parent, name, device);
    bool made = mknodat(parent, name, device->mode, device->number) == 0;
    if (!made && errno != EEXIST)
        return errno == EPERM ? bind_node(parent, name, device) : -errno;
    g_autofd int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int r = fd < 0 ? -errno : device_check(fd, device->mode & S_IFMT, device->number);
    if (r < 0 || !made)
        return r;
    /* mknod's mode goes through the umask. AT_EMPTY_PATH on the fd that was checked, so that nothing can slip in between. */
    if (fchmodat(parent, name, device->mode & 07777, 0) < 0)
        return -errno;
    return fchownat(fd, "", device->uid, device->gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static const struct {
    const char *path;
    unsigned major, minor;
} default_nodes[] = { { "/dev/null", 1, 3 }, { "/dev/zero", 1, 5 },   { "/dev/full", 1, 7 },
                      { "/dev/tty", 5, 0 },  { "/dev/random", 1, 8 }, { "/dev/urandom", 1, 9 } };

static const struct {
    const char *name, *target;
} default_links[] = {
    { "fd", "/proc/self/fd" },       { "stdin", "/proc/self/fd/0" }, { "stdout", "/proc/self/fd/1" },
    { "stderr", "/proc/self/fd/2" }, { "ptmx", "pts/ptmx" },
};

/* Someone who binds the host's /dev has brought all nodes, and must not have them changed. */
static bool has_foreign_dev(const struct runtime_plan *plan)
{
    for (guint i = 0; i < plan->mounts->len; i++) {
        const struct plan_mount *mount = &g_array_index(plan->mounts, struct plan_mount, i);
        if (mount->bind && strcmp(mount->destination, "/dev") == 0)
            return true;
    }
    return false;
}

static int make_defaults(struct child *child)
{
    for (size_t i = 0; i < G_N_ELEMENTS(default_nodes); i++) {
        const struct plan_device node = { .path = (char *)default_nodes[i].path,
                                          .mode = S_IFCHR | 0666,
                                          .number = makedev(default_nodes[i].major, default_nodes[i].minor) };
        child->subject = node.path;
        int r = make_node(child, child->dev, node.path + strlen("/dev/"), &node);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(default_links); i++) {
        child->subject = default_links[i].name;
        if (symlinkat(default_links[i].target, child->dev, default_links[i].name) < 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

static int make_listed(struct child *child)
{
    for (guint i = 0; i < child->plan->devices->len; i++) {
        const struct plan_device *device = &g_array_index(child->plan->devices, struct plan_device, i);
        const char *name;
        child->subject = device->path;
        const char *slash = strrchr(device->path, '/');
        char above[4096];
        if ((size_t)(slash - device->path) >= sizeof above)
            return -ENAMETOOLONG;
        memcpy(above, device->path, (size_t)(slash - device->path));
        above[slash - device->path] = '\0';
        fd_close(root_make_directories(child->root, above, 0755, 0, 0));
        g_autofd int parent = root_open_parent(child->root, device->path, &name);
        int r = parent < 0 ? -errno : make_node(child, parent, name, device);
        if (r < 0)
            return r;
    }
    return 0;
}

int step_devices(struct child *child)
{
    mode_t old = umask(0);
    int r = 0;
    child->dev = root_make_directories(child->root, "/dev", 0755, 0, 0);
    if (child->dev < 0)
        r = -errno;
    bool foreign = has_foreign_dev(child->plan);
    if (r == 0 && !foreign)
        r = make_defaults(child);
    if (r == 0 && !foreign)
        r = make_listed(child);
    umask(old);
    if (r < 0)
        return r;
    child->null = openat(child->dev, "null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (child->null >= 0 && device_check(child->null, S_IFCHR, makedev(1, 3)) < 0)
        fd_clear(&child->null);
    child->subject = NULL;
    return 0;
}

int step_sysctls(struct child *child)
{
    const GArray *sysctls = child->plan->sysctls;
    if (sysctls->len == 0)
        return 0;
    /* A specification without /proc still gets its sysctls, through one that nobody else sees. */
    if (child->proc < 0)
        child->proc = mount_fs_new("proc", 0, NULL, 0, "proc");
    if (child->proc < 0)
        return child->proc;
    struct statfs fs;
    if (fstatfs(child->proc, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC)
        return -ENODEV;
    g_autofd int dir = openat(child->proc, "sys", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return -errno;
    for (guint i = 0; i < sysctls->len; i++) {
        const struct plan_sysctl *sysctl = &g_array_index(sysctls, struct plan_sysctl, i);
        child->subject = sysctl->path;
        g_autofd int fd = root_open(dir, sysctl->path, O_WRONLY, 0);
        if (fd < 0 || write(fd, sysctl->value, strlen(sysctl->value)) < 0)
            return -errno;
    }
    child->subject = NULL;
    return 0;
}
