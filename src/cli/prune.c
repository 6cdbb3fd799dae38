/* The prune commands: one table of what is asked, what is sent, and what the answer lists. */
#include "cli/cli-internal.h"

#include "base/size.h"

#include <string.h>

struct prune {
    const char *path, *warning, *warning_all, *title, *list;
    const char *system; /* its line in the question of system prune */
};

static const struct prune containers = { "/containers/prune",
                                         "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?",
                                         NULL,
                                         "Deleted Containers:",
                                         "ContainersDeleted",
                                         "all stopped containers" };
static const struct prune networks = {
    "/networks/prune",
    "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?",
    NULL,
    "Deleted Networks:",
    "NetworksDeleted",
    "all networks not used by at least one container"
};
static const struct prune volumes = {
    "/volumes/prune",
    "WARNING! This will remove anonymous local volumes not used by at least one container.\nAre you sure you want to continue?",
    "WARNING! This will remove all local volumes not used by at least one container.\nAre you sure you want to continue?",
    "Deleted Volumes:",
    "VolumesDeleted",
    "all anonymous volumes not used by at least one container"
};
static const struct prune images = {
    "/images/prune",
    "WARNING! This will remove all dangling images.\nAre you sure you want to continue?",
    "WARNING! This will remove all images without at least one container associated to them.\nAre you sure you want to continue?",
    "Deleted Images:",
    "ImagesDeleted",
    NULL
};
static const struct prune builds = { "/build/prune",
                                     "WARNING! This will remove all dangling build cache. Are you sure you want to continue?",
                                     "WARNING! This will remove all build cache. Are you sure you want to continue?",
                                     "Deleted build cache objects:",
                                     "CachesDeleted",
                                     NULL };

static void print_deleted(const json_t *answer, const struct prune *what)
{
    const json_t *list = json_get_array(answer, what->list);
    if (json_array_size(list) == 0)
        return;
    print("%s\n", what->title);
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)list, i, item)
    {
        const char *deleted = json_get_string(item, "Deleted", NULL), *untagged = json_get_string(item, "Untagged", NULL);
        if (json_is_string(item))
            print("%s\n", json_string_value(item));
        else if (deleted)
            print("deleted: %s\n", deleted);
        else if (untagged)
            print("untagged: %s\n", untagged);
    }
    print("\n");
}

static void set_filter(json_t *filters, const char *key, const char *value)
{
    if (!json_object_get(filters, key))
        json_object_set_new(filters, key, json_pack("{s:b}", value, 1));
}

/* Adds what was freed; prints what was deleted. */
static bool run(struct cli *cli, const struct options *options, const struct prune *what, bool all, gint64 *freed, GError **error)
{
    g_autoptr(GString) query = g_string_new(NULL);
    json_t *filters = filters_from_options(options, error);
    const json_t *config_filters = json_get_array(cli->config, "pruneFilters");
    size_t i;
    json_t *entry;
    json_array_foreach((json_t *)config_filters, i, entry)
    {
        g_auto(GStrv) pair = g_strsplit(json_string_value(entry) ? json_string_value(entry) : "", "=", 2);
        if (pair[0] && pair[1])
            set_filter(filters, pair[0], pair[1]);
    }
    if (what == &images)
        set_filter(filters, "dangling", all ? "false" : "true");
    if (what == &volumes && all && api_at_least(cli, 42))
        set_filter(filters, "all", "true");
    if (what == &builds && all)
        query_add(query, "all", "1");
    if (what == &builds && options_given(options, "keep-storage"))
        query_add_int(query, "keep-storage", options_bytes(options, "keep-storage", 0));
    query_add_json(query, "filters", filters);
    struct call call = { .method = "POST", .path = what->path, .query = query->str };
    g_autoptr(json_t) answer = api_json(cli, &call, error);
    if (!answer)
        return false;
    print_deleted(answer, what);
    *freed += json_get_int(answer, "SpaceReclaimed", 0);
    return true;
}

static void print_freed(const char *format, gint64 freed)
{
    g_autofree char *text = size_human((guint64)MAX(freed, 0), 4);
    print("%s%s\n", format, text);
}

static int prune(struct cli *cli, const struct options *options, const struct prune *what, GError **error)
{
    bool all = options_bool(options, "all", false);
    gint64 freed = 0;
    if (!options_bool(options, "force", false) && !confirm(all && what->warning_all ? what->warning_all : what->warning))
        return 0;
    if (!run(cli, options, what, all, &freed, error))
        return 1;
    if (what != &networks)
        print_freed("Total reclaimed space: ", freed);
    return 0;
}

int cmd_container_prune(struct cli *cli, const struct options *options, GError **error)
{
    return prune(cli, options, &containers, error);
}

int cmd_network_prune(struct cli *cli, const struct options *options, GError **error)
{
    return prune(cli, options, &networks, error);
}

int cmd_volume_prune(struct cli *cli, const struct options *options, GError **error)
{
    /* Engines before 1.42 take named volumes too: the question says so. */
    static struct prune old;
    if (options_bool(options, "all", false) && !api_at_least(cli, 42)) {
        const char *version = api_version(cli, error);
        return version ? error_set(error, TARE_ERROR_INVALID,
                                   "\"--all\" requires API version 1.42, but the Docker daemon API version is %s", version),
               1       : 1;
    }
    old = volumes;
    old.warning = volumes.warning_all;
    if (options_bool(options, "force", false) || api_at_least(cli, 42))
        return prune(cli, options, &volumes, error);
    return prune(cli, options, &old, error);
}

int cmd_image_prune(struct cli *cli, const struct options *options, GError **error)
{
    return prune(cli, options, &images, error);
}

int cmd_builder_prune(struct cli *cli, const struct options *options, GError **error)
{
    return prune(cli, options, &builds, error);
}

static bool confirm_system(const struct options *options, bool all, bool with_volumes)
{
    g_autoptr(GString) question = g_string_new("WARNING! This will remove:\n");
    g_string_append_printf(question, "  - %s\n  - %s\n", containers.system, networks.system);
    if (with_volumes)
        g_string_append_printf(question, "  - %s\n", volumes.system);
    g_string_append_printf(question, "  - %s\n  - %s\n",
                           all ? "all images without at least one container associated to them" : "all dangling images",
                           all ? "all build cache" : "unused build cache");
    const char *const *filters = options_list(options, "filter");
    if (*filters)
        g_string_append(question, "\n  Items to be pruned will be filtered with:\n");
    for (; *filters; filters++)
        g_string_append_printf(question, "  - %s\n", *filters);
    g_string_append(question, "\nAre you sure you want to continue?");
    return confirm(question->str);
}

int cmd_system_prune(struct cli *cli, const struct options *options, GError **error)
{
    bool all = options_bool(options, "all", false), with_volumes = options_bool(options, "volumes", false);
    if (with_volumes && strstr(options_string(options, "filter", ""), "until="))
        return error_set(error, TARE_ERROR_INVALID, "ERROR: The \"until\" filter is not supported with \"--volumes\""), 1;
    if (!options_bool(options, "force", false) && !confirm_system(options, all, with_volumes))
        return 0;
    const struct prune *const order[] = { &containers, &networks, with_volumes ? &volumes : NULL, &images, &builds };
    gint64 freed = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
        g_autoptr(GError) problem = NULL;
        if (!order[i] || run(cli, options, order[i], all && order[i] != &volumes, &freed, &problem) ||
            error_is(problem, TARE_ERROR_NOT_IMPLEMENTED))
            continue;
        g_propagate_error(error, g_steal_pointer(&problem));
        return 1;
    }
    print_freed("Total reclaimed space: ", freed);
    return 0;
}
