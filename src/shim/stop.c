#include "shim/shim-internal.h"

#include "base/log.h"

/* Where the signal could not be sent: so long the end is waited for all the same, as Docker does. */
#define UNSENT_TIMEOUT_MS 2000

struct stop {
    struct shim *shim;
    struct connection *connection; /* NULL: nobody waits any more */
    struct loop_timer *timer;
    int signal;
};

static void reply_exit_code(struct connection *connection, int exit_code)
{
    if (connection)
        server_reply(connection, json_pack("{s:i}", "exit_code", exit_code), NULL, 0);
}

static void stop_free(struct stop *stop)
{
    loop_timer_free(stop->timer);
    g_free(stop);
}

static void on_timeout(void *user)
{
    struct stop *stop = user;
    g_autoptr(GError) error = NULL;
    stop->timer = NULL;
    if (!shim_container_signal(stop->shim, SIGKILL, false, &error))
        log_error(error, "stop", "container", stop->shim->config->id, NULL);
    else if (stop->signal != SIGKILL) /* of that one whoever asked for it knows */
        server_emit(stop->shim, json_pack("{s:s,s:i}", "event", "kill", "signal", SIGKILL));
}

bool stop_begin(struct shim *shim, struct connection *connection, int signal, gint64 timeout_ms, GError **error)
{
    g_autoptr(GError) problem = NULL;
    if (shim->state == SHIM_RESTARTING) {
        restart_cancel(shim);
        reply_exit_code(connection, shim->exit_code);
        return true;
    }
    if (shim->state != SHIM_RUNNING && shim->state != SHIM_PAUSED)
        return error_set(error, TARE_ERROR_NOT_MODIFIED, "container is already stopped");
    shim->stopped_by_user = true;
    bool sent = shim_container_signal(shim, signal, false, &problem);
    if (!sent && timeout_ms >= 0)
        timeout_ms = UNSENT_TIMEOUT_MS;
    if (sent && shim->state == SHIM_PAUSED)
        shim_container_pause(shim, false, NULL);
    struct stop *stop = g_new0(struct stop, 1);
    stop->shim = shim;
    stop->signal = signal;
    stop->connection = connection;
    if (timeout_ms >= 0)
        stop->timer = loop_timer_new(shim->loop, timeout_ms, on_timeout, stop);
    g_ptr_array_add(shim->stops, stop);
    return true;
}

void stop_finished(struct shim *shim)
{
    for (guint i = 0; i < shim->stops->len; i++) {
        struct stop *stop = shim->stops->pdata[i];
        reply_exit_code(stop->connection, shim->exit_code);
        stop_free(stop);
    }
    g_ptr_array_set_size(shim->stops, 0);
}

void stop_forget(struct shim *shim, struct connection *connection)
{
    for (guint i = 0; i < shim->stops->len; i++) {
        struct stop *stop = shim->stops->pdata[i];
        if (stop->connection == connection)
            stop->connection = NULL;
    }
}
