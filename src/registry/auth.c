/* Credentials as clients send them, and the challenges that servers answer with (RFC 7235). Pure. */
#include "registry/registry-internal.h"

#include <string.h>

#define AUTH_MAX (256u << 10)
#define HUB_KEY "https://index.docker.io/v1/"

void registry_auth_clear(struct registry_auth *auth)
{
    g_clear_pointer(&auth->username, g_free);
    g_clear_pointer(&auth->password, g_free);
    g_clear_pointer(&auth->identity_token, g_free);
    g_clear_pointer(&auth->registry_token, g_free);
    g_clear_pointer(&auth->server_address, g_free);
}

static char *take_text(const json_t *object, const char *key)
{
    const json_t *value = json_get_folded(object, key);
    const char *text = json_is_string(value) ? json_string_value(value) : NULL;
    return text && *text ? g_strdup(text) : NULL;
}

void registry_auth_from_json(const json_t *object, struct registry_auth *ret)
{
    *ret = (struct registry_auth){
        .username = take_text(object, "username"),
        .password = take_text(object, "password"),
        .identity_token = take_text(object, "identitytoken"),
        .registry_token = take_text(object, "registrytoken"),
        .server_address = take_text(object, "serveraddress"),
    };
    /* "auth" is how the client's configuration file has them: base64 of user:password. */
    g_autofree char *both = ret->username ? NULL : take_text(object, "auth");
    gsize length = 0;
    g_autofree guchar *decoded = both ? g_base64_decode(both, &length) : NULL;
    char *colon = decoded ? memchr(decoded, ':', length) : NULL;
    if (!colon)
        return;
    ret->username = g_strndup((char *)decoded, (gsize)(colon - (char *)decoded));
    g_free(ret->password);
    ret->password = g_strndup(colon + 1, length - (gsize)(colon + 1 - (char *)decoded));
}

/* Both alphabets of base64, with and without padding, since clients send each of them. */
static char *decode_header(const char *header, gsize *ret_length)
{
    g_autoptr(GString) text = g_string_new(header);
    for (gsize i = 0; i < text->len; i++)
        if (text->str[i] == '-')
            text->str[i] = '+';
        else if (text->str[i] == '_')
            text->str[i] = '/';
        else if (text->str[i] == '=' || !(g_ascii_isalnum(text->str[i]) || text->str[i] == '+' || text->str[i] == '/'))
            g_string_truncate(text, i);
    while (text->len % 4 != 0)
        g_string_append_c(text, '=');
    return (char *)g_base64_decode(text->str, ret_length);
}

/* *ret is NULL where there is none. */
static bool parse_header(const char *header, const char *what, json_t **ret, GError **error)
{
    gsize length = 0;
    *ret = NULL;
    if (!header || !*header)
        return true;
    if (strlen(header) > AUTH_MAX)
        return error_set(error, TARE_ERROR_INVALID, "%s is too long", what);
    g_autofree char *text = decode_header(header, &length);
    g_autoptr(json_t) object = json_parse(text, length, AUTH_MAX, what, error);
    if (!object)
        return false;
    if (!json_is_object(object))
        return error_set(error, TARE_ERROR_INVALID, "%s: it is not an object", what);
    *ret = g_steal_pointer(&object);
    return true;
}

bool registry_auth_parse(const char *header, bool strict, struct registry_auth *ret, GError **error)
{
    g_autoptr(json_t) object = NULL;
    *ret = (struct registry_auth){ 0 };
    if (!parse_header(header, "invalid X-Registry-Auth header", &object, strict ? error : NULL))
        return !strict;
    if (object)
        registry_auth_from_json(object, ret);
    return true;
}

json_t *registry_auths_parse(const char *header)
{
    json_t *object = NULL;
    return parse_header(header, "invalid X-Registry-Config header", &object, NULL) ? object : NULL;
}

void registry_auth_find(const json_t *by_host, const char *domain, struct registry_auth *ret)
{
    static const char *const hub_names[] = { HUB_KEY, "index.docker.io", "docker.io", "registry-1.docker.io", NULL };
    *ret = (struct registry_auth){ 0 };
    const char *const own[] = { domain, NULL };
    for (const char *const *name = strcmp(domain, "docker.io") == 0 ? hub_names : own; *name; name++) {
        json_t *entry = json_get_object(by_host, *name);
        if (entry) {
            registry_auth_from_json(entry, ret);
            return;
        }
    }
    const char *key;
    json_t *entry;
    json_object_foreach((json_t *)by_host, key, entry)
    {
        const char *host = strstr(key, "://") ? strstr(key, "://") + 3 : key;
        gsize length = strcspn(host, "/");
        if (json_is_object(entry) && strlen(domain) == length && strncmp(host, domain, length) == 0) {
            registry_auth_from_json(entry, ret);
            return;
        }
    }
}

/* ---- challenges ---- */

void challenge_clear(struct challenge *challenge)
{
    g_clear_pointer(&challenge->realm, g_free);
    g_clear_pointer(&challenge->service, g_free);
    g_clear_pointer(&challenge->scope, g_free);
    g_clear_pointer(&challenge->problem, g_free);
    challenge->scheme = AUTH_NONE;
}

static bool is_token_char(char c)
{
    return g_ascii_isalnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static const char *skip_blanks(const char *at)
{
    return at + strspn(at, " \t,");
}

/* name=value or name="quoted value"; NULL where at is none. */
static const char *parse_parameter(const char *at, char **ret_name, char **ret_value)
{
    const char *start = at;
    while (is_token_char(*at))
        at++;
    const char *end = at;
    at += strspn(at, " \t");
    if (end == start || *at != '=')
        return NULL;
    at++;
    at += strspn(at, " \t");
    g_autoptr(GString) value = g_string_new(NULL);
    if (*at == '"') {
        for (at++; *at && *at != '"'; at++) {
            if (*at == '\\' && at[1])
                at++;
            g_string_append_c(value, *at);
        }
        if (*at != '"')
            return NULL;
        at++;
    } else {
        while (is_token_char(*at) || (*at && strchr("/:=", *at)))
            g_string_append_c(value, *at++);
    }
    *ret_name = g_ascii_strdown(start, end - start);
    *ret_value = g_strdup(value->str);
    return at;
}

static void take_parameter(struct challenge *challenge, const char *name, char *value)
{
    char **field = strcmp(name, "realm") == 0     ? &challenge->realm
                   : strcmp(name, "service") == 0 ? &challenge->service
                   : strcmp(name, "scope") == 0   ? &challenge->scope
                   : strcmp(name, "error") == 0   ? &challenge->problem
                                                  : NULL;
    if (!field) {
        g_free(value);
        return;
    }
    g_free(*field);
    *field = value;
}

static void keep_better(struct challenge *best, struct challenge *other)
{
    bool usable = other->scheme == AUTH_BASIC || (other->scheme == AUTH_BEARER && other->realm);
    if (usable && other->scheme > best->scheme) {
        challenge_clear(best);
        *best = *other;
        *other = (struct challenge){ 0 };
    }
    challenge_clear(other);
}

void challenge_parse(const char *header, struct challenge *ret)
{
    struct challenge best = { 0 }, current = { 0 };
    const char *at = skip_blanks(header);
    while (*at) {
        char *name = NULL, *value = NULL;
        const char *after = parse_parameter(at, &name, &value);
        if (after) {
            take_parameter(&current, name, value);
            g_free(name);
            at = skip_blanks(after);
            continue;
        }
        gsize length = 0;
        while (is_token_char(at[length]))
            length++;
        keep_better(&best, &current);
        if (length == 6 && g_ascii_strncasecmp(at, "bearer", 6) == 0)
            current.scheme = AUTH_BEARER;
        else if (length == 5 && g_ascii_strncasecmp(at, "basic", 5) == 0)
            current.scheme = AUTH_BASIC;
        if (length == 0)
            break; /* not of this grammar: what came before counts */
        at = skip_blanks(at + length);
    }
    keep_better(&best, &current);
    *ret = best;
}

/* ---- errors ---- */

char *registry_error_text(const char *body, gsize length, char **ret_code)
{
    g_autoptr(json_t) object = json_parse(body, length, 1u << 20, "errors", NULL);
    const json_t *first = json_array_get(json_get_array(object, "errors"), 0);
    const char *code = json_get_string(first, "code", NULL), *message = json_get_string(first, "message", NULL);
    if (ret_code)
        *ret_code = NULL;
    if (!code || !*code) {
        const char *details = json_get_string(object, "details", json_get_string(object, "message", NULL));
        return details && *details ? g_strdup(details) : NULL;
    }
    g_autofree char *small = g_ascii_strdown(code, -1);
    g_strdelimit(small, "_", ' ');
    if (ret_code)
        *ret_code = g_strdup(code);
    char *text = message && *message ? g_strconcat(small, ": ", message, NULL) : g_strdup(small);
    /* It goes to a terminal, and was written by a stranger. */
    for (char *c = text; *c; c++)
        if (g_ascii_iscntrl(*c))
            *c = ' ';
    if (strlen(text) > 2048)
        text[2048] = '\0';
    return text;
}
