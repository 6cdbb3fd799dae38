/* Values of run and create that have a grammar of their own: text in, a part of the API's body out. */
#include "cli/create-internal.h"

#include "base/file.h"
#include "base/parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define PAIRS_FILE_MAX (4u << 20)
#define PROFILE_MAX (4u << 20)

json_t *restart_policy(const char *text, GError **error)
{
    const char *colon = strchr(text, ':');
    g_autofree char *name = g_strndup(text, strcspn(text, ":"));
    gint64 count = 0;
    if (colon && !*name) {
        error_set(error, TARE_ERROR_INVALID, "invalid restart policy format: no policy provided before colon");
        return NULL;
    }
    if (colon && colon[1] && !parse_int(colon + 1, G_MININT32, G_MAXINT32, &count)) {
        error_set(error, TARE_ERROR_INVALID, "invalid restart policy format: maximum retry count must be an integer");
        return NULL;
    }
    return json_pack("{s:s, s:I}", "Name", name, "MaximumRetryCount", (json_int_t)count);
}

/* "80" or "80-90". */
static bool parse_range(const char *text, guint64 *ret_first, guint64 *ret_last)
{
    g_autofree char *first = g_strndup(text, strcspn(text, "-"));
    const char *dash = strchr(text, '-');
    if (!parse_uint(first, 65535, ret_first))
        return false;
    *ret_last = *ret_first;
    return !dash || (parse_uint(dash + 1, 65535, ret_last) && *ret_last >= *ret_first);
}

static bool known_protocol(const char *protocol)
{
    static const char *const known[] = { "tcp", "udp", "sctp", NULL };
    return g_strv_contains(known, protocol);
}

/* Takes "port/proto" apart; the protocol defaults to tcp. */
static char *split_protocol(const char *text, char **ret_protocol)
{
    const char *slash = strchr(text, '/');
    *ret_protocol = slash && slash[1] ? g_ascii_strdown(slash + 1, -1) : g_strdup("tcp");
    return g_strndup(text, strcspn(text, "/"));
}

static void add_binding(json_t *exposed, json_t *bindings, const char *key, const char *ip, const char *host_port)
{
    json_object_set_new(exposed, key, json_object());
    json_t *list = json_object_get(bindings, key);
    if (!list)
        json_object_set_new(bindings, key, list = json_array());
    json_array_append_new(list, json_pack("{s:s, s:s}", "HostIp", ip, "HostPort", host_port));
}

static bool check_ip(char *ip, char **ret, GError **error)
{
    unsigned char room[16];
    size_t length = strlen(ip);
    *ret = ip;
    if (*ip == '[' && length > 1 && ip[length - 1] == ']') {
        ip[length - 1] = '\0';
        *ret = ip + 1;
    }
    if (!**ret || inet_pton(AF_INET, *ret, room) == 1 || inet_pton(AF_INET6, *ret, room) == 1)
        return true;
    return error_set(error, TARE_ERROR_INVALID, "invalid IP address: %s", ip);
}

/* "published=8080,target=80,protocol=tcp" as the short form. */
static char *short_form(const char *text, GError **error)
{
    if (!strchr(text, '='))
        return g_strdup(text);
    g_autofree char *published = g_strdup(""), *target = g_strdup(""), *protocol = g_strdup("tcp");
    g_auto(GStrv) fields = g_strsplit(text, ",", -1);
    for (char **field = fields; *field; field++) {
        char *equals = strchr(*field, '=');
        if (!equals || equals == *field) {
            error_set(error, TARE_ERROR_INVALID, "invalid publish opts format (should be name=value but got '%s')", *field);
            return NULL;
        }
        *equals = '\0';
        char **slot = strcmp(*field, "published") == 0  ? &published
                      : strcmp(*field, "target") == 0   ? &target
                      : strcmp(*field, "protocol") == 0 ? &protocol
                                                        : NULL;
        if (slot) {
            g_free(*slot);
            *slot = g_strdup(equals + 1);
        }
    }
    return g_strdup_printf("%s:%s/%s", published, target, protocol);
}

bool create_parse_port(const char *text, json_t *exposed, json_t *bindings, GError **error)
{
    g_autofree char *spec = short_form(text, error), *protocol = NULL;
    if (!spec)
        return false;
    char *last = strrchr(spec, ':'), *ip = (char *)"", *host = (char *)"";
    g_autofree char *port = split_protocol(last ? last + 1 : spec, &protocol);
    if (last) {
        *last = '\0';
        char *middle = strrchr(spec, ':');
        host = middle ? middle + 1 : spec;
        if (middle) {
            *middle = '\0';
            ip = spec;
        }
    }
    if (!*port)
        return error_set(error, TARE_ERROR_INVALID, "no port specified: %s<empty>", text);
    if (!known_protocol(protocol))
        return error_set(error, TARE_ERROR_INVALID, "invalid proto: %s", protocol);
    guint64 first, end, host_first = 0, host_end = 0;
    if (!check_ip(ip, &ip, error))
        return false;
    if (!parse_range(port, &first, &end))
        return error_set(error, TARE_ERROR_INVALID, "invalid containerPort: %s", port);
    if (*host && !parse_range(host, &host_first, &host_end))
        return error_set(error, TARE_ERROR_INVALID, "invalid hostPort: %s", host);
    if (*host && end - first != host_end - host_first && end != first)
        return error_set(error, TARE_ERROR_INVALID, "invalid ranges specified for container and host Ports: %s and %s", port,
                         host);
    for (guint64 i = 0; i <= end - first; i++) {
        g_autofree char *key = g_strdup_printf("%" G_GUINT64_FORMAT "/%s", first + i, protocol), *host_port = NULL;
        if (!*host)
            host_port = g_strdup("");
        else if (end == first && host_end != host_first) /* any one of the range */
            host_port = g_strdup_printf("%" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT, host_first, host_end);
        else
            host_port = g_strdup_printf("%" G_GUINT64_FORMAT, host_first + i);
        add_binding(exposed, bindings, key, ip, host_port);
    }
    return true;
}

bool create_parse_expose(const char *text, json_t *exposed, GError **error)
{
    g_autofree char *protocol = NULL, *port = split_protocol(text, &protocol);
    guint64 first, last;
    if (strchr(text, ':'))
        return error_set(error, TARE_ERROR_INVALID, "invalid port format for --expose: %s", text);
    if (!parse_range(port, &first, &last))
        return error_set(error, TARE_ERROR_INVALID,
                         "invalid range format for --expose: %s, error: strconv.ParseUint: parsing \"%s\": %s", text, port,
                         *port && strspn(port, "0123456789") == strlen(port) ? "value out of range" : "invalid syntax");
    for (guint64 i = first; i <= last; i++) {
        g_autofree char *key = g_strdup_printf("%" G_GUINT64_FORMAT "/%s", i, protocol);
        json_object_set_new(exposed, key, json_object());
    }
    return true;
}

json_t *create_parse_ulimit(const char *text)
{
    g_auto(GStrv) halves = g_strsplit(text, "=", 2);
    g_auto(GStrv) limits = g_strsplit(halves[1] ? halves[1] : "", ":", 2);
    gint64 soft = 0, hard = 0;
    if (limits[0])
        parse_int(limits[0], G_MININT64, G_MAXINT64, &soft);
    hard = soft;
    if (limits[0] && limits[1])
        parse_int(limits[1], G_MININT64, G_MAXINT64, &hard);
    return json_pack("{s:s, s:I, s:I}", "Name", halves[0], "Hard", (json_int_t)hard, "Soft", (json_int_t)soft);
}

static bool is_device_mode(const char *text)
{
    bool seen[128] = { false };
    for (const char *c = text; *c; c++) {
        if (!strchr("rwm", *c) || seen[(unsigned char)*c & 127])
            return false;
        seen[(unsigned char)*c & 127] = true;
    }
    return *text != '\0';
}

json_t *create_parse_device(const char *text, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 4);
    guint n = g_strv_length(parts);
    const char *source = n ? parts[0] : "", *target = source, *mode = "rwm";
    if (n > 3 || !*source) {
        error_set(error, TARE_ERROR_INVALID, "bad format for path: %s", text);
        return NULL;
    }
    if (n == 2 && is_device_mode(parts[1]))
        mode = parts[1];
    else if (n >= 2)
        target = parts[1];
    if (n == 3 && !is_device_mode(mode = parts[2])) {
        error_set(error, TARE_ERROR_INVALID, "bad mode specified: %s", mode);
        return NULL;
    }
    if (*target != '/') {
        error_set(error, TARE_ERROR_INVALID, "%s is not an absolute path", target);
        return NULL;
    }
    return json_pack("{s:s, s:s, s:s}", "PathOnHost", source, "PathInContainer", target, "CgroupPermissions", mode);
}

json_t *create_parse_gpus(const char *text, GError **error)
{
    g_autoptr(json_t) request =
        json_pack("{s:s, s:i, s:n, s:[[s]], s:{}}", "Driver", "", "Count", 1, "DeviceIDs", "Capabilities", "gpu", "Options");
    g_auto(GStrv) fields = g_strsplit(text, ",", -1);
    for (char **field = fields; *field; field++) {
        char *equals = strchr(*field, '=');
        const char *value = equals ? equals + 1 : *field;
        gint64 count = -1;
        if (!equals || g_str_has_prefix(*field, "count=")) {
            if (strcmp(value, "all") != 0 && !parse_int(value, G_MININT32, G_MAXINT32, &count)) {
                error_set(error, TARE_ERROR_INVALID,
                          "invalid count (%s): value must be either \"all\" or an integer: invalid syntax", value);
                return NULL;
            }
            json_object_set_new(request, "Count", json_integer(count));
        } else if (g_str_has_prefix(*field, "device=")) {
            json_object_set_new(request, "DeviceIDs", json_pack("[s]", value));
            json_object_set_new(request, "Count", json_integer(0));
        } else if (g_str_has_prefix(*field, "driver=")) {
            json_object_set_new(request, "Driver", json_string_lossy(value));
        } else if (g_str_has_prefix(*field, "capabilities=")) {
            json_object_set_new(request, "Capabilities", json_pack("[[s, s]]", value, "gpu"));
        } else {
            g_autofree char *key = g_strndup(*field, (gsize)(equals - *field));
            error_set(error, TARE_ERROR_INVALID, "unexpected key '%s' in '%s'", key, *field);
            return NULL;
        }
    }
    return g_steal_pointer(&request);
}

json_t *create_parse_network(const char *text, char **ret_name, GError **error)
{
    g_autoptr(json_t) endpoint = json_object();
    *ret_name = NULL;
    if (!strchr(text, '=')) {
        *ret_name = g_strdup(text);
        return g_steal_pointer(&endpoint);
    }
    g_autofree char *name = NULL;
    g_auto(GStrv) fields = g_strsplit(text, ",", -1);
    for (char **field = fields; *field; field++) {
        char *equals = strchr(*field, '=');
        if (!equals || equals == *field) {
            error_set(error, TARE_ERROR_INVALID, "invalid field %s", *field);
            return NULL;
        }
        *equals = '\0';
        g_autofree char *key = g_ascii_strdown(g_strstrip(*field), -1), *value = g_strstrip(g_ascii_strdown(equals + 1, -1));
        static const struct {
            const char *key, *object, *field;
            bool many;
        } known[] = {
            { "alias", NULL, "Aliases", true },
            { "ip", "IPAMConfig", "IPv4Address", false },
            { "ip6", "IPAMConfig", "IPv6Address", false },
            { "link-local-ip", "IPAMConfig", "LinkLocalIPs", true },
            { "mac-address", NULL, "MacAddress", false },
        };
        bool found = strcmp(key, "name") == 0;
        if (found) {
            g_free(name);
            name = g_strdup(value);
        }
        for (gsize i = 0; i < G_N_ELEMENTS(known) && !found; i++) {
            if (strcmp(known[i].key, key) != 0)
                continue;
            json_t *object = endpoint;
            if (known[i].object && !(object = json_object_get(endpoint, known[i].object)))
                json_object_set_new(endpoint, known[i].object, object = json_object());
            json_t *list = json_object_get(object, known[i].field);
            if (known[i].many && !list)
                json_object_set_new(object, known[i].field, list = json_array());
            if (known[i].many)
                json_array_append_new(list, json_string_lossy(value));
            else
                json_object_set_new(object, known[i].field, json_string_lossy(value));
            found = true;
        }
        if (!found && strcmp(key, "driver-opt") == 0) {
            char *inner = strchr(value, '=');
            json_t *opts = json_object_get(endpoint, "DriverOpts");
            if (!inner || inner == value) {
                error_set(error, TARE_ERROR_INVALID, "invalid key value pair format in driver options");
                return NULL;
            }
            *inner = '\0';
            if (!opts)
                json_object_set_new(endpoint, "DriverOpts", opts = json_object());
            json_object_set_new(opts, value, json_string_lossy(inner + 1));
            found = true;
        }
        gint64 priority;
        if (!found && strcmp(key, "gw-priority") == 0) {
            if (!parse_int(value, G_MININT32, G_MAXINT32, &priority)) {
                error_set(error, TARE_ERROR_INVALID, "invalid gw-priority (%s): invalid syntax", value);
                return NULL;
            }
            json_object_set_new(endpoint, "GwPriority", json_integer(priority));
            found = true;
        }
        if (!found) {
            error_set(error, TARE_ERROR_INVALID, "invalid field key %s", key);
            return NULL;
        }
    }
    if (!name || !*name) {
        error_set(error, TARE_ERROR_INVALID, "network name/id is not specified");
        return NULL;
    }
    *ret_name = g_steal_pointer(&name);
    return g_steal_pointer(&endpoint);
}

static bool add_pair_line(const char *line, bool look_up, json_t *array, GError **error)
{
    while (g_ascii_isspace(*line))
        line++;
    if (!*line || *line == '#')
        return true;
    g_autofree char *key = g_strndup(line, strcspn(line, "="));
    if (!*key)
        return error_set(error, TARE_ERROR_INVALID, "no variable name on line '%s'", line);
    if (strpbrk(key, " \t"))
        return error_set(error, TARE_ERROR_INVALID, "variable '%s' contains whitespaces", key);
    if (strchr(line, '=')) {
        json_array_append_new(array, json_string_lossy(line));
        return true;
    }
    const char *value = look_up ? g_getenv(key) : NULL;
    if (value) {
        g_autofree char *pair = g_strconcat(key, "=", value, NULL);
        json_array_append_new(array, json_string_lossy(pair));
    }
    return true;
}

static bool read_pairs_file(const char *path, bool look_up, json_t *array, GError **error)
{
    g_autofree char *text = NULL;
    size_t length;
    g_autoptr(GError) problem = NULL;
    if (!file_read(AT_FDCWD, path, PAIRS_FILE_MAX, &text, &length, &problem)) {
        if (error_is(problem, TARE_ERROR_NOT_FOUND))
            return error_set(error, TARE_ERROR_INVALID, "open %s: no such file or directory", path);
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    const char *start = g_str_has_prefix(text, "\xef\xbb\xbf") ? text + 3 : text;
    if (!g_utf8_validate(start, -1, NULL))
        return error_set(error, TARE_ERROR_INVALID, "invalid utf8 bytes in %s", path);
    g_auto(GStrv) lines = g_strsplit(start, "\n", -1);
    for (char **line = lines; *line; line++) {
        gsize n = strlen(*line);
        if (n > 0 && (*line)[n - 1] == '\r')
            (*line)[n - 1] = '\0';
        if (!add_pair_line(*line, look_up, array, error))
            return false;
    }
    return true;
}

bool create_read_pairs(const char *const *files, const char *const *given, bool look_up, json_t *array, const char *what,
                       GError **error)
{
    for (; *files; files++)
        if (!read_pairs_file(*files, look_up, array, error)) {
            g_prefix_error(error, "%s", what);
            return false;
        }
    for (; *given; given++) {
        const char *value = look_up && !strchr(*given, '=') ? g_getenv(*given) : NULL;
        g_autofree char *pair = value ? g_strconcat(*given, "=", value, NULL) : g_strdup(*given);
        json_array_append_new(array, json_string_lossy(pair));
    }
    return true;
}

json_t *create_parse_throttle(const char *text, bool is_bytes)
{
    g_autofree char *path = g_strndup(text, strcspn(text, ":"));
    const char *colon = strchr(text, ':');
    gint64 bytes = 0;
    guint64 count = 0;
    if (colon && is_bytes)
        parse_ram_bytes(colon + 1, &bytes);
    else if (colon)
        parse_uint(colon + 1, G_MAXINT64, &count);
    return json_pack("{s:s, s:I}", "Path", path, "Rate", (json_int_t)(is_bytes ? bytes : (gint64)count));
}

bool create_parse_volume(const char *text, char **ret_bind, char **ret_target, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", -1);
    if (!*text)
        return error_set(error, TARE_ERROR_INVALID, "invalid empty volume spec");
    if (!parts[1] || !*parts[0]) { /* the engine says what is wrong with the latter */
        *ret_target = g_strdup(text);
        return true;
    }
    if (parts[0][0] != '.') {
        *ret_bind = g_strdup(text);
        return true;
    }
    g_autofree char *source = g_canonicalize_filename(parts[0], NULL);
    *ret_bind = g_strconcat(source, text + strlen(parts[0]), NULL);
    return true;
}

/* seccomp=FILE carries the profile's text. */
static char *load_profile(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    size_t length;
    g_autoptr(GError) problem = NULL;
    if (!file_read(AT_FDCWD, path, PROFILE_MAX, &text, &length, &problem)) {
        error_set(error, TARE_ERROR_INVALID, "opening seccomp profile (%s) failed: open %s: no such file or directory", path,
                  path);
        return NULL;
    }
    g_autoptr(json_t) value = json_parse(text, length, PROFILE_MAX, "compacting json for seccomp profile", error);
    g_autofree char *compact = value ? json_text(value) : NULL;
    return compact ? g_strconcat("seccomp=", compact, NULL) : NULL;
}

json_t *create_parse_security(const char *const *given, bool *ret_unmasked, GError **error)
{
    g_autoptr(json_t) list = json_array();
    *ret_unmasked = false;
    for (; *given; given++) {
        const char *mark = strchr(*given, '=');
        if (!mark && strcmp(*given, "no-new-privileges") != 0)
            mark = strchr(*given, ':');
        if ((!mark || !mark[1]) && strcmp(*given, "no-new-privileges") != 0) {
            error_set(error, TARE_ERROR_INVALID, "Invalid --security-opt: \"%s\"", *given);
            return NULL;
        }
        if (strcmp(*given, "systempaths=unconfined") == 0) {
            *ret_unmasked = true;
            continue;
        }
        bool is_profile = mark && mark - *given == 7 && g_str_has_prefix(*given, "seccomp") &&
                          strcmp(mark + 1, "unconfined") != 0 && strcmp(mark + 1, "builtin") != 0;
        g_autofree char *profile = is_profile ? load_profile(mark + 1, error) : NULL;
        if (is_profile && !profile)
            return NULL;
        json_array_append_new(list, json_string_lossy(profile ? profile : *given));
    }
    return g_steal_pointer(&list);
}
