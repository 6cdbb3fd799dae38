/* RUN: a container over the layers so far, its output streamed, its upper directory sealed into the step's layer. */
#include "base/fd.h"
#include "base/platform.h"
#include "build/build-internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define OUTPUT_CHUNK 32768

struct run_step {
    struct build *build;
    const struct build_step *step; /* expanded */
    json_t *cmd;                   /* with the shell */
    json_t *saved_cmd;             /* what history and cache have: the same after "|2 a=1 b=2" where args count */
    char **args;                   /* "k=v" of the build args */
    json_t *key_cmd;               /* what the cache has besides: mounts, network, scripts */
    struct run_mounts *mounts;
    const struct dockerfile_heredoc *script; /* a here-document that begins with "#!" and is executed itself */
    char *id;
};

/* ---- the container ---- */

static json_t *saved_command(const struct build *build, char **args, const json_t *cmd)
{
    g_autoptr(json_t) saved = json_array();
    g_autofree char *count = NULL;
    unsigned n = 0, n_inherited = 0;

    if (!args[0])
        return json_deep_copy(cmd);
    for (char **arg = args; *arg; arg++) {
        g_autofree char *name = g_strndup(*arg, strcspn(*arg, "="));

        n_inherited += build_args_is_inherited(build->state->metadata.args, name);
        if (build_args_is_transparent(build->state->metadata.args, name) ||
            build_args_is_inherited(build->state->metadata.args, name))
            continue;
        json_array_append_new(saved, json_string_lossy(*arg));
        n++;
    }
    if (n_inherited == g_strv_length(args))
        return json_deep_copy(cmd);
    count = g_strdup_printf("|%u", n);
    json_array_insert_new(saved, 0, json_string(count));
    json_array_extend(saved, (json_t *)cmd);
    return json_incref(saved);
}

static json_t *host_config(const struct run_step *run)
{
    const struct build_request *request = run->build->request;
    json_t *host = request->container_limits ? json_deep_copy(request->container_limits) : json_object();
    const char *mode = request->network_mode;

    if (run->step->network && !g_str_equal(run->step->network, "default"))
        mode = run->step->network;
    if (run->step->security && g_str_equal(run->step->security, "insecure"))
        json_object_set_new(host, "Privileged", json_true());
    json_object_set_new(host, "NetworkMode", json_string(!mode || !*mode || g_str_equal(mode, "default") ? "bridge" : mode));
    json_object_set_new(host, "LogConfig", json_pack("{s:s}", "Type", "none"));
    return host;
}

static json_t *create_body(const struct run_step *run, json_t *host)
{
    json_t *body = image_canonical_config(run->build->state->metadata.config);
    json_t *env = json_object_get(body, "Env");

    if (!json_is_array(env)) {
        env = json_array();
        json_object_set_new(body, "Env", env);
    }
    for (char **arg = run->args; *arg; arg++)
        json_array_append_new(env, json_string_lossy(*arg));
    json_object_set(body, "Cmd", run->cmd);
    /* One empty word says: no entrypoint, not the image's either. */
    json_object_set_new(body, "Entrypoint", json_pack("[s]", ""));
    json_object_set_new(body, "Healthcheck", json_pack("{s:[s]}", "Test", "NONE"));
    json_object_set_new(body, "Image", json_string(build_parent_id(run->build)));
    json_object_set(body, "HostConfig", host);
    return body;
}

static const char *script_name(const struct dockerfile_heredoc *heredoc)
{
    bool usable = !strchr(heredoc->name, '/') && !g_str_equal(heredoc->name, ".") && !g_str_equal(heredoc->name, "..");

    return usable ? heredoc->name : "script";
}

static bool create(struct run_step *run, GError **error)
{
    g_autoptr(json_t) host = host_config(run);
    g_autoptr(json_t) body = create_body(run, host);
    g_autoptr(json_t) created = NULL;
    struct build *build = run->build;
    char digits[13];
    json_t *warning;
    size_t i;

    if (!run_mounts_open(run->mounts, host, error) ||
        (run->script && !run_mounts_add_script(run->mounts, script_name(run->script), run->script->content, host, error)) ||
        !container_create_step(build->builder->containers, body, &created, error))
        return false;
    run->id = g_strdup(json_get_string(created, "Id", ""));
    g_ptr_array_add(build->containers, g_strdup(run->id));
    if (run_mounts_env(run->mounts) &&
        !container_set_secret_environment(build->builder->containers, run->id, run_mounts_env(run->mounts), error))
        return false;
    json_array_foreach(json_get_array(created, "Warnings"), i, warning) if (json_is_string(warning))
        build_stream_text(&build->stream, " ---> [Warning] %s\n", json_string_value(warning));
    build_stream_text(&build->stream, " ---> Running in %s\n", short_id(run->id, digits));
    return true;
}

/* ---- its output ---- */

/* Exactly length bytes; 1, 0 for the end before the first, -1. */
static int read_exactly(struct build *build, int fd, char *buffer, size_t length, GError **error)
{
    size_t at = 0;

    while (at < length) {
        ssize_t n;

        if (cancel_poll(build->cancel, fd, POLLIN, -1, error) < 0)
            return -1;
        n = read(fd, buffer + at, length - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != ECONNRESET) {
            error_set_errno(error, errno, "read the output of a step");
            return -1;
        }
        if (n <= 0)
            return at == 0 ? 0 : (error_set(error, TARE_ERROR_INTERNAL, "the output of a step ended within a frame"), -1);
        at += (size_t)n;
    }
    return 1;
}

static bool pass_on(struct build *build, int fd, guint32 left, bool is_stderr, GError **error)
{
    g_autofree char *buffer = g_malloc(OUTPUT_CHUNK);

    while (left > 0) {
        guint32 n = MIN(left, OUTPUT_CHUNK);

        if (read_exactly(build, fd, buffer, n, error) != 1)
            return false;
        build_stream_bytes(&build->stream, buffer, n, is_stderr);
        build->bad_format |= is_stderr && memmem(buffer, n, "exec format error", strlen("exec format error"));
        if (build->stream.broken)
            return error_set(error, TARE_ERROR_CANCELLED, "the client went away");
        left -= n;
    }
    return true;
}

/* Frames of eight bytes' head: the stream's number, then the length, big endian. */
static bool stream_output(struct build *build, int fd, GError **error)
{
    guint8 head[8];
    int got;

    while ((got = read_exactly(build, fd, (char *)head, sizeof head, error)) == 1) {
        guint32 length = (guint32)head[4] << 24 | (guint32)head[5] << 16 | (guint32)head[6] << 8 | head[7];

        if (!pass_on(build, fd, length, head[0] == 2, error))
            return false;
    }
    return got == 0;
}

static bool attach(struct run_step *run, int *ret_fd, GError **error)
{
    struct container_attach_options options = { .use_stdout = true, .use_stderr = true, .stream = true, .multiplex = true };
    int pair[2];
    bool good;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_set_errno(error, errno, "make a socket pair");
    good = container_attach(run->build->builder->containers, run->id, &options, pair[1], NULL, error);
    fd_close(pair[1]);
    if (!good) {
        fd_close(pair[0]);
        return false;
    }
    *ret_fd = pair[0];
    return true;
}

static bool wait_for_end(struct run_step *run, gint64 *ret_code, GError **error)
{
    struct container_waiter *waiter;
    g_autoptr(json_t) result = NULL;

    if (!container_wait_begin(run->build->builder->containers, run->id, "not-running", &waiter, error) ||
        !container_wait_finish(waiter, run->build->cancel, &result, error))
        return false;
    *ret_code = json_get_int(result, "StatusCode", 0);
    return true;
}

static bool execute(struct run_step *run, gint64 *ret_code, GError **error)
{
    g_autofd int output = -1;

    return attach(run, &output, error) && container_start(run->build->builder->containers, run->id, NULL, error) &&
           stream_output(run->build, output, error) && wait_for_end(run, ret_code, error);
}

static char *join(const json_t *words)
{
    g_auto(GStrv) strings = json_string_array(words);

    return g_strjoinv(" ", strings);
}

/* ---- the image ---- */

static bool commit(struct run_step *run, GError **error)
{
    struct build *build = run->build;
    g_autoptr(json_t) config = image_canonical_config(build->state->metadata.config);
    g_autofree char *created_by = join(run->saved_cmd);
    struct container_commit_options options = {
        .author = build->state->metadata.maintainer,
        .config = config,
        .parent = build->state->image ? build->state->image->id : NULL,
        .created_by = created_by,
        .clamp_mtime = json_get_string(build->request->build_args, "SOURCE_DATE_EPOCH", NULL) ? build->epoch : -1,
        .created_ns = build_created_ns(build),
        .stubs = run_mounts_stubs(run->mounts),
        .intermediate = true,
    };
    struct image *image;

    if (!container_commit(build->builder->containers, run->id, &options, &image, error))
        return false;
    if (build->state->image)
        image_unref(build->state->image);
    build->state->image = image;
    return true;
}

/* What "exec format error" means, where it is another platform's image. */
static void add_platform_hint(const struct build *build, GError **error)
{
    const char *architecture = build->state->image ? json_get_string(build->state->image->config, "architecture", "") : "";

    if (!build->bad_format || !error || !*architecture || strcmp(architecture, platform_architecture()) == 0)
        return;
    g_autofree char *said = (*error)->message;
    (*error)->message = g_strdup_printf("%s: the image is for linux/%s and this machine for linux/%s, and binfmt_misc has no "
                                        "emulator for it",
                                        said, architecture, platform_architecture());
}

static bool run_uncached(struct run_step *run, GError **error)
{
    struct build *build = run->build;
    gint64 code = 0;

    build->bad_format = false;
    if (!create(run, error))
        return false;
    if (!execute(run, &code, error)) {
        /* Nobody waits for it any more: it must not run on. */
        if (cancel_is_set(build->cancel) || build->stream.broken)
            container_remove(build->builder->containers, run->id, true, true, false, NULL);
        return false;
    }
    if (code != 0) {
        g_autofree char *text = join(run->cmd);

        build->exit_code = (int)code;
        error_set(error, TARE_ERROR_INTERNAL, "The command '%s' returned a non-zero code: %" G_GINT64_FORMAT, text, code);
        add_platform_hint(build, error);
        return false;
    }
    return commit(run, error);
}

static bool run_step(struct run_step *run, GError **error)
{
    g_autofree char *parent = g_strdup(build_parent_id(run->build)), *key = NULL;
    g_autoptr(json_t) no_entrypoint = json_null();
    bool hit;

    if (!cache_probe(run->build, run->key_cmd, no_entrypoint, &hit, error))
        return false;
    if (hit)
        return true;
    if (json_array_size(run->cmd) == 0)
        return error_set(error, TARE_ERROR_INVALID, "No command specified");
    key = cache_key(run->build, run->key_cmd, no_entrypoint);
    return run_uncached(run, error) && cache_store(run->build, parent, key, error);
}

/* What more than the default a step may do is for the one who builds to allow, not for the Dockerfile. */
static bool check_entitlements(const struct run_step *run, GError **error)
{
    const struct build_request *request = run->build->request;
    const char *const none[] = { NULL };
    const char *const *allowed = request->entitlements ? request->entitlements : none;
    bool host = run->step->network && g_str_equal(run->step->network, "host");
    bool insecure = run->step->security && g_str_equal(run->step->security, "insecure");

    if (host && g_strcmp0(request->network_mode, "host") != 0 && !g_strv_contains(allowed, "network.host"))
        return error_set(error, TARE_ERROR_INVALID,
                         "RUN --network=host: network.host is not allowed; --allow network.host or --network host allows it");
    if (insecure && !g_strv_contains(allowed, "security.insecure"))
        return error_set(error, TARE_ERROR_INVALID,
                         "RUN --security=insecure: security.insecure is not allowed; --allow security.insecure allows it");
    return true;
}

/* A here-document alone that begins with "#!" is a program: it is put into a file and that is run. */
static const struct dockerfile_heredoc *find_script(const struct build_step *step)
{
    const struct dockerfile_heredoc *first = step->heredocs->len == 1 ? step->heredocs->pdata[0] : NULL;

    if (!first || !step->args[0] || !g_str_has_prefix(first->content, "#!"))
        return NULL;
    return heredoc_find(step->heredocs, step->args[0]) ? first : NULL;
}

static json_t *step_words(const struct run_step *run)
{
    struct build_step plain = *run->step;
    char *script[] = { NULL, NULL };
    json_t *words;

    if (run->script) {
        script[0] = g_strconcat("/dev/pipes/", script_name(run->script), NULL);
        plain.args = script;
    } else if (plain.heredocs->len > 0 && plain.args[0]) {
        script[0] = heredoc_script(plain.args[0], plain.heredocs);
        plain.args = script;
    }
    words = metadata_command_line(run->build->state->metadata.config, &plain);
    g_free(script[0]);
    return words;
}

/* What the history does not show and the result depends on. */
static json_t *key_words(const struct run_step *run)
{
    g_autoptr(json_t) mounts = run_mounts_key(run->mounts);
    json_t *key = json_deep_copy(run->saved_cmd);

    for (char **arg = run->args; *arg; arg++) {
        g_autofree char *name = g_strndup(*arg, strcspn(*arg, "="));

        if (build_args_is_inherited(run->build->state->metadata.args, name))
            json_array_append_new(mounts, json_string_lossy(*arg));
    }
    if (run->step->network)
        json_array_append_new(mounts, json_string(run->step->network));
    if (run->step->security)
        json_array_append_new(mounts, json_string(run->step->security));
    if (run->script)
        json_array_append_new(mounts, json_string_lossy(run->script->content));
    if (json_array_size(mounts) > 0)
        json_array_append(key, mounts);
    return key;
}

bool step_run(struct build *build, const struct build_step *step, GError **error)
{
    struct run_step run = { .build = build, .step = step };
    bool good;

    if (!check_entitlements(&run, error) || !run_mounts_new(build, step, &run.mounts, error))
        return false;
    run.script = find_script(step);
    run.cmd = step_words(&run);
    run.args = build_args_env(build->state->metadata.args, json_get_array(build->state->metadata.config, "Env"));
    run.saved_cmd = saved_command(build, run.args, run.cmd);
    run.key_cmd = key_words(&run);
    good = run_step(&run, error);
    run_mounts_free(run.mounts);
    json_decref(run.cmd);
    json_decref(run.saved_cmd);
    json_decref(run.key_cmd);
    g_strfreev(run.args);
    g_free(run.id);
    return good;
}
