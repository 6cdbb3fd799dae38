/* GET /info: the host and the engine, as `docker info` shows them. */
#include "api/api-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/proxy.h"
#include "base/timestamp.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { SMALL_FILE = 65536 };

static char *read_small(const char *path)
{
    char *text = NULL;
    size_t length;
    return file_read(AT_FDCWD, path, SMALL_FILE, &text, &length, NULL) ? text : NULL;
}

/* "PRETTY_NAME" of os-release(5), without its quotes. */
static char *operating_system(void)
{
    g_autofree char *text = read_small("/etc/os-release");
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", 64);
    for (char **line = lines; *line; line++)
        if (g_str_has_prefix(*line, "PRETTY_NAME=")) {
            char *value = *line + strlen("PRETTY_NAME=");
            size_t length = strlen(value);
            if (length >= 2 && (value[0] == '"' || value[0] == '\'') && value[length - 1] == value[0])
                return g_strndup(value + 1, length - 2);
            return g_strdup(value);
        }
    return g_strdup("Linux");
}

static gint64 memory_total(void)
{
    return (gint64)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

/* Entries of a directory of /proc/self: descriptors, threads. */
static gint64 count_entries(const char *path)
{
    gint64 n = 0;
    GDir *directory = g_dir_open(path, 0, NULL);
    while (directory && g_dir_read_name(directory))
        n++;
    if (directory)
        g_dir_close(directory);
    return n;
}

static bool is_unified(void)
{
    return access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
}

/* cgroup v1 has a mounted hierarchy for each controller, v2 a line that names them. */
static bool has_controller(const char *name)
{
    if (is_unified()) {
        g_autofree char *text = read_small("/sys/fs/cgroup/cgroup.controllers");
        g_auto(GStrv) words = g_strsplit_set(text ? text : "", " \n", 64);
        return g_strv_contains((const char *const *)words, name);
    }
    g_autofree char *path = g_build_filename("/sys/fs/cgroup", name, NULL);
    return access(path, F_OK) == 0;
}

static bool forwards_ipv4(void)
{
    g_autofree char *text = read_small("/proc/sys/net/ipv4/ip_forward");
    return text && text[0] == '1';
}

static void add_counts(json_t *info, struct engine *engine)
{
    int running = 0, paused = 0, stopped = 0;
    gint64 images = 0;
    container_manager_counts(engine->containers, &running, &paused, &stopped);
    image_store_count(engine->images, &images, NULL);
    json_object_set_new(info, "ID", json_string(engine->id));
    json_object_set_new(info, "Containers", json_integer(running + paused + stopped));
    json_object_set_new(info, "ContainersRunning", json_integer(running));
    json_object_set_new(info, "ContainersPaused", json_integer(paused));
    json_object_set_new(info, "ContainersStopped", json_integer(stopped));
    json_object_set_new(info, "Images", json_integer(images));
}

static void add_storage(json_t *info, struct engine *engine)
{
    json_t *status = json_array();
    static const char *const modes[] = { "auto", "detached", "attached", "loop", "unpacked" };
    json_array_append_new(status, json_pack("[ss]", "Mount mode", modes[layer_store_mode(engine->layers)]));
    json_array_append_new(status, json_pack("[so]", "Verdict", json_string_lossy(layer_store_verdict(engine->layers))));
    json_object_set_new(info, "Driver", json_string("tare"));
    json_object_set_new(info, "DriverStatus", status);
    json_object_set_new(info, "Plugins",
                        json_pack("{s:[s], s:[sss], s:n, s:[sss]}", "Volume", "local", "Network", "bridge", "host", "null",
                                  "Authorization", "Log", "json-file", "local", "none"));
}

static void add_cgroups(json_t *info, unsigned version)
{
    bool unified = is_unified();
    bool memory = has_controller("memory"), cpu = has_controller("cpu"), cpuset = has_controller("cpuset"),
         pids = has_controller("pids");
    json_object_set_new(info, "MemoryLimit", json_boolean(memory));
    json_object_set_new(
        info, "SwapLimit",
        json_boolean(memory && (unified || access("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", F_OK) == 0)));
    if (version < 42) {
        json_object_set_new(info, "KernelMemory", json_false());
        json_object_set_new(info, "KernelMemoryTCP", json_boolean(memory && !unified));
    }
    json_object_set_new(info, "CpuCfsPeriod", json_boolean(cpu));
    json_object_set_new(info, "CpuCfsQuota", json_boolean(cpu));
    json_object_set_new(info, "CPUShares", json_boolean(cpu));
    json_object_set_new(info, "CPUSet", json_boolean(cpuset));
    json_object_set_new(info, "PidsLimit", json_boolean(pids));
    json_object_set_new(info, "OomKillDisable", json_boolean(memory && !unified));
    json_object_set_new(info, "CgroupDriver", json_string("cgroupfs"));
    json_object_set_new(info, "CgroupVersion", json_string(unified ? "2" : "1"));
}

static void add_host(json_t *info)
{
    struct utsname system;
    uname(&system);
    g_autofree char *name = operating_system();
    json_object_set_new(info, "KernelVersion", json_string(system.release));
    json_object_set_new(info, "OperatingSystem", json_string_lossy(name));
    json_object_set_new(info, "OSVersion", json_string(""));
    json_object_set_new(info, "OSType", json_string("linux"));
    json_object_set_new(info, "Architecture", json_string(system.machine));
    json_object_set_new(info, "NCPU", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    json_object_set_new(info, "MemTotal", json_integer(memory_total()));
    json_object_set_new(info, "Name", json_string_lossy(system.nodename));
    json_object_set_new(info, "IPv4Forwarding", json_boolean(forwards_ipv4()));
}

static json_t *list_or_empty(char **list)
{
    return list ? json_from_strv((const char *const *)list) : json_array();
}

/* Flags and file are in the environment since the engine's start. */
static void add_proxies(json_t *info)
{
    struct proxy_settings settings;
    proxy_settings_from_environment(&settings);
    g_autofree char *http = proxy_masked(settings.http ? settings.http : ""),
                    *https = proxy_masked(settings.https ? settings.https : "");
    json_object_set_new(info, "HttpProxy", json_string_lossy(http));
    json_object_set_new(info, "HttpsProxy", json_string_lossy(https));
    json_object_set_new(info, "NoProxy", json_string_lossy(settings.except ? settings.except : ""));
}

static void add_engine(json_t *info, struct engine *engine, unsigned version)
{
    const struct engine_options *options = engine->options;
    char now[TIMESTAMP_ROOM];
    timestamp_format(timestamp_now(), now);
    enum log_level level = LOG_LEVEL_INFO;
    log_level_parse(options->log_level, &level);
    json_object_set_new(info, "Debug", json_boolean(options->debug || level == LOG_LEVEL_DEBUG));
    json_object_set_new(info, "NFd", json_integer(count_entries("/proc/self/fd")));
    json_object_set_new(info, "NGoroutines", json_integer(count_entries("/proc/self/task")));
    json_object_set_new(info, "SystemTime", json_string(now));
    json_object_set_new(info, "LoggingDriver", json_string(options->log_driver));
    json_object_set_new(info, "NEventsListener", json_integer(event_bus_listeners(engine->events)));
    json_object_set_new(info, "GenericResources", json_null());
    json_object_set_new(info, "DockerRootDir", json_string_lossy(options->data_root));
    add_proxies(info);
    json_object_set_new(info, "Labels", list_or_empty(options->labels));
    json_object_set_new(info, "ExperimentalBuild", json_boolean(options->experimental));
    json_object_set_new(info, "ServerVersion", json_string(TARE_VERSION));
    const char *runtime = options->default_runtime ? options->default_runtime : "tare";
    json_t *runtimes = json_object();
    for (const char *const *name = container_runtime_names(); *name; name++)
        json_object_set_new(runtimes, *name, json_pack("{s:s}", "path", "tare-shim"));
    json_object_set_new(info, "Runtimes", runtimes);
    json_object_set_new(info, "DefaultRuntime", json_string(runtime));
    json_object_set_new(info, "Swarm",
                        json_pack("{s:s, s:s, s:s, s:b, s:s, s:n}", "NodeID", "", "NodeAddr", "", "LocalNodeState", "inactive",
                                  "ControlAvailable", 0, "Error", "", "RemoteManagers"));
    json_object_set_new(info, "LiveRestoreEnabled", json_true()); /* containers outlive the engine */
    json_object_set_new(info, "Isolation", json_string(""));
    json_object_set_new(info, "InitBinary", json_string("tare-init"));
    static const char *const programs[] = { "ContainerdCommit", "RuncCommit", "InitCommit" };
    for (size_t i = 0; i < G_N_ELEMENTS(programs); i++)
        json_object_set_new(info, programs[i],
                            version < 49 ? json_pack("{s:s, s:s}", "ID", "", "Expected", "") : json_pack("{s:s}", "ID", ""));
    json_t *security = json_array();
    if (container_has_apparmor())
        json_array_append_new(security, json_string("name=apparmor"));
    json_array_append_new(security, json_string("name=seccomp,profile=builtin"));
    if (container_has_selinux(engine->containers))
        json_array_append_new(security, json_string("name=selinux"));
    if (is_unified())
        json_array_append_new(security, json_string("name=cgroupns"));
    json_object_set_new(info, "SecurityOptions", security);
    json_object_set_new(info, "CDISpecDirs", json_array());
    json_object_set_new(info, "Warnings", json_array());
}

static bool get_info(struct api_request *request, GError **error)
{
    json_t *info = json_object();
    add_counts(info, request->engine);
    add_storage(info, request->engine);
    add_cgroups(info, request->version);
    if (request->version < 50) {
        json_object_set_new(info, "BridgeNfIptables", json_false());
        json_object_set_new(info, "BridgeNfIp6tables", json_false());
    }
    add_host(info);
    json_object_set_new(info, "IndexServerAddress", json_string("https://index.docker.io/v1/"));
    json_object_set_new(info, "RegistryConfig", registry_service_config(request->engine->registry));
    add_engine(info, request->engine, request->version);
    return api_respond_json(request, 200, info);
}

const struct api_route info_routes[] = {
    { "GET", "/info", 0, 0, get_info },
    { NULL },
};
