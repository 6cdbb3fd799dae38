/* Health probes, as the engine sees them: the shim runs them, we say what they are and remember what it tells. */
#include "container/container-internal.h"

#include <string.h>

static json_t *shell_of(const json_t *config)
{
    json_t *shell = json_get_array(config, "Shell");
    return json_array_size(shell) ? json_copy(shell) : json_pack("[s, s]", "/bin/sh", "-c");
}

/* The probe's command line, or NULL where there is none to run. */
static json_t *probe_command(const json_t *config)
{
    json_t *test = json_get_array(json_get_object(config, "Healthcheck"), "Test");
    const char *kind = json_string_value(json_array_get(test, 0));
    if (!kind || json_array_size(test) < 2 || (strcmp(kind, "CMD") && strcmp(kind, "CMD-SHELL")))
        return NULL;
    json_t *command = strcmp(kind, "CMD") ? shell_of(config) : json_array();
    for (size_t i = 1; i < json_array_size(test); i++)
        json_array_append(command, json_array_get(test, i));
    return command;
}

bool health_configuration(const struct container *container, const json_t *host_config, json_t **ret, GError **error)
{
    const json_t *asked = json_get_object(container->config, "Healthcheck");
    g_autoptr(json_t) command = probe_command(container->config);
    json_t *process;
    *ret = NULL;
    if (!command)
        return true;
    g_autoptr(json_t) exec = json_pack("{s:O, s:[]}", "Cmd", command, "Env");
    g_autofree char *hostname = spec_hostname(container->id, container->config);
    if (!spec_exec_process(container->config, host_config, exec, hostname, &process, error))
        return false;
    container_label_process(container, host_config, process);
    *ret =
        json_pack("{s:o, s:I, s:I, s:I, s:I, s:I}", "process", process, "interval",
                  (json_int_t)json_get_int(asked, "Interval", 0), "timeout", (json_int_t)json_get_int(asked, "Timeout", 0),
                  "start_period", (json_int_t)json_get_int(asked, "StartPeriod", 0), "start_interval",
                  (json_int_t)json_get_int(asked, "StartInterval", 0), "retries", (json_int_t)json_get_int(asked, "Retries", 0));
    return true;
}

void health_set_locked(struct container *container, const json_t *health)
{
    if (!json_is_object(health))
        return;
    json_decref(container->health);
    container->health = json_incref((json_t *)health);
}

void health_lost_locked(struct container *container)
{
    if (!container->health)
        return;
    json_t *copy = json_copy(container->health);
    json_object_set_new(copy, "Status", json_string("unhealthy"));
    json_decref(container->health);
    container->health = copy;
}

void health_told(struct container *container, const json_t *event)
{
    const json_t *health = json_get_object(event, "health");
    g_autofree char *action = g_strconcat("health_status: ", json_get_string(health, "Status", ""), NULL);
    g_mutex_lock(&container->lock);
    health_set_locked(container, health);
    g_mutex_unlock(&container->lock);
    if (json_get_bool(event, "changed", false))
        container_emit(container, action, NULL);
}
