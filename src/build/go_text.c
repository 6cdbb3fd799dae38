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
