/* What a create request may ask for and this engine does not do, or only in part: each is refused, or warned of, with a reason.
 * What is not named here is honoured. Texts are Docker's where it refuses the same. */
#include "container/container-internal.h"

#include "base/parse.h"

#include <arpa/inet.h>
#include <string.h>

#define INVALID(...) error_set(error, TARE_ERROR_INVALID, __VA_ARGS__)
#define REGEX_MAX 4096

/* ---- log options ---- */

struct log_option {
    const char *name;
    bool json_file, local;
};

static const struct log_option log_options[] = {
    { "max-file", true, true },        { "max-size", true, true },      { "compress", true, true },
    { "labels", true, false },         { "labels-regex", true, false }, { "env", true, false },
    { "env-regex", true, false },      { "tag", true, false },          { "mode", true, true },
    { "max-buffer-size", true, true },
};

static bool check_log_name(const char *driver, const char *name, GError **error)
{
    bool json_file = strcmp(driver, "local");
    for (size_t i = 0; i < G_N_ELEMENTS(log_options); i++)
        if (!strcmp(log_options[i].name, name) && (json_file ? log_options[i].json_file : log_options[i].local))
            return true;
    return json_file ? INVALID("unknown log opt '%s' for json-file log driver", name)
                     : INVALID("unknown log opt '%s' for log driver local", name);
}

static bool check_log_regex(const json_t *options, const char *name, GError **error)
{
    const char *text = json_get_string(options, name, "");
    g_autoptr(GError) problem = NULL;
    g_autoptr(GRegex) regex = strlen(text) > REGEX_MAX ? NULL : g_regex_new(text, 0, 0, &problem);
    return regex || INVALID("invalid value for %s: %s", name, problem ? problem->message : "it is too long");
}

bool refuse_log_options(const json_t *log, json_t *warnings, GError **error)
{
    const char *driver = json_get_string(log, "Type", "json-file"), *name;
    const json_t *options = json_get_object(log, "Config");
    const char *mode = json_get_string(options, "mode", "blocking");
    json_t *value;
    if (!strcmp(driver, "none"))
        return true;
    json_object_foreach((json_t *)options, name, value)
    {
        if (!json_is_string(value))
            return INVALID("json: cannot unmarshal into Go struct field LogConfig.Config of type string");
        if (!check_log_name(driver, name, error))
            return false;
    }
    /* The log is written apart from the container's output, which a slow disk does not hold up: both modes are the same here. */
    if (strcmp(mode, "blocking") && strcmp(mode, "non-blocking"))
        return INVALID("logger: logging mode not supported: %s", mode);
    if (json_object_get(options, "max-buffer-size") && strcmp(mode, "non-blocking"))
        return INVALID("logger: max-buffer-size option is only supported with 'mode=non-blocking'");
    if (warnings && !g_strcmp0(json_get_string(options, "compress", ""), "true"))
        json_array_append_new(warnings, json_string("Log option 'compress' has no effect: rotated files stay uncompressed."));
    return check_log_regex(options, "labels-regex", error) && check_log_regex(options, "env-regex", error);
}

/* ---- networks ---- */

static bool check_address(const char *text, int family, const char *kind, GError **error)
{
    guint8 room[16];
    return !*text || inet_pton(family, text, room) == 1 || INVALID("invalid %s address: %s", kind, text);
}

static bool check_endpoint(const char *name, const json_t *endpoint, GError **error)
{
    const json_t *ipam = json_get_object(endpoint, "IPAMConfig");
    const char *four = json_get_string(ipam, "IPv4Address", ""), *six = json_get_string(ipam, "IPv6Address", "");
    static const char *const plain[] = { "bridge", "default", "host", "none", NULL };
    if (!check_address(four, AF_INET, "IPv4", error) || !check_address(six, AF_INET6, "IPv6", error))
        return false;
    if ((*four || *six) && g_strv_contains(plain, name))
        return INVALID("user specified IP address is supported on user defined networks only");
    if (json_array_size(json_object_get(endpoint, "Aliases")) && g_strv_contains(plain, name))
        return INVALID("network-scoped alias is supported only for containers in user defined networks");
    if (json_array_size(json_object_get(endpoint, "Links")) && g_strv_contains(plain, name))
        return INVALID("links are not supported on network %s", name);
    return true;
}

static bool refuse_networking(const json_t *networking, unsigned api_version, GError **error)
{
    const char *name;
    json_t *endpoint;
    if (json_object_size(networking) > 1 && api_version < 44) {
        g_autoptr(GString) names = g_string_new(NULL);
        json_object_foreach((json_t *)networking, name, endpoint)
            g_string_append_printf(names, "%s%s", names->len ? ", " : "", name);
        return INVALID("Container cannot be connected to network endpoints: %s", names->str);
    }
    json_object_foreach((json_t *)networking, name, endpoint) if (!check_endpoint(name, endpoint, error)) return false;
    return true;
}

/* The links of the default bridge: a name and an environment copied from another container at the start. */
static bool refuse_links(struct container_manager *manager, const json_t *host_config, GError **error)
{
    size_t i;
    json_t *value;
    json_array_foreach(json_get_array(host_config, "Links"), i, value)
    {
        const char *text = json_string_value(value);
        g_auto(GStrv) parts = g_strsplit(text, ":", 3);
        if (!*text || g_strv_length(parts) > 2)
            return INVALID("bad format for links: %s", text);
        autocontainer other = container_find(manager, *parts[0] == '/' ? parts[0] + 1 : parts[0], NULL);
        if (!other)
            return INVALID("could not get container for %s: No such container: %s", parts[0], parts[0]);
        return INVALID("links between containers of the default network are not supported: use a user-defined network, where "
                       "containers find each other by name");
    }
    return true;
}

static bool refuse_extra_hosts(const json_t *host_config, GError **error)
{
    size_t i;
    json_t *value;
    guint8 room[16];
    json_array_foreach(json_get_array(host_config, "ExtraHosts"), i, value)
    {
        const char *text = json_string_value(value), *colon = strchr(text, ':');
        if (!colon || colon == text)
            return INVALID("bad format for add-host: \"%s\"", text);
        if (strcmp(colon + 1, "host-gateway") && inet_pton(AF_INET, colon + 1, room) != 1 &&
            inet_pton(AF_INET6, colon + 1, room) != 1)
            return INVALID("invalid IP address in add-host: \"%s\"", colon + 1);
    }
    return true;
}

static bool refuse_mac(const json_t *config, GError **error)
{
    const char *text = json_get_string(config, "MacAddress", "");
    g_auto(GStrv) parts = g_strsplit_set(text, ":-", 7);
    bool ok = g_strv_length(parts) == 6;
    for (char **part = parts; ok && *part; part++)
        ok = strlen(*part) == 2 && g_ascii_isxdigit((*part)[0]) && g_ascii_isxdigit((*part)[1]);
    return !*text || ok || INVALID("address %s: invalid MAC address", text);
}

/* ---- resources ---- */

static bool refuse_storage(const json_t *host_config, GError **error)
{
    const char *name;
    json_t *value;
    json_object_foreach(json_get_object(host_config, "StorageOpt"), name, value)
    {
        if (g_ascii_strcasecmp(name, "size"))
            return INVALID("Unknown option %s", name);
        return INVALID("--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
    }
    return true;
}

static bool refuse_device_requests(const json_t *host_config, GError **error)
{
    size_t i, k;
    json_t *request, *set;
    json_array_foreach(json_get_array(host_config, "DeviceRequests"), i, request)
    {
        g_autoptr(GString) sets = g_string_new("[");
        json_array_foreach(json_get_array(request, "Capabilities"), k, set)
        {
            g_auto(GStrv) words = json_string_array(set);
            g_autofree char *joined = g_strjoinv(" ", words);
            g_string_append_printf(sets, "%s[%s]", k ? " " : "", joined);
        }
        return INVALID("could not select device driver \"%s\" with capabilities: %s]", json_get_string(request, "Driver", ""),
                       sets->str);
    }
    return true;
}

static bool refuse_foreign(const json_t *host_config, GError **error)
{
    if (json_get_int(host_config, "IOMaximumIOps", 0))
        return INVALID("Invalid QoS settings: linux does not support configuration of maximum IOPs");
    if (json_get_int(host_config, "IOMaximumBandwidth", 0))
        return INVALID("Invalid QoS settings: linux does not support configuration of maximum bandwidth");
    if (json_get_int(host_config, "CpuRealtimeRuntime", 0) > json_get_int(host_config, "CpuRealtimePeriod", 0) &&
        json_get_int(host_config, "CpuRealtimePeriod", 0))
        return INVALID("cpu real-time runtime cannot be higher than cpu real-time period");
    gint64 kernel = json_get_int(host_config, "KernelMemory", 0);
    if (kernel > 0 && kernel < (6 << 20))
        return INVALID("Minimum kernel memory limit allowed is 6MB");
    return true;
}

/* "0-1,3" of the kernel. */
static bool is_in_list(const char *list, guint64 number)
{
    g_auto(GStrv) parts = g_strsplit(list, ",", 1024);
    for (char **part = parts; *part; part++) {
        char *dash = strchr(*part, '-');
        guint64 low, high;
        if (dash)
            *dash++ = '\0';
        if (parse_uint(*part, G_MAXUINT32, &low) && (high = low, !dash || parse_uint(dash, G_MAXUINT32, &high)) &&
            low <= number && number <= high)
            return true;
    }
    return false;
}

static bool refuse_memory_nodes(const json_t *host_config, GError **error)
{
    const char *asked = json_get_string(host_config, "CpusetMems", "");
    g_autofree char *online = NULL;
    if (!*asked || !g_file_get_contents("/sys/devices/system/node/online", &online, NULL, NULL))
        return true;
    g_strstrip(online);
    g_auto(GStrv) parts = g_strsplit(asked, ",", 1024);
    for (char **part = parts; *part; part++) {
        char *dash = strchr(*part, '-');
        guint64 low = 0, high;
        if (dash)
            *dash++ = '\0';
        bool ok = parse_uint(*part, 1023, &low) && (high = low, !dash || parse_uint(dash, 1023, &high));
        for (guint64 node = low; ok && node <= high; node++)
            ok = is_in_list(online, node);
        if (!ok)
            return INVALID("Requested memory nodes are not available - requested %s, available: %s", asked, online);
    }
    return true;
}

/* ---- all of it ---- */

static void warn(const json_t *host_config, json_t *warnings)
{
    if (json_is_true(json_object_get(host_config, "OomKillDisable")) && !json_get_int(host_config, "Memory", 0))
        json_array_append_new(warnings,
                              json_string("OOM killer is disabled for the container, but no memory limit is set, this can "
                                          "result in the system running out of resources."));
    if (json_get_int(host_config, "CpuPercent", 0))
        json_array_append_new(warnings, json_string("linux does not support CPU percent. Percent discarded."));
    if (json_get_int(host_config, "CpuCount", 0))
        json_array_append_new(warnings, json_string("linux does not support CPU count. Count discarded."));
}

bool request_refuse(struct container_manager *manager, const json_t *config, const json_t *host_config, const json_t *networking,
                    unsigned api_version, json_t *warnings, GError **error)
{
    if (!refuse_networking(networking, api_version, error) || !refuse_links(manager, host_config, error) ||
        !refuse_extra_hosts(host_config, error) || !refuse_mac(config, error) || !refuse_storage(host_config, error) ||
        !refuse_device_requests(host_config, error) || !refuse_foreign(host_config, error) ||
        !refuse_memory_nodes(host_config, error))
        return false;
    warn(host_config, warnings);
    return true;
}

/* ---- another platform than the image's ---- */

bool container_check_platform(const char *platform, const char *image_name, const json_t *image_config, GError **error)
{
    struct platform wanted, own;
    if (!platform || !*platform)
        return true;
    if (!platform_parse(platform, &wanted, error))
        return false;
    platform_from_json(image_config, &own);
    bool same_kind = strcmp(wanted.os, own.os) == 0 && strcmp(wanted.architecture, own.architecture) == 0;
    bool ok = platform_score(&wanted, &own) > 0 || (same_kind && !*own.variant);
    g_autofree char *wanted_text = platform_text(&wanted), *own_text = platform_text(&own);
    platform_clear(&wanted);
    platform_clear(&own);
    return ok || error_set(error, TARE_ERROR_NOT_FOUND,
                           "image with reference %s was found but does not match the specified platform: wanted %s, actual: %s",
                           image_name, wanted_text, own_text);
}
