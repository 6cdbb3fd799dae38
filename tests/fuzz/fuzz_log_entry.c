#include "container/log-internal.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct log_entry entry;
    log_entry_init(&entry);
    log_entry_parse((const char *)data, size, &entry);
    log_entry_clear(&entry);
    return 0;
}
