/* Directories and files of cgroup file systems: what both backends write and read. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

int cgroup_make_path(const char *mount_point, const char *path, cgroup_visit visit, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    g_autofd int dir = open(mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        error_set_errno(error, errno, "open %s", mount_point);
        return -1;
    }
    for (char **part = parts; *part; part++) {
        if (!**part)
            continue;
        if (mkdirat(dir, *part, 0755) < 0 && errno != EEXIST) {
            error_set_errno(error, errno, "mkdir %s/%s", mount_point, path);
            return -1;
        }
        g_autofd int child = openat(dir, *part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (child < 0) {
            error_set_errno(error, errno, "open %s/%s", mount_point, path);
            return -1;
        }
        if (visit && !visit(dir, child, error))
            return -1;
        fd_clear(&dir);
        dir = fd_steal(&child);
    }
    return fd_steal(&dir);
}

void cgroup_settings_free(GArray *settings)
{
    for (guint i = 0; i < settings->len; i++) {
        g_free(g_array_index(settings, struct cgroup_setting, i).file);
        g_free(g_array_index(settings, struct cgroup_setting, i).value);
    }
    g_array_unref(settings);
}

/* Takes the settings. A controller that this machine lacks is met only where something is wanted from it, and then it is an
 * error. */
bool cgroup_apply_settings(struct cgroup *cgroup, GArray *settings, GError **error)
{
    bool ok = true, unified = cgroup->backend == &cgroup_v2_backend;
    for (guint i = 0; ok && i < settings->len; i++) {
        const struct cgroup_setting *setting = &g_array_index(settings, struct cgroup_setting, i);
        struct cgroup_hierarchy *hierarchy = cgroup_find(cgroup, unified ? "" : setting->controller);
        if (!hierarchy || faccessat(hierarchy->fd, setting->file, F_OK, 0) < 0) {
            if (!setting->optional)
                ok = error_set(error, TARE_ERROR_UNAVAILABLE, "this machine has no cgroup file %s", setting->file);
            continue;
        }
        ok = cgroup_write(hierarchy->fd, setting->file, setting->value, error);
        if (!ok)
            g_prefix_error(error, "error setting cgroup config for procHooks process: ");
    }
    cgroup_settings_free(settings);
    return ok;
}

void cgroup_blkio_entry(json_t *list, guint64 major, guint64 minor, const char *op, guint64 value)
{
    json_array_append_new(list, json_pack("{s:I, s:I, s:s, s:I}", "major", (json_int_t)major, "minor", (json_int_t)minor, "op",
                                          op, "value", (json_int_t)value));
}

guint64 cgroup_limit_cut(guint64 limit)
{
    struct sysinfo info;
    if (sysinfo(&info) < 0)
        return limit;
    guint64 total = (guint64)info.totalram * info.mem_unit;
    return limit == 0 || limit > total ? total : limit;
}

/* The first line of /proc/stat, all but guest times, in nanoseconds: what Docker calls system_cpu_usage. */
static guint64 system_cpu_usage(void)
{
    char line[256];
    g_autofd int fd = open("/proc/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? fd_read_full(fd, line, sizeof line - 1) : -1;
    if (n <= 0)
        return 0;
    line[n] = '\0';
    *strchrnul(line, '\n') = '\0';
    g_auto(GStrv) words = g_strsplit_set(line, " ", 16);
    guint64 sum = 0, ticks;
    int counted = 0;
    for (char **word = words; *word && counted < 8; word++)
        if (parse_uint(*word, G_MAXINT64, &ticks)) {
            sum += ticks;
            counted++;
        }
    return sum * (G_GUINT64_CONSTANT(1000000000) / (guint64)sysconf(_SC_CLK_TCK));
}

void cgroup_stats_host(json_t *stats)
{
    json_t *cpu = json_object_get(stats, "cpu_stats");
    json_object_set_new(cpu, "system_cpu_usage", json_integer((json_int_t)system_cpu_usage()));
    json_object_set_new(cpu, "online_cpus", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
}
