/* Contexts that clients sent before: a chain of layers and the listing of the directory that they show, by a key of the client's,
 * so that the next build is sent only what has changed. */
#include "base/identifier.h"
#include "base/timestamp.h"
#include "build/build-internal.h"

#include <string.h>

#define UPLOADS_MAX 64 /* announced and not yet sent */
#define UPLOAD_AGE_S G_GINT64_CONSTANT(3600)

/* A context that was announced, and what is known about it. */
struct context_upload {
    char *id, *key, *holder;
    char **layers; /* what the new one is built on */
    struct context_files *files;
    GPtrArray *removed; /* paths, owned */
    bool is_named;      /* see struct builder_announcement */
    bool needs_layer;   /* something is to come, or to go */
    bool is_whole;      /* it came: a named context */
    gint64 since;
};

static void upload_free(struct context_upload *upload)
{
    g_free(upload->id);
    g_free(upload->key);
    g_free(upload->holder);
    g_strfreev(upload->layers);
    context_files_unref(upload->files);
    g_ptr_array_unref(upload->removed);
    g_free(upload);
}

/* ---- files: a listing, and the digests of contents that were read ---- */

struct context_files *context_files_new(struct listing *listing)
{
    struct context_files *files = g_new0(struct context_files, 1);

    files->references = 1;
    files->listing = listing;
    for (guint i = 0; i < listing->entries->len; i++) {
        struct listing_facts facts;

        if (listing_read_facts(g_array_index(listing->entries, struct listing_entry, i).facts, &facts))
            files->bytes += MIN(facts.size, G_MAXUINT64 - files->bytes);
    }
    files->digests = g_malloc0((gsize)MAX(listing->entries->len, 1) * CONTEXT_DIGEST_SIZE);
    g_mutex_init(&files->lock);
    return files;
}

void context_files_unref(struct context_files *files)
{
    if (!files || !g_atomic_int_dec_and_test(&files->references))
        return;
    listing_free(files->listing);
    g_free(files->digests);
    g_mutex_clear(&files->lock);
    g_free(files);
}

/* ---- uploads ---- */

static gint older_first(gconstpointer a, gconstpointer b)
{
    const struct context_upload *first = *(struct context_upload *const *)a, *second = *(struct context_upload *const *)b;

    return first->since < second->since ? -1 : first->since > second->since;
}

static void drop_upload(struct builder *builder, struct context_upload *upload)
{
    image_store_release_layers(builder->images, upload->holder, NULL);
    upload_free(upload);
}

/* Those that nobody came back to. */
static void drop_old_uploads(struct builder *builder, guint keep, gint64 before)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    GHashTableIter iter;
    gpointer upload;

    g_mutex_lock(&builder->contexts_lock);
    g_hash_table_iter_init(&iter, builder->uploads);
    while (g_hash_table_iter_next(&iter, NULL, &upload))
        g_ptr_array_add(all, upload);
    g_ptr_array_sort(all, older_first);
    for (guint i = 0; i < all->len; i++) {
        struct context_upload *old = all->pdata[i];

        if (i + keep < all->len || old->since < before) {
            g_hash_table_remove(builder->uploads, old->id);
            drop_upload(builder, old);
        }
    }
    g_mutex_unlock(&builder->contexts_lock);
}

static struct context_upload *upload_new(const char *key)
{
    struct context_upload *upload = g_new0(struct context_upload, 1);
    char id[IDENTIFIER_LENGTH + 1];

    identifier_new(id);
    upload->id = g_strdup(id);
    upload->key = g_strdup(key);
    upload->holder = g_strconcat("build/context-", id, NULL);
    upload->removed = g_ptr_array_new_with_free_func(g_free);
    upload->since = g_get_monotonic_time();
    return upload;
}

static void remember_upload(struct builder *builder, struct context_upload *upload)
{
    drop_old_uploads(builder, UPLOADS_MAX, upload->since - UPLOAD_AGE_S * G_USEC_PER_SEC);
    g_mutex_lock(&builder->contexts_lock);
    g_hash_table_insert(builder->uploads, upload->id, upload);
    g_mutex_unlock(&builder->contexts_lock);
}

/* No whiteout can say that a name is gone which is one itself. */
static bool can_be_removed(const GPtrArray *removed)
{
    for (guint i = 0; i < removed->len; i++)
        if (g_str_has_prefix(removed->pdata[i], ".wh.") || strstr(removed->pdata[i], "/.wh."))
            return false;
    return true;
}

/* What the record has already; false where all has to come. */
static bool build_on_record(struct builder *builder, struct context_upload *upload, GArray *needed)
{
    g_autoptr(GArray) kept = g_array_new(FALSE, FALSE, sizeof(struct listing_pair));
    g_autoptr(GPtrArray) removed = g_ptr_array_new();
    struct listing *new = upload->files->listing;
    struct context_record record = { 0 };
    bool good = context_record_read(builder, upload->key, &record) &&
                image_store_hold_layers(builder->images, upload->holder, (const char *const *)record.layers, NULL);

    if (good) {
        listing_diff(record.listing, new, needed, kept, removed);
        good = kept->len > 0 && can_be_removed(removed);
    }
    for (guint i = 0; good && i < kept->len; i++) {
        const struct listing_pair *pair = &g_array_index(kept, struct listing_pair, i);

        memcpy(upload->files->digests + (gsize)pair->new *CONTEXT_DIGEST_SIZE,
               record.digests + (gsize)pair->old * CONTEXT_DIGEST_SIZE, CONTEXT_DIGEST_SIZE);
    }
    for (guint i = 0; good && i < removed->len; i++)
        g_ptr_array_add(upload->removed, g_strdup(removed->pdata[i]));
    if (good)
        upload->layers = g_steal_pointer(&record.layers);
    context_record_clear(&record);
    return good;
}

/* All of it, also what is there: else it would grow past the limit by one build after the other. */
static bool check_size(const struct builder *builder, const struct context_files *files, GError **error)
{
    guint64 most = layer_store_max_bytes(builder->layers), blocks = ((guint64)files->listing->entries->len + 1) * 1024;

    /* Nearly every context is far below, and hard links need no second look. */
    return (files->bytes < most && blocks <= most - files->bytes) ||
           build_context_check_size(builder, listing_tar_bytes(files->listing), error);
}

bool builder_announce_context(struct builder *builder, const struct builder_announcement *announcement, json_t **ret,
                              GError **error)
{
    g_autoptr(GArray) needed = g_array_new(FALSE, FALSE, sizeof(guint));
    g_autofree char *key = g_strconcat(announcement->is_named ? "named:" : "", announcement->key, NULL);
    struct context_upload *upload;
    struct listing *listing;
    json_t *indices;
    bool all;

    if (!listing_parse(announcement->data, announcement->length, &listing, error))
        return false;
    upload = upload_new(key);
    upload->is_named = announcement->is_named;
    upload->files = context_files_new(listing);
    if (!check_size(builder, upload->files, error)) {
        upload_free(upload);
        return false;
    }
    all = !build_on_record(builder, upload, needed);
    upload->needs_layer = all || needed->len > 0 || upload->removed->len > 0;
    indices = json_array();
    for (guint i = 0; !all && i < needed->len; i++)
        json_array_append_new(indices, json_integer(g_array_index(needed, guint, i)));
    *ret = json_pack("{s:s, s:b, s:b, s:o}", "Id", upload->id, "All", all, "Nothing", !upload->needs_layer, "Need", indices);
    remember_upload(builder, upload);
    return true;
}

/* A layer of whiteouts for what is gone. */
static bool remove_paths(struct builder *builder, const struct context_upload *upload, const char *holder, GPtrArray *layers,
                         GError **error)
{
    struct image_layer_claim claim;
    struct layer_draft *draft;
    struct layer_info info;
    bool good = true;

    if (upload->removed->len == 0)
        return true;
    if (!layer_draft_new(builder->layers, &draft, error))
        return false;
    for (guint i = 0; good && i < upload->removed->len; i++) {
        const char *path = upload->removed->pdata[i], *slash = strrchr(path, '/');
        struct tar_entry entry = { .mode = S_IFREG | 0600 };

        entry.path =
            slash ? g_strdup_printf("%.*s/.wh.%s", (int)(slash - path), path, slash + 1) : g_strconcat(".wh.", path, NULL);
        good = tar_writer_entry(layer_draft_writer(draft), &entry, error);
        tar_entry_clear(&entry);
    }
    if (!good) {
        layer_draft_discard(draft);
        return false;
    }
    image_layer_claim_init(&claim, builder->images, holder);
    layer_draft_set_claim(draft, &claim.claim);
    if (!layer_draft_commit(draft, &info, error))
        return false;
    g_ptr_array_add(layers, g_strdup(info.diff_id));
    return true;
}

/* What comes is a tree of files, where ".wh." names are names, as they are in Docker's contexts; but a named one may become an
 * image's layer. */
static bool take_body(struct builder *builder, const struct context_upload *upload, struct byte_source *body, const char *holder,
                      struct cancel *cancel, GPtrArray *layers, GError **error)
{
    struct image_layer_claim claim;
    struct layer_ingest_options options = {
        .name = "build context", .is_tree = !upload->is_named, .claim = &claim.claim, .cancel = cancel
    };
    struct layer_info info;

    image_layer_claim_init(&claim, builder->images, holder);
    if (!layer_store_ingest(builder->layers, body, &options, &info, error))
        return false;
    g_ptr_array_add(layers, g_strdup(info.diff_id));
    return true;
}

static bool add_layers(struct builder *builder, struct context_upload *upload, struct byte_source *body, const char *holder,
                       struct cancel *cancel, GError **error)
{
    g_autoptr(GPtrArray) layers = g_ptr_array_new_with_free_func(g_free);

    for (char **layer = upload->layers; layer && *layer; layer++)
        g_ptr_array_add(layers, g_strdup(*layer));
    if (upload->needs_layer && (!take_body(builder, upload, body, holder, cancel, layers, error) ||
                                !remove_paths(builder, upload, holder, layers, error)))
        return false;
    g_ptr_array_add(layers, NULL);
    g_strfreev(upload->layers);
    upload->layers = (char **)g_ptr_array_free(g_steal_pointer(&layers), FALSE);
    return true;
}

static struct context_upload *take_upload(struct builder *builder, const char *id, GError **error)
{
    struct context_upload *upload;

    g_mutex_lock(&builder->contexts_lock);
    upload = g_hash_table_lookup(builder->uploads, id);
    if (upload)
        g_hash_table_remove(builder->uploads, id);
    g_mutex_unlock(&builder->contexts_lock);
    if (!upload)
        error_set(error, TARE_ERROR_NOT_FOUND, "no such build context: %s", id);
    return upload;
}

/* The build takes the upload over: what it stands on, then what comes with the body. */
static bool open_upload(struct builder *builder, struct context_upload *upload, struct byte_source *body, const char *holder,
                        struct cancel *cancel, struct build_context *context, GError **error)
{
    const char *const *layers;

    if (upload->layers && !image_store_hold_layers(builder->images, holder, (const char *const *)upload->layers, error))
        return false;
    if (!add_layers(builder, upload, body, holder, cancel, error))
        return false;
    layers = (const char *const *)upload->layers;
    if (!layer_chain_prepare(builder->layers, layers, error) ||
        !layer_stack_acquire(builder->layers, layers, &context->stack, error))
        return false;
    context->root_fd = layer_stack_mount(context->stack, error);
    if (context->root_fd < 0)
        return false;
    context->files = context_files_ref(upload->files);
    context->key = g_strdup(upload->key);
    context->layers = g_strdupv(upload->layers);
    upload->files->changed = upload->needs_layer;
    return true;
}

bool context_store_open(struct builder *builder, const char *id, struct byte_source *body, const char *holder,
                        struct cancel *cancel, struct build_context *context, GError **error)
{
    struct context_upload *upload = take_upload(builder, id, error);
    bool good;

    if (!upload)
        return false;
    good = open_upload(builder, upload, body, holder, cancel, context, error);
    drop_upload(builder, upload);
    return good;
}

/* ---- named contexts ---- */

bool builder_upload_context(struct builder *builder, const char *id, struct byte_source *body, struct cancel *cancel,
                            json_t **ret, GError **error)
{
    struct context_upload *upload = id ? take_upload(builder, id, error) : upload_new(NULL);

    if (!upload)
        return false;
    if (id && !upload->is_named) {
        drop_upload(builder, upload);
        return error_set(error, TARE_ERROR_INVALID, "build context %s was not announced as a named one", id);
    }
    upload->is_named = true;
    upload->needs_layer |= !id;
    if (!add_layers(builder, upload, body, upload->holder, cancel, error)) {
        drop_upload(builder, upload);
        return false;
    }
    if (upload->files && upload->needs_layer)
        context_store_save(builder, upload->key, (const char *const *)upload->layers, upload->files);
    upload->is_whole = true;
    *ret = json_pack("{s:s}", "Id", upload->id);
    remember_upload(builder, upload);
    return true;
}

/* Several stages may ask for it, and others builds of the same client: it stays. */
bool context_store_share(struct builder *builder, const char *id, const char *holder, struct build_context *context,
                         GError **error)
{
    g_auto(GStrv) layers = NULL;
    struct context_upload *upload;

    g_mutex_lock(&builder->contexts_lock);
    upload = g_hash_table_lookup(builder->uploads, id);
    if (upload && upload->is_whole &&
        image_store_hold_layers(builder->images, holder, (const char *const *)upload->layers, error)) {
        layers = g_strdupv(upload->layers);
        context->layers = g_strdupv(upload->layers);
        context->files = upload->files ? context_files_ref(upload->files) : NULL;
    }
    g_mutex_unlock(&builder->contexts_lock);
    if (!layers)
        return error && *error ? false : error_set(error, TARE_ERROR_NOT_FOUND, "no such build context: %s", id);
    if (!layer_chain_prepare(builder->layers, (const char *const *)layers, error) ||
        !layer_stack_acquire(builder->layers, (const char *const *)layers, &context->stack, error))
        return false;
    context->root_fd = layer_stack_mount(context->stack, error);
    return context->root_fd >= 0;
}

void context_store_close(struct builder *builder)
{
    drop_old_uploads(builder, 0, G_MAXINT64);
    g_hash_table_unref(builder->uploads);
    g_mutex_clear(&builder->contexts_lock);
}

/* What was read of the context is known the next time. */
void context_store_finish(struct builder *builder, struct build_context *context)
{
    if (context->files && context->files->changed)
        context_store_save(builder, context->key, (const char *const *)context->layers, context->files);
    else if (context->files)
        database_run(builder->database, NULL, "UPDATE build_context SET used = ? WHERE key = ?", "is", timestamp_now(),
                     context->key);
}
