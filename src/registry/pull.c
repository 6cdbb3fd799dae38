/* Pulling: manifest, config, then the layers that are missing, at the same time, and at the end one transaction that makes the
 * image visible. */
#include "registry/registry-internal.h"

#include "base/identifier.h"

#include <string.h>

enum { WATCH_US = 100000, TAGS_MAX = 100000, TAG_PAGES_MAX = 1000 };

/* A layer of the image as its pull sees it. */
struct pull_layer {
    struct descriptor blob;
    const char *diff_id;
    char id[IDENTIFIER_SHORT + 1];
    struct transfer *transfer; /* NULL: it is there already, or is brought by a lower one */
    struct transfer_status shown;
    bool checked, complete; /* what was said of it */
    bool done;
    struct layer_info info;
};

struct pull {
    struct registry *registry;
    const struct registry_pull_options *options;
    struct reference reference;
    struct registry_session *session;
    struct platform platform;
    char holder[5 + IDENTIFIER_LENGTH + 1];
    bool newer; /* something was brought or a name moved */
};

/* One image on its way. */
struct job {
    struct pull *pull;
    struct registry_manifest top, manifest; /* what the name means; the one for our platform (json is NULL where top is it) */
    struct descriptor config;
    char *config_text;
    json_t *config_json;
    char **diff_ids;
    struct pull_layer *layers;
    size_t n_layers;
};

static const struct registry_manifest *chosen(const struct job *job)
{
    return job->manifest.json ? &job->manifest : &job->top;
}

static void job_clear(struct job *job)
{
    for (size_t i = 0; i < job->n_layers; i++)
        if (job->layers[i].transfer)
            transfer_leave(job->layers[i].transfer);
    g_free(job->layers);
    g_strfreev(job->diff_ids);
    json_decref(job->config_json);
    g_free(job->config_text);
    registry_manifest_clear(&job->top);
    registry_manifest_clear(&job->manifest);
}

/* Takes the message. */
static bool say(const struct pull *pull, json_t *message, GError **error)
{
    bool ok = pull->options->message(pull->options->user, message, error);
    json_decref(message);
    if (!ok && error && !*error)
        error_set(error, TARE_ERROR_CANCELLED, "context canceled");
    return ok;
}

static bool say_text(const struct pull *pull, const char *prefix, const char *text, GError **error)
{
    g_autofree char *status = g_strconcat(prefix, text, NULL);
    return say(pull, progress_status(NULL, status), error);
}

/* ---- layers ---- */

/* The same layer may stand twice in an image: brought once. */
static const struct pull_layer *same_below(const struct job *job, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(job->layers[k].diff_id, job->layers[i].diff_id) == 0)
            return &job->layers[k];
    return NULL;
}

static bool join(struct job *job, struct pull_layer *layer, GError **error)
{
    const struct transfer_layer wanted = { layer->diff_id, layer->blob.digest, layer->blob.size };
    return transfer_join(job->pull->session, &wanted, &layer->transfer, error);
}

static bool begin_layer(struct job *job, size_t i, GError **error)
{
    struct pull *pull = job->pull;
    struct pull_layer *layer = &job->layers[i];
    g_autoptr(GError) missing = NULL;
    g_strlcpy(layer->id, digest_hex(layer->blob.digest), sizeof layer->id);
    layer->done = image_store_hold_known_layer(pull->registry->images, pull->holder, layer->diff_id, &layer->info, &missing);
    if (layer->done)
        return say(pull, progress_layer(layer->id, "Already exists"), error);
    if (!error_is(missing, TARE_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&missing));
        return false;
    }
    if (!say(pull, progress_layer(layer->id, "Pulling fs layer"), error))
        return false;
    return same_below(job, i) || join(job, layer, error);
}

static bool show_phase(const struct pull *pull, struct pull_layer *layer, const struct transfer_status *now, GError **error)
{
    struct transfer_status before = layer->shown;
    guint64 size = layer->blob.size;
    layer->shown = *now;
    if (now->phase == TRANSFER_WAITING && before.phase != TRANSFER_WAITING)
        return say(pull, progress_layer(layer->id, "Waiting"), error);
    if (now->phase == TRANSFER_RETRYING && (before.phase != TRANSFER_RETRYING || before.retry_seconds != now->retry_seconds)) {
        g_autofree char *text =
            g_strdup_printf("Retrying in %u second%s", now->retry_seconds, now->retry_seconds == 1 ? "" : "s");
        return say(pull, progress_layer(layer->id, text), error);
    }
    if (now->phase == TRANSFER_DOWNLOADING && now->fetched > 0 && now->fetched != before.fetched)
        return say(pull, progress_bytes(layer->id, "Downloading", now->fetched, size), error);
    bool is_here = now->phase == TRANSFER_EXTRACTING || now->phase == TRANSFER_DONE;
    if (is_here && !layer->checked) {
        layer->checked = true;
        if (!say(pull, progress_layer(layer->id, "Verifying Checksum"), error) ||
            !say(pull, progress_layer(layer->id, "Download complete"), error))
            return false;
    }
    if (is_here && !layer->complete && now->decoded > 0 && now->decoded != before.decoded)
        return say(pull, progress_bytes(layer->id, "Extracting", now->decoded, size), error);
    return true;
}

/* Whoever waited for another pull's transfer tries for himself when that one fails. */
static bool take_failure(struct job *job, struct pull_layer *layer, GError **error)
{
    bool was_own = transfer_is_own(layer->transfer, job->pull->session);
    g_autoptr(GError) problem = NULL;
    transfer_result(layer->transfer, &layer->info, &problem);
    if (was_own) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    transfer_leave(g_steal_pointer(&layer->transfer));
    layer->shown = (struct transfer_status){ 0 };
    return join(job, layer, error);
}

/* Held in this pull's name from here on, whatever becomes of the transfer's own hold. */
static bool take_layer(struct job *job, struct pull_layer *layer, GError **error)
{
    layer->done = transfer_result(layer->transfer, &layer->info, error) &&
                  image_store_hold_new_layer(job->pull->registry->images, job->pull->holder, &layer->info, error);
    job->pull->newer = true;
    return layer->done;
}

static bool watch_layer(struct job *job, size_t i, GError **error)
{
    struct pull_layer *layer = &job->layers[i];
    struct transfer_status now = { 0 };
    const struct pull_layer *below = layer->transfer || layer->done ? NULL : same_below(job, i);
    if (below) {
        layer->done = below->done;
        layer->info = below->info;
        return true;
    }
    if (!layer->transfer || layer->done)
        return true;
    transfer_get_status(layer->transfer, &now);
    if (!show_phase(job->pull, layer, &now, error))
        return false;
    if (now.phase == TRANSFER_FAILED)
        return take_failure(job, layer, error);
    return now.phase != TRANSFER_DONE || take_layer(job, layer, error);
}

/* Layers are said to be complete from the lowest up, as Docker's clients have always seen it. */
static bool show_complete(struct job *job, size_t *at, GError **error)
{
    for (; *at < job->n_layers && job->layers[*at].done; (*at)++) {
        struct pull_layer *layer = &job->layers[*at];
        bool was_there = !layer->transfer && !same_below(job, *at);
        layer->complete = true;
        if (!was_there && !say(job->pull, progress_layer(layer->id, "Pull complete"), error))
            return false;
    }
    return true;
}

static bool bring_layers(struct job *job, GError **error)
{
    struct pull *pull = job->pull;
    size_t complete = 0;
    for (size_t i = 0; i < job->n_layers; i++)
        if (!begin_layer(job, i, error))
            return false;
    for (;;) {
        if (!cancel_check(pull->options->cancel, error))
            return false;
        for (size_t i = 0; i < job->n_layers; i++)
            if (!watch_layer(job, i, error))
                return false;
        if (!show_complete(job, &complete, error))
            return false;
        if (complete == job->n_layers)
            return true;
        transfers_wait(pull->registry, WATCH_US);
    }
}

/* ---- the image ---- */

static char **make_names(const struct job *job)
{
    const struct reference *reference = &job->pull->reference;
    g_autofree char *name = reference_familiar_name(reference);
    GPtrArray *names = g_ptr_array_new();
    g_ptr_array_add(names, g_strconcat(name, "@", job->top.digest, NULL));
    if (reference->tag && !reference->digest)
        g_ptr_array_add(names, g_strconcat(name, ":", reference->tag, NULL));
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}

/* Whether all names of this pull mean the image already. */
static bool is_named(const struct job *job, char **names, bool *ret, GError **error)
{
    *ret = true;
    for (; *names; names++) {
        g_autofree char *id = NULL;
        if (!image_store_named(job->pull->registry->images, *names, &id, error))
            return false;
        *ret &= g_strcmp0(id, job->config.digest) == 0;
    }
    return true;
}

static bool register_image(struct job *job, char **names, GError **error)
{
    g_autofree struct layer_info *layers = g_new0(struct layer_info, job->n_layers + 1);
    for (size_t i = 0; i < job->n_layers; i++)
        layers[i] = job->layers[i].info;
    const struct image_new_options options = {
        .config = job->config_json,
        .config_text = job->config_text,
        .raw_config = true,
        .layers = layers,
        .n_layers = job->n_layers,
        .references = (const char *const *)names,
        .pulled = true,
    };
    return image_store_add(job->pull->registry->images, &options, NULL, error);
}

static bool note_pull(struct job *job, GError **error)
{
    struct pull *pull = job->pull;
    g_autofree char *repository = g_strconcat(pull->reference.domain, "/", pull->reference.path, NULL);
    g_autofree struct records_layer *layers = g_new0(struct records_layer, job->n_layers + 1);
    for (size_t i = 0; i < job->n_layers; i++) {
        const struct descriptor *blob = &job->layers[i].blob;
        layers[i] = (struct records_layer){ job->layers[i].diff_id, blob->digest, blob->media_type, blob->size };
    }
    return records_note_pull(pull->registry, layers, job->n_layers, repository, pull->holder, error);
}

static bool keep_manifests(struct job *job, GError **error)
{
    struct registry *registry = job->pull->registry;
    return registry_keep_manifest(registry, job->config.digest, &job->top, error) &&
           (!job->manifest.json || registry_keep_manifest(registry, job->config.digest, &job->manifest, error));
}

static bool read_layers(struct job *job, GError **error)
{
    g_autofree struct descriptor *blobs = NULL;
    struct registry_session *session = job->pull->session;
    if (!manifest_layers(chosen(job), &blobs, &job->n_layers, error)) {
        g_prefix_error(error, "%s/%s: ", session->domain, session->repository);
        return false;
    }
    job->layers = g_new0(struct pull_layer, job->n_layers + 1);
    for (size_t i = 0; i < job->n_layers; i++)
        job->layers[i].blob = blobs[i];
    return true;
}

static void set_diff_ids(struct job *job, char **diff_ids)
{
    job->diff_ids = diff_ids;
    for (size_t i = 0; i < job->n_layers; i++)
        job->layers[i].diff_id = diff_ids[i];
}

static bool fetch_config(struct job *job, GError **error)
{
    gsize length;
    char **diff_ids = NULL;
    struct registry_session *session = job->pull->session;
    if (!config_fetch(session, &job->config, &job->config_text, &length, error))
        return false;
    if (!config_parse(job->config_text, length, job->n_layers, &job->config_json, &diff_ids, error)) {
        g_prefix_error(error, "%s/%s: ", session->domain, session->repository);
        return false;
    }
    set_diff_ids(job, diff_ids);
    return true;
}

static bool bring_image(struct job *job, char **names, GError **error)
{
    bool ok = fetch_config(job, error) && bring_layers(job, error) && register_image(job, names, error);
    job->pull->newer |= ok;
    return ok && keep_manifests(job, error) && note_pull(job, error);
}

/* ---- manifests ---- */

/* Docker's choice of words for an image of one platform alone, when another one was asked for. */
static bool warn_of_platform(struct job *job, const struct image *image, GError **error)
{
    struct pull *pull = job->pull;
    struct platform actual;
    if (!pull->options->platform || !*pull->options->platform)
        return true;
    platform_from_json(image->config, &actual);
    bool ok = true;
    if (platform_score(&pull->platform, &actual) == 0) {
        g_autofree char *wanted_text = platform_text(&pull->platform), *actual_text = platform_text(&actual),
                        *familiar = reference_familiar(&pull->reference);
        g_autofree char *text = g_strdup_printf(
            "WARNING: image with reference %s was found but does not match the specified platform: wanted %s, actual: %s",
            familiar, wanted_text, actual_text);
        ok = say(pull, progress_status(NULL, text), error);
    }
    platform_clear(&actual);
    return ok;
}

static bool choose_manifest(struct job *job, GError **error)
{
    struct pull *pull = job->pull;
    struct descriptor entry;
    if (!job->top.is_index)
        return true;
    const json_t *found = platform_choose(job->top.json, &pull->platform);
    if (!found) {
        g_autofree char *text = platform_text(&pull->platform);
        return error_set(error, TARE_ERROR_NOT_FOUND, "no matching manifest for %s in the manifest list entries", text);
    }
    if (!descriptor_parse(found, REGISTRY_MANIFEST_MAX, &entry, error) ||
        !registry_get_manifest(pull->session, entry.digest, &job->manifest, error))
        return false;
    if (job->manifest.is_index)
        return error_set(error, TARE_ERROR_INVALID, "%s/%s: manifest %s is an index within an index, which is not supported",
                         pull->session->domain, pull->session->repository, entry.digest);
    return job->manifest.length == entry.size ||
           error_set(error, TARE_ERROR_INVALID,
                     "%s/%s: manifest %s has %" G_GSIZE_FORMAT " bytes and not the %" G_GUINT64_FORMAT " that its index says",
                     pull->session->domain, pull->session->repository, entry.digest, job->manifest.length, entry.size);
}

/* The image is there; its names may be new, and so may be where it is from. */
static bool settle_names(struct job *job, const struct image *image, char **names, GError **error)
{
    bool named;
    if (!is_named(job, names, &named, error))
        return false;
    job->pull->newer |= !named;
    if (!named && !image_store_put_names(job->pull->registry->images, job->config.digest, (const char *const *)names, error))
        return false;
    if (g_strv_length(image->diff_ids) != job->n_layers)
        return true; /* a manifest that lies about an image that is known */
    set_diff_ids(job, g_strdupv(image->diff_ids));
    return keep_manifests(job, error) && note_pull(job, error);
}

static bool run_job(struct job *job, GError **error)
{
    struct pull *pull = job->pull;
    const struct reference *reference = &pull->reference;
    const char *wanted = reference->digest ? reference->digest : reference->tag;
    g_autofree char *from = g_strconcat("Pulling from ", reference->path, NULL);
    if (!registry_get_manifest(pull->session, wanted, &job->top, error) || !say(pull, progress_status(wanted, from), error) ||
        !choose_manifest(job, error) || !manifest_config(chosen(job), &job->config, error) || !read_layers(job, error))
        return false;
    g_autoimage struct image *image = NULL;
    g_autoptr(GError) missing = NULL;
    g_auto(GStrv) names = make_names(job);
    bool was_there = image_store_get(pull->registry->images, job->config.digest, &image, &missing);
    if (!was_there && !error_is(missing, TARE_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&missing));
        return false;
    }
    bool ok = was_there ? settle_names(job, image, names, error) : bring_image(job, names, error);
    if (!ok || !say_text(pull, "Digest: ", job->top.digest, error))
        return false;
    return (image || image_store_get(pull->registry->images, job->config.digest, &image, error)) &&
           warn_of_platform(job, image, error);
}

static bool pull_one(struct pull *pull, GError **error)
{
    struct job job = { .pull = pull };
    bool ok = run_job(&job, error);
    job_clear(&job);
    return ok;
}

/* ---- all tags ---- */

static bool take_tags(const struct registry_response *response, GPtrArray *tags, GError **error)
{
    size_t i;
    json_t *tag;
    g_autoptr(json_t) object =
        json_parse(response->body, response->body_length, REGISTRY_MANIFEST_MAX, "invalid list of tags", error);
    if (!object)
        return false;
    json_array_foreach(json_get_array(object, "tags"), i, tag)
    {
        if (tags->len >= TAGS_MAX)
            return error_set(error, TARE_ERROR_TOO_LARGE, "too many tags");
        if (json_is_string(tag))
            g_ptr_array_add(tags, g_strdup(json_string_value(tag)));
    }
    return true;
}

/* 'Link: </v2/…?n=…&last=…>; rel="next"' */
static char *next_page(const struct registry_response *response)
{
    const char *link = registry_response_header(response, "link");
    if (!link || *link != '<' || !strstr(link, "rel=\"next\""))
        return NULL;
    return g_strndup(link + 1, strcspn(link + 1, ">"));
}

static bool list_tags(struct pull *pull, GPtrArray *tags, GError **error)
{
    g_autofree char *target = g_strdup("tags/list"), *base = NULL;
    for (unsigned page = 0; target; page++) {
        const struct registry_request request = { .method = "GET", .target = target, .base = base };
        struct registry_response response = { 0 };
        if (page == TAG_PAGES_MAX)
            return error_set(error, TARE_ERROR_TOO_LARGE, "too many pages of tags");
        if (!registry_request(pull->session, &request, &response, error))
            return false;
        bool ok = registry_response_check(pull->session, &response, "GET tags", error) && take_tags(&response, tags, error);
        g_free(target);
        target = ok ? next_page(&response) : NULL;
        g_free(base);
        base = g_strdup(response.url);
        registry_response_clear(&response);
        if (!ok)
            return false;
    }
    return true;
}

static bool pull_all(struct pull *pull, GError **error)
{
    g_autoptr(GPtrArray) tags = g_ptr_array_new_with_free_func(g_free);
    if (!list_tags(pull, tags, error))
        return false;
    if (tags->len == 0) {
        g_autofree char *name = reference_familiar_name(&pull->reference);
        return error_set(error, TARE_ERROR_NOT_FOUND, "no tags found for %s", name);
    }
    for (guint i = 0; i < tags->len; i++) {
        struct reference one = { 0 };
        g_autofree char *text = g_strconcat(pull->reference.domain, "/", pull->reference.path, ":", tags->pdata[i], NULL);
        if (!reference_parse(text, &one, error))
            return false;
        reference_clear(&pull->reference);
        pull->reference = one;
        if (!pull_one(pull, error))
            return false;
    }
    g_clear_pointer(&pull->reference.tag, g_free);
    return true;
}

/* ---- a request for a pull ---- */

static bool open_pull(struct pull *pull, GError **error)
{
    const struct registry_pull_options *options = pull->options;
    if (!reference_parse(options->reference, &pull->reference, error))
        return false;
    g_autofree char *name = reference_familiar_name(&pull->reference);
    if (strcmp(name, "scratch") == 0)
        return error_set(error, TARE_ERROR_FORBIDDEN, "'scratch' is a reserved name");
    if (!options->all_tags)
        reference_default_tag(&pull->reference);
    return platform_parse(options->platform, &pull->platform, error) &&
           registry_session_new(pull->registry, &pull->reference, options->auth, REGISTRY_PULL, options->cancel, &pull->session,
                                error);
}

static void emit_pull(const struct pull *pull)
{
    g_autofree char *familiar = reference_familiar(&pull->reference), *name = reference_familiar_name(&pull->reference);
    g_autoptr(json_t) attributes = json_pack("{s:s}", "name", name);
    event_emit(pull->registry->events, "image", "pull", familiar, attributes);
}

bool registry_pull(struct registry *registry, const struct registry_pull_options *options, GError **error)
{
    struct pull pull = { .registry = registry, .options = options };
    char id[IDENTIFIER_LENGTH + 1];
    identifier_new(id);
    g_snprintf(pull.holder, sizeof pull.holder, "pull/%s", id);
    transfers_expire(registry);
    bool ok = open_pull(&pull, error) && (options->all_tags ? pull_all(&pull, error) : pull_one(&pull, error));
    if (ok) {
        g_autofree char *familiar = reference_familiar(&pull.reference);
        ok = say_text(&pull, pull.newer ? "Status: Downloaded newer image for " : "Status: Image is up to date for ", familiar,
                      error);
        emit_pull(&pull);
    }
    if (!ok)
        session_name_error(pull.session, error);
    if (!ok && error)
        soften_unauthorized(error);
    image_store_release_layers(registry->images, pull.holder, NULL);
    registry_session_free(pull.session);
    platform_clear(&pull.platform);
    reference_clear(&pull.reference);
    return ok;
}
