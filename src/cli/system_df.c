/* system df. */
#include "cli/cli-internal.h"

#include "base/size.h"

#include <string.h>

static const struct list_field fields[] = { { "Type", "TYPE" }, { "TotalCount", "TOTAL" },        { "Active", "ACTIVE" },
                                            { "Size", "SIZE" }, { "Reclaimable", "RECLAIMABLE" }, { NULL, "diskUsageContext" } };

struct total {
    const char *type;
    gint64 count, active, size, reclaimable;
    bool percent;
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

static json_t *describe(const struct total *total)
{
    g_autofree char *size = size_human((guint64)MAX(total->size, 0), 4),
                    *free_size = size_human((guint64)MAX(total->reclaimable, 0), 4);
    g_autofree char *with_percent = total->size > 0 && total->percent ? g_strdup_printf("%s (%" G_GINT64_FORMAT "%%)", free_size,
                                                                                        total->reclaimable * 100 / total->size)
                                                                      : g_strdup(free_size);
    g_autofree char *count = g_strdup_printf("%" G_GINT64_FORMAT, total->count),
                    *active = g_strdup_printf("%" G_GINT64_FORMAT, total->active);
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "Type", total->type, "TotalCount", count, "Active", active, "Size", size,
                     "Reclaimable", with_percent);
}

int cmd_system_df(struct cli *cli, const struct options *options, GError **error)
{
    if (options_bool(options, "verbose", false))
        return error_set(error, TARE_ERROR_NOT_IMPLEMENTED,
                         "--verbose is not supported yet: image ls, ps -s and volume ls show the single objects"),
               1;
    struct total totals[] = { { .type = "Images", .percent = true },
                              { .type = "Containers", .percent = true },
                              { .type = "Local Volumes", .percent = true },
                              { .type = "Build Cache" } };
    struct list *list = list_new(fields, options_string(options, "format", NULL),
                                 "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}", NULL, error);
    g_autoptr(json_t) usage = list ? api_get(cli, "/system/df", NULL, error) : NULL;
    bool ok = usage != NULL;
    if (ok) {
        sum_images(usage, &totals[0]);
        sum_containers(usage, &totals[1]);
        sum_volumes(usage, &totals[2]);
        sum_builds(usage, &totals[3]);
    }
    for (size_t i = 0; ok && i < G_N_ELEMENTS(totals); i++)
        ok = list_add(list, describe(&totals[i]), error);
    if (ok)
        list_finish(list, error);
    else
        list_free(list);
    return ok ? 0 : 1;
}
