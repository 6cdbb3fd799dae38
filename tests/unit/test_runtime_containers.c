/* Real containers through the library: what a process inside sees. Needs root. */
#include "runtime_containers.h"

#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static json_t *process_of(json_t *spec)
{
    return json_object_get(spec, "process");
}

static json_t *linux_of(json_t *spec)
{
    return json_object_get(spec, "linux");
}

static void add_mount(json_t *spec, const char *destination, const char *type, const char *source, const char *options)
{
    g_auto(GStrv) words = g_strsplit(options, ",", -1);
    json_array_append_new(json_object_get(spec, "mounts"),
                          json_pack("{s:s, s:s, s:s, s:o}", "destination", destination, "type", type, "source", source, "options",
                                    json_from_strv((const char *const *)words)));
}

/* Runs the spec (a reference that is taken) and demands its output and exit code. */
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

static void expect_script(const char *script, int code, const char *output)
{
    expect(containers_spec(script), code, output);
}

static void expect_message(json_t *spec, const char *message)
{
    struct container_result result;
    containers_run(spec, &result);
    assert_string_equal(result.message, message);
    assert_int_equal(result.code, -1);
    assert_string_equal(result.output, "");
    containers_clear(&result);
    json_decref(spec);
}

static void test_exit_codes(void **state)
{
    expect_script("exit 0", 0, "");
    expect_script("exit 37", 37, "");
    expect_script("trap 'exit 5' TERM; kill -TERM $$; exit 1", 5, "");
}

static void test_namespaces(void **state)
{
    static const char *const kinds[] = { "mnt", "pid", "net", "ipc", "uts" };
    struct container_result result;
    g_autoptr(json_t) spec = containers_spec("cd /proc/self/ns; for n in mnt pid net ipc uts; do readlink $n; done; echo $$; cat "
                                             "/proc/sys/kernel/hostname; cut -d: -f1 -s /proc/net/dev | wc -l");
    containers_run(spec, &result);
    g_auto(GStrv) lines = g_strsplit(result.output, "\n", -1);
    assert_int_equal(g_strv_length(lines), 9);
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        char target[64] = "";
        g_autofree char *path = g_strdup_printf("/proc/self/ns/%s", kinds[i]);
        assert_true(readlink(path, target, sizeof target - 1) > 0);
        assert_true(g_str_has_prefix(lines[i], kinds[i]));
        assert_string_not_equal(lines[i], target);
    }
    assert_string_equal(lines[5], "1");
    assert_string_equal(lines[6], "box");
    assert_string_equal(lines[7], "1"); /* lo */
    containers_clear(&result);
}

static void test_rights(void **state)
{
    expect_script("grep -E '^(Cap|Sec|NoNew|Groups|Umask)' /proc/self/status", 0,
                  "Umask:\t0022\nGroups:\t0 \nCapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n"
                  "CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n");
    json_t *spec = containers_spec("grep -E '^(Uid|Gid|Cap[IPEA]|NoNew|Groups)' /proc/self/status; echo $HOME; id");
    json_object_set_new(process_of(spec), "user", json_pack("{s:s}", "username", "user"));
    json_object_set_new(process_of(spec), "noNewPrivileges", json_true());
    expect(spec, 0,
           "Uid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nGroups:\t29 1000 \nCapInh:\t0000000000000000\n"
           "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n/home/user\n"
           "uid=1000(user) gid=1000(user) groups=29(audio),1000(user)\n");
}

static void test_users(void **state)
{
    json_t *spec = containers_spec("id; echo $HOME");
    json_object_set_new(process_of(spec), "user", json_pack("{s:s}", "username", "1234:44"));
    json_object_set_new(spec, "annotations", json_pack("{s:s}", "tare.additionalGroups", "audio,77"));
    expect(spec, 0, "uid=1234 gid=44(video) groups=29(audio),44(video),77\n/\n");
    spec = containers_spec("id");
    json_object_set_new(process_of(spec), "user", json_pack("{s:s}", "username", "nobody"));
    expect_message(spec, "unable to find user nobody: no matching entries in passwd file");
}

static void test_streams_belong_to_the_user(void **state)
{
    json_t *spec = containers_spec("echo to stdout >/dev/stdout; echo to stderr >/dev/stderr");
    json_object_set_new(process_of(spec), "user", json_pack("{s:s}", "username", "user"));
    expect(spec, 0, "to stdout\nto stderr\n");
}

static void test_mounts(void **state)
{
    struct container_result result;
    g_autoptr(json_t) spec = containers_spec("cut -d' ' -f2,3,4 /proc/mounts | grep -v ^/sys/fs/cgroup/ | grep -v ' ext4\\|^/ '");
    containers_run(spec, &result);
    assert_string_equal(
        result.output,
        "/proc proc rw,nosuid,nodev,noexec,relatime\n/dev tmpfs rw,nosuid,size=65536k,mode=755\n"
        "/dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666\n/sys sysfs ro,nosuid,nodev,noexec,relatime\n"
        "/sys/fs/cgroup tmpfs ro,nosuid,nodev,noexec,relatime,mode=755\n/dev/mqueue mqueue rw,nosuid,nodev,noexec,relatime\n"
        "/dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k\n/proc/acpi tmpfs ro,relatime\n"
        "/proc/keys tmpfs rw,nosuid,size=65536k,mode=755\n/proc/timer_list tmpfs rw,nosuid,size=65536k,mode=755\n"
        "/sys/firmware tmpfs ro,relatime\n/proc/bus proc ro,nosuid,nodev,noexec,relatime\n"
        "/proc/fs proc ro,nosuid,nodev,noexec,relatime\n/proc/irq proc ro,nosuid,nodev,noexec,relatime\n"
        "/proc/sys proc ro,nosuid,nodev,noexec,relatime\n");
    containers_clear(&result);
}

static void test_masked_and_readonly_paths(void **state)
{
    expect_script("cat /proc/keys /proc/timer_list; ls /sys/firmware; echo x 2>/dev/null >/sys/firmware/x || echo no; "
                  "echo 1 2>/dev/null >/proc/sys/net/ipv4/ip_forward || echo read-only; "
                  "chmod 600 /proc/keys; stat -c %a /dev/null",
                  0, "no\nread-only\n600\n"); /* the mask is the container's own node: the host's keeps its mode */
    struct stat st;
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0666);
}

static void test_devices(void **state)
{
    expect_script(
        "cd /dev; ls; for n in null zero full random urandom tty; do stat -c '%n %t:%T %a %F' $n; done; "
        "for n in fd stdin stdout stderr ptmx; do readlink $n; done; echo gone >null; head -c 3 zero | wc -c; "
        "mknod /tmp/memory c 1 1 && dd if=/tmp/memory of=/dev/null bs=1 count=1 2>/dev/null || echo refused; rm /tmp/memory",
        0,
        "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n"
        "null 1:3 666 character special file\nzero 1:5 666 character special file\nfull 1:7 666 character special file\n"
        "random 1:8 666 character special file\nurandom 1:9 666 character special file\ntty 5:0 666 character special file\n"
        "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n3\nrefused\n");
    json_t *spec =
        containers_spec("stat -c '%n %t:%T %a %u:%g' /dev/deep/kmsg; head -c 1 /dev/deep/kmsg >/dev/null && echo read");
    json_object_set_new(linux_of(spec), "devices",
                        json_pack("[{s:s, s:s, s:i, s:i, s:i, s:i, s:i}]", "path", "/dev/deep/kmsg", "type", "c", "major", 1,
                                  "minor", 11, "fileMode", 0640, "uid", 0, "gid", 29));
    json_array_append_new(
        json_object_get(json_object_get(linux_of(spec), "resources"), "devices"),
        json_pack("{s:b, s:s, s:i, s:i, s:s}", "allow", 1, "type", "c", "major", 1, "minor", 11, "access", "rw"));
    /* Reading the kernel's log wants CAP_SYSLOG where it is restricted: the node alone is looked at there. */
    struct container_result result;
    containers_run(spec, &result);
    assert_true(g_str_has_prefix(result.output, "/dev/deep/kmsg 1:b 640 0:29\n"));
    containers_clear(&result);
    json_decref(spec);
}

static void test_only_the_streams_are_open(void **state)
{
    g_autofd int stray = open("/etc/hostname", O_RDONLY); /* not close-on-exec: the worst case */
    assert_true(stray >= 0);
    json_t *spec = containers_spec("");
    json_object_set_new(process_of(spec), "args", json_pack("[s, s]", "ls", "/proc/self/fd"));
    expect(spec, 0, "0\n1\n2\n3\n"); /* 3: the directory that ls reads */
}

static void test_working_directory(void **state)
{
    json_t *spec = containers_spec("pwd; stat -c '%a %u:%g' /new /new/dir; rm -r /new");
    json_object_set_new(process_of(spec), "cwd", json_string("/new/dir"));
    expect(spec, 0, "/new/dir\n755 0:0\n755 0:0\n");
    spec = containers_spec("");
    json_object_set_new(process_of(spec), "cwd", json_string("/etc/passwd"));
    expect_message(spec, "Cannot mkdir: /etc/passwd is not a directory");
    for (int i = 0; i < 65; i++) {
        struct container_result result;
        g_autofree char *cwd = g_strdup_printf("/proc/self/fd/%d", i);
        spec = containers_spec("ls ../../../etc/hostname; pwd");
        json_object_set_new(process_of(spec), "cwd", json_string(cwd));
        containers_run(spec, &result);
        assert_int_equal(result.code, -1);
        assert_true(g_str_has_prefix(result.message, "error during container init: mkdir /proc/self/fd/"));
        containers_clear(&result);
        json_decref(spec);
    }
}

static void test_terminal(void **state)
{
    struct runtime_plan *plan = NULL;
    struct runtime_container *container = NULL;
    GError *error = NULL;
    g_autoptr(json_t) spec =
        containers_spec("tty; stty size; stat -c '%t:%T %u' /dev/console; ls -l /proc/self/fd/0 | grep -c pts/0");
    json_object_set_new(process_of(spec), "terminal", json_true());
    json_object_set_new(process_of(spec), "consoleSize", json_pack("{s:i, s:i}", "height", 33, "width", 101));
    struct runtime_create_options options = { .id = "c", .root_fd = -1, .netns_fd = -1, .stdio = { -1, -1, -1 } };
    assert_true(runtime_plan_new(spec, &plan, &error));
    if (!runtime_create(plan, &options, &container, &error) || !runtime_start(container, &error))
        fail_msg("%s", error->message);
    g_autofd int master = runtime_take_terminal(container);
    assert_true(master >= 0);
    assert_int_equal(runtime_take_terminal(container), -1);
    g_autoptr(GString) output = g_string_new(NULL);
    char buffer[512];
    for (ssize_t n; (n = read(master, buffer, sizeof buffer)) > 0;) /* EIO once the slave is closed */
        g_string_append_len(output, buffer, n);
    assert_string_equal(output->str, "/dev/pts/0\r\n33 101\r\n88:0 0\r\n1\r\n");
    assert_int_equal(containers_wait(runtime_pidfd(container)), 0);
    assert_true(runtime_destroy(container, NULL));
    runtime_container_free(container);
    runtime_plan_free(plan);
}

static void test_executables(void **state)
{
    static const struct {
        const char *name, *message;
    } rows[] = {
        { "foo", "exec: \"foo\": executable file not found in $PATH" },
        { "/x", "exec: \"/x\": stat /x: no such file or directory" },
        { "./x", "exec: \"./x\": stat ./x: no such file or directory" },
        { "/etc/passwd", "exec: \"/etc/passwd\": permission denied" },
        { "/", "exec: \"/\": permission denied" },
        { "/etc/passwd/x", "exec: \"/etc/passwd/x\": stat /etc/passwd/x: not a directory" },
        { "", "exec: \"\": executable file not found in $PATH" },
        /* Our own program, by a link of the image: CVE-2019-5736's first step. */
        { "evil", "exec: \"evil\": executable file not found in $PATH" },
        { "/bin/evil", "exec: \"/bin/evil\": stat /bin/evil: too many levels of symbolic links" },
        { "/proc/self/exe", "exec: \"/proc/self/exe\": stat /proc/self/exe: too many levels of symbolic links" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_t *spec = containers_spec("");
        json_object_set_new(process_of(spec), "args", json_pack("[s]", rows[i].name));
        expect_message(spec, rows[i].message);
    }
    json_t *spec = containers_spec("");
    json_object_set_new(process_of(spec), "args", json_pack("[s]", "badformat"));
    expect(spec, 1, "exec /bin/badformat: exec format error\n");
    spec = containers_spec("");
    json_object_set_new(process_of(spec), "args", json_pack("[s]", "badinterpreter"));
    expect(spec, 1, "exec /bin/badinterpreter: no such file or directory\n");
}

static void test_limits_of_the_process(void **state)
{
    json_t *spec = containers_spec(
        "ulimit -n; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_unprivileged_port_start");
    json_object_set_new(process_of(spec), "rlimits",
                        json_pack("[{s:s, s:i, s:i}, {s:s, s:i, s:i}]", "type", "RLIMIT_NOFILE", "soft", 100, "hard", 200, "type",
                                  "RLIMIT_CORE", "soft", 0, "hard", 0));
    json_object_set_new(process_of(spec), "oomScoreAdj", json_integer(321));
    expect(spec, 0, "100\n200\n0\n321\n0\n");
}

static void test_bind_mounts(void **state)
{
    char template[] = "/tmp/tare-bind-XXXXXX";
    g_autofree char *dir = g_strdup(mkdtemp(template)), *file = g_build_filename(dir, "file", NULL),
                    *under = g_build_filename(dir, "sub", NULL);
    assert_true(g_file_set_contents(file, "text\n", -1, NULL));
    assert_int_equal(mkdir(under, 0755), 0);
    json_t *spec =
        containers_spec("cat /data/file /etc/one; echo w >/data/w && echo written; echo w 2>/dev/null >/ro/w || echo read-only; "
                        "echo w 2>/dev/null >>/etc/one || echo read-only; ls /made/for/it; rm /data/w");
    add_mount(spec, "/data", "bind", dir, "rbind,rprivate");
    add_mount(spec, "/ro", "bind", dir, "rbind,rprivate,ro");
    add_mount(spec, "/etc/one", "bind", file, "bind,ro");
    add_mount(spec, "/made/for/it", "bind", dir, "rbind,rro");
    add_mount(spec, "/scratch", "tmpfs", "tmpfs", "size=64k,mode=1700,noexec");
    expect(spec, 0, "text\ntext\nwritten\nread-only\nread-only\nfile\nsub\nw\n");
    spec = containers_spec("");
    add_mount(spec, "/data", "bind", "/nowhere/at/all", "rbind");
    expect_message(
        spec,
        "error during container init: error mounting \"/nowhere/at/all\" to rootfs at \"/data\": no such file or directory");
    unlink(file);
    rmdir(under);
    rmdir(dir);
}

static void test_readonly_root(void **state)
{
    json_t *spec = containers_spec("touch /x 2>&1; touch /dev/shm/x && echo shm");
    json_object_set_new(json_object_get(spec, "root"), "readonly", json_true());
    expect(spec, 0, "touch: /x: Read-only file system\nshm\n");
}

static void test_exec(void **state)
{
    int output;
    GError *error = NULL;
    g_autoptr(json_t) spec = containers_spec("sleep 1000");
    struct runtime_container *container = containers_start(spec, &output);
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    g_autoptr(json_t) process = json_deep_copy(process_of(spec));
    json_object_set_new(process, "args",
                        json_pack("[s, s, s]", "sh", "-c",
                                  "cat /proc/1/cmdline | head -c 5; echo; echo $HOME; id -u; for p in self 1; do "
                                  "readlink /proc/$p/ns/net; done | sort -u | wc -l; grep -E '^(CapInh|CapEff|Seccomp):' "
                                  "/proc/self/status; cut -d: -f3 /proc/self/cgroup | sort -u | wc -l; exit 9"));
    json_object_set_new(process, "user", json_pack("{s:s}", "username", "user"));
    struct runtime_exec_options options = { { -1, ends[1], ends[1] } };
    struct runtime_process started;
    if (!runtime_exec(container, process, &options, &started, &error))
        fail_msg("%s", error->message);
    assert_int_equal(started.terminal_fd, -1);
    close(ends[1]);
    g_autofree char *text = containers_read(ends[0]);
    assert_string_equal(text,
                        "sleep\n/home/user\n1000\n1\nCapInh:\t0000000000000000\nCapEff:\t0000000000000000\nSeccomp:\t2\n1\n");
    assert_int_equal(containers_wait(started.pidfd), 9); /* a child of ours */
    close(started.pidfd);
    close(ends[0]);
    /* Failures leave no zombie and say what dockerd would. */
    static const struct {
        const char *name, *message;
    } rows[] = {
        { "foo", "exec: \"foo\": executable file not found in $PATH" },
        { "/x", "exec: \"/x\": stat /x: no such file or directory" },
        { "evil", "exec: \"evil\": executable file not found in $PATH" },
    };
    struct runtime_exec_options silent = { { -1, -1, -1 } };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_object_set_new(process, "args", json_pack("[s]", rows[i].name));
        assert_false(runtime_exec(container, process, &silent, &started, &error));
        assert_string_equal(error->message, rows[i].message);
        g_clear_error(&error);
    }
    json_object_set_new(process, "cwd", json_string("/nope"));
    assert_false(runtime_exec(container, process, &silent, &started, &error));
    assert_string_equal(error->message, "chdir to cwd (\"/nope\") set in config.json failed: no such file or directory");
    g_clear_error(&error);
    assert_true(runtime_kill(container, SIGKILL, false, &error));
    assert_int_equal(containers_wait(runtime_pidfd(container)), 128 + SIGKILL);
    assert_false(runtime_exec(container, process, &silent, &started, &error));
    g_clear_error(&error);
    siginfo_t info = { 0 };
    assert_int_equal(waitid(P_ALL, 0, &info, WEXITED | WNOHANG), -1); /* ECHILD: nobody left to reap */
    assert_true(runtime_destroy(container, NULL));
    runtime_container_free(container);
    close(output);
}

static void test_exec_with_terminal(void **state)
{
    int output;
    GError *error = NULL;
    g_autoptr(json_t) spec = containers_spec("sleep 1000");
    struct runtime_container *container = containers_start(spec, &output);
    g_autoptr(json_t) process = json_deep_copy(process_of(spec));
    json_object_set_new(process, "args", json_pack("[s, s, s]", "sh", "-c", "tty; echo $$ >/dev/null"));
    json_object_set_new(process, "terminal", json_true());
    struct runtime_exec_options options = { { -1, -1, -1 } };
    struct runtime_process started;
    if (!runtime_exec(container, process, &options, &started, &error))
        fail_msg("%s", error->message);
    char buffer[64] = "";
    ssize_t n = read(started.terminal_fd, buffer, sizeof buffer - 1);
    assert_true(n > 0);
    assert_string_equal(buffer, "/dev/pts/0\r\n");
    assert_int_equal(containers_wait(started.pidfd), 0);
    close(started.terminal_fd);
    close(started.pidfd);
    runtime_kill(container, SIGKILL, false, NULL);
    containers_wait(runtime_pidfd(container));
    assert_true(runtime_destroy(container, NULL));
    runtime_container_free(container);
    close(output);
}

static void test_given_root_and_network(void **state)
{
    struct container_result result;
    g_autoptr(json_t) spec = containers_spec("readlink /proc/self/ns/net; ls -d /bin; touch /tmp/here && rm /tmp/here");
    /* A network namespace made beforehand, as the engine's pool has them. */
    g_autofd int before = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    g_autofd int given = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    char name[64] = "";
    assert_true(readlink("/proc/self/ns/net", name, sizeof name - 1) > 0);
    assert_int_equal(setns(before, CLONE_NEWNET), 0);
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, containers_root(), 1 /* OPEN_TREE_CLONE */ | O_CLOEXEC);
    assert_true(tree >= 0);
    struct runtime_create_options options = { .root_fd = tree, .netns_fd = given };
    json_object_set_new(json_object_get(spec, "root"), "path", json_string("/nonexistent"));
    containers_run_with(spec, &options, &result);
    assert_string_equal(result.message, "");
    g_autofree char *wanted = g_strconcat(name, "\n/bin\n", NULL);
    assert_string_equal(result.output, wanted);
    assert_int_equal(result.code, 0);
    containers_clear(&result);
    assert_int_equal(fcntl(tree, F_GETFD), -1); /* taken */
}

static void test_init(void **state)
{
    struct container_result result;
    g_autoptr(json_t) spec = containers_spec(
        "cat /proc/1/cmdline | head -c 17; echo; (sh -c 'sleep 0.05 & exit'); sleep 0.2; cat /proc/[0-9]*/stat | grep -c ' Z '; "
        "echo x 2>/dev/null >/sbin/docker-init || echo read-only; exit 6");
    struct runtime_create_options options = { .root_fd = -1, .netns_fd = -1, .init_path = TARE_INIT };
    containers_run_with(spec, &options, &result);
    assert_string_equal(result.message, "");
    assert_int_equal(result.code, 6);
    assert_string_equal(result.output, "/sbin/docker-init\n0\nread-only\n");
    containers_clear(&result);
    json_object_set_new(process_of(spec), "args", json_pack("[s]", "nothing-of-the-kind"));
    options = (struct runtime_create_options){ .root_fd = -1, .netns_fd = -1, .init_path = TARE_INIT };
    containers_run_with(spec, &options, &result);
    assert_int_equal(result.code, 127);
    containers_clear(&result);
}

static void test_user_namespace(void **state)
{
    json_t *spec =
        containers_spec("id -u; grep -c 100000 /proc/self/uid_map; grep ^CapEff /proc/self/status; stat -c '%t:%T' /dev/null; "
                        "echo x >/dev/null && echo null; ls -d /sys/fs/cgroup");
    json_object_del(linux_of(spec), "sysctl"); /* Docker's range of groups is larger than the mapping */
    json_array_append_new(json_object_get(linux_of(spec), "namespaces"), json_pack("{s:s}", "type", "user"));
    json_object_set_new(linux_of(spec), "uidMappings",
                        json_pack("[{s:i, s:i, s:i}]", "containerID", 0, "hostID", 100000, "size", 65536));
    json_object_set_new(linux_of(spec), "gidMappings",
                        json_pack("[{s:i, s:i, s:i}]", "containerID", 0, "hostID", 100000, "size", 65536));
    expect(spec, 0, "0\n1\nCapEff:\t00000000a80425fb\n1:3\nnull\n/sys/fs/cgroup\n");
}

static void test_user_namespace_with_given_network(void **state)
{
    struct container_result result;
    g_autoptr(json_t) spec = containers_spec("cat /proc/net/dev | grep -c :; ls /sys/class/net >/dev/null && echo sys; id -u");
    json_object_del(linux_of(spec), "sysctl");
    json_array_append_new(json_object_get(linux_of(spec), "namespaces"), json_pack("{s:s}", "type", "user"));
    json_object_set_new(linux_of(spec), "uidMappings",
                        json_pack("[{s:i, s:i, s:i}]", "containerID", 0, "hostID", 100000, "size", 65536));
    json_object_set_new(linux_of(spec), "gidMappings",
                        json_pack("[{s:i, s:i, s:i}]", "containerID", 0, "hostID", 100000, "size", 65536));
    g_autofd int before = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    g_autofd int given = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    assert_int_equal(setns(before, CLONE_NEWNET), 0);
    struct runtime_create_options options = { .root_fd = -1, .netns_fd = given };
    containers_run_with(spec, &options, &result);
    assert_string_equal(result.message, "");
    assert_string_equal(result.output, "1\nsys\n0\n");
    containers_clear(&result);
}

static void test_kill_and_root(void **state)
{
    int output;
    g_autoptr(json_t) spec = containers_spec("trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    struct runtime_container *container = containers_start(spec, &output);
    char ready[6];
    assert_int_equal(fd_read_full(output, ready, sizeof ready), sizeof ready);
    /* The root as the container sees it: its own /proc is mounted there. */
    g_autofd int version = openat(runtime_root_fd(container), "proc/version", O_RDONLY | O_CLOEXEC);
    assert_true(version >= 0);
    g_autoptr(json_t) pids = runtime_pids(container, NULL);
    assert_true(json_array_size(pids) >= 1);
    assert_true(runtime_kill(container, SIGTERM, false, NULL));
    assert_int_equal(containers_wait(runtime_pidfd(container)), 3);
    g_autofree char *text = containers_read(output);
    assert_string_equal(text, "got it\n");
    GError *error = NULL;
    assert_false(runtime_kill(container, SIGTERM, false, &error));
    g_clear_error(&error);
    assert_true(runtime_destroy(container, NULL));
    runtime_container_free(container);
    close(output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exit_codes),
        cmocka_unit_test(test_namespaces),
        cmocka_unit_test(test_rights),
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_streams_belong_to_the_user),
        cmocka_unit_test(test_mounts),
        cmocka_unit_test(test_masked_and_readonly_paths),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_only_the_streams_are_open),
        cmocka_unit_test(test_working_directory),
        cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_executables),
        cmocka_unit_test(test_limits_of_the_process),
        cmocka_unit_test(test_bind_mounts),
        cmocka_unit_test(test_readonly_root),
        cmocka_unit_test(test_exec),
        cmocka_unit_test(test_exec_with_terminal),
        cmocka_unit_test(test_given_root_and_network),
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_user_namespace),
        cmocka_unit_test(test_user_namespace_with_given_network),
        cmocka_unit_test(test_kill_and_root),
    };
    return cmocka_run_group_tests(tests, containers_setup, containers_teardown);
}
