/* Templates: text to tokens, as Go's lexer divides it. */
#include "cli/template-internal.h"

#include <string.h>

static const struct {
    const char *word;
    enum token_kind kind;
} keywords[] = {
    { "block", TOKEN_BLOCK },
    { "break", TOKEN_BREAK },
    { "continue", TOKEN_CONTINUE },
    { "define", TOKEN_DEFINE },
    { "else", TOKEN_ELSE },
    { "end", TOKEN_END },
    { "if", TOKEN_IF },
    { "nil", TOKEN_NIL },
    { "range", TOKEN_RANGE },
    { "template", TOKEN_TEMPLATE },
    { "with", TOKEN_WITH },
};

void template_lex_init(struct lexer *lexer, const char *input, GStringChunk *texts)
{
    *lexer = (struct lexer){ .input = input, .length = strlen(input), .line = 1, .start_line = 1, .texts = texts };
}

static bool is_space(gunichar c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

bool template_is_word(gunichar c)
{
    return c == '_' || g_unichar_isalpha(c) || g_unichar_type(c) == G_UNICODE_DECIMAL_NUMBER;
}

/* The character at the position, 0 at the end; bytes that are no UTF-8 are U+FFFD, one byte long. */
static gunichar look(const struct lexer *lexer, gsize *ret_length)
{
    gsize length = 0;
    gunichar c = 0;
    if (lexer->at < lexer->length) {
        const char *at = lexer->input + lexer->at;
        c = g_utf8_get_char_validated(at, (gssize)(lexer->length - lexer->at));
        if (c == (gunichar)-1 || c == (gunichar)-2) {
            c = 0xfffd;
            length = 1;
        } else {
            length = (gsize)(g_utf8_next_char(at) - at);
        }
    }
    if (ret_length)
        *ret_length = length;
    return c;
}

static gunichar take(struct lexer *lexer)
{
    gsize length;
    gunichar c = look(lexer, &length);
    lexer->at += length;
    lexer->line += c == '\n';
    return c;
}

static bool starts(const struct lexer *lexer, gsize at, const char *text)
{
    return at <= lexer->length && g_str_has_prefix(lexer->input + at, text);
}

static void count_lines(struct lexer *lexer)
{
    for (gsize i = lexer->start; i < lexer->at; i++)
        lexer->line += lexer->input[i] == '\n';
}

static void skip(struct lexer *lexer)
{
    lexer->start = lexer->at;
    lexer->start_line = lexer->line;
}

static struct token emit(struct lexer *lexer, enum token_kind kind)
{
    struct token token = { .kind = kind, .at = lexer->start, .length = lexer->at - lexer->start, .line = lexer->start_line };
    skip(lexer);
    return token;
}

static struct token fail(struct lexer *lexer, const char *format, ...) G_GNUC_PRINTF(2, 3);

static struct token fail(struct lexer *lexer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    lexer->is_over = true;
    return (struct token){
        .kind = TOKEN_ERROR, .at = lexer->start, .line = lexer->start_line, .problem = g_string_chunk_insert(lexer->texts, text)
    };
}

static struct token fail_character(struct lexer *lexer, const char *what, gunichar c)
{
    char text[8] = "";
    text[g_unichar_to_utf8(c, text)] = '\0';
    if (c == 0)
        return fail(lexer, "%s U+FFFFFFFFFFFFFFFF", what);
    return g_unichar_isprint(c) ? fail(lexer, "%s U+%04X '%s'", what, c, text) : fail(lexer, "%s U+%04X", what, c);
}

static struct token fail_quoted(struct lexer *lexer, const char *what)
{
    g_autoptr(GString) text = g_string_new(NULL);
    template_quote(text, lexer->input + lexer->start, lexer->at - lexer->start, 0);
    return fail(lexer, "%s: %s", what, text->str);
}

static bool at_right_delimiter(const struct lexer *lexer, bool *ret_trims)
{
    *ret_trims = is_space((guchar)lexer->input[lexer->at]) && starts(lexer, lexer->at + 1, "-}}");
    return *ret_trims || starts(lexer, lexer->at, "}}");
}

static void skip_spaces(struct lexer *lexer)
{
    while (lexer->at < lexer->length && is_space((guchar)lexer->input[lexer->at]))
        lexer->at++;
}

static struct token lex_right_delimiter(struct lexer *lexer)
{
    bool trims;
    at_right_delimiter(lexer, &trims);
    if (trims) {
        lexer->at += 2;
        count_lines(lexer);
        skip(lexer);
    }
    lexer->at += 2;
    struct token token = emit(lexer, TOKEN_RIGHT_DELIMITER);
    if (trims) {
        skip_spaces(lexer);
        count_lines(lexer);
        skip(lexer);
    }
    lexer->is_inside = false;
    return token;
}

/* After a left delimiter with its marker. False and a token where it fails. */
static bool skip_comment(struct lexer *lexer, struct token *ret)
{
    bool trims;
    const char *end = strstr(lexer->input + lexer->at + 2, "*/");
    if (!end)
        return *ret = fail(lexer, "unclosed comment"), false;
    lexer->at = (gsize)(end - lexer->input) + 2;
    if (!at_right_delimiter(lexer, &trims))
        return *ret = fail(lexer, "comment ends before closing delimiter"), false;
    lexer->at += trims ? 4 : 2;
    if (trims)
        skip_spaces(lexer);
    count_lines(lexer);
    skip(lexer);
    return true;
}

static struct token lex_text(struct lexer *lexer)
{
    for (;;) {
        const char *open = strstr(lexer->input + lexer->at, "{{");
        gsize stop = open ? (gsize)(open - lexer->input) : lexer->length;
        bool trims = open && open[2] == '-' && is_space((guchar)open[3]);
        lexer->at = stop;
        while (trims && lexer->at > lexer->start && is_space((guchar)lexer->input[lexer->at - 1]))
            lexer->at--;
        if (lexer->at > lexer->start) {
            count_lines(lexer);
            return emit(lexer, TOKEN_TEXT);
        }
        if (!open)
            return emit(lexer, TOKEN_EOF);
        lexer->at = stop;
        count_lines(lexer);
        skip(lexer);
        if (starts(lexer, stop + (trims ? 4 : 2), "/*")) {
            struct token failed;
            lexer->at += trims ? 4 : 2;
            skip(lexer);
            if (!skip_comment(lexer, &failed))
                return failed;
            continue;
        }
        lexer->at += 2;
        struct token token = emit(lexer, TOKEN_LEFT_DELIMITER);
        lexer->is_inside = true;
        lexer->parentheses = 0;
        if (trims) {
            lexer->at += 2;
            count_lines(lexer);
            skip(lexer);
        }
        return token;
    }
}

static struct token lex_space(struct lexer *lexer)
{
    guint n = 0;
    for (gsize length; is_space(look(lexer, &length)); n++)
        take(lexer);
    /* " -}}" belongs to the delimiter. */
    if (is_space((guchar)lexer->input[lexer->at - 1]) && starts(lexer, lexer->at, "-}}")) {
        lexer->at--;
        lexer->line -= lexer->input[lexer->at] == '\n';
        if (n == 1)
            return lex_right_delimiter(lexer);
    }
    return emit(lexer, TOKEN_SPACE);
}

static bool at_terminator(const struct lexer *lexer)
{
    gunichar c = look(lexer, NULL);
    return c == 0 || is_space(c) || strchr(".,|:)(", (int)MIN(c, 127)) || starts(lexer, lexer->at, "}}");
}

static struct token lex_identifier(struct lexer *lexer)
{
    while (template_is_word(look(lexer, NULL)))
        take(lexer);
    if (!at_terminator(lexer))
        return fail_character(lexer, "bad character", look(lexer, NULL));
    const char *word = lexer->input + lexer->start;
    gsize length = lexer->at - lexer->start;
    for (gsize i = 0; i < G_N_ELEMENTS(keywords); i++)
        if (strlen(keywords[i].word) == length && strncmp(keywords[i].word, word, length) == 0)
            return emit(lexer, keywords[i].kind);
    bool is_bool = (length == 4 && strncmp(word, "true", 4) == 0) || (length == 5 && strncmp(word, "false", 5) == 0);
    return emit(lexer, is_bool ? TOKEN_BOOL : TOKEN_IDENTIFIER);
}

static struct token lex_field_or_variable(struct lexer *lexer, enum token_kind kind)
{
    if (at_terminator(lexer))
        return emit(lexer, kind == TOKEN_VARIABLE ? TOKEN_VARIABLE : TOKEN_DOT);
    while (template_is_word(look(lexer, NULL)))
        take(lexer);
    if (!at_terminator(lexer))
        return fail_character(lexer, "bad character", look(lexer, NULL));
    return emit(lexer, kind);
}

/* "…" and '…'. */
static struct token lex_quoted(struct lexer *lexer, gunichar quote, enum token_kind kind, const char *problem)
{
    for (;;) {
        gunichar c = take(lexer);
        if (c == '\\')
            c = take(lexer) == '\n' || lexer->at >= lexer->length ? 0 : ' ';
        if (c == 0 || c == '\n')
            return fail(lexer, "%s", problem);
        if (c == quote)
            return emit(lexer, kind);
    }
}

static struct token lex_raw(struct lexer *lexer)
{
    for (;;) {
        gunichar c = take(lexer);
        if (c == 0)
            return fail(lexer, "unterminated raw quoted string");
        if (c == '`')
            return emit(lexer, TOKEN_RAW_STRING);
    }
}

static bool accept(struct lexer *lexer, const char *set)
{
    char c = lexer->input[lexer->at];
    if (!c || !strchr(set, c))
        return false;
    lexer->at++;
    return true;
}

static void accept_run(struct lexer *lexer, const char *set)
{
    while (accept(lexer, set))
        ;
}

static bool scan_number(struct lexer *lexer)
{
    const char *digits = "0123456789_";
    bool is_hex = false, is_decimal = true;
    accept(lexer, "+-");
    if (accept(lexer, "0")) {
        if (accept(lexer, "xX"))
            digits = "0123456789abcdefABCDEF_", is_hex = true, is_decimal = false;
        else if (accept(lexer, "oO"))
            digits = "01234567_", is_decimal = false;
        else if (accept(lexer, "bB"))
            digits = "01_", is_decimal = false;
    }
    accept_run(lexer, digits);
    if (accept(lexer, "."))
        accept_run(lexer, digits);
    if ((is_decimal && accept(lexer, "eE")) || (is_hex && accept(lexer, "pP"))) {
        accept(lexer, "+-");
        accept_run(lexer, "0123456789_");
    }
    accept(lexer, "i");
    if (!template_is_word(look(lexer, NULL)))
        return true;
    take(lexer);
    return false;
}

static struct token lex_number(struct lexer *lexer)
{
    if (!scan_number(lexer))
        return fail_quoted(lexer, "bad number syntax");
    char sign = lexer->input[lexer->at];
    if ((sign == '+' || sign == '-') && (!scan_number(lexer) || lexer->input[lexer->at - 1] != 'i'))
        return fail_quoted(lexer, "bad number syntax");
    return emit(lexer, TOKEN_NUMBER);
}

static struct token lex_parenthesis(struct lexer *lexer, gunichar c)
{
    if (c == '(') {
        lexer->parentheses++;
        return emit(lexer, TOKEN_LEFT_PARENTHESIS);
    }
    if (lexer->parentheses == 0)
        return fail(lexer, "unexpected right paren");
    lexer->parentheses--;
    return emit(lexer, TOKEN_RIGHT_PARENTHESIS);
}

static struct token lex_action(struct lexer *lexer)
{
    bool trims;
    if (at_right_delimiter(lexer, &trims))
        return lexer->parentheses ? fail(lexer, "unclosed left paren") : lex_right_delimiter(lexer);
    gsize length;
    gunichar c = look(lexer, &length);
    if (c == 0)
        return fail(lexer, "unclosed action");
    if (is_space(c))
        return lex_space(lexer);
    if (template_is_word(c) && !g_ascii_isdigit((char)MIN(c, 127)))
        return lex_identifier(lexer);
    char after = lexer->input[lexer->at + 1];
    bool dotted_number = c == '.' && (g_ascii_isdigit(after) || !after); /* a last "." is taken for a number */
    if (dotted_number || c == '+' || c == '-' || (c < 128 && g_ascii_isdigit((char)c)))
        return lex_number(lexer);
    take(lexer);
    switch (c) {
    case '=':
        return emit(lexer, TOKEN_ASSIGN);
    case ':':
        return take(lexer) == '=' ? emit(lexer, TOKEN_DECLARE) : fail(lexer, "expected :=");
    case '|':
        return emit(lexer, TOKEN_PIPE);
    case '"':
        return lex_quoted(lexer, '"', TOKEN_STRING, "unterminated quoted string");
    case '\'':
        return lex_quoted(lexer, '\'', TOKEN_CHARACTER_CONSTANT, "unterminated character constant");
    case '`':
        return lex_raw(lexer);
    case '$':
        return lex_field_or_variable(lexer, TOKEN_VARIABLE);
    case '.':
        return lex_field_or_variable(lexer, TOKEN_FIELD);
    case '(':
    case ')':
        return lex_parenthesis(lexer, c);
    default:
        return c >= 0x20 && c < 0x7f ? emit(lexer, TOKEN_CHAR) : fail_character(lexer, "unrecognized character in action:", c);
    }
}

struct token template_lex_next(struct lexer *lexer)
{
    if (lexer->is_over)
        return (struct token){ .kind = TOKEN_EOF, .at = lexer->at, .line = lexer->start_line };
    return lexer->is_inside ? lex_action(lexer) : lex_text(lexer);
}
