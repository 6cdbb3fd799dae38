/* What the ls commands share: --format (table, json, a template), headers, and the layout of the table. */
#include "cli/cli-internal.h"

#include "cli/template-internal.h"

#include <string.h>

struct list {
    const struct list_field *fields;
    struct template *template; /* NULL for json */
    struct table *table;       /* NULL for other formats */
    GString *out;
    char *row_type;   /* of docker's rows, as errors name it */
    char *text;       /* of the template */
    bool shows_whole; /* rows as such, whose fields are then in order */
};

void list_free(struct list *list)
{
    if (!list)
        return;
    template_free(list->template);
    if (list->table)
        g_free(table_finish(list->table));
    g_string_free(list->out, TRUE);
    g_free(list->row_type);
    g_free(list->text);
    g_free(list);
}

bool list_wants(const struct list *list, const char *field)
{
    return list->shows_whole || strstr(list->text, field);
}

/* "\t" and "\n" as people type them in a shell. */
static char *unescape(const char *format)
{
    g_auto(GStrv) by_tab = g_strsplit(format, "\\t", -1);
    g_autofree char *tabs = g_strjoinv("\t", by_tab);
    g_auto(GStrv) by_feed = g_strsplit(tabs, "\\n", -1);
    return g_strjoinv("\n", by_feed);
}

static char *trim_blanks(const char *text)
{
    while (*text == ' ')
        text++;
    gsize length = strlen(text);
    while (length > 0 && text[length - 1] == ' ')
        length--;
    return g_strndup(text, length);
}

/* The header is what the template makes of the fields' headers. A field that has none is "<no value>", as in docker. */
static bool add_header(struct list *list, GError **error)
{
    g_autoptr(json_t) headers = json_object(), labels = json_object();
    for (const struct list_field *field = list->fields; field->name; field++)
        json_object_set_new(headers, field->name, json_string(field->header));
    json_object_set(headers, TEMPLATE_LABELS, labels);
    g_autoptr(GString) line = g_string_new(NULL);
    if (!template_execute(list->template, TEMPLATE_HEADER_TYPE, headers, TEMPLATE_HEADER, line, error))
        return false;
    table_line(list->table, line->str);
    return true;
}

/* docker's ps looks into the template before it lists, and says so. */
static bool is_container_list(const struct list_field *fields)
{
    while (fields->name)
        fields++;
    return g_strcmp0(fields->header, "ContainerContext") == 0;
}

/* docker's ps tries the template on an empty row before it lists, as it was given. */
static bool try_container_template(struct list *list, const char *format, GError **error)
{
    struct template *template = template_parse(format, error);
    if (!template) {
        g_prefix_error(error, "failed to parse template: ");
        return false;
    }
    g_autoptr(json_t) row = json_object();
    g_autoptr(GString) out = g_string_new(NULL);
    for (const struct list_field *field = list->fields; field->name; field++)
        json_object_set_new(row, field->name, strcmp(field->name, "Platform") == 0 ? json_null() : json_string(""));
    json_object_set_new(row, TEMPLATE_LABELS, json_object());
    bool ok = template_execute(template, list->row_type, row, 0, out, error);
    template_free(template);
    if (!ok)
        g_prefix_error(error, "failed to execute template: ");
    return ok;
}

static char *row_type(const struct list_field *fields)
{
    while (fields->name)
        fields++;
    return g_strconcat(TEMPLATE_ROW_TYPE, strchr(fields->header, '.') ? "*" : "*formatter.", fields->header, NULL);
}

struct list *list_new(const struct list_field *fields, const char *format, const char *default_template, const char *quiet,
                      GError **error)
{
    struct list *list = g_new0(struct list, 1);
    list->fields = fields;
    list->row_type = row_type(fields);
    list->out = g_string_new(NULL);
    if (is_container_list(fields) && format && !quiet && !try_container_template(list, format, error)) {
        list_free(list);
        return NULL;
    }
    bool is_default = !format || !*format || strcmp(format, "table") == 0;
    bool is_table = is_default ? !quiet : !quiet && g_str_has_prefix(format, "table");
    if (quiet)
        format = quiet;
    else if (is_default)
        format = default_template;
    else if (is_table)
        format += strlen("table");
    if (!quiet && !is_table && strcmp(format, "json") == 0)
        format = "{{json .}}";
    if (is_table)
        list->table = table_new(10, 3);
    g_autofree char *unescaped = unescape(format), *trimmed = trim_blanks(unescaped);
    list->template = template_parse(trimmed, error);
    list->text = g_strdup(trimmed);
    list->shows_whole = strstr(trimmed, "json") || strstr(trimmed, "define") || strstr(trimmed, "block") || strstr(trimmed, "$");
    if (!list->template)
        g_prefix_error(error, "template parsing error: ");
    if (!list->template || (is_table && !add_header(list, error))) {
        list_free(list);
        return NULL;
    }
    return list;
}

const char *list_raw_format(const char *format, const char **quiet, const char *raw, const char *raw_quiet)
{
    if (g_strcmp0(format, "raw") != 0)
        return format;
    bool short_form = *quiet != NULL;
    *quiet = NULL;
    return short_form ? raw_quiet : raw;
}

static gint by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* {{json .}} gives the fields in the order of their names. */
static json_t *sorted(json_t *row)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    const char *key;
    json_t *value, *copy = json_object();
    json_object_foreach(row, key, value) g_ptr_array_add(keys, (gpointer)key);
    g_ptr_array_sort(keys, by_text);
    for (guint i = 0; i < keys->len; i++)
        json_object_set(copy, keys->pdata[i], json_object_get(row, keys->pdata[i]));
    json_decref(row);
    return copy;
}

bool list_add(struct list *list, json_t *row, GError **error)
{
    g_autoptr(json_t) fields = list->shows_whole ? sorted(row) : row;
    gsize start = list->out->len;
    if (!template_execute(list->template, list->row_type, fields, 0, list->out, error)) {
        g_prefix_error(error, "template parsing error: ");
        return false;
    }
    if (!list->table) {
        g_string_append_c(list->out, '\n');
        return true;
    }
    g_auto(GStrv) lines = g_strsplit(list->out->str + start, "\n", -1);
    for (char **line = lines; *line; line++)
        table_line(list->table, *line);
    if (!lines[0])
        table_line(list->table, "");
    g_string_truncate(list->out, start);
    return true;
}

bool list_finish(struct list *list, GError **error)
{
    if (list->table) {
        g_autofree char *text = table_finish(g_steal_pointer(&list->table));
        fputs(text, stdout);
    } else {
        fwrite(list->out->str, 1, list->out->len, stdout);
    }
    list_free(list);
    return true;
}
