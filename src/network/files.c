/* The files that a container finds generated: hosts and resolv.conf. */
#include "network/network-internal.h"

#include "base/file.h"

#include <fcntl.h>
#include <string.h>

char *network_hosts_file(const struct network_endpoint *endpoint, const char *hostname, const char *domainname,
                         const char *const *extra_hosts)
{
    GString *out = g_string_new(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\n"
        "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
    for (; extra_hosts && *extra_hosts; extra_hosts++) {
        const char *colon = strchr(*extra_hosts, ':');
        if (!colon)
            continue;
        const char *address = colon + 1;
        if (strcmp(address, "host-gateway") == 0)
            address = endpoint ? endpoint->gateway : "127.0.0.1";
        g_string_append_printf(out, "%s\t%.*s\n", address, (int)(colon - *extra_hosts), *extra_hosts);
    }
    if (endpoint && *endpoint->ip && domainname && *domainname)
        g_string_append_printf(out, "%s\t%s.%s %s\n", endpoint->ip, hostname, domainname, hostname);
    else if (endpoint && *endpoint->ip)
        g_string_append_printf(out, "%s\t%s\n", endpoint->ip, hostname);
    return g_string_free(out, FALSE);
}

/* A resolver on the host's own loopback cannot be reached from another namespace. */
static bool is_loopback(const char *address)
{
    return g_str_has_prefix(address, "127.") || strcmp(address, "::1") == 0;
}

static void append_host_line(GString *out, const char *line, bool host_network, bool *has_server)
{
    g_auto(GStrv) words = g_strsplit_set(line, " \t", 3);
    if (words[0] && words[1] && strcmp(words[0], "nameserver") == 0) {
        if (!host_network && is_loopback(g_strstrip(words[1])))
            return;
        *has_server = true;
    }
    g_string_append_printf(out, "%s\n", line);
}

static void append_list(GString *out, const char *keyword, const char *const *values)
{
    g_string_append(out, keyword);
    for (; *values; values++)
        g_string_append_printf(out, " %s", *values);
    g_string_append_c(out, '\n');
}

static bool replaces(const char *line, bool dns, bool search, bool options)
{
    return (dns && g_str_has_prefix(line, "nameserver")) ||
           (search && (g_str_has_prefix(line, "search") || g_str_has_prefix(line, "domain"))) ||
           (options && g_str_has_prefix(line, "options"));
}

char *network_resolv_conf(struct network_manager *manager, const char *const *dns, const char *const *search,
                          const char *const *options, bool host_network)
{
    GString *out = g_string_new(NULL);
    bool has_server = false;
    g_autofree char *host = NULL;
    const char *const *servers = dns && *dns ? dns : manager ? manager_dns(manager) : NULL;
    bool own_search = search && *search, own_options = options && *options;
    if (file_read(AT_FDCWD, "/etc/resolv.conf", 1 << 16, &host, NULL, NULL)) {
        g_auto(GStrv) lines = g_strsplit(host, "\n", -1);
        for (char **line = lines; *line; line++)
            if (**line && **line != '#' && !replaces(*line, servers != NULL, own_search, own_options))
                append_host_line(out, *line, host_network, &has_server);
    }
    for (; servers && *servers; servers++, has_server = true)
        g_string_append_printf(out, "nameserver %s\n", *servers);
    if (own_search && strcmp(search[0], ".") != 0)
        append_list(out, "search", search);
    if (own_options)
        append_list(out, "options", options);
    if (!has_server)
        g_string_append(out, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    return g_string_free(out, FALSE);
}
