/* volume ls, create, rm. */
#include "cli/cli-internal.h"

#include "cli/template-internal.h"

#include "base/size.h"

#include <string.h>

static const struct list_field fields[] = {
    { "Driver", "DRIVER" },         { "Name", "VOLUME NAME" }, { "Labels", "LABELS" },    { "Links", "LINKS" },
    { "Mountpoint", "MOUNTPOINT" }, { "Scope", "SCOPE" },      { "Size", "SIZE" },        { "Availability", "AVAILABILITY" },
    { "Group", "GROUP" },           { "Status", "STATUS" },    { NULL, "volumeContext" },
};

static json_t *describe(const json_t *volume)
{
    json_t *labels = json_get_object(volume, "Labels");
    const json_t *usage = json_get_object(volume, "UsageData");
    g_autofree char *size = usage ? size_human((guint64)MAX(json_get_int(usage, "Size", 0), 0), 4) : g_strdup("N/A");
    g_autofree char *links = usage ? g_strdup_printf("%" G_GINT64_FORMAT, json_get_int(usage, "RefCount", 0)) : g_strdup("N/A");
    json_t *row = json_object();
    json_object_set_new(row, "Name", json_string(json_get_string(volume, "Name", "")));
    json_object_set_new(row, "Driver", json_string(json_get_string(volume, "Driver", "")));
    json_object_set_new(row, "Scope", json_string(json_get_string(volume, "Scope", "")));
    json_object_set_new(row, "Mountpoint", json_string_lossy(json_get_string(volume, "Mountpoint", "")));
    json_object_set_new(row, "Labels", labels_text(labels));
    json_object_set_new(row, "Size", json_string(size));
    json_object_set_new(row, "Links", json_string(links));
    json_object_set_new(row, "Availability", json_string("N/A"));
    json_object_set_new(row, "Group", json_string("N/A"));
    json_object_set_new(row, "Status", json_string("N/A"));
    json_object_set_new(row, TEMPLATE_LABELS, labels ? json_incref(labels) : json_object());
    return row;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return text_natural_compare(json_get_string(*(json_t *const *)a, "Name", ""),
                                json_get_string(*(json_t *const *)b, "Name", ""));
}

int cmd_volume_ls(struct cli *cli, const struct options *options, GError **error)
{
    const char *format = options_string(options, "format", json_get_string(cli->config, "volumesFormat", NULL));
    g_autoptr(GString) query = g_string_new(NULL);
    query_add_filters(query, options);
    const char *quiet = options_bool(options, "quiet", false) ? "{{.Name}}" : NULL;
    format = list_raw_format(format, &quiet, "name: {{.Name}}\ndriver: {{.Driver}}\n", "name: {{.Name}}");
    struct list *list = list_new(fields, format, "{{.Driver}}\t{{.Name}}", quiet, error);
    g_autoptr(json_t) answer = list ? api_get(cli, "/volumes", query->str, error) : NULL;
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    bool ok = answer != NULL;
    size_t i;
    json_t *volume;
    json_array_foreach(json_get_array(answer, "Volumes"), i, volume) g_ptr_array_add(sorted, volume);
    g_ptr_array_sort(sorted, by_name);
    for (guint k = 0; ok && k < sorted->len; k++)
        ok = list_add(list, describe(sorted->pdata[k]), error);
    if (ok)
        list_finish(list, error);
    else
        list_free(list);
    return ok ? 0 : 1;
}

int cmd_volume_create(struct cli *cli, const struct options *options, GError **error)
{
    const char *by_flag = options_string(options, "name", NULL);
    if (by_flag && options->n_args > 0)
        return error_set(error, TARE_ERROR_INVALID,
                         "conflicting options: cannot specify a volume-name through both --name and as a positional arg"),
               1;
    json_t *body = json_pack("{s:s, s:s, s:o, s:o}", "Name",
                             options->n_args ? options->args[0]
                             : by_flag       ? by_flag
                                             : "",
                             "Driver", options_string(options, "driver", "local"), "DriverOpts", options_map(options, "opt"),
                             "Labels", options_map(options, "label"));
    struct call call = { .method = "POST", .path = "/volumes/create", .json = body };
    g_autoptr(json_t) answer = api_json(cli, &call, error);
    json_decref(body);
    if (answer)
        print("%s\n", json_get_string(answer, "Name", ""));
    return answer ? 0 : 1;
}

int remove_each(struct cli *cli, const struct options *options, const char *collection, const char *query, bool ignore_missing,
                GError **error)
{
    g_autoptr(GString) problems = g_string_new(NULL);
    for (char **name = options->args; *name; name++) {
        g_autofree char *path = api_path(collection, *name, "");
        g_autoptr(GError) problem = NULL;
        struct call call = { .method = "DELETE", .path = path, .query = query };
        if (api_done(cli, &call, &problem))
            print("%s\n", *name);
        else if (!(ignore_missing && error_is(problem, TARE_ERROR_NOT_FOUND)))
            errors_add(problems, &problem);
    }
    return errors_finish(problems, error);
}

int cmd_volume_rm(struct cli *cli, const struct options *options, GError **error)
{
    g_autoptr(GString) query = g_string_new(NULL);
    query_add_bool(query, "force", options_bool(options, "force", false));
    return remove_each(cli, options, "volumes", query->str, false, error);
}
