/* Whatever a worker says of an archive: the first block of the input is the archive's, over and over; the rest is said. */
#include "base/fd.h"
#include "layer/archive-internal.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *directory = g_dir_make_tmp("tare-fuzz-XXXXXX", NULL);
    struct layer_store store = { .fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .max_layer_bytes = 1 << 20 };
    struct worker worker = { .report = open("/dev/null", O_RDONLY | O_CLOEXEC), .who = "worker" };
    const struct layer_archive_options options = { 0 };
    struct layer_archive *archive = NULL;
    struct memory_source source;
    size_t block = MIN(size, 4096);
    int pair[2], room = 1 << 22;
    g_autofree uint8_t *bytes = g_malloc0(block * 16 + 8); /* begins with zeros, as what is not compressed */
    for (size_t i = 0; i < block * 16; i++)
        bytes[8 + i] = data[i % block];
    memory_source_init(&source, bytes, block * 16 + 8);
    g_assert_true(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    for (int i = 0; i < 2; i++)
        setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    g_assert_true(fd_write_full(pair[1], data + block, size - block) == 0 && shutdown(pair[1], SHUT_WR) == 0);
    archive_split(&store, &source.source, pair[0], &worker, &options, &archive, NULL);
    layer_archive_free(archive);
    fd_close(pair[1]);
    fd_close(store.fd);
    g_assert_true(rmdir(directory) == 0); /* nothing is left */
    return 0;
}
