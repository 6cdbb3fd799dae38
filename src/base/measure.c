#include "base/measure.h"

#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 512 /* each level holds an fd; deeper trees are counted up to there */

struct walk {
    struct measure *sum;
    GHashTable *linked; /* inodes with several names that were counted */
    dev_t device;
};

static bool is_counted(struct walk *walk, const struct stat *st)
{
    if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
        return false;
    if (!walk->linked)
        walk->linked = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    gint64 inode = (gint64)st->st_ino; /* one device only: no mount is crossed */
    return !g_hash_table_add(walk->linked, g_memdup2(&inode, sizeof inode));
}

static void count(struct walk *walk, const struct stat *st)
{
    if (is_counted(walk, st))
        return;
    walk->sum->disk_bytes += (guint64)st->st_blocks * 512;
    if (!S_ISDIR(st->st_mode))
        walk->sum->content_bytes += (guint64)st->st_size;
}

/* Takes the fd. */
static void walk_directory(struct walk *walk, int fd, guint depth)
{
    DIR *directory = fdopendir(fd);
    if (!directory) {
        fd_close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory));) {
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != walk->device)
            continue;
        count(walk, &st);
        int below = S_ISDIR(st.st_mode) && depth < DEPTH_MAX
                        ? openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                        : -1;
        if (below >= 0)
            walk_directory(walk, below, depth + 1);
    }
    closedir(directory);
}

void measure_tree(int dirfd, const char *name, struct measure *ret)
{
    struct stat st;
    *ret = (struct measure){ 0 };
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    struct walk walk = { .sum = ret, .device = st.st_dev };
    count(&walk, &st);
    int fd = S_ISDIR(st.st_mode) ? openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd >= 0)
        walk_directory(&walk, fd, 0);
    g_clear_pointer(&walk.linked, g_hash_table_unref);
}
