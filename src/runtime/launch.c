/* The parent's half of a clone: what the child will need is made first, then it is cloned, listened to, and on an error killed
 * and reaped. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

static bool resolve_user(struct launch *launch, const struct plan_process *process, int root_fd, GError **error)
{
    struct runtime_user *user = &launch->user;
    if (process->username || process->additional_groups) {
        g_autofree char *number = g_strdup_printf("%u:%u", process->uid, process->gid);
        if (!runtime_resolve_user(root_fd, process->username ? process->username : number,
                                  (const char *const *)process->additional_groups, user, error))
            return false;
        /* As Docker does, the primary group is among the supplementary ones, too. */
        if (process->username)
            g_array_prepend_val(user->groups, user->gid);
    } else {
        /* A root without accounts has no homes; and one whose files are broken still runs by number. */
        g_autofree char *number = g_strdup_printf("%u", process->uid);
        if (!runtime_resolve_user(root_fd, number, NULL, user, NULL))
            *user = (struct runtime_user){ .home = g_strdup("/"), .groups = g_array_new(FALSE, FALSE, sizeof(gid_t)) };
        g_array_set_size(user->groups, 0);
        user->uid = process->uid;
        user->gid = process->gid;
    }
    g_array_append_vals(user->groups, process->groups->data, process->groups->len);
    launch->child.uid = user->uid;
    launch->child.gid = user->gid;
    launch->child.groups = (const gid_t *)user->groups->data;
    launch->child.n_groups = user->groups->len;
    return true;
}

static char **environment_with_home(char **env, const char *home)
{
    GPtrArray *vector = g_ptr_array_new();
    bool has_home = false;
    for (char **each = env; each && *each; each++) {
        has_home |= g_str_has_prefix(*each, "HOME=");
        g_ptr_array_add(vector, g_strdup(*each));
    }
    if (!has_home)
        g_ptr_array_add(vector, g_strconcat("HOME=", home, NULL));
    g_ptr_array_add(vector, NULL);
    return (char **)g_ptr_array_free(vector, FALSE);
}

bool launch_init(struct launch *launch, const struct plan_process *process, int root_fd, const int stdio[3], GError **error)
{
    int ends[2];
    *launch = (struct launch){ .pidfd = -1, .channel = -1, .null = -1 };
    struct child *child = &launch->child;
    *child = (struct child){ .process = process,
                             .root = -1,
                             .namespace_root = -1,
                             .netns = -1,
                             .target_pidfd = -1,
                             .master = -1,
                             .dev = -1,
                             .proc = -1,
                             .null = -1,
                             .channel = -1,
                             .listener = -1 };
    if (!resolve_user(launch, process, root_fd, error))
        return false;
    launch->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (launch->null < 0)
        return error_set_errno(error, errno, "open /dev/null");
    for (int i = 0; i < 3; i++)
        child->stdio[i] = stdio[i] >= 0 ? stdio[i] : launch->null;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return error_set_errno(error, errno, "socketpair");
    launch->channel = ends[0];
    child->channel = ends[1];
    launch->environment = environment_with_home(process->env, launch->user.home);
    launch->arguments = g_strdupv(process->args);
    child->environment = (const char *const *)launch->environment;
    child->arguments = (const char *const *)launch->arguments;
    child->selinux = access("/sys/fs/selinux/enforce", F_OK) == 0;
    child->apparmor = access("/sys/kernel/security/apparmor/profiles", F_OK) == 0;
    return true;
}

static long clone_child(int flags, int cgroup_fd, int *ret_pidfd)
{
    struct clone_args args = {
        .flags = (guint64)(unsigned)flags | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | (cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (guint64)(guintptr)ret_pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = cgroup_fd >= 0 ? (guint64)cgroup_fd : 0,
    };
    return syscall(SYS_clone3, &args, sizeof args);
}

static int unified_fd(const struct cgroup *cgroup)
{
    for (size_t i = 0; cgroup && i < cgroup->n_hierarchies; i++)
        if (cgroup->hierarchies[i].unified)
            return cgroup->hierarchies[i].fd;
    return -1;
}

bool launch_clone(struct launch *launch, int flags, const struct cgroup *cgroup, int pid_namespace, void (*run)(struct child *),
                  bool *ret_in_cgroups, GError **error)
{
    g_autofd int own = -1, own_network = -1;
    int cgroup_fd = unified_fd(cgroup);
    bool has_unified = cgroup_fd >= 0, v1 = cgroup && cgroup->backend == &cgroup_v1_backend;
    if (pid_namespace >= 0) {
        own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
        if (own < 0 || setns(pid_namespace, CLONE_NEWPID) < 0)
            return error_set_errno(error, errno, "join the pid namespace");
    }
    /* A network namespace that belongs to the host cannot be joined from within a new user namespace: the child is born in it. */
    if (flags & CLONE_NEWUSER && launch->child.netns >= 0) {
        own_network = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (own_network < 0 || setns(launch->child.netns, CLONE_NEWNET) < 0)
            return error_set_errno(error, errno, "join the network namespace");
        launch->child.netns = -1;
    }
    launch->child.cgroup = cgroup;
    /* In a user namespace of its own it has no right to. */
    launch->child.enters_cgroups = v1 && !(flags & CLONE_NEWUSER);
    /* From its first moment the child may not be traced from within a pid namespace that it shares with others. */
    int dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    long pid = clone_child(flags, cgroup_fd, &launch->pidfd);
    if (pid < 0 && cgroup_fd >= 0) {
        cgroup_fd = -1;
        pid = clone_child(flags, -1, &launch->pidfd);
    }
    if (pid == 0) {
        close(launch->channel);
        run(&launch->child);
    }
    int saved = errno;
    if (dumpable == 1)
        prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    if (own >= 0 && setns(own, CLONE_NEWPID) < 0)
        g_error("cannot return to our own pid namespace: %s",
                g_strerror(errno)); /* every later child would be born in a container */
    if (own_network >= 0 && setns(own_network, CLONE_NEWNET) < 0)
        g_error("cannot return to our own network namespace: %s", g_strerror(errno));
    if (pid < 0)
        return error_set_errno(error, saved, "clone");
    launch->pid = (pid_t)pid;
    fd_clear(&launch->child.channel);
    *ret_in_cgroups = (cgroup_fd >= 0 || !has_unified) && (launch->child.enters_cgroups || !v1);
    return true;
}

bool launch_await(struct launch *launch, enum frame_type type, int fds[2], GError **error)
{
    struct channel_frame frame;
    int r = channel_receive(launch->channel, &frame, fds);
    if (r == -EPIPE)
        return error_set(error, TARE_ERROR_INTERNAL, "the container's process ended unexpectedly");
    if (r < 0)
        return error_set_errno(error, -r, "read from the container's process");
    if (frame.type == FRAME_FAILED || frame.type == FRAME_EXEC_FAILED)
        return channel_failure(&frame, launch->arguments[0], error);
    if (frame.type != type)
        return error_set(error, TARE_ERROR_INTERNAL, "unexpected frame %u from the container's process", frame.type);
    return true;
}

void launch_abort(struct launch *launch)
{
    if (launch->pid > 0) {
        siginfo_t info;
        kill(launch->pid, SIGKILL); /* ours and not reaped: the number is still its */
        while (waitid(P_PID, (id_t)launch->pid, &info, WEXITED) < 0 && errno == EINTR)
            ;
    }
    fd_clear(&launch->pidfd);
    launch_clear(launch);
}

void launch_clear(struct launch *launch)
{
    fd_clear(&launch->channel);
    fd_clear(&launch->child.channel);
    fd_clear(&launch->null);
    g_clear_pointer(&launch->environment, g_strfreev);
    g_clear_pointer(&launch->arguments, g_strfreev);
    runtime_user_clear(&launch->user);
}
