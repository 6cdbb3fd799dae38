/* The directories of RUN --mount=type=cache: DATA_ROOT/build/caches/NAME.N/ with data/ (and work/, where a base lies below) and
 * info.json beside it. N tells those apart that sharing=private made. */
#include "base/digest.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/identifier.h"
#include "base/timestamp.h"
#include "build/build-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PRIVATE_MAX 1000
#define INFO_MAX 65536
#define WAIT_MS 200 /* between looks at the cancel, while another step has the cache */

/* In builder->caches, under its lock. */
struct cache_use {
    unsigned users;
    bool exclusive;
};

struct cache_mount {
    char *name; /* of its directory */
    char *path; /* of data/ in it: all of it directories of ours, so no link leads elsewhere */
    int fd;
    struct layer_stack *stack; /* of a base */
};

/* ---- the directory ---- */

static int open_sub(const struct builder *builder, const char *name, GError **error)
{
    g_autofree char *path = NULL;
    int fd;

    if (!builder->directory) {
        error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "this engine keeps nothing between builds");
        return -1;
    }
    path = g_build_filename(builder->directory, name, NULL);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        error_set_errno(error, errno, "open %s", path);
    return fd;
}

bool builder_open_directory(struct builder *builder, const char *directory, GError **error)
{
    g_autofd int top = dir_make_path(directory, 0700, error);
    g_autofd int caches = top < 0 ? -1 : dir_make(top, "caches", 0700, error);
    g_autofd int tmp = caches < 0 ? -1 : dir_make(top, "tmp", 0700, error);

    /* It stays: on a full disk whoever waits for a block would take the one of a directory that is made anew. */
    if (tmp < 0 || !dir_empty(tmp, error))
        return false;
    dir_spread(caches);
    dir_spread(tmp);
    context_records_open(builder, top);
    builder->directory = g_strdup(directory);
    builder->caches = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return true;
}

void builder_close_directory(struct builder *builder)
{
    g_free(builder->directory);
    if (builder->caches)
        g_hash_table_unref(builder->caches);
}

char *builder_temporary(struct builder *builder, GError **error)
{
    g_autofd int parent = open_sub(builder, "tmp", error), fd = -1;
    char id[IDENTIFIER_LENGTH + 1];

    identifier_new(id);
    if (parent < 0 || (fd = dir_make(parent, id, 0700, error)) < 0)
        return NULL;
    return g_build_filename(builder->directory, "tmp", id, NULL);
}

void builder_temporary_remove(struct builder *builder, char *path)
{
    g_autofree char *name = path ? g_path_get_basename(path) : NULL;
    g_autofd int parent = path ? open_sub(builder, "tmp", NULL) : -1;

    if (parent >= 0)
        dir_remove_tree(parent, name, NULL);
    g_free(path);
}

/* ---- info.json ---- */

static json_t *read_info(int caches, const char *name)
{
    g_autofree char *path = g_build_filename(name, "info.json", NULL), *text = NULL;
    gsize length;

    if (!file_read(caches, path, INFO_MAX, &text, &length, NULL))
        return NULL;
    return json_parse(text, length, INFO_MAX, "a cache mount", NULL);
}

static bool write_info(int cache, const json_t *info, GError **error)
{
    g_autofree char *text = json_text(info);

    return file_write(cache, "info.json", text, strlen(text), 0600, false, error);
}

static bool touch_info(int caches, int cache, const char *name, const struct cache_mount_options *options, GError **error)
{
    g_autoptr(json_t) info = read_info(caches, name);
    gint64 now = timestamp_now();

    if (!info)
        info = json_pack("{s:s, s:s, s:I, s:i}", "name", options->name, "description", options->description, "created",
                         (json_int_t)now, "count", 0);
    json_object_set_new(info, "used", json_integer(now));
    json_object_set_new(info, "count", json_integer(json_get_int(info, "count", 0) + 1));
    return write_info(cache, info, error);
}

/* ---- taking and giving back ---- */

static char *base_name(const struct cache_mount_options *options)
{
    char digest[DIGEST_ROOM], chain[72] = "";
    g_autofree char *text = NULL;

    if (options->base)
        layer_chain_id((const char *const *)options->base->diff_ids, chain);
    text = g_strconcat(options->name, "\n", chain, NULL);
    digest_of(text, strlen(text), digest);
    return g_strdup(digest_hex(digest));
}

/* May the step have it now? Under the lock. */
static bool try_take(struct builder *builder, const char *name, bool exclusive)
{
    struct cache_use *use = g_hash_table_lookup(builder->caches, name);

    if (use && (use->exclusive || exclusive))
        return false;
    if (!use) {
        use = g_new0(struct cache_use, 1);
        g_hash_table_insert(builder->caches, g_strdup(name), use);
    }
    use->users++;
    use->exclusive = exclusive;
    return true;
}

static void give_back(struct builder *builder, const char *name)
{
    struct cache_use *use;

    g_mutex_lock(&builder->caches_lock);
    use = g_hash_table_lookup(builder->caches, name);
    if (--use->users == 0)
        g_hash_table_remove(builder->caches, name);
    g_cond_broadcast(&builder->caches_changed);
    g_mutex_unlock(&builder->caches_lock);
}

/* Of private ones the first that nobody has. */
static char *take_private(struct builder *builder, const char *base)
{
    for (unsigned i = 0; i < PRIVATE_MAX; i++) {
        g_autofree char *name = g_strdup_printf("%s.%u", base, i);

        if (try_take(builder, name, true))
            return g_steal_pointer(&name);
    }
    return NULL;
}

static char *take(struct builder *builder, const struct cache_mount_options *options, struct cancel *cancel, GError **error)
{
    g_autofree char *base = base_name(options), *name = g_strconcat(base, ".0", NULL);
    /* Two overlays over one upper directory are not possible, so one with a base has one user at a time. */
    bool exclusive = options->sharing == RUN_MOUNT_LOCKED || options->base, taken = false;
    char *private = NULL;

    g_mutex_lock(&builder->caches_lock);
    if (options->sharing == RUN_MOUNT_PRIVATE)
    private = take_private(builder, base);
    while (!private && !(taken = try_take(builder, name, exclusive)) && !cancel_is_set(cancel))
        g_cond_wait_until(&builder->caches_changed, &builder->caches_lock,
                          g_get_monotonic_time() + WAIT_MS * G_TIME_SPAN_MILLISECOND);
    g_mutex_unlock(&builder->caches_lock);
    if (private)
        return private;
    if (taken)
        return g_steal_pointer(&name);
    cancel_check(cancel, error);
    return NULL;
}

/* data/, made with its owner and mode; those of one that is there stay. */
static int open_data(int cache, const struct cache_mount_options *options, GError **error)
{
    int fd;

    if (mkdirat(cache, "data", 0700) == 0) {
        g_autofd int made = openat(cache, "data", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (made < 0 || fchown(made, options->uid, options->gid) < 0 || fchmod(made, options->mode) < 0) {
            error_set_errno(error, errno, "make a cache mount");
            return -1;
        }
    }
    fd = openat(cache, "data", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        error_set_errno(error, errno, "open a cache mount");
    return fd;
}

int build_stack_writable(struct layer_stack *stack, const char *upper, const char *work, GError **error)
{
    const int *fds;
    size_t n = layer_stack_fds(stack, &fds);
    const char *const *paths = layer_stack_paths(stack, NULL);
    const struct overlay_options options = {
        .lower_fds = paths ? NULL : fds,
        .n_lower_fds = paths ? 0 : n,
        .lower_paths = paths,
        .upper = upper,
        .work = work,
        .is_volatile = true,
    };

    return layer_stack_overlay(stack, &options, error);
}

static bool open_over_base(struct builder *builder, int directory, const struct image *base, struct cache_mount *cache,
                           GError **error)
{
    g_autofree char *work = g_build_filename(builder->directory, "caches", cache->name, "work", NULL);
    g_autofd int made = -1;

    /* The mark of a volatile overlay that was cut off is in work/; what is in data/ is a cache and may be anything. */
    if (!dir_remove_tree(directory, "work", error) || (made = dir_make(directory, "work", 0700, error)) < 0)
        return false;
    fd_clear(&cache->fd);
    if (!layer_stack_acquire(builder->layers, (const char *const *)base->diff_ids, &cache->stack, error))
        return false;
    cache->fd = build_stack_writable(cache->stack, cache->path, work, error);
    return cache->fd >= 0;
}

static bool open_cache(struct builder *builder, const struct cache_mount_options *options, struct cache_mount *cache,
                       GError **error)
{
    g_autofd int caches = open_sub(builder, "caches", error), directory = -1;

    if (caches < 0 || (directory = dir_make(caches, cache->name, 0700, error)) < 0)
        return false;
    cache->fd = open_data(directory, options, error);
    return cache->fd >= 0 && touch_info(caches, directory, cache->name, options, error) &&
           (!options->base || open_over_base(builder, directory, options->base, cache, error));
}

bool cache_mount_acquire(struct builder *builder, const struct cache_mount_options *options, struct cancel *cancel,
                         struct cache_mount **ret, GError **error)
{
    struct cache_mount *cache;
    char *name;

    if (!builder->directory)
        return error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "this engine keeps nothing between builds");
    name = take(builder, options, cancel, error);
    if (!name)
        return false;
    cache = g_new0(struct cache_mount, 1);
    cache->name = name;
    cache->path = g_build_filename(builder->directory, "caches", name, "data", NULL);
    cache->fd = -1;
    if (!open_cache(builder, options, cache, error)) {
        cache_mount_release(builder, cache);
        return false;
    }
    *ret = cache;
    return true;
}

int cache_mount_fd(const struct cache_mount *cache)
{
    return cache->fd;
}

const char *cache_mount_path(const struct cache_mount *cache)
{
    return cache->path;
}

void cache_mount_release(struct builder *builder, struct cache_mount *cache)
{
    if (!cache)
        return;
    fd_clear(&cache->fd);
    if (cache->stack)
        layer_stack_release(cache->stack);
    give_back(builder, cache->name);
    g_free(cache->name);
    g_free(cache->path);
    g_free(cache);
}

/* ---- for system df, prune, export and import ---- */

/* What its files occupy; hard links count as often as they are found. */
static guint64 tree_bytes(int parent, const char *name, unsigned depth)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    const struct dirent *entry;
    guint64 total = 0;
    struct stat st;
    DIR *directory;

    directory = fd >= 0 && depth < 200 ? fdopendir(fd) : NULL;
    if (!directory) {
        if (fd >= 0)
            fd_close(fd);
        return 0;
    }
    while ((entry = readdir(directory))) {
        if (g_str_equal(entry->d_name, ".") || g_str_equal(entry->d_name, "..") ||
            fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        total += S_ISDIR(st.st_mode) ? tree_bytes(fd, entry->d_name, depth + 1) : (guint64)st.st_blocks * 512;
    }
    closedir(directory);
    return total;
}

static json_t *describe(struct builder *builder, int caches, const char *name)
{
    g_autoptr(json_t) info = read_info(caches, name);
    g_autofree char *data = g_build_filename(name, "data", NULL);
    char created[TIMESTAMP_ROOM], used[TIMESTAMP_ROOM];
    const struct cache_use *use;
    bool in_use, shared;

    if (!info)
        return NULL;
    g_mutex_lock(&builder->caches_lock);
    use = g_hash_table_lookup(builder->caches, name);
    in_use = use != NULL;
    shared = use && use->users > 1;
    g_mutex_unlock(&builder->caches_lock);
    timestamp_format(json_get_int(info, "created", 0), created);
    timestamp_format(json_get_int(info, "used", 0), used);
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:I, s:s, s:s, s:I}", "ID", name, "Name", json_get_string(info, "name", ""),
                     "Type", "exec.cachemount", "Description", json_get_string(info, "description", ""), "InUse", in_use,
                     "Shared", shared, "Size", (json_int_t)tree_bytes(caches, data, 0), "CreatedAt", created, "LastUsedAt", used,
                     "UsageCount", (json_int_t)json_get_int(info, "count", 0));
}

bool builder_cache_mounts(struct builder *builder, json_t **ret, GError **error)
{
    const struct dirent *entry;
    json_t *list = json_array();
    DIR *directory;
    int caches;

    *ret = list;
    if (!builder->directory)
        return true;
    caches = open_sub(builder, "caches", error);
    directory = caches < 0 ? NULL : fdopendir(caches);
    if (!directory) {
        if (caches >= 0)
            fd_close(caches);
        json_decref(list);
        return false;
    }
    while ((entry = readdir(directory))) {
        json_t *cache = *entry->d_name == '.' ? NULL : describe(builder, caches, entry->d_name);

        if (cache)
            json_array_append_new(list, cache);
    }
    closedir(directory);
    return true;
}

bool builder_cache_mount_remove(struct builder *builder, const char *id, guint64 *ret_freed, GError **error)
{
    g_autofd int caches = open_sub(builder, "caches", error);
    struct stat st;
    bool good;

    if (caches < 0)
        return false;
    if (!*id || *id == '.' || strchr(id, '/') || fstatat(caches, id, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_set(error, TARE_ERROR_NOT_FOUND, "no such cache mount: %s", id);
    /* No step takes it from here on: it would find the lock. */
    g_mutex_lock(&builder->caches_lock);
    good = try_take(builder, id, true);
    g_mutex_unlock(&builder->caches_lock);
    if (!good)
        return error_set(error, TARE_ERROR_CONFLICT, "cache mount %s is in use", id);
    *ret_freed = tree_bytes(caches, id, 0);
    good = dir_remove_tree(caches, id, error);
    give_back(builder, id);
    return good;
}

int builder_cache_mount_open(struct builder *builder, const char *name, bool create, GError **error)
{
    const struct cache_mount_options options = { .name = name, .description = name, .mode = 0755 };
    g_autofree char *base = base_name(&options), *directory = g_strconcat(base, ".0", NULL);
    g_autofd int caches = open_sub(builder, "caches", error), cache = -1;

    if (caches < 0)
        return -1;
    cache = openat(caches, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (cache < 0 && !create) {
        error_set(error, TARE_ERROR_NOT_FOUND, "no such cache mount: %s", name);
        return -1;
    }
    if (cache < 0 &&
        ((cache = dir_make(caches, directory, 0700, error)) < 0 || !touch_info(caches, cache, directory, &options, error)))
        return -1;
    return open_data(cache, &options, error);
}
