/* The specification's mounts: option words become attribute bits, propagation, and what the file system itself is told. */
#include "runtime/runtime-internal.h"

#include <linux/mount.h>
#include <string.h>
#include <sys/mount.h>

enum option_kind {
    OPTION_SET,
    OPTION_CLEAR,
    OPTION_TIME,
    OPTION_RSET,
    OPTION_RCLEAR,
    OPTION_BIND,
    OPTION_PROPAGATION,
    OPTION_REFUSED,
    OPTION_IGNORED
};

static const struct {
    const char *name;
    enum option_kind kind;
    guint64 value;
} option_words[] = {
    { "ro", OPTION_SET, MOUNT_ATTR_RDONLY },
    { "rw", OPTION_CLEAR, MOUNT_ATTR_RDONLY },
    { "nosuid", OPTION_SET, MOUNT_ATTR_NOSUID },
    { "suid", OPTION_CLEAR, MOUNT_ATTR_NOSUID },
    { "nodev", OPTION_SET, MOUNT_ATTR_NODEV },
    { "dev", OPTION_CLEAR, MOUNT_ATTR_NODEV },
    { "noexec", OPTION_SET, MOUNT_ATTR_NOEXEC },
    { "exec", OPTION_CLEAR, MOUNT_ATTR_NOEXEC },
    { "nodiratime", OPTION_SET, MOUNT_ATTR_NODIRATIME },
    { "diratime", OPTION_CLEAR, MOUNT_ATTR_NODIRATIME },
    { "nosymfollow", OPTION_SET, MOUNT_ATTR_NOSYMFOLLOW },
    { "symfollow", OPTION_CLEAR, MOUNT_ATTR_NOSYMFOLLOW },
    { "noatime", OPTION_TIME, MOUNT_ATTR_NOATIME },
    { "strictatime", OPTION_TIME, MOUNT_ATTR_STRICTATIME },
    { "relatime", OPTION_TIME, MOUNT_ATTR_RELATIME },
    { "atime", OPTION_TIME, MOUNT_ATTR_RELATIME },
    { "norelatime", OPTION_IGNORED, 0 },
    { "nostrictatime", OPTION_IGNORED, 0 },
    { "rro", OPTION_RSET, MOUNT_ATTR_RDONLY },
    { "rrw", OPTION_RCLEAR, MOUNT_ATTR_RDONLY },
    { "rnosuid", OPTION_RSET, MOUNT_ATTR_NOSUID },
    { "rsuid", OPTION_RCLEAR, MOUNT_ATTR_NOSUID },
    { "rnodev", OPTION_RSET, MOUNT_ATTR_NODEV },
    { "rdev", OPTION_RCLEAR, MOUNT_ATTR_NODEV },
    { "rnoexec", OPTION_RSET, MOUNT_ATTR_NOEXEC },
    { "rexec", OPTION_RCLEAR, MOUNT_ATTR_NOEXEC },
    { "rnosymfollow", OPTION_RSET, MOUNT_ATTR_NOSYMFOLLOW },
    { "rsymfollow", OPTION_RCLEAR, MOUNT_ATTR_NOSYMFOLLOW },
    { "bind", OPTION_BIND, 0 },
    { "rbind", OPTION_BIND, 1 },
    { "private", OPTION_PROPAGATION, MS_PRIVATE },
    { "rprivate", OPTION_PROPAGATION, MS_PRIVATE | MS_REC },
    { "slave", OPTION_PROPAGATION, MS_SLAVE },
    { "rslave", OPTION_PROPAGATION, MS_SLAVE | MS_REC },
    { "shared", OPTION_PROPAGATION, MS_SHARED },
    { "rshared", OPTION_PROPAGATION, MS_SHARED | MS_REC },
    { "unbindable", OPTION_PROPAGATION, MS_UNBINDABLE },
    { "runbindable", OPTION_PROPAGATION, MS_UNBINDABLE | MS_REC },
    { "tmpcopyup", OPTION_REFUSED, 0 },
    { "idmap", OPTION_REFUSED, 0 },
    { "ridmap", OPTION_REFUSED, 0 },
    { "defaults", OPTION_IGNORED, 0 },
    { "async", OPTION_IGNORED, 0 },
    { "loud", OPTION_IGNORED, 0 },
    { "nomand", OPTION_IGNORED, 0 },
    { "mand", OPTION_IGNORED, 0 },
    { "iversion", OPTION_IGNORED, 0 },
    { "noiversion", OPTION_IGNORED, 0 },
};

static void option_clear(void *option)
{
    g_free(((struct plan_option *)option)->key);
    g_free(((struct plan_option *)option)->value);
}

static void apply_word(struct plan_mount *mount, enum option_kind kind, guint64 value)
{
    switch (kind) {
    case OPTION_SET:
        mount->set |= value;
        mount->clear &= ~value;
        break;
    case OPTION_CLEAR:
        mount->clear |= value;
        mount->set &= ~value;
        break;
    case OPTION_TIME:
        /* The access time is one field of the attributes: it is cleared whole and set anew. */
        mount->clear |= MOUNT_ATTR__ATIME;
        mount->set = (mount->set & ~(guint64)MOUNT_ATTR__ATIME) | value;
        break;
    case OPTION_RSET:
        mount->recursive_set |= value;
        mount->recursive_clear &= ~value;
        break;
    case OPTION_RCLEAR:
        mount->recursive_clear |= value;
        mount->recursive_set &= ~value;
        break;
    case OPTION_BIND:
        mount->bind = true;
        mount->recursive |= value != 0;
        break;
    case OPTION_PROPAGATION:
        mount->propagation = value & ~(guint64)MS_REC;
        mount->propagation_recursive = (value & MS_REC) != 0;
        break;
    case OPTION_REFUSED:
        break;
    case OPTION_IGNORED:
        break;
    }
}

bool plan_mount_option(struct plan_mount *mount, const char *option)
{
    for (size_t i = 0; i < G_N_ELEMENTS(option_words); i++)
        if (strcmp(option_words[i].name, option) == 0)
            return apply_word(mount, option_words[i].kind, option_words[i].value), option_words[i].kind != OPTION_REFUSED;
    const char *equals = strchr(option, '=');
    struct plan_option own = { equals ? g_strndup(option, (gsize)(equals - option)) : g_strdup(option),
                               equals ? g_strdup(equals + 1) : NULL };
    g_array_append_val(mount->options, own);
    return true;
}

static bool parse_options(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct plan_field field = { "options", PLAN_STRINGS, 0 };
    struct plan_mount *mount = out;
    g_auto(GStrv) words = NULL;
    g_autoptr(json_t) holder = json_pack("{s:O}", "options", value);
    g_autofree char *parent = g_strndup(path, strlen(path) - strlen(".options"));
    if (!plan_parse_object(holder, parent, &field, 1, &words, error))
        return false;
    for (size_t i = 0; words && words[i]; i++)
        if (words[i][0] && !plan_mount_option(mount, words[i]))
            return error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "%s[%zu]: option \"%s\" is not implemented", path, i, words[i]);
    return true;
}

/* An idmapped mount would be silently a plain one: better said than done wrong. */
static bool refuse_mappings(const json_t *value, const char *path, void *out, GError **error)
{
    if (json_array_size(value) == 0)
        return true;
    return error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "%s: id-mapped mounts are not implemented", path);
}

static bool parse_mount(const json_t *value, const char *path, void *out, GError **error)
{
    static const struct plan_field fields[] = {
        { "destination", PLAN_STRING, offsetof(struct plan_mount, destination), .required = true },
        { "type", PLAN_STRING, offsetof(struct plan_mount, type) },
        { "source", PLAN_STRING, offsetof(struct plan_mount, source) },
        { "options", PLAN_CUSTOM, 0, .parse = parse_options },
        { "uidMappings", PLAN_CUSTOM, 0, .parse = refuse_mappings },
        { "gidMappings", PLAN_CUSTOM, 0, .parse = refuse_mappings },
    };
    struct plan_mount *mount = out;
    mount->options = g_array_new(FALSE, TRUE, sizeof(struct plan_option));
    g_array_set_clear_func(mount->options, option_clear);
    if (!plan_parse_object(value, path, fields, G_N_ELEMENTS(fields), out, error))
        return false;
    g_autofree char *where = g_strconcat(path, ".destination", NULL);
    if (mount->destination[0] == '\0')
        return plan_wrong(error, where, "must not be empty");
    if (mount->destination[0] != '/') {
        /* OCI 1.0 tolerated relative ones; they mean the root. */
        char *absolute = g_strconcat("/", mount->destination, NULL);
        g_free(mount->destination);
        mount->destination = absolute;
    }
    if (mount->type && strcmp(mount->type, "bind") == 0 && !mount->bind)
        mount->bind = mount->recursive = true;
    if (mount->bind && (!mount->source || mount->source[0] == '\0')) {
        g_autofree char *source = g_strconcat(path, ".source", NULL);
        return plan_wrong(error, source, "is required for a bind mount");
    }
    if (!mount->bind && !mount->type) {
        g_autofree char *type = g_strconcat(path, ".type", NULL);
        return plan_wrong(error, type, "is required");
    }
    return true;
}

bool plan_parse_mounts(const json_t *value, const char *path, void *out, GError **error)
{
    return plan_parse_array(value, path, PLAN_MOUNTS_MAX, parse_mount, *(GArray **)out, error);
}

void plan_mount_clear(void *data)
{
    struct plan_mount *mount = data;
    g_free(mount->destination);
    g_free(mount->source);
    g_free(mount->type);
    g_clear_pointer(&mount->options, g_array_unref);
}
