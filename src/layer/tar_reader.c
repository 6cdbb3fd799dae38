#include "layer/tar-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <string.h>
#include <sys/types.h>

enum { BUFFER = 16384 };

struct tar_reader {
    struct byte_source *source; /* or NULL, and */
    int fd;
    struct tar_limits limits;
    unsigned char block[TAR_BLOCK]; /* the last header */
    unsigned char *buffer;          /* BUFFER bytes; what was read and not yet taken is [start, end) */
    gsize start, end;
    guint64 offset;  /* in the archive, of the next byte to take */
    guint64 left;    /* of the entry's content */
    guint64 padding; /* after it, to the block's end */
    guint64 entries;
    bool finished, broken;
    struct tar_pax global;
    struct tar_entry entry;
};

/* Extension headers that stand before one entry, gathered. */
struct pending {
    struct tar_pax pax;
    char *long_name, *long_link; /* GNU 'L' and 'K' */
};

static void pending_clear(struct pending *pending)
{
    tar_pax_clear(&pending->pax);
    g_free(pending->long_name);
    g_free(pending->long_link);
}

static struct tar_reader *reader_new(struct byte_source *source, int fd, const struct tar_limits *limits)
{
    struct tar_reader *reader = g_new0(struct tar_reader, 1);
    reader->source = source;
    reader->fd = fd;
    if (limits)
        reader->limits = *limits;
    if (reader->limits.max_entries == 0)
        reader->limits.max_entries = 8000000;
    if (reader->limits.max_path == 0)
        reader->limits.max_path = 65536;
    if (reader->limits.max_pax == 0)
        reader->limits.max_pax = 8 << 20;
    reader->buffer = g_malloc(BUFFER);
    return reader;
}

struct tar_reader *tar_reader_new(struct byte_source *source, const struct tar_limits *limits)
{
    return reader_new(source, -1, limits);
}

struct tar_reader *tar_reader_new_fd(int fd, const struct tar_limits *limits)
{
    return reader_new(NULL, fd, limits);
}

void tar_reader_free(struct tar_reader *reader)
{
    if (!reader)
        return;
    tar_entry_clear(&reader->entry);
    tar_pax_clear(&reader->global);
    g_free(reader->buffer);
    g_free(reader);
}

guint64 tar_reader_offset(const struct tar_reader *reader)
{
    return reader->offset;
}

/* ---- bytes ---- */
static gssize read_some(struct tar_reader *reader, void *into, gsize length, GError **error)
{
    if (reader->source)
        return source_read(reader->source, into, length, error);
    ssize_t n = fd_pread_full(reader->fd, into, length, (off_t)reader->offset);
    if (n < 0)
        error_set_errno(error, errno, "read tar");
    return n;
}

/* Up to length bytes, short only at the end of the archive. Long reads go past the buffer. */
static gssize take(struct tar_reader *reader, void *into, gsize length, GError **error)
{
    gsize done = 0;
    while (done < length) {
        if (reader->start == reader->end) {
            bool direct = length - done >= BUFFER;
            gssize n =
                read_some(reader, direct ? (unsigned char *)into + done : reader->buffer, direct ? length - done : BUFFER, error);
            if (n < 0)
                return -1;
            if (n == 0)
                break;
            if (direct) {
                done += (gsize)n;
                reader->offset += (guint64)n;
                continue;
            }
            reader->start = 0;
            reader->end = (gsize)n;
        }
        gsize n = MIN(length - done, reader->end - reader->start);
        memcpy((unsigned char *)into + done, reader->buffer + reader->start, n);
        reader->start += n;
        reader->offset += n;
        done += n;
    }
    return (gssize)done;
}

static bool truncated(const struct tar_reader *reader, GError **error)
{
    return error_set(error, TARE_ERROR_INVALID, "unexpected end of tar archive at offset %" G_GUINT64_FORMAT, reader->offset);
}

/* Exactly length bytes. */
static bool take_all(struct tar_reader *reader, void *into, gsize length, GError **error)
{
    gssize n = take(reader, into, length, error);
    return n == (gssize)length || (n >= 0 && truncated(reader, error));
}

/* Passes over length bytes; in a file without reading them. The last one is read, so that a file that is too short is noticed. */
static bool skip(struct tar_reader *reader, guint64 length, GError **error)
{
    unsigned char scratch[TAR_BLOCK];
    gsize buffered = (gsize)MIN(length, reader->end - reader->start);
    reader->start += buffered;
    reader->offset += buffered;
    length -= buffered;
    if (!reader->source && length > 1) {
        if (length > (guint64)G_MAXINT64 - reader->offset)
            return truncated(reader, error);
        reader->offset += length - 1;
        length = 1;
    }
    while (length > 0) {
        gsize n = (gsize)MIN(length, sizeof scratch);
        if (!take_all(reader, scratch, n, error))
            return false;
        length -= n;
    }
    return true;
}

/* Padding may be missing at the archive's very end: Go's reader, and so Docker, takes such archives. */
static bool skip_padding(struct tar_reader *reader, GError **error)
{
    unsigned char scratch[TAR_BLOCK];
    gssize n = take(reader, scratch, (gsize)reader->padding, error);
    reader->padding = 0;
    return n >= 0;
}

static guint64 padding_of(guint64 size)
{
    return (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
}

/* 1, 0 at the end of the archive, -1. */
static int take_header(struct tar_reader *reader, struct tar_header *ret, GError **error)
{
    static const unsigned char zeros[TAR_BLOCK];
    unsigned char *block = reader->block;
    guint64 at = reader->offset;
    gssize n = take(reader, block, TAR_BLOCK, error);
    if (n <= 0)
        return (int)n;
    if (n < TAR_BLOCK)
        return truncated(reader, error) ? 1 : -1;
    if (memcmp(block, zeros, TAR_BLOCK) != 0)
        return tar_header_parse(block, at, ret, error) ? 1 : -1;
    n = take(reader, block, TAR_BLOCK, error);
    if (n < 0)
        return -1;
    if (n == TAR_BLOCK && memcmp(block, zeros, TAR_BLOCK) != 0) {
        error_set(error, TARE_ERROR_INVALID, "lone zero block in tar archive at offset %" G_GUINT64_FORMAT, at);
        return -1;
    }
    return 0;
}

/* The content of an extension header, NUL-terminated. */
static char *take_extension(struct tar_reader *reader, const struct tar_header *header, guint64 max, GError **error)
{
    if (header->size < 0 || (guint64)header->size > max) {
        error_set(error, TARE_ERROR_INVALID, "extended tar header at offset %" G_GUINT64_FORMAT " is too long", reader->offset);
        return NULL;
    }
    g_autofree char *content = g_malloc((gsize)header->size + 1);
    if (!take_all(reader, content, (gsize)header->size, error))
        return NULL;
    content[header->size] = '\0';
    reader->padding = padding_of((guint64)header->size);
    return skip_padding(reader, error) ? g_steal_pointer(&content) : NULL;
}

static bool take_pax(struct tar_reader *reader, const struct tar_header *header, struct pending *pending, GError **error)
{
    bool global = header->typeflag == 'g';
    guint64 at = reader->offset;
    g_autofree char *records = take_extension(reader, header, reader->limits.max_pax, error);
    if (!records)
        return false;
    if (!tar_pax_parse(global ? &reader->global : &pending->pax, records, (gsize)header->size, global, reader->limits.max_path,
                       error)) {
        g_prefix_error(error, "pax header at offset %" G_GUINT64_FORMAT ": ", at);
        return false;
    }
    return true;
}

static bool take_long(struct tar_reader *reader, const struct tar_header *header, char **into, GError **error)
{
    /* One more for the NUL that GNU tar counts. */
    char *text = take_extension(reader, header, reader->limits.max_path + 1, error);
    if (!text)
        return false;
    g_free(*into);
    *into = text;
    return true;
}

/* ---- from headers to an entry ---- */
struct entry_type {
    char typeflag;
    mode_t type;
    bool has_content;
};

/* As Go's reader and Docker have them: links, devices and directories have no content, whatever their size field says. */
static const struct entry_type entry_types[] = {
    { '0', S_IFREG, true },  { '\0', S_IFREG, true }, { '7', S_IFREG, true },  { 'S', S_IFREG, true },
    { '1', 0, false },       { '2', S_IFLNK, false }, { '3', S_IFCHR, false }, { '4', S_IFBLK, false },
    { '5', S_IFDIR, false }, { '6', S_IFIFO, false }, { 'D', S_IFDIR, true },
};

static const struct entry_type *find_type(char typeflag)
{
    for (size_t i = 0; i < G_N_ELEMENTS(entry_types); i++)
        if (entry_types[i].typeflag == typeflag)
            return &entry_types[i];
    return NULL;
}

static char *steal_first(char **one, char **two, char **three)
{
    char **from = *one ? one : two && *two ? two : three;
    return from ? g_steal_pointer(from) : NULL;
}

static bool set_names(struct tar_reader *reader, struct tar_header *header, struct pending *pending, GError **error)
{
    struct tar_entry *entry = &reader->entry;
    if (pending->pax.sparse_name)
        entry->path = g_steal_pointer(&pending->pax.sparse_name);
    else
        entry->path = steal_first(&pending->pax.path, &pending->long_name, &header->name);
    size_t length = strlen(entry->path);
    /* BSD's and v7's way to say directory. */
    if (entry->mode == S_IFREG && length > 0 && entry->path[length - 1] == '/')
        entry->mode = S_IFDIR;
    if (length > reader->limits.max_path || !tar_path_normalise(entry->path, error))
        return length <= reader->limits.max_path ? false : error_set(error, TARE_ERROR_INVALID, "path is too long");
    if (!entry->is_hard_link && entry->mode != S_IFLNK)
        return true;
    entry->link = steal_first(&pending->pax.link, &pending->long_link, &header->link);
    if (!entry->link || !*entry->link)
        return error_set(error, TARE_ERROR_INVALID, "\"%s\" is a link to nothing", entry->path);
    if (strlen(entry->link) > reader->limits.max_path)
        return error_set(error, TARE_ERROR_INVALID, "the link target of \"%s\" is too long", entry->path);
    return !entry->is_hard_link || tar_path_normalise(entry->link, error);
}

static bool set_numbers(struct tar_reader *reader, const struct tar_header *header, const struct tar_pax *pax, GError **error)
{
    struct tar_entry *entry = &reader->entry;
    gint64 uid = pax->has_uid ? (gint64)pax->uid : header->uid;
    gint64 gid = pax->has_gid ? (gint64)pax->gid : header->gid;
    if (uid < 0 || uid > G_MAXUINT32 || gid < 0 || gid > G_MAXUINT32)
        return error_set(error, TARE_ERROR_INVALID, "\"%s\" has an owner out of range", entry->path);
    entry->uid = (guint32)uid;
    entry->gid = (guint32)gid;
    entry->mode |= (mode_t)(header->mode & 07777);
    entry->mtime = pax->has_mtime ? pax->mtime : header->mtime;
    entry->mtime_ns = pax->has_mtime ? pax->mtime_ns : 0;
    if (S_ISCHR(entry->mode) || S_ISBLK(entry->mode)) {
        if (header->major < 0 || header->major > G_MAXUINT32 || header->minor < 0 || header->minor > G_MAXUINT32)
            return error_set(error, TARE_ERROR_INVALID, "\"%s\" has a device number out of range", entry->path);
        entry->major = (guint32)header->major;
        entry->minor = (guint32)header->minor;
    }
    return true;
}

static bool set_content(struct tar_reader *reader, const struct tar_header *header, const struct tar_pax *pax, bool has_content,
                        GError **error)
{
    struct tar_entry *entry = &reader->entry;
    gint64 size = pax->has_size ? (gint64)pax->size : header->size;
    if (!has_content)
        return true;
    if (size < 0 || (guint64)size > (guint64)G_MAXINT64 - 2 * TAR_BLOCK - reader->offset)
        return error_set(error, TARE_ERROR_INVALID, "\"%s\" has a size out of range", entry->path);
    reader->left = (guint64)size;
    reader->padding = padding_of((guint64)size);
    if (S_ISDIR(entry->mode)) {
        /* Readers disagree on whether content follows a file named like a directory: a way to smuggle. GNU's 'D' has its listing.
         */
        if (size > 0 && header->typeflag != 'D')
            return error_set(error, TARE_ERROR_INVALID, "\"%s/\" is a directory with content", entry->path);
        return true;
    }
    entry->data_at = reader->offset;
    entry->stored_size = entry->size = (guint64)size;
    return true;
}

/* Old GNU: four runs in the header, then extension blocks of twenty-one. */
static bool take_old_sparse(struct tar_reader *reader, GError **error)
{
    enum { AT_RUNS = 386, AT_EXTENDED = 482, AT_REAL_SIZE = 483, AT_MORE = 504 };
    struct tar_entry *entry = &reader->entry;
    const unsigned char *block = reader->block;
    gint64 real_size;
    if (!tar_number_parse(block + AT_REAL_SIZE, 12, &real_size) || real_size < 0)
        return error_set(error, TARE_ERROR_INVALID, "bad size of a sparse file");
    entry->size = (guint64)real_size;
    entry->extents = g_array_new(FALSE, FALSE, sizeof(struct tar_extent));
    if (!tar_extents_add_old(entry->extents, block + AT_RUNS, 4, error))
        return false;
    unsigned char extension[TAR_BLOCK];
    for (bool more = block[AT_EXTENDED] != 0; more; more = extension[AT_MORE] != 0)
        if (!take_all(reader, extension, TAR_BLOCK, error) || !tar_extents_add_old(entry->extents, extension, 21, error))
            return false;
    entry->data_at = reader->offset;
    return tar_extents_settle(entry, error);
}

static bool take_sparse_1_0(struct tar_reader *reader, GError **error)
{
    struct tar_entry *entry = &reader->entry;
    struct tar_sparse_map map = { 0 };
    unsigned char block[TAR_BLOCK];
    entry->extents = g_array_new(FALSE, FALSE, sizeof(struct tar_extent));
    while (!map.done) {
        if (reader->left < TAR_BLOCK)
            return error_set(error, TARE_ERROR_INVALID, "bad sparse map");
        if (!take_all(reader, block, TAR_BLOCK, error) || !tar_sparse_map_feed(&map, block, entry->extents, error))
            return false;
        reader->left -= TAR_BLOCK;
    }
    entry->data_at = reader->offset;
    entry->stored_size = reader->left;
    return tar_extents_settle(entry, error);
}

static bool set_sparse(struct tar_reader *reader, const struct tar_header *header, struct tar_pax *pax, GError **error)
{
    struct tar_entry *entry = &reader->entry;
    if (!S_ISREG(entry->mode) || entry->is_hard_link || !pax->is_sparse)
        return true;
    if (!pax->has_real_size)
        return error_set(error, TARE_ERROR_INVALID, "sparse file without a size");
    entry->size = pax->real_size;
    if (pax->is_sparse_1_0)
        return take_sparse_1_0(reader, error);
    entry->extents = pax->extents ? g_steal_pointer(&pax->extents) : g_array_new(FALSE, FALSE, sizeof(struct tar_extent));
    return tar_extents_settle(entry, error);
}

static bool make_entry(struct tar_reader *reader, struct tar_header *header, struct pending *pending, GError **error)
{
    const struct entry_type *type = find_type(header->typeflag);
    if (!type)
        return error_set(error, TARE_ERROR_INVALID, "tar entry \"%s\" is of unknown type %d", header->name, header->typeflag);
    struct tar_entry *entry = &reader->entry;
    entry->mode = type->type;
    entry->is_hard_link = type->typeflag == '1';
    if (!set_names(reader, header, pending, error) || !set_numbers(reader, header, &pending->pax, error) ||
        !set_content(reader, header, &pending->pax, type->has_content, error))
        return false;
    entry->uname = steal_first(&pending->pax.uname, NULL, &header->uname);
    entry->gname = steal_first(&pending->pax.gname, NULL, &header->gname);
    entry->xattrs = g_steal_pointer(&pending->pax.xattrs.xattrs);
    bool ok = header->typeflag == 'S' ? take_old_sparse(reader, error) : set_sparse(reader, header, &pending->pax, error);
    if (!ok)
        g_prefix_error(error, "\"%s\": ", entry->path);
    return ok;
}

static int next_entry(struct tar_reader *reader, struct pending *pending, GError **error)
{
    for (bool extended = false;; extended = true) {
        struct tar_header header = { 0 };
        int found = take_header(reader, &header, error);
        if (found == 0 && extended)
            return truncated(reader, error) ? 0 : -1;
        if (found <= 0)
            return found;
        bool ok, is_entry = false;
        switch (header.typeflag) {
        case 'x':
        case 'X':
        case 'g':
            ok = take_pax(reader, &header, pending, error);
            break;
        case 'L':
            ok = take_long(reader, &header, &pending->long_name, error);
            break;
        case 'K':
            ok = take_long(reader, &header, &pending->long_link, error);
            break;
        case 'V': /* the volume's label */
            ok = true;
            break;
        default:
            ok = make_entry(reader, &header, pending, error);
            is_entry = true;
        }
        tar_header_clear(&header);
        if (!ok || is_entry)
            return ok ? 1 : -1;
    }
}

int tar_reader_next(struct tar_reader *reader, const struct tar_entry **ret, GError **error)
{
    g_assert(!reader->broken);
    if (reader->finished)
        return 0;
    struct pending pending = { 0 };
    int found = -1;
    tar_entry_clear(&reader->entry);
    if (skip(reader, reader->left, error) && skip_padding(reader, error)) {
        reader->left = 0;
        tar_pax_inherit(&pending.pax, &reader->global);
        found = next_entry(reader, &pending, error);
    }
    pending_clear(&pending);
    if (found > 0 && ++reader->entries > reader->limits.max_entries) {
        error_set(error, TARE_ERROR_INVALID, "tar archive has more than %" G_GUINT64_FORMAT " entries",
                  reader->limits.max_entries);
        found = -1;
    }
    reader->finished = found == 0;
    reader->broken = found < 0;
    if (found > 0)
        *ret = &reader->entry;
    return found;
}

void tar_reader_content_taken(struct tar_reader *reader)
{
    g_assert(reader->start == reader->end);
    reader->offset += reader->left + reader->padding;
    reader->left = reader->padding = 0;
}

gssize tar_reader_read(struct tar_reader *reader, void *buffer, gsize length, GError **error)
{
    gsize wanted = (gsize)MIN(length, reader->left);
    if (wanted == 0)
        return 0;
    gssize n = take(reader, buffer, wanted, error);
    if (n == 0)
        truncated(reader, error);
    if (n <= 0)
        return -1;
    reader->left -= (guint64)n;
    return n;
}
