/* system events. */
#include "cli/cli-internal.h"

#include "base/timestamp.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EVENT_MAX (4u << 20)

static gint by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Nine digits and the local offset: "2026-11-24T08:16:46.929083688Z". */
static void print_time(gint64 ns)
{
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm local;
    char date[32];
    localtime_r(&seconds, &local);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &local);
    print("%s.%09" G_GINT64_FORMAT, date, ns % 1000000000);
    if (local.tm_gmtoff == 0)
        print("Z ");
    else
        print("%+03d:%02d ", (int)(local.tm_gmtoff / 3600), (int)(ABS(local.tm_gmtoff) / 60 % 60));
}

static void print_event(const json_t *event)
{
    gint64 ns = json_get_int(event, "timeNano", json_get_int(event, "time", 0) * 1000000000);
    const json_t *actor = json_get_object(event, "Actor"), *attributes = json_get_object(actor, "Attributes");
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    const char *key;
    json_t *value;
    if (ns)
        print_time(ns);
    print("%s %s %s", json_get_string(event, "Type", ""), json_get_string(event, "Action", ""), json_get_string(actor, "ID", ""));
    json_object_foreach((json_t *)attributes, key, value)
        g_ptr_array_add(texts, g_strdup_printf("%s=%s", key, json_is_string(value) ? json_string_value(value) : ""));
    g_ptr_array_sort(texts, by_text);
    g_ptr_array_add(texts, NULL);
    g_autofree char *joined = g_strjoinv(", ", (char **)texts->pdata);
    print(*joined ? " (%s)\n" : "\n", joined);
}

/* The API's small names as the template's fields. */
static json_t *template_data(json_t *event)
{
    static const char *const names[][2] = { { "Status", "status" }, { "ID", "id" },     { "From", "from" },
                                            { "Scope", "scope" },   { "Time", "time" }, { "TimeNano", "timeNano" } };
    json_t *data = json_copy(event);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        json_t *value = json_object_get(event, names[i][1]);
        json_object_set_new(data, names[i][0], value ? json_incref(value) : json_string(""));
    }
    return data;
}

static bool show_event(const struct template *template, bool as_json, json_t *event, GError **error)
{
    if (as_json) {
        char *text = json_dumps(event, JSON_COMPACT); /* unlike elsewhere docker leaves < and > as they are */
        print("%s\n", text ? text : "");
        free(text);
        return true;
    }
    if (!template) {
        print_event(event);
        return true;
    }
    g_autoptr(json_t) data = template_data(event);
    g_autoptr(GString) out = g_string_new(NULL);
    if (!template_execute(template, "events.Message", data, 0, out, error))
        return false;
    print("%s\n", out->str);
    return true;
}

static bool follow(struct response *response, const struct template *template, bool as_json, GError **error)
{
    g_autoptr(GByteArray) pending = g_byte_array_new();
    char buffer[16384];
    gssize n;
    while ((n = response_read(response, buffer, sizeof buffer, error)) > 0) {
        g_byte_array_append(pending, (guint8 *)buffer, (guint)n);
        for (;;) {
            guint8 *end = pending->len ? memchr(pending->data, '\n', pending->len) : NULL;
            if (!end)
                break;
            gsize length = (gsize)(end - pending->data);
            g_autoptr(json_t) event = length > 1 ? json_parse((char *)pending->data, length, EVENT_MAX, "event", error) : NULL;
            if (length > 1 && (!event || !show_event(template, as_json, event, error)))
                return false;
            g_byte_array_remove_range(pending, 0, (guint)length + 1);
        }
        fflush(stdout);
        if (pending->len > EVENT_MAX)
            return error_set(error, TARE_ERROR_TOO_LARGE, "event is too large");
    }
    return n == 0;
}

int cmd_system_events(struct cli *cli, const struct options *options, GError **error)
{
    const char *format = options_string(options, "format", NULL), *since_text = options_string(options, "since", ""),
               *until_text = options_string(options, "until", "");
    bool as_json = format && (strcmp(format, "json") == 0 || strcmp(format, "{{json .}}") == 0);
    g_autoptr(GError) problem = NULL;
    g_autofree char *since = time_text(since_text, &problem), *until = problem ? NULL : time_text(until_text, &problem);
    if (problem) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return 1;
    }
    struct template *template = format && !as_json ? template_parse(format, error) : NULL;
    if (format && !as_json && !template) {
        g_prefix_error(error, "Error parsing format: ");
        return 64;
    }
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "since", since);
    query_add(query, "until", until);
    query_add_filters(query, options);
    struct call call = { .method = "GET", .path = "/events", .query = query->str };
    g_autoptr(response_t) response = api_call(cli, &call, error);
    bool ok = response && follow(response, template, as_json, error);
    template_free(template);
    return ok ? 0 : 1;
}
