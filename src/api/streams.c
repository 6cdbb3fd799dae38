/* Attach and logs: answers that last. */
#include "api/api-internal.h"

#include "base/fd.h"
#include "base/parse.h"

#include <string.h>

static struct container_manager *manager(const struct api_request *request)
{
    return request->engine->containers;
}

const char *api_stream_type(const struct api_request *request, bool multiplex)
{
    return multiplex && request->version >= 42 ? "application/vnd.docker.multiplexed-stream"
                                               : "application/vnd.docker.raw-stream";
}

/* A failure after the connection was taken over can only be told in the stream itself. */
void api_tell_failure(int fd, bool multiplex, guint8 output, const GError *failure)
{
    g_autofree char *line = g_strconcat(failure->message, "\r\n", NULL);
    size_t length = strlen(line);
    guint8 header[8] = { output, 0, 0, 0, (guint8)(length >> 24), (guint8)(length >> 16), (guint8)(length >> 8), (guint8)length };
    if (multiplex)
        fd_write_full(fd, header, sizeof header);
    fd_write_full(fd, line, length);
}

struct attach_begin {
    struct api_request *request;
    const char *content_type;
};

static bool answer_attach(void *user, GError **error)
{
    const struct attach_begin *begin = user;
    return http_exchange_upgrade(begin->request->http, begin->content_type, error);
}

static bool attach(struct api_request *request, GError **error)
{
    bool terminal = false;
    if (!container_has_terminal(manager(request), request->name, &terminal, error))
        return false;
    bool upgrade = http_exchange_request(request->http)->upgrade;
    struct attach_begin begin = { request, api_stream_type(request, upgrade && !terminal) };
    const struct container_attach_options options = {
        .use_stdin = api_query_bool(request, "stdin"),
        .use_stdout = api_query_bool(request, "stdout"),
        .use_stderr = api_query_bool(request, "stderr"),
        .stream = api_query_bool(request, "stream"),
        .logs = api_query_bool(request, "logs"),
        .multiplex = !terminal,
        .detach_keys = api_query(request, "detachKeys"),
        .begin = answer_attach,
        .begin_user = &begin,
    };
    g_autofd int connection = -1;
    if (!http_exchange_take_socket(request->http, &connection, error))
        return false;
    g_autoptr(GError) failure = NULL;
    if (container_attach(manager(request), request->name, &options, connection, NULL, &failure))
        return true;
    if (!http_exchange_has_begun(request->http)) {
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
    }
    api_tell_failure(connection, options.multiplex, 2, failure);
    return true;
}

static bool show_logs(struct api_request *request, GError **error)
{
    bool terminal = false;
    struct container_logs_options options = {
        .use_stdout = api_query_bool(request, "stdout"),
        .use_stderr = api_query_bool(request, "stderr"),
        .follow = api_query_bool(request, "follow"),
        .timestamps = api_query_bool(request, "timestamps"),
        .details = api_query_bool(request, "details"),
        .tail = -1,
    };
    if (!options.use_stdout && !options.use_stderr)
        return error_set(error, TARE_ERROR_INVALID, "Bad parameters: you must choose at least one stream");
    if (!api_query_time(request, "since", &options.since_ns, error) ||
        !api_query_time(request, "until", &options.until_ns, error))
        return false;
    /* What is no number means all, as in dockerd. */
    const char *tail = api_query(request, "tail");
    if (!tail || !parse_int(tail, 0, G_MAXINT64, &options.tail))
        options.tail = -1;
    if (!container_has_terminal(manager(request), request->name, &terminal, error))
        return false;
    options.multiplex = !terminal;
    struct api_stream answer;
    api_stream_init(&answer, request, api_stream_type(request, options.multiplex), false);
    /* A follower sees the header at once. */
    if (options.follow && !api_stream_begin(&answer, error))
        return false;
    return container_logs(manager(request), request->name, &options, &answer.sink, http_exchange_cancel(request->http), error) &&
           api_stream_begin(&answer, error);
}

const struct api_route stream_routes[] = {
    { "POST", "/containers/{name}/attach", 0, 0, attach },
    { "GET", "/containers/{name}/logs", 0, 0, show_logs },
    { NULL },
};
