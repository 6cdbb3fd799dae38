#include "layer/tar.h"

#include <string.h>

static void tar_xattr_free(gpointer data)
{
    struct tar_xattr *xattr = data;
    g_free(xattr->name);
    g_free(xattr->value);
    g_free(xattr);
}

void tar_entry_clear(struct tar_entry *entry)
{
    g_free(entry->path);
    g_free(entry->link);
    g_free(entry->uname);
    g_free(entry->gname);
    g_clear_pointer(&entry->xattrs, g_ptr_array_unref);
    g_clear_pointer(&entry->extents, g_array_unref);
    memset(entry, 0, sizeof *entry);
}

void tar_entry_set_xattr(struct tar_entry *entry, const char *name, const void *value, gsize size)
{
    if (!entry->xattrs)
        entry->xattrs = g_ptr_array_new_with_free_func(tar_xattr_free);
    guint at = 0;
    int order = 1;
    while (at < entry->xattrs->len) {
        const struct tar_xattr *other = entry->xattrs->pdata[at];
        order = strcmp(other->name, name);
        if (order >= 0)
            break;
        at++;
    }
    struct tar_xattr *xattr;
    if (at < entry->xattrs->len && order == 0) {
        xattr = entry->xattrs->pdata[at];
        g_free(xattr->value);
    } else {
        xattr = g_new0(struct tar_xattr, 1);
        xattr->name = g_strdup(name);
        g_ptr_array_insert(entry->xattrs, (gint)at, xattr);
    }
    xattr->value = g_memdup2(value ? value : "", size);
    xattr->size = size;
}
