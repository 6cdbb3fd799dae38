#include "layer/mounts.h"

#include "base/fd.h"
#include "base/file.h"
#include "layer/erofs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

void mount_source_clear(struct mount_source *source)
{
    g_clear_pointer(&source->index, g_free);
    g_clear_pointer(&source->devices, g_strfreev);
}

/* ---- mounting ---- */

/* Overlayfs opens a layer's files as the one that has mounted it, but what a program maps from them the kernel checks against the
 * program's own rights: so layers carry the context that all containers may read. */
int mount_erofs(const char *index, const char *const *devices, const char *label, GError **error)
{
    g_autofd int fs = (int)syscall(SYS_fsopen, "erofs", FSOPEN_CLOEXEC);
    if (fs < 0) {
        error_set_errno(error, errno, "open erofs file system");
        return -1;
    }
    bool ok = syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", index, 0) == 0;
    for (; ok && *devices; devices++)
        ok = syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "device", *devices, 0) == 0;
    ok = ok && (!label || syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "context", label, 0) == 0);
    ok = ok && syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) == 0;
    ok = ok && syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0;
    if (!ok) {
        mount_fail_with_log(fs, "mount layer", error);
        return -1;
    }
    int mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY);
    if (mount < 0)
        error_set_errno(error, errno, "mount layer");
    return mount;
}

/* ---- detached ---- */

static bool detached_mount(struct mount_backend *backend, const struct mount_source *source, struct layer_mount *mount,
                           GError **error)
{
    mount->fd = mount_erofs(source->index, (const char *const *)source->devices, backend->store->label, error);
    return mount->fd >= 0;
}

static void detached_unmount(struct mount_backend *backend, struct layer_mount *mount)
{
    fd_clear(&mount->fd);
}

static bool detached_empty(struct mount_backend *backend, struct layer_mount *mount, GError **error)
{
    mount->fd = mount_empty(error);
    return mount->fd >= 0;
}

static const struct mount_operations detached = {
    .mode = LAYER_MOUNT_DETACHED,
    .name = "detached",
    .mount = detached_mount,
    .unmount = detached_unmount,
    .empty = detached_empty,
};

/* ---- attached in a private namespace, over files or loop devices ---- */

static bool attached_open(struct mount_backend *backend, GError **error)
{
    backend->directory = g_build_filename(backend->store->data_root, "layers", "m", NULL);
    g_autofd int fd = dir_make_path(backend->directory, 0700, error);
    if (fd < 0)
        return false;
    backend->namespace = mount_namespace_new(backend->directory, error);
    return backend->namespace >= 0;
}

struct attach_job {
    struct mount_backend *backend;
    const struct mount_source *source; /* NULL: an empty directory */
    struct layer_mount *mount;
    bool over_loop;
};

/* Loop devices detach themselves with the mount that uses them; the fd keeps one until then. */
static int loop_device_new(const char *path, char **ret_device, GError **error)
{
    g_autofd int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    g_autofd int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (file < 0 || control < 0) {
        error_set_errno(error, errno, "open %s", file < 0 ? path : "/dev/loop-control");
        return -1;
    }
    struct loop_config config = { .fd = (guint32)file, .info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR };
    for (int attempt = 0; attempt < 64; attempt++) { /* another program may take the device in between */
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            break;
        g_autofree char *device = g_strdup_printf("/dev/loop%d", number);
        g_autofd int fd = open(device, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
            *ret_device = g_steal_pointer(&device);
            return fd_steal(&fd);
        }
        if (fd >= 0 && errno != EBUSY)
            break;
    }
    error_set_errno(error, errno, "set up a loop device");
    return -1;
}

static void close_fd(gpointer fd)
{
    fd_close(GPOINTER_TO_INT(fd));
}

static int mount_erofs_over_loop(const struct mount_source *source, const char *label, GError **error)
{
    g_autoptr(GPtrArray) fds = g_ptr_array_new_with_free_func(close_fd);
    g_autoptr(GPtrArray) devices = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *index = NULL;
    int fd = loop_device_new(source->index, &index, error);
    if (fd < 0)
        return -1;
    g_ptr_array_add(fds, GINT_TO_POINTER(fd));
    for (char **device = source->devices; *device; device++) {
        char *loop = NULL;
        fd = loop_device_new(*device, &loop, error);
        if (fd < 0)
            return -1;
        g_ptr_array_add(fds, GINT_TO_POINTER(fd));
        g_ptr_array_add(devices, loop);
    }
    g_ptr_array_add(devices, NULL);
    return mount_erofs(index, (const char *const *)devices->pdata, label, error);
}

static bool attach(void *user, GError **error)
{
    struct attach_job *job = user;
    g_autofree char *path = g_build_filename(job->backend->directory, job->mount->key, NULL);
    g_autofd int fd = -1;
    if (!job->source)
        fd = mount_empty(error);
    else if (job->over_loop)
        fd = mount_erofs_over_loop(job->source, job->backend->store->label, error);
    else
        fd = mount_erofs(job->source->index, (const char *const *)job->source->devices, job->backend->store->label, error);
    if (fd < 0)
        return false;
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return error_set_errno(error, errno, "mkdir %s", path);
    if (syscall(SYS_move_mount, fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
        error_set_errno(error, errno, "attach layer at %s", path);
        rmdir(path);
        return false;
    }
    job->mount->path = g_steal_pointer(&path);
    job->mount->fd = fd_steal(&fd);
    return true;
}

static bool detach(void *user, GError **error)
{
    struct layer_mount *mount = user;
    if (umount2(mount->path, MNT_DETACH) == 0)
        rmdir(mount->path);
    return true;
}

static bool attached_mount(struct mount_backend *backend, const struct mount_source *source, struct layer_mount *mount,
                           GError **error)
{
    struct attach_job job = { backend, source, mount, false };
    return mount_namespace_run(backend->namespace, attach, &job, error);
}

static bool loop_mount(struct mount_backend *backend, const struct mount_source *source, struct layer_mount *mount,
                       GError **error)
{
    struct attach_job job = { backend, source, mount, true };
    return mount_namespace_run(backend->namespace, attach, &job, error);
}

static bool attached_empty(struct mount_backend *backend, struct layer_mount *mount, GError **error)
{
    struct attach_job job = { backend, NULL, mount, false };
    return mount_namespace_run(backend->namespace, attach, &job, error);
}

static void attached_unmount(struct mount_backend *backend, struct layer_mount *mount)
{
    fd_clear(&mount->fd);
    if (mount->path)
        mount_namespace_run(backend->namespace, detach, mount, NULL);
    g_clear_pointer(&mount->path, g_free);
}

static const struct mount_operations attached = {
    .mode = LAYER_MOUNT_ATTACHED,
    .name = "attached",
    .has_paths = true,
    .open = attached_open,
    .mount = attached_mount,
    .unmount = attached_unmount,
    .empty = attached_empty,
};

static const struct mount_operations loop = {
    .mode = LAYER_MOUNT_LOOP,
    .name = "loop",
    .has_paths = true,
    .open = attached_open,
    .mount = loop_mount,
    .unmount = attached_unmount,
    .empty = attached_empty,
};

/* ---- unpacked ---- */

static bool replay_with_tars(const struct mount_source *source, int index, GArray *tars, int directory, GError **error)
{
    for (char **device = source->devices; *device; device++) {
        int tar = open(*device, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (tar < 0)
            return error_set_errno(error, errno, "open %s", *device);
        g_array_append_val(tars, tar);
    }
    g_autoptr(erofs_reader) reader = NULL;
    return erofs_reader_open(index, &reader, error) && erofs_replay(reader, (const int *)(void *)tars->data, directory, error);
}

static bool replay(const struct mount_source *source, int directory, GError **error)
{
    g_autofd int index = open(source->index, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (index < 0)
        return error_set_errno(error, errno, "open %s", source->index);
    g_autoptr(GArray) tars = g_array_new(FALSE, FALSE, sizeof(int));
    bool ok = replay_with_tars(source, index, tars, directory, error);
    for (guint i = 0; i < tars->len; i++)
        fd_close(g_array_index(tars, int, i));
    return ok;
}

/* Layers that were removed while another backend was in use. */
static void sweep_removed(struct mount_backend *backend, int directory)
{
    GDir *names = g_dir_open(backend->directory, 0, NULL);
    for (const char *name; names && (name = g_dir_read_name(names));) {
        g_autofree char *diff_id = g_strconcat(DIGEST_PREFIX, name, NULL);
        char tar[LAYER_NAME_ROOM];
        if (!digest_is_valid(diff_id))
            continue;
        layer_file_name(diff_id, LAYER_FILE_TAR, tar);
        if (faccessat(backend->store->fd, tar, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
            dir_remove_tree(directory, name, NULL);
    }
    if (names)
        g_dir_close(names);
}

static bool unpacked_open(struct mount_backend *backend, GError **error)
{
    backend->directory = g_build_filename(backend->store->data_root, "layers", "unpacked", NULL);
    g_autofd int fd = dir_make_path(backend->directory, 0700, error);
    if (fd < 0 || !file_sweep_temporaries(fd, error))
        return false;
    sweep_removed(backend, fd);
    dir_spread(fd);
    return true;
}

/* What this thread makes from now on has this context; NULL: what the policy says. */
static bool set_creation_label(const char *label, GError **error)
{
    g_autofd int fd = open("/proc/thread-self/attr/fscreate", O_WRONLY | O_CLOEXEC);
    size_t n = label ? strlen(label) : 0;
    return (fd >= 0 && write(fd, label, n) == (ssize_t)n) || error_set_errno(error, errno, "SELinux context of a layer");
}

/* Replays the index into a directory that gets its name when it is whole. */
static bool unpack(const struct mount_source *source, int parent, GError **error)
{
    g_autofree char *temporary = g_strdup_printf(FILE_TEMPORARY_PREFIX "%s", source->key);
    if (!dir_remove_tree(parent, temporary, error))
        return false;
    g_autofd int directory = dir_make(parent, temporary, 0755, error);
    if (directory < 0)
        return false;
    if (replay(source, directory, error) && renameat(parent, temporary, parent, source->key) == 0)
        return true;
    if (error && !*error)
        error_set_errno(error, errno, "rename unpacked layer");
    dir_remove_tree(parent, temporary, NULL);
    return false;
}

static bool unpacked_mount(struct mount_backend *backend, const struct mount_source *source, struct layer_mount *mount,
                           GError **error)
{
    g_autofd int parent = open(backend->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return error_set_errno(error, errno, "open %s", backend->directory);
    if (faccessat(parent, source->key, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
        const char *label = backend->store->label;
        if (label && !set_creation_label(label, error))
            return false;
        bool ok = unpack(source, parent, error);
        if (label && !set_creation_label(NULL, ok ? error : NULL))
            return false;
        if (!ok)
            return false;
    }
    mount->fd = openat(parent, source->key, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (mount->fd < 0)
        return error_set_errno(error, errno, "open unpacked layer %s", source->key);
    mount->path = g_build_filename(backend->directory, source->key, NULL);
    return true;
}

static bool unpacked_empty(struct mount_backend *backend, struct layer_mount *mount, GError **error)
{
    g_autofd int parent = open(backend->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return error_set_errno(error, errno, "open %s", backend->directory);
    mount->fd = dir_make(parent, mount->key, 0755, error);
    mount->path = g_build_filename(backend->directory, mount->key, NULL);
    return mount->fd >= 0;
}

static void unpacked_unmount(struct mount_backend *backend, struct layer_mount *mount)
{
    fd_clear(&mount->fd);
    g_clear_pointer(&mount->path, g_free);
}

static bool unpacked_discard(struct mount_backend *backend, const char *key, GError **error)
{
    g_autofd int parent = open(backend->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return parent < 0 || dir_remove_tree(parent, key, error);
}

static const struct mount_operations unpacked = {
    .mode = LAYER_MOUNT_UNPACKED,
    .name = "unpacked",
    .has_paths = true,
    .open = unpacked_open,
    .mount = unpacked_mount,
    .unmount = unpacked_unmount,
    .discard = unpacked_discard,
    .empty = unpacked_empty,
};

/* ---- backends ---- */

const struct mount_operations *const mount_all_operations[4] = { &detached, &attached, &loop, &unpacked };

bool mount_backend_open(struct layer_store *store, const struct mount_operations *operations, struct mount_backend **ret,
                        GError **error)
{
    struct mount_backend *backend = g_new0(struct mount_backend, 1);
    backend->operations = operations;
    backend->store = store;
    backend->namespace = -1;
    if (operations->open && !operations->open(backend, error)) {
        mount_backend_close(backend);
        return false;
    }
    *ret = backend;
    return true;
}

void mount_backend_close(struct mount_backend *backend)
{
    if (!backend)
        return;
    fd_close(backend->namespace);
    g_free(backend->directory);
    g_free(backend);
}

struct overlay_job {
    const struct overlay_options *options;
    int mount;
};

static bool overlay_inside(void *user, GError **error)
{
    struct overlay_job *job = user;
    job->mount = overlay_mount(job->options, error);
    return job->mount >= 0;
}

int mount_backend_overlay(struct mount_backend *backend, const struct overlay_options *options, GError **error)
{
    struct overlay_job job = { options, -1 };
    if (backend->namespace < 0)
        return overlay_mount(options, error);
    return mount_namespace_run(backend->namespace, overlay_inside, &job, error) ? job.mount : -1;
}
