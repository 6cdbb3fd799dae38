/* What goes to registries: POST /images/NAME/push, and (ours alone) manifests by hand for `manifest` and `imagetools` of the
 * command, which links no HTTP client that could speak to a registry: it must start in two milliseconds. */
#include "api/api-internal.h"

#include <string.h>

static void read_auth(struct api_request *request, struct registry_auth *ret)
{
    registry_auth_parse(http_request_header(http_exchange_request(request->http), "X-Registry-Auth"), false, ret, NULL);
}

static bool send_message(void *user, const json_t *message, GError **error)
{
    return api_send_message(user, json_incref((json_t *)message), error);
}

/* Since 1.46: {"os","architecture","variant"}; an image here has one platform, which must be the one that is meant. */
static bool check_platform(struct api_request *request, const char *name, const char *tag, GError **error)
{
    struct platform platform;
    bool given;
    if (!api_query_platform(request, "platform", 46, &platform, &given, error))
        return false;
    if (!given)
        return true;
    g_autofree char *full = g_strconcat(name, ":", tag ? tag : "latest", NULL);
    bool ok = image_store_check_platform(request->engine->images, full, &platform, error);
    platform_clear(&platform);
    return ok;
}

/* Ours: compression, "gzip" or "zstd", for layers that have to be compressed; image, which goes to this repository under its
 * digest alone, for a list that will name it. */
static bool push_image(struct api_request *request, GError **error)
{
    const char *compression = api_query(request, "compression"), *tag = api_query(request, "tag"),
               *image = api_query(request, "image");
    struct reference reference = { 0 };
    struct registry_auth auth;
    if (compression && strcmp(compression, "gzip") != 0 && strcmp(compression, "zstd") != 0)
        return error_set(error, TARE_ERROR_INVALID, "invalid compression \"%s\": gzip or zstd", compression);
    if (!reference_parse(request->name, &reference, error))
        return false;
    if (reference.digest) {
        reference_clear(&reference);
        return error_set(error, TARE_ERROR_INVALID, "cannot push a digest reference");
    }
    g_autofree char *name = reference_familiar_name(&reference);
    g_autofree char *own_tag = g_strdup(reference.tag);
    reference_clear(&reference);
    if (!image && !check_platform(request, name, tag ? tag : own_tag, error))
        return false;
    read_auth(request, &auth);
    g_autoptr(json_t) auths =
        registry_auths_parse(http_request_header(http_exchange_request(request->http), "X-Registry-Config"));
    const struct registry_push_options options = {
        .name = name,
        .tag = tag ? tag : own_tag,
        .image = image,
        .use_zstd = g_strcmp0(compression, "zstd") == 0,
        .auth = &auth,
        .auths = auths,
        .cancel = http_exchange_cancel(request->http),
        .message = send_message,
        .user = request,
    };
    bool ok = registry_push(request->engine->registry, &options, error);
    registry_auth_clear(&auth);
    return api_finish_messages(request, ok, error);
}

static bool get_manifest(struct api_request *request, GError **error)
{
    struct registry_auth auth;
    json_t *answer = NULL;
    read_auth(request, &auth);
    const struct registry_remote remote = { .reference = request->name,
                                            .insecure = api_query_bool(request, "insecure"),
                                            .auth = &auth,
                                            .cancel = http_exchange_cancel(request->http) };
    bool ok = registry_remote_get(request->engine->registry, &remote, &answer, error);
    registry_auth_clear(&auth);
    return ok && api_respond_json(request, 200, answer);
}

static bool put_manifest(struct api_request *request, GError **error)
{
    struct registry_auth auth;
    g_autoptr(json_t) body = NULL;
    g_autofree char *digest = NULL;
    if (!api_read_json(request, &body, error))
        return false;
    read_auth(request, &auth);
    const struct registry_remote remote = { .reference = request->name,
                                            .insecure = api_query_bool(request, "insecure"),
                                            .auth = &auth,
                                            .cancel = http_exchange_cancel(request->http) };
    bool ok = registry_remote_put(request->engine->registry, &remote, body, &digest, error);
    registry_auth_clear(&auth);
    return ok && api_respond_json(request, 201, json_pack("{s:s}", "Digest", digest));
}

const struct api_route push_routes[] = {
    { "POST", "/images/{name*}/push", 0, 0, push_image },
    { "GET", "/distribution/{name*}/manifest", 0, 0, get_manifest },
    { "PUT", "/distribution/{name*}/manifest", 0, 0, put_manifest },
    { NULL },
};
