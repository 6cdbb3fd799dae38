/* image build: the command. */
#include "cli/build-internal.h"
#include "cli/create-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct build {
    struct cli *cli;
    const struct options *options;
    bool quiet, to_stdout; /* --output has stdout for itself */
    struct build_source source;
    struct build_send *send;
    enum build_face face;
    struct build_progress *progress;
    GString *said; /* what -q keeps back */
    char *image_id, *failed;
    char *secrets;        /* the id of what was lent, or NULL */
    char **platforms;     /* one build each; a single "" where none was said */
    const char *platform; /* of the build under way */
    struct build_result result;
};

static void build_clear(struct build *build)
{
    build_return_secrets();
    build_send_free(build->send);
    build_source_clear(&build->source);
    g_string_free(build->said, TRUE);
    g_free(build->image_id);
    g_free(build->failed);
    g_free(build->secrets);
    g_strfreev(build->platforms);
    g_ptr_array_unref(build->result.images);
    g_ptr_array_unref(build->result.stages);
    json_decref(build->result.pushed);
}

/* ---- the request ---- */

static json_t *pairs(const char *const *list, bool null_without_value)
{
    json_t *object = json_object();
    for (; *list; list++) {
        const char *equals = strchr(*list, '='), *value = equals ? equals + 1 : NULL;
        g_autofree char *key = g_strndup(*list, strcspn(*list, "="));
        if (!equals && null_without_value)
            value = g_getenv(key);
        json_object_set_new(object, key, value ? json_string_lossy(value) : null_without_value ? json_null() : json_string(""));
    }
    return object;
}

static json_t *ulimits(const char *const *list)
{
    json_t *array = json_array();
    for (; *list; list++)
        json_array_append_new(array, create_parse_ulimit(*list));
    return array;
}

static void add_limits(const struct options *options, GString *query)
{
    static const struct {
        const char *flag, *key;
        bool is_bytes;
    } limits[] = { { "cpu-shares", "cpushares", false }, { "cpu-quota", "cpuquota", false }, { "cpu-period", "cpuperiod", false },
                   { "memory", "memory", true },         { "memory-swap", "memswap", true }, { "shm-size", "shmsize", true } };
    for (gsize i = 0; i < G_N_ELEMENTS(limits); i++)
        query_add_int(query, limits[i].key,
                      limits[i].is_bytes ? options_bytes(options, limits[i].flag, 0) : options_int(options, limits[i].flag, 0));
    if (options_given(options, "pids-limit")) /* docker's builder has none */
        query_add_int(query, "pidslimit", options_int(options, "pids-limit", 0));
    query_add(query, "cpusetcpus", options_string(options, "cpuset-cpus", ""));
    query_add(query, "cpusetmems", options_string(options, "cpuset-mems", ""));
    query_add(query, "cgroupparent", options_string(options, "cgroup-parent", ""));
}

static GString *build_query(const struct build *build)
{
    const struct options *options = build->options;
    GString *query = g_string_new(NULL);
    /* The names of an image for several platforms are given when it is put together. */
    for (const char *const *tag = options_list(options, "tag"); *tag && !build->platforms[1]; tag++)
        query_add(query, "t", *tag);
    bool wants_stages = build_cache_wants_stages(options_list(options, "cache-to"));
    query_add_bool(query, "q", build->quiet && !wants_stages); /* what is quiet tells nothing of them; then we are */
    query_add_bool(query, "tellstages", wants_stages);
    query_add_bool(query, "nocache", options_bool(options, "no-cache", false));
    query_add(query, "rm", options_bool(options, "rm", true) ? "1" : "0");
    query_add_bool(query, "forcerm", options_bool(options, "force-rm", false) && !build->progress);
    query_add_bool(query, "pull", options_bool(options, "pull", false));
    query_add_bool(query, "squash", options_bool(options, "squash", false));
    add_limits(options, query);
    query_add(query, "dockerfile", build->source.dockerfile);
    query_add(query, "target", options_string(options, "target", ""));
    query_add(query, "networkmode", options_string(options, "network", "default"));
    query_add(query, "platform", *build->platform ? build->platform : NULL);
    query_add(query, "isolation", options_string(options, "isolation", NULL));
    json_t *arguments = pairs(options_list(options, "build-arg"), true);
    if (g_getenv("SOURCE_DATE_EPOCH") && !json_object_get(arguments, "SOURCE_DATE_EPOCH"))
        json_object_set_new(arguments, "SOURCE_DATE_EPOCH", json_string_lossy(g_getenv("SOURCE_DATE_EPOCH")));
    query_add_json(query, "buildargs", arguments);
    query_add_json(query, "labels", pairs(options_list(options, "label"), false));
    query_add_json(query, "ulimits", ulimits(options_list(options, "ulimit")));
    if (options_given(options, "security-opt"))
        query_add_json(query, "securityopt", json_from_strv(options_list(options, "security-opt")));
    for (const char *const *host = options_list(options, "add-host"); *host; host++)
        query_add(query, "extrahosts", *host);
    for (const char *const *allowed = options_list(options, "allow"); *allowed; allowed++)
        query_add(query, "allow", *allowed);
    query_add_bool(query, "check", options_bool(options, "check", false));
    /* With DOCKER_BUILDKIT=0 errors are the classic builder's, and nothing else. */
    query_add_bool(query, "excerpts", g_strcmp0(g_getenv("DOCKER_BUILDKIT"), "0") != 0);
    query_add(query, "version", "1");
    return query;
}

static void take_aux(const json_t *aux, void *user)
{
    struct build *build = user;
    const char *id = json_get_string(aux, "ID", NULL),
               *failed = json_get_string(json_get_object(aux, "Failed"), "Container", NULL);
    if (build->progress && (json_object_get(aux, "vertexes") || json_object_get(aux, "logs") || json_object_get(aux, "warnings")))
        build_progress_take(build->progress, aux);
    json_t *stages = json_get_array(aux, "Stages"), *stage;
    size_t i;
    json_array_foreach(stages, i, stage) g_ptr_array_add(build->result.stages, g_strdup(json_string_value(stage)));
    if (failed && !build->failed)
        build->failed = g_strdup(failed);
    if (id) {
        g_free(build->image_id);
        build->image_id = g_strdup(id);
    }
}

static bool write_id(const char *path, const char *id, GError **error)
{
    g_autofd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return (fd >= 0 && fd_write_full(fd, id, strlen(id)) == 0) ||
           error_set(error, TARE_ERROR_INVALID, "open %s: %s", path, error_errno_text(errno));
}

/* What BuildKit's client writes of a result, as far as there is something to say. */
static bool write_metadata(const struct build *build, const char *path, GError **error)
{
    const json_t *pushed = build->result.pushed;
    g_autoptr(json_t) metadata = json_object();
    const char *const *tags = options_list(build->options, "tag");
    g_autofree char *names = g_strjoinv(",", (char **)tags), *text = NULL;
    if (!build->platforms[1])
        json_object_set_new(metadata, "containerimage.config.digest", json_string(build->image_id));
    if (pushed)
        json_object_set(metadata, "containerimage.descriptor", (json_t *)pushed);
    json_object_set_new(metadata, "containerimage.digest", json_string(json_get_string(pushed, "digest", build->image_id)));
    if (*names)
        json_object_set_new(metadata, "image.name", json_string_lossy(names));
    text = json_dumps(metadata, JSON_INDENT(2));
    return write_id(path, text, error);
}

static bool write_outputs(struct build *build, GError **error)
{
    for (const char *const *list = options_list(build->options, "output"); *list; list++) {
        struct build_output output;
        bool ok = build_output_parse(*list, &output, error) && build_output_write(build->cli, &output, &build->result, error);
        build_output_clear(&output);
        if (!ok)
            return false;
    }
    struct build_output pushed = { .type = (char *)"image", .push = true };
    return (!options_bool(build->options, "push", false) || build_output_write(build->cli, &pushed, &build->result, error)) &&
           build_cache_export(build->cli, options_list(build->options, "cache-to"), &build->result, error);
}

/* All platforms are built: files and names. */
static bool finish(struct build *build, GError **error)
{
    const char *iidfile = options_string(build->options, "iidfile", NULL),
               *metadata = options_string(build->options, "metadata-file", NULL);
    bool wants_id = iidfile || metadata || options_given(build->options, "output") || options_given(build->options, "cache-to") ||
                    options_bool(build->options, "push", false);
    if (wants_id && !build->image_id)
        return error_set(error, TARE_ERROR_INTERNAL, "server did not provide an image ID. Cannot write %s",
                         iidfile ? iidfile : "the result");
    if (!wants_id)
        return true;
    build->result.platforms = (const char *const *)build->platforms;
    build->result.tags = options_list(build->options, "tag");
    return write_outputs(build, error) &&
           (!iidfile || write_id(iidfile, json_get_string(build->result.pushed, "digest", build->image_id), error)) &&
           (!metadata || write_metadata(build, metadata, error));
}

/* The id of one platform's image. */
static void take_image(struct build *build)
{
    if (build->quiet) {
        const char *id = strstr(build->said->str, "sha256:");
        if (id && !build->image_id)
            build->image_id = g_strchomp(g_strdup(id));
    }
    if ((build->quiet || build->face == BUILD_FACE_QUIET) && build->image_id)
        (build->to_stdout ? print_error : print)("%s\n", build->image_id);
    if (build->image_id)
        g_ptr_array_add(build->result.images, g_strdup(build->image_id));
}

/* What is wrong with them is told before anything is sent. */
static bool check_outputs(struct build *build, GError **error)
{
    if (!build_outputs_check(build->options, build->platforms[1] != NULL, &build->to_stdout, error))
        return false;
    return !build->platforms[1] || options_given(build->options, "output") || options_bool(build->options, "push", false) ||
           options_bool(build->options, "check", false) ||
           error_set(error, TARE_ERROR_INVALID,
                     "an image for several platforms needs a place to go: --output type=oci,dest=FILE or --push");
}

static bool add_extras(const struct build *build, GString *query, GError **error)
{
    json_t *sources = build_cache_sources(build->cli, options_list(build->options, "cache-from"), error);
    if (!sources)
        return false;
    query_add_json(query, "cachefrom", sources);
    if (options_given(build->options, "no-cache-filter"))
        query_add_json(query, "nocachefilter", json_from_strv(options_list(build->options, "no-cache-filter")));
    query_add_bool(query, "progress", build->progress != NULL);
    if (build->progress && !options_bool(build->options, "shell-on-failure", false))
        query_add_bool(query, "forcerm", true); /* what failed is told here, and not looked for in `ps -a` */
    query_add_bool(query, "tellfailed", options_bool(build->options, "shell-on-failure", false));
    return true;
}

static struct response *send_build(struct build *build, const GString *query, GError **error)
{
    g_autofree char *auths = registry_auths_header(build->cli);
    const char *const headers[] = {
        "X-Registry-Config", auths, "Content-Type", "application/x-tar", build->secrets ? "X-Tare-Secrets" : NULL,
        build->secrets,      NULL
    };
    struct call call = { .method = "POST", .path = "/build", .query = query->str, .headers = headers, .has_body_fd = true };
    call.body_fd = build_send_start(build->send, error);
    return call.body_fd < 0 ? NULL : api_call(build->cli, &call, error);
}

/* build --check: an answer, and no build. */
static int check(struct build *build, const GString *query, GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(response_t) response = send_build(build, query, &problem);
    g_autoptr(json_t) result = response ? response_json(response, &problem) : NULL;
    if (!build_send_end(build->send, error))
        return 1;
    if (result)
        return build_show_check(result);
    g_propagate_error(error, g_steal_pointer(&problem));
    return 1;
}

static bool exchange(struct build *build, const GString *query, int *ret_code, GError **error)
{
    struct progress_options output = { .fd = build->to_stdout ? STDERR_FILENO : STDOUT_FILENO,
                                       .aux = take_aux,
                                       .user = build,
                                       .quiet = build->face == BUILD_FACE_QUIET,
                                       .quiet_text = build->quiet ? build->said : NULL };
    g_autoptr(response_t) response = send_build(build, query, error);
    return response && progress_show(response, &output, ret_code, error);
}

static int request(struct build *build, GError **error)
{
    g_autoptr(GString) query = build_query(build);
    int code = 0;
    g_autoptr(GError) problem = NULL;
    if (!add_extras(build, query, error) || !build_send_prepare(build->send, query, error))
        return 1;
    if (!build_lend_secrets(build->cli, build->options, &build->secrets, error))
        return 1;
    if (options_bool(build->options, "check", false))
        return check(build, query, error);
    bool ok = exchange(build, query, &code, &problem);
    if (build->progress)
        build_progress_finish(g_steal_pointer(&build->progress));
    if (!build_send_end(build->send, error))
        return 1;
    if (ok) {
        take_image(build);
        return 0;
    }
    if (build->quiet)
        print_error("%s", build->said->str);
    if (build->failed && options_bool(build->options, "shell-on-failure", false))
        build_shell_run(build->cli, build->failed);
    g_propagate_error(error, g_steal_pointer(&problem));
    return code ? code : 1;
}

/* One platform after the other: what they have in common, context and stages for the build's own platform, is there then. */
static int run_all(struct build *build, bool silent, GError **error)
{
    int status = 0;
    for (char **platform = build->platforms; !status && *platform; platform++) {
        if (platform > build->platforms && !build_source_rewind(&build->source, error))
            return 1;
        build->platform = *platform;
        g_clear_pointer(&build->image_id, g_free);
        g_clear_pointer(&build->secrets, g_free);
        g_string_truncate(build->said, 0);
        build_send_free(build->send);
        build->send = build_send_new(build->cli, &build->source, build->options, silent);
        if (build->face != BUILD_FACE_CLASSIC)
            build->progress = build_progress_new(build->face);
        status = request(build, error);
        if (build->progress)
            build_progress_finish(g_steal_pointer(&build->progress));
    }
    return status;
}

static char **wanted_platforms(const struct options *options)
{
    const char *text = options_string(options, "platform", g_getenv("DOCKER_DEFAULT_PLATFORM"));
    char **list = g_strsplit(text ? text : "", ",", -1);
    if (*list)
        return list;
    g_strfreev(list);
    list = g_new0(char *, 2);
    list[0] = g_strdup("");
    return list;
}

int cmd_image_build(struct cli *cli, const struct options *options, GError **error)
{
    struct build build = { .cli = cli,
                           .options = options,
                           .quiet = options_bool(options, "quiet", false),
                           .said = g_string_new(NULL),
                           .platforms = wanted_platforms(options),
                           .result.images = g_ptr_array_new_with_free_func(g_free),
                           .result.stages = g_ptr_array_new_with_free_func(g_free),
                           .source.fd = -1 };
    const char *iidfile = options_string(options, "iidfile", NULL);
    int status = 1;
    if (iidfile)
        unlink(iidfile); /* none that is stale is left by a failure */
    if (!check_outputs(&build, error) || !build_face_choose(options, build.to_stdout, &build.face, error)) {
        build_clear(&build);
        return status;
    }
    bool silent = build.quiet || build.face != BUILD_FACE_CLASSIC;
    if (build_source_open(&build.source, options, silent, error) && api_version(cli, error)) {
        fflush(stdout);
        status = run_all(&build, silent, error);
        if (!status && !options_bool(options, "check", false) && !finish(&build, error))
            status = 1;
    }
    build_clear(&build);
    return status;
}
