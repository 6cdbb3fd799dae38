/* cgroup v1: a directory in each controller's hierarchy; where the unified hierarchy is mounted beside them (hybrid), one there,
 * too. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* A new cpuset is empty, and no process may enter an empty one: it starts as its parent is. */
static bool fill_cpuset(int parent, int dir, GError **error)
{
    static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *own = cgroup_read(dir, files[i]);
        if (own && *own)
            continue;
        g_autofree char *above = cgroup_read(parent, files[i]);
        if (above && *above && !cgroup_write(dir, files[i], above, error))
            return false;
    }
    return true;
}

static bool v1_create(struct cgroup *cgroup, GError **error)
{
    for (size_t i = 0; i < cgroup->n_hierarchies; i++) {
        struct cgroup_hierarchy *each = &cgroup->hierarchies[i];
        if (each->unified) {
            if (!cgroup_v2_make(each, cgroup->path, error))
                return false;
            continue;
        }
        g_auto(GStrv) words = g_strsplit(each->controllers, ",", -1);
        bool cpuset = g_strv_contains((const char *const *)words, "cpuset");
        each->fd = cgroup_make_path(each->mount_point, cgroup->path, cpuset ? fill_cpuset : NULL, error);
        if (each->fd < 0)
            return false;
    }
    return true;
}

static void add_blkio(GArray *settings, const struct plan_resources *resources)
{
    static const struct {
        const char *kind, *file;
    } files[] = { { "weightDevice", "blkio.bfq.weight_device" },
                  { "throttleReadBpsDevice", "blkio.throttle.read_bps_device" },
                  { "throttleWriteBpsDevice", "blkio.throttle.write_bps_device" },
                  { "throttleReadIOPSDevice", "blkio.throttle.read_iops_device" },
                  { "throttleWriteIOPSDevice", "blkio.throttle.write_iops_device" } };
    for (guint i = 0; i < resources->blkio->len; i++) {
        const struct plan_blkio_device *device = &g_array_index(resources->blkio, struct plan_blkio_device, i);
        for (size_t k = 0; k < G_N_ELEMENTS(files); k++)
            if (strcmp(files[k].kind, device->kind) == 0)
                cgroup_settings_add(settings, "blkio", k == 0, files[k].file,
                                    "%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, device->major,
                                    device->minor, device->value);
    }
}

GArray *cgroup_v1_settings(const struct plan_resources *resources)
{
    /* In the order of writing: a period before its quota, a limit before the limit with swap. */
    static const struct {
        enum plan_resource resource;
        const char *controller, *file;
        bool optional;
    } numbers[] = {
        { RES_MEMORY_LIMIT, "memory", "memory.limit_in_bytes", false },
        { RES_MEMORY_SWAP, "memory", "memory.memsw.limit_in_bytes", true },
        { RES_MEMORY_RESERVATION, "memory", "memory.soft_limit_in_bytes", false },
        { RES_MEMORY_SWAPPINESS, "memory", "memory.swappiness", false },
        { RES_MEMORY_KERNEL_TCP, "memory", "memory.kmem.tcp.limit_in_bytes", true },
        { RES_CPU_SHARES, "cpu", "cpu.shares", false },
        { RES_CPU_PERIOD, "cpu", "cpu.cfs_period_us", false },
        { RES_CPU_QUOTA, "cpu", "cpu.cfs_quota_us", false },
        { RES_CPU_BURST, "cpu", "cpu.cfs_burst_us", false },
        { RES_CPU_RT_PERIOD, "cpu", "cpu.rt_period_us", false },
        { RES_CPU_RT_RUNTIME, "cpu", "cpu.rt_runtime_us", false },
        { RES_CPU_IDLE, "cpu", "cpu.idle", false },
        { RES_BLKIO_WEIGHT, "blkio", "blkio.bfq.weight", true },
        { RES_BLKIO_LEAF_WEIGHT, "blkio", "blkio.leaf_weight", true },
    };
    GArray *settings = cgroup_settings_new();
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
        if (resources->has[numbers[i].resource])
            cgroup_settings_add(settings, numbers[i].controller, numbers[i].optional, numbers[i].file, "%" G_GINT64_FORMAT,
                                resources->value[numbers[i].resource]);
    if (resources->has[RES_OOM_DISABLE])
        cgroup_settings_add(settings, "memory", false, "memory.oom_control", "1");
    if (resources->cpus && *resources->cpus)
        cgroup_settings_add(settings, "cpuset", false, "cpuset.cpus", "%s", resources->cpus);
    if (resources->mems && *resources->mems)
        cgroup_settings_add(settings, "cpuset", false, "cpuset.mems", "%s", resources->mems);
    if (resources->has[RES_PIDS_LIMIT] && resources->value[RES_PIDS_LIMIT] > 0)
        cgroup_settings_add(settings, "pids", false, "pids.max", "%" G_GINT64_FORMAT, resources->value[RES_PIDS_LIMIT]);
    else if (resources->has[RES_PIDS_LIMIT])
        cgroup_settings_add(settings, "pids", false, "pids.max", "max");
    add_blkio(settings, resources);
    for (guint i = 0; i < resources->hugepages->len; i++) {
        const struct plan_hugepage *page = &g_array_index(resources->hugepages, struct plan_hugepage, i);
        g_autofree char *file = g_strdup_printf("hugetlb.%s.limit_in_bytes", page->size);
        cgroup_settings_add(settings, "hugetlb", true, file, "%" G_GUINT64_FORMAT, page->limit);
    }
    return settings;
}

/* The last of equal rules decides for its devices, so that the earlier ones need not be written: Docker's list repeats half of
 * ours. */
static bool is_repeated(const GArray *rules, guint index)
{
    const struct plan_device_rule *rule = &g_array_index(rules, struct plan_device_rule, index);
    for (guint i = index + 1; i < rules->len; i++) {
        const struct plan_device_rule *other = &g_array_index(rules, struct plan_device_rule, i);
        if (rule->allow == other->allow && rule->type == other->type && rule->major == other->major &&
            rule->minor == other->minor && rule->access == other->access)
            return true;
    }
    return false;
}

static bool write_device_rules(int dir, const GArray *rules, GError **error)
{
    /* What no rule names is refused; a new directory has its parent's list. */
    if (!cgroup_write(dir, "devices.deny", "a", error))
        return false;
    for (guint i = 0; i < rules->len; i++) {
        const struct plan_device_rule *rule = &g_array_index(rules, struct plan_device_rule, i);
        if (is_repeated(rules, i) || (i == 0 && rule->type == 'a' && !rule->allow))
            continue;
        g_autoptr(GString) text = g_string_new(NULL);
        g_string_append_printf(text, "%c ", rule->type);
        if (rule->major < 0)
            g_string_append(text, "*:");
        else
            g_string_append_printf(text, "%" G_GINT64_FORMAT ":", rule->major);
        if (rule->minor < 0)
            g_string_append_c(text, '*');
        else
            g_string_append_printf(text, "%" G_GINT64_FORMAT, rule->minor);
        g_string_append_printf(text, " %s%s%s", rule->access & DEVICE_READ ? "r" : "", rule->access & DEVICE_WRITE ? "w" : "",
                               rule->access & DEVICE_MKNOD ? "m" : "");
        /* "a" stands for all devices and all access. */
        if (!cgroup_write(dir, rule->allow ? "devices.allow" : "devices.deny", rule->type == 'a' ? "a" : text->str, error))
            return false;
    }
    return true;
}

static bool v1_apply(struct cgroup *cgroup, const struct plan_resources *resources, bool with_devices, GError **error)
{
    GArray *settings = cgroup_v1_settings(resources);
    struct cgroup_hierarchy *memory = cgroup_find(cgroup, "memory"), *devices = cgroup_find(cgroup, "devices");
    /* A limit above the present limit with swap is refused: then that one goes first. */
    if (memory && !with_devices && resources->has[RES_MEMORY_SWAP] && resources->has[RES_MEMORY_LIMIT]) {
        g_autofree char *swap = g_strdup_printf("%" G_GINT64_FORMAT, resources->value[RES_MEMORY_SWAP]);
        guint64 now = cgroup_read_number(memory->fd, "memory.memsw.limit_in_bytes");
        if (resources->value[RES_MEMORY_SWAP] < 0 || (guint64)resources->value[RES_MEMORY_SWAP] > now)
            cgroup_write(memory->fd, "memory.memsw.limit_in_bytes", swap, NULL);
    }
    if (!cgroup_apply_settings(cgroup, settings, error))
        return false;
    if (!with_devices || !devices)
        return true;
    g_autoptr(GArray) rules = device_rules_with_defaults(resources->devices);
    return write_device_rules(devices->fd, rules, error);
}

static bool v1_attach(struct cgroup *cgroup, pid_t pid, GError **error)
{
    g_autofree char *text = g_strdup_printf("%d", (int)pid);
    for (size_t i = 0; i < cgroup->n_hierarchies; i++) {
        struct cgroup_hierarchy *each = &cgroup->hierarchies[i];
        if (each->fd >= 0 && !cgroup_write(each->fd, "cgroup.procs", text, error))
            return false;
    }
    return true;
}

static bool v1_freeze(struct cgroup *cgroup, bool frozen, GError **error)
{
    struct cgroup_hierarchy *freezer = cgroup_find(cgroup, "freezer"), *unified = cgroup_find(cgroup, "");
    const char *wanted = frozen ? "FROZEN" : "THAWED";
    if (!freezer && unified)
        return cgroup_v2_freeze_at(unified->fd, frozen, error);
    if (!freezer)
        return error_set(error, TARE_ERROR_UNAVAILABLE, "this machine has no freezer cgroup");
    for (int attempt = 0; attempt < 1000; attempt++) {
        /* Writing again wakes the kernel's freezer where a process forked meanwhile. */
        if (!cgroup_write(freezer->fd, "freezer.state", wanted, error))
            return false;
        g_autofree char *state = cgroup_read(freezer->fd, "freezer.state");
        if (state && strcmp(state, wanted) == 0)
            return true;
        g_usleep(attempt < 20 ? 100 : 2000);
    }
    cgroup_write(freezer->fd, "freezer.state", "THAWED", NULL);
    return error_set(error, TARE_ERROR_INTERNAL, "unable to freeze");
}

static int v1_oom_open(struct cgroup *cgroup, GError **error)
{
    struct cgroup_hierarchy *memory = cgroup_find(cgroup, "memory");
    if (!memory)
        return -1;
    g_autofd int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    cgroup->oom_control_fd = openat(memory->fd, "memory.oom_control", O_RDONLY | O_CLOEXEC);
    if (event < 0 || cgroup->oom_control_fd < 0) {
        error_set_errno(error, errno, "watch memory.oom_control");
        return -1;
    }
    g_autofree char *text = g_strdup_printf("%d %d", event, cgroup->oom_control_fd);
    return cgroup_write(memory->fd, "cgroup.event_control", text, error) ? fd_steal(&event) : -1;
}

static guint64 v1_oom_kills(struct cgroup *cgroup)
{
    struct cgroup_hierarchy *memory = cgroup_find(cgroup, "memory");
    return memory ? cgroup_read_key(memory->fd, "memory.oom_control", "oom_kill") : 0;
}

static json_t *cpu_stats(struct cgroup *cgroup)
{
    struct cgroup_hierarchy *account = cgroup_find(cgroup, "cpuacct"), *cpu = cgroup_find(cgroup, "cpu");
    json_t *usage = json_object(), *throttling = json_object(), *each_cpu = json_array();
    if (account) {
        g_autofree char *text = cgroup_read(account->fd, "cpuacct.usage_percpu");
        g_auto(GStrv) numbers = g_strsplit(text ? text : "", " ", -1);
        guint64 number;
        for (char **word = numbers; *word; word++)
            if (parse_uint(*word, G_MAXINT64, &number))
                json_array_append_new(each_cpu, json_integer((json_int_t)number));
        json_object_set_new(usage, "total_usage", json_integer((json_int_t)cgroup_read_number(account->fd, "cpuacct.usage")));
        json_object_set_new(usage, "percpu_usage", each_cpu);
        json_object_set_new(usage, "usage_in_kernelmode",
                            json_integer((json_int_t)cgroup_read_number(account->fd, "cpuacct.usage_sys")));
        json_object_set_new(usage, "usage_in_usermode",
                            json_integer((json_int_t)cgroup_read_number(account->fd, "cpuacct.usage_user")));
    } else {
        json_decref(each_cpu);
    }
    static const struct {
        const char *name, *key;
    } rows[] = { { "periods", "nr_periods" }, { "throttled_periods", "nr_throttled" }, { "throttled_time", "throttled_time" } };
    for (size_t i = 0; cpu && i < G_N_ELEMENTS(rows); i++)
        json_object_set_new(throttling, rows[i].name,
                            json_integer((json_int_t)cgroup_read_key(cpu->fd, "cpu.stat", rows[i].key)));
    return json_pack("{s:o, s:o}", "cpu_usage", usage, "throttling_data", throttling);
}

/* "key number" lines as an object. */
static json_t *key_object(int dir, const char *file)
{
    json_t *object = json_object();
    g_autofree char *text = cgroup_read(dir, file);
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", 256);
    for (char **line = lines; *line; line++) {
        char *blank = strchr(*line, ' ');
        guint64 number;
        if (!blank)
            continue;
        *blank = '\0';
        if (parse_uint(blank + 1, G_MAXINT64, &number))
            json_object_set_new(object, *line, json_integer((json_int_t)number));
    }
    return object;
}

static json_t *memory_stats(struct cgroup *cgroup)
{
    struct cgroup_hierarchy *memory = cgroup_find(cgroup, "memory");
    if (!memory)
        return json_object();
    return json_pack("{s:I, s:I, s:I, s:I, s:o}", "usage", (json_int_t)cgroup_read_number(memory->fd, "memory.usage_in_bytes"),
                     "max_usage", (json_int_t)cgroup_read_number(memory->fd, "memory.max_usage_in_bytes"), "failcnt",
                     (json_int_t)cgroup_read_number(memory->fd, "memory.failcnt"), "limit",
                     (json_int_t)cgroup_limit_cut(cgroup_read_key(memory->fd, "memory.stat", "hierarchical_memory_limit")),
                     "stats", key_object(memory->fd, "memory.stat"));
}

/* "8:0 Read 4096" */
static json_t *blkio_list(int dir, const char *file)
{
    json_t *list = json_array();
    g_autofree char *text = cgroup_read(dir, file);
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", 1024);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) words = g_strsplit_set(*line, ": ", 4);
        guint64 major, minor, value;
        if (g_strv_length(words) == 4 && parse_uint(words[0], G_MAXUINT32, &major) && parse_uint(words[1], G_MAXUINT32, &minor) &&
            parse_uint(words[3], G_MAXINT64, &value))
            cgroup_blkio_entry(list, major, minor, words[2], value);
    }
    return list;
}

static json_t *blkio_stats(struct cgroup *cgroup)
{
    static const struct {
        const char *name, *bfq, *throttle;
    } rows[] = {
        { "io_service_bytes_recursive", "blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive" },
        { "io_serviced_recursive", "blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive" },
    };
    static const char *const unknown[] = { "io_queue_recursive",  "io_service_time_recursive", "io_wait_time_recursive",
                                           "io_merged_recursive", "io_time_recursive",         "sectors_recursive" };
    struct cgroup_hierarchy *blkio = cgroup_find(cgroup, "blkio");
    json_t *stats = json_object();
    for (size_t i = 0; blkio && i < G_N_ELEMENTS(rows); i++) {
        json_t *list = blkio_list(blkio->fd, rows[i].bfq);
        if (json_array_size(list) == 0) {
            json_decref(list);
            list = blkio_list(blkio->fd, rows[i].throttle);
        }
        json_object_set_new(stats, rows[i].name, list);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(unknown); i++)
        json_object_set_new(stats, unknown[i], json_array());
    return stats;
}

static json_t *v1_stats(struct cgroup *cgroup, GError **error)
{
    struct cgroup_hierarchy *pids = cgroup_find(cgroup, "pids");
    json_t *pid_stats = json_object();
    if (pids) {
        guint64 limit = cgroup_read_number(pids->fd, "pids.max");
        json_object_set_new(pid_stats, "current", json_integer((json_int_t)cgroup_read_number(pids->fd, "pids.current")));
        if (limit <= G_MAXINT64)
            json_object_set_new(pid_stats, "limit", json_integer((json_int_t)limit));
    }
    json_t *stats = json_pack("{s:o, s:o, s:o, s:o}", "cpu_stats", cpu_stats(cgroup), "memory_stats", memory_stats(cgroup),
                              "pids_stats", pid_stats, "blkio_stats", blkio_stats(cgroup));
    cgroup_stats_host(stats);
    return stats;
}

const struct cgroup_backend cgroup_v1_backend = {
    .create = v1_create,
    .apply = v1_apply,
    .attach = v1_attach,
    .freeze = v1_freeze,
    .stats = v1_stats,
    .oom_open = v1_oom_open,
    .oom_kills = v1_oom_kills,
};
