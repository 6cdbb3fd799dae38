/* COPY's sources: wildcards and links resolved inside the context (or a stage), and a digest over names, modes, owners and
 * contents, not times. */
#include "base/digest.h"
#include "base/fd.h"
#include "base/root_path.h"
#include "build/build-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define COPY_ENTRIES_MAX 8000000
#define COPY_SOURCES_MAX 100000

/* ---- walking ---- */

struct pending {
    char *path;
    struct stat stat;
    unsigned depth;
};

static void pending_free(struct pending *pending)
{
    g_free(pending->path);
    g_free(pending);
}

static gint compare_later_first(gconstpointer a, gconstpointer b)
{
    const struct pending *first = *(const struct pending *const *)a, *second = *(const struct pending *const *)b;

    return strcmp(second->path, first->path);
}

/* Pushes what is in the directory onto the stack, so that it comes off in order. */
static bool push_children(const struct copy_sources *sources, const char *path, unsigned depth, GPtrArray *stack, GError **error)
{
    int fd = root_open(sources->root_fd, path, O_RDONLY | O_DIRECTORY, 0);
    g_autoptr(GPtrArray) children = g_ptr_array_new();
    const struct dirent *entry;
    DIR *directory;

    if (fd < 0)
        return error_set_errno(error, errno, "open %s", path);
    directory = fdopendir(fd);
    if (!directory) {
        error_set_errno(error, errno, "open %s", path);
        fd_close(fd);
        return false;
    }
    while ((entry = readdir(directory))) {
        struct pending *child;

        if (g_str_equal(entry->d_name, ".") || g_str_equal(entry->d_name, ".."))
            continue;
        child = g_new0(struct pending, 1);
        child->path = g_str_equal(path, ".") ? g_strdup(entry->d_name) : g_strconcat(path, "/", entry->d_name, NULL);
        child->depth = depth + 1;
        if ((sources->excluded && g_hash_table_contains(sources->excluded, child->path)) ||
            fstatat(fd, entry->d_name, &child->stat, AT_SYMLINK_NOFOLLOW) < 0)
            pending_free(child);
        else
            g_ptr_array_add(children, child);
    }
    closedir(directory);
    g_ptr_array_sort(children, compare_later_first);
    for (guint i = 0; i < children->len; i++)
        g_ptr_array_add(stack, children->pdata[i]);
    if (stack->len > COPY_ENTRIES_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "more than %d files in %s", COPY_ENTRIES_MAX, path);
    return true;
}

bool copy_walk(const struct copy_sources *sources, const char *path, unsigned max_depth, copy_walk_func func, void *user,
               GError **error)
{
    g_autoptr(GPtrArray) stack = g_ptr_array_new_with_free_func((GDestroyNotify)pending_free);

    if (!push_children(sources, path, 0, stack, error))
        return false;
    while (stack->len > 0) {
        struct pending *next = g_ptr_array_steal_index(stack, stack->len - 1);
        bool good = cancel_check(sources->cancel, error) && func(user, next->path, &next->stat, error);

        if (good && S_ISDIR(next->stat.st_mode) && next->depth <= max_depth)
            good = push_children(sources, next->path, next->depth, stack, error);
        pending_free(next);
        if (!good)
            return false;
    }
    return true;
}

/* ---- digests ---- */

static void hash_text(struct hasher *hasher, const char *text)
{
    hasher_update(hasher, text, strlen(text) + 1);
}

static bool hash_content(const struct copy_sources *sources, struct hasher *hasher, const char *path, int flags, GError **error)
{
    g_autofd int fd = root_open(sources->root_fd, path, O_RDONLY | O_NONBLOCK | flags, 0);
    g_autofree char *buffer = g_malloc(1 << 17);
    ssize_t n = -1;

    while (fd >= 0 && (n = fd_read_full(fd, buffer, 1 << 17)) > 0) {
        if (!cancel_check(sources->cancel, error))
            return false;
        hasher_update(hasher, buffer, (size_t)n);
    }
    return (fd >= 0 && n == 0) || error_set_errno(error, errno, "read %s", path);
}

static bool hash_link(const struct copy_sources *sources, struct hasher *hasher, const char *path, GError **error)
{
    g_autofd int fd = root_open(sources->root_fd, path, O_PATH | O_NOFOLLOW, 0);
    g_autofree char *target = g_malloc0(PATH_MAX + 1);

    if (fd < 0 || readlinkat(fd, "", target, PATH_MAX) < 0)
        return error_set_errno(error, errno, "readlink %s", path);
    hash_text(hasher, target);
    return true;
}

/* One file: its name as the copy will have it, and what stat says but times. */
static bool hash_entry(const struct copy_sources *sources, struct hasher *hasher, const char *name, const char *path,
                       const struct stat *stat, int flags, GError **error)
{
    bool is_file = S_ISREG(stat->st_mode), is_device = S_ISCHR(stat->st_mode) || S_ISBLK(stat->st_mode);
    g_autofree char *facts =
        g_strdup_printf("%o %u %u %" G_GINT64_FORMAT " %" G_GUINT64_FORMAT, stat->st_mode, stat->st_uid, stat->st_gid,
                        is_file ? (gint64)stat->st_size : 0, is_device ? (guint64)stat->st_rdev : 0);

    hash_text(hasher, name);
    hash_text(hasher, facts);
    if (is_file)
        return hash_content(sources, hasher, path, flags, error);
    return !S_ISLNK(stat->st_mode) || hash_link(sources, hasher, path, error);
}

struct tree_hash {
    const struct copy_sources *sources;
    struct hasher *hasher;
    gsize skip; /* bytes of a path that stand before the tree */
};

static bool hash_tree_entry(void *user, const char *path, const struct stat *stat, GError **error)
{
    struct tree_hash *tree = user;

    return hash_entry(tree->sources, tree->hasher, path + tree->skip, path, stat, O_NOFOLLOW, error);
}

static bool hash_source(const struct copy_sources *sources, struct copy_source *source, GError **error)
{
    struct hasher *hasher = hasher_new();
    bool is_directory = S_ISDIR(source->stat.st_mode), good;
    char digest[DIGEST_ROOM];

    if (is_directory) {
        struct tree_hash tree = { .sources = sources, .hasher = hasher };

        tree.skip = g_str_equal(source->path, ".") ? 0 : strlen(source->path) + 1;
        good = copy_walk(sources, source->path, G_MAXUINT, hash_tree_entry, &tree, error);
    } else {
        g_autofree char *name = g_path_get_basename(source->path);

        good = hash_entry(sources, hasher, name, source->path, &source->stat, 0, error);
    }
    if (good) {
        hasher_finish(hasher, digest);
        source->hash = g_strconcat(is_directory ? "dir:" : "file:", digest_hex(digest), NULL);
    }
    hasher_free(hasher);
    return good;
}

/* ---- finding ---- */

static void source_free(struct copy_source *source)
{
    g_free(source->path);
    g_free(source->hash);
    g_free(source);
}

static bool not_found(const struct copy_sources *sources, const char *path, GError **error)
{
    return error_set(error, TARE_ERROR_NOT_FOUND, "%sstat %s: file does not exist",
                     sources->is_context ? "file not found in build context or excluded by .dockerignore: " : "", path);
}

static bool add_path(struct copy_sources *sources, const char *path, GError **error)
{
    g_autofree char *clean = go_clean_path(*path ? path : ".");
    struct copy_source *source;
    g_autofd int fd = -1;
    struct stat stat;

    if (g_str_equal(clean, "..") || g_str_has_prefix(clean, "../"))
        return error_set(error, TARE_ERROR_INVALID, "forbidden path outside the build context: %s ()", path);
    if (sources->excluded && g_hash_table_contains(sources->excluded, clean))
        return not_found(sources, path, error);
    fd = root_open(sources->root_fd, clean, O_PATH, 0);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return not_found(sources, path, error);
    if (fd < 0 || fstat(fd, &stat) < 0)
        return error_set_errno(error, errno, "stat %s", path);
    if (!sources->items)
        sources->items = g_ptr_array_new_with_free_func((GDestroyNotify)source_free);
    if (sources->items->len >= COPY_SOURCES_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "more than %d source files", COPY_SOURCES_MAX);
    source = g_new0(struct copy_source, 1);
    source->root_fd = sources->root_fd;
    source->path = g_steal_pointer(&clean);
    source->stat = stat;
    g_ptr_array_add(sources->items, source);
    return hash_source(sources, source, error);
}

struct wildcard {
    struct copy_sources *sources;
    const char *pattern;
};

static bool add_matching(void *user, const char *path, const struct stat *stat, GError **error)
{
    struct wildcard *wildcard = user;

    return copy_match(wildcard->pattern, path) != 1 || add_path(wildcard->sources, path, error);
}

bool copy_sources_add(struct copy_sources *sources, const char *pattern, GError **error)
{
    struct wildcard wildcard = { .sources = sources };
    unsigned slashes = 0;

    if (sources->root_fd < 0)
        return error_set(error, TARE_ERROR_INVALID, "missing build context");
    if (*pattern == '/')
        pattern++;
    if (g_str_has_prefix(pattern, "./"))
        pattern += 2;
    if (!copy_has_wildcards(pattern))
        return add_path(sources, pattern, error);
    for (const char *at = pattern; *at; at++)
        slashes += *at == '/';
    wildcard.pattern = pattern;
    return copy_walk(sources, ".", slashes, add_matching, &wildcard, error);
}

void copy_sources_clear(struct copy_sources *sources)
{
    if (sources->items)
        g_ptr_array_unref(sources->items);
    sources->items = NULL;
}
