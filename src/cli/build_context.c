/* A directory as a build's context: walked in the order of names, without what .dockerignore leaves out. */
#include "cli/build-internal.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DEPTH_MAX 1024
#define COPY_SIZE (256 * 1024)

struct walk {
    struct pack *pack;
    const struct ignore *ignore;
    const struct extra_dockerfile *extra;
    GHashTable *inodes; /* "dev:ino" → the first name */
    char *buffer;
    bool ignore_file_seen, keep_owners;
};

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static GPtrArray *list_names(int dirfd, const char *path, GError **error)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    if (!stream) {
        error_set(error, TARE_ERROR_INVALID, "error checking context: can't stat '%s'", path);
        fd_close(fd);
        return NULL;
    }
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    for (struct dirent *entry; (entry = readdir(stream));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            g_ptr_array_add(names, g_strdup(entry->d_name));
    closedir(stream);
    g_ptr_array_sort(names, by_name);
    return names;
}

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

/* With a Dockerfile from elsewhere .dockerignore hides that name from COPY. */
static bool send_ignore_file(struct walk *walk, const char *old, guint32 mode, gint64 mtime, GError **error)
{
    g_autofree char *text = g_strconcat(old, "\n", walk->extra->name, "\n", NULL);
    walk->ignore_file_seen = true;
    return send_text(walk, ".dockerignore", text, strlen(text), mode, mtime, error);
}

static bool send_file(struct walk *walk, int dirfd, const char *name, const char *path, struct pack_entry *entry, GError **error)
{
    g_autofd int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;
    char capability[256];
    if (fd < 0 || fstat(fd, &status) < 0)
        return error_set(error, TARE_ERROR_INVALID, "error checking context: no permission to read from '%s'", path);
    entry->size = (guint64)status.st_size;
    if (walk->extra && strcmp(path, ".dockerignore") == 0) {
        g_autofree char *text = NULL;
        size_t length;
        return fd_read_all(fd, IGNORE_TEXT_MAX, path, &text, &length, error) &&
               send_ignore_file(walk, text, entry->mode, entry->mtime, error);
    }
    ssize_t n = fgetxattr(fd, "security.capability", capability, sizeof capability);
    if (n > 0) {
        entry->capability = capability;
        entry->capability_size = (gsize)n;
    }
    return pack_header(walk->pack, entry, error) && send_content(walk, fd, entry->size, path, error);
}

static char *read_link(int dirfd, const char *name)
{
    for (gsize room = 256; room <= 65536; room *= 4) {
        g_autofree char *text = g_malloc(room);
        ssize_t n = readlinkat(dirfd, name, text, room);
        if (n < 0)
            return NULL;
        if ((gsize)n < room)
            return g_strndup(text, (gsize)n);
    }
    return NULL;
}

static bool walk_directory(struct walk *walk, int dirfd, const char *path, guint depth, GError **error);

static bool descend(struct walk *walk, int dirfd, const char *name, const char *path, guint depth, GError **error)
{
    g_autofd int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_set(error, TARE_ERROR_INVALID, "error checking context: can't stat '%s'", path);
    return walk_directory(walk, fd, path, depth + 1, error);
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
        entry.link = text = read_link(dirfd, name);
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

static bool visit(struct walk *walk, int dirfd, const char *name, const char *path, guint depth, GError **error)
{
    struct stat status;
    if (fstatat(dirfd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || error_set(error, TARE_ERROR_INVALID, "error checking context: can't stat '%s'", path);
    bool left_out = ignore_matches(walk->ignore, path), is_directory = S_ISDIR(status.st_mode);
    if (left_out && !(is_directory && ignore_may_hold(walk->ignore, path)))
        return true;
    if (!left_out && !send_entry(walk, dirfd, name, path, &status, error))
        return false;
    return !is_directory || descend(walk, dirfd, name, path, depth, error);
}

static bool walk_directory(struct walk *walk, int dirfd, const char *path, guint depth, GError **error)
{
    if (depth > DEPTH_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "context is deeper than %d directories", DEPTH_MAX);
    g_autoptr(GPtrArray) names = list_names(dirfd, path, error);
    if (!names)
        return false;
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *child = *path ? g_strconcat(path, "/", names->pdata[i], NULL) : g_strdup(names->pdata[i]);
        if (!visit(walk, dirfd, names->pdata[i], child, depth, error))
            return false;
    }
    return true;
}

bool context_pack(struct pack *pack, const char *directory, const struct ignore *ignore, const struct extra_dockerfile *extra,
                  GError **error)
{
    g_autofd int dirfd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return error_set_errno(error, errno, "open %s", directory);
    g_autoptr(GHashTable) inodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autofree char *buffer = g_malloc(COPY_SIZE);
    struct walk walk = { .pack = pack, .ignore = ignore, .extra = extra, .inodes = inodes, .buffer = buffer };
    if (!walk_directory(&walk, dirfd, "", 0, error))
        return false;
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    if (extra && !walk.ignore_file_seen && !send_ignore_file(&walk, ".dockerignore", 0600, now, error))
        return false;
    if (extra && !send_text(&walk, extra->name, extra->text, extra->length, 0600, now, error))
        return false;
    return pack_end(pack, error);
}

bool context_pack_entry(struct pack *pack, const char *parent, const char *name, const char *as, GError **error)
{
    g_autofd int dirfd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return error_set_errno(error, errno, "open %s", parent);
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    g_autoptr(GHashTable) inodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autofree char *buffer = g_malloc(COPY_SIZE);
    struct ignore *ignore = ignore_new(none, error);
    struct walk walk = { .pack = pack, .ignore = ignore, .inodes = inodes, .buffer = buffer, .keep_owners = true };
    bool ok = name ? visit(&walk, dirfd, name, as, 0, error) : walk_directory(&walk, dirfd, "", 0, error);
    ignore_free(ignore);
    return ok && pack_end(pack, error);
}
