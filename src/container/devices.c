/* Device nodes of the host that a container gets: those it names, or all for a privileged one. */
#include "container/container-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define DEVICES_MAX 4096
#define DEPTH_MAX 16

static void clear_device(gpointer data)
{
    struct spec_device *device = data;
    g_free(device->host);
    g_free(device->path);
}

GArray *devices_new(void)
{
    GArray *devices = g_array_new(FALSE, TRUE, sizeof(struct spec_device));
    g_array_set_clear_func(devices, clear_device);
    return devices;
}

static void add_device(GArray *devices, const char *host, const char *path, const struct stat *st)
{
    const struct spec_device device = {
        .host = g_strdup(host),
        .path = g_strdup(path),
        .type = S_ISBLK(st->st_mode) ? 'b' : 'c',
        .major = major(st->st_rdev),
        .minor = minor(st->st_rdev),
        .mode = st->st_mode & 07777,
        .uid = st->st_uid,
        .gid = st->st_gid,
    };
    if (devices->len < DEVICES_MAX)
        g_array_append_val(devices, device);
}

/* All nodes below a directory, under the same names below target. host names the rule that they fall under. */
static void add_directory(GArray *devices, const char *directory, const char *target, const char *host, bool privileged,
                          unsigned depth)
{
    static const char *const skipped[] = {
        "pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx", NULL
    };
    DIR *stream = depth < DEPTH_MAX ? opendir(directory) : NULL;
    if (!stream)
        return;
    for (struct dirent *entry; (entry = readdir(stream));) {
        struct stat st;
        if (entry->d_name[0] == '.' || (privileged && depth == 0 && g_strv_contains(skipped, entry->d_name)))
            continue;
        g_autofree char *below = g_build_filename(directory, entry->d_name, NULL);
        g_autofree char *path = g_build_filename(target, entry->d_name, NULL);
        if (lstat(below, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode))
            add_directory(devices, below, path, host, privileged, depth + 1);
        else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
            add_device(devices, host ? host : below, path, &st);
    }
    closedir(stream);
}

bool devices_check_limits(const json_t *host_config, GError **error)
{
    static const char *const keys[] = { "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps",
                                        "BlkioDeviceWriteIOps" };
    size_t i;
    json_t *limit;
    for (size_t k = 0; k < G_N_ELEMENTS(keys); k++)
        json_array_foreach(json_get_array(host_config, keys[k]), i, limit)
        {
            struct stat st;
            const char *path = json_get_string(limit, "Path", "");
            if (stat(path, &st) < 0)
                return error_set(error, TARE_ERROR_INVALID, "stat %s: %s", path, error_errno_text(errno));
        }
    return true;
}

bool devices_collect(const json_t *host_config, GArray *devices, GError **error)
{
    size_t i;
    json_t *value;
    if (json_get_bool(host_config, "Privileged", false))
        add_directory(devices, "/dev", "/dev", NULL, true, 0);
    json_array_foreach(json_get_array(host_config, "Devices"), i, value)
    {
        const char *host = json_get_string(value, "PathOnHost", ""), *path = json_get_string(value, "PathInContainer", "");
        struct stat st;
        if (*host != '/' || stat(host, &st) < 0)
            return error_set(error, TARE_ERROR_INVALID,
                             "error gathering device information while adding custom device \"%s\": no such file or directory",
                             host);
        if (S_ISDIR(st.st_mode))
            add_directory(devices, host, *path ? path : host, host, false, 0);
        else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
            add_device(devices, host, *path ? path : host, &st);
        else
            return error_set(error, TARE_ERROR_INVALID,
                             "error gathering device information while adding custom device \"%s\": not a device node", host);
    }
    return true;
}
