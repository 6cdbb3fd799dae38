#include "layer/erofs-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <string.h>

/* A run whose bytes lie at a device's blocks just as the file's blocks go. */
static bool run_fits_blocks(const struct erofs_tree *tree, const struct tree_run *run)
{
    const struct tree_source *source = &g_array_index(tree->sources, struct tree_source, run->source);
    return source->is_device && run->at % EROFS_BLOCK == run->offset % EROFS_BLOCK;
}

/* Whether the run alone gives [from, to) and the rest of to's block, which lies in the device, too. */
static bool run_covers(const struct erofs_tree *tree, const struct tree_run *run, guint64 from, guint64 to)
{
    const struct tree_source *source = &g_array_index(tree->sources, struct tree_source, run->source);
    if (run->offset > from || run->offset + run->length < to || !run_fits_blocks(tree, run))
        return false;
    return erofs_round_up(run->at + (to - run->offset), EROFS_BLOCK) <= source->bytes;
}

/* How many chunks must be copied at this size. */
static guint64 count_copies(const struct erofs_tree *tree, const GArray *runs, guint64 size, unsigned bits)
{
    guint64 copies = 0, next = 0; /* chunks below next are counted, or need no copy */
    for (guint i = 0; i < runs->len; i++) {
        const struct tree_run *run = &g_array_index(runs, struct tree_run, i);
        guint64 first = run->offset >> bits, last = (run->offset + run->length - 1) >> bits;
        if (!run_fits_blocks(tree, run)) {
            copies += last + 1 - MAX(first, MIN(next, last + 1));
            next = MAX(next, last + 1);
            continue;
        }
        guint64 ends[2] = { first, last };
        for (int j = 0; j < (first == last ? 1 : 2); j++) {
            guint64 from = ends[j] << bits, to = MIN(size, (ends[j] + 1) << bits);
            if (ends[j] >= next && !run_covers(tree, run, from, to)) {
                copies++;
                next = ends[j] + 1;
            }
        }
    }
    return copies;
}

/* Small chunks cost entries (four bytes each), large ones copies: the cheapest size wins, the smallest among equals. */
bool erofs_chunks_plan(const struct erofs_tree *tree, const GArray *runs, guint64 size, struct chunk_plan *ret, GError **error)
{
    guint64 best = G_MAXUINT64;
    for (unsigned bits = EROFS_BLOCK_BITS; bits <= EROFS_BLOCK_BITS + 31; bits++) {
        guint64 n_chunks = (size - 1) / (G_GUINT64_CONSTANT(1) << bits) + 1;
        guint64 n_copied = count_copies(tree, runs, size, bits);
        if (n_copied > 0 && bits > 32)
            break;
        guint64 cost = n_chunks * 4 + n_copied * MIN(size, G_GUINT64_CONSTANT(1) << bits);
        if (cost < best) {
            best = cost;
            *ret = (struct chunk_plan){ .bits = bits, .n_chunks = n_chunks, .n_copied = n_copied };
        }
        if (n_chunks == 1)
            break;
    }
    return best <= G_MAXUINT32 || error_set(error, TARE_ERROR_INVALID, "sparse file needs too large an index");
}

enum chunk_kind erofs_chunks_next(struct chunk_cursor *cursor, guint32 *ret_source, guint64 *ret_block)
{
    guint64 from = cursor->chunk << cursor->bits;
    guint64 to = MIN(cursor->size, (cursor->chunk + 1) << cursor->bits);
    cursor->chunk++;
    while (cursor->at < cursor->runs->len) {
        const struct tree_run *run = &g_array_index(cursor->runs, struct tree_run, cursor->at);
        if (run->offset + run->length > from)
            break;
        cursor->at++;
    }
    if (cursor->at == cursor->runs->len)
        return CHUNK_HOLE;
    const struct tree_run *run = &g_array_index(cursor->runs, struct tree_run, cursor->at);
    if (run->offset >= to)
        return CHUNK_HOLE;
    if (!run_covers(cursor->tree, run, from, to))
        return CHUNK_COPIED;
    *ret_source = run->source;
    *ret_block = (run->at + (from - run->offset)) / EROFS_BLOCK;
    return CHUNK_MAPPED;
}

/* The first run that ends after this offset. */
static guint find_run(const GArray *runs, guint64 offset)
{
    guint low = 0, high = runs->len;
    while (low < high) {
        guint middle = low + (high - low) / 2;
        const struct tree_run *run = &g_array_index(runs, struct tree_run, middle);
        if (run->offset + run->length > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

bool erofs_chunks_read(const struct erofs_tree *tree, const GArray *runs, guint64 from, guint8 *into, gsize length,
                       GError **error)
{
    memset(into, 0, length);
    for (guint i = find_run(runs, from); i < runs->len; i++) {
        const struct tree_run *run = &g_array_index(runs, struct tree_run, i);
        if (run->offset >= from + length)
            break;
        guint64 start = MAX(run->offset, from), end = MIN(run->offset + run->length, from + length);
        const struct tree_source *source = &g_array_index(tree->sources, struct tree_source, run->source);
        gsize wanted = (gsize)(end - start);
        ssize_t n = fd_pread_full(source->fd, into + (start - from), wanted, (off_t)(run->at + (start - run->offset)));
        if (n < 0)
            return error_set_errno(error, errno, "read sparse file");
        if ((gsize)n < wanted)
            return error_set(error, TARE_ERROR_INVALID, "tar archive ends within a sparse file");
    }
    return true;
}
