/* Frames between the parent and the child of a clone. A SEQPACKET keeps their borders; the length inside is checked all the same.
 */
#include "runtime/runtime-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int channel_send(int channel, enum frame_type type, int error, const char *const strings[3], const int *fds, size_t n_fds)
{
    struct channel_frame frame;
    size_t at = 0;
    for (int i = 0; i < 3; i++) {
        const char *text = strings && strings[i] ? strings[i] : "";
        size_t length = strnlen(text, FRAME_TEXT_MAX - 3 - at);
        memcpy(frame.text + at, text, length);
        at += length;
        frame.text[at++] = '\0';
    }
    frame.length = (guint32)(offsetof(struct channel_frame, text) + at);
    frame.type = type;
    frame.error = error;
    frame.n_fds = (guint32)n_fds;
    return fd_send(channel, &frame, frame.length, fds, n_fds) < 0 ? -errno : 0;
}

int channel_receive(int channel, struct channel_frame *ret, int fds[2])
{
    int received[2] = { -1, -1 };
    size_t n_fds = fds ? 2 : 0;
    const size_t room = n_fds;
    ssize_t n = fd_receive(channel, ret, sizeof *ret, received, &n_fds);
    /* A peer that ended with frames of ours unread: the kernel says so once, before what it had sent. */
    if (n < 0 && errno == ECONNRESET) {
        n_fds = room;
        n = fd_receive(channel, ret, sizeof *ret, received, &n_fds);
    }
    int r = 0;
    if (n < 0)
        r = -errno;
    else if (n == 0)
        r = -EPIPE;
    else if ((size_t)n <= offsetof(struct channel_frame, text) || ret->length != (size_t)n || ret->n_fds != n_fds ||
             ((char *)ret)[n - 1] != '\0')
        r = -EPROTO;
    if (r < 0) {
        fd_close(received[0]);
        fd_close(received[1]);
        return r;
    }
    if (fds) {
        fds[0] = received[0];
        fds[1] = received[1];
    }
    return 0;
}

int channel_expect(int channel, enum frame_type type)
{
    struct channel_frame frame;
    int r = channel_receive(channel, &frame, NULL);
    return r < 0 ? r : frame.type == type ? 0 : -EPROTO;
}

const char *channel_string(const struct channel_frame *frame, int which)
{
    const char *at = frame->text, *end = (const char *)frame + frame->length;
    while (which-- > 0 && at < end)
        at += strlen(at) + 1;
    return at < end ? at : "";
}

bool channel_failure(const struct channel_frame *frame, const char *argument, GError **error)
{
    const char *step = channel_string(frame, 0), *subject = channel_string(frame, 1), *target = channel_string(frame, 2);
    const char *reason = error_errno_text(frame->error);
    enum tare_error code = frame->error == ENOSPC || frame->error == EDQUOT ? TARE_ERROR_NO_SPACE : TARE_ERROR_INTERNAL;
    if (frame->type == FRAME_EXEC_FAILED) {
        g_autofree char *quoted = g_strdup_printf("exec: \"%s\"", argument);
        if (strcmp(step, "lookup") == 0)
            return error_set(error, TARE_ERROR_NOT_FOUND, "%s: executable file not found in $PATH", quoted);
        if (strcmp(step, "stat") == 0)
            return error_set(error, frame->error == ENOENT ? TARE_ERROR_NOT_FOUND : TARE_ERROR_INVALID, "%s: stat %s: %s", quoted,
                             argument, reason);
        return error_set(error, TARE_ERROR_INVALID, "%s: %s", quoted, reason);
    }
    if (strcmp(step, "mkdir") == 0 && frame->error == ENOTDIR)
        return error_set(error, TARE_ERROR_INVALID, "Cannot mkdir: %s is not a directory", subject);
    if (strcmp(step, "chdir") == 0)
        return error_set(error, code, "chdir to cwd (\"%s\") set in config.json failed: %s", subject, reason);
    if (frame->error == REFUSED_OVER_PROC || frame->error == REFUSED_IN_PROC)
        return error_set(error, TARE_ERROR_INVALID,
                         "error during container init: %s \"%s\" to rootfs at \"%s\": \"%s\" cannot be mounted because it is %s",
                         step, subject, target, target, frame->error == REFUSED_OVER_PROC ? "not of type proc" : "inside /proc");
    if (*target)
        return error_set(error, code, "error during container init: %s \"%s\" to rootfs at \"%s\": %s", step, subject, target,
                         reason);
    return error_set(error, code, "error during container init: %s%s%s: %s", step, *subject ? " " : "", subject, reason);
}
