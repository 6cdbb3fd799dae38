/* Templates: each expectation is what docker 28.2 prints for the same template over the same data ("docker image inspect -f"). */
#include "cli/cli-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static const char data_text[] =
    "{\"Os\":\"linux\",\"Architecture\":\"amd64\",\"Author\":\"\",\"RepoDigests\":[],\"RootFS\":{\"Type\":\"layers\"},"
    "\"Config\":{\"Env\":[\"A=1\",\"B=2\",\"C=3\"],\"Labels\":{\"k1\":\"v1\",\"k2\":\"v2\"}}}";

static const struct {
    const char *template, *wanted;
    bool ok;
} cases[] = {
    /* clang-format off */
    { "{{.Os}}", "linux", true },
    { "plain", "plain", true },
    { "{{.Os}}-{{.Architecture}}", "linux-amd64", true },
    { "{{ .Os }}", "linux", true },
    { "a {{- .Os -}} b", "alinuxb", true },
    { "a  {{- /* c */ -}}  b", "ab", true },
    { "{{/* only a comment */}}", "", true },
    { "{{.Config.Env}}", "[A=1 B=2 C=3]", true },
    { "{{.Config.Labels}}", "map[k1:v1 k2:v2]", true },
    { "{{.RootFS.Type}}", "layers", true },
    { "{{.Config.Labels.nokey}}", "<no value>", true },
    { "{{.Architecture}}", "amd64", true },
    { "{{.RepoDigests}}", "[]", true },
    { "{{range .Config.Env}}<{{.}}>{{end}}", "<A=1><B=2><C=3>", true },
    { "{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{end}}", "0=A=1;1=B=2;2=C=3;", true },
    { "{{range $e := .Config.Env}}{{$e}}{{end}}", "A=1B=2C=3", true },
    { "{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}} {{end}}", "k1:v1 k2:v2 ", true },
    { "{{range .RepoDigests}}x{{else}}none{{end}}", "none", true },
    { "{{range .Config.Env}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "A=1B=2C=3", true },
    { "{{range .Config.Env}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "A=1B=2C=3", true },
    { "{{range .Config.Env}}{{$.Os}}{{.}} {{end}}", "linuxA=1 linuxB=2 linuxC=3 ", true },
    { "{{if .Architecture}}y{{else}}n{{end}}", "y", true },
    { "{{if .Author}}y{{else if .Architecture}}z{{else}}n{{end}}", "z", true },
    { "{{if .Config.Labels.nokey}}y{{else}}n{{end}}", "n", true },
    { "{{if not .Author}}empty{{end}}", "empty", true },
    { "{{if and .Architecture .Os}}both{{end}}", "both", true },
    { "{{if or .Author .Os}}one{{end}}", "one", true },
    { "{{and 1 0 2}} {{or 0 \"\" \"x\"}}", "0 x", true },
    { "{{with .RootFS}}{{.Type}}{{end}}", "layers", true },
    { "{{with .Author}}x{{else}}nothing{{end}}", "nothing", true },
    { "{{with $x := .Os}}{{$x}}{{end}}", "linux", true },
    { "{{$x := 5}}{{$x}}", "5", true },
    { "{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2", true },
    { "{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}", "1", true },
    { "{{len .Config.Env}} {{len .Os}} {{len .Config.Labels}}", "3 5 2", true },
    { "{{index .Config.Env 1}}", "B=2", true },
    { "{{index .Config.Labels \"k2\"}}", "v2", true },
    { "{{index .Config.Labels \"nokey\"}}", "", true },
    { "{{index .Config.Env 7}}", "template: :1:2: executing \"\" at <index .Config.Env 7>: error calling index: index out of range: 7", false },
    { "{{slice \"abcdef\" 1 3}}", "bc", true },
    { "{{slice \"abcdef\" 2}}", "cdef", true },
    { "{{slice .Config.Env 1}}", "[B=2 C=3]", true },
    { "{{print 1 2 \"a\" \"b\" 3}}", "1 2ab3", true },
    { "{{println \"a\" 1}}", "a 1\n", true },
    { "{{printf \"%s-%d\" .Os 7}}", "linux-7", true },
    { "{{printf \"%5d|%-5s|%05d\" 42 \"ab\" 7}}", "   42|ab   |00007", true },
    { "{{printf \"%q\" \"a\\\"b\"}}", "\"a\\\"b\"", true },
    { "{{printf \"%v %v\" .Config.Env true}}", "[A=1 B=2 C=3] true", true },
    { "{{printf \"%x\" 255}} {{printf \"%X\" 255}} {{printf \"%o\" 8}}", "ff FF 10", true },
    { "{{printf \"%.2f\" 3.14159}}", "3.14", true },
    { "{{printf \"%t\" true}}", "true", true },
    { "{{printf \"%d\" \"s\"}}", "%!d(string=s)", true },
    { "{{printf \"%s\" 5}}", "%!s(int=5)", true },
    { "{{printf \"%d\"}}", "%!d(MISSING)", true },
    { "{{printf \"%d\" 1 2}}", "1%!(EXTRA int=2)", true },
    { "{{printf \"100%%\"}}", "100%", true },
    { "{{printf \"%c\" 65}}", "A", true },
    { "{{eq 1 1}} {{eq \"a\" \"b\"}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge 2 3}}", "true false true true true false false", true },
    { "{{eq \"a\" \"b\" \"a\"}}", "true", true },
    { "{{lt \"a\" \"b\"}}", "true", true },
    { "{{eq 1 \"a\"}}", "template: :1:2: executing \"\" at <eq 1 \"a\">: error calling eq: incompatible types for comparison", false },
    { "{{json .Os}} {{json .Config.Env}} {{json .Config.Labels}}", "\"linux\" [\"A=1\",\"B=2\",\"C=3\"] {\"k1\":\"v1\",\"k2\":\"v2\"}", true },
    { "{{json \"<a&b>\"}}", "\"<a&b>\"", true },
    { "{{split \"a,b,c\" \",\"}}", "[a b c]", true },
    { "{{join .Config.Env \"+\"}}", "A=1+B=2+C=3", true },
    { "{{title \"hello world\"}} {{lower \"ABC\"}} {{upper \"abc\"}}", "Hello World abc ABC", true },
    { "{{pad \"x\" 2 3}}|", "  x   |", true },
    { "{{pad \"\" 2 3}}|", "|", true },
    { "{{truncate \"abcdef\" 3}} {{truncate \"ab\" 5}}", "abc ab", true },
    { "{{.Os | upper}}", "LINUX", true },
    { "{{.Os | printf \"%s-%s\" \"x\"}}", "x-linux", true },
    { "{{\"abc\" | len}}", "3", true },
    { "{{(index .Config.Env 0) | upper}}", "A=1", true },
    { "{{(len .Config.Env)}}", "3", true },
    { "{{join (split \"a b\" \" \") \"-\"}}", "a-b", true },
    { "{{1.5}} {{2.0}} {{1e3}} {{0x1F}} {{'a'}} {{-3}}", "1.5 2 1000 31 97 -3", true },
    { "{{`raw \\n`}} {{\"esc\\tx\"}}", "raw \\n esc\tx", true },
    { "{{true}} {{false}}", "true false", true },
    { "{{not true}}", "false", true },
    { "{{nil}}", "template: :1:2: executing \"\" at <nil>: nil is not a command", false },
    { "{{", "template: :1: unclosed action", false },
    { "{{.Os", "template: :1: unclosed action", false },
    { "{{if}}x{{end}}", "template: :1: missing value for if", false },
    { "{{if .Os}}x", "template: :1: unexpected EOF", false },
    { "{{end}}", "template: :1: unexpected {{end}}", false },
    { "{{else}}", "template: :1: unexpected {{else}}", false },
    { "{{nosuch .Os}}", "template: :1: function \"nosuch\" not defined", false },
    { "{{.Os | nosuch}}", "template: :1: function \"nosuch\" not defined", false },
    { "{{$y}}", "template: :1: undefined variable \"$y\"", false },
    { "{{\"unclosed}}", "template: :1: unterminated quoted string", false },
    { "{{.Os .Os}}", "template: :1:2: executing \"\" at <.Os>: Os is not a method but has arguments", false },
    { "{{len 5}}", "template: :1:2: executing \"\" at <len 5>: error calling len: len of type int", false },
    { "{{range .Os}}x{{end}}", "template: :1:8: executing \"\" at <.Os>: range can't iterate over linux", false },
    { "{{1 | 2}}", "template: :1: non executable command in pipeline stage 2", false },
    { "{{()}}", "template: :1: missing value for parenthesized pipeline", false },
    { "{{.Os)}}", "template: :1: unexpected right paren", false },
    { "{{/* unclosed", "template: :1: unclosed comment", false },
    { "{{break}}", "template: :1: {{break}} outside {{range}}", false },
    { "{{index .Config.Env \"a\"}}", "template: :1:2: executing \"\" at <index .Config.Env \"a\">: error calling index: cannot index slice/array with type string", false },
    { "{{slice \"abc\" 5}}", "template: :1:2: executing \"\" at <slice \"abc\" 5>: error calling slice: index out of range: 5", false },
    { "{{.Config.Env.x}}", "template: :1:9: executing \"\" at <.Config.Env.x>: can't evaluate field x in type interface {}", false },
    { "{{printf \"%08.3f|%+d|%6.2f|\" 3.14159 5 2.5}}", "0003.142|+5|  2.50|", true },
    { "{{printf \"%-10s|%10s|\" \"héé\" \"x\"}}", "héé       |         x|", true },
    { "{{if eq .Os \"linux\"}}T{{end}}{{if ne .Os \"linux\"}}F{{end}}", "T", true },
    /* clang-format on */
};

static void test_cases(void **state)
{
    g_autoptr(json_t) data = json_parse(data_text, strlen(data_text), 65536, "data", NULL);
    assert_non_null(data);
    guint wrong = 0;
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GString) out = g_string_new(NULL);
        struct template *template = template_parse(cases[i].template, &error);
        bool ok = template && template_execute(template, data, TEMPLATE_STRICT, out, &error);
        template_free(template);
        const char *got = ok ? out->str : error->message;
        if (ok != cases[i].ok || strcmp(got, cases[i].wanted) != 0) {
            print_error("%s\n  wanted %s: %s\n  got    %s: %s\n", cases[i].template, cases[i].ok ? "text" : "error",
                        cases[i].wanted, ok ? "text" : "error", got);
            wrong++;
        }
    }
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
    assert_non_null(strstr(error->message, "nested too deeply"));
    g_autoptr(json_t) list = json_array();
    for (guint i = 0; i < 1000; i++)
        json_array_append_new(list, json_integer(1));
    struct template *loops = template_parse("{{range $}}{{range $}}{{range $}}{{len $}}{{end}}{{end}}{{end}}", NULL);
    assert_non_null(loops);
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(GError) too_much = NULL;
    assert_false(template_execute(loops, list, 0, out, &too_much));
    template_free(loops);
}

/* What inspect says of a field that is not there, and what it lets pass. */
static void test_strict(void **state)
{
    static const char text[] = "{\"State\":{\"Running\":true},\"Config\":{\"Labels\":{\"a\":\"b\"},\"Env\":null}}";
    static const struct {
        const char *template, *wanted;
    } strict[] = {
        { "{{.Foo}}", "template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\"" },
        { "{{if .State.Health}}x{{else}}y{{end}}", "y" },
        { "{{.Config.Labels.nosuch}}", "<no value>" },
        { "{{.Config.Env}}", "[]" },
    };
    g_autoptr(json_t) data = json_parse(text, strlen(text), 4096, "data", NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(strict); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GString) out = g_string_new(NULL);
        struct template *template = template_parse(strict[i].template, NULL);
        bool ok = template_execute(template, data, TEMPLATE_STRICT, out, &error);
        assert_string_equal(ok ? out->str : error->message, strict[i].wanted);
        template_free(template);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_cases), cmocka_unit_test(test_bounds),
                                        cmocka_unit_test(test_strict) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
