/* Responses of the engine: head and body, the body fed in pieces of seven bytes. */

#include "cli/cli-internal.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_head head;
    gssize taken = http_head_parse((const char *)data, size, false, &head, NULL);
    if (taken <= 0)
        return 0;
    struct http_body body;
    http_body_init(&body, &head);
    http_head_clear(&head);
    for (size_t at = (size_t)taken, n; at < size && !body.done; at += n) {
        const char *content;
        gsize length;
        if (!http_body_take(&body, (const char *)data + at, MIN(7, size - at), &n, &content, &length, NULL) || n == 0)
            break;
    }
    return 0;
}
