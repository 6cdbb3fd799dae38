/* A few shims that wait for containers to come (src/shim/spare.c), kept in stock by a thread of their own. */
#include "container/container-internal.h"

#include "base/spawn.h"
#include "shim/shim.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Starts that follow each other are not disturbed by the replacement of what they took. */
#define CALM_US 20000
#define PATIENCE_US 200000

struct spare {
    pid_t pid;
    int socket;
};

struct spares {
    struct container_manager *manager;
    unsigned size;
    GMutex lock;
    GCond changed;
    GArray *stock; /* of struct spare, the oldest first: it is ready */
    GThread *filler;
    bool stopping;
    unsigned failures;
    gint64 taken_at; /* the last one; monotonic */
};

static bool make_spare(struct container_manager *manager, struct spare *ret)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return false;
    const struct spawn_fd fds[] = { { STDERR_FILENO, STDERR_FILENO }, { ends[1], 3 } };
    g_autofree char *program = g_strdup_printf("/proc/%d/fd/%d", (int)getpid(), manager->shim_fd);
    const char *const argv[] = { "tare-shim", SHIM_SPARE_ID, NULL };
    const struct spawn_options options = {
        .argv = argv, .program = program, .fds = fds, .n_fds = G_N_ELEMENTS(fds), .new_session = true
    };
    pid_t pid = spawn_program(&options, NULL);
    fd_close(ends[1]);
    if (pid < 0) {
        fd_close(ends[0]);
        return false;
    }
    *ret = (struct spare){ .pid = pid, .socket = ends[0] };
    return true;
}

static gpointer fill(gpointer data)
{
    struct spares *spares = data;
    /* Or it would take the processor from the start that has just taken one. */
    const struct sched_param no_priority = { 0 };
    sched_setscheduler(0, SCHED_BATCH, &no_priority);
    gint64 wanted_at = 0;
    g_mutex_lock(&spares->lock);
    while (!spares->stopping) {
        if (spares->stock->len >= spares->size || spares->failures > 3) {
            g_cond_wait(&spares->changed, &spares->lock);
            wanted_at = g_get_monotonic_time();
            continue;
        }
        gint64 from = MIN(spares->taken_at + CALM_US, wanted_at + PATIENCE_US);
        if (g_get_monotonic_time() < from) {
            g_cond_wait_until(&spares->changed, &spares->lock, from);
            continue;
        }
        g_mutex_unlock(&spares->lock);
        struct spare made;
        bool ok = make_spare(spares->manager, &made);
        g_mutex_lock(&spares->lock);
        spares->failures = ok ? 0 : spares->failures + 1;
        if (ok)
            g_array_append_val(spares->stock, made);
    }
    g_mutex_unlock(&spares->lock);
    return NULL;
}

void spares_open(struct container_manager *manager, unsigned size)
{
    if (size == 0)
        return;
    struct spares *spares = g_new0(struct spares, 1);
    spares->manager = manager;
    spares->size = size;
    g_mutex_init(&spares->lock);
    g_cond_init(&spares->changed);
    spares->stock = g_array_new(FALSE, TRUE, sizeof(struct spare));
    spares->filler = g_thread_new("spares", fill, spares);
    manager->spares = spares;
}

void spares_close(struct container_manager *manager)
{
    struct spares *spares = g_steal_pointer(&manager->spares);
    if (!spares)
        return;
    g_mutex_lock(&spares->lock);
    spares->stopping = true;
    g_cond_broadcast(&spares->changed);
    g_mutex_unlock(&spares->lock);
    g_thread_join(spares->filler);
    /* They end by themselves, all at once. */
    for (guint i = 0; i < spares->stock->len; i++)
        fd_close(g_array_index(spares->stock, struct spare, i).socket);
    for (guint i = 0; i < spares->stock->len; i++)
        spawn_wait(g_array_index(spares->stock, struct spare, i).pid);
    g_array_unref(spares->stock);
    g_mutex_clear(&spares->lock);
    g_cond_clear(&spares->changed);
    g_free(spares);
}

static bool take(struct spares *spares, struct spare *ret)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&spares->lock);
    spares->failures = 0;
    spares->taken_at = g_get_monotonic_time();
    g_cond_broadcast(&spares->changed);
    if (spares->stock->len == 0)
        return false;
    *ret = g_array_index(spares->stock, struct spare, 0);
    g_array_remove_index(spares->stock, 0);
    return true;
}

pid_t spares_use(struct container_manager *manager, const char *id, const int *fds, size_t n_fds)
{
    struct spare spare;
    if (!manager->spares || n_fds > FD_PASS_MAX)
        return -1;
    while (take(manager->spares, &spare)) {
        bool ok = fd_send(spare.socket, id, strlen(id), fds, n_fds) == 0;
        fd_close(spare.socket);
        if (ok)
            return spare.pid;
        spawn_wait(spare.pid); /* somebody killed it */
    }
    return -1;
}
