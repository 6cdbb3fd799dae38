/* /containers: life and looks. */
#include "api/api-internal.h"

#include "base/parse.h"

#include <string.h>

static struct container_manager *manager(const struct api_request *request)
{
    return request->engine->containers;
}

static bool list_containers(struct api_request *request, GError **error)
{
    g_autoptr(json_t) filters = NULL;
    json_t *answer = NULL;
    gint64 limit = 0;
    if (!api_query_filters(request, &filters, error) || !api_query_int(request, "limit", G_MININT, G_MAXINT, 0, &limit, error))
        return false;
    return container_list(manager(request), api_query_bool(request, "all"), (int)MAX(limit, 0), api_query_bool(request, "size"),
                          filters, request->version, &answer, error) &&
           api_respond_json(request, 200, answer);
}

static bool create_container(struct api_request *request, GError **error)
{
    g_autoptr(json_t) body = NULL;
    json_t *answer = NULL;
    if (!api_read_json(request, &body, error))
        return false;
    if (!body)
        return error_set(error, TARE_ERROR_INVALID, "config cannot be empty in order to create a container");
    const char *platform = request->version >= 41 ? api_query(request, "platform") : NULL;
    return container_create(manager(request), api_query(request, "name"), platform, body, request->version, &answer, error) &&
           api_respond_json(request, 201, answer);
}

static bool start_container(struct api_request *request, GError **error)
{
    const struct http_request *http = http_exchange_request(request->http);
    /* Clients send nothing, "{}" or "null"; a HostConfig here is what API 1.24 took away. */
    if (http->chunked || http->content_length > 7)
        return error_set(error, TARE_ERROR_INVALID,
                         "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24");
    if (api_query(request, "checkpoint"))
        return error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "checkpoints are not supported by this engine");
    return container_start(manager(request), request->name, api_query(request, "detachKeys"), error) &&
           api_respond_empty(request, 204);
}

static bool query_timeout(struct api_request *request, int *ret, GError **error)
{
    gint64 timeout;
    const char *text = api_query(request, "t");
    /* A negative one waits for ever: the manager's -1 means the default. */
    if (!text)
        return *ret = -1, true;
    if (!parse_int(text, G_MININT, G_MAXINT, &timeout))
        return error_set(error, TARE_ERROR_INVALID, "strconv.Atoi: parsing \"%s\": invalid syntax", text);
    *ret = timeout < 0 ? G_MAXINT : (int)timeout;
    return true;
}

static bool stop_container(struct api_request *request, GError **error)
{
    int timeout_s = -1;
    const char *signal = request->version >= 42 ? api_query(request, "signal") : NULL;
    return query_timeout(request, &timeout_s, error) &&
           container_stop(manager(request), request->name, signal, timeout_s, http_exchange_cancel(request->http), error) &&
           api_respond_empty(request, 204);
}

static bool restart_container(struct api_request *request, GError **error)
{
    int timeout_s = -1;
    const char *signal = request->version >= 42 ? api_query(request, "signal") : NULL;
    return query_timeout(request, &timeout_s, error) &&
           container_restart(manager(request), request->name, signal, timeout_s, http_exchange_cancel(request->http), error) &&
           api_respond_empty(request, 204);
}

static bool kill_container(struct api_request *request, GError **error)
{
    return container_kill(manager(request), request->name, api_query(request, "signal"), error) &&
           api_respond_empty(request, 204);
}

static bool pause_container(struct api_request *request, GError **error)
{
    return container_pause(manager(request), request->name, true, error) && api_respond_empty(request, 204);
}

static bool unpause_container(struct api_request *request, GError **error)
{
    return container_pause(manager(request), request->name, false, error) && api_respond_empty(request, 204);
}

static bool rename_container(struct api_request *request, GError **error)
{
    const char *name = api_query(request, "name");
    if (!name)
        return error_set(error, TARE_ERROR_INVALID, "Neither old nor new names may be empty");
    return container_rename(manager(request), request->name, name, error) && api_respond_empty(request, 204);
}

static bool update_container(struct api_request *request, GError **error)
{
    g_autoptr(json_t) body = NULL;
    json_t *answer = NULL;
    if (!api_read_json(request, &body, error))
        return false;
    if (!body)
        body = json_object();
    return container_update(manager(request), request->name, body, &answer, error) && api_respond_json(request, 200, answer);
}

bool api_query_size(const struct api_request *request, unsigned *ret_rows, unsigned *ret_columns, GError **error)
{
    const char *names[2] = { "h", "w" }, *words[2] = { "height", "width" };
    unsigned *rets[2] = { ret_rows, ret_columns };
    for (int i = 0; i < 2; i++) {
        guint64 value;
        const char *text = api_query(request, names[i]);
        if (!text || !parse_uint(text, G_MAXUINT16, &value))
            return error_set(error, TARE_ERROR_INVALID, "invalid resize %s \"%s\": invalid syntax", words[i], text ? text : "");
        *rets[i] = (unsigned)value;
    }
    return true;
}

static bool resize_container(struct api_request *request, GError **error)
{
    unsigned rows = 0, columns = 0;
    return api_query_size(request, &rows, &columns, error) &&
           container_resize(manager(request), request->name, rows, columns, error) && api_respond_empty(request, 200);
}

static bool remove_container(struct api_request *request, GError **error)
{
    return container_remove(manager(request), request->name, api_query_bool(request, "force"), api_query_bool(request, "v"),
                            api_query_bool(request, "link"), error) &&
           api_respond_empty(request, 204);
}

/* From API 1.30 on the header goes out at once: `docker run` starts the container when it has seen it, and so misses no end. */
static bool wait_for_container(struct api_request *request, GError **error)
{
    static const char *const conditions[] = { "not-running", "next-exit", "removed", NULL };
    const char *condition = request->version >= 30 ? api_query(request, "condition") : NULL;
    struct container_waiter *waiter = NULL;
    json_t *result = NULL;
    if (condition && !g_strv_contains(conditions, condition))
        return error_set(error, TARE_ERROR_INVALID, "invalid condition: \"%s\"", condition);
    if (!container_wait_begin(manager(request), request->name, condition, &waiter, error))
        return false;
    bool ok = request->version < 30 || http_exchange_begin(request->http, 200, "application/json", false, error);
    if (!ok)
        cancel_trigger(http_exchange_cancel(request->http)); /* the waiter must be finished in any case */
    if (!container_wait_finish(waiter, http_exchange_cancel(request->http), &result, ok ? error : NULL) || !ok)
        return false;
    if (request->version < 30)
        return api_respond_json(request, 200, result);
    return api_send_message(request, result, error);
}

static bool inspect_container(struct api_request *request, GError **error)
{
    json_t *answer = NULL;
    return container_inspect(manager(request), request->name, api_query_bool(request, "size"), request->version, &answer,
                             error) &&
           api_respond_json(request, 200, answer);
}

static bool prune_containers(struct api_request *request, GError **error)
{
    g_autoptr(json_t) filters = NULL;
    json_t *answer = NULL;
    return api_query_filters(request, &filters, error) && container_prune(manager(request), filters, &answer, error) &&
           api_respond_json(request, 200, answer);
}

const struct api_route container_routes[] = {
    { "GET", "/containers/json", 0, 0, list_containers },
    { "POST", "/containers/create", 0, 0, create_container },
    { "POST", "/containers/prune", 25, 0, prune_containers },
    { "GET", "/containers/{name}/json", 0, 0, inspect_container },
    { "POST", "/containers/{name}/start", 0, 0, start_container },
    { "POST", "/containers/{name}/stop", 0, 0, stop_container },
    { "POST", "/containers/{name}/restart", 0, 0, restart_container },
    { "POST", "/containers/{name}/kill", 0, 0, kill_container },
    { "POST", "/containers/{name}/pause", 0, 0, pause_container },
    { "POST", "/containers/{name}/unpause", 0, 0, unpause_container },
    { "POST", "/containers/{name}/rename", 0, 0, rename_container },
    { "POST", "/containers/{name}/update", 0, 0, update_container },
    { "POST", "/containers/{name}/resize", 0, 0, resize_container },
    { "POST", "/containers/{name}/wait", 0, 0, wait_for_container },
    { "DELETE", "/containers/{name}", 0, 0, remove_container },
    { NULL },
};
