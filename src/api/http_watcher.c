/* One thread that watches the connections whose requests are being served. Docker's clients end a request by closing their
 * connection: that must stop a build, an import or a wait at once, even where the endpoint neither reads nor writes at that
 * moment. */
#include "api/http-internal.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct http_watch {
    int fd;
    struct cancel *cancel;
    gint body_done;
};

struct http_watcher {
    int epoll_fd, stop_fd;
    GThread *thread;
    /* Held while events are handled, so that a removed watch is never looked at again: the table says which are alive. */
    GMutex lock;
    GHashTable *alive;
};

static void handle(struct http_watcher *watcher, struct http_watch *watch, guint32 events)
{
    if (!g_hash_table_contains(watcher->alive, watch))
        return;
    if ((events & (EPOLLHUP | EPOLLERR)) || g_atomic_int_get(&watch->body_done)) {
        cancel_trigger(watch->cancel);
        epoll_ctl(watcher->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
        return;
    }
    /* Half-closed during the upload: the body's end or its lack tells. From now on only a full close counts. */
    struct epoll_event again = { .events = 0, .data.ptr = watch };
    epoll_ctl(watcher->epoll_fd, EPOLL_CTL_MOD, watch->fd, &again);
}

static gpointer run(gpointer data)
{
    struct http_watcher *watcher = data;
    struct epoll_event events[64];
    for (;;) {
        int n = epoll_wait(watcher->epoll_fd, events, G_N_ELEMENTS(events), -1);
        if (n < 0 && errno != EINTR)
            return NULL;
        g_mutex_lock(&watcher->lock);
        for (int i = 0; i < n; i++) {
            if (!events[i].data.ptr) {
                g_mutex_unlock(&watcher->lock);
                return NULL;
            }
            handle(watcher, events[i].data.ptr, events[i].events);
        }
        g_mutex_unlock(&watcher->lock);
    }
}

struct http_watcher *http_watcher_new(void)
{
    struct http_watcher *watcher = g_new0(struct http_watcher, 1);
    watcher->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    watcher->stop_fd = eventfd(0, EFD_CLOEXEC);
    watcher->alive = g_hash_table_new(g_direct_hash, g_direct_equal);
    g_mutex_init(&watcher->lock);
    struct epoll_event stop = { .events = EPOLLIN, .data.ptr = NULL };
    epoll_ctl(watcher->epoll_fd, EPOLL_CTL_ADD, watcher->stop_fd, &stop);
    watcher->thread = g_thread_new("watcher", run, watcher);
    return watcher;
}

void http_watcher_free(struct http_watcher *watcher)
{
    if (!watcher)
        return;
    guint64 one = 1;
    fd_write_full(watcher->stop_fd, &one, sizeof one);
    g_thread_join(watcher->thread);
    fd_close(watcher->epoll_fd);
    fd_close(watcher->stop_fd);
    g_hash_table_unref(watcher->alive);
    g_mutex_clear(&watcher->lock);
    g_free(watcher);
}

struct http_watch *http_watcher_add(struct http_watcher *watcher, int fd, struct cancel *cancel, bool body_done)
{
    struct http_watch *watch = g_new0(struct http_watch, 1);
    watch->fd = fd;
    watch->cancel = cancel_ref(cancel);
    watch->body_done = body_done;
    g_mutex_lock(&watcher->lock);
    g_hash_table_add(watcher->alive, watch);
    struct epoll_event event = { .events = EPOLLRDHUP, .data.ptr = watch };
    epoll_ctl(watcher->epoll_fd, EPOLL_CTL_ADD, fd, &event);
    g_mutex_unlock(&watcher->lock);
    return watch;
}

void http_watch_body_done(struct http_watch *watch)
{
    g_atomic_int_set(&watch->body_done, 1);
}

void http_watcher_remove(struct http_watcher *watcher, struct http_watch *watch)
{
    if (!watch)
        return;
    g_mutex_lock(&watcher->lock);
    epoll_ctl(watcher->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    g_hash_table_remove(watcher->alive, watch);
    g_mutex_unlock(&watcher->lock);
    cancel_unref(watch->cancel);
    g_free(watch);
}
