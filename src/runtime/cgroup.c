/* Which cgroup layout this machine has, and what both have in common. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/parse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (1u << 20)

/* mountinfo writes blanks and backslashes in octal. */
static char *unescape(const char *text, size_t length)
{
    GString *out = g_string_sized_new(length);
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\\' && i + 3 < length + 0 && g_ascii_isdigit(text[i + 1])) {
            g_string_append_c(out, (char)((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0')));
            i += 3;
        } else {
            g_string_append_c(out, text[i]);
        }
    }
    return g_string_free(out, FALSE);
}

static bool is_controller(const char *word)
{
    static const char *const known[] = { "cpu",  "cpuacct", "cpuset",   "memory",     "devices", "freezer", "blkio",
                                         "pids", "net_cls", "net_prio", "perf_event", "hugetlb", "rdma",    "misc" };
    return plan_lookup(known, G_N_ELEMENTS(known), word) >= 0 || g_str_has_prefix(word, "name=");
}

static char *controllers_of(const char *super_options)
{
    g_auto(GStrv) words = g_strsplit(super_options, ",", 64);
    g_autoptr(GString) out = g_string_new(NULL);
    for (char **word = words; *word; word++)
        if (is_controller(*word))
            g_string_append_printf(out, "%s%s", out->len ? "," : "", *word);
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static void add_hierarchy(struct cgroup *out, const char *type, const char *point, const char *super_options)
{
    g_autofree char *controllers = strcmp(type, "cgroup") == 0 ? controllers_of(super_options) : g_strdup("");
    bool unified = strcmp(type, "cgroup2") == 0;
    for (size_t i = 0; i < out->n_hierarchies; i++)
        if (out->hierarchies[i].unified == unified && strcmp(out->hierarchies[i].controllers, controllers) == 0)
            return;
    if (out->n_hierarchies == CGROUP_HIERARCHIES_MAX || (!unified && !controllers[0]))
        return;
    const char *slash = strrchr(point, '/');
    out->hierarchies[out->n_hierarchies++] = (struct cgroup_hierarchy){
        .controllers = g_steal_pointer(&controllers),
        .mount_point = g_strdup(point),
        .name = g_strdup(slash ? slash + 1 : point),
        .unified = unified,
        .fd = -1,
    };
}

bool cgroup_parse_mountinfo(const char *mountinfo, struct cgroup *out, GError **error)
{
    bool any_v1 = false;
    for (const char *line = mountinfo; *line;) {
        const char *end = strchrnul(line, '\n');
        g_autofree char *copy = g_strndup(line, (gsize)(end - line));
        line = *end ? end + 1 : end;
        char *separator = strstr(copy, " - ");
        if (!separator)
            continue;
        *separator = '\0';
        g_auto(GStrv) left = g_strsplit(copy, " ", 7);
        g_auto(GStrv) right = g_strsplit(separator + 3, " ", 3);
        if (g_strv_length(left) < 6 || g_strv_length(right) < 3 || !g_str_has_prefix(right[0], "cgroup"))
            continue;
        g_autofree char *point = unescape(left[4], strlen(left[4]));
        add_hierarchy(out, right[0], point, right[2]);
    }
    for (size_t i = 0; i < out->n_hierarchies; i++)
        any_v1 |= !out->hierarchies[i].unified && !g_str_has_prefix(out->hierarchies[i].controllers, "name=");
    if (out->n_hierarchies == 0)
        return error_set(error, TARE_ERROR_UNAVAILABLE, "no cgroup file system is mounted");
    out->backend = any_v1 ? &cgroup_v1_backend : &cgroup_v2_backend;
    return true;
}

bool cgroup_new(const char *path, struct cgroup **ret, GError **error)
{
    g_autofree char *mountinfo = NULL;
    g_autofd int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, errno, "open /proc/self/mountinfo");
    if (!fd_read_all(fd, 64u << 20, "mountinfo", &mountinfo, NULL, error))
        return false;
    struct cgroup *cgroup = g_new0(struct cgroup, 1);
    cgroup->oom_fd = cgroup->oom_control_fd = -1;
    cgroup->path = g_strdup(path);
    if (!cgroup_parse_mountinfo(mountinfo, cgroup, error)) {
        cgroup_free(cgroup);
        return false;
    }
    *ret = cgroup;
    return true;
}

bool cgroup_create(struct cgroup *cgroup, const struct plan_resources *resources, GError **error)
{
    return cgroup->backend->create(cgroup, error) && cgroup->backend->apply(cgroup, resources, true, error);
}

bool cgroup_open_existing(struct cgroup *cgroup, GError **error)
{
    for (size_t i = 0; i < cgroup->n_hierarchies; i++) {
        struct cgroup_hierarchy *each = &cgroup->hierarchies[i];
        g_autofree char *path = g_build_filename(each->mount_point, cgroup->path, NULL);
        each->fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (each->fd < 0 && errno != ENOENT)
            return error_set_errno(error, errno, "open cgroup %s", path);
    }
    return true;
}

struct cgroup_hierarchy *cgroup_find(struct cgroup *cgroup, const char *controller)
{
    for (size_t i = 0; i < cgroup->n_hierarchies; i++) {
        struct cgroup_hierarchy *each = &cgroup->hierarchies[i];
        if (each->unified != (controller[0] == '\0') || each->fd < 0)
            continue;
        g_auto(GStrv) words = g_strsplit(each->controllers, ",", -1);
        if (each->unified || g_strv_contains((const char *const *)words, controller))
            return each;
    }
    return NULL;
}

bool cgroup_write(int dir, const char *file, const char *value, GError **error)
{
    g_autofd int fd = openat(dir, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    /* One write: a cgroup file takes each write as a whole value. */
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        return error_set_errno(error, errno, "write \"%s\" to %s", value, file);
    return true;
}

char *cgroup_read(int dir, const char *file)
{
    g_autofd int fd = openat(dir, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char *text = NULL;
    if (fd < 0 || !fd_read_all(fd, FILE_MAX, file, &text, NULL, NULL))
        return NULL;
    return g_strchomp(text);
}

guint64 cgroup_read_number(int dir, const char *file)
{
    g_autofree char *text = cgroup_read(dir, file);
    guint64 value = 0;
    if (text && strcmp(text, "max") == 0)
        return G_MAXUINT64;
    return text && parse_uint(text, G_MAXUINT64, &value) ? value : 0;
}

guint64 cgroup_read_key(int dir, const char *file, const char *key)
{
    g_autofree char *text = cgroup_read(dir, file);
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
    size_t length = strlen(key);
    guint64 value = 0;
    for (char **line = lines; *line; line++)
        if (strncmp(*line, key, length) == 0 && (*line)[length] == ' ' && parse_uint(*line + length + 1, G_MAXUINT64, &value))
            return value;
    return 0;
}

GArray *cgroup_settings_new(void)
{
    return g_array_new(FALSE, TRUE, sizeof(struct cgroup_setting));
}

void cgroup_settings_add(GArray *settings, const char *controller, bool optional, const char *file, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct cgroup_setting setting = { controller, g_strdup(file), g_strdup_vprintf(format, args), optional };
    va_end(args);
    g_array_append_val(settings, setting);
}

/* The directories below one, each opened for reading; -1 at the end. */
static int next_child(int dir, DIR *stream, char **ret_name)
{
    struct dirent *entry;
    while ((entry = readdir(stream))) {
        if (entry->d_type != DT_DIR || strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        int child = openat(dir, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (child < 0)
            continue;
        if (ret_name)
            *ret_name = g_strdup(entry->d_name);
        return child;
    }
    return -1;
}

/* A container that manages cgroups of its own has made more below; their depth is the kernel's cgroup.max.depth, ours at most
 * this. */
#define DEPTH_MAX 32

static void collect_pids(int dir, int depth, GArray *pids)
{
    g_autofree char *text = cgroup_read(dir, "cgroup.procs");
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
    guint64 number;
    for (char **line = lines; *line; line++)
        if (parse_uint(*line, G_MAXINT32, &number) && number > 0) {
            pid_t pid = (pid_t)number;
            g_array_append_val(pids, pid);
        }
    int copy = depth < DEPTH_MAX ? openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    DIR *stream = copy >= 0 ? fdopendir(copy) : NULL;
    if (!stream)
        return fd_close(copy);
    for (int child; (child = next_child(dir, stream, NULL)) >= 0; fd_close(child))
        collect_pids(child, depth + 1, pids);
    closedir(stream);
}

/* The hierarchy to count processes by: the unified one, else one that every process of ours was put in. */
static struct cgroup_hierarchy *process_hierarchy(struct cgroup *cgroup)
{
    static const char *const order[] = { "pids", "devices", "memory", "" };
    for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
        struct cgroup_hierarchy *found = cgroup_find(cgroup, order[i]);
        if (found)
            return found;
    }
    return NULL;
}

GArray *cgroup_pids(struct cgroup *cgroup)
{
    GArray *pids = g_array_new(FALSE, FALSE, sizeof(pid_t));
    struct cgroup_hierarchy *hierarchy = process_hierarchy(cgroup);
    if (hierarchy)
        collect_pids(hierarchy->fd, 0, pids);
    return pids;
}

bool cgroup_kill(struct cgroup *cgroup, int signal, GError **error)
{
    struct cgroup_hierarchy *unified = cgroup_find(cgroup, "");
    if (signal == SIGKILL && unified && cgroup_write(unified->fd, "cgroup.kill", "1", NULL))
        return true;
    /* Processes that fork while we look are met in the next round; frozen ones cannot fork. */
    bool frozen = signal == SIGKILL && cgroup->backend->freeze(cgroup, true, NULL);
    for (int round = 0; round < (signal == SIGKILL ? 64 : 1); round++) {
        g_autoptr(GArray) pids = cgroup_pids(cgroup);
        for (guint i = 0; i < pids->len; i++)
            kill(g_array_index(pids, pid_t, i), signal);
        if (pids->len == 0 || frozen)
            break;
        g_usleep(1000);
    }
    if (frozen)
        cgroup->backend->freeze(cgroup, false, NULL);
    return true;
}

/* rmdir of name in parent and of all below, children first. Files in cgroupfs go with their directory. */
static int remove_below(int parent, const char *name, int depth)
{
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    if (errno != EBUSY && errno != ENOTEMPTY)
        return -errno;
    int dir = depth < DEPTH_MAX ? openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    DIR *stream = dir >= 0 ? fdopendir(dir) : NULL;
    if (stream) {
        char *child_name = NULL;
        for (int child; (child = next_child(dir, stream, &child_name)) >= 0;) {
            fd_close(child);
            remove_below(dir, child_name, depth + 1);
            g_clear_pointer(&child_name, g_free);
        }
        closedir(stream);
    } else {
        fd_close(dir);
    }
    return unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
}

/* The kernel keeps a cgroup busy until its last process is reaped, which may be a moment away. */
static int remove_hierarchy(struct cgroup_hierarchy *hierarchy, const char *path)
{
    g_autofree char *full = g_build_filename(hierarchy->mount_point, path, NULL);
    int r = 0;
    for (int attempt = 0; attempt < 12; attempt++) {
        r = remove_below(AT_FDCWD, full, 0);
        if (r != -EBUSY)
            return r;
        g_usleep(1000u << MIN(attempt, 7));
    }
    return r;
}

bool cgroup_remove(struct cgroup *cgroup, GError **error)
{
    fd_clear(&cgroup->oom_fd);
    fd_clear(&cgroup->oom_control_fd);
    bool ok = true;
    for (size_t i = 0; i < cgroup->n_hierarchies; i++) {
        struct cgroup_hierarchy *each = &cgroup->hierarchies[i];
        fd_clear(&each->fd);
        int r = remove_hierarchy(each, cgroup->path);
        if (r < 0 && ok)
            ok = error_set_errno(error, -r, "remove cgroup %s/%s", each->mount_point, cgroup->path);
    }
    return ok;
}

void cgroup_free(struct cgroup *cgroup)
{
    if (!cgroup)
        return;
    for (size_t i = 0; i < cgroup->n_hierarchies; i++) {
        fd_clear(&cgroup->hierarchies[i].fd);
        g_free(cgroup->hierarchies[i].controllers);
        g_free(cgroup->hierarchies[i].mount_point);
        g_free(cgroup->hierarchies[i].name);
    }
    fd_clear(&cgroup->oom_fd);
    fd_clear(&cgroup->oom_control_fd);
    g_free(cgroup->path);
    g_free(cgroup);
}
