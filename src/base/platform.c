#include "base/platform.h"

#include <glib.h>
#include <string.h>
#include <sys/utsname.h>

static const char *name_of(const char *machine)
{
    static const struct {
        const char *machine, *go;
    } names[] = {
        { "x86_64", "amd64" }, { "aarch64", "arm64" }, { "armv7l", "arm" }, { "armv6l", "arm" }, { "i686", "386" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (strcmp(names[i].machine, machine) == 0)
            return names[i].go;
    return machine;
}

const char *platform_architecture(void)
{
    static char *name;
    if (g_once_init_enter(&name)) {
        struct utsname system;
        g_once_init_leave(&name, g_strdup(uname(&system) == 0 ? name_of(system.machine) : "unknown"));
    }
    return name;
}
