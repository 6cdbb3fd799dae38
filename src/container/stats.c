/* docker top and docker stats. */
#include "container/container-internal.h"

#include "base/parse.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PS_OUTPUT_MAX (16u << 20)
#define NETDEV_MAX (1u << 20)

/* ---- top ---- */

static bool run_ps(char **arguments, char **ret, GError **error)
{
    int ends[2];
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    size_t length;
    g_ptr_array_add(argv, (char *)"ps");
    for (char **argument = arguments; *argument; argument++)
        if (**argument)
            g_ptr_array_add(argv, *argument);
    g_ptr_array_add(argv, NULL);
    if (pipe2_cloexec(ends, error) < 0)
        return false;
    const struct spawn_fd fds[] = { { ends[1], STDOUT_FILENO }, { ends[1], STDERR_FILENO } };
    const struct spawn_options options = {
        .argv = (const char *const *)argv->pdata, .fds = fds, .n_fds = 2, .search_path = true
    };
    g_autofree char *output = NULL;
    pid_t pid = spawn_program(&options, error);
    fd_close(ends[1]);
    bool ok = pid > 0 && fd_read_all(ends[0], PS_OUTPUT_MAX, "output of ps", &output, &length, error);
    fd_close(ends[0]);
    if (pid > 0 && spawn_wait(pid) != 0 && ok) {
        g_strchomp(output);
        return error_set(error, TARE_ERROR_INTERNAL, "Error running ps: %s", output);
    }
    if (ok)
        *ret = g_steal_pointer(&output);
    return ok;
}

/* The columns of a line; the last one takes the rest. */
static json_t *split_line(const char *line, size_t n_columns)
{
    json_t *fields = json_array();
    while (*line) {
        line += strspn(line, " \t");
        if (!*line)
            break;
        if (n_columns && json_array_size(fields) == n_columns - 1) {
            g_autofree char *rest = g_strchomp(g_strdup(line));
            json_array_append_new(fields, json_string_lossy(rest));
            break;
        }
        size_t length = strcspn(line, " \t");
        g_autofree char *field = g_strndup(line, length);
        json_array_append_new(fields, json_string_lossy(field));
        line += length;
    }
    return fields;
}

static bool has_pid(const json_t *pids, const char *text)
{
    guint64 wanted;
    size_t i;
    json_t *pid;
    if (!text || !parse_uint(text, G_MAXINT, &wanted))
        return false;
    json_array_foreach((json_t *)pids, i, pid) if ((guint64)json_integer_value(pid) == wanted) return true;
    return false;
}

static bool parse_ps(const char *output, const json_t *pids, json_t **ret, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(output, "\n", -1);
    g_autoptr(json_t) titles = split_line(lines[0] ? lines[0] : "", 0);
    g_autoptr(json_t) processes = json_array();
    size_t pid_column = json_array_size(titles), i;
    json_t *title;
    json_array_foreach(titles, i, title) if (!strcmp(json_string_value(title), "PID")) pid_column = i;
    if (pid_column == json_array_size(titles))
        return error_set(error, TARE_ERROR_INTERNAL, "Couldn't find PID field in ps output");
    for (char **line = lines + 1; lines[0] && *line; line++) {
        json_t *fields = split_line(*line, json_array_size(titles));
        if (has_pid(pids, json_string_value(json_array_get(fields, pid_column))))
            json_array_append(processes, fields);
        json_decref(fields);
    }
    *ret = json_pack("{s:O, s:O}", "Processes", processes, "Titles", titles);
    return true;
}

static bool check_running(struct container *container, struct container_state *ret, GError **error)
{
    *ret = container_get_state(container);
    if (!container_is_running(ret))
        return error_set(error, TARE_ERROR_CONFLICT, "Container %s is not running", container->id);
    if (ret->status == CONTAINER_RESTARTING)
        return error_set(error, TARE_ERROR_CONFLICT, "Container %s is restarting, wait until the container is running",
                         container->id);
    return true;
}

bool container_top(struct container_manager *manager, const char *name, const char *ps_args, json_t **ret, GError **error)
{
    struct container_state state;
    g_autoptr(json_t) reply = NULL;
    g_autofree char *output = NULL;
    autocontainer container = container_find(manager, name, error);
    if (!container || !check_running(container, &state, error))
        return false;
    g_auto(GStrv) arguments = g_strsplit(ps_args && *ps_args ? ps_args : "-ef", " ", 64);
    g_autoptr(json_t) request = json_pack("{s:s}", "op", "pids");
    if (!container_call(container, request, &reply, error) || !run_ps(arguments, &output, error) ||
        !parse_ps(output, json_get_array(reply, "pids"), ret, error))
        return false;
    container_emit(container, "top", NULL);
    return true;
}

/* ---- stats ---- */

/* /proc/PID/net/dev: the container's interfaces. */
static json_t *network_figures(pid_t pid)
{
    static const struct {
        const char *key;
        int column;
    } columns[] = { { "rx_bytes", 0 }, { "rx_packets", 1 }, { "rx_errors", 2 },  { "rx_dropped", 3 },
                    { "tx_bytes", 8 }, { "tx_packets", 9 }, { "tx_errors", 10 }, { "tx_dropped", 11 } };
    g_autofree char *path = g_strdup_printf("/proc/%d/net/dev", (int)pid);
    g_autofree char *text = NULL;
    json_t *networks = json_object();
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return networks;
    g_auto(GStrv) lines = g_strsplit(text, "\n", 4096);
    for (char **line = lines; *line; line++) {
        char *colon = strchr(*line, ':');
        if (!colon)
            continue;
        *colon = '\0';
        const char *interface = g_strstrip(*line);
        if (!strcmp(interface, "lo"))
            continue;
        g_autoptr(json_t) fields = split_line(colon + 1, 0);
        json_t *figures = json_object();
        for (size_t i = 0; i < G_N_ELEMENTS(columns); i++) {
            guint64 value = 0;
            const char *field = json_string_value(json_array_get(fields, (size_t)columns[i].column));
            if (field)
                parse_uint(field, G_MAXINT64, &value);
            json_object_set_new(figures, columns[i].key, json_integer((json_int_t)value));
        }
        json_object_set_new(networks, interface, figures);
    }
    return networks;
}

static json_t *empty_stats(void)
{
    return json_pack("{s:{}, s:{s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n}, s:{s:{s:i, s:i, s:i}, s:{s:i, s:i, s:i}}, s:{}}",
                     "pids_stats", "blkio_stats", "io_service_bytes_recursive", "io_serviced_recursive", "io_queue_recursive",
                     "io_service_time_recursive", "io_wait_time_recursive", "io_merged_recursive", "io_time_recursive",
                     "sectors_recursive", "cpu_stats", "cpu_usage", "total_usage", 0, "usage_in_kernelmode", 0,
                     "usage_in_usermode", 0, "throttling_data", "periods", 0, "throttled_periods", 0, "throttled_time", 0,
                     "memory_stats");
}

bool container_stats(struct container_manager *manager, const char *name, json_t **ret, GError **error)
{
    char read_at[TIMESTAMP_ROOM];
    g_autoptr(json_t) reply = NULL;
    autocontainer container = container_find(manager, name, error);
    if (!container)
        return false;
    struct container_state state = container_get_state(container);
    bool running = state.status == CONTAINER_RUNNING || state.status == CONTAINER_PAUSED;
    g_autoptr(json_t) request = json_pack("{s:s}", "op", "stats");
    if (running && !container_call(container, request, &reply, error))
        return false;
    json_t *figures = json_get_object(reply, "stats");
    g_autoptr(json_t) stats = figures ? json_incref(figures) : empty_stats();
    g_autofree char *own_name = container_get_name(container);
    g_autofree char *slashed = g_strconcat("/", own_name, NULL);
    timestamp_format(running ? timestamp_now() : 0, read_at);
    json_object_set_new(stats, "read", json_string(read_at));
    json_object_set_new(stats, "preread", json_string(TIMESTAMP_ZERO));
    json_object_set_new(stats, "num_procs", json_integer(0));
    json_object_set_new(stats, "storage_stats", json_object());
    g_autoptr(json_t) nothing = empty_stats();
    json_object_set(stats, "precpu_stats", json_object_get(nothing, "cpu_stats"));
    json_object_set_new(stats, "name", json_string(slashed));
    json_object_set_new(stats, "id", json_string(container->id));
    if (running)
        json_object_set_new(stats, "networks", network_figures(state.pid));
    *ret = g_steal_pointer(&stats);
    return true;
}
