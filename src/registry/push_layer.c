/* One layer of a push: found at the target, taken over from a repository beside it, or sent. */
#include "registry/registry-internal.h"

#include "base/fd.h"

#include <string.h>

enum { CHECKS_MAX = 5, MOUNTS_MAX = 4 };

static void set_phase(struct push_layer *layer, enum push_phase phase)
{
    g_mutex_lock(&layer->push->lock);
    layer->phase = phase;
    g_cond_broadcast(&layer->push->changed);
    g_mutex_unlock(&layer->push->lock);
}

static bool settle(struct push_layer *layer, enum push_phase phase, const char *digest, guint64 size, const char *media_type)
{
    g_strlcpy(layer->digest, digest, sizeof layer->digest);
    layer->size = size;
    layer->media_type = g_strdup(media_type);
    set_phase(layer, phase);
    return true;
}

/* ---- places among those that are sent ---- */

static bool take_place(struct push_layer *layer, GError **error)
{
    struct push *push = layer->push;
    bool waits;
    g_mutex_lock(&push->lock);
    while ((waits = push->n_sending >= push->registry->max_uploads) && !cancel_is_set(push->cancel)) {
        layer->phase = PUSH_WAITING;
        g_cond_broadcast(&push->changed);
        g_cond_wait_until(&push->changed, &push->lock, g_get_monotonic_time() + G_USEC_PER_SEC / 5);
    }
    if (!waits) {
        push->n_sending++;
        layer->phase = PUSH_ASKING;
    }
    g_mutex_unlock(&push->lock);
    return !waits || cancel_check(push->cancel, error);
}

static void give_place(struct push *push)
{
    g_mutex_lock(&push->lock);
    push->n_sending--;
    g_cond_broadcast(&push->changed);
    g_mutex_unlock(&push->lock);
}

/* ---- what is there already ---- */

static bool is_wanted(const struct push_layer *layer, const struct registry_blob *blob, bool only_wanted)
{
    if (only_wanted)
        return strcmp(blob->digest, layer->wanted.digest) == 0;
    return layer->push->encoding == LAYER_ENCODING_GZIP || strcmp(blob->media_type, MEDIA_OCI_LAYER_ZSTD) == 0;
}

static bool was_seen_before(const GPtrArray *blobs, guint i)
{
    for (guint j = 0; j < i; j++)
        if (strcmp(((struct registry_blob *)blobs->pdata[j])->digest, ((struct registry_blob *)blobs->pdata[i])->digest) == 0)
            return true;
    return false;
}

static bool check_blob(struct push_layer *layer, const struct registry_blob *blob, bool *ret_found, GError **error)
{
    bool exists;
    guint64 size;
    if (!upload_exists(layer->push->session, blob->digest, &exists, &size, error))
        return false;
    *ret_found =
        exists && (size == 0 || size == blob->size) && settle(layer, PUSH_EXISTS, blob->digest, blob->size, blob->media_type);
    return true;
}

static bool look_there(struct push_layer *layer, const GPtrArray *blobs, bool only_wanted, bool *ret_found, GError **error)
{
    unsigned n = 0;
    *ret_found = false;
    if (only_wanted)
        return check_blob(layer, &layer->wanted, ret_found, error);
    for (guint i = 0; i < blobs->len && n < CHECKS_MAX && !*ret_found; i++) {
        const struct registry_blob *blob = blobs->pdata[i];
        if (!is_wanted(layer, blob, only_wanted) || was_seen_before(blobs, i))
            continue;
        n++;
        if (!check_blob(layer, blob, ret_found, error))
            return false;
    }
    return true;
}

/* The path of a repository on the same registry as the target and not the target; NULL otherwise. */
static const char *neighbour(const struct push_layer *layer, const struct registry_blob *blob)
{
    const char *host = registry_session_host(layer->push->session);
    size_t length = strlen(host);
    if (strncmp(blob->repository, host, length) != 0 || blob->repository[length] != '/' ||
        strcmp(blob->repository, layer->push->repository) == 0)
        return NULL;
    return blob->repository + length + 1;
}

/* A registry that does not let us is no obstacle: the layer is sent then. *ret_location: an upload that has begun instead. */
static bool take_over(struct push_layer *layer, const GPtrArray *blobs, bool only_wanted, char **ret_location)
{
    unsigned n = 0;
    for (guint i = 0; i < blobs->len && n < MOUNTS_MAX; i++) {
        const struct registry_blob *blob = blobs->pdata[i];
        const char *from = neighbour(layer, blob);
        bool mounted = false;
        if (!from || !is_wanted(layer, blob, only_wanted))
            continue;
        n++;
        g_autofree char *scope = g_strconcat("repository:", from, ":pull", NULL), *location = NULL;
        registry_session_add_scope(layer->push->session, scope);
        if (upload_mount(layer->push->session, blob->digest, from, &mounted, &location, NULL) && mounted) {
            g_mutex_lock(&layer->push->lock);
            layer->mounted_from = g_strdup(from);
            g_mutex_unlock(&layer->push->lock);
            return settle(layer, PUSH_MOUNTED, blob->digest, blob->size, blob->media_type);
        }
        if (location && !*ret_location)
            *ret_location = g_steal_pointer(&location);
    }
    return false;
}

/* ---- sending ---- */

struct encoded_content {
    struct upload_content content;
    struct push_layer *layer;
    int tar;
    enum layer_encoding encoding;
    struct layer_encoder *encoder;
};

static bool open_encoded(struct upload_content *self, struct byte_source **ret, GError **error)
{
    struct encoded_content *content = (struct encoded_content *)self;
    struct push *push = content->layer->push;
    layer_encoder_free(content->encoder);
    content->encoder =
        layer_encoder_new(push->encoders, content->tar, content->layer->info.tar_bytes, content->encoding, push->cancel);
    *ret = layer_encoder_source(content->encoder);
    return true;
}

void push_layer_show(struct push_layer *layer, guint64 current, guint64 total)
{
    g_mutex_lock(&layer->push->lock);
    layer->phase = PUSH_SENDING;
    layer->current = current;
    layer->total = total;
    g_mutex_unlock(&layer->push->lock);
}

static void show_encoded(void *user, guint64 sent)
{
    struct encoded_content *content = user;
    push_layer_show(content->layer, layer_encoder_consumed(content->encoder), content->layer->info.tar_bytes);
}

void push_layer_show_retrying(struct push_layer *layer, unsigned seconds)
{
    g_mutex_lock(&layer->push->lock);
    layer->phase = PUSH_RETRYING;
    layer->retry_seconds = seconds;
    g_cond_broadcast(&layer->push->changed);
    g_mutex_unlock(&layer->push->lock);
}

static void encoded_retrying(void *user, unsigned seconds)
{
    push_layer_show_retrying(((struct encoded_content *)user)->layer, seconds);
}

static bool send_encoded(struct push_layer *layer, enum layer_encoding encoding, const char *location, GError **error)
{
    struct push *push = layer->push;
    const char *media_type = encoding == LAYER_ENCODING_ZSTD ? MEDIA_OCI_LAYER_ZSTD : MEDIA_DOCKER_LAYER;
    g_autofd int tar = layer_store_open_tar(push->registry->layers, layer->info.diff_id, error);
    if (tar < 0)
        return false;
    struct encoded_content content = { .content.open = open_encoded, .layer = layer, .tar = tar, .encoding = encoding };
    const struct upload upload = { .session = push->session,
                                   .content = &content.content,
                                   .location = location,
                                   .progress = show_encoded,
                                   .retrying = encoded_retrying,
                                   .user = &content };
    char digest[DIGEST_ROOM];
    guint64 size;
    bool ok = upload_blob(&upload, digest, &size, error);
    layer_encoder_free(content.encoder);
    /* Ours, and the same at any time: what it is called is worth knowing before the next push. */
    return ok && registry_note_blob(push->registry, layer->info.diff_id, digest, size, media_type, "", error) &&
           settle(layer, PUSH_PUSHED, digest, size, media_type);
}

static bool was_made_here(const struct push_layer *layer, const GPtrArray *blobs)
{
    for (guint i = 0; i < blobs->len; i++) {
        const struct registry_blob *blob = blobs->pdata[i];
        if (!*blob->repository && strcmp(blob->digest, layer->wanted.digest) == 0)
            return true;
    }
    return false;
}

/* ---- the whole ---- */

/* The very blob of the manifest that is kept. False in *ret_done where it cannot be had. */
static bool bring_wanted(struct push_layer *layer, const GPtrArray *blobs, char **location, bool *ret_done, GError **error)
{
    if (!look_there(layer, blobs, true, ret_done, error))
        return false;
    *ret_done = *ret_done || take_over(layer, blobs, true, location);
    if (*ret_done)
        return true;
    if (!was_made_here(layer, blobs))
        return push_from_source(layer, blobs, *location, ret_done, error) &&
               (!*ret_done || settle(layer, PUSH_PUSHED, layer->wanted.digest, layer->wanted.size, layer->wanted.media_type));
    bool is_zstd = strcmp(layer->wanted.media_type, MEDIA_OCI_LAYER_ZSTD) == 0;
    *ret_done = true;
    return send_encoded(layer, is_zstd ? LAYER_ENCODING_ZSTD : LAYER_ENCODING_GZIP, *location, error);
}

static bool bring_any(struct push_layer *layer, const GPtrArray *blobs, char **location, GError **error)
{
    bool found;
    if (!look_there(layer, blobs, false, &found, error))
        return false;
    return found || take_over(layer, blobs, false, location) || send_encoded(layer, layer->push->encoding, *location, error);
}

static bool bring(struct push_layer *layer, GError **error)
{
    g_autoptr(GPtrArray) blobs = NULL;
    g_autofree char *location = NULL;
    bool done = false;
    if (!registry_blobs_of_layer(layer->push->registry, layer->info.diff_id, &blobs, error) ||
        (layer->has_wanted && !bring_wanted(layer, blobs, &location, &done, error)))
        return false;
    return (done || bring_any(layer, blobs, &location, error)) &&
           registry_note_blob(layer->push->registry, layer->info.diff_id, layer->digest, layer->size, layer->media_type,
                              layer->push->repository, error);
}

static gpointer run(gpointer data)
{
    struct push_layer *layer = data;
    bool ok = take_place(layer, &layer->error);
    if (ok) {
        ok = bring(layer, &layer->error);
        give_place(layer->push);
    }
    if (!ok) {
        cancel_trigger(layer->push->cancel);
        set_phase(layer, PUSH_FAILED);
    }
    return NULL;
}

struct push_layer *push_layer_new(struct push *push, const struct layer_info *info, const struct registry_blob *wanted)
{
    struct push_layer *layer = g_new0(struct push_layer, 1);
    layer->push = push;
    layer->info = *info;
    if (wanted) {
        layer->has_wanted = true;
        layer->wanted = *wanted;
        layer->wanted.media_type = g_strdup(wanted->media_type);
    }
    layer->thread = g_thread_new("push", run, layer);
    return layer;
}

void push_layer_free(gpointer data)
{
    struct push_layer *layer = data;
    g_thread_join(layer->thread);
    g_free(layer->wanted.media_type);
    cancel_unref(layer->fetch_cancel);
    g_free(layer->mounted_from);
    g_free(layer->media_type);
    g_clear_error(&layer->error);
    g_free(layer);
}
