/* The command line from its first word to its exit status. */
#include "cli/cli.h"
#include "cli/cli-internal.h"

#include "base/fd.h"

#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/tare/tare.sock"
#define DOCKER_SOCKET "/var/run/docker.sock"

void print(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
}

void print_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fflush(stdout);
    vfprintf(stderr, format, args);
    va_end(args);
}

bool is_terminal(int fd)
{
    return isatty(fd);
}

int terminal_width(int fd, int fallback)
{
    struct winsize size;
    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : fallback;
}

bool confirm(const char *question)
{
    char line[64];
    print("%s [y/N] ", question);
    fflush(stdout);
    return fgets(line, sizeof line, stdin) && (line[0] == 'y' || line[0] == 'Y') && (line[1] == '\n' || line[1] == '\0');
}

static int help_width(void)
{
    return terminal_width(STDIN_FILENO, 80) - 1;
}

static bool context_sources(struct cli *cli, struct host_sources *ret, GError **error)
{
    const char *const *hosts = options_list(cli->global, "host");
    *ret = (struct host_sources){
        .flag_host = hosts[0],
        .flag_context = options_string(cli->global, "context", NULL),
        .tare_host = g_getenv("TARE_HOST"),
        .docker_host = g_getenv("DOCKER_HOST"),
        .environment_context = g_getenv("DOCKER_CONTEXT"),
        .config_context = json_get_string(cli->config, "currentContext", NULL),
    };
    if (hosts[0] && ret->flag_context)
        return error_set(error, TARE_ERROR_INVALID, "conflicting options: cannot specify both --host and --context");
    if (hosts[0] && hosts[1])
        return error_set(error, TARE_ERROR_INVALID,
                         "Failed to initialize: unable to resolve docker endpoint: Specify only one -H");
    return true;
}

static char *tls_file(struct cli *cli, const char *flag, const char *name)
{
    const char *given = options_string(cli->global, flag, NULL), *directory = g_getenv("DOCKER_CERT_PATH");
    if (given)
        return g_strdup(given);
    return g_build_filename(directory && *directory ? directory : cli->config_directory, name, NULL);
}

static bool readable(const char *path)
{
    return path && access(path, R_OK) == 0;
}

/* --tls, --tlsverify and DOCKER_TLS_VERIFY; files that were not named may be missing, but for the authority when the server is to
 * be verified. */
static bool apply_tls(struct cli *cli, struct endpoint *endpoint, GError **error)
{
    const char *verify_text = g_getenv("DOCKER_TLS_VERIFY"), *tls_text = g_getenv("DOCKER_TLS");
    bool verify = options_bool(cli->global, "tlsverify", verify_text && *verify_text);
    if (!verify && !options_bool(cli->global, "tls", tls_text && *tls_text) && !options_given(cli->global, "tlsverify"))
        return true;
    endpoint->tls = true;
    endpoint->verify = verify;
    endpoint->ca = tls_file(cli, "tlscacert", "ca.pem");
    endpoint->certificate = tls_file(cli, "tlscert", "cert.pem");
    endpoint->key = tls_file(cli, "tlskey", "key.pem");
    if (!options_given(cli->global, "tlscert") && !readable(endpoint->certificate))
        g_clear_pointer(&endpoint->certificate, g_free);
    if (!options_given(cli->global, "tlskey") && !readable(endpoint->key))
        g_clear_pointer(&endpoint->key, g_free);
    const char *const files[] = { endpoint->ca, endpoint->certificate, endpoint->key };
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
        if (files[i] && !readable(files[i]) && (i > 0 || verify || options_given(cli->global, "tlscacert")))
            return error_set(error, TARE_ERROR_INVALID,
                             "Failed to initialize: unable to resolve docker endpoint: open %s: no such file or directory",
                             files[i]);
    if (!readable(endpoint->ca))
        g_clear_pointer(&endpoint->ca, g_free);
    return true;
}

bool cli_resolve_endpoint(struct cli *cli, GError **error)
{
    struct host_sources sources;
    const char *host, *context;
    if (!context_sources(cli, &sources, error))
        return false;
    host_choose(&sources, &host, &context);
    g_free(cli->context_name);
    cli->context_name = g_strdup(context ? context : "default");
    if (context) {
        cli->endpoint = context_endpoint(cli->config_directory, context, error);
        if (!cli->endpoint)
            g_prefix_error(error, "Failed to initialize: unable to resolve docker endpoint: ");
        return cli->endpoint != NULL;
    }
    bool use_docker = !host && strcmp(cli->program, "docker") == 0 && access(DEFAULT_SOCKET, F_OK) != 0;
    cli->endpoint = endpoint_parse(host ? host : use_docker ? "unix://" DOCKER_SOCKET : "unix://" DEFAULT_SOCKET, error);
    if (!cli->endpoint) {
        g_prefix_error(error, "Failed to initialize: ");
        return false;
    }
    return apply_tls(cli, cli->endpoint, error);
}

static int fail(int status, const GError *error)
{
    print_error("%s\n", error->message);
    return status;
}

static int run_command(struct cli *cli, const struct cli_found *found, const char *const *words)
{
    g_autoptr(GError) error = NULL;
    struct options *options = options_parse(cli->program, found->path, found->command, words, &error);
    int status = 0;
    if (!options)
        return fail(125, error);
    if (options->help) {
        g_autofree char *text = help_command(cli->program, found->path, found->command, help_width());
        if (options->help_by_letter)
            print_error("Flag shorthand -h has been deprecated, use --help\n");
        print("%s", text);
    } else if (!options_check_count(options, &error)) {
        status = fail(1, error);
    } else if (!found->command->run) {
        print_error("%s: '%s %s' is not supported: %s\n", cli->program, cli->program, found->path,
                    cli_verb_refusal(found->command));
        status = 1;
    } else {
        status = found->command->run(cli, options, &error);
        if (error)
            status = fail(status ? status : 1, error);
    }
    options_free(options);
    return status;
}

static int show_group_help(struct cli *cli, const struct cli_found *found, bool to_stdout)
{
    g_autofree char *text =
        found->group ? help_group(cli->program, found->group) : help_root(cli->program, help_width(), cli->config_directory);
    if (to_stdout)
        print("%s", text);
    else
        print_error("%s", text);
    return 0;
}

/* `help [command]`: the help of what the words name. */
static int help_topic(struct cli *cli, const char *const *words)
{
    struct cli_found found;
    int status = 0;
    bool ok = cli_find(words, &found);
    if (!ok || words[found.n_words]) {
        g_autofree char *topic = g_strjoinv(" ", (char **)words);
        print_error("unknown help topic: %s\n", topic);
        status = 1;
    } else if (found.command) {
        g_autofree char *text = help_command(cli->program, found.path, found.command, help_width());
        print("%s", text);
    } else {
        status = show_group_help(cli, &found, true);
    }
    g_free(found.path);
    return status;
}

/* What follows a group's name and is no command of it. */
static int unknown_in_group(struct cli *cli, const struct cli_found *found, const char *word)
{
    const char *path = found->path, *blank = *path ? " " : "";
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return show_group_help(cli, found, true);
    g_autofree char *flag = g_strndup(word, strcspn(word, "="));
    const char *refusal = g_str_has_prefix(flag, "--") ? cli_refusal(path, flag + 2, NULL) : NULL;
    if (refusal)
        print_error("%s is not supported: %s\n", flag, refusal);
    else if (word[0] == '-' && word[1] == '-')
        print_error("unknown flag: %s\n\nUsage:  %s%s%s\n\nRun '%s%s%s --help' for more information\n", word, cli->program, blank,
                    path, cli->program, blank, path);
    else if (word[0] == '-' && word[1])
        print_error("unknown shorthand flag: '%c' in %s\n\nUsage:  %s%s%s\n\nRun '%s%s%s --help' for more information\n", word[1],
                    word, cli->program, blank, path, cli->program, blank, path);
    else if (*path)
        print_error("%s: unknown command: %s %s %s\n\nUsage:  %s %s\n\nRun '%s %s --help' for more information\n", cli->program,
                    cli->program, path, word, cli->program, path, cli->program, path);
    else
        print_error("%s: unknown command: %s %s\n\nRun '%s --help' for more information\n", cli->program, cli->program, word,
                    cli->program);
    return word[0] == '-' && word[1] ? 125 : 1;
}

/* `completion bash`, `completion man COMMAND…`, and `completion man-pages DIRECTORY`: what is installed beside the program. */
static int generate(struct cli *cli, const char *const *words)
{
    struct cli_found found = { 0 };
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    if (strcmp(words[0], "man-pages") == 0 && words[1] && !words[2])
        return help_write_manual_pages(words[1], &error) ? 0 : fail(1, error);
    if (strcmp(words[0], "bash") == 0 && !words[1])
        text = help_bash_completion(cli->program);
    else if (strcmp(words[0], "man") == 0 && cli_find(words + 1, &found) && found.command)
        text = help_manual_page(found.path, found.command);
    g_free(found.path);
    if (!text) {
        print_error("%s: completion: bash, man COMMAND, or man-pages DIRECTORY\n", cli->program);
        return 1;
    }
    print("%s", text);
    return 0;
}

static int dispatch(struct cli *cli, const char *const *words)
{
    struct cli_found found;
    if (words[0] && strcmp(words[0], "help") == 0)
        return help_topic(cli, words + 1);
    if (words[0] && strcmp(words[0], "completion") == 0 && words[1])
        return generate(cli, words + 1);
    bool ok = cli_find(words, &found);
    int status;
    if (!ok && !found.group && words[0][0] != '-' && words[1] && strcmp(words[1], "--help") == 0)
        status = show_group_help(cli, &found, true);
    else if (!ok)
        status = unknown_in_group(cli, &found, words[found.n_words]);
    else if (found.command)
        status = run_command(cli, &found, words + found.n_words);
    else
        status = show_group_help(cli, &found, false);
    g_free(found.path);
    return status;
}

static bool check_log_level(struct cli *cli, GError **error)
{
    static const char *const levels[] = { "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic", NULL };
    const char *level = options_string(cli->global, "log-level", "info");
    cli->debug = options_bool(cli->global, "debug", false) || strcmp(level, "debug") == 0;
    return g_strv_contains(levels, level) || error_set(error, TARE_ERROR_INVALID, "Unable to parse logging level: %s", level);
}

static bool prepare(struct cli *cli, GError **error)
{
    const char *given = options_string(cli->global, "config", g_getenv("DOCKER_CONFIG"));
    cli->config_directory = given && *given ? g_strdup(given) : g_build_filename(g_get_home_dir(), ".docker", NULL);
    cli->config = config_file_load(cli->config_directory, error);
    return cli->config && check_log_level(cli, error);
}

static void cli_clear(struct cli *cli)
{
    connection_free(cli->idle);
    endpoint_free(cli->endpoint);
    json_decref(cli->config);
    g_free(cli->config_directory);
    g_free(cli->context_name);
    g_free(cli->version);
    g_free(cli->os);
}

int cli_main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_IGN);
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL, *name = slash ? slash + 1 : argc > 0 ? argv[0] : "";
    const char *program = strcmp(name, "docker") == 0 ? "docker" : "tare";
    g_autoptr(GError) error = NULL;
    struct cli cli = { .program = program };
    struct options *global = options_parse(program, "", &cli_root, (const char *const *)argv + MIN(argc, 1), &error);
    if (!global)
        return fail(125, error);
    cli.global = global;
    int status = 0;
    if (!prepare(&cli, &error)) {
        status = fail(1, error);
    } else if (global->help) {
        struct cli_found none = { 0 };
        if (global->help_by_letter)
            print_error("Flag shorthand -h has been deprecated, use --help\n");
        status = global->n_args > 0 ? help_topic(&cli, (const char *const *)global->args) : show_group_help(&cli, &none, true);
    } else if (options_bool(global, "version", false)) {
        print("%s version %s\n", strcmp(program, "docker") == 0 ? "Docker" : "tare", TARE_VERSION);
    } else {
        status = dispatch(&cli, (const char *const *)global->args);
    }
    cli_clear(&cli);
    options_free(global);
    if (fflush(stdout) != 0 && status == 0)
        status = 1;
    return status;
}
