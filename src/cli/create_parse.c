/* Values of run and create that have a grammar of their own: text in, a part of the API's body out; pure. */
#include "cli/cli-internal.h"

#include "base/parse.h"

#include <string.h>

json_t *restart_policy(const char *text, GError **error)
{
    const char *colon = strchr(text, ':');
    g_autofree char *name = g_strndup(text, strcspn(text, ":"));
    gint64 count = 0;
    if (colon && !*name) {
        error_set(error, TARE_ERROR_INVALID, "invalid restart policy format: no policy provided before colon");
        return NULL;
    }
    if (colon && !parse_int(colon + 1, G_MININT32, G_MAXINT32, &count)) {
        error_set(error, TARE_ERROR_INVALID, "invalid restart policy format: maximum retry count must be an integer");
        return NULL;
    }
    return json_pack("{s:s, s:I}", "Name", name, "MaximumRetryCount", (json_int_t)count);
}
