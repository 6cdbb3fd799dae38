/* Decompression of what strangers packed: gzip (ISA-L), zstd, xz and bzip2, told apart by content. Pure: bytes in, bytes out.
 * Only confined workers, tests and fuzzers call decode_stream on bytes from outside (docs/ARCHITECTURE.md, section 9.1);
 * decode_sniff compares constants and may be called by anyone. */
#pragma once

#include "base/stream.h"

enum decode_format {
    DECODE_PLAIN,
    DECODE_GZIP,
    DECODE_ZSTD,
    DECODE_XZ,
    DECODE_BZIP2,
};

#define DECODE_SNIFF_BYTES 10

/* By the first bytes of a stream; fewer than DECODE_SNIFF_BYTES only where the stream is shorter. */
enum decode_format decode_sniff(const void *data, gsize length);
const char *decode_format_name(enum decode_format format);

/* Where the output is to be taken without a copy: a sink that keeps what it was given until buffers - 1 further writes have
 * returned. Each write but the last is DECODE_OUTPUT_ROOM long and begins on a page. */
#define DECODE_OUTPUT_ROOM (512u << 10)

struct decode_limits {
    guint64 max_output; /* more is TARE_ERROR_TOO_LARGE */
    guint64 max_memory; /* of one decoder's window and tables, as far as the format lets a stream ask for it; 0: 128 MiB */
    unsigned buffers;   /* of output, used in turns; 0: one */
};

/* Decompresses the whole source: several gzip members, zstd frames (skippable ones too), xz or bzip2 streams one after another,
 * then zero padding; anything else behind the end is refused. Plain bytes pass. Errors of the data are TARE_ERROR_INVALID. */
bool decode_stream(struct byte_source *source, struct byte_sink *sink, const struct decode_limits *limits, GError **error);
