/* Capabilities and seccomp of a container. Pure. */
#include "container/container-internal.h"

#include "runtime/runtime.h"

#include <string.h>
#include <sys/capability.h>

static const char *const default_capabilities[] = {
    "CAP_CHOWN",  "CAP_DAC_OVERRIDE", "CAP_FSETID",  "CAP_FOWNER",           "CAP_MKNOD",      "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP",      "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",    "CAP_AUDIT_WRITE",
};

static bool listed(const json_t *list, const char *name)
{
    size_t i;
    json_t *value;
    json_array_foreach((json_t *)list, i, value)
    {
        const char *text = json_string_value(value);
        const char *bare = g_ascii_strncasecmp(text, "CAP_", 4) ? text : text + 4;
        if (!g_ascii_strcasecmp(bare, !strncmp(name, "CAP_", 4) ? name + 4 : name))
            return true;
    }
    return false;
}

static bool is_default(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(default_capabilities); i++)
        if (!strcmp(default_capabilities[i], name))
            return true;
    return false;
}

/* ALL in CapAdd: all but those in CapDrop; ALL in CapDrop: only those in CapAdd; else the defaults, plus, minus. In the kernel's
 * order. */
bool spec_capabilities(const json_t *host_config, char ***ret, GError **error)
{
    const json_t *add = json_get_array(host_config, "CapAdd"), *drop = json_get_array(host_config, "CapDrop");
    bool privileged = json_get_bool(host_config, "Privileged", false), add_all = listed(add, "ALL"),
         drop_all = listed(drop, "ALL");
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    for (cap_value_t number = 0; number < cap_max_bits(); number++) {
        char *lower = cap_to_name(number);
        g_autofree char *name = lower ? g_ascii_strup(lower, -1) : NULL;
        cap_free(lower);
        if (!name || !g_str_has_prefix(name, "CAP_"))
            continue;
        bool wanted;
        if (privileged)
            wanted = true;
        else if (add_all)
            wanted = !listed(drop, name);
        else if (drop_all)
            wanted = listed(add, name);
        else
            wanted = (is_default(name) && !listed(drop, name)) || listed(add, name);
        if (wanted)
            g_strv_builder_add(builder, name);
    }
    *ret = g_strv_builder_end(builder);
    return true;
}

/* The value of seccomp= (or the old seccomp:), NULL where not given. */
static const char *seccomp_option(const json_t *host_config)
{
    size_t i;
    json_t *value;
    const char *found = NULL;
    json_array_foreach(json_get_array(host_config, "SecurityOpt"), i, value)
    {
        const char *text = json_string_value(value);
        if (g_str_has_prefix(text, "seccomp=") || g_str_has_prefix(text, "seccomp:"))
            found = text + 8;
    }
    return found;
}

bool spec_seccomp(const json_t *host_config, json_t **ret, GError **error)
{
    const char *option = seccomp_option(host_config);
    *ret = NULL;
    if (json_get_bool(host_config, "Privileged", false) || (option && !strcmp(option, "unconfined")))
        return true;
    if (option && strcmp(option, "builtin")) {
        g_autoptr(GError) inner = NULL;
        *ret = json_parse(option, strlen(option), 4u << 20, "profile", &inner);
        if (!*ret)
            return error_set(error, TARE_ERROR_INVALID, "Decoding seccomp profile failed: %s", inner->message);
        return true;
    }
    g_auto(GStrv) capabilities = NULL;
    if (!spec_capabilities(host_config, &capabilities, error))
        return false;
    *ret = runtime_seccomp_default((const char *const *)capabilities);
    return true;
}
