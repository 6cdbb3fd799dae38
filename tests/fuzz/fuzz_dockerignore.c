/* .dockerignore: the first line is a path, the rest the patterns. */

#include "cli/build-internal.h"

#include <stdint.h>

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *feed = size && size < 4096 ? memchr(data, '\n', size) : NULL;
    if (!feed)
        return 0;
    g_autofree char *path = g_strndup((const char *)data, (size_t)(feed - data)), *clean = path_clean(path);
    g_autoptr(GPtrArray) patterns = ignore_read((const char *)feed + 1, size - (size_t)(feed - data) - 1);
    struct ignore *ignore = ignore_new(patterns, NULL);
    if (ignore) {
        ignore_matches(ignore, clean);
        ignore_may_hold(ignore, clean);
    }
    ignore_free(ignore);
    return 0;
}
