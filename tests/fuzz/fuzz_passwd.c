/* An image's passwd and group files, and whom to look for: three texts, cut at NUL. */
#include "runtime/runtime-internal.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup("", size + 3);
    memcpy(text, data, size);
    const char *passwd = text + strlen(text) + 1 <= text + size ? text + strlen(text) + 1 : "";
    const char *group = *passwd && passwd + strlen(passwd) + 1 <= text + size ? passwd + strlen(passwd) + 1 : "";
    const char *const additional[] = { text, NULL };
    struct runtime_user user = { 0 };
    if (user_resolve_text(passwd, group, text, size % 2 ? additional : NULL, &user, NULL))
        runtime_user_clear(&user);
    return 0;
}
