/* The specification's process: what runs, as whom, with which rights. Also an exec's. */
#include "runtime/runtime-internal.h"

#include <string.h>

static bool parse_capability_set(const json_t *value, const char *path, void *out, GError **error)
{
    if (!json_is_array(value) || json_array_size(value) > PLAN_ITEMS_MAX)
        return plan_wrong(error, path, "must be an array");
    guint64 set = 0;
    size_t i;
    json_t *name;
    json_array_foreach(value, i, name)
    {
        int number = json_is_string(name) ? capability_number(json_string_value(name)) : -1;
        if (number < 0)
            return error_set(error, TARE_ERROR_INVALID, "%s[%zu]: unknown capability \"%s\"", path, i,
                             json_is_string(name) ? json_string_value(name) : "");
        set |= (guint64)1 << number;
    }
    *(guint64 *)out = set;
    return true;
}

static bool parse_capabilities(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct plan_field fields[] = {
        { "bounding", PLAN_CUSTOM, CAPS_BOUNDING * sizeof(guint64), .parse = parse_capability_set },
        { "effective", PLAN_CUSTOM, CAPS_EFFECTIVE * sizeof(guint64), .parse = parse_capability_set },
        { "inheritable", PLAN_CUSTOM, CAPS_INHERITABLE * sizeof(guint64), .parse = parse_capability_set },
        { "permitted", PLAN_CUSTOM, CAPS_PERMITTED * sizeof(guint64), .parse = parse_capability_set },
        { "ambient", PLAN_CUSTOM, CAPS_AMBIENT * sizeof(guint64), .parse = parse_capability_set },
    };
    return plan_parse_object(value, path, fields, G_N_ELEMENTS(fields), out, error);
}

static const struct {
    const char *name;
    int resource;
} rlimit_names[] = {
    { "RLIMIT_AS", RLIMIT_AS },           { "RLIMIT_CORE", RLIMIT_CORE },         { "RLIMIT_CPU", RLIMIT_CPU },
    { "RLIMIT_DATA", RLIMIT_DATA },       { "RLIMIT_FSIZE", RLIMIT_FSIZE },       { "RLIMIT_LOCKS", RLIMIT_LOCKS },
    { "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK }, { "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE }, { "RLIMIT_NICE", RLIMIT_NICE },
    { "RLIMIT_NOFILE", RLIMIT_NOFILE },   { "RLIMIT_NPROC", RLIMIT_NPROC },       { "RLIMIT_RSS", RLIMIT_RSS },
    { "RLIMIT_RTPRIO", RLIMIT_RTPRIO },   { "RLIMIT_RTTIME", RLIMIT_RTTIME },     { "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
    { "RLIMIT_STACK", RLIMIT_STACK },
};

/* A limit is an unsigned 64-bit number, which JSON readers give back as -1 or as a real when it is "unlimited". */
static bool parse_limit(const json_t *value, const char *path, void *out, GError **error)
{
    rlim_t *limit = out;
    if (json_is_integer(value) && json_integer_value(value) >= -1)
        return *limit = (rlim_t)json_integer_value(value), true;
    if (json_is_real(value) && json_real_value(value) >= 9.2e18 && json_real_value(value) < 1.9e19)
        return *limit = RLIM_INFINITY, true;
    return plan_wrong(error, path, "must be an unsigned number");
}

static bool parse_rlimit(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct plan_field fields[] = {
        { "soft", PLAN_CUSTOM, offsetof(struct plan_rlimit, limit.rlim_cur), .parse = parse_limit, .required = true },
        { "hard", PLAN_CUSTOM, offsetof(struct plan_rlimit, limit.rlim_max), .parse = parse_limit, .required = true },
    };
    struct plan_rlimit *rlimit = out;
    const char *type = json_get_string(value, "type", "");
    rlimit->resource = -1;
    for (size_t i = 0; i < G_N_ELEMENTS(rlimit_names); i++)
        if (strcmp(rlimit_names[i].name, type) == 0)
            rlimit->resource = rlimit_names[i].resource;
    if (rlimit->resource < 0)
        return error_set(error, TARE_ERROR_INVALID, "%s.type: wrong rlimit value: %s", path, type);
    if (!plan_parse_object(value, path, fields, G_N_ELEMENTS(fields), out, error))
        return false;
    if (rlimit->limit.rlim_cur > rlimit->limit.rlim_max)
        return plan_wrong(error, path, "soft limit is above the hard limit");
    return true;
}

static bool parse_rlimits(const json_t *value, const char *path, void *out, GError **error)
{
    GArray *rlimits = *(GArray **)out;
    if (!plan_parse_array(value, path, 64, parse_rlimit, rlimits, error))
        return false;
    for (guint i = 0; i < rlimits->len; i++)
        for (guint k = 0; k < i; k++)
            if (g_array_index(rlimits, struct plan_rlimit, i).resource == g_array_index(rlimits, struct plan_rlimit, k).resource)
                return error_set(error, TARE_ERROR_INVALID, "%s[%u].type: given twice", path, i);
    return true;
}

static bool parse_gid(const json_t *value, const char *path, void *out, GError **error)
{
    gint64 number = json_is_integer(value) ? json_integer_value(value) : -1;
    if (number < 0 || number >= G_MAXUINT32)
        return plan_wrong(error, path, "must be a group id");
    *(gid_t *)out = (gid_t)number;
    return true;
}

static bool parse_gids(const json_t *value, const char *path, void *out, GError **error)
{
    return plan_parse_array(value, path, PLAN_ITEMS_MAX, parse_gid, *(GArray **)out, error);
}

#define ID_MAX (G_MAXUINT32 - 1) /* (uid_t)-1 means "leave it" to the kernel */

static bool parse_user(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct plan_field fields[] = {
        { "uid", PLAN_UINT32, offsetof(struct plan_process, uid), 0, ID_MAX },
        { "gid", PLAN_UINT32, offsetof(struct plan_process, gid), 0, ID_MAX },
        { "umask", PLAN_UINT32, offsetof(struct plan_process, umask), 0, 0777,
          .has_offset = offsetof(struct plan_process, has_umask) },
        { "additionalGids", PLAN_CUSTOM, offsetof(struct plan_process, groups), .parse = parse_gids },
        { "username", PLAN_STRING, offsetof(struct plan_process, username) },
    };
    return plan_parse_object(value, path, fields, G_N_ELEMENTS(fields), out, error);
}

static bool parse_console_size(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct plan_field fields[] = {
        { "height", PLAN_UINT32, offsetof(struct plan_process, rows), 0, G_MAXUINT16 },
        { "width", PLAN_UINT32, offsetof(struct plan_process, columns), 0, G_MAXUINT16 },
    };
    return plan_parse_object(value, path, fields, G_N_ELEMENTS(fields), out, error);
}

static bool check_process(struct plan_process *process, const char *path, GError **error)
{
    if (!process->args || !process->args[0]) {
        g_autofree char *where = g_strconcat(path, ".args", NULL);
        return plan_wrong(error, where, "must not be empty");
    }
    if (process->cwd[0] != '/') {
        g_autofree char *where = g_strconcat(path, ".cwd", NULL);
        return plan_wrong(error, where, "must be an absolute path");
    }
    for (char **entry = process->env; entry && *entry; entry++)
        if ((*entry)[0] == '=' || !strchr(*entry, '=')) {
            g_autofree char *where = g_strdup_printf("%s.env[%zd]", path, entry - process->env);
            return plan_wrong(error, where, "must be NAME=VALUE");
        }
    return true;
}

bool plan_parse_process(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct plan_field fields[] = {
        { "terminal", PLAN_BOOL, offsetof(struct plan_process, terminal) },
        { "consoleSize", PLAN_CUSTOM, 0, .parse = parse_console_size },
        { "user", PLAN_CUSTOM, 0, .parse = parse_user },
        { "args", PLAN_STRINGS, offsetof(struct plan_process, args), .required = true },
        { "env", PLAN_STRINGS, offsetof(struct plan_process, env) },
        { "cwd", PLAN_STRING, offsetof(struct plan_process, cwd), .required = true },
        { "capabilities", PLAN_CUSTOM, offsetof(struct plan_process, capabilities), .parse = parse_capabilities,
          .has_offset = offsetof(struct plan_process, has_capabilities) },
        { "rlimits", PLAN_CUSTOM, offsetof(struct plan_process, rlimits), .parse = parse_rlimits },
        { "noNewPrivileges", PLAN_BOOL, offsetof(struct plan_process, no_new_privileges) },
        { "oomScoreAdj", PLAN_INT, offsetof(struct plan_process, oom_score_adj), -1000, 1000,
          .has_offset = offsetof(struct plan_process, has_oom_score_adj) },
        { "apparmorProfile", PLAN_STRING, offsetof(struct plan_process, apparmor_profile) },
        { "selinuxLabel", PLAN_STRING, offsetof(struct plan_process, selinux_label) },
        { "scheduler", PLAN_CUSTOM, 0, .parse = plan_refuse },
        { "ioPriority", PLAN_CUSTOM, 0, .parse = plan_refuse },
        { "execCPUAffinity", PLAN_CUSTOM, 0, .parse = plan_refuse },
    };
    return plan_parse_object(value, path, fields, G_N_ELEMENTS(fields), out, error) && check_process(out, path, error);
}

void plan_process_init(struct plan_process *process)
{
    *process = (struct plan_process){ 0 };
    process->groups = g_array_new(FALSE, TRUE, sizeof(gid_t));
    process->rlimits = g_array_new(FALSE, TRUE, sizeof(struct plan_rlimit));
}

void plan_process_clear(struct plan_process *process)
{
    g_strfreev(process->args);
    g_strfreev(process->env);
    g_strfreev(process->additional_groups);
    g_free(process->cwd);
    g_free(process->username);
    g_free(process->apparmor_profile);
    g_free(process->selinux_label);
    g_clear_pointer(&process->groups, g_array_unref);
    g_clear_pointer(&process->rlimits, g_array_unref);
    *process = (struct plan_process){ 0 };
}
