/* How Go writes strings, lists, runes, durations and paths: history and messages of the classic builder are made of them. */
#include "build/build-internal.h"

static void append_escaped(GString *out, gunichar c, char quote)
{
    static const char letters[] = "abtnvfr"; /* 7, 8, 9 … 13 */

    if (c == (gunichar)quote || c == '\\')
        g_string_append_printf(out, "\\%c", (char)c);
    else if (c >= 7 && c <= 13)
        g_string_append_printf(out, "\\%c", letters[c - 7]);
    else if (c < 0x20 || c == 0x7f)
        g_string_append_printf(out, "\\x%02x", c);
    else if (c < 0x7f || g_unichar_isgraph(c))
        g_string_append_unichar(out, c);
    else
        g_string_append_printf(out, c > 0xffff ? "\\U%08x" : "\\u%04x", c);
}

static void append_quoted(GString *out, const char *text)
{
    g_string_append_c(out, '"');
    for (const char *at = text; *at;) {
        gunichar c = g_utf8_get_char_validated(at, -1);

        if (c == (gunichar)-1 || c == (gunichar)-2) {
            g_string_append_printf(out, "\\x%02x", (guchar)*at++);
            continue;
        }
        append_escaped(out, c, '"');
        at = g_utf8_next_char(at);
    }
    g_string_append_c(out, '"');
}

char *go_quote(const char *text)
{
    GString *out = g_string_new(NULL);

    append_quoted(out, text);
    return g_string_free(out, FALSE);
}

char *go_quote_list(const char *const *items)
{
    GString *out = g_string_new("[");

    for (size_t i = 0; items && items[i]; i++) {
        if (i > 0)
            g_string_append_c(out, ' ');
        append_quoted(out, items[i]);
    }
    g_string_append_c(out, ']');
    return g_string_free(out, FALSE);
}

char *go_list(const char *const *items)
{
    g_autofree char *joined = items ? g_strjoinv(" ", (char **)items) : g_strdup("");

    return g_strdup_printf("[%s]", joined);
}

char *go_quote_rune(gint64 value)
{
    GString *out = g_string_new("'");

    append_escaped(out, value < 0 || value > 0x10ffff ? 0xfffd : (gunichar)value, '\'');
    g_string_append_c(out, '\'');
    return g_string_free(out, FALSE);
}

/* number/unit as a decimal fraction without trailing zeros. */
static char *decimal(gint64 number, gint64 unit, const char *suffix)
{
    char digits[16];
    int width = 0, n;
    gint64 fraction = number % unit;

    if (fraction == 0)
        return g_strdup_printf("%" G_GINT64_FORMAT "%s", number / unit, suffix);
    for (gint64 left = unit; left > 1; left /= 10)
        width++;
    n = g_snprintf(digits, sizeof digits, "%0*" G_GINT64_FORMAT, width, fraction);
    while (n > 0 && digits[n - 1] == '0')
        digits[--n] = '\0';
    return g_strdup_printf("%" G_GINT64_FORMAT ".%s%s", number / unit, digits, suffix);
}

char *go_duration(gint64 ns)
{
    const gint64 second = 1000000000;
    g_autofree char *seconds = NULL;
    gint64 minutes;

    if (ns < 0) {
        g_autofree char *positive = go_duration(ns == G_MININT64 ? G_MAXINT64 : -ns);

        return g_strconcat("-", positive, NULL);
    }
    if (ns == 0)
        return g_strdup("0s");
    if (ns < 1000)
        return decimal(ns, 1, "ns");
    if (ns < 1000000)
        return decimal(ns, 1000, "µs");
    if (ns < second)
        return decimal(ns, 1000000, "ms");
    seconds = decimal(ns % (60 * second), second, "s");
    minutes = ns / (60 * second);
    if (minutes == 0)
        return g_steal_pointer(&seconds);
    if (minutes < 60)
        return g_strdup_printf("%" G_GINT64_FORMAT "m%s", minutes, seconds);
    return g_strdup_printf("%" G_GINT64_FORMAT "h%" G_GINT64_FORMAT "m%s", minutes / 60, minutes % 60, seconds);
}

char *go_clean_path(const char *path)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    g_autoptr(GPtrArray) kept = g_ptr_array_new();
    bool rooted = path[0] == '/';
    g_autofree char *joined = NULL;

    for (char **part = parts; *part; part++) {
        if (!**part || g_str_equal(*part, "."))
            continue;
        if (!g_str_equal(*part, ".."))
            g_ptr_array_add(kept, *part);
        else if (kept->len > 0 && !g_str_equal(kept->pdata[kept->len - 1], ".."))
            g_ptr_array_set_size(kept, (gint)kept->len - 1);
        else if (!rooted)
            g_ptr_array_add(kept, *part);
    }
    g_ptr_array_add(kept, NULL);
    joined = g_strjoinv("/", (char **)kept->pdata);
    if (rooted)
        return g_strconcat("/", joined, NULL);
    return *joined ? g_steal_pointer(&joined) : g_strdup(".");
}

char *go_join_path(const char *base, const char *relative)
{
    g_autofree char *joined = g_strconcat("/", base ? base : "", "/", relative, NULL);

    return go_clean_path(joined);
}
