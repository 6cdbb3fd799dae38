/* Credentials of registries: in config.json's "auths", in $DOCKER_AUTH_CONFIG, or with the helper programs that "credsStore" and
 * "credHelpers" name (docker-credential-*, which take a word as argument and JSON or a name on stdin). */
#include "cli/cli-internal.h"

#include "base/fd.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define HELPER_OUTPUT_MAX (1u << 20)
#define ENVIRONMENT "DOCKER_AUTH_CONFIG"
#define TOKEN_USER "<token>" /* a helper's name for an identity token */

char *credentials_server(const char *given)
{
    if (!*given || strcmp(given, "docker.io") == 0 || strcmp(given, "index.docker.io") == 0 ||
        strcmp(given, CREDENTIALS_HUB) == 0)
        return g_strdup(CREDENTIALS_HUB);
    return credentials_host(given);
}

char *credentials_host(const char *given)
{
    const char *scheme = strstr(given, "://");
    given = scheme ? scheme + 3 : given;
    return g_strndup(given, strcspn(given, "/"));
}

/* ---- config.json ---- */

static json_t *file_entry(const json_t *auths, const char *server)
{
    const char *key;
    json_t *entry, *exact = json_object_get(auths, server);
    if (exact)
        return exact;
    json_object_foreach((json_t *)auths, key, entry)
    { /* files of old clients have whole URLs */
        g_autofree char *host = credentials_host(key);
        if (strcmp(host, server) == 0)
            return entry;
    }
    return NULL;
}

static void set_text(json_t *object, const char *key, const char *value)
{
    if (value && *value)
        json_object_set_new(object, key, json_string_lossy(value));
}

/* An entry of "auths" as the API wants it: user name and password apart. */
static void decode_entry(json_t *auth, const json_t *entry)
{
    gsize length = 0;
    g_autofree guchar *pair = g_base64_decode(json_get_string(entry, "auth", ""), &length);
    g_autofree char *text = g_strndup((char *)pair, length);
    char *colon = strchr(text, ':');
    if (colon)
        *colon = '\0';
    set_text(auth, "username", colon ? text : json_get_string(entry, "username", NULL));
    set_text(auth, "password", colon ? colon + 1 : json_get_string(entry, "password", NULL));
    set_text(auth, "identitytoken", json_get_string(entry, "identitytoken", NULL));
    set_text(auth, "registrytoken", json_get_string(entry, "registrytoken", NULL));
}

static json_t *encode_entry(const json_t *auth)
{
    const char *user = json_get_string(auth, "username", ""), *password = json_get_string(auth, "password", "");
    json_t *entry = json_object();
    if (*user || *password) {
        g_autofree char *pair = g_strconcat(user, ":", password, NULL), *encoded = g_base64_encode((guchar *)pair, strlen(pair));
        json_object_set_new(entry, "auth", json_string(encoded));
    }
    set_text(entry, "identitytoken", json_get_string(auth, "identitytoken", NULL));
    set_text(entry, "registrytoken", json_get_string(auth, "registrytoken", NULL));
    return entry;
}

static bool file_store(struct cli *cli, const char *server, const json_t *auth, bool *ret_changed, GError **error)
{
    json_t *auths = json_get_object(cli->config, "auths");
    g_autoptr(json_t) entry = encode_entry(auth);
    if (!auths)
        json_object_set_new(cli->config, "auths", auths = json_object());
    *ret_changed = !json_equal(json_object_get(auths, server), entry);
    if (!*ret_changed)
        return true;
    json_object_set(auths, server, entry);
    return config_file_save(cli->config_directory, cli->config, error);
}

static bool file_erase(struct cli *cli, const char *server, GError **error)
{
    return json_object_del(json_get_object(cli->config, "auths"), server) != 0 ||
           config_file_save(cli->config_directory, cli->config, error);
}

/* ---- helper programs ---- */

static bool in_path(const char *program)
{
    g_autofree char *found = g_find_program_in_path(program);
    return found != NULL;
}

/* As docker: a machine with a keychain gets it used, unless the file has something else to say. NULL: the file. */
static const char *helper_for(struct cli *cli, const char *server)
{
    const char *chosen =
        json_get_string(json_get_object(cli->config, "credHelpers"), server, json_get_string(cli->config, "credsStore", ""));
    if (*chosen || json_object_size(json_get_object(cli->config, "auths")) ||
        json_object_size(json_get_object(cli->config, "credHelpers")))
        return *chosen ? chosen : NULL;
    const char *usual = in_path("pass") ? "pass" : "secretservice";
    g_autofree char *program = g_strconcat("docker-credential-", usual, NULL);
    if (!in_path(program))
        return NULL;
    json_object_set_new(cli->config, "credsStore", json_string(usual));
    return json_get_string(cli->config, "credsStore", NULL);
}

/* The output without blanks at its end (g_free); false with the error as a text alone where the helper failed: *ret has it then,
 * too. */
static bool run_helper(const char *helper, const char *action, const char *input, char **ret, GError **error)
{
    g_autofree char *program = g_strconcat("docker-credential-", helper, NULL);
    const char *argv[] = { program, action, NULL };
    extern char **environ;
    int ends[2];
    g_autofd int given = fd_new_sealed("credential", input, strlen(input), error);
    *ret = g_strdup("");
    if (given < 0)
        return false;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "pipe");
    g_autofd int from = ends[0];
    g_autofd int to = ends[1];
    struct spawn_fd fds[] = { { given, 0 }, { to, 1 }, { STDERR_FILENO, 2 } };
    struct spawn_options options = {
        .argv = argv, .envp = (const char *const *)environ, .fds = fds, .n_fds = G_N_ELEMENTS(fds), .search_path = true
    };
    if (!in_path(program))
        return error_set(error, TARE_ERROR_NOT_FOUND, "exec: \"%s\": executable file not found in $PATH", program);
    pid_t pid = spawn_program(&options, error);
    if (pid < 0)
        return false;
    fd_clear(&to);
    char *text = NULL;
    size_t length = 0;
    bool ok = fd_read_all(from, HELPER_OUTPUT_MAX, program, &text, &length, error);
    fd_clear(&from);
    int status = spawn_wait(pid);
    if (!ok)
        return false;
    g_free(*ret);
    *ret = g_strstrip(text);
    return status == 0 || error_set(error, TARE_ERROR_INTERNAL, "exit status %d", status);
}

static bool helper_failed(const char *doing, const char *output, GError **error)
{
    g_autofree char *why = g_strdup((*error)->message);
    g_clear_error(error);
    return error_set(error, TARE_ERROR_INTERNAL, "error %s credentials - err: %s, out: `%s`", doing, why, output);
}

/* What a helper does not have is no failure: auth stays as it is. */
static bool helper_get(const char *helper, const char *server, json_t *auth, GError **error)
{
    g_autofree char *output = NULL;
    g_autoptr(GError) problem = NULL;
    if (!run_helper(helper, "get", server, &output, &problem)) {
        if (strstr(output, "credentials not found in native keychain"))
            return true;
        helper_failed("getting", output, &problem);
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    g_autoptr(json_t) got = json_parse(output, strlen(output), HELPER_OUTPUT_MAX, "credentials", error);
    if (!got)
        return false;
    const char *user = json_get_string(got, "Username", ""), *secret = json_get_string(got, "Secret", "");
    bool is_token = strcmp(user, TOKEN_USER) == 0;
    set_text(auth, is_token ? "identitytoken" : "password", secret);
    set_text(auth, "username", is_token ? NULL : user);
    return true;
}

static bool helper_store(const char *helper, const char *server, const json_t *auth, GError **error)
{
    const char *token = json_get_string(auth, "identitytoken", NULL);
    g_autoptr(json_t) credential = json_object();
    json_object_set_new(credential, "ServerURL", json_string_lossy(server));
    json_object_set_new(credential, "Username", json_string_lossy(token ? TOKEN_USER : json_get_string(auth, "username", "")));
    json_object_set_new(credential, "Secret", json_string_lossy(token ? token : json_get_string(auth, "password", "")));
    g_autofree char *text = json_text(credential), *output = NULL;
    return run_helper(helper, "store", text, &output, error) || helper_failed("storing", output, error);
}

/* ---- one server ---- */

/* What the environment says wins over all files; NULL where it says nothing. */
static json_t *from_environment(const char *server)
{
    const char *text = g_getenv(ENVIRONMENT);
    g_autoptr(GError) problem = NULL;
    if (!text || !*text)
        return NULL;
    g_autoptr(json_t) given = json_parse(text, strlen(text), HELPER_OUTPUT_MAX, ENVIRONMENT, &problem);
    if (!given) {
        print_error("Failed to create credential store from DOCKER_AUTH_CONFIG:  %s\n", problem->message);
        return NULL;
    }
    json_t *entry = json_object_get(json_get_object(given, "auths"), server), *auth = entry ? json_object() : NULL;
    if (auth)
        decode_entry(auth, entry);
    return auth;
}

json_t *credentials_get(struct cli *cli, const char *server, GError **error)
{
    json_t *auth = from_environment(server), *entry = file_entry(json_get_object(cli->config, "auths"), server);
    const char *helper = auth ? NULL : helper_for(cli, server);
    if (!auth) {
        auth = json_object();
        if (entry && !helper)
            decode_entry(auth, entry);
        if (helper && !helper_get(helper, server, auth, error)) {
            json_decref(auth);
            return NULL;
        }
    }
    if (json_object_size(auth))
        json_object_set_new(auth, "serveraddress", json_string_lossy(server));
    return auth;
}

bool credentials_store(struct cli *cli, const char *server, const json_t *auth, GError **error)
{
    const char *helper = helper_for(cli, server);
    g_autoptr(json_t) nothing = json_object(); /* says that the helper has it */
    bool changed;
    if (helper)
        return helper_store(helper, server, auth, error) && file_store(cli, server, nothing, &changed, error);
    if (!file_store(cli, server, auth, &changed, error))
        return false;
    if (changed && *json_get_string(auth, "password", ""))
        print_error("\nWARNING! Your credentials are stored unencrypted in '%s/config.json'.\n"
                    "Configure a credential helper to remove this warning. See\n"
                    "https://docs.docker.com/go/credential-store/\n\n",
                    cli->config_directory);
    return true;
}

bool credentials_erase(struct cli *cli, const char *server, GError **error)
{
    const char *helper = helper_for(cli, server);
    g_autofree char *output = NULL;
    if (helper && !run_helper(helper, "erase", server, &output, error))
        return helper_failed("erasing", output, error);
    return file_erase(cli, server, error);
}

/* ---- headers of the API ---- */

static char *base64_url(const json_t *value)
{
    g_autofree char *text = json_text(value);
    char *encoded = g_base64_encode((guchar *)text, strlen(text));
    for (char *c = encoded; *c; c++)
        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
    return encoded;
}

/* A pull of what everybody may have must not fail because a keychain is locked. */
static json_t *get_or_warn(struct cli *cli, const char *server)
{
    g_autoptr(GError) problem = NULL;
    json_t *auth = credentials_get(cli, server, &problem);
    if (problem)
        print_error("WARNING: %s\n", problem->message);
    return auth ? auth : json_object();
}

static char *server_of_image(const char *image)
{
    g_autofree char *first = g_strndup(image, strcspn(image, "/"));
    bool is_host = strchr(image, '/') && (strpbrk(first, ".:") || strcmp(first, "localhost") == 0);
    return credentials_server(is_host ? first : "");
}

char *registry_auth_header(struct cli *cli, const char *image)
{
    g_autofree char *server = server_of_image(image);
    g_autoptr(json_t) auth = get_or_warn(cli, server);
    return base64_url(auth);
}

bool credentials_any(const struct cli *cli)
{
    const char *given = g_getenv(ENVIRONMENT);
    return (given && *given) || json_object_size(json_get_object(cli->config, "auths")) > 0 ||
           json_object_size(json_get_object(cli->config, "credHelpers")) > 0 || *json_get_string(cli->config, "credsStore", "");
}

char *registry_auths_header_of(struct cli *cli, const char *const *images, const char *but_image)
{
    g_autoptr(json_t) all = json_object();
    g_autofree char *but = server_of_image(but_image);
    for (; *images; images++) {
        g_autofree char *server = server_of_image(*images);
        if (strcmp(server, but) == 0 || json_object_get(all, server))
            continue;
        json_t *auth = credentials_get(cli, server, NULL); /* what cannot be had is not needed: the push goes on without */
        if (json_object_size(auth) > 0)
            json_object_set(all, server, auth);
        json_decref(auth);
    }
    return json_object_size(all) > 0 ? base64_url(all) : NULL;
}

/* All that the default helper lists, by the names it lists them under. */
static void add_listed(struct cli *cli, const char *helper, json_t *all)
{
    g_autofree char *output = NULL;
    g_autoptr(GError) problem = NULL;
    const char *server;
    json_t *user;
    bool ok = run_helper(helper, "list", "unused", &output, &problem);
    g_autoptr(json_t) list = ok ? json_parse(output, strlen(output), HELPER_OUTPUT_MAX, "credentials", &problem) : NULL;
    if (!list)
        print_error("WARNING: error listing credentials - err: %s, out: `%s`\n", problem->message, output);
    json_object_foreach(list, server, user) json_object_set_new(all, server, get_or_warn(cli, server));
}

char *registry_auths_header(struct cli *cli)
{
    g_autoptr(json_t) all = json_object();
    const char *server, *helper = helper_for(cli, "");
    json_t *entry;
    if (helper)
        add_listed(cli, helper, all);
    json_object_foreach(json_get_object(cli->config, "auths"), server, entry)
    {
        if (!helper)
            json_object_set_new(all, server, get_or_warn(cli, server));
    }
    json_object_foreach(json_get_object(cli->config, "credHelpers"), server, entry)
        json_object_set_new(all, server, get_or_warn(cli, server));
    return base64_url(all);
}
