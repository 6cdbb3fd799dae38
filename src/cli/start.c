/* container start and attach. */
#include "cli/cli-internal.h"

#include "base/fd.h"

#include <string.h>
#include <unistd.h>

static json_t *inspect_container(struct cli *cli, const char *name, GError **error)
{
    g_autofree char *path = api_path("containers", name, "/json");
    return api_get(cli, path, NULL, error);
}

static bool start_one(struct cli *cli, const char *name, const char *detach_keys, GError **error)
{
    g_autofree char *path = api_path("containers", name, "/start");
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "detachKeys", detach_keys && *detach_keys ? detach_keys : NULL);
    struct call call = { .method = "POST", .path = path, .query = query->str };
    return api_done(cli, &call, error);
}

static struct response *attach_to(struct cli *cli, const char *id, bool input, const char *detach_keys, GError **error)
{
    g_autofree char *path = api_path("containers", id, "/attach");
    g_autoptr(GString) query = g_string_new(NULL);
    query_add_bool(query, "stream", true);
    query_add_bool(query, "stdin", input);
    query_add_bool(query, "stdout", true);
    query_add_bool(query, "stderr", true);
    query_add(query, "detachKeys", detach_keys && *detach_keys ? detach_keys : NULL);
    struct call call = { .method = "POST", .path = path, .query = query->str, .upgrade = true };
    return api_call(cli, &call, error);
}

static int start_all(struct cli *cli, const struct options *options, GError **error)
{
    g_autoptr(GPtrArray) failed = g_ptr_array_new();
    for (char **name = options->args; *name; name++) {
        g_autoptr(GError) problem = NULL;
        if (start_one(cli, *name, NULL, &problem)) {
            print("%s\n", *name);
        } else {
            print_error("%s\n", problem->message);
            g_ptr_array_add(failed, *name);
        }
    }
    if (failed->len == 0)
        return 0;
    g_ptr_array_add(failed, NULL);
    g_autofree char *names = g_strjoinv(", ", (char **)failed->pdata);
    return error_set(error, TARE_ERROR_INTERNAL, "Error: failed to start containers: %s", names), 1;
}

/* All streams of a container; signals are forwarded where there is no terminal to send them. */
static struct session session_of(struct cli *cli, const struct options *options, struct response *attached, const char *id,
                                 bool tty, bool input)
{
    return (struct session){ .cli = cli,
                             .response = attached,
                             .id = id,
                             .tty = tty,
                             .input = input,
                             .output = true,
                             .errors = true,
                             .forward_signals = !tty && options_bool(options, "sig-proxy", true) };
}

static int converse(struct session *session, struct response *wait, bool removed, const char *escape_text, GError **error)
{
    enum session_end end = session_run(session, error);
    if (end == SESSION_FAILED)
        return 1;
    if (end == SESSION_DETACHED)
        return escape_text ? error_set(error, TARE_ERROR_CANCELLED, "%s", escape_text), 1 : 0;
    return wait_outlast(wait, session->id, removed, error);
}

static int start_attached(struct cli *cli, const struct options *options, const char *keys_text, const GByteArray *keys,
                          GError **error)
{
    if (options->n_args > 1)
        return error_set(error, TARE_ERROR_INVALID, "you cannot start and attach multiple containers at once"), 1;
    g_autoptr(json_t) container = inspect_container(cli, options->args[0], error);
    if (!container)
        return 1;
    const char *id = json_get_string(container, "Id", "");
    const json_t *config = json_get_object(container, "Config");
    bool remove = json_get_bool(json_get_object(container, "HostConfig"), "AutoRemove", false),
         tty = json_get_bool(config, "Tty", false);
    bool input = options_bool(options, "interactive", false) && json_get_bool(config, "OpenStdin", false);
    if (!check_tty(input, tty, error))
        return 1;
    g_autoptr(response_t) attached = attach_to(cli, id, input, keys_text, error);
    g_autoptr(response_t) wait = attached ? wait_begin(cli, id, remove ? "removed" : "next-exit", error) : NULL;
    if (!wait)
        return 1;
    g_autofd int signals = signals_open();
    if (!start_one(cli, id, NULL, error)) {
        if (remove)
            wait_finish(wait, NULL);
        return 1;
    }
    if (tty && is_terminal(STDOUT_FILENO))
        session_resize(cli, id, false, 0);
    struct session session = session_of(cli, options, attached, id, tty, input);
    session.signals = signals;
    session.detach_keys = keys;
    return converse(&session, wait, remove, NULL, error);
}

int cmd_container_start(struct cli *cli, const struct options *options, GError **error)
{
    const char *keys_text = options_string(options, "detach-keys", json_get_string(cli->config, "detachKeys", ""));
    g_autoptr(GByteArray) keys = g_byte_array_new();
    if (!detach_keys_parse(keys_text, keys, error))
        return 1;
    if (options_bool(options, "attach", false) || options_bool(options, "interactive", false))
        return start_attached(cli, options, keys_text, keys, error);
    return start_all(cli, options, error);
}

static bool check_attachable(const json_t *container, GError **error)
{
    const json_t *state = json_get_object(container, "State");
    if (!json_get_bool(state, "Running", false))
        return error_set(error, TARE_ERROR_INVALID, "You cannot attach to a stopped container, start it first");
    if (json_get_bool(state, "Paused", false))
        return error_set(error, TARE_ERROR_INVALID, "You cannot attach to a paused container, unpause it first");
    return !json_get_bool(state, "Restarting", false) ||
           error_set(error, TARE_ERROR_INVALID, "You cannot attach to a restarting container, wait until it is running");
}

int cmd_container_attach(struct cli *cli, const struct options *options, GError **error)
{
    const char *keys_text = options_string(options, "detach-keys", json_get_string(cli->config, "detachKeys", ""));
    g_autoptr(GByteArray) keys = g_byte_array_new();
    g_autoptr(json_t) container =
        detach_keys_parse(keys_text, keys, error) ? inspect_container(cli, options->args[0], error) : NULL;
    if (!container || !check_attachable(container, error))
        return 1;
    const json_t *config = json_get_object(container, "Config");
    const char *id = json_get_string(container, "Id", "");
    bool tty = json_get_bool(config, "Tty", false), no_stdin = options_bool(options, "no-stdin", false);
    bool input = !no_stdin && json_get_bool(config, "OpenStdin", false);
    if (!check_tty(!no_stdin, tty, error))
        return 1;
    g_autoptr(response_t) wait = wait_begin(cli, id, NULL, error);
    g_autofd int signals = wait ? signals_open() : -1;
    g_autoptr(response_t) attached = wait ? attach_to(cli, id, input, keys_text, error) : NULL;
    if (!attached)
        return 1;
    if (tty && is_terminal(STDOUT_FILENO)) { /* a change of size makes the program inside draw its screen anew */
        session_resize(cli, id, false, 1);
        session_resize(cli, id, false, 0);
    }
    struct session session = session_of(cli, options, attached, id, tty, input);
    session.signals = signals;
    session.detach_keys = keys;
    return converse(&session, wait, false, "read escape sequence", error);
}
