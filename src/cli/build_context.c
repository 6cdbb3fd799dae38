/* A scanned directory, or a tree for cp, as a tar. */
#include "cli/build-internal.h"

#include "base/fd.h"
#include "base/root_path.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define COPY_SIZE (256 * 1024)

struct walk {
    struct pack *pack;
    GHashTable *inodes; /* "dev:ino" → the first name */
    char *buffer;
    bool keep_owners;
    int parent_fd; /* of the entry before, -1 for none */
    char *parent;
};

/* Exactly size bytes: a file that grew or shrank under us must not break the archive. */
static bool send_content(struct walk *walk, int fd, guint64 size, const char *path, GError **error)
{
    for (guint64 left = size; left > 0;) {
        ssize_t n = fd_read_full(fd, walk->buffer, (size_t)MIN(left, COPY_SIZE));
        if (n <= 0)
            return error_set(error, TARE_ERROR_INVALID, "%s: file changed while it was read", path);
        if (!pack_data(walk->pack, walk->buffer, (gsize)n, error))
            return false;
        left -= (guint64)n;
    }
    return pack_padding(walk->pack, size, error);
}

static bool send_text(struct walk *walk, const char *name, const char *text, gsize length, guint32 mode, gint64 mtime,
                      GError **error)
{
    struct pack_entry entry = { .name = name, .mode = mode, .type = '0', .size = length, .mtime = mtime };
    return pack_header(walk->pack, &entry, error) && pack_data(walk->pack, text, length, error) &&
           pack_padding(walk->pack, length, error);
}

static bool send_file(struct walk *walk, int dirfd, const char *name, const char *path, struct pack_entry *entry, GError **error)
{
    g_autofd int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;
    char capability[256];
    if (fd < 0 || fstat(fd, &status) < 0)
        return error_set(error, TARE_ERROR_INVALID, "error checking context: no permission to read from '%s'", path);
    entry->size = (guint64)status.st_size;
    ssize_t n = fgetxattr(fd, "security.capability", capability, sizeof capability);
    if (n > 0) {
        entry->capability = capability;
        entry->capability_size = (gsize)n;
    }
    return pack_header(walk->pack, entry, error) && send_content(walk, fd, entry->size, path, error);
}

/* The name of an earlier link to the same file, or NULL after remembering this one. */
static const char *earlier_link(struct walk *walk, const struct stat *status, const char *path)
{
    if (status->st_nlink < 2 || S_ISDIR(status->st_mode))
        return NULL;
    char *key = g_strdup_printf("%llu:%llu", (unsigned long long)status->st_dev, (unsigned long long)status->st_ino);
    const char *first = g_hash_table_lookup(walk->inodes, key);
    if (first)
        g_free(key);
    else
        g_hash_table_insert(walk->inodes, key, g_strdup(path));
    return first;
}

static bool send_entry(struct walk *walk, int dirfd, const char *name, const char *path, const struct stat *status,
                       GError **error)
{
    struct pack_entry entry = { .name = path, .mode = status->st_mode, .mtime = status->st_mtim.tv_sec };
    if (walk->keep_owners) {
        entry.uid = status->st_uid;
        entry.gid = status->st_gid;
    }
    g_autofree char *text = NULL;
    const char *first = earlier_link(walk, status, path);
    if (first) {
        entry.type = '1';
        entry.link = first;
        return pack_header(walk->pack, &entry, error);
    }
    switch (status->st_mode & S_IFMT) {
    case S_IFREG:
        entry.type = '0';
        return send_file(walk, dirfd, name, path, &entry, error);
    case S_IFDIR:
        text = g_strconcat(path, "/", NULL);
        entry.type = '5';
        entry.name = text;
        return pack_header(walk->pack, &entry, error);
    case S_IFLNK:
        entry.type = '2';
        entry.link = text = context_read_link(dirfd, name);
        return text ? pack_header(walk->pack, &entry, error) : error_set_errno(error, errno, "readlink %s", path);
    case S_IFCHR:
    case S_IFBLK:
        entry.type = S_ISCHR(status->st_mode) ? '3' : '4';
        entry.major = major(status->st_rdev);
        entry.minor = minor(status->st_rdev);
        return pack_header(walk->pack, &entry, error);
    case S_IFIFO:
        entry.type = '6';
        return pack_header(walk->pack, &entry, error);
    default: /* sockets have no place in an archive */
        return true;
    }
}

static bool pack_tree(void *user, int dirfd, const char *name, const char *path, guint depth, GError **error)
{
    struct walk *walk = user;
    struct stat status;
    if (fstatat(dirfd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || error_set(error, TARE_ERROR_INVALID, "error checking context: can't stat '%s'", path);
    if (!send_entry(walk, dirfd, name, path, &status, error))
        return false;
    return !S_ISDIR(status.st_mode) || context_descend(dirfd, name, path, depth, pack_tree, walk, error);
}

static bool pack_scanned(struct walk *walk, const struct context_scan *scan, guint index, GError **error)
{
    const struct scan_entry *entry = &g_array_index(scan->entries, struct scan_entry, index);
    const char *slash = strrchr(entry->path, '/');
    if (entry->text)
        return send_text(walk, entry->path, entry->text, entry->length, entry->stat.st_mode & 07777, entry->stat.st_mtim.tv_sec,
                         error);
    if (!slash || !S_ISREG(entry->stat.st_mode)) {
        struct stat status = entry->stat;
        int fd = scan->fd;
        if (S_ISLNK(status.st_mode)) {
            struct pack_entry link = {
                .name = entry->path, .mode = status.st_mode, .mtime = status.st_mtim.tv_sec, .type = '2', .link = entry->link
            };
            return pack_header(walk->pack, &link, error);
        }
        return send_entry(walk, fd, entry->path, entry->path, &status, error);
    }
    /* Parents are opened once for all that is in them. */
    gsize length = (gsize)(slash - entry->path);
    if (walk->parent_fd < 0 || strlen(walk->parent) != length || strncmp(walk->parent, entry->path, length) != 0) {
        g_free(walk->parent);
        walk->parent = g_strndup(entry->path, length);
        fd_clear(&walk->parent_fd);
        walk->parent_fd = root_open(scan->fd, walk->parent, O_PATH | O_DIRECTORY, 0);
        if (walk->parent_fd < 0)
            return error_set(error, TARE_ERROR_INVALID, "error checking context: can't stat '%s'", walk->parent);
    }
    return send_entry(walk, walk->parent_fd, slash + 1, entry->path, &entry->stat, error);
}

bool context_pack(struct pack *pack, const struct context_scan *scan, const GArray *only, GError **error)
{
    g_autoptr(GHashTable) inodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autofree char *buffer = g_malloc(COPY_SIZE);
    struct walk walk = { .pack = pack, .inodes = inodes, .buffer = buffer, .parent_fd = -1 };
    guint n = only ? only->len : scan->entries->len;
    bool good = true;
    for (guint i = 0; good && i < n; i++)
        good = pack_scanned(&walk, scan, only ? g_array_index(only, guint, i) : i, error);
    fd_clear(&walk.parent_fd);
    g_free(walk.parent);
    return good && pack_end(pack, error);
}

bool context_pack_entry(struct pack *pack, const char *parent, const char *name, const char *as, GError **error)
{
    g_autofd int dirfd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return error_set_errno(error, errno, "open %s", parent);
    g_autoptr(GHashTable) inodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autofree char *buffer = g_malloc(COPY_SIZE);
    struct walk walk = { .pack = pack, .inodes = inodes, .buffer = buffer, .keep_owners = true, .parent_fd = -1 };
    bool ok = name ? pack_tree(&walk, dirfd, name, as, 0, error) : context_walk(dirfd, "", 0, pack_tree, &walk, error);
    return ok && pack_end(pack, error);
}
