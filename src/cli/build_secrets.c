/* build --secret and --ssh: what is lent to a build goes to the engine in a request of its own, and connections to ssh agents are
 * offered one after the other while the build runs. */
#include "cli/build-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { SECRET_MAX = 500 << 10, CHUNK = 16384 };

struct agent {
    struct cli *cli;
    char *id, *socket_path, *build_id;
};

/* ---- secrets ---- */

struct secret {
    char *id, *path, *variable;
    bool is_variable;
};

static void secret_clear(struct secret *secret)
{
    g_free(secret->id);
    g_free(secret->path);
    g_free(secret->variable);
}

static bool parse_secret(const char *text, struct secret *secret, GError **error)
{
    g_auto(GStrv) fields = g_strsplit(text, ",", 8);
    for (char **field = fields; *field; field++) {
        const char *equals = strchr(*field, '='), *value = equals ? equals + 1 : "";
        g_autofree char *key = g_ascii_strdown(*field, equals ? equals - *field : -1);
        char **member = strcmp(key, "id") == 0                                  ? &secret->id
                        : strcmp(key, "src") == 0 || strcmp(key, "source") == 0 ? &secret->path
                        : strcmp(key, "env") == 0                               ? &secret->variable
                                                                                : NULL;
        if (!equals)
            return error_set(error, TARE_ERROR_INVALID, "invalid field '%s' must be a key=value pair", *field);
        if (strcmp(key, "type") == 0) {
            if (strcmp(value, "file") != 0 && strcmp(value, "env") != 0)
                return error_set(error, TARE_ERROR_INVALID, "unsupported secret type \"%s\"", value);
            secret->is_variable = strcmp(value, "env") == 0;
            continue;
        }
        if (!member)
            return error_set(error, TARE_ERROR_INVALID, "unexpected key '%s' in '%s'", key, *field);
        g_free(*member);
        *member = g_strdup(value);
    }
    if (!secret->id || !*secret->id)
        return error_set(error, TARE_ERROR_INVALID, "a secret needs an id: %s", text);
    return true;
}

/* A variable where that is said or where one has the id's name; else a file, by the id where no path is given. */
static void settle_source(struct secret *secret)
{
    if (secret->is_variable && !secret->variable)
        secret->variable = g_steal_pointer(&secret->path);
    if (secret->variable || secret->path)
        return;
    if (g_getenv(secret->id))
        secret->variable = g_strdup(secret->id);
    else
        secret->path = g_strdup(secret->id);
}

static bool read_secret(const struct secret *secret, char **ret, size_t *ret_length, GError **error)
{
    if (secret->variable) {
        const char *value = g_getenv(secret->variable);
        if (!value)
            return error_set(error, TARE_ERROR_INVALID, "secret %s: the variable %s is not set", secret->id, secret->variable);
        *ret = g_strdup(value);
        *ret_length = strlen(value);
        return true;
    }
    g_autofd int fd = secret->path ? open(secret->path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return error_set(error, TARE_ERROR_INVALID, "failed to stat %s: %s", secret->path, error_errno_text(errno));
    return fd_read_all(fd, SECRET_MAX, secret->path, ret, ret_length, error);
}

static bool add_secret(json_t *secrets, const char *text, GError **error)
{
    struct secret secret = { 0 };
    char *value = NULL;
    size_t length = 0;
    bool ok = parse_secret(text, &secret, error);
    if (ok) {
        settle_source(&secret);
        ok = read_secret(&secret, &value, &length, error);
    }
    if (ok) {
        g_autofree char *encoded = g_base64_encode((const guchar *)value, length);
        json_object_set_new(secrets, secret.id, json_string(encoded));
        if (length > 0)
            explicit_bzero(value, length);
    }
    free(value);
    secret_clear(&secret);
    return ok;
}

/* ---- agents ---- */

static GPtrArray *own_agents; /* of struct build_keys * */

void build_return_secrets(void)
{
    g_clear_pointer(&own_agents, g_ptr_array_unref);
}

/* The socket of an agent that has the keys of these files; borrowed. */
static const char *serve_keys(const char *list, GError **error)
{
    const char *socket_path;
    struct build_keys *keys = build_keys_new(list, &socket_path, error);
    if (!keys)
        return NULL;
    if (!own_agents)
        own_agents = g_ptr_array_new_with_free_func((GDestroyNotify)build_keys_free);
    g_ptr_array_add(own_agents, keys);
    return socket_path;
}

static bool add_agent(struct cli *cli, GPtrArray *agents, const char *text, GError **error)
{
    const char *equals = strchr(text, '='), *path = equals ? equals + 1 : g_getenv("SSH_AUTH_SOCK");
    struct stat st;
    if (!path || !*path)
        return error_set(error, TARE_ERROR_INVALID, "invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set");
    g_autofree char *first = g_strndup(path, strcspn(path, ","));
    if (stat(first, &st) < 0)
        return error_set(error, TARE_ERROR_INVALID, "failed to stat %s: %s", first, error_errno_text(errno));
    if (!S_ISSOCK(st.st_mode) && !(path = serve_keys(path, error)))
        return false;
    struct agent *agent = g_new0(struct agent, 1);
    agent->cli = cli;
    agent->id = g_strndup(text, strcspn(text, "="));
    agent->socket_path = g_strdup(path);
    g_ptr_array_add(agents, agent);
    return true;
}

static int connect_agent(const struct agent *agent)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || strlen(agent->socket_path) >= sizeof address.sun_path)
        return -1;
    memcpy(address.sun_path, agent->socket_path, strlen(agent->socket_path) + 1);
    return connect(fd, (const struct sockaddr *)&address, sizeof address) < 0 ? -1 : fd_steal(&fd);
}

static bool write_all(struct transport *transport, const char *data, gsize length)
{
    while (length > 0) {
        struct pollfd fd = { .fd = transport->fd, .events = POLLOUT };
        ssize_t n = transport_write(transport, data, length);
        if (n < 0 && errno == EAGAIN)
            poll(&fd, 1, -1);
        else if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            data += n;
            length -= (gsize)n;
        }
    }
    return true;
}

/* 1: passed on, 0: nothing now, -1: over. */
static int to_agent(struct transport *transport, int local)
{
    char buffer[CHUNK];
    ssize_t n = transport_read(transport, buffer, sizeof buffer);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    return n > 0 && fd_write_full(local, buffer, (size_t)n) == 0 ? 1 : -1;
}

static void relay(struct transport *transport, int local)
{
    struct pollfd fds[] = { { .fd = transport->fd, .events = POLLIN }, { .fd = local, .events = POLLIN } };
    char buffer[CHUNK];
    for (;;) {
        int passed = to_agent(transport, local);
        if (passed < 0)
            return;
        if (passed > 0)
            continue;
        if (poll(fds, G_N_ELEMENTS(fds), -1) < 0 && errno != EINTR)
            return;
        if (!fds[1].revents)
            continue;
        ssize_t n = read(local, buffer, sizeof buffer);
        if ((n < 0 && errno != EINTR) || n == 0 || (n > 0 && !write_all(transport, buffer, (gsize)n)))
            return;
    }
}

static gpointer offer_thread(gpointer user);

/* What the engine says first; false where it closes the connection instead, since the build is over. */
static bool first_bytes(struct connection *connection, GByteArray *ret)
{
    struct transport *transport = connection_transport(connection);
    struct pollfd fd = { .fd = transport->fd, .events = POLLIN };
    char buffer[CHUNK];
    gsize length;
    const char *leftover = connection_leftover(connection, &length);
    g_byte_array_append(ret, (const guint8 *)leftover, (guint)length);
    while (ret->len == 0) {
        ssize_t n = transport_read(transport, buffer, sizeof buffer);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        if (n > 0)
            g_byte_array_append(ret, (const guint8 *)buffer, (guint)n);
        else
            poll(&fd, 1, -1);
    }
    return true;
}

/* One connection that the engine may use. When it does, the next is offered. */
static void offer(struct agent *agent)
{
    g_autofree char *id = path_escape(agent->id);
    g_autofree char *target = g_strdup_printf("/v%s/build/agent?id=%s", agent->cli->version, id);
    const char *const headers[] = { "X-Tare-Secrets", agent->build_id, NULL };
    const struct http_request request = {
        .method = "POST", .target = target, .headers = headers, .body_fd = -1, .upgrade = true
    };
    struct http_head head = { 0 };
    struct connection *connection = connection_open(agent->cli->endpoint, NULL);
    if (connection && http_exchange(connection, &request, &head, NULL) && head.status == 101) {
        struct transport *transport = connection_transport(connection);
        g_autoptr(GByteArray) first = g_byte_array_new();
        if (first_bytes(connection, first)) {
            g_autofd int local = connect_agent(agent);
            g_thread_unref(g_thread_new("agent", offer_thread, agent));
            if (local >= 0 && fd_write_full(local, first->data, first->len) == 0)
                relay(transport, local);
        }
    }
    http_head_clear(&head);
    connection_free(connection);
}

static gpointer offer_thread(gpointer user)
{
    offer(user);
    return NULL;
}

/* ---- both ---- */

/* Sends them and begins to offer; the agents live as long as the command. */
static bool lend(struct cli *cli, const json_t *body, GPtrArray *agents, char **ret_id, GError **error)
{
    struct call call = { .method = "POST", .path = "/build/secrets", .json = (json_t *)body };
    g_autoptr(json_t) answer = api_json(cli, &call, error);
    if (!answer)
        return false;
    *ret_id = g_strdup(json_get_string(answer, "Id", ""));
    for (guint i = 0; i < agents->len; i++) {
        struct agent *agent = agents->pdata[i];
        agent->build_id = g_strdup(*ret_id);
        g_thread_unref(g_thread_new("agent", offer_thread, agent));
    }
    return true;
}

bool build_lend_secrets(struct cli *cli, const struct options *options, char **ret_id, GError **error)
{
    static GPtrArray *agents;
    const char *const *secrets = options_list(options, "secret"), *const *ssh = options_list(options, "ssh");
    json_t *values = json_object(), *names = json_array();
    g_autoptr(json_t) body = json_pack("{s:o, s:o}", "secrets", values, "ssh", names);
    *ret_id = NULL;
    if (!*secrets && !*ssh)
        return true;
    agents = g_ptr_array_new();
    for (; *secrets; secrets++)
        if (!add_secret(values, *secrets, error))
            return false;
    for (; *ssh; ssh++)
        if (!add_agent(cli, agents, *ssh, error))
            return false;
    for (guint i = 0; i < agents->len; i++)
        json_array_append_new(names, json_string_lossy(((const struct agent *)agents->pdata[i])->id));
    return lend(cli, body, agents, ret_id, error);
}
