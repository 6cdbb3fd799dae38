/* A transfer of libcurl's multi interface, driven by its reader: what curl hands over waits in a bounded buffer, and curl is
 * paused while that is full. */
#include "engine/download.h"

#include "base/proxy.h"
#include "registry/registry.h"

#include <curl/curl.h>
#include <string.h>

enum { ROOM = 1 << 20, REFUSAL_MAX = 64 << 10, POLL_MS = 200, CONNECT_TIMEOUT_S = 30, STALL_S = 60 };

struct download {
    struct byte_source source;
    CURLM *multi;
    CURL *easy;
    char *url;
    GByteArray *waiting;
    guint at;
    bool paused, done;
    CURLcode result;
    guint64 received;
    struct cancel *cancel;
    download_progress_func progress;
    void *user;
    char *content_type;
    char *reason; /* of the status, with a space before it */
    char problem[CURL_ERROR_SIZE];
};

static size_t take(char *data, size_t size, size_t n, void *user)
{
    struct download *download = user;
    if (download->waiting->len - download->at > ROOM) {
        download->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    g_byte_array_append(download->waiting, (guint8 *)data, (guint)(size * n));
    return size * n;
}

/* One turn of the transfer; waits shortly where nothing moves. */
static bool turn(struct download *download, GError **error)
{
    int running = 0, queued = 0;
    if (!cancel_check(download->cancel, error))
        return false;
    curl_multi_perform(download->multi, &running);
    for (CURLMsg *message; (message = curl_multi_info_read(download->multi, &queued));)
        if (message->msg == CURLMSG_DONE) {
            download->done = true;
            download->result = message->data.result;
        }
    if (!download->done && download->at == download->waiting->len) {
        struct curl_waitfd extra = { .fd = cancel_fd(download->cancel), .events = CURL_WAIT_POLLIN };
        curl_multi_poll(download->multi, &extra, download->cancel ? 1 : 0, POLL_MS, NULL);
    }
    return true;
}

/* The reason of the last status line: "HTTP/1.1 404 Not Found". */
static size_t take_header(char *data, size_t size, size_t n, void *user)
{
    struct download *download = user;
    g_autofree char *line = g_strndup(data, size * n);
    g_strstrip(line);
    if (g_str_has_prefix(line, "HTTP/")) {
        const char *code = strchr(line, ' '), *reason = code ? strchr(code + 1, ' ') : NULL;
        g_free(download->reason);
        download->reason = g_strdup(reason ? reason : "");
    }
    return size * n;
}

/* What the server says of its refusal belongs to the message. */
static bool refused(struct download *download, long status, GError **error)
{
    while (!download->done && !download->paused && download->waiting->len < REFUSAL_MAX)
        if (!turn(download, error))
            return false;
    g_autofree char *text = g_strndup((char *)download->waiting->data, MIN(download->waiting->len, REFUSAL_MAX));
    enum tare_error code = status == 400 ? TARE_ERROR_INVALID : error_code_of_refusal((int)status);
    return error_set(error, code, "failed to GET %s with status %ld%s: %s", download->url, status,
                     download->reason ? download->reason : "", g_strstrip(text));
}

static bool check_transfer(struct download *download, GError **error)
{
    if (!download->done || download->result == CURLE_OK)
        return true;
    g_autofree char *what = registry_curl_describe(download->easy, download->url, (int)download->result, download->problem);
    return error_set(error, download->result == CURLE_COULDNT_RESOLVE_HOST ? TARE_ERROR_NOT_FOUND : TARE_ERROR_INTERNAL,
                     "Get \"%s\": %s", download->url, what);
}

static bool check_status(struct download *download, GError **error)
{
    long status = 0;
    curl_easy_getinfo(download->easy, CURLINFO_RESPONSE_CODE, &status);
    return status < 400 || refused(download, status, error);
}

static bool tell(struct download *download, GError **error)
{
    curl_off_t total = 0;
    curl_easy_getinfo(download->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &total);
    return !download->progress || download->progress(download->user, download->received, total > 0 ? (guint64)total : 0, error);
}

static gssize read_download(struct byte_source *source, void *buffer, gsize length, GError **error)
{
    struct download *download = (struct download *)source;
    while (download->at == download->waiting->len && !download->done) {
        if (download->paused) {
            download->paused = false;
            curl_easy_pause(download->easy, CURLPAUSE_CONT);
        }
        if (!turn(download, error))
            return -1;
    }
    gsize n = MIN(length, download->waiting->len - download->at);
    if (n == 0)
        return check_transfer(download, error) ? 0 : -1;
    memcpy(buffer, download->waiting->data + download->at, n);
    download->at += (guint)n;
    if (download->at == download->waiting->len) {
        g_byte_array_set_size(download->waiting, 0);
        download->at = 0;
    }
    download->received += n;
    return tell(download, error) ? (gssize)n : -1;
}

static void set_options(struct download *download)
{
    CURL *easy = download->easy;
    registry_curl_authorities(easy);
    curl_easy_setopt(easy, CURLOPT_URL, download->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(easy, CURLOPT_FILETIME, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)STALL_S);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "tare/" TARE_VERSION);
    if (!proxy_for_url(download->url)) /* else curl's own look at the environment, which also sees where redirects go */
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* whose statuses have reasons */
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, download);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, download);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, download->problem);
}

bool download_open(const char *url, download_progress_func progress, void *user, struct cancel *cancel, struct download **ret,
                   GError **error)
{
    static gsize initialised;
    if (g_once_init_enter(&initialised)) {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        g_once_init_leave(&initialised, 1);
    }
    struct download *download = g_new0(struct download, 1);
    download->source.read = read_download;
    download->url = g_strdup(url);
    download->waiting = g_byte_array_new();
    download->cancel = cancel_ref(cancel);
    download->progress = progress;
    download->user = user;
    download->multi = curl_multi_init();
    download->easy = curl_easy_init();
    set_options(download);
    curl_multi_add_handle(download->multi, download->easy);
    bool ok = true;
    while (ok && !download->done && download->waiting->len == 0)
        ok = turn(download, error);
    /* What is wrong after the first bytes is told to who reads, however soon it came. */
    if (!ok || (download->waiting->len == 0 && !check_transfer(download, error)) || !check_status(download, error)) {
        download_free(download);
        return false;
    }
    const char *type = NULL;
    curl_easy_getinfo(download->easy, CURLINFO_CONTENT_TYPE, &type);
    download->content_type = g_strdup(type ? type : "");
    *ret = download;
    return true;
}

struct byte_source *download_source(struct download *download)
{
    return &download->source;
}

const char *download_content_type(const struct download *download)
{
    return download->content_type;
}

gint64 download_modified(const struct download *download)
{
    curl_off_t seconds = -1;
    curl_easy_getinfo(download->easy, CURLINFO_FILETIME_T, &seconds);
    return seconds > 0 ? (gint64)seconds : 0;
}

void download_free(struct download *download)
{
    if (!download)
        return;
    curl_multi_remove_handle(download->multi, download->easy);
    curl_easy_cleanup(download->easy);
    curl_multi_cleanup(download->multi);
    cancel_unref(download->cancel);
    g_byte_array_unref(download->waiting);
    g_free(download->content_type);
    g_free(download->reason);
    g_free(download->url);
    g_free(download);
}
