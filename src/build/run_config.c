/* The run config of an image as Docker writes it: all members, in its order, maps sorted. */
#include "build/build-internal.h"

#include <string.h>

json_t *run_config_shell(const json_t *config)
{
    const json_t *shell = json_get_array(config, "Shell");

    return json_array_size(shell) > 0 ? json_deep_copy(shell) : json_pack("[ss]", "/bin/sh", "-c");
}

bool run_config_has_path(const json_t *config)
{
    json_t *item;
    size_t i;

    json_array_foreach(json_get_array(config, "Env"), i,
                       item) if (json_is_string(item) && g_str_has_prefix(json_string_value(item), "PATH=")) return true;
    return false;
}
