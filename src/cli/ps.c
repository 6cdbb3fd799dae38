/* container ls: `ps`. */
#include "cli/cli-internal.h"

#include "cli/template-internal.h"

#include "base/size.h"

#include <arpa/inet.h>
#include <string.h>

static const struct list_field fields[] = {
    { "ID", "CONTAINER ID" },
    { "Names", "NAMES" },
    { "Image", "IMAGE" },
    { "Command", "COMMAND" },
    { "CreatedAt", "CREATED AT" },
    { "RunningFor", "CREATED" },
    { "Ports", "PORTS" },
    { "State", "STATE" },
    { "Status", "STATUS" },
    { "Size", "SIZE" },
    { "Labels", "LABELS" },
    { "Mounts", "MOUNTS" },
    { "LocalVolumes", "LOCAL VOLUMES" },
    { "Networks", "NETWORKS" },
    { "Platform", "PLATFORM" },
    { NULL, "ContainerContext" },
};

struct port {
    char ip[INET6_ADDRSTRLEN], type[16];
    int private_port, public_port;
};

static gint by_port(gconstpointer a, gconstpointer b)
{
    const struct port *x = a, *y = b;
    if (x->private_port != y->private_port)
        return x->private_port - y->private_port;
    int order = strcmp(x->ip, y->ip);
    if (order == 0)
        order = x->public_port - y->public_port;
    return order ? order : strcmp(x->type, y->type);
}

static char *host_port(const char *ip, const char *port)
{
    return g_strdup_printf(strchr(ip, ':') ? "[%s]:%s" : "%s:%s", ip, port);
}

struct port_group {
    const struct port *example;
    int first, last;
};

static char *group_text(const struct port_group *group)
{
    g_autofree char *range =
        group->first == group->last ? g_strdup_printf("%d", group->first) : g_strdup_printf("%d-%d", group->first, group->last);
    if (!group->example->ip[0])
        return g_strdup_printf("%s/%s", range, group->example->type);
    g_autofree char *host = host_port(group->example->ip, range);
    return g_strdup_printf("%s->%s/%s", host, range, group->example->type);
}

static GArray *read_ports(const json_t *ports)
{
    GArray *list = g_array_new(FALSE, TRUE, sizeof(struct port));
    size_t i;
    json_t *entry;
    json_array_foreach((json_t *)ports, i, entry)
    {
        struct port port = { .private_port = (int)json_get_int(entry, "PrivatePort", 0),
                             .public_port = (int)json_get_int(entry, "PublicPort", 0) };
        g_strlcpy(port.ip, json_get_string(entry, "IP", ""), sizeof port.ip);
        g_strlcpy(port.type, json_get_string(entry, "Type", ""), sizeof port.type);
        g_array_append_val(list, port);
    }
    g_array_sort(list, by_port);
    return list;
}

/* "0.0.0.0:80->80/tcp, 90-92/tcp": neighbours of one kind are a range, those with another port outside come last. */
static char *ports_text(const json_t *ports)
{
    g_autoptr(GArray) list = read_ports(ports), groups = g_array_new(FALSE, FALSE, sizeof(struct port_group));
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free), mapped = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < list->len; i++) {
        const struct port *port = &g_array_index(list, struct port, i);
        struct port_group *group = NULL;
        if (port->ip[0] && port->public_port != port->private_port) {
            g_autofree char *number = g_strdup_printf("%d", port->public_port), *host = host_port(port->ip, number);
            g_ptr_array_add(mapped, g_strdup_printf("%s->%d/%s", host, port->private_port, port->type));
            continue;
        }
        for (guint k = 0; k < groups->len && !group; k++) {
            struct port_group *candidate = &g_array_index(groups, struct port_group, k);
            if (strcmp(candidate->example->ip, port->ip) == 0 && strcmp(candidate->example->type, port->type) == 0)
                group = candidate;
        }
        if (group && port->private_port == group->last + 1) {
            group->last++;
        } else if (group) {
            g_ptr_array_add(texts, group_text(group));
            group->first = group->last = port->private_port;
        } else {
            struct port_group fresh = { port, port->private_port, port->private_port };
            g_array_append_val(groups, fresh);
        }
    }
    for (guint i = 0; i < groups->len; i++)
        g_ptr_array_add(texts, group_text(&g_array_index(groups, struct port_group, i)));
    for (guint i = 0; i < mapped->len; i++)
        g_ptr_array_add(texts, g_strdup(mapped->pdata[i]));
    g_ptr_array_add(texts, NULL);
    return g_strjoinv(", ", (char **)texts->pdata);
}

static char *names_text(const json_t *names, bool truncate)
{
    g_autoptr(GString) out = g_string_new(NULL);
    size_t i;
    json_t *entry;
    json_array_foreach((json_t *)names, i, entry)
    {
        const char *name = json_string_value(entry);
        if (!name)
            continue;
        name += *name == '/';
        if (truncate && strchr(name, '/'))
            continue;
        g_string_append_printf(out, "%s%s", out->len ? "," : "", name);
        if (truncate)
            break;
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

/* The image as it was named; a name that moved on is shown as the engine gives it: an id, cut as ids are. */
static char *image_text(const json_t *row, bool truncate)
{
    const char *image = json_get_string(row, "Image", "");
    char room[13], of_id[13];
    if (!*image)
        return g_strdup("<no image>");
    if (!truncate)
        return g_strdup(image);
    if (strcmp(short_id(json_get_string(row, "ImageID", ""), of_id), short_id(image, room)) == 0)
        return g_strdup(of_id);
    struct image_name name = { 0 };
    if (!image_name_parse(image, &name, NULL))
        return g_strdup(image);
    char *text = name.digest || name.tag ? g_strconcat(name.name, name.tag ? ":" : "", name.tag ? name.tag : "", NULL)
                                         : g_strdup(name.name);
    image_name_clear(&name);
    return text;
}

static char *quoted(const char *text)
{
    GString *out = g_string_new("\"");
    for (const char *c = text; *c; c = g_utf8_next_char(c)) {
        static const char from[] = "\a\b\f\n\r\t\v\\\"", to[] = "abfnrtv\\\"";
        const char *known = strchr(from, *c);
        gunichar u = g_utf8_get_char(c);
        if (known)
            g_string_append_printf(out, "\\%c", to[known - from]);
        else if (u < 0x20 || u == 0x7f)
            g_string_append_printf(out, "\\x%02x", u);
        else if (!g_unichar_isprint(u))
            g_string_append_printf(out, u < 0x10000 ? "\\u%04x" : "\\U%08x", u);
        else
            g_string_append_unichar(out, u);
    }
    g_string_append_c(out, '"');
    return g_string_free(out, FALSE);
}

static char *mounts_text(const json_t *mounts, bool truncate, guint *ret_local)
{
    GString *out = g_string_new(NULL);
    size_t i;
    json_t *mount;
    *ret_local = 0;
    json_array_foreach((json_t *)mounts, i, mount)
    {
        const char *name = json_get_string(mount, "Name", "");
        g_autofree char *shown = text_ellipsis(*name ? name : json_get_string(mount, "Source", ""), truncate ? 15 : G_MAXUINT);
        g_string_append_printf(out, "%s%s", i ? "," : "", shown);
        *ret_local += strcmp(json_get_string(mount, "Driver", ""), "local") == 0;
    }
    return g_string_free(out, FALSE);
}

static char *size_text(const json_t *row)
{
    gint64 root = json_get_int(row, "SizeRootFs", 0);
    g_autofree char *own = bytes_text(json_get_int(row, "SizeRw", 0)), *all = bytes_text(root);
    return root > 0 ? g_strdup_printf("%s (virtual %s)", own, all) : g_steal_pointer(&own);
}

static void set(json_t *row, const char *key, char *text)
{
    json_object_set_new(row, key, json_string_lossy(text));
    g_free(text);
}

json_t *describe_listed_container(const json_t *container, bool truncate)
{
    json_t *row = json_object(), *labels = json_get_object(container, "Labels");
    char room[13];
    guint local;
    const char *id = json_get_string(container, "Id", ""), *command = json_get_string(container, "Command", ""), *name;
    json_t *network;
    g_autoptr(GString) networks = g_string_new(NULL);
    json_object_foreach(json_get_object(json_get_object(container, "NetworkSettings"), "Networks"), name, network)
        g_string_append_printf(networks, "%s%s", networks->len ? "," : "", name);
    g_autofree char *cut = text_ellipsis(command, truncate ? 20 : G_MAXUINT);
    json_object_set_new(row, "ID", json_string(truncate ? short_id(id, room) : id));
    set(row, "Names", names_text(json_get_array(container, "Names"), truncate));
    set(row, "Image", image_text(container, truncate));
    set(row, "Command", quoted(cut));
    json_object_set_new(row, "CreatedAt", created_at_text(json_get_int(container, "Created", 0)));
    set(row, "RunningFor", age_text(json_get_int(container, "Created", 0)));
    set(row, "Ports", ports_text(json_get_array(container, "Ports")));
    json_object_set_new(row, "State", json_string(json_get_string(container, "State", "")));
    json_object_set_new(row, "Status", json_string(json_get_string(container, "Status", "")));
    set(row, "Size", size_text(container));
    json_object_set_new(row, "Labels", labels_text(labels));
    set(row, "Mounts", mounts_text(json_get_array(container, "Mounts"), truncate, &local));
    set(row, "LocalVolumes", g_strdup_printf("%u", local));
    json_object_set_new(row, "Networks", json_string_lossy(networks->str));
    json_object_set_new(row, "Platform", json_null());
    json_object_set_new(row, TEMPLATE_LABELS, labels ? json_incref(labels) : json_object());
    return row;
}

int cmd_container_ls(struct cli *cli, const struct options *options, GError **error)
{
    const char *format = options_string(options, "format", NULL);
    bool quiet = options_bool(options, "quiet", false), truncate = !options_bool(options, "no-trunc", false);
    if (format && quiet)
        print_error("WARNING: Ignoring custom format, because both --format and --quiet are set.\n");
    if (!format)
        format = json_get_string(cli->config, "psFormat", NULL);
    /* .Size costs the engine a walk of the disk: it is asked for only where it is shown. */
    bool size = options_bool(options, "size", format && !quiet && (strstr(format, ".Size") || strstr(format, "json .")));
    gint64 last = options_int(options, "last", -1);
    if (last == -1 && options_bool(options, "latest", false))
        last = 1;
    g_autoptr(GString) query = g_string_new(NULL);
    query_add_bool(query, "all", options_bool(options, "all", false));
    if (last > 0)
        query_add_int(query, "limit", last);
    query_add_bool(query, "size", size);
    query_add_filters(query, options);
    const char *columns = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
    g_autofree char *with_size = g_strconcat(columns, "\t{{.Size}}", NULL);
    static const char raw[] =
        "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n"
        "state:{{if .State}} {{.State}}{{end}}\nstatus:{{if .Status}} {{.Status}}{{end}}\nnames: {{.Names}}\n"
        "labels:{{if .Labels}} {{.Labels}}{{end}}\nports:{{if .Ports}} {{.Ports}}{{end}}\n";
    const char *quiet_template = quiet ? "{{.ID}}" : NULL;
    g_autofree char *raw_text = g_strconcat(raw, options_bool(options, "size", false) ? "size: {{.Size}}\n" : "", NULL);
    format = list_raw_format(format, &quiet_template, raw_text, "container_id: {{.ID}}");
    struct list *list =
        list_new(fields, format, options_bool(options, "size", false) ? with_size : columns, quiet_template, error);
    g_autoptr(json_t) containers = list ? api_get(cli, "/containers/json", query->str, error) : NULL;
    bool ok = containers != NULL;
    size_t i;
    json_t *container;
    json_array_foreach(containers, i, container) ok = ok && list_add(list, describe_listed_container(container, truncate), error);
    if (ok)
        list_finish(list, error);
    else
        list_free(list);
    return ok ? 0 : 1;
}
