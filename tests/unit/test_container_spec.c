/* From a create request to an OCI specification: golden files, and the rules around them. */
#include "container/container-internal.h"
#include "container/log-internal.h"

#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static json_t *load(const char *name, const char *suffix)
{
    g_autofree char *path = g_strdup_printf(TEST_DATA "/container_spec/%s.%s.json", name, suffix);
    g_autofree char *text = NULL;
    size_t length;
    assert_true(file_read(AT_FDCWD, path, 1 << 20, &text, &length, NULL));
    json_t *value = json_parse(text, length, 1 << 20, name, NULL);
    assert_non_null(value);
    return value;
}

static json_t *build(const char *name)
{
    g_autoptr(json_t) body = load(name, "request");
    g_autoptr(json_t) config = NULL;
    g_autoptr(json_t) host_config = NULL;
    g_autoptr(json_t) networking = NULL;
    g_autoptr(json_t) mounts = json_array();
    struct container_manager manager = { 0 };
    GError *error = NULL;
    bool is_host = false;
    assert_true(request_parse(body, &config, &host_config, &networking, &error));
    assert_true(request_validate(config, host_config, false, NULL, &error));
    assert_true(mounts_collect(&manager, config, host_config, mounts, &error));
    is_host = !strcmp(json_get_string(host_config, "NetworkMode", ""), "host");
    const struct spec_input input = {
        .id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        .name = name,
        .config = config,
        .host_config = host_config,
        .mounts = mounts,
        .hosts_path = "/run/x/hosts",
        .hostname_path = "/run/x/hostname",
        .resolv_path = "/run/x/resolv.conf",
        .cgroup_parent = "tare",
        .network_path = is_host ? "" : NULL,
        .pid_path = is_host ? "" : NULL,
        .ipc_path = is_host ? "" : NULL,
        .uts_path = is_host ? "" : NULL,
        .shm_path = is_host ? "/dev/shm" : NULL,
    };
    json_t *spec = NULL;
    assert_true(spec_build(&input, &spec, &error));
    return spec;
}

/* Capabilities that the kernel of this machine does not know are missing from ALL: the golden file must not depend on it. */
static void check_golden(const char *name)
{
    g_autoptr(json_t) spec = build(name);
    g_autoptr(json_t) expected = load(name, "spec");
    json_t *process = json_object_get(spec, "process");
    if (!strcmp(name, "privileged"))
        json_object_set(process, "capabilities", json_object_get(json_object_get(expected, "process"), "capabilities"));
    if (json_equal(spec, expected))
        return;
    /* UPDATE_GOLDEN=1 writes what is built; git diff then shows what changed. */
    g_autofree char *text = json_text_indented(spec);
    g_autofree char *file = g_strdup_printf("%s.spec.json", name);
    g_autofd int directory = open(TEST_DATA "/container_spec", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (g_getenv("UPDATE_GOLDEN"))
        file_write(directory, file, text, strlen(text), 0644, false, NULL);
    fail_msg("%s: another specification than expected: %.200s …", name, text);
}

static void test_plain(void **state)
{
    check_golden("plain");
}

static void test_limits(void **state)
{
    check_golden("limits");
}

static void test_privileged(void **state)
{
    g_autoptr(json_t) spec = build("privileged");
    json_t *bounding = json_object_get(json_object_get(json_object_get(spec, "process"), "capabilities"), "bounding");
    assert_true(json_array_size(bounding) >= 38);
    check_golden("privileged");
}

static void expect_refusal(const char *body_text, const char *message)
{
    g_autoptr(json_t) body = json_loads(body_text, 0, NULL);
    g_autoptr(json_t) config = NULL;
    g_autoptr(json_t) host_config = NULL;
    g_autoptr(json_t) networking = NULL;
    g_autoptr(json_t) mounts = json_array();
    g_autoptr(GError) error = NULL;
    struct container_manager manager = { 0 };
    assert_non_null(body);
    assert_false(request_parse(body, &config, &host_config, &networking, &error) &&
                 request_validate(config, host_config, false, NULL, &error) &&
                 mounts_collect(&manager, config, host_config, mounts, &error));
    assert_string_equal(error->message, message);
    assert_int_equal(error->code, TARE_ERROR_INVALID);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *body, *message;
    } cases[] = {
        { "{}", "Config cannot be empty in order to create a container" },
        { "{\"User\":5}", "json: cannot unmarshal number into Go struct field ContainerConfigWrapper.User of type string" },
        { "{\"HostConfig\":7}",
          "json: cannot unmarshal number into Go struct field ContainerConfigWrapper.HostConfig of type container.HostConfig" },
        { "{\"WorkingDir\":\"foo\"}", "the working directory 'foo' is invalid, it needs to be an absolute path" },
        { "{\"StopSignal\":\"FOO\"}", "Invalid signal: FOO" },
        { "{\"Env\":[\"=x\"]}", "invalid environment variable: =x" },
        { "{\"Healthcheck\":{\"Interval\":1000}}", "Interval in Healthcheck cannot be less than 1ms" },
        { "{\"HostConfig\":{\"Memory\":1048576}}", "Minimum memory limit allowed is 6MB" },
        { "{\"HostConfig\":{\"MemorySwap\":10000000}}",
          "You should always set the Memory limit when using Memoryswap limit, see usage" },
        { "{\"HostConfig\":{\"CapAdd\":[\"FOO\"]}}", "invalid CapAdd: unknown capability: \"CAP_FOO\"" },
        { "{\"HostConfig\":{\"SecurityOpt\":[\"foo=bar\"]}}", "invalid --security-opt 2: \"foo=bar\"" },
        { "{\"HostConfig\":{\"SecurityOpt\":[\"foo\"]}}", "invalid --security-opt 1: \"foo\"" },
        { "{\"HostConfig\":{\"RestartPolicy\":{\"Name\":\"foo\"}}}", "invalid restart policy 'foo'" },
        { "{\"HostConfig\":{\"AutoRemove\":true,\"RestartPolicy\":{\"Name\":\"always\"}}}",
          "can't create 'AutoRemove' container with restart policy" },
        { "{\"HostConfig\":{\"OomScoreAdj\":5000}}", "Invalid value 5000, range for oom score adj is [-1000, 1000]" },
        { "{\"HostConfig\":{\"LogConfig\":{\"Type\":\"foo\"}}}",
          "error looking up logging plugin foo: plugin \"foo\" not found" },
        { "{\"HostConfig\":{\"PortBindings\":{\"80000/tcp\":[]}}}", "invalid port specification: \"80000/tcp\"" },
        { "{\"HostConfig\":{\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"x\"}]}}}", "invalid port specification: \"x\"" },
        { "{\"HostConfig\":{\"Binds\":[\"foo:bar\"]}}", "invalid volume specification: 'foo:bar': invalid mount config for type "
                                                        "\"volume\": invalid mount path: 'bar' mount path must be absolute" },
        { "{\"HostConfig\":{\"Binds\":[\"f:/\"]}}", "invalid volume specification: 'f:/': invalid mount config for type "
                                                    "\"volume\": invalid specification: destination can't be '/'" },
        { "{\"HostConfig\":{\"Binds\":[\"/x:/y:zz\"]}}", "invalid mode: zz" },
        { "{\"HostConfig\":{\"Binds\":[\"aa:/y\",\"bb:/y\"]}}", "Duplicate mount point: /y" },
        { "{\"HostConfig\":{\"Tmpfs\":{\"foo\":\"\"}}}", "invalid mount path: 'foo' mount path must be absolute" },
        { "{\"HostConfig\":{\"Mounts\":[{\"Type\":\"bind\",\"Source\":\"/nope/x\",\"Target\":\"/y\"}]}}",
          "invalid mount config for type \"bind\": bind source path does not exist: /nope/x" },
        { "{\"HostConfig\":{\"Mounts\":[{\"Type\":\"foo\",\"Target\":\"/y\"}]}}",
          "invalid mount config for type \"foo\": mount type unknown" },
        { "{\"HostConfig\":{\"Mounts\":[{\"Type\":\"tmpfs\",\"Source\":\"x\",\"Target\":\"/y\"}]}}",
          "invalid mount config for type \"tmpfs\": field Source must not be specified" },
        { "{\"HostConfig\":{\"Mounts\":[{\"Type\":\"volume\",\"Target\":\"rel\"}]}}",
          "invalid mount config for type \"volume\": invalid mount path: 'rel' mount path must be absolute" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        expect_refusal(cases[i].body, cases[i].message);
}

static void test_merge(void **state)
{
    g_autoptr(json_t) body = json_loads("{\"Env\":[\"A=1\"],\"Entrypoint\":[\"/e\"],\"Labels\":{\"a\":\"own\"}}", 0, NULL);
    g_autoptr(json_t) image = json_loads("{\"Env\":[\"A=0\",\"B=2\"],\"Cmd\":[\"c\"],\"Entrypoint\":[\"/"
                                         "i\"],\"User\":\"u\",\"Labels\":{\"a\":\"image\",\"b\":\"x\"}}",
                                         0, NULL);
    g_autoptr(json_t) config = NULL;
    g_autoptr(json_t) host_config = NULL;
    g_autoptr(json_t) networking = NULL;
    assert_true(request_parse(body, &config, &host_config, &networking, NULL));
    request_merge_image(config, image);
    g_autoptr(json_t) merged = json_pack("{s:O, s:O, s:O, s:O, s:O}", "Env", json_object_get(config, "Env"), "Cmd",
                                         json_object_get(config, "Cmd"), "Entrypoint", json_object_get(config, "Entrypoint"),
                                         "User", json_object_get(config, "User"), "Labels", json_object_get(config, "Labels"));
    g_autofree char *text = json_text(merged);
    assert_string_equal(
        text,
        "{\"Env\":[\"A=1\",\"B=2\"],\"Cmd\":null,\"Entrypoint\":[\"/e\"],\"User\":\"u\",\"Labels\":{\"a\":\"own\",\"b\":\"x\"}}");
}

static void test_names(void **state)
{
    static const char *const good[] = { "ab", "/ab", "a.b-c_d", "0x" };
    static const char *const bad[] = { "", "/", "a", "/a", "-a", ".a", "a/b", "a b", "ü" };
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
        assert_true(container_check_name(good[i], NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_false(container_check_name(bad[i], NULL));
}

static void test_signals(void **state)
{
    static const struct {
        const char *text;
        int number;
    } cases[] = { { "KILL", 9 },   { "SIGTERM", 15 },    { "sigint", 2 },   { "9", 9 },
                  { "RTMIN", 34 }, { "SIGRTMIN+3", 37 }, { "RTMAX-1", 63 }, { "WINCH", 28 } };
    static const char *const bad[] = { "", "0", "-1", "FOO", "SIG", "RTMIN+16", "RTMAX-0", " 9", "9x" };
    int number;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_true(signal_parse(cases[i].text, &number, NULL));
        assert_int_equal(number, cases[i].number);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_false(signal_parse(bad[i], &number, NULL));
}

static void test_ports(void **state)
{
    guint16 port;
    const char *protocol;
    assert_true(spec_parse_port("80", &port, &protocol, NULL) && port == 80 && !strcmp(protocol, "tcp"));
    assert_true(spec_parse_port("53/udp", &port, &protocol, NULL) && port == 53 && !strcmp(protocol, "udp"));
    assert_false(spec_parse_port("0/tcp", &port, &protocol, NULL));
    assert_false(spec_parse_port("80/foo", &port, &protocol, NULL));
    assert_false(spec_parse_port("65536", &port, &protocol, NULL));
    assert_false(spec_parse_port("", &port, &protocol, NULL));
}

static void test_clean_paths(void **state)
{
    static const char *const cases[][2] = { { "/a/b", "/a/b" }, { "/a//b/", "/a/b" }, { "/a/./b/../c", "/a/c" },
                                            { "/../..", "/" },  { "a", "/a" },        { "", "/" } };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *clean = mounts_clean_path(cases[i][0]);
        assert_string_equal(clean, cases[i][1]);
    }
}

static void test_log_entries(void **state)
{
    struct log_entry entry;
    static const char line[] =
        "{\"log\":\"a\\u003cb\\n\",\"stream\":\"stderr\",\"attrs\":{\"k\":\"v w\"},\"time\":\"2026-11-24T07:37:30.139027508Z\"}";
    static const char *const bad[] = {
        "", "{", "{}", "[]", "{\"log\":\"a}", "{\"log\":\"a\"} x", "{\"log\":\"\\u12\"}", "{\"time\":\"x\"}"
    };
    log_entry_init(&entry);
    assert_true(log_entry_parse(line, strlen(line), &entry));
    assert_string_equal(entry.line->str, "a<b\n");
    assert_string_equal(entry.attributes->str, "k=v%20w");
    assert_int_equal(entry.stream, 2);
    assert_int_equal(entry.time_ns % 1000000000, 139027508);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_false(log_entry_parse(bad[i], strlen(bad[i]), &entry));
    log_entry_clear(&entry);
}

static void check_labels(const char *options, const char *process, const char *file)
{
    g_auto(GStrv) list = g_strsplit(options, " ", -1); /* none of "" */
    g_autofree char *own = g_strdup("system_u:system_r:container_t:s0:c1,c2");
    g_autofree char *files = g_strdup("system_u:object_r:container_file_t:s0:c1,c2");
    g_autoptr(GError) error = NULL;
    bool ok = selinux_apply_options((const char *const *)list, &own, &files, &error);
    if (!file) {
        assert_false(ok);
        assert_string_equal(error->message, process);
        return;
    }
    assert_true(ok);
    assert_string_equal(own ? own : "", process);
    assert_string_equal(files, file);
}

static void test_label_options(void **state)
{
    check_labels("", "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2");
    check_labels("type:spc_t", "system_u:system_r:spc_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2");
    check_labels("filetype:etc_t", "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:etc_t:s0:c1,c2");
    check_labels("user:staff_u role:staff_r", "staff_u:staff_r:container_t:s0:c1,c2",
                 "staff_u:object_r:container_file_t:s0:c1,c2");
    check_labels("level:s0:c7,c9", "system_u:system_r:container_t:s0:c7,c9", "system_u:object_r:container_file_t:s0:c7,c9");
    check_labels("level:", "system_u:system_r:container_t", "system_u:object_r:container_file_t");
    check_labels("type:spc_t disable bad", "", "system_u:object_r:container_file_t:s0:c1022,c1023");
    check_labels(
        "anything",
        "Bad label option \"anything\", valid options 'disable' or \n'user, role, level, type, filetype' followed by ':' and "
        "a value",
        NULL);
    check_labels("color:red", "Bad label option \"color\", valid options 'disable, user, role, level, type, filetype'", NULL);
    g_autofree char *shared = selinux_shared_label("system_u:object_r:container_file_t:s0:c1,c2");
    assert_string_equal(shared, "system_u:object_r:container_file_t:s0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),       cmocka_unit_test(test_limits),        cmocka_unit_test(test_privileged),
        cmocka_unit_test(test_refusals),    cmocka_unit_test(test_merge),         cmocka_unit_test(test_names),
        cmocka_unit_test(test_signals),     cmocka_unit_test(test_ports),         cmocka_unit_test(test_clean_paths),
        cmocka_unit_test(test_log_entries), cmocka_unit_test(test_label_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
