/* base/proxy and base/cidr. */
#include "base/cidr.h"
#include "base/proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_networks(void **state)
{
    static const struct {
        const char *cidr, *address;
        bool has;
    } cases[] = {
        { "10.0.0.0/8", "10.255.0.1", true }, { "10.0.0.0/8", "11.0.0.1", false },   { "10.1.0.0/15", "10.0.9.9", true },
        { "0.0.0.0/0", "1.2.3.4", true },     { "0.0.0.0/0", "2001:db8::1", false }, { "::/0", "2001:db8::1", true },
        { "fd00::/8", "fdff::1", true },      { "fd00::/8", "fe00::1", false },      { "1.2.3.4/32", "1.2.3.4", true },
        { "10.0.0.0/33", "10.0.0.1", false }, { "10.0.0.0/129", "10.0.0.1", false }, { "10.0.0.0", "10.0.0.0", false },
        { "10.0.0.0/x", "10.0.0.1", false },  { "127.0.0.0/8", "127.1.2.3", true },  { "::ffff:10.0.0.0/104", "10.9.9.9", true },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        guint8 address[16];
        assert_true(address_parse(cases[i].address, address));
        assert_int_equal(cidr_has(cases[i].cidr, address), cases[i].has);
    }
}

static void test_exceptions(void **state)
{
    static const struct {
        const char *except, *host;
        unsigned port;
        bool is_used;
    } cases[] = {
        { NULL, "example.com", 443, true },
        { "", "localhost", 443, false },
        { "", "LOCALHOST", 443, false },
        { "", "127.9.9.9", 443, false },
        { "", "::1", 443, false },
        { "example.com", "example.com", 443, false },
        { "EXAMPLE.com", "Example.COM", 443, false },
        { "example.com", "www.example.com", 443, false },
        { "example.com", "badexample.com", 443, true },
        { ".example.com", "example.com", 443, true },
        { ".example.com", "a.b.example.com", 443, false },
        { "*.example.com", "a.example.com", 443, false },
        { "*.example.com", "example.com", 443, true },
        { "example.com:80", "example.com", 443, true },
        { "example.com:443", "example.com", 443, false },
        { " a , example.com ,b", "example.com", 443, false },
        { "*", "example.com", 443, false },
        { "10.0.0.0/8", "10.1.2.3", 443, false },
        { "10.0.0.0/8", "ten.example.com", 443, true },
        { "10.1.2.3", "10.1.2.3", 443, false },
        { "10.1.2.3:80", "10.1.2.3", 443, true },
        { "[2001:db8::1]:443", "2001:db8::1", 443, false },
        { "[2001:db8::1]", "2001:db8::1", 443, false },
        { "2001:db8::1", "2001:db8:0::1", 443, false },
        { ":443,,", "example.com", 443, true },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const struct proxy_settings settings = { .https = "http://p:1", .except = cases[i].except };
        assert_int_equal(proxy_choose(&settings, "https", cases[i].host, cases[i].port) != NULL, cases[i].is_used);
    }
    const struct proxy_settings both = { .http = "http://a", .https = "http://b" }, plain = { .http = "http://a" };
    assert_string_equal(proxy_choose(&both, "http", "x", 80), "http://a");
    assert_string_equal(proxy_choose(&both, "https", "x", 443), "http://b");
    assert_null(proxy_choose(&plain, "https", "x", 443));
}

static void test_words(void **state)
{
    static const char *const masked[][2] = {
        { "http://u:p@h:1/x", "http://xxxxx:xxxxx@h:1/x" },
        { "u@h", "xxxxx:xxxxx@h" },
        { "http://h/a@b", "http://h/a@b" },
        { "http://u:p@x@h", "http://xxxxx:xxxxx@h" },
        { "", "" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(masked); i++) {
        g_autofree char *text = proxy_masked(masked[i][0]);
        assert_string_equal(text, masked[i][1]);
    }
    static const char *const good[] = { "http://h", "https://u:p@h:1", "socks5://h", "h:3128", "SOCKS5H://h" }, *const bad[] = {
        "ftp://h", "http://", "http://u@", ":3128", "http://a b"
    };
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
        assert_true(proxy_check(good[i], NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_false(proxy_check(bad[i], NULL));
}

static void test_environment(void **state)
{
    static const char *const names[] = { "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy" };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        g_unsetenv(names[i]);
    g_setenv("http_proxy", "http://small", TRUE);
    assert_string_equal(proxy_for_url("http://example.com/x"), "http://small");
    g_setenv("HTTP_PROXY", "http://large", TRUE);
    assert_string_equal(proxy_for_url("http://example.com/x"), "http://large");
    assert_null(proxy_for_url("https://example.com/x"));
    proxy_export(&(struct proxy_settings){ .https = "http://given", .except = "example.org" });
    assert_string_equal(g_getenv("http_proxy"), "http://large");
    assert_string_equal(g_getenv("https_proxy"), "http://given");
    assert_string_equal(g_getenv("HTTPS_PROXY"), "http://given");
    assert_null(proxy_for_url("https://user@example.org:8443/x?y"));
    assert_string_equal(proxy_for_url("https://example.com"), "http://given");
    assert_null(proxy_for_url("http://[::1]:80/"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_exceptions),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
