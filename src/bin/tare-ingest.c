/* tare-ingest: the confined workers of the layer store. Started by the engine alone:
 *
 *   tare-ingest decode MAX-BYTES         compressed on 0, plain on 1
 *   tare-ingest index DIFF-ID BYTES      tar of so many bytes on 3, index to 4, facts to 6
 *   tare-ingest index-tree DIFF-ID BYTES the same of a tree that is no layer: without whiteouts
 *   tare-ingest split                    an archive's headers on 0, what they mean on 0 (layer/split.h)
 *
 * All answer with one frame on fd 5 (layer/worker.h). */
#include "base/fd.h"
#include "base/parse.h"
#include "base/stream.h"
#include "layer/decode.h"
#include "layer/erofs.h"
#include "layer/split.h"
#include "layer/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define DECODE_MEMORY (320u << 20) /* the largest window, the tables around it, and buffers */
#define PIPE_MAX (4 << 20)         /* a larger one would need more buffers than a copy costs */
#define SPLIT_MEMORY (64u << 20)
#define INDEX_MEMORY (G_GUINT64_CONSTANT(2) << 30)
#define INDEX_SLACK (64u << 20)

static bool parse_bytes(const char *text, guint64 *ret, GError **error)
{
    return parse_uint(text, G_MAXINT64, ret) || error_set(error, TARE_ERROR_INVALID, "invalid number of bytes %s", text);
}

/* Gives the pages of a full buffer to the pipe instead of copying them into it: the decoder does not come back to them before as
 * much again as a pipe holds has followed, so that they have been read by then. */
static bool give_pages(struct byte_sink *sink, const void *data, gsize length, GError **error)
{
    struct iovec piece = { .iov_base = (void *)data, .iov_len = length };
    if (length != DECODE_OUTPUT_ROOM) /* the last one */
        return fd_write_full(STDOUT_FILENO, data, length) == 0 || error_set_errno(error, errno, "write uncompressed data");
    while (piece.iov_len > 0) {
        ssize_t n = vmsplice(STDOUT_FILENO, &piece, 1, 0);
        if (n < 0 && errno != EINTR)
            return error_set_errno(error, errno, "write uncompressed data");
        if (n > 0) {
            piece.iov_base = (char *)piece.iov_base + n;
            piece.iov_len -= (size_t)n;
        }
    }
    return true;
}

static bool run_decode(char **arguments, guint64 values[WORKER_REPORT_VALUES], GError **error)
{
    struct decode_limits limits = { 0 };
    const struct confine_limits confine = { .max_memory = DECODE_MEMORY, .gives_pages = true };
    int room = fcntl(STDOUT_FILENO, F_GETPIPE_SZ);
    limits.buffers = room > 0 && room <= PIPE_MAX ? (unsigned)room / DECODE_OUTPUT_ROOM + 3 : 1;
    if (!parse_bytes(arguments[0], &limits.max_output, error) || !confine_worker(&confine, error))
        return false;
    struct fd_source source;
    struct fd_sink sink;
    fd_source_init(&source, STDIN_FILENO, "compressed data");
    fd_sink_init(&sink, STDOUT_FILENO, "uncompressed data");
    if (limits.buffers > 1)
        sink.sink.write = give_pages;
    return decode_stream(&source.source, &sink.sink, &limits, error);
}

static bool write_facts(struct layer_facts *facts, GError **error)
{
    g_autoptr(layer_facts) owned = facts;
    if (layer_facts_is_empty(owned))
        return true;
    g_autoptr(GBytes) bytes = layer_facts_write(owned);
    return fd_write_full(WORKER_FD_FACTS, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes)) == 0 ||
           error_set_errno(error, errno, "write layer facts");
}

static bool index_as(bool is_tree, char **arguments, guint64 values[WORKER_REPORT_VALUES], GError **error)
{
    struct erofs_builder_options options = { .diff_id = arguments[0], .is_tree = is_tree };
    struct confine_limits confine = { .max_memory = INDEX_MEMORY, .file_access = true };
    if (!parse_bytes(arguments[1], &options.tar_bytes, error))
        return false;
    /* No index needs more than its tar and some slack: each inode stands for a header of 512 bytes. */
    confine.max_file = options.tar_bytes + INDEX_SLACK;
    if (!confine_worker(&confine, error))
        return false;
    struct fd_sink sink;
    struct layer_facts *facts = NULL;
    struct erofs_stats stats = { 0 };
    fd_sink_init(&sink, WORKER_FD_INDEX, "index");
    if (!erofs_index_tar(WORKER_FD_TAR, &options, &sink.sink, &facts, &stats, error))
        return false;
    values[0] = stats.content_bytes;
    values[1] = stats.n_inodes;
    return write_facts(facts, error);
}

static bool run_index(char **arguments, guint64 values[WORKER_REPORT_VALUES], GError **error)
{
    return index_as(false, arguments, values, error);
}

static bool run_index_tree(char **arguments, guint64 values[WORKER_REPORT_VALUES], GError **error)
{
    return index_as(true, arguments, values, error);
}

static bool run_split(char **arguments, guint64 values[WORKER_REPORT_VALUES], GError **error)
{
    const struct confine_limits confine = { .max_memory = SPLIT_MEMORY };
    return confine_worker(&confine, error) && split_worker_run(STDIN_FILENO, error);
}

static const struct {
    const char *name;
    int n_arguments;
    bool (*run)(char **arguments, guint64 values[WORKER_REPORT_VALUES], GError **error);
} modes[] = {
    { "decode", 1, run_decode },
    { "index", 2, run_index },
    { "index-tree", 2, run_index_tree },
    { "split", 0, run_split },
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < G_N_ELEMENTS(modes); i++) {
        if (strcmp(argv[1], modes[i].name) != 0 || argc != modes[i].n_arguments + 2)
            continue;
        guint64 values[WORKER_REPORT_VALUES] = { 0 };
        GError *error = NULL;
        bool ok = modes[i].run(argv + 2, values, &error);
        bool said = worker_report_send(WORKER_FD_REPORT, values, ok ? NULL : error);
        _exit(ok && said ? 0 : 1); /* no exit handlers: the filter would not let them finish */
    }
    fprintf(stderr, "tare-ingest is started by tared and does nothing by itself\n");
    return 2;
}
