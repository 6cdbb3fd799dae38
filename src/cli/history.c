/* image history. */
#include "cli/cli-internal.h"

#include <string.h>
#include <time.h>

#define EPOCH_OF_IMAGES 946684800 /* 2000-01-01: what is older has no age worth showing */

static const struct list_field fields[] = {
    { "ID", "IMAGE" },  { "CreatedSince", "CREATED" }, { "CreatedAt", "CREATED AT" },    { "CreatedBy", "CREATED BY" },
    { "Size", "SIZE" }, { "Comment", "COMMENT" },      { NULL, "image.historyContext" },
};

static json_t *describe(const json_t *item, bool truncate, bool human)
{
    char room[13], date[64];
    const char *id = json_get_string(item, "Id", "");
    gint64 created = json_get_int(item, "Created", 0), size = json_get_int(item, "Size", 0);
    time_t when = (time_t)created;
    struct tm local;
    localtime_r(&when, &local);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &local);
    g_autofree char *zone =
        local.tm_gmtoff ? g_strdup_printf("%+03d:%02d", (int)(local.tm_gmtoff / 3600), (int)(ABS(local.tm_gmtoff) / 60 % 60))
                        : g_strdup("Z");
    g_autofree char *at = g_strconcat(date, zone, NULL), *age = created <= EPOCH_OF_IMAGES ? g_strdup("N/A") : age_text(created);
    g_autofree char *by = g_strdelimit(g_strdup(json_get_string(item, "CreatedBy", "")), "\t", ' ');
    g_autofree char *cut = text_ellipsis(by, truncate ? 45 : G_MAXUINT);
    g_autofree char *bytes = human ? bytes_text(size) : g_strdup_printf("%" G_GINT64_FORMAT, size);
    json_t *row = json_object();
    json_object_set_new(row, "ID", json_string(truncate && id[0] != '<' ? short_id(id, room) : id));
    json_object_set_new(row, "CreatedSince", json_string(human ? age : at));
    json_object_set_new(row, "CreatedAt", json_string(at));
    json_object_set_new(row, "CreatedBy", json_string_lossy(cut));
    json_object_set_new(row, "Size", json_string(bytes));
    json_object_set_new(row, "Comment", json_string_lossy(json_get_string(item, "Comment", "")));
    return row;
}

int cmd_image_history(struct cli *cli, const struct options *options, GError **error)
{
    bool quiet = options_bool(options, "quiet", false), truncate = !options_bool(options, "no-trunc", false),
         human = options_bool(options, "human", true);
    g_autofree char *path = api_path("images", options->args[0], "/history");
    g_autoptr(GString) query = g_string_new(NULL);
    if (!query_add_platform(query, "platform", options_string(options, "platform", NULL), error)) {
        g_prefix_error(error, "invalid platform: ");
        return 1;
    }
    struct list *list = list_new(fields, options_string(options, "format", NULL),
                                 human ? "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
                                       : "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
                                 quiet ? "{{.ID}}" : NULL, error);
    g_autoptr(json_t) history = list ? api_get(cli, path, query->str, error) : NULL;
    bool ok = history != NULL;
    size_t i;
    json_t *item;
    json_array_foreach(history, i, item) ok = ok && list_add(list, describe(item, truncate, human), error);
    if (ok)
        list_finish(list, error);
    else
        list_free(list);
    return ok ? 0 : 1;
}
