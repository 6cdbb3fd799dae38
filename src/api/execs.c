/* /exec: further processes in a running container. */
#include "api/api-internal.h"

#include "base/fd.h"

static struct container_manager *manager(const struct api_request *request)
{
    return request->engine->containers;
}

static bool create_exec(struct api_request *request, GError **error)
{
    g_autoptr(json_t) body = NULL;
    json_t *answer = NULL;
    if (!api_read_json(request, &body, error))
        return false;
    if (request->version < 42)
        json_object_del(body, "ConsoleSize");
    if (!json_array_size(json_get_folded(body, "Cmd")))
        return error_set(error, TARE_ERROR_INVALID, "No exec command specified");
    return container_exec_create(manager(request), request->name, body, &answer, error) && api_respond_json(request, 201, answer);
}

static bool start_exec(struct api_request *request, GError **error)
{
    g_autoptr(json_t) body = NULL;
    bool terminal = false;
    if (!api_read_json(request, &body, error))
        return false;
    if (!body)
        body = json_object();
    if (request->version < 42)
        json_object_del(body, "ConsoleSize");
    if (!container_exec_prepare(manager(request), request->name, body, &terminal, error))
        return false;
    if (json_is_true(json_get_folded(body, "Detach")))
        return container_exec_start(manager(request), request->name, body, -1, NULL, error) && api_respond_empty(request, 200);
    g_autofd int connection = -1;
    g_autoptr(GError) failure = NULL;
    bool upgrade = http_exchange_request(request->http)->upgrade;
    if (!http_exchange_take_socket(request->http, &connection, error) ||
        !http_exchange_upgrade(request->http, api_stream_type(request, upgrade && !terminal), error))
        return false;
    if (!container_exec_start(manager(request), request->name, body, connection, NULL, &failure))
        api_tell_failure(connection, !terminal, 1, failure); /* on its standard output, as dockerd does */
    return true;
}

static bool resize_exec(struct api_request *request, GError **error)
{
    unsigned rows = 0, columns = 0;
    return api_query_size(request, &rows, &columns, error) &&
           container_exec_resize(manager(request), request->name, rows, columns, error) && api_respond_empty(request, 200);
}

static bool inspect_exec(struct api_request *request, GError **error)
{
    json_t *answer = NULL;
    return container_exec_inspect(manager(request), request->name, &answer, error) && api_respond_json(request, 200, answer);
}

const struct api_route exec_routes[] = {
    { "POST", "/containers/{name}/exec", 0, 0, create_exec },
    { "POST", "/exec/{name}/start", 0, 0, start_exec },
    { "POST", "/exec/{name}/resize", 0, 0, resize_exec },
    { "GET", "/exec/{name}/json", 0, 0, inspect_exec },
    { NULL },
};
