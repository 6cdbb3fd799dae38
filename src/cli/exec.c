/* container exec. */
#include "cli/create-internal.h"

#include "base/fd.h"

#include <string.h>
#include <unistd.h>

struct execution {
    struct cli *cli;
    bool detach, input, tty;
    int height, width;
    GByteArray *keys;
};

static json_t *exec_body(const struct execution *execution, const struct options *options, const char *keys, GError **error)
{
    g_autoptr(json_t) env = json_array();
    if (!create_read_pairs(options_list(options, "env-file"), options_list(options, "env"), true, env, "", error))
        return NULL;
    json_t *body = json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:b, s:s, s:s}", "User", options_string(options, "user", ""),
                             "Privileged", options_bool(options, "privileged", false), "Tty", execution->tty, "AttachStdin",
                             execution->input, "AttachStderr", !execution->detach, "AttachStdout", !execution->detach, "Detach",
                             execution->detach, "DetachKeys", keys, "WorkingDir", options_string(options, "workdir", ""));
    json_object_set(body, "Env", json_array_size(env) ? env : json_null());
    json_object_set_new(body, "Cmd", json_from_strv((const char *const *)options->args + 1));
    if (execution->tty && execution->height)
        json_object_set_new(body, "ConsoleSize", json_pack("[i, i]", execution->height, execution->width));
    return body;
}

static int exit_code(struct cli *cli, const char *id, GError **error)
{
    g_autofree char *path = api_path("exec", id, "/json");
    struct patience patience = { 0 };
    g_autoptr(GError) problem = NULL;
    g_autoptr(json_t) state = api_get(cli, path, NULL, &problem);
    while (!state && error_is(problem, TARE_ERROR_UNAVAILABLE) && patience_pause(&patience)) {
        g_clear_error(&problem);
        state = api_get(cli, path, NULL, &problem);
    }
    if (!state)
        g_propagate_error(error, g_steal_pointer(&problem));
    return state ? (int)json_get_int(state, "ExitCode", 0) : 1;
}

static int exec_start(const struct execution *execution, const char *id, GError **error)
{
    struct cli *cli = execution->cli;
    g_autofree char *path = api_path("exec", id, "/start");
    g_autoptr(json_t) body = json_pack("{s:b, s:b}", "Detach", execution->detach, "Tty", execution->tty);
    if (execution->tty && execution->height)
        json_object_set_new(body, "ConsoleSize", json_pack("[i, i]", execution->height, execution->width));
    struct call call = { .method = "POST", .path = path, .json = body, .upgrade = !execution->detach };
    if (execution->detach)
        return api_done(cli, &call, error) ? 0 : 1;
    g_autoptr(response_t) response = api_call(cli, &call, error);
    if (!response)
        return 1;
    g_autofd int signals = execution->tty ? signals_open() : -1;
    struct session session = { .cli = cli,
                               .response = response,
                               .id = id,
                               .is_exec = true,
                               .tty = execution->tty,
                               .input = execution->input,
                               .output = true,
                               .errors = true,
                               .signals = signals,
                               .detach_keys = execution->keys };
    if (execution->tty && is_terminal(STDIN_FILENO))
        session_resize(cli, id, true, 0);
    enum session_end end = session_run(&session, error);
    if (end == SESSION_DETACHED)
        error_set(error, TARE_ERROR_CANCELLED, "read escape sequence");
    return end == SESSION_CLOSED ? exit_code(cli, id, error) : 1;
}

int cmd_container_exec(struct cli *cli, const struct options *options, GError **error)
{
    const char *keys_text = options_string(options, "detach-keys", json_get_string(cli->config, "detachKeys", ""));
    g_autoptr(GByteArray) keys = g_byte_array_new();
    struct execution execution = {
        .cli = cli, .detach = options_bool(options, "detach", false), .tty = options_bool(options, "tty", false), .keys = keys
    };
    execution.input = !execution.detach && options_bool(options, "interactive", false);
    terminal_size(&execution.height, &execution.width);
    g_autoptr(json_t) body = detach_keys_parse(keys_text, keys, error) ? exec_body(&execution, options, keys_text, error) : NULL;
    if (!body)
        return 1;
    /* A container that is not there is said before a terminal that is none; only that case needs the extra request. */
    if (execution.input && execution.tty && !is_terminal(STDIN_FILENO)) {
        g_autofree char *container = api_path("containers", options->args[0], "/json");
        g_autoptr(json_t) found = api_get(cli, container, NULL, error);
        if (!found || !check_tty(true, true, error))
            return 1;
    }
    g_autofree char *path = api_path("containers", options->args[0], "/exec");
    struct call call = { .method = "POST", .path = path, .json = body };
    g_autoptr(json_t) answer = api_json(cli, &call, error);
    const char *id = json_get_string(answer, "Id", "");
    if (!answer)
        return 1;
    if (!*id)
        return error_set(error, TARE_ERROR_INTERNAL, "exec ID empty"), 1;
    return exec_start(&execution, id, error);
}
