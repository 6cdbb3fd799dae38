/* Any bytes as daemon.json, a filters parameter and a versioned path. */
#include "api/api-internal.h"

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size);
int LLVMFuzzerTestOneInput(const guint8 *data, size_t size)
{
    struct engine_options options = { 0 };
    engine_options_apply_json(&options, (const char *)data, size, "F", NULL);
    engine_options_clear(&options);
    g_autofree char *path = g_strndup((const char *)data, size), *name = NULL;
    const char *rest;
    unsigned version;
    if (api_path_version(path, &version, &rest, NULL))
        api_route_match("/images/{name*}/json", rest, &name);
    return 0;
}
