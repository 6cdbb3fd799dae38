/* --mount type=…,source=…,target=…: one table of its keys. */
#include "cli/create-internal.h"

#include "base/parse.h"

#include <string.h>

enum mount_value {
    MOUNT_TEXT,
    MOUNT_LOWER,
    MOUNT_SOURCE,
    MOUNT_BOOL,
    MOUNT_PAIR,
    MOUNT_BYTES,
    MOUNT_MODE,
    MOUNT_RECURSIVE,
    MOUNT_GONE
};

static const struct mount_key {
    const char *key;
    enum mount_value value;
    const char *object, *inner, *field; /* where it goes: object.inner.field, NULLs left out */
} keys[] = {
    { "type", MOUNT_LOWER, NULL, NULL, "Type" },
    { "source", MOUNT_SOURCE, NULL, NULL, "Source" },
    { "src", MOUNT_SOURCE, NULL, NULL, "Source" },
    { "target", MOUNT_TEXT, NULL, NULL, "Target" },
    { "dst", MOUNT_TEXT, NULL, NULL, "Target" },
    { "destination", MOUNT_TEXT, NULL, NULL, "Target" },
    { "readonly", MOUNT_BOOL, NULL, NULL, "ReadOnly" },
    { "ro", MOUNT_BOOL, NULL, NULL, "ReadOnly" },
    { "consistency", MOUNT_LOWER, NULL, NULL, "Consistency" },
    { "bind-propagation", MOUNT_LOWER, "BindOptions", NULL, "Propagation" },
    { "bind-nonrecursive", MOUNT_BOOL, "BindOptions", NULL, "NonRecursive" },
    { "bind-recursive", MOUNT_RECURSIVE, "BindOptions", NULL, NULL },
    { "volume-subpath", MOUNT_TEXT, "VolumeOptions", NULL, "Subpath" },
    { "volume-nocopy", MOUNT_BOOL, "VolumeOptions", NULL, "NoCopy" },
    { "volume-label", MOUNT_PAIR, "VolumeOptions", NULL, "Labels" },
    { "volume-driver", MOUNT_TEXT, "VolumeOptions", "DriverConfig", "Name" },
    { "volume-opt", MOUNT_PAIR, "VolumeOptions", "DriverConfig", "Options" },
    { "image-subpath", MOUNT_TEXT, "ImageOptions", NULL, "Subpath" },
    { "tmpfs-size", MOUNT_BYTES, "TmpfsOptions", NULL, "SizeBytes" },
    { "tmpfs-mode", MOUNT_MODE, "TmpfsOptions", NULL, "Mode" },
};

static json_t *member(json_t *object, const char *name)
{
    if (!name)
        return object;
    json_t *inner = json_object_get(object, name);
    if (!inner)
        json_object_set_new(object, name, inner = json_object());
    return inner;
}

static bool set_recursive(json_t *bind, const char *value, GError **error)
{
    static const char *const fields[][2] = { { "disabled", "NonRecursive" },
                                             { "writable", "ReadOnlyNonRecursive" },
                                             { "readonly", "ReadOnlyForceRecursive" } };
    for (gsize i = 0; i < G_N_ELEMENTS(fields); i++)
        if (strcmp(fields[i][0], value) == 0) {
            json_object_set_new(bind, fields[i][1], json_true());
            return true;
        }
    return strcmp(value, "enabled") == 0 ||
           error_set(error, TARE_ERROR_INVALID,
                     "invalid value for bind-recursive: %s (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")",
                     value);
}

static void set_pair(json_t *map, const char *pair)
{
    g_autofree char *key = g_strndup(pair, strcspn(pair, "="));
    const char *equals = strchr(pair, '=');
    json_object_set_new(map, key, json_string_lossy(equals ? equals + 1 : ""));
}

static bool set_key(json_t *mount, const struct mount_key *key, const char *name, const char *value, GError **error)
{
    json_t *object = member(member(mount, key->object), key->inner);
    bool flag = true;
    gint64 bytes;
    guint64 mode;
    g_autofree char *text = NULL;
    switch (key->value) {
    case MOUNT_BOOL:
        if (value && !parse_bool(value, &flag))
            return error_set(error, TARE_ERROR_INVALID, "invalid value for %s: %s", name, value);
        json_object_set_new(object, key->field, json_boolean(flag));
        return true;
    case MOUNT_PAIR:
        set_pair(member(object, key->field), value);
        return true;
    case MOUNT_BYTES:
        if (!parse_ram_bytes(value, &bytes))
            return error_set(error, TARE_ERROR_INVALID, "invalid value for %s: %s", name, value);
        json_object_set_new(object, key->field, json_integer(bytes));
        return true;
    case MOUNT_MODE:
        if (!parse_octal(value, G_MAXUINT32, &mode))
            return error_set(error, TARE_ERROR_INVALID, "invalid value for %s: %s", name, value);
        json_object_set_new(object, key->field, json_integer((json_int_t)mode));
        return true;
    case MOUNT_RECURSIVE:
        return set_recursive(object, value, error);
    case MOUNT_LOWER:
        text = g_ascii_strdown(value, -1);
        break;
    case MOUNT_SOURCE:
        text = *value == '.' ? g_canonicalize_filename(value, NULL) : g_strdup(value);
        break;
    default:
        text = g_strdup(value);
    }
    json_object_set_new(object, key->field, json_string_lossy(text));
    return true;
}

static bool parse_field(json_t *mount, const char *field, GError **error)
{
    const char *equals = strchr(field, '=');
    g_autofree char *written = g_strndup(field, strcspn(field, "=")), *name = g_ascii_strdown(written, -1);
    const struct mount_key *key = NULL;
    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++)
        if (strcmp(keys[i].key, name) == 0)
            key = &keys[i];
    if (!equals && (!key || key->value != MOUNT_BOOL))
        return error_set(error, TARE_ERROR_INVALID, "invalid field '%s' must be a key=value pair", field);
    if (equals && !equals[1])
        return error_set(error, TARE_ERROR_INVALID, "invalid value for '%s': value is empty", written);
    if (!key)
        return error_set(error, TARE_ERROR_INVALID, "unexpected key '%s' in '%s'", name, field);
    return set_key(mount, key, name, equals ? equals + 1 : NULL, error);
}

/* Options of one type with a mount of another are mistakes that would else be lost in silence. */
static bool check_type(const json_t *mount, GError **error)
{
    static const char *const types[][2] = {
        { "VolumeOptions", "volume" }, { "BindOptions", "bind" }, { "TmpfsOptions", "tmpfs" }, { "ImageOptions", "image" }
    };
    const char *type = json_get_string(mount, "Type", "");
    if (!*type)
        return error_set(error, TARE_ERROR_INVALID, "type is required");
    if (!*json_get_string(mount, "Target", ""))
        return error_set(error, TARE_ERROR_INVALID, "target is required");
    for (gsize i = 0; i < G_N_ELEMENTS(types); i++)
        if (json_object_get(mount, types[i][0]) && strcmp(type, types[i][1]) != 0)
            return error_set(error, TARE_ERROR_INVALID, "cannot mix '%s-*' options with mount type '%s'", types[i][1], type);
    return true;
}

json_t *create_parse_mount(const char *text, GError **error)
{
    g_autoptr(json_t) mount = json_pack("{s:s}", "Type", "volume");
    g_auto(GStrv) fields = g_strsplit(text, ",", -1);
    for (char **field = fields; *field; field++)
        if (!parse_field(mount, *field, error))
            return NULL;
    return check_type(mount, error) ? g_steal_pointer(&mount) : NULL;
}
