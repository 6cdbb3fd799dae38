#include "layer/layer-internal.h"

#include "base/measure.h"
#include "base/fd.h"
#include "base/file.h"
#include "layer/mounts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_STALL_SECONDS 60
#define DEFAULT_MAX_LAYER_BYTES (G_GUINT64_CONSTANT(1) << 40)

static const char *const suffixes[] = {
    [LAYER_FILE_TAR] = ".tar", [LAYER_FILE_INDEX] = ".erofs", [LAYER_FILE_FACTS] = ".facts", [LAYER_FILE_DAMAGED] = ".damaged"
};

/* ---- names ---- */

void layer_file_name(const char *diff_id, enum layer_file kind, char ret[LAYER_NAME_ROOM])
{
    g_snprintf(ret, LAYER_NAME_ROOM, "%s%s", digest_hex(diff_id), suffixes[kind]);
}

bool layer_check_diff_id(const char *diff_id, GError **error)
{
    return digest_is_valid(diff_id) ||
           error_set(error, TARE_ERROR_INVALID, "invalid layer digest \"%s\"", diff_id ? diff_id : "");
}

int layer_open_file(struct layer_store *store, const char *diff_id, enum layer_file kind, GError **error)
{
    char name[LAYER_NAME_ROOM];
    if (!layer_check_diff_id(diff_id, error))
        return -1;
    layer_file_name(diff_id, kind, name);
    int fd = openat(store->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        error_set(error, TARE_ERROR_NOT_FOUND, "layer %s does not exist", diff_id);
    else if (fd < 0)
        error_set_errno(error, errno, "open layer %s", diff_id);
    return fd;
}

static bool file_exists(struct layer_store *store, const char *diff_id, enum layer_file kind)
{
    char name[LAYER_NAME_ROOM];
    layer_file_name(diff_id, kind, name);
    return faccessat(store->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool layer_store_has(struct layer_store *store, const char *diff_id)
{
    return digest_is_valid(diff_id) && file_exists(store, diff_id, LAYER_FILE_TAR) &&
           file_exists(store, diff_id, LAYER_FILE_INDEX) && !file_exists(store, diff_id, LAYER_FILE_DAMAGED);
}

bool layer_store_is_damaged(struct layer_store *store, const char *diff_id)
{
    return digest_is_valid(diff_id) && file_exists(store, diff_id, LAYER_FILE_DAMAGED);
}

int layer_store_open_tar(struct layer_store *store, const char *diff_id, GError **error)
{
    return layer_open_file(store, diff_id, LAYER_FILE_TAR, error);
}

/* ---- the list ---- */

static gint compare_strings(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The diff id of a file that is called "<hex><suffix>", or NULL. g_free. */
static char *diff_id_of_name(const char *name, const char *suffix)
{
    if (strlen(name) != DIGEST_HEX_LENGTH + strlen(suffix) || !g_str_has_suffix(name, suffix))
        return NULL;
    g_autofree char *diff_id = g_strdup_printf(DIGEST_PREFIX "%.*s", DIGEST_HEX_LENGTH, name);
    return digest_is_valid(diff_id) ? g_steal_pointer(&diff_id) : NULL;
}

static DIR *open_list(const char *path, GError **error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        error_set_errno(error, errno, "open %s", path);
        fd_close(fd);
    }
    return dir;
}

/* Digests that files are called after. */
static char **list_digests(const char *path, const char *suffix, GError **error)
{
    DIR *dir = open_list(path, error);
    if (!dir)
        return NULL;
    GPtrArray *list = g_ptr_array_new();
    for (struct dirent *entry; (entry = readdir(dir));) {
        g_autofree char *digest = diff_id_of_name(entry->d_name, suffix);
        if (digest)
            g_ptr_array_add(list, g_steal_pointer(&digest));
    }
    closedir(dir);
    g_ptr_array_sort(list, compare_strings);
    g_ptr_array_add(list, NULL);
    return (char **)g_ptr_array_free(list, FALSE);
}

char **layer_store_list(struct layer_store *store, GError **error)
{
    return list_digests(store->directory, suffixes[LAYER_FILE_TAR], error);
}

char **layer_store_list_fixups(struct layer_store *store, GError **error)
{
    return list_digests(store->fixups, suffixes[LAYER_FILE_INDEX], error);
}

guint64 layer_store_disk_bytes(struct layer_store *store)
{
    struct measure measured;
    g_autofree char *layers = g_path_get_dirname(store->directory);
    measure_tree(AT_FDCWD, layers, &measured);
    return measured.disk_bytes;
}

/* What an interrupted ingest or removal left: an index or facts without a tar. (A tar without an index is whole and keeps.) */
static bool sweep_leftovers(struct layer_store *store, GError **error)
{
    DIR *dir = open_list(store->directory, error);
    if (!dir)
        return false;
    g_autoptr(GHashTable) tars = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) others = g_ptr_array_new_with_free_func(g_free); /* names of indexes and facts */
    for (struct dirent *entry; (entry = readdir(dir));) {
        char *of_tar = diff_id_of_name(entry->d_name, suffixes[LAYER_FILE_TAR]);
        if (of_tar)
            g_hash_table_add(tars, of_tar);
        else
            g_ptr_array_add(others, g_strdup(entry->d_name));
    }
    closedir(dir);
    for (guint i = 0; i < others->len; i++) {
        g_autofree char *of_index = diff_id_of_name(others->pdata[i], suffixes[LAYER_FILE_INDEX]);
        g_autofree char *of_facts = diff_id_of_name(others->pdata[i], suffixes[LAYER_FILE_FACTS]);
        g_autofree char *of_mark = diff_id_of_name(others->pdata[i], suffixes[LAYER_FILE_DAMAGED]);
        const char *diff_id = of_index ? of_index : of_facts ? of_facts : of_mark;
        if (diff_id && !g_hash_table_contains(tars, diff_id))
            unlinkat(store->fd, others->pdata[i], 0);
    }
    return true;
}

/* ---- opening and closing ---- */

static char *absolute_path(const char *path)
{
    if (g_path_is_absolute(path))
        return g_strdup(path);
    g_autofree char *here = g_get_current_dir();
    return g_build_filename(here, path, NULL);
}

static bool open_directories(struct layer_store *store, GError **error)
{
    g_autofree char *layers = g_build_filename(store->data_root, "layers", NULL);
    store->directory = g_build_filename(layers, "sha256", NULL);
    store->fixups = g_build_filename(layers, "fixups", NULL);
    g_autofd int top = dir_make_path(layers, 0700, error);
    if (top < 0)
        return false;
    g_autofd int fixups = dir_make(top, "fixups", 0700, error);
    if (fixups < 0 || (!store->is_left_whole && !file_sweep_temporaries(fixups, error)))
        return false;
    store->fd = dir_make(top, "sha256", 0700, error);
    return store->fd >= 0 &&
           (store->is_left_whole ||
            (file_sweep_temporaries(top, error) && file_sweep_temporaries(store->fd, error) && sweep_leftovers(store, error)));
}

bool layer_store_open(const char *data_root, const struct layer_store_options *options, struct layer_store **ret, GError **error)
{
    static const struct layer_store_options defaults = { .mode = LAYER_MOUNT_AUTO };
    options = options ? options : &defaults;
    struct layer_store *store = g_new0(struct layer_store, 1);
    store->fd = -1;
    store->is_left_whole = options->is_left_whole;
    store->data_root = absolute_path(data_root);
    store->ingest_program = g_strdup(options->ingest_program);
    store->label = g_strdup(options->label);
    store->stall_us = (gint64)(options->stall_seconds ? options->stall_seconds : DEFAULT_STALL_SECONDS) * G_USEC_PER_SEC;
    store->max_layer_bytes = options->max_layer_bytes ? options->max_layer_bytes : DEFAULT_MAX_LAYER_BYTES;
    g_mutex_init(&store->publish);
    store->release = release_new();
    if (!open_directories(store, error) || !layer_mounts_open(store, options, error)) {
        layer_store_close(store);
        return false;
    }
    *ret = store;
    return true;
}

void layer_store_close(struct layer_store *store)
{
    if (!store)
        return;
    if (store->cleaner)
        g_thread_join(store->cleaner);
    if (store->sweeper)
        g_thread_join(store->sweeper);
    layer_mounts_close(store);
    release_free(store->release);
    fd_clear(&store->fd);
    g_mutex_clear(&store->publish);
    g_free(store->ingest_program);
    g_free(store->label);
    g_free(store->verdict);
    g_free(store->directory);
    g_free(store->fixups);
    g_free(store->data_root);
    g_free(store);
}

static gpointer remove_unpacked(gpointer data)
{
    g_autofree char *layers = data;
    g_autofd int fd = open(layers, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        dir_remove_tree(fd, "unpacked", NULL); /* what stays is tried again at the next start */
    return NULL;
}

void layer_store_sweep_unpacked(struct layer_store *store)
{
    g_autofree char *layers = g_build_filename(store->data_root, "layers", NULL);
    g_autofree char *unpacked = g_build_filename(layers, "unpacked", NULL);
    if (store->mode == LAYER_MOUNT_UNPACKED || store->sweeper || !g_file_test(unpacked, G_FILE_TEST_IS_DIR))
        return;
    store->sweeper = g_thread_try_new("sweep", remove_unpacked, layers, NULL);
    if (store->sweeper)
        layers = NULL; /* the thread's */
}

enum layer_mount_mode layer_store_mode(const struct layer_store *store)
{
    return store->mode;
}

bool layer_store_was_left_whole(const struct layer_store *store)
{
    return store->is_left_whole;
}

guint64 layer_store_max_bytes(const struct layer_store *store)
{
    return store->max_layer_bytes;
}

const char *layer_store_verdict(const struct layer_store *store)
{
    return store->verdict;
}

/* ---- the rest of a layer's life ---- */

static bool sync_file(struct layer_store *store, const char *diff_id, enum layer_file kind, GError **error)
{
    g_autofd int fd = layer_open_file(store, diff_id, kind, error);
    if (fd < 0)
        return false;
    return fdatasync(fd) == 0 || error_set_errno(error, errno, "sync layer %s", diff_id);
}

bool layer_store_make_durable(struct layer_store *store, const char *diff_id, GError **error)
{
    if (!sync_file(store, diff_id, LAYER_FILE_TAR, error) || !sync_file(store, diff_id, LAYER_FILE_INDEX, error) ||
        !sync_file(store, diff_id, LAYER_FILE_FACTS, error))
        return false;
    return fsync(store->fd) == 0 || error_set_errno(error, errno, "sync %s", store->directory);
}

/* The tar first: what a crash in between leaves is swept at the next start. */
static bool unlink_files(struct layer_store *store, const char *diff_id, GError **error)
{
    static const enum layer_file order[] = { LAYER_FILE_TAR, LAYER_FILE_INDEX, LAYER_FILE_FACTS, LAYER_FILE_DAMAGED };
    for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
        char name[LAYER_NAME_ROOM];
        layer_file_name(diff_id, order[i], name);
        if (release_unlink(store->release, store->fd, name) < 0 && errno != ENOENT)
            return error_set_errno(error, errno, "remove layer %s", diff_id);
    }
    return true;
}

bool layer_store_remove(struct layer_store *store, const char *diff_id, GError **error)
{
    if (!layer_check_diff_id(diff_id, error) || !layer_mounts_forget(store, digest_hex(diff_id), error))
        return false;
    g_mutex_lock(&store->publish); /* an ingest of the same layer sees all of it, or nothing */
    bool ok = unlink_files(store, diff_id, error);
    g_mutex_unlock(&store->publish);
    return ok;
}

void layer_store_wait_for_space(struct layer_store *store)
{
    release_wait(store->release);
}

static char *path_of(const struct layer_store *store, const char *diff_id, enum layer_file kind)
{
    char name[LAYER_NAME_ROOM];
    layer_file_name(diff_id, kind, name);
    return g_build_filename(store->directory, name, NULL);
}

char *layer_store_tar_path(const struct layer_store *store, const char *diff_id)
{
    return path_of(store, diff_id, LAYER_FILE_TAR);
}

char *layer_store_mounted_path(const struct layer_store *store, const char *diff_id)
{
    if (store->mode == LAYER_MOUNT_UNPACKED)
        return g_build_filename(store->data_root, "layers", "unpacked", digest_hex(diff_id), NULL);
    return path_of(store, diff_id, LAYER_FILE_INDEX);
}
