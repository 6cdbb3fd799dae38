/* docker diff: what the upper directory says against the image. */
#include "container/container-internal.h"

#include "base/digest.h"
#include "base/root_path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DEPTH_MAX 1000
#define CAPABILITY_ROOM 64

enum change_kind { CHANGE_MODIFIED, CHANGE_ADDED, CHANGE_DELETED };

struct diff {
    int image;      /* root of the merged layers below, or -1: there are none */
    GTree *changes; /* path → kind */
};

static bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

/* The same path in the image, without following its last component. */
static bool stat_below(const struct diff *diff, const char *path, struct stat *ret)
{
    g_autofd int fd = root_open(diff->image, path, O_PATH | O_NOFOLLOW, 0);
    return fd >= 0 && fstat(fd, ret) == 0;
}

static void record(struct diff *diff, const char *path, enum change_kind kind)
{
    g_tree_replace(diff->changes, g_strdup(path), GINT_TO_POINTER(kind));
}

/* File systems and archives keep whole seconds at times. */
static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && (a->tv_nsec == b->tv_nsec || a->tv_nsec == 0 || b->tv_nsec == 0);
}

static gssize capability_of(int fd, char room[CAPABILITY_ROOM])
{
    char path[64];
    g_snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = getxattr(path, "security.capability", room, CAPABILITY_ROOM);
    return MAX(n, 0);
}

static bool same_capability(const struct diff *diff, int directory, const char *name, const char *path)
{
    char here[CAPABILITY_ROOM], below[CAPABILITY_ROOM];
    g_autofd int fd = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    g_autofd int old = root_open(diff->image, path, O_PATH | O_NOFOLLOW, 0);
    gssize n = capability_of(fd, here), m = capability_of(old, below);
    return n == m && memcmp(here, below, (gsize)n) == 0;
}

/* The image's times are whole seconds, so that a file that was written again within the second of its layer looks the same. */
static bool may_differ_in_secret(const struct stat *a, const struct stat *b)
{
    return S_ISREG(a->st_mode) && a->st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

static bool same_content(const struct diff *diff, int directory, const char *name, const char *path)
{
    char digests[2][DIGEST_ROOM];
    g_autofd int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    g_autofd int old = root_open(diff->image, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    return fd >= 0 && old >= 0 && digest_of_fd(fd, digests[0], NULL) && digest_of_fd(old, digests[1], NULL) &&
           strcmp(digests[0], digests[1]) == 0;
}

/* What Docker calls a change: a directory's size and time say nothing about the directory itself, and a file that is only there
 * because it was opened for writing is as it was. */
static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_mode == b->st_mode && a->st_uid == b->st_uid && a->st_gid == b->st_gid && a->st_rdev == b->st_rdev &&
           (S_ISDIR(a->st_mode) || (a->st_size == b->st_size && same_time(&a->st_mtim, &b->st_mtim)));
}

/* Whatever happens below a directory changes it, and those above it. */
static void record_parents(struct diff *diff, const char *path)
{
    g_autofree char *parent = g_path_get_dirname(path);
    while (strcmp(parent, "/") != 0 && !g_tree_lookup_extended(diff->changes, parent, NULL, NULL)) {
        record(diff, parent, CHANGE_MODIFIED);
        char *next = g_path_get_dirname(parent);
        g_free(parent);
        parent = next;
    }
}

static void classify(struct diff *diff, int directory, const char *name, const struct stat *st, const char *path)
{
    struct stat below;
    bool was_there = stat_below(diff, path, &below);
    if (is_whiteout(st) && !was_there)
        return;
    if (is_whiteout(st))
        record(diff, path, CHANGE_DELETED);
    else if (!was_there)
        record(diff, path, CHANGE_ADDED);
    else if (!is_same(st, &below) || (may_differ_in_secret(st, &below) && !same_content(diff, directory, name, path)) ||
             (S_ISREG(st->st_mode) && !same_capability(diff, directory, name, path)))
        record(diff, path, CHANGE_MODIFIED);
    else
        return;
    record_parents(diff, path);
}

static bool is_opaque(int fd)
{
    char value[2];
    return fgetxattr(fd, "trusted.overlay.opaque", value, sizeof value) == 1 && value[0] == 'y';
}

/* A directory that was removed and made again hides what the image has there: what did not come again was deleted. */
static void record_hidden(struct diff *diff, int fd, const char *path)
{
    int old = root_open(diff->image, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    DIR *directory = old < 0 ? NULL : fdopendir(old);
    if (!directory) {
        fd_close(old);
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory));) {
        struct stat st;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
            fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            continue;
        g_autofree char *below = g_strconcat(path, "/", entry->d_name, NULL);
        record(diff, below, CHANGE_DELETED);
        record_parents(diff, below);
    }
    closedir(directory);
}

static bool walk(struct diff *diff, int fd, const char *path, unsigned depth, bool hides, struct container *container,
                 GError **error)
{
    if (depth > DEPTH_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "directories are nested too deeply at %s", path);
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = again < 0 ? NULL : fdopendir(again);
    if (!directory) {
        fd_close(again);
        return error_set_errno(error, errno, "read %s of container %s", *path ? path : "/", container->id);
    }
    hides = hides || is_opaque(fd);
    if (hides)
        record_hidden(diff, fd, path);
    bool ok = true;
    for (struct dirent *entry; ok && (entry = readdir(directory));) {
        struct stat st;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
            fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        g_autofree char *below = g_strconcat(path, "/", entry->d_name, NULL);
        classify(diff, fd, entry->d_name, &st, below);
        g_autofd int inner =
            S_ISDIR(st.st_mode) ? openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (inner >= 0)
            ok = walk(diff, inner, below, depth + 1, hides, container, error);
    }
    closedir(directory);
    return ok;
}

static gint compare_paths(gconstpointer a, gconstpointer b, gpointer user)
{
    return strcmp(a, b);
}

static gboolean append_change(gpointer path, gpointer kind, gpointer list)
{
    json_t *name = json_string_lossy(path);
    json_array_append_new(list, json_pack("{s:o, s:i}", "Path", name, "Kind", GPOINTER_TO_INT(kind)));
    return FALSE;
}

bool container_changes(struct container_manager *manager, const char *name, json_t **ret, GError **error)
{
    struct layer_stack *stack;
    autocontainer container = container_find(manager, name, error);
    if (!container)
        return false;
    g_autofree char *upper_name = g_strdup_printf("%s/upper", container->id);
    g_autofd int upper = openat(manager->containers_fd, upper_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (upper < 0) {
        *ret = json_null();
        return errno == ENOENT || error_set_errno(error, errno, "open the layer of container %s", container->id);
    }
    if (!layer_stack_acquire(manager->layers, (const char *const *)container->diff_ids, &stack, error))
        return false;
    struct diff diff = { .image = layer_stack_mount(stack, error) };
    diff.changes = g_tree_new_full(compare_paths, NULL, g_free, NULL);
    bool ok = diff.image >= 0 && walk(&diff, upper, "", 0, false, container, error);
    if (ok) {
        json_t *list = json_array();
        g_tree_foreach(diff.changes, append_change, list);
        *ret = json_array_size(list) ? list : (json_decref(list), json_null());
    }
    g_tree_unref(diff.changes);
    fd_close(diff.image);
    layer_stack_release(stack);
    return ok;
}
