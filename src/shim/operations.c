#include "shim/shim-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define WINDOW_MAX 65535

static bool take_signal(const json_t *body, const char *key, int fallback, int *ret, GError **error)
{
    gint64 signal = json_get_int(body, key, fallback);
    if (signal < 0 || signal > SIGRTMAX)
        return error_set(error, TARE_ERROR_INVALID, "invalid signal: %" G_GINT64_FORMAT, signal);
    *ret = (int)signal;
    return true;
}

static bool is_up(const struct shim *shim)
{
    return shim->state == SHIM_RUNNING || shim->state == SHIM_PAUSED;
}

static bool require_container(const struct shim *shim, GError **error)
{
    return shim->container || error_set(error, TARE_ERROR_CONFLICT, "container %s is not running", shim->config->id);
}

static bool require_up(const struct shim *shim, GError **error)
{
    return (is_up(shim) && shim->container) ||
           error_set(error, TARE_ERROR_CONFLICT, "container %s is not running", shim->config->id);
}

static bool op_create(struct shim *shim, struct request *request, GError **error)
{
    if (!shim_container_create(shim, error))
        return false;
    json_object_set_new(request->reply, "pid", json_integer(shim->pid));
    return true;
}

static void add_health(const struct shim *shim, json_t *reply)
{
    json_t *health = health_json(shim);
    if (health)
        json_object_set_new(reply, "health", health);
}

static bool op_start(struct shim *shim, struct request *request, GError **error)
{
    GError *problem = NULL;
    if (shim_container_start(shim, &problem)) {
        json_object_set_new(request->reply, "pid", json_integer(shim->pid));
        json_object_set_new(request->reply, "started_at", json_integer(shim->started_at));
        add_health(shim, request->reply);
        return true;
    }
    if (shim->state == SHIM_CREATED)
        exit_failed(shim, problem->message);
    g_propagate_error(error, problem);
    return false;
}

static void take_attach_options(const json_t *body, struct attach_options *ret)
{
    static const char *const names[] = { "stdin", "stdout", "stderr" };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        ret->use[i] = json_get_bool(body, names[i], false);
    ret->stream = json_get_bool(body, "stream", true);
    ret->logs = json_get_bool(body, "logs", false);
    ret->multiplex = json_get_bool(body, "multiplex", false);
    ret->detach_keys = json_get_string(body, "detach_keys", NULL);
}

static bool op_attach(struct shim *shim, struct request *request, GError **error)
{
    struct attach_options options;
    take_attach_options(request->body, &options);
    if (request->n_fds < 1)
        return error_set(error, TARE_ERROR_INVALID, "attach: no stream was passed");
    if (shim->state == SHIM_PAUSED)
        return error_set(error, TARE_ERROR_CONFLICT, "container %s is paused, unpause the container before attach",
                         shim->config->id);
    if (shim->state == SHIM_RESTARTING)
        return error_set(error, TARE_ERROR_CONFLICT, "container %s is restarting, wait until the container is running",
                         shim->config->id);
    int done_fd = request->n_fds > 1 ? request->fds[1] : -1;
    if (!attach_client_new(&shim->stdio, &options, request->fds[0], done_fd, error))
        return false;
    request->fds[0] = -1;
    if (request->n_fds > 1)
        request->fds[1] = -1;
    return true;
}

static bool op_exec(struct shim *shim, struct request *request, GError **error)
{
    const json_t *body = request->body;
    struct exec_options options = { .exec_id = json_get_string(body, "exec_id", NULL),
                                    .process = json_get_object(body, "process") };
    bool detach = json_get_bool(body, "detach", false);
    pid_t pid;
    take_attach_options(body, &options.attach);
    options.attach.stream = true;
    options.attach.logs = false;
    if (!options.exec_id || !*options.exec_id || !options.process)
        return error_set(error, TARE_ERROR_INVALID, "exec: exec_id and process are needed");
    if (shim->state == SHIM_PAUSED)
        return error_set(error, TARE_ERROR_CONFLICT, "container %s is paused, unpause the container before exec",
                         shim->config->id);
    if (!require_up(shim, error))
        return false;
    int client_fd = !detach && request->n_fds > 0 ? request->fds[0] : -1;
    int done_fd = client_fd >= 0 && request->n_fds > 1 ? request->fds[1] : -1;
    if (!exec_start(shim, &options, client_fd, done_fd, &pid, error))
        return false;
    if (client_fd >= 0)
        request->fds[0] = -1;
    if (done_fd >= 0)
        request->fds[1] = -1;
    json_object_set_new(request->reply, "pid", json_integer(pid));
    return true;
}

static bool op_resize(struct shim *shim, struct request *request, GError **error)
{
    gint64 rows = json_get_int(request->body, "rows", -1), columns = json_get_int(request->body, "cols", -1);
    const char *exec_id = json_get_string(request->body, "exec_id", NULL);
    if (rows < 0 || rows > WINDOW_MAX || columns < 0 || columns > WINDOW_MAX)
        return error_set(error, TARE_ERROR_INVALID, "resize: rows and cols are out of range");
    if (exec_id)
        return exec_resize(shim, exec_id, (unsigned)rows, (unsigned)columns, error);
    return stdio_resize(&shim->stdio, (unsigned)rows, (unsigned)columns, error);
}

static bool op_signal(struct shim *shim, struct request *request, GError **error)
{
    int signal = 0;
    const char *exec_id = json_get_string(request->body, "exec_id", NULL);
    if (!take_signal(request->body, "signal", SIGTERM, &signal, error))
        return false;
    if (exec_id)
        return exec_signal(shim, exec_id, signal, error);
    return shim_container_signal(shim, signal, json_get_bool(request->body, "all", false), error);
}

static bool op_stop(struct shim *shim, struct request *request, GError **error)
{
    int signal = 0;
    gint64 timeout_ms = json_get_int(request->body, "timeout_ms", 10000);
    if (!take_signal(request->body, "signal", shim->config->stop_signal, &signal, error))
        return false;
    request->later = true;
    return stop_begin(shim, request->connection, signal, MIN(timeout_ms, G_MAXINT), error);
}

static bool op_pause(struct shim *shim, struct request *request, GError **error)
{
    return shim_container_pause(shim, true, error);
}

static bool op_resume(struct shim *shim, struct request *request, GError **error)
{
    return shim_container_pause(shim, false, error);
}

static bool op_update(struct shim *shim, struct request *request, GError **error)
{
    const json_t *resources = json_get_object(request->body, "resources"), *restart = json_get_object(request->body, "restart");
    const char *name = json_get_string(request->body, "name", NULL);
    struct restart_policy policy = shim->restart;
    if (restart && !restart_policy_parse(restart, "restart", &policy, error))
        return false;
    if (resources && !shim_container_update(shim, resources, error))
        return false;
    shim->restart = policy;
    if (name) {
        g_free(shim->config->name);
        shim->config->name = g_strdup(name);
    }
    return true;
}

static bool reply_with(struct request *request, const char *key, json_t *value)
{
    if (!value)
        return false;
    json_object_set_new(request->reply, key, value);
    return true;
}

static bool op_stats(struct shim *shim, struct request *request, GError **error)
{
    return require_container(shim, error) && reply_with(request, "stats", runtime_stats(shim->container, error));
}

static bool op_pids(struct shim *shim, struct request *request, GError **error)
{
    return require_container(shim, error) && reply_with(request, "pids", runtime_pids(shim->container, error));
}

json_t *shim_status(struct shim *shim, const char *exec_id)
{
    static const char *const names[] = { "created", "created", "running", "paused", "restarting", "exited" };
    json_t *status = json_pack(
        "{s:s,s:i,s:i,s:I,s:I,s:b,s:s,s:I,s:b,s:o}", "state", names[shim->state], "pid", is_up(shim) ? (int)shim->pid : 0,
        "exit_code", shim->exit_code, "started_at", (json_int_t)shim->started_at, "finished_at", (json_int_t)shim->finished_at,
        "oom_killed", shim->oom_killed, "error", shim->error ? shim->error : "", "restart_count",
        (json_int_t)shim->restart_state.count, "stopped_by_user", shim->stopped_by_user, "execs", exec_status(shim, exec_id));
    add_health(shim, status);
    return status;
}

static bool op_status(struct shim *shim, struct request *request, GError **error)
{
    g_autoptr(json_t) status = shim_status(shim, json_get_string(request->body, "exec_id", NULL));
    json_object_update(request->reply, status);
    return true;
}

static bool op_subscribe(struct shim *shim, struct request *request, GError **error)
{
    server_subscribe(request->connection);
    return op_status(shim, request, error);
}

static bool reply_fd(struct request *request, int fd, const char *what, GError **error)
{
    int copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return error_set(error, TARE_ERROR_NOT_FOUND, "no %s", what);
    if (copy < 0)
        return error_set_errno(error, errno, "%s", what);
    request->reply_fds[request->n_reply_fds++] = copy;
    return true;
}

static bool op_root(struct shim *shim, struct request *request, GError **error)
{
    return require_container(shim, error) && reply_fd(request, runtime_root_fd(shim->container), "root", error);
}

static bool op_fds(struct shim *shim, struct request *request, GError **error)
{
    const struct shim_config *config = shim->config;
    if (strcmp(json_get_string(request->body, "which", ""), "netns") == 0)
        return reply_fd(request, config->netns_fd, "network namespace", error);
    /* One message carries so many; what is beyond them is mounted again by who asks. */
    size_t n = MIN(config->n_lowers, FD_PASS_MAX);
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++)
        ok = reply_fd(request, config->lowers[i], "layer", error);
    json_object_set_new(request->reply, "lowers", json_integer((json_int_t)n));
    return ok;
}

static bool op_quit(struct shim *shim, struct request *request, GError **error)
{
    if (is_up(shim))
        return error_set(error, TARE_ERROR_CONFLICT, "container %s is running", shim->config->id);
    restart_cancel(shim);
    shim_container_destroy(shim);
    stdio_finish(&shim->stdio);
    request->later = true;
    shim->quitting = true;
    shim->quit_connection = request->connection;
    exit_final(shim);
    shim_consider_end(shim);
    return true;
}

static const struct {
    const char *name;
    operation_func func;
} operations[] = {
    { "attach", op_attach }, { "create", op_create }, { "exec", op_exec },     { "fds", op_fds },
    { "pause", op_pause },   { "pids", op_pids },     { "quit", op_quit },     { "resize", op_resize },
    { "resume", op_resume }, { "root", op_root },     { "signal", op_signal }, { "start", op_start },
    { "stats", op_stats },   { "status", op_status }, { "stop", op_stop },     { "subscribe", op_subscribe },
    { "update", op_update },
};

operation_func operation_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(operations); i++)
        if (strcmp(operations[i].name, name) == 0)
            return operations[i].func;
    return NULL;
}
