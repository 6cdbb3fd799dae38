/* /images/…/verify, which Docker does not have: recomputing digests. */
#include "api/api-internal.h"

static bool send_report(void *user, const char *id, const char *status, GError **error)
{
    return api_send_message(user, json_pack("{s:s, s:s}", "id", id, "status", status), error);
}

/* name NULL: all images. */
static bool verify(struct api_request *request, const char *name, GError **error)
{
    const struct image_verify_options options = { .cancel = http_exchange_cancel(request->http),
                                                  .report = send_report,
                                                  .user = request };
    bool ok = image_store_verify(request->engine->images, name, &options, error);
    return api_finish_messages(request, ok, error);
}

static bool verify_all(struct api_request *request, GError **error)
{
    return verify(request, NULL, error);
}

static bool verify_one(struct api_request *request, GError **error)
{
    return verify(request, request->name, error);
}

const struct api_route verify_routes[] = {
    { "POST", "/images/verify", 0, 0, verify_all },
    { "POST", "/images/{name*}/verify", 0, 0, verify_one },
    { NULL },
};
