/* tare-ingest: the confined workers of the layer store. Started by the engine alone:
 *
 *   tare-ingest decode MAX-BYTES         compressed on 0, plain on 1
 *   tare-ingest index DIFF-ID MAX-BYTES  tar on 3, index to 4, facts to 6; its size may not pass MAX-BYTES
 *
 * Both answer with one frame on fd 5 (layer/worker.h). */
#include "base/parse.h"
#include "base/stream.h"
#include "layer/decode.h"
#include "layer/worker.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DECODE_MEMORY (320u << 20) /* the largest window, the tables around it, and buffers */

static bool parse_bytes(const char *text, guint64 *ret, GError **error)
{
    return parse_uint(text, G_MAXINT64, ret) || error_set(error, TARE_ERROR_INVALID, "invalid number of bytes %s", text);
}

static bool run_decode(char **arguments, guint64 values[WORKER_REPORT_VALUES], GError **error)
{
    struct decode_limits limits = { 0 };
    const struct confine_limits confine = { .max_memory = DECODE_MEMORY };
    if (!parse_bytes(arguments[0], &limits.max_output, error) || !confine_worker(&confine, error))
        return false;
    struct fd_source source;
    struct fd_sink sink;
    fd_source_init(&source, STDIN_FILENO, "compressed data");
    fd_sink_init(&sink, STDOUT_FILENO, "uncompressed data");
    return decode_stream(&source.source, &sink.sink, &limits, error);
}

static const struct {
    const char *name;
    int n_arguments;
    bool (*run)(char **arguments, guint64 values[WORKER_REPORT_VALUES], GError **error);
} modes[] = {
    { "decode", 1, run_decode },
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
