/* docker logs: the json-file log with its rotated files, oldest first, then what comes while the container runs. */
#include "container/container-internal.h"
#include "container/log-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_SIZE 65536
#define ROTATED_MAX 10000
#define HEADER_SIZE 8

struct reader {
    struct container *container;
    const struct container_logs_options *options;
    struct byte_sink *sink;
    struct cancel *cancel;
    struct log_entry entry;
    GString *pending; /* of a line that is not whole yet */
    GString *out;
    bool skipping; /* inside a line that is too long */
    bool past_until;
};

/* ---- one entry ---- */

static void append_prefixed(struct reader *reader, GString *text)
{
    char time[TIMESTAMP_ROOM];
    if (reader->options->timestamps) {
        timestamp_format_fixed(reader->entry.time_ns, time);
        g_string_append_printf(text, "%s ", time);
    }
    if (reader->options->details) {
        g_string_append_len(text, reader->entry.attributes->str, reader->entry.attributes->len);
        g_string_append_c(text, ' ');
    }
    g_string_append_len(text, reader->entry.line->str, reader->entry.line->len);
}

static void append_entry(struct reader *reader)
{
    gsize begin = reader->out->len;
    if (reader->options->multiplex)
        g_string_append_len(reader->out, "\0\0\0\0\0\0\0\0", HEADER_SIZE);
    append_prefixed(reader, reader->out);
    if (!reader->options->multiplex)
        return;
    gsize length = reader->out->len - begin - HEADER_SIZE;
    char *header = reader->out->str + begin;
    header[0] = (char)reader->entry.stream;
    for (int i = 0; i < 4; i++)
        header[4 + i] = (char)(length >> (24 - 8 * i));
}

static void take_line(struct reader *reader, const char *line, size_t length)
{
    const struct container_logs_options *options = reader->options;
    if (!length || !log_entry_parse(line, length, &reader->entry))
        return;
    if (options->since_ns && reader->entry.time_ns < options->since_ns)
        return;
    if (options->until_ns && reader->entry.time_ns > options->until_ns) {
        reader->past_until = true;
        return;
    }
    if (reader->entry.stream == 2 ? options->use_stderr : options->use_stdout)
        append_entry(reader);
}

static bool flush(struct reader *reader, GError **error)
{
    bool ok = !reader->out->len || sink_write(reader->sink, reader->out->str, reader->out->len, error);
    g_string_truncate(reader->out, 0);
    return ok && cancel_check(reader->cancel, error);
}

/* ---- one file ---- */

static void take_bytes(struct reader *reader, const char *data, size_t length)
{
    const char *end = data + length;
    for (const char *newline; data < end && (newline = memchr(data, '\n', end - data)); data = newline + 1) {
        if (reader->skipping) {
            reader->skipping = false;
        } else if (reader->pending->len) {
            g_string_append_len(reader->pending, data, newline - data);
            take_line(reader, reader->pending->str, reader->pending->len);
        } else {
            take_line(reader, data, newline - data);
        }
        g_string_truncate(reader->pending, 0);
    }
    if (reader->skipping)
        return;
    g_string_append_len(reader->pending, data, end - data);
    if (reader->pending->len > CONTAINER_LOG_LINE_MAX) {
        reader->skipping = true;
        g_string_truncate(reader->pending, 0);
    }
}

/* From the fd's position to its end. */
static bool read_to_end(struct reader *reader, int fd, GError **error)
{
    g_autofree char *buffer = g_malloc(READ_SIZE);
    while (!reader->past_until) {
        ssize_t n = read(fd, buffer, READ_SIZE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, errno, "read log of container %s", reader->container->id);
        if (n == 0)
            break;
        take_bytes(reader, buffer, n);
        if (!flush(reader, error))
            return false;
    }
    return true;
}

/* Newlines in a file, counted from its end until `wanted` lines are found: the offset of the first of them, and how many there
 * are. */
static bool find_tail(int fd, guint64 wanted, off_t *ret_offset, guint64 *ret_found, GError **error)
{
    g_autofree char *buffer = g_malloc(READ_SIZE);
    off_t end = lseek(fd, 0, SEEK_END), at = end;
    guint64 found = 0;
    while (at > 0) {
        size_t length = MIN(at, READ_SIZE);
        at -= (off_t)length;
        if (fd_pread_full(fd, buffer, length, at) != (ssize_t)length)
            return error_set(error, TARE_ERROR_INTERNAL, "read log");
        for (size_t i = length; i-- > 0;) {
            /* A newline begins the line after it; the file's last byte ends the last line. */
            if (buffer[i] != '\n' || at + (off_t)i == end - 1)
                continue;
            if (++found == wanted) {
                *ret_offset = at + (off_t)i + 1;
                *ret_found = found;
                return true;
            }
        }
    }
    *ret_offset = 0;
    *ret_found = end > 0 ? found + 1 : 0;
    return true;
}

/* ---- all files ---- */

static int open_log(struct container *container, unsigned number)
{
    g_autofree char *base = container_log_path(container);
    g_autofree char *path = number ? g_strdup_printf("%s.%u", base, number) : g_strdup(base);
    return open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
}

/* The files, newest first, with their positions set to where the output begins; a rotation meanwhile only renames what is open.
 */
static bool open_files(struct reader *reader, GArray *files, GError **error)
{
    gint64 tail = reader->options->tail;
    guint64 left = tail < 0 ? G_MAXUINT64 : (guint64)tail;
    for (unsigned number = 0; number <= ROTATED_MAX; number++) {
        int fd = open_log(reader->container, number);
        if (fd < 0) {
            if (number == 0)
                continue; /* it may be between two names */
            break;
        }
        g_array_append_val(files, fd);
        if (tail < 0)
            continue;
        off_t offset;
        guint64 found = 0;
        if (left == 0)
            offset = lseek(fd, 0, SEEK_END);
        else if (!find_tail(fd, left, &offset, &found, error))
            return false;
        lseek(fd, offset, SEEK_SET);
        left -= found;
        if (left == 0)
            break;
    }
    return true;
}

static void close_files(GArray *files)
{
    for (guint i = 0; i < files->len; i++)
        fd_close(g_array_index(files, int, i));
    g_array_unref(files);
}

/* ---- following ---- */

static bool same_file(int a, int b)
{
    struct stat first, second;
    return fstat(a, &first) == 0 && fstat(b, &second) == 0 && first.st_ino == second.st_ino && first.st_dev == second.st_dev;
}

/* Reads what has come; where the log was rotated, the old file to its end and then the new one. */
static bool catch_up(struct reader *reader, int *fd, GError **error)
{
    if (*fd >= 0 && !read_to_end(reader, *fd, error))
        return false;
    g_autofd int now = open_log(reader->container, 0);
    if (now < 0 || (*fd >= 0 && same_file(*fd, now)))
        return true;
    if (*fd >= 0 && !read_to_end(reader, *fd, error))
        return false;
    fd_close(*fd);
    *fd = fd_steal(&now);
    return read_to_end(reader, *fd, error);
}

/* 1: something may have been written, 0: the container has ended, -1: error. */
static int wait_for_more(struct reader *reader, int notify, int ended, GError **error)
{
    char events[4096];
    struct pollfd fds[3] = { { .fd = notify, .events = POLLIN },
                             { .fd = ended, .events = POLLIN },
                             { .fd = cancel_fd(reader->cancel), .events = POLLIN } };
    int timeout_ms = -1;
    if (reader->options->until_ns) {
        gint64 left = (reader->options->until_ns - timestamp_now()) / 1000000;
        if (left <= 0)
            return 0;
        timeout_ms = (int)MIN(left + 1, G_MAXINT);
    }
    if (poll(fds, 3, timeout_ms) < 0 && errno != EINTR) {
        error_set_errno(error, errno, "poll");
        return -1;
    }
    if (!cancel_check(reader->cancel, error))
        return -1;
    if (fds[0].revents)
        (void)!read(notify, events, sizeof(events));
    return fds[1].revents ? 0 : 1;
}

static bool follow(struct reader *reader, int *fd, GError **error)
{
    g_autofree char *directory = container_state_dir(reader->container);
    g_autofd int notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    struct container_waiter *waiter;
    if (notify < 0 || inotify_add_watch(notify, directory, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
        return error_set_errno(error, errno, "watch log of container %s", reader->container->id);
    if (!container_wait_begin(reader->container->manager, reader->container->id, "not-running", &waiter, NULL))
        return true;
    bool ok;
    for (int more = 1;;) {
        ok = catch_up(reader, fd, error);
        if (!ok || !more || reader->past_until)
            break;
        more = wait_for_more(reader, notify, container_waiter_fd(waiter), error);
        ok = more >= 0;
        if (!ok)
            break;
    }
    container_waiter_free(waiter);
    return ok;
}

static bool read_all(struct reader *reader, bool running, GError **error)
{
    GArray *files = g_array_new(FALSE, FALSE, sizeof(int));
    bool ok = open_files(reader, files, error);
    for (guint i = files->len; ok && i-- > 0;)
        ok = read_to_end(reader, g_array_index(files, int, i), error);
    if (ok && running && reader->options->follow && !reader->past_until) {
        int newest = files->len ? g_array_index(files, int, 0) : -1;
        if (files->len)
            g_array_index(files, int, 0) = -1;
        ok = follow(reader, &newest, error);
        fd_close(newest);
    }
    close_files(files);
    return ok;
}

bool container_logs(struct container_manager *manager, const char *name, const struct container_logs_options *options,
                    struct byte_sink *sink, struct cancel *cancel, GError **error)
{
    autocontainer container = container_find(manager, name, error);
    if (!container)
        return false;
    if (!options->use_stdout && !options->use_stderr)
        return error_set(error, TARE_ERROR_INVALID, "Bad parameters: you must choose at least one stream");
    g_autoptr(json_t) host_config = container_get_host_config(container);
    if (!strcmp(json_get_string(json_get_object(host_config, "LogConfig"), "Type", ""), "none"))
        return error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "configured logging driver does not support reading");
    struct container_state state = container_get_state(container);
    struct reader reader = { .container = container,
                             .options = options,
                             .sink = sink,
                             .cancel = cancel,
                             .pending = g_string_new(NULL),
                             .out = g_string_new(NULL) };
    log_entry_init(&reader.entry);
    bool ok = read_all(&reader, container_is_running(&state), error);
    log_entry_clear(&reader.entry);
    g_string_free(reader.pending, TRUE);
    g_string_free(reader.out, TRUE);
    return ok;
}
