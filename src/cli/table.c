/* Columns of text. A column is as wide as its widest cell and its padding, but at least the minimum; what follows a line's last
 * tab is not padded. */
#include "cli/cli-internal.h"

#include <string.h>

struct table {
    guint minimum, padding;
    GPtrArray *lines; /* of GStrv */
    GArray *widths;   /* guint, of columns */
};

guint text_width(const char *text)
{
    guint width = 0;
    for (const char *c = text; *c;) {
        gunichar u = g_utf8_get_char_validated(c, -1);
        if (u == (gunichar)-1 || u == (gunichar)-2) {
            width++;
            c++;
            continue;
        }
        width += g_unichar_iszerowidth(u) ? 0 : g_unichar_iswide(u) ? 2 : 1;
        c = g_utf8_next_char(c);
    }
    return width;
}

char *text_ellipsis(const char *text, guint max)
{
    if (max == 0)
        return g_strdup("");
    if (text_width(text) <= max || !g_utf8_validate(text, -1, NULL))
        return g_strdup(text);
    guint width = 0;
    const char *c = text;
    while (*c) {
        gunichar u = g_utf8_get_char(c);
        guint n = g_unichar_iszerowidth(u) ? 0 : g_unichar_iswide(u) ? 2 : 1;
        if (width + n > max - 1)
            break;
        width += n;
        c = g_utf8_next_char(c);
    }
    g_autofree char *head = g_strndup(text, (gsize)(c - text));
    return g_strconcat(head, "…", NULL);
}

struct table *table_new(guint minimum, guint padding)
{
    struct table *table = g_new0(struct table, 1);
    table->minimum = minimum;
    table->padding = padding;
    table->lines = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
    table->widths = g_array_new(FALSE, TRUE, sizeof(guint));
    return table;
}

void table_line(struct table *table, const char *line)
{
    char **cells = g_strsplit(line, "\t", -1);
    guint n = g_strv_length(cells);
    if (n > 0 && table->widths->len < n - 1)
        g_array_set_size(table->widths, n - 1);
    for (guint i = 0; i + 1 < n; i++) {
        guint *width = &g_array_index(table->widths, guint, i);
        *width = MAX(*width, MAX(table->minimum, text_width(cells[i]) + table->padding));
    }
    g_ptr_array_add(table->lines, cells);
}

char *table_finish(struct table *table)
{
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < table->lines->len; i++) {
        char **cells = table->lines->pdata[i];
        for (guint k = 0; cells[k]; k++) {
            g_string_append(out, cells[k]);
            if (!cells[k + 1])
                break;
            for (guint at = text_width(cells[k]); at < g_array_index(table->widths, guint, k); at++)
                g_string_append_c(out, ' ');
        }
        g_string_append_c(out, '\n');
    }
    g_ptr_array_unref(table->lines);
    g_array_unref(table->widths);
    g_free(table);
    return g_string_free(out, FALSE);
}
