/* A build from its first byte to its last message: context, plan, stages, steps, tags. */
#include "base/fd.h"
#include "base/identifier.h"
#include "base/parse.h"
#include "build/build-internal.h"

#include <string.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* ---- metadata and WORKDIR ---- */

static bool commit_metadata(struct build *build, const char *comment, GError **error)
{
    g_autoptr(json_t) cmd = build_nop_command(build, comment, true);
    g_autofree char *parent = g_strdup(build_parent_id(build)), *key = NULL, *container = NULL;
    bool hit;

    if (!cache_probe(build, cmd, NULL, &hit, error))
        return false;
    if (hit)
        return true;
    key = cache_key(build, cmd, NULL);
    return build_announce_container(build, cmd, &container, error) && build_add_image(build, cmd, NULL, container, error) &&
           cache_store(build, parent, key, error);
}

/* The layer that makes the directory; *ret_made false where it is there. */
static bool workdir_layer(struct build *build, struct layer_info *ret, bool *ret_made, GError **error)
{
    struct build_root root = { .fd = -1 };
    struct copy_layer_options options = { .chmod = -1, .epoch = build->epoch, .cancel = build->cancel };
    const char *path = json_get_string(build->state->metadata.config, "WorkingDir", "/");
    struct copy_layer *layer = NULL;
    struct layer_draft *draft = NULL;
    bool good = build_root_open(build, build->state->image, &root, error);

    if (good) {
        options.target_fd = root.fd;
        layer = copy_layer_new(&options);
        good = copy_layer_make_directory(layer, path, ret_made, error);
    }
    if (good && *ret_made) {
        good = layer_draft_new(build->builder->layers, &draft, error);
        if (good && !copy_layer_write(layer, layer_draft_writer(draft), error)) {
            layer_draft_discard(draft);
            good = false;
        }
        good = good && build_commit_draft(build, draft, ret, error);
    }
    copy_layer_free(layer);
    build_root_clear(&root);
    return good;
}

bool step_workdir(struct build *build, const char *comment, GError **error)
{
    g_autoptr(json_t) cmd = build_nop_command(build, comment, false);
    g_autofree char *parent = g_strdup(build_parent_id(build)), *key = NULL, *container = NULL;
    struct layer_info layer;
    bool hit, made = false;

    if (!cache_probe(build, cmd, NULL, &hit, error))
        return false;
    if (hit)
        return true;
    key = cache_key(build, cmd, NULL);
    return build_announce_container(build, cmd, &container, error) && workdir_layer(build, &layer, &made, error) &&
           build_add_image(build, cmd, made ? &layer : NULL, container, error) && cache_store(build, parent, key, error);
}

bool step_metadata(struct build *build, const struct build_step *step, GError **error)
{
    g_autofree char *comment = NULL, *note = NULL;

    if (!metadata_apply(&build->state->metadata, step, &comment, &note, error))
        return false;
    if (note)
        build_stream_text(&build->stream, "%s", note);
    return step->kind == STEP_WORKDIR ? step_workdir(build, comment, error) : commit_metadata(build, comment, error);
}

/* ---- one step ---- */

static bool step_execute(struct build *build, const struct build_step *step, GError **error)
{
    switch (step->kind) {
    case STEP_RUN:
        return step_run(build, step, error);
    case STEP_ADD:
    case STEP_COPY:
        return step_copy(build, step, error);
    default:
        return step_metadata(build, step, error);
    }
}

static void remove_containers(struct build *build, bool good)
{
    char digits[13];

    if (build->request->force_remove || (build->request->remove && good)) {
        for (guint i = 0; i < build->containers->len; i++) {
            const char *id = build->containers->pdata[i];
            g_autoptr(GError) error = NULL;

            if (*id == '-')
                id++;
            else if (!container_remove(build->builder->containers, id, true, true, false, &error) &&
                     !error_is(error, TARE_ERROR_NOT_FOUND)) {
                build_stream_text(&build->stream, "Error removing intermediate container %s: %s\n", short_id(id, digits),
                                  error->message);
                continue;
            }
            build_stream_text(&build->stream, "Removing intermediate container %s\n", short_id(id, digits));
        }
    }
    g_ptr_array_set_size(build->containers, 0);
}

static bool dispatch(struct build *build, const struct build_step *step, GError **error)
{
    struct metadata *metadata = &build->state->metadata;
    g_autoptr(GHashTable) variables = build_args_variables(metadata->args, json_get_array(metadata->config, "Env"));
    struct build_step *expanded;
    bool good;

    if (!cancel_check(build->cancel, error) ||
        (build->stream.broken && !error_set(error, TARE_ERROR_CANCELLED, "Build cancelled")))
        return false;
    if (!build_step_expand(step, variables, build->plan->escape, &expanded, error))
        return false;
    json_object_set_new(metadata->config, "Image", json_string(build_parent_id(build)));
    good = step_execute(build, expanded, error);
    build_step_free(expanded);
    remove_containers(build, good);
    return good;
}

static void print_step(struct build *build, const struct build_step *step)
{
    build_stream_text(&build->stream, "Step %u/%u : %s", ++build->step, build->n_steps, step->source);
    build_stream_text(&build->stream, "\n");
}

static void print_image(struct build *build)
{
    char digits[13];

    build_stream_text(&build->stream, " ---> %s\n", short_id(build->state->image ? build->state->image->id : NULL, digits));
}

/* ---- stages ---- */

static void state_free(struct build_state *state)
{
    if (!state)
        return;
    if (state->image)
        image_unref(state->image);
    json_decref(state->metadata.config);
    g_free(state->metadata.maintainer);
    g_free(state->stage_name);
    g_free(state);
}

static bool run_triggers(struct build *build, GError **error)
{
    json_t *config = build->state->metadata.config;
    g_auto(GStrv) triggers = json_string_array(json_get_array(config, "OnBuild"));
    guint n = triggers ? g_strv_length(triggers) : 0;

    if (n == 0)
        return true;
    json_object_set_new(config, "OnBuild", json_null());
    build_stream_text(&build->stream, "# Executing %u build trigger", n);
    if (n > 1)
        build_stream_text(&build->stream, "s");
    build_stream_text(&build->stream, "\n");
    for (guint i = 0; i < n; i++) {
        struct build_step *step;
        bool good;

        if (!build_step_parse(triggers[i], &step, error))
            return false;
        good = step->kind != STEP_FROM || error_set(error, TARE_ERROR_INVALID, "FROM isn't allowed as an ONBUILD trigger");
        good = good && dispatch(build, step, error);
        build_step_free(step);
        if (!good)
            return false;
    }
    return true;
}

static struct build_state *find_finished(const struct build *build, const char *name)
{
    for (guint i = 0; i < build->stages->len; i++) {
        struct build_state *stage = build->stages->pdata[i];

        if (stage->stage_name && g_ascii_strcasecmp(stage->stage_name, name) == 0)
            return stage;
    }
    return NULL;
}

static bool platform_is_valid(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, "/", 4);
    guint n = g_strv_length(parts);

    for (char **part = parts; *part; part++)
        if (!**part || strspn(*part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") != strlen(*part))
            return false;
    return n >= 1 && n <= 3;
}

static bool check_platform(const char *text, GError **error)
{
    if (text && *text && !platform_is_valid(text)) {
        g_autofree char *quoted = go_quote(text);

        return error_set(error, TARE_ERROR_INVALID, "%s: cannot parse platform specifier: invalid argument", quoted);
    }
    return true;
}

/* The base of a stage: *ret NULL for scratch. */
static bool find_base(struct build *build, const struct build_step *from, struct image **ret, GError **error)
{
    g_autoptr(GHashTable) variables = build_args_meta_variables(build->args);
    g_autofree char *name = NULL, *platform = NULL;
    const struct build_state *stage;

    if (from->platform) {
        platform = expand_word(from->platform, variables, build->plan->escape, error);
        if (!platform)
            return false;
        if (!check_platform(platform, error)) {
            g_prefix_error(error, "failed to parse platform %s: ", platform);
            return false;
        }
    }
    name = expand_word(from->args[0], variables, build->plan->escape, error);
    if (!name)
        return false;
    if (!*name)
        return error_set(error, TARE_ERROR_INVALID, "base name (%s) should not be blank", from->args[0]);
    stage = find_finished(build, name);
    if (stage || g_str_equal(name, "scratch")) {
        *ret = stage && stage->image ? image_ref(stage->image) : NULL;
        return true;
    }
    return build_find_image(build, name, ret, error);
}

static bool begin_stage(struct build *build, const struct build_stage *stage, GError **error)
{
    struct build_state *state = build->state;
    json_t *config;

    build_args_begin_stage(build->args);
    state->metadata.args = build->args;
    state->stage_name = g_strdup(stage->name);
    if (!find_base(build, stage->from, &state->image, error))
        return false;
    config = state->image ? json_deep_copy(image_run_config(state->image)) : json_object();
    state->metadata.config = config;
    json_object_set_new(config, "OpenStdin", json_false());
    json_object_set_new(config, "StdinOnce", json_false());
    if (!run_config_has_path(config)) {
        if (!json_get_array(config, "Env"))
            json_object_set_new(config, "Env", json_array());
        json_array_append_new(json_get_array(config, "Env"), json_string("PATH=" DEFAULT_PATH));
    }
    return run_triggers(build, error);
}

static bool run_stage(struct build *build, const struct build_stage *stage, GError **error)
{
    if (stage->name && find_finished(build, stage->name))
        return error_set(error, TARE_ERROR_INVALID, "%s stage name already used", stage->name);
    build->state = g_new0(struct build_state, 1);
    print_step(build, stage->from);
    if (!begin_stage(build, stage, error))
        return false;
    print_image(build);
    for (guint i = 0; i < stage->steps->len; i++) {
        print_step(build, stage->steps->pdata[i]);
        if (!dispatch(build, stage->steps->pdata[i], error))
            return false;
        print_image(build);
    }
    if (build->state->image)
        build_stream_aux(&build->stream, build->state->image->id);
    g_ptr_array_add(build->stages, g_steal_pointer(&build->state));
    return true;
}

static bool run_meta_args(struct build *build, GError **error)
{
    for (guint i = 0; i < build->plan->meta_args->len; i++) {
        const struct build_step *step = build->plan->meta_args->pdata[i];
        g_autoptr(GHashTable) variables = build_args_variables(build->args, NULL);
        struct build_step *expanded;

        print_step(build, step);
        if (!build_step_expand(step, variables, build->plan->escape, &expanded, error))
            return false;
        for (char **arg = expanded->args; *arg; arg++) {
            g_autofree char *name = g_strndup(*arg, strcspn(*arg, "="));

            build_args_declare_meta(build->args, name, strchr(*arg, '=') ? strchr(*arg, '=') + 1 : NULL);
        }
        build_step_free(expanded);
    }
    return true;
}

static bool run_plan(struct build *build, GError **error)
{
    g_auto(GStrv) unconsumed = NULL;
    const struct build_state *last;

    if (build->plan->warnings->len > 0) {
        g_autoptr(GString) text = g_string_new(NULL);

        for (guint i = 0; i < build->plan->warnings->len; i++)
            g_string_append_printf(text, "%s\n", (char *)build->plan->warnings->pdata[i]);
        build_stream_bytes(&build->stream, text->str, text->len, true);
    }
    build->n_steps = build_plan_count(build->plan);
    if (!run_meta_args(build, error))
        return false;
    for (guint i = 0; i < build->plan->stages->len; i++)
        if (!run_stage(build, build->plan->stages->pdata[i], error))
            return false;
    unconsumed = build_args_unconsumed(build->args);
    if (unconsumed[0]) {
        g_autofree char *list = go_list((const char *const *)unconsumed);

        build_stream_text(&build->stream, "[Warning] One or more build-args %s were not consumed\n", list);
    }
    last = build->stages->pdata[build->stages->len - 1];
    if (!last->image)
        return error_set(error, TARE_ERROR_INVALID, "No image was generated. Is your Dockerfile empty?");
    return true;
}

/* ---- before and after ---- */

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
    const struct build_context *context = &build->context;
    struct dockerfile *dockerfile;
    bool good;

    if (context->dockerfile_length == 0)
        return error_set(error, TARE_ERROR_INVALID, "the Dockerfile (%s) cannot be empty", context->dockerfile_name);
    if (!dockerfile_parse(context->dockerfile, context->dockerfile_length, &dockerfile, error)) {
        g_prefix_error(error, "failed to parse %s: ", context->dockerfile_name);
        return false;
    }
    good = build_plan_new(dockerfile, &build->plan, error);
    dockerfile_free(dockerfile);
    if (!good)
        return false;
    if (build->request->target && *build->request->target && !build_plan_select(build->plan, build->request->target, error))
        return false;
    build_plan_add_labels(build->plan, build->request->labels);
    return true;
}

static gint64 epoch_of(const struct build *build)
{
    const char *given = json_get_string(build->request->build_args, "SOURCE_DATE_EPOCH", NULL);
    gint64 seconds;

    return given && parse_int(given, 0, G_MAXINT32, &seconds) ? seconds : build->context.dockerfile_mtime;
}

static bool tag_image(struct build *build, const struct image *image, const GPtrArray *tags, GError **error)
{
    char digits[13];

    if (build->made_images && !cache_finish(build, image, error))
        return false;
    build_stream_text(&build->stream, "Successfully built %s\n", short_id(image->id, digits));
    for (guint i = 0; i < tags->len; i++) {
        if (!image_store_tag(build->builder->images, image, tags->pdata[i], error))
            return false;
        build_stream_text(&build->stream, "Successfully tagged %s\n", (char *)tags->pdata[i]);
    }
    if (build->stream.quiet)
        build_stream_quiet_result(&build->stream, image->id);
    return true;
}

static bool run_build(struct build *build, struct byte_source *context, char **ret_id, GError **error)
{
    g_autoptr(GPtrArray) tags = g_ptr_array_new_with_free_func(g_free);
    const struct image *image;

    if (!check_tags(build->request, tags, error) || !check_platform(build->request->platform, error))
        return false;
    if (build->request->squash)
        return error_set(error, TARE_ERROR_INVALID, "squash is only supported with experimental mode");
    if (!build_context_open(build->builder, context, build->request->dockerfile, build->holder, build->cancel, &build->context,
                            error) ||
        !make_plan(build, error))
        return false;
    build->epoch = epoch_of(build);
    if (!run_plan(build, error))
        return false;
    image = ((const struct build_state *)build->stages->pdata[build->stages->len - 1])->image;
    if (!tag_image(build, image, tags, error))
        return false;
    *ret_id = g_strdup(image->id);
    return true;
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
    build.stages = g_ptr_array_new_with_free_func((GDestroyNotify)state_free);
    build.containers = g_ptr_array_new_with_free_func(g_free);
    build_stream_init(&build.stream, output, request->quiet);
    good = run_build(&build, context, ret_id, &local);
    if (!good)
        build_stream_error(&build.stream, build.exit_code, local->message);
    state_free(build.state);
    g_ptr_array_unref(build.stages);
    g_ptr_array_unref(build.containers);
    build_plan_free(build.plan);
    build_args_free(build.args);
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
    *ret = builder;
    return true;
}

void builder_close(struct builder *builder)
{
    if (!builder)
        return;
    g_mutex_clear(&builder->layers_lock);
    g_cond_clear(&builder->layers_free);
    g_free(builder);
}
