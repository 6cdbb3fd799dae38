/* docker save: one archive that is both an OCI layout and a docker-archive, the same bytes for the same images (docs/FORMAT.md).
 */
#include "image/image-internal.h"

#include "base/digest.h"
#include "base/fd.h"

#include <string.h>
#include <unistd.h>

#define LAYER_TYPE "application/vnd.oci.image.layer.v1.tar"
#define CONFIG_TYPE "application/vnd.oci.image.config.v1+json"
#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"
#define INDEX_TYPE "application/vnd.oci.image.index.v1+json"

/* An image to be saved and the names that go with it. */
struct saved_image {
    struct image *image;
    GPtrArray *tags; /* familiar "name:tag" */
};

struct saving {
    struct image_store *store;
    struct tar_writer *writer;
    struct cancel *cancel;
    const struct platform *platform; /* wanted, or NULL */
    GPtrArray *images;               /* of struct saved_image *, in the order asked for */
    GHashTable *written;             /* paths in the archive already there */
    json_t *index, *manifest, *repositories;
    json_t *platforms; /* where there is one index for all of them; else NULL */
};

static void saved_image_free(gpointer data)
{
    struct saved_image *saved = data;
    image_unref(saved->image);
    g_ptr_array_unref(saved->tags);
    g_free(saved);
}

/* ---- which images ---- */

static struct saved_image *saved_for(struct saving *saving, struct image *image)
{
    for (guint i = 0; i < saving->images->len; i++) {
        struct saved_image *known = saving->images->pdata[i];
        if (strcmp(known->image->id, image->id) == 0)
            return known;
    }
    struct saved_image *saved = g_new0(struct saved_image, 1);
    saved->image = image_ref(image);
    saved->tags = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(saving->images, saved);
    return saved;
}

static void add_tag(struct saved_image *saved, const char *tag)
{
    if (!g_ptr_array_find_with_equal_func(saved->tags, tag, g_str_equal, NULL))
        g_ptr_array_add(saved->tags, g_strdup(tag));
}

/* A bare repository name means all of its tags. */
static bool add_repository(struct saving *saving, const char *name, bool *ret_found, GError **error)
{
    g_autoptr(GPtrArray) tags = g_ptr_array_new_with_free_func(g_free);
    if (!database_get_strings(saving->store->database, tags, error,
                              "SELECT value FROM image_name WHERE name = ? AND is_digest = 0 ORDER BY value", "s", name))
        return false;
    for (guint i = 0; i < tags->len; i++) {
        g_autofree char *full = g_strdup_printf("%s:%s", name, (char *)tags->pdata[i]);
        g_autoimage struct image *image = NULL;
        if (!image_store_get(saving->store, full, &image, error))
            return false;
        add_tag(saved_for(saving, image), full);
    }
    *ret_found = tags->len > 0;
    return true;
}

static bool add_name(struct saving *saving, const char *text, GError **error)
{
    struct reference reference;
    if (!g_str_has_prefix(text, DIGEST_PREFIX) && reference_parse(text, &reference, NULL)) {
        g_autofree char *name = reference_familiar_name(&reference);
        g_autofree char *familiar = reference_familiar(&reference);
        bool is_bare = !reference.tag && !reference.digest, is_tag = reference.tag && !reference.digest, found = false;
        reference_clear(&reference);
        if (is_bare && !add_repository(saving, name, &found, error))
            return false;
        if (found)
            return true;
        g_autoimage struct image *image = NULL;
        g_autoptr(GError) problem = NULL;
        if (!image_store_get(saving->store, text, &image, &problem)) {
            if (is_bare && error_is(problem, TARE_ERROR_NOT_FOUND)) /* it has no tag, and none was asked for */
                return error_set(error, TARE_ERROR_NOT_FOUND, "No such image: %s", text);
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
        struct saved_image *saved = saved_for(saving, image);
        if (is_tag && g_strv_contains((const char *const *)image->repo_tags, familiar))
            add_tag(saved, familiar);
        return true;
    }
    g_autoimage struct image *image = NULL;
    if (!image_store_get(saving->store, text, &image, error))
        return false;
    saved_for(saving, image);
    return true;
}

/* ---- entries ---- */

static bool begin_entry(struct saving *saving, const char *path, mode_t mode, guint64 size, GError **error)
{
    struct tar_entry entry = { .path = (char *)path, .mode = mode, .size = size, .stored_size = size };
    return cancel_check(saving->cancel, error) && tar_writer_entry(saving->writer, &entry, error);
}

static bool write_text(struct saving *saving, const char *path, const char *text, size_t length, GError **error)
{
    return begin_entry(saving, path, S_IFREG | 0644, length, error) && tar_writer_data(saving->writer, text, length, error);
}

static bool write_json(struct saving *saving, const char *path, const json_t *value, GError **error)
{
    g_autofree char *text = json_text(value);
    return write_text(saving, path, text, strlen(text), error);
}

static bool write_blob(struct saving *saving, const char *text, char ret_digest[DIGEST_ROOM], GError **error)
{
    digest_of(text, strlen(text), ret_digest);
    g_autofree char *path = g_strconcat("blobs/sha256/", digest_hex(ret_digest), NULL);
    if (!g_hash_table_add(saving->written, g_strdup(path)))
        return true;
    return write_text(saving, path, text, strlen(text), error);
}

static bool write_layer(struct saving *saving, const struct layer_info *layer, GError **error)
{
    g_autofree char *path = g_strconcat("blobs/sha256/", digest_hex(layer->diff_id), NULL);
    if (!g_hash_table_add(saving->written, g_strdup(path)))
        return true;
    g_autofd int tar = layer_store_open_tar(saving->store->layers, layer->diff_id, error);
    return tar >= 0 && begin_entry(saving, path, S_IFREG | 0644, layer->tar_bytes, error) &&
           tar_writer_data_fd(saving->writer, tar, layer->tar_bytes, error);
}

static json_t *descriptor(const char *type, const char *digest, guint64 size)
{
    return json_pack("{s:s, s:s, s:I}", "mediaType", type, "digest", digest, "size", (json_int_t)size);
}

/* One entry of index.json for each name, one without a name where there is none. */
static void add_to_index(struct saving *saving, json_t *target, const GPtrArray *names, const char *config)
{
    for (guint i = 0; i < MAX(names->len, 1); i++) {
        json_t *entry = json_copy(target);
        struct reference reference;
        if (i < names->len && reference_parse(names->pdata[i], &reference, NULL)) {
            reference_default_tag(&reference);
            g_autofree char *canonical = reference_canonical(&reference);
            g_autofree char *name = reference_familiar_name(&reference);
            json_object_set_new(entry, "annotations",
                                json_pack("{s:s, s:s}", "io.containerd.image.name", canonical,
                                          "org.opencontainers.image.ref.name", reference.tag));
            json_t *repository = json_object_get(saving->repositories, name);
            if (!repository)
                json_object_set_new(saving->repositories, name, repository = json_object());
            if (config)
                json_object_set_new(repository, reference.tag, json_string(digest_hex(config)));
            reference_clear(&reference);
        }
        json_array_append_new(saving->index, entry);
    }
    json_decref(target);
}

static void add_platform(struct saving *saving, json_t *entry, const json_t *document)
{
    static const char *const members[] = { "architecture", "os", "os.version", "variant" };
    json_t *platform = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(members); i++)
        if (json_object_get(document, members[i]))
            json_object_set(platform, members[i], json_object_get(document, members[i]));
    json_object_set_new(entry, "platform", platform);
    json_array_append_new(saving->platforms, entry);
}

/* The image's parent where it is in the archive, too; never what a reader would refuse. */
static const char *parent_in_archive(const struct saving *saving, const struct image *image)
{
    for (guint i = 0; image->parent && i < saving->images->len; i++) {
        const struct image *parent = ((const struct saved_image *)saving->images->pdata[i])->image;
        if (strcmp(parent->id, image->parent) == 0)
            return image_may_be_parent(parent, image) ? parent->id : NULL;
    }
    return NULL;
}

static void add_to_manifest(struct saving *saving, const struct saved_image *saved, const char *config_digest, json_t *paths)
{
    const char *parent = parent_in_archive(saving, saved->image);
    json_t *tags = saved->tags->len ? json_array() : json_null();
    for (guint i = 0; i < saved->tags->len; i++)
        json_array_append_new(tags, json_string(saved->tags->pdata[i]));
    json_t *entry = json_pack("{s:o, s:o, s:O}", "Config", json_sprintf("blobs/sha256/%s", digest_hex(config_digest)), "RepoTags",
                              tags, "Layers", paths);
    if (parent)
        json_object_set_new(entry, "Parent", json_string(parent));
    json_array_append_new(saving->manifest, entry);
}

static bool write_image(struct saving *saving, const struct saved_image *saved, GError **error)
{
    g_autofree char *config = NULL;
    g_autofree struct layer_info *layers = NULL;
    size_t n_layers;
    char config_digest[DIGEST_ROOM], manifest_digest[DIGEST_ROOM];
    if (!database_get_string(saving->store->database, &config, error, "SELECT config FROM image WHERE id = ?", "s",
                             saved->image->id) ||
        !image_store_layers(saving->store, saved->image, &layers, &n_layers, error))
        return false;
    if (!config)
        return store_no_such_image(saved->image->id, error);
    g_autoptr(json_t) descriptors = json_array();
    g_autoptr(json_t) paths = json_array();
    for (size_t i = 0; i < n_layers; i++) {
        if (!write_layer(saving, &layers[i], error))
            return false;
        json_array_append_new(descriptors, descriptor(LAYER_TYPE, layers[i].diff_id, layers[i].tar_bytes));
        json_array_append_new(paths, json_sprintf("blobs/sha256/%s", digest_hex(layers[i].diff_id)));
    }
    if (!write_blob(saving, config, config_digest, error))
        return false;
    g_autoptr(json_t) manifest = json_pack("{s:i, s:s, s:o, s:O}", "schemaVersion", 2, "mediaType", MANIFEST_TYPE, "config",
                                           descriptor(CONFIG_TYPE, config_digest, strlen(config)), "layers", descriptors);
    g_autofree char *manifest_text = json_text(manifest);
    if (!write_blob(saving, manifest_text, manifest_digest, error))
        return false;
    json_t *entry = descriptor(MANIFEST_TYPE, manifest_digest, strlen(manifest_text));
    if (saving->platforms)
        add_platform(saving, entry, saved->image->config);
    else
        add_to_index(saving, entry, saved->tags, saved->image->id);
    add_to_manifest(saving, saved, config_digest, paths);
    return true;
}

/* The index of all platforms. */
static bool write_platforms(struct saving *saving, const char *const *references, GError **error)
{
    char digest[DIGEST_ROOM];
    g_autoptr(json_t) index =
        json_pack("{s:i, s:s, s:O}", "schemaVersion", 2, "mediaType", INDEX_TYPE, "manifests", saving->platforms);
    g_autofree char *text = json_text(index);
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    if (!write_blob(saving, text, digest, error))
        return false;
    for (; references && *references; references++)
        if (**references)
            g_ptr_array_add(names, (gpointer)*references);
    add_to_index(saving, descriptor(INDEX_TYPE, digest, strlen(text)), names, NULL);
    return true;
}

static bool write_archive(struct saving *saving, const char *const *references, GError **error)
{
    if (!begin_entry(saving, "blobs", S_IFDIR | 0755, 0, error) || !begin_entry(saving, "blobs/sha256", S_IFDIR | 0755, 0, error))
        return false;
    for (guint i = 0; i < saving->images->len; i++)
        if (!write_image(saving, saving->images->pdata[i], error))
            return false;
    if (saving->platforms && !write_platforms(saving, references, error))
        return false;
    g_autoptr(json_t) index =
        json_pack("{s:i, s:s, s:O}", "schemaVersion", 2, "mediaType", INDEX_TYPE, "manifests", saving->index);
    g_autoptr(json_t) layout = json_pack("{s:s}", "imageLayoutVersion", "1.0.0");
    /* Docker's own form knows nothing of platforms: it would name one of them. */
    bool is_docker = !saving->platforms;
    return write_json(saving, "index.json", index, error) &&
           (!is_docker || write_json(saving, "manifest.json", saving->manifest, error)) &&
           write_json(saving, "oci-layout", layout, error) &&
           (!is_docker || write_json(saving, "repositories", saving->repositories, error)) &&
           tar_writer_finish(saving->writer, error);
}

static bool check_platforms(const struct saving *saving, GError **error)
{
    for (guint i = 0; saving->platform && i < saving->images->len; i++) {
        const struct saved_image *saved = saving->images->pdata[i];
        if (image_is_for(saved->image->config, saving->platform))
            continue;
        g_autofree char *text = platform_text(saving->platform);
        return error_set(error, TARE_ERROR_NOT_FOUND, "no suitable export target found for platform %s", text);
    }
    return true;
}

bool image_save(struct image_store *store, const char *const *names, const struct image_save_options *options,
                struct byte_sink *sink, GError **error)
{
    g_autoptr(json_t) platforms = options->index ? json_array() : NULL;
    struct saving saving = { .store = store,
                             .platforms = platforms,
                             .cancel = options->cancel,
                             .platform = options->platform,
                             .images = g_ptr_array_new_with_free_func(saved_image_free) };
    bool ok = true;
    for (; ok && *names; names++)
        ok = add_name(&saving, *names, error);
    if (ok && check_platforms(&saving, error)) {
        saving.written = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        for (const char *const *without = options->without; without && *without; without++)
            if (digest_is_valid(*without))
                g_hash_table_add(saving.written, g_strconcat("blobs/sha256/", digest_hex(*without), NULL));
        saving.index = json_array();
        saving.manifest = json_array();
        saving.repositories = json_object();
        saving.writer = tar_writer_new(sink);
        ok = write_archive(&saving, options->index, error);
        tar_writer_free(saving.writer);
        json_decref(saving.repositories);
        json_decref(saving.manifest);
        json_decref(saving.index);
        g_hash_table_unref(saving.written);
    } else {
        ok = false;
    }
    g_ptr_array_unref(saving.images);
    return ok;
}
