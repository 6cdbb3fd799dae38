/* What a build does, step by step: live on a terminal, line by line, or as JSON. The engine sends BuildKit's objects. */
#include "cli/build-internal.h"

#include "base/fd.h"
#include "base/timestamp.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TAIL_LINES 6   /* of a step under way */
#define ERROR_LINES 12 /* of a step that failed */
#define REDRAW_US 80000
#define KEPT_LINES 1000

struct vertex {
    char *digest, *name, *error;
    gint64 started, completed; /* nanoseconds; 0: not */
    bool cached;
    GQueue lines;  /* of char *: whole ones */
    GString *rest; /* of one that is not whole yet */
    guint number;  /* in plain output */
};

struct build_progress {
    enum build_face face;
    int fd;
    GPtrArray *order;  /* of struct vertex * */
    GHashTable *known; /* digest → struct vertex * */
    guint n_drawn;     /* lines that are to be drawn over */
    gint64 began, drawn_at;
    struct vertex *last; /* who said something last, plain */
    GPtrArray *warnings; /* of char * */
    bool over;
    GMutex lock;
    GThread *ticker;
};

static void vertex_free(gpointer data)
{
    struct vertex *vertex = data;

    g_free(vertex->digest);
    g_free(vertex->name);
    g_free(vertex->error);
    g_queue_clear_full(&vertex->lines, g_free);
    g_string_free(vertex->rest, TRUE);
    g_free(vertex);
}

static gint64 now_ns(void)
{
    return g_get_real_time() * 1000;
}

static double seconds_of(const struct vertex *vertex)
{
    gint64 end = vertex->completed ? vertex->completed : now_ns();

    return (double)MAX(end - vertex->started, 0) / 1e9;
}

/* ---- plain ---- */

static void say(const struct build_progress *progress, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void say(const struct build_progress *progress, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list arguments;

    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    fd_write_full(progress->fd, text, strlen(text));
}

static void head_line(struct build_progress *progress, struct vertex *vertex)
{
    if (progress->last == vertex)
        return;
    if (progress->last && !progress->last->completed)
        say(progress, "#%u ...\n", progress->last->number);
    say(progress, "%s#%u %s\n", progress->last ? "\n" : "", vertex->number, vertex->name);
    progress->last = vertex;
}

static void plain_vertex(struct build_progress *progress, struct vertex *vertex)
{
    head_line(progress, vertex);
    if (!vertex->completed)
        return;
    if (vertex->error)
        say(progress, "#%u ERROR: %s\n", vertex->number, vertex->error);
    else if (vertex->cached)
        say(progress, "#%u CACHED\n", vertex->number);
    else
        say(progress, "#%u DONE %.1fs\n", vertex->number, seconds_of(vertex));
}

/* ---- terminal ---- */

static char *fit(const char *text, guint width)
{
    g_autofree char *plain = g_strdup(text);

    for (char *c = plain; *c; c++) /* no output of a step moves our cursor */
        if ((guchar)*c < ' ' || *c == 0x7f)
            *c = ' ';
    return text_ellipsis(plain, width);
}

static void draw_vertex(GString *out, struct vertex *vertex, guint width, guint *lines, guint room)
{
    g_autofree char *time = g_strdup_printf("%6.1fs", seconds_of(vertex)),
                    *label = g_strdup_printf(" => %s%s%s", vertex->error ? "ERROR " : "", vertex->cached ? "CACHED " : "",
                                             vertex->name),
                    *fitted = fit(label, width > 9 ? width - 9 : 1);
    guint n = text_width(fitted), tail = vertex->completed ? 0 : MIN(vertex->lines.length, TAIL_LINES);

    g_string_append_printf(out, "%s%s%*s%s%s\033[K\n",
                           vertex->error       ? "\033[31m"
                           : vertex->completed ? "\033[34m"
                                               : "",
                           fitted, (int)(width - n - strlen(time)), "", time,
                           vertex->error || vertex->completed ? "\033[0m" : "");
    (*lines)++;
    for (guint i = 0; i < tail && *lines < room; i++, (*lines)++) {
        g_autofree char *line = g_strdup_printf(" => => # %s",
                                                (char *)g_queue_peek_nth(&vertex->lines, vertex->lines.length - tail + i)),
                        *short_line = fit(line, width - 1);

        g_string_append_printf(out, "\033[2m%s\033[0m\033[K\n", short_line);
    }
}

static void draw(struct build_progress *progress)
{
    int height = 24, width = 80, rows, columns;
    g_autoptr(GString) out = g_string_new(NULL);
    guint done = 0, lines = 1, first = 0;

    if (terminal_size(&rows, &columns) && rows > 4 && columns > 20) {
        height = rows;
        width = columns;
    }
    for (guint i = 0; i < progress->order->len; i++)
        done += ((struct vertex *)progress->order->pdata[i])->completed != 0;
    if (progress->n_drawn > 0)
        g_string_append_printf(out, "\033[%uA", progress->n_drawn);
    g_string_append_printf(out, "\033[?25l[+] Building %.1fs (%u/%u)%s\033[K\n", (double)(now_ns() - progress->began) / 1e9, done,
                           progress->order->len, progress->over ? " FINISHED" : "");
    if (!progress->over && progress->order->len > (guint)height - 3)
        first = progress->order->len - ((guint)height - 3);
    for (guint i = first; i < progress->order->len; i++)
        draw_vertex(out, progress->order->pdata[i], (guint)width, &lines, progress->over ? G_MAXUINT : (guint)height - 1);
    g_string_append(out, "\033[J");
    if (progress->over)
        g_string_append(out, "\033[?25h");
    progress->n_drawn = lines;
    fd_write_full(progress->fd, out->str, out->len);
}

/* Times go on also while nothing is said. */
static gpointer tick(gpointer user)
{
    struct build_progress *progress = user;

    for (bool over = false; !over;) {
        g_mutex_lock(&progress->lock);
        over = progress->over;
        if (!over)
            draw(progress);
        g_mutex_unlock(&progress->lock);
        g_usleep(REDRAW_US);
    }
    return NULL;
}

/* ---- what the engine says ---- */

static struct vertex *find_vertex(struct build_progress *progress, const char *digest, const char *name)
{
    struct vertex *vertex = g_hash_table_lookup(progress->known, digest);

    if (!vertex) {
        vertex = g_new0(struct vertex, 1);
        vertex->digest = g_strdup(digest);
        vertex->name = g_strdup(name);
        vertex->rest = g_string_new(NULL);
        vertex->number = progress->order->len + 1;
        g_queue_init(&vertex->lines);
        g_ptr_array_add(progress->order, vertex);
        g_hash_table_insert(progress->known, vertex->digest, vertex);
    }
    return vertex;
}

static void take_vertex(struct build_progress *progress, const json_t *object)
{
    struct vertex *vertex = find_vertex(progress, json_get_string(object, "digest", ""), json_get_string(object, "name", ""));

    timestamp_parse(json_get_string(object, "started", ""), &vertex->started);
    timestamp_parse(json_get_string(object, "completed", ""), &vertex->completed);
    vertex->cached = json_get_bool(object, "cached", false);
    if (json_get_string(object, "error", NULL) && !vertex->error)
        vertex->error = g_strdup(json_get_string(object, "error", ""));
    if (progress->face == BUILD_FACE_PLAIN)
        plain_vertex(progress, vertex);
}

static void take_line(struct build_progress *progress, struct vertex *vertex, const char *line)
{
    if (progress->face == BUILD_FACE_PLAIN) {
        head_line(progress, vertex);
        say(progress, "#%u %.3f %s\n", vertex->number, seconds_of(vertex), line);
    }
    g_queue_push_tail(&vertex->lines, g_strdup(line));
    if (vertex->lines.length > KEPT_LINES)
        g_free(g_queue_pop_head(&vertex->lines));
}

static void take_warning(struct build_progress *progress, const json_t *object)
{
    gsize length = 0;
    g_autofree guchar *data = g_base64_decode(json_get_string(object, "short", ""), &length);

    g_ptr_array_add(progress->warnings, g_strndup((const char *)data, length));
}

static void take_log(struct build_progress *progress, const json_t *object)
{
    struct vertex *vertex = g_hash_table_lookup(progress->known, json_get_string(object, "vertex", ""));
    gsize length = 0;
    g_autofree guchar *data = g_base64_decode(json_get_string(object, "data", ""), &length);

    if (!vertex)
        return;
    for (gsize i = 0; i < length; i++) {
        if (data[i] == '\n' || vertex->rest->len > 4096) {
            take_line(progress, vertex, vertex->rest->str);
            g_string_truncate(vertex->rest, 0);
        }
        if (data[i] != '\n' && data[i] != '\r' && data[i])
            g_string_append_c(vertex->rest, (char)data[i]);
    }
}

void build_progress_take(struct build_progress *progress, const json_t *status)
{
    json_t *item;
    size_t i;

    if (progress->face == BUILD_FACE_RAW) {
        g_autofree char *text = json_dumps(status, JSON_COMPACT);

        say(progress, "%s\n", text);
    }
    g_mutex_lock(&progress->lock);
    json_array_foreach(json_get_array(status, "vertexes"), i, item) take_vertex(progress, item);
    json_array_foreach(json_get_array(status, "logs"), i, item) take_log(progress, item);
    json_array_foreach(json_get_array(status, "warnings"), i, item) take_warning(progress, item);
    g_mutex_unlock(&progress->lock);
}

struct build_progress *build_progress_new(enum build_face face)
{
    struct build_progress *progress = g_new0(struct build_progress, 1);

    progress->face = face;
    progress->fd = STDERR_FILENO;
    progress->began = now_ns();
    progress->order = g_ptr_array_new_with_free_func(vertex_free);
    progress->warnings = g_ptr_array_new_with_free_func(g_free);
    progress->known = g_hash_table_new(g_str_hash, g_str_equal);
    g_mutex_init(&progress->lock);
    if (face == BUILD_FACE_TTY)
        progress->ticker = g_thread_new("progress", tick, progress);
    return progress;
}

/* The last lines of the step that failed. */
static void show_failure(const struct build_progress *progress)
{
    for (guint i = 0; i < progress->order->len; i++) {
        struct vertex *vertex = progress->order->pdata[i];
        guint n = MIN(vertex->lines.length, ERROR_LINES);

        if (!vertex->error || strcmp(vertex->error, "context canceled") == 0)
            continue;
        say(progress, "------\n > %s:\n", vertex->name);
        for (guint j = 0; j < n; j++)
            say(progress, "%s\n", (char *)g_queue_peek_nth(&vertex->lines, vertex->lines.length - n + j));
        say(progress, "------\n");
    }
}

/* As buildx words it. */
static void show_warnings(const struct build_progress *progress)
{
    guint n = progress->warnings->len;

    if (n == 0)
        return;
    say(progress, "\n %u warning%s found (use docker --debug to expand):\n", n, n == 1 ? "" : "s");
    for (guint i = 0; i < n; i++)
        say(progress, " - %s\n", (char *)progress->warnings->pdata[i]);
}

void build_progress_finish(struct build_progress *progress)
{
    g_mutex_lock(&progress->lock);
    for (guint i = 0; i < progress->order->len; i++) {
        struct vertex *vertex = progress->order->pdata[i];

        if (vertex->rest->len > 0)
            take_line(progress, vertex, vertex->rest->str);
    }
    progress->over = true;
    g_mutex_unlock(&progress->lock);
    if (progress->ticker) {
        g_thread_join(progress->ticker);
        draw(progress);
    }
    if (progress->face == BUILD_FACE_PLAIN || progress->face == BUILD_FACE_TTY)
        show_failure(progress);
    if (progress->face == BUILD_FACE_PLAIN || progress->face == BUILD_FACE_TTY)
        show_warnings(progress);
    g_ptr_array_unref(progress->warnings);
    g_hash_table_unref(progress->known);
    g_ptr_array_unref(progress->order);
    g_mutex_clear(&progress->lock);
    g_free(progress);
}

bool build_face_choose(const struct options *options, bool to_stdout, enum build_face *ret, GError **error)
{
    static const struct {
        const char *name;
        enum build_face face;
    } faces[] = {
        { "plain", BUILD_FACE_PLAIN }, { "tty", BUILD_FACE_TTY }, { "quiet", BUILD_FACE_QUIET }, { "rawjson", BUILD_FACE_RAW }
    };
    const char *given = options_string(options, "progress", g_getenv("BUILDKIT_PROGRESS")),
               *classic = g_getenv("DOCKER_BUILDKIT");
    bool is_classic = classic && (strcmp(classic, "0") == 0 || g_ascii_strcasecmp(classic, "false") == 0);

    *ret = to_stdout ? BUILD_FACE_PLAIN : BUILD_FACE_CLASSIC; /* the classic one is all on stdout */
    if (options_bool(options, "quiet", false) || (is_classic && !options_given(options, "progress")))
        return true;
    if (!given || !*given || strcmp(given, "auto") == 0) {
        if (is_terminal(STDERR_FILENO) && is_terminal(STDOUT_FILENO))
            *ret = BUILD_FACE_TTY;
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(faces); i++)
        if (strcmp(given, faces[i].name) == 0) {
            *ret = faces[i].face;
            if (*ret == BUILD_FACE_TTY && !is_terminal(STDERR_FILENO))
                return error_set(error, TARE_ERROR_INVALID, "failed to get console: provided file is not a console");
            return true;
        }
    return error_set(error, TARE_ERROR_INVALID, "invalid progress mode %s", given);
}
