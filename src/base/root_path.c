#include "base/root_path.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

bool root_path_force_walk;

#define LINKS_MAX 40 /* the kernel's own limit on links in one resolution */

/* The part of a path not walked yet; links put their targets in front of it. */
struct rest {
    char *text;
    size_t at;
};

static void rest_clear(struct rest *rest)
{
    free(rest->text);
}

/* The next component (NUL-terminated in place) and whether it is the last; NULL at the end. */
static char *rest_next(struct rest *rest, bool *last)
{
    while (rest->text[rest->at] == '/')
        rest->at++;
    if (!rest->text[rest->at])
        return NULL;
    char *name = rest->text + rest->at;
    size_t length = strcspn(name, "/");
    size_t after = rest->at + length;
    size_t skip = strspn(rest->text + after, "/");
    *last = rest->text[after + skip] == '\0';
    if (rest->text[after])
        rest->text[after++] = '\0';
    rest->at = after;
    return name;
}

static int rest_prepend(struct rest *rest, const char *target)
{
    const char *tail = rest->text + rest->at;
    size_t size = strlen(target) + 1 + strlen(tail) + 1;
    if (size > ROOT_PATH_MAX)
        return errno = ENAMETOOLONG, -1;
    char *joined = malloc(size);
    if (!joined)
        return -1;
    char *end = stpcpy(joined, target);
    *end++ = '/';
    memcpy(end, tail, strlen(tail) + 1);
    free(rest->text);
    rest->text = joined;
    rest->at = 0;
    return 0;
}

/* The directories entered so far, so that ".." never asks the file system and cannot leave. */
struct trail {
    int *fds;
    size_t length, room;
};

static void trail_clear(struct trail *trail)
{
    for (size_t i = 0; i < trail->length; i++)
        fd_close(trail->fds[i]);
    free(trail->fds);
}

static int trail_push(struct trail *trail, int fd)
{
    if (trail->length == trail->room) {
        size_t room = trail->room ? trail->room * 2 : 16;
        int *fds = reallocarray(trail->fds, room, sizeof *fds);
        if (!fds) {
            fd_close(fd);
            return -1;
        }
        trail->fds = fds;
        trail->room = room;
    }
    trail->fds[trail->length++] = fd;
    return 0;
}

static void trail_pop(struct trail *trail)
{
    fd_close(trail->fds[--trail->length]);
}

/* Reads a link; malloc'd target or NULL. */
static char *read_link(int dir, const char *name)
{
    size_t room = 256;
    for (;;) {
        char *target = malloc(room);
        if (!target)
            return NULL;
        ssize_t n = readlinkat(dir, name, target, room);
        if (n >= 0 && (size_t)n < room) {
            target[n] = '\0';
            return target;
        }
        free(target);
        if (n < 0 || room > ROOT_PATH_MAX)
            return NULL;
        room *= 2;
    }
}

/* What a walk does on a component that does not exist. */
struct making {
    bool on;
    mode_t mode;
    uid_t uid;
    gid_t gid;
};

static int open_component(int dir, const char *name, const struct making *making)
{
    int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 || errno != ENOENT || !making->on)
        return fd;
    if (mkdirat(dir, name, making->mode) < 0 && errno != EEXIST)
        return -1;
    fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fchownat(fd, "", making->uid, making->gid, AT_EMPTY_PATH) < 0) {
        fd_close(fd);
        return -1;
    }
    return fd;
}

/* A link of procfs that the kernel follows by jumping (fd/7, exe, root, ns/…): its text names something of the host, or of us.
 * The plain ones (self, mounts, net) are relative. */
static bool is_magic(int fd, const char *target)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC && (target[0] == '/' || strchr(target, ':'));
}

static int step(struct trail *trail, struct rest *rest, const char *name, bool last, int flags, const struct making *making,
                int *n_links)
{
    int dir = trail->fds[trail->length - 1];
    int fd = open_component(dir, name, making);
    if (fd < 0)
        return -1;
    struct stat st;
    if (fstat(fd, &st) < 0 || (S_ISLNK(st.st_mode) && !(last && (flags & O_NOFOLLOW)))) {
        char *target = S_ISLNK(st.st_mode) ? read_link(dir, name) : NULL;
        bool magic = target && is_magic(fd, target);
        fd_close(fd);
        if (!target)
            return -1;
        if (magic || ++*n_links > LINKS_MAX) {
            free(target);
            return errno = ELOOP, -1;
        }
        if (target[0] == '/')
            while (trail->length > 1)
                trail_pop(trail);
        int r = rest_prepend(rest, target);
        free(target);
        return r;
    }
    return trail_push(trail, fd);
}

/* Opens the final component for real once its directory is known; follows no link (a link in its place was resolved before). */
static int open_final(int dir, const char *name, int flags, mode_t mode)
{
    return openat(dir, name, flags | O_NOFOLLOW | O_CLOEXEC, mode);
}

static int walk_from(struct trail *trail, struct rest *rest, int flags, mode_t mode, const struct making *making)
{
    int n_links = 0;
    bool last = true;
    for (char *name; (name = rest_next(rest, &last));) {
        if (strcmp(name, ".") == 0)
            continue;
        if (strcmp(name, "..") == 0) {
            if (trail->length > 1)
                trail_pop(trail);
            continue;
        }
        int dir = trail->fds[trail->length - 1];
        if (last && !making->on) {
            struct stat st;
            bool is_link = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
            if (!is_link || (flags & O_NOFOLLOW))
                return open_final(dir, name, flags, mode);
        }
        if (step(trail, rest, name, last, flags, making, &n_links) < 0)
            return -1;
    }
    return openat(trail->fds[trail->length - 1], ".", (flags & ~(O_CREAT | O_EXCL)) | O_CLOEXEC, mode);
}

static int walk(int root_fd, const char *path, int flags, mode_t mode, const struct making *making)
{
    if (strlen(path) >= ROOT_PATH_MAX)
        return errno = ENAMETOOLONG, -1;
    struct rest rest = { .text = strdup(path) };
    struct trail trail = { 0 };
    int fd = rest.text ? openat(root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0 && trail_push(&trail, fd) == 0)
        fd = walk_from(&trail, &rest, flags, mode, making);
    else
        fd = -1;
    int saved = errno;
    trail_clear(&trail);
    rest_clear(&rest);
    errno = saved;
    return fd;
}

int root_open(int root_fd, const char *path, int flags, mode_t mode)
{
    static const struct making no_making = { 0 };
    if (!root_path_force_walk) {
        struct open_how how = { .flags = (unsigned)(flags | O_CLOEXEC),
                                .mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
                                .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
        /* EAGAIN: a rename or mount raced with a "..". A bounded number of tries, for the other side may go on for ever. */
        for (int attempt = 0; attempt < 64; attempt++) {
            long fd = syscall(SYS_openat2, root_fd, *path ? path : ".", &how, sizeof how);
            if (fd >= 0)
                return (int)fd;
            if (errno != EAGAIN && errno != EINTR)
                break;
        }
        /* ENAMETOOLONG: beyond PATH_MAX the kernel gives up, the walk does not. */
        if (errno != ENOSYS && errno != EPERM && errno != ENAMETOOLONG)
            return -1;
    }
    return walk(root_fd, path, flags, mode, &no_making);
}

int root_make_directories(int root_fd, const char *path, mode_t mode, uid_t uid, gid_t gid)
{
    struct making making = { .on = true, .mode = mode, .uid = uid, .gid = gid };
    return walk(root_fd, path, O_PATH | O_DIRECTORY, 0, &making);
}

int root_open_parent(int root_fd, const char *path, const char **ret_name)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    size_t start = length;
    while (start > 0 && path[start - 1] != '/')
        start--;
    const char *name = path + start;
    if (length == 0 || strspn(path, "/") >= length) {
        *ret_name = ".";
        return root_open(root_fd, ".", O_PATH | O_DIRECTORY, 0);
    }
    if (strncmp(name, "..", length - start) == 0 && length - start == 2)
        return errno = EINVAL, -1;
    if (path[length] != '\0')
        return errno = ENOTDIR, -1;
    char *parent = strndup(path, start);
    int fd = parent ? root_open(root_fd, parent, O_PATH | O_DIRECTORY, 0) : -1;
    int saved = errno;
    free(parent);
    errno = saved;
    if (fd >= 0)
        *ret_name = name;
    return fd;
}

ssize_t root_read_file(int root_fd, const char *path, size_t max, char **ret)
{
    int fd = root_open(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0)
        return -1;
    struct stat st;
    char *data = NULL;
    ssize_t n = -1;
    if (fstat(fd, &st) < 0)
        ;
    else if (!S_ISREG(st.st_mode))
        errno = EINVAL;
    else if (st.st_size < 0 || (size_t)st.st_size > max)
        errno = EFBIG;
    else if ((data = malloc(max + 1 < (size_t)st.st_size + 4096 ? max + 1 : (size_t)st.st_size + 4096)))
        n = fd_read_full(fd, data, max < (size_t)st.st_size + 4095 ? max : (size_t)st.st_size + 4095);
    fd_close(fd);
    if (n < 0) {
        int saved = errno;
        free(data);
        errno = saved;
        return -1;
    }
    data[n] = '\0';
    *ret = data;
    return n;
}
