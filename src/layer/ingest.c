#include "layer/layer-internal.h"

#include "layer/decode.h"

#include <string.h>

#define PROGRESS_INTERVAL_US 100000

/* The source of an ingest: counted, hashed and shown on the way. */
struct ingest {
    struct layer_store *store;
    struct byte_source *source;
    const struct layer_ingest_options *options;
    guint8 head[DECODE_SNIFF_BYTES];
    gsize head_at, head_length;
    struct hasher *blob; /* NULL where nobody asks for it */
    guint64 bytes_read;
    gint64 shown_at;
};

static gssize read_source(void *user, void *buffer, gsize length, GError **error)
{
    struct ingest *ingest = user;
    if (!cancel_check(ingest->options->cancel, error))
        return -1;
    if (ingest->head_at < ingest->head_length) { /* hashed and counted when it was read */
        gsize n = MIN(length, ingest->head_length - ingest->head_at);
        memcpy(buffer, ingest->head + ingest->head_at, n);
        ingest->head_at += n;
        return (gssize)n;
    }
    gssize n = source_read(ingest->source, buffer, length, error);
    if (n <= 0)
        return n;
    if (ingest->blob)
        hasher_update(ingest->blob, buffer, (gsize)n);
    ingest->bytes_read += (guint64)n;
    gint64 now = g_get_monotonic_time();
    if (ingest->options->progress && now - ingest->shown_at >= PROGRESS_INTERVAL_US) {
        ingest->shown_at = now;
        ingest->options->progress(ingest->options->user, ingest->bytes_read);
    }
    return n;
}

static bool read_head(struct ingest *ingest, GError **error)
{
    gssize n = source_read_full(ingest->source, ingest->head, sizeof ingest->head, error);
    if (n < 0)
        return false;
    ingest->head_length = (gsize)n;
    ingest->bytes_read = (guint64)n;
    if (ingest->blob)
        hasher_update(ingest->blob, ingest->head, (gsize)n);
    return true;
}

static bool take_plain(struct ingest *ingest, struct intake *intake, GError **error)
{
    for (;;) {
        gsize room;
        void *at = intake_room(intake, &room);
        gssize n = read_source(ingest, at, room, error);
        if (n <= 0)
            return n == 0;
        if (!intake_advance(intake, (gsize)n, error))
            return false;
    }
}

static bool take_compressed(struct ingest *ingest, struct intake *intake, GError **error)
{
    guint64 most = ingest->store->max_layer_bytes, asked = ingest->options->max_bytes;
    struct decoder_run run = {
        .store = ingest->store,
        .read = read_source,
        .user = ingest,
        .intake = intake,
        .max_bytes = asked ? MIN(asked, most) : most,
        .cancel = ingest->options->cancel,
    };
    return decoder_run(&run, error);
}

static bool check_digests(struct ingest *ingest, const char *diff_id, GError **error)
{
    const char *blob = ingest->options->expected_blob, *expected = ingest->options->expected_diff_id;
    if (blob) {
        char digest[DIGEST_ROOM];
        if (ingest->blob)
            hasher_finish(ingest->blob, digest);
        if (strcmp(ingest->blob ? digest : diff_id, blob) != 0)
            return error_set(error, TARE_ERROR_INVALID, "filesystem layer verification failed for digest %s", blob);
    }
    if (expected && strcmp(diff_id, expected) != 0)
        return error_set(error, TARE_ERROR_INVALID, "its content has the digest %s and not %s", diff_id, expected);
    return true;
}

/* No tar has this digest, as far as anybody knows. */
static void name_tree(char diff_id[DIGEST_ROOM])
{
    g_autofree char *text = g_strconcat("tree of ", diff_id, NULL);
    digest_of(text, strlen(text), diff_id);
}

static bool ingest_run(struct ingest *ingest, struct layer_info *ret, GError **error)
{
    char diff_id[DIGEST_ROOM];
    if (!read_head(ingest, error))
        return false;
    g_autoptr(intake_holder) intake = intake_new(ingest->store, ingest->options->max_bytes, error);
    if (!intake)
        return false;
    bool plain = decode_sniff(ingest->head, ingest->head_length) == DECODE_PLAIN;
    if (plain) /* then the blob's digest is the diff id */
        g_clear_pointer(&ingest->blob, hasher_free);
    if (!(plain ? take_plain(ingest, intake, error) : take_compressed(ingest, intake, error)))
        return false;
    if (ingest->options->progress)
        ingest->options->progress(ingest->options->user, ingest->bytes_read);
    if (!intake_finish(intake, diff_id, error) || !check_digests(ingest, diff_id, error))
        return false;
    bool is_tree = ingest->options->is_tree;
    if (is_tree)
        name_tree(diff_id);
    return layer_publish(ingest->store, intake, diff_id, is_tree ? LAYER_KIND_TREE : LAYER_KIND_LAYER, ingest->options->claim,
                         ingest->options->cancel, ret, error);
}

bool layer_store_ingest(struct layer_store *store, struct byte_source *source, const struct layer_ingest_options *options,
                        struct layer_info *ret, GError **error)
{
    struct ingest ingest = {
        .store = store,
        .source = source,
        .options = options,
        .blob = options->expected_blob ? hasher_new() : NULL,
    };
    bool ok = ingest_run(&ingest, ret, error);
    hasher_free(ingest.blob);
    if (!ok && options->name && !error_is(error ? *error : NULL, TARE_ERROR_CANCELLED))
        g_prefix_error(error, "%s: ", options->name);
    return ok;
}
