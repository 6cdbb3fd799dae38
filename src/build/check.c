/* A Dockerfile's text → its plan, with the place of a mistake shown where the client wants it; and build --check. */
#include "base/identifier.h"
#include "base/root_path.h"
#include "build/build-internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

static void add_excerpt(const struct build_context *context, unsigned first, unsigned last, GError **error)
{
    g_autofree char *excerpt =
        dockerfile_excerpt(context->dockerfile, context->dockerfile_length, context->dockerfile_name, first, last);

    g_prefix_error(error, "%s", excerpt);
}

void build_add_excerpt(const struct build *build, const struct build_step *step, GError **error)
{
    if (build->request->excerpts && step->line > 0 && build->context.dockerfile && error && *error &&
        !error_is(*error, TARE_ERROR_CANCELLED))
        add_excerpt(&build->context, step->line, MAX(step->end, step->line), error);
}

static bool read_text(const struct build_context *context, const struct build_request *request, struct dockerfile **ret,
                      GError **error)
{
    struct dockerfile_lines lines;

    if (context->dockerfile_length == 0)
        return error_set(error, TARE_ERROR_INVALID, "the Dockerfile (%s) cannot be empty", context->dockerfile_name);
    if (dockerfile_parse_at(context->dockerfile, context->dockerfile_length, ret, &lines, error))
        return true;
    g_prefix_error(error, "failed to parse %s: ", context->dockerfile_name);
    if (request->excerpts && lines.first > 0)
        add_excerpt(context, lines.first, lines.last, error);
    return false;
}

/* The first instruction that is none. */
static void locate(const struct dockerfile *dockerfile, const struct build_context *context, GError **error)
{
    for (guint i = 0; i < dockerfile->instructions->len; i++) {
        const struct dockerfile_instruction *instruction = dockerfile->instructions->pdata[i];
        struct build_step *step;

        if (build_step_new(instruction, &step, NULL)) {
            build_step_free(step);
            continue;
        }
        add_excerpt(context, instruction->line, instruction->end, error);
        return;
    }
}

/* ---- what images set ---- */

static json_t *env_of_image(void *user, const char *name)
{
    const struct builder *builder = user;
    struct image *image = NULL;
    json_t *env;

    if (!*name || !image_store_get(builder->images, name, &image, NULL))
        return NULL;
    env = json_get_array(image_run_config(image), "Env");
    env = env ? json_deep_copy(env) : json_array();
    image_unref(image);
    return env;
}

static bool lint(struct builder *builder, const struct build_context *context, const struct build_request *request,
                 const struct dockerfile *dockerfile, struct lint_result *ret, GError **error)
{
    char *rules = NULL;
    struct lint_options options = { .build_args = request->build_args, .base_env = env_of_image, .user = builder };
    bool good;

    if (context->root_fd >= 0 && root_read_file(context->root_fd, ".dockerignore", 1 << 20, &rules) >= 0)
        options.dockerignore = rules;
    good = dockerfile_lint(dockerfile, &options, ret, error);
    free(rules);
    return good;
}

/* "# check=error=true": then no warning is let pass. */
static bool check_enforced(const struct build *build, const struct dockerfile *dockerfile, GError **error)
{
    g_autoptr(GString) names = g_string_new(NULL);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    struct lint_result result;
    bool good;

    if (!dockerfile->check)
        return true;
    if (!lint(build->builder, &build->context, build->request, dockerfile, &result, error))
        return false;
    for (guint i = 0; i < result.warnings->len; i++) {
        const struct lint_warning *warning = result.warnings->pdata[i];

        if (g_hash_table_add(seen, (gpointer)warning->rule))
            g_string_append_printf(names, "%s%s", names->len > 0 ? ", " : "", warning->rule);
    }
    good = !result.is_error || names->len == 0 ||
           error_set(error, TARE_ERROR_INVALID, "lint violation found for rules: %s", names->str);
    g_ptr_array_unref(result.warnings);
    return good;
}

/* What the rules say of it, for our own command's progress. */
static void tell_warnings(struct build *build, const struct dockerfile *dockerfile)
{
    struct lint_result result;

    if (!build->stream.progress || !lint(build->builder, &build->context, build->request, dockerfile, &result, NULL))
        return;
    for (guint i = 0; i < result.warnings->len; i++) {
        const struct lint_warning *warning = result.warnings->pdata[i];
        g_autofree char *text = g_strdup_printf("%s: %s (line %u)", warning->rule, warning->message, warning->line);

        build_progress_warn(&build->stream, text, warning->url);
    }
    g_ptr_array_unref(result.warnings);
}

bool build_read_plan(struct build *build, GError **error)
{
    struct dockerfile *dockerfile;
    bool good;

    if (!read_text(&build->context, build->request, &dockerfile, error))
        return false;
    good = build_plan_new(dockerfile, &build->plan, error);
    if (!good && build->request->excerpts)
        locate(dockerfile, &build->context, error);
    if (good)
        tell_warnings(build, dockerfile);
    good = good && check_enforced(build, dockerfile, error);
    dockerfile_free(dockerfile);
    return good;
}

/* ---- build --check ---- */

static json_t *describe(const struct lint_result *result, const struct build_context *context)
{
    g_autofree char *source = g_strndup(context->dockerfile, context->dockerfile_length);
    json_t *warnings = json_array();

    for (guint i = 0; i < result->warnings->len; i++) {
        const struct lint_warning *warning = result->warnings->pdata[i];

        json_array_append_new(warnings,
                              json_pack("{s:s, s:s, s:s, s:o, s:i, s:i}", "rule", warning->rule, "description",
                                        warning->description, "url", warning->url, "message", json_string_lossy(warning->message),
                                        "line", (int)warning->line, "end", (int)warning->end));
    }
    return json_pack("{s:o, s:o, s:b, s:o}", "dockerfile", json_string_lossy(context->dockerfile_name), "source",
                     json_string_lossy(source), "error", result->is_error, "warnings", warnings);
}

static bool check_context(struct builder *builder, const struct build_context *context, const struct build_request *request,
                          json_t **ret, GError **error)
{
    struct dockerfile *dockerfile;
    struct lint_result result;
    struct build_plan *plan;

    if (!read_text(context, request, &dockerfile, error))
        return false;
    if (!build_plan_new(dockerfile, &plan, error)) {
        if (request->excerpts)
            locate(dockerfile, context, error);
        dockerfile_free(dockerfile);
        return false;
    }
    build_plan_free(plan);
    if (!lint(builder, context, request, dockerfile, &result, error)) {
        dockerfile_free(dockerfile);
        return false;
    }
    *ret = describe(&result, context);
    g_ptr_array_unref(result.warnings);
    dockerfile_free(dockerfile);
    return true;
}

bool builder_check(struct builder *builder, struct byte_source *source, const struct build_request *request,
                   struct cancel *cancel, json_t **ret, GError **error)
{
    char id[IDENTIFIER_LENGTH + 1];
    struct build_context context = { .root_fd = -1 };
    g_autofree char *holder = NULL;
    bool good;

    identifier_new(id);
    holder = g_strconcat("build/", id, NULL);
    good = build_context_open(builder, source, request, holder, cancel, &context, error);
    if (good) {
        good = check_context(builder, &context, request, ret, error);
        build_context_clear(&context);
    }
    builder_release(builder, holder);
    return good;
}
