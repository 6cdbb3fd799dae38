#include "layer/layer-internal.h"

#include "base/fd.h"
#include "layer/decode.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define PIPE_BYTES (1 << 20)
#define READ_ROOM (128u << 10)
/* After its output ended a decoder has nothing left to do but to say so. */
#define ANSWER_TIMEOUT_MS 10000

#define TICK_MS 1000

/* Who waits for the decoder, and since when. It hangs when it neither takes input that is there nor gives output for the store's
 * stall time; a client that sends slowly, or a disk that writes slowly, is not its fault. Times are monotonic, read and written
 * by both threads; 0: does not wait. */
struct pace {
    gint64 feeder_since, collector_since;
};

static void pace_begin(gint64 *since)
{
    __atomic_store_n(since, g_get_monotonic_time(), __ATOMIC_RELAXED);
}

static void pace_end(gint64 *since)
{
    __atomic_store_n(since, 0, __ATOMIC_RELAXED);
}

static bool pace_check(const struct pace *pace, gint64 stall_us, GError **error)
{
    gint64 now = g_get_monotonic_time(), feeder = __atomic_load_n(&pace->feeder_since, __ATOMIC_RELAXED),
           collector = __atomic_load_n(&pace->collector_since, __ATOMIC_RELAXED);
    if (feeder == 0 || collector == 0 || now - MAX(feeder, collector) < stall_us)
        return true;
    return error_set(error, TARE_ERROR_INTERNAL, "the decoder stood still for %d seconds", (int)(stall_us / G_USEC_PER_SEC));
}

/* cancel_poll, as one of the two that wait for the decoder. */
static bool await_decoder(const struct decoder_run *run, struct pace *pace, gint64 *since, int fd, short events, GError **error)
{
    int ready = 0;
    pace_begin(since);
    while (ready == 0 && pace_check(pace, run->store->stall_us, error))
        ready = cancel_poll(run->cancel, fd, events, TICK_MS, error);
    pace_end(since);
    return ready > 0;
}

/* The caller's thread feeds the decoder, a second one takes what comes out: neither can wait for the other's pipe. */
struct collector {
    const struct decoder_run *run;
    struct pace *pace;
    const struct worker *worker;
    int from;
    guint64 total;
    bool failed;
    GError *error;
};

static gssize read_pipe(struct collector *collector, void *buffer, gsize length, GError **error)
{
    for (;;) {
        ssize_t n = read(collector->from, buffer, length);
        if (n >= 0)
            return n;
        if (errno == EAGAIN) {
            if (!await_decoder(collector->run, collector->pace, &collector->pace->collector_since, collector->from, POLLIN,
                               error))
                return -1;
        } else if (errno != EINTR) {
            error_set_errno(error, errno, "read from decoder");
            return -1;
        }
    }
}

static bool collect_into_intake(struct collector *collector, GError **error)
{
    for (;;) {
        gsize room;
        void *at = intake_room(collector->run->intake, &room);
        gssize n = read_pipe(collector, at, room, error);
        if (n <= 0)
            return n == 0;
        if (!intake_advance(collector->run->intake, (gsize)n, error))
            return false;
    }
}

static bool collect_into_sink(struct collector *collector, GError **error)
{
    g_autofree void *buffer = g_malloc(READ_ROOM);
    for (;;) {
        gssize n = read_pipe(collector, buffer, READ_ROOM, error);
        if (n <= 0)
            return n == 0;
        if ((gsize)n > collector->run->max_bytes - collector->total)
            return error_set(error, TARE_ERROR_TOO_LARGE, "uncompressed data is larger than %" G_GUINT64_FORMAT " bytes",
                             collector->run->max_bytes);
        collector->total += (gsize)n;
        if (!sink_write(collector->run->sink, buffer, (gsize)n, error))
            return false;
    }
}

static gpointer collect(gpointer data)
{
    struct collector *collector = data;
    bool ok = collector->run->intake ? collect_into_intake(collector, &collector->error)
                                     : collect_into_sink(collector, &collector->error);
    collector->failed = !ok;
    if (!ok)
        worker_kill(collector->worker); /* so that the feeder, which may stand before a full pipe, comes back */
    return NULL;
}

/* 1 written, 0 the decoder takes no more, -1 error. */
static int write_pipe(const struct decoder_run *run, struct pace *pace, int fd, const char *data, gsize length, GError **error)
{
    while (length > 0) {
        ssize_t n = write(fd, data, length);
        if (n < 0 && errno == EPIPE)
            return 0;
        if (n < 0 && errno == EAGAIN) {
            if (!await_decoder(run, pace, &pace->feeder_since, fd, POLLOUT, error))
                return -1;
            continue;
        }
        if (n < 0 && errno != EINTR) {
            error_set_errno(error, errno, "write to decoder");
            return -1;
        }
        if (n > 0) {
            data += n;
            length -= (gsize)n;
        }
    }
    return 1;
}

static bool feed(const struct decoder_run *run, struct pace *pace, int to, GError **error)
{
    g_autofree void *buffer = g_malloc(READ_ROOM);
    for (;;) {
        gssize n = run->read(run->user, buffer, READ_ROOM, error);
        if (n <= 0)
            return n == 0;
        int written = write_pipe(run, pace, to, buffer, (gsize)n, error);
        if (written <= 0)
            return written == 0;
    }
}

/* A library must not rely on its program to ignore SIGPIPE. */
static bool feed_without_sigpipe(const struct decoder_run *run, struct pace *pace, int to, GError **error)
{
    sigset_t pipe_set, old, pending;
    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
    bool ok = feed(run, pace, to, error);
    if (!sigismember(&pending, SIGPIPE))
        sigtimedwait(&pipe_set, NULL, &(struct timespec){ 0 });
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return ok;
}

static bool make_pipe(int *ret_read, int *ret_write, GError **error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "pipe");
    fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES); /* fewer switches between us and the worker; 64 KiB do as well */
    *ret_read = ends[0];
    *ret_write = ends[1];
    return true;
}

/* Feeds and collects until the decoder's output ends; the first failure that is ours is the error. */
static bool pump(const struct decoder_run *run, const struct worker *worker, int to, int from, GError **error)
{
    g_autofd int input = to;
    fd_set_nonblocking(input, true);
    fd_set_nonblocking(from, true);
    struct pace pace = { 0 };
    struct collector collector = { .run = run, .pace = &pace, .worker = worker, .from = from };
    GThread *thread = g_thread_try_new("collect", collect, &collector, error);
    if (!thread)
        return false;
    g_autoptr(GError) feed_error = NULL;
    bool fed = feed_without_sigpipe(run, &pace, input, &feed_error);
    if (!fed)
        worker_kill(worker);
    fd_clear(&input);
    pace_begin(&pace.feeder_since); /* it has all of its input: from now on whatever it does not give is its fault */
    g_thread_join(thread);
    if (!fed) {
        g_clear_error(&collector.error);
        g_propagate_error(error, g_steal_pointer(&feed_error));
        return false;
    }
    if (collector.failed) {
        g_propagate_error(error, collector.error);
        return false;
    }
    return true;
}

static bool start_decoder(const struct decoder_run *run, struct worker *worker, int *ret_to, int *ret_from, GError **error)
{
    g_autofd int their_input = -1, input = -1, output = -1, their_output = -1;
    if (!make_pipe(&their_input, &input, error) || !make_pipe(&output, &their_output, error))
        return false;
    g_autofree char *max = g_strdup_printf("%" G_GUINT64_FORMAT, run->max_bytes);
    const char *const arguments[] = { "decode", max, NULL };
    const struct spawn_fd fds[] = { { their_input, 0 }, { their_output, 1 } };
    if (!worker_start(run->store, arguments, fds, G_N_ELEMENTS(fds), "decoder", worker, error))
        return false;
    *ret_to = fd_steal(&input);
    *ret_from = fd_steal(&output);
    return true;
}

bool decoder_run(const struct decoder_run *run, GError **error)
{
    struct worker worker = WORKER_NONE;
    int input = -1;
    g_autofd int output = -1;
    guint64 values[WORKER_REPORT_VALUES];
    if (!start_decoder(run, &worker, &input, &output, error))
        return false;
    bool ok = pump(run, &worker, input, output, error) && worker_finish(&worker, run->cancel, ANSWER_TIMEOUT_MS, values, error);
    worker_clear(&worker);
    return ok;
}

/* ---- archives ---- */

struct sniffed {
    struct byte_source *source;
    guint8 head[DECODE_SNIFF_BYTES];
    gsize at, length;
    struct cancel *cancel;
};

static gssize read_sniffed(void *user, void *buffer, gsize length, GError **error)
{
    struct sniffed *sniffed = user;
    if (!cancel_check(sniffed->cancel, error))
        return -1;
    if (sniffed->at == sniffed->length)
        return source_read(sniffed->source, buffer, length, error);
    gsize n = MIN(length, sniffed->length - sniffed->at);
    memcpy(buffer, sniffed->head + sniffed->at, n);
    sniffed->at += n;
    return (gssize)n;
}

static bool pass_plain(struct sniffed *sniffed, struct byte_sink *sink, guint64 max_bytes, GError **error)
{
    g_autofree void *buffer = g_malloc(READ_ROOM);
    guint64 total = 0;
    for (;;) {
        gssize n = read_sniffed(sniffed, buffer, READ_ROOM, error);
        if (n <= 0)
            return n == 0;
        if ((gsize)n > max_bytes - total)
            return error_set(error, TARE_ERROR_TOO_LARGE, "data is larger than %" G_GUINT64_FORMAT " bytes", max_bytes);
        total += (gsize)n;
        if (!sink_write(sink, buffer, (gsize)n, error))
            return false;
    }
}

bool layer_decode(struct layer_store *store, struct byte_source *source, struct byte_sink *sink, guint64 max_bytes,
                  struct cancel *cancel, GError **error)
{
    struct sniffed sniffed = { .source = source, .cancel = cancel };
    max_bytes = max_bytes ? max_bytes : store->max_layer_bytes;
    gssize n = source_read_full(source, sniffed.head, sizeof sniffed.head, error);
    if (n < 0)
        return false;
    sniffed.length = (gsize)n;
    if (decode_sniff(sniffed.head, sniffed.length) == DECODE_PLAIN)
        return pass_plain(&sniffed, sink, max_bytes, error);
    struct decoder_run run = {
        .store = store, .read = read_sniffed, .user = &sniffed, .sink = sink, .max_bytes = max_bytes, .cancel = cancel
    };
    return decoder_run(&run, error);
}
