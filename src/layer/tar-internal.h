/* What the files of the tar reader and writer share: the header block, pax records and sparse maps. */
#pragma once

#include "layer/tar.h"

enum { TAR_BLOCK = 512, TAR_MAX_XATTRS = 4096, TAR_MAX_EXTENTS = 1000000 };

#define TAR_XATTR_PREFIX "SCHILY.xattr."

/* ---- the header block (ustar interchange format of pax(1); GNU tar manual, "Standard") ---- */
enum tar_format { TAR_V7, TAR_USTAR, TAR_STAR, TAR_GNU };

struct tar_header {
    enum tar_format format;
    char typeflag;
    char *name; /* with its prefix; not normalised */
    char *link; /* NULL where empty */
    char *uname, *gname;
    gint64 mode, uid, gid, size, mtime, major, minor;
};
void tar_header_clear(struct tar_header *header);
/* Checks the sum and reads the fields; at is the block's offset, for errors. */
bool tar_header_parse(const unsigned char block[TAR_BLOCK], guint64 at, struct tar_header *ret, GError **error);
/* A numeric field: octal between blanks and NULs (empty is 0), or base-256. */
bool tar_number_parse(const unsigned char *field, size_t width, gint64 *ret);
void tar_block_set_checksum(unsigned char block[TAR_BLOCK]);

/* ---- pax extended headers ---- */
struct tar_pax {
    char *path, *link, *uname, *gname, *sparse_name; /* NULL: not given */
    bool has_size, has_uid, has_gid, has_mtime, has_real_size;
    guint64 size, uid, gid, real_size;
    gint64 mtime;
    guint32 mtime_ns;
    struct tar_entry xattrs;       /* only its xattrs are used */
    bool is_sparse, is_sparse_1_0; /* GNU.sparse.* seen; major 1: the map stands before the data */
    bool has_sparse_offset;
    guint64 sparse_offset; /* 0.0: an offset waits for its numbytes */
    GArray *extents;       /* of struct tar_extent, at unset; versions 0.0 and 0.1 */
};
void tar_pax_clear(struct tar_pax *pax);
/* Adds the records of one extended header. Global ones keep only owner and times: the rest makes no sense for a whole archive. */
bool tar_pax_parse(struct tar_pax *pax, const char *records, gsize length, bool global, guint64 max_path, GError **error);
/* Copies what a global header said. */
void tar_pax_inherit(struct tar_pax *pax, const struct tar_pax *global);
/* "1700000000.5", "-1.25" */
bool tar_time_parse(const char *text, gint64 *ret_seconds, guint32 *ret_ns);

/* ---- sparse maps ---- */
/* Appends a run; the map must ascend and be short enough. */
bool tar_extents_add(GArray *extents, guint64 offset, guint64 length, GError **error);
/* Reads the four or twenty-one descriptors of an old GNU header or extension block. */
bool tar_extents_add_old(GArray *extents, const unsigned char *descriptors, size_t count, GError **error);
/* A pax 1.0 map is text in the entry's content: fed a block at a time. */
struct tar_sparse_map {
    guint64 value, remaining, offset;
    unsigned digits;
    bool has_count, has_offset, done;
};
bool tar_sparse_map_feed(struct tar_sparse_map *map, const unsigned char block[TAR_BLOCK], GArray *extents, GError **error);
/* Checks the finished map against both sizes, sets where each run lies, drops empty runs, joins adjacent ones, and clears
 * entry->extents for a file without holes. */
bool tar_extents_settle(struct tar_entry *entry, GError **error);

/* ---- names ---- */
/* Normalises in place as struct tar_entry says; refuses "..". */
bool tar_path_normalise(char *path, GError **error);
