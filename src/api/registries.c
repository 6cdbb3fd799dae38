/* What has to do with registries: pulling (a half of POST /images/create), looking at what they have, credentials, search. */
#include "api/api-internal.h"

#include <string.h>

static bool read_auth(struct api_request *request, struct registry_auth *ret)
{
    return registry_auth_parse(http_request_header(http_exchange_request(request->http), "X-Registry-Auth"), false, ret, NULL);
}

static bool send_message(void *user, const json_t *message, GError **error)
{
    return api_send_message(user, json_incref((json_t *)message), error);
}

/* tag: a tag or a digest; without either all tags are meant, as old clients say "-a". */
static char *whole_reference(const char *image, const char *tag)
{
    g_autofree char *name = g_strdup(image);
    if (g_str_has_suffix(name, ":")) /* some of those write "name:" */
        name[strlen(name) - 1] = '\0';
    if (!tag)
        return g_steal_pointer(&name);
    /* A tag that comes apart wins over the one in the name. */
    char *slash = strrchr(name, '/'), *colon = strrchr(slash ? slash : name, ':'), *at = strchr(name, '@');
    if (at)
        *at = '\0';
    else if (colon)
        *colon = '\0';
    return g_strconcat(name, strchr(tag, ':') ? "@" : ":", tag, NULL);
}

bool api_pull(struct api_request *request, const char *image, GError **error)
{
    g_autofree char *text = whole_reference(image, api_query(request, "tag"));
    struct reference reference = { 0 };
    struct registry_auth auth;
    if (!reference_parse(text, &reference, error))
        return false;
    read_auth(request, &auth);
    const struct registry_pull_options options = {
        .reference = text,
        .platform = request->version >= 32 ? api_query(request, "platform") : NULL,
        .all_tags = !reference.tag && !reference.digest,
        .auth = &auth,
        .cancel = http_exchange_cancel(request->http),
        .message = send_message,
        .user = request,
    };
    reference_clear(&reference);
    bool ok = registry_pull(request->engine->registry, &options, error);
    registry_auth_clear(&auth);
    return api_finish_messages(request, ok, error);
}

static bool inspect_distribution(struct api_request *request, GError **error)
{
    struct registry_auth auth;
    json_t *answer = NULL;
    read_auth(request, &auth);
    bool ok =
        registry_inspect(request->engine->registry, request->name, &auth, http_exchange_cancel(request->http), &answer, error);
    registry_auth_clear(&auth);
    return ok && api_respond_json(request, 200, answer);
}

static bool search_images(struct api_request *request, GError **error)
{
    struct registry_auth auth;
    json_t *answer = NULL;
    g_autoptr(json_t) filters = NULL;
    gint64 limit;
    const char *term = api_query(request, "term");
    if (!api_query_filters(request, &filters, error) ||
        !api_query_int(request, "limit", G_MININT32, G_MAXINT32, 0, &limit, error))
        return false;
    read_auth(request, &auth);
    bool ok = registry_search(request->engine->registry, term ? term : "", limit, filters, &auth,
                              http_exchange_cancel(request->http), &answer, error);
    registry_auth_clear(&auth);
    return ok && api_respond_json(request, 200, answer);
}

static bool check_credentials(struct api_request *request, GError **error)
{
    g_autoptr(json_t) body = NULL;
    g_autofree char *token = NULL;
    struct registry_auth auth;
    if (!api_read_json(request, &body, error))
        return false;
    registry_auth_from_json(body, &auth);
    bool ok = registry_login(request->engine->registry, &auth, http_exchange_cancel(request->http), &token, error);
    registry_auth_clear(&auth);
    return ok && api_respond_json(request, 200, json_pack("{s:s, s:s}", "IdentityToken", token, "Status", "Login Succeeded"));
}

const struct api_route registry_routes[] = {
    { "GET", "/images/search", 0, 0, search_images },
    { "GET", "/distribution/{name*}/json", 0, 0, inspect_distribution },
    { "POST", "/auth", 0, 0, check_credentials },
    { NULL },
};
