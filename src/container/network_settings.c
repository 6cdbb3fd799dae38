/* NetworkSettings and ports as the API shows them. */
#include "container/container-internal.h"

#include <string.h>

const char *network_name(const json_t *host_config)
{
    const char *mode = json_get_string(host_config, "NetworkMode", "default");
    return !strcmp(mode, "default") || !*mode ? "bridge" : mode;
}

static json_t *endpoint_settings(const struct network_endpoint *endpoint, const json_t *requested, const char *network_id,
                                 bool is_bridge)
{
    json_t *ipam = json_get_object(requested, "IPAMConfig"), *aliases = json_get_array(requested, "Aliases"),
           *links = json_get_array(requested, "Links");
    return json_pack("{s:O, s:O, s:O, s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:i, s:s, s:n}", "IPAMConfig", ipam ? ipam : json_null(),
                     "Links", links ? links : json_null(), "Aliases", aliases ? aliases : json_null(), "NetworkID", network_id,
                     "EndpointID", endpoint && is_bridge ? endpoint->endpoint_id : "", "Gateway",
                     endpoint && is_bridge ? endpoint->gateway : "", "IPAddress", endpoint && is_bridge ? endpoint->ip : "",
                     "IPPrefixLen", endpoint && is_bridge ? (int)endpoint->prefix : 0, "IPv6Gateway", "", "GlobalIPv6Address", "",
                     "GlobalIPv6PrefixLen", 0, "MacAddress", endpoint && is_bridge ? endpoint->mac : "", "DriverOpts");
}

static struct network_endpoint *current_endpoint(struct container *container)
{
    g_mutex_lock(&container->lock);
    json_t *record = json_incref(container->endpoint);
    g_mutex_unlock(&container->lock);
    struct network_endpoint *endpoint = record ? network_endpoint_from_json(record) : NULL;
    json_decref(record);
    return endpoint;
}

static json_t *bound_address(const char *ip, unsigned port)
{
    g_autofree char *text = g_strdup_printf("%u", port);
    return json_pack("{s:s, s:s}", "HostIp", ip, "HostPort", text);
}

/* {"80/tcp": [{"HostIp","HostPort"}] or null}: bound ports, and exposed ones that are not. */
static json_t *ports_object(const struct container *container, const struct network_endpoint *endpoint)
{
    json_t *ports = json_object(), *ignored;
    const char *key;
    if (!endpoint)
        return ports;
    json_object_foreach(json_get_object(container->config, "ExposedPorts"), key, ignored)
        json_object_set_new(ports, key, json_null());
    for (guint i = 0; i < endpoint->ports->len; i++) {
        const struct network_port *port = &g_array_index(endpoint->ports, struct network_port, i);
        g_autofree char *name = g_strdup_printf("%u/%s", port->container_port, port->protocol);
        json_t *list = json_object_get(ports, name);
        if (!json_is_array(list)) {
            list = json_array();
            json_object_set_new(ports, name, list);
        }
        if (*port->host_ip) {
            json_array_append_new(list, bound_address(port->host_ip, port->host_port));
        } else {
            json_array_append_new(list, bound_address("0.0.0.0", port->host_port));
            json_array_append_new(list, bound_address("::", port->host_port));
        }
    }
    return ports;
}

const json_t *network_request_settings(const struct container *container, const char *network)
{
    const json_t *settings = json_get_object(container->networking, network);
    return settings ? settings : json_get_object(container->networking, "default");
}

static json_t *networks_object(const struct container *container, const json_t *host_config,
                               const struct network_endpoint *endpoint)
{
    const char *name = network_name(host_config);
    if (g_str_has_prefix(name, "container:"))
        return json_object();
    return json_pack("{s:o}", name,
                     endpoint_settings(endpoint, network_request_settings(container, name),
                                       endpoint ? json_get_string(container->manager->network_ids, name, "") : "",
                                       !strcmp(name, "bridge")));
}

/* As in docker, also after the container's end. One in another's network has none, one in the host's that of all such. */
static char *sandbox_id(const struct container *container, const char *mode, const struct network_endpoint *endpoint)
{
    if (g_str_has_prefix(mode, "container:") || !container->state.has_been_started)
        return g_strdup("");
    if (endpoint)
        return g_strdup(endpoint->sandbox_id);
    g_autofree char *text = g_strconcat("sandbox ", container->id, NULL);
    return g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
}

json_t *network_settings(struct container *container, const json_t *host_config, bool summary)
{
    struct network_endpoint *endpoint = current_endpoint(container);
    json_t *networks = networks_object(container, host_config, endpoint), *settings;
    if (summary) {
        settings = json_pack("{s:o}", "Networks", networks);
    } else {
        bool there = endpoint && *endpoint->ip;
        g_autofree char *id = sandbox_id(container, network_name(host_config), endpoint);
        g_autofree char *run_dir = container_run_dir(container);
        g_autofree char *key = *id ? g_build_filename(run_dir, CONTAINER_SANDBOX_FILE, NULL) : g_strdup("");
        settings = json_pack("{s:s, s:s, s:b, s:s, s:i, s:o, s:s, s:n, s:n, s:s, s:s, s:s, s:i, s:s, s:i, s:s, s:s, s:o}",
                             "Bridge", "", "SandboxID", id, "HairpinMode", false, "LinkLocalIPv6Address", "",
                             "LinkLocalIPv6PrefixLen", 0, "Ports", ports_object(container, endpoint), "SandboxKey", key,
                             "SecondaryIPAddresses", "SecondaryIPv6Addresses", "EndpointID", there ? endpoint->endpoint_id : "",
                             "Gateway", there ? endpoint->gateway : "", "GlobalIPv6Address", "", "GlobalIPv6PrefixLen", 0,
                             "IPAddress", there ? endpoint->ip : "", "IPPrefixLen", there ? (int)endpoint->prefix : 0,
                             "IPv6Gateway", "", "MacAddress", there ? endpoint->mac : "", "Networks", networks);
    }
    if (endpoint)
        network_endpoint_free(endpoint);
    return settings;
}

static json_t *summary_port(const char *ip, unsigned private_port, unsigned public_port, const char *protocol)
{
    json_t *port = json_object();
    if (ip)
        json_object_set_new(port, "IP", json_string(ip));
    json_object_set_new(port, "PrivatePort", json_integer(private_port));
    if (public_port)
        json_object_set_new(port, "PublicPort", json_integer(public_port));
    json_object_set_new(port, "Type", json_string(protocol));
    return port;
}

static bool is_bound(const struct network_endpoint *endpoint, guint16 number, const char *protocol)
{
    for (guint i = 0; i < endpoint->ports->len; i++) {
        const struct network_port *port = &g_array_index(endpoint->ports, struct network_port, i);
        if (port->container_port == number && !strcmp(port->protocol, protocol))
            return true;
    }
    return false;
}

json_t *network_ports_summary(struct container *container, const json_t *host_config)
{
    struct network_endpoint *endpoint = current_endpoint(container);
    json_t *list = json_array(), *ignored;
    const char *key, *protocol;
    guint16 number;
    if (!endpoint)
        return list;
    json_object_foreach(json_get_object(container->config, "ExposedPorts"), key,
                        ignored) if (spec_parse_port(key, &number, &protocol, NULL) && !is_bound(endpoint, number, protocol))
        json_array_append_new(list, summary_port(NULL, number, 0, protocol));
    for (guint i = 0; i < endpoint->ports->len; i++) {
        const struct network_port *port = &g_array_index(endpoint->ports, struct network_port, i);
        json_array_append_new(list, summary_port(*port->host_ip ? port->host_ip : "0.0.0.0", port->container_port,
                                                 port->host_port, port->protocol));
        if (!*port->host_ip)
            json_array_append_new(list, summary_port("::", port->container_port, port->host_port, port->protocol));
    }
    network_endpoint_free(endpoint);
    return list;
}
