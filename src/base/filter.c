#include "base/filter.h"

#include "base/parse.h"
#include "base/timestamp.h"

#include <string.h>

bool filters_validate(const json_t *filters, const char *const *accepted, GError **error)
{
    if (!filters || json_is_null(filters))
        return true;
    if (!json_is_object(filters))
        return error_set(error, TARE_ERROR_INVALID, "invalid filters");
    const char *key;
    json_t *values;
    json_object_foreach((json_t *)filters, key, values)
    {
        if (!g_strv_contains(accepted, key))
            return error_set(error, TARE_ERROR_INVALID, "Invalid filter '%s'", key);
        if (!json_is_object(values) && !json_is_array(values))
            return error_set(error, TARE_ERROR_INVALID, "invalid filter '%s'", key);
    }
    return true;
}

char **filters_values(const json_t *filters, const char *key)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    json_t *values = json_object_get(filters, key);
    const char *name;
    json_t *value;
    size_t i;
    if (json_is_object(values)) {
        json_object_foreach(values, name, value) if (!json_is_false(value)) g_strv_builder_add(builder, name);
    } else if (json_is_array(values)) {
        json_array_foreach(values, i, value) if (json_is_string(value)) g_strv_builder_add(builder, json_string_value(value));
    }
    return g_strv_builder_end(builder);
}

bool filters_has(const json_t *filters, const char *key)
{
    g_auto(GStrv) values = filters_values(filters, key);
    return values[0];
}

bool filters_matches_exactly(const json_t *filters, const char *key, const char *value)
{
    g_auto(GStrv) values = filters_values(filters, key);
    return !values[0] || (value && g_strv_contains((const char *const *)values, value));
}

bool filters_matches(const json_t *filters, const char *key, const char *text)
{
    g_auto(GStrv) values = filters_values(filters, key);
    if (!values[0])
        return true;
    for (char **value = values; *value; value++)
        if (!strcmp(*value, text) || (strlen(*value) <= 4096 && g_regex_match_simple(*value, text, G_REGEX_RAW, 0)))
            return true;
    return false;
}

static bool label_matches(const json_t *labels, const char *wanted)
{
    const char *equals = strchr(wanted, '=');
    g_autofree char *key = equals ? g_strndup(wanted, equals - wanted) : g_strdup(wanted);
    const char *value = json_string_value(json_object_get(labels, key));
    return value && (!equals || !strcmp(value, equals + 1));
}

bool filters_matches_labels(const json_t *filters, const json_t *labels)
{
    g_auto(GStrv) wanted = filters_values(filters, "label");
    g_auto(GStrv) unwanted = filters_values(filters, "label!");
    for (char **label = wanted; *label; label++)
        if (!label_matches(labels, *label))
            return false;
    for (char **label = unwanted; *label; label++)
        if (label_matches(labels, *label))
            return false;
    return true;
}

bool filter_time(const char *text, gint64 *ret_ns, GError **error)
{
    gint64 ns;
    if (!timestamp_parse_given(text, timestamp_now(), &ns))
        return error_set(error, TARE_ERROR_INVALID, "failed to parse value as time or duration: \"%s\"", text);
    *ret_ns = ns ? ns : 1;
    return true;
}

bool filters_until(const json_t *filters, gint64 *ret_ns, GError **error)
{
    g_auto(GStrv) values = filters_values(filters, "until");
    if (!values[0]) {
        *ret_ns = 0;
        return true;
    }
    if (values[1])
        return error_set(error, TARE_ERROR_INVALID, "more than one until filter specified");
    return filter_time(values[0], ret_ns, error);
}

bool filters_bool(const json_t *filters, const char *key, bool fallback, bool *ret, GError **error)
{
    g_auto(GStrv) values = filters_values(filters, key);
    bool value = fallback;
    if (values[0] && (values[1] || !parse_bool(values[0], &value)))
        return error_set(error, TARE_ERROR_INVALID, "Invalid filter '%s=%s'", key, values[0]);
    *ret = value;
    return true;
}
