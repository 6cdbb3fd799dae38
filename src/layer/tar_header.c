#include "layer/tar-internal.h"

#include <string.h>

/* Offsets and widths of the header's fields. */
enum {
    AT_NAME = 0,
    NAME = 100,
    AT_MODE = 100,
    AT_UID = 108,
    AT_GID = 116,
    AT_SIZE = 124,
    AT_MTIME = 136,
    AT_SUM = 148,
    SUM = 8,
    AT_TYPE = 156,
    AT_LINK = 157,
    AT_MAGIC = 257,
    AT_UNAME = 265,
    AT_GNAME = 297,
    OWNER = 32,
    AT_MAJOR = 329,
    AT_MINOR = 337,
    AT_PREFIX = 345,
    PREFIX = 155,
    STAR_PREFIX = 131,
    AT_STAR = 508,
};

void tar_header_clear(struct tar_header *header)
{
    g_free(header->name);
    g_free(header->link);
    g_free(header->uname);
    g_free(header->gname);
    memset(header, 0, sizeof *header);
}

/* Big-endian two's complement of width * 8 - 1 bits, the first bit being the mark. */
static bool parse_base256(const unsigned char *field, size_t width, gint64 *ret)
{
    bool negative = field[0] & 0x40;
    guint64 fill = negative ? 0xff : 0;
    guint64 value = negative ? G_MAXUINT64 : 0;
    for (size_t i = 0; i < width; i++) {
        guint64 byte = field[i];
        if (i == 0)
            byte = negative ? byte | 0x80 : byte & 0x7f;
        if (value >> 56 != fill)
            return false;
        value = value << 8 | byte;
    }
    if ((value >> 63 != 0) != negative)
        return false;
    *ret = (gint64)value;
    return true;
}

bool tar_number_parse(const unsigned char *field, size_t width, gint64 *ret)
{
    if (field[0] & 0x80)
        return parse_base256(field, width, ret);
    size_t at = 0, end = width;
    while (at < end && (field[at] == ' ' || field[at] == '\0'))
        at++;
    while (end > at && (field[end - 1] == ' ' || field[end - 1] == '\0'))
        end--;
    guint64 value = 0;
    for (; at < end; at++) {
        if (field[at] < '0' || field[at] > '7' || value >> 60 != 0)
            return false;
        value = value << 3 | (guint64)(field[at] - '0');
    }
    if (value > G_MAXINT64)
        return false;
    *ret = (gint64)value;
    return true;
}

static char *text_field(const unsigned char *field, size_t width)
{
    return field[0] ? g_strndup((const char *)field, width) : NULL;
}

/* POSIX adds unsigned bytes; some old writers added signed chars, of which those above 127 count 256 less. */
static bool checksum_matches(const unsigned char *block)
{
    gint64 stored;
    unsigned sum = SUM * ' ', high = 0;
    if (!tar_number_parse(block + AT_SUM, SUM, &stored))
        return false;
    for (size_t i = 0; i < TAR_BLOCK; i++) {
        sum += block[i];
        high += block[i] >> 7;
    }
    for (size_t i = AT_SUM; i < AT_SUM + SUM; i++) {
        sum -= block[i];
        high -= block[i] >> 7;
    }
    return stored == sum || stored == (gint64)sum - 256 * (gint64)high;
}

void tar_block_set_checksum(unsigned char block[TAR_BLOCK])
{
    unsigned sum = SUM * ' ';
    for (size_t i = 0; i < TAR_BLOCK; i++)
        if (i < AT_SUM || i >= AT_SUM + SUM)
            sum += block[i];
    for (int i = 5; i >= 0; i--, sum >>= 3)
        block[AT_SUM + i] = (unsigned char)('0' + (sum & 7));
    block[AT_SUM + 6] = '\0';
    block[AT_SUM + 7] = ' ';
}

static enum tar_format detect_format(const unsigned char *block)
{
    if (memcmp(block + AT_MAGIC, "ustar\0", 6) == 0)
        return memcmp(block + AT_STAR, "tar\0", 4) == 0 ? TAR_STAR : TAR_USTAR;
    if (memcmp(block + AT_MAGIC, "ustar  ", 8) == 0)
        return TAR_GNU;
    return TAR_V7;
}

struct number_field {
    const char *name;
    size_t at, width, into;
    bool not_in_v7;
};

static bool parse_numbers(const unsigned char *block, guint64 at, struct tar_header *header, GError **error)
{
    static const struct number_field fields[] = {
        { "mode", AT_MODE, 8, offsetof(struct tar_header, mode), false },
        { "uid", AT_UID, 8, offsetof(struct tar_header, uid), false },
        { "gid", AT_GID, 8, offsetof(struct tar_header, gid), false },
        { "size", AT_SIZE, 12, offsetof(struct tar_header, size), false },
        { "mtime", AT_MTIME, 12, offsetof(struct tar_header, mtime), false },
        { "device number", AT_MAJOR, 8, offsetof(struct tar_header, major), true },
        { "device number", AT_MINOR, 8, offsetof(struct tar_header, minor), true },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        const struct number_field *field = &fields[i];
        gint64 value = 0;
        if (!(field->not_in_v7 && header->format == TAR_V7) && !tar_number_parse(block + field->at, field->width, &value))
            return error_set(error, TARE_ERROR_INVALID, "tar header at offset %" G_GUINT64_FORMAT ": bad %s", at, field->name);
        *(gint64 *)((char *)header + field->into) = value;
    }
    return true;
}

bool tar_header_parse(const unsigned char block[TAR_BLOCK], guint64 at, struct tar_header *ret, GError **error)
{
    if (!checksum_matches(block))
        return error_set(error, TARE_ERROR_INVALID, "tar header at offset %" G_GUINT64_FORMAT ": bad checksum", at);
    struct tar_header header = { .format = detect_format(block), .typeflag = (char)block[AT_TYPE] };
    if (!parse_numbers(block, at, &header, error))
        return false;
    header.name = g_strndup((const char *)block + AT_NAME, NAME);
    header.link = text_field(block + AT_LINK, NAME);
    if (header.format != TAR_V7) {
        header.uname = text_field(block + AT_UNAME, OWNER);
        header.gname = text_field(block + AT_GNAME, OWNER);
    }
    if (header.format == TAR_USTAR || header.format == TAR_STAR) {
        g_autofree char *prefix = text_field(block + AT_PREFIX, header.format == TAR_STAR ? STAR_PREFIX : PREFIX);
        if (prefix) {
            char *whole = g_strconcat(prefix, "/", header.name, NULL);
            g_free(header.name);
            header.name = whole;
        }
    }
    *ret = header;
    return true;
}

bool tar_path_normalise(char *path, GError **error)
{
    char *to = path;
    for (const char *from = path; *from;) {
        size_t length = strcspn(from, "/");
        if (length == 2 && from[0] == '.' && from[1] == '.')
            return error_set(error, TARE_ERROR_INVALID, "path \"%s\" has a \"..\" in it", path);
        if (length > 0 && !(length == 1 && from[0] == '.')) {
            if (to > path)
                *to++ = '/';
            memmove(to, from, length);
            to += length;
        }
        from += length;
        from += strspn(from, "/");
    }
    *to = '\0';
    return true;
}
