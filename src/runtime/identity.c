/* Who the process is and what it may: limits, user, capabilities, seccomp, labels; in the order that lets each still be set. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"
#include "base/root_path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <grp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Made where missing, entered through an fd that was resolved inside the root: "/proc/self/fd/7" and the like lead nowhere. */
int step_working_directory(struct child *child)
{
    const char *cwd = child->process->cwd;
    child->subject = cwd;
    g_autofd int fd = root_open(child->root, cwd, O_PATH | O_DIRECTORY, 0);
    if (fd < 0 && errno == ENOENT && child->plan)
        fd = root_make_directories(child->root, cwd, 0755, 0, 0);
    if (fd < 0 || fchdir(fd) < 0)
        return -errno;
    /* The kernel's own word for it that we are inside. */
    char where[4096];
    long n = syscall(SYS_getcwd, where, sizeof where);
    if (n < 0 && errno != ERANGE)
        return -errno;
    if (n > 0 && where[0] != '/')
        return -EXDEV;
    child->subject = NULL;
    return 0;
}

int step_limits(struct child *child)
{
    const GArray *rlimits = child->process->rlimits;
    for (guint i = 0; i < rlimits->len; i++) {
        const struct plan_rlimit *rlimit = &g_array_index(rlimits, struct plan_rlimit, i);
        if (setrlimit((__rlimit_resource_t)rlimit->resource, &rlimit->limit) < 0)
            return -errno;
    }
    umask(child->process->has_umask ? child->process->umask : 0022);
    return 0;
}

int step_user(struct child *child)
{
    const guint64 *sets = child->process->capabilities;
    if (child->process->has_capabilities) {
        int r = capabilities_drop_bounding(sets[CAPS_BOUNDING]);
        if (r < 0)
            return r;
    }
    /* Capabilities survive the change of user until step_final_rights has used the last of them. */
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return -errno;
    if (syscall(SYS_setgroups, child->n_groups, child->groups) < 0)
        return -errno;
    if (syscall(SYS_setresgid, child->gid, child->gid, child->gid) < 0 ||
        syscall(SYS_setresuid, child->uid, child->uid, child->uid) < 0)
        return -errno;
    return prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0 ? -errno : 0;
}

/* What we have ourselves: asking for more would be refused, and a container on a poorer host still starts, as under runc. */
static int permitted_now(guint64 *ret)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    *ret = data[0].permitted | (guint64)data[1].permitted << 32;
    return 0;
}

static int set_filter(struct child *child)
{
    struct sock_fprog program = { .len = (unsigned short)(child->filter_length / sizeof(struct sock_filter)),
                                  .filter = (struct sock_filter *)child->filter };
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 ? -errno : 0;
}

/* The filter needs CAP_SYS_ADMIN or no_new_privs: without the latter the capability is held just so long. */
int step_final_rights(struct child *child)
{
    const struct plan_process *process = child->process;
    const guint64 *sets = process->capabilities;
    guint64 have = 0;
    int r = permitted_now(&have);
    if (r < 0)
        return r;
    guint64 permitted = process->has_capabilities ? sets[CAPS_PERMITTED] & have : child->uid == 0 ? have : 0;
    guint64 effective = process->has_capabilities ? sets[CAPS_EFFECTIVE] & permitted : permitted;
    guint64 inheritable = sets[CAPS_INHERITABLE] & have;
    bool filter = child->filter_length > 0;
    if (process->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    guint64 needed = filter && !process->no_new_privileges ? (guint64)1 << CAP_SYS_ADMIN & have : 0;
    r = capabilities_set(effective | needed, permitted | needed, inheritable);
    if (r == 0)
        r = capabilities_set_ambient(sets[CAPS_AMBIENT] & permitted & inheritable);
    if (r == 0 && filter)
        r = set_filter(child);
    /* After the filter: a policy that refuses capset makes this fail closed. */
    return r == 0 && needed ? capabilities_set(effective, permitted, inheritable) : r;
}

static int write_label(int proc, const char *path, const char *prefix, const char *label)
{
    g_autofd int fd = openat(proc, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    char text[4096];
    size_t n = strlen(prefix), m = strlen(label);
    if (n + m >= sizeof text)
        return -ENAMETOOLONG;
    memcpy(text, prefix, n);
    memcpy(text + n, label, m);
    return fd < 0 || write(fd, text, n + m) < 0 ? -errno : 0;
}

/* Through a procfs that we mount for nobody's eyes: the container's /proc could be anything by now. */
int step_labels(struct child *child)
{
    const struct plan_process *process = child->process;
    bool apparmor = child->apparmor && process->apparmor_profile && *process->apparmor_profile;
    bool selinux = child->selinux && process->selinux_label && *process->selinux_label;
    if (!apparmor && !selinux)
        return 0;
    g_autofd int proc = mount_fs_new("proc", 0, NULL, 0, "proc");
    int r = proc < 0 ? proc : 0;
    if (r == 0 && selinux)
        r = write_label(proc, "thread-self/attr/exec", "", process->selinux_label);
    if (r == 0 && apparmor) {
        r = write_label(proc, "thread-self/attr/apparmor/exec", "exec ", process->apparmor_profile);
        if (r == -ENOENT)
            r = write_label(proc, "thread-self/attr/exec", "exec ", process->apparmor_profile);
    }
    return r;
}
