/* A whole shim, over a runtime that needs no root (fake_runtime.c): its protocol, streams, exits and restarts as tared sees them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/file.h"
#include "base/frame.h"
#include "base/spawn.h"
#include "shim/shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 10000

struct shim_case {
    char *directory, *socket_path, *log_path;
    pid_t pid;
    int events; /* a subscription */
};

/* ---- the fixture ---- */

static int set_up(void **state)
{
    struct shim_case *test = g_new0(struct shim_case, 1);
    test->directory = g_dir_make_tmp("tare-shim-XXXXXX", NULL);
    test->socket_path = g_build_filename(test->directory, "shim.sock", NULL);
    test->log_path = g_build_filename(test->directory, "log", NULL);
    test->pid = -1;
    test->events = -1;
    *state = test;
    return 0;
}

/* It ends by itself after a test that passed; after another it is told to. */
static int end_shim(pid_t pid)
{
    for (int wait_ms = 0; wait_ms < PATIENCE_MS; wait_ms += 5) {
        int status;
        if (waitpid(pid, &status, WNOHANG) == pid)
            return status;
        g_usleep(5000);
        if (wait_ms == PATIENCE_MS / 2)
            kill(pid, SIGTERM);
    }
    kill(pid, SIGKILL);
    return spawn_wait(pid);
}

static int tear_down(void **state)
{
    struct shim_case *test = *state;
    int status = 0;
    fd_close(test->events);
    if (test->pid > 0)
        status = end_shim(test->pid);
    g_autofree char *parent = g_path_get_dirname(test->directory), *name = g_path_get_basename(test->directory);
    g_autofd int directory = open(parent, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    dir_remove_tree(directory, name, NULL);
    g_free(test->directory);
    g_free(test->socket_path);
    g_free(test->log_path);
    g_free(test);
    return status; /* a leak, which the sanitizer reports, is a failure */
}

static json_t *config_new(struct shim_case *test, const char *script, bool terminal)
{
    return json_pack("{s:s,s:s,s:s,s:{s:{s:[s,s,s],s:b}},s:{s:s,s:s}}", "id", "c1", "state_dir", test->directory, "run_dir",
                     test->directory, "spec", "process", "args", "sh", "-c", script, "terminal", terminal, "log", "driver",
                     "json-file", "path", test->log_path);
}

/* Takes config. */
static bool start_shim(struct shim_case *test, json_t *config, GError **error)
{
    g_autofree char *text = json_text(config);
    json_decref(config);
    int ready[2];
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    g_autofd int config_fd = fd_new_sealed("config", text, strlen(text), NULL), listen_fd = shim_listen(test->socket_path, NULL),
                 ready_fd = ready[0];
    assert_true(config_fd >= 0 && listen_fd >= 0);
    const char *const argv[] = { FAKE_SHIM, "c1", NULL };
    const struct spawn_fd fds[] = { { 2, 2 }, { config_fd, 3 }, { listen_fd, 4 }, { ready[1], 5 } };
    const char *const envp[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "G_DEBUG=fatal-criticals", NULL };
    const struct spawn_options options = {
        .argv = argv, .envp = envp, .fds = fds, .n_fds = G_N_ELEMENTS(fds), .new_session = true
    };
    test->pid = spawn_program(&options, NULL);
    close(ready[1]);
    assert_true(test->pid > 0);
    return shim_wait_ready(ready_fd, error);
}

static json_t *try_call(struct shim_case *test, json_t *request, const int *fds, size_t n_fds, GError **error)
{
    json_t *reply = NULL;
    shim_call(test->socket_path, request, fds, n_fds, &reply, NULL, NULL, error);
    json_decref(request);
    return reply;
}

static void call(struct shim_case *test, json_t *request, const int *fds, size_t n_fds)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) reply = try_call(test, request, fds, n_fds, &error);
    if (!reply)
        fail_msg("%s", error->message);
}

static void call_op(struct shim_case *test, const char *op)
{
    call(test, json_pack("{s:s}", "op", op), NULL, 0);
}

static void subscribe(struct shim_case *test)
{
    g_autoptr(json_t) request = json_pack("{s:s}", "op", "subscribe");
    test->events = shim_connect(test->socket_path, NULL);
    assert_true(shim_request(test->events, request, NULL, 0, NULL, NULL, NULL, NULL));
}

static void begin(struct shim_case *test, json_t *config)
{
    g_autoptr(GError) error = NULL;
    if (!start_shim(test, config, &error))
        fail_msg("%s", error->message);
    subscribe(test);
}

static void create_and_start(struct shim_case *test)
{
    call_op(test, "create");
    call_op(test, "start");
}

static void wait_readable(int fd)
{
    struct pollfd wait = { .fd = fd, .events = POLLIN };
    if (poll(&wait, 1, PATIENCE_MS) != 1)
        fail_msg("nothing came");
}

/* The next event must be this one. */
static json_t *next_event(struct shim_case *test, const char *name)
{
    json_t *event = NULL;
    wait_readable(test->events);
    assert_true(frame_receive(test->events, &event, NULL, NULL, NULL));
    assert_non_null(event);
    assert_string_equal(json_get_string(event, "event", ""), name);
    return event;
}

static void skip_event(struct shim_case *test, const char *name)
{
    json_decref(next_event(test, name));
}

static void check_exit(struct shim_case *test, int exit_code, bool will_restart)
{
    g_autoptr(json_t) event = next_event(test, "exit");
    assert_int_equal(json_get_int(event, "exit_code", -1), exit_code);
    assert_int_equal(json_get_bool(event, "will_restart", !will_restart), will_restart);
}

static void check_end(struct shim_case *test, int exit_code)
{
    check_exit(test, exit_code, false);
    skip_event(test, "die-final");
}

/* Attaches; the other end of the client's connection. */
static int attach(struct shim_case *test, bool use_stdin, bool multiplex, bool logs)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    call(test,
         json_pack("{s:s,s:b,s:b,s:b,s:b,s:b}", "op", "attach", "stdin", use_stdin, "stdout", 1, "stderr", 1, "multiplex",
                   multiplex, "logs", logs),
         &ends[0], 1);
    close(ends[0]);
    return ends[1];
}

/* To the end of the session. */
static GString *read_rest(int fd)
{
    GString *out = g_string_new(NULL);
    char buffer[4096];
    for (;;) {
        wait_readable(fd);
        ssize_t n = read(fd, buffer, sizeof buffer);
        assert_true(n >= 0);
        if (n == 0)
            break;
        g_string_append_len(out, buffer, n);
    }
    close(fd);
    return out;
}

static void check_rest(int fd, const char *expected)
{
    GString *out = read_rest(fd);
    assert_string_equal(out->str, expected);
    g_string_free(out, TRUE);
}

static void read_until(int fd, const char *wanted)
{
    g_autoptr(GString) out = g_string_new(NULL);
    while (!strstr(out->str, wanted)) {
        char c;
        wait_readable(fd);
        if (read(fd, &c, 1) != 1)
            fail_msg("ended after \"%s\"", out->str);
        g_string_append_c(out, c);
    }
}

static json_t *read_json(struct shim_case *test, const char *name)
{
    g_autofd int directory = open(test->directory, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    g_autofree char *text = NULL;
    size_t length;
    assert_true(file_read(directory, name, 1 << 16, &text, &length, NULL));
    return json_parse(text, length, 1 << 16, name, NULL);
}

static json_t *status(struct shim_case *test)
{
    json_t *reply = try_call(test, json_pack("{s:s}", "op", "status"), NULL, 0, NULL);
    assert_non_null(reply);
    return reply;
}

static void check_state(struct shim_case *test, const char *expected)
{
    g_autoptr(json_t) reply = status(test);
    assert_string_equal(json_get_string(reply, "state", ""), expected);
}

static void check_error(struct shim_case *test, json_t *request, enum tare_error code, const char *message)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) reply = try_call(test, request, NULL, 0, &error);
    assert_null(reply);
    assert_string_equal(error->message, message);
    assert_int_equal(error->code, code);
}

/* ---- output, log, exit ---- */

static void test_nothing_is_lost_before_the_start(void **state)
{
    struct shim_case *test = *state;
    begin(test, config_new(test, "echo out; echo err >&2; exit 3", false));
    int client = attach(test, false, true, false);
    check_state(test, "created");
    create_and_start(test);
    skip_event(test, "start");
    check_end(test, 3);
    GString *out = read_rest(client);
    assert_int_equal(out->len, 8 + 4 + 8 + 4);
    assert_non_null(memmem(out->str, out->len, "\1\0\0\0\0\0\0\4out\n", 12));
    assert_non_null(memmem(out->str, out->len, "\2\0\0\0\0\0\0\4err\n", 12));
    g_string_free(out, TRUE);
    g_autoptr(json_t) record = read_json(test, "exit.json");
    assert_int_equal(json_get_int(record, "exit_code", -1), 3);
    assert_true(json_get_int(record, "finished_at", 0) >= json_get_int(record, "started_at", 0));
    assert_true(json_get_int(record, "started_at", 0) > 0);
    g_autofree char *log = NULL;
    assert_true(g_file_get_contents(test->log_path, &log, NULL, NULL));
    assert_non_null(strstr(log, "{\"log\":\"out\\n\",\"stream\":\"stdout\",\"time\":\""));
    assert_non_null(strstr(log, "{\"log\":\"err\\n\",\"stream\":\"stderr\",\"time\":\""));
}

static void test_a_start_that_fails(void **state)
{
    struct shim_case *test = *state;
    json_t *config = config_new(test, "true", false);
    json_array_set_new(json_object_get(json_object_get(json_object_get(config, "spec"), "process"), "args"), 0,
                       json_string("/no/such"));
    begin(test, config);
    int client = attach(test, false, false, false);
    call_op(test, "create");
    check_error(test, json_pack("{s:s}", "op", "start"), TARE_ERROR_INVALID,
                "exec: \"/no/such\": executable file not found in $PATH");
    skip_event(test, "die-final");
    check_rest(client, "");
    g_autoptr(json_t) record = read_json(test, "exit.json");
    assert_int_equal(json_get_int(record, "exit_code", -1), 127);
    assert_string_equal(json_get_string(record, "error", ""), "exec: \"/no/such\": executable file not found in $PATH");
}

static void test_bad_configuration(void **state)
{
    struct shim_case *test = *state;
    g_autoptr(GError) error = NULL;
    json_t *config = config_new(test, "true", false);
    json_object_set_new(config, "stop_signal", json_integer(99));
    assert_false(start_shim(test, config, &error));
    assert_string_equal(error->message, "shim configuration: stop_signal: out of range");
    assert_int_equal(spawn_wait(test->pid), 1);
    test->pid = -1;
}

static void test_others_hold_the_output(void **state)
{
    struct shim_case *test = *state;
    gint64 begun_us = g_get_monotonic_time();
    begin(test, config_new(test, "sleep 60 & echo hi", false));
    int client = attach(test, false, false, false);
    create_and_start(test);
    skip_event(test, "start");
    check_end(test, 0);
    check_rest(client, "hi\n");
    assert_true(g_get_monotonic_time() - begun_us < 5 * G_USEC_PER_SEC);
}

/* ---- input ---- */

static json_t *with_stdin(json_t *config, bool once)
{
    json_object_set_new(config, "open_stdin", json_true());
    json_object_set_new(config, "stdin_once", json_boolean(once));
    return config;
}

static void test_end_of_input_reaches_the_process(void **state)
{
    struct shim_case *test = *state;
    begin(test, with_stdin(config_new(test, "cat; echo done", false), true));
    int client = attach(test, true, false, false);
    /* Before there is a process. */
    assert_int_equal(write(client, "early\n", 6), 6);
    create_and_start(test);
    read_until(client, "early\n");
    assert_int_equal(write(client, "late\n", 5), 5);
    shutdown(client, SHUT_WR);
    check_rest(client, "late\ndone\n");
    skip_event(test, "start");
    check_end(test, 0);
}

static void test_input_that_was_left_behind(void **state)
{
    struct shim_case *test = *state;
    enum { SIZE = 300000 };
    begin(test, with_stdin(config_new(test, "sleep 0.2; wc -c", false), true));
    int client = attach(test, true, false, false);
    int reader = attach(test, false, false, false);
    create_and_start(test);
    g_autofree char *big = g_strnfill(SIZE, 'x');
    /* More than the pipe and our buffers hold; then the client has gone altogether. */
    assert_int_equal(fd_write_full(client, big, SIZE), 0);
    close(client);
    check_rest(reader, "300000\n");
    skip_event(test, "start");
    check_end(test, 0);
}

static void test_without_stdin_once_the_session_ends(void **state)
{
    struct shim_case *test = *state;
    begin(test, with_stdin(config_new(test, "while read x; do echo got $x; done", false), false));
    create_and_start(test);
    int first = attach(test, true, false, false);
    assert_int_equal(write(first, "1\n", 2), 2);
    read_until(first, "got 1\n");
    shutdown(first, SHUT_WR);
    check_rest(first, "");
    int second = attach(test, true, false, false);
    assert_int_equal(write(second, "2\n", 2), 2);
    read_until(second, "got 2\n");
    close(second);
    call(test, json_pack("{s:s,s:i}", "op", "signal", "signal", SIGKILL), NULL, 0);
    skip_event(test, "start");
    check_end(test, 137);
}

/* ---- several clients ---- */

static void test_a_slow_client_loses_nothing(void **state)
{
    struct shim_case *test = *state;
    begin(test, config_new(test, "head -c 2000000 /dev/zero | tr '\\0' x; echo; exit 4", false));
    int slow = attach(test, false, false, false), gone = attach(test, false, false, false),
        fast = attach(test, false, false, false);
    create_and_start(test);
    skip_event(test, "start");
    close(gone);
    close(fast);
    g_usleep(200000);
    check_state(test, "running"); /* blocked by the client that is alive */
    GString *out = read_rest(slow);
    assert_int_equal(out->len, 2000001);
    g_string_free(out, TRUE);
    check_end(test, 4);
}

static void test_clients_that_have_gone_do_not_block(void **state)
{
    struct shim_case *test = *state;
    begin(test, config_new(test, "head -c 2000000 /dev/zero | tr '\\0' x; exit 5", false));
    int gone = attach(test, false, false, false);
    create_and_start(test);
    close(gone);
    skip_event(test, "start");
    check_end(test, 5);
}

static void test_attach_with_logs_then_live(void **state)
{
    struct shim_case *test = *state;
    begin(test, with_stdin(config_new(test, "echo one; printf two; read x; echo three", false), false));
    int first = attach(test, true, false, false);
    create_and_start(test);
    read_until(first, "two");
    int second = attach(test, false, false, true);
    read_until(second, "one\ntwo");
    assert_int_equal(write(first, "\n", 1), 1);
    check_rest(second, "three\n");
    close(first);
    skip_event(test, "start");
    check_end(test, 0);
}

/* ---- terminals ---- */

static void test_terminal_size_and_detach(void **state)
{
    struct shim_case *test = *state;
    begin(test, with_stdin(config_new(test, "stty size; read x; echo got $x; read y; stty size", true), true));
    int client = attach(test, true, true, false);
    assert_int_equal(write(client, "hello\n\x10\x11never", 13), 13);
    call(test, json_pack("{s:s,s:i,s:i}", "op", "resize", "rows", 33, "cols", 111), NULL, 0);
    skip_event(test, "detach");
    create_and_start(test);
    skip_event(test, "start");
    GString *out = read_rest(client);
    assert_null(strstr(out->str, "never"));
    g_string_free(out, TRUE);
    /* The process goes on, and a new client gets it. */
    client = attach(test, true, true, true);
    read_until(client, "33 111\r\n");
    read_until(client, "got hello\r\n");
    call(test, json_pack("{s:s,s:i,s:i}", "op", "resize", "rows", 40, "cols", 80), NULL, 0);
    assert_int_equal(write(client, "\n", 1), 1);
    read_until(client, "40 80\r\n");
    check_rest(client, "");
    check_end(test, 0);
}

/* ---- exec ---- */

static json_t *exec_request(const char *id, const char *script, bool terminal)
{
    return json_pack("{s:s,s:s,s:{s:[s,s,s],s:b},s:b,s:b,s:b}", "op", "exec", "exec_id", id, "process", "args", "sh", "-c",
                     script, "terminal", terminal, "stdin", 1, "stdout", 1, "stderr", 1);
}

static int exec(struct shim_case *test, const char *id, const char *script, bool terminal)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    call(test, exec_request(id, script, terminal), &ends[0], 1);
    close(ends[0]);
    return ends[1];
}

static void check_exec_exit(struct shim_case *test, const char *id, int exit_code)
{
    g_autoptr(json_t) event = next_event(test, "exec-exit");
    assert_string_equal(json_get_string(event, "exec_id", ""), id);
    assert_int_equal(json_get_int(event, "exit_code", -1), exit_code);
}

static void test_exec_sessions(void **state)
{
    struct shim_case *test = *state;
    begin(test, config_new(test, "exec sleep 60", false));
    check_error(test, exec_request("e0", "true", false), TARE_ERROR_CONFLICT, "container c1 is not running");
    create_and_start(test);
    skip_event(test, "start");
    int first = exec(test, "e1", "cat; exit 6", false), second = exec(test, "e2", "echo two; exit 7", false);
    check_rest(second, "two\n");
    check_exec_exit(test, "e2", 7);
    assert_int_equal(write(first, "abc", 3), 3);
    shutdown(first, SHUT_WR);
    check_rest(first, "abc");
    check_exec_exit(test, "e1", 6);
    check_error(test, exec_request("e1", "true", false), TARE_ERROR_CONFLICT, "exec command e1 has already run");
    int terminal = exec(test, "e3", "read x; stty size", true);
    call(test, json_pack("{s:s,s:s,s:i,s:i}", "op", "resize", "exec_id", "e3", "rows", 5, "cols", 6), NULL, 0);
    assert_int_equal(write(terminal, "\n", 1), 1);
    read_until(terminal, "5 6\r\n");
    check_rest(terminal, "");
    check_exec_exit(test, "e3", 0);
    int sleeper = exec(test, "e4", "exec sleep 60", false);
    call(test, json_pack("{s:s,s:s,s:i}", "op", "signal", "exec_id", "e4", "signal", SIGTERM), NULL, 0);
    check_rest(sleeper, "");
    check_exec_exit(test, "e4", 143);
    g_autoptr(json_t) reply = status(test);
    assert_int_equal(json_get_int(json_get_object(json_get_object(reply, "execs"), "e1"), "exit_code", -1), 6);
    check_error(test, json_pack("{s:s,s:s,s:i,s:i}", "op", "resize", "exec_id", "e9", "rows", 5, "cols", 6), TARE_ERROR_NOT_FOUND,
                "No such exec instance: e9");
    call(test, json_pack("{s:s,s:i,s:i}", "op", "stop", "signal", SIGTERM, "timeout_ms", 5000), NULL, 0);
    check_end(test, 143);
}

static size_t count_fds(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)pid);
    DIR *directory = opendir(path);
    size_t n = 0;
    assert_non_null(directory);
    while (readdir(directory))
        n++;
    closedir(directory);
    return n;
}

static void test_sessions_leave_no_fds(void **state)
{
    struct shim_case *test = *state;
    begin(test, config_new(test, "exec sleep 60", false));
    create_and_start(test);
    skip_event(test, "start");
    size_t before = count_fds(test->pid);
    for (int i = 0; i < 60; i++) {
        g_autofree char *id = g_strdup_printf("e%d", i);
        check_rest(exec(test, id, "echo x", false), "x\n");
        skip_event(test, "exec-exit");
        close(attach(test, false, true, false));
    }
    /* The shim hears of our closing a little later: at both counts. */
    for (int i = 0; i < 1000 && count_fds(test->pid) > before; i++)
        g_usleep(5000);
    assert_true(count_fds(test->pid) <= before);
    call(test, json_pack("{s:s,s:i}", "op", "signal", "signal", SIGKILL), NULL, 0);
    check_end(test, 137);
}

/* ---- restart and stop ---- */

static json_t *with_restart(json_t *config, const char *name, int maximum)
{
    json_object_set_new(config, "restart", json_pack("{s:s,s:i}", "name", name, "maximum_retry", maximum));
    return config;
}

static void test_on_failure_restarts_so_many_times(void **state)
{
    struct shim_case *test = *state;
    begin(test, with_restart(config_new(test, "echo again; exit 9", false), "on-failure", 2));
    int client = attach(test, false, false, false);
    create_and_start(test);
    skip_event(test, "start");
    check_exit(test, 9, true);
    check_rest(client, "again\n");
    skip_event(test, "start");
    check_exit(test, 9, true);
    skip_event(test, "start");
    check_end(test, 9);
    g_autoptr(json_t) record = read_json(test, "exit.json");
    assert_int_equal(json_get_int(record, "restart_count", -1), 2);
    g_autofree char *log = NULL;
    assert_true(g_file_get_contents(test->log_path, &log, NULL, NULL));
    g_auto(GStrv) lines = g_strsplit(log, "\n", -1);
    assert_int_equal(g_strv_length(lines), 4);
}

static void test_stop_ends_a_restart(void **state)
{
    struct shim_case *test = *state;
    begin(test, with_restart(config_new(test, "exit 1", false), "always", 0));
    create_and_start(test);
    skip_event(test, "start");
    check_exit(test, 1, true);
    check_state(test, "restarting");
    check_error(test, json_pack("{s:s}", "op", "pause"), TARE_ERROR_CONFLICT, "container c1 is not running");
    g_autoptr(json_t) reply =
        try_call(test, json_pack("{s:s,s:i,s:i}", "op", "stop", "signal", SIGTERM, "timeout_ms", 1000), NULL, 0, NULL);
    assert_int_equal(json_get_int(reply, "exit_code", -1), 1);
    skip_event(test, "die-final");
}

static void test_stop_waits_then_kills(void **state)
{
    struct shim_case *test = *state;
    begin(test,
          with_restart(config_new(test, "trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done", false), "always", 0));
    int client = attach(test, false, false, false);
    create_and_start(test);
    read_until(client, "ready\n");
    skip_event(test, "start");
    /* Who asks may go: the stop goes on. */
    int asking = shim_connect(test->socket_path, NULL);
    g_autoptr(json_t) request = json_pack("{s:s,s:i,s:i}", "op", "stop", "signal", SIGTERM, "timeout_ms", 300);
    assert_true(frame_send(asking, request, NULL, 0, NULL));
    read_until(client, "no\n");
    close(asking);
    skip_event(test, "kill");
    check_end(test, 137);
    check_rest(client, "");
}

static void test_stop_replies_with_the_code(void **state)
{
    struct shim_case *test = *state;
    begin(test, config_new(test, "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done", false));
    int client = attach(test, false, false, false);
    create_and_start(test);
    read_until(client, "ready\n");
    g_autoptr(json_t) reply =
        try_call(test, json_pack("{s:s,s:i,s:i}", "op", "stop", "signal", SIGTERM, "timeout_ms", -1), NULL, 0, NULL);
    assert_int_equal(json_get_int(reply, "exit_code", -1), 42);
    check_error(test, json_pack("{s:s}", "op", "stop"), TARE_ERROR_NOT_MODIFIED, "container is already stopped");
    close(client);
}

static void test_pause(void **state)
{
    struct shim_case *test = *state;
    begin(test, config_new(test, "exec sleep 60", false));
    create_and_start(test);
    skip_event(test, "start");
    call_op(test, "pause");
    check_state(test, "paused");
    check_error(test, json_pack("{s:s}", "op", "pause"), TARE_ERROR_CONFLICT, "container c1 is already paused");
    check_error(test, json_pack("{s:s}", "op", "quit"), TARE_ERROR_CONFLICT, "container c1 is running");
    call_op(test, "resume");
    check_error(test, json_pack("{s:s}", "op", "resume"), TARE_ERROR_CONFLICT, "container c1 is not paused");
    call_op(test, "pause");
    call(test, json_pack("{s:s,s:i,s:i}", "op", "stop", "signal", SIGTERM, "timeout_ms", 5000), NULL, 0);
    check_end(test, 143);
}

static void test_update_changes_the_policy(void **state)
{
    struct shim_case *test = *state;
    begin(test, with_restart(config_new(test, "exec sleep 60", false), "no", 0));
    create_and_start(test);
    skip_event(test, "start");
    check_error(test, json_pack("{s:s,s:{s:s}}", "op", "update", "restart", "name", "x"), TARE_ERROR_INVALID,
                "restart.name: invalid restart policy 'x'");
    call(test, json_pack("{s:s,s:{s:s}}", "op", "update", "restart", "name", "always"), NULL, 0);
    g_autoptr(json_t) before = status(test);
    kill((pid_t)json_get_int(before, "pid", -1), SIGKILL); /* not the user's wish: it is started again */
    check_exit(test, 137, true);
    skip_event(test, "start");
    call(test, json_pack("{s:s,s:i}", "op", "signal", "signal", SIGKILL), NULL, 0);
    check_end(test, 137);
}

/* ---- strangers on the socket, and the shim's own end ---- */

static void test_bad_requests(void **state)
{
    struct shim_case *test = *state;
    begin(test, config_new(test, "true", false));
    check_error(test, json_pack("{s:s}", "op", "dance"), TARE_ERROR_INVALID, "shim: unknown operation \"dance\"");
    check_error(test, json_pack("[]"), TARE_ERROR_INVALID, "shim: unknown operation \"\"");
    check_error(test, json_pack("{s:s}", "op", "attach"), TARE_ERROR_INVALID, "attach: no stream was passed");
    check_error(test, json_pack("{s:s}", "op", "start"), TARE_ERROR_CONFLICT, "container c1 is not created");
    check_error(test, json_pack("{s:s,s:i}", "op", "resize", "rows", 70000), TARE_ERROR_INVALID,
                "resize: rows and cols are out of range");
    check_error(test, json_pack("{s:s,s:i}", "op", "signal", "signal", 65), TARE_ERROR_INVALID, "invalid signal: 65");
    static const char *const garbage[] = { "\xff\xff\xff\xff", "\2\0\0\0{x" };
    for (size_t i = 0; i < G_N_ELEMENTS(garbage); i++) {
        int connection = shim_connect(test->socket_path, NULL);
        assert_int_equal(fd_write_full(connection, garbage[i], i == 0 ? 4 : 6), 0);
        g_string_free(read_rest(connection), TRUE);
    }
    check_state(test, "created");
    call_op(test, "quit");
}

static void test_quit_ends_what_never_ran(void **state)
{
    struct shim_case *test = *state;
    begin(test, config_new(test, "true", false));
    int client = attach(test, false, false, false);
    call_op(test, "create");
    call_op(test, "quit");
    check_rest(client, "");
    assert_int_equal(spawn_wait(test->pid), 0);
    test->pid = -1;
    g_autoptr(GError) error = NULL;
    assert_int_equal(shim_connect(test->socket_path, &error), -1);
    assert_true(error_is(error, TARE_ERROR_NOT_FOUND));
}

static void test_quit_lets_clients_read_on(void **state)
{
    struct shim_case *test = *state;
    begin(test, config_new(test, "head -c 100000 /dev/zero | tr '\\0' x", false));
    int client = attach(test, false, false, false);
    create_and_start(test);
    skip_event(test, "start");
    check_end(test, 0);
    call_op(test, "quit");
    g_usleep(50000);
    GString *out = read_rest(client);
    assert_int_equal(out->len, 100000);
    g_string_free(out, TRUE);
}

static void test_term_stops_the_container(void **state)
{
    struct shim_case *test = *state;
    begin(test, with_restart(config_new(test, "exec sleep 60", false), "always", 0));
    create_and_start(test);
    skip_event(test, "start");
    kill(test->pid, SIGHUP);
    kill(test->pid, SIGTERM);
    check_end(test, 143);
}

static void test_a_long_socket_path(void **state)
{
    struct shim_case *test = *state;
    g_autofree char *name = g_strnfill(120, 'd');
    g_autofree char *deep = g_build_filename(test->directory, name, NULL);
    fd_close(dir_make_path(deep, 0700, NULL));
    g_free(test->socket_path);
    test->socket_path = g_build_filename(deep, "shim.sock", NULL);
    begin(test, config_new(test, "true", false));
    create_and_start(test);
    skip_event(test, "start");
    check_end(test, 0);
}

#define SHIM_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SHIM_TEST(test_nothing_is_lost_before_the_start),
        SHIM_TEST(test_a_start_that_fails),
        SHIM_TEST(test_bad_configuration),
        SHIM_TEST(test_others_hold_the_output),
        SHIM_TEST(test_end_of_input_reaches_the_process),
        SHIM_TEST(test_input_that_was_left_behind),
        SHIM_TEST(test_without_stdin_once_the_session_ends),
        SHIM_TEST(test_a_slow_client_loses_nothing),
        SHIM_TEST(test_clients_that_have_gone_do_not_block),
        SHIM_TEST(test_attach_with_logs_then_live),
        SHIM_TEST(test_terminal_size_and_detach),
        SHIM_TEST(test_exec_sessions),
        SHIM_TEST(test_sessions_leave_no_fds),
        SHIM_TEST(test_on_failure_restarts_so_many_times),
        SHIM_TEST(test_stop_ends_a_restart),
        SHIM_TEST(test_stop_waits_then_kills),
        SHIM_TEST(test_stop_replies_with_the_code),
        SHIM_TEST(test_pause),
        SHIM_TEST(test_update_changes_the_policy),
        SHIM_TEST(test_bad_requests),
        SHIM_TEST(test_quit_ends_what_never_ran),
        SHIM_TEST(test_quit_lets_clients_read_on),
        SHIM_TEST(test_term_stops_the_container),
        SHIM_TEST(test_a_long_socket_path),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
