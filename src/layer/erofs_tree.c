#include "layer/erofs-internal.h"

#include <string.h>

enum { FIRST_BUCKETS = 1024, MAX_LINKS_FOLLOWED = 40 };

void erofs_tree_init(struct erofs_tree *tree, guint64 max_inodes)
{
    *tree = (struct erofs_tree){ .max_inodes = max_inodes ? MIN(max_inodes, G_MAXINT32) : 4000000 };
    tree->inodes = g_array_new(FALSE, TRUE, sizeof(struct tree_inode));
    tree->names = g_array_new(FALSE, TRUE, sizeof(struct tree_name));
    tree->text = g_string_chunk_new(65536);
    tree->runs = g_ptr_array_new_with_free_func((GDestroyNotify)g_array_unref);
    tree->sources = g_array_new(FALSE, TRUE, sizeof(struct tree_source));
    tree->n_buckets = FIRST_BUCKETS;
    tree->buckets = g_new0(guint32, FIRST_BUCKETS);
    g_array_set_size(tree->inodes, TREE_ROOT + 1);
    g_array_set_size(tree->names, 1);
    struct tree_inode *root = tree_inode(tree, TREE_ROOT);
    root->mode = S_IFDIR | 0755;
    root->flags = NODE_IMPLIED;
    root->parent = TREE_ROOT;
}

void erofs_tree_clear(struct erofs_tree *tree)
{
    g_array_unref(tree->inodes);
    g_array_unref(tree->names);
    g_string_chunk_free(tree->text);
    g_ptr_array_unref(tree->runs);
    g_array_unref(tree->sources);
    g_free(tree->buckets);
    memset(tree, 0, sizeof *tree);
}

static guint32 hash_name(guint32 parent, const char *text, gsize length)
{
    return (guint32)keyed_hash(parent, text, length);
}

guint32 erofs_tree_find(const struct erofs_tree *tree, guint32 parent, const char *text, gsize length)
{
    guint32 hash = hash_name(parent, text, length);
    guint32 at = tree->buckets[hash & (tree->n_buckets - 1)];
    while (at) {
        const struct tree_name *name = tree_name(tree, at);
        if (name->hash == hash && name->parent == parent && name->length == length && memcmp(name->text, text, length) == 0)
            return at;
        at = name->hash_next;
    }
    return 0;
}

static void grow_buckets(struct erofs_tree *tree)
{
    tree->n_buckets *= 2;
    g_free(tree->buckets);
    tree->buckets = g_new0(guint32, tree->n_buckets);
    for (guint32 i = 1; i < tree->names->len; i++) {
        struct tree_name *name = tree_name(tree, i);
        guint32 *bucket = &tree->buckets[name->hash & (tree->n_buckets - 1)];
        name->hash_next = *bucket;
        *bucket = i;
    }
}

guint32 erofs_tree_new_inode(struct erofs_tree *tree, guint32 mode, GError **error)
{
    /* Names, too: each entry makes at most one of them more than inodes. */
    if (tree->inodes->len > tree->max_inodes || tree->names->len > 2 * tree->max_inodes) {
        error_set(error, TARE_ERROR_INVALID, "layer has more than %" G_GUINT64_FORMAT " files", tree->max_inodes);
        return 0;
    }
    struct tree_inode inode = { .mode = (guint16)mode };
    g_array_append_val(tree->inodes, inode);
    return tree->inodes->len - 1;
}

bool erofs_tree_set(struct erofs_tree *tree, guint32 parent, const char *text, gsize length, guint32 inode, GError **error)
{
    if (length == 0 || length > EROFS_MAX_NAME)
        return error_set(error, TARE_ERROR_INVALID, "file name \"%.*s\" is too long", (int)MIN(length, 300), text);
    struct tree_inode *node = tree_inode(tree, inode);
    guint32 at = erofs_tree_find(tree, parent, text, length);
    node->parent = parent;
    node->own_name = at ? at : tree->names->len;
    if (at) {
        tree_name(tree, at)->inode = inode;
        tree->generation++;
        return true;
    }
    if (tree->names->len > 2 * tree->max_inodes)
        return error_set(error, TARE_ERROR_INVALID, "layer has too many names");
    if (tree->names->len >= tree->n_buckets)
        grow_buckets(tree);
    struct tree_name name = {
        .parent = parent, .inode = inode, .length = (guint32)length, .hash = hash_name(parent, text, length)
    };
    name.text = g_string_chunk_insert_len(tree->text, text, (gssize)length);
    guint32 *bucket = &tree->buckets[name.hash & (tree->n_buckets - 1)];
    name.hash_next = *bucket;
    name.next = tree_inode(tree, parent)->first_name;
    tree_inode(tree, parent)->first_name = *bucket = tree->names->len;
    g_array_append_val(tree->names, name);
    return true;
}

/* A directory that entries imply. Docker gives such ones 0755, root, and no time of their own. */
static guint32 imply(struct erofs_tree *tree, guint32 parent, const char *text, gsize length, GError **error)
{
    guint32 inode = erofs_tree_new_inode(tree, S_IFDIR | 0755, error);
    if (!inode)
        return 0;
    guint32 at = erofs_tree_find(tree, parent, text, length);
    bool over_whiteout = at && tree_name(tree, at)->inode;
    tree_inode(tree, inode)->flags = NODE_IMPLIED | (over_whiteout ? NODE_REPLACES : 0);
    return erofs_tree_set(tree, parent, text, length, inode, error) ? inode : 0;
}

/* What is still to walk: the path, and over it the targets of links met on the way. */
struct walk {
    struct {
        const char *at, *end;
    } rest[MAX_LINKS_FOLLOWED + 1];
    unsigned depth, followed;
};

static bool next_component(struct walk *walk, const char **ret, gsize *ret_length)
{
    for (;;) {
        const char **at = &walk->rest[walk->depth].at, *end = walk->rest[walk->depth].end;
        while (*at < end && **at == '/')
            ++*at;
        if (*at < end)
            break;
        if (walk->depth == 0)
            return false;
        walk->depth--;
    }
    const char *start = walk->rest[walk->depth].at, *end = walk->rest[walk->depth].end;
    const char *slash = memchr(start, '/', (gsize)(end - start));
    walk->rest[walk->depth].at = slash ? slash : end;
    *ret = start;
    *ret_length = (gsize)((slash ? slash : end) - start);
    return true;
}

static guint32 step(struct erofs_tree *tree, guint32 dir, const char *text, gsize length, bool create, bool *ret_missing,
                    struct walk *walk, GError **error)
{
    if (length == 1 && text[0] == '.')
        return dir;
    if (length == 2 && text[0] == '.' && text[1] == '.')
        return tree_inode(tree, dir)->parent;
    guint32 name = erofs_tree_find(tree, dir, text, length);
    const struct tree_inode *inode = name && tree_name(tree, name)->inode ? tree_inode(tree, tree_name(tree, name)->inode) : NULL;
    if (!inode || tree_is_whiteout(inode)) {
        *ret_missing = !create;
        return create ? imply(tree, dir, text, length, error) : 0;
    }
    if (S_ISDIR(inode->mode))
        return tree_name(tree, name)->inode;
    if (!S_ISLNK(inode->mode) || walk->followed++ >= MAX_LINKS_FOLLOWED) {
        error_set(error, TARE_ERROR_INVALID, "\"%.*s\" is not a directory", (int)length, text);
        return 0;
    }
    /* Frames that are at their end make room. */
    while (walk->depth > 0 && walk->rest[walk->depth].at == walk->rest[walk->depth].end)
        walk->depth--;
    walk->depth++;
    walk->rest[walk->depth].at = inode->bytes;
    walk->rest[walk->depth].end = inode->bytes + inode->size;
    return inode->bytes[0] == '/' ? TREE_ROOT : dir;
}

guint32 erofs_tree_walk(struct erofs_tree *tree, const char *path, gsize length, bool create, bool *ret_missing, GError **error)
{
    struct walk walk = { 0 };
    walk.rest[0].at = path;
    walk.rest[0].end = path + length;
    guint32 dir = TREE_ROOT;
    const char *text;
    gsize size;
    bool missing = false;
    while (dir && next_component(&walk, &text, &size))
        dir = step(tree, dir, text, size, create, &missing, &walk, error);
    if (ret_missing)
        *ret_missing = missing;
    return dir;
}

char *erofs_tree_path(const struct erofs_tree *tree, guint32 dir, const char *text, gsize length)
{
    gsize size = length;
    for (guint32 at = dir; at != TREE_ROOT; at = tree_inode(tree, at)->parent)
        size += tree_name(tree, tree_inode(tree, at)->own_name)->length + 1;
    char *path = g_malloc(size + 1), *to = path + size - length;
    memcpy(to, text, length);
    to[length] = '\0';
    for (guint32 at = dir; at != TREE_ROOT; at = tree_inode(tree, at)->parent) {
        const struct tree_name *name = tree_name(tree, tree_inode(tree, at)->own_name);
        *--to = '/';
        to -= name->length;
        memcpy(to, name->text, name->length);
    }
    return path;
}

void erofs_xattr_append(GByteArray *body, enum erofs_xattr_index index, const char *name, const void *value, gsize size)
{
    guint8 head[4] = { (guint8)strlen(name), (guint8)index, 0, 0 };
    static const guint8 zeros[4];
    put16(head + 2, (guint16)size);
    g_byte_array_append(body, head, 4);
    g_byte_array_append(body, (const guint8 *)name, (guint)strlen(name));
    if (size > 0)
        g_byte_array_append(body, value, (guint)size);
    g_byte_array_append(body, zeros, (guint)((4 - body->len % 4) % 4));
}

const struct erofs_xattr_prefix erofs_xattr_prefixes[5] = {
    { "user.", EROFS_XATTR_USER, false },
    { "system.posix_acl_access", EROFS_XATTR_ACL_ACCESS, true },
    { "system.posix_acl_default", EROFS_XATTR_ACL_DEFAULT, true },
    { "trusted.", EROFS_XATTR_TRUSTED, false },
    { "security.", EROFS_XATTR_SECURITY, false },
};

const struct erofs_xattr_prefix *erofs_xattr_find_prefix(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(erofs_xattr_prefixes); i++) {
        const struct erofs_xattr_prefix *prefix = &erofs_xattr_prefixes[i];
        if (prefix->is_whole ? strcmp(name, prefix->name) == 0
                             : g_str_has_prefix(name, prefix->name) && name[strlen(prefix->name)])
            return prefix;
    }
    return NULL;
}

char *erofs_xattr_full_name(enum erofs_xattr_index index, const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(erofs_xattr_prefixes); i++)
        if (erofs_xattr_prefixes[i].index == index)
            return g_strconcat(erofs_xattr_prefixes[i].name, name, NULL);
    return NULL;
}

bool erofs_acl_is_good(const guint8 *value, gsize size)
{
    static const guint16 tags[] = { 0x01, 0x02, 0x04, 0x08, 0x10, 0x20 };
    if (size < 4 || (size - 4) % 8 != 0 || size > 4 + 8 * 4096 || get32(value) != 2)
        return false;
    for (gsize at = 4; at < size; at += 8) {
        bool known = false;
        for (gsize i = 0; i < G_N_ELEMENTS(tags); i++)
            known |= get16(value + at) == tags[i];
        if (!known || get16(value + at + 2) > 7)
            return false;
    }
    return true;
}

guint8 erofs_dirent_type(guint32 mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return 1;
    case S_IFDIR:
        return 2;
    case S_IFCHR:
        return 3;
    case S_IFBLK:
        return 4;
    case S_IFIFO:
        return 5;
    case S_IFLNK:
        return 7;
    default:
        return 0;
    }
}

void erofs_uuid_of(const char *digest, guint8 ret[16])
{
    const char *hex = digest_hex(digest);
    for (int i = 0; i < 16; i++)
        ret[i] = (guint8)(g_ascii_xdigit_value(hex[2 * i]) << 4 | g_ascii_xdigit_value(hex[2 * i + 1]));
}
