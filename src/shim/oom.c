#include "shim/shim-internal.h"

#include "base/log.h"

#include <errno.h>
#include <sys/epoll.h>

void oom_check(struct shim *shim)
{
    if (!shim->container || !runtime_oom_happened(shim->container))
        return;
    shim->oom_killed = true;
    server_emit(shim, json_pack("{s:s}", "event", "oom"));
}

static void on_oom(void *user, uint32_t events)
{
    oom_check(user);
}

void oom_watch(struct shim *shim)
{
    int fd = runtime_oom_fd(shim->container);
    if (fd < 0)
        return;
    shim->oom_fd_watch = loop_watch_new(shim->loop, fd, EPOLLIN, on_oom, shim);
    if (!shim->oom_fd_watch)
        log_line(LOG_LEVEL_WARNING, "OOM kills are not noticed", "container", shim->config->id, "error", error_errno_text(errno),
                 NULL);
}

void oom_unwatch(struct shim *shim)
{
    g_clear_pointer(&shim->oom_fd_watch, loop_watch_free);
}
