/* From a specification's JSON to a plan; pure. */
#include "runtime/runtime-internal.h"

#include <sched.h>
#include <string.h>

static bool parse_version(const json_t *value, const char *path, void *out, GError **error)
{
    const char *version = json_string_value(value);
    if (!version || !g_str_has_prefix(version, "1."))
        return error_set(error, TARE_ERROR_INVALID, "%s: unsupported version \"%s\"", path, version ? version : "");
    return true;
}

static bool parse_root(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct plan_field fields[] = {
        { "path", PLAN_STRING, offsetof(struct runtime_plan, root_path) },
        { "readonly", PLAN_BOOL, offsetof(struct runtime_plan, root_readonly) },
    };
    return plan_parse_object(value, path, fields, G_N_ELEMENTS(fields), out, error);
}

static bool parse_hook(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct plan_field fields[] = {
        { "path", PLAN_STRING, offsetof(struct plan_hook, path), .required = true },
        { "args", PLAN_STRINGS, offsetof(struct plan_hook, args) },
        { "env", PLAN_STRINGS, offsetof(struct plan_hook, env) },
        { "timeout", PLAN_INT, offsetof(struct plan_hook, timeout_s), 1, G_MAXINT },
    };
    struct plan_hook *hook = out;
    if (!plan_parse_object(value, path, fields, G_N_ELEMENTS(fields), out, error))
        return false;
    if (hook->path[0] != '/')
        return error_set(error, TARE_ERROR_INVALID, "%s.path: must be an absolute path", path);
    return true;
}

static bool parse_hook_list(const json_t *value, const char *path, void *out, GError **error)
{
    return plan_parse_array(value, path, 1024, parse_hook, *(GArray **)out, error);
}

bool plan_parse_hooks(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct plan_field fields[] = {
        { "prestart", PLAN_CUSTOM, HOOK_PRESTART * sizeof(GArray *), .parse = parse_hook_list },
        { "createRuntime", PLAN_CUSTOM, HOOK_CREATE_RUNTIME * sizeof(GArray *), .parse = parse_hook_list },
        { "createContainer", PLAN_CUSTOM, HOOK_CREATE_CONTAINER * sizeof(GArray *), .parse = parse_hook_list },
        { "startContainer", PLAN_CUSTOM, HOOK_START_CONTAINER * sizeof(GArray *), .parse = parse_hook_list },
        { "poststart", PLAN_CUSTOM, HOOK_POSTSTART * sizeof(GArray *), .parse = parse_hook_list },
        { "poststop", PLAN_CUSTOM, HOOK_POSTSTOP * sizeof(GArray *), .parse = parse_hook_list },
    };
    return plan_parse_object(value, path, fields, G_N_ELEMENTS(fields), out, error);
}

static bool parse_annotations(const json_t *value, const char *path, void *out, GError **error)
{
    const char *key;
    json_t *text;
    if (!json_is_object(value))
        return plan_wrong(error, path, "must be an object");
    json_object_foreach((json_t *)value, key, text) if (!json_is_string(text)) return error_set(
        error, TARE_ERROR_INVALID, "%s.%s: must be a string", path, key);
    *(json_t **)out = json_incref((json_t *)value);
    return true;
}

const struct plan_namespace *plan_namespace(const struct runtime_plan *plan, int flag)
{
    for (guint i = 0; i < plan->namespaces->len; i++) {
        const struct plan_namespace *ns = &g_array_index(plan->namespaces, struct plan_namespace, i);
        if (ns->flag == flag)
            return ns;
    }
    return NULL;
}

/* What only the whole specification can tell. */
static bool check_plan(struct runtime_plan *plan, GError **error)
{
    const struct plan_namespace *mount = plan_namespace(plan, CLONE_NEWNS), *uts = plan_namespace(plan, CLONE_NEWUTS),
                                *user = plan_namespace(plan, CLONE_NEWUSER);
    if (!mount || mount->path)
        return error_set(error, TARE_ERROR_INVALID, "linux.namespaces: a new mount namespace is required");
    if (plan->hostname && !uts)
        return error_set(error, TARE_ERROR_INVALID, "hostname: needs a uts namespace");
    if (plan->domainname && !uts)
        return error_set(error, TARE_ERROR_INVALID, "domainname: needs a uts namespace");
    if (plan->hostname && strlen(plan->hostname) > 64)
        return error_set(error, TARE_ERROR_INVALID, "hostname: is longer than 64 bytes");
    if (plan->domainname && strlen(plan->domainname) > 64)
        return error_set(error, TARE_ERROR_INVALID, "domainname: is longer than 64 bytes");
    if (user && !user->path && (!plan->uid_mappings->len || !plan->gid_mappings->len))
        return error_set(error, TARE_ERROR_INVALID, "linux.uidMappings: a new user namespace needs mappings");
    if (!user && (plan->uid_mappings->len || plan->gid_mappings->len))
        return error_set(error, TARE_ERROR_INVALID, "linux.uidMappings: mappings need a user namespace");
    for (guint i = 0; i < plan->sysctls->len; i++) {
        const struct plan_sysctl *sysctl = &g_array_index(plan->sysctls, struct plan_sysctl, i);
        if (plan_namespace(plan, sysctl->needs))
            continue;
        g_autofree char *name = g_strdelimit(g_strdup(sysctl->path), "/", '.');
        return sysctl->needs == CLONE_NEWNET
                   ? error_set(error, TARE_ERROR_INVALID, "linux.sysctl: sysctl \"%s\" not allowed in host network namespace",
                               name)
                   : error_set(error, TARE_ERROR_INVALID, "linux.sysctl: sysctl \"%s\" is not allowed in the hosts %s namespace",
                               name, sysctl->needs == CLONE_NEWIPC ? "ipc" : "uts");
    }
    const char *groups = json_get_string(plan->annotations, "tare.additionalGroups", NULL);
    if (groups && *groups)
        plan->process.additional_groups = g_strsplit(groups, ",", 1024);
    return true;
}

static GArray *new_list(size_t size, GDestroyNotify clear)
{
    GArray *list = g_array_new(FALSE, TRUE, (guint)size);
    if (clear)
        g_array_set_clear_func(list, clear);
    return list;
}

static struct runtime_plan *plan_allocate(void)
{
    struct runtime_plan *plan = g_new0(struct runtime_plan, 1);
    plan_process_init(&plan->process);
    plan_resources_init(&plan->resources);
    plan->namespaces = new_list(sizeof(struct plan_namespace), plan_namespace_clear);
    plan->uid_mappings = new_list(sizeof(struct plan_mapping), NULL);
    plan->gid_mappings = new_list(sizeof(struct plan_mapping), NULL);
    plan->mounts = new_list(sizeof(struct plan_mount), plan_mount_clear);
    plan->devices = new_list(sizeof(struct plan_device), plan_device_clear);
    plan->sysctls = new_list(sizeof(struct plan_sysctl), plan_sysctl_clear);
    for (int i = 0; i < HOOK_N; i++)
        plan->hooks[i] = new_list(sizeof(struct plan_hook), plan_hook_clear);
    return plan;
}

bool runtime_plan_new(const json_t *spec, struct runtime_plan **ret, GError **error)
{
    static const struct plan_field fields[] = {
        { "ociVersion", PLAN_CUSTOM, 0, .parse = parse_version, .required = true },
        { "root", PLAN_CUSTOM, 0, .parse = parse_root },
        { "hostname", PLAN_STRING, offsetof(struct runtime_plan, hostname) },
        { "domainname", PLAN_STRING, offsetof(struct runtime_plan, domainname) },
        { "process", PLAN_CUSTOM, offsetof(struct runtime_plan, process), .parse = plan_parse_process,
          .has_offset = offsetof(struct runtime_plan, has_process) },
        { "mounts", PLAN_CUSTOM, offsetof(struct runtime_plan, mounts), .parse = plan_parse_mounts },
        { "hooks", PLAN_CUSTOM, offsetof(struct runtime_plan, hooks), .parse = plan_parse_hooks },
        { "annotations", PLAN_CUSTOM, offsetof(struct runtime_plan, annotations), .parse = parse_annotations },
        { "linux", PLAN_CUSTOM, 0, .parse = plan_parse_linux, .required = true },
    };
    struct runtime_plan *plan = plan_allocate();
    if (!plan_parse_object(spec, "", fields, G_N_ELEMENTS(fields), plan, error) || !check_plan(plan, error)) {
        runtime_plan_free(plan);
        return false;
    }
    *ret = plan;
    return true;
}

void plan_hook_clear(void *data)
{
    struct plan_hook *hook = data;
    g_free(hook->path);
    g_strfreev(hook->args);
    g_strfreev(hook->env);
}

void runtime_plan_free(struct runtime_plan *plan)
{
    if (!plan)
        return;
    g_free(plan->root_path);
    g_free(plan->hostname);
    g_free(plan->domainname);
    g_free(plan->cgroups_path);
    g_free(plan->mount_label);
    plan_process_clear(&plan->process);
    plan_resources_clear(&plan->resources);
    GArray *lists[] = { plan->namespaces, plan->uid_mappings, plan->gid_mappings, plan->mounts, plan->devices, plan->sysctls };
    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++)
        g_array_unref(lists[i]);
    for (int i = 0; i < HOOK_N; i++)
        g_array_unref(plan->hooks[i]);
    g_strfreev(plan->masked);
    g_strfreev(plan->readonly);
    json_decref(plan->seccomp);
    json_decref(plan->annotations);
    g_free(plan);
}
