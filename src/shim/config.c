#include "shim/shim-internal.h"

#include "base/fd.h"

#include <string.h>

#define PORTS_MAX 4096
#define SIGNAL_MAX 64

static bool bad(GError **error, const char *field, const char *what)
{
    return error_set(error, TARE_ERROR_INVALID, "shim configuration: %s: %s", field, what);
}

static bool take_string(const json_t *object, const char *field, const char *key, bool required, char **ret, GError **error)
{
    const json_t *member = json_object_get(object, key);
    if (!member || json_is_null(member))
        return !required || bad(error, field, "missing");
    if (!json_is_string(member) || strlen(json_string_value(member)) != json_string_length(member))
        return bad(error, field, "a string is expected");
    if (required && json_string_length(member) == 0)
        return bad(error, field, "must not be empty");
    *ret = g_strdup(json_string_value(member));
    return true;
}

static bool take_bool(const json_t *object, const char *field, const char *key, bool *ret, GError **error)
{
    const json_t *member = json_object_get(object, key);
    if (!member || json_is_null(member))
        return true;
    if (!json_is_boolean(member))
        return bad(error, field, "a boolean is expected");
    *ret = json_is_true(member);
    return true;
}

static bool take_int(const json_t *object, const char *field, const char *key, gint64 min, gint64 max, gint64 *ret,
                     GError **error)
{
    const json_t *member = json_object_get(object, key);
    if (!member || json_is_null(member))
        return true;
    if (!json_is_integer(member))
        return bad(error, field, "an integer is expected");
    if (json_integer_value(member) < min || json_integer_value(member) > max)
        return bad(error, field, "out of range");
    *ret = json_integer_value(member);
    return true;
}

static bool take_object(const json_t *object, const char *field, json_t **ret, GError **error)
{
    json_t *member = json_object_get(object, field);
    if (member && !json_is_null(member) && !json_is_object(member))
        return bad(error, field, "an object is expected");
    *ret = json_is_object(member) ? member : NULL;
    return true;
}

static bool take_fd(const json_t *object, const char *field, const char *key, int *ret, GError **error)
{
    gint64 fd = -1;
    if (!take_int(object, field, key, SHIM_FD_FIRST, G_MAXINT16, &fd, error))
        return false;
    *ret = (int)fd;
    return true;
}

static bool take_fd_array(const json_t *object, const char *field, const char *key, size_t max, int **ret, size_t *ret_n,
                          GError **error)
{
    const json_t *array = json_object_get(object, key);
    if (!array || json_is_null(array))
        return true;
    if (!json_is_array(array))
        return bad(error, field, "an array is expected");
    size_t n = json_array_size(array);
    if (n > max)
        return bad(error, field, "too many");
    g_autofree int *fds = g_new(int, n + 1);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(array, i);
        if (!json_is_integer(item) || json_integer_value(item) < SHIM_FD_FIRST || json_integer_value(item) > G_MAXINT16)
            return bad(error, field, "not a file descriptor");
        fds[i] = (int)json_integer_value(item);
    }
    *ret = g_steal_pointer(&fds);
    *ret_n = n;
    return true;
}

static bool parse_overlay(struct shim_config *config, const json_t *root, GError **error)
{
    json_t *overlay = NULL;
    if (!take_object(root, "overlay", &overlay, error))
        return false;
    if (!overlay)
        return true;
    config->has_overlay = true;
    const json_t *paths = json_object_get(overlay, "lower_paths");
    if (paths && !json_is_null(paths) && (!json_is_array(paths) || json_array_size(paths) > SHIM_LOWERS_MAX))
        return bad(error, "overlay.lower_paths", "an array of bounded length is expected");
    config->lower_paths = json_string_array(paths);
    return take_string(overlay, "overlay.upper", "upper", true, &config->upper, error) &&
           take_string(overlay, "overlay.work", "work", true, &config->work, error) &&
           take_string(overlay, "overlay.label", "label", false, &config->label, error) &&
           take_bool(overlay, "overlay.volatile", "volatile", &config->is_volatile, error) &&
           take_bool(overlay, "overlay.no_xino", "no_xino", &config->no_xino, error);
}

static bool parse_fds(struct shim_config *config, const json_t *root, GError **error)
{
    json_t *fds = NULL;
    if (!take_object(root, "fds", &fds, error))
        return false;
    return take_fd_array(fds, "fds.lowers", "lowers", SHIM_LOWERS_MAX, &config->lowers, &config->n_lowers, error) &&
           take_fd_array(fds, "fds.ports", "ports", PORTS_MAX, &config->ports, &config->n_ports, error) &&
           take_fd(fds, "fds.netns", "netns", &config->netns_fd, error) &&
           take_fd(fds, "fds.seccomp", "seccomp", &config->seccomp_fd, error) &&
           take_fd(fds, "fds.log", "log", &config->log_fd, error) &&
           take_fd(fds, "fds.mountns", "mountns", &config->mount_namespace_fd, error);
}

/* {"address", "ports": the container's port of each of fds.ports, 0 where nothing is to be relayed} */
static bool parse_relay(struct shim_config *config, const json_t *root, GError **error)
{
    json_t *relay = NULL;
    if (!take_object(root, "relay", &relay, error))
        return false;
    if (!relay)
        return true;
    const json_t *ports = json_object_get(relay, "ports");
    if (!json_is_array(ports) || json_array_size(ports) != config->n_ports)
        return bad(error, "relay.ports", "as many ports as sockets are expected");
    config->relay_ports = g_new0(guint16, config->n_ports + 1);
    for (size_t i = 0; i < config->n_ports; i++) {
        const json_t *port = json_array_get(ports, i);
        if (!json_is_integer(port) || json_integer_value(port) < 0 || json_integer_value(port) > 65535)
            return bad(error, "relay.ports", "not a port");
        config->relay_ports[i] = (guint16)json_integer_value(port);
    }
    return take_string(relay, "relay.address", "address", true, &config->relay_address, error);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The "attrs" of each entry: sorted by key, as Go writes a map. */
static char *attributes_text(const json_t *labels)
{
    if (!labels || json_object_size(labels) == 0)
        return NULL;
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)labels, key, value) g_ptr_array_add(keys, (char *)key);
    g_ptr_array_sort(keys, compare_keys);
    g_autoptr(json_t) sorted = json_object();
    for (guint i = 0; i < keys->len; i++)
        json_object_set(sorted, keys->pdata[i], json_object_get(labels, keys->pdata[i]));
    return json_text(sorted);
}

static bool parse_log(struct shim_config *config, const json_t *root, GError **error)
{
    json_t *log = NULL, *labels;
    gint64 max_size = 0, max_file = 1;
    g_autofree char *driver = NULL;
    if (!take_object(root, "log", &log, error))
        return false;
    if (!take_string(log, "log.driver", "driver", false, &driver, error))
        return false;
    if (!log || g_strcmp0(driver, "none") == 0)
        return true;
    /* "local" is kept in the same format: what reads it is our own. */
    if (driver && strcmp(driver, "json-file") != 0 && strcmp(driver, "local") != 0)
        return bad(error, "log.driver", "unknown log driver");
    config->log_driver = SHIM_LOG_JSON_FILE;
    if (!take_string(log, "log.path", "path", true, &config->log_path, error) ||
        !take_int(log, "log.max_size", "max_size", 0, G_MAXINT64, &max_size, error) ||
        !take_int(log, "log.max_file", "max_file", 1, 10000, &max_file, error))
        return false;
    labels = json_object_get(log, "labels");
    if (labels && !json_is_null(labels) && !json_is_object(labels))
        return bad(error, "log.labels", "an object is expected");
    config->log_max_size = (guint64)max_size;
    config->log_max_file = (unsigned)max_file;
    config->log_attributes = attributes_text(json_is_object(labels) ? labels : NULL);
    return true;
}

static bool parse_spec(struct shim_config *config, const json_t *root, GError **error)
{
    json_t *spec = NULL, *health = NULL;
    if (!take_object(root, "spec", &spec, error) || !take_object(root, "health", &health, error))
        return false;
    if (!spec)
        return bad(error, "spec", "missing");
    config->spec = json_incref(spec);
    config->health = health ? json_incref(health) : NULL;
    config->terminal = json_get_bool(json_get_object(spec, "process"), "terminal", false);
    return true;
}

static bool parse_all(struct shim_config *config, const json_t *root, GError **error)
{
    gint64 stop_signal = 15;
    g_autofree char *runtime = NULL;
    if (!json_is_object(root))
        return bad(error, "it", "an object is expected");
    if (!take_string(root, "id", "id", true, &config->id, error) ||
        !take_string(root, "name", "name", false, &config->name, error) ||
        !take_string(root, "state_dir", "state_dir", true, &config->state_dir, error) ||
        !take_string(root, "run_dir", "run_dir", true, &config->run_dir, error) ||
        !take_string(root, "init_path", "init_path", false, &config->init_path, error) ||
        !take_string(root, "runtime", "runtime", false, &runtime, error) ||
        !take_bool(root, "open_stdin", "open_stdin", &config->open_stdin, error) ||
        !take_bool(root, "stdin_once", "stdin_once", &config->stdin_once, error) ||
        !take_int(root, "stop_signal", "stop_signal", 1, SIGNAL_MAX, &stop_signal, error))
        return false;
    config->stop_signal = (int)stop_signal;
    if (runtime && *runtime)
        return error_set(error, TARE_ERROR_NOT_IMPLEMENTED,
                         "shim configuration: runtime: executing another OCI runtime is not supported");
    return parse_spec(config, root, error) && parse_overlay(config, root, error) && parse_fds(config, root, error) &&
           parse_relay(config, root, error) && parse_log(config, root, error) &&
           restart_policy_parse(json_object_get(root, "restart"), "shim configuration: restart", &config->restart, error);
}

bool shim_config_parse(const char *text, size_t length, struct shim_config **ret, GError **error)
{
    g_autoptr(json_t) root = json_parse(text, length, SHIM_CONFIG_MAX, "shim configuration", error);
    if (!root)
        return false;
    g_autoptr(shim_config_t) config = g_new0(struct shim_config, 1);
    config->netns_fd = config->seccomp_fd = config->log_fd = config->mount_namespace_fd = -1;
    if (!parse_all(config, root, error))
        return false;
    *ret = g_steal_pointer(&config);
    return true;
}

void shim_config_free(struct shim_config *config)
{
    if (!config)
        return;
    char *strings[] = { config->id,        config->name,           config->state_dir,    config->run_dir,
                        config->init_path, config->upper,          config->work,         config->label,
                        config->log_path,  config->log_attributes, config->relay_address };
    for (size_t i = 0; i < G_N_ELEMENTS(strings); i++)
        g_free(strings[i]);
    g_strfreev(config->lower_paths);
    g_free(config->lowers);
    g_free(config->ports);
    g_free(config->relay_ports);
    json_decref(config->spec);
    json_decref(config->health);
    g_free(config);
}

void shim_config_release_ports(struct shim_config *config)
{
    for (size_t i = 0; i < config->n_ports; i++)
        fd_close(config->ports[i]);
    config->n_ports = 0;
}

size_t shim_config_fds(const struct shim_config *config, int *ret_fds, size_t room)
{
    size_t n = 0;
    const int single[] = { config->netns_fd, config->seccomp_fd, config->log_fd, config->mount_namespace_fd };
    for (size_t i = 0; i < G_N_ELEMENTS(single) && n < room; i++)
        if (single[i] >= 0)
            ret_fds[n++] = single[i];
    for (size_t i = 0; i < config->n_lowers && n < room; i++)
        ret_fds[n++] = config->lowers[i];
    for (size_t i = 0; i < config->n_ports && n < room; i++)
        ret_fds[n++] = config->ports[i];
    return n;
}
