/* Names of images as the client needs them: taken apart, and checked by the grammar, so that mistakes are said before anything is
 * sent. */
#include "cli/cli-internal.h"

#include <string.h>

#define NAME_MAX_LENGTH 255

void image_name_clear(struct image_name *name)
{
    g_clear_pointer(&name->name, g_free);
    g_clear_pointer(&name->tag, g_free);
    g_clear_pointer(&name->digest, g_free);
}

static bool all_of(const char *text, const char *allowed)
{
    return strspn(text, allowed) == strlen(text);
}

#define LOWER "abcdefghijklmnopqrstuvwxyz0123456789"
#define ANY LOWER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

static bool tag_is_valid(const char *tag)
{
    size_t length = strlen(tag);
    return length > 0 && length <= 128 && all_of(tag, ANY "_.-") && tag[0] != '.' && tag[0] != '-';
}

/* [a-z0-9]+ with single ".", "_", "__" or dashes between. */
static bool component_is_valid(const char *text)
{
    size_t length = strlen(text);
    if (length == 0 || !all_of(text, LOWER "._-") || strchr("._-", text[0]) || strchr("._-", text[length - 1]))
        return false;
    for (const char *c = text; *c;) {
        size_t separators = strspn(c, "._-");
        if (separators > 0) {
            bool dashes = strspn(c, "-") == separators;
            bool one = separators == 1, two = separators == 2 && c[0] == '_' && c[1] == '_';
            if (!dashes && !one && !two)
                return false;
        }
        c += separators ? separators : 1;
    }
    return true;
}

static bool is_domain(const char *text)
{
    return strpbrk(text, ".:") || strcmp(text, "localhost") == 0 || strpbrk(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

static bool label_is_valid(const char *text)
{
    size_t length = strlen(text);
    return length > 0 && all_of(text, ANY "-") && text[0] != '-' && text[length - 1] != '-';
}

/* Labels with dots between, or an IPv6 address in brackets; then a port, perhaps. */
static bool domain_is_valid(const char *text)
{
    const char *bracket = *text == '[' ? strchr(text, ']') : NULL, *port = strchr(bracket ? bracket : text, ':');
    g_autofree char *host = g_strndup(text, port ? (gsize)(port - text) : strlen(text));
    if (port && (!port[1] || !all_of(port + 1, "0123456789")))
        return false;
    if (*text == '[')
        return bracket && strspn(host + 1, "0123456789abcdefABCDEF:") + 2 == strlen(host);
    g_auto(GStrv) labels = g_strsplit(host, ".", -1);
    for (char **label = labels; *label; label++)
        if (!label_is_valid(*label))
            return false;
    return *labels != NULL;
}

static bool check_path(const char *path, bool familiar, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    g_autofree char *lower = g_ascii_strdown(path, -1);
    for (char **part = parts; *part; part++) {
        if (component_is_valid(*part))
            continue;
        g_auto(GStrv) lower_parts = g_strsplit(lower, "/", -1);
        bool only_case = true;
        for (char **l = lower_parts; *l; l++)
            only_case = only_case && component_is_valid(*l);
        if (only_case)
            return error_set(error, TARE_ERROR_INVALID, "invalid reference format: repository name (%s%s) must be lowercase",
                             familiar && !strchr(path, '/') ? "library/" : "", path);
        return error_set(error, TARE_ERROR_INVALID, "invalid reference format");
    }
    return true;
}

bool image_name_parse(const char *text, struct image_name *ret, GError **error)
{
    g_autofree char *name = g_strdup(text);
    char *digest = strchr(name, '@'), *slash, *colon;
    if (digest)
        *digest++ = '\0';
    slash = strrchr(name, '/');
    colon = strrchr(slash ? slash : name, ':');
    if (colon)
        *colon++ = '\0';
    if (!*name || (colon && !tag_is_valid(colon)) || (digest && (!strchr(digest, ':') || strlen(strchr(digest, ':')) < 33)))
        return error_set(error, TARE_ERROR_INVALID, "invalid reference format");
    if (!colon && !digest && strlen(name) == 64 && all_of(name, "0123456789abcdef"))
        return error_set(error, TARE_ERROR_INVALID, "invalid repository name (%s), cannot specify 64-byte hexadecimal strings",
                         name);
    char *first = strchr(name, '/');
    const char *path = name;
    bool familiar = true;
    if (first) {
        *first = '\0';
        familiar = !is_domain(name);
        if (!familiar && !domain_is_valid(name))
            return error_set(error, TARE_ERROR_INVALID, "invalid reference format");
        if (!familiar)
            path = first + 1;
        *first = '/';
    }
    if (strlen(path) > NAME_MAX_LENGTH)
        return error_set(error, TARE_ERROR_INVALID,
                         "invalid reference format: repository name must not be more than %d characters", NAME_MAX_LENGTH);
    if (!check_path(path, familiar, error))
        return false;
    const char *shown = name;
    static const char *const hub[] = { "docker.io/", "index.docker.io/" };
    for (size_t i = 0; i < G_N_ELEMENTS(hub); i++)
        if (g_str_has_prefix(shown, hub[i]))
            shown += strlen(hub[i]);
    if (shown != name || familiar)
        shown += g_str_has_prefix(shown, "library/") && !strchr(shown + 8, '/') ? 8 : 0;
    *ret = (struct image_name){ g_strdup(shown), g_strdup(colon), g_strdup(digest) };
    return true;
}

char *image_name_canonical(const struct image_name *name)
{
    g_autofree char *first = g_strndup(name->name, strcspn(name->name, "/"));
    bool has_host = strchr(name->name, '/') && (strpbrk(first, ".:") || strcmp(first, "localhost") == 0);
    const char *prefix = has_host ? "" : strchr(name->name, '/') ? "docker.io/" : "docker.io/library/";
    return g_strconcat(prefix, name->name, name->tag ? ":" : "", name->tag ? name->tag : "", name->digest ? "@" : "",
                       name->digest ? name->digest : "", NULL);
}
