#include "base/json.h"

#include <string.h>

json_t *json_parse(const char *text, size_t length, size_t max, const char *what, GError **error)
{
    if (length > max) {
        error_set(error, TARE_ERROR_TOO_LARGE, "%s: larger than %zu bytes", what, max);
        return NULL;
    }
    json_error_t problem;
    json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &problem);
    if (!value)
        error_set(error, TARE_ERROR_INVALID, "%s: %s (line %d, column %d)", what, problem.text, problem.line, problem.column);
    return value;
}

static void append_escaped(GString *out, unsigned code)
{
    g_string_append_printf(out, "\\u%04x", code);
}

/* jansson's text with the characters that Go escapes for HTML replaced; they occur inside strings only. */
static char *go_escaped(char *text)
{
    if (!text)
        return g_strdup("null");
    GString *out = g_string_sized_new(strlen(text) + 16);
    for (const char *c = text; *c; c++) {
        if (*c == '<' || *c == '>' || *c == '&')
            append_escaped(out, (unsigned char)*c);
        else if (strncmp(c, "\xe2\x80\xa8", 3) == 0 || strncmp(c, "\xe2\x80\xa9", 3) == 0) {
            append_escaped(out, c[2] == '\xa8' ? 0x2028 : 0x2029);
            c += 2;
        } else
            g_string_append_c(out, *c);
    }
    free(text);
    return g_string_free(out, FALSE);
}

char *json_text(const json_t *value)
{
    return go_escaped(json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY));
}

char *json_text_indented(const json_t *value)
{
    return go_escaped(json_dumps(value, JSON_INDENT(4) | JSON_ENCODE_ANY));
}

const char *json_get_string(const json_t *object, const char *key, const char *fallback)
{
    const json_t *member = json_object_get(object, key);
    return json_is_string(member) ? json_string_value(member) : fallback;
}

gint64 json_get_int(const json_t *object, const char *key, gint64 fallback)
{
    const json_t *member = json_object_get(object, key);
    return json_is_integer(member) ? json_integer_value(member) : fallback;
}

bool json_get_bool(const json_t *object, const char *key, bool fallback)
{
    const json_t *member = json_object_get(object, key);
    return json_is_boolean(member) ? json_is_true(member) : fallback;
}

json_t *json_get_object(const json_t *object, const char *key)
{
    json_t *member = json_object_get(object, key);
    return json_is_object(member) ? member : NULL;
}

json_t *json_get_array(const json_t *object, const char *key)
{
    json_t *member = json_object_get(object, key);
    return json_is_array(member) ? member : NULL;
}

json_t *json_get_folded(const json_t *object, const char *key)
{
    json_t *exact = json_object_get(object, key);
    if (exact)
        return exact;
    const char *name;
    json_t *member;
    json_object_foreach((json_t *)object, name, member) if (g_ascii_strcasecmp(name, key) == 0) return member;
    return NULL;
}

char **json_string_array(const json_t *array)
{
    if (!json_is_array(array))
        return NULL;
    g_autoptr(GPtrArray) strings = g_ptr_array_new();
    size_t i;
    json_t *item;
    json_array_foreach(array, i, item) if (json_is_string(item)) g_ptr_array_add(strings, g_strdup(json_string_value(item)));
    g_ptr_array_add(strings, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&strings), FALSE);
}

json_t *json_from_strv(const char *const *strings)
{
    if (!strings)
        return json_null();
    json_t *array = json_array();
    for (; *strings; strings++)
        json_array_append_new(array, json_string_lossy(*strings));
    return array;
}

json_t *json_string_lossy(const char *text)
{
    json_t *value = json_string(text);
    if (value)
        return value;
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    return json_string(valid);
}

static gint by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

json_t *json_sorted(const json_t *object)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    json_t *copy = json_object(), *value;
    const char *key;
    json_object_foreach((json_t *)object, key, value) g_ptr_array_add(keys, (gpointer)key);
    g_ptr_array_sort(keys, by_text);
    for (guint i = 0; i < keys->len; i++)
        json_object_set(copy, keys->pdata[i], json_object_get(object, keys->pdata[i]));
    return copy;
}
