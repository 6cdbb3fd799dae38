/* A shim in waiting: started before there is a container for it, so that nobody waits for its start, nor for the kernel's
 * readying of cgroups. It takes the fds of an ordinary start through its socket and goes on as if it had been started with them.
 */
#include "shim/shim-internal.h"

#include "base/fd.h"
#include "shim/shim.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define SOCKET_FD 3
/* Above all numbers of an ordinary start (SHIM_FD_FIRST and FD_PASS_MAX). */
#define RECEIVED_FD_FIRST 300

/* As posix_spawn would have: all first away from the numbers that they will have. */
static bool arrange_fds(const int *fds, size_t n_fds)
{
    int lifted[FD_PASS_MAX];
    for (size_t i = 0; i < n_fds; i++) {
        lifted[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, RECEIVED_FD_FIRST);
        if (lifted[i] < 0)
            return false;
    }
    for (size_t i = 0; i < n_fds; i++)
        fd_close(fds[i]);
    fd_close(SOCKET_FD);
    for (size_t i = 0; i < n_fds; i++) {
        if (dup2(lifted[i], SOCKET_FD + (int)i) < 0)
            return false;
        fd_close(lifted[i]);
    }
    return true;
}

bool spare_is(char **argv)
{
    return argv[1] && argv[1][0] == SHIM_SPARE_ID[0];
}

bool spare_await(char **argv)
{
    char id[SHIM_SPARE_TEXT_MAX];
    int fds[FD_PASS_MAX];
    size_t n_fds = FD_PASS_MAX;
    ssize_t n = fd_receive(SOCKET_FD, id, sizeof id - 1, fds, &n_fds);
    if (n <= 0 || n_fds < 3 || !arrange_fds(fds, n_fds))
        return false;
    id[n] = '\0';
    /* What ps shows. */
    if ((size_t)n <= strlen(argv[1]))
        memcpy(argv[1], id, (size_t)n + 1);
    return true;
}
