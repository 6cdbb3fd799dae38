#include "shim/shim.h"

#include "base/fd.h"
#include "base/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_BACKLOG 64
#define READY_MAX 65536

/* A socket's path has room for 107 bytes, and a data root may be deep: longer ones go through the directory's fd. The caller
 * closes *ret_directory after use. */
static bool fill_address(const char *path, struct sockaddr_un *address, int *ret_directory, GError **error)
{
    *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    g_autofree char *directory = g_path_get_dirname(path), *name = g_path_get_basename(path), *short_path = NULL;
    if (strlen(path) >= sizeof address->sun_path) {
        *ret_directory = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (*ret_directory < 0 && errno == ENOENT)
            return error_set(error, TARE_ERROR_NOT_FOUND, "open %s: no such file or directory", directory);
        if (*ret_directory < 0)
            return error_set_errno(error, errno, "open %s", directory);
        short_path = g_strdup_printf("/proc/self/fd/%d/%s", *ret_directory, name);
    }
    const char *text = short_path ? short_path : path;
    if (g_strlcpy(address->sun_path, text, sizeof address->sun_path) >= sizeof address->sun_path)
        return error_set(error, TARE_ERROR_INVALID, "socket name %s is too long", name);
    return true;
}

int shim_connect(const char *socket_path, GError **error)
{
    struct sockaddr_un address;
    g_autofd int directory = -1, fd = -1;
    if (!fill_address(socket_path, &address, &directory, error))
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int result = fd < 0 ? -1 : connect(fd, (struct sockaddr *)&address, sizeof address);
    if (result == 0)
        return fd_steal(&fd);
    if (errno == ENOENT || errno == ECONNREFUSED)
        error_set(error, TARE_ERROR_NOT_FOUND, "no shim listens at %s", socket_path);
    else
        error_set_errno(error, errno, "connect to %s", socket_path);
    return -1;
}

int shim_listen(const char *socket_path, GError **error)
{
    struct sockaddr_un address;
    g_autofd int directory = -1, fd = -1;
    if (!fill_address(socket_path, &address, &directory, error))
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && unlink(address.sun_path) < 0 && errno != ENOENT) {
        error_set_errno(error, errno, "remove %s", socket_path);
        return -1;
    }
    /* The mode of the socket is there before anybody can connect: that needs listen. */
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || chmod(address.sun_path, 0600) < 0 ||
        listen(fd, LISTEN_BACKLOG) < 0) {
        error_set_errno(error, errno, "listen at %s", socket_path);
        return -1;
    }
    return fd_steal(&fd);
}

/* An "error" member becomes the GError. */
static bool check_reply(const json_t *reply, GError **error)
{
    const json_t *problem = json_get_object(reply, "error");
    if (json_get_bool(reply, "ok", false) && !problem)
        return true;
    gint64 code = json_get_int(problem, "code", TARE_ERROR_INTERNAL);
    if (code < 0 || code >= TARE_ERROR_N_CODES)
        code = TARE_ERROR_INTERNAL;
    return error_set(error, (enum tare_error)code, "%s", json_get_string(problem, "message", "shim: malformed reply"));
}

static void close_fds(int *fds, size_t *n_fds)
{
    for (size_t i = 0; n_fds && i < *n_fds; i++)
        fd_close(fds[i]);
    if (n_fds)
        *n_fds = 0;
}

bool shim_request(int connection, const json_t *request, const int *fds, size_t n_fds, json_t **ret_reply, int *ret_fds,
                  size_t *n_ret_fds, GError **error)
{
    if (!frame_send(connection, request, fds, n_fds, error)) {
        if (n_ret_fds)
            *n_ret_fds = 0;
        return false;
    }
    return shim_reply(connection, ret_reply, ret_fds, n_ret_fds, error);
}

bool shim_reply(int connection, json_t **ret_reply, int *ret_fds, size_t *n_ret_fds, GError **error)
{
    g_autoptr(json_t) reply = NULL;
    if (!frame_receive(connection, &reply, ret_fds, n_ret_fds, error)) {
        if (n_ret_fds)
            *n_ret_fds = 0;
        return false;
    }
    if (!reply) {
        if (n_ret_fds)
            *n_ret_fds = 0;
        return error_set(error, TARE_ERROR_UNAVAILABLE, "the container's shim has ended");
    }
    if (!check_reply(reply, error)) {
        close_fds(ret_fds, n_ret_fds);
        return false;
    }
    json_object_del(reply, "ok");
    if (ret_reply)
        *ret_reply = g_steal_pointer(&reply);
    return true;
}

bool shim_call(const char *socket_path, const json_t *request, const int *fds, size_t n_fds, json_t **ret_reply, int *ret_fds,
               size_t *n_ret_fds, GError **error)
{
    g_autofd int connection = shim_connect(socket_path, error);
    if (connection < 0) {
        if (n_ret_fds)
            *n_ret_fds = 0;
        return false;
    }
    return shim_request(connection, request, fds, n_fds, ret_reply, ret_fds, n_ret_fds, error);
}

bool shim_wait_ready(int ready_fd, GError **error)
{
    guint8 header[4];
    char text[READY_MAX];
    if (fd_read_full(ready_fd, header, sizeof header) != (ssize_t)sizeof header)
        return error_set(error, TARE_ERROR_INTERNAL, "the container's shim ended before it was ready");
    guint32 length = (guint32)header[0] | (guint32)header[1] << 8 | (guint32)header[2] << 16 | (guint32)header[3] << 24;
    if (length > sizeof text || fd_read_full(ready_fd, text, length) != (ssize_t)length)
        return error_set(error, TARE_ERROR_INTERNAL, "the container's shim sent no whole answer");
    g_autoptr(json_t) reply = json_parse(text, length, sizeof text, "shim", error);
    return reply && check_reply(reply, error);
}
