/* The mounts of a specification: Docker's default ones, the generated files, what the user asked for. Pure. */
#include "container/container-internal.h"

#include <string.h>

static json_t *make_mount(const char *destination, const char *type, const char *source, json_t *options)
{
    return json_pack("{s:s, s:s, s:s, s:o}", "destination", destination, "type", type, "source", source, "options", options);
}

static bool user_mounts(const json_t *mounts, const json_t *tmpfs, const char *destination)
{
    size_t i;
    json_t *mount;
    if (json_object_get(tmpfs, destination))
        return true;
    json_array_foreach((json_t *)mounts, i,
                       mount) if (!strcmp(json_get_string(mount, "Destination", ""), destination)) return true;
    return false;
}

static json_t *shm_mount(const struct spec_input *input)
{
    if (input->shm_path)
        return make_mount("/dev/shm", "bind", input->shm_path, json_pack("[s]", "rbind"));
    g_autofree char *size = g_strdup_printf("size=%" G_GINT64_FORMAT, json_get_int(input->host_config, "ShmSize", 67108864));
    return make_mount("/dev/shm", "tmpfs", "shm", json_pack("[s, s, s, s, s]", "nosuid", "noexec", "nodev", "mode=1777", size));
}

static void add_default_mounts(const struct spec_input *input, json_t *list)
{
    bool privileged = json_get_bool(input->host_config, "Privileged", false);
    const char *read_write = privileged ? "rw" : "ro";
    const struct {
        const char *destination, *type, *source, *options;
    } defaults[] = {
        { "/proc", "proc", "proc", "nosuid,noexec,nodev" },
        { "/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k" },
        { "/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5" },
        { "/sys", "sysfs", "sysfs", "nosuid,noexec,nodev" },
        { "/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev" },
        { "/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev" },
    };
    const json_t *tmpfs = json_get_object(input->host_config, "Tmpfs");
    bool own_dev = user_mounts(input->mounts, tmpfs, "/dev");
    for (size_t i = 0; i < G_N_ELEMENTS(defaults); i++) {
        const char *destination = defaults[i].destination;
        if (user_mounts(input->mounts, tmpfs, destination) || (own_dev && g_str_has_prefix(destination, "/dev/")))
            continue;
        g_auto(GStrv) options = g_strsplit(defaults[i].options, ",", -1);
        json_t *array = json_from_strv((const char *const *)options);
        if (g_str_has_prefix(destination, "/sys"))
            json_array_append_new(array, json_string(read_write));
        json_array_append_new(list, make_mount(destination, defaults[i].type, defaults[i].source, array));
    }
    if (strcmp(json_get_string(input->host_config, "IpcMode", ""), "none") && !own_dev &&
        !user_mounts(input->mounts, tmpfs, "/dev/shm"))
        json_array_append_new(list, shm_mount(input));
}

static void add_generated_files(const struct spec_input *input, json_t *list)
{
    const struct {
        const char *destination, *source;
    } files[] = {
        { "/etc/resolv.conf", input->resolv_path },
        { "/etc/hostname", input->hostname_path },
        { "/etc/hosts", input->hosts_path },
    };
    const json_t *tmpfs = json_get_object(input->host_config, "Tmpfs");
    const char *mode = json_get_bool(input->host_config, "ReadonlyRootfs", false) ? "ro" : "rw";
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
        if (files[i].source && !user_mounts(input->mounts, tmpfs, files[i].destination))
            json_array_append_new(list, make_mount(files[i].destination, "bind", files[i].source,
                                                   json_pack("[s, s, s]", "rbind", mode, "rprivate")));
}

/* Docker's options for a tmpfs: its defaults, each replaced by its opposite where the user names that. */
static json_t *tmpfs_options(const char *given)
{
    static const struct {
        const char *name, *opposite;
    } defaults[] = { { "noexec", "exec" }, { "nosuid", "suid" }, { "nodev", "dev" } };
    g_auto(GStrv) parts = g_strsplit(given, ",", 64);
    json_t *options = json_array();
    for (size_t i = 0; i < G_N_ELEMENTS(defaults); i++)
        if (!g_strv_contains((const char *const *)parts, defaults[i].name) &&
            !g_strv_contains((const char *const *)parts, defaults[i].opposite))
            json_array_append_new(options, json_string(defaults[i].name));
    for (char **part = parts; *part; part++)
        if (**part)
            json_array_append_new(options, json_string(*part));
    return options;
}

static json_t *user_mount(const json_t *mount)
{
    const char *destination = json_get_string(mount, "Destination", ""), *propagation = json_get_string(mount, "Propagation", "");
    if (!strcmp(json_get_string(mount, "Type", ""), "tmpfs"))
        return make_mount(destination, "tmpfs", "tmpfs", tmpfs_options(json_get_string(mount, "_Options", "")));
    json_t *options = json_pack("[s]", json_get_bool(mount, "_NonRecursive", false) ? "bind" : "rbind");
    if (!json_get_bool(mount, "RW", true))
        json_array_append_new(options, json_string("ro"));
    json_array_append_new(options, json_string(*propagation ? propagation : "rprivate"));
    return make_mount(destination, "bind", json_get_string(mount, "Source", ""), options);
}

static int depth_of(const json_t *mount)
{
    int depth = 0;
    for (const char *at = json_get_string(mount, "destination", ""); *at; at++)
        depth += *at == '/' && at[1] && at[1] != '/';
    return depth;
}

/* Sorted by depth, so that no mount hides one that was made before it; those of one depth stay in the user's order. */
static void add_sorted(json_t *list, json_t *mounts)
{
    int deepest = 0;
    size_t i;
    json_t *mount;
    json_array_foreach(mounts, i, mount) deepest = MAX(deepest, depth_of(mount));
    for (int depth = 0; depth <= deepest; depth++)
        json_array_foreach(mounts, i, mount) if (depth_of(mount) == depth) json_array_append(list, mount);
}

json_t *spec_mounts(const struct spec_input *input, const char **ret_propagation)
{
    json_t *list = json_array();
    g_autoptr(json_t) own = json_array();
    const char *destination;
    size_t i;
    json_t *value;
    add_default_mounts(input, list);
    add_generated_files(input, own); /* deeper than a volume of the user's that is /etc */
    *ret_propagation = NULL;
    json_array_foreach((json_t *)input->mounts, i, value)
    {
        const char *propagation = json_get_string(value, "Propagation", "");
        if (g_str_has_suffix(propagation, "shared"))
            *ret_propagation = "shared";
        else if (g_str_has_suffix(propagation, "slave") && !*ret_propagation)
            *ret_propagation = "rslave";
        json_array_append_new(own, user_mount(value));
    }
    json_object_foreach(json_get_object(input->host_config, "Tmpfs"), destination, value) json_array_append_new(
        own, make_mount(destination, "tmpfs", "tmpfs", tmpfs_options(json_string_value(value) ? json_string_value(value) : "")));
    add_sorted(list, own);
    return list;
}
