/* system info. */
#include "cli/cli-internal.h"

#include "base/size.h"

#include <string.h>

enum line_kind { LINE_TEXT, LINE_NONEMPTY, LINE_NUMBER, LINE_BOOL };

struct line {
    const char *title, *field;
    enum line_kind kind;
};

static const struct line counts[] = {
    { " Containers:", "Containers", LINE_NUMBER },
    { "  Running:", "ContainersRunning", LINE_NUMBER },
    { "  Paused:", "ContainersPaused", LINE_NUMBER },
    { "  Stopped:", "ContainersStopped", LINE_NUMBER },
    { " Images:", "Images", LINE_NUMBER },
    { " Server Version:", "ServerVersion", LINE_NONEMPTY },
    { " Storage Driver:", "Driver", LINE_NONEMPTY },
};
static const struct line drivers[] = {
    { " Logging Driver:", "LoggingDriver", LINE_NONEMPTY },
    { " Cgroup Driver:", "CgroupDriver", LINE_NONEMPTY },
    { " Cgroup Version:", "CgroupVersion", LINE_NONEMPTY },
};
static const struct line machine[] = {
    { " Kernel Version:", "KernelVersion", LINE_NONEMPTY },
    { " Operating System:", "OperatingSystem", LINE_NONEMPTY },
    { " OSType:", "OSType", LINE_NONEMPTY },
    { " Architecture:", "Architecture", LINE_NONEMPTY },
    { " CPUs:", "NCPU", LINE_NUMBER },
};
static const struct line place[] = {
    { " Name:", "Name", LINE_NONEMPTY },
    { " ID:", "ID", LINE_NONEMPTY },
    { " Docker Root Dir:", "DockerRootDir", LINE_TEXT },
    { " Debug Mode:", "Debug", LINE_BOOL },
};
static const struct line debugging[] = {
    { "  File Descriptors:", "NFd", LINE_NUMBER },
    { "  Goroutines:", "NGoroutines", LINE_NUMBER },
    { "  System Time:", "SystemTime", LINE_TEXT },
    { "  EventsListeners:", "NEventsListener", LINE_NUMBER },
};
static const struct line proxies[] = {
    { " HTTP Proxy:", "HttpProxy", LINE_NONEMPTY },
    { " HTTPS Proxy:", "HttpsProxy", LINE_NONEMPTY },
    { " No Proxy:", "NoProxy", LINE_NONEMPTY },
};

static void show_lines(const struct line *lines, size_t n, const json_t *info)
{
    for (size_t i = 0; i < n; i++) {
        const char *text = json_get_string(info, lines[i].field, "");
        if (lines[i].kind == LINE_NUMBER)
            print("%s %" G_GINT64_FORMAT "\n", lines[i].title, json_get_int(info, lines[i].field, 0));
        else if (lines[i].kind == LINE_BOOL)
            print("%s %s\n", lines[i].title, json_get_bool(info, lines[i].field, false) ? "true" : "false");
        else if (lines[i].kind == LINE_TEXT || *text)
            print("%s %s\n", lines[i].title, text);
    }
}

static void show_pairs(const char *indent, const json_t *pairs)
{
    size_t i;
    json_t *pair;
    json_array_foreach((json_t *)pairs, i, pair)
    {
        const char *key = json_string_value(json_array_get(pair, 0)), *value = json_string_value(json_array_get(pair, 1));
        print("%s%s: %s\n", indent, key ? key : "", value ? value : "");
    }
}

static void show_joined(const char *title, const json_t *list)
{
    g_auto(GStrv) names = json_string_array(list);
    g_autofree char *joined = names ? g_strjoinv(" ", names) : g_strdup("");
    print("%s %s\n", title, joined);
}

static void show_plugins(const json_t *plugins)
{
    print(" Plugins:\n");
    show_joined("  Volume:", json_get_array(plugins, "Volume"));
    show_joined("  Network:", json_get_array(plugins, "Network"));
    if (json_array_size(json_get_array(plugins, "Authorization")) > 0)
        show_joined("  Authorization:", json_get_array(plugins, "Authorization"));
    show_joined("  Log:", json_get_array(plugins, "Log"));
}

static void show_runtimes(const json_t *info)
{
    const json_t *runtimes = json_get_object(info, "Runtimes");
    if (json_object_size(runtimes) > 0) {
        g_autoptr(GString) names = g_string_new(NULL);
        const char *name;
        json_t *value;
        json_object_foreach((json_t *)runtimes, name, value) g_string_append_printf(names, "%s%s", names->len ? " " : "", name);
        print(" Runtimes: %s\n Default Runtime: %s\n", names->str, json_get_string(info, "DefaultRuntime", ""));
    }
    if (strcmp(json_get_string(info, "OSType", ""), "linux") != 0)
        return;
    print(" Init Binary: %s\n containerd version: %s\n runc version: %s\n init version: %s\n",
          json_get_string(info, "InitBinary", ""), json_get_string(json_get_object(info, "ContainerdCommit"), "ID", ""),
          json_get_string(json_get_object(info, "RuncCommit"), "ID", ""),
          json_get_string(json_get_object(info, "InitCommit"), "ID", ""));
}

/* "name=seccomp,profile=default" as two lines. */
static void show_security(const json_t *list)
{
    size_t i;
    json_t *entry;
    if (json_array_size(list) > 0)
        print(" Security Options:\n");
    json_array_foreach((json_t *)list, i, entry)
    {
        g_auto(GStrv) pairs = g_strsplit(json_string_value(entry) ? json_string_value(entry) : "", ",", -1);
        for (char **pair = pairs; *pair; pair++) {
            const char *equals = strchr(*pair, '=');
            if (g_str_has_prefix(*pair, "name="))
                print("  %s\n", equals + 1);
            else if (g_str_has_prefix(*pair, "profile="))
                print("   Profile: %s\n", equals + 1);
            else if (!equals)
                print("  %s\n", *pair);
        }
    }
}

static void show_registries(const json_t *info)
{
    const json_t *config = json_get_object(info, "RegistryConfig");
    const json_t *ranges = json_get_array(config, "InsecureRegistryCIDRs"), *indexes = json_get_object(config, "IndexConfigs"),
                 *mirrors = json_get_array(config, "Mirrors");
    size_t i;
    json_t *entry;
    const char *name;
    if (json_array_size(ranges) > 0 || json_object_size(indexes) > 0)
        print(" Insecure Registries:\n");
    json_object_foreach((json_t *)indexes, name, entry) if (!json_get_bool(entry, "Secure", true))
        print("  %s\n", json_get_string(entry, "Name", name));
    json_array_foreach((json_t *)ranges, i, entry) print("  %s\n", json_string_value(entry));
    if (json_array_size(mirrors) > 0)
        print(" Registry Mirrors:\n");
    json_array_foreach((json_t *)mirrors, i, entry) print("  %s\n", json_string_value(entry));
}

static void show_list(const char *title, const json_t *list)
{
    size_t i;
    json_t *entry;
    if (json_array_size(list) > 0)
        print("%s\n", title);
    json_array_foreach((json_t *)list, i, entry) print("  %s\n", json_string_value(entry));
}

static void show_server(struct cli *cli, const json_t *info)
{
    show_lines(counts, G_N_ELEMENTS(counts), info);
    show_pairs("  ", json_get_array(info, "DriverStatus"));
    show_pairs(" ", json_get_array(info, "SystemStatus"));
    show_lines(drivers, G_N_ELEMENTS(drivers), info);
    show_plugins(json_get_object(info, "Plugins"));
    print(" Swarm: %s\n", json_get_string(json_get_object(info, "Swarm"), "LocalNodeState", "inactive"));
    show_runtimes(info);
    show_security(json_get_array(info, "SecurityOptions"));
    show_lines(machine, G_N_ELEMENTS(machine), info);
    g_autofree char *memory = size_human_binary((guint64)json_get_int(info, "MemTotal", 0));
    print(" Total Memory: %s\n", memory);
    show_lines(place, G_N_ELEMENTS(place), info);
    if (json_get_bool(info, "Debug", false) || cli->debug)
        show_lines(debugging, G_N_ELEMENTS(debugging), info);
    show_lines(proxies, G_N_ELEMENTS(proxies), info);
    show_list(" Labels:", json_get_array(info, "Labels"));
    print(" Experimental: %s\n", json_get_bool(info, "ExperimentalBuild", false) ? "true" : "false");
    show_registries(info);
    print(" Live Restore Enabled: %s\n", json_get_bool(info, "LiveRestoreEnabled", false) ? "true" : "false");
    const char *license = json_get_string(info, "ProductLicense", "");
    if (*license)
        print(" Product License: %s\n", license);
    size_t i;
    json_t *pool;
    if (json_array_size(json_get_array(info, "DefaultAddressPools")) > 0)
        print(" Default Address Pools:\n");
    json_array_foreach(json_get_array(info, "DefaultAddressPools"), i, pool)
        print("   Base: %s, Size: %" G_GINT64_FORMAT "\n", json_get_string(pool, "Base", ""), json_get_int(pool, "Size", 0));
    print("\n");
}

static int show_format(struct cli *cli, const char *format, json_t *info, GError **error)
{
    json_object_set_new(info, "ClientInfo",
                        json_pack("{s:b, s:s, s:[], s:[]}", "Debug", cli->debug, "Context",
                                  cli->context_name ? cli->context_name : "default", "Plugins", "Warnings"));
    return show_by_format(format, "", "system.dockerInfo", info, error);
}

int cmd_system_info(struct cli *cli, const struct options *options, GError **error)
{
    const char *format = options_string(options, "format", NULL);
    g_autoptr(GError) problem = NULL;
    g_autoptr(json_t) info = api_get(cli, "/info", NULL, &problem);
    if (format && info)
        return show_format(cli, format, info, error);
    print("Client: tare\n Version:    %s\n Context:    %s\n Debug Mode: %s\n\nServer:\n", TARE_VERSION,
          cli->context_name ? cli->context_name : "default", cli->debug ? "true" : "false");
    if (info)
        show_server(cli, info);
    size_t i;
    json_t *warning;
    json_array_foreach(json_get_array(info, "Warnings"), i, warning) print_error("%s\n", json_string_value(warning));
    if (!info)
        g_propagate_error(error, g_steal_pointer(&problem));
    return info ? 0 : 1;
}
