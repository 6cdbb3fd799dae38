/* Any bytes as what a client sends on one connection: heads and bodies, in pieces whose size the first byte chooses. */
#include "api/http.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size);
int LLVMFuzzerTestOneInput(const guint8 *data, size_t size)
{
    if (size < 1)
        return 0;
    size_t step = data[0] % 64 + 1, at = 1;
    struct http_parser_state *state = http_parser_state_new();
    struct http_request *request = NULL;
    bool body_done = false;
    gssize eaten = 0;
    while (at < size && eaten >= 0) {
        char piece[64];
        size_t n = MIN(step, size - at);
        memcpy(piece, data + at, n);
        gsize body;
        if (!request) {
            eaten = http_parser_state_head(state, piece, n, &request, NULL);
            body_done = request && !request->has_body;
        } else {
            eaten = http_parser_state_body(state, piece, n, &body, &body_done, NULL);
        }
        at += eaten > 0 ? (size_t)eaten : 0;
        if (body_done)
            g_clear_pointer(&request, http_request_free);
    }
    http_request_free(request);
    http_parser_state_free(state);
    return 0;
}
