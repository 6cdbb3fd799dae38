/* Files of our own state: read with a bound, written so that a reader, also after a crash, sees the old or the new content and
 * nothing between. */
#pragma once

#include "base/error.h"

#include <sys/types.h>

/* Reads dirfd/path (AT_FDCWD allowed), a regular file of at most max bytes; a missing file is TARE_ERROR_NOT_FOUND.
 * NUL-terminated. */
bool file_read(int dirfd, const char *path, size_t max, char **ret, size_t *ret_length, GError **error);

/* Writes dirfd/name whole: temporary file in the same directory, fsync where durable, rename, fsync of the directory where
 * durable. */
bool file_write(int dirfd, const char *name, const void *data, size_t length, mode_t mode, bool durable, GError **error);

/* Makes an unnamed-until-published file: *ret_name is its temporary name in dirfd. Publish with file_publish, or unlink it. */
int file_new_temporary(int dirfd, mode_t mode, char **ret_name, GError **error);
/* fsync (where durable), rename to name, fsync of the directory (where durable). The fd stays the caller's. */
bool file_publish(int dirfd, const char *temporary, int fd, const char *name, bool durable, GError **error);

/* Temporary names start with this; start-up sweeps them. */
#define FILE_TEMPORARY_PREFIX ".tmp-"
bool file_sweep_temporaries(int dirfd, GError **error);
/* Removes all that is in a directory; the directory stays. */
bool dir_empty(int dirfd, GError **error);

/* mkdir that accepts an existing directory, and opens it (O_DIRECTORY|O_NOFOLLOW). -1 and error otherwise. */
int dir_make(int dirfd, const char *name, mode_t mode, GError **error);
/* The same for each component of an absolute or relative path of ours (never one that comes from an image or container). */
int dir_make_path(const char *path, mode_t mode, GError **error);

/* Hints that what is made in this directory are trees that have nothing to do with one another, and may be removed together. On
 * ext4 each then begins in a block group of its own. In one group all of them would meet the inodes that the last one freed,
 * which ext4 does not give away again for one to five minutes and passes over, one by one, for each new file. Other file systems
 * know no such hint. */
void dir_spread(int dirfd);

/* Removes dirfd/name and all below, without following links, crossing no mount; an absent name is success. Iterative, so that
 * depth is no stack. */
bool dir_remove_tree(int dirfd, const char *name, GError **error);
