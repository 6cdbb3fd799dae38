/* ~/.docker/config.json: shared with other clients, so that log-ins and contexts made by one are known to the other. */
#include "cli/cli-internal.h"

#include "base/fd.h"
#include "base/file.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_MAX (4u << 20)
#define HUB_SERVER "https://index.docker.io/v1/"

json_t *config_file_load(const char *directory, GError **error)
{
    g_autofree char *path = g_build_filename(directory, "config.json", NULL), *text = NULL;
    size_t length;
    g_autoptr(GError) problem = NULL;
    if (!file_read(AT_FDCWD, path, CONFIG_MAX, &text, &length, &problem))
        return json_object();
    json_t *config = json_parse(text, length, CONFIG_MAX, path, error);
    if (config && !json_is_object(config)) {
        json_decref(config);
        error_set(error, TARE_ERROR_INVALID, "%s: not an object", path);
        return NULL;
    }
    return config;
}

bool config_file_save(const char *directory, const json_t *config, GError **error)
{
    g_autofd int dirfd = dir_make_path(directory, 0700, error);
    char *text = dirfd >= 0 ? json_dumps(config, JSON_INDENT(8)) : NULL; /* as wide as the tab that docker writes */
    bool ok = text && file_write(dirfd, "config.json", text, strlen(text), 0600, true, error);
    free(text);
    return ok;
}

/* The registry that an image's name stands for, as config.json names it. */
static char *registry_of(const char *image)
{
    g_autofree char *first = g_strndup(image, strcspn(image, "/"));
    bool is_host = strchr(image, '/') && (strpbrk(first, ".:") || strcmp(first, "localhost") == 0);
    if (!is_host || strcmp(first, "docker.io") == 0 || strcmp(first, "index.docker.io") == 0)
        return g_strdup(HUB_SERVER);
    return g_steal_pointer(&first);
}

/* An entry of "auths" as the API wants it: user name and password apart. New reference. */
static json_t *decode_auth(const char *server, const json_t *entry)
{
    json_t *auth = json_object();
    gsize length = 0;
    const char *encoded = json_get_string(entry, "auth", "");
    g_autofree guchar *pair = g_base64_decode(encoded, &length);
    g_autofree char *text = g_strndup((char *)pair, length);
    char *colon = strchr(text, ':');
    if (colon) {
        *colon = '\0';
        json_object_set_new(auth, "username", json_string_lossy(text));
        json_object_set_new(auth, "password", json_string_lossy(colon + 1));
    }
    json_object_set_new(auth, "serveraddress", json_string_lossy(server));
    const char *token = json_get_string(entry, "identitytoken", NULL);
    if (token)
        json_object_set_new(auth, "identitytoken", json_string(token));
    return auth;
}

static char *base64_url(const json_t *value)
{
    g_autofree char *text = json_text(value);
    char *encoded = g_base64_encode((guchar *)text, strlen(text));
    for (char *c = encoded; *c; c++)
        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
    return encoded;
}

char *registry_auth_header(const json_t *config, const char *image)
{
    g_autofree char *server = registry_of(image);
    const json_t *entry = json_object_get(json_get_object(config, "auths"), server);
    g_autoptr(json_t) auth = entry ? decode_auth(server, entry) : json_object();
    return base64_url(auth);
}

char *registry_auths_header(const json_t *config)
{
    g_autoptr(json_t) all = json_object();
    const char *server;
    json_t *entry, *auths = json_get_object(config, "auths");
    json_object_foreach(auths, server, entry) json_object_set_new(all, server, decode_auth(server, entry));
    return base64_url(all);
}
