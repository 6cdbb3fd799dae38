#include "image/reference.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    struct reference reference = { 0 };
    if (!reference_parse(text, &reference, NULL))
        return 0;
    /* What was accepted must read back as itself. */
    g_autofree char *canonical = reference_canonical(&reference);
    struct reference again = { 0 };
    g_assert(reference_parse(canonical, &again, NULL));
    g_assert_cmpstr(again.path, ==, reference.path);
    reference_clear(&again);
    reference_clear(&reference);
    return 0;
}
