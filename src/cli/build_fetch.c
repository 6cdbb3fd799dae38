/* A context or Dockerfile behind a URL, fetched by us over the client's own HTTP and TLS. */
#include "cli/build-internal.h"

#include "base/fd.h"
#include "base/parse.h"

#include <errno.h>
#include <string.h>

#define REDIRECTS_MAX 10
#define ERROR_TEXT_MAX 4096

struct fetch {
    struct endpoint endpoint;
    char *authority, *path;
};

static void fetch_clear(struct fetch *fetch)
{
    g_free(fetch->endpoint.host);
    g_free(fetch->endpoint.address);
    g_free(fetch->endpoint.port);
    g_free(fetch->authority);
    g_free(fetch->path);
}

static bool parse(const char *url, struct fetch *ret, GError **error)
{
    bool tls = g_str_has_prefix(url, "https://");
    const char *rest = url + (tls ? 8 : 7);
    gsize length = strcspn(rest, "/?#");
    g_autofree char *authority = g_strndup(rest, length), *tail = g_strndup(rest + length, strcspn(rest + length, "#"));
    const char *at = strrchr(authority, '@'), *name = at ? at + 1 : authority;
    const char *port = *name == '[' ? strstr(name, "]:") : strrchr(name, ':');
    guint64 number;

    if (port && *name == '[')
        port++;
    if (!*name || at || strpbrk(url, " \r\n") || (port && !parse_uint(port + 1, 65535, &number)))
        return error_set(error, TARE_ERROR_INVALID, "malformed URL: %s", url);
    *ret = (struct fetch){ .endpoint = { .kind = ENDPOINT_TCP, .tls = tls, .verify = tls } };
    ret->endpoint.host = g_strdup(url);
    ret->endpoint.address =
        g_strndup(name + (*name == '['), port ? (gsize)(port - name) - 2 * (*name == '[') : strcspn(name + (*name == '['), "]"));
    ret->endpoint.port = g_strdup(port ? port + 1 : tls ? "443" : "80");
    ret->authority = g_strdup(name);
    ret->path = g_strconcat(*tail == '/' ? "" : "/", tail, NULL);
    return true;
}

static const char *find_header(const struct http_head *head, const char *name)
{
    return g_hash_table_lookup(head->headers, name);
}

/* What the Location of a redirect leads to. */
static char *resolve(const struct fetch *from, const char *location)
{
    const char *scheme = from->endpoint.tls ? "https" : "http";
    g_autofree char *directory = NULL;

    if (g_str_has_prefix(location, "http://") || g_str_has_prefix(location, "https://"))
        return g_strdup(location);
    if (g_str_has_prefix(location, "//"))
        return g_strconcat(scheme, ":", location, NULL);
    if (*location == '/')
        return g_strconcat(scheme, "://", from->authority, location, NULL);
    directory = g_strndup(from->path, (gsize)(strrchr(from->path, '/') - from->path) + 1);
    return g_strconcat(scheme, "://", from->authority, directory, location, NULL);
}

static bool take_body(struct connection *connection, const struct http_head *head, int fd,
                      void (*progress)(guint64 got, guint64 total, void *user), void *user, GError **error)
{
    const char *length = find_header(head, "content-length");
    g_autofree char *buffer = g_malloc(65536);
    guint64 total = 0, got = 0;
    gssize n;

    if (length && !parse_uint(length, G_MAXINT64, &total))
        total = 0;
    while ((n = http_read(connection, buffer, 65536, error)) > 0) {
        if (fd_write_full(fd, buffer, (size_t)n) < 0)
            return error_set_errno(error, errno, "write what was downloaded");
        got += (guint64)n;
        if (progress)
            progress(got, total, user);
    }
    return n == 0;
}

static bool refuse(struct connection *connection, const struct http_head *head, const char *url, GError **error)
{
    g_autofree char *text = g_malloc0(ERROR_TEXT_MAX + 1);
    gsize at = 0;
    gssize n;

    while (at < ERROR_TEXT_MAX && (n = http_read(connection, text + at, ERROR_TEXT_MAX - at, NULL)) > 0)
        at += (gsize)n;
    g_strstrip(text);
    return error_set(error, TARE_ERROR_INVALID, "failed to GET %s with status %d %s: %s", url, head->status, head->reason, text);
}

/* One exchange: *ret_location where it leads elsewhere. */
static bool get(const char *url, int fd, void (*progress)(guint64 got, guint64 total, void *user), void *user,
                char **ret_location, char **ret_type, GError **error)
{
    struct fetch fetch;
    struct http_head head = { 0 };
    bool good;

    if (!parse(url, &fetch, error))
        return false;
    struct connection *connection = connection_open(&fetch.endpoint, error);
    struct http_request request = { .method = "GET", .target = fetch.path, .host = fetch.authority, .file = -1, .body_fd = -1 };

    good = connection && http_exchange(connection, &request, &head, error);
    if (good && head.status / 100 == 3 && find_header(&head, "location")) {
        *ret_location = resolve(&fetch, find_header(&head, "location"));
    } else if (good && head.status >= 400) {
        good = refuse(connection, &head, url, error);
    } else if (good) {
        *ret_type = g_strdup(find_header(&head, "content-type"));
        good = take_body(connection, &head, fd, progress, user, error);
    }
    http_head_clear(&head);
    connection_free(connection);
    fetch_clear(&fetch);
    return good;
}

bool fetch_url(const char *url, int fd, void (*progress)(guint64 got, guint64 total, void *user), void *user, char **ret_type,
               GError **error)
{
    g_autofree char *at = g_strdup(url);

    *ret_type = NULL;
    for (guint i = 0; i <= REDIRECTS_MAX; i++) {
        char *next = NULL;

        if (!get(at, fd, progress, user, &next, ret_type, error))
            return false;
        if (!next)
            return true;
        g_free(at);
        at = next;
        if (!g_str_has_prefix(at, "http://") && !g_str_has_prefix(at, "https://"))
            break;
    }
    return error_set(error, TARE_ERROR_INVALID, "%s: stopped after %d redirects", url, REDIRECTS_MAX);
}
