/* container run and create. */
#include "cli/create-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define STATUS_RUN 125
#define STATUS_CANNOT_EXECUTE 126
#define STATUS_NOT_FOUND 127

/* Adds what the client says around an error of run. */
static int fail(struct cli *cli, const char *verb, int status, GError **problem, GError **error)
{
    error_set(error, TARE_ERROR_INTERNAL, "%s: %s\n\nRun '%s %s --help' for more information", cli->program, (*problem)->message,
              cli->program, verb);
    g_clear_error(problem);
    return status;
}

/* Why a container did not start decides the status, as a shell would have it. */
static int status_of(const GError *problem)
{
    static const char *const missing[] = { "executable file not found", "no such file or directory",
                                           "system cannot find the file specified" };
    for (size_t i = 0; i < G_N_ELEMENTS(missing); i++)
        if (strstr(problem->message, missing[i]))
            return STATUS_NOT_FOUND;
    if (strstr(problem->message, "permission denied") || strstr(problem->message, "is a directory"))
        return STATUS_CANNOT_EXECUTE;
    return STATUS_RUN;
}

static bool check_pull(const struct options *options, GError **error)
{
    static const char *const known[] = { "always", "missing", "never", "", NULL };
    const char *pull = options_string(options, "pull", "missing");
    return g_strv_contains(known, pull) ||
           error_set(error, TARE_ERROR_INVALID, "invalid pull option: '%s': must be one of \"always\", \"missing\" or \"never\"",
                     pull);
}

static bool pull(struct cli *cli, const struct options *options, const char *image, GError **error)
{
    struct progress_options output = { .fd = STDERR_FILENO, .quiet = options_bool(options, "quiet", false) };
    return image_pull(cli, image, options_string(options, "platform", NULL), false, &output, error);
}

static json_t *post_create(struct cli *cli, const struct options *options, json_t *body, GError **error)
{
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "name", options_string(options, "name", NULL));
    const char *platform = options_string(options, "platform", g_getenv("DOCKER_DEFAULT_PLATFORM"));
    query_add(query, "platform", platform && *platform ? platform : NULL);
    struct call call = { .method = "POST", .path = "/containers/create", .query = query->str, .json = body };
    return api_json(cli, &call, error);
}

/* Pulls what is missing, and tries once more. */
static json_t *create_or_pull(struct cli *cli, const struct options *options, json_t *body, GError **error)
{
    const char *image = options->args[0], *when = options_string(options, "pull", "missing");
    struct image_name name = { 0 };
    g_autoptr(GError) problem = NULL;
    bool is_name = image_name_parse(image, &name, NULL);
    g_autofree char *shown =
        is_name ? g_strconcat(name.name,
                              name.tag      ? ":"
                              : name.digest ? ""
                                            : ":latest",
                              name.tag ? name.tag : "", name.digest ? "@" : "", name.digest ? name.digest : "", NULL)
                : NULL;
    if (is_name)
        image_name_clear(&name);
    if (strcmp(when, "always") == 0 && !pull(cli, options, image, error))
        return NULL;
    json_t *answer = post_create(cli, options, body, &problem);
    if (answer)
        return answer;
    if (!error_is(problem, TARE_ERROR_NOT_FOUND) || !is_name || strcmp(when, "missing") != 0) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return NULL;
    }
    if (!options_bool(options, "quiet", false))
        print_error("Unable to find image '%s' locally\n", shown);
    return pull(cli, options, image, error) ? post_create(cli, options, body, error) : NULL;
}

static bool check_reference(const char *image, GError **error)
{
    struct image_name name = { 0 };
    size_t length = strlen(image);
    bool may_be_id = (length == 64 && strspn(image, "0123456789abcdef") == 64) || g_str_has_prefix(image, "sha256:");
    if (may_be_id)
        return true;
    bool ok = image_name_parse(image, &name, error);
    image_name_clear(&name);
    return ok;
}

/* The container's id, or NULL. The file for it must not be there before, and is not there after a failure. */
static char *create(struct cli *cli, const struct options *options, json_t *body, GError **error)
{
    const char *cidfile = options_string(options, "cidfile", "");
    g_autofd int fd = -1;
    if (*cidfile && access(cidfile, F_OK) == 0) {
        error_set(error, TARE_ERROR_INVALID, "container ID file found, make sure the other container isn't running or delete %s",
                  cidfile);
        return NULL;
    }
    if (*cidfile && (fd = open(cidfile, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) < 0) {
        error_set(error, TARE_ERROR_INVALID, "failed to create the container ID file: open %s: %s", cidfile,
                  error_errno_text(errno));
        return NULL;
    }
    g_autoptr(json_t) answer = check_reference(options->args[0], error) ? create_or_pull(cli, options, body, error) : NULL;
    const char *id = json_get_string(answer, "Id", NULL);
    if (fd >= 0 && (!id || fd_write_full(fd, id, strlen(id)) < 0))
        unlink(cidfile);
    if (!id) {
        if (answer)
            error_set(error, TARE_ERROR_INTERNAL, "the engine gave no id");
        return NULL;
    }
    size_t i;
    json_t *warning;
    json_array_foreach(json_get_array(answer, "Warnings"), i, warning) print_error("WARNING: %s\n", json_string_value(warning));
    return g_strdup(id);
}

/* What comes before any request: flags that contradict each other, and the body. */
static json_t *prepare(struct cli *cli, const struct options *options, const char *verb, int *ret_status, GError **error)
{
    g_autoptr(GError) problem = NULL;
    json_t *body = check_pull(options, &problem) ? create_body(cli, options, &problem) : NULL;
    if (body)
        return body;
    *ret_status = fail(cli, verb, STATUS_RUN, &problem, error);
    return NULL;
}

int cmd_container_create(struct cli *cli, const struct options *options, GError **error)
{
    int status = 1, height = 0, width = 0;
    g_autoptr(json_t) body = prepare(cli, options, "create", &status, error);
    if (!body)
        return status;
    terminal_size(&height, &width);
    json_object_set_new(json_get_object(body, "HostConfig"), "ConsoleSize", json_pack("[i, i]", height, width));
    g_autofree char *id = create(cli, options, body, error);
    if (!id)
        return 1;
    print("%s\n", id);
    return 0;
}

struct run {
    struct cli *cli;
    const struct options *options;
    json_t *body;
    char *id;
    bool detach, in, out, err, tty, remove;
    int signals;
    GByteArray *keys;
    const char *keys_text;
    struct response *attached, *wait;
};

static void run_clear(struct run *run)
{
    response_free(run->attached);
    response_free(run->wait);
    fd_close(run->signals);
    json_decref(run->body);
    g_byte_array_unref(run->keys);
    g_free(run->id);
}

/* Detached containers are attached to by nobody. */
static bool settle_attachment(struct run *run, GError **error)
{
    const struct options *options = run->options;
    run->detach = options_bool(options, "detach", false);
    run->remove = options_bool(options, "rm", false);
    run->tty = options_bool(options, "tty", false);
    run->keys_text = options_string(options, "detach-keys", json_get_string(run->cli->config, "detachKeys", ""));
    if (run->detach && options_given(options, "attach"))
        return error_set(error, TARE_ERROR_INVALID, "conflicting options: cannot specify both --attach and --detach");
    static const char *const fields[] = { "AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce" };
    for (size_t i = 0; i < G_N_ELEMENTS(fields) && run->detach; i++)
        json_object_set_new(run->body, fields[i], json_false());
    run->in = json_get_bool(run->body, "AttachStdin", false);
    run->out = json_get_bool(run->body, "AttachStdout", false);
    run->err = json_get_bool(run->body, "AttachStderr", false);
    if (!detach_keys_parse(run->keys_text, run->keys, NULL))
        g_byte_array_set_size(run->keys, 0); /* the engine refuses them */
    int height = 0, width = 0;
    terminal_size(&height, &width);
    json_object_set_new(json_get_object(run->body, "HostConfig"), "ConsoleSize", json_pack("[i, i]", height, width));
    return (run->detach || check_tty(run->in, run->tty, error));
}

static bool attach(struct run *run, GError **error)
{
    g_autoptr(GString) query = g_string_new(NULL);
    g_autofree char *path = api_path("containers", run->id, "/attach");
    query_add_bool(query, "stream", true);
    query_add_bool(query, "stdin", run->in);
    query_add_bool(query, "stdout", run->out);
    query_add_bool(query, "stderr", run->err);
    query_add(query, "detachKeys", *run->keys_text ? run->keys_text : NULL);
    struct call call = { .method = "POST", .path = path, .query = query->str, .upgrade = true };
    return (run->attached = api_call(run->cli, &call, error)) != NULL;
}

static bool start(struct run *run, GError **error)
{
    g_autofree char *path = api_path("containers", run->id, "/start");
    struct call call = { .method = "POST", .path = path };
    return api_done(run->cli, &call, error);
}

static int converse(struct run *run, GError **error)
{
    struct session session = { .cli = run->cli,
                               .response = run->attached,
                               .id = run->id,
                               .tty = run->tty,
                               .input = run->in,
                               .output = run->out,
                               .errors = run->err,
                               .signals = run->signals,
                               .wait = run->wait,
                               .detach_keys = run->keys,
                               .forward_signals = options_bool(run->options, "sig-proxy", true) };
    if (run->tty && is_terminal(STDOUT_FILENO))
        session_resize(run->cli, run->id, false, 0);
    enum session_end end = session_run(&session, error);
    if (end == SESSION_FAILED)
        return 1;
    if (end == SESSION_DETACHED)
        return 0;
    /* A detach that the engine saw ends the stream while the container runs on. */
    return wait_outlast(run->wait, run->id, run->remove, error);
}

static int start_and_follow(struct run *run, GError **error)
{
    g_autoptr(GError) problem = NULL;
    bool attached = run->in || run->out || run->err;
    run->signals = attached ? signals_open() : -1;
    if (attached && !attach(run, error))
        return STATUS_RUN;
    if (attached || run->remove)
        run->wait = wait_begin(run->cli, run->id, run->remove ? "removed" : "next-exit", error);
    if ((attached || run->remove) && !run->wait)
        return STATUS_RUN;
    if (!start(run, &problem)) {
        if (run->remove) /* it is gone before we say so */
            wait_finish(run->wait, NULL);
        return fail(run->cli, "run", status_of(problem), &problem, error);
    }
    if (attached)
        return converse(run, error);
    print("%s\n", run->id);
    return 0;
}

int cmd_container_run(struct cli *cli, const struct options *options, GError **error)
{
    int status = 1;
    struct run run = { .cli = cli, .options = options, .signals = -1, .keys = g_byte_array_new() };
    run.body = prepare(cli, options, "run", &status, error);
    if (run.body && settle_attachment(&run, error)) {
        g_autoptr(GError) problem = NULL;
        run.id = create(cli, options, run.body, &problem);
        g_assert(run.id || problem);
        if (run.id)
            status = start_and_follow(&run, error);
        else if (strstr(problem->message, "Cannot connect to the Docker daemon"))
            status = fail(cli, "run", STATUS_RUN, &problem, error);
        else
            status = fail(cli, "run", status_of(problem), &problem, error);
    }
    run_clear(&run);
    return status;
}
