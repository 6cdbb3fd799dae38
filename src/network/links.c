/* Bridge, veth pairs and what a namespace has in it. */
#include "network/network-internal.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ASK (NLM_F_ACK)
#define MAKE (NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)

bool link_index(const char *name, unsigned *ret, GError **error)
{
    *ret = if_nametoindex(name);
    return *ret != 0 || error_set_errno(error, errno, "network interface %s", name);
}

static void add_address(struct netlink *netlink, unsigned index, guint32 address, unsigned prefix)
{
    struct ifaddrmsg *header;
    struct nlmsghdr *message = netlink_add(netlink, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, sizeof *header,
                                           (void **)&header, "set address");
    guint32 broadcast = address | htonl(prefix < 32 ? 0xffffffffu >> prefix : 0);
    *header = (struct ifaddrmsg){ .ifa_family = AF_INET, .ifa_prefixlen = (guint8)prefix, .ifa_index = index };
    mnl_attr_put_u32(message, IFA_LOCAL, address);
    mnl_attr_put_u32(message, IFA_ADDRESS, address);
    mnl_attr_put_u32(message, IFA_BROADCAST, broadcast);
}

static void raise_link(struct netlink *netlink, unsigned index, const char *what)
{
    struct ifinfomsg *header;
    netlink_add(netlink, RTM_NEWLINK, ASK, sizeof *header, (void **)&header, what);
    *header = (struct ifinfomsg){ .ifi_family = AF_UNSPEC, .ifi_index = (int)index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
}

/* A bridge without a hardware address of its own has the lowest of its ports', so that its address changes when a container, or
 * a pair kept in stock, comes or goes; what the others have learned of it is then wrong until their next question. This one is
 * made from the IPv4 address, as the containers' are. */
static void put_bridge_mac(struct nlmsghdr *message, guint32 address)
{
    guint8 mac[6] = { 0x02, 0x42 };
    memcpy(mac + 2, &address, sizeof address);
    mnl_attr_put(message, IFLA_ADDRESS, sizeof mac, mac);
}

bool link_make_bridge(struct netlink *netlink, const char *name, guint32 address, unsigned prefix, GError **error)
{
    int problem = 0;
    struct ifinfomsg *header;
    struct nlmsghdr *message = netlink_add(netlink, RTM_NEWLINK, MAKE, sizeof *header, (void **)&header, "make bridge");
    *header = (struct ifinfomsg){ .ifi_family = AF_UNSPEC };
    mnl_attr_put_strz(message, IFLA_IFNAME, name);
    put_bridge_mac(message, address);
    struct nlattr *info = mnl_attr_nest_start(message, IFLA_LINKINFO);
    mnl_attr_put_strz(message, IFLA_INFO_KIND, "bridge");
    mnl_attr_nest_end(message, info);
    g_autoptr(GError) refused = NULL;
    if (!netlink_run(netlink, &problem, &refused) && problem != EEXIST) {
        g_propagate_prefixed_error(error, g_steal_pointer(&refused), "bridge %s: ", name);
        return false;
    }
    unsigned index;
    if (!link_index(name, &index, error))
        return false;
    add_address(netlink, index, address, prefix);
    raise_link(netlink, index, "raise bridge");
    return netlink_run(netlink, NULL, error);
}

/* Hairpin: a container reaches its own published port through the bridge port that it came from. Needed where bridged packets
 * pass the firewall (br_netfilter), which sends a translated packet straight back. */
static void set_hairpin(struct netlink *netlink, const char *host_name)
{
    struct ifinfomsg *header;
    struct nlmsghdr *message = netlink_add(netlink, RTM_NEWLINK, ASK, sizeof *header, (void **)&header, "set hairpin mode");
    *header = (struct ifinfomsg){ .ifi_family = AF_UNSPEC };
    mnl_attr_put_strz(message, IFLA_IFNAME, host_name);
    struct nlattr *info = mnl_attr_nest_start(message, IFLA_LINKINFO);
    mnl_attr_put_strz(message, IFLA_INFO_SLAVE_KIND, "bridge");
    struct nlattr *data = mnl_attr_nest_start(message, IFLA_INFO_SLAVE_DATA);
    mnl_attr_put_u8(message, IFLA_BRPORT_MODE, 1);
    mnl_attr_nest_end(message, data);
    mnl_attr_nest_end(message, info);
}

bool link_make_veth(struct netlink *netlink, const char *host_name, unsigned bridge_index, int netns_fd, GError **error)
{
    struct ifinfomsg *header;
    struct nlmsghdr *message = netlink_add(netlink, RTM_NEWLINK, MAKE, sizeof *header, (void **)&header, "make veth pair");
    *header = (struct ifinfomsg){ .ifi_family = AF_UNSPEC, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
    mnl_attr_put_strz(message, IFLA_IFNAME, host_name);
    mnl_attr_put_u32(message, IFLA_MASTER, bridge_index);
    struct nlattr *info = mnl_attr_nest_start(message, IFLA_LINKINFO);
    mnl_attr_put_strz(message, IFLA_INFO_KIND, "veth");
    struct nlattr *data = mnl_attr_nest_start(message, IFLA_INFO_DATA);
    struct nlattr *peer = mnl_attr_nest_start(message, VETH_INFO_PEER);
    mnl_nlmsg_put_extra_header(message, sizeof(struct ifinfomsg));
    mnl_attr_put_strz(message, IFLA_IFNAME, "eth0");
    mnl_attr_put_u32(message, IFLA_NET_NS_FD, (guint32)netns_fd);
    mnl_attr_nest_end(message, peer);
    mnl_attr_nest_end(message, data);
    mnl_attr_nest_end(message, info);
    set_hairpin(netlink, host_name);
    return netlink_run(netlink, NULL, error);
}

bool link_raise_loopback(int netns_fd, GError **error)
{
    struct netlink *netlink = netlink_open(NETLINK_ROUTE, netns_fd, error);
    if (!netlink)
        return false;
    raise_link(netlink, 1, "raise loopback"); /* lo is always the first of a namespace */
    bool ok = netlink_run(netlink, NULL, error);
    netlink_close(netlink);
    return ok;
}

static int take_index(const struct nlmsghdr *message, void *user)
{
    const struct ifinfomsg *header = mnl_nlmsg_get_payload(message);
    const struct nlattr *attribute;
    mnl_attr_for_each(attribute, message, sizeof *header) if (mnl_attr_get_type(attribute) == IFLA_IFNAME &&
                                                              strcmp(mnl_attr_get_str(attribute), "eth0") == 0) *
        (unsigned *)user = (unsigned)header->ifi_index;
    return MNL_CB_OK;
}

static bool mac_bytes(const char *text, guint8 ret[6])
{
    unsigned parts[6];
    char end;
    if (strlen(text) != 17 ||
        sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &parts[0], &parts[1], &parts[2], &parts[3], &parts[4], &parts[5], &end) != 6)
        return false;
    for (int i = 0; i < 6; i++)
        ret[i] = (guint8)parts[i];
    return true;
}

static void set_mac_and_raise(struct netlink *netlink, unsigned index, const guint8 mac[6])
{
    struct ifinfomsg *header;
    struct nlmsghdr *message = netlink_add(netlink, RTM_NEWLINK, ASK, sizeof *header, (void **)&header, "raise eth0");
    *header = (struct ifinfomsg){ .ifi_family = AF_UNSPEC, .ifi_index = (int)index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
    mnl_attr_put(message, IFLA_ADDRESS, 6, mac);
}

static void add_default_route(struct netlink *netlink, unsigned index, guint32 gateway)
{
    struct rtmsg *header;
    struct nlmsghdr *message =
        netlink_add(netlink, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE, sizeof *header, (void **)&header, "set default route");
    *header = (struct rtmsg){ .rtm_family = AF_INET,
                              .rtm_table = RT_TABLE_MAIN,
                              .rtm_protocol = RTPROT_BOOT,
                              .rtm_scope = RT_SCOPE_UNIVERSE,
                              .rtm_type = RTN_UNICAST };
    mnl_attr_put_u32(message, RTA_GATEWAY, gateway);
    mnl_attr_put_u32(message, RTA_OIF, index);
}

bool link_configure(int netns_fd, const char *mac, guint32 address, unsigned prefix, guint32 gateway, GError **error)
{
    guint8 mac_raw[6];
    unsigned index = 0;
    if (!mac_bytes(mac, mac_raw))
        return error_set(error, TARE_ERROR_INVALID, "invalid MAC address: %s", mac);
    struct netlink *netlink = netlink_open(NETLINK_ROUTE, netns_fd, error);
    if (!netlink)
        return false;
    bool ok = netlink_dump(netlink, RTM_GETLINK, AF_UNSPEC, take_index, &index, error) &&
              (index || error_set(error, TARE_ERROR_INTERNAL, "no eth0 in the container's namespace"));
    if (ok) {
        add_address(netlink, index, address, prefix);
        set_mac_and_raise(netlink, index, mac_raw);
        add_default_route(netlink, index, gateway);
        ok = netlink_run(netlink, NULL, error);
    }
    netlink_close(netlink);
    return ok;
}

bool link_delete(struct netlink *netlink, const char *name, GError **error)
{
    int problem = 0;
    struct ifinfomsg *header;
    struct nlmsghdr *message = netlink_add(netlink, RTM_DELLINK, ASK, sizeof *header, (void **)&header, "delete link");
    *header = (struct ifinfomsg){ .ifi_family = AF_UNSPEC };
    mnl_attr_put_strz(message, IFLA_IFNAME, name);
    g_autoptr(GError) refused = NULL;
    if (netlink_run(netlink, &problem, &refused) || problem == ENODEV)
        return true;
    g_propagate_error(error, g_steal_pointer(&refused));
    return false;
}

int namespace_new(GError **error)
{
    g_autofd int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (own < 0 || unshare(CLONE_NEWNET) < 0) {
        error_set_errno(error, errno, "make network namespace");
        return -1;
    }
    int fresh = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    int saved = errno;
    if (setns(own, CLONE_NEWNET) < 0)
        g_error("cannot return to the host's network namespace");
    if (fresh < 0)
        error_set_errno(error, saved, "open network namespace");
    return fresh;
}
