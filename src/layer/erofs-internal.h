/* EROFS as we write it, and the tree from which an image is laid out. On-disk format: erofs.docs.kernel.org, "Core on-disk
 * format"; ours is the subset described in docs/FORMAT.md: extended inodes only, inline attributes only, 512-byte blocks. */
#pragma once

#include "layer/erofs.h"

/* ---- on disk; all numbers little-endian ---- */
enum {
    EROFS_BLOCK = 512,
    EROFS_BLOCK_BITS = 9,
    EROFS_SUPER_AT = 1024,
    EROFS_SUPER = 128,
    EROFS_SLOTS_AT = EROFS_SUPER_AT + EROFS_SUPER, /* a multiple of a slot's size */
    EROFS_SLOT = 128,
    EROFS_INODE = 64,
    EROFS_NID_UNIT = 32,
    EROFS_DIRENT = 12,
    EROFS_XATTR_HEADER = 12,
    EROFS_MAX_NAME = 255,
    EROFS_MAX_TARGET = 4095, /* of a symbolic link: PATH_MAX - 1 */
    EROFS_MAX_DEVICES = 500,
    EROFS_ROOT_NID = 1, /* the superblock has 16 bits for it */
};
#define EROFS_MAGIC 0xE0F5E1E2u
#define EROFS_VOLUME "tare-1" /* the format's version */
#define EROFS_INCOMPAT_CHUNKED 0x4u
#define EROFS_INCOMPAT_DEVICES 0x8u
#define EROFS_HOLE 0xffffffffu
#define EROFS_MAX_BLOCKS 0xfffffff0u                 /* addresses are 32 bits */
#define EROFS_MAX_XATTRS (65534 * 4 + 12)            /* bytes of an inode's attributes */
#define EROFS_MAX_FILE (G_GUINT64_CONSTANT(1) << 44) /* what ext4 holds */

enum erofs_layout { EROFS_FLAT_PLAIN = 0, EROFS_FLAT_INLINE = 2, EROFS_CHUNK_BASED = 4 };

enum erofs_xattr_index {
    EROFS_XATTR_USER = 1,
    EROFS_XATTR_ACL_ACCESS = 2,
    EROFS_XATTR_ACL_DEFAULT = 3,
    EROFS_XATTR_TRUSTED = 4,
    EROFS_XATTR_SECURITY = 6
};
struct erofs_xattr_prefix {
    const char *name;
    enum erofs_xattr_index index;
    bool is_whole; /* the name has nothing after it */
};
extern const struct erofs_xattr_prefix erofs_xattr_prefixes[5];
/* The prefix of a name, or NULL where no index is for it. */
const struct erofs_xattr_prefix *erofs_xattr_find_prefix(const char *name);

/* "user." and the rest; NULL for an index that we do not write. g_free. */
char *erofs_xattr_full_name(enum erofs_xattr_index index, const char *name);

static inline guint16 get16(const guint8 *at)
{
    return (guint16)(at[0] | at[1] << 8);
}
static inline guint32 get32(const guint8 *at)
{
    return (guint32)at[0] | (guint32)at[1] << 8 | (guint32)at[2] << 16 | (guint32)at[3] << 24;
}
static inline guint64 get64(const guint8 *at)
{
    return get32(at) | (guint64)get32(at + 4) << 32;
}
static inline void put16(guint8 *at, guint16 value)
{
    at[0] = (guint8)value;
    at[1] = (guint8)(value >> 8);
}
static inline void put32(guint8 *at, guint32 value)
{
    put16(at, (guint16)value);
    put16(at + 2, (guint16)(value >> 16));
}
static inline void put64(guint8 *at, guint64 value)
{
    put32(at, (guint32)value);
    put32(at + 4, (guint32)(value >> 32));
}
static inline guint64 erofs_round_up(guint64 value, guint64 unit)
{
    return (value + unit - 1) / unit * unit;
}
/* Device numbers as the kernel's new_encode_dev: 12 bits of major, 20 of minor. */
static inline guint32 erofs_encode_device(guint32 major, guint32 minor)
{
    return (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
}
/* The type byte of a directory entry; 0 for a mode that is none. */
guint8 erofs_dirent_type(guint32 mode);
/* The first 16 bytes that the digest's text says. */
void erofs_uuid_of(const char *digest, guint8 ret[16]);

/* ---- hashes that nobody outside can foresee, for tables of names ---- */
guint64 keyed_hash(guint64 salt, const void *data, gsize length);
guint keyed_hash_text(gconstpointer text); /* a GHashFunc */

/* ---- the tree ---- */
enum {
    NODE_IMPLIED = 1,  /* no entry carries it: lower layers may know its attributes (kept on disk, too) */
    NODE_OPAQUE = 2,   /* hides what lower layers have in it */
    NODE_REPLACES = 4, /* stands where a whiteout is, too: opaque, and lower layers' attributes mean nothing */
    NODE_HIDES = 8,    /* laid out: it or a directory above is opaque */
    NODE_SPARSE = 16,
    NODE_PLACED = 32,
};
#define EROFS_INODE_IMPLIED 1 /* in the first reserved byte of an inode, which the kernel does not read */

struct tree_inode {
    guint64 size;
    guint64 data; /* files: offset in the source; sparse ones: index of its runs; devices: the encoded number; laid out
                     directories: first of its sorted names */
    gint64 mtime;
    const char *bytes;    /* of links: the target */
    const guint8 *xattrs; /* encoded, without the header; may be NULL */
    guint32 xattrs_size;
    guint32 mtime_ns, uid, gid;
    guint32 first_name; /* of a directory; 0: none */
    guint32 parent;     /* of a directory */
    guint32 own_name;   /* of a directory: its name there */
    guint32 n_links;    /* laid out */
    guint32 n_names;    /* laid out: entries of a directory */
    guint32 nid, block; /* laid out */
    guint16 mode;
    guint16 source; /* where a file's content lies */
    guint8 flags;
};

struct tree_name {
    const char *text;
    guint32 parent;
    guint32 inode; /* 0: the name is gone */
    guint32 next, hash_next, hash;
    guint32 length;
};

/* A run of a sparse file's data. */
struct tree_run {
    guint64 offset, length, at;
    guint32 source;
};

/* Where bytes lie: first the devices, in the table's order; then files that can only be copied from. */
struct tree_source {
    int fd;
    char diff_id[DIGEST_ROOM];
    guint64 bytes;
    bool is_device;
};

struct erofs_tree {
    GArray *inodes; /* of struct tree_inode; 0 is none, 1 the root */
    GArray *names;  /* of struct tree_name; 0 is none */
    guint32 *buckets, n_buckets;
    GStringChunk *text;
    GPtrArray *runs; /* of GArray of struct tree_run */
    GArray *sources; /* of struct tree_source */
    guint64 max_inodes;
    guint64 generation; /* grows when a name changes its inode: what was found by a path may then be elsewhere */
};
enum { TREE_ROOT = 1 };

void erofs_tree_init(struct erofs_tree *tree, guint64 max_inodes);
void erofs_tree_clear(struct erofs_tree *tree);
static inline struct tree_inode *tree_inode(const struct erofs_tree *tree, guint32 inode)
{
    return &g_array_index(tree->inodes, struct tree_inode, inode);
}
static inline struct tree_name *tree_name(const struct erofs_tree *tree, guint32 name)
{
    return &g_array_index(tree->names, struct tree_name, name);
}
/* A name in a directory, or 0. */
guint32 erofs_tree_find(const struct erofs_tree *tree, guint32 parent, const char *text, gsize length);
/* A new inode; 0 and error where there are too many. Pointers to others are void afterwards. */
guint32 erofs_tree_new_inode(struct erofs_tree *tree, guint32 mode, GError **error);
/* Gives the directory a name for the inode, or makes an existing name its. */
bool erofs_tree_set(struct erofs_tree *tree, guint32 parent, const char *text, gsize length, guint32 inode, GError **error);
/* Walks to a directory, through symbolic links of the tree, as the kernel would with the root as "/". Where create, what is
 * missing is made (implied). Returns 0 with *ret_missing where it is not there, 0 with an error otherwise. */
guint32 erofs_tree_walk(struct erofs_tree *tree, const char *path, gsize length, bool create, bool *ret_missing, GError **error);
/* The real path of a name in a directory; g_free. */
char *erofs_tree_path(const struct erofs_tree *tree, guint32 dir, const char *text, gsize length);
static inline bool tree_is_whiteout(const struct tree_inode *inode)
{
    return S_ISCHR(inode->mode) && inode->data == 0;
}

/* Encoded attributes, appended. */
void erofs_xattr_append(GByteArray *body, enum erofs_xattr_index index, const char *name, const void *value, gsize size);

/* ---- layout ---- */
bool erofs_tree_write(struct erofs_tree *tree, const char *id, struct byte_sink *out, struct erofs_stats *ret_stats,
                      GError **error);

/* How a sparse file is cut into chunks of 2^bits bytes: each is a hole, or lies whole at a block of a device, or is copied into
 * the image. */
struct chunk_plan {
    unsigned bits;
    guint64 n_chunks, n_copied;
};
bool erofs_chunks_plan(const struct erofs_tree *tree, const GArray *runs, guint64 size, struct chunk_plan *ret, GError **error);
enum chunk_kind { CHUNK_HOLE, CHUNK_MAPPED, CHUNK_COPIED };
/* Walks the chunks in order. */
struct chunk_cursor {
    const struct erofs_tree *tree;
    const GArray *runs;
    guint64 size, chunk;
    unsigned bits;
    guint at;
};
/* The next chunk's kind; of a mapped one where it lies. */
enum chunk_kind erofs_chunks_next(struct chunk_cursor *cursor, guint32 *ret_source, guint64 *ret_block);
/* The bytes [from, from + length) of the file, from whatever runs cover them. */
bool erofs_chunks_read(const struct erofs_tree *tree, const GArray *runs, guint64 from, guint8 *into, gsize length,
                       GError **error);

/* ---- facts, being built and read ---- */
struct layer_facts *layer_facts_new(void);
void layer_facts_set_root_opaque(struct layer_facts *facts);
/* Paths in ascending depth-first order share their beginnings on disk. */
bool layer_facts_add_implied(struct layer_facts *facts, const char *path, GError **error);
bool layer_facts_add_link(struct layer_facts *facts, const char *path, const char *target, GError **error);
struct facts_cursor {
    const struct layer_facts *facts;
    gsize at;
    GString *path; /* free it afterwards */
    GString *target;
};
/* The next fact: 'd' an implied directory, 'l' a link to a lower layer's file, 0 the end. */
char layer_facts_next(struct facts_cursor *cursor);
void facts_cursor_clear(struct facts_cursor *cursor);

/* The kernel's format of access control lists (linux/posix_acl_xattr.h); a bad one would make every access to its file fail. */
bool erofs_acl_is_good(const guint8 *value, gsize size);

/* ---- reader, for the checker, the replayer and fix-ups ---- */
struct erofs_file {
    guint64 nid;
    guint64 size;
    gint64 mtime;
    guint32 mtime_ns, uid, gid, n_links, mode;
    guint32 number; /* inodes are counted from 1 */
    guint32 where;  /* first block of flat content, bits of a chunk beyond a block's, or an encoded device number */
    enum erofs_layout layout;
    guint32 xattrs_size; /* with their header */
    bool implied;
};
struct erofs_super {
    guint64 n_inodes;
    guint32 n_blocks, header_blocks;
    guint8 uuid[16];
    bool has_chunks;
};
const struct erofs_super *erofs_reader_super(const struct erofs_reader *reader);
/* Where each device begins among all blocks. */
guint32 erofs_reader_device_block(const struct erofs_reader *reader, size_t device);
bool erofs_reader_root(struct erofs_reader *reader, struct erofs_file *ret, GError **error);
/* Checks what one inode alone can tell. */
bool erofs_reader_inode(struct erofs_reader *reader, guint64 nid, struct erofs_file *ret, GError **error);
guint64 erofs_inode_offset(const struct erofs_reader *reader, guint64 nid);
/* One name in a directory: 1, 0 not there, -1. */
int erofs_reader_lookup(struct erofs_reader *reader, const struct erofs_file *dir, const char *name, gsize length,
                        struct erofs_file *ret, GError **error);
/* Every entry of a directory, "." and ".." too; checks each block's form, and that names ascend. Stops at the first false. */
typedef bool (*erofs_entry_callback)(void *user, const char *name, gsize length, guint64 nid, guint8 type, GError **error);
bool erofs_reader_list(struct erofs_reader *reader, const struct erofs_file *dir, erofs_entry_callback callback, void *user,
                       GError **error);
typedef bool (*erofs_xattr_callback)(void *user, enum erofs_xattr_index index, const char *name, const void *value, gsize size,
                                     GError **error);
bool erofs_reader_xattrs(struct erofs_reader *reader, const struct erofs_file *file, erofs_xattr_callback callback, void *user,
                         GError **error);
/* The target of a symbolic link; g_free. */
char *erofs_reader_target(struct erofs_reader *reader, const struct erofs_file *file, GError **error);
/* Pieces of a regular file's data in ascending order, holes left out; block is among all blocks, of which block_is_ours says
 * whether it is in the index. */
typedef bool (*erofs_piece_callback)(void *user, guint64 offset, guint64 length, guint32 block, GError **error);
bool erofs_reader_pieces(struct erofs_reader *reader, const struct erofs_file *file, erofs_piece_callback callback, void *user,
                         GError **error);
/* Which device has all of these blocks: its number, or -1. */
int erofs_reader_find_device(const struct erofs_reader *reader, guint32 block, guint64 n_blocks);
bool erofs_reader_pread(struct erofs_reader *reader, guint64 at, void *into, gsize length, GError **error);
