/* Archives of images, taken apart as they come (layer/split.h): a confined worker reads the headers, the contents go to memory or
 * to the store's disk. */
#include "layer/archive-internal.h"

#include "base/fd.h"
#include "layer/split.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define MEMORY_MAX (128u << 20)
#define MEMBERS_MAX 200000
#define FILES_MAX 16384
#define LINKS_MAX 16
#define ANSWER_TIMEOUT_MS 10000
#define PROGRESS_INTERVAL_US 100000

struct layer_archive {
    struct layer_store *store;
    GHashTable *members; /* path → struct archive_member */
    gsize in_memory;
    guint n_files;
};

enum splitter_state { WANT_BLOCK, IN_CONTENT, IN_PADDING, ENDED };

/* The archive flows through it. */
struct splitter {
    struct byte_sink sink;
    struct layer_archive *archive;
    const struct layer_archive_options *options;
    struct worker worker;
    int socket;
    enum splitter_state state;
    guint8 block[SPLIT_BLOCK];
    gsize block_at;
    struct archive_member *member;
    GArray *extents; /* of struct split_extent: the runs of member */
    guint extent;
    guint64 written; /* of the member, holes included */
    guint64 left;    /* of the run, or of the padding */
    guint64 padding;
    gint64 shown_at;
};

static bool next_frame(struct splitter *splitter, GError **error);

/* ---- the worker ---- */

static int start_worker(struct layer_store *store, struct worker *ret, GError **error)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        error_set_errno(error, errno, "socketpair");
        return -1;
    }
    g_autofd int theirs = pair[1], ours = pair[0];
    /* One that was taken over may say nothing at all. */
    const struct timeval patience = { .tv_sec = ANSWER_TIMEOUT_MS / 1000 };
    setsockopt(ours, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    const char *const arguments[] = { "split", NULL };
    const struct spawn_fd fds[] = { { theirs, 0 } };
    return worker_start(store, arguments, fds, G_N_ELEMENTS(fds), "archive reader", ret, error) ? fd_steal(&ours) : -1;
}

/* The worker went away before its end: its report says why. */
static bool worker_failed(struct splitter *splitter, GError **error)
{
    guint64 values[WORKER_REPORT_VALUES];
    if (worker_finish(&splitter->worker, splitter->options->cancel, ANSWER_TIMEOUT_MS, values, error))
        error_set(error, TARE_ERROR_INTERNAL, "the archive reader ended early");
    return false;
}

static bool receive(struct splitter *splitter, void *into, gsize length, GError **error)
{
    return fd_read_full(splitter->socket, into, length) == (ssize_t)length || worker_failed(splitter, error);
}

static bool send_block(struct splitter *splitter, GError **error)
{
    gsize length = splitter->block_at;
    splitter->block_at = 0;
    for (gsize done = 0; done < length;) {
        ssize_t n = send(splitter->socket, splitter->block + done, length - done, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return worker_failed(splitter, error);
        done += n > 0 ? (gsize)n : 0;
    }
    return true;
}

/* ---- contents ---- */

static void show(struct splitter *splitter, bool is_end)
{
    gint64 now = g_get_monotonic_time();
    if (!splitter->options->progress || splitter->member->bytes || (!is_end && now - splitter->shown_at < PROGRESS_INTERVAL_US))
        return;
    splitter->shown_at = now;
    splitter->options->progress(splitter->options->user, splitter->member->path, splitter->written, splitter->member->size);
}

/* The next run of the file, or its end. */
static bool next_run(struct splitter *splitter, GError **error)
{
    struct archive_member *member = splitter->member;
    if (splitter->extent < splitter->extents->len) {
        const struct split_extent *run = &g_array_index(splitter->extents, struct split_extent, splitter->extent++);
        guint64 hole = run->offset - splitter->written;
        splitter->written = run->offset;
        splitter->left = run->length;
        splitter->state = IN_CONTENT;
        return archive_member_write_zeros(member, hole, error);
    }
    if (!archive_member_write_zeros(member, member->size - splitter->written, error) || !archive_member_end(member, error))
        return false;
    splitter->written = member->size;
    show(splitter, true);
    g_hash_table_replace(splitter->archive->members, member->path, member);
    splitter->member = NULL;
    splitter->state = IN_PADDING;
    splitter->left = splitter->padding;
    return true;
}

/* In order, without overlap, within the file, and as long as what is stored: the worker is not believed. */
static bool check_extents(const GArray *extents, const struct split_frame *frame, GError **error)
{
    guint64 end = 0, sum = 0;
    bool ok = frame->size <= G_MAXINT64;
    for (guint i = 0; ok && i < extents->len; i++) {
        const struct split_extent *run = &g_array_index(extents, struct split_extent, i);
        ok = run->offset >= end && run->offset <= frame->size && run->length <= frame->size - run->offset;
        end = run->offset + run->length;
        sum += run->length;
    }
    return (ok && sum == frame->stored) || error_set(error, TARE_ERROR_INVALID, "the archive reader talks nonsense");
}

/* It is there already: under the name that the image promises, which is all that matters. */
static bool take_stored(struct layer_store *store, const char *diff_id, const struct layer_claim *claim, struct layer_info *ret)
{
    if (!layer_store_has(store, diff_id))
        return false;
    if (claim)
        g_mutex_lock(claim->lock);
    bool ok = layer_store_info(store, diff_id, ret, NULL) && (!claim || claim->take(claim->user, ret, NULL));
    if (claim)
        g_mutex_unlock(claim->lock);
    return ok;
}

/* "blobs/sha256/<hex>" of a layer that is here, and stays so. */
static bool is_stored(const struct splitter *splitter, const char *path)
{
    static const char prefix[] = "blobs/sha256/";
    struct layer_info info;
    if (!g_str_has_prefix(path, prefix))
        return false;
    g_autofree char *digest = g_strconcat(DIGEST_PREFIX, path + strlen(prefix), NULL);
    return take_stored(splitter->archive->store, digest, splitter->options->claim, &info);
}

static bool begin_file(struct splitter *splitter, const struct split_frame *frame, char *path, GError **error)
{
    struct layer_archive *archive = splitter->archive;
    splitter->member = archive_member_new(path);
    if (frame->n_extents == 0 && frame->stored > 0) {
        const struct split_extent whole = { 0, frame->stored };
        g_array_append_val(splitter->extents, whole);
    }
    if (!check_extents(splitter->extents, frame, error))
        return false;
    bool in_memory = frame->size <= MEMBER_IN_MEMORY && archive->in_memory + frame->size <= MEMORY_MAX;
    if (in_memory)
        archive->in_memory += frame->size;
    else if (++archive->n_files > FILES_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "the archive has more than %d large files", FILES_MAX);
    splitter->member->is_dropped = !in_memory && is_stored(splitter, path);
    splitter->extent = 0;
    splitter->written = 0;
    splitter->padding = (SPLIT_BLOCK - frame->stored % SPLIT_BLOCK) % SPLIT_BLOCK;
    return archive_member_begin(splitter->member, archive->store, frame->size, in_memory, error) && next_run(splitter, error);
}

/* ---- what the worker says ---- */

static char *receive_text(struct splitter *splitter, guint32 length, GError **error)
{
    g_autofree char *text = g_malloc0((gsize)length + 1);
    return receive(splitter, text, length, error) ? g_steal_pointer(&text) : NULL;
}

static bool take_entry(struct splitter *splitter, const struct split_frame *frame, GError **error)
{
    struct layer_archive *archive = splitter->archive;
    if (frame->path_length > SPLIT_PATH_MAX || frame->link_length > SPLIT_PATH_MAX || frame->n_extents > SPLIT_EXTENTS_MAX ||
        g_hash_table_size(archive->members) >= MEMBERS_MAX)
        return error_set(error, TARE_ERROR_INVALID, "the archive has too many entries");
    g_autofree char *path = receive_text(splitter, frame->path_length, error);
    g_autofree char *link = path ? receive_text(splitter, frame->link_length, error) : NULL;
    g_array_set_size(splitter->extents, frame->n_extents);
    if (!link || !receive(splitter, splitter->extents->data, frame->n_extents * sizeof(struct split_extent), error))
        return false;
    if (frame->kind == SPLIT_FILE)
        return begin_file(splitter, frame, g_steal_pointer(&path), error);
    g_autofree char *target = frame->kind == SPLIT_SYMLINK ? archive_resolve(path, link) : g_strdup(link);
    if (target) {
        struct archive_member *member = archive_member_new(g_steal_pointer(&path));
        member->is_other = frame->kind == SPLIT_OTHER;
        if (!member->is_other)
            member->link = g_steal_pointer(&target);
        g_hash_table_replace(archive->members, member->path, member);
    }
    return true;
}

/* Until it wants a block, or a content is to be taken. */
static bool next_frame(struct splitter *splitter, GError **error)
{
    for (;;) {
        struct split_frame frame;
        if (!receive(splitter, &frame, sizeof frame, error))
            return false;
        switch (frame.kind) {
        case SPLIT_READ:
            splitter->state = WANT_BLOCK;
            return true;
        case SPLIT_END:
            splitter->state = ENDED;
            return true;
        case SPLIT_FILE:
            return take_entry(splitter, &frame, error);
        case SPLIT_LINK:
        case SPLIT_SYMLINK:
        case SPLIT_OTHER:
            if (!take_entry(splitter, &frame, error))
                return false;
            break;
        default:
            return error_set(error, TARE_ERROR_INTERNAL, "the archive reader talks nonsense");
        }
    }
}

/* ---- the archive's bytes ---- */

/* What needs no bytes: runs without length, the end of a file. */
static bool settle(struct splitter *splitter, GError **error)
{
    while ((splitter->state == IN_CONTENT || splitter->state == IN_PADDING) && splitter->left == 0)
        if (!(splitter->state == IN_CONTENT ? next_run(splitter, error) : next_frame(splitter, error)))
            return false;
    return true;
}

static gssize take_some(struct splitter *splitter, const guint8 *data, gsize length, GError **error)
{
    gsize n;
    switch (splitter->state) {
    case WANT_BLOCK:
        n = MIN(length, SPLIT_BLOCK - splitter->block_at);
        memcpy(splitter->block + splitter->block_at, data, n);
        splitter->block_at += n;
        if (splitter->block_at == SPLIT_BLOCK && (!send_block(splitter, error) || !next_frame(splitter, error)))
            return -1;
        return (gssize)n;
    case IN_CONTENT:
        n = (gsize)MIN(length, splitter->left);
        if (!archive_member_write(splitter->member, data, n, error))
            return -1;
        splitter->left -= n;
        splitter->written += n;
        show(splitter, false);
        return (gssize)n;
    case IN_PADDING:
        n = (gsize)MIN(length, splitter->left);
        splitter->left -= n;
        return (gssize)n;
    default:
        return (gssize)length;
    }
}

static bool split(struct byte_sink *self, const void *data, gsize length, GError **error)
{
    struct splitter *splitter = (struct splitter *)self;
    const guint8 *at = data;
    while (length > 0) {
        gssize n = take_some(splitter, at, length, error);
        if (n < 0 || !settle(splitter, error))
            return false;
        at += n;
        length -= (gsize)n;
    }
    return true;
}

/* The archive has ended: where its end was not marked, the worker sees it now. */
static bool finish(struct splitter *splitter, GError **error)
{
    guint64 values[WORKER_REPORT_VALUES];
    if (splitter->state == IN_CONTENT)
        return error_set(error, TARE_ERROR_INVALID, "the archive ends within \"%s\"", splitter->member->path);
    if (splitter->state == IN_PADDING && (splitter->left = 0, !settle(splitter, error)))
        return false;
    if (!send_block(splitter, error))
        return false;
    shutdown(splitter->socket, SHUT_WR);
    while (splitter->state != ENDED) {
        if (!next_frame(splitter, error))
            return false;
        if (splitter->state == IN_CONTENT || splitter->state == IN_PADDING)
            return error_set(error, TARE_ERROR_INVALID, "unexpected EOF");
    }
    return worker_finish(&splitter->worker, splitter->options->cancel, ANSWER_TIMEOUT_MS, values, error);
}

bool archive_split(struct layer_store *store, struct byte_source *source, int socket, const struct worker *worker,
                   const struct layer_archive_options *options, struct layer_archive **ret, GError **error)
{
    struct layer_archive *archive = g_new0(struct layer_archive, 1);
    struct splitter splitter = {
        .sink.write = split, .archive = archive, .options = options, .worker = *worker, .socket = socket
    };
    archive->store = store;
    archive->members = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, archive_member_free);
    splitter.extents = g_array_new(FALSE, TRUE, sizeof(struct split_extent));
    bool ok = next_frame(&splitter, error) && layer_decode(store, source, &splitter.sink, 0, options->cancel, error) &&
              finish(&splitter, error);
    fd_clear(&splitter.socket);
    worker_clear(&splitter.worker);
    if (splitter.member)
        archive_member_free(splitter.member);
    g_array_unref(splitter.extents);
    if (ok)
        *ret = archive;
    else
        layer_archive_free(archive);
    return ok;
}

bool layer_archive_read(struct layer_store *store, struct byte_source *source, const struct layer_archive_options *options,
                        struct layer_archive **ret, GError **error)
{
    struct worker worker = WORKER_NONE;
    int socket = start_worker(store, &worker, error);
    return socket >= 0 && archive_split(store, source, socket, &worker, options, ret, error);
}

void layer_archive_free(struct layer_archive *archive)
{
    if (!archive)
        return;
    g_hash_table_unref(archive->members);
    g_free(archive);
}

/* ---- what is in it ---- */

static struct archive_member *find(const struct layer_archive *archive, const char *path)
{
    g_autofree char *normal = archive_resolve("", path);
    struct archive_member *member = normal ? g_hash_table_lookup(archive->members, normal) : NULL;
    for (int i = 0; member && member->link && i < LINKS_MAX; i++)
        member = g_hash_table_lookup(archive->members, member->link);
    return member && !member->link ? member : NULL;
}

static bool not_found(const char *path, GError **error)
{
    return error_set(error, TARE_ERROR_NOT_FOUND, "open %s: no such file or directory", path);
}

static bool is_no_file(const char *path, GError **error)
{
    return error_set(error, TARE_ERROR_INVALID, "%s is not a regular file", path);
}

bool layer_archive_has(const struct layer_archive *archive, const char *path)
{
    return find(archive, path) != NULL;
}

static gint compare_paths(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char **layer_archive_paths(const struct layer_archive *archive)
{
    GPtrArray *paths = g_ptr_array_new();
    GHashTableIter iter;
    gpointer path;
    g_hash_table_iter_init(&iter, archive->members);
    while (g_hash_table_iter_next(&iter, &path, NULL))
        g_ptr_array_add(paths, path);
    g_ptr_array_sort(paths, compare_paths);
    g_ptr_array_add(paths, NULL);
    return (const char **)g_ptr_array_free(paths, FALSE);
}

char *layer_archive_text(const struct layer_archive *archive, const char *path, gsize max, GError **error)
{
    const struct archive_member *member = find(archive, path);
    if (!member) {
        not_found(path, error);
        return NULL;
    }
    if (member->is_other)
        return is_no_file(path, error), NULL;
    if (member->size > max || (!member->bytes && !member->intake)) {
        error_set(error, TARE_ERROR_INVALID, "open %s: it is larger than %zu bytes", path, max);
        return NULL;
    }
    if (member->bytes)
        return g_strndup((const char *)member->bytes->data, member->bytes->len);
    g_autofd int fd = intake_open(member->intake, error);
    g_autofree char *data = NULL;
    size_t length;
    return fd >= 0 && fd_read_all(fd, max, path, &data, &length, error) ? g_strndup(data, length) : NULL;
}

/* ---- as layers ---- */

static bool take_from_memory(struct layer_archive *archive, const struct archive_member *member,
                             const struct layer_ingest_options *options, struct layer_info *ret, GError **error)
{
    struct memory_source source;
    memory_source_init(&source, member->bytes->data, member->bytes->len);
    return layer_store_ingest(archive->store, &source.source, options, ret, error);
}

static bool take_plain(struct layer_archive *archive, struct archive_member *member, const struct layer_ingest_options *options,
                       struct layer_info *ret, GError **error)
{
    if (options->expected_diff_id && strcmp(member->digest, options->expected_diff_id) != 0)
        return error_set(error, TARE_ERROR_INVALID, "its content has the digest %s and not %s", member->digest,
                         options->expected_diff_id);
    return layer_publish(archive->store, member->intake, member->digest, LAYER_KIND_LAYER, options->claim, options->cancel, ret,
                         error);
}

static bool take_compressed(struct layer_archive *archive, struct archive_member *member,
                            const struct layer_ingest_options *options, struct layer_info *ret, GError **error)
{
    g_autofd int fd = intake_open(member->intake, error);
    if (fd < 0)
        return false;
    struct fd_source source;
    fd_source_init(&source, fd, member->path);
    return layer_store_ingest(archive->store, &source.source, options, ret, error);
}

bool layer_archive_take(struct layer_archive *archive, const char *path, const struct layer_ingest_options *options,
                        struct layer_info *ret, GError **error)
{
    struct archive_member *member = find(archive, path);
    if (!member)
        return not_found(path, error);
    if (member->is_other)
        return is_no_file(path, error);
    if (member->bytes)
        return take_from_memory(archive, member, options, ret, error);
    if (options->expected_diff_id && take_stored(archive->store, options->expected_diff_id, options->claim, ret))
        return true;
    bool ok = member->is_dropped || !member->intake || !intake_temporary(member->intake)
                  ? error_set(error, TARE_ERROR_CONFLICT, "it was removed while the archive was being read")
              : member->is_compressed ? take_compressed(archive, member, options, ret, error)
                                      : take_plain(archive, member, options, ret, error);
    if (!ok && options->name && !error_is(error ? *error : NULL, TARE_ERROR_CANCELLED))
        g_prefix_error(error, "%s: ", options->name);
    return ok;
}
