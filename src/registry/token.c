/* What a request is authorised by: Basic, or Bearer tokens from the server that the registry names (the distribution project's
 * token specification, with its OAuth2 variant for identity tokens). */
#include "registry/registry-internal.h"

#include "base/timestamp.h"

#include <string.h>

enum { TOKEN_MAX = 64 << 10, DEFAULT_LIFE_S = 60, SPARE_S = 5, LIFE_MAX_S = 24 * 3600 };

static char *basic_header(const struct registry_auth *auth)
{
    g_autofree char *pair = g_strconcat(auth->username, ":", auth->password ? auth->password : "", NULL);
    g_autofree char *encoded = g_base64_encode((guchar *)pair, strlen(pair));
    return g_strconcat("Authorization: Basic ", encoded, NULL);
}

/* Mirrors and other hosts never see what was given for the registry. */
static const struct registry_auth *credentials(const struct registry_session *session, const struct endpoint *endpoint)
{
    static const struct registry_auth none;
    return endpoint->is_mirror ? &none : &session->auth;
}

/* ---- scopes ---- */

static void add_scope(GPtrArray *scopes, const char *scope)
{
    if (!g_ptr_array_find_with_equal_func(scopes, scope, g_str_equal, NULL))
        g_ptr_array_add(scopes, g_strdup(scope));
}

/* Ours, those that were added, and what the challenge asks for where that is another resource (a mirror's own name for it). */
static GPtrArray *wanted_scopes(struct registry_session *session, const struct challenge *challenge)
{
    GPtrArray *scopes = g_ptr_array_new_with_free_func(g_free);
    if (*session->repository) {
        g_autofree char *resource = g_strconcat("repository:", session->repository, ":", NULL);
        g_autofree char *own = g_strconcat(resource, session->access == REGISTRY_PUSH ? "pull,push" : "pull", NULL);
        add_scope(scopes, own);
        g_auto(GStrv) asked = g_strsplit(challenge->scope ? challenge->scope : "", " ", 16);
        for (char **scope = asked; *scope; scope++)
            if (**scope && !g_str_has_prefix(*scope, resource))
                add_scope(scopes, *scope);
    } else if (challenge->scope) {
        add_scope(scopes, challenge->scope);
    }
    for (guint i = 0; i < session->scopes->len; i++)
        add_scope(scopes, session->scopes->pdata[i]);
    return scopes;
}

static void add_parameter(GString *query, const char *name, const char *value)
{
    g_autofree char *escaped = g_uri_escape_string(value, NULL, FALSE);
    g_string_append_printf(query, "%s%s=%s", query->len ? "&" : "", name, escaped);
}

/* ---- the token server ---- */

static bool take_token(struct endpoint *endpoint, const struct registry_response *response, char **ret_refresh, GError **error)
{
    g_autoptr(json_t) object =
        json_parse(response->body, response->body_length, TOKEN_MAX * 4, "invalid answer of the token server", error);
    if (!object)
        return false;
    const char *token = json_get_string(object, "token", NULL);
    if (!token || !*token)
        token = json_get_string(object, "access_token", NULL);
    if (!token || !*token)
        return error_set(error, TARE_ERROR_UNAUTHORIZED, "authorization server did not include a token in the response");
    if (strlen(token) > TOKEN_MAX || strpbrk(token, "\r\n"))
        return error_set(error, TARE_ERROR_INVALID, "the token server gave an invalid token");
    gint64 life = CLAMP(json_get_int(object, "expires_in", DEFAULT_LIFE_S), 1, LIFE_MAX_S);
    g_free(endpoint->token);
    endpoint->token = g_strdup(token);
    /* Short-lived ones are renewed by the 401 that says so. */
    endpoint->token_until = g_get_monotonic_time() + (life > 2 * SPARE_S ? life - SPARE_S : life) * G_USEC_PER_SEC;
    g_free(*ret_refresh);
    *ret_refresh = g_strdup(json_get_string(object, "refresh_token", ""));
    return true;
}

static bool token_failed(const struct registry_response *response, const char *method, const char *url, GError **error)
{
    g_autofree char *text = registry_error_text(response->body, response->body_length, NULL), *host = url_host(url);
    enum tare_error code = response->status == 401 || response->status == 403 ? TARE_ERROR_UNAUTHORIZED : TARE_ERROR_INTERNAL;
    if (code == TARE_ERROR_UNAUTHORIZED)
        return error_set(error, code, "%s \"%s\": unauthorized: %s", method, url,
                         text ? text + (g_str_has_prefix(text, "unauthorized: ") ? strlen("unauthorized: ") : 0)
                              : "incorrect username or password");
    return error_set(error, code, "failed to fetch a token from %s: unexpected HTTP status %d%s%s", host, response->status,
                     text ? ": " : "", text ? text : "");
}

/* Credentials over plain http only where the registry itself is reached so. */
static bool check_realm(const struct endpoint *endpoint, const char *realm, bool with_credentials, GError **error)
{
    bool plain = g_str_has_prefix(realm, "http://");
    if (!plain && !g_str_has_prefix(realm, "https://"))
        return error_set(error, TARE_ERROR_INVALID, "registry %s names an invalid token server: \"%s\"", endpoint->host, realm);
    if (plain && with_credentials && !endpoint->is_plain && !endpoint->tls.skip_verify)
        return error_set(error, TARE_ERROR_INVALID,
                         "registry %s wants the credentials to be sent without encryption to its token server \"%s\"",
                         endpoint->host, realm);
    return true;
}

struct token_request {
    GString *url;
    GString *form; /* NULL: GET */
    struct curl_slist *headers;
};

static void make_get(struct registry_session *session, const struct endpoint *endpoint, GPtrArray *scopes,
                     struct token_request *request)
{
    const struct challenge *challenge = &endpoint->challenge;
    const struct registry_auth *auth = credentials(session, endpoint);
    g_autoptr(GString) query = g_string_new(NULL);
    if (auth->username)
        add_parameter(query, "account", auth->username);
    for (guint i = 0; i < scopes->len; i++)
        add_parameter(query, "scope", scopes->pdata[i]);
    if (challenge->service)
        add_parameter(query, "service", challenge->service);
    if (!*session->repository) { /* a login: for a token that stays */
        add_parameter(query, "client_id", "docker");
        add_parameter(query, "offline_token", "true");
    }
    g_string_append_printf(request->url, "%s%s", strchr(request->url->str, '?') ? "&" : "?", query->str);
    if (auth->username) {
        g_autofree char *header = basic_header(auth);
        request->headers = curl_slist_append(request->headers, header);
    }
}

static void make_post(struct registry_session *session, const struct endpoint *endpoint, GPtrArray *scopes,
                      struct token_request *request)
{
    g_autoptr(GString) joined = g_string_new(NULL);
    for (guint i = 0; i < scopes->len; i++)
        g_string_append_printf(joined, "%s%s", i ? " " : "", (char *)scopes->pdata[i]);
    request->form = g_string_new(NULL);
    add_parameter(request->form, "grant_type", "refresh_token");
    add_parameter(request->form, "refresh_token", session->auth.identity_token);
    add_parameter(request->form, "service", endpoint->challenge.service ? endpoint->challenge.service : "");
    add_parameter(request->form, "scope", joined->str);
    add_parameter(request->form, "client_id", "docker");
    request->headers = curl_slist_append(request->headers, "Content-Type: application/x-www-form-urlencoded");
}

static bool ask(struct registry_session *session, struct endpoint *endpoint, const struct token_request *request,
                struct cancel *cancel, GError **error)
{
    struct tls_settings tls = { 0 };
    g_autofree char *host = url_host(request->url->str);
    struct registry_memory_body form;
    if (request->form)
        registry_memory_body_init(&form, request->form->str, request->form->len);
    if (!hosts_tls(session->registry, host, &tls, error))
        return false;
    const struct exchange exchange = {
        .method = request->form ? "POST" : "GET",
        .url = request->url->str,
        .headers = request->headers,
        .tls = &tls,
        .body = request->form ? &form.body : NULL,
        .stall_timeout_s = session->registry->stall_timeout_s,
        .cancel = cancel,
    };
    struct transport *transport = session_take_transport(session);
    struct registry_response response = { 0 };
    bool ok = transport_exchange(transport, &exchange, &response, error) == EXCHANGE_ANSWERED;
    session_give_transport(session, transport);
    if (ok)
        ok = response.status == 200 ? take_token(endpoint, &response, &session->refresh_token, error)
                                    : token_failed(&response, request->form ? "Post" : "Get", request->url->str, error);
    registry_response_clear(&response);
    tls_settings_clear(&tls);
    return ok;
}

/* The session's lock is held: those that need the same token wait for it. */
static bool fetch_token(struct registry_session *session, struct endpoint *endpoint, struct cancel *cancel, GError **error)
{
    const struct registry_auth *auth = credentials(session, endpoint);
    bool with_identity = auth->identity_token != NULL, with_credentials = with_identity || auth->username;
    g_autoptr(GPtrArray) scopes = wanted_scopes(session, &endpoint->challenge);
    if (!check_realm(endpoint, endpoint->challenge.realm, with_credentials, error))
        return false;
    struct token_request request = { .url = g_string_new(endpoint->challenge.realm) };
    if (with_identity)
        make_post(session, endpoint, scopes, &request);
    else
        make_get(session, endpoint, scopes, &request);
    bool ok = ask(session, endpoint, &request, cancel, error);
    if (ok && with_identity && *session->refresh_token) { /* some servers take each of them once */
        g_free(session->auth.identity_token);
        session->auth.identity_token = g_strdup(session->refresh_token);
    }
    curl_slist_free_all(request.headers);
    g_string_free(request.url, TRUE);
    if (request.form)
        g_string_free(request.form, TRUE);
    return ok;
}

static bool header_locked(struct registry_session *session, struct endpoint *endpoint, struct cancel *cancel, char **ret,
                          GError **error)
{
    const struct registry_auth *auth = credentials(session, endpoint);
    *ret = NULL;
    if (auth->registry_token) {
        *ret = g_strconcat("Authorization: Bearer ", auth->registry_token, NULL);
    } else if (endpoint->challenge.scheme == AUTH_BASIC && auth->username) {
        *ret = basic_header(auth);
    } else if (endpoint->challenge.scheme == AUTH_BEARER) {
        if ((!endpoint->token || endpoint->token_until < g_get_monotonic_time()) &&
            !fetch_token(session, endpoint, cancel, error))
            return false;
        *ret = g_strconcat("Authorization: Bearer ", endpoint->token, NULL);
    }
    return true;
}

bool token_header(struct registry_session *session, struct endpoint *endpoint, struct cancel *cancel, char **ret, GError **error)
{
    g_mutex_lock(&session->lock);
    bool ok = header_locked(session, endpoint, cancel, ret, error);
    g_mutex_unlock(&session->lock);
    return ok;
}

bool token_challenged(struct registry_session *session, struct endpoint *endpoint, const char *header, const char *used,
                      GError **error)
{
    struct challenge challenge = { 0 };
    challenge_parse(header ? header : "", &challenge);
    const struct registry_auth *auth = credentials(session, endpoint);
    bool ok = true;
    if (challenge.scheme == AUTH_BASIC && !(auth->username))
        ok = error_set(error, TARE_ERROR_UNAUTHORIZED, "no basic auth credentials");
    else if (challenge.scheme == AUTH_NONE)
        ok = error_set(error, TARE_ERROR_UNAUTHORIZED, "authentication required");
    g_mutex_lock(&session->lock);
    if (ok) {
        /* Another thread may have renewed the token while this request was under way. */
        g_autofree char *current = endpoint->token ? g_strconcat("Authorization: Bearer ", endpoint->token, NULL) : NULL;
        if (!current || g_strcmp0(current, used) == 0)
            g_clear_pointer(&endpoint->token, g_free);
        challenge_clear(&endpoint->challenge);
        endpoint->challenge = challenge;
    } else {
        challenge_clear(&challenge);
    }
    g_mutex_unlock(&session->lock);
    return ok;
}
