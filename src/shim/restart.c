#include "shim/shim-internal.h"

#include "base/log.h"

/* Streams, log and attached clients begin anew with each life; the root, the network namespace and what was updated stay. */
static bool start_again(struct shim *shim, GError **error)
{
    const struct shim_config *config = shim->config;
    struct stdio_options options = { .terminal = config->terminal,
                                     .open_stdin = config->open_stdin,
                                     .stdin_once = config->stdin_once,
                                     .want_stdout = true,
                                     .want_stderr = true };
    unsigned short rows = shim->stdio.rows, columns = shim->stdio.columns;
    stdio_clear(&shim->stdio);
    if (!stdio_init(&shim->stdio, shim, &options, shim->log, error))
        return false;
    shim->stdio.rows = rows;
    shim->stdio.columns = columns;
    shim->state = SHIM_NEW;
    shim->oom_killed = false;
    return shim_container_create(shim, error) && shim_container_start(shim, error);
}

static void on_restart(void *user)
{
    struct shim *shim = user;
    g_autoptr(GError) error = NULL;
    shim->restart_timer = NULL;
    if (start_again(shim, &error))
        return;
    log_error(error, "restart", "container", shim->config->id, NULL);
    exit_failed(shim, error->message);
}

void restart_schedule(struct shim *shim, gint64 delay_ms)
{
    shim->state = SHIM_RESTARTING;
    shim->restart_timer = loop_timer_new(shim->loop, delay_ms, on_restart, shim);
}

void restart_cancel(struct shim *shim)
{
    g_clear_pointer(&shim->restart_timer, loop_timer_free);
    if (shim->state == SHIM_RESTARTING)
        exit_final(shim);
}
