/* The decoder of the API's multiplexed stream: whatever arrives, in whatever pieces, no payload is longer than what was fed. */
#include "shim/shim-internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count(void *user, unsigned stream, const void *data, size_t length)
{
    *(size_t *)user += length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct attach_frame_decoder decoder = { 0 };
    size_t total = 0, at = 0;
    for (size_t piece = 1; at < size; piece = piece * 3 % 17 + 1) {
        size_t n = MIN(piece, size - at);
        if (!attach_frame_decode(&decoder, data + at, n, count, &total, NULL))
            break;
        at += n;
    }
    g_assert(total <= size);
    return 0;
}
