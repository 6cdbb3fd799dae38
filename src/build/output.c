/* The classic builder's stream: {"stream":…}, {"aux":…}, {"errorDetail":…}, cut into messages as dockerd cuts them. */
#include "build/build-internal.h"

#include <string.h>

#define QUIET_KEPT_MAX (16u << 20) /* of a quiet build's output; what is older is dropped */

void build_stream_init(struct build_stream *stream, const struct build_output *output, bool quiet)
{
    *stream = (struct build_stream){ .output = output, .quiet = quiet };
    g_queue_init(&stream->pending);
}

void build_stream_clear(struct build_stream *stream)
{
    g_free(stream->vertex);
    g_free(stream->vertex_name);
    g_queue_clear_full(&stream->pending, (GDestroyNotify)json_decref);
}

static void send_now(struct build_stream *stream, const json_t *message)
{
    stream->sent = true;
    if (!stream->broken && !stream->output->message(stream->output->user, message))
        stream->broken = true;
}

/* Takes the message. size: about what it occupies. */
static void emit(struct build_stream *stream, json_t *message, gsize size)
{
    if (!stream->quiet) {
        send_now(stream, message);
        json_decref(message);
        return;
    }
    g_queue_push_tail(&stream->pending, message);
    stream->pending_bytes += size;
    while (stream->pending_bytes > QUIET_KEPT_MAX && stream->pending.length > 1) {
        json_t *oldest = g_queue_pop_head(&stream->pending);
        const char *text = json_get_string(oldest, "stream", "");

        stream->pending_bytes -= MIN(stream->pending_bytes, strlen(text));
        json_decref(oldest);
    }
}

void build_stream_pass(struct build_stream *stream, json_t *message)
{
    emit(stream, message, strlen(json_get_string(message, "stream", "")));
}

static void emit_text(struct build_stream *stream, const char *text)
{
    if (stream->progress)
        return;
    emit(stream, json_pack("{s:o}", "stream", json_string_lossy(text)), strlen(text));
}

void build_stream_text(struct build_stream *stream, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list arguments;

    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    emit_text(stream, text);
}

void build_stream_bytes(struct build_stream *stream, const char *data, gsize length, bool is_stderr)
{
    if (stream->progress) {
        build_progress_log(stream, data, length, is_stderr);
        return;
    }
    g_autoptr(GString) text = g_string_new(is_stderr ? "\x1b[91m" : NULL);

    /* JSON has no NUL in our strings; a terminal shows nothing for it either. */
    for (gsize i = 0; i < length; i++)
        if (data[i])
            g_string_append_c(text, data[i]);
    if (is_stderr)
        g_string_append(text, "\x1b[0m");
    emit_text(stream, text->str);
}

void build_stream_aux(struct build_stream *stream, const char *image_id)
{
    emit(stream, json_pack("{s:{s:s}}", "aux", "ID", image_id), strlen(image_id));
}

void build_stream_quiet_result(struct build_stream *stream, const char *image_id)
{
    g_autofree char *line = g_strconcat(image_id, "\n", NULL);
    g_autoptr(json_t) message = json_pack("{s:s}", "stream", line);

    send_now(stream, message);
}

void build_stream_error(struct build_stream *stream, int code, const char *message)
{
    g_autoptr(json_t) text = json_string_lossy(message);
    g_autoptr(json_t) object = json_object();
    json_t *detail = json_object();
    json_t *kept;

    while ((kept = g_queue_pop_head(&stream->pending))) {
        send_now(stream, kept);
        json_decref(kept);
    }
    if (code)
        json_object_set_new(detail, "code", json_integer(code));
    json_object_set(detail, "message", text);
    json_object_set_new(object, "errorDetail", detail);
    json_object_set(object, "error", text);
    if (stream->sent)
        send_now(stream, object);
}

const char *short_id(const char *id, char buffer[13])
{
    if (!id)
        return "";
    if (g_str_has_prefix(id, "sha256:"))
        id += strlen("sha256:");
    g_strlcpy(buffer, id, 13);
    return buffer;
}
