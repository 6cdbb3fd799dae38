/* Attached sessions: stdin to the engine, its output to stdout and stderr, resizes and signals beside, all in one poll loop. */
#include "cli/cli-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define BUFFER_SIZE (64 * 1024)

static const guint8 default_keys[] = { 16, 17 }; /* ctrl-p, ctrl-q */

struct loop {
    struct session *session;
    struct transport *transport;
    struct demultiplexer demultiplexer;
    GByteArray *to_send; /* stdin, not yet taken by the connection */
    bool input_open, write_closed;
    const guint8 *keys;
    guint n_keys, matched;
    char *buffer;
};

static bool write_output(int fd, const void *data, gsize length, GError **error)
{
    const char *at = data;
    while (fd >= 0 && length > 0) {
        ssize_t n = write(fd, at, length);
        if (n >= 0) {
            at += n;
            length -= (gsize)n;
        } else if (errno == EAGAIN) {
            struct pollfd wait = { .fd = fd, .events = POLLOUT };
            poll(&wait, 1, -1);
        } else if (errno != EINTR) {
            return error_set_errno(error, errno, "write %s", fd == STDOUT_FILENO ? "/dev/stdout" : "/dev/stderr");
        }
    }
    return true;
}

bool demultiplex(struct demultiplexer *d, const char *data, gsize length, GError **error)
{
    while (length > 0) {
        if (d->left == 0) {
            gsize n = MIN(sizeof d->header - d->have, length);
            memcpy(d->header + d->have, data, n);
            d->have += n;
            data += n;
            length -= n;
            if (d->have < sizeof d->header)
                return true;
            if (d->header[0] > 3)
                return error_set(error, TARE_ERROR_INVALID, "unrecognized stream: %d", d->header[0]);
            d->left = (guint32)d->header[4] << 24 | (guint32)d->header[5] << 16 | (guint32)d->header[6] << 8 | d->header[7];
            d->have = 0;
            continue;
        }
        gsize n = MIN(d->left, length);
        int fd = d->header[0] >= 2 ? d->err : d->out;
        if (d->header[0] == 3)
            return error_set(error, TARE_ERROR_INTERNAL, "error from daemon in stream: %.*s", (int)MIN(n, 4096), data);
        if (!write_output(fd, data, n, error))
            return false;
        d->left -= (guint32)n;
        data += n;
        length -= n;
    }
    return true;
}

void session_resize(struct cli *cli, const char *id, bool is_exec, int more)
{
    int height, width;
    if (!terminal_size(&height, &width))
        return;
    g_autoptr(GString) query = g_string_new(NULL);
    query_add_int(query, "h", height + more);
    query_add_int(query, "w", width + more);
    g_autofree char *path = api_path(is_exec ? "exec" : "containers", id, "/resize");
    struct call call = { .method = "POST", .path = path, .query = query->str };
    api_done(cli, &call, NULL); /* a container that just ended has no size */
}

static void forward_signal(struct loop *loop, int number)
{
    char room[16];
    const struct session *session = loop->session;
    const char *name = signal_name(number, room);
    if (number == SIGWINCH && session->tty) {
        session_resize(session->cli, session->id, session->is_exec, 0);
        return;
    }
    if (!name || !session->forward_signals || session->is_exec || number == SIGWINCH)
        return;
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "signal", name);
    g_autofree char *path = api_path("containers", session->id, "/kill");
    struct call call = { .method = "POST", .path = path, .query = query->str };
    api_done(session->cli, &call, NULL);
}

/* Signals that are not ours to forward act as they would have without us. */
static void take_signals(struct loop *loop)
{
    struct signalfd_siginfo info;
    while (read(loop->session->signals, &info, sizeof info) == sizeof info) {
        int number = (int)info.ssi_signo;
        bool ends = number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT;
        if (ends && (!loop->session->forward_signals || loop->session->is_exec)) {
            terminal_restore();
            _exit(128 + number);
        }
        forward_signal(loop, number);
    }
}

/* Moves what was typed to to_send; true when the detach keys were complete. A part of them is held back until it is clear what it
 * is. */
static bool take_typed(struct loop *loop, const guint8 *data, gsize length)
{
    for (gsize i = 0; i < length; i++) {
        if (loop->n_keys && data[i] == loop->keys[loop->matched]) {
            if (++loop->matched == loop->n_keys)
                return true;
            continue;
        }
        if (loop->matched > 0)
            g_byte_array_append(loop->to_send, loop->keys, loop->matched);
        loop->matched = 0;
        if (loop->n_keys && data[i] == loop->keys[0]) {
            loop->matched = 1;
            if (loop->n_keys == 1)
                return true;
        } else {
            g_byte_array_append(loop->to_send, data + i, 1);
        }
    }
    return false;
}

static bool read_input(struct loop *loop)
{
    ssize_t n = read(STDIN_FILENO, loop->buffer, BUFFER_SIZE);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return false;
    if (n <= 0) {
        loop->input_open = false;
        return false;
    }
    if (loop->session->tty)
        return take_typed(loop, (guint8 *)loop->buffer, (gsize)n);
    g_byte_array_append(loop->to_send, (guint8 *)loop->buffer, (guint)n);
    return false;
}

static void send_input(struct loop *loop)
{
    ssize_t n = transport_write(loop->transport, loop->to_send->data, loop->to_send->len);
    if (n > 0) {
        g_byte_array_remove_range(loop->to_send, 0, (guint)n);
    } else if (n < 0 && errno != EAGAIN) {
        g_byte_array_set_size(loop->to_send, 0);
        loop->input_open = false;
        loop->write_closed = true;
    }
}

static bool show(struct loop *loop, const char *data, gsize length, GError **error)
{
    if (loop->session->tty)
        return write_output(loop->session->output ? STDOUT_FILENO : -1, data, length, error);
    return demultiplex(&loop->demultiplexer, data, length, error);
}

/* 1 goes on, 0 the engine closed, -1 an error. */
static int read_output(struct loop *loop, GError **error)
{
    ssize_t n = transport_read(loop->transport, loop->buffer, BUFFER_SIZE);
    if (n < 0 && errno == EAGAIN)
        return 1;
    if (n < 0 && errno != ECONNRESET) {
        error_set_errno(error, errno, "read from the engine");
        return -1;
    }
    if (n <= 0)
        return 0;
    return show(loop, loop->buffer, (gsize)n, error) ? 1 : -1;
}

static enum session_end run_loop(struct loop *loop, GError **error)
{
    struct session *session = loop->session;
    for (;;) {
        if (!loop->input_open && !loop->write_closed && loop->to_send->len == 0) {
            transport_close_write(loop->transport);
            loop->write_closed = true;
            if (!session->output && !session->errors && !session->wait)
                return SESSION_CLOSED;
        }
        bool quiet = !session->output && !session->errors && session->wait;
        struct pollfd fds[4] = {
            { .fd = loop->transport->fd, .events = (short)(POLLIN | (loop->to_send->len ? POLLOUT : 0)) },
            { .fd = loop->input_open && loop->to_send->len < BUFFER_SIZE ? STDIN_FILENO : -1, .events = POLLIN },
            { .fd = session->signals, .events = POLLIN },
            { .fd = quiet ? connection_transport(session->wait->connection)->fd : -1, .events = POLLIN },
        };
        int timeout = transport_pending(loop->transport) ? 0 : -1;
        if (poll(fds, G_N_ELEMENTS(fds), timeout) < 0 && errno != EINTR) {
            error_set_errno(error, errno, "poll");
            return SESSION_FAILED;
        }
        if (fds[2].revents)
            take_signals(loop);
        if (fds[3].revents)
            return SESSION_CLOSED;
        if (fds[1].revents && read_input(loop))
            return SESSION_DETACHED;
        if (fds[0].revents & POLLOUT && loop->to_send->len)
            send_input(loop);
        if (fds[0].revents & (POLLIN | POLLHUP | POLLERR) || timeout == 0) {
            int r = read_output(loop, error);
            if (r <= 0)
                return r < 0 ? SESSION_FAILED : SESSION_CLOSED;
        }
    }
}

enum session_end session_run(struct session *session, GError **error)
{
    gsize leftover;
    const char *first = connection_leftover(session->response->connection, &leftover);
    g_autoptr(GByteArray) to_send = g_byte_array_new();
    g_autofree char *buffer = g_malloc(BUFFER_SIZE);
    bool custom = session->detach_keys && session->detach_keys->len > 0;
    struct loop loop = {
        .session = session,
        .transport = connection_transport(session->response->connection),
        .demultiplexer = { .out = session->output ? STDOUT_FILENO : -1, .err = session->errors ? STDERR_FILENO : -1 },
        .to_send = to_send,
        .input_open = session->input,
        .keys = custom ? session->detach_keys->data : default_keys,
        .n_keys = custom ? session->detach_keys->len : sizeof default_keys,
        .buffer = buffer,
    };
    fflush(stdout);
    if (session->input && session->tty && !terminal_set_raw(error))
        return SESSION_FAILED;
    enum session_end end = show(&loop, first, leftover, error) ? run_loop(&loop, error) : SESSION_FAILED;
    terminal_restore();
    return end;
}

bool check_tty(bool attach_stdin, bool tty, GError **error)
{
    return !(attach_stdin && tty) || is_terminal(STDIN_FILENO) ||
           error_set(error, TARE_ERROR_INVALID, "the input device is not a TTY");
}
