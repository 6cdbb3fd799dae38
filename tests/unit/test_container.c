/* Containers through the manager, as root: an image of Debian's static busybox is imported, its containers live and die. */
#include "container/container.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/identifier.h"
#include "layer/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define BUSYBOX "/bin/busybox"

struct engine {
    char *root;
    struct database *database;
    struct layer_store *layers;
    struct image_store *images;
    struct volume_manager *volumes;
    struct container_manager *containers;
    struct event_sink events;
    GString *log; /* "action name" lines */
    GMutex lock;
};

static void on_event(void *user, const char *type, const char *action, const char *id, const json_t *attributes)
{
    struct engine *engine = user;
    g_mutex_lock(&engine->lock);
    if (!strcmp(type, "container"))
        g_string_append_printf(engine->log, "%s;", action);
    g_mutex_unlock(&engine->lock);
}

#define OK(call)                                                          \
    do {                                                                  \
        GError *error = NULL;                                             \
        if (!(call)) {                                                    \
            print_error("%s: %s\n", #call, error ? error->message : "?"); \
            fail();                                                       \
        }                                                                 \
    } while (0)

#define REFUSED(call, wanted_code, text)            \
    do {                                            \
        g_autoptr(GError) error = NULL;             \
        assert_false(call);                         \
        assert_string_equal(error->message, text);  \
        assert_int_equal(error->code, wanted_code); \
    } while (0)

/* ---- an image ---- */

struct memory_sink {
    struct byte_sink sink;
    GByteArray *bytes;
};

static bool append(struct byte_sink *self, const void *data, gsize length, GError **error)
{
    g_byte_array_append(((struct memory_sink *)(void *)self)->bytes, data, (guint)length);
    return true;
}

static void add_entry(struct tar_writer *writer, const char *path, mode_t mode, const char *link, const char *content)
{
    struct tar_entry entry = { .path = g_strdup(path), .mode = mode, .link = g_strdup(link), .mtime = 1000000000 };
    if (content)
        entry.size = entry.stored_size = strlen(content);
    OK(tar_writer_entry(writer, &entry, &error));
    if (content)
        OK(tar_writer_data(writer, content, strlen(content), &error));
    tar_entry_clear(&entry);
}

static void add_busybox(struct tar_writer *writer)
{
    static const char *const applets[] = { "sh", "cat",   "echo", "sleep", "true", "id",   "ls", "touch",
                                           "rm", "mkdir", "env",  "mount", "stat", "head", "ip", "seq" };
    struct stat st;
    g_autofd int fd = open(BUSYBOX, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    struct tar_entry entry = {
        .path = g_strdup("bin/busybox"), .mode = S_IFREG | 0755, .size = st.st_size, .stored_size = st.st_size
    };
    OK(tar_writer_entry(writer, &entry, &error));
    OK(tar_writer_data_fd(writer, fd, st.st_size, &error));
    tar_entry_clear(&entry);
    for (size_t i = 0; i < G_N_ELEMENTS(applets); i++) {
        g_autofree char *path = g_strconcat("bin/", applets[i], NULL);
        add_entry(writer, path, S_IFLNK | 0777, "busybox", NULL);
    }
}

static GByteArray *busybox_tar(void)
{
    struct memory_sink sink = { .sink.write = append, .bytes = g_byte_array_new() };
    struct tar_writer *writer = tar_writer_new(&sink.sink);
    add_entry(writer, "bin", S_IFDIR | 0755, NULL, NULL);
    add_busybox(writer);
    add_entry(writer, "etc", S_IFDIR | 0755, NULL, NULL);
    add_entry(writer, "etc/passwd", S_IFREG | 0644, NULL, "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n");
    add_entry(writer, "data", S_IFDIR | 01750, NULL, NULL);
    add_entry(writer, "data/file", S_IFREG | 0640, NULL, "from the image\n");
    add_entry(writer, "tmp", S_IFDIR | 01777, NULL, NULL);
    OK(tar_writer_finish(writer, &error));
    tar_writer_free(writer);
    return sink.bytes;
}

static void import_busybox(struct engine *engine)
{
    g_autoptr(GByteArray) tar = busybox_tar();
    struct memory_source source;
    memory_source_init(&source, tar->data, tar->len);
    const struct image_import_options options = { .source_name = "-", .reference = "bb:latest" };
    struct image *image;
    OK(image_import(engine->images, &source.source, &options, &image, &error));
    image_unref(image);
}

/* ---- the engine ---- */

static void open_managers(struct engine *engine)
{
    g_autofree char *database = g_build_filename(engine->root, "data", "tare.db", NULL);
    g_autofree char *data = g_build_filename(engine->root, "data", NULL);
    g_autofree char *run = g_build_filename(engine->root, "run", NULL);
    const struct layer_store_options layer_options = { .ingest_program = TARE_INGEST };
    OK(database_open(database, &engine->database, &error));
    OK(layer_store_open(data, &layer_options, &engine->layers, &error));
    OK(image_store_open(engine->database, engine->layers, &engine->events, &engine->images, &error));
    OK(volume_manager_open(engine->database, data, &engine->events, &engine->volumes, &error));
    const struct container_manager_options options = {
        .database = engine->database,
        .layers = engine->layers,
        .images = engine->images,
        .volumes = engine->volumes,
        .events = &engine->events,
        .data_root = data,
        .run_root = run,
        .shim_program = TARE_SHIM,
        .init_program = TARE_INIT,
        .cgroup_parent = "tare-test",
    };
    OK(container_manager_open(&options, &engine->containers, &error));
}

static void close_managers(struct engine *engine)
{
    container_manager_close(engine->containers);
    volume_manager_close(engine->volumes);
    image_store_close(engine->images);
    layer_store_close(engine->layers);
    database_close(engine->database);
}

static int set_up(void **state)
{
    struct engine *engine = g_new0(struct engine, 1);
    engine->root = g_dir_make_tmp("tare-container-XXXXXX", NULL);
    engine->log = g_string_new(NULL);
    g_mutex_init(&engine->lock);
    engine->events = (struct event_sink){ on_event, engine };
    const char *const names[] = { "data", "run" };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(engine->root, names[i], NULL);
        if (mkdir(path, 0700) < 0)
            return -1;
    }
    open_managers(engine);
    import_busybox(engine);
    *state = engine;
    return 0;
}

static int tear_down(void **state)
{
    struct engine *engine = *state;
    json_t *list;
    size_t i;
    json_t *container;
    OK(container_list(engine->containers, true, 0, false, NULL, 41, &list, &error));
    json_array_foreach(list, i, container)
        OK(container_remove(engine->containers, json_get_string(container, "Id", ""), true, true, false, &error));
    json_decref(list);
    close_managers(engine);
    OK(dir_remove_tree(AT_FDCWD, engine->root, &error));
    g_string_free(engine->log, TRUE);
    g_mutex_clear(&engine->lock);
    g_free(engine->root);
    g_free(engine);
    return 0;
}

/* ---- helpers ---- */

static char *create(struct engine *engine, const char *name, const char *body_text)
{
    g_autoptr(json_t) body = json_loads(body_text, 0, NULL);
    g_autoptr(json_t) answer = NULL;
    assert_non_null(body);
    OK(container_create(engine->containers, name, NULL, body, 41, &answer, &error));
    return g_strdup(json_get_string(answer, "Id", ""));
}

static int wait_for(struct engine *engine, const char *container, const char *condition)
{
    struct container_waiter *waiter;
    g_autoptr(json_t) result = NULL;
    OK(container_wait_begin(engine->containers, container, condition, &waiter, &error));
    OK(container_wait_finish(waiter, NULL, &result, &error));
    return (int)json_get_int(result, "StatusCode", -1);
}

static char *logs_of(struct engine *engine, const char *container, struct container_logs_options options)
{
    struct memory_sink sink = { .sink.write = append, .bytes = g_byte_array_new() };
    options.use_stdout = true;
    OK(container_logs(engine->containers, container, &options, &sink.sink, NULL, &error));
    g_byte_array_append(sink.bytes, (const guint8 *)"", 1);
    return (char *)g_byte_array_free(sink.bytes, FALSE);
}

/* Runs "sh -c script" in a container of these host options to its end; its output. */
static char *run(struct engine *engine, const char *host_config, const char *script, int expected)
{
    g_autoptr(json_t) quoted = json_string(script);
    g_autofree char *script_json = json_dumps(quoted, JSON_ENCODE_ANY);
    g_autofree char *body =
        g_strdup_printf("{\"Image\":\"bb\",\"Cmd\":[\"sh\",\"-c\",%s],\"HostConfig\":{\"NetworkMode\":\"none\"%s%s}}",
                        script_json, *host_config ? "," : "", host_config);
    g_autofree char *id = create(engine, NULL, body);
    OK(container_start(engine->containers, id, NULL, &error));
    assert_int_equal(wait_for(engine, id, NULL), expected);
    char *output = logs_of(engine, id, (struct container_logs_options){ .tail = -1 });
    OK(container_remove(engine->containers, id, false, true, false, &error));
    return output;
}

static json_t *inspect(struct engine *engine, const char *container)
{
    json_t *object;
    OK(container_inspect(engine->containers, container, false, 41, &object, &error));
    return object;
}

/* ---- tests ---- */

static void test_life(void **state)
{
    struct engine *engine = *state;
    g_string_truncate(engine->log, 0);
    g_autofree char *id = create(engine, "life",
                                 "{\"Image\":\"bb\",\"Cmd\":[\"sh\",\"-c\",\"echo out; echo err >&2; exit "
                                 "7\"],\"HostConfig\":{\"NetworkMode\":\"none\"}}");
    g_autoptr(json_t) before = inspect(engine, "life");
    assert_string_equal(json_get_string(json_get_object(before, "State"), "Status", ""), "created");
    OK(container_start(engine->containers, "life", NULL, &error));
    assert_int_equal(wait_for(engine, "life", NULL), 7);
    g_autofree char *output = logs_of(engine, "life", (struct container_logs_options){ .tail = -1 });
    assert_string_equal(output, "out\n");
    g_autofree char *both = logs_of(engine, "life", (struct container_logs_options){ .tail = 1, .use_stderr = true });
    assert_true(!strcmp(both, "err\n") || !strcmp(both, "out\n"));
    g_autoptr(json_t) after = inspect(engine, id);
    json_t *container_state = json_get_object(after, "State");
    assert_string_equal(json_get_string(container_state, "Status", ""), "exited");
    assert_int_equal(json_get_int(container_state, "ExitCode", -1), 7);
    /* A second life. */
    OK(container_start(engine->containers, "life", NULL, &error));
    assert_int_equal(wait_for(engine, "life", NULL), 7);
    OK(container_remove(engine->containers, "life", false, false, false, &error));
    g_mutex_lock(&engine->lock);
    assert_string_equal(engine->log->str, "create;start;die;start;die;destroy;");
    g_mutex_unlock(&engine->lock);
    REFUSED(container_inspect(engine->containers, "life", false, 41, &before, &error), TARE_ERROR_NOT_FOUND,
            "No such container: life");
}

static void test_environment(void **state)
{
    struct engine *engine = *state;
    g_autofree char *ids =
        run(engine, "", "id -u; echo $HOME; echo $PATH; test -e /.dockerenv && echo marked; cat /proc/1/comm", 0);
    assert_string_equal(ids, "0\n/root\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nmarked\ncat\n");
    g_autofree char *mode = run(engine, "", "stat -c %a /; stat -c %a /tmp; stat -c %a /data", 0);
    assert_string_equal(mode, "755\n1777\n1750\n");
    g_autofree char *memory = run(engine, "\"ReadonlyRootfs\":true,\"Tmpfs\":{\"/scratch\":\"\"}",
                                  "touch /x 2>/dev/null || echo read-only; touch /scratch/x && echo writable", 0);
    assert_string_equal(memory, "read-only\nwritable\n");
}

static void test_automatic_removal(void **state)
{
    struct engine *engine = *state;
    g_autofree char *id = create(engine, "auto",
                                 "{\"Image\":\"bb\",\"Cmd\":[\"true\"],\"HostConfig\":{\"NetworkMode\":\"none\",\"AutoRemove\":"
                                 "true},\"Volumes\":{\"/v\":{}}}");
    struct container_waiter *waiter;
    g_autoptr(json_t) result = NULL;
    g_autoptr(json_t) volumes = NULL;
    OK(container_wait_begin(engine->containers, id, "removed", &waiter, &error));
    OK(container_start(engine->containers, id, NULL, &error));
    OK(container_wait_finish(waiter, NULL, &result, &error));
    assert_int_equal(json_get_int(result, "StatusCode", -1), 0);
    g_autofree char *directory = g_build_filename(engine->root, "data", "containers", id, NULL);
    for (int i = 0; i < 200 && access(directory, F_OK) == 0; i++) /* files go after the answer */
        g_usleep(10000);
    assert_int_equal(access(directory, F_OK), -1);
    OK(volume_list(engine->volumes, NULL, &volumes, &error));
    assert_int_equal(json_array_size(json_object_get(volumes, "Volumes")), 0);
}

static void test_failed_starts(void **state)
{
    struct engine *engine = *state;
    static const struct {
        const char *name, *command, *message;
        int exit_code;
    } cases[] = {
        { "missing", "foo",
          "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "
          "\"foo\": executable file not found "
          "in $PATH: unknown",
          127 },
        { "forbidden", "/etc/passwd",
          "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "
          "\"/etc/passwd\": permission "
          "denied: unknown",
          126 },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *body =
            g_strdup_printf("{\"Image\":\"bb\",\"Cmd\":[\"%s\"],\"HostConfig\":{\"NetworkMode\":\"none\"}}", cases[i].command);
        g_autofree char *id = create(engine, cases[i].name, body);
        REFUSED(container_start(engine->containers, id, NULL, &error), TARE_ERROR_INVALID, cases[i].message);
        g_autoptr(json_t) object = inspect(engine, id);
        json_t *container_state = json_get_object(object, "State");
        assert_string_equal(json_get_string(container_state, "Status", ""), "created");
        assert_string_equal(json_get_string(container_state, "Error", ""), cases[i].message);
        assert_int_equal(json_get_int(container_state, "ExitCode", -1), cases[i].exit_code);
    }
    g_autofree char *id = create(
        engine, "nobody", "{\"Image\":\"bb\",\"User\":\"zork\",\"Cmd\":[\"true\"],\"HostConfig\":{\"NetworkMode\":\"none\"}}");
    REFUSED(container_start(engine->containers, id, NULL, &error), TARE_ERROR_INVALID,
            "unable to find user zork: no matching entries in passwd file");
}

static void test_names_and_conflicts(void **state)
{
    struct engine *engine = *state;
    g_autofree char *id = create(engine, "named", "{\"Image\":\"bb\",\"Cmd\":[\"true\"]}");
    g_autofree char *taken = g_strdup_printf(
        "Conflict. The container name \"/named\" is already in use by container \"%s\". You have to remove (or rename) that "
        "container to be able to reuse that name.",
        id);
    g_autoptr(json_t) body = json_loads("{\"Image\":\"bb\",\"Cmd\":[\"true\"]}", 0, NULL);
    g_autoptr(json_t) bare = json_loads("{\"Image\":\"bb\"}", 0, NULL);
    g_autoptr(json_t) unknown = json_loads("{\"Image\":\"nope\",\"Cmd\":[\"true\"]}", 0, NULL);
    json_t *answer;
    REFUSED(container_create(engine->containers, "named", NULL, body, 41, &answer, &error), TARE_ERROR_CONFLICT, taken);
    REFUSED(container_create(engine->containers, "a", NULL, body, 41, &answer, &error), TARE_ERROR_INVALID,
            "Invalid container name (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    REFUSED(container_create(engine->containers, NULL, NULL, bare, 41, &answer, &error), TARE_ERROR_INVALID,
            "No command specified");
    REFUSED(container_create(engine->containers, NULL, NULL, unknown, 41, &answer, &error), TARE_ERROR_NOT_FOUND,
            "No such image: nope:latest");
    OK(container_rename(engine->containers, "named", "other", &error));
    REFUSED(container_rename(engine->containers, "other", "other", &error), TARE_ERROR_INVALID,
            "Renaming a container with the same name as its current name");
    char prefix[5];
    g_strlcpy(prefix, id, sizeof(prefix));
    g_autoptr(json_t) object = inspect(engine, prefix);
    assert_string_equal(json_get_string(object, "Name", ""), "/other");
}

/* docker restart of a --rm container: it stays, and its overlay can be mounted a second time. */
static void test_restart_of_a_volatile_one(void **state)
{
    struct engine *engine = *state;
    g_autofree char *id =
        create(engine, NULL,
               "{\"Image\":\"bb\",\"Cmd\":[\"sleep\",\"1000\"],\"HostConfig\":{\"NetworkMode\":\"none\",\"AutoRemove\":true}}");
    json_t *object;
    OK(container_start(engine->containers, id, NULL, &error));
    OK(container_restart(engine->containers, id, NULL, 0, NULL, &error));
    OK(container_pause(engine->containers, id, true, &error));
    OK(container_stop(engine->containers, id, NULL, 0, NULL, &error));
    for (int i = 0; i < 500 && container_inspect(engine->containers, id, false, 41, &object, NULL); i++) {
        json_decref(object);
        g_usleep(2000);
    }
    assert_false(container_inspect(engine->containers, id, false, 41, &object, NULL));
}

/* Reads until the peer ends; what it sent. */
static char *read_all(int fd)
{
    char *text;
    size_t length;
    OK(fd_read_all(fd, 1 << 20, "stream", &text, &length, &error));
    return text;
}

static void test_attach_before_start(void **state)
{
    struct engine *engine = *state;
    int ends[2], done;
    g_autofree char *id = create(
        engine, NULL,
        "{\"Image\":\"bb\",\"Cmd\":[\"cat\"],\"OpenStdin\":true,\"StdinOnce\":true,\"HostConfig\":{\"NetworkMode\":\"none\"}}");
    const struct container_attach_options options = { .use_stdin = true, .use_stdout = true, .stream = true };
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    OK(container_attach(engine->containers, id, &options, ends[1], &done, &error));
    close(ends[1]);
    OK(container_start(engine->containers, id, NULL, &error));
    assert_int_equal(fd_write_full(ends[0], "hello\n", 6), 0);
    shutdown(ends[0], SHUT_WR);
    g_autofree char *echoed = read_all(ends[0]);
    assert_string_equal(echoed, "hello\n");
    assert_int_equal(wait_for(engine, id, NULL), 0);
    struct pollfd poll_done = { .fd = done, .events = POLLIN };
    assert_int_equal(poll(&poll_done, 1, 5000), 1);
    close(done);
    close(ends[0]);
    OK(container_remove(engine->containers, id, false, false, false, &error));
}

static char *exec_in(struct engine *engine, const char *id, const char *body_text, int *ret_code)
{
    g_autoptr(json_t) body = json_loads(body_text, 0, NULL);
    g_autoptr(json_t) created = NULL;
    g_autoptr(json_t) object = NULL;
    int ends[2], done;
    bool terminal;
    OK(container_exec_create(engine->containers, id, body, &created, &error));
    const char *exec_id = json_get_string(created, "Id", "");
    OK(container_exec_prepare(engine->containers, exec_id, NULL, &terminal, &error));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    OK(container_exec_start(engine->containers, exec_id, NULL, ends[1], &done, &error));
    close(ends[1]);
    char *output = read_all(ends[0]);
    close(ends[0]);
    close(done);
    for (int i = 0; i < 500; i++) {
        OK(container_exec_inspect(engine->containers, exec_id, &object, &error));
        if (!json_get_bool(object, "Running", true))
            break;
        g_clear_pointer(&object, json_decref);
        g_usleep(2000);
    }
    *ret_code = (int)json_get_int(object, "ExitCode", -1);
    return output;
}

static void test_exec_and_stop(void **state)
{
    struct engine *engine = *state;
    int code;
    g_autofree char *id =
        create(engine, "long",
               "{\"Image\":\"bb\",\"Cmd\":[\"sleep\",\"1000\"],\"Env\":[\"A=1\"],\"HostConfig\":{\"NetworkMode\":\"none\"}}");
    OK(container_start(engine->containers, id, NULL, &error));
    REFUSED(container_start(engine->containers, id, NULL, &error), TARE_ERROR_NOT_MODIFIED, "container already started");
    g_autofree char *output =
        exec_in(engine, id,
                "{\"Cmd\":[\"sh\",\"-c\",\"echo $A$B; exit 3\"],\"Env\":[\"B=2\"],\"AttachStdout\":true,\"Tty\":true}", &code);
    assert_string_equal(output, "12\r\n");
    assert_int_equal(code, 3);
    g_autoptr(json_t) missing = json_loads("{\"Cmd\":[\"nope\"]}", 0, NULL);
    g_autoptr(json_t) created = NULL;
    g_autoptr(json_t) ended = NULL;
    OK(container_exec_create(engine->containers, id, missing, &created, &error));
    const char *exec_id = json_get_string(created, "Id", "");
    REFUSED(
        container_exec_start(engine->containers, exec_id, NULL, -1, NULL, &error), TARE_ERROR_INVALID,
        "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nope\": executable file not found in "
        "$PATH: unknown");
    OK(container_exec_inspect(engine->containers, exec_id, &ended, &error));
    assert_int_equal(json_get_int(ended, "ExitCode", -1), 126);
    OK(container_pause(engine->containers, id, true, &error));
    g_autofree char *paused = g_strdup_printf("Container %s is already paused", id);
    REFUSED(container_pause(engine->containers, id, true, &error), TARE_ERROR_CONFLICT, paused);
    OK(container_pause(engine->containers, id, false, &error));
    g_autofree char *running = g_strdup_printf(
        "You cannot remove a running container %s. Stop the container before attempting removal or force remove", id);
    REFUSED(container_remove(engine->containers, id, false, false, false, &error), TARE_ERROR_CONFLICT, running);
    OK(container_stop(engine->containers, id, NULL, 0, NULL, &error));
    g_autoptr(json_t) object = inspect(engine, id);
    assert_int_equal(json_get_int(json_get_object(object, "State"), "ExitCode", -1), 137);
    OK(container_restart(engine->containers, id, NULL, 0, NULL, &error));
    g_autoptr(json_t) top = NULL;
    OK(container_top(engine->containers, id, NULL, &top, &error));
    assert_int_equal(json_array_size(json_object_get(top, "Processes")), 1);
    OK(container_remove(engine->containers, id, true, false, false, &error));
}

static void test_volumes(void **state)
{
    struct engine *engine = *state;
    g_autofree char *first =
        run(engine, "\"Binds\":[\"shared:/data\"]", "cat /data/file; echo more > /data/more; stat -c %a /data", 0);
    assert_string_equal(first, "from the image\n1750\n");
    g_autofree char *second =
        run(engine, "\"Binds\":[\"shared:/other:ro\"]", "cat /other/more; touch /other/x 2>/dev/null || echo ro", 0);
    assert_string_equal(second, "more\nro\n");
    g_autofree char *id =
        create(engine, NULL, "{\"Image\":\"bb\",\"Cmd\":[\"true\"],\"HostConfig\":{\"Binds\":[\"shared:/data\"]}}");
    g_autofree char *in_use = g_strdup_printf("remove shared: volume is in use - [%s]", id);
    REFUSED(volume_remove(engine->volumes, "shared", false, &error), TARE_ERROR_CONFLICT, in_use);
    OK(container_remove(engine->containers, id, false, false, false, &error));
    OK(volume_remove(engine->volumes, "shared", false, &error));
}

static void test_diff_commit_export(void **state)
{
    struct engine *engine = *state;
    g_autoptr(json_t) changes = NULL;
    struct image *image;
    g_autofree char *id = create(engine, NULL,
                                 "{\"Image\":\"bb\",\"Cmd\":[\"sh\",\"-c\",\"echo new > /etc/new; rm /data/file; mkdir -p "
                                 "/srv/a; echo changed > /etc/passwd\"],"
                                 "\"HostConfig\":{\"NetworkMode\":\"none\"}}");
    OK(container_start(engine->containers, id, NULL, &error));
    assert_int_equal(wait_for(engine, id, NULL), 0);
    OK(container_changes(engine->containers, id, &changes, &error));
    g_autofree char *text = json_text(changes);
    assert_string_equal(text,
                        "[{\"Path\":\"/data\",\"Kind\":0},{\"Path\":\"/data/file\",\"Kind\":2},{\"Path\":\"/"
                        "etc\",\"Kind\":0},{\"Path\":\"/etc/new\",\"Kind\":1},"
                        "{\"Path\":\"/etc/passwd\",\"Kind\":0},{\"Path\":\"/srv\",\"Kind\":1},{\"Path\":\"/srv/a\",\"Kind\":1}]");
    const struct container_commit_options options = {
        .reference = "committed:v1", .comment = "c", .author = "a", .clamp_mtime = -1
    };
    OK(container_commit(engine->containers, id, &options, &image, &error));
    image_unref(image);
    struct memory_sink sink = { .sink.write = append, .bytes = g_byte_array_new() };
    OK(container_export(engine->containers, id, &sink.sink, NULL, &error));
    assert_non_null(memmem(sink.bytes->data, sink.bytes->len, "etc/new", 7));
    assert_null(memmem(sink.bytes->data, sink.bytes->len, "data/file", 9));
    g_byte_array_unref(sink.bytes);
    OK(container_remove(engine->containers, id, false, false, false, &error));
    g_autofree char *again = create(engine, NULL,
                                    "{\"Image\":\"committed:v1\",\"Cmd\":[\"sh\",\"-c\",\"cat /etc/new; ls "
                                    "/data\"],\"HostConfig\":{\"NetworkMode\":\"none\"}}");
    OK(container_start(engine->containers, again, NULL, &error));
    assert_int_equal(wait_for(engine, again, NULL), 0);
    g_autofree char *output = logs_of(engine, again, (struct container_logs_options){ .tail = -1 });
    assert_string_equal(output, "new\n");
    OK(container_remove(engine->containers, again, false, false, false, &error));
}

static GByteArray *small_tar(void)
{
    struct memory_sink sink = { .sink.write = append, .bytes = g_byte_array_new() };
    struct tar_writer *writer = tar_writer_new(&sink.sink);
    add_entry(writer, "copied", S_IFREG | 0600, NULL, "copied in\n");
    OK(tar_writer_finish(writer, &error));
    tar_writer_free(writer);
    return sink.bytes;
}

static void put(struct engine *engine, const char *id, const char *path)
{
    g_autoptr(GByteArray) tar = small_tar();
    struct memory_source source;
    memory_source_init(&source, tar->data, tar->len);
    OK(container_archive_put(engine->containers, id, path, &source.source, false, false, &error));
}

static void get_expecting(struct engine *engine, const char *id, const char *path, const char *content)
{
    struct memory_sink sink = { .sink.write = append, .bytes = g_byte_array_new() };
    OK(container_archive_get(engine->containers, id, path, &sink.sink, &error));
    assert_non_null(memmem(sink.bytes->data, sink.bytes->len, content, strlen(content)));
    g_byte_array_unref(sink.bytes);
}

static void test_cp(void **state)
{
    struct engine *engine = *state;
    g_autoptr(json_t) stat_object = NULL;
    json_t *answer;
    g_autofree char *id = create(
        engine, NULL,
        "{\"Image\":\"bb\",\"Cmd\":[\"sleep\",\"1000\"],\"HostConfig\":{\"NetworkMode\":\"none\",\"Binds\":[\"cpv:/vol\"]}}");
    put(engine, id, "/etc");
    get_expecting(engine, id, "/etc/copied", "copied in\n");
    put(engine, id, "/vol");
    OK(container_start(engine->containers, id, NULL, &error));
    get_expecting(engine, id, "/vol/copied", "copied in\n");
    put(engine, id, "/tmp");
    get_expecting(engine, id, "/tmp/copied", "copied in\n");
    OK(container_archive_stat(engine->containers, id, "/bin/sh", &stat_object, &error));
    assert_string_equal(json_get_string(stat_object, "name", ""), "sh");
    assert_string_equal(json_get_string(stat_object, "linkTarget", ""), "/bin/busybox");
    g_autofree char *missing = g_strdup_printf("Could not find the file /nope in container %s", id);
    REFUSED(container_archive_stat(engine->containers, id, "/nope", &answer, &error), TARE_ERROR_NOT_FOUND, missing);
    OK(container_remove(engine->containers, id, true, false, false, &error));
    OK(volume_remove(engine->volumes, "cpv", false, &error));
}

/* The engine goes and comes while one container runs and another ends. */
static void test_restart_of_the_engine(void **state)
{
    struct engine *engine = *state;
    g_autofree char *lives =
        create(engine, "lives", "{\"Image\":\"bb\",\"Cmd\":[\"sleep\",\"1000\"],\"HostConfig\":{\"NetworkMode\":\"none\"}}");
    g_autofree char *ends = create(
        engine, "ends",
        "{\"Image\":\"bb\",\"Cmd\":[\"sh\",\"-c\",\"sleep 0.3; echo done; exit 5\"],\"HostConfig\":{\"NetworkMode\":\"none\"}}");
    g_autofree char *never = create(engine, NULL, "{\"Image\":\"bb\",\"Cmd\":[\"true\"],\"HostConfig\":{\"AutoRemove\":true}}");
    OK(container_start(engine->containers, lives, NULL, &error));
    OK(container_start(engine->containers, ends, NULL, &error));
    close_managers(engine);
    g_usleep(700000);
    open_managers(engine);
    g_autoptr(json_t) first = inspect(engine, "lives");
    assert_true(json_get_bool(json_get_object(first, "State"), "Running", false));
    json_t *gone;
    assert_false(container_inspect(engine->containers, never, false, 41, &gone, NULL));
    g_autoptr(json_t) second = inspect(engine, "ends");
    assert_int_equal(json_get_int(json_get_object(second, "State"), "ExitCode", -1), 5);
    g_autofree char *output = logs_of(engine, "ends", (struct container_logs_options){ .tail = -1 });
    assert_string_equal(output, "done\n");
    int code;
    g_autofree char *echoed = exec_in(engine, "lives", "{\"Cmd\":[\"echo\",\"here\"],\"AttachStdout\":true,\"Tty\":true}", &code);
    assert_string_equal(echoed, "here\r\n");
    OK(container_kill(engine->containers, "lives", NULL, &error));
    assert_int_equal(wait_for(engine, "lives", NULL), 137);
    OK(container_remove(engine->containers, "lives", false, false, false, &error));
    OK(container_remove(engine->containers, "ends", false, false, false, &error));
}

static void test_restart_policy(void **state)
{
    struct engine *engine = *state;
    g_autofree char *id =
        create(engine, NULL,
               "{\"Image\":\"bb\",\"Cmd\":[\"sh\",\"-c\",\"echo again; exit 1\"],"
               "\"HostConfig\":{\"NetworkMode\":\"none\",\"RestartPolicy\":{\"Name\":\"on-failure\",\"MaximumRetryCount\":2}}}");
    OK(container_start(engine->containers, id, NULL, &error));
    for (int i = 0; i < 300; i++) {
        g_autoptr(json_t) object = inspect(engine, id);
        if (!strcmp(json_get_string(json_get_object(object, "State"), "Status", ""), "exited"))
            break;
        g_usleep(10000);
    }
    g_autoptr(json_t) object = inspect(engine, id);
    assert_string_equal(json_get_string(json_get_object(object, "State"), "Status", ""), "exited");
    assert_int_equal(json_get_int(object, "RestartCount", -1), 2);
    g_autofree char *output = logs_of(engine, id, (struct container_logs_options){ .tail = -1 });
    assert_string_equal(output, "again\nagain\nagain\n");
    OK(container_remove(engine->containers, id, false, false, false, &error));
}

static void *follow_thread(void *user)
{
    struct engine *engine = user;
    return logs_of(engine, "talks", (struct container_logs_options){ .tail = -1, .follow = true });
}

static void test_follow(void **state)
{
    struct engine *engine = *state;
    g_autofree char *id = create(engine, "talks",
                                 "{\"Image\":\"bb\",\"Cmd\":[\"sh\",\"-c\",\"for i in 1 2 3 4; do echo $i; sleep 0.05; "
                                 "done\"],\"HostConfig\":{\"NetworkMode\":\"none\"}}");
    OK(container_start(engine->containers, id, NULL, &error));
    GThread *thread = g_thread_new("follow", follow_thread, engine);
    g_autofree char *output = g_thread_join(thread);
    assert_string_equal(output, "1\n2\n3\n4\n");
    OK(container_remove(engine->containers, id, false, false, false, &error));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_automatic_removal),
        cmocka_unit_test(test_failed_starts),
        cmocka_unit_test(test_names_and_conflicts),
        cmocka_unit_test(test_attach_before_start),
        cmocka_unit_test(test_exec_and_stop),
        cmocka_unit_test(test_restart_of_a_volatile_one),
        cmocka_unit_test(test_volumes),
        cmocka_unit_test(test_diff_commit_export),
        cmocka_unit_test(test_cp),
        cmocka_unit_test(test_restart_of_the_engine),
        cmocka_unit_test(test_restart_policy),
        cmocka_unit_test(test_follow),
    };
    if (geteuid() != 0) {
        fprintf(stderr, "test_container needs root\n");
        return 1;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
