/* Where the engine listens: parsing of -H and the order of everything that can say it. */
#include "cli/cli-internal.h"

#include "base/parse.h"

#include <string.h>

#define DEFAULT_DOCKER_SOCKET "/var/run/docker.sock"

void endpoint_free(struct endpoint *endpoint)
{
    if (!endpoint)
        return;
    g_free(endpoint->host);
    g_free(endpoint->address);
    g_free(endpoint->port);
    g_free(endpoint->socket);
    g_free(endpoint->ca);
    g_free(endpoint->certificate);
    g_free(endpoint->key);
    g_free(endpoint);
}

/* HOST, HOST:PORT, [V6]:PORT, and a path after it that is left out. */
static bool split_address(const char *text, const char *default_host, const char *default_port, struct endpoint *endpoint,
                          GError **error)
{
    g_autofree char *authority = g_strndup(text, strcspn(text, "/"));
    char *name = authority, *port = NULL;
    guint64 number;
    if (*name == '[') {
        char *end = strchr(name, ']');
        if (!end)
            return error_set(error, TARE_ERROR_INVALID,
                             "unable to resolve docker endpoint: parse \"tcp://%s\": missing ']' in host", text);
        port = end[1] == ':' ? end + 2 : NULL;
        *end = '\0';
        name++;
    } else if ((port = strrchr(name, ':'))) {
        *port++ = '\0';
    }
    if (port && *port && !parse_uint(port, 65535, &number))
        return error_set(error, TARE_ERROR_INVALID,
                         "unable to resolve docker endpoint: parse \"tcp://%s\": invalid port \":%s\" after host", text, port);
    endpoint->address = g_strdup(*name ? name : default_host);
    endpoint->port = g_strdup(port && *port ? port : default_port);
    return true;
}

static bool parse_ssh(const char *text, struct endpoint *endpoint, GError **error)
{
    const char *slash = strchr(text, '/');
    g_autofree char *authority = g_strndup(text, strcspn(text, "/"));
    char *at = strrchr(authority, '@'), *name = at ? at + 1 : authority, *port = NULL;
    const char *problem = NULL;
    guint64 number;
    if (at && memchr(authority, ':', (size_t)(at - authority)))
        problem = "plain-text password is not supported";
    else if (!*name)
        problem = "hostname is empty";
    else if (strpbrk(text, "?#"))
        problem = "query and fragment are not supported";
    else if (*authority == '-')
        problem = "hostname begins with a dash";
    if (!problem && *name != '[' && (port = strrchr(name, ':')))
        *port++ = '\0';
    if (!problem && port && !parse_uint(port, 65535, &number))
        problem = "invalid port";
    if (problem)
        return error_set(error, TARE_ERROR_INVALID, "ssh host connection is not valid: invalid SSH URL: %s", problem);
    endpoint->kind = ENDPOINT_SSH;
    endpoint->address = g_strdup(authority);
    endpoint->port = g_strdup(port);
    endpoint->socket = slash && slash[1] ? g_strdup(slash) : NULL;
    return true;
}

struct endpoint *endpoint_parse(const char *host, GError **error)
{
    struct endpoint *endpoint = g_new0(struct endpoint, 1);
    const char *mark = strstr(host, "://");
    g_autofree char *scheme = mark ? g_strndup(host, (size_t)(mark - host)) : g_strdup("tcp");
    const char *rest = mark ? mark + 3 : host;
    bool ok = true;
    endpoint->host = mark ? g_strdup(host) : g_strdup_printf("tcp://%s", host);
    if (strcmp(scheme, "unix") == 0) {
        endpoint->kind = ENDPOINT_UNIX;
        endpoint->address = g_strdup(*rest ? rest : DEFAULT_DOCKER_SOCKET);
    } else if (strcmp(scheme, "tcp") == 0) {
        endpoint->kind = ENDPOINT_TCP;
        ok = split_address(rest, "localhost", "2375", endpoint, error);
    } else if (strcmp(scheme, "ssh") == 0) {
        ok = parse_ssh(rest, endpoint, error);
    } else if (strcmp(scheme, "fd") == 0 || strcmp(scheme, "npipe") == 0) {
        ok = error_set(error, TARE_ERROR_INVALID, "unable to parse docker host `%s`", host);
    } else {
        ok = error_set(error, TARE_ERROR_INVALID, "unable to resolve docker endpoint: invalid bind address format: %s", host);
    }
    if (ok && endpoint->kind != ENDPOINT_SSH && (!*rest || (endpoint->kind == ENDPOINT_TCP && *rest == ':') || !mark)) {
        g_free(endpoint->host); /* what was left out is said in messages */
        endpoint->host = endpoint->kind == ENDPOINT_UNIX ? g_strconcat("unix://", endpoint->address, NULL)
                                                         : g_strdup_printf("tcp://%s:%s", endpoint->address, endpoint->port);
    }
    if (!ok)
        g_clear_pointer(&endpoint, endpoint_free);
    return endpoint;
}

static const char *nonempty(const char *text)
{
    return text && *text ? text : NULL;
}

void host_choose(const struct host_sources *sources, const char **ret_host, const char **ret_context)
{
    const char *host = NULL, *context = NULL;
    if (sources->flag_host)
        host = sources->flag_host;
    else if (nonempty(sources->flag_context))
        context = sources->flag_context;
    else if (nonempty(sources->tare_host))
        host = sources->tare_host;
    else if (nonempty(sources->docker_host))
        host = sources->docker_host;
    else if (nonempty(sources->environment_context))
        context = sources->environment_context;
    else
        context = nonempty(sources->config_context);
    if (context && strcmp(context, "default") == 0) {
        context = NULL; /* which is: the environment, then the default socket */
        host = nonempty(sources->tare_host) ? sources->tare_host : nonempty(sources->docker_host);
    }
    *ret_host = host;
    *ret_context = context;
}
