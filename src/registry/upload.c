/* One blob to a registry: begun with POST, sent with one PUT where its digest is known before, else as a stream with PATCH and
 * ended with PUT. What breaks goes on where the registry says that it has got to, or begins again; a registry that takes no
 * streams gets pieces. */
#include "registry/registry-internal.h"

#include "base/parse.h"

#include <string.h>

enum {
    PIECE_BYTES = 8 << 20,
    FIRST_PAUSE_S = 1, /* between attempts; doubled each time */
};

/* ---- the bytes ---- */

struct flow {
    struct registry_body body;
    struct byte_source source;
    const struct upload *upload;
    struct byte_source *inner;
    struct hasher *hasher;
    guint64 skip;  /* what the registry has already: not sent again */
    guint64 given; /* by the content, skipped bytes included */
    bool is_whole;
    bool failed; /* the content, and not the connection */
    char digest[DIGEST_ROOM];
};

static bool check_end(struct flow *flow, GError **error)
{
    const struct upload *upload = flow->upload;
    flow->is_whole = true;
    hasher_finish(flow->hasher, flow->digest);
    g_clear_pointer(&flow->hasher, hasher_free);
    if (upload->digest && strcmp(flow->digest, upload->digest) != 0)
        return error_set(error, TARE_ERROR_INTERNAL, "blob %s: what is to be sent is %s", upload->digest, flow->digest);
    return true;
}

static gssize read_inner(struct flow *flow, void *buffer, gsize length, GError **error)
{
    gssize n = flow->is_whole ? 0 : source_read(flow->inner, buffer, length, error);
    if (n > 0) {
        hasher_update(flow->hasher, buffer, (gsize)n);
        flow->given += (guint64)n;
    }
    bool ok = n >= 0 && (n > 0 || flow->is_whole || check_end(flow, error));
    /* Whoever sends a known number of bytes asks for no more, and so never hears of the end. */
    if (ok && n > 0 && flow->upload->digest && flow->given == flow->upload->size)
        ok = check_end(flow, error);
    if (ok && flow->upload->digest && flow->given > flow->upload->size)
        ok = error_set(error, TARE_ERROR_INTERNAL, "blob %s: it is longer than %" G_GUINT64_FORMAT " bytes", flow->upload->digest,
                       flow->upload->size);
    flow->failed = !ok;
    return ok ? n : -1;
}

static gssize read_flow(struct byte_source *self, void *buffer, gsize length, GError **error)
{
    struct flow *flow = (struct flow *)((char *)self - offsetof(struct flow, source));
    gssize n;
    while (flow->given < flow->skip) {
        n = read_inner(flow, buffer, (gsize)MIN(length, flow->skip - flow->given), error);
        if (n < 0)
            return n;
        if (n == 0) {
            error_set(error, TARE_ERROR_INTERNAL, "the registry has more of the blob than there is");
            flow->failed = true;
            return -1;
        }
    }
    n = read_inner(flow, buffer, length, error);
    if (n >= 0 && flow->upload->progress)
        flow->upload->progress(flow->upload->user, flow->given);
    return n;
}

static bool rewind_flow(struct registry_body *body, GError **error)
{
    struct flow *flow = (struct flow *)body;
    g_clear_pointer(&flow->hasher, hasher_free);
    flow->hasher = hasher_new();
    flow->given = 0;
    flow->is_whole = false;
    flow->failed = !flow->upload->content->open(flow->upload->content, &flow->inner, error);
    return !flow->failed;
}

static void flow_init(struct flow *flow, const struct upload *upload)
{
    *flow = (struct flow){ .upload = upload };
    flow->source.read = read_flow;
    flow->body = (struct registry_body){ .source = &flow->source, .rewind = rewind_flow, .length = G_MAXUINT64 };
}

/* ---- requests ---- */

/* A blob's name in messages: "blob sha256:…", or what it is going to be. */
static char *describe(const char *method, const struct upload *upload)
{
    return upload->digest ? g_strdup_printf("%s blob %s", method, upload->digest) : g_strdup_printf("%s blob", method);
}

static char *location_of(struct registry_session *session, const struct registry_response *response, GError **error)
{
    return session_location(session, response->url, registry_response_header(response, "location"), error);
}

static char *with_digest(const char *location, const char *digest)
{
    return g_strconcat(location, strchr(location, '?') ? "&" : "?", "digest=sha256%3A", digest_hex(digest), NULL);
}

/* Whether the same again may help: what a server says of its own state does, what it says of the request does not. */
static bool is_transient(int status)
{
    return status == 404 || status == 408 || status == 416 || status == 429 || status >= 500;
}

struct attempt {
    const struct upload *upload;
    struct flow *flow;
    char *location;
    bool in_pieces;
    bool again; /* it may help to try again */
};

/* What broke on the way may be tried again; what nobody has credentials for may not. */
static bool ask(struct attempt *attempt, const struct registry_request *request, struct registry_response *ret, GError **error)
{
    g_autoptr(GError) problem = NULL;
    if (registry_request(attempt->upload->session, request, ret, &problem))
        return true;
    attempt->again = !error_is(problem, TARE_ERROR_UNAUTHORIZED);
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

static char *begin_upload(struct attempt *attempt, GError **error)
{
    const struct upload *upload = attempt->upload;
    struct registry_request request = { .method = "POST", .target = "blobs/uploads/" };
    struct registry_response response = { 0 };
    if (!ask(attempt, &request, &response, error))
        return NULL;
    g_autofree char *what = describe("POST", upload);
    char *location = NULL;
    attempt->again = false; /* what a server refuses to begin it refuses the next time, too */
    if (registry_response_check(upload->session, &response, what, error))
        location = location_of(upload->session, &response, error);
    registry_response_clear(&response);
    return location;
}

/* The answer to something sent: its place, or an error. */
static bool take_answer(struct attempt *attempt, const char *method, struct registry_response *response, GError **error)
{
    g_autofree char *what = describe(method, attempt->upload);
    const char *location = registry_response_header(response, "location");
    bool ok = registry_response_check(attempt->upload->session, response, what, error);
    if (ok && location && strcmp(method, "PATCH") == 0) {
        g_free(attempt->location);
        attempt->location = location_of(attempt->upload->session, response, error);
        ok = attempt->location != NULL;
    }
    attempt->again = !ok && is_transient(response->status);
    attempt->in_pieces |= response->status == 411 || response->status == 413;
    registry_response_clear(response);
    return ok;
}

static bool send_request(struct attempt *attempt, struct registry_request *request, GError **error)
{
    struct registry_response response = { 0 };
    request->base = attempt->location;
    request->content_type = request->body ? "application/octet-stream" : NULL;
    request->once = request->body != NULL;
    if (!ask(attempt, request, &response, error))
        return false;
    return take_answer(attempt, request->method, &response, error);
}

/* The end of an upload whose bytes are all there. */
static bool commit(struct attempt *attempt, GError **error)
{
    g_autofree char *target = with_digest(attempt->location, attempt->flow->digest);
    struct registry_request request = { .method = "PUT", .target = target };
    return send_request(attempt, &request, error);
}

static bool send_whole(struct attempt *attempt, GError **error)
{
    g_autofree char *target = with_digest(attempt->location, attempt->upload->digest);
    struct registry_request request = { .method = "PUT", .target = target, .body = &attempt->flow->body };
    attempt->flow->body.length = attempt->upload->size;
    return send_request(attempt, &request, error);
}

static bool send_stream(struct attempt *attempt, GError **error)
{
    g_autofree char *range = NULL;
    const char *headers[] = { NULL, NULL };
    struct flow *flow = attempt->flow;
    flow->body.length = G_MAXUINT64;
    if (flow->skip && attempt->upload->digest) {
        flow->body.length = attempt->upload->size - flow->skip;
        headers[0] = range =
            g_strdup_printf("Content-Range: %" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT, flow->skip, attempt->upload->size - 1);
    }
    g_autofree char *target = g_strdup(attempt->location);
    struct registry_request request = { .method = "PATCH", .target = target, .headers = headers, .body = &attempt->flow->body };
    return send_request(attempt, &request, error) && commit(attempt, error);
}

static bool send_pieces(struct attempt *attempt, GError **error)
{
    struct flow *flow = attempt->flow;
    g_autofree char *buffer = g_malloc(PIECE_BYTES);
    if (!rewind_flow(&flow->body, error))
        return false;
    for (guint64 at = flow->skip;;) {
        gssize n = source_read_full(&flow->source, buffer, PIECE_BYTES, error);
        if (n < 0)
            return false;
        if (n == 0)
            return commit(attempt, error);
        g_autofree char *target = g_strdup(attempt->location);
        g_autofree char *range =
            g_strdup_printf("Content-Range: %" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT, at, at + (guint64)n - 1);
        const char *const headers[] = { range, NULL };
        struct registry_memory_body body;
        registry_memory_body_init(&body, buffer, (gsize)n);
        struct registry_request request = { .method = "PATCH", .target = target, .headers = headers, .body = &body.body };
        if (!send_request(attempt, &request, error))
            return false;
        at += (guint64)n;
    }
}

/* Where a broken one can go on: a registry that knows tells ("Range: 0-4095"); else it begins anew. */
static void find_place(struct attempt *attempt)
{
    struct registry_request request = { .method = "GET", .target = attempt->location, .base = attempt->location, .once = true };
    struct registry_response response = { 0 };
    guint64 last = 0;
    attempt->flow->skip = 0;
    if (!registry_request(attempt->upload->session, &request, &response, NULL)) {
        g_clear_pointer(&attempt->location, g_free);
        return;
    }
    const char *range = registry_response_header(&response, "range"), *location = registry_response_header(&response, "location"),
               *dash = range ? strchr(range, '-') : NULL;
    bool known = response.status == 204 && location && dash && parse_uint(dash + 1, G_MAXINT64, &last);
    g_free(attempt->location);
    attempt->location = known ? location_of(attempt->upload->session, &response, NULL) : NULL;
    attempt->flow->skip = attempt->location && last > 0 ? last + 1 : 0;
    registry_response_clear(&response);
}

static bool try_once(struct attempt *attempt, GError **error)
{
    if (!attempt->location)
        attempt->location = begin_upload(attempt, error);
    if (!attempt->location)
        return false;
    if (attempt->in_pieces)
        return send_pieces(attempt, error);
    return attempt->upload->digest && !attempt->flow->skip ? send_whole(attempt, error) : send_stream(attempt, error);
}

/* A connection that broke in the last moment: all may be there. */
static bool has_arrived(struct attempt *attempt)
{
    bool exists = false;
    guint64 size;
    return attempt->flow->is_whole && upload_exists(attempt->upload->session, attempt->flow->digest, &exists, &size, NULL) &&
           exists;
}

static bool prepare_again(struct attempt *attempt, unsigned n, GError **error)
{
    unsigned seconds = FIRST_PAUSE_S << MIN(n, 4);
    if (attempt->upload->retrying)
        attempt->upload->retrying(attempt->upload->user, seconds);
    if (!session_wait(attempt->upload->session->cancel, seconds * G_USEC_PER_SEC, error))
        return false;
    if (attempt->location)
        find_place(attempt);
    return true;
}

bool upload_blob(const struct upload *upload, char ret_digest[DIGEST_ROOM], guint64 *ret_size, GError **error)
{
    struct flow flow;
    flow_init(&flow, upload);
    struct attempt attempt = { .upload = upload, .flow = &flow, .location = g_strdup(upload->location) };
    unsigned max_attempts = upload->session->registry->max_attempts;
    bool ok = false;
    for (unsigned n = 0;; n++) {
        g_autoptr(GError) problem = NULL;
        bool was_in_pieces = attempt.in_pieces;
        ok = try_once(&attempt, &problem) || has_arrived(&attempt);
        bool other_way = attempt.in_pieces && !was_in_pieces;
        bool again = (attempt.again || other_way) && !flow.failed && !cancel_is_set(upload->session->cancel);
        if (ok)
            break;
        if (!again || n + 1 >= max_attempts) {
            g_propagate_error(error, g_steal_pointer(&problem));
            break;
        }
        if (other_way) {
            g_clear_pointer(&attempt.location, g_free);
            flow.skip = 0;
        } else if (!prepare_again(&attempt, n, error)) {
            break;
        }
    }
    if (ok) {
        g_strlcpy(ret_digest, upload->digest ? upload->digest : flow.digest, DIGEST_ROOM);
        *ret_size = upload->digest ? upload->size : flow.given;
    }
    g_clear_pointer(&flow.hasher, hasher_free);
    g_free(attempt.location);
    return ok;
}

/* ---- the short ways ---- */

bool upload_exists(struct registry_session *session, const char *digest, bool *ret, guint64 *ret_size, GError **error)
{
    g_autofree char *target = g_strconcat("blobs/", digest, NULL), *what = g_strconcat("HEAD blob ", digest, NULL);
    struct registry_request request = { .method = "HEAD", .target = target, .origin_only = true };
    struct registry_response response = { 0 };
    if (!registry_request(session, &request, &response, error))
        return false;
    const char *length = registry_response_header(&response, "content-length");
    guint64 size = 0;
    bool is_there = response.status == 200;
    bool ok = is_there || response.status == 404 || registry_response_check(session, &response, what, error);
    if (is_there && length)
        parse_uint(length, G_MAXINT64, &size);
    registry_response_clear(&response);
    *ret = is_there;
    *ret_size = size;
    return ok;
}

bool upload_mount(struct registry_session *session, const char *digest, const char *from, bool *ret_mounted, char **ret_location,
                  GError **error)
{
    g_autofree char *escaped = g_uri_escape_string(from, NULL, FALSE);
    g_autofree char *target = g_strconcat("blobs/uploads/?mount=sha256%3A", digest_hex(digest), "&from=", escaped, NULL);
    g_autofree char *what = g_strconcat("mount blob ", digest, NULL);
    struct registry_request request = { .method = "POST", .target = target };
    struct registry_response response = { 0 };
    if (!registry_request(session, &request, &response, error))
        return false;
    bool ok = registry_response_check(session, &response, what, error);
    *ret_mounted = ok && response.status == 201;
    *ret_location = ok && response.status == 202 ? location_of(session, &response, NULL) : NULL;
    registry_response_clear(&response);
    return ok;
}

struct text_content {
    struct upload_content content;
    struct memory_source source;
};

static bool open_text(struct upload_content *self, struct byte_source **ret, GError **error)
{
    struct text_content *text = (struct text_content *)self;
    text->source.at = 0;
    *ret = &text->source.source;
    return true;
}

bool upload_text(struct registry_session *session, const char *digest, const char *text, gsize length, GError **error)
{
    struct text_content content = { .content.open = open_text };
    struct upload upload = { .session = session, .content = &content.content, .digest = digest, .size = length };
    char sent[DIGEST_ROOM];
    bool exists;
    guint64 size;
    memory_source_init(&content.source, text, length);
    return upload_exists(session, digest, &exists, &size, error) && (exists || upload_blob(&upload, sent, &size, error));
}

bool upload_manifest(struct registry_session *session, const char *name, const char *media_type, const char *text, gsize length,
                     char ret_digest[DIGEST_ROOM], GError **error)
{
    g_autofree char *target = g_strconcat("manifests/", name, NULL), *what = g_strconcat("PUT manifest ", name, NULL);
    struct registry_memory_body body;
    registry_memory_body_init(&body, text, length);
    struct registry_request request = { .method = "PUT", .target = target, .content_type = media_type, .body = &body.body };
    struct registry_response response = { 0 };
    digest_of(text, length, ret_digest);
    if (!registry_request(session, &request, &response, error))
        return false;
    bool ok = registry_response_check(session, &response, what, error);
    const char *got = registry_response_header(&response, "docker-content-digest");
    if (ok && got && strcmp(got, ret_digest) != 0)
        ok = error_set(error, TARE_ERROR_INTERNAL, "%s/%s: %s: the registry has stored %s instead of %s", session->domain,
                       session->repository, what, got, ret_digest);
    registry_response_clear(&response);
    return ok;
}
