/* Physical lines of a Dockerfile → logical ones: byte-order mark, parser directives, comments, continuations. */
#include "build/build-internal.h"

#include <string.h>

struct lexer {
    const char *at, *end;
    unsigned line; /* of the last line taken */
    char escape;
    bool directives; /* still at the top, where parser directives count */
    bool escape_given;
};

void dockerfile_line_free(struct dockerfile_line *line)
{
    if (!line)
        return;
    g_free(line->text);
    g_free(line);
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next physical line without its end; false at the end of the text (or with an error). */
static bool take_line(struct lexer *lexer, const char **ret, size_t *ret_length, GError **error)
{
    const char *feed;
    size_t length;

    if (lexer->at == lexer->end)
        return false;
    feed = memchr(lexer->at, '\n', (size_t)(lexer->end - lexer->at));
    length = (size_t)((feed ? feed : lexer->end) - lexer->at);
    if (length > DOCKERFILE_LINE_MAX)
        return error_set(error, TARE_ERROR_INVALID, "dockerfile line greater than max allowed size of %d", DOCKERFILE_LINE_MAX);
    if (memchr(lexer->at, '\0', length))
        return error_set(error, TARE_ERROR_INVALID, "line %u has a NUL byte", lexer->line + 1);
    *ret = lexer->at;
    lexer->at = feed ? feed + 1 : lexer->end;
    if (length > 0 && (*ret)[length - 1] == '\r')
        length--;
    *ret_length = length;
    lexer->line++;
    return true;
}

static void cut_left(const char **text, size_t *length)
{
    while (*length > 0 && is_blank(**text)) {
        (*text)++;
        (*length)--;
    }
}

static bool is_comment(const char *text, size_t length)
{
    cut_left(&text, &length);
    return length > 0 && *text == '#';
}

/* "# escape=`" and its like; the first line that is no directive ends them. */
static bool take_directive(struct lexer *lexer, const char *text, size_t length, GError **error)
{
    g_autofree char *line = g_strndup(text, length);
    g_autofree char *name = NULL;
    char *equals = strchr(line, '=');
    const char *value;

    if (line[0] != '#' || !equals) {
        lexer->directives = false;
        return true;
    }
    name = g_ascii_strdown(line + 1, equals - line - 1);
    g_strstrip(name);
    value = g_strstrip(equals + 1);
    if (g_str_equal(name, "syntax") || g_str_equal(name, "check"))
        return true;
    if (!g_str_equal(name, "escape")) {
        lexer->directives = false;
        return true;
    }
    if (lexer->escape_given)
        return error_set(error, TARE_ERROR_INVALID, "only one escape parser directive can be used");
    if (!g_str_equal(value, "`") && !g_str_equal(value, "\\"))
        return error_set(error, TARE_ERROR_INVALID, "invalid escape token '%s' does not match ` or \\", value);
    lexer->escape = value[0];
    lexer->escape_given = true;
    return true;
}

/* Appends the line without a continuation character at its end; true when it had one. A doubled escape at the end is none. */
static bool append_part(const struct lexer *lexer, GString *out, const char *text, size_t length)
{
    size_t end = length;

    while (end > 0 && (text[end - 1] == ' ' || text[end - 1] == '\t'))
        end--;
    if (end == 0 || text[end - 1] != lexer->escape || (end > 1 && text[end - 2] == lexer->escape)) {
        g_string_append_len(out, text, (gssize)length);
        return false;
    }
    g_string_append_len(out, text, (gssize)end - 1);
    return true;
}

/* Lines that follow a continuation character; comments among them are dropped, empty ones too, with a warning. */
static bool append_continuations(struct lexer *lexer, GString *out, GPtrArray *warnings, GError **error)
{
    g_autoptr(GError) local = NULL;
    bool more = true, had_empty = false;
    const char *text;
    size_t length;

    while (more && take_line(lexer, &text, &length, &local)) {
        const char *rest = text;
        size_t left = length;

        cut_left(&rest, &left);
        if (is_comment(text, length))
            continue;
        if (left == 0) {
            had_empty = true;
            continue;
        }
        more = append_part(lexer, out, text, length);
        if (out->len > DOCKERFILE_MAX)
            return error_set(error, TARE_ERROR_TOO_LARGE, "the instruction that ends on line %u is too long", lexer->line);
    }
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (had_empty)
        g_ptr_array_add(warnings, g_strdup_printf("[WARNING]: Empty continuation line found in:\n    %s", out->str));
    return true;
}

static bool lex_all(struct lexer *lexer, GPtrArray *lines, GPtrArray *warnings, GError **error)
{
    g_autoptr(GError) local = NULL;
    const char *text;
    size_t length;

    while (take_line(lexer, &text, &length, &local)) {
        g_autoptr(GString) whole = g_string_new(NULL);
        struct dockerfile_line *line;
        unsigned start = lexer->line;
        bool more;

        cut_left(&text, &length);
        if (lexer->directives && !take_directive(lexer, text, length, error))
            return false;
        if (is_comment(text, length))
            continue;
        more = append_part(lexer, whole, text, length);
        if (!more && whole->len == 0)
            continue;
        if (more && !append_continuations(lexer, whole, warnings, error))
            return false;
        if (lines->len >= DOCKERFILE_INSTRUCTIONS_MAX)
            return error_set(error, TARE_ERROR_TOO_LARGE, "more than %d instructions", DOCKERFILE_INSTRUCTIONS_MAX);
        line = g_new0(struct dockerfile_line, 1);
        line->text = g_strdup(whole->str);
        line->line = start;
        g_ptr_array_add(lines, line);
    }
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    return true;
}

bool dockerfile_lex(const char *text, size_t length, GPtrArray *lines, GPtrArray *warnings, char *ret_escape, GError **error)
{
    struct lexer lexer = { .at = text, .end = text + length, .escape = '\\', .directives = true };

    if (length > DOCKERFILE_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "the Dockerfile is larger than %u bytes", DOCKERFILE_MAX);
    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        lexer.at += 3;
    if (!lex_all(&lexer, lines, warnings, error))
        return false;
    if (warnings->len > 0)
        g_ptr_array_add(warnings, g_strdup("[WARNING]: Empty continuation lines will become errors in a future release."));
    *ret_escape = lexer.escape;
    return true;
}
