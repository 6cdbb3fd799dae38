/* What a client lends a build: secrets by id, and which ssh agents it has. */
#include "build/build-internal.h"

#include <string.h>

struct build_secrets {
    gatomicrefcount references;
    GHashTable *secrets; /* id → GByteArray * */
    GHashTable *agents;  /* a set of ids */
    build_agent_func connect;
    void *user;
};

static void wipe(GByteArray *bytes)
{
    explicit_bzero(bytes->data, bytes->len);
    g_byte_array_unref(bytes);
}

struct build_secrets *build_secrets_new(void)
{
    struct build_secrets *secrets = g_new0(struct build_secrets, 1);

    g_atomic_ref_count_init(&secrets->references);
    secrets->secrets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)wipe);
    secrets->agents = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
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
    g_hash_table_add(secrets->agents, g_strdup(id));
    return true;
}

void build_secrets_set_connect(struct build_secrets *secrets, build_agent_func connect, void *user)
{
    secrets->connect = connect;
    secrets->user = user;
}

const GByteArray *build_secrets_find(const struct build_secrets *secrets, const char *id)
{
    return secrets ? g_hash_table_lookup(secrets->secrets, id) : NULL;
}

bool build_secrets_has_agent(const struct build_secrets *secrets, const char *id)
{
    return secrets && secrets->connect && g_hash_table_contains(secrets->agents, id);
}

int build_secrets_connect(struct build_secrets *secrets, const char *id, struct cancel *cancel, GError **error)
{
    return secrets->connect(secrets->user, id, cancel, error);
}
