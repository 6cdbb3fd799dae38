/* network ls, create, rm, connect, disconnect. */
#include "cli/cli-internal.h"

#include "cli/template-internal.h"

#include "base/parse.h"
#include "base/timestamp.h"

#include <string.h>

static const struct list_field fields[] = {
    { "ID", "NETWORK ID" },
    { "Name", "NAME" },
    { "Driver", "DRIVER" },
    { "Scope", "SCOPE" },
    { "IPv4", "IPV4" },
    { "IPv6", "IPV6" },
    { "Internal", "INTERNAL" },
    { "Labels", "LABELS" },
    { "CreatedAt", "CREATED AT" },
    { NULL, "network.networkContext" },
};

/* RFC 3339 as Go prints a time: "2026-11-24 07:39:37.355551155 +0000 UTC". */
static char *go_time(const char *text)
{
    gint64 ns;
    char room[TIMESTAMP_ROOM];
    if (!*text)
        return g_strdup("0001-01-01 00:00:00 +0000 UTC"); /* none */
    if (!timestamp_parse(text, &ns))
        return g_strdup(text);
    timestamp_format(ns, room);
    char *t = strchr(room, 'T'), *z = strchr(room, 'Z');
    if (t)
        *t = ' ';
    if (z)
        *z = '\0';
    return g_strconcat(room, " +0000 UTC", NULL);
}

static json_t *describe(const json_t *network, bool truncate)
{
    char room[13];
    json_t *labels = json_get_object(network, "Labels"), *row = json_object();
    const char *id = json_get_string(network, "Id", "");
    g_autofree char *created = go_time(json_get_string(network, "Created", ""));
    json_object_set_new(row, "ID", json_string(truncate ? short_id(id, room) : id));
    json_object_set_new(row, "Name", json_string_lossy(json_get_string(network, "Name", "")));
    json_object_set_new(row, "Driver", json_string(json_get_string(network, "Driver", "")));
    json_object_set_new(row, "Scope", json_string(json_get_string(network, "Scope", "")));
    json_object_set_new(row, "IPv4", json_string(json_get_bool(network, "EnableIPv4", false) ? "true" : "false"));
    json_object_set_new(row, "IPv6", json_string(json_get_bool(network, "EnableIPv6", false) ? "true" : "false"));
    json_object_set_new(row, "Internal", json_string(json_get_bool(network, "Internal", false) ? "true" : "false"));
    json_object_set_new(row, "Labels", labels_text(labels));
    json_object_set_new(row, "CreatedAt", json_string(created));
    json_object_set_new(row, TEMPLATE_LABELS, labels ? json_incref(labels) : json_object());
    return row;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return text_natural_compare(json_get_string(*(json_t *const *)a, "Name", ""),
                                json_get_string(*(json_t *const *)b, "Name", ""));
}

int cmd_network_ls(struct cli *cli, const struct options *options, GError **error)
{
    const char *format = options_string(options, "format", json_get_string(cli->config, "networksFormat", NULL));
    bool truncate = !options_bool(options, "no-trunc", false);
    g_autoptr(GString) query = g_string_new(NULL);
    query_add_filters(query, options);
    const char *quiet = options_bool(options, "quiet", false) ? "{{.ID}}" : NULL;
    format = list_raw_format(format, &quiet, "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
                             "network_id: {{.ID}}");
    struct list *list = list_new(fields, format, "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}", quiet, error);
    g_autoptr(json_t) networks = list ? api_get(cli, "/networks", query->str, error) : NULL;
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    bool ok = networks != NULL;
    size_t i;
    json_t *network;
    json_array_foreach(networks, i, network) g_ptr_array_add(sorted, network);
    g_ptr_array_sort(sorted, by_name);
    for (guint k = 0; ok && k < sorted->len; k++)
        ok = list_add(list, describe(sorted->pdata[k], truncate), error);
    if (ok)
        list_finish(list, error);
    else
        list_free(list);
    return ok ? 0 : 1;
}

/* --subnet, --ip-range and --gateway in the order given; --aux-address goes with the first. */
static json_t *address_plan(const struct options *options, GError **error)
{
    const char *const *subnets = options_list(options, "subnet"), *const *ranges = options_list(options, "ip-range"),
                      *const *gateways = options_list(options, "gateway");
    json_t *plan = json_array();
    for (; *subnets; subnets++) {
        json_t *entry = json_pack("{s:s}", "Subnet", *subnets);
        if (*ranges)
            json_object_set_new(entry, "IPRange", json_string_lossy(*ranges++));
        if (*gateways)
            json_object_set_new(entry, "Gateway", json_string_lossy(*gateways++));
        json_array_append_new(plan, entry);
    }
    if (*ranges || *gateways)
        error_set(error, TARE_ERROR_INVALID, "%s",
                  *ranges ? "every ip-range must have a corresponding subnet" : "every gateway must have a corresponding subnet");
    if (json_array_size(plan) > 0 && options_given(options, "aux-address"))
        json_object_set_new(json_array_get(plan, 0), "AuxiliaryAddresses", options_map(options, "aux-address"));
    return plan;
}

int cmd_network_create(struct cli *cli, const struct options *options, GError **error)
{
    g_autoptr(GError) problem = NULL;
    json_t *plan = address_plan(options, &problem);
    json_t *ipam = json_pack("{s:s, s:o, s:o}", "Driver", options_string(options, "ipam-driver", "default"), "Options",
                             options_map(options, "ipam-opt"), "Config", plan);
    g_autoptr(json_t) body =
        json_pack("{s:s, s:s, s:s, s:o, s:b, s:b, s:b, s:b, s:o, s:o, s:b}", "Name", options->args[0], "Driver",
                  options_string(options, "driver", "bridge"), "Scope", options_string(options, "scope", ""), "IPAM", ipam,
                  "Internal", options_bool(options, "internal", false), "Attachable", options_bool(options, "attachable", false),
                  "Ingress", options_bool(options, "ingress", false), "ConfigOnly", options_bool(options, "config-only", false),
                  "Options", options_map(options, "opt"), "Labels", options_map(options, "label"), "CheckDuplicate", 1);
    if (problem) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return 1;
    }
    const char *from = options_string(options, "config-from", NULL);
    if (from)
        json_object_set_new(body, "ConfigFrom", json_pack("{s:s}", "Network", from));
    if (options_given(options, "ipv6"))
        json_object_set_new(body, "EnableIPv6", json_boolean(options_bool(options, "ipv6", false)));
    if (options_given(options, "ipv4"))
        json_object_set_new(body, "EnableIPv4", json_boolean(options_bool(options, "ipv4", true)));
    struct call call = { .method = "POST", .path = "/networks/create", .json = body };
    g_autoptr(json_t) answer = api_json(cli, &call, error);
    if (answer)
        print("%s\n", json_get_string(answer, "Id", ""));
    return answer ? 0 : 1;
}

int cmd_network_rm(struct cli *cli, const struct options *options, GError **error)
{
    bool force = options_bool(options, "force", false), failed = false;
    for (char **name = options->args; *name; name++) {
        g_autofree char *path = api_path("networks", *name, "");
        g_autoptr(GError) problem = NULL;
        struct call call = { .method = "DELETE", .path = path };
        if (api_done(cli, &call, &problem)) {
            print("%s\n", *name);
        } else if (!(force && error_is(problem, TARE_ERROR_NOT_FOUND))) {
            print_error("%s\n", problem->message);
            failed = true;
        }
    }
    return failed ? error_set(error, TARE_ERROR_INTERNAL, "exit status 1"), 1 : 0;
}

int cmd_network_connect(struct cli *cli, const struct options *options, GError **error)
{
    g_autoptr(json_t) endpoint = json_object(), ipam = json_object();
    static const char *const fields_of[][2] = { { "ip", "IPv4Address" }, { "ip6", "IPv6Address" } };
    for (size_t i = 0; i < G_N_ELEMENTS(fields_of); i++)
        if (options_given(options, fields_of[i][0]))
            json_object_set_new(ipam, fields_of[i][1], json_string_lossy(options_string(options, fields_of[i][0], "")));
    if (options_given(options, "link-local-ip"))
        json_object_set_new(ipam, "LinkLocalIPs", json_from_strv(options_list(options, "link-local-ip")));
    if (json_object_size(ipam) > 0)
        json_object_set(endpoint, "IPAMConfig", ipam);
    if (options_given(options, "alias"))
        json_object_set_new(endpoint, "Aliases", json_from_strv(options_list(options, "alias")));
    if (options_given(options, "link"))
        json_object_set_new(endpoint, "Links", json_from_strv(options_list(options, "link")));
    if (options_given(options, "driver-opt"))
        json_object_set_new(endpoint, "DriverOpts", options_map(options, "driver-opt"));
    if (options_given(options, "gw-priority"))
        json_object_set_new(endpoint, "GwPriority", json_integer(options_int(options, "gw-priority", 0)));
    g_autoptr(json_t) body = json_pack("{s:s, s:O}", "Container", options->args[1], "EndpointConfig", endpoint);
    g_autofree char *path = api_path("networks", options->args[0], "/connect");
    struct call call = { .method = "POST", .path = path, .json = body };
    return api_done(cli, &call, error) ? 0 : 1;
}

int cmd_network_disconnect(struct cli *cli, const struct options *options, GError **error)
{
    g_autoptr(json_t) body =
        json_pack("{s:s, s:b}", "Container", options->args[1], "Force", options_bool(options, "force", false));
    g_autofree char *path = api_path("networks", options->args[0], "/disconnect");
    struct call call = { .method = "POST", .path = path, .json = body };
    return api_done(cli, &call, error) ? 0 : 1;
}
