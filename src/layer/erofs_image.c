#include "layer/erofs-internal.h"

#include <string.h>

/* A tree becomes an image in two passes: the first gives each inode its place and each directory its blocks, the second writes
 * from the start to the end. */
struct image {
    struct erofs_tree *tree;
    const char *id;
    GArray *sorted;   /* of guint32: names, those of a directory together and in order */
    GArray *order;    /* of guint32: inodes as they lie */
    GArray *plans;    /* of struct chunk_plan, as tree->runs */
    guint64 meta_end; /* bytes of the inode area */
    guint32 header_blocks, data_block, end_block;
    guint64 copied_bytes;
    guint64 *device_blocks; /* where each device begins */
    guint32 n_devices;
    bool has_chunks;
    struct erofs_stats stats;
};

/* ---- sizes ---- */
static const char opaque_name[] = "overlay.opaque";

static guint32 xattr_body_size(const struct tree_inode *node)
{
    guint32 size = node->xattrs_size;
    if (S_ISDIR(node->mode) && node->flags & (NODE_OPAQUE | NODE_REPLACES))
        size += (guint32)erofs_round_up(4 + sizeof opaque_name - 1 + 1, 4);
    return size > 0 ? size + EROFS_XATTR_HEADER : 0;
}

static bool link_is_inline(const struct tree_inode *node)
{
    /* The kernel wants inode, attributes and target within one block. */
    return S_ISLNK(node->mode) && EROFS_INODE + xattr_body_size(node) + node->size <= EROFS_BLOCK;
}

/* ---- first pass ---- */
static bool place_inode(struct image *image, guint32 inode, GError **error)
{
    struct tree_inode *node = tree_inode(image->tree, inode);
    guint64 size = EROFS_INODE + xattr_body_size(node);
    if (link_is_inline(node)) {
        size += node->size;
        if (image->meta_end % EROFS_BLOCK + size > EROFS_BLOCK)
            image->meta_end = erofs_round_up(image->meta_end, EROFS_BLOCK);
    }
    if (node->flags & NODE_SPARSE) {
        struct chunk_plan *plan = &g_array_index(image->plans, struct chunk_plan, node->data);
        if (!erofs_chunks_plan(image->tree, g_ptr_array_index(image->tree->runs, node->data), node->size, plan, error))
            return false;
        size += plan->n_chunks * 4;
        image->has_chunks = true;
    }
    if (S_ISREG(node->mode) || S_ISLNK(node->mode))
        image->stats.content_bytes += node->size;
    node->nid = (guint32)(image->meta_end / EROFS_NID_UNIT);
    node->flags |= NODE_PLACED;
    image->meta_end += erofs_round_up(size, EROFS_NID_UNIT);
    g_array_append_val(image->order, inode);
    return image->meta_end / EROFS_NID_UNIT < G_MAXUINT32 || error_set(error, TARE_ERROR_INVALID, "layer has too many files");
}

static int compare_names(const struct tree_name *a, const struct tree_name *b)
{
    int order = memcmp(a->text, b->text, MIN(a->length, b->length));
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static int compare_name_indexes(gconstpointer a, gconstpointer b, gpointer user)
{
    const struct erofs_tree *tree = user;
    return compare_names(tree_name(tree, *(const guint32 *)a), tree_name(tree, *(const guint32 *)b));
}

/* Sorts the names of a directory; leaves out what is gone, and whiteouts where nothing below could be seen: overlayfs would list
 * them there. */
static void sort_directory(struct image *image, guint32 dir)
{
    struct tree_inode *node = tree_inode(image->tree, dir);
    guint first = image->sorted->len;
    for (guint32 at = node->first_name; at; at = tree_name(image->tree, at)->next) {
        guint32 inode = tree_name(image->tree, at)->inode;
        if (inode && !(node->flags & NODE_HIDES && tree_is_whiteout(tree_inode(image->tree, inode))))
            g_array_append_val(image->sorted, at);
    }
    node->data = first;
    node->n_names = image->sorted->len - first;
    if (node->n_names > 1)
        g_qsort_with_data((guint32 *)(void *)image->sorted->data + first, (gint)node->n_names, sizeof(guint32),
                          compare_name_indexes, image->tree);
}

/* "." and ".." take their places among the names. */
struct dirent_cursor {
    const struct image *image;
    guint32 dir, at;
    bool dot_done, dotdot_done;
};

static bool next_dirent(struct dirent_cursor *cursor, const char **ret_text, guint32 *ret_length, guint32 *ret_inode)
{
    static const struct tree_name dots[2] = { { .text = ".", .length = 1 }, { .text = "..", .length = 2 } };
    const struct tree_inode *node = tree_inode(cursor->image->tree, cursor->dir);
    const struct tree_name *name = NULL;
    if (cursor->at < node->n_names)
        name = tree_name(cursor->image->tree, g_array_index(cursor->image->sorted, guint32, node->data + cursor->at));
    const struct tree_name *dot = !cursor->dot_done ? &dots[0] : !cursor->dotdot_done ? &dots[1] : NULL;
    if (dot && (!name || compare_names(dot, name) < 0)) {
        *ret_inode = cursor->dot_done ? node->parent : cursor->dir;
        cursor->dotdot_done = cursor->dot_done;
        cursor->dot_done = true;
        name = dot;
    } else if (name) {
        *ret_inode = name->inode;
        cursor->at++;
    } else {
        return false;
    }
    *ret_text = name->text;
    *ret_length = name->length;
    return true;
}

/* Entries fill a block while they fit; the last block ends where they end. */
static void measure_directory(struct image *image, guint32 dir)
{
    struct dirent_cursor cursor = { .image = image, .dir = dir };
    const char *text;
    guint32 length, inode, used = 0;
    guint64 blocks = 0;
    while (next_dirent(&cursor, &text, &length, &inode)) {
        if (used + EROFS_DIRENT + length > EROFS_BLOCK) {
            blocks++;
            used = 0;
        }
        used += EROFS_DIRENT + length;
    }
    tree_inode(image->tree, dir)->size = blocks * EROFS_BLOCK + used;
}

static bool place_children(struct image *image, guint32 dir, GArray *stack, GError **error)
{
    struct erofs_tree *tree = image->tree;
    sort_directory(image, dir);
    measure_directory(image, dir);
    const struct tree_inode *node = tree_inode(tree, dir);
    guint32 n_subdirectories = 0;
    for (guint32 i = 0; i < node->n_names; i++) {
        guint32 inode = tree_name(tree, g_array_index(image->sorted, guint32, node->data + i))->inode;
        struct tree_inode *child = tree_inode(tree, inode);
        child->n_links++;
        if (!(child->flags & NODE_PLACED) && !place_inode(image, inode, error))
            return false;
        if (!S_ISDIR(child->mode))
            continue;
        n_subdirectories++;
        if (child->flags & (NODE_OPAQUE | NODE_REPLACES) || node->flags & NODE_HIDES)
            child->flags |= NODE_HIDES;
        g_array_append_val(stack, inode);
    }
    tree_inode(tree, dir)->n_links = 2 + n_subdirectories;
    /* The first subdirectory comes off the stack first. */
    guint32 *top = (guint32 *)(void *)stack->data + stack->len;
    for (guint32 i = 0; i < n_subdirectories / 2; i++) {
        guint32 swap = *(top - n_subdirectories + i);
        *(top - n_subdirectories + i) = *(top - 1 - i);
        *(top - 1 - i) = swap;
    }
    return true;
}

static bool place_tree(struct image *image, GError **error)
{
    g_autoptr(GArray) stack = g_array_new(FALSE, FALSE, sizeof(guint32));
    guint32 dir = TREE_ROOT;
    image->meta_end = EROFS_ROOT_NID * EROFS_NID_UNIT;
    g_array_set_size(image->plans, image->tree->runs->len);
    if (tree_inode(image->tree, TREE_ROOT)->flags & NODE_OPAQUE)
        tree_inode(image->tree, TREE_ROOT)->flags |= NODE_HIDES;
    if (!place_inode(image, TREE_ROOT, error))
        return false;
    g_array_append_val(stack, dir);
    while (stack->len > 0) {
        dir = g_array_index(stack, guint32, stack->len - 1);
        g_array_set_size(stack, stack->len - 1);
        if (!place_children(image, dir, stack, error))
            return false;
    }
    return true;
}

/* Directories, then targets of links, then copied chunks, in the order of their inodes. */
static bool place_blocks(struct image *image, GError **error)
{
    guint64 block = image->data_block;
    for (int pass = 0; pass < 3; pass++) {
        for (guint i = 0; i < image->order->len; i++) {
            struct tree_inode *node = tree_inode(image->tree, g_array_index(image->order, guint32, i));
            guint64 bytes = 0;
            if (pass == 0 && S_ISDIR(node->mode))
                bytes = node->size;
            else if (pass == 1 && S_ISLNK(node->mode) && !link_is_inline(node))
                bytes = node->size;
            else if (pass == 2 && node->flags & NODE_SPARSE) {
                const struct chunk_plan *plan = &g_array_index(image->plans, struct chunk_plan, node->data);
                bytes = plan->n_copied * MIN(erofs_round_up(node->size, EROFS_BLOCK), G_GUINT64_CONSTANT(1) << plan->bits);
                image->copied_bytes += bytes + plan->n_chunks * 4;
            } else {
                continue;
            }
            node->block = (guint32)block;
            block += erofs_round_up(bytes, EROFS_BLOCK) / EROFS_BLOCK;
            if (block > EROFS_MAX_BLOCKS)
                return error_set(error, TARE_ERROR_INVALID, "layer is too large");
        }
    }
    image->end_block = (guint32)block;
    return true;
}

/* Sparse files may be much larger than what is stored of them: a small archive must not make a large index. */
static bool check_sparse_cost(const struct image *image, GError **error)
{
    guint64 allowed = 64 << 20;
    for (guint32 i = 0; i < image->tree->sources->len; i++)
        allowed += g_array_index(image->tree->sources, struct tree_source, i).bytes / 2;
    return image->copied_bytes <= allowed || error_set(error, TARE_ERROR_INVALID, "sparse files need too large an index");
}

static bool place_devices(struct image *image, GError **error)
{
    guint64 block = image->end_block;
    image->device_blocks = g_new0(guint64, image->n_devices + 1);
    for (guint32 i = 0; i < image->n_devices; i++) {
        image->device_blocks[i] = block;
        block += g_array_index(image->tree->sources, struct tree_source, i).bytes / EROFS_BLOCK;
        if (block > EROFS_MAX_BLOCKS)
            return error_set(error, TARE_ERROR_INVALID, "layer is too large");
    }
    return true;
}

/* ---- second pass ---- */
struct output {
    struct byte_sink *sink;
    GByteArray *buffer;
    guint64 written;
};

static bool flush(struct output *output, GError **error)
{
    bool ok = output->buffer->len == 0 || sink_write(output->sink, output->buffer->data, output->buffer->len, error);
    output->written += output->buffer->len;
    g_byte_array_set_size(output->buffer, 0);
    return ok;
}

static bool put(struct output *output, const void *data, gsize length, GError **error)
{
    enum { FLUSH_AT = 1 << 17 };
    if (length > 0)
        g_byte_array_append(output->buffer, data, (guint)length);
    return output->buffer->len < FLUSH_AT || flush(output, error);
}

static bool put_zeros_to(struct output *output, guint64 position, GError **error)
{
    static const guint8 zeros[EROFS_BLOCK];
    guint64 missing = position - output->written - output->buffer->len;
    while (missing > 0) {
        gsize n = (gsize)MIN(missing, sizeof zeros);
        if (!put(output, zeros, n, error))
            return false;
        missing -= n;
    }
    return true;
}

static bool put_header(struct image *image, struct output *output, GError **error)
{
    guint8 super[EROFS_SUPER] = { 0 };
    put32(super, EROFS_MAGIC);
    super[12] = EROFS_BLOCK_BITS;
    put16(super + 14, EROFS_ROOT_NID);
    put64(super + 16, image->order->len);
    put32(super + 36, image->end_block);
    put32(super + 40, image->header_blocks);
    erofs_uuid_of(image->id, super + 48);
    memcpy(super + 64, EROFS_VOLUME, strlen(EROFS_VOLUME));
    put32(super + 80, EROFS_INCOMPAT_DEVICES | (image->has_chunks ? EROFS_INCOMPAT_CHUNKED : 0));
    put16(super + 86, (guint16)image->n_devices);
    put16(super + 88, EROFS_SLOTS_AT / EROFS_SLOT);
    if (!put_zeros_to(output, EROFS_SUPER_AT, error) || !put(output, super, sizeof super, error))
        return false;
    for (guint32 i = 0; i < image->n_devices; i++) {
        const struct tree_source *source = &g_array_index(image->tree->sources, struct tree_source, i);
        guint8 slot[EROFS_SLOT] = { 0 };
        memcpy(slot, digest_hex(source->diff_id), DIGEST_HEX_LENGTH);
        put32(slot + 64, (guint32)(source->bytes / EROFS_BLOCK));
        put32(slot + 68, (guint32)image->device_blocks[i]);
        if (!put(output, slot, sizeof slot, error))
            return false;
    }
    return true;
}

static bool put_chunks(struct image *image, const struct tree_inode *node, struct output *output, GError **error)
{
    const struct chunk_plan *plan = &g_array_index(image->plans, struct chunk_plan, node->data);
    struct chunk_cursor cursor = {
        .tree = image->tree, .runs = g_ptr_array_index(image->tree->runs, node->data), .size = node->size, .bits = plan->bits
    };
    guint64 copied = node->block;
    for (guint64 i = 0; i < plan->n_chunks; i++) {
        guint8 entry[4];
        guint32 source = 0;
        guint64 block = 0;
        switch (erofs_chunks_next(&cursor, &source, &block)) {
        case CHUNK_HOLE:
            block = EROFS_HOLE;
            break;
        case CHUNK_MAPPED:
            block += image->device_blocks[source];
            break;
        case CHUNK_COPIED:
            block = copied;
            copied += (G_GUINT64_CONSTANT(1) << plan->bits) / EROFS_BLOCK;
            break;
        }
        put32(entry, (guint32)block);
        if (!put(output, entry, sizeof entry, error))
            return false;
    }
    return true;
}

static void fill_inode(const struct image *image, const struct tree_inode *node, guint32 number, guint8 raw[EROFS_INODE])
{
    enum erofs_layout layout = node->flags & NODE_SPARSE ? EROFS_CHUNK_BASED
                               : link_is_inline(node)    ? EROFS_FLAT_INLINE
                                                         : EROFS_FLAT_PLAIN;
    guint32 body = xattr_body_size(node), where = 0;
    if (layout == EROFS_CHUNK_BASED)
        where = g_array_index(image->plans, struct chunk_plan, node->data).bits - EROFS_BLOCK_BITS;
    else if (S_ISREG(node->mode) && node->size > 0)
        where = (guint32)(image->device_blocks[node->source] + node->data / EROFS_BLOCK);
    else if (S_ISDIR(node->mode) || S_ISLNK(node->mode))
        where = layout == EROFS_FLAT_INLINE ? 0 : node->block;
    else if (S_ISCHR(node->mode) || S_ISBLK(node->mode))
        where = (guint32)node->data;
    put16(raw, (guint16)(1 | layout << 1));
    put16(raw + 2, (guint16)(body > 0 ? (body - EROFS_XATTR_HEADER) / 4 + 1 : 0));
    put16(raw + 4, node->mode);
    put64(raw + 8, S_ISREG(node->mode) || S_ISDIR(node->mode) || S_ISLNK(node->mode) ? node->size : 0);
    put32(raw + 16, where);
    put32(raw + 20, number);
    put32(raw + 24, node->uid);
    put32(raw + 28, node->gid);
    put64(raw + 32, (guint64)node->mtime);
    put32(raw + 40, node->mtime_ns);
    put32(raw + 44, node->n_links);
    raw[48] = (node->flags & (NODE_IMPLIED | NODE_REPLACES)) == NODE_IMPLIED ? EROFS_INODE_IMPLIED : 0;
}

static bool put_inode(struct image *image, const struct tree_inode *node, guint32 number, struct output *output, GError **error)
{
    guint8 raw[EROFS_INODE] = { 0 };
    static const guint8 xattr_header[EROFS_XATTR_HEADER];
    fill_inode(image, node, number, raw);
    guint64 start = (guint64)image->header_blocks * EROFS_BLOCK + (guint64)node->nid * EROFS_NID_UNIT;
    if (!put_zeros_to(output, start, error) || !put(output, raw, sizeof raw, error))
        return false;
    if (xattr_body_size(node) > 0) {
        g_autoptr(GByteArray) opaque = g_byte_array_new();
        if (xattr_body_size(node) > node->xattrs_size + EROFS_XATTR_HEADER)
            erofs_xattr_append(opaque, EROFS_XATTR_TRUSTED, opaque_name, "y", 1);
        if (!put(output, xattr_header, sizeof xattr_header, error) || !put(output, node->xattrs, node->xattrs_size, error) ||
            !put(output, opaque->data, opaque->len, error))
            return false;
    }
    if (link_is_inline(node))
        return put(output, node->bytes, (gsize)node->size, error);
    return !(node->flags & NODE_SPARSE) || put_chunks(image, node, output, error);
}

static bool put_directory_block(struct output *output, GByteArray *heads, GByteArray *names, bool last, GError **error)
{
    /* Names begin behind the heads, whose length is known only now. */
    for (guint at = 0; at < heads->len; at += EROFS_DIRENT)
        put16(heads->data + at + 8, (guint16)(get16(heads->data + at + 8) + heads->len));
    guint64 start = output->written + output->buffer->len;
    bool ok = put(output, heads->data, heads->len, error) && put(output, names->data, names->len, error) &&
              (last || put_zeros_to(output, start + EROFS_BLOCK, error));
    g_byte_array_set_size(heads, 0);
    g_byte_array_set_size(names, 0);
    return ok;
}

static bool put_directory(struct image *image, guint32 dir, struct output *output, GError **error)
{
    g_autoptr(GByteArray) heads = g_byte_array_new(), names = g_byte_array_new();
    struct dirent_cursor cursor = { .image = image, .dir = dir };
    const char *text;
    guint32 length, inode;
    while (next_dirent(&cursor, &text, &length, &inode)) {
        if (heads->len + names->len + EROFS_DIRENT + length > EROFS_BLOCK &&
            !put_directory_block(output, heads, names, false, error))
            return false;
        guint8 head[EROFS_DIRENT] = { 0 };
        const struct tree_inode *node = tree_inode(image->tree, inode);
        put64(head, node->nid);
        put16(head + 8, (guint16)names->len);
        head[10] = erofs_dirent_type(node->mode);
        g_byte_array_append(heads, head, sizeof head);
        g_byte_array_append(names, (const guint8 *)text, length);
    }
    return put_directory_block(output, heads, names, true, error);
}

static bool put_copies(struct image *image, const struct tree_inode *node, struct output *output, GError **error)
{
    enum { PIECE = 1 << 16 };
    const struct chunk_plan *plan = &g_array_index(image->plans, struct chunk_plan, node->data);
    const GArray *runs = g_ptr_array_index(image->tree->runs, node->data);
    struct chunk_cursor cursor = { .tree = image->tree, .runs = runs, .size = node->size, .bits = plan->bits };
    g_autofree guint8 *piece = g_malloc(PIECE);
    guint64 chunk = MIN(erofs_round_up(node->size, EROFS_BLOCK), G_GUINT64_CONSTANT(1) << plan->bits);
    for (guint64 i = 0; i < plan->n_chunks; i++) {
        guint32 source;
        guint64 block;
        if (erofs_chunks_next(&cursor, &source, &block) != CHUNK_COPIED)
            continue;
        for (guint64 done = 0; done < chunk;) {
            gsize n = (gsize)MIN(chunk - done, PIECE);
            if (!erofs_chunks_read(image->tree, runs, (i << plan->bits) + done, piece, n, error) || !put(output, piece, n, error))
                return false;
            done += n;
        }
    }
    return true;
}

static bool put_image(struct image *image, struct output *output, GError **error)
{
    const GArray *order = image->order;
    if (!put_header(image, output, error))
        return false;
    for (guint i = 0; i < order->len; i++)
        if (!put_inode(image, tree_inode(image->tree, g_array_index(order, guint32, i)), i + 1, output, error))
            return false;
    for (int pass = 0; pass < 3; pass++) {
        for (guint i = 0; i < order->len; i++) {
            guint32 inode = g_array_index(order, guint32, i);
            const struct tree_inode *node = tree_inode(image->tree, inode);
            if (pass == 0   ? !S_ISDIR(node->mode)
                : pass == 1 ? !S_ISLNK(node->mode) || link_is_inline(node)
                            : !(node->flags & NODE_SPARSE))
                continue;
            if (pass < 2 && !put_zeros_to(output, (guint64)node->block * EROFS_BLOCK, error))
                return false;
            if (pass == 2 && g_array_index(image->plans, struct chunk_plan, node->data).n_copied > 0 &&
                !put_zeros_to(output, (guint64)node->block * EROFS_BLOCK, error))
                return false;
            bool ok = pass == 0   ? put_directory(image, inode, output, error)
                      : pass == 1 ? put(output, node->bytes, (gsize)node->size, error)
                                  : put_copies(image, node, output, error);
            if (!ok)
                return false;
        }
    }
    return put_zeros_to(output, (guint64)image->end_block * EROFS_BLOCK, error) && flush(output, error);
}

static void count_devices(struct image *image)
{
    for (guint32 i = 0; i < image->tree->sources->len; i++)
        if (g_array_index(image->tree->sources, struct tree_source, i).is_device)
            image->n_devices = i + 1;
}

bool erofs_tree_write(struct erofs_tree *tree, const char *id, struct byte_sink *out, struct erofs_stats *ret_stats,
                      GError **error)
{
    g_autoptr(GArray) sorted = g_array_new(FALSE, FALSE, sizeof(guint32)), order = g_array_new(FALSE, FALSE, sizeof(guint32));
    g_autoptr(GArray) plans = g_array_new(FALSE, TRUE, sizeof(struct chunk_plan));
    g_autoptr(GByteArray) buffer = g_byte_array_new();
    struct image image = { .tree = tree, .id = id, .sorted = sorted, .order = order, .plans = plans };
    struct output output = { .sink = out, .buffer = buffer };
    count_devices(&image);
    if (!place_tree(&image, error))
        return false;
    image.header_blocks = (guint32)(erofs_round_up(EROFS_SLOTS_AT + image.n_devices * EROFS_SLOT, EROFS_BLOCK) / EROFS_BLOCK);
    guint64 data_block = image.header_blocks + erofs_round_up(image.meta_end, EROFS_BLOCK) / EROFS_BLOCK;
    if (data_block > EROFS_MAX_BLOCKS)
        return error_set(error, TARE_ERROR_INVALID, "layer is too large");
    image.data_block = (guint32)data_block;
    bool ok = place_blocks(&image, error) && check_sparse_cost(&image, error) && place_devices(&image, error) &&
              put_image(&image, &output, error);
    g_free(image.device_blocks);
    if (!ok)
        return false;
    *ret_stats = image.stats;
    ret_stats->n_inodes = order->len;
    ret_stats->index_bytes = output.written;
    return true;
}
