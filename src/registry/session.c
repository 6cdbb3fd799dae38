/* Sessions, and one request within one: over its endpoints, with authorisation, redirects, and patience where a server asks for
 * it. */
#include "registry/registry-internal.h"

#include "base/parse.h"

#include <string.h>

enum { ATTEMPTS = 4, IDLE_MAX = 16, AUTH_ROUNDS = 2 };

static bool rewind_memory(struct registry_body *body, GError **error)
{
    ((struct memory_source *)body->source)->at = 0;
    return true;
}

void registry_memory_body_init(struct registry_memory_body *self, const void *data, gsize length)
{
    memory_source_init(&self->source, data, length);
    self->body = (struct registry_body){ .source = &self->source.source, .rewind = rewind_memory, .length = length };
}

void registry_response_clear(struct registry_response *response)
{
    g_clear_pointer(&response->url, g_free);
    g_clear_pointer(&response->body, g_free);
    g_clear_pointer(&response->headers, g_hash_table_unref);
}

const char *registry_response_header(const struct registry_response *response, const char *name)
{
    g_autofree char *small = g_ascii_strdown(name, -1);
    return g_hash_table_lookup(response->headers, small);
}

/* ---- sessions ---- */

static void copy_auth(const struct registry_auth *from, struct registry_auth *to)
{
    *to = (struct registry_auth){ g_strdup(from->username), g_strdup(from->password), g_strdup(from->identity_token),
                                  g_strdup(from->registry_token), g_strdup(from->server_address) };
}

bool registry_session_new(struct registry *registry, const struct reference *reference, const struct registry_auth *auth,
                          enum registry_access access, struct cancel *cancel, struct registry_session **ret, GError **error)
{
    GPtrArray *endpoints = NULL;
    if (!hosts_resolve(registry, reference->domain, access, &endpoints, error))
        return false;
    struct registry_session *session = g_new0(struct registry_session, 1);
    session->references = 1;
    session->registry = registry;
    session->repository = g_strdup(reference->path);
    session->domain = g_strdup(reference->domain);
    session->access = access;
    session->cancel = cancel_ref(cancel);
    session->endpoints = endpoints;
    session->scopes = g_ptr_array_new_with_free_func(g_free);
    g_mutex_init(&session->lock);
    g_mutex_init(&session->idle_lock);
    if (auth)
        copy_auth(auth, &session->auth);
    *ret = session;
    return true;
}

struct registry_session *session_ref(struct registry_session *session)
{
    g_atomic_int_inc(&session->references);
    return session;
}

void registry_session_free(struct registry_session *session)
{
    if (!session || !g_atomic_int_dec_and_test(&session->references))
        return;
    for (struct transport *idle; (idle = g_queue_pop_head(&session->idle));)
        transport_free(idle);
    g_ptr_array_unref(session->endpoints);
    g_ptr_array_unref(session->scopes);
    registry_auth_clear(&session->auth);
    cancel_unref(session->cancel);
    g_mutex_clear(&session->lock);
    g_mutex_clear(&session->idle_lock);
    g_free(session->refresh_token);
    g_free(session->repository);
    g_free(session->domain);
    g_free(session);
}

void registry_session_add_scope(struct registry_session *session, const char *scope)
{
    g_mutex_lock(&session->lock);
    if (!g_ptr_array_find_with_equal_func(session->scopes, scope, g_str_equal, NULL)) {
        g_ptr_array_add(session->scopes, g_strdup(scope));
        for (guint i = 0; i < session->endpoints->len; i++) /* what they have does not allow it */
            g_clear_pointer(&((struct endpoint *)session->endpoints->pdata[i])->token, g_free);
    }
    g_mutex_unlock(&session->lock);
}

const char *registry_session_repository(const struct registry_session *session)
{
    return session->repository;
}

const char *registry_session_host(const struct registry_session *session)
{
    return session->domain;
}

/* A lock of their own: a token server is asked with the session's lock held, over one of them. */
struct transport *session_take_transport(struct registry_session *session)
{
    g_mutex_lock(&session->idle_lock);
    struct transport *transport = g_queue_pop_head(&session->idle);
    g_mutex_unlock(&session->idle_lock);
    return transport ? transport : transport_new();
}

void session_give_transport(struct registry_session *session, struct transport *transport)
{
    g_mutex_lock(&session->idle_lock);
    bool keep = session->idle.length < IDLE_MAX;
    if (keep)
        g_queue_push_head(&session->idle, transport);
    g_mutex_unlock(&session->idle_lock);
    if (!keep)
        transport_free(transport);
}

bool session_wait(struct cancel *cancel, gint64 us, GError **error)
{
    if (!cancel) {
        g_usleep((gulong)us);
        return true;
    }
    return cancel_poll(cancel, -1, 0, (int)(us / 1000), error) >= 0;
}

/* ---- one request ---- */

struct attempt {
    struct registry_session *session;
    const struct registry_request *request;
    struct cancel *cancel;
    struct endpoint *endpoint; /* NULL: a foreign URL */
    struct registry_response *response;
};

static char *endpoint_url(const struct registry_session *session, const struct endpoint *endpoint, const char *target)
{
    const char *root = endpoint->exact_path ? "" : "/v2";
    const char *mark = !endpoint->names_registry ? "" : strchr(target, '?') ? "&ns=" : "?ns=";
    const char *registry = endpoint->names_registry ? session->domain : "";
    if (g_str_has_prefix(target, "/v2/"))
        return g_strconcat(endpoint->url, root, target + strlen("/v2"), mark, registry, NULL);
    if (g_str_has_prefix(target, "/"))
        return g_strconcat(endpoint->url, target, NULL);
    return g_strconcat(endpoint->url, root, "/", session->repository, "/", target, mark, registry, NULL);
}

static struct curl_slist *make_headers(const struct attempt *attempt, const char *authorization, bool same_origin)
{
    const struct registry_request *request = attempt->request;
    struct curl_slist *headers = NULL;
    if (authorization)
        headers = curl_slist_append(headers, authorization);
    if (request->accept) {
        g_autofree char *accept = g_strconcat("Accept: ", request->accept, NULL);
        headers = curl_slist_append(headers, accept);
    }
    if (request->content_type) {
        g_autofree char *type = g_strconcat("Content-Type: ", request->content_type, NULL);
        headers = curl_slist_append(headers, type);
    }
    for (const char *const *header = request->headers; header && *header; header++)
        headers = curl_slist_append(headers, *header);
    for (char **header = same_origin && attempt->endpoint ? attempt->endpoint->headers : NULL; header && *header; header++)
        headers = curl_slist_append(headers, *header);
    if (request->body) /* an upload's body is either wanted or not; asking first costs a round trip */
        headers = curl_slist_append(headers, "Expect:");
    return headers;
}

static enum exchange_result exchange_once(struct attempt *attempt, const char *url, const char *authorization, bool same_origin,
                                          GError **error)
{
    struct tls_settings foreign = { 0 };
    const struct tls_settings *tls = same_origin && attempt->endpoint ? &attempt->endpoint->tls : &foreign;
    struct registry *registry = attempt->session->registry;
    struct registry_body *body = attempt->request->body;
    if (body && body->rewind && !body->rewind(body, error))
        return EXCHANGE_FAILED;
    if (tls == &foreign) {
        g_autofree char *host = url_host(url);
        if (!hosts_tls(registry, host, &foreign, error))
            return EXCHANGE_FAILED;
    }
    struct curl_slist *headers = make_headers(attempt, authorization, same_origin);
    const struct exchange exchange = {
        .method = attempt->request->method,
        .url = url,
        .headers = headers,
        .tls = tls,
        .request = attempt->request,
        .body = body,
        .stall_timeout_s = registry->stall_timeout_s,
        .dial_timeout_s = attempt->endpoint ? attempt->endpoint->dial_timeout_s : 0,
        .cancel = attempt->cancel,
    };
    struct transport *transport = session_take_transport(attempt->session);
    enum exchange_result result = transport_exchange(transport, &exchange, attempt->response, error);
    session_give_transport(attempt->session, transport);
    curl_slist_free_all(headers);
    tls_settings_clear(&foreign);
    return result;
}

static bool is_redirect(const struct attempt *attempt)
{
    int status = attempt->response->status;
    if (!registry_response_header(attempt->response, "location"))
        return false;
    const char *method = attempt->request->method;
    bool is_reading = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    if (is_reading)
        return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
    const struct registry_body *body = attempt->request->body;
    return (status == 307 || status == 308) && (!body || body->rewind);
}

static bool next_url(const struct attempt *attempt, char **url, GError **error)
{
    const char *location = registry_response_header(attempt->response, "location");
    g_autofree char *next = url_resolve(*url, location);
    if (!next || !(g_str_has_prefix(next, "https://") || g_str_has_prefix(next, "http://")))
        return error_set(error, TARE_ERROR_INTERNAL, "%s redirects to an invalid address \"%s\"", *url, location);
    bool may_be_plain = g_str_has_prefix(*url, "http://") || (attempt->endpoint && attempt->endpoint->tls.skip_verify);
    if (g_str_has_prefix(next, "http://") && !may_be_plain)
        return error_set(error, TARE_ERROR_INTERNAL, "%s redirects to \"%s\", which is not encrypted", *url, next);
    g_free(*url);
    *url = g_steal_pointer(&next);
    return true;
}

/* With redirects. Credentials go to the endpoint alone: not to another host, port or scheme. */
static enum exchange_result follow(struct attempt *attempt, const char *first_url, const char *authorization, GError **error)
{
    g_autofree char *url = g_strdup(first_url), *home = url_origin(first_url);
    for (unsigned n = 0;; n++) {
        g_autofree char *origin = url_origin(url);
        bool same_origin = strcmp(origin, home) == 0;
        enum exchange_result result = exchange_once(attempt, url, same_origin ? authorization : NULL, same_origin, error);
        if (result != EXCHANGE_ANSWERED || !is_redirect(attempt))
            return result;
        bool ok = n < REGISTRY_MAX_REDIRECTS ? next_url(attempt, &url, error)
                                             : error_set(error, TARE_ERROR_INTERNAL, "%s: stopped after %d redirects", first_url,
                                                         REGISTRY_MAX_REDIRECTS);
        registry_response_clear(attempt->response);
        if (!ok)
            return EXCHANGE_FAILED;
    }
}

static void name_failure(const char *method, const char *url, GError **error)
{
    g_autofree char *title = g_ascii_strdown(method, -1);
    *title = g_ascii_toupper(*title);
    g_prefix_error(error, "%s \"%s\": ", title, url);
}

/* With authorisation: a 401 is answered once with what the challenge asks for, and once more where a token had run out. */
static enum exchange_result authorised(struct attempt *attempt, const char *url, GError **error)
{
    for (unsigned round = 0;; round++) {
        g_autofree char *authorization = NULL;
        if (attempt->endpoint && !token_header(attempt->session, attempt->endpoint, attempt->cancel, &authorization, error))
            return EXCHANGE_FAILED;
        enum exchange_result result = follow(attempt, url, authorization, error);
        if (result != EXCHANGE_ANSWERED || attempt->response->status != 401 || !attempt->endpoint || round == AUTH_ROUNDS)
            return result;
        /* The same again would be refused again. */
        bool was_basic = authorization && g_str_has_prefix(authorization, "Authorization: Basic ");
        if (was_basic || attempt->session->auth.registry_token)
            return result;
        g_autoptr(GError) problem = NULL;
        const char *header = registry_response_header(attempt->response, "www-authenticate");
        bool ok = token_challenged(attempt->session, attempt->endpoint, header, authorization, &problem);
        if (!ok && header) {
            name_failure(attempt->request->method, url, &problem);
            g_propagate_error(error, g_steal_pointer(&problem));
            registry_response_clear(attempt->response);
            return EXCHANGE_FAILED;
        }
        if (!ok)
            return result;
        registry_response_clear(attempt->response);
    }
}

/* ---- patience ---- */

/* What the server asks for, or -1. */
static gint64 retry_after_us(const struct registry_response *response)
{
    const char *text = registry_response_header(response, "retry-after");
    guint64 seconds;
    if (!text)
        return -1;
    if (parse_uint(text, 1000000, &seconds))
        return (gint64)seconds * G_USEC_PER_SEC;
    time_t when = curl_getdate(text, NULL);
    return when < 0 ? -1 : MAX((gint64)(when - time(NULL)), 0) * G_USEC_PER_SEC;
}

static bool is_transient(int status)
{
    return status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

/* Whether to try once more after this answer, and when. */
static bool waits(const struct attempt *attempt, unsigned n, gint64 *ret_us)
{
    int status = attempt->response->status;
    const struct registry_body *body = attempt->request->body;
    bool is_mirror = attempt->endpoint && attempt->endpoint->is_mirror; /* the next one is asked instead */
    if (!is_transient(status) || is_mirror || n + 1 >= ATTEMPTS || (body && !body->rewind))
        return false;
    gint64 asked = retry_after_us(attempt->response);
    if (asked > REGISTRY_MAX_WAIT_S * G_USEC_PER_SEC)
        return false;
    *ret_us = asked >= 0 ? asked : (gint64)(G_USEC_PER_SEC / 4) << (2 * n);
    return true;
}

static enum exchange_result patient(struct attempt *attempt, const char *url, GError **error)
{
    for (unsigned n = 0;; n++) {
        g_autoptr(GError) problem = NULL;
        gint64 us = (gint64)(G_USEC_PER_SEC / 4) << (2 * n);
        enum exchange_result result = authorised(attempt, url, &problem);
        const struct registry_request *request = attempt->request;
        bool is_mirror = attempt->endpoint && attempt->endpoint->is_mirror, can_repeat = !request->body || request->body->rewind;
        bool may_repeat = n + 1 < ATTEMPTS && !request->sink && !is_mirror && can_repeat;
        bool again =
            !request->once && (result == EXCHANGE_ANSWERED ? waits(attempt, n, &us) : result == EXCHANGE_BROKEN && may_repeat);
        if (!again) {
            if (problem)
                g_propagate_error(error, g_steal_pointer(&problem));
            return result;
        }
        if (result == EXCHANGE_ANSWERED)
            registry_response_clear(attempt->response);
        if (!session_wait(attempt->cancel, us, error))
            return EXCHANGE_FAILED;
    }
}

/* ---- endpoints ---- */

/* Answers after which the next endpoint may know better. */
static bool falls_through(const struct endpoint *endpoint, int status)
{
    return endpoint->is_mirror &&
           (status >= 500 || status == 401 || status == 403 || status == 404 || status == 429 || status == 400);
}

static bool is_eligible(const struct attempt *attempt, const struct endpoint *endpoint)
{
    const struct registry_request *request = attempt->request;
    bool is_push = attempt->session->access == REGISTRY_PUSH; /* one that takes pushes is what they go to */
    if (request->origin_only && endpoint->is_mirror && !is_push)
        return false;
    bool resolves = g_str_has_prefix(request->target, "manifests/") && !strstr(request->target, "sha256:");
    if (is_push)
        return endpoint->can_push;
    return resolves ? endpoint->can_resolve : endpoint->can_pull;
}

static bool over_endpoints(struct attempt *attempt, GError **error)
{
    struct registry_session *session = attempt->session;
    g_autoptr(GError) last = NULL;
    bool https_spoken = false;
    for (guint i = 0; i < session->endpoints->len; i++) {
        struct endpoint *endpoint = attempt->endpoint = session->endpoints->pdata[i];
        bool is_last = i + 1 == session->endpoints->len;
        /* Never in plain text to a host that speaks TLS. */
        if (!is_eligible(attempt, endpoint) || (endpoint->is_fallback && (https_spoken || !last)))
            continue;
        g_autoptr(GError) problem = NULL;
        g_autofree char *url = endpoint_url(session, endpoint, attempt->request->target);
        enum exchange_result result = patient(attempt, url, &problem);
        if (result == EXCHANGE_ANSWERED) {
            if (!endpoint->is_mirror && endpoint->tls.skip_verify)
                hosts_note_plain(session->registry, endpoint->host, endpoint->is_plain);
            bool is_push = session->access == REGISTRY_PUSH; /* all of it to one host, or to none */
            if (is_last || is_push || !falls_through(endpoint, attempt->response->status))
                return true;
            registry_response_clear(attempt->response);
            continue;
        }
        https_spoken |= !endpoint->is_mirror && !endpoint->is_plain && result != EXCHANGE_UNREACHABLE;
        /* A sink that may have got something must be one that is told when it begins again. */
        bool can_begin_again = !attempt->request->sink || attempt->request->begin;
        bool goes_on = result == EXCHANGE_UNREACHABLE ||
                       (endpoint->is_mirror && can_begin_again && result != EXCHANGE_STOPPED && !cancel_is_set(attempt->cancel));
        g_clear_error(&last);
        last = g_steal_pointer(&problem);
        if (!goes_on)
            break;
    }
    if (!last)
        return error_set(error, TARE_ERROR_NOT_FOUND, "no host of registry %s has %s", session->domain, session->repository);
    g_propagate_error(error, g_steal_pointer(&last));
    return false;
}

/* A URL of its own: credentials only where it is an endpoint's. */
static bool to_url(struct attempt *attempt, const char *url, GError **error)
{
    struct registry_session *session = attempt->session;
    g_autofree char *origin = url_origin(url);
    for (guint i = 0; i < session->endpoints->len && !attempt->endpoint; i++) {
        struct endpoint *endpoint = session->endpoints->pdata[i];
        g_autofree char *own = url_origin(endpoint->url);
        if (strcmp(own, origin) == 0)
            attempt->endpoint = endpoint;
    }
    return patient(attempt, url, error) == EXCHANGE_ANSWERED;
}

/* A registry behind something that ends TLS, which it was not told of, calls itself "http://": the same host is spoken to as
 * before. */
char *session_location(const struct registry_session *session, const char *base, const char *location, GError **error)
{
    g_autofree char *url = location ? url_resolve(base, location) : NULL;
    if (!url) {
        error_set(error, TARE_ERROR_INTERNAL, "%s/%s: the registry does not say where to go on: \"%s\"", session->domain,
                  session->repository, location ? location : "");
        return NULL;
    }
    if (!g_str_has_prefix(base, "https://") || g_str_has_prefix(url, "https://"))
        return g_steal_pointer(&url);
    g_autofree char *before = url_host(base), *after = url_host(url);
    if (strcmp(before, after) == 0 && g_str_has_prefix(url, "http://"))
        return g_strconcat("https", url + strlen("http"), NULL);
    error_set(error, TARE_ERROR_INTERNAL, "%s/%s: the registry wants to go on at \"%s\", which is not encrypted", session->domain,
              session->repository, url);
    return NULL;
}

bool registry_request(struct registry_session *session, const struct registry_request *request, struct registry_response *ret,
                      GError **error)
{
    struct registry_response response = { 0 };
    struct attempt attempt = { .session = session,
                               .request = request,
                               .cancel = request->cancel ? request->cancel : session->cancel,
                               .response = &response };
    bool is_url = request->base || g_str_has_prefix(request->target, "http://") || g_str_has_prefix(request->target, "https://");
    bool ok;
    if (is_url) {
        g_autofree char *url = url_resolve(request->base, request->target);
        ok = url ? to_url(&attempt, url, error)
                 : error_set(error, TARE_ERROR_INTERNAL, "registry %s gave an invalid address \"%s\"", session->domain,
                             request->target);
    } else {
        ok = over_endpoints(&attempt, error);
    }
    if (ok)
        *ret = response;
    return ok;
}

/* ---- answers as errors ---- */

const char *http_status_name(int status)
{
    static const struct {
        int status;
        const char *name;
    } names[] = { { 400, "Bad Request" },
                  { 401, "Unauthorized" },
                  { 403, "Forbidden" },
                  { 404, "Not Found" },
                  { 405, "Method Not Allowed" },
                  { 406, "Not Acceptable" },
                  { 407, "Proxy Authentication Required" },
                  { 409, "Conflict" },
                  { 413, "Payload Too Large" },
                  { 416, "Requested Range Not Satisfiable" },
                  { 429, "Too Many Requests" },
                  { 500, "Internal Server Error" },
                  { 501, "Not Implemented" },
                  { 502, "Bad Gateway" },
                  { 503, "Service Unavailable" },
                  { 504, "Gateway Timeout" } };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (names[i].status == status)
            return names[i].name;
    return "";
}

/* Who cannot be reached at all is said in Docker's own words, which have the host alone. */
static bool is_named(const struct registry_session *session, const char *message)
{
    const struct reference reference = { .domain = session->domain, .path = session->repository };
    g_autofree char *familiar = reference_familiar_name(&reference);
    return strstr(message, familiar) || (strstr(message, session->domain) && strstr(message, session->repository)) ||
           strstr(message, "/v2/\": ");
}

void session_name_error(const struct registry_session *session, GError **error)
{
    if (!session || !error || !*error || error_is(*error, TARE_ERROR_CANCELLED) || error_is(*error, TARE_ERROR_NO_SPACE) ||
        is_named(session, (*error)->message))
        return;
    g_prefix_error(error, "%s/%s: ", session->domain, session->repository);
}

void soften_unauthorized(GError **error)
{
    if (!*error || !error_is(*error, TARE_ERROR_UNAUTHORIZED))
        return;
    GError *plain = g_error_new_literal(TARE_ERROR, TARE_ERROR_INTERNAL, (*error)->message);
    g_clear_error(error);
    g_propagate_error(error, plain);
}

bool registry_response_check(const struct registry_session *session, const struct registry_response *response, const char *what,
                             GError **error)
{
    if (response->status < 400)
        return true;
    g_autofree char *text = registry_error_text(response->body, response->body_length, NULL);
    enum tare_error code = error_code_of_refusal(response->status);
    if (text)
        return error_set(error, code, "%s", text);
    if (response->status == 429)
        return error_set(error, code, "toomanyrequests: %s/%s: %s: too many requests to registry", session->domain,
                         session->repository, what);
    if (response->status == 401)
        return error_set(error, code, "unauthorized: authentication required: %s/%s: %s", session->domain, session->repository,
                         what);
    return error_set(error, code, "%s/%s: %s: received unexpected HTTP status: %d %s", session->domain, session->repository, what,
                     response->status, http_status_name(response->status));
}
