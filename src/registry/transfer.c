/* Layers on their way: a thread for each, from the registry through the decoder into the store. A layer that several pulls want
 * is brought once; one pull that ends early takes nothing from the others. */
#include "registry/registry-internal.h"

#include "base/fd.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    SMALL_BYTES = 4 << 20, /* such layers wait for round trips, not for bandwidth or processors: more of them go at once */
    SMALL_FACTOR = 3,
    PARTIAL_LIFE_S = 24 * 3600,
};

struct transfers {
    GMutex lock;
    GCond changed;                /* what pulls look at */
    GCond room_large, room_small; /* for those that wait for a slot: one more wakes one, not all of them */
    GHashTable *by_diff_id;       /* → struct transfer *, those that are under way */
    unsigned n_threads;
    unsigned n_large, n_small; /* that have a slot */
    bool closing;
};

struct transfer {
    struct registry *registry;
    struct registry_session *session;
    char *diff_id, *digest;
    guint64 size;
    /* Under the lock: */
    unsigned references; /* of pulls, and one of the thread */
    unsigned n_pulls;
    struct transfer_status status;
    struct cancel *cancel; /* of the current try */
    struct fetch *fetch;
    struct layer_info info;
    GError *error;
    struct transfer *before; /* one of the same layer that ends because nobody wants it any more; or NULL */
};

/* ---- life ---- */

bool transfers_open(struct registry *registry, GError **error)
{
    g_autofree char *path = g_build_filename(registry->data_root, "downloads", NULL);
    registry->downloads = dir_make_path(path, 0700, error);
    if (registry->downloads < 0)
        return false;
    struct transfers *transfers = registry->transfers = g_new0(struct transfers, 1);
    transfers->by_diff_id = g_hash_table_new(g_str_hash, g_str_equal);
    g_mutex_init(&transfers->lock);
    g_cond_init(&transfers->changed);
    g_cond_init(&transfers->room_large);
    g_cond_init(&transfers->room_small);
    transfers_expire(registry);
    return true;
}

/* Someone was cancelled, who may wait for a slot. The lock is held. */
static void wake_waiting(struct transfers *transfers)
{
    g_cond_broadcast(&transfers->room_large);
    g_cond_broadcast(&transfers->room_small);
    g_cond_broadcast(&transfers->changed);
}

void transfers_close(struct registry *registry)
{
    struct transfers *transfers = registry->transfers;
    if (!transfers)
        return;
    GHashTableIter iter;
    gpointer value;
    g_mutex_lock(&transfers->lock);
    transfers->closing = true;
    g_hash_table_iter_init(&iter, transfers->by_diff_id);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        cancel_trigger(((struct transfer *)value)->cancel);
    wake_waiting(transfers);
    while (transfers->n_threads > 0)
        g_cond_wait(&transfers->changed, &transfers->lock);
    g_mutex_unlock(&transfers->lock);
    g_hash_table_unref(transfers->by_diff_id);
    g_mutex_clear(&transfers->lock);
    g_cond_clear(&transfers->changed);
    g_cond_clear(&transfers->room_large);
    g_cond_clear(&transfers->room_small);
    g_free(transfers);
    fd_clear(&registry->downloads);
}

/* The lock is held. */
static void unref(struct transfer *transfer)
{
    if (--transfer->references > 0)
        return;
    if (transfer->before)
        unref(transfer->before);
    registry_session_free(transfer->session);
    cancel_unref(transfer->cancel);
    g_clear_error(&transfer->error);
    g_free(transfer->diff_id);
    g_free(transfer->digest);
    g_free(transfer);
}

static void set_phase(struct transfer *transfer, enum transfer_phase phase)
{
    struct transfers *transfers = transfer->registry->transfers;
    g_mutex_lock(&transfers->lock);
    transfer->status.phase = phase;
    g_cond_broadcast(&transfers->changed);
    g_mutex_unlock(&transfers->lock);
}

/* ---- slots ---- */

static bool is_small(const struct transfer *transfer)
{
    return transfer->size <= SMALL_BYTES;
}

static GCond *room_of(const struct transfer *transfer)
{
    struct transfers *transfers = transfer->registry->transfers;
    return is_small(transfer) ? &transfers->room_small : &transfers->room_large;
}

/* The lock is held. */
static bool has_room(const struct transfer *transfer)
{
    const struct registry *registry = transfer->registry;
    return is_small(transfer) ? registry->transfers->n_small < registry->max_downloads * SMALL_FACTOR
                              : registry->transfers->n_large < registry->max_downloads;
}

static bool has_ended(const struct transfer *transfer)
{
    return transfer->status.phase == TRANSFER_DONE || transfer->status.phase == TRANSFER_FAILED;
}

/* What it leaves behind is where this one begins. The lock is held. */
static void wait_for_the_one_before(struct transfer *transfer)
{
    struct transfers *transfers = transfer->registry->transfers;
    while (transfer->before && !has_ended(transfer->before) && !cancel_is_set(transfer->cancel))
        g_cond_wait(&transfers->changed, &transfers->lock);
    if (transfer->before)
        unref(g_steal_pointer(&transfer->before));
}

static bool take_slot(struct transfer *transfer)
{
    struct transfers *transfers = transfer->registry->transfers;
    g_mutex_lock(&transfers->lock);
    wait_for_the_one_before(transfer);
    while (!has_room(transfer) && !cancel_is_set(transfer->cancel)) {
        transfer->status.phase = TRANSFER_WAITING;
        g_cond_wait(room_of(transfer), &transfers->lock);
    }
    bool ok = !cancel_is_set(transfer->cancel);
    if (!ok) /* what woke us may have been meant for another one */
        g_cond_signal(room_of(transfer));
    else
        is_small(transfer) ? transfers->n_small++ : transfers->n_large++;
    g_mutex_unlock(&transfers->lock);
    return ok;
}

static void give_slot(struct transfer *transfer)
{
    struct transfers *transfers = transfer->registry->transfers;
    g_mutex_lock(&transfers->lock);
    is_small(transfer) ? transfers->n_small-- : transfers->n_large--;
    g_cond_signal(room_of(transfer));
    g_mutex_unlock(&transfers->lock);
}

/* ---- one try ---- */

static void show_retry(void *user, unsigned seconds)
{
    struct transfer *transfer = user;
    struct transfers *transfers = transfer->registry->transfers;
    g_mutex_lock(&transfers->lock);
    transfer->status.phase = TRANSFER_RETRYING;
    transfer->status.retry_seconds = seconds;
    g_cond_broadcast(&transfers->changed);
    g_mutex_unlock(&transfers->lock);
}

static void show_decoded(void *user, guint64 bytes)
{
    struct transfer *transfer = user;
    struct transfers *transfers = transfer->registry->transfers;
    g_mutex_lock(&transfers->lock);
    transfer->status.decoded = bytes;
    g_cond_broadcast(&transfers->changed);
    g_mutex_unlock(&transfers->lock);
}

static bool ingest(struct transfer *transfer, struct byte_source *source, struct layer_info *ret, GError **error)
{
    struct image_layer_claim claim;
    g_autofree char *holder = records_layer_holder(transfer->diff_id);
    image_layer_claim_init(&claim, transfer->registry->images, holder);
    const struct layer_ingest_options options = {
        .expected_blob = transfer->digest,
        .expected_diff_id = transfer->diff_id,
        .claim = &claim.claim,
        .cancel = transfer->cancel,
        .progress = show_decoded,
        .user = transfer,
    };
    return layer_store_ingest(transfer->registry->layers, source, &options, ret, error);
}

/* *ret_reused: bytes of an earlier try were used, which may be what is wrong. */
static bool bring(struct transfer *transfer, bool fresh, bool *ret_reused, struct layer_info *ret, GError **error)
{
    struct registry *registry = transfer->registry;
    const struct fetch_options options = {
        .session = transfer->session,
        .digest = transfer->digest,
        .size = transfer->size,
        .directory = registry->downloads,
        .max_attempts = registry->max_attempts,
        .fresh = fresh,
        .origin_only = fresh,
        .cancel = transfer->cancel,
        .retrying = show_retry,
        .user = transfer,
    };
    struct fetch *fetch = NULL;
    if (!fetch_start(&options, &fetch, error))
        return false;
    *ret_reused = fetch_reused(fetch) > 0;
    g_mutex_lock(&registry->transfers->lock);
    transfer->fetch = fetch;
    g_mutex_unlock(&registry->transfers->lock);
    GError *problem = NULL;
    bool ok = ingest(transfer, fetch_source(fetch), ret, &problem);
    g_mutex_lock(&registry->transfers->lock);
    transfer->fetch = NULL;
    g_mutex_unlock(&registry->transfers->lock);
    /* What came and is not to be blamed stays for the next time; a full disk needs the room. */
    bool is_bad = error_is(problem, TARE_ERROR_INVALID) || error_is(problem, TARE_ERROR_TOO_LARGE) ||
                  error_is(problem, TARE_ERROR_NO_SPACE);
    fetch_finish(fetch, !ok && !is_bad);
    if (problem)
        g_propagate_error(error, problem);
    return ok;
}

/* A fresh cancel for another try; false where nobody wants it any more. */
static bool begin_again(struct transfer *transfer)
{
    struct transfers *transfers = transfer->registry->transfers;
    g_mutex_lock(&transfers->lock);
    bool wanted = transfer->n_pulls > 0 && !transfers->closing;
    if (wanted) {
        cancel_unref(transfer->cancel);
        transfer->cancel = cancel_new();
        transfer->status = (struct transfer_status){ .phase = TRANSFER_DOWNLOADING };
    }
    g_mutex_unlock(&transfers->lock);
    return wanted;
}

static bool has_mirrors(const struct registry_session *session)
{
    return ((const struct endpoint *)session->endpoints->pdata[0])->is_mirror;
}

static bool run(struct transfer *transfer, struct layer_info *ret, GError **error)
{
    bool reused = false;
    g_autoptr(GError) problem = NULL;
    if (bring(transfer, false, &reused, ret, &problem))
        return true;
    bool may_be_cured = error_is(problem, TARE_ERROR_INVALID) && (reused || has_mirrors(transfer->session));
    if (may_be_cured && begin_again(transfer)) {
        g_clear_error(&problem);
        if (bring(transfer, true, &reused, ret, &problem))
            return true;
    }
    if (!error_is(problem, TARE_ERROR_CANCELLED) && !error_is(problem, TARE_ERROR_NO_SPACE))
        g_prefix_error(&problem, "%s/%s: layer %s: ", transfer->session->domain, transfer->session->repository, transfer->digest);
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

static gpointer transfer_thread(gpointer data)
{
    struct transfer *transfer = data;
    struct transfers *transfers = transfer->registry->transfers;
    struct layer_info info = { 0 };
    GError *error = NULL;
    bool ok = false;
    if (take_slot(transfer)) {
        set_phase(transfer, TRANSFER_DOWNLOADING);
        ok = records_expect_layer(transfer->registry, transfer->diff_id, &error) && run(transfer, &info, &error);
        give_slot(transfer);
    } else {
        cancel_check(transfer->cancel, &error);
    }
    g_mutex_lock(&transfers->lock);
    transfer->info = info;
    transfer->error = error;
    transfer->status.phase = ok ? TRANSFER_DONE : TRANSFER_FAILED;
    transfer->status.fetched = transfer->status.decoded = ok ? transfer->size : 0;
    if (g_hash_table_lookup(transfers->by_diff_id, transfer->diff_id) == transfer)
        g_hash_table_remove(transfers->by_diff_id, transfer->diff_id);
    unref(transfer);
    transfers->n_threads--;
    g_cond_broadcast(&transfers->changed);
    g_mutex_unlock(&transfers->lock);
    return NULL;
}

/* ---- for pulls ---- */

static struct transfer *transfer_new(struct registry_session *session, const struct transfer_layer *layer)
{
    struct transfer *transfer = g_new0(struct transfer, 1);
    transfer->registry = session->registry;
    transfer->session = session_ref(session);
    transfer->diff_id = g_strdup(layer->diff_id);
    transfer->digest = g_strdup(layer->digest);
    transfer->size = layer->size;
    transfer->cancel = cancel_new();
    transfer->references = 1;
    return transfer;
}

bool transfer_join(struct registry_session *session, const struct transfer_layer *layer, struct transfer **ret, GError **error)
{
    struct transfers *transfers = session->registry->transfers;
    bool ok = true;
    g_mutex_lock(&transfers->lock);
    struct transfer *transfer = g_hash_table_lookup(transfers->by_diff_id, layer->diff_id);
    struct transfer *before = transfer && transfer->n_pulls == 0 ? transfer : NULL; /* its last pull has just left it */
    if (!transfer || before) {
        transfer = transfer_new(session, layer);
        if (before) {
            before->references++;
            transfer->before = before;
        }
        GThread *thread = transfers->closing ? NULL : g_thread_try_new("transfer", transfer_thread, transfer, error);
        if (thread) {
            g_thread_unref(thread);
            transfers->n_threads++;
            g_hash_table_replace(transfers->by_diff_id, transfer->diff_id, transfer);
        } else {
            if (transfers->closing)
                error_set(error, TARE_ERROR_CANCELLED, "the engine stops");
            unref(transfer);
            ok = false;
        }
    }
    if (ok) {
        transfer->references++;
        transfer->n_pulls++;
        *ret = transfer;
    }
    g_mutex_unlock(&transfers->lock);
    return ok;
}

void transfer_leave(struct transfer *transfer)
{
    struct transfers *transfers = transfer->registry->transfers;
    g_mutex_lock(&transfers->lock);
    if (--transfer->n_pulls == 0) {
        cancel_trigger(transfer->cancel);
        wake_waiting(transfers);
    }
    unref(transfer);
    g_mutex_unlock(&transfers->lock);
}

bool transfer_is_own(const struct transfer *transfer, const struct registry_session *session)
{
    return transfer->session == session;
}

void transfer_get_status(struct transfer *transfer, struct transfer_status *ret)
{
    struct transfers *transfers = transfer->registry->transfers;
    g_mutex_lock(&transfers->lock);
    struct transfer_status *status = &transfer->status;
    if (transfer->fetch) {
        guint64 have = fetch_have(transfer->fetch);
        if (have > status->fetched && status->phase == TRANSFER_RETRYING)
            status->phase = TRANSFER_DOWNLOADING;
        status->fetched = have;
        if (have == transfer->size)
            status->phase = TRANSFER_EXTRACTING;
    }
    *ret = *status;
    g_mutex_unlock(&transfers->lock);
}

bool transfer_result(struct transfer *transfer, struct layer_info *ret, GError **error)
{
    struct transfers *transfers = transfer->registry->transfers;
    g_mutex_lock(&transfers->lock);
    bool ok = transfer->status.phase == TRANSFER_DONE;
    if (ok)
        *ret = transfer->info;
    else
        g_propagate_error(error, transfer->error ? g_error_copy(transfer->error) : NULL);
    g_mutex_unlock(&transfers->lock);
    return ok;
}

void transfers_wait(struct registry *registry, gint64 us)
{
    struct transfers *transfers = registry->transfers;
    g_mutex_lock(&transfers->lock);
    g_cond_wait_until(&transfers->changed, &transfers->lock, g_get_monotonic_time() + us);
    g_mutex_unlock(&transfers->lock);
}

/* ---- partial blobs ---- */

static bool is_old(int directory, const char *name)
{
    struct stat st;
    g_autofd int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    return fd >= 0 && fstat(fd, &st) == 0 && st.st_mtime + PARTIAL_LIFE_S < time(NULL) && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

void transfers_expire(struct registry *registry)
{
    g_autofd int directory = openat(registry->downloads, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = directory < 0 ? NULL : fdopendir(directory);
    if (!entries)
        return;
    fd_steal(&directory);
    for (struct dirent *entry; (entry = readdir(entries));)
        if (*entry->d_name != '.' && is_old(registry->downloads, entry->d_name))
            unlinkat(registry->downloads, entry->d_name, 0);
    closedir(entries);
    records_expire_layers(registry, PARTIAL_LIFE_S);
}
