/* What the filters of images say beyond base/filter.h: their own texts, and dates without a time. */
#include "image/image-internal.h"

#include "base/parse.h"
#include "base/timestamp.h"

#include <string.h>

bool image_filter_check_names(const json_t *filters, const char *const *known, GError **error)
{
    const char *name;
    json_t *values;
    json_object_foreach((json_t *)filters, name, values) if (!g_strv_contains(known, name)) return error_set(
        error, TARE_ERROR_INVALID, "Invalid filter '%s'", name);
    return true;
}

bool image_filter_time(const char *text, gint64 *ret_ns, GError **error)
{
    gint64 duration;
    guint64 seconds, nanoseconds = 0;
    g_auto(GStrv) parts = g_strsplit(text, ".", 2);
    if (timestamp_parse(text, ret_ns))
        return true;
    if (parts[0] && parse_uint(parts[0], G_MAXINT64 / 1000000000 - 1, &seconds)) {
        g_autofree char *digits =
            g_strdup_printf("%.9s%.*s", parts[1] ? parts[1] : "", parts[1] ? MAX(9 - (int)strlen(parts[1]), 0) : 1, "000000000");
        if (parse_uint(digits, 999999999, &nanoseconds))
            return *ret_ns = (gint64)(seconds * 1000000000 + nanoseconds), true;
    }
    if (parse_duration_ns(text, &duration))
        return *ret_ns = timestamp_now() - duration, true;
    g_autofree char *date = g_strconcat(text, strchr(text, 'T') ? "Z" : "T00:00:00Z", NULL);
    if (timestamp_parse(date, ret_ns))
        return true;
    return error_set(error, TARE_ERROR_INVALID, "failed to parse value as time or duration: \"%s\"", text);
}
