/* version: the client's part and the engine's. */
#include "cli/cli-internal.h"

#include "base/platform.h"

#include <string.h>
#include <time.h>

/* RFC 3339 as people read it: "Thu May  7 21:09:36 2026". */
static char *readable_date(const char *text)
{
    g_autoptr(GDateTime) when = text ? g_date_time_new_from_iso8601(text, NULL) : NULL;
    return when ? g_date_time_format(when, "%a %b %e %H:%M:%S %Y") : g_strdup(text ? text : "");
}

static json_t *client_part(struct cli *cli)
{
    const char *version = cli->version ? cli->version : API_VERSION_MAX;
    json_t *client = json_object();
    json_object_set_new(client, "Version", json_string(TARE_VERSION));
    json_object_set_new(client, "ApiVersion", json_string(version));
    json_object_set_new(client, "DefaultAPIVersion", json_string(API_VERSION_MAX));
    json_object_set_new(client, "GitCommit", json_string(""));
    json_object_set_new(client, "GoVersion", json_string("none (C)"));
    json_object_set_new(client, "Os", json_string("linux"));
    json_object_set_new(client, "Arch", json_string(platform_architecture()));
    json_object_set_new(client, "BuildTime", json_string(""));
    json_object_set_new(client, "Context", json_string(cli->context_name ? cli->context_name : "default"));
    return client;
}

static void line(struct table *table, const char *indent, const char *name, const char *value)
{
    g_autofree char *text = g_strdup_printf("%s%s:\t%s", indent, name, value ? value : "");
    table_line(table, text);
}

static void show_client(struct table *table, const json_t *client)
{
    const char *version = json_get_string(client, "ApiVersion", ""), *best = json_get_string(client, "DefaultAPIVersion", "");
    g_autofree char *api =
        strcmp(version, best) == 0 ? g_strdup(version) : g_strdup_printf("%s (downgraded from %s)", version, best);
    g_autofree char *platform = g_strdup_printf("%s/%s", json_get_string(client, "Os", ""), json_get_string(client, "Arch", ""));
    table_line(table, "Client: tare");
    line(table, " ", "Version", json_get_string(client, "Version", ""));
    line(table, " ", "API version", api);
    line(table, " ", "OS/Arch", platform);
    line(table, " ", "Context", json_get_string(client, "Context", ""));
}

static void show_engine(struct table *table, const json_t *component)
{
    const json_t *details = json_get_object(component, "Details");
    g_autofree char *api = g_strdup_printf("%s (minimum version %s)", json_get_string(details, "ApiVersion", ""),
                                           json_get_string(details, "MinAPIVersion", ""));
    g_autofree char *built = readable_date(json_get_string(details, "BuildTime", NULL));
    g_autofree char *platform =
        g_strdup_printf("%s/%s", json_get_string(details, "Os", ""), json_get_string(details, "Arch", ""));
    line(table, "  ", "Version", json_get_string(component, "Version", ""));
    line(table, "  ", "API version", api);
    line(table, "  ", "Go version", json_get_string(details, "GoVersion", ""));
    line(table, "  ", "Git commit", json_get_string(details, "GitCommit", ""));
    line(table, "  ", "Built", built);
    line(table, "  ", "OS/Arch", platform);
    line(table, "  ", "Experimental", json_get_string(details, "Experimental", "false"));
}

static void show_server(struct table *table, const json_t *server)
{
    const char *platform = json_get_string(json_get_object(server, "Platform"), "Name", "");
    g_autofree char *title = g_strdup_printf("Server:%s%s", *platform ? " " : "", platform);
    table_line(table, "");
    table_line(table, title);
    size_t i;
    json_t *component;
    json_array_foreach(json_get_array(server, "Components"), i, component)
    {
        const char *name = json_get_string(component, "Name", ""), *key;
        g_autofree char *heading = g_strdup_printf(" %s:", name);
        table_line(table, heading);
        if (strcmp(name, "Engine") == 0) {
            show_engine(table, component);
            continue;
        }
        json_t *value;
        line(table, "  ", "Version", json_get_string(component, "Version", ""));
        json_object_foreach(json_get_object(component, "Details"), key, value) line(table, "  ", key, json_string_value(value));
    }
}

int cmd_version(struct cli *cli, const struct options *options, GError **error)
{
    const char *format = options_string(options, "format", NULL);
    g_autoptr(GError) problem = NULL;
    g_autoptr(json_t) server = api_get(cli, "/version", NULL, &problem), all = json_object();
    json_object_set_new(all, "Client", client_part(cli));
    json_object_set(all, "Server", server ? server : json_null());
    if (format) {
        int status = show_by_format(format, "version", "system.versionInfo", all, error);
        if (status || (error && *error))
            return status;
    } else {
        struct table *table = table_new(20, 1);
        show_client(table, json_object_get(all, "Client"));
        if (server)
            show_server(table, server);
        g_autofree char *text = table_finish(table);
        print("%s", text);
    }
    if (problem)
        g_propagate_error(error, g_steal_pointer(&problem));
    return 0;
}
