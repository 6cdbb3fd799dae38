/* /sys/fs/cgroup: the container's own part of each hierarchy. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"
#include "base/root_path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* The host's path of our directory in this hierarchy; malloc'd. */
static char *host_path(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy)
{
    size_t length = strlen(hierarchy->mount_point) + strlen(cgroup->path) + 2;
    char *path = malloc(length);
    if (!path)
        return NULL;
    char *end = stpcpy(path, hierarchy->mount_point);
    *end++ = '/';
    memcpy(end, cgroup->path, strlen(cgroup->path) + 1);
    return path;
}

static int bind_hierarchy(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy, guint64 attributes)
{
    char *path = host_path(cgroup, hierarchy);
    int tree = path ? mount_open_tree(AT_FDCWD, path, 0) : -ENOMEM;
    free(path);
    int r = tree < 0 ? tree : mount_attributes(tree, false, attributes, 0, 0);
    if (r < 0 && tree >= 0)
        fd_close(tree);
    return r < 0 ? r : tree;
}

/* In a cgroup namespace a fresh mount shows our part as its root. "cpu,cpuacct" are two flags of the file system, "name=x" is a
 * value. */
static int fresh_hierarchy(const struct cgroup_hierarchy *hierarchy, guint64 attributes)
{
    if (hierarchy->unified)
        return mount_fs_new("cgroup2", attributes, NULL, 0, "cgroup2");
    struct plan_option options[16];
    size_t n = 0;
    char *copy = strdup(hierarchy->controllers), *state = NULL;
    if (!copy)
        return -ENOMEM;
    for (char *word = strtok_r(copy, ",", &state); word && n < G_N_ELEMENTS(options); word = strtok_r(NULL, ",", &state)) {
        char *equals = strchr(word, '=');
        if (equals)
            *equals = '\0';
        options[n++] = (struct plan_option){ word, equals ? equals + 1 : NULL };
    }
    int fd = mount_fs_new("cgroup", attributes, options, n, "cgroup");
    free(copy);
    return fd;
}

static int open_hierarchy(struct child *child, const struct cgroup_hierarchy *hierarchy, guint64 attributes)
{
    return child->unshare_cgroup ? fresh_hierarchy(hierarchy, attributes) : bind_hierarchy(child->cgroup, hierarchy, attributes);
}

/* v1: a tmpfs with a directory for each hierarchy, named as on the host. */
static int mount_v1(struct child *child, const struct plan_mount *mount)
{
    const struct plan_option options[] = { { (char *)"mode", (char *)"755" }, { (char *)"context", child->plan->mount_label } };
    size_t n_options = child->selinux && child->plan->mount_label ? 2 : 1;
    const struct cgroup *cgroup = child->cgroup;
    g_autofd int target = mount_target(child->root, mount->destination, true);
    g_autofd int tmpfs =
        target < 0 ? target : mount_fs_new("tmpfs", mount->set & ~(guint64)MOUNT_ATTR_RDONLY, options, n_options, "tmpfs");
    int r = tmpfs < 0 ? tmpfs : mount_place(tmpfs, target);
    for (size_t i = 0; r == 0 && i < cgroup->n_hierarchies; i++) {
        const struct cgroup_hierarchy *each = &cgroup->hierarchies[i];
        if (each->fd < 0 || each->unified)
            continue;
        g_autofd int tree = open_hierarchy(child, each, mount->set);
        if (tree < 0)
            return tree;
        if (mkdirat(tmpfs, each->name, 0755) < 0)
            return -errno;
        g_autofd int point = openat(tmpfs, each->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        r = point < 0 ? -errno : mount_place(tree, point);
    }
    if (r == 0 && mount->set & MOUNT_ATTR_RDONLY)
        r = mount_attributes(tmpfs, false, MOUNT_ATTR_RDONLY, 0, 0);
    return r;
}

int mount_cgroup(struct child *child, const struct plan_mount *mount)
{
    const struct cgroup *cgroup = child->cgroup;
    /* A fresh mount shows the namespace, and that is only right once we are in our cgroup. */
    int r = child->unshare_cgroup ? step_await_cgroup(child) : 0;
    if (r < 0 || !cgroup)
        return r;
    if (cgroup->backend == &cgroup_v1_backend && strcmp(mount->type, "cgroup2") != 0)
        return mount_v1(child, mount);
    for (size_t i = 0; i < cgroup->n_hierarchies; i++) {
        if (!cgroup->hierarchies[i].unified)
            continue;
        g_autofd int tree = open_hierarchy(child, &cgroup->hierarchies[i], mount->set);
        g_autofd int target = tree < 0 ? tree : mount_target(child->root, mount->destination, true);
        return target < 0 ? target : mount_place(tree, target);
    }
    return -ENODEV;
}
