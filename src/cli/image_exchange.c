/* image push-to and pull-from: images from one engine to another, over ssh and without a registry. The archive that save makes
 * goes from the one to the other, without the layers that are there already. */
#include "cli/cli-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_SIZE (256u << 10)
#define WITHOUT_MAX 400 /* they are part of a URL */

/* The other engine, as another `-H` would reach it. */
static bool open_other(const struct cli *cli, const char *host, struct cli *ret, GError **error)
{
    *ret = (struct cli){ .program = cli->program,
                         .global = cli->global,
                         .config_directory = cli->config_directory,
                         .config = cli->config,
                         .debug = cli->debug };
    ret->endpoint = endpoint_parse(host, error);
    if (!ret->endpoint)
        return false;
    ret->endpoint->prefer_tare = true;
    return true;
}

static void close_other(struct cli *other)
{
    connection_free(other->idle);
    endpoint_free(other->endpoint);
    g_free(other->version);
    g_free(other->os);
}

/* ---- what is there already ---- */

static bool collect_layers(struct cli *from, char *const *names, GPtrArray *layers, GError **error)
{
    for (; *names; names++) {
        g_autofree char *path = api_path("images", *names, "/json");
        g_autoptr(json_t) image = api_get(from, path, NULL, error);
        if (!image)
            return false;
        size_t i;
        json_t *layer;
        json_array_foreach(json_get_array(json_get_object(image, "RootFS"), "Layers"), i, layer)
        {
            const char *diff_id = json_string_value(layer);
            if (diff_id && !g_ptr_array_find_with_equal_func(layers, diff_id, g_str_equal, NULL))
                g_ptr_array_add(layers, g_strdup(diff_id));
        }
    }
    return true;
}

/* Layers that the other side has; empty where it does not say so, as an engine that is not ours: then all are sent. */
static GPtrArray *known_layers(struct cli *to, const GPtrArray *layers)
{
    GPtrArray *known = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(json_t) body = json_object();
    json_t *list = json_array();
    for (guint i = 0; i < layers->len; i++)
        json_array_append_new(list, json_string(layers->pdata[i]));
    json_object_set_new(body, "Layers", list);
    struct call call = { .method = "POST", .path = "/layers/missing", .json = body };
    g_autoptr(json_t) answer = api_json(to, &call, NULL);
    const json_t *missing = json_get_array(answer, "Missing");
    for (guint i = 0; missing && i < layers->len && known->len < WITHOUT_MAX; i++) {
        bool is_missing = false;
        size_t j;
        json_t *one;
        json_array_foreach(missing, j, one) is_missing |= g_strcmp0(json_string_value(one), layers->pdata[i]) == 0;
        if (!is_missing)
            g_ptr_array_add(known, g_strdup(layers->pdata[i]));
    }
    return known;
}

/* ---- the way between them ---- */

struct pump {
    struct response *from;
    int to;
    GError *error;
};

static gpointer pump_run(gpointer data)
{
    struct pump *pump = data;
    g_autofree char *buffer = g_malloc(BUFFER_SIZE);
    gssize n;
    while ((n = response_read(pump->from, buffer, BUFFER_SIZE, &pump->error)) > 0)
        if (fd_write_full(pump->to, buffer, (size_t)n) < 0)
            break; /* the reader has gone, and says why */
    fd_clear(&pump->to);
    return NULL;
}

static bool load_from(struct cli *to, int body, bool quiet, GError **error)
{
    static const char *const headers[] = { "Content-Type", "application/x-tar", NULL };
    struct call call = { .method = "POST",
                         .path = "/images/load",
                         .query = is_terminal(STDOUT_FILENO) && !quiet ? "quiet=0" : "quiet=1",
                         .headers = headers,
                         .has_body_fd = true,
                         .body_fd = body };
    g_autoptr(response_t) response = api_call(to, &call, error);
    struct progress_options output = { .fd = STDOUT_FILENO, .quiet = quiet };
    return response && progress_show(response, &output, NULL, error);
}

static bool copy_images(struct cli *from, struct cli *to, char *const *names, const GPtrArray *known, bool quiet, GError **error)
{
    g_autoptr(GString) query = g_string_new(NULL);
    int ends[2];
    for (; *names; names++)
        query_add(query, "names", *names);
    for (guint i = 0; i < known->len; i++)
        query_add(query, "without", known->pdata[i]);
    struct call call = { .method = "GET", .path = "/images/get", .query = query->str };
    g_autoptr(response_t) archive = api_call(from, &call, error);
    if (!archive)
        return false;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "pipe");
    struct pump pump = { .from = archive, .to = ends[1] };
    GThread *thread = g_thread_new("pump", pump_run, &pump);
    g_autoptr(GError) problem = NULL;
    bool ok = load_from(to, ends[0], quiet, &problem);
    fd_close(ends[0]);
    g_thread_join(thread);
    /* What could not be sent is why it could not be loaded. */
    if (pump.error) {
        g_propagate_error(error, pump.error);
        return false;
    }
    if (problem)
        g_propagate_error(error, g_steal_pointer(&problem));
    return ok;
}

static bool exchange(struct cli *from, struct cli *to, char *const *names, bool quiet, GError **error)
{
    g_autoptr(GPtrArray) layers = g_ptr_array_new_with_free_func(g_free);
    if (!collect_layers(from, names, layers, error))
        return false;
    g_autoptr(GPtrArray) known = known_layers(to, layers);
    for (guint i = 0; i < known->len && !quiet; i++) {
        char room[13];
        print("%s: Already exists\n", short_id(known->pdata[i], room));
    }
    return copy_images(from, to, names, known, quiet, error);
}

int cmd_image_push_to(struct cli *cli, const struct options *options, GError **error)
{
    struct cli other;
    bool ok = open_other(cli, options->args[0], &other, error) &&
              exchange(cli, &other, options->args + 1, options_bool(options, "quiet", false), error);
    close_other(&other);
    return ok ? 0 : 1;
}

int cmd_image_pull_from(struct cli *cli, const struct options *options, GError **error)
{
    struct cli other;
    bool ok = open_other(cli, options->args[0], &other, error) &&
              exchange(&other, cli, options->args + 1, options_bool(options, "quiet", false), error);
    close_other(&other);
    return ok ? 0 : 1;
}
