/* Health probes: a command that is run in the container again and again. While the container is paused, or does not run, there
 * are none, and Docker calls it unhealthy then. */
#include "shim/shim-internal.h"

#include "base/log.h"
#include "base/timestamp.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NS_PER_MS 1000000
#define OUTPUT_MAX 4096 /* of one probe; Docker's figure */
/* A probe that was killed, or could not start, may be so because the container ends: its own end is not reported before those of
 * all its processes have been taken note of. Then the probe says nothing. */
#define DOUBT_MS 200
#define READS_MAX 64 /* at the end of a probe: what it left behind may write for ever */

struct health {
    struct shim *shim;
    struct health_options options;
    struct health_state state;
    struct loop_timer *next, *timeout;
    /* The probe that runs. */
    pid_t pid; /* 0: none */
    int pidfd, out;
    struct loop_watch *process_watch, *out_watch;
    GByteArray *output;
    bool is_cut, is_late, has_begun;
    gint64 begun_at, ended_at;
    char *doubtful; /* the output of a probe that waits for DOUBT_MS */
    int doubtful_code;
};

static void schedule(struct health *health);

static void emit(struct health *health, bool changed)
{
    server_emit(health->shim,
                json_pack("{s:s,s:o,s:b}", "event", "health", "health", health_state_json(&health->state), "changed", changed));
}

/* ---- one probe ---- */

static void close_probe(struct health *health)
{
    g_clear_pointer(&health->timeout, loop_timer_free);
    g_clear_pointer(&health->process_watch, loop_watch_free);
    g_clear_pointer(&health->out_watch, loop_watch_free);
    fd_clear(&health->pidfd);
    fd_clear(&health->out);
    g_clear_pointer(&health->output, g_byte_array_unref);
    health->pid = 0;
}

static void kill_probe(struct health *health)
{
    if (health->pidfd >= 0 && syscall(SYS_pidfd_send_signal, health->pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
        log_line(LOG_LEVEL_WARNING, "kill a health probe", "container", health->shim->config->id, "error",
                 error_errno_text(errno), NULL);
}

static void finish(struct health *health, int exit_code, const char *output)
{
    struct health_result result = {
        .start = health->begun_at, .end = health->ended_at, .exit_code = exit_code, .output = (char *)output
    };
    emit(health, health_state_apply(&health->state, &health->options, &result, health->shim->started_at));
    schedule(health);
}

static void on_doubt_over(void *user)
{
    struct health *health = user;
    g_autofree char *output = g_steal_pointer(&health->doubtful);
    health->next = NULL;
    finish(health, health->doubtful_code, output);
}

static void finish_unless_all_ends(struct health *health, int exit_code, const char *output)
{
    g_free(health->doubtful);
    health->doubtful = g_strdup(output);
    health->doubtful_code = exit_code;
    health->next = loop_timer_new(health->shim->loop, DOUBT_MS, on_doubt_over, health);
}

/* Bytes read; 0 for "nothing now", -1 at the end. */
static ssize_t read_some(struct health *health)
{
    guint8 buffer[OUTPUT_MAX];
    ssize_t n;
    do
        n = read(health->out, buffer, sizeof buffer);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        size_t room = OUTPUT_MAX - health->output->len;
        g_byte_array_append(health->output, buffer, (guint)MIN((size_t)n, room));
        health->is_cut |= (size_t)n > room;
    }
    return n > 0 ? n : n < 0 && errno == EAGAIN ? 0 : -1;
}

static void on_output(void *user, uint32_t events)
{
    struct health *health = user;
    if (read_some(health) < 0)
        g_clear_pointer(&health->out_watch, loop_watch_free);
}

static char *output_text(struct health *health)
{
    /* An empty array has no data at all. */
    g_autofree char *text =
        health->output->len ? g_strndup((const char *)health->output->data, health->output->len) : g_strdup("");
    g_autofree char *timeout = duration_go(health->options.timeout_ns);
    const char *cut = health->is_cut ? "..." : "";
    if (!health->is_late)
        return g_strconcat(text, cut, NULL);
    return g_strdup_printf("Health check exceeded timeout (%s)%s%s%s", timeout, *text ? ": " : "", text, cut);
}

static void on_process_end(void *user, uint32_t events)
{
    struct health *health = user;
    int exit_code = exit_reap(health->pidfd);
    for (int i = 0; i < READS_MAX && read_some(health) > 0; i++)
        ;
    g_autofree char *text = output_text(health);
    bool is_late = health->is_late;
    close_probe(health);
    health->ended_at = timestamp_now();
    if (is_late)
        finish(health, -1, text);
    else if (exit_code == 128 + SIGKILL)
        finish_unless_all_ends(health, exit_code, text);
    else
        finish(health, exit_code, text);
}

static void on_timeout(void *user)
{
    struct health *health = user;
    health->timeout = NULL;
    health->is_late = true;
    kill_probe(health);
}

static bool run(struct health *health, GError **error)
{
    g_autofd int theirs = -1;
    struct runtime_process started;
    if (!stdio_make_pipe(health->shim, &health->out, &theirs, error))
        return false;
    fd_set_nonblocking(health->out, true);
    const struct runtime_exec_options options = { .stdio = { -1, theirs, theirs } };
    if (!runtime_exec(health->shim->container, health->options.process, &options, &started, error))
        return false;
    health->pid = started.pid;
    health->pidfd = started.pidfd;
    health->output = g_byte_array_new();
    health->is_cut = health->is_late = false;
    health->process_watch = loop_watch_new(health->shim->loop, health->pidfd, EPOLLIN, on_process_end, health);
    health->out_watch = loop_watch_new(health->shim->loop, health->out, EPOLLIN, on_output, health);
    if (health->process_watch && health->out_watch)
        return true;
    error_set_errno(error, errno, "watch a health probe");
    kill_probe(health);
    exit_reap(health->pidfd);
    return false;
}

static void arm_timeout(struct health *health)
{
    gint64 ms = MAX(health->options.timeout_ns / NS_PER_MS, 1);
    health->timeout = loop_timer_new(health->shim->loop, ms, on_timeout, health);
}

static void on_next(void *user)
{
    struct health *health = user;
    g_autoptr(GError) error = NULL;
    health->next = NULL;
    health->begun_at = timestamp_now();
    if (run(health, &error)) {
        arm_timeout(health);
        return;
    }
    close_probe(health);
    const char *prefix = "unable to start container process: ";
    bool has_prefix = g_str_has_prefix(error->message, prefix);
    g_autofree char *text =
        g_strdup_printf("OCI runtime exec failed: exec failed: %s%s: unknown", has_prefix ? "" : prefix, error->message);
    health->ended_at = timestamp_now();
    finish_unless_all_ends(health, -1, text);
}

static void schedule(struct health *health)
{
    struct shim *shim = health->shim;
    gint64 running_ns = (g_get_monotonic_time() - shim->started_monotonic_us) * 1000;
    if (shim->state == SHIM_RUNNING)
        health->next =
            loop_timer_new(shim->loop, health_state_delay_ms(&health->state, &health->options, running_ns), on_next, health);
}

/* ---- with the container's life ---- */

bool health_new(struct shim *shim, GError **error)
{
    struct health_options options;
    if (!shim->config->health)
        return true;
    if (!health_options_parse(shim->config->health, &options, error))
        return false;
    g_clear_pointer(&shim->config->health, json_decref);
    shim->health = g_new0(struct health, 1);
    *shim->health = (struct health){ .shim = shim, .options = options, .pidfd = -1, .out = -1 };
    return true;
}

void health_free(struct health *health)
{
    if (!health)
        return;
    g_clear_pointer(&health->next, loop_timer_free);
    close_probe(health);
    g_free(health->doubtful);
    health_state_clear(&health->state);
    json_decref(health->options.process);
    g_free(health);
}

void health_begin(struct shim *shim)
{
    struct health *health = shim->health;
    if (!health)
        return;
    health_state_begin(&health->state);
    health->has_begun = true;
    emit(health, false);
    schedule(health);
}

static void stop(struct health *health)
{
    g_clear_pointer(&health->next, loop_timer_free);
    g_clear_pointer(&health->timeout, loop_timer_free);
    health->state.status = UNHEALTHY;
    emit(health, false);
}

void health_end(struct shim *shim)
{
    struct health *health = shim->health;
    if (!health || !health->has_begun)
        return;
    /* It may share no pid namespace with the process that has ended; what is frozen dies when it is thawed. */
    kill_probe(health);
    close_probe(health);
    stop(health);
}

void health_pause(struct shim *shim, bool paused)
{
    struct health *health = shim->health;
    if (!health)
        return;
    if (paused)
        stop(health);
    else if (health->pid) /* it was frozen with the others, and goes on with them */
        arm_timeout(health);
    else
        schedule(health);
}

bool health_knows(const struct shim *shim, pid_t pid)
{
    return shim->health && pid > 0 && shim->health->pid == pid;
}

json_t *health_json(const struct shim *shim)
{
    return shim->health && shim->health->has_begun ? health_state_json(&shim->health->state) : NULL;
}
