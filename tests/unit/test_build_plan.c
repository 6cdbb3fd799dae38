/* Dockerfile → plan: every data/build/NAME.dockerfile against NAME.plan, and the texts of refusals. */
#include "base/file.h"
#include "build/build-internal.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void dump_step(GString *out, const struct build_step *step)
{
    g_autofree char *args = go_quote_list((const char *const *)step->args);

    g_string_append_printf(out, "  %u %s %s%s", step->line, step_kind_name(step->kind), step->is_json ? "json " : "", args);
    if (step->chown)
        g_string_append_printf(out, " chown=%s", step->chown);
    if (step->chmod)
        g_string_append_printf(out, " chmod=%s", step->chmod);
    if (step->from)
        g_string_append_printf(out, " from=%s", step->from);
    if (step->platform)
        g_string_append_printf(out, " platform=%s", step->platform);
    if (step->checksum)
        g_string_append_printf(out, " checksum=%s", step->checksum);
    if (step->network)
        g_string_append_printf(out, " network=%s", step->network);
    if (step->security)
        g_string_append_printf(out, " security=%s", step->security);
    for (char **mount = step->mounts; mount && *mount; mount++)
        g_string_append_printf(out, " mount=%s", *mount);
    for (char **exclude = step->excludes; exclude && *exclude; exclude++)
        g_string_append_printf(out, " exclude=%s", *exclude);
    g_string_append_printf(out, "%s%s%s%s", step->link ? " link" : "", step->parents ? " parents" : "",
                           step->keep_git_dir ? " keep-git-dir" : "",
                           step->unpack == 1   ? " unpack"
                           : step->unpack == 0 ? " no-unpack"
                                               : "");
    for (guint i = 0; i < step->heredocs->len; i++) {
        const struct dockerfile_heredoc *heredoc = step->heredocs->pdata[i];
        g_autofree char *content = go_quote(heredoc->content);

        g_string_append_printf(out, " %s%s=%s", heredoc->is_expanded ? "<<" : "<<=", heredoc->name, content);
    }
    if (step->health) {
        g_autofree char *health = json_text(step->health);

        g_string_append_printf(out, " health=%s", health);
    }
    g_string_append_printf(out, " | %s\n", step->source);
}

static char *dump_plan(const struct build_plan *plan)
{
    GString *out = g_string_new(NULL);

    g_string_append_printf(out, "%u steps\n", build_plan_count(plan));
    for (guint i = 0; i < plan->meta_args->len; i++)
        dump_step(out, plan->meta_args->pdata[i]);
    for (guint i = 0; i < plan->stages->len; i++) {
        const struct build_stage *stage = plan->stages->pdata[i];

        g_string_append_printf(out, "stage %s\n", stage->name ? stage->name : "-");
        dump_step(out, stage->from);
        for (guint j = 0; j < stage->steps->len; j++)
            dump_step(out, stage->steps->pdata[j]);
    }
    return g_string_free(out, FALSE);
}

static struct build_plan *plan_of(const char *text, GError **error)
{
    struct dockerfile *dockerfile;
    struct build_plan *plan = NULL;

    if (!dockerfile_parse(text, strlen(text), &dockerfile, error))
        return NULL;
    if (!build_plan_new(dockerfile, &plan, error))
        plan = NULL;
    dockerfile_free(dockerfile);
    return plan;
}

static void test_goldens(void **state)
{
    static const char *const names[] = { "metadata", "stages", "frontend" };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *input = g_strdup_printf(TEST_DATA "/build/%s.dockerfile", names[i]);
        g_autofree char *golden = g_strdup_printf(TEST_DATA "/build/%s.plan", names[i]);
        g_autofree char *text = NULL, *expected = NULL, *got = NULL;
        g_autoptr(GError) error = NULL;
        struct build_plan *plan;

        assert_true(file_read(AT_FDCWD, input, 1 << 20, &text, NULL, NULL));
        assert_true(file_read(AT_FDCWD, golden, 1 << 20, &expected, NULL, NULL));
        plan = plan_of(text, &error);
        assert_non_null(plan);
        got = dump_plan(plan);
        if (g_getenv("TARE_WRITE_GOLDENS")) /* to be looked at before it is committed */
            assert_true(g_file_set_contents(golden, got, -1, NULL));
        else
            assert_string_equal(got, expected);
        build_plan_free(plan);
    }
}

/* All as dockerd 20.10 answers. */
static const struct {
    const char *text, *message;
} refusals[] = {
    { "FROM b\n\nFOO bar\n", "dockerfile parse error line 3: unknown instruction: FOO" },
    { "RUN x\n", "no build stage in current context" },
    { "ARG x\nRUN y\n", "no build stage in current context" },
    { "ARG x=1\n", "no build stage in current context" },
    { "FROM b\nCOPY --foo=1 a b\n", "dockerfile parse error line 2: Unknown flag: foo" },
    { "FROM b\nRUN --foo=1 a b\n", "dockerfile parse error line 2: Unknown flag: foo" },
    { "FROM b\nCOPY --checksum=x a b\n", "dockerfile parse error line 2: Unknown flag: checksum" },
    { "FROM b\nCOPY --link --link a b\n", "dockerfile parse error line 2: Duplicate flag specified: link" },
    { "FROM b\nCOPY --link=maybe a b\n", "dockerfile parse error line 2: Expecting boolean value for flag link, not: maybe" },
    { "FROM b\nADD --keep-git-dir= a b\n", "dockerfile parse error line 2: Missing a value on flag: keep-git-dir" },
    { "FROM b\nCOPY a <<EOF\nEOF\n", "dockerfile parse error line 2: COPY cannot accept a heredoc as a destination" },
    { "FROM b\nRUN --network=other x\n", "dockerfile parse error line 2: invalid network mode \"other\"" },
    { "FROM b\nRUN --security=all x\n", "dockerfile parse error line 2: security \"all\" is not valid" },
    { "FROM b\nRUN --device=vendor/gpu x\n", "dockerfile parse error line 2: RUN --device=vendor/gpu: devices of the host are "
                                             "not given to builds by this engine; use run "
                                             "--device" },
    { "FROM b\nRUN --mount=from=$x,target=/a x\n",
      "dockerfile parse error line 2: 'from' doesn't support variable expansion, define alias stage instead" },
    { "FROM b\nRUN --mount=\\\"x y\n", "dockerfile parse error line 2: failed to parse csv mounts: a quote that is not closed" },
    { "FROM b\nCOPY --chown=1 --chown=2 a b\n", "dockerfile parse error line 2: Duplicate flag specified: chown" },
    { "FROM b\nCOPY --chown a b\n", "dockerfile parse error line 2: Missing a value on flag: chown" },
    { "FROM --platform b\n", "dockerfile parse error line 1: Missing a value on flag: platform" },
    { "FROM b\nARG\n", "dockerfile parse error line 2: ARG requires at least one argument" },
    { "FROM b\nENV\n", "dockerfile parse error line 2: ENV requires at least one argument" },
    { "FROM b\nENV =1\n", "dockerfile parse error line 2: ENV names can not be blank" },
    { "FROM b\nCOPY a\n", "dockerfile parse error line 2: COPY requires at least two arguments, but only one was provided. "
                          "Destination could not be determined" },
    { "FROM b x\n", "dockerfile parse error line 1: FROM requires either one or three arguments" },
    { "FROM\n", "dockerfile parse error line 1: FROM requires either one or three arguments" },
    { "FROM b AS 1x\n",
      "dockerfile parse error line 1: invalid name for build stage: \"1x\", name can't start with a number or contain symbols" },
    { "FROM b\nWORKDIR\n", "dockerfile parse error line 2: WORKDIR requires exactly one argument" },
    { "FROM b\nVOLUME [\"\"]\n", "dockerfile parse error line 2: VOLUME specified can not be an empty string" },
    { "FROM b\nSHELL foo\n", "dockerfile parse error line 2: SHELL requires the arguments to be in JSON form" },
    { "FROM b\nSHELL []\n", "dockerfile parse error line 2: SHELL requires at least one argument" },
    { "FROM b\nHEALTHCHECK FOO x\n", "dockerfile parse error line 2: Unknown type \"FOO\" in HEALTHCHECK (try CMD)" },
    { "FROM b\nHEALTHCHECK CMD\n", "dockerfile parse error line 2: Missing command after HEALTHCHECK CMD" },
    { "FROM b\nHEALTHCHECK NONE x\n", "dockerfile parse error line 2: HEALTHCHECK NONE takes no arguments" },
    { "FROM b\nHEALTHCHECK --interval=x CMD a\n", "dockerfile parse error line 2: time: invalid duration \"x\"" },
    { "FROM b\nHEALTHCHECK --interval=1us CMD a\n",
      "dockerfile parse error line 2: Interval \"interval\" cannot be less than 1ms" },
    { "FROM b\nHEALTHCHECK --retries=x CMD a\n",
      "dockerfile parse error line 2: strconv.ParseInt: parsing \"x\": invalid syntax" },
    { "FROM b\nHEALTHCHECK --retries=-1 CMD a\n", "dockerfile parse error line 2: --retries must be at least 1 (not -1)" },
    { "FROM b\nONBUILD ONBUILD x\n", "dockerfile parse error line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed" },
    { "FROM b\nONBUILD FROM x\n", "dockerfile parse error line 2: FROM isn't allowed as an ONBUILD trigger" },
};

static void test_refusals(void **state)
{
    for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++) {
        g_autoptr(GError) error = NULL;

        assert_null(plan_of(refusals[i].text, &error));
        assert_string_equal(error->message, refusals[i].message);
        assert_int_equal(error->code, TARE_ERROR_INVALID);
    }
}

static void test_every_kind_parses(void **state)
{
    for (int kind = 0; kind < STEP_N_KINDS; kind++) {
        g_autofree char *text = NULL;
        struct build_step *step = NULL;

        text = g_strdup_printf("%s %s", step_kind_name((enum step_kind)kind),
                               kind == STEP_FROM          ? "b"
                               : kind == STEP_HEALTHCHECK ? "NONE"
                               : kind == STEP_ONBUILD     ? "RUN x"
                               : kind == STEP_SHELL       ? "[\"a\"]"
                                                          : "a=b c=d");
        if (kind == STEP_WORKDIR)
            memcpy(strchr(text, '=') - 1, "/aaaaaa", 7);
        assert_true(build_step_parse(text, &step, NULL));
        assert_int_equal(step->kind, kind);
        build_step_free(step);
    }
}

static void test_target_and_labels(void **state)
{
    g_autoptr(json_t) labels = json_pack("{s:s, s:s}", "z", "1", "b", "q r");
    struct build_plan *plan = plan_of("FROM a AS One\nRUN x\nFROM b\nRUN y\nFROM c\n", NULL);
    g_autoptr(GError) error = NULL;
    const struct build_stage *last;

    assert_false(build_plan_select(plan, "two", &error));
    assert_string_equal(error->message, "failed to reach build target two in Dockerfile");
    assert_true(build_plan_select(plan, "1", NULL));
    assert_int_equal(plan->stages->len, 2);
    assert_true(build_plan_select(plan, "ONE", NULL));
    assert_int_equal(plan->stages->len, 1);
    build_plan_add_labels(plan, labels);
    last = plan->stages->pdata[0];
    assert_int_equal(last->steps->len, 3);
    assert_string_equal(((struct build_step *)last->steps->pdata[1])->source, "LABEL b=q r");
    assert_string_equal(((struct build_step *)last->steps->pdata[2])->source, "LABEL z=1");
    build_plan_free(plan);
}

static void test_expansion_by_kind(void **state)
{
    static const struct {
        const char *text, *expected;
    } expansions[] = {
        { "ENV $n=$v k=\"a $v\"", "[\"N\" \"V w\" \"k\" \"a V w\"]" },
        { "EXPOSE $v 80", "[\"V\" \"w\" \"80\"]" },
        { "RUN echo $v", "[\"echo $v\"]" },
        { "CMD $v", "[\"$v\"]" },
        { "WORKDIR /$n", "[\"/N\"]" },
        { "ARG x=$v $n", "[\"x=V w\" \"N\"]" },
        { "COPY $n /$n/", "[\"N\" \"/N/\"]" },
        { "ONBUILD RUN $v", "[\"RUN $v\"]" },
        { "MAINTAINER $v", "[\"$v\"]" },
        { "VOLUME $n", "[\"N\"]" },
        { "LABEL a='$v'", "[\"a\" \"$v\"]" },
        { "USER $n", "[\"N\"]" },
        { "STOPSIGNAL $n", "[\"N\"]" },
    };
    g_autoptr(GHashTable) table = g_hash_table_new(g_str_hash, g_str_equal);

    g_hash_table_insert(table, (char *)"n", (char *)"N");
    g_hash_table_insert(table, (char *)"v", (char *)"V w");
    for (size_t i = 0; i < G_N_ELEMENTS(expansions); i++) {
        struct build_step *step = NULL, *expanded = NULL;
        g_autofree char *got = NULL;

        assert_true(build_step_parse(expansions[i].text, &step, NULL));
        assert_true(build_step_expand(step, table, '\\', &expanded, NULL));
        got = go_quote_list((const char *const *)expanded->args);
        assert_string_equal(got, expansions[i].expected);
        build_step_free(step);
        build_step_free(expanded);
    }
}

/* What is needed, and after what: the last of the stages is the target. */
static const struct {
    const char *text, *given, *expected;
} graphs[] = {
    { "FROM a\nRUN x\n", NULL, "0 -: built, 1 steps\n" },
    { "FROM a AS one\nFROM b AS two\nRUN x\nFROM c\nCOPY --from=one /x /\n", NULL,
      "0 one: built, 0 steps\n1 two: not needed, 1 steps\n2 -: built, 1 steps, after 0\n" },
    { "FROM a AS one\nFROM one AS two\nFROM scratch\nCOPY --from=1 /x /\nCOPY --from=ONE x y\n", NULL,
      "0 one: built, 0 steps\n1 two: built, 0 steps, after 0\n2 -: built, 2 steps, after 1, 0\n" },
    { "ARG base=two\nFROM a AS one\nFROM a AS two\nFROM $base\n", NULL,
      "0 one: not needed, 0 steps\n1 two: built, 0 steps\n2 -: built, 0 steps, after 1\n" },
    { "ARG base=two\nFROM a AS one\nFROM a AS two\nFROM $base\n", "one",
      "0 one: built, 0 steps\n1 two: not needed, 0 steps\n2 -: built, 0 steps, after 0\n" },
    { "FROM a AS x\nFROM x AS y\nFROM a AS z\nFROM y\nCOPY --from=debian /x /\nCOPY --from=9 /x /\n", NULL,
      "0 x: built, 0 steps\n1 y: built, 0 steps, after 0\n2 z: not needed, 0 steps\n3 -: built, 2 steps, after 1\n" },
    { "FROM a AS x\nFROM a AS x\n", NULL, "0 x: built, 0 steps\n1 x: built, 0 steps, after 0\n" },
    { "FROM ${nothing\n", NULL, "0 -: built, 0 steps\n" },
};

static void test_graphs(void **state)
{
    for (size_t i = 0; i < G_N_ELEMENTS(graphs); i++) {
        g_autoptr(json_t) given = graphs[i].given ? json_pack("{s:s}", "base", graphs[i].given) : NULL;
        struct build_plan *plan = plan_of(graphs[i].text, NULL);
        struct build_graph *graph = build_graph_new(plan, given);
        g_autofree char *text = build_graph_text(graph, plan);

        assert_string_equal(text, graphs[i].expected);
        build_graph_free(graph);
        build_plan_free(plan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens),           cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_every_kind_parses), cmocka_unit_test(test_target_and_labels),
        cmocka_unit_test(test_expansion_by_kind), cmocka_unit_test(test_graphs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
