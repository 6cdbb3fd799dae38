/* The digest of a file's content, for cache keys. Of a large file it is one over the digests of its pieces, which all processors
 * make: hashing is what a copy of it would wait for. */
#include "base/digest.h"
#include "base/fd.h"
#include "build/build-internal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define PIECE (G_GUINT64_CONSTANT(4) << 20) /* part of the digest's definition: another size gives other digests */
#define READ_SIZE (128 * 1024)
#define THREADS_MAX 8

struct pieces {
    int fd;
    guint64 size;
    guint n;
    guint8 *digests;
    struct cancel *cancel;
    gint next;   /* the piece that nobody has yet */
    gint failed; /* an errno, or ECANCELED */
};

static void to_bytes(const char *digest, guint8 ret[CONTEXT_DIGEST_SIZE])
{
    const char *hex = digest_hex(digest);

    for (gsize i = 0; i < CONTEXT_DIGEST_SIZE; i++)
        ret[i] = (guint8)(g_ascii_xdigit_value(hex[2 * i]) << 4 | g_ascii_xdigit_value(hex[2 * i + 1]));
}

/* 0 or an errno; a file that ends early has changed. */
static int hash_piece(const struct pieces *pieces, guint64 at, guint64 length, char *buffer, guint8 *ret)
{
    struct hasher *hasher = hasher_new();
    char digest[DIGEST_ROOM];
    int problem = 0;

    while (length > 0 && !problem) {
        ssize_t n = fd_pread_full(pieces->fd, buffer, (size_t)MIN(length, READ_SIZE), (off_t)at);

        problem = n < 0 ? errno : n == 0 ? EIO : cancel_check(pieces->cancel, NULL) ? 0 : ECANCELED;
        if (problem)
            break;
        hasher_update(hasher, buffer, (size_t)n);
        at += (guint64)n;
        length -= (guint64)n;
    }
    hasher_finish(hasher, digest);
    hasher_free(hasher);
    to_bytes(digest, ret);
    return problem;
}

static gpointer hash_pieces(gpointer user)
{
    struct pieces *pieces = user;
    g_autofree char *buffer = g_malloc(MIN(pieces->size + 1, READ_SIZE));

    while (!g_atomic_int_get(&pieces->failed)) {
        guint i = (guint)g_atomic_int_add(&pieces->next, 1);
        guint64 at = i * PIECE;
        int problem;

        if (i >= pieces->n)
            break;
        problem = hash_piece(pieces, at, MIN(PIECE, pieces->size - at), buffer, pieces->digests + (gsize)i * CONTEXT_DIGEST_SIZE);
        if (problem)
            g_atomic_int_set(&pieces->failed, problem);
    }
    return NULL;
}

static void run(struct pieces *pieces)
{
    GThread *threads[THREADS_MAX];
    guint n = 0, wanted = MIN(MIN(g_get_num_processors(), THREADS_MAX), pieces->n);

    while (n + 1 < wanted && (threads[n] = g_thread_try_new("digest", hash_pieces, pieces, NULL)))
        n++;
    hash_pieces(pieces);
    while (n > 0)
        g_thread_join(threads[--n]);
}

bool content_digest(int fd, const char *path, struct cancel *cancel, guint8 ret[CONTEXT_DIGEST_SIZE], GError **error)
{
    struct pieces pieces = { .fd = fd, .cancel = cancel };
    g_autofree guint8 *digests = NULL;
    char digest[DIGEST_ROOM];
    struct stat stat;

    if (fstat(fd, &stat) < 0)
        return error_set_errno(error, errno, "read %s", path);
    pieces.size = (guint64)stat.st_size;
    pieces.n = (guint)MAX((pieces.size + PIECE - 1) / PIECE, 1);
    pieces.digests = digests = g_malloc((gsize)pieces.n * CONTEXT_DIGEST_SIZE);
    run(&pieces);
    if (pieces.failed == ECANCELED && !cancel_check(cancel, error))
        return false;
    if (pieces.failed)
        return error_set_errno(error, pieces.failed, "read %s", path);
    if (pieces.n == 1) {
        memcpy(ret, digests, CONTEXT_DIGEST_SIZE);
        return true;
    }
    digest_of(digests, (gsize)pieces.n * CONTEXT_DIGEST_SIZE, digest);
    to_bytes(digest, ret);
    return true;
}
