/* A container's record becomes an OCI runtime specification. Pure: what must be looked up on the host comes in with the input. */
#include "container/container-internal.h"

#include "base/parse.h"

#include <string.h>

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* ---- process ---- */

/* As Docker: PATH, HOSTNAME and TERM first; a given variable replaces in place, one without "=" removes. */
static json_t *environment(const json_t *given, const json_t *more, const char *hostname, bool terminal)
{
    g_autoptr(GPtrArray) variables = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(variables, g_strdup(DEFAULT_PATH));
    g_ptr_array_add(variables, g_strconcat("HOSTNAME=", hostname, NULL));
    if (terminal)
        g_ptr_array_add(variables, g_strdup("TERM=xterm"));
    const json_t *lists[] = { given, more };
    for (size_t l = 0; l < G_N_ELEMENTS(lists); l++) {
        size_t i;
        json_t *value;
        json_array_foreach((json_t *)lists[l], i, value)
        {
            const char *text = json_string_value(value);
            size_t name = text ? strcspn(text, "=") : 0;
            guint at = 0;
            if (!text)
                continue;
            while (at < variables->len &&
                   (strncmp(variables->pdata[at], text, name) || ((const char *)variables->pdata[at])[name] != '='))
                at++;
            if (!text[name]) {
                if (at < variables->len)
                    g_ptr_array_remove_index(variables, at);
            } else if (at < variables->len) {
                g_free(variables->pdata[at]);
                variables->pdata[at] = g_strdup(text);
            } else {
                g_ptr_array_add(variables, g_strdup(text));
            }
        }
    }
    json_t *array = json_array();
    for (guint i = 0; i < variables->len; i++)
        json_array_append_new(array, json_string(variables->pdata[i]));
    return array;
}

static json_t *command(const json_t *config)
{
    json_t *arguments = json_array();
    const char *const keys[] = { "Entrypoint", "Cmd" };
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        json_t *part = json_get_array(config, keys[i]);
        if (part)
            json_array_extend(arguments, part);
    }
    return arguments;
}

static json_t *capability_sets(const char *const *names)
{
    g_autoptr(json_t) list = json_from_strv(names);
    return json_pack("{s:O, s:O, s:O}", "bounding", list, "permitted", list, "effective", list);
}

static bool no_new_privileges(const json_t *host_config)
{
    size_t i;
    json_t *value;
    bool on = false;
    json_array_foreach(json_get_array(host_config, "SecurityOpt"), i, value)
    {
        const char *text = json_string_value(value);
        if (!strcmp(text, "no-new-privileges"))
            on = true;
        else if (g_str_has_prefix(text, "no-new-privileges=") || g_str_has_prefix(text, "no-new-privileges:"))
            parse_bool(text + strlen("no-new-privileges="), &on);
    }
    return on;
}

static json_t *user_object(const char *user)
{
    return json_pack("{s:i, s:i, s:s}", "uid", 0, "gid", 0, "username", user);
}

char *spec_hostname(const char *id, const json_t *config)
{
    const char *given = json_get_string(config, "Hostname", "");
    return *given ? g_strdup(given) : g_strndup(id, IDENTIFIER_SHORT);
}

static bool add_process(const struct spec_input *input, const char *hostname, json_t *spec, GError **error)
{
    const char *directory = json_get_string(input->config, "WorkingDir", "");
    bool terminal = json_get_bool(input->config, "Tty", false);
    g_auto(GStrv) capabilities = NULL;
    if (!spec_capabilities(input->host_config, &capabilities, error))
        return false;
    json_t *process = json_pack("{s:b, s:o, s:o, s:o, s:s, s:o, s:b, s:o}", "terminal", terminal, "user",
                                user_object(json_get_string(input->config, "User", "")), "args", command(input->config), "env",
                                environment(json_get_array(input->config, "Env"), NULL, hostname, terminal), "cwd",
                                *directory ? directory : "/", "capabilities", capability_sets((const char *const *)capabilities),
                                "noNewPrivileges", no_new_privileges(input->host_config), "rlimits",
                                spec_rlimits(input->host_config, input->default_ulimits));
    gint64 oom = json_get_int(input->host_config, "OomScoreAdj", 0);
    if (oom)
        json_object_set_new(process, "oomScoreAdj", json_integer(oom));
    if (input->apparmor_profile)
        json_object_set_new(process, "apparmorProfile", json_string(input->apparmor_profile));
    if (input->process_label)
        json_object_set_new(process, "selinuxLabel", json_string(input->process_label));
    const json_t *size = json_get_array(input->host_config, "ConsoleSize");
    if (terminal && json_integer_value(json_array_get(size, 0)) > 0)
        json_object_set_new(process, "consoleSize",
                            json_pack("{s:O, s:O}", "height", json_array_get(size, 0), "width", json_array_get(size, 1)));
    json_object_set_new(spec, "process", process);
    return true;
}

bool spec_exec_process(const json_t *config, const json_t *host_config, const json_t *exec, const char *hostname, json_t **ret,
                       GError **error)
{
    bool terminal = json_get_bool(exec, "Tty", false), privileged = json_get_bool(exec, "Privileged", false);
    const char *directory = json_get_string(exec, "WorkingDir", ""), *user = json_get_string(exec, "User", "");
    g_autoptr(json_t) effective = json_copy((json_t *)host_config);
    g_auto(GStrv) capabilities = NULL;
    if (privileged)
        json_object_set_new(effective, "Privileged", json_true());
    if (!spec_capabilities(effective, &capabilities, error))
        return false;
    if (!*directory)
        directory = json_get_string(config, "WorkingDir", "");
    if (!*user)
        user = json_get_string(config, "User", "");
    *ret = json_pack("{s:b, s:o, s:O, s:o, s:s, s:o, s:b}", "terminal", terminal, "user", user_object(user), "args",
                     json_object_get(exec, "Cmd"), "env",
                     environment(json_get_array(config, "Env"), json_get_array(exec, "Env"), hostname, terminal), "cwd",
                     *directory ? directory : "/", "capabilities", capability_sets((const char *const *)capabilities),
                     "noNewPrivileges", no_new_privileges(host_config));
    return true;
}

/* ---- namespaces ---- */

static void add_namespace(json_t *list, const char *type, const char *path)
{
    json_t *namespace = json_pack("{s:s}", "type", type);
    if (path)
        json_object_set_new(namespace, "path", json_string(path));
    json_array_append_new(list, namespace);
}

/* path "": the host's, so none is listed. */
static json_t *namespaces(const struct spec_input *input)
{
    const char *cgroup = json_get_string(input->host_config, "CgroupnsMode", "");
    json_t *list = json_array();
    add_namespace(list, "mount", NULL);
    const struct {
        const char *type, *path;
    } own[] = {
        { "network", input->network_path }, { "uts", input->uts_path }, { "pid", input->pid_path }, { "ipc", input->ipc_path }
    };
    for (size_t i = 0; i < G_N_ELEMENTS(own); i++)
        if (!own[i].path || *own[i].path)
            add_namespace(list, own[i].type, own[i].path);
    if (!strcmp(cgroup, "private") || (!*cgroup && input->cgroup_v2))
        add_namespace(list, "cgroup", NULL);
    return list;
}

/* ---- the rest ---- */

static json_t *sysctls(const struct spec_input *input)
{
    json_t *given = json_get_object(input->host_config, "Sysctls");
    json_t *all = given ? json_copy(given) : json_object();
    /* Docker's: a container may bind low ports and ping without privilege. */
    if (!input->network_path || *input->network_path) {
        json_t *defaults =
            json_pack("{s:s, s:s}", "net.ipv4.ip_unprivileged_port_start", "0", "net.ipv4.ping_group_range", "0 2147483647");
        json_object_update_missing(all, defaults);
        json_decref(defaults);
    }
    return all;
}

char *spec_cgroup_path(const char *id, const json_t *host_config, const char *default_parent)
{
    const char *asked = json_get_string(host_config, "CgroupParent", "");
    const char *parent = *asked ? asked : default_parent;
    return g_strdup_printf("%s%s/%s", *parent == '/' ? "" : "/", parent, id);
}

static bool add_linux(const struct spec_input *input, const char *propagation, json_t *spec, GError **error)
{
    g_autofree char *cgroup = spec_cgroup_path(input->id, input->host_config, input->cgroup_parent);
    json_t *resources = spec_resources(input->host_config);
    json_t *part = json_pack("{s:o, s:o, s:s, s:o}", "namespaces", namespaces(input), "resources", resources, "cgroupsPath",
                             cgroup, "sysctl", sysctls(input));
    json_object_set_new(spec, "linux", part);
    const char *const paths[][2] = { { "MaskedPaths", "maskedPaths" }, { "ReadonlyPaths", "readonlyPaths" } };
    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++)
        if (json_array_size(json_object_get(input->host_config, paths[i][0])))
            json_object_set(part, paths[i][1], json_object_get(input->host_config, paths[i][0]));
    if (input->mount_label)
        json_object_set_new(part, "mountLabel", json_string(input->mount_label));
    if (propagation)
        json_object_set_new(part, "rootfsPropagation", json_string(propagation));
    return spec_add_devices(input, part, resources, error);
}

static void add_annotations(const struct spec_input *input, json_t *spec)
{
    json_t *given = json_get_object(input->host_config, "Annotations");
    json_t *annotations = given ? json_copy(given) : json_object();
    g_auto(GStrv) groups = json_string_array(json_get_array(input->host_config, "GroupAdd"));
    if (groups && groups[0]) {
        g_autofree char *joined = g_strjoinv(",", groups);
        json_object_set_new(annotations, "tare.additionalGroups", json_string(joined));
    }
    if (json_object_size(annotations))
        json_object_set(spec, "annotations", annotations);
    json_decref(annotations);
}

bool spec_build(const struct spec_input *input, json_t **ret, GError **error)
{
    const char *domain = json_get_string(input->config, "Domainname", ""), *propagation;
    g_autofree char *hostname = spec_hostname(input->id, input->config);
    g_autoptr(json_t) spec = json_pack("{s:s, s:{s:s, s:b}}", "ociVersion", "1.2.0", "root", "path", "rootfs", "readonly",
                                       json_get_bool(input->host_config, "ReadonlyRootfs", false));
    if (!add_process(input, hostname, spec, error))
        return false;
    if (!input->uts_path || *input->uts_path) {
        json_object_set_new(spec, "hostname", json_string(hostname));
        if (*domain)
            json_object_set_new(spec, "domainname", json_string(domain));
    }
    json_object_set_new(spec, "mounts", spec_mounts(input, &propagation));
    if (!add_linux(input, propagation, spec, error))
        return false;
    add_annotations(input, spec);
    *ret = g_steal_pointer(&spec);
    return true;
}
