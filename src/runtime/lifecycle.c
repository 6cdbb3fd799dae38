/* What is done to a container that exists: signals, pausing, limits, figures, its end. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

bool runtime_kill(struct runtime_container *container, int signal, bool all, GError **error)
{
    if (all && container->cgroup)
        return cgroup_kill(container->cgroup, signal, error);
    if (container->pidfd < 0 || syscall(SYS_pidfd_send_signal, container->pidfd, signal, NULL, 0) < 0) {
        int errnum = container->pidfd < 0 ? ESRCH : errno;
        if (errnum == ESRCH)
            return error_set(error, TARE_ERROR_CONFLICT, "container %s is not running", container->id);
        return error_set_errno(error, errnum, "kill container %s", container->id);
    }
    /* A frozen process dies only once it may run. */
    return !container->paused || signal != SIGKILL || runtime_pause(container, false, error);
}

bool runtime_pause(struct runtime_container *container, bool paused, GError **error)
{
    if (!container->cgroup)
        return error_set(error, TARE_ERROR_UNAVAILABLE, "container %s has no cgroup to freeze", container->id);
    if (!container->cgroup->backend->freeze(container->cgroup, paused, error))
        return false;
    container->paused = paused;
    return true;
}

bool runtime_update(struct runtime_container *container, const json_t *resources, GError **error)
{
    struct plan_resources plan;
    plan_resources_init(&plan);
    bool ok = plan_parse_resources(resources, "linux.resources", &plan, error) &&
              container->cgroup->backend->apply(container->cgroup, &plan, plan.devices->len > 0, error);
    plan_resources_clear(&plan);
    return ok;
}

json_t *runtime_stats(struct runtime_container *container, GError **error)
{
    return container->cgroup->backend->stats(container->cgroup, error);
}

json_t *runtime_pids(struct runtime_container *container, GError **error)
{
    g_autoptr(GArray) pids = cgroup_pids(container->cgroup);
    json_t *list = json_array();
    for (guint i = 0; i < pids->len; i++)
        json_array_append_new(list, json_integer(g_array_index(pids, pid_t, i)));
    return list;
}

int runtime_oom_fd(const struct runtime_container *container)
{
    struct cgroup *cgroup = container->cgroup;
    if (cgroup->oom_fd < 0)
        cgroup->oom_fd = cgroup->backend->oom_open(cgroup, NULL);
    return cgroup->oom_fd;
}

/* The fd also wakes for events that kill nobody, and when the cgroup goes: the kernel's count is what decides. */
bool runtime_oom_happened(struct runtime_container *container)
{
    struct cgroup *cgroup = container->cgroup;
    char events[4096];
    if (cgroup->oom_fd >= 0)
        while (read(cgroup->oom_fd, events, sizeof events) > 0)
            ;
    guint64 kills = cgroup->backend->oom_kills(cgroup);
    bool happened = kills > cgroup->oom_seen;
    cgroup->oom_seen = MAX(kills, cgroup->oom_seen);
    return happened;
}

#define END_WAIT_MS 5000

static bool has_ended(const struct runtime_container *container, int timeout_ms)
{
    struct pollfd poll_fd = { .fd = container->pidfd, .events = POLLIN };
    return container->pidfd < 0 || poll(&poll_fd, 1, timeout_ms) > 0;
}

bool runtime_destroy(struct runtime_container *container, GError **error)
{
    bool was_there = container->cgroup != NULL;
    if (!has_ended(container, 0))
        syscall(SYS_pidfd_send_signal, container->pidfd, SIGKILL, NULL, 0);
    if (container->cgroup && container->paused)
        runtime_pause(container, false, NULL);
    /* Before exec it has copies of all our fds: who is told of its end must not find our sockets still open. (A cgroup is removed
     * only when it is empty, which says the same.) */
    if (!container->cgroup)
        has_ended(container, END_WAIT_MS);
    if (container->cgroup) {
        /* Alone in a pid namespace, all die with the first; those of a shared one, and strays in the cgroup, are told one by one.
         */
        g_autoptr(GArray) left = cgroup_pids(container->cgroup);
        if (left->len > 0)
            cgroup_kill(container->cgroup, SIGKILL, NULL);
        if (!cgroup_remove(container->cgroup, error))
            return false;
        cgroup_free(container->cgroup);
        container->cgroup = NULL;
    }
    if (was_there && container->hooks[HOOK_POSTSTOP]->len) {
        g_autoptr(json_t) state = container_state(container, "stopped");
        hooks_run(container->hooks[HOOK_POSTSTOP], state, "poststop", NULL);
    }
    return true;
}
