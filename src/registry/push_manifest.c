/* The document that a push ends with: the one that is kept, where its blobs are what the registry got, or one of our own. */
#include "registry/registry-internal.h"

#include <string.h>

static bool is_layer_type(const char *type)
{
    return strcmp(type, MEDIA_DOCKER_LAYER) == 0 || strcmp(type, MEDIA_OCI_LAYER) == 0 ||
           strcmp(type, MEDIA_OCI_LAYER_GZIP) == 0 || strcmp(type, MEDIA_OCI_LAYER_ZSTD) == 0;
}

struct registry_blob *manifest_blobs(const struct registry_manifest *manifest, size_t n_layers)
{
    g_autofree struct descriptor *layers = NULL;
    size_t n;
    if (manifest->is_index || !manifest_layers(manifest, &layers, &n, NULL) || n != n_layers)
        return NULL;
    g_autofree struct registry_blob *blobs = g_new0(struct registry_blob, n_layers + 1);
    for (size_t i = 0; i < n_layers; i++) {
        if (!is_layer_type(layers[i].media_type))
            return NULL;
        g_strlcpy(blobs[i].digest, layers[i].digest, sizeof blobs[i].digest);
        blobs[i].size = layers[i].size;
        blobs[i].media_type = (char *)layers[i].media_type;
    }
    return g_steal_pointer(&blobs);
}

static json_t *describe(const char *type, gsize size, const char *digest)
{
    return json_pack("{s:s, s:I, s:s}", "mediaType", type, "size", (json_int_t)size, "digest", digest);
}

/* Docker's layers are gzip alone; where one is something else all is said in OCI's words. */
static const char *layer_type(const struct push_layer *layer, bool is_oci)
{
    if (strcmp(layer->media_type, MEDIA_OCI_LAYER_ZSTD) == 0 || strcmp(layer->media_type, MEDIA_OCI_LAYER) == 0)
        return layer->media_type;
    return is_oci ? MEDIA_OCI_LAYER_GZIP : MEDIA_DOCKER_LAYER;
}

char *manifest_text(const char *config_digest, gsize config_length, const struct push_layer *const *layers, size_t n_layers,
                    const char **ret_media_type)
{
    bool is_oci = false;
    for (size_t i = 0; i < n_layers; i++)
        is_oci |= strcmp(layers[i]->media_type, MEDIA_OCI_LAYER_ZSTD) == 0 || strcmp(layers[i]->media_type, MEDIA_OCI_LAYER) == 0;
    g_autoptr(json_t) list = json_array();
    for (size_t i = 0; i < n_layers; i++)
        json_array_append_new(list, describe(layer_type(layers[i], is_oci), layers[i]->size, layers[i]->digest));
    *ret_media_type = is_oci ? MEDIA_OCI_MANIFEST : MEDIA_DOCKER_MANIFEST;
    g_autoptr(json_t) manifest =
        json_pack("{s:i, s:s, s:o, s:O}", "schemaVersion", 2, "mediaType", *ret_media_type, "config",
                  describe(is_oci ? MEDIA_OCI_CONFIG : MEDIA_DOCKER_CONFIG, config_length, config_digest), "layers", list);
    /* Indented as dockerd's are, so that the same blobs give the same digest from either. */
    char *dumped = json_dumps(manifest, JSON_INDENT(3));
    char *text = g_strdup(dumped);
    free(dumped);
    return text;
}
