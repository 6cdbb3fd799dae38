/* An archive through the worker that reads its headers: it asks for blocks, and says what they mean. */
#include "base/fd.h"
#include "layer/split.h"
#include "layer/tar-internal.h"

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    int pair[2], room = 1 << 25;
    g_autofree uint8_t *data = g_memdup2(bytes, size);
    for (size_t at = 0; at + TAR_BLOCK <= size; at += TAR_BLOCK) /* sums are set right: a fuzzer does not guess them */
        if (memcmp(data + at + 257, "ustar", 5) == 0)
            tar_block_set_checksum(data + at);
    g_assert_true(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    g_assert_true(fd_write_full(pair[1], data, size) == 0 && shutdown(pair[1], SHUT_WR) == 0);
    split_worker_run(pair[0], NULL);
    fd_close(pair[0]);
    fd_close(pair[1]);
    return 0;
}
