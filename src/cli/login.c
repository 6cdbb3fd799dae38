/* login, logout and search. */
#include "cli/cli-internal.h"

#include "base/fd.h"

#include <string.h>
#include <termios.h>
#include <unistd.h>

#define HUB "https://index.docker.io/v1/"
#define PASSWORD_MAX 65536

/* A host as config.json names it. */
static char *server_name(const struct options *options)
{
    const char *given = options->n_args ? options->args[0] : "";
    if (!*given || strcmp(given, "docker.io") == 0 || strcmp(given, HUB) == 0)
        return g_strdup(HUB);
    for (const char *const *scheme = (const char *const[]){ "https://", "http://", NULL }; *scheme; scheme++)
        if (g_str_has_prefix(given, *scheme))
            given += strlen(*scheme);
    return g_strndup(given, strcspn(given, "/"));
}

static char *ask(const char *question, bool hidden)
{
    char line[1024] = "";
    struct termios old, silent;
    bool changed = hidden && tcgetattr(STDIN_FILENO, &old) == 0;
    print("%s", question);
    fflush(stdout);
    if (changed) {
        silent = old;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSANOW, &silent);
    }
    char *got = fgets(line, sizeof line, stdin);
    if (changed) {
        tcsetattr(STDIN_FILENO, TCSANOW, &old);
        print("\n");
    }
    return g_strdup(got ? g_strchomp(line) : "");
}

static bool get_password(const struct options *options, char **ret, GError **error)
{
    size_t length;
    if (options_bool(options, "password-stdin", false)) {
        if (options_given(options, "password"))
            return error_set(error, TARE_ERROR_INVALID, "--password and --password-stdin are mutually exclusive");
        if (!options_given(options, "username"))
            return error_set(error, TARE_ERROR_INVALID, "Must provide --username with --password-stdin");
        if (!fd_read_all(STDIN_FILENO, PASSWORD_MAX, "password", ret, &length, error))
            return false;
        (*ret)[strcspn(*ret, "\r\n")] = '\0';
        return true;
    }
    if (options_given(options, "password"))
        print_error("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
    *ret = g_strdup(options_string(options, "password", ""));
    if (**ret)
        return true;
    if (!is_terminal(STDIN_FILENO))
        return error_set(error, TARE_ERROR_INVALID, "Error: Cannot perform an interactive login from a non TTY device");
    g_free(*ret);
    *ret = ask("Password: ", true);
    return **ret || error_set(error, TARE_ERROR_INVALID, "Error: Password Required");
}

static bool store(struct cli *cli, const char *server, const char *user, const char *password, const char *token, GError **error)
{
    g_autofree char *pair = g_strconcat(user, ":", token && *token ? "" : password, NULL),
                    *encoded = g_base64_encode((guchar *)pair, strlen(pair));
    json_t *auths = json_get_object(cli->config, "auths"), *entry = json_pack("{s:s}", "auth", encoded);
    if (!auths)
        json_object_set_new(cli->config, "auths", auths = json_object());
    if (token && *token)
        json_object_set_new(entry, "identitytoken", json_string(token));
    json_object_set_new(auths, server, entry);
    return config_file_save(cli->config_directory, cli->config, error);
}

int cmd_login(struct cli *cli, const struct options *options, GError **error)
{
    g_autofree char *server = server_name(options), *password = NULL, *user = g_strdup(options_string(options, "username", ""));
    if (!*user && is_terminal(STDIN_FILENO)) {
        g_free(user);
        user = ask("Username: ", false);
    }
    if (!*user)
        return error_set(error, TARE_ERROR_INVALID,
                         is_terminal(STDIN_FILENO) ? "Error: Non-null Username Required"
                                                   : "Error: Cannot perform an interactive login from a non TTY device"),
               1;
    if (!get_password(options, &password, error))
        return 1;
    g_autoptr(json_t) body = json_object();
    json_object_set_new(body, "username", json_string_lossy(user));
    json_object_set_new(body, "password", json_string_lossy(password));
    json_object_set_new(body, "serveraddress", json_string_lossy(server));
    struct call call = { .method = "POST", .path = "/auth", .json = body };
    g_autoptr(json_t) answer = api_json(cli, &call, error);
    if (!answer || !store(cli, server, user, password, json_get_string(answer, "IdentityToken", NULL), error))
        return 1;
    print_error("\nWARNING! Your credentials are stored unencrypted in '%s/config.json'.\n", cli->config_directory);
    const char *status = json_get_string(answer, "Status", "");
    if (*status)
        print("%s\n", status);
    return 0;
}

int cmd_logout(struct cli *cli, const struct options *options, GError **error)
{
    g_autofree char *server = server_name(options);
    json_t *auths = json_get_object(cli->config, "auths");
    print("Removing login credentials for %s\n", server);
    if (!json_object_get(auths, server))
        return 0;
    json_object_del(auths, server);
    return config_file_save(cli->config_directory, cli->config, error) ? 0 : 1;
}

int cmd_search(struct cli *cli, const struct options *options, GError **error)
{
    static const struct list_field fields[] = {
        { "Name", "NAME" },           { "Description", "DESCRIPTION" }, { "StarCount", "STARS" },
        { "IsOfficial", "OFFICIAL" }, { "IsAutomated", "AUTOMATED" },   { NULL, "searchContext" }
    };
    bool truncate = !options_bool(options, "no-trunc", false);
    g_autofree char *auth = registry_auth_header(cli->config, options->args[0]);
    const char *const headers[] = { "X-Registry-Auth", auth, NULL };
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "term", options->args[0]);
    query_add_int(query, "limit", options_int(options, "limit", 25));
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
        json_t *row = json_pack("{s:s, s:s, s:s}", "StarCount", stars, "IsOfficial",
                                json_get_bool(result, "is_official", false) ? "[OK]" : "", "IsAutomated",
                                json_get_bool(result, "is_automated", false) ? "[OK]" : "");
        json_object_set_new(row, "Name", json_string_lossy(json_get_string(result, "name", "")));
        json_object_set_new(row, "Description", json_string_lossy(cut));
        ok = ok && list_add(list, row, error);
    }
    if (ok)
        list_finish(list, error);
    else
        list_free(list);
    return ok ? 0 : 1;
}
