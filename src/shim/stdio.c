#include "shim/shim-internal.h"

#include "base/timestamp.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Back-pressure: a process's output is not read while a client that is alive has ATTACH_QUEUE_LIMIT bytes waiting, as Docker
 * blocks on a slow attach. A client that has gone never blocks, and with no client the output goes to the log at full speed. */
#define READ_SIZE 16384
/* All holders of a container's terminal may close it and open it again; until then the master only says EIO. */
#define TERMINAL_REOPEN_MS 250
/* What a drain takes at most of one stream: somebody else may hold the other end and write for ever. Pipes hold 64 KiB, and 1 MiB
 * at most without privilege. */
#define DRAIN_MAX_READS 1024

bool stdio_make_pipe(const struct shim *shim, int *ret_read, int *ret_write, GError **error)
{
    int ends[2];
    const char *label = shim->config->label;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "pipe");
    /* With SELinux a pipe belongs to its maker's domain, which a container need not be allowed to write to. Where the kernel does
     * not take the label, the policy decides. */
    if (label)
        fsetxattr(ends[0], "security.selinux", label, strlen(label) + 1, 0);
    *ret_read = ends[0];
    *ret_write = ends[1];
    return true;
}

static void end_output(struct stdio *stdio, int i)
{
    stdio->out_ended[i] = true;
    loop_watch_set(stdio->out_watch[i], 0);
    if (stdio->terminal)
        return;
    g_clear_pointer(&stdio->out_watch[i], loop_watch_free);
    fd_clear(&stdio->out[i]);
}

static void deliver(struct stdio *stdio, unsigned stream, const void *data, size_t length)
{
    if (stdio->log)
        log_file_append(stdio->log, stream, data, length, timestamp_now());
    /* From the end: a client that has gone leaves the array. */
    for (guint i = stdio->clients->len; i-- > 0;)
        attach_client_output(stdio->clients->pdata[i], stream, data, length);
}

/* Bytes read, 0 for "nothing now", -1 at the end. */
static ssize_t read_output(struct stdio *stdio, int i)
{
    guint8 buffer[READ_SIZE];
    ssize_t n;
    do
        n = read(stdio->out[i], buffer, sizeof buffer);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        deliver(stdio, (unsigned)i + 1, buffer, (size_t)n);
    else if (n == 0 || errno != EAGAIN) /* a pty's end is EIO */
        return -1;
    return MAX(n, 0);
}

static void on_reopen_timer(void *user)
{
    struct stdio *stdio = user;
    stdio->reopen_timer = NULL;
    stdio->out_ended[0] = false;
    stdio_update(stdio);
}

static void on_output(struct stdio *stdio, int i)
{
    if (read_output(stdio, i) < 0) {
        end_output(stdio, i);
        if (stdio->terminal && !stdio->reopen_timer)
            stdio->reopen_timer = loop_timer_new(stdio->loop, TERMINAL_REOPEN_MS, on_reopen_timer, stdio);
        if (stdio->at_end && stdio_at_end(stdio))
            stdio->at_end(stdio->user);
        return;
    }
    stdio_update(stdio);
}

static void on_stdout(void *user, uint32_t events)
{
    on_output(user, 0);
}

static void on_stderr(void *user, uint32_t events)
{
    on_output(user, 1);
}

static void on_input_ready(void *user, uint32_t events);

static bool watch_output(struct stdio *stdio, int i, GError **error)
{
    fd_set_nonblocking(stdio->out[i], true);
    stdio->out_watch[i] = loop_watch_new(stdio->loop, stdio->out[i], EPOLLIN, i == 0 ? on_stdout : on_stderr, stdio);
    return stdio->out_watch[i] || error_set_errno(error, errno, "watch output");
}

static bool watch_input(struct stdio *stdio, GError **error)
{
    fd_set_nonblocking(stdio->in, true);
    stdio->in_watch = loop_watch_new(stdio->loop, stdio->in, 0, on_input_ready, stdio);
    return stdio->in_watch || error_set_errno(error, errno, "watch input");
}

bool stdio_init(struct stdio *stdio, struct shim *shim, const struct stdio_options *options, struct log_file *log, GError **error)
{
    *stdio = (struct stdio){ .shim = shim,
                             .loop = shim->loop,
                             .log = log,
                             .exec_id = options->exec_id,
                             .terminal = options->terminal,
                             .stdin_once = options->stdin_once,
                             .open_stdin = options->open_stdin,
                             .theirs = { -1, -1, -1 },
                             .in = -1,
                             .out = { -1, -1 } };
    stdio->clients = g_ptr_array_new();
    stdio->input = g_byte_array_new();
    if (options->terminal)
        return true;
    const bool want[2] = { options->want_stdout, options->want_stderr };
    bool ok = true;
    if (options->open_stdin)
        ok = stdio_make_pipe(shim, &stdio->theirs[0], &stdio->in, error) && watch_input(stdio, error);
    for (int i = 0; i < 2; i++) {
        stdio->out_ended[i] = !want[i];
        ok = ok &&
             (!want[i] || (stdio_make_pipe(shim, &stdio->out[i], &stdio->theirs[i + 1], error) && watch_output(stdio, i, error)));
    }
    if (!ok)
        stdio_clear(stdio);
    return ok;
}

static bool adopt_terminal(struct stdio *stdio, int terminal_fd)
{
    stdio->out[0] = terminal_fd;
    stdio->out_ended[1] = true;
    /* epoll knows an fd once, and the two directions are watched apart. */
    stdio->in = fcntl(terminal_fd, F_DUPFD_CLOEXEC, 3);
    if (stdio->rows || stdio->columns)
        stdio_resize(stdio, stdio->rows, stdio->columns, NULL);
    return stdio->in >= 0 && watch_output(stdio, 0, NULL) && watch_input(stdio, NULL);
}

void stdio_started(struct stdio *stdio, int terminal_fd)
{
    for (int i = 0; i < 3; i++)
        fd_clear(&stdio->theirs[i]);
    if (stdio->terminal && (terminal_fd < 0 || !adopt_terminal(stdio, terminal_fd)))
        stdio->out_ended[0] = stdio->out_ended[1] = true;
    if (stdio->input->len > 0)
        on_input_ready(stdio, 0);
}

bool stdio_resize(struct stdio *stdio, unsigned rows, unsigned columns, GError **error)
{
    stdio->rows = (unsigned short)MIN(rows, G_MAXUINT16);
    stdio->columns = (unsigned short)MIN(columns, G_MAXUINT16);
    if (!stdio->terminal || stdio->out[0] < 0)
        return true;
    struct winsize size = { .ws_row = stdio->rows, .ws_col = stdio->columns };
    return ioctl(stdio->out[0], TIOCSWINSZ, &size) == 0 || error_set_errno(error, errno, "resize terminal");
}

bool stdio_at_end(const struct stdio *stdio)
{
    return stdio->out_ended[0] && stdio->out_ended[1];
}

bool stdio_drain(struct stdio *stdio)
{
    for (int i = 0; i < 2; i++) {
        ssize_t n = 0;
        for (int reads = 0; reads < DRAIN_MAX_READS && stdio->out[i] >= 0 && (n = read_output(stdio, i)) > 0; reads++)
            ;
        if (stdio->out[i] < 0 || n < 0)
            end_output(stdio, i);
    }
    return stdio_at_end(stdio);
}

void stdio_update(struct stdio *stdio)
{
    for (int i = 0; i < 2; i++) {
        bool blocked = stdio->out_ended[i];
        for (guint k = 0; k < stdio->clients->len && !blocked; k++)
            blocked = attach_client_blocks(stdio->clients->pdata[k], (unsigned)i + 1);
        loop_watch_set(stdio->out_watch[i], blocked ? 0 : EPOLLIN);
    }
}

/* ---- input ---- */

static void close_input(struct stdio *stdio)
{
    g_clear_pointer(&stdio->in_watch, loop_watch_free);
    fd_clear(&stdio->in);
    g_byte_array_set_size(stdio->input, 0);
    stdio->open_stdin = false;
}

/* What the process does not take now stays in input. */
static void write_input(struct stdio *stdio)
{
    while (stdio->in >= 0 && stdio->input->len > 0) {
        ssize_t n = write(stdio->in, stdio->input->data, stdio->input->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) { /* nobody reads it any more */
            close_input(stdio);
            return;
        }
        g_byte_array_remove_range(stdio->input, 0, (guint)n);
    }
    if (stdio->input->len == 0 && stdio->close_input && stdio->in >= 0 && !stdio->terminal)
        close_input(stdio);
    loop_watch_set(stdio->in_watch, stdio->input->len > 0 ? EPOLLOUT : 0);
}

static void on_input_ready(void *user, uint32_t events)
{
    struct stdio *stdio = user;
    write_input(stdio);
    for (guint i = stdio->clients->len; stdio->input->len == 0 && i-- > 0;)
        attach_client_resume_input(stdio->clients->pdata[i]);
}

void stdio_input(struct stdio *stdio, const void *data, size_t length)
{
    if (!stdio->open_stdin || length == 0)
        return;
    g_byte_array_append(stdio->input, data, (guint)length);
    write_input(stdio);
}

void stdio_input_end(struct stdio *stdio)
{
    stdio->close_input = true;
    write_input(stdio);
}

bool stdio_takes_input(const struct stdio *stdio)
{
    return stdio->input->len == 0;
}

/* ---- the end ---- */

static void close_all(struct stdio *stdio)
{
    g_clear_pointer(&stdio->reopen_timer, loop_timer_free);
    close_input(stdio);
    for (int i = 0; i < 2; i++) {
        g_clear_pointer(&stdio->out_watch[i], loop_watch_free);
        fd_clear(&stdio->out[i]);
        stdio->out_ended[i] = true;
    }
    for (int i = 0; i < 3; i++)
        fd_clear(&stdio->theirs[i]);
}

void stdio_finish(struct stdio *stdio)
{
    if (stdio->ended || !stdio->clients)
        return;
    stdio->ended = true;
    close_all(stdio);
    for (guint i = stdio->clients->len; i-- > 0;)
        attach_client_finish(stdio->clients->pdata[i]);
}

void stdio_clear(struct stdio *stdio)
{
    if (!stdio->clients)
        return;
    stdio_finish(stdio);
    g_clear_pointer(&stdio->clients, g_ptr_array_unref);
    g_clear_pointer(&stdio->input, g_byte_array_unref);
}
