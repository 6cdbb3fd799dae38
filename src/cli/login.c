/* login, logout and search. */
#include "cli/cli-internal.h"

#include "base/fd.h"

#include <string.h>
#include <termios.h>
#include <unistd.h>

#define PASSWORD_MAX 65536

static char *ask(const char *question, bool hidden)
{
    char *line = NULL;
    size_t room = 0;
    struct termios old, silent;
    bool changed = hidden && tcgetattr(STDIN_FILENO, &old) == 0;
    if (changed) { /* before the question: who answers at once is not shown either */
        silent = old;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSANOW, &silent);
    }
    print("%s", question);
    fflush(stdout);
    ssize_t length = getline(&line, &room, stdin);
    if (changed) {
        tcsetattr(STDIN_FILENO, TCSANOW, &old);
        print("\n");
    }
    char *answer = g_strstrip(g_strdup(length > 0 ? line : ""));
    free(line);
    return answer;
}

static bool check_flags(const struct options *options, GError **error)
{
    if (options_bool(options, "password-stdin", false)) {
        if (options_given(options, "password"))
            return error_set(error, TARE_ERROR_INVALID,
                             "conflicting options: cannot specify both --password and --password-stdin");
        if (!options_given(options, "username"))
            return error_set(error, TARE_ERROR_INVALID, "the --password-stdin option requires --username to be set");
    }
    for (const char *const *flag = (const char *const[]){ "username", "password", NULL }; *flag; flag++)
        if (options_given(options, *flag) && !*options_string(options, *flag, ""))
            return error_set(error, TARE_ERROR_INVALID, "%s is empty", *flag);
    return true;
}

static bool given_password(const struct options *options, char **ret, GError **error)
{
    if (!options_bool(options, "password-stdin", false)) {
        if (options_given(options, "password"))
            print_error("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
        *ret = g_strdup(options_string(options, "password", ""));
        return true;
    }
    size_t length;
    if (!fd_read_all(STDIN_FILENO, PASSWORD_MAX, "password", ret, &length, error))
        return false;
    for (const char *end = "\n\r"; *end && length > 0; end++)
        if ((*ret)[length - 1] == *end)
            (*ret)[--length] = '\0';
    return true;
}

/* user and password are filled by questions where they are empty. */
static bool ask_for_missing(const char *server, const char *known_user, char **user, char **password, GError **error)
{
    if (**user && **password)
        return true;
    if (!is_terminal(STDIN_FILENO))
        return error_set(error, TARE_ERROR_INVALID, "Error: Cannot perform an interactive login from a non TTY device");
    if (!**user) {
        g_autofree char *question = *known_user ? g_strdup_printf("Username (%s): ", known_user) : g_strdup("Username: ");
        if (strcmp(server, CREDENTIALS_HUB) == 0)
            print("Log in with your Docker ID or email address to push and pull images from Docker Hub. If you don't have a "
                  "Docker ID, head over to https://hub.docker.com/ to create one.\n");
        g_free(*user);
        *user = ask(question, false);
        if (!**user) {
            g_free(*user);
            *user = g_strdup(known_user);
        }
    }
    if (!**user)
        return error_set(error, TARE_ERROR_INVALID, "Error: Non-null Username Required");
    if (!**password) {
        g_free(*password);
        *password = ask("Password: ", true);
    }
    return **password || error_set(error, TARE_ERROR_INVALID, "Error: Password Required");
}

/* The engine asks the registry; what it answers with is kept. */
static bool log_in(struct cli *cli, const char *server, json_t *auth, GError **error)
{
    struct call call = { .method = "POST", .path = "/auth", .json = auth };
    g_autoptr(json_t) answer = api_json(cli, &call, error);
    if (!answer)
        return false;
    const char *token = json_get_string(answer, "IdentityToken", ""), *status = json_get_string(answer, "Status", "");
    if (*token) { /* stands for the password, which need not be kept then */
        json_object_del(auth, "password");
        json_object_set_new(auth, "identitytoken", json_string(token));
    }
    if (!credentials_store(cli, server, auth, error))
        return false;
    if (*status)
        print("%s\n", status);
    return true;
}

/* What is known already is tried first; it may have been revoked meanwhile. */
static bool log_in_again(struct cli *cli, const char *server, json_t *auth)
{
    g_autoptr(GError) problem = NULL;
    print_error("Authenticating with existing credentials... [Username: %s]\n\n Info -> To login with a different account, run "
                "'%s logout' followed by '%s login'\n\n\n",
                json_get_string(auth, "username", ""), cli->program, cli->program);
    if (log_in(cli, server, auth, &problem))
        return true;
    if (problem->code == TARE_ERROR_UNAUTHORIZED)
        print_error("Stored credentials invalid or expired\n");
    else
        print_error("Login did not succeed, error: %s\n", problem->message);
    return false;
}

static void warn_of_environment(void)
{
    const char *text = g_getenv("DOCKER_AUTH_CONFIG");
    if (text && *text)
        print_error("WARNING: DOCKER_AUTH_CONFIG is set and takes precedence.\n"
                    "Unset DOCKER_AUTH_CONFIG to restore the CLI auth behaviour.\n");
}

int cmd_login(struct cli *cli, const struct options *options, GError **error)
{
    g_autofree char *password = NULL, *user = g_strstrip(g_strdup(options_string(options, "username", "")));
    if (!check_flags(options, error) || !given_password(options, &password, error))
        return 1;
    warn_of_environment();
    g_autofree char *server = credentials_server(options->n_args ? options->args[0] : "");
    g_autoptr(json_t) known = *user || *password ? json_object() : credentials_get(cli, server, NULL);
    if (*json_get_string(known, "username", "") && *json_get_string(known, "password", "") && log_in_again(cli, server, known))
        return 0;
    if (!ask_for_missing(server, json_get_string(known, "username", ""), &user, &password, error))
        return 1;
    g_autoptr(json_t) auth = json_object();
    json_object_set_new(auth, "username", json_string_lossy(user));
    json_object_set_new(auth, "password", json_string_lossy(password));
    json_object_set_new(auth, "serveraddress", json_string_lossy(server));
    return log_in(cli, server, auth, error) ? 0 : 1;
}

int cmd_logout(struct cli *cli, const struct options *options, GError **error)
{
    const char *given = options->n_args ? options->args[0] : "";
    g_autofree char *host = *given ? credentials_host(given) : g_strdup(CREDENTIALS_HUB);
    g_autofree char *http = g_strconcat("http://", host, NULL), *https = g_strconcat("https://", host, NULL);
    /* Old clients stored a log-in under any of these. */
    const char *const servers[] = { *given ? given : CREDENTIALS_HUB, host, http, https };
    guint n = *given ? G_N_ELEMENTS(servers) : 1, n_failed = 0;
    g_autoptr(GString) failures = g_string_new(NULL);
    warn_of_environment();
    print("Removing login credentials for %s\n", host);
    for (guint i = 0; i < n; i++) {
        g_autoptr(GError) problem = NULL;
        if (credentials_erase(cli, servers[i], &problem))
            continue;
        n_failed++;
        g_string_append_printf(failures, "%s: %s\n", servers[i], problem->message);
    }
    if (n_failed == n)
        print_error("WARNING: could not erase credentials:\n%s", failures->str);
    return 0;
}

int cmd_search(struct cli *cli, const struct options *options, GError **error)
{
    static const struct list_field fields[] = { { "Name", "NAME" },
                                                { "Description", "DESCRIPTION" },
                                                { "StarCount", "STARS" },
                                                { "IsOfficial", "OFFICIAL" },
                                                { NULL, "registry.searchContext" } };
    bool truncate = !options_bool(options, "no-trunc", false);
    const char *format = options_string(options, "format", "");
    bool as_json = strcmp(format, "json") == 0 || strstr(format, "{{json .}}"); /* there, docker's flags are words */
    g_autofree char *auth = registry_auth_header(cli, options->args[0]);
    const char *const headers[] = { "X-Registry-Auth", auth, NULL };
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "term", options->args[0]);
    if (options_int(options, "limit", 0) > 0)
        query_add_int(query, "limit", options_int(options, "limit", 0));
    query_add_filters(query, options);
    struct call call = { .method = "GET", .path = "/images/search", .query = query->str, .headers = headers };
    struct list *list = list_new(fields, options_string(options, "format", NULL),
                                 "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}", NULL, error);
    g_autoptr(json_t) results = list ? api_json(cli, &call, error) : NULL;
    bool ok = results != NULL;
    size_t i;
    json_t *result;
    json_array_foreach(results, i, result)
    {
        g_autofree char *text = g_strdelimit(g_strdup(json_get_string(result, "description", "")), "\r\n", ' ');
        g_autofree char *cut = text_ellipsis(text, truncate ? 45 : G_MAXUINT),
                        *stars = g_strdup_printf("%" G_GINT64_FORMAT, json_get_int(result, "star_count", 0));
        bool official = json_get_bool(result, "is_official", false);
        json_t *row = json_pack("{s:s, s:s}", "StarCount", stars, "IsOfficial",
                                as_json    ? (official ? "true" : "false")
                                : official ? "[OK]"
                                           : "");
        json_object_set_new(row, "Name", json_string_lossy(json_get_string(result, "name", "")));
        json_object_set_new(row, "Description", json_string_lossy(cut));
        ok = list_add(list, row, error);
        if (!ok)
            break;
    }
    if (ok)
        list_finish(list, error);
    else
        list_free(list);
    return ok ? 0 : 1;
}
