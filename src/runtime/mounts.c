/* Mounts by file descriptor: trees are made detached and then moved onto a mount point that was opened inside the new root. No
 * path of the container is ever handed to mount(2). */
#include "runtime/runtime-internal.h"

#include "base/fd.h"
#include "base/root_path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

int mount_open_tree(int dir, const char *path, unsigned flags)
{
    int fd = (int)syscall(SYS_open_tree, dir, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
    return fd < 0 ? -errno : fd;
}

int mount_place(int tree, int target)
{
    unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    return syscall(SYS_move_mount, tree, "", target, "", flags) < 0 ? -errno : 0;
}

int mount_attributes(int fd, bool recursive, guint64 set, guint64 clear, guint64 propagation)
{
    struct mount_attr attr = { .attr_set = set, .attr_clr = clear, .propagation = propagation };
    unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
    return syscall(SYS_mount_setattr, fd, "", flags, &attr, sizeof attr) < 0 ? -errno : 0;
}

int mount_fs_new(const char *type, guint64 attributes, const struct plan_option *options, size_t n_options, const char *source)
{
    g_autofd int fs = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
    if (fs < 0)
        return -errno;
    if (source && *source && syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", source, 0) < 0)
        return -errno;
    for (size_t i = 0; i < n_options; i++) {
        unsigned command = options[i].value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;
        if (syscall(SYS_fsconfig, fs, command, options[i].key, options[i].value, 0) < 0)
            return -errno;
    }
    if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -errno;
    int mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
    return mount < 0 ? -errno : mount;
}

/* An empty regular file for a bind mount to sit on. */
static int make_file(int root, const char *path)
{
    const char *name;
    g_autofd int parent = root_open_parent(root, path, &name);
    if (parent < 0 && errno == ENOENT) {
        const char *slash = strrchr(path, '/');
        char *above = strndup(path, (size_t)(slash - path));
        if (!above)
            return -ENOMEM;
        fd_close(root_make_directories(root, above, 0755, 0, 0));
        free(above);
        parent = root_open_parent(root, path, &name);
    }
    if (parent < 0)
        return -errno;
    int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    fd_close(fd);
    fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int mount_target(int root, const char *path, bool directory)
{
    int fd = root_open(root, path, O_PATH, 0);
    if (fd < 0 && errno != ENOENT)
        return -errno;
    if (fd < 0 && directory) {
        fd = root_make_directories(root, path, 0755, 0, 0);
        return fd < 0 ? -errno : fd;
    }
    if (fd < 0)
        return make_file(root, path);
    struct stat st;
    int r = fstat(fd, &st) < 0 ? -errno : S_ISDIR(st.st_mode) != directory ? -ENOTDIR : 0;
    if (r < 0) {
        fd_close(fd);
        return r;
    }
    return fd;
}

/*
 * An engine in a chroot gives its containers a mount namespace whose root is not the chroot but the machine's. A pivot from the
 * chroot would leave that root in place, and whoever enters the namespace later, an exec, would come out there. So the
 * namespace's own root is what the container's goes onto, while absolute paths go on meaning the engine's.
 */
int step_private_mounts(struct child *child)
{
    g_autofd int engine_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    g_autofd int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (engine_root < 0 || self < 0 || setns(self, CLONE_NEWNS) < 0)
        return -errno;
    child->namespace_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (child->namespace_root < 0)
        return -errno;
    guint64 propagation = child->plan->root_propagation ? child->plan->root_propagation : MS_SLAVE | MS_REC;
    if (mount(NULL, "/", NULL, propagation, NULL) < 0)
        return -errno;
    /* Whatever was asked for below, the mount that ours goes onto must not pass it on to the host. */
    if (mount(NULL, "/", NULL, MS_PRIVATE, NULL) < 0)
        return -errno;
    return fchdir(engine_root) < 0 || chroot(".") < 0 ? -errno : 0;
}

/* The root goes on top of the namespace's: absolute paths still mean the host until pivot_root, and no directory of the host is
 * needed. */
int step_attach_root(struct child *child)
{
    if (child->root < 0) {
        child->subject = child->plan->root_path;
        child->root = mount_open_tree(AT_FDCWD, child->plan->root_path, AT_RECURSIVE);
        if (child->root < 0)
            return child->root;
        int r = mount_attributes(child->root, true, 0, 0, MS_PRIVATE);
        if (r < 0)
            return r;
        child->subject = NULL;
    }
    unsigned int flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    return syscall(SYS_move_mount, child->root, "", child->namespace_root, "", flags) < 0 ? -errno : 0;
}

/* proc and sysfs where a link points are proc and sysfs where programs do not look for them. */
static int refuse_link(int root, const char *path)
{
    g_autofd int fd = root_open(root, path, O_PATH | O_NOFOLLOW, 0);
    struct stat st;
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    return fstat(fd, &st) < 0 ? -errno : S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static int open_bind(struct child *child, const struct plan_mount *mount, bool *ret_directory)
{
    int tree = mount_open_tree(AT_FDCWD, mount->source, mount->recursive ? AT_RECURSIVE : 0);
    struct stat st;
    if (tree < 0)
        return tree;
    int r = fstat(tree, &st) < 0 ? -errno : 0;
    *ret_directory = S_ISDIR(st.st_mode);
    if (r == 0 && (mount->set || mount->clear))
        r = mount_attributes(tree, false, mount->set, mount->clear, 0);
    if (r < 0) {
        fd_close(tree);
        return r;
    }
    return tree;
}

/* A type that may be mounted with a context= option where SELinux runs. */
static bool takes_label(const char *type)
{
    return strcmp(type, "tmpfs") == 0 || strcmp(type, "devpts") == 0 || strcmp(type, "ramfs") == 0;
}

/* The namespace has made its mqueue already, without a context, and the option would have to agree with that: its root is
 * labelled instead, by the magic link, for the mount's fd is none to write through. */
static int label_root(struct child *child, int mount)
{
    const char *label = child->plan->mount_label;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", mount);
    if (!child->selinux || !label)
        return 0;
    return setxattr(path, "security.selinux", label, strlen(label) + 1, 0) < 0 && errno != EOPNOTSUPP ? -errno : 0;
}

static int open_file_system(struct child *child, const struct plan_mount *mount)
{
    struct plan_option options[64];
    size_t n = 0;
    if (child->selinux && child->plan->mount_label && takes_label(mount->type))
        options[n++] = (struct plan_option){ (char *)"context", child->plan->mount_label };
    for (guint i = 0; i < mount->options->len; i++) {
        if (n == G_N_ELEMENTS(options))
            return -E2BIG;
        options[n++] = g_array_index(mount->options, struct plan_option, i);
    }
    int fd = mount_fs_new(mount->type, mount->set, options, n, mount->source);
    /* sysfs shows a network namespace and wants one that is ours; in a user namespace with a foreign one the host's is bound. */
    if (fd == -EPERM && strcmp(mount->type, "sysfs") == 0) {
        fd = mount_open_tree(AT_FDCWD, "/sys", AT_RECURSIVE);
        int r = fd < 0 ? fd : mount_attributes(fd, true, mount->set | MOUNT_ATTR_RDONLY, 0, 0);
        if (r < 0 && fd >= 0) {
            fd_close(fd);
            return r;
        }
    }
    int r = fd >= 0 && strcmp(mount->type, "mqueue") == 0 ? label_root(child, fd) : 0;
    if (r < 0)
        fd_close(fd);
    return r < 0 ? r : fd;
}

static bool is_proc(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

/* Over these few a file may stand: runc allows them, and lxcfs has them. */
static bool may_be_covered(const char *path)
{
    static const char *const files[] = { "/proc/cpuinfo",
                                         "/proc/diskstats",
                                         "/proc/meminfo",
                                         "/proc/stat",
                                         "/proc/swaps",
                                         "/proc/uptime",
                                         "/proc/loadavg",
                                         "/proc/slabinfo",
                                         "/proc/net/dev",
                                         "/proc/sys/kernel/ns_last_pid",
                                         "/proc/sys/crypto/fips_enabled" };
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
        if (strcmp(path, files[i]) == 0)
            return true;
    return false;
}

/* What a container believes of its processes, and what the kernel is told by files of /proc, must not be somebody's files.
 * target: the mount point, where links have led; -1: not yet known. */
static int guard_proc(const struct plan_mount *mount, int tree, int target)
{
    if (strcmp(mount->destination, "/proc") == 0)
        return is_proc(tree) ? 0 : -REFUSED_OVER_PROC;
    bool inside = target < 0 ? strncmp(mount->destination, "/proc/", strlen("/proc/")) == 0 : is_proc(target);
    return inside && !may_be_covered(mount->destination) ? -REFUSED_IN_PROC : 0;
}

static int place_mount(struct child *child, const struct plan_mount *mount, int tree, bool directory)
{
    if (!mount->bind && (strcmp(mount->type, "proc") == 0 || strcmp(mount->type, "sysfs") == 0)) {
        int r = refuse_link(child->root, mount->destination);
        if (r < 0)
            return r;
    }
    int r = guard_proc(mount, tree, -1);
    if (r < 0)
        return r;
    g_autofd int target = mount_target(child->root, mount->destination, directory);
    if (target < 0)
        return target;
    r = guard_proc(mount, tree, target);
    if (r == 0)
        r = mount_place(tree, target);
    if (r == 0 && (mount->recursive_set || mount->recursive_clear))
        r = mount_attributes(tree, true, mount->recursive_set, mount->recursive_clear, 0);
    if (r == 0 && mount->propagation)
        r = mount_attributes(tree, mount->propagation_recursive, 0, 0, mount->propagation);
    return r;
}

static int make_mount(struct child *child, const struct plan_mount *mount)
{
    bool directory = true;
    child->subject = mount->source && *mount->source ? mount->source : mount->type;
    child->target = mount->destination;
    if (!mount->bind && (strcmp(mount->type, "cgroup") == 0 || strcmp(mount->type, "cgroup2") == 0))
        return mount_cgroup(child, mount);
    g_autofd int tree = mount->bind ? open_bind(child, mount, &directory) : open_file_system(child, mount);
    if (tree < 0)
        return tree;
    int r = place_mount(child, mount, tree, directory);
    if (r == 0 && !mount->bind && strcmp(mount->type, "proc") == 0 && strcmp(mount->destination, "/proc") == 0)
        child->proc = fd_steal(&tree);
    return r;
}

int step_mounts(struct child *child)
{
    for (guint i = 0; i < child->plan->mounts->len; i++) {
        int r = make_mount(child, &g_array_index(child->plan->mounts, struct plan_mount, i));
        if (r < 0)
            return r;
    }
    child->subject = child->target = NULL;
    if (!child->init_path)
        return 0;
    /* --init: our own static init, read-only, where Docker puts its. */
    child->subject = child->init_path;
    child->target = "/sbin/docker-init";
    g_autofd int tree = mount_open_tree(AT_FDCWD, child->init_path, 0);
    int r = tree < 0 ? tree : mount_attributes(tree, false, MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOEXEC, 0);
    g_autofd int target = r < 0 ? r : mount_target(child->root, child->target, false);
    r = target < 0 ? target : mount_place(tree, target);
    if (r == 0)
        child->subject = child->target = NULL;
    return r;
}

/* A mask must not be the host's null device, whose mode the container's root could change: it is the container's own node. */
static int mask_file(struct child *child, int target)
{
    if (child->null < 0)
        return -ENODEV;
    g_autofd int tree = mount_open_tree(child->null, "", AT_EMPTY_PATH);
    return tree < 0 ? tree : mount_place(tree, target);
}

int step_masked_paths(struct child *child)
{
    const struct plan_option label = { (char *)"context", child->plan->mount_label };
    for (char **path = child->plan->masked; path && *path; path++) {
        child->subject = *path;
        g_autofd int target = root_open(child->root, *path, O_PATH, 0);
        struct stat st;
        if (target < 0 && (errno == ENOENT || errno == ENOTDIR))
            continue;
        if (target < 0 || fstat(target, &st) < 0)
            return -errno;
        int r;
        if (S_ISDIR(st.st_mode)) {
            g_autofd int tree = mount_fs_new("tmpfs", MOUNT_ATTR_RDONLY, &label, child->selinux && label.value ? 1 : 0, "tmpfs");
            r = tree < 0 ? tree : mount_place(tree, target);
        } else {
            r = mask_file(child, target);
        }
        if (r < 0)
            return r;
    }
    child->subject = NULL;
    return 0;
}

int step_readonly_paths(struct child *child)
{
    for (char **path = child->plan->readonly; path && *path; path++) {
        child->subject = *path;
        g_autofd int target = root_open(child->root, *path, O_PATH, 0);
        if (target < 0 && (errno == ENOENT || errno == ENOTDIR))
            continue;
        if (target < 0)
            return -errno;
        g_autofd int tree = mount_open_tree(target, "", AT_EMPTY_PATH | AT_RECURSIVE);
        int r = tree < 0 ? tree : mount_attributes(tree, true, MOUNT_ATTR_RDONLY, 0, 0);
        r = r < 0 ? r : mount_place(tree, target);
        if (r < 0)
            return r;
    }
    child->subject = NULL;
    return 0;
}

int step_readonly_root(struct child *child)
{
    return child->plan->root_readonly ? mount_attributes(child->root, false, MOUNT_ATTR_RDONLY, 0, 0) : 0;
}

int step_pivot(struct child *child)
{
    if (fchdir(child->namespace_root) < 0 || chroot(".") < 0)
        return -errno;
    if (fchdir(child->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return -errno;
    /* The old root now lies on top of the new one. It goes without the host noticing. */
    if (mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL) < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return -errno;
    guint64 propagation = child->plan->root_propagation;
    return propagation && mount(NULL, "/", NULL, propagation, NULL) < 0 ? -errno : 0;
}
