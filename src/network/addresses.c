/* Addresses of one subnet, and the choice of a subnet that the host does not use. */
#include "network/network-internal.h"

#include "base/parse.h"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <string.h>

struct address_pool {
    guint32 network, size; /* host order */
    unsigned prefix;
    guint8 *taken; /* a bit each */
    guint32 last;
    char *subnet;
};

static bool parse_subnet(const char *text, guint32 *ret_network, unsigned *ret_prefix)
{
    g_auto(GStrv) parts = g_strsplit(text, "/", 3);
    struct in_addr address;
    guint64 prefix;
    if (g_strv_length(parts) != 2 || inet_pton(AF_INET, parts[0], &address) != 1 || !parse_uint(parts[1], 30, &prefix) ||
        prefix < 8)
        return false;
    *ret_prefix = (unsigned)prefix;
    *ret_network = ntohl(address.s_addr) & ~(0xffffffffu >> prefix);
    return true;
}

bool address_pool_new(const char *subnet, struct address_pool **ret, GError **error)
{
    guint32 network;
    unsigned prefix;
    if (!parse_subnet(subnet, &network, &prefix))
        return error_set(error, TARE_ERROR_INVALID, "invalid subnet: %s", subnet);
    struct address_pool *pool = g_new0(struct address_pool, 1);
    pool->network = network;
    pool->prefix = prefix;
    pool->size = 1u << (32 - prefix);
    pool->taken = g_malloc0(pool->size / 8 + 1);
    pool->last = 1;
    struct in_addr shown = { .s_addr = htonl(network) };
    char text[INET_ADDRSTRLEN];
    pool->subnet = g_strdup_printf("%s/%u", inet_ntop(AF_INET, &shown, text, sizeof text), prefix);
    *ret = pool;
    return true;
}

void address_pool_free(struct address_pool *pool)
{
    if (!pool)
        return;
    g_free(pool->taken);
    g_free(pool->subnet);
    g_free(pool);
}

guint32 address_pool_gateway(const struct address_pool *pool)
{
    return htonl(pool->network + 1);
}

unsigned address_pool_prefix(const struct address_pool *pool)
{
    return pool->prefix;
}

const char *address_pool_subnet(const struct address_pool *pool)
{
    return pool->subnet;
}

static bool is_taken(const struct address_pool *pool, guint32 offset)
{
    return pool->taken[offset / 8] >> (offset % 8) & 1;
}

/* Not the network, the gateway or the broadcast address. */
static bool is_assignable(const struct address_pool *pool, guint32 offset)
{
    return offset >= 2 && offset < pool->size - 1;
}

bool address_pool_mark(struct address_pool *pool, guint32 address)
{
    guint32 offset = ntohl(address) - pool->network;
    if (!is_assignable(pool, offset) || is_taken(pool, offset))
        return false;
    pool->taken[offset / 8] |= (guint8)(1 << offset % 8);
    return true;
}

void address_pool_give(struct address_pool *pool, guint32 address)
{
    guint32 offset = ntohl(address) - pool->network;
    if (is_assignable(pool, offset))
        pool->taken[offset / 8] &= (guint8) ~(1 << offset % 8);
}

guint32 address_pool_take(struct address_pool *pool, const char *wished, GError **error)
{
    struct in_addr address;
    if (wished && *wished) {
        if (inet_pton(AF_INET, wished, &address) != 1) {
            error_set(error, TARE_ERROR_INVALID, "invalid IPv4 address: %s", wished);
            return 0;
        }
        if (!address_pool_mark(pool, address.s_addr)) {
            error_set(error, TARE_ERROR_FORBIDDEN, "Address already in use");
            return 0;
        }
        return address.s_addr;
    }
    for (guint32 step = 1; step <= pool->size; step++) {
        guint32 offset = (pool->last + step) % pool->size;
        if (is_assignable(pool, offset) && address_pool_mark(pool, htonl(pool->network + offset))) {
            pool->last = offset;
            return htonl(pool->network + offset);
        }
    }
    error_set(error, TARE_ERROR_UNAVAILABLE, "no available IPv4 addresses on this network's address pools: bridge");
    return 0;
}

/* ---- choosing ---- */

struct route {
    guint32 network;
    unsigned prefix;
};

static int take_route(const struct nlmsghdr *message, void *user)
{
    const struct rtmsg *header = mnl_nlmsg_get_payload(message);
    const struct nlattr *attribute;
    struct route route = { .prefix = header->rtm_dst_len };
    if (header->rtm_family != AF_INET || header->rtm_dst_len == 0)
        return MNL_CB_OK;
    mnl_attr_for_each(attribute, message,
                      sizeof *header) if (mnl_attr_get_type(attribute) == RTA_DST && mnl_attr_get_payload_len(attribute) == 4)
        route.network = ntohl(mnl_attr_get_u32(attribute));
    g_array_append_val((GArray *)user, route);
    return MNL_CB_OK;
}

static bool overlaps(const GArray *routes, guint32 network, unsigned prefix)
{
    for (guint i = 0; i < routes->len; i++) {
        const struct route *route = &g_array_index(routes, struct route, i);
        guint32 mask = ~(0xffffffffu >> MIN(prefix, route->prefix));
        if (((route->network ^ network) & mask) == 0)
            return true;
    }
    return false;
}

char *address_choose_subnet(GError **error)
{
    struct netlink *netlink = netlink_open(NETLINK_ROUTE, -1, error);
    if (!netlink)
        return NULL;
    g_autoptr(GArray) routes = g_array_new(FALSE, TRUE, sizeof(struct route));
    bool ok = netlink_dump(netlink, RTM_GETROUTE, AF_INET, take_route, routes, error);
    netlink_close(netlink);
    for (unsigned second = 17; ok && second <= 31; second++)
        if (!overlaps(routes, 172u << 24 | second << 16, 16))
            return g_strdup_printf("172.%u.0.0/16", second);
    for (unsigned third = 0; ok && third < 256; third += 16)
        if (!overlaps(routes, 192u << 24 | 168u << 16 | third << 8, 20))
            return g_strdup_printf("192.168.%u.0/20", third);
    if (ok)
        error_set(error, TARE_ERROR_UNAVAILABLE,
                  "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network");
    return NULL;
}
