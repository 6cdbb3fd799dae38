#include "layer/mounts.h"

#include "base/fd.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Tries the whole chain once: a layer of one file, an overlay over it whose upper directory is on the data root, the file read
 * and another one written. */
#define PROBE_FILE "probe"
#define PROBE_TEXT "tare"

struct probe {
    struct layer_store *store;
    int top; /* of the probe's own directory, <data root>/layers/.tmp-probe */
    char *directory, *index, *tar, *upper, *work;
};

static bool write_tar(struct probe *probe, char diff_id[DIGEST_ROOM], guint64 *ret_bytes, GError **error)
{
    struct stat st;
    struct fd_sink sink;
    g_autofd int fd = openat(probe->top, "tar", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(error, errno, "create %s", probe->tar);
    fd_sink_init(&sink, fd, "probe");
    struct tar_writer *writer = tar_writer_new(&sink.sink);
    const struct tar_entry entry = {
        .path = (char *)PROBE_FILE, .mode = S_IFREG | 0644, .size = strlen(PROBE_TEXT), .stored_size = strlen(PROBE_TEXT)
    };
    bool ok = tar_writer_entry(writer, &entry, error) && tar_writer_data(writer, PROBE_TEXT, strlen(PROBE_TEXT), error) &&
              tar_writer_finish(writer, error) && digest_of_fd(fd, diff_id, error);
    tar_writer_free(writer);
    if (ok && fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "stat %s", probe->tar);
    *ret_bytes = ok ? (guint64)st.st_size : 0;
    return ok;
}

/* In this process: these bytes are our own. */
static bool write_layer(struct probe *probe, GError **error)
{
    char diff_id[DIGEST_ROOM];
    struct erofs_builder_options options = { .diff_id = diff_id };
    struct erofs_stats stats;
    struct layer_facts *facts = NULL;
    struct fd_sink sink;
    if (!write_tar(probe, diff_id, &options.tar_bytes, error))
        return false;
    g_autofd int tar = openat(probe->top, "tar", O_RDONLY | O_CLOEXEC);
    g_autofd int index = openat(probe->top, "index", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (tar < 0 || index < 0)
        return error_set_errno(error, errno, "create %s", probe->index);
    fd_sink_init(&sink, index, "probe");
    bool ok = erofs_index_tar(tar, &options, &sink.sink, &facts, &stats, error);
    layer_facts_free(facts);
    return ok;
}

static bool prepare(struct probe *probe, GError **error)
{
    g_autofree char *layers = g_build_filename(probe->store->data_root, "layers", NULL);
    g_autofd int parent = open(layers, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return error_set_errno(error, errno, "open %s", layers);
    probe->directory = g_build_filename(layers, FILE_TEMPORARY_PREFIX "probe", NULL);
    probe->index = g_build_filename(probe->directory, "index", NULL);
    probe->tar = g_build_filename(probe->directory, "tar", NULL);
    probe->upper = g_build_filename(probe->directory, "upper", NULL);
    probe->work = g_build_filename(probe->directory, "work", NULL);
    probe->top = dir_make(parent, FILE_TEMPORARY_PREFIX "probe", 0700, error);
    return probe->top >= 0 && write_layer(probe, error);
}

static gpointer remove_probe(gpointer path)
{
    dir_remove_tree(AT_FDCWD, path, NULL);
    g_free(path);
    return NULL;
}

/* Deleting a handful of directories may take longer than all the rest (each waits for the file system's journal): nobody waits
 * for it. */
static void probe_clear(struct probe *probe)
{
    if (probe->directory) {
        GThread *cleaner = g_thread_try_new("probe", remove_probe, probe->directory, NULL);
        if (!cleaner)
            remove_probe(probe->directory);
        probe->store->cleaner = cleaner;
    }
    fd_clear(&probe->top);
    g_free(probe->index);
    g_free(probe->tar);
    g_free(probe->upper);
    g_free(probe->work);
}

/* Both ways through: some kernels mount a layer and fail every read, and overlayfs turns read-only in silence. */
static bool use_overlay(int mount, GError **error)
{
    char text[sizeof PROBE_TEXT] = { 0 };
    g_autofd int read_fd = openat(mount, PROBE_FILE, O_RDONLY | O_CLOEXEC);
    if (read_fd < 0 || fd_read_full(read_fd, text, sizeof text) < 0)
        return error_set_errno(error, errno, "read through the overlay");
    if (strcmp(text, PROBE_TEXT) != 0)
        return error_set(error, TARE_ERROR_INTERNAL, "the overlay shows wrong bytes");
    g_autofd int write_fd = openat(mount, "written", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return write_fd >= 0 || error_set_errno(error, errno, "write through the overlay");
}

static bool mount_overlay(struct probe *probe, struct mount_backend *backend, const struct layer_mount *layer, GError **error)
{
    if (!dir_remove_tree(probe->top, "upper", error) || !dir_remove_tree(probe->top, "work", error))
        return false;
    if (mkdirat(probe->top, "upper", 0755) < 0 || mkdirat(probe->top, "work", 0755) < 0)
        return error_set_errno(error, errno, "mkdir %s", probe->upper);
    const char *const paths[] = { layer->path, NULL };
    struct overlay_options options = { .upper = probe->upper, .work = probe->work, .is_volatile = true };
    if (backend->operations->has_paths) {
        options.lower_paths = paths;
    } else {
        options.lower_fds = &layer->fd;
        options.n_lower_fds = 1;
    }
    g_autofd int mount = mount_backend_overlay(backend, &options, error);
    return mount >= 0 && use_overlay(mount, error);
}

static struct mount_backend *try_mode(struct probe *probe, const struct mount_operations *operations, GError **error)
{
    char *devices[] = { probe->tar, NULL };
    const struct mount_source source = { .key = FILE_TEMPORARY_PREFIX "probe", .index = probe->index, .devices = devices };
    struct layer_mount layer = { .key = (char *)source.key, .fd = -1 };
    struct mount_backend *backend = NULL;
    if (!mount_backend_open(probe->store, operations, &backend, error))
        return NULL;
    bool ok = operations->mount(backend, &source, &layer, error);
    if (ok) {
        ok = mount_overlay(probe, backend, &layer, error);
        operations->unmount(backend, &layer);
    }
    if (operations->discard)
        operations->discard(backend, source.key, NULL);
    if (ok)
        return backend;
    mount_backend_close(backend);
    return NULL;
}

static struct mount_backend *open_untried(struct layer_store *store, enum layer_mount_mode mode, const char *why,
                                          char **ret_verdict)
{
    struct mount_backend *backend = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(mount_all_operations); i++)
        if (mount_all_operations[i]->mode == mode && mount_backend_open(store, mount_all_operations[i], &backend, NULL))
            *ret_verdict = g_strdup_printf("layers are %s, as before: %s", mount_all_operations[i]->name, why);
    return backend;
}

struct mount_backend *layer_probe(struct layer_store *store, const struct layer_store_options *options, char **ret_verdict,
                                  GError **error)
{
    enum layer_mount_mode mode = options->mode;
    g_autoptr(GError) unprepared = NULL;
    struct probe probe = { .store = store, .top = -1 };
    struct mount_backend *backend = NULL;
    if (mode == LAYER_MOUNT_AUTO && options->is_left_whole)
        backend = open_untried(store, options->known_mode, "the machine is still up", ret_verdict);
    if (backend)
        return backend;
    g_autoptr(GString) failures = g_string_new(NULL);
    bool ok = prepare(&probe, &unprepared);
    /* A disk without a free block has no room to try anything, and must not keep the engine from starting: what is on it could
     * never be removed then. */
    if (!ok && error_is(unprepared, TARE_ERROR_NO_SPACE))
        backend = open_untried(store, mode == LAYER_MOUNT_AUTO ? options->known_mode : mode, "no space to try it", ret_verdict);
    if (!ok && !backend)
        g_propagate_error(error, g_steal_pointer(&unprepared));
    for (size_t i = 0; ok && !backend && i < G_N_ELEMENTS(mount_all_operations); i++) {
        const struct mount_operations *operations = mount_all_operations[i];
        g_autoptr(GError) failure = NULL;
        if (mode != LAYER_MOUNT_AUTO && mode != operations->mode)
            continue;
        backend = try_mode(&probe, operations, &failure);
        if (backend)
            *ret_verdict = g_strdup_printf("layers are %s%s%s", operations->name, failures->len ? "; " : "", failures->str);
        else
            g_string_append_printf(failures, "%snot %s: %s", failures->len ? "; " : "", operations->name, failure->message);
    }
    probe_clear(&probe);
    if (ok && !backend)
        error_set(error, TARE_ERROR_INTERNAL, "layers cannot be mounted: %s", failures->str);
    return backend;
}
