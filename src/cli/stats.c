/* container stats. */
#include "cli/cli-internal.h"

#include "base/size.h"

#include <string.h>
#include <unistd.h>

static const struct list_field fields[] = {
    { "Container", "CONTAINER" },
    { "ID", "CONTAINER ID" },
    { "Name", "NAME" },
    { "CPUPerc", "CPU %" },
    { "MemUsage", "MEM USAGE / LIMIT" },
    { "MemPerc", "MEM %" },
    { "NetIO", "NET I/O" },
    { "BlockIO", "BLOCK I/O" },
    { "PIDs", "PIDS" },
    { NULL, "statsContext" },
};

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static double cpu_percent(const json_t *stats)
{
    const json_t *now = json_get_object(stats, "cpu_stats"), *before = json_get_object(stats, "precpu_stats");
    double used =
        number(json_get_object(now, "cpu_usage"), "total_usage") - number(json_get_object(before, "cpu_usage"), "total_usage");
    double all = number(now, "system_cpu_usage") - number(before, "system_cpu_usage"), cpus = number(now, "online_cpus");
    if (cpus == 0)
        cpus = (double)json_array_size(json_get_array(json_get_object(now, "cpu_usage"), "percpu_usage"));
    return all > 0 && used > 0 ? used / all * cpus * 100 : 0;
}

/* Without the page cache that the kernel would drop first. */
static double memory_used(const json_t *memory)
{
    const json_t *details = json_get_object(memory, "stats");
    double usage = number(memory, "usage"), v1 = number(details, "total_inactive_file"), v2 = number(details, "inactive_file");
    if (json_object_get(details, "total_inactive_file") && v1 < usage)
        return usage - v1;
    return v2 < usage ? usage - v2 : usage;
}

static void io_totals(const json_t *stats, double totals[4])
{
    const char *name;
    json_t *entry;
    size_t i;
    json_object_foreach(json_get_object(stats, "networks"), name, entry)
    {
        totals[0] += number(entry, "rx_bytes");
        totals[1] += number(entry, "tx_bytes");
    }
    json_array_foreach(json_get_array(json_get_object(stats, "blkio_stats"), "io_service_bytes_recursive"), i, entry)
    {
        char op = g_ascii_tolower(json_get_string(entry, "op", " ")[0]);
        if (op == 'r' || op == 'w')
            totals[op == 'r' ? 2 : 3] += number(entry, "value");
    }
}

static char *pair(double a, double b, bool binary)
{
    g_autofree char *x = binary ? size_human_binary((guint64)a) : size_human((guint64)a, 3),
                    *y = binary ? size_human_binary((guint64)b) : size_human((guint64)b, 3);
    return g_strdup_printf("%s / %s", x, y);
}

static json_t *describe(const char *container, const json_t *stats, bool truncate)
{
    char room[13];
    double totals[4] = { 0 }, used = memory_used(json_get_object(stats, "memory_stats")),
           limit = number(json_get_object(stats, "memory_stats"), "limit");
    io_totals(stats, totals);
    const char *id = json_get_string(stats, "id", ""), *name = json_get_string(stats, "name", "");
    g_autofree char *cpu = g_strdup_printf("%.2f%%", cpu_percent(stats)),
                    *share = g_strdup_printf("%.2f%%", limit > 0 ? used / limit * 100 : 0);
    g_autofree char *memory = pair(used, limit, true), *net = pair(totals[0], totals[1], false),
                    *block = pair(totals[2], totals[3], false);
    g_autofree char *pids = g_strdup_printf("%.0f", number(json_get_object(stats, "pids_stats"), "current"));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "Container", container, "ID",
                     truncate ? short_id(id, room) : id, "Name", *name == '/' ? name + 1 : name, "CPUPerc", cpu, "MemUsage",
                     memory, "MemPerc", share, "NetIO", net, "BlockIO", block, "PIDs", pids);
}

static json_t *dead_row(const char *container)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "Container", container, "ID", container, "Name", "--",
                     "CPUPerc", "--", "MemUsage", "-- / --", "MemPerc", "--", "NetIO", "--", "BlockIO", "--", "PIDs", "--");
}

/* The containers to show: those named, or all that run. g_strfreev. */
static char **choose(struct cli *cli, const struct options *options, GError **error)
{
    if (options->n_args > 0)
        return g_strdupv(options->args);
    g_autoptr(json_t) list = api_get(cli, "/containers/json", options_bool(options, "all", false) ? "all=1" : NULL, error);
    if (!list)
        return NULL;
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    size_t i;
    json_t *container;
    char room[13];
    json_array_foreach(list, i, container) g_ptr_array_add(ids, g_strdup(short_id(json_get_string(container, "Id", ""), room)));
    g_ptr_array_add(ids, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&ids), FALSE);
}

static bool show_once(struct cli *cli, const struct options *options, char **names, GError **error)
{
    struct list *list = list_new(
        fields, options_string(options, "format", json_get_string(cli->config, "statsFormat", NULL)),
        "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}", NULL, error);
    bool ok = list != NULL;
    for (char **name = names; ok && *name; name++) {
        g_autofree char *path = api_path("containers", *name, "/stats");
        g_autoptr(GError) problem = NULL;
        g_autoptr(json_t) stats = api_get(cli, path, "stream=false", &problem);
        if (!stats && options->n_args > 0) {
            g_propagate_error(error, g_steal_pointer(&problem));
            ok = false;
        } else {
            ok = list_add(list, stats ? describe(*name, stats, !options_bool(options, "no-trunc", false)) : dead_row(*name),
                          error);
        }
    }
    if (ok)
        list_finish(list, error);
    else
        list_free(list);
    return ok;
}

int cmd_container_stats(struct cli *cli, const struct options *options, GError **error)
{
    bool once = options_bool(options, "no-stream", false);
    for (;;) {
        g_auto(GStrv) names = choose(cli, options, error);
        if (!names)
            return 1;
        if (!once)
            print("\033[H\033[J"); /* the table stays in its place */
        if (!show_once(cli, options, names, error))
            return 1;
        if (once)
            return 0;
        fflush(stdout);
        if (!*names)
            g_usleep(G_USEC_PER_SEC / 2); /* with containers the engine's sampling sets the pace */
    }
}
