/* The commands that ask for one thing of several containers, one after another: stop, restart, kill, pause, unpause, rm, wait;
 * and rename. */
#include "cli/cli-internal.h"

#include <string.h>

/* Calls METHOD /containers/NAME<tail>?query for every argument and prints the name of each that it worked for. */
static int for_each(struct cli *cli, const struct options *options, const char *method, const char *tail, const char *query,
                    GError **error)
{
    g_autoptr(GString) problems = g_string_new(NULL);
    for (char **name = options->args; *name; name++) {
        g_autofree char *path = api_path("containers", *name, tail);
        g_autoptr(GError) problem = NULL;
        struct call call = { .method = method, .path = path, .query = query };
        if (api_done(cli, &call, &problem))
            print("%s\n", *name);
        else
            errors_add(problems, &problem);
    }
    return errors_finish(problems, error);
}

static int stop_or_restart(struct cli *cli, const struct options *options, const char *tail, GError **error)
{
    g_autoptr(GString) query = g_string_new(NULL);
    if (options_given(options, "time"))
        print("Flag --time has been deprecated, use --timeout instead\n");
    if (options_given(options, "time") && options_given(options, "timeout"))
        return error_set(error, TARE_ERROR_INVALID, "conflicting options: cannot specify both --timeout and --time"), 1;
    query_add(query, "signal", options_string(options, "signal", NULL));
    const char *timeout = options_string(options, "timeout", options_string(options, "time", NULL));
    query_add(query, "t", timeout);
    return for_each(cli, options, "POST", tail, query->str, error);
}

int cmd_container_stop(struct cli *cli, const struct options *options, GError **error)
{
    return stop_or_restart(cli, options, "/stop", error);
}

int cmd_container_restart(struct cli *cli, const struct options *options, GError **error)
{
    return stop_or_restart(cli, options, "/restart", error);
}

int cmd_container_kill(struct cli *cli, const struct options *options, GError **error)
{
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "signal", options_string(options, "signal", NULL));
    return for_each(cli, options, "POST", "/kill", query->str, error);
}

int cmd_container_pause(struct cli *cli, const struct options *options, GError **error)
{
    return for_each(cli, options, "POST", "/pause", NULL, error);
}

int cmd_container_unpause(struct cli *cli, const struct options *options, GError **error)
{
    return for_each(cli, options, "POST", "/unpause", NULL, error);
}

int cmd_container_rename(struct cli *cli, const struct options *options, GError **error)
{
    g_autofree char *old = g_strdup(options->args[0]), *fresh = g_strdup(options->args[1]);
    g_strstrip(old);
    g_strstrip(fresh);
    if (!*old || !*fresh)
        return error_set(error, TARE_ERROR_INVALID, "Error: Neither old nor new names may be empty"), 1;
    g_autofree char *path = api_path("containers", old, "/rename");
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "name", fresh);
    struct call call = { .method = "POST", .path = path, .query = query->str };
    g_autoptr(GError) problem = NULL;
    if (api_done(cli, &call, &problem))
        return 0;
    print_error("%s\n", problem->message);
    return error_set(error, TARE_ERROR_INTERNAL, "Error: failed to rename container named %s", old), 1;
}

int cmd_container_rm(struct cli *cli, const struct options *options, GError **error)
{
    bool force = options_bool(options, "force", false);
    g_autoptr(GString) query = g_string_new(NULL), problems = g_string_new(NULL);
    query_add_bool(query, "v", options_bool(options, "volumes", false));
    query_add_bool(query, "link", options_bool(options, "link", false));
    query_add_bool(query, "force", force);
    for (char **name = options->args; *name; name++) {
        const char *trimmed = *name;
        while (*trimmed == '/')
            trimmed++;
        g_autoptr(GError) problem = NULL;
        g_autofree char *path = api_path("containers", trimmed, "");
        struct call call = { .method = "DELETE", .path = path, .query = query->str };
        bool ok =
            *trimmed ? api_done(cli, &call, &problem) : error_set(&problem, TARE_ERROR_INVALID, "container name cannot be empty");
        if (ok)
            print("%s\n", *name);
        else if (force && error_is(problem, TARE_ERROR_NOT_FOUND))
            print_error("%s\n", problem->message); /* what should be gone is gone */
        else
            errors_add(problems, &problem);
    }
    return errors_finish(problems, error);
}

int cmd_container_wait(struct cli *cli, const struct options *options, GError **error)
{
    g_autoptr(GString) problems = g_string_new(NULL);
    for (char **name = options->args; *name; name++) {
        g_autoptr(GError) problem = NULL;
        g_autoptr(response_t) wait = wait_begin(cli, *name, NULL, &problem);
        int status = wait ? wait_outlast(wait, *name, false, &problem) : 0;
        if (problem)
            errors_add(problems, &problem);
        else
            print("%d\n", status);
    }
    return errors_finish(problems, error);
}

int cmd_container_update(struct cli *cli, const struct options *options, GError **error)
{
    static const struct {
        const char *flag, *field;
        char kind; /* i: number, b: bytes, s: text, c: CPUs */
    } fields[] = {
        { "blkio-weight", "BlkioWeight", 'i' },
        { "cpu-period", "CpuPeriod", 'i' },
        { "cpu-quota", "CpuQuota", 'i' },
        { "cpu-rt-period", "CpuRealtimePeriod", 'i' },
        { "cpu-rt-runtime", "CpuRealtimeRuntime", 'i' },
        { "cpu-shares", "CpuShares", 'i' },
        { "cpus", "NanoCpus", 'c' },
        { "cpuset-cpus", "CpusetCpus", 's' },
        { "cpuset-mems", "CpusetMems", 's' },
        { "memory", "Memory", 'b' },
        { "memory-reservation", "MemoryReservation", 'b' },
        { "memory-swap", "MemorySwap", 'b' },
        { "pids-limit", "PidsLimit", 'i' },
        { "kernel-memory", "KernelMemory", 'b' },
    };
    g_autoptr(json_t) body = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        const char *flag = fields[i].flag, *text = options_string(options, flag, NULL);
        if (!text)
            continue;
        json_object_set_new(body, fields[i].field,
                            fields[i].kind == 's'   ? json_string_lossy(text)
                            : fields[i].kind == 'b' ? json_integer(options_bytes(options, flag, 0))
                            : fields[i].kind == 'c' ? json_integer((json_int_t)(g_ascii_strtod(text, NULL) * 1e9 + 0.5))
                                                    : json_integer(options_int(options, flag, 0)));
    }
    const char *restart = options_string(options, "restart", NULL);
    if (restart) {
        json_t *policy = restart_policy(restart, error);
        if (!policy)
            return 1;
        json_object_set_new(body, "RestartPolicy", policy);
    }
    if (json_object_size(body) == 0)
        return error_set(error, TARE_ERROR_INVALID, "you must provide one or more flags when using this command"), 1;
    g_autoptr(GString) problems = g_string_new(NULL);
    for (char **name = options->args; *name; name++) {
        g_autofree char *path = api_path("containers", *name, "/update");
        g_autoptr(GError) problem = NULL;
        struct call call = { .method = "POST", .path = path, .json = body };
        g_autoptr(json_t) answer = api_json(cli, &call, &problem);
        size_t w;
        json_t *warning;
        json_array_foreach(json_get_array(answer, "Warnings"), w, warning) print_error("%s\n", json_string_value(warning));
        if (answer)
            print("%s\n", *name);
        else
            errors_add(problems, &problem);
    }
    return errors_finish(problems, error);
}
