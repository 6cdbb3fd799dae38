/* The run config ("config" of an image's document) as Docker writes it. */
#include "image/image-internal.h"

#include <string.h>

enum absent { AS_TEXT, AS_FALSE, AS_NULL, LEFT_OUT };

static const struct {
    const char *name;
    enum absent absent;
} members[] = {
    { "Hostname", AS_TEXT },      { "Domainname", AS_TEXT },    { "User", AS_TEXT },          { "AttachStdin", AS_FALSE },
    { "AttachStdout", AS_FALSE }, { "AttachStderr", AS_FALSE }, { "ExposedPorts", LEFT_OUT }, { "Tty", AS_FALSE },
    { "OpenStdin", AS_FALSE },    { "StdinOnce", AS_FALSE },    { "Env", AS_NULL },           { "Cmd", AS_NULL },
    { "Healthcheck", LEFT_OUT },  { "ArgsEscaped", LEFT_OUT },  { "Image", AS_TEXT },         { "Volumes", AS_NULL },
    { "WorkingDir", AS_TEXT },    { "Entrypoint", AS_NULL },    { "OnBuild", AS_NULL },       { "Labels", AS_NULL },
    { "StopSignal", LEFT_OUT },   { "StopTimeout", LEFT_OUT },  { "Shell", LEFT_OUT },
};

static json_t *sorted_object(const json_t *object)
{
    g_autofree char *text = json_dumps(object, JSON_SORT_KEYS | JSON_COMPACT);

    return json_loads(text, 0, NULL);
}

static json_t *value_when_absent(enum absent absent)
{
    switch (absent) {
    case AS_TEXT:
        return json_string("");
    case AS_FALSE:
        return json_false();
    case AS_NULL:
        return json_null();
    case LEFT_OUT:
        return NULL;
    }
    g_assert_not_reached();
}

json_t *image_canonical_config(const json_t *config)
{
    json_t *canonical = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(members); i++) {
        const char *name = members[i].name;
        json_t *value = json_object_get(config, name);
        bool is_map = g_str_equal(name, "ExposedPorts") || g_str_equal(name, "Volumes") || g_str_equal(name, "Labels");

        if (!value || json_is_null(value)) {
            value = value_when_absent(members[i].absent);
            if (value)
                json_object_set_new(canonical, name, value);
        } else {
            json_object_set_new(canonical, name, is_map ? sorted_object(value) : json_deep_copy(value));
        }
    }
    return canonical;
}
