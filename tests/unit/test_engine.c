/* Options and events of the engine. */
#include "engine/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static bool parse(struct engine_options *options, const char *line, GError **error)
{
    g_auto(GStrv) argv = g_strsplit(line, " ", -1);
    return engine_options_parse(options, (int)g_strv_length(argv), argv, error);
}

static void flags_are_parsed(void **state)
{
    struct engine_options options;
    assert_true(parse(&options,
                      "tared --data-root /d -H unix:///a -Hunix:///b --host=unix:///c -D --tls=false --default-ulimit nofile=1:2",
                      NULL));
    assert_string_equal(options.data_root, "/d");
    assert_int_equal(g_strv_length(options.hosts), 3);
    assert_string_equal(options.hosts[1], "unix:///b");
    assert_true(options.debug);
    assert_true(options.tls_off);
    assert_false(options.tls);
    engine_options_clear(&options);
}

static void wrong_flags_are_named(void **state)
{
    static const struct {
        const char *line, *message;
    } cases[] = {
        { "tared --nope", "unknown flag: --nope" },
        { "tared --nope=1", "unknown flag: --nope" },
        { "tared -Dz", "unknown shorthand flag: 'z' in -Dz" },
        { "tared --data-root", "flag needs an argument: --data-root" },
        { "tared -H", "flag needs an argument: 'H' in -H" },
        { "tared --debug=maybe",
          "invalid argument \"maybe\" for \"--debug\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax" },
        { "tared word", "\"tared\" accepts no arguments: \"word\"" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct engine_options options;
        g_autoptr(GError) error = NULL;
        assert_false(parse(&options, cases[i].line, &error));
        assert_string_equal(error->message, cases[i].message);
        engine_options_clear(&options);
    }
}

static void apply(const char *line, const char *json, const char *message)
{
    struct engine_options options;
    g_autoptr(GError) error = NULL;
    assert_true(parse(&options, line, NULL));
    bool ok = engine_options_apply_json(&options, json, strlen(json), "F", &error);
    assert_int_equal(ok, message == NULL);
    if (message)
        assert_non_null(strstr(error->message, message));
    engine_options_clear(&options);
}

static void file_is_checked(void **state)
{
    apply("tared", "{\"debug\": true, \"hosts\": [\"unix:///a\"], \"log-opts\": {\"max-size\": \"1m\"}, \"live-restore\": true}",
          NULL);
    apply("tared", "{\"default-ulimits\": {\"nofile\": {\"Name\": \"nofile\", \"Soft\": 1, \"Hard\": 2}}}", NULL);
    apply("tared", "{\"one\": 1, \"debug\": true, \"two\": 2}",
          "unable to configure the engine with file F: the following directives don't match any configuration option: one, two");
    apply("tared --debug", "{\"debug\": false}",
          "the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from "
          "file: false)");
    apply("tared", "{\"debug\": \"yes\"}", "\"debug\" must be a boolean");
    apply("tared", "{\"hosts\": \"unix:///a\"}", "\"hosts\" must be a list of strings");
    apply("tared", "{\"proxies\": {\"http-proxy\": \"http://a\", \"no-proxy\": \"b\"}}", NULL);
    apply("tared", "{\"proxies\": {\"dns\": []}}", "don't match any configuration option: proxies.dns");
    apply("tared --no-proxy a", "{\"proxies\": {\"no-proxy\": \"b\"}}", "no-proxy: (from flag: a, from file: b)");
    apply("tared", "{\"proxies\": 1}", "\"proxies\" must be an object");
    apply("tared", "{", "invalid JSON");
    apply("tared", "[]", "it is not a JSON object");
    apply("tared", "{\"live-restore\": false}", "live-restore");
}

static void limits_are_checked(void **state)
{
    struct engine_limit limit;
    assert_true(engine_limit_parse("nofile=1024:2048", &limit, NULL));
    assert_int_equal(limit.hard, 2048);
    g_free(limit.name);
    assert_false(engine_limit_parse("nofile", &limit, NULL));
    assert_false(engine_limit_parse("nofile=", &limit, NULL));
    assert_false(engine_limit_parse("nofile=2:1", &limit, NULL));
    assert_false(engine_limit_parse("=1", &limit, NULL));
}

/* ---- events ---- */

static void emit_start(struct event_bus *bus, const char *id, const char *image)
{
    struct event_sink sink = event_bus_sink(bus);
    g_autoptr(json_t) attributes = json_pack("{s:s, s:s, s:s}", "image", image, "name", id, "tier", "web");
    event_emit(&sink, "container", "start", id, attributes);
}

/* How many of the history's events the filters let through. */
static unsigned hits(struct event_bus *bus, const char *filters)
{
    g_autoptr(json_t) wanted = json_loads(filters, 0, NULL);
    struct event_subscription *subscription = event_bus_subscribe(bus, wanted, 1, g_get_real_time() * 1000 - 1);
    unsigned n = 0;
    json_t *event = NULL;
    while (event_subscription_next(subscription, NULL, &event, NULL) == 1) {
        json_decref(event);
        n++;
    }
    event_subscription_free(subscription);
    return n;
}

static void events_are_filtered(void **state)
{
    struct event_bus *bus = event_bus_new();
    struct event_sink sink = event_bus_sink(bus);
    emit_start(bus, "one", "debian:12");
    emit_start(bus, "two", "busybox:latest");
    event_emit(&sink, "image", "tag", "sha256:1", NULL);
    event_emit(&sink, "container", "exec_start: sh", "one", NULL);
    g_usleep(1000);
    assert_int_equal(hits(bus, "{}"), 4);
    assert_int_equal(hits(bus, "{\"type\": {\"container\": true}}"), 3);
    assert_int_equal(hits(bus, "{\"type\": [\"image\", \"container\"]}"), 4);
    assert_int_equal(hits(bus, "{\"event\": {\"start\": true}}"), 2);
    assert_int_equal(hits(bus, "{\"event\": {\"exec_start\": true}}"), 1);
    assert_int_equal(hits(bus, "{\"container\": {\"two\": true}}"), 1);
    assert_int_equal(hits(bus, "{\"image\": {\"debian\": true}}"), 1);
    assert_int_equal(hits(bus, "{\"label\": {\"tier=web\": true, \"name=one\": true}}"), 1);
    assert_int_equal(hits(bus, "{\"label\": {\"tier=db\": true}}"), 0);
    event_bus_free(bus);
}

static void history_is_bounded_and_ordered(void **state)
{
    struct event_bus *bus = event_bus_new();
    for (unsigned i = 0; i < 300; i++) {
        g_autofree char *id = g_strdup_printf("%u", i);
        emit_start(bus, id, "x");
    }
    struct event_subscription *subscription = event_bus_subscribe(bus, NULL, 1, 0);
    json_t *event = NULL;
    assert_int_equal(event_subscription_next(subscription, NULL, &event, NULL), 1);
    assert_string_equal(json_get_string(event, "id", ""), "44");
    assert_string_equal(json_get_string(event, "status", ""), "start");
    assert_string_equal(json_get_string(event, "from", ""), "x");
    json_decref(event);
    event_subscription_free(subscription);
    event_bus_free(bus);
}

static void waiting_ends_by_cancel(void **state)
{
    struct event_bus *bus = event_bus_new();
    struct event_subscription *subscription = event_bus_subscribe(bus, NULL, 0, 0);
    struct cancel *cancel = cancel_new();
    json_t *event = NULL;
    g_autoptr(GError) error = NULL;
    emit_start(bus, "one", "x");
    assert_int_equal(event_subscription_next(subscription, cancel, &event, NULL), 1);
    json_decref(event);
    cancel_trigger(cancel);
    assert_int_equal(event_subscription_next(subscription, cancel, &event, &error), -1);
    assert_true(error_is(error, TARE_ERROR_CANCELLED));
    cancel_unref(cancel);
    event_subscription_free(subscription);
    event_bus_free(bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_are_parsed),       cmocka_unit_test(wrong_flags_are_named),
        cmocka_unit_test(file_is_checked),        cmocka_unit_test(limits_are_checked),
        cmocka_unit_test(events_are_filtered),    cmocka_unit_test(history_is_bounded_and_ordered),
        cmocka_unit_test(waiting_ends_by_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
