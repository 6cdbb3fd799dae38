/* What an engine has for its registries: settings, records, and the transfers under way. */
#include "registry/registry-internal.h"

#include <string.h>

enum { MAX_DOWNLOADS = 3, MAX_UPLOADS = 5, MAX_ATTEMPTS = 5, STALL_TIMEOUT_S = 30 };

static const char *const usual_paths[] = { "/etc/tare/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d",
                                           "/etc/containerd/certs.d", NULL };

static char **copy_list(const char *const *list)
{
    return list ? g_strdupv((char **)list) : g_new0(char *, 1);
}

static bool check_options(const struct registry_options *options, GError **error)
{
    for (const char *const *mirror = options->mirrors; mirror && *mirror; mirror++)
        if (!registry_check_mirror(*mirror, error))
            return false;
    for (const char *const *text = options->insecure; text && *text; text++)
        if (!registry_check_insecure(*text, error))
            return false;
    return true;
}

bool registry_open(const struct registry_options *options, struct registry **ret, GError **error)
{
    if (!check_options(options, error))
        return false;
    struct registry *registry = g_new0(struct registry, 1);
    registry->database = options->database;
    registry->layers = options->layers;
    registry->images = options->images;
    registry->events = options->events;
    registry->data_root = g_strdup(options->data_root);
    registry->mirrors = copy_list(options->mirrors);
    registry->insecure = copy_list(options->insecure);
    registry->config_paths = copy_list(options->config_paths ? options->config_paths : usual_paths);
    registry->max_downloads = options->max_downloads ? options->max_downloads : MAX_DOWNLOADS;
    registry->max_uploads = options->max_uploads ? options->max_uploads : MAX_UPLOADS;
    registry->max_attempts = options->max_attempts ? options->max_attempts : MAX_ATTEMPTS;
    registry->stall_timeout_s = options->stall_timeout_s ? options->stall_timeout_s : STALL_TIMEOUT_S;
    registry->known_hosts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_mutex_init(&registry->lock);
    registry->downloads = -1;
    if (!records_open(registry, error) || !transfers_open(registry, error)) {
        registry_close(registry);
        return false;
    }
    *ret = registry;
    return true;
}

void registry_close(struct registry *registry)
{
    if (!registry)
        return;
    transfers_close(registry);
    g_strfreev(registry->mirrors);
    g_strfreev(registry->insecure);
    g_strfreev(registry->config_paths);
    g_hash_table_unref(registry->known_hosts);
    g_mutex_clear(&registry->lock);
    g_free(registry->data_root);
    g_free(registry);
}

json_t *registry_service_config(const struct registry *registry)
{
    json_t *mirrors = json_from_strv((const char *const *)registry->mirrors), *cidrs = json_array(), *hosts = json_object();
    for (char **text = registry->insecure; *text; text++)
        if (strchr(*text, '/'))
            json_array_append_new(cidrs, json_string_lossy(*text));
        else
            json_object_set_new(hosts, *text,
                                json_pack("{s:s, s:[], s:b, s:b}", "Name", *text, "Mirrors", "Secure", 0, "Official", 0));
    json_array_append_new(cidrs, json_string("::1/128"));
    json_array_append_new(cidrs, json_string("127.0.0.0/8"));
    json_object_set_new(hosts, "docker.io",
                        json_pack("{s:s, s:O, s:b, s:b}", "Name", "docker.io", "Mirrors", mirrors, "Secure", 1, "Official", 1));
    return json_pack("{s:[], s:[], s:o, s:o, s:o}", "AllowNondistributableArtifactsCIDRs",
                     "AllowNondistributableArtifactsHostnames", "InsecureRegistryCIDRs", cidrs, "IndexConfigs", hosts, "Mirrors",
                     mirrors);
}
