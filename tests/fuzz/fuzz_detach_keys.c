/* The first line is the key sequence, the rest what a terminal sends: the filter keeps every byte but a complete sequence. */
#include "shim/shim-internal.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;
    size_t length = newline ? (size_t)(newline - data) : size;
    g_autofree char *text = g_strndup((const char *)data, length);
    g_autoptr(GByteArray) out = g_byte_array_new();
    struct detach_keys keys;
    if (!newline || !detach_keys_parse(text, &keys, NULL))
        return 0;
    size_t rest = size - length - 1;
    if (!detach_keys_filter(&keys, newline + 1, rest, out))
        g_assert(out->len + keys.n_matched == rest && memcmp(out->data ? out->data : data, newline + 1, out->len) == 0);
    return 0;
}
