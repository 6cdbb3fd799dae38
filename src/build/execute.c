/* A stage and its steps. */
#include "base/fd.h"
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
    struct copy_layer_options options = { .epoch = build->epoch, .cancel = build->cancel };
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
    return workdir_layer(build, &layer, &made, error) && build_announce_container(build, cmd, &container, error) &&
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

    if (build->request->tell_failed && !good && build->containers->len > 0 && *(const char *)build->containers->pdata[0] != '-' &&
        !cancel_is_set(build->cancel)) {
        json_t *failed = json_pack("{s:s}", "Container", build->containers->pdata[build->containers->len - 1]);

        build_stream_pass(&build->stream, json_pack("{s:{s:o}}", "aux", "Failed", failed));
        g_ptr_array_set_size(build->containers, 0);
        return;
    }
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

static bool dispatch_step(struct build *build, const struct build_step *step, GError **error)
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
    cache_end_flight(build);
    build->cache_extra = NULL;
    remove_containers(build, good);
    return good;
}

static bool dispatch(struct build *build, const struct build_step *step, GError **error)
{
    if (dispatch_step(build, step, error))
        return true;
    build_add_excerpt(build, step, error);
    return false;
}

void build_print_step(struct build *build, const struct build_step *step)
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

void build_state_free(struct build_state *state)
{
    if (!state)
        return;
    if (state->image)
        image_unref(state->image);
    if (state->base)
        image_unref(state->base);
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
        step->line = 0; /* it stands in no file */
        good = step->kind != STEP_FROM || error_set(error, TARE_ERROR_INVALID, "FROM isn't allowed as an ONBUILD trigger");
        good = good && dispatch(build, step, error);
        build_step_free(step);
        if (!good)
            return false;
    }
    return true;
}

bool build_find_stage(struct build *build, const char *name, const struct build_state **ret, GError **error)
{
    int found = build_plan_find_stage(build->plan, name, build->index);
    guint64 number;

    *ret = NULL;
    if (found >= 0)
        return build_stage_result(build, (guint)found, ret, error);
    if (!parse_uint(name, G_MAXINT32, &number))
        return true;
    if (number < build->index)
        return build_stage_result(build, (guint)number, ret, error);
    return error_set(error, TARE_ERROR_INVALID, number == build->index ? "refers to current build stage" : "index out of bounds");
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

bool build_check_platform(const char *text, GError **error)
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
    const struct build_state *stage = NULL;
    bool is_named;
    int found;

    if (from->platform) {
        platform = expand_word(from->platform, variables, build->plan->escape, error);
        if (!platform)
            return false;
        if (!build_check_platform(platform, error)) {
            g_prefix_error(error, "failed to parse platform %s: ", platform);
            return false;
        }
    }
    name = expand_word(from->args[0], variables, build->plan->escape, error);
    if (!name)
        return false;
    if (!*name)
        return error_set(error, TARE_ERROR_INVALID, "base name (%s) should not be blank", from->args[0]);
    if (!build_named_base(build, name, &is_named, ret, error) || is_named)
        return is_named && *ret;
    found = build_plan_find_stage(build->plan, name, build->index);
    if (found >= 0 && !build_stage_result(build, (guint)found, &stage, error))
        return false;
    if (stage || g_str_equal(name, "scratch")) {
        *ret = stage && stage->image ? image_ref(stage->image) : NULL;
        if (stage)
            build_args_inherit(build->args, stage->metadata.args);
        return true;
    }
    return build_find_image_for(build, name, platform ? platform : build->request->platform, ret, error);
}

static bool begin_stage(struct build *build, const struct build_stage *stage, GError **error)
{
    struct build_state *state = build->state;
    json_t *config;

    state->metadata.args = build->args;
    state->stage_name = g_strdup(stage->name);
    if (!find_base(build, stage->from, &state->image, error))
        return false;
    state->base = state->image ? image_ref(state->image) : NULL;
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

static void end_step(struct build *build, const GError *problem)
{
    build_progress_end(&build->stream, build->was_cached, problem ? problem->message : NULL);
}

bool build_run_stage(struct build *build, const struct build_stage *stage, guint index, GError **error)
{
    g_autoptr(GError) local = NULL;
    bool good;

    build->index = index;
    if (stage->name && build_plan_find_stage(build->plan, stage->name, index) >= 0)
        return error_set(error, TARE_ERROR_INVALID, "%s stage name already used", stage->name);
    build->state = g_new0(struct build_state, 1);
    build_print_step(build, stage->from);
    build_progress_begin_step(build, stage, stage->from);
    good = begin_stage(build, stage, &local);
    end_step(build, local);
    if (good)
        print_image(build);
    for (guint i = 0; good && i < stage->steps->len; i++) {
        build_print_step(build, stage->steps->pdata[i]);
        build_progress_begin_step(build, stage, stage->steps->pdata[i]);
        good = dispatch(build, stage->steps->pdata[i], &local);
        end_step(build, local);
        if (good)
            print_image(build);
    }
    if (!good) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (build->state->image)
        build_stream_aux(&build->stream, build->state->image->id);
    return true;
}
