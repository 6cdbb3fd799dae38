/* Whatever tar is taken, the checker takes its index, and its facts survive being written and read. */
#include "base/fd.h"
#include "layer/erofs.h"
#include "layer/tar-internal.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    /* Sums are set right: a fuzzer does not guess them. */
    g_autofree uint8_t *data = g_memdup2(bytes, size);
    for (size_t at = 0; at + TAR_BLOCK <= size; at += TAR_BLOCK)
        if (memcmp(data + at + 257, "ustar", 5) == 0)
            tar_block_set_checksum(data + at);
    g_autofd int tar = fd_new_sealed("tar", data, size, NULL), index = memfd_create("index", MFD_CLOEXEC);
    struct erofs_device device = { .tar_bytes = size };
    digest_of(data, size, device.diff_id);
    struct erofs_builder_options options = { .diff_id = device.diff_id, .tar_bytes = size };
    struct fd_sink sink;
    g_autoptr(layer_facts) facts = NULL, again = NULL;
    struct erofs_stats stats;
    fd_sink_init(&sink, index, "index");
    if (!erofs_index_tar(tar, &options, &sink.sink, &facts, &stats, NULL))
        return 0;
    g_autoptr(GBytes) written = layer_facts_write(facts);
    g_assert_true(layer_facts_parse(g_bytes_get_data(written, NULL), g_bytes_get_size(written), &again, NULL));
    struct erofs_check_options check = { .id = device.diff_id, .devices = &device, .n_devices = 1 };
    g_assert_true(erofs_check(index, &check, NULL));
    return 0;
}
