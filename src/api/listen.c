/* The engine's sockets, from -H: unix://PATH, tcp://ADDRESS:PORT, fd:// (systemd's). */
#include "api/api-internal.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 512, SYSTEMD_FIRST_FD = 3, SYSTEMD_MAX_FDS = 16 };

/* The group whose members may use the engine: the named one must exist; else the first of the usual ones that does. */
static bool find_group(const char *wanted, gid_t *ret, GError **error)
{
    const char *const usual[] = { "tare", "docker" };
    struct group *group = NULL;
    *ret = 0;
    if (wanted && *wanted) {
        guint64 number;
        if (parse_uint(wanted, G_MAXUINT32 - 1, &number))
            return *ret = (gid_t)number, true;
        if (!(group = getgrnam(wanted)))
            return error_set(error, TARE_ERROR_INVALID, "group %s not found", wanted);
    }
    for (size_t i = 0; !group && i < G_N_ELEMENTS(usual); i++)
        group = getgrnam(usual[i]);
    if (group)
        *ret = group->gr_gid;
    return true;
}

/* A file that a dead engine left is replaced; one that somebody answers on is not. */
static bool clear_stale(const struct sockaddr_un *address, GError **error)
{
    struct stat st;
    if (lstat(address->sun_path, &st) < 0)
        return true;
    if (!S_ISSOCK(st.st_mode))
        return error_set(error, TARE_ERROR_CONFLICT, "can't create unix socket %s: it is there and no socket", address->sun_path);
    g_autofd int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (probe >= 0 && connect(probe, (const struct sockaddr *)address, sizeof *address) == 0)
        return error_set(error, TARE_ERROR_CONFLICT, "listen unix %s: bind: address already in use", address->sun_path);
    return unlink(address->sun_path) == 0 || errno == ENOENT || error_set_errno(error, errno, "remove %s", address->sun_path);
}

static int listen_unix(const char *path, const char *group, GError **error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (*path != '/' || strlen(path) >= sizeof address.sun_path) {
        error_set(error, TARE_ERROR_INVALID, "invalid socket path \"%s\": it must be absolute and shorter than %zu bytes", path,
                  sizeof address.sun_path);
        return -1;
    }
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    g_autofree char *parent = g_path_get_dirname(path);
    gid_t gid;
    g_autofd int directory = dir_make_path(parent, 0711, error);
    if (directory < 0 || !find_group(group, &gid, error) || !clear_stale(&address, error))
        return -1;
    g_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* Nobody else can connect before owner and mode are right. */
    mode_t before = umask(0177);
    int r = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&address, sizeof address);
    umask(before);
    if (r < 0 || chown(path, 0, gid) < 0 || chmod(path, 0660) < 0 || listen(fd, BACKLOG) < 0) {
        error_set_errno(error, errno, "listen unix %s", path);
        return -1;
    }
    return fd_steal(&fd);
}

/* "127.0.0.1:2375", "[::1]:2375", ":2375". */
static bool split_address(const char *address, char **ret_host, char **ret_port, GError **error)
{
    const char *colon = strrchr(address, ':');
    guint64 port;
    if (!colon || !parse_uint(colon + 1, 65535, &port))
        return error_set(error, TARE_ERROR_INVALID, "invalid bind address (%s): a port is needed", address);
    g_autofree char *host = g_strndup(address, (gsize)(colon - address));
    size_t length = strlen(host);
    if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
        memmove(host, host + 1, length - 2);
        host[length - 2] = '\0';
    }
    *ret_host = g_steal_pointer(&host);
    *ret_port = g_strdup(colon + 1);
    return true;
}

static int listen_tcp(const char *text, GError **error)
{
    g_autofree char *host = NULL, *port = NULL;
    if (!split_address(text, &host, &port, error))
        return -1;
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    struct addrinfo *found = NULL;
    int r = getaddrinfo(*host ? host : NULL, port, &hints, &found);
    if (r != 0) {
        error_set(error, TARE_ERROR_INVALID, "listen tcp %s: %s", text, gai_strerror(r));
        return -1;
    }
    g_autofd int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
              bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0;
    freeaddrinfo(found);
    if (!ok) {
        error_set_errno(error, errno, "listen tcp %s", text);
        return -1;
    }
    return fd_steal(&fd);
}

/* sd_listen_fds(3): for us where LISTEN_PID is our pid. */
static bool take_systemd_fds(GArray *fds, GError **error)
{
    guint64 pid, n;
    if (!parse_uint(g_getenv("LISTEN_PID"), G_MAXINT32, &pid) || pid != (guint64)getpid() ||
        !parse_uint(g_getenv("LISTEN_FDS"), SYSTEMD_MAX_FDS, &n) || n == 0)
        return error_set(error, TARE_ERROR_INVALID,
                         "no sockets found via socket activation: make sure the service was started by systemd");
    for (int fd = SYSTEMD_FIRST_FD; fd < SYSTEMD_FIRST_FD + (int)n; fd++) {
        int copy = fcntl(fd, F_DUPFD_CLOEXEC, SYSTEMD_FIRST_FD);
        if (copy < 0)
            return error_set_errno(error, errno, "socket activation");
        fd_close(fd);
        g_array_append_val(fds, copy);
    }
    return true;
}

bool listen_on(const char *host, const char *group, GArray *fds, enum listen_kind *ret_kind, GError **error)
{
    int fd = -1;
    if (g_str_has_prefix(host, "unix://")) {
        *ret_kind = LISTEN_UNIX;
        fd = listen_unix(host + strlen("unix://"), group, error);
    } else if (g_str_has_prefix(host, "tcp://")) {
        *ret_kind = LISTEN_TCP;
        fd = listen_tcp(host + strlen("tcp://"), error);
    } else if (g_str_has_prefix(host, "fd://")) {
        *ret_kind = LISTEN_SYSTEMD;
        return take_systemd_fds(fds, error);
    } else {
        error_set(error, TARE_ERROR_INVALID, "invalid bind address format: %s", host);
    }
    if (fd < 0)
        return false;
    g_array_append_val(fds, fd);
    return true;
}
