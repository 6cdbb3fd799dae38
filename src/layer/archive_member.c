#include "layer/archive-internal.h"

#include <string.h>

struct archive_member *archive_member_new(char *path)
{
    struct archive_member *member = g_new0(struct archive_member, 1);
    member->path = path;
    return member;
}

void archive_member_free(gpointer data)
{
    struct archive_member *member = data;
    g_free(member->path);
    g_free(member->link);
    if (member->bytes)
        g_byte_array_unref(member->bytes);
    intake_free(member->intake);
    g_free(member);
}

bool archive_member_begin(struct archive_member *member, struct layer_store *store, guint64 size, bool in_memory, GError **error)
{
    member->size = size;
    if (in_memory)
        member->bytes = g_byte_array_sized_new((guint)size);
    return in_memory || member->is_dropped || (member->intake = intake_new(store, 0, error)) != NULL;
}

/* The first bytes, which may come in pieces. */
static void sniff(struct archive_member *member, const guint8 *data, gsize length)
{
    if (member->n_head == DECODE_SNIFF_BYTES)
        return;
    gsize n = MIN(length, DECODE_SNIFF_BYTES - member->n_head);
    memcpy(member->head + member->n_head, data, n);
    member->n_head += n;
    member->is_compressed = decode_sniff(member->head, member->n_head) != DECODE_PLAIN;
}

bool archive_member_write(struct archive_member *member, const void *data, gsize length, GError **error)
{
    if (member->bytes)
        g_byte_array_append(member->bytes, data, (guint)length);
    else if (!member->is_dropped) {
        sniff(member, data, length);
        return intake_write(member->intake, data, length, error);
    }
    return true;
}

bool archive_member_write_zeros(struct archive_member *member, guint64 length, GError **error)
{
    static const guint8 zeros[65536];
    for (gsize n; length > 0; length -= n) {
        n = (gsize)MIN(length, sizeof zeros);
        if (!archive_member_write(member, zeros, n, error))
            return false;
    }
    return true;
}

bool archive_member_end(struct archive_member *member, GError **error)
{
    if (!member->intake)
        return true;
    if (!intake_finish(member->intake, member->digest, error))
        return false;
    intake_park(member->intake);
    return true;
}

char *archive_resolve(const char *path, const char *target)
{
    g_autofree char *directory = g_path_get_dirname(path);
    g_autofree char *whole = g_path_is_absolute(target) ? g_strdup(target + 1) : g_build_filename(directory, target, NULL);
    g_auto(GStrv) parts = g_strsplit(whole, "/", -1);
    g_autoptr(GPtrArray) kept = g_ptr_array_new();
    for (char **part = parts; *part; part++) {
        if (**part == '\0' || strcmp(*part, ".") == 0)
            continue;
        if (strcmp(*part, "..") != 0)
            g_ptr_array_add(kept, *part);
        else if (kept->len > 0)
            g_ptr_array_set_size(kept, (gint)kept->len - 1);
        else
            return NULL;
    }
    g_ptr_array_add(kept, NULL);
    return g_strjoinv("/", (char **)kept->pdata);
}
