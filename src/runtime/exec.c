/* A further process in a container. The caller is its parent and its reaper: it is cloned, not double-forked, into the
 * container's pid namespace. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

static bool set_oom_score(pid_t pid, const struct plan_process *process, GError **error)
{
    if (!process->has_oom_score_adj)
        return true;
    g_autofree char *path = g_strdup_printf("/proc/%d/oom_score_adj", (int)pid);
    g_autofree char *score = g_strdup_printf("%d", process->oom_score_adj);
    g_autofd int fd = open(path, O_WRONLY | O_CLOEXEC);
    return (fd >= 0 && write(fd, score, strlen(score)) >= 0) || error_set_errno(error, errno, "write %s", path);
}

static bool execute(struct runtime_container *container, struct launch *launch, int *ret_terminal, GError **error)
{
    struct child *child = &launch->child;
    bool in_cgroups = false;
    int fds[2] = { -1, -1 };
    child->target_pidfd = container->pidfd;
    child->target_namespaces = container->joinable;
    if (container->filter)
        child->filter = g_bytes_get_data(container->filter, &child->filter_length);
    if (!launch_clone(launch, 0, container->cgroup, container->pidfd, child_run_process, &in_cgroups, error) ||
        !set_oom_score(launch->pid, child->process, error) ||
        (!in_cgroups && !container->cgroup->backend->attach(container->cgroup, launch->pid, error)))
        return false;
    channel_send(launch->channel, FRAME_ATTACHED, 0, NULL, NULL, 0);
    if (!launch_await(launch, FRAME_READY, fds, error))
        return false;
    fd_close(fds[0]);
    g_autofd int terminal = fds[1];
    channel_send(launch->channel, FRAME_GO, 0, NULL, NULL, 0);
    struct channel_frame end;
    if (!launch_await(launch, FRAME_EXECUTING, NULL, error))
        return false;
    if (channel_receive(launch->channel, &end, NULL) != -EPIPE)
        return error_set(error, TARE_ERROR_INTERNAL, "unexpected frame from the container's process");
    *ret_terminal = fd_steal(&terminal);
    return true;
}

bool runtime_exec(struct runtime_container *container, const json_t *process, const struct runtime_exec_options *options,
                  struct runtime_process *ret, GError **error)
{
    struct plan_process plan;
    struct launch launch = { .pidfd = -1, .channel = -1, .null = -1, .child.channel = -1 };
    int terminal = -1;
    /* It would be frozen with the others before it can say anything. */
    if (container->paused)
        return error_set(error, TARE_ERROR_CONFLICT, "cannot exec in a paused container");
    plan_process_init(&plan);
    bool ok = plan_parse_process(process, "process", &plan, error) &&
              launch_init(&launch, &plan, container->root_fd, options->stdio, error) &&
              execute(container, &launch, &terminal, error);
    plan_process_clear(&plan);
    if (!ok) {
        launch_abort(&launch);
        return false;
    }
    ret->pid = launch.pid;
    ret->pidfd = fd_steal(&launch.pidfd);
    ret->terminal_fd = terminal;
    launch_clear(&launch);
    return true;
}
