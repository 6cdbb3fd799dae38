#include "shim/shim-internal.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

struct exec_session {
    struct shim *shim;
    char *id;
    struct stdio stdio;
    int pidfd;
    struct loop_watch *watch;
    struct loop_timer *drain_timer;
    pid_t pid;
    bool is_running;
    int exit_code;
};

static void close_session(struct exec_session *session)
{
    g_clear_pointer(&session->drain_timer, loop_timer_free);
    g_clear_pointer(&session->watch, loop_watch_free);
    fd_clear(&session->pidfd);
    stdio_clear(&session->stdio);
}

static void session_free(gpointer data)
{
    struct exec_session *session = data;
    close_session(session);
    g_free(session->id);
    g_free(session);
}

void exec_list_init(struct shim *shim)
{
    shim->execs = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, session_free);
    g_queue_init(&shim->finished_execs);
}

void exec_list_clear(struct shim *shim)
{
    g_clear_pointer(&shim->execs, g_hash_table_unref);
    g_queue_clear(&shim->finished_execs);
}

/* Its streams are at an end; its status is kept, with those of the last EXEC_FINISHED_KEPT. */
static void finish(struct exec_session *session)
{
    struct shim *shim = session->shim;
    close_session(session);
    g_queue_push_tail(&shim->finished_execs, session);
    if (shim->finished_execs.length > EXEC_FINISHED_KEPT) {
        struct exec_session *oldest = g_queue_pop_head(&shim->finished_execs);
        g_hash_table_remove(shim->execs, oldest->id);
    }
    shim_consider_end(shim);
}

static void on_drained(void *user)
{
    finish(user);
}

static void on_drain_timeout(void *user)
{
    struct exec_session *session = user;
    session->drain_timer = NULL;
    finish(session);
}

static void on_process_end(void *user, uint32_t events)
{
    struct exec_session *session = user;
    session->exit_code = exit_reap(session->pidfd);
    session->is_running = false;
    g_clear_pointer(&session->watch, loop_watch_free);
    bool at_end = stdio_drain(&session->stdio);
    server_emit(session->shim,
                json_pack("{s:s,s:s,s:i}", "event", "exec-exit", "exec_id", session->id, "exit_code", session->exit_code));
    if (at_end) {
        finish(session);
        return;
    }
    /* Children that it left hold its outputs. */
    session->stdio.at_end = on_drained;
    session->stdio.user = session;
    session->drain_timer = loop_timer_new(session->shim->loop, SHIM_DRAIN_MS, on_drain_timeout, session);
}

static struct exec_session *session_new(struct shim *shim, const struct exec_options *options, bool has_client, GError **error)
{
    const bool *use = options->attach.use;
    struct exec_session *session = g_new0(struct exec_session, 1);
    session->shim = shim;
    session->id = g_strdup(options->exec_id);
    session->pidfd = -1;
    /* Streams that nobody is attached to are /dev/null. */
    struct stdio_options streams = { .exec_id = session->id,
                                     .terminal = json_get_bool(options->process, "terminal", false),
                                     .open_stdin = has_client && use[0],
                                     .stdin_once = true,
                                     .want_stdout = has_client && use[1],
                                     .want_stderr = has_client && use[2] };
    if (stdio_init(&session->stdio, shim, &streams, NULL, error))
        return session;
    session_free(session);
    return NULL;
}

static bool run(struct exec_session *session, const json_t *process, GError **error)
{
    struct runtime_exec_options streams = { .stdio = { session->stdio.theirs[0], session->stdio.theirs[1],
                                                       session->stdio.theirs[2] } };
    struct runtime_process started;
    if (!runtime_exec(session->shim->container, process, &streams, &started, error))
        return false;
    session->pid = started.pid;
    session->pidfd = started.pidfd;
    session->is_running = true;
    stdio_started(&session->stdio, started.terminal_fd);
    session->watch = loop_watch_new(session->shim->loop, started.pidfd, EPOLLIN, on_process_end, session);
    return session->watch || error_set_errno(error, errno, "exec: watch the process");
}

bool exec_start(struct shim *shim, const struct exec_options *options, int client_fd, int done_fd, pid_t *ret_pid, GError **error)
{
    struct detach_keys keys;
    if (g_hash_table_contains(shim->execs, options->exec_id))
        return error_set(error, TARE_ERROR_CONFLICT, "exec command %s has already run", options->exec_id);
    if (exec_n_open(shim) >= EXEC_RUNNING_MAX)
        return error_set(error, TARE_ERROR_UNAVAILABLE, "too many exec commands are running");
    /* What can fail goes before the process: the client's stream stays whole then, for the caller's message. */
    if (!detach_keys_parse(options->attach.detach_keys, &keys, error))
        return false;
    struct exec_session *session = session_new(shim, options, client_fd >= 0, error);
    if (!session)
        return false;
    bool ok = run(session, options->process, error) &&
              (client_fd < 0 || attach_client_new(&session->stdio, &options->attach, client_fd, done_fd, error));
    if (!ok) {
        if (session->is_running && syscall(SYS_pidfd_send_signal, session->pidfd, SIGKILL, NULL, 0) == 0)
            exit_reap(session->pidfd);
        session_free(session);
        return false;
    }
    g_hash_table_insert(shim->execs, session->id, session);
    *ret_pid = session->pid;
    return true;
}

static struct exec_session *find(struct shim *shim, const char *exec_id, GError **error)
{
    struct exec_session *session = g_hash_table_lookup(shim->execs, exec_id);
    if (!session)
        error_set(error, TARE_ERROR_NOT_FOUND, "No such exec instance: %s", exec_id);
    else if (!session->is_running)
        error_set(error, TARE_ERROR_CONFLICT, "exec command %s is not running", exec_id);
    return session && session->is_running ? session : NULL;
}

bool exec_resize(struct shim *shim, const char *exec_id, unsigned rows, unsigned columns, GError **error)
{
    struct exec_session *session = find(shim, exec_id, error);
    return session && stdio_resize(&session->stdio, rows, columns, error);
}

bool exec_signal(struct shim *shim, const char *exec_id, int signal, GError **error)
{
    struct exec_session *session = find(shim, exec_id, error);
    if (!session)
        return false;
    return syscall(SYS_pidfd_send_signal, session->pidfd, signal, NULL, 0) == 0 ||
           error_set_errno(error, errno, "signal exec command %s", exec_id);
}

json_t *exec_status(struct shim *shim, const char *exec_id)
{
    json_t *status = json_object();
    GHashTableIter iterator;
    gpointer key, value;
    g_hash_table_iter_init(&iterator, shim->execs);
    while (g_hash_table_iter_next(&iterator, &key, &value)) {
        const struct exec_session *session = value;
        if (exec_id && strcmp(exec_id, key) != 0)
            continue;
        json_object_set_new(status, key,
                            json_pack("{s:b,s:i,s:i}", "running", session->is_running, "pid", (int)session->pid, "exit_code",
                                      session->exit_code));
    }
    return status;
}

size_t exec_n_open(const struct shim *shim)
{
    return shim->execs ? g_hash_table_size(shim->execs) - shim->finished_execs.length : 0;
}

bool exec_knows(const struct shim *shim, pid_t pid)
{
    GHashTableIter iterator;
    gpointer value;
    g_hash_table_iter_init(&iterator, shim->execs);
    while (g_hash_table_iter_next(&iterator, NULL, &value)) {
        const struct exec_session *session = value;
        if (session->is_running && session->pid == pid)
            return true;
    }
    return false;
}
