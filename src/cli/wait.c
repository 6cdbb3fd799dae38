/* Waiting for a container's exit status, also across a restart of the engine: containers and the streams of attached clients
 * outlive it, the request that waits for the end does not. */
#include "cli/cli-internal.h"

#include <signal.h>
#include <unistd.h>

#define STATUS_UNKNOWN 125
#define BACK_WITHIN_US (60 * G_USEC_PER_SEC)
#define FIRST_PAUSE_US (20 * 1000)
#define LONGEST_PAUSE_US (500 * 1000)

struct response *wait_begin(struct cli *cli, const char *id, const char *condition, GError **error)
{
    g_autoptr(GString) query = g_string_new(NULL);
    g_autofree char *path = api_path("containers", id, "/wait");
    query_add(query, "condition", condition);
    struct call call = { .method = "POST", .path = path, .query = query->str };
    return api_call(cli, &call, error);
}

int wait_finish(struct response *wait, GError **error)
{
    g_autoptr(json_t) answer = response_json(wait, error);
    const char *message = json_get_string(json_get_object(answer, "Error"), "Message", NULL);
    if (!answer)
        return STATUS_UNKNOWN;
    if (message && *message) {
        error_set(error, TARE_ERROR_INTERNAL, "%s", message);
        return STATUS_UNKNOWN;
    }
    return (int)json_get_int(answer, "StatusCode", 0);
}

bool patience_pause(struct patience *patience)
{
    sigset_t all;
    if (patience->pause_us == 0) {
        /* The session that took them as events is over: Ctrl-C is meant for us. */
        sigfillset(&all);
        sigprocmask(SIG_UNBLOCK, &all, NULL);
        patience->pause_us = FIRST_PAUSE_US;
        patience->until_us = g_get_monotonic_time() + BACK_WITHIN_US;
    }
    if (g_get_monotonic_time() >= patience->until_us)
        return false;
    g_usleep(patience->pause_us);
    patience->pause_us = MIN(patience->pause_us * 2, LONGEST_PAUSE_US);
    return true;
}

int wait_outlast(struct response *wait, const char *id, bool removed, GError **error)
{
    struct cli *cli = wait->cli;
    struct patience patience = { 0 };
    g_autoptr(GError) problem = NULL;
    int status = wait_finish(wait, &problem);
    while (error_is(problem, TARE_ERROR_UNAVAILABLE) && patience_pause(&patience)) {
        g_clear_error(&problem);
        /* The next exit may have been while nobody listened. */
        g_autoptr(response_t) again = wait_begin(cli, id, removed ? "removed" : "not-running", &problem);
        if (!again)
            continue;
        patience = (struct patience){ 0 };
        status = wait_finish(again, &problem);
    }
    if (problem)
        g_propagate_error(error, g_steal_pointer(&problem));
    return error && *error ? STATUS_UNKNOWN : status;
}
