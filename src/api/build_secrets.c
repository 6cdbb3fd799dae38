/* Secrets and ssh agents for a build, from a client without BuildKit's session: a request of their own brings them and gets an id
 * for one build, which the build's request names in a header. So no secret is ever in a URL, and an old proxy's log has none.
 *
 * POST /build/secrets   {"secrets": {"id": "base64"}, "ssh": ["default"]} → {"Id"}
 * POST /build/agent?id=default, X-Tare-Secrets: ID, upgraded: one connection to that agent, used when a step opens its socket;
 * the client offers the next when the first bytes come. */
#include "api/api-internal.h"

#include <string.h>
#include <unistd.h>

#include "base/fd.h"

static bool add_secrets(struct build_secrets *secrets, const json_t *object, GError **error)
{
    const char *id;
    json_t *value;
    json_object_foreach((json_t *)object, id, value)
    {
        gsize length = 0;
        const char *text = json_string_value(value);
        guchar *data = text ? g_base64_decode(text, &length) : NULL;
        bool ok = data ? build_secrets_add(secrets, id, data, length, error)
                       : error_set(error, TARE_ERROR_INVALID, "secret %s: not a text in base64", id);
        if (data)
            explicit_bzero(data, length);
        g_free(data);
        if (!ok)
            return false;
    }
    return true;
}

static bool add_agents(struct build_secrets *secrets, const json_t *list, GError **error)
{
    size_t i;
    json_t *value;
    json_array_foreach((json_t *)list, i, value)
    {
        if (!json_is_string(value))
            return error_set(error, TARE_ERROR_INVALID, "an ssh agent's id is not a text");
        if (!build_secrets_add_agent(secrets, json_string_value(value), error))
            return false;
    }
    return true;
}

bool api_lend_secrets(struct api_request *request, GError **error)
{
    g_autoptr(json_t) body = NULL;
    g_autofree char *id = NULL;
    if (!api_read_json(request, &body, error))
        return false;
    struct build_secrets *secrets = build_secrets_new();
    bool ok = add_secrets(secrets, json_get_object(body, "secrets"), error) &&
              add_agents(secrets, json_get_array(body, "ssh"), error) &&
              builder_lend_secrets(request->engine->builder, secrets, &id, error);
    build_secrets_unref(secrets);
    return ok && api_respond_json(request, 201, json_pack("{s:s}", "Id", id));
}

bool api_offer_agent(struct api_request *request, GError **error)
{
    const char *id = http_request_header(http_exchange_request(request->http), API_SECRETS_HEADER);
    const char *agent = api_query(request, "id");
    g_autofd int connection = -1;
    if (!id || !agent)
        return error_set(error, TARE_ERROR_INVALID, "an agent's id and " API_SECRETS_HEADER " are needed");
    /* First the answer, then the offer: a step may write to it at once. */
    if (!http_exchange_take_socket(request->http, &connection, error) ||
        !http_exchange_upgrade(request->http, "application/vnd.docker.raw-stream", error))
        return false;
    if (builder_offer_agent(request->engine->builder, id, agent, connection, NULL))
        fd_steal(&connection);
    return true;
}
