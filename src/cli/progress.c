/* The stream of JSON messages that build, pull, push, load and import answer with: on a terminal each layer keeps its line and
 * its bar; elsewhere only what happened is printed. */
#include "cli/cli-internal.h"

#include "base/fd.h"
#include "base/size.h"

#include <string.h>
#include <unistd.h>

#define MESSAGE_MAX (16u << 20)
#define BAR_WIDTH 50

struct display {
    const struct progress_options *options;
    bool terminal;
    int width;
    GHashTable *lines; /* id → line number + 1 */
};

/* Length of the first whole JSON value in text, or 0. Objects only; what stands between them is skipped by the caller. */
static gsize message_length(const char *text, gsize length)
{
    int depth = 0;
    bool in_string = false;
    for (gsize i = 0; i < length; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        if (c == '"')
            in_string = true;
        else if (c == '{' || c == '[')
            depth++;
        else if ((c == '}' || c == ']') && --depth == 0)
            return i + 1;
    }
    return 0;
}

static char *bar(const json_t *progress, int width)
{
    gint64 current = json_get_int(progress, "current", 0), total = json_get_int(progress, "total", 0);
    if (current <= 0 && total <= 0)
        return g_strdup("");
    const char *units = json_get_string(progress, "units", "");
    g_autofree char *now = size_human((guint64)MAX(current, 0), 4), *all = size_human((guint64)MAX(total, 0), 4);
    if (total <= 0)
        return *units ? g_strdup_printf("%" G_GINT64_FORMAT " %s", current, units) : g_strdup_printf("%8s", now);
    int done = (int)((double)current / (double)total * 100) / 2;
    done = CLAMP(done, 0, BAR_WIDTH);
    GString *out = g_string_new(NULL);
    if (width > 110) {
        g_autofree char *full = g_strnfill((gsize)done, '='), *rest = g_strnfill((gsize)(BAR_WIDTH - done), ' ');
        g_string_append_printf(out, "[%s>%s] ", full, rest);
    }
    if (json_get_bool(progress, "hidecounts", false))
        return g_string_free(out, FALSE);
    if (*units && current > total)
        g_string_append_printf(out, "%" G_GINT64_FORMAT " %s", current, units);
    else if (*units)
        g_string_append_printf(out, "%" G_GINT64_FORMAT "/%" G_GINT64_FORMAT " %s", current, total, units);
    else if (current > total)
        g_string_append_printf(out, "%8s", now);
    else
        g_string_append_printf(out, "%8s/%s", now, all);
    return g_string_free(out, FALSE);
}

static void show_message(struct display *display, const json_t *message, GString *out)
{
    const char *id = json_get_string(message, "id", ""), *status = json_get_string(message, "status", ""),
               *stream = json_get_string(message, "stream", "");
    const char *from = json_get_string(message, "from", "");
    const json_t *progress = json_get_object(message, "progressDetail");
    g_autofree char *text = progress ? bar(progress, display->width) : NULL;
    const char *end = "";
    if (display->terminal && !*stream && progress) {
        g_string_append(out, "\033[2K\r");
        end = "\r";
    } else if (progress && *text) {
        return; /* only ends of transfers are worth a line in a file */
    }
    if (*id)
        g_string_append_printf(out, "%s: ", id);
    if (*from)
        g_string_append_printf(out, "(from %s) ", from);
    if (progress && display->terminal)
        g_string_append_printf(out, "%s %s%s", status, text, end);
    else if (*stream)
        g_string_append_printf(out, "%s%s", stream, end);
    else
        g_string_append_printf(out, "%s%s\n", status, end);
}

/* Each id that shows progress has a line of its own, counted from below. */
static void show_placed(struct display *display, const json_t *message, GString *out)
{
    const char *id = json_get_string(message, "id", "");
    guint below = 0;
    if (*id && json_get_object(message, "progressDetail")) {
        guint line = GPOINTER_TO_UINT(g_hash_table_lookup(display->lines, id));
        if (line == 0) {
            line = g_hash_table_size(display->lines) + 1;
            g_hash_table_insert(display->lines, g_strdup(id), GUINT_TO_POINTER(line));
            if (display->terminal)
                g_string_append_c(out, '\n');
        }
        below = g_hash_table_size(display->lines) + 1 - line;
        if (display->terminal && below > 0)
            g_string_append_printf(out, "\033[%uA", below);
    } else {
        g_hash_table_remove_all(display->lines);
    }
    show_message(display, message, out);
    if (*id && display->terminal && below > 0)
        g_string_append_printf(out, "\033[%uB", below);
}

static bool take_message(struct display *display, const json_t *message, GString *out, int *ret_code, GError **error)
{
    const struct progress_options *options = display->options;
    const json_t *detail = json_get_object(message, "errorDetail");
    const char *plain = json_get_string(message, "error", NULL);
    if (detail || plain) {
        const char *text = json_get_string(detail, "message", plain ? plain : "");
        *ret_code = (int)json_get_int(detail, "code", 0);
        if (*ret_code == 401)
            text = "authentication is required";
        return error_set(error, TARE_ERROR_INTERNAL, "%s", text);
    }
    const json_t *aux = json_object_get(message, "aux");
    if (aux && !json_is_null(aux)) {
        if (options->aux)
            options->aux(aux, options->user);
        return true;
    }
    if (options->quiet_text)
        g_string_append(options->quiet_text, json_get_string(message, "stream", ""));
    else if (!options->quiet)
        show_placed(display, message, out);
    return true;
}

/* Takes every whole message out of pending. */
static bool take_messages(struct display *display, GByteArray *pending, GString *out, int *ret_code, GError **error)
{
    gsize at = 0;
    bool ok = true;
    while (ok && at < pending->len) {
        const char *text = (char *)pending->data + at;
        if (*text != '{') {
            at++;
            continue;
        }
        gsize length = message_length(text, pending->len - at);
        if (length == 0)
            break;
        g_autoptr(json_t) message = json_parse(text, length, MESSAGE_MAX, "message of the engine", error);
        ok = message && take_message(display, message, out, ret_code, error);
        at += length;
    }
    g_byte_array_remove_range(pending, 0, (guint)at);
    return ok && (pending->len <= MESSAGE_MAX || error_set(error, TARE_ERROR_TOO_LARGE, "message of the engine is too large"));
}

bool progress_show(struct response *response, const struct progress_options *options, int *ret_code, GError **error)
{
    g_autoptr(GByteArray) pending = g_byte_array_new();
    g_autoptr(GString) out = g_string_new(NULL);
    g_autofree char *buffer = g_malloc(65536);
    struct display display = { .options = options,
                               .terminal = is_terminal(options->fd),
                               .width = terminal_width(options->fd, 200),
                               .lines = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL) };
    int code = 0;
    bool ok = true;
    gssize n = 0;
    fflush(stdout);
    while (ok && (n = response_read(response, buffer, 65536, error)) > 0) {
        g_byte_array_append(pending, (guint8 *)buffer, (guint)n);
        ok = take_messages(&display, pending, out, &code, error);
        fd_write_full(options->fd, out->str, out->len);
        g_string_truncate(out, 0);
    }
    g_hash_table_unref(display.lines);
    if (ret_code)
        *ret_code = code;
    return ok && n == 0;
}
