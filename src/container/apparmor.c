/* AppArmor: which profile a container's processes get, and the default one where nobody has loaded it. */
#include "container/container-internal.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/spawn.h"

#include <string.h>
#include <unistd.h>

/* The name by which users and other engines know it; what another engine has loaded under it is used as it is. */
#define DEFAULT_PROFILE "docker-default"

/* All that the capabilities and the namespaces leave, but nothing that speaks to the kernel itself. Signals come from the engine,
 * which nobody confines, and from the container's own processes; only these may be traced. */
static const char default_text[] = "#include <tunables/global>\n"
                                   "profile " DEFAULT_PROFILE " flags=(attach_disconnected,mediate_deleted) {\n"
                                   "  #include <abstractions/base>\n"
                                   "  network,\n"
                                   "  capability,\n"
                                   "  file,\n"
                                   "  umount,\n"
                                   "  signal (receive) peer=unconfined,\n"
                                   "  signal (send,receive) peer=" DEFAULT_PROFILE ",\n"
                                   "  ptrace (trace,read,tracedby,readby) peer=" DEFAULT_PROFILE ",\n"
                                   "  deny mount,\n"
                                   "  deny @{PROC}/* w,\n"
                                   "  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}/** w,\n"
                                   "  deny @{PROC}/sys/[^k]** w,\n"
                                   "  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,\n"
                                   "  deny @{PROC}/sysrq-trigger rwklx,\n"
                                   "  deny @{PROC}/kcore rwklx,\n"
                                   "  deny /sys/[^f]*/** wklx,\n"
                                   "  deny /sys/f[^s]*/** wklx,\n"
                                   "  deny /sys/fs/[^c]*/** wklx,\n"
                                   "  deny /sys/fs/c[^g]*/** wklx,\n"
                                   "  deny /sys/fs/cg[^r]*/** wklx,\n"
                                   "  deny /sys/firmware/** rwklx,\n"
                                   "  deny /sys/devices/virtual/powercap/** rwklx,\n"
                                   "  deny /sys/kernel/security/** rwklx,\n"
                                   "}\n";

bool container_has_apparmor(void)
{
    g_autofree char *enabled = NULL;
    return g_file_get_contents("/sys/module/apparmor/parameters/enabled", &enabled, NULL, NULL) && *enabled == 'Y';
}

static bool is_loaded(void)
{
    g_autofree char *profiles = NULL;
    if (!g_file_get_contents("/sys/kernel/security/apparmor/profiles", &profiles, NULL, NULL))
        return false;
    return g_str_has_prefix(profiles, DEFAULT_PROFILE " (") || strstr(profiles, "\n" DEFAULT_PROFILE " (");
}

/* Without its compiler (a package of its own) there is no profile, as in dockerd. */
static bool load(void)
{
    g_autofd int text = fd_new_sealed("profile", default_text, strlen(default_text), NULL);
    const char *const argv[] = { "apparmor_parser", "--skip-cache", "--replace", "/proc/self/fd/3", NULL };
    const struct spawn_fd fds[] = { { text, 3 }, { STDERR_FILENO, STDERR_FILENO } };
    const struct spawn_options options = { .argv = argv, .fds = fds, .n_fds = G_N_ELEMENTS(fds), .search_path = true };
    pid_t pid = text < 0 ? -1 : spawn_program(&options, NULL);
    return pid > 0 && spawn_wait(pid) == 0;
}

/* Before the first container needs it, and again where it has been unloaded since. */
static bool have_default(void)
{
    static GMutex lock;
    static bool warned;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    if (is_loaded() || load())
        return true;
    if (!warned)
        log_line(LOG_LEVEL_WARNING, "AppArmor is enabled, and its profile cannot be loaded: containers run without it", "profile",
                 DEFAULT_PROFILE, NULL);
    warned = true;
    return false;
}

const char *apparmor_profile(const json_t *host_config)
{
    size_t i;
    json_t *value;
    if (!container_has_apparmor())
        return NULL;
    json_array_foreach(json_get_array(host_config, "SecurityOpt"), i, value)
    {
        const char *text = json_string_value(value);
        if (g_str_has_prefix(text, "apparmor=") || g_str_has_prefix(text, "apparmor:"))
            return text + strlen("apparmor=");
    }
    if (json_get_bool(host_config, "Privileged", false))
        return "unconfined";
    return have_default() ? DEFAULT_PROFILE : NULL;
}
