#include "shim/shim-internal.h"

#include <string.h>

/* Docker's figures. */
#define DELAY_FIRST_MS 100
#define DELAY_MAX_MS 60000
#define RAN_WELL_NS (G_GINT64_CONSTANT(10) * G_USEC_PER_SEC * 1000)

static const char *const names[] = { "no", "always", "on-failure", "unless-stopped" };

bool restart_policy_parse(const json_t *object, const char *field, struct restart_policy *ret, GError **error)
{
    struct restart_policy policy = { RESTART_NO, 0 };
    if (object && !json_is_null(object) && !json_is_object(object))
        return error_set(error, TARE_ERROR_INVALID, "%s: an object is expected", field);
    const char *name = json_get_string(object, "name", "");
    size_t i = 0;
    while (*name && i < G_N_ELEMENTS(names) && strcmp(names[i], name) != 0)
        i++;
    if (i == G_N_ELEMENTS(names))
        return error_set(error, TARE_ERROR_INVALID, "%s.name: invalid restart policy '%s'", field, name);
    policy.name = (enum restart_name)i;
    policy.maximum_retry = json_get_int(object, "maximum_retry", 0);
    if (policy.maximum_retry < 0 || policy.maximum_retry > G_MAXINT)
        return error_set(error, TARE_ERROR_INVALID, "%s.maximum_retry: out of range", field);
    *ret = policy;
    return true;
}

bool restart_decide(const struct restart_policy *policy, struct restart_state *state, int exit_code, bool stopped_by_user,
                    gint64 ran_ns, gint64 *ret_delay_ms)
{
    /* A stop by the user cancels every policy; the names differ only in what happens when the host boots. */
    if (policy->name == RESTART_NO || stopped_by_user)
        return false;
    if (policy->name == RESTART_ON_FAILURE &&
        (exit_code == 0 || (policy->maximum_retry > 0 && state->count >= policy->maximum_retry)))
        return false;
    if (ran_ns >= RAN_WELL_NS || state->delay_ms == 0)
        state->delay_ms = DELAY_FIRST_MS;
    else
        state->delay_ms = MIN(state->delay_ms * 2, DELAY_MAX_MS);
    state->count++;
    *ret_delay_ms = state->delay_ms;
    return true;
}
