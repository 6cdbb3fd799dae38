/* Tar archives: a strict, bounded reader and a canonical writer. ustar, pax (1001), GNU long names and links, base-256 numbers,
 * old GNU sparse and pax sparse 0.0, 0.1 and 1.0. Names are bytes. The formats are those of tar(5), pax(1) and the GNU tar
 * manual's appendix.
 *
 * The reader parses what strangers sent: only tare-ingest uses it on layers (docs/ARCHITECTURE.md, section 9.1). One thread at a
 * time. */
#pragma once

#include "base/stream.h"

#include <sys/stat.h>

struct tar_xattr {
    char *name;  /* "security.capability": without the SCHILY.xattr. prefix */
    void *value; /* any bytes */
    gsize size;
};

/* A run of data in a sparse file; between runs are holes. */
struct tar_extent {
    guint64 offset; /* in the file */
    guint64 length;
    guint64 at; /* where the bytes lie in the archive */
};

/* One entry. path and link of hard links are normalised: no leading or doubled "/", no "." components, no trailing "/"; "" is the
 * root. ".." components are refused by the reader. A symbolic link's target is left as it is. */
struct tar_entry {
    char *path;
    char *link;        /* hard link: path of its target; symbolic link: target; else NULL */
    bool is_hard_link; /* then mode's type bits are meaningless */
    mode_t mode;       /* type (S_IFREG …) and permission bits */
    guint32 uid, gid;
    char *uname, *gname; /* may be NULL */
    gint64 mtime;        /* seconds since 1970 */
    guint32 mtime_ns;
    guint64 size; /* of the file's content, holes included */
    guint32 major, minor;
    GPtrArray *xattrs;   /* of struct tar_xattr *, sorted by name; NULL where none */
    GArray *extents;     /* of struct tar_extent; NULL for a file that is not sparse */
    guint64 data_at;     /* the archive's offset of the content (where not sparse) */
    guint64 stored_size; /* bytes of content in the archive */
};
void tar_entry_clear(struct tar_entry *entry);
/* Takes copies; replaces an attribute of the same name. */
void tar_entry_set_xattr(struct tar_entry *entry, const char *name, const void *value, gsize size);

/* ---- reader ---- */
struct tar_limits {
    guint64 max_entries; /* 0: the default, 8,000,000 */
    guint64 max_path;    /* bytes of one path or link; 0: 65,536 */
    guint64 max_pax;     /* bytes of one pax header; 0: 8 MiB */
};
struct tar_reader;
struct tar_reader *tar_reader_new(struct byte_source *source, const struct tar_limits *limits);
/* The same over a file from its offset 0, by pread: content that is not asked for is not even read. The fd stays the caller's. */
struct tar_reader *tar_reader_new_fd(int fd, const struct tar_limits *limits);
void tar_reader_free(struct tar_reader *reader);
/* The next entry: 1, 0 at the end of the archive (two zero blocks, or a clean end of file at a block boundary), -1 and an error
 * (INVALID, with the offset). Content that was not read is skipped. *ret belongs to the reader until the next call. */
int tar_reader_next(struct tar_reader *reader, const struct tar_entry **ret, GError **error);
/* The entry's stored content (for sparse files the runs, one after another). 0 at its end, -1 and an error. */
gssize tar_reader_read(struct tar_reader *reader, void *buffer, gsize length, GError **error);
/* The entry's content and its padding were taken from the source by somebody else, who gives the reader only what it asks for,
 * one block at a time. */
void tar_reader_content_taken(struct tar_reader *reader);
guint64 tar_reader_offset(const struct tar_reader *reader);

/* ---- writer: canonical; the same entries always give the same bytes (docs/FORMAT.md) ---- */
struct tar_writer;
struct tar_writer *tar_writer_new(struct byte_sink *sink);
void tar_writer_free(struct tar_writer *writer);
/* Writes the headers; entry->stored_size bytes of content must follow by tar_writer_data (exactly: else an error). Plain ustar
 * where everything fits, pax records (sorted) where not. data_at is ignored; with extents, a pax 1.0 sparse file: all runs but
 * the last must then be multiples of 512 bytes long, since readers disagree on where the next one begins otherwise. */
bool tar_writer_entry(struct tar_writer *writer, const struct tar_entry *entry, GError **error);
bool tar_writer_data(struct tar_writer *writer, const void *data, gsize length, GError **error);
bool tar_writer_data_fd(struct tar_writer *writer, int fd, guint64 length, GError **error); /* from fd's position */
bool tar_writer_finish(struct tar_writer *writer, GError **error);                          /* the two zero blocks */
guint64 tar_writer_offset(const struct tar_writer *writer);
