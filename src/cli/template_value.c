/* Templates: values of Go's types over JSON. */
#include "cli/template-internal.h"

#include <string.h>

struct value value_ref(struct value value)
{
    json_incref(value.json);
    return value;
}

void value_clear(struct value *value)
{
    json_decref(value->json);
    *value = VALUE_INVALID;
}

struct value value_new(const char *type, json_t *json)
{
    return (struct value){ type, json };
}

struct value value_text(const char *text)
{
    return value_new("string", json_string_lossy(text));
}

static bool is_null(const json_t *json)
{
    return !json || json_is_null(json);
}

bool value_is_nil(struct value value)
{
    switch (go_kind(value.type)) {
    case GO_INVALID:
        return true;
    case GO_POINTER:
    case GO_INTERFACE:
    case GO_MAP:
    case GO_SLICE:
        return is_null(value.json);
    default:
        return false;
    }
}

/* The type that encoding/json gives what it decodes without being told one. */
static const char *dynamic_type(const json_t *json, const char *numbers)
{
    if (json_is_string(json))
        return "string";
    if (json_is_boolean(json))
        return "bool";
    if (json_is_number(json))
        return numbers;
    return json_is_array(json) ? "[]interface {}" : "map[string]interface {}";
}

struct value value_elem(struct value value, const char *numbers)
{
    if (is_null(value.json))
        return VALUE_INVALID;
    return value_new(go_kind(value.type) == GO_POINTER ? go_elem(value.type) : dynamic_type(value.json, numbers), value.json);
}

struct value value_indirect(struct value value, const char *numbers, bool *ret_is_nil)
{
    *ret_is_nil = false;
    for (enum go_kind kind; (kind = go_kind(value.type)) == GO_POINTER || kind == GO_INTERFACE;) {
        if (is_null(value.json))
            return *ret_is_nil = true, value;
        value = value_elem(value, numbers);
    }
    return value;
}

struct value value_indirect_interface(struct value value, const char *numbers)
{
    return go_kind(value.type) == GO_INTERFACE ? value_elem(value, numbers) : value;
}

const char *value_string(struct value value, char room[64])
{
    if (json_is_integer(value.json))
        g_snprintf(room, 64, "%" JSON_INTEGER_FORMAT, json_integer_value(value.json));
    else if (json_is_real(value.json))
        g_snprintf(room, 64, "%.17g", json_real_value(value.json));
    else
        return json_is_string(value.json) ? json_string_value(value.json) : "";
    return room;
}

gint64 value_int(struct value value)
{
    return json_is_integer(value.json) ? json_integer_value(value.json) : 0;
}

double value_float(struct value value)
{
    return json_is_number(value.json) ? json_number_value(value.json) : 0;
}

/* "[2]uint" → 2 */
static gint64 array_length(const char *type)
{
    return (gint64)g_ascii_strtoull(type + 1, NULL, 10);
}

gint64 value_length(struct value value)
{
    char room[64];
    switch (go_kind(value.type)) {
    case GO_STRING:
        return (gint64)strlen(value_string(value, room));
    case GO_ARRAY:
        return array_length(value.type);
    case GO_MAP:
        return (gint64)json_object_size(value.json);
    default:
        return (gint64)json_array_size(value.json);
    }
}

bool value_truth(struct value value, const char *numbers)
{
    value = value_indirect_interface(value, numbers);
    switch (go_kind(value.type)) {
    case GO_INVALID:
        return false;
    case GO_BOOL:
        return json_is_true(value.json);
    case GO_INT:
    case GO_UINT:
        return value_int(value) != 0;
    case GO_FLOAT:
        return value_float(value) != 0;
    case GO_STRUCT:
        return true;
    case GO_POINTER:
    case GO_INTERFACE:
        return !is_null(value.json);
    default:
        return value_length(value) > 0;
    }
}

struct value value_at(struct value value, gsize i)
{
    char room[64];
    if (go_kind(value.type) == GO_STRING)
        return value_new("uint8", json_integer((guchar)value_string(value, room)[i]));
    return value_new(go_elem(value.type), json_incref(json_array_get(value.json, i)));
}

struct value value_member(struct value map, const char *key)
{
    json_t *member = key[0] == TEMPLATE_LABELS[0] ? NULL : json_object_get(map.json, key);
    return member ? value_new(go_elem(map.type), json_incref(member)) : VALUE_INVALID;
}

static gint by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

GPtrArray *value_keys(struct value map)
{
    GPtrArray *keys = g_ptr_array_new();
    const char *name;
    json_t *member;
    json_object_foreach(map.json, name, member) if (name[0] != TEMPLATE_LABELS[0]) g_ptr_array_add(keys, (gpointer)name);
    g_ptr_array_sort(keys, by_text);
    return keys;
}

static struct value field_value(struct value value, const struct go_field *field)
{
    return value_new(field->type, json_incref(field->embedded ? value.json : json_object_get(value.json, field->json)));
}

bool value_field(struct value value, const char *name, struct value *ret, char **ret_problem)
{
    const GArray *fields = go_fields(value.type);
    for (guint i = 0; i < fields->len; i++) {
        const struct go_field *field = &g_array_index(fields, struct go_field, i);
        if (strcmp(field->name, name) == 0) {
            if (field->unexported || g_ascii_islower(*name)) {
                *ret_problem = g_strdup_printf("%s is an unexported field of struct type %s", name, value.type);
                return false;
            }
            *ret = field_value(value, field);
            return true;
        }
    }
    for (guint i = 0; i < fields->len; i++) { /* what is promoted from embedded structures */
        const struct go_field *field = &g_array_index(fields, struct go_field, i);
        const char *type = *field->type == '*' ? field->type + 1 : field->type;
        struct value embedded = value_new(type, value.json);
        if (field->embedded && value_field(embedded, name, ret, ret_problem))
            return true;
    }
    return false;
}
