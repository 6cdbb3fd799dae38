/* SELinux: the contexts of a container's processes and files. The policy's own list says which; each container gets two
 * categories that no other has, so that one container is as closed to another as the host is. Without --selinux-enabled, or
 * without SELinux, nothing of this has a meaning, as in dockerd. */
#include "container/container-internal.h"

#include "base/log.h"

#include <linux/magic.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#define SELINUX_ROOT "/sys/fs/selinux"
#define CATEGORIES 1024
#define CONTEXTS_MAX (64u << 10)

/* What files of a container without confinement carry: readable to no confined one. */
#define UNCONFINED_LEVEL "s0:c1022,c1023"

struct selinux {
    GMutex lock;
    GHashTable *levels; /* with categories, in use → how often */
    char *process, *file;
};

/* ---- contexts: user:role:type:level, where only the level has colons ---- */

enum context_part {
    CONTEXT_USER,
    CONTEXT_ROLE,
    CONTEXT_TYPE,
    CONTEXT_LEVEL,
    CONTEXT_PARTS,
};

static const char *level_of(const char *context)
{
    for (int i = 0; context && i < CONTEXT_LEVEL; i++) {
        context = strchr(context, ':');
        context = context ? context + 1 : NULL;
    }
    return context ? context : "";
}

static char *with_part(const char *context, enum context_part part, const char *value)
{
    g_auto(GStrv) parts = g_strsplit(context, ":", CONTEXT_PARTS);
    g_autoptr(GString) text = g_string_new(NULL);
    guint n = g_strv_length(parts);
    for (guint i = 0; i < CONTEXT_PARTS; i++) {
        const char *word = i == part ? value : i < n ? parts[i] : "";
        if (*word)
            g_string_append_printf(text, "%s%s", text->len ? ":" : "", word);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static void set_part(char **context, enum context_part part, const char *value)
{
    char *changed = with_part(*context, part, value);
    g_free(*context);
    *context = changed;
}

bool selinux_apply_options(const char *const *options, char **process, char **file, GError **error)
{
    static const struct {
        const char *name;
        enum context_part part;
        bool process, file;
    } known[] = { { "user", CONTEXT_USER, true, true },
                  { "role", CONTEXT_ROLE, true, false },
                  { "type", CONTEXT_TYPE, true, false },
                  { "level", CONTEXT_LEVEL, true, true },
                  { "filetype", CONTEXT_TYPE, false, true } };
    for (; *options; options++) {
        const char *colon = strchr(*options, ':');
        size_t length = colon ? (size_t)(colon - *options) : 0, i = 0;
        if (strcmp(*options, "disable") == 0) {
            g_clear_pointer(process, g_free);
            set_part(file, CONTEXT_LEVEL, UNCONFINED_LEVEL);
            return true;
        }
        if (!colon)
            return error_set(error, TARE_ERROR_INVALID,
                             "Bad label option \"%s\", valid options 'disable' or \n'user, role, level, type, filetype' followed "
                             "by ':' and a value",
                             *options);
        while (i < G_N_ELEMENTS(known) && (strlen(known[i].name) != length || strncmp(known[i].name, *options, length) != 0))
            i++;
        if (i == G_N_ELEMENTS(known))
            return error_set(error, TARE_ERROR_INVALID,
                             "Bad label option \"%.*s\", valid options 'disable, user, role, level, type, filetype'", (int)length,
                             *options);
        if (known[i].process)
            set_part(process, known[i].part, colon + 1);
        if (known[i].file)
            set_part(file, known[i].part, colon + 1);
    }
    return true;
}

/* ---- the host's policy ---- */

bool selinux_is_there(void)
{
    struct statfs fs;
    g_autofree char *current = NULL;
    /* "kernel": no policy has been loaded. */
    return statfs(SELINUX_ROOT, &fs) == 0 && (guint32)fs.f_type == SELINUX_MAGIC && !(fs.f_flags & ST_RDONLY) &&
           g_file_get_contents("/proc/self/attr/current", &current, NULL, NULL) && strcmp(current, "kernel") != 0;
}

/* "NAME = value" of a file with comments, without its quotes; NULL where it says nothing. */
static char *read_setting(const char *path, const char *name)
{
    g_autofree char *text = NULL;
    gsize length;
    if (!g_file_get_contents(path, &text, &length, NULL) || length > CONTEXTS_MAX)
        return NULL;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) sides = g_strsplit(*line, "=", 2);
        if (g_strv_length(sides) != 2 || strcmp(g_strstrip(sides[0]), name) != 0)
            continue;
        char *value = g_strstrip(sides[1]);
        size_t n = strlen(value);
        return n >= 2 && value[0] == '"' && value[n - 1] == '"' ? g_strndup(value + 1, n - 2) : g_strdup(value);
    }
    return NULL;
}

static char *contexts_file(void)
{
    static const char *const shared = "/usr/share/containers/selinux/contexts";
    if (g_file_test(shared, G_FILE_TEST_EXISTS))
        return g_strdup(shared);
    g_autofree char *policy = read_setting("/etc/selinux/config", "SELINUXTYPE");
    return g_build_filename("/etc/selinux", policy ? policy : "default", "contexts", "lxc_contexts", NULL);
}

struct selinux *selinux_open(void)
{
    if (!selinux_is_there()) {
        log_line(LOG_LEVEL_WARNING, "SELinux cannot be enabled: this host runs without it", NULL);
        return NULL;
    }
    g_autofree char *path = contexts_file();
    struct selinux *selinux = g_new0(struct selinux, 1);
    g_mutex_init(&selinux->lock);
    selinux->levels = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    selinux->process = read_setting(path, "process");
    selinux->file = read_setting(path, "file");
    if (!selinux->process || !selinux->file)
        log_line(LOG_LEVEL_WARNING, "the SELinux policy names no contexts for containers: they run without", "file", path, NULL);
    g_hash_table_insert(selinux->levels, g_strdup(UNCONFINED_LEVEL), GINT_TO_POINTER(1));
    return selinux;
}

void selinux_free(struct selinux *selinux)
{
    if (!selinux)
        return;
    g_hash_table_unref(selinux->levels);
    g_mutex_clear(&selinux->lock);
    g_free(selinux->process);
    g_free(selinux->file);
    g_free(selinux);
}

char *container_layer_label(void)
{
    if (!selinux_is_there())
        return NULL;
    g_autofree char *path = contexts_file();
    char *label = read_setting(path, "ro_file");
    return label ? label : read_setting(path, "file");
}

/* ---- levels ---- */

static void count_level(struct selinux *selinux, const char *context, int change)
{
    const char *level = level_of(context);
    if (!selinux || !strstr(level, ":c"))
        return;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&selinux->lock);
    int count = GPOINTER_TO_INT(g_hash_table_lookup(selinux->levels, level)) + change;
    if (count > 0)
        g_hash_table_insert(selinux->levels, g_strdup(level), GINT_TO_POINTER(count));
    else
        g_hash_table_remove(selinux->levels, level);
}

void selinux_hold(struct selinux *selinux, const char *context)
{
    count_level(selinux, context, 1);
}

void selinux_drop(struct selinux *selinux, const char *context)
{
    count_level(selinux, context, -1);
}

/* A level that nobody has, held for the caller; NULL when there is none left. */
static char *take_level(struct selinux *selinux)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&selinux->lock);
    if (g_hash_table_size(selinux->levels) >= CATEGORIES * (CATEGORIES - 1) / 2)
        return NULL;
    for (;;) {
        int first = g_random_int_range(0, CATEGORIES), second = g_random_int_range(0, CATEGORIES);
        if (first == second)
            continue;
        g_autofree char *level = g_strdup_printf("s0:c%d,c%d", MIN(first, second), MAX(first, second));
        if (g_hash_table_contains(selinux->levels, level))
            continue;
        g_hash_table_insert(selinux->levels, g_strdup(level), GINT_TO_POINTER(1));
        return g_steal_pointer(&level);
    }
}

/* ---- a container's labels ---- */

static char **label_options(const json_t *host_config)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    size_t i;
    json_t *value;
    json_array_foreach(json_get_array(host_config, "SecurityOpt"), i, value)
    {
        const char *text = json_string_value(value);
        if (strcmp(text, "disable") == 0)
            g_strv_builder_add(builder, text);
        else if (g_str_has_prefix(text, "label=") || g_str_has_prefix(text, "label:"))
            g_strv_builder_add(builder, text + strlen("label="));
    }
    return g_strv_builder_end(builder);
}

bool selinux_take_labels(struct container *container, const json_t *host_config, GError **error)
{
    struct selinux *selinux = container->manager->selinux;
    g_auto(GStrv) options = label_options(host_config);
    if (!selinux || !selinux->process || !selinux->file)
        return true;
    g_autofree char *level = *level_of(selinux->process) ? take_level(selinux) : NULL;
    if (*level_of(selinux->process) && !level)
        return error_set(error, TARE_ERROR_CONFLICT, "no SELinux level is free");
    g_autofree char *process = with_part(selinux->process, CONTEXT_LEVEL, level ? level : "");
    g_autofree char *file = with_part(selinux->file, CONTEXT_LEVEL, level ? level : "");
    g_autofree char *held = g_strdup(process);
    bool ok = selinux_apply_options((const char *const *)options, &process, &file, error);
    if (ok) {
        selinux_hold(selinux, process);
        container->process_label = g_steal_pointer(&process);
        container->mount_label = g_steal_pointer(&file);
    }
    selinux_drop(selinux, held);
    return ok;
}

/* Also where it is not enabled any more: a second process in a confined container is not to be free. */
const char *container_process_label(const struct container *container)
{
    return container->manager->host_has_selinux ? container->process_label : NULL;
}

const char *container_mount_label(const struct container *container)
{
    return container->manager->host_has_selinux ? container->mount_label : NULL;
}

void container_label_process(const struct container *container, const json_t *host_config, json_t *process)
{
    const char *profile = apparmor_profile(host_config), *label = container_process_label(container);
    if (profile)
        json_object_set_new(process, "apparmorProfile", json_string(profile));
    if (label)
        json_object_set_new(process, "selinuxLabel", json_string(label));
}

bool container_has_selinux(const struct container_manager *manager)
{
    return manager->selinux;
}

/* ---- options that follow from others ---- */

static bool names_labels(const json_t *host_config)
{
    size_t i;
    json_t *value;
    json_array_foreach(json_get_array(host_config, "SecurityOpt"), i, value)
    {
        if (g_str_has_prefix(json_string_value(value), "label="))
            return true;
    }
    return false;
}

static void add_option(json_t *host_config, const char *name, const char *value)
{
    json_t *options = json_get_array(host_config, "SecurityOpt");
    g_autofree char *text = g_strconcat("label=", name, value, NULL);
    if (!options) {
        options = json_array();
        json_object_set_new(host_config, "SecurityOpt", options);
    }
    json_array_append_new(options, json_string(text));
}

/* The label of the container whose namespace is joined; NULL: none is, or it has none. */
static char *joined_label(struct container_manager *manager, const json_t *host_config, const char *key)
{
    const char *mode = json_get_string(host_config, key, "");
    if (!g_str_has_prefix(mode, "container:"))
        return NULL;
    autocontainer other = container_find(manager, mode + strlen("container:"), NULL);
    return other ? g_strdup(container_process_label(other)) : NULL;
}

bool selinux_complete_options(struct container_manager *manager, json_t *host_config, bool is_open, GError **error)
{
    if (names_labels(host_config))
        return true;
    if (is_open || json_get_bool(host_config, "Privileged", false) ||
        !strcmp(json_get_string(host_config, "IpcMode", ""), "host") ||
        !strcmp(json_get_string(host_config, "PidMode", ""), "host")) {
        add_option(host_config, "disable", "");
        return true;
    }
    g_autofree char *ipc = joined_label(manager, host_config, "IpcMode"), *pid = joined_label(manager, host_config, "PidMode");
    if (ipc && pid && strcmp(ipc, pid) != 0)
        return error_set(error, TARE_ERROR_INVALID, "--ipc and --pid containers SELinux labels aren't the same");
    const char *label = ipc ? ipc : pid;
    if (!label)
        return true;
    g_auto(GStrv) parts = g_strsplit(label, ":", CONTEXT_PARTS);
    static const char *const names[] = { "user:", "role:", "type:", "level:" };
    for (guint i = 0; i < g_strv_length(parts); i++)
        add_option(host_config, names[i], parts[i]);
    return true;
}

char *selinux_shared_label(const char *label)
{
    return with_part(label, CONTEXT_LEVEL, "s0");
}
