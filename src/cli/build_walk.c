/* What is in a context's directories, by several threads: one alone would take longer for the names of a large directory than the
 * engine for all else. */
#include "cli/build-internal.h"

#include "base/fd.h"
#include "base/root_path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define THREADS_MAX 4
#define WAITING_PER_THREAD 4 /* directories that make a further thread worth its start */

/* A directory, and what was found in it: entries, and below some of them another directory. */
struct directory {
    char *path; /* "" for the top */
    guint depth;
    GArray *found; /* of struct found */
};
struct found {
    struct scan_entry entry;     /* path NULL: left out */
    struct directory *directory; /* or NULL */
};

struct walk {
    const struct context_scan *scan;
    const struct ignore *ignore;
    GMutex lock; /* of what follows */
    GCond changed;
    GPtrArray *waiting; /* of struct directory *; the last one is taken first, so that few wait */
    guint unfinished;   /* those waiting and those under way */
    GThread *threads[THREADS_MAX];
    guint n_threads, n_threads_max;
    GError *problem;
};

static struct directory *directory_new(const char *path, guint depth)
{
    struct directory *directory = g_new0(struct directory, 1);

    directory->path = g_strdup(path);
    directory->depth = depth;
    directory->found = g_array_new(FALSE, FALSE, sizeof(struct found));
    return directory;
}

/* ---- one directory ---- */

static bool cannot_stat(const char *path, GError **error)
{
    return error_set(error, TARE_ERROR_INVALID, "error checking context: can't stat '%s'", path);
}

static bool look_at(const struct walk *walk, const struct directory *directory, int fd, const char *name, GError **error)
{
    g_autofree char *path = *directory->path ? g_strconcat(directory->path, "/", name, NULL) : g_strdup(name);
    struct found found = { 0 };
    struct stat *stat = &found.entry.stat;
    bool left_out;

    if (fstatat(fd, name, stat, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || cannot_stat(path, error);
    left_out = ignore_matches(walk->ignore, path);
    if (left_out && !(S_ISDIR(stat->st_mode) && ignore_may_hold(walk->ignore, path)))
        return true;
    if (!left_out && S_ISLNK(stat->st_mode) && !(found.entry.link = context_read_link(fd, name)))
        return error_set_errno(error, errno, "readlink %s", path);
    if (S_ISDIR(stat->st_mode))
        found.directory = directory_new(path, directory->depth + 1);
    if (!left_out && !S_ISSOCK(stat->st_mode)) /* sockets have no place in an archive */
        found.entry.path = g_steal_pointer(&path);
    g_array_append_val(directory->found, found);
    return true;
}

static bool look_into(const struct walk *walk, const struct directory *directory, GError **error)
{
    g_autofd int fd = root_open(walk->scan->fd, *directory->path ? directory->path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    g_autoptr(GPtrArray) names = NULL;
    bool good = true;

    if (directory->depth > CONTEXT_DEPTH_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "context is deeper than %d directories", CONTEXT_DEPTH_MAX);
    if (fd < 0)
        return cannot_stat(directory->path, error);
    names = context_list_names(fd, directory->path, error);
    for (guint i = 0; good && names && i < names->len; i++)
        good = look_at(walk, directory, fd, names->pdata[i], error);
    return names && good;
}

/* ---- all of them ---- */

static gpointer work(gpointer user);

/* Under the lock. */
static void push_children(struct walk *walk, const struct directory *directory)
{
    for (guint i = directory->found->len; i-- > 0;) {
        struct directory *below = g_array_index(directory->found, struct found, i).directory;

        if (below) {
            g_ptr_array_add(walk->waiting, below);
            walk->unfinished++;
        }
    }
    while (walk->n_threads < walk->n_threads_max && walk->waiting->len > WAITING_PER_THREAD * (walk->n_threads + 1)) {
        GThread *thread = g_thread_try_new("scan", work, walk, NULL);

        if (!thread)
            walk->n_threads_max = walk->n_threads;
        else
            walk->threads[walk->n_threads++] = thread;
    }
    g_cond_broadcast(&walk->changed);
}

/* Until all directories are through, or one has a problem. */
static gpointer work(gpointer user)
{
    struct walk *walk = user;

    g_mutex_lock(&walk->lock);
    while (walk->unfinished > 0 && !walk->problem) {
        g_autoptr(GError) problem = NULL;
        struct directory *directory;

        if (walk->waiting->len == 0) {
            g_cond_wait(&walk->changed, &walk->lock);
            continue;
        }
        directory = g_ptr_array_steal_index(walk->waiting, walk->waiting->len - 1);
        g_mutex_unlock(&walk->lock);
        look_into(walk, directory, &problem);
        g_mutex_lock(&walk->lock);
        if (problem && !walk->problem)
            walk->problem = g_steal_pointer(&problem);
        walk->unfinished--;
        push_children(walk, directory);
    }
    g_mutex_unlock(&walk->lock);
    return NULL;
}

/* Everything in order into entries, which takes it; NULL: it is dropped. */
static void gather(struct directory *directory, GArray *entries)
{
    for (guint i = 0; i < directory->found->len; i++) {
        struct found *found = &g_array_index(directory->found, struct found, i);

        if (found->entry.path && entries) {
            g_array_append_val(entries, found->entry);
        } else {
            g_free(found->entry.path);
            g_free(found->entry.link);
        }
        if (found->directory)
            gather(found->directory, entries);
    }
    g_free(directory->path);
    g_array_unref(directory->found);
    g_free(directory);
}

bool context_scan_walk(struct context_scan *scan, const struct ignore *ignore, GError **error)
{
    struct walk walk = { .scan = scan, .ignore = ignore, .waiting = g_ptr_array_new(), .unfinished = 1 };
    struct directory *top = directory_new("", 0);

    walk.n_threads_max = MIN(g_get_num_processors(), THREADS_MAX) - 1;
    g_mutex_init(&walk.lock);
    g_cond_init(&walk.changed);
    g_ptr_array_add(walk.waiting, top);
    work(&walk);
    for (guint i = 0; i < walk.n_threads; i++)
        g_thread_join(walk.threads[i]);
    gather(top, walk.problem ? NULL : scan->entries);
    g_ptr_array_unref(walk.waiting);
    g_mutex_clear(&walk.lock);
    g_cond_clear(&walk.changed);
    if (!walk.problem)
        return true;
    g_propagate_error(error, walk.problem);
    return false;
}
