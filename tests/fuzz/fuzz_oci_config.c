/* A specification from anywhere: parsed, planned, its cgroup settings and device filter made. */
#include "runtime/runtime-internal.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(json_t) spec = runtime_specification_parse((const char *)data, size, NULL);
    struct runtime_plan *plan = NULL;
    GError *error = NULL;
    if (spec && runtime_plan_new(spec, &plan, &error)) {
        g_free(runtime_plan_text(plan));
        GArray *rules = device_rules_with_defaults(plan->resources.devices);
        g_array_unref(device_filter_compile(rules));
        g_array_unref(rules);
        runtime_plan_free(plan);
    }
    g_clear_error(&error);
    return 0;
}
