/* One thread that reads what the shims tell: starts, exits, ends. What takes time at a container's end (network, directories) is
 * done by a few workers, so that one slow end does not hold up the others. */
#include "container/container-internal.h"

#include "base/frame.h"
#include "base/log.h"
#include "base/spawn.h"
#include "runtime/runtime.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORKERS_MAX 8
#define READ_SIZE 65536
#define EXIT_UNKNOWN 255

enum watch_kind { WATCH_SHIM, WATCH_PROCESS };

struct watch {
    enum watch_kind kind;
    int fd; /* a subscription, or the pidfd of a shim that is our child */
    pid_t pid;
    struct container *container; /* of a subscription; of a shim: whose directories are to be removed after its end */
    struct frame_parser parser;
    bool ended; /* the exit has been reported: what follows is the end of the connection */
};

struct monitor {
    int epoll_fd, wake_fd;
    GThread *thread;
    GThreadPool *workers;
    GMutex lock;
    GHashTable *watches; /* set of struct watch * */
    gint stopping;
};

/* What a worker needs to know of an end. */
struct end {
    struct container *container;
    bool only_directories; /* all else has been done */
    int exit_code;
    gint64 finished_at;
    bool oom_killed;
    bool lost; /* by the death of its shim */
    char *error_text;
};

static void watch_free(struct watch *watch)
{
    fd_close(watch->fd);
    frame_parser_clear(&watch->parser);
    if (watch->container)
        container_unref(watch->container);
    g_free(watch);
}

static void forget(struct monitor *monitor, struct watch *watch)
{
    epoll_ctl(monitor->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    g_mutex_lock(&monitor->lock);
    g_hash_table_remove(monitor->watches, watch);
    g_mutex_unlock(&monitor->lock);
}

static bool add_watch(struct monitor *monitor, struct watch *watch)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = watch };
    g_mutex_lock(&monitor->lock);
    g_hash_table_add(monitor->watches, watch);
    g_mutex_unlock(&monitor->lock);
    if (epoll_ctl(monitor->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) == 0)
        return true;
    forget(monitor, watch);
    return false;
}

/* ---- what a shim tells ---- */

bool container_sweep_processes(struct container *container)
{
    struct container_manager *manager = container->manager;
    g_autoptr(json_t) host_config = container_get_host_config(container);
    g_autofree char *path = spec_cgroup_path(container->id, host_config, manager->cgroup_parent);
    g_autoptr(GError) error = NULL;
    bool was_alive = false;
    if (!runtime_sweep(path, &was_alive, &error))
        log_error(error, "processes of a lost container", "container", container->id, NULL);
    return was_alive;
}

/* The shim would have applied the policy. */
static void start_again(struct container *container)
{
    g_autoptr(GError) error = NULL;
    struct container_manager *manager = container->manager;
    if (g_atomic_int_get(&manager->monitor->stopping) || container->removed || !container_wants_start(container) ||
        container_start(manager, container->id, NULL, &error))
        return;
    log_error(error, "start by restart policy", "container", container->id, NULL);
}

static void work_on_end(gpointer data, gpointer user)
{
    struct end *end = data;
    if (end->only_directories) {
        container_remove_directories(end->container);
    } else {
        if (end->lost)
            container_sweep_processes(end->container);
        container_ended(end->container, end->exit_code, end->finished_at, end->oom_killed, end->error_text);
        if (end->lost)
            start_again(end->container);
    }
    container_unref(end->container);
    g_free(end->error_text);
    g_free(end);
}

static void push_end(struct watch *watch, int exit_code, gint64 finished_at, bool oom_killed, bool lost, const char *error_text)
{
    struct end *end = g_new0(struct end, 1);
    end->lost = lost;
    watch->ended = true;
    end->container = container_ref(watch->container);
    end->exit_code = exit_code;
    end->finished_at = finished_at;
    end->oom_killed = oom_killed;
    end->error_text = g_strdup(error_text);
    g_thread_pool_push(watch->container->manager->monitor->workers, end, NULL);
}

static void on_shim_end(struct monitor *monitor, struct watch *watch)
{
    spawn_wait(watch->pid);
    if (watch->container) {
        struct end *end = g_new0(struct end, 1);
        end->container = container_ref(watch->container);
        end->only_directories = true;
        g_thread_pool_push(monitor->workers, end, NULL);
    }
    forget(monitor, watch);
    watch_free(watch);
}

static void on_exit_event(struct watch *watch, const json_t *event)
{
    struct container *container = watch->container;
    int exit_code = (int)json_get_int(event, "exit_code", EXIT_UNKNOWN);
    gint64 finished_at = json_get_int(event, "finished_at", timestamp_now());
    bool oom_killed = json_get_bool(event, "oom_killed", false);
    if (!json_get_bool(event, "will_restart", false)) {
        push_end(watch, exit_code, finished_at, oom_killed, false, NULL);
        return;
    }
    g_mutex_lock(&container->lock);
    container->state.status = CONTAINER_RESTARTING;
    container->state.pid = 0;
    container->state.exit_code = exit_code;
    container->state.finished_at = finished_at;
    container->state.oom_killed = oom_killed;
    container->state.restart_count++;
    g_mutex_unlock(&container->lock);
    record_keep_state(container);
    container_emit_die(container, exit_code);
    waiters_wake(container, true, false);
}

static void on_start_event(struct watch *watch, const json_t *event)
{
    struct container *container = watch->container;
    g_mutex_lock(&container->lock);
    bool again = container->state.status == CONTAINER_RESTARTING;
    if (again) {
        container->state.status = CONTAINER_RUNNING;
        container->state.pid = (pid_t)json_get_int(event, "pid", 0);
        container->state.started_at = json_get_int(event, "started_at", timestamp_now());
    }
    g_mutex_unlock(&container->lock);
    if (!again)
        return; /* the first one: whoever started it knows */
    record_keep_state(container);
    container_emit_start(container);
}

static void on_oom_event(struct watch *watch, const json_t *event)
{
    container_emit(watch->container, "oom", NULL);
}

static void on_kill_event(struct watch *watch, const json_t *event)
{
    g_autofree char *signal = g_strdup_printf("%d", (int)json_get_int(event, "signal", SIGKILL));
    container_emit(watch->container, "kill", "signal", signal, NULL);
}

static void on_exec_event(struct watch *watch, const json_t *event)
{
    const char *id = json_get_string(event, "exec_id", "");
    exec_ended(watch->container, id, (int)json_get_int(event, "exit_code", EXIT_UNKNOWN));
}

static void on_detach_event(struct watch *watch, const json_t *event)
{
    const char *exec_id = json_get_string(event, "exec_id", NULL);
    if (exec_id)
        container_emit(watch->container, "exec_detach", "execID", exec_id, NULL);
    else
        container_emit(watch->container, "detach", NULL);
}

/* The end without an exit that was told: a restart that was waited for has been called off, or failed. */
static void on_final_event(struct watch *watch, const json_t *event)
{
    if (watch->ended)
        return;
    struct container_state state = container_get_state(watch->container);
    push_end(watch, state.exit_code, state.finished_at ? state.finished_at : timestamp_now(), state.oom_killed, false, NULL);
}

static void on_health_event(struct watch *watch, const json_t *event)
{
    health_told(watch->container, event);
}

static void dispatch(struct watch *watch, const json_t *event)
{
    static const struct {
        const char *name;
        void (*handle)(struct watch *watch, const json_t *event);
    } handlers[] = { { "exit", on_exit_event },       { "start", on_start_event },   { "oom", on_oom_event },
                     { "exec-exit", on_exec_event },  { "health", on_health_event }, { "detach", on_detach_event },
                     { "die-final", on_final_event }, { "kill", on_kill_event } };
    const char *name = json_get_string(event, "event", "");
    for (size_t i = 0; i < G_N_ELEMENTS(handlers); i++)
        if (!strcmp(handlers[i].name, name))
            handlers[i].handle(watch, event);
}

/* The shim has gone without a word: killed, or it broke. Its container is ended too, since nobody supervises it. */
static void on_lost(struct watch *watch)
{
    struct container *container = watch->container;
    log_line(LOG_LEVEL_ERROR, "the shim has ended unexpectedly", "container", container->id, NULL);
    push_end(watch, 128 + SIGKILL, timestamp_now(), false, true, "the container's shim ended unexpectedly");
}

static void on_readable(struct monitor *monitor, struct watch *watch)
{
    static char buffer[READ_SIZE]; /* of the one thread */
    ssize_t n = recv(watch->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    bool ok = n > 0 && frame_parser_feed(&watch->parser, buffer, n, NULL);
    while (ok) {
        json_t *event = NULL;
        int result = frame_parser_take(&watch->parser, &event, NULL);
        ok = result >= 0;
        if (result <= 0)
            break;
        dispatch(watch, event);
        json_decref(event);
    }
    if (ok && !watch->ended)
        return;
    if (!watch->ended)
        on_lost(watch);
    /* Nobody of us listens any more: the shim ends when its clients have gone too. */
    forget(monitor, watch);
    watch_free(watch);
}

/* ---- the thread ---- */

static void *run(void *user)
{
    struct monitor *monitor = user;
    struct epoll_event events[64];
    while (!g_atomic_int_get(&monitor->stopping)) {
        int n = epoll_wait(monitor->epoll_fd, events, G_N_ELEMENTS(events), -1);
        for (int i = 0; i < n; i++) {
            struct watch *watch = events[i].data.ptr;
            if (!watch)
                continue;
            if (watch->kind == WATCH_SHIM)
                on_readable(monitor, watch);
            else
                on_shim_end(monitor, watch);
        }
    }
    return NULL;
}

void monitor_watch(struct container *container, int fd)
{
    struct watch *watch = g_new0(struct watch, 1);
    watch->kind = WATCH_SHIM;
    watch->fd = fd;
    watch->container = container_ref(container);
    frame_parser_init(&watch->parser);
    if (!add_watch(container->manager->monitor, watch)) {
        on_lost(watch);
        watch_free(watch);
    }
}

void monitor_reap(struct container *container, pid_t pid, bool remove_directories)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        spawn_wait(pid);
        if (remove_directories)
            container_remove_directories(container);
        return;
    }
    struct watch *watch = g_new0(struct watch, 1);
    watch->kind = WATCH_PROCESS;
    watch->fd = fd;
    watch->pid = pid;
    watch->container = remove_directories ? container_ref(container) : NULL;
    frame_parser_init(&watch->parser);
    if (!add_watch(container->manager->monitor, watch)) {
        spawn_wait(pid);
        if (remove_directories)
            container_remove_directories(container);
        watch_free(watch);
    }
}

bool monitor_open(struct container_manager *manager, GError **error)
{
    struct monitor *monitor = g_new0(struct monitor, 1);
    manager->monitor = monitor;
    g_mutex_init(&monitor->lock);
    monitor->watches = g_hash_table_new(NULL, NULL);
    monitor->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    monitor->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = { .events = EPOLLIN };
    if (monitor->epoll_fd < 0 || monitor->wake_fd < 0 ||
        epoll_ctl(monitor->epoll_fd, EPOLL_CTL_ADD, monitor->wake_fd, &event) < 0)
        return error_set_errno(error, errno, "epoll");
    monitor->workers = g_thread_pool_new(work_on_end, NULL, WORKERS_MAX, FALSE, error);
    if (!monitor->workers)
        return false;
    monitor->thread = g_thread_new("monitor", run, monitor);
    return true;
}

void monitor_close(struct container_manager *manager)
{
    struct monitor *monitor = manager->monitor;
    if (!monitor)
        return;
    g_atomic_int_set(&monitor->stopping, 1);
    if (monitor->thread) {
        const guint64 one = 1;
        fd_write_full(monitor->wake_fd, &one, sizeof(one));
        g_thread_join(monitor->thread);
    }
    if (monitor->workers)
        g_thread_pool_free(monitor->workers, FALSE, TRUE);
    GHashTableIter iter;
    void *watch;
    g_hash_table_iter_init(&iter, monitor->watches);
    while (g_hash_table_iter_next(&iter, &watch, NULL)) {
        g_hash_table_iter_remove(&iter);
        struct watch *shim = watch;
        if (shim->kind == WATCH_PROCESS && shim->container)
            container_remove_directories(shim->container);
        watch_free(watch);
    }
    g_hash_table_unref(monitor->watches);
    fd_close(monitor->epoll_fd);
    fd_close(monitor->wake_fd);
    g_mutex_clear(&monitor->lock);
    g_free(monitor);
    manager->monitor = NULL;
}

/* ---- the end of a container ---- */

void container_ended(struct container *container, int exit_code, gint64 finished_at, bool oom_killed, const char *error_text)
{
    struct container_manager *manager = container->manager;
    g_autoptr(GMutexLocker) operation = g_mutex_locker_new(&container->operation);
    g_mutex_lock(&container->lock);
    struct container_state *state = &container->state;
    bool was_restarting = state->status == CONTAINER_RESTARTING, was_running = container_is_running(state);
    g_mutex_unlock(&container->lock);
    if (was_running && !was_restarting) /* before anyone can see that it has ended, and say so */
        container_emit_die(container, exit_code);
    g_mutex_lock(&container->lock);
    state->status = CONTAINER_EXITED;
    state->pid = 0;
    state->exit_code = exit_code;
    state->finished_at = finished_at;
    state->oom_killed = oom_killed;
    g_free(container->error);
    container->error = g_strdup(error_text);
    health_lost_locked(container);
    json_t *endpoint = g_steal_pointer(&container->endpoint);
    struct layer_stack *stack = g_steal_pointer(&container->stack);
    pid_t shim_pid = container->shim_pid;
    container->shim_pid = 0;
    bool auto_remove = json_get_bool(container->host_config, "AutoRemove", false) && !container->restarting_by_user;
    g_mutex_unlock(&container->lock);
    if (was_running) {
        execs_forget(container);
        if (endpoint && manager->networks)
            network_detach(manager->networks, container->id);
        json_decref(endpoint);
        if (stack)
            layer_stack_release(stack);
    }
    if (!auto_remove)
        record_keep_state(container);
    waiters_wake(container, true, false);
    g_autoptr(GError) error = NULL;
    bool removed = auto_remove && container_forget_locked(container, true, &error);
    if (auto_remove && !removed)
        log_error(error, "automatic removal", "container", container->id, NULL);
    /* Its directories are the overlay's until the shim has let go of it: removing them before keeps both busy. */
    if (shim_pid)
        monitor_reap(container, shim_pid, removed);
    else if (removed)
        container_remove_directories(container);
}
