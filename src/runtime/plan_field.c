/* Parsing by tables: one row per member of a JSON object. */
#include "runtime/runtime-internal.h"

#include <string.h>

bool plan_wrong(GError **error, const char *path, const char *what)
{
    return error_set(error, TARE_ERROR_INVALID, "%s: %s", path, what);
}

int plan_lookup(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (names[i] && strcmp(names[i], name) == 0)
            return (int)i;
    return -1;
}

bool plan_refuse(const json_t *value, const char *path, void *out, GError **error)
{
    if ((json_is_object(value) && json_object_size(value) == 0) || (json_is_array(value) && json_array_size(value) == 0))
        return true;
    return error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "%s: not implemented", path);
}

/* A C string of a JSON string; NUL inside would make two readings of one text. */
static const char *plain_string(const json_t *value, const char *path, GError **error)
{
    const char *text = json_string_value(value);
    if (!text)
        plan_wrong(error, path, "must be a string");
    else if (strlen(text) != json_string_length(value))
        plan_wrong(error, path, "contains a NUL character");
    else
        return text;
    return NULL;
}

static bool parse_number(const json_t *value, const char *path, gint64 min, gint64 max, gint64 *ret, GError **error)
{
    if (!json_is_integer(value))
        return plan_wrong(error, path, "must be an integer");
    gint64 number = json_integer_value(value);
    if (number < min || number > max)
        return error_set(error, TARE_ERROR_INVALID, "%s: %" G_GINT64_FORMAT " is out of range", path, number);
    *ret = number;
    return true;
}

static bool parse_strings(const json_t *array, const char *path, char ***ret, GError **error)
{
    if (!json_is_array(array))
        return plan_wrong(error, path, "must be an array");
    if (json_array_size(array) > PLAN_ITEMS_MAX)
        return plan_wrong(error, path, "has too many elements");
    g_autoptr(GPtrArray) strings = g_ptr_array_new_with_free_func(g_free);
    size_t i;
    json_t *value;
    json_array_foreach(array, i, value)
    {
        g_autofree char *where = g_strdup_printf("%s[%zu]", path, i);
        const char *text = plain_string(value, where, error);
        if (!text)
            return false;
        g_ptr_array_add(strings, g_strdup(text));
    }
    g_ptr_array_add(strings, NULL);
    g_strfreev(*ret);
    *ret = (char **)g_ptr_array_steal(strings, NULL);
    return true;
}

static bool parse_field(const json_t *value, const char *path, const struct plan_field *field, void *out, GError **error)
{
    void *target = (char *)out + field->offset;
    gint64 min = field->min, max = field->max, number = 0;
    switch (field->kind) {
    case PLAN_STRING: {
        const char *text = plain_string(value, path, error);
        if (!text)
            return false;
        g_free(*(char **)target);
        *(char **)target = g_strdup(text);
        return true;
    }
    case PLAN_BOOL:
        if (!json_is_boolean(value))
            return plan_wrong(error, path, "must be true or false");
        *(bool *)target = json_is_true(value);
        return true;
    case PLAN_INT:
        if (!parse_number(value, path, max ? min : G_MININT, max ? max : G_MAXINT, &number, error))
            return false;
        *(int *)target = (int)number;
        return true;
    case PLAN_INT64:
        return parse_number(value, path, max ? min : G_MININT64, max ? max : G_MAXINT64, (gint64 *)target, error);
    case PLAN_UINT32:
        if (!parse_number(value, path, min, max ? max : G_MAXUINT32, &number, error))
            return false;
        *(guint32 *)target = (guint32)number;
        return true;
    case PLAN_STRINGS:
        return parse_strings(value, path, (char ***)target, error);
    case PLAN_CUSTOM:
        return field->parse(value, path, target, error);
    }
    g_assert_not_reached();
}

bool plan_parse_object(const json_t *object, const char *path, const struct plan_field *fields, size_t n_fields, void *out,
                       GError **error)
{
    if (!json_is_object(object))
        return plan_wrong(error, path[0] ? path : "specification", "must be an object");
    for (size_t i = 0; i < n_fields; i++) {
        const struct plan_field *field = &fields[i];
        const json_t *value = json_object_get(object, field->name);
        g_autofree char *where = path[0] ? g_strconcat(path, ".", field->name, NULL) : g_strdup(field->name);
        if (!value || json_is_null(value)) {
            if (field->required)
                return plan_wrong(error, where, "is required");
            continue;
        }
        if (!parse_field(value, where, field, out, error))
            return false;
        if (field->has_offset)
            *(bool *)((char *)out + field->has_offset) = true;
    }
    return true;
}

bool plan_parse_array(const json_t *array, const char *path, size_t max, plan_parser parse, GArray *out, GError **error)
{
    if (!json_is_array(array))
        return plan_wrong(error, path, "must be an array");
    if (json_array_size(array) > max)
        return plan_wrong(error, path, "has too many elements");
    size_t i;
    json_t *value;
    json_array_foreach(array, i, value)
    {
        g_autofree char *where = g_strdup_printf("%s[%zu]", path, i);
        g_array_set_size(out, out->len + 1);
        if (!parse(value, where, out->data + (size_t)(out->len - 1) * g_array_get_element_size(out), error))
            return false;
    }
    return true;
}
