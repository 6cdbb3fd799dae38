/* system dial-stdio: the far end of an ssh:// connection: stdin and stdout are joined to the engine's socket. */
#include "cli/cli-internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define SIZE 65536

struct pump {
    char *data;
    gsize have, at;
    bool end;
};

/* Fills an empty pump; true when something changed. */
static void fill(struct pump *pump, ssize_t n)
{
    if (n > 0) {
        pump->have = (gsize)n;
        pump->at = 0;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        pump->end = true;
    }
}

static bool is_empty(const struct pump *pump)
{
    return pump->at == pump->have;
}

static bool join(struct transport *engine, GError **error)
{
    g_autofree char *up_data = g_malloc(SIZE), *down_data = g_malloc(SIZE);
    struct pump up = { .data = up_data }, down = { .data = down_data };
    bool closed = false;
    while (!(down.end && is_empty(&down))) {
        if (up.end && is_empty(&up) && !closed) {
            transport_close_write(engine);
            closed = true;
        }
        struct pollfd fds[3] = {
            { .fd = engine->fd, .events = (short)((is_empty(&down) && !down.end ? POLLIN : 0) | (is_empty(&up) ? 0 : POLLOUT)) },
            { .fd = is_empty(&up) && !up.end ? STDIN_FILENO : -1, .events = POLLIN },
            { .fd = is_empty(&down) ? -1 : STDOUT_FILENO, .events = POLLOUT },
        };
        int timeout = transport_pending(engine) && is_empty(&down) ? 0 : -1;
        if (poll(fds, G_N_ELEMENTS(fds), timeout) < 0 && errno != EINTR)
            return error_set_errno(error, errno, "poll");
        if (fds[1].revents)
            fill(&up, read(STDIN_FILENO, up.data, SIZE));
        if ((fds[0].revents & (POLLIN | POLLHUP | POLLERR) || timeout == 0) && is_empty(&down) && !down.end)
            fill(&down, transport_read(engine, down.data, SIZE));
        if (!is_empty(&up)) {
            ssize_t n = transport_write(engine, up.data + up.at, up.have - up.at);
            if (n > 0)
                up.at += (gsize)n;
            else if (n < 0 && errno != EAGAIN)
                return error_set_errno(error, errno, "write to the engine");
        }
        if (fds[2].revents) {
            ssize_t n = write(STDOUT_FILENO, down.data + down.at, down.have - down.at);
            if (n > 0)
                down.at += (gsize)n;
            else if (n < 0 && errno != EAGAIN && errno != EINTR)
                return error_set_errno(error, errno, "write");
        }
    }
    return true;
}

int cmd_system_dial_stdio(struct cli *cli, const struct options *options, GError **error)
{
    if (!cli_resolve_endpoint(cli, error))
        return 1;
    struct transport *engine = transport_open(cli->endpoint, error);
    if (!engine) {
        g_prefix_error(error, "failed to open the raw stream connection: ");
        return 1;
    }
    bool ok = join(engine, error);
    transport_free(engine);
    return ok ? 0 : 1;
}
