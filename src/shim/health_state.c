/* What the probes of a container say of it, without running any: pure. */
#include "shim/shim-internal.h"

#include "base/timestamp.h"

#include <string.h>

#define NS_PER_MS 1000000
/* Docker's figures, where the image and the user leave them open. */
#define DEFAULT_INTERVAL_NS (G_GINT64_CONSTANT(30000) * NS_PER_MS)
#define DEFAULT_TIMEOUT_NS (G_GINT64_CONSTANT(30000) * NS_PER_MS)
#define DEFAULT_START_INTERVAL_NS (G_GINT64_CONSTANT(5000) * NS_PER_MS)
#define DEFAULT_RETRIES 3

static const char *const names[] = { "starting", "healthy", "unhealthy" };

static bool take_ns(const json_t *object, const char *key, gint64 fallback, gint64 *ret, GError **error)
{
    const json_t *member = json_object_get(object, key);
    if (member && !json_is_integer(member) && !json_is_null(member))
        return error_set(error, TARE_ERROR_INVALID, "shim configuration: health.%s: an integer is expected", key);
    *ret = json_is_integer(member) ? json_integer_value(member) : 0;
    if (*ret < 0)
        return error_set(error, TARE_ERROR_INVALID, "shim configuration: health.%s: out of range", key);
    if (*ret == 0)
        *ret = fallback;
    return true;
}

bool health_options_parse(const json_t *object, struct health_options *ret, GError **error)
{
    struct health_options options = { 0 };
    json_t *process = json_get_object(object, "process");
    if (!process)
        return error_set(error, TARE_ERROR_INVALID, "shim configuration: health.process: missing");
    if (!take_ns(object, "interval", DEFAULT_INTERVAL_NS, &options.interval_ns, error) ||
        !take_ns(object, "timeout", DEFAULT_TIMEOUT_NS, &options.timeout_ns, error) ||
        !take_ns(object, "start_period", 0, &options.start_period_ns, error) ||
        !take_ns(object, "start_interval", MIN(DEFAULT_START_INTERVAL_NS, options.interval_ns), &options.start_interval_ns,
                 error) ||
        !take_ns(object, "retries", DEFAULT_RETRIES, &options.retries, error))
        return false;
    options.process = json_incref(process);
    *ret = options;
    return true;
}

void health_state_begin(struct health_state *state)
{
    state->status = HEALTH_STARTING;
    state->failing_streak = 0;
}

void health_state_clear(struct health_state *state)
{
    for (unsigned i = 0; i < state->n_results; i++)
        g_free(state->results[i].output);
    *state = (struct health_state){ 0 };
}

gint64 health_state_delay_ms(const struct health_state *state, const struct health_options *options, gint64 running_ns)
{
    bool starts = state->status == HEALTH_STARTING && running_ns < options->start_period_ns;
    gint64 ns = starts ? options->start_interval_ns : options->interval_ns;
    return MAX(ns / NS_PER_MS, 1);
}

static void append(struct health_state *state, const struct health_result *result)
{
    if (state->n_results == HEALTH_RESULTS_MAX) {
        g_free(state->results[0].output);
        memmove(state->results, state->results + 1, (HEALTH_RESULTS_MAX - 1) * sizeof *state->results);
        state->n_results--;
    }
    state->results[state->n_results] = *result;
    state->results[state->n_results++].output = g_strdup(result->output);
}

bool health_state_apply(struct health_state *state, const struct health_options *options, const struct health_result *result,
                        gint64 started_at)
{
    enum health_status before = state->status;
    append(state, result);
    if (result->exit_code == 0) {
        state->status = HEALTHY;
        state->failing_streak = 0;
    } else if (before != HEALTH_STARTING || result->start - started_at >= options->start_period_ns) {
        /* Failures of a container that may still be starting do not count. */
        if (++state->failing_streak >= options->retries)
            state->status = UNHEALTHY;
    }
    return state->status != before;
}

json_t *health_state_json(const struct health_state *state)
{
    json_t *log = json_array();
    for (unsigned i = 0; i < state->n_results; i++) {
        const struct health_result *result = &state->results[i];
        char start[TIMESTAMP_ROOM], end[TIMESTAMP_ROOM];
        timestamp_format(result->start, start);
        timestamp_format(result->end, end);
        json_array_append_new(log, json_pack("{s:s,s:s,s:i,s:o}", "Start", start, "End", end, "ExitCode", result->exit_code,
                                             "Output", json_string_lossy(result->output)));
    }
    return json_pack("{s:s,s:I,s:o}", "Status", names[state->status], "FailingStreak", (json_int_t)state->failing_streak, "Log",
                     log);
}
