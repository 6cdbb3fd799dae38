/* The default bridge and the containers on it. */
#include "network/network-internal.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/identifier.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <unistd.h>

/* What a container has; the caller's endpoint is a copy without the fds. */
struct attachment {
    guint32 address;
    char host_name[16];
    GArray *elements; /* of struct published */
};

struct network_manager {
    char *bridge, *table, *run_dir;
    char **dns;
    char network_id[IDENTIFIER_LENGTH + 1];
    GMutex lock;
    struct address_pool *addresses;
    struct namespace_pool *pool;
    struct netlink *firewall; /* under lock */
    GMutex rules_lock;
    GThread *rules_thread; /* until somebody needed the rules */
    GError *rules_error;
    GHashTable *attachments; /* container id → struct attachment * */
};

static void attachment_free(gpointer data)
{
    struct attachment *attachment = data;
    g_array_unref(attachment->elements);
    g_free(attachment);
}

const char *const *manager_dns(const struct network_manager *manager)
{
    return manager->dns && manager->dns[0] ? (const char *const *)manager->dns : NULL;
}

static bool set_sysctl(const char *path, const char *value, GError **error)
{
    g_autofd int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || fd_write_full(fd, value, strlen(value)) < 0)
        return error_set_errno(error, errno, "write %s", path);
    return true;
}

/* Forwarding for all; and packets from 127.0.0.1 may leave over the bridge, for ports published on the loopback address. */
static bool set_sysctls(const char *bridge, GError **error)
{
    g_autofree char *route_localnet = g_strdup_printf("/proc/sys/net/ipv4/conf/%s/route_localnet", bridge);
    return set_sysctl("/proc/sys/net/ipv4/ip_forward", "1", error) && set_sysctl(route_localnet, "1", error);
}

static bool raise_bridge(struct network_manager *manager, GError **error)
{
    struct netlink *netlink = netlink_open(NETLINK_ROUTE, -1, error);
    if (!netlink)
        return false;
    bool ok = link_make_bridge(netlink, manager->bridge, address_pool_gateway(manager->addresses),
                               address_pool_prefix(manager->addresses), error);
    netlink_close(netlink);
    return ok;
}

/* The address that a bridge of ours already has, as "a.b.c.d/n": containers that outlived an engine keep their subnet. */
struct bridge_address {
    unsigned index;
    guint32 address;
    unsigned prefix;
};

static int take_address(const struct nlmsghdr *message, void *user)
{
    struct bridge_address *wanted = user;
    const struct ifaddrmsg *header = mnl_nlmsg_get_payload(message);
    const struct nlattr *attribute;
    if (header->ifa_index != wanted->index || header->ifa_family != AF_INET)
        return MNL_CB_OK;
    mnl_attr_for_each(attribute, message, sizeof *header) if (mnl_attr_get_type(attribute) == IFA_LOCAL) wanted->address =
        mnl_attr_get_u32(attribute);
    wanted->prefix = header->ifa_prefixlen;
    return MNL_CB_OK;
}

static char *existing_subnet(const char *bridge)
{
    struct bridge_address found = { .index = if_nametoindex(bridge) };
    struct netlink *netlink = found.index ? netlink_open(NETLINK_ROUTE, -1, NULL) : NULL;
    if (netlink)
        netlink_dump(netlink, RTM_GETADDR, AF_INET, take_address, &found, NULL);
    netlink_close(netlink);
    if (!found.address)
        return NULL;
    char text[INET_ADDRSTRLEN];
    struct in_addr address = { .s_addr = found.address };
    return g_strdup_printf("%s/%u", inet_ntop(AF_INET, &address, text, sizeof text), found.prefix);
}

/* nft and iptables take 30 ms together, longer than all else of a start: they go on beside it, and the first who needs a port or
 * an address on the bridge waits for what is left of them. */
static gpointer load_rules(gpointer data)
{
    struct network_manager *manager = data;
    GError *error = NULL;
    if (!rules_load(manager->table, manager->bridge, address_pool_subnet(manager->addresses), &error))
        log_error(error, "firewall rules", "bridge", manager->bridge, NULL);
    return error;
}

static bool await_rules(struct network_manager *manager, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&manager->rules_lock);
    if (manager->rules_thread)
        manager->rules_error = g_thread_join(g_steal_pointer(&manager->rules_thread));
    if (!manager->rules_error)
        return true;
    if (error)
        *error = g_error_copy(manager->rules_error);
    return false;
}

static bool raise_all(struct network_manager *manager, const struct network_options *options, GError **error)
{
    g_autofree char *subnet = options->subnet ? g_strdup(options->subnet) : existing_subnet(options->bridge);
    if (!subnet && !(subnet = address_choose_subnet(error)))
        return false;
    if (!address_pool_new(subnet, &manager->addresses, error) || !raise_bridge(manager, error) ||
        !set_sysctls(manager->bridge, error))
        return false;
    manager->firewall = netlink_open(NETLINK_NETFILTER, -1, error);
    if (!manager->firewall)
        return false;
    manager->rules_thread = g_thread_new("rules", load_rules, manager);
    return true;
}

/* The same after each start, and another on each machine: clients remember it. */
static void name_network(struct network_manager *manager)
{
    g_autofree char *machine = NULL;
    g_file_get_contents("/etc/machine-id", &machine, NULL, NULL);
    g_autofree char *text = g_strdup_printf("%s\n%s", machine ? machine : "", manager->bridge);
    g_autofree char *digest = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
    g_strlcpy(manager->network_id, digest, sizeof manager->network_id);
}

bool network_open(const struct network_options *options, struct network_manager **ret, GError **error)
{
    if (strlen(options->bridge) >= IFNAMSIZ)
        return error_set(error, TARE_ERROR_INVALID, "bridge name %s is longer than %d bytes", options->bridge, IFNAMSIZ - 1);
    struct network_manager *manager = g_new0(struct network_manager, 1);
    manager->bridge = g_strdup(options->bridge);
    manager->table = g_strdup(options->table);
    manager->run_dir = g_strdup(options->run_dir);
    manager->dns = g_strdupv((char **)options->dns);
    name_network(manager);
    g_mutex_init(&manager->lock);
    g_mutex_init(&manager->rules_lock);
    manager->attachments = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, attachment_free);
    if (!raise_all(manager, options, error)) {
        network_close(manager, true);
        return false;
    }
    manager->pool = namespace_pool_new(manager->bridge, options->pool_size);
    *ret = manager;
    return true;
}

void network_close(struct network_manager *manager, bool purge)
{
    if (!manager)
        return;
    await_rules(manager, NULL);
    g_clear_error(&manager->rules_error);
    namespace_pool_free(manager->pool);
    netlink_close(manager->firewall);
    if (purge) {
        struct netlink *netlink = netlink_open(NETLINK_ROUTE, -1, NULL);
        if (netlink)
            link_delete(netlink, manager->bridge, NULL);
        netlink_close(netlink);
        rules_unload(manager->table, manager->bridge);
    }
    address_pool_free(manager->addresses);
    g_hash_table_unref(manager->attachments);
    g_mutex_clear(&manager->lock);
    g_mutex_clear(&manager->rules_lock);
    g_strfreev(manager->dns);
    g_free(manager->run_dir);
    g_free(manager->table);
    g_free(manager->bridge);
    g_free(manager);
}

/* ---- endpoints ---- */

void network_port_clear(gpointer data)
{
    struct network_port *port = data;
    g_free(port->host_ip);
    g_free(port->protocol);
}

static struct network_endpoint *endpoint_new(void)
{
    struct network_endpoint *endpoint = g_new0(struct network_endpoint, 1);
    endpoint->netns_fd = -1;
    endpoint->ports = g_array_new(FALSE, TRUE, sizeof(struct network_port));
    g_array_set_clear_func(endpoint->ports, network_port_clear);
    endpoint->reserved_fds = g_array_new(FALSE, TRUE, sizeof(int));
    endpoint->reserved_ports = g_array_new(FALSE, TRUE, sizeof(guint16));
    identifier_new(endpoint->endpoint_id);
    identifier_new(endpoint->sandbox_id);
    return endpoint;
}

void network_endpoint_free(struct network_endpoint *endpoint)
{
    if (!endpoint)
        return;
    fd_close(endpoint->netns_fd);
    for (guint i = 0; i < endpoint->reserved_fds->len; i++)
        fd_close(g_array_index(endpoint->reserved_fds, int, i));
    g_array_unref(endpoint->reserved_fds);
    g_array_unref(endpoint->reserved_ports);
    g_array_unref(endpoint->ports);
    g_free(endpoint->sandbox_key);
    g_free(endpoint->interface_host);
    g_free(endpoint);
}

static bool to_element(const struct network_port *port, guint32 address, struct published *ret)
{
    struct in_addr host = { 0 };
    if (*port->host_ip && strcmp(port->host_ip, "0.0.0.0") != 0 && inet_pton(AF_INET, port->host_ip, &host) != 1)
        return false;
    *ret = (struct published){ .host_address = host.s_addr,
                               .host_port = port->host_port,
                               .protocol = (guint8)protocol_number(port->protocol),
                               .address = address,
                               .port = port->container_port };
    return true;
}

/* Whether a container of ours has this host port; lock held. */
static bool is_published(struct network_manager *manager, const struct published *wanted)
{
    GHashTableIter iterator;
    gpointer value;
    g_hash_table_iter_init(&iterator, manager->attachments);
    while (g_hash_table_iter_next(&iterator, NULL, &value)) {
        const GArray *elements = ((struct attachment *)value)->elements;
        for (guint i = 0; i < elements->len; i++) {
            const struct published *other = &g_array_index(elements, struct published, i);
            bool same_address = other->host_address == wanted->host_address || !other->host_address || !wanted->host_address;
            if (other->protocol == wanted->protocol && other->host_port == wanted->host_port && same_address)
                return true;
        }
    }
    return false;
}

static bool reserve_port(struct network_manager *manager, struct network_port *port, guint32 address, GArray *fds,
                         struct published *ret, GError **error)
{
    struct in6_addr ignored;
    *ret = (struct published){ 0 };
    if (port_is_v6(port, &ignored)) /* the shim carries it over: no element */
        return port_reserve(port, fds, error);
    if (!to_element(port, address, ret))
        return error_set(error, TARE_ERROR_INVALID, "invalid IP address: %s", port->host_ip);
    if (port->host_port && is_published(manager, ret))
        return error_set(error, TARE_ERROR_INTERNAL, "Bind for %s:%u failed: port is already allocated",
                         *port->host_ip ? port->host_ip : "0.0.0.0", port->host_port);
    if (!port_reserve(port, fds, error))
        return false;
    ret->host_port = port->host_port;
    return true;
}

static bool reserve_in_range(struct network_manager *manager, struct network_port *port, guint16 end, guint32 address,
                             GArray *fds, struct published *ret, GError **error)
{
    for (guint32 candidate = port->host_port; candidate <= end; candidate++) {
        guint before = fds->len;
        port->host_port = (guint16)candidate;
        g_autoptr(GError) problem = NULL;
        if (reserve_port(manager, port, address, fds, ret, &problem))
            return true;
        for (guint i = before; i < fds->len; i++)
            fd_close(g_array_index(fds, int, i));
        g_array_set_size(fds, before);
        if (!error_is(problem, TARE_ERROR_INTERNAL)) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
    }
    return error_set(error, TARE_ERROR_INTERNAL, "all ports are allocated");
}

static bool reserve_ports(struct network_manager *manager, const struct network_request *request, guint32 address,
                          struct network_endpoint *endpoint, GArray *elements, GError **error)
{
    for (size_t i = 0; i < request->n_ports; i++) {
        const struct network_port *wish = &request->ports[i];
        struct network_port port = { .host_ip = g_strdup(wish->host_ip ? wish->host_ip : ""),
                                     .host_port = wish->host_port,
                                     .container_port = wish->container_port,
                                     .protocol = g_strdup(wish->protocol) };
        struct published element;
        GArray *fds = endpoint->reserved_fds;
        bool ok = wish->host_port_end > wish->host_port
                      ? reserve_in_range(manager, &port, wish->host_port_end, address, fds, &element, error)
                      : reserve_port(manager, &port, address, fds, &element, error);
        if (!ok) {
            network_port_clear(&port);
            return false;
        }
        while (endpoint->reserved_ports->len < fds->len)
            g_array_append_val(endpoint->reserved_ports, port.container_port);
        g_array_append_val(endpoint->ports, port);
        if (element.protocol)
            g_array_append_val(elements, element);
    }
    return true;
}

static void describe(struct network_manager *manager, const struct network_request *request, guint32 address,
                     struct network_endpoint *endpoint)
{
    guint32 host_order = ntohl(address), gateway = address_pool_gateway(manager->addresses);
    inet_ntop(AF_INET, &address, endpoint->ip, sizeof endpoint->ip);
    inet_ntop(AF_INET, &gateway, endpoint->gateway, sizeof endpoint->gateway);
    endpoint->prefix = address_pool_prefix(manager->addresses);
    if (request->mac && *request->mac)
        g_strlcpy(endpoint->mac, request->mac, sizeof endpoint->mac);
    else
        g_snprintf(endpoint->mac, sizeof endpoint->mac, "02:42:%02x:%02x:%02x:%02x", host_order >> 24, host_order >> 16 & 255,
                   host_order >> 8 & 255, host_order & 255);
}

/* With the lock held: address, ports and records; everything is undone on failure. */
static bool claim(struct network_manager *manager, const struct network_request *request, struct network_endpoint *endpoint,
                  GError **error)
{
    guint32 address = address_pool_take(manager->addresses, request->ip, error);
    if (!address)
        return false;
    GArray *elements = g_array_new(FALSE, TRUE, sizeof(struct published));
    if (!reserve_ports(manager, request, address, endpoint, elements, error) ||
        !rules_change(manager->firewall, manager->table, true, (const struct published *)elements->data, elements->len, error)) {
        g_array_unref(elements);
        address_pool_give(manager->addresses, address);
        return false;
    }
    struct attachment *attachment = g_new0(struct attachment, 1);
    attachment->address = address;
    attachment->elements = elements;
    g_hash_table_insert(manager->attachments, g_strdup(request->container_id), attachment);
    describe(manager, request, address, endpoint);
    return true;
}

static bool plug_in(struct network_manager *manager, const struct network_request *request, struct network_endpoint *endpoint,
                    GError **error)
{
    struct ready ready;
    guint32 address, gateway = address_pool_gateway(manager->addresses);
    inet_pton(AF_INET, endpoint->ip, &address);
    if (!namespace_pool_take(manager->pool, true, &ready, error))
        return false;
    endpoint->netns_fd = ready.netns_fd;
    endpoint->interface_host = g_strdup(ready.host_name);
    endpoint->sandbox_key = g_strdup("");
    g_mutex_lock(&manager->lock);
    struct attachment *attachment = g_hash_table_lookup(manager->attachments, request->container_id);
    if (attachment)
        g_strlcpy(attachment->host_name, ready.host_name, sizeof attachment->host_name);
    g_mutex_unlock(&manager->lock);
    return link_configure(ready.netns_fd, endpoint->mac, address, endpoint->prefix, gateway, error);
}

bool network_attach(struct network_manager *manager, const char *container_name, const struct network_request *request,
                    struct network_endpoint **ret, GError **error)
{
    if (!await_rules(manager, error))
        return false;
    struct network_endpoint *endpoint = endpoint_new();
    network_detach(manager, request->container_id);
    g_mutex_lock(&manager->lock);
    bool claimed = claim(manager, request, endpoint, error);
    g_mutex_unlock(&manager->lock);
    if (!claimed)
        g_prefix_error(error, "driver failed programming external connectivity on endpoint %s (%s): ", container_name,
                       endpoint->endpoint_id);
    if (claimed && plug_in(manager, request, endpoint, error)) {
        *ret = endpoint;
        return true;
    }
    if (claimed)
        network_detach(manager, request->container_id);
    network_endpoint_free(endpoint);
    return false;
}

void network_detach(struct network_manager *manager, const char *container_id)
{
    g_mutex_lock(&manager->lock);
    struct attachment *attachment = g_hash_table_lookup(manager->attachments, container_id);
    if (attachment) {
        rules_change(manager->firewall, manager->table, false, (const struct published *)attachment->elements->data,
                     attachment->elements->len, NULL);
        address_pool_give(manager->addresses, attachment->address);
        /* The veth pair goes with the container's namespace: deleting it here would wait for a grace period. */
        g_hash_table_remove(manager->attachments, container_id);
    }
    g_mutex_unlock(&manager->lock);
}

bool network_restore(struct network_manager *manager, const char *container_id, const struct network_endpoint *endpoint,
                     GError **error)
{
    guint32 address;
    if (!await_rules(manager, error))
        return false;
    if (inet_pton(AF_INET, endpoint->ip, &address) != 1)
        return error_set(error, TARE_ERROR_INVALID, "container %s has no valid address: %s", container_id, endpoint->ip);
    struct attachment *attachment = g_new0(struct attachment, 1);
    attachment->address = address;
    attachment->elements = g_array_new(FALSE, TRUE, sizeof(struct published));
    g_strlcpy(attachment->host_name, endpoint->interface_host ? endpoint->interface_host : "", sizeof attachment->host_name);
    for (guint i = 0; i < endpoint->ports->len; i++) {
        struct published element;
        if (to_element(&g_array_index(endpoint->ports, struct network_port, i), address, &element))
            g_array_append_val(attachment->elements, element);
    }
    g_mutex_lock(&manager->lock);
    address_pool_mark(manager->addresses, address);
    bool ok = rules_change(manager->firewall, manager->table, true, (const struct published *)attachment->elements->data,
                           attachment->elements->len, error);
    g_hash_table_replace(manager->attachments, g_strdup(container_id), attachment);
    g_mutex_unlock(&manager->lock);
    return ok;
}

void network_sweep(struct network_manager *manager, const char *const *live_ids)
{
    g_autoptr(GPtrArray) gone = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter iterator;
    gpointer key;
    g_mutex_lock(&manager->lock);
    g_hash_table_iter_init(&iterator, manager->attachments);
    while (g_hash_table_iter_next(&iterator, &key, NULL))
        if (!g_strv_contains(live_ids, key))
            g_ptr_array_add(gone, g_strdup(key));
    g_mutex_unlock(&manager->lock);
    for (guint i = 0; i < gone->len; i++)
        network_detach(manager, gone->pdata[i]);
}

int network_new_isolated(struct network_manager *manager, GError **error)
{
    struct ready ready;
    return namespace_pool_take(manager->pool, false, &ready, error) ? ready.netns_fd : -1;
}

json_t *network_list(struct network_manager *manager)
{
    char gateway[INET_ADDRSTRLEN];
    guint32 address = address_pool_gateway(manager->addresses);
    inet_ntop(AF_INET, &address, gateway, sizeof gateway);
    static const char *const others[] = { "host", "none" };
    json_t *list = json_array();
    json_array_append_new(
        list, json_pack("{s:s, s:s, s:s, s:s, s:b, s:{s:s, s:n, s:[{s:s, s:s}]}, s:b, s:b, s:b, s:{}, s:{s:s, s:s}, s:{}}",
                        "Name", "bridge", "Id", manager->network_id, "Scope", "local", "Driver", "bridge", "EnableIPv6", 0,
                        "IPAM", "Driver", "default", "Options", "Config", "Subnet", address_pool_subnet(manager->addresses),
                        "Gateway", gateway, "Internal", 0, "Attachable", 0, "Ingress", 0, "Containers", "Options",
                        "com.docker.network.bridge.default_bridge", "true", "com.docker.network.bridge.name", manager->bridge,
                        "Labels"));
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        g_autofree char *id = g_compute_checksum_for_string(G_CHECKSUM_SHA256, others[i], -1);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:b, s:{s:s, s:n, s:[]}, s:b, s:b, s:b, s:{}, s:{}, s:{}}",
                                              "Name", others[i], "Id", id, "Scope", "local", "Driver",
                                              strcmp(others[i], "none") == 0 ? "null" : others[i], "EnableIPv6", 0, "IPAM",
                                              "Driver", "default", "Options", "Config", "Internal", 0, "Attachable", 0, "Ingress",
                                              0, "Containers", "Options", "Labels"));
    }
    return list;
}
