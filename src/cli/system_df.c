/* system df. */
#include "cli/template-internal.h"

#include "base/size.h"
#include "base/timestamp.h"

#include <string.h>

static const struct list_field fields[] = { { "Type", "TYPE" },
                                            { "TotalCount", "TOTAL" },
                                            { "Active", "ACTIVE" },
                                            { "Size", "SIZE" },
                                            { "Reclaimable", "RECLAIMABLE" },
                                            { "OnDisk", "ON DISK" },
                                            { NULL, "diskUsageImagesContext" } };

struct total {
    const char *type;
    gint64 count, active, size, reclaimable;
    bool percent;
    const char *on_disk; /* its member of the engine's "OnDisk": a figure of our own, shown where it is asked for */
};

static void sum_images(const json_t *usage, struct total *total)
{
    size_t i;
    json_t *image;
    gint64 used = 0;
    total->size = json_get_int(usage, "LayersSize", 0);
    json_array_foreach(json_get_array(usage, "Images"), i, image)
    {
        gint64 size = json_get_int(image, "Size", 0), shared = json_get_int(image, "SharedSize", -1);
        total->count++;
        if (json_get_int(image, "Containers", 0) <= 0)
            continue;
        total->active++;
        if (size != -1 && shared != -1)
            used += size - shared;
    }
    total->reclaimable = total->size - used;
}

static void sum_containers(const json_t *usage, struct total *total)
{
    size_t i;
    json_t *container;
    json_array_foreach(json_get_array(usage, "Containers"), i, container)
    {
        const char *state = json_get_string(container, "State", "");
        gint64 size = json_get_int(container, "SizeRw", 0);
        bool active = strcmp(state, "running") == 0 || strcmp(state, "paused") == 0 || strcmp(state, "restarting") == 0;
        total->count++;
        total->active += active;
        total->size += size;
        total->reclaimable += active ? 0 : size;
    }
}

static void sum_volumes(const json_t *usage, struct total *total)
{
    size_t i;
    json_t *volume;
    json_array_foreach(json_get_array(usage, "Volumes"), i, volume)
    {
        const json_t *data = json_get_object(volume, "UsageData");
        gint64 size = MAX(json_get_int(data, "Size", 0), 0), references = json_get_int(data, "RefCount", 0);
        total->count++;
        total->active += references > 0;
        total->size += size;
        total->reclaimable += references > 0 ? 0 : size;
    }
}

static void sum_builds(const json_t *usage, struct total *total)
{
    size_t i;
    json_t *entry;
    json_array_foreach(json_get_array(usage, "BuildCache"), i, entry)
    {
        gint64 size = json_get_bool(entry, "Shared", false) ? 0 : json_get_int(entry, "Size", 0);
        bool in_use = json_get_bool(entry, "InUse", false);
        total->count++;
        total->active += in_use;
        total->size += size;
        total->reclaimable += in_use ? 0 : size;
    }
}

static json_t *describe(const struct total *total, const json_t *on_disk)
{
    g_autofree char *size = size_human((guint64)MAX(total->size, 0), 4),
                    *free_size = size_human((guint64)MAX(total->reclaimable, 0), 4);
    g_autofree char *with_percent = total->size > 0 && total->percent ? g_strdup_printf("%s (%" G_GINT64_FORMAT "%%)", free_size,
                                                                                        total->reclaimable * 100 / total->size)
                                                                      : g_strdup(free_size);
    g_autofree char *count = g_strdup_printf("%" G_GINT64_FORMAT, total->count),
                    *active = g_strdup_printf("%" G_GINT64_FORMAT, total->active);
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:s}", "Type", total->type, "TotalCount", count, "Active", active, "Size", size,
                            "Reclaimable", with_percent);
    g_autofree char *taken = size_human((guint64)json_get_int(on_disk, total->on_disk, 0), 4);
    if (on_disk)
        json_object_set_new(row, "OnDisk", json_string(taken));
    return row;
}

/* ---- --verbose: every object ---- */

static void set(json_t *row, const char *name, char *text)
{
    json_object_set_new(row, name, json_string_lossy(text));
    g_free(text);
}

static json_t *describe_image(const json_t *image, bool truncate)
{
    char room[13];
    const char *id = json_get_string(image, "Id", "");
    const char *first = json_string_value(json_array_get(json_get_array(image, "RepoTags"), 0));
    struct image_name name = { 0 };
    bool named = first && strcmp(first, "<none>:<none>") != 0 && image_name_parse(first, &name, NULL);
    gint64 size = json_get_int(image, "Size", 0), shared = json_get_int(image, "SharedSize", 0);
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:o}", "Repository", named ? name.name : "<none>", "Tag",
                            named && name.tag ? name.tag : "<none>", "ID", truncate ? short_id(id, room) : id, "Digest", "",
                            "CreatedAt", created_at_text(json_get_int(image, "Created", 0)));
    set(row, "VirtualSize", size_human((guint64)MAX(size, 0), 4));
    set(row, "CreatedSince", age_text(json_get_int(image, "Created", 0)));
    set(row, "Size", bytes_text(size));
    set(row, "SharedSize", size_human((guint64)MAX(shared, 0), 4));
    set(row, "UniqueSize", size_human((guint64)MAX(size - shared, 0), 4));
    set(row, "Containers", g_strdup_printf("%" G_GINT64_FORMAT, json_get_int(image, "Containers", 0)));
    image_name_clear(&name);
    return row;
}

static json_t *describe_container(const json_t *container, bool truncate)
{
    g_autoptr(json_t) copy = json_copy((json_t *)container);
    json_object_set_new(copy, "SizeRootFs", json_integer(0)); /* of the image: not shown here */
    return describe_listed_container(copy, truncate);
}

static json_t *describe_volume(const json_t *volume, bool truncate)
{
    const json_t *usage = json_get_object(volume, "UsageData");
    json_t *row = json_pack("{s:s, s:s, s:o, s:s, s:s, s:s, s:s, s:s}", "Name", json_get_string(volume, "Name", ""), "Driver",
                            json_get_string(volume, "Driver", ""), "Labels", labels_text(json_get_object(volume, "Labels")),
                            "Mountpoint", json_get_string(volume, "Mountpoint", ""), "Scope",
                            json_get_string(volume, "Scope", ""), "Group", "N/A", "Availability", "N/A", "Status", "N/A");
    set(row, "Links", g_strdup_printf("%" G_GINT64_FORMAT, json_get_int(usage, "RefCount", 0)));
    set(row, "Size", size_human((guint64)MAX(json_get_int(usage, "Size", 0), 0), 4));
    return row;
}

static void set_age(json_t *row, const char *field, const char *when)
{
    gint64 ns = 0;
    bool known = when && timestamp_parse(when, &ns);
    set(row, field, known ? age_text_ns(ns) : g_strdup(""));
}

static json_t *describe_build(const json_t *entry, bool truncate)
{
    char room[13];
    const char *id = json_get_string(entry, "ID", ""), *parent = json_get_string(entry, "Parent", "");
    g_auto(GStrv) parents = json_string_array(json_get_array(entry, "Parents"));
    g_autofree char *joined = parents && parents[0] ? g_strjoinv(", ", parents) : g_strdup(parent);
    bool in_use = json_get_bool(entry, "InUse", false);
    json_t *row =
        json_pack("{s:s, s:s, s:s, s:s, s:s}", "CacheType", json_get_string(entry, "Type", ""), "Description",
                  json_get_string(entry, "Description", ""), "InUse", in_use ? "true" : "false", "Shared",
                  json_get_bool(entry, "Shared", false) ? "true" : "false", "Parent", truncate ? short_id(joined, room) : joined);
    set(row, "ID", g_strconcat(truncate ? short_id(id, room) : id, in_use ? "*" : "", NULL));
    set(row, "Size", bytes_text(json_get_int(entry, "Size", 0)));
    set(row, "UsageCount", g_strdup_printf("%" G_GINT64_FORMAT, json_get_int(entry, "UsageCount", 0)));
    set_age(row, "CreatedSince", json_get_string(entry, "CreatedAt", NULL));
    set_age(row, "LastUsedSince", json_get_string(entry, "LastUsedAt", NULL));
    return row;
}

/* What was used longest ago first, and what never was before that. */
static gint compare_builds(gconstpointer a, gconstpointer b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    gint order = strcmp(json_get_string(x, "LastUsedAt", ""), json_get_string(y, "LastUsedAt", ""));
    return order ? order : strcmp(json_get_string(x, "ID", ""), json_get_string(y, "ID", ""));
}

static void sort_builds(json_t *usage)
{
    g_autoptr(GPtrArray) entries = g_ptr_array_new();
    json_t *list = json_array(), *entry;
    size_t i;
    json_array_foreach(json_get_array(usage, "BuildCache"), i, entry) g_ptr_array_add(entries, entry);
    g_ptr_array_sort(entries, compare_builds);
    for (guint k = 0; k < entries->len; k++)
        json_array_append(list, entries->pdata[k]);
    json_object_set_new(usage, "BuildCache", list);
}

static char *builds_title(const json_t *usage)
{
    struct total total = { 0 };
    sum_builds(usage, &total);
    g_autofree char *size = size_human((guint64)MAX(total.size, 0), 4);
    return g_strdup_printf("\nBuild cache usage: %s\n\n", size);
}

static const struct list_field image_fields[] = { { "Repository", "REPOSITORY" },
                                                  { "Tag", "TAG" },
                                                  { "ID", "IMAGE ID" },
                                                  { "CreatedSince", "CREATED" },
                                                  { "Size", "SIZE" },
                                                  { "SharedSize", "SHARED SIZE" },
                                                  { "UniqueSize", "UNIQUE SIZE" },
                                                  { "Containers", "CONTAINERS" },
                                                  { NULL, "imageContext" } };
static const struct list_field container_fields[] = { { "ID", "CONTAINER ID" },    { "Image", "IMAGE" },
                                                      { "Command", "COMMAND" },    { "LocalVolumes", "LOCAL VOLUMES" },
                                                      { "Size", "SIZE" },          { "RunningFor", "CREATED" },
                                                      { "Status", "STATUS" },      { "Names", "NAMES" },
                                                      { NULL, "ContainerContext" } };
static const struct list_field volume_fields[] = {
    { "Name", "VOLUME NAME" }, { "Links", "LINKS" }, { "Size", "SIZE" }, { NULL, "volumeContext" }
};
static const struct list_field build_fields[] = {
    { "ID", "CACHE ID" },          { "CacheType", "CACHE TYPE" },    { "Size", "SIZE" },
    { "CreatedSince", "CREATED" }, { "LastUsedSince", "LAST USED" }, { "UsageCount", "USAGE" },
    { "Shared", "SHARED" },        { NULL, "buildCacheContext" }
};

static const struct section {
    const char *title, *key, *columns;
    const struct list_field *fields;
    json_t *(*describe)(const json_t *object, bool truncate);
} sections[] = {
    { "Images space usage:\n\n", "Images",
      "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
      image_fields, describe_image },
    { "\nContainers space usage:\n\n", "Containers",
      "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
      container_fields, describe_container },
    { "\nLocal Volumes space usage:\n\n", "Volumes", "{{.Name}}\t{{.Links}}\t{{.Size}}", volume_fields, describe_volume },
    { NULL, "BuildCache",
      "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}", build_fields,
      describe_build },
};

/* Rows are written with their fields in the order of the names. */
static json_t *described(const struct section *section, const json_t *usage)
{
    json_t *rows = json_array(), *object;
    size_t i;
    json_array_foreach(json_get_array(usage, section->key), i, object)
    {
        g_autoptr(json_t) row = section->describe(object, false);
        json_object_del(row, TEMPLATE_LABELS);
        json_array_append_new(rows, json_sorted(row));
    }
    return rows;
}

static int show_by_template(struct cli *cli, const char *format, GError **error)
{
    if (g_str_has_prefix(format, "table"))
        format += strlen("table") + strspn(format + strlen("table"), " ");
    struct template *template = template_parse(strcmp(format, "json") == 0 ? "{{json .}}" : format, error);
    if (!template)
        return g_prefix_error(error, "template parsing error: "), 1;
    g_autoptr(json_t) usage = api_get(cli, "/system/df", NULL, error), all = json_object();
    if (usage)
        sort_builds(usage);
    g_autoptr(GString) out = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(sections); i++)
        json_object_set_new(all, sections[i].key, described(&sections[i], usage));
    bool ok = usage && template_execute(template, TEMPLATE_ROW_TYPE "*formatter.diskUsageContext", all, 0, out, error);
    template_free(template);
    print("%s", ok ? out->str : "");
    return ok ? 0 : 1;
}

static int show_single(struct cli *cli, const char *format, GError **error)
{
    if (format && *format && strcmp(format, "table") != 0)
        return show_by_template(cli, format, error);
    g_autoptr(json_t) usage = api_get(cli, "/system/df", NULL, error);
    bool ok = usage != NULL;
    if (ok)
        sort_builds(usage);
    for (size_t i = 0; ok && i < G_N_ELEMENTS(sections); i++) {
        const struct section *section = &sections[i];
        struct list *list = list_new(section->fields, NULL, section->columns, NULL, error);
        size_t k;
        json_t *object;
        ok = list != NULL;
        /* What the builder keeps are images here, listed as such. */
        json_array_foreach(json_get_array(usage, section->key), k, object) ok =
            ok && list_add(list, section->describe(object, true), error);
        g_autofree char *title = section->title ? g_strdup(section->title) : builds_title(usage);
        print("%s", title);
        if (ok)
            list_finish(list, error);
        else
            list_free(list);
    }
    return ok ? 0 : 1;
}

int cmd_system_df(struct cli *cli, const struct options *options, GError **error)
{
    const char *format = options_string(options, "format", NULL), *quiet = NULL;
    if (options_bool(options, "verbose", false))
        return show_single(cli, format, error);
    format = list_raw_format(format, &quiet,
                             "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\n"
                             "reclaimable: {{.Reclaimable}}\n",
                             NULL);
    bool with_disk = options_bool(options, "on-disk", false) || (format && strstr(format, ".OnDisk"));
    struct total totals[] = { { .type = "Images", .percent = true, .on_disk = "Images" },
                              { .type = "Containers", .percent = true, .on_disk = "Containers" },
                              { .type = "Local Volumes", .percent = true, .on_disk = "Volumes" },
                              { .type = "Build Cache", .on_disk = "BuildCache" } };
    struct list *list = list_new(fields, format,
                                 with_disk ? "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}\t{{.OnDisk}}"
                                           : "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
                                 NULL, error);
    g_autoptr(json_t) usage = list ? api_get(cli, "/system/df", with_disk ? "on-disk=1" : NULL, error) : NULL;
    bool ok = usage != NULL;
    if (ok) {
        sum_images(usage, &totals[0]);
        sum_containers(usage, &totals[1]);
        sum_volumes(usage, &totals[2]);
        sum_builds(usage, &totals[3]);
    }
    for (size_t i = 0; ok && i < G_N_ELEMENTS(totals); i++)
        ok = list_add(list, describe(&totals[i], json_get_object(usage, "OnDisk")), error);
    if (ok)
        list_finish(list, error);
    else
        list_free(list);
    return ok ? 0 : 1;
}
