#include "layer/tar-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct tar_writer {
    struct byte_sink *sink;
    guint64 offset;
    guint64 left;    /* of the entry's content that must still come */
    guint64 padding; /* after it */
};

/* One header while it is being made: what does not fit its fields becomes a record. */
struct draft {
    unsigned char block[TAR_BLOCK];
    GPtrArray *records; /* of GBytes: "key=value" */
};

struct tar_writer *tar_writer_new(struct byte_sink *sink)
{
    struct tar_writer *writer = g_new0(struct tar_writer, 1);
    writer->sink = sink;
    return writer;
}

void tar_writer_free(struct tar_writer *writer)
{
    g_free(writer);
}

guint64 tar_writer_offset(const struct tar_writer *writer)
{
    return writer->offset;
}

static bool put(struct tar_writer *writer, const void *data, gsize length, GError **error)
{
    writer->offset += length;
    return sink_write(writer->sink, data, length, error);
}

static bool put_padding(struct tar_writer *writer, guint64 length, GError **error)
{
    static const char zeros[2 * TAR_BLOCK];
    return length == 0 || put(writer, zeros, (gsize)length, error);
}

static guint64 padding_of(guint64 size)
{
    return (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
}

/* ---- fields and records ---- */
static void add_record(struct draft *draft, const char *key, const void *value, gsize length)
{
    GByteArray *record = g_byte_array_new();
    g_byte_array_append(record, (const guint8 *)key, (guint)strlen(key));
    g_byte_array_append(record, (const guint8 *)"=", 1);
    if (length > 0)
        g_byte_array_append(record, value, (guint)length);
    g_ptr_array_add(draft->records, g_byte_array_free_to_bytes(record));
}

static void add_text_record(struct draft *draft, const char *key, const char *value)
{
    add_record(draft, key, value, strlen(value));
}

static void add_number_record(struct draft *draft, const char *key, guint64 value)
{
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, value);
    add_text_record(draft, key, text);
}

/* width - 1 octal digits and a NUL; false where it does not fit, and the field holds 0. */
static bool put_octal(struct draft *draft, size_t at, size_t width, guint64 value)
{
    bool fits = value >> (3 * (width - 1)) == 0;
    if (!fits)
        value = 0;
    for (size_t i = width - 1; i-- > 0; value >>= 3)
        draft->block[at + i] = (unsigned char)('0' + (value & 7));
    return fits;
}

static void put_number(struct draft *draft, size_t at, size_t width, guint64 value, const char *key)
{
    if (!put_octal(draft, at, width, value))
        add_number_record(draft, key, value);
}

static void put_owner(struct draft *draft, size_t at, const char *name, const char *key)
{
    if (!name)
        return;
    size_t length = strlen(name);
    if (length < 32)
        memcpy(draft->block + at, name, length);
    else
        add_text_record(draft, key, name);
}

/* Whole, or split at a "/" into prefix and name. */
static bool put_name(struct draft *draft, const char *path)
{
    size_t length = strlen(path);
    if (length <= 100) {
        memcpy(draft->block, path, length);
        return true;
    }
    if (length > 256)
        return false;
    /* The longest prefix that leaves a name: a "/" at the end of a directory's path is none to split at. */
    for (size_t at = MIN(length - 2, 155); at > 0; at--) {
        if (path[at] != '/' || length - at - 1 > 100)
            continue;
        memcpy(draft->block, path + at + 1, length - at - 1);
        memcpy(draft->block + 345, path, at);
        return true;
    }
    return false;
}

/* Where the real path is in a record, the field shows readers without pax something to keep apart. */
static void put_substitute_name(struct draft *draft, const char *directory, const char *path)
{
    const char *base = strrchr(path, '/');
    g_autofree char *name = g_strdup_printf("%s/%.80s", directory, base && base[1] ? base + 1 : path);
    size_t length = strlen(name);
    memset(draft->block, 0, 100);
    memcpy(draft->block, name, MIN(length, 100));
}

static char *format_time(gint64 seconds, guint32 ns)
{
    bool negative = seconds < 0;
    guint64 whole = negative ? 0 - (guint64)seconds : (guint64)seconds;
    if (negative && ns > 0) {
        whole--;
        ns = 1000000000 - ns;
    }
    char *text = g_strdup_printf("%s%" G_GUINT64_FORMAT ".%09u", negative ? "-" : "", whole, ns);
    size_t length = strlen(text);
    while (text[length - 1] == '0')
        length--;
    text[text[length - 1] == '.' ? length - 1 : length] = '\0';
    return text;
}

static void put_time(struct draft *draft, const struct tar_entry *entry)
{
    bool fits = entry->mtime >= 0 && put_octal(draft, 136, 12, (guint64)entry->mtime);
    if (entry->mtime < 0)
        put_octal(draft, 136, 12, 0);
    if (!fits || entry->mtime_ns > 0) {
        g_autofree char *text = format_time(entry->mtime, entry->mtime_ns);
        add_text_record(draft, "mtime", text);
    }
}

static void add_xattrs(struct draft *draft, const struct tar_entry *entry)
{
    for (guint i = 0; entry->xattrs && i < entry->xattrs->len; i++) {
        const struct tar_xattr *xattr = entry->xattrs->pdata[i];
        g_autoptr(GString) key = g_string_new(TAR_XATTR_PREFIX);
        for (const char *c = xattr->name; *c; c++) {
            if (*c == '=' || *c == '%')
                g_string_append(key, *c == '=' ? "%3D" : "%25");
            else
                g_string_append_c(key, *c);
        }
        add_record(draft, key->str, xattr->value, xattr->size);
    }
}

static int compare_records(gconstpointer a, gconstpointer b)
{
    return g_bytes_compare(*(GBytes *const *)a, *(GBytes *const *)b);
}

/* Each record starts with its own length, whose digits count too. */
static GByteArray *join_records(struct draft *draft)
{
    GByteArray *all = g_byte_array_new();
    g_ptr_array_sort(draft->records, compare_records);
    for (guint i = 0; i < draft->records->len; i++) {
        gsize length;
        const void *data = g_bytes_get_data(draft->records->pdata[i], &length);
        gsize whole = length + 2;
        for (gsize digits = 1, power = 10;; digits++, power *= 10)
            if (whole + digits < power) {
                whole += digits;
                break;
            }
        g_autofree char *head = g_strdup_printf("%zu ", whole);
        g_byte_array_append(all, (const guint8 *)head, (guint)strlen(head));
        g_byte_array_append(all, data, (guint)length);
        g_byte_array_append(all, (const guint8 *)"\n", 1);
    }
    return all;
}

static void put_common(struct draft *draft, char typeflag)
{
    draft->block[156] = (unsigned char)typeflag;
    memcpy(draft->block + 257,
           "ustar\0"
           "00",
           8);
}

static bool write_pax_header(struct tar_writer *writer, struct draft *draft, const char *path, GError **error)
{
    g_autoptr(GByteArray) records = join_records(draft);
    struct draft header = { 0 };
    put_substitute_name(&header, "PaxHeaders.0", path);
    put_octal(&header, 100, 8, 0644);
    put_octal(&header, 108, 8, 0);
    put_octal(&header, 116, 8, 0);
    put_octal(&header, 124, 12, records->len);
    put_octal(&header, 136, 12, 0);
    put_common(&header, 'x');
    tar_block_set_checksum(header.block);
    return put(writer, header.block, TAR_BLOCK, error) && put(writer, records->data, records->len, error) &&
           put_padding(writer, padding_of(records->len), error);
}

/* ---- entries ---- */
static char typeflag_of(const struct tar_entry *entry)
{
    if (entry->is_hard_link)
        return '1';
    switch (entry->mode & S_IFMT) {
    case S_IFREG:
        return '0';
    case S_IFLNK:
        return '2';
    case S_IFCHR:
        return '3';
    case S_IFBLK:
        return '4';
    case S_IFDIR:
        return '5';
    case S_IFIFO:
        return '6';
    default:
        return 0;
    }
}

/* The text of a pax 1.0 sparse map, filled to a block. */
static GString *sparse_map_of(const struct tar_entry *entry)
{
    GString *map = g_string_new(NULL);
    const struct tar_extent *last =
        entry->extents->len > 0 ? &g_array_index(entry->extents, struct tar_extent, entry->extents->len - 1) : NULL;
    /* GNU tar makes the hole at a file's end only for an empty run there. */
    bool ends_in_hole = !last || last->offset + last->length < entry->size;
    g_string_append_printf(map, "%u\n", entry->extents->len + ends_in_hole);
    for (guint i = 0; i < entry->extents->len; i++) {
        const struct tar_extent *extent = &g_array_index(entry->extents, struct tar_extent, i);
        g_string_append_printf(map, "%" G_GUINT64_FORMAT "\n%" G_GUINT64_FORMAT "\n", extent->offset, extent->length);
    }
    if (ends_in_hole)
        g_string_append_printf(map, "%" G_GUINT64_FORMAT "\n0\n", entry->size);
    while (map->len % TAR_BLOCK != 0)
        g_string_append_c(map, '\0');
    return map;
}

static bool check_entry(const struct tar_entry *entry, char typeflag, GError **error)
{
    if (typeflag == 0)
        return error_set(error, TARE_ERROR_INVALID, "\"%s\" is of a type that tar cannot hold", entry->path);
    if ((typeflag == '1' || typeflag == '2') && (!entry->link || !*entry->link))
        return error_set(error, TARE_ERROR_INVALID, "\"%s\" is a link to nothing", entry->path);
    if (typeflag != '0')
        return true;
    guint64 sum = 0, end = 0;
    for (guint i = 0; entry->extents && i < entry->extents->len; i++) {
        const struct tar_extent *extent = &g_array_index(entry->extents, struct tar_extent, i);
        if (extent->offset < end || extent->length > entry->size || extent->offset > entry->size - extent->length)
            return error_set(error, TARE_ERROR_INVALID, "\"%s\" has a bad sparse map", entry->path);
        /* Go and libarchive read the runs one after another, GNU tar begins each at a block: only whole blocks mean the same to
         * all. */
        if (i + 1 < entry->extents->len && extent->length % TAR_BLOCK != 0)
            return error_set(error, TARE_ERROR_INVALID, "\"%s\" has an uneven sparse map", entry->path);
        end = extent->offset + extent->length;
        sum += extent->length;
    }
    if (entry->stored_size != (entry->extents ? sum : entry->size))
        return error_set(error, TARE_ERROR_INVALID, "\"%s\" has two sizes", entry->path);
    return true;
}

static void fill(struct draft *draft, const struct tar_entry *entry, char typeflag, guint64 size)
{
    g_autofree char *path = typeflag == '5' ? g_strconcat(*entry->path ? entry->path : ".", "/", NULL) : g_strdup(entry->path);
    if (typeflag == '0' && entry->extents) {
        put_substitute_name(draft, "GNUSparseFile.0", path);
        add_text_record(draft, "GNU.sparse.major", "1");
        add_text_record(draft, "GNU.sparse.minor", "0");
        add_text_record(draft, "GNU.sparse.name", path);
        add_number_record(draft, "GNU.sparse.realsize", entry->size);
    } else if (!put_name(draft, path)) {
        put_substitute_name(draft, "PaxPath.0", path);
        add_text_record(draft, "path", path);
    }
    if (typeflag == '1' || typeflag == '2') {
        size_t length = strlen(entry->link);
        memcpy(draft->block + 157, entry->link, MIN(length, 100));
        if (length > 100)
            add_text_record(draft, "linkpath", entry->link);
    }
    put_octal(draft, 100, 8, entry->mode & 07777);
    put_number(draft, 108, 8, entry->uid, "uid");
    put_number(draft, 116, 8, entry->gid, "gid");
    put_number(draft, 124, 12, size, "size");
    put_time(draft, entry);
    put_owner(draft, 265, entry->uname, "uname");
    put_owner(draft, 297, entry->gname, "gname");
    bool device = typeflag == '3' || typeflag == '4';
    put_octal(draft, 329, 8, device ? entry->major : 0);
    put_octal(draft, 337, 8, device ? entry->minor : 0);
    add_xattrs(draft, entry);
    put_common(draft, typeflag);
    tar_block_set_checksum(draft->block);
}

bool tar_writer_entry(struct tar_writer *writer, const struct tar_entry *entry, GError **error)
{
    char typeflag = typeflag_of(entry);
    if (writer->left > 0)
        return error_set(error, TARE_ERROR_INTERNAL, "tar entry \"%s\" comes before the content of the last one is complete",
                         entry->path);
    if (!check_entry(entry, typeflag, error))
        return false;
    if ((typeflag == '3' || typeflag == '4') && (entry->major >> 21 != 0 || entry->minor >> 21 != 0))
        return error_set(error, TARE_ERROR_INVALID, "\"%s\" has a device number out of range", entry->path);
    g_autoptr(GString) map = typeflag == '0' && entry->extents ? sparse_map_of(entry) : NULL;
    guint64 content = typeflag == '0' ? entry->stored_size : 0;
    g_autoptr(GPtrArray) records = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    struct draft draft = { .records = records };
    fill(&draft, entry, typeflag, content + (map ? map->len : 0));
    if (records->len > 0 && !write_pax_header(writer, &draft, entry->path, error))
        return false;
    if (!put(writer, draft.block, TAR_BLOCK, error) || (map && !put(writer, map->str, map->len, error)))
        return false;
    writer->left = content;
    writer->padding = padding_of(content);
    return true;
}

static bool end_content(struct tar_writer *writer, GError **error)
{
    if (writer->left > 0)
        return true;
    guint64 padding = writer->padding;
    writer->padding = 0;
    return put_padding(writer, padding, error);
}

bool tar_writer_data(struct tar_writer *writer, const void *data, gsize length, GError **error)
{
    if (length > writer->left)
        return error_set(error, TARE_ERROR_INTERNAL, "more content than the tar entry's size");
    if (length == 0)
        return true;
    writer->left -= length;
    return put(writer, data, length, error) && end_content(writer, error);
}

bool tar_writer_data_fd(struct tar_writer *writer, int fd, guint64 length, GError **error)
{
    if (length > writer->left)
        return error_set(error, TARE_ERROR_INTERNAL, "more content than the tar entry's size");
    if (!sink_write_file(writer->sink, fd, length, error))
        return false;
    writer->left -= length;
    writer->offset += length;
    return length == 0 || end_content(writer, error);
}

bool tar_writer_finish(struct tar_writer *writer, GError **error)
{
    if (writer->left > 0)
        return error_set(error, TARE_ERROR_INTERNAL, "tar ends before the content of the last entry is complete");
    return put_padding(writer, 2 * TAR_BLOCK, error);
}
