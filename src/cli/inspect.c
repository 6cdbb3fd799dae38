/* inspect, of one kind of object or of whichever kind bears the name. */
#include "cli/cli-internal.h"

#include <string.h>

#define STATUS_BAD_TEMPLATE 64

struct kind {
    const char *name;       /* --type */
    const char *collection; /* in the API's paths */
    const char *tail;
    const char *type; /* that docker decodes the answer into; NULL: none */
};

static const struct kind kinds[] = {
    /* in the order in which a name is looked for */
    { "container", "containers", "/json", "container.InspectResponse" },
    { "image", "images", "/json", "image.InspectResponse" },
    { "network", "networks", "", "network.Inspect" },
    { "volume", "volumes", "", "volume.Volume" },
    { "service", "services", "" },
    { "task", "tasks", "" },
    { "secret", "secrets", "" },
    { "config", "configs", "" },
    { "node", "nodes", "" },
    { "plugin", "plugins", "/json" },
};

struct inspection {
    struct cli *cli;
    const struct options *options;
    struct template *template; /* NULL: JSON */
    bool compact;              /* --format json */
    bool typed_only;           /* docker's volume inspect keeps no raw answer */
    enum template_flags flags; /* after a first use of the raw answer docker's template stays strict */
    GString *out;              /* JSON elements, or the template's text */
    guint n;
};

static char *fetch(struct inspection *inspection, const struct kind *kind, const char *name, gsize *ret_length, GError **error)
{
    g_autofree char *path = api_path(kind->collection, name, kind->tail);
    g_autoptr(GString) query = g_string_new(NULL);
    if (strcmp(kind->name, "container") == 0)
        query_add_bool(query, "size", options_bool(inspection->options, "size", false));
    if (strcmp(kind->name, "network") == 0 && options_bool(inspection->options, "verbose", false))
        query_add(query, "verbose", "true");
    if (strcmp(kind->name, "image") == 0 &&
        !query_add_platform(query, "platform", options_string(inspection->options, "platform", NULL), error))
        return NULL;
    struct call call = { .method = "GET", .path = path, .query = query->str };
    return api_text(inspection->cli, &call, ret_length, error);
}

/* An engine says that a kind is not there at all in several ways; then another kind is tried. */
static bool is_absent(const GError *error)
{
    return error_is(error, TARE_ERROR_NOT_FOUND) || error_is(error, TARE_ERROR_UNAVAILABLE) ||
           error_is(error, TARE_ERROR_NOT_IMPLEMENTED) || strstr(error->message, "This node is not a swarm manager") ||
           strstr(error->message, "is not supported");
}

static char *fetch_any(struct inspection *inspection, const char *name, const struct kind **ret_kind, gsize *ret_length,
                       GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(GError) problem = NULL;
        char *text = fetch(inspection, &kinds[i], name, ret_length, &problem);
        if (text) {
            *ret_kind = &kinds[i];
            return text;
        }
        if (!is_absent(problem) || strstr(problem->message, "Cannot connect")) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return NULL;
        }
    }
    error_set(error, TARE_ERROR_NOT_FOUND, "Error: No such object: %s", name);
    return NULL;
}

/* As docker does it: with the structure that it knows, and where that fails with what the engine really sent. */
static bool add_by_template(struct inspection *inspection, const struct kind *kind, json_t *value, GError **error)
{
    gsize before = inspection->out->len;
    g_autoptr(GError) typed = NULL;
    if (!kind->type || !template_execute(inspection->template, kind->type, value, inspection->flags, inspection->out, &typed)) {
        if (inspection->typed_only) {
            g_string_truncate(inspection->out, before);
            g_propagate_prefixed_error(error, g_steal_pointer(&typed), "template parsing error: ");
            return false;
        }
        g_string_truncate(inspection->out, before);
        inspection->flags = TEMPLATE_MISSING_KEY;
        if (!template_execute(inspection->template, TEMPLATE_ANY_TYPE, value, TEMPLATE_MISSING_KEY | TEMPLATE_RAW,
                              inspection->out, error)) {
            g_string_truncate(inspection->out, before);
            g_prefix_error(error, "template parsing error: ");
            return false;
        }
    }
    g_string_append_c(inspection->out, '\n');
    return true;
}

static bool add_element(struct inspection *inspection, const struct kind *kind, const char *text, gsize length, GError **error)
{
    inspection->n++;
    if (inspection->template) {
        g_autoptr(json_t) value = json_parse(text, length, API_JSON_MAX, "answer of the engine", error);
        return value && add_by_template(inspection, kind, value, error);
    }
    g_string_append(inspection->out, inspection->n > 1 ? "," : "");
    g_string_append_len(inspection->out, text, (gssize)length);
    while (inspection->out->len && inspection->out->str[inspection->out->len - 1] == '\n')
        g_string_truncate(inspection->out, inspection->out->len - 1);
    return true;
}

static char *compact_json(const char *text)
{
    GString *out = g_string_new(NULL);
    bool in_string = false;
    for (const char *c = text; *c; c++) {
        if (!in_string && strchr(" \t\r\n", *c))
            continue;
        g_string_append_c(out, *c);
        if (in_string && *c == '\\' && c[1])
            g_string_append_c(out, *++c);
        else if (*c == '"')
            in_string = !in_string;
    }
    return g_string_free(out, FALSE);
}

static void show(const struct inspection *inspection)
{
    if (inspection->template) {
        print("%s", inspection->out->len ? inspection->out->str : "\n");
        return;
    }
    g_autofree char *whole = g_strconcat("[", inspection->out->str, "]", NULL);
    g_autofree char *text = inspection->compact ? compact_json(whole) : json_indent_raw(whole, strlen(whole));
    print("%s\n", text);
}

static int inspect(struct cli *cli, const struct options *options, const char *type, bool typed_only, GError **error)
{
    const char *format = options_string(options, "format", NULL);
    const struct kind *kind = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(kinds) && type; i++)
        if (strcmp(kinds[i].name, type) == 0)
            kind = &kinds[i];
    if (type && !kind)
        return error_set(error, TARE_ERROR_INVALID,
                         "unknown type: \"%s\": must be one of \"config\", \"container\", \"image\", \"network\", \"node\", "
                         "\"plugin\", \"secret\", \"service\", \"task\", \"volume\"",
                         type),
               1;
    g_autoptr(GString) out = g_string_new(NULL), problems = g_string_new(NULL);
    struct inspection inspection = {
        .cli = cli, .options = options, .out = out, .typed_only = typed_only, .compact = format && strcmp(format, "json") == 0
    };
    if (format && *format && !inspection.compact && !(inspection.template = template_parse(format, error))) {
        g_prefix_error(error, "template parsing error: ");
        return STATUS_BAD_TEMPLATE;
    }
    for (char **name = options->args; *name; name++) {
        g_autoptr(GError) problem = NULL;
        const struct kind *found = kind;
        gsize length;
        g_autofree char *text =
            kind ? fetch(&inspection, kind, *name, &length, &problem) : fetch_any(&inspection, *name, &found, &length, &problem);
        if (!text || !add_element(&inspection, found, text, length, &problem))
            errors_add(problems, &problem);
    }
    show(&inspection);
    template_free(inspection.template);
    return errors_finish(problems, error);
}

int cmd_inspect(struct cli *cli, const struct options *options, GError **error)
{
    return inspect(cli, options, options_string(options, "type", NULL), false, error);
}

int cmd_container_inspect(struct cli *cli, const struct options *options, GError **error)
{
    return inspect(cli, options, "container", false, error);
}

int cmd_image_inspect(struct cli *cli, const struct options *options, GError **error)
{
    g_autoptr(GString) query = g_string_new(NULL);
    if (!query_add_platform(query, "platform", options_string(options, "platform", NULL), error)) /* before anything is shown */
        return 1;
    return inspect(cli, options, "image", false, error);
}

int cmd_network_inspect(struct cli *cli, const struct options *options, GError **error)
{
    return inspect(cli, options, "network", false, error);
}

int cmd_volume_inspect(struct cli *cli, const struct options *options, GError **error)
{
    return inspect(cli, options, "volume", true, error);
}
