/* A stock of ready network namespaces: making one and its veth costs milliseconds, which a background thread spends before
 * anybody waits. */
#include "network/network-internal.h"

#include "base/fd.h"

#include <string.h>

struct namespace_pool {
    char *bridge;
    unsigned size;
    GMutex lock;
    GCond changed;
    GArray *stock; /* of struct ready, with veth */
    GThread *filler;
    bool stopping;
    unsigned failures;
};

static bool make_ready(const char *bridge, bool with_veth, struct ready *ret, GError **error)
{
    struct ready made = { .netns_fd = namespace_new(error) };
    if (made.netns_fd < 0)
        return false;
    bool ok = link_raise_loopback(made.netns_fd, error);
    if (ok && with_veth) {
        unsigned bridge_index;
        g_snprintf(made.host_name, sizeof made.host_name, "veth%07x", g_random_int() & 0xfffffff);
        struct netlink *netlink = netlink_open(NETLINK_ROUTE, -1, error);
        ok = netlink && link_index(bridge, &bridge_index, error) &&
             link_make_veth(netlink, made.host_name, bridge_index, made.netns_fd, error);
        netlink_close(netlink);
    }
    if (!ok) {
        fd_close(made.netns_fd);
        return false;
    }
    *ret = made;
    return true;
}

static gpointer fill(gpointer data)
{
    struct namespace_pool *pool = data;
    g_mutex_lock(&pool->lock);
    while (!pool->stopping) {
        /* A host that refuses (no privilege, bridge deleted) is not asked for ever. */
        if (pool->stock->len >= pool->size || pool->failures > 3) {
            g_cond_wait(&pool->changed, &pool->lock);
            continue;
        }
        g_mutex_unlock(&pool->lock);
        struct ready made;
        bool ok = make_ready(pool->bridge, true, &made, NULL);
        g_mutex_lock(&pool->lock);
        pool->failures = ok ? 0 : pool->failures + 1;
        if (ok)
            g_array_append_val(pool->stock, made);
    }
    g_mutex_unlock(&pool->lock);
    return NULL;
}

struct namespace_pool *namespace_pool_new(const char *bridge, unsigned size)
{
    struct namespace_pool *pool = g_new0(struct namespace_pool, 1);
    pool->bridge = g_strdup(bridge);
    pool->size = size;
    g_mutex_init(&pool->lock);
    g_cond_init(&pool->changed);
    pool->stock = g_array_new(FALSE, TRUE, sizeof(struct ready));
    if (size > 0)
        pool->filler = g_thread_new("netns-pool", fill, pool);
    return pool;
}

void namespace_pool_free(struct namespace_pool *pool)
{
    if (!pool)
        return;
    g_mutex_lock(&pool->lock);
    pool->stopping = true;
    g_cond_broadcast(&pool->changed);
    g_mutex_unlock(&pool->lock);
    if (pool->filler)
        g_thread_join(pool->filler);
    /* The veth goes with its namespace when the last fd does. */
    for (guint i = 0; i < pool->stock->len; i++)
        fd_close(g_array_index(pool->stock, struct ready, i).netns_fd);
    g_array_unref(pool->stock);
    g_mutex_clear(&pool->lock);
    g_cond_clear(&pool->changed);
    g_free(pool->bridge);
    g_free(pool);
}

bool namespace_pool_take(struct namespace_pool *pool, bool with_veth, struct ready *ret, GError **error)
{
    bool found = false;
    g_mutex_lock(&pool->lock);
    if (with_veth && pool->stock->len > 0) {
        *ret = g_array_index(pool->stock, struct ready, pool->stock->len - 1);
        g_array_set_size(pool->stock, pool->stock->len - 1);
        found = true;
    }
    pool->failures = 0;
    g_cond_broadcast(&pool->changed);
    g_mutex_unlock(&pool->lock);
    return found || make_ready(pool->bridge, with_veth, ret, error);
}
