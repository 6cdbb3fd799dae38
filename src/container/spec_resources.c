/* HostConfig's limits and devices as the OCI specification's linux.resources. Reads nothing of the host but the numbers of
 * devices. */
#include "container/container-internal.h"

#include "base/parse.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* Sets the member unless the value is zero. */
static void set_unless_zero(json_t *object, const char *key, gint64 value)
{
    if (value)
        json_object_set_new(object, key, json_integer(value));
}

static void set_unless_empty(json_t *resources, const char *key, json_t *object)
{
    if (json_object_size(object))
        json_object_set(resources, key, object);
    json_decref(object);
}

static json_t *memory_resources(const json_t *host_config)
{
    json_t *memory = json_object();
    set_unless_zero(memory, "limit", json_get_int(host_config, "Memory", 0));
    set_unless_zero(memory, "reservation", json_get_int(host_config, "MemoryReservation", 0));
    set_unless_zero(memory, "swap", json_get_int(host_config, "MemorySwap", 0));
    set_unless_zero(memory, "kernelTCP", json_get_int(host_config, "KernelMemoryTCP", 0));
    gint64 swappiness = json_get_int(host_config, "MemorySwappiness", -1);
    if (swappiness >= 0)
        json_object_set_new(memory, "swappiness", json_integer(swappiness));
    if (json_get_bool(host_config, "OomKillDisable", false))
        json_object_set_new(memory, "disableOOMKiller", json_true());
    return memory;
}

static json_t *cpu_resources(const json_t *host_config)
{
    json_t *cpu = json_object();
    gint64 nano = json_get_int(host_config, "NanoCpus", 0);
    const char *cpus = json_get_string(host_config, "CpusetCpus", ""), *mems = json_get_string(host_config, "CpusetMems", "");
    set_unless_zero(cpu, "shares", json_get_int(host_config, "CpuShares", 0));
    if (nano > 0) {
        /* Docker's period of 100 ms; the quota is in microseconds. */
        json_object_set_new(cpu, "period", json_integer(100000));
        json_object_set_new(cpu, "quota", json_integer(nano / 10000));
    } else {
        set_unless_zero(cpu, "period", json_get_int(host_config, "CpuPeriod", 0));
        set_unless_zero(cpu, "quota", json_get_int(host_config, "CpuQuota", 0));
    }
    set_unless_zero(cpu, "realtimePeriod", json_get_int(host_config, "CpuRealtimePeriod", 0));
    set_unless_zero(cpu, "realtimeRuntime", json_get_int(host_config, "CpuRealtimeRuntime", 0));
    if (*cpus)
        json_object_set_new(cpu, "cpus", json_string(cpus));
    if (*mems)
        json_object_set_new(cpu, "mems", json_string(mems));
    return cpu;
}

/* [{Path, Rate or Weight}] with the device's numbers; those that do not exist were refused (devices_check_limits). */
static void add_device_limits(json_t *block, const json_t *limits, const char *from, const char *key, const char *value_key)
{
    json_t *list = json_array(), *limit;
    size_t i;
    json_array_foreach((json_t *)limits, i, limit)
    {
        struct stat st;
        if (stat(json_get_string(limit, "Path", ""), &st) == 0)
            json_array_append_new(list,
                                  json_pack("{s:I, s:I, s:I}", "major", (json_int_t)major(st.st_rdev), "minor",
                                            (json_int_t)minor(st.st_rdev), value_key, (json_int_t)json_get_int(limit, from, 0)));
    }
    if (json_array_size(list))
        json_object_set(block, key, list);
    json_decref(list);
}

static json_t *block_resources(const json_t *host_config)
{
    static const char *const rates[][2] = { { "BlkioDeviceReadBps", "throttleReadBpsDevice" },
                                            { "BlkioDeviceWriteBps", "throttleWriteBpsDevice" },
                                            { "BlkioDeviceReadIOps", "throttleReadIOPSDevice" },
                                            { "BlkioDeviceWriteIOps", "throttleWriteIOPSDevice" } };
    json_t *block = json_object();
    set_unless_zero(block, "weight", json_get_int(host_config, "BlkioWeight", 0));
    add_device_limits(block, json_get_array(host_config, "BlkioWeightDevice"), "Weight", "weightDevice", "weight");
    for (size_t i = 0; i < G_N_ELEMENTS(rates); i++)
        add_device_limits(block, json_get_array(host_config, rates[i][0]), "Rate", rates[i][1], "rate");
    return block;
}

json_t *spec_resources(const json_t *host_config)
{
    json_t *resources = json_object();
    set_unless_empty(resources, "memory", memory_resources(host_config));
    set_unless_empty(resources, "cpu", cpu_resources(host_config));
    gint64 pids = json_get_int(host_config, "PidsLimit", 0);
    if (pids)
        json_object_set_new(resources, "pids", json_pack("{s:I}", "limit", (json_int_t)(pids < 0 ? -1 : pids)));
    set_unless_empty(resources, "blockIO", block_resources(host_config));
    return resources;
}

/* ---- devices ---- */

static json_t *device_rule(bool allow, const char *type, gint64 major, gint64 minor, const char *access)
{
    json_t *rule = json_pack("{s:b, s:s, s:s}", "allow", allow, "type", type, "access", access);
    if (major >= 0)
        json_object_set_new(rule, "major", json_integer(major));
    if (minor >= 0)
        json_object_set_new(rule, "minor", json_integer(minor));
    return rule;
}

/* "c 42:* rmw": Docker's --device-cgroup-rule. */
static json_t *parse_device_rule(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, " ", 4);
    guint64 major = 0, minor = 0;
    if (g_strv_length(parts) != 3 || strlen(parts[0]) != 1 || !strchr("abc", parts[0][0]) ||
        strspn(parts[2], "rwm") != strlen(parts[2]))
        return NULL;
    g_auto(GStrv) numbers = g_strsplit(parts[1], ":", 3);
    if (g_strv_length(numbers) != 2)
        return NULL;
    bool any_major = !strcmp(numbers[0], "*"), any_minor = !strcmp(numbers[1], "*");
    if ((!any_major && !parse_uint(numbers[0], G_MAXUINT32, &major)) ||
        (!any_minor && !parse_uint(numbers[1], G_MAXUINT32, &minor)))
        return NULL;
    return device_rule(true, parts[0], any_major ? -1 : (gint64)major, any_minor ? -1 : (gint64)minor, parts[2]);
}

static json_t *default_device_rules(void)
{
    static const struct {
        int major, minor;
    } devices[] = { { 1, 3 }, { 1, 5 }, { 1, 7 }, { 1, 8 }, { 1, 9 }, { 5, 0 }, { 5, 1 }, { 5, 2 }, { 136, -1 } };
    json_t *rules = json_array();
    json_array_append_new(rules, device_rule(false, "a", -1, -1, "rwm"));
    json_array_append_new(rules, device_rule(true, "c", -1, -1, "m"));
    json_array_append_new(rules, device_rule(true, "b", -1, -1, "m"));
    for (size_t i = 0; i < G_N_ELEMENTS(devices); i++)
        json_array_append_new(rules, device_rule(true, "c", devices[i].major, devices[i].minor, "rwm"));
    return rules;
}

static const char *cgroup_permissions(const json_t *host_config, const char *host_path)
{
    size_t i;
    json_t *value;
    json_array_foreach(json_get_array(host_config, "Devices"), i,
                       value) if (!strcmp(json_get_string(value, "PathOnHost", ""), host_path))
    {
        const char *permissions = json_get_string(value, "CgroupPermissions", "rwm");
        return *permissions && strspn(permissions, "rwm") == strlen(permissions) ? permissions : "rwm";
    }
    return "rwm";
}

bool spec_add_devices(const struct spec_input *input, json_t *linux_part, json_t *resources, GError **error)
{
    bool privileged = json_get_bool(input->host_config, "Privileged", false);
    json_t *rules = privileged ? json_array() : default_device_rules(), *devices = json_array();
    json_object_set_new(resources, "devices", rules);
    json_object_set_new(linux_part, "devices", devices);
    if (privileged)
        json_array_append_new(rules, device_rule(true, "a", -1, -1, "rwm"));
    for (size_t i = 0; i < input->n_devices; i++) {
        const struct spec_device *device = &input->devices[i];
        char type[2] = { device->type, '\0' };
        json_array_append_new(devices, json_pack("{s:s, s:s, s:I, s:I, s:i, s:i, s:i}", "path", device->path, "type", type,
                                                 "major", (json_int_t)device->major, "minor", (json_int_t)device->minor,
                                                 "fileMode", device->mode, "uid", device->uid, "gid", device->gid));
        if (!privileged)
            json_array_append_new(rules, device_rule(true, type, device->major, device->minor,
                                                     cgroup_permissions(input->host_config, device->host)));
    }
    size_t i;
    json_t *value;
    json_array_foreach(json_get_array(input->host_config, "DeviceCgroupRules"), i, value)
    {
        json_t *rule = parse_device_rule(json_string_value(value));
        if (!rule)
            return error_set(error, TARE_ERROR_INVALID, "invalid device cgroup rule format: '%s'", json_string_value(value));
        json_array_append_new(rules, rule);
    }
    return true;
}

/* ---- ulimits ---- */

static void add_limits(json_t *rlimits, GHashTable *seen, const json_t *ulimits)
{
    size_t i;
    json_t *value;
    json_array_foreach((json_t *)ulimits, i, value)
    {
        const char *name = json_get_string(value, "Name", "");
        g_autofree char *upper = g_ascii_strup(name, -1);
        g_autofree char *type = g_strconcat("RLIMIT_", upper, NULL);
        if (!*name || g_hash_table_contains(seen, type))
            continue;
        json_array_append_new(rlimits,
                              json_pack("{s:s, s:I, s:I}", "type", type, "soft", (json_int_t)json_get_int(value, "Soft", 0),
                                        "hard", (json_int_t)json_get_int(value, "Hard", 0)));
        g_hash_table_add(seen, g_steal_pointer(&type));
    }
}

/* The container's own, then the engine's defaults for what it does not name. */
json_t *spec_rlimits(const json_t *host_config, const json_t *defaults)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    json_t *rlimits = json_array();
    add_limits(rlimits, seen, json_get_array(host_config, "Ulimits"));
    add_limits(rlimits, seen, defaults);
    return rlimits;
}
