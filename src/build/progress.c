/* A build as a graph of steps that begin, say something and end: {"id":"tare.build","aux":{"vertexes":[…],"logs":[…]}}, in the
 * form that BuildKit's clients print as raw JSON. For our own command; the classic stream knows nothing of it. */
#include "base/digest.h"
#include "base/timestamp.h"
#include "build/build-internal.h"

#include <string.h>

static void send(struct build_stream *stream, const char *member, json_t *object)
{
    build_stream_pass(stream, json_pack("{s:s, s:{s:[o]}}", "id", BUILD_PROGRESS_ID, "aux", member, object));
}

static json_t *vertex_object(const struct build_stream *stream)
{
    char started[TIMESTAMP_ROOM];

    timestamp_format(stream->vertex_started, started);
    return json_pack("{s:s, s:o, s:s}", "digest", stream->vertex, "name", json_string_lossy(stream->vertex_name), "started",
                     started);
}

void build_progress_begin(struct build_stream *stream, const char *name)
{
    g_autofree char *text = NULL;
    char digest[DIGEST_ROOM];

    if (!stream->progress)
        return;
    stream->vertex_started = timestamp_now();
    text = g_strdup_printf("%s %p %" G_GINT64_FORMAT, name, (void *)stream, stream->vertex_started);
    digest_of(text, strlen(text), digest);
    g_free(stream->vertex);
    g_free(stream->vertex_name);
    stream->vertex = g_strdup(digest);
    stream->vertex_name = g_strdelimit(g_strdup(name), "\n", ' ');
    send(stream, "vertexes", vertex_object(stream));
}

/* As BuildKit's status has it: the text is bytes. */
void build_progress_warn(struct build_stream *stream, const char *text, const char *url)
{
    g_autofree char *encoded = g_base64_encode((const guchar *)text, strlen(text));

    if (stream->progress)
        send(stream, "warnings",
             json_pack("{s:s, s:i, s:s, s:s}", "vertex", stream->vertex ? stream->vertex : "", "level", 1, "short", encoded,
                       "url", url));
}

void build_progress_log(struct build_stream *stream, const char *data, gsize length, bool is_stderr)
{
    g_autofree char *encoded = NULL;
    char now[TIMESTAMP_ROOM];

    if (!stream->vertex || length == 0)
        return;
    encoded = g_base64_encode((const guchar *)data, length);
    timestamp_format(timestamp_now(), now);
    send(stream, "logs",
         json_pack("{s:s, s:i, s:s, s:s}", "vertex", stream->vertex, "stream", is_stderr ? 2 : 1, "data", encoded, "timestamp",
                   now));
}

void build_progress_end(struct build_stream *stream, bool cached, const char *problem)
{
    json_t *object;
    char now[TIMESTAMP_ROOM];

    if (!stream->vertex)
        return;
    timestamp_format(timestamp_now(), now);
    object = vertex_object(stream);
    json_object_set_new(object, "completed", json_string(now));
    if (cached)
        json_object_set_new(object, "cached", json_true());
    if (problem)
        json_object_set_new(object, "error", json_string_lossy(problem));
    send(stream, "vertexes", object);
    g_clear_pointer(&stream->vertex, g_free);
}

/* ---- names: "[builder 2/5] RUN make" ---- */

static bool shows(enum step_kind kind)
{
    return kind == STEP_FROM || kind == STEP_RUN || kind == STEP_COPY || kind == STEP_ADD || kind == STEP_WORKDIR;
}

void build_progress_begin_step(struct build *build, const struct build_stage *stage, const struct build_step *step)
{
    guint n = 1, at = 1;
    g_autofree char *prefix = NULL, *name = NULL;

    if (!build->stream.progress || !shows(step->kind))
        return;
    for (guint i = 0; i < stage->steps->len; i++) {
        const struct build_step *other = stage->steps->pdata[i];

        n += shows(other->kind);
        if (other == step)
            at = n;
    }
    if (stage->name)
        prefix = g_strconcat(stage->name, " ", NULL);
    else if (build->plan->stages->len > 1)
        prefix = g_strdup_printf("stage-%u ", build->index);
    name = g_strdup_printf("[%s%u/%u] %s", prefix ? prefix : "", at, n, step->source);
    build->was_cached = false;
    build_progress_begin(&build->stream, name);
}
