/* linux.resources: limits as numbers with a bit for "given". The cgroup backends turn them into files. */
#include "runtime/runtime-internal.h"

#include <string.h>

struct number_row {
    const char *name;
    enum plan_resource resource;
    gint64 min, max;
    bool zero_is_absent; /* Docker's specifications carry zeros for "not set" */
};

static bool parse_numbers(const json_t *value, const char *path, const struct number_row *rows, size_t n,
                          struct plan_resources *out, GError **error)
{
    if (!json_is_object(value))
        return plan_wrong(error, path, "must be an object");
    for (size_t i = 0; i < n; i++) {
        const json_t *number = json_object_get(value, rows[i].name);
        if (!number || json_is_null(number))
            continue;
        if (!json_is_integer(number) || json_integer_value(number) < rows[i].min || json_integer_value(number) > rows[i].max)
            return error_set(error, TARE_ERROR_INVALID, "%s.%s: must be an integer in range", path, rows[i].name);
        out->value[rows[i].resource] = json_integer_value(number);
        out->has[rows[i].resource] = json_integer_value(number) != 0 || !rows[i].zero_is_absent;
    }
    return true;
}

static bool parse_memory(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct number_row rows[] = {
        { "limit", RES_MEMORY_LIMIT, -1, G_MAXINT64, true },
        { "reservation", RES_MEMORY_RESERVATION, -1, G_MAXINT64, true },
        { "swap", RES_MEMORY_SWAP, -1, G_MAXINT64, true },
        { "swappiness", RES_MEMORY_SWAPPINESS, -1, 200, false },
        { "kernelTCP", RES_MEMORY_KERNEL_TCP, -1, G_MAXINT64, false },
    };
    struct plan_resources *resources = out;
    if (!parse_numbers(value, path, rows, G_N_ELEMENTS(rows), resources, error))
        return false;
    /* Docker's -1: the default. */
    if (resources->value[RES_MEMORY_SWAPPINESS] < 0)
        resources->has[RES_MEMORY_SWAPPINESS] = false;
    resources->has[RES_OOM_DISABLE] = json_get_bool(value, "disableOOMKiller", false);
    return true;
}

static bool parse_cpu(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct number_row rows[] = {
        { "shares", RES_CPU_SHARES, 0, G_MAXINT64, true },
        { "quota", RES_CPU_QUOTA, -1, G_MAXINT64, true },
        { "period", RES_CPU_PERIOD, 0, G_MAXINT64, true },
        { "burst", RES_CPU_BURST, 0, G_MAXINT64, true },
        { "realtimeRuntime", RES_CPU_RT_RUNTIME, -1, G_MAXINT64, true },
        { "realtimePeriod", RES_CPU_RT_PERIOD, 0, G_MAXINT64, true },
        { "idle", RES_CPU_IDLE, 0, 1, true },
    };
    static const struct plan_field lists[] = {
        { "cpus", PLAN_STRING, offsetof(struct plan_resources, cpus) },
        { "mems", PLAN_STRING, offsetof(struct plan_resources, mems) },
    };
    return parse_numbers(value, path, rows, G_N_ELEMENTS(rows), out, error) &&
           plan_parse_object(value, path, lists, G_N_ELEMENTS(lists), out, error);
}

static bool parse_pids(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct number_row rows[] = { { "limit", RES_PIDS_LIMIT, -1, G_MAXINT64, true } };
    return parse_numbers(value, path, rows, G_N_ELEMENTS(rows), out, error);
}

static bool parse_block_devices(const json_t *list, const char *path, const char *kind, const char *member, GArray *out,
                                GError **error)
{
    size_t i;
    json_t *each;
    if (!json_is_array(list) || json_array_size(list) > 1024)
        return plan_wrong(error, path, "must be an array");
    json_array_foreach(list, i, each)
    {
        gint64 major = json_get_int(each, "major", -1), minor = json_get_int(each, "minor", -1),
               number = json_get_int(each, member, 0);
        if (major < 0 || minor < 0 || major > G_MAXUINT16 || minor > G_MAXINT32 || number < 0)
            return error_set(error, TARE_ERROR_INVALID, "%s[%zu]: wrong device or value", path, i);
        struct plan_blkio_device device = { kind, (guint64)major, (guint64)minor, (guint64)number };
        g_array_append_val(out, device);
    }
    return true;
}

static bool parse_block_io(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct number_row rows[] = {
        { "weight", RES_BLKIO_WEIGHT, 0, 1000, true },
        { "leafWeight", RES_BLKIO_LEAF_WEIGHT, 0, 1000, true },
    };
    static const struct {
        const char *kind, *member;
    } lists[] = { { "weightDevice", "weight" },
                  { "throttleReadBpsDevice", "rate" },
                  { "throttleWriteBpsDevice", "rate" },
                  { "throttleReadIOPSDevice", "rate" },
                  { "throttleWriteIOPSDevice", "rate" } };
    struct plan_resources *resources = out;
    if (!parse_numbers(value, path, rows, G_N_ELEMENTS(rows), resources, error))
        return false;
    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        const json_t *list = json_object_get(value, lists[i].kind);
        g_autofree char *where = g_strconcat(path, ".", lists[i].kind, NULL);
        if (list && !json_is_null(list) &&
            !parse_block_devices(list, where, lists[i].kind, lists[i].member, resources->blkio, error))
            return false;
    }
    return true;
}

static bool parse_device_rule(const json_t *value, const char *path, void *out, GError **error)
{
    struct plan_device_rule *rule = out;
    if (!json_is_object(value) || !json_is_boolean(json_object_get(value, "allow")))
        return error_set(error, TARE_ERROR_INVALID, "%s.allow: is required", path);
    const char *type = json_get_string(value, "type", "a"), *access = json_get_string(value, "access", "rwm");
    rule->allow = json_get_bool(value, "allow", false);
    rule->major = json_get_int(value, "major", -1);
    rule->minor = json_get_int(value, "minor", -1);
    if (!*type)
        type = "a";
    if (!strchr("abc", type[0]) || type[1])
        return error_set(error, TARE_ERROR_INVALID, "%s.type: unknown device type \"%s\"", path, type);
    rule->type = type[0];
    if (rule->major < -1 || rule->major > G_MAXUINT32 || rule->minor < -1 || rule->minor > G_MAXUINT32)
        return plan_wrong(error, path, "device number is out of range");
    for (const char *c = access; *c; c++) {
        const char *at = strchr("rwm", *c);
        if (!at)
            return error_set(error, TARE_ERROR_INVALID, "%s.access: unknown access \"%s\"", path, access);
        rule->access |= 1u << (at - "rwm");
    }
    return true;
}

static bool parse_device_rules(const json_t *value, const char *path, void *out, GError **error)
{
    return plan_parse_array(value, path, PLAN_MOUNTS_MAX, parse_device_rule, *(GArray **)out, error);
}

static bool parse_hugepage(const json_t *value, const char *path, void *out, GError **error)
{
    struct plan_hugepage *page = out;
    const char *size = json_get_string(value, "pageSize", "");
    gint64 limit = json_get_int(value, "limit", -1);
    size_t digits = strspn(size, "0123456789");
    if (digits == 0 || digits > 10 || (strcmp(size + digits, "KB") && strcmp(size + digits, "MB") && strcmp(size + digits, "GB")))
        return error_set(error, TARE_ERROR_INVALID, "%s.pageSize: unknown size \"%s\"", path, size);
    if (limit < 0)
        return error_set(error, TARE_ERROR_INVALID, "%s.limit: must be a number of bytes", path);
    page->size = g_strdup(size);
    page->limit = (guint64)limit;
    return true;
}

static bool parse_hugepages(const json_t *value, const char *path, void *out, GError **error)
{
    return plan_parse_array(value, path, 16, parse_hugepage, *(GArray **)out, error);
}

static bool parse_unified(const json_t *value, const char *path, void *out, GError **error)
{
    const char *name;
    json_t *text;
    g_autoptr(GPtrArray) pairs = g_ptr_array_new_with_free_func(g_free);
    if (!json_is_object(value) || json_object_size(value) > 256)
        return plan_wrong(error, path, "must be an object");
    json_object_foreach((json_t *)value, name, text)
    {
        /* A file of the container's own directory, and nothing that moves processes. */
        if (!json_is_string(text) || strchr(name, '/') || !strchr(name, '.') || name[0] == '.' ||
            g_str_has_prefix(name, "cgroup."))
            return error_set(error, TARE_ERROR_INVALID, "%s: \"%s\" is not a resource file", path, name);
        g_ptr_array_add(pairs, g_strdup(name));
        g_ptr_array_add(pairs, g_strdup(json_string_value(text)));
    }
    g_ptr_array_add(pairs, NULL);
    *(char ***)out = (char **)g_ptr_array_steal(pairs, NULL);
    return true;
}

bool plan_parse_resources(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct plan_field fields[] = {
        { "memory", PLAN_CUSTOM, 0, .parse = parse_memory },
        { "cpu", PLAN_CUSTOM, 0, .parse = parse_cpu },
        { "pids", PLAN_CUSTOM, 0, .parse = parse_pids },
        { "blockIO", PLAN_CUSTOM, 0, .parse = parse_block_io },
        { "devices", PLAN_CUSTOM, offsetof(struct plan_resources, devices), .parse = parse_device_rules },
        { "hugepageLimits", PLAN_CUSTOM, offsetof(struct plan_resources, hugepages), .parse = parse_hugepages },
        { "unified", PLAN_CUSTOM, offsetof(struct plan_resources, unified), .parse = parse_unified },
        { "network", PLAN_CUSTOM, 0, .parse = plan_refuse },
        { "rdma", PLAN_CUSTOM, 0, .parse = plan_refuse },
    };
    return plan_parse_object(value, path, fields, G_N_ELEMENTS(fields), out, error);
}

static void hugepage_clear(void *page)
{
    g_free(((struct plan_hugepage *)page)->size);
}

void plan_resources_init(struct plan_resources *resources)
{
    *resources = (struct plan_resources){ 0 };
    resources->devices = g_array_new(FALSE, TRUE, sizeof(struct plan_device_rule));
    resources->blkio = g_array_new(FALSE, TRUE, sizeof(struct plan_blkio_device));
    resources->hugepages = g_array_new(FALSE, TRUE, sizeof(struct plan_hugepage));
    g_array_set_clear_func(resources->hugepages, hugepage_clear);
}

void plan_resources_clear(struct plan_resources *resources)
{
    g_free(resources->cpus);
    g_free(resources->mems);
    g_clear_pointer(&resources->devices, g_array_unref);
    g_clear_pointer(&resources->blkio, g_array_unref);
    g_clear_pointer(&resources->hugepages, g_array_unref);
    g_strfreev(resources->unified);
    *resources = (struct plan_resources){ 0 };
}
