/* Options: one table gives the flag, the key of daemon.json, the field and the help. Names and meanings are dockerd's. */
#include "engine/engine.h"

#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/proxy.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>

#define CONFIG_MAX (1u << 20)

enum kind {
    KIND_BOOL,
    KIND_TEXT,
    KIND_NUMBER, /* 1 to 1,000,000; 0 in the field: not given */
    KIND_LIST,
    KIND_PAIRS,  /* a list of NAME=VALUE; in the file an object of strings */
    KIND_LIMITS, /* a list of NAME=SOFT:HARD; in the file an object of {"Name","Soft","Hard"} */
};

struct option {
    const char *flag;
    char letter;
    const char *key; /* in the file; NULL: flag only */
    enum kind kind;
    size_t offset;
    const char *type; /* as --help names the value */
    const char *help;
    const char *section; /* the object that the key is in; NULL: the file's own */
};

#define FIELD(name) offsetof(struct engine_options, name)

#define PROXIES "proxies"

static const struct option table[] = {
    { "bip", 0, "bip", KIND_TEXT, FIELD(bip), "string", "Network bridge address and prefix (\"172.17.0.1/16\")" },
    { "bridge", 'b', "bridge", KIND_TEXT, FIELD(bridge), "string", "Name of the network bridge" },
    { "cgroup-parent", 0, "cgroup-parent", KIND_TEXT, FIELD(cgroup_parent), "string", "Parent cgroup for all containers" },
    { "config-file", 0, NULL, KIND_TEXT, FIELD(config_file), "string",
      "Configuration file (default \"" ENGINE_DEFAULT_CONFIG "\")" },
    { "data-root", 0, "data-root", KIND_TEXT, FIELD(data_root), "string",
      "Root directory of persistent state (default \"" ENGINE_DEFAULT_DATA_ROOT "\")" },
    { "debug", 'D', "debug", KIND_BOOL, FIELD(debug), NULL, "Enable debug mode" },
    { "default-runtime", 0, "default-runtime", KIND_TEXT, FIELD(default_runtime), "string",
      "OCI runtime for containers (default: the built-in one)" },
    { "default-shm-size", 0, "default-shm-size", KIND_TEXT, FIELD(default_shm_size), "bytes",
      "Default shm size for containers (default 64MiB)" },
    { "default-ulimit", 0, "default-ulimits", KIND_LIMITS, FIELD(default_ulimits), "ulimit", "Default ulimits for containers" },
    { "dns", 0, "dns", KIND_LIST, FIELD(dns), "list", "DNS server to use" },
    { "dns-opt", 0, "dns-opts", KIND_LIST, FIELD(dns_options), "list", "DNS options to use" },
    { "dns-search", 0, "dns-search", KIND_LIST, FIELD(dns_search), "list", "DNS search domains to use" },
    { "exec-root", 0, "exec-root", KIND_TEXT, FIELD(run_root), "string", "The same as --run-root" },
    { "experimental", 0, "experimental", KIND_BOOL, FIELD(experimental), NULL,
      "Tell clients that they may use experimental flags (docker build --squash)" },
    { "group", 'G', "group", KIND_TEXT, FIELD(group), "string",
      "Group of the unix socket (default \"tare\", or \"docker\" where only that exists)" },
    { "help", 0, NULL, KIND_BOOL, FIELD(help), NULL, "Print usage" },
    { "host", 'H', "hosts", KIND_LIST, FIELD(hosts), "list", "Sockets to listen on: unix://PATH, tcp://ADDRESS:PORT, fd://" },
    { "ingest-path", 0, "ingest-path", KIND_TEXT, FIELD(ingest_path), "string", "Path of the tare-ingest program" },
    { "http-proxy", 0, "http-proxy", KIND_TEXT, FIELD(http_proxy), "string", "HTTP proxy URL to use for outgoing traffic",
      PROXIES },
    { "https-proxy", 0, "https-proxy", KIND_TEXT, FIELD(https_proxy), "string", "HTTPS proxy URL to use for outgoing traffic",
      PROXIES },
    { "init-path", 0, "init-path", KIND_TEXT, FIELD(init_path), "string", "Path of the tare-init program" },
    { "ingest-timeout", 0, "ingest-timeout", KIND_NUMBER, FIELD(ingest_timeout), "int",
      "Seconds for which the unpacking of a layer may stand still (default 60)" },
    { "insecure-registry", 0, "insecure-registries", KIND_LIST, FIELD(insecure_registries), "list",
      "Registries to be reached without verified TLS" },
    { "label", 0, "labels", KIND_LIST, FIELD(labels), "list", "Set key=value labels of the engine" },
    { "log-driver", 0, "log-driver", KIND_TEXT, FIELD(log_driver), "string",
      "Default driver for container logs (default \"json-file\")" },
    { "log-level", 'l', "log-level", KIND_TEXT, FIELD(log_level), "string",
      "Logging level (\"debug\"|\"info\"|\"warn\"|\"error\"|\"fatal\") (default \"info\")" },
    { "log-opt", 0, "log-opts", KIND_PAIRS, FIELD(log_options), "map", "Default log driver options for containers" },
    { "max-concurrent-downloads", 0, "max-concurrent-downloads", KIND_NUMBER, FIELD(max_concurrent_downloads), "int",
      "Set the max concurrent downloads (default 3)" },
    { "max-concurrent-uploads", 0, "max-concurrent-uploads", KIND_NUMBER, FIELD(max_concurrent_uploads), "int",
      "Set the max concurrent uploads (default 5)" },
    { "max-download-attempts", 0, "max-download-attempts", KIND_NUMBER, FIELD(max_download_attempts), "int",
      "Set the max download attempts for each pull (default 5)" },
    { "max-layer-size", 0, "max-layer-size", KIND_TEXT, FIELD(max_layer_size), "bytes",
      "Set the max size of one uncompressed layer or build context (default 1TiB)" },
    { "no-openat2", 0, "no-openat2", KIND_BOOL, FIELD(no_openat2), NULL, "Resolve paths inside containers without openat2(2)" },
    { "no-proxy", 0, "no-proxy", KIND_TEXT, FIELD(no_proxy), "string",
      "Comma-separated list of hosts or IP addresses for which the proxy is skipped", PROXIES },
    { "pidfile", 'p', "pidfile", KIND_TEXT, FIELD(pidfile), "string", "Path of a file for the process id" },
    { "registry-config-path", 0, "registry-config-path", KIND_LIST, FIELD(registry_config_paths), "list",
      "Directories with HOST/hosts.toml or HOST/*.crt, *.cert and *.key (default those of tare, docker, containers and "
      "containerd in "
      "/etc)" },
    { "registry-mirror", 0, "registry-mirrors", KIND_LIST, FIELD(registry_mirrors), "list", "Preferred registry mirror" },
    { "registry-timeout", 0, "registry-timeout", KIND_NUMBER, FIELD(registry_timeout), "int",
      "Seconds for which a transfer from a registry may stand still (default 30)" },
    { "run-root", 0, "run-root", KIND_TEXT, FIELD(run_root), "string",
      "Root directory of volatile state (default \"" ENGINE_DEFAULT_RUN_ROOT "\")" },
    { "selinux-enabled", 0, "selinux-enabled", KIND_BOOL, FIELD(selinux), NULL,
      "Label containers and their files for SELinux, where the host runs it" },
    { "shim-path", 0, "shim-path", KIND_TEXT, FIELD(shim_path), "string", "Path of the tare-shim program" },
    { "storage-backend", 0, "storage-backend", KIND_TEXT, FIELD(storage_backend), "string",
      "How layers are mounted (\"auto\"|\"detached\"|\"attached\"|\"loop\"|\"unpacked\") (default \"auto\")" },
    { "tls", 0, "tls", KIND_BOOL, FIELD(tls), NULL, "Use TLS; implied by --tlsverify" },
    { "tlscacert", 0, "tlscacert", KIND_TEXT, FIELD(tls_ca), "string", "Trust certs signed only by this CA" },
    { "tlscert", 0, "tlscert", KIND_TEXT, FIELD(tls_certificate), "string", "Path of the TLS certificate file" },
    { "tlskey", 0, "tlskey", KIND_TEXT, FIELD(tls_key), "string", "Path of the TLS key file" },
    { "tlsverify", 0, "tlsverify", KIND_BOOL, FIELD(tls_verify), NULL, "Use TLS and verify the remote" },
    { "validate", 0, NULL, KIND_BOOL, FIELD(validate), NULL, "Check the configuration and exit" },
    { "verify-images", 0, "verify-images", KIND_BOOL, FIELD(verify_images), NULL,
      "Recompute the digests of an image's layers before each start of a container" },
    { "version", 'v', NULL, KIND_BOOL, FIELD(version), NULL, "Print version information and quit" },
};
G_STATIC_ASSERT(G_N_ELEMENTS(table) <= 64);

static void *field(struct engine_options *options, const struct option *option)
{
    return (char *)options + option->offset;
}

/* ---- values ---- */

static void append_text(char ***list, const char *value)
{
    guint n = *list ? g_strv_length(*list) : 0;
    *list = g_renew(char *, *list, n + 2);
    (*list)[n] = g_strdup(value);
    (*list)[n + 1] = NULL;
}

static bool set_value(struct engine_options *options, const struct option *option, const char *value, GError **error)
{
    void *at = field(options, option);
    if (option->kind == KIND_BOOL) {
        if (!parse_bool(value, at))
            return error_set(error, TARE_ERROR_INVALID,
                             "invalid argument \"%s\" for \"--%s\" flag: strconv.ParseBool: parsing \"%s\": invalid syntax",
                             value, option->flag, value);
        if (!*(bool *)at && (at == (void *)&options->tls || at == (void *)&options->tls_verify))
            options->tls_off = true;
        return true;
    }
    if ((option->kind == KIND_PAIRS || option->kind == KIND_LIMITS) && !strchr(value, '='))
        return error_set(error, TARE_ERROR_INVALID, "invalid argument \"%s\" for \"--%s\" flag: it must be NAME=VALUE", value,
                         option->flag);
    if (option->kind == KIND_NUMBER) {
        guint64 number;
        if (!parse_uint(value, 1000000, &number) || number == 0)
            return error_set(error, TARE_ERROR_INVALID,
                             "invalid argument \"%s\" for \"--%s\" flag: it must be a number from 1 to 1000000", value,
                             option->flag);
        *(guint64 *)at = number;
        return true;
    }
    if (option->kind == KIND_TEXT) {
        g_free(*(char **)at);
        *(char **)at = g_strdup(value);
    } else {
        append_text(at, value);
    }
    return true;
}

static char *value_text(struct engine_options *options, const struct option *option)
{
    void *at = field(options, option);
    if (option->kind == KIND_BOOL)
        return g_strdup(*(bool *)at ? "true" : "false");
    if (option->kind == KIND_TEXT)
        return g_strdup(*(char **)at);
    if (option->kind == KIND_NUMBER)
        return g_strdup_printf("%" G_GUINT64_FORMAT, *(guint64 *)at);
    g_autofree char *joined = g_strjoinv(" ", *(char ***)at);
    return g_strdup_printf("[%s]", joined);
}

/* ---- the command line ---- */

static const struct option *find_long(const char *name, size_t length)
{
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
        if (strlen(table[i].flag) == length && strncmp(table[i].flag, name, length) == 0)
            return &table[i];
    return NULL;
}

static const struct option *find_letter(char letter)
{
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
        if (table[i].letter == letter)
            return &table[i];
    return NULL;
}

static bool take(struct engine_options *options, const struct option *option, const char *value, GError **error)
{
    options->given |= G_GUINT64_CONSTANT(1) << (option - table);
    return set_value(options, option, value, error);
}

static bool parse_long(struct engine_options *options, char ***argv, GError **error)
{
    const char *name = **argv + 2, *equals = strchr(name, '=');
    const struct option *option = find_long(name, equals ? (size_t)(equals - name) : strlen(name));
    if (!option)
        return error_set(error, TARE_ERROR_INVALID, "unknown flag: --%.*s",
                         (int)(equals ? equals - name : (ptrdiff_t)strlen(name)), name);
    if (equals)
        return take(options, option, equals + 1, error);
    if (option->kind == KIND_BOOL)
        return take(options, option, "true", error);
    if (!(*argv)[1])
        return error_set(error, TARE_ERROR_INVALID, "flag needs an argument: --%s", option->flag);
    (*argv)++;
    return take(options, option, **argv, error);
}

static bool parse_letters(struct engine_options *options, char ***argv, GError **error)
{
    const char *text = **argv;
    for (const char *letter = text + 1; *letter; letter++) {
        const struct option *option = find_letter(*letter);
        if (!option)
            return error_set(error, TARE_ERROR_INVALID, "unknown shorthand flag: '%c' in %s", *letter, text);
        if (option->kind == KIND_BOOL) {
            if (!take(options, option, letter[1] == '=' ? letter + 2 : "true", error))
                return false;
            if (letter[1] == '=')
                return true;
            continue;
        }
        if (letter[1])
            return take(options, option, letter[1] == '=' ? letter + 2 : letter + 1, error);
        if (!(*argv)[1])
            return error_set(error, TARE_ERROR_INVALID, "flag needs an argument: '%c' in %s", *letter, text);
        (*argv)++;
        return take(options, option, **argv, error);
    }
    return true;
}

bool engine_options_parse(struct engine_options *options, int argc, char **argv, GError **error)
{
    *options = (struct engine_options){ 0 };
    for (argv++; *argv; argv++) {
        bool ok = true;
        if (g_str_has_prefix(*argv, "--") && (*argv)[2])
            ok = parse_long(options, &argv, error);
        else if ((*argv)[0] == '-' && (*argv)[1] && (*argv)[1] != '-')
            ok = parse_letters(options, &argv, error);
        else
            ok = error_set(error, TARE_ERROR_INVALID, "\"tared\" accepts no arguments: \"%s\"", *argv);
        if (!ok)
            return false;
    }
    return true;
}

/* ---- the file ---- */

static bool wrong_type(const struct option *option, const char *file, const char *wanted, GError **error)
{
    return error_set(error, TARE_ERROR_INVALID, "unable to configure the engine with file %s: \"%s\" must be %s", file,
                     option->key, wanted);
}

static bool apply_member(struct engine_options *options, const struct option *option, const json_t *value, const char *file,
                         GError **error)
{
    if (option->kind == KIND_BOOL)
        return json_is_boolean(value) ? set_value(options, option, json_is_true(value) ? "true" : "false", error)
                                      : wrong_type(option, file, "a boolean", error);
    if (option->kind == KIND_TEXT)
        return json_is_string(value) ? set_value(options, option, json_string_value(value), error)
                                     : wrong_type(option, file, "a string", error);
    if (option->kind == KIND_NUMBER) {
        g_autofree char *number =
            json_is_integer(value) ? g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value)) : NULL;
        return number ? set_value(options, option, number, error) : wrong_type(option, file, "a number", error);
    }
    if (option->kind == KIND_LIST) {
        size_t i;
        json_t *item;
        if (!json_is_array(value))
            return wrong_type(option, file, "a list of strings", error);
        json_array_foreach(value, i, item)
        {
            if (!json_is_string(item))
                return wrong_type(option, file, "a list of strings", error);
            append_text(field(options, option), json_string_value(item));
        }
        return true;
    }
    const char *name;
    json_t *item;
    if (!json_is_object(value))
        return wrong_type(option, file, "an object", error);
    json_object_foreach((json_t *)value, name, item)
    {
        g_autofree char *pair = NULL;
        if (option->kind == KIND_PAIRS && json_is_string(item))
            pair = g_strdup_printf("%s=%s", name, json_string_value(item));
        else if (option->kind == KIND_LIMITS && json_is_object(item))
            pair = g_strdup_printf("%s=%" G_GINT64_FORMAT ":%" G_GINT64_FORMAT, name, json_get_int(item, "Soft", 0),
                                   json_get_int(item, "Hard", 0));
        else
            return wrong_type(option, file, option->kind == KIND_PAIRS ? "an object of strings" : "an object of limits", error);
        append_text(field(options, option), pair);
    }
    return true;
}

static const struct option *find_key(const char *section, const char *key)
{
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
        if (g_strcmp0(table[i].key, key) == 0 && g_strcmp0(table[i].section, section) == 0)
            return &table[i];
    return NULL;
}

static bool is_section(const char *key)
{
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
        if (g_strcmp0(table[i].section, key) == 0)
            return true;
    return false;
}

struct complaints {
    GString *unknown, *conflicts;
};

static void check_key(struct engine_options *options, const char *section, const char *key, const json_t *value,
                      struct complaints *complaints)
{
    const struct option *option = find_key(section, key);
    /* Containers always outlive the engine here, so what asks for that is satisfied; its contrary would be a lie. */
    if (!option && !section && strcmp(key, "live-restore") == 0 && json_is_true(value))
        return;
    if (!option) {
        g_string_append_printf(complaints->unknown, "%s%s%s%s", complaints->unknown->len ? ", " : "", section ? section : "",
                               section ? "." : "", key);
    } else if (options->given >> (option - table) & 1) {
        g_autofree char *dumped = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT), *from_flag = value_text(options, option);
        const char *from_file = json_is_string(value) ? json_string_value(value) : dumped;
        bool may_be_secret = g_strcmp0(section, PROXIES) == 0;
        g_autofree char *flag_shown = may_be_secret ? proxy_masked(from_flag) : g_strdup(from_flag),
                        *file_shown = may_be_secret ? proxy_masked(from_file) : g_strdup(from_file);
        g_string_append_printf(complaints->conflicts, "%s%s: (from flag: %s, from file: %s)",
                               complaints->conflicts->len ? ", " : "", key, flag_shown, file_shown);
    }
}

/* Unknown keys and those that the command line has too are named all at once, so that a file is repaired in one go. */
static bool check_keys(struct engine_options *options, const json_t *object, const char *file, GError **error)
{
    g_autoptr(GString) unknown = g_string_new(NULL), conflicts = g_string_new(NULL);
    struct complaints complaints = { unknown, conflicts };
    const char *key, *inner_key;
    json_t *value, *inner;
    json_object_foreach((json_t *)object, key, value)
    {
        if (is_section(key))
            json_object_foreach(value, inner_key, inner) check_key(options, key, inner_key, inner, &complaints);
        else
            check_key(options, NULL, key, value, &complaints);
    }
    if (unknown->len)
        return error_set(
            error, TARE_ERROR_INVALID,
            "unable to configure the engine with file %s: the following directives don't match any configuration option: %s",
            file, unknown->str);
    if (conflicts->len)
        return error_set(error, TARE_ERROR_INVALID,
                         "unable to configure the engine with file %s: the following directives are specified both as a flag and "
                         "in the configuration file: %s",
                         file, conflicts->str);
    return true;
}

static bool apply_object(struct engine_options *options, const char *section, const json_t *object, const char *file,
                         GError **error)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        const struct option *option = find_key(section, key);
        if (option && !apply_member(options, option, value, file, error))
            return false;
    }
    return true;
}

bool engine_options_apply_json(struct engine_options *options, const char *text, size_t length, const char *file, GError **error)
{
    g_autoptr(json_t) object = json_parse(text, length, CONFIG_MAX, "invalid JSON", error);
    if (!object) {
        g_prefix_error(error, "unable to configure the engine with file %s: ", file);
        return false;
    }
    if (!json_is_object(object))
        return error_set(error, TARE_ERROR_INVALID, "unable to configure the engine with file %s: it is not a JSON object", file);
    if (!check_keys(options, object, file, error))
        return false;
    const json_t *proxies = json_object_get(object, PROXIES);
    if (proxies && !json_is_object(proxies))
        return error_set(error, TARE_ERROR_INVALID,
                         "unable to configure the engine with file %s: \"" PROXIES "\" must be an object", file);
    return apply_object(options, NULL, object, file, error) && apply_object(options, PROXIES, proxies, file, error);
}

static void fill_default(char **value, const char *fallback)
{
    if (!*value || !**value) {
        g_free(*value);
        *value = g_strdup(fallback);
    }
}

bool engine_limit_parse(const char *text, struct engine_limit *ret, GError **error)
{
    g_auto(GStrv) pair = g_strsplit(text, "=", 2);
    g_auto(GStrv) bounds = g_strsplit(pair[0] && pair[1] ? pair[1] : "", ":", 2);
    struct engine_limit limit;
    if (!pair[0] || !*pair[0] || !bounds[0] || !parse_int(bounds[0], -1, G_MAXINT64, &limit.soft) ||
        !parse_int(bounds[1] ? bounds[1] : bounds[0], -1, G_MAXINT64, &limit.hard))
        return error_set(error, TARE_ERROR_INVALID, "invalid ulimit argument: %s", text);
    if (limit.hard != -1 && (limit.soft == -1 || limit.soft > limit.hard))
        return error_set(error, TARE_ERROR_INVALID,
                         "ulimit soft limit must be less than or equal to hard limit: %" G_GINT64_FORMAT " > %" G_GINT64_FORMAT,
                         limit.soft, limit.hard);
    limit.name = g_strdup(pair[0]);
    *ret = limit;
    return true;
}

static bool check_values(struct engine_options *options, GError **error)
{
    static const char *const backends[] = { "auto", "detached", "attached", "loop", "unpacked", NULL };
    static const char *const log_drivers[] = { "json-file", "local", "none", NULL };
    enum log_level level;
    gint64 bytes;
    if (!g_strv_contains(backends, options->storage_backend))
        return error_set(error, TARE_ERROR_INVALID,
                         "invalid storage backend \"%s\": it must be auto, detached, attached, loop or unpacked",
                         options->storage_backend);
    if (!log_level_parse(options->log_level, &level))
        return error_set(error, TARE_ERROR_INVALID, "unable to parse logging level: %s", options->log_level);
    if (!g_strv_contains(log_drivers, options->log_driver))
        return error_set(error, TARE_ERROR_INVALID, "logger: no log driver named '%s' is registered", options->log_driver);
    if (options->default_shm_size && (!parse_ram_bytes(options->default_shm_size, &bytes) || bytes <= 0))
        return error_set(error, TARE_ERROR_INVALID, "invalid argument \"%s\" for \"--default-shm-size\" flag: invalid size",
                         options->default_shm_size);
    if (options->max_layer_size && (!parse_ram_bytes(options->max_layer_size, &bytes) || bytes <= 0))
        return error_set(error, TARE_ERROR_INVALID, "invalid argument \"%s\" for \"--max-layer-size\" flag: invalid size",
                         options->max_layer_size);
    for (char **text = options->default_ulimits; text && *text; text++) {
        struct engine_limit limit;
        if (!engine_limit_parse(*text, &limit, error))
            return false;
        g_free(limit.name);
    }
    for (char **mirror = options->registry_mirrors; mirror && *mirror; mirror++)
        if (!registry_check_mirror(*mirror, error))
            return false;
    for (char **host = options->insecure_registries; host && *host; host++)
        if (!registry_check_insecure(*host, error))
            return false;
    if ((options->http_proxy && *options->http_proxy && !proxy_check(options->http_proxy, error)) ||
        (options->https_proxy && *options->https_proxy && !proxy_check(options->https_proxy, error)))
        return false;
    if (options->tls_verify)
        options->tls = true;
    if (options->tls && (!options->tls_certificate || !options->tls_key))
        return error_set(error, TARE_ERROR_INVALID, "TLS needs --tlscert and --tlskey");
    if (options->tls_verify && !options->tls_ca)
        return error_set(error, TARE_ERROR_INVALID, "--tlsverify needs --tlscacert");
    return true;
}

/* Shims work in "/" and are told paths. */
static void make_absolute(char **path)
{
    char *absolute = g_canonicalize_filename(*path, NULL);
    g_free(*path);
    *path = absolute;
}

bool engine_options_load(struct engine_options *options, GError **error)
{
    bool default_file = options->config_file == NULL;
    fill_default(&options->config_file, ENGINE_DEFAULT_CONFIG);
    g_autofree char *text = NULL;
    size_t length;
    g_autoptr(GError) read_error = NULL;
    if (file_read(AT_FDCWD, options->config_file, CONFIG_MAX, &text, &length, &read_error)) {
        if (!engine_options_apply_json(options, text, length, options->config_file, error))
            return false;
    } else if (!default_file || !error_is(read_error, TARE_ERROR_NOT_FOUND)) {
        g_propagate_prefixed_error(error, g_steal_pointer(&read_error),
                                   "unable to configure the engine with file %s: ", options->config_file);
        return false;
    }
    fill_default(&options->data_root, ENGINE_DEFAULT_DATA_ROOT);
    fill_default(&options->run_root, ENGINE_DEFAULT_RUN_ROOT);
    make_absolute(&options->data_root);
    make_absolute(&options->run_root);
    fill_default(&options->log_level, "info");
    fill_default(&options->log_driver, "json-file");
    fill_default(&options->storage_backend, "auto");
    if (!options->hosts) {
        g_autofree char *host = g_strdup_printf("unix://%s/tare.sock", options->run_root);
        append_text(&options->hosts, host);
    }
    return check_values(options, error);
}

void engine_options_clear(struct engine_options *options)
{
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        void *at = field(options, &table[i]);
        if (table[i].kind == KIND_TEXT)
            g_clear_pointer((char **)at, g_free);
        else if (table[i].kind != KIND_BOOL && table[i].kind != KIND_NUMBER)
            g_clear_pointer((char ***)at, g_strfreev);
    }
}

char *engine_options_help(void)
{
    GString *text = g_string_new("Usage:\ttared [OPTIONS]\n\nThe container engine of tare.\n\nOptions:\n");
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        const struct option *option = &table[i];
        g_autofree char *left =
            option->letter ? g_strdup_printf("  -%c, --%s %s", option->letter, option->flag, option->type ? option->type : "")
                           : g_strdup_printf("      --%s %s", option->flag, option->type ? option->type : "");
        g_string_append_printf(text, "%-34s %s\n", left, option->help);
    }
    return g_string_free(text, FALSE);
}
