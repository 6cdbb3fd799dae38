/* The index.json of an OCI archive, picked out of the archive while it goes by: what several platforms became has its digest
 * there and nowhere else. */
#include "cli/build-internal.h"

#include "base/digest.h"

#include <string.h>

#define BLOCK 512
#define INDEX_MAX (1u << 20)

struct archive_index {
    guint8 block[BLOCK]; /* a header under way */
    gsize n_block;
    guint64 left;  /* of an entry's content, with its padding */
    gsize wanted;  /* of it, for the index; 0: none is under way */
    GString *text; /* NULL: not yet come to */
    bool is_over;  /* the block of zeros has come: what follows is no part of the archive */
};

struct archive_index *archive_index_new(void)
{
    return g_new0(struct archive_index, 1);
}

void archive_index_free(struct archive_index *index)
{
    if (!index)
        return;
    if (index->text)
        g_string_free(index->text, TRUE);
    g_free(index);
}

/* Octal digits, or a number of base 256, as the engine's writer has them; what is larger than any file is G_MAXINT64. */
static guint64 size_in(const guint8 *field)
{
    guint64 size = 0;

    for (guint i = 0; i < 12; i++)
        size = size > G_MAXINT64 >> 8               ? G_MAXINT64
               : field[0] & 0x80                    ? size << 8 | (i ? field[i] : field[i] & 0x7f)
               : field[i] >= '0' && field[i] <= '7' ? size << 3 | (guint64)(field[i] - '0')
                                                    : size;
    return size;
}

static bool is_index(const guint8 *header)
{
    return memcmp(header, "index.json", sizeof "index.json") == 0 && (header[156] == '0' || header[156] == '\0');
}

static void take_header(struct archive_index *index)
{
    static const guint8 zeros[BLOCK];
    guint64 size = size_in(index->block + 124);

    index->n_block = 0;
    index->is_over = memcmp(index->block, zeros, BLOCK) == 0;
    index->left = (size + BLOCK - 1) / BLOCK * BLOCK;
    if (!index->text && is_index(index->block) && size <= INDEX_MAX) {
        index->text = g_string_new(NULL);
        index->wanted = (gsize)size;
    }
}

void archive_index_take(struct archive_index *index, const void *data, gsize length)
{
    const guint8 *at = data, *end = at + length;

    while (at < end && !index->is_over) {
        gsize n = (gsize)(end - at);

        if (index->left > 0) {
            n = (gsize)MIN(n, index->left);
            if (index->wanted > 0)
                g_string_append_len(index->text, (const char *)at, (gssize)MIN(n, index->wanted));
            index->wanted -= MIN(n, index->wanted);
            index->left -= n;
        } else {
            n = MIN(n, BLOCK - index->n_block);
            memcpy(index->block + index->n_block, at, n);
            index->n_block += n;
            if (index->n_block == BLOCK)
                take_header(index);
        }
        at += n;
    }
}

json_t *archive_index_descriptor(const struct archive_index *index)
{
    g_autoptr(json_t) document =
        index->text ? json_parse(index->text->str, index->text->len, INDEX_MAX, "index.json", NULL) : NULL;
    const json_t *first = json_array_get(json_get_array(document, "manifests"), 0);
    const char *digest = json_get_string(first, "digest", "");

    if (!digest_is_valid(digest))
        return NULL;
    return json_pack("{s:s, s:s, s:I}", "mediaType", json_get_string(first, "mediaType", ""), "digest", digest, "size",
                     (json_int_t)json_get_int(first, "size", 0));
}
