/* The messages of a pull, as Docker's clients know them. */
#include "registry/registry-internal.h"

#include "base/size.h"

#include <string.h>

enum { BAR_WIDTH = 50 };

/* What clients that draw no bar of their own show: "[====>     ]  1.2MB/3.4MB". */
static char *bar(guint64 current, guint64 total)
{
    g_autofree char *now = size_human(current, 4), *all = size_human(total, 4);
    if (total == 0 || current > total)
        return g_strdup_printf("%8s", now);
    guint done = (guint)((double)current / (double)total * 100) / 2;
    g_autofree char *full = g_strnfill(done, '='), *rest = g_strnfill(BAR_WIDTH - done, ' ');
    return g_strdup_printf("[%s>%s] %8s/%s", full, rest, now, all);
}

json_t *progress_status(const char *id, const char *status)
{
    json_t *message = json_pack("{s:o}", "status", json_string_lossy(status));
    if (id)
        json_object_set_new(message, "id", json_string(id));
    return message;
}

json_t *progress_layer(const char *id, const char *status)
{
    return json_pack("{s:o, s:{}, s:s}", "status", json_string_lossy(status), "progressDetail", "id", id);
}

json_t *progress_bytes(const char *id, const char *status, guint64 current, guint64 total)
{
    g_autofree char *text = bar(current, total);
    return json_pack("{s:s, s:{s:I, s:I}, s:s, s:s}", "status", status, "progressDetail", "current", (json_int_t)current, "total",
                     (json_int_t)total, "progress", text, "id", id);
}
