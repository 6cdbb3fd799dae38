/* docker attach: the client's connection goes to the shim, at once where the container runs, else when it is started. */
#include "container/container-internal.h"

#include "shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define ATTACHES_MAX 256 /* that wait for the start of one container */

int pipe2_cloexec(int ends[2], GError **error)
{
    if (pipe2(ends, O_CLOEXEC) == 0)
        return 0;
    error_set_errno(error, errno, "pipe2");
    ends[0] = ends[1] = -1;
    return -1;
}

/* Only what was logged so far: nobody needs to be alive for that. */
static bool write_logs(struct container *container, const struct container_attach_options *options, int connection,
                       GError **error)
{
    struct fd_sink sink;
    const struct container_logs_options logs = {
        .use_stdout = options->use_stdout, .use_stderr = options->use_stderr, .multiplex = options->multiplex, .tail = -1
    };
    fd_sink_init(&sink, connection, "attach");
    return container_logs(container->manager, container->id, &logs, &sink.sink, NULL, error);
}

static bool queue_attach(struct container *container, const struct container_attach_options *options, int connection, int done,
                         GError **error)
{
    struct pending_attach *attach = g_new0(struct pending_attach, 1);
    attach->connection = fcntl(connection, F_DUPFD_CLOEXEC, 3);
    attach->done = done;
    attach->use_stdin = options->use_stdin;
    attach->use_stdout = options->use_stdout;
    attach->use_stderr = options->use_stderr;
    attach->stream = options->stream;
    attach->logs = options->logs;
    attach->multiplex = options->multiplex;
    attach->detach_keys = g_strdup(options->detach_keys);
    g_mutex_lock(&container->lock);
    bool room = container->attaches->len < ATTACHES_MAX && !container->removed && attach->connection >= 0;
    if (room)
        g_ptr_array_add(container->attaches, attach);
    g_mutex_unlock(&container->lock);
    if (room)
        return true;
    attach->done = -1;
    pending_attach_free(attach);
    return error_set(error, TARE_ERROR_CONFLICT, "too many clients wait for the start of container %s", container->id);
}

static bool send_attach(struct container *container, const struct container_attach_options *options, int connection, int done,
                        GError **error)
{
    g_autofree char *socket_path = container_socket(container);
    g_autoptr(json_t) request = json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:b}", "op", "attach", "stdin", options->use_stdin,
                                          "stdout", options->use_stdout, "stderr", options->use_stderr, "stream", options->stream,
                                          "logs", options->logs, "multiplex", options->multiplex);
    if (options->detach_keys && *options->detach_keys)
        json_object_set_new(request, "detach_keys", json_string(options->detach_keys));
    const int fds[2] = { connection, done };
    return shim_call(socket_path, request, fds, done >= 0 ? 2 : 1, NULL, NULL, NULL, error);
}

static bool attach(struct container *container, const struct container_attach_options *options, int connection, int done,
                   bool *ret_queued, GError **error)
{
    /* Not while it is being started: the start takes over who waits, and only then can the shim be asked. */
    g_autoptr(GMutexLocker) operation = g_mutex_locker_new(&container->operation);
    struct container_state state = container_get_state(container);
    *ret_queued = false;
    if (state.status == CONTAINER_PAUSED)
        return error_set(error, TARE_ERROR_CONFLICT, "Container %s is paused, unpause the container before attach.",
                         container->id);
    if (state.status == CONTAINER_RESTARTING)
        return error_set(error, TARE_ERROR_CONFLICT, "Container %s is restarting, wait until the container is running",
                         container->id);
    /* No start can come between: it would need the lock. */
    if (options->begin && !options->begin(options->begin_user, error))
        return false;
    if (state.status == CONTAINER_RUNNING)
        return send_attach(container, options, connection, done, error);
    if (!options->stream)
        return !options->logs || !state.has_been_started || write_logs(container, options, connection, error);
    *ret_queued = true;
    return queue_attach(container, options, connection, done, error);
}

bool container_attach(struct container_manager *manager, const char *name, const struct container_attach_options *options,
                      int connection, int *done_fd, GError **error)
{
    int ends[2] = { -1, -1 };
    bool queued;
    autocontainer container = container_find(manager, name, error);
    if (!container || !shim_check_detach_keys(options->detach_keys, error))
        return false;
    if (done_fd && pipe2_cloexec(ends, error) < 0)
        return false;
    container_emit(container, "attach", NULL);
    if (!attach(container, options, connection, ends[1], &queued, error)) {
        fd_close(ends[0]);
        fd_close(ends[1]);
        return false;
    }
    if (!queued)
        fd_close(ends[1]);
    if (done_fd)
        *done_fd = ends[0];
    return true;
}
