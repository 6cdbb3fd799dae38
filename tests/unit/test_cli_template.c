/* Templates. data/template/templates.json has what docker 28.2 printed for each over data/template/image.json (`docker image
 * inspect -f`): the text, or its error. */
#include "cli/cli-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

/* As inspect does it: the structure that docker knows first, then what the engine sent. */
static bool run(const char *text, const char *type, json_t *data, GString *out, GError **error)
{
    struct template *template = template_parse(text, error);
    if (!template)
        return false;
    bool ok = template_execute(template, type, data, 0, out, NULL);
    if (!ok) {
        g_string_truncate(out, 0);
        ok = template_execute(template, TEMPLATE_ANY_TYPE, data, TEMPLATE_MISSING_KEY | TEMPLATE_RAW, out, error);
    }
    template_free(template);
    return ok;
}

static json_t *load(const char *name)
{
    g_autofree char *path = g_build_filename(TEST_DATA, name, NULL);
    json_t *data = json_load_file(path, 0, NULL);
    assert_non_null(data);
    return data;
}

static guint check(const char *text, bool wanted_ok, const char *wanted, const char *type, json_t *data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) out = g_string_new(NULL);
    bool ok = run(text, type, data, out, &error);
    const char *got = ok ? out->str : error->message;
    if (ok == wanted_ok && strcmp(got, wanted) == 0)
        return 0;
    print_error("%s\n  wanted %s: %s\n  got    %s: %s\n", text, wanted_ok ? "text" : "error", wanted, ok ? "text" : "error", got);
    return 1;
}

static void test_as_docker(void **state)
{
    g_autoptr(json_t) cases = load("template/templates.json"), image = load("template/image.json");
    guint wrong = 0;
    size_t i;
    json_t *entry;
    assert_true(json_array_size(cases) > 400);
    json_array_foreach(cases, i, entry) wrong +=
        check(json_string_value(json_array_get(entry, 0)), json_is_true(json_array_get(entry, 1)),
              json_string_value(json_array_get(entry, 2)), "image.InspectResponse", image);
    assert_int_equal(wrong, 0);
}

/* What has no value in the answer has one of its type. */
static void test_types(void **state)
{
    static const char text[] = "{\"Id\":\"x\",\"State\":{\"Running\":true},\"Config\":{\"Labels\":{\"a\":\"b\"},\"Env\":null},"
                               "\"HostConfig\":{\"NetworkMode\":\"none\",\"RestartPolicy\":{\"Name\":\"no\"}}}";
    static const struct {
        const char *template, *wanted;
        bool ok;
    } cases[] = {
        { "{{.Foo}}", "template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\"", false },
        { "{{.Id}} {{.ID}}", "template: :1:10: executing \"\" at <.ID>: map has no entry for key \"ID\"", false },
        { "{{.ID}} {{.State.Pid}} {{.State.Error}}", "x 0 ", true },
        { "{{if .State.Health}}x{{else}}y{{end}}", "y", true },
        { "{{.State.Health}} {{.HostConfig.Memory}} {{.HostConfig.Init}} {{.HostConfig.ConsoleSize}}", "<nil> 0 <nil> [0 0]",
          true },
        { "{{.Config.Labels.nosuch}} {{.Config.Env}} {{.Mounts}} {{.HostConfig.PortBindings}}", "<no value> [] [] map[]", true },
        { "{{.HostConfig.RestartPolicy}}", "{no 0}", true },
        { "{{json .HostConfig.RestartPolicy}}", "{\"Name\":\"no\",\"MaximumRetryCount\":0}", true },
        { "{{eq .HostConfig.NetworkMode \"none\"}}", "true", true },
        { "{{printf \"%T %T\" .HostConfig.NetworkMode .State}}", "container.NetworkMode *container.State", true },
    };
    g_autoptr(json_t) data = json_parse(text, strlen(text), 4096, "data", NULL);
    guint wrong = 0;
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
        wrong += check(cases[i].template, cases[i].ok, cases[i].wanted, "container.InspectResponse", data);
    assert_int_equal(wrong, 0);
}

/* Deep nesting and many steps end in an error, not in a crash or a hang. */
static void test_bounds(void **state)
{
    g_autoptr(GString) deep = g_string_new("{{");
    for (guint i = 0; i < 5000; i++)
        g_string_append_c(deep, '(');
    g_autoptr(GError) error = NULL;
    assert_null(template_parse(deep->str, &error));
    assert_non_null(strstr(error->message, "max expression depth exceeded"));
    g_autoptr(json_t) list = json_array();
    for (guint i = 0; i < 1000; i++)
        json_array_append_new(list, json_integer(1));
    struct template *loops = template_parse("{{range $}}{{range $}}{{range $}}{{len $}}{{end}}{{end}}{{end}}", NULL);
    assert_non_null(loops);
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(GError) too_much = NULL;
    assert_false(template_execute(loops, TEMPLATE_ANY_TYPE, list, 0, out, &too_much));
    template_free(loops);
}

/* A template that calls itself ends as well. */
static void test_recursion(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(json_t) data = json_object();
    struct template *template = template_parse("{{define \"t\"}}{{template \"t\"}}{{end}}{{template \"t\"}}", NULL);
    assert_false(template_execute(template, TEMPLATE_ANY_TYPE, data, 0, out, &error));
    assert_non_null(strstr(error->message, "exceeded maximum template depth"));
    template_free(template);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_as_docker), cmocka_unit_test(test_types),
                                        cmocka_unit_test(test_bounds), cmocka_unit_test(test_recursion) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
