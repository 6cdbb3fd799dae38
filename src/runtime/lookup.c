/* Finding what to execute, as Go's exec.LookPath does for runc: PATH of the process's own environment, inside the root, through
 * no magic link (an image whose /bin/sh is a link to /proc/self/exe would else execute our own program). */
#include "runtime/runtime-internal.h"

#include "base/fd.h"
#include "base/root_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *path_of(const char *const *environment)
{
    for (; environment && *environment; environment++)
        if (strncmp(*environment, "PATH=", 5) == 0)
            return *environment + 5;
    return "";
}

/* 0 where a file may be executed; the errno's step tells a failed stat from a file that will not do. */
static int judge(int root, const char *path, const char **ret_step)
{
    struct stat st;
    *ret_step = "stat";
    g_autofd int fd = root_open(root, path, O_PATH, 0);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    *ret_step = "permission";
    if (!S_ISREG(st.st_mode) || !(st.st_mode & 0111))
        return -EACCES;
    /* As the user we are now. faccessat2 works on the fd; an old kernel is asked by execve itself. */
    if (faccessat(fd, "", X_OK, AT_EACCESS | AT_EMPTY_PATH) < 0 && errno == EACCES)
        return -EACCES;
    return 0;
}

static char *joined(const char *dir, size_t length, const char *name)
{
    size_t n = strlen(name);
    char *path = malloc(length + n + 2);
    if (!path)
        return NULL;
    memcpy(path, dir, length);
    path[length] = '/';
    memcpy(path + length + 1, name, n + 1);
    return path;
}

/* A relative name is meant from the working directory. */
static int judge_named(struct child *child, const char *name, const char **ret_step)
{
    if (name[0] == '/')
        return judge(child->root, name, ret_step);
    char where[4096];
    *ret_step = "stat";
    if (!getcwd(where, sizeof where))
        return -errno;
    char *absolute = joined(where, strlen(where), name);
    int r = absolute ? judge(child->root, absolute, ret_step) : -ENOMEM;
    int saved = errno;
    free(absolute);
    errno = saved;
    return r;
}

static int fail(struct child *child, int r, const char *step)
{
    const char *strings[3] = { step, NULL, NULL };
    channel_send(child->channel, FRAME_EXEC_FAILED, -r, strings, NULL, 0);
    _exit(127);
}

int step_lookup(struct child *child)
{
    const char *name = child->arguments[0], *step;
    if (strchr(name, '/')) {
        int r = judge_named(child, name, &step);
        if (r < 0)
            return fail(child, r, step);
        child->executable = strdup(name);
        return child->executable ? 0 : -ENOMEM;
    }
    for (const char *dir = path_of(child->environment); *name && *dir;) {
        size_t length = strcspn(dir, ":");
        /* Relative entries, the empty one among them, are not searched: Go refuses what they find. */
        char *path = dir[0] == '/' ? joined(dir, length, name) : NULL;
        if (path && judge(child->root, path, &step) == 0) {
            child->executable = path;
            return 0;
        }
        free(path);
        dir += length + (dir[length] == ':');
    }
    return fail(child, -ENOENT, "lookup");
}
