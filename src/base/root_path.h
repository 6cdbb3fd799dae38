/* The one way to open a path inside a container's or an image's root (docs/ARCHITECTURE.md, section 9.2).
 *
 * Paths are resolved as if root_fd were "/": absolute links and ".." stay inside; magic links are refused.
 * openat2(RESOLVE_IN_ROOT) where the kernel has it, else a walk of our own with the same results (root_path_force_walk, for
 * tests). Nothing here needs privilege; all of it is usable in a child of a single-threaded process, for it neither allocates
 * through GLib nor logs. Paths are bounded at ROOT_PATH_MAX. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#define ROOT_PATH_MAX 65536

/* As openat(2): flags (O_CLOEXEC is added), mode for O_CREAT. Returns an fd, or -1 with errno (ELOOP, ENOENT, ENOTDIR,
 * ENAMETOOLONG …). */
int root_open(int root_fd, const char *path, int flags, mode_t mode);

/* Opens the directory path, making what is missing of it (mode, owner as given) through links that stay inside. fd
 * (O_PATH|O_DIRECTORY) or -1 with errno. */
int root_make_directories(int root_fd, const char *path, mode_t mode, uid_t uid, gid_t gid);

/* Opens the parent directory of path (O_PATH) and points *ret_name at its last component ("." for the root itself). -1 with errno
 * for ".." as last component. */
int root_open_parent(int root_fd, const char *path, const char **ret_name);

/* Reads a regular file of at most max bytes (image files such as /etc/passwd: opened O_NONBLOCK, S_ISREG demanded). malloc'd,
 * NUL-terminated; -1 with errno (EFBIG when larger). */
ssize_t root_read_file(int root_fd, const char *path, size_t max, char **ret);

/* Tests and --no-openat2 only: use the walk even where openat2 works. */
extern bool root_path_force_walk;
