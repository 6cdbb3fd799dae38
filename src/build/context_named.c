/* What FROM and --from name: a context of --build-context, a stage, an image. */
#include "base/fd.h"
#include "base/platform.h"
#include "build/build-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct build_named {
    GMutex lock;
    GHashTable *contexts; /* name → struct build_context, opened when they are first asked for */
};

static void context_free(gpointer data)
{
    build_context_clear(data);
    g_free(data);
}

struct build_named *build_named_new(void)
{
    struct build_named *named = g_new0(struct build_named, 1);

    g_mutex_init(&named->lock);
    named->contexts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, context_free);
    return named;
}

void build_named_free(struct build_named *named)
{
    if (!named)
        return;
    g_hash_table_unref(named->contexts);
    g_mutex_clear(&named->lock);
    g_free(named);
}

static char *full_name(const char *name)
{
    struct reference reference;
    char *full;

    if (!reference_parse(name, &reference, NULL))
        return g_strdup(name);
    reference_default_tag(&reference);
    full = reference_familiar(&reference);
    reference_clear(&reference);
    return full;
}

/* Its value: "upload:…", "image:…". "alpine" is asked for by docker.io/library/alpine:latest as well. */
static const char *find_value(const struct build *build, const char *name)
{
    const char *value = json_get_string(build->request->contexts, name, NULL), *key;
    g_autofree char *full = value || !build->request->contexts ? NULL : full_name(name);
    json_t *item;

    if (!full)
        return value;
    json_object_foreach((json_t *)build->request->contexts, key, item)
    {
        g_autofree char *other = full_name(key);

        if (strcmp(full, other) == 0)
            return json_string_value(item);
    }
    return NULL;
}

bool build_named_image(const struct build *build, const char *name, const char **ret)
{
    const char *value = find_value(build, name);

    if (!value || !g_str_has_prefix(value, "image:"))
        return false;
    *ret = value + strlen("image:");
    return true;
}

bool build_named_is_context(const struct build *build, const char *name)
{
    const char *value = find_value(build, name);

    return value && g_str_has_prefix(value, "upload:");
}

static struct build_context *open_upload(struct build *build, const char *id, GError **error)
{
    struct build_context *context = g_new0(struct build_context, 1);

    context->root_fd = -1;
    if (context_store_share(build->builder, id, build->holder, context, error))
        return context;
    context_free(context);
    return NULL;
}

/* NULL without an error: no context of this name. */
static const struct build_context *find_context(struct build *build, const char *name, GError **error)
{
    const char *value = find_value(build, name);
    struct build_named *named = build->named;
    struct build_context *context;

    if (!value || !g_str_has_prefix(value, "upload:"))
        return NULL;
    g_mutex_lock(&named->lock);
    context = g_hash_table_lookup(named->contexts, name);
    if (!context && (context = open_upload(build, value + strlen("upload:"), error)))
        g_hash_table_insert(named->contexts, g_strdup(name), context);
    g_mutex_unlock(&named->lock);
    return context;
}

static bool open_image(struct build *build, const char *name, struct build_root *ret, GError **error)
{
    struct image *image = NULL;
    bool good = build_find_image(build, name, &image, error) && build_root_open(build, image, ret, error);

    if (image)
        image_unref(image);
    return good;
}

bool build_open_from(struct build *build, const char *name, struct build_root *ret, struct context_files **ret_files,
                     GError **error)
{
    const struct build_state *stage = NULL;
    g_autoptr(GError) local = NULL;
    const struct build_context *context = find_context(build, name, &local);
    const char *reference;

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (context) {
        ret->fd = fcntl(context->root_fd, F_DUPFD_CLOEXEC, 3);
        if (ret_files)
            *ret_files = context->files;
        return ret->fd >= 0 || error_set_errno(error, errno, "open context %s", name);
    }
    if (build_named_image(build, name, &reference))
        return open_image(build, reference, ret, error);
    if (!build_find_stage(build, name, &stage, error))
        return false;
    return stage ? build_root_open(build, stage->image, ret, error) : open_image(build, name, ret, error);
}

/* ---- FROM ---- */

/* A directory as a base: an image of its layers and nothing else. */
static bool make_image(struct build *build, const struct build_context *context, struct image **ret, GError **error)
{
    g_autoptr(json_t) document = json_pack("{s:s, s:s, s:s, s:{}, s:[]}", "architecture", platform_architecture(), "os", "linux",
                                           "created", "1970-01-01T00:00:00Z", "config", "history");
    guint n = g_strv_length(context->layers);
    g_autofree struct layer_info *layers = g_new0(struct layer_info, n);
    struct image_new_options options = { .config = document, .layers = layers, .n_layers = n, .intermediate = true };

    for (guint i = 0; i < n; i++) {
        if (!layer_store_info(build->builder->layers, context->layers[i], &layers[i], error))
            return false;
        json_array_append_new(json_object_get(document, "history"),
                              json_pack("{s:s, s:s}", "created", "1970-01-01T00:00:00Z", "created_by", "named context"));
    }
    return image_store_add(build->builder->images, &options, ret, error);
}

bool build_named_base(struct build *build, const char *name, bool *ret_found, struct image **ret, GError **error)
{
    g_autoptr(GError) local = NULL;
    const struct build_context *context = find_context(build, name, &local);
    const char *reference;

    *ret_found = context != NULL;
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (context)
        return make_image(build, context, ret, error);
    *ret_found = build_named_image(build, name, &reference);
    return !*ret_found || build_find_image(build, reference, ret, error);
}
