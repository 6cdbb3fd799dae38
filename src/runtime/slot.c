/* Cgroups that are ready before anybody waits for them, with a process parked in them.
 *
 * On cgroup v1 a process enters each hierarchy by a write, and the first such write after a second of rest waits for an RCU grace
 * period: 7 to 20 ms. The parked process has paid for that in advance. It shares its creator's memory and file descriptors, and
 * does one thing when it is told to: it makes the container's process, as a child of its creator. That one is born where the
 * parked one stands. On v2 CLONE_INTO_CGROUP does the same without any of this. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Also the stack on which the container's process works until it executes. */
#define STACK_SIZE (256u << 10)
#define LIVELINESS_MS 200

enum { PARKED, GO, DONE };

struct parked {
    _Atomic guint32 state;
    pid_t pid;
    char *stack;
    struct clone_args args;
    void (*run)(void *user);
    void *user;
    long result; /* of clone3; negative errno */
};

struct runtime_slot {
    struct cgroup *cgroup;
};

/* Memory is shared, errno too: nothing here may fail or be interrupted while the other side runs. All signals are blocked. */
static int parked_main(void *data)
{
    struct parked *parked = data;
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    while (atomic_load(&parked->state) == PARKED)
        syscall(SYS_futex, &parked->state, FUTEX_WAIT_PRIVATE, PARKED, NULL, NULL, 0);
    long result = syscall(SYS_clone3, &parked->args, sizeof parked->args);
    if (result == 0)
        parked->run(parked->user);
    parked->result = result < 0 ? -errno : result;
    atomic_store(&parked->state, DONE);
    syscall(SYS_futex, &parked->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return 0;
}

static struct parked *parked_new(GError **error)
{
    struct parked *parked = g_new0(struct parked, 1);
    sigset_t all, before;
    sigfillset(&all);
    parked->stack =
        mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (parked->stack == MAP_FAILED) {
        error_set_errno(error, errno, "stack of a parked process");
        g_free(parked);
        return NULL;
    }
    sigprocmask(SIG_BLOCK, &all, &before);
    parked->pid = clone(parked_main, parked->stack + STACK_SIZE, CLONE_VM | CLONE_FILES | SIGCHLD, parked);
    int saved = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (parked->pid > 0)
        return parked;
    error_set_errno(error, saved, "clone");
    munmap(parked->stack, STACK_SIZE);
    g_free(parked);
    return NULL;
}

static void parked_free(struct parked *parked)
{
    siginfo_t info;
    if (atomic_load(&parked->state) != DONE)
        kill(parked->pid, SIGKILL);
    while (waitid(P_PID, (id_t)parked->pid, &info, WEXITED) < 0 && errno == EINTR)
        ;
    munmap(parked->stack, STACK_SIZE);
    g_free(parked);
}

static bool has_died(const struct parked *parked)
{
    siginfo_t info = { 0 };
    return waitid(P_PID, (id_t)parked->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != 0;
}

long cgroup_parked_clone(struct cgroup *cgroup, const struct clone_args *args, void (*run)(void *user), void *user)
{
    const struct timespec patience = { .tv_nsec = LIVELINESS_MS * 1000000L };
    struct parked *parked = g_steal_pointer(&cgroup->parked);
    if (!parked)
        return -ESRCH;
    parked->args = *args;
    /* Our child, not its; its exit signal is that of the parked process. */
    parked->args.flags |= CLONE_PARENT;
    parked->args.exit_signal = 0;
    parked->run = run;
    parked->user = user;
    atomic_store(&parked->state, GO);
    syscall(SYS_futex, &parked->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    while (atomic_load(&parked->state) == GO &&
           !(syscall(SYS_futex, &parked->state, FUTEX_WAIT_PRIVATE, GO, &patience, NULL, 0) < 0 && errno == ETIMEDOUT &&
             has_died(parked)))
        ;
    long result = atomic_load(&parked->state) == DONE ? parked->result : -ESRCH;
    /* It must be gone before the container has anything to be killed for. */
    parked_free(parked);
    return result;
}

void cgroup_parked_discard(struct cgroup *cgroup)
{
    struct parked *parked = g_steal_pointer(&cgroup->parked);
    if (parked)
        parked_free(parked);
}

/* The fds of the directories go where the caller's own numbers are not in their way. */
static bool lift_fds(struct cgroup *cgroup, int first_fd, GError **error)
{
    for (size_t i = 0; i < cgroup->n_hierarchies; i++) {
        struct cgroup_hierarchy *each = &cgroup->hierarchies[i];
        if (each->fd < 0)
            continue;
        int lifted = fcntl(each->fd, F_DUPFD_CLOEXEC, first_fd);
        if (lifted < 0)
            return error_set_errno(error, errno, "duplicate fd");
        fd_close(each->fd);
        each->fd = lifted;
    }
    return true;
}

static bool prepare(struct cgroup *cgroup, int first_fd, GError **error)
{
    if (!cgroup->backend->create(cgroup, error) || !lift_fds(cgroup, first_fd, error))
        return false;
    cgroup->parked = parked_new(error);
    return cgroup->parked && cgroup->backend->attach(cgroup, cgroup->parked->pid, true, error);
}

bool runtime_slot_new(const char *cgroup_parent, int first_fd, struct runtime_slot **ret, GError **error)
{
    struct cgroup *cgroup = NULL;
    g_autofree char *path = g_strdup_printf("%s/" RUNTIME_SLOT_PREFIX "%d", cgroup_parent, (int)getpid());
    if (!cgroup_new(path, &cgroup, error))
        return false;
    if (cgroup->backend != &cgroup_v1_backend) {
        cgroup_free(cgroup);
        return error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "nothing to make ready on cgroup v2");
    }
    cgroup->without_unified = true; /* a directory there cannot be renamed */
    if (!prepare(cgroup, first_fd, error)) {
        cgroup_parked_discard(cgroup);
        cgroup_remove(cgroup, NULL);
        cgroup_free(cgroup);
        return false;
    }
    *ret = g_new0(struct runtime_slot, 1);
    (*ret)->cgroup = cgroup;
    return true;
}

void runtime_slot_free(struct runtime_slot *slot)
{
    if (!slot)
        return;
    if (slot->cgroup) {
        cgroup_parked_discard(slot->cgroup);
        cgroup_remove(slot->cgroup, NULL);
        cgroup_free(slot->cgroup);
    }
    g_free(slot);
}

static bool rename_all(struct cgroup *cgroup, const char *parent, const char *name)
{
    g_autofree char *old = g_path_get_basename(cgroup->path);
    for (size_t i = 0; i < cgroup->n_hierarchies; i++) {
        if (cgroup->hierarchies[i].unified)
            continue;
        g_autofree char *above = g_build_filename(cgroup->hierarchies[i].mount_point, parent, NULL);
        g_autofd int dir = open(above, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0 || renameat(dir, old, dir, name) < 0)
            return false;
    }
    return true;
}

struct cgroup *runtime_slot_take(struct runtime_slot *slot, const char *path)
{
    g_autofree char *parent = g_path_get_dirname(path), *name = g_path_get_basename(path);
    g_autofree char *own = slot && slot->cgroup ? g_path_get_dirname(slot->cgroup->path) : NULL;
    if (g_strcmp0(parent, own) != 0 || !rename_all(slot->cgroup, parent, name))
        return NULL;
    struct cgroup *cgroup = g_steal_pointer(&slot->cgroup);
    cgroup->without_unified = false;
    g_free(cgroup->path);
    cgroup->path = g_strdup(path);
    return cgroup;
}
