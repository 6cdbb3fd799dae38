/* /_ping, /version: what a client asks first. */
#include "api/api-internal.h"

#include "base/platform.h"
#include "base/timestamp.h"

#include <string.h>
#include <sys/utsname.h>

static bool ping(struct api_request *request, GError **error)
{
    http_exchange_header(request->http, "Builder-Version", "1");
    http_exchange_header(request->http, "Cache-Control", "no-cache, no-store, must-revalidate");
    http_exchange_header(request->http, "Pragma", "no-cache");
    http_exchange_header(request->http, "Swarm", "inactive");
    bool is_head = strcmp(http_exchange_request(request->http)->method, "HEAD") == 0;
    http_exchange_respond(request->http, 200, "text/plain; charset=utf-8", "OK", is_head ? 0 : 2);
    return true;
}

static bool version(struct api_request *request, GError **error)
{
    struct utsname system;
    uname(&system);
    g_autofree char *newest = g_strdup_printf("1.%d", ENGINE_API_VERSION),
                    *oldest = g_strdup_printf("1.%d", ENGINE_API_VERSION_MIN);
    const char *architecture = platform_architecture();
    json_t *details =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "ApiVersion", newest, "Arch", architecture, "BuildTime", "",
                  "Experimental", request->engine->options->experimental ? "true" : "false", "GitCommit", "", "GoVersion", "",
                  "KernelVersion", system.release, "MinAPIVersion", oldest, "Os", "linux");
    json_t *component = json_pack("{s:s, s:s, s:o}", "Name", "Engine", "Version", TARE_VERSION, "Details", details);
    json_t *answer =
        json_pack("{s:{s:s}, s:[o], s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "Platform", "Name", "tare", "Components", component,
                  "Version", TARE_VERSION, "ApiVersion", newest, "MinAPIVersion", oldest, "GitCommit", "", "GoVersion", "", "Os",
                  "linux", "Arch", architecture, "KernelVersion", system.release);
    return api_respond_json(request, 200, answer);
}

const struct api_route system_routes[] = {
    { "GET", "/_ping", 0, 0, ping },
    { "HEAD", "/_ping", 0, 0, ping },
    { "GET", "/version", 0, 0, version },
    { NULL },
};
