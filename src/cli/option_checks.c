/* What a flag's value must look like, by its type and, for some flags, by its name. The texts are docker's. */
#include "cli/create-internal.h"

#include "base/parse.h"

#include <arpa/inet.h>
#include <string.h>

typedef char *check_func(const char *value);

struct check {
    const char *name; /* of a type or of a flag */
    check_func *check;
};

static char *number_problem(const char *function, const char *value, bool is_number)
{
    g_autofree char *quoted = g_strescape(value, "");
    return g_strdup_printf("strconv.%s: parsing \"%s\": %s", function, quoted,
                           is_number ? "value out of range" : "invalid syntax");
}

static bool is_digits(const char *value)
{
    return *value && strspn(value, "0123456789") == strlen(value);
}

static char *check_bool(const char *value)
{
    bool ignored;
    return parse_bool(value, &ignored) ? NULL : number_problem("ParseBool", value, false);
}

static char *check_int(const char *value)
{
    gint64 ignored;
    const char *digits = value + (*value == '+' || *value == '-');
    if (is_digits(digits) && parse_int(*value == '+' ? digits : value, G_MININT64, G_MAXINT64, &ignored))
        return NULL;
    return number_problem("ParseInt", value, is_digits(digits));
}

static char *check_uint_max(const char *value, guint64 max)
{
    guint64 ignored;
    return parse_uint(value, max, &ignored) ? NULL : number_problem("ParseUint", value, is_digits(value));
}

static char *check_uint(const char *value)
{
    return check_uint_max(value, G_MAXUINT64);
}

static char *check_uint16(const char *value)
{
    return check_uint_max(value, G_MAXUINT16);
}

static char *check_uint32(const char *value)
{
    return check_uint_max(value, G_MAXUINT32);
}

static char *check_bytes(const char *value)
{
    gint64 ignored;
    return parse_ram_bytes(value, &ignored) || strcmp(value, "-1") == 0 ? NULL : g_strdup_printf("invalid size: '%s'", value);
}

static char *check_duration(const char *value)
{
    gint64 ignored;
    if (parse_duration_ns(value, &ignored))
        return NULL;
    const char *digits = value + (*value == '-' || *value == '+');
    return g_strdup_printf("time: %s \"%s\"", is_digits(digits) ? "missing unit in duration" : "invalid duration", value);
}

static char *check_decimal(const char *value)
{
    char *end = NULL;
    double number = g_ascii_strtod(value, &end);
    const char *digits = value + (*value == '-' || *value == '+');
    bool plain = *digits && strspn(digits, "0123456789.") == strlen(digits) && !*end;
    if (!plain)
        return g_strdup_printf("failed to parse %s as a rational number", value);
    double nano = number * 1e9;
    const char *point = strchr(value, '.');
    bool is_finer = point && strlen(point) > 10 && strspn(point + 10, "0") < strlen(point + 10);
    return is_finer || nano > 9.2e18 ? g_strdup_printf("value is too precise") : NULL;
}

static char *check_filter(const char *value)
{
    return *value && !strchr(value, '=') ? g_strdup("bad format of filter (expected name=value)") : NULL;
}

static char *check_ulimit(const char *value)
{
    const char *equals = strchr(value, '=');
    if (!equals || equals == value)
        return g_strdup_printf("invalid ulimit argument: %s", value);
    static const char *const names[] = { "core",   "cpu",   "data", "fsize",  "locks",  "memlock",    "msgqueue", "nice",
                                         "nofile", "nproc", "rss",  "rtprio", "rttime", "sigpending", "stack",    NULL };
    g_autofree char *name = g_strndup(value, (size_t)(equals - value));
    if (!g_strv_contains(names, name))
        return g_strdup_printf("invalid ulimit type: %s", name);
    g_auto(GStrv) limits = g_strsplit(equals + 1, ":", 3);
    gint64 soft = 0, hard = 0;
    if (g_strv_length(limits) > 2)
        return g_strdup_printf("too many limit value arguments - %s, can only have up to two, `soft[:hard]`", equals + 1);
    char *problem = check_int(limits[0]);
    if (!problem && limits[1])
        problem = check_int(limits[1]);
    if (problem || !limits[1])
        return problem;
    parse_int(limits[0], G_MININT64, G_MAXINT64, &soft);
    parse_int(limits[1], G_MININT64, G_MAXINT64, &hard);
    if (hard != -1 && (soft > hard || soft == -1))
        return g_strdup_printf(
            "ulimit soft limit must be less than or equal to hard limit: %" G_GINT64_FORMAT " > %" G_GINT64_FORMAT, soft, hard);
    return NULL;
}

static char *check_env(const char *value)
{
    if (*value && *value != '=')
        return NULL;
    return g_strdup_printf("invalid environment variable: %s", value);
}

static char *check_label(const char *value)
{
    g_autofree char *key = g_strndup(value, strcspn(value, "="));
    g_strstrip(key);
    return *key ? NULL : g_strdup_printf("invalid label '%s': empty name", value);
}

static bool is_address(const char *text)
{
    unsigned char room[16];
    return inet_pton(AF_INET, text, room) == 1 || inet_pton(AF_INET6, text, room) == 1;
}

static char *check_address(const char *value)
{
    return is_address(value) ? NULL : g_strdup_printf("IP address is not correctly formatted: %s", value);
}

static char *check_extra_host(const char *value)
{
    size_t at = strcspn(value, "=:");
    if (!value[at] || at == 0)
        return g_strdup_printf("bad format for add-host: \"%s\"", value);
    g_autofree char *address = g_strdup(value + at + 1);
    size_t length = strlen(address);
    if (length > 1 && address[0] == '[' && address[length - 1] == ']') {
        address[length - 1] = '\0';
        memmove(address, address + 1, length - 1);
    }
    if (strcmp(address, "host-gateway") == 0 || is_address(address))
        return NULL;
    return g_strdup_printf("invalid IP address in add-host: \"%s\"", address);
}

static char *check_attach(const char *value)
{
    static const char *const streams[] = { "stdin", "stdout", "stderr", NULL };
    g_autofree char *lower = g_ascii_strdown(value, -1);
    return g_strv_contains(streams, lower) ? NULL : g_strdup("valid streams are STDIN, STDOUT and STDERR");
}

static char *check_link(const char *value)
{
    g_auto(GStrv) parts = g_strsplit(value, ":", 4);
    guint n = g_strv_length(parts);
    if (!*value)
        return g_strdup("empty string specified for links");
    return n > 2 ? g_strdup_printf("bad format for links: %s", value) : NULL;
}

static char *check_device_rule(const char *value)
{
    g_autoptr(GRegex) shape = g_regex_new("^[acb] ([0-9]+|\\*):([0-9]+|\\*) [rwm]{1,3}$", 0, 0, NULL);
    return g_regex_match(shape, value, 0, NULL) ? NULL : g_strdup_printf("invalid device cgroup format '%s'", value);
}

static char *check_throttle(const char *value, bool is_bytes)
{
    const char *colon = strchr(value, ':');
    if (!colon || colon == value || strchr(colon + 1, ':'))
        return g_strdup_printf("bad format: %s", value);
    if (!g_str_has_prefix(value, "/dev/"))
        return g_strdup_printf("bad format for device path: %s", value);
    gint64 bytes;
    guint64 count;
    if (is_bytes ? parse_ram_bytes(colon + 1, &bytes) : parse_uint(colon + 1, G_MAXUINT64, &count))
        return NULL;
    return g_strdup_printf(
        "invalid rate for device: %s. The correct format is <device-path>:<number>%s. Number must be a positive integer%s", value,
        is_bytes ? "[<unit>]" : "", is_bytes ? ". Unit is optional and can be kb, mb, or gb" : "");
}

static char *check_throttle_bytes(const char *value)
{
    return check_throttle(value, true);
}

static char *check_throttle_count(const char *value)
{
    return check_throttle(value, false);
}

static char *check_weight_device(const char *value)
{
    const char *colon = strchr(value, ':');
    guint64 weight;
    if (!colon || colon == value || strchr(colon + 1, ':'))
        return g_strdup_printf("bad format: %s", value);
    if (!g_str_has_prefix(value, "/dev/"))
        return g_strdup_printf("bad format for device path: %s", value);
    if (parse_uint(colon + 1, G_MAXUINT32, &weight) && (weight == 0 || (weight >= 10 && weight <= 1000)))
        return NULL;
    return g_strdup_printf("invalid weight for device: %s", value);
}

static char *check_sysctl(const char *value)
{
    static const char *const allowed[] = { "kernel.msgmax", "kernel.msgmnb",          "kernel.msgmni",
                                           "kernel.sem",    "kernel.shmall",          "kernel.shmmax",
                                           "kernel.shmmni", "kernel.shm_rmid_forced", NULL };
    g_autofree char *key = g_strndup(value, strcspn(value, "="));
    bool ok = strchr(value, '=') &&
              (g_strv_contains(allowed, key) || g_str_has_prefix(key, "net.") || g_str_has_prefix(key, "fs.mqueue."));
    return ok ? NULL : g_strdup_printf("sysctl '%s' is not allowed", value);
}

/* Values with a grammar of their own: what the body's parser says. */
static char *take_problem(json_t *value, GError *problem)
{
    char *text = problem ? g_strdup(problem->message) : NULL;
    json_decref(value);
    g_clear_error(&problem);
    return text;
}

static char *check_mount(const char *value)
{
    GError *problem = NULL;
    json_t *mount = create_parse_mount(value, &problem);
    return take_problem(mount, problem);
}

static char *check_gpus(const char *value)
{
    GError *problem = NULL;
    json_t *request = create_parse_gpus(value, &problem);
    return take_problem(request, problem);
}

static char *check_network(const char *value)
{
    GError *problem = NULL;
    g_autofree char *name = NULL;
    json_t *endpoint = create_parse_network(value, &name, &problem);
    return take_problem(endpoint, problem);
}

static char *check_tag(const char *value)
{
    GError *problem = NULL;
    struct image_name name = { 0 };
    image_name_parse(value, &name, &problem);
    image_name_clear(&name);
    return take_problem(NULL, problem);
}

/* "a=b,c=d" */
static char *check_pairs(const char *value)
{
    g_auto(GStrv) pairs = g_strsplit(value, ",", -1);
    for (char **pair = pairs; *pair; pair++)
        if (!strchr(*pair, '='))
            return g_strdup_printf("%s must be formatted as key=value", *pair);
    return NULL;
}

static const struct check by_type[] = {
    { "", check_bool },           { "int", check_int },           { "stringToString", check_pairs },
    { "uint", check_uint },       { "uint16", check_uint16 },     { "uint32", check_uint32 },
    { "bytes", check_bytes },     { "duration", check_duration }, { "decimal", check_decimal },
    { "filter", check_filter },   { "ulimit", check_ulimit },     { "mount", check_mount },
    { "network", check_network }, { "gpu-request", check_gpus },
};

static const struct check by_name[] = {
    { "add-host", check_extra_host },
    { "attach", check_attach },
    { "blkio-weight-device", check_weight_device },
    { "build-arg", check_env },
    { "device-cgroup-rule", check_device_rule },
    { "device-read-bps", check_throttle_bytes },
    { "device-read-iops", check_throttle_count },
    { "device-write-bps", check_throttle_bytes },
    { "device-write-iops", check_throttle_count },
    { "dns", check_address },
    { "env", check_env },
    { "label", check_label },
    { "link", check_link },
    { "sysctl", check_sysctl },
    { "tag", check_tag },
};

static char *run_checks(const struct check *checks, size_t n, const char *name, const char *value)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(checks[i].name, name) == 0)
            return checks[i].check(value);
    return NULL;
}

char *option_check(const struct cli_flag *flag, const char *value)
{
    char *problem = run_checks(by_type, G_N_ELEMENTS(by_type), flag->value, value);
    if (problem || !flag->value[0])
        return problem;
    return run_checks(by_name, G_N_ELEMENTS(by_name), flag->name, value);
}
