/* A stock of ready network namespaces: making one and its veth costs milliseconds, which a background thread spends before
 * anybody waits. */
#include "network/network-internal.h"

#include "base/fd.h"

#include <sched.h>
#include <string.h>

struct namespace_pool {
    char *bridge;
    unsigned size;
    GMutex lock;
    GCond changed;
    GArray *stocks[2]; /* of struct ready: without and with veth */
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

/* Whether one is missing, and of which kind. */
static bool is_short(const struct namespace_pool *pool, bool *ret_with_veth)
{
    *ret_with_veth = pool->stocks[true]->len < pool->size;
    /* A host that refuses (no privilege, bridge deleted) is not asked for ever. */
    return (*ret_with_veth || pool->stocks[false]->len < pool->size) && pool->failures <= 3;
}

static gpointer fill(gpointer data)
{
    struct namespace_pool *pool = data;
    bool with_veth;
    /* Or it would take the processor from the start that has just taken one. */
    const struct sched_param no_priority = { 0 };
    sched_setscheduler(0, SCHED_BATCH, &no_priority);
    g_mutex_lock(&pool->lock);
    while (!pool->stopping) {
        if (!is_short(pool, &with_veth)) {
            g_cond_wait(&pool->changed, &pool->lock);
            continue;
        }
        g_mutex_unlock(&pool->lock);
        struct ready made;
        bool ok = make_ready(pool->bridge, with_veth, &made, NULL);
        g_mutex_lock(&pool->lock);
        pool->failures = ok ? 0 : pool->failures + 1;
        if (ok)
            g_array_append_val(pool->stocks[with_veth], made);
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
    for (size_t i = 0; i < G_N_ELEMENTS(pool->stocks); i++)
        pool->stocks[i] = g_array_new(FALSE, TRUE, sizeof(struct ready));
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
    for (size_t k = 0; k < G_N_ELEMENTS(pool->stocks); k++) {
        for (guint i = 0; i < pool->stocks[k]->len; i++)
            fd_close(g_array_index(pool->stocks[k], struct ready, i).netns_fd);
        g_array_unref(pool->stocks[k]);
    }
    g_mutex_clear(&pool->lock);
    g_cond_clear(&pool->changed);
    g_free(pool->bridge);
    g_free(pool);
}

bool namespace_pool_take(struct namespace_pool *pool, bool with_veth, struct ready *ret, GError **error)
{
    bool found = false;
    g_mutex_lock(&pool->lock);
    GArray *stock = pool->stocks[with_veth];
    if (stock->len > 0) {
        *ret = g_array_index(stock, struct ready, stock->len - 1);
        g_array_set_size(stock, stock->len - 1);
        found = true;
    }
    pool->failures = 0;
    g_cond_broadcast(&pool->changed);
    g_mutex_unlock(&pool->lock);
    return found || make_ready(pool->bridge, with_veth, ret, error);
}
