/* Cgroups of both layouts, and images that try to trick the one who mounts into them. Needs root. */
#include "runtime_containers.h"

#include "base/fd.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static json_t *resources_of(json_t *spec)
{
    return json_object_get(json_object_get(spec, "linux"), "resources");
}

static void expect(json_t *spec, int code, const char *output)
{
    struct container_result result;
    containers_run(spec, &result);
    assert_string_equal(result.message, "");
    assert_string_equal(result.output, output);
    assert_int_equal(result.code, code);
    containers_clear(&result);
    json_decref(spec);
}

static void finish(struct runtime_container *container, int output)
{
    runtime_kill(container, SIGKILL, false, NULL);
    containers_wait(runtime_pidfd(container));
    GError *error = NULL;
    if (!runtime_destroy(container, &error))
        fail_msg("%s", error->message);
    runtime_container_free(container);
    close(output);
    containers_assert_no_cgroup();
}

static void test_oom(void **state)
{
    int output;
    g_autoptr(json_t) spec = containers_spec("head -c 100m /dev/zero | tail");
    json_object_set_new(resources_of(spec), "memory", json_pack("{s:i, s:i}", "limit", 16 << 20, "swap", 16 << 20));
    json_object_set_new(json_object_get(spec, "process"), "args", json_pack("[s, s]", "tail", "/dev/zero"));
    struct runtime_container *container = containers_start(spec, &output);
    struct pollfd poll_fd = { .fd = runtime_oom_fd(container), .events = POLLIN };
    assert_true(poll_fd.fd >= 0);
    assert_int_equal(poll(&poll_fd, 1, 20000), 1);
    assert_int_equal(containers_wait(runtime_pidfd(container)), 128 + SIGKILL);
    assert_true(runtime_oom_happened(container));
    assert_false(runtime_oom_happened(container)); /* told once */
    assert_true(runtime_destroy(container, NULL));
    runtime_container_free(container);
    close(output);
    containers_assert_no_cgroup();
}

static void test_limits_are_set(void **state)
{
    json_t *spec = containers_spec(
        "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes memory/memory.swappiness "
        "cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpuset/cpuset.cpus pids/pids.max; "
        "cat devices/devices.list | sort");
    json_t *resources = resources_of(spec);
    json_object_set_new(resources, "memory",
                        json_pack("{s:i, s:i, s:i}", "limit", 64 << 20, "reservation", 32 << 20, "swappiness", 7));
    json_object_set_new(resources, "cpu",
                        json_pack("{s:i, s:i, s:i, s:s}", "shares", 512, "quota", 50000, "period", 100000, "cpus", "0"));
    json_object_set_new(resources, "pids", json_pack("{s:i}", "limit", 33));
    expect(spec, 0,
           "67108864\n33554432\n7\n512\n50000\n100000\n0\n33\nb *:* m\nc *:* m\nc 136:* rwm\nc 1:3 rwm\nc 1:5 rwm\nc 1:7 rwm\nc "
           "1:8 rwm\n"
           "c 1:9 rwm\nc 5:0 rwm\nc 5:1 rwm\nc 5:2 rwm\n");
}

static void test_pids_limit(void **state)
{
    struct container_result result;
    g_autoptr(json_t) spec = containers_spec("sleep 5 & sleep 5 & sleep 5 & sleep 5 & wait");
    json_object_set_new(resources_of(spec), "pids", json_pack("{s:i}", "limit", 3));
    containers_run(spec, &result);
    assert_string_equal(result.output, "sh: can't fork: Resource temporarily unavailable\n");
    assert_int_equal(result.code, 2);
    containers_clear(&result);
}

static void test_a_limit_that_the_machine_refuses(void **state)
{
    struct container_result result;
    g_autoptr(json_t) spec = containers_spec("true");
    json_object_set_new(resources_of(spec), "cpu", json_pack("{s:s}", "cpus", "4000"));
    containers_run(spec, &result);
    assert_int_equal(result.code, -1);
    assert_non_null(strstr(result.message, "cpuset.cpus"));
    containers_clear(&result);
}

static void test_pause_update_stats(void **state)
{
    int output;
    GError *error = NULL;
    g_autoptr(json_t) spec = containers_spec("i=0; while :; do i=$((i+1)); done");
    struct runtime_container *container = containers_start(spec, &output);
    assert_true(runtime_pause(container, true, &error));
    g_autoptr(json_t) before = runtime_stats(container, &error);
    g_usleep(50000);
    g_autoptr(json_t) after = runtime_stats(container, &error);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(json_object_get(before, "cpu_stats"), "cpu_usage"), "total_usage")),
        json_integer_value(json_object_get(json_object_get(json_object_get(after, "cpu_stats"), "cpu_usage"), "total_usage")));
    struct runtime_exec_options options = { { -1, -1, -1 } };
    struct runtime_process process;
    assert_false(runtime_exec(container, json_object_get(spec, "process"), &options, &process, &error)); /* and does not hang */
    assert_string_equal(error->message, "cannot exec in a paused container");
    g_clear_error(&error);
    assert_true(runtime_pause(container, false, &error));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(after, "pids_stats"), "current")), 1);
    assert_true(json_integer_value(json_object_get(json_object_get(after, "memory_stats"), "usage")) > 0);
    assert_true(json_integer_value(json_object_get(json_object_get(after, "cpu_stats"), "system_cpu_usage")) > 0);
    /* Up past the limit with swap, and down again. */
    static const int limits[] = { 32 << 20, 128 << 20, 16 << 20 };
    for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
        g_autoptr(json_t) resources = json_pack("{s:{s:i, s:i}}", "memory", "limit", limits[i], "swap", limits[i]);
        if (!runtime_update(container, resources, &error))
            fail_msg("%s", error->message);
        g_autoptr(json_t) stats = runtime_stats(container, &error);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(stats, "memory_stats"), "limit")), limits[i]);
    }
    /* finish kills it in its sleep. */
    assert_true(runtime_pause(container, true, &error));
    finish(container, output);
}

static void test_destroy_takes_all_of_a_shared_pid_namespace(void **state)
{
    int output;
    g_autoptr(json_t) spec = containers_spec("sleep 1000 & sleep 1000 & echo ready; wait");
    json_t *namespaces = json_object_get(json_object_get(spec, "linux"), "namespaces");
    for (size_t i = json_array_size(namespaces); i > 0; i--)
        if (strcmp(json_get_string(json_array_get(namespaces, i - 1), "type", ""), "pid") == 0)
            json_array_remove(namespaces, i - 1);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    struct runtime_container *container = containers_start(spec, &output);
    char ready[6];
    assert_int_equal(fd_read_full(output, ready, sizeof ready), sizeof ready);
    g_autoptr(json_t) pids = runtime_pids(container, NULL);
    assert_int_equal(json_array_size(pids), 3);
    finish(container, output);
    /* The sleeps have become our children: they were killed, too. */
    for (int i = 0; i < 2; i++) {
        int status;
        assert_true(waitpid(-1, &status, 0) > 0);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    assert_int_equal(waitpid(-1, NULL, 0), -1);
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
}

/* The image's own /dev is a link, its null device a file, its /proc a link. */
static void test_hostile_images(void **state)
{
    g_autofd int root = open(containers_root(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char template[] = "/tmp/tare-outside-XXXXXX";
    g_autofree char *outside = g_strdup(mkdtemp(template));
    assert_int_equal(unlinkat(root, "dev", AT_REMOVEDIR), 0); /* made by containers before */
    assert_int_equal(symlinkat(outside, root, "dev"), 0);
    expect(containers_spec("stat -c '%t:%T' /dev/null; stat -f -c %T /dev/"), 0, "1:3\ntmpfs\n");
    /* The link was followed inside: the same path there, and nothing outside. */
    assert_int_equal(rmdir(outside), 0);
    g_autofree char *inside = g_strconcat(containers_root(), outside, NULL);
    struct stat st;
    assert_int_equal(stat(inside, &st), 0);
    assert_int_equal(unlinkat(root, "dev", 0), 0);
    assert_int_equal(rmdir(inside), 0);
    /* Without a /dev of its own the image's nodes are used, if they are what they claim to be. */
    assert_int_equal(mkdirat(root, "dev", 0755), 0);
    assert_true(file_write(root, "dev/null", "trap", 4, 0644, false, NULL));
    json_t *spec = containers_spec("true");
    json_t *mounts = json_object_get(spec, "mounts");
    for (size_t i = json_array_size(mounts); i > 0; i--)
        if (g_str_has_prefix(json_get_string(json_array_get(mounts, i - 1), "destination", ""), "/dev"))
            json_array_remove(mounts, i - 1);
    struct container_result result;
    containers_run(spec, &result);
    assert_string_equal(result.message, "error during container init: make device /dev/null: no such device");
    containers_clear(&result);
    json_decref(spec);
    assert_true(dir_remove_tree(root, "dev", NULL));
    assert_int_equal(unlinkat(root, "proc", AT_REMOVEDIR), 0);
    assert_int_equal(mkdirat(root, "elsewhere", 0755), 0);
    assert_int_equal(symlinkat("elsewhere", root, "proc"), 0);
    spec = containers_spec("true");
    containers_run(spec, &result);
    assert_string_equal(result.message,
                        "error during container init: error mounting \"proc\" to rootfs at \"/proc\": not a directory");
    containers_clear(&result);
    json_decref(spec);
    assert_int_equal(unlinkat(root, "proc", 0), 0);
    assert_int_equal(unlinkat(root, "elsewhere", AT_REMOVEDIR), 0);
}

/* A volume's target is a link to the host's file of the same name: it stays inside. */
static void test_bind_target_through_links(void **state)
{
    g_autofd int root = open(containers_root(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(symlinkat("../../../../../../etc/shadow-of-tare", root, "link"), 0);
    json_t *spec = containers_spec("cat /etc/shadow-of-tare | head -c 4");
    json_array_append_new(json_object_get(spec, "mounts"), json_pack("{s:s, s:s, s:s, s:[s]}", "destination", "/link", "type",
                                                                     "bind", "source", "/proc/version", "options", "ro"));
    struct container_result result;
    containers_run(spec, &result);
    /* Nothing is made through a dangling link, inside or outside. */
    assert_int_equal(access("/etc/shadow-of-tare", F_OK), -1);
    assert_int_equal(result.code, -1);
    containers_clear(&result);
    json_decref(spec);
    assert_int_equal(unlinkat(root, "link", 0), 0);
}

static void test_hooks(void **state)
{
    char template[] = "/tmp/tare-hooks-XXXXXX";
    g_autofree char *dir = g_strdup(mkdtemp(template)), *log = g_build_filename(dir, "log", NULL);
    static const char *const kinds[] = { "prestart", "createRuntime", "createContainer", "poststart", "poststop" };
    json_t *spec = containers_spec("true"), *hooks = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *script = g_strdup_printf("read s; case $s in *'\"id\":\"c\"'*) echo %s >>%s;; esac", kinds[i], log);
        json_object_set_new(hooks, kinds[i], json_pack("[{s:s, s:[s, s, s]}]", "path", "/bin/sh", "args", "sh", "-c", script));
    }
    json_object_set_new(spec, "hooks", hooks);
    expect(spec, 0, "");
    g_autofree char *text = NULL;
    assert_true(g_file_get_contents(log, &text, NULL, NULL));
    assert_string_equal(text, "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop\n");
    unlink(log);
    spec = containers_spec("echo must not run");
    json_object_set_new(spec, "hooks", json_pack("{s:[{s:s}]}", "createRuntime", "path", "/bin/false"));
    struct container_result result;
    containers_run(spec, &result);
    assert_string_equal(result.message, "error running createRuntime hook #0: hook /bin/false failed");
    assert_string_equal(result.output, "");
    containers_clear(&result);
    json_decref(spec);
    rmdir(dir);
}

static void test_cgroup_namespace(void **state)
{
    json_t *spec = containers_spec("cut -d: -f3 /proc/self/cgroup | sort -u; ls /sys/fs/cgroup/memory/memory.limit_in_bytes");
    json_array_append_new(json_object_get(json_object_get(spec, "linux"), "namespaces"), json_pack("{s:s}", "type", "cgroup"));
    expect(spec, 0, "/\n/sys/fs/cgroup/memory/memory.limit_in_bytes\n");
}

/* In a mount namespace where only the unified hierarchy is to be seen: the v2 backend, with its device filter, freezer and kill.
 */
static void v2_machine(void)
{
    static const char *const v1[] = { "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd" };
    assert_int_equal(unshare(CLONE_NEWNS), 0);
    assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    for (size_t i = 0; i < G_N_ELEMENTS(v1); i++) {
        g_autofree char *path = g_build_filename("/sys/fs/cgroup", v1[i], NULL);
        umount2(path, MNT_DETACH);
    }
}

static void run_on_v2(void)
{
    struct container_result result;
    v2_machine();
    json_t *spec = containers_spec(
        "cat /dev/zero | head -c 2 | wc -c; mknod /tmp/memory c 1 1; dd if=/tmp/memory of=/dev/null bs=1 count=1 2>/dev/null "
        "|| echo refused; rm /tmp/memory; grep 0:: /proc/self/cgroup | wc -l; ls /sys/fs/cgroup/cgroup.procs");
    containers_run(spec, &result);
    assert_string_equal(result.message, "");
    assert_string_equal(result.output, "2\nrefused\n1\n/sys/fs/cgroup/cgroup.procs\n");
    containers_clear(&result);
    json_object_set_new(resources_of(spec), "memory", json_pack("{s:i}", "limit", 64 << 20));
    containers_run(spec, &result);
    assert_string_equal(result.message, "this machine has no cgroup file memory.max"); /* its memory controller is v1's */
    containers_clear(&result);
    json_decref(spec);
    int output;
    GError *error = NULL;
    spec = containers_spec("sleep 1000 & sleep 1000");
    struct runtime_container *container = containers_start(spec, &output);
    assert_true(runtime_pause(container, true, &error));
    assert_true(runtime_pause(container, false, &error));
    g_autoptr(json_t) stats = runtime_stats(container, &error);
    assert_non_null(json_object_get(stats, "cpu_stats"));
    assert_true(runtime_kill(container, SIGKILL, true, &error)); /* cgroup.kill */
    assert_int_equal(containers_wait(runtime_pidfd(container)), 128 + SIGKILL);
    assert_true(runtime_destroy(container, &error));
    runtime_container_free(container);
    close(output);
    containers_assert_no_cgroup();
    json_decref(spec);
}

static void test_v2(void **state)
{
    /* In a process of its own, for the namespace is not given back. A failed assertion there ends it with another status. */
    pid_t pid = fork();
    if (pid == 0) {
        const struct CMUnitTest inner[] = { { "v2", (CMUnitTestFunction)(void (*)(void))run_on_v2, NULL, NULL, NULL } };
        int failed = cmocka_run_group_tests_name("inside", inner, NULL, NULL);
        _exit(failed ? 1 : 42);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oom),
        cmocka_unit_test(test_limits_are_set),
        cmocka_unit_test(test_pids_limit),
        cmocka_unit_test(test_a_limit_that_the_machine_refuses),
        cmocka_unit_test(test_pause_update_stats),
        cmocka_unit_test(test_destroy_takes_all_of_a_shared_pid_namespace),
        cmocka_unit_test(test_hostile_images),
        cmocka_unit_test(test_bind_target_through_links),
        cmocka_unit_test(test_hooks),
        cmocka_unit_test(test_cgroup_namespace),
        cmocka_unit_test(test_v2),
    };
    return cmocka_run_group_tests(tests, containers_setup, containers_teardown);
}
