#include "shim/shim-internal.h"

#include "base/log.h"
#include "base/timestamp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BATCH_FLUSH 65536
#define LOG_MODE 0640

/* A line of one stream that has not come to its newline. */
struct open_line {
    GByteArray *bytes;
    bool is_continued; /* a 16 KiB piece of it was logged: the pieces share the first one's time */
    gint64 time_ns;
};

struct log_file {
    char *path, *attributes;
    int fd;
    guint64 size, max_size;
    unsigned max_file;
    guint64 generation;
    GString *batch;
    struct open_line lines[2];
    bool failing; /* a full disk is told once, not for each line */
};

static const char *const stream_names[] = { "stdin", "stdout", "stderr" };

/* ---- one entry ---- */

static void append_byte(GString *out, guint8 byte)
{
    static const char hex[] = "0123456789abcdef";
    switch (byte) {
    case '\\':
    case '"':
        g_string_append_c(out, '\\');
        g_string_append_c(out, (char)byte);
        break;
    case '\n':
        g_string_append(out, "\\n");
        break;
    case '\r':
        g_string_append(out, "\\r");
        break;
    default:
        g_string_append(out, "\\u00");
        g_string_append_c(out, hex[byte >> 4]);
        g_string_append_c(out, hex[byte & 15]);
    }
}

static bool is_plain(guint8 byte)
{
    return byte >= 0x20 && byte < 0x80 && byte != '\\' && byte != '"' && byte != '<' && byte != '>' && byte != '&';
}

/* The length of the well-formed UTF-8 sequence at the start, or 0: each byte of a bad one becomes U+FFFD, as in Go. */
static size_t sequence_length(const guint8 *at, size_t left)
{
    gunichar c = g_utf8_get_char_validated((const char *)at, (gssize)left);
    if (c == (gunichar)-1 || c == (gunichar)-2)
        return 0;
    return (size_t)(g_utf8_next_char((const char *)at) - (const char *)at);
}

static void append_escaped(GString *out, const guint8 *data, size_t length)
{
    for (size_t i = 0; i < length;) {
        size_t run = i;
        while (run < length && is_plain(data[run]))
            run++;
        g_string_append_len(out, (const char *)data + i, (gssize)(run - i));
        i = run;
        if (i == length)
            break;
        if (data[i] < 0x80) {
            append_byte(out, data[i++]);
            continue;
        }
        size_t n = sequence_length(data + i, length - i);
        if (n == 0)
            g_string_append(out, "\\ufffd");
        else if (n == 3 && memcmp(data + i, "\xe2\x80", 2) == 0 && (data[i + 2] == 0xa8 || data[i + 2] == 0xa9))
            g_string_append(out, data[i + 2] == 0xa8 ? "\\u2028" : "\\u2029");
        else
            g_string_append_len(out, (const char *)data + i, (gssize)n);
        i += MAX(n, 1);
    }
}

void log_entry_format(GString *out, const void *line, size_t length, bool whole_line, unsigned stream, const char *attributes,
                      gint64 time_ns)
{
    char time[TIMESTAMP_ROOM];
    timestamp_format(time_ns, time);
    g_string_append(out, "{\"log\":\"");
    append_escaped(out, line, length);
    g_string_append(out, whole_line ? "\\n\",\"stream\":\"" : "\",\"stream\":\"");
    g_string_append(out, stream_names[stream]);
    g_string_append_c(out, '"');
    if (attributes) {
        g_string_append(out, ",\"attrs\":");
        g_string_append(out, attributes);
    }
    g_string_append(out, ",\"time\":\"");
    g_string_append(out, time);
    g_string_append(out, "\"}\n");
}

/* ---- the file ---- */

static int open_log(const char *path, int flags, GError **error)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, LOG_MODE);
    if (fd < 0)
        error_set_errno(error, errno, "open %s", path);
    return fd;
}

bool log_file_open(const struct log_file_options *options, struct log_file **ret, GError **error)
{
    g_autofd int own_fd = options->fd < 0 ? open_log(options->path, 0, error) : -1;
    int fd = options->fd < 0 ? own_fd : options->fd;
    struct stat st;
    if (fd < 0)
        return false;
    if (fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "stat %s", options->path);
    struct log_file *log = g_new0(struct log_file, 1);
    fd_steal(&own_fd);
    log->path = g_strdup(options->path);
    log->attributes = g_strdup(options->attributes);
    log->fd = fd;
    log->size = (guint64)st.st_size;
    log->max_size = options->max_size;
    log->max_file = MAX(options->max_file, 1);
    log->generation = log->max_file; /* so that files of an earlier life have numbers too */
    log->batch = g_string_new(NULL);
    for (size_t i = 0; i < 2; i++)
        log->lines[i].bytes = g_byte_array_new();
    *ret = log;
    return true;
}

void log_file_close(struct log_file *log)
{
    if (!log)
        return;
    log_file_flush(log);
    fd_close(log->fd);
    for (size_t i = 0; i < 2; i++)
        g_byte_array_unref(log->lines[i].bytes);
    g_string_free(log->batch, TRUE);
    g_free(log->path);
    g_free(log->attributes);
    g_free(log);
}

void log_file_flush(struct log_file *log)
{
    if (!log || log->batch->len == 0)
        return;
    bool ok = log->fd >= 0 && fd_write_full(log->fd, log->batch->str, log->batch->len) == 0;
    if (ok) {
        log->size += log->batch->len;
        log->failing = false;
    } else if (!log->failing) {
        log_line(LOG_LEVEL_ERROR, "log lines are lost", "path", log->path, "error", error_errno_text(log->fd < 0 ? EBADF : errno),
                 NULL);
        log->failing = true;
    }
    /* A half-written entry would spoil the next one, too. */
    if (!ok && log->fd >= 0 && ftruncate(log->fd, (off_t)log->size) < 0)
        log->failing = true;
    if (log->batch->allocated_len > BATCH_FLUSH) {
        g_string_free(log->batch, TRUE);
        log->batch = g_string_new(NULL);
    } else {
        g_string_truncate(log->batch, 0);
    }
}

static char *rotated_path(const struct log_file *log, guint64 age)
{
    return age == 0 ? g_strdup(log->path) : g_strdup_printf("%s.%" G_GUINT64_FORMAT, log->path, age);
}

/* path → path.1 → path.2 …; the last one goes. Readers keep the file that they have open. */
static void rotate(struct log_file *log)
{
    log_file_flush(log);
    fd_close(log->fd);
    for (unsigned age = log->max_file - 1; age > 0; age--) {
        g_autofree char *to = rotated_path(log, age), *from = rotated_path(log, age - 1);
        if (rename(from, to) < 0 && errno != ENOENT)
            log_line(LOG_LEVEL_ERROR, "rotate log", "path", from, "error", error_errno_text(errno), NULL);
    }
    if (log->max_file == 1)
        unlink(log->path);
    g_autoptr(GError) error = NULL;
    log->fd = open_log(log->path, O_TRUNC, &error);
    if (log->fd < 0)
        log_error(error, "rotate log", NULL);
    log->size = 0;
    log->generation++;
}

static void log_entry(struct log_file *log, const void *line, size_t length, bool whole_line, unsigned stream, gint64 time_ns)
{
    if (log->max_size > 0 && log->size + log->batch->len >= log->max_size)
        rotate(log);
    log_entry_format(log->batch, line, length, whole_line, stream, log->attributes, time_ns);
    if (log->batch->len >= BATCH_FLUSH)
        log_file_flush(log);
}

/* ---- lines ---- */

static void end_line(struct log_file *log, unsigned stream, const void *line, size_t length, gint64 now_ns)
{
    struct open_line *open = &log->lines[stream - 1];
    log_entry(log, line, length, true, stream, open->is_continued ? open->time_ns : now_ns);
    open->is_continued = false;
}

static void log_piece(struct log_file *log, unsigned stream, gint64 now_ns)
{
    struct open_line *open = &log->lines[stream - 1];
    if (!open->is_continued)
        open->time_ns = now_ns;
    open->is_continued = true;
    log_entry(log, open->bytes->data, open->bytes->len, false, stream, open->time_ns);
    g_byte_array_set_size(open->bytes, 0);
}

void log_file_append(struct log_file *log, unsigned stream, const void *data, size_t length, gint64 now_ns)
{
    struct open_line *open = &log->lines[stream - 1];
    const char *at = data;
    while (length > 0) {
        const char *newline = memchr(at, '\n', length);
        size_t n = newline ? (size_t)(newline - at) : length;
        size_t room = LOG_LINE_MAX - open->bytes->len;
        if (newline && n < room && open->bytes->len == 0) {
            end_line(log, stream, at, n, now_ns);
            at += n + 1;
            length -= n + 1;
            continue;
        }
        size_t taken = MIN(n, room);
        g_byte_array_append(open->bytes, (const guint8 *)at, (guint)taken);
        at += taken;
        length -= taken;
        if (open->bytes->len == LOG_LINE_MAX) {
            log_piece(log, stream, now_ns);
        } else if (newline) {
            end_line(log, stream, open->bytes->data, open->bytes->len, now_ns);
            g_byte_array_set_size(open->bytes, 0);
            at++;
            length--;
        }
    }
}

void log_file_end_lines(struct log_file *log)
{
    for (unsigned stream = 1; log && stream <= 2; stream++) {
        if (log->lines[stream - 1].bytes->len > 0)
            log_piece(log, stream, timestamp_now());
        log->lines[stream - 1].is_continued = false;
    }
}

/* ---- for readers ---- */

const GByteArray *log_file_pending(const struct log_file *log, unsigned stream)
{
    return log->lines[stream - 1].bytes;
}

guint64 log_file_generation(const struct log_file *log)
{
    return log->generation;
}

guint64 log_file_oldest_generation(const struct log_file *log)
{
    return log->generation - (log->max_file - 1);
}

int log_file_open_generation(const struct log_file *log, guint64 generation)
{
    if (generation > log->generation || generation < log_file_oldest_generation(log))
        return -1;
    g_autofree char *path = rotated_path(log, log->generation - generation);
    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}
