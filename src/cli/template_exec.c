/* Templates: execution of the tree over a JSON value. */
#include "cli/template-internal.h"

#include <string.h>

struct variable {
    char *name;
    json_t *value; /* NULL: no value */
};

struct execution {
    const struct template *template;
    enum template_flags flags;
    GString *out;
    GArray *variables; /* of struct variable, the newest last */
    guint steps;
    GError **error;
};

enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE, FLOW_FAILED };

static void variable_clear(gpointer data)
{
    struct variable *variable = data;
    g_free(variable->name);
    json_decref(variable->value);
}

/* "template: :1:2: executing "" at <.X>: …" */
static bool fail_at(struct execution *execution, const struct operand *operand, const char *format, ...) G_GNUC_PRINTF(3, 4);

static bool fail_at(struct execution *execution, const struct operand *operand, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    guint line = 1;
    gsize start = 0;
    for (gsize i = 0; i < operand->error_at; i++)
        if (execution->template->text[i] == '\n') {
            line++;
            start = i + 1;
        }
    return error_set(execution->error, TARE_ERROR_INVALID, "template: :%u:%" G_GSIZE_FORMAT ": executing \"\" at <%s>: %s", line,
                     operand->error_at - start, operand->source, text);
}

/* Fields that the API leaves out when empty: they exist, and are nil. */
static bool is_optional(const char *name)
{
    static const char *const names[] = {
        "Health",  "Healthcheck",  "Annotations", "Init",    "StopTimeout", "StopSignal",    "ImageManifestDescriptor",
        "SizeRw",  "SizeRootFs",   "MacAddress",  "OnBuild", "Shell",       "NetworkMode",   "ArgsEscaped",
        "Mounts",  "Tmpfs",        "Sysctls",     "Runtime", "StorageOpt",  "Isolation",     "DriverOpts",
        "Volumes", "ExposedPorts", "Labels",      "Status",  "UsageData",   "ClusterVolume", "Name",
        NULL
    };
    return g_strv_contains(names, name);
}

static bool is_map(const char *name)
{
    static const char *const names[] = { "Labels",     "Ports",       "Volumes",    "ExposedPorts", "Networks",
                                         "Options",    "Annotations", "Sysctls",    "Tmpfs",        "Config",
                                         "DriverOpts", "Data",        "StorageOpt", "Opts",         "PortBindings",
                                         "Containers", "Endpoints",   "Metadata",   "Details",      NULL };
    return name && g_strv_contains(names, name);
}

/* Templates name Go's fields, answers carry their JSON names: the two differ in these alone. NULL where there is none. */
static json_t *field_by_go_name(const json_t *value, const char *name)
{
    static const char *const names[][2] = { { "APIVersion", "ApiVersion" }, { "ID", "Id" } };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (strcmp(name, names[i][0]) == 0)
            return json_object_get(value, names[i][1]);
    return NULL;
}

/* value.name; *ret is borrowed. parent: the name that led to value, for what kind of map it is. */
static bool field_of(struct execution *execution, const struct operand *operand, json_t *value, const char *name,
                     const char *parent, json_t **ret)
{
    if (!value || json_is_null(value)) {
        if (!parent && !value)
            return fail_at(execution, operand, "nil data; no entry for key \"%s\"", name);
        if (!value && (execution->flags & TEMPLATE_STRICT) == 0)
            return *ret = NULL, true;
        return fail_at(execution, operand, "nil pointer evaluating interface {}.%s", name);
    }
    if (!json_is_object(value))
        return fail_at(execution, operand, "can't evaluate field %s in type interface {}", name);
    *ret = json_object_get(value, name);
    if (!*ret)
        *ret = field_by_go_name(value, name);
    if (*ret || !(execution->flags & TEMPLATE_STRICT))
        return true;
    if (execution->flags & TEMPLATE_ROW)
        return fail_at(execution, operand, "can't evaluate field %s in type *formatter.rowContext", name);
    if (is_map(parent) && !g_ascii_isupper(name[0]))
        return true;
    if (is_optional(name))
        return *ret = json_null(), true;
    return is_map(parent) || fail_at(execution, operand, "map has no entry for key \"%s\"", name);
}

static bool evaluate_pipe(struct execution *execution, const struct pipe *pipe, json_t *dot, json_t **ret);

static struct variable *find_variable(struct execution *execution, const char *name)
{
    for (guint i = execution->variables->len; i-- > 0;)
        if (strcmp(g_array_index(execution->variables, struct variable, i).name, name) == 0)
            return &g_array_index(execution->variables, struct variable, i);
    return NULL;
}

static void push_variable(struct execution *execution, const char *name, json_t *value)
{
    struct variable variable = { g_strdup(name), json_incref(value) };
    g_array_append_val(execution->variables, variable);
}

static bool follow_fields(struct execution *execution, const struct operand *operand, json_t *value, json_t **ret)
{
    const char *parent = operand->kind == OPERAND_DOT ? NULL : "";
    for (guint i = 0; operand->fields && i < operand->fields->len; i++) {
        const char *name = operand->fields->pdata[i];
        if (!field_of(execution, operand, value, name, parent, &value))
            return false;
        parent = name;
    }
    *ret = json_incref(value);
    return true;
}

/* An operand that is not called with arguments. */
static bool evaluate_operand(struct execution *execution, const struct operand *operand, json_t *dot, json_t **ret)
{
    if (++execution->steps > TEMPLATE_STEPS_MAX)
        return fail_at(execution, operand, "too many steps");
    const struct variable *variable;
    const struct template_builtin *function;
    json_t *value = NULL;
    switch (operand->kind) {
    case OPERAND_DOT:
        return follow_fields(execution, operand, dot, ret);
    case OPERAND_VARIABLE:
        variable = find_variable(execution, operand->name);
        return variable ? follow_fields(execution, operand, variable->value, ret)
                        : fail_at(execution, operand, "undefined variable: %s", operand->name);
    case OPERAND_LITERAL:
        *ret = json_incref(operand->literal);
        return true;
    case OPERAND_FUNCTION:
        function = template_find_function(operand->name);
        if (function->min > 0)
            return fail_at(execution, operand, "wrong number of args for %s: want %s%u got 0", operand->name,
                           function->max == CLI_ANY ? "at least " : "", function->min);
        *ret = function->call(NULL, 0, NULL);
        return true;
    default:
        if (!evaluate_pipe(execution, operand->pipe, dot, &value))
            return false;
        bool ok = follow_fields(execution, operand, value, ret);
        json_decref(value);
        return ok;
    }
}

static void release(gpointer value)
{
    json_decref((json_t *)value);
}

/* .Label "x": the one method that rows have. */
static bool call_method(struct execution *execution, const struct operand *operand, json_t *dot, GPtrArray *args, json_t **ret)
{
    const char *name = operand->fields ? operand->fields->pdata[operand->fields->len - 1] : operand->source;
    const json_t *labels = json_object_get(dot, TEMPLATE_LABELS);
    if (operand->kind != OPERAND_DOT || !operand->fields || operand->fields->len != 1 || strcmp(name, "Label") != 0 || !labels)
        return fail_at(execution, operand,
                       operand->fields ? "%s is not a method but has arguments" : "can't give argument to non-function %s", name);
    if (args->len != 1 || !json_is_string((json_t *)args->pdata[0]))
        return fail_at(execution, operand, "wrong number of args for Label: want 1 got %u", args->len);
    json_t *value = json_object_get(labels, json_string_value(args->pdata[0]));
    *ret = value ? json_incref(value) : json_string(execution->flags & TEMPLATE_HEADER ? json_string_value(args->pdata[0]) : "");
    return true;
}

/* and, or: evaluated from the left, only as far as needed. */
static bool evaluate_logic(struct execution *execution, const struct invocation *invocation, json_t *dot, json_t *last,
                           bool has_last, json_t **ret)
{
    const struct operand *first = invocation->operands->pdata[0];
    bool is_or = first->name[0] == 'o';
    guint n = invocation->operands->len - 1 + has_last;
    if (n == 0)
        return fail_at(execution, first, "wrong number of args for %s: want at least 1 got 0", first->name);
    json_t *value = NULL;
    for (guint i = 0; i < n; i++) {
        json_decref(value);
        value = NULL;
        if (i + 1 == n && has_last)
            value = json_incref(last);
        else if (!evaluate_operand(execution, invocation->operands->pdata[i + 1], dot, &value))
            return false;
        if (template_truth(value) == is_or)
            break;
    }
    *ret = value;
    return true;
}

static bool call_function(struct execution *execution, const struct invocation *invocation, GPtrArray *args, json_t **ret)
{
    const struct operand *operand = invocation->operands->pdata[0];
    const struct operand whole = { .source = invocation->source, .error_at = operand->at };
    const struct template_builtin *function = template_find_function(operand->name);
    if (args->len < function->min || args->len > function->max)
        return fail_at(execution, operand, "wrong number of args for %s: want %s%u got %u", operand->name,
                       function->max == CLI_ANY ? "at least " : "", function->min, args->len);
    static const char *const plain[] = { "json", "split", "join", "title", "lower", "upper", "truncate", NULL };
    if (execution->flags & TEMPLATE_HEADER && g_strv_contains(plain, operand->name))
        return *ret = json_incref((json_t *)args->pdata[0]), true;
    g_autoptr(GError) failure = NULL;
    *ret = function->call((json_t *const *)args->pdata, args->len, &failure);
    return !failure || fail_at(execution, &whole, "error calling %s: %s", operand->name, failure->message);
}

static bool evaluate_invocation(struct execution *execution, const struct invocation *invocation, json_t *dot, json_t *last,
                                bool has_last, json_t **ret)
{
    const struct operand *first = invocation->operands->pdata[0];
    bool is_function = first->kind == OPERAND_FUNCTION;
    if (is_function && (strcmp(first->name, "and") == 0 || strcmp(first->name, "or") == 0))
        return evaluate_logic(execution, invocation, dot, last, has_last, ret);
    if (first->kind == OPERAND_LITERAL && json_is_null(first->literal))
        return fail_at(execution, first, "nil is not a command");
    if (!is_function && invocation->operands->len == 1 && !has_last)
        return evaluate_operand(execution, first, dot, ret);
    g_autoptr(GPtrArray) args = g_ptr_array_new_with_free_func(release);
    for (guint i = 1; i < invocation->operands->len; i++) {
        json_t *value = NULL;
        if (!evaluate_operand(execution, invocation->operands->pdata[i], dot, &value))
            return false;
        g_ptr_array_add(args, value);
    }
    if (has_last)
        g_ptr_array_add(args, json_incref(last));
    if (is_function)
        return call_function(execution, invocation, args, ret);
    return call_method(execution, first, dot, args, ret);
}

static bool evaluate_pipe(struct execution *execution, const struct pipe *pipe, json_t *dot, json_t **ret)
{
    json_t *value = NULL;
    for (guint i = 0; i < pipe->invocations->len; i++) {
        json_t *next = NULL;
        bool ok = evaluate_invocation(execution, pipe->invocations->pdata[i], dot, value, i > 0, &next);
        json_decref(value);
        if (!ok)
            return false;
        value = next;
    }
    for (guint i = 0; pipe->declared && i < pipe->declared->len; i++) {
        struct variable *old = pipe->assigns ? find_variable(execution, pipe->declared->pdata[i]) : NULL;
        if (old) {
            json_decref(old->value);
            old->value = json_incref(value);
        } else {
            push_variable(execution, pipe->declared->pdata[i], value);
        }
    }
    *ret = value;
    return true;
}

static enum flow run_list(struct execution *execution, const GPtrArray *nodes, json_t *dot);

/* One round of range; key and value go into the declared variables. */
static enum flow run_round(struct execution *execution, const struct node *node, json_t *key, json_t *value)
{
    const GPtrArray *declared = node->pipe->declared;
    guint scope = execution->variables->len;
    if (declared && declared->len > 1)
        push_variable(execution, declared->pdata[0], key);
    if (declared)
        push_variable(execution, declared->pdata[declared->len - 1], value);
    enum flow flow = run_list(execution, node->list, value);
    g_array_set_size(execution->variables, scope);
    return flow;
}

static gint by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum flow range_object(struct execution *execution, const struct node *node, json_t *object)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    const char *name;
    json_t *member;
    json_object_foreach(object, name, member) g_ptr_array_add(keys, (gpointer)name);
    g_ptr_array_sort(keys, by_text);
    enum flow flow = FLOW_ON;
    for (guint i = 0; i < keys->len && (flow == FLOW_ON || flow == FLOW_CONTINUE); i++) {
        g_autoptr(json_t) key = json_string(keys->pdata[i]);
        flow = run_round(execution, node, key, json_object_get(object, keys->pdata[i]));
    }
    return flow;
}

static enum flow range_array(struct execution *execution, const struct node *node, json_t *array)
{
    enum flow flow = FLOW_ON;
    for (size_t i = 0; i < json_array_size(array) && (flow == FLOW_ON || flow == FLOW_CONTINUE); i++) {
        g_autoptr(json_t) key = json_integer((json_int_t)i);
        flow = run_round(execution, node, key, json_array_get(array, i));
    }
    return flow;
}

static enum flow run_range(struct execution *execution, const struct node *node, json_t *dot, json_t *value)
{
    enum flow flow;
    if (json_is_array(value) && json_array_size(value) > 0)
        flow = range_array(execution, node, value);
    else if (json_is_object(value) && json_object_size(value) > 0)
        flow = range_object(execution, node, value);
    else if (!value || json_is_null(value) || json_is_array(value) || json_is_object(value))
        return node->otherwise ? run_list(execution, node->otherwise, dot) : FLOW_ON;
    else {
        const struct invocation *invocation = node->pipe->invocations->pdata[0];
        g_autoptr(GString) text = g_string_new(NULL);
        template_append_value(text, value);
        fail_at(execution, invocation->operands->pdata[0], "range can't iterate over %s", text->str);
        return FLOW_FAILED;
    }
    return flow == FLOW_FAILED ? FLOW_FAILED : FLOW_ON;
}

static enum flow run_control(struct execution *execution, const struct node *node, json_t *dot)
{
    guint scope = execution->variables->len;
    json_t *value = NULL;
    if (!evaluate_pipe(execution, node->pipe, dot, &value))
        return FLOW_FAILED;
    enum flow flow = FLOW_ON;
    if (node->kind == NODE_RANGE) {
        g_array_set_size(execution->variables, scope); /* its variables are set in each round */
        flow = run_range(execution, node, dot, value);
    } else if (template_truth(value)) {
        flow = run_list(execution, node->list, node->kind == NODE_WITH ? value : dot);
    } else if (node->otherwise) {
        flow = run_list(execution, node->otherwise, dot);
    }
    json_decref(value);
    g_array_set_size(execution->variables, scope);
    return flow;
}

/* What Go prints for a nil: that depends on the type, which the field's name tells. */
static const char *nil_text(const struct invocation *invocation)
{
    static const char *const lists[] = { "Env",
                                         "Cmd",
                                         "Entrypoint",
                                         "Binds",
                                         "CapAdd",
                                         "CapDrop",
                                         "Dns",
                                         "DnsOptions",
                                         "DnsSearch",
                                         "ExtraHosts",
                                         "GroupAdd",
                                         "Links",
                                         "SecurityOpt",
                                         "Devices",
                                         "Ulimits",
                                         "VolumesFrom",
                                         "Mounts",
                                         "OnBuild",
                                         "Shell",
                                         "RepoTags",
                                         "RepoDigests",
                                         "Layers",
                                         "ExecIDs",
                                         "DeviceRequests",
                                         "DeviceCgroupRules",
                                         "BlkioWeightDevice",
                                         "BlkioDeviceReadBps",
                                         "BlkioDeviceWriteBps",
                                         "BlkioDeviceReadIOps",
                                         "BlkioDeviceWriteIOps",
                                         "Aliases",
                                         "DNSNames",
                                         "MaskedPaths",
                                         "ReadonlyPaths",
                                         NULL };
    const struct operand *operand = invocation->operands->pdata[0];
    const char *name = operand->fields ? operand->fields->pdata[operand->fields->len - 1] : "";
    if (g_strv_contains(lists, name))
        return "[]";
    return is_map(name) ? "map[]" : "<nil>";
}

static enum flow run_action(struct execution *execution, const struct node *node, json_t *dot)
{
    json_t *value = NULL;
    if (!evaluate_pipe(execution, node->pipe, dot, &value))
        return FLOW_FAILED;
    if (!node->pipe->declared && json_is_null(value) && node->pipe->invocations->len == 1)
        g_string_append(execution->out, nil_text(node->pipe->invocations->pdata[0]));
    else if (!node->pipe->declared)
        template_append_value(execution->out, value);
    json_decref(value);
    return FLOW_ON;
}

static enum flow run_list(struct execution *execution, const GPtrArray *nodes, json_t *dot)
{
    for (guint i = 0; i < nodes->len; i++) {
        const struct node *node = nodes->pdata[i];
        enum flow flow = FLOW_ON;
        if (node->kind == NODE_TEXT)
            g_string_append(execution->out, node->text);
        else if (node->kind == NODE_BREAK || node->kind == NODE_CONTINUE)
            return node->kind == NODE_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
        else
            flow = node->kind == NODE_ACTION ? run_action(execution, node, dot) : run_control(execution, node, dot);
        if (flow != FLOW_ON)
            return flow;
        if (execution->out->len > TEMPLATE_OUTPUT_MAX || ++execution->steps > TEMPLATE_STEPS_MAX) {
            error_set(execution->error, TARE_ERROR_TOO_LARGE, "template: output is too large");
            return FLOW_FAILED;
        }
    }
    return FLOW_ON;
}

bool template_execute(const struct template *template, json_t *data, enum template_flags flags, GString *out, GError **error)
{
    g_autoptr(GArray) variables = g_array_new(FALSE, FALSE, sizeof(struct variable));
    g_array_set_clear_func(variables, variable_clear);
    struct execution execution = { .template = template, .flags = flags, .out = out, .variables = variables, .error = error };
    push_variable(&execution, "$", data);
    return run_list(&execution, template->nodes, data) != FLOW_FAILED;
}
