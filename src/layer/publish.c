#include "layer/mounts.h"

#include "base/fd.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIDECAR_MAGIC "tarelyr1"
#define SIDECAR_HEAD 16 /* the magic, then the content's bytes, little endian; the facts follow where there are any */

/* ---- the sidecar ---- */

static GBytes *sidecar_write(guint64 content_bytes, const void *facts, gsize length)
{
    GByteArray *bytes = g_byte_array_sized_new(SIDECAR_HEAD + (guint)length);
    guint64 little = GUINT64_TO_LE(content_bytes);
    g_byte_array_append(bytes, (const guint8 *)SIDECAR_MAGIC, 8);
    g_byte_array_append(bytes, (const guint8 *)&little, 8);
    if (length > 0)
        g_byte_array_append(bytes, facts, (guint)length);
    return g_byte_array_free_to_bytes(bytes);
}

static bool parse_facts(const char *data, gsize length, struct layer_facts **ret, GError **error)
{
    *ret = NULL;
    return length == 0 || layer_facts_parse(data, length, ret, error);
}

bool layer_read_sidecar(struct layer_store *store, const char *diff_id, guint64 *ret_content_bytes,
                        struct layer_facts **ret_facts, GError **error)
{
    g_autofree char *data = NULL;
    size_t length = 0;
    g_autofd int fd = layer_open_file(store, diff_id, LAYER_FILE_FACTS, error);
    if (fd < 0 || !fd_read_all(fd, LAYER_FACTS_MAX + SIDECAR_HEAD, "layer facts", &data, &length, error))
        return false;
    if (length < SIDECAR_HEAD || memcmp(data, SIDECAR_MAGIC, 8) != 0)
        return error_set(error, TARE_ERROR_INVALID, "the facts of layer %s are damaged", diff_id);
    guint64 little;
    memcpy(&little, data + 8, sizeof little);
    if (ret_facts && !parse_facts(data + SIDECAR_HEAD, length - SIDECAR_HEAD, ret_facts, error))
        return false;
    *ret_content_bytes = GUINT64_FROM_LE(little);
    return true;
}

/* ---- indexing ---- */

/* An index on its way: files that have no name yet but a temporary one. */
struct pending {
    struct layer_store *store;
    enum layer_kind kind;
    int index, facts;
    char *index_name, *facts_name, *sidecar_name;
    guint64 content_bytes;
};

static void pending_clear(struct pending *pending)
{
    char *const names[] = { pending->index_name, pending->facts_name, pending->sidecar_name };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (names[i])
            unlinkat(pending->store->fd, names[i], 0);
        g_free(names[i]);
    }
    fd_clear(&pending->index);
    fd_clear(&pending->facts);
}

/* It says nothing before its end, so it gets the time that the slowest disk needs for reading the tar once, and some more. */
static int index_timeout_ms(const struct layer_store *store, guint64 tar_bytes)
{
    const guint64 slowest_bytes_per_ms = 4096;
    return (int)MIN((guint64)store->stall_us / 1000 + tar_bytes / slowest_bytes_per_ms, G_MAXINT);
}

static bool run_indexer(struct pending *pending, int tar, const char *diff_id, guint64 tar_bytes, struct cancel *cancel,
                        GError **error)
{
    struct worker worker = WORKER_NONE;
    guint64 values[WORKER_REPORT_VALUES];
    g_autofree char *bytes = g_strdup_printf("%" G_GUINT64_FORMAT, tar_bytes);
    const char *const arguments[] = { pending->kind == LAYER_KIND_TREE ? "index-tree" : "index", diff_id, bytes, NULL };
    const struct spawn_fd fds[] = {
        { tar, WORKER_FD_TAR },
        { pending->index, WORKER_FD_INDEX },
        { pending->facts, WORKER_FD_FACTS },
    };
    if (!worker_start(pending->store, arguments, fds, G_N_ELEMENTS(fds), "indexer", &worker, error) ||
        !worker_finish(&worker, cancel, index_timeout_ms(pending->store, tar_bytes), values, error))
        return false;
    pending->content_bytes = values[0];
    return true;
}

/* What the indexer said is only believed after this. */
static bool check_index(int index, const char *diff_id, guint64 tar_bytes, GError **error)
{
    struct erofs_device device = { .tar_bytes = tar_bytes };
    g_strlcpy(device.diff_id, diff_id, sizeof device.diff_id);
    const struct erofs_check_options options = { .id = diff_id, .devices = &device, .n_devices = 1 };
    if (erofs_check(index, &options, error))
        return true;
    g_prefix_error(error, "its index is not well-formed: ");
    return false;
}

static bool make_sidecar(struct pending *pending, GError **error)
{
    g_autofree char *data = NULL;
    size_t length = 0;
    struct layer_facts *facts = NULL;
    if (lseek(pending->facts, 0, SEEK_SET) < 0 ||
        !fd_read_all(pending->facts, LAYER_FACTS_MAX, "layer facts", &data, &length, error) ||
        !parse_facts(data, length, &facts, error))
        return false;
    bool is_empty = layer_facts_is_empty(facts);
    layer_facts_free(facts);
    g_autoptr(GBytes) bytes = sidecar_write(pending->content_bytes, data, is_empty ? 0 : length);
    g_autofd int fd = file_new_temporary(pending->store->fd, 0600, &pending->sidecar_name, error);
    if (fd < 0)
        return false;
    return fd_write_full(fd, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes)) == 0 ||
           error_set_errno(error, errno, "write");
}

static bool make_index(struct pending *pending, const char *tar_name, const char *diff_id, struct cancel *cancel, GError **error)
{
    struct stat st;
    g_autofd int tar = openat(pending->store->fd, tar_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (tar < 0 || fstat(tar, &st) < 0)
        return error_set_errno(error, errno, "open tar");
    pending->index = file_new_temporary(pending->store->fd, 0600, &pending->index_name, error);
    if (pending->index < 0)
        return false;
    pending->facts = file_new_temporary(pending->store->fd, 0600, &pending->facts_name, error);
    return pending->facts >= 0 && run_indexer(pending, tar, diff_id, (guint64)st.st_size, cancel, error) &&
           check_index(pending->index, diff_id, (guint64)st.st_size, error) && make_sidecar(pending, error);
}

/* ---- into place ---- */

static bool rename_into_place(struct layer_store *store, char **temporary, const char *diff_id, enum layer_file kind,
                              GError **error)
{
    char name[LAYER_NAME_ROOM];
    layer_file_name(diff_id, kind, name);
    if (renameat(store->fd, *temporary, store->fd, name) < 0)
        return error_set_errno(error, errno, "rename %s", name);
    g_clear_pointer(temporary, g_free);
    return true;
}

static void mark_damaged(struct layer_store *store, const char *diff_id, bool is_damaged)
{
    char name[LAYER_NAME_ROOM];
    layer_file_name(diff_id, LAYER_FILE_DAMAGED, name);
    if (is_damaged)
        fd_close(openat(store->fd, name, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600));
    else
        unlinkat(store->fd, name, 0);
}

/* The tar last: with it the layer is there. One that is known to be damaged gives way. */
static bool publish_files(struct pending *pending, struct intake *intake, const char *diff_id, GError **error)
{
    struct layer_store *store = pending->store;
    char tar[LAYER_NAME_ROOM];
    layer_file_name(diff_id, LAYER_FILE_TAR, tar);
    bool heals = layer_store_is_damaged(store, diff_id);
    if ((heals && !layer_mounts_forget(store, digest_hex(diff_id), error)) ||
        !rename_into_place(store, &pending->sidecar_name, diff_id, LAYER_FILE_FACTS, error) ||
        !rename_into_place(store, &pending->index_name, diff_id, LAYER_FILE_INDEX, error) || !intake_publish(intake, tar, error))
        return false;
    if (heals)
        mark_damaged(store, diff_id, false);
    return true;
}

/* Two that bring the same layer at the same time do so one after the other, and the second drops its own. *ret_gone: the layer
 * was there before and is not any more, and there is no index yet to put in its place. */
static bool place(struct pending *pending, struct intake *intake, const char *diff_id, const struct layer_claim *claim,
                  struct layer_info *ret, bool *ret_gone, GError **error)
{
    struct layer_store *store = pending->store;
    if (claim)
        g_mutex_lock(claim->lock);
    g_mutex_lock(&store->publish);
    bool there = layer_store_has(store, diff_id);
    *ret_gone = !there && pending->index < 0;
    bool ok = !*ret_gone && (there || publish_files(pending, intake, diff_id, error));
    g_mutex_unlock(&store->publish);
    ok = ok && layer_store_info(store, diff_id, ret, error) && (!claim || claim->take(claim->user, ret, error));
    if (claim)
        g_mutex_unlock(claim->lock);
    return ok;
}

bool layer_publish(struct layer_store *store, struct intake *intake, const char *diff_id, enum layer_kind kind,
                   const struct layer_claim *claim, struct cancel *cancel, struct layer_info *ret, GError **error)
{
    struct pending pending = { .store = store, .kind = kind, .index = -1, .facts = -1 };
    bool ok, gone = false;
    do {
        ok = layer_store_has(store, diff_id) || pending.index >= 0 ||
             make_index(&pending, intake_temporary(intake), diff_id, cancel, error);
        ok = ok && place(&pending, intake, diff_id, claim, ret, &gone, error);
    } while (gone);
    pending_clear(&pending);
    return ok;
}

/* ---- stored layers ---- */

bool layer_store_info(struct layer_store *store, const char *diff_id, struct layer_info *ret, GError **error)
{
    struct layer_info info = { 0 };
    struct stat tar_stat, index_stat;
    g_autofd int tar = layer_open_file(store, diff_id, LAYER_FILE_TAR, error);
    if (tar < 0)
        return false;
    g_autofd int index = layer_open_file(store, diff_id, LAYER_FILE_INDEX, error);
    if (index < 0)
        return false;
    if (fstat(tar, &tar_stat) < 0 || fstat(index, &index_stat) < 0)
        return error_set_errno(error, errno, "stat layer %s", diff_id);
    if (!layer_read_sidecar(store, diff_id, &info.content_bytes, NULL, error) || !digest_of_fd(index, info.index_digest, error))
        return false;
    g_strlcpy(info.diff_id, diff_id, sizeof info.diff_id);
    info.tar_bytes = (guint64)tar_stat.st_size;
    info.index_bytes = (guint64)index_stat.st_size;
    *ret = info;
    return true;
}

static bool check_tar(int tar, const char *diff_id, GError **error)
{
    char digest[DIGEST_ROOM];
    if (!digest_of_fd(tar, digest, error))
        return false;
    return strcmp(digest, diff_id) == 0 || error_set(error, TARE_ERROR_INVALID, "its content has the digest %s", digest);
}

static bool same_content(struct layer_store *store, const char *name, const char *diff_id, enum layer_file kind)
{
    char digests[2][DIGEST_ROOM];
    g_autofd int old = layer_open_file(store, diff_id, kind, NULL);
    g_autofd int made = openat(store->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return old >= 0 && made >= 0 && digest_of_fd(old, digests[0], NULL) && digest_of_fd(made, digests[1], NULL) &&
           strcmp(digests[0], digests[1]) == 0;
}

/* The tar is whole, so all else can be made again. */
static bool derive_index(struct layer_store *store, const char *diff_id, bool *ret_remade, GError **error)
{
    struct pending pending = { .store = store, .index = -1, .facts = -1 };
    char tar[LAYER_NAME_ROOM];
    layer_file_name(diff_id, LAYER_FILE_TAR, tar);
    bool ok = make_index(&pending, tar, diff_id, NULL, error);
    *ret_remade = ok && !(same_content(store, pending.index_name, diff_id, LAYER_FILE_INDEX) &&
                          same_content(store, pending.sidecar_name, diff_id, LAYER_FILE_FACTS));
    if (*ret_remade) {
        ok = layer_mounts_forget(store, digest_hex(diff_id), error);
        g_mutex_lock(&store->publish);
        ok = ok && rename_into_place(store, &pending.sidecar_name, diff_id, LAYER_FILE_FACTS, error) &&
             rename_into_place(store, &pending.index_name, diff_id, LAYER_FILE_INDEX, error);
        g_mutex_unlock(&store->publish);
    }
    pending_clear(&pending);
    return ok;
}

bool layer_store_verify(struct layer_store *store, const char *diff_id, bool *ret_remade, GError **error)
{
    GError *problem = NULL;
    bool remade = false;
    g_autofd int tar = layer_open_file(store, diff_id, LAYER_FILE_TAR, error);
    if (tar < 0)
        return false;
    bool sound = check_tar(tar, diff_id, &problem);
    if (sound || error_is(problem, TARE_ERROR_INVALID))
        mark_damaged(store, diff_id, !sound);
    if (!sound) {
        g_propagate_prefixed_error(error, problem, "layer %s is damaged: ", diff_id);
        return false;
    }
    if (!derive_index(store, diff_id, &remade, error)) {
        g_prefix_error(error, "index of layer %s: ", diff_id);
        return false;
    }
    if (ret_remade)
        *ret_remade = remade;
    return true;
}
