/* tare-runtime's memory between its calls: a directory for each container. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/identifier.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static bool check_id(const char *id, GError **error)
{
    size_t length = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.");
    if (length == 0 || length != strlen(id) || length > 255 || strcmp(id, ".") == 0 || strcmp(id, "..") == 0)
        return error_set(error, TARE_ERROR_INVALID, "invalid container ID format: \"%s\"", id);
    return true;
}

int command_state_new(const char *root, const char *id, GError **error)
{
    if (!check_id(id, error))
        return -1;
    g_autofd int parent = dir_make_path(root, 0700, error);
    if (parent < 0)
        return -1;
    if (mkdirat(parent, id, 0700) < 0) {
        if (errno == EEXIST)
            error_set(error, TARE_ERROR_CONFLICT, "container with given ID already exists");
        else
            error_set_errno(error, errno, "mkdir %s/%s", root, id);
        return -1;
    }
    return dir_make(parent, id, 0700, error);
}

int command_state_open(const char *root, const char *id, GError **error)
{
    if (!check_id(id, error))
        return -1;
    g_autofree char *path = g_build_filename(root, id, NULL);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        error_set(error, TARE_ERROR_NOT_FOUND, "container does not exist");
    else if (fd < 0)
        error_set_errno(error, errno, "open %s", path);
    return fd;
}

/* When a process started, in ticks: with its number it is a name that is never given twice. 0 where there is none. */
static guint64 start_time(pid_t pid)
{
    char text[1024];
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
    g_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? fd_read_full(fd, text, sizeof text - 1) : -1;
    if (n <= 0)
        return 0;
    text[n] = '\0';
    /* The command may hold anything: fields count from its closing parenthesis. */
    const char *end = strrchr(text, ')');
    g_auto(GStrv) fields = g_strsplit(end ? end + 1 : "", " ", 30);
    guint64 ticks = 0;
    if (g_strv_length(fields) < 22 || fields[1][0] == 'Z' || !parse_uint(fields[20], G_MAXUINT64, &ticks))
        return 0;
    return ticks;
}

bool command_state_save(int dir, const struct runtime_container *container, const json_t *spec, GError **error)
{
    g_autoptr(json_t) state = container_state(container, "created");
    json_object_set_new(state, "tare.cgroup", json_string(container->cgroup->path));
    json_object_set_new(state, "tare.joinable", json_integer(container->joinable));
    json_object_set_new(state, "tare.newPid", json_boolean(container->new_pid_namespace));
    json_object_set_new(state, "tare.startTime", json_integer((json_int_t)start_time(container->pid)));
    g_autofree char *text = json_text(state), *config = json_text(spec);
    return file_write(dir, "config.json", config, strlen(config), 0600, false, error) &&
           file_write(dir, "state.json", text, strlen(text), 0600, false, error);
}

static json_t *read_json(int dir, const char *name, GError **error)
{
    g_autofree char *text = NULL;
    size_t length;
    if (!file_read(dir, name, RUNTIME_SPECIFICATION_MAX, &text, &length, error))
        return NULL;
    return json_parse(text, length, RUNTIME_SPECIFICATION_MAX, name, error);
}

bool command_state_load(int dir, struct runtime_container **ret, struct runtime_plan **ret_plan, const char **ret_status,
                        GError **error)
{
    g_autoptr(json_t) state = read_json(dir, "state.json", error);
    g_autoptr(json_t) spec = state ? read_json(dir, "config.json", error) : NULL;
    struct runtime_plan *plan = NULL;
    struct runtime_container *container = NULL;
    if (!spec || !runtime_plan_new(spec, &plan, error))
        return false;
    pid_t pid = (pid_t)json_get_int(state, "pid", 0);
    bool alive = pid > 0 && start_time(pid) == (guint64)json_get_int(state, "tare.startTime", 0);
    if (!alive)
        json_object_set_new(state, "pid", json_integer(0));
    if (!container_load(state, &container, error)) {
        runtime_plan_free(plan);
        return false;
    }
    for (int i = 0; i < HOOK_N; i++) {
        g_array_unref(container->hooks[i]);
        container->hooks[i] = g_array_ref(plan->hooks[i]);
    }
    container->annotations = json_incref(plan->annotations);
    *ret_status = !alive ? "stopped" : faccessat(dir, "start.sock", F_OK, 0) == 0 ? "created" : "running";
    *ret = container;
    *ret_plan = plan;
    return true;
}

/* A path of any length, through the directory's fd: sun_path has 108 bytes. */
static void socket_address(int dir, struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
    g_snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/start.sock", dir);
}

int command_listen(int dir, GError **error)
{
    struct sockaddr_un address;
    socket_address(dir, &address);
    g_autofd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 1) < 0) {
        error_set_errno(error, errno, "listen on start.sock");
        return -1;
    }
    return fd_steal(&fd);
}

bool command_start(int dir, struct runtime_container *container, GError **error)
{
    struct sockaddr_un address;
    socket_address(dir, &address);
    container->channel = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (container->channel < 0 || connect(container->channel, (struct sockaddr *)&address, sizeof address) < 0)
        return error_set_errno(error, errno, "connect to start.sock");
    unlinkat(dir, "start.sock", 0);
    container->started = false;
    return runtime_start(container, error);
}

bool command_state_remove(const char *root, const char *id, GError **error)
{
    g_autofd int parent = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return parent < 0 ? error_set_errno(error, errno, "open %s", root) : dir_remove_tree(parent, id, error);
}
