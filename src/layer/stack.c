#include "layer/mounts.h"

#include "base/fd.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Unused mounts stay, so that the next container starts at once; each holds two files and some kernel memory, so not too many. */
#define MAX_UNUSED 128
#define MAX_CHAIN 1000
#define EMPTY_KEY "empty"

struct mount_cache {
    struct mount_backend *backend;
    GMutex lock;
    GCond made;
    GHashTable *by_key; /* of struct layer_mount; those that are forgotten are not in it */
    guint n_unused;
    guint64 clock;
};

/* What acquire_mount is to find or to make: a layer, a fix-up (source), or with neither the empty directory. */
struct mount_wish {
    const char *key;
    const char *diff_id;
    const struct mount_source *source;
};

struct layer_stack {
    struct layer_store *store;
    GPtrArray *mounts; /* of struct layer_mount, topmost first */
    int *fds;
    const char **paths;
};

/* ---- the cache ---- */

static void destroy_mount(struct mount_cache *cache, struct layer_mount *mount)
{
    if (mount->fd >= 0)
        cache->backend->operations->unmount(cache->backend, mount);
    g_free(mount->path);
    g_free(mount->key);
    g_free(mount);
}

/* The least recently used of the mounts that nobody holds. The lock is held. */
static struct layer_mount *find_oldest_unused(struct mount_cache *cache)
{
    struct layer_mount *oldest = NULL;
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, cache->by_key);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct layer_mount *mount = value;
        if (mount->references == 0 && (!oldest || mount->used_at < oldest->used_at))
            oldest = mount;
    }
    return oldest;
}

static void release_mount(struct mount_cache *cache, struct layer_mount *mount)
{
    struct layer_mount *spare = NULL;
    g_mutex_lock(&cache->lock);
    if (--mount->references == 0) {
        if (mount->forgotten || mount->failed) {
            spare = mount;
        } else if (++cache->n_unused > MAX_UNUSED) {
            spare = find_oldest_unused(cache);
            g_hash_table_remove(cache->by_key, spare->key);
            cache->n_unused--;
        }
    }
    g_mutex_unlock(&cache->lock);
    if (spare)
        destroy_mount(cache, spare);
}

/* What the files of a layer's mount are, and what its facts mean for stacks. */
static bool find_layer(struct layer_store *store, const char *diff_id, struct layer_mount *mount, struct mount_source *ret,
                       GError **error)
{
    char index[LAYER_NAME_ROOM], tar[LAYER_NAME_ROOM];
    guint64 content_bytes;
    struct layer_facts *facts = NULL;
    if (!layer_store_has(store, diff_id))
        return error_set(error, TARE_ERROR_NOT_FOUND, "layer %s does not exist", diff_id);
    if (!layer_read_sidecar(store, diff_id, &content_bytes, &facts, error))
        return false;
    mount->has_facts = !layer_facts_is_empty(facts);
    mount->root_is_opaque = layer_facts_root_is_opaque(facts);
    layer_facts_free(facts);
    layer_file_name(diff_id, LAYER_FILE_INDEX, index);
    layer_file_name(diff_id, LAYER_FILE_TAR, tar);
    ret->key = digest_hex(diff_id);
    ret->index = g_build_filename(store->directory, index, NULL);
    ret->devices = g_new0(char *, 2);
    ret->devices[0] = g_build_filename(store->directory, tar, NULL);
    return true;
}

static bool mount_one(struct mount_cache *cache, const struct mount_wish *wish, struct layer_mount *made, GError **error)
{
    struct mount_backend *backend = cache->backend;
    if (wish->source)
        return backend->operations->mount(backend, wish->source, made, error);
    if (!wish->diff_id)
        return backend->operations->empty(backend, made, error);
    struct mount_source source = { 0 };
    bool ok = find_layer(backend->store, wish->diff_id, made, &source, error) &&
              backend->operations->mount(backend, &source, made, error);
    mount_source_clear(&source);
    return ok;
}

/* Makes the mount that was just put into the cache, without the lock: unpacking may take its time. */
static bool make_mount(struct mount_cache *cache, struct layer_mount *mount, const struct mount_wish *wish, GError **error)
{
    struct layer_mount made = { .key = mount->key, .fd = -1 };
    bool ok = mount_one(cache, wish, &made, error);
    g_mutex_lock(&cache->lock);
    if (ok) {
        mount->path = made.path;
        mount->fd = made.fd;
        mount->has_facts = made.has_facts;
        mount->root_is_opaque = made.root_is_opaque;
    } else {
        mount->failed = true;
        if (!mount->forgotten)
            g_hash_table_remove(cache->by_key, mount->key);
    }
    g_cond_broadcast(&cache->made);
    g_mutex_unlock(&cache->lock);
    return ok;
}

static struct layer_mount *acquire_mount(struct mount_cache *cache, const struct mount_wish *wish, GError **error)
{
    g_mutex_lock(&cache->lock);
    struct layer_mount *mount = g_hash_table_lookup(cache->by_key, wish->key);
    bool ours = !mount;
    if (ours) {
        mount = g_new0(struct layer_mount, 1);
        mount->key = g_strdup(wish->key);
        mount->fd = -1;
        g_hash_table_insert(cache->by_key, mount->key, mount);
    } else if (mount->references == 0) {
        cache->n_unused--;
    }
    mount->references++;
    mount->used_at = ++cache->clock;
    while (!ours && mount->fd < 0 && !mount->failed)
        g_cond_wait(&cache->made, &cache->lock);
    bool ok = !mount->failed;
    g_mutex_unlock(&cache->lock);
    if (ours)
        ok = make_mount(cache, mount, wish, error);
    else if (!ok)
        error_set(error, TARE_ERROR_INTERNAL, "layer %s cannot be mounted", wish->key);
    if (ok)
        return mount;
    release_mount(cache, mount);
    return NULL;
}

bool layer_mounts_open(struct layer_store *store, const struct layer_store_options *options, GError **error)
{
    struct mount_backend *backend = layer_probe(store, options, &store->verdict, error);
    if (!backend)
        return false;
    struct mount_cache *cache = g_new0(struct mount_cache, 1);
    cache->backend = backend;
    g_mutex_init(&cache->lock);
    g_cond_init(&cache->made);
    cache->by_key = g_hash_table_new(g_str_hash, g_str_equal);
    store->mounts = cache;
    store->mode = backend->operations->mode;
    return true;
}

void layer_mounts_close(struct layer_store *store)
{
    struct mount_cache *cache = g_steal_pointer(&store->mounts);
    if (!cache)
        return;
    g_autoptr(GList) all = g_hash_table_get_values(cache->by_key);
    for (GList *item = all; item; item = item->next)
        destroy_mount(cache, item->data);
    g_hash_table_unref(cache->by_key);
    mount_backend_close(cache->backend);
    g_mutex_clear(&cache->lock);
    g_cond_clear(&cache->made);
    g_free(cache);
}

bool layer_mounts_forget(struct layer_store *store, const char *key, GError **error)
{
    struct mount_cache *cache = store->mounts;
    g_mutex_lock(&cache->lock);
    struct layer_mount *mount = g_hash_table_lookup(cache->by_key, key), *spare = NULL;
    if (mount) {
        mount->forgotten = true;
        g_hash_table_remove(cache->by_key, key);
        if (mount->references == 0) {
            spare = mount;
            cache->n_unused--;
        }
    }
    g_mutex_unlock(&cache->lock);
    if (spare)
        destroy_mount(cache, spare);
    const struct mount_operations *operations = cache->backend->operations;
    return !operations->discard || operations->discard(cache->backend, key, error);
}

/* ---- stacks ---- */

static struct layer_mount *push_mount(struct layer_stack *stack, const struct mount_wish *wish, GError **error)
{
    struct layer_mount *mount = acquire_mount(stack->store->mounts, wish, error);
    if (mount)
        g_ptr_array_add(stack->mounts, mount);
    return mount;
}

/* Each diff id once, at its topmost position: overlayfs refuses one mount twice, and nothing of the lower one could be seen.
 * Below an opaque root nothing can be seen at all. */
static bool push_layers(struct layer_stack *stack, const char *const *diff_ids, gsize n, bool *ret_has_facts, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    for (gsize i = n; i-- > 0;) {
        if (!layer_check_diff_id(diff_ids[i], error))
            return false;
        if (!g_hash_table_add(seen, (gpointer)diff_ids[i]))
            continue;
        const struct mount_wish wish = { .key = digest_hex(diff_ids[i]), .diff_id = diff_ids[i] };
        const struct layer_mount *mount = push_mount(stack, &wish, error);
        if (!mount)
            return false;
        *ret_has_facts |= mount->has_facts;
        if (mount->root_is_opaque)
            break;
    }
    return true;
}

/* The fix-up index of the whole chain, where it has one, stands above all its layers. */
static bool push_fixup(struct layer_stack *stack, const char *const *diff_ids, GError **error)
{
    struct mount_source source = { 0 };
    g_autofree char *key = NULL;
    bool found = false;
    if (!layer_fixup_source(stack->store, diff_ids, &key, &source, &found, error) || !found)
        return !found && !(error && *error);
    const struct mount_wish wish = { .key = key, .source = &source };
    struct layer_mount *mount = acquire_mount(stack->store->mounts, &wish, error);
    if (mount)
        g_ptr_array_insert(stack->mounts, 0, mount);
    mount_source_clear(&source);
    return mount != NULL;
}

static const struct mount_wish empty_wish = { .key = EMPTY_KEY };

static bool fill_stack(struct layer_stack *stack, const char *const *diff_ids, gsize n, GError **error)
{
    bool has_facts = false;
    if (n == 0)
        return push_mount(stack, &empty_wish, error) != NULL;
    return push_layers(stack, diff_ids, n, &has_facts, error) && (!has_facts || push_fixup(stack, diff_ids, error));
}

static void list_mounts(struct layer_stack *stack)
{
    guint n = stack->mounts->len;
    stack->fds = g_new(int, n);
    if (stack->store->mounts->backend->operations->has_paths)
        stack->paths = g_new0(const char *, n + 1);
    for (guint i = 0; i < n; i++) {
        const struct layer_mount *mount = stack->mounts->pdata[i];
        stack->fds[i] = mount->fd;
        if (stack->paths)
            stack->paths[i] = mount->path;
    }
}

bool layer_stack_acquire(struct layer_store *store, const char *const *diff_ids, struct layer_stack **ret, GError **error)
{
    gsize n = diff_ids ? g_strv_length((char **)diff_ids) : 0;
    if (n > MAX_CHAIN)
        return error_set(error, TARE_ERROR_INVALID, "max depth exceeded");
    struct layer_stack *stack = g_new0(struct layer_stack, 1);
    stack->store = store;
    stack->mounts = g_ptr_array_sized_new((guint)n + 2);
    if (!fill_stack(stack, diff_ids, n, error)) {
        layer_stack_release(stack);
        return false;
    }
    list_mounts(stack);
    *ret = stack;
    return true;
}

void layer_stack_release(struct layer_stack *stack)
{
    if (!stack)
        return;
    for (guint i = 0; i < stack->mounts->len; i++)
        release_mount(stack->store->mounts, stack->mounts->pdata[i]);
    g_ptr_array_unref(stack->mounts);
    g_free(stack->fds);
    g_free(stack->paths);
    g_free(stack);
}

size_t layer_stack_fds(const struct layer_stack *stack, const int **ret)
{
    *ret = stack->fds;
    return stack->mounts->len;
}

const char *const *layer_stack_paths(const struct layer_stack *stack, int *ret_namespace)
{
    if (ret_namespace)
        *ret_namespace = stack->store->mounts->backend->namespace;
    return stack->paths;
}

/* ---- read-only mounts ---- */

/* Overlay wants two lower layers where there is no upper: the empty directory does no harm under a single one. */
static int mount_with_empty(struct layer_stack *stack, GError **error)
{
    struct mount_cache *cache = stack->store->mounts;
    struct layer_mount *empty = acquire_mount(cache, &empty_wish, error);
    if (!empty)
        return -1;
    const int fds[] = { stack->fds[0], empty->fd };
    const char *const paths[] = { stack->paths ? stack->paths[0] : NULL, empty->path, NULL };
    struct overlay_options options = { .lower_fds = fds, .n_lower_fds = 2 };
    if (stack->paths)
        options = (struct overlay_options){ .lower_paths = paths };
    int mount = mount_backend_overlay(cache->backend, &options, error);
    release_mount(cache, empty);
    return mount;
}

int layer_stack_overlay(struct layer_stack *stack, const struct overlay_options *options, GError **error)
{
    return mount_backend_overlay(stack->store->mounts->backend, options, error);
}

int layer_stack_mount(struct layer_stack *stack, GError **error)
{
    struct mount_backend *backend = stack->store->mounts->backend;
    const struct layer_mount *first = stack->mounts->pdata[0];
    if (strcmp(first->key, EMPTY_KEY) == 0)
        return mount_empty(error);
    if (stack->mounts->len == 1)
        return mount_with_empty(stack, error);
    struct overlay_options options = { .lower_fds = stack->fds, .n_lower_fds = stack->mounts->len };
    if (stack->paths)
        options = (struct overlay_options){ .lower_paths = stack->paths };
    return mount_backend_overlay(backend, &options, error);
}
