/* A shell in what a failed step has left. */
#include "cli/build-internal.h"

#include "base/spawn.h"

#include <unistd.h>

static char *commit(struct cli *cli, const char *container)
{
    g_autoptr(GString) query = g_string_new(NULL);
    g_autoptr(json_t) answer = NULL;

    query_add(query, "container", container);
    struct call call = { .method = "POST", .path = "/commit", .query = query->str };

    answer = api_json(cli, &call, NULL);
    return g_strdup(json_get_string(answer, "Id", NULL));
}

static void delete (struct cli *cli, const char *collection, const char *id, const char *query)
{
    g_autofree char *path = api_path(collection, id, "");
    struct call call = { .method = "DELETE", .path = path, .query = query };

    api_done(cli, &call, NULL);
}

void build_shell_run(struct cli *cli, const char *container)
{
    g_autofree char *image = commit(cli, container);

    delete (cli, "containers", container, "force=1");
    if (!image)
        return;
    const char *const argv[] = { "/proc/self/exe",
                                 "-H",
                                 cli->endpoint->host,
                                 "run",
                                 "--rm",
                                 is_terminal(STDIN_FILENO) ? "-it" : "-i",
                                 "--entrypoint",
                                 "/bin/sh",
                                 image,
                                 NULL };
    struct spawn_fd fds[] = { { STDIN_FILENO, 0 }, { STDOUT_FILENO, 1 }, { STDERR_FILENO, 2 } };
    struct spawn_options spawn = { .argv = argv, .envp = (const char *const *)environ, .fds = fds, .n_fds = G_N_ELEMENTS(fds) };
    pid_t pid;

    print_error("The step failed. This is a shell in what it left; leave it to go on.\n");
    pid = spawn_program(&spawn, NULL);
    if (pid > 0)
        spawn_wait(pid);
    delete (cli, "images", image, "force=1");
}
