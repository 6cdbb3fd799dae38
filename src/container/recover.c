/* Start-up: containers whose shim lives are taken over; ends that came while no tared ran are recorded; leftovers go; restart
 * policies apply after a boot. */
#include "container/container-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "shim/shim.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define EXIT_RECORD_MAX 65536
#define EXIT_UNKNOWN 255
#define UNPACK_DELAY_US 50000

static enum container_status status_from(const char *name)
{
    if (!strcmp(name, "running"))
        return CONTAINER_RUNNING;
    if (!strcmp(name, "paused"))
        return CONTAINER_PAUSED;
    if (!strcmp(name, "restarting"))
        return CONTAINER_RESTARTING;
    return CONTAINER_EXITED;
}

static void apply_status(struct container *container, enum container_status status, const json_t *reply)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&container->lock);
    struct container_state *state = &container->state;
    state->status = status;
    state->pid = (pid_t)json_get_int(reply, "pid", 0);
    state->started_at = json_get_int(reply, "started_at", state->started_at);
    state->finished_at = json_get_int(reply, "finished_at", state->finished_at);
    state->exit_code = (int)json_get_int(reply, "exit_code", state->exit_code);
    state->oom_killed = json_get_bool(reply, "oom_killed", state->oom_killed);
    state->restart_count = (int)json_get_int(reply, "restart_count", state->restart_count);
    state->stopped_by_user |= json_get_bool(reply, "stopped_by_user", false);
    state->has_been_started = true;
    health_set_locked(container, json_get_object(reply, "health"));
}

/* The layers stay mounted for the shim in any case; holding the chain keeps the store from removing them. */
static void hold_resources(struct container *container)
{
    g_autoptr(GError) error = NULL;
    struct layer_stack *stack = NULL;
    if (layer_stack_acquire(container->manager->layers, (const char *const *)container->diff_ids, &stack, &error))
        container->stack = stack;
    else
        log_error(error, "layers of a running container", "container", container->id, NULL);
    g_clear_error(&error);
    if (!container->endpoint || !container->manager->networks)
        return;
    struct network_endpoint *endpoint = network_endpoint_from_json(container->endpoint);
    if (!network_restore(container->manager->networks, container->id, endpoint, &error))
        log_error(error, "network of a running container", "container", container->id, NULL);
    network_endpoint_free(endpoint);
}

/* True where a shim with a living container answered and its subscription is watched. */
static bool take_over(struct container *container)
{
    g_autofree char *socket_path = container_socket(container);
    g_autoptr(json_t) request = json_pack("{s:s}", "op", "subscribe");
    g_autoptr(json_t) reply = NULL;
    g_autofd int connection = shim_connect(socket_path, NULL);
    if (connection < 0 || !shim_request(connection, request, NULL, 0, &reply, NULL, NULL, NULL))
        return false;
    enum container_status status = status_from(json_get_string(reply, "state", ""));
    if (status == CONTAINER_EXITED)
        return false;
    apply_status(container, status, reply);
    execs_adopt(container, json_get_object(reply, "execs"));
    hold_resources(container);
    monitor_watch(container, fd_steal(&connection));
    record_keep_state(container);
    log_line(LOG_LEVEL_INFO, "container taken over", "container", container->id, NULL);
    return true;
}

static json_t *read_exit_record_in(char *directory)
{
    g_autofree char *owned = directory, *path = g_build_filename(directory, "exit.json", NULL), *text = NULL;
    size_t length;
    if (!file_read(AT_FDCWD, path, EXIT_RECORD_MAX, &text, &length, NULL))
        return NULL;
    return json_parse(text, length, EXIT_RECORD_MAX, "exit.json", NULL);
}

/* The newer one of two places: the shim writes to the second where the first is full. */
static json_t *read_exit_record(struct container *container)
{
    g_autoptr(json_t) kept = read_exit_record_in(container_state_dir(container));
    g_autoptr(json_t) fallback = read_exit_record_in(container_run_dir(container));
    bool is_fallback_newer = json_get_int(fallback, "finished_at", 0) > json_get_int(kept, "finished_at", 0);
    return is_fallback_newer ? g_steal_pointer(&fallback) : g_steal_pointer(&kept);
}

/* What only the shim knew: restarts that it made, and a stop that the engine did not live to record. */
static void apply_exit_record(struct container *container, const json_t *record)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&container->lock);
    struct container_state *state = &container->state;
    state->started_at = MAX(state->started_at, json_get_int(record, "started_at", 0));
    state->restart_count = (int)json_get_int(record, "restart_count", state->restart_count);
    state->stopped_by_user |= json_get_bool(record, "stopped_by_user", false);
    state->has_been_started = true;
    health_set_locked(container, json_get_object(record, "health"));
}

/* It ended while nobody watched. An exit record that is older than the start belongs to an earlier life, as does one that
 * announces another life: then the shim itself has died. */
static void record_missed_end(struct container *container, const json_t *record)
{
    gint64 finished_at = json_get_int(record, "finished_at", 0);
    bool is_known = record && finished_at >= container->state.started_at;
    bool was_alive = container_sweep_processes(container);
    if (is_known)
        apply_exit_record(container, record);
    if (is_known && !json_get_bool(record, "will_restart", false))
        container_ended(container, (int)json_get_int(record, "exit_code", EXIT_UNKNOWN), finished_at,
                        json_get_bool(record, "oom_killed", false), json_get_string(record, "error", ""));
    else
        container_ended(container, was_alive ? 128 + SIGKILL : EXIT_UNKNOWN, timestamp_now(), false,
                        was_alive ? "the container's shim ended unexpectedly" : "");
}

/* A whole life that began just before the engine's death, and is over. */
static bool is_unknown_life(const struct container_state *state, const json_t *record)
{
    return json_get_int(record, "started_at", 0) > state->started_at;
}

/* A start that the engine's death cut short: the shim never ran its container, or nobody recorded that it does. */
static void drop_half_started(struct container *container)
{
    g_autofree char *socket_path = container_socket(container);
    g_autoptr(json_t) request = json_pack("{s:s}", "op", "quit");
    if (shim_call(socket_path, request, NULL, 0, NULL, NULL, NULL, NULL))
        log_line(LOG_LEVEL_INFO, "half-started container dropped", "container", container->id, NULL);
    container_sweep_processes(container);
    files_remove_run(container);
}

/* Nothing is to be done about it, which its packed record says already: most containers of most engines. */
static bool is_at_rest(const struct container *container, const struct container_state *state)
{
    const char *host_config = container->packed ? container->packed->host_config : NULL;
    return host_config && (state->status == CONTAINER_CREATED || state->status == CONTAINER_EXITED) &&
           strstr(host_config, "\"AutoRemove\":false") && strstr(host_config, "\"RestartPolicy\":{\"Name\":\"no\"");
}

static void recover_one(struct container *container)
{
    g_autofree char *socket_path = container_socket(container);
    struct container_state state = container_get_state(container);
    bool was_running = container_is_running(&state);
    bool has_socket = access(socket_path, F_OK) == 0;
    if (!has_socket && is_at_rest(container, &state))
        return;
    container_unpack(container);
    if (has_socket && take_over(container))
        return;
    g_autoptr(json_t) record = was_running || has_socket ? read_exit_record(container) : NULL;
    if (has_socket && !was_running)
        drop_half_started(container);
    if (was_running || is_unknown_life(&state, record))
        record_missed_end(container, record);
    /* One that removes itself has nobody left who would start it. */
    g_autoptr(json_t) host_config = container_get_host_config(container);
    bool removes_itself = json_get_bool(host_config, "AutoRemove", false);
    if (state.status == CONTAINER_REMOVING || state.status == CONTAINER_DEAD || removes_itself) {
        g_autoptr(GMutexLocker) operation = g_mutex_locker_new(&container->operation);
        container_destroy_locked(container, removes_itself, NULL);
    }
}

/* ---- leftovers ---- */

static void sweep_directory(struct container_manager *manager, const char *path, int fd)
{
    g_autoptr(GDir) directory = g_dir_open(path, 0, NULL);
    for (const char *name; directory && (name = g_dir_read_name(directory));) {
        if (!g_hash_table_contains(manager->by_id, name)) {
            g_autoptr(GError) error = NULL;
            if (!dir_remove_tree(fd, name, &error))
                log_error(error, "leftover of a container", "name", name, NULL);
        }
    }
}

static void sweep_network(struct container_manager *manager, GPtrArray *all)
{
    if (!manager->networks)
        return;
    g_autoptr(GPtrArray) live = g_ptr_array_new();
    for (guint i = 0; i < all->len; i++) {
        struct container *container = all->pdata[i];
        struct container_state state = container_get_state(container);
        if (container_is_running(&state))
            g_ptr_array_add(live, container->id);
    }
    g_ptr_array_add(live, NULL);
    network_sweep(manager->networks, (const char *const *)live->pdata);
}

/* Holders of a dead engine's operations go; those of containers stay with them, and layers of a pull that came to nothing stay
 * for the next one until the registries say that they have waited long enough. */
static bool keep_holder(void *user, const char *holder)
{
    struct container_manager *manager = user;
    /* Contexts of builds are kept for the next one, as what was pulled; their owners' records say for how long. */
    if (g_str_has_prefix(holder, "pulled/") || g_str_has_prefix(holder, "context/"))
        return true;
    return g_str_has_prefix(holder, CONTAINER_HOLDER) && g_hash_table_contains(manager->by_id, holder + strlen(CONTAINER_HOLDER));
}

static bool is_container(void *user, const char *id)
{
    struct container_manager *manager = user;
    return g_hash_table_contains(manager->by_id, id);
}

/* ---- restart policies ---- */

bool container_wants_start(struct container *container)
{
    g_autoptr(json_t) host_config = container_get_host_config(container);
    const char *policy = json_get_string(json_get_object(host_config, "RestartPolicy"), "Name", "");
    struct container_state state = container_get_state(container);
    if (container_is_running(&state) || !state.has_been_started)
        return false;
    if (!strcmp(policy, "always"))
        return true;
    if (!strcmp(policy, "unless-stopped"))
        return !state.stopped_by_user;
    gint64 maximum = json_get_int(json_get_object(host_config, "RestartPolicy"), "MaximumRetryCount", 0);
    return !strcmp(policy, "on-failure") && state.exit_code != 0 && !state.stopped_by_user &&
           (maximum == 0 || state.restart_count < maximum);
}

/* A build's step whose engine died: nobody waits for it. One that had failed before is what --force-rm=false leaves to be seen.
 */
static bool is_abandoned_step(struct container *container)
{
    if (!container->is_volatile)
        return false;
    g_autoptr(json_t) host_config = container_get_host_config(container);
    struct container_state state = container_get_state(container);

    return !json_get_bool(host_config, "AutoRemove", false) && !(state.status == CONTAINER_EXITED && state.exit_code != 0);
}

static void *start_wanted(void *user)
{
    GPtrArray *containers = user;
    for (guint i = 0; i < containers->len; i++) {
        struct container *container = containers->pdata[i];
        g_autoptr(GError) error = NULL;
        if (container->is_volatile) {
            if (!container_remove(container->manager, container->id, true, true, false, &error) &&
                !error_is(error, TARE_ERROR_NOT_FOUND))
                log_error(error, "remove the step of a build", "container", container->id, NULL);
        } else if (!container_start(container->manager, container->id, NULL, &error) && !error_is(error, TARE_ERROR_NOT_MODIFIED))
            log_error(error, "start by restart policy", "container", container->id, NULL);
    }
    g_ptr_array_unref(containers);
    return NULL;
}

static bool may_want_start(const struct container *container)
{
    return !container->removed && !container->is_volatile && !container->packed; /* those at rest have no policy */
}

/* Before somebody asks, when the start is over. */
static void *unpack_all(void *user)
{
    GPtrArray *all = user;
    g_usleep(UNPACK_DELAY_US);
    for (guint i = 0; i < all->len; i++)
        container_unpack(all->pdata[i]);
    g_ptr_array_unref(all);
    return NULL;
}

bool containers_recover(struct container_manager *manager, GError **error)
{
    g_autoptr(GPtrArray) all = table_snapshot_packed(manager);
    GPtrArray *wanted = g_ptr_array_new_with_free_func((GDestroyNotify)container_unref);
    for (guint i = 0; i < all->len; i++)
        if (is_abandoned_step(all->pdata[i]))
            g_ptr_array_add(wanted, container_ref(all->pdata[i]));
    for (guint i = 0; i < all->len; i++)
        recover_one(all->pdata[i]);
    for (guint i = 0; i < all->len; i++)
        if (may_want_start(all->pdata[i]) && container_wants_start(all->pdata[i]))
            g_ptr_array_add(wanted, container_ref(all->pdata[i]));
    sweep_directory(manager, manager->containers_dir, manager->containers_fd);
    sweep_directory(manager, manager->run_dir, manager->run_fd);
    sweep_network(manager, all);
    if (!volume_sweep(manager->volumes, is_container, manager, error) ||
        !image_store_sweep_holders(manager->images, keep_holder, manager, error)) {
        g_ptr_array_unref(wanted);
        return false;
    }
    if (all->len)
        manager->unpacker = g_thread_new("unpack", unpack_all, g_ptr_array_ref(all));
    if (wanted->len)
        manager->starter = g_thread_new("restart", start_wanted, wanted);
    else
        g_ptr_array_unref(wanted);
    return true;
}
