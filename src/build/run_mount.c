/* RUN --mount=type=…,…: the text of a mount → what it says. Pure. */
#include "base/parse.h"
#include "build/build-internal.h"

#include <string.h>

static const char *const type_names[] = {
    [RUN_MOUNT_BIND] = "bind",     [RUN_MOUNT_CACHE] = "cache", [RUN_MOUNT_TMPFS] = "tmpfs",
    [RUN_MOUNT_SECRET] = "secret", [RUN_MOUNT_SSH] = "ssh",
};
static const char *const sharing_names[] = {
    [RUN_MOUNT_SHARED] = "shared",
    [RUN_MOUNT_PRIVATE] = "private",
    [RUN_MOUNT_LOCKED] = "locked",
};

struct parsed {
    struct run_mount mount;
    bool read_only_given, sharing_given;
};

void run_mount_free(struct run_mount *mount)
{
    if (!mount)
        return;
    g_free(mount->from);
    g_free(mount->source);
    g_free(mount->target);
    g_free(mount->id);
    g_free(mount->env);
    g_free(mount);
}

/* ---- fields of a line of CSV ---- */

/* NULL and an error for a quote without its end. */
static char *take_field(const char **at, GError **error)
{
    GString *field = g_string_new(NULL);

    if (**at != '"') {
        gsize length = strcspn(*at, ",");

        g_string_append_len(field, *at, (gssize)length);
        *at += length;
        return g_string_free(field, FALSE);
    }
    for ((*at)++; **at; (*at)++) {
        if (**at == '"' && *++*at != '"')
            break;
        g_string_append_c(field, **at);
    }
    if ((*at)[-1] == '"' && (!**at || **at == ','))
        return g_string_free(field, FALSE);
    g_string_free(field, TRUE);
    error_set(error, TARE_ERROR_INVALID, "failed to parse csv mounts: a quote that is not closed");
    return NULL;
}

static GPtrArray *split_fields(const char *text, GError **error)
{
    GPtrArray *fields = g_ptr_array_new_with_free_func(g_free);

    for (;;) {
        char *field = take_field(&text, error);

        if (!field) {
            g_ptr_array_unref(fields);
            return NULL;
        }
        g_ptr_array_add(fields, field);
        if (!*text)
            return fields;
        text++;
    }
}

/* ---- values ---- */

static bool bad_value(const char *key, const char *value, GError **error)
{
    return error_set(error, TARE_ERROR_INVALID, "invalid value for %s: %s", key, value);
}

static int find_name(const char *const *names, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++)
        if (g_ascii_strcasecmp(names[i], text) == 0)
            return (int)i;
    return -1;
}

static bool set_type(struct parsed *parsed, const char *key, const char *value, GError **error)
{
    int type = find_name(type_names, G_N_ELEMENTS(type_names), value);

    if (type < 0)
        return error_set(error, TARE_ERROR_INVALID, "unsupported mount type \"%s\"", value);
    parsed->mount.type = (enum run_mount_type)type;
    return true;
}

static bool set_sharing(struct parsed *parsed, const char *key, const char *value, GError **error)
{
    int sharing = find_name(sharing_names, G_N_ELEMENTS(sharing_names), value);

    if (sharing < 0)
        return error_set(error, TARE_ERROR_INVALID, "unsupported sharing value \"%s\"", value);
    parsed->mount.sharing = (enum run_mount_sharing)sharing;
    parsed->sharing_given = true;
    return true;
}

static bool parse_switch(const char *key, const char *value, bool *ret, GError **error)
{
    static const char *const yes[] = { "1", "t", "true" }, *const no[] = { "0", "f", "false" };

    *ret = find_name(yes, G_N_ELEMENTS(yes), value) >= 0;
    return *ret || find_name(no, G_N_ELEMENTS(no), value) >= 0 || bad_value(key, value, error);
}

static bool set_read_only(struct parsed *parsed, const char *key, const char *value, GError **error)
{
    parsed->read_only_given = true;
    return parse_switch(key, value, &parsed->mount.read_only, error);
}

static bool set_read_write(struct parsed *parsed, const char *key, const char *value, GError **error)
{
    bool writable;

    if (!parse_switch(key, value, &writable, error))
        return false;
    parsed->read_only_given = true;
    parsed->mount.read_only = !writable;
    return true;
}

static bool unexpected_key(const struct parsed *parsed, const char *key, GError **error)
{
    return error_set(error, TARE_ERROR_INVALID, "unexpected key '%s' for mount type '%s'", key, type_names[parsed->mount.type]);
}

static bool set_required(struct parsed *parsed, const char *key, const char *value, GError **error)
{
    if (parsed->mount.type != RUN_MOUNT_SECRET && parsed->mount.type != RUN_MOUNT_SSH)
        return unexpected_key(parsed, key, error);
    return parse_switch(key, value, &parsed->mount.required, error);
}

static bool set_size(struct parsed *parsed, const char *key, const char *value, GError **error)
{
    if (parsed->mount.type != RUN_MOUNT_TMPFS)
        return unexpected_key(parsed, key, error);
    return (parse_ram_bytes(value, &parsed->mount.size) && parsed->mount.size >= 0) || bad_value(key, value, error);
}

static bool set_mode(struct parsed *parsed, const char *key, const char *value, GError **error)
{
    guint64 mode;

    if (!parse_octal(value, 07777, &mode))
        return error_set(error, TARE_ERROR_INVALID, "invalid value %s for mode", value);
    parsed->mount.mode = (int)mode;
    return true;
}

static bool set_id_number(struct parsed *parsed, const char *key, const char *value, GError **error)
{
    guint64 id;

    if (!parse_uint(value, G_MAXUINT32 - 1, &id))
        return error_set(error, TARE_ERROR_INVALID, "invalid value %s for %s", value, key);
    *(g_str_equal(key, "uid") ? &parsed->mount.uid : &parsed->mount.gid) = (gint64)id;
    return true;
}

static bool set_text(struct parsed *parsed, const char *key, const char *value, GError **error)
{
    struct run_mount *mount = &parsed->mount;
    char **member = g_str_equal(key, "from")                                ? &mount->from
                    : g_str_equal(key, "source") || g_str_equal(key, "src") ? &mount->source
                    : g_str_equal(key, "id")                                ? &mount->id
                    : g_str_equal(key, "env")                               ? &mount->env
                                                                            : &mount->target;

    g_free(*member);
    *member = g_strdup(value);
    return true;
}

static const struct {
    const char *key;
    bool (*set)(struct parsed *parsed, const char *key, const char *value, GError **error);
    bool value_optional;
} keys[] = {
    { "type", set_type },
    { "from", set_text },
    { "source", set_text },
    { "src", set_text },
    { "target", set_text },
    { "dst", set_text },
    { "destination", set_text },
    { "id", set_text },
    { "env", set_text },
    { "sharing", set_sharing },
    { "size", set_size },
    { "mode", set_mode },
    { "uid", set_id_number },
    { "gid", set_id_number },
    { "required", set_required, true },
    { "ro", set_read_only, true },
    { "readonly", set_read_only, true },
    { "rw", set_read_write, true },
    { "readwrite", set_read_write, true },
};

static bool set_field(struct parsed *parsed, const char *field, GHashTable *variables, char escape, GError **error)
{
    const char *equals = strchr(field, '=');
    g_autofree char *key = g_ascii_strdown(field, equals ? equals - field : -1), *value = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (!g_str_equal(keys[i].key, key))
            continue;
        if (!equals && !keys[i].value_optional)
            break;
        value = equals ? expand_word(equals + 1, variables, escape, error) : g_strdup("true");
        return value && keys[i].set(parsed, key, value, error);
    }
    if (!equals)
        return error_set(error, TARE_ERROR_INVALID, "invalid field '%s' must be a key=value pair", field);
    return error_set(error, TARE_ERROR_INVALID, "unexpected key '%s' in '%s'", key, field);
}

/* ---- the whole ---- */

static bool check_secret(const struct parsed *parsed, GError **error)
{
    const struct run_mount *mount = &parsed->mount;

    if (mount->from)
        return error_set(error, TARE_ERROR_INVALID, "secret mount should not have a from");
    if (!mount->source && !mount->target && !mount->id)
        return error_set(error, TARE_ERROR_INVALID, "invalid secret mount. one of source, target required");
    if (mount->source && mount->id)
        return error_set(error, TARE_ERROR_INVALID, "both source and id can't be set");
    return true;
}

static bool check_mount(const struct parsed *parsed, GError **error)
{
    const struct run_mount *mount = &parsed->mount;
    const char *type = type_names[mount->type];
    bool owner_allowed = mount->type == RUN_MOUNT_SECRET || mount->type == RUN_MOUNT_SSH || mount->type == RUN_MOUNT_CACHE;
    bool needs_target = mount->type != RUN_MOUNT_SECRET && mount->type != RUN_MOUNT_SSH;

    if (!owner_allowed && mount->mode >= 0)
        return error_set(error, TARE_ERROR_INVALID, "mode not allowed for \"%s\" type mounts", type);
    if (!owner_allowed && mount->uid >= 0)
        return error_set(error, TARE_ERROR_INVALID, "uid not allowed for \"%s\" type mounts", type);
    if (!owner_allowed && mount->gid >= 0)
        return error_set(error, TARE_ERROR_INVALID, "gid not allowed for \"%s\" type mounts", type);
    if (parsed->sharing_given && mount->type != RUN_MOUNT_CACHE)
        return error_set(error, TARE_ERROR_INVALID, "invalid cache sharing set for %s mount", type);
    if (mount->type == RUN_MOUNT_SSH && mount->source)
        return error_set(error, TARE_ERROR_INVALID, "ssh does not support source");
    if (needs_target && (!mount->target || !*mount->target))
        return error_set(error, TARE_ERROR_INVALID, "invalid mount target \"\"");
    return mount->type != RUN_MOUNT_SECRET || check_secret(parsed, error);
}

static bool parse_fields(const GPtrArray *fields, GHashTable *variables, char escape, struct parsed *parsed, GError **error)
{
    for (guint i = 0; i < fields->len; i++)
        if (!set_field(parsed, fields->pdata[i], variables, escape, error))
            return false;
    if (!parsed->read_only_given)
        parsed->mount.read_only = parsed->mount.type != RUN_MOUNT_CACHE && parsed->mount.type != RUN_MOUNT_TMPFS;
    return check_mount(parsed, error);
}

/* Values wait for their variables; from= must not have any, since the graph of stages is made of it. */
static bool check_unexpanded(const GPtrArray *fields, GError **error)
{
    for (guint i = 0; i < fields->len; i++) {
        const char *field = fields->pdata[i], *dollar = strchr(field, '$');

        if (g_ascii_strncasecmp(field, "from=", 5) == 0 && dollar && dollar[1])
            return error_set(error, TARE_ERROR_INVALID, "'from' doesn't support variable expansion, define alias stage instead");
    }
    return true;
}

bool run_mount_parse(const char *text, GHashTable *variables, char escape, struct run_mount **ret, GError **error)
{
    struct parsed parsed = { .mount = { .mode = -1, .uid = -1, .gid = -1 } };
    g_autoptr(GPtrArray) fields = split_fields(text, error);
    struct run_mount *mount;

    if (!fields || !check_unexpanded(fields, error))
        return false;
    if (!variables)
        return true;
    mount = g_new0(struct run_mount, 1);
    if (parse_fields(fields, variables, escape, &parsed, error)) {
        *mount = parsed.mount;
        *ret = mount;
        return true;
    }
    *mount = parsed.mount;
    run_mount_free(mount);
    return false;
}

char *run_mount_from(const char *text)
{
    g_autoptr(GPtrArray) fields = split_fields(text, NULL);
    char *from = NULL;

    for (guint i = 0; fields && i < fields->len; i++) {
        if (g_ascii_strncasecmp(fields->pdata[i], "from=", 5) != 0)
            continue;
        g_free(from);
        from = g_strdup((const char *)fields->pdata[i] + 5);
    }
    return from;
}
