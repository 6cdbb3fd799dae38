/* Events: what happened, told to those who listen. The last 256 are kept for `--since`. Emitting never waits for a reader: one
 * that falls too far behind is cut off. */
#include "engine/engine.h"

#include "base/fd.h"
#include "base/timestamp.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { HISTORY = 256, BACKLOG = 4096 };

struct event {
    gint references;
    gint64 time_ns;
    json_t *object; /* never changed once published */
};

struct event_bus {
    GMutex lock;
    GQueue history;       /* of struct event * */
    GPtrArray *listeners; /* of struct event_subscription * */
    struct event_sink sink;
};

struct event_subscription {
    struct event_bus *bus;
    json_t *filters;
    gint64 until_ns;
    int wake_fd;
    GQueue waiting; /* of struct event *; under the bus's lock, as overrun */
    bool overrun;
};

static void event_unref(gpointer data)
{
    struct event *event = data;
    if (!g_atomic_int_dec_and_test(&event->references))
        return;
    json_decref(event->object);
    g_free(event);
}

static struct event *event_ref(struct event *event)
{
    g_atomic_int_inc(&event->references);
    return event;
}

static json_t *event_object(gint64 now, const char *type, const char *action, const char *id, const json_t *attributes)
{
    json_t *object = json_object(), *actor = json_object();
    const char *from = json_get_string(attributes, "image", NULL);
    bool is_container = strcmp(type, "container") == 0, is_image = strcmp(type, "image") == 0;
    if (is_container || is_image) {
        json_object_set_new(object, "status", json_string(action));
        json_object_set_new(object, "id", json_string_lossy(id));
        if (is_container && from)
            json_object_set_new(object, "from", json_string_lossy(from));
    }
    json_object_set_new(actor, "ID", json_string_lossy(id));
    g_autoptr(json_t) sorted = json_sorted(attributes);
    json_object_set_new(actor, "Attributes", json_deep_copy(sorted));
    json_object_set_new(object, "Type", json_string(type));
    json_object_set_new(object, "Action", json_string_lossy(action));
    json_object_set_new(object, "Actor", actor);
    json_object_set_new(object, "scope", json_string("local"));
    json_object_set_new(object, "time", json_integer(now / 1000000000));
    json_object_set_new(object, "timeNano", json_integer(now));
    return object;
}

/* ---- filters ---- */

typedef bool (*match_func)(const char *wanted, const struct event *event);

static const char *attribute(const struct event *event, const char *name)
{
    return json_get_string(json_get_object(json_get_object(event->object, "Actor"), "Attributes"), name, "");
}

static const char *actor_id(const struct event *event)
{
    return json_get_string(json_get_object(event->object, "Actor"), "ID", "");
}

static bool match_type(const char *wanted, const struct event *event)
{
    return strcmp(json_get_string(event->object, "Type", ""), wanted) == 0;
}

/* "exec_start" finds "exec_start: sh -c …" too. */
static bool match_action(const char *wanted, const struct event *event)
{
    const char *action = json_get_string(event->object, "Action", "");
    size_t length = strlen(wanted);
    return strncmp(action, wanted, length) == 0 && (action[length] == '\0' || action[length] == ':');
}

static bool match_object(const char *type, const char *wanted, const struct event *event)
{
    if (!match_type(type, event))
        return false;
    const char *name = attribute(event, "name"), *id = actor_id(event);
    return strcmp(name, wanted) == 0 || (*wanted && g_str_has_prefix(id, wanted));
}

static bool match_container(const char *wanted, const struct event *event)
{
    return match_object("container", wanted, event);
}

/* An image filter also finds the events of containers made from it, and "debian" finds "debian:12". */
static bool match_image(const char *wanted, const struct event *event)
{
    const char *names[2] = { attribute(event, match_type("image", event) ? "name" : "image"),
                             match_type("image", event) ? actor_id(event) : "" };
    if (!match_type("image", event) && !match_type("container", event))
        return false;
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        const char *colon = strrchr(names[i], ':');
        bool is_tag = colon && !strchr(colon, '/');
        if (strcmp(names[i], wanted) == 0 ||
            (is_tag && strlen(wanted) == (size_t)(colon - names[i]) && g_str_has_prefix(names[i], wanted)))
            return true;
    }
    return false;
}

static bool match_network(const char *wanted, const struct event *event)
{
    return match_object("network", wanted, event);
}

static bool match_volume(const char *wanted, const struct event *event)
{
    return match_object("volume", wanted, event);
}

static bool match_scope(const char *wanted, const struct event *event)
{
    return strcmp(json_get_string(event->object, "scope", ""), wanted) == 0;
}

static bool match_label(const char *wanted, const struct event *event)
{
    const char *equals = strchr(wanted, '=');
    g_autofree char *name = equals ? g_strndup(wanted, (gsize)(equals - wanted)) : g_strdup(wanted);
    const json_t *value = json_object_get(json_get_object(json_get_object(event->object, "Actor"), "Attributes"), name);
    return value && (!equals || g_strcmp0(json_string_value(value), equals + 1) == 0);
}

static bool match_nothing(const char *wanted, const struct event *event)
{
    return false;
}

static const struct filter {
    const char *name;
    match_func match;
    bool all; /* all values must match, not one of them */
} filters[] = {
    { "type", match_type, false },      { "event", match_action, false },    { "container", match_container, false },
    { "image", match_image, false },    { "network", match_network, false }, { "volume", match_volume, false },
    { "scope", match_scope, false },    { "label", match_label, true },      { "plugin", match_nothing, false },
    { "daemon", match_nothing, false }, { "node", match_nothing, false },    { "service", match_nothing, false },
    { "secret", match_nothing, false }, { "config", match_nothing, false },
};

static bool matches_one(const struct filter *filter, const json_t *values, const struct event *event)
{
    bool any = false, all = true;
    const char *key;
    json_t *value;
    size_t i;
    if (json_is_object(values)) {
        json_object_foreach((json_t *)values, key, value)
        {
            bool hit = filter->match(key, event);
            any |= hit;
            all &= hit;
        }
    }
    json_array_foreach(values, i, value)
    {
        bool hit = json_is_string(value) && filter->match(json_string_value(value), event);
        any |= hit;
        all &= hit;
    }
    return filter->all ? all : any;
}

static bool matches(const json_t *wanted, const struct event *event)
{
    for (size_t i = 0; wanted && i < G_N_ELEMENTS(filters); i++) {
        const json_t *values = json_object_get(wanted, filters[i].name);
        if (values && (json_object_size(values) || json_array_size(values)) && !matches_one(&filters[i], values, event))
            return false;
    }
    return true;
}

/* ---- the bus ---- */

static void deliver(struct event_subscription *subscription, struct event *event)
{
    if (subscription->overrun || !matches(subscription->filters, event))
        return;
    if (subscription->until_ns && event->time_ns > subscription->until_ns)
        return;
    if (g_queue_get_length(&subscription->waiting) >= BACKLOG)
        subscription->overrun = true;
    else
        g_queue_push_tail(&subscription->waiting, event_ref(event));
    guint64 one = 1;
    fd_write_full(subscription->wake_fd, &one, sizeof one);
}

static void emit(void *user, const char *type, const char *action, const char *id, const json_t *attributes)
{
    struct event_bus *bus = user;
    struct event *event = g_new0(struct event, 1);
    event->references = 1;
    g_mutex_lock(&bus->lock);
    event->time_ns = timestamp_now(); /* under the lock: times never go backwards in the history */
    event->object = event_object(event->time_ns, type, action, id, attributes);
    for (guint i = 0; i < bus->listeners->len; i++)
        deliver(bus->listeners->pdata[i], event);
    g_queue_push_tail(&bus->history, event);
    if (g_queue_get_length(&bus->history) > HISTORY)
        event_unref(g_queue_pop_head(&bus->history));
    g_mutex_unlock(&bus->lock);
}

struct event_bus *event_bus_new(void)
{
    struct event_bus *bus = g_new0(struct event_bus, 1);
    g_mutex_init(&bus->lock);
    g_queue_init(&bus->history);
    bus->listeners = g_ptr_array_new();
    return bus;
}

void event_bus_free(struct event_bus *bus)
{
    if (!bus)
        return;
    g_queue_clear_full(&bus->history, event_unref);
    g_ptr_array_unref(bus->listeners);
    g_mutex_clear(&bus->lock);
    g_free(bus);
}

struct event_sink event_bus_sink(struct event_bus *bus)
{
    return (struct event_sink){ .emit = emit, .user = bus };
}

gint event_bus_listeners(struct event_bus *bus)
{
    g_mutex_lock(&bus->lock);
    gint n = (gint)bus->listeners->len;
    g_mutex_unlock(&bus->lock);
    return n;
}

struct event_subscription *event_bus_subscribe(struct event_bus *bus, const json_t *wanted, gint64 since_ns, gint64 until_ns)
{
    struct event_subscription *subscription = g_new0(struct event_subscription, 1);
    subscription->bus = bus;
    subscription->filters = wanted ? json_deep_copy(wanted) : NULL;
    subscription->until_ns = until_ns;
    subscription->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_queue_init(&subscription->waiting);
    g_mutex_lock(&bus->lock);
    for (GList *item = bus->history.head; (since_ns || until_ns) && item; item = item->next)
        if (((struct event *)item->data)->time_ns >= since_ns)
            deliver(subscription, item->data);
    g_ptr_array_add(bus->listeners, subscription);
    g_mutex_unlock(&bus->lock);
    return subscription;
}

void event_subscription_free(struct event_subscription *subscription)
{
    if (!subscription)
        return;
    g_mutex_lock(&subscription->bus->lock);
    g_ptr_array_remove(subscription->bus->listeners, subscription);
    g_mutex_unlock(&subscription->bus->lock);
    g_queue_clear_full(&subscription->waiting, event_unref);
    json_decref(subscription->filters);
    fd_close(subscription->wake_fd);
    g_free(subscription);
}

int event_subscription_next(struct event_subscription *subscription, struct cancel *cancel, json_t **ret, GError **error)
{
    for (;;) {
        g_mutex_lock(&subscription->bus->lock);
        struct event *event = g_queue_pop_head(&subscription->waiting);
        bool overrun = subscription->overrun;
        g_mutex_unlock(&subscription->bus->lock);
        if (event) {
            *ret = json_deep_copy(event->object);
            event_unref(event);
            return 1;
        }
        if (overrun) {
            error_set(error, TARE_ERROR_UNAVAILABLE, "the reader of events is too slow");
            return -1;
        }
        int timeout_ms = -1;
        if (subscription->until_ns) {
            gint64 left_ms = (subscription->until_ns - timestamp_now()) / 1000000;
            if (left_ms <= 0)
                return 0;
            timeout_ms = (int)MIN(left_ms + 1, G_MAXINT);
        }
        if (cancel_poll(cancel, subscription->wake_fd, POLLIN, timeout_ms, error) < 0)
            return -1;
        guint64 count;
        (void)!read(subscription->wake_fd, &count, sizeof count);
    }
}
