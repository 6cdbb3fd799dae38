/* docker load: docker-archives and OCI layouts. The archive is a stranger's tar: a confined worker reads its headers
 * (layer_archive_read), so that nothing here parses it. Its layers then go the usual way. */
#include "image/load-internal.h"

#include "base/digest.h"
#include "base/identifier.h"
#include "base/platform.h"

#include <string.h>

/* One image of an archive, whatever its format was. */
struct loaded_image {
    char *config_path;
    char **layer_paths;
    char **tags;  /* may be NULL */
    char *parent; /* the id of another image of the archive; may be NULL */
};

struct parent_link {
    char *id, *parent; /* may be NULL */
};

static void parent_link_free(gpointer data)
{
    struct parent_link *link = data;
    g_free(link->id);
    g_free(link->parent);
    g_free(link);
}

static void loaded_image_free(gpointer data)
{
    struct loaded_image *loaded = data;
    g_free(loaded->config_path);
    g_strfreev(loaded->layer_paths);
    g_strfreev(loaded->tags);
    g_free(loaded->parent);
    g_free(loaded);
}

bool load_say(struct loading *loading, json_t *message, GError **error)
{
    g_autofree char *text = json_text(message);
    g_autofree char *line = g_strconcat(text, "\r\n", NULL);
    json_decref(message);
    return sink_write(loading->progress, line, strlen(line), error);
}

bool load_stream_line(struct loading *loading, char *line, GError **error)
{
    g_autofree char *owned = line;
    return load_say(loading, json_pack("{s:o}", "stream", json_string_lossy(owned)), error);
}

static char *read_member(struct loading *loading, const char *path, GError **error)
{
    return layer_archive_text(loading->archive, path, MANIFEST_MAX, error);
}

json_t *load_read_json(struct loading *loading, const char *path, GError **error)
{
    g_autofree char *text = read_member(loading, path, error);
    return text ? json_parse(text, strlen(text), MANIFEST_MAX, path, error) : NULL;
}

/* ---- docker-archive ---- */

static bool parse_docker_manifest(const json_t *manifest, GPtrArray *images, GError **error)
{
    size_t i;
    json_t *item;
    if (!json_is_array(manifest))
        return error_set(error, TARE_ERROR_INVALID, "invalid manifest.json");
    json_array_foreach(manifest, i, item)
    {
        const char *config = json_get_string(item, "Config", NULL);
        const json_t *parent = json_object_get(item, "Parent");
        if (!config)
            return error_set(error, TARE_ERROR_INVALID, "invalid manifest.json: image %zu has no Config", i);
        if (parent && !json_is_string(parent) && !json_is_null(parent))
            return error_set(error, TARE_ERROR_INVALID, "invalid manifest.json: the Parent of image %zu is not a string", i);
        struct loaded_image *loaded = g_new0(struct loaded_image, 1);
        g_ptr_array_add(images, loaded);
        loaded->config_path = g_strdup(config);
        loaded->layer_paths = json_string_array(json_get_array(item, "Layers"));
        loaded->tags = json_string_array(json_get_array(item, "RepoTags"));
        loaded->parent = g_strdup(json_string_value(parent));
    }
    return true;
}

/* ---- OCI layout ---- */

static char *blob_path(const json_t *entry, GError **error)
{
    const char *digest = json_get_string(entry, "digest", NULL);
    if (digest && digest_is_valid(digest))
        return g_strconcat("blobs/sha256/", digest_hex(digest), NULL);
    error_set(error, TARE_ERROR_INVALID, "invalid digest in the image layout");
    return NULL;
}

static char **layout_tags(const json_t *entry)
{
    const json_t *annotations = json_get_object(entry, "annotations");
    const char *name = json_get_string(annotations, "io.containerd.image.name", NULL);
    if (!name)
        name = json_get_string(annotations, "org.opencontainers.image.ref.name", NULL);
    struct reference reference;
    if (!name || !reference_parse(name, &reference, NULL))
        return NULL;
    bool is_name = reference.tag != NULL;
    reference_clear(&reference);
    return is_name ? g_strdupv((char *[]){ (char *)name, NULL }) : NULL;
}

/* ---- which of several platforms ---- */

static bool is_attestation(const json_t *entry)
{
    return json_get_string(json_get_object(entry, "annotations"), "vnd.docker.reference.type", NULL) != NULL ||
           strcmp(json_get_string(json_get_object(entry, "platform"), "os", ""), "unknown") == 0;
}

static bool is_here(const struct loading *loading, const json_t *entry)
{
    g_autofree char *path = blob_path(entry, NULL);
    return path && layer_archive_has(loading->archive, path);
}

static unsigned score_of(const struct platform *wanted, const json_t *entry)
{
    struct platform given;
    platform_from_json(json_get_object(entry, "platform"), &given);
    unsigned score = platform_score(wanted, &given);
    platform_clear(&given);
    return score;
}

/* An index within the layout is one image for several platforms: the one asked for, else the host's, else the first that is in
 * the archive. Borrowed, or NULL. */
static const json_t *choose_platform(const struct loading *loading, const json_t *entries)
{
    struct platform host;
    const json_t *best = NULL, *first = NULL;
    unsigned best_score = 0;
    size_t i;
    json_t *entry;
    platform_parse(NULL, &host, NULL);
    json_array_foreach(entries, i, entry)
    {
        if (is_attestation(entry) || !is_here(loading, entry))
            continue;
        unsigned score = score_of(loading->platform ? loading->platform : &host, entry);
        if (score > best_score && (!loading->platform || score == PLATFORM_SAME)) {
            best = entry;
            best_score = score;
        }
        first = first ? first : entry;
    }
    platform_clear(&host);
    return best || loading->platform ? best : first;
}

static bool parse_layout_entry(struct loading *loading, const json_t *entry, char **tags, GPtrArray *images, unsigned depth,
                               GError **error);

static bool parse_layout_index(struct loading *loading, const json_t *index, char **tags, GPtrArray *images, unsigned depth,
                               GError **error)
{
    const json_t *entries = json_get_array(index, "manifests");
    if (depth > 0) {
        const json_t *chosen = choose_platform(loading, entries);
        if (!chosen && loading->platform)
            return true;
        return chosen ? parse_layout_entry(loading, chosen, tags, images, depth, error)
                      : error_set(error, TARE_ERROR_INVALID, "the image layout has an index without an image");
    }
    size_t i;
    json_t *entry;
    json_array_foreach(entries, i, entry)
    {
        g_auto(GStrv) names = layout_tags(entry);
        if (!is_attestation(entry) && !parse_layout_entry(loading, entry, names, images, depth, error))
            return false;
    }
    return true;
}

static bool take_manifest(const json_t *manifest, char **tags, GPtrArray *images, GError **error)
{
    struct loaded_image *loaded = g_new0(struct loaded_image, 1);
    g_ptr_array_add(images, loaded);
    loaded->config_path = blob_path(json_get_object(manifest, "config"), error);
    if (!loaded->config_path)
        return false;
    loaded->tags = g_strdupv(tags);
    GPtrArray *paths = g_ptr_array_new();
    size_t i;
    json_t *layer;
    bool ok = true;
    json_array_foreach(json_get_array(manifest, "layers"), i, layer)
    {
        char *layer_path = blob_path(layer, error);
        ok = layer_path != NULL;
        if (!ok)
            break;
        g_ptr_array_add(paths, layer_path);
    }
    g_ptr_array_add(paths, NULL);
    loaded->layer_paths = (char **)g_ptr_array_free(paths, FALSE);
    return ok;
}

static bool parse_layout_entry(struct loading *loading, const json_t *entry, char **tags, GPtrArray *images, unsigned depth,
                               GError **error)
{
    g_autofree char *path = blob_path(entry, error);
    g_autofree char *text = path ? read_member(loading, path, error) : NULL;
    g_autoptr(json_t) manifest = text ? json_parse(text, strlen(text), MANIFEST_MAX, path, error) : NULL;
    char digest[DIGEST_ROOM];
    if (!manifest)
        return false;
    digest_of(text, strlen(text), digest);
    if (strcmp(digest, json_get_string(entry, "digest", "")) != 0)
        return error_set(error, TARE_ERROR_INVALID, "%s has the digest %s", path, digest);
    if (json_get_array(manifest, "manifests") && json_get_array(manifest, "layers"))
        return error_set(error, TARE_ERROR_INVALID, "%s is a manifest and an index at once", path);
    if (!json_get_array(manifest, "manifests"))
        return take_manifest(manifest, tags, images, error);
    return depth < 2 ? parse_layout_index(loading, manifest, tags, images, depth + 1, error)
                     : error_set(error, TARE_ERROR_INVALID, "indexes are nested too deeply");
}

static bool parse_archive(struct loading *loading, GPtrArray *images, GError **error)
{
    if (layer_archive_has(loading->archive, "manifest.json")) {
        g_autoptr(json_t) manifest = load_read_json(loading, "manifest.json", error);
        return manifest && parse_docker_manifest(manifest, images, error);
    }
    if (layer_archive_has(loading->archive, "index.json")) {
        g_autoptr(json_t) index = load_read_json(loading, "index.json", error);
        return index && parse_layout_index(loading, index, NULL, images, 0, error);
    }
    return error_set(error, TARE_ERROR_INVALID, "open manifest.json: no such file or directory");
}

/* ---- registering ---- */

static bool show_layer(struct loading *loading, const char *id, guint64 current, guint64 total, GError **error)
{
    g_autofree char *short_id = g_strndup(id, IDENTIFIER_SHORT);
    return load_say(loading,
                    json_pack("{s:s, s:{s:I, s:I}, s:s}", "status", "Loading layer", "progressDetail", "current",
                              (json_int_t)current, "total", (json_int_t)total, "id", short_id),
                    error);
}

bool load_layer(struct loading *loading, const char *path, const char *diff_id, struct layer_info *ret, GError **error)
{
    if (diff_id && !digest_is_valid(diff_id))
        return error_set(error, TARE_ERROR_INVALID, "invalid diff id %s", diff_id);
    /* One that somebody removes just now is brought again. */
    if (diff_id && layer_store_info(loading->store->layers, diff_id, ret, NULL) &&
        image_store_hold_new_layer(loading->store, loading->holder, ret, NULL))
        return true;
    g_autofree char *name = g_strdup_printf("layer %s", diff_id ? diff_id : path);
    const struct layer_ingest_options options = {
        .name = name, .expected_diff_id = diff_id, .claim = &loading->claim.claim, .cancel = loading->cancel
    };
    if (!layer_archive_take(loading->archive, path, &options, ret, error))
        return false;
    bool shown = loading->quiet || g_hash_table_contains(loading->seen, digest_hex(ret->diff_id));
    return shown || show_layer(loading, digest_hex(ret->diff_id), ret->tar_bytes, ret->tar_bytes, error);
}

bool load_tell_moved(struct loading *loading, char *const *tags, const char *id, GError **error)
{
    for (; tags && *tags; tags++) {
        g_autoimage struct image *old = NULL;
        struct reference reference;
        if (!reference_parse(*tags, &reference, error))
            return false;
        reference_default_tag(&reference);
        g_autofree char *familiar = reference_familiar(&reference);
        reference_clear(&reference);
        if (!image_store_get(loading->store, familiar, &old, NULL) || strcmp(old->id, id) == 0 ||
            !g_strv_contains((const char *const *)old->repo_tags, familiar))
            continue;
        char *line =
            g_strdup_printf("The image %s already exists, renaming the old one with ID %s to empty string\n", familiar, old->id);
        if (!load_stream_line(loading, line, error))
            return false;
    }
    return true;
}

bool load_announce(struct loading *loading, char *const *tags, const struct image *image, GError **error)
{
    if (!tags || !*tags)
        return load_stream_line(loading, g_strdup_printf("Loaded image ID: %s\n", image->id), error);
    for (; *tags; tags++) {
        struct reference reference;
        if (!reference_parse(*tags, &reference, error))
            return false;
        g_autofree char *familiar = reference_familiar(&reference);
        reference_clear(&reference);
        if (!load_stream_line(loading, g_strdup_printf("Loaded image: %s\n", familiar), error))
            return false;
    }
    return true;
}

static bool check_os(const json_t *config, GError **error)
{
    const char *os = json_get_string(config, "os", "linux");
    return *os == '\0' || strcmp(os, "linux") == 0 || error_set(error, TARE_ERROR_INVALID, "cannot load %s image on linux", os);
}

static bool load_image(struct loading *loading, const struct loaded_image *loaded, GError **error)
{
    g_autofree char *text = read_member(loading, loaded->config_path, error);
    g_autoptr(json_t) config = text ? json_parse(text, strlen(text), MANIFEST_MAX, loaded->config_path, error) : NULL;
    if (!config || !check_os(config, error))
        return false;
    if (loading->platform && !image_is_for(config, loading->platform))
        return true;
    loading->n_loaded++;
    g_auto(GStrv) diff_ids = json_string_array(json_get_array(json_get_object(config, "rootfs"), "diff_ids"));
    guint n = diff_ids ? g_strv_length(diff_ids) : 0;
    guint n_paths = loaded->layer_paths ? g_strv_length(loaded->layer_paths) : 0;
    if (n > LAYERS_MAX)
        return error_set(error, TARE_ERROR_INVALID, "max depth exceeded");
    if (n != n_paths)
        return error_set(error, TARE_ERROR_INVALID, "invalid manifest, layers length mismatch: expected %u, got %u", n, n_paths);
    g_autofree struct layer_info *layers = g_new0(struct layer_info, n + 1);
    for (guint i = 0; i < n; i++)
        if (!load_layer(loading, loaded->layer_paths[i], diff_ids[i], &layers[i], error))
            return false;
    struct image_new_options options = { .config = config,
                                         .config_text = text,
                                         .raw_config = true,
                                         .layers = layers,
                                         .n_layers = n,
                                         .references = (const char *const *)loaded->tags };
    char id[DIGEST_ROOM];
    digest_of(text, strlen(text), id);
    g_autoimage struct image *image = NULL;
    struct parent_link *link = g_new0(struct parent_link, 1);
    link->id = g_strdup(id);
    link->parent = g_strdup(loaded->parent);
    g_ptr_array_add(loading->links, link);
    return load_tell_moved(loading, loaded->tags, id, error) && image_store_add(loading->store, &options, &image, error) &&
           load_announce(loading, loaded->tags, image, error);
}

/* A parent counts where the archive has it, too, whichever comes first; others say nothing, as in Docker. */
static bool link_parents(struct loading *loading, GError **error)
{
    g_autoptr(GHashTable) ids = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < loading->links->len; i++)
        g_hash_table_add(ids, ((const struct parent_link *)loading->links->pdata[i])->id);
    for (guint i = 0; i < loading->links->len; i++) {
        const struct parent_link *link = loading->links->pdata[i];
        if (link->parent && strcmp(link->parent, link->id) != 0 && g_hash_table_contains(ids, link->parent) &&
            !image_store_set_parent(loading->store, link->id, link->parent, error))
            return false;
    }
    return true;
}

/* Nothing that was asked for is there: said as moby does where images for several platforms are kept. */
static bool none_for_platform(const struct loading *loading, GError **error)
{
    g_autofree char *text = platform_text(loading->platform);
    return error_set(error, TARE_ERROR_NOT_FOUND, "no images providing the requested platform(s) found: [%s]", text);
}

static bool load_images(struct loading *loading, GError **error)
{
    g_autoptr(GPtrArray) images = g_ptr_array_new_with_free_func(loaded_image_free);
    if (!parse_archive(loading, images, error))
        return false;
    bool ok = true;
    for (guint i = 0; ok && i < images->len; i++)
        ok = cancel_check(loading->cancel, error) && load_image(loading, images->pdata[i], error);
    return ok && link_parents(loading, error);
}

static bool load_all(struct loading *loading, GError **error)
{
    bool ok = load_is_legacy(loading) ? load_legacy(loading, error) : load_images(loading, error);
    return ok && (!loading->platform || loading->n_loaded > 0 || none_for_platform(loading, error));
}

/* Layers are shown as they come where their name tells which they are; the rest when they are stored. */
static void show_arriving(void *user, const char *path, guint64 current, guint64 total)
{
    struct loading *loading = user;
    static const char prefix[] = "blobs/sha256/";
    if (loading->quiet || !g_str_has_prefix(path, prefix))
        return;
    const char *hex = path + strlen(prefix);
    g_hash_table_add(loading->seen, g_strdup(hex));
    show_layer(loading, hex, current, total, NULL); /* a client that is gone is found out by whoever reads from it */
}

bool image_load(struct image_store *store, struct byte_source *source, const struct image_load_options *options,
                struct byte_sink *progress, GError **error)
{
    char id[IDENTIFIER_LENGTH + 1];
    identifier_new(id);
    g_autofree char *holder = g_strconcat("load/", id, NULL);
    g_autoptr(GPtrArray) links = g_ptr_array_new_with_free_func(parent_link_free);
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    struct loading loading = { .store = store,
                               .progress = progress,
                               .cancel = options->cancel,
                               .holder = holder,
                               .platform = options->platform,
                               .quiet = options->quiet,
                               .links = links,
                               .seen = seen };
    image_layer_claim_init(&loading.claim, store, holder);
    const struct layer_archive_options archive = {
        .claim = &loading.claim.claim, .cancel = options->cancel, .progress = show_arriving, .user = &loading
    };
    bool ok = layer_archive_read(store->layers, source, &archive, &loading.archive, error);
    if (ok)
        ok = load_all(&loading, error);
    else if (!error_is(error ? *error : NULL, TARE_ERROR_CANCELLED))
        g_prefix_error(error, "image archive: ");
    layer_archive_free(loading.archive);
    image_store_release_layers(store, holder, NULL);
    return ok;
}
