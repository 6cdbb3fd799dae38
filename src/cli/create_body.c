/* The body of POST /containers/create out of the flags of run and create: simple ones by a table, the others by their grammars
 * (create_parse.c). */
#include "cli/create-internal.h"

#include <string.h>

enum flag_kind { FLAG_TEXT, FLAG_BOOL, FLAG_NUMBER, FLAG_BYTES, FLAG_CPUS, FLAG_LIST, FLAG_DURATION };

struct simple {
    const char *flag, *field;
    enum flag_kind kind;
};

static const struct simple config_flags[] = {
    { "hostname", "Hostname", FLAG_TEXT },
    { "domainname", "Domainname", FLAG_TEXT },
    { "user", "User", FLAG_TEXT },
    { "tty", "Tty", FLAG_BOOL },
    { "interactive", "OpenStdin", FLAG_BOOL },
    { "workdir", "WorkingDir", FLAG_TEXT },
    { "stop-signal", "StopSignal", FLAG_TEXT },
    { "stop-timeout", "StopTimeout", FLAG_NUMBER },
    { "mac-address", "MacAddress", FLAG_TEXT },
};

static const struct simple host_flags[] = {
    { "cidfile", "ContainerIDFile", FLAG_TEXT },
    { "oom-score-adj", "OomScoreAdj", FLAG_NUMBER },
    { "rm", "AutoRemove", FLAG_BOOL },
    { "privileged", "Privileged", FLAG_BOOL },
    { "publish-all", "PublishAllPorts", FLAG_BOOL },
    { "link", "Links", FLAG_LIST },
    { "dns", "Dns", FLAG_LIST },
    { "dns-search", "DnsSearch", FLAG_LIST },
    { "volumes-from", "VolumesFrom", FLAG_LIST },
    { "ipc", "IpcMode", FLAG_TEXT },
    { "pid", "PidMode", FLAG_TEXT },
    { "uts", "UTSMode", FLAG_TEXT },
    { "userns", "UsernsMode", FLAG_TEXT },
    { "cgroupns", "CgroupnsMode", FLAG_TEXT },
    { "cap-add", "CapAdd", FLAG_LIST },
    { "cap-drop", "CapDrop", FLAG_LIST },
    { "group-add", "GroupAdd", FLAG_LIST },
    { "read-only", "ReadonlyRootfs", FLAG_BOOL },
    { "volume-driver", "VolumeDriver", FLAG_TEXT },
    { "isolation", "Isolation", FLAG_TEXT },
    { "shm-size", "ShmSize", FLAG_BYTES },
    { "runtime", "Runtime", FLAG_TEXT },
    { "init", "Init", FLAG_BOOL },
    { "cgroup-parent", "CgroupParent", FLAG_TEXT },
    { "memory", "Memory", FLAG_BYTES },
    { "memory-reservation", "MemoryReservation", FLAG_BYTES },
    { "memory-swap", "MemorySwap", FLAG_BYTES },
    { "kernel-memory", "KernelMemory", FLAG_BYTES },
    { "memory-swappiness", "MemorySwappiness", FLAG_NUMBER },
    { "oom-kill-disable", "OomKillDisable", FLAG_BOOL },
    { "cpus", "NanoCpus", FLAG_CPUS },
    { "cpu-shares", "CpuShares", FLAG_NUMBER },
    { "cpu-period", "CpuPeriod", FLAG_NUMBER },
    { "cpu-quota", "CpuQuota", FLAG_NUMBER },
    { "cpu-rt-period", "CpuRealtimePeriod", FLAG_NUMBER },
    { "cpu-rt-runtime", "CpuRealtimeRuntime", FLAG_NUMBER },
    { "cpuset-cpus", "CpusetCpus", FLAG_TEXT },
    { "cpuset-mems", "CpusetMems", FLAG_TEXT },
    { "pids-limit", "PidsLimit", FLAG_NUMBER },
    { "blkio-weight", "BlkioWeight", FLAG_NUMBER },
    { "device-cgroup-rule", "DeviceCgroupRules", FLAG_LIST },
};

static const struct simple health_flags[] = {
    { "health-interval", "Interval", FLAG_DURATION },
    { "health-timeout", "Timeout", FLAG_DURATION },
    { "health-start-period", "StartPeriod", FLAG_DURATION },
    { "health-start-interval", "StartInterval", FLAG_DURATION },
    { "health-retries", "Retries", FLAG_NUMBER },
};

static json_t *simple_value(const struct options *options, const struct simple *simple)
{
    const char *text = options_string(options, simple->flag, "");
    switch (simple->kind) {
    case FLAG_TEXT:
        return json_string_lossy(text);
    case FLAG_BOOL:
        return json_boolean(options_bool(options, simple->flag, false));
    case FLAG_NUMBER:
        return json_integer(options_int(options, simple->flag, 0));
    case FLAG_BYTES:
        return json_integer(options_bytes(options, simple->flag, 0));
    case FLAG_CPUS:
        return json_integer((json_int_t)(g_ascii_strtod(text, NULL) * 1e9 + 0.5));
    case FLAG_DURATION:
        return json_integer(options_duration(options, simple->flag, 0));
    default:
        return json_from_strv(options_list(options, simple->flag));
    }
}

static void set_simple(const struct options *options, const struct simple *table, size_t n, json_t *object)
{
    for (size_t i = 0; i < n; i++)
        if (options_given(options, table[i].flag))
            json_object_set_new(object, table[i].field, simple_value(options, &table[i]));
}

static json_t *pairs_to_object(const json_t *pairs)
{
    json_t *object = json_object(), *pair;
    size_t i;
    json_array_foreach((json_t *)pairs, i, pair)
    {
        const char *text = json_string_value(pair), *equals = strchr(text, '=');
        g_autofree char *key = g_strndup(text, strcspn(text, "="));
        json_object_set_new(object, key, json_string_lossy(equals ? equals + 1 : ""));
    }
    return object;
}

static json_t *list_to_object(const char *const *list)
{
    g_autoptr(json_t) array = json_from_strv(list);
    return pairs_to_object(array);
}

/* -a says what to attach to; without it stdout and stderr; -i attaches stdin. */
static void set_attach(const struct options *options, json_t *config)
{
    const char *const *given = options_list(options, "attach");
    bool in = options_bool(options, "interactive", false), out = !*given, err = !*given;
    for (; *given; given++) {
        in = in || g_ascii_strcasecmp(*given, "stdin") == 0;
        out = out || g_ascii_strcasecmp(*given, "stdout") == 0;
        err = err || g_ascii_strcasecmp(*given, "stderr") == 0;
    }
    json_object_set_new(config, "AttachStdin", json_boolean(in));
    json_object_set_new(config, "AttachStdout", json_boolean(out));
    json_object_set_new(config, "AttachStderr", json_boolean(err));
    json_object_set_new(config, "StdinOnce", json_boolean(in && options_bool(options, "interactive", false)));
}

static bool set_environment(const struct options *options, json_t *config, GError **error)
{
    json_t *env = json_array(), *labels = json_array();
    json_object_set_new(config, "Env", env);
    bool ok = create_read_pairs(options_list(options, "env-file"), options_list(options, "env"), true, env, "", error) &&
              create_read_pairs(options_list(options, "label-file"), options_list(options, "label"), false, labels, "", error);
    json_object_set_new(config, "Labels", pairs_to_object(labels));
    json_decref(labels);
    return ok;
}

static bool set_health(const struct options *options, json_t *config, GError **error)
{
    g_autoptr(json_t) health = json_object();
    const char *command = options_string(options, "health-cmd", "");
    set_simple(options, health_flags, G_N_ELEMENTS(health_flags), health);
    bool any = *command || json_object_size(health) > 0;
    if (options_bool(options, "no-healthcheck", false)) {
        if (any)
            return error_set(error, TARE_ERROR_INVALID, "--no-healthcheck conflicts with --health-* options");
        json_object_set_new(config, "Healthcheck", json_pack("{s:[s]}", "Test", "NONE"));
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(health_flags); i++)
        if (json_get_int(health, health_flags[i].field, 0) < 0)
            return error_set(error, TARE_ERROR_INVALID, "--%s cannot be negative", health_flags[i].flag);
    if (*command)
        json_object_set_new(health, "Test", json_pack("[s, s]", "CMD-SHELL", command));
    if (any)
        json_object_set(config, "Healthcheck", health);
    return true;
}

/* The same -v twice is no mistake. */
static bool is_said_before(const char *const *list, const char *const *entry)
{
    while (list < entry && strcmp(*list, *entry) != 0)
        list++;
    return list < entry;
}

static bool set_volumes(const struct options *options, json_t *config, json_t *host, GError **error)
{
    json_t *binds = json_array(), *volumes = json_object(), *mounts = json_array();
    json_object_set_new(host, "Binds", binds);
    json_object_set_new(config, "Volumes", volumes);
    json_object_set_new(host, "Mounts", mounts);
    for (const char *const *volume = options_list(options, "volume"); *volume; volume++) {
        g_autofree char *bind = NULL, *target = NULL;
        if (!create_parse_volume(*volume, &bind, &target, error))
            return false;
        if (bind && is_said_before(options_list(options, "volume"), volume))
            continue;
        if (bind)
            json_array_append_new(binds, json_string_lossy(bind));
        else
            json_object_set_new(volumes, target, json_object());
    }
    for (const char *const *mount = options_list(options, "mount"); *mount; mount++) {
        json_t *value = create_parse_mount(*mount, error);
        if (!value)
            return false;
        json_array_append_new(mounts, value);
    }
    g_autoptr(json_t) tmpfs = json_object();
    for (const char *const *entry = options_list(options, "tmpfs"); *entry; entry++) {
        g_autofree char *path = g_strndup(*entry, strcspn(*entry, ":"));
        const char *colon = strchr(*entry, ':');
        json_object_set_new(tmpfs, path, json_string_lossy(colon ? colon + 1 : ""));
    }
    if (json_object_size(tmpfs) > 0)
        json_object_set(host, "Tmpfs", tmpfs);
    return true;
}

static bool set_ports(const struct options *options, json_t *config, json_t *host, GError **error)
{
    json_t *exposed = json_object(), *bindings = json_object();
    json_object_set_new(config, "ExposedPorts", exposed);
    json_object_set_new(host, "PortBindings", bindings);
    for (const char *const *port = options_list(options, "publish"); *port; port++)
        if (!create_parse_port(*port, exposed, bindings, error))
            return false;
    for (const char *const *port = options_list(options, "expose"); *port; port++)
        if (!create_parse_expose(*port, exposed, error))
            return false;
    json_object_set_new(config, "ExposedPorts", json_sorted(exposed));
    json_object_set_new(host, "PortBindings", json_sorted(bindings));
    return true;
}

/* Flags of old that speak of the first network. */
static bool add_endpoint_flags(const struct options *options, json_t *endpoint, const char *network, GError **error)
{
    static const char *const builtin[] = { "default", "bridge", "host", "none", NULL };
    bool user_defined = !g_strv_contains(builtin, network) && !g_str_has_prefix(network, "container:");
    const char *const *aliases = options_list(options, "network-alias"), *const *old_aliases = options_list(options, "net-alias");
    g_autoptr(json_t) names = json_from_strv(aliases);
    for (; *old_aliases; old_aliases++)
        json_array_append_new(names, json_string_lossy(*old_aliases));
    if (json_array_size(names) > 0 && json_object_get(endpoint, "Aliases"))
        return error_set(error, TARE_ERROR_INVALID,
                         "conflicting options: cannot specify both --network-alias and per-network alias");
    if (json_array_size(names) > 0)
        json_object_set(endpoint, "Aliases", names);
    if (json_object_get(endpoint, "Aliases") && !user_defined)
        return error_set(error, TARE_ERROR_INVALID, "network-scoped aliases are only supported for user-defined networks");
    if (user_defined && options_given(options, "link"))
        json_object_set_new(endpoint, "Links", json_from_strv(options_list(options, "link")));
    static const struct simple addresses[] = { { "ip", "IPv4Address", FLAG_TEXT },
                                               { "ip6", "IPv6Address", FLAG_TEXT },
                                               { "link-local-ip", "LinkLocalIPs", FLAG_LIST } };
    g_autoptr(json_t) ipam = json_object();
    json_t *old = json_object_get(endpoint, "IPAMConfig");
    if (old)
        json_object_update(ipam, old);
    set_simple(options, addresses, G_N_ELEMENTS(addresses), ipam);
    if (json_object_size(ipam) > 0)
        json_object_set(endpoint, "IPAMConfig", ipam);
    const char *mac = options_string(options, "mac-address", NULL);
    if (mac)
        json_object_set_new(endpoint, "MacAddress", json_string_lossy(mac));
    return true;
}

static bool set_networks(const struct options *options, json_t *body, json_t *host, GError **error)
{
    json_t *endpoints = json_object();
    json_object_set_new(body, "NetworkingConfig", json_pack("{s:o}", "EndpointsConfig", endpoints));
    g_autoptr(GPtrArray) given = g_ptr_array_new();
    for (const char *const *flag = (const char *const[]){ "network", "net", NULL }; *flag; flag++)
        for (const char *const *value = options_list(options, *flag); *value; value++)
            g_ptr_array_add(given, (gpointer)*value);
    if (given->len == 0)
        g_ptr_array_add(given, (gpointer) "default");
    for (guint i = 0; i < given->len; i++) {
        g_autofree char *name = NULL;
        g_autoptr(json_t) endpoint = create_parse_network(given->pdata[i], &name, error);
        if (!endpoint)
            return false;
        g_autofree char *blank = g_strstrip(g_strdup(name));
        if (!*blank)
            return error_set(error, TARE_ERROR_INVALID, "no name set for network");
        if (i == 0 && !add_endpoint_flags(options, endpoint, name, error))
            return false;
        if (i == 0)
            json_object_set_new(host, "NetworkMode", json_string_lossy(name));
        if (json_object_get(endpoints, name))
            return error_set(error, TARE_ERROR_INVALID, "network \"%s\" is specified multiple times", name);
        if (json_object_size(endpoint) > 0 || given->len > 1)
            json_object_set(endpoints, name, endpoint);
    }
    return true;
}

static bool append_parsed(const struct options *options, const char *flag, json_t *(*parse)(const char *, GError **),
                          json_t *list, GError **error)
{
    for (const char *const *text = options_list(options, flag); *text; text++) {
        json_t *value = parse(*text, error);
        if (!value)
            return false;
        json_array_append_new(list, value);
    }
    return true;
}

static bool set_devices(const struct options *options, json_t *host, GError **error)
{
    static const struct {
        const char *flag, *field;
        bool is_bytes;
    } throttles[] = { { "device-read-bps", "BlkioDeviceReadBps", true },
                      { "device-write-bps", "BlkioDeviceWriteBps", true },
                      { "device-read-iops", "BlkioDeviceReadIOps", false },
                      { "device-write-iops", "BlkioDeviceWriteIOps", false } };
    json_t *devices = json_array(), *requests = json_array(), *ulimits = json_array(), *weights = json_array();
    json_object_set_new(host, "Devices", devices);
    json_object_set_new(host, "Ulimits", ulimits);
    json_object_set_new(host, "BlkioWeightDevice", weights);
    for (size_t i = 0; i < G_N_ELEMENTS(throttles); i++) {
        json_t *list = json_array();
        json_object_set_new(host, throttles[i].field, list);
        for (const char *const *text = options_list(options, throttles[i].flag); *text; text++)
            json_array_append_new(list, create_parse_throttle(*text, throttles[i].is_bytes));
    }
    for (const char *const *text = options_list(options, "ulimit"); *text; text++)
        json_array_append_new(ulimits, create_parse_ulimit(*text));
    for (const char *const *text = options_list(options, "blkio-weight-device"); *text; text++) {
        json_t *weight = create_parse_throttle(*text, false);
        json_object_set(weight, "Weight", json_object_get(weight, "Rate"));
        json_object_del(weight, "Rate");
        json_array_append_new(weights, weight);
    }
    bool ok = append_parsed(options, "device", create_parse_device, devices, error) &&
              append_parsed(options, "gpus", create_parse_gpus, requests, error);
    if (json_array_size(requests) > 0)
        json_object_set(host, "DeviceRequests", requests);
    json_decref(requests);
    return ok;
}

static bool check_modes(const struct options *options, GError **error)
{
    static const struct {
        const char *flag, *name;
        const char *allowed[4];
        bool container;
    } modes[] = {
        { "pid", "PID", { "", "host", NULL }, true },
        { "uts", "UTS", { "", "host", NULL }, false },
        { "userns", "USER", { "", "host", NULL }, false },
        { "cgroupns", "CGROUP", { "", "host", "private", NULL }, false },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        const char *value = options_string(options, modes[i].flag, "");
        bool of_container = modes[i].container && g_str_has_prefix(value, "container:") && value[strlen("container:")];
        if (!of_container && !g_strv_contains(modes[i].allowed, value))
            return error_set(error, TARE_ERROR_INVALID, "--%s: invalid %s mode", modes[i].flag, modes[i].name);
    }
    gint64 swappiness = options_int(options, "memory-swappiness", -1);
    return (swappiness >= -1 && swappiness <= 100) ||
           error_set(error, TARE_ERROR_INVALID, "invalid value: %" G_GINT64_FORMAT ". Valid memory swappiness range is 0-100",
                     swappiness);
}

static bool set_policies(const struct options *options, json_t *host, GError **error)
{
    const char *restart = options_string(options, "restart", "no"), *driver = options_string(options, "log-driver", "");
    json_t *policy = *restart ? restart_policy(restart, error) : json_pack("{s:s, s:i}", "Name", "", "MaximumRetryCount", 0);
    if (!policy)
        return false;
    json_object_set_new(host, "RestartPolicy", policy);
    const char *name = json_get_string(policy, "Name", "");
    if (options_bool(options, "rm", false) && *name && strcmp(name, "no") != 0)
        return error_set(error, TARE_ERROR_INVALID, "conflicting options: cannot specify both --restart and --rm");
    if (strcmp(driver, "none") == 0 && options_given(options, "log-opt"))
        return error_set(error, TARE_ERROR_INVALID, "invalid logging opts for driver none");
    json_object_set_new(host, "LogConfig",
                        json_pack("{s:s, s:o}", "Type", driver, "Config", list_to_object(options_list(options, "log-opt"))));
    for (const char *const *text = options_list(options, "storage-opt"); *text; text++)
        if (!strchr(*text, '='))
            return error_set(error, TARE_ERROR_INVALID, "invalid storage option");
    bool unmasked;
    json_t *security = create_parse_security(options_list(options, "security-opt"), &unmasked, error);
    if (!security)
        return false;
    json_object_set_new(host, "SecurityOpt", security);
    json_object_set_new(host, "MaskedPaths", unmasked ? json_array() : json_null());
    json_object_set_new(host, "ReadonlyPaths", unmasked ? json_array() : json_null());
    static const struct simple maps[] = { { "storage-opt", "StorageOpt", FLAG_LIST },
                                          { "sysctl", "Sysctls", FLAG_LIST },
                                          { "annotation", "Annotations", FLAG_LIST } };
    for (size_t i = 0; i < G_N_ELEMENTS(maps); i++)
        if (options_given(options, maps[i].flag))
            json_object_set_new(host, maps[i].field, list_to_object(options_list(options, maps[i].flag)));
    return true;
}

static void set_dns_options(const struct options *options, json_t *host)
{
    json_t *list = json_from_strv(options_list(options, "dns-option"));
    for (const char *const *text = options_list(options, "dns-opt"); *text; text++)
        json_array_append_new(list, json_string_lossy(*text));
    json_object_set_new(host, "DnsOptions", list);
    json_t *hosts = json_array();
    for (const char *const *text = options_list(options, "add-host"); *text; text++) {
        /* name=address is a newer spelling of name:address, which every engine knows */
        g_autofree char *entry = g_strdup(*text);
        entry[strcspn(entry, "=:")] = ':';
        g_autoptr(GString) plain = g_string_new(entry);
        char *open = strstr(plain->str, ":[");
        if (open && plain->str[plain->len - 1] == ']') {
            g_string_truncate(plain, plain->len - 1);
            g_string_erase(plain, open + 1 - plain->str, 1);
        }
        json_array_append_new(hosts, json_string_lossy(plain->str));
    }
    json_object_set_new(host, "ExtraHosts", hosts);
}

json_t *create_body(struct cli *cli, const struct options *options, GError **error)
{
    g_autoptr(json_t) body = json_object();
    json_t *host = json_object();
    set_simple(options, config_flags, G_N_ELEMENTS(config_flags), body);
    json_object_set_new(body, "Image", json_string_lossy(options->args[0]));
    json_object_set_new(body, "Cmd", options->n_args > 1 ? json_from_strv((const char *const *)options->args + 1) : json_null());
    const char *entrypoint = options_string(options, "entrypoint", NULL);
    json_object_set_new(body, "Entrypoint", entrypoint ? json_pack("[s]", entrypoint) : json_null());
    set_attach(options, body);
    json_object_set_new(body, "HostConfig", host);
    set_simple(options, host_flags, G_N_ELEMENTS(host_flags), host);
    set_dns_options(options, host);
    bool ok = check_modes(options, error) && set_volumes(options, body, host, error) && set_ports(options, body, host, error) &&
              set_devices(options, host, error) && set_environment(options, body, error) && set_policies(options, host, error) &&
              set_health(options, body, error) && set_networks(options, body, host, error);
    return ok ? g_steal_pointer(&body) : NULL;
}
