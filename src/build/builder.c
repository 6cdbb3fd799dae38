/* A build from its first byte to its last message: context, plan, stages, tags. */
#include "base/fd.h"
#include "base/file.h"
#include "base/identifier.h"
#include "base/parse.h"
#include "build/build-internal.h"

#include <fcntl.h>
#include <string.h>

/* Tags in the form that "Successfully tagged" shows, each once. */
static bool check_tags(const struct build_request *request, GPtrArray *tags, GError **error)
{
    for (const char *const *tag = request->tags; tag && *tag; tag++) {
        g_autofree char *familiar = NULL;
        struct reference reference;
        bool has_digest;

        if (!**tag)
            continue;
        if (!reference_parse(*tag, &reference, error))
            return false;
        has_digest = reference.digest != NULL;
        reference_default_tag(&reference);
        familiar = reference_familiar(&reference);
        reference_clear(&reference);
        if (has_digest)
            return error_set(error, TARE_ERROR_INVALID, "build tag cannot contain a digest");
        if (!g_ptr_array_find_with_equal_func(tags, familiar, g_str_equal, NULL))
            g_ptr_array_add(tags, g_steal_pointer(&familiar));
    }
    return true;
}

static bool make_plan(struct build *build, GError **error)
{
    if (!build_read_plan(build, error))
        return false;
    if (build->request->target && *build->request->target && !build_plan_select(build->plan, build->request->target, error))
        return false;
    build_plan_add_labels(build->plan, build->request->labels);
    build->plan->platform = g_strdup(build->request->platform);
    build->plan->target = g_strdup(build->request->target);
    build_args_predefine(build->args, build->request->platform, build->request->target);
    return true;
}

/* ---- the run ---- */

static bool run_meta_args(struct build *build, GError **error)
{
    for (guint i = 0; i < build->plan->meta_args->len; i++) {
        const struct build_step *step = build->plan->meta_args->pdata[i];

        build_print_step(build, step);
        if (!build_args_declare_step(build->args, step, build->plan->escape, error))
            return false;
    }
    return true;
}

static bool run_plan(struct build *build, struct build_graph *graph, GError **error)
{
    g_auto(GStrv) unconsumed = NULL;

    if (build->plan->warnings->len > 0) {
        g_autoptr(GString) text = g_string_new(NULL);

        for (guint i = 0; i < build->plan->warnings->len; i++)
            g_string_append_printf(text, "%s\n", (char *)build->plan->warnings->pdata[i]);
        build_stream_bytes(&build->stream, text->str, text->len, true);
    }
    build->n_steps = build_graph_count(graph, build->plan);
    cache_fetch_sources(build);
    if (!run_meta_args(build, error) || !build_run_stages(build, graph, error))
        return false;
    unconsumed = build_args_unconsumed(build->args);
    if (unconsumed[0]) {
        g_autofree char *list = go_list((const char *const *)unconsumed);

        build_stream_text(&build->stream, "[Warning] One or more build-args %s were not consumed\n", list);
    }
    if (!build->state->image)
        return error_set(error, TARE_ERROR_INVALID, "No image was generated. Is your Dockerfile empty?");
    return true;
}

static gint64 epoch_of(const struct build *build)
{
    const char *given = json_get_string(build->request->build_args, "SOURCE_DATE_EPOCH", NULL);
    gint64 seconds;

    return given && parse_int(given, 0, G_MAXINT32, &seconds) ? seconds : build->context.dockerfile_mtime;
}

static void progress_line(struct build *build, const char *what, const char *name)
{
    g_autofree char *line = g_strconcat(what, name, " done\n", NULL);

    build_progress_log(&build->stream, line, strlen(line), false);
}

static bool tag_image(struct build *build, const GPtrArray *tags, GError **error)
{
    const struct image *image;
    char digits[13];

    build_progress_begin(&build->stream, "exporting to image");
    if (build->request->squash && !build_squash(build, error))
        return false;
    image = build->state->image;
    if (build->made_images && !cache_finish(build, image, error))
        return false;
    build_stream_text(&build->stream, "Successfully built %s\n", short_id(image->id, digits));
    progress_line(build, "writing image ", image->id);
    for (guint i = 0; i < tags->len; i++) {
        if (!image_store_tag(build->builder->images, image, tags->pdata[i], error))
            return false;
        build_stream_text(&build->stream, "Successfully tagged %s\n", (char *)tags->pdata[i]);
        progress_line(build, "naming to ", tags->pdata[i]);
    }
    build_progress_end(&build->stream, false, NULL);
    if (build->stream.progress) /* those of the stages came in any order */
        build_stream_aux(&build->stream, image->id);
    if (build->stream.quiet)
        build_stream_quiet_result(&build->stream, image->id);
    return true;
}

static bool run_build(struct build *build, struct byte_source *context, char **ret_id, GError **error)
{
    g_autoptr(GPtrArray) tags = g_ptr_array_new_with_free_func(g_free);
    struct build_graph *graph;
    bool good;

    if (!check_tags(build->request, tags, error) || !build_check_platform(build->request->platform, error))
        return false;
    build_progress_begin(&build->stream, "[internal] load build context");
    if (!build_context_open(build->builder, context, build->request, build->holder, build->cancel, &build->context, error) ||
        !make_plan(build, error))
        return false;
    build_progress_end(&build->stream, false, NULL);
    build->epoch = epoch_of(build);
    graph = build_graph_new(build->plan, build->request->build_args);
    good = run_plan(build, graph, error) && tag_image(build, tags, error);
    build_graph_free(graph);
    if (good)
        *ret_id = g_strdup(build->state->image->id);
    return good;
}

bool builder_run(struct builder *builder, struct byte_source *context, const struct build_request *request,
                 const struct build_output *output, struct cancel *cancel, char **ret_id, GError **error)
{
    char id[IDENTIFIER_LENGTH + 1];
    struct build build = { .builder = builder, .request = request, .cancel = cancel, .context.root_fd = -1 };
    g_autoptr(GError) local = NULL;
    bool good;

    identifier_new(id);
    build.holder = g_strconcat("build/", id, NULL);
    build.args = build_args_new(request->build_args);
    build.containers = g_ptr_array_new_with_free_func(g_free);
    build_stream_init(&build.stream, output, request->quiet);
    build.stream.progress = request->progress;
    build.named = build_named_new();
    good = run_build(&build, context, ret_id, &local);
    if (!good)
        build_stream_error(&build.stream, build.exit_code, local->message);
    build_state_free(build.state);
    g_ptr_array_unref(build.containers);
    build_plan_free(build.plan);
    build_args_free(build.args);
    build_named_free(build.named);
    context_store_finish(builder, &build.context);
    build_context_clear(&build.context);
    build_stream_clear(&build.stream);
    /* Nothing is mounted any more: the context's layer, and what no image took, goes. */
    builder_release(builder, build.holder);
    g_free(build.holder);
    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    return good;
}

bool builder_open(const struct builder_options *options, struct builder **ret, GError **error)
{
    struct builder *builder;

    if (!cache_migrate(options->database, error))
        return false;
    builder = g_new0(struct builder, 1);
    builder->database = options->database;
    builder->layers = options->layers;
    builder->images = options->images;
    builder->containers = options->containers;
    builder->pull = options->pull;
    builder->pull_user = options->pull_user;
    g_mutex_init(&builder->layers_lock);
    g_cond_init(&builder->layers_free);
    g_mutex_init(&builder->flights_lock);
    g_mutex_init(&builder->contexts_lock);
    builder->uploads = g_hash_table_new(g_str_hash, g_str_equal);
    builder->flights = g_hash_table_new(g_str_hash, g_str_equal);
    builder->download = options->download;
    builder->download_user = options->download_user;
    secrets_open(builder);
    g_mutex_init(&builder->caches_lock);
    g_cond_init(&builder->caches_changed);
    if (options->directory && !builder_open_directory(builder, options->directory, error)) {
        builder_close(builder);
        return false;
    }
    *ret = builder;
    return true;
}

void builder_close(struct builder *builder)
{
    if (!builder)
        return;
    g_mutex_clear(&builder->layers_lock);
    g_cond_clear(&builder->layers_free);
    g_mutex_clear(&builder->flights_lock);
    context_store_close(builder);
    g_hash_table_unref(builder->flights);
    builder_close_directory(builder);
    secrets_close(builder);
    g_mutex_clear(&builder->caches_lock);
    g_cond_clear(&builder->caches_changed);
    g_free(builder);
}
