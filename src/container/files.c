/* Directories and small files of a container: its state and run directories, hosts, hostname, resolv.conf, and the layer of mount
 * points under every image. */
#include "container/container-internal.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

char *container_state_dir(const struct container *container)
{
    return g_build_filename(container->manager->containers_dir, container->id, NULL);
}

char *container_run_dir(const struct container *container)
{
    return g_build_filename(container->manager->run_dir, container->id, NULL);
}

char *container_socket(const struct container *container)
{
    return g_build_filename(container->manager->run_dir, container->id, "shim.sock", NULL);
}

char *container_log_path(const struct container *container)
{
    g_autofree char *name = g_strconcat(container->id, "-json.log", NULL);
    return g_build_filename(container->manager->containers_dir, container->id, name, NULL);
}

/* ---- upper and work ---- */

/* The upper directory is what a container sees as "/": root's and open to all, whatever the image says, as in dockerd, or no user
 * but root could do anything in the many images whose root somebody made by mktemp. Its date is the image's, as far as its top
 * layer carries one; else it is new, as the container is. */
static bool dress_upper(int upper, const int *lowers, size_t n_lowers, GError **error)
{
    struct stat st = { 0 };
    bool is_dated = n_lowers > 0 && fstat(lowers[0], &st) == 0 && st.st_mtim.tv_sec != 0;
    const struct timespec times[2] = { st.st_mtim, st.st_mtim };
    if (fchmod(upper, 0755) < 0 || (is_dated && futimens(upper, times) < 0))
        return error_set_errno(error, errno, "set attributes of the container's root");
    return true;
}

bool container_make_directories(struct container *container, struct layer_stack *stack, GError **error)
{
    const int *lowers;
    size_t n_lowers = layer_stack_fds(stack, &lowers);
    g_autofd int state = dir_make(container->manager->containers_fd, container->id, 0700, error);
    if (state < 0)
        return false;
    if (mkdirat(state, "upper", 0755) == 0) {
        g_autofd int upper = openat(state, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (upper < 0)
            return error_set_errno(error, errno, "open upper directory");
        if (!dress_upper(upper, lowers, n_lowers, error))
            return false;
    } else if (errno != EEXIST) {
        return error_set_errno(error, errno, "make upper directory");
    }
    if (mkdirat(state, "work", 0700) < 0 && errno != EEXIST)
        return error_set_errno(error, errno, "make work directory");
    /* A volatile overlay marks its work directory and refuses a second mount: nothing was lost here, since the machine has not
     * crashed. */
    g_autofd int marked =
        container->is_volatile ? openat(state, "work/work", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (marked >= 0 && !dir_remove_tree(marked, "incompat", error))
        return false;
    return true;
}

/* ---- generated files ---- */

static bool write_small(int directory, const char *name, const char *text, GError **error)
{
    g_autofd int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0 || fd_write_full(fd, text, strlen(text)) < 0 || fchmod(fd, 0644) < 0)
        return error_set_errno(error, errno, "write %s", name);
    return true;
}

bool files_write(struct container *container, const struct network_endpoint *endpoint, GError **error)
{
    g_autoptr(json_t) host_config = container_get_host_config(container);
    g_autofree char *hostname = spec_hostname(container->id, container->config);
    g_autofree char *hostname_line = g_strconcat(hostname, "\n", NULL);
    const char *domain = json_get_string(container->config, "Domainname", "");
    bool host_network = !strcmp(json_get_string(host_config, "NetworkMode", ""), "host");
    g_auto(GStrv) extra_hosts = json_string_array(json_get_array(host_config, "ExtraHosts"));
    g_auto(GStrv) dns = json_string_array(json_get_array(host_config, "Dns"));
    g_auto(GStrv) search = json_string_array(json_get_array(host_config, "DnsSearch"));
    g_auto(GStrv) options = json_string_array(json_get_array(host_config, "DnsOptions"));
    g_autofree char *hosts = network_hosts_file(endpoint, hostname, domain, (const char *const *)extra_hosts);
    g_autofree char *resolv = network_resolv_conf(container->manager->networks, (const char *const *)dns,
                                                  (const char *const *)search, (const char *const *)options, host_network);
    g_autofd int directory = dir_make(container->manager->run_fd, container->id, 0700, error);
    return directory >= 0 && write_small(directory, "hosts", hosts, error) &&
           write_small(directory, "hostname", hostname_line, error) && write_small(directory, "resolv.conf", resolv, error);
}

bool files_label(struct container *container, struct container *files_of, GError **error)
{
    static const char *const names[] = { "hosts", "hostname", "resolv.conf" };
    g_autofree char *run_dir = container_run_dir(files_of);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(run_dir, names[i], NULL);
        if (!selinux_relabel(path, container_mount_label(container), files_of != container, error))
            return false;
    }
    return true;
}

/* ---- /dev/shm that others may join ---- */

bool files_mount_shm(struct container *container, gint64 size, GError **error)
{
    g_autofree char *run_dir = container_run_dir(container);
    g_autofree char *path = g_build_filename(run_dir, "shm", NULL);
    const char *label = container_mount_label(container);
    g_autofree char *options = g_strdup_printf("mode=1777,size=%" G_GINT64_FORMAT "%s%s%s", size, label ? ",context=\"" : "",
                                               label ? label : "", label ? "\"" : "");
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return error_set_errno(error, errno, "make %s", path);
    umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
    if (mount("shm", path, "tmpfs", MS_NOEXEC | MS_NOSUID | MS_NODEV, options) < 0)
        return error_set_errno(error, errno, "mount shm");
    return true;
}

void files_remove_run(struct container *container)
{
    g_autofree char *run_dir = container_run_dir(container);
    g_autofree char *path = g_build_filename(run_dir, "shm", NULL);
    g_autoptr(json_t) host_config = container_get_host_config(container);
    if (!strcmp(json_get_string(host_config, "IpcMode", ""), "shareable"))
        umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
    dir_remove_tree(container->manager->run_fd, container->id, NULL);
}

/* ---- the layer of mount points ---- */

/* Lies under all images: what an image has itself wins, and what it lacks is there to be mounted on, without a trace in the
 * container's own layer. As Docker's init layer, but one for all. */
bool init_layer_open(struct container_manager *manager, GError **error)
{
    static const char *const directories[] = { "dev", "dev/pts", "dev/shm", "etc", "proc", "sys" };
    static const char *const files[] = { ".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf" };
    manager->init_layer_path = g_build_filename(manager->data_root, "init", NULL);
    g_autofd int fd = dir_make_path(manager->init_layer_path, 0755, error);
    if (fd < 0)
        return false;
    if (faccessat(fd, "etc/mtab", F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
        if (fchmod(fd, 0755) < 0)
            return error_set_errno(error, errno, "make %s", manager->init_layer_path);
        for (size_t i = 0; i < G_N_ELEMENTS(directories); i++)
            if ((mkdirat(fd, directories[i], 0755) < 0 && errno != EEXIST) || fchmodat(fd, directories[i], 0755, 0) < 0)
                return error_set_errno(error, errno, "make %s/%s", manager->init_layer_path, directories[i]);
        for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
            g_autofd int file = openat(fd, files[i], O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0755);
            if (file < 0 || fchmod(file, 0755) < 0)
                return error_set_errno(error, errno, "make %s/%s", manager->init_layer_path, files[i]);
        }
        if (symlinkat("/proc/mounts", fd, "etc/mtab") < 0 && errno != EEXIST)
            return error_set_errno(error, errno, "make %s/etc/mtab", manager->init_layer_path);
    }
    manager->init_layer_fd = open(manager->init_layer_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return manager->init_layer_fd >= 0 || error_set_errno(error, errno, "open %s", manager->init_layer_path);
}
