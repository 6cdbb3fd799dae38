/* Hooks that run in the runtime's own namespaces. They come from specifications that users of tare-runtime write; tared never
 * makes one. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool wait_for(pid_t pid, int timeout_s)
{
    g_autofd int pidfd = timeout_s > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };
    if (pidfd >= 0 && poll(&poll_fd, 1, MIN(timeout_s, G_MAXINT / 1000) * 1000) == 0)
        kill(pid, SIGKILL);
    return spawn_wait(pid) == 0;
}

static bool run(const struct plan_hook *hook, const char *state, GError **error)
{
    const char *const alone[] = { hook->path, NULL };
    const char *const nothing[] = { NULL };
    g_auto(GStrv) arguments = hook->args && hook->args[0] ? g_strdupv(hook->args) : g_strdupv((char **)alone);
    /* posix_spawn executes argv[0]; a hook may want another name, but then its path is what counts. */
    g_free(arguments[0]);
    arguments[0] = g_strdup(hook->path);
    g_autofd int input = fd_new_sealed("state", state, strlen(state), error);
    if (input < 0)
        return false;
    struct spawn_fd fds[] = { { input, 0 }, { 1, 1 }, { 2, 2 } };
    struct spawn_options options = { .argv = (const char *const *)arguments,
                                     .envp = hook->env ? (const char *const *)hook->env : nothing,
                                     .fds = fds,
                                     .n_fds = G_N_ELEMENTS(fds) };
    pid_t pid = spawn_program(&options, error);
    return pid > 0 && (wait_for(pid, hook->timeout_s) || error_set(error, TARE_ERROR_INTERNAL, "hook %s failed", hook->path));
}

bool hooks_run(const GArray *hooks, const json_t *state, const char *kind, GError **error)
{
    if (hooks->len == 0)
        return true;
    g_autofree char *text = json_text(state);
    for (guint i = 0; i < hooks->len; i++)
        if (!run(&g_array_index(hooks, struct plan_hook, i), text, error)) {
            g_prefix_error(error, "error running %s hook #%u: ", kind, i);
            return false;
        }
    return true;
}
