#include "layer/worker.h"

#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define REPORT_MAGIC 0x54524550u
#define MESSAGE_MAX 512

struct report_frame {
    guint32 magic;
    guint32 code; /* 0: success; else an enum tare_error + 1 */
    guint64 values[WORKER_REPORT_VALUES];
    guint32 message_length;
    char message[MESSAGE_MAX];
};
G_STATIC_ASSERT(sizeof(struct report_frame) < 4096); /* one atomic write to a pipe */

bool worker_report_send(int fd, const guint64 values[WORKER_REPORT_VALUES], const GError *failure)
{
    struct report_frame frame = { .magic = REPORT_MAGIC };
    if (failure) {
        frame.code = failure->domain == TARE_ERROR ? (guint32)failure->code + 1 : TARE_ERROR_INTERNAL + 1;
        frame.message_length = (guint32)MIN(strlen(failure->message), MESSAGE_MAX);
        memcpy(frame.message, failure->message, frame.message_length);
    } else if (values) {
        memcpy(frame.values, values, sizeof frame.values);
    }
    return fd_write_full(fd, &frame, sizeof frame) == 0;
}

/* The only codes that a worker has reason to give; the rest would let it choose our HTTP status. */
static enum tare_error sober_code(guint32 code)
{
    switch (code) {
    case TARE_ERROR_INVALID + 1:
        return TARE_ERROR_INVALID;
    case TARE_ERROR_TOO_LARGE + 1:
        return TARE_ERROR_TOO_LARGE;
    case TARE_ERROR_NO_SPACE + 1:
        return TARE_ERROR_NO_SPACE;
    default:
        return TARE_ERROR_INTERNAL;
    }
}

static bool fail_as_reported(const struct report_frame *frame, GError **error)
{
    char text[MESSAGE_MAX + 1] = { 0 };
    memcpy(text, frame->message, MIN(frame->message_length, MESSAGE_MAX));
    for (char *c = text; *c; c++)
        if (g_ascii_iscntrl(*c) || !g_ascii_isprint(*c))
            *c = '?';
    return error_set(error, sober_code(frame->code), "%s", text[0] ? text : "failed without a reason");
}

bool worker_report_receive(int fd, const char *who, struct cancel *cancel, int timeout_ms,
                           guint64 ret_values[WORKER_REPORT_VALUES], GError **error)
{
    struct report_frame frame;
    char more;
    int ready = cancel_poll(cancel, fd, POLLIN, timeout_ms, error);
    if (ready < 0)
        return false;
    if (ready == 0)
        return error_set(error, TARE_ERROR_INTERNAL, "the %s does not answer", who);
    fd_set_nonblocking(fd, true);
    ssize_t n = fd_read_full(fd, &frame, sizeof frame);
    /* End of file without a frame: it was killed, by its filter, its limits or the system. */
    if (n != (ssize_t)sizeof frame || frame.magic != REPORT_MAGIC || read(fd, &more, 1) > 0)
        return error_set(error, TARE_ERROR_INTERNAL, "the %s was stopped", who);
    if (frame.code != 0)
        return fail_as_reported(&frame, error);
    memcpy(ret_values, frame.values, sizeof frame.values);
    return true;
}
