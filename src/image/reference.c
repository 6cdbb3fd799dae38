#include "image/reference.h"

#include "base/digest.h"

#include <string.h>

#define DEFAULT_DOMAIN "docker.io"
#define OFFICIAL_PREFIX "library/"
#define NAME_MAX_LENGTH 255
#define TAG_MAX_LENGTH 128

void reference_clear(struct reference *reference)
{
    g_clear_pointer(&reference->domain, g_free);
    g_clear_pointer(&reference->path, g_free);
    g_clear_pointer(&reference->tag, g_free);
    g_clear_pointer(&reference->digest, g_free);
}

static bool is_small_alnum(char c)
{
    return g_ascii_islower(c) || g_ascii_isdigit(c);
}

/* path-component := [a-z0-9]+ ((\.|_|__|-+) [a-z0-9]+)* ; returns its end or NULL */
static const char *match_component(const char *at)
{
    if (!is_small_alnum(*at))
        return NULL;
    while (is_small_alnum(*at))
        at++;
    for (;;) {
        const char *separator = at;
        if (*at == '.')
            at++;
        else if (*at == '_')
            at += at[1] == '_' ? 2 : 1;
        else
            while (*at == '-')
                at++;
        if (at == separator || !is_small_alnum(*at))
            return separator;
        while (is_small_alnum(*at))
            at++;
    }
}

static bool is_path(const char *text)
{
    for (const char *at = text;;) {
        at = match_component(at);
        if (!at)
            return false;
        if (*at == '\0')
            return true;
        if (*at++ != '/')
            return false;
    }
}

/* domain-component := [a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9], joined by dots; or an IPv6 address in brackets; then a
 * port */
static bool is_domain(const char *text)
{
    const char *at = text;
    if (*at == '[') {
        at++;
        at += strspn(at, "0123456789abcdefABCDEF:");
        if (*at++ != ']')
            return false;
    } else {
        for (;;) {
            const char *start = at;
            while (g_ascii_isalnum(*at) || *at == '-')
                at++;
            if (at == start || *start == '-' || at[-1] == '-')
                return false;
            if (*at != '.')
                break;
            at++;
        }
    }
    if (*at == '\0')
        return true;
    return *at == ':' && at[1] && strspn(at + 1, "0123456789") == strlen(at + 1);
}

static bool is_tag(const char *text)
{
    size_t length = strlen(text);
    if (length == 0 || length > TAG_MAX_LENGTH || !(g_ascii_isalnum(*text) || *text == '_'))
        return false;
    for (const char *c = text; *c; c++)
        if (!g_ascii_isalnum(*c) && !strchr("_.-", *c))
            return false;
    return true;
}

static bool invalid(GError **error)
{
    return error_set(error, TARE_ERROR_INVALID, "invalid reference format");
}

/* Splits "name[:tag]" at the tag's colon: one behind the last slash. */
static void split_tag(char *name, char **ret_tag)
{
    char *slash = strrchr(name, '/');
    char *colon = strrchr(slash ? slash : name, ':');
    *ret_tag = NULL;
    if (!colon)
        return;
    *colon = '\0';
    *ret_tag = g_strdup(colon + 1);
}

/* The first component is a host where it looks like one, as distribution/reference decides it. */
static void split_domain(const char *name, char **ret_domain, char **ret_path)
{
    const char *slash = strchr(name, '/');
    g_autofree char *first = slash ? g_strndup(name, (gsize)(slash - name)) : NULL;
    bool has_capitals = false;
    for (const char *c = first; c && *c; c++)
        has_capitals |= g_ascii_isupper(*c);
    if (first && (strpbrk(first, ".:") || strcmp(first, "localhost") == 0 || has_capitals)) {
        *ret_domain = g_strdup(strcmp(first, "index.docker.io") == 0 ? DEFAULT_DOMAIN : first);
        *ret_path = g_strdup(slash + 1);
    } else {
        *ret_domain = g_strdup(DEFAULT_DOMAIN);
        *ret_path = g_strdup(name);
    }
    if (strcmp(*ret_domain, DEFAULT_DOMAIN) == 0 && !strchr(*ret_path, '/')) {
        char *official = g_strconcat(OFFICIAL_PREFIX, *ret_path, NULL);
        g_free(*ret_path);
        *ret_path = official;
    }
}

static bool validate(const struct reference *reference, GError **error)
{
    if (reference->tag && !is_tag(reference->tag))
        return invalid(error);
    if (reference->digest && !digest_is_valid(reference->digest))
        return invalid(error);
    g_autofree char *lower = g_ascii_strdown(reference->path, -1);
    if (strcmp(lower, reference->path) != 0 && is_path(lower))
        return error_set(error, TARE_ERROR_INVALID, "invalid reference format: repository name (%s) must be lowercase",
                         reference->path);
    if (!is_domain(reference->domain) || !is_path(reference->path))
        return invalid(error);
    if (strlen(reference->domain) + 1 + strlen(reference->path) > NAME_MAX_LENGTH)
        return error_set(error, TARE_ERROR_INVALID,
                         "invalid reference format: repository name must not be more than 255 characters");
    return true;
}

bool reference_parse(const char *text, struct reference *ret, GError **error)
{
    struct reference made = { 0 };
    if (strlen(text) > 4096 || *text == '\0')
        return invalid(error);
    if (strspn(text, "0123456789abcdef") == 64 && text[64] == '\0')
        return error_set(error, TARE_ERROR_INVALID, "invalid repository name (%s), cannot specify 64-byte hexadecimal strings",
                         text);
    const char *at = strchr(text, '@');
    g_autofree char *name = at ? g_strndup(text, (gsize)(at - text)) : g_strdup(text);
    if (at)
        made.digest = g_strdup(at + 1);
    split_tag(name, &made.tag);
    split_domain(name, &made.domain, &made.path);
    if (!validate(&made, error)) {
        reference_clear(&made);
        return false;
    }
    *ret = made;
    return true;
}

char *reference_familiar_name(const struct reference *reference)
{
    if (strcmp(reference->domain, DEFAULT_DOMAIN) != 0)
        return g_strconcat(reference->domain, "/", reference->path, NULL);
    const char *path = reference->path;
    if (g_str_has_prefix(path, OFFICIAL_PREFIX) && !strchr(path + strlen(OFFICIAL_PREFIX), '/'))
        path += strlen(OFFICIAL_PREFIX);
    return g_strdup(path);
}

static char *with_suffix(char *name, const struct reference *reference)
{
    g_autofree char *base = name;
    return g_strconcat(base, reference->tag ? ":" : "", reference->tag ? reference->tag : "", reference->digest ? "@" : "",
                       reference->digest ? reference->digest : "", NULL);
}

char *reference_familiar(const struct reference *reference)
{
    return with_suffix(reference_familiar_name(reference), reference);
}

char *reference_familiar_text(const char *text)
{
    struct reference reference;
    if (g_str_has_prefix(text, DIGEST_PREFIX) || !reference_parse(text, &reference, NULL))
        return g_strdup(text);
    char *familiar = reference_familiar(&reference);
    reference_clear(&reference);
    return familiar;
}

char *reference_canonical(const struct reference *reference)
{
    return with_suffix(g_strconcat(reference->domain, "/", reference->path, NULL), reference);
}

bool reference_default_tag(struct reference *reference)
{
    if (reference->tag || reference->digest)
        return false;
    reference->tag = g_strdup("latest");
    return true;
}

bool reference_may_be_id(const char *text)
{
    if (g_str_has_prefix(text, DIGEST_PREFIX))
        text += strlen(DIGEST_PREFIX);
    size_t length = strlen(text);
    return length > 0 && length <= DIGEST_HEX_LENGTH && strspn(text, "0123456789abcdef") == length;
}
