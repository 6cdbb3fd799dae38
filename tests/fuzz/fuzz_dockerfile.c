/* Any bytes as a Dockerfile: lexed, parsed, linted, planned, expanded. */
#include "build/build-internal.h"

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size);
int LLVMFuzzerTestOneInput(const guint8 *data, size_t size)
{
    g_autoptr(GHashTable) variables = g_hash_table_new(g_str_hash, g_str_equal);
    struct lint_options options = { .dockerignore = "a\n" };
    struct lint_result lint;
    struct dockerfile *dockerfile;
    struct build_plan *plan;

    g_hash_table_insert(variables, (char *)"x", (char *)"a b");
    if (!dockerfile_parse((const char *)data, size, &dockerfile, NULL))
        return 0;
    if (dockerfile_lint(dockerfile, &options, &lint, NULL))
        g_ptr_array_unref(lint.warnings);
    if (build_plan_new(dockerfile, &plan, NULL)) {
        const GPtrArray *steps = ((const struct build_stage *)plan->stages->pdata[0])->steps;
        struct build_step *step;

        for (guint i = 0; i < steps->len; i++)
            if (build_step_expand(steps->pdata[i], variables, plan->escape, &step, NULL))
                build_step_free(step);
        build_plan_free(plan);
    }
    dockerfile_free(dockerfile);
    return 0;
}
