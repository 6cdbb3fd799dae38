#include "shim/shim.h"

#include "shim/shim-internal.h"

#include "base/file.h"
#include "base/frame.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONFIG_FD 3
#define LISTEN_FD 4
#define READY_FD 5
#define INHERITED_MAX 8192
/* A shim that is told to end (the host shuts down) gives its container so long. */
#define TERM_TIMEOUT_MS 10000

/* A shim runs for months beside hundreds of others: one arena, and what is free goes back. */
static void keep_memory_small(void)
{
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_TRIM_THRESHOLD, 32 * 1024);
    mallopt(M_TOP_PAD, 4 * 1024);
    mallopt(M_MMAP_THRESHOLD, 64 * 1024);
}

static void leave_the_parents_world(void)
{
    static const int ignored[] = { SIGPIPE, SIGHUP, SIGINT };
    prctl(PR_SET_NAME, "tare-shim");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    /* Fails where the parent made a session for us already. */
    setsid();
    umask(0022);
    for (size_t i = 0; i < G_N_ELEMENTS(ignored); i++)
        signal(ignored[i], SIG_IGN);
    if (chdir("/") < 0)
        log_line(LOG_LEVEL_WARNING, "chdir /", "error", error_errno_text(errno), NULL);
}

/* ---- fds ---- */

static int compare_ints(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static bool adopt_fds(const struct shim_config *config, GError **error)
{
    g_autofree int *fds = g_new(int, INHERITED_MAX);
    size_t n = shim_config_fds(config, fds, INHERITED_MAX);
    qsort(fds, n, sizeof *fds, compare_ints);
    unsigned next = READY_FD + 1;
    for (size_t i = 0; i < n; i++) {
        if (fcntl(fds[i], F_SETFD, FD_CLOEXEC) < 0)
            return error_set_errno(error, errno, "shim configuration: fds: %d", fds[i]);
        if ((unsigned)fds[i] > next)
            syscall(SYS_close_range, next, (unsigned)fds[i] - 1, 0);
        next = (unsigned)fds[i] + 1;
    }
    syscall(SYS_close_range, next, ~0U, 0);
    return true;
}

static bool read_config(struct shim_config **ret, GError **error)
{
    g_autofree char *text = NULL;
    size_t length;
    for (int fd = CONFIG_FD; fd <= READY_FD; fd++)
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
            return error_set_errno(error, errno, "shim: file descriptor %d", fd);
    if (!fd_read_all(CONFIG_FD, SHIM_CONFIG_MAX, "shim configuration", &text, &length, error) ||
        !shim_config_parse(text, length, ret, error))
        return false;
    close(CONFIG_FD);
    return adopt_fds(*ret, error);
}

/* ---- records ---- */

void shim_write_record(struct shim *shim)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) record =
        json_pack("{s:i,s:i,s:I}", "shim_pid", (int)getpid(), "pid", (int)shim->pid, "started_at", (json_int_t)shim->started_at);
    g_autofree char *text = json_text(record);
    g_autofd int directory = dir_make_path(shim->config->run_dir, 0700, &error);
    if (directory < 0 || !file_write(directory, "shim.json", text, strlen(text), 0600, false, &error))
        log_error(error, "shim.json", "container", shim->config->id, NULL);
}

/* The ready pipe need not be a socket. */
static void tell_ready(const GError *problem)
{
    g_autoptr(json_t) message = problem ? json_string_lossy(problem->message) : NULL;
    int code = problem && problem->domain == TARE_ERROR ? problem->code : TARE_ERROR_INTERNAL;
    g_autoptr(json_t) value =
        problem ? json_pack("{s:{s:i,s:O}}", "error", "code", code, "message", message) : json_pack("{s:b}", "ok", 1);
    g_autofree char *text = json_text(value);
    size_t length = strlen(text);
    g_autofree guint8 *frame = g_malloc(length + 4);
    for (int i = 0; i < 4; i++)
        frame[i] = (guint8)(length >> (8 * i));
    memcpy(frame + 4, text, length);
    /* Who started us may have died: that changes nothing. */
    if (fd_write_full(READY_FD, frame, length + 4) < 0 && problem)
        log_error(problem, "shim", NULL);
    close(READY_FD);
}

/* ---- signals ---- */

/* Orphans of the container become our children where it shares the host's pid namespace. Processes that we know are waited for by
 * their pidfd. */
static void reap_strangers(struct shim *shim)
{
    shim->reap_again = false;
    for (;;) {
        siginfo_t info = { 0 };
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
            return;
        /* It hides the others until its own event comes. */
        shim->reap_again = info.si_pid == shim->pid || info.si_pid == shim->unmount_pid || exec_knows(shim, info.si_pid) ||
                           health_knows(shim, info.si_pid);
        if (shim->reap_again)
            return;
        if (waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG) < 0)
            return;
    }
}

static void on_term(struct shim *shim)
{
    if (!stop_begin(shim, NULL, shim->config->stop_signal, TERM_TIMEOUT_MS, NULL) && shim->state != SHIM_EXITED) {
        shim_container_destroy(shim);
        shim->quitting = true;
        exit_final(shim);
    }
}

static void on_signal(void *user, uint32_t events)
{
    struct shim *shim = user;
    struct signalfd_siginfo info;
    if (read(shim->signal_fd, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    if (info.ssi_signo == SIGTERM)
        on_term(shim);
    else
        reap_strangers(shim);
}

static bool watch_signals(struct shim *shim, GError **error)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    shim->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    shim->signal_watch = shim->signal_fd < 0 ? NULL : loop_watch_new(shim->loop, shim->signal_fd, EPOLLIN, on_signal, shim);
    return shim->signal_watch || error_set_errno(error, errno, "signalfd");
}

/* ---- life ---- */

static void on_turn(void *user)
{
    struct shim *shim = user;
    log_file_flush(shim->log);
    if (shim->reap_again)
        reap_strangers(shim);
}

void shim_consider_end(struct shim *shim)
{
    if (!shim->final || !overlay_is_released(shim))
        return;
    if (shim->quit_connection) {
        struct connection *connection = g_steal_pointer(&shim->quit_connection);
        server_reply(connection, json_object(), NULL, 0);
    }
    if (shim->lingering->len == 0 && exec_n_open(shim) == 0 && (shim->quitting || server_n_connections(shim) == 0))
        loop_quit(shim->loop);
}

static bool open_log(struct shim *shim, GError **error)
{
    const struct shim_config *config = shim->config;
    const struct log_file_options options = { .path = config->log_path,
                                              .fd = config->log_fd,
                                              .max_size = config->log_max_size,
                                              .max_file = config->log_max_file,
                                              .attributes = config->log_attributes };
    return config->log_driver == SHIM_LOG_NONE || log_file_open(&options, &shim->log, error);
}

static bool set_up(struct shim *shim, GError **error)
{
    if (!read_config(&shim->config, error) || !loop_new(&shim->loop, error))
        return false;
    const struct shim_config *config = shim->config;
    const struct stdio_options streams = { .terminal = config->terminal,
                                           .open_stdin = config->open_stdin,
                                           .stdin_once = config->stdin_once,
                                           .want_stdout = true,
                                           .want_stderr = true };
    if (!watch_signals(shim, error) || !runtime_plan_new(config->spec, &shim->plan, error) || !open_log(shim, error) ||
        !stdio_init(&shim->stdio, shim, &streams, shim->log, error) || !server_start(shim, LISTEN_FD, error))
        return false;
    g_clear_pointer(&shim->config->spec, json_decref);
    if (!health_new(shim, error))
        return false;
    shim->restart = config->restart;
    loop_set_turn(shim->loop, on_turn, shim);
    shim_write_record(shim);
    return true;
}

static void clear(struct shim *shim)
{
    shim->final = true;
    stdio_clear(&shim->stdio);
    exec_list_clear(shim);
    while (shim->lingering->len > 0)
        attach_client_free(shim->lingering->pdata[0]);
    server_clear(shim);
    health_free(shim->health);
    g_clear_pointer(&shim->restart_timer, loop_timer_free);
    g_clear_pointer(&shim->drain_timer, loop_timer_free);
    shim_container_destroy(shim);
    relay_stop(shim);
    loop_watch_free(shim->signal_watch);
    fd_clear(&shim->signal_fd);
    log_file_close(shim->log);
    runtime_plan_free(shim->plan);
    g_ptr_array_unref(shim->stops);
    g_ptr_array_unref(shim->lingering);
    json_decref(shim->updated_resources);
    g_free(shim->error);
    loop_free(shim->loop);
    shim_config_free(shim->config);
}

int shim_main(int argc, char **argv)
{
    struct shim shim = { .overlay_fd = -1, .unmount_pidfd = -1, .listen_fd = -1, .signal_fd = -1 };
    g_autoptr(GError) error = NULL;
    keep_memory_small();
    leave_the_parents_world();
    if (spare_is(argv) && !spare_await(argv))
        return EXIT_SUCCESS;
    shim.stdio.in = -1;
    shim.stops = g_ptr_array_new();
    shim.lingering = g_ptr_array_new();
    exec_list_init(&shim);
    bool ok = set_up(&shim, &error);
    tell_ready(error);
    malloc_trim(0);
    if (ok)
        loop_run(shim.loop);
    clear(&shim);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
