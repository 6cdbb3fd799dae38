/* What a create or update request may say: Docker's checks and texts. Touches no container; reads a few facts of the host
 * (processors, devices). */
#include "container/container-internal.h"

#include "base/parse.h"
#include "base/signal_name.h"

#include <string.h>
#include <sys/capability.h>
#include <unistd.h>

#define MEMORY_MIN (6ll << 20)
#define INVALID(...) error_set(error, TARE_ERROR_INVALID, __VA_ARGS__)

bool signal_parse(const char *text, int *ret, GError **error)
{
    return signal_name_parse(text, ret) || INVALID("Invalid signal: %s", text);
}

static bool validate_health(const json_t *health, GError **error)
{
    static const char *const durations[] = { "Interval", "Timeout", "StartPeriod", "StartInterval" };
    for (size_t i = 0; i < G_N_ELEMENTS(durations); i++) {
        gint64 value = json_get_int(health, durations[i], 0);
        if (value != 0 && value < 1000000)
            return INVALID("%s in Healthcheck cannot be less than 1ms", durations[i]);
    }
    if (json_get_int(health, "Retries", 0) < 0)
        return INVALID("Retries in Healthcheck cannot be negative");
    return true;
}

static bool validate_config(const json_t *config, GError **error)
{
    const char *directory = json_get_string(config, "WorkingDir", ""), *stop_signal = json_get_string(config, "StopSignal", "");
    int ignored;
    size_t i;
    json_t *value;
    if (*directory && *directory != '/')
        return INVALID("the working directory '%s' is invalid, it needs to be an absolute path", directory);
    if (*stop_signal && !signal_parse(stop_signal, &ignored, error))
        return false;
    json_array_foreach(json_get_array(config, "Env"), i, value)
    {
        const char *text = json_string_value(value);
        if (!*text || *text == '=')
            return INVALID("invalid environment variable: %s", text);
    }
    const json_t *health = json_get_object(config, "Healthcheck");
    return !health || validate_health(health, error);
}

/* A host port: "", "80", "8000-8010". */
static bool valid_host_port(const char *text)
{
    guint64 low, high;
    if (!*text)
        return true;
    const char *dash = strchr(text, '-');
    if (!dash)
        return parse_uint(text, 65535, &low);
    g_autofree char *first = g_strndup(text, dash - text);
    return parse_uint(first, 65535, &low) && parse_uint(dash + 1, 65535, &high) && low <= high;
}

bool spec_parse_port(const char *text, guint16 *ret_port, const char **ret_protocol, GError **error)
{
    static const char *const protocols[] = { "tcp", "udp", "sctp" };
    const char *slash = strchr(text, '/');
    g_autofree char *number = slash ? g_strndup(text, slash - text) : g_strdup(text);
    guint64 port;
    if (!parse_uint(number, 65535, &port) || port == 0)
        return INVALID("invalid port specification: \"%s\"", text);
    for (size_t i = 0; i < G_N_ELEMENTS(protocols); i++)
        if (!g_ascii_strcasecmp(slash ? slash + 1 : "tcp", protocols[i])) {
            *ret_port = port;
            *ret_protocol = protocols[i];
            return true;
        }
    return INVALID("invalid port specification: \"%s\"", text);
}

static bool validate_ports(const json_t *host_config, GError **error)
{
    const char *key, *protocol;
    json_t *list, *binding;
    guint16 port;
    size_t i;
    json_object_foreach(json_get_object(host_config, "PortBindings"), key, list)
    {
        if (!spec_parse_port(key, &port, &protocol, error))
            return false;
        json_array_foreach(list, i, binding)
        {
            const char *host_port = json_get_string(binding, "HostPort", "");
            if (!valid_host_port(host_port))
                return INVALID("invalid port specification: \"%s\"", host_port);
        }
    }
    return true;
}

static bool validate_restart(const json_t *host_config, GError **error)
{
    const json_t *policy = json_get_object(host_config, "RestartPolicy");
    const char *name = json_get_string(policy, "Name", "no");
    gint64 retries = json_get_int(policy, "MaximumRetryCount", 0);
    if (!strcmp(name, "always") || !strcmp(name, "unless-stopped") || !strcmp(name, "no")) {
        if (retries != 0)
            return INVALID("maximum retry count cannot be used with restart policy '%s'", name);
    } else if (!strcmp(name, "on-failure")) {
        if (retries < 0)
            return INVALID("maximum retry count cannot be negative");
    } else if (*name) {
        return INVALID("invalid restart policy '%s'", name);
    }
    if (json_get_bool(host_config, "AutoRemove", false) && *name && strcmp(name, "no"))
        return INVALID("can't create 'AutoRemove' container with restart policy");
    return true;
}

static bool validate_capabilities(const json_t *host_config, const char *key, GError **error)
{
    size_t i;
    json_t *value;
    json_array_foreach(json_get_array(host_config, key), i, value)
    {
        g_autofree char *upper = g_ascii_strup(json_string_value(value), -1);
        g_autofree char *name =
            g_str_has_prefix(upper, "CAP_") || !strcmp(upper, "ALL") ? g_strdup(upper) : g_strconcat("CAP_", upper, NULL);
        g_autofree char *lower = g_ascii_strdown(name, -1);
        cap_value_t number;
        if (strcmp(name, "ALL") && strcmp(name, "CAP_ALL") && (cap_from_name(lower, &number) || strlen(name) > 64))
            return INVALID("invalid %s: unknown capability: \"%s\"", key, name);
    }
    return true;
}

/* "0-3,5": each number below the count of processors (or memory nodes). */
static bool cpuset_available(const char *text, unsigned count, bool *ret_valid)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", 1024);
    *ret_valid = true;
    for (char **part = parts; *part; part++) {
        char *dash = strchr(*part, '-');
        guint64 low, high;
        if (dash)
            *dash = '\0';
        if (!parse_uint(*part, 8191, &low) || (dash && !parse_uint(dash + 1, 8191, &high)) || (dash && high < low)) {
            *ret_valid = false;
            return false;
        }
        if ((dash ? high : low) >= count)
            return false;
    }
    return true;
}

static bool validate_cpus(const json_t *host_config, GError **error)
{
    unsigned online = MAX(1, sysconf(_SC_NPROCESSORS_ONLN));
    gint64 nano = json_get_int(host_config, "NanoCpus", 0), period = json_get_int(host_config, "CpuPeriod", 0),
           quota = json_get_int(host_config, "CpuQuota", 0);
    const char *cpus = json_get_string(host_config, "CpusetCpus", ""), *mems = json_get_string(host_config, "CpusetMems", "");
    bool valid;
    if (nano > 0 && period > 0)
        return INVALID("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    if (nano > 0 && quota > 0)
        return INVALID("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    if (nano < 0 || nano > online * 1000000000ll)
        return INVALID("Range of CPUs is from 0.01 to %u.00, as there are only %u CPUs available", online, online);
    if (period != 0 && (period < 1000 || period > 1000000))
        return INVALID("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    if (quota > 0 && quota < 1000)
        return INVALID("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    if (json_get_int(host_config, "CpuShares", 0) < 0)
        return INVALID("invalid CPU shares (%lld): value must be a positive integer",
                       (long long)json_get_int(host_config, "CpuShares", 0));
    if (*cpus && !cpuset_available(cpus, online, &valid)) {
        g_autofree char *available = online > 1 ? g_strdup_printf("0-%u", online - 1) : g_strdup("0");
        return valid ? INVALID("Requested CPUs are not available - requested %s, available: %s", cpus, available)
                     : INVALID("Invalid value %s for cpuset cpus: invalid format: %s", cpus, cpus);
    }
    if (*mems && !cpuset_available(mems, 1024, &valid))
        return INVALID("Invalid value %s for cpuset mems: invalid format: %s", mems, mems);
    return true;
}

static bool validate_memory(const json_t *host_config, GError **error)
{
    gint64 memory = json_get_int(host_config, "Memory", 0), swap = json_get_int(host_config, "MemorySwap", 0);
    gint64 reservation = json_get_int(host_config, "MemoryReservation", 0),
           swappiness = json_get_int(host_config, "MemorySwappiness", -1);
    if (memory != 0 && memory < MEMORY_MIN)
        return INVALID("Minimum memory limit allowed is 6MB");
    if (memory > 0 && swap > 0 && swap < memory)
        return INVALID("Minimum memoryswap limit should be larger than memory limit, see usage");
    if (memory == 0 && swap > 0)
        return INVALID("You should always set the Memory limit when using Memoryswap limit, see usage");
    if (swappiness < -1 || swappiness > 100)
        return INVALID("Invalid value: %lld, valid memory swappiness range is 0-100", (long long)swappiness);
    if (reservation > 0 && reservation < MEMORY_MIN)
        return INVALID("Minimum memory reservation allowed is 6MB");
    if (memory > 0 && reservation > 0 && memory < reservation)
        return INVALID("Minimum memory limit can not be less than memory reservation limit, see usage");
    gint64 weight = json_get_int(host_config, "BlkioWeight", 0);
    if (weight != 0 && (weight < 10 || weight > 1000))
        return INVALID("Range of blkio weight is from 10 to 1000");
    gint64 oom = json_get_int(host_config, "OomScoreAdj", 0);
    if (oom < -1000 || oom > 1000)
        return INVALID("Invalid value %lld, range for oom score adj is [-1000, 1000]", (long long)oom);
    if (json_get_int(host_config, "ShmSize", 0) < 0)
        return INVALID("SHM size can not be less than 0");
    return true;
}

static bool validate_security(const json_t *host_config, GError **error)
{
    size_t i;
    json_t *value;
    json_array_foreach(json_get_array(host_config, "SecurityOpt"), i, value)
    {
        const char *text = json_string_value(value);
        if (!strcmp(text, "no-new-privileges") || !strcmp(text, "disable"))
            continue;
        size_t length = strcspn(text, "=:");
        if (!text[length])
            return INVALID("invalid --security-opt 1: \"%s\"", text);
        static const char *const known[] = { "label",       "apparmor",         "seccomp", "no-new-privileges",
                                             "systempaths", "writable-cgroups", "verify" };
        bool found = false;
        for (size_t k = 0; k < G_N_ELEMENTS(known); k++)
            found = found || (strlen(known[k]) == length && !strncmp(text, known[k], length));
        if (!found)
            return INVALID("invalid --security-opt 2: \"%s\"", text);
        if (g_str_has_prefix(text, "verify") && strcmp(text + length + 1, "image") != 0)
            return INVALID("invalid --security-opt 2: \"%s\"", text);
        bool ignored;
        if (g_str_has_prefix(text, "no-new-privileges") && !parse_bool(text + length + 1, &ignored))
            return INVALID("invalid --security-opt 2: \"%s\"", text);
    }
    g_autoptr(json_t) seccomp = NULL;
    return spec_seccomp(host_config, &seccomp, error);
}

static bool validate_modes(const json_t *host_config, GError **error)
{
    const char *ipc = json_get_string(host_config, "IpcMode", ""), *pid = json_get_string(host_config, "PidMode", "");
    const char *uts = json_get_string(host_config, "UTSMode", ""), *userns = json_get_string(host_config, "UsernsMode", "");
    const char *cgroupns = json_get_string(host_config, "CgroupnsMode", ""),
               *isolation = json_get_string(host_config, "Isolation", "");
    static const char *const ipc_modes[] = { "", "none", "private", "shareable", "host", NULL };
    static const char *const host_or_own[] = { "", "host", NULL };
    static const char *const cgroup_modes[] = { "", "host", "private", NULL };
    if (!g_strv_contains(ipc_modes, ipc) && !(g_str_has_prefix(ipc, "container:") && ipc[10]))
        return INVALID("Invalid IPC mode: %s", ipc);
    if (!g_strv_contains(host_or_own, pid) && !(g_str_has_prefix(pid, "container:") && pid[10]))
        return INVALID("Invalid PID mode: %s", pid);
    if (!g_strv_contains(host_or_own, uts))
        return INVALID("invalid UTS mode: %s", uts);
    if (!g_strv_contains(host_or_own, userns))
        return INVALID("invalid userns mode: %s", userns);
    if (!g_strv_contains(cgroup_modes, cgroupns))
        return INVALID("invalid cgroup namespace mode: %s", cgroupns);
    if (*isolation && strcmp(isolation, "default"))
        return INVALID("invalid isolation '%s' on linux", isolation);
    return true;
}

static bool validate_log(const json_t *host_config, GError **error)
{
    static const char *const drivers[] = { "", "json-file", "local", "none", NULL };
    const char *type = json_get_string(json_get_object(host_config, "LogConfig"), "Type", "");
    if (!g_strv_contains(drivers, type))
        return INVALID("error looking up logging plugin %s: plugin \"%s\" not found", type, type);
    return true;
}

static void add_warning(json_t *warnings, const char *text)
{
    if (warnings)
        json_array_append_new(warnings, json_string(text));
}

bool request_validate(const json_t *config, const json_t *host_config, bool update, json_t *warnings, GError **error)
{
    if (config && !validate_config(config, error))
        return false;
    if (!validate_ports(host_config, error) || !validate_restart(host_config, error) ||
        !validate_capabilities(host_config, "CapAdd", error) || !validate_capabilities(host_config, "CapDrop", error) ||
        !validate_memory(host_config, error) || !validate_cpus(host_config, error))
        return false;
    if (update)
        return true;
    if (!validate_security(host_config, error) || !validate_modes(host_config, error) || !validate_log(host_config, error))
        return false;
    if (json_get_bool(host_config, "PublishAllPorts", false) && !strcmp(json_get_string(host_config, "NetworkMode", ""), "host"))
        add_warning(warnings, "Published ports are discarded when using host network mode");
    else if (json_object_size(json_get_object(host_config, "PortBindings")) &&
             !strcmp(json_get_string(host_config, "NetworkMode", ""), "host"))
        add_warning(warnings, "Published ports are discarded when using host network mode");
    if (json_get_int(host_config, "KernelMemory", 0) > 0)
        add_warning(warnings, "Specifying a kernel memory limit is deprecated and will be removed in a future release.");
    return true;
}
