#include "base/cancel.h"

#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>

struct cancel {
    gint references;
    gint is_set;
    int fd;
};

struct cancel *cancel_new(void)
{
    struct cancel *cancel = g_new0(struct cancel, 1);
    cancel->references = 1;
    cancel->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return cancel;
}

struct cancel *cancel_ref(struct cancel *cancel)
{
    if (cancel)
        g_atomic_int_inc(&cancel->references);
    return cancel;
}

void cancel_unref(struct cancel *cancel)
{
    if (!cancel || !g_atomic_int_dec_and_test(&cancel->references))
        return;
    fd_close(cancel->fd);
    g_free(cancel);
}

void cancel_trigger(struct cancel *cancel)
{
    if (!cancel || !g_atomic_int_compare_and_exchange(&cancel->is_set, 0, 1))
        return;
    guint64 one = 1;
    fd_write_full(cancel->fd, &one, sizeof one);
}

bool cancel_is_set(const struct cancel *cancel)
{
    return cancel && g_atomic_int_get(&cancel->is_set);
}

int cancel_fd(const struct cancel *cancel)
{
    return cancel ? cancel->fd : -1;
}

bool cancel_check(const struct cancel *cancel, GError **error)
{
    return !cancel_is_set(cancel) || error_set(error, TARE_ERROR_CANCELLED, "context canceled");
}

int cancel_poll(const struct cancel *cancel, int fd, short events, int timeout_ms, GError **error)
{
    struct pollfd fds[2] = { { .fd = fd, .events = events }, { .fd = cancel_fd(cancel), .events = POLLIN } };
    for (;;) {
        int n = poll(fds, 2, timeout_ms);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            error_set_errno(error, errno, "poll");
            return -1;
        }
        if (!cancel_check(cancel, error))
            return -1;
        return n > 0;
    }
}
