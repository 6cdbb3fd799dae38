/* docker create: a request and an image become one record. Nothing is mounted and no process started. */
#include "container/container-internal.h"

#include "base/parse.h"
#include "image/reference.h"

#include <string.h>

#define INVALID(...) error_set(error, TARE_ERROR_INVALID, __VA_ARGS__)

static bool non_empty(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return (json_is_array(value) && json_array_size(value)) || (json_is_object(value) && json_object_size(value)) ||
           (json_is_string(value) && *json_string_value(value));
}

/* What cannot go with the network of another container. */
static bool check_shared_network(const json_t *config, const json_t *host_config, GError **error)
{
    static const struct {
        bool in_host_config;
        const char *key, *text;
    } conflicts[] = {
        { false, "Hostname", "conflicting options: hostname and the network mode" },
        { true, "Links",
          "conflicting options: container type network can't be used with links. This would result in undefined behavior" },
        { true, "Dns", "conflicting options: dns and the network mode" },
        { true, "ExtraHosts", "conflicting options: custom host-to-IP mapping and the network mode" },
        { false, "MacAddress", "conflicting options: mac-address and the network mode" },
        { true, "PortBindings", "conflicting options: port publishing and the container type network mode" },
        { false, "ExposedPorts", "conflicting options: port exposing and the container type network mode" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(conflicts); i++)
        if (non_empty(conflicts[i].in_host_config ? host_config : config, conflicts[i].key))
            return INVALID("%s", conflicts[i].text);
    return true;
}

/* "container:NAME" becomes "container:ID", so that a rename of the other does not break this one. */
static bool pin_container(struct container_manager *manager, json_t *host_config, const char *key, GError **error)
{
    const char *mode = json_get_string(host_config, key, "");
    if (!g_str_has_prefix(mode, "container:"))
        return true;
    autocontainer other = container_find(manager, mode + strlen("container:"), NULL);
    if (!other) /* not 404: that is for an image, which the client then pulls */
        return INVALID("No such container: %s", mode + strlen("container:"));
    g_autofree char *pinned = g_strconcat("container:", other->id, NULL);
    json_object_set_new(host_config, key, json_string(pinned));
    return true;
}

/* The engine's own driver where none is named; its options belong to it, whoever named it, and those of the request come first.
 */
static void complete_log(struct container_manager *manager, json_t *host_config)
{
    const json_t *mine = manager->log_config;
    const char *default_type = json_get_string(mine, "Type", "json-file");
    const json_t *given = json_get_object(host_config, "LogConfig");
    const char *type = json_get_string(given, "Type", "");
    if (!*type)
        type = default_type;
    json_t *options = json_object();
    if (!strcmp(type, default_type) && json_get_object(mine, "Config"))
        json_object_update(options, json_get_object(mine, "Config"));
    if (json_get_object(given, "Config"))
        json_object_update(options, json_get_object(given, "Config"));
    json_object_set_new(host_config, "LogConfig", json_pack("{s:s, s:o}", "Type", type, "Config", options));
}

static bool complete(struct container_manager *manager, const char *id, json_t *config, json_t *host_config, GError **error)
{
    const char *network = json_get_string(host_config, "NetworkMode", "");
    bool shared = g_str_has_prefix(network, "container:");
    if (shared && !check_shared_network(config, host_config, error))
        return false;
    if (!pin_container(manager, host_config, "NetworkMode", error) || !pin_container(manager, host_config, "PidMode", error) ||
        !pin_container(manager, host_config, "IpcMode", error))
        return false;
    if (!strcmp(json_get_string(host_config, "UTSMode", ""), "host") && non_empty(config, "Hostname"))
        return INVALID("conflicting options: hostname and the UTS mode");
    if (!non_empty(config, "Hostname")) {
        g_autofree char *name = !strcmp(network, "host") ? g_strdup(g_get_host_name()) : g_strndup(id, IDENTIFIER_SHORT);
        if (!shared)
            json_object_set_new(config, "Hostname", json_string(name));
    }
    if (!json_get_int(host_config, "ShmSize", 0)) {
        gint64 size = 64 << 20;
        if (manager->default_shm_size && !parse_ram_bytes(manager->default_shm_size, &size))
            return INVALID("invalid default shm size: %s", manager->default_shm_size);
        json_object_set_new(host_config, "ShmSize", json_integer(size));
    }
    complete_log(manager, host_config);
    if (!*json_get_string(host_config, "CgroupnsMode", ""))
        json_object_set_new(host_config, "CgroupnsMode", json_string(manager->cgroup_v2 ? "private" : "host"));
    return runtime_check(manager, host_config, error);
}

/* The image's layers, configuration and id; a request without an image (a build from scratch) has none. */
static bool take_image(struct container_manager *manager, struct container *container, const char *platform, json_t *config,
                       GError **error)
{
    const char *name = json_get_string(config, "Image", "");
    if (!*name) {
        container->image_id = g_strdup("");
        container->diff_ids = g_new0(char *, 1);
        return true;
    }
    struct image *image;
    if (!image_store_get(manager->images, name, &image, error))
        return false;
    if (!container_check_platform(platform, name, image->config, error)) {
        image_unref(image);
        return false;
    }
    container->image_id = g_strdup(image->id);
    container->diff_ids = g_strdupv(image->diff_ids);
    request_merge_image(config, image_run_config(image));
    image_unref(image);
    return true;
}

static bool take_name(struct container *container, const char *name, GError **error)
{
    struct container_manager *manager = container->manager;
    if (name && *name) {
        if (!container_check_name(name, error) ||
            !table_reserve_name(manager, *name == '/' ? name + 1 : name, container->id, error))
            return false;
        container->name = g_strdup(*name == '/' ? name + 1 : name);
        return true;
    }
    for (int attempt = 0; attempt < 64; attempt++) {
        g_autofree char *random = identifier_new_name(attempt);
        if (table_reserve_name(manager, random, container->id, NULL)) {
            container->name = g_steal_pointer(&random);
            return true;
        }
    }
    container->name = g_strndup(container->id, IDENTIFIER_SHORT);
    return table_reserve_name(manager, container->name, container->id, error);
}

/* The rest, once the name is held; the caller gives it back on failure. */
static bool create_named(struct container *container, json_t *config, json_t *host_config, GError **error)
{
    struct container_manager *manager = container->manager;
    if (!mounts_resolve(container, config, host_config, error))
        return false;
    container->config = json_incref(config);
    container->host_config = json_incref(host_config);
    if (!container_hold_layers(container, error) || !record_insert(container, error)) {
        container_release_layers(container);
        volume_release(manager->volumes, container->id, true, NULL);
        return false;
    }
    table_add(manager, container);
    container_emit(container, "create", NULL);
    return true;
}

struct create_call {
    const char *name, *platform;
    const json_t *body;
    unsigned api_version; /* the minor one */
    bool step;            /* of a build */
};

/* A step's own mounts (caches, secrets, other stages) have other labels than its container, and others use them too: as in
 * BuildKit, SELinux does not confine it. */
static bool complete_labels(struct container_manager *manager, const struct create_call *call, json_t *host_config,
                            GError **error)
{
    return selinux_complete_options(manager, host_config, call->step && non_empty(host_config, "Mounts"), error);
}

static bool create(struct container_manager *manager, const struct create_call *call, json_t **ret, GError **error)
{
    const char *name = call->name;
    g_autoptr(json_t) config = NULL;
    g_autoptr(json_t) host_config = NULL;
    g_autoptr(json_t) warnings = json_array();
    autocontainer container = container_new(manager);
    identifier_new(container->id);
    container->created_ns = timestamp_now();
    if (name && *name && !container_check_name(name, error))
        return false;
    if (!request_parse(call->body, &config, &host_config, &container->networking, error) ||
        !request_validate(config, host_config, false, warnings, error) ||
        !take_image(manager, container, call->platform, config, error) ||
        !complete(manager, container->id, config, host_config, error) || !complete_labels(manager, call, host_config, error) ||
        !refuse_log_options(json_get_object(host_config, "LogConfig"), warnings, error) ||
        !request_refuse(manager, config, host_config, container->networking, call->api_version, warnings, error) ||
        !selinux_take_labels(container, host_config, error))
        return false;
    if (!non_empty(config, "Entrypoint") && !non_empty(config, "Cmd"))
        return INVALID("No command specified");
    container->is_volatile = call->step || json_get_bool(host_config, "AutoRemove", false);
    if (!take_name(container, name, error))
        return false;
    if (!create_named(container, config, host_config, error)) {
        table_release_name(manager, container->name, container->id);
        return false;
    }
    *ret = json_pack("{s:s, s:O}", "Id", container->id, "Warnings", warnings);
    return true;
}

bool container_create(struct container_manager *manager, const char *name, const char *platform, const json_t *body,
                      unsigned api_version, json_t **ret, GError **error)
{
    const struct create_call call = { .name = name, .platform = platform, .body = body, .api_version = api_version % 100 };
    return create(manager, &call, ret, error);
}

bool container_create_step(struct container_manager *manager, const json_t *body, json_t **ret, GError **error)
{
    const struct create_call call = { .body = body, .api_version = 51, .step = true };
    return create(manager, &call, ret, error);
}

bool container_set_secret_environment(struct container_manager *manager, const char *name, const char *const *env, GError **error)
{
    autocontainer container = container_find(manager, name, error);
    if (!container)
        return false;
    g_mutex_lock(&container->lock);
    g_strfreev(container->secret_env);
    container->secret_env = g_strdupv((char **)env);
    g_mutex_unlock(&container->lock);
    return true;
}
