/* What a directory holds, in the two figures that people ask for. */
#pragma once

#include "base/error.h"

struct measure {
    guint64 content_bytes; /* sizes of all but directories, each inode once: what Docker calls a directory's size */
    guint64 disk_bytes;    /* blocks of everything, directories included, each inode once: what `du` says */
};
/* dirfd/name and all below, without following links, crossing no mount. What vanishes meanwhile is not counted, and an absent
 * name is nothing. */
void measure_tree(int dirfd, const char *name, struct measure *ret);
