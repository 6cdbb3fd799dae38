/* POST /containers/create's body in canonical form: every field that inspect shows is there, in Docker's order and with Go's zero
 * values; types are checked. Pure. */
#include "container/container-internal.h"

#include <string.h>

enum field_kind {
    FIELD_STRING,
    FIELD_BOOL,
    FIELD_INT,
    FIELD_INT_OR_NULL,
    FIELD_BOOL_OR_NULL,
    FIELD_STRINGS,         /* null where absent */
    FIELD_STRINGS_OR_TEXT, /* the same; a single string is a list of one (Cmd, Entrypoint) */
    FIELD_LIST,            /* [] where absent */
    FIELD_LIST_OR_NULL,
    FIELD_OBJECT, /* {} where absent */
    FIELD_OBJECT_OR_NULL,
};

struct field {
    const char *name;
    enum field_kind kind;
    bool omit_empty; /* Go's omitempty */
};

static const struct field config_fields[] = {
    { "Hostname", FIELD_STRING },
    { "Domainname", FIELD_STRING },
    { "User", FIELD_STRING },
    { "AttachStdin", FIELD_BOOL },
    { "AttachStdout", FIELD_BOOL },
    { "AttachStderr", FIELD_BOOL },
    { "ExposedPorts", FIELD_OBJECT_OR_NULL, true },
    { "Tty", FIELD_BOOL },
    { "OpenStdin", FIELD_BOOL },
    { "StdinOnce", FIELD_BOOL },
    { "Env", FIELD_STRINGS },
    { "Cmd", FIELD_STRINGS_OR_TEXT },
    { "Healthcheck", FIELD_OBJECT_OR_NULL, true },
    { "ArgsEscaped", FIELD_BOOL, true },
    { "Image", FIELD_STRING },
    { "Volumes", FIELD_OBJECT_OR_NULL },
    { "WorkingDir", FIELD_STRING },
    { "Entrypoint", FIELD_STRINGS_OR_TEXT },
    { "NetworkDisabled", FIELD_BOOL, true },
    { "MacAddress", FIELD_STRING, true },
    { "OnBuild", FIELD_STRINGS },
    { "Labels", FIELD_OBJECT },
    { "StopSignal", FIELD_STRING, true },
    { "StopTimeout", FIELD_INT_OR_NULL, true },
    { "Shell", FIELD_STRINGS_OR_TEXT, true },
};

static const struct field host_config_fields[] = {
    { "Binds", FIELD_STRINGS },
    { "ContainerIDFile", FIELD_STRING },
    { "LogConfig", FIELD_OBJECT_OR_NULL },
    { "NetworkMode", FIELD_STRING },
    { "PortBindings", FIELD_OBJECT },
    { "RestartPolicy", FIELD_OBJECT_OR_NULL },
    { "AutoRemove", FIELD_BOOL },
    { "VolumeDriver", FIELD_STRING },
    { "VolumesFrom", FIELD_STRINGS },
    { "ConsoleSize", FIELD_LIST },
    { "Annotations", FIELD_OBJECT_OR_NULL, true },
    { "CapAdd", FIELD_STRINGS },
    { "CapDrop", FIELD_STRINGS },
    { "CgroupnsMode", FIELD_STRING },
    { "Dns", FIELD_LIST },
    { "DnsOptions", FIELD_LIST },
    { "DnsSearch", FIELD_LIST },
    { "ExtraHosts", FIELD_STRINGS },
    { "GroupAdd", FIELD_STRINGS },
    { "IpcMode", FIELD_STRING },
    { "Cgroup", FIELD_STRING },
    { "Links", FIELD_STRINGS },
    { "OomScoreAdj", FIELD_INT },
    { "PidMode", FIELD_STRING },
    { "Privileged", FIELD_BOOL },
    { "PublishAllPorts", FIELD_BOOL },
    { "ReadonlyRootfs", FIELD_BOOL },
    { "SecurityOpt", FIELD_STRINGS },
    { "StorageOpt", FIELD_OBJECT_OR_NULL, true },
    { "Tmpfs", FIELD_OBJECT_OR_NULL, true },
    { "UTSMode", FIELD_STRING },
    { "UsernsMode", FIELD_STRING },
    { "ShmSize", FIELD_INT },
    { "Sysctls", FIELD_OBJECT_OR_NULL, true },
    { "Runtime", FIELD_STRING },
    { "Isolation", FIELD_STRING },
    { "CpuShares", FIELD_INT },
    { "Memory", FIELD_INT },
    { "NanoCpus", FIELD_INT },
    { "CgroupParent", FIELD_STRING },
    { "BlkioWeight", FIELD_INT },
    { "BlkioWeightDevice", FIELD_LIST },
    { "BlkioDeviceReadBps", FIELD_LIST },
    { "BlkioDeviceWriteBps", FIELD_LIST },
    { "BlkioDeviceReadIOps", FIELD_LIST },
    { "BlkioDeviceWriteIOps", FIELD_LIST },
    { "CpuPeriod", FIELD_INT },
    { "CpuQuota", FIELD_INT },
    { "CpuRealtimePeriod", FIELD_INT },
    { "CpuRealtimeRuntime", FIELD_INT },
    { "CpusetCpus", FIELD_STRING },
    { "CpusetMems", FIELD_STRING },
    { "Devices", FIELD_LIST },
    { "DeviceCgroupRules", FIELD_STRINGS },
    { "DeviceRequests", FIELD_LIST_OR_NULL },
    { "KernelMemory", FIELD_INT },
    { "KernelMemoryTCP", FIELD_INT },
    { "MemoryReservation", FIELD_INT },
    { "MemorySwap", FIELD_INT },
    { "MemorySwappiness", FIELD_INT_OR_NULL },
    { "OomKillDisable", FIELD_BOOL_OR_NULL },
    { "PidsLimit", FIELD_INT_OR_NULL },
    { "Ulimits", FIELD_LIST },
    { "CpuCount", FIELD_INT },
    { "CpuPercent", FIELD_INT },
    { "IOMaximumIOps", FIELD_INT },
    { "IOMaximumBandwidth", FIELD_INT },
    { "Mounts", FIELD_LIST_OR_NULL, true },
    { "MaskedPaths", FIELD_LIST_OR_NULL },
    { "ReadonlyPaths", FIELD_LIST_OR_NULL },
    { "Init", FIELD_BOOL_OR_NULL, true },
};

static const char *json_type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "number";
    default:
        return "bool";
    }
}

static bool wrong_type(const json_t *value, const char *where, const char *name, const char *go_type, GError **error)
{
    return error_set(error, TARE_ERROR_INVALID, "json: cannot unmarshal %s into Go struct field %s.%s of type %s",
                     json_type_name(value), where, name, go_type);
}

static bool all_strings(const json_t *array)
{
    size_t i;
    json_t *value;
    if (json_array_size(array) > CONTAINER_BODY_STRINGS_MAX)
        return false;
    json_array_foreach((json_t *)array, i, value) if (!json_is_string(value)) return false;
    return true;
}

static json_t *empty_of(enum field_kind kind)
{
    switch (kind) {
    case FIELD_STRING:
        return json_string("");
    case FIELD_BOOL:
        return json_false();
    case FIELD_INT:
        return json_integer(0);
    case FIELD_LIST:
        return json_array();
    case FIELD_OBJECT:
        return json_object();
    default:
        return json_null();
    }
}

/* The value in canonical form (a new reference), or NULL and an error. */
static json_t *canonical(const struct field *field, const json_t *value, const char *where, GError **error)
{
    const char *wanted = NULL;
    if (!value || json_is_null(value))
        return empty_of(field->kind);
    switch (field->kind) {
    case FIELD_STRING:
        wanted = json_is_string(value) ? NULL : "string";
        break;
    case FIELD_BOOL:
    case FIELD_BOOL_OR_NULL:
        wanted = json_is_boolean(value) ? NULL : "bool";
        break;
    case FIELD_INT:
    case FIELD_INT_OR_NULL:
        wanted = json_is_integer(value) ? NULL : "int64";
        break;
    case FIELD_STRINGS_OR_TEXT:
        if (json_is_string(value))
            return json_pack("[O]", value);
        G_GNUC_FALLTHROUGH;
    case FIELD_STRINGS:
        wanted = json_is_array(value) && all_strings(value) ? NULL : "[]string";
        break;
    case FIELD_LIST:
    case FIELD_LIST_OR_NULL:
        wanted = json_is_array(value) && json_array_size(value) <= CONTAINER_BODY_STRINGS_MAX ? NULL : "[]interface";
        break;
    case FIELD_OBJECT:
    case FIELD_OBJECT_OR_NULL:
        wanted = json_is_object(value) ? NULL : "map[string]interface";
        break;
    }
    if (wanted) {
        wrong_type(value, where, field->name, wanted, error);
        return NULL;
    }
    return json_incref((json_t *)value);
}

static bool is_empty(const json_t *value)
{
    return !value || json_is_null(value) || json_is_false(value) || (json_is_string(value) && !*json_string_value(value)) ||
           (json_is_integer(value) && !json_integer_value(value)) || (json_is_array(value) && !json_array_size(value)) ||
           (json_is_object(value) && !json_object_size(value));
}

static bool parse_fields(const json_t *body, const struct field *fields, size_t n_fields, const char *where, json_t **ret,
                         GError **error)
{
    g_autoptr(json_t) object = json_object();
    for (size_t i = 0; i < n_fields; i++) {
        json_t *value = canonical(&fields[i], json_get_folded(body, fields[i].name), where, error);
        if (!value)
            return false;
        if (fields[i].omit_empty && is_empty(value) && fields[i].kind != FIELD_BOOL_OR_NULL &&
            fields[i].kind != FIELD_INT_OR_NULL)
            json_decref(value);
        else if (fields[i].omit_empty && json_is_null(value))
            json_decref(value);
        else
            json_object_set_new(object, fields[i].name, value);
    }
    *ret = g_steal_pointer(&object);
    return true;
}

static void default_member(json_t *object, const char *key, json_t *value)
{
    if (is_empty(json_object_get(object, key)))
        json_object_set(object, key, value);
    json_decref(value);
}

/* What dockerd fills in where the client left a blank. */
static void complete_host_config(json_t *host_config)
{
    json_t *restart = json_get_object(host_config, "RestartPolicy");
    const char *name = json_get_string(restart, "Name", "");
    json_object_set_new(host_config, "RestartPolicy",
                        json_pack("{s:s, s:I}", "Name", *name ? name : "no", "MaximumRetryCount",
                                  (json_int_t)json_get_int(restart, "MaximumRetryCount", 0)));
    default_member(host_config, "NetworkMode", json_string("default"));
    default_member(host_config, "IpcMode", json_string("private"));
    if (json_array_size(json_object_get(host_config, "ConsoleSize")) != 2)
        json_object_set_new(host_config, "ConsoleSize", json_pack("[i, i]", 0, 0));
    /* Clients write "not set" as a number. */
    if (json_get_int(host_config, "MemorySwappiness", -1) == -1)
        json_object_set_new(host_config, "MemorySwappiness", json_null());
    if (json_get_int(host_config, "PidsLimit", 0) == 0)
        json_object_set_new(host_config, "PidsLimit", json_null());
    gint64 memory = json_get_int(host_config, "Memory", 0);
    if (memory > 0 && json_get_int(host_config, "MemorySwap", 0) == 0 && memory <= G_MAXINT64 / 2)
        json_object_set_new(host_config, "MemorySwap", json_integer(memory * 2));
}

/* Masked and read-only paths are part of the record, as in Docker: null where the container is privileged or
 * systempaths=unconfined. */
static void complete_paths(json_t *host_config)
{
    static const char *const masked[] = { "/proc/asound",
                                          "/proc/acpi",
                                          "/proc/interrupts",
                                          "/proc/kcore",
                                          "/proc/keys",
                                          "/proc/latency_stats",
                                          "/proc/timer_list",
                                          "/proc/timer_stats",
                                          "/proc/sched_debug",
                                          "/proc/scsi",
                                          "/sys/firmware",
                                          "/sys/devices/virtual/powercap",
                                          NULL };
    static const char *const read_only[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL };
    if (json_get_bool(host_config, "Privileged", false)) {
        json_object_set_new(host_config, "MaskedPaths", json_null());
        json_object_set_new(host_config, "ReadonlyPaths", json_null());
        return;
    }
    if (json_is_null(json_object_get(host_config, "MaskedPaths")))
        json_object_set_new(host_config, "MaskedPaths", json_from_strv(masked));
    if (json_is_null(json_object_get(host_config, "ReadonlyPaths")))
        json_object_set_new(host_config, "ReadonlyPaths", json_from_strv(read_only));
}

bool request_parse(const json_t *body, json_t **ret_config, json_t **ret_host_config, json_t **ret_networking, GError **error)
{
    g_autoptr(json_t) config = NULL;
    g_autoptr(json_t) host_config = NULL;
    if (!json_is_object(body) || !json_object_size(body))
        return error_set(error, TARE_ERROR_INVALID, "Config cannot be empty in order to create a container");
    const json_t *host_body = json_get_folded(body, "HostConfig"), *networking = json_get_folded(body, "NetworkingConfig");
    if (host_body && !json_is_null(host_body) && !json_is_object(host_body))
        return wrong_type(host_body, "ContainerConfigWrapper", "HostConfig", "container.HostConfig", error);
    if (!parse_fields(body, config_fields, G_N_ELEMENTS(config_fields), "ContainerConfigWrapper", &config, error) ||
        !parse_fields(json_is_object(host_body) ? host_body : NULL, host_config_fields, G_N_ELEMENTS(host_config_fields),
                      "HostConfig", &host_config, error))
        return false;
    if (!json_object_size(json_get_object(config, "Volumes")))
        json_object_set_new(config, "Volumes", json_null());
    complete_host_config(host_config);
    complete_paths(host_config);
    const json_t *endpoints = json_is_object(networking) ? json_get_folded(networking, "EndpointsConfig") : NULL;
    *ret_networking = json_is_object(endpoints) ? json_deep_copy(endpoints) : json_object();
    *ret_config = g_steal_pointer(&config);
    *ret_host_config = g_steal_pointer(&host_config);
    return true;
}

/* ---- the image's share ---- */

static void merge_env(json_t *config, const json_t *image_config)
{
    json_t *from_image = json_get_array(image_config, "Env"), *own = json_get_array(config, "Env");
    if (!from_image || !json_array_size(from_image))
        return;
    json_t *merged = json_array();
    size_t i;
    json_t *value;
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (own)
        json_array_foreach(own, i, value)
        {
            const char *text = json_string_value(value);
            json_array_append(merged, value);
            g_hash_table_add(names, g_strndup(text, strcspn(text, "=")));
        }
    json_array_foreach(from_image, i, value)
    {
        const char *text = json_string_value(value);
        g_autofree char *name = text ? g_strndup(text, strcspn(text, "=")) : NULL;
        if (name && !g_hash_table_contains(names, name))
            json_array_append(merged, value);
    }
    json_object_set_new(config, "Env", merged);
}

static void merge_map(json_t *config, const json_t *image_config, const char *key)
{
    json_t *from_image = json_get_object(image_config, key), *own = json_get_object(config, key);
    if (!json_object_size(from_image) && json_object_size(own) < 2)
        return;
    g_autoptr(json_t) merged = own ? json_copy(own) : json_object();
    if (from_image)
        json_object_update_missing(merged, from_image);
    json_object_set_new(config, key, json_sorted(merged));
}

static void merge_absent(json_t *config, const json_t *image_config, const char *key)
{
    json_t *value = json_object_get(image_config, key);
    if (!is_empty(value) && is_empty(json_object_get(config, key)))
        json_object_set_new(config, key, json_deep_copy(value));
}

/* An entry point given by the client makes the image's Cmd meaningless; [""] resets the image's entry point. */
static void merge_command(json_t *config, const json_t *image_config)
{
    json_t *entrypoint = json_get_array(config, "Entrypoint");
    if (!entrypoint || !json_array_size(entrypoint)) {
        if (is_empty(json_object_get(config, "Cmd")))
            merge_absent(config, image_config, "Cmd");
        if (!entrypoint)
            merge_absent(config, image_config, "Entrypoint");
    } else if (json_array_size(entrypoint) == 1 && !*json_string_value(json_array_get(entrypoint, 0))) {
        json_object_set_new(config, "Entrypoint", json_null());
    }
}

/* In Go's order of its members. */
static void merge_healthcheck(json_t *config, const json_t *image_config)
{
    static const char *const members[] = { "Test", "Interval", "Timeout", "StartPeriod", "StartInterval", "Retries" };
    json_t *own = json_get_object(config, "Healthcheck"), *from_image = json_get_object(image_config, "Healthcheck");
    if (!own && !from_image)
        return;
    json_t *merged = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(members); i++) {
        json_t *value = json_get_folded(own, members[i]);
        if (is_empty(value))
            value = json_object_get(from_image, members[i]);
        if (!is_empty(value))
            json_object_set(merged, members[i], value);
    }
    json_object_set_new(config, "Healthcheck", merged);
}

void request_merge_image(json_t *config, const json_t *image_config)
{
    static const char *const absent[] = { "User", "WorkingDir", "StopSignal", "StopTimeout" };
    for (size_t i = 0; i < G_N_ELEMENTS(absent); i++)
        merge_absent(config, image_config, absent[i]);
    merge_env(config, image_config);
    merge_command(config, image_config);
    merge_map(config, image_config, "ExposedPorts");
    merge_map(config, image_config, "Volumes");
    merge_map(config, image_config, "Labels");
    merge_healthcheck(config, image_config);
    json_object_set_new(config, "OnBuild", json_null());
}
