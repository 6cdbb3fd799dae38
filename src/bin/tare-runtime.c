/* The OCI runtime's command line. What it clones runs our code inside the container for a moment, so it executes itself from a
 * sealed copy first: nothing in a container can then write to the program on the host through /proc/PID/exe. */
#include "runtime/runtime.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static bool is_sealed(int fd)
{
    int wanted = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE, seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & wanted) == wanted;
}

static bool execute_sealed(char **argv, GError **error)
{
    g_autofd int program = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (program < 0)
        return error_set_errno(error, errno, "open /proc/self/exe");
    if (is_sealed(program))
        return true;
    g_autofd int copy = memfd_create("tare-runtime", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (copy < 0)
        return error_set_errno(error, errno, "memfd");
    if (!fd_copy(program, copy, -1, NULL, error))
        return false;
    if (fcntl(copy, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        return error_set_errno(error, errno, "seal");
    fexecve(copy, argv, environ);
    return error_set_errno(error, errno, "execute the sealed copy");
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    if (!execute_sealed(argv, &error)) {
        fprintf(stderr, "tare-runtime: %s\n", error->message);
        return 1;
    }
    return runtime_command(argc, argv);
}
