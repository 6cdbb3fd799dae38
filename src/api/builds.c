/* POST /build: parameters in, the builder's messages out while the context is still being read. */
#include "api/api-internal.h"

#include "base/git.h"
#include "base/parse.h"
#include "engine/download.h"

#include <string.h>

/* What a request owns while it is decoded; struct build_request borrows from it. */
struct decoded {
    struct build_request request;
    json_t *build_args, *labels, *limits, *cache_from_json, *registry_auths, *contexts, *no_cache_json;
    char **cache_from, **no_cache;
    const char **tags, **entitlements;
    const char *secrets_id;
};

static void decoded_clear(struct decoded *decoded)
{
    json_decref(decoded->build_args);
    json_decref(decoded->labels);
    json_decref(decoded->limits);
    json_decref(decoded->cache_from_json);
    json_decref(decoded->registry_auths);
    json_decref(decoded->contexts);
    json_decref(decoded->no_cache_json);
    g_strfreev(decoded->no_cache);
    g_strfreev(decoded->cache_from);
    g_free(decoded->tags);
    g_free(decoded->entitlements);
    build_secrets_unref(decoded->request.secrets);
}

/* A JSON text in a parameter. */
static bool query_json(struct api_request *request, const char *name, bool (*is_type)(const json_t *), const char *what,
                       json_t **ret, GError **error)
{
    const char *text = api_query(request, name);
    *ret = NULL;
    if (!text)
        return true;
    json_t *value = json_parse(text, strlen(text), HTTP_MAX_TARGET, what, error);
    if (!value)
        return false;
    if (!is_type(value) && !json_is_null(value)) {
        json_decref(value);
        return error_set(error, TARE_ERROR_INVALID, "%s: json: cannot unmarshal value of parameter %s", what, name);
    }
    if (json_is_null(value)) {
        json_decref(value);
        return true;
    }
    *ret = value;
    return true;
}

static bool is_object(const json_t *value)
{
    return json_is_object(value);
}

static bool is_array(const json_t *value)
{
    return json_is_array(value);
}

/* Numbers and texts of the query that become HostConfig members of the RUN containers. */
static const struct {
    const char *parameter, *member;
    enum { LIMIT_NUMBER, LIMIT_TEXT, LIMIT_LIST } kind;
} limits[] = {
    { "memory", "Memory", LIMIT_NUMBER },           { "memswap", "MemorySwap", LIMIT_NUMBER },
    { "cpushares", "CpuShares", LIMIT_NUMBER },     { "cpuperiod", "CpuPeriod", LIMIT_NUMBER },
    { "cpuquota", "CpuQuota", LIMIT_NUMBER },       { "shmsize", "ShmSize", LIMIT_NUMBER },
    { "cpusetcpus", "CpusetCpus", LIMIT_TEXT },     { "cpusetmems", "CpusetMems", LIMIT_TEXT },
    { "cgroupparent", "CgroupParent", LIMIT_TEXT }, { "extrahosts", "ExtraHosts", LIMIT_LIST },
    { "pidslimit", "PidsLimit", LIMIT_NUMBER }, /* ours: docker's builder has none */
};

static bool decode_limits(struct api_request *request, json_t **ret, GError **error)
{
    g_autoptr(json_t) object = json_object();
    json_t *ulimits = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
        const char *text = api_query(request, limits[i].parameter);
        gint64 number;
        if (!text)
            continue;
        if (limits[i].kind == LIMIT_NUMBER) {
            if (parse_int(text, G_MININT64, G_MAXINT64, &number))
                json_object_set_new(object, limits[i].member, json_integer(number));
            else if (strcmp(limits[i].parameter, "shmsize") == 0)
                return error_set(error, TARE_ERROR_INVALID, "strconv.ParseInt: parsing \"%s\": invalid syntax", text);
        } else if (limits[i].kind == LIMIT_TEXT) {
            json_object_set_new(object, limits[i].member, json_string_lossy(text));
        } else {
            g_autofree const char **all = http_request_query_all(http_exchange_request(request->http), limits[i].parameter);
            json_object_set_new(object, limits[i].member, json_from_strv(all));
        }
    }
    if (!query_json(request, "ulimits", is_array, "error reading ulimit settings", &ulimits, error))
        return false;
    if (ulimits)
        json_object_set_new(object, "Ulimits", ulimits);
    *ret = json_object_size(object) ? g_steal_pointer(&object) : NULL;
    return true;
}

static bool check_builder(struct api_request *request, GError **error)
{
    const char *version = api_query(request, "version");
    if (version && strcmp(version, "2") == 0)
        return api_refuse_buildkit(request, error);
    if (version && strcmp(version, "1") != 0)
        return error_set(error, TARE_ERROR_INVALID, "invalid version \"%s\"", version);
    if (api_query(request, "securityopt"))
        return error_set(error, TARE_ERROR_INVALID,
                         "The daemon on this platform does not support setting security options on build");
    if (api_query(request, "outputs"))
        return error_set(error, TARE_ERROR_NOT_IMPLEMENTED,
                         "build outputs need BuildKit, which is not supported yet by this engine");
    const char *isolation = api_query(request, "isolation");
    if (isolation && g_ascii_strcasecmp(isolation, "default") != 0)
        return error_set(error, TARE_ERROR_INVALID, "unsupported isolation: \"%s\"", isolation);
    return true;
}

static bool decode(struct api_request *request, struct decoded *decoded, GError **error)
{
    if (!check_builder(request, error) ||
        !query_json(request, "buildargs", is_object, "error reading build args", &decoded->build_args, error) ||
        !query_json(request, "labels", is_object, "error reading labels", &decoded->labels, error) ||
        !query_json(request, "nocachefilter", is_array, "error reading no-cache-filter", &decoded->no_cache_json, error) ||
        !query_json(request, "contexts", is_object, "error reading named contexts", &decoded->contexts, error) ||
        !query_json(request, "cachefrom", is_array, "error reading cache-from", &decoded->cache_from_json, error) ||
        !decode_limits(request, &decoded->limits, error))
        return false;
    decoded->registry_auths =
        registry_auths_parse(http_request_header(http_exchange_request(request->http), "X-Registry-Config"));
    decoded->no_cache = json_string_array(decoded->no_cache_json);
    decoded->cache_from = json_string_array(decoded->cache_from_json);
    decoded->tags = http_request_query_all(http_exchange_request(request->http), "t");
    decoded->entitlements = http_request_query_all(http_exchange_request(request->http), "allow");
    bool force_remove = api_query_bool(request, "forcerm");
    decoded->request = (struct build_request){
        .dockerfile = api_query(request, "dockerfile"),
        .tags = decoded->tags,
        .build_args = decoded->build_args,
        .labels = decoded->labels,
        .target = api_query(request, "target"),
        .platform = request->version >= 32 ? api_query(request, "platform") : NULL,
        .network_mode = api_query(request, "networkmode"),
        .no_cache = api_query_bool(request, "nocache"),
        .remove = force_remove || !api_query(request, "rm") || api_query_bool(request, "rm"),
        .force_remove = force_remove,
        .pull = api_query_bool(request, "pull"),
        .quiet = api_query_bool(request, "q"),
        .squash = api_query_bool(request, "squash"),
        .container_limits = decoded->limits,
        .no_cache_stages = (const char *const *)decoded->no_cache,
        .progress = api_query_bool(request, "progress"),
        .tell_stages = api_query_bool(request, "tellstages"),
        .tell_failed = api_query_bool(request, "tellfailed"),
        .context_id = api_query(request, "context"),
        .contexts = decoded->contexts,
        .cache_from = (const char *const *)decoded->cache_from,
        .registry_auths = decoded->registry_auths,
        .entitlements = decoded->entitlements,
        .excerpts = api_query_bool(request, "excerpts"),
    };
    return true;
}

/* ---- output ---- */

struct output {
    struct api_request *request;
    bool quiet; /* messages are kept, and shown only where the build fails */
    json_t *kept;
    bool progress;  /* its objects are wanted by whoever asked for them */
    bool has_error; /* the builder has told its failure */
};

enum { KEPT_MAX = 10000 };

static bool take_message(void *user, const json_t *message)
{
    struct output *output = user;
    output->has_error |= json_object_get(message, "error") != NULL;
    if (json_object_get(message, "aux") && !output->progress && output->request->version < 30)
        return true;
    if (output->quiet) {
        if (json_array_size(output->kept) < KEPT_MAX)
            json_array_append(output->kept, (json_t *)message);
        return true;
    }
    return api_send_message(output->request, json_incref((json_t *)message), NULL);
}

static void send_kept(struct output *output)
{
    size_t i;
    json_t *message;
    json_array_foreach(output->kept, i, message) api_send_message(output->request, json_incref(message), NULL);
}

static bool run_check(struct api_request *request, const struct decoded *decoded, struct byte_source *context, GError **error)
{
    json_t *answer = NULL;
    return builder_check(request->engine->builder, context, &decoded->request, http_exchange_cancel(request->http), &answer,
                         error) &&
           api_respond_json(request, 200, answer);
}

static bool run_build(struct api_request *request, const struct decoded *decoded, struct byte_source *context, GError **error)
{
    if (api_query_bool(request, "check"))
        return run_check(request, decoded, context, error);
    struct output output = {
        .request = request, .quiet = decoded->request.quiet, .progress = decoded->request.progress, .kept = json_array()
    };
    const struct build_output messages = { take_message, &output };
    g_autofree char *id = NULL;
    bool ok = builder_run(request->engine->builder, context, &decoded->request, &messages, http_exchange_cancel(request->http),
                          &id, error);
    if (ok && output.quiet) {
        g_autofree char *line = g_strconcat(id, "\n", NULL);
        ok = api_send_message(request, json_pack("{s:s}", "stream", line), error);
    } else if (!ok && output.quiet) {
        send_kept(&output);
    }
    json_decref(output.kept);
    if (!ok && output.has_error && http_exchange_has_begun(request->http)) {
        g_clear_error(error);
        return true;
    }
    return api_finish_messages(request, ok, error);
}

static bool build_remote(struct api_request *request, struct decoded *decoded, const char *remote, GError **error)
{
    struct download *download = NULL;
    if (git_is_source(remote)) {
        decoded->request.git = remote;
        return run_build(request, decoded, NULL, error);
    }
    if (!g_str_has_prefix(remote, "http://") && !g_str_has_prefix(remote, "https://"))
        return error_set(error, TARE_ERROR_INVALID, "unable to detect the type of remote context: %s", remote);
    if (!download_open(remote, NULL, NULL, http_exchange_cancel(request->http), &download, error)) {
        g_prefix_error(error, "error downloading remote context %s: ", remote);
        return false;
    }
    bool ok = run_build(request, decoded, download_source(download), error);
    download_free(download);
    return ok;
}

/* The client has sent them before; they are this build's alone. */
static bool take_secrets(struct api_request *request, struct decoded *decoded, GError **error)
{
    const char *id = http_request_header(http_exchange_request(request->http), API_SECRETS_HEADER);
    if (!id)
        return true;
    if (!builder_take_secrets(request->engine->builder, id, &decoded->request.secrets, error))
        return false;
    decoded->secrets_id = id;
    return true;
}

static bool build_image(struct api_request *request, GError **error)
{
    struct decoded decoded = { 0 };
    const char *remote = api_query(request, "remote");
    bool ok = decode(request, &decoded, error) && take_secrets(request, &decoded, error);
    if (ok)
        ok = remote ? build_remote(request, &decoded, remote, error)
                    : run_build(request, &decoded, http_exchange_body(request->http), error);
    if (decoded.secrets_id)
        builder_drop_secrets(request->engine->builder, decoded.secrets_id);
    decoded_clear(&decoded);
    return ok;
}

/* ---- contexts beforehand: our own clients' ---- */

static bool read_body(struct api_request *request, guint64 max, GByteArray *ret, GError **error)
{
    enum { PIECE = 256 * 1024 };
    gssize n;
    do {
        guint before = ret->len;
        g_byte_array_set_size(ret, before + PIECE);
        n = source_read(http_exchange_body(request->http), ret->data + before, PIECE, error);
        g_byte_array_set_size(ret, before + (n > 0 ? (guint)n : 0));
        if (ret->len > max)
            return error_set(error, TARE_ERROR_TOO_LARGE, "the context's listing is too large");
    } while (n > 0);
    return n == 0;
}

/* key: a listing comes, and what of it is lacking goes back. Else the tar of a named context. */
static bool put_context(struct api_request *request, GError **error)
{
    const char *key = api_query(request, "key");
    json_t *answer = NULL;
    if (!key)
        return builder_upload_context(request->engine->builder, api_query(request, "id"), http_exchange_body(request->http),
                                      http_exchange_cancel(request->http), &answer, error) &&
               api_respond_json(request, 200, answer);
    GByteArray *body = g_byte_array_new();
    if (!read_body(request, 512u << 20, body, error)) {
        g_byte_array_unref(body);
        return false;
    }
    gsize length = body->len;
    const struct builder_announcement announcement = {
        .key = key, .is_named = api_query_bool(request, "named"), .data = (char *)g_byte_array_free(body, FALSE), .length = length
    };
    return builder_announce_context(request->engine->builder, &announcement, &answer, error) &&
           api_respond_json(request, 200, answer);
}

/* The Dockerfile comes, and what of its directory is worth sending goes back. */
static bool plan_sources(struct api_request *request, GError **error)
{
    struct decoded decoded = { 0 };
    GByteArray *body = g_byte_array_new();
    bool ok = decode(request, &decoded, error) && read_body(request, 4u << 20, body, error);
    json_t *answer =
        ok ? builder_plan_sources(request->engine->builder, &decoded.request, (const char *)body->data, body->len) : NULL;
    g_byte_array_unref(body);
    decoded_clear(&decoded);
    return ok && api_respond_json(request, 200, answer);
}

/* What an image has, for --output: no container is made. */
static bool export_files(struct api_request *request, GError **error)
{
    struct api_stream answer;
    const char *image = api_query(request, "image");
    if (!image)
        return error_set(error, TARE_ERROR_INVALID, "image is missing");
    api_stream_init(&answer, request, "application/x-tar", true);
    return builder_export_files(request->engine->builder, image, &answer.sink, http_exchange_cancel(request->http), error);
}

/* A cache mount by its name, out and in. */
static bool export_cache(struct api_request *request, GError **error)
{
    struct api_stream answer;
    const char *name = api_query(request, "id");
    if (!name || !*name)
        return error_set(error, TARE_ERROR_INVALID, "id is missing");
    api_stream_init(&answer, request, "application/x-tar", true);
    return builder_cache_mount_export(request->engine->builder, name, &answer.sink, http_exchange_cancel(request->http), error);
}

static bool import_cache(struct api_request *request, GError **error)
{
    const char *name = api_query(request, "id");
    if (!name || !*name)
        return error_set(error, TARE_ERROR_INVALID, "id is missing");
    return builder_cache_mount_import(request->engine->builder, name, http_exchange_body(request->http),
                                      http_exchange_cancel(request->http), error) &&
           api_respond_empty(request, 204);
}

static bool prune_cache(struct api_request *request, GError **error)
{
    g_autoptr(json_t) filters = NULL;
    const char *keep = api_query(request, "keep-storage");
    struct builder_prune_options options = { .all = api_query_bool(request, "all") };
    json_t *answer = NULL;
    if (!keep)
        keep = api_query(request, "reserved-space");
    if (keep && !parse_int(keep, 0, G_MAXINT64, &options.keep_storage))
        return error_set(error, TARE_ERROR_INVALID, "keep-storage is in bytes and expects an integer, got %s", keep);
    if (!query_json(request, "filters", is_object, "could not parse filters", &filters, error))
        return false;
    options.filters = filters;
    return builder_prune(request->engine->builder, &options, &answer, error) && api_respond_json(request, 200, answer);
}

static bool cancel_build(struct api_request *request, GError **error)
{
    if (!api_query(request, "id"))
        return error_set(error, TARE_ERROR_INVALID, "build ID not provided");
    /* A classic build ends with its client's connection; there is none to be found by an id. */
    return error_set(error, TARE_ERROR_NOT_FOUND, "no such build: %s", api_query(request, "id"));
}

const struct api_route build_routes[] = {
    { "POST", "/build", 0, 0, build_image },
    { "POST", "/build/context", 0, 0, put_context },
    { "POST", "/build/sources", 0, 0, plan_sources },
    { "GET", "/build/files", 0, 0, export_files },
    { "GET", "/build/caches", 0, 0, export_cache },
    { "POST", "/build/caches", 0, 0, import_cache },
    { "POST", "/build/prune", 31, 0, prune_cache },
    { "POST", "/build/cancel", 0, 0, cancel_build },
    { "POST", "/build/agent", 0, 0, api_offer_agent },
    { "POST", "/build/secrets", 0, 0, api_lend_secrets },
    { NULL },
};
