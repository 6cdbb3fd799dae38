/* Templates of --format: parsing, and execution over a small value. */

#include "cli/cli-internal.h"

#include <stdint.h>

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char value[] = "{\"A\":[1,\"x\",null],\"B\":{\"c\":true,\"d\":1.5},\"Name\":\"n\"}";
    if (size > 4096)
        return 0;
    g_autofree char *text = g_strndup((const char *)data, size);
    struct template *template = template_parse(text, NULL);
    g_autoptr(json_t) root = json_parse(value, strlen(value), sizeof value, "value", NULL);
    g_autoptr(GString) out = g_string_new(NULL);
    if (template)
        template_execute(template, size & 2 ? "container.InspectResponse" : TEMPLATE_ANY_TYPE, root,
                         size & 1 ? TEMPLATE_MISSING_KEY | TEMPLATE_RAW : 0, out, NULL);
    template_free(template);
    return 0;
}
