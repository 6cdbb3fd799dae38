/* docker wait: a handle that turns ready at an exit or a removal. */
#include "container/container-internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum wait_condition { WAIT_NOT_RUNNING, WAIT_NEXT_EXIT, WAIT_REMOVED };

struct container_waiter {
    struct container *container; /* NULL: it has removed itself, and only its exit code is known */
    enum wait_condition condition;
    int fd; /* eventfd, written once */
    int exit_code;
};

static bool parse_condition(const char *text, enum wait_condition *ret, GError **error)
{
    static const char *const names[] = { "not-running", "next-exit", "removed" };
    if (!text || !*text)
        text = names[0];
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (!strcmp(text, names[i])) {
            *ret = (enum wait_condition)i;
            return true;
        }
    return error_set(error, TARE_ERROR_INVALID, "invalid condition: \"%s\"", text);
}

static void ready(struct container_waiter *waiter)
{
    const guint64 one = 1;
    waiter->exit_code = waiter->container->state.exit_code;
    fd_write_full(waiter->fd, &one, sizeof(one));
}

/* A client that waited for a --rm container asks again after the engine's restart, and the container may have gone meanwhile. */
static bool has_departed(struct container_manager *manager, const char *id, enum wait_condition wanted, int *ret_exit_code)
{
    return wanted == WAIT_REMOVED && record_departed(manager, id, ret_exit_code);
}

bool container_wait_begin(struct container_manager *manager, const char *name, const char *condition,
                          struct container_waiter **ret, GError **error)
{
    enum wait_condition wanted;
    g_autoptr(GError) missing = NULL;
    int exit_code = 0;
    if (!parse_condition(condition, &wanted, error))
        return false;
    autocontainer container = container_find(manager, name, &missing);
    if (!container && !has_departed(manager, name, wanted, &exit_code)) {
        g_propagate_error(error, g_steal_pointer(&missing));
        return false;
    }
    int fd = eventfd(container ? 0 : 1, EFD_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, errno, "eventfd");
    struct container_waiter *waiter = g_new0(struct container_waiter, 1);
    waiter->condition = wanted;
    waiter->fd = fd;
    waiter->exit_code = exit_code;
    *ret = waiter;
    if (!container)
        return true;
    waiter->container = container_ref(container);
    g_mutex_lock(&container->lock);
    if (container->removed || (wanted == WAIT_NOT_RUNNING && !container_is_running(&container->state)))
        ready(waiter);
    else
        g_ptr_array_add(container->waiters, waiter);
    g_mutex_unlock(&container->lock);
    return true;
}

int container_waiter_fd(const struct container_waiter *waiter)
{
    return waiter->fd;
}

void container_waiter_free(struct container_waiter *waiter)
{
    if (waiter->container) {
        g_mutex_lock(&waiter->container->lock);
        g_ptr_array_remove_fast(waiter->container->waiters, waiter);
        g_mutex_unlock(&waiter->container->lock);
        container_unref(waiter->container);
    }
    fd_close(waiter->fd);
    g_free(waiter);
}

bool container_wait_finish(struct container_waiter *waiter, struct cancel *cancel, json_t **ret, GError **error)
{
    int result = cancel_poll(cancel, waiter->fd, POLLIN, -1, error);
    if (waiter->container) /* who wrote the eventfd held the lock, and may hold it yet */
        g_mutex_lock(&waiter->container->lock);
    int exit_code = waiter->exit_code;
    if (waiter->container)
        g_mutex_unlock(&waiter->container->lock);
    if (result > 0)
        *ret = json_pack("{s:n, s:i}", "Error", "StatusCode", exit_code);
    container_waiter_free(waiter);
    return result > 0;
}

void waiters_wake(struct container *container, bool exited, bool removed)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&container->lock);
    if (removed)
        container->removed = true;
    for (guint i = container->waiters->len; i-- > 0;) {
        struct container_waiter *waiter = container->waiters->pdata[i];
        if (removed || (exited && waiter->condition != WAIT_REMOVED)) {
            ready(waiter);
            g_ptr_array_remove_index_fast(container->waiters, i);
        }
    }
}

/* For our own operations: waits until it does not run, at most timeout_ms (-1: for ever); false after that time. */
bool container_wait_stopped(struct container *container, int timeout_ms, GError **error)
{
    struct container_waiter *waiter;
    if (!container_wait_begin(container->manager, container->id, "not-running", &waiter, NULL))
        return true; /* removed meanwhile */
    int result = cancel_poll(NULL, waiter->fd, POLLIN, timeout_ms, error);
    container_waiter_free(waiter);
    if (result == 0)
        return error_set(error, TARE_ERROR_INTERNAL, "tried to kill container, but did not receive an exit event");
    return result > 0;
}
