/* docker load: docker-archives and OCI layouts. The archive is a stranger's tar: it is ingested like a layer, by the confined
 * workers, mounted, and read through its mount, so that nothing here parses it. Its own layers then go the usual way. */
#include "image/image-internal.h"

#include "base/digest.h"
#include "base/fd.h"
#include "base/identifier.h"
#include "base/root_path.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MANIFEST_MAX (16u << 20)
#define LAYERS_MAX 127

struct loading {
    struct image_store *store;
    struct byte_sink *progress;
    struct cancel *cancel;
    struct image_layer_claim claim;
    const char *holder;
    int root; /* the archive, mounted */
    bool quiet;
};

/* One image of an archive, whatever its format was. */
struct loaded_image {
    char *config_path;
    char **layer_paths;
    char **tags; /* may be NULL */
};

static void loaded_image_free(gpointer data)
{
    struct loaded_image *loaded = data;
    g_free(loaded->config_path);
    g_strfreev(loaded->layer_paths);
    g_strfreev(loaded->tags);
    g_free(loaded);
}

static bool say(struct loading *loading, json_t *message, GError **error)
{
    g_autofree char *text = json_text(message);
    g_autofree char *line = g_strconcat(text, "\r\n", NULL);
    json_decref(message);
    return sink_write(loading->progress, line, strlen(line), error);
}

static char *read_member(struct loading *loading, const char *path, GError **error)
{
    char *data = NULL;
    ssize_t n = root_read_file(loading->root, path, MANIFEST_MAX, &data);
    if (n < 0) {
        error_set(error, errno == ENOENT ? TARE_ERROR_NOT_FOUND : TARE_ERROR_INVALID, "open %s: %s", path,
                  error_errno_text(errno));
        return NULL;
    }
    char *text = g_strndup(data, (gsize)n);
    free(data);
    return text;
}

static json_t *read_json(struct loading *loading, const char *path, GError **error)
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
        if (!config)
            return error_set(error, TARE_ERROR_INVALID, "invalid manifest.json: image %zu has no Config", i);
        struct loaded_image *loaded = g_new0(struct loaded_image, 1);
        g_ptr_array_add(images, loaded);
        loaded->config_path = g_strdup(config);
        loaded->layer_paths = json_string_array(json_get_array(item, "Layers"));
        loaded->tags = json_string_array(json_get_array(item, "RepoTags"));
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

static bool parse_layout_entry(struct loading *loading, const json_t *entry, GPtrArray *images, unsigned depth, GError **error);

static bool parse_layout_index(struct loading *loading, const json_t *index, GPtrArray *images, unsigned depth, GError **error)
{
    size_t i;
    json_t *entry;
    json_array_foreach(json_get_array(index, "manifests"), i,
                       entry) if (!parse_layout_entry(loading, entry, images, depth, error)) return false;
    return true;
}

static bool parse_layout_entry(struct loading *loading, const json_t *entry, GPtrArray *images, unsigned depth, GError **error)
{
    g_autofree char *path = blob_path(entry, error);
    g_autoptr(json_t) manifest = path ? read_json(loading, path, error) : NULL;
    if (!manifest)
        return false;
    if (json_get_array(manifest, "manifests") && json_get_array(manifest, "layers"))
        return error_set(error, TARE_ERROR_INVALID, "%s is a manifest and an index at once", path);
    if (json_get_array(manifest, "manifests"))
        return depth < 2 ? parse_layout_index(loading, manifest, images, depth + 1, error)
                         : error_set(error, TARE_ERROR_INVALID, "indexes are nested too deeply");
    struct loaded_image *loaded = g_new0(struct loaded_image, 1);
    g_ptr_array_add(images, loaded);
    loaded->config_path = blob_path(json_get_object(manifest, "config"), error);
    if (!loaded->config_path)
        return false;
    loaded->tags = layout_tags(entry);
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

static bool parse_archive(struct loading *loading, GPtrArray *images, GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(json_t) manifest = read_json(loading, "manifest.json", &problem);
    if (manifest)
        return parse_docker_manifest(manifest, images, error);
    if (!error_is(problem, TARE_ERROR_NOT_FOUND))
        return g_propagate_error(error, g_steal_pointer(&problem)), false;
    g_autoptr(json_t) index = read_json(loading, "index.json", NULL);
    if (index)
        return parse_layout_index(loading, index, images, 0, error);
    return error_set(error, TARE_ERROR_INVALID, "open manifest.json: no such file or directory");
}

/* ---- registering ---- */

static bool load_layer(struct loading *loading, const char *path, const char *diff_id, struct layer_info *ret, GError **error)
{
    if (!digest_is_valid(diff_id))
        return error_set(error, TARE_ERROR_INVALID, "invalid diff id %s", diff_id);
    /* One that somebody removes just now is brought again. */
    if (layer_store_info(loading->store->layers, diff_id, ret, NULL) &&
        image_store_hold_new_layer(loading->store, loading->holder, ret, NULL))
        return true;
    g_autofd int fd = root_open(loading->root, path, O_RDONLY | O_NONBLOCK, 0);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set(error, TARE_ERROR_INVALID, "open %s: %s", path, error_errno_text(errno));
    if (!S_ISREG(st.st_mode))
        return error_set(error, TARE_ERROR_INVALID, "%s is not a regular file", path);
    struct fd_source source;
    fd_source_init(&source, fd, path);
    g_autofree char *name = g_strdup_printf("layer %s", diff_id);
    struct layer_ingest_options options = {
        .name = name, .expected_diff_id = diff_id, .claim = &loading->claim.claim, .cancel = loading->cancel
    };
    if (!layer_store_ingest(loading->store->layers, &source.source, &options, ret, error))
        return false;
    if (loading->quiet)
        return true;
    g_autofree char *short_id = g_strndup(digest_hex(diff_id), IDENTIFIER_SHORT);
    return say(loading,
               json_pack("{s:s, s:{s:I, s:I}, s:s}", "status", "Loading layer", "progressDetail", "current",
                         (json_int_t)st.st_size, "total", (json_int_t)st.st_size, "id", short_id),
               error);
}

static bool announce(struct loading *loading, const struct loaded_image *loaded, const struct image *image, GError **error)
{
    char **tags = loaded->tags;
    if (!tags || !*tags)
        return say(loading, json_pack("{s:o}", "stream", json_sprintf("Loaded image ID: %s\n", image->id)), error);
    for (; *tags; tags++) {
        struct reference reference;
        if (!reference_parse(*tags, &reference, error))
            return false;
        g_autofree char *familiar = reference_familiar(&reference);
        reference_clear(&reference);
        if (!say(loading, json_pack("{s:o}", "stream", json_sprintf("Loaded image: %s\n", familiar)), error))
            return false;
    }
    return true;
}

static bool load_image(struct loading *loading, const struct loaded_image *loaded, GError **error)
{
    g_autofree char *text = read_member(loading, loaded->config_path, error);
    g_autoptr(json_t) config = text ? json_parse(text, strlen(text), MANIFEST_MAX, loaded->config_path, error) : NULL;
    if (!config)
        return false;
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
    g_autoimage struct image *image = NULL;
    return image_store_add(loading->store, &options, &image, error) && announce(loading, loaded, image, error);
}

static bool load_all(struct loading *loading, const struct layer_info *archive, GError **error)
{
    const char *chain[] = { archive->diff_id, NULL };
    struct layer_stack *stack = NULL;
    if (!layer_stack_acquire(loading->store->layers, chain, &stack, error))
        return false;
    loading->root = layer_stack_mount(stack, error);
    g_autoptr(GPtrArray) images = g_ptr_array_new_with_free_func(loaded_image_free);
    bool ok = loading->root >= 0 && parse_archive(loading, images, error);
    for (guint i = 0; ok && i < images->len; i++)
        ok = cancel_check(loading->cancel, error) && load_image(loading, images->pdata[i], error);
    fd_close(loading->root);
    layer_stack_release(stack);
    return ok;
}

bool image_load(struct image_store *store, struct byte_source *source, bool quiet, struct byte_sink *progress,
                struct cancel *cancel, GError **error)
{
    char id[IDENTIFIER_LENGTH + 1];
    identifier_new(id);
    g_autofree char *holder = g_strconcat("load/", id, NULL);
    struct loading loading = { .store = store, .progress = progress, .cancel = cancel, .holder = holder, .quiet = quiet };
    image_layer_claim_init(&loading.claim, store, holder);
    struct layer_ingest_options options = { .name = "image archive", .claim = &loading.claim.claim, .cancel = cancel };
    struct layer_info archive;
    bool ok = layer_store_ingest(store->layers, source, &options, &archive, error) && load_all(&loading, &archive, error);
    image_store_release_layers(store, holder, NULL);
    return ok;
}
