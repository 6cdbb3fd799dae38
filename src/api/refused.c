/* What this engine does not do (yet): each with a reason, so that a client shows more than "page not found". */
#include "api/api-internal.h"

#include "base/fd.h"

#include <poll.h>
#include <unistd.h>

static bool refuse_grpc(struct api_request *request, GError **error)
{
    return error_set(error, TARE_ERROR_NOT_IMPLEMENTED,
                     "BuildKit is not supported yet by this engine: set DOCKER_BUILDKIT=0 to build");
}

/* ---- BuildKit's sessions ----
 * A client that finds no session says that it could not "dial gRPC" and nothing of the reason; one whose session stands still
 * goes on, and shows the text with which its build is refused. It asks for both at once; where the refusal comes first it may
 * wait for the end of the session, which then ends here. */

#define REFUSED_MAX 64 /* sessions that are remembered */

static GMutex refused_lock;
static GQueue refused_sessions = G_QUEUE_INIT; /* ids, the last one first */

bool api_refuse_buildkit(struct api_request *request, GError **error)
{
    const char *session = api_query(request, "session");
    if (session && *session) {
        g_mutex_lock(&refused_lock);
        g_queue_push_head(&refused_sessions, g_strdup(session));
        if (refused_sessions.length > REFUSED_MAX)
            g_free(g_queue_pop_tail(&refused_sessions));
        g_mutex_unlock(&refused_lock);
    }
    return refuse_grpc(request, error);
}

static bool was_refused(const char *session)
{
    g_mutex_lock(&refused_lock);
    bool found = session && g_queue_find_custom(&refused_sessions, session, (GCompareFunc)strcmp);
    g_mutex_unlock(&refused_lock);
    return found;
}

static bool hold_session(struct api_request *request, GError **error)
{
    enum { PATIENCE_MS = 60000, LOOK_MS = 100 };
    /* The begin of HTTP/2 and empty settings: the client, which serves this connection, waits 10 s for them before it ends. */
    static const char greeting[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    g_autofd int connection = -1;
    char buffer[4096];
    int ready = 0;
    if (!http_exchange_request(request->http)->upgrade)
        return refuse_grpc(request, error);
    if (!http_exchange_take_socket(request->http, &connection, error) ||
        !http_exchange_upgrade(request->http, "application/vnd.docker.raw-stream", error))
        return false;
    (void)fd_write_full(connection, greeting, sizeof greeting - 1); /* one that is gone is found out below */
    g_autofree char *session =
        g_strdup(http_request_header(http_exchange_request(request->http), "X-Docker-Expose-Session-Uuid"));
    struct cancel *cancel = http_exchange_cancel(request->http);
    gint64 end = g_get_monotonic_time() + PATIENCE_MS * G_GINT64_CONSTANT(1000);
    while (ready >= 0 && g_get_monotonic_time() < end && !was_refused(session)) {
        ready = cancel_poll(cancel, connection, POLLIN, LOOK_MS, NULL);
        if (ready > 0 && read(connection, buffer, sizeof buffer) <= 0)
            return true;
    }
    if (ready >= 0) /* the answer gets there before this end does */
        cancel_poll(cancel, connection, 0, LOOK_MS, NULL);
    return true;
}

static bool refuse_swarm(struct api_request *request, GError **error)
{
    /* The status and the first words are what clients of dockerd see on a node that is in no swarm. */
    return error_set(error, TARE_ERROR_UNAVAILABLE,
                     "This node is not a swarm manager. Swarm mode is not supported by this engine.");
}

static bool refuse_plugins(struct api_request *request, GError **error)
{
    return error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "plugins are not supported by this engine");
}

static bool list_plugins(struct api_request *request, GError **error)
{
    return api_respond_json(request, 200, json_array());
}

static bool refuse_networks(struct api_request *request, GError **error)
{
    return error_set(error, TARE_ERROR_NOT_IMPLEMENTED,
                     "networks of your own are not supported yet by this engine: use bridge, host or none");
}

static bool refuse_checkpoints(struct api_request *request, GError **error)
{
    return error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "checkpoints are not supported by this engine");
}

static bool refuse_websockets(struct api_request *request, GError **error)
{
    return error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "attaching over a websocket is not supported by this engine");
}

const struct api_route refused_routes[] = {
    { "POST", "/session", 0, 0, hold_session },
    { "POST", "/grpc", 0, 0, refuse_grpc },
    { "GET", "/swarm", 0, 0, refuse_swarm },
    { "POST", "/swarm/{name*}", 0, 0, refuse_swarm },
    { "GET", "/swarm/{name*}", 0, 0, refuse_swarm },
    { "GET", "/nodes", 0, 0, refuse_swarm },
    { "GET", "/nodes/{name*}", 0, 0, refuse_swarm },
    { "GET", "/services", 0, 0, refuse_swarm },
    { "GET", "/services/{name*}", 0, 0, refuse_swarm },
    { "POST", "/services/{name*}", 0, 0, refuse_swarm },
    { "GET", "/tasks", 0, 0, refuse_swarm },
    { "GET", "/tasks/{name*}", 0, 0, refuse_swarm },
    { "GET", "/secrets", 0, 0, refuse_swarm },
    { "GET", "/secrets/{name*}", 0, 0, refuse_swarm },
    { "POST", "/secrets/{name*}", 0, 0, refuse_swarm },
    { "GET", "/configs", 0, 0, refuse_swarm },
    { "GET", "/configs/{name*}", 0, 0, refuse_swarm },
    { "POST", "/configs/{name*}", 0, 0, refuse_swarm },
    { "GET", "/plugins", 0, 0, list_plugins },
    { "GET", "/plugins/{name*}", 0, 0, refuse_plugins },
    { "POST", "/plugins/{name*}", 0, 0, refuse_plugins },
    { "DELETE", "/plugins/{name*}", 0, 0, refuse_plugins },
    { "POST", "/networks/create", 0, 0, refuse_networks },
    { "POST", "/networks/prune", 0, 0, refuse_networks },
    { "POST", "/networks/{name}/connect", 0, 0, refuse_networks },
    { "POST", "/networks/{name}/disconnect", 0, 0, refuse_networks },
    { "DELETE", "/networks/{name}", 0, 0, refuse_networks },
    { "GET", "/containers/{name}/checkpoints", 0, 0, refuse_checkpoints },
    { "POST", "/containers/{name}/checkpoints", 0, 0, refuse_checkpoints },
    { "GET", "/containers/{name}/attach/ws", 0, 0, refuse_websockets },
    { NULL },
};
