/* The child's namespaces: existing ones joined, new ones named, and waiting for what only the parent can do. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIGNALS 64 /* of the kernel: 8 bytes of a set */

/* A supervisor blocks and ignores signals; the container's process starts with none of that. */
int step_reset_signals(struct child *child)
{
    static const char usual[64]; /* the kernel's struct sigaction for SIG_DFL, of any machine */
    sigset_t none;
    /* clone has put back what was handled (CLONE_CLEAR_SIGHAND); what is ignored would stay so: also the C library's own two
     * signals, which its posix_spawn leaves ignored and its sigaction does not touch. */
    for (int i = 1; i <= SIGNALS; i++)
        if (i != SIGKILL && i != SIGSTOP)
            syscall(SYS_rt_sigaction, i, usual, NULL, SIGNALS / 8);
    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0 || setsid() < 0)
        return -errno;
    /* While we can be traced from inside a joined pid namespace, our memory and fds are none of its business; execve makes it
     * dumpable again. */
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

int step_await_mapping(struct child *child)
{
    if (!(child->new_namespaces & CLONE_NEWUSER))
        return 0;
    int r = channel_expect(child->channel, FRAME_MAPPED);
    if (r < 0)
        return r;
    if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        return -errno;
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

int step_join_namespaces(struct child *child)
{
    for (size_t i = 0; i < child->n_namespaces; i++)
        if (setns(child->namespaces[i], child->namespace_flags[i]) < 0)
            return -errno;
    if (child->netns >= 0 && setns(child->netns, CLONE_NEWNET) < 0)
        return -errno;
    return 0;
}

/* The parent writes us into the cgroups while we mount: on v1 that may take a grace period of the kernel, which so costs nothing.
 */
/* Who writes another process's number to cgroup.procs waits for a grace period of RCU, 7 to 20 ms, when nobody did so in the last
 * second. A thread that moves itself does not, since it cannot fork or exit meanwhile; and it is the only one here. */
int step_enter_cgroups(struct child *child)
{
    for (size_t i = 0; child->enters_cgroups && i < child->cgroup->n_hierarchies; i++) {
        const struct cgroup_hierarchy *each = &child->cgroup->hierarchies[i];
        if (each->unified || each->fd < 0)
            continue;
        child->subject = each->name;
        int fd = openat(each->fd, "tasks", O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
            return -errno;
        int r = write(fd, "0", 1) == 1 ? 0 : -errno;
        fd_close(fd);
        if (r < 0)
            return r;
    }
    child->subject = NULL;
    return 0;
}

int step_await_cgroup(struct child *child)
{
    if (child->attached)
        return 0;
    struct channel_frame frame;
    int r = channel_receive(child->channel, &frame, NULL);
    if (r < 0 || frame.type != FRAME_ATTACHED)
        return r < 0 ? r : -EPROTO;
    child->state = strdup(channel_string(&frame, 0));
    child->attached = true;
    /* Only now, for the new namespace's root is where we are. */
    return child->unshare_cgroup && unshare(CLONE_NEWCGROUP) < 0 ? -errno : 0;
}

int step_host_names(struct child *child)
{
    const char *host = child->plan->hostname, *domain = child->plan->domainname;
    if (host && sethostname(host, strlen(host)) < 0)
        return -errno;
    if (domain && setdomainname(domain, strlen(domain)) < 0)
        return -errno;
    return 0;
}

/* All namespaces of the container's init at once: the kernel joins all or none. */
int step_join_target(struct child *child)
{
    if (setns(child->target_pidfd, child->target_namespaces) < 0)
        return -errno;
    if (child->target_namespaces & CLONE_NEWUSER && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
        return -errno;
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return -errno;
    child->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return child->root < 0 ? -errno : 0;
}
