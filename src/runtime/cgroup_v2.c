/* cgroup v2: one directory; controllers are switched on from the root down, and the device list is a BPF program. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

/* Each controller by itself: one that a level cannot give must not take the others along. */
static bool enable_controllers(int parent, int dir, GError **error)
{
    g_autofree char *available = cgroup_read(parent, "cgroup.controllers");
    g_autofree char *enabled = cgroup_read(parent, "cgroup.subtree_control");
    g_auto(GStrv) words = g_strsplit(available ? available : "", " ", 64);
    g_auto(GStrv) now = g_strsplit(enabled ? enabled : "", " ", 64);
    for (char **word = words; *word; word++) {
        if (!**word || g_strv_contains((const char *const *)now, *word))
            continue;
        g_autofree char *plus = g_strconcat("+", *word, NULL);
        cgroup_write(parent, "cgroup.subtree_control", plus, NULL);
    }
    return true;
}

bool cgroup_v2_make(struct cgroup_hierarchy *hierarchy, const char *path, GError **error)
{
    hierarchy->fd = cgroup_make_path(hierarchy->mount_point, path, enable_controllers, error);
    return hierarchy->fd >= 0;
}

static bool v2_create(struct cgroup *cgroup, GError **error)
{
    for (size_t i = 0; i < cgroup->n_hierarchies; i++) {
        struct cgroup_hierarchy *each = &cgroup->hierarchies[i];
        if (each->unified && !cgroup_v2_make(each, cgroup->path, error))
            return false;
    }
    return true;
}

static void add_limit(GArray *settings, const char *controller, const char *file, gint64 value)
{
    if (value < 0)
        cgroup_settings_add(settings, controller, false, file, "max");
    else
        cgroup_settings_add(settings, controller, false, file, "%" G_GINT64_FORMAT, value);
}

static void add_memory(GArray *settings, const struct plan_resources *resources)
{
    const gint64 *value = resources->value;
    if (resources->has[RES_MEMORY_LIMIT])
        add_limit(settings, "memory", "memory.max", value[RES_MEMORY_LIMIT]);
    if (resources->has[RES_MEMORY_RESERVATION])
        add_limit(settings, "memory", "memory.low", value[RES_MEMORY_RESERVATION] < 0 ? 0 : value[RES_MEMORY_RESERVATION]);
    /* v1's swap is memory and swap together, v2's is swap alone. */
    if (resources->has[RES_MEMORY_SWAP] && (value[RES_MEMORY_SWAP] < 0 || resources->has[RES_MEMORY_LIMIT])) {
        gint64 swap = value[RES_MEMORY_SWAP] < 0 ? -1 : MAX(0, value[RES_MEMORY_SWAP] - MAX(0, value[RES_MEMORY_LIMIT]));
        if (swap < 0)
            cgroup_settings_add(settings, "memory", true, "memory.swap.max", "max");
        else
            cgroup_settings_add(settings, "memory", true, "memory.swap.max", "%" G_GINT64_FORMAT, swap);
    }
}

static void add_cpu(GArray *settings, const struct plan_resources *resources)
{
    const gint64 *value = resources->value;
    if (resources->has[RES_CPU_SHARES]) {
        gint64 shares = CLAMP(value[RES_CPU_SHARES], 2, 262144);
        cgroup_settings_add(settings, "cpu", false, "cpu.weight", "%" G_GINT64_FORMAT, 1 + (shares - 2) * 9999 / 262142);
    }
    if (resources->has[RES_CPU_QUOTA] || resources->has[RES_CPU_PERIOD]) {
        gint64 period = resources->has[RES_CPU_PERIOD] ? value[RES_CPU_PERIOD] : 100000;
        if (resources->has[RES_CPU_QUOTA] && value[RES_CPU_QUOTA] > 0)
            cgroup_settings_add(settings, "cpu", false, "cpu.max", "%" G_GINT64_FORMAT " %" G_GINT64_FORMAT, value[RES_CPU_QUOTA],
                                period);
        else
            cgroup_settings_add(settings, "cpu", false, "cpu.max", "max %" G_GINT64_FORMAT, period);
    }
    if (resources->has[RES_CPU_BURST])
        cgroup_settings_add(settings, "cpu", false, "cpu.max.burst", "%" G_GINT64_FORMAT, value[RES_CPU_BURST]);
    if (resources->has[RES_CPU_IDLE])
        cgroup_settings_add(settings, "cpu", false, "cpu.idle", "%" G_GINT64_FORMAT, value[RES_CPU_IDLE]);
    if (resources->cpus && *resources->cpus)
        cgroup_settings_add(settings, "cpuset", false, "cpuset.cpus", "%s", resources->cpus);
    if (resources->mems && *resources->mems)
        cgroup_settings_add(settings, "cpuset", false, "cpuset.mems", "%s", resources->mems);
}

static void add_io(GArray *settings, const struct plan_resources *resources)
{
    static const struct {
        const char *kind, *file, *prefix;
    } files[] = { { "weightDevice", "io.bfq.weight", "" },
                  { "throttleReadBpsDevice", "io.max", "rbps=" },
                  { "throttleWriteBpsDevice", "io.max", "wbps=" },
                  { "throttleReadIOPSDevice", "io.max", "riops=" },
                  { "throttleWriteIOPSDevice", "io.max", "wiops=" } };
    if (resources->has[RES_BLKIO_WEIGHT]) {
        gint64 weight = MAX(10, resources->value[RES_BLKIO_WEIGHT]);
        cgroup_settings_add(settings, "io", true, "io.bfq.weight", "%" G_GINT64_FORMAT, weight);
        cgroup_settings_add(settings, "io", true, "io.weight", "%" G_GINT64_FORMAT, 1 + (weight - 10) * 9999 / 990);
    }
    for (guint i = 0; i < resources->blkio->len; i++) {
        const struct plan_blkio_device *device = &g_array_index(resources->blkio, struct plan_blkio_device, i);
        for (size_t k = 0; k < G_N_ELEMENTS(files); k++)
            if (strcmp(files[k].kind, device->kind) == 0)
                cgroup_settings_add(settings, "io", k == 0, files[k].file,
                                    "%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT " %s%" G_GUINT64_FORMAT, device->major,
                                    device->minor, files[k].prefix, device->value);
    }
}

GArray *cgroup_v2_settings(const struct plan_resources *resources)
{
    GArray *settings = cgroup_settings_new();
    add_memory(settings, resources);
    add_cpu(settings, resources);
    if (resources->has[RES_PIDS_LIMIT])
        add_limit(settings, "pids", "pids.max", resources->value[RES_PIDS_LIMIT]);
    add_io(settings, resources);
    for (guint i = 0; i < resources->hugepages->len; i++) {
        const struct plan_hugepage *page = &g_array_index(resources->hugepages, struct plan_hugepage, i);
        g_autofree char *file = g_strdup_printf("hugetlb.%s.max", page->size);
        cgroup_settings_add(settings, "hugetlb", true, file, "%" G_GUINT64_FORMAT, page->limit);
    }
    for (char **pair = resources->unified; pair && pair[0]; pair += 2)
        cgroup_settings_add(settings, "unified", false, pair[0], "%s", pair[1]);
    return settings;
}

static bool v2_apply(struct cgroup *cgroup, const struct plan_resources *resources, bool with_devices, GError **error)
{
    struct cgroup_hierarchy *unified = cgroup_find(cgroup, "");
    if (!cgroup_apply_settings(cgroup, cgroup_v2_settings(resources), error))
        return false;
    if (!with_devices || !unified)
        return true;
    g_autoptr(GArray) rules = device_rules_with_defaults(resources->devices);
    g_autoptr(GArray) program = device_filter_compile(rules);
    int r = device_filter_attach(unified->fd, program);
    return r == 0 || error_set_errno(error, -r, "attach the device filter");
}

static bool v2_attach(struct cgroup *cgroup, pid_t pid, GError **error)
{
    g_autofree char *text = g_strdup_printf("%d", (int)pid);
    struct cgroup_hierarchy *unified = cgroup_find(cgroup, "");
    return !unified || cgroup_write(unified->fd, "cgroup.procs", text, error);
}

bool cgroup_v2_freeze_at(int dir, bool frozen, GError **error)
{
    if (!cgroup_write(dir, "cgroup.freeze", frozen ? "1" : "0", error))
        return false;
    for (int attempt = 0; attempt < 1000; attempt++) {
        if (cgroup_read_key(dir, "cgroup.events", "frozen") == frozen)
            return true;
        g_usleep(attempt < 20 ? 100 : 2000);
    }
    cgroup_write(dir, "cgroup.freeze", "0", NULL);
    return error_set(error, TARE_ERROR_INTERNAL, "unable to freeze");
}

static bool v2_freeze(struct cgroup *cgroup, bool frozen, GError **error)
{
    struct cgroup_hierarchy *unified = cgroup_find(cgroup, "");
    return unified ? cgroup_v2_freeze_at(unified->fd, frozen, error)
                   : error_set(error, TARE_ERROR_UNAVAILABLE, "no cgroup to freeze");
}

static int v2_oom_open(struct cgroup *cgroup, GError **error)
{
    struct cgroup_hierarchy *unified = cgroup_find(cgroup, "");
    if (!unified || faccessat(unified->fd, "memory.events", R_OK, 0) < 0)
        return -1;
    g_autofd int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    g_autofree char *path = g_build_filename(unified->mount_point, cgroup->path, "memory.events", NULL);
    if (watch < 0 || inotify_add_watch(watch, path, IN_MODIFY) < 0) {
        error_set_errno(error, errno, "watch %s", path);
        return -1;
    }
    return fd_steal(&watch);
}

static guint64 v2_oom_kills(struct cgroup *cgroup)
{
    struct cgroup_hierarchy *unified = cgroup_find(cgroup, "");
    return unified ? cgroup_read_key(unified->fd, "memory.events", "oom_kill") : 0;
}

/* io.stat: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0" */
static json_t *io_stats(int dir)
{
    static const struct {
        const char *key, *op;
        int list;
    } rows[] = { { "rbytes", "read", 0 }, { "wbytes", "write", 0 }, { "rios", "read", 1 }, { "wios", "write", 1 } };
    json_t *lists[2] = { json_array(), json_array() };
    g_autofree char *text = cgroup_read(dir, "io.stat");
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", 1024);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) words = g_strsplit_set(*line, ": ", 32);
        guint64 major, minor, value;
        if (g_strv_length(words) < 3 || !parse_uint(words[0], G_MAXUINT32, &major) || !parse_uint(words[1], G_MAXUINT32, &minor))
            continue;
        for (char **word = words + 2; *word; word++)
            for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                size_t length = strlen(rows[i].key);
                if (strncmp(*word, rows[i].key, length) == 0 && (*word)[length] == '=' &&
                    parse_uint(*word + length + 1, G_MAXINT64, &value))
                    cgroup_blkio_entry(lists[rows[i].list], major, minor, rows[i].op, value);
            }
    }
    return json_pack("{s:o, s:o, s:n, s:n, s:n, s:n, s:n, s:n}", "io_service_bytes_recursive", lists[0], "io_serviced_recursive",
                     lists[1], "io_queue_recursive", "io_service_time_recursive", "io_wait_time_recursive", "io_merged_recursive",
                     "io_time_recursive", "sectors_recursive");
}

static json_t *memory_stats(int dir)
{
    json_t *keys = json_object();
    g_autofree char *text = cgroup_read(dir, "memory.stat");
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", 256);
    guint64 number;
    for (char **line = lines; *line; line++) {
        char *blank = strchr(*line, ' ');
        if (blank && parse_uint(blank + 1, G_MAXINT64, &number)) {
            *blank = '\0';
            json_object_set_new(keys, *line, json_integer((json_int_t)number));
        }
    }
    return json_pack("{s:I, s:I, s:o}", "usage", (json_int_t)cgroup_read_number(dir, "memory.current"), "limit",
                     (json_int_t)cgroup_limit_cut(cgroup_read_number(dir, "memory.max")), "stats", keys);
}

static json_t *v2_stats(struct cgroup *cgroup, GError **error)
{
    struct cgroup_hierarchy *unified = cgroup_find(cgroup, "");
    if (!unified) {
        error_set(error, TARE_ERROR_UNAVAILABLE, "no cgroup");
        return NULL;
    }
    int dir = unified->fd;
    json_t *cpu = json_pack("{s:{s:I, s:I, s:I}, s:{s:I, s:I, s:I}}", "cpu_usage", "total_usage",
                            (json_int_t)(cgroup_read_key(dir, "cpu.stat", "usage_usec") * 1000), "usage_in_kernelmode",
                            (json_int_t)(cgroup_read_key(dir, "cpu.stat", "system_usec") * 1000), "usage_in_usermode",
                            (json_int_t)(cgroup_read_key(dir, "cpu.stat", "user_usec") * 1000), "throttling_data", "periods",
                            (json_int_t)cgroup_read_key(dir, "cpu.stat", "nr_periods"), "throttled_periods",
                            (json_int_t)cgroup_read_key(dir, "cpu.stat", "nr_throttled"), "throttled_time",
                            (json_int_t)(cgroup_read_key(dir, "cpu.stat", "throttled_usec") * 1000));
    json_t *pids = json_pack("{s:I}", "current", (json_int_t)cgroup_read_number(dir, "pids.current"));
    guint64 limit = cgroup_read_number(dir, "pids.max");
    if (limit <= G_MAXINT64)
        json_object_set_new(pids, "limit", json_integer((json_int_t)limit));
    json_t *stats = json_pack("{s:o, s:o, s:o, s:o}", "cpu_stats", cpu, "memory_stats", memory_stats(dir), "pids_stats", pids,
                              "blkio_stats", io_stats(dir));
    cgroup_stats_host(stats);
    return stats;
}

const struct cgroup_backend cgroup_v2_backend = {
    .create = v2_create,
    .apply = v2_apply,
    .attach = v2_attach,
    .freeze = v2_freeze,
    .stats = v2_stats,
    .oom_open = v2_oom_open,
    .oom_kills = v2_oom_kills,
};
