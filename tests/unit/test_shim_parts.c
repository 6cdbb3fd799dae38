/* The shim's parts that need no process: loop, configuration, restart policy, frames, detach keys, log and its replay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shim/shim-internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- loop ---- */

struct loop_case {
    struct loop *loop;
    struct loop_watch *first, *second;
    int calls, turns;
};

static void free_both(void *user, uint32_t events)
{
    struct loop_case *test = user;
    test->calls++;
    g_clear_pointer(&test->first, loop_watch_free);
    g_clear_pointer(&test->second, loop_watch_free);
}

static void count_turn(void *user)
{
    ((struct loop_case *)user)->turns++;
}

static void count_and_quit(void *user)
{
    struct loop_case *test = user;
    test->calls++;
    loop_quit(test->loop);
}

static void test_loop_watch_freed_in_its_own_batch(void **state)
{
    struct loop_case test = { 0 };
    int a[2], b[2];
    assert_true(loop_new(&test.loop, NULL));
    assert_int_equal(pipe2(a, O_CLOEXEC) | pipe2(b, O_CLOEXEC), 0);
    test.first = loop_watch_new(test.loop, a[0], EPOLLIN, free_both, &test);
    test.second = loop_watch_new(test.loop, b[0], EPOLLIN, free_both, &test);
    loop_set_turn(test.loop, count_turn, &test);
    assert_int_equal(write(a[1], "x", 1) + write(b[1], "x", 1), 2);
    loop_turn(test.loop, 0);
    loop_turn(test.loop, 0);
    assert_int_equal(test.calls, 1);
    assert_int_equal(test.turns, 2);
    for (int i = 0; i < 2; i++) {
        close(a[i]);
        close(b[i]);
    }
    loop_free(test.loop);
}

static void test_loop_events_zero_hides_a_hangup(void **state)
{
    struct loop_case test = { 0 };
    int ends[2];
    assert_true(loop_new(&test.loop, NULL));
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    test.first = loop_watch_new(test.loop, ends[0], 0, free_both, &test);
    close(ends[1]);
    loop_turn(test.loop, 0);
    assert_int_equal(test.calls, 0);
    loop_watch_set(test.first, LOOP_HANGUP);
    loop_turn(test.loop, 0);
    assert_int_equal(test.calls, 1);
    close(ends[0]);
    loop_free(test.loop);
}

static void test_loop_timers_fire_in_order(void **state)
{
    struct loop_case test = { 0 };
    assert_true(loop_new(&test.loop, NULL));
    struct loop_timer *late = loop_timer_new(test.loop, 60000, count_and_quit, &test);
    loop_timer_new(test.loop, 5, count_and_quit, &test);
    loop_run(test.loop);
    assert_int_equal(test.calls, 1);
    loop_timer_free(late);
    loop_free(test.loop);
}

static void test_loop_refuses_what_cannot_be_polled(void **state)
{
    struct loop *loop;
    assert_true(loop_new(&loop, NULL));
    g_autofd int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), file = memfd_create("x", MFD_CLOEXEC);
    assert_null(loop_watch_new(loop, file, EPOLLIN, free_both, NULL));
    assert_true(fd >= 0);
    loop_free(loop);
}

/* ---- configuration ---- */

#define CONFIG_HEAD \
    "{\"id\":\"c1\",\"state_dir\":\"/s\",\"run_dir\":\"/r\",\"spec\":{\"process\":{\"args\":[\"true\"],\"terminal\":true}}"

static void check_config_error(const char *text, const char *message)
{
    struct shim_config *config = NULL;
    g_autoptr(GError) error = NULL;
    assert_false(shim_config_parse(text, strlen(text), &config, &error));
    assert_non_null(strstr(error->message, message));
}

static void test_config_whole(void **state)
{
    static const char text[] = CONFIG_HEAD
        ",\"name\":\"n\",\"overlay\":{\"upper\":\"/u\",\"work\":\"/"
        "w\",\"volatile\":true},\"fds\":{\"lowers\":[6,7],\"netns\":8,\"ports\":[9]},"
        "\"log\":{\"driver\":\"json-file\",\"path\":\"/l\",\"max_size\":10,\"max_file\":3,\"labels\":{\"b\":\"<\",\"a\":\"1\"}},"
        "\"open_stdin\":true,\"restart\":{\"name\":\"on-failure\",\"maximum_retry\":5},\"stop_signal\":3}";
    g_autoptr(shim_config_t) config = NULL;
    g_autoptr(GError) error = NULL;
    int fds[8];
    if (!shim_config_parse(text, strlen(text), &config, &error))
        fail_msg("%s", error->message);
    assert_string_equal(config->id, "c1");
    assert_true(config->terminal && config->open_stdin && !config->stdin_once && config->has_overlay && config->is_volatile &&
                !config->no_xino);
    assert_string_equal(config->upper, "/u");
    assert_int_equal(config->n_lowers, 2);
    assert_int_equal(config->lowers[1], 7);
    assert_int_equal(config->netns_fd, 8);
    assert_int_equal(config->seccomp_fd, -1);
    assert_int_equal(shim_config_fds(config, fds, 8), 4);
    assert_int_equal(config->log_max_size, 10);
    assert_int_equal(config->log_max_file, 3);
    assert_string_equal(config->log_attributes, "{\"a\":\"1\",\"b\":\"\\u003c\"}");
    assert_int_equal(config->restart.name, RESTART_ON_FAILURE);
    assert_int_equal(config->restart.maximum_retry, 5);
    assert_int_equal(config->stop_signal, 3);
}

static void test_config_errors_name_the_field(void **state)
{
    check_config_error("[]", "an object is expected");
    check_config_error("{", "shim configuration: ");
    check_config_error("{}", "id: missing");
    check_config_error("{\"id\":1}", "id: a string is expected");
    check_config_error(CONFIG_HEAD ",\"open_stdin\":1}", "open_stdin: a boolean is expected");
    check_config_error(CONFIG_HEAD ",\"stop_signal\":65}", "stop_signal: out of range");
    check_config_error(CONFIG_HEAD ",\"overlay\":{\"upper\":\"/u\"}}", "overlay.work: missing");
    check_config_error(CONFIG_HEAD ",\"overlay\":3}", "overlay: an object is expected");
    check_config_error(CONFIG_HEAD ",\"fds\":{\"netns\":5}}", "fds.netns: out of range");
    check_config_error(CONFIG_HEAD ",\"fds\":{\"lowers\":[\"6\"]}}", "fds.lowers: not a file descriptor");
    check_config_error(CONFIG_HEAD ",\"log\":{\"driver\":\"syslog\"}}", "log.driver: unknown log driver");
    check_config_error(CONFIG_HEAD ",\"log\":{\"driver\":\"json-file\"}}", "log.path: missing");
    check_config_error(CONFIG_HEAD ",\"log\":{\"path\":\"/l\",\"max_file\":0}}", "log.max_file: out of range");
    check_config_error(CONFIG_HEAD ",\"restart\":{\"name\":\"sometimes\"}}", "restart.name: invalid restart policy 'sometimes'");
    check_config_error(CONFIG_HEAD ",\"runtime\":\"/usr/bin/runc\"}", "runtime: ");
}

/* ---- restart policy ---- */

static void test_restart_backoff(void **state)
{
    const struct restart_policy always = { RESTART_ALWAYS, 0 };
    const gint64 second = 1000 * (gint64)G_USEC_PER_SEC;
    struct restart_state history = { 0 };
    gint64 delay_ms, expected_ms = 100;
    for (int i = 0; i < 12; i++) {
        assert_true(restart_decide(&always, &history, 0, false, second, &delay_ms));
        assert_int_equal(delay_ms, expected_ms);
        expected_ms = MIN(expected_ms * 2, 60000);
    }
    assert_int_equal(delay_ms, 60000);
    assert_true(restart_decide(&always, &history, 1, false, 10 * second, &delay_ms));
    assert_int_equal(delay_ms, 100);
    assert_int_equal(history.count, 13);
}

static void test_restart_policies(void **state)
{
    static const struct {
        struct restart_policy policy;
        int exit_code;
        bool stopped, again;
    } cases[] = { { { RESTART_NO, 0 }, 1, false, false },
                  { { RESTART_ALWAYS, 0 }, 0, false, true },
                  { { RESTART_ALWAYS, 0 }, 0, true, false },
                  { { RESTART_UNLESS_STOPPED, 0 }, 0, false, true },
                  { { RESTART_UNLESS_STOPPED, 0 }, 137, true, false },
                  { { RESTART_ON_FAILURE, 0 }, 0, false, false },
                  { { RESTART_ON_FAILURE, 0 }, 3, false, true } };
    gint64 delay_ms;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct restart_state history = { 0 };
        assert_int_equal(restart_decide(&cases[i].policy, &history, cases[i].exit_code, cases[i].stopped, 0, &delay_ms),
                         cases[i].again);
    }
    const struct restart_policy twice = { RESTART_ON_FAILURE, 2 };
    struct restart_state history = { 0 };
    assert_true(restart_decide(&twice, &history, 1, false, 0, &delay_ms));
    assert_true(restart_decide(&twice, &history, 1, false, 0, &delay_ms));
    assert_false(restart_decide(&twice, &history, 1, false, 0, &delay_ms));
}

/* ---- health ---- */

#define SECOND_NS G_GINT64_CONSTANT(1000000000)

static bool probed(struct health_state *health, const struct health_options *options, gint64 at_s, int exit_code)
{
    const struct health_result result = { at_s * SECOND_NS, at_s * SECOND_NS + 1, exit_code, (char *)"out\xff" };
    return health_state_apply(health, options, &result, 100 * SECOND_NS);
}

static void test_health_options(void **state)
{
    g_autoptr(json_t) object = json_pack("{s:{}, s:i}", "process", "interval", 0);
    struct health_options options;
    assert_true(health_options_parse(object, &options, NULL));
    assert_int_equal(options.interval_ns, 30 * SECOND_NS);
    assert_int_equal(options.timeout_ns, 30 * SECOND_NS);
    assert_int_equal(options.start_period_ns, 0);
    assert_int_equal(options.start_interval_ns, 5 * SECOND_NS);
    assert_int_equal(options.retries, 3);
    json_decref(options.process);
    static const char *const bad[] = { "{}", "{\"process\":{},\"interval\":-1}", "{\"process\":{},\"retries\":\"3\"}" };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(json_t) value = json_loads(bad[i], 0, NULL);
        assert_false(health_options_parse(value, &options, &error));
        assert_non_null(strstr(error->message, "shim configuration: health."));
    }
}

static void test_health_goes_up_and_down(void **state)
{
    const struct health_options options = {
        .interval_ns = 30 * SECOND_NS, .start_interval_ns = SECOND_NS / 2, .start_period_ns = 20 * SECOND_NS, .retries = 2
    };
    struct health_state health = { 0 };
    health_state_begin(&health);
    assert_int_equal(health_state_delay_ms(&health, &options, 0), 500);
    assert_int_equal(health_state_delay_ms(&health, &options, 20 * SECOND_NS), 30000);
    for (int i = 0; i < 7; i++) /* within the start period nothing counts */
        assert_false(probed(&health, &options, 101 + i, 1));
    assert_int_equal(health.failing_streak, 0);
    assert_false(probed(&health, &options, 121, -1));
    assert_int_equal(health.failing_streak, 1);
    assert_true(probed(&health, &options, 122, 1));
    assert_int_equal(health.status, UNHEALTHY);
    assert_false(probed(&health, &options, 123, 1));
    assert_true(probed(&health, &options, 124, 0));
    assert_int_equal(health.status, HEALTHY);
    assert_int_equal(health.failing_streak, 0);
    assert_int_equal(health_state_delay_ms(&health, &options, SECOND_NS), 30000);
    g_autoptr(json_t) shown = health_state_json(&health);
    assert_string_equal(json_get_string(shown, "Status", ""), "healthy");
    const json_t *log = json_get_array(shown, "Log");
    assert_int_equal(json_array_size(log), 5);
    assert_string_equal(json_get_string(json_array_get(log, 0), "Start", ""), "1970-01-01T00:01:47Z");
    assert_string_equal(json_get_string(json_array_get(log, 4), "Output", ""), "out\xef\xbf\xbd");
    assert_int_equal(json_get_int(json_array_get(log, 1), "ExitCode", 0), -1);
    health_state_begin(&health);
    assert_int_equal(health.status, HEALTH_STARTING);
    assert_int_equal(health.n_results, 5);
    health_state_clear(&health);
}

/* ---- frames and detach keys ---- */

static void collect(void *user, unsigned stream, const void *data, size_t length)
{
    g_string_append_printf(user, "%u:%.*s;", stream, (int)length, (const char *)data);
}

static void test_attach_frames(void **state)
{
    guint8 bytes[32];
    attach_frame_header(2, 0x01020304, bytes);
    assert_memory_equal(bytes, "\2\0\0\0\1\2\3\4", 8);
    attach_frame_header(1, 3, bytes);
    memcpy(bytes + 8, "abc", 3);
    attach_frame_header(2, 1, bytes + 11);
    bytes[19] = 'e';
    struct attach_frame_decoder decoder = { 0 };
    g_autoptr(GString) out = g_string_new(NULL);
    for (size_t i = 0; i < 20; i++)
        assert_true(attach_frame_decode(&decoder, bytes + i, 1, collect, out, NULL));
    assert_string_equal(out->str, "1:a;1:b;1:c;2:e;");
    assert_true(attach_frame_at_boundary(&decoder));
    assert_true(attach_frame_decode(&decoder, bytes, 9, collect, out, NULL));
    assert_false(attach_frame_at_boundary(&decoder));
    struct attach_frame_decoder fresh = { 0 };
    assert_false(attach_frame_decode(&fresh, "\5\0\0\0\0\0\0\1", 8, collect, out, NULL));
    fresh = (struct attach_frame_decoder){ 0 };
    assert_false(attach_frame_decode(&fresh, "\1\0\0\0\377\0\0\1", 8, collect, out, NULL));
}

static void check_keys(const char *keys, const char *input, const char *passed, bool detached)
{
    struct detach_keys parsed;
    assert_true(detach_keys_parse(keys, &parsed, NULL));
    /* In one piece and byte by byte. */
    for (size_t piece = 1; piece <= strlen(input); piece += MAX(strlen(input) - 1, 1)) {
        struct detach_keys filter = parsed;
        g_autoptr(GByteArray) out = g_byte_array_new();
        bool result = false;
        for (size_t at = 0; at < strlen(input) && !result; at += piece)
            result = detach_keys_filter(&filter, (const guint8 *)input + at, MIN(piece, strlen(input) - at), out);
        assert_int_equal(result, detached);
        assert_int_equal(out->len, strlen(passed));
        assert_memory_equal(out->data ? (char *)out->data : "", passed, strlen(passed));
    }
}

static void test_detach_keys(void **state)
{
    check_keys(NULL, "ls\n\x10\x11rest", "ls\n", true);
    check_keys("", "\x10x\x11", "\x10x\x11", false);
    check_keys(NULL, "\x10\x10\x11", "\x10", true);
    check_keys(NULL, "ab\x10", "ab", false);
    check_keys("a,b,a,c", "abab", "ab", false);
    check_keys("a,b,a,c", "ababac", "ab", true);
    check_keys("ctrl-@", "x", "x", false);
    check_keys("DEL", "x\x7f", "x", true);
    check_keys("ctrl-\\,q", "\x1cq", "", true);
}

static void test_detach_keys_errors(void **state)
{
    static const char *const bad[] = { "ctrl-A", "ctrl-", "a,", ",", "ctrl-pp", "shift-a" };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct detach_keys keys;
        g_autoptr(GError) error = NULL;
        assert_false(detach_keys_parse(bad[i], &keys, &error));
        g_autofree char *message = g_strdup_printf("Invalid detach keys (%s) provided", bad[i]);
        assert_string_equal(error->message, message);
        assert_true(error_is(error, TARE_ERROR_INVALID));
    }
}

/* ---- log ---- */

#define TIME_NS (G_GINT64_CONSTANT(1700000000) * 1000000000 + 500000000)
#define TIME_TEXT "2023-11-14T22:13:20.5Z"

static void check_entry(const char *line, const char *text)
{
    g_autoptr(GString) out = g_string_new(NULL);
    log_entry_format(out, line, strlen(line), true, 1, NULL, TIME_NS);
    g_autofree char *expected = g_strdup_printf("{\"log\":\"%s\\n\",\"stream\":\"stdout\",\"time\":\"" TIME_TEXT "\"}\n", text);
    assert_string_equal(out->str, expected);
}

static void test_log_escapes_as_go(void **state)
{
    check_entry("plain", "plain");
    check_entry("a\"b\\c", "a\\\"b\\\\c");
    check_entry("<&>", "\\u003c\\u0026\\u003e");
    check_entry("\r\t\x1b[0m\x7f", "\\r\\u0009\\u001b[0m\x7f");
    check_entry("grün €", "grün €");
    check_entry("\xff\xc3(\xe2\x82", "\\ufffd\\ufffd(\\ufffd\\ufffd");
    check_entry("\xe2\x80\xa8\xe2\x80\xa9", "\\u2028\\u2029");
    check_entry("\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd");
}

struct log_case {
    char *directory, *path;
};

static int set_up_log(void **state)
{
    struct log_case *test = g_new0(struct log_case, 1);
    test->directory = g_dir_make_tmp("tare-log-XXXXXX", NULL);
    test->path = g_build_filename(test->directory, "log", NULL);
    *state = test;
    return 0;
}

static int tear_down_log(void **state)
{
    struct log_case *test = *state;
    for (int i = 0; i < 6; i++) {
        g_autofree char *path = i == 0 ? g_strdup(test->path) : g_strdup_printf("%s.%d", test->path, i);
        unlink(path);
    }
    assert_int_equal(rmdir(test->directory), 0);
    g_free(test->path);
    g_free(test->directory);
    g_free(test);
    return 0;
}

static struct log_file *open_log(struct log_case *test, guint64 max_size, unsigned max_file)
{
    struct log_file *log;
    const struct log_file_options options = { .path = test->path, .fd = -1, .max_size = max_size, .max_file = max_file };
    assert_true(log_file_open(&options, &log, NULL));
    return log;
}

static char *contents(const char *path)
{
    char *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) ? text : g_strdup("(none)");
}

static void test_log_lines_and_pieces(void **state)
{
    struct log_case *test = *state;
    struct log_file *log = open_log(test, 0, 1);
    g_autofree char *big = g_strnfill(LOG_LINE_MAX, 'x');
    log_file_append(log, 1, "one\ntw", 6, TIME_NS);
    log_file_append(log, 2, "err\n", 4, TIME_NS);
    log_file_append(log, 1, "o\n", 2, TIME_NS);
    log_file_append(log, 1, big, LOG_LINE_MAX, TIME_NS);
    log_file_append(log, 1, "rest\nend", 8, TIME_NS + 1000000000);
    log_file_end_lines(log);
    log_file_close(log);
    g_autofree char *text = contents(test->path);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    assert_int_equal(g_strv_length(lines), 7);
    assert_string_equal(lines[0], "{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"" TIME_TEXT "\"}");
    assert_string_equal(lines[1], "{\"log\":\"err\\n\",\"stream\":\"stderr\",\"time\":\"" TIME_TEXT "\"}");
    assert_string_equal(lines[2], "{\"log\":\"two\\n\",\"stream\":\"stdout\",\"time\":\"" TIME_TEXT "\"}");
    g_autofree char *piece = g_strdup_printf("{\"log\":\"%s\",\"stream\":\"stdout\",\"time\":\"" TIME_TEXT "\"}", big);
    assert_string_equal(lines[3], piece);
    /* The pieces of a line share its time. */
    assert_string_equal(lines[4], "{\"log\":\"rest\\n\",\"stream\":\"stdout\",\"time\":\"" TIME_TEXT "\"}");
    assert_true(g_str_has_prefix(lines[5], "{\"log\":\"end\",\"stream\":\"stdout\""));
}

static void test_log_exact_piece_then_newline(void **state)
{
    struct log_case *test = *state;
    struct log_file *log = open_log(test, 0, 1);
    g_autofree char *big = g_strnfill(LOG_LINE_MAX, 'x');
    log_file_append(log, 1, big, LOG_LINE_MAX, TIME_NS);
    log_file_append(log, 1, "\n", 1, TIME_NS);
    log_file_close(log);
    g_autofree char *text = contents(test->path);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    assert_int_equal(g_strv_length(lines), 3);
    assert_string_equal(lines[1], "{\"log\":\"\\n\",\"stream\":\"stdout\",\"time\":\"" TIME_TEXT "\"}");
}

static void test_log_rotation(void **state)
{
    struct log_case *test = *state;
    struct log_file *log = open_log(test, 70, 3);
    for (char c = 'a'; c <= 'e'; c++)
        log_file_append(log, 1, (char[]){ c, '\n' }, 2, TIME_NS);
    log_file_close(log);
    /* An entry has 68 bytes: two a file, for a file that has reached the size takes no more. */
    static const char *const expected[] = { "e", "c", "a" };
    for (int i = 0; i < 3; i++) {
        g_autofree char *path = i == 0 ? g_strdup(test->path) : g_strdup_printf("%s.%d", test->path, i);
        g_autofree char *text = contents(path);
        assert_int_equal(text[8], expected[i][0]);
    }
    g_autofree char *fourth = g_strdup_printf("%s.3", test->path), *absent = contents(fourth);
    assert_string_equal(absent, "(none)");
}

static void test_log_one_file_starts_over(void **state)
{
    struct log_case *test = *state;
    struct log_file *log = open_log(test, 1, 1);
    log_file_append(log, 1, "a\nb\n", 4, TIME_NS);
    log_file_close(log);
    g_autofree char *text = contents(test->path);
    assert_int_equal(text[8], 'b');
}

static void test_log_replay_catches_up(void **state)
{
    struct log_case *test = *state;
    struct log_file *log = open_log(test, 100, 3);
    g_autoptr(GString) out = g_string_new(NULL);
    log_file_append(log, 1, "a\nb\n", 4, TIME_NS);
    log_file_append(log, 2, "c\n", 2, TIME_NS);
    struct log_replay *replay = log_replay_new(log);
    assert_true(log_replay_step(replay, collect, out));
    /* While it is read, more is written, and rotated. */
    log_file_append(log, 1, "d\ne\n$ ", 6, TIME_NS);
    while (log_replay_step(replay, collect, out))
        ;
    log_replay_free(replay);
    assert_string_equal(out->str, "1:a\n;1:b\n;2:c\n;1:d\n;1:e\n;1:$ ;");
    log_file_close(log);
}

static void test_log_survives_a_full_disk(void **state)
{
    struct log_file *log;
    const struct log_file_options options = { .path = "/dev/full", .fd = open("/dev/full", O_WRONLY | O_CLOEXEC), .max_file = 1 };
    assert_true(log_file_open(&options, &log, NULL));
    log_file_append(log, 1, "lost\n", 5, TIME_NS);
    log_file_flush(log);
    log_file_append(log, 1, "lost\n", 5, TIME_NS);
    log_file_close(log);
}

/* ---- operations ---- */

static void test_operations_are_complete(void **state)
{
    static const char *const names[] = { "create", "start", "attach", "exec",   "resize",    "signal", "stop", "pause", "resume",
                                         "update", "stats", "pids",   "status", "subscribe", "root",   "fds",  "quit" };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (!operation_find(names[i]))
            fail_msg("no operation %s", names[i]);
    assert_null(operation_find(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loop_watch_freed_in_its_own_batch),
        cmocka_unit_test(test_loop_events_zero_hides_a_hangup),
        cmocka_unit_test(test_loop_timers_fire_in_order),
        cmocka_unit_test(test_loop_refuses_what_cannot_be_polled),
        cmocka_unit_test(test_config_whole),
        cmocka_unit_test(test_config_errors_name_the_field),
        cmocka_unit_test(test_restart_backoff),
        cmocka_unit_test(test_restart_policies),
        cmocka_unit_test(test_health_options),
        cmocka_unit_test(test_health_goes_up_and_down),
        cmocka_unit_test(test_attach_frames),
        cmocka_unit_test(test_detach_keys),
        cmocka_unit_test(test_detach_keys_errors),
        cmocka_unit_test(test_log_escapes_as_go),
        cmocka_unit_test_setup_teardown(test_log_lines_and_pieces, set_up_log, tear_down_log),
        cmocka_unit_test_setup_teardown(test_log_exact_piece_then_newline, set_up_log, tear_down_log),
        cmocka_unit_test_setup_teardown(test_log_rotation, set_up_log, tear_down_log),
        cmocka_unit_test_setup_teardown(test_log_one_file_starts_over, set_up_log, tear_down_log),
        cmocka_unit_test_setup_teardown(test_log_replay_catches_up, set_up_log, tear_down_log),
        cmocka_unit_test(test_log_survives_a_full_disk),
        cmocka_unit_test(test_operations_are_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
