/* The blob that a layer came as is not kept; but where it came from may still give it. It goes through from one registry to the
 * other and is verified on the way. */
#include "registry/registry-internal.h"

#include <string.h>

struct source_content {
    struct upload_content content;
    struct registry_session *session;
    const char *digest;
    guint64 size;
    struct push_layer *layer; /* or NULL */
    struct fetch *fetch;
};

/* The fetch waits for nobody else's cancellation than its own: the push triggers that, too. */
static void set_cancel(struct source_content *content, struct cancel *cancel)
{
    struct push_layer *layer = content->layer;
    if (!layer) {
        cancel_unref(cancel);
        return;
    }
    g_mutex_lock(&layer->push->lock);
    cancel_unref(layer->fetch_cancel);
    layer->fetch_cancel = cancel;
    g_mutex_unlock(&layer->push->lock);
}

static void end_fetch(struct source_content *content)
{
    set_cancel(content, NULL);
    fetch_finish(content->fetch, false);
    content->fetch = NULL;
}

static bool open_source(struct upload_content *self, struct byte_source **ret, GError **error)
{
    struct source_content *content = (struct source_content *)self;
    struct registry *registry = content->session->registry;
    end_fetch(content);
    struct cancel *cancel = cancel_new();
    set_cancel(content, cancel_ref(cancel));
    const struct fetch_options options = { .session = content->session,
                                           .digest = content->digest,
                                           .size = content->size,
                                           .directory = registry->downloads,
                                           .max_attempts = registry->max_attempts,
                                           .cancel = cancel };
    bool ok = cancel_check(content->session->cancel, error) && fetch_start(&options, &content->fetch, error);
    cancel_unref(cancel);
    if (ok)
        *ret = fetch_source(content->fetch);
    return ok;
}

static void show(void *user, guint64 sent)
{
    struct source_content *content = user;
    push_layer_show(content->layer, sent, content->size);
}

static void retrying(void *user, unsigned seconds)
{
    push_layer_show_retrying(((struct source_content *)user)->layer, seconds);
}

static bool pass_on(struct source_content *content, struct registry_session *to, const char *location, GError **error)
{
    const struct upload upload = { .session = to,
                                   .content = &content->content,
                                   .digest = content->digest,
                                   .size = content->size,
                                   .location = location,
                                   .progress = content->layer ? show : NULL,
                                   .retrying = content->layer ? retrying : NULL,
                                   .user = content };
    char digest[DIGEST_ROOM];
    guint64 size;
    bool ok = upload_blob(&upload, digest, &size, error);
    end_fetch(content);
    return ok;
}

bool upload_through(struct registry_session *from, struct registry_session *to, const char *digest, guint64 size,
                    const char *location, GError **error)
{
    struct source_content content = { .content.open = open_source, .session = from, .digest = digest, .size = size };
    return pass_on(&content, to, location, error);
}

/* Credentials are for the target's registry: another one gets what the client has sent for it, or is asked as a stranger. */
static bool open_session(struct push_layer *layer, const struct reference *from, struct registry_session **ret, GError **error)
{
    struct push *push = layer->push;
    struct registry_auth other = { 0 };
    bool is_same = strcmp(from->domain, registry_session_host(push->session)) == 0;
    if (!is_same)
        registry_auth_find(push->auths, from->domain, &other);
    bool ok = registry_session_new(push->registry, from, is_same ? push->auth : &other, REGISTRY_PULL, push->cancel, ret, error);
    registry_auth_clear(&other);
    return ok;
}

static bool send_from(struct push_layer *layer, const struct reference *from, const char *location, GError **error)
{
    struct push *push = layer->push;
    struct source_content content = {
        .content.open = open_source, .layer = layer, .digest = layer->wanted.digest, .size = layer->wanted.size
    };
    bool is_there = false;
    guint64 size = 0;
    /* Asked first, so that no upload begins for what nobody has. */
    bool ok = open_session(layer, from, &content.session, error) &&
              upload_exists(content.session, content.digest, &is_there, &size, error) && is_there &&
              pass_on(&content, push->session, location, error);
    registry_session_free(content.session);
    return ok;
}

bool push_from_source(struct push_layer *layer, const GPtrArray *blobs, const char *location, bool *ret_done, GError **error)
{
    *ret_done = false;
    for (guint i = 0; i < blobs->len && !*ret_done; i++) {
        const struct registry_blob *blob = blobs->pdata[i];
        struct reference from = { 0 };
        if (strcmp(blob->digest, layer->wanted.digest) != 0 || strcmp(blob->repository, layer->push->repository) == 0 ||
            !*blob->repository || !reference_parse(blob->repository, &from, NULL))
            continue;
        *ret_done = send_from(layer, &from, location, NULL);
        reference_clear(&from);
        if (!*ret_done && !cancel_check(layer->push->cancel, error))
            return false;
    }
    return true;
}
