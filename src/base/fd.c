#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

void fd_close(int fd)
{
    if (fd < 0)
        return;
    int saved = errno;
    close(fd);
    errno = saved;
}

ssize_t fd_read_full(int fd, void *buffer, size_t length)
{
    size_t done = 0;
    while (done < length) {
        ssize_t n = read(fd, (char *)buffer + done, length - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

ssize_t fd_pread_full(int fd, void *buffer, size_t length, off_t offset)
{
    size_t done = 0;
    while (done < length) {
        ssize_t n = pread(fd, (char *)buffer + done, length - done, offset + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int fd_write_full(int fd, const void *data, size_t length)
{
    size_t done = 0;
    while (done < length) {
        ssize_t n = write(fd, (const char *)data + done, length - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

int fd_pwrite_full(int fd, const void *data, size_t length, off_t offset)
{
    size_t done = 0;
    while (done < length) {
        ssize_t n = pwrite(fd, (const char *)data + done, length - done, offset + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

bool fd_read_all(int fd, size_t max, const char *what, char **ret, size_t *ret_length, GError **error)
{
    size_t room = 4096, length = 0;
    g_autofree char *data = g_malloc(room + 1);
    for (;;) {
        ssize_t n = fd_read_full(fd, data + length, room - length);
        if (n < 0)
            return error_set_errno(error, errno, "read %s", what);
        length += (size_t)n;
        if (length > max)
            return error_set(error, TARE_ERROR_TOO_LARGE, "%s is larger than %zu bytes", what, max);
        if (length < room)
            break;
        room *= 2;
        data = g_realloc(data, room + 1);
    }
    data[length] = '\0';
    *ret = g_steal_pointer(&data);
    if (ret_length)
        *ret_length = length;
    return true;
}

/* One step of a copy in the kernel; falls from copy_file_range to sendfile to read and write as errno asks. */
static ssize_t copy_step(int from, int to, size_t length, int *method)
{
    static const int unsupported[] = { EXDEV, EINVAL, ENOSYS, EOPNOTSUPP, EBADF, EPERM };
    for (;;) {
        ssize_t n;
        if (*method == 0) {
            n = copy_file_range(from, NULL, to, NULL, length, 0);
        } else if (*method == 1) {
            n = sendfile(to, from, NULL, length);
        } else {
            char buffer[65536];
            n = read(from, buffer, MIN(length, sizeof buffer));
            if (n > 0 && fd_write_full(to, buffer, (size_t)n) < 0)
                return -1;
        }
        if (n >= 0)
            return n;
        if (errno == EINTR)
            continue;
        bool try_next = false;
        for (size_t i = 0; i < G_N_ELEMENTS(unsupported); i++)
            try_next |= errno == unsupported[i];
        if (!try_next || *method == 2)
            return -1;
        (*method)++;
    }
}

bool fd_copy(int from, int to, gint64 length, gint64 *ret_copied, GError **error)
{
    gint64 copied = 0;
    int method = 0;
    while (length < 0 || copied < length) {
        gint64 want = length < 0 ? 1 << 26 : MIN(length - copied, 1 << 26);
        ssize_t n = copy_step(from, to, (size_t)want, &method);
        if (n < 0)
            return error_set_errno(error, errno, "copy");
        /* copy_file_range says 0 for files of procfs and the like, whose size is 0. */
        if (n == 0 && method == 0 && copied == 0 && length != 0) {
            method = 2;
            continue;
        }
        if (n == 0)
            break;
        copied += n;
    }
    if (length >= 0 && copied < length)
        return error_set(error, TARE_ERROR_INTERNAL, "copy: unexpected end of file after %" G_GINT64_FORMAT " bytes", copied);
    if (ret_copied)
        *ret_copied = copied;
    return true;
}

int fd_new_sealed(const char *name, const void *data, size_t length, GError **error)
{
    g_autofd int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || fd_write_full(fd, data, length) < 0 || lseek(fd, 0, SEEK_SET) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0) {
        error_set_errno(error, errno, "memfd %s", name);
        return -1;
    }
    return fd_steal(&fd);
}

int fd_send(int socket, const void *data, size_t length, const int *fds, size_t n_fds)
{
    if (n_fds > FD_PASS_MAX) {
        errno = EINVAL;
        return -1;
    }
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
    } control;
    struct iovec io = { .iov_base = (void *)data, .iov_len = length };
    struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1 };
    if (n_fds > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * n_fds);
    }
    for (;;) {
        ssize_t n = sendmsg(socket, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        size_t sent = (size_t)n;
        while (sent < length) {
            n = send(socket, (const char *)data + sent, length - sent, MSG_NOSIGNAL);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return -1;
            sent += (size_t)n;
        }
        return 0;
    }
}

/* Takes the fds of one control message, as many as there is room for; closes the others. */
static void take_fds(struct msghdr *message, int *fds, size_t room, size_t *taken)
{
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
            if (*taken < room)
                fds[(*taken)++] = fd;
            else
                fd_close(fd);
        }
    }
}

ssize_t fd_receive(int socket, void *buffer, size_t length, int *fds, size_t *n_fds)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
    } control;
    size_t room = n_fds ? *n_fds : 0, taken = 0;
    for (;;) {
        struct iovec io = { .iov_base = buffer, .iov_len = length };
        struct msghdr message = {
            .msg_iov = &io, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes
        };
        ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n >= 0)
            take_fds(&message, fds, room, &taken);
        if (n_fds)
            *n_fds = taken;
        return n;
    }
}

int fd_set_nonblocking(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -1;
    return fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}
