/* What needs one or two requests: credentials tried out, what a name leads to, and search. */
#include "registry/registry-internal.h"

#include "base/filter.h"
#include "base/parse.h"

#include <string.h>

#define HUB_INDEX "index.docker.io"

/* ---- login ---- */

static char *login_domain(const char *address)
{
    const char *host = address && *address ? address : HUB_INDEX;
    if (strstr(host, "://"))
        host = strstr(host, "://") + 3;
    g_autofree char *name = g_strndup(host, strcspn(host, "/"));
    return g_strdup(strcmp(name, HUB_INDEX) == 0 || strcmp(name, "registry-1.docker.io") == 0 ? "docker.io" : name);
}

static bool check_login(struct registry_session *session, GError **error)
{
    const struct registry_request request = { .method = "GET", .target = "/v2/", .origin_only = true };
    struct registry_response response = { 0 };
    if (!registry_request(session, &request, &response, error))
        return false;
    bool ok = response.status == 200;
    if (!ok && response.status == 401)
        error_set(error, TARE_ERROR_UNAUTHORIZED, "login attempt to %s failed with status: 401 Unauthorized", response.url);
    else if (!ok)
        error_set(error, TARE_ERROR_INTERNAL, "login attempt to %s failed with status: %d", response.url, response.status);
    registry_response_clear(&response);
    return ok;
}

bool registry_login(struct registry *registry, const struct registry_auth *auth, struct cancel *cancel, char **ret_identity_token,
                    GError **error)
{
    g_autofree char *domain = login_domain(auth->server_address);
    struct reference reference = { .domain = domain, .path = (char *)"" };
    struct registry_session *session = NULL;
    if (!registry_session_new(registry, &reference, auth, REGISTRY_PULL, cancel, &session, error))
        return false;
    bool ok = check_login(session, error);
    if (ok)
        *ret_identity_token = g_strdup(session->refresh_token && *session->refresh_token ? session->refresh_token
                                       : auth->identity_token                            ? auth->identity_token
                                                                                         : "");
    registry_session_free(session);
    return ok;
}

/* ---- GET /distribution/NAME/json ---- */

static json_t *platform_object(const json_t *from)
{
    static const char *const members[] = { "architecture", "os", "os.version", "os.features", "variant" };
    json_t *object = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(members); i++) {
        json_t *value = json_object_get(from, members[i]);
        if (value && !(json_is_string(value) && !*json_string_value(value)))
            json_object_set(object, members[i], value);
    }
    return object;
}

static bool add_platforms(struct registry_session *session, const struct registry_manifest *manifest, json_t *platforms,
                          GError **error)
{
    size_t i;
    json_t *entry;
    json_array_foreach(json_get_array(manifest->json, "manifests"), i, entry)
        json_array_append_new(platforms, platform_object(json_get_object(entry, "platform")));
    if (manifest->is_index)
        return true;
    struct descriptor config;
    g_autofree char *text = NULL;
    gsize length;
    if (!manifest_config(manifest, &config, NULL)) /* an artifact that is no image */
        return true;
    if (!config_fetch(session, &config, &text, &length, error))
        return false;
    g_autoptr(json_t) object = json_parse(text, length, REGISTRY_CONFIG_MAX, "invalid image configuration", error);
    if (object)
        json_array_append_new(platforms, platform_object(object));
    return object != NULL;
}

static bool inspect(struct registry_session *session, const char *tag_or_digest, json_t **ret, GError **error)
{
    struct registry_manifest manifest = { 0 };
    g_autoptr(json_t) platforms = json_array();
    if (!registry_get_manifest(session, tag_or_digest, &manifest, error))
        return false;
    bool ok = add_platforms(session, &manifest, platforms, error);
    if (ok)
        *ret = json_pack("{s:{s:s, s:s, s:I}, s:O}", "Descriptor", "mediaType", manifest.media_type, "digest", manifest.digest,
                         "size", (json_int_t)manifest.length, "Platforms", platforms);
    registry_manifest_clear(&manifest);
    return ok;
}

bool registry_inspect(struct registry *registry, const char *text, const struct registry_auth *auth, struct cancel *cancel,
                      json_t **ret, GError **error)
{
    struct reference reference = { 0 };
    struct registry_session *session = NULL;
    if (!reference_parse(text, &reference, error))
        return false;
    reference_default_tag(&reference);
    bool ok = registry_session_new(registry, &reference, auth, REGISTRY_PULL, cancel, &session, error) &&
              inspect(session, reference.digest ? reference.digest : reference.tag, ret, error);
    if (!ok)
        session_name_error(session, error);
    registry_session_free(session);
    reference_clear(&reference);
    return ok;
}

/* ---- search ---- */

struct search_filter {
    bool has_automated, automated, has_official, official;
    gint64 stars;
};

static bool read_filter(const json_t *filters, struct search_filter *ret, GError **error)
{
    static const char *const known[] = { "is-automated", "is-official", "stars", NULL };
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)filters, name, value) if (!g_strv_contains(known, name)) return error_set(
        error, TARE_ERROR_INVALID, "invalid filter '%s'", name);
    ret->has_automated = filters_has(filters, "is-automated");
    ret->has_official = filters_has(filters, "is-official");
    if (!filters_bool(filters, "is-automated", false, &ret->automated, error) ||
        !filters_bool(filters, "is-official", false, &ret->official, error))
        return false;
    g_auto(GStrv) stars = filters_values(filters, "stars");
    for (char **text = stars; *text; text++) {
        gint64 least;
        if (!parse_int(*text, 0, G_MAXINT32, &least))
            return error_set(error, TARE_ERROR_INVALID, "invalid filter 'stars=%s'", *text);
        ret->stars = MAX(ret->stars, least);
    }
    return true;
}

static json_t *passing(const json_t *results, const struct search_filter *filter, gint64 limit)
{
    size_t i;
    json_t *result, *list = json_array();
    json_array_foreach(results, i, result)
    {
        bool automated = json_get_bool(result, "is_automated", false), official = json_get_bool(result, "is_official", false);
        gint64 stars = json_get_int(result, "star_count", 0);
        if (!json_is_object(result) || (filter->has_automated && automated != filter->automated) ||
            (filter->has_official && official != filter->official) || stars < filter->stars ||
            (gint64)json_array_size(list) >= limit)
            continue;
        json_array_append_new(list, json_pack("{s:I, s:b, s:s, s:b, s:s}", "star_count", (json_int_t)stars, "is_official",
                                              official, "name", json_get_string(result, "name", ""), "is_automated", automated,
                                              "description", json_get_string(result, "description", "")));
    }
    return list;
}

/* "host/term" asks that registry; all else the Hub's index. */
static void split_term(const char *term, char **ret_domain, char **ret_rest)
{
    const char *slash = strchr(term, '/');
    g_autofree char *first = slash ? g_strndup(term, (gsize)(slash - term)) : NULL;
    bool is_host = first && (strpbrk(first, ".:") || strcmp(first, "localhost") == 0);
    bool is_hub = is_host && (strcmp(first, "docker.io") == 0 || strcmp(first, HUB_INDEX) == 0);
    *ret_domain = g_strdup(is_host && !is_hub ? first : HUB_INDEX);
    const char *rest = is_host ? slash + 1 : term;
    bool is_official = strcmp(*ret_domain, HUB_INDEX) == 0 && g_str_has_prefix(rest, "library/");
    *ret_rest = g_strdup(is_official ? rest + strlen("library/") : rest);
}

static bool ask(struct registry_session *session, const char *term, gint64 limit, json_t **ret, GError **error)
{
    g_autofree char *escaped = g_uri_escape_string(term, NULL, FALSE);
    g_autofree char *target = g_strdup_printf("/v1/search?n=%" G_GINT64_FORMAT "&q=%s", limit, escaped);
    const char *const headers[] = { "X-Docker-Token: true", NULL };
    const struct registry_request request = { .method = "GET", .target = target, .headers = headers, .origin_only = true };
    struct registry_response response = { 0 };
    if (!registry_request(session, &request, &response, error))
        return false;
    bool ok = response.status == 200 ||
              error_set(error, response.status == 404 ? TARE_ERROR_NOT_FOUND : TARE_ERROR_INTERNAL,
                        "Unexpected status code %d from %s: this registry offers no search", response.status, response.url);
    if (ok)
        *ret = json_parse(response.body, response.body_length, REGISTRY_MANIFEST_MAX, "error decoding registry search results",
                          error);
    registry_response_clear(&response);
    return ok && *ret;
}

bool registry_search(struct registry *registry, const char *term, gint64 limit, const json_t *filters,
                     const struct registry_auth *auth, struct cancel *cancel, json_t **ret, GError **error)
{
    struct search_filter filter = { 0 };
    g_autofree char *domain = NULL, *rest = NULL;
    g_autoptr(json_t) answer = NULL;
    struct registry_session *session = NULL;
    limit = limit ? limit : 25;
    if (!read_filter(filters, &filter, error))
        return false;
    if (limit < 1 || limit > 100)
        return error_set(error, TARE_ERROR_INVALID, "Limit %" G_GINT64_FORMAT " is outside the range of [1, 100]", limit);
    if (strstr(term, "://"))
        return error_set(error, TARE_ERROR_INVALID, "invalid repository name: repository name (%s) should not have a scheme",
                         term);
    split_term(term, &domain, &rest);
    struct reference reference = { .domain = domain, .path = (char *)"" };
    if (!registry_session_new(registry, &reference, auth, REGISTRY_PULL, cancel, &session, error))
        return false;
    bool ok = ask(session, rest, limit, &answer, error);
    if (ok)
        *ret = passing(json_get_array(answer, "results"), &filter, limit);
    else if (error)
        soften_unauthorized(error);
    registry_session_free(session);
    return ok;
}
