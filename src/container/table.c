/* The table of containers in memory: finding one, names, references. */
#include "container/container-internal.h"

#include <stdarg.h>
#include <string.h>

const char *container_status_name(enum container_status status)
{
    static const char *const names[] = { "created", "running", "paused", "restarting", "exited", "removing", "dead" };
    return names[status];
}

void pending_attach_free(struct pending_attach *attach)
{
    fd_close(attach->connection);
    fd_close(attach->done);
    g_free(attach->detach_keys);
    g_free(attach);
}

struct container *container_new(struct container_manager *manager)
{
    struct container *container = g_new0(struct container, 1);
    container->references = 1;
    container->manager = manager;
    container->waiters = g_ptr_array_new();
    container->attaches = g_ptr_array_new_with_free_func((GDestroyNotify)pending_attach_free);
    g_mutex_init(&container->operation);
    g_mutex_init(&container->lock);
    return container;
}

struct container *container_ref(struct container *container)
{
    g_atomic_int_inc(&container->references);
    return container;
}

void container_unref(struct container *container)
{
    if (!g_atomic_int_dec_and_test(&container->references))
        return;
    execs_forget(container);
    selinux_drop(container->manager->selinux, container->process_label);
    g_free(container->process_label);
    g_free(container->mount_label);
    g_ptr_array_unref(container->waiters);
    g_ptr_array_unref(container->attaches);
    g_strfreev(container->secret_env);
    g_strfreev(container->diff_ids);
    g_free(container->name);
    g_free(container->image_id);
    g_free(container->error);
    packed_free(container->packed);
    json_decref(container->config);
    json_decref(container->host_config);
    json_decref(container->networking);
    json_decref(container->mounts);
    json_decref(container->endpoint);
    json_decref(container->health);
    if (container->stack)
        layer_stack_release(container->stack);
    g_mutex_clear(&container->operation);
    g_mutex_clear(&container->lock);
    g_free(container);
}

static struct container *find_by_prefix(struct container_manager *manager, const char *prefix, bool *ret_ambiguous)
{
    struct container *found = NULL;
    GHashTableIter iter;
    void *id, *value;
    size_t length = strlen(prefix);
    *ret_ambiguous = false;
    g_hash_table_iter_init(&iter, manager->by_id);
    while (g_hash_table_iter_next(&iter, &id, &value)) {
        if (strncmp(id, prefix, length))
            continue;
        if (found)
            *ret_ambiguous = true;
        found = value;
    }
    return found;
}

struct container *container_find(struct container_manager *manager, const char *text, GError **error)
{
    const char *name = *text == '/' ? text + 1 : text;
    bool ambiguous = false;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&manager->table_lock);
    struct container *found = g_hash_table_lookup(manager->by_id, text);
    if (!found) {
        const char *id = g_hash_table_lookup(manager->by_name, name);
        found = id ? g_hash_table_lookup(manager->by_id, id) : NULL;
    }
    if (!found && *text)
        found = find_by_prefix(manager, text, &ambiguous);
    if (ambiguous) {
        error_set(error, TARE_ERROR_INVALID, "Multiple IDs found with provided prefix: %s", text);
        return NULL;
    }
    if (!found) {
        error_set(error, TARE_ERROR_NOT_FOUND, "No such container: %s", text);
        return NULL;
    }
    container_unpack(found);
    return container_ref(found);
}

void table_add(struct container_manager *manager, struct container *container)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&manager->table_lock);
    g_hash_table_insert(manager->by_id, container->id, container_ref(container));
}

void table_remove(struct container_manager *manager, struct container *container)
{
    g_mutex_lock(&manager->table_lock);
    bool there =
        g_hash_table_lookup(manager->by_id, container->id) == container && g_hash_table_steal(manager->by_id, container->id);
    const char *owner = g_hash_table_lookup(manager->by_name, container->name);
    if (owner && !strcmp(owner, container->id))
        g_hash_table_remove(manager->by_name, container->name);
    g_mutex_unlock(&manager->table_lock);
    if (there)
        container_unref(container);
}

bool table_reserve_name(struct container_manager *manager, const char *name, const char *id, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&manager->table_lock);
    const char *owner = g_hash_table_lookup(manager->by_name, name);
    if (owner)
        return error_set(error, TARE_ERROR_CONFLICT,
                         "Conflict. The container name \"/%s\" is already in use by container \"%s\". You have to remove (or "
                         "rename) that container to be able to "
                         "reuse that name.",
                         name, owner);
    g_hash_table_insert(manager->by_name, g_strdup(name), g_strdup(id));
    return true;
}

void table_release_name(struct container_manager *manager, const char *name, const char *id)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&manager->table_lock);
    const char *owner = g_hash_table_lookup(manager->by_name, name);
    if (owner && !strcmp(owner, id))
        g_hash_table_remove(manager->by_name, name);
}

bool container_check_name(const char *name, GError **error)
{
    const char *bare = *name == '/' ? name + 1 : name;
    if (strlen(bare) < 2 || strlen(bare) > 4096 || !identifier_is_name(bare))
        return error_set(error, TARE_ERROR_INVALID, "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
                         name);
    return true;
}

static gint newest_first(gconstpointer a, gconstpointer b)
{
    const struct container *first = *(struct container *const *)a, *second = *(struct container *const *)b;
    if (first->created_ns != second->created_ns)
        return first->created_ns < second->created_ns ? 1 : -1;
    return strcmp(first->id, second->id);
}

GPtrArray *table_snapshot(struct container_manager *manager)
{
    GPtrArray *all = table_snapshot_packed(manager);
    for (guint i = 0; i < all->len; i++)
        container_unpack(all->pdata[i]);
    return all;
}

GPtrArray *table_snapshot_packed(struct container_manager *manager)
{
    GHashTableIter iter;
    void *value;
    g_mutex_lock(&manager->table_lock);
    GPtrArray *all = g_ptr_array_new_full(g_hash_table_size(manager->by_id), (GDestroyNotify)container_unref);
    g_hash_table_iter_init(&iter, manager->by_id);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(all, container_ref(value));
    g_mutex_unlock(&manager->table_lock);
    g_ptr_array_sort(all, newest_first);
    return all;
}

/* ---- one container's fields ---- */

struct container_state container_get_state(struct container *container)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&container->lock);
    return container->state;
}

struct container_state container_settled_state(struct container *container)
{
    struct container_state state = container_get_state(container);
    if (container_is_running(&state))
        return state;
    g_mutex_lock(&container->operation);
    state = container_get_state(container);
    g_mutex_unlock(&container->operation);
    return state;
}

bool container_is_running(const struct container_state *state)
{
    return state->status == CONTAINER_RUNNING || state->status == CONTAINER_PAUSED || state->status == CONTAINER_RESTARTING;
}

char *container_get_name(struct container *container)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&container->lock);
    return g_strdup(container->name);
}

json_t *container_get_host_config(struct container *container)
{
    container_unpack(container);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&container->lock);
    return json_incref(container->host_config);
}

/* As Docker: the labels, then image and name, then what the action adds. */
void container_emit(struct container *container, const char *action, ...)
{
    const json_t *labels = json_get_object(container->config, "Labels");
    g_autoptr(json_t) attributes = labels ? json_copy((json_t *)labels) : json_object();
    g_autofree char *name = container_get_name(container);
    json_object_set_new(attributes, "image", json_string(json_get_string(container->config, "Image", "")));
    json_object_set_new(attributes, "name", json_string(name));
    va_list arguments;
    va_start(arguments, action);
    for (const char *key; (key = va_arg(arguments, const char *));)
        json_object_set_new(attributes, key, json_string_lossy(va_arg(arguments, const char *)));
    va_end(arguments);
    event_emit(container->manager->events, "container", action, container->id, attributes);
}

static void emit_network(struct container *container, const char *action)
{
    static const struct {
        const char *name, *type;
    } types[] = { { "bridge", "bridge" }, { "host", "host" }, { "none", "null" } };
    g_autoptr(json_t) host_config = container_get_host_config(container);
    const char *name = network_name(host_config);
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        if (strcmp(types[i].name, name)) /* another container's has been connected already */
            continue;
        g_autoptr(json_t) attributes =
            json_pack("{s:s, s:s, s:s}", "container", container->id, "name", name, "type", types[i].type);
        event_emit(container->manager->events, "network", action, json_get_string(container->manager->network_ids, name, ""),
                   attributes);
    }
}

static void emit_volumes(struct container *container, bool mounts)
{
    size_t i;
    json_t *mount;
    json_array_foreach(container->mounts, i, mount)
    {
        if (strcmp(json_get_string(mount, "Type", ""), "volume"))
            continue;
        g_autoptr(json_t) attributes =
            json_pack("{s:s, s:s}", "container", container->id, "driver", json_get_string(mount, "Driver", "local"));
        if (mounts) {
            json_object_set_new(attributes, "destination", json_string_lossy(json_get_string(mount, "Destination", "")));
            json_object_set_new(attributes, "propagation", json_string(json_get_string(mount, "Propagation", "")));
            json_object_set_new(attributes, "read/write", json_string(json_get_bool(mount, "RW", true) ? "true" : "false"));
        }
        event_emit(container->manager->events, "volume", mounts ? "mount" : "unmount", json_get_string(mount, "Name", ""),
                   attributes);
    }
}

void container_emit_start(struct container *container)
{
    emit_network(container, "connect");
    emit_volumes(container, true);
    container_emit(container, "start", NULL);
}

void container_emit_die(struct container *container, int exit_code)
{
    g_autofree char *text = g_strdup_printf("%d", exit_code);
    container_emit(container, "die", "exitCode", text, NULL);
    emit_network(container, "disconnect");
    emit_volumes(container, false);
}

/* ---- layers ---- */

/* docker rmi -f may take a stopped container's image away; its layers stay while it needs them. A container that removes itself
 * cannot outlive its image: images of running containers are not removed. */
bool container_hold_layers(struct container *container, GError **error)
{
    g_autofree char *holder = g_strconcat(CONTAINER_HOLDER, container->id, NULL);
    if (container->is_volatile || !container->diff_ids[0])
        return true;
    return image_store_hold_layers(container->manager->images, holder, (const char *const *)container->diff_ids, error);
}

void container_release_layers(struct container *container)
{
    g_autofree char *holder = g_strconcat(CONTAINER_HOLDER, container->id, NULL);
    if (!container->is_volatile && container->diff_ids[0])
        image_store_release_layers(container->manager->images, holder, NULL);
}
