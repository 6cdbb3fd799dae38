/* The specification's linux object: namespaces, mappings, devices, sysctls, masked and read-only paths. */
#include "runtime/runtime-internal.h"

#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

static bool parse_namespace_type(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct {
        const char *name;
        int flag;
    } types[] = {
        { "pid", CLONE_NEWPID }, { "network", CLONE_NEWNET }, { "mount", CLONE_NEWNS },      { "ipc", CLONE_NEWIPC },
        { "uts", CLONE_NEWUTS }, { "user", CLONE_NEWUSER },   { "cgroup", CLONE_NEWCGROUP },
    };
    const char *name = json_string_value(value);
    for (size_t i = 0; name && i < G_N_ELEMENTS(types); i++)
        if (strcmp(types[i].name, name) == 0)
            return *(int *)out = types[i].flag, true;
    return error_set(error, TARE_ERROR_INVALID, "%s: unknown namespace \"%s\"", path, name ? name : "");
}

static bool parse_namespace(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct plan_field fields[] = {
        { "type", PLAN_CUSTOM, offsetof(struct plan_namespace, flag), .parse = parse_namespace_type, .required = true },
        { "path", PLAN_STRING, offsetof(struct plan_namespace, path) },
    };
    struct plan_namespace *ns = out;
    if (!plan_parse_object(value, path, fields, G_N_ELEMENTS(fields), out, error))
        return false;
    if (ns->path && ns->path[0] == '\0')
        g_clear_pointer(&ns->path, g_free);
    if (ns->path && ns->path[0] != '/')
        return error_set(error, TARE_ERROR_INVALID, "%s.path: must be an absolute path", path);
    return true;
}

static bool parse_namespaces(const json_t *value, const char *path, void *out, GError **error)
{
    GArray *list = *(GArray **)out;
    if (!plan_parse_array(value, path, 16, parse_namespace, list, error))
        return false;
    for (guint i = 0; i < list->len; i++)
        for (guint k = 0; k < i; k++)
            if (g_array_index(list, struct plan_namespace, i).flag == g_array_index(list, struct plan_namespace, k).flag)
                return error_set(error, TARE_ERROR_INVALID, "%s[%u].type: given twice", path, i);
    return true;
}

static bool parse_mapping(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct plan_field fields[] = {
        { "containerID", PLAN_UINT32, offsetof(struct plan_mapping, container), .required = true },
        { "hostID", PLAN_UINT32, offsetof(struct plan_mapping, host), .required = true },
        { "size", PLAN_UINT32, offsetof(struct plan_mapping, size), 1, G_MAXUINT32, .required = true },
    };
    struct plan_mapping *mapping = out;
    if (!plan_parse_object(value, path, fields, G_N_ELEMENTS(fields), out, error))
        return false;
    if (mapping->size > G_MAXUINT32 - mapping->container || mapping->size > G_MAXUINT32 - mapping->host)
        return plan_wrong(error, path, "runs past the last id");
    return true;
}

static bool parse_mappings(const json_t *value, const char *path, void *out, GError **error)
{
    return plan_parse_array(value, path, 340, parse_mapping, *(GArray **)out, error); /* the kernel's limit */
}

struct device_numbers {
    gint64 major, minor;
};

static bool check_device(struct plan_device *device, const char *type, const struct device_numbers *numbers, const char *path,
                         GError **error)
{
    static const struct {
        const char *name;
        mode_t type;
    } types[] = { { "c", S_IFCHR }, { "u", S_IFCHR }, { "b", S_IFBLK }, { "p", S_IFIFO } };
    mode_t file_type = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++)
        if (type && strcmp(types[i].name, type) == 0)
            file_type = types[i].type;
    if (!file_type)
        return error_set(error, TARE_ERROR_INVALID, "%s.type: unknown device type \"%s\"", path, type ? type : "");
    if (file_type != S_IFIFO && (numbers->major < 0 || numbers->minor < 0))
        return plan_wrong(error, path, "major and minor are required");
    if (device->path[0] != '/')
        return error_set(error, TARE_ERROR_INVALID, "%s.path: must be an absolute path", path);
    device->mode = (device->mode & 07777) | file_type;
    device->number = file_type == S_IFIFO ? 0 : makedev((unsigned)numbers->major, (unsigned)numbers->minor);
    return true;
}

static bool parse_device(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct plan_field fields[] = {
        { "path", PLAN_STRING, offsetof(struct plan_device, path), .required = true },
        { "fileMode", PLAN_UINT32, offsetof(struct plan_device, mode) },
        { "uid", PLAN_UINT32, offsetof(struct plan_device, uid), 0, G_MAXUINT32 - 1 },
        { "gid", PLAN_UINT32, offsetof(struct plan_device, gid), 0, G_MAXUINT32 - 1 },
    };
    static const struct plan_field number_fields[] = {
        { "major", PLAN_INT64, offsetof(struct device_numbers, major), -1, (1 << 12) - 1 },
        { "minor", PLAN_INT64, offsetof(struct device_numbers, minor), -1, (1 << 20) - 1 },
    };
    struct plan_device *device = out;
    struct device_numbers numbers = { -1, -1 };
    device->mode = 0666;
    return plan_parse_object(value, path, fields, G_N_ELEMENTS(fields), out, error) &&
           plan_parse_object(value, path, number_fields, G_N_ELEMENTS(number_fields), &numbers, error) &&
           check_device(device, json_get_string(value, "type", NULL), &numbers, path, error);
}

static bool parse_devices(const json_t *value, const char *path, void *out, GError **error)
{
    return plan_parse_array(value, path, PLAN_MOUNTS_MAX, parse_device, *(GArray **)out, error);
}

/* Which namespace a sysctl belongs to; 0: to the host as a whole, which a container must not change. */
static int sysctl_namespace(const char *name)
{
    static const char *const ipc[] = { "kernel.msgmax",      "kernel.msgmnb",      "kernel.msgmni",      "kernel.sem",
                                       "kernel.shmall",      "kernel.shmmax",      "kernel.shmmni",      "kernel.shm_rmid_forced",
                                       "kernel.auto_msgmni", "kernel.msg_next_id", "kernel.sem_next_id", "kernel.shm_next_id" };
    if (plan_lookup(ipc, G_N_ELEMENTS(ipc), name) >= 0 || g_str_has_prefix(name, "fs.mqueue."))
        return CLONE_NEWIPC;
    if (g_str_has_prefix(name, "net."))
        return CLONE_NEWNET;
    if (strcmp(name, "kernel.domainname") == 0 || strcmp(name, "kernel.hostname") == 0)
        return CLONE_NEWUTS;
    return 0;
}

/* "net.ipv4.conf.eth0/1.x" or "net/ipv4/…": whichever separator comes first is the separator, as sysctl(8) has it. */
static char *sysctl_path(const char *name)
{
    char *path = g_strdup(name);
    const char *first = strpbrk(name, "./");
    if (first && *first == '.')
        for (char *c = path; *c; c++)
            *c = *c == '.' ? '/' : *c == '/' ? '.' : *c;
    return path;
}

static bool parse_sysctls(const json_t *value, const char *path, void *out, GError **error)
{
    GArray *sysctls = *(GArray **)out;
    const char *name;
    json_t *text;
    if (!json_is_object(value) || json_object_size(value) > PLAN_MOUNTS_MAX)
        return plan_wrong(error, path, "must be an object");
    json_object_foreach((json_t *)value, name, text)
    {
        if (!json_is_string(text))
            return error_set(error, TARE_ERROR_INVALID, "%s.%s: must be a string", path, name);
        struct plan_sysctl sysctl = { sysctl_path(name), g_strdup(json_string_value(text)), 0 };
        g_array_append_val(sysctls, sysctl);
        g_autofree char *dotted = g_strdup(sysctl.path);
        g_strdelimit(dotted, "/", '.');
        int needs = sysctl_namespace(dotted);
        if (strcmp(dotted, "kernel.hostname") == 0)
            return error_set(error, TARE_ERROR_INVALID,
                             "%s: sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field",
                             path);
        g_array_index(sysctls, struct plan_sysctl, sysctls->len - 1).needs = needs;
        g_auto(GStrv) parts = g_strsplit(sysctl.path, "/", -1);
        for (char **part = parts; *part; part++)
            if (!**part || strcmp(*part, ".") == 0 || strcmp(*part, "..") == 0)
                needs = 0;
        if (!needs)
            return error_set(error, TARE_ERROR_INVALID, "%s: sysctl \"%s\" is not in a separate kernel namespace", path, name);
    }
    return true;
}

static bool parse_propagation(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct {
        const char *name;
        guint64 flags;
    } words[] = {
        { "private", MS_PRIVATE | MS_REC }, { "rprivate", MS_PRIVATE | MS_REC },       { "slave", MS_SLAVE | MS_REC },
        { "rslave", MS_SLAVE | MS_REC },    { "shared", MS_SHARED | MS_REC },          { "rshared", MS_SHARED | MS_REC },
        { "unbindable", MS_UNBINDABLE },    { "runbindable", MS_UNBINDABLE | MS_REC }, { "", 0 }
    };
    for (size_t i = 0; json_is_string(value) && i < G_N_ELEMENTS(words); i++)
        if (strcmp(words[i].name, json_string_value(value)) == 0)
            return *(guint64 *)out = words[i].flags, true;
    return plan_wrong(error, path, "unknown propagation");
}

static bool parse_seccomp(const json_t *value, const char *path, void *out, GError **error)
{
    if (!json_is_object(value))
        return plan_wrong(error, path, "must be an object");
    *(json_t **)out = json_incref((json_t *)value);
    return true;
}

static bool check_paths(char **paths, const char *path, GError **error)
{
    for (char **each = paths; each && *each; each++)
        if ((*each)[0] != '/')
            return error_set(error, TARE_ERROR_INVALID, "%s[%zd]: must be an absolute path", path, each - paths);
    return true;
}

/* Below the cgroup file systems only, whatever it says. */
static bool check_cgroups_path(struct runtime_plan *plan, GError **error)
{
    if (!plan->cgroups_path)
        return true;
    g_auto(GStrv) parts = g_strsplit(plan->cgroups_path, "/", -1);
    g_autoptr(GString) clean = g_string_new(NULL);
    for (char **part = parts; *part; part++) {
        if (!**part || strcmp(*part, ".") == 0)
            continue;
        if (strcmp(*part, "..") == 0 || strlen(*part) > 255)
            return plan_wrong(error, "linux.cgroupsPath", "must not contain \"..\"");
        g_string_append_printf(clean, "%s%s", clean->len ? "/" : "", *part);
    }
    if (clean->len == 0)
        return plan_wrong(error, "linux.cgroupsPath", "must name a cgroup");
    g_free(plan->cgroups_path);
    plan->cgroups_path = g_strdup(clean->str);
    return true;
}

bool plan_parse_linux(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct plan_field fields[] = {
        { "namespaces", PLAN_CUSTOM, offsetof(struct runtime_plan, namespaces), .parse = parse_namespaces },
        { "uidMappings", PLAN_CUSTOM, offsetof(struct runtime_plan, uid_mappings), .parse = parse_mappings },
        { "gidMappings", PLAN_CUSTOM, offsetof(struct runtime_plan, gid_mappings), .parse = parse_mappings },
        { "devices", PLAN_CUSTOM, offsetof(struct runtime_plan, devices), .parse = parse_devices },
        { "cgroupsPath", PLAN_STRING, offsetof(struct runtime_plan, cgroups_path) },
        { "resources", PLAN_CUSTOM, offsetof(struct runtime_plan, resources), .parse = plan_parse_resources },
        { "sysctl", PLAN_CUSTOM, offsetof(struct runtime_plan, sysctls), .parse = parse_sysctls },
        { "seccomp", PLAN_CUSTOM, offsetof(struct runtime_plan, seccomp), .parse = parse_seccomp },
        { "rootfsPropagation", PLAN_CUSTOM, offsetof(struct runtime_plan, root_propagation), .parse = parse_propagation },
        { "maskedPaths", PLAN_STRINGS, offsetof(struct runtime_plan, masked) },
        { "readonlyPaths", PLAN_STRINGS, offsetof(struct runtime_plan, readonly) },
        { "mountLabel", PLAN_STRING, offsetof(struct runtime_plan, mount_label) },
        { "timeOffsets", PLAN_CUSTOM, 0, .parse = plan_refuse },
        { "personality", PLAN_CUSTOM, 0, .parse = plan_refuse },
        { "intelRdt", PLAN_CUSTOM, 0, .parse = plan_refuse },
        { "memoryPolicy", PLAN_CUSTOM, 0, .parse = plan_refuse },
        { "netDevices", PLAN_CUSTOM, 0, .parse = plan_refuse },
    };
    struct runtime_plan *plan = out;
    return plan_parse_object(value, path, fields, G_N_ELEMENTS(fields), out, error) && check_cgroups_path(plan, error) &&
           check_paths(plan->masked, "linux.maskedPaths", error) && check_paths(plan->readonly, "linux.readonlyPaths", error);
}

void plan_namespace_clear(void *ns)
{
    g_free(((struct plan_namespace *)ns)->path);
}

void plan_device_clear(void *device)
{
    g_free(((struct plan_device *)device)->path);
}

void plan_sysctl_clear(void *sysctl)
{
    g_free(((struct plan_sysctl *)sysctl)->path);
    g_free(((struct plan_sysctl *)sysctl)->value);
}
