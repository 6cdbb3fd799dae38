#include "shim/shim-internal.h"

#include "base/log.h"
#include "base/timestamp.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

/* Docker's list over three architectures compiles to about 10 KB; the kernel takes 4,096 instructions of 8 bytes. */
#define SECCOMP_MAX (1u << 20)

static bool read_seccomp(int fd, void **ret, size_t *ret_length, GError **error)
{
    struct stat st;
    if (fd < 0)
        return true;
    if (fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "seccomp filter");
    if (st.st_size > SECCOMP_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "seccomp filter is larger than %u bytes", SECCOMP_MAX);
    g_autofree guint8 *bytes = g_malloc((gsize)st.st_size + 1);
    if (fd_pread_full(fd, bytes, (size_t)st.st_size, 0) != st.st_size)
        return error_set(error, TARE_ERROR_INTERNAL, "seccomp filter: short read");
    *ret = g_steal_pointer(&bytes);
    *ret_length = (size_t)st.st_size;
    return true;
}

static bool create_with(struct shim *shim, const void *seccomp, size_t seccomp_length, GError **error)
{
    const struct shim_config *config = shim->config;
    struct runtime_create_options options = { .id = config->id,
                                              .netns_fd = config->netns_fd,
                                              .seccomp = seccomp,
                                              .seccomp_length = seccomp_length,
                                              .stdio = { shim->stdio.theirs[0], shim->stdio.theirs[1], shim->stdio.theirs[2] },
                                              .init_path = config->init_path,
                                              .state_dir = config->state_dir };
    return overlay_take(shim, &options.root_fd, error) && runtime_create(shim->plan, &options, &shim->container, error);
}

bool shim_container_create(struct shim *shim, GError **error)
{
    g_autofree void *seccomp = NULL;
    size_t seccomp_length = 0;
    if (shim->state != SHIM_NEW)
        return error_set(error, TARE_ERROR_CONFLICT, "container %s was created before", shim->config->id);
    if (!read_seccomp(shim->config->seccomp_fd, &seccomp, &seccomp_length, error) ||
        !create_with(shim, seccomp, seccomp_length, error))
        return false;
    shim->pid = runtime_pid(shim->container);
    stdio_started(&shim->stdio, shim->config->terminal ? runtime_take_terminal(shim->container) : -1);
    shim->pidfd_watch = loop_watch_new(shim->loop, runtime_pidfd(shim->container), EPOLLIN, exit_on_pidfd, shim);
    if (!shim->pidfd_watch) {
        error_set_errno(error, errno, "watch the container's process");
        shim_container_destroy(shim);
        return false;
    }
    oom_watch(shim);
    g_autoptr(GError) problem = NULL;
    if (shim->updated_resources && !runtime_update(shim->container, shim->updated_resources, &problem))
        log_error(problem, "update resources", "container", shim->config->id, NULL);
    shim->state = SHIM_CREATED;
    return true;
}

bool shim_container_start(struct shim *shim, GError **error)
{
    if (shim->state == SHIM_RUNNING || shim->state == SHIM_PAUSED)
        return error_set(error, TARE_ERROR_NOT_MODIFIED, "container %s is running", shim->config->id);
    if (shim->state != SHIM_CREATED)
        return error_set(error, TARE_ERROR_CONFLICT, "container %s is not created", shim->config->id);
    relay_start(shim);
    if (!runtime_start(shim->container, error))
        return false;
    shim->state = SHIM_RUNNING;
    shim->started_at = timestamp_now();
    shim->started_monotonic_us = g_get_monotonic_time();
    g_clear_pointer(&shim->error, g_free);
    shim_write_record(shim);
    server_emit(shim,
                json_pack("{s:s,s:i,s:I}", "event", "start", "pid", (int)shim->pid, "started_at", (json_int_t)shim->started_at));
    health_begin(shim);
    return true;
}

void shim_container_destroy(struct shim *shim)
{
    g_autoptr(GError) error = NULL;
    g_clear_pointer(&shim->pidfd_watch, loop_watch_free);
    oom_unwatch(shim);
    if (!shim->container)
        return;
    if (!runtime_destroy(shim->container, &error))
        log_error(error, "destroy", "container", shim->config->id, NULL);
    g_clear_pointer(&shim->container, runtime_container_free);
    shim->pid = 0;
}

static bool is_up(const struct shim *shim)
{
    return shim->state == SHIM_RUNNING || shim->state == SHIM_PAUSED;
}

bool shim_container_signal(struct shim *shim, int signal, bool all, GError **error)
{
    bool ends = signal == SIGKILL || signal == shim->config->stop_signal;
    if (shim->state == SHIM_RESTARTING) {
        if (ends)
            restart_cancel(shim);
        return true;
    }
    if (!is_up(shim))
        return error_set(error, TARE_ERROR_CONFLICT, "container %s is not running", shim->config->id);
    if (!runtime_kill(shim->container, signal, all, error))
        return false;
    /* Docker: a signal that is meant to end it counts as the user's wish; it reaches a paused container only when that goes on.
     */
    shim->stopped_by_user |= ends;
    return !ends || shim->state != SHIM_PAUSED || shim_container_pause(shim, false, error);
}

bool shim_container_pause(struct shim *shim, bool paused, GError **error)
{
    if (!is_up(shim))
        return error_set(error, TARE_ERROR_CONFLICT, "container %s is not running", shim->config->id);
    if (paused == (shim->state == SHIM_PAUSED))
        return error_set(error, TARE_ERROR_CONFLICT, "container %s is %s", shim->config->id,
                         paused ? "already paused" : "not paused");
    if (!runtime_pause(shim->container, paused, error))
        return false;
    shim->state = paused ? SHIM_PAUSED : SHIM_RUNNING;
    health_pause(shim, paused);
    return true;
}

bool shim_container_update(struct shim *shim, const json_t *resources, GError **error)
{
    if (shim->container && !runtime_update(shim->container, resources, error))
        return false;
    if (!shim->updated_resources)
        shim->updated_resources = json_object();
    json_object_update_recursive(shim->updated_resources, (json_t *)resources);
    return true;
}
