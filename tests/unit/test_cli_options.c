/* The command line: parsing and its texts, the table of commands, hosts, values of run, names of images. */
#include "cli/create-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static struct options *parse(const char *line, GError **error)
{
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    struct cli_found found;
    bool ok = cli_find((const char *const *)words, &found);
    assert_true(ok && found.command);
    struct options *options =
        options_parse("docker", found.path, found.command, (const char *const *)words + found.n_words, error);
    g_free(found.path);
    return options;
}

static void test_errors(void **state)
{
    static const struct {
        const char *line, *wanted; /* the first line of the error */
    } cases[] = {
        { "run --foo", "unknown flag: --foo" },
        { "run -x img", "unknown shorthand flag: 'x' in -x" },
        { "run -p", "flag needs an argument: 'p' in -p" },
        { "run --dns", "flag needs an argument: --dns" },
        { "run --=x", "bad flag syntax: --=x" },
        { "ps -n foo", "invalid argument \"foo\" for \"-n, --last\" flag: strconv.ParseInt: parsing \"foo\": invalid syntax" },
        { "ps --no-trunc=foo",
          "invalid argument \"foo\" for \"--no-trunc\" flag: strconv.ParseBool: parsing \"foo\": invalid syntax" },
        { "run --memory=abc img", "invalid argument \"abc\" for \"-m, --memory\" flag: invalid size: 'abc'" },
        { "run --blkio-weight 70000 x",
          "invalid argument \"70000\" for \"--blkio-weight\" flag: strconv.ParseUint: parsing \"70000\": value out of range" },
        { "run --health-interval 5 x",
          "invalid argument \"5\" for \"--health-interval\" flag: time: missing unit in duration \"5\"" },
        { "run --cpus foo x", "invalid argument \"foo\" for \"--cpus\" flag: failed to parse foo as a rational number" },
        { "run --ulimit foo x", "invalid argument \"foo\" for \"--ulimit\" flag: invalid ulimit argument: foo" },
        { "run -e =a x", "invalid argument \"=a\" for \"-e, --env\" flag: invalid environment variable: =a" },
        { "run --add-host foo x", "invalid argument \"foo\" for \"--add-host\" flag: bad format for add-host: \"foo\"" },
        { "run -a foo x", "invalid argument \"foo\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR" },
        { "run --sysctl foo x", "invalid argument \"foo\" for \"--sysctl\" flag: sysctl 'foo' is not allowed" },
        { "ps -f foo", "invalid argument \"foo\" for \"-f, --filter\" flag: bad format of filter (expected name=value)" },
        { "run --mount type=bind x", "invalid argument \"type=bind\" for \"--mount\" flag: target is required" },
        { "run --network a=b x", "invalid argument \"a=b\" for \"--network\" flag: invalid field key a" },
        { "build -t FOO .", "invalid argument \"FOO\" for \"-t, --tag\" flag: invalid reference format: repository name "
                            "(library/FOO) must be lowercase" },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        struct options *options = parse(cases[i].line, &error);
        assert_null(options);
        error->message[strcspn(error->message, "\n")] = '\0';
        assert_string_equal(error->message, cases[i].wanted);
    }
    g_autoptr(GError) error = NULL;
    assert_null(parse("container list --foo", &error));
    assert_string_equal(
        error->message,
        "unknown flag: --foo\n\nUsage:  docker container ls [OPTIONS]\n\nRun 'docker container ls --help' for more information");
}

static void test_counts(void **state)
{
    static const struct {
        const char *line, *wanted;
    } cases[] = {
        { "run", "docker: 'docker run' requires at least 1 argument\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] "
                 "[ARG...]\n\nSee 'docker run --help' for more information" },
        { "tag a", "docker: 'docker tag' requires 2 arguments\n\nUsage:  docker tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]\n\nRun "
                   "'docker tag --help' for more information" },
        { "version foo", "docker: 'docker version' accepts no arguments\n\nUsage:  docker version [OPTIONS]\n\nRun 'docker "
                         "version --help' for more information" },
        { "images a b", "docker: 'docker images' requires at most 1 argument\n\nUsage:  docker images [OPTIONS] "
                        "[REPOSITORY[:TAG]]\n\nRun 'docker images --help' for more information" },
        { "export", "docker: 'docker export' requires 1 argument\n\nUsage:  docker export [OPTIONS] CONTAINER\n\nRun 'docker "
                    "export --help' for more information" },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        struct options *options = parse(cases[i].line, NULL);
        assert_non_null(options);
        assert_false(options_check_count(options, &error));
        assert_string_equal(error->message, cases[i].wanted);
        options_free(options);
    }
}

static void test_forms(void **state)
{
    struct options *options = parse("run -itp80:80 -p=81:81 --rm=false --name=x -e A=1 -e B=2 img -x --rm", NULL);
    assert_true(options_bool(options, "interactive", false) && options_bool(options, "tty", false));
    assert_false(options_bool(options, "rm", true));
    assert_string_equal(options_list(options, "publish")[0], "80:80");
    assert_string_equal(options_list(options, "publish")[1], "81:81");
    assert_string_equal(options_string(options, "name", ""), "x");
    assert_null(options_list(options, "env")[2]);
    assert_int_equal(options->n_args, 3); /* what follows the image is the command's */
    assert_string_equal(options->args[1], "-x");
    options_free(options);
    options = parse("rm c1 -f c2 -- -v", NULL);
    assert_true(options_bool(options, "force", false));
    assert_false(options_bool(options, "volumes", false));
    assert_int_equal(options->n_args, 3);
    assert_string_equal(options->args[2], "-v");
    options_free(options);
}

/* Every spelling finds its command; flags are sorted, as --help and the merge of two tables need. */
static void test_table(void **state)
{
    for (const struct cli_command *const *table = cli_command_tables; *table; table++)
        for (const struct cli_command *command = *table; command->spellings; command++) {
            g_auto(GStrv) spellings = g_strsplit(command->spellings, ",", -1);
            for (char **spelling = spellings; *spelling; spelling++) {
                g_auto(GStrv) words = g_strsplit(*spelling, " ", -1);
                struct cli_found found;
                assert_true(cli_find((const char *const *)words, &found));
                assert_ptr_equal(found.command, command);
                g_free(found.path);
            }
            assert_true(command->min <= command->max);
            for (const struct cli_flag *flag = command->flags; flag && flag->name && flag[1].name; flag++)
                assert_true(strcmp(flag->name, flag[1].name) < 0);
        }
}

static void test_hosts(void **state)
{
    static const struct {
        struct host_sources sources;
        const char *host, *context;
    } cases[] = {
        { { "h", "c", "t", "d", "e", "k" }, "h", NULL },         { { NULL, "c", "t", "d", "e", "k" }, NULL, "c" },
        { { NULL, NULL, "t", "d", "e", "k" }, "t", NULL },       { { NULL, NULL, NULL, "d", "e", "k" }, "d", NULL },
        { { NULL, NULL, "", "", "e", "k" }, NULL, "e" },         { { NULL, NULL, NULL, NULL, NULL, "k" }, NULL, "k" },
        { { NULL, "default", NULL, "d", "e", "k" }, "d", NULL }, { { 0 }, NULL, NULL },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *host, *context;
        host_choose(&cases[i].sources, &host, &context);
        assert_true(g_strcmp0(host, cases[i].host) == 0 && g_strcmp0(context, cases[i].context) == 0);
    }
    static const struct {
        const char *text, *host, *problem;
    } endpoints[] = {
        { "tcp://", "tcp://localhost:2375", NULL },
        { ":2375", "tcp://localhost:2375", NULL },
        { "unix:///x", "unix:///x", NULL },
        { "ssh://u@h:22/x", "ssh://u@h:22/x", NULL },
        { "foo://x", NULL, "unable to resolve docker endpoint: invalid bind address format: foo://x" },
        { "fd://", NULL, "unable to parse docker host `fd://`" },
        { "ssh://", NULL, "ssh host connection is not valid: invalid SSH URL: hostname is empty" },
        { "ssh://u:p@h", NULL, "ssh host connection is not valid: invalid SSH URL: plain-text password is not supported" },
        { "ssh://-oProxyCommand=x", NULL, "ssh host connection is not valid: invalid SSH URL: hostname begins with a dash" },
        { "tcp://a:b", NULL, "unable to resolve docker endpoint: parse \"tcp://a:b\": invalid port \":b\" after host" },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(endpoints); i++) {
        g_autoptr(GError) error = NULL;
        struct endpoint *endpoint = endpoint_parse(endpoints[i].text, &error);
        assert_string_equal(endpoint ? endpoint->host : error->message, endpoint ? endpoints[i].host : endpoints[i].problem);
        endpoint_free(endpoint);
    }
}

static void test_ports(void **state)
{
    static const struct {
        const char *text, *wanted; /* the bindings, or the error */
    } cases[] = {
        { "80:80", "{\"80/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"80\"}]}" },
        { "127.0.0.1::53/udp", "{\"53/udp\":[{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"\"}]}" },
        { "[::1]:8080:80", "{\"80/tcp\":[{\"HostIp\":\"::1\",\"HostPort\":\"8080\"}]}" },
        { "8000-8001:80-81",
          "{\"80/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"8000\"}],\"81/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"8001\"}]}" },
        { "8000-8010:80", "{\"80/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"8000-8010\"}]}" },
        { "published=8080,target=80", "{\"80/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"8080\"}]}" },
        { "foo", "invalid containerPort: foo" },
        { "99999:80", "invalid hostPort: 99999" },
        { "1:2:3:4", "invalid IP address: 1:2" },
        { "80/foo", "invalid proto: foo" },
        { "8000-8002:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8000-8002" },
        { "", "no port specified: <empty>" },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(json_t) exposed = json_object(), bindings = json_object();
        bool ok = create_parse_port(cases[i].text, exposed, bindings, &error);
        g_autofree char *text = json_text(bindings);
        assert_string_equal(ok ? text : error->message, cases[i].wanted);
    }
}

static void test_values(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) mount = create_parse_mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rshared", NULL),
                      device = create_parse_device("/dev/x:/dev/y:rw", NULL);
    g_autofree char *mount_text = json_text(mount), *device_text = json_text(device);
    assert_string_equal(mount_text, "{\"Type\":\"bind\",\"Source\":\"/a\",\"Target\":\"/"
                                    "b\",\"ReadOnly\":true,\"BindOptions\":{\"Propagation\":\"rshared\"}}");
    assert_string_equal(device_text, "{\"PathOnHost\":\"/dev/x\",\"PathInContainer\":\"/dev/y\",\"CgroupPermissions\":\"rw\"}");
    assert_null(create_parse_device("x:/y:rwz", &error));
    assert_string_equal(error->message, "bad mode specified: rwz");
    g_autofree char *bind = NULL, *target = NULL;
    assert_true(create_parse_volume("/a:/b:ro", &bind, &target, NULL));
    assert_string_equal(bind, "/a:/b:ro");
    assert_null(target);
    g_autoptr(GByteArray) keys = g_byte_array_new();
    assert_true(detach_keys_parse("ctrl-p,ctrl-q,x", keys, NULL));
    assert_int_equal(keys->len, 3);
    assert_memory_equal(keys->data, "\x10\x11x", 3);
    assert_false(detach_keys_parse("ctrl-", keys, NULL));
}

static void test_names(void **state)
{
    static const struct {
        const char *text, *name, *tag, *problem;
    } cases[] = {
        { "debian", "debian", NULL, NULL },
        { "docker.io/library/debian:12", "debian", "12", NULL },
        { "localhost:5000/a/b", "localhost:5000/a/b", NULL, NULL },
        { "a__b/c--d.e:x", "a__b/c--d.e", "x", NULL },
        { "FOO", NULL, NULL, "invalid reference format: repository name (library/FOO) must be lowercase" },
        { "a:", NULL, NULL, "invalid reference format" },
        { "a..b", NULL, NULL, "invalid reference format" },
        { "", NULL, NULL, "invalid reference format" },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct image_name name = { 0 };
        g_autoptr(GError) error = NULL;
        if (image_name_parse(cases[i].text, &name, &error)) {
            assert_non_null(cases[i].name);
            assert_string_equal(name.name, cases[i].name);
            assert_true(g_strcmp0(name.tag, cases[i].tag) == 0);
        } else {
            assert_non_null(cases[i].problem);
            assert_string_equal(error->message, cases[i].problem);
        }
        image_name_clear(&name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_errors), cmocka_unit_test(test_counts),
                                        cmocka_unit_test(test_forms),  cmocka_unit_test(test_table),
                                        cmocka_unit_test(test_hosts),  cmocka_unit_test(test_ports),
                                        cmocka_unit_test(test_values), cmocka_unit_test(test_names) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
