/* POST /images/create: importing a root file system, or pulling. */
#include "api/api-internal.h"

#include "base/fd.h"
#include "engine/download.h"

#include <string.h>

/* Repeated at most so often; a terminal shows no more. */
enum { PROGRESS_INTERVAL_US = 100000 };

static json_t *status_message(const char *prefix, const char *value)
{
    g_autofree char *text = g_strconcat(prefix, value, NULL);
    return json_pack("{s:o}", "status", json_string_lossy(text));
}

struct download_progress {
    struct api_request *request;
    const char *action; /* "Importing" */
    gint64 last;
};

static bool show_progress(void *user, guint64 current, guint64 total, GError **error)
{
    struct download_progress *progress = user;
    gint64 now = g_get_monotonic_time();
    if (now - progress->last < PROGRESS_INTERVAL_US && current != total)
        return true;
    progress->last = now;
    json_t *detail = json_pack("{s:I}", "current", (json_int_t)current);
    if (total)
        json_object_set_new(detail, "total", json_integer((json_int_t)total));
    return api_send_message(progress->request, json_pack("{s:s, s:o}", "status", progress->action, "progressDetail", detail),
                            error);
}

static bool import_source(struct api_request *request, struct byte_source *source, const char *source_name, GError **error)
{
    g_autofree char *reference = api_query_reference(request);
    g_autofree const char **changes = http_request_query_all(http_exchange_request(request->http), "changes");
    g_autoptr(json_t) run_config = NULL;
    g_autoptr(json_t) empty = json_object();
    if (!build_apply_changes(empty, changes, &run_config, error))
        return false;
    const struct image_import_options options = {
        .source_name = source_name,
        .message = api_query(request, "message"),
        .run_config = run_config,
        .reference = reference,
        .platform = request->version >= 32 ? api_query(request, "platform") : NULL,
        .cancel = http_exchange_cancel(request->http),
    };
    struct image *image = NULL;
    if (!image_import(request->engine->images, source, &options, &image, error))
        return false;
    bool ok = api_send_message(request, status_message("", image->id), error);
    image_unref(image);
    return ok;
}

static bool import_url(struct api_request *request, const char *from, GError **error)
{
    g_autofree char *url = strstr(from, "://") ? g_strdup(from) : g_strconcat("http://", from, NULL);
    struct download_progress progress = { .request = request, .action = "Importing" };
    struct download *download = NULL;
    if (!download_open(url, show_progress, &progress, http_exchange_cancel(request->http), &download, error))
        return false;
    bool ok = api_send_message(request, status_message("Downloading from ", url), error) &&
              import_source(request, download_source(download), url, error);
    download_free(download);
    return ok;
}

static bool create_image(struct api_request *request, GError **error)
{
    const char *image = api_query(request, "fromImage"), *from = api_query(request, "fromSrc");
    if (image)
        return api_pull(request, image, error);
    if (!from)
        return error_set(error, TARE_ERROR_INVALID, "one of fromImage and fromSrc is needed");
    g_autofd int file = http_exchange_take_file(request->http, "input");
    struct fd_source source;
    fd_source_init(&source, file, "file");
    struct byte_source *body = file >= 0 ? &source.source : http_exchange_body(request->http);
    bool ok = strcmp(from, "-") == 0 ? import_source(request, body, "-", error) : import_url(request, from, error);
    return api_finish_messages(request, ok, error);
}

const struct api_route import_routes[] = {
    { "POST", "/images/create", 0, 0, create_image },
    { NULL },
};
