/* Templates: values as Go's fmt prints them. */
#include "cli/template-internal.h"

#include "base/timestamp.h"

#include <math.h>
#include <string.h>

struct verb {
    bool minus, plus, zero, sharp, space;
    int width, precision; /* -1: none */
    gunichar letter;
};

struct printer {
    GString *out;
    const char *numbers;
    struct verb verb;
};

/* Go's %v of a float64: the shortest digits that read back the same, with an exponent below 1e-4 and from 1e6. */
static void append_real(GString *out, double value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    if (!isfinite(value)) {
        g_string_append(out, isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf");
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        char format[8];
        g_snprintf(format, sizeof format, "%%.%de", digits - 1);
        g_ascii_formatd(text, sizeof text, format, value);
        if (g_ascii_strtod(text, NULL) == value)
            break;
    }
    const char *mark = strchr(text, 'e');
    int exponent = mark ? (int)g_ascii_strtoll(mark + 1, NULL, 10) : 0;
    if (!mark || exponent < -4 || exponent >= 6) {
        g_string_append(out, text);
        return;
    }
    int digits = (int)strcspn(text, "e") - (text[0] == '-') - (strchr(text, '.') != NULL);
    char format[16], plain[64];
    g_snprintf(format, sizeof format, "%%.%df", MAX(0, digits - 1 - exponent));
    g_string_append(out, g_ascii_formatd(plain, sizeof plain, format, value));
}

/* Padding counts characters. */
static void append_padded(struct printer *printer, const char *text, bool is_number)
{
    const struct verb *verb = &printer->verb;
    glong length = g_utf8_strlen(text, -1), missing = verb->width > length ? verb->width - length : 0;
    bool zeros = verb->zero && !verb->minus;
    if (zeros && is_number && (*text == '-' || *text == '+'))
        g_string_append_c(printer->out, *text++);
    for (glong i = 0; !verb->minus && i < missing; i++)
        g_string_append_c(printer->out, zeros ? '0' : ' ');
    g_string_append(printer->out, text);
    for (glong i = 0; verb->minus && i < missing; i++)
        g_string_append_c(printer->out, ' ');
}

static void print_value(struct printer *printer, struct value value, guint depth);

/* "%!d(string=x)" */
static void append_bad_verb(struct printer *printer, struct value value)
{
    g_string_append(printer->out, "%!");
    g_string_append_unichar(printer->out, printer->verb.letter);
    g_string_append_c(printer->out, '(');
    if (value_is_valid(value)) {
        struct printer plain = { .out = printer->out, .numbers = printer->numbers };
        plain.verb = (struct verb){ .width = -1, .precision = -1, .letter = 'v' };
        g_string_append_printf(printer->out, "%s=", value.type);
        print_value(&plain, value, 0);
    } else {
        g_string_append(printer->out, "<nil>");
    }
    g_string_append_c(printer->out, ')');
}

static void print_hex(struct printer *printer, const char *text)
{
    g_autoptr(GString) hex = g_string_new(printer->verb.sharp && *text ? (printer->verb.letter == 'x' ? "0x" : "0X") : "");
    gsize n = 0, max = printer->verb.precision >= 0 ? (gsize)printer->verb.precision : strlen(text);
    for (const char *c = text; *c && n < max; c++, n++) {
        if (n > 0 && printer->verb.space)
            g_string_append(hex, !printer->verb.sharp ? " " : printer->verb.letter == 'x' ? " 0x" : " 0X");
        g_string_append_printf(hex, printer->verb.letter == 'x' ? "%02x" : "%02X", (guchar)*c);
    }
    append_padded(printer, hex->str, false);
}

static void print_text(struct printer *printer, struct value value, const char *text)
{
    const struct verb *verb = &printer->verb;
    if (verb->letter == 'x' || verb->letter == 'X') {
        print_hex(printer, text);
        return;
    }
    bool quotes = verb->letter == 'q' || (verb->letter == 'v' && verb->sharp);
    if (!quotes && verb->letter != 'v' && verb->letter != 's') {
        append_bad_verb(printer, value);
        return;
    }
    glong length = g_utf8_validate(text, -1, NULL) ? g_utf8_strlen(text, -1) : (glong)strlen(text);
    g_autofree char *cut = verb->precision >= 0 && verb->precision < length && g_utf8_validate(text, -1, NULL)
                               ? g_utf8_substring(text, 0, verb->precision)
                               : g_strdup(text);
    g_autoptr(GString) quoted = g_string_new(NULL);
    if (quotes && verb->sharp && !strchr(cut, '`'))
        g_string_append_printf(quoted, verb->letter == 'q' ? "`%s`" : "\"%s\"", cut);
    else if (quotes)
        template_quote(quoted, cut, strlen(cut), 0);
    append_padded(printer, quotes ? quoted->str : cut, false);
}

static guint base_of(gunichar letter)
{
    switch (letter) {
    case 'x':
    case 'X':
        return 16;
    case 'o':
    case 'O':
        return 8;
    case 'b':
        return 2;
    default:
        return 10;
    }
}

static const char *prefix_of(const struct verb *verb)
{
    if (verb->letter == 'O')
        return "0o";
    if (!verb->sharp)
        return "";
    return verb->letter == 'x' ? "0x" : verb->letter == 'X' ? "0X" : verb->letter == 'b' ? "0b" : verb->letter == 'o' ? "0" : "";
}

static void print_digits(struct printer *printer, gint64 number, bool is_signed)
{
    const struct verb *verb = &printer->verb;
    bool minus = is_signed && number < 0;
    guint64 left = minus ? 0 - (guint64)number : (guint64)number;
    guint base = base_of(verb->letter);
    g_autoptr(GString) text = g_string_new(NULL);
    do
        g_string_prepend_c(text, (verb->letter == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[left % base]);
    while (left /= base);
    while ((int)text->len < verb->precision)
        g_string_prepend_c(text, '0');
    g_string_prepend(text, prefix_of(verb));
    g_string_prepend(text, minus ? "-" : verb->plus ? "+" : verb->space ? " " : "");
    append_padded(printer, text->str, true);
}

static void print_integer(struct printer *printer, struct value value, bool is_signed)
{
    const struct verb *verb = &printer->verb;
    gint64 number = value_int(value);
    g_autoptr(GString) text = g_string_new(NULL);
    if (verb->letter < 128 && strchr("vdxXoOb", (int)verb->letter)) {
        print_digits(printer, number, is_signed);
    } else if (verb->letter == 'c' || verb->letter == 'q') {
        gunichar c = number >= 0 && number <= 0x10ffff && g_unichar_validate((gunichar)number) ? (gunichar)number : 0xfffd;
        g_string_append(text, verb->letter == 'q' ? "'" : "");
        g_string_append_unichar(text, c);
        g_string_append(text, verb->letter == 'q' ? "'" : "");
        append_padded(printer, text->str, false);
    } else if (verb->letter == 'U') {
        g_string_append_printf(text, "U+%04" G_GINT64_MODIFIER "X", (guint64)number);
        append_padded(printer, text->str, false);
    } else {
        append_bad_verb(printer, value);
    }
}

static void print_real(struct printer *printer, struct value value)
{
    const struct verb *verb = &printer->verb;
    double number = value_float(value);
    g_autoptr(GString) text = g_string_new(verb->plus && number >= 0 ? "+" : "");
    if ((verb->letter == 'v' || ((verb->letter == 'g' || verb->letter == 'G') && verb->precision < 0))) {
        append_real(text, number);
    } else if (verb->letter < 128 && strchr("feEgGF", (int)verb->letter)) {
        char format[16], room[512];
        char letter = verb->letter == 'F' ? 'f' : (char)verb->letter;
        g_snprintf(format, sizeof format, "%%.%d%c", verb->precision < 0 ? 6 : MIN(verb->precision, 100), letter);
        g_string_append(text, g_ascii_formatd(room, sizeof room, format, number));
    } else {
        append_bad_verb(printer, value);
        return;
    }
    append_padded(printer, text->str, true);
}

/* Types with a String method. True where it was one. */
static bool print_stringer(struct printer *printer, struct value value)
{
    if (printer->verb.letter >= 128 || !strchr("vsxXq", (int)printer->verb.letter) || printer->verb.sharp)
        return false;
    if (strcmp(value.type, "time.Duration") == 0) {
        g_autofree char *text = go_duration_text(value_int(value));
        print_text(printer, value_new("string", NULL), text);
        return true;
    }
    if (strcmp(value.type, "time.Time") == 0) {
        g_autofree char *text = go_time_text(json_string_value(value.json));
        print_text(printer, value_new("string", NULL), text);
        return true;
    }
    return false;
}

static void print_struct(struct printer *printer, struct value value, guint depth)
{
    const GArray *fields = go_fields(value.type);
    g_string_append_c(printer->out, '{');
    for (guint i = 0; i < fields->len; i++) {
        const struct go_field *field = &g_array_index(fields, struct go_field, i);
        struct value member = value_new(field->type, field->embedded ? value.json : json_object_get(value.json, field->json));
        g_string_append(printer->out, i ? " " : "");
        if (printer->verb.plus)
            g_string_append_printf(printer->out, "%s:", field->name);
        print_value(printer, member, depth + 1);
    }
    g_string_append_c(printer->out, '}');
}

static void print_list(struct printer *printer, struct value value, guint depth)
{
    gint64 length = value_length(value);
    g_string_append_c(printer->out, '[');
    for (gint64 i = 0; i < length; i++) {
        g_string_append(printer->out, i ? " " : "");
        g_auto(value_holder) item = value_at(value, (gsize)i);
        print_value(printer, item, depth + 1);
    }
    g_string_append_c(printer->out, ']');
}

static void print_map(struct printer *printer, struct value value, guint depth)
{
    g_autoptr(GPtrArray) keys = value_keys(value);
    g_string_append(printer->out, "map[");
    for (guint i = 0; i < keys->len; i++) {
        g_auto(value_holder) key = value_text(keys->pdata[i]), item = value_member(value, keys->pdata[i]);
        g_string_append(printer->out, i ? " " : "");
        print_value(printer, key, depth + 1);
        g_string_append_c(printer->out, ':');
        print_value(printer, item, depth + 1);
    }
    g_string_append_c(printer->out, ']');
}

static void print_pointer(struct printer *printer, struct value value, guint depth)
{
    if (value_is_nil(value)) {
        append_padded(printer, "<nil>", false);
        return;
    }
    if (strcmp(value.type, "*registry.NetIPNet") == 0) { /* has a String method */
        append_padded(printer, json_is_string(value.json) ? json_string_value(value.json) : "", false);
        return;
    }
    enum go_kind kind = go_kind(go_elem(value.type));
    if (depth > 0 || (kind != GO_STRUCT && kind != GO_MAP && kind != GO_SLICE && kind != GO_ARRAY)) {
        g_string_append_printf(printer->out, "0xc%09" G_GINTPTR_MODIFIER "x", (guintptr)value.json & 0xfffffffffUL);
        return;
    }
    g_string_append_c(printer->out, '&');
    print_value(printer, value_elem(value, printer->numbers), depth + 1);
}

static void print_value(struct printer *printer, struct value value, guint depth)
{
    char room[64];
    if (depth > TEMPLATE_DEPTH_MAX || printer->out->len > TEMPLATE_OUTPUT_MAX)
        return;
    if (value_is_valid(value) && print_stringer(printer, value))
        return;
    switch (go_kind(value.type)) {
    case GO_INVALID:
        if (printer->verb.letter == 'v')
            append_padded(printer, "<nil>", false);
        else
            append_bad_verb(printer, value);
        break;
    case GO_INTERFACE:
        if (value_is_nil(value))
            g_string_append(printer->out, "<nil>");
        else
            print_value(printer, value_elem(value, printer->numbers), depth);
        break;
    case GO_STRING:
        print_text(printer, value, value_string(value, room));
        break;
    case GO_BOOL:
        if (printer->verb.letter == 't' || printer->verb.letter == 'v')
            append_padded(printer, json_is_true(value.json) ? "true" : "false", false);
        else
            append_bad_verb(printer, value);
        break;
    case GO_INT:
    case GO_UINT:
        print_integer(printer, value, go_kind(value.type) == GO_INT);
        break;
    case GO_FLOAT:
        print_real(printer, value);
        break;
    case GO_STRUCT:
        print_struct(printer, value, depth);
        break;
    case GO_MAP:
        print_map(printer, value, depth);
        break;
    case GO_POINTER:
        print_pointer(printer, value, depth);
        break;
    default:
        print_list(printer, value, depth);
    }
}

static struct printer plain_printer(GString *out, const char *numbers)
{
    return (struct printer){ .out = out, .numbers = numbers, .verb = { .width = -1, .precision = -1, .letter = 'v' } };
}

void value_print(GString *out, struct value value, const char *numbers)
{
    struct printer printer = plain_printer(out, numbers);
    print_value(&printer, value, 0);
}

void value_print_all(GString *out, const struct value *values, guint n, bool with_blanks, const char *numbers)
{
    bool was_string = true;
    for (guint i = 0; i < n; i++) {
        struct value value = value_indirect_interface(values[i], numbers);
        bool is_string = go_kind(value.type) == GO_STRING;
        if (i > 0 && (with_blanks || (!is_string && !was_string)))
            g_string_append_c(out, ' ');
        value_print(out, value, numbers);
        was_string = is_string;
    }
}

/* ---- printf ---- */

struct arguments {
    const struct value *values;
    guint n, next;
    bool reordered;
};

/* A width or precision: digits, or * for an argument. */
static const char *parse_size(const char *at, struct arguments *arguments, int *ret)
{
    if (*at == '*') {
        *ret = arguments->next < arguments->n ? (int)CLAMP(value_int(arguments->values[arguments->next]), -10000, 10000) : -1;
        arguments->next++;
        return at + 1;
    }
    if (!g_ascii_isdigit(*at))
        return at;
    for (*ret = 0; g_ascii_isdigit(*at); at++)
        *ret = MIN(*ret * 10 + (*at - '0'), 10000);
    return at;
}

/* "[2]": which argument comes next. */
static const char *parse_position(const char *at, struct arguments *arguments)
{
    char *end;
    if (*at != '[')
        return at;
    guint64 position = g_ascii_strtoull(at + 1, &end, 10);
    if (*end != ']' || position == 0)
        return at;
    arguments->next = (guint)MIN(position - 1, G_MAXUINT / 2);
    arguments->reordered = true;
    return end + 1;
}

static const char *parse_verb(const char *at, struct arguments *arguments, struct verb *ret)
{
    *ret = (struct verb){ .width = -1, .precision = -1 };
    for (;; at++) {
        if (*at == '-')
            ret->minus = true;
        else if (*at == '+')
            ret->plus = true;
        else if (*at == '0')
            ret->zero = true;
        else if (*at == '#')
            ret->sharp = true;
        else if (*at == ' ')
            ret->space = true;
        else
            break;
    }
    at = parse_size(parse_position(at, arguments), arguments, &ret->width);
    if (ret->width < -1) {
        ret->minus = true;
        ret->width = -ret->width;
    }
    if (*at == '.') {
        ret->precision = 0;
        at = parse_size(parse_position(at + 1, arguments), arguments, &ret->precision);
    }
    at = parse_position(at, arguments);
    ret->letter = *at ? g_utf8_get_char_validated(at, -1) : 0;
    if (ret->letter == (gunichar)-1 || ret->letter == (gunichar)-2)
        ret->letter = 0xfffd;
    return *at ? (ret->letter == 0xfffd ? at + 1 : g_utf8_next_char(at)) : at;
}

static void print_argument(struct printer *printer, struct value value)
{
    value = value_indirect_interface(value, printer->numbers);
    if (printer->verb.letter == 'T')
        append_padded(printer, value_is_valid(value) ? value.type : "<nil>", false);
    else
        print_value(printer, value, 0);
}

void value_printf(GString *out, const char *format, const struct value *values, guint n, const char *numbers)
{
    struct arguments arguments = { .values = values, .n = n };
    struct printer printer = plain_printer(out, numbers);
    while (*format && out->len < TEMPLATE_OUTPUT_MAX) {
        if (*format != '%') {
            g_string_append_c(out, *format++);
            continue;
        }
        format = parse_verb(format + 1, &arguments, &printer.verb);
        if (printer.verb.letter == '%') {
            g_string_append_c(out, '%');
        } else if (!printer.verb.letter) {
            g_string_append(out, "%!(NOVERB)");
        } else if (arguments.next >= n) {
            g_string_append(out, "%!");
            g_string_append_unichar(out, printer.verb.letter);
            g_string_append(out, arguments.reordered ? "(BADINDEX)" : "(MISSING)");
        } else {
            print_argument(&printer, values[arguments.next++]);
        }
    }
    if (arguments.reordered || arguments.next >= n)
        return;
    g_string_append(out, "%!(EXTRA ");
    for (guint i = arguments.next; i < n; i++) {
        struct value value = value_indirect_interface(values[i], numbers);
        g_string_append(out, i > arguments.next ? ", " : "");
        if (value_is_valid(value)) {
            g_string_append_printf(out, "%s=", value.type);
            value_print(out, value, numbers);
        } else {
            g_string_append(out, "<nil>");
        }
    }
    g_string_append_c(out, ')');
}
