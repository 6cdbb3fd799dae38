/* What the shim is told of a container's log: --log-driver and --log-opt. */
#include "container/container-internal.h"

#include "base/parse.h"

#include <string.h>

#define LOG_FILES_MAX 10000
#define NAMES_MAX 256

/* Names that are listed, or that match. */
struct chosen {
    char **names;
    GRegex *regex; /* NULL: none */
};

static struct chosen chosen_new(const json_t *options, const char *list, const char *regex)
{
    const char *pattern = json_get_string(options, regex, "");
    return (struct chosen){ g_strsplit(json_get_string(options, list, ""), ",", NAMES_MAX),
                            *pattern ? g_regex_new(pattern, 0, 0, NULL) : NULL };
}

static bool is_chosen(const struct chosen *chosen, const char *name)
{
    return g_strv_contains((const char *const *)chosen->names, name) ||
           (chosen->regex && g_regex_match(chosen->regex, name, 0, NULL));
}

static void chosen_clear(const struct chosen *chosen)
{
    g_strfreev(chosen->names);
    if (chosen->regex)
        g_regex_unref(chosen->regex);
}

/* --log-opt tag=: the fields of Docker's log tags. */
static void add_tag(struct container *container, const char *tag, json_t *attributes)
{
    if (!*tag)
        return;
    const char *image = container->image_id;
    const char *bare = g_str_has_prefix(image, "sha256:") ? image + strlen("sha256:") : image;
    g_autofree char *name = container_get_name(container);
    g_autofree char *short_id = g_strndup(container->id, IDENTIFIER_SHORT);
    g_autofree char *short_image = g_strndup(bare, IDENTIFIER_SHORT);
    const char *const fields[][2] = {
        { "{{.ID}}", short_id },        { "{{.FullID}}", container->id },
        { "{{.Name}}", name },          { "{{.ImageID}}", short_image },
        { "{{.ImageFullID}}", image },  { "{{.ImageName}}", json_get_string(container->config, "Image", "") },
        { "{{.DaemonName}}", "docker" }
    };
    g_autoptr(GString) text = g_string_new(tag);
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++)
        g_string_replace(text, fields[i][0], fields[i][1], 0);
    json_object_set_new(attributes, "tag", json_string(text->str));
}

static bool log_size(const json_t *options, const char *key, gint64 *ret, GError **error)
{
    const char *text = json_get_string(options, key, "");
    *ret = 0;
    if (!*text || !strcmp(text, "-1"))
        return true;
    return (parse_ram_bytes(text, ret) && *ret >= 0) ||
           error_set(error, TARE_ERROR_INVALID, "failed to initialize logging driver: invalid size: '%s'", text);
}

/* The labels that --log-opt labels= and env= name, as attributes of each log entry. */
static json_t *log_labels(struct container *container, const json_t *options)
{
    json_t *attributes = json_object();
    const struct chosen labels = chosen_new(options, "labels", "labels-regex"),
                        variables = chosen_new(options, "env", "env-regex");
    const json_t *own = json_get_object(container->config, "Labels");
    const char *label;
    size_t i;
    json_t *value;
    json_object_foreach((json_t *)own, label, value) if (is_chosen(&labels, label)) json_object_set(attributes, label, value);
    json_array_foreach(json_get_array(container->config, "Env"), i, value)
    {
        const char *text = json_string_value(value);
        g_autofree char *name = g_strndup(text, strcspn(text, "="));
        if (*name && text[strlen(name)] && is_chosen(&variables, name))
            json_object_set_new(attributes, name, json_string(text + strlen(name) + 1));
    }
    chosen_clear(&labels);
    chosen_clear(&variables);
    add_tag(container, json_get_string(options, "tag", ""), attributes);
    return attributes;
}

json_t *log_configuration(struct container *container, const json_t *host_config, GError **error)
{
    const json_t *log = json_get_object(host_config, "LogConfig"), *options = json_get_object(log, "Config");
    g_autofree char *path = container_log_path(container);
    gint64 max_size;
    guint64 max_file = 1;
    const char *files = json_get_string(options, "max-file", "");
    if (!log_size(options, "max-size", &max_size, error))
        return NULL;
    if (*files && (!parse_uint(files, LOG_FILES_MAX, &max_file) || max_file == 0)) {
        error_set(error, TARE_ERROR_INVALID,
                  files[0] == '0' || files[0] == '-' ? "failed to initialize logging driver: max-file cannot be less than 1"
                                                     : "failed to initialize logging driver: invalid max-file");
        return NULL;
    }
    return json_pack("{s:s, s:s, s:I, s:I, s:o}", "driver", json_get_string(log, "Type", "json-file"), "path", path, "max_size",
                     (json_int_t)max_size, "max_file", (json_int_t)max_file, "labels", log_labels(container, options));
}
