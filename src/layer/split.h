/* Archives of archives (docker load): what a stranger packed around its layers is told apart by a confined worker, which sees the
 * headers alone; the engine takes the contents, and hashes and stores them on the way, so that each byte is written once.
 *
 * Between the two is a stream socket. The worker says one of these, the engine answers a SPLIT_READ with the archive's next
 * block. */
#pragma once

#include "base/error.h"

enum split_kind {
    SPLIT_READ = 1, /* wants the next block; an end of file is the archive's */
    SPLIT_FILE = 2, /* a regular file: its content and the padding of it come next, and are not for the worker */
    SPLIT_LINK = 3, /* a hard link */
    SPLIT_SYMLINK = 4,
    SPLIT_OTHER = 5, /* neither file nor link */
    SPLIT_END = 6,   /* what follows is nobody's */
};

#define SPLIT_BLOCK 512
#define SPLIT_PATH_MAX 4096
#define SPLIT_EXTENTS_MAX 65536

/* Followed by the path, the link's target and the extents (struct split_extent), of a sparse file. */
struct split_frame {
    guint32 kind;
    guint32 path_length, link_length, n_extents;
    guint64 size;   /* of the file */
    guint64 stored; /* bytes of it in the archive */
};
struct split_extent {
    guint64 offset, length;
};

/* In the worker, already confined: from the first block to SPLIT_END. */
bool split_worker_run(int socket, GError **error);
