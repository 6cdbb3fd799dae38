#include "base/digest.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/filter.h"
#include "base/frame.h"
#include "base/identifier.h"
#include "base/parse.h"
#include "base/root_path.h"
#include "base/signal_name.h"
#include "base/size.h"
#include "base/timestamp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void integers_are_strict(void **state)
{
    static const char *const bad[] = { "", " 1", "1x", "+1", "0x0", "4294967296", "18446744073709551616", "-1", "1 ", "--1" };
    guint64 value = 7;
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_false(parse_uint(bad[i], G_MAXUINT32, &value));
    assert_int_equal(value, 7);
    assert_true(parse_uint("4294967295", G_MAXUINT32, &value));
    assert_int_equal(value, 4294967295u);
    assert_true(parse_uint("18446744073709551615", G_MAXUINT64, &value));
    assert_true(value == G_MAXUINT64);
    gint64 number;
    assert_true(parse_int("-9223372036854775808", G_MININT64, G_MAXINT64, &number));
    assert_true(number == G_MININT64);
    assert_false(parse_int("9223372036854775808", G_MININT64, G_MAXINT64, &number));
    assert_false(parse_octal("0648", 07777, &value));
    assert_true(parse_octal("0644", 07777, &value));
    assert_int_equal(value, 0644);
}

static void sizes_and_durations(void **state)
{
    gint64 value;
    assert_true(parse_ram_bytes("512m", &value));
    assert_int_equal(value, 512 << 20);
    assert_true(parse_ram_bytes("1.5GiB", &value));
    assert_int_equal(value, 3ll << 29);
    assert_true(parse_ram_bytes("10", &value));
    assert_int_equal(value, 10);
    assert_false(parse_ram_bytes("10q", &value));
    assert_false(parse_ram_bytes("m", &value));
    assert_true(parse_duration_ns("1h2m3.5s", &value));
    assert_true(value == 3723500000000);
    assert_true(parse_duration_ns("300ms", &value));
    assert_int_equal(value, 300000000);
    assert_false(parse_duration_ns("3", &value));
    assert_false(parse_duration_ns("", &value));
}

static void assert_size(guint64 bytes, int digits, const char *wanted)
{
    g_autofree char *text = size_human(bytes, digits);
    assert_string_equal(text, wanted);
}

static void sizes_read_as_docker_prints_them(void **state)
{
    assert_size(0, 4, "0B");
    assert_size(2048, 4, "2.048kB");
    assert_size(63300000, 3, "63.3MB");
    assert_size(214900000, 4, "214.9MB");
    assert_size(999, 3, "999B");
    g_autofree char *binary = size_human_binary(512 << 20);
    assert_string_equal(binary, "512MiB");
}

static void timestamps(void **state)
{
    char text[TIMESTAMP_ROOM];
    gint64 ns;
    assert_true(timestamp_parse("2026-11-24T07:17:03.5Z", &ns));
    timestamp_format(ns, text);
    assert_string_equal(text, "2026-11-24T07:17:03.5Z");
    timestamp_format_fixed(ns, text);
    assert_string_equal(text, "2026-11-24T07:17:03.500000000Z");
    gint64 other;
    assert_true(timestamp_parse("2026-11-24T09:17:03.5+02:00", &other));
    assert_true(ns == other);
    assert_true(timestamp_parse("0001-01-01T00:00:00Z", &ns));
    assert_int_equal(ns, 0);
    assert_false(timestamp_parse("2026-13-24T07:17:03Z", &ns));
    assert_false(timestamp_parse("2026-11-24", &ns));
    g_autofree char *human = duration_human(3ll * 7 * 24 * 3600 * 1000000000);
    assert_string_equal(human, "3 weeks");
}

static void times_that_users_give(void **state)
{
    const gint64 second = G_GINT64_CONSTANT(1000000000), now = 1700000000 * second, day = 1795478400 * second; /* 2026-11-24 */
    static const struct {
        const char *text;
        gint64 from_day_ns; /* or from now */
        bool from_now;
    } given[] = {
        { "2026-11-24", 0 },
        { "2026-11-24Z", 0 },
        { "2026-11-24-01:30", 5400 },
        { "2026-11-24T07", 7 * 3600 },
        { "2026-11-24T07Z", 7 * 3600 },
        { "2026-11-24T07:17", 26220 },
        { "2026-11-24T07:17+02:00", 19020 },
        { "2026-11-24T07:17:03", 26223 },
        { "2026-11-24T07:17:03.25", 26223 },
        { "2026-11-24T07:17:03Z", 26223 },
        { "2026-11-24T07:17:03.25-07:00", 26223 + 7 * 3600 },
        { "1795478400", 0 },
        { "1795478400.", 0 },
        { "1795478400.25", 0 },
        { "1795478400.2500000000001", 0 },
        { "90s", -90, true },
        { "1h30m", -5400, true },
        { "1.5h", -5400, true },
        { "-24h", 86400, true },
        { "0s", 0, true },
    };
    static const char *const refused[] = { "",
                                           "x",
                                           "yesterday",
                                           "2026-13-01",
                                           "2026-02-30",
                                           "2026-11-24T",
                                           "2026-11-24T07:",
                                           "2026-11-24T25",
                                           "2026-11-24T07:17.5",
                                           "2026-11-24 07:17:03",
                                           "-5",
                                           "1e9",
                                           "1.x",
                                           "99999999999",
                                           "2026-11-24T07:17:03.",
                                           "2026-11-24ZZ",
                                           "3000-01-01" };
    g_setenv("TZ", "UTC", TRUE);
    tzset();
    for (size_t i = 0; i < G_N_ELEMENTS(given); i++) {
        gint64 ns = 0, wanted = (given[i].from_now ? now : day) + given[i].from_day_ns * second;
        bool has_fraction = strstr(given[i].text, ".25") != NULL;
        assert_true(timestamp_parse_given(given[i].text, now, &ns));
        assert_int_equal(ns, wanted + (has_fraction ? second / 4 : 0));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        gint64 ns = 7;
        assert_false(timestamp_parse_given(refused[i], now, &ns));
        assert_int_equal(ns, 7);
    }
    gint64 ns;
    assert_true(timestamp_parse_given("0", now, &ns));
    assert_int_equal(ns, 0);
    assert_false(timestamp_parse_given("-2562047h", now, &ns)); /* beyond what counts */
    g_setenv("TZ", "XXX-2", TRUE);
    tzset();
    assert_true(timestamp_parse_given("2026-11-24T02:00", now, &ns));
    assert_int_equal(ns, day);
    g_setenv("TZ", "UTC", TRUE);
    tzset();
}

static void until_is_one_time(void **state)
{
    gint64 ns = 5;
    g_autoptr(json_t) none = json_object(), two = json_pack("{s:[s, s]}", "until", "1h", "2h"),
                      epoch = json_pack("{s:[s]}", "until", "0"), bad = json_pack("{s:[s]}", "until", "soon"),
                      date = json_pack("{s:{s:b}}", "until", "2026-11-24Z", 1);
    g_autoptr(GError) error = NULL;
    assert_true(filters_until(none, &ns, NULL));
    assert_int_equal(ns, 0);
    assert_true(filters_until(epoch, &ns, NULL));
    assert_int_equal(ns, 1); /* nothing is that old, but something is asked for */
    assert_true(filters_until(date, &ns, NULL));
    assert_int_equal(ns, G_GINT64_CONSTANT(1795478400000000000));
    assert_false(filters_until(two, &ns, NULL));
    assert_false(filters_until(bad, &ns, &error));
    assert_string_equal(error->message, "failed to parse value as time or duration: \"soon\"");
}

static void a_directory_is_emptied(void **state)
{
    g_autofree char *path = g_dir_make_tmp("tare-empty-XXXXXX", NULL);
    g_autofd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (int round = 0; round < 2; round++) {
        assert_true(file_write(fd, "kept", "x", 1, 0600, false, NULL));
        assert_true(file_write(fd, FILE_TEMPORARY_PREFIX "a", "x", 1, 0600, false, NULL));
        g_autofd int below = dir_make(fd, "..below", 0700, NULL);
        assert_true(below >= 0 && file_write(below, FILE_TEMPORARY_PREFIX "b", "x", 1, 0600, false, NULL));
        assert_true(file_sweep_temporaries(fd, NULL));
        assert_int_equal(faccessat(fd, FILE_TEMPORARY_PREFIX "a", F_OK, 0), -1);
        assert_int_equal(faccessat(below, FILE_TEMPORARY_PREFIX "b", F_OK, 0), 0);
        assert_int_equal(faccessat(fd, "kept", F_OK, 0), 0);
        assert_true(dir_empty(fd, NULL));
        g_autoptr(GDir) left = g_dir_open(path, 0, NULL);
        assert_null(g_dir_read_name(left));
    }
    assert_int_equal(rmdir(path), 0);
    g_autoptr(GError) error = NULL;
    assert_false(dir_empty(-1, &error));
}

static void trees_are_spread_where_the_file_system_can(void **state)
{
    g_autofree char *path = g_dir_make_tmp("tare-spread-XXXXXX", NULL);
    g_autofd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    struct statfs fs;
    int before = 0, after = 0;
    bool has_flags = ioctl(fd, FS_IOC_GETFLAGS, &before) == 0;
    for (int round = 0; round < 2; round++)
        dir_spread(fd);
    if (has_flags) {
        assert_int_equal(ioctl(fd, FS_IOC_GETFLAGS, &after), 0);
        assert_int_equal(after & ~FS_TOPDIR_FL, before & ~FS_TOPDIR_FL);
        if (fstatfs(fd, &fs) == 0 && fs.f_type == EXT4_SUPER_MAGIC)
            assert_true(after & FS_TOPDIR_FL);
    }
    g_autofd int below = dir_make(fd, "below", 0700, NULL);
    if (has_flags && ioctl(below, FS_IOC_GETFLAGS, &after) == 0)
        assert_false(after & FS_TOPDIR_FL);
    dir_spread(-1); /* a hint: it says nothing */
    assert_true(dir_remove_tree(AT_FDCWD, path, NULL));
}

static void refusals_of_others(void **state)
{
    static const int statuses[] = { 400, 401, 402, 403, 404, 409, 429, 500, 503 };
    static const int ours[] = { 500, 401, 500, 403, 404, 500, 500, 500, 500 };
    for (size_t i = 0; i < G_N_ELEMENTS(statuses); i++) {
        g_autoptr(GError) error = g_error_new_literal(TARE_ERROR, (int)error_code_of_refusal(statuses[i]), "");
        assert_int_equal(error_http_status(error), ours[i]);
    }
}

static void digests(void **state)
{
    char digest[DIGEST_ROOM];
    digest_of("", 0, digest);
    assert_string_equal(digest, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_true(digest_is_valid(digest));
    assert_false(digest_is_valid("sha256:../../etc/passwd"));
    assert_false(digest_is_valid("sha256:E3B0C44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    assert_false(digest_is_valid("sha512:e3b0"));
}

static void names(void **state)
{
    char id[IDENTIFIER_LENGTH + 1];
    identifier_new(id);
    assert_int_equal(strlen(id), 64);
    assert_true(identifier_is_name("web-1.a_b"));
    assert_false(identifier_is_name("a"));
    assert_false(identifier_is_name("-a"));
    assert_false(identifier_is_name("a/b"));
}

/* A root with an absolute link, a link that climbs, a loop and a deep path. */
static int make_root(char **ret_path)
{
    g_autofree char *path = g_dir_make_tmp("tare-root-XXXXXX", NULL);
    int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(root >= 0);
    assert_int_equal(mkdirat(root, "etc", 0755), 0);
    assert_int_equal(mkdirat(root, "real", 0755), 0);
    assert_true(file_write(root, "real/file", "inside", 6, 0600, false, NULL));
    assert_int_equal(symlinkat("/real", root, "etc/absolute"), 0);
    assert_int_equal(symlinkat("../../../../../../real/file", root, "etc/climb"), 0);
    assert_int_equal(symlinkat("loop", root, "loop"), 0);
    assert_int_equal(symlinkat("/proc/self/fd", root, "magic"), 0);
    *ret_path = g_steal_pointer(&path);
    return root;
}

static void assert_reads(int root, const char *path, const char *wanted)
{
    char *data = NULL;
    ssize_t n = root_read_file(root, path, 1000, &data);
    assert_int_equal(n, strlen(wanted));
    assert_string_equal(data, wanted);
    free(data);
}

static void paths_stay_inside(bool force_walk)
{
    g_autofree char *path = NULL;
    g_autofd int root = make_root(&path);
    root_path_force_walk = force_walk;
    assert_reads(root, "/etc/absolute/file", "inside");
    assert_reads(root, "etc/climb", "inside");
    assert_reads(root, "../../real/../real/./file", "inside");
    assert_int_equal(root_open(root, "loop", O_RDONLY, 0), -1);
    assert_int_equal(errno, ELOOP);
    assert_int_equal(root_open(root, "magic/0", O_RDONLY, 0), -1);
    assert_int_equal(errno, ENOENT);
    /* Where procfs is inside the root its magic links lead nowhere, its plain ones do. */
    g_autofd int host = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC),
                 plain = root_open(host, "/proc/self/fd", O_PATH | O_DIRECTORY, 0);
    g_autofree char *own = g_strdup_printf("/proc/self/fd/%d", root);
    assert_true(plain >= 0);
    assert_int_equal(root_open(host, own, O_PATH | O_DIRECTORY, 0), -1);
    assert_int_equal(errno, ELOOP);
    assert_int_equal(root_make_directories(host, own, 0755, 0, 0), -1);
    assert_int_equal(errno, ELOOP);
    assert_int_equal(root_make_directories(host, "/proc/self/root/tmp", 0755, 0, 0), -1);
    assert_int_equal(root_open(root, "etc/absolute", O_RDONLY | O_NOFOLLOW, 0), -1);
    assert_int_equal(errno, ELOOP);
    g_autofd int made = root_make_directories(root, "/etc/absolute/a/b/c", 0755, 0, 0);
    assert_true(made >= 0);
    struct stat st;
    assert_int_equal(fstatat(root, "real/a/b/c", &st, 0), 0);
    const char *name;
    g_autofd int parent = root_open_parent(root, "/etc/absolute/file", &name);
    assert_true(parent >= 0);
    assert_string_equal(name, "file");
    g_autofd int created = root_open(root, "etc/absolute/new", O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(created >= 0);
    assert_int_equal(fstatat(root, "real/new", &st, 0), 0);
    root_path_force_walk = false;
    assert_true(dir_remove_tree(AT_FDCWD, path, NULL));
}

static void paths_stay_inside_by_openat2(void **state)
{
    paths_stay_inside(false);
}

static void paths_stay_inside_by_walking(void **state)
{
    paths_stay_inside(true);
}

static void frames_carry_values_and_fds(void **state)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    g_autoptr(json_t) value = json_pack("{s:s, s:i}", "op", "start", "n", 3);
    assert_true(frame_send(pair[0], value, pair, 1, NULL));
    g_autoptr(json_t) got = NULL;
    int fds[4];
    size_t n_fds = 4;
    assert_true(frame_receive(pair[1], &got, fds, &n_fds, NULL));
    assert_true(json_equal(value, got));
    assert_int_equal(n_fds, 1);
    close(fds[0]);
    /* End of file inside a frame is an error, before one it is the end. */
    assert_int_equal(fd_write_full(pair[0], "\x08\0\0\0ab", 6), 0);
    close(pair[0]);
    json_t *none = NULL;
    assert_false(frame_receive(pair[1], &none, NULL, NULL, NULL));
    assert_true(frame_receive(pair[1], &none, NULL, NULL, NULL));
    assert_null(none);
    close(pair[1]);
}

static void signals_by_name(void **state)
{
    static const struct {
        const char *text;
        int number; /* 0: refused */
    } cases[] = { { "KILL", 9 },     { "SIGKILL", 9 },   { "sigkill", 9 },   { "9", 9 },         { "CLD", 17 },
                  { "RTMIN", 34 },   { "RTMIN+15", 49 }, { "RTMAX-14", 50 }, { "SIGRTMAX", 64 }, { "77", 77 },
                  { "0", 0 },        { "", 0 },          { "SIG", 0 },       { "-1", 0 },        { " 9", 0 },
                  { "RTMIN+16", 0 }, { "RTMIN+0", 0 },   { "RTMAX-15", 0 },  { "KILLX", 0 },     { "99999999999", 0 } };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        int number = 0;
        bool ok = signal_name_parse(cases[i].text, &number);
        if (ok != (cases[i].number > 0) || (ok && number != cases[i].number))
            fail_msg("%s: %d", cases[i].text, number);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_strict),
        cmocka_unit_test(trees_are_spread_where_the_file_system_can),
        cmocka_unit_test(sizes_and_durations),
        cmocka_unit_test(sizes_read_as_docker_prints_them),
        cmocka_unit_test(timestamps),
        cmocka_unit_test(times_that_users_give),
        cmocka_unit_test(until_is_one_time),
        cmocka_unit_test(a_directory_is_emptied),
        cmocka_unit_test(refusals_of_others),
        cmocka_unit_test(signals_by_name),
        cmocka_unit_test(digests),
        cmocka_unit_test(names),
        cmocka_unit_test(paths_stay_inside_by_openat2),
        cmocka_unit_test(paths_stay_inside_by_walking),
        cmocka_unit_test(frames_carry_values_and_fds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
