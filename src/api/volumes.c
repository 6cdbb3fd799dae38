/* /volumes. */
#include "api/api-internal.h"

static bool list_volumes(struct api_request *request, GError **error)
{
    g_autoptr(json_t) filters = NULL;
    json_t *answer = NULL;
    return api_query_filters(request, &filters, error) && volume_list(request->engine->volumes, filters, &answer, error) &&
           api_respond_json(request, 200, answer);
}

static bool create_volume(struct api_request *request, GError **error)
{
    g_autoptr(json_t) body = NULL;
    json_t *answer = NULL;
    if (!api_read_json(request, &body, error))
        return false;
    if (!body)
        body = json_object();
    return volume_create(request->engine->volumes, body, &answer, error) && api_respond_json(request, 201, answer);
}

static bool inspect_volume(struct api_request *request, GError **error)
{
    json_t *answer = NULL;
    return volume_inspect(request->engine->volumes, request->name, &answer, error) && api_respond_json(request, 200, answer);
}

static bool remove_volume(struct api_request *request, GError **error)
{
    return volume_remove(request->engine->volumes, request->name, api_query_bool(request, "force"), error) &&
           api_respond_empty(request, 204);
}

static bool prune_volumes(struct api_request *request, GError **error)
{
    g_autoptr(json_t) filters = NULL;
    json_t *answer = NULL;
    return api_query_filters(request, &filters, error) &&
           volume_prune(request->engine->volumes, filters, request->version, &answer, error) &&
           api_respond_json(request, 200, answer);
}

const struct api_route volume_routes[] = {
    { "GET", "/volumes", 0, 0, list_volumes },
    { "POST", "/volumes/create", 0, 0, create_volume },
    { "POST", "/volumes/prune", 25, 0, prune_volumes },
    { "GET", "/volumes/{name}", 0, 0, inspect_volume },
    { "DELETE", "/volumes/{name}", 0, 0, remove_volume },
    { NULL },
};
