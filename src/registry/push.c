/* Push: layers at the same time, then the config, then for each tag the manifest that makes them visible. */
#include "registry/registry-internal.h"

#include "base/identifier.h"

#include <string.h>

enum { SHOW_INTERVAL_US = 100000 };

/* Everything that is under way, at once. From the calling thread. */
static void cancel_push(struct push *push)
{
    GHashTableIter iter;
    gpointer value;
    cancel_trigger(push->cancel);
    g_mutex_lock(&push->lock);
    g_hash_table_iter_init(&iter, push->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct push_layer *layer = value;
        if (layer->fetch_cancel)
            cancel_trigger(layer->fetch_cancel);
    }
    g_mutex_unlock(&push->lock);
}

/* ---- messages ---- */

struct teller {
    const struct registry_push_options *options;
    struct push *push;
};

static bool tell(const struct teller *teller, json_t *message, GError **error)
{
    bool ok = teller->options->message(teller->options->user, message, error);
    json_decref(message);
    return ok;
}

static char *short_id(const struct push_layer *layer)
{
    return g_strndup(digest_hex(layer->info.diff_id), IDENTIFIER_SHORT);
}

static bool tell_layer(const struct teller *teller, const struct push_layer *layer, const char *status, GError **error)
{
    g_autofree char *id = short_id(layer);
    return tell(teller, progress_layer(id, status), error);
}

static bool tell_sending(const struct teller *teller, const struct push_layer *layer, guint64 current, guint64 total,
                         GError **error)
{
    g_autofree char *id = short_id(layer);
    return tell(teller, progress_bytes(id, "Pushing", current, total), error);
}

static bool show_phase(const struct teller *teller, struct push_layer *layer, enum push_phase phase, guint64 current,
                       guint64 total, unsigned seconds, GError **error)
{
    g_autofree char *text = NULL;
    switch (phase) {
    case PUSH_PREPARING:
    case PUSH_ASKING:
    case PUSH_FAILED:
        return true;
    case PUSH_WAITING:
        return tell_layer(teller, layer, "Waiting", error);
    case PUSH_SENDING:
        return tell_sending(teller, layer, current, total, error);
    case PUSH_RETRYING:
        text = g_strdup_printf("Retrying in %u second%s", seconds, seconds == 1 ? "" : "s");
        return tell_layer(teller, layer, text, error);
    case PUSH_EXISTS:
        return tell_layer(teller, layer, "Layer already exists", error);
    case PUSH_MOUNTED:
        text = g_strconcat("Mounted from ", layer->mounted_from, NULL);
        return tell_layer(teller, layer, text, error);
    case PUSH_PUSHED:
        return tell_layer(teller, layer, "Pushed", error);
    }
    return true;
}

static bool is_final(enum push_phase phase)
{
    return phase >= PUSH_EXISTS;
}

/* What has become of a layer since the last look. */
static bool show_layer(const struct teller *teller, struct push_layer *layer, bool *ret_final, GError **error)
{
    struct push *push = layer->push;
    g_mutex_lock(&push->lock);
    enum push_phase phase = layer->phase;
    guint64 current = layer->current, total = layer->total;
    unsigned seconds = layer->retry_seconds;
    g_mutex_unlock(&push->lock);
    *ret_final = is_final(phase);
    bool same = phase == layer->shown_phase && (phase != PUSH_SENDING || current == layer->shown_current) &&
                (phase != PUSH_RETRYING || seconds == layer->shown_seconds);
    if (same)
        return true;
    layer->shown_phase = phase;
    layer->shown_current = current;
    layer->shown_seconds = seconds;
    return show_phase(teller, layer, phase, current, total, seconds, error);
}

/* Until every layer has come to its end, well or badly. */
static bool watch_layers(const struct teller *teller, struct push_layer *const *layers, size_t n, GError **error)
{
    struct push *push = teller->push;
    bool told = true;
    for (bool all_final = false; !all_final;) {
        all_final = true;
        if (cancel_is_set(teller->options->cancel) || cancel_is_set(push->cancel))
            cancel_push(push);
        for (size_t i = n; i-- > 0;) { /* the topmost first, as Docker does */
            bool final = true;
            if (told && !show_layer(teller, layers[i], &final, error)) {
                told = false;
                cancel_push(push);
            }
            all_final &= final;
        }
        if (!told)
            return false;
        g_mutex_lock(&push->lock);
        if (!all_final)
            g_cond_wait_until(&push->changed, &push->lock, g_get_monotonic_time() + SHOW_INTERVAL_US);
        g_mutex_unlock(&push->lock);
    }
    return true;
}

/* ---- one tag ---- */

static bool is_all_zstd(const struct registry_blob *blobs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(blobs[i].media_type, MEDIA_OCI_LAYER_ZSTD) != 0)
            return false;
    return true;
}

/* The manifest that this image came with, or was pushed with before. Whoever asks for zstd means it. */
static bool find_kept(struct push *push, const struct image *image, size_t n_layers, struct registry_manifest **ret,
                      struct registry_blob **ret_blobs, GPtrArray **ret_all, GError **error)
{
    if (!registry_manifests_of_image(push->registry, image->id, ret_all, error))
        return false;
    *ret = NULL;
    *ret_blobs = NULL;
    for (guint i = 0; i < (*ret_all)->len && !*ret; i++) {
        struct registry_manifest *manifest = (*ret_all)->pdata[i];
        g_autofree struct registry_blob *blobs = manifest_blobs(manifest, n_layers);
        if (!blobs || (push->encoding == LAYER_ENCODING_ZSTD && !is_all_zstd(blobs, n_layers)))
            continue;
        *ret = manifest;
        *ret_blobs = g_steal_pointer(&blobs);
    }
    return true;
}

static bool is_as_kept(const struct registry_blob *blobs, struct push_layer *const *layers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(blobs[i].digest, layers[i]->digest) != 0)
            return false;
    return true;
}

static bool first_failure(struct push_layer *const *layers, size_t n, GError **error)
{
    const GError *chosen = NULL;
    for (size_t i = 0; i < n; i++) /* what one failure has cancelled is no failure of its own */
        if (layers[i]->error && (!chosen || chosen->code == TARE_ERROR_CANCELLED))
            chosen = layers[i]->error;
    if (chosen)
        g_propagate_error(error, g_error_copy(chosen));
    return !chosen;
}

/* Layers of the image, in its order, in threads that run already; the same ones for all tags. */
static struct push_layer **start_layers(struct push *push, const struct teller *teller, const struct layer_info *infos, size_t n,
                                        const struct registry_blob *wanted, GError **error)
{
    g_autofree struct push_layer **layers = g_new0(struct push_layer *, n + 1);
    for (size_t i = n; i-- > 0;) {
        struct push_layer *layer = g_hash_table_lookup(push->layers, infos[i].diff_id);
        if (!layer) {
            layer = push_layer_new(push, &infos[i], wanted ? &wanted[i] : NULL);
            g_hash_table_insert(push->layers, layer->info.diff_id, layer);
        } else if (is_final(layer->shown_phase)) { /* of a tag before */
            layer->shown_phase = PUSH_PREPARING;
            g_mutex_lock(&push->lock);
            layer->phase = layer->phase == PUSH_FAILED ? PUSH_FAILED : PUSH_EXISTS;
            g_mutex_unlock(&push->lock);
        }
        layers[i] = layer;
        if (!tell_layer(teller, layer, "Preparing", error)) {
            cancel_push(push);
            return NULL;
        }
    }
    return g_steal_pointer(&layers);
}

struct tag_push {
    const char *tag, *familiar_name; /* tag NULL: the digest is its only name there */
    struct image *image;
    char *config;
    struct layer_info *infos;
    size_t n_layers;
    GPtrArray *manifests;
    struct registry_manifest *kept;
    struct registry_blob *wanted;
};

static void tag_push_clear(struct tag_push *tag)
{
    image_clear(&tag->image);
    g_free(tag->config);
    g_free(tag->infos);
    g_free(tag->wanted);
    if (tag->manifests)
        g_ptr_array_unref(tag->manifests);
}

/* The manifest, the record of it, and the news. */
static bool finish_tag(const struct teller *teller, const struct tag_push *tag, struct push_layer *const *layers, GError **error)
{
    struct push *push = teller->push;
    struct registry_manifest made = { 0 };
    bool keep = tag->kept && is_as_kept(tag->wanted, layers, tag->n_layers);
    const char *media_type = keep ? tag->kept->media_type : NULL;
    g_autofree char *text = keep ? g_strdup(tag->kept->body)
                                 : manifest_text(tag->image->id, strlen(tag->config), (const struct push_layer *const *)layers,
                                                 tag->n_layers, &media_type);
    gsize length = keep ? tag->kept->length : strlen(text);
    char digest[DIGEST_ROOM];
    digest_of(text, length, digest);
    g_autofree char *reference = g_strdup(tag->tag ? tag->tag : digest);
    if (!upload_manifest(push->session, reference, media_type, text, length, digest, error))
        return false;
    if (!keep) {
        bool ok = registry_manifest_parse(text, length, media_type, &made, error) &&
                  registry_keep_manifest(push->registry, tag->image->id, &made, error);
        registry_manifest_clear(&made);
        if (!ok)
            return false;
    }
    g_autofree char *name = g_strconcat(tag->familiar_name, "@", digest, NULL);
    const char *const names[] = { name, NULL };
    return (!tag->tag || image_store_put_names(push->registry->images, tag->image->id, names, error)) &&
           tell(teller, json_pack("{s:o}", "status", json_sprintf("%s: digest: %s size: %d", reference, digest, (int)length)),
                error) &&
           tell(teller,
                json_pack("{s:{}, s:{s:s, s:s, s:i}}", "progressDetail", "aux", "Tag", reference, "Digest", digest, "Size",
                          (int)length),
                error);
}

static bool load_tag(struct push *push, struct tag_push *tag, const char *image, GError **error)
{
    g_autofree char *familiar = g_strconcat(tag->familiar_name, ":", tag->tag, NULL);
    struct image_store *images = push->registry->images;
    if (!tag->tag && !image_store_get(images, image, &tag->image, error))
        return false;
    if (tag->tag && !image_store_get(images, familiar, &tag->image, NULL))
        return error_set(error, TARE_ERROR_NOT_FOUND, "tag does not exist: %s", familiar);
    return image_store_config_text(images, tag->image, &tag->config, error) &&
           image_store_layers(images, tag->image, &tag->infos, &tag->n_layers, error) &&
           find_kept(push, tag->image, tag->n_layers, &tag->kept, &tag->wanted, &tag->manifests, error);
}

static bool push_layers_and_manifest(const struct teller *teller, struct tag_push *tag, GError **error)
{
    struct push *push = teller->push;
    g_autofree struct push_layer **layers = start_layers(push, teller, tag->infos, tag->n_layers, tag->wanted, error);
    return layers && watch_layers(teller, layers, tag->n_layers, error) && first_failure(layers, tag->n_layers, error) &&
           upload_text(push->session, tag->image->id, tag->config, strlen(tag->config), error) &&
           finish_tag(teller, tag, layers, error);
}

static bool push_tag(const struct teller *teller, const char *familiar_name, const char *tag_name, GError **error)
{
    struct push *push = teller->push;
    struct tag_push tag = { .tag = tag_name, .familiar_name = familiar_name };
    char id[IDENTIFIER_LENGTH + 1];
    identifier_new(id);
    g_autofree char *holder = g_strconcat("push/", id, NULL);
    bool ok = load_tag(push, &tag, teller->options->image, error) &&
              image_store_hold_layers(push->registry->images, holder, (const char *const *)tag.image->diff_ids, error);
    if (ok) {
        ok = push_layers_and_manifest(teller, &tag, error);
        if (!ok) /* layers that are still sent need what is held */
            cancel_push(push);
        for (size_t i = 0; i < tag.n_layers && !ok; i++)
            g_hash_table_remove(push->layers, tag.infos[i].diff_id);
        image_store_release_layers(push->registry->images, holder, NULL);
    }
    tag_push_clear(&tag);
    return ok;
}

/* ---- the push ---- */

static bool push_tags(const struct teller *teller, const char *familiar_name, GError **error)
{
    struct push *push = teller->push;
    g_auto(GStrv) tags = NULL;
    const char *wanted = teller->options->tag;
    if (!tell(teller, json_pack("{s:o}", "status", json_sprintf("The push refers to repository [%s]", push->repository)), error))
        return false;
    if (teller->options->image)
        return push_tag(teller, familiar_name, NULL, error);
    if (!image_store_tags(push->registry->images, familiar_name, &tags, error))
        return false;
    if (!tags[0])
        return error_set(error, TARE_ERROR_NOT_FOUND, "An image does not exist locally with the tag: %s", familiar_name);
    if (wanted)
        return push_tag(teller, familiar_name, wanted, error);
    for (char **tag = tags; *tag; tag++)
        if (!push_tag(teller, familiar_name, *tag, error))
            return false;
    return true;
}

static bool run_push(struct push *push, const struct registry_push_options *options, const struct reference *reference,
                     GError **error)
{
    struct teller teller = { .options = options, .push = push };
    g_autofree char *familiar = reference_familiar_name(reference);
    g_mutex_init(&push->lock);
    g_cond_init(&push->changed);
    push->repository = g_strconcat(reference->domain, "/", reference->path, NULL);
    push->layers = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, push_layer_free);
    push->encoders = layer_encoder_pool_new();
    bool ok = push_tags(&teller, familiar, error);
    if (!ok)
        cancel_push(push);
    g_hash_table_unref(push->layers);
    layer_encoder_pool_free(push->encoders);
    if (ok) {
        g_autofree char *name = options->tag ? g_strconcat(familiar, ":", options->tag, NULL) : g_strdup(familiar);
        g_autoptr(json_t) attributes = json_pack("{s:s}", "name", familiar);
        event_emit(push->registry->events, "image", "push", name, attributes);
    }
    g_free(push->repository);
    g_cond_clear(&push->changed);
    g_mutex_clear(&push->lock);
    return ok;
}

bool registry_push(struct registry *registry, const struct registry_push_options *options, GError **error)
{
    struct reference reference = { 0 };
    if (!reference_parse(options->name, &reference, error))
        return false;
    struct push push = { .registry = registry,
                         .auth = options->auth,
                         .auths = options->auths,
                         .cancel = cancel_new(),
                         .encoding = options->use_zstd ? LAYER_ENCODING_ZSTD : LAYER_ENCODING_GZIP };
    bool ok = !reference.digest || error_set(error, TARE_ERROR_INVALID, "cannot push a digest reference");
    ok = ok && registry_session_new(registry, &reference, options->auth, REGISTRY_PUSH, push.cancel, &push.session, error) &&
         run_push(&push, options, &reference, error);
    if (!ok)
        session_name_error(push.session, error);
    registry_session_free(push.session);
    cancel_unref(push.cancel);
    reference_clear(&reference);
    return ok;
}
