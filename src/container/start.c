/* docker start, in named phases; a phase that fails has the earlier ones undone in reverse. */
#include "container/container-internal.h"
#include "container/start-internal.h"

#include "base/frame.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/spawn.h"
#include "shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHIM_FDS_FIRST 6

/* ---- layers ---- */

/* The engine's --verify-images, or --security-opt verify=image. */
static bool wants_verification(struct start *start)
{
    g_autoptr(json_t) host_config = container_get_host_config(start->container);
    size_t i;
    json_t *value;
    json_array_foreach(json_get_array(host_config, "SecurityOpt"), i, value)
    {
        const char *text = json_string_value(value);
        if (strcmp(text, "verify=image") == 0 || strcmp(text, "verify:image") == 0)
            return true;
    }
    return start->manager->verify_images;
}

static bool verify_layers(struct start *start, GError **error)
{
    if (!wants_verification(start))
        return true;
    for (char **diff_id = start->container->diff_ids; *diff_id; diff_id++)
        if (!layer_store_verify(start->manager->layers, *diff_id, NULL, error)) {
            g_prefix_error(error, "verification of image %s failed: ",
                           json_get_string(start->container->config, "Image", start->container->image_id));
            return false;
        }
    return true;
}

static bool take_layers(struct start *start, GError **error)
{
    return layer_stack_acquire(start->manager->layers, (const char *const *)start->container->diff_ids, &start->stack, error) &&
           container_make_directories(start->container, start->stack, error);
}

static void drop_layers(struct start *start)
{
    if (start->stack)
        layer_stack_release(start->stack);
    start->stack = NULL;
}

/* ---- mounts and files ---- */

static bool take_mounts(struct start *start, GError **error)
{
    return mounts_check(start->container, error) && devices_check_limits(start->host_config, error) &&
           devices_collect(start->host_config, start->devices, error);
}

static bool take_files(struct start *start, GError **error)
{
    if (start->shared_network)
        return dir_make_run(start->container, error) && files_label(start->container, start->shared_network, error);
    return files_write(start->container, start->endpoint, error) && files_label(start->container, start->container, error);
}

static void drop_files(struct start *start)
{
    files_remove_run(start->container);
}

/* ---- specification ---- */

/* What a step may know and no record. */
static void add_secret_environment(const struct start *start, json_t *config)
{
    json_t *env = json_get_array(config, "Env") ? json_copy(json_get_array(config, "Env")) : json_array();
    for (char **variable = start->container->secret_env; *variable; variable++)
        json_array_append_new(env, json_string_lossy(*variable));
    json_object_set_new(config, "Env", env);
}

/* A container in another's network has its name too. New reference. */
static json_t *config_for_spec(const struct start *start)
{
    const json_t *config = start->container->config;
    if (!start->shared_network && !start->container->secret_env)
        return json_incref((json_t *)config);
    json_t *copy = json_copy((json_t *)config);
    if (start->container->secret_env)
        add_secret_environment(start, copy);
    if (!start->shared_network)
        return copy;
    g_autofree char *hostname = spec_hostname(start->shared_network->id, start->shared_network->config);
    json_object_set_new(copy, "Hostname", json_string(hostname));
    json_object_set_new(copy, "Domainname", json_string(json_get_string(start->shared_network->config, "Domainname", "")));
    return copy;
}

static bool make_spec(struct start *start, GError **error)
{
    struct container *files_of = start->shared_network ? start->shared_network : start->container;
    g_autofree char *run_dir = container_run_dir(files_of);
    g_autofree char *hosts = g_build_filename(run_dir, "hosts", NULL);
    g_autofree char *hostname = g_build_filename(run_dir, "hostname", NULL);
    g_autofree char *resolv = g_build_filename(run_dir, "resolv.conf", NULL);
    g_autofree char *name = container_get_name(start->container);
    g_autoptr(json_t) config = config_for_spec(start);
    const struct spec_input input = {
        .id = start->container->id,
        .name = name,
        .config = config,
        .host_config = start->host_config,
        .mounts = start->container->mounts,
        .hosts_path = hosts,
        .hostname_path = hostname,
        .resolv_path = resolv,
        .cgroup_parent = start->manager->cgroup_parent,
        .shm_path = start->shm_path,
        .network_path = start->host_network ? "" : NULL,
        .ipc_path = start->ipc_path,
        .pid_path = start->pid_path,
        .uts_path = strcmp(json_get_string(start->host_config, "UTSMode", ""), "host") ? NULL : "",
        .default_ulimits = start->manager->default_ulimits,
        .apparmor_profile = apparmor_profile(start->host_config),
        .process_label = container_process_label(start->container),
        .mount_label = container_mount_label(start->container),
        .cgroup_v2 = start->manager->cgroup_v2,
        .devices = (const struct spec_device *)(void *)start->devices->data,
        .n_devices = start->devices->len,
    };
    return spec_build(&input, &start->spec, error);
}

/* ---- shim ---- */

static int hand_over(struct start *start, int fd)
{
    g_array_append_val(start->fds, fd);
    return SHIM_FDS_FIRST + (int)start->fds->len - 1;
}

static json_t *overlay_configuration(struct start *start, json_t *fds)
{
    g_autofree char *state_dir = container_state_dir(start->container);
    g_autofree char *upper = g_build_filename(state_dir, "upper", NULL);
    g_autofree char *work = g_build_filename(state_dir, "work", NULL);
    json_t *overlay = json_pack("{s:s, s:s, s:b}", "upper", upper, "work", work, "volatile", start->container->is_volatile);
    const char *label = container_mount_label(start->container);
    int namespace = -1;
    if (label)
        json_object_set_new(overlay, "label", json_string(label));
    const char *const *paths = layer_stack_paths(start->stack, &namespace);
    if (paths) {
        json_t *list = json_from_strv(paths);
        json_array_append_new(list, json_string(start->manager->init_layer_path));
        json_object_set_new(overlay, "lower_paths", list);
        if (namespace >= 0)
            json_object_set_new(fds, "mountns", json_integer(hand_over(start, namespace)));
        return overlay;
    }
    const int *lowers;
    size_t n = layer_stack_fds(start->stack, &lowers);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(hand_over(start, lowers[i])));
    json_array_append_new(list, json_integer(hand_over(start, start->manager->init_layer_fd)));
    json_object_set_new(fds, "lowers", list);
    return overlay;
}

static json_t *restart_configuration(const json_t *host_config)
{
    const json_t *policy = json_get_object(host_config, "RestartPolicy");
    const char *name = json_get_string(policy, "Name", "");
    return json_pack("{s:s, s:I}", "name", *name ? name : "no", "maximum_retry",
                     (json_int_t)json_get_int(policy, "MaximumRetryCount", 0));
}

/* tare-init's path where the container wants an init, NULL otherwise. */
static bool init_program(struct start *start, char **ret, GError **error)
{
    *ret = NULL;
    if (!json_get_bool(start->host_config, "Init", false))
        return true;
    *ret = start->manager->init_program ? g_strdup(start->manager->init_program) : spawn_find_helper("tare-init", error);
    return *ret;
}

/* The sockets that reserve the published ports; and what the shim needs to serve those of IPv6, or NULL. */
static json_t *hand_over_ports(struct start *start, json_t *fds)
{
    const struct network_endpoint *endpoint = start->endpoint;
    if (endpoint->reserved_fds->len == 0)
        return NULL;
    json_t *sockets = json_array(), *ports = json_array();
    for (guint i = 0; i < endpoint->reserved_fds->len; i++) {
        json_array_append_new(sockets, json_integer(hand_over(start, g_array_index(endpoint->reserved_fds, int, i))));
        json_array_append_new(ports, json_integer(g_array_index(endpoint->reserved_ports, guint16, i)));
    }
    json_object_set_new(fds, "ports", sockets);
    return json_pack("{s:s, s:o}", "address", endpoint->ip, "ports", ports);
}

static json_t *shim_configuration(struct start *start, GError **error)
{
    struct container *container = start->container;
    g_autofree char *name = container_get_name(container);
    g_autofree char *state_dir = container_state_dir(container);
    g_autofree char *run_dir = container_run_dir(container);
    g_autofree char *init = NULL;
    int stop_signal = SIGTERM;
    const char *signal_text = json_get_string(container->config, "StopSignal", "");
    if (*signal_text)
        signal_parse(signal_text, &stop_signal, NULL);
    json_t *log = log_configuration(container, start->host_config, error), *fds = json_object(), *health = NULL;
    if (!log || !init_program(start, &init, error) || !health_configuration(container, start->host_config, &health, error)) {
        json_decref(log);
        json_decref(fds);
        return NULL;
    }
    json_t *overlay = overlay_configuration(start, fds);
    if (start->netns_fd >= 0) {
        start->netns_number = hand_over(start, start->netns_fd);
        json_object_set_new(fds, "netns", json_integer(start->netns_number));
    }
    if (start->seccomp_fd >= 0)
        json_object_set_new(fds, "seccomp", json_integer(hand_over(start, start->seccomp_fd)));
    json_t *relay = start->endpoint ? hand_over_ports(start, fds) : NULL;
    json_t *configuration =
        json_pack("{s:s, s:s, s:O, s:s, s:s, s:o, s:o, s:o, s:b, s:b, s:o, s:b, s:i}", "id", container->id, "name", name, "spec",
                  start->spec, "state_dir", state_dir, "run_dir", run_dir, "overlay", overlay, "fds", fds, "log", log,
                  "open_stdin", json_get_bool(container->config, "OpenStdin", false), "stdin_once",
                  json_get_bool(container->config, "StdinOnce", false), "restart", restart_configuration(start->host_config),
                  "auto_remove", json_get_bool(start->host_config, "AutoRemove", false), "stop_signal", stop_signal);
    if (init)
        json_object_set_new(configuration, "init_path", json_string(init));
    if (health)
        json_object_set_new(configuration, "health", health);
    if (relay)
        json_object_set_new(configuration, "relay", relay);
    return configuration;
}

static pid_t use_spare(struct start *start, int configuration, int listener, int ready)
{
    const int fixed[] = { configuration, listener, ready };
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_array_append_vals(fds, fixed, G_N_ELEMENTS(fixed));
    g_array_append_vals(fds, start->fds->data, start->fds->len);
    return spares_use(start->manager, start->container->id, (const int *)(const void *)fds->data, fds->len);
}

static pid_t execute_shim(struct start *start, int configuration, int listener, int ready, GError **error)
{
    pid_t spare = use_spare(start, configuration, listener, ready);
    if (spare > 0)
        return spare;
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(struct spawn_fd));
    const struct spawn_fd fixed[] = { { STDERR_FILENO, STDERR_FILENO }, { configuration, 3 }, { listener, 4 }, { ready, 5 } };
    g_array_append_vals(fds, fixed, G_N_ELEMENTS(fixed));
    for (guint i = 0; i < start->fds->len; i++) {
        const struct spawn_fd fd = { g_array_index(start->fds, int, i), SHIM_FDS_FIRST + (int)i };
        g_array_append_val(fds, fd);
    }
    /* By our process's table: in the child the number may already mean something else. */
    g_autofree char *program = g_strdup_printf("/proc/%d/fd/%d", (int)getpid(), start->manager->shim_fd);
    const char *const argv[] = { "tare-shim", start->container->id, NULL };
    const struct spawn_options options = { .argv = argv,
                                           .program = program,
                                           .fds = (const struct spawn_fd *)(void *)fds->data,
                                           .n_fds = fds->len,
                                           .new_session = true };
    return spawn_program(&options, error);
}

/* ---- what is asked of it before it can answer ---- */

static bool send_attach(struct start *start, const struct pending_attach *attach)
{
    g_autoptr(json_t) request =
        json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:b}", "op", "attach", "stdin", attach->use_stdin, "stdout", attach->use_stdout,
                  "stderr", attach->use_stderr, "stream", attach->stream, "logs", attach->logs, "multiplex", attach->multiplex);
    if (attach->detach_keys)
        json_object_set_new(request, "detach_keys", json_string(attach->detach_keys));
    const int fds[2] = { attach->connection, attach->done };
    return frame_send(start->connection, request, fds, attach->done >= 0 ? 2 : 1, NULL);
}

/* Clients that attached before the start: the shim serves them from its first byte on. */
static void send_attaches(struct start *start)
{
    g_mutex_lock(&start->container->lock);
    g_autoptr(GPtrArray) attaches = g_steal_pointer(&start->container->attaches);
    start->container->attaches = g_ptr_array_new_with_free_func((GDestroyNotify)pending_attach_free);
    g_mutex_unlock(&start->container->lock);
    for (guint i = 0; i < attaches->len; i++)
        start->n_attaches += send_attach(start, attaches->pdata[i]);
}

/* The socket listened before the shim was there, so that all but the start can be sent at once: each answer that is waited for
 * costs two changes of the process, and on a busy machine each of those a turn. */
static bool send_ahead(struct start *start, const char *socket_path, GError **error)
{
    g_autoptr(json_t) create = json_pack("{s:s}", "op", "create");
    g_autoptr(json_t) subscribe = json_pack("{s:s}", "op", "subscribe");
    start->connection = shim_connect(socket_path, error);
    if (start->connection < 0)
        return false;
    start->events = shim_connect(socket_path, error);
    if (start->events < 0)
        return false;
    send_attaches(start);
    return frame_send(start->events, subscribe, NULL, 0, error) && frame_send(start->connection, create, NULL, 0, error);
}

static bool spawn_shim(struct start *start, GError **error)
{
    g_autoptr(json_t) configuration = shim_configuration(start, error);
    if (!configuration)
        return false;
    g_autofree char *text = json_text(configuration);
    g_autofd int memory = fd_new_sealed("shim", text, strlen(text), error);
    if (memory < 0)
        return false;
    g_autofree char *socket_path = container_socket(start->container);
    g_autofd int listener = shim_listen(socket_path, error);
    int pipe_ends[2];
    if (listener < 0)
        return false;
    if (pipe2(pipe_ends, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "pipe2");
    g_autofd int ready = pipe_ends[0];
    start->shim_pid = execute_shim(start, memory, listener, pipe_ends[1], error);
    fd_close(pipe_ends[1]);
    if (start->shim_pid < 0)
        return false;
    g_autoptr(GError) unsent = NULL;
    bool sent = send_ahead(start, socket_path, &unsent);
    /* Where it could not start, it says why. */
    if (!shim_wait_ready(ready, error))
        return false;
    if (!sent)
        g_propagate_error(error, g_steal_pointer(&unsent));
    return sent;
}

/* A shim whose container does not run ends when told so; one that does not answer is killed. */
static void drop_shim(struct start *start)
{
    if (start->connection >= 0) {
        g_autoptr(json_t) quit = json_pack("{s:s}", "op", "quit");
        if (!shim_request(start->connection, quit, NULL, 0, NULL, NULL, NULL, NULL) && start->shim_pid > 0)
            kill(start->shim_pid, SIGTERM);
    } else if (start->shim_pid > 0) {
        kill(start->shim_pid, SIGKILL);
    }
    fd_clear(&start->connection);
    fd_clear(&start->events);
    if (start->shim_pid > 0)
        spawn_wait(start->shim_pid);
    start->shim_pid = 0;
}

/* A name for the network's namespace, for nsenter and the like: by way of the shim's fd, which stays the same while the container
 * is started again. A wish, not a need: without it all goes on. */
static bool name_sandbox(struct start *start, GError **error)
{
    g_autofree char *name = g_build_filename(start->container->id, CONTAINER_SANDBOX_FILE, NULL);
    g_autofree char *target = start->host_network ? g_strdup_printf("/proc/%d/ns/net", (int)start->shim_pid)
                                                  : g_strdup_printf("/proc/%d/fd/%d", (int)start->shim_pid, start->netns_number);
    if ((!start->host_network && start->netns_number <= 0) || start->shared_network)
        return true;
    unlinkat(start->manager->run_fd, name, 0);
    if (symlinkat(target, start->manager->run_fd, name) < 0)
        log_line(LOG_LEVEL_WARNING, "no name for the network's namespace", "container", start->container->id, "error",
                 error_errno_text(errno), NULL);
    return true;
}

/* ---- attach, create, start ---- */

static bool receive_attaches(struct start *start, GError **error)
{
    for (; start->n_attaches > 0; start->n_attaches--)
        shim_reply(start->connection, NULL, NULL, NULL, NULL); /* one that has gone away does not hinder the start */
    return true;
}

static bool create_container(struct start *start, GError **error)
{
    return shim_reply(start->connection, NULL, NULL, NULL, error);
}

static bool subscribe(struct start *start, GError **error)
{
    return shim_reply(start->events, NULL, NULL, NULL, error);
}

static bool start_container(struct start *start, GError **error)
{
    g_autoptr(json_t) request = json_pack("{s:s}", "op", "start");
    g_autoptr(json_t) reply = NULL;
    if (!shim_request(start->connection, request, NULL, 0, &reply, NULL, NULL, error))
        return false;
    start->pid = (pid_t)json_get_int(reply, "pid", 0);
    start->started_at = json_get_int(reply, "started_at", timestamp_now());
    start->health = json_incref(json_get_object(reply, "health"));
    return true;
}

static bool take_seccomp(struct start *start, GError **error)
{
    return seccomp_filter(start->manager, start->host_config, &start->seccomp_fd, error);
}

/* ---- the sequence ---- */

static const struct phase {
    const char *name;
    bool (*run)(struct start *start, GError **error);
    void (*undo)(struct start *start);
    bool is_runtime; /* its errors are the OCI runtime's, and are worded as such */
} phases[] = {
    { "verification", verify_layers, NULL, false },
    { "layers", take_layers, drop_layers, false },
    { "mounts", take_mounts, NULL, false },
    { "namespaces", start_join_namespaces, NULL, false },
    { "network", start_take_network, start_drop_network, false },
    { "files", take_files, drop_files, false },
    { "shared memory", start_take_shm, NULL, false },
    { "specification", make_spec, NULL, false },
    { "seccomp", take_seccomp, NULL, false },
    { "shim", spawn_shim, drop_shim, false },
    { "sandbox", name_sandbox, NULL, false },
    { "attach", receive_attaches, NULL, false },
    { "create", create_container, NULL, true },
    { "subscribe", subscribe, NULL, false },
    { "start", start_container, NULL, true },
};

static bool run_phases(struct start *start, int *ret_exit_code, GError **error)
{
    g_autoptr(GString) times = g_string_new(NULL);
    gint64 before = g_get_monotonic_time();
    *ret_exit_code = 128;
    for (size_t i = 0; i < G_N_ELEMENTS(phases); i++) {
        GError *inner = NULL;
        bool ok = phases[i].run(start, &inner);
        gint64 now = g_get_monotonic_time();
        g_string_append_printf(times, "%s%s %dus", i ? ", " : "", phases[i].name, (int)(now - before));
        before = now;
        if (ok)
            continue;
        if (phases[i].is_runtime || start_is_plan_error(inner))
            start_word_error(&inner, ret_exit_code);
        g_propagate_error(error, inner);
        for (size_t k = i + 1; k-- > 0;)
            if (phases[k].undo)
                phases[k].undo(start);
        return false;
    }
    log_line(LOG_LEVEL_DEBUG, "started", "container", start->container->id, "phases", times->str, NULL);
    return true;
}

static void start_clear(struct start *start)
{
    json_decref(start->host_config);
    json_decref(start->spec);
    json_decref(start->health);
    g_array_unref(start->fds);
    g_array_unref(start->devices);
    g_free(start->shm_path);
    g_free(start->ipc_path);
    g_free(start->pid_path);
    fd_close(start->netns_fd);
    fd_close(start->seccomp_fd);
    fd_close(start->connection);
    fd_close(start->events);
    if (start->shared_network)
        container_unref(start->shared_network);
    if (start->endpoint)
        network_endpoint_free(start->endpoint);
    drop_layers(start);
}

static void record_success(struct start *start)
{
    struct container *container = start->container;
    g_mutex_lock(&container->lock);
    container->state = (struct container_state){ .status = CONTAINER_RUNNING,
                                                 .pid = start->pid,
                                                 .started_at = start->started_at,
                                                 .finished_at = container->state.finished_at,
                                                 .has_been_started = true };
    g_clear_pointer(&container->error, g_free);
    health_set_locked(container, start->health);
    container->endpoint = start->endpoint ? network_endpoint_to_json(start->endpoint) : NULL;
    container->stack = g_steal_pointer(&start->stack);
    container->shim_pid = start->shim_pid;
    g_mutex_unlock(&container->lock);
}

static void record_failure(struct container *container, int exit_code, const char *message)
{
    g_mutex_lock(&container->lock);
    container->state.exit_code = exit_code;
    g_free(container->error);
    container->error = g_strdup(message);
    g_ptr_array_set_size(container->attaches, 0); /* closes them: their clients see the end */
    g_mutex_unlock(&container->lock);
    record_keep_state(container);
}

bool container_start_locked(struct container *container, GError **error)
{
    struct start start = {
        .container = container,
        .manager = container->manager,
        .host_config = container_get_host_config(container),
        .fds = g_array_new(FALSE, FALSE, sizeof(int)),
        .devices = devices_new(),
        .netns_fd = -1,
        .seccomp_fd = -1,
        .connection = -1,
        .events = -1,
    };
    GError *inner = NULL;
    int exit_code = 128;
    bool ok = runtime_check(start.manager, start.host_config, &inner) && run_phases(&start, &exit_code, &inner);
    if (ok) {
        record_success(&start);
        if (!record_save_state(container, &inner)) {
            /* It runs, and the record is behind: the next tared takes it over from its shim all the same. */
            log_error(inner, "record of a started container", "container", container->id, NULL);
            g_clear_error(&inner);
        }
        container_emit_start(container);
        monitor_watch(container, fd_steal(&start.events));
    } else {
        record_failure(container, exit_code, inner->message);
        g_propagate_error(error, inner);
    }
    start_clear(&start);
    return ok;
}

bool container_start(struct container_manager *manager, const char *name, const char *detach_keys, GError **error)
{
    autocontainer container = container_find(manager, name, error);
    if (!container)
        return false;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&container->operation);
    struct container_state state = container_get_state(container);
    if (state.status == CONTAINER_PAUSED)
        return error_set(error, TARE_ERROR_CONFLICT, "cannot start a paused container, try unpause instead");
    if (container_is_running(&state))
        return error_set(error, TARE_ERROR_NOT_MODIFIED, "container already started");
    if (container->removed || state.status == CONTAINER_REMOVING || state.status == CONTAINER_DEAD)
        return error_set(error, TARE_ERROR_CONFLICT, "container is marked for removal and cannot be started");
    if (container_start_locked(container, error))
        return true;
    g_autoptr(json_t) host_config = container_get_host_config(container);
    if (json_get_bool(host_config, "AutoRemove", false))
        container_destroy_locked(container, true, NULL);
    return false;
}
