/* What registries and their configuration files say, read: challenges, platforms, hosts.toml, credentials. */
#include "registry/registry-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_challenges(void **state)
{
    static const struct {
        const char *header;
        enum auth_scheme scheme;
        const char *realm, *service, *scope;
    } cases[] = {
        { "Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:x:pull\"", AUTH_BEARER, "https://a/t", "s",
          "repository:x:pull" },
        { "bearer realm=https://a/t , service = s", AUTH_BEARER, "https://a/t", "s", NULL },
        { "Basic realm=\"a \\\"b\\\"\"", AUTH_BASIC, "a \"b\"", NULL, NULL },
        { "Basic realm=x, Bearer realm=\"y\"", AUTH_BEARER, "y", NULL, NULL },
        { "Bearer realm=\"y\", Basic realm=x", AUTH_BEARER, "y", NULL, NULL },
        { "Negotiate, Basic realm=x", AUTH_BASIC, "x", NULL, NULL },
        { "Bearer service=\"no realm\"", AUTH_NONE, NULL, NULL, NULL },
        { "Bearer realm=\"no end", AUTH_NONE, NULL, NULL, NULL },
        { "Digest realm=x", AUTH_NONE, NULL, NULL, NULL },
        { "", AUTH_NONE, NULL, NULL, NULL },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct challenge challenge;
        challenge_parse(cases[i].header, &challenge);
        assert_int_equal(challenge.scheme, cases[i].scheme);
        assert_int_equal(g_strcmp0(challenge.realm, cases[i].realm), 0);
        assert_int_equal(g_strcmp0(challenge.service, cases[i].service), 0);
        assert_int_equal(g_strcmp0(challenge.scope, cases[i].scope), 0);
        challenge_clear(&challenge);
    }
}

static const char *chosen(const char *platform, const char *index)
{
    static char digest[8];
    struct platform wanted;
    g_autoptr(json_t) json = json_loads(index, 0, NULL);
    assert_non_null(json);
    assert_true(platform_parse(platform, &wanted, NULL));
    const json_t *entry = platform_choose(json, &wanted);
    platform_clear(&wanted);
    g_strlcpy(digest, entry ? json_get_string(entry, "digest", "") : "none", sizeof digest);
    return digest;
}

static void test_platforms(void **state)
{
    static const char all[] =
        "{\"manifests\":[{\"digest\":\"386\",\"platform\":{\"os\":\"linux\",\"architecture\":\"386\"}},"
        "{\"digest\":\"v5\",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v5\"}},"
        "{\"digest\":\"v7\",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v7\"}},"
        "{\"digest\":\"arm64\",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\",\"variant\":\"v8\"}},"
        "{\"digest\":\"win\",\"platform\":{\"os\":\"windows\",\"architecture\":\"amd64\"}},"
        "{\"digest\":\"att\",\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}},"
        "{\"digest\":\"amd64\",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}";
    static const char few[] = "{\"manifests\":[{\"digest\":\"386\",\"platform\":{\"os\":\"linux\",\"architecture\":\"386\"}},"
                              "{\"digest\":\"v6\",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v6\"}},"
                              "{\"digest\":\"v5\",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v5\"}}]}";
    assert_string_equal(chosen("linux/amd64", all), "amd64");
    assert_string_equal(chosen("amd64", all), "amd64");
    assert_string_equal(chosen("linux/x86_64", all), "amd64");
    assert_string_equal(chosen("linux/amd64/v3", all), "amd64");
    assert_string_equal(chosen("linux/arm64", all), "arm64");
    assert_string_equal(chosen("linux/arm64/v8", all), "arm64");
    assert_string_equal(chosen("linux/arm/v7", all), "v7");
    assert_string_equal(chosen("linux/arm/v6", all), "v5");
    assert_string_equal(chosen("linux/s390x", all), "none");
    assert_string_equal(chosen("linux/amd64", few), "386");
    assert_string_equal(chosen("linux/arm64", few), "v6");
    assert_string_equal(chosen("linux/arm/v5", few), "v5");

    struct platform platform;
    g_autoptr(GError) error = NULL;
    assert_false(platform_parse("nonsense", &platform, &error));
    assert_string_equal(error->message, "\"nonsense\": unknown operating system or architecture: invalid argument");
    assert_false(platform_parse("linux/a/b/c", &platform, NULL));
    assert_false(platform_parse("linux//v8", &platform, NULL));
}

static void test_hosts_toml(void **state)
{
    static const char text[] =
        "server = \"https://origin.example\" # itself\n"
        "[host.\"https://one.example:5000\"]\n"
        "  capabilities = [\"pull\", \"resolve\"]\n  ca = 'a.crt'\n  skip_verify = true\n  dial_timeout = \"1500ms\"\n"
        "  client = [[\"c.cert\", \"c.key\"]]\n  unknown = { }\n";
    static const char good[] =
        "server = \"https://origin.example\" # itself\n"
        "[host.\"https://one.example:5000\"]\n"
        "  capabilities = [\"pull\", \"resolve\"]\n  ca = 'a.crt'\n  skip_verify = true\n  dial_timeout = \"1500ms\"\n"
        "  client = [[\"c.cert\", \"c.key\"]]\n"
        "[host.\"two.example\".header]\n  X-A = [\"1\", \"2\"]\n[other]\nserver = \"no\"\n";
    struct hosts_file *file = NULL;
    g_autoptr(GError) error = NULL;
    assert_false(hosts_toml_parse(text, strlen(text), &file, &error));
    assert_string_equal(error->message, "line 8: a value is expected");
    assert_true(hosts_toml_parse(good, strlen(good), &file, NULL));
    assert_string_equal(file->server->url, "https://origin.example");
    assert_int_equal(file->hosts->len, 2);
    const struct hosts_entry *one = file->hosts->pdata[0], *two = file->hosts->pdata[1];
    assert_string_equal(one->url, "https://one.example:5000");
    assert_true(one->has_capabilities && one->can_pull && one->can_resolve && !one->can_push && one->skip_verify);
    assert_string_equal(one->authorities->pdata[0], "a.crt");
    assert_string_equal(one->certificates->pdata[0], "c.cert");
    assert_string_equal(one->keys->pdata[0], "c.key");
    assert_int_equal(one->dial_timeout_s, 2);
    assert_int_equal(two->headers->len, 2);
    assert_string_equal(two->headers->pdata[1], "X-A: 2");
    hosts_file_free(file);

    static const char *const bad[] = { "server = 1",  "server = \"x",    "[host.\"a\"]\ncapabilities = [\"fly\"]",
                                       "[host.\"a\"", "a = [[[[[1]]]]]", "[host.\"a\".header]\nX = \"a\\nb\"",
                                       "[[x]]",       "a = 1 2",         "= 1" };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_false(hosts_toml_parse(bad[i], strlen(bad[i]), &file, NULL));
}

static void test_credentials(void **state)
{
    struct registry_auth auth;
    assert_true(registry_auth_parse("eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InA_In0=", true, &auth, NULL));
    assert_string_equal(auth.username, "u");
    assert_string_equal(auth.password, "p?");
    registry_auth_clear(&auth);
    assert_true(registry_auth_parse("nonsense", false, &auth, NULL));
    assert_null(auth.username);
    assert_false(registry_auth_parse("nonsense", true, &auth, NULL));

    g_autoptr(json_t) hosts = json_loads(
        "{\"https://index.docker.io/v1/\":{\"auth\":\"aHViOnB3\"},\"https://r.example:5000/v2/\":{\"username\":\"r\"}}", 0, NULL);
    registry_auth_find(hosts, "docker.io", &auth);
    assert_string_equal(auth.username, "hub");
    assert_string_equal(auth.password, "pw");
    registry_auth_clear(&auth);
    registry_auth_find(hosts, "r.example:5000", &auth);
    assert_string_equal(auth.username, "r");
    registry_auth_clear(&auth);
    registry_auth_find(hosts, "r.example", &auth);
    assert_null(auth.username);
}

static void test_urls(void **state)
{
    static const struct {
        const char *url, *origin;
    } cases[] = { { "https://Example.com/v2/", "https://example.com:443" },
                  { "https://example.com:443", "https://example.com:443" },
                  { "http://example.com", "http://example.com:80" },
                  { "http://[::1]:5000/x", "http://[::1]:5000" },
                  { "nonsense://", "" } };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *origin = url_origin(cases[i].url);
        assert_string_equal(origin, cases[i].origin);
    }
    g_autofree char *relative = url_resolve("https://a:5000/v2/x/blobs/uploads/", "/v2/x/blobs/uploads/1?state=2");
    assert_string_equal(relative, "https://a:5000/v2/x/blobs/uploads/1?state=2");
}

static void test_settings(void **state)
{
    static const char *const mirrors[] = { "ftp://a", "https://", "https://a/?x=1", "https://u:p@a", NULL };
    for (const char *const *mirror = mirrors; *mirror; mirror++)
        assert_false(registry_check_mirror(*mirror, NULL));
    assert_true(registry_check_mirror("https://a:5000/path/", NULL));
    static const char *const hosts[] = { "http://a", "10.0.0.0/33", "a/b", "", NULL };
    for (const char *const *host = hosts; *host; host++)
        assert_false(registry_check_insecure(*host, NULL));
    assert_true(registry_check_insecure("10.0.0.0/8", NULL));
    assert_true(registry_check_insecure("fd00::/8", NULL));
    assert_true(registry_check_insecure("a.example:5000", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_challenges),  cmocka_unit_test(test_platforms), cmocka_unit_test(test_hosts_toml),
        cmocka_unit_test(test_credentials), cmocka_unit_test(test_urls),      cmocka_unit_test(test_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
