/* What all steps share: finding base images, making the image of a step, announcing its container. */
#include "base/platform.h"
#include "base/fd.h"
#include "base/identifier.h"
#include "base/timestamp.h"
#include "build/build-internal.h"

#include <string.h>

const char *build_parent_id(const struct build *build)
{
    return build->state->image ? build->state->image->id : "";
}

bool build_root_acquire(struct build *build, const struct image *image, struct build_root *ret, GError **error)
{
    static const char *const none[] = { NULL };

    return layer_stack_acquire(build->builder->layers, image ? (const char *const *)image->diff_ids : none, &ret->stack, error);
}

bool build_root_open(struct build *build, const struct image *image, struct build_root *ret, GError **error)
{
    if (!build_root_acquire(build, image, ret, error))
        return false;
    ret->fd = layer_stack_mount(ret->stack, error);
    return ret->fd >= 0;
}

void build_root_clear(struct build_root *root)
{
    fd_clear(&root->fd);
    if (root->stack)
        layer_stack_release(root->stack);
    root->stack = NULL;
}

bool build_find_image(struct build *build, const char *name, struct image **ret, GError **error)
{
    return build_find_image_for(build, name, build->request->platform, ret, error);
}

static bool pull_image(struct build *build, const char *name, const char *platform, struct image **ret, GError **error)
{
    const struct builder *builder = build->builder;

    if (!builder->pull)
        return error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "this engine pulls no images: import or build %s instead", name);
    return builder->pull(builder->pull_user, name, platform, build->request, build->stream.output, build->cancel, error) &&
           image_store_get(builder->images, name, ret, error);
}

/* The one that is here, where it is for the platform. */
static bool find_here(struct build *build, const char *name, const char *platform, struct image **ret, GError **error)
{
    g_autoimage struct image *image = NULL;

    if (!image_store_get(build->builder->images, name, &image, error) ||
        !container_check_platform(platform, name, image->config, error))
        return false;
    *ret = g_steal_pointer(&image);
    return true;
}

bool build_find_image_for(struct build *build, const char *name, const char *platform, struct image **ret, GError **error)
{
    bool is_id = reference_may_be_id(name), fresh = build->request->pull && build->builder->pull && !is_id;
    g_autoptr(GError) here = NULL, pulled = NULL;
    struct reference reference;

    if (!is_id) {
        if (!reference_parse(name, &reference, error))
            return false;
        reference_clear(&reference);
    }
    if (!fresh && find_here(build, name, platform, ret, &here))
        return true;
    if (here && !error_is(here, TARE_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&here));
        return false;
    }
    if (pull_image(build, name, platform, ret, &pulled))
        return true;
    /* One that is here and for another platform says more than that no registry has it. */
    if (here && strstr(here->message, "does not match the specified platform"))
        g_propagate_error(error, g_steal_pointer(&here));
    else
        g_propagate_error(error, g_steal_pointer(&pulled));
    return false;
}

json_t *build_nop_command(const struct build *build, const char *comment, bool two_words)
{
    json_t *words = run_config_shell(build->state->metadata.config);

    if (two_words) {
        json_array_append_new(words, json_string("#(nop) "));
        json_array_append_new(words, json_string_lossy(comment));
    } else {
        g_autofree char *word = g_strconcat("#(nop) ", comment, NULL);

        json_array_append_new(words, json_string_lossy(word));
    }
    return words;
}

/* ---- the document of a step's image ---- */

/* "linux/arm64/v8": one part, or NULL. */
static char *platform_part(const struct build *build, unsigned index)
{
    g_auto(GStrv) parts = g_strsplit(build->request->platform ? build->request->platform : "", "/", 3);

    return index < g_strv_length(parts) && *parts[index] ? g_strdup(parts[index]) : NULL;
}

static void set_platform(const struct build *build, json_t *document)
{
    const json_t *base = build->state->image ? build->state->image->config : NULL;
    g_autofree char *architecture = platform_part(build, 1), *variant = platform_part(build, 2);
    const char *base_variant = json_get_string(base, "variant", NULL);

    json_object_set_new(
        document, "architecture",
        json_string(json_get_string(base, "architecture", architecture ? architecture : platform_architecture())));
    json_object_set_new(document, "os", json_string(json_get_string(base, "os", "linux")));
    if (base ? base_variant : variant)
        json_object_set_new(document, "variant", json_string(base ? base_variant : variant));
}

static char *join_words(const json_t *words)
{
    g_auto(GStrv) strings = json_string_array(words);

    return strings ? g_strjoinv(" ", strings) : g_strdup("");
}

/* Which container it was is left out: it would make an image of each build where all else is the same. */
static json_t *container_config(const json_t *config, const json_t *cmd)
{
    json_t *copy = json_deep_copy(config);

    json_object_set(copy, "Cmd", (json_t *)cmd);
    return copy;
}

static json_t *history_with(const struct build *build, const json_t *cmd, const char *created, bool empty)
{
    const json_t *before = build->state->image ? json_get_array(build->state->image->config, "history") : NULL;
    json_t *history = before ? json_deep_copy(before) : json_array();
    g_autofree char *created_by = join_words(cmd);
    json_t *entry = json_pack("{s:s}", "created", created);

    if (build->state->metadata.maintainer)
        json_object_set_new(entry, "author", json_string_lossy(build->state->metadata.maintainer));
    json_object_set_new(entry, "created_by", json_string_lossy(created_by));
    if (empty)
        json_object_set_new(entry, "empty_layer", json_true());
    json_array_append_new(history, entry);
    return history;
}

gint64 build_created_ns(const struct build *build)
{
    return build->epoch > 0 ? build->epoch * G_GINT64_CONSTANT(1000000000) : timestamp_now();
}

static json_t *image_document(const struct build *build, const json_t *cmd, bool empty)
{
    g_autoptr(json_t) config = image_canonical_config(build->state->metadata.config);
    json_t *document = json_object();
    char created[TIMESTAMP_ROOM];

    timestamp_format(build_created_ns(build), created);
    set_platform(build, document);
    if (build->state->metadata.maintainer)
        json_object_set_new(document, "author", json_string_lossy(build->state->metadata.maintainer));
    json_object_set(document, "config", config);
    json_object_set_new(document, "container_config", container_config(config, cmd));
    json_object_set_new(document, "created", json_string(created));
    json_object_set_new(document, "docker_version", json_string(TARE_VERSION));
    json_object_set_new(document, "history", history_with(build, cmd, created, empty));
    return document;
}

static bool layers_with(const struct build *build, const struct layer_info *layer, struct layer_info **ret, size_t *ret_n,
                        GError **error)
{
    struct layer_info *below = NULL, *all;
    size_t n = 0;

    if (build->state->image && !image_store_layers(build->builder->images, build->state->image, &below, &n, error))
        return false;
    all = g_new0(struct layer_info, n + 1);
    if (n > 0)
        memcpy(all, below, n * sizeof *all);
    if (layer)
        all[n] = *layer;
    g_free(below);
    *ret = all;
    *ret_n = n + (layer != NULL);
    return true;
}

bool build_add_image(struct build *build, json_t *cmd, const struct layer_info *layer, const char *container, GError **error)
{
    g_autoptr(json_t) document = image_document(build, cmd, !layer);
    struct image_new_options options = { .config = document,
                                         .intermediate = true,
                                         .created_ns = timestamp_now(),
                                         .parent = build->state->image ? build->state->image->id : NULL };
    g_autofree struct layer_info *layers = NULL;
    struct image *image;

    if (!layers_with(build, layer, &layers, &options.n_layers, error))
        return false;
    options.layers = layers;
    if (!image_store_add(build->builder->images, &options, &image, error))
        return false;
    if (build->state->image)
        image_unref(build->state->image);
    build->state->image = image;
    return true;
}

/* ---- layers on their way ---- */

void builder_begin_taking(struct builder *builder)
{
    g_mutex_lock(&builder->layers_lock);
    builder->n_taking++;
    g_mutex_unlock(&builder->layers_lock);
}

void builder_end_taking(struct builder *builder)
{
    g_mutex_lock(&builder->layers_lock);
    if (--builder->n_taking == 0)
        g_cond_broadcast(&builder->layers_free);
    g_mutex_unlock(&builder->layers_lock);
}

void builder_release(struct builder *builder, const char *holder)
{
    g_mutex_lock(&builder->layers_lock);
    while (builder->n_taking > 0)
        g_cond_wait(&builder->layers_free, &builder->layers_lock);
    image_store_release_layers(builder->images, holder, NULL);
    g_mutex_unlock(&builder->layers_lock);
}

bool build_commit_draft(struct build *build, struct layer_draft *draft, struct layer_info *ret, GError **error)
{
    struct image_layer_claim claim;
    bool good;

    image_layer_claim_init(&claim, build->builder->images, build->holder);
    layer_draft_set_claim(draft, &claim.claim);
    builder_begin_taking(build->builder);
    good = layer_draft_commit(draft, ret, error);
    builder_end_taking(build->builder);
    return good;
}

/* ---- intermediate containers ---- */

/* With --rm=false metadata steps leave their containers, as Docker's do; else nobody could ever see them, and none is made. */
static bool create_real(struct build *build, const json_t *cmd, char **ret_id, GError **error)
{
    g_autoptr(json_t) body = image_canonical_config(build->state->metadata.config);
    g_autoptr(json_t) created = NULL;

    json_object_set(body, "Cmd", (json_t *)cmd);
    json_object_set_new(body, "Image", json_string(build_parent_id(build)));
    json_object_set_new(body, "HostConfig", json_pack("{s:s, s:{s:s}}", "NetworkMode", "none", "LogConfig", "Type", "none"));
    if (!container_create(build->builder->containers, NULL, build->request->platform, body, 41, &created, error))
        return false;
    *ret_id = g_strdup(json_get_string(created, "Id", ""));
    return true;
}

bool build_announce_container(struct build *build, const json_t *cmd, char **ret_id, GError **error)
{
    char id[IDENTIFIER_LENGTH + 1], digits[13];

    if (!build->request->remove && !build->request->force_remove && build->state->image) {
        if (!create_real(build, cmd, ret_id, error))
            return false;
        g_ptr_array_add(build->containers, g_strdup(*ret_id));
    } else {
        identifier_new(id);
        *ret_id = g_strdup(id);
        g_ptr_array_add(build->containers, g_strconcat("-", id, NULL));
    }
    build_stream_text(&build->stream, " ---> Running in %s\n", short_id(*ret_id, digits));
    return true;
}
