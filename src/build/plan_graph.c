/* The graph of a plan's stages: which needs which, and what the target needs at all. Pure. */
#include "base/parse.h"
#include "build/build-internal.h"

#include <string.h>

int build_plan_find_stage(const struct build_plan *plan, const char *name, guint before)
{
    for (guint i = 0; i < MIN(before, plan->stages->len); i++) {
        const struct build_stage *stage = plan->stages->pdata[i];

        if (stage->name && g_ascii_strcasecmp(stage->name, name) == 0)
            return (int)i;
    }
    return -1;
}

/* What a step reads from: a stage's name, or its number. */
static int find_source(const struct build_plan *plan, const char *name, guint before)
{
    int found = build_plan_find_stage(plan, name, before);
    guint64 number;

    if (found >= 0)
        return found;
    return parse_uint(name, G_MAXINT32, &number) && number < before ? (int)number : -1;
}

static void add_need(struct build_node *node, int stage)
{
    guint number = (guint)stage;

    if (stage < 0)
        return;
    for (guint i = 0; i < node->needs->len; i++)
        if (g_array_index(node->needs, guint, i) == number)
            return;
    g_array_append_val(node->needs, number);
}

/* The values that FROM may use. What cannot be expanded fails where it is executed, with its place in the stream. */
static GHashTable *meta_variables(const struct build_plan *plan, const json_t *given)
{
    struct build_args *args = build_args_new(given);
    GHashTable *variables;

    build_args_predefine(args, plan->platform, plan->target);
    build_args_declare_all_meta(args, plan, NULL);
    variables = build_args_meta_variables(args);
    build_args_free(args);
    return variables;
}

static void connect(const struct build_plan *plan, GHashTable *variables, guint index, struct build_node *node)
{
    const struct build_stage *stage = plan->stages->pdata[index];
    g_autofree char *base = expand_word(stage->from->args[0], variables, plan->escape, NULL);

    node->needs = g_array_new(FALSE, FALSE, sizeof(guint));
    node->base = base ? build_plan_find_stage(plan, base, index) : -1;
    add_need(node, node->base);
    /* The second stage of one name fails, after the first was built, as everybody knows it. */
    add_need(node, stage->name ? build_plan_find_stage(plan, stage->name, index) : -1);
    for (guint i = 0; i < stage->steps->len; i++) {
        const struct build_step *step = stage->steps->pdata[i];

        if (step->from)
            add_need(node, find_source(plan, step->from, index));
        for (char **mount = step->mounts; mount && *mount; mount++) {
            g_autofree char *from = run_mount_from(*mount);

            if (from)
                add_need(node, find_source(plan, from, index));
        }
    }
}

void build_graph_need(struct build_graph *graph, guint stage)
{
    graph->nodes[stage].needed = true;
    /* A stage needs earlier ones only, so one pass downwards marks them all. */
    for (guint i = stage + 1; i-- > 0;) {
        const struct build_node *node = &graph->nodes[i];

        for (guint j = 0; node->needed && j < node->needs->len; j++)
            graph->nodes[g_array_index(node->needs, guint, j)].needed = true;
    }
}

struct build_graph *build_graph_new(const struct build_plan *plan, const json_t *given)
{
    struct build_graph *graph = g_new0(struct build_graph, 1);
    g_autoptr(GHashTable) variables = meta_variables(plan, given);

    graph->n = plan->stages->len;
    graph->nodes = g_new0(struct build_node, graph->n);
    for (guint i = 0; i < graph->n; i++)
        connect(plan, variables, i, &graph->nodes[i]);
    build_graph_need(graph, graph->n - 1);
    return graph;
}

void build_graph_free(struct build_graph *graph)
{
    if (!graph)
        return;
    for (guint i = 0; i < graph->n; i++)
        g_array_unref(graph->nodes[i].needs);
    g_free(graph->nodes);
    g_free(graph);
}

unsigned build_graph_count(const struct build_graph *graph, const struct build_plan *plan)
{
    unsigned count = plan->meta_args->len;

    for (guint i = 0; i < graph->n; i++)
        if (graph->nodes[i].needed)
            count += 1 + ((const struct build_stage *)plan->stages->pdata[i])->steps->len;
    return count;
}

char *build_graph_text(const struct build_graph *graph, const struct build_plan *plan)
{
    GString *out = g_string_new(NULL);

    for (guint i = 0; i < graph->n; i++) {
        const struct build_stage *stage = plan->stages->pdata[i];
        const struct build_node *node = &graph->nodes[i];

        g_string_append_printf(out, "%u %s: %s, %u steps", i, stage->name ? stage->name : "-",
                               node->needed ? "built" : "not needed", stage->steps->len);
        for (guint j = 0; j < node->needs->len; j++)
            g_string_append_printf(out, "%s%u", j ? ", " : ", after ", g_array_index(node->needs, guint, j));
        g_string_append(out, "\n");
    }
    return g_string_free(out, FALSE);
}
