/* Texts that many commands share: short ids, ages, sizes, labels. */
#include "cli/cli-internal.h"

#include "base/size.h"
#include "base/timestamp.h"

#include <string.h>
#include <time.h>

const char *short_id(const char *id, char room[13])
{
    const char *colon = strchr(id, ':');
    g_strlcpy(room, colon ? colon + 1 : id, 13);
    return room;
}

char *age_text_ns(gint64 ns)
{
    gint64 now = timestamp_now();
    g_autofree char *age = duration_human(now > ns ? now - ns : 0);
    return g_strconcat(age, " ago", NULL);
}

char *age_text(gint64 seconds)
{
    return age_text_ns(seconds * G_GINT64_CONSTANT(1000000000));
}

char *bytes_text(gint64 bytes)
{
    return size_human(bytes > 0 ? (guint64)bytes : 0, 3);
}

static gint by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

json_t *labels_text(const json_t *labels)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)labels, key, value)
        g_ptr_array_add(texts, g_strdup_printf("%s=%s", key, json_is_string(value) ? json_string_value(value) : ""));
    g_ptr_array_sort(texts, by_text);
    g_ptr_array_add(texts, NULL);
    g_autofree char *joined = g_strjoinv(",", (char **)texts->pdata);
    return json_string_lossy(joined);
}

json_t *created_at_text(gint64 seconds)
{
    time_t when = (time_t)seconds;
    struct tm local;
    char text[64];
    localtime_r(&when, &local);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %z %Z", &local);
    return json_string(text);
}

/* Numbers within texts by their value; equal ones by their leading zeros. */
gint text_natural_compare(const char *a, const char *b)
{
    gint zeros = 0;
    while (*a && *b) {
        if (!g_ascii_isdigit(*a) || !g_ascii_isdigit(*b)) {
            if (*a != *b)
                return (guchar)*a < (guchar)*b ? -1 : 1;
            a++;
            b++;
            continue;
        }
        gsize skip_a = strspn(a, "0"), skip_b = strspn(b, "0");
        gsize length_a = strspn(a + skip_a, "0123456789"), length_b = strspn(b + skip_b, "0123456789");
        gint order = length_a != length_b ? (length_a < length_b ? -1 : 1) : strncmp(a + skip_a, b + skip_b, length_a);
        if (order)
            return order;
        zeros = zeros ? zeros : (skip_a > skip_b) - (skip_a < skip_b);
        a += skip_a + length_a;
        b += skip_b + length_b;
    }
    return *a ? 1 : *b ? -1 : zeros;
}

void errors_add(GString *all, GError **problem)
{
    g_string_append_printf(all, "%s%s", all->len ? "\n" : "", (*problem)->message);
    g_clear_error(problem);
}

int errors_finish(GString *all, GError **error)
{
    if (all->len == 0)
        return 0;
    error_set(error, TARE_ERROR_INTERNAL, "%s", all->str);
    return 1;
}

static void indent_line(GString *out, guint depth)
{
    g_string_append_c(out, '\n');
    for (guint i = 0; i < depth; i++)
        g_string_append(out, "    ");
}

char *json_indent_raw(const char *text, gsize length)
{
    GString *out = g_string_sized_new(length + length / 2);
    guint depth = 0;
    bool in_string = false, fresh = false; /* fresh: just after an opening bracket */
    for (gsize i = 0; i < length; i++) {
        char c = text[i];
        if (in_string) {
            g_string_append_c(out, c);
            if (c == '\\' && i + 1 < length)
                g_string_append_c(out, text[++i]);
            else if (c == '"')
                in_string = false;
            continue;
        }
        if (strchr(" \t\r\n", c) && c)
            continue;
        bool closes = c == '}' || c == ']';
        if (fresh && !closes)
            indent_line(out, ++depth);
        if (closes && !fresh)
            indent_line(out, depth ? --depth : 0);
        fresh = c == '{' || c == '[';
        g_string_append_c(out, c);
        if (c == '"')
            in_string = true;
        else if (c == ',')
            indent_line(out, depth);
        else if (c == ':')
            g_string_append_c(out, ' ');
    }
    return g_string_free(out, FALSE);
}

/* docker gives some templates a name, which its errors carry. */
static void name_template(const char *name, GError **error)
{
    if (!*error || !*name)
        return;
    g_autoptr(GString) text = g_string_new((*error)->message);
    g_autofree char *where = g_strdup_printf("template: %s:", name), *what = g_strdup_printf("executing \"%s\"", name);
    g_string_replace(text, "template: :", where, 1);
    g_string_replace(text, "executing \"\"", what, 1);
    g_free((*error)->message);
    (*error)->message = g_string_free(g_steal_pointer(&text), FALSE);
}

int show_by_format(const char *format, const char *name, const char *type, json_t *data, GError **error)
{
    struct template *template = template_parse(strcmp(format, "json") == 0 ? "{{json .}}" : format, error);
    if (!template) {
        if (error)
            name_template(name, error);
        g_prefix_error(error, "template parsing error: ");
        return 64;
    }
    g_autoptr(GString) out = g_string_new(NULL);
    GError *problem = NULL;
    template_execute(template, type, data, 0, out, &problem);
    name_template(name, &problem);
    template_free(template);
    print("%s\n", out->str);
    if (problem)
        g_propagate_error(error, problem);
    return 0;
}
