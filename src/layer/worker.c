#include "layer/layer-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const char *find_program(struct layer_store *store, GError **error)
{
    g_mutex_lock(&store->publish);
    if (!store->ingest_program)
        store->ingest_program = spawn_find_helper("tare-ingest", error);
    const char *program = store->ingest_program;
    g_mutex_unlock(&store->publish);
    return program;
}

bool worker_start(struct layer_store *store, const char *const *arguments, const struct spawn_fd *fds, size_t n_fds,
                  const char *who, struct worker *ret, GError **error)
{
    const char *program = find_program(store, error);
    if (!program)
        return false;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "pipe");
    g_autofd int report = ends[0], theirs = ends[1];

    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_ptr_array_add(argv, (gpointer)program);
    for (; *arguments; arguments++)
        g_ptr_array_add(argv, (gpointer)*arguments);
    g_ptr_array_add(argv, NULL);
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(struct spawn_fd));
    g_array_append_vals(all, fds, (guint)n_fds);
    struct spawn_fd report_fd = { theirs, WORKER_FD_REPORT };
    g_array_append_val(all, report_fd);

    struct spawn_options options = {
        .argv = (const char *const *)argv->pdata,
        .fds = (const struct spawn_fd *)(void *)all->data,
        .n_fds = all->len,
        .new_session = true,
    };
    pid_t pid = spawn_program(&options, error);
    if (pid < 0)
        return false;
    *ret = (struct worker){ .pid = pid, .report = fd_steal(&report), .who = who };
    return true;
}

void worker_kill(const struct worker *worker)
{
    if (worker->pid > 0)
        kill(worker->pid, SIGKILL);
}

void worker_clear(struct worker *worker)
{
    worker_kill(worker);
    if (worker->pid > 0)
        spawn_wait(worker->pid);
    fd_clear(&worker->report);
    worker->pid = 0;
}

bool worker_finish(struct worker *worker, struct cancel *cancel, int timeout_ms, guint64 ret_values[WORKER_REPORT_VALUES],
                   GError **error)
{
    bool ok = worker_report_receive(worker->report, worker->who, cancel, timeout_ms, ret_values, error);
    /* It has said all that it will be asked: not even its exit status is of interest, so nothing waits for it. */
    worker_clear(worker);
    return ok;
}
