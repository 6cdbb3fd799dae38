/* Specifications become plans: golden texts for good ones, the field's name for bad ones. Needs no root. */
#include "runtime/runtime-internal.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

static json_t *read_data(const char *name)
{
    g_autofree char *path = g_build_filename(TEST_DATA, "runtime", name, NULL), *text = NULL;
    gsize length;
    assert_true(g_file_get_contents(path, &text, &length, NULL));
    json_t *value = runtime_specification_parse(text, length, NULL);
    assert_non_null(value);
    return value;
}

static void test_big_numbers(void **state)
{
    static const char text[] =
        "{\"a\":18446744073709551615,\"b\":\"18446744073709551615 \\\" 18446744073709551615\",\"c\":[7,18446744073709551615]}";
    g_autoptr(json_t) value = runtime_specification_parse(text, strlen(text), NULL);
    assert_non_null(value);
    g_autofree char *again = json_text(value);
    assert_string_equal(again, "{\"a\":-1,\"b\":\"18446744073709551615 \\\" 18446744073709551615\",\"c\":[7,-1]}");
    /* One more is too much for every field. */
    assert_null(runtime_specification_parse("{\"a\":18446744073709551616}", 26, NULL));
    assert_null(runtime_specification_parse("{\"a\":-18446744073709551615}", 27, NULL));
}

/* data/runtime/NAME.json → NAME.plan. To accept a change: TARE_UPDATE_GOLDEN=1, and read the diff. */
static void check_golden(const char *name)
{
    g_autofree char *json_name = g_strconcat(name, ".json", NULL), *plan_name = g_strconcat(name, ".plan", NULL);
    g_autofree char *path = g_build_filename(TEST_DATA, "runtime", plan_name, NULL), *wanted = NULL;
    g_autoptr(json_t) spec = read_data(json_name);
    struct runtime_plan *plan = NULL;
    GError *error = NULL;
    if (!runtime_plan_new(spec, &plan, &error))
        fail_msg("%s: %s", name, error->message);
    g_autofree char *text = runtime_plan_text(plan);
    runtime_plan_free(plan);
    if (g_getenv("TARE_UPDATE_GOLDEN"))
        assert_true(g_file_set_contents(path, text, -1, NULL));
    assert_true(g_file_get_contents(path, &wanted, NULL, NULL));
    assert_string_equal(text, wanted);
}

static void test_docker(void **state)
{
    check_golden("docker");
}

static void test_everything(void **state)
{
    check_golden("everything");
}

/* Puts value at a path such as "linux.namespaces.0.type" of Docker's specification and demands the message. */
static void put(json_t *at, char **path, json_t *value)
{
    guint64 index = g_ascii_strtoull(path[0], NULL, 10);
    json_t *next = json_is_array(at) ? json_array_get(at, index) : json_object_get(at, path[0]);
    if (path[1] && next) {
        put(next, path + 1, value);
    } else if (json_is_array(at)) {
        if (index < json_array_size(at))
            json_array_set(at, index, value);
        else
            json_array_append(at, value);
    } else if (path[1]) {
        next = json_object();
        json_object_set_new(at, path[0], next);
        put(next, path + 1, value);
    } else {
        json_object_set(at, path[0], value);
    }
}

static void test_refusals(void **state)
{
    static const struct {
        const char *path, *value, *message;
    } rows[] = {
        { "ociVersion", "null", "ociVersion: is required" },
        { "ociVersion", "\"2.0.0\"", "ociVersion: unsupported version \"2.0.0\"" },
        { "root", "[]", "root: must be an object" },
        { "root.path", "7", "root.path: must be a string" },
        { "root.path", "\"a\\u0000b\"", "root.path: contains a NUL character" },
        { "hostname", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
          "hostname: is longer than 64 bytes" },
        { "process.args", "[]", "process.args: must not be empty" },
        { "process.args", "[\"a\",1]", "process.args[1]: must be a string" },
        { "process.args", "null", "process.args: is required" },
        { "process.cwd", "\"tmp\"", "process.cwd: must be an absolute path" },
        { "process.env", "[\"A=1\",\"B\"]", "process.env[1]: must be NAME=VALUE" },
        { "process.env", "[\"=1\"]", "process.env[0]: must be NAME=VALUE" },
        { "process.terminal", "1", "process.terminal: must be true or false" },
        { "process.oomScoreAdj", "1001", "process.oomScoreAdj: 1001 is out of range" },
        { "process.oomScoreAdj", "1.5", "process.oomScoreAdj: must be an integer" },
        { "process.user.uid", "4294967295", "process.user.uid: 4294967295 is out of range" },
        { "process.user.uid", "-1", "process.user.uid: -1 is out of range" },
        { "process.user.uid", "\"0\"", "process.user.uid: must be an integer" },
        { "process.user.additionalGids", "[1,-2]", "process.user.additionalGids[1]: must be a group id" },
        { "process.capabilities.effective", "[\"CAP_X\"]", "process.capabilities.effective[0]: unknown capability \"CAP_X\"" },
        { "process.rlimits", "[{\"type\":\"RLIMIT_X\",\"soft\":1,\"hard\":1}]",
          "process.rlimits[0].type: wrong rlimit value: RLIMIT_X" },
        { "process.rlimits", "[{\"type\":\"RLIMIT_CORE\",\"soft\":2,\"hard\":1}]",
          "process.rlimits[0]: soft limit is above the hard limit" },
        { "process.rlimits",
          "[{\"type\":\"RLIMIT_CORE\",\"soft\":0,\"hard\":0},{\"type\":\"RLIMIT_CORE\",\"soft\":0,\"hard\":0}]",
          "process.rlimits[1].type: given twice" },
        { "mounts.0.destination", "\"\"", "mounts[0].destination: must not be empty" },
        { "mounts.0.destination", "null", "mounts[0].destination: is required" },
        { "mounts.0.type", "null", "mounts[0].type: is required" },
        { "mounts.0.type", "\"bind\"", NULL },
        { "mounts.0", "{\"destination\":\"/x\",\"type\":\"bind\"}", "mounts[0].source: is required for a bind mount" },
        { "mounts.0.options", "[7]", "mounts[0].options[0]: must be a string" },
        { "mounts.0.uidMappings", "[{}]", "mounts[0].uidMappings: id-mapped mounts are not implemented" },
        { "linux", "null", "linux: is required" },
        { "linux.namespaces.2.type", "\"x\"", "linux.namespaces[2].type: unknown namespace \"x\"" },
        { "linux.namespaces.2.type", "\"mount\"", "linux.namespaces[2].type: given twice" },
        { "linux.namespaces.1.path", "\"proc/1/ns/net\"", "linux.namespaces[1].path: must be an absolute path" },
        { "linux.namespaces", "[]", "linux.namespaces: a new mount namespace is required" },
        { "linux.namespaces", "[{\"type\":\"mount\"}]", "hostname: needs a uts namespace" },
        { "linux.namespaces", "[{\"type\":\"mount\"},{\"type\":\"uts\"}]",
          "linux.sysctl: sysctl \"net.ipv4.ip_unprivileged_port_start\" not allowed in host network namespace" },
        { "linux.namespaces.9", "{\"type\":\"user\"}", "linux.uidMappings: a new user namespace needs mappings" },
        { "linux.uidMappings", "[{\"containerID\":0,\"hostID\":1,\"size\":1}]",
          "linux.uidMappings: mappings need a user namespace" },
        { "linux.uidMappings", "[{\"containerID\":0,\"hostID\":4294967295,\"size\":2}]",
          "linux.uidMappings[0]: runs past the last id" },
        { "linux.sysctl", "{\"kernel.panic\":\"1\"}",
          "linux.sysctl: sysctl \"kernel.panic\" is not in a separate kernel namespace" },
        { "linux.sysctl", "{\"kernel.hostname\":\"x\"}",
          "linux.sysctl: sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field" },
        { "linux.sysctl", "{\"net/../kernel/panic\":\"1\"}",
          "linux.sysctl: sysctl \"net/../kernel/panic\" is not in a separate kernel namespace" },
        { "linux.cgroupsPath", "\"/a/../../b\"", "linux.cgroupsPath: must not contain \"..\"" },
        { "linux.cgroupsPath", "\"/\"", "linux.cgroupsPath: must name a cgroup" },
        { "linux.maskedPaths", "[\"proc\"]", "linux.maskedPaths[0]: must be an absolute path" },
        { "linux.rootfsPropagation", "\"x\"", "linux.rootfsPropagation: unknown propagation" },
        { "linux.devices", "[{\"path\":\"/dev/x\",\"type\":\"q\"}]", "linux.devices[0].type: unknown device type \"q\"" },
        { "linux.devices", "[{\"path\":\"/dev/x\",\"type\":\"c\"}]", "linux.devices[0]: major and minor are required" },
        { "linux.devices", "[{\"path\":\"x\",\"type\":\"p\"}]", "linux.devices[0].path: must be an absolute path" },
        { "linux.resources.memory", "{\"limit\":-2}", "linux.resources.memory.limit: must be an integer in range" },
        { "linux.resources.pids", "{\"limit\":\"max\"}", "linux.resources.pids.limit: must be an integer in range" },
        { "linux.resources.devices", "[{\"allow\":true,\"access\":\"rwx\"}]",
          "linux.resources.devices[0].access: unknown access \"rwx\"" },
        { "linux.resources.devices", "[{}]", "linux.resources.devices[0].allow: is required" },
        { "linux.resources.unified", "{\"cgroup.procs\":\"1\"}",
          "linux.resources.unified: \"cgroup.procs\" is not a resource file" },
        { "linux.resources.unified", "{\"../memory.max\":\"1\"}",
          "linux.resources.unified: \"../memory.max\" is not a resource file" },
        { "mounts.0.options", "[\"tmpcopyup\"]", "mounts[0].options[0]: option \"tmpcopyup\" is not implemented" },
        { "linux.personality", "{\"domain\":\"LINUX32\"}", "linux.personality: not implemented" },
        { "linux.intelRdt", "{}", NULL },
        { "process.scheduler", "{\"policy\":\"SCHED_FIFO\"}", "process.scheduler: not implemented" },
        { "linux.resources.network", "{\"classID\":1}", "linux.resources.network: not implemented" },
        { "linux.resources.hugepageLimits", "[{\"pageSize\":\"2MB/..\",\"limit\":1}]",
          "linux.resources.hugepageLimits[0].pageSize: unknown size \"2MB/..\"" },
        { "hooks", "{\"prestart\":[{\"path\":\"x\"}]}", "hooks.prestart[0].path: must be an absolute path" },
        { "hooks", "{\"prestart\":[{\"path\":\"/x\",\"timeout\":0}]}", "hooks.prestart[0].timeout: 0 is out of range" },
        { "annotations", "{\"a\":1}", "annotations.a: must be a string" },
        { "an.unknown.member", "7", NULL }, /* ignored, as the specification demands */
    };
    g_autoptr(json_t) docker = read_data("docker.json");
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct runtime_plan *plan = NULL;
        GError *error = NULL;
        g_autoptr(json_t) spec = json_deep_copy(docker),
                          value = json_loads(rows[i].value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        g_auto(GStrv) path = g_strsplit(rows[i].path, ".", -1);
        assert_non_null(value);
        put(spec, path, value);
        bool ok = runtime_plan_new(spec, &plan, &error);
        if (ok != (rows[i].message == NULL))
            fail_msg("%s = %s: %s", rows[i].path, rows[i].value, error ? error->message : "was accepted");
        if (error)
            assert_string_equal(error->message, rows[i].message);
        g_clear_error(&error);
        runtime_plan_free(plan);
    }
}

/* The kernel's headers and our table of names must not drift apart. */
static void test_capability_names(void **state)
{
    for (int i = 0; capability_name(i); i++)
        assert_int_equal(capability_number(capability_name(i)), i);
    assert_string_equal(capability_name(0), "CAP_CHOWN");
    assert_string_equal(capability_name(40), "CAP_CHECKPOINT_RESTORE");
    assert_int_equal(capability_number("CHOWN"), -1);
    assert_int_equal(capability_number("cap_chown"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_big_numbers), cmocka_unit_test(test_docker),
                                        cmocka_unit_test(test_everything), cmocka_unit_test(test_refusals),
                                        cmocka_unit_test(test_capability_names) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
