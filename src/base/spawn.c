#include "base/spawn.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef TARE_LIBEXECDIR
#define TARE_LIBEXECDIR "/usr/local/libexec/tare"
#endif

static const char *const clean_environment[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                                 "LANG=C.UTF-8", NULL };

/* Duplicates each fd above every target number first, so that no target overwrites a source that is still needed. */
static bool lift_fds(const struct spawn_options *options, GArray *lifted, GError **error)
{
    int above = 3;
    for (size_t i = 0; i < options->n_fds; i++)
        above = MAX(above, options->fds[i].to + 1);
    for (size_t i = 0; i < options->n_fds; i++) {
        int copy = fcntl(options->fds[i].from, F_DUPFD_CLOEXEC, above);
        if (copy < 0)
            return error_set_errno(error, errno, "duplicate fd for %s", options->argv[0]);
        g_array_append_val(lifted, copy);
    }
    return true;
}

static void plan_fds(posix_spawn_file_actions_t *actions, const struct spawn_options *options, const GArray *lifted)
{
    bool named[3] = { false, false, false };
    int highest = 2;
    for (size_t i = 0; i < options->n_fds; i++) {
        int to = options->fds[i].to;
        if (to < 3)
            named[to] = true;
        highest = MAX(highest, to);
    }
    for (int fd = 0; fd < 3; fd++)
        if (!named[fd])
            posix_spawn_file_actions_addopen(actions, fd, "/dev/null", fd == 0 ? O_RDONLY : O_WRONLY, 0);
    for (size_t i = 0; i < options->n_fds; i++)
        posix_spawn_file_actions_adddup2(actions, g_array_index(lifted, int, i), options->fds[i].to);
    posix_spawn_file_actions_addclosefrom_np(actions, highest + 1);
}

static void plan_attributes(posix_spawnattr_t *attributes, const struct spawn_options *options)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(attributes, &none);
    posix_spawnattr_setsigdefault(attributes, &all);
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    if (options->new_session)
        flags |= POSIX_SPAWN_SETSID;
    posix_spawnattr_setflags(attributes, flags);
}

pid_t spawn_program(const struct spawn_options *options, GError **error)
{
    g_autoptr(GArray) lifted = g_array_new(FALSE, FALSE, sizeof(int));
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    pid_t pid = -1;
    bool ok = lift_fds(options, lifted, error);
    if (ok) {
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attributes);
        plan_fds(&actions, options, lifted);
        plan_attributes(&attributes, options);
        const char *const *envp = options->envp ? options->envp : clean_environment;
        int r = (options->search_path ? posix_spawnp : posix_spawn)(&pid, options->program ? options->program : options->argv[0],
                                                                    &actions, &attributes, (char *const *)options->argv,
                                                                    (char *const *)envp);
        if (r != 0) {
            error_set_errno(error, r, "execute %s", options->argv[0]);
            pid = -1;
        }
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&actions);
    }
    for (guint i = 0; i < lifted->len; i++)
        fd_close(g_array_index(lifted, int, i));
    return pid;
}

int spawn_wait(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

char *spawn_find_helper(const char *name, GError **error)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *directory = g_path_get_dirname(self ? self : "/");
    g_autofree char *beside = g_build_filename(directory, name, NULL);
    if (access(beside, X_OK) == 0)
        return g_steal_pointer(&beside);
    g_autofree char *installed = g_build_filename(TARE_LIBEXECDIR, name, NULL);
    if (access(installed, X_OK) == 0)
        return g_steal_pointer(&installed);
    error_set(error, TARE_ERROR_NOT_FOUND, "helper program %s is neither in %s nor in %s", name, directory, TARE_LIBEXECDIR);
    return NULL;
}
