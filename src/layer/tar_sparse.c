#include "layer/tar-internal.h"

bool tar_extents_add(GArray *extents, guint64 offset, guint64 length, GError **error)
{
    if (extents->len >= TAR_MAX_EXTENTS)
        return error_set(error, TARE_ERROR_INVALID, "sparse file has too many runs");
    guint64 least = 0;
    if (extents->len > 0) {
        const struct tar_extent *last = &g_array_index(extents, struct tar_extent, extents->len - 1);
        least = last->offset + last->length;
    }
    if (offset < least || offset > G_MAXINT64 || length > G_MAXINT64 - offset)
        return error_set(error, TARE_ERROR_INVALID, "sparse map is out of order");
    struct tar_extent extent = { .offset = offset, .length = length };
    g_array_append_val(extents, extent);
    return true;
}

bool tar_extents_add_old(GArray *extents, const unsigned char *descriptors, size_t count, GError **error)
{
    for (size_t i = 0; i < count; i++) {
        const unsigned char *at = descriptors + i * 24;
        gint64 offset, length;
        /* An unused descriptor is all NUL; one with a count of 0 marks the end of a file that ends in a hole. */
        if (at[12] == '\0' && at[0] == '\0')
            break;
        if (!tar_number_parse(at, 12, &offset) || !tar_number_parse(at + 12, 12, &length) || offset < 0 || length < 0)
            return error_set(error, TARE_ERROR_INVALID, "bad sparse map");
        if (!tar_extents_add(extents, (guint64)offset, (guint64)length, error))
            return false;
    }
    return true;
}

static bool take_number(struct tar_sparse_map *map, GArray *extents, GError **error)
{
    guint64 value = map->value;
    map->value = map->digits = 0;
    if (!map->has_count) {
        if (value > TAR_MAX_EXTENTS)
            return error_set(error, TARE_ERROR_INVALID, "sparse file has too many runs");
        map->has_count = true;
        map->remaining = value;
    } else if (!map->has_offset) {
        map->has_offset = true;
        map->offset = value;
    } else {
        map->has_offset = false;
        map->remaining--;
        if (!tar_extents_add(extents, map->offset, value, error))
            return false;
    }
    map->done = map->remaining == 0;
    return true;
}

bool tar_sparse_map_feed(struct tar_sparse_map *map, const unsigned char block[TAR_BLOCK], GArray *extents, GError **error)
{
    for (size_t i = 0; i < TAR_BLOCK && !map->done; i++) {
        unsigned char c = block[i];
        if (c == '\n' && map->digits > 0) {
            if (!take_number(map, extents, error))
                return false;
        } else if (c >= '0' && c <= '9' && map->digits < 19) {
            map->value = map->value * 10 + (guint64)(c - '0');
            map->digits++;
        } else {
            return error_set(error, TARE_ERROR_INVALID, "bad sparse map");
        }
    }
    return true;
}

bool tar_extents_settle(struct tar_entry *entry, GError **error)
{
    guint64 at = entry->data_at;
    guint kept = 0;
    for (guint i = 0; i < entry->extents->len; i++) {
        struct tar_extent extent = g_array_index(entry->extents, struct tar_extent, i);
        if (extent.offset + extent.length > entry->size || extent.length > entry->data_at + entry->stored_size - at)
            return error_set(error, TARE_ERROR_INVALID, "sparse map reaches beyond the file");
        extent.at = at;
        at += extent.length;
        struct tar_extent *last = kept > 0 ? &g_array_index(entry->extents, struct tar_extent, kept - 1) : NULL;
        if (extent.length == 0)
            continue;
        if (last && last->offset + last->length == extent.offset)
            last->length += extent.length;
        else
            g_array_index(entry->extents, struct tar_extent, kept++) = extent;
    }
    if (at - entry->data_at != entry->stored_size)
        return error_set(error, TARE_ERROR_INVALID, "sparse map does not cover the stored data");
    g_array_set_size(entry->extents, kept);
    if (entry->size == 0 || entry->stored_size == entry->size)
        g_clear_pointer(&entry->extents, g_array_unref);
    return true;
}
