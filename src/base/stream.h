/* Byte streams between parts that do not know each other: a request body, a file, a pipe. Embed one as the first member of your
 * own struct. One thread at a time. */
#pragma once

#include "base/error.h"

struct byte_source {
    /* Up to length bytes into buffer; 0 is the end, -1 an error (set). Blocks. */
    gssize (*read)(struct byte_source *self, void *buffer, gsize length, GError **error);
};

struct byte_sink {
    /* All of the data, or false and an error. */
    bool (*write)(struct byte_sink *self, const void *data, gsize length, GError **error);
    /* The same with so many bytes of a file, for sinks that need not see them; NULL where it has no better way. */
    bool (*write_file)(struct byte_sink *self, int fd, guint64 offset, guint64 length, GError **error);
};

/* Over an fd, which stays the caller's. */
struct fd_source {
    struct byte_source source;
    int fd;
    const char *what; /* for errors: "read <what>: …" */
};
struct fd_sink {
    struct byte_sink sink;
    int fd;
    const char *what;
};
void fd_source_init(struct fd_source *self, int fd, const char *what);
void fd_sink_init(struct fd_sink *self, int fd, const char *what);

/* Over memory, which stays the caller's. */
struct memory_source {
    struct byte_source source;
    const char *data;
    gsize length, at;
};
void memory_source_init(struct memory_source *self, const void *data, gsize length);

gssize source_read(struct byte_source *source, void *buffer, gsize length, GError **error);
/* Reads until length or the end; bytes or -1. */
gssize source_read_full(struct byte_source *source, void *buffer, gsize length, GError **error);
bool sink_write(struct byte_sink *sink, const void *data, gsize length, GError **error);
/* length bytes of a file, from its position on, which moves. */
bool sink_write_file(struct byte_sink *sink, int fd, guint64 length, GError **error);
bool stream_copy(struct byte_source *from, struct byte_sink *to, guint64 *ret_copied, GError **error);
