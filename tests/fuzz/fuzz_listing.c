/* Listings of contexts: two of them, with "\n\n" in between and "|" and "\n" for NUL. */
#include "build/build-internal.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *middle = size < 65536 ? memmem(data, size, "\n\n", 2) : NULL;
    struct listing *a = NULL, *b = NULL;
    g_autoptr(GArray) needed = g_array_new(FALSE, FALSE, sizeof(guint)),
                      kept = g_array_new(FALSE, FALSE, sizeof(struct listing_pair));
    g_autoptr(GPtrArray) removed = g_ptr_array_new();
    g_autofree char *copy = g_memdup2(data, size + (size == 0));
    size_t first = middle ? (size_t)(middle - data) + 1 : 0;

    for (size_t i = 0; i < size; i++)
        copy[i] = copy[i] == '|' || copy[i] == '\n' ? '\0' : copy[i];
    if (middle && listing_parse(g_memdup2(copy, first), first, &a, NULL) &&
        listing_parse(g_memdup2(copy + first + 1, size - first - 1), size - first - 1, &b, NULL))
        listing_diff(a, b, needed, kept, removed);
    listing_free(a);
    listing_free(b);
    return 0;
}
