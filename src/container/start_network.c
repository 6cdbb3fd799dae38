/* The namespaces of a start: its network, and those of other containers or the host. */
#include "container/start-internal.h"

#include "base/file.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* The running container that "container:ID" names; what: how the error calls it. */
static struct container *running_other(struct start *start, const char *mode, const char *what, pid_t *ret_pid, GError **error)
{
    autocontainer other = container_find(start->manager, mode + strlen("container:"), error);
    if (!other)
        return NULL;
    struct container_state state = container_get_state(other);
    if (state.status == CONTAINER_RESTARTING) {
        error_set(error, TARE_ERROR_CONFLICT, "Container %s is restarting, wait until the container is running", other->id);
        return NULL;
    }
    if (!container_is_running(&state) || !state.pid) {
        error_set(error, TARE_ERROR_CONFLICT, "cannot join %s of a non running container: %s", what, other->id);
        return NULL;
    }
    *ret_pid = state.pid;
    return g_steal_pointer(&other);
}

bool start_join_namespaces(struct start *start, GError **error)
{
    const char *pid_mode = json_get_string(start->host_config, "PidMode", ""),
               *ipc_mode = json_get_string(start->host_config, "IpcMode", "");
    pid_t pid;
    if (!strcmp(pid_mode, "host")) {
        start->pid_path = g_strdup("");
    } else if (g_str_has_prefix(pid_mode, "container:")) {
        autocontainer other = running_other(start, pid_mode, "PID", &pid, error);
        if (!other)
            return false;
        start->pid_path = g_strdup_printf("/proc/%d/ns/pid", (int)pid);
    }
    if (!strcmp(ipc_mode, "host")) {
        start->ipc_path = g_strdup("");
        start->shm_path = g_strdup("/dev/shm");
    } else if (g_str_has_prefix(ipc_mode, "container:")) {
        autocontainer other = running_other(start, ipc_mode, "IPC", &pid, error);
        if (!other)
            return false;
        g_autoptr(json_t) theirs = container_get_host_config(other);
        if (strcmp(json_get_string(theirs, "IpcMode", ""), "shareable"))
            return error_set(
                error, TARE_ERROR_CONFLICT,
                "can't join IPC of container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
                other->id);
        g_autofree char *run_dir = container_run_dir(other);
        start->ipc_path = g_strdup_printf("/proc/%d/ns/ipc", (int)pid);
        start->shm_path = g_build_filename(run_dir, "shm", NULL);
    }
    return true;
}

bool start_take_shm(struct start *start, GError **error)
{
    if (strcmp(json_get_string(start->host_config, "IpcMode", ""), "shareable"))
        return true;
    g_autofree char *run_dir = container_run_dir(start->container);
    start->shm_path = g_build_filename(run_dir, "shm", NULL);
    return files_mount_shm(start->container, json_get_int(start->host_config, "ShmSize", 64 << 20), error);
}

bool dir_make_run(struct container *container, GError **error)
{
    g_autofd int directory = dir_make(container->manager->run_fd, container->id, 0700, error);
    return directory >= 0;
}

/* ---- the bridge ---- */

static void add_port(GArray *ports, const char *host_ip, const guint16 host_ports[2], guint16 port, const char *protocol)
{
    const struct network_port entry = { .host_ip = (char *)host_ip,
                                        .host_port = host_ports[0],
                                        .host_port_end = host_ports[1],
                                        .container_port = port,
                                        .protocol = (char *)protocol };
    g_array_append_val(ports, entry);
}

static const guint16 any_port[2] = { 0, 0 };

static const char *plain_address(const char *ip)
{
    return !strcmp(ip, "0.0.0.0") ? "" : ip;
}

static bool add_bindings(const struct start *start, GArray *ports, GError **error)
{
    const char *key, *protocol;
    json_t *list, *binding;
    guint16 port;
    size_t i;
    json_object_foreach(json_get_object(start->host_config, "PortBindings"), key, list)
    {
        if (!spec_parse_port(key, &port, &protocol, error))
            return false;
        if (!json_array_size(list))
            add_port(ports, "", any_port, port, protocol);
        json_array_foreach(list, i, binding)
        {
            /* Of a range the first free one is taken. */
            const char *text = json_get_string(binding, "HostPort", ""), *dash = strchr(text, '-');
            g_autofree char *first = g_strndup(text, strcspn(text, "-"));
            guint64 low = 0, high = 0;
            if ((*first && !parse_uint(first, 65535, &low)) || (dash && !parse_uint(dash + 1, 65535, &high)))
                return error_set(error, TARE_ERROR_INVALID, "invalid port specification: \"%s\"", text);
            const guint16 host_ports[2] = { (guint16)low, (guint16)high };
            add_port(ports, plain_address(json_get_string(binding, "HostIp", "")), host_ports, port, protocol);
        }
    }
    return true;
}

static bool collect_ports(const struct start *start, GArray *ports, GError **error)
{
    const char *key, *protocol;
    json_t *ignored;
    guint16 port;
    if (!add_bindings(start, ports, error))
        return false;
    if (!json_get_bool(start->host_config, "PublishAllPorts", false))
        return true;
    json_object_foreach(json_get_object(start->container->config, "ExposedPorts"), key, ignored)
    {
        if (!spec_parse_port(key, &port, &protocol, error))
            return false;
        bool bound = false;
        for (guint i = 0; i < ports->len; i++) {
            const struct network_port *other = &g_array_index(ports, struct network_port, i);
            bound = bound || (other->container_port == port && !strcmp(other->protocol, protocol));
        }
        if (!bound)
            add_port(ports, "", any_port, port, protocol);
    }
    return true;
}

static bool attach_to_bridge(struct start *start, GError **error)
{
    struct container *container = start->container;
    g_autoptr(GArray) ports = g_array_new(FALSE, TRUE, sizeof(struct network_port));
    g_autofree char *name = container_get_name(container);
    const json_t *wished = network_request_settings(container, "bridge");
    const char *mac = json_get_string(wished, "MacAddress", json_get_string(container->config, "MacAddress", ""));
    const char *ip = json_get_string(json_get_object(wished, "IPAMConfig"), "IPv4Address", "");
    if (!start->manager->networks)
        return error_set(error, TARE_ERROR_NOT_FOUND, "network bridge not found");
    if (*ip)
        return error_set(error, TARE_ERROR_INVALID, "user specified IP address is supported on user defined networks only");
    if (!collect_ports(start, ports, error))
        return false;
    const struct network_request request = {
        .container_id = container->id,
        .mac = *mac ? mac : NULL,
        .ports = (const struct network_port *)(void *)ports->data,
        .n_ports = ports->len,
    };
    if (!network_attach(start->manager->networks, name, &request, &start->endpoint, error))
        return false;
    start->netns_fd = fd_steal(&start->endpoint->netns_fd);
    return true;
}

static bool join_network(struct start *start, const char *mode, GError **error)
{
    pid_t pid;
    start->shared_network = running_other(start, mode, "network", &pid, error);
    if (!start->shared_network)
        return false;
    g_autofree char *path = g_strdup_printf("/proc/%d/ns/net", (int)pid);
    start->netns_fd = open(path, O_RDONLY | O_CLOEXEC);
    return start->netns_fd >= 0 ||
           error_set_errno(error, errno, "open network namespace of container %s", start->shared_network->id);
}

bool start_take_network(struct start *start, GError **error)
{
    const char *mode = json_get_string(start->host_config, "NetworkMode", "default");
    bool disabled = json_get_bool(start->container->config, "NetworkDisabled", false);
    if (!strcmp(mode, "host")) {
        start->host_network = true;
        return true;
    }
    if (g_str_has_prefix(mode, "container:"))
        return join_network(start, mode, error);
    if (disabled || !strcmp(mode, "none")) {
        if (!start->manager->networks)
            return true; /* the runtime makes one */
        start->netns_fd = network_new_isolated(start->manager->networks, error);
        return start->netns_fd >= 0;
    }
    if (!strcmp(mode, "default") || !strcmp(mode, "bridge"))
        return attach_to_bridge(start, error);
    return error_set(error, TARE_ERROR_NOT_FOUND, "network %s not found", mode);
}

void start_drop_network(struct start *start)
{
    if (start->endpoint)
        network_detach(start->manager->networks, start->container->id);
}
