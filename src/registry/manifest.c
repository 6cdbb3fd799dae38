/* Manifests and indexes: fetched, checked against their digest, and read with suspicion: what a body is and what it is called
 * must be the same thing (CVE-2021-41190). */
#include "registry/registry-internal.h"

#include <string.h>

static const char accepted[] =
    MEDIA_OCI_MANIFEST ", " MEDIA_OCI_INDEX ", " MEDIA_DOCKER_MANIFEST ", " MEDIA_DOCKER_LIST ", */*;q=0.1";

void registry_manifest_clear(struct registry_manifest *manifest)
{
    g_clear_pointer(&manifest->media_type, g_free);
    g_clear_pointer(&manifest->digest, g_free);
    g_clear_pointer(&manifest->body, g_free);
    g_clear_pointer(&manifest->json, json_decref);
}

static bool is_index_type(const char *type)
{
    return strcmp(type, MEDIA_OCI_INDEX) == 0 || strcmp(type, MEDIA_DOCKER_LIST) == 0;
}

static bool is_manifest_type(const char *type)
{
    return strcmp(type, MEDIA_OCI_MANIFEST) == 0 || strcmp(type, MEDIA_DOCKER_MANIFEST) == 0;
}

/* The type without parameters, in small letters. */
static char *plain_type(const char *content_type)
{
    g_autofree char *type = g_strndup(content_type, strcspn(content_type, "; \t"));
    return g_ascii_strdown(type, -1);
}

/* Printable, and not for ever: it is going to be part of a message. */
static char *shown(const char *text)
{
    char *copy = g_strndup(text, 120);
    for (char *c = copy; *c; c++)
        if (!g_ascii_isprint(*c))
            *c = '?';
    return copy;
}

static bool choose_type(const json_t *json, const char *content_type, char **ret, GError **error)
{
    g_autofree char *outer = plain_type(content_type);
    const char *inner = json_get_string(json, "mediaType", "");
    bool known_outer = is_index_type(outer) || is_manifest_type(outer);
    if (json_object_get(json, "mediaType") && !json_is_string(json_object_get(json, "mediaType")))
        return error_set(error, TARE_ERROR_INVALID, "invalid manifest: its mediaType is not a string");
    if (json_get_int(json, "schemaVersion", 0) == 1 || strstr(outer, "docker.distribution.manifest.v1+"))
        return error_set(
            error, TARE_ERROR_INVALID,
            "[DEPRECATION NOTICE] Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed");
    if (*inner && known_outer && strcmp(inner, outer) != 0) {
        g_autofree char *a = shown(inner), *b = shown(outer);
        return error_set(error, TARE_ERROR_INVALID,
                         "invalid manifest: its mediaType \"%s\" is not the Content-Type \"%s\" it came with", a, b);
    }
    const char *type = known_outer ? outer : inner;
    if (!*type && json_get_int(json, "schemaVersion", 0) == 2) /* an OCI document may leave it out */
        type = json_get_array(json, "manifests") ? MEDIA_OCI_INDEX : json_get_array(json, "layers") ? MEDIA_OCI_MANIFEST : "";
    if (!*type && !*outer)
        return error_set(error, TARE_ERROR_INVALID, "invalid manifest: neither a Content-Type nor a mediaType");
    if (!is_index_type(type) && !is_manifest_type(type)) {
        g_autofree char *name = shown(*type ? type : outer);
        return error_set(error, TARE_ERROR_INVALID, "unsupported media type %s", name);
    }
    *ret = g_strdup(type);
    return true;
}

static bool check_shape(const json_t *json, const char *type, GError **error)
{
    bool is_index = is_index_type(type);
    bool has_manifests = json_object_get(json, "manifests") != NULL, has_layers = json_object_get(json, "layers") != NULL,
         has_config = json_object_get(json, "config") != NULL;
    if (is_index ? has_layers || has_config : has_manifests)
        return error_set(error, TARE_ERROR_INVALID, "invalid manifest: it is a manifest and an index at once, called %s", type);
    if (is_index ? !json_get_array(json, "manifests") : !json_get_array(json, "layers") || !json_get_object(json, "config"))
        return error_set(error, TARE_ERROR_INVALID, "invalid manifest: its body is not what its media type %s says", type);
    return true;
}

bool registry_manifest_parse(const char *body, gsize length, const char *content_type, struct registry_manifest *ret,
                             GError **error)
{
    g_autoptr(json_t) json = json_parse(body, length, REGISTRY_MANIFEST_MAX, "invalid manifest", error);
    g_autofree char *type = NULL;
    if (!json)
        return false;
    if (!json_is_object(json))
        return error_set(error, TARE_ERROR_INVALID, "invalid manifest: it is not a JSON object");
    if (!choose_type(json, content_type ? content_type : "", &type, error) || !check_shape(json, type, error))
        return false;
    char digest[DIGEST_ROOM];
    digest_of(body, length, digest);
    bool is_index = is_index_type(type);
    *ret = (struct registry_manifest){
        .media_type = g_steal_pointer(&type),
        .digest = g_strdup(digest),
        .body = g_strndup(body, length),
        .length = length,
        .json = g_steal_pointer(&json),
        .is_index = is_index,
    };
    return true;
}

static bool check_digest(const struct registry_manifest *manifest, const char *wanted, const char *told, GError **error)
{
    if (digest_is_valid(wanted) && strcmp(wanted, manifest->digest) != 0)
        return error_set(error, TARE_ERROR_INVALID, "manifest verification failed for digest %s: the content has the digest %s",
                         wanted, manifest->digest);
    if (!digest_is_valid(wanted) && told && digest_is_valid(told) && strcmp(told, manifest->digest) != 0)
        return error_set(error, TARE_ERROR_INVALID, "manifest verification failed for digest %s: the content has the digest %s",
                         told, manifest->digest);
    return true;
}

/* Docker's words for what is not there, or not for everybody. */
static bool not_there(const struct registry_session *session, const char *tag_or_digest, const struct registry_response *response,
                      GError **error)
{
    const struct reference reference = { .domain = session->domain, .path = session->repository };
    g_autofree char *name = reference_familiar_name(&reference), *code = NULL;
    g_autofree char *text = registry_error_text(response->body, response->body_length, &code);
    const char *separator = digest_is_valid(tag_or_digest) ? "@" : ":";
    if (g_strcmp0(code, "DENIED") == 0 || (response->status == 403 && !text) ||
        (g_strcmp0(code, "UNAUTHORIZED") == 0 && !session->auth.username && strcmp(session->domain, "docker.io") == 0))
        return error_set(error, TARE_ERROR_NOT_FOUND,
                         "pull access denied for %s, repository does not exist or may require 'docker login': %s", name,
                         text ? text : "denied: requested access to the resource is denied");
    if (g_strcmp0(code, "NAME_UNKNOWN") == 0)
        return error_set(error, TARE_ERROR_NOT_FOUND, "repository %s not found: %s", name, text);
    if (response->status == 404)
        return error_set(error, TARE_ERROR_NOT_FOUND, "manifest for %s%s%s not found: %s", name, separator, tag_or_digest,
                         text ? text : "manifest unknown: manifest unknown");
    g_autofree char *what = g_strconcat("GET manifest ", tag_or_digest, NULL);
    return registry_response_check(session, response, what, error);
}

bool registry_get_manifest(struct registry_session *session, const char *tag_or_digest, struct registry_manifest *ret,
                           GError **error)
{
    g_autofree char *target = g_strconcat("manifests/", tag_or_digest, NULL);
    const struct registry_request request = {
        .method = "GET", .target = target, .accept = accepted, .max_body = REGISTRY_MANIFEST_MAX
    };
    struct registry_response response = { 0 };
    if (!registry_request(session, &request, &response, error)) {
        if (error && error_is(*error, TARE_ERROR_TOO_LARGE))
            g_prefix_error(error, "manifest %s of %s/%s: ", tag_or_digest, session->domain, session->repository);
        return false;
    }
    struct registry_manifest manifest = { 0 };
    bool ok = response.status < 400 || not_there(session, tag_or_digest, &response, error);
    if (ok) {
        ok = registry_manifest_parse(response.body, response.body_length, registry_response_header(&response, "content-type"),
                                     &manifest, error) &&
             check_digest(&manifest, tag_or_digest, registry_response_header(&response, "docker-content-digest"), error);
        if (!ok)
            g_prefix_error(error, "%s/%s, manifest %s: ", session->domain, session->repository, tag_or_digest);
    }
    registry_response_clear(&response);
    if (ok)
        *ret = manifest;
    else
        registry_manifest_clear(&manifest);
    return ok;
}
