/* Templates: the functions, those of Go's text/template (the comparisons are in template_compare.c) and docker's own. */
#include "cli/template-functions.h"

#include <string.h>

#define PAD_MAX 65536

static const char *text_of(struct value value)
{
    return json_is_string(value.json) ? json_string_value(value.json) : "";
}

/* ---- docker's ---- */

static bool function_json(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                          GError **error)
{
    if (context->is_header)
        return *ret = value_ref(args[0]), true;
    g_autoptr(GString) out = g_string_new(NULL);
    value_json(out, args[0]);
    *ret = value_text(out->str);
    return true;
}

static bool function_split(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                           GError **error)
{
    const char *text = text_of(args[0]), *separator = text_of(args[1]);
    if (context->is_header)
        return *ret = value_ref(args[0]), true;
    json_t *parts = json_array();
    *ret = value_new("[]string", parts);
    if (!*separator) { /* into characters */
        for (const char *c = text; *c; c = g_utf8_next_char(c))
            json_array_append_new(parts, json_stringn(c, (size_t)(g_utf8_next_char(c) - c)));
        return true;
    }
    for (const char *next; (next = strstr(text, separator)); text = next + strlen(separator))
        json_array_append_new(parts, json_stringn(text, (size_t)(next - text)));
    json_array_append_new(parts, json_string(text));
    return true;
}

static bool function_join(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                          GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    if (context->is_header)
        return *ret = value_ref(args[0]), true;
    for (size_t i = 0; i < json_array_size(args[0].json); i++) {
        g_string_append(out, i ? text_of(args[1]) : "");
        g_string_append(out, json_string_value(json_array_get(args[0].json, i)));
    }
    *ret = value_text(out->str);
    return true;
}

static bool function_title(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                           GError **error)
{
    if (context->is_header)
        return *ret = value_ref(args[0]), true;
    g_autoptr(GString) out = g_string_new(NULL);
    bool inside = false;
    for (const char *c = text_of(args[0]); *c; c = g_utf8_next_char(c)) {
        gunichar u = g_utf8_get_char(c);
        bool letter = u < 0x80 ? g_ascii_isalnum((char)u) || u == '_' : g_unichar_isalnum(u) || !g_unichar_isspace(u);
        g_string_append_unichar(out, letter && !inside ? g_unichar_totitle(u) : u);
        inside = letter;
    }
    *ret = value_text(out->str);
    return true;
}

/* Character by character, as Go's: what becomes two characters stays as it is. */
static struct value mapped(struct value value, gunichar (*map)(gunichar))
{
    g_autoptr(GString) out = g_string_new(NULL);
    for (const char *c = text_of(value); *c; c = g_utf8_next_char(c))
        g_string_append_unichar(out, map(g_utf8_get_char(c)));
    return value_text(out->str);
}

static bool function_lower(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                           GError **error)
{
    *ret = context->is_header ? value_ref(args[0]) : mapped(args[0], g_unichar_tolower);
    return true;
}

static bool function_upper(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                           GError **error)
{
    *ret = context->is_header ? value_ref(args[0]) : mapped(args[0], g_unichar_toupper);
    return true;
}

static bool function_pad(const struct call_context *context, const struct value *args, guint n, struct value *ret, GError **error)
{
    gint64 before = value_int(args[1]), after = value_int(args[2]);
    const char *text = text_of(args[0]);
    if (!*text)
        return *ret = value_text(""), true;
    if (before < 0 || after < 0)
        return error_set(error, TARE_ERROR_INVALID, "strings: negative Repeat count");
    if (before > PAD_MAX || after > PAD_MAX)
        return error_set(error, TARE_ERROR_INVALID, "pad is limited to %d", PAD_MAX);
    g_autofree char *padded = g_strdup_printf("%*s%s%*s", (int)before, "", text, (int)after, "");
    *ret = value_text(padded);
    return true;
}

static bool function_truncate(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                              GError **error)
{
    gint64 max = value_int(args[1]), length = value_length(args[0]);
    if (context->is_header || length < max)
        return *ret = value_ref(args[0]), true;
    if (max < 0)
        return error_set(error, TARE_ERROR_INVALID, "runtime error: slice bounds out of range [:%" G_GINT64_FORMAT "]", max);
    g_autofree char *cut = g_strndup(text_of(args[0]), (gsize)max);
    *ret = value_text(cut);
    return true;
}

/* ---- Go's: len, index, slice ---- */

static bool function_len(const struct call_context *context, const struct value *args, guint n, struct value *ret, GError **error)
{
    bool is_nil;
    struct value value = value_indirect(args[0], context->numbers, &is_nil);
    if (is_nil)
        return error_set(error, TARE_ERROR_INVALID, "len of nil pointer");
    switch (go_kind(value.type)) {
    case GO_INVALID: /* what Go's reflection says of a value that there is not */
        return error_set(error, TARE_ERROR_INVALID, "reflect: call of reflect.Value.Type on zero Value");
    case GO_STRING:
    case GO_ARRAY:
    case GO_SLICE:
    case GO_MAP:
        *ret = value_new("int", json_integer(value_length(value)));
        return true;
    default:
        return error_set(error, TARE_ERROR_INVALID, "len of type %s", value.type);
    }
}

static bool check_index(struct value index, gint64 capacity, gint64 *ret, GError **error)
{
    enum go_kind kind = go_kind(index.type);
    if (kind == GO_INVALID)
        return error_set(error, TARE_ERROR_INVALID, "cannot index slice/array with nil");
    if (kind != GO_INT && kind != GO_UINT)
        return error_set(error, TARE_ERROR_INVALID, "cannot index slice/array with type %s", index.type);
    *ret = value_int(index);
    return (*ret >= 0 && *ret <= capacity) || error_set(error, TARE_ERROR_INVALID, "index out of range: %" G_GINT64_FORMAT, *ret);
}

static bool index_list(struct value list, struct value index, struct value *ret, GError **error)
{
    gint64 at, length = value_length(list);
    if (!check_index(index, length, &at, error))
        return false;
    if (at == length)
        return error_set(error, TARE_ERROR_INVALID, "reflect: %s index out of range",
                         go_kind(list.type) == GO_STRING  ? "string"
                         : go_kind(list.type) == GO_ARRAY ? "array"
                                                          : "slice");
    *ret = value_at(list, (gsize)at);
    return true;
}

static bool index_map(struct value map, struct value index, struct value *ret, GError **error)
{
    /* Keys of a type of their own (nat.Port) take no plain text. */
    const char *opening = strchr(map.type, '['), *closing = opening ? strchr(opening, ']') : NULL;
    g_autofree char *key = closing ? g_strndup(opening + 1, (gsize)(closing - opening - 1)) : g_strdup("string");
    if (strcmp(map.type, "nat.PortMap") == 0 || strcmp(map.type, "nat.PortSet") == 0)
        key = (g_free(key), g_strdup("nat.Port"));
    if (!value_is_valid(index))
        return error_set(error, TARE_ERROR_INVALID, "value is nil; should be of type %s", key);
    if (strcmp(index.type, key) != 0)
        return error_set(error, TARE_ERROR_INVALID, "value has type %s; should be %s", index.type, key);
    char room[64];
    *ret = value_member(map, value_string(index, room));
    if (!value_is_valid(*ret))
        *ret = value_new(go_elem(map.type), NULL);
    return true;
}

static bool index_once(const struct call_context *context, struct value item, struct value index, struct value *ret,
                       GError **error)
{
    bool is_nil;
    index = value_indirect_interface(index, context->numbers);
    item = value_indirect(item, context->numbers, &is_nil);
    if (is_nil)
        return error_set(error, TARE_ERROR_INVALID, "index of nil pointer");
    switch (go_kind(item.type)) {
    case GO_STRING:
    case GO_ARRAY:
    case GO_SLICE:
        return index_list(item, index, ret, error);
    case GO_MAP:
        return index_map(item, index, ret, error);
    default:
        return error_set(error, TARE_ERROR_INVALID, "can't index item of type %s", item.type);
    }
}

static bool function_index(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                           GError **error)
{
    struct value item = value_ref(value_indirect_interface(args[0], context->numbers));
    if (!value_is_valid(item))
        return error_set(error, TARE_ERROR_INVALID, "index of untyped nil");
    for (guint i = 1; i < n; i++) {
        struct value next = VALUE_INVALID;
        bool ok = index_once(context, item, args[i], &next, error);
        value_clear(&item);
        if (!ok)
            return false;
        item = next;
    }
    *ret = item;
    return true;
}

static bool check_sliceable(struct value item, bool is_nil, guint n, GError **error)
{
    enum go_kind kind = go_kind(item.type);
    if (kind == GO_INVALID)
        return error_set(error, TARE_ERROR_INVALID, "slice of untyped nil");
    if (is_nil)
        return error_set(error, TARE_ERROR_INVALID, "slice of nil pointer");
    if (n > 4)
        return error_set(error, TARE_ERROR_INVALID, "too many slice indexes: %u", n - 1);
    if (kind == GO_STRING && n == 4)
        return error_set(error, TARE_ERROR_INVALID, "cannot 3-index slice a string");
    return kind == GO_STRING || kind == GO_SLICE || kind == GO_ARRAY ||
           error_set(error, TARE_ERROR_INVALID, "can't slice item of type %s", item.type);
}

static bool function_slice(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                           GError **error)
{
    bool is_nil;
    struct value item = value_indirect(value_indirect_interface(args[0], context->numbers), context->numbers, &is_nil);
    if (!check_sliceable(item, is_nil, n, error))
        return false;
    gint64 length = value_length(item), bounds[3] = { 0, length, length };
    for (guint i = 1; i < n; i++)
        if (!check_index(value_indirect_interface(args[i], context->numbers), length, &bounds[i - 1], error))
            return false;
    if (bounds[0] > bounds[1])
        return error_set(error, TARE_ERROR_INVALID, "invalid slice index: %" G_GINT64_FORMAT " > %" G_GINT64_FORMAT, bounds[0],
                         bounds[1]);
    if (n == 4 && bounds[1] > bounds[2])
        return error_set(error, TARE_ERROR_INVALID, "invalid slice index: %" G_GINT64_FORMAT " > %" G_GINT64_FORMAT, bounds[1],
                         bounds[2]);
    if (go_kind(item.type) == GO_STRING) {
        char room[64];
        g_autofree char *part = g_strndup(value_string(item, room) + bounds[0], (gsize)(bounds[1] - bounds[0]));
        *ret = value_new(item.type, json_string_lossy(part));
        return true;
    }
    json_t *part = json_array();
    for (gint64 i = bounds[0]; i < bounds[1]; i++)
        json_array_append(part, json_array_get(item.json, (size_t)i));
    *ret = value_new(item.type, part);
    return true;
}

/* ---- Go's: printing and escaping ---- */

static bool function_print(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                           GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    value_print_all(out, args, n, false, context->numbers);
    *ret = value_text(out->str);
    return true;
}

static bool function_println(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                             GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    value_print_all(out, args, n, true, context->numbers);
    g_string_append_c(out, '\n');
    *ret = value_text(out->str);
    return true;
}

static bool function_printf(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                            GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    value_printf(out, text_of(args[0]), args + 1, n - 1, context->numbers);
    *ret = value_text(out->str);
    return true;
}

static char *printed(const struct call_context *context, const struct value *args, guint n)
{
    g_autoptr(GArray) values = g_array_new(FALSE, FALSE, sizeof(struct value));
    bool is_nil;
    for (guint i = 0; i < n; i++) {
        struct value value = value_indirect_interface(args[i], context->numbers);
        if (go_kind(value.type) == GO_POINTER)
            value = value_indirect(value, context->numbers, &is_nil);
        g_array_append_val(values, value);
    }
    GString *out = g_string_new(NULL);
    value_print_all(out, (const struct value *)(void *)values->data, n, false, context->numbers);
    return g_string_free(out, FALSE);
}

static bool function_html(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                          GError **error)
{
    static const char from[] = "\"'&<>";
    static const char *const to[] = { "&#34;", "&#39;", "&amp;", "&lt;", "&gt;" };
    g_autofree char *text = printed(context, args, n);
    g_autoptr(GString) out = g_string_new(NULL);
    for (const char *c = text; *c; c++) {
        const char *known = strchr(from, *c);
        known ? g_string_append(out, to[known - from]) : g_string_append_c(out, *c);
    }
    *ret = value_text(out->str);
    return true;
}

static bool function_js(const struct call_context *context, const struct value *args, guint n, struct value *ret, GError **error)
{
    g_autofree char *text = printed(context, args, n);
    g_autoptr(GString) out = g_string_new(NULL);
    for (const char *c = text; *c; c = g_utf8_next_char(c)) {
        gunichar u = g_utf8_get_char(c);
        if (strchr("\\'\"", *c))
            g_string_append_printf(out, "\\%c", *c);
        else if (strchr("<>&=", *c) || u < 0x20)
            g_string_append_printf(out, "\\u%04X", u);
        else if (u >= 0x80 && !g_unichar_isprint(u))
            g_string_append_printf(out, "\\u%04X", u);
        else
            g_string_append_unichar(out, u);
    }
    *ret = value_text(out->str);
    return true;
}

static bool function_urlquery(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                              GError **error)
{
    g_autofree char *text = printed(context, args, n);
    g_autoptr(GString) out = g_string_new(NULL);
    for (const char *c = text; *c; c++) {
        if (g_ascii_isalnum(*c) || strchr("-_.~", *c))
            g_string_append_c(out, *c);
        else if (*c == ' ')
            g_string_append_c(out, '+');
        else
            g_string_append_printf(out, "%%%02X", (guchar)*c);
    }
    *ret = value_text(out->str);
    return true;
}

/* ---- the table ---- */

/* and, or, call: here so that they are known; the executor has them itself. */
static bool function_last(const struct call_context *context, const struct value *args, guint n, struct value *ret,
                          GError **error)
{
    *ret = value_ref(args[n - 1]);
    return true;
}

static const struct template_builtin builtins[] = {
    { "and", "vv*", function_last },
    { "call", "vv*", function_last },
    { "eq", "vv*", template_eq },
    { "ge", "vv", template_ge },
    { "gt", "vv", template_gt },
    { "html", "a*", function_html },
    { "index", "vv*", function_index },
    { "join", "ls", function_join },
    { "js", "a*", function_js },
    { "json", "a", function_json },
    { "le", "vv", template_le },
    { "len", "v", function_len },
    { "lower", "s", function_lower },
    { "lt", "vv", template_lt },
    { "ne", "vv", template_ne },
    { "not", "v", template_not },
    { "or", "vv*", function_last },
    { "pad", "sii", function_pad },
    { "print", "a*", function_print },
    { "printf", "sa*", function_printf },
    { "println", "a*", function_println },
    { "slice", "vv*", function_slice },
    { "split", "ss", function_split },
    { "title", "s", function_title },
    { "truncate", "si", function_truncate },
    { "upper", "s", function_upper },
    { "urlquery", "a*", function_urlquery },
};

const struct template_builtin *template_find_function(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(builtins); i++)
        if (strcmp(builtins[i].name, name) == 0)
            return &builtins[i];
    return NULL;
}
