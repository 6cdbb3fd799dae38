/* stop, kill, restart, pause, rename, update, resize. */
#include "container/container-internal.h"

#include "shim/shim.h"

#include <signal.h>
#include <string.h>

#define STOP_TIMEOUT_S 10
#define KILL_WAIT_MS 30000

#define CONFLICT(...) error_set(error, TARE_ERROR_CONFLICT, __VA_ARGS__)

bool container_call(struct container *container, const json_t *request, json_t **ret_reply, GError **error)
{
    g_autofree char *socket_path = container_socket(container);
    return shim_call(socket_path, request, NULL, 0, ret_reply, NULL, NULL, error);
}

static bool not_running(struct container *container, GError **error)
{
    return CONFLICT("Container %s is not running", container->id);
}

/* The user ends it: a restart policy of unless-stopped must not bring it back at boot. */
static void note_user_stop(struct container *container)
{
    g_mutex_lock(&container->lock);
    container->state.stopped_by_user = true;
    g_mutex_unlock(&container->lock);
}

static void emit_signal(struct container *container, int signal)
{
    g_autofree char *text = g_strdup_printf("%d", signal);
    container_emit(container, "kill", "signal", text, NULL);
}

static int stop_signal(const struct container *container)
{
    const char *text = json_get_string(container->config, "StopSignal", "");
    int number = SIGTERM;
    if (*text)
        signal_parse(text, &number, NULL);
    return number;
}

/* ---- kill ---- */

static bool send_signal(struct container *container, int signal, GError **error)
{
    g_autoptr(json_t) request = json_pack("{s:s, s:i}", "op", "signal", "signal", signal);
    if (signal == SIGKILL || signal == stop_signal(container))
        note_user_stop(container);
    if (!container_call(container, request, NULL, error))
        return false;
    emit_signal(container, signal);
    return true;
}

bool container_kill(struct container_manager *manager, const char *name, const char *signal_text, GError **error)
{
    int number = SIGKILL;
    if (signal_text && *signal_text && !signal_parse(signal_text, &number, error))
        return false;
    autocontainer container = container_find(manager, name, error);
    if (container && number > 64)
        error_set(error, TARE_ERROR_INVALID, "The linux daemon does not support signal %d", number);
    else if (container) {
        struct container_state state = container_settled_state(container);
        if (!container_is_running(&state))
            not_running(container, error);
        else if (send_signal(container, number, error) &&
                 (number != SIGKILL || container_wait_stopped(container, KILL_WAIT_MS, error)))
            return true;
    }
    g_prefix_error(error, "Cannot kill container: %s: ", name);
    return false;
}

/* ---- stop ---- */

/* A paused container would not see the signal. */
static void thaw(struct container *container)
{
    struct container_state state = container_get_state(container);
    g_autoptr(json_t) request = json_pack("{s:s}", "op", "resume");
    if (state.status != CONTAINER_PAUSED || !container_call(container, request, NULL, NULL))
        return;
    g_mutex_lock(&container->lock);
    if (container->state.status == CONTAINER_PAUSED)
        container->state.status = CONTAINER_RUNNING;
    g_mutex_unlock(&container->lock);
    container_emit(container, "unpause", NULL);
}

static int default_timeout(const struct container *container)
{
    return (int)CLAMP(json_get_int(container->config, "StopTimeout", STOP_TIMEOUT_S), -1, G_MAXINT / 1000);
}

/* True when it does not run any more. The shim gives SIGKILL after the time. */
static bool stop_running(struct container *container, int signal, int timeout_s, GError **error)
{
    g_autoptr(GError) inner = NULL;
    g_autoptr(json_t) reply = NULL;
    gint64 timeout_ms = timeout_s < 0 ? -1 : (gint64)timeout_s * 1000;
    g_autoptr(json_t) request =
        json_pack("{s:s, s:i, s:I}", "op", "stop", "signal", signal, "timeout_ms", (json_int_t)timeout_ms);
    note_user_stop(container);
    thaw(container);
    emit_signal(container, signal);
    if (!container_call(container, request, &reply, &inner) && !error_is(inner, TARE_ERROR_NOT_MODIFIED) &&
        !error_is(inner, TARE_ERROR_NOT_FOUND) && !error_is(inner, TARE_ERROR_UNAVAILABLE)) {
        g_propagate_error(error, g_steal_pointer(&inner));
        return false;
    }
    return container_wait_stopped(container, KILL_WAIT_MS, error);
}

static bool stop(struct container *container, const char *signal_text, int timeout_s, GError **error)
{
    int number = stop_signal(container);
    if (signal_text && *signal_text && !signal_parse(signal_text, &number, error))
        return false;
    if (!stop_running(container, number, timeout_s == -1 ? default_timeout(container) : timeout_s, error)) {
        g_prefix_error(error, "Cannot stop container %s: ", container->id);
        return false;
    }
    container_emit(container, "stop", NULL);
    return true;
}

bool container_stop(struct container_manager *manager, const char *name, const char *signal_text, int timeout_s,
                    struct cancel *cancel, GError **error)
{
    autocontainer container = container_find(manager, name, error);
    if (!container)
        return false;
    struct container_state state = container_settled_state(container);
    if (!container_is_running(&state))
        return error_set(error, TARE_ERROR_NOT_MODIFIED, "container already stopped");
    return stop(container, signal_text, timeout_s, error);
}

static bool removes_itself(struct container *container)
{
    g_autoptr(json_t) host_config = container_get_host_config(container);
    return json_get_bool(host_config, "AutoRemove", false);
}

bool container_restart(struct container_manager *manager, const char *name, const char *signal_text, int timeout_s,
                       struct cancel *cancel, GError **error)
{
    autocontainer container = container_find(manager, name, error);
    if (!container)
        return false;
    struct container_state state = container_get_state(container);
    /* A container that removes itself would be gone between the two. */
    g_mutex_lock(&container->lock);
    container->restarting_by_user = true;
    g_mutex_unlock(&container->lock);
    bool ok = !container_is_running(&state) || stop(container, signal_text, timeout_s, error);
    g_mutex_lock(&container->operation);
    g_mutex_lock(&container->lock);
    container->restarting_by_user = false;
    g_mutex_unlock(&container->lock);
    if (ok) {
        state = container_get_state(container);
        ok = container_is_running(&state) || container_start_locked(container, error);
        if (!ok && removes_itself(container))
            container_destroy_locked(container, true, NULL);
    }
    g_mutex_unlock(&container->operation);
    if (!ok) {
        g_prefix_error(error, "Cannot restart container %s: ", name);
        return false;
    }
    container_emit(container, "restart", NULL);
    return true;
}

/* ---- pause ---- */

bool container_pause(struct container_manager *manager, const char *name, bool paused, GError **error)
{
    autocontainer container = container_find(manager, name, error);
    if (!container)
        return false;
    g_autoptr(GMutexLocker) operation = g_mutex_locker_new(&container->operation);
    struct container_state state = container_get_state(container);
    if (!paused && state.status != CONTAINER_PAUSED)
        return error_set(error, TARE_ERROR_INTERNAL, "Container %s is not paused", container->id);
    if (!container_is_running(&state))
        return not_running(container, error);
    if (paused && state.status == CONTAINER_PAUSED)
        return CONFLICT("Container %s is already paused", container->id);
    if (state.status == CONTAINER_RESTARTING)
        return CONFLICT("Container %s is restarting, wait until the container is running", container->id);
    g_autoptr(json_t) request = json_pack("{s:s}", "op", paused ? "pause" : "resume");
    if (!container_call(container, request, NULL, error)) {
        g_prefix_error(error, "Cannot %s container %s: ", paused ? "pause" : "unpause", container->id);
        return false;
    }
    g_mutex_lock(&container->lock);
    if (container_is_running(&container->state))
        container->state.status = paused ? CONTAINER_PAUSED : CONTAINER_RUNNING;
    g_mutex_unlock(&container->lock);
    record_keep_state(container);
    container_emit(container, paused ? "pause" : "unpause", NULL);
    return true;
}

/* ---- rename ---- */

bool container_rename(struct container_manager *manager, const char *name, const char *new_name, GError **error)
{
    if (!*name || !new_name || !*new_name)
        return error_set(error, TARE_ERROR_INVALID, "Neither old nor new names may be empty");
    autocontainer container = container_find(manager, name, error);
    if (!container)
        return false;
    const char *bare = *new_name == '/' ? new_name + 1 : new_name;
    g_autoptr(GMutexLocker) operation = g_mutex_locker_new(&container->operation);
    g_autofree char *old_name = container_get_name(container);
    if (!strcmp(old_name, bare))
        return error_set(error, TARE_ERROR_INVALID, "Renaming a container with the same name as its current name");
    g_autofree char *slashed = g_strconcat("/", bare, NULL);
    if (!container_check_name(slashed, error) || !table_reserve_name(manager, bare, container->id, error)) {
        g_prefix_error(error, "Error when allocating new name: ");
        return false;
    }
    if (!record_save_name(manager, container->id, bare, error)) {
        table_release_name(manager, bare, container->id);
        return false;
    }
    g_mutex_lock(&container->lock);
    g_free(container->name);
    container->name = g_strdup(bare);
    g_mutex_unlock(&container->lock);
    table_release_name(manager, old_name, container->id);
    g_autofree char *old_slashed = g_strconcat("/", old_name, NULL);
    container_emit(container, "rename", "oldName", old_slashed, NULL);
    return true;
}

/* ---- update ---- */

static const char *const updatable[] = { "BlkioWeight",        "CpuShares",  "CpuPeriod",    "CpuQuota",  "CpuRealtimePeriod",
                                         "CpuRealtimeRuntime", "CpusetCpus", "CpusetMems",   "Memory",    "NanoCpus",
                                         "MemoryReservation",  "MemorySwap", "KernelMemory", "PidsLimit", "MemorySwappiness" };

static bool is_zero(const json_t *value)
{
    return !value || json_is_null(value) || (json_is_integer(value) && !json_integer_value(value)) ||
           (json_is_string(value) && !*json_string_value(value));
}

/* The new HostConfig: what the request sets replaces what was. */
static bool merge_update(const json_t *host_config, const json_t *body, json_t **ret, GError **error)
{
    g_autoptr(json_t) merged = json_deep_copy(host_config);
    for (size_t i = 0; i < G_N_ELEMENTS(updatable); i++) {
        json_t *value = json_get_folded(body, updatable[i]);
        if (is_zero(value))
            continue;
        if (json_typeof(value) != (g_str_has_prefix(updatable[i], "Cpuset") ? JSON_STRING : JSON_INTEGER))
            return error_set(error, TARE_ERROR_INVALID, "invalid value for %s", updatable[i]);
        json_object_set(merged, updatable[i], value);
    }
    json_t *memory = json_get_folded(body, "Memory"), *swap = json_get_folded(body, "MemorySwap");
    gint64 old_swap = json_get_int(host_config, "MemorySwap", 0);
    if (!is_zero(memory) && is_zero(swap) && old_swap > 0 && json_integer_value(memory) > old_swap)
        return CONFLICT(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time");
    const json_t *restart = json_get_folded(body, "RestartPolicy");
    if (json_is_object(restart) && *json_get_string(restart, "Name", "")) {
        if (json_get_bool(host_config, "AutoRemove", false))
            return error_set(error, TARE_ERROR_INVALID,
                             "Restart policy cannot be updated because AutoRemove is enabled for the container");
        json_object_set_new(merged, "RestartPolicy",
                            json_pack("{s:s, s:I}", "Name", json_get_string(restart, "Name", ""), "MaximumRetryCount",
                                      (json_int_t)json_get_int(restart, "MaximumRetryCount", 0)));
    }
    *ret = g_steal_pointer(&merged);
    return true;
}

static bool update_running(struct container *container, const json_t *host_config, GError **error)
{
    const json_t *policy = json_get_object(host_config, "RestartPolicy");
    g_autoptr(json_t) request = json_pack("{s:s, s:o, s:{s:s, s:I}}", "op", "update", "resources", spec_resources(host_config),
                                          "restart", "name", json_get_string(policy, "Name", "no"), "maximum_retry",
                                          (json_int_t)json_get_int(policy, "MaximumRetryCount", 0));
    return container_call(container, request, NULL, error);
}

bool container_update(struct container_manager *manager, const char *name, const json_t *body, json_t **ret, GError **error)
{
    autocontainer container = container_find(manager, name, error);
    if (!container)
        return false;
    g_autoptr(GMutexLocker) operation = g_mutex_locker_new(&container->operation);
    g_autoptr(json_t) host_config = container_get_host_config(container);
    g_autoptr(json_t) merged = NULL;
    g_autoptr(json_t) warnings = json_array();
    if (!merge_update(host_config, body, &merged, error) || !request_validate(NULL, merged, true, warnings, error))
        return false;
    struct container_state state = container_get_state(container);
    if (container_is_running(&state) && !update_running(container, merged, error)) {
        g_prefix_error(error, "Cannot update container %s: ", container->id);
        return false;
    }
    g_mutex_lock(&container->lock);
    json_decref(container->host_config);
    container->host_config = json_incref(merged);
    g_mutex_unlock(&container->lock);
    if (!record_save_host_config(container, error))
        return false;
    container_emit(container, "update", NULL);
    *ret = json_pack("{s:O}", "Warnings", warnings);
    return true;
}

bool container_resize(struct container_manager *manager, const char *name, unsigned rows, unsigned cols, GError **error)
{
    autocontainer container = container_find(manager, name, error);
    if (!container)
        return false;
    struct container_state state = container_settled_state(container);
    if (!container_is_running(&state))
        return not_running(container, error);
    g_autoptr(json_t) request = json_pack("{s:s, s:i, s:i}", "op", "resize", "rows", rows, "cols", cols);
    if (!container_call(container, request, NULL, error))
        return false;
    g_autofree char *height = g_strdup_printf("%u", rows);
    g_autofree char *width = g_strdup_printf("%u", cols);
    container_emit(container, "resize", "height", height, "width", width, NULL);
    return true;
}
