/* Wildcards of COPY's sources (Go's filepath.Match) and the rules of .dockerignore. Pure. */
#include "build/build-internal.h"

#include <string.h>

/* One character, by bytes where it is no UTF-8. */
static gunichar take(const char **at)
{
    gunichar c = g_utf8_get_char_validated(*at, -1);

    if (c == (gunichar)-1 || c == (gunichar)-2)
        return (guchar) * (*at)++;
    *at = g_utf8_next_char(*at);
    return c;
}

/* A bound of a class; false when the pattern is malformed there. */
static bool take_bound(const char **at, gunichar *ret)
{
    if (!**at || **at == '-' || **at == ']')
        return false;
    if (**at == '\\' && !*++*at)
        return false;
    *ret = take(at);
    return **at != '\0';
}

/* At the character after "[": 1, 0 for c in the class or not, -1 malformed. */
static int match_class(const char **pattern, gunichar c)
{
    bool negated = **pattern == '^', found = false;
    int ranges = 0;

    if (negated)
        (*pattern)++;
    for (;; ranges++) {
        gunichar low, high;

        if (**pattern == ']' && ranges > 0) {
            (*pattern)++;
            return found != negated;
        }
        if (!take_bound(pattern, &low))
            return -1;
        high = low;
        if (**pattern == '-') {
            (*pattern)++;
            if (!take_bound(pattern, &high))
                return -1;
        }
        found = found || (low <= c && c <= high);
    }
}

/* Is what is left of a pattern well formed? */
static bool is_well_formed(const char *pattern)
{
    while (*pattern) {
        if (*pattern == '\\') {
            if (!*++pattern)
                return false;
            take(&pattern);
        } else if (*pattern++ == '[' && match_class(&pattern, 'a') < 0) {
            return false;
        }
    }
    return true;
}

/* One element of the pattern that is no star against one character of the name. 1, 0, -1. */
static int match_one(const char **pattern, const char **name)
{
    gunichar c;

    if (!**name)
        return 0;
    switch (**pattern) {
    case '[':
        (*pattern)++;
        return match_class(pattern, take(name));
    case '?':
        (*pattern)++;
        return take(name) != '/';
    case '\\':
        if (!*++*pattern)
            return -1;
        G_GNUC_FALLTHROUGH;
    default:
        c = take(pattern);
        return take(name) == c;
    }
}

int copy_match(const char *pattern, const char *name)
{
    const char *star = NULL, *star_name = NULL;

    if (!is_well_formed(pattern))
        return -1;
    while (*pattern || *name) {
        int matched = 0;

        if (*pattern == '*') {
            star = ++pattern;
            star_name = name;
            continue;
        }
        if (*pattern)
            matched = match_one(&pattern, &name);
        if (matched < 0)
            return -1;
        if (matched)
            continue;
        /* The last star takes one character more, but no slash. */
        if (!star || !*star_name || *star_name == '/')
            return 0;
        take(&star_name);
        name = star_name;
        pattern = star;
    }
    return 1;
}

bool copy_has_wildcards(const char *pattern)
{
    for (; *pattern; pattern++) {
        if (*pattern == '\\') {
            if (!*++pattern)
                return false;
        } else if (strchr("*?[", *pattern)) {
            return true;
        }
    }
    return false;
}

/* ---- .dockerignore ---- */

/* A rule's components against a path's; "**" stands for any number of them. The number of "**" is bounded by the caller. */
static bool match_components(char **rule, char **path)
{
    for (; *rule; rule++, path++) {
        if (g_str_equal(*rule, "**")) {
            for (;; path++) {
                if (match_components(rule + 1, path))
                    return true;
                if (!*path)
                    return false;
            }
        }
        if (!*path || copy_match(*rule, *path) != 1)
            return false;
    }
    return !*path;
}

static bool rule_covers(const char *rule, char **path)
{
    g_auto(GStrv) components = g_strsplit(rule, "/", -1);
    guint n = g_strv_length(path), stars = 0;

    for (char **component = components; *component; component++)
        stars += g_str_equal(*component, "**");
    if (stars > 4)
        return false;
    for (guint length = n; length > 0; length--) {
        char *rest = path[length];
        bool matched;

        path[length] = NULL;
        matched = match_components(components, path);
        path[length] = rest;
        if (matched)
            return true;
    }
    return false;
}

bool copy_match_covers(const char *pattern, const char *path)
{
    g_auto(GStrv) components = g_strsplit(path, "/", -1);

    return rule_covers(pattern, components);
}

bool dockerignore_excludes(const char *rules, const char *path)
{
    g_auto(GStrv) lines = g_strsplit(rules, "\n", -1);
    g_auto(GStrv) components = g_strsplit(path, "/", -1);
    bool excluded = false;

    if (lines[0] && g_str_has_prefix(lines[0], "\xef\xbb\xbf"))
        memmove(lines[0], lines[0] + 3, strlen(lines[0] + 3) + 1);
    for (char **line = lines; *line; line++) {
        bool comment = **line == '#', exception;
        char *rule = g_strstrip(*line);
        g_autofree char *clean = NULL;

        exception = *rule == '!';
        if (exception)
            rule = g_strchug(rule + 1);
        if (comment || !*rule || exception != excluded)
            continue;
        clean = go_clean_path(rule);
        if (rule_covers(clean[0] == '/' ? clean + 1 : clean, components))
            excluded = !exception;
    }
    return excluded;
}
