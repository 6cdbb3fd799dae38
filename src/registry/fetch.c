/* One blob on its way: bytes go into a file at their place, by one connection or by several, and are read from it in order while
 * they come. The file stays when a transfer ends early, so that the next one needs only what is missing.
 *
 * Which bytes a file has is what the file system knows: parts that were never written are holes. A byte too many, after a crash
 * of the machine, is found by the digest: then all is fetched anew. */
#include "registry/registry-internal.h"

#include "base/fd.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    WORKERS_MAX = 4,
    SEGMENTS_MAX = 256,
    PAGE = 4096,
    WAKE_BYTES = 128 << 10,
    FAILURES_MAX = 100,     /* of one blob, however much each of them brought */
    WORTH_BYTES = 64 << 10, /* a try that brought so much was none in vain */
    SPLIT_MIN = 8 << 20,    /* what another connection is opened for */
    STARVED_US = 300000,    /* the reader has waited so long: the connection is what is slow */
};

struct segment {
    guint64 at, end; /* bytes before at (from the end of the segment before) are there */
    guint64 start;
    bool busy;
};

struct fetch {
    struct byte_source source;
    struct fetch_options options;
    struct cancel *cancel;
    char *digest, *name;
    int fd;
    GMutex lock;
    GCond moved;
    GArray *segments; /* of struct segment, in order, from 0 to the size */
    guint64 read_at, wake_at, have, reused;
    gint64 starved_us;
    unsigned n_workers, failures;
    GThread *workers[WORKERS_MAX];
    bool no_ranges, failed;
    GError *error;
};

/* ---- what is there already ---- */

static void add_segment(struct fetch *fetch, guint64 start, guint64 end, bool is_there)
{
    if (start == end)
        return;
    struct segment segment = { .start = start, .at = is_there ? end : start, .end = end };
    g_array_append_val(fetch->segments, segment);
    fetch->have += is_there ? end - start : 0;
}

/* The last block of each extent may have been written in part only. */
static void find_segments(struct fetch *fetch, guint64 block)
{
    guint64 size = fetch->options.size, at = 0, scan = 0;
    while (scan < size && fetch->segments->len + 2 < SEGMENTS_MAX) {
        off_t data = lseek(fetch->fd, (off_t)scan, SEEK_DATA), hole = data < 0 ? -1 : lseek(fetch->fd, data, SEEK_HOLE);
        if (hole < 0)
            break;
        guint64 start = (guint64)data, end = MIN((guint64)hole, size);
        if (end < size)
            end = end > block ? end - block : 0;
        if (start < end) {
            add_segment(fetch, at, start, false);
            add_segment(fetch, start, end, true);
            at = end;
        }
        scan = (guint64)hole;
    }
    add_segment(fetch, at, size, false);
    fetch->reused = fetch->have;
}

static bool open_file(struct fetch *fetch, guint64 *ret_block, GError **error)
{
    int dirfd = fetch->options.directory;
    fetch->fd = openat(dirfd, fetch->name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    /* Two that claim the same blob for different layers: the second keeps its bytes to itself. */
    if (fetch->fd >= 0 && flock(fetch->fd, LOCK_EX | LOCK_NB) < 0) {
        fd_clear(&fetch->fd);
        fetch->fd = openat(dirfd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
        g_clear_pointer(&fetch->name, g_free);
    }
    if (fetch->fd < 0)
        return error_set_errno(error, errno, "open a file for blob %s", fetch->digest);
    if (fetch->options.fresh && ftruncate(fetch->fd, 0) < 0)
        return error_set_errno(error, errno, "truncate");
    struct stat st;
    if (fstat(fetch->fd, &st) < 0)
        return error_set_errno(error, errno, "stat");
    if ((guint64)st.st_size > fetch->options.size && ftruncate(fetch->fd, 0) < 0)
        return error_set_errno(error, errno, "truncate");
    *ret_block = (guint64)MAX(st.st_blksize, PAGE);
    return true;
}

/* ---- the connections ---- */

/* One request of one worker. */
struct piece {
    struct byte_sink sink;
    struct fetch *fetch;
    guint index;  /* of its segment */
    guint64 skip; /* of an answer that begins at 0 although we asked for less */
    guint64 came;
    bool done; /* all that was wanted is there: the rest of the answer is not */
};

static struct segment *segment_at(struct fetch *fetch, guint index)
{
    return &g_array_index(fetch->segments, struct segment, index);
}

static bool wrong_length(const struct fetch *fetch, const char *got, GError **error)
{
    return error_set(error, TARE_ERROR_INVALID, "it has %s bytes and not the %" G_GUINT64_FORMAT " that its manifest says", got,
                     fetch->options.size);
}

/* "bytes 100-199/1000" must begin where we asked. */
static bool check_content_range(const char *header, guint64 wanted)
{
    guint64 first;
    g_autofree char *digits =
        header && g_str_has_prefix(header, "bytes ") ? g_strndup(header + 6, strspn(header + 6, "0123456789")) : NULL;
    return digits && g_ascii_string_to_unsigned(digits, 10, 0, G_MAXINT64, &first, NULL) && first == wanted;
}

static bool piece_begin(void *user, const struct registry_response *response, GError **error)
{
    struct piece *piece = user;
    struct fetch *fetch = piece->fetch;
    g_mutex_lock(&fetch->lock);
    guint64 at = segment_at(fetch, piece->index)->at;
    bool is_only = fetch->n_workers == 1;
    g_mutex_unlock(&fetch->lock);
    piece->skip = 0;
    if (response->status == 206)
        return check_content_range(registry_response_header(response, "content-range"), at) ||
               error_set(error, TARE_ERROR_INVALID, "the server gave another range than it was asked for");
    const char *length = registry_response_header(response, "content-length");
    guint64 bytes;
    if (length && g_ascii_string_to_unsigned(length, 10, 0, G_MAXINT64, &bytes, NULL) && bytes != fetch->options.size)
        return wrong_length(fetch, length, error);
    fetch->no_ranges |= at > 0; /* it was asked for one */
    piece->skip = at;
    return at == 0 || is_only || error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "the server knows no ranges");
}

static bool piece_write(struct byte_sink *sink, const void *data, gsize length, GError **error)
{
    struct piece *piece = (struct piece *)sink;
    struct fetch *fetch = piece->fetch;
    gsize skipped = MIN(piece->skip, length);
    piece->skip -= skipped;
    data = (const char *)data + skipped;
    length -= skipped;
    if (length == 0)
        return true;
    g_mutex_lock(&fetch->lock);
    struct segment segment = *segment_at(fetch, piece->index);
    g_mutex_unlock(&fetch->lock);
    gsize wanted = MIN(length, segment.end - segment.at);
    if (fd_pwrite_full(fetch->fd, data, wanted, (off_t)segment.at) < 0)
        return error_set_errno(error, errno, "write");
    piece->came += wanted;
    g_mutex_lock(&fetch->lock);
    struct segment *now = segment_at(fetch, piece->index);
    /* Another worker may have taken its end over meanwhile: what lies behind is written twice, with the same bytes. */
    guint64 before = now->at;
    now->at = MIN(segment.at + wanted, now->end);
    fetch->have += now->at - before;
    piece->done = now->at == now->end;
    bool is_cut = now->end != fetch->options.size;
    if (now->at >= fetch->wake_at || piece->done)
        g_cond_broadcast(&fetch->moved);
    g_mutex_unlock(&fetch->lock);
    if (wanted == length)
        return true;
    return is_cut ? error_set(error, TARE_ERROR_NOT_MODIFIED, "enough") : wrong_length(fetch, "more", error);
}

static bool is_final(const GError *error)
{
    return error_is(error, TARE_ERROR_CANCELLED) || error_is(error, TARE_ERROR_INVALID) || error_is(error, TARE_ERROR_NO_SPACE) ||
           error_is(error, TARE_ERROR_NOT_FOUND) || error_is(error, TARE_ERROR_UNAUTHORIZED) ||
           error_is(error, TARE_ERROR_FORBIDDEN) || error_is(error, TARE_ERROR_NOT_IMPLEMENTED) ||
           error_is(error, TARE_ERROR_TOO_LARGE);
}

static bool fetch_piece(struct piece *piece, bool *ret_final, GError **error)
{
    struct fetch *fetch = piece->fetch;
    g_autofree char *target = g_strconcat("blobs/", fetch->digest, NULL), *what = g_strconcat("GET blob ", fetch->digest, NULL);
    g_mutex_lock(&fetch->lock);
    struct segment segment = *segment_at(fetch, piece->index);
    g_mutex_unlock(&fetch->lock);
    const struct registry_request request = {
        .method = "GET",
        .target = target,
        .accept = "application/octet-stream, */*;q=0.5",
        .has_range = segment.at > 0 || segment.end < fetch->options.size,
        .range_first = segment.at,
        .range_last = segment.end == fetch->options.size ? G_MAXUINT64 : segment.end - 1,
        .sink = &piece->sink,
        .begin = piece_begin,
        .user = piece,
        .origin_only = fetch->options.origin_only,
        .cancel = fetch->cancel,
    };
    struct registry_response response = { 0 };
    bool ok = registry_request(fetch->options.session, &request, &response, error);
    if (ok && response.status >= 400) {
        *ret_final = true; /* patience is behind us */
        ok = registry_response_check(fetch->options.session, &response, what, error);
    }
    registry_response_clear(&response);
    return ok;
}

/* A failed try: whether there is to be another one, after a while. */
static bool goes_on(struct fetch *fetch, const struct piece *piece, unsigned *in_vain, GError **error)
{
    *in_vain = piece->came >= WORTH_BYTES ? 0 : *in_vain + 1;
    g_mutex_lock(&fetch->lock);
    bool too_many = ++fetch->failures > FAILURES_MAX || *in_vain >= fetch->options.max_attempts;
    g_mutex_unlock(&fetch->lock);
    if (too_many)
        return false;
    gint64 us = (gint64)MIN(100000u << MIN(*in_vain, 7u), 10000000u);
    if (fetch->options.retrying && us >= G_USEC_PER_SEC)
        fetch->options.retrying(fetch->options.user, (unsigned)(us / G_USEC_PER_SEC));
    return session_wait(fetch->cancel, us, error);
}

static bool fetch_segment(struct fetch *fetch, guint index, GError **error)
{
    unsigned in_vain = 0;
    for (;;) {
        struct piece piece = { .sink.write = piece_write, .fetch = fetch, .index = index };
        g_autoptr(GError) problem = NULL;
        bool final = false, ok = fetch_piece(&piece, &final, &problem);
        g_mutex_lock(&fetch->lock);
        bool done = segment_at(fetch, index)->at == segment_at(fetch, index)->end;
        g_mutex_unlock(&fetch->lock);
        if (done && (ok || error_is(problem, TARE_ERROR_NOT_MODIFIED)))
            return true;
        if (ok)
            error_set(&problem, TARE_ERROR_INTERNAL, "unexpected EOF: the server ended blob %s too early", fetch->digest);
        if (final || is_final(problem) || !goes_on(fetch, &piece, &in_vain, NULL)) {
            if (!cancel_check(fetch->cancel, error))
                return false;
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
    }
}

/* The lowest one that nobody is at: the reader wants it first. */
static bool next_segment(struct fetch *fetch, guint *ret)
{
    const struct segment *best = NULL;
    for (guint i = 0; i < fetch->segments->len; i++) {
        const struct segment *segment = segment_at(fetch, i);
        if (!segment->busy && segment->at < segment->end && (!best || segment->start < best->start)) {
            best = segment;
            *ret = i;
        }
    }
    if (best)
        segment_at(fetch, *ret)->busy = true;
    return best != NULL;
}

/* A segment that was cut off from another one in vain goes back to it, if that one is still on its way. The lock is held. */
static void give_back(struct fetch *fetch, guint index)
{
    struct segment *rest = segment_at(fetch, index);
    for (guint i = 0; i < fetch->segments->len; i++) {
        struct segment *segment = segment_at(fetch, i);
        if (segment->busy && segment->end == rest->start && segment->at < segment->end && rest->at == rest->start) {
            segment->end = rest->end;
            rest->start = rest->at = rest->end;
        }
    }
}

static gpointer work(gpointer data)
{
    struct fetch *fetch = data;
    g_mutex_lock(&fetch->lock);
    for (guint index; !fetch->failed && next_segment(fetch, &index);) {
        g_autoptr(GError) problem = NULL;
        g_mutex_unlock(&fetch->lock);
        bool ok = fetch_segment(fetch, index, &problem);
        g_mutex_lock(&fetch->lock);
        segment_at(fetch, index)->busy = false;
        /* Without ranges the first connection goes on alone. */
        if (!ok && error_is(problem, TARE_ERROR_NOT_IMPLEMENTED) && fetch->n_workers > 1) {
            give_back(fetch, index);
            break;
        }
        if (!ok && !fetch->failed) {
            fetch->failed = true;
            fetch->error = g_steal_pointer(&problem);
        }
    }
    fetch->n_workers--;
    g_cond_broadcast(&fetch->moved);
    g_mutex_unlock(&fetch->lock);
    return NULL;
}

/* The lock is held. */
static bool start_worker(struct fetch *fetch, GError **error)
{
    for (guint i = 0; i < WORKERS_MAX; i++)
        if (!fetch->workers[i]) {
            fetch->n_workers++;
            fetch->workers[i] = g_thread_try_new("fetch", work, fetch, error);
            fetch->n_workers -= fetch->workers[i] == NULL;
            return fetch->workers[i] != NULL;
        }
    return false;
}

/* The half of the longest rest becomes a segment of its own, for another connection. The lock is held. */
static void split(struct fetch *fetch)
{
    guint longest = 0;
    guint64 most = 0;
    if (fetch->no_ranges || fetch->segments->len >= SEGMENTS_MAX || fetch->n_workers == 0 || fetch->n_workers >= WORKERS_MAX)
        return;
    for (guint i = 0; i < fetch->segments->len; i++) {
        const struct segment *segment = segment_at(fetch, i);
        if (segment->end - segment->at > most) {
            most = segment->end - segment->at;
            longest = i;
        }
    }
    struct segment *segment = segment_at(fetch, longest);
    if (most < 2 * SPLIT_MIN)
        return;
    if (segment->busy) {
        guint64 middle = (segment->at + most / 2) / PAGE * PAGE;
        struct segment rest = { .start = middle, .at = middle, .end = segment->end };
        segment->end = middle;
        /* Indexes are what workers hold on to: a new one goes to the end of the array. */
        g_array_append_val(fetch->segments, rest);
    }
    start_worker(fetch, NULL);
}

/* ---- the reader ---- */

static guint64 readable(struct fetch *fetch)
{
    for (guint i = 0; i < fetch->segments->len; i++) {
        const struct segment *segment = segment_at(fetch, i);
        if (fetch->read_at >= segment->start && fetch->read_at < segment->end)
            return segment->at > fetch->read_at ? segment->at - fetch->read_at : 0;
    }
    return 0;
}

/* Bytes that can be read now; 0 at the end; -1 on failure. */
static gssize wait_for_bytes(struct fetch *fetch, gsize length, GError **error)
{
    guint64 left = fetch->options.size - fetch->read_at, n;
    if (left == 0)
        return 0;
    fetch->wake_at = fetch->read_at + MIN(left, WAKE_BYTES);
    while ((n = readable(fetch)) < MIN(left, WAKE_BYTES) && !fetch->failed) {
        gint64 before = g_get_monotonic_time();
        if (n > 0 && !g_cond_wait_until(&fetch->moved, &fetch->lock, before + 20000))
            break; /* better little than nothing */
        if (n == 0)
            g_cond_wait_until(&fetch->moved, &fetch->lock, before + 100000);
        fetch->starved_us += g_get_monotonic_time() - before;
        if (fetch->starved_us > STARVED_US) {
            fetch->starved_us = 0;
            split(fetch);
        }
        if (fetch->n_workers == 0 && readable(fetch) == 0 && !fetch->failed && !start_worker(fetch, error))
            return -1; /* a connection that left its segment to nobody */
    }
    n = readable(fetch);
    if (n == 0) {
        g_propagate_error(error, fetch->error ? g_error_copy(fetch->error) : NULL);
        return -1;
    }
    return (gssize)MIN(n, length);
}

static gssize read_fetch(struct byte_source *source, void *buffer, gsize length, GError **error)
{
    struct fetch *fetch = (struct fetch *)source;
    g_mutex_lock(&fetch->lock);
    gssize n = wait_for_bytes(fetch, length, error);
    g_mutex_unlock(&fetch->lock);
    if (n <= 0)
        return n;
    if (fd_pread_full(fetch->fd, buffer, (gsize)n, (off_t)fetch->read_at) != n) {
        error_set_errno(error, errno, "read what was fetched");
        return -1;
    }
    fetch->read_at += (guint64)n;
    return n;
}

/* ---- from beginning to end ---- */

bool fetch_start(const struct fetch_options *options, struct fetch **ret, GError **error)
{
    struct fetch *fetch = g_new0(struct fetch, 1);
    fetch->source.read = read_fetch;
    fetch->options = *options;
    fetch->cancel = cancel_ref(options->cancel);
    fetch->digest = g_strdup(options->digest);
    fetch->name = g_strdup(digest_hex(options->digest));
    fetch->fd = -1;
    fetch->segments = g_array_new(FALSE, FALSE, sizeof(struct segment));
    g_mutex_init(&fetch->lock);
    g_cond_init(&fetch->moved);
    guint64 block = PAGE;
    bool ok = open_file(fetch, &block, error);
    if (ok) {
        find_segments(fetch, block);
        g_mutex_lock(&fetch->lock);
        ok = fetch->have == options->size || start_worker(fetch, error);
        g_mutex_unlock(&fetch->lock);
    }
    if (!ok) {
        fetch_finish(fetch, true);
        return false;
    }
    *ret = fetch;
    return true;
}

struct byte_source *fetch_source(struct fetch *fetch)
{
    return &fetch->source;
}

guint64 fetch_have(struct fetch *fetch)
{
    g_mutex_lock(&fetch->lock);
    guint64 have = fetch->have;
    g_mutex_unlock(&fetch->lock);
    return have;
}

guint64 fetch_reused(const struct fetch *fetch)
{
    return fetch->reused;
}

void fetch_finish(struct fetch *fetch, bool keep)
{
    if (!fetch)
        return;
    g_mutex_lock(&fetch->lock);
    if (fetch->have < fetch->options.size)
        cancel_trigger(fetch->cancel);
    g_mutex_unlock(&fetch->lock);
    for (guint i = 0; i < WORKERS_MAX; i++)
        if (fetch->workers[i])
            g_thread_join(fetch->workers[i]);
    if (fetch->name && fetch->fd >= 0 && (!keep || fetch->have == 0))
        unlinkat(fetch->options.directory, fetch->name, 0);
    fd_clear(&fetch->fd);
    g_array_unref(fetch->segments);
    g_mutex_clear(&fetch->lock);
    g_cond_clear(&fetch->moved);
    g_clear_error(&fetch->error);
    cancel_unref(fetch->cancel);
    g_free(fetch->digest);
    g_free(fetch->name);
    g_free(fetch);
}
