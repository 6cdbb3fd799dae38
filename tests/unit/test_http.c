/* The HTTP server over socket pairs: what a client sends and sees, byte for byte where it matters. */
#include "api/api-internal.h"
#include "api/http.h"
#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- endpoints of a little server ---- */

static gint cancelled;
static gint early_done;

/* What a shim does with a connection that it was given. */
static gpointer serve_hijacked(gpointer data)
{
    g_autofd int fd = GPOINTER_TO_INT(data);
    char got[64];
    ssize_t n = read(fd, got, sizeof got);
    fd_write_full(fd, "got:", 4);
    fd_write_full(fd, got, (size_t)MAX(n, 0));
    return NULL;
}

static void handle(struct http_exchange *exchange, void *user)
{
    const char *path = http_exchange_request(exchange)->path;
    g_autoptr(GError) error = NULL;
    g_autofree char *body = NULL;
    gsize length = 0;
    if (strcmp(path, "/echo") == 0) {
        if (!http_exchange_read_body(exchange, 1 << 20, &body, &length, &error))
            http_exchange_respond_error(exchange, error);
        else
            http_exchange_respond(exchange, 200, "text/plain", body, length);
    } else if (strcmp(path, "/early") == 0) {
        http_exchange_respond(exchange, 400, "text/plain", "no", 2);
        g_atomic_int_set(&early_done, 1);
    } else if (strcmp(path, "/stream") == 0) {
        /* Answers each piece while the upload goes on. */
        char piece[64];
        gssize n;
        http_exchange_begin(exchange, 200, "text/plain", false, NULL);
        while ((n = source_read(http_exchange_body(exchange), piece, sizeof piece, NULL)) > 0)
            sink_write(http_exchange_sink(exchange), piece, (gsize)n, NULL);
    } else if (strcmp(path, "/hijack") == 0) {
        int fd;
        if (http_exchange_take_socket(exchange, &fd, &error) &&
            http_exchange_upgrade(exchange, "application/vnd.docker.raw-stream", &error))
            g_thread_unref(g_thread_new("shim", serve_hijacked, GINT_TO_POINTER(fd)));
    } else if (strcmp(path, "/wait") == 0) {
        if (cancel_poll(http_exchange_cancel(exchange), -1, 0, 5000, NULL) < 0)
            g_atomic_int_set(&cancelled, 1);
        http_exchange_respond(exchange, 200, "text/plain", "late", 4);
    } else {
        error_set(&error, TARE_ERROR_NOT_FOUND, "no such path: %s", path);
        http_exchange_respond_error(exchange, error);
    }
}

struct client {
    struct http_server *server;
    GThread *thread;
    int fd, theirs;
};

static gpointer serve(gpointer data)
{
    struct client *client = data;
    http_server_serve(client->server, client->theirs);
    return NULL;
}

static void client_open(struct client *client)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    client->server = http_server_new(handle, NULL);
    client->fd = pair[0];
    client->theirs = pair[1];
    client->thread = g_thread_new("server", serve, client);
}

static void client_send(struct client *client, const char *text)
{
    assert_int_equal(fd_write_full(client->fd, text, strlen(text)), 0);
}

/* Reads until needle stands in what was read; all of it until then. */
static char *client_read_until(struct client *client, const char *needle)
{
    GString *text = g_string_new(NULL);
    while (!strstr(text->str, needle)) {
        struct pollfd poll_fd = { .fd = client->fd, .events = POLLIN };
        char c;
        if (poll(&poll_fd, 1, 5000) <= 0 || read(client->fd, &c, 1) <= 0)
            fail_msg("expected \"%s\" after \"%s\"", needle, text->str);
        g_string_append_c(text, c);
    }
    return g_string_free(text, FALSE);
}

/* All until the end of the connection; closes. */
G_NO_INLINE static char *client_finish(struct client *client) /* inlined, gcc 12 takes the answer for a pointer to text */
{
    char *text = NULL;
    shutdown(client->fd, SHUT_WR);
    assert_true(fd_read_all(client->fd, 1 << 20, "answer", &text, NULL, NULL));
    close(client->fd);
    g_thread_join(client->thread);
    http_server_free(client->server);
    return text;
}

static void assert_contains(const char *text, const char *needle)
{
    if (!strstr(text, needle))
        fail_msg("\"%s\" is not in \"%s\"", needle, text);
}

static unsigned count(const char *text, const char *needle)
{
    unsigned n = 0;
    for (; (text = strstr(text, needle)); text += strlen(needle))
        n++;
    return n;
}

static char *talk(const char *request)
{
    struct client client;
    client_open(&client);
    client_send(&client, request);
    return client_finish(&client);
}

/* ---- requests and answers ---- */

/* Where part begins in text; -1 where it does not occur. */
static gssize position(const char *text, const char *part)
{
    const char *at = strstr(text, part);
    return at ? at - text : -1;
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    g_autofree char *answer =
        talk("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\noneGET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
             "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ntw\r\n1\r\no\r\n0\r\n\r\n");
    gssize one = position(answer, "one"), nowhere = position(answer, "{\"message\":\"no such path: /nowhere\"}"),
           two = position(answer, "two");
    assert_true(one >= 0 && one < nowhere && nowhere < two);
    assert_int_equal(count(answer, "HTTP/1.1 200 OK"), 2);
    assert_int_equal(count(answer, "HTTP/1.1 404 Not Found"), 1);
}

static void bytewise_request_is_read(void **state)
{
    static const char text[] =
        "POST /echo?x=%20y&z HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    struct client client;
    client_open(&client);
    for (const char *c = text; *c; c++) {
        assert_int_equal(fd_write_full(client.fd, c, 1), 0);
        g_usleep(100);
    }
    g_autofree char *answer = client_finish(&client);
    assert_contains(answer, "\r\n\r\nhello");
}

static void connection_close_is_heeded(void **state)
{
    g_autofree char *answer = talk("POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\na"
                                   "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nb");
    assert_int_equal(count(answer, "HTTP/1.1 200 OK"), 1);
    assert_contains(answer, "Connection: close\r\n");
}

static void ambiguous_framing_is_refused(void **state)
{
    static const char *const requests[] = {
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\na",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\na",
        "GET /echo HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET /echo HTTP/1.1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\rXa",
        "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /echo HTTP/2.0\r\nHost: x\r\n\r\n",
        "\x16\x03\x01\x02garbage\r\n\r\n",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(requests); i++) {
        g_autofree char *answer = talk(requests[i]);
        if (!g_str_has_prefix(answer, "HTTP/1.1 400 Bad Request\r\n") || count(answer, "HTTP/1.1") != 1)
            fail_msg("request %zu was answered by \"%s\"", i, answer);
    }
    g_autofree char *coding = talk("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n");
    assert_contains(coding, "HTTP/1.1 501 Not Implemented\r\n");
}

static void large_heads_are_refused(void **state)
{
    g_autofree char *filler = g_strnfill(HTTP_MAX_TARGET + 1, 'a');
    g_autofree char *target = g_strdup_printf("GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", filler);
    g_autofree char *answer = talk(target);
    assert_contains(answer, "HTTP/1.1 431 ");
    g_autoptr(GString) many = g_string_new("GET /echo HTTP/1.1\r\nHost: x\r\n");
    for (unsigned i = 0; i <= HTTP_MAX_HEADERS; i++)
        g_string_append_printf(many, "X-%u: y\r\n", i);
    g_string_append(many, "\r\n");
    g_autofree char *second = talk(many->str);
    assert_contains(second, "HTTP/1.1 431 ");
}

static void bodies_have_a_limit(void **state)
{
    g_autofree char *announced =
        talk("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1048577\r\n\r\n");
    assert_contains(announced, "HTTP/1.1 413 ");
    assert_int_equal(count(announced, "100 Continue"), 0);
    struct client client;
    client_open(&client);
    g_autofree char *filler = g_strnfill(65536, 'a');
    client_send(&client, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (unsigned i = 0; i < 17; i++) {
        client_send(&client, "10000\r\n");
        client_send(&client, filler);
        client_send(&client, "\r\n");
    }
    client_send(&client, "0\r\n\r\n");
    g_autofree char *answer = client_finish(&client);
    assert_contains(answer, "HTTP/1.1 413 ");
}

static void expectation_is_answered_at_the_first_read(void **state)
{
    struct client client;
    client_open(&client);
    client_send(&client, "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    g_autofree char *go = client_read_until(&client, "\r\n\r\n");
    assert_string_equal(go, "HTTP/1.1 100 Continue\r\n\r\n");
    client_send(&client, "ok");
    g_autofree char *answer = client_finish(&client);
    assert_contains(answer, "\r\n\r\nok");
}

static void early_answer_reaches_a_client_that_still_uploads(void **state)
{
    struct client client;
    g_atomic_int_set(&early_done, 0);
    client_open(&client);
    client_send(&client, "POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n");
    while (!g_atomic_int_get(&early_done))
        g_usleep(1000);
    /* More than fits into socket buffers: it must be taken off us, not reset. */
    g_autofree char *filler = g_strnfill(1 << 20, 'a');
    for (unsigned i = 0; i < 4; i++)
        client_send(&client, filler);
    g_autofree char *answer = client_finish(&client);
    assert_contains(answer, "HTTP/1.1 400 Bad Request\r\n");
    assert_contains(answer, "\r\n\r\nno");
}

static void answer_streams_during_the_upload(void **state)
{
    struct client client;
    client_open(&client);
    client_send(&client, "POST /stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
    g_autofree char *first = client_read_until(&client, "3\r\none\r\n");
    assert_contains(first, "Transfer-Encoding: chunked\r\n");
    client_send(&client, "3\r\ntwo\r\n0\r\n\r\n");
    g_autofree char *second = client_read_until(&client, "3\r\ntwo\r\n0\r\n\r\n");
    client_send(&client, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nz");
    g_autofree char *third = client_finish(&client);
    assert_contains(third, "\r\n\r\nz");
}

static void old_clients_get_unframed_streams(void **state)
{
    g_autofree char *answer = talk("POST /stream HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc");
    assert_int_equal(count(answer, "chunked"), 0);
    assert_contains(answer, "\r\n\r\nabc");
}

static void upgrade_gives_the_socket(void **state)
{
    struct client client;
    client_open(&client);
    client_send(&client,
                "POST /hijack HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}");
    g_autofree char *head = client_read_until(&client, "\r\n\r\n");
    assert_true(g_str_has_prefix(head, "HTTP/1.1 101 UPGRADED\r\n"));
    assert_contains(head, "Connection: Upgrade\r\nUpgrade: tcp\r\n");
    assert_contains(head, "Content-Type: application/vnd.docker.raw-stream\r\n");
    client_send(&client, "input");
    g_autofree char *answer = client_finish(&client);
    assert_string_equal(answer, "got:input");
}

static void bytes_sent_ahead_of_the_upgrade_arrive(void **state)
{
    g_autofree char *answer = talk("POST /hijack HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nahead");
    assert_true(g_str_has_prefix(answer, "HTTP/1.1 200 OK\r\n"));
    assert_contains(answer, "\r\n\r\ngot:ahead");
}

static void leaving_client_cancels(void **state)
{
    struct client client;
    g_atomic_int_set(&cancelled, 0);
    client_open(&client);
    client_send(&client, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
    g_usleep(20000);
    gint64 begun = g_get_monotonic_time();
    g_autofree char *answer = client_finish(&client);
    assert_int_equal(g_atomic_int_get(&cancelled), 1);
    assert_true(g_get_monotonic_time() - begun < 3 * G_TIME_SPAN_SECOND);
}

static void truncated_upload_is_an_error(void **state)
{
    g_autofree char *answer = talk("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    assert_contains(answer, "HTTP/1.1 400 Bad Request\r\n");
    assert_contains(answer, "{\"message\":\"unexpected EOF\"}");
}

/* ---- the router's pure parts ---- */

static void patterns_match(void **state)
{
    static const struct {
        const char *pattern, *path, *name; /* name NULL: no match */
    } cases[] = {
        { "/containers/{name}/json", "/containers/abc/json", "abc" },
        { "/containers/{name}/json", "/containers/a/b/json", NULL },
        { "/containers/{name}/json", "/containers//json", NULL },
        { "/images/{name*}/json", "/images/localhost:5000/a/b:c/json", "localhost:5000/a/b:c" },
        { "/images/{name*}/json", "/images/json", NULL },
        { "/images/{name*}", "/images/a/b", "a/b" },
        { "/images/{name*}", "/images/", NULL },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *name = NULL;
        bool matched = api_route_match(cases[i].pattern, cases[i].path, &name);
        assert_int_equal(matched, cases[i].name != NULL);
        if (matched)
            assert_string_equal(name, cases[i].name);
    }
}

static void versions_are_checked(void **state)
{
    unsigned version;
    const char *rest;
    g_autoptr(GError) error = NULL;
    assert_true(api_path_version("/v1.41/info", &version, &rest, NULL));
    assert_int_equal(version, 41);
    assert_string_equal(rest, "/info");
    assert_true(api_path_version("/version", &version, &rest, NULL));
    assert_int_equal(version, ENGINE_API_VERSION);
    assert_string_equal(rest, "/version");
    assert_false(api_path_version("/v1.99/info", &version, &rest, &error));
    assert_string_equal(error->message, "client version 1.99 is too new. Maximum supported API version is 1.51");
    g_clear_error(&error);
    assert_false(api_path_version("/v1.12/info", &version, &rest, &error));
    assert_string_equal(
        error->message,
        "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version");
    g_clear_error(&error);
    assert_false(api_path_version("/v2.0/info", &version, &rest, NULL));
    assert_false(api_path_version("/v1.99999999999999999999/info", &version, &rest, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(bytewise_request_is_read),
        cmocka_unit_test(connection_close_is_heeded),
        cmocka_unit_test(ambiguous_framing_is_refused),
        cmocka_unit_test(large_heads_are_refused),
        cmocka_unit_test(bodies_have_a_limit),
        cmocka_unit_test(expectation_is_answered_at_the_first_read),
        cmocka_unit_test(early_answer_reaches_a_client_that_still_uploads),
        cmocka_unit_test(answer_streams_during_the_upload),
        cmocka_unit_test(old_clients_get_unframed_streams),
        cmocka_unit_test(upgrade_gives_the_socket),
        cmocka_unit_test(bytes_sent_ahead_of_the_upgrade_arrive),
        cmocka_unit_test(leaving_client_cancels),
        cmocka_unit_test(truncated_upload_is_an_error),
        cmocka_unit_test(patterns_match),
        cmocka_unit_test(versions_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
