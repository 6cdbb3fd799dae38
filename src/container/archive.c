/* docker cp: archives through an fd inside the container's root, never by a path of the host. */
#include "container/container-internal.h"

#include "base/root_path.h"
#include "layer/tar.h"
#include "runtime/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40

/* Where a path is: in the container's root, or (of one that does not run) in a volume that would be mounted there. */
struct place {
    const char *name; /* the container's, as the request has it */
    struct container *container;
    struct container_root root;
    int base;     /* fd of the root, or of the volume */
    char *path;   /* absolute in the container, clean */
    char *inside; /* the same, relative to base */
    bool in_volume, volume_read_only;
};

static void place_clear(struct place *place)
{
    if (place->in_volume)
        fd_close(place->base);
    container_root_close(&place->root);
    g_clear_pointer(&place->path, g_free);
    g_clear_pointer(&place->inside, g_free);
    g_clear_pointer(&place->container, container_unref);
}

/* The mount point that holds the path, the deepest one. */
static json_t *covering_mount(const json_t *mounts, const char *path)
{
    json_t *mount, *best = NULL;
    size_t i, best_length = 0;
    json_array_foreach((json_t *)mounts, i, mount)
    {
        const char *destination = json_get_string(mount, "Destination", "");
        size_t length = strlen(destination);
        if (!strncmp(path, destination, length) && (!path[length] || path[length] == '/') && length > best_length &&
            *json_get_string(mount, "Source", "")) {
            best = mount;
            best_length = length;
        }
    }
    return best;
}

static bool enter_volume(struct place *place, const json_t *mount, GError **error)
{
    const char *source = json_get_string(mount, "Source", ""), *destination = json_get_string(mount, "Destination", "");
    struct stat st;
    g_autofd int fd = open(source, O_PATH | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "open %s", source);
    if (!S_ISDIR(st.st_mode)) { /* a single file that is bound: reached through its directory */
        g_autofree char *directory = g_path_get_dirname(source);
        g_autofree char *name = g_path_get_basename(source);
        fd_close(fd_steal(&fd));
        fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            return error_set_errno(error, errno, "open %s", directory);
        place->inside = g_strconcat("/", name, NULL);
    } else {
        place->inside = g_strconcat("/", place->path + strlen(destination) + (place->path[strlen(destination)] == '/'), NULL);
    }
    place->base = fd_steal(&fd);
    place->in_volume = true;
    place->volume_read_only = !json_get_bool(mount, "RW", true);
    return true;
}

static bool place_open(struct container_manager *manager, const char *name, const char *path, struct place *ret, GError **error)
{
    struct place place = { .name = name, .base = -1, .root.fd = -1 };
    place.container = container_find(manager, name, error);
    if (!place.container)
        return false;
    place.path = mounts_clean_path(path);
    struct container_state state = container_get_state(place.container);
    bool running = state.status == CONTAINER_RUNNING || state.status == CONTAINER_PAUSED;
    json_t *mount = covering_mount(place.container->mounts, place.path);
    bool ok;
    if (mount && !running) {
        ok = enter_volume(&place, mount, error);
    } else {
        place.volume_read_only = mount && !json_get_bool(mount, "RW", true);
        ok = container_root_open(place.container, true, &place.root, error);
        place.base = place.root.fd;
        place.inside = g_strdup(place.path);
    }
    if (!ok) {
        place_clear(&place);
        return false;
    }
    *ret = place;
    return true;
}

static bool not_found(const struct place *place, const char *path, GError **error)
{
    if (errno == ENOENT || errno == ENOTDIR)
        return error_set(error, TARE_ERROR_NOT_FOUND, "Could not find the file %s in container %s", path, place->name);
    return error_set_errno(error, errno, "open %s in container %s", path, place->name);
}

/* ---- stat ---- */

/* Go's os.FileMode. */
static gint64 go_mode(mode_t mode)
{
    static const struct {
        mode_t type;
        gint64 bits;
    } types[] = { { S_IFDIR, 1ll << 31 },         { S_IFLNK, 1 << 27 }, { S_IFBLK, 1 << 26 },
                  { S_IFCHR, 1 << 26 | 1 << 21 }, { S_IFIFO, 1 << 25 }, { S_IFSOCK, 1 << 24 } };
    gint64 result = mode & 0777;
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++)
        if ((mode & S_IFMT) == types[i].type)
            result |= types[i].bits;
    if (mode & S_ISUID)
        result |= 1 << 23;
    if (mode & S_ISGID)
        result |= 1 << 22;
    if (mode & S_ISVTX)
        result |= 1 << 20;
    return result;
}

/* What a link finally names, as a path in the container; "" where it leads nowhere. */
static char *final_target(const struct place *place, const char *path)
{
    g_autofree char *current = g_strdup(path);
    for (int i = 0; i < LINKS_MAX; i++) {
        char text[4096];
        struct stat st;
        g_autofd int fd = root_open(place->base, current, O_PATH | O_NOFOLLOW, 0);
        if (fd < 0 || fstat(fd, &st) < 0)
            return g_steal_pointer(&current);
        if (!S_ISLNK(st.st_mode))
            return g_steal_pointer(&current);
        ssize_t length = readlinkat(fd, "", text, sizeof(text) - 1);
        if (length < 0)
            return g_steal_pointer(&current);
        text[length] = '\0';
        g_autofree char *directory = g_path_get_dirname(current);
        g_autofree char *joined = *text == '/' ? g_strdup(text) : g_build_filename(directory, text, NULL);
        g_free(current);
        current = mounts_clean_path(joined);
    }
    return g_strdup("");
}

static json_t *stat_object(const struct place *place, const struct stat *st)
{
    char mtime[TIMESTAMP_ROOM];
    g_autofree char *base = g_path_get_basename(place->path);
    g_autofree char *target = S_ISLNK(st->st_mode) ? final_target(place, place->inside) : g_strdup("");
    timestamp_format((gint64)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec, mtime);
    return json_pack("{s:o, s:I, s:I, s:s, s:o}", "name", json_string_lossy(base), "size", (json_int_t)st->st_size, "mode",
                     (json_int_t)go_mode(st->st_mode), "mtime", mtime, "linkTarget", json_string_lossy(target));
}

/* The path itself: a link is not followed, unless a trailing "/" or "/." asks for what it names. */
static bool place_stat(const struct place *place, const char *given, struct stat *ret, GError **error)
{
    bool follow = g_str_has_suffix(given, "/") || g_str_has_suffix(given, "/.");
    g_autofd int fd = root_open(place->base, place->inside, O_PATH | (follow ? O_DIRECTORY : O_NOFOLLOW), 0);
    if (fd < 0 || fstat(fd, ret) < 0)
        return not_found(place, given, error);
    return true;
}

bool container_archive_stat(struct container_manager *manager, const char *name, const char *path, json_t **ret, GError **error)
{
    struct place place;
    struct stat st;
    if (!place_open(manager, name, path, &place, error))
        return false;
    bool ok = place_stat(&place, path, &st, error);
    if (ok)
        *ret = stat_object(&place, &st);
    place_clear(&place);
    return ok;
}

/* ---- get ---- */

/* How the entries are called: the last component as it was asked for, "." for "dir/.", "/" for the root. */
static char *entry_name(const struct place *place, const char *given)
{
    if (!strcmp(place->path, "/"))
        return g_strdup("/");
    if (g_str_has_suffix(given, "/."))
        return g_strdup(".");
    return g_path_get_basename(place->path);
}

static bool write_place(const struct place *place, const char *given, struct tar_writer *writer, GError **error)
{
    const char *last;
    g_autofree char *prefix = entry_name(place, given);
    bool follow = g_str_has_suffix(given, "/") || g_str_has_suffix(given, "/.");
    if (follow || !strcmp(place->inside, "/")) {
        g_autofd int directory = root_open(place->base, place->inside, O_RDONLY | O_DIRECTORY, 0);
        return directory >= 0 ? tree_write_tar(directory, ".", prefix, writer, NULL, error) : not_found(place, given, error);
    }
    g_autofd int parent = root_open_parent(place->base, place->inside, &last);
    if (parent < 0)
        return not_found(place, given, error);
    return tree_write_tar(parent, last, prefix, writer, NULL, error);
}

bool container_archive_get(struct container_manager *manager, const char *name, const char *path, struct byte_sink *sink,
                           GError **error)
{
    struct place place;
    struct stat st;
    if (!place_open(manager, name, path, &place, error))
        return false;
    struct tar_writer *writer = tar_writer_new(sink);
    bool ok =
        place_stat(&place, path, &st, error) && write_place(&place, path, writer, error) && tar_writer_finish(writer, error);
    tar_writer_free(writer);
    if (ok)
        container_emit(place.container, "archive-path", NULL);
    place_clear(&place);
    return ok;
}

/* ---- put ---- */

/* The archive becomes a layer for the moment (parsed by a worker without privilege, its index checked), and its mounted tree is
 * copied. Names are only names: nothing in it is a whiteout. */
static bool extract(struct container_manager *manager, struct byte_source *source, int target,
                    const struct tree_copy_options *options, GError **error)
{
    struct layer_info info;
    struct layer_stack *stack;
    struct image_layer_claim claim;
    char random[IDENTIFIER_LENGTH + 1];
    identifier_new(random);
    g_autofree char *holder = g_strconcat("archive/", random, NULL);
    image_layer_claim_init(&claim, manager->images, holder);
    const struct layer_ingest_options ingest = { .name = "archive", .claim = &claim.claim, .is_tree = true };
    if (!layer_store_ingest(manager->layers, source, &ingest, &info, error))
        return false;
    const char *const diff_ids[] = { info.diff_id, NULL };
    bool ok = layer_stack_acquire(manager->layers, diff_ids, &stack, error);
    if (ok) {
        g_autofd int tree = layer_stack_mount(stack, error);
        ok = tree >= 0 && tree_copy(tree, target, options, error);
        fd_clear(&tree);
        layer_stack_release(stack);
    }
    image_store_release_layers(manager->images, holder, NULL);
    return ok;
}

static bool check_writable(const struct place *place, GError **error)
{
    g_autoptr(json_t) host_config = container_get_host_config(place->container);
    if (place->volume_read_only)
        return error_set(error, TARE_ERROR_INVALID, "mounted volume is marked read-only");
    if (!covering_mount(place->container->mounts, place->path) && json_get_bool(host_config, "ReadonlyRootfs", false))
        return error_set(error, TARE_ERROR_INVALID, "container rootfs is marked read-only");
    return true;
}

static bool choose_owner(const struct place *place, bool copy_uid_gid, struct tree_copy_options *options, GError **error)
{
    const char *user = json_get_string(place->container->config, "User", "");
    struct runtime_user found;
    if (!copy_uid_gid || !*user || place->in_volume)
        return true;
    if (!runtime_resolve_user(place->base, user, NULL, &found, error))
        return false;
    options->set_owner = true;
    options->uid = found.uid;
    options->gid = found.gid;
    runtime_user_clear(&found);
    return true;
}

bool container_archive_put(struct container_manager *manager, const char *name, const char *path, struct byte_source *source,
                           bool no_overwrite_dir_non_dir, bool copy_uid_gid, GError **error)
{
    struct place place;
    struct stat st;
    struct tree_copy_options options = { .no_overwrite_dir_non_dir = no_overwrite_dir_non_dir, .keep_target = true };
    if (!place_open(manager, name, path, &place, error))
        return false;
    g_autofd int target = root_open(place.base, place.inside, O_PATH, 0);
    bool ok = (target >= 0 && fstat(target, &st) == 0) || not_found(&place, path, error);
    if (ok && !S_ISDIR(st.st_mode))
        ok = error_set(error, TARE_ERROR_INVALID, "extraction point is not a directory");
    ok = ok && check_writable(&place, error) && choose_owner(&place, copy_uid_gid, &options, error) &&
         extract(manager, source, target, &options, error);
    if (ok)
        container_emit(place.container, "extract-to-dir", NULL);
    place_clear(&place);
    return ok;
}
