#include "registry/registry-internal.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hosts_file *file = NULL;
    if (!hosts_toml_parse((const char *)data, size, &file, NULL))
        return 0;
    for (guint i = 0; i < file->hosts->len; i++) {
        const struct hosts_entry *entry = file->hosts->pdata[i];
        g_assert(*entry->url && entry->certificates->len == entry->keys->len);
    }
    hosts_file_free(file);
    return 0;
}
