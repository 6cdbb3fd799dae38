/* A container's mount points: from Binds, Mounts, VolumesFrom and the config's Volumes. Each is an object as inspect shows it,
 * plus members of our own that begin with "_" and are left out there. */
#include "container/container-internal.h"

#include "base/root_path.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOUNTS_MAX 1024 /* each is looked for among the others */

#define INVALID(...) error_set(error, TARE_ERROR_INVALID, __VA_ARGS__)

/* path/filepath's Clean for absolute paths: no "//", ".", ".." or trailing "/". */
char *mounts_clean_path(const char *path)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    g_autoptr(GPtrArray) kept = g_ptr_array_new();
    for (char **part = parts; *part; part++) {
        if (!**part || !strcmp(*part, "."))
            continue;
        if (!strcmp(*part, "..")) {
            if (kept->len)
                g_ptr_array_remove_index(kept, kept->len - 1);
            continue;
        }
        g_ptr_array_add(kept, *part);
    }
    g_ptr_array_add(kept, NULL);
    g_autofree char *joined = g_strjoinv("/", (char **)kept->pdata);
    return g_strconcat("/", joined, NULL);
}

static json_t *find_destination(const json_t *mounts, const char *destination, size_t *ret_index)
{
    size_t i;
    json_t *mount;
    json_array_foreach((json_t *)mounts, i, mount) if (!strcmp(json_get_string(mount, "Destination", ""), destination))
    {
        if (ret_index)
            *ret_index = i;
        return mount;
    }
    return NULL;
}

static bool check_target(const char *target, GError **error)
{
    if (!*target)
        return INVALID("field Target must not be empty");
    if (*target != '/')
        return INVALID("invalid mount path: '%s' mount path must be absolute", target);
    g_autofree char *clean = mounts_clean_path(target);
    if (!strcmp(clean, "/"))
        return INVALID("invalid specification: destination can't be '/'");
    return true;
}

static json_t *volume_mount(const char *name, const char *destination, const char *mode, bool writable)
{
    json_t *mount = json_pack("{s:s}", "Type", "volume");
    if (name)
        json_object_set_new(mount, "Name", json_string(name));
    json_object_set_new(mount, "Source", json_string(""));
    json_object_set_new(mount, "Destination", json_string(destination));
    json_object_set_new(mount, "Driver", json_string("local"));
    json_object_set_new(mount, "Mode", json_string(mode));
    json_object_set_new(mount, "RW", json_boolean(writable));
    json_object_set_new(mount, "Propagation", json_string(""));
    return mount;
}

static json_t *bind_mount(const char *source, const char *destination, const char *mode, bool writable, const char *propagation)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:s}", "Type", "bind", "Source", source, "Destination", destination, "Mode", mode,
                     "RW", writable, "Propagation", *propagation ? propagation : "rprivate");
}

/* ---- -v ---- */

struct bind_mode {
    bool read_only, no_copy;
    const char *propagation;
};

/* A mode says at most one thing of each kind. */
enum mode_kind {
    MODE_ACCESS,
    MODE_LABEL,
    MODE_CONSISTENCY,
    MODE_PROPAGATION,
    MODE_COPY,
};

static bool parse_mode(const char *text, struct bind_mode *ret, GError **error)
{
    static const struct {
        const char *word;
        enum mode_kind kind;
    } words[] = { { "ro", MODE_ACCESS },
                  { "rw", MODE_ACCESS },
                  { "z", MODE_LABEL },
                  { "Z", MODE_LABEL },
                  { "consistent", MODE_CONSISTENCY },
                  { "cached", MODE_CONSISTENCY },
                  { "delegated", MODE_CONSISTENCY },
                  { "shared", MODE_PROPAGATION },
                  { "rshared", MODE_PROPAGATION },
                  { "slave", MODE_PROPAGATION },
                  { "rslave", MODE_PROPAGATION },
                  { "private", MODE_PROPAGATION },
                  { "rprivate", MODE_PROPAGATION },
                  { "nocopy", MODE_COPY } };
    g_auto(GStrv) parts = g_strsplit(text, ",", 16);
    guint said = 0;
    *ret = (struct bind_mode){ .propagation = "" };
    for (char **part = parts; *part; part++) {
        size_t i = 0;
        while (i < G_N_ELEMENTS(words) && strcmp(words[i].word, *part) != 0)
            i++;
        if (i == G_N_ELEMENTS(words) || said & 1u << words[i].kind)
            return INVALID("invalid mode: %s", text);
        said |= 1u << words[i].kind;
        ret->read_only |= !strcmp(*part, "ro");
        ret->no_copy |= words[i].kind == MODE_COPY;
        if (words[i].kind == MODE_PROPAGATION)
            ret->propagation = words[i].word;
    }
    return true;
}

static bool parse_bind(const char *text, json_t **ret, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 5);
    guint n = g_strv_length(parts);
    struct bind_mode mode = { .propagation = "" };
    if (n < 1 || n > 3 || !*parts[0] || (n > 1 && !*parts[1]))
        return INVALID("invalid volume specification: '%s'", text);
    if (n == 3 && !parse_mode(parts[2], &mode, error))
        return false;
    const char *target = n == 1 ? parts[0] : parts[1], *source = n == 1 ? NULL : parts[0];
    bool is_bind = source && *source == '/';
    if (!check_target(target, error)) {
        g_prefix_error(error, "invalid volume specification: '%s': invalid mount config for type \"%s\": ", text,
                       is_bind ? "bind" : "volume");
        return false;
    }
    g_autofree char *destination = mounts_clean_path(target);
    if (is_bind) {
        g_autofree char *clean = mounts_clean_path(source);
        *ret = bind_mount(clean, destination, n == 3 ? parts[2] : "", !mode.read_only, mode.propagation);
        json_object_set_new(*ret, "_CreateSource", json_true());
    } else {
        *ret = volume_mount(source, destination, n == 3 ? parts[2] : source ? "z" : "", !mode.read_only);
        if (mode.no_copy)
            json_object_set_new(*ret, "_NoCopy", json_true());
    }
    return true;
}

/* ---- --mount ---- */

static bool parse_bind_mount(const json_t *mount, const char *destination, json_t **ret, GError **error)
{
    const char *source = json_get_string(mount, "Source", "");
    const json_t *options = json_get_object(mount, "BindOptions");
    const char *propagation = json_get_string(options, "Propagation", "");
    struct bind_mode checked;
    struct stat st;
    if (!*source)
        return INVALID("field Source must not be empty");
    if (*source != '/')
        return INVALID("invalid mount path: '%s' mount path must be absolute", source);
    if (*propagation && (!parse_mode(propagation, &checked, NULL) || !*checked.propagation))
        return INVALID("invalid propagation mode: %s", propagation);
    bool make_source = json_get_bool(options, "CreateMountpoint", false);
    if (!make_source && stat(source, &st) < 0)
        return INVALID("bind source path does not exist: %s", source);
    g_autofree char *clean = mounts_clean_path(source);
    *ret = bind_mount(clean, destination, "", !json_get_bool(mount, "ReadOnly", false), propagation);
    if (make_source)
        json_object_set_new(*ret, "_CreateSource", json_true());
    if (json_get_bool(options, "NonRecursive", false))
        json_object_set_new(*ret, "_NonRecursive", json_true());
    return true;
}

static bool parse_volume_mount(const json_t *mount, const char *destination, json_t **ret, GError **error)
{
    const char *source = json_get_string(mount, "Source", "");
    const json_t *options = json_get_object(mount, "VolumeOptions"), *driver = json_get_object(options, "DriverConfig");
    if (*json_get_string(options, "Subpath", ""))
        return error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "volume subpaths are not supported by this engine");
    *ret = volume_mount(*source ? source : NULL, destination, "z", !json_get_bool(mount, "ReadOnly", false));
    if (json_get_bool(options, "NoCopy", false))
        json_object_set_new(*ret, "_NoCopy", json_true());
    if (json_get_object(options, "Labels"))
        json_object_set(*ret, "_Labels", json_get_object(options, "Labels"));
    if (driver) {
        json_object_set_new(*ret, "_Driver", json_string(json_get_string(driver, "Name", "")));
        if (json_get_object(driver, "Options"))
            json_object_set(*ret, "_DriverOptions", json_get_object(driver, "Options"));
    }
    return true;
}

static bool parse_tmpfs_mount(const json_t *mount, const char *destination, json_t **ret, GError **error)
{
    const json_t *options = json_get_object(mount, "TmpfsOptions");
    g_autoptr(GString) data = g_string_new("");
    if (*json_get_string(mount, "Source", ""))
        return INVALID("field Source must not be specified");
    gint64 size = json_get_int(options, "SizeBytes", 0), mode = json_get_int(options, "Mode", 0);
    if (size < 0 || mode < 0 || mode > 07777)
        return INVALID("invalid tmpfs options");
    if (json_get_bool(mount, "ReadOnly", false))
        g_string_append(data, ",ro");
    if (mode)
        g_string_append_printf(data, ",mode=%o", (unsigned)mode);
    if (size)
        g_string_append_printf(data, ",size=%" G_GINT64_FORMAT, size);
    *ret =
        json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:s}", "Type", "tmpfs", "Source", "", "Destination", destination, "Mode", "",
                  "RW", !json_get_bool(mount, "ReadOnly", false), "Propagation", "", "_Options", data->len ? data->str + 1 : "");
    return true;
}

static bool parse_mount(const json_t *mount, json_t **ret, GError **error)
{
    static const struct {
        const char *type;
        bool (*parse)(const json_t *, const char *, json_t **, GError **);
    } types[] = { { "bind", parse_bind_mount }, { "volume", parse_volume_mount }, { "tmpfs", parse_tmpfs_mount } };
    const char *type = json_get_string(mount, "Type", ""), *target = json_get_string(mount, "Target", "");
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++)
        if (!strcmp(type, types[i].type)) {
            g_autofree char *destination = mounts_clean_path(target);
            if (check_target(target, error) && types[i].parse(mount, destination, ret, error))
                return true;
            g_prefix_error(error, "invalid mount config for type \"%s\": ", type);
            return false;
        }
    return !*target ? INVALID("invalid mount config for type \"%s\": field Target must not be empty", type)
                    : INVALID("invalid mount config for type \"%s\": mount type unknown", type);
}

/* ---- all of them ---- */

/* The mount points of another container; later ones of the same destination win. */
static bool add_volumes_from(struct container_manager *manager, json_t *mounts, const char *text, GError **error)
{
    const char *colon = strchr(text, ':');
    g_autofree char *name = colon ? g_strndup(text, colon - text) : g_strdup(text);
    struct bind_mode mode = { 0 };
    size_t i;
    json_t *mount;
    if (!*name)
        return INVALID("malformed volumes-from specification: %s", text);
    if (colon && !parse_mode(colon + 1, &mode, error))
        return false;
    autocontainer other = container_find(manager, name, NULL);
    if (!other) /* not 404: that is for an image, which the client then pulls */
        return INVALID("No such container: %s", name);
    json_array_foreach(other->mounts, i, mount)
    {
        json_t *copy = json_deep_copy(mount);
        if (mode.read_only)
            json_object_set_new(copy, "RW", json_false());
        json_object_set_new(copy, "_NoCopy", json_true());
        json_array_append_new(mounts, copy);
    }
    return true;
}

/* The options of --tmpfs: words that docker knows, and values, which the kernel checks. */
static bool check_tmpfs(const char *options, GError **error)
{
    static const char *const words[] = {
        "ro",     "rw",       "exec",       "noexec",      "suid",          "nosuid",   "dev",     "nodev",    "sync",
        "async",  "dirsync",  "remount",    "mand",        "nomand",        "atime",    "noatime", "diratime", "nodiratime",
        "bind",   "rbind",    "unbindable", "runbindable", "private",       "rprivate", "shared",  "rshared",  "slave",
        "rslave", "relatime", "norelatime", "strictatime", "nostrictatime", "defaults", "",        NULL
    };
    static const char *const keys[] = { "mode", "uid", "gid", "size", "nr_inodes", "mpol", NULL };
    g_auto(GStrv) parts = g_strsplit(options ? options : "", ",", 64);
    for (char **part = parts; *part; part++) {
        g_autofree char *key = g_strndup(*part, strcspn(*part, "="));
        if (!g_strv_contains(strchr(*part, '=') ? keys : words, key))
            return INVALID("invalid tmpfs option [\"%s\"]", *part);
    }
    return true;
}

/* One of a user's own: a second for the same destination is an error, one from VolumesFrom is replaced. */
static bool add_own(json_t *mounts, size_t n_inherited, json_t *mount, GError **error)
{
    size_t index;
    const char *destination = json_get_string(mount, "Destination", "");
    if (json_array_size(mounts) >= MOUNTS_MAX) {
        INVALID("too many mounts: at most %d", MOUNTS_MAX);
        json_decref(mount);
        return false;
    }
    if (!find_destination(mounts, destination, &index)) {
        json_array_append_new(mounts, mount);
        return true;
    }
    if (index < n_inherited) {
        json_array_set_new(mounts, index, mount);
        return true;
    }
    INVALID("Duplicate mount point: %s", destination);
    json_decref(mount);
    return false;
}

/* --volume-driver counts for volumes that name none of their own. */
static json_t *set_driver(json_t *mount, const json_t *host_config)
{
    const char *driver = json_get_string(host_config, "VolumeDriver", "");
    if (*driver && !strcmp(json_get_string(mount, "Type", ""), "volume"))
        json_object_set_new(mount, "_Driver", json_string(driver));
    return mount;
}

bool mounts_collect(struct container_manager *manager, const json_t *config, const json_t *host_config, json_t *mounts,
                    GError **error)
{
    size_t i;
    json_t *value, *mount;
    const char *path;
    json_array_foreach(json_get_array(host_config, "VolumesFrom"), i,
                       value) if (!add_volumes_from(manager, mounts, json_string_value(value), error)) return false;
    size_t n_inherited = json_array_size(mounts);
    json_array_foreach(json_get_array(host_config, "Binds"), i, value)
    {
        if (!parse_bind(json_string_value(value), &mount, error))
            return false;
        set_driver(mount, host_config);
        if (!add_own(mounts, n_inherited, mount, error))
            return false;
    }
    json_array_foreach(json_get_array(host_config, "Mounts"), i,
                       value) if (!parse_mount(value, &mount, error) || !add_own(mounts, n_inherited, mount, error)) return false;
    json_object_foreach(json_get_object(host_config, "Tmpfs"), path, value)
    {
        if (!*path)
            return INVALID("invalid mount path: '' mount path must be absolute");
        if (!check_target(path, error) || !check_tmpfs(json_string_value(value), error))
            return false;
        g_autofree char *clean = mounts_clean_path(path);
        if (find_destination(mounts, clean, NULL))
            return INVALID("Duplicate mount point: %s", clean);
    }
    json_object_foreach(json_get_object(config, "Volumes"), path, value)
    {
        if (!check_target(path, error)) {
            g_prefix_error(error, "invalid volume specification: '%s': invalid mount config for type \"volume\": ", path);
            return false;
        }
        g_autofree char *clean = mounts_clean_path(path);
        if (json_array_size(mounts) >= MOUNTS_MAX)
            return INVALID("too many mounts: at most %d", MOUNTS_MAX);
        if (!find_destination(mounts, clean, NULL) && !json_object_get(json_get_object(host_config, "Tmpfs"), clean))
            json_array_append_new(mounts, set_driver(volume_mount(NULL, clean, "", true), host_config));
    }
    return true;
}

static bool is_empty_directory(int fd)
{
    g_autofd int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_autoptr(GDir) directory = NULL;
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", again);
    directory = again < 0 ? NULL : g_dir_open(path, 0, NULL);
    return directory && !g_dir_read_name(directory);
}

static bool copy_from(int root, const char *destination, int target, GError **error)
{
    static const struct tree_copy_options options = { 0 };
    g_autofd int source = root_open(root, destination, O_RDONLY | O_DIRECTORY, 0);
    if (source < 0) /* nothing there, or no directory */
        return true;
    if (!tree_copy(source, target, &options, error)) {
        g_prefix_error(error, "copy image content to volume for %s: ", destination);
        return false;
    }
    return true;
}

/* A fresh volume starts with what the container would have at its place, owner and mode of the directory included: the mount
 * points that all have, and over them what is the image's. */
static bool copy_up(struct container *container, const char *destination, const char *path, int *image_root, GError **error)
{
    g_autofd int target = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (target < 0)
        return error_set_errno(error, errno, "open volume %s", path);
    if (!is_empty_directory(target))
        return true;
    if (*image_root < 0) {
        struct layer_stack *stack;
        if (!layer_stack_acquire(container->manager->layers, (const char *const *)container->diff_ids, &stack, error))
            return false;
        *image_root = layer_stack_mount(stack, error);
        layer_stack_release(stack);
        if (*image_root < 0)
            return false;
    }
    return copy_from(container->manager->init_layer_fd, destination, target, error) &&
           copy_from(*image_root, destination, target, error);
}

static bool acquire_volumes(struct container *container, json_t *mounts, GError **error)
{
    g_autofd int image_root = -1;
    size_t i;
    json_t *mount;
    json_array_foreach(mounts, i, mount)
    {
        if (strcmp(json_get_string(mount, "Type", ""), "volume"))
            continue;
        const struct volume_request request = {
            .name = json_get_string(mount, "Name", NULL),
            .driver = json_get_string(mount, "_Driver", NULL),
            .options = json_get_object(mount, "_DriverOptions"),
            .labels = json_get_object(mount, "_Labels"),
            .container = container->id,
        };
        struct volume_place place;
        if (!volume_acquire(container->manager->volumes, &request, &place, error))
            return false;
        json_object_set_new(mount, "Name", json_string(place.name));
        json_object_set_new(mount, "Source", json_string(place.path));
        bool copies = !json_get_bool(mount, "_NoCopy", false);
        bool ok = (!copies || copy_up(container, json_get_string(mount, "Destination", ""), place.path, &image_root, error)) &&
                  ((!copies && request.name) || selinux_relabel(place.path, container_mount_label(container), true, error));
        volume_place_clear(&place);
        if (!ok)
            return false;
    }
    return true;
}

bool mounts_resolve(struct container *container, const json_t *config, const json_t *host_config, GError **error)
{
    g_autoptr(json_t) mounts = json_array();
    if (!mounts_collect(container->manager, config, host_config, mounts, error))
        return false;
    if (!acquire_volumes(container, mounts, error)) {
        volume_release(container->manager->volumes, container->id, true, NULL);
        return false;
    }
    container->mounts = g_steal_pointer(&mounts);
    return true;
}

/* A bind source that -v names and that is missing, with the directories above it: all 0755, whatever the umask. */
static bool make_source(const char *path, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    g_autoptr(GString) so_far = g_string_new(NULL);
    for (char **part = parts; *part; part++) {
        if (!**part)
            continue;
        g_string_append_printf(so_far, "/%s", *part);
        if (mkdir(so_far->str, 0755) == 0 ? chmod(so_far->str, 0755) < 0 : errno != EEXIST)
            return error_set_errno(error, errno, "error while creating mount source path '%s': mkdir %s", path, so_far->str);
    }
    return true;
}

static bool check_source(const json_t *mount, const char *source, GError **error)
{
    struct stat st;
    if (strcmp(json_get_string(mount, "Type", ""), "bind") || stat(source, &st) == 0)
        return true;
    if (!json_get_bool(mount, "_CreateSource", false))
        return INVALID("invalid mount config for type \"bind\": bind source path does not exist: %s", source);
    return make_source(source, error);
}

/* z: all containers may use it, Z: this one alone. */
static bool relabel(struct container *container, const json_t *mount, const char *source, GError **error)
{
    const char *mode = json_get_string(mount, "Mode", ""), *label = container_mount_label(container);
    if (!label || !strpbrk(mode, "zZ") || selinux_relabel(source, label, strchr(mode, 'z'), error))
        return true;
    g_prefix_error(error, "error setting label on mount source '%s': ", source);
    return false;
}

bool mounts_check(struct container *container, GError **error)
{
    size_t i;
    json_t *mount;
    json_array_foreach(container->mounts, i, mount)
    {
        const char *source = json_get_string(mount, "Source", "");
        if (!check_source(mount, source, error) || !relabel(container, mount, source, error))
            return false;
    }
    return true;
}

json_t *mounts_public(const json_t *mounts)
{
    json_t *list = json_array();
    size_t i;
    json_t *mount, *value;
    const char *key;
    json_array_foreach((json_t *)mounts, i, mount)
    {
        json_t *shown = json_object();
        json_object_foreach(mount, key, value) if (*key != '_') json_object_set(shown, key, value);
        json_array_append_new(list, shown);
    }
    return list;
}
