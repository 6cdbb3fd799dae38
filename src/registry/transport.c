/* One HTTP exchange over libcurl: driven by the calling thread, ended by a cancel, bounded in size and time. Connections stay
 * open in the transport for its next exchange. */
#include "registry/registry-internal.h"

#include "base/proxy.h"

#include <string.h>

#define DEFAULT_MAX_BODY (4u << 20)
#define MAX_HEADERS 200
#define BUFFER_BYTES (512L << 10)
/* A server that has everything and checks it may be silent for longer than one in the middle of a transfer. */
enum { ANSWER_PATIENCE = 10, POLL_MS = 1000 };

struct transport {
    CURLM *multi;
    CURL *easy;
};

struct turn {
    const struct exchange *exchange;
    CURL *easy;
    struct registry_response *response;
    GByteArray *body;
    gsize max_body;
    bool body_begun, to_sink;
    bool callback_failed, sink_failed;
    const char *proxy;   /* or NULL */
    GError *error;       /* of a callback of ours */
    guint64 sent, moved; /* moved: bytes in either direction since the window began */
    gint64 window_began;
    bool all_sent;
    char problem[CURL_ERROR_SIZE];
};

struct transport *transport_new(void)
{
    static gsize initialised;
    if (g_once_init_enter(&initialised)) {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        g_once_init_leave(&initialised, 1);
    }
    struct transport *transport = g_new0(struct transport, 1);
    transport->multi = curl_multi_init();
    transport->easy = curl_easy_init();
    return transport;
}

void transport_free(struct transport *transport)
{
    if (!transport)
        return;
    curl_easy_cleanup(transport->easy);
    curl_multi_cleanup(transport->multi);
    g_free(transport);
}

/* ---- URLs ---- */

char *url_part(const char *url, CURLUPart part, unsigned flags)
{
    CURLU *parsed = curl_url();
    char *text = NULL, *copy = NULL;
    if (curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK && curl_url_get(parsed, part, &text, flags) == CURLUE_OK)
        copy = g_strdup(text);
    curl_free(text);
    curl_url_cleanup(parsed);
    return copy;
}

char *url_host(const char *url)
{
    g_autofree char *host = url_part(url, CURLUPART_HOST, 0), *port = url_part(url, CURLUPART_PORT, 0);
    return host ? g_strconcat(host, port ? ":" : "", port ? port : "", NULL) : g_strdup("");
}

char *url_origin(const char *url)
{
    g_autofree char *scheme = url_part(url, CURLUPART_SCHEME, 0), *host = url_part(url, CURLUPART_HOST, 0),
                    *port = url_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    if (!scheme || !host || !port)
        return g_strdup("");
    g_autofree char *origin = g_strconcat(scheme, "://", host, ":", port, NULL);
    return g_ascii_strdown(origin, -1);
}

char *url_resolve(const char *base, const char *target)
{
    CURLU *parsed = curl_url();
    char *text = NULL, *copy = NULL;
    if ((!base || curl_url_set(parsed, CURLUPART_URL, base, 0) == CURLUE_OK) &&
        curl_url_set(parsed, CURLUPART_URL, target, 0) == CURLUE_OK && curl_url_get(parsed, CURLUPART_URL, &text, 0) == CURLUE_OK)
        copy = g_strdup(text);
    curl_free(text);
    curl_url_cleanup(parsed);
    return copy;
}

/* ---- what curl calls ---- */

static size_t take_header(char *data, size_t size, size_t n, void *user)
{
    struct turn *turn = user;
    gsize length = size * n;
    GHashTable *headers = turn->response->headers;
    turn->moved += length;
    if (length >= 5 && memcmp(data, "HTTP/", 5) == 0) { /* also after "100 Continue": only the last head counts */
        g_hash_table_remove_all(headers);
        return length;
    }
    const char *colon = memchr(data, ':', length);
    if (!colon || g_hash_table_size(headers) >= MAX_HEADERS)
        return length;
    g_autofree char *value = g_strndup(colon + 1, length - (gsize)(colon + 1 - data));
    char *name = g_ascii_strdown(data, colon - data);
    g_strstrip(value);
    const char *before = g_hash_table_lookup(headers, name);
    bool joins = before && strcmp(name, "www-authenticate") == 0;
    g_hash_table_insert(headers, name, joins ? g_strconcat(before, ", ", value, NULL) : g_steal_pointer(&value));
    return length;
}

static bool begin_body(struct turn *turn)
{
    const struct registry_request *request = turn->exchange->request;
    long status = 0;
    curl_easy_getinfo(turn->easy, CURLINFO_RESPONSE_CODE, &status);
    turn->response->status = (int)status;
    turn->body_begun = true;
    turn->to_sink = request && request->sink && !turn->exchange->keep_body && status >= 200 && status < 300;
    return !turn->to_sink || !request->begin || request->begin(request->user, turn->response, &turn->error);
}

static size_t take_body(char *data, size_t size, size_t n, void *user)
{
    struct turn *turn = user;
    gsize length = size * n;
    bool ok = turn->body_begun || begin_body(turn);
    turn->moved += length;
    if (ok && turn->to_sink) {
        ok = sink_write(turn->exchange->request->sink, data, length, &turn->error);
        turn->sink_failed = !ok;
        turn->response->received += ok ? length : 0;
    } else if (ok) {
        ok = length <= turn->max_body - turn->body->len ||
             error_set(&turn->error, TARE_ERROR_TOO_LARGE, "the answer is larger than %" G_GSIZE_FORMAT " bytes", turn->max_body);
        if (ok)
            g_byte_array_append(turn->body, (guint8 *)data, (guint)length);
    }
    turn->callback_failed = !ok;
    return ok ? length : CURL_WRITEFUNC_ERROR;
}

static size_t give_body(char *buffer, size_t size, size_t n, void *user)
{
    struct turn *turn = user;
    struct registry_body *body = turn->exchange->body;
    gssize got = source_read(body->source, buffer, size * n, &turn->error);
    if (got < 0) {
        turn->callback_failed = true;
        return CURL_READFUNC_ABORT;
    }
    turn->moved += (guint64)got;
    turn->sent += (guint64)got;
    turn->all_sent = got == 0 || turn->sent == body->length;
    if (body->progress)
        body->progress(body->user, turn->sent);
    return (size_t)got;
}

/* ---- settings ---- */

/* Names are the proxy's to look up, also for SOCKS. */
static void set_proxy(CURL *easy, const char *proxy)
{
    bool is_socks = proxy && g_str_has_prefix(proxy, "socks5://");
    g_autofree char *by_name = is_socks ? g_strconcat("socks5h", proxy + strlen("socks5"), NULL) : NULL;
    curl_easy_setopt(easy, CURLOPT_PROXY, by_name ? by_name : proxy ? proxy : "");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
}

static void set_tls(CURL *easy, const struct tls_settings *tls)
{
    if (!tls)
        return;
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, tls->skip_verify ? 0L : 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, tls->skip_verify ? 0L : 2L);
    if (tls->authorities) { /* CAPATH stays: the system's own authorities */
        struct curl_blob blob = { .data = tls->authorities, .len = strlen(tls->authorities), .flags = CURL_BLOB_COPY };
        curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
    }
    if (tls->certificate) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, tls->certificate);
        curl_easy_setopt(easy, CURLOPT_SSLKEY, tls->key);
    }
}

static void set_method(struct turn *turn)
{
    const struct exchange *exchange = turn->exchange;
    CURL *easy = turn->easy;
    if (strcmp(exchange->method, "HEAD") == 0)
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    if (exchange->body) {
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(easy, CURLOPT_READFUNCTION, give_body);
        curl_easy_setopt(easy, CURLOPT_READDATA, turn);
        curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_BYTES);
        if (exchange->body->length != G_MAXUINT64)
            curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)exchange->body->length);
    } else if (strcmp(exchange->method, "POST") == 0 || strcmp(exchange->method, "PUT") == 0 ||
               strcmp(exchange->method, "PATCH") == 0) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, ""); /* "Content-Length: 0" */
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, 0L);
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, strcmp(exchange->method, "HEAD") == 0 ? NULL : exchange->method);
}

static void set_options(struct turn *turn)
{
    const struct exchange *exchange = turn->exchange;
    CURL *easy = turn->easy;
    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_URL, exchange->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT,
                     exchange->dial_timeout_s ? (long)exchange->dial_timeout_s : (long)REGISTRY_CONNECT_TIMEOUT_S);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "tare/" TARE_VERSION);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_EXPECT_100_TIMEOUT_MS, 1000L);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, exchange->headers);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, turn);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, turn);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, turn->problem);
    set_proxy(easy, turn->proxy);
    registry_curl_authorities(easy);
    set_tls(easy, exchange->tls);
    set_method(turn);
    const struct registry_request *request = exchange->request;
    if (request && request->has_range) {
        g_autofree char *range =
            request->range_last == G_MAXUINT64
                ? g_strdup_printf("%" G_GUINT64_FORMAT "-", request->range_first)
                : g_strdup_printf("%" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT, request->range_first, request->range_last);
        curl_easy_setopt(easy, CURLOPT_RANGE, range);
    }
}

/* ---- the exchange ---- */

static char *title(const char *method)
{
    char *text = g_ascii_strdown(method, -1);
    *text = g_ascii_toupper(*text);
    return text;
}

/* What is wrong with the way to the proxy, or what the proxy says to us; NULL where it is neither. */
static char *describe_proxy(const struct turn *turn, CURLcode code)
{
    long os_error = 0, status = 0;
    if (!turn->proxy)
        return NULL;
    g_autofree char *at = url_host(turn->proxy), *shown = proxy_masked(turn->proxy);
    curl_easy_getinfo(turn->easy, CURLINFO_OS_ERRNO, &os_error);
    curl_easy_getinfo(turn->easy, CURLINFO_HTTP_CONNECTCODE, &status);
    if (code == CURLE_COULDNT_RESOLVE_PROXY)
        return g_strdup_printf("proxyconnect tcp: dial tcp: lookup %s: no such host", at);
    if (code == CURLE_COULDNT_CONNECT)
        return g_strdup_printf("proxyconnect tcp: dial tcp %s: connect: %s", at,
                               os_error ? error_errno_text((int)os_error) : curl_easy_strerror(code));
    if (status >= 400)
        return g_strdup_printf("the proxy %s refuses the connection: %ld %s", shown, status, http_status_name((int)status));
    return NULL;
}

/* How Docker's users know these. */
static char *describe(const struct turn *turn, CURLcode code)
{
    char *of_proxy = describe_proxy(turn, code);
    return of_proxy ? of_proxy : registry_curl_describe(turn->easy, turn->exchange->url, code, turn->problem);
}

static enum exchange_result classify(const struct turn *turn, CURLcode code)
{
    long status = 0;
    curl_easy_getinfo(turn->easy, CURLINFO_HTTP_CONNECTCODE, &status);
    if (status >= 400) /* a proxy that does not let us through */
        return EXCHANGE_UNREACHABLE;
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_OPERATION_TIMEDOUT: /* only connecting has a limit of curl's */
        return EXCHANGE_UNREACHABLE;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WRITE_ERROR:
    case CURLE_ABORTED_BY_CALLBACK:
        return EXCHANGE_FAILED;
    default:
        return EXCHANGE_BROKEN;
    }
}

static enum exchange_result fail(struct turn *turn, CURLcode code, GError **error)
{
    if (turn->callback_failed) {
        g_propagate_error(error, g_steal_pointer(&turn->error));
        return turn->sink_failed ? EXCHANGE_STOPPED : EXCHANGE_FAILED;
    }
    enum exchange_result result = classify(turn, code);
    g_autofree char *method = title(turn->exchange->method), *what = describe(turn, code);
    /* Who cannot be reached is named as Docker does, which always asks for the root first. */
    const char *url = turn->exchange->url, *root = strstr(url, "/v2/");
    bool at_root = result == EXCHANGE_UNREACHABLE && root && !strchr(url, '?');
    g_autofree char *shown = at_root ? g_strndup(url, (gsize)(root + strlen("/v2/") - url)) : g_strdup(url);
    error_set(error, TARE_ERROR_INTERNAL, "%s \"%s\": %s", at_root ? "Get" : method, shown, what);
    return result;
}

/* False when too little has moved for too long. */
static bool still_moves(struct turn *turn)
{
    gint64 now = g_get_monotonic_time(), patience = turn->exchange->stall_timeout_s * G_USEC_PER_SEC;
    if (turn->all_sent && !turn->response->status)
        patience *= ANSWER_PATIENCE;
    if (now - turn->window_began < patience)
        return true;
    guint64 wanted = (guint64)turn->exchange->stall_timeout_s * REGISTRY_MIN_SPEED;
    if (turn->moved < wanted)
        return false;
    turn->moved = 0;
    turn->window_began = now;
    return true;
}

static enum exchange_result drive(struct transport *transport, struct turn *turn, GError **error)
{
    struct cancel *cancel = turn->exchange->cancel;
    struct curl_waitfd extra = { .fd = cancel_fd(cancel), .events = CURL_WAIT_POLLIN };
    for (;;) {
        int running = 0, queued = 0;
        if (!cancel_check(cancel, error))
            return EXCHANGE_FAILED;
        curl_multi_perform(transport->multi, &running);
        CURLMsg *message = curl_multi_info_read(transport->multi, &queued);
        if (message && message->msg == CURLMSG_DONE)
            return message->data.result == CURLE_OK ? EXCHANGE_ANSWERED : fail(turn, message->data.result, error);
        if (!still_moves(turn)) {
            g_autofree char *method = title(turn->exchange->method);
            error_set(error, TARE_ERROR_INTERNAL, "%s \"%s\": the server stalled: less than %u bytes in %u seconds", method,
                      turn->exchange->url, turn->exchange->stall_timeout_s * REGISTRY_MIN_SPEED, turn->exchange->stall_timeout_s);
            return EXCHANGE_BROKEN;
        }
        curl_multi_poll(transport->multi, cancel ? &extra : NULL, cancel ? 1 : 0, POLL_MS, NULL);
    }
}

static enum exchange_result finish(struct turn *turn, GError **error)
{
    char *url = NULL;
    /* An empty body begins here. */
    if (!turn->body_begun && !begin_body(turn)) {
        g_propagate_error(error, g_steal_pointer(&turn->error));
        return EXCHANGE_FAILED;
    }
    struct registry_response *response = turn->response;
    curl_easy_getinfo(turn->easy, CURLINFO_EFFECTIVE_URL, &url);
    response->url = g_strdup(url ? url : turn->exchange->url);
    response->body_length = turn->body->len;
    g_byte_array_append(turn->body, (const guint8 *)"", 1);
    response->body = (char *)g_byte_array_free(g_steal_pointer(&turn->body), FALSE);
    return EXCHANGE_ANSWERED;
}

enum exchange_result transport_exchange(struct transport *transport, const struct exchange *exchange,
                                        struct registry_response *ret, GError **error)
{
    struct registry_response response = { .headers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free) };
    struct turn turn = {
        .exchange = exchange,
        .easy = transport->easy,
        .response = &response,
        .body = g_byte_array_new(),
        .max_body = exchange->request && exchange->request->max_body ? exchange->request->max_body : DEFAULT_MAX_BODY,
        .window_began = g_get_monotonic_time(),
        .proxy = proxy_for_url(exchange->url),
    };
    set_options(&turn);
    curl_multi_add_handle(transport->multi, transport->easy);
    enum exchange_result result = drive(transport, &turn, error);
    if (result == EXCHANGE_ANSWERED)
        result = finish(&turn, error);
    curl_multi_remove_handle(transport->multi, transport->easy);
    curl_easy_reset(transport->easy); /* nothing of ours may be called from here on */
    if (turn.body)
        g_byte_array_unref(turn.body);
    g_clear_error(&turn.error);
    if (result == EXCHANGE_ANSWERED)
        *ret = response;
    else
        registry_response_clear(&response);
    return result;
}
