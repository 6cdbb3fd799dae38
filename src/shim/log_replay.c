#include "shim/shim-internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define READ_SIZE 16384
/* A 16 KiB piece with every byte escaped, and attributes. Longer lines are not ours. */
#define ENTRY_MAX (1u << 20)

struct log_replay {
    struct log_file *log;
    guint64 generation;
    int fd;              /* of that generation, or -1 */
    GByteArray *pending; /* of a line */
};

struct log_replay *log_replay_new(struct log_file *log)
{
    struct log_replay *replay = g_new0(struct log_replay, 1);
    replay->log = log;
    replay->generation = log_file_oldest_generation(log);
    replay->fd = log_file_open_generation(log, replay->generation);
    replay->pending = g_byte_array_new();
    return replay;
}

void log_replay_free(struct log_replay *replay)
{
    if (!replay)
        return;
    fd_close(replay->fd);
    g_byte_array_unref(replay->pending);
    g_free(replay);
}

static void deliver_entry(const char *line, size_t length,
                          void (*entry)(void *user, unsigned stream, const void *data, size_t length), void *user)
{
    g_autoptr(json_t) object = json_parse(line, length, ENTRY_MAX, "log entry", NULL);
    const json_t *text = json_object_get(object, "log");
    const char *stream = json_get_string(object, "stream", "stdout");
    if (json_is_string(text))
        entry(user, strcmp(stream, "stderr") == 0 ? 2 : 1, json_string_value(text), json_string_length(text));
}

static void deliver_lines(struct log_replay *replay, void (*entry)(void *user, unsigned stream, const void *data, size_t length),
                          void *user)
{
    const guint8 *at = replay->pending->data, *end = at + replay->pending->len, *newline;
    while (at < end && (newline = memchr(at, '\n', (size_t)(end - at)))) {
        deliver_entry((const char *)at, (size_t)(newline - at), entry, user);
        at = newline + 1;
    }
    size_t rest = (size_t)(end - at);
    g_byte_array_remove_range(replay->pending, 0, replay->pending->len - (guint)rest);
    if (replay->pending->len > ENTRY_MAX)
        g_byte_array_set_size(replay->pending, 0);
}

bool log_replay_step(struct log_replay *replay, void (*entry)(void *user, unsigned stream, const void *data, size_t length),
                     void *user)
{
    guint8 buffer[READ_SIZE];
    log_file_flush(replay->log);
    ssize_t n = replay->fd < 0 ? 0 : read(replay->fd, buffer, sizeof buffer);
    if (n > 0) {
        g_byte_array_append(replay->pending, buffer, (guint)n);
        deliver_lines(replay, entry, user);
        return true;
    }
    if (replay->generation < log_file_generation(replay->log)) {
        fd_close(replay->fd);
        replay->generation++;
        replay->fd = log_file_open_generation(replay->log, replay->generation);
        return true;
    }
    for (unsigned stream = 1; stream <= 2; stream++) {
        const GByteArray *line = log_file_pending(replay->log, stream);
        if (line->len > 0)
            entry(user, stream, line->data, line->len);
    }
    return false;
}
