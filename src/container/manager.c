/* Opening and closing the container manager. */
#include "container/container-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#ifndef CGROUP2_SUPER_MAGIC
#define CGROUP2_SUPER_MAGIC 0x63677270
#endif

/* The built-in one under its own name, and under those by which requests for Docker's default come. */
static const char *const runtimes[] = { "tare", "runc", "io.containerd.runc.v2", "io.containerd.runtime.v1.linux", NULL };

const char *const *container_runtime_names(void)
{
    return runtimes;
}

bool runtime_check(const struct container_manager *manager, const json_t *host_config, GError **error)
{
    const char *name = json_get_string(host_config, "Runtime", "");
    if (!*name && manager->default_runtime)
        name = manager->default_runtime;
    return !*name || g_strv_contains(runtimes, name) ||
           error_set(error, TARE_ERROR_INVALID, "Unknown runtime specified %s", name);
}

/* The shim runs from a sealed copy, so that nothing in a container can reach the host's executable through /proc/PID/exe. */
static bool open_shim(struct container_manager *manager, GError **error)
{
    g_autofree char *found = manager->shim_program ? NULL : spawn_find_helper("tare-shim", error);
    const char *program = manager->shim_program ? manager->shim_program : found;
    if (!program)
        return false;
    g_autofd int from = open(program, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return error_set_errno(error, errno, "open %s", program);
    g_autofd int memory = memfd_create("tare-shim", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (memory < 0 && errno == EINVAL) /* kernels before 6.3 know no MFD_EXEC: executable is their default */
        memory = memfd_create("tare-shim", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory < 0)
        return error_set_errno(error, errno, "memfd_create");
    if (!fd_copy(from, memory, -1, NULL, error))
        return false;
    if (fcntl(memory, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        return error_set_errno(error, errno, "seal %s", program);
    manager->shim_fd = fd_steal(&memory);
    return true;
}

static bool open_directories(struct container_manager *manager, GError **error)
{
    manager->containers_dir = g_build_filename(manager->data_root, "containers", NULL);
    manager->run_dir = g_build_filename(manager->run_root, "containers", NULL);
    manager->containers_fd = dir_make_path(manager->containers_dir, 0700, error);
    if (manager->containers_fd < 0)
        return false;
    dir_spread(manager->containers_fd);
    manager->run_fd = dir_make_path(manager->run_dir, 0700, error);
    return manager->run_fd >= 0;
}

static bool host_has_cgroup_v2(void)
{
    struct statfs fs;
    return statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

static void close_stored_fd(gpointer stored)
{
    fd_close(GPOINTER_TO_INT(stored) - 1);
}

static char *without_slash(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    return g_strndup(path, length);
}

static struct container_manager *manager_new(const struct container_manager_options *options)
{
    struct container_manager *manager = g_new0(struct container_manager, 1);
    manager->database = options->database;
    manager->layers = options->layers;
    manager->images = options->images;
    manager->networks = options->networks;
    manager->volumes = options->volumes;
    manager->events = options->events;
    manager->data_root = without_slash(options->data_root);
    manager->run_root = without_slash(options->run_root);
    manager->shim_program = g_strdup(options->shim_program);
    manager->init_program = g_strdup(options->init_program);
    manager->cgroup_parent = g_strdup(options->cgroup_parent ? options->cgroup_parent : "tare");
    manager->default_runtime = g_strdup(options->default_runtime);
    manager->default_shm_size = g_strdup(options->default_shm_size);
    manager->default_ulimits = json_incref(options->default_ulimits);
    manager->log_config = json_incref(options->log_config);
    manager->containers_fd = manager->run_fd = manager->init_layer_fd = manager->shim_fd = -1;
    manager->cgroup_v2 = host_has_cgroup_v2();
    manager->by_id = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)container_unref);
    manager->by_name = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    manager->execs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    manager->seccomp = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, close_stored_fd);
    g_mutex_init(&manager->table_lock);
    g_mutex_init(&manager->unpack_lock);
    g_mutex_init(&manager->seccomp_lock);
    manager->network_ids = json_object();
    g_autoptr(json_t) networks = manager->networks ? network_list(manager->networks) : NULL;
    size_t i;
    json_t *network;
    json_array_foreach(networks, i, network)
        json_object_set(manager->network_ids, json_get_string(network, "Name", ""), json_object_get(network, "Id"));
    return manager;
}

bool container_manager_open(const struct container_manager_options *options, struct container_manager **ret, GError **error)
{
    struct container_manager *manager = manager_new(options);
    manager->init_layer_fd = -1;
    manager->host_has_selinux = selinux_is_there();
    manager->selinux = options->selinux ? selinux_open() : NULL;
    if (!open_directories(manager, error) || !open_shim(manager, error) || !records_migrate(manager->database, error) ||
        !init_layer_open(manager, error) || !records_load(manager, error) || !monitor_open(manager, error) ||
        !containers_recover(manager, error)) {
        container_manager_close(manager);
        return false;
    }
    manager->verify_images = options->verify_images;
    spares_open(manager, options->n_spares);
    image_store_set_user_check(manager->images, container_image_users, manager);
    *ret = manager;
    return true;
}

/* The groups above the containers', where none is left in them. */
static void remove_cgroup_parent(const struct container_manager *manager)
{
    static const char *const mount_point = "/sys/fs/cgroup";
    g_autoptr(GDir) directory = g_dir_open(mount_point, 0, NULL);
    g_autofree char *unified = g_build_filename(mount_point, manager->cgroup_parent, NULL);
    if (!*manager->cgroup_parent)
        return;
    if (manager->cgroup_v2)
        rmdir(unified);
    for (const char *name; directory && !manager->cgroup_v2 && (name = g_dir_read_name(directory));) {
        g_autofree char *path = g_build_filename(mount_point, name, manager->cgroup_parent, NULL);
        rmdir(path);
    }
}

void container_manager_close(struct container_manager *manager)
{
    if (!manager)
        return;
    if (manager->unpacker)
        g_thread_join(manager->unpacker);
    if (manager->starter)
        g_thread_join(manager->starter);
    spares_close(manager);
    monitor_close(manager);
    remove_cgroup_parent(manager);
    image_store_set_user_check(manager->images, NULL, NULL);
    g_hash_table_unref(manager->by_id);
    selinux_free(manager->selinux);
    g_hash_table_unref(manager->by_name);
    g_hash_table_unref(manager->execs);
    g_hash_table_unref(manager->seccomp);
    fd_close(manager->containers_fd);
    fd_close(manager->run_fd);
    fd_close(manager->init_layer_fd);
    fd_close(manager->shim_fd);
    json_decref(manager->default_ulimits);
    json_decref(manager->log_config);
    json_decref(manager->network_ids);
    char *const texts[] = { manager->data_root,        manager->run_root,       manager->containers_dir, manager->run_dir,
                            manager->shim_program,     manager->init_program,   manager->cgroup_parent,  manager->default_runtime,
                            manager->default_shm_size, manager->init_layer_path };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
        g_free(texts[i]);
    g_mutex_clear(&manager->table_lock);
    g_mutex_clear(&manager->unpack_lock);
    g_mutex_clear(&manager->seccomp_lock);
    g_free(manager);
}

/* ---- for others ---- */

void container_image_users(void *user, const char *image_id, char **ret_running, char **ret_stopped)
{
    struct container_manager *manager = user;
    g_autoptr(GPtrArray) all = table_snapshot_packed(manager);
    *ret_running = *ret_stopped = NULL;
    for (guint i = 0; i < all->len; i++) {
        struct container *container = all->pdata[i];
        if (strcmp(container->image_id, image_id))
            continue;
        struct container_state state = container_get_state(container);
        char **slot = container_is_running(&state) ? ret_running : ret_stopped;
        if (!*slot)
            *slot = g_strdup(container->id);
    }
}

void container_manager_counts(struct container_manager *manager, int *ret_running, int *ret_paused, int *ret_stopped)
{
    g_autoptr(GPtrArray) all = table_snapshot(manager);
    *ret_running = *ret_paused = *ret_stopped = 0;
    for (guint i = 0; i < all->len; i++) {
        struct container_state state = container_get_state(all->pdata[i]);
        if (state.status == CONTAINER_PAUSED)
            ++*ret_paused;
        else if (container_is_running(&state))
            ++*ret_running;
        else
            ++*ret_stopped;
    }
}
