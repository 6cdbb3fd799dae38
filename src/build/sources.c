/* What of a client's directory a build can use, so that the rest is not sent: the sources of COPY, ADD and bind mounts in the
 * stages that the target needs. What cannot be said before the build makes it all of it. */
#include "base/git.h"
#include "build/build-internal.h"

#include <string.h>

struct sources {
    struct builder *builder;
    const struct build_request *request;
    const struct build_plan *plan;
    json_t *patterns;
    bool all;
};

static void add_pattern(struct sources *sources, const char *text)
{
    g_autofree char *clean = go_join_path("", text);

    /* The build's variables and escapes are not known here; "!" would mean the opposite in a list of rules. */
    if (strpbrk(text, "$\\") || clean[1] == '!' || !clean[1])
        sources->all = true;
    else
        json_array_append_new(sources->patterns, json_string_lossy(clean + 1));
}

/* Has RUN --mount a source in the context? Its text is as it stands in the file. */
static void add_mount(struct sources *sources, const char *text)
{
    g_auto(GStrv) fields = g_strsplit(text, ",", -1);
    const char *type = "bind", *source = ".";

    for (char **field = fields; *field; field++) {
        char *equals = strchr(*field, '=');

        if (!equals)
            continue;
        *equals = '\0';
        if (strcmp(*field, "from") == 0)
            return;
        if (strcmp(*field, "type") == 0)
            type = equals + 1;
        else if (strcmp(*field, "source") == 0 || strcmp(*field, "src") == 0)
            source = equals + 1;
    }
    if (strchr(text, '"'))
        sources->all = true;
    else if (strcmp(type, "bind") == 0 || strchr(type, '$'))
        add_pattern(sources, source);
}

static void add_step(struct sources *sources, const struct build_step *step)
{
    char **last = step->args ? step->args + g_strv_length(step->args) : NULL;

    for (char **mount = step->mounts; mount && *mount; mount++)
        add_mount(sources, *mount);
    if ((step->kind != STEP_COPY && step->kind != STEP_ADD) || step->from)
        return;
    for (char **arg = step->args; arg + 1 < last; arg++)
        if (!heredoc_find(step->heredocs, *arg) && !copy_is_url(*arg) && !git_is_source(*arg))
            add_pattern(sources, *arg);
}

/* ONBUILD of a base. A trigger that names a stage may make one needed that the plan leaves out. */
static void add_trigger(struct sources *sources, const char *text)
{
    struct build_step *step;

    if (!build_step_parse(text, &step, NULL)) {
        sources->all = true;
        return;
    }
    if (step->from || step->mounts)
        sources->all = true;
    add_step(sources, step);
    build_step_free(step);
}

static void add_base(struct sources *sources, GHashTable *variables, const struct build_stage *stage)
{
    g_autofree char *name = expand_word(stage->from->args[0], variables, sources->plan->escape, NULL);
    const char *named = name ? json_get_string(sources->request->contexts, name, NULL) : NULL;
    g_autoimage struct image *image = NULL;

    if (name && (strcmp(name, "scratch") == 0 || (named && g_str_has_prefix(named, "upload:"))))
        return;
    if (!name || named || sources->request->pull || !image_store_get(sources->builder->images, name, &image, NULL)) {
        sources->all = true; /* nobody knows its triggers yet */
        return;
    }
    g_auto(GStrv) triggers = json_string_array(json_get_array(image_run_config(image), "OnBuild"));

    for (char **trigger = triggers; trigger && *trigger; trigger++)
        add_trigger(sources, *trigger);
}

static void add_stages(struct sources *sources, const struct build_graph *graph, GHashTable *variables)
{
    for (guint i = 0; i < graph->n && !sources->all; i++) {
        const struct build_stage *stage = sources->plan->stages->pdata[i];

        if (!graph->nodes[i].needed)
            continue;
        if (graph->nodes[i].base < 0)
            add_base(sources, variables, stage);
        for (guint j = 0; j < stage->steps->len; j++)
            add_step(sources, stage->steps->pdata[j]);
    }
}

static struct build_plan *read_plan(const struct build_request *request, const char *text, gsize length)
{
    struct dockerfile *dockerfile;
    struct build_plan *plan;
    bool good;

    if (!dockerfile_parse(text, length, &dockerfile, NULL))
        return NULL;
    good = build_plan_new(dockerfile, &plan, NULL);
    dockerfile_free(dockerfile);
    if (!good)
        return NULL;
    plan->platform = g_strdup(request->platform);
    plan->target = g_strdup(request->target);
    if (!request->target || !*request->target || build_plan_select(plan, request->target, NULL))
        return plan;
    build_plan_free(plan);
    return NULL;
}

json_t *builder_plan_sources(struct builder *builder, const struct build_request *request, const char *text, gsize length)
{
    struct build_plan *plan = length <= DOCKERFILE_MAX ? read_plan(request, text, length) : NULL;
    struct sources sources = { .builder = builder, .request = request, .plan = plan, .patterns = json_array(), .all = !plan };

    if (plan) {
        struct build_graph *graph = build_graph_new(plan, request->build_args);
        struct build_args *args = build_args_new(request->build_args);
        g_autoptr(GHashTable) variables = NULL;

        build_args_predefine(args, plan->platform, plan->target);
        build_args_declare_all_meta(args, plan, NULL);
        variables = build_args_meta_variables(args);
        add_stages(&sources, graph, variables);
        build_args_free(args);
        build_graph_free(graph);
        build_plan_free(plan);
    }
    return json_pack("{s:b, s:o}", "All", sources.all, "Patterns", sources.patterns);
}
