/* Tar entries for a build's context and for cp: ustar, with pax records for what does not fit. */
#include "cli/build-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <string.h>

#define BLOCK 512
#define SIZE_FIELD_MAX ((G_GUINT64_CONSTANT(1) << 33) - 1)

struct ustar {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6], version[2], uname[32],
        gname[32], major[8], minor[8], prefix[155], pad[12];
};
G_STATIC_ASSERT(sizeof(struct ustar) == BLOCK);

bool pack_data(struct pack *pack, const void *data, gsize length, GError **error)
{
    if (fd_write_full(pack->fd, data, length) < 0)
        return error_set_errno(error, errno, "send the context");
    pack->sent += length;
    if (pack->progress)
        pack->progress(pack->sent, pack->user);
    return true;
}

bool pack_padding(struct pack *pack, guint64 size, GError **error)
{
    static const char zeros[BLOCK];
    gsize rest = (gsize)(size % BLOCK);
    return rest == 0 || pack_data(pack, zeros, BLOCK - rest, error);
}

bool pack_end(struct pack *pack, GError **error)
{
    static const char zeros[2 * BLOCK];
    return pack_data(pack, zeros, sizeof zeros, error);
}

static void put_octal(char *field, gsize size, guint64 value)
{
    for (gsize i = size - 1; i-- > 0; value >>= 3)
        field[i] = (char)('0' + (value & 7));
}

/* "12 path=…\n": the length counts its own digits. */
static void add_record(GString *records, const char *key, const void *value, gsize length)
{
    gsize body = strlen(key) + length + 3, total = body + 1;
    for (gsize previous = 0; previous != total;) {
        previous = total;
        g_autofree char *digits = g_strdup_printf("%" G_GSIZE_FORMAT, total);
        total = body + strlen(digits);
    }
    g_string_append_printf(records, "%" G_GSIZE_FORMAT " %s=", total, key);
    g_string_append_len(records, value, (gssize)length);
    g_string_append_c(records, '\n');
}

static bool is_ascii(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text >= 0x80)
            return false;
    return true;
}

/* A name of up to 100 bytes, or one that splits at a slash into a prefix of up to 155. */
static bool put_name(struct ustar *header, const char *name)
{
    gsize length = strlen(name);
    if (length <= sizeof header->name) {
        memcpy(header->name, name, length);
        return true;
    }
    if (length > sizeof header->name + sizeof header->prefix + 1)
        return false;
    for (gsize at = MIN(length - 1, sizeof header->prefix); at > 0; at--)
        if (name[at] == '/' && length - at - 1 <= sizeof header->name && length - at - 1 > 0) {
            memcpy(header->prefix, name, at);
            memcpy(header->name, name + at + 1, length - at - 1);
            return true;
        }
    return false;
}

static void seal(struct ustar *header)
{
    memcpy(header->magic, "ustar", 6);
    memcpy(header->version, "00", 2);
    memset(header->checksum, ' ', sizeof header->checksum);
    guint64 sum = 0;
    for (gsize i = 0; i < sizeof *header; i++)
        sum += ((const unsigned char *)header)[i];
    put_octal(header->checksum, 7, sum);
    header->checksum[6] = '\0';
}

static void fill(struct ustar *header, const struct pack_entry *entry)
{
    put_octal(header->mode, sizeof header->mode, entry->mode & 07777);
    put_octal(header->uid, sizeof header->uid, entry->uid);
    put_octal(header->gid, sizeof header->gid, entry->gid);
    put_octal(header->size, sizeof header->size, MIN(entry->size, SIZE_FIELD_MAX));
    put_octal(header->mtime, sizeof header->mtime, entry->mtime > 0 ? (guint64)entry->mtime : 0);
    put_octal(header->major, sizeof header->major, entry->major);
    put_octal(header->minor, sizeof header->minor, entry->minor);
    header->type = entry->type;
}

static bool send_records(struct pack *pack, const GString *records, const char *name, GError **error)
{
    struct ustar header = { 0 };
    struct pack_entry entry = { .mode = 0, .type = 'x', .size = records->len };
    g_autofree char *base = g_path_get_basename(name), *path = g_strconcat("PaxHeaders.0/", base, NULL);
    fill(&header, &entry);
    g_strlcpy(header.name, is_ascii(path) ? path : "PaxHeaders.0/entry", sizeof header.name);
    seal(&header);
    return pack_data(pack, &header, sizeof header, error) && pack_data(pack, records->str, records->len, error) &&
           pack_padding(pack, records->len, error);
}

bool pack_header(struct pack *pack, const struct pack_entry *entry, GError **error)
{
    struct ustar header = { 0 };
    g_autoptr(GString) records = g_string_new(NULL);
    fill(&header, entry);
    if (!is_ascii(entry->name) || !put_name(&header, entry->name)) {
        memset(header.name, 0, sizeof header.name);
        memcpy(header.name, entry->name, MIN(strlen(entry->name), sizeof header.name));
        add_record(records, "path", entry->name, strlen(entry->name));
    }
    if (entry->link) {
        gsize length = strlen(entry->link);
        memcpy(header.link, entry->link, MIN(length, sizeof header.link));
        if (length > sizeof header.link || !is_ascii(entry->link))
            add_record(records, "linkpath", entry->link, length);
    }
    if (entry->size > SIZE_FIELD_MAX) {
        g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, entry->size);
        add_record(records, "size", text, strlen(text));
    }
    if (entry->capability)
        add_record(records, "SCHILY.xattr.security.capability", entry->capability, entry->capability_size);
    if (records->len > 0 && !send_records(pack, records, entry->name, error))
        return false;
    seal(&header);
    return pack_data(pack, &header, sizeof header, error);
}
