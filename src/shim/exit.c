#include "shim/shim-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/timestamp.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_UNKNOWN 255
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

int exit_reap(int pidfd)
{
    siginfo_t info = { 0 };
    int result;
    do
        result = waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED);
    while (result < 0 && errno == EINTR);
    if (result < 0)
        return EXIT_UNKNOWN;
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

int exit_code_of_failure(const char *message)
{
    static const struct {
        const char *part;
        int code;
    } codes[] = { { "executable file not found in $PATH", 127 },
                  { "no such file or directory", 127 },
                  { "not found", 127 },
                  { "permission denied", 126 },
                  { "is a directory", 126 },
                  { "not a directory", 126 } };
    for (size_t i = 0; i < G_N_ELEMENTS(codes); i++)
        if (strstr(message, codes[i].part))
            return codes[i].code;
    return 128;
}

/* A directory that is not there is not made: the engine that removed it knows all that it wants to know. */
static bool write_record(const char *path, const char *text, GError **error)
{
    g_autofd int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return error_set_errno(error, errno, "open %s", path);
    return file_write(directory, "exit.json", text, strlen(text), 0600, false, error);
}

/* By rename: who reads it sees all or nothing. Not synced: after a crash of the machine the container is gone in any case. Beside
 * the socket, mostly in memory, where its own disk is full. */
static void write_exit_record(struct shim *shim, bool will_restart)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) record =
        json_pack("{s:i,s:I,s:I,s:b,s:s,s:I,s:b,s:b}", "exit_code", shim->exit_code, "finished_at", (json_int_t)shim->finished_at,
                  "started_at", (json_int_t)shim->started_at, "oom_killed", shim->oom_killed, "error",
                  shim->error ? shim->error : "", "restart_count", (json_int_t)shim->restart_state.count, "stopped_by_user",
                  shim->stopped_by_user, "will_restart", will_restart);
    json_t *health = health_json(shim);
    if (health)
        json_object_set_new(record, "health", health);
    g_autofree char *text = json_text(record);
    if (!write_record(shim->config->state_dir, text, &error) && !write_record(shim->config->run_dir, text, NULL))
        log_error(error, "exit.json", "container", shim->config->id, NULL);
}

void exit_final(struct shim *shim)
{
    if (shim->final)
        return;
    shim->state = SHIM_EXITED;
    shim->final = true;
    server_emit(shim, json_pack("{s:s}", "event", "die-final"));
    overlay_release(shim);
    shim_consider_end(shim);
}

/* Whoever hears of the container's end may bind them at once. */
static void release_ports(struct shim *shim)
{
    relay_stop(shim);
    shim_config_release_ports(shim->config);
}

void exit_failed(struct shim *shim, const char *message)
{
    g_free(shim->error);
    shim->error = g_strdup(message);
    shim->exit_code = exit_code_of_failure(message);
    shim->finished_at = timestamp_now();
    shim_container_destroy(shim);
    stdio_drain(&shim->stdio);
    log_file_end_lines(shim->log);
    log_file_flush(shim->log);
    stdio_finish(&shim->stdio);
    write_exit_record(shim, false);
    release_ports(shim);
    stop_finished(shim);
    exit_final(shim);
}

/* Log and exit status are complete before anybody hears of the end. */
static void report(struct shim *shim)
{
    gint64 delay_ms = 0, ran_ns = (g_get_monotonic_time() - shim->started_monotonic_us) * 1000;
    g_clear_pointer(&shim->drain_timer, loop_timer_free);
    shim->stdio.at_end = NULL;
    log_file_end_lines(shim->log);
    log_file_flush(shim->log);
    bool again = restart_decide(&shim->restart, &shim->restart_state, shim->exit_code, shim->stopped_by_user, ran_ns, &delay_ms);
    shim->state = again ? SHIM_RESTARTING : SHIM_EXITED;
    write_exit_record(shim, again);
    if (!again)
        release_ports(shim);
    server_emit(shim, json_pack("{s:s,s:i,s:I,s:b,s:b}", "event", "exit", "exit_code", shim->exit_code, "finished_at",
                                (json_int_t)shim->finished_at, "oom_killed", shim->oom_killed, "will_restart", again));
    stop_finished(shim);
    stdio_finish(&shim->stdio);
    shim_container_destroy(shim);
    if (again)
        restart_schedule(shim, delay_ms);
    else
        exit_final(shim);
}

static void on_drained(void *user)
{
    report(user);
}

static void on_drain_timeout(void *user)
{
    struct shim *shim = user;
    shim->drain_timer = NULL;
    report(shim);
}

void exit_on_pidfd(void *user, uint32_t events)
{
    struct shim *shim = user;
    g_autoptr(GError) error = NULL;
    shim->exit_code = exit_reap(runtime_pidfd(shim->container));
    shim->finished_at = timestamp_now();
    g_clear_pointer(&shim->pidfd_watch, loop_watch_free);
    health_end(shim);
    oom_check(shim);
    if (shim->state == SHIM_CREATED) {
        exit_failed(shim, "the container's process ended before it was started");
        return;
    }
    if (stdio_drain(&shim->stdio)) {
        report(shim);
        return;
    }
    /* Somebody else holds the outputs: a process that shares no pid namespace with the one that has ended. */
    if (!runtime_destroy(shim->container, &error))
        log_error(error, "destroy", "container", shim->config->id, NULL);
    if (stdio_drain(&shim->stdio)) {
        report(shim);
        return;
    }
    shim->stdio.at_end = on_drained;
    shim->stdio.user = shim;
    shim->drain_timer = loop_timer_new(shim->loop, SHIM_DRAIN_MS, on_drain_timeout, shim);
}
