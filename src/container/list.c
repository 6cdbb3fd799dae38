/* GET /containers/json: filters and summaries. */
#include "container/container-internal.h"

#include "base/filter.h"
#include "base/parse.h"

#include <string.h>

/* What one list request asks for, its values checked once. */
struct list_request {
    struct container_manager *manager;
    const json_t *filters;
    bool all, size, has_task, is_task;
    unsigned minor;
    char **exited;      /* numbers as texts */
    GHashTable *images; /* ids that "ancestor" names, or NULL */
    char *before, *since;
};

static void request_clear(struct list_request *request)
{
    g_strfreev(request->exited);
    g_free(request->before);
    g_free(request->since);
    g_clear_pointer(&request->images, g_hash_table_unref);
}

static bool check_values(const json_t *filters, const char *key, const char *const *known, const char *before, GError **error)
{
    g_auto(GStrv) values = filters_values(filters, key);
    for (char **value = values; *value; value++)
        if (!g_strv_contains(known, *value))
            return error_set(error, TARE_ERROR_INVALID, "%s%s%s", before, *value, strchr(before, '\'') ? "'" : "");
    return true;
}

static bool reference_point(struct list_request *request, const char *key, char **ret, GError **error)
{
    g_auto(GStrv) values = filters_values(request->filters, key);
    for (char **value = values; *value; value++) {
        autocontainer container = container_find(request->manager, *value, NULL);
        if (!container)
            return error_set(error, TARE_ERROR_NOT_FOUND, "no such container %s", *value);
        g_free(*ret);
        *ret = g_strdup(container->id);
    }
    return true;
}

/* Images named by "ancestor", and all that stand on them. */
static bool resolve_ancestors(struct list_request *request, GError **error)
{
    g_auto(GStrv) values = filters_values(request->filters, "ancestor");
    if (!values[0])
        return true;
    request->images = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (char **value = values; *value; value++) {
        struct image *image;
        if (image_store_get(request->manager->images, *value, &image, NULL)) {
            g_hash_table_add(request->images, g_strdup(image->id));
            image_unref(image);
        }
    }
    GPtrArray *all;
    if (!image_store_list(request->manager->images, &all, error))
        return false;
    for (bool grew = true; grew;) {
        grew = false;
        for (guint i = 0; i < all->len; i++) {
            const struct image *image = all->pdata[i];
            if (image->parent && g_hash_table_contains(request->images, image->parent) &&
                !g_hash_table_contains(request->images, image->id))
                grew = g_hash_table_add(request->images, g_strdup(image->id));
        }
    }
    g_ptr_array_unref(all);
    return true;
}

static bool prepare(struct list_request *request, GError **error)
{
    static const char *const accepted[] = { "ancestor", "before", "exited", "id",      "isolation", "label",   "name",   "status",
                                            "health",   "since",  "volume", "network", "is-task",   "publish", "expose", NULL };
    static const char *const statuses[] = { "paused", "restarting", "removing", "running", "dead", "created", "exited", NULL };
    static const char *const healths[] = { "none", "starting", "healthy", "unhealthy", NULL };
    gint64 ignored;
    if (!filters_validate(request->filters, accepted, error) ||
        !check_values(request->filters, "status", statuses, "Invalid filter 'status=", error) ||
        !check_values(request->filters, "health", healths, "Unrecognised filter value for health: ", error))
        return false;
    request->exited = filters_values(request->filters, "exited");
    for (char **value = request->exited; *value; value++)
        if (!parse_int(*value, G_MININT, G_MAXINT, &ignored))
            return error_set(error, TARE_ERROR_INVALID, "strconv.Atoi: parsing \"%s\": invalid syntax", *value);
    if (filters_has(request->filters, "status"))
        request->all = true;
    request->has_task = filters_has(request->filters, "is-task");
    return filters_bool(request->filters, "is-task", false, &request->is_task, error) &&
           reference_point(request, "before", &request->before, error) &&
           reference_point(request, "since", &request->since, error) && resolve_ancestors(request, error);
}

/* ---- matching ---- */

static bool matches_volume(const struct list_request *request, const json_t *mounts)
{
    size_t i;
    json_t *mount;
    if (!filters_has(request->filters, "volume"))
        return true;
    json_array_foreach(
        (json_t *)mounts, i,
        mount) if (filters_matches_exactly(request->filters, "volume", json_get_string(mount, "Destination", "")) ||
                   filters_matches_exactly(request->filters, "volume",
                                           json_get_string(mount, "Name", json_get_string(mount, "Source", "")))) return true;
    return false;
}

static bool matches_network(const struct list_request *request, struct container *container, const json_t *host_config)
{
    if (!filters_has(request->filters, "network"))
        return true;
    g_autoptr(json_t) settings = network_settings(container, host_config, true);
    const char *name;
    json_t *ignored;
    json_object_foreach(json_object_get(settings, "Networks"), name,
                        ignored) if (filters_matches_exactly(request->filters, "network", name)) return true;
    return false;
}

/* "80", "80/tcp", "80-90/udp" against one port. */
static bool port_in(const char *text, unsigned port, const char *protocol)
{
    const char *slash = strchr(text, '/');
    g_autofree char *range = slash ? g_strndup(text, slash - text) : g_strdup(text);
    char *dash = strchr(range, '-');
    guint64 low, high;
    if (strcmp(slash ? slash + 1 : "tcp", protocol))
        return false;
    if (dash)
        *dash++ = '\0';
    return parse_uint(range, 65535, &low) && (!dash ? (high = low, true) : parse_uint(dash, 65535, &high)) && low <= port &&
           port <= high;
}

static bool matches_ports(const struct list_request *request, struct container *container, const json_t *host_config)
{
    g_auto(GStrv) publish = filters_values(request->filters, "publish");
    g_auto(GStrv) expose = filters_values(request->filters, "expose");
    size_t i;
    json_t *port;
    if (!publish[0] && !expose[0])
        return true;
    g_autoptr(json_t) ports = network_ports_summary(container, host_config);
    json_array_foreach(ports, i, port)
    {
        const char *protocol = json_get_string(port, "Type", "");
        for (char **value = publish; *value; value++)
            if (port_in(*value, json_get_int(port, "PublicPort", 0), protocol))
                return true;
        for (char **value = expose; *value; value++)
            if (port_in(*value, json_get_int(port, "PrivatePort", 0), protocol))
                return true;
    }
    return false;
}

static bool matches_exit(const struct list_request *request, const struct container_state *state)
{
    if (!request->exited[0])
        return true;
    g_autofree char *code = g_strdup_printf("%d", state->exit_code);
    return !container_is_running(state) && state->started_at && g_strv_contains((const char *const *)request->exited, code);
}

static const char *health_of(const json_t *health)
{
    return json_get_string(health, "Status", "none");
}

static bool matches(const struct list_request *request, struct container *container, const struct container_state *state,
                    const char *name, const json_t *host_config, const json_t *health)
{
    g_autofree char *slashed = g_strconcat("/", name, NULL);
    const json_t *labels = json_get_object(container->config, "Labels");
    if (!container_is_running(state) && !request->all)
        return false;
    if (!filters_matches(request->filters, "name", slashed) && !filters_matches(request->filters, "name", name))
        return false;
    return filters_matches(request->filters, "id", container->id) && (!request->has_task || !request->is_task) &&
           filters_matches_labels(request->filters, labels) && matches_exit(request, state) &&
           filters_matches_exactly(request->filters, "status", container_status_name(state->status)) &&
           filters_matches_exactly(request->filters, "health", health_of(health)) && matches_volume(request, container->mounts) &&
           (!request->images || g_hash_table_contains(request->images, container->image_id)) &&
           matches_network(request, container, host_config) && matches_ports(request, container, host_config);
}

/* ---- summaries ---- */

static char *container_status_text(const struct container_state *state, const json_t *health)
{
    gint64 now = timestamp_now();
    g_autofree char *since_start = duration_human(now - state->started_at);
    g_autofree char *since_end = duration_human(now - state->finished_at);
    const char *status = health_of(health);
    switch (state->status) {
    case CONTAINER_RUNNING:
        if (strcmp(status, "none"))
            return g_strdup_printf("Up %s (%s%s)", since_start, strcmp(status, "starting") ? "" : "health: ", status);
        return g_strdup_printf("Up %s", since_start);
    case CONTAINER_PAUSED:
        return g_strdup_printf("Up %s (Paused)", since_start);
    case CONTAINER_RESTARTING:
        return g_strdup_printf("Restarting (%d) %s ago", state->exit_code, since_end);
    case CONTAINER_REMOVING:
        return g_strdup("Removal In Progress");
    case CONTAINER_DEAD:
        return g_strdup("Dead");
    default:
        if (!state->started_at)
            return g_strdup("Created");
        return g_strdup_printf("Exited (%d) %s ago", state->exit_code, since_end);
    }
}

/* As Docker: arguments with a blank in them are quoted. */
static char *command_text(const json_t *config)
{
    g_autoptr(GString) text = g_string_new("");
    const char *const keys[] = { "Entrypoint", "Cmd" };
    bool first = true;
    for (size_t k = 0; k < G_N_ELEMENTS(keys); k++) {
        size_t i;
        json_t *value;
        json_array_foreach(json_get_array(config, keys[k]), i, value)
        {
            const char *argument = json_string_value(value);
            if (!first)
                g_string_append_c(text, ' ');
            /* The path itself is never quoted. */
            if (!first && strchr(argument, ' '))
                g_string_append_printf(text, "'%s'", argument);
            else
                g_string_append(text, argument);
            first = false;
        }
    }
    return g_strdup(text->str);
}

/* The name that the container was made with, or the image's id where that name now means another image. */
static char *image_text(struct container_manager *manager, const struct container *container)
{
    const char *name = json_get_string(container->config, "Image", "");
    struct image *image;
    if (!*name || g_str_has_prefix(name, "sha256:"))
        return g_strdup(name);
    if (!image_store_get(manager->images, name, &image, NULL))
        return g_strdup(container->image_id);
    bool same = !strcmp(image->id, container->image_id);
    image_unref(image);
    return g_strdup(same ? name : container->image_id);
}

static json_t *summary(const struct list_request *request, struct container *container, const struct container_state *state,
                       const char *name, const json_t *host_config, const json_t *health)
{
    g_autofree char *slashed = g_strconcat("/", name, NULL);
    g_autofree char *command = command_text(container->config);
    g_autofree char *image = image_text(request->manager, container);
    g_autofree char *status = container_status_text(state, health);
    json_t *labels = json_get_object(container->config, "Labels");
    json_t *object =
        json_pack("{s:s, s:[s], s:s, s:s, s:o, s:I, s:o}", "Id", container->id, "Names", slashed, "Image", image, "ImageID",
                  container->image_id, "Command", json_string_lossy(command), "Created",
                  (json_int_t)(container->created_ns / 1000000000), "Ports", network_ports_summary(container, host_config));
    if (request->size) {
        guint64 rw, root;
        container_sizes(container, &rw, &root);
        if (rw)
            json_object_set_new(object, "SizeRw", json_integer((json_int_t)rw));
        json_object_set_new(object, "SizeRootFs", json_integer((json_int_t)root));
    }
    json_object_set_new(object, "Labels", labels ? json_incref(labels) : json_object());
    json_object_set_new(object, "State", json_string(container_status_name(state->status)));
    json_object_set_new(object, "Status", json_string(status));
    json_object_set_new(object, "HostConfig",
                        json_pack("{s:s}", "NetworkMode", json_get_string(host_config, "NetworkMode", "default")));
    json_object_set_new(object, "NetworkSettings", network_settings(container, host_config, true));
    json_object_set_new(object, "Mounts", mounts_public(container->mounts));
    return object;
}

static bool consider(const struct list_request *request, struct container *container, json_t *list)
{
    g_mutex_lock(&container->lock);
    struct container_state state = container->state;
    g_autofree char *name = g_strdup(container->name);
    g_autoptr(json_t) host_config = json_incref(container->host_config);
    g_autoptr(json_t) health = json_incref(container->health);
    g_mutex_unlock(&container->lock);
    if (!matches(request, container, &state, name, host_config, health))
        return false;
    json_array_append_new(list, summary(request, container, &state, name, host_config, health));
    return true;
}

bool container_list(struct container_manager *manager, bool all, int limit, bool size, const json_t *filters,
                    unsigned api_version, json_t **ret, GError **error)
{
    struct list_request request = {
        .manager = manager, .filters = filters, .all = all || limit > 0, .size = size, .minor = api_version % 100
    };
    if (!prepare(&request, error)) {
        request_clear(&request);
        return false;
    }
    g_autoptr(GPtrArray) containers = table_snapshot(manager);
    json_t *list = json_array();
    bool before_seen = !request.before;
    for (guint i = 0; i < containers->len; i++) {
        struct container *container = containers->pdata[i];
        if (!before_seen) {
            before_seen = !strcmp(container->id, request.before);
            continue;
        }
        if (request.since && !strcmp(container->id, request.since))
            break;
        if (limit > 0 && json_array_size(list) >= (size_t)limit)
            break;
        consider(&request, container, list);
    }
    request_clear(&request);
    *ret = list;
    return true;
}
