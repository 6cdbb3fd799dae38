/* POST /layers/missing (ours): which of these layers the engine does not have, so that whoever sends it images leaves out the
 * others. A layer that goes between the question and the images makes their load fail, and nothing else. */
#include "api/api-internal.h"

#include "base/digest.h"

enum { LAYERS_MAX = 10000 };

static bool find_missing(struct api_request *request, GError **error)
{
    g_autoptr(json_t) body = NULL;
    if (!api_read_json(request, &body, error))
        return false;
    const json_t *layers = json_get_array(body, "Layers");
    if (!layers || json_array_size(layers) > LAYERS_MAX)
        return error_set(error, TARE_ERROR_INVALID, "Layers: a list of at most %d diff ids is needed", LAYERS_MAX);
    g_autoptr(json_t) missing = json_array();
    size_t i;
    json_t *layer;
    json_array_foreach(layers, i, layer)
    {
        const char *diff_id = json_string_value(layer);
        if (!diff_id || !digest_is_valid(diff_id))
            return error_set(error, TARE_ERROR_INVALID, "Layers: invalid diff id");
        if (!layer_store_has(request->engine->layers, diff_id))
            json_array_append(missing, layer);
    }
    return api_respond_json(request, 200, json_pack("{s:O}", "Missing", missing));
}

const struct api_route layer_routes[] = {
    { "POST", "/layers/missing", 0, 0, find_missing },
    { NULL },
};
