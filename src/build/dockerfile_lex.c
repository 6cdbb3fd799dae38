/* Physical lines of a Dockerfile → logical ones: byte-order mark, parser directives, comments, continuations, here-documents. */
#include "build/build-internal.h"

#include <string.h>

struct lexer {
    const char *at, *end;
    unsigned line; /* of the last line taken */
    struct dockerfile *out;
    bool directives; /* still at the top, where parser directives count */
    bool escape_given;
    GPtrArray *comments; /* those just above the next instruction */
};

void dockerfile_line_free(struct dockerfile_line *line)
{
    if (!line)
        return;
    g_free(line->text);
    if (line->heredocs)
        g_ptr_array_unref(line->heredocs);
    g_strfreev(line->comments);
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

static bool take_once(char **member, const char *name, const char *value, GError **error)
{
    if (*member)
        return error_set(error, TARE_ERROR_INVALID, "only one %s parser directive can be used", name);
    *member = g_strdup(value);
    return true;
}

static bool take_escape(struct lexer *lexer, const char *value, GError **error)
{
    if (lexer->escape_given)
        return error_set(error, TARE_ERROR_INVALID, "only one escape parser directive can be used");
    if (!g_str_equal(value, "`") && !g_str_equal(value, "\\"))
        return error_set(error, TARE_ERROR_INVALID, "invalid escape token '%s' does not match ` or \\", value);
    lexer->out->escape = value[0];
    lexer->escape_given = true;
    return true;
}

/* "# escape=`" and its like; the first line that is none ends them. *ret: it was one. */
static bool take_directive(struct lexer *lexer, const char *text, size_t length, bool *ret, GError **error)
{
    g_autofree char *line = g_strndup(text, length);
    g_autofree char *name = NULL;
    char *equals = strchr(line, '=');
    const char *value;

    *ret = lexer->directives && line[0] == '#' && equals;
    lexer->directives = *ret;
    if (!*ret)
        return true;
    name = g_ascii_strdown(line + 1, equals - line - 1);
    g_strstrip(name);
    value = g_strstrip(equals + 1);
    if (g_str_equal(name, "syntax"))
        return take_once(&lexer->out->syntax, name, value, error);
    if (g_str_equal(name, "check"))
        return take_once(&lexer->out->check, name, value, error);
    if (g_str_equal(name, "escape"))
        return take_escape(lexer, value, error);
    *ret = lexer->directives = false;
    return true;
}

/* "# text": remembered for the next instruction; an empty one forgets those before. */
static void take_comment(struct lexer *lexer, const char *text, size_t length)
{
    char *comment = g_strstrip(g_strndup(text + 1, length - 1));

    if (!*comment) {
        g_ptr_array_set_size(lexer->comments, 0);
        g_free(comment);
        return;
    }
    g_ptr_array_add(lexer->comments, comment);
}

static char **take_comments(struct lexer *lexer)
{
    GPtrArray *comments = lexer->comments;

    lexer->comments = g_ptr_array_new_with_free_func(g_free);
    if (comments->len == 0) {
        g_ptr_array_unref(comments);
        return NULL;
    }
    g_ptr_array_add(comments, NULL);
    return (char **)g_ptr_array_free(comments, FALSE);
}

/* Appends the line without a continuation character at its end; true when it had one. A doubled escape at the end is none. */
static bool append_part(const struct lexer *lexer, GString *out, const char *text, size_t length)
{
    size_t end = length;

    while (end > 0 && (text[end - 1] == ' ' || text[end - 1] == '\t'))
        end--;
    if (end == 0 || text[end - 1] != lexer->out->escape || (end > 1 && text[end - 2] == lexer->out->escape)) {
        g_string_append_len(out, text, (gssize)length);
        return false;
    }
    g_string_append_len(out, text, (gssize)end - 1);
    return true;
}

/* Lines that follow a continuation character; comments among them are dropped, empty ones too, with a warning. */
static bool append_continuations(struct lexer *lexer, GString *out, GError **error)
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
    if (had_empty) {
        g_ptr_array_add(lexer->out->warnings, g_strdup_printf("[WARNING]: Empty continuation line found in:\n    %s", out->str));
        g_array_append_val(lexer->out->empty_continuations, lexer->line);
    }
    return true;
}

/* The lines up to the one that is the here-document's name. */
static bool take_heredoc(struct lexer *lexer, struct dockerfile_heredoc *heredoc, GError **error)
{
    g_autoptr(GString) content = g_string_new(NULL);
    g_autoptr(GError) local = NULL;
    const char *text;
    size_t length;

    while (take_line(lexer, &text, &length, &local)) {
        const char *whole = text;
        size_t name_length = strlen(heredoc->name);

        while (heredoc->is_chomped && length > 0 && *text == '\t') {
            text++;
            length--;
        }
        if (length == name_length && memcmp(text, heredoc->name, length) == 0) {
            heredoc->content = g_strdup(content->str);
            return true;
        }
        /* With the line end that it has. */
        g_string_append_len(content, text, (gssize)(lexer->at - whole) - (text - whole));
    }
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    return error_set(error, TARE_ERROR_INVALID, "unterminated heredoc");
}

static bool take_heredocs(struct lexer *lexer, struct dockerfile_line *line, GError **error)
{
    line->heredocs = heredocs_of_line(line->text, error);
    for (guint i = 0; line->heredocs && i < line->heredocs->len; i++)
        if (!take_heredoc(lexer, line->heredocs->pdata[i], error))
            return false;
    return line->heredocs != NULL;
}

/* One logical line, which begins with text; *ret NULL for an empty one. */
static bool take_logical(struct lexer *lexer, const char *text, size_t length, struct dockerfile_line **ret, GError **error)
{
    g_autoptr(GString) whole = g_string_new(NULL);
    struct dockerfile_line *line;
    unsigned start = lexer->line;
    bool more = append_part(lexer, whole, text, length);

    *ret = NULL;
    if (!more && whole->len == 0)
        return true;
    if (more && !append_continuations(lexer, whole, error))
        return false;
    line = g_new0(struct dockerfile_line, 1);
    line->text = g_strdup(whole->str);
    line->line = start;
    line->comments = take_comments(lexer);
    if (!take_heredocs(lexer, line, error)) {
        dockerfile_line_free(line);
        return false;
    }
    line->end = lexer->line;
    *ret = line;
    return true;
}

static bool lex_all(struct lexer *lexer, GPtrArray *lines, struct dockerfile_lines *where, GError **error)
{
    g_autoptr(GError) local = NULL;
    const char *text;
    size_t length;

    while (take_line(lexer, &text, &length, &local)) {
        struct dockerfile_line *line;
        bool is_directive;

        where->first = lexer->line;
        cut_left(&text, &length);
        if (!take_directive(lexer, text, length, &is_directive, error))
            return false;
        if (is_comment(text, length)) {
            if (!is_directive)
                take_comment(lexer, text, length);
            continue;
        }
        if (!take_logical(lexer, text, length, &line, error))
            return false;
        if (!line) /* comments above an empty line still belong to what comes */
            continue;
        g_ptr_array_add(lines, line);
        if (lines->len > DOCKERFILE_INSTRUCTIONS_MAX)
            return error_set(error, TARE_ERROR_TOO_LARGE, "more than %d instructions", DOCKERFILE_INSTRUCTIONS_MAX);
    }
    if (local) {
        where->first = lexer->line + 1;
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    return true;
}

bool dockerfile_lex(const char *text, size_t length, GPtrArray *lines, struct dockerfile *dockerfile,
                    struct dockerfile_lines *ret_lines, GError **error)
{
    struct lexer lexer = { .at = text, .end = text + length, .out = dockerfile, .directives = true };
    bool good;

    *ret_lines = (struct dockerfile_lines){ 0 };
    if (length > DOCKERFILE_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "the Dockerfile is larger than %u bytes", DOCKERFILE_MAX);
    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        lexer.at += 3;
    dockerfile->escape = '\\';
    lexer.comments = g_ptr_array_new_with_free_func(g_free);
    good = lex_all(&lexer, lines, ret_lines, error);
    g_ptr_array_unref(lexer.comments);
    ret_lines->last = MAX(lexer.line, ret_lines->first);
    if (!good)
        return false;
    if (dockerfile->warnings->len > 0)
        g_ptr_array_add(dockerfile->warnings,
                        g_strdup("[WARNING]: Empty continuation lines will become errors in a future release."));
    return true;
}
