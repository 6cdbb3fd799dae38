/* Where a registry's name leads to: mirrors, the registry itself, what it is reached by, and the files that say so. */
#include "registry/registry-internal.h"

#include "base/cidr.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HUB "docker.io"
#define HUB_HOST "registry-1.docker.io"
#define FILE_MAX (1u << 20)
#define FILES_MAX 64

enum { LOOKUP_SECONDS = 300 };

/* What was found out about a host. */
struct known_host {
    bool is_plain;
    bool is_insecure;
    gint64 insecure_until; /* monotonic */
};

void tls_settings_clear(struct tls_settings *tls)
{
    g_clear_pointer(&tls->authorities, g_free);
    g_clear_pointer(&tls->certificate, g_free);
    g_clear_pointer(&tls->key, g_free);
}

void endpoint_free(gpointer data)
{
    struct endpoint *endpoint = data;
    g_free(endpoint->url);
    g_free(endpoint->host);
    g_strfreev(endpoint->headers);
    tls_settings_clear(&endpoint->tls);
    challenge_clear(&endpoint->challenge);
    g_free(endpoint->token);
    g_free(endpoint);
}

/* ---- insecure registries ---- */

static bool address_is_insecure(const struct registry *registry, const guint8 address[16])
{
    if (address_is_loopback(address))
        return true;
    for (char **text = registry->insecure; text && *text; text++)
        if (cidr_has(*text, address))
            return true;
    return false;
}

/* "host" of "host:port" and "[v6]:port". */
static char *name_of(const char *host)
{
    if (*host == '[')
        return g_strndup(host + 1, strcspn(host + 1, "]"));
    return g_strndup(host, strcspn(host, ":"));
}

static bool look_up_insecure(const struct registry *registry, const char *host)
{
    guint8 address[16];
    g_autofree char *name = name_of(host);
    for (char **text = registry->insecure; text && *text; text++)
        if (g_ascii_strcasecmp(*text, host) == 0 || g_ascii_strcasecmp(*text, name) == 0)
            return true;
    if (address_parse(name, address))
        return address_is_insecure(registry, address);
    struct addrinfo *found = NULL;
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    bool insecure = false;
    if (getaddrinfo(name, NULL, &hints, &found) != 0)
        return false;
    for (const struct addrinfo *at = found; at && !insecure; at = at->ai_next) {
        char text[INET6_ADDRSTRLEN];
        if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0 &&
            address_parse(text, address))
            insecure = address_is_insecure(registry, address);
    }
    freeaddrinfo(found);
    return insecure;
}

/* The registry's lock is held. */
static struct known_host *known_host(struct registry *registry, const char *host)
{
    struct known_host *known = g_hash_table_lookup(registry->known_hosts, host);
    if (!known) {
        if (g_hash_table_size(registry->known_hosts) > 1000) /* it is a cache */
            g_hash_table_remove_all(registry->known_hosts);
        known = g_new0(struct known_host, 1);
        g_hash_table_insert(registry->known_hosts, g_strdup(host), known);
    }
    return known;
}

bool hosts_is_insecure(struct registry *registry, const char *host)
{
    gint64 now = g_get_monotonic_time();
    if (strcmp(host, HUB_HOST) == 0)
        return false;
    g_mutex_lock(&registry->lock);
    struct known_host *known = known_host(registry, host);
    bool fresh = known->insecure_until > now, insecure = known->is_insecure;
    g_mutex_unlock(&registry->lock);
    if (fresh)
        return insecure;
    insecure = look_up_insecure(registry, host);
    g_mutex_lock(&registry->lock);
    known = known_host(registry, host);
    known->is_insecure = insecure;
    known->insecure_until = now + LOOKUP_SECONDS * G_USEC_PER_SEC;
    g_mutex_unlock(&registry->lock);
    return insecure;
}

void hosts_note_plain(struct registry *registry, const char *host, bool plain)
{
    g_mutex_lock(&registry->lock);
    known_host(registry, host)->is_plain = plain;
    g_mutex_unlock(&registry->lock);
}

bool hosts_is_plain(struct registry *registry, const char *host)
{
    g_mutex_lock(&registry->lock);
    bool plain = known_host(registry, host)->is_plain;
    g_mutex_unlock(&registry->lock);
    return plain;
}

/* ---- certificates ---- */

/* A host may become part of a path: no slash, no "..". */
static bool is_host(const char *host)
{
    return *host && *host != '.' && !strchr(host, '/') && !strstr(host, "..") && strlen(host) < 256;
}

static bool append_file(const char *path, GString *to, GError **error)
{
    g_autofree char *text = NULL;
    size_t length;
    if (!file_read(AT_FDCWD, path, FILE_MAX, &text, &length, error))
        return false;
    g_string_append_len(to, text, (gssize)length);
    if (to->len > 0 && to->str[to->len - 1] != '\n')
        g_string_append_c(to, '\n');
    return true;
}

static int compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static GPtrArray *list_directory(const char *path)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && names->len < FILES_MAX && (entry = readdir(directory));)
        g_ptr_array_add(names, g_strdup(entry->d_name));
    if (directory)
        closedir(directory);
    g_ptr_array_sort(names, compare_names);
    return names;
}

static bool take_client_certificate(const char *directory, const char *name, GPtrArray *names, struct tls_settings *tls,
                                    GError **error)
{
    g_autofree char *stem = g_strndup(name, strlen(name) - strlen(".cert")), *key = g_strconcat(stem, ".key", NULL);
    if (!g_ptr_array_find_with_equal_func(names, key, g_str_equal, NULL))
        return error_set(error, TARE_ERROR_INVALID,
                         "missing key %s for client certificate %s. CA certificates must use the extension .crt", key, name);
    if (!tls->certificate) {
        tls->certificate = g_build_filename(directory, name, NULL);
        tls->key = g_build_filename(directory, key, NULL);
    }
    return true;
}

/* Docker's certs.d: *.crt are authorities, NAME.cert with NAME.key a client's certificate. */
static bool read_certificates(const char *directory, struct tls_settings *tls, GString *authorities, GError **error)
{
    g_autoptr(GPtrArray) names = list_directory(directory);
    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i];
        g_autofree char *path = g_build_filename(directory, name, NULL);
        if (g_str_has_suffix(name, ".crt") && !append_file(path, authorities, error))
            return false;
        if (g_str_has_suffix(name, ".cert") && !take_client_certificate(directory, name, names, tls, error))
            return false;
        g_autofree char *certificate = g_str_has_suffix(name, ".key") ? g_strndup(name, strlen(name) - 4) : NULL;
        g_autofree char *wanted = certificate ? g_strconcat(certificate, ".cert", NULL) : NULL;
        if (wanted && !g_ptr_array_find_with_equal_func(names, wanted, g_str_equal, NULL))
            return error_set(error, TARE_ERROR_INVALID, "missing client certificate %s for key %s", wanted, name);
    }
    return true;
}

bool hosts_tls(struct registry *registry, const char *host, struct tls_settings *ret, GError **error)
{
    struct tls_settings tls = { .skip_verify = hosts_is_insecure(registry, host) };
    g_autoptr(GString) authorities = g_string_new(NULL);
    for (char **path = registry->config_paths; is_host(host) && *path; path++) {
        g_autofree char *directory = g_build_filename(*path, host, NULL), *toml = g_build_filename(directory, "hosts.toml", NULL);
        /* Where containerd's file is, it names the certificates itself. */
        if (access(toml, F_OK) < 0 && !read_certificates(directory, &tls, authorities, error)) {
            tls_settings_clear(&tls);
            return false;
        }
    }
    if (authorities->len > 0)
        tls.authorities = g_strdup(authorities->str);
    *ret = tls;
    return true;
}

/* ---- endpoints ---- */

static struct endpoint *endpoint_new(const char *url, bool is_mirror)
{
    struct endpoint *endpoint = g_new0(struct endpoint, 1);
    endpoint->url = g_strdup(url);
    while (g_str_has_suffix(endpoint->url, "/"))
        endpoint->url[strlen(endpoint->url) - 1] = '\0';
    endpoint->host = url_host(url);
    endpoint->is_plain = g_str_has_prefix(url, "http://");
    endpoint->is_mirror = is_mirror;
    endpoint->can_pull = endpoint->can_resolve = true;
    endpoint->can_push = !is_mirror;
    return endpoint;
}

static bool add_endpoint(struct registry *registry, GPtrArray *endpoints, struct endpoint *endpoint, GError **error)
{
    g_ptr_array_add(endpoints, endpoint);
    return hosts_tls(registry, endpoint->host, &endpoint->tls, error);
}

/* The registry itself: https, and for an insecure one plain http as well. */
static bool add_origin(struct registry *registry, const char *host, GPtrArray *endpoints, GError **error)
{
    g_autofree char *secure = g_strconcat("https://", host, NULL), *plain = g_strconcat("http://", host, NULL);
    bool insecure = hosts_is_insecure(registry, host), known_plain = insecure && hosts_is_plain(registry, host);
    struct endpoint *first = endpoint_new(known_plain ? plain : secure, false);
    if (!add_endpoint(registry, endpoints, first, error))
        return false;
    if (!insecure)
        return true;
    struct endpoint *second = endpoint_new(known_plain ? secure : plain, false);
    second->is_fallback = true;
    return add_endpoint(registry, endpoints, second, error);
}

void session_allow_insecure(struct registry_session *session)
{
    GPtrArray *endpoints = session->endpoints;
    struct endpoint *origin = endpoints->pdata[endpoints->len - 1];
    for (guint i = 0; i < endpoints->len; i++)
        ((struct endpoint *)endpoints->pdata[i])->tls.skip_verify = true;
    if (origin->is_fallback || origin->is_plain)
        return;
    g_autofree char *plain = g_strconcat("http://", origin->host, NULL);
    struct endpoint *fallback = endpoint_new(plain, false);
    fallback->is_fallback = true;
    g_ptr_array_add(endpoints, fallback);
}

static bool add_mirrors(struct registry *registry, GPtrArray *endpoints, GError **error)
{
    for (char **mirror = registry->mirrors; mirror && *mirror; mirror++)
        if (!add_endpoint(registry, endpoints, endpoint_new(*mirror, true), error))
            return false;
    return true;
}

/* ---- hosts.toml ---- */

static bool read_entry_files(const struct hosts_entry *entry, const char *directory, struct tls_settings *tls, GError **error)
{
    g_autoptr(GString) authorities = g_string_new(tls->authorities);
    for (guint i = 0; i < entry->authorities->len; i++) {
        g_autofree char *path = g_canonicalize_filename(entry->authorities->pdata[i], directory);
        if (!append_file(path, authorities, error))
            return false;
    }
    if (authorities->len > 0) {
        g_free(tls->authorities);
        tls->authorities = g_strdup(authorities->str);
    }
    if (entry->certificates->len > 0 && !tls->certificate) {
        tls->certificate = g_canonicalize_filename(entry->certificates->pdata[0], directory);
        const char *key = entry->keys->pdata[0];
        tls->key = key ? g_canonicalize_filename(key, directory) : g_strdup(tls->certificate);
    }
    tls->skip_verify |= entry->skip_verify;
    return true;
}

static void apply_entry(const struct hosts_entry *entry, struct endpoint *endpoint)
{
    endpoint->exact_path = entry->override_path;
    endpoint->dial_timeout_s = (unsigned)CLAMP(entry->dial_timeout_s, 0, 3600);
    if (entry->has_capabilities) {
        endpoint->can_pull = entry->can_pull;
        endpoint->can_push = entry->can_push;
        endpoint->can_resolve = entry->can_resolve;
    }
    g_ptr_array_add(entry->headers, NULL);
    g_strfreev(endpoint->headers);
    endpoint->headers = g_strdupv((char **)entry->headers->pdata);
    g_ptr_array_set_size(entry->headers, (int)entry->headers->len - 1);
}

/* containerd lets a path end in "/v2" or not; with override_path it is the whole path. */
static struct endpoint *entry_endpoint(const struct hosts_entry *entry, bool is_mirror)
{
    g_autofree char *url = strstr(entry->url, "://") ? g_strdup(entry->url) : g_strconcat("https://", entry->url, NULL);
    struct endpoint *endpoint = endpoint_new(url, is_mirror);
    if (!entry->override_path && g_str_has_suffix(endpoint->url, "/v2"))
        endpoint->url[strlen(endpoint->url) - strlen("/v2")] = '\0';
    apply_entry(entry, endpoint);
    return endpoint;
}

static bool add_entry(struct registry *registry, const struct hosts_entry *entry, const char *directory, const char *origin,
                      bool is_mirror, GPtrArray *endpoints, GError **error)
{
    struct endpoint *endpoint = entry_endpoint(entry, is_mirror);
    endpoint->names_registry = is_mirror && strcmp(endpoint->host, origin) != 0;
    return add_endpoint(registry, endpoints, endpoint, error) && read_entry_files(entry, directory, &endpoint->tls, error);
}

static bool apply_hosts_file(struct registry *registry, const struct hosts_file *file, const char *directory, const char *origin,
                             GPtrArray *endpoints, GError **error)
{
    for (guint i = 0; i < file->hosts->len; i++)
        if (!add_entry(registry, file->hosts->pdata[i], directory, origin, true, endpoints, error))
            return false;
    if (file->server->url)
        return add_entry(registry, file->server, directory, origin, false, endpoints, error);
    guint before = endpoints->len;
    if (!add_origin(registry, origin, endpoints, error))
        return false;
    for (guint i = before; i < endpoints->len; i++) {
        struct endpoint *endpoint = endpoints->pdata[i];
        apply_entry(file->server, endpoint);
        if (!read_entry_files(file->server, directory, &endpoint->tls, error))
            return false;
    }
    return true;
}

/* The first of the directories that has the file; containerd also writes a port as "_5000_", for file systems without colons. */
static char *find_hosts_file(struct registry *registry, const char *domain, char **ret_directory)
{
    g_autofree char *name = name_of(domain);
    const char *colon = strrchr(domain, ':');
    g_autofree char *escaped = colon && *domain != '[' ? g_strdup_printf("%s_%s_", name, colon + 1) : NULL;
    const char *const names[] = { domain, escaped ? escaped : domain, "_default" };
    for (size_t i = 0; is_host(domain) && i < G_N_ELEMENTS(names); i++)
        for (char **path = registry->config_paths; *path; path++) {
            g_autofree char *directory = g_build_filename(*path, names[i], NULL);
            g_autofree char *file = g_build_filename(directory, "hosts.toml", NULL);
            if (access(file, F_OK) == 0) {
                *ret_directory = g_steal_pointer(&directory);
                return g_steal_pointer(&file);
            }
        }
    return NULL;
}

static bool read_hosts_file(struct registry *registry, const char *path, const char *directory, const char *origin,
                            GPtrArray *endpoints, GError **error)
{
    g_autofree char *text = NULL;
    size_t length;
    struct hosts_file *file = NULL;
    if (!file_read(AT_FDCWD, path, FILE_MAX, &text, &length, error))
        return false;
    bool ok =
        hosts_toml_parse(text, length, &file, error) && apply_hosts_file(registry, file, directory, origin, endpoints, error);
    if (!ok)
        g_prefix_error(error, "%s: ", path);
    hosts_file_free(file);
    return ok;
}

static void drop_unable(GPtrArray *endpoints, enum registry_access access)
{
    for (guint i = endpoints->len; i-- > 0;) {
        const struct endpoint *endpoint = endpoints->pdata[i];
        if (access == REGISTRY_PUSH ? !endpoint->can_push : !endpoint->can_pull && !endpoint->can_resolve)
            g_ptr_array_remove_index(endpoints, i);
    }
}

bool hosts_resolve(struct registry *registry, const char *domain, enum registry_access access, GPtrArray **ret, GError **error)
{
    g_autoptr(GPtrArray) endpoints = g_ptr_array_new_with_free_func(endpoint_free);
    bool is_hub = strcmp(domain, HUB) == 0;
    const char *origin = is_hub ? HUB_HOST : domain;
    g_autofree char *directory = NULL, *file = find_hosts_file(registry, domain, &directory);
    bool ok = file ? read_hosts_file(registry, file, directory, origin, endpoints, error)
                   : (!is_hub || add_mirrors(registry, endpoints, error)) && add_origin(registry, origin, endpoints, error);
    if (!ok)
        return false;
    drop_unable(endpoints, access);
    if (endpoints->len == 0)
        return error_set(error, TARE_ERROR_INVALID, "no host of registry %s allows this (%s)", domain, file);
    *ret = g_steal_pointer(&endpoints);
    return true;
}

/* ---- checks of settings ---- */

bool registry_check_mirror(const char *url, GError **error)
{
    g_autofree char *host = url_host(url);
    if (!g_str_has_prefix(url, "http://") && !g_str_has_prefix(url, "https://"))
        return error_set(error, TARE_ERROR_INVALID, "invalid mirror: unsupported scheme \"%.*s\" in \"%s\"",
                         (int)strcspn(url, ":"), url, url);
    if (!host || !*host)
        return error_set(error, TARE_ERROR_INVALID, "invalid mirror: \"%s\" is not a valid URI", url);
    if (strchr(url, '?') || strchr(url, '#'))
        return error_set(error, TARE_ERROR_INVALID, "invalid mirror: query or fragment at end of the URI \"%s\"", url);
    return !strchr(url, '@') ||
           error_set(error, TARE_ERROR_INVALID, "invalid mirror: username/password not allowed in URI \"%s\"", url);
}

bool registry_check_insecure(const char *text, GError **error)
{
    guint8 address[16];
    unsigned bits;
    if (strchr(text, '/') && !strstr(text, "://"))
        return cidr_parse(text, address, &bits) ||
               error_set(error, TARE_ERROR_INVALID, "insecure registry %s is not valid: invalid CIDR", text);
    if (strstr(text, "://"))
        return error_set(error, TARE_ERROR_INVALID, "insecure registry %s should not contain '://'", text);
    return (*text && is_host(text)) ||
           error_set(error, TARE_ERROR_INVALID, "insecure registry %s is not valid: invalid host \"%s\"", text, text);
}
