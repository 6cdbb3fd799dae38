/* The layer that COPY and ADD make: entries gathered by target path, then written sorted as a canonical tar. No container, no
 * copy on disk but the tar. */
#include "base/fd.h"
#include "base/root_path.h"
#include "build/build-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

struct copy_entry {
    char *target; /* in the image, without leading "/" */
    char *source; /* below root_fd; NULL: a directory that is made */
    int root_fd;
    bool follow;    /* the source itself may be a link */
    unsigned batch; /* hard links are kept within one source only */
    struct stat stat;
};

struct copy_layer {
    struct copy_layer_options options;
    GHashTable *entries; /* target → struct copy_entry */
    unsigned batch;
};

static void entry_free(struct copy_entry *entry)
{
    g_free(entry->target);
    g_free(entry->source);
    g_free(entry);
}

struct copy_layer *copy_layer_new(const struct copy_layer_options *options)
{
    struct copy_layer *layer = g_new0(struct copy_layer, 1);

    layer->options = *options;
    layer->entries = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)entry_free);
    return layer;
}

void copy_layer_free(struct copy_layer *layer)
{
    if (!layer)
        return;
    g_hash_table_unref(layer->entries);
    g_free(layer);
}

/* ---- gathering ---- */

static gboolean is_below(gpointer key, gpointer value, gpointer user)
{
    const char *directory = user;
    gsize length = strlen(directory);

    return strncmp(key, directory, length) == 0 && ((const char *)key)[length] == '/';
}

static void put_entry(struct copy_layer *layer, struct copy_entry *entry)
{
    const struct copy_entry *old = g_hash_table_lookup(layer->entries, entry->target);

    /* What replaces a directory replaces all that was in it. */
    if (old && S_ISDIR(old->stat.st_mode) && !S_ISDIR(entry->stat.st_mode))
        g_hash_table_foreach_remove(layer->entries, is_below, entry->target);
    g_hash_table_replace(layer->entries, entry->target, entry);
}

static void put_made_directory(struct copy_layer *layer, const char *target)
{
    struct copy_entry *entry = g_new0(struct copy_entry, 1);

    entry->target = g_strdup(target);
    entry->root_fd = -1;
    entry->stat.st_mode = S_IFDIR | 0755;
    entry->stat.st_uid = layer->options.keep_owner ? 0 : layer->options.uid;
    entry->stat.st_gid = layer->options.keep_owner ? 0 : layer->options.gid;
    entry->stat.st_mtim.tv_sec = layer->options.epoch;
    put_entry(layer, entry);
}

/* Is target (a real path) a directory by now? Returns 1, 0 for nothing there, -1 and an error for something else. */
static int directory_state(struct copy_layer *layer, const char *target, GError **error)
{
    const struct copy_entry *entry = g_hash_table_lookup(layer->entries, target);
    g_autofd int fd = -1;
    struct stat stat;

    if (!*target || (entry && S_ISDIR(entry->stat.st_mode)))
        return 1;
    if (!entry) {
        fd = root_open(layer->options.target_fd, target, O_PATH | O_NOFOLLOW, 0);
        if (fd < 0 && (errno == ENOENT || layer->options.is_link))
            return 0;
        if (fd >= 0 && fstat(fd, &stat) == 0 && S_ISDIR(stat.st_mode))
            return 1;
        if (layer->options.is_link) /* whatever is there below, a directory comes over it */
            return 0;
    }
    error_set(error, TARE_ERROR_INVALID, "mkdir /%s: not a directory", target);
    return -1;
}

/* mkdir -p; target is a real path, so what is missing of it is at its end. */
static bool make_directories(struct copy_layer *layer, const char *target, bool *ret_made, GError **error)
{
    for (const char *end = target; *end;) {
        g_autofree char *prefix = NULL;
        int state;

        end = strchr(end + 1, '/') ? strchr(end + 1, '/') : target + strlen(target);
        prefix = g_strndup(target, (gsize)(end - target));
        state = directory_state(layer, prefix, error);
        if (state < 0)
            return false;
        if (state == 0) {
            put_made_directory(layer, prefix);
            if (ret_made)
                *ret_made = true;
        }
    }
    return true;
}

/* Where path leads to in the image: with --link to itself, links or not. */
static bool resolve(const struct copy_layer *layer, const char *path, char **ret_real, bool *ret_exists, struct stat *ret_stat,
                    GError **error)
{
    g_autofree char *clean = NULL;
    g_autofd int fd = -1;

    if (!layer->options.is_link)
        return root_resolve(layer->options.target_fd, path, ret_real, ret_exists, ret_stat, error);
    clean = go_join_path("", path);
    fd = root_open(layer->options.target_fd, clean[1] ? clean + 1 : ".", O_PATH | O_NOFOLLOW, 0);
    *ret_exists = fd >= 0 && fstat(fd, ret_stat) == 0;
    *ret_real = g_strdup(clean + 1);
    return true;
}

bool copy_layer_make_directory(struct copy_layer *layer, const char *path, bool *ret_made, GError **error)
{
    g_autofree char *real = NULL;
    g_autoptr(GError) problem = NULL;
    bool exists;

    *ret_made = false;
    if (root_resolve(layer->options.target_fd, path, &real, &exists, NULL, &problem) &&
        make_directories(layer, real, ret_made, &problem))
        return true;
    if (error_is(problem, TARE_ERROR_INVALID))
        return error_set(error, TARE_ERROR_INVALID, "Cannot mkdir: %s is not a directory", path);
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

/* Owner and mode as the copy has them. A change of owner takes set-user-ID away, as chown(2) does. */
static void apply_options(const struct copy_layer *layer, struct stat *stat)
{
    const struct copy_layer_options *options = &layer->options;
    mode_t mode;

    if (!options->keep_owner) {
        stat->st_uid = options->uid;
        stat->st_gid = options->gid;
        if (S_ISREG(stat->st_mode)) {
            stat->st_mode &= ~(mode_t)S_ISUID;
            if (stat->st_mode & S_IXGRP)
                stat->st_mode &= ~(mode_t)S_ISGID;
        }
    }
    if (options->chmod && !S_ISLNK(stat->st_mode) &&
        copy_mode_apply(options->chmod, stat->st_mode, S_ISDIR(stat->st_mode), &mode))
        stat->st_mode = (stat->st_mode & S_IFMT) | mode;
}

static void put_copy(struct copy_layer *layer, int root_fd, const char *source, const char *target, const struct stat *stat,
                     bool follow)
{
    struct copy_entry *entry = g_new0(struct copy_entry, 1);

    entry->target = g_strdup(target);
    entry->source = g_strdup(source);
    entry->root_fd = root_fd;
    entry->follow = follow;
    entry->batch = layer->batch;
    entry->stat = *stat;
    apply_options(layer, &entry->stat);
    put_entry(layer, entry);
}

struct tree_copy {
    struct copy_layer *layer;
    const struct copy_sources *sources;
    int root_fd;
    gsize skip;
    const char *target;
    bool as_archive;
};

/* An archive that has "tmp/x" but no "tmp" says nothing about tmp: its index shows plain defaults, and the image's directory
 * stays. */
static bool is_implied(const struct tree_copy *tree, const char *target, const struct stat *stat)
{
    g_autofd int fd = -1;
    struct stat there;

    if (!tree->as_archive || !S_ISDIR(stat->st_mode) || (stat->st_mode & 07777) != 0755 || stat->st_uid != 0 ||
        stat->st_gid != 0 || stat->st_mtim.tv_sec != 0)
        return false;
    fd = root_open(tree->layer->options.target_fd, target, O_PATH | O_NOFOLLOW, 0);
    return fd >= 0 && fstat(fd, &there) == 0 && S_ISDIR(there.st_mode);
}

static bool add_tree_entry(void *user, const char *path, const struct stat *stat, GError **error)
{
    struct tree_copy *tree = user;
    g_autofree char *target =
        *tree->target ? g_strconcat(tree->target, "/", path + tree->skip, NULL) : g_strdup(path + tree->skip);

    if (S_ISSOCK(stat->st_mode) || is_implied(tree, target, stat) || copy_sources_leave_out(tree->sources, path + tree->skip))
        return true;
    put_copy(tree->layer, tree->root_fd, path, target, stat, false);
    return true;
}

bool copy_layer_add_tree(struct copy_layer *layer, const struct copy_sources *sources, const char *path, const char *dest,
                         bool as_archive, GError **error)
{
    struct tree_copy tree = { .layer = layer, .sources = sources, .root_fd = sources->root_fd, .as_archive = as_archive };
    bool kept = layer->options.keep_owner, exists, good;
    g_autofree char *real = NULL;
    struct stat stat;

    if (!resolve(layer, dest, &real, &exists, &stat, error) || !make_directories(layer, real, NULL, error))
        return false;
    layer->batch++;
    tree.target = real;
    tree.skip = g_str_equal(path, ".") ? 0 : strlen(path) + 1;
    layer->options.keep_owner = kept || as_archive;
    good = copy_walk(sources, path, G_MAXUINT, add_tree_entry, &tree, error);
    layer->options.keep_owner = kept;
    return good;
}

static bool add_file(struct copy_layer *layer, const struct copy_source *source, const char *dest, GError **error)
{
    g_autofree char *name = g_path_get_basename(source->path);
    g_autofree char *real = NULL, *target = NULL, *parent = NULL;
    bool exists, is_directory;
    struct stat stat;

    if (!resolve(layer, dest, &real, &exists, &stat, error))
        return false;
    is_directory = g_str_has_suffix(dest, "/") || (exists && S_ISDIR(stat.st_mode)) || directory_state(layer, real, NULL) == 1;
    target = !is_directory ? g_strdup(real) : *real ? g_strconcat(real, "/", name, NULL) : g_strdup(name);
    parent = strrchr(target, '/') ? g_strndup(target, (gsize)(strrchr(target, '/') - target)) : g_strdup("");
    if (!make_directories(layer, parent, NULL, error))
        return false;
    layer->batch++;
    put_copy(layer, source->root_fd, source->path, target, &source->stat, true);
    return true;
}

/* The directories of a --parents path, each as it is at the source. */
static bool put_parents(struct copy_layer *layer, const struct copy_source *source, const char *base, GError **error)
{
    for (const char *slash = strchr(source->parents, '/'); slash; slash = strchr(slash + 1, '/')) {
        g_autofree char *below = g_strndup(source->parents, (gsize)(slash - source->parents));
        g_autofree char *path = g_build_filename(source->pivot, below, NULL);
        g_autofree char *target = *base ? g_strconcat(base, "/", below, NULL) : g_strdup(below);
        g_autofd int fd = root_open(source->root_fd, path, O_PATH, 0);
        struct stat stat;

        if (fd < 0 || fstat(fd, &stat) < 0)
            return error_set_errno(error, errno, "stat %s", path);
        if (S_ISDIR(stat.st_mode) && !g_hash_table_contains(layer->entries, target))
            put_copy(layer, source->root_fd, path, target, &stat, true);
    }
    return true;
}

static bool add_with_parents(struct copy_layer *layer, const struct copy_sources *sources, const struct copy_source *source,
                             const char *dest, GError **error)
{
    g_autofree char *real = NULL, *target = NULL, *below = NULL;
    struct stat stat;
    bool exists;

    if (!resolve(layer, dest, &real, &exists, &stat, error) || !make_directories(layer, real, NULL, error) ||
        !put_parents(layer, source, real, error))
        return false;
    target = *real ? g_strconcat(real, "/", source->parents, NULL) : g_strdup(source->parents);
    layer->batch++;
    if (!g_str_equal(source->parents, "."))
        put_copy(layer, source->root_fd, source->path, target, &source->stat, false);
    if (!S_ISDIR(source->stat.st_mode))
        return true;
    below = g_strconcat("/", g_str_equal(source->parents, ".") ? real : target, NULL);
    return copy_layer_add_tree(layer, sources, source->path, below, false, error);
}

bool copy_layer_add(struct copy_layer *layer, const struct copy_sources *sources, const struct copy_source *source,
                    const char *dest, GError **error)
{
    if (source->parents)
        return add_with_parents(layer, sources, source, dest, error);
    if (S_ISDIR(source->stat.st_mode)) {
        struct copy_sources own = *sources; /* its root may be another, as a repository's is */

        if (own.root_fd != source->root_fd)
            own.files = NULL;
        own.root_fd = source->root_fd;
        return copy_layer_add_tree(layer, &own, source->path, dest, false, error);
    }
    return add_file(layer, source, dest, error);
}

/* ---- writing ---- */

static gint compare_targets(gconstpointer a, gconstpointer b)
{
    return strcmp((*(const struct copy_entry *const *)a)->target, (*(const struct copy_entry *const *)b)->target);
}

static bool is_copied_xattr(const char *name)
{
    return g_str_equal(name, "security.capability") ||
           (g_str_has_prefix(name, "user.") && !g_str_has_prefix(name, "user.overlay."));
}

/* Capabilities and user attributes; a change of owner would drop the former, so only where owners stay. */
static bool add_xattrs(struct tar_entry *tar, int fd, const char *path, GError **error)
{
    g_autofree char *names = g_malloc(65536), *value = g_malloc(65536);
    ssize_t length = flistxattr(fd, names, 65536);

    if (length < 0)
        return errno == ENOTSUP || error_set_errno(error, errno, "list attributes of %s", path);
    for (const char *name = names; name < names + length; name += strlen(name) + 1) {
        ssize_t size = is_copied_xattr(name) ? fgetxattr(fd, name, value, 65536) : -1;

        if (size >= 0)
            tar_entry_set_xattr(tar, name, value, (gsize)size);
    }
    return true;
}

static bool fill_link(struct tar_entry *tar, const struct copy_entry *entry, GError **error)
{
    g_autofd int fd = root_open(entry->root_fd, entry->source, O_PATH | O_NOFOLLOW, 0);

    tar->link = g_malloc0(PATH_MAX + 1);
    return (fd >= 0 && readlinkat(fd, "", tar->link, PATH_MAX) >= 0) ||
           error_set_errno(error, errno, "readlink %s", entry->source);
}

static bool write_content(const struct copy_layer *layer, struct tar_writer *writer, struct tar_entry *tar,
                          const struct copy_entry *entry, GError **error)
{
    g_autofd int fd = root_open(entry->root_fd, entry->source, O_RDONLY | O_NONBLOCK | (entry->follow ? 0 : O_NOFOLLOW), 0);
    struct stat stat;

    if (fd < 0 || fstat(fd, &stat) < 0)
        return error_set_errno(error, errno, "open %s", entry->source);
    if (!S_ISREG(stat.st_mode) || stat.st_size != entry->stat.st_size)
        return error_set(error, TARE_ERROR_INTERNAL, "%s changed while it was copied", entry->source);
    tar->size = tar->stored_size = (guint64)stat.st_size;
    if (layer->options.keep_owner && !add_xattrs(tar, fd, entry->source, error))
        return false;
    return tar_writer_entry(writer, tar, error) && tar_writer_data_fd(writer, fd, tar->size, error);
}

/* The target that the same inode was written under before, or NULL. */
static const char *linked_to(GHashTable *inodes, const struct copy_entry *entry)
{
    g_autofree char *key = NULL;
    const char *first;

    if (!entry->source || !S_ISREG(entry->stat.st_mode) || entry->stat.st_nlink < 2)
        return NULL;
    key = g_strdup_printf("%u %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, entry->batch, (guint64)entry->stat.st_dev,
                          (guint64)entry->stat.st_ino);
    first = g_hash_table_lookup(inodes, key);
    if (!first)
        g_hash_table_insert(inodes, g_steal_pointer(&key), entry->target);
    return first;
}

static bool write_entry(const struct copy_layer *layer, struct tar_writer *writer, const struct copy_entry *entry,
                        GHashTable *inodes, GError **error)
{
    const char *first = linked_to(inodes, entry);
    struct tar_entry tar = {
        .path = g_strdup(entry->target),
        .mode = entry->stat.st_mode,
        .uid = entry->stat.st_uid,
        .gid = entry->stat.st_gid,
        .mtime = entry->stat.st_mtim.tv_sec,
    };
    bool good = true;

    if (first) {
        tar.is_hard_link = true;
        tar.link = g_strdup(first);
    } else if (S_ISREG(tar.mode)) {
        good = write_content(layer, writer, &tar, entry, error);
        tar_entry_clear(&tar);
        return good;
    } else if (S_ISLNK(tar.mode)) {
        good = fill_link(&tar, entry, error);
    } else if (S_ISCHR(tar.mode) || S_ISBLK(tar.mode)) {
        tar.major = major(entry->stat.st_rdev);
        tar.minor = minor(entry->stat.st_rdev);
    }
    good = good && tar_writer_entry(writer, &tar, error);
    tar_entry_clear(&tar);
    return good;
}

bool copy_layer_write(struct copy_layer *layer, struct tar_writer *writer, GError **error)
{
    g_autoptr(GHashTable) inodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    GHashTableIter iter;
    gpointer entry;

    g_hash_table_iter_init(&iter, layer->entries);
    while (g_hash_table_iter_next(&iter, NULL, &entry))
        g_ptr_array_add(sorted, entry);
    g_ptr_array_sort(sorted, compare_targets);
    for (guint i = 0; i < sorted->len; i++)
        if (!cancel_check(layer->options.cancel, error) || !write_entry(layer, writer, sorted->pdata[i], inodes, error))
            return false;
    return true;
}
