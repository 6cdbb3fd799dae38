/* container logs. */
#include "cli/cli-internal.h"

#include "base/timestamp.h"

#include <string.h>
#include <unistd.h>

/* A point in time for the API: a duration before now, a date, or seconds as they are. */
char *time_text(const char *text, GError **error)
{
    gint64 ns;
    if (!*text)
        return NULL;
    if (strspn(text, "0123456789.") == strlen(text))
        return g_strdup(text);
    if (!timestamp_parse_given(text, timestamp_now(), &ns)) {
        error_set(error, TARE_ERROR_INVALID, "failed to parse value as time or duration: \"%s\"", text);
        return NULL;
    }
    return g_strdup_printf("%" G_GINT64_FORMAT ".%09" G_GINT64_FORMAT, ns / 1000000000, ns % 1000000000);
}

static bool show(struct response *response, bool tty, GError **error)
{
    if (tty)
        return response_copy(response, STDOUT_FILENO, error);
    struct demultiplexer demultiplexer = { .out = STDOUT_FILENO, .err = STDERR_FILENO };
    g_autofree char *buffer = g_malloc(65536);
    gssize n;
    while ((n = response_read(response, buffer, 65536, error)) > 0)
        if (!demultiplex(&demultiplexer, buffer, (gsize)n, error))
            return false;
    return n == 0;
}

int cmd_container_logs(struct cli *cli, const struct options *options, GError **error)
{
    g_autofree char *container_path = api_path("containers", options->args[0], "/json");
    g_autoptr(json_t) container = api_get(cli, container_path, NULL, error);
    if (!container)
        return 1;
    const char *since_text = options_string(options, "since", ""), *until_text = options_string(options, "until", "");
    g_autofree char *since = time_text(since_text, error), *until = error && *error ? NULL : time_text(until_text, error);
    if ((*since_text && !since) || (*until_text && !until)) {
        g_prefix_error(error, "invalid value for \"%s\": ", *since_text && !since ? "since" : "until");
        return 1;
    }
    g_autoptr(GString) query = g_string_new(NULL);
    query_add_bool(query, "stdout", true);
    query_add_bool(query, "stderr", true);
    query_add(query, "since", since);
    query_add(query, "until", until);
    query_add_bool(query, "timestamps", options_bool(options, "timestamps", false));
    query_add_bool(query, "details", options_bool(options, "details", false));
    query_add_bool(query, "follow", options_bool(options, "follow", false));
    query_add(query, "tail", options_string(options, "tail", "all"));
    g_autofree char *path = api_path("containers", json_get_string(container, "Id", ""), "/logs");
    struct call call = { .method = "GET", .path = path, .query = query->str };
    g_autoptr(response_t) response = api_call(cli, &call, error);
    fflush(stdout);
    return response && show(response, json_get_bool(json_get_object(container, "Config"), "Tty", false), error) ? 0 : 1;
}
