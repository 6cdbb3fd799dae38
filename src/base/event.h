/* Where parts report what happened (`docker events`): the engine listens, others only emit. Thread-safe; the callee copies what
 * it keeps. */
#pragma once

#include "base/json.h"

struct event_sink {
    /* type "container", action "start", id of the object, attributes (borrowed, may be NULL): the API's Actor.Attributes. */
    void (*emit)(void *user, const char *type, const char *action, const char *id, const json_t *attributes);
    void *user;
};

static inline void event_emit(const struct event_sink *sink, const char *type, const char *action, const char *id,
                              const json_t *attributes)
{
    if (sink && sink->emit)
        sink->emit(sink->user, type, action, id, attributes);
}
