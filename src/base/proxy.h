/* Which proxy a request goes through. The rules are Go's, which is what Docker's users have written their settings for: large
 * letters before small ones, never a proxy for this machine itself, and names, suffixes, addresses, networks and ports in the
 * list of exceptions. */
#pragma once

#include "base/error.h"

struct proxy_settings {
    const char *http, *https; /* URLs; NULL or "": none */
    const char *except;       /* "localhost,.example.com,10.0.0.0/8,host:8080"; "*": all */
};
/* Borrowed from the environment: HTTP_PROXY, HTTPS_PROXY, NO_PROXY. */
void proxy_settings_from_environment(struct proxy_settings *ret);
/* NULL: none. host: without port and brackets. */
const char *proxy_choose(const struct proxy_settings *settings, const char *scheme, const char *host, unsigned port);
/* The same for a URL, with the environment's settings. */
const char *proxy_for_url(const char *url);
/* Before the first thread: what is given goes into the environment under both spellings, since libcurl and git look at the small
 * one; what only one spelling has gets the other. NULL or "": as the environment has it. */
void proxy_export(const struct proxy_settings *given);
/* For messages: user and password become "xxxxx:xxxxx"; g_free. */
char *proxy_masked(const char *url);
/* A URL whose scheme is http, https, socks5 or socks5h, or a host alone. */
bool proxy_check(const char *url, GError **error);
