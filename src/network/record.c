/* An endpoint as the record that a container keeps. */
#include "network/network-internal.h"

#include <string.h>

json_t *network_endpoint_to_json(const struct network_endpoint *endpoint)
{
    json_t *ports = json_array();
    for (guint i = 0; i < endpoint->ports->len; i++) {
        const struct network_port *port = &g_array_index(endpoint->ports, struct network_port, i);
        json_array_append_new(ports,
                              json_pack("{s:s, s:i, s:i, s:s}", "host_ip", port->host_ip, "host_port", (int)port->host_port,
                                        "port", (int)port->container_port, "protocol", port->protocol));
    }
    return json_pack("{s:s, s:s, s:s, s:i, s:s, s:s, s:s, s:s, s:o}", "ip", endpoint->ip, "gateway", endpoint->gateway, "mac",
                     endpoint->mac, "prefix", (int)endpoint->prefix, "interface",
                     endpoint->interface_host ? endpoint->interface_host : "", "sandbox_key",
                     endpoint->sandbox_key ? endpoint->sandbox_key : "", "endpoint_id", endpoint->endpoint_id, "sandbox_id",
                     endpoint->sandbox_id, "ports", ports);
}

struct network_endpoint *network_endpoint_from_json(const json_t *record)
{
    struct network_endpoint *endpoint = g_new0(struct network_endpoint, 1);
    size_t i;
    json_t *item;
    endpoint->netns_fd = -1;
    g_strlcpy(endpoint->ip, json_get_string(record, "ip", ""), sizeof endpoint->ip);
    g_strlcpy(endpoint->gateway, json_get_string(record, "gateway", ""), sizeof endpoint->gateway);
    g_strlcpy(endpoint->mac, json_get_string(record, "mac", ""), sizeof endpoint->mac);
    g_strlcpy(endpoint->endpoint_id, json_get_string(record, "endpoint_id", ""), sizeof endpoint->endpoint_id);
    g_strlcpy(endpoint->sandbox_id, json_get_string(record, "sandbox_id", ""), sizeof endpoint->sandbox_id);
    endpoint->prefix = (unsigned)CLAMP(json_get_int(record, "prefix", 0), 0, 32);
    endpoint->interface_host = g_strdup(json_get_string(record, "interface", ""));
    endpoint->sandbox_key = g_strdup(json_get_string(record, "sandbox_key", ""));
    endpoint->reserved_fds = g_array_new(FALSE, TRUE, sizeof(int));
    endpoint->reserved_ports = g_array_new(FALSE, TRUE, sizeof(guint16));
    endpoint->ports = g_array_new(FALSE, TRUE, sizeof(struct network_port));
    g_array_set_clear_func(endpoint->ports, network_port_clear);
    json_array_foreach(json_get_array(record, "ports"), i, item)
    {
        struct network_port port = { g_strdup(json_get_string(item, "host_ip", "")), (guint16)json_get_int(item, "host_port", 0),
                                     (guint16)json_get_int(item, "port", 0), g_strdup(json_get_string(item, "protocol", "tcp")) };
        g_array_append_val(endpoint->ports, port);
    }
    return endpoint;
}
