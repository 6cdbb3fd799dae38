/* Templates: from text to a tree. */
#include "cli/template-internal.h"

#include "base/parse.h"

#include <string.h>

struct parser {
    const char *text;
    gsize length, at;
    guint depth, loops;
    bool trim_next;   /* the last action ended with -}} */
    GPtrArray *scope; /* names of variables in sight */
    GError **error;
};

static void operand_free(gpointer data);

static void invocation_free(gpointer data)
{
    struct invocation *invocation = data;
    g_ptr_array_unref(invocation->operands);
    g_free(invocation->source);
    g_free(invocation);
}

static void pipe_free(struct pipe *pipe)
{
    if (!pipe)
        return;
    if (pipe->declared)
        g_ptr_array_unref(pipe->declared);
    g_ptr_array_unref(pipe->invocations);
    g_free(pipe);
}

static void operand_free(gpointer data)
{
    struct operand *operand = data;
    g_free(operand->name);
    json_decref(operand->literal);
    pipe_free(operand->pipe);
    if (operand->fields)
        g_ptr_array_unref(operand->fields);
    g_free(operand->source);
    g_free(operand);
}

static void node_free(gpointer data)
{
    struct node *node = data;
    g_free(node->text);
    pipe_free(node->pipe);
    if (node->list)
        g_ptr_array_unref(node->list);
    if (node->otherwise)
        g_ptr_array_unref(node->otherwise);
    g_free(node);
}

void template_free(struct template *template)
{
    if (!template)
        return;
    g_free(template->text);
    g_ptr_array_unref(template->nodes);
    g_free(template);
}

static guint line_of(const struct parser *parser)
{
    guint line = 1;
    for (gsize i = 0; i < parser->at && i < parser->length; i++)
        line += parser->text[i] == '\n';
    return line;
}

static bool problem(struct parser *parser, const char *format, ...) G_GNUC_PRINTF(2, 3);

static bool problem(struct parser *parser, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    return error_set(parser->error, TARE_ERROR_INVALID, "template: :%u: %s", line_of(parser), text);
}

static char peek(const struct parser *parser)
{
    return parser->at < parser->length ? parser->text[parser->at] : '\0';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool starts(const struct parser *parser, const char *prefix)
{
    gsize n = strlen(prefix);
    return parser->length - parser->at >= n && memcmp(parser->text + parser->at, prefix, n) == 0;
}

/* "}}", or " -}}". */
static bool at_end_of_action(const struct parser *parser)
{
    if (starts(parser, "}}"))
        return true;
    return is_blank(peek(parser)) && parser->length - parser->at >= 4 && memcmp(parser->text + parser->at + 1, "-}}", 3) == 0;
}

static void skip_blanks(struct parser *parser)
{
    while (is_blank(peek(parser)) && !at_end_of_action(parser))
        parser->at++;
}

static bool end_action(struct parser *parser)
{
    skip_blanks(parser);
    if (parser->at >= parser->length)
        return problem(parser, "unclosed action");
    if (starts(parser, "}}")) {
        parser->at += 2;
        parser->trim_next = false;
        return true;
    }
    if (at_end_of_action(parser)) {
        parser->at += 4;
        parser->trim_next = true;
        return true;
    }
    if (peek(parser) == ')')
        return problem(parser, "unexpected right paren");
    return problem(parser, "unexpected <%c> in operand", peek(parser));
}

static bool is_word(char c)
{
    return g_ascii_isalnum(c) || c == '_' || (unsigned char)c >= 0x80;
}

static char *take_word(struct parser *parser)
{
    gsize start = parser->at;
    while (is_word(peek(parser)))
        parser->at++;
    return g_strndup(parser->text + start, parser->at - start);
}

/* The next word without taking it. g_free. */
static char *peek_word(struct parser *parser)
{
    gsize start = parser->at;
    char *word = take_word(parser);
    parser->at = start;
    return word;
}

static bool append_escape(struct parser *parser, GString *out)
{
    char c = peek(parser);
    parser->at++;
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    const char *known = c ? strchr(from, c) : NULL;
    if (known) {
        g_string_append_c(out, to[known - from]);
        return true;
    }
    guint digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    gunichar value = 0;
    if (digits == 0)
        return false;
    for (guint i = 0; i < digits; i++, parser->at++) {
        if (!g_ascii_isxdigit(peek(parser)))
            return false;
        value = value * 16 + (gunichar)g_ascii_xdigit_value(peek(parser));
    }
    if (c == 'x')
        g_string_append_c(out, (char)value);
    else if (value > 0x10ffff || value == 0)
        return false;
    else
        g_string_append_unichar(out, value);
    return true;
}

static json_t *parse_quoted(struct parser *parser, char quote)
{
    g_autoptr(GString) out = g_string_new(NULL);
    parser->at++;
    while (parser->at < parser->length && peek(parser) != quote) {
        char c = peek(parser);
        if (c == '\n' && quote != '`')
            break;
        parser->at++;
        if (c == '\\' && quote != '`') {
            if (!append_escape(parser, out)) {
                problem(parser, "invalid syntax");
                return NULL;
            }
        } else {
            g_string_append_c(out, c);
        }
    }
    if (peek(parser) != quote) {
        problem(parser, quote == '`'   ? "unterminated raw quoted string"
                        : quote == '"' ? "unterminated quoted string"
                                       : "unterminated character constant");
        return NULL;
    }
    parser->at++;
    if (quote != '\'')
        return json_string_lossy(out->str);
    gunichar c = g_utf8_get_char_validated(out->str, (gssize)out->len);
    if (c == (gunichar)-1 || c == (gunichar)-2 || (gsize)g_unichar_to_utf8(c, NULL) != out->len) {
        problem(parser, "malformed character constant: '%s'", out->str);
        return NULL;
    }
    return json_integer(c);
}

static json_t *parse_number(struct parser *parser)
{
    gsize start = parser->at;
    if (peek(parser) == '+' || peek(parser) == '-')
        parser->at++;
    while (is_word(peek(parser)) || peek(parser) == '.' ||
           ((peek(parser) == '+' || peek(parser) == '-') && strchr("eEpP", parser->text[parser->at - 1])))
        parser->at++;
    g_autofree char *text = g_strndup(parser->text + start, parser->at - start), *end = NULL;
    const char *digits = text + (*text == '+' || *text == '-');
    gint64 value;
    if (parse_int(*text == '+' ? digits : text, G_MININT64, G_MAXINT64, &value) && (digits[0] != '0' || !digits[1]))
        return json_integer(value);
    if (digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X') && digits[2] &&
        strspn(digits + 2, "0123456789abcdefABCDEF") == strlen(digits + 2) && strlen(digits) <= 17)
        return json_integer((*text == '-' ? -1 : 1) * (json_int_t)g_ascii_strtoull(digits + 2, NULL, 16));
    if (strspn(text, "0123456789.eE+-") == strlen(text)) {
        double real = g_ascii_strtod(text, &end);
        json_t *number = *text && !*end ? json_real(real) : NULL;
        end = NULL; /* points into text */
        if (number)
            return number;
    }
    end = NULL;
    problem(parser, "bad number syntax: \"%s\"", text);
    return NULL;
}

/* context: what the pipeline belongs to, for errors. */
static struct pipe *parse_pipe(struct parser *parser, const char *context);

static bool parse_fields(struct parser *parser, struct operand *operand)
{
    while (peek(parser) == '.' && parser->at + 1 < parser->length && is_word(parser->text[parser->at + 1])) {
        parser->at++;
        if (!operand->fields)
            operand->fields = g_ptr_array_new_with_free_func(g_free);
        if (operand->fields->len >= TEMPLATE_DEPTH_MAX)
            return problem(parser, "too many fields");
        g_ptr_array_add(operand->fields, take_word(parser));
    }
    return true;
}

static bool in_scope(const struct parser *parser, const char *name)
{
    for (guint i = 0; i < parser->scope->len; i++)
        if (strcmp(parser->scope->pdata[i], name) == 0)
            return true;
    return false;
}

static bool parse_variable(struct parser *parser, struct operand *operand)
{
    parser->at++;
    g_autofree char *rest = take_word(parser);
    operand->kind = OPERAND_VARIABLE;
    operand->name = g_strconcat("$", rest, NULL);
    return in_scope(parser, operand->name) || problem(parser, "undefined variable \"%s\"", operand->name);
}

static bool parse_word_operand(struct parser *parser, struct operand *operand)
{
    operand->name = take_word(parser);
    operand->kind = OPERAND_LITERAL;
    if (strcmp(operand->name, "true") == 0 || strcmp(operand->name, "false") == 0)
        operand->literal = json_boolean(operand->name[0] == 't');
    else if (strcmp(operand->name, "nil") == 0)
        operand->literal = json_null();
    else
        operand->kind = OPERAND_FUNCTION;
    if (operand->kind == OPERAND_FUNCTION && !template_find_function(operand->name))
        return problem(parser, "function \"%s\" not defined", operand->name);
    return true;
}

static bool parse_operand_body(struct parser *parser, struct operand *operand)
{
    char c = peek(parser);
    if (c == '.') {
        operand->kind = OPERAND_DOT;
        if (parser->at + 1 < parser->length && g_ascii_isdigit(parser->text[parser->at + 1])) {
            operand->kind = OPERAND_LITERAL;
            return (operand->literal = parse_number(parser)) != NULL;
        }
        if (!(parser->at + 1 < parser->length && is_word(parser->text[parser->at + 1])))
            parser->at++;
        return true;
    }
    if (c == '$')
        return parse_variable(parser, operand);
    if (c == '(') {
        parser->at++;
        operand->kind = OPERAND_PIPE;
        if (!(operand->pipe = parse_pipe(parser, "parenthesized pipeline")))
            return false;
        skip_blanks(parser);
        if (peek(parser) != ')')
            return problem(parser, "unclosed left paren");
        parser->at++;
        return true;
    }
    if (c == '"' || c == '`' || c == '\'') {
        operand->kind = OPERAND_LITERAL;
        return (operand->literal = parse_quoted(parser, c)) != NULL;
    }
    if (g_ascii_isdigit(c) || c == '-' || c == '+') {
        operand->kind = OPERAND_LITERAL;
        return (operand->literal = parse_number(parser)) != NULL;
    }
    if (is_word(c))
        return parse_word_operand(parser, operand);
    return problem(parser, "unexpected \"%c\" in operand", c);
}

static struct operand *parse_operand(struct parser *parser)
{
    struct operand *operand = g_new0(struct operand, 1);
    operand->at = parser->at;
    bool ok = parse_operand_body(parser, operand) && parse_fields(parser, operand);
    if (ok && operand->fields && operand->kind == OPERAND_LITERAL)
        ok = problem(parser, "unexpected . after term \"%s\"", operand->name ? operand->name : "literal");
    if (ok && operand->fields && operand->kind == OPERAND_FUNCTION)
        ok = problem(parser, "unexpected . after term \"%s\"", operand->name);
    char next = peek(parser);
    if (ok && next && !is_blank(next) && !strchr("|)},=:", next))
        ok = problem(parser, "unexpected bad character U+%04X '%c' in command", (unsigned char)next, next);
    if (!ok) {
        operand_free(operand);
        return NULL;
    }
    operand->source = g_strndup(parser->text + operand->at, parser->at - operand->at);
    operand->error_at = operand->at;
    if (operand->kind == OPERAND_DOT && operand->fields && operand->fields->len > 1)
        operand->error_at += 1 + strlen(operand->fields->pdata[0]);
    else if (operand->kind == OPERAND_VARIABLE && operand->fields)
        operand->error_at += strlen(operand->name);
    return operand;
}

/* Operands up to '|', ')' or the end. */
static struct invocation *parse_invocation(struct parser *parser, const char *context)
{
    struct invocation *invocation = g_new0(struct invocation, 1);
    invocation->operands = g_ptr_array_new_with_free_func(operand_free);
    for (;;) {
        skip_blanks(parser);
        char c = peek(parser);
        if (parser->at >= parser->length || at_end_of_action(parser) || c == '|' || c == ')')
            break;
        struct operand *operand = parse_operand(parser);
        if (!operand) {
            invocation_free(invocation);
            return NULL;
        }
        g_ptr_array_add(invocation->operands, operand);
    }
    if (invocation->operands->len > 0) {
        const struct operand *first = invocation->operands->pdata[0],
                             *last = invocation->operands->pdata[invocation->operands->len - 1];
        invocation->source = g_strndup(parser->text + first->at, last->at + strlen(last->source) - first->at);
        return invocation;
    }
    if (parser->at >= parser->length)
        problem(parser, "unclosed action");
    else
        problem(parser, "missing value for %s", context);
    invocation_free(invocation);
    return NULL;
}

/* $x := …, $x = …, $i, $e := …: the names, or none when the text goes on otherwise. */
static bool parse_declaration(struct parser *parser, struct pipe *pipe)
{
    gsize start = parser->at;
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    while (peek(parser) == '$' && names->len < 2) {
        parser->at++;
        g_autofree char *word = take_word(parser);
        g_ptr_array_add(names, g_strconcat("$", word, NULL));
        skip_blanks(parser);
        if (peek(parser) == ',') {
            parser->at++;
            skip_blanks(parser);
            continue;
        }
        bool declares = starts(parser, ":="), assigns = peek(parser) == '=';
        if (!declares && !assigns)
            break;
        parser->at += declares ? 2 : 1;
        for (guint i = 0; i < names->len; i++) {
            if (assigns && !in_scope(parser, names->pdata[i]))
                return problem(parser, "undefined variable \"%s\"", (char *)names->pdata[i]);
            if (declares)
                g_ptr_array_add(parser->scope, g_strdup(names->pdata[i]));
        }
        pipe->assigns = assigns;
        pipe->declared = g_steal_pointer(&names);
        return true;
    }
    parser->at = start;
    return true;
}

static struct pipe *parse_pipe(struct parser *parser, const char *context)
{
    struct pipe *pipe = g_new0(struct pipe, 1);
    pipe->invocations = g_ptr_array_new_with_free_func(invocation_free);
    bool ok = ++parser->depth <= TEMPLATE_DEPTH_MAX || problem(parser, "nested too deeply");
    skip_blanks(parser);
    ok = ok && (strcmp(context, "parenthesized pipeline") == 0 || parse_declaration(parser, pipe));
    while (ok) {
        struct invocation *invocation = parse_invocation(parser, context);
        if (!(ok = invocation != NULL))
            break;
        g_ptr_array_add(pipe->invocations, invocation);
        const struct operand *first = invocation->operands->pdata[0];
        if (pipe->invocations->len > 1 && first->kind == OPERAND_LITERAL)
            ok = problem(parser, "non executable command in pipeline stage %u", pipe->invocations->len);
        if (peek(parser) != '|')
            break;
        parser->at++;
    }
    parser->depth--;
    if (!ok)
        g_clear_pointer(&pipe, pipe_free);
    return pipe;
}

enum ending { END_OF_TEXT, END_ELSE, END_END, END_FAILED };

static enum ending parse_list(struct parser *parser, GPtrArray *nodes);

/* The rest of if, range or with: pipeline, list, else, end. */
static bool parse_control(struct parser *parser, struct node *node)
{
    guint scope = parser->scope->len;
    bool ok = ++parser->depth <= TEMPLATE_DEPTH_MAX || problem(parser, "nested too deeply");
    ok = ok &&
         (node->pipe = parse_pipe(parser, node->kind == NODE_IF      ? "if"
                                          : node->kind == NODE_RANGE ? "range"
                                                                     : "with")) &&
         end_action(parser);
    if (ok) {
        parser->loops += node->kind == NODE_RANGE;
        node->list = g_ptr_array_new_with_free_func(node_free);
        enum ending ending = parse_list(parser, node->list);
        parser->loops -= node->kind == NODE_RANGE;
        if (ending == END_ELSE) {
            node->otherwise = g_ptr_array_new_with_free_func(node_free);
            skip_blanks(parser);
            g_autofree char *word = peek_word(parser);
            bool chained =
                (node->kind == NODE_IF && strcmp(word, "if") == 0) || (node->kind == NODE_WITH && strcmp(word, "with") == 0);
            if (chained) { /* else if: one end for both */
                struct node *inner = g_new0(struct node, 1);
                inner->kind = node->kind;
                g_ptr_array_add(node->otherwise, inner);
                parser->at += strlen(word);
                ok = parse_control(parser, inner);
                ending = ok ? END_END : END_FAILED;
            } else {
                ok = end_action(parser);
                ending = ok ? parse_list(parser, node->otherwise) : END_FAILED;
            }
        }
        if (ending == END_OF_TEXT)
            ok = problem(parser, "unexpected EOF");
        else if (ending == END_ELSE)
            ok = problem(parser, "expected end; found {{else}}");
        else
            ok = ok && ending == END_END;
    }
    g_ptr_array_set_size(parser->scope, (gint)scope);
    parser->depth--;
    return ok;
}

static void add_text(struct parser *parser, GPtrArray *nodes, gsize from, gsize to, bool trim_end)
{
    if (parser->trim_next)
        while (from < to && is_blank(parser->text[from]))
            from++;
    if (trim_end)
        while (to > from && is_blank(parser->text[to - 1]))
            to--;
    parser->trim_next = false;
    if (from == to)
        return;
    struct node *node = g_new0(struct node, 1);
    node->kind = NODE_TEXT;
    node->text = g_strndup(parser->text + from, to - from);
    g_ptr_array_add(nodes, node);
}

static bool parse_comment(struct parser *parser)
{
    const char *end = strstr(parser->text + parser->at, "*/");
    if (!end)
        return problem(parser, "unclosed comment");
    parser->at = (gsize)(end - parser->text) + 2;
    if (!at_end_of_action(parser))
        return problem(parser, "comment ends before closing delimiter");
    return end_action(parser);
}

static bool parse_keyword_or_action(struct parser *parser, GPtrArray *nodes, const char *word)
{
    static const struct {
        const char *word;
        enum node_kind kind;
    } keywords[] = {
        { "if", NODE_IF }, { "range", NODE_RANGE }, { "with", NODE_WITH }, { "break", NODE_BREAK }, { "continue", NODE_CONTINUE }
    };
    struct node *node = g_new0(struct node, 1);
    node->kind = NODE_ACTION;
    g_ptr_array_add(nodes, node);
    for (gsize i = 0; i < G_N_ELEMENTS(keywords); i++)
        if (strcmp(word, keywords[i].word) == 0)
            node->kind = keywords[i].kind;
    if (node->kind != NODE_ACTION)
        parser->at += strlen(word);
    if (node->kind == NODE_BREAK || node->kind == NODE_CONTINUE)
        return (parser->loops > 0 || problem(parser, "{{%s}} outside {{range}}", word)) && end_action(parser);
    if (node->kind != NODE_ACTION)
        return parse_control(parser, node);
    static const char *const absent[] = { "define", "template", "block", NULL };
    if (g_strv_contains(absent, word))
        return problem(parser, "{{%s}} is not supported", word);
    return (node->pipe = parse_pipe(parser, "command")) && end_action(parser);
}

static enum ending parse_list(struct parser *parser, GPtrArray *nodes)
{
    for (;;) {
        const char *open = strstr(parser->text + parser->at, "{{");
        gsize start = parser->at, stop = open ? (gsize)(open - parser->text) : parser->length;
        bool trims = open && open[2] == '-' && is_blank(open[3]);
        add_text(parser, nodes, start, stop, trims);
        parser->at = stop;
        if (!open)
            return END_OF_TEXT;
        parser->at += trims ? 4 : 2;
        if (starts(parser, "/*")) {
            if (!parse_comment(parser))
                return END_FAILED;
            continue;
        }
        skip_blanks(parser);
        g_autofree char *word = peek_word(parser);
        if (strcmp(word, "end") == 0) {
            parser->at += 3;
            return end_action(parser) ? END_END : END_FAILED;
        }
        if (strcmp(word, "else") == 0) {
            parser->at += 4;
            return END_ELSE;
        }
        if (!parse_keyword_or_action(parser, nodes, word))
            return END_FAILED;
    }
}

struct template *template_parse(const char *text, GError **error)
{
    gsize length = strlen(text);
    if (length > TEMPLATE_TEXT_MAX) {
        error_set(error, TARE_ERROR_TOO_LARGE, "template: larger than %u bytes", TEMPLATE_TEXT_MAX);
        return NULL;
    }
    struct template *template = g_new0(struct template, 1);
    template->text = g_strdup(text);
    template->nodes = g_ptr_array_new_with_free_func(node_free);
    g_autoptr(GPtrArray) scope = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(scope, g_strdup("$"));
    g_autoptr(GError) failure = NULL;
    struct parser parser = { .text = template->text, .length = length, .scope = scope, .error = &failure };
    enum ending ending = parse_list(&parser, template->nodes);
    if (ending == END_OF_TEXT)
        return template;
    if (ending != END_FAILED)
        problem(&parser, "unexpected {{%s}}", ending == END_END ? "end" : "else");
    g_propagate_error(error, g_steal_pointer(&failure));
    template_free(template);
    return NULL;
}
