/* Templates of --format: Go's text/template with docker's functions. The lexer makes tokens, the parser a tree (both pure), and
 * execution writes text. Values have Go's types, over the JSON that the engine sent: what docker's client decodes into structures
 * has fields, zero values and names of types here too, so that output and errors are the same. Everything is bounded, for
 * templates are also fuzzed: text, depth, steps and output. */
#pragma once

#include "cli/cli-internal.h"

#define TEMPLATE_TEXT_MAX (1u << 20)
#define TEMPLATE_DEPTH_MAX 200
#define TEMPLATE_STEPS_MAX 4000000u
#define TEMPLATE_OUTPUT_MAX (256u << 20)

/* ---- template_lex.c ---- */

enum token_kind {
    TOKEN_ERROR,
    TOKEN_BOOL,
    TOKEN_CHAR, /* one character: "," and what is an error wherever it comes */
    TOKEN_CHARACTER_CONSTANT,
    TOKEN_ASSIGN,
    TOKEN_DECLARE,
    TOKEN_EOF,
    TOKEN_FIELD,
    TOKEN_IDENTIFIER,
    TOKEN_LEFT_DELIMITER,
    TOKEN_LEFT_PARENTHESIS,
    TOKEN_NUMBER,
    TOKEN_PIPE,
    TOKEN_RAW_STRING,
    TOKEN_RIGHT_DELIMITER,
    TOKEN_RIGHT_PARENTHESIS,
    TOKEN_SPACE,
    TOKEN_STRING,
    TOKEN_TEXT,
    TOKEN_VARIABLE,
    TOKEN_KEYWORD, /* the kinds from here on are keywords */
    TOKEN_BLOCK,
    TOKEN_BREAK,
    TOKEN_CONTINUE,
    TOKEN_DOT,
    TOKEN_DEFINE,
    TOKEN_ELSE,
    TOKEN_END,
    TOKEN_IF,
    TOKEN_NIL,
    TOKEN_RANGE,
    TOKEN_TEMPLATE,
    TOKEN_WITH,
};

struct token {
    enum token_kind kind;
    gsize at, length;
    guint line;
    const char *problem; /* of an error; in the lexer's chunk */
};

struct lexer {
    const char *input;
    gsize length, at, start;
    guint line, start_line, parentheses;
    bool is_inside, is_over; /* inside an action; after an error there is nothing more */
    GStringChunk *texts;
};
void template_lex_init(struct lexer *lexer, const char *input, GStringChunk *texts);
struct token template_lex_next(struct lexer *lexer);
/* As Go's %q; max: at most so many characters of it (0: all). Appends. */
void template_quote(GString *out, const char *text, gsize length, gsize max);
/* Go's strconv.Unquote, of "…" and `…`; NULL where it is malformed. g_free. */
char *template_unquote(const char *text, gsize length);
/* The one character of '…'; -1 where there are more, -2 where it is malformed. */
gint64 template_unquote_character(const char *text, gsize length);
bool template_is_word(gunichar c);

/* ---- template_node.c ---- */

enum node_kind {
    NODE_TEXT,
    NODE_ACTION,
    NODE_IF,
    NODE_RANGE,
    NODE_WITH,
    NODE_TEMPLATE,
    NODE_BREAK,
    NODE_CONTINUE,
    NODE_END,
    NODE_ELSE,
    NODE_LIST,
    NODE_PIPE,
    NODE_COMMAND,
    NODE_FIELD,
    NODE_CHAIN,
    NODE_VARIABLE,
    NODE_IDENTIFIER,
    NODE_DOT,
    NODE_NIL,
    NODE_BOOL,
    NODE_NUMBER,
    NODE_STRING,
};

struct node {
    enum node_kind kind;
    gsize at;
    const char *text;    /* as written; of a text the text, of a template its name */
    const char *value;   /* of a string: what it stands for */
    json_t *constant;    /* of numbers and booleans */
    GPtrArray *names;    /* of fields, chains and variables: const char * */
    GPtrArray *items;    /* of lists, pipes and commands: struct node * */
    GPtrArray *declared; /* of pipes: variables */
    bool assigns;        /* = instead of := */
    struct node *inner;  /* of a chain: what the names belong to; of a control: its pipe */
    struct node *list, *otherwise;
};

struct template
{
    char *text;
    GStringChunk *texts;
    GPtrArray *nodes;  /* all of them */
    GHashTable *trees; /* name → list; "" is the template itself */
};
struct node *template_node(struct template *template, enum node_kind kind, gsize at);
/* As Go writes a node in errors. */
void template_node_write(GString *out, const struct node *node);
bool template_node_is_empty(const struct node *list);

/* ---- go_types.c: Go's types by their names ---- */

enum go_kind {
    GO_INVALID,
    GO_BOOL,
    GO_INT,
    GO_UINT,
    GO_FLOAT,
    GO_STRING,
    GO_ARRAY,
    GO_SLICE,
    GO_MAP,
    GO_STRUCT,
    GO_POINTER,
    GO_INTERFACE,
};

enum go_kind go_kind(const char *type);
/* Of pointers, slices, arrays and maps; within the same text. */
const char *go_elem(const char *type);
/* True where the type has a name of its own (and so is not assignable to the type that it stands for). */
bool go_is_named(const char *type);

struct go_field {
    const char *name, *type;
    const char *json; /* its key */
    bool embedded, omit_empty, unexported;
};
/* Fields of a struct type in order; an empty array for what is none. Cached, borrowed: of struct go_field. */
const GArray *go_fields(const char *type);

/* ---- template_value.c ---- */

/* A value of a type: json is what the engine sent for it, NULL the zero value. An invalid one (Go's zero reflect.Value, "<no
 * value>") has no type. */
struct value {
    const char *type;
    json_t *json;
};
#define VALUE_INVALID ((struct value){ NULL, NULL })
static inline bool value_is_valid(struct value value)
{
    return value.type != NULL;
}
struct value value_ref(struct value value);
void value_clear(struct value *value);
typedef struct value value_holder;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(value_holder, value_clear)
/* Takes json. */
struct value value_new(const char *type, json_t *json);
struct value value_text(const char *text);
/* Nil pointers, interfaces, maps and slices. */
bool value_is_nil(struct value value);
/* What an interface holds, or a pointer points to; borrowed from value. numbers: the type that numbers of interfaces have. */
struct value value_elem(struct value value, const char *numbers);
struct value value_indirect(struct value value, const char *numbers, bool *ret_is_nil);
struct value value_indirect_interface(struct value value, const char *numbers);
bool value_truth(struct value value, const char *numbers);
gint64 value_length(struct value value);
/* Of strings, json.Number included; borrowed, or from room. */
const char *value_string(struct value value, char room[64]);
gint64 value_int(struct value value);
double value_float(struct value value);
/* The i-th of a slice, array or string; the member of a map (invalid where there is none). New references. */
struct value value_at(struct value value, gsize i);
struct value value_member(struct value map, const char *key);
/* A struct's field, those of embedded ones included; false where there is none. *ret_problem: why it cannot be had. */
bool value_field(struct value value, const char *name, struct value *ret, char **ret_problem);
/* Keys of a map in order; borrowed texts. */
GPtrArray *value_keys(struct value map);

/* ---- go_text.c ---- */

char *go_duration_text(gint64 ns);       /* "1m30s"; g_free */
char *go_time_text(const char *rfc3339); /* "2026-11-24 07:17:03.5 +0000 UTC"; g_free */
/* encoding/json, without the escapes for HTML. */
void value_json(GString *out, struct value value);

/* ---- template_print.c: Go's fmt ---- */

/* fmt's %v. */
void value_print(GString *out, struct value value, const char *numbers);
/* Sprint and Sprintln. */
void value_print_all(GString *out, const struct value *values, guint n, bool with_blanks, const char *numbers);
void value_printf(GString *out, const char *format, const struct value *values, guint n, const char *numbers);

/* ---- template_functions.c ---- */

struct call_context {
    const char *numbers;
    bool is_header; /* functions leave their argument as it is */
};
typedef bool template_function(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                               GError **error);
struct template_builtin {
    const char *name;
    const char *parameters; /* one letter each: v any value as it is, a any, s string, i int; '*' after the last repeats it */
    template_function *call;
};
const struct template_builtin *template_find_function(const char *name);

/* Rows of lists keep their labels for .Label under this name, which is never shown. */
#define TEMPLATE_LABELS "\001Labels"
