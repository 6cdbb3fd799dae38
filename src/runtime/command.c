/* tare-runtime: the command line of an OCI runtime over this library. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/signal_name.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct command {
    char *root, *bundle, *console_socket, *pid_file, *process_file, *user, *cwd, *format, *log, *log_format;
    char **env;
    gboolean all, force, detach, tty, debug, systemd_cgroup, no_pivot, no_new_keyring;
    int argc;
    char **argv; /* what is left: ID … */
};

static bool write_pid(const char *path, pid_t pid, GError **error)
{
    if (!path)
        return true;
    g_autofree char *text = g_strdup_printf("%d", (int)pid), *dir = g_path_get_dirname(path), *name = g_path_get_basename(path);
    g_autofd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 ? file_write(fd, name, text, strlen(text), 0644, false, error) : error_set_errno(error, errno, "open %s", dir);
}

static json_t *read_spec(const char *bundle, GError **error)
{
    g_autofree char *path = g_build_filename(bundle, "config.json", NULL), *text = NULL;
    size_t length;
    if (!file_read(AT_FDCWD, path, RUNTIME_SPECIFICATION_MAX, &text, &length, error))
        return NULL;
    json_t *spec = runtime_specification_parse(text, length, error);
    json_t *root = spec ? json_get_object(spec, "root") : NULL;
    const char *root_path = json_get_string(root, "path", NULL);
    /* A relative root is meant from the bundle. */
    if (root_path && root_path[0] != '/') {
        g_autofree char *absolute = g_build_filename(bundle, root_path, NULL);
        json_object_set_new(root, "path", json_string(absolute));
    }
    return spec;
}

static bool create(struct command *command, bool listening, struct runtime_container **ret, GError **error)
{
    g_autofree char *bundle = g_canonicalize_filename(command->bundle ? command->bundle : ".", NULL);
    const char *id = command->argv[0];
    g_autoptr(json_t) spec = read_spec(bundle, error);
    struct runtime_plan *plan = NULL;
    if (!spec || !runtime_plan_new(spec, &plan, error))
        return false;
    g_autofd int dir = command_state_new(command->root, id, error);
    g_autofd int listener = dir >= 0 && listening ? command_listen(dir, error) : -1;
    struct runtime_create_options options = { .id = id, .root_fd = -1, .netns_fd = -1, .stdio = { 0, 1, 2 } };
    bool ok = dir >= 0 && (!listening || listener >= 0) && container_create(plan, &options, bundle, listener, ret, error);
    if (ok && (!command_state_save(dir, *ret, spec, error) || !write_pid(command->pid_file, runtime_pid(*ret), error) ||
               (command->console_socket && plan->process.terminal &&
                !command_send_terminal(command->console_socket, (*ret)->terminal, error)))) {
        runtime_destroy(*ret, NULL);
        runtime_container_free(*ret);
        ok = false;
    }
    if (!ok && dir >= 0)
        command_state_remove(command->root, id, NULL);
    runtime_plan_free(plan);
    return ok;
}

/* Loads a container of an earlier call; the caller frees both. */
static int load(struct command *command, struct runtime_container **ret, struct runtime_plan **ret_plan, const char **ret_status,
                GError **error)
{
    g_autofd int dir = command_state_open(command->root, command->argv[0], error);
    if (dir < 0 || !command_state_load(dir, ret, ret_plan, ret_status, error))
        return -1;
    return fd_steal(&dir);
}

static int verb_create(struct command *command, GError **error)
{
    struct runtime_container *container = NULL;
    if (!create(command, true, &container, error))
        return -1;
    runtime_container_free(container);
    return 0;
}

static int verb_start(struct command *command, GError **error)
{
    struct runtime_container *container = NULL;
    struct runtime_plan *plan = NULL;
    const char *status;
    g_autofd int dir = load(command, &container, &plan, &status, error);
    if (dir < 0)
        return -1;
    bool ok = strcmp(status, "created") == 0 ? command_start(dir, container, error)
                                             : error_set(error, TARE_ERROR_CONFLICT, "cannot start a container that has %s",
                                                         strcmp(status, "running") == 0 ? "already started" : "stopped");
    runtime_container_free(container);
    runtime_plan_free(plan);
    return ok ? 0 : -1;
}

static int verb_state(struct command *command, GError **error)
{
    struct runtime_container *container = NULL;
    struct runtime_plan *plan = NULL;
    const char *status;
    g_autofd int dir = load(command, &container, &plan, &status, error);
    if (dir < 0)
        return -1;
    g_autoptr(json_t) state = container_state(container, status);
    g_autofree char *text = json_text_indented(state);
    printf("%s\n", text);
    runtime_container_free(container);
    runtime_plan_free(plan);
    return 0;
}

static int verb_kill(struct command *command, GError **error)
{
    struct runtime_container *container = NULL;
    struct runtime_plan *plan = NULL;
    const char *status;
    int signal = SIGTERM;
    if (command->argc > 1 && (!signal_name_parse(command->argv[1], &signal) || signal >= NSIG)) {
        error_set(error, TARE_ERROR_INVALID, "unknown signal \"%s\"", command->argv[1]);
        return -1;
    }
    g_autofd int dir = load(command, &container, &plan, &status, error);
    if (dir < 0)
        return -1;
    bool ok = strcmp(status, "stopped") != 0 ? runtime_kill(container, signal, command->all, error)
                                             : command->all || error_set(error, TARE_ERROR_CONFLICT, "container not running");
    runtime_container_free(container);
    runtime_plan_free(plan);
    return ok ? 0 : -1;
}

static int verb_delete(struct command *command, GError **error)
{
    struct runtime_container *container = NULL;
    struct runtime_plan *plan = NULL;
    const char *status;
    g_autofd int dir = load(command, &container, &plan, &status, error);
    if (dir < 0) {
        if (!command->force || !error_is(error ? *error : NULL, TARE_ERROR_NOT_FOUND))
            return -1;
        g_clear_error(error);
        return 0;
    }
    bool ok =
        command->force || strcmp(status, "running") != 0 ||
        error_set(error, TARE_ERROR_CONFLICT, "cannot delete container %s that is not stopped: %s", command->argv[0], status);
    ok = ok && runtime_destroy(container, error) && command_state_remove(command->root, command->argv[0], error);
    runtime_container_free(container);
    runtime_plan_free(plan);
    return ok ? 0 : -1;
}

static int verb_run(struct command *command, GError **error)
{
    struct runtime_container *container = NULL;
    if (!command->detach)
        command_hold_signals();
    if (!create(command, false, &container, error))
        return -1;
    int status = runtime_start(container, error) ? 0 : -1;
    if (status == 0 && command->detach) {
        runtime_container_free(container);
        return 0;
    }
    if (status == 0)
        status = command_relay(runtime_pidfd(container), command->console_socket ? -1 : container->terminal);
    if (!runtime_destroy(container, status < 0 ? NULL : error) && status >= 0)
        status = -1;
    command_state_remove(command->root, command->argv[0], NULL);
    runtime_container_free(container);
    return status;
}

static json_t *exec_process(struct command *command, const struct runtime_plan *plan, GError **error)
{
    if (command->process_file) {
        g_autofree char *text = NULL;
        size_t length;
        return file_read(AT_FDCWD, command->process_file, RUNTIME_SPECIFICATION_MAX, &text, &length, error)
                   ? runtime_specification_parse(text, length, error)
                   : NULL;
    }
    const struct plan_process *own = &plan->process;
    static const char *const set_names[CAPS_N] = { "bounding", "effective", "inheritable", "permitted", "ambient" };
    json_t *sets = json_object(), *env = json_array();
    for (int i = 0; i < CAPS_N; i++) {
        json_t *names = json_array();
        for (int k = 0; k < RUNTIME_CAPABILITIES_MAX; k++)
            if (own->capabilities[i] >> k & 1)
                json_array_append_new(names, json_string(capability_name(k)));
        json_object_set_new(sets, set_names[i], names);
    }
    char **sources[] = { own->env, command->env };
    for (size_t i = 0; i < G_N_ELEMENTS(sources); i++)
        for (char **each = sources[i]; each && *each; each++)
            json_array_append_new(env, json_string(*each));
    json_t *user = command->user ? json_pack("{s:s}", "username", command->user)
                                 : json_pack("{s:I, s:I}", "uid", (json_int_t)own->uid, "gid", (json_int_t)own->gid);
    json_t *process = json_pack("{s:b, s:o, s:o, s:o, s:s, s:b}", "terminal", command->tty, "user", user, "args",
                                json_from_strv((const char *const *)command->argv + 1), "env", env, "cwd",
                                command->cwd ? command->cwd : own->cwd, "noNewPrivileges", own->no_new_privileges);
    if (own->has_capabilities)
        json_object_set(process, "capabilities", sets);
    json_decref(sets);
    return process;
}

static int verb_exec(struct command *command, GError **error)
{
    struct runtime_container *container = NULL;
    struct runtime_plan *plan = NULL;
    const char *status;
    int result = -1;
    if (!command->detach)
        command_hold_signals();
    g_autofd int dir = load(command, &container, &plan, &status, error);
    if (dir < 0)
        return -1;
    g_autoptr(json_t) process = exec_process(command, plan, error);
    struct runtime_exec_options options = { { 0, 1, 2 } };
    struct runtime_process started;
    GByteArray *filter = NULL;
    bool ok = process &&
              (strcmp(status, "stopped") != 0 || error_set(error, TARE_ERROR_CONFLICT, "cannot exec in a stopped container")) &&
              runtime_seccomp_compile(plan->seccomp, &filter, error);
    if (filter)
        container->filter = g_byte_array_free_to_bytes(filter);
    if (ok && runtime_exec(container, process, &options, &started, error)) {
        bool told = write_pid(command->pid_file, started.pid, error) &&
                    (!command->console_socket || command_send_terminal(command->console_socket, started.terminal_fd, error));
        result = !told             ? -1
                 : command->detach ? 0
                                   : command_relay(started.pidfd, command->console_socket ? -1 : started.terminal_fd);
        fd_close(started.pidfd);
        fd_close(started.terminal_fd);
    }
    runtime_container_free(container);
    runtime_plan_free(plan);
    return result;
}

static int verb_ps(struct command *command, GError **error)
{
    struct runtime_container *container = NULL;
    struct runtime_plan *plan = NULL;
    const char *status;
    g_autofd int dir = load(command, &container, &plan, &status, error);
    if (dir < 0)
        return -1;
    g_autoptr(json_t) pids = runtime_pids(container, error);
    if (command->format && strcmp(command->format, "json") == 0) {
        g_autofree char *text = json_text(pids);
        printf("%s\n", text);
    } else {
        size_t i;
        json_t *pid;
        printf("PID\n");
        json_array_foreach(pids, i, pid) printf("%d\n", (int)json_integer_value(pid));
    }
    runtime_container_free(container);
    runtime_plan_free(plan);
    return 0;
}

static int set_paused(struct command *command, bool paused, GError **error)
{
    struct runtime_container *container = NULL;
    struct runtime_plan *plan = NULL;
    const char *status;
    g_autofd int dir = load(command, &container, &plan, &status, error);
    if (dir < 0)
        return -1;
    bool ok = runtime_pause(container, paused, error);
    runtime_container_free(container);
    runtime_plan_free(plan);
    return ok ? 0 : -1;
}

static int verb_pause(struct command *command, GError **error)
{
    return set_paused(command, true, error);
}

static int verb_resume(struct command *command, GError **error)
{
    return set_paused(command, false, error);
}

static const struct {
    const char *name;
    int min, max; /* arguments */
    int (*run)(struct command *, GError **);
    const char *usage;
} verbs[] = {
    { "create", 1, 1, verb_create, "create [-b BUNDLE] [--console-socket PATH] [--pid-file PATH] ID" },
    { "start", 1, 1, verb_start, "start ID" },
    { "state", 1, 1, verb_state, "state ID" },
    { "kill", 1, 2, verb_kill, "kill [-a] ID [SIGNAL]" },
    { "delete", 1, 1, verb_delete, "delete [-f] ID" },
    { "run", 1, 1, verb_run, "run [-b BUNDLE] [-d] [--console-socket PATH] [--pid-file PATH] ID" },
    { "exec", 1, G_MAXINT, verb_exec,
      "exec [-t] [-u USER] [-e NAME=VALUE] [--cwd DIR] [-p PROCESS.JSON] [-d] ID COMMAND [ARG …]" },
    { "ps", 1, 1, verb_ps, "ps [-f json|table] ID" },
    { "pause", 1, 1, verb_pause, "pause ID" },
    { "resume", 1, 1, verb_resume, "resume ID" },
};

static int usage(FILE *out)
{
    fprintf(out, "Usage: tare-runtime [--root DIR] COMMAND …\n\n");
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++)
        fprintf(out, "  %s\n", verbs[i].usage);
    return out == stdout ? 0 : 1;
}

static bool parse_options(struct command *command, bool global, const char *verb, int *argc, char ***argv, GError **error)
{
    bool is_ps = strcmp(verb, "ps") == 0, is_exec = strcmp(verb, "exec") == 0;
    const GOptionEntry globals[] = {
        { "root", 0, 0, G_OPTION_ARG_FILENAME, &command->root, "", "DIR" },
        { "debug", 0, 0, G_OPTION_ARG_NONE, &command->debug, "", NULL },
        { "log", 0, 0, G_OPTION_ARG_FILENAME, &command->log, "", "PATH" },
        { "log-format", 0, 0, G_OPTION_ARG_STRING, &command->log_format, "", "FORMAT" },
        { "systemd-cgroup", 0, 0, G_OPTION_ARG_NONE, &command->systemd_cgroup, "", NULL },
        { NULL },
    };
    const GOptionEntry locals[] = {
        { "bundle", 'b', 0, G_OPTION_ARG_FILENAME, &command->bundle, "", "DIR" },
        { "console-socket", 0, 0, G_OPTION_ARG_FILENAME, &command->console_socket, "", "PATH" },
        { "pid-file", 0, 0, G_OPTION_ARG_FILENAME, &command->pid_file, "", "PATH" },
        { "process", 'p', 0, G_OPTION_ARG_FILENAME, &command->process_file, "", "PATH" },
        { "user", 'u', 0, G_OPTION_ARG_STRING, &command->user, "", "USER" },
        { "cwd", 0, 0, G_OPTION_ARG_STRING, &command->cwd, "", "DIR" },
        { "env", 'e', 0, G_OPTION_ARG_STRING_ARRAY, &command->env, "", "NAME=VALUE" },
        { "tty", 't', 0, G_OPTION_ARG_NONE, &command->tty, "", NULL },
        { "all", 'a', 0, G_OPTION_ARG_NONE, &command->all, "", NULL },
        { "force", is_ps ? 0 : 'f', 0, G_OPTION_ARG_NONE, &command->force, "", NULL },
        { "format", is_ps ? 'f' : 0, 0, G_OPTION_ARG_STRING, &command->format, "", "FORMAT" },
        { "detach", 'd', 0, G_OPTION_ARG_NONE, &command->detach, "", NULL },
        { NULL },
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_set_strict_posix(context, global || is_exec);
    g_option_context_add_main_entries(context, global ? globals : locals, NULL);
    return g_option_context_parse(context, argc, argv, error);
}

static void command_clear(struct command *command)
{
    char *texts[] = { command->root, command->bundle, command->console_socket, command->pid_file, command->process_file,
                      command->user, command->cwd,    command->format,         command->log,      command->log_format };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
        g_free(texts[i]);
    g_strfreev(command->env);
}

static int run_verb(struct command *command, int argc, char **argv, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        if (strcmp(verbs[i].name, argv[0]) != 0)
            continue;
        if (!parse_options(command, false, verbs[i].name, &argc, &argv, error))
            return -1;
        bool dashes = argc > 1 && strcmp(argv[1], "--") == 0;
        command->argc = argc - 1 - dashes;
        command->argv = argv + 1 + dashes;
        if (command->argc >= verbs[i].min && command->argc <= verbs[i].max)
            return verbs[i].run(command, error);
        error_set(error, TARE_ERROR_INVALID, "Usage: tare-runtime %s", verbs[i].usage);
        return -1;
    }
    error_set(error, TARE_ERROR_INVALID, "unknown command \"%s\"", argv[0]);
    return -1;
}

int runtime_command(int argc, char **argv)
{
    struct command command = { 0 };
    g_autoptr(GError) error = NULL;
    int status = -1;
    if (parse_options(&command, true, "", &argc, &argv, &error)) {
        if (!command.root)
            command.root = g_strdup("/run/tare-runtime");
        if (argc < 2)
            status = usage(stderr);
        else if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
            status = usage(stdout);
        else
            status = run_verb(&command, argc - 1, argv + 1, &error);
    }
    if (status < 0)
        fprintf(stderr, "tare-runtime: %s\n", error->message);
    command_clear(&command);
    return status < 0 ? 1 : status;
}
