/* The socket of RUN --mount=type=ssh: what a step says to it goes to the client's agent, connection by connection. */
#include "base/fd.h"
#include "build/build-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS_MAX 32
#define CHUNK 16384

struct relay {
    struct agent_socket *agent;
    int step;
    GThread *thread;
    gint over;
};

struct agent_socket {
    struct build_secrets *secrets;
    char *id;
    int listener;
    struct cancel *cancel; /* of all relays: the step's end */
    GThread *thread;
    GPtrArray *relays; /* the accepting thread's */
};

static void relay_join(struct relay *relay)
{
    g_thread_join(relay->thread);
    g_free(relay);
}

/* One direction's turn: false where the connection is over. */
static bool pass(int from, int to)
{
    char buffer[CHUNK];
    ssize_t n = read(from, buffer, sizeof buffer);

    if (n < 0 && errno == EINTR)
        return true;
    return n > 0 && fd_write_full(to, buffer, (size_t)n) >= 0;
}

static void relay_both(const struct relay *relay, int client)
{
    struct pollfd fds[] = { { .fd = relay->step, .events = POLLIN },
                            { .fd = client, .events = POLLIN },
                            { .fd = cancel_fd(relay->agent->cancel), .events = POLLIN } };

    while (poll(fds, G_N_ELEMENTS(fds), -1) >= 0 || errno == EINTR) {
        if (fds[2].revents || (fds[0].revents && !pass(relay->step, client)) || (fds[1].revents && !pass(client, relay->step)))
            return;
    }
}

static gpointer relay_thread(gpointer user)
{
    struct relay *relay = user;
    g_autofd int client = build_secrets_connect(relay->agent->secrets, relay->agent->id, relay->agent->cancel, NULL);

    if (client >= 0)
        relay_both(relay, client);
    fd_clear(&relay->step);
    g_atomic_int_set(&relay->over, 1);
    return NULL;
}

static void join_finished(GPtrArray *relays)
{
    for (guint i = relays->len; i > 0; i--)
        if (g_atomic_int_get(&((struct relay *)relays->pdata[i - 1])->over))
            g_ptr_array_remove_index_fast(relays, i - 1);
}

static void accept_one(struct agent_socket *agent)
{
    int step = accept4(agent->listener, NULL, NULL, SOCK_CLOEXEC);
    struct relay *relay;

    join_finished(agent->relays);
    if (step < 0)
        return;
    if (agent->relays->len >= CONNECTIONS_MAX) {
        fd_close(step);
        return;
    }
    relay = g_new0(struct relay, 1);
    relay->agent = agent;
    relay->step = step;
    relay->thread = g_thread_new("ssh-agent", relay_thread, relay);
    g_ptr_array_add(agent->relays, relay);
}

static gpointer accept_thread(gpointer user)
{
    struct agent_socket *agent = user;

    while (cancel_poll(agent->cancel, agent->listener, POLLIN, -1, NULL) > 0)
        accept_one(agent);
    return NULL;
}

bool agent_socket_open(struct build_secrets *secrets, const char *id, int directory, const char *name, struct agent_socket **ret,
                       GError **error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_autofd int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct agent_socket *agent;

    /* The directory has no path but that of its fd. */
    g_snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", directory, name);
    if (listener < 0 || bind(listener, (const struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 16) < 0)
        return error_set_errno(error, errno, "make an agent's socket");
    agent = g_new0(struct agent_socket, 1);
    agent->secrets = build_secrets_ref(secrets);
    agent->id = g_strdup(id);
    agent->listener = fd_steal(&listener);
    agent->cancel = cancel_new();
    agent->relays = g_ptr_array_new_with_free_func((GDestroyNotify)relay_join);
    agent->thread = g_thread_new("ssh-agents", accept_thread, agent);
    *ret = agent;
    return true;
}

void agent_socket_close(struct agent_socket *agent)
{
    if (!agent)
        return;
    cancel_trigger(agent->cancel);
    g_thread_join(agent->thread);
    g_ptr_array_unref(agent->relays);
    cancel_unref(agent->cancel);
    fd_close(agent->listener);
    build_secrets_unref(agent->secrets);
    g_free(agent->id);
    g_free(agent);
}
