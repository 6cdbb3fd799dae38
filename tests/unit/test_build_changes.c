/* What metadata instructions do to a run config, and the texts that history shows for them: as dockerd 20.10. */
#include "build/build-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static const struct {
    const char *change, *expected; /* a piece of the config's text, or the error */
} changes[] = {
    { "CMD a b", "\"Cmd\":[\"/bin/sh\",\"-c\",\"a b\"]" },
    { "CMD", "\"Cmd\":[\"/bin/sh\",\"-c\"]" },
    { "CMD []", "\"Cmd\":[]" },
    { "ENTRYPOINT", "\"Entrypoint\":null" },
    { "ENTRYPOINT [\"a\", \"b\"]", "\"Entrypoint\":[\"a\",\"b\"]" },
    { "ENV A=$B C=$PATH D=\"x y\"", "\"Env\":[\"PATH=/bin\",\"A=\",\"C=/bin\",\"D=x y\"]" },
    { "ENV PATH=/usr:$PATH", "\"Env\":[\"PATH=/usr:/bin\"]" },
    { "EXPOSE 80 53/udp 7-9", "\"ExposedPorts\":{\"53/udp\":{},\"7/tcp\":{},\"8/tcp\":{},\"80/tcp\":{},\"9/tcp\":{}}" },
    { "HEALTHCHECK CMD x", "\"Healthcheck\":{\"Test\":[\"CMD-SHELL\",\"x\"]}" },
    { "LABEL a=$PATH b='$PATH'", "\"Labels\":{\"a\":\"/bin\",\"b\":\"$PATH\"}" },
    { "ONBUILD RUN x", "\"OnBuild\":[\"RUN x\"]" },
    { "USER me:us", "\"User\":\"me:us\"" },
    { "VOLUME /b /a", "\"Volumes\":{\"/a\":{},\"/b\":{}}" },
    { "WORKDIR a/../b", "\"WorkingDir\":\"/b\"" },
    { "STOPSIGNAL SIGRTMIN+3", "\"StopSignal\":\"SIGRTMIN+3\"" },
    { "STOPSIGNAL xx", "Invalid signal: xx" },
    { "RUN x", "run is not a valid change command" },
    { "FOO", "foo is not a valid change command" },
    { "COPY a b", "copy is not a valid change command" },
    { "ARG a=1", "arg is not a valid change command" },
    { "FROM x", "from is not a valid change command" },
    { "ENV a", "ENV must have two arguments" },
    { "USER", "USER requires exactly one argument" },
    { "EXPOSE x", "Invalid containerPort: x" },
    { "EXPOSE 9-7", "Invalid containerPort: 9-7" },
    { "EXPOSE 99999", "Invalid containerPort: 99999" },
    { "EXPOSE 80/foo", "Invalid proto: foo" },
};

static void test_changes(void **state)
{
    g_autoptr(json_t) config = json_pack("{s:[s]}", "Env", "PATH=/bin");

    for (size_t i = 0; i < G_N_ELEMENTS(changes); i++) {
        const char *const given[] = { changes[i].change, NULL };
        g_autoptr(json_t) changed = NULL;
        g_autoptr(GError) error = NULL;
        g_autofree char *text = NULL;

        if (!build_apply_changes(config, given, &changed, &error)) {
            assert_string_equal(error->message, changes[i].expected);
            continue;
        }
        text = json_text(changed);
        if (!strstr(text, changes[i].expected))
            fail_msg("%s: %s", changes[i].change, text);
    }
    assert_int_equal(json_object_size(config), 1);
}

static void test_all_members(void **state)
{
    const char *const given[] = { "CMD [\"x\"]", "ENTRYPOINT [\"e\"]", NULL };
    g_autoptr(json_t) changed = NULL;
    g_autofree char *text = NULL;

    assert_true(build_apply_changes(NULL, given, &changed, NULL));
    text = json_text(changed);
    assert_string_equal(
        text,
        "{\"Hostname\":\"\",\"Domainname\":\"\",\"User\":\"\",\"AttachStdin\":false,\"AttachStdout\":false,\"AttachStderr\":"
        "false,"
        "\"Tty\":false,\"OpenStdin\":false,\"StdinOnce\":false,\"Env\":null,\"Cmd\":[\"x\"],\"Image\":\"\",\"Volumes\":null,"
        "\"WorkingDir\":\"\",\"Entrypoint\":[\"e\"],\"OnBuild\":null,\"Labels\":null}");
}

static const struct {
    const char *instruction, *comment, *note;
} comments[] = {
    { "ENV a=1 b=\"x y\" c=a\\ b", "ENV a=1 b=x y c=a b", NULL },
    { "ENV old style value", "ENV old=style value", NULL },
    { "LABEL x=1 \"y z\"=\"w v\"", "LABEL x=1 y z=w v", NULL },
    { "MAINTAINER me <x@y>", "MAINTAINER me <x@y>", NULL },
    { "EXPOSE 90 80/udp 7000-7002", "EXPOSE 7000-7002 80/udp 90", NULL },
    { "VOLUME /data /x", "VOLUME [/data /x]", NULL },
    { "VOLUME [\"/j son\"]", "VOLUME [/j son]", NULL },
    { "USER daemon:grp", "USER daemon:grp", NULL },
    { "WORKDIR /wd", "WORKDIR /wd", NULL },
    { "WORKDIR sub", "WORKDIR /wd/sub", NULL },
    { "CMD echo \"hi\" $a", "CMD [\"/bin/sh\" \"-c\" \"echo \\\"hi\\\" $a\"]", NULL },
    { "CMD [\"a\",\"b \\\"q\\\"\"]", "CMD [\"a\" \"b \\\"q\\\"\"]", NULL },
    { "ENTRYPOINT [\"e\"]", "ENTRYPOINT [\"e\"]", NULL },
    { "ENTRYPOINT foo bar", "ENTRYPOINT [\"/bin/sh\" \"-c\" \"foo bar\"]", NULL },
    { "STOPSIGNAL SIGUSR1", "STOPSIGNAL SIGUSR1", NULL },
    { "STOPSIGNAL 9", "STOPSIGNAL 9", NULL },
    { "SHELL [\"/bin/sh\",\"-ec\"]", "SHELL [/bin/sh -ec]", NULL },
    { "HEALTHCHECK --interval=5s --timeout=90s --retries=3 --start-period=1m CMD echo hi",
      "HEALTHCHECK &{[\"CMD-SHELL\" \"echo hi\"] \"5s\" \"1m30s\" \"1m0s\" '\\x03'}", NULL },
    { "HEALTHCHECK CMD [\"a\",\"b\"]", "HEALTHCHECK &{[\"CMD\" \"a\" \"b\"] \"0s\" \"0s\" \"0s\" '\\x00'}",
      "Note: overriding previous HEALTHCHECK: [CMD-SHELL echo hi]\n" },
    { "HEALTHCHECK NONE", "HEALTHCHECK &{[\"NONE\"] \"0s\" \"0s\" \"0s\" '\\x00'}",
      "Note: overriding previous HEALTHCHECK: [CMD a b]\n" },
    { "ONBUILD   COPY   a   b", "ONBUILD COPY   a   b", NULL },
    { "ARG foo=bar v", "ARG foo=bar v", NULL },
};

static void test_comments(void **state)
{
    struct metadata metadata = { .config = json_object(), .args = build_args_new(NULL) };

    for (size_t i = 0; i < G_N_ELEMENTS(comments); i++) {
        g_autoptr(GHashTable) variables = build_args_variables(metadata.args, NULL);
        g_autofree char *comment = NULL, *note = NULL;
        struct build_step *step, *expanded;

        assert_true(build_step_parse(comments[i].instruction, &step, NULL));
        assert_true(build_step_expand(step, variables, '\\', &expanded, NULL));
        assert_true(metadata_apply(&metadata, expanded, &comment, &note, NULL));
        assert_string_equal(comment, comments[i].comment);
        if (comments[i].note)
            assert_string_equal(note, comments[i].note);
        else
            assert_null(note);
        build_step_free(step);
        build_step_free(expanded);
    }
    /* HEALTHCHECK NONE kept the interval of before, ENTRYPOINT kept the CMD of this stage. */
    assert_int_equal(json_get_int(json_get_object(metadata.config, "Healthcheck"), "Interval", 0), 5000000000);
    assert_int_equal(json_array_size(json_get_array(metadata.config, "Cmd")), 2);
    assert_string_equal(metadata.maintainer, "me <x@y>");
    g_free(metadata.maintainer);
    json_decref(metadata.config);
    build_args_free(metadata.args);
}

static void test_build_args(void **state)
{
    g_autoptr(json_t) given = json_pack("{s:s, s:s, s:s, s:n}", "v", "V", "unused", "1", "HTTP_PROXY", "http://p", "empty");
    g_autoptr(json_t) env = json_pack("[s]", "inenv=1");
    struct build_args *all = build_args_new(given), *args;
    g_auto(GStrv) values = NULL, unconsumed = NULL;
    g_autofree char *text = NULL, *left = NULL;

    build_args_declare_meta(all, "base", "bb:1");
    args = build_args_new_stage(all);
    build_args_declare(args, "v", "default");
    build_args_declare(args, "foo", "bar");
    build_args_declare(args, "base", NULL);
    build_args_declare(args, "nothing", NULL);
    build_args_declare(args, "inenv", "x");
    values = build_args_env(args, env);
    text = go_quote_list((const char *const *)values);
    assert_string_equal(text, "[\"HTTP_PROXY=http://p\" \"base=bb:1\" \"foo=bar\" \"v=V\"]");
    assert_true(build_args_is_transparent(args, "HTTP_PROXY"));
    assert_false(build_args_is_transparent(args, "v"));
    build_args_merge(all, args);
    unconsumed = build_args_unconsumed(all);
    left = go_list((const char *const *)unconsumed);
    assert_string_equal(left, "[empty unused]");
    build_args_free(all);
    build_args_free(args);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_all_members),
        cmocka_unit_test(test_comments),
        cmocka_unit_test(test_build_args),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
