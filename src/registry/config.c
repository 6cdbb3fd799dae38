/* What a manifest names: its layers, and the image's config. All of it is a stranger's: sizes, counts and types are checked
 * before anything is fetched. */
#include "registry/registry-internal.h"

#include <string.h>

static const char *const layer_types[] = { MEDIA_DOCKER_LAYER,
                                           "application/vnd.docker.image.rootfs.diff.tar",
                                           MEDIA_OCI_LAYER,
                                           "application/vnd.docker.image.rootfs.diff.tar.zstd",
                                           MEDIA_OCI_LAYER_GZIP,
                                           MEDIA_OCI_LAYER_ZSTD,
                                           NULL };

static bool is_foreign(const char *type)
{
    return strstr(type, "foreign") || strstr(type, "nondistributable");
}

bool descriptor_parse(const json_t *object, guint64 max, struct descriptor *ret, GError **error)
{
    const char *digest = json_get_string(object, "digest", "");
    gint64 size = json_get_int(object, "size", -1);
    if (!digest_is_valid(digest))
        return error_set(error, TARE_ERROR_INVALID, "invalid manifest: a digest in it is not valid");
    if (size < 0 || (guint64)size > max)
        return error_set(error, TARE_ERROR_INVALID, "invalid manifest: the size of %s is not valid", digest);
    *ret = (struct descriptor){ digest, json_get_string(object, "mediaType", ""), (guint64)size };
    return true;
}

static bool check_layer_type(const struct descriptor *layer, GError **error)
{
    if (is_foreign(layer->media_type))
        return error_set(
            error, TARE_ERROR_INVALID,
            "layer %s has the media type %.120s: foreign layers, which are to be fetched from elsewhere, are not supported",
            layer->digest, layer->media_type);
    return g_strv_contains(layer_types, layer->media_type) ||
           error_set(error, TARE_ERROR_INVALID, "layer %s has the unsupported media type %.120s", layer->digest,
                     layer->media_type);
}

bool manifest_layers(const struct registry_manifest *manifest, struct descriptor **ret, size_t *ret_n, GError **error)
{
    const json_t *layers = json_get_array(manifest->json, "layers");
    size_t n = json_array_size(layers);
    if (n > REGISTRY_MAX_LAYERS)
        return error_set(error, TARE_ERROR_INVALID, "max depth exceeded");
    g_autofree struct descriptor *found = g_new0(struct descriptor, n + 1);
    for (size_t i = 0; i < n; i++)
        if (!descriptor_parse(json_array_get(layers, i), G_GUINT64_CONSTANT(1) << 40, &found[i], error) ||
            !check_layer_type(&found[i], error))
            return false;
    *ret = g_steal_pointer(&found);
    *ret_n = n;
    return true;
}

bool manifest_config(const struct registry_manifest *manifest, struct descriptor *ret, GError **error)
{
    if (!descriptor_parse(json_get_object(manifest->json, "config"), REGISTRY_CONFIG_MAX, ret, error))
        return false;
    return strcmp(ret->media_type, MEDIA_DOCKER_CONFIG) == 0 || strcmp(ret->media_type, MEDIA_OCI_CONFIG) == 0 ||
           error_set(error, TARE_ERROR_INVALID, "Encountered remote \"%.120s\"(unknown) when fetching", ret->media_type);
}

bool config_parse(const char *text, gsize length, size_t n_layers, json_t **ret, char ***ret_diff_ids, GError **error)
{
    g_autoptr(json_t) config = json_parse(text, length, REGISTRY_CONFIG_MAX, "invalid image configuration", error);
    if (!config)
        return false;
    const json_t *rootfs = json_get_object(config, "rootfs"), *ids = json_get_array(rootfs, "diff_ids");
    if (!json_is_object(config) || !rootfs || (n_layers > 0 && !ids))
        return error_set(error, TARE_ERROR_INVALID, "invalid rootfs in image configuration");
    const char *os = json_get_string(config, "os", "");
    if (*os && strcmp(os, "linux") != 0)
        return error_set(error, TARE_ERROR_INVALID, "image operating system \"%.32s\" cannot be used on this platform", os);
    g_auto(GStrv) diff_ids = ids ? json_string_array(ids) : g_new0(char *, 1);
    if (g_strv_length(diff_ids) != n_layers || json_array_size(ids) != n_layers)
        return error_set(error, TARE_ERROR_INVALID, "layers from manifest don't match image configuration");
    for (char **diff_id = diff_ids; *diff_id; diff_id++)
        if (!digest_is_valid(*diff_id))
            return error_set(error, TARE_ERROR_INVALID, "invalid rootfs in image configuration");
    *ret = g_steal_pointer(&config);
    *ret_diff_ids = g_steal_pointer(&diff_ids);
    return true;
}

bool config_fetch(struct registry_session *session, const struct descriptor *descriptor, char **ret, gsize *ret_length,
                  GError **error)
{
    g_autofree char *target = g_strconcat("blobs/", descriptor->digest, NULL),
                    *what = g_strconcat("GET blob ", descriptor->digest, NULL);
    const struct registry_request request = { .method = "GET", .target = target, .max_body = REGISTRY_CONFIG_MAX };
    struct registry_response response = { 0 };
    char digest[DIGEST_ROOM];
    bool ok = registry_request(session, &request, &response, error);
    if (ok && !(ok = registry_response_check(session, &response, what, error)))
        g_prefix_error(error, "error pulling image configuration: ");
    if (ok) {
        digest_of(response.body, response.body_length, digest);
        ok = strcmp(digest, descriptor->digest) == 0 ||
             error_set(error, TARE_ERROR_INVALID, "%s/%s: image config verification failed for digest %s", session->domain,
                       session->repository, descriptor->digest);
    }
    if (ok) {
        *ret_length = response.body_length;
        *ret = g_steal_pointer(&response.body);
    }
    registry_response_clear(&response);
    return ok;
}
