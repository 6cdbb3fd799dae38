/* Downloading over HTTP as a byte source, for import and build from a URL. One thread at a time; the transfer goes on only while
 * the source is read. */
#pragma once

#include "base/cancel.h"
#include "base/stream.h"

/* total: 0 where the server does not say. False ends the transfer with the error. */
typedef bool (*download_progress_func)(void *user, guint64 current, guint64 total, GError **error);

struct download;
/* Returns when the server has answered: a status of 400 and more is an error 'failed to GET URL with status 404 Not Found: …'.
 * http and https only, 10 redirects at most. */
bool download_open(const char *url, download_progress_func progress, void *user, struct cancel *cancel, struct download **ret,
                   GError **error);
struct byte_source *download_source(struct download *download);
/* The answer's media type, or "". */
const char *download_content_type(const struct download *download);
/* Last-Modified in seconds, or 0. */
gint64 download_modified(const struct download *download);
void download_free(struct download *download);
