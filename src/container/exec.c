/* docker exec: further processes in a running container. They are known while the container runs, as in Docker. */
#include "container/container-internal.h"

#include "shim/shim.h"

#include <string.h>

#define EXECS_MAX 10000      /* of one container, finished ones included; the oldest finished one goes first */
#define EXIT_NOT_STARTED 126 /* what dockerd 20.10 records, whatever kept the command from starting */

struct exec {
    char id[IDENTIFIER_LENGTH + 1];
    json_t *config; /* the request, canonical */
    bool started, running;
    int exit_code; /* valid when started and not running */
    pid_t pid;
    gint64 finished_at;
};

static void exec_free(struct exec *exec)
{
    json_decref(exec->config);
    g_free(exec);
}

static void forget_in_table(struct container_manager *manager, const char *id)
{
    g_mutex_lock(&manager->table_lock);
    g_hash_table_remove(manager->execs, id);
    g_mutex_unlock(&manager->table_lock);
}

void execs_forget(struct container *container)
{
    g_mutex_lock(&container->lock);
    GHashTable *execs = g_steal_pointer(&container->execs);
    g_mutex_unlock(&container->lock);
    if (!execs)
        return;
    GHashTableIter iter;
    void *id;
    g_hash_table_iter_init(&iter, execs);
    while (g_hash_table_iter_next(&iter, &id, NULL))
        forget_in_table(container->manager, id);
    g_hash_table_unref(execs);
}

json_t *exec_ids(struct container *container)
{
    json_t *ids = NULL;
    GHashTableIter iter;
    void *id, *value;
    if (container->execs) {
        g_hash_table_iter_init(&iter, container->execs);
        while (g_hash_table_iter_next(&iter, &id, &value)) {
            const struct exec *exec = value;
            if (exec->started && !exec->running)
                continue;
            if (!ids)
                ids = json_array();
            json_array_append_new(ids, json_string(id));
        }
    }
    return ids ? ids : json_null();
}

/* ---- create ---- */

static bool check_running(struct container *container, const char *name, GError **error)
{
    struct container_state state = container_settled_state(container);
    if (!container_is_running(&state))
        return error_set(error, TARE_ERROR_CONFLICT, "Container %s is not running", container->id);
    if (state.status == CONTAINER_PAUSED)
        return error_set(error, TARE_ERROR_CONFLICT, "Container %s is paused, unpause the container before exec", name);
    if (state.status == CONTAINER_RESTARTING)
        return error_set(error, TARE_ERROR_CONFLICT, "Container %s is restarting, wait until the container is running",
                         container->id);
    return true;
}

static json_t *copy_strings(const json_t *body, const char *key)
{
    const json_t *array = json_get_folded(body, key);
    json_t *copy = json_array(), *value;
    size_t i;
    if (json_is_array(array) && json_array_size(array) <= CONTAINER_BODY_STRINGS_MAX)
        json_array_foreach((json_t *)array, i, value) if (json_is_string(value)) json_array_append(copy, value);
    return copy;
}

/* [rows, columns] of a terminal: both in a range that the kernel's structure has. */
static bool is_console_size(const json_t *size)
{
    bool ok = json_array_size(size) == 2;
    for (size_t i = 0; ok && i < 2; i++) {
        const json_t *number = json_array_get(size, i);
        ok = json_is_integer(number) && json_integer_value(number) > 0 && json_integer_value(number) <= G_MAXUINT16;
    }
    return ok;
}

static json_t *canonical(const json_t *body)
{
    static const char *const flags[] = { "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "Privileged", "Detach" };
    static const char *const texts[] = { "User", "WorkingDir", "DetachKeys" };
    json_t *config = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++)
        json_object_set_new(config, flags[i], json_boolean(json_is_true(json_get_folded(body, flags[i]))));
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        const char *text = json_string_value(json_get_folded(body, texts[i]));
        json_object_set_new(config, texts[i], json_string(text ? text : ""));
    }
    const json_t *size = json_get_folded(body, "ConsoleSize");
    if (is_console_size(size))
        json_object_set(config, "ConsoleSize", (json_t *)size);
    json_object_set_new(config, "Cmd", copy_strings(body, "Cmd"));
    json_object_set_new(config, "Env", copy_strings(body, "Env"));
    return config;
}

/* "exec_create: ls -l ": the arguments, and a blank at the end where there are none, as Docker writes it. */
static char *action_text(const char *action, const json_t *config)
{
    g_auto(GStrv) command = json_string_array(json_get_array(config, "Cmd"));
    g_autofree char *rest = command[0] && command[1] ? g_strjoinv(" ", command + 1) : g_strdup("");
    return g_strdup_printf("%s: %s %s", action, command[0] ? command[0] : "", rest);
}

static void make_room(struct container *container)
{
    GHashTableIter iter;
    void *value;
    struct exec *oldest = NULL;
    if (g_hash_table_size(container->execs) < EXECS_MAX)
        return;
    g_hash_table_iter_init(&iter, container->execs);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct exec *exec = value;
        if (exec->started && !exec->running && (!oldest || exec->finished_at < oldest->finished_at))
            oldest = exec;
    }
    if (oldest)
        g_hash_table_remove(container->execs, oldest->id);
}

bool container_exec_create(struct container_manager *manager, const char *name, const json_t *body, json_t **ret, GError **error)
{
    autocontainer container = container_find(manager, name, error);
    if (!container || !check_running(container, name, error))
        return false;
    g_autoptr(json_t) config = canonical(body);
    if (!json_array_size(json_object_get(config, "Cmd")))
        return error_set(error, TARE_ERROR_INVALID, "No exec command specified");
    const char *keys = json_get_string(config, "DetachKeys", "");
    if (!shim_check_detach_keys(keys, NULL))
        return error_set(error, TARE_ERROR_INVALID, "Invalid escape keys (%s) provided", keys);
    struct exec *exec = g_new0(struct exec, 1);
    identifier_new(exec->id);
    exec->config = json_incref(config);
    g_autofree char *id = g_strdup(exec->id);
    g_mutex_lock(&manager->table_lock);
    g_hash_table_insert(manager->execs, g_strdup(id), g_strdup(container->id));
    g_mutex_unlock(&manager->table_lock);
    g_mutex_lock(&container->lock);
    if (!container->execs)
        container->execs = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)exec_free);
    make_room(container);
    g_hash_table_insert(container->execs, exec->id, exec);
    g_mutex_unlock(&container->lock);
    g_autofree char *action = action_text("exec_create", config);
    container_emit(container, action, "execID", id, NULL);
    *ret = json_pack("{s:s}", "Id", id);
    return true;
}

/* ---- start ---- */

/* The container of an exec id, and a reference to the exec's request. */
static struct container *find_exec(struct container_manager *manager, const char *exec_id, json_t **ret_config, GError **error)
{
    g_mutex_lock(&manager->table_lock);
    g_autofree char *id = g_strdup(g_hash_table_lookup(manager->execs, exec_id));
    g_mutex_unlock(&manager->table_lock);
    autocontainer container = id ? container_find(manager, id, NULL) : NULL;
    if (container) {
        g_mutex_lock(&container->lock);
        const struct exec *exec = container->execs ? g_hash_table_lookup(container->execs, exec_id) : NULL;
        if (exec && ret_config)
            *ret_config = json_incref(exec->config);
        g_mutex_unlock(&container->lock);
        if (exec)
            return g_steal_pointer(&container);
    }
    error_set(error, TARE_ERROR_NOT_FOUND, "No such exec instance: %s", exec_id);
    return NULL;
}

/* The caller holds no lock. Marks it started, once. */
static bool claim(struct container *container, const char *exec_id, bool really, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&container->lock);
    struct exec *exec = container->execs ? g_hash_table_lookup(container->execs, exec_id) : NULL;
    if (!exec)
        return error_set(error, TARE_ERROR_NOT_FOUND, "No such exec instance: %s", exec_id);
    if (exec->running)
        return error_set(error, TARE_ERROR_CONFLICT, "Error: Exec command %s is already running", exec_id);
    if (exec->started)
        return error_set(error, TARE_ERROR_CONFLICT, "Error: Exec command %s has already run", exec_id);
    if (really)
        exec->started = exec->running = true;
    return true;
}

bool container_exec_prepare(struct container_manager *manager, const char *exec_id, const json_t *body, bool *ret_terminal,
                            GError **error)
{
    g_autoptr(json_t) config = NULL;
    autocontainer container = find_exec(manager, exec_id, &config, error);
    if (!container || !check_running(container, container->id, error) || !claim(container, exec_id, false, error))
        return false;
    *ret_terminal = json_get_bool(config, "Tty", false);
    return true;
}

static void record_start(struct container *container, const char *exec_id, pid_t pid)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&container->lock);
    struct exec *exec = container->execs ? g_hash_table_lookup(container->execs, exec_id) : NULL;
    if (exec)
        exec->pid = pid;
}

static void record_end(struct container *container, const char *exec_id, int exit_code)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&container->lock);
    struct exec *exec = container->execs ? g_hash_table_lookup(container->execs, exec_id) : NULL;
    if (!exec)
        return;
    exec->running = false;
    exec->exit_code = exit_code;
    exec->finished_at = timestamp_now();
}

void exec_ended(struct container *container, const char *exec_id, int exit_code)
{
    g_autofree char *text = g_strdup_printf("%d", exit_code);
    record_end(container, exec_id, exit_code);
    container_emit(container, "exec_die", "execID", exec_id, "exitCode", text, NULL);
}

/* Those that outlived an engine: their clients, who talk to the shim, still want to know the end. */
void execs_adopt(struct container *container, const json_t *execs)
{
    const char *id;
    const json_t *status;
    json_object_foreach((json_t *)execs, id, status)
    {
        if (strlen(id) != IDENTIFIER_LENGTH)
            continue;
        struct exec *exec = g_new0(struct exec, 1);
        g_strlcpy(exec->id, id, sizeof exec->id);
        exec->config = canonical(NULL);
        exec->started = true;
        exec->running = json_get_bool(status, "running", false);
        exec->exit_code = (int)json_get_int(status, "exit_code", 0);
        exec->pid = (pid_t)json_get_int(status, "pid", 0);
        g_mutex_lock(&container->manager->table_lock);
        g_hash_table_insert(container->manager->execs, g_strdup(id), g_strdup(container->id));
        g_mutex_unlock(&container->manager->table_lock);
        g_mutex_lock(&container->lock);
        if (!container->execs)
            container->execs = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)exec_free);
        g_hash_table_replace(container->execs, exec->id, exec);
        g_mutex_unlock(&container->lock);
    }
}

/* The client saw the end of its stream, and asks for the status before the monitor has read what the shim said: the shim knows.
 */
static void refresh(struct container *container, const char *exec_id)
{
    g_autoptr(json_t) request = json_pack("{s:s, s:s}", "op", "status", "exec_id", exec_id);
    g_autoptr(json_t) reply = NULL;
    if (!container_call(container, request, &reply, NULL))
        return;
    const json_t *status = json_get_object(json_get_object(reply, "execs"), exec_id);
    if (status && !json_get_bool(status, "running", true))
        record_end(container, exec_id, (int)json_get_int(status, "exit_code", 0));
}

static struct exec exec_copy(struct container *container, const char *exec_id)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&container->lock);
    const struct exec *found = container->execs ? g_hash_table_lookup(container->execs, exec_id) : NULL;
    return found ? *found : (struct exec){ 0 };
}

/* As dockerd words it; users that do not exist it passes on bare. */
static void word_error(GError **error, int *ret_exit_code)
{
    GError *old = *error;
    *ret_exit_code = EXIT_NOT_STARTED;
    if (g_str_has_prefix(old->message, "unable to find "))
        return;
    const char *prefix = "unable to start container process: ";
    const char *bare = g_str_has_prefix(old->message, prefix) ? old->message + strlen(prefix) : old->message;
    *error = NULL;
    /* What the command itself is to blame for is the client's mistake. */
    bool mistake = old->code == TARE_ERROR_INVALID || strstr(bare, "executable file not found") ||
                   strstr(bare, "no such file or directory") || strstr(bare, "permission denied") ||
                   strstr(bare, "is a directory");
    error_set(error, mistake ? TARE_ERROR_INVALID : TARE_ERROR_INTERNAL, "OCI runtime exec failed: exec failed: %s%s: unknown",
              prefix, bare);
    g_error_free(old);
}

static json_t *exec_request(struct container *container, const json_t *config, const char *exec_id, const json_t *body,
                            bool detach, GError **error)
{
    g_autoptr(json_t) host_config = container_get_host_config(container);
    g_autofree char *hostname = spec_hostname(container->id, container->config);
    json_t *process;
    if (!spec_exec_process(container->config, host_config, config, hostname, &process, error))
        return NULL;
    container_label_process(container, host_config, process);
    bool terminal = json_get_bool(config, "Tty", false);
    const json_t *size = json_get_folded(body, "ConsoleSize"); /* the start's, else the one of its making */
    if (!is_console_size(size))
        size = json_object_get(config, "ConsoleSize");
    if (terminal && size)
        json_object_set_new(process, "consoleSize",
                            json_pack("{s:O, s:O}", "height", json_array_get(size, 0), "width", json_array_get(size, 1)));
    json_t *request = json_pack(
        "{s:s, s:s, s:o, s:b, s:b, s:b, s:b, s:b}", "op", "exec", "exec_id", exec_id, "process", process, "stdin",
        !detach && json_get_bool(config, "AttachStdin", false), "stdout", !detach && json_get_bool(config, "AttachStdout", false),
        "stderr", !detach && json_get_bool(config, "AttachStderr", false), "multiplex", !terminal, "detach", detach);
    const char *keys = json_get_string(config, "DetachKeys", "");
    if (*keys)
        json_object_set_new(request, "detach_keys", json_string(keys));
    return request;
}

bool container_exec_start(struct container_manager *manager, const char *exec_id, const json_t *body, int connection,
                          int *done_fd, GError **error)
{
    g_autoptr(json_t) config = NULL;
    g_autoptr(json_t) reply = NULL;
    int pipe_ends[2] = { -1, -1 }, exit_code;
    bool detach = connection < 0;
    autocontainer container = find_exec(manager, exec_id, &config, error);
    if (!container || !check_running(container, container->id, error) || !claim(container, exec_id, true, error))
        return false;
    GError *inner = NULL;
    g_autoptr(json_t) request = exec_request(container, config, exec_id, body, detach, &inner);
    g_autofree char *action = action_text("exec_start", config);
    container_emit(container, action, "execID", exec_id, NULL);
    if (request && done_fd && !detach && pipe2_cloexec(pipe_ends, &inner) < 0)
        g_clear_pointer(&request, json_decref);
    const int fds[2] = { connection, pipe_ends[1] };
    g_autofree char *socket_path = container_socket(container);
    bool ok = request && shim_call(socket_path, request, fds, detach ? 0 : pipe_ends[1] >= 0 ? 2 : 1, &reply, NULL, NULL, &inner);
    fd_close(pipe_ends[1]);
    if (ok) {
        record_start(container, exec_id, (pid_t)json_get_int(reply, "pid", 0));
        if (done_fd)
            *done_fd = pipe_ends[0];
        return true;
    }
    fd_close(pipe_ends[0]);
    word_error(&inner, &exit_code);
    record_end(container, exec_id, exit_code);
    g_propagate_error(error, inner);
    return false;
}

bool container_exec_resize(struct container_manager *manager, const char *exec_id, unsigned rows, unsigned cols, GError **error)
{
    autocontainer container = find_exec(manager, exec_id, NULL, error);
    if (!container)
        return false;
    g_autoptr(json_t) request = json_pack("{s:s, s:s, s:i, s:i}", "op", "resize", "exec_id", exec_id, "rows", rows, "cols", cols);
    return container_call(container, request, NULL, error);
}

bool container_exec_inspect(struct container_manager *manager, const char *exec_id, json_t **ret, GError **error)
{
    g_autoptr(json_t) config = NULL;
    autocontainer container = find_exec(manager, exec_id, &config, error);
    if (!container)
        return false;
    struct exec exec = exec_copy(container, exec_id);
    if (exec.running) {
        refresh(container, exec_id);
        exec = exec_copy(container, exec_id);
    }
    g_autoptr(json_t) command = json_deep_copy(json_get_array(config, "Cmd"));
    json_t *first = json_array_get(command, 0), *entrypoint = first ? json_incref(first) : json_string("");
    json_array_remove(command, 0);
    bool open_stdin = json_get_bool(config, "AttachStdin", false), open_stdout = json_get_bool(config, "AttachStdout", false);
    json_t *process = json_pack("{s:b, s:o, s:O, s:b}", "tty", json_get_bool(config, "Tty", false), "entrypoint", entrypoint,
                                "arguments", command, "privileged", json_get_bool(config, "Privileged", false));
    if (*json_get_string(config, "User", ""))
        json_object_set(process, "user", json_object_get(config, "User"));
    *ret = json_pack("{s:s, s:b, s:o, s:o, s:b, s:b, s:b, s:b, s:s, s:s, s:i}", "ID", exec_id, "Running", exec.running,
                     "ExitCode", exec.started && !exec.running ? json_integer(exec.exit_code) : json_null(), "ProcessConfig",
                     process, "OpenStdin", open_stdin, "OpenStderr", json_get_bool(config, "AttachStderr", false), "OpenStdout",
                     open_stdout, "CanRemove", exec.started && !exec.running, "ContainerID", container->id, "DetachKeys",
                     json_get_string(config, "DetachKeys", ""), "Pid", (int)exec.pid);
    return true;
}
