#include "layer/erofs-internal.h"

#include <string.h>

#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"

struct erofs_builder {
    struct erofs_tree tree;
    char diff_id[DIGEST_ROOM];
    guint64 tar_bytes;
    bool is_tree;
    GHashTable *lower_links; /* by path, of its target */
    GByteArray *xattrs;      /* scratch */
    GString *last_path;      /* of the directory found last: most entries are in the one of the entry before */
    guint32 last_dir;
    guint64 last_generation;
};

struct erofs_builder *erofs_builder_new(const struct erofs_builder_options *options)
{
    struct erofs_builder *builder = g_new0(struct erofs_builder, 1);
    g_assert(digest_is_valid(options->diff_id));
    g_strlcpy(builder->diff_id, options->diff_id, sizeof builder->diff_id);
    builder->tar_bytes = options->tar_bytes;
    builder->is_tree = options->is_tree;
    erofs_tree_init(&builder->tree, options->max_inodes);
    struct tree_source tar = { .fd = -1, .bytes = options->tar_bytes, .is_device = true };
    memcpy(tar.diff_id, builder->diff_id, sizeof tar.diff_id);
    g_array_append_val(builder->tree.sources, tar);
    builder->lower_links = g_hash_table_new_full(keyed_hash_text, g_str_equal, g_free, g_free);
    builder->xattrs = g_byte_array_new();
    builder->last_path = g_string_new(NULL);
    builder->last_dir = TREE_ROOT;
    return builder;
}

void erofs_builder_free(struct erofs_builder *builder)
{
    if (!builder)
        return;
    erofs_tree_clear(&builder->tree);
    g_hash_table_unref(builder->lower_links);
    g_byte_array_unref(builder->xattrs);
    g_string_free(builder->last_path, TRUE);
    g_free(builder);
}

/* ---- attributes ---- */

/* What lsetxattr would say EPERM or EOPNOTSUPP to, extraction leaves out without a word; so do we. Overlayfs's own are commands,
 * not attributes. */
static bool xattr_is_kept(const struct tar_xattr *xattr, const struct erofs_xattr_prefix *prefix, mode_t mode)
{
    if (!prefix || g_str_has_prefix(xattr->name, "trusted.overlay.") || g_str_has_prefix(xattr->name, "user.overlay."))
        return false;
    if (prefix->index == EROFS_XATTR_USER)
        return S_ISREG(mode) || S_ISDIR(mode);
    if (prefix->index == EROFS_XATTR_ACL_ACCESS)
        return !S_ISLNK(mode);
    return prefix->index != EROFS_XATTR_ACL_DEFAULT || S_ISDIR(mode);
}

static bool set_xattrs(struct erofs_builder *builder, guint32 inode, const struct tar_entry *entry, GError **error)
{
    struct tree_inode *node = tree_inode(&builder->tree, inode);
    g_byte_array_set_size(builder->xattrs, 0);
    for (guint i = 0; entry->xattrs && i < entry->xattrs->len; i++) {
        const struct tar_xattr *xattr = entry->xattrs->pdata[i];
        const struct erofs_xattr_prefix *prefix = erofs_xattr_find_prefix(xattr->name);
        if (!xattr_is_kept(xattr, prefix, node->mode))
            continue;
        if (xattr->size > G_MAXUINT16 || builder->xattrs->len + xattr->size + 300 > EROFS_MAX_XATTRS)
            return error_set(error, TARE_ERROR_INVALID, "extended attributes of \"%s\" are too large", entry->path);
        if (prefix->is_whole && !erofs_acl_is_good(xattr->value, xattr->size))
            return error_set(error, TARE_ERROR_INVALID, "\"%s\" has a malformed access control list", entry->path);
        erofs_xattr_append(builder->xattrs, prefix->index, xattr->name + strlen(prefix->name), xattr->value, xattr->size);
    }
    node->xattrs_size = builder->xattrs->len;
    node->xattrs = NULL;
    if (node->xattrs_size > 0)
        node->xattrs =
            (const guint8 *)g_string_chunk_insert_len(builder->tree.text, (const char *)builder->xattrs->data, node->xattrs_size);
    return true;
}

static bool set_attributes(struct erofs_builder *builder, guint32 inode, const struct tar_entry *entry, GError **error)
{
    struct tree_inode *node = tree_inode(&builder->tree, inode);
    /* Linux shows every symbolic link so, whatever its archive says. */
    node->mode = (guint16)((node->mode & S_IFMT) | (S_ISLNK(node->mode) ? 0777 : entry->mode & 07777));
    node->uid = entry->uid;
    node->gid = entry->gid;
    node->mtime = entry->mtime;
    node->mtime_ns = entry->mtime_ns;
    node->flags &= (guint8)~NODE_IMPLIED;
    return set_xattrs(builder, inode, entry, error);
}

/* ---- content ---- */
static bool set_sparse(struct erofs_builder *builder, struct tree_inode *node, const struct tar_entry *entry, GError **error)
{
    GArray *runs = g_array_new(FALSE, FALSE, sizeof(struct tree_run));
    if (entry->extents) {
        for (guint i = 0; i < entry->extents->len; i++) {
            const struct tar_extent *extent = &g_array_index(entry->extents, struct tar_extent, i);
            struct tree_run run = { .offset = extent->offset, .length = extent->length, .at = extent->at };
            g_array_append_val(runs, run);
        }
    } else {
        struct tree_run run = { .length = entry->size, .at = entry->data_at };
        g_array_append_val(runs, run);
    }
    node->flags |= NODE_SPARSE;
    node->data = builder->tree.runs->len;
    g_ptr_array_add(builder->tree.runs, runs);
    return true;
}

static bool set_content(struct erofs_builder *builder, guint32 inode, const struct tar_entry *entry, GError **error)
{
    struct tree_inode *node = tree_inode(&builder->tree, inode);
    switch (node->mode & S_IFMT) {
    case S_IFREG:
        if (entry->size > EROFS_MAX_FILE)
            return error_set(error, TARE_ERROR_INVALID, "\"%s\" is too large", entry->path);
        if (entry->stored_size > builder->tar_bytes || entry->data_at > builder->tar_bytes - entry->stored_size)
            return error_set(error, TARE_ERROR_INVALID, "the archive ends within \"%s\"", entry->path);
        node->size = entry->size;
        node->data = entry->data_at;
        /* The last file's content may end in the middle of a block, the padding missing: then that block is copied. */
        if (entry->size > 0 && (entry->extents || entry->data_at % EROFS_BLOCK != 0 ||
                                entry->data_at + erofs_round_up(entry->size, EROFS_BLOCK) > builder->tar_bytes))
            return set_sparse(builder, node, entry, error);
        return true;
    case S_IFLNK:
        node->size = strlen(entry->link);
        if (node->size == 0 || node->size > EROFS_MAX_TARGET)
            return error_set(error, TARE_ERROR_INVALID, "the link target of \"%s\" is too long", entry->path);
        node->bytes = g_string_chunk_insert_len(builder->tree.text, entry->link, (gssize)node->size);
        return true;
    case S_IFCHR:
    case S_IFBLK:
        if (entry->major >= 1u << 12 || entry->minor >= 1u << 20)
            return error_set(error, TARE_ERROR_INVALID, "\"%s\" has a device number out of range", entry->path);
        node->data = erofs_encode_device(entry->major, entry->minor);
        return true;
    case S_IFIFO:
        return true;
    default:
        return error_set(error, TARE_ERROR_INVALID, "\"%s\" is of an unknown type", entry->path);
    }
}

/* ---- names ---- */
struct place {
    guint32 parent;
    const char *base;
    gsize base_length;
    guint32 name, inode; /* what stands there, or 0 */
};

static guint32 find_parent(struct erofs_builder *builder, const char *path, gsize length, bool create, bool *ret_missing,
                           GError **error)
{
    if (length == builder->last_path->len && builder->last_generation == builder->tree.generation &&
        memcmp(path, builder->last_path->str, length) == 0)
        return builder->last_dir;
    guint32 dir = erofs_tree_walk(&builder->tree, path, length, create, ret_missing, error);
    if (dir) {
        g_string_truncate(builder->last_path, 0);
        g_string_append_len(builder->last_path, path, (gssize)length);
        builder->last_dir = dir;
        builder->last_generation = builder->tree.generation;
    }
    return dir;
}

static bool find_place(struct erofs_builder *builder, const char *path, bool create, struct place *ret, bool *ret_missing,
                       GError **error)
{
    const char *slash = strrchr(path, '/');
    ret->base = slash ? slash + 1 : path;
    ret->base_length = strlen(ret->base);
    if (ret_missing)
        *ret_missing = false;
    ret->parent = find_parent(builder, path, slash ? (gsize)(slash - path) : 0, create, ret_missing, error);
    if (!ret->parent) {
        if (error && *error)
            g_prefix_error(error, "\"%s\": ", path);
        return false;
    }
    ret->name = erofs_tree_find(&builder->tree, ret->parent, ret->base, ret->base_length);
    ret->inode = ret->name ? tree_name(&builder->tree, ret->name)->inode : 0;
    return true;
}

static bool set_place(struct erofs_builder *builder, const char *path, const struct place *place, guint32 inode, GError **error)
{
    if (g_hash_table_size(builder->lower_links) > 0)
        g_hash_table_remove(builder->lower_links, path);
    return erofs_tree_set(&builder->tree, place->parent, place->base, place->base_length, inode, error);
}

/* As whiteouts hide only what lower layers have (OCI image layer specification), their order among the entries means nothing. */
static bool add_whiteout(struct erofs_builder *builder, const struct tar_entry *entry, const char *base, GError **error)
{
    const char *hidden = base + strlen(WHITEOUT);
    if (strcmp(hidden, "") == 0 || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
        return error_set(error, TARE_ERROR_INVALID, "invalid whiteout entry \"%s\"", entry->path);
    g_autofree char *path = g_strdup_printf("%.*s%s", (int)(base - entry->path), entry->path, hidden);
    struct place place;
    if (!find_place(builder, path, true, &place, NULL, error))
        return false;
    if (place.inode) {
        struct tree_inode *node = tree_inode(&builder->tree, place.inode);
        if (S_ISDIR(node->mode))
            node->flags |= NODE_REPLACES;
        return true;
    }
    guint32 inode = erofs_tree_new_inode(&builder->tree, S_IFCHR, error);
    return inode && erofs_tree_set(&builder->tree, place.parent, place.base, place.base_length, inode, error);
}

static bool add_opaque(struct erofs_builder *builder, const struct tar_entry *entry, const char *base, GError **error)
{
    guint32 dir = erofs_tree_walk(&builder->tree, entry->path, (gsize)(base - entry->path), true, NULL, error);
    if (!dir)
        return false;
    tree_inode(&builder->tree, dir)->flags |= NODE_OPAQUE;
    return true;
}

static bool add_directory(struct erofs_builder *builder, const struct tar_entry *entry, GError **error)
{
    struct place place;
    if (!*entry->path)
        return set_attributes(builder, TREE_ROOT, entry, error);
    if (!find_place(builder, entry->path, true, &place, NULL, error))
        return false;
    /* A directory over a directory: the children stay. */
    if (place.inode && S_ISDIR(tree_inode(&builder->tree, place.inode)->mode))
        return set_attributes(builder, place.inode, entry, error);
    guint32 inode = erofs_tree_new_inode(&builder->tree, S_IFDIR, error);
    if (!inode)
        return false;
    if (place.inode && tree_is_whiteout(tree_inode(&builder->tree, place.inode)))
        tree_inode(&builder->tree, inode)->flags |= NODE_REPLACES;
    return set_attributes(builder, inode, entry, error) && set_place(builder, entry->path, &place, inode, error);
}

static bool add_hard_link(struct erofs_builder *builder, const struct tar_entry *entry, GError **error)
{
    struct place place, target;
    bool missing = false;
    if (!*entry->path || !*entry->link)
        return error_set(error, TARE_ERROR_INVALID, "hard link \"%s\" to a directory", entry->path);
    bool found = find_place(builder, entry->link, false, &target, &missing, error);
    if (!found && !missing)
        return false;
    found = found && target.inode && !tree_is_whiteout(tree_inode(&builder->tree, target.inode));
    /* A link to a name that is itself a link into lower layers leads to the same file there. */
    const char *lower = found ? NULL : g_hash_table_lookup(builder->lower_links, entry->link);
    lower = lower ? lower : entry->link;
    if (!found && strcmp(lower, entry->path) == 0)
        return true;
    if (found && S_ISDIR(tree_inode(&builder->tree, target.inode)->mode))
        return error_set(error, TARE_ERROR_INVALID, "hard link \"%s\" to a directory", entry->path);
    if (!find_place(builder, entry->path, true, &place, NULL, error))
        return false;
    if (found)
        return set_place(builder, entry->path, &place, target.inode, error);
    /* What stood there is gone, and a fix-up will say what comes instead. Until then the name hides nothing. */
    if (place.name) {
        tree_name(&builder->tree, place.name)->inode = 0;
        builder->tree.generation++;
    }
    g_hash_table_insert(builder->lower_links, g_strdup(entry->path), g_strdup(lower));
    return true;
}

static bool add_other(struct erofs_builder *builder, const struct tar_entry *entry, GError **error)
{
    struct place place;
    if (!*entry->path)
        return error_set(error, TARE_ERROR_INVALID, "the root of the layer is not a directory");
    if (!find_place(builder, entry->path, true, &place, NULL, error))
        return false;
    guint32 inode = erofs_tree_new_inode(&builder->tree, entry->mode & S_IFMT, error);
    return inode && set_content(builder, inode, entry, error) && set_attributes(builder, inode, entry, error) &&
           set_place(builder, entry->path, &place, inode, error);
}

/* aufs kept records of its own under such names; old archives carry them. */
static bool is_aufs_record(const char *path)
{
    for (const char *at = path;; at++) {
        if (g_str_has_prefix(at, WHITEOUT_META) && strcmp(at, WHITEOUT_OPAQUE) != 0)
            return true;
        at = strchr(at, '/');
        if (!at)
            return false;
    }
}

bool erofs_builder_add(struct erofs_builder *builder, const struct tar_entry *entry, GError **error)
{
    if (!builder->is_tree && is_aufs_record(entry->path))
        return true;
    const char *slash = strrchr(entry->path, '/');
    const char *base = slash ? slash + 1 : entry->path;
    if (!builder->is_tree && strcmp(base, WHITEOUT_OPAQUE) == 0)
        return add_opaque(builder, entry, base, error);
    if (!builder->is_tree && g_str_has_prefix(base, WHITEOUT))
        return add_whiteout(builder, entry, base, error);
    if (entry->is_hard_link)
        return add_hard_link(builder, entry, error);
    return S_ISDIR(entry->mode) ? add_directory(builder, entry, error) : add_other(builder, entry, error);
}

/* ---- facts ---- */
static int compare_texts(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Collects the paths of implied directories that lower layers may know. Depth-first without a stack of frames: a name on the way
 * down is replaced by its sibling. */
static bool collect_implied(const struct erofs_tree *tree, GPtrArray *paths, GError **error)
{
    g_autoptr(GArray) stack = g_array_new(FALSE, FALSE, sizeof(guint32));
    guint32 at = tree_inode(tree, TREE_ROOT)->first_name;
    guint64 sum = 0;
    while (at || stack->len > 0) {
        if (!at) {
            at = tree_name(tree, g_array_index(stack, guint32, stack->len - 1))->next;
            g_array_set_size(stack, stack->len - 1);
            continue;
        }
        const struct tree_name *name = tree_name(tree, at);
        const struct tree_inode *node = name->inode ? tree_inode(tree, name->inode) : NULL;
        if (!node || !S_ISDIR(node->mode) || node->flags & NODE_REPLACES) {
            at = name->next;
            continue;
        }
        if (node->flags & NODE_IMPLIED) {
            char *path = erofs_tree_path(tree, name->parent, name->text, name->length);
            g_ptr_array_add(paths, path);
            sum += strlen(path);
            if (sum > LAYER_FACTS_MAX)
                return error_set(error, TARE_ERROR_INVALID, "layer depends on too many files of other layers");
        }
        /* Below an opaque directory nothing of lower layers shows. */
        if (node->flags & NODE_OPAQUE || !node->first_name) {
            at = name->next;
        } else {
            g_array_append_val(stack, at);
            at = node->first_name;
        }
    }
    return true;
}

/* Unless a later entry took the name, or a directory above it. */
static bool add_link_fact(struct erofs_builder *builder, struct layer_facts *facts, const char *path, GError **error)
{
    struct place place;
    bool missing;
    if (!find_place(builder, path, false, &place, &missing, NULL))
        return true;
    if (place.inode && !tree_is_whiteout(tree_inode(&builder->tree, place.inode)))
        return true;
    g_autofree char *real = erofs_tree_path(&builder->tree, place.parent, place.base, place.base_length);
    return layer_facts_add_link(facts, real, g_hash_table_lookup(builder->lower_links, path), error);
}

static bool make_facts(struct erofs_builder *builder, struct layer_facts **ret, GError **error)
{
    g_autoptr(layer_facts) facts = layer_facts_new();
    g_autoptr(GPtrArray) implied = g_ptr_array_new_with_free_func(g_free);
    if (tree_inode(&builder->tree, TREE_ROOT)->flags & NODE_OPAQUE)
        layer_facts_set_root_opaque(facts);
    else if (!collect_implied(&builder->tree, implied, error))
        return false;
    g_ptr_array_sort(implied, compare_texts);
    for (guint i = 0; i < implied->len; i++)
        if (!layer_facts_add_implied(facts, implied->pdata[i], error))
            return false;
    guint n_links;
    g_autofree const char **links = (const char **)g_hash_table_get_keys_as_array(builder->lower_links, &n_links);
    if (n_links > 0)
        qsort(links, n_links, sizeof *links, compare_texts);
    for (guint i = 0; i < n_links; i++)
        if (!add_link_fact(builder, facts, links[i], error))
            return false;
    *ret = g_steal_pointer(&facts);
    return true;
}

bool erofs_builder_finish(struct erofs_builder *builder, int tar_fd, struct byte_sink *out, struct layer_facts **ret_facts,
                          struct erofs_stats *ret_stats, GError **error)
{
    g_autoptr(layer_facts) facts = NULL;
    if (!make_facts(builder, &facts, error))
        return false;
    g_array_index(builder->tree.sources, struct tree_source, 0).fd = tar_fd;
    if (!erofs_tree_write(&builder->tree, builder->diff_id, out, ret_stats, error))
        return false;
    *ret_facts = g_steal_pointer(&facts);
    return true;
}

bool erofs_index_tar(int tar_fd, const struct erofs_builder_options *options, struct byte_sink *out,
                     struct layer_facts **ret_facts, struct erofs_stats *ret_stats, GError **error)
{
    struct tar_reader *reader = tar_reader_new_fd(tar_fd, NULL);
    struct erofs_builder *builder = erofs_builder_new(options);
    const struct tar_entry *entry;
    int found;
    while ((found = tar_reader_next(reader, &entry, error)) > 0)
        if (!erofs_builder_add(builder, entry, error))
            break;
    bool ok = found == 0 && erofs_builder_finish(builder, tar_fd, out, ret_facts, ret_stats, error);
    erofs_builder_free(builder);
    tar_reader_free(reader);
    return ok;
}
