/* File descriptors: ownership, whole reads and writes, copying between fds, passing them between processes. Every fd is
 * close-on-exec from birth. */
#pragma once

#include "base/error.h"

#include <sys/types.h>

/* g_autofd: closes at the end of the scope, keeps errno; -1 means none. (GLib has one of that name only from 2.76.) */
static inline void fd_clear(int *fd)
{
    extern void fd_close(int fd);
    if (*fd >= 0)
        fd_close(*fd);
    *fd = -1;
}
#ifndef g_autofd
#define g_autofd _GLIB_CLEANUP(fd_clear)
#endif

/* Closes, keeping errno; ignores negative values. */
void fd_close(int fd);

/* Hands an fd over: returns it and leaves -1. */
static inline int fd_steal(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

/* Reads until length bytes or end of file, through EINTR. Returns the bytes read (short only at end of file) or -1 with errno.
 * Async-signal-safe. */
ssize_t fd_read_full(int fd, void *buffer, size_t length);
ssize_t fd_pread_full(int fd, void *buffer, size_t length, off_t offset);

/* Writes all of it, through EINTR; 0, or -1 with errno. Async-signal-safe. */
int fd_write_full(int fd, const void *data, size_t length);
int fd_pwrite_full(int fd, const void *data, size_t length, off_t offset);

/* Reads to the end of file, at most max bytes (more is TARE_ERROR_TOO_LARGE naming what). *ret gets a NUL after the data, not
 * counted in *ret_length. */
bool fd_read_all(int fd, size_t max, const char *what, char **ret, size_t *ret_length, GError **error);

/* Copies length bytes (-1: to the end of file) from one fd's position to the other's by the kernel where it can (copy_file_range,
 * sendfile). *ret_copied may be NULL. */
bool fd_copy(int from, int to, gint64 length, gint64 *ret_copied, GError **error);

/* A memfd with these bytes, sealed against every change, position 0; -1 and error otherwise. */
int fd_new_sealed(const char *name, const void *data, size_t length, GError **error);

/* Sends length bytes with up to FD_PASS_MAX fds over a unix stream socket, the fds on the first byte; 0 or -1 with errno. */
#define FD_PASS_MAX 200
int fd_send(int socket, const void *data, size_t length, const int *fds, size_t n_fds);
/* Receives up to length bytes and the fds that came along (close-on-exec). Returns bytes, 0 at end of file, -1 with errno; *n_fds
 * is room on entry, count on return. Surplus fds are closed. */
ssize_t fd_receive(int socket, void *buffer, size_t length, int *fds, size_t *n_fds);

int fd_set_nonblocking(int fd, bool on); /* 0, or -1 with errno */
