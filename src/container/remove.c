/* docker rm and container prune. */
#include "container/container-internal.h"

#include "base/file.h"
#include "base/filter.h"
#include "base/log.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>

#define KILL_WAIT_MS 30000

/* Most containers have no volume: no statement for those. */
static void release_volumes(struct container *container, bool anonymous_too)
{
    g_autoptr(GError) error = NULL;
    bool any = false;
    size_t i;
    json_t *mount;
    json_array_foreach(container->mounts, i, mount) any = any || json_object_get(mount, "Name");
    if (any && !volume_release(container->manager->volumes, container->id, anonymous_too, &error))
        log_error(error, "volumes of a removed container", "container", container->id, NULL);
}

/* The caller holds the operation lock; it does not run. Volumes go before the record: without it nobody would know whether the
 * anonymous ones were to go. The record goes before the rest: directories without one are swept, one without directories would be
 * a lie. The directories are left to the caller. */
bool container_forget_locked(struct container *container, bool volumes, GError **error)
{
    struct container_manager *manager = container->manager;
    g_mutex_lock(&container->lock);
    bool gone = container->removed;
    enum container_status before = container->state.status;
    int exit_code = container->state.exit_code;
    bool departs = json_get_bool(container->host_config, "AutoRemove", false);
    container->state.status = CONTAINER_REMOVING;
    g_ptr_array_set_size(container->attaches, 0);
    g_mutex_unlock(&container->lock);
    if (gone)
        return true;
    release_volumes(container, volumes);
    if (departs ? !record_delete_departing(manager, container->id, exit_code, error)
                : !record_delete(manager, container->id, error)) {
        g_mutex_lock(&container->lock);
        container->state.status = before;
        g_mutex_unlock(&container->lock);
        return false;
    }
    container_release_layers(container);
    execs_forget(container);
    table_remove(manager, container);
    container_emit(container, "destroy", NULL);
    waiters_wake(container, true, true);
    return true;
}

void container_remove_directories(struct container *container)
{
    g_autoptr(GError) error = NULL;
    if (!dir_remove_tree(container->manager->containers_fd, container->id, &error))
        log_error(error, "directory of a removed container", "container", container->id, NULL);
    files_remove_run(container);
}

bool container_destroy_locked(struct container *container, bool volumes, GError **error)
{
    if (!container_forget_locked(container, volumes, error))
        return false;
    container_remove_directories(container);
    return true;
}

/* Ends it before the operation lock is taken: the handling of its end needs that lock. */
static bool kill_and_wait(struct container *container, GError **error)
{
    g_autoptr(json_t) request = json_pack("{s:s, s:i, s:i}", "op", "stop", "signal", SIGKILL, "timeout_ms", 0);
    g_autoptr(GError) inner = NULL;
    g_autofree char *signal_text = g_strdup_printf("%d", SIGKILL);
    container_emit(container, "kill", "signal", signal_text, NULL);
    if (!container_call(container, request, NULL, &inner))
        log_error(inner, "kill before removal", "container", container->id, NULL);
    return container_wait_stopped(container, KILL_WAIT_MS, error);
}

static bool refuse_running(struct container *container, const struct container_state *state, GError **error)
{
    if (state->status == CONTAINER_PAUSED)
        return error_set(error, TARE_ERROR_CONFLICT,
                         "You cannot remove a paused container %s. Unpause and then stop the container before attempting removal "
                         "or force remove",
                         container->id);
    return error_set(error, TARE_ERROR_CONFLICT,
                     "You cannot remove a %s container %s. Stop the container before attempting removal or force remove",
                     container_status_name(state->status), container->id);
}

bool container_remove(struct container_manager *manager, const char *name, bool force, bool volumes, bool link, GError **error)
{
    autocontainer container = container_find(manager, name, error);
    if (!container)
        return false;
    if (link)
        return error_set(error, TARE_ERROR_INVALID, "Conflict, cannot remove the default name of the container");
    for (;;) {
        struct container_state state = container_get_state(container);
        if (state.status == CONTAINER_REMOVING)
            return error_set(error, TARE_ERROR_CONFLICT, "removal of container %s is already in progress", name);
        if (container_is_running(&state)) {
            if (!force)
                return refuse_running(container, &state, error);
            if (!kill_and_wait(container, error)) {
                g_prefix_error(error, "Could not kill running container %s, cannot remove - ", container->id);
                return false;
            }
        }
        g_autoptr(GMutexLocker) operation = g_mutex_locker_new(&container->operation);
        state = container_get_state(container);
        if (!container_is_running(&state)) /* else somebody started it again */
            return container_destroy_locked(container, volumes, error);
    }
}

/* ---- prune ---- */

bool container_prune(struct container_manager *manager, const json_t *filters, json_t **ret, GError **error)
{
    static const char *const accepted[] = { "label", "label!", "until", NULL };
    gint64 until;
    if (!filters_validate(filters, accepted, error) || !filters_until(filters, &until, error))
        return false;
    if (!g_atomic_int_compare_and_exchange(&manager->pruning, 0, 1))
        return error_set(error, TARE_ERROR_CONFLICT, "a prune operation is already running");
    g_autoptr(GPtrArray) all = table_snapshot(manager);
    json_t *deleted = json_array();
    guint64 reclaimed = 0;
    for (guint i = 0; i < all->len; i++) {
        struct container *container = all->pdata[i];
        struct container_state state = container_get_state(container);
        if (container_is_running(&state) || (until && container->created_ns > until) ||
            !filters_matches_labels(filters, json_get_object(container->config, "Labels")))
            continue;
        guint64 rw, root;
        container_sizes(container, &rw, &root);
        g_autoptr(GError) inner = NULL;
        if (!container_remove(manager, container->id, false, false, false, &inner)) {
            log_error(inner, "prune", "container", container->id, NULL);
            continue;
        }
        reclaimed += rw;
        json_array_append_new(deleted, json_string(container->id));
    }
    g_atomic_int_set(&manager->pruning, 0);
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, reclaimed);
    g_autoptr(json_t) attributes = json_pack("{s:s}", "reclaimed", text);
    event_emit(manager->events, "container", "prune", "", attributes);
    *ret = json_pack("{s:o, s:I}", "ContainersDeleted", json_array_size(deleted) ? deleted : (json_decref(deleted), json_null()),
                     "SpaceReclaimed", (json_int_t)reclaimed);
    return true;
}
