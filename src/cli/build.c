/* image build, by the classic builder. */
#include "cli/build-internal.h"
#include "cli/create-internal.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/size.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DOCKERFILE_MAX (16u << 20)
#define PROGRESS_STEP (512 * 1024)

struct build {
    struct cli *cli;
    const struct options *options;
    bool quiet;
    char *dockerfile; /* its name in the context; NULL: the engine's default */
    char *directory;  /* a local context, or NULL */
    char *remote;     /* a URL that the engine fetches, or NULL */
    struct extra_dockerfile *extra;
    struct ignore *ignore;
    char *head; /* of stdin, read to see what it is */
    gsize head_length;
    bool stdin_is_archive;
    GString *said; /* what -q keeps back */
    guint64 shown;
    char *image_id;
    /* the thread that makes the context */
    GThread *thread;
    int pipe[2];
    pid_t compressor;
    GError *problem;
};

static void build_clear(struct build *build)
{
    g_free(build->dockerfile);
    g_free(build->directory);
    g_free(build->remote);
    if (build->extra) {
        g_free(build->extra->name);
        g_free(build->extra->text);
        g_free(build->extra);
    }
    ignore_free(build->ignore);
    g_free(build->head);
    g_string_free(build->said, TRUE);
    g_free(build->image_id);
    g_clear_error(&build->problem);
    fd_clear(&build->pipe[0]);
    fd_clear(&build->pipe[1]);
}

/* ---- what is to be sent ---- */

static bool is_git(const char *text)
{
    static const char *const prefixes[] = { "git://", "github.com/", "git@", NULL };
    for (const char *const *prefix = prefixes; *prefix; prefix++)
        if (g_str_has_prefix(text, *prefix))
            return true;
    g_autofree char *plain = g_strndup(text, strcspn(text, "#"));
    return (g_str_has_prefix(text, "http://") || g_str_has_prefix(text, "https://")) && g_str_has_suffix(plain, ".git");
}

static char *real_path(const char *path)
{
    char *resolved = realpath(path, NULL), *copy = g_strdup(resolved);
    free(resolved);
    return copy;
}

/* The Dockerfile's path relative to the context, "../…" when it lies outside. */
static char *relative_dockerfile(struct build *build, const char *given, GError **error)
{
    g_autofree char *path = NULL;
    if (given) {
        path = g_path_is_absolute(given) ? g_strdup(given) : g_canonicalize_filename(given, NULL);
    } else {
        path = g_build_filename(build->directory, "Dockerfile", NULL);
        g_autofree char *small = g_build_filename(build->directory, "dockerfile", NULL);
        if (access(path, F_OK) != 0 && access(small, F_OK) == 0) {
            g_free(path);
            path = g_steal_pointer(&small);
        }
    }
    g_autofree char *resolved = real_path(path);
    if (!resolved) {
        error_set(error, TARE_ERROR_INVALID,
                  "unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat %s: %s", path,
                  error_errno_text(errno));
        return NULL;
    }
    gsize length = strlen(build->directory);
    bool at_root = strcmp(build->directory, "/") == 0;
    if (at_root || (strncmp(resolved, build->directory, length) == 0 && resolved[length] == '/'))
        return g_strdup(resolved + (at_root ? 1 : length + 1));
    return g_strconcat("../", resolved, NULL);
}

static bool take_extra(struct build *build, int fd, GError **error)
{
    build->extra = g_new0(struct extra_dockerfile, 1);
    build->extra->name = g_strdup_printf(".dockerfile.%08x%08x%04x", g_random_int(), g_random_int(), g_random_int() & 0xffff);
    g_free(build->dockerfile);
    build->dockerfile = g_strdup(build->extra->name);
    return fd_read_all(fd, DOCKERFILE_MAX, "Dockerfile", &build->extra->text, &build->extra->length, error);
}

static GPtrArray *read_ignore_file(struct build *build)
{
    g_autofree char *path = g_build_filename(build->directory, ".dockerignore", NULL), *text = NULL;
    size_t length;
    if (!file_read(AT_FDCWD, path, IGNORE_TEXT_MAX, &text, &length, NULL))
        return g_ptr_array_new_with_free_func(g_free);
    return ignore_read(text, length);
}

/* The engine needs .dockerignore and the Dockerfile also when they are left out; it hides them itself. */
static bool load_ignore(struct build *build, bool from_stdin, GError **error)
{
    g_autoptr(GPtrArray) patterns = read_ignore_file(build);
    build->ignore = ignore_new(patterns, error);
    if (!build->ignore) {
        g_prefix_error(error, "error checking context: ");
        return false;
    }
    guint before = patterns->len;
    if (ignore_matches(build->ignore, ".dockerignore"))
        g_ptr_array_add(patterns, g_strdup("!.dockerignore"));
    if (!from_stdin && ignore_matches(build->ignore, build->dockerfile))
        g_ptr_array_add(patterns, g_strconcat("!", build->dockerfile, NULL));
    if (patterns->len == before)
        return true;
    ignore_free(build->ignore);
    build->ignore = ignore_new(patterns, error);
    return build->ignore != NULL;
}

static bool prepare_directory(struct build *build, const char *context, GError **error)
{
    const char *given = options_string(build->options, "file", NULL);
    bool from_stdin = given && strcmp(given, "-") == 0;
    build->directory = real_path(context);
    if (!build->directory)
        return error_set(error, TARE_ERROR_INVALID,
                         "unable to prepare context: unable to evaluate symlinks in context path: lstat %s: %s", context,
                         error_errno_text(errno));
    if (from_stdin)
        return take_extra(build, STDIN_FILENO, error) && load_ignore(build, true, error);
    build->dockerfile = relative_dockerfile(build, given && *given ? given : NULL, error);
    if (!build->dockerfile)
        return false;
    if (g_str_has_prefix(build->dockerfile, "../")) {
        g_autofd int fd = open(build->dockerfile + 3, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return error_set(error, TARE_ERROR_INVALID, "unable to open Dockerfile: open %s: %s", given, error_errno_text(errno));
        return take_extra(build, fd, error) && load_ignore(build, true, error);
    }
    return load_ignore(build, false, error);
}

/* A tar, or what gzip, bzip2, xz and zstd make of one. */
static bool looks_like_archive(const guint8 *data, gsize length)
{
    static const struct {
        const char *bytes;
        gsize length;
    } magics[] = { { "\x1f\x8b\x08", 3 },
                   { "BZh", 3 },
                   { "\xfd"
                     "7zXZ",
                     6 },
                   { "\x28\xb5\x2f\xfd", 4 } };
    for (gsize i = 0; i < G_N_ELEMENTS(magics); i++)
        if (length >= magics[i].length && memcmp(data, magics[i].bytes, magics[i].length) == 0)
            return true;
    if (length >= 4 && (data[0] & 0xf0) == 0x50 && memcmp(data + 1, "\x2a\x4d\x18", 3) == 0) /* zstd, a skippable frame first */
        return true;
    return length >= 512 && memcmp(data + 257, "ustar", 5) == 0;
}

static bool prepare_stdin(struct build *build, GError **error)
{
    const char *given = options_string(build->options, "file", NULL);
    if (given && strcmp(given, "-") == 0)
        return error_set(error, TARE_ERROR_INVALID, "invalid argument: can't use stdin for both build context and dockerfile");
    build->head = g_malloc(1024);
    ssize_t n = fd_read_full(STDIN_FILENO, build->head, 1024);
    build->head_length = n > 0 ? (gsize)n : 0;
    build->stdin_is_archive = looks_like_archive((guint8 *)build->head, build->head_length);
    if (!build->stdin_is_archive && given && *given)
        return error_set(
            error, TARE_ERROR_INVALID,
            "unable to prepare context from STDIN: ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles");
    build->dockerfile = build->stdin_is_archive ? g_strdup(given) : g_strdup("Dockerfile");
    return true;
}

static bool prepare(struct build *build, GError **error)
{
    const char *context = build->options->args[0];
    struct stat status;
    if (strcmp(context, "-") == 0)
        return prepare_stdin(build, error);
    if (stat(context, &status) == 0 && S_ISDIR(status.st_mode))
        return prepare_directory(build, context, error);
    if (is_git(context) || g_str_has_prefix(context, "http://") || g_str_has_prefix(context, "https://")) {
        build->remote = g_strdup(context);
        build->dockerfile = g_strdup(options_string(build->options, "file", NULL));
        return true;
    }
    if (stat(context, &status) == 0 && (build->directory = real_path(context)))
        return error_set(error, TARE_ERROR_INVALID, "unable to prepare context: context must be a directory: %s",
                         build->directory);
    return error_set(error, TARE_ERROR_INVALID, "unable to prepare context: path \"%s\" not found", context);
}

/* ---- sending it ---- */

static void say(struct build *build, const char *text)
{
    if (build->quiet)
        g_string_append(build->said, text);
    else
        fd_write_full(STDOUT_FILENO, text, strlen(text));
}

static void show_sent(guint64 sent, void *user)
{
    struct build *build = user;
    if (sent - build->shown < PROGRESS_STEP || build->quiet || !is_terminal(STDOUT_FILENO))
        return;
    build->shown = sent;
    g_autofree char *size = size_human(sent, 4), *line = g_strdup_printf("Sending build context to Docker daemon %8s\r", size);
    say(build, line);
}

/* One line per context, as everybody knows it: the carriage returns are docker's. */
static void show_total(struct build *build, guint64 sent)
{
    g_autofree char *size = size_human(sent, 4),
                    *line = g_strdup_printf("Sending build context to Docker daemon %8s\r\r\n", size);
    say(build, line);
}

static bool send_stdin(struct build *build, struct pack *pack, GError **error)
{
    enum { SIZE = 256 * 1024 };
    g_autofree char *buffer = g_malloc(SIZE);
    if (build->stdin_is_archive) {
        ssize_t n = 1;
        bool ok = pack_data(pack, build->head, build->head_length, error);
        while (ok && (n = fd_read_full(STDIN_FILENO, buffer, SIZE)) > 0)
            ok = pack_data(pack, buffer, (gsize)n, error);
        return ok && (n == 0 || error_set_errno(error, errno, "read stdin"));
    }
    g_autofree char *rest = NULL;
    size_t length;
    if (!fd_read_all(STDIN_FILENO, DOCKERFILE_MAX, "Dockerfile", &rest, &length, error))
        return false;
    struct pack_entry entry = { .name = "Dockerfile",
                                .mode = 0600,
                                .type = '0',
                                .size = build->head_length + length,
                                .mtime = g_get_real_time() / G_USEC_PER_SEC };
    return pack_header(pack, &entry, error) && pack_data(pack, build->head, build->head_length, error) &&
           pack_data(pack, rest, length, error) && pack_padding(pack, entry.size, error) && pack_end(pack, error);
}

static gpointer make_context(gpointer user)
{
    struct build *build = user;
    struct pack pack = { .fd = build->pipe[1], .progress = show_sent, .user = build };
    bool ok = build->directory ? context_pack(&pack, build->directory, build->ignore, build->extra, &build->problem)
                               : send_stdin(build, &pack, &build->problem);
    if (ok) /* before the pipe closes: the engine's first line comes after this one */
        show_total(build, pack.sent);
    fd_clear(&build->pipe[1]);
    return NULL;
}

/* --compress: gzip between us and the engine. */
static bool start_compressor(struct build *build, GError **error)
{
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "pipe");
    static const char *const argv[] = { "gzip", "-c", NULL };
    struct spawn_fd fds[] = { { build->pipe[0], 0 }, { pair[1], 1 }, { STDERR_FILENO, 2 } };
    struct spawn_options spawn = { .argv = argv, .fds = fds, .n_fds = G_N_ELEMENTS(fds), .search_path = true };
    build->compressor = spawn_program(&spawn, error);
    fd_close(pair[1]);
    fd_close(build->pipe[0]);
    build->pipe[0] = pair[0];
    return build->compressor > 0;
}

static bool start_context(struct build *build, GError **error)
{
    if (pipe2(build->pipe, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "pipe");
    if (options_bool(build->options, "compress", false) && !start_compressor(build, error))
        return false;
    build->thread = g_thread_new("context", make_context, build);
    return true;
}

/* Ends the thread: closing our end makes its next write fail. */
static void end_context(struct build *build)
{
    fd_clear(&build->pipe[0]);
    if (build->thread)
        g_thread_join(g_steal_pointer(&build->thread));
    if (build->compressor > 0)
        spawn_wait(build->compressor);
    build->compressor = 0;
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

static char *build_query(const struct build *build)
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
    query_add(query, "dockerfile", build->dockerfile);
    query_add(query, "remote", build->remote);
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
    return g_string_free(query, FALSE);
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
    g_autofree char *query = build_query(build), *auths = registry_auths_header(build->cli);
    const char *const headers[] = { "X-Registry-Config", auths, "Content-Type", "application/x-tar", NULL };
    struct call call = { .method = "POST",
                         .path = "/build",
                         .query = query,
                         .headers = headers,
                         .has_body_fd = !build->remote,
                         .body_fd = build->pipe[0] };
    struct progress_options output = {
        .fd = STDOUT_FILENO, .aux = take_aux, .user = build, .quiet_text = build->quiet ? build->said : NULL
    };
    int code = 0;
    g_autoptr(GError) problem = NULL;
    g_autoptr(response_t) response = api_call(build->cli, &call, &problem);
    bool ok = response && progress_show(response, &output, &code, &problem);
    end_context(build);
    if (build->problem &&
        !g_error_matches(build->problem, TARE_ERROR, TARE_ERROR_INTERNAL)) { /* not only that the engine stopped listening */
        g_propagate_error(error, g_steal_pointer(&build->problem));
        return 1;
    }
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
                           .pipe = { -1, -1 } };
    const char *iidfile = options_string(options, "iidfile", NULL);
    int status = 1;
    if (iidfile)
        unlink(iidfile); /* none that is stale is left by a failure */
    fflush(stdout);
    if (prepare(&build, error) && api_version(cli, error) && (build.remote || start_context(&build, error)))
        status = request(&build, error);
    end_context(&build);
    build_clear(&build);
    return status;
}
