/* What the endpoints share: a request as the router hands it over, its parameters, and the tables of routes, one for each
 * resource. */
#pragma once

#include "api/http.h"
#include "base/filter.h"
#include "base/platform.h"
#include "engine/engine.h"

struct api_request {
    struct engine *engine;
    struct http_exchange *http;
    unsigned version; /* 1.version */
    char *name;       /* what {name} stood for, or NULL */
};

/* False and an error: the router answers with it, unless the answer has begun; then the connection is cut. */
typedef bool (*api_function)(struct api_request *request, GError **error);

struct api_route {
    const char *method;
    /* "/containers/{name}/json": {name} is one component of the path; {name*} is one or more, as image names need. */
    const char *pattern;
    unsigned min_version, max_version; /* 0: no bound */
    api_function function;
};
/* Each ends with an entry without method. */
extern const struct api_route system_routes[], event_routes[], info_routes[], registry_routes[], push_routes[], layer_routes[],
    image_routes[], verify_routes[], import_routes[], disk_routes[], container_routes[], stream_routes[], archive_routes[],
    process_routes[], exec_routes[], build_routes[], network_routes[], volume_routes[], refused_routes[];

/* The handler of the HTTP server; user is the engine. */
void api_handle(struct http_exchange *exchange, void *user);
/* Matches one pattern; *ret_name is what {name} stood for (g_free), or NULL. */
bool api_route_match(const char *pattern, const char *path, char **ret_name);
/* Takes "/v1.41" off: *ret_version and what follows; without it the newest. INVALID where it is out of range. */
bool api_path_version(const char *path, unsigned *ret_version, const char **ret_rest, GError **error);

/* ---- parameters ---- */
const char *api_query(const struct api_request *request, const char *name); /* "" counts as absent: NULL */
bool api_query_bool(const struct api_request *request, const char *name);   /* as moby: anything but "", 0, no, false, none */
bool api_query_bool_default(const struct api_request *request, const char *name, bool fallback);
bool api_query_int(const struct api_request *request, const char *name, gint64 min, gint64 max, gint64 fallback, gint64 *ret,
                   GError **error);
/* The filters parameter: *ret is NULL where absent. */
bool api_query_filters(const struct api_request *request, json_t **ret, GError **error);
/* since, until: seconds since 1970 with a fraction, RFC 3339, or a duration before now. 0 where absent. */
bool api_query_time(const struct api_request *request, const char *name, gint64 *ret_ns, GError **error);
/* "repo" and "tag" as one reference; NULL without repo. g_free. */
char *api_query_reference(const struct api_request *request);
/* A platform as newer endpoints take it: {"os","architecture","variant"}. *ret_given is false where there is none, or the
 * request's version is older than the parameter. Clear it. */
bool api_query_platform(const struct api_request *request, const char *name, unsigned min_version, struct platform *ret,
                        bool *ret_given, GError **error);
/* The JSON body, an object; *ret is NULL for an empty one. */
#define API_SECRETS_HEADER "X-Tare-Secrets"
bool api_lend_secrets(struct api_request *request, GError **error);
bool api_offer_agent(struct api_request *request, GError **error);
bool api_read_json(struct api_request *request, json_t **ret, GError **error);

/* h and w: a terminal's size. */
bool api_query_size(const struct api_request *request, unsigned *ret_rows, unsigned *ret_columns, GError **error);

/* ---- answers ---- */
/* Takes the value. */
bool api_respond_json(struct api_request *request, int status, json_t *value);
/* JSON text, with status 200; ends it with a line feed. */
bool api_respond_text(struct api_request *request, GString *text);
bool api_respond_empty(struct api_request *request, int status);
/* Streams of JSON messages, one a line. The answer begins with the first, so that what fails before it has a status of its own.
 * Takes the message. */
bool api_send_message(struct api_request *request, json_t *message, GError **error);
/* The same ended by a newline alone, as events and statistics are. */
bool api_send_line(struct api_request *request, json_t *message, GError **error);
/* {"errorDetail":{"message":…},"error":…}: how a stream of messages that has begun tells a failure. */
bool api_send_error(struct api_request *request, const GError *error);
/* The end of such a stream: a failure becomes its last message where it has begun, the answer itself where not. */
bool api_finish_messages(struct api_request *request, bool ok, GError **error);
/* An answer as a sink that begins it at its first byte: what is found wrong before that still has a status of its own. */
struct api_stream {
    struct byte_sink sink;
    struct api_request *request;
    const char *content_type;
    bool buffered;
};
void api_stream_init(struct api_stream *stream, struct api_request *request, const char *content_type, bool buffered);
bool api_stream_begin(struct api_stream *stream, GError **error);

/* The content type of attach, exec and logs: told apart only since API 1.42. */
const char *api_stream_type(const struct api_request *request, bool multiplex);
/* What BuildKit's own clients ask for: false, and the session that the request names ends. */
bool api_refuse_buildkit(struct api_request *request, GError **error);
/* A failure after the connection was taken over: a line in the stream, where multiplexed as of that output (1 or 2). */
void api_tell_failure(int fd, bool multiplex, guint8 output, const GError *failure);

/* The half of POST /images/create that pulls. */
bool api_pull(struct api_request *request, const char *image, GError **error);

/* ---- sockets ---- */
enum listen_kind { LISTEN_UNIX, LISTEN_TCP, LISTEN_SYSTEMD };
/* Binds and listens on what one -H names; appends fds (int). group: NULL for the usual ones. */
bool listen_on(const char *host, const char *group, GArray *fds, enum listen_kind *ret_kind, GError **error);
