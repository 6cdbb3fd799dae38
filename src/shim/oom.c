#include "shim/shim-internal.h"

#include "base/log.h"

#include <errno.h>
#include <sys/epoll.h>

/* v1 tells that memory is out before it has killed, and not again: the count is looked at until it has grown. */
enum { LOOK_AGAIN_MS = 20, LOOKS = 100 };

static bool look(struct shim *shim)
{
    if (!shim->container || !runtime_oom_happened(shim->container))
        return false;
    shim->oom_killed = true;
    server_emit(shim, json_pack("{s:s}", "event", "oom"));
    return true;
}

void oom_check(struct shim *shim)
{
    look(shim);
}

static void look_again(void *user)
{
    struct shim *shim = user;
    shim->oom_timer = NULL;
    if (!look(shim) && --shim->oom_looks > 0)
        shim->oom_timer = loop_timer_new(shim->loop, LOOK_AGAIN_MS, look_again, shim);
}

static void on_oom(void *user, uint32_t events)
{
    struct shim *shim = user;
    g_clear_pointer(&shim->oom_timer, loop_timer_free);
    shim->oom_looks = LOOKS;
    if (!look(shim))
        shim->oom_timer = loop_timer_new(shim->loop, LOOK_AGAIN_MS, look_again, shim);
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
    g_clear_pointer(&shim->oom_timer, loop_timer_free);
}
