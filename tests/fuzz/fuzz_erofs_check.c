/* Any bytes as an index: the checker ends. What it takes belongs to the tar it says. */
#include "base/fd.h"
#include "layer/erofs.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(erofs_reader) reader = NULL;
    g_autofd int index = fd_new_sealed("index", data, size, NULL);
    const struct erofs_device *devices;
    if (!erofs_reader_open(index, &reader, NULL))
        return 0;
    g_autoptr(GString) id = g_string_new(DIGEST_PREFIX);
    for (int i = 0; i < 32; i++)
        g_string_append_printf(id, "%02x", i < 16 ? data[1024 + 48 + i] : 0);
    struct erofs_check_options options = { .id = id->str };
    options.n_devices = erofs_reader_devices(reader, &devices);
    options.devices = devices;
    erofs_check(index, &options, NULL);
    return 0;
}
