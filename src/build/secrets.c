/* What a client lends a build: secrets by id, and connections to its ssh agents. They come in a request of their own before the
 * build's and wait here, under an id that is good for one build. */
#include "base/fd.h"
#include "base/identifier.h"
#include "build/build-internal.h"

#include <string.h>

#define OFFERS_MAX 64                           /* connections to one agent that wait to be used */
#define LENT_MAX 100                            /* builds that have not begun */
#define LENT_SECONDS 600                        /* for a build to begin */
#define CONNECT_SECONDS 10                      /* for a client to offer a connection */
#define WAIT_US (200 * G_TIME_SPAN_MILLISECOND) /* between looks at the cancel */

struct build_secrets {
    gatomicrefcount references;
    GHashTable *secrets; /* id → GByteArray * */
    GMutex lock;
    GCond offered;
    GHashTable *agents; /* id → GQueue of fds */
};

static void wipe(GByteArray *bytes)
{
    explicit_bzero(bytes->data, bytes->len);
    g_byte_array_unref(bytes);
}

static void close_all(GQueue *fds)
{
    while (!g_queue_is_empty(fds))
        fd_close(GPOINTER_TO_INT(g_queue_pop_head(fds)));
    g_queue_free(fds);
}

struct build_secrets *build_secrets_new(void)
{
    struct build_secrets *secrets = g_new0(struct build_secrets, 1);

    g_atomic_ref_count_init(&secrets->references);
    g_mutex_init(&secrets->lock);
    g_cond_init(&secrets->offered);
    secrets->secrets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)wipe);
    secrets->agents = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)close_all);
    return secrets;
}

struct build_secrets *build_secrets_ref(struct build_secrets *secrets)
{
    g_atomic_ref_count_inc(&secrets->references);
    return secrets;
}

void build_secrets_unref(struct build_secrets *secrets)
{
    if (!secrets || !g_atomic_ref_count_dec(&secrets->references))
        return;
    g_hash_table_unref(secrets->secrets);
    g_hash_table_unref(secrets->agents);
    g_mutex_clear(&secrets->lock);
    g_cond_clear(&secrets->offered);
    g_free(secrets);
}

static bool check_id(const struct build_secrets *secrets, const char *id, GError **error)
{
    if (!*id || strlen(id) > 255)
        return error_set(error, TARE_ERROR_INVALID, "invalid id of a secret or ssh agent");
    if (g_hash_table_size(secrets->secrets) + g_hash_table_size(secrets->agents) >= BUILD_SECRETS_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "more than %d secrets and ssh agents", BUILD_SECRETS_MAX);
    return true;
}

bool build_secrets_add(struct build_secrets *secrets, const char *id, const void *data, gsize length, GError **error)
{
    GByteArray *bytes;

    if (!check_id(secrets, id, error))
        return false;
    if (length > BUILD_SECRET_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "secret %s: larger than %u bytes", id, BUILD_SECRET_MAX);
    bytes = g_byte_array_sized_new((guint)MAX(length, 1)); /* at once: growing would leave copies behind */
    g_byte_array_append(bytes, data, (guint)length);
    g_hash_table_replace(secrets->secrets, g_strdup(id), bytes);
    return true;
}

bool build_secrets_add_agent(struct build_secrets *secrets, const char *id, GError **error)
{
    if (!check_id(secrets, id, error))
        return false;
    g_hash_table_replace(secrets->agents, g_strdup(id), g_queue_new());
    return true;
}

const GByteArray *build_secrets_find(const struct build_secrets *secrets, const char *id)
{
    return secrets ? g_hash_table_lookup(secrets->secrets, id) : NULL;
}

bool build_secrets_has_agent(const struct build_secrets *secrets, const char *id)
{
    return secrets && g_hash_table_contains(secrets->agents, id);
}

/* ---- agents ---- */

static bool offer(struct build_secrets *secrets, const char *id, int connection, GError **error)
{
    bool good = false;
    GQueue *fds;

    g_mutex_lock(&secrets->lock);
    fds = g_hash_table_lookup(secrets->agents, id);
    if (fds && g_queue_get_length(fds) < OFFERS_MAX) {
        g_queue_push_tail(fds, GINT_TO_POINTER(connection));
        g_cond_broadcast(&secrets->offered);
        good = true;
    }
    g_mutex_unlock(&secrets->lock);
    return good || error_set(error, fds ? TARE_ERROR_TOO_LARGE : TARE_ERROR_NOT_FOUND,
                             fds ? "too many connections for ssh agent %s" : "no such ssh agent: %s", id);
}

int build_secrets_connect(struct build_secrets *secrets, const char *id, struct cancel *cancel, GError **error)
{
    gint64 end = g_get_monotonic_time() + CONNECT_SECONDS * G_TIME_SPAN_SECOND;
    int connection = -1;
    GQueue *fds;

    g_mutex_lock(&secrets->lock);
    fds = g_hash_table_lookup(secrets->agents, id);
    while (fds && g_queue_is_empty(fds) && !cancel_is_set(cancel) && g_get_monotonic_time() < end)
        g_cond_wait_until(&secrets->offered, &secrets->lock, g_get_monotonic_time() + WAIT_US);
    if (fds && !g_queue_is_empty(fds))
        connection = GPOINTER_TO_INT(g_queue_pop_head(fds));
    g_mutex_unlock(&secrets->lock);
    if (connection < 0)
        error_set(error, TARE_ERROR_UNAVAILABLE, "the client offers no connection to ssh agent %s", id);
    return connection;
}

/* ---- between their request and the build's ---- */

struct lent {
    struct build_secrets *secrets;
    gint64 made;
    bool taken;
};

static void lent_free(struct lent *lent)
{
    build_secrets_unref(lent->secrets);
    g_free(lent);
}

void secrets_open(struct builder *builder)
{
    g_mutex_init(&builder->lent_lock);
    builder->lent = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)lent_free);
}

void secrets_close(struct builder *builder)
{
    g_hash_table_unref(builder->lent);
    g_mutex_clear(&builder->lent_lock);
}

static gboolean is_stale(gpointer key, gpointer value, gpointer user)
{
    const struct lent *lent = value;

    return !lent->taken && lent->made + LENT_SECONDS * G_TIME_SPAN_SECOND < g_get_monotonic_time();
}

bool builder_lend_secrets(struct builder *builder, struct build_secrets *secrets, char **ret_id, GError **error)
{
    char id[IDENTIFIER_LENGTH + 1];
    struct lent *lent;
    bool good;

    identifier_new(id);
    g_mutex_lock(&builder->lent_lock);
    g_hash_table_foreach_remove(builder->lent, is_stale, NULL);
    good = g_hash_table_size(builder->lent) < LENT_MAX;
    if (good) {
        lent = g_new0(struct lent, 1);
        lent->secrets = build_secrets_ref(secrets);
        lent->made = g_get_monotonic_time();
        g_hash_table_insert(builder->lent, g_strdup(id), lent);
        *ret_id = g_strdup(id);
    }
    g_mutex_unlock(&builder->lent_lock);
    return good || error_set(error, TARE_ERROR_TOO_LARGE, "too many builds wait with their secrets");
}

bool builder_take_secrets(struct builder *builder, const char *id, struct build_secrets **ret, GError **error)
{
    struct lent *lent;
    bool good;

    g_mutex_lock(&builder->lent_lock);
    lent = g_hash_table_lookup(builder->lent, id);
    good = lent && !lent->taken;
    if (good) {
        lent->taken = true;
        *ret = build_secrets_ref(lent->secrets);
    }
    g_mutex_unlock(&builder->lent_lock);
    return good || error_set(error, TARE_ERROR_NOT_FOUND, "no secrets wait for this build");
}

void builder_drop_secrets(struct builder *builder, const char *id)
{
    g_mutex_lock(&builder->lent_lock);
    g_hash_table_remove(builder->lent, id);
    g_mutex_unlock(&builder->lent_lock);
}

bool builder_offer_agent(struct builder *builder, const char *id, const char *agent, int connection, GError **error)
{
    struct build_secrets *secrets = NULL;
    struct lent *lent;
    bool good;

    g_mutex_lock(&builder->lent_lock);
    lent = g_hash_table_lookup(builder->lent, id);
    if (lent)
        secrets = build_secrets_ref(lent->secrets);
    g_mutex_unlock(&builder->lent_lock);
    if (!secrets)
        return error_set(error, TARE_ERROR_NOT_FOUND, "no secrets wait for this build");
    good = offer(secrets, agent, connection, error);
    build_secrets_unref(secrets);
    return good;
}
