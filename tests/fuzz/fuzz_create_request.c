#include "container/container-internal.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(json_t) body = json_parse((const char *)data, size, 1 << 20, "body", NULL);
    g_autoptr(json_t) config = NULL;
    g_autoptr(json_t) host_config = NULL;
    g_autoptr(json_t) networking = NULL;
    g_autoptr(json_t) mounts = json_array();
    g_autoptr(json_t) spec = NULL;
    if (!body || !request_parse(body, &config, &host_config, &networking, NULL) ||
        !request_validate(config, host_config, false, NULL, NULL))
        return 0;
    json_object_set_new(host_config, "VolumesFrom", json_null()); /* needs other containers */
    struct container_manager manager = { 0 };
    if (!mounts_collect(&manager, config, host_config, mounts, NULL))
        return 0;
    const struct spec_input input = {
        .id = "0123456789ab", .config = config, .host_config = host_config, .mounts = mounts, .cgroup_parent = "tare"
    };
    spec_build(&input, &spec, NULL);
    return 0;
}
