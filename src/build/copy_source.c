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

bool copy_sources_leave_out(const struct copy_sources *sources, const char *relative)
{
    g_autofree char *rules = sources->exclude ? g_strjoinv("\n", sources->exclude) : NULL;

    return rules && dockerignore_excludes(rules, relative);
}

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

static bool read_content(const struct copy_sources *sources, const char *path, int flags, guint8 *ret, GError **error)
{
    g_autofd int fd = root_open(sources->root_fd, path, O_RDONLY | O_NONBLOCK | flags, 0);

    if (fd < 0)
        return error_set_errno(error, errno, "read %s", path);
    return content_digest(fd, path, sources->cancel, ret, error);
}

/* The place of path in the context's listing, or -1. */
static gint64 find_listed(const struct copy_sources *sources, const char *path)
{
    const struct listing *listing;
    guint at;

    if (!sources->files)
        return -1;
    listing = sources->files->listing;
    at = listing_find(listing, path);
    return at < listing->entries->len && strcmp(g_array_index(listing->entries, struct listing_entry, at).path, path) == 0
               ? (gint64)at
               : -1;
}

/* The digest of a file's content: from the listing at index (-1: none) where it is known there, and noted there where it was
 * not. */
static bool listed_content(const struct copy_sources *sources, const char *path, int flags, gint64 index,
                           guint8 ret[CONTEXT_DIGEST_SIZE], GError **error)
{
    static const guint8 zeros[CONTEXT_DIGEST_SIZE];
    struct context_files *files = sources->files;
    guint8 *noted = index >= 0 ? files->digests + (gsize)index * CONTEXT_DIGEST_SIZE : NULL;

    if (noted) {
        g_mutex_lock(&files->lock);
        memcpy(ret, noted, CONTEXT_DIGEST_SIZE);
        g_mutex_unlock(&files->lock);
        if (memcmp(ret, zeros, CONTEXT_DIGEST_SIZE) != 0)
            return true;
    }
    if (!read_content(sources, path, flags, ret, error))
        return false;
    if (noted) {
        g_mutex_lock(&files->lock);
        memcpy(noted, ret, CONTEXT_DIGEST_SIZE);
        files->changed = true;
        g_mutex_unlock(&files->lock);
    }
    return true;
}

/* What the listing has as a file is one whether links are followed or not: nothing that it has is behind a link. */
static bool hash_content(const struct copy_sources *sources, struct hasher *hasher, const char *path, const struct stat *stat,
                         int flags, GError **error)
{
    gint64 index = find_listed(sources, path);
    const struct listing_entry *entry =
        index >= 0 ? &g_array_index(sources->files->listing->entries, struct listing_entry, index) : NULL;
    struct listing_facts facts;
    guint8 digest[CONTEXT_DIGEST_SIZE];

    if (entry && !(listing_read_facts(entry->facts, &facts) && S_ISREG(facts.mode) && facts.size == (guint64)stat->st_size))
        index = -1;
    if (!listed_content(sources, path, flags, index, digest, error))
        return false;
    hasher_update(hasher, digest, sizeof digest);
    return true;
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
        return hash_content(sources, hasher, path, stat, flags, error);
    return !S_ISLNK(stat->st_mode) || hash_link(sources, hasher, path, error);
}

/* ---- the same, by what the client said ---- */

/* The texts and digests of many small files, given to the hasher in large pieces. */
struct hash_buffer {
    struct hasher *hasher;
    gsize used;
    char bytes[16384];
};

static void buffer_flush(struct hash_buffer *buffer)
{
    hasher_update(buffer->hasher, buffer->bytes, buffer->used);
    buffer->used = 0;
}

static void buffer_add(struct hash_buffer *buffer, const void *data, gsize length)
{
    if (length > sizeof buffer->bytes - buffer->used)
        buffer_flush(buffer);
    if (length > sizeof buffer->bytes) {
        hasher_update(buffer->hasher, data, length);
        return;
    }
    memcpy(buffer->bytes + buffer->used, data, length);
    buffer->used += length;
}

static void buffer_add_text(struct hash_buffer *buffer, const char *text)
{
    buffer_add(buffer, text, strlen(text) + 1);
}

/* As "%o 0 0 %u 0" has it; printf would take longer than all else. */
static void buffer_add_facts(struct hash_buffer *buffer, const struct listing_facts *facts)
{
    char text[64], *at = text + sizeof text;
    guint64 size = S_ISREG(facts->mode) ? facts->size : 0;
    guint mode = facts->mode;

    at -= sizeof " 0";
    memcpy(at, " 0", sizeof " 0");
    do
        *--at = (char)('0' + size % 10);
    while ((size /= 10) > 0);
    at -= strlen(" 0 0 ");
    memcpy(at, " 0 0 ", strlen(" 0 0 "));
    do
        *--at = (char)('0' + (mode & 7));
    while ((mode >>= 3) > 0);
    buffer_add(buffer, at, (gsize)(text + sizeof text - at));
}

static bool hash_listed(const struct copy_sources *sources, struct hash_buffer *buffer, guint index,
                        const struct listing_facts *facts, gsize skip, GError **error)
{
    const struct listing_entry *entry = &g_array_index(sources->files->listing->entries, struct listing_entry, index);
    guint8 digest[CONTEXT_DIGEST_SIZE];

    buffer_add_text(buffer, entry->path + skip);
    buffer_add_facts(buffer, facts);
    if (S_ISLNK(facts->mode))
        buffer_add_text(buffer, facts->link ? facts->link : "");
    if (!S_ISREG(facts->mode))
        return true;
    if (!listed_content(sources, entry->path, O_NOFOLLOW, (gint64)index, digest, error))
        return false;
    buffer_add(buffer, digest, sizeof digest);
    return true;
}

static bool is_below(const struct listing_entry *entry, const char *prefix, gsize length)
{
    return strncmp(entry->path, prefix, length) == 0;
}

/* A directory of a context that is kept needs no walk: 50,000 files are read out of its listing. *ret_done false where that does
 * not do, and the hasher is as it was. */
static bool hash_listed_tree(const struct copy_sources *sources, struct hasher *hasher, const char *path, bool *ret_done,
                             GError **error)
{
    bool is_root = g_str_equal(path, ".");
    gint64 first = is_root ? -1 : find_listed(sources, path);
    g_autofree char *prefix = is_root ? g_strdup("") : g_strconcat(path, "/", NULL);
    gsize skip = strlen(prefix);
    const GArray *entries = sources->files ? sources->files->listing->entries : NULL;
    g_autofree struct hash_buffer *buffer = NULL;
    struct listing_facts facts;

    *ret_done = false;
    if (!entries || sources->exclude || sources->parents || (!is_root && first < 0))
        return true;
    for (guint i = (guint)(first + 1); i < entries->len; i++) {
        const struct listing_entry *entry = &g_array_index(entries, struct listing_entry, i);

        if (!is_below(entry, prefix, skip))
            break;
        if (!listing_read_facts(entry->facts, &facts) || !(S_ISREG(facts.mode) || S_ISDIR(facts.mode) || S_ISLNK(facts.mode)))
            return true;
    }
    buffer = g_new(struct hash_buffer, 1);
    *buffer = (struct hash_buffer){ .hasher = hasher };
    for (guint i = (guint)(first + 1); i < entries->len; i++) {
        const struct listing_entry *entry = &g_array_index(entries, struct listing_entry, i);

        if (!is_below(entry, prefix, skip))
            break;
        listing_read_facts(entry->facts, &facts);
        if (!(sources->excluded && g_hash_table_contains(sources->excluded, entry->path)) &&
            !hash_listed(sources, buffer, i, &facts, skip, error))
            return false;
    }
    buffer_flush(buffer);
    *ret_done = true;
    return true;
}

struct tree_hash {
    const struct copy_sources *sources;
    struct hasher *hasher;
    gsize skip; /* bytes of a path that stand before the tree */
};

static bool hash_tree_entry(void *user, const char *path, const struct stat *stat, GError **error)
{
    struct tree_hash *tree = user;

    if (copy_sources_leave_out(tree->sources, path + tree->skip))
        return true;
    return hash_entry(tree->sources, tree->hasher, path + tree->skip, path, stat, O_NOFOLLOW, error);
}

/* --parents copies the directories on the way as well, under their names and with their attributes. */
static bool hash_parents(const struct copy_sources *sources, struct hasher *hasher, const struct copy_source *source,
                         GError **error)
{
    hash_text(hasher, source->parents);
    for (const char *end = source->path; *end;) {
        g_autofree char *prefix = NULL, *facts = NULL;
        g_autofd int fd = -1;
        struct stat stat;

        end = strchr(end + 1, '/') ? strchr(end + 1, '/') : source->path + strlen(source->path);
        prefix = g_strndup(source->path, (gsize)(end - source->path));
        fd = root_open(sources->root_fd, prefix, O_PATH, 0);
        if (fd < 0 || fstat(fd, &stat) < 0)
            return error_set_errno(error, errno, "stat %s", prefix);
        facts = g_strdup_printf("%o %u %u", stat.st_mode, stat.st_uid, stat.st_gid);
        hash_text(hasher, facts);
    }
    return true;
}

static bool hash_source(const struct copy_sources *sources, struct copy_source *source, GError **error)
{
    struct hasher *hasher = hasher_new();
    bool is_directory = S_ISDIR(source->stat.st_mode), good;
    char digest[DIGEST_ROOM];

    if (is_directory) {
        struct tree_hash tree = { .sources = sources, .hasher = hasher };
        bool done;

        tree.skip = g_str_equal(source->path, ".") ? 0 : strlen(source->path) + 1;
        good = hash_listed_tree(sources, hasher, source->path, &done, error) &&
               (done || copy_walk(sources, source->path, G_MAXUINT, hash_tree_entry, &tree, error));
    } else {
        g_autofree char *name = source->parents ? g_strdup(source->parents) : g_path_get_basename(source->path);

        good = hash_entry(sources, hasher, name, source->path, &source->stat, 0, error);
    }
    good = good && (!source->parents || hash_parents(sources, hasher, source, error));
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
    g_free(source->parents);
    g_free(source->pivot);
    g_free(source->hash);
    g_free(source);
}

static bool not_found(const struct copy_sources *sources, const char *path, GError **error)
{
    return error_set(error, TARE_ERROR_NOT_FOUND, "%sstat %s: file does not exist",
                     sources->is_context ? "file not found in build context or excluded by .dockerignore: " : "", path);
}

static bool add_source(struct copy_sources *sources, struct copy_source *source, GError **error)
{
    if (!sources->items)
        sources->items = g_ptr_array_new_with_free_func((GDestroyNotify)source_free);
    g_ptr_array_add(sources->items, source);
    if (sources->items->len > COPY_SOURCES_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "more than %d source files", COPY_SOURCES_MAX);
    return source->hash || hash_source(sources, source, error);
}

/* pivot: with --parents, where the part of the path begins that the copy keeps; else NULL. */
static bool add_path(struct copy_sources *sources, const char *path, const char *pivot, GError **error)
{
    g_autofree char *clean = go_clean_path(*path ? path : "."), *name = NULL;
    struct copy_source *source;
    g_autofd int fd = -1;
    struct stat stat;

    if (g_str_equal(clean, "..") || g_str_has_prefix(clean, "../"))
        return error_set(error, TARE_ERROR_INVALID, "forbidden path outside the build context: %s ()", path);
    if (sources->excluded && g_hash_table_contains(sources->excluded, clean))
        return not_found(sources, path, error);
    /* What a wildcard of --parents finds comes as it is. */
    fd = root_open(sources->root_fd, clean, O_PATH | (pivot && !g_str_equal(clean, ".") ? O_NOFOLLOW : 0), 0);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return not_found(sources, path, error);
    if (fd < 0 || fstat(fd, &stat) < 0)
        return error_set_errno(error, errno, "stat %s", path);
    name = g_path_get_basename(clean);
    if (!S_ISDIR(stat.st_mode) && copy_sources_leave_out(sources, name)) {
        sources->left_out = true;
        return true;
    }
    source = g_new0(struct copy_source, 1);
    source->root_fd = sources->root_fd;
    source->stat = stat;
    if (pivot) {
        gsize skip = g_str_equal(pivot, ".") ? 0 : strlen(pivot) + 1;

        source->pivot = g_strdup(pivot);
        source->parents = g_strdup(g_str_equal(clean, pivot) ? "." : clean + skip);
    }
    source->path = g_steal_pointer(&clean);
    return add_source(sources, source, error);
}

bool copy_sources_add_file(struct copy_sources *sources, int root_fd, const char *path, const char *hash, GError **error)
{
    struct copy_source *source = g_new0(struct copy_source, 1);
    struct copy_sources other = *sources;

    other.files = NULL;
    source->root_fd = root_fd;
    source->path = g_strdup(path);
    source->hash = g_strdup(hash);
    if (fstatat(root_fd, path, &source->stat, AT_SYMLINK_NOFOLLOW) < 0) {
        source_free(source);
        return error_set_errno(error, errno, "stat %s", path);
    }
    other.root_fd = root_fd;
    if (!source->hash && !hash_source(&other, source, error)) {
        source_free(source);
        return false;
    }
    return add_source(sources, source, error);
}

struct wildcard {
    struct copy_sources *sources;
    const char *pattern, *pivot;
    char *matched; /* the directory that matched last: what is in it comes with it */
};

static bool add_matching(void *user, const char *path, const struct stat *stat, GError **error)
{
    struct wildcard *wildcard = user;

    return copy_match(wildcard->pattern, path) != 1 || add_path(wildcard->sources, path, NULL, error);
}

static bool add_matching_parents(void *user, const char *path, const struct stat *stat, GError **error)
{
    struct wildcard *wildcard = user;
    gsize skip = g_str_equal(wildcard->pivot, ".") ? 0 : strlen(wildcard->pivot) + 1, length;

    length = wildcard->matched ? strlen(wildcard->matched) : 0;
    if (length > 0 && strncmp(path, wildcard->matched, length) == 0 && path[length] == '/')
        return true;
    if (!copy_match_covers(wildcard->pattern, path + skip))
        return true;
    if (S_ISDIR(stat->st_mode)) {
        g_free(wildcard->matched);
        wildcard->matched = g_strdup(path);
    }
    return add_path(wildcard->sources, path, wildcard->pivot, error);
}

static const char *skip_root(const char *path)
{
    while (*path == '/' || g_str_has_prefix(path, "./"))
        path += *path == '/' ? 1 : 2;
    return path;
}

/* "a/./b/c": what stands before "/./" stays out of the copy's path. */
static bool add_with_parents(struct copy_sources *sources, const char *text, GError **error)
{
    const char *mark = strstr(text, "/./");
    g_autofree char *before = mark ? g_strndup(text, (gsize)(mark - text)) : g_strdup("");
    g_autofree char *pivot = go_clean_path(*skip_root(before) ? skip_root(before) : ".");
    g_autofree char *pattern = go_clean_path(skip_root(mark ? mark + 3 : text));
    struct wildcard wildcard = { .sources = sources, .pattern = pattern, .pivot = pivot };
    bool good;

    if (g_str_has_prefix(pattern, "..") && (pattern[2] == '/' || !pattern[2]))
        return error_set(error, TARE_ERROR_INVALID, "forbidden path outside the build context: %s ()", text);
    if (!copy_has_wildcards(pattern) || g_str_equal(pattern, ".")) {
        g_autofree char *path = g_build_filename(pivot, pattern, NULL);

        return add_path(sources, path, pivot, error);
    }
    good = copy_walk(sources, pivot, G_MAXUINT, add_matching_parents, &wildcard, error);
    g_free(wildcard.matched);
    return good;
}

bool copy_sources_add(struct copy_sources *sources, const char *pattern, GError **error)
{
    struct wildcard wildcard = { .sources = sources };
    unsigned slashes = 0;

    if (sources->root_fd < 0)
        return error_set(error, TARE_ERROR_INVALID, "missing build context");
    if (sources->parents)
        return add_with_parents(sources, pattern, error);
    if (*pattern == '/')
        pattern++;
    if (g_str_has_prefix(pattern, "./"))
        pattern += 2;
    if (!copy_has_wildcards(pattern))
        return add_path(sources, pattern, NULL, error);
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
