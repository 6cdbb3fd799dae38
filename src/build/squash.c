/* --squash: what the steps of the last stage came to, as one layer upon their base. Only paths that the steps' layers have can
 * differ from the base, so the rest of it is not even looked at. */
#include "base/fd.h"
#include "base/timestamp.h"
#include "build/build-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct squash {
    struct build *build;
    const char *const *diff_ids; /* of the steps */
    int whole, base;             /* mounted */
    GHashTable *paths;           /* set: what the steps' layers have */
    GHashTable *gone;            /* set: of the base's, what is no directory any more */
    GPtrArray *removed;          /* of the base's */
};

static bool mount_layers(struct build *build, const char *const *diff_ids, struct layer_stack **stack, int *ret, GError **error)
{
    if (!layer_stack_acquire(build->builder->layers, diff_ids, stack, error))
        return false;
    *ret = layer_stack_mount(*stack, error);
    return *ret >= 0;
}

static bool note_path(void *user, const char *path, const struct stat *stat, GError **error)
{
    struct squash *squash = user;

    g_hash_table_add(squash->paths, g_strdup(path));
    return true;
}

static bool find_changed(struct squash *squash, GError **error)
{
    struct copy_sources sources = { .cancel = squash->build->cancel };
    struct layer_stack *stack = NULL;
    g_autofd int root = -1;
    bool good = layer_chain_prepare(squash->build->builder->layers, squash->diff_ids, error) &&
                mount_layers(squash->build, squash->diff_ids, &stack, &root, error);

    sources.root_fd = root;
    good = good && copy_walk(&sources, ".", G_MAXUINT, note_path, squash, error);
    fd_clear(&root);
    if (stack)
        layer_stack_release(stack);
    return good;
}

/* What the base has in a directory that the steps touched, and the whole has not. Parents come first, so that a path is asked for
 * only where all above it are directories of the whole, and no link is followed. */
static bool note_removed(void *user, const char *path, const struct stat *stat, GError **error)
{
    struct squash *squash = user;
    g_autofree char *parent = g_path_get_dirname(path);
    bool at_top = strcmp(parent, ".") == 0, is_there;
    struct stat now;

    if (!at_top && !g_hash_table_contains(squash->paths, parent))
        return true;
    if (!at_top && g_hash_table_contains(squash->gone, parent)) {
        g_hash_table_add(squash->gone, g_strdup(path));
        return true;
    }
    is_there = fstatat(squash->whole, path, &now, AT_SYMLINK_NOFOLLOW) == 0;
    if (!is_there && errno != ENOENT)
        return error_set_errno(error, errno, "stat %s", path);
    if (!is_there)
        g_ptr_array_add(squash->removed, g_strdup(path));
    if (!is_there || !S_ISDIR(now.st_mode))
        g_hash_table_add(squash->gone, g_strdup(path));
    return true;
}

static bool find_removed(struct squash *squash, GError **error)
{
    struct copy_sources sources = { .root_fd = squash->base, .cancel = squash->build->cancel };

    if (!copy_walk(&sources, ".", G_MAXUINT, note_removed, squash, error))
        return false;
    g_ptr_array_add(squash->removed, NULL);
    return true;
}

static bool make_layer(struct squash *squash, const struct image *base, struct layer_info *ret, GError **error)
{
    struct build *build = squash->build;
    struct build_root whole = { .fd = -1 }, below = { .fd = -1 };
    struct image_layer_claim claim;
    struct layer_seal_options options = {
        .clamp_mtime = -1, .only = squash->paths, .claim = &claim.claim, .cancel = build->cancel
    };
    bool good = find_changed(squash, error) && build_root_open(build, build->state->image, &whole, error) &&
                build_root_open(build, base, &below, error);

    squash->whole = whole.fd;
    squash->base = below.fd;
    if (good && find_removed(squash, error)) {
        options.removed = (const char *const *)squash->removed->pdata;
        image_layer_claim_init(&claim, build->builder->images, build->holder);
        builder_begin_taking(build->builder);
        good = layer_store_seal(build->builder->layers, whole.fd, &options, ret, error);
        builder_end_taking(build->builder);
    } else {
        good = false;
    }
    build_root_clear(&whole);
    build_root_clear(&below);
    return good;
}

/* As docker writes it: the steps stay in the history, without layers, and one entry more says what was merged. */
static json_t *squashed_document(const struct build *build, const struct image *base)
{
    const struct image *image = build->state->image;
    json_t *document = json_deep_copy(image->config), *history = json_object_get(document, "history"), *entry;
    size_t below = base ? json_array_size(json_get_array(base->config, "history")) : 0, i;
    char created[TIMESTAMP_ROOM];
    g_autofree char *comment =
        base ? g_strdup_printf("merge %s to %s", image->id, base->id) : g_strconcat("create new from ", image->id, NULL);

    timestamp_format(build_created_ns(build), created);
    json_array_foreach(history, i, entry) if (i >= below) json_object_set_new(entry, "empty_layer", json_true());
    json_array_append_new(history, json_pack("{s:s, s:s}", "created", created, "comment", comment));
    json_object_set_new(document, "created", json_string(created));
    json_object_del(document, "rootfs");
    return document;
}

static bool replace_image(struct build *build, const struct image *base, const struct layer_info *layer, GError **error)
{
    g_autoptr(json_t) document = squashed_document(build, base);
    g_autofree struct layer_info *below = NULL, *all = NULL;
    size_t n = 0;
    struct image *image;

    if (base && !image_store_layers(build->builder->images, base, &below, &n, error))
        return false;
    all = g_new0(struct layer_info, n + 1);
    if (n > 0)
        memcpy(all, below, n * sizeof *all);
    all[n] = *layer;
    struct image_new_options options = {
        .config = document, .layers = all, .n_layers = n + 1, .parent = base ? base->id : NULL, .created_ns = timestamp_now()
    };

    if (!image_store_add(build->builder->images, &options, &image, error))
        return false;
    image_unref(build->state->image);
    build->state->image = image;
    return true;
}

bool build_squash(struct build *build, GError **error)
{
    const struct image *image = build->state->image, *base = build->state->base;
    guint below = base ? g_strv_length(base->diff_ids) : 0;
    g_autoptr(GHashTable) paths = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GHashTable) gone = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) removed = g_ptr_array_new_with_free_func(g_free);
    struct squash squash = {
        .build = build, .diff_ids = (const char *const *)image->diff_ids + below, .paths = paths, .gone = gone, .removed = removed
    };
    struct layer_info layer;

    if (g_strv_length(image->diff_ids) <= below + 1) /* one layer or none */
        return true;
    if (!make_layer(&squash, base, &layer, error) || !replace_image(build, base, &layer, error))
        return false;
    build_stream_aux(&build->stream, build->state->image->id);
    return true;
}
