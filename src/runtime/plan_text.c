/* A plan as text, a decision a line: for golden tests and for people. */
#include "runtime/runtime-internal.h"

#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static void put_words(GString *out, const char *what, char **words)
{
    if (!words)
        return;
    g_string_append(out, what);
    for (char **word = words; *word; word++)
        g_string_append_printf(out, " %s", *word);
    g_string_append_c(out, '\n');
}

static void put_process(GString *out, const struct plan_process *process)
{
    put_words(out, "args", process->args);
    put_words(out, "env", process->env);
    put_words(out, "additional-groups", process->additional_groups);
    g_string_append_printf(out, "cwd %s\n", process->cwd);
    if (process->username)
        g_string_append_printf(out, "user %s\n", process->username);
    else
        g_string_append_printf(out, "user %u:%u\n", process->uid, process->gid);
    for (guint i = 0; i < process->groups->len; i++)
        g_string_append_printf(out, "group %u\n", g_array_index(process->groups, gid_t, i));
    if (process->terminal)
        g_string_append_printf(out, "terminal %ux%u\n", process->columns, process->rows);
    if (process->has_capabilities)
        g_string_append_printf(
            out,
            "capabilities bounding=%" G_GINT64_MODIFIER "x effective=%" G_GINT64_MODIFIER "x inheritable=%" G_GINT64_MODIFIER
            "x permitted=%" G_GINT64_MODIFIER "x ambient=%" G_GINT64_MODIFIER "x\n",
            process->capabilities[CAPS_BOUNDING], process->capabilities[CAPS_EFFECTIVE], process->capabilities[CAPS_INHERITABLE],
            process->capabilities[CAPS_PERMITTED], process->capabilities[CAPS_AMBIENT]);
    for (guint i = 0; i < process->rlimits->len; i++) {
        const struct plan_rlimit *rlimit = &g_array_index(process->rlimits, struct plan_rlimit, i);
        g_string_append_printf(out, "rlimit %d %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT "\n", rlimit->resource,
                               (guint64)rlimit->limit.rlim_cur, (guint64)rlimit->limit.rlim_max);
    }
    if (process->no_new_privileges)
        g_string_append(out, "no-new-privileges\n");
    if (process->has_oom_score_adj)
        g_string_append_printf(out, "oom-score-adj %d\n", process->oom_score_adj);
}

static void put_mount(GString *out, const struct plan_mount *mount)
{
    g_string_append_printf(out, "mount %s %s %s", mount->bind ? mount->recursive ? "rbind" : "bind" : mount->type,
                           mount->source ? mount->source : "-", mount->destination);
    if (mount->set || mount->clear)
        g_string_append_printf(out, " +%" G_GINT64_MODIFIER "x -%" G_GINT64_MODIFIER "x", mount->set, mount->clear);
    if (mount->recursive_set || mount->recursive_clear)
        g_string_append_printf(out, " r+%" G_GINT64_MODIFIER "x r-%" G_GINT64_MODIFIER "x", mount->recursive_set,
                               mount->recursive_clear);
    if (mount->propagation)
        g_string_append_printf(out, " propagation=%" G_GINT64_MODIFIER "x%s", mount->propagation,
                               mount->propagation_recursive ? "r" : "");
    for (guint i = 0; i < mount->options->len; i++) {
        const struct plan_option *option = &g_array_index(mount->options, struct plan_option, i);
        g_string_append_printf(out, " %s%s%s", option->key, option->value ? "=" : "", option->value ? option->value : "");
    }
    g_string_append_c(out, '\n');
}

static void put_resources(GString *out, const struct plan_resources *resources)
{
    GArray *backends[] = { cgroup_v1_settings(resources), cgroup_v2_settings(resources) };
    for (size_t b = 0; b < G_N_ELEMENTS(backends); b++) {
        for (guint i = 0; i < backends[b]->len; i++) {
            struct cgroup_setting *setting = &g_array_index(backends[b], struct cgroup_setting, i);
            g_string_append_printf(out, "cgroup-v%zu %s %s\n", b + 1, setting->file, setting->value);
        }
        cgroup_settings_free(backends[b]);
    }
    for (guint i = 0; i < resources->devices->len; i++) {
        const struct plan_device_rule *rule = &g_array_index(resources->devices, struct plan_device_rule, i);
        g_string_append_printf(out, "device-rule %s %c %" G_GINT64_FORMAT ":%" G_GINT64_FORMAT " %u\n",
                               rule->allow ? "allow" : "deny", rule->type, rule->major, rule->minor, rule->access);
    }
}

static void put_mappings(GString *out, const char *what, const GArray *mappings)
{
    for (guint i = 0; i < mappings->len; i++) {
        const struct plan_mapping *mapping = &g_array_index(mappings, struct plan_mapping, i);
        g_string_append_printf(out, "%s %u %u %u\n", what, mapping->container, mapping->host, mapping->size);
    }
}

char *runtime_plan_text(const struct runtime_plan *plan)
{
    GString *out = g_string_new(NULL);
    if (plan->root_path)
        g_string_append_printf(out, "root %s%s\n", plan->root_path, plan->root_readonly ? " ro" : "");
    if (plan->hostname)
        g_string_append_printf(out, "hostname %s\n", plan->hostname);
    for (guint i = 0; i < plan->namespaces->len; i++) {
        const struct plan_namespace *ns = &g_array_index(plan->namespaces, struct plan_namespace, i);
        g_string_append_printf(out, "namespace %x %s\n", (unsigned)ns->flag, ns->path ? ns->path : "new");
    }
    put_mappings(out, "uid-mapping", plan->uid_mappings);
    put_mappings(out, "gid-mapping", plan->gid_mappings);
    for (guint i = 0; i < plan->mounts->len; i++)
        put_mount(out, &g_array_index(plan->mounts, struct plan_mount, i));
    for (guint i = 0; i < plan->devices->len; i++) {
        const struct plan_device *device = &g_array_index(plan->devices, struct plan_device, i);
        g_string_append_printf(out, "device %s %o %u:%u %u:%u\n", device->path, device->mode, major(device->number),
                               minor(device->number), device->uid, device->gid);
    }
    for (guint i = 0; i < plan->sysctls->len; i++) {
        const struct plan_sysctl *sysctl = &g_array_index(plan->sysctls, struct plan_sysctl, i);
        g_string_append_printf(out, "sysctl %s = %s\n", sysctl->path, sysctl->value);
    }
    put_words(out, "masked", plan->masked);
    put_words(out, "readonly", plan->readonly);
    if (plan->cgroups_path)
        g_string_append_printf(out, "cgroup %s\n", plan->cgroups_path);
    put_resources(out, &plan->resources);
    if (plan->has_process)
        put_process(out, &plan->process);
    return g_string_free(out, FALSE);
}
