/* The index of a layer: an EROFS image of 512-byte blocks, metadata only, whose extra device is the layer's tar (docs/FORMAT.md).
 *
 * tare-ingest builds it from the entries of a tar that was verified; whoever is privileged checks it (erofs_check) before
 * mounting or reading it. The index is a pure function of the tar's bytes. Nothing here keeps global state; one thread at a time
 * per object. */
#pragma once

#include "base/digest.h"
#include "base/stream.h"
#include "layer/tar.h"

/* ---- facts: what an index cannot say, because it depends on the layers below ---- */
struct layer_facts; /* immutable once built */
void layer_facts_free(struct layer_facts *facts);
typedef struct layer_facts layer_facts;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(layer_facts, layer_facts_free)
/* True where the layer means the same over any other; then no sidecar is kept. NULL is empty. */
bool layer_facts_is_empty(const struct layer_facts *facts);
/* An opaque root: nothing of the layers below shows. overlayfs cannot say it, so the layers below are left out of the stack. */
bool layer_facts_root_is_opaque(const struct layer_facts *facts);
/* The sidecar file's bytes. */
GBytes *layer_facts_write(const struct layer_facts *facts);
bool layer_facts_parse(const void *data, gsize length, struct layer_facts **ret, GError **error);
#define LAYER_FACTS_MAX (64 << 20) /* bytes of a sidecar */

/* ---- building ---- */
struct erofs_builder_options {
    const char *diff_id;
    guint64 tar_bytes;  /* of the whole file */
    guint64 max_inodes; /* 0: the default, 4,000,000 (about 150 bytes of memory each) */
    bool is_tree;       /* no layer: names that begin with ".wh." are names like all others */
};
struct erofs_stats {
    guint64 n_inodes;
    guint64 content_bytes; /* of regular files, hard links once, and of the texts of symbolic links */
    guint64 index_bytes;
};
struct erofs_builder;
struct erofs_builder *erofs_builder_new(const struct erofs_builder_options *options);
void erofs_builder_free(struct erofs_builder *builder);
/* The next entry, in the tar's order; later ones replace earlier ones. Whiteouts (.wh. names) are understood here,
 * unless it is a tree. */
bool erofs_builder_add(struct erofs_builder *builder, const struct tar_entry *entry, GError **error);
/* Writes the image. tar_fd is read (pread) only where a run of a sparse file does not lie at a block. *ret_facts may be empty,
 * never NULL. */
bool erofs_builder_finish(struct erofs_builder *builder, int tar_fd, struct byte_sink *out, struct layer_facts **ret_facts,
                          struct erofs_stats *ret_stats, GError **error);
/* All of it: reads the tar (by pread, contents skipped) and writes its index. */
bool erofs_index_tar(int tar_fd, const struct erofs_builder_options *options, struct byte_sink *out,
                     struct layer_facts **ret_facts, struct erofs_stats *ret_stats, GError **error);

/* ---- checking ---- */
/* What an index claims to belong to. A layer's index has its diff id as id and one tar; a fix-up has its chain id, and the tars
 * that it borrows from. */
struct erofs_device {
    char diff_id[DIGEST_ROOM];
    guint64 tar_bytes;
};
struct erofs_check_options {
    const char *id;                     /* diff id or chain id: gives the UUID */
    const struct erofs_device *devices; /* in the order of the device table */
    size_t n_devices;
};
/* Structure only, and all of it, before the kernel or the replayer sees the file: what the builder would not write is refused
 * (INVALID). Memory: 16 bytes per inode. The file must not change afterwards. */
bool erofs_check(int index_fd, const struct erofs_check_options *options, GError **error);

/* ---- reading ---- */
/* Over an index that was checked; the fd stays the caller's. Bounded in any case: a bad image gives errors, never more. */
struct erofs_reader;
bool erofs_reader_open(int index_fd, struct erofs_reader **ret, GError **error);
void erofs_reader_free(struct erofs_reader *reader);
typedef struct erofs_reader erofs_reader;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(erofs_reader, erofs_reader_free)
/* The device table: which tars to name as "device", in this order (tar_bytes in whole blocks). The array is the reader's. */
size_t erofs_reader_devices(const struct erofs_reader *reader, const struct erofs_device **ret);

/* ---- replaying: the index as ordinary files ---- */
/* Into dirfd, an empty directory that nobody else can reach. Owners, modes, times, attributes, hard links and holes as in the
 * index; whiteouts become devices 0:0, as overlayfs wants them. Needs the privilege for what the layer has. tar_fds in the order
 * of the device table; read by pread. After an error the directory holds a part. */
bool erofs_replay(struct erofs_reader *reader, const int *tar_fds, int dirfd, GError **error);

/* ---- fix-ups ---- */
/* One layer of a chain, lowest first. One may stand twice, as in the image: its topmost place decides. */
struct fixup_layer {
    const char *diff_id;
    guint64 tar_bytes;
    int index_fd;                    /* of a checked index */
    const struct layer_facts *facts; /* or NULL */
};
/* Writes the index that is stacked on top of these layers so that they show what their facts mean here. *ret_needed false:
 * nothing differs, nothing was written. The image's devices are found by erofs_reader_devices. A hard link to a file that no
 * layer below has is INVALID. */
bool fixup_build(const struct fixup_layer *layers, size_t n_layers, const char *chain_id, struct byte_sink *out, bool *ret_needed,
                 GError **error);
/* erofs_check for a fix-up: its devices must be tars of these layers. */
bool fixup_check(int index_fd, const struct fixup_layer *layers, size_t n_layers, const char *chain_id, GError **error);
