/* Templates: execution of the tree over a value. */
#include "cli/template-internal.h"

#include <string.h>

#define CALL_DEPTH_MAX 1000 /* of {{template}} within itself; Go allows 100,000, on a stack that grows */

struct variable {
    const char *name;
    struct value value;
};

struct execution {
    const struct template *template;
    const char *name; /* of the tree that runs */
    enum template_flags flags;
    struct call_context context;
    GString *out;
    GArray *variables; /* of struct variable, the newest last */
    guint scope;       /* where those of the tree that runs begin */
    guint steps, depth;
    const struct node *node; /* what errors point to */
    GError **error;
};

enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE, FLOW_FAILED };

/* Stands for "no value comes through the pipe". */
static const char missing_type[] = "template.missingValType";
#define VALUE_MISSING ((struct value){ missing_type, NULL })

static bool is_missing(struct value value)
{
    return value.type == missing_type;
}

static void variable_clear(gpointer data)
{
    value_clear(&((struct variable *)data)->value);
}

/* 'template: :1:2: executing "" at <.X>: …' */
static bool fail(struct execution *execution, const char *format, ...) G_GNUC_PRINTF(2, 3);

static bool fail(struct execution *execution, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *problem = g_strdup_vprintf(format, args);
    va_end(args);
    g_autoptr(GString) at = g_string_new(NULL), name = g_string_new(NULL);
    const char *text = execution->template->text;
    guint line = 1;
    gsize start = 0;
    for (gsize i = 0; i < execution->node->at; i++)
        if (text[i] == '\n') {
            line++;
            start = i + 1;
        }
    template_node_write(at, execution->node);
    template_quote(name, execution->name, strlen(execution->name), 0);
    return error_set(execution->error, TARE_ERROR_INVALID, "template: :%u:%" G_GSIZE_FORMAT ": executing %s at <%s>: %s", line,
                     execution->node->at - start, name->str, at->str, problem);
}

static bool evaluate_pipe(struct execution *execution, struct value dot, const struct node *pipe, struct value *ret);

/* ---- variables ---- */

static void push_variable(struct execution *execution, const char *name, struct value value)
{
    struct variable variable = { name, value_ref(value) };
    g_array_append_val(execution->variables, variable);
}

static struct variable *find_variable(struct execution *execution, const char *name)
{
    for (guint i = execution->variables->len; i-- > execution->scope;)
        if (strcmp(g_array_index(execution->variables, struct variable, i).name, name) == 0)
            return &g_array_index(execution->variables, struct variable, i);
    return NULL;
}

static bool set_variable(struct execution *execution, const char *name, struct value value)
{
    struct variable *variable = find_variable(execution, name);
    if (!variable)
        return fail(execution, "undefined variable: %s", name);
    struct value old = variable->value;
    variable->value = value_ref(value);
    value_clear(&old);
    return true;
}

/* ---- calls ---- */

static const char *parameter_type(char letter)
{
    return letter == 's' ? "string" : letter == 'i' ? "int" : letter == 'l' ? "[]string" : "interface {}";
}

/* Takes value; makes it one that the parameter accepts. */
static bool convert(struct execution *execution, char parameter, struct value *value)
{
    if (parameter == 'v' || parameter == 'a') {
        *value = parameter == 'a' ? value_indirect_interface(*value, execution->context.numbers) : *value;
        return true;
    }
    const char *type = parameter_type(parameter);
    struct value plain = value_indirect_interface(*value, execution->context.numbers);
    if (!value_is_valid(plain)) {
        if (!value_is_valid(*value) && parameter == 'l')
            return *value = value_new(type, NULL), true;
        if (value_is_valid(*value))
            return fail(execution, "wrong type for value; expected %s; got %s", type, value->type);
        return fail(execution, "invalid value; expected %s", type);
    }
    if (go_kind(plain.type) == GO_POINTER && strcmp(go_elem(plain.type), type) == 0) {
        if (value_is_nil(plain))
            return fail(execution, "dereference of nil pointer of type %s", type);
        plain = value_elem(plain, execution->context.numbers);
    }
    bool is_strings = parameter == 'l' && go_kind(plain.type) == GO_SLICE && strcmp(go_elem(plain.type), "string") == 0;
    if (strcmp(plain.type, type) != 0 && !is_strings)
        return fail(execution, "wrong type for value; expected %s; got %s", type, plain.type);
    *value = plain;
    return true;
}

static bool evaluate_command(struct execution *execution, struct value dot, const struct node *command, struct value final,
                             struct value *ret);
static bool evaluate_named(struct execution *execution, struct value dot, const struct node *node, const GPtrArray *args,
                           struct value final, struct value *ret);

/* What is not a constant, wherever it stands. */
static bool evaluate_any(struct execution *execution, struct value dot, const struct node *node, struct value *ret)
{
    switch (node->kind) {
    case NODE_DOT:
        *ret = value_ref(dot);
        return true;
    case NODE_PIPE:
        return evaluate_pipe(execution, dot, node, ret);
    case NODE_NUMBER:
        *ret = value_new(json_is_real(node->constant) ? "float64" : "int", json_incref(node->constant));
        return true;
    case NODE_BOOL:
        *ret = value_new("bool", json_incref(node->constant));
        return true;
    case NODE_STRING:
        *ret = value_text(node->value);
        return true;
    default:
        return evaluate_named(execution, dot, node, NULL, VALUE_MISSING, ret);
    }
}

static bool evaluate_argument(struct execution *execution, struct value dot, const struct node *node, char parameter,
                              struct value *ret)
{
    execution->node = node;
    bool is_constant = node->kind == NODE_NUMBER || node->kind == NODE_BOOL || node->kind == NODE_STRING;
    if (node->kind == NODE_NIL) {
        *ret = VALUE_INVALID;
        return (parameter != 's' && parameter != 'i') || fail(execution, "cannot assign nil to %s", parameter_type(parameter));
    }
    if (is_constant && parameter == 'l')
        return fail(execution, "can't handle %s for arg of type []string", node->text);
    if (is_constant && ((parameter == 's' && node->kind != NODE_STRING) ||
                        (parameter == 'i' && !(node->kind == NODE_NUMBER && json_is_integer(node->constant)))))
        return fail(execution, "expected %s; found %s", parameter == 's' ? "string" : "integer", node->text);
    struct value value = VALUE_INVALID;
    if (!evaluate_any(execution, dot, node, &value))
        return false;
    if (!convert(execution, parameter, &value)) {
        value_clear(&value);
        return false;
    }
    *ret = value;
    return true;
}

struct invocation {
    const char *name, *parameters;
    const struct node *node; /* of the whole call, for errors that it gives */
    const struct node *const *args;
    guint n_args;
    struct value final;
};

/* and, or: evaluated from the left, only as far as needed. */
static bool call_logic(struct execution *execution, struct value dot, const struct invocation *call, struct value *ret)
{
    bool is_or = strcmp(call->name, "or") == 0;
    struct value value = VALUE_INVALID;
    for (guint i = 0; i < call->n_args; i++) {
        value_clear(&value);
        if (!evaluate_argument(execution, dot, call->args[i], 'v', &value))
            return false;
        if (value_truth(value, execution->context.numbers) == is_or)
            return *ret = value, true;
    }
    if (!is_missing(call->final)) {
        value_clear(&value);
        value = value_ref(call->final);
    }
    *ret = value;
    return true;
}

static char parameter_at(const char *parameters, guint i)
{
    guint fixed = (guint)strcspn(parameters, "*");
    return parameters[MIN(i, fixed - 1)];
}

static bool check_count(struct execution *execution, const struct invocation *call)
{
    guint fixed = (guint)strcspn(call->parameters, "*"), n = call->n_args + !is_missing(call->final);
    bool repeats = call->parameters[fixed] == '*';
    if (repeats && n < fixed - 1)
        return fail(execution, "wrong number of args for %s: want at least %u got %u", call->name, fixed - 1, call->n_args);
    return repeats || n == fixed || fail(execution, "wrong number of args for %s: want %u got %u", call->name, fixed, n);
}

static bool collect(struct execution *execution, struct value dot, const struct invocation *call, GArray *values)
{
    for (guint i = 0; i < call->n_args; i++) {
        struct value value = VALUE_INVALID;
        if (!evaluate_argument(execution, dot, call->args[i], parameter_at(call->parameters, i), &value))
            return false;
        g_array_append_val(values, value);
    }
    if (is_missing(call->final))
        return true;
    struct value value = call->final;
    if (!convert(execution, parameter_at(call->parameters, call->n_args), &value))
        return false;
    value_ref(value);
    g_array_append_val(values, value);
    return true;
}

static void clear_value(gpointer value)
{
    value_clear(value);
}

/* No value can be called. */
static bool refuse_call(struct execution *execution, const struct invocation *call, struct value value)
{
    g_autoptr(GString) name = g_string_new(NULL);
    char room[64];
    value = value_indirect_interface(value, execution->context.numbers);
    if (call->n_args > 0)
        template_node_write(name, call->args[0]);
    else if (go_kind(value.type) == GO_STRING)
        g_string_append(name, value_string(value, room));
    else
        g_string_append_printf(name, "<%s Value>", value_is_valid(value) ? value.type : "invalid");
    execution->node = call->node;
    if (!value_is_valid(value))
        return fail(execution, "error calling call: call of nil");
    return fail(execution, "error calling call: non-function %s of type %s", name->str, value.type);
}

static bool call_function(struct execution *execution, struct value dot, const struct invocation *call,
                          const struct template_builtin *function, struct value *ret)
{
    if (!check_count(execution, call))
        return false;
    if (strcmp(call->name, "and") == 0 || strcmp(call->name, "or") == 0)
        return call_logic(execution, dot, call, ret);
    g_autoptr(GArray) values = g_array_new(FALSE, FALSE, sizeof(struct value));
    g_array_set_clear_func(values, clear_value);
    if (!collect(execution, dot, call, values))
        return false;
    if (strcmp(call->name, "call") == 0)
        return refuse_call(execution, call, g_array_index(values, struct value, 0));
    g_autoptr(GError) problem = NULL;
    if (function->call(&execution->context, (const struct value *)(void *)values->data, values->len, ret, &problem))
        return true;
    execution->node = call->node;
    return fail(execution, "error calling %s: %s", call->name, problem->message);
}

/* The last part of the label's name, as words. */
static struct value label_header(const char *name)
{
    const char *last = strrchr(name, '.');
    g_autofree char *text = g_strdelimit(g_strdup(last ? last + 1 : name), "-_", ' ');
    return value_text(text);
}

/* .Label "x": the one method with a parameter that rows have. */
static bool call_label(struct execution *execution, struct value dot, const struct invocation *call, struct value receiver,
                       struct value *ret)
{
    g_autoptr(GArray) values = g_array_new(FALSE, FALSE, sizeof(struct value));
    g_array_set_clear_func(values, clear_value);
    char room[64];
    if (!check_count(execution, call) || !collect(execution, dot, call, values))
        return false;
    const char *name = value_string(g_array_index(values, struct value, 0), room);
    const char *value = json_get_string(json_object_get(receiver.json, TEMPLATE_LABELS), name, "");
    *ret = execution->flags & TEMPLATE_HEADER ? label_header(name) : value_text(value);
    return true;
}

/* ---- fields ---- */

static const char *member_type(const json_t *member)
{
    if (json_is_string(member))
        return "string";
    if (json_is_boolean(member))
        return "bool";
    if (json_is_integer(member))
        return "int";
    if (json_is_array(member))
        return json_is_object(json_array_get(member, 0)) ? "[]" TEMPLATE_ROW_TYPE "*formatter.rowContext" : "[]string";
    return json_is_object(member) ? "map[string]string" : "*v1.Platform"; /* null */
}

static bool row_field(struct execution *execution, struct value dot, const struct invocation *call, const char *type,
                      struct value receiver, struct value *ret)
{
    if (strcmp(call->name, "Label") == 0 && json_object_get(receiver.json, TEMPLATE_LABELS))
        return call_label(execution, dot, call, receiver, ret);
    json_t *member = call->name[0] == TEMPLATE_LABELS[0] ? NULL : json_object_get(receiver.json, call->name);
    if (!member)
        return fail(execution, "can't evaluate field %s in type %s", call->name, type);
    if (call->n_args > 0 || !is_missing(call->final))
        return fail(execution, "wrong number of args for %s: want 0 got %u", call->name, call->n_args + !is_missing(call->final));
    *ret = value_new(member_type(member), json_incref(member));
    return true;
}

static bool map_field(struct execution *execution, const struct invocation *call, struct value receiver, struct value *ret)
{
    if (call->n_args > 0 || !is_missing(call->final))
        return fail(execution, "%s is not a method but has arguments", call->name);
    *ret = value_member(receiver, call->name);
    if (!value_is_valid(*ret) && execution->flags & TEMPLATE_MISSING_KEY)
        return fail(execution, "map has no entry for key \"%s\"", call->name);
    return true;
}

/* receiver.name, as Go's evalField. */
static bool evaluate_field(struct execution *execution, struct value dot, const struct invocation *call, struct value receiver,
                           struct value *ret)
{
    bool is_nil;
    char *problem = NULL;
    *ret = VALUE_INVALID;
    if (!value_is_valid(receiver))
        return !(execution->flags & TEMPLATE_MISSING_KEY) || fail(execution, "nil data; no entry for key \"%s\"", call->name);
    const char *type = receiver.type;
    if (go_kind(type) == GO_STRUCT && g_str_has_prefix(type, TEMPLATE_ROW_TYPE))
        return row_field(execution, dot, call, type + strlen(TEMPLATE_ROW_TYPE), receiver, ret);
    receiver = value_indirect(receiver, execution->context.numbers, &is_nil);
    enum go_kind kind = go_kind(receiver.type);
    if (is_nil && kind == GO_INTERFACE)
        return fail(execution, "nil pointer evaluating %s.%s", type, call->name);
    if (strcmp(receiver.type, "formatter.SubHeaderContext") == 0 && strcmp(call->name, "Label") == 0)
        return call_label(execution, dot, call, receiver, ret);
    if (kind == GO_MAP)
        return map_field(execution, call, receiver, ret);
    struct value structure = value_new(kind == GO_POINTER ? go_elem(receiver.type) : receiver.type, receiver.json);
    if ((kind == GO_STRUCT || kind == GO_POINTER) && value_field(structure, call->name, ret, &problem)) {
        if (is_nil)
            return fail(execution, "nil pointer evaluating %s.%s", type, call->name);
        if (call->n_args == 0 && is_missing(call->final))
            return true;
        value_clear(ret);
        return fail(execution, "%s has arguments but cannot be invoked as function", call->name);
    }
    g_autofree char *text = problem ? problem : g_strdup_printf("can't evaluate field %s in type %s", call->name, type);
    return fail(execution, "%s", text);
}

static bool evaluate_chain(struct execution *execution, struct value dot, struct value receiver, const struct node *node,
                           guint first, const GPtrArray *args, struct value final, struct value *ret)
{
    struct value value = value_ref(receiver);
    for (guint i = first; i < node->names->len; i++) {
        bool is_last = i + 1 == node->names->len;
        struct invocation call = { .name = node->names->pdata[i], .parameters = "s", .node = node, .final = VALUE_MISSING };
        struct value next = VALUE_INVALID;
        if (is_last && args) {
            call.args = (const struct node *const *)args->pdata + 1;
            call.n_args = args->len - 1;
        }
        if (is_last)
            call.final = final;
        bool ok = evaluate_field(execution, dot, &call, value, &next);
        value_clear(&value);
        if (!ok)
            return false;
        value = next;
    }
    *ret = value;
    return true;
}

static bool refuse_arguments(struct execution *execution, const GPtrArray *args, struct value final)
{
    if ((!args || args->len < 2) && is_missing(final))
        return true;
    g_autoptr(GString) text = g_string_new(NULL);
    template_node_write(text, args->pdata[0]);
    return fail(execution, "can't give argument to non-function %s", text->str);
}

static bool evaluate_function(struct execution *execution, struct value dot, const struct node *node, const struct node *whole,
                              const GPtrArray *args, struct value final, struct value *ret)
{
    const struct template_builtin *function = template_find_function(node->text);
    struct invocation call = { .name = node->text, .parameters = function->parameters, .node = whole, .final = final };
    if (args) {
        call.args = (const struct node *const *)args->pdata + 1;
        call.n_args = args->len - 1;
    }
    /* A table's header is left as it is. */
    if (execution->context.is_header && strcmp(node->text, "json") == 0)
        call.parameters = "s";
    if (execution->context.is_header && strcmp(node->text, "join") == 0)
        call.parameters = "ss";
    return call_function(execution, dot, &call, function, ret);
}

/* Fields, chains, variables and functions; args (its first is the node itself) may be NULL. */
static bool evaluate_named(struct execution *execution, struct value dot, const struct node *node, const GPtrArray *args,
                           struct value final, struct value *ret)
{
    execution->node = node;
    if (node->kind == NODE_FIELD)
        return evaluate_chain(execution, dot, dot, node, 0, args, final, ret);
    if (node->kind == NODE_IDENTIFIER)
        return evaluate_function(execution, dot, node, node, args, final, ret);
    if (node->kind == NODE_CHAIN) {
        g_auto(value_holder) receiver = VALUE_INVALID;
        if (node->inner->kind == NODE_NIL) {
            g_autoptr(GString) text = g_string_new(NULL);
            template_node_write(text, node);
            return fail(execution, "indirection through explicit nil in %s", text->str);
        }
        return evaluate_argument(execution, dot, node->inner, 'v', &receiver) &&
               evaluate_chain(execution, dot, receiver, node, 0, args, final, ret);
    }
    const struct variable *variable = find_variable(execution, node->names->pdata[0]);
    if (!variable)
        return fail(execution, "undefined variable: %s", (const char *)node->names->pdata[0]);
    if (node->names->len == 1 && args && !refuse_arguments(execution, args, final))
        return false;
    g_auto(value_holder) receiver = value_ref(variable->value);
    return evaluate_chain(execution, dot, receiver, node, 1, args, final, ret);
}

static bool evaluate_command(struct execution *execution, struct value dot, const struct node *command, struct value final,
                             struct value *ret)
{
    const struct node *first = command->items->pdata[0];
    if (++execution->steps > TEMPLATE_STEPS_MAX)
        return fail(execution, "too many steps");
    switch (first->kind) {
    case NODE_IDENTIFIER:
        execution->node = first;
        return evaluate_function(execution, dot, first, command, command->items, final, ret);
    case NODE_FIELD:
    case NODE_CHAIN:
    case NODE_VARIABLE:
        return evaluate_named(execution, dot, first, command->items, final, ret);
    case NODE_PIPE:
        return refuse_arguments(execution, command->items, final) && evaluate_pipe(execution, dot, first, ret);
    default:
        execution->node = first;
        if (!refuse_arguments(execution, command->items, final))
            return false;
        return first->kind == NODE_NIL ? fail(execution, "nil is not a command") : evaluate_any(execution, dot, first, ret);
    }
}

static bool evaluate_pipe(struct execution *execution, struct value dot, const struct node *pipe, struct value *ret)
{
    struct value value = VALUE_MISSING;
    if (!pipe)
        return *ret = VALUE_INVALID, true;
    execution->node = pipe;
    for (guint i = 0; i < pipe->items->len; i++) {
        struct value next = VALUE_INVALID;
        bool ok = evaluate_command(execution, dot, pipe->items->pdata[i], value, &next);
        value_clear(&value);
        if (!ok)
            return false;
        value = value_indirect_interface(next, execution->context.numbers);
        if (!value_is_valid(value))
            value_clear(&next);
    }
    for (guint i = 0; pipe->declared && i < pipe->declared->len; i++) {
        const struct node *variable = pipe->declared->pdata[i];
        if (!pipe->assigns)
            push_variable(execution, variable->names->pdata[0], value);
        else if (!set_variable(execution, variable->names->pdata[0], value))
            return value_clear(&value), false;
    }
    *ret = value;
    return true;
}

/* ---- statements ---- */

static enum flow run_list(struct execution *execution, const struct node *list, struct value dot);

static bool assign_round(struct execution *execution, const struct node *pipe, struct value key, struct value item)
{
    guint n = pipe->declared ? pipe->declared->len : 0;
    for (guint i = 0; i < n; i++) {
        const char *name = ((const struct node *)pipe->declared->pdata[i])->names->pdata[0];
        if (!set_variable(execution, name, i + 1 == n ? item : key))
            return false;
    }
    return true;
}

/* One round of range. */
static enum flow run_round(struct execution *execution, const struct node *node, struct value key, struct value item)
{
    guint scope = execution->variables->len;
    if (!assign_round(execution, node->inner, key, item))
        return FLOW_FAILED;
    enum flow flow = run_list(execution, node->list, item);
    g_array_set_size(execution->variables, scope);
    return flow == FLOW_CONTINUE ? FLOW_ON : flow;
}

static enum flow range_list(struct execution *execution, const struct node *node, struct value value, gint64 length)
{
    enum flow flow = FLOW_ON;
    bool is_number = go_kind(value.type) == GO_INT || go_kind(value.type) == GO_UINT;
    for (gint64 i = 0; i < length && flow == FLOW_ON; i++) {
        g_auto(value_holder) key = is_number ? VALUE_INVALID : value_new("int", json_integer(i));
        g_auto(value_holder) item = is_number ? value_new(value.type, json_integer(i)) : value_at(value, (gsize)i);
        flow = run_round(execution, node, key, item);
    }
    return flow;
}

static enum flow range_map(struct execution *execution, const struct node *node, struct value value)
{
    enum flow flow = FLOW_ON;
    g_autoptr(GPtrArray) keys = value_keys(value);
    for (guint i = 0; i < keys->len && flow == FLOW_ON; i++) {
        g_auto(value_holder) key = value_text(keys->pdata[i]), item = value_member(value, keys->pdata[i]);
        flow = run_round(execution, node, key, item);
    }
    return flow;
}

static enum flow run_range(struct execution *execution, const struct node *node, struct value dot, struct value given)
{
    bool is_nil;
    struct value value = value_indirect(given, execution->context.numbers, &is_nil);
    enum go_kind kind = go_kind(value.type);
    gint64 length = 0;
    if (kind == GO_INT || kind == GO_UINT) {
        if (node->inner->declared && node->inner->declared->len > 1)
            return fail(execution, "can't use %" G_GINT64_FORMAT " to iterate over more than one variable", value_int(value)),
                   FLOW_FAILED;
        length = value_int(value);
    } else if (kind == GO_SLICE || kind == GO_ARRAY || kind == GO_MAP) {
        length = value_length(value);
    } else if (kind != GO_INVALID) {
        g_autoptr(GString) text = g_string_new(NULL);
        value_print(text, value, execution->context.numbers);
        return fail(execution, "range can't iterate over %s", text->str), FLOW_FAILED;
    }
    if (length <= 0)
        return node->otherwise ? run_list(execution, node->otherwise, dot) : FLOW_ON;
    enum flow flow = kind == GO_MAP ? range_map(execution, node, value) : range_list(execution, node, value, length);
    return flow == FLOW_BREAK ? FLOW_ON : flow;
}

static enum flow run_control(struct execution *execution, const struct node *node, struct value dot)
{
    guint scope = execution->variables->len;
    g_auto(value_holder) value = VALUE_INVALID;
    execution->node = node->inner;
    if (!evaluate_pipe(execution, dot, node->inner, &value))
        return FLOW_FAILED;
    enum flow flow = FLOW_ON;
    if (node->kind == NODE_RANGE)
        flow = run_range(execution, node, dot, value);
    else if (value_truth(value, execution->context.numbers))
        flow = run_list(execution, node->list, node->kind == NODE_WITH ? value : dot);
    else if (node->otherwise)
        flow = run_list(execution, node->otherwise, dot);
    g_array_set_size(execution->variables, scope);
    return flow;
}

static enum flow run_template(struct execution *execution, const struct node *node, struct value dot)
{
    const struct node *tree = g_hash_table_lookup(execution->template->trees, node->text);
    g_auto(value_holder) value = VALUE_INVALID;
    execution->node = node;
    if (!tree)
        return fail(execution, "template \"%s\" not defined", node->text), FLOW_FAILED;
    if (execution->depth >= CALL_DEPTH_MAX)
        return fail(execution, "exceeded maximum template depth (100000)"), FLOW_FAILED;
    if (!evaluate_pipe(execution, dot, node->inner, &value))
        return FLOW_FAILED;
    guint length = execution->variables->len, scope = execution->scope;
    const char *name = execution->name;
    execution->scope = length;
    execution->name = node->text;
    execution->depth++;
    push_variable(execution, "$", value);
    enum flow flow = run_list(execution, tree, value);
    execution->depth--;
    execution->name = name;
    execution->scope = scope;
    g_array_set_size(execution->variables, length);
    return flow;
}

static enum flow run_action(struct execution *execution, const struct node *node, struct value dot)
{
    g_auto(value_holder) value = VALUE_INVALID;
    bool is_nil = false;
    if (!evaluate_pipe(execution, dot, node->inner, &value))
        return FLOW_FAILED;
    if (node->inner->declared)
        return FLOW_ON;
    struct value shown = go_kind(value.type) == GO_POINTER ? value_indirect(value, execution->context.numbers, &is_nil) : value;
    if (!value_is_valid(shown))
        g_string_append(execution->out, "<no value>");
    else if (is_nil)
        g_string_append(execution->out, "<nil>");
    else
        value_print(execution->out, shown, execution->context.numbers);
    return FLOW_ON;
}

static enum flow run_node(struct execution *execution, const struct node *node, struct value dot)
{
    switch (node->kind) {
    case NODE_TEXT:
        g_string_append(execution->out, node->text);
        return FLOW_ON;
    case NODE_BREAK:
        return FLOW_BREAK;
    case NODE_CONTINUE:
        return FLOW_CONTINUE;
    case NODE_ACTION:
        return run_action(execution, node, dot);
    case NODE_TEMPLATE:
        return run_template(execution, node, dot);
    default:
        return run_control(execution, node, dot);
    }
}

static enum flow run_list(struct execution *execution, const struct node *list, struct value dot)
{
    for (guint i = 0; i < list->items->len; i++) {
        enum flow flow = run_node(execution, list->items->pdata[i], dot);
        if (flow != FLOW_ON)
            return flow;
        if (execution->out->len > TEMPLATE_OUTPUT_MAX || ++execution->steps > TEMPLATE_STEPS_MAX) {
            error_set(execution->error, TARE_ERROR_TOO_LARGE, "template: output is too large");
            return FLOW_FAILED;
        }
    }
    return FLOW_ON;
}

bool template_execute(const struct template *template, const char *type, json_t *data, enum template_flags flags, GString *out,
                      GError **error)
{
    g_autoptr(GArray) variables = g_array_new(FALSE, FALSE, sizeof(struct variable));
    g_array_set_clear_func(variables, variable_clear);
    struct execution execution = { .template = template,
                                   .name = "",
                                   .flags = flags,
                                   .context = { .numbers = flags & TEMPLATE_RAW ? "json.Number" : "float64",
                                                .is_header = flags & TEMPLATE_HEADER },
                                   .out = out,
                                   .variables = variables,
                                   .error = error };
    struct value value = value_new(type, data);
    const struct node *root = g_hash_table_lookup(template->trees, "");
    push_variable(&execution, "$", value);
    return !root || run_list(&execution, root, value_indirect_interface(value, execution.context.numbers)) != FLOW_FAILED;
}
