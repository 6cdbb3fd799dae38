/* The layer store: layers kept as their tar beside a small EROFS index (docs/FORMAT.md), ingested in three stages, mounted
 * without unpacking.
 *
 * A layer is named by its diff id ("sha256:" and 64 digits), the digest of its uncompressed tar. All functions may be called from
 * any thread; those that take a cancel return TARE_ERROR_CANCELLED soon after it is set and leave nothing behind. */
#pragma once

#include "base/cancel.h"
#include "base/stream.h"
#include "layer/tar.h"

struct layer_store;

enum layer_mount_mode {
    LAYER_MOUNT_AUTO,     /* the first of these that the start-up probe finds working */
    LAYER_MOUNT_DETACHED, /* fsmount fds handed to overlayfs (Linux 6.15) */
    LAYER_MOUNT_ATTACHED, /* attached in a private mount namespace that the store holds (6.12) */
    LAYER_MOUNT_LOOP,     /* the same over loop devices (6.4) */
    LAYER_MOUNT_UNPACKED, /* the index replayed into a directory */
};

struct layer_store_options {
    const char *ingest_program;       /* path of tare-ingest; NULL: spawn_find_helper */
    enum layer_mount_mode mode;       /* not AUTO: that or an error */
    enum layer_mount_mode known_mode; /* what AUTO found at the last start: used untried where the disk has no room to try */
    bool is_left_whole;               /* closed in order since the machine came up: nothing to sweep, nothing to try again */
    guint64 max_layer_bytes;          /* of one uncompressed layer; 0: 1 TiB */
    guint64 stall_seconds;            /* a worker that does nothing for so long is ended; 0: 60 */
    const char *label;                /* SELinux context of all layers' files, or NULL: their own */
};

/* Opens data_root/layers (made when missing), sweeps what an interrupted ingest left, and probes the mount modes once. */
bool layer_store_open(const char *data_root, const struct layer_store_options *options, struct layer_store **ret, GError **error);
void layer_store_close(struct layer_store *store);
enum layer_mount_mode layer_store_mode(const struct layer_store *store);
bool layer_store_was_left_whole(const struct layer_store *store);
guint64 layer_store_max_bytes(const struct layer_store *store); /* of one uncompressed layer */
/* One line for the log: which mode works and why better ones do not. */
const char *layer_store_verdict(const struct layer_store *store);

/* What is known of a stored layer; image records keep these. */
struct layer_info {
    char diff_id[72];
    guint64 tar_bytes;
    guint64 index_bytes;
    guint64
        content_bytes; /* the sum of its files' sizes, hard links once, links by their text: what Docker calls a layer's size */
    char index_digest[72];
};

/* ---- claims: a layer that has just been found or stored is nobody's until somebody says so ---- */

/* take is called with lock held, and whoever removes layers holds it too: so none goes between the finding and the keeping. take
 * does not lock it again. */
struct layer_claim {
    GMutex *lock;
    bool (*take)(void *user, const struct layer_info *layer, GError **error);
    void *user;
};

/* ---- ingest: bytes of a stranger become a layer ---- */
struct layer_ingest_options {
    const char *name;             /* how errors call it: "layer sha256:…", "build context" */
    const char *expected_blob;    /* digest that the compressed bytes must have, or NULL */
    const char *expected_diff_id; /* or NULL */
    guint64 max_bytes;            /* of the uncompressed tar; 0: the store's limit */
    /* A tree of files that is no layer of an image: names that begin with ".wh." are names like all others. It is stored under an
     * id of its own, so that the same bytes may be a layer, too; no digest can be expected of it. */
    bool is_tree;
    const struct layer_claim *claim; /* or NULL: the layer may be removed before the caller sees it */
    struct cancel *cancel;
    void (*progress)(void *user, guint64 bytes_read); /* of the source; may be NULL; called at most ten times a second */
    void *user;
};
/* Reads the source to its end (plain tar or gzip, zstd, xz, bzip2 by content, several members), stores tar and index. A layer
 * that is there already is success. */
bool layer_store_ingest(struct layer_store *store, struct byte_source *source, const struct layer_ingest_options *options,
                        struct layer_info *ret, GError **error);

/* Decompresses through a confined worker, without storing: for archives (load, contexts that are a text). Sniffs; plain bytes
 * pass. */
bool layer_decode(struct layer_store *store, struct byte_source *source, struct byte_sink *sink, guint64 max_bytes,
                  struct cancel *cancel, GError **error);

/* ---- archives: what docker load gets ---- */
/* The archive's regular files by name; links are followed within it. A file that may be a layer is hashed and stored on the way
 * under no name yet, so that as a layer it is only renamed. One that is called "blobs/sha256/<hex>" after a layer in the store is
 * not kept. */
struct layer_archive;
struct layer_archive_options {
    const struct layer_claim *claim; /* for layers that need not be kept because the store has them */
    struct cancel *cancel;
    /* Now and then, and at the end, for files that may be layers; may be NULL. */
    void (*progress)(void *user, const char *path, guint64 current, guint64 total);
    void *user;
};
/* Reads the source to its end; compressed archives are decoded. */
bool layer_archive_read(struct layer_store *store, struct byte_source *source, const struct layer_archive_options *options,
                        struct layer_archive **ret, GError **error);
void layer_archive_free(struct layer_archive *archive);
bool layer_archive_has(const struct layer_archive *archive, const char *path);
/* All names, sorted; g_free the array alone. */
const char **layer_archive_paths(const struct layer_archive *archive);
/* A text of at most max bytes. NOT_FOUND: 'open PATH: no such file or directory'. g_free. */
char *layer_archive_text(const struct layer_archive *archive, const char *path, gsize max, GError **error);
/* A file, compressed or not, becomes a layer as with layer_store_ingest. May be asked for the same again. */
bool layer_archive_take(struct layer_archive *archive, const char *path, const struct layer_ingest_options *options,
                        struct layer_info *ret, GError **error);

/* ---- drafts: a layer whose tar we write ourselves (COPY, ADD, commit) ---- */
struct layer_draft;
bool layer_draft_new(struct layer_store *store, struct layer_draft **ret, GError **error);
struct tar_writer *layer_draft_writer(struct layer_draft *draft);
/* Borrowed until the draft is freed. */
void layer_draft_set_claim(struct layer_draft *draft, const struct layer_claim *claim);
/* Finishes the tar, indexes and stores it. The draft is freed in any case. */
bool layer_draft_commit(struct layer_draft *draft, struct layer_info *ret, GError **error);
void layer_draft_discard(struct layer_draft *draft);

/* Seals an overlay's upper directory into a canonical layer: one sorted walk; char 0:0 and opaque directories become .wh.
 * entries; times cut to seconds. */
struct layer_seal_options {
    gint64 clamp_mtime;              /* seconds; later times become this; < 0: no clamp */
    const char *const *exclude;      /* paths (no leading "/") left out with all below: mount points; may be NULL */
    GHashTable *only;                /* set of paths: all else is left out, with all below; NULL: everything is wanted */
    const char *const *removed;      /* paths, sorted, that get a whiteout at the end; NULL: none */
    const struct layer_claim *claim; /* or NULL */
    struct cancel *cancel;
};
bool layer_store_seal(struct layer_store *store, int upper_fd, const struct layer_seal_options *options, struct layer_info *ret,
                      GError **error);

/* ---- chains: layers in order, lowest first ---- */
/* Makes the chain's fix-up index where it needs one; call when an image is registered, before it is visible. */
bool layer_chain_prepare(struct layer_store *store, const char *const *diff_ids, GError **error);
bool layer_chain_has_fixup(struct layer_store *store, const char *const *diff_ids);
/* Makes the fix-up index again; *ret_remade: the one that was there was another one. */
bool layer_chain_verify(struct layer_store *store, const char *const *diff_ids, bool *ret_remade, GError **error);
/* The OCI chain id of the whole chain; "" for an empty one. */
void layer_chain_id(const char *const *diff_ids, char ret[72]);

/* A chain's mounts, shared by all who hold one. */
struct layer_stack;
bool layer_stack_acquire(struct layer_store *store, const char *const *diff_ids, struct layer_stack **ret, GError **error);
void layer_stack_release(struct layer_stack *stack);
/* Mount (or directory) fds for overlayfs, topmost first, as "lowerdir+" wants them; valid while the stack is held. Never empty:
 * an empty chain has one empty directory. */
size_t layer_stack_fds(const struct layer_stack *stack, const int **ret);
/* For modes without detached mounts in overlayfs: the paths of the same (namespace fd to enter in *ret_namespace, or -1;
 * ret_namespace may be NULL). NULL in DETACHED mode. */
const char *const *layer_stack_paths(const struct layer_stack *stack, int *ret_namespace);

/* ---- overlay: used by tared and by shims ---- */
struct overlay_options {
    const int *lower_fds; /* topmost first */
    size_t n_lower_fds;
    const char *const *lower_paths; /* instead of fds, for kernels before 6.15 */
    const char *upper, *work;       /* paths; both NULL: read-only */
    bool is_volatile;               /* no sync at unmount */
    bool no_xino;                   /* 32-bit images */
    const char *label;              /* SELinux context of all files, or NULL: their own */
};
/* A detached overlay mount (fsmount) or -1 and error. Verifies that it is writable where an upper was given: overlayfs falls back
 * silently. */
int overlay_mount(const struct overlay_options *options, GError **error);
/* The same where the paths of the stack mean something, wherever its backend keeps them: for options that name its layers. */
int layer_stack_overlay(struct layer_stack *stack, const struct overlay_options *options, GError **error);
/* A read-only detached mount of a chain, to read files in an image; close it when done. For an empty chain an empty directory. */
int layer_stack_mount(struct layer_stack *stack, GError **error);

/* ---- the rest of a layer's life ---- */
bool layer_store_has(struct layer_store *store, const char *diff_id);
/* Facts of a stored layer, from the files. */
bool layer_store_info(struct layer_store *store, const char *diff_id, struct layer_info *ret, GError **error);
/* The tar, read-only, position 0, for save and push. */
int layer_store_open_tar(struct layer_store *store, const char *diff_id, GError **error);
/* Hashes the tar again and makes the index again from it. One that differs is replaced: *ret_remade, which may be NULL. A bad tar
 * is an error of code INVALID; the layer is then marked as damaged, layer_store_has denies it, and the next ingest of it heals
 * it. */
bool layer_store_verify(struct layer_store *store, const char *diff_id, bool *ret_remade, GError **error);
bool layer_store_is_damaged(struct layer_store *store, const char *diff_id);
/* fdatasync of tar and index; after it the layer may be marked durable. */
bool layer_store_make_durable(struct layer_store *store, const char *diff_id, GError **error);
/* Closes cached mounts, unlinks both files; absent is success. The caller knows that nothing refers to it. The space of a large
 * layer comes back a little later; what is ingested next waits for it. */
bool layer_store_remove(struct layer_store *store, const char *diff_id, GError **error);
/* Until the space of all removed layers is back: for who says how much it is. */
void layer_store_wait_for_space(struct layer_store *store);
/* Removes what no chain of these uses: fix-ups whose chain id is not in the set. */
bool layer_store_remove_fixups(struct layer_store *store, const char *chain_id, GError **error);
/* Chain ids of all fix-ups, as the function above takes them; NULL-terminated, g_strfreev. */
char **layer_store_list_fixups(struct layer_store *store, GError **error);
/* What the unpacked backend left, where another one is in use now. Only while no container lives: one may have begun over it. In
 * the background, ended by layer_store_close. */
void layer_store_sweep_unpacked(struct layer_store *store);
/* All diff ids whose tar is present, with or without its index, NULL-terminated, sorted; g_strfreev. */
char **layer_store_list(struct layer_store *store, GError **error);
/* Where its tar is, or what is mounted of it: its index, or the directory that it is unpacked into. For people who look; g_free.
 */
char *layer_store_tar_path(const struct layer_store *store, const char *diff_id);
char *layer_store_mounted_path(const struct layer_store *store, const char *diff_id);
/* What all its files take on the disk, those of the indexes included. */
guint64 layer_store_disk_bytes(struct layer_store *store);
