#include "shim/shim-internal.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

G_STATIC_ASSERT(LOOP_HANGUP == EPOLLERR);

#define EVENTS_A_TURN 16

struct loop_watch {
    struct loop *loop;
    int fd;
    uint32_t events;
    loop_func func; /* NULL: freed, waits in dead for the end of the turn */
    void *user;
};

struct loop_timer {
    struct loop *loop;
    gint64 due_us; /* monotonic */
    loop_timer_func func;
    void *user;
};

struct loop {
    int epoll;
    bool quit;
    GPtrArray *dead; /* watches that the current batch of events may still name */
    GQueue timers;   /* by due_us */
    loop_timer_func turn;
    void *turn_user;
};

bool loop_new(struct loop **ret, GError **error)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        return error_set_errno(error, errno, "epoll_create");
    struct loop *loop = g_new0(struct loop, 1);
    loop->epoll = epoll;
    loop->dead = g_ptr_array_new_with_free_func(g_free);
    g_queue_init(&loop->timers);
    *ret = loop;
    return true;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    fd_close(loop->epoll);
    g_ptr_array_unref(loop->dead);
    g_queue_clear_full(&loop->timers, g_free);
    g_free(loop);
}

struct loop_watch *loop_watch_new(struct loop *loop, int fd, uint32_t events, loop_func func, void *user)
{
    struct loop_watch *watch = g_new0(struct loop_watch, 1);
    *watch = (struct loop_watch){ .loop = loop, .fd = fd, .func = func, .user = user };
    /* Registered in any case first, so that an fd that cannot be polled is known at once. */
    struct epoll_event event = { .events = events ? events : LOOP_HANGUP, .data.ptr = watch };
    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        int saved = errno;
        g_free(watch);
        errno = saved;
        return NULL;
    }
    watch->events = event.events;
    if (events == 0)
        loop_watch_set(watch, 0);
    return watch;
}

void loop_watch_set(struct loop_watch *watch, uint32_t events)
{
    if (!watch || watch->events == events)
        return;
    struct epoll_event event = { .events = events, .data.ptr = watch };
    int operation = events == 0 ? EPOLL_CTL_DEL : watch->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    /* An fd that was registered once fails here only for want of memory: without it the loop would lose a stream in silence. */
    if (epoll_ctl(watch->loop->epoll, operation, watch->fd, &event) < 0)
        g_error("epoll_ctl: %s", error_errno_text(errno));
    watch->events = events;
}

void loop_watch_free(struct loop_watch *watch)
{
    if (!watch)
        return;
    loop_watch_set(watch, 0);
    watch->func = NULL;
    g_ptr_array_add(watch->loop->dead, watch);
}

static int compare_timers(const void *a, const void *b, void *user)
{
    gint64 x = ((const struct loop_timer *)a)->due_us, y = ((const struct loop_timer *)b)->due_us;
    return (x > y) - (x < y);
}

struct loop_timer *loop_timer_new(struct loop *loop, gint64 delay_ms, loop_timer_func func, void *user)
{
    struct loop_timer *timer = g_new0(struct loop_timer, 1);
    *timer = (struct loop_timer){ .loop = loop, .due_us = g_get_monotonic_time() + delay_ms * 1000, .func = func, .user = user };
    g_queue_insert_sorted(&loop->timers, timer, compare_timers, NULL);
    return timer;
}

void loop_timer_free(struct loop_timer *timer)
{
    if (!timer)
        return;
    g_queue_remove(&timer->loop->timers, timer);
    g_free(timer);
}

void loop_set_turn(struct loop *loop, loop_timer_func func, void *user)
{
    loop->turn = func;
    loop->turn_user = user;
}

static int time_to_wait_ms(const struct loop *loop, int timeout_ms)
{
    const struct loop_timer *first = loop->timers.head ? loop->timers.head->data : NULL;
    if (!first)
        return timeout_ms;
    gint64 wait_ms = (first->due_us - g_get_monotonic_time() + 999) / 1000;
    wait_ms = CLAMP(wait_ms, 0, G_MAXINT);
    return timeout_ms < 0 ? (int)wait_ms : MIN(timeout_ms, (int)wait_ms);
}

static void run_timers(struct loop *loop)
{
    gint64 now_us = g_get_monotonic_time();
    for (;;) {
        struct loop_timer *first = g_queue_peek_head(&loop->timers);
        if (!first || first->due_us > now_us)
            return;
        g_queue_pop_head(&loop->timers);
        first->func(first->user);
        g_free(first);
    }
}

void loop_turn(struct loop *loop, int timeout_ms)
{
    struct epoll_event events[EVENTS_A_TURN];
    int n = epoll_wait(loop->epoll, events, EVENTS_A_TURN, time_to_wait_ms(loop, timeout_ms));
    for (int i = 0; i < n; i++) {
        struct loop_watch *watch = events[i].data.ptr;
        if (watch->func)
            watch->func(watch->user, events[i].events);
    }
    run_timers(loop);
    if (loop->turn)
        loop->turn(loop->turn_user);
    g_ptr_array_set_size(loop->dead, 0);
}

void loop_run(struct loop *loop)
{
    while (!loop->quit)
        loop_turn(loop, -1);
}

void loop_quit(struct loop *loop)
{
    loop->quit = true;
}
