#include "runtime_containers.h"

#include "base/fd.h"
#include "base/file.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *root;

static void make_file(const char *name, const char *text, mode_t mode)
{
    g_autofree char *path = g_build_filename(root, name, NULL);
    assert_true(g_file_set_contents(path, text, -1, NULL));
    assert_int_equal(chmod(path, mode), 0);
}

int containers_setup(void **state)
{
    static const char *const dirs[] = { "bin", "etc", "tmp", "root", "home", "home/user" };
    static const char *const applets[] = { "sh",   "ls",   "cat",    "id",       "mount", "env",   "stat", "sleep", "grep",
                                           "ps",   "tty",  "mknod",  "touch",    "mkdir", "chmod", "dd",   "stty",  "head",
                                           "tail", "kill", "true",   "readlink", "echo",  "pwd",   "wc",   "test",  "seq",
                                           "cut",  "sort", "sysctl", "umount",   "rm",    "ip",    "dmesg" };
    char template[] = "/tmp/tare-containers-XXXXXX", *contents;
    gsize length;
    assert_int_equal(geteuid(), 0); /* these tests are root's; a skip would be a lie */
    root = g_strdup(mkdtemp(template));
    chmod(root, 0755);
    for (size_t i = 0; i < G_N_ELEMENTS(dirs); i++) {
        g_autofree char *path = g_build_filename(root, dirs[i], NULL);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    assert_true(g_file_get_contents("/bin/busybox", &contents, &length, NULL));
    g_autofree char *busybox = g_build_filename(root, "bin/busybox", NULL);
    assert_true(g_file_set_contents(busybox, contents, (gssize)length, NULL));
    g_free(contents);
    chmod(busybox, 0755);
    for (size_t i = 0; i < G_N_ELEMENTS(applets); i++) {
        g_autofree char *path = g_build_filename(root, "bin", applets[i], NULL);
        assert_int_equal(symlink("busybox", path), 0);
    }
    make_file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n", 0644);
    make_file("etc/group", "root:x:0:\nuser:x:1000:\naudio:x:29:user\nvideo:x:44:\n", 0644);
    make_file("bin/badformat", "neither ELF nor script\n", 0755);
    make_file("bin/badinterpreter", "#!/nowhere/interpreter\n", 0755);
    g_autofree char *evil = g_build_filename(root, "bin/evil", NULL);
    assert_int_equal(symlink("/proc/self/exe", evil), 0);
    return 0;
}

int containers_teardown(void **state)
{
    g_autofd int parent = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir_remove_tree(parent, strrchr(root, '/') + 1, NULL));
    g_clear_pointer(&root, g_free);
    static const char *const points[] = { "cpu",     "cpuacct", "cpuset", "memory",  "devices",
                                          "freezer", "blkio",   "pids",   "systemd", "unified" };
    for (size_t i = 0; i < G_N_ELEMENTS(points); i++) {
        g_autofree char *path = g_strdup_printf("/sys/fs/cgroup/%s/tare-unit-%d", points[i], (int)getpid());
        rmdir(path);
    }
    return 0;
}

const char *containers_root(void)
{
    return root;
}

json_t *containers_spec(const char *script)
{
    g_autofree char *text = NULL;
    GError *error = NULL;
    size_t length;
    assert_true(file_read(AT_FDCWD, TEST_DATA "/runtime/docker.json", 1 << 20, &text, &length, &error));
    json_t *spec = json_parse(text, length, 1 << 20, "docker.json", &error);
    assert_non_null(spec);
    json_object_set_new(json_object_get(spec, "root"), "path", json_string(root));
    json_object_set_new(json_object_get(spec, "process"), "args", json_pack("[s, s, s]", "sh", "-c", script));
    json_t *platform = json_object_get(spec, "linux");
    g_autofree char *cgroup = g_strdup_printf("/tare-unit-%d/c", (int)getpid());
    json_object_set_new(platform, "cgroupsPath", json_string(cgroup));
    return spec;
}

char *containers_read(int fd)
{
    char *text = NULL;
    assert_true(fd_read_all(fd, 1 << 20, "output", &text, NULL, NULL));
    return text;
}

int containers_wait(int pidfd)
{
    siginfo_t info = { 0 };
    assert_int_equal(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

static GByteArray *cached_filter(const json_t *spec)
{
    static GByteArray *filter; /* the compiling is slow, and tested elsewhere */
    if (!filter) {
        const json_t *sets = json_object_get(json_object_get(spec, "process"), "capabilities");
        g_auto(GStrv) names = json_string_array(json_object_get(sets, "bounding"));
        g_autoptr(json_t) policy = runtime_seccomp_default((const char *const *)names);
        assert_true(runtime_seccomp_compile(policy, &filter, NULL));
    }
    return filter;
}

void containers_run_with(const json_t *spec, struct runtime_create_options *options, struct container_result *ret)
{
    struct runtime_plan *plan = NULL;
    struct runtime_container *container = NULL;
    GError *error = NULL;
    int ends[2];
    *ret = (struct container_result){ .code = -1 };
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    options->id = "c";
    options->stdio[0] = -1;
    options->stdio[1] = options->stdio[2] = ends[1];
    bool ok = runtime_plan_new(spec, &plan, &error) && runtime_create(plan, options, &container, &error) &&
              runtime_start(container, &error);
    close(ends[1]);
    ret->output = containers_read(ends[0]);
    close(ends[0]);
    if (container) {
        if (ok)
            ret->code = containers_wait(runtime_pidfd(container));
        else
            containers_wait(runtime_pidfd(container));
        assert_true(runtime_destroy(container, NULL));
        assert_true(runtime_destroy(container, NULL)); /* idempotent */
    }
    assert_int_equal(ok, error == NULL);
    ret->message = g_strdup(error ? error->message : "");
    g_clear_error(&error);
    runtime_container_free(container);
    runtime_plan_free(plan);
    containers_assert_no_cgroup();
}

void containers_run(const json_t *spec, struct container_result *ret)
{
    GByteArray *filter = cached_filter(spec);
    struct runtime_create_options options = {
        .root_fd = -1, .netns_fd = -1, .seccomp = filter->data, .seccomp_length = filter->len
    };
    containers_run_with(spec, &options, ret);
}

struct runtime_container *containers_start(const json_t *spec, int *ret_output)
{
    struct runtime_plan *plan = NULL;
    struct runtime_container *container = NULL;
    GError *error = NULL;
    int ends[2];
    GByteArray *filter = cached_filter(spec);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct runtime_create_options options = { .id = "c",
                                              .root_fd = -1,
                                              .netns_fd = -1,
                                              .seccomp = filter->data,
                                              .seccomp_length = filter->len,
                                              .stdio = { -1, ends[1], ends[1] } };
    if (!runtime_plan_new(spec, &plan, &error) || !runtime_create(plan, &options, &container, &error) ||
        !runtime_start(container, &error))
        fail_msg("%s", error->message);
    close(ends[1]);
    runtime_plan_free(plan);
    *ret_output = ends[0];
    return container;
}

void containers_clear(struct container_result *result)
{
    g_free(result->output);
    g_free(result->message);
}

void containers_assert_no_cgroup(void)
{
    static const char *const points[] = { "memory", "pids", "devices", "cpu", "freezer", "unified" };
    for (size_t i = 0; i < G_N_ELEMENTS(points); i++) {
        g_autofree char *path = g_strdup_printf("/sys/fs/cgroup/%s/tare-unit-%d/c", points[i], (int)getpid());
        if (access(path, F_OK) == 0)
            fail_msg("%s is left", path);
    }
}
