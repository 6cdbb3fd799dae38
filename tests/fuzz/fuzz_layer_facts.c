/* What is parsed is written as it was. */
#include "layer/erofs.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(layer_facts) facts = NULL;
    if (!layer_facts_parse(data, size, &facts, NULL))
        return 0;
    g_autoptr(GBytes) bytes = layer_facts_write(facts);
    g_assert_true(g_bytes_get_size(bytes) == size && memcmp(g_bytes_get_data(bytes, NULL), data, size) == 0);
    return 0;
}
