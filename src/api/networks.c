/* /networks: the default ones. */
#include "api/api-internal.h"

#include <string.h>

static bool is_selected(const json_t *network, const json_t *filters)
{
    static const struct {
        const char *filter, *member;
    } members[] = { { "driver", "Driver" }, { "scope", "Scope" } };
    for (size_t i = 0; i < G_N_ELEMENTS(members); i++)
        if (!filters_matches_exactly(filters, members[i].filter, json_get_string(network, members[i].member, "")))
            return false;
    g_auto(GStrv) ids = filters_values(filters, "id");
    bool by_id = !ids[0];
    for (char **id = ids; *id; id++)
        by_id |= g_str_has_prefix(json_get_string(network, "Id", ""), *id);
    /* All that there are were made by the engine itself. */
    g_auto(GStrv) types = filters_values(filters, "type");
    bool by_type = !types[0] || g_strv_contains((const char *const *)types, "builtin");
    return by_id && by_type && filters_matches(filters, "name", json_get_string(network, "Name", "")) &&
           filters_matches_labels(filters, json_get_object(network, "Labels"));
}

static bool list_networks(struct api_request *request, GError **error)
{
    static const char *const accepted[] = { "dangling", "driver", "id", "label", "name", "scope", "type", NULL };
    g_autoptr(json_t) filters = NULL;
    if (!api_query_filters(request, &filters, error) || !filters_validate(filters, accepted, error))
        return false;
    g_autoptr(json_t) networks = network_list(request->engine->networks);
    json_t *answer = json_array(), *network;
    size_t i;
    json_array_foreach(networks, i, network) if (is_selected(network, filters)) json_array_append(answer, network);
    return api_respond_json(request, 200, answer);
}

static bool inspect_network(struct api_request *request, GError **error)
{
    g_autoptr(json_t) networks = network_list(request->engine->networks);
    json_t *network, *found = NULL;
    size_t i;
    json_array_foreach(networks, i, network)
    {
        if (strcmp(json_get_string(network, "Name", ""), request->name) == 0 ||
            strcmp(json_get_string(network, "Id", ""), request->name) == 0) {
            found = network;
            break;
        }
        if (g_str_has_prefix(json_get_string(network, "Id", ""), request->name)) {
            if (found)
                return error_set(error, TARE_ERROR_INVALID, "network %s is ambiguous (%d matches found based on ID prefix)",
                                 request->name, 2);
            found = network;
        }
    }
    if (!found)
        return error_set(error, TARE_ERROR_NOT_FOUND, "network %s not found", request->name);
    return api_respond_json(request, 200, json_incref(found));
}

static bool remove_network(struct api_request *request, GError **error)
{
    static const char *const builtin[] = { "bridge", "host", "none", NULL };
    if (g_strv_contains(builtin, request->name))
        return error_set(error, TARE_ERROR_FORBIDDEN, "%s is a pre-defined network and cannot be removed", request->name);
    return error_set(error, TARE_ERROR_NOT_FOUND, "network %s not found", request->name);
}

static bool prune_networks(struct api_request *request, GError **error)
{
    return api_respond_json(request, 200, json_pack("{s:n}", "NetworksDeleted"));
}

const struct api_route network_routes[] = {
    { "GET", "/networks", 0, 0, list_networks },
    { "GET", "/networks/{name}", 0, 0, inspect_network },
    { "DELETE", "/networks/{name}", 0, 0, remove_network },
    { "POST", "/networks/prune", 25, 0, prune_networks },
    { NULL },
};
