/* The firewall: one static ruleset in a table of our own, loaded once by nft; published ports are elements of its maps, changed
 * over nfnetlink. */
#include "network/network-internal.h"

#include "base/fd.h"
#include "base/spawn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include <unistd.h>

#define MAP_EXACT "published"   /* host address . protocol . port → container address . port */
#define MAP_ANY "published_any" /* protocol . port → container address . port */

/* Deleting a table that is not there is an error of the whole file, so it is made first. */
static char *ruleset(const char *table, const char *bridge, const char *subnet)
{
    return g_strdup_printf("table ip %1$s\n"
                           "delete table ip %1$s\n"
                           "table ip %1$s {\n"
                           "  map " MAP_EXACT " { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }\n"
                           "  map " MAP_ANY " { type inet_proto . inet_service : ipv4_addr . inet_service; }\n"
                           "  chain publish {\n"
                           "    dnat ip to ip daddr . meta l4proto . th dport map @" MAP_EXACT "\n"
                           "    dnat ip to meta l4proto . th dport map @" MAP_ANY "\n"
                           "  }\n"
                           "  chain prerouting { type nat hook prerouting priority -105; policy accept; meta l4proto { tcp, udp, "
                           "sctp } fib daddr type local jump publish; }\n"
                           "  chain output { type nat hook output priority -105; policy accept; meta l4proto { tcp, udp, sctp } "
                           "fib daddr type local jump publish; }\n"
                           "  chain postrouting { type nat hook postrouting priority 95; policy accept;\n"
                           "    ip saddr %3$s oifname != \"%2$s\" masquerade\n"
                           "    oifname \"%2$s\" ip saddr 127.0.0.0/8 masquerade\n"
                           "    oifname \"%2$s\" ip saddr %3$s ct status dnat masquerade\n"
                           "  }\n"
                           "  chain forward { type filter hook forward priority -5; policy accept;\n"
                           "    oifname \"%2$s\" ct state established,related accept\n"
                           "    oifname \"%2$s\" ct status dnat accept\n"
                           "    oifname \"%2$s\" iifname != \"%2$s\" drop\n"
                           "  }\n"
                           "}\n",
                           table, bridge, subnet);
}

static bool run_nft(const char *text, GError **error)
{
    g_autofd int rules = fd_new_sealed("ruleset", text, strlen(text), error);
    if (rules < 0)
        return false;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "pipe");
    const char *argv[] = { "nft", "-f", "/proc/self/fd/3", NULL };
    struct spawn_fd fds[] = { { rules, 3 }, { ends[1], 2 }, { ends[1], 1 } };
    struct spawn_options options = { .argv = argv, .fds = fds, .n_fds = G_N_ELEMENTS(fds), .search_path = true };
    pid_t pid = spawn_program(&options, error);
    close(ends[1]);
    g_autofree char *said = NULL;
    if (pid > 0)
        fd_read_all(ends[0], 1 << 16, "nft", &said, NULL, NULL);
    close(ends[0]);
    if (pid < 0)
        return false;
    if (spawn_wait(pid) == 0)
        return true;
    return error_set(error, TARE_ERROR_INTERNAL, "nft refused the ruleset: %s", said ? g_strstrip(said) : "");
}

/* Another engine on this host may have set iptables' FORWARD policy to DROP, and an accept in our own table does not overrule
 * that. Where iptables is installed, two rules for our bridge go in front. No iptables: nobody can have set the policy through
 * it. */
static void open_iptables_forward(const char *bridge, bool open)
{
    static const char *const directions[] = { "-i", "-o" };
    for (size_t i = 0; i < G_N_ELEMENTS(directions); i++) {
        const char *check[] = { "iptables", "-w", "-C", "FORWARD", directions[i], bridge, "-j", "ACCEPT", NULL };
        const char *change[] = { "iptables", "-w", open ? "-I" : "-D", "FORWARD", directions[i], bridge, "-j", "ACCEPT", NULL };
        struct spawn_options options = { .argv = check, .search_path = true };
        pid_t pid = spawn_program(&options, NULL);
        if (pid < 0)
            return;
        bool is_there = spawn_wait(pid) == 0;
        options.argv = change;
        if (is_there != open && (pid = spawn_program(&options, NULL)) > 0)
            spawn_wait(pid);
    }
}

bool rules_load(const char *table, const char *bridge, const char *subnet, GError **error)
{
    g_autofree char *text = ruleset(table, bridge, subnet);
    if (!run_nft(text, error))
        return false;
    open_iptables_forward(bridge, true);
    return true;
}

void rules_unload(const char *table, const char *bridge)
{
    g_autofree char *text = g_strdup_printf("table ip %s\ndelete table ip %s\n", table, table);
    run_nft(text, NULL);
    open_iptables_forward(bridge, false);
}

/* ---- elements ---- */

static void put_batch_edge(struct netlink *netlink, guint16 type)
{
    struct nfgenmsg *header;
    netlink_add(netlink, type, 0, sizeof *header, (void **)&header, "nftables batch");
    *header = (struct nfgenmsg){ .nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES) };
}

static void put_value(struct nlmsghdr *message, guint16 type, const void *data, size_t length)
{
    struct nlattr *nest = mnl_attr_nest_start(message, type);
    mnl_attr_put(message, NFTA_DATA_VALUE, length, data);
    mnl_attr_nest_end(message, nest);
}

/* Parts of a concatenation stand in 4-byte cells. */
static size_t put_key(const struct published *element, guint8 ret[12])
{
    size_t at = 0;
    memset(ret, 0, 12);
    if (element->host_address) {
        memcpy(ret, &element->host_address, 4);
        at = 4;
    }
    ret[at] = element->protocol;
    guint16 port = htons(element->host_port);
    memcpy(ret + at + 4, &port, 2);
    return at + 8;
}

static bool put_element(struct netlink *netlink, const char *table, bool add, const struct published *element)
{
    struct nfgenmsg *header;
    guint8 key[12], target[8] = { 0 };
    size_t key_length = put_key(element, key);
    guint16 port = htons(element->port);
    memcpy(target, &element->address, 4);
    memcpy(target + 4, &port, 2);
    guint16 type = (NFNL_SUBSYS_NFTABLES << 8) | (add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM);
    struct nlmsghdr *message = netlink_add(netlink, type, NLM_F_ACK | (add ? NLM_F_CREATE : 0), sizeof *header, (void **)&header,
                                           add ? "publish port" : "unpublish port");
    if (!message)
        return false;
    *header = (struct nfgenmsg){ .nfgen_family = NFPROTO_IPV4, .version = NFNETLINK_V0 };
    mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, table);
    mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, element->host_address ? MAP_EXACT : MAP_ANY);
    struct nlattr *list = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
    struct nlattr *item = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
    put_value(message, NFTA_SET_ELEM_KEY, key, key_length);
    if (add)
        put_value(message, NFTA_SET_ELEM_DATA, target, sizeof target);
    mnl_attr_nest_end(message, item);
    mnl_attr_nest_end(message, list);
    return true;
}

static bool run_elements(struct netlink *netlink, const char *table, bool add, const struct published *elements, size_t n,
                         int *ret_errno, GError **error)
{
    put_batch_edge(netlink, NFNL_MSG_BATCH_BEGIN);
    for (size_t i = 0; i < n; i++)
        put_element(netlink, table, add, &elements[i]);
    put_batch_edge(netlink, NFNL_MSG_BATCH_END);
    return netlink_run(netlink, ret_errno, error);
}

bool rules_change(struct netlink *netlink, const char *table, bool add, const struct published *elements, size_t n,
                  GError **error)
{
    enum { STEP = 12 }; /* so many messages surely fit a batch */
    for (size_t at = 0; at < n; at += STEP) {
        size_t count = MIN(n - at, STEP);
        int problem = 0;
        g_autoptr(GError) refused = NULL;
        if (run_elements(netlink, table, add, elements + at, count, &problem, &refused))
            continue;
        /* A batch is all or nothing: with one element gone already, the others go one by one. */
        for (size_t i = 0; !add && i < count && count > 1; i++)
            run_elements(netlink, table, false, elements + at + i, 1, NULL, NULL);
        if (add)
            return g_propagate_error(error, g_steal_pointer(&refused)), false;
    }
    return true;
}
