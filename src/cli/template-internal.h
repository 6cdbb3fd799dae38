/* Templates of --format: Go's text/template with docker's functions. Parsing (pure) makes a tree, execution writes text. Values
 * are JSON values; what a map does not have is NULL, which prints as "<no value>". Everything is bounded, for templates are also
 * fuzzed: text, depth, steps and output. */
#pragma once

#include "cli/cli-internal.h"

#define TEMPLATE_TEXT_MAX (1u << 20)
#define TEMPLATE_DEPTH_MAX 64
#define TEMPLATE_STEPS_MAX 4000000u
#define TEMPLATE_OUTPUT_MAX (256u << 20)

enum operand_kind { OPERAND_DOT, OPERAND_VARIABLE, OPERAND_LITERAL, OPERAND_FUNCTION, OPERAND_PIPE };

struct pipe;

struct operand {
    enum operand_kind kind;
    char *name; /* variable ("$", "$x") or function */
    json_t *literal;
    struct pipe *pipe; /* in parentheses */
    GPtrArray *fields; /* names after it: .A.B; NULL where none */
    char *source;      /* as written, for errors */
    gsize at;          /* where in the text */
    gsize error_at;    /* what errors point to: of a chain its second part, as in Go */
};

struct invocation { /* operands one after another: the first is called with the others */
    GPtrArray *operands;
    char *source; /* as written, for errors of functions */
};

struct pipe {
    GPtrArray *declared; /* names of variables, NULL where none */
    bool assigns;        /* = instead of := */
    GPtrArray *invocations;
};

enum node_kind { NODE_TEXT, NODE_ACTION, NODE_IF, NODE_RANGE, NODE_WITH, NODE_BREAK, NODE_CONTINUE };

struct node {
    enum node_kind kind;
    char *text;
    struct pipe *pipe;
    GPtrArray *list, *otherwise; /* of struct node */
};

struct template
{
    char *text;
    GPtrArray *nodes;
};

/* Functions: takes n values (NULL: no value; borrowed), gives a new reference or NULL with *error unset for "no value". */
typedef json_t *template_function(json_t *const *args, guint n, GError **error);
struct template_builtin {
    const char *name;
    guint min, max;
    template_function *call;
};
const struct template_builtin *template_find_function(const char *name);
bool template_truth(const json_t *value);
/* fmt's %v. */
void template_append_value(GString *out, const json_t *value);
/* Rows of lists keep their labels for .Label under this name, which is never shown. */
#define TEMPLATE_LABELS "\001Labels"
