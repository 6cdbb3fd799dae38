/* What archive.c and archive_member.c share. */
#pragma once

#include "layer/decode.h"
#include "layer/layer-internal.h"

/* Larger files go to the disk: layers, and texts beyond all measure. */
#define MEMBER_IN_MEMORY (256u << 10)

/* One entry of an archive. */
struct archive_member {
    char *path;
    char *link;            /* where it leads, within the archive; NULL for a file */
    GByteArray *bytes;     /* a small file */
    struct intake *intake; /* a large one */
    guint64 size;
    char digest[DIGEST_ROOM]; /* of a large one, once it is whole */
    guint8 head[DECODE_SNIFF_BYTES];
    gsize n_head;
    bool is_compressed;
    bool is_other;   /* a directory, a device: only its being there is known */
    bool is_dropped; /* a layer that is in the store */
};

struct archive_member *archive_member_new(char *path);
void archive_member_free(gpointer member);
/* Begins, continues and ends its content. */
bool archive_member_begin(struct archive_member *member, struct layer_store *store, guint64 size, bool in_memory, GError **error);
bool archive_member_write(struct archive_member *member, const void *data, gsize length, GError **error);
bool archive_member_write_zeros(struct archive_member *member, guint64 length, GError **error);
bool archive_member_end(struct archive_member *member, GError **error);
/* A symbolic link's target from the path of the link; NULL where it leads out of the archive. */
char *archive_resolve(const char *path, const char *target);

/* ---- archive.c ---- */
/* layer_archive_read over a worker that was started already, however it behaves. The socket and the worker are spent. */
bool archive_split(struct layer_store *store, struct byte_source *source, int socket, const struct worker *worker,
                   const struct layer_archive_options *options, struct layer_archive **ret, GError **error);
