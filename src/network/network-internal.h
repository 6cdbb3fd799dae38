/* Shared by the files of this directory only. */
#pragma once

#include "network/network.h"

#include <libmnl/libmnl.h>
#include <netinet/in.h>

/* ---- netlink.c: requests in batches, each acknowledged ---- */

/* A netlink socket and a batch of requests for it. Not thread-safe. */
struct netlink;
/* protocol: NETLINK_ROUTE, NETLINK_NETFILTER. netns_fd: the namespace it works in, or -1. */
struct netlink *netlink_open(int protocol, int netns_fd, GError **error);
void netlink_close(struct netlink *netlink);
/* Begins a request of this type with a zeroed family header; attributes follow with mnl_attr_put…. what is for errors and must be
 * static. */
struct nlmsghdr *netlink_add(struct netlink *netlink, guint16 type, guint16 flags, size_t header_size, void **ret_header,
                             const char *what);
/* Sends all requests since the last run; the first refused one is the error ("<what>: <errno text>"); *ret_errno (may be NULL) is
 * its errno. */
bool netlink_run(struct netlink *netlink, int *ret_errno, GError **error);
/* Asks the kernel for a list; each message goes to the callback. */
bool netlink_dump(struct netlink *netlink, guint16 type, guint8 family, mnl_cb_t callback, void *user, GError **error);

/* ---- links.c ---- */
bool link_make_bridge(struct netlink *netlink, const char *name, guint32 address, unsigned prefix, GError **error);
bool link_index(const char *name, unsigned *ret, GError **error);
/* veth: host end attached to the bridge and up, peer named eth0 inside the namespace. */
bool link_make_veth(struct netlink *netlink, const char *host_name, unsigned bridge_index, int netns_fd, GError **error);
/* Inside a namespace: lo up; and eth0 with its addresses and default route. */
bool link_raise_loopback(int netns_fd, GError **error);
bool link_configure(int netns_fd, const char *mac, guint32 address, unsigned prefix, guint32 gateway, GError **error);
/* Absent is success. */
bool link_delete(struct netlink *netlink, const char *name, GError **error);
/* A fresh network namespace; fd or -1. The calling thread's own namespace is unchanged. */
int namespace_new(GError **error);

/* ---- rules.c ---- */
struct published {
    guint32 host_address; /* network order; 0: all */
    guint16 host_port;
    guint8 protocol; /* IPPROTO_TCP … */
    guint32 address; /* the container's, network order */
    guint16 port;
};
bool rules_load(const char *table, const char *bridge, const char *subnet, GError **error);
void rules_unload(const char *table, const char *bridge);
/* Adds or deletes elements, all in one batch; a missing element at deletion is no error. */
bool rules_change(struct netlink *netlink, const char *table, bool add, const struct published *elements, size_t n,
                  GError **error);

/* ---- ports.c ---- */
int protocol_number(const char *name); /* tcp, udp, sctp; -1 */
const char *protocol_name(int number);
/* Whether it is for an address of IPv6, which no element of the maps can be. */
bool port_is_v6(const struct network_port *port, struct in6_addr *ret);
/* Binds a socket (IPv6: and listens) on the port so that nobody else on the host can: appends fds; chooses a port where 0. */
bool port_reserve(struct network_port *port, GArray *fds, GError **error);

/* ---- addresses.c ---- */
struct address_pool;
/* "172.17.0.0/16"; the first address is the gateway. */
bool address_pool_new(const char *subnet, struct address_pool **ret, GError **error);
/* The first of Docker's default pools that no route of the host touches. g_free. */
char *address_choose_subnet(GError **error);
void address_pool_free(struct address_pool *pool);
guint32 address_pool_gateway(const struct address_pool *pool); /* network order */
unsigned address_pool_prefix(const struct address_pool *pool);
const char *address_pool_subnet(const struct address_pool *pool);
/* The next free one after the last given (round robin, so that an address rests before it is used again), or the wished one.
 * Network order; 0 and error. */
guint32 address_pool_take(struct address_pool *pool, const char *wished, GError **error);
bool address_pool_mark(struct address_pool *pool, guint32 address);
void address_pool_give(struct address_pool *pool, guint32 address);

/* ---- pool.c: ready namespaces ---- */
struct ready {
    int netns_fd;
    char host_name[16]; /* "" where it has no veth */
};
struct namespace_pool;
struct namespace_pool *namespace_pool_new(const char *bridge, unsigned size);
void namespace_pool_free(struct namespace_pool *pool);
/* A namespace with lo up and, where with_veth, a veth on the bridge: from stock or made now. */
bool namespace_pool_take(struct namespace_pool *pool, bool with_veth, struct ready *ret, GError **error);

/* ---- manager.c ---- */
/* Frees what a struct network_port holds; a clear function for arrays of them. */
void network_port_clear(gpointer port);
/* Servers from the engine's configuration, or NULL. */
const char *const *manager_dns(const struct network_manager *manager);
