/* The index that is picked out of an archive of the engine's: the same in whatever pieces it comes. */
#include "cli/build-internal.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static json_t *found_in(const uint8_t *data, size_t size, size_t first, size_t step)
{
    struct archive_index *index = archive_index_new();
    for (size_t at = 0, n = MIN(first, size); at < size; at += n, n = MIN(step, size - at))
        archive_index_take(index, data + at, n);
    json_t *descriptor = archive_index_descriptor(index);
    archive_index_free(index);
    return descriptor;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(json_t) whole = found_in(data, size, size, size), pieces = found_in(data, size, 1 + size % 600, 97);
    g_assert_true(whole ? json_equal(whole, pieces) : !pieces);
    return 0;
}
