/* GET /events. */
#include "api/api-internal.h"

#include <string.h>

static bool stream_events(struct api_request *request, GError **error)
{
    gint64 since_ns = 0, until_ns = 0;
    g_autoptr(json_t) filters = NULL;
    if (!api_query_time(request, "since", &since_ns, error) || !api_query_time(request, "until", &until_ns, error) ||
        !api_query_filters(request, &filters, error))
        return false;
    if (until_ns && since_ns > until_ns)
        return error_set(error, TARE_ERROR_INVALID, "`since` time (%s) cannot be after `until` time (%s)",
                         api_query(request, "since"), api_query(request, "until"));
    struct event_subscription *subscription = event_bus_subscribe(request->engine->events, filters, since_ns, until_ns);
    bool ok = http_exchange_begin(request->http, 200, "application/json", false, error);
    int more = 1;
    while (ok && more > 0) {
        json_t *event = NULL;
        more = event_subscription_next(subscription, http_exchange_cancel(request->http), &event, error);
        ok = more > 0 ? api_send_line(request, event, error) : more == 0;
    }
    event_subscription_free(subscription);
    return ok;
}

const struct api_route event_routes[] = {
    { "GET", "/events", 0, 0, stream_events },
    { NULL },
};
