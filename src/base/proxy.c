#include "base/proxy.h"

#include "base/cidr.h"

#include <string.h>

static const char *variable(const char *large, const char *small)
{
    const char *value = g_getenv(large);
    return value && *value ? value : g_getenv(small);
}

void proxy_settings_from_environment(struct proxy_settings *ret)
{
    *ret = (struct proxy_settings){ .http = variable("HTTP_PROXY", "http_proxy"),
                                    .https = variable("HTTPS_PROXY", "https_proxy"),
                                    .except = variable("NO_PROXY", "no_proxy") };
}

/* "host:port" and "[v6]:port" are taken apart; "::1" and "host" have no port. */
static char *split_port(const char *text, char **ret_port)
{
    const char *colon = strrchr(text, ':'), *bracket = strrchr(text, ']');
    bool has_port = colon && (*text == '[' ? bracket && colon == bracket + 1 : strchr(text, ':') == colon);
    *ret_port = g_strdup(has_port ? colon + 1 : "");
    if (*text == '[' && bracket)
        return g_strndup(text + 1, (gsize)(bracket - text - 1));
    return has_port ? g_strndup(text, (gsize)(colon - text)) : g_strdup(text);
}

/* "name" means its subdomains, too; ".name" and "*.name" mean these alone. */
static bool matches_name(const char *pattern, const char *host)
{
    if (g_str_has_prefix(pattern, "*."))
        pattern++;
    if (*pattern == '.')
        return g_str_has_suffix(host, pattern);
    g_autofree char *suffix = g_strconcat(".", pattern, NULL);
    return strcmp(host, pattern) == 0 || g_str_has_suffix(host, suffix);
}

static bool matches(const char *pattern, const char *host, const guint8 *address, unsigned port)
{
    guint8 own[16];
    unsigned bits;
    if (strcmp(pattern, "*") == 0)
        return true;
    if (cidr_parse(pattern, own, &bits))
        return address && cidr_has(pattern, address);
    g_autofree char *wanted = NULL, *name = split_port(pattern, &wanted), *actual = g_strdup_printf("%u", port);
    if (!*name || (*wanted && strcmp(wanted, actual) != 0))
        return false;
    if (address_parse(name, own))
        return address && memcmp(own, address, sizeof own) == 0;
    return matches_name(name, host);
}

static bool is_excepted(const char *except, const char *host, const guint8 *address, unsigned port)
{
    g_auto(GStrv) patterns = g_strsplit(except ? except : "", ",", -1);
    for (char **pattern = patterns; *pattern; pattern++) {
        g_autofree char *small = g_ascii_strdown(g_strstrip(*pattern), -1);
        if (*small && matches(small, host, address, port))
            return true;
    }
    return false;
}

const char *proxy_choose(const struct proxy_settings *settings, const char *scheme, const char *host, unsigned port)
{
    const char *proxy = strcmp(scheme, "https") == 0 ? settings->https : settings->http;
    guint8 address[16];
    g_autofree char *name = g_ascii_strdown(host, -1);
    bool is_address = address_parse(name, address);
    if (!proxy || !*proxy || strcmp(name, "localhost") == 0 || (is_address && address_is_loopback(address)))
        return NULL;
    return is_excepted(settings->except, name, is_address ? address : NULL, port) ? NULL : proxy;
}

const char *proxy_for_url(const char *url)
{
    struct proxy_settings settings;
    g_autofree char *scheme = NULL, *host = NULL;
    int port = -1;
    if (!g_uri_split_network(url, G_URI_FLAGS_NONE, &scheme, &host, &port, NULL) || !host)
        return NULL;
    proxy_settings_from_environment(&settings);
    bool is_secure = g_ascii_strcasecmp(scheme, "https") == 0;
    return proxy_choose(&settings, is_secure ? "https" : "http", host, port > 0 ? (unsigned)port : is_secure ? 443 : 80);
}

static void export_one(const char *given, const char *large, const char *small)
{
    g_autofree char *value = g_strdup(given && *given ? given : variable(large, small));
    if (!value || !*value)
        return;
    g_setenv(large, value, TRUE);
    g_setenv(small, value, TRUE);
}

void proxy_export(const struct proxy_settings *given)
{
    export_one(given->http, "HTTP_PROXY", "http_proxy");
    export_one(given->https, "HTTPS_PROXY", "https_proxy");
    export_one(given->except, "NO_PROXY", "no_proxy");
}

/* Where its authority begins; what stands before its last "@" is user and password. */
static const char *authority(const char *url, const char **ret_at)
{
    const char *start = strstr(url, "://") ? strstr(url, "://") + 3 : url;
    const char *end = start + strcspn(start, "/?#");
    *ret_at = NULL;
    for (const char *c = start; c < end; c++)
        if (*c == '@')
            *ret_at = c;
    return start;
}

char *proxy_masked(const char *url)
{
    const char *at, *start = authority(url, &at);
    return at ? g_strdup_printf("%.*sxxxxx:xxxxx%s", (int)(start - url), url, at) : g_strdup(url);
}

bool proxy_check(const char *url, GError **error)
{
    static const char *const schemes[] = { "http", "https", "socks5", "socks5h", NULL };
    const char *scheme_end = strstr(url, "://"), *at, *host = authority(url, &at);
    g_autofree char *scheme = g_ascii_strdown(url, scheme_end ? scheme_end - url : 0), *shown = proxy_masked(url);
    if (scheme_end && !g_strv_contains(schemes, scheme))
        return error_set(error, TARE_ERROR_INVALID, "invalid proxy \"%s\": unsupported scheme \"%s\"", shown, scheme);
    host = at ? at + 1 : host;
    if (strcspn(host, "/?#:") == 0 || strpbrk(url, " \t\r\n"))
        return error_set(error, TARE_ERROR_INVALID, "invalid proxy \"%s\": it has no host", shown);
    return true;
}
