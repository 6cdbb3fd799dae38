/* Templates: the functions, those of Go's text/template and docker's own. */
#include "cli/template-internal.h"

#include <math.h>
#include <string.h>

#define PAD_MAX 65536

bool template_truth(const json_t *value)
{
    if (!value)
        return false;
    switch (json_typeof(value)) {
    case JSON_STRING:
        return json_string_length(value) > 0;
    case JSON_INTEGER:
        return json_integer_value(value) != 0;
    case JSON_REAL:
        return json_real_value(value) != 0;
    case JSON_ARRAY:
        return json_array_size(value) > 0;
    case JSON_OBJECT:
        return json_object_size(value) > 0;
    default:
        return json_is_true(value);
    }
}

/* Go's %v of a float64: the shortest digits that read back the same, with an exponent below 1e-4 and from 1e21. */
static void append_real(GString *out, double value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    for (int digits = 1; digits <= 17; digits++) {
        char format[8];
        g_snprintf(format, sizeof format, "%%.%de", digits - 1);
        g_ascii_formatd(text, sizeof text, format, value);
        if (g_ascii_strtod(text, NULL) == value)
            break;
    }
    const char *mark = strchr(text, 'e');
    int exponent = mark ? (int)g_ascii_strtoll(mark + 1, NULL, 10) : 0;
    if (!mark || exponent < -4 || exponent >= 21) {
        g_string_append(out, text);
        return;
    }
    int digits = (int)strcspn(text, "e") - (text[0] == '-') - (strchr(text, '.') != NULL);
    char format[16], plain[64];
    g_snprintf(format, sizeof format, "%%.%df", MAX(0, digits - 1 - exponent));
    g_string_append(out, g_ascii_formatd(plain, sizeof plain, format, value));
}

static gint by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void append_nested(GString *out, const json_t *value, guint depth);

static void append_object(GString *out, const json_t *object, guint depth)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    const char *name;
    json_t *member;
    json_object_foreach((json_t *)object, name, member) if (name[0] != TEMPLATE_LABELS[0]) g_ptr_array_add(keys, (gpointer)name);
    g_ptr_array_sort(keys, by_text);
    /* Sets, as ExposedPorts and Volumes are, have structures without fields for values. */
    bool is_set = keys->len > 0;
    json_object_foreach((json_t *)object, name, member) is_set =
        is_set && json_is_object(member) && json_object_size(member) == 0;
    g_string_append(out, "map[");
    for (guint i = 0; i < keys->len; i++) {
        g_string_append_printf(out, "%s%s:", i ? " " : "", (const char *)keys->pdata[i]);
        if (is_set)
            g_string_append(out, "{}");
        else
            append_nested(out, json_object_get(object, keys->pdata[i]), depth + 1);
    }
    g_string_append_c(out, ']');
}

static void append_nested(GString *out, const json_t *value, guint depth)
{
    if (depth > TEMPLATE_DEPTH_MAX)
        return;
    switch (json_typeof(value)) {
    case JSON_STRING:
        g_string_append_len(out, json_string_value(value), (gssize)json_string_length(value));
        break;
    case JSON_INTEGER:
        g_string_append_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL:
        append_real(out, json_real_value(value));
        break;
    case JSON_ARRAY:
        g_string_append_c(out, '[');
        for (size_t i = 0; i < json_array_size(value); i++) {
            if (i)
                g_string_append_c(out, ' ');
            append_nested(out, json_array_get(value, i), depth + 1);
        }
        g_string_append_c(out, ']');
        break;
    case JSON_OBJECT:
        append_object(out, value, depth);
        break;
    case JSON_NULL:
        g_string_append(out, "<nil>");
        break;
    default:
        g_string_append(out, json_is_true(value) ? "true" : "false");
    }
}

void template_append_value(GString *out, const json_t *value)
{
    if (!value)
        g_string_append(out, "<no value>");
    else
        append_nested(out, value, 0);
}

static const char *type_of(const json_t *value)
{
    static const char *const names[] = { [JSON_OBJECT] = "map[string]interface {}",
                                         [JSON_ARRAY] = "[]interface {}",
                                         [JSON_STRING] = "string",
                                         [JSON_INTEGER] = "int",
                                         [JSON_REAL] = "float64",
                                         [JSON_TRUE] = "bool",
                                         [JSON_FALSE] = "bool",
                                         [JSON_NULL] = "<nil>" };
    return value ? names[json_typeof(value)] : "<nil>";
}

/* The text of a string argument, or an error as the reflection of Go words it. */
static const char *need_string(const json_t *value, GError **error)
{
    if (json_is_string(value))
        return json_string_value(value);
    error_set(error, TARE_ERROR_INVALID, "wrong type for value; expected string; got %s", type_of(value));
    return NULL;
}

static bool need_int(const json_t *value, gint64 *ret, GError **error)
{
    if (!json_is_integer(value))
        return error_set(error, TARE_ERROR_INVALID, "wrong type for value; expected int; got %s", type_of(value));
    *ret = json_integer_value(value);
    return true;
}

static json_t *take_text(char *text)
{
    json_t *value = json_string_lossy(text);
    g_free(text);
    return value;
}

/* Rows of lists marshal themselves, with the escapes for HTML; all else is without. */
static json_t *function_json(json_t *const *args, guint n, GError **error)
{
    if (!args[0])
        return json_string("null");
    if (json_is_object(args[0]) && json_object_get(args[0], TEMPLATE_LABELS)) {
        g_autoptr(json_t) row = json_copy(args[0]);
        json_object_del(row, TEMPLATE_LABELS);
        return take_text(json_text(row));
    }
    char *text = json_dumps(args[0], JSON_COMPACT | JSON_ENCODE_ANY);
    json_t *value = json_string_lossy(text ? text : "null");
    free(text);
    return value;
}

static json_t *function_split(json_t *const *args, guint n, GError **error)
{
    const char *text = need_string(args[0], error), *separator = text ? need_string(args[1], error) : NULL;
    if (!separator)
        return NULL;
    json_t *parts = json_array();
    if (!*separator) { /* into characters */
        for (const char *c = text; *c; c = g_utf8_next_char(c))
            json_array_append_new(parts, json_stringn(c, (size_t)(g_utf8_next_char(c) - c)));
        return parts;
    }
    for (const char *next; (next = strstr(text, separator)); text = next + strlen(separator))
        json_array_append_new(parts, json_stringn(text, (size_t)(next - text)));
    json_array_append_new(parts, json_string(text));
    return parts;
}

static json_t *function_join(json_t *const *args, guint n, GError **error)
{
    const char *separator = need_string(args[1], error);
    if (!separator)
        return NULL;
    if (!args[0] || json_is_null(args[0]))
        return json_string("");
    if (!json_is_array(args[0])) {
        error_set(error, TARE_ERROR_INVALID, "expected slice, got %s", type_of(args[0]));
        return NULL;
    }
    g_autoptr(GString) out = g_string_new(NULL);
    for (size_t i = 0; i < json_array_size(args[0]); i++) {
        g_string_append(out, i ? separator : "");
        template_append_value(out, json_array_get(args[0], i));
    }
    return json_string_lossy(out->str);
}

static json_t *function_title(json_t *const *args, guint n, GError **error)
{
    const char *text = need_string(args[0], error);
    if (!text)
        return NULL;
    g_autoptr(GString) out = g_string_new(NULL);
    bool inside = false;
    for (const char *c = text; *c; c = g_utf8_next_char(c)) {
        gunichar u = g_utf8_get_char(c);
        bool letter = g_unichar_isalnum(u) || u == '_' || u == '\'';
        g_string_append_unichar(out, letter && !inside ? g_unichar_totitle(u) : u);
        inside = letter;
    }
    return json_string_lossy(out->str);
}

static json_t *function_lower(json_t *const *args, guint n, GError **error)
{
    const char *text = need_string(args[0], error);
    return text ? take_text(g_utf8_strdown(text, -1)) : NULL;
}

static json_t *function_upper(json_t *const *args, guint n, GError **error)
{
    const char *text = need_string(args[0], error);
    return text ? take_text(g_utf8_strup(text, -1)) : NULL;
}

static json_t *function_pad(json_t *const *args, guint n, GError **error)
{
    gint64 before, after;
    const char *text = need_string(args[0], error);
    if (!text || !need_int(args[1], &before, error) || !need_int(args[2], &after, error))
        return NULL;
    if (before < 0 || after < 0 || before > PAD_MAX || after > PAD_MAX) {
        error_set(error, TARE_ERROR_INVALID, "strings: negative Repeat count");
        return NULL;
    }
    if (!*text)
        return json_string("");
    g_autofree char *head = g_strnfill((gsize)before, ' '), *tail = g_strnfill((gsize)after, ' ');
    return take_text(g_strconcat(head, text, tail, NULL));
}

static json_t *function_truncate(json_t *const *args, guint n, GError **error)
{
    gint64 length;
    const char *text = need_string(args[0], error);
    if (!text || !need_int(args[1], &length, error))
        return NULL;
    if (length < 0) {
        error_set(error, TARE_ERROR_INVALID, "runtime error: slice bounds out of range [:%" G_GINT64_FORMAT "]", length);
        return NULL;
    }
    return (gint64)strlen(text) < length ? json_string(text) : take_text(g_strndup(text, (gsize)length));
}

static json_t *function_len(json_t *const *args, guint n, GError **error)
{
    if (json_is_string(args[0]))
        return json_integer((json_int_t)json_string_length(args[0]));
    if (json_is_array(args[0]))
        return json_integer((json_int_t)json_array_size(args[0]));
    if (json_is_object(args[0]))
        return json_integer((json_int_t)json_object_size(args[0]));
    if (!args[0] || json_is_null(args[0]))
        error_set(error, TARE_ERROR_INVALID, "len of nil pointer");
    else
        error_set(error, TARE_ERROR_INVALID, "len of type %s", type_of(args[0]));
    return NULL;
}

static json_t *function_index(json_t *const *args, guint n, GError **error)
{
    json_t *value = args[0];
    for (guint i = 1; i < n; i++) {
        json_t *key = args[i];
        if (!value || json_is_null(value)) {
            error_set(error, TARE_ERROR_INVALID, "index of untyped nil");
            return NULL;
        }
        if (json_is_object(value)) {
            const char *name = need_string(key, error);
            if (!name)
                return NULL;
            json_t *member = json_object_get(value, name), *any = json_object_iter_value(json_object_iter(value));
            if (!member && i + 1 == n && json_is_string(any)) /* what a map of strings does not have is an empty one */
                return json_string("");
            value = member;
        } else if (json_is_array(value) || json_is_string(value)) {
            gint64 at, length = (gint64)(json_is_array(value) ? json_array_size(value) : json_string_length(value));
            if (!json_is_integer(key)) {
                error_set(error, TARE_ERROR_INVALID, "cannot index slice/array with type %s", type_of(key));
                return NULL;
            }
            at = json_integer_value(key);
            if (at < 0 || at >= length) {
                error_set(error, TARE_ERROR_INVALID, "index out of range: %" G_GINT64_FORMAT, at);
                return NULL;
            }
            if (json_is_string(value))
                return i + 1 == n ? json_integer((unsigned char)json_string_value(value)[at]) : NULL;
            value = json_array_get(value, (size_t)at);
        } else {
            error_set(error, TARE_ERROR_INVALID, "can't index item of type %s", type_of(value));
            return NULL;
        }
    }
    return json_incref(value);
}

static json_t *function_slice(json_t *const *args, guint n, GError **error)
{
    bool is_text = json_is_string(args[0]);
    if (!is_text && !json_is_array(args[0])) {
        error_set(error, TARE_ERROR_INVALID, "can't slice item of type %s", type_of(args[0]));
        return NULL;
    }
    gint64 length = (gint64)(is_text ? json_string_length(args[0]) : json_array_size(args[0])), bounds[3] = { 0, length, length };
    for (guint i = 1; i < n; i++) {
        if (!need_int(args[i], &bounds[i - 1], error))
            return NULL;
        if (bounds[i - 1] < 0 || bounds[i - 1] > length) {
            error_set(error, TARE_ERROR_INVALID, "index out of range: %" G_GINT64_FORMAT, bounds[i - 1]);
            return NULL;
        }
    }
    if (bounds[0] > bounds[1] || (n == 4 && (is_text || bounds[1] > bounds[2]))) {
        error_set(error, TARE_ERROR_INVALID, "invalid slice index: %" G_GINT64_FORMAT " > %" G_GINT64_FORMAT, bounds[0],
                  bounds[1]);
        return NULL;
    }
    if (is_text)
        return take_text(g_strndup(json_string_value(args[0]) + bounds[0], (gsize)(bounds[1] - bounds[0])));
    json_t *part = json_array();
    for (gint64 i = bounds[0]; i < bounds[1]; i++)
        json_array_append(part, json_array_get(args[0], (size_t)i));
    return part;
}

static json_t *function_print(json_t *const *args, guint n, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    for (guint i = 0; i < n; i++) {
        if (i > 0 && !json_is_string(args[i]) && !json_is_string(args[i - 1]))
            g_string_append_c(out, ' ');
        if (args[i])
            template_append_value(out, args[i]);
        else
            g_string_append(out, "<nil>");
    }
    return json_string_lossy(out->str);
}

static json_t *function_println(json_t *const *args, guint n, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    for (guint i = 0; i < n; i++) {
        g_string_append(out, i ? " " : "");
        template_append_value(out, args[i]);
    }
    g_string_append_c(out, '\n');
    return json_string_lossy(out->str);
}

static void append_quoted(GString *out, const char *text)
{
    g_string_append_c(out, '"');
    for (const char *c = text; *c; c++) {
        static const char from[] = "\a\b\f\n\r\t\v\\\"", to[] = "abfnrtv\\\"";
        const char *known = strchr(from, *c);
        if (known)
            g_string_append_printf(out, "\\%c", to[known - from]);
        else if ((unsigned char)*c < 0x20 || *c == 0x7f)
            g_string_append_printf(out, "\\x%02x", (unsigned char)*c);
        else
            g_string_append_c(out, *c);
    }
    g_string_append_c(out, '"');
}

struct verb {
    bool minus, plus, zero, sharp;
    int width, precision; /* precision -1: none */
    char letter;
};

static const char *parse_verb(const char *at, struct verb *ret)
{
    *ret = (struct verb){ .precision = -1 };
    for (;; at++) {
        if (*at == '-')
            ret->minus = true;
        else if (*at == '+')
            ret->plus = true;
        else if (*at == '0')
            ret->zero = true;
        else if (*at == '#' || *at == ' ')
            ret->sharp = ret->sharp || *at == '#';
        else
            break;
    }
    for (; g_ascii_isdigit(*at); at++)
        ret->width = MIN(ret->width * 10 + (*at - '0'), 10000);
    if (*at == '.')
        for (at++, ret->precision = 0; g_ascii_isdigit(*at); at++)
            ret->precision = MIN(ret->precision * 10 + (*at - '0'), 1000);
    ret->letter = *at;
    return *at ? at + 1 : at;
}

/* The text of one verb before padding; NULL where verb and type do not go together. */
static char *format_verb(const struct verb *verb, const json_t *value)
{
    g_autoptr(GString) out = g_string_new(NULL);
    char text[512], format[16];
    if (verb->letter == 'v') {
        template_append_value(out, value);
    } else if (json_is_string(value) && strchr("sq", verb->letter)) {
        g_autofree char *part =
            verb->precision >= 0
                ? g_utf8_substring(json_string_value(value), 0, MIN(verb->precision, g_utf8_strlen(json_string_value(value), -1)))
                : g_strdup(json_string_value(value));
        if (verb->letter == 'q')
            append_quoted(out, part);
        else
            g_string_append(out, part);
    } else if (json_is_string(value) && strchr("xX", verb->letter)) {
        for (const char *c = json_string_value(value); *c; c++)
            g_string_append_printf(out, verb->letter == 'x' ? "%02x" : "%02X", (unsigned char)*c);
    } else if (json_is_integer(value) && strchr("dxXoc", verb->letter)) {
        gint64 n = json_integer_value(value);
        if (verb->letter == 'c')
            g_string_append_unichar(out, n > 0 && n <= 0x10ffff ? (gunichar)n : 0xfffd);
        else if (verb->letter == 'd')
            g_string_append_printf(out, verb->plus ? "%+" G_GINT64_FORMAT : "%" G_GINT64_FORMAT, n);
        else
            g_string_append_printf(out,
                                   verb->letter == 'x'   ? "%s%" G_GINT64_MODIFIER "x"
                                   : verb->letter == 'X' ? "%s%" G_GINT64_MODIFIER "X"
                                                         : "%s%" G_GINT64_MODIFIER "o",
                                   n < 0 ? "-" : "", (guint64)(n < 0 ? -n : n));
    } else if (json_is_real(value) && strchr("feEgG", verb->letter)) {
        g_snprintf(format, sizeof format, "%%.%d%c", verb->precision < 0 ? 6 : MIN(verb->precision, 100), verb->letter);
        g_string_append(out, g_ascii_formatd(text, sizeof text, format, json_real_value(value)));
    } else if (json_is_boolean(value) && verb->letter == 't') {
        g_string_append(out, json_is_true(value) ? "true" : "false");
    } else if ((json_is_array(value) || json_is_object(value)) && verb->letter == 's') {
        template_append_value(out, value);
    } else {
        return NULL;
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static void append_verb(GString *out, const struct verb *verb, const json_t *value)
{
    g_autofree char *text = format_verb(verb, value);
    if (!text) {
        if (!value || json_is_null(value)) {
            g_string_append_printf(out, "%%!%c(<nil>)", verb->letter);
            return;
        }
        g_string_append_printf(out, "%%!%c(%s=", verb->letter, json_is_integer(value) ? "int" : type_of(value));
        template_append_value(out, value);
        g_string_append_c(out, ')');
        return;
    }
    glong length = g_utf8_strlen(text, -1), missing = verb->width > length ? verb->width - length : 0;
    bool zeros = verb->zero && !verb->minus && (json_is_number(value) || json_is_string(value));
    if (!verb->minus && !zeros)
        g_string_append_printf(out, "%*s", (int)missing, "");
    const char *digits = text;
    if (zeros && json_is_number(value) && (*digits == '-' || *digits == '+'))
        g_string_append_c(out, *digits++);
    for (glong i = 0; zeros && i < missing; i++)
        g_string_append_c(out, '0');
    g_string_append(out, digits);
    if (verb->minus)
        g_string_append_printf(out, "%*s", (int)missing, "");
}

static json_t *function_printf(json_t *const *args, guint n, GError **error)
{
    const char *at = need_string(args[0], error);
    if (!at)
        return NULL;
    g_autoptr(GString) out = g_string_new(NULL);
    guint next = 1;
    while (*at && out->len < TEMPLATE_OUTPUT_MAX) {
        if (*at != '%') {
            g_string_append_c(out, *at++);
            continue;
        }
        struct verb verb;
        at = parse_verb(at + 1, &verb);
        if (verb.letter == '%')
            g_string_append_c(out, '%');
        else if (!verb.letter)
            g_string_append(out, "%!(NOVERB)");
        else if (next >= n)
            g_string_append_printf(out, "%%!%c(MISSING)", verb.letter);
        else
            append_verb(out, &verb, args[next++]);
    }
    if (next < n) {
        g_string_append(out, "%!(EXTRA ");
        for (guint i = next; i < n; i++) {
            g_string_append_printf(out, "%s%s=", i > next ? ", " : "", type_of(args[i]));
            template_append_value(out, args[i]);
        }
        g_string_append_c(out, ')');
    }
    return json_string_lossy(out->str);
}

static json_t *function_not(json_t *const *args, guint n, GError **error)
{
    return json_boolean(!template_truth(args[0]));
}

/* -1, 0, 1 or an error. Only values of one kind compare. */
static bool compare(const json_t *a, const json_t *b, bool ordered, int *ret, GError **error)
{
    if (json_is_string(a) && json_is_string(b)) {
        *ret = strcmp(json_string_value(a), json_string_value(b));
        return true;
    }
    if (json_is_integer(a) && json_is_integer(b)) {
        json_int_t x = json_integer_value(a), y = json_integer_value(b);
        *ret = (x > y) - (x < y);
        return true;
    }
    if (json_is_real(a) && json_is_real(b)) {
        *ret = (json_real_value(a) > json_real_value(b)) - (json_real_value(a) < json_real_value(b));
        return true;
    }
    bool nil_a = !a || json_is_null(a), nil_b = !b || json_is_null(b);
    if (!ordered && (nil_a || nil_b)) {
        *ret = !(nil_a && nil_b);
        return true;
    }
    if (!ordered && json_is_boolean(a) && json_is_boolean(b)) {
        *ret = json_is_true(a) != json_is_true(b);
        return true;
    }
    bool basic = a && b && !json_is_array(a) && !json_is_object(a) && !json_is_array(b) && !json_is_object(b);
    return error_set(error, TARE_ERROR_INVALID, "%s",
                     basic && !(json_is_boolean(a) && ordered) ? "incompatible types for comparison"
                     : ordered                                 ? "invalid type for comparison"
                                                               : "non-comparable type");
}

static json_t *function_eq(json_t *const *args, guint n, GError **error)
{
    for (guint i = 1; i < n; i++) {
        int order;
        if (!compare(args[0], args[i], false, &order, error))
            return NULL;
        if (order == 0)
            return json_true();
    }
    return json_false();
}

static json_t *function_ne(json_t *const *args, guint n, GError **error)
{
    int order;
    return compare(args[0], args[1], false, &order, error) ? json_boolean(order != 0) : NULL;
}

#define ORDERING(name, relation)                                                                       \
    static json_t *function_##name(json_t *const *args, guint n, GError **error)                       \
    {                                                                                                  \
        int order;                                                                                     \
        return compare(args[0], args[1], true, &order, error) ? json_boolean(order relation 0) : NULL; \
    }
ORDERING(lt, <)
ORDERING(le, <=)
ORDERING(gt, >)
ORDERING(ge, >=)

/* and, or: here so that they are known; the executor evaluates them itself, as far as needed. */
static json_t *function_last(json_t *const *args, guint n, GError **error)
{
    return json_incref(args[n - 1]);
}

static const struct template_builtin builtins[] = {
    { "and", 1, CLI_ANY, function_last },
    { "or", 1, CLI_ANY, function_last },
    { "not", 1, 1, function_not },
    { "len", 1, 1, function_len },
    { "index", 1, CLI_ANY, function_index },
    { "slice", 1, 4, function_slice },
    { "print", 0, CLI_ANY, function_print },
    { "printf", 1, CLI_ANY, function_printf },
    { "println", 0, CLI_ANY, function_println },
    { "eq", 2, CLI_ANY, function_eq },
    { "ne", 2, 2, function_ne },
    { "lt", 2, 2, function_lt },
    { "le", 2, 2, function_le },
    { "gt", 2, 2, function_gt },
    { "ge", 2, 2, function_ge },
    { "json", 1, 1, function_json },
    { "split", 2, 2, function_split },
    { "join", 2, 2, function_join },
    { "title", 1, 1, function_title },
    { "lower", 1, 1, function_lower },
    { "upper", 1, 1, function_upper },
    { "pad", 3, 3, function_pad },
    { "truncate", 2, 2, function_truncate },
};

const struct template_builtin *template_find_function(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(builtins); i++)
        if (strcmp(builtins[i].name, name) == 0)
            return &builtins[i];
    return NULL;
}
