/* The API's filters objects: {"name": {"value": true}} or, from old clients, {"name": ["value"]}. */
#include "image/image-internal.h"

#include "base/parse.h"
#include "base/timestamp.h"

#include <string.h>

char **image_filter_values(const json_t *filters, const char *name)
{
    json_t *values = json_object_get(filters, name);
    if (json_is_array(values))
        return json_string_array(values);
    if (!json_is_object(values))
        return NULL;
    GPtrArray *strings = g_ptr_array_new();
    const char *value;
    json_t *is_set;
    json_object_foreach(values, value, is_set) if (json_is_true(is_set)) g_ptr_array_add(strings, g_strdup(value));
    g_ptr_array_add(strings, NULL);
    return (char **)g_ptr_array_free(strings, FALSE);
}

bool image_filter_check_names(const json_t *filters, const char *const *known, GError **error)
{
    const char *name;
    json_t *values;
    json_object_foreach((json_t *)filters, name, values) if (!g_strv_contains(known, name)) return error_set(
        error, TARE_ERROR_INVALID, "invalid filter '%s'", name);
    return true;
}

bool labels_match(const json_t *labels, const char *filter)
{
    const char *equals = strchr(filter, '=');
    g_autofree char *key = equals ? g_strndup(filter, (gsize)(equals - filter)) : g_strdup(filter);
    const json_t *value = json_object_get(labels, key);
    if (!value)
        return false;
    return !equals || g_strcmp0(json_string_value(value), equals + 1) == 0;
}

bool image_filter_time(const char *text, gint64 *ret_ns, GError **error)
{
    gint64 duration;
    guint64 seconds;
    g_autofree char *whole = g_strdup(text);
    char *dot = strchr(whole, '.');
    if (dot)
        *dot = '\0';
    if (timestamp_parse(text, ret_ns))
        return true;
    if (parse_uint(whole, G_MAXINT64 / 1000000000, &seconds))
        return *ret_ns = (gint64)seconds * 1000000000, true;
    if (parse_duration_ns(text, &duration))
        return *ret_ns = timestamp_now() - duration, true;
    g_autofree char *date = g_strconcat(text, strchr(text, 'T') ? "Z" : "T00:00:00Z", NULL);
    if (timestamp_parse(date, ret_ns))
        return true;
    return error_set(error, TARE_ERROR_INVALID, "invalid filter 'until=%s'", text);
}
