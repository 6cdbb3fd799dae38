/* GET /containers/{id}/json: the shape of Docker 20.10, and the newer members by the request's version. */
#include "container/container-internal.h"

#include "base/measure.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static void set_time(json_t *object, const char *key, gint64 ns)
{
    char text[TIMESTAMP_ROOM];
    timestamp_format(ns, text);
    json_object_set_new(object, key, json_string(text));
}

/* The caller holds the container's lock. */
static json_t *state_object(const struct container *container)
{
    const struct container_state *state = &container->state;
    bool running = container_is_running(state);
    json_t *object =
        json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:i, s:i, s:s}", "Status", container_status_name(state->status), "Running",
                  running, "Paused", state->status == CONTAINER_PAUSED, "Restarting", state->status == CONTAINER_RESTARTING,
                  "OOMKilled", state->oom_killed, "Dead", state->status == CONTAINER_DEAD, "Pid", running ? (int)state->pid : 0,
                  "ExitCode", state->exit_code, "Error", container->error ? container->error : "");
    set_time(object, "StartedAt", state->started_at);
    set_time(object, "FinishedAt", state->finished_at);
    if (container->health)
        json_object_set(object, "Health", container->health);
    return object;
}

static void set_path_and_arguments(json_t *object, const json_t *config)
{
    json_t *entrypoint = json_get_array(config, "Entrypoint"), *cmd = json_get_array(config, "Cmd"), *arguments = json_array();
    if (entrypoint)
        json_array_extend(arguments, entrypoint);
    if (cmd)
        json_array_extend(arguments, cmd);
    json_t *path = json_array_size(arguments) ? json_incref(json_array_get(arguments, 0)) : json_string("");
    json_array_remove(arguments, 0);
    json_object_set_new(object, "Path", path);
    json_object_set_new(object, "Args", arguments);
}

static void set_paths(json_t *object, struct container *container, bool started)
{
    g_autofree char *run = container_run_dir(container);
    static const struct {
        const char *key, *file;
    } files[] = { { "ResolvConfPath", "resolv.conf" }, { "HostnamePath", "hostname" }, { "HostsPath", "hosts" } };
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(run, files[i].file, NULL);
        json_object_set_new(object, files[i].key, json_string(started ? path : ""));
    }
    g_autofree char *log = container_log_path(container);
    const char *driver = json_get_string(json_get_object(container->host_config, "LogConfig"), "Type", "");
    json_object_set_new(object, "LogPath", json_string(started && strcmp(driver, "none") ? log : ""));
}

static json_t *graph_driver(struct container *container)
{
    g_autofree char *state_dir = container_state_dir(container);
    g_autofree char *upper = g_build_filename(state_dir, "upper", NULL);
    g_autofree char *work = g_build_filename(state_dir, "work", NULL);
    return json_pack("{s:{s:s, s:s}, s:s}", "Data", "UpperDir", upper, "WorkDir", work, "Name", "tare");
}

/* Bytes in the upper directory, and with the image's below them. */
bool container_sizes(struct container *container, guint64 *ret_rw, guint64 *ret_root)
{
    g_autofree char *name = g_strdup_printf("%s/upper", container->id);
    struct measure upper;
    measure_tree(container->manager->containers_fd, name, &upper);
    *ret_rw = *ret_root = upper.content_bytes;
    for (char **diff_id = container->diff_ids; *diff_id; diff_id++) {
        struct layer_info info;
        if (layer_store_info(container->manager->layers, *diff_id, &info, NULL))
            *ret_root += info.content_bytes;
    }
    return true;
}

static void adjust_to_version(json_t *object, unsigned minor)
{
    json_t *settings = json_object_get(object, "NetworkSettings"), *host_config = json_object_get(object, "HostConfig");
    if (minor >= 45) { /* gone in 1.45 and later: what they had belongs to Networks */
        static const char *const gone[] = { "KernelMemory", "KernelMemoryTCP" };
        for (size_t i = 0; i < G_N_ELEMENTS(gone); i++)
            json_object_del(host_config, gone[i]);
    }
    if (minor >= 44) {
        const char *name;
        json_t *network;
        json_object_foreach(json_object_get(settings, "Networks"), name, network) if (!json_object_get(network, "DNSNames"))
            json_object_set_new(network, "DNSNames", json_null());
    }
}

bool container_inspect(struct container_manager *manager, const char *name, bool size, unsigned api_version, json_t **ret,
                       GError **error)
{
    autocontainer container = container_find(manager, name, error);
    if (!container)
        return false;
    g_autoptr(json_t) object = json_object();
    g_autoptr(json_t) host_config = container_get_host_config(container);
    json_object_set_new(object, "Id", json_string(container->id));
    set_time(object, "Created", container->created_ns);
    set_path_and_arguments(object, container->config);
    g_mutex_lock(&container->lock);
    json_object_set_new(object, "State", state_object(container));
    g_autofree char *own_name = g_strconcat("/", container->name, NULL);
    int restart_count = container->state.restart_count;
    bool started = container->state.has_been_started;
    json_t *execs = exec_ids(container);
    g_mutex_unlock(&container->lock);
    json_object_set_new(object, "Image", json_string(container->image_id));
    set_paths(object, container, started);
    json_object_set_new(object, "Name", json_string(own_name));
    json_object_set_new(object, "RestartCount", json_integer(restart_count));
    json_object_set_new(object, "Driver", json_string("tare"));
    json_object_set_new(object, "Platform", json_string("linux"));
    json_object_set_new(object, "MountLabel", json_string(container->mount_label ? container->mount_label : ""));
    json_object_set_new(object, "ProcessLabel", json_string(container->process_label ? container->process_label : ""));
    const char *profile = apparmor_profile(host_config);
    json_object_set_new(object, "AppArmorProfile", json_string(profile ? profile : ""));
    json_object_set_new(object, "ExecIDs", execs);
    g_autoptr(json_t) shown_config = json_deep_copy(host_config);
    if (!*json_get_string(shown_config, "Runtime", ""))
        json_object_set_new(shown_config, "Runtime", json_string(manager->default_runtime ? manager->default_runtime : "tare"));
    json_object_set(object, "HostConfig", shown_config);
    json_object_set_new(object, "GraphDriver", graph_driver(container));
    if (size) {
        guint64 rw, root;
        container_sizes(container, &rw, &root);
        json_object_set_new(object, "SizeRw", json_integer((json_int_t)rw));
        json_object_set_new(object, "SizeRootFs", json_integer((json_int_t)root));
    }
    json_object_set_new(object, "Mounts", mounts_public(container->mounts));
    json_object_set(object, "Config", container->config);
    json_object_set_new(object, "NetworkSettings", network_settings(container, host_config, false));
    adjust_to_version(object, api_version % 100);
    *ret = g_steal_pointer(&object);
    return true;
}

bool container_has_terminal(struct container_manager *manager, const char *name, bool *ret, GError **error)
{
    autocontainer container = container_find(manager, name, error);
    if (!container)
        return false;
    *ret = json_get_bool(container->config, "Tty", false);
    return true;
}
