/* The engine's API on its sockets. */
#include "api/api.h"
#include "api/api-internal.h"

#include "base/log.h"

#include <string.h>
#include <unistd.h>

struct api_server {
    struct http_server *http;
    GPtrArray *paths; /* of unix sockets, removed at the end */
};

/* Whoever reaches the API is root here, so a port without client certificates needs somebody who says that he means it. */
static bool check_tcp(const struct engine_options *options, const char *host, GError **error)
{
    if (options->tls_verify)
        return true;
    if (!options->tls_off)
        return error_set(error, TARE_ERROR_FORBIDDEN,
                         "refusing to listen on %s without verified clients: use --tlsverify with --tlscacert, --tlscert and "
                         "--tlskey, or say --tls=false",
                         host);
    log_line(LOG_LEVEL_WARNING, "anybody who reaches this address is root on this machine", "host", host, NULL);
    return true;
}

static bool add_host(struct api_server *server, const struct engine_options *options, const char *host, GError **error)
{
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    enum listen_kind kind;
    if (g_str_has_prefix(host, "tcp://") && !check_tcp(options, host, error))
        return false;
    if (!listen_on(host, options->group, fds, &kind, error))
        return false;
    if (kind == LISTEN_UNIX)
        g_ptr_array_add(server->paths, g_strdup(host + strlen("unix://")));
    for (guint i = 0; i < fds->len; i++)
        http_server_add_listener(server->http, g_array_index(fds, int, i), kind == LISTEN_TCP && options->tls);
    log_line(LOG_LEVEL_INFO, "listening", "host", host, NULL);
    return true;
}

bool api_server_open(struct engine *engine, struct api_server **ret, GError **error)
{
    const struct engine_options *options = engine->options;
    struct api_server *server = g_new0(struct api_server, 1);
    server->http = http_server_new(api_handle, engine);
    server->paths = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *newest = g_strdup_printf("1.%d", ENGINE_API_VERSION);
    http_server_header(server->http, "Api-Version", newest);
    http_server_header(server->http, "Docker-Experimental", options->experimental ? "true" : "false");
    http_server_header(server->http, "Ostype", "linux");
    http_server_header(server->http, "Server", "Tare/" TARE_VERSION " (linux)");
    const struct http_tls_options tls = { options->tls_ca, options->tls_certificate, options->tls_key, options->tls_verify };
    bool ok = !options->tls || http_server_use_tls(server->http, &tls, error);
    for (char **host = options->hosts; ok && *host; host++)
        ok = add_host(server, options, *host, error);
    if (!ok) {
        api_server_close(server);
        return false;
    }
    *ret = server;
    return true;
}

bool api_server_run(struct api_server *server, int stop_fd, bool *ret_idle, GError **error)
{
    return http_server_run(server->http, stop_fd, ret_idle, error);
}

void api_server_close(struct api_server *server)
{
    for (guint i = 0; i < server->paths->len; i++)
        unlink(server->paths->pdata[i]);
    g_ptr_array_unref(server->paths);
    http_server_free(server->http);
    g_free(server);
}
