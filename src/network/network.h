/* Networks, first version: the default bridge ("bridge"), "host", "none" and "container:ID"; addresses, NAT, published ports, a
 * pool of ready namespaces.
 *
 * netlink by libmnl in batches; one static nftables ruleset in a table of our own, loaded once, ports as elements of its maps.
 * Several engines on one machine do not touch each other: bridge, table and address range derive from options. Thread-safe. */
#pragma once

#include "base/error.h"
#include "base/json.h"

struct network_manager;

struct network_options {
    const char
        *bridge;       /* interface name, at most 15 bytes: "tare0", or derived from the data root when that is not the default */
    const char *table; /* nftables table (inet): "tare" … */
    const char *subnet; /* "172.17.0.0/16"; NULL: the first free of docker's default pool (172.17–172.31/16, 192.168.0.0/20 …)
                           that no route uses */
    const char *run_dir;    /* <run-root>/network: namespace files, generated resolv.conf */
    const char *const *dns; /* servers from the configuration; NULL: the host's resolv.conf */
    unsigned pool_size;     /* ready namespaces with their veth kept in stock; 0: none */
};

bool network_open(const struct network_options *options, struct network_manager **ret, GError **error);
/* purge: the bridge, the table and the pool go too (a stopping engine leaves them while containers run). */
void network_close(struct network_manager *manager, bool purge);

struct network_port {
    char *host_ip;     /* "": all addresses, v4 and v6; "::" or another of IPv6: that alone */
    guint16 host_port; /* 0: an ephemeral one is chosen */
    guint16 container_port;
    char *protocol;        /* "tcp", "udp", "sctp" */
    guint16 host_port_end; /* of a request: the first free one from host_port to here; 0: host_port alone */
};

struct network_request {
    const char *container_id;
    const char *mac; /* or NULL */
    const char *ip;  /* wished address, or NULL */
    const struct network_port *ports;
    size_t n_ports;
};

/* A container's place on the bridge. */
struct network_endpoint {
    int netns_fd; /* the caller's (give it to the shim) */
    char ip[16], gateway[16], mac[18];
    unsigned prefix;
    char *sandbox_key;    /* path of the namespace file */
    char *interface_host; /* host side of the veth */
    char endpoint_id[65], sandbox_id[65];
    GArray *ports; /* of struct network_port, as bound (host_port chosen) */
    GArray
        *reserved_fds; /* of int: bound sockets that keep others off the ports; the shim holds them, and serves those of IPv6 */
    GArray *reserved_ports; /* of guint16: the container's port of each of reserved_fds */
};
/* Errors: 'driver failed programming external connectivity on endpoint NAME (ID): Error starting userland proxy: listen tcp4
 * 0.0.0.0:80: bind: address already in use', … */
bool network_attach(struct network_manager *manager, const char *container_name, const struct network_request *request,
                    struct network_endpoint **ret, GError **error);
/* Takes the ports out of the maps and the address back, deletes the veth and the namespace file. Idempotent. */
void network_detach(struct network_manager *manager, const char *container_id);
/* After a restart of tared: the container runs on with this endpoint; its address, ports and elements are taken as they are
 * (re-added where missing). */
bool network_restore(struct network_manager *manager, const char *container_id, const struct network_endpoint *endpoint,
                     GError **error);
/* Removes veths, namespace files and elements that belong to no container of the list (NULL-terminated ids). */
void network_sweep(struct network_manager *manager, const char *const *live_ids);
void network_endpoint_free(struct network_endpoint *endpoint);
/* To and from the record that the container keeps (without fds). */
json_t *network_endpoint_to_json(const struct network_endpoint *endpoint);
struct network_endpoint *network_endpoint_from_json(const json_t *record);

/* A fresh namespace with only lo up, for --network none (from the pool when there is one); fd or -1. */
int network_new_isolated(struct network_manager *manager, GError **error);

/* Contents of the generated files; g_free. */
char *network_hosts_file(const struct network_endpoint *endpoint, const char *hostname, const char *domainname,
                         const char *const *extra_hosts);
char *network_resolv_conf(struct network_manager *manager, const char *const *dns, const char *const *search,
                          const char *const *options, bool host_network);

/* The default networks as the API shows them ("bridge", "host", "none"): array for GET /networks; new reference. */
json_t *network_list(struct network_manager *manager);
