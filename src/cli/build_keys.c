/* --ssh with key files: an agent of our own has them for as long as the build lasts. */
#include "cli/build-internal.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATIENCE_US 10000
#define TRIES 500

struct build_keys {
    char *directory, *socket;
    int life; /* the agent's command reads from it, and the agent ends with its command, also when we are killed */
    pid_t agent;
};

static bool start_agent(struct build_keys *keys, GError **error)
{
    const char *const argv[] = { "ssh-agent", "-a", keys->socket, "cat", NULL };
    struct stat st;
    int pair[2];

    if (pipe2(pair, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "pipe");
    struct spawn_fd fds[] = { { pair[0], 0 } };
    struct spawn_options spawn = { .argv = argv, .fds = fds, .n_fds = 1, .search_path = true, .new_session = true };

    keys->life = pair[1];
    keys->agent = spawn_program(&spawn, error);
    fd_close(pair[0]);
    if (keys->agent < 0)
        return false;
    for (int i = 0; i < TRIES && stat(keys->socket, &st) < 0; i++)
        g_usleep(PATIENCE_US);
    return stat(keys->socket, &st) == 0 || error_set(error, TARE_ERROR_INTERNAL, "ssh-agent does not start");
}

/* A key with a passphrase is refused: nobody is there to be asked. */
static bool add_keys(const struct build_keys *keys, char **files, GError **error)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *variable = g_strconcat("SSH_AUTH_SOCK=", keys->socket, NULL),
                    *path = g_strconcat("PATH=", g_getenv("PATH") ? g_getenv("PATH") : "/usr/bin:/bin", NULL);
    const char *const envp[] = { variable, path, "SSH_ASKPASS_REQUIRE=never", "LANG=C.UTF-8", NULL };
    struct spawn_fd fds[] = { { STDERR_FILENO, 2 } };

    g_ptr_array_add(argv, (gpointer) "ssh-add");
    g_ptr_array_add(argv, (gpointer) "-q");
    g_ptr_array_add(argv, (gpointer) "--");
    for (char **file = files; *file; file++)
        g_ptr_array_add(argv, *file);
    g_ptr_array_add(argv, NULL);
    struct spawn_options spawn = {
        .argv = (const char *const *)argv->pdata, .envp = envp, .fds = fds, .n_fds = 1, .search_path = true, .new_session = true
    };
    pid_t pid = spawn_program(&spawn, error);

    if (pid < 0)
        return false;
    return spawn_wait(pid) == 0 || error_set(error, TARE_ERROR_INVALID, "failed to read the ssh key %s", files[0]);
}

struct build_keys *build_keys_new(const char *list, const char **ret_socket, GError **error)
{
    g_auto(GStrv) files = g_strsplit(list, ",", -1);
    struct build_keys *keys = g_new0(struct build_keys, 1);

    keys->life = -1;
    keys->directory = g_build_filename(g_get_tmp_dir(), "tare-keys-XXXXXX", NULL);
    if (!g_mkdtemp_full(keys->directory, 0700)) {
        error_set_errno(error, errno, "make %s", keys->directory);
        g_clear_pointer(&keys->directory, g_free);
        build_keys_free(keys);
        return NULL;
    }
    keys->socket = g_build_filename(keys->directory, "agent", NULL);
    if (start_agent(keys, error) && add_keys(keys, files, error)) {
        *ret_socket = keys->socket;
        return keys;
    }
    build_keys_free(keys);
    return NULL;
}

void build_keys_free(struct build_keys *keys)
{
    if (!keys)
        return;
    fd_close(keys->life);
    if (keys->agent > 0)
        spawn_wait(keys->agent);
    if (keys->directory)
        dir_remove_tree(AT_FDCWD, keys->directory, NULL);
    g_free(keys->directory);
    g_free(keys->socket);
    g_free(keys);
}
