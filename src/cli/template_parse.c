/* Templates: tokens to a tree, with the errors that Go's parser has. */
#include "cli/template-internal.h"

#include "base/parse.h"

#include <string.h>

struct parser {
    struct template *template;
    struct lexer lexer;
    struct token tokens[4]; /* pushed back, the next to be read last; [0] is always the newest that was lexed */
    guint n_pushed;
    GPtrArray *variables; /* const char *: in scope */
    guint loops, depth, action_line;
    GError **error;
    bool failed;
};

/* ---- tokens ---- */

static struct token next(struct parser *parser)
{
    if (parser->n_pushed > 0)
        parser->n_pushed--;
    else
        parser->tokens[0] = template_lex_next(&parser->lexer);
    return parser->tokens[parser->n_pushed];
}

static void back(struct parser *parser)
{
    parser->n_pushed++;
}

/* token comes before the one that is pushed back already. */
static void back_before(struct parser *parser, struct token token)
{
    parser->tokens[1] = token;
    parser->n_pushed = 2;
}

static struct token peek(struct parser *parser)
{
    struct token token = next(parser);
    back(parser);
    return token;
}

static struct token next_non_space(struct parser *parser)
{
    struct token token = next(parser);
    while (token.kind == TOKEN_SPACE)
        token = next(parser);
    return token;
}

static struct token peek_non_space(struct parser *parser)
{
    struct token token = next_non_space(parser);
    back(parser);
    return token;
}

static const char *text_of(const struct parser *parser, struct token token)
{
    return parser->lexer.input + token.at;
}

static const char *keep(struct parser *parser, const char *text, gsize length)
{
    return g_string_chunk_insert_len(parser->template->texts, text, (gssize)length);
}

/* ---- errors: the first one counts; NULL so that callers can return it ---- */

static struct node *fail(struct parser *parser, const char *format, ...) G_GNUC_PRINTF(2, 3);

static struct node *fail(struct parser *parser, const char *format, ...)
{
    if (parser->failed)
        return NULL;
    parser->failed = true;
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    error_set(parser->error, TARE_ERROR_INVALID, "template: :%u: %s", parser->tokens[0].line, text);
    return NULL;
}

static struct node *unexpected(struct parser *parser, struct token token, const char *context)
{
    g_autoptr(GString) text = g_string_new(NULL);
    if (token.kind == TOKEN_ERROR) {
        g_string_append(text, token.problem);
        if (parser->action_line != 0 && parser->action_line != token.line)
            g_string_append_printf(text, "%s started at :%u", g_str_has_suffix(token.problem, " action") ? "" : " in action",
                                   parser->action_line);
        return fail(parser, "%s", text->str);
    }
    if (token.kind == TOKEN_EOF) {
        g_string_append(text, "EOF");
    } else if (token.kind > TOKEN_KEYWORD) {
        g_string_append_printf(text, "<%.*s>", (int)token.length, text_of(parser, token));
    } else {
        template_quote(text, text_of(parser, token), token.length, token.length > 10 ? 10 : 0);
        g_string_append(text, token.length > 10 ? "..." : "");
    }
    return fail(parser, "unexpected %s in %s", text->str, context);
}

static struct node *unexpected_node(struct parser *parser, const struct node *node, const char *context)
{
    g_autoptr(GString) text = g_string_new(NULL);
    template_node_write(text, node);
    return context ? fail(parser, "unexpected %s in %s", text->str, context) : fail(parser, "unexpected %s", text->str);
}

static bool expect(struct parser *parser, enum token_kind kind, const char *context, struct token *ret)
{
    struct token token = next_non_space(parser);
    if (ret)
        *ret = token;
    return token.kind == kind || unexpected(parser, token, context);
}

/* ---- operands ---- */

static struct node *named_node(struct parser *parser, enum node_kind kind, struct token token)
{
    struct node *node = template_node(parser->template, kind, token.at);
    node->names = g_ptr_array_new();
    bool dotted = kind == NODE_FIELD;
    g_ptr_array_add(node->names, (gpointer)keep(parser, text_of(parser, token) + dotted, token.length - dotted));
    return node;
}

static struct node *parse_variable(struct parser *parser, struct token token)
{
    struct node *node = named_node(parser, NODE_VARIABLE, token);
    for (guint i = 0; i < parser->variables->len; i++)
        if (strcmp(parser->variables->pdata[i], node->names->pdata[0]) == 0)
            return node;
    return fail(parser, "undefined variable \"%s\"", (const char *)node->names->pdata[0]);
}

/* 12, -0x1f, 0b101, 1_000; false where it is no integer of 64 bits. */
static bool parse_integer(const char *text, gint64 *ret)
{
    g_autofree char *digits = g_strdup(text);
    char *to = digits;
    for (const char *from = text; *from; from++)
        if (*from != '_')
            *to++ = *from;
    *to = '\0';
    bool minus = digits[0] == '-';
    const char *at = digits + (minus || digits[0] == '+');
    guint base = 10;
    if (at[0] == '0' && at[1]) {
        base = strchr("xX", at[1]) ? 16 : strchr("bB", at[1]) ? 2 : 8;
        at += base != 8 || strchr("oO", at[1]) ? 2 : 1;
    }
    guint64 value = 0;
    if (!*at)
        return false;
    for (; *at; at++) {
        int digit = g_ascii_xdigit_value(*at);
        if (digit < 0 || (guint)digit >= base || value > (G_MAXUINT64 - (guint64)digit) / base)
            return false;
        value = value * base + (guint64)digit;
    }
    if (value > (guint64)G_MAXINT64 + minus)
        return false;
    *ret = minus ? (gint64)(0 - value) : (gint64)value;
    return true;
}

static struct node *parse_number(struct parser *parser, struct token token)
{
    struct node *node = template_node(parser->template, NODE_NUMBER, token.at);
    node->text = keep(parser, text_of(parser, token), token.length);
    gint64 integer;
    char *end;
    if (token.kind == TOKEN_CHARACTER_CONSTANT) {
        integer = template_unquote_character(node->text, token.length);
        if (integer < 0)
            return integer == -2 ? fail(parser, "invalid syntax") : fail(parser, "malformed character constant: %s", node->text);
        node->constant = json_integer(integer);
    } else if (parse_integer(node->text, &integer)) {
        node->constant = json_integer(integer);
    } else {
        double real = g_ascii_strtod(node->text, &end);
        bool is_real = strpbrk(node->text, ".eEpP") && !strpbrk(node->text, "_i") && *end == '\0';
        node->constant = is_real ? json_real(real) : NULL;
        if (!node->constant)
            return strspn(node->text, "+-0123456789") == token.length && strpbrk(node->text, "0123456789")
                       ? fail(parser, "integer overflow: \"%s\"", node->text)
                       : fail(parser, "illegal number syntax: \"%s\"", node->text);
    }
    return node;
}

static struct node *parse_string(struct parser *parser, struct token token)
{
    g_autofree char *value = template_unquote(text_of(parser, token), token.length);
    if (!value)
        return fail(parser, "invalid syntax");
    struct node *node = template_node(parser->template, NODE_STRING, token.at);
    node->text = keep(parser, text_of(parser, token), token.length);
    node->value = g_string_chunk_insert(parser->template->texts, value);
    return node;
}

static struct node *parse_pipe(struct parser *parser, const char *context, enum token_kind end);

static struct node *parse_parenthesized(struct parser *parser)
{
    if (++parser->depth > TEMPLATE_DEPTH_MAX)
        return fail(parser, "max expression depth exceeded");
    struct node *pipe = parse_pipe(parser, "parenthesized pipeline", TOKEN_RIGHT_PARENTHESIS);
    parser->depth--;
    return pipe;
}

/* NULL without failure where there is no operand. */
static struct node *parse_term(struct parser *parser)
{
    struct token token = next_non_space(parser);
    struct node *node;
    switch (token.kind) {
    case TOKEN_IDENTIFIER:
        node = template_node(parser->template, NODE_IDENTIFIER, token.at);
        node->text = keep(parser, text_of(parser, token), token.length);
        return template_find_function(node->text) ? node : fail(parser, "function \"%s\" not defined", node->text);
    case TOKEN_DOT:
        return template_node(parser->template, NODE_DOT, token.at);
    case TOKEN_NIL:
        node = template_node(parser->template, NODE_NIL, token.at);
        node->text = "nil";
        return node;
    case TOKEN_VARIABLE:
        return parse_variable(parser, token);
    case TOKEN_FIELD:
        return named_node(parser, NODE_FIELD, token);
    case TOKEN_BOOL:
        node = template_node(parser->template, NODE_BOOL, token.at);
        node->constant = json_boolean(token.length == 4);
        node->text = token.length == 4 ? "true" : "false";
        return node;
    case TOKEN_CHARACTER_CONSTANT:
    case TOKEN_NUMBER:
        return parse_number(parser, token);
    case TOKEN_LEFT_PARENTHESIS:
        return parse_parenthesized(parser);
    case TOKEN_STRING:
    case TOKEN_RAW_STRING:
        return parse_string(parser, token);
    default:
        back(parser);
        return NULL;
    }
}

static struct node *parse_operand(struct parser *parser)
{
    struct node *node = parse_term(parser);
    if (!node || peek(parser).kind != TOKEN_FIELD)
        return node;
    gsize at = peek(parser).at;
    if (node->kind != NODE_FIELD && node->kind != NODE_VARIABLE) {
        struct node *chain = template_node(parser->template, NODE_CHAIN, at);
        chain->names = g_ptr_array_new();
        chain->inner = node;
        node = chain;
    }
    node->at = at; /* errors point to the second part */
    while (peek(parser).kind == TOKEN_FIELD) {
        struct token token = next(parser);
        g_ptr_array_add(node->names, (gpointer)keep(parser, text_of(parser, token) + 1, token.length - 1));
    }
    static const enum node_kind terms[] = { NODE_BOOL, NODE_STRING, NODE_NUMBER, NODE_NIL, NODE_DOT };
    for (gsize i = 0; node->kind == NODE_CHAIN && i < G_N_ELEMENTS(terms); i++)
        if (node->inner->kind == terms[i]) {
            g_autoptr(GString) text = g_string_new(NULL), quoted = g_string_new(NULL);
            template_node_write(text, node->inner);
            template_quote(quoted, text->str, text->len, 0);
            return fail(parser, "unexpected . after term %s", quoted->str);
        }
    return node;
}

static struct node *parse_command(struct parser *parser)
{
    struct node *command = template_node(parser->template, NODE_COMMAND, peek_non_space(parser).at);
    command->items = g_ptr_array_new();
    for (;;) {
        peek_non_space(parser);
        struct node *operand = parse_operand(parser);
        if (parser->failed)
            return NULL;
        if (operand)
            g_ptr_array_add(command->items, operand);
        struct token token = next(parser);
        if (token.kind == TOKEN_SPACE)
            continue;
        if (token.kind == TOKEN_RIGHT_DELIMITER || token.kind == TOKEN_RIGHT_PARENTHESIS)
            back(parser);
        else if (token.kind != TOKEN_PIPE)
            return unexpected(parser, token, "operand");
        break;
    }
    return command->items->len ? command : fail(parser, "empty command");
}

/* ---- pipelines ---- */

static void declare(struct parser *parser, struct node *pipe, struct token token)
{
    struct node *variable = named_node(parser, NODE_VARIABLE, token);
    if (!pipe->declared)
        pipe->declared = g_ptr_array_new();
    g_ptr_array_add(pipe->declared, variable);
    g_ptr_array_add(parser->variables, variable->names->pdata[0]);
}

/* $x := …, $x = …, $i, $e := …: what comes before the commands. */
static bool parse_declarations(struct parser *parser, struct node *pipe, const char *context)
{
    for (;;) {
        struct token variable = peek_non_space(parser);
        if (variable.kind != TOKEN_VARIABLE)
            return true;
        next(parser);
        struct token after = peek(parser), token = peek_non_space(parser);
        if (token.kind == TOKEN_ASSIGN || token.kind == TOKEN_DECLARE) {
            pipe->assigns = token.kind == TOKEN_ASSIGN;
            next_non_space(parser);
            declare(parser, pipe, variable);
            return true;
        }
        if (token.kind == TOKEN_CHAR && *text_of(parser, token) == ',') {
            next_non_space(parser);
            declare(parser, pipe, variable);
            if (strcmp(context, "range") != 0 || pipe->declared->len > 1)
                return fail(parser, "too many declarations in %s", context);
            enum token_kind kind = peek_non_space(parser).kind;
            if (kind != TOKEN_VARIABLE && kind != TOKEN_RIGHT_DELIMITER && kind != TOKEN_RIGHT_PARENTHESIS)
                return fail(parser, "range can only initialize variables");
            continue;
        }
        if (after.kind == TOKEN_SPACE) { /* the space, which peek_non_space skipped, comes in between */
            parser->tokens[1] = after;
            parser->tokens[2] = variable;
            parser->n_pushed = 3;
        } else {
            back_before(parser, variable);
        }
        return true;
    }
}

static struct node *check_pipe(struct parser *parser, struct node *pipe, const char *context)
{
    if (pipe->items->len == 0)
        return fail(parser, "missing value for %s", context);
    for (guint i = 1; i < pipe->items->len; i++) {
        const struct node *command = pipe->items->pdata[i], *first = command->items->pdata[0];
        if (first->kind == NODE_BOOL || first->kind == NODE_DOT || first->kind == NODE_NIL || first->kind == NODE_NUMBER ||
            first->kind == NODE_STRING)
            return fail(parser, "non executable command in pipeline stage %u", i + 1);
    }
    return pipe;
}

static bool begins_operand(enum token_kind kind)
{
    static const enum token_kind kinds[] = { TOKEN_BOOL,     TOKEN_CHARACTER_CONSTANT, TOKEN_DOT,
                                             TOKEN_FIELD,    TOKEN_IDENTIFIER,         TOKEN_NUMBER,
                                             TOKEN_NIL,      TOKEN_RAW_STRING,         TOKEN_STRING,
                                             TOKEN_VARIABLE, TOKEN_LEFT_PARENTHESIS };
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (kinds[i] == kind)
            return true;
    return false;
}

static struct node *parse_pipe(struct parser *parser, const char *context, enum token_kind end)
{
    struct node *pipe = template_node(parser->template, NODE_PIPE, peek_non_space(parser).at);
    pipe->items = g_ptr_array_new();
    if (!parse_declarations(parser, pipe, context))
        return NULL;
    for (;;) {
        struct token token = next_non_space(parser);
        if (token.kind == end)
            return check_pipe(parser, pipe, context);
        if (!begins_operand(token.kind))
            return unexpected(parser, token, context);
        back(parser);
        struct node *command = parse_command(parser);
        if (!command)
            return NULL;
        g_ptr_array_add(pipe->items, command);
    }
}

/* ---- controls ---- */

static struct node *parse_text_or_action(struct parser *parser);

/* Up to {{end}} or {{else}}, which is *ret_end. */
static struct node *parse_items(struct parser *parser, struct node **ret_end)
{
    struct node *list = template_node(parser->template, NODE_LIST, peek_non_space(parser).at);
    list->items = g_ptr_array_new();
    while (peek_non_space(parser).kind != TOKEN_EOF) {
        struct node *node = parse_text_or_action(parser);
        if (!node)
            return NULL;
        if (node->kind == NODE_END || node->kind == NODE_ELSE) {
            *ret_end = node;
            return list;
        }
        g_ptr_array_add(list->items, node);
    }
    return fail(parser, "unexpected EOF");
}

static struct node *parse_control(struct parser *parser, enum node_kind kind);

/* After {{else: another control without an {{end}} of its own, or a list. */
static struct node *parse_else(struct parser *parser, enum node_kind kind)
{
    enum token_kind word = peek(parser).kind;
    if ((kind == NODE_IF && word == TOKEN_IF) || (kind == NODE_WITH && word == TOKEN_WITH)) {
        next(parser);
        struct node *list = template_node(parser->template, NODE_LIST, peek(parser).at), *inner = parse_control(parser, kind);
        if (!inner)
            return NULL;
        list->items = g_ptr_array_new();
        g_ptr_array_add(list->items, inner);
        return list;
    }
    struct node *end, *list = parse_items(parser, &end);
    if (list && end->kind != NODE_END)
        return fail(parser, "expected end; found {{else}}");
    return list;
}

static struct node *parse_control(struct parser *parser, enum node_kind kind)
{
    const char *context = kind == NODE_IF ? "if" : kind == NODE_RANGE ? "range" : "with";
    guint scope = parser->variables->len;
    if (++parser->depth > TEMPLATE_DEPTH_MAX)
        return fail(parser, "max expression depth exceeded");
    struct node *node = template_node(parser->template, kind, 0), *end = NULL;
    if (!(node->inner = parse_pipe(parser, context, TOKEN_RIGHT_DELIMITER)))
        return NULL;
    node->at = node->inner->at;
    parser->loops += kind == NODE_RANGE;
    node->list = parse_items(parser, &end);
    parser->loops -= kind == NODE_RANGE;
    if (!node->list || (end->kind == NODE_ELSE && !(node->otherwise = parse_else(parser, kind))))
        return NULL;
    g_ptr_array_set_size(parser->variables, (gint)scope);
    parser->depth--;
    return node;
}

static struct node *parse_loop_exit(struct parser *parser, enum node_kind kind, gsize at)
{
    const char *word = kind == NODE_BREAK ? "{{break}}" : "{{continue}}";
    if (!expect(parser, TOKEN_RIGHT_DELIMITER, word, NULL))
        return NULL;
    return parser->loops ? template_node(parser->template, kind, at) : fail(parser, "%s outside {{range}}", word);
}

static const char *parse_name(struct parser *parser, struct token token, const char *context)
{
    if (token.kind != TOKEN_STRING && token.kind != TOKEN_RAW_STRING)
        return unexpected(parser, token, context), NULL;
    struct node *string = parse_string(parser, token);
    return string ? string->value : NULL;
}

/* A tree of its own, up to its {{end}}: variables and loops around it do not reach into it. */
static bool parse_definition(struct parser *parser, const char *name, const char *context)
{
    g_autoptr(GPtrArray) outer = parser->variables;
    guint loops = parser->loops;
    parser->variables = g_ptr_array_new();
    g_ptr_array_add(parser->variables, (gpointer) "$");
    parser->loops = 0;
    struct node *end = NULL, *list = ++parser->depth > TEMPLATE_DEPTH_MAX ? fail(parser, "max expression depth exceeded")
                                                                          : parse_items(parser, &end);
    parser->depth--;
    g_ptr_array_unref(parser->variables);
    parser->variables = g_steal_pointer(&outer);
    parser->loops = loops;
    if (!list || !end || (end->kind != NODE_END && !unexpected_node(parser, end, context)))
        return false;
    struct node *old = g_hash_table_lookup(parser->template->trees, name);
    if (!old || template_node_is_empty(old))
        g_hash_table_insert(parser->template->trees, (gpointer)name, list);
    else if (!template_node_is_empty(list))
        return fail(parser, "template: multiple definition of template \"%s\"", name);
    return true;
}

static struct node *parse_block(struct parser *parser)
{
    struct token token = next_non_space(parser);
    struct node *node = template_node(parser->template, NODE_TEMPLATE, token.at);
    node->text = parse_name(parser, token, "block clause");
    if (!node->text || !(node->inner = parse_pipe(parser, "block clause", TOKEN_RIGHT_DELIMITER)))
        return NULL;
    return parse_definition(parser, node->text, "block clause") ? node : NULL;
}

static struct node *parse_template_call(struct parser *parser)
{
    struct token token = next_non_space(parser);
    struct node *node = template_node(parser->template, NODE_TEMPLATE, token.at);
    if (!(node->text = parse_name(parser, token, "template clause")))
        return NULL;
    if (next_non_space(parser).kind == TOKEN_RIGHT_DELIMITER)
        return node;
    back(parser);
    node->inner = parse_pipe(parser, "template clause", TOKEN_RIGHT_DELIMITER);
    return node->inner ? node : NULL;
}

static struct node *parse_else_mark(struct parser *parser)
{
    struct token token = peek_non_space(parser);
    if (token.kind != TOKEN_IF && token.kind != TOKEN_WITH && !expect(parser, TOKEN_RIGHT_DELIMITER, "else", &token))
        return NULL;
    return template_node(parser->template, NODE_ELSE, token.at);
}

static struct node *parse_action(struct parser *parser)
{
    struct token token = next_non_space(parser);
    switch (token.kind) {
    case TOKEN_BLOCK:
        return parse_block(parser);
    case TOKEN_BREAK:
        return parse_loop_exit(parser, NODE_BREAK, token.at);
    case TOKEN_CONTINUE:
        return parse_loop_exit(parser, NODE_CONTINUE, token.at);
    case TOKEN_ELSE:
        return parse_else_mark(parser);
    case TOKEN_END:
        return expect(parser, TOKEN_RIGHT_DELIMITER, "end", NULL) ? template_node(parser->template, NODE_END, token.at) : NULL;
    case TOKEN_IF:
        return parse_control(parser, NODE_IF);
    case TOKEN_RANGE:
        return parse_control(parser, NODE_RANGE);
    case TOKEN_TEMPLATE:
        return parse_template_call(parser);
    case TOKEN_WITH:
        return parse_control(parser, NODE_WITH);
    default:
        break;
    }
    back(parser);
    struct node *node = template_node(parser->template, NODE_ACTION, peek(parser).at);
    node->inner = parse_pipe(parser, "command", TOKEN_RIGHT_DELIMITER);
    return node->inner ? node : NULL;
}

static struct node *parse_text_or_action(struct parser *parser)
{
    struct token token = next_non_space(parser);
    if (token.kind == TOKEN_TEXT) {
        struct node *node = template_node(parser->template, NODE_TEXT, token.at);
        node->text = keep(parser, text_of(parser, token), token.length);
        return node;
    }
    if (token.kind != TOKEN_LEFT_DELIMITER)
        return unexpected(parser, token, "input");
    parser->action_line = token.line;
    struct node *node = parse_action(parser);
    parser->action_line = 0;
    return node;
}

static bool parse_define(struct parser *parser)
{
    struct token token = next_non_space(parser);
    const char *name = parse_name(parser, token, "define clause");
    return name && expect(parser, TOKEN_RIGHT_DELIMITER, "define clause", NULL) &&
           parse_definition(parser, name, "define clause");
}

static struct node *parse_root(struct parser *parser)
{
    struct node *root = template_node(parser->template, NODE_LIST, 0);
    root->items = g_ptr_array_new();
    while (peek(parser).kind != TOKEN_EOF) {
        if (peek(parser).kind == TOKEN_LEFT_DELIMITER) {
            struct token open = next(parser);
            if (next_non_space(parser).kind == TOKEN_DEFINE) {
                if (!parse_define(parser))
                    return NULL;
                continue;
            }
            back(parser);
            back_before(parser, open);
        }
        struct node *node = parse_text_or_action(parser);
        if (!node)
            return NULL;
        if (node->kind == NODE_END || node->kind == NODE_ELSE)
            return unexpected_node(parser, node, NULL);
        g_ptr_array_add(root->items, node);
    }
    return root;
}

struct template *template_parse(const char *text, GError **error)
{
    if (strlen(text) > TEMPLATE_TEXT_MAX) {
        error_set(error, TARE_ERROR_TOO_LARGE, "template: larger than %u bytes", TEMPLATE_TEXT_MAX);
        return NULL;
    }
    struct template *template = g_new0(struct template, 1);
    template->text = g_strdup(text);
    template->texts = g_string_chunk_new(1024);
    template->trees = g_hash_table_new(g_str_hash, g_str_equal);
    struct parser parser = { .template = template, .variables = g_ptr_array_new(), .error = error };
    g_ptr_array_add(parser.variables, (gpointer) "$");
    template_lex_init(&parser.lexer, template->text, template->texts);
    struct node *root = parse_root(&parser);
    if (root) {
        struct node *old = g_hash_table_lookup(template->trees, "");
        if (!old || template_node_is_empty(old))
            g_hash_table_insert(template->trees, (gpointer) "", root);
    }
    g_ptr_array_unref(parser.variables);
    if (!root)
        g_clear_pointer(&template, template_free);
    return template;
}
