/* Templates: texts as Go writes and reads them between quotes. */
#include "cli/template-internal.h"

#include <string.h>

static void quote_character(GString *out, gunichar c)
{
    static const char from[] = "\a\b\f\n\r\t\v\\\"", to[] = "abfnrtv\\\"";
    const char *known = c && c < 0x80 ? strchr(from, (int)c) : NULL;
    if (known)
        g_string_append_printf(out, "\\%c", to[known - from]);
    else if (c < 0x20 || c == 0x7f)
        g_string_append_printf(out, "\\x%02x", c);
    else if (!g_unichar_isprint(c) || (g_unichar_isspace(c) && c != ' '))
        g_string_append_printf(out, c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
    else
        g_string_append_unichar(out, c);
}

void template_quote(GString *out, const char *text, gsize length, gsize max)
{
    const char *end = text + length;
    g_string_append_c(out, '"');
    for (gsize n = 0; text < end && (max == 0 || n < max); n++) {
        gunichar c = g_utf8_get_char_validated(text, end - text);
        if (c == (gunichar)-1 || c == (gunichar)-2) {
            g_string_append_printf(out, "\\x%02x", (guchar)*text++);
            continue;
        }
        quote_character(out, c);
        text = g_utf8_next_char(text);
    }
    g_string_append_c(out, '"');
}

/* n digits of a base at *text; -1 where they are not there. */
static gint64 take_digits(const char **text, const char *end, guint n, guint base)
{
    gint64 value = 0;
    for (guint i = 0; i < n; i++, ++*text) {
        int digit = *text < end ? g_ascii_xdigit_value(**text) : -1;
        if (digit < 0 || (guint)digit >= base)
            return -1;
        value = value * base + digit;
    }
    return value;
}

/* One escape after its backslash, appended; false where Go knows none such. */
static bool take_escape(const char **text, const char *end, char quote, GString *out)
{
    static const char from[] = "abfnrtv\\", to[] = "\a\b\f\n\r\t\v\\";
    if (*text >= end)
        return false;
    char c = *(*text)++;
    const char *known = strchr(from, c);
    if (c && known) {
        g_string_append_c(out, to[known - from]);
        return true;
    }
    if (c == quote) {
        g_string_append_c(out, c);
        return true;
    }
    gint64 value = -1;
    if (c == 'x')
        value = take_digits(text, end, 2, 16);
    else if (c >= '0' && c <= '7')
        --*text, value = take_digits(text, end, 3, 8);
    if (value >= 0 && value < 256) {
        g_string_append_c(out, (char)value);
        return true;
    }
    if (c == 'u' || c == 'U')
        value = take_digits(text, end, c == 'u' ? 4 : 8, 16);
    if (value < 0 || !g_unichar_validate((gunichar)value))
        return false;
    g_string_append_unichar(out, (gunichar)value);
    return true;
}

static bool unquote_into(const char *text, gsize length, GString *out)
{
    char quote = *text;
    const char *at = text + 1, *end = text + length - 1;
    while (at < end) {
        char c = *at++;
        if (c == quote || c == '\n')
            return false;
        if (c == '\\' ? !take_escape(&at, end, quote, out) : (g_string_append_c(out, c), false))
            return false;
    }
    return true;
}

char *template_unquote(const char *text, gsize length)
{
    if (length < 2 || text[length - 1] != *text)
        return NULL;
    g_autoptr(GString) out = g_string_new(NULL);
    if (*text == '`') {
        for (gsize i = 1; i + 1 < length; i++)
            if (text[i] != '\r')
                g_string_append_c(out, text[i]);
    } else if (!unquote_into(text, length, out)) {
        return NULL;
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

gint64 template_unquote_character(const char *text, gsize length)
{
    g_autoptr(GString) out = g_string_new(NULL);
    if (length < 3 || text[length - 1] != '\'' || !unquote_into(text, length, out))
        return -2;
    if (out->len == 1)
        return (guchar)out->str[0];
    gunichar c = g_utf8_get_char_validated(out->str, (gssize)out->len);
    if (c == (gunichar)-1 || c == (gunichar)-2 || g_utf8_next_char(out->str) != out->str + out->len)
        return -1;
    return c;
}
