#include "layer/erofs-internal.h"

#include <string.h>

/* How often layers may be searched for one chain: beyond it the layers were made to keep us busy. */
#define MAX_LOOKS 8000000

struct stacked {
    const struct fixup_layer *layer;
    struct erofs_reader *reader;
    GHashTable *links;  /* its facts' links: path → target; NULL where none */
    guint32 tar, index; /* sources in the tree, + 1; 0: not used */
};

/* A name that the fix-up gives to a file of a layer. */
struct borrowed {
    char *path;
    size_t from; /* layer */
    struct erofs_file file;
};

struct fixup {
    struct stacked *stack;
    size_t n, base; /* layers below base do not show: an opaque root is above them */
    GArray *borrowed;
    struct erofs_tree tree;
    GHashTable *taken; /* paths of directories that were looked at: many layers imply the same ones */
    guint64 looks;
    GHashTable *inodes; /* of borrowed files: "layer:nid" → inode of the tree */
};

/* ---- what one layer says of a path ---- */
enum finding { ABSENT, HIDDEN, FOUND, FAILED };

static bool is_opaque_xattr(void *user, enum erofs_xattr_index index, const char *name, const void *value, gsize size,
                            GError **error)
{
    bool *opaque = user;
    *opaque |= index == EROFS_XATTR_TRUSTED && strcmp(name, "overlay.opaque") == 0;
    return true;
}

static bool is_whiteout(const struct erofs_file *file)
{
    return S_ISCHR(file->mode) && file->where == 0;
}

/* HIDDEN: the layer covers what those below have at the path. *ret_cut: it has the path, but shows nothing of those below there.
 */
static enum finding look(struct fixup *fixup, size_t layer, const char *path, struct erofs_file *ret, bool *ret_cut,
                         GError **error)
{
    const struct stacked *in = &fixup->stack[layer];
    struct erofs_file at;
    bool opaque = false;
    if (++fixup->looks > MAX_LOOKS) {
        error_set(error, TARE_ERROR_INVALID, "the layers depend on too many files of one another");
        return FAILED;
    }
    if (!erofs_reader_root(in->reader, &at, error))
        return FAILED;
    while (*path) {
        gsize length = strcspn(path, "/");
        if (!S_ISDIR(at.mode))
            return HIDDEN;
        if (at.xattrs_size > 0 && !erofs_reader_xattrs(in->reader, &at, is_opaque_xattr, &opaque, error))
            return FAILED;
        struct erofs_file next;
        int found = erofs_reader_lookup(in->reader, &at, path, length, &next, error);
        if (found <= 0)
            return found < 0 ? FAILED : opaque ? HIDDEN : ABSENT;
        at = next;
        path += length;
        path += strspn(path, "/");
    }
    *ret = at;
    *ret_cut = opaque;
    return FOUND;
}

/* ---- what a directory's attributes are in the whole stack ---- */
struct resolved {
    bool is_directory; /* the stack shows a directory there */
    bool differs;      /* and not with the attributes that it should have */
    size_t from;
    struct erofs_file file;
};

static bool resolve_directory(struct fixup *fixup, const char *path, struct resolved *ret, GError **error)
{
    *ret = (struct resolved){ 0 };
    for (size_t i = fixup->n; i-- > fixup->base;) {
        struct erofs_file file;
        bool cut;
        enum finding finding = look(fixup, i, path, &file, &cut, error);
        if (finding == FAILED)
            return false;
        if (finding == ABSENT)
            continue;
        if (finding == HIDDEN || !S_ISDIR(file.mode))
            break;
        bool implied_above = ret->is_directory;
        if (!implied_above || !file.implied)
            *ret = (struct resolved){ .is_directory = true, .differs = implied_above, .from = i, .file = file };
        if (!file.implied || cut)
            break;
    }
    return true;
}

/* ---- borrowed files ---- */
static bool link_shows(struct fixup *fixup, const char *path, size_t above, bool *ret, GError **error)
{
    *ret = false;
    for (size_t i = fixup->n; i-- > above + 1;) {
        struct erofs_file file;
        bool cut;
        if (fixup->stack[i].links && g_hash_table_contains(fixup->stack[i].links, path))
            return true;
        enum finding finding = look(fixup, i, path, &file, &cut, error);
        if (finding != ABSENT)
            return finding != FAILED;
    }
    *ret = true;
    return true;
}

static void borrow(struct fixup *fixup, const char *path, size_t from, const struct erofs_file *file)
{
    struct borrowed borrowed = { .path = g_strdup(path), .from = from, .file = *file };
    g_array_append_val(fixup->borrowed, borrowed);
}

static bool no_target(GError **error, const char *path, const char *target)
{
    return error_set(error, TARE_ERROR_INVALID, "hard link \"%s\" to \"%s\", which no layer below has", path, target);
}

/* Finds the file that a link of a layer means. */
static bool take_link(struct fixup *fixup, size_t layer, const char *path, const char *target, GError **error)
{
    bool shows;
    const char *wanted = target;
    if (!link_shows(fixup, path, layer, &shows, error))
        return false;
    if (!shows)
        return true;
    for (size_t i = layer; i-- > fixup->base;) {
        const struct stacked *below = &fixup->stack[i];
        struct erofs_file file;
        bool cut;
        const char *further = below->links ? g_hash_table_lookup(below->links, wanted) : NULL;
        if (further) {
            wanted = further;
            continue;
        }
        enum finding finding = look(fixup, i, wanted, &file, &cut, error);
        if (finding == ABSENT)
            continue;
        if (finding == FAILED)
            return false;
        if (finding == HIDDEN || S_ISDIR(file.mode) || is_whiteout(&file))
            break;
        borrow(fixup, path, i, &file);
        /* The target itself joins, where it still shows, so that both are one file. */
        if (!link_shows(fixup, wanted, i, &shows, error))
            return false;
        if (shows)
            borrow(fixup, wanted, i, &file);
        return true;
    }
    return no_target(error, path, target);
}

/* ---- the tree ---- */
struct xattr_copy {
    GByteArray *body;
};

static bool copy_xattr(void *user, enum erofs_xattr_index index, const char *name, const void *value, gsize size, GError **error)
{
    struct xattr_copy *copy = user;
    if (index != EROFS_XATTR_TRUSTED || !g_str_has_prefix(name, "overlay."))
        erofs_xattr_append(copy->body, index, name, value, size);
    return true;
}

static bool set_attributes(struct fixup *fixup, guint32 inode, size_t from, const struct erofs_file *file, GError **error)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    struct xattr_copy copy = { body };
    if (!erofs_reader_xattrs(fixup->stack[from].reader, file, copy_xattr, &copy, error))
        return false;
    struct tree_inode *node = tree_inode(&fixup->tree, inode);
    node->mode = (guint16)file->mode;
    node->uid = file->uid;
    node->gid = file->gid;
    node->mtime = file->mtime;
    node->mtime_ns = file->mtime_ns;
    node->flags &= (guint8)~NODE_IMPLIED;
    node->xattrs_size = body->len;
    if (body->len > 0)
        node->xattrs = (const guint8 *)g_string_chunk_insert_len(fixup->tree.text, (const char *)body->data, body->len);
    return true;
}

/* Makes the directories of a path as the stack shows them. */
static guint32 make_directories(struct fixup *fixup, const char *path, gsize length, GError **error)
{
    guint32 dir = TREE_ROOT;
    gsize at = 0;
    while (at < length) {
        gsize size = MIN(strcspn(path + at, "/"), length - at);
        guint32 name = erofs_tree_find(&fixup->tree, dir, path + at, size);
        if (!name) {
            g_autofree char *prefix = g_strndup(path, at + size);
            struct resolved resolved;
            if (!resolve_directory(fixup, prefix, &resolved, error))
                return 0;
            guint32 inode = erofs_tree_new_inode(&fixup->tree, S_IFDIR | 0755, error);
            if (!inode || (resolved.is_directory && !set_attributes(fixup, inode, resolved.from, &resolved.file, error)) ||
                !erofs_tree_set(&fixup->tree, dir, path + at, size, inode, error))
                return 0;
            dir = inode;
        } else {
            dir = tree_name(&fixup->tree, name)->inode;
        }
        at += size;
        at += strspn(path + at, "/");
    }
    return dir;
}

struct piece_copy {
    struct fixup *fixup;
    struct stacked *from;
    GArray *runs;
};

static bool copy_piece(void *user, guint64 offset, guint64 length, guint32 block, GError **error)
{
    struct piece_copy *copy = user;
    struct tree_run run = { .offset = offset, .length = length };
    int device = erofs_reader_find_device(copy->from->reader, block, erofs_round_up(length, EROFS_BLOCK) / EROFS_BLOCK);
    run.source = (device >= 0 ? copy->from->tar : copy->from->index) - 1;
    run.at = (block - (device >= 0 ? (guint64)erofs_reader_device_block(copy->from->reader, (size_t)device) : 0)) * EROFS_BLOCK;
    struct tree_run *last = copy->runs->len > 0 ? &g_array_index(copy->runs, struct tree_run, copy->runs->len - 1) : NULL;
    if (last && last->source == run.source && last->offset + last->length == offset && last->at + last->length == run.at)
        last->length += length;
    else
        g_array_append_val(copy->runs, run);
    return true;
}

static bool set_content(struct fixup *fixup, guint32 inode, const struct borrowed *borrowed, GError **error)
{
    struct stacked *from = &fixup->stack[borrowed->from];
    const struct erofs_file *file = &borrowed->file;
    struct tree_inode *node = tree_inode(&fixup->tree, inode);
    node->size = file->size;
    if (S_ISLNK(file->mode)) {
        g_autofree char *target = erofs_reader_target(from->reader, file, error);
        if (target)
            node->bytes = g_string_chunk_insert_len(fixup->tree.text, target, (gssize)file->size);
        return target != NULL;
    }
    if (!S_ISREG(file->mode)) {
        node->data = file->where;
        return true;
    }
    if (file->size == 0)
        return true;
    if (file->layout == EROFS_FLAT_PLAIN) {
        node->source = (guint16)(from->tar - 1);
        node->data = (guint64)(file->where - erofs_reader_device_block(from->reader, 0)) * EROFS_BLOCK;
        return true;
    }
    struct piece_copy copy = { fixup, from, g_array_new(FALSE, FALSE, sizeof(struct tree_run)) };
    node->flags |= NODE_SPARSE;
    node->data = fixup->tree.runs->len;
    g_ptr_array_add(fixup->tree.runs, copy.runs);
    return erofs_reader_pieces(from->reader, file, copy_piece, &copy, error);
}

static bool add_borrowed(struct fixup *fixup, const struct borrowed *borrowed, GError **error)
{
    g_autofree char *key = g_strdup_printf("%zu:%" G_GUINT64_FORMAT, borrowed->from, borrowed->file.nid);
    const char *slash = strrchr(borrowed->path, '/');
    const char *base = slash ? slash + 1 : borrowed->path;
    guint32 dir = make_directories(fixup, borrowed->path, slash ? (gsize)(slash - borrowed->path) : 0, error);
    if (!dir)
        return false;
    guint32 inode = GPOINTER_TO_UINT(g_hash_table_lookup(fixup->inodes, key));
    if (!inode) {
        inode = erofs_tree_new_inode(&fixup->tree, borrowed->file.mode, error);
        if (!inode || !set_content(fixup, inode, borrowed, error) ||
            !set_attributes(fixup, inode, borrowed->from, &borrowed->file, error))
            return false;
        g_hash_table_insert(fixup->inodes, g_steal_pointer(&key), GUINT_TO_POINTER(inode));
    }
    return erofs_tree_set(&fixup->tree, dir, base, strlen(base), inode, error);
}

/* Devices come first among the sources, so all borrowed files must be known. */
static void add_sources(struct fixup *fixup)
{
    for (guint i = 0; i < fixup->borrowed->len; i++) {
        struct stacked *from = &fixup->stack[g_array_index(fixup->borrowed, struct borrowed, i).from];
        /* A layer may stand twice in a chain. */
        for (guint32 j = 0; j < fixup->tree.sources->len && !from->tar; j++)
            if (strcmp(g_array_index(fixup->tree.sources, struct tree_source, j).diff_id, from->layer->diff_id) == 0)
                from->tar = j + 1;
        if (from->tar)
            continue;
        struct tree_source source = { .fd = -1, .bytes = from->layer->tar_bytes, .is_device = true };
        g_strlcpy(source.diff_id, from->layer->diff_id, sizeof source.diff_id);
        g_array_append_val(fixup->tree.sources, source);
        from->tar = fixup->tree.sources->len;
    }
    for (size_t i = 0; i < fixup->n; i++) {
        if (!fixup->stack[i].tar)
            continue;
        struct tree_source source = { .fd = fixup->stack[i].layer->index_fd };
        source.bytes = (guint64)erofs_reader_super(fixup->stack[i].reader)->n_blocks * EROFS_BLOCK;
        g_array_append_val(fixup->tree.sources, source);
        fixup->stack[i].index = fixup->tree.sources->len;
    }
}

/* ---- all of it ---- */
static bool is_plain(const struct erofs_file *file)
{
    return (file->mode & 07777) == 0755 && file->uid == 0 && file->gid == 0 && file->mtime == 0 && file->mtime_ns == 0 &&
           file->xattrs_size == 0;
}

static bool take_directory(struct fixup *fixup, const char *path, bool *needed, GError **error)
{
    struct resolved resolved;
    if (!g_hash_table_add(fixup->taken, g_strdup(path)))
        return true;
    if (!resolve_directory(fixup, path, &resolved, error))
        return false;
    if (!resolved.differs || is_plain(&resolved.file))
        return true;
    *needed = true;
    return make_directories(fixup, path, strlen(path), error) != 0;
}

static bool take_links(struct fixup *fixup, GError **error)
{
    for (size_t i = fixup->base; i < fixup->n; i++) {
        struct facts_cursor cursor = { .facts = fixup->stack[i].layer->facts };
        bool ok = true;
        for (char kind; fixup->stack[i].links && ok && (kind = layer_facts_next(&cursor)) != 0;)
            ok = kind != 'l' || take_link(fixup, i, cursor.path->str, cursor.target->str, error);
        facts_cursor_clear(&cursor);
        if (!ok)
            return false;
    }
    return true;
}

static bool take_directories(struct fixup *fixup, bool *needed, GError **error)
{
    for (size_t i = fixup->base; i < fixup->n; i++) {
        struct facts_cursor cursor = { .facts = fixup->stack[i].layer->facts };
        bool ok = true;
        for (char kind; !layer_facts_is_empty(cursor.facts) && ok && (kind = layer_facts_next(&cursor)) != 0;)
            ok = kind != 'd' || take_directory(fixup, cursor.path->str, needed, error);
        facts_cursor_clear(&cursor);
        if (!ok)
            return false;
    }
    return true;
}

static void read_links(struct stacked *stacked)
{
    struct facts_cursor cursor = { .facts = stacked->layer->facts };
    if (layer_facts_is_empty(cursor.facts))
        return;
    for (char kind; (kind = layer_facts_next(&cursor)) != 0;) {
        if (kind != 'l')
            continue;
        if (!stacked->links)
            stacked->links = g_hash_table_new_full(keyed_hash_text, g_str_equal, g_free, g_free);
        g_hash_table_insert(stacked->links, g_strdup(cursor.path->str), g_strdup(cursor.target->str));
    }
    facts_cursor_clear(&cursor);
}

static bool build_tree(struct fixup *fixup, bool *needed, GError **error)
{
    struct resolved root;
    if (!take_links(fixup, error))
        return false;
    *needed = fixup->borrowed->len > 0;
    add_sources(fixup);
    for (guint i = 0; i < fixup->borrowed->len; i++)
        if (!add_borrowed(fixup, &g_array_index(fixup->borrowed, struct borrowed, i), error))
            return false;
    if (!take_directories(fixup, needed, error))
        return false;
    if (!*needed)
        return true;
    /* Now the topmost, its root is the one that shows. */
    return resolve_directory(fixup, "", &root, error) && set_attributes(fixup, TREE_ROOT, root.from, &root.file, error);
}

static void clear_borrowed(gpointer data)
{
    g_free(((struct borrowed *)data)->path);
}

static bool open_stack(struct fixup *fixup, const struct fixup_layer *layers, GError **error)
{
    for (size_t i = 0; i < fixup->n; i++) {
        fixup->stack[i].layer = &layers[i];
        if (!erofs_reader_open(layers[i].index_fd, &fixup->stack[i].reader, error))
            return false;
        if (layer_facts_root_is_opaque(layers[i].facts))
            fixup->base = i;
        read_links(&fixup->stack[i]);
    }
    return true;
}

bool fixup_build(const struct fixup_layer *layers, size_t n_layers, const char *chain_id, struct byte_sink *out, bool *ret_needed,
                 GError **error)
{
    bool any = false, needed = false;
    for (size_t i = 0; i < n_layers; i++)
        any |= !layer_facts_is_empty(layers[i].facts);
    if (!any) {
        *ret_needed = false;
        return true;
    }
    struct fixup fixup = { .n = n_layers, .stack = g_new0(struct stacked, n_layers) };
    struct erofs_stats stats;
    fixup.borrowed = g_array_new(FALSE, FALSE, sizeof(struct borrowed));
    g_array_set_clear_func(fixup.borrowed, clear_borrowed);
    fixup.taken = g_hash_table_new_full(keyed_hash_text, g_str_equal, g_free, NULL);
    fixup.inodes = g_hash_table_new_full(keyed_hash_text, g_str_equal, g_free, NULL);
    erofs_tree_init(&fixup.tree, 0);
    bool ok = open_stack(&fixup, layers, error) && build_tree(&fixup, &needed, error) &&
              (!needed || erofs_tree_write(&fixup.tree, chain_id, out, &stats, error));
    for (size_t i = 0; i < n_layers; i++) {
        erofs_reader_free(fixup.stack[i].reader);
        g_clear_pointer(&fixup.stack[i].links, g_hash_table_unref);
    }
    erofs_tree_clear(&fixup.tree);
    g_hash_table_unref(fixup.taken);
    g_hash_table_unref(fixup.inodes);
    g_array_unref(fixup.borrowed);
    g_free(fixup.stack);
    if (ok)
        *ret_needed = needed;
    return ok;
}

bool fixup_check(int index_fd, const struct fixup_layer *layers, size_t n_layers, const char *chain_id, GError **error)
{
    g_autoptr(erofs_reader) reader = NULL;
    if (!erofs_reader_open(index_fd, &reader, error))
        return false;
    const struct erofs_device *devices;
    size_t n = erofs_reader_devices(reader, &devices);
    g_autofree struct erofs_device *expected = g_new0(struct erofs_device, n + 1);
    for (size_t i = 0; i < n; i++) {
        expected[i] = devices[i];
        bool known = false;
        for (size_t j = 0; j < n_layers && !known; j++) {
            known = strcmp(devices[i].diff_id, layers[j].diff_id) == 0;
            expected[i].tar_bytes = layers[j].tar_bytes;
        }
        if (!known)
            return error_set(error, TARE_ERROR_INVALID, "layer index: bad device table");
    }
    struct erofs_check_options options = { .id = chain_id, .devices = expected, .n_devices = n };
    return erofs_check(index_fd, &options, error);
}
