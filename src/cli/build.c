/* image build, by the classic builder. */
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
    bool quiet;
    struct build_source source;
    struct build_send *send;
    GString *said; /* what -q keeps back */
    char *image_id;
};

static void build_clear(struct build *build)
{
    build_send_free(build->send);
    build_source_clear(&build->source);
    g_string_free(build->said, TRUE);
    g_free(build->image_id);
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
    query_add(query, "cpusetcpus", options_string(options, "cpuset-cpus", ""));
    query_add(query, "cpusetmems", options_string(options, "cpuset-mems", ""));
    query_add(query, "cgroupparent", options_string(options, "cgroup-parent", ""));
}

static GString *build_query(const struct build *build)
{
    const struct options *options = build->options;
    GString *query = g_string_new(NULL);
    for (const char *const *tag = options_list(options, "tag"); *tag; tag++)
        query_add(query, "t", *tag);
    query_add_bool(query, "q", build->quiet);
    query_add_bool(query, "nocache", options_bool(options, "no-cache", false));
    query_add(query, "rm", options_bool(options, "rm", true) ? "1" : "0");
    query_add_bool(query, "forcerm", options_bool(options, "force-rm", false));
    query_add_bool(query, "pull", options_bool(options, "pull", false));
    query_add_bool(query, "squash", options_bool(options, "squash", false));
    add_limits(options, query);
    query_add(query, "dockerfile", build->source.dockerfile);
    query_add(query, "target", options_string(options, "target", ""));
    query_add(query, "networkmode", options_string(options, "network", "default"));
    const char *platform = options_string(options, "platform", g_getenv("DOCKER_DEFAULT_PLATFORM"));
    query_add(query, "platform", platform && *platform ? platform : NULL);
    query_add(query, "isolation", options_string(options, "isolation", NULL));
    query_add_json(query, "buildargs", pairs(options_list(options, "build-arg"), true));
    query_add_json(query, "labels", pairs(options_list(options, "label"), false));
    query_add_json(query, "cachefrom", json_from_strv(options_list(options, "cache-from")));
    query_add_json(query, "ulimits", ulimits(options_list(options, "ulimit")));
    if (options_given(options, "security-opt"))
        query_add_json(query, "securityopt", json_from_strv(options_list(options, "security-opt")));
    for (const char *const *host = options_list(options, "add-host"); *host; host++)
        query_add(query, "extrahosts", *host);
    query_add(query, "version", "1");
    return query;
}

static void take_aux(const json_t *aux, void *user)
{
    struct build *build = user;
    const char *id = json_get_string(aux, "ID", NULL);
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

static int finish(struct build *build, GError **error)
{
    const char *iidfile = options_string(build->options, "iidfile", NULL);
    if (build->quiet) {
        const char *id = strstr(build->said->str, "sha256:");
        print("%s", id ? id : "");
        if (id && !build->image_id)
            build->image_id = g_strchomp(g_strdup(id));
    }
    if (!iidfile)
        return 0;
    if (!build->image_id)
        return error_set(error, TARE_ERROR_INTERNAL, "server did not provide an image ID. Cannot write %s", iidfile), 1;
    return write_id(iidfile, build->image_id, error) ? 0 : 1;
}

static int request(struct build *build, GError **error)
{
    g_autoptr(GString) query = build_query(build);
    g_autofree char *auths = registry_auths_header(build->cli);
    const char *const headers[] = { "X-Registry-Config", auths, "Content-Type", "application/x-tar", NULL };
    struct call call = { .method = "POST", .path = "/build", .headers = headers, .has_body_fd = true };
    struct progress_options output = {
        .fd = STDOUT_FILENO, .aux = take_aux, .user = build, .quiet_text = build->quiet ? build->said : NULL
    };
    int code = 0;
    g_autoptr(GError) problem = NULL;
    if (!build_send_prepare(build->send, query, error))
        return 1;
    call.query = query->str;
    call.body_fd = build_send_start(build->send, error);
    if (call.body_fd < 0)
        return 1;
    g_autoptr(response_t) response = api_call(build->cli, &call, &problem);
    bool ok = response && progress_show(response, &output, &code, &problem);
    if (!build_send_end(build->send, error))
        return 1;
    if (ok)
        return finish(build, error);
    if (build->quiet)
        print_error("%s", build->said->str);
    g_propagate_error(error, g_steal_pointer(&problem));
    return code ? code : 1;
}

int cmd_image_build(struct cli *cli, const struct options *options, GError **error)
{
    struct build build = { .cli = cli,
                           .options = options,
                           .quiet = options_bool(options, "quiet", false),
                           .said = g_string_new(NULL),
                           .source.fd = -1 };
    const char *iidfile = options_string(options, "iidfile", NULL);
    int status = 1;
    if (iidfile)
        unlink(iidfile); /* none that is stale is left by a failure */
    if (build_source_open(&build.source, options, build.quiet, error) && api_version(cli, error)) {
        fflush(stdout);
        build.send = build_send_new(cli, &build.source, options, build.quiet);
        status = request(&build, error);
    }
    build_clear(&build);
    return status;
}
