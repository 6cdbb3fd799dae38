/* What one container tells: diff, port, top; and what is made of it: commit, export. */
#include "cli/cli-internal.h"

#include "base/parse.h"

#include <string.h>
#include <unistd.h>

int cmd_container_diff(struct cli *cli, const struct options *options, GError **error)
{
    g_autofree char *path = api_path("containers", options->args[0], "/changes");
    g_autoptr(json_t) changes = api_get(cli, path, NULL, error);
    size_t i;
    json_t *change;
    json_array_foreach(changes, i, change)
    {
        gint64 kind = json_get_int(change, "Kind", 0);
        print("%c %s\n", kind == 1 ? 'A' : kind == 2 ? 'D' : 'C', json_get_string(change, "Path", ""));
    }
    return changes ? 0 : 1;
}

/* Digits count as numbers: 80/tcp before 443/tcp. */
static gint natural(gconstpointer a, gconstpointer b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    while (*x && *y) {
        if (g_ascii_isdigit(*x) && g_ascii_isdigit(*y)) {
            char *end_x, *end_y;
            guint64 m = g_ascii_strtoull(x, &end_x, 10), n = g_ascii_strtoull(y, &end_y, 10);
            if (m != n)
                return m < n ? -1 : 1;
            x = end_x;
            y = end_y;
        } else if (*x != *y) {
            return (unsigned char)*x - (unsigned char)*y;
        } else {
            x++;
            y++;
        }
    }
    return (unsigned char)*x - (unsigned char)*y;
}

static void add_bindings(GPtrArray *lines, const char *from, const json_t *bindings)
{
    size_t i;
    json_t *binding;
    json_array_foreach((json_t *)bindings, i, binding)
    {
        const char *ip = json_get_string(binding, "HostIp", ""), *port = json_get_string(binding, "HostPort", "");
        g_autofree char *host = g_strdup_printf(strchr(ip, ':') ? "[%s]:%s" : "%s:%s", ip, port);
        g_ptr_array_add(lines, from ? g_strdup_printf("%s -> %s", from, host) : g_strdup(host));
    }
}

int cmd_container_port(struct cli *cli, const struct options *options, GError **error)
{
    g_autofree char *path = api_path("containers", options->args[0], "/json");
    g_autoptr(json_t) container = api_get(cli, path, NULL, error);
    if (!container)
        return 1;
    const json_t *ports = json_get_object(json_get_object(container, "NetworkSettings"), "Ports");
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    if (options->n_args > 1) {
        const char *wanted = options->args[1], *slash = strchr(wanted, '/');
        g_autofree char *number = g_strndup(wanted, strcspn(wanted, "/")),
                        *key = g_strconcat(number, "/", slash && slash[1] ? slash + 1 : "tcp", NULL);
        guint64 port;
        if (!parse_uint(number, 65535, &port))
            return error_set(error, TARE_ERROR_INVALID, "Error: invalid port (%s)", number), 1;
        add_bindings(lines, NULL, json_get_array(ports, key));
        if (lines->len == 0)
            return error_set(error, TARE_ERROR_NOT_FOUND, "Error: No public port '%s' published for %s", wanted,
                             options->args[0]),
                   1;
    } else {
        const char *from;
        json_t *bindings;
        json_object_foreach((json_t *)ports, from, bindings) add_bindings(lines, from, bindings);
    }
    g_ptr_array_sort(lines, natural);
    for (guint i = 0; i < lines->len; i++)
        print("%s\n", (char *)lines->pdata[i]);
    return 0;
}

static void add_row(struct table *table, const json_t *cells)
{
    g_auto(GStrv) texts = json_string_array(cells);
    g_autofree char *line = texts ? g_strjoinv("\t", texts) : g_strdup("");
    table_line(table, line);
}

int cmd_container_top(struct cli *cli, const struct options *options, GError **error)
{
    g_autofree char *path = api_path("containers", options->args[0], "/top"), *arguments = g_strjoinv(" ", options->args + 1);
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "ps_args", *arguments ? arguments : NULL);
    g_autoptr(json_t) list = api_get(cli, path, query->str, error);
    if (!list)
        return 1;
    struct table *table = table_new(20, 3);
    add_row(table, json_get_array(list, "Titles"));
    size_t i;
    json_t *process;
    json_array_foreach(json_get_array(list, "Processes"), i, process) add_row(table, process);
    g_autofree char *text = table_finish(table);
    print("%s", text);
    return 0;
}

int cmd_container_commit(struct cli *cli, const struct options *options, GError **error)
{
    struct image_name name = { 0 };
    if (options->n_args > 1 && !image_name_parse(options->args[1], &name, error))
        return 1;
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "container", options->args[0]);
    query_add(query, "repo", name.name);
    query_add(query, "tag", name.name && !name.tag ? "latest" : name.tag);
    image_name_clear(&name);
    query_add(query, "comment", options_string(options, "message", ""));
    query_add(query, "author", options_string(options, "author", ""));
    for (const char *const *change = options_list(options, "change"); *change; change++)
        query_add(query, "changes", *change);
    if (!options_bool(options, "pause", true) || options_bool(options, "no-pause", false))
        query_add(query, "pause", "0");
    struct call call = { .method = "POST", .path = "/commit", .query = query->str };
    g_autoptr(json_t) answer = api_json(cli, &call, error);
    if (answer)
        print("%s\n", json_get_string(answer, "Id", ""));
    return answer ? 0 : 1;
}

int cmd_container_export(struct cli *cli, const struct options *options, GError **error)
{
    const char *output = options_string(options, "output", NULL);
    if (!check_output(output, "export container", error))
        return 1;
    g_autofree char *path = api_path("containers", options->args[0], "/export");
    struct call call = { .method = "GET", .path = path };
    return save_answer(cli, &call, output, error) ? 0 : 1;
}
