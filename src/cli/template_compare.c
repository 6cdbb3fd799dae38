/* Templates: eq, ne, lt, le, gt, ge and not. */
#include "cli/template-functions.h"

#include <string.h>

static bool is_basic(enum go_kind kind)
{
    return kind == GO_BOOL || kind == GO_INT || kind == GO_UINT || kind == GO_FLOAT || kind == GO_STRING;
}

/* Of two values of one basic kind: -1, 0, 1. */
static int order_of(struct value a, struct value b)
{
    char room_a[64], room_b[64];
    double x, y;
    switch (go_kind(a.type)) {
    case GO_STRING:
        return strcmp(value_string(a, room_a), value_string(b, room_b));
    case GO_FLOAT:
        x = value_float(a), y = value_float(b);
        return (x > y) - (x < y);
    case GO_BOOL:
        return (int)json_is_true(a.json) - (int)json_is_true(b.json);
    default:
        return (value_int(a) > value_int(b)) - (value_int(a) < value_int(b));
    }
}

static bool are_integers(enum go_kind a, enum go_kind b)
{
    return (a == GO_INT && b == GO_UINT) || (a == GO_UINT && b == GO_INT);
}

static bool is_comparable(const char *type)
{
    enum go_kind kind = go_kind(type);
    const GArray *fields = kind == GO_STRUCT ? go_fields(type) : NULL;
    for (guint i = 0; fields && i < fields->len; i++)
        if (!is_comparable(g_array_index(fields, struct go_field, i).type))
            return false;
    return kind != GO_MAP && kind != GO_SLICE;
}

/* What == does for maps, lists, structures and nil. */
static bool equals_other(struct value a, struct value b, const char *numbers, bool *ret, GError **error)
{
    enum go_kind x = go_kind(a.type), y = go_kind(b.type);
    g_autoptr(GString) text = g_string_new(NULL);
    if (x != y && x != GO_INVALID && y != GO_INVALID) {
        value_print(text, a, numbers);
        g_string_append_printf(text, ": %s, %s: ", a.type, b.type);
        value_print(text, b, numbers);
        return error_set(error, TARE_ERROR_INVALID, "non-comparable types %s", text->str);
    }
    if (value_is_nil(a) || value_is_nil(b))
        return *ret = value_is_nil(a) == value_is_nil(b), true;
    if (!is_comparable(b.type)) {
        value_print(text, b, numbers);
        return error_set(error, TARE_ERROR_INVALID, "non-comparable type %s: %s", text->str, b.type);
    }
    *ret = strcmp(a.type, b.type) == 0 && (x == GO_POINTER ? a.json == b.json : json_equal(a.json, b.json));
    return true;
}

static bool equals(struct value a, struct value b, const char *numbers, bool *ret, GError **error)
{
    a = value_indirect_interface(a, numbers);
    b = value_indirect_interface(b, numbers);
    enum go_kind x = go_kind(a.type), y = go_kind(b.type);
    if (!is_basic(x) && !is_basic(y))
        return equals_other(a, b, numbers, ret, error);
    if (x == y || are_integers(x, y))
        return *ret = order_of(a, b) == 0, true;
    if (x == GO_INVALID || y == GO_INVALID)
        return *ret = false, true;
    return error_set(error, TARE_ERROR_INVALID, "incompatible types for comparison");
}

static bool compare(const struct call_context *context, const struct value *args, int *ret, GError **error)
{
    struct value a = value_indirect_interface(args[0], context->numbers), b = value_indirect_interface(args[1], context->numbers);
    enum go_kind x = go_kind(a.type), y = go_kind(b.type);
    if (!is_basic(x) || !is_basic(y) || (x == y && x == GO_BOOL))
        return error_set(error, TARE_ERROR_INVALID, "invalid type for comparison");
    if (x != y && !are_integers(x, y))
        return error_set(error, TARE_ERROR_INVALID, "incompatible types for comparison");
    *ret = order_of(a, b);
    return true;
}

static bool give(bool truth, struct value *ret)
{
    *ret = value_new("bool", json_boolean(truth));
    return true;
}

bool template_eq(const struct call_context *context, const struct value *args, guint n, struct value *ret, GError **error)
{
    bool equal = false;
    if (n < 2)
        return error_set(error, TARE_ERROR_INVALID, "missing argument for comparison");
    for (guint i = 1; i < n && !equal; i++)
        if (!equals(args[0], args[i], context->numbers, &equal, error))
            return false;
    return give(equal, ret);
}

bool template_ne(const struct call_context *context, const struct value *args, guint n, struct value *ret, GError **error)
{
    bool equal = false;
    return equals(args[0], args[1], context->numbers, &equal, error) && give(!equal, ret);
}

bool template_lt(const struct call_context *context, const struct value *args, guint n, struct value *ret, GError **error)
{
    int order;
    return compare(context, args, &order, error) && give(order < 0, ret);
}

bool template_le(const struct call_context *context, const struct value *args, guint n, struct value *ret, GError **error)
{
    int order;
    return compare(context, args, &order, error) && give(order <= 0, ret);
}

bool template_gt(const struct call_context *context, const struct value *args, guint n, struct value *ret, GError **error)
{
    int order;
    return compare(context, args, &order, error) && give(order > 0, ret);
}

bool template_ge(const struct call_context *context, const struct value *args, guint n, struct value *ret, GError **error)
{
    int order;
    return compare(context, args, &order, error) && give(order >= 0, ret);
}

bool template_not(const struct call_context *context, const struct value *args, guint n, struct value *ret, GError **error)
{
    return give(!value_truth(args[0], context->numbers), ret);
}
