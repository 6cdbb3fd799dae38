#include "layer/layer-internal.h"

#include "base/fd.h"

#include <errno.h>

struct layer_draft {
    struct byte_sink sink; /* first: the writer writes through it */
    struct layer_store *store;
    struct intake *intake;
    struct tar_writer *writer;
    const struct layer_claim *claim;
};

static bool write_to_intake(struct byte_sink *sink, const void *data, gsize length, GError **error)
{
    return intake_write(((struct layer_draft *)sink)->intake, data, length, error);
}

/* Straight into what is hashed and written: nothing is copied in between. */
static bool write_file_to_intake(struct byte_sink *sink, int fd, guint64 offset, guint64 length, GError **error)
{
    struct intake *intake = ((struct layer_draft *)sink)->intake;
    for (guint64 end = offset + length; offset < end;) {
        gsize room;
        void *at = intake_room(intake, &room);
        ssize_t n = fd_pread_full(fd, at, (size_t)MIN(room, end - offset), (off_t)offset);
        if (n < 0)
            return error_set_errno(error, errno, "read file for tar");
        if (n == 0)
            return error_set(error, TARE_ERROR_CONFLICT, "file became shorter while it was read");
        if (!intake_advance(intake, (gsize)n, error))
            return false;
        offset += (guint64)n;
    }
    return true;
}

bool layer_draft_new(struct layer_store *store, struct layer_draft **ret, GError **error)
{
    struct intake *intake = intake_new(store, 0, error);
    if (!intake)
        return false;
    struct layer_draft *draft = g_new0(struct layer_draft, 1);
    draft->sink = (struct byte_sink){ .write = write_to_intake, .write_file = write_file_to_intake };
    draft->store = store;
    draft->intake = intake;
    draft->writer = tar_writer_new(&draft->sink);
    *ret = draft;
    return true;
}

struct tar_writer *layer_draft_writer(struct layer_draft *draft)
{
    return draft->writer;
}

void layer_draft_set_claim(struct layer_draft *draft, const struct layer_claim *claim)
{
    draft->claim = claim;
}

bool layer_draft_commit(struct layer_draft *draft, struct layer_info *ret, GError **error)
{
    char diff_id[DIGEST_ROOM];
    bool ok = tar_writer_finish(draft->writer, error) && intake_finish(draft->intake, diff_id, error) &&
              layer_publish(draft->store, draft->intake, diff_id, LAYER_KIND_LAYER, draft->claim, NULL, ret, error);
    layer_draft_discard(draft);
    return ok;
}

void layer_draft_discard(struct layer_draft *draft)
{
    if (!draft)
        return;
    tar_writer_free(draft->writer);
    intake_free(draft->intake);
    g_free(draft);
}
