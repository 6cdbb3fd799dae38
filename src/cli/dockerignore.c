/* .dockerignore: the patterns of moby's patternmatcher, compiled to tokens and matched by walking all possibilities at once, so
 * that no pattern is slow. */
#include "cli/build-internal.h"

#include <string.h>

enum token_kind { TOKEN_CHAR, TOKEN_ONE, TOKEN_STAR, TOKEN_ANY, TOKEN_DIRECTORIES, TOKEN_CLASS };

struct token {
    enum token_kind kind;
    gunichar c;
    char *class; /* between the brackets */
};

enum match_kind { MATCH_EXACT, MATCH_PREFIX, MATCH_SUFFIX, MATCH_TOKENS };

struct pattern {
    char *text;
    bool exclusion; /* "!": lets in again */
    enum match_kind kind;
    GArray *tokens;
};

struct ignore {
    GPtrArray *patterns;
};

char *path_clean(const char *path)
{
    bool rooted = *path == '/';
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    g_autoptr(GPtrArray) kept = g_ptr_array_new();
    for (char **part = parts; *part; part++) {
        const char *last = kept->len ? kept->pdata[kept->len - 1] : NULL;
        if (!**part || strcmp(*part, ".") == 0)
            continue;
        if (strcmp(*part, "..") != 0 || (!rooted && (!last || strcmp(last, "..") == 0)))
            g_ptr_array_add(kept, *part);
        else if (last)
            g_ptr_array_set_size(kept, (gint)kept->len - 1);
    }
    g_ptr_array_add(kept, NULL);
    g_autofree char *joined = g_strjoinv("/", (char **)kept->pdata);
    if (rooted)
        return g_strconcat("/", joined, NULL);
    return *joined ? g_steal_pointer(&joined) : g_strdup(".");
}

GPtrArray *ignore_read(const char *text, gsize length)
{
    GPtrArray *patterns = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *copy = g_strndup(text, length);
    const char *start = g_str_has_prefix(copy, "\xef\xbb\xbf") ? copy + 3 : copy;
    g_auto(GStrv) lines = g_strsplit(start, "\n", -1);
    for (char **line = lines; *line && patterns->len < IGNORE_PATTERNS_MAX; line++) {
        if (**line == '#')
            continue;
        char *pattern = g_strstrip(*line);
        bool exclusion = *pattern == '!';
        if (exclusion)
            pattern = g_strstrip(pattern + 1);
        if (!*pattern && !exclusion)
            continue;
        g_autofree char *clean = *pattern ? path_clean(pattern) : g_strdup("");
        const char *relative = clean[0] == '/' && clean[1] ? clean + 1 : clean;
        g_ptr_array_add(patterns, g_strconcat(exclusion ? "!" : "", relative, NULL));
    }
    return patterns;
}

/* The character at text and the bytes it takes; a byte that is no UTF-8 stands for itself. */
static gunichar char_at(const char *text, gsize *ret_bytes)
{
    gunichar c = g_utf8_get_char_validated(text, -1);
    bool valid = c != (gunichar)-1 && c != (gunichar)-2;
    *ret_bytes = valid ? (gsize)(g_utf8_next_char(text) - text) : 1;
    return valid ? c : (unsigned char)*text;
}

/* Go's filepath.Match refuses what it cannot read. */
static bool syntax_is_right(const char *pattern)
{
    for (const char *c = pattern; *c; c++) {
        if (*c == '\\') {
            if (!*++c)
                return false;
        } else if (*c == '[') {
            c++;
            if (*c == '^')
                c++;
            for (guint n = 0; n == 0 || *c != ']'; n++) {
                for (guint half = 0; half < 2; half++) {
                    if (*c == '\\')
                        c++;
                    if (!*c || *c == '-' || (*c == ']' && c[-1] != '\\'))
                        return false;
                    gsize n_bytes;
                    char_at(c, &n_bytes);
                    c += n_bytes;
                    if (*c != '-')
                        break;
                    if (half == 0)
                        c++;
                }
                if (!*c)
                    return false;
            }
        }
    }
    return true;
}

static void token_clear(gpointer data)
{
    g_free(((struct token *)data)->class);
}

static void add_token(struct pattern *pattern, enum token_kind kind, gunichar c)
{
    struct token token = { kind, c, NULL };
    g_array_append_val(pattern->tokens, token);
}

static const char *compile_stars(struct pattern *pattern, const char *c, bool first)
{
    if (c[1] != '*') {
        add_token(pattern, TOKEN_STAR, 0);
        pattern->kind = MATCH_TOKENS;
        return c + 1;
    }
    c += 2;
    if (*c == '/')
        c++;
    if (!*c && pattern->kind == MATCH_EXACT) {
        pattern->kind = MATCH_PREFIX;
    } else {
        add_token(pattern, *c ? TOKEN_DIRECTORIES : TOKEN_ANY, 0);
        pattern->kind = MATCH_TOKENS;
    }
    if (first)
        pattern->kind = MATCH_SUFFIX;
    return c;
}

static const char *compile_class(struct pattern *pattern, const char *c)
{
    const char *end = c + 1;
    if (*end == '^')
        end++;
    while (*end && *end != ']')
        end += *end == '\\' && end[1] ? 2 : 1;
    struct token token = { TOKEN_CLASS, 0, g_strndup(c + 1, (gsize)(end - c - 1)) };
    g_array_append_val(pattern->tokens, token);
    pattern->kind = MATCH_TOKENS;
    return *end ? end + 1 : end;
}

static void compile(struct pattern *pattern)
{
    const char *c = pattern->text;
    while (*c) {
        if (*c == '*') {
            c = compile_stars(pattern, c, c == pattern->text);
        } else if (*c == '?') {
            add_token(pattern, TOKEN_ONE, 0);
            pattern->kind = MATCH_TOKENS;
            c++;
        } else if (*c == '[') {
            c = compile_class(pattern, c);
        } else {
            if (*c == '\\' && c[1]) {
                c++;
                pattern->kind = MATCH_TOKENS;
            }
            add_token(pattern, TOKEN_CHAR, (unsigned char)*c);
            c++;
        }
    }
}

static void pattern_free(gpointer data)
{
    struct pattern *pattern = data;
    g_free(pattern->text);
    g_array_unref(pattern->tokens);
    g_free(pattern);
}

struct ignore *ignore_new(const GPtrArray *patterns, GError **error)
{
    struct ignore *ignore = g_new0(struct ignore, 1);
    ignore->patterns = g_ptr_array_new_with_free_func(pattern_free);
    for (guint i = 0; i < patterns->len; i++) {
        g_autofree char *trimmed = g_strstrip(g_strdup(patterns->pdata[i])), *clean = *trimmed ? path_clean(trimmed) : NULL;
        if (!clean)
            continue;
        bool exclusion = *clean == '!';
        const char *problem = exclusion && !clean[1]                ? "illegal exclusion pattern: \"!\""
                              : !syntax_is_right(clean + exclusion) ? "syntax error in pattern"
                                                                    : NULL;
        if (problem) {
            ignore_free(ignore);
            error_set(error, TARE_ERROR_INVALID, "%s", problem);
            return NULL;
        }
        struct pattern *pattern = g_new0(struct pattern, 1);
        pattern->text = g_strdup(clean + exclusion);
        pattern->exclusion = exclusion;
        pattern->tokens = g_array_new(FALSE, FALSE, sizeof(struct token));
        g_array_set_clear_func(pattern->tokens, token_clear);
        compile(pattern);
        g_ptr_array_add(ignore->patterns, pattern);
    }
    return ignore;
}

void ignore_free(struct ignore *ignore)
{
    if (!ignore)
        return;
    g_ptr_array_unref(ignore->patterns);
    g_free(ignore);
}

static bool in_class(const char *class, gunichar wanted)
{
    bool negated = *class == '^', found = false;
    for (const char *c = class + negated; *c;) {
        gsize n;
        if (*c == '\\' && c[1])
            c++;
        gunichar low = char_at(c, &n), high = low;
        c += n;
        if (*c == '-' && c[1]) {
            c++;
            if (*c == '\\' && c[1])
                c++;
            high = char_at(c, &n);
            c += n;
        }
        found = found || (wanted >= low && wanted <= high);
    }
    return found != negated;
}

/* What can be reached in the path by one token from each place in from. */
static void step(const struct token *token, const char *path, gsize length, const bool *from, bool *to)
{
    memset(to, 0, length + 1);
    bool open = false; /* for tokens that run on */
    for (gsize i = 0; i <= length; i++) {
        gsize n = 1;
        gunichar c = i < length ? char_at(path + i, &n) : 0;
        switch (token->kind) {
        case TOKEN_CHAR: /* bytes: the pattern's characters were taken byte by byte */
            if (from[i] && i < length && (unsigned char)path[i] == token->c)
                to[i + 1] = true;
            break;
        case TOKEN_ONE:
            if (from[i] && i < length && c != '/')
                to[i + n] = true;
            break;
        case TOKEN_CLASS:
            if (from[i] && i < length && in_class(token->class, c))
                to[i + n] = true;
            break;
        case TOKEN_STAR:
            open = open || from[i];
            to[i] = to[i] || open;
            open = open && i < length && path[i] != '/';
            break;
        case TOKEN_ANY:
            open = open || from[i];
            to[i] = open;
            break;
        default: /* nothing, or anything that ends with a slash */
            to[i] = from[i] || (open && path[i - 1] == '/');
            open = open || from[i];
        }
    }
}

static bool match_tokens(const struct pattern *pattern, const char *path, gsize length)
{
    g_autofree bool *from = g_new0(bool, length + 1), *to = g_new0(bool, length + 1);
    from[0] = true;
    for (guint i = 0; i < pattern->tokens->len; i++) {
        step(&g_array_index(pattern->tokens, struct token, i), path, length, from, to);
        bool *swap = from;
        from = to;
        to = swap;
    }
    return from[length];
}

static bool pattern_matches(const struct pattern *pattern, const char *path, gsize length)
{
    const char *text = pattern->text;
    gsize n = strlen(text);
    switch (pattern->kind) {
    case MATCH_EXACT:
        return n == length && memcmp(text, path, n) == 0;
    case MATCH_PREFIX:
        n -= 2;
        return length >= n && memcmp(path, text, n) == 0;
    case MATCH_SUFFIX:
        text += 2;
        n -= 2;
        if (length >= n && memcmp(path + length - n, text, n) == 0)
            return true;
        return *text == '/' && n - 1 == length && memcmp(text + 1, path, length) == 0;
    default:
        return match_tokens(pattern, path, length);
    }
}

/* The path or one of its parents. */
static bool matches_somewhere(const struct pattern *pattern, const char *path)
{
    gsize length = strlen(path);
    if (pattern_matches(pattern, path, length))
        return true;
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/'))
        if (pattern_matches(pattern, path, (gsize)(slash - path)))
            return true;
    return false;
}

bool ignore_matches(const struct ignore *ignore, const char *path)
{
    bool matched = false;
    for (guint i = 0; i < ignore->patterns->len; i++) {
        const struct pattern *pattern = ignore->patterns->pdata[i];
        if (pattern->exclusion == matched && matches_somewhere(pattern, path))
            matched = !pattern->exclusion;
    }
    return matched;
}

bool ignore_may_hold(const struct ignore *ignore, const char *directory)
{
    gsize length = strlen(directory);
    for (guint i = 0; i < ignore->patterns->len; i++) {
        const struct pattern *pattern = ignore->patterns->pdata[i];
        if (pattern->exclusion && strncmp(pattern->text, directory, length) == 0 &&
            (pattern->text[length] == '/' || !pattern->text[length]))
            return true;
    }
    return false;
}
