/* Any bytes through every decoder, bounded. */
#include "layer/decode.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool drop(struct byte_sink *sink, const void *data, gsize length, GError **error)
{
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory_source source;
    struct byte_sink sink = { .write = drop };
    const struct decode_limits limits = { .max_output = 1 << 22, .max_memory = 1 << 24 };
    g_autoptr(GError) error = NULL;
    memory_source_init(&source, data, size);
    decode_stream(&source.source, &sink, &limits, &error);
    return 0;
}
