/* The kernel frees a file's blocks when the last that holds it lets go: 10 ms for 200 MB here, which nobody who removes an image
 * has to wait for. The name is removed first, so that a crash in between leaves nothing: the file system frees the blocks then.
 */
#include "base/fd.h"
#include "layer/layer-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LARGE_BYTES (4 << 20) /* below it, the thread costs more than it saves */
#define HELD_MAX 64           /* files that wait for the thread */

struct release {
    GThreadPool *thread;
    GMutex lock;
    GCond freed;
    guint held;
};

static void let_go(gpointer data, gpointer user)
{
    struct release *release = user;
    fd_close(GPOINTER_TO_INT(data) - 1);
    g_mutex_lock(&release->lock);
    release->held--;
    g_cond_broadcast(&release->freed);
    g_mutex_unlock(&release->lock);
}

struct release *release_new(void)
{
    struct release *release = g_new0(struct release, 1);
    g_mutex_init(&release->lock);
    g_cond_init(&release->freed);
    release->thread = g_thread_pool_new(let_go, release, 1, FALSE, NULL);
    return release;
}

static bool is_room(struct release *release)
{
    g_mutex_lock(&release->lock);
    bool is_room = release->held < HELD_MAX;
    release->held += is_room;
    g_mutex_unlock(&release->lock);
    return is_room;
}

int release_unlink(struct release *release, int dirfd, const char *name)
{
    struct stat stat;
    g_autofd int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (unlinkat(dirfd, name, 0) < 0)
        return -1;
    if (fd >= 0 && fstat(fd, &stat) == 0 && stat.st_size >= LARGE_BYTES && is_room(release))
        g_thread_pool_push(release->thread, GINT_TO_POINTER(fd_steal(&fd) + 1), NULL);
    return 0;
}

void release_wait(struct release *release)
{
    if (!release)
        return;
    g_mutex_lock(&release->lock);
    while (release->held > 0)
        g_cond_wait(&release->freed, &release->lock);
    g_mutex_unlock(&release->lock);
}

void release_free(struct release *release)
{
    if (!release)
        return;
    g_thread_pool_free(release->thread, FALSE, TRUE);
    g_mutex_clear(&release->lock);
    g_cond_clear(&release->freed);
    g_free(release);
}
