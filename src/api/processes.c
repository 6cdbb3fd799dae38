/* What goes on in a container: processes, statistics, changed files. */
#include "api/api-internal.h"

#include "base/timestamp.h"

static struct container_manager *manager(const struct api_request *request)
{
    return request->engine->containers;
}

static bool show_processes(struct api_request *request, GError **error)
{
    json_t *answer = NULL;
    return container_top(manager(request), request->name, api_query(request, "ps_args"), &answer, error) &&
           api_respond_json(request, 200, answer);
}

static bool show_changes(struct api_request *request, GError **error)
{
    json_t *answer = NULL;
    return container_changes(manager(request), request->name, &answer, error) && api_respond_json(request, 200, answer);
}

/* A sample with the one before it, since clients compute rates from the two. */
static json_t *join_samples(const json_t *before, const json_t *sample)
{
    json_t *joined = json_copy((json_t *)sample);
    json_t *cpu = json_object_get(before, "cpu_stats"), *read = json_object_get(before, "read");
    json_object_set_new(joined, "precpu_stats", cpu ? json_incref(cpu) : json_object());
    json_object_set_new(joined, "preread", read ? json_incref(read) : json_string(TIMESTAMP_ZERO));
    return joined;
}

static bool pause_between_samples(struct api_request *request, GError **error)
{
    return cancel_poll(http_exchange_cancel(request->http), -1, 0, 1000, error) >= 0;
}

static bool show_stats(struct api_request *request, GError **error)
{
    bool stream = api_query_bool_default(request, "stream", true);
    bool one_shot = request->version >= 41 && api_query_bool(request, "one-shot");
    g_autoptr(json_t) before = NULL;
    if (stream && one_shot)
        return error_set(error, TARE_ERROR_INVALID, "cannot have stream=true and one-shot=true");
    for (unsigned n = 0;; n++) {
        g_autoptr(json_t) sample = NULL;
        if (!container_stats(manager(request), request->name, &sample, error))
            return false;
        bool wants_two = !stream && !one_shot && n == 0;
        if (!wants_two && !api_send_line(request, join_samples(before, sample), error))
            return false;
        if (!stream && !wants_two)
            return true;
        json_decref(before);
        before = g_steal_pointer(&sample);
        if (!pause_between_samples(request, error))
            return false;
    }
}

const struct api_route process_routes[] = {
    { "GET", "/containers/{name}/top", 0, 0, show_processes },
    { "GET", "/containers/{name}/changes", 0, 0, show_changes },
    { "GET", "/containers/{name}/stats", 0, 0, show_stats },
    { NULL },
};
