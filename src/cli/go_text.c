/* Values as Go writes them: durations, points in time, and encoding/json. */
#include "cli/template-internal.h"

#include "base/timestamp.h"

#include <string.h>

#define NS 1000000000

/* "1h2m3.5s", "1.5ms", "0s". */
char *go_duration_text(gint64 ns)
{
    guint64 left = ns < 0 ? 0 - (guint64)ns : (guint64)ns;
    const char *sign = ns < 0 ? "-" : "";
    g_autoptr(GString) text = g_string_new(NULL);
    if (left == 0)
        return g_strdup("0s");
    guint64 unit = left < 1000 ? 1 : left < 1000000 ? 1000 : left < NS ? 1000000 : NS;
    guint64 seconds = left / unit, fraction = left % unit;
    if (unit == NS && seconds >= 3600)
        g_string_append_printf(text, "%" G_GUINT64_FORMAT "h", seconds / 3600);
    if (unit == NS && seconds >= 60)
        g_string_append_printf(text, "%" G_GUINT64_FORMAT "m", seconds / 60 % 60);
    g_string_append_printf(text, "%" G_GUINT64_FORMAT, unit == NS ? seconds % 60 : seconds);
    if (fraction > 0) {
        g_string_append_c(text, '.');
        for (guint64 digit = unit / 10; fraction > 0; fraction %= digit, digit /= 10)
            g_string_append_c(text, (char)('0' + fraction / digit));
    }
    g_string_append(text, unit == 1 ? "ns" : unit == 1000 ? "µs" : unit == 1000000 ? "ms" : "s");
    return g_strconcat(sign, text->str, NULL);
}

/* RFC 3339 → "2026-11-24 07:17:03.5 +0000 UTC", as time.Time's String has it. */
char *go_time_text(const char *text)
{
    if (!text || strlen(text) < 20 || text[10] != 'T')
        return g_strdup(text && *text ? text : "0001-01-01 00:00:00 +0000 UTC");
    const char *zone = strpbrk(text + 19, "Z+-");
    gsize length = zone ? (gsize)(zone - text) : strlen(text);
    while (memchr(text + 19, '.', length - 19) && text[length - 1] == '0')
        length--;
    length -= text[length - 1] == '.';
    g_autofree char *time = g_strndup(text + 11, length - 11);
    if (!zone || *zone == 'Z')
        return g_strdup_printf("%.10s %s +0000 UTC", text, time);
    g_autofree char *offset = g_strdup_printf("%.3s%s", zone, strlen(zone) > 4 ? zone + 4 : "");
    return g_strdup_printf("%.10s %s %s %s", text, time, offset, strcmp(offset, "+0000") == 0 ? "UTC" : offset);
}

/* ---- encoding/json, without the escapes for HTML ---- */

static bool is_empty(struct value value)
{
    switch (go_kind(value.type)) {
    case GO_STRUCT:
        return false;
    case GO_STRING:
    case GO_BOOL:
    case GO_INT:
    case GO_UINT:
    case GO_FLOAT:
        return !value_truth(value, "float64");
    case GO_POINTER:
    case GO_INTERFACE:
        return value_is_nil(value);
    default:
        return value_length(value) == 0;
    }
}

static void append_raw(GString *out, const json_t *json)
{
    g_autoptr(json_t) none = json_null();
    char *text = json_dumps(json ? json : none, JSON_COMPACT | JSON_ENCODE_ANY);
    for (const char *c = text ? text : "null"; *c; c++) {
        if (g_str_has_prefix(c, "\xe2\x80\xa8") || g_str_has_prefix(c, "\xe2\x80\xa9")) { /* as Go escapes them */
            g_string_append_printf(out, "\\u202%c", c[2] == '\xa8' ? '8' : '9');
            c += 2;
        } else {
            g_string_append_c(out, *c);
        }
    }
    free(text);
}

static void append_fields(GString *out, struct value value, const char **separator)
{
    const GArray *fields = go_fields(value.type);
    for (guint i = 0; i < fields->len; i++) {
        const struct go_field *field = &g_array_index(fields, struct go_field, i);
        struct value member = value_new(field->type, field->embedded ? value.json : json_object_get(value.json, field->json));
        if (field->unexported || strcmp(field->json, "-") == 0)
            continue;
        if (field->embedded) {
            member.type += *member.type == '*';
            append_fields(out, member, separator);
        } else if (!field->omit_empty || !is_empty(member)) {
            g_string_append_printf(out, "%s\"%s\":", *separator, field->json);
            value_json(out, member);
            *separator = ",";
        }
    }
}

static void append_items(GString *out, struct value value)
{
    gint64 length = value_length(value);
    g_string_append_c(out, '[');
    for (gint64 i = 0; i < length; i++) {
        g_string_append(out, i ? "," : "");
        g_auto(value_holder) item = value_at(value, (gsize)i);
        value_json(out, item);
    }
    g_string_append_c(out, ']');
}

static void append_members(GString *out, struct value value)
{
    g_autoptr(GPtrArray) keys = value_keys(value);
    g_string_append_c(out, '{');
    for (guint i = 0; i < keys->len; i++) {
        g_autoptr(json_t) key = json_string(keys->pdata[i]);
        g_auto(value_holder) item = value_member(value, keys->pdata[i]);
        g_string_append(out, i ? "," : "");
        append_raw(out, key);
        g_string_append_c(out, ':');
        value_json(out, item);
    }
    g_string_append_c(out, '}');
}

void value_json(GString *out, struct value value)
{
    const char *separator = "";
    char room[64];
    if (value_is_valid(value) &&
        g_str_has_prefix(value.type, TEMPLATE_ROW_TYPE)) { /* rows marshal themselves, with escapes for HTML */
        g_autoptr(json_t) row = json_copy(value.json);
        json_object_del(row, TEMPLATE_LABELS);
        g_autofree char *text = json_text(row);
        g_string_append(out, text);
        return;
    }
    if (!value_is_valid(value) || value_is_nil(value)) {
        g_string_append(out, "null");
        return;
    }
    switch (go_kind(value.type)) {
    case GO_POINTER:
    case GO_INTERFACE:
        value_json(out, value_elem(value, "json.Number"));
        break;
    case GO_STRUCT:
        if (strcmp(value.type, "time.Time") == 0) {
            g_string_append_printf(out, "\"%s\"", value.json ? json_string_value(value.json) : TIMESTAMP_ZERO);
        } else if (strcmp(value.type, "registry.ServiceConfig") == 0) { /* marshals itself, as a map */
            static const char *const left_out[] = { "AllowNondistributableArtifactsCIDRs",
                                                    "AllowNondistributableArtifactsHostnames" };
            g_autoptr(json_t) copy = json_copy(value.json);
            for (gsize i = 0; i < G_N_ELEMENTS(left_out); i++)
                if (json_array_size(json_object_get(copy, left_out[i])) == 0)
                    json_object_del(copy, left_out[i]);
            char *text = json_dumps(copy, JSON_COMPACT | JSON_SORT_KEYS);
            g_string_append(out, text ? text : "{}");
            free(text);
        } else if (value.json && !json_is_object(value.json)) {
            append_raw(out, value.json);
        } else {
            g_string_append_c(out, '{');
            append_fields(out, value, &separator);
            g_string_append_c(out, '}');
        }
        break;
    case GO_MAP:
        append_members(out, value);
        break;
    case GO_SLICE:
    case GO_ARRAY:
        if (json_is_string(value.json)) /* bytes are base64 */
            append_raw(out, value.json);
        else
            append_items(out, value);
        break;
    case GO_STRING:
        if (json_is_number(value.json)) {
            g_string_append(out, value_string(value, room));
        } else {
            g_autoptr(json_t) text = json_string_lossy(value_string(value, room));
            append_raw(out, text);
        }
        break;
    case GO_BOOL:
        g_string_append(out, json_is_true(value.json) ? "true" : "false");
        break;
    case GO_FLOAT:
        append_raw(out, value.json);
        break;
    default:
        g_string_append_printf(out, "%" G_GINT64_FORMAT, value_int(value));
    }
}
