#include "shim/shim-internal.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_SIZE 16384
#define QUEUE_KEPT 16384
#define REPLAY_STEPS 32
/* Of input that nobody wants, thrown away before a connection is closed: a TCP socket closed with unread input sends a reset,
 * which can overtake our output. */
#define DISCARD_MAX (256u << 10)

struct attach_client {
    struct shim *shim;
    struct stdio *stdio; /* NULL: it lingers to get the rest */
    int fd, done_fd;
    bool is_socket, multiplex, stream, filters_keys;
    bool use[3];
    bool input_ended;
    bool gone;      /* takes no output any more; what it sent is still read */
    bool finishing; /* ends when all is delivered */
    GByteArray *queue;
    struct detach_keys keys;
    struct log_replay *replay;
    struct loop_watch *watch;
};

static void on_client(void *user, uint32_t events);

static bool wants_input(const struct attach_client *client)
{
    return client->use[0] && client->stream && !client->input_ended && !client->finishing && client->stdio &&
           client->stdio->open_stdin;
}

static void update_watch(struct attach_client *client)
{
    bool reads = wants_input(client) && stdio_takes_input(client->stdio);
    bool writes = !client->gone && (client->queue->len > 0 || client->replay);
    /* A peer that has gone is a permanent event: it is not watched while its last input cannot be taken. */
    uint32_t idle = client->gone ? 0 : LOOP_HANGUP;
    loop_watch_set(client->watch, (reads ? EPOLLIN : 0) | (writes ? EPOLLOUT : 0) | idle);
}

static bool check_options(const struct stdio *stdio, const struct attach_options *options, GError **error)
{
    if (stdio->ended)
        return error_set(error, TARE_ERROR_CONFLICT, "cannot attach: the process has ended");
    if (options->logs && !stdio->log)
        return error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "configured logging driver does not support reading");
    return true;
}

bool attach_client_new(struct stdio *stdio, const struct attach_options *options, int fd, int done_fd, GError **error)
{
    struct detach_keys keys;
    struct stat st;
    if (!check_options(stdio, options, error) || !detach_keys_parse(options->detach_keys, &keys, error))
        return false;
    if (fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "attach");
    struct attach_client *client = g_new0(struct attach_client, 1);
    client->watch = loop_watch_new(stdio->loop, fd, LOOP_HANGUP, on_client, client);
    if (!client->watch) {
        g_free(client);
        return error_set_errno(error, errno, "attach: watch the client's stream");
    }
    client->shim = stdio->shim;
    client->stdio = stdio;
    client->fd = fd;
    client->done_fd = done_fd;
    client->is_socket = S_ISSOCK(st.st_mode);
    client->multiplex = options->multiplex && !stdio->terminal;
    client->stream = options->stream;
    client->filters_keys = stdio->terminal;
    memcpy(client->use, options->use, sizeof client->use);
    client->queue = g_byte_array_new();
    client->keys = keys;
    client->replay = options->logs ? log_replay_new(stdio->log) : NULL;
    /* A socket is shared with who passed it: each call asks for non-blocking by itself. */
    if (!client->is_socket)
        fd_set_nonblocking(fd, true);
    g_ptr_array_add(stdio->clients, client);
    update_watch(client);
    if (!client->stream && !client->replay)
        attach_client_finish(client);
    return true;
}

/* Takes it out of its process; the last input of a client that was the one to give it is the end of input. */
static void leave_stdio(struct attach_client *client)
{
    struct stdio *stdio = g_steal_pointer(&client->stdio);
    if (!stdio)
        return;
    g_ptr_array_remove(stdio->clients, client);
    bool was_input = client->use[0] && client->stream && !client->input_ended;
    if (was_input && !stdio->ended && stdio->stdin_once && !stdio->terminal)
        stdio_input_end(stdio);
    if (!stdio->ended)
        stdio_update(stdio);
}

static void discard_input(struct attach_client *client)
{
    char buffer[4096];
    size_t total = 0;
    ssize_t n;
    while (client->is_socket && total < DISCARD_MAX && (n = recv(client->fd, buffer, sizeof buffer, MSG_DONTWAIT)) > 0)
        total += (size_t)n;
}

void attach_client_free(struct attach_client *client)
{
    struct shim *shim = client->shim;
    g_ptr_array_remove(shim->lingering, client);
    leave_stdio(client);
    loop_watch_free(client->watch);
    discard_input(client);
    /* Who passed the fd may still hold it: closing alone would not tell the peer. */
    if (client->is_socket)
        shutdown(client->fd, SHUT_WR);
    fd_close(client->fd);
    fd_close(client->done_fd);
    log_replay_free(client->replay);
    g_byte_array_unref(client->queue);
    g_free(client);
    shim_consider_end(shim);
}

/* ---- output ---- */

static ssize_t send_some(struct attach_client *client)
{
    for (;;) {
        ssize_t n = client->is_socket ? send(client->fd, client->queue->data, client->queue->len, MSG_DONTWAIT | MSG_NOSIGNAL)
                                      : write(client->fd, client->queue->data, client->queue->len);
        if (n >= 0 || errno != EINTR)
            return n;
    }
}

/* False when the client has gone, and with it the struct, or waits only for its last input to be taken. */
static bool flush(struct attach_client *client)
{
    bool was_big = client->queue->len > QUEUE_KEPT;
    while (client->queue->len > 0) {
        ssize_t n = send_some(client);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            g_byte_array_set_size(client->queue, 0);
            g_clear_pointer(&client->replay, log_replay_free);
            client->gone = true;
            if (!wants_input(client)) {
                attach_client_free(client);
                return false;
            }
            break;
        }
        g_byte_array_remove_range(client->queue, 0, (guint)n);
    }
    if (was_big && client->queue->len == 0) {
        g_byte_array_unref(client->queue);
        client->queue = g_byte_array_new();
    }
    if (client->finishing && client->queue->len == 0 && !client->replay) {
        attach_client_free(client);
        return false;
    }
    update_watch(client);
    return true;
}

static void queue_output(struct attach_client *client, unsigned stream, const void *data, size_t length)
{
    if (!client->use[stream] || client->gone || length == 0)
        return;
    if (client->multiplex) {
        guint8 header[ATTACH_FRAME_HEADER];
        attach_frame_header(stream, (guint32)length, header);
        g_byte_array_append(client->queue, header, sizeof header);
    }
    g_byte_array_append(client->queue, data, (guint)length);
}

void attach_client_output(struct attach_client *client, unsigned stream, const void *data, size_t length)
{
    /* While the log is read, the live output comes through it. */
    if (!client->stream || client->replay || client->finishing)
        return;
    bool was_empty = client->queue->len == 0;
    queue_output(client, stream, data, length);
    if (was_empty && client->queue->len > 0)
        flush(client);
}

bool attach_client_blocks(const struct attach_client *client, unsigned stream)
{
    return client->use[stream] && client->stream && !client->gone && !client->replay && client->queue->len >= ATTACH_QUEUE_LIMIT;
}

static void replay_entry(void *user, unsigned stream, const void *data, size_t length)
{
    queue_output(user, stream, data, length);
}

/* The peer takes more: the rest of the queue, or more of the log. False when the client has gone. */
static bool pump_output(struct attach_client *client)
{
    /* Not all of a long log in one turn: it may hold nothing that this client wants. */
    for (int steps = 0; steps < REPLAY_STEPS && client->replay && client->queue->len == 0; steps++)
        if (!log_replay_step(client->replay, replay_entry, client)) {
            g_clear_pointer(&client->replay, log_replay_free);
            client->finishing |= !client->stream;
        }
    struct stdio *stdio = client->stdio;
    bool alive = flush(client);
    if (alive && stdio)
        stdio_update(stdio);
    return alive;
}

void attach_client_finish(struct attach_client *client)
{
    client->finishing = true;
    if (client->gone || (client->queue->len == 0 && !client->replay)) {
        attach_client_free(client);
        return;
    }
    leave_stdio(client);
    g_ptr_array_add(client->shim->lingering, client);
    flush(client);
}

/* ---- input ---- */

static void detach(struct attach_client *client)
{
    json_t *event = json_pack("{s:s}", "event", "detach");
    if (client->stdio->exec_id)
        json_object_set_new(event, "exec_id", json_string(client->stdio->exec_id));
    client->input_ended = true;
    server_emit(client->shim, event);
    attach_client_finish(client);
}

/* As in Docker: with stdin_once the process gets the end of file, and its output goes on to the client; else the client's end of
 * input is the session's end. */
static void end_input(struct attach_client *client)
{
    struct stdio *stdio = client->stdio;
    client->input_ended = true;
    if (!stdio->stdin_once || stdio->terminal) {
        attach_client_finish(client);
        return;
    }
    stdio_input_end(stdio);
    if (client->gone)
        attach_client_free(client);
    else
        update_watch(client);
}

static void read_input(struct attach_client *client)
{
    guint8 buffer[READ_SIZE];
    ssize_t n =
        client->is_socket ? recv(client->fd, buffer, sizeof buffer, MSG_DONTWAIT) : read(client->fd, buffer, sizeof buffer);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        end_input(client);
        return;
    }
    if (!client->filters_keys) {
        stdio_input(client->stdio, buffer, (size_t)n);
        update_watch(client);
        return;
    }
    g_autoptr(GByteArray) kept = g_byte_array_new();
    bool detached = detach_keys_filter(&client->keys, buffer, (size_t)n, kept);
    stdio_input(client->stdio, kept->data, kept->len);
    if (detached)
        detach(client);
    else
        update_watch(client);
}

void attach_client_resume_input(struct attach_client *client)
{
    if (client->gone && !wants_input(client))
        attach_client_free(client);
    else
        update_watch(client);
}

static void on_client(void *user, uint32_t events)
{
    struct attach_client *client = user;
    if ((events & EPOLLOUT) && !pump_output(client))
        return;
    if ((events & (EPOLLHUP | EPOLLERR)) && !client->gone) {
        client->gone = true;
        g_byte_array_set_size(client->queue, 0);
        g_clear_pointer(&client->replay, log_replay_free);
        if (client->stdio)
            stdio_update(client->stdio);
    }
    if (wants_input(client)) {
        if ((events & (EPOLLIN | EPOLLHUP)) && stdio_takes_input(client->stdio))
            read_input(client);
        else
            update_watch(client);
    } else if (client->gone) {
        attach_client_free(client);
    } else {
        update_watch(client);
    }
}
