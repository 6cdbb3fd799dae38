#include "registry/registry-internal.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What servers say: challenges, errors, addresses; and what clients send as credentials. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    struct challenge challenge;
    struct registry_auth auth;
    challenge_parse(text, &challenge);
    g_assert(challenge.scheme != AUTH_BEARER || challenge.realm);
    challenge_clear(&challenge);
    g_autofree char *message = registry_error_text(text, strlen(text), NULL), *url = url_resolve("https://a/b", text);
    if (registry_auth_parse(text, false, &auth, NULL))
        registry_auth_clear(&auth);
    return 0;
}
