/* Whatever the bytes are, the reader ends, with an error or without, and every content it promises can be read or is an error. */
#include "layer/tar-internal.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    /* Sums are set right: a fuzzer does not guess them. */
    g_autofree uint8_t *data = g_memdup2(bytes, size);
    for (size_t at = 0; at + TAR_BLOCK <= size; at += TAR_BLOCK)
        if (memcmp(data + at + 257, "ustar", 5) == 0)
            tar_block_set_checksum(data + at);
    struct memory_source source;
    const struct tar_entry *entry;
    char buffer[700];
    memory_source_init(&source, data, size);
    struct tar_reader *reader = tar_reader_new(&source.source, NULL);
    for (unsigned i = 0; tar_reader_next(reader, &entry, NULL) > 0; i++)
        while (i % 2 && tar_reader_read(reader, buffer, sizeof buffer, NULL) > 0)
            ;
    tar_reader_free(reader);
    return 0;
}
