/* The bridge with real namespaces; needs root. Each run uses names of its own and takes everything away. */
#include "network/network-internal.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char bridge[16], table[32];
    struct network_manager *manager;
};

static int set_up(void **state)
{
    struct fixture *fixture = g_new0(struct fixture, 1);
    g_snprintf(fixture->bridge, sizeof fixture->bridge, "tt%u", (unsigned)getpid() % 1000000);
    g_snprintf(fixture->table, sizeof fixture->table, "tare_test_%u", (unsigned)getpid());
    struct network_options options = { .bridge = fixture->bridge, .table = fixture->table, .run_dir = "/tmp", .pool_size = 2 };
    g_autoptr(GError) error = NULL;
    if (!network_open(&options, &fixture->manager, &error))
        fail_msg("%s", error->message);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    network_close(fixture->manager, true);
    assert_int_equal(if_nametoindex(fixture->bridge), 0);
    g_free(fixture);
    return 0;
}

/* A child inside the namespace that answers one byte 'k' to whatever comes to the port, once; returns its pid after it listens.
 */
static pid_t start_server(int netns_fd, int type, guint16 port)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct sockaddr_in where = { .sin_family = AF_INET, .sin_port = htons(port) }, from;
        socklen_t length = sizeof from;
        char byte = 'k', got;
        alarm(20);
        if (setns(netns_fd, CLONE_NEWNET) < 0)
            _exit(10);
        int fd = socket(AF_INET, type, 0);
        if (bind(fd, (struct sockaddr *)&where, sizeof where) < 0 || (type == SOCK_STREAM && listen(fd, 4) < 0))
            _exit(11);
        close(ready[1]);
        if (type == SOCK_STREAM) {
            int client = accept(fd, NULL, NULL);
            _exit(client < 0 || write(client, &byte, 1) != 1);
        }
        _exit(recvfrom(fd, &got, 1, 0, (struct sockaddr *)&from, &length) != 1 ||
              sendto(fd, &byte, 1, 0, (struct sockaddr *)&from, length) != 1);
    }
    close(ready[1]);
    char end;
    assert_int_equal(read(ready[0], &end, 1), 0);
    close(ready[0]);
    return pid;
}

static bool asks(int netns_fd, int type, const char *address, guint16 port)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct sockaddr_in where = { .sin_family = AF_INET, .sin_port = htons(port) };
        char byte = '?';
        alarm(10);
        if (netns_fd >= 0 && setns(netns_fd, CLONE_NEWNET) < 0)
            _exit(10);
        inet_pton(AF_INET, address, &where.sin_addr);
        int fd = socket(AF_INET, type, 0);
        if (connect(fd, (struct sockaddr *)&where, sizeof where) < 0 || write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
            _exit(1);
        _exit(byte != 'k');
    }
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static struct network_endpoint *attach(struct fixture *fixture, const char *id, struct network_port *ports, size_t n_ports)
{
    struct network_request request = { .container_id = id, .ports = ports, .n_ports = n_ports };
    struct network_endpoint *endpoint = NULL;
    g_autoptr(GError) error = NULL;
    if (!network_attach(fixture->manager, id, &request, &endpoint, &error))
        fail_msg("%s", error->message);
    return endpoint;
}

static void serve_and_ask(struct network_endpoint *server, int from, int type, const char *address, guint16 host_port)
{
    pid_t pid = start_server(server->netns_fd, type, 80);
    bool ok = asks(from, type, address, host_port);
    if (!ok)
        kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    if (!ok)
        fail_msg("no answer at %s:%u (type %d, from %d, server %d)", address, host_port, type, from, server->netns_fd);
}

static void published_ports_answer_everywhere(void **state)
{
    struct fixture *fixture = *state;
    struct network_port ports[] = { { (char *)"", 0, 80, (char *)"tcp" },
                                    { (char *)"127.0.0.1", 0, 80, (char *)"tcp" },
                                    { (char *)"", 0, 80, (char *)"udp" } };
    struct network_endpoint *server = attach(fixture, "server", ports, 3), *other = attach(fixture, "other", NULL, 0);
    const struct network_port *bound = (const struct network_port *)server->ports->data;
    assert_true(bound[0].host_port > 0 && bound[1].host_port > 0 && bound[2].host_port > 0);
    serve_and_ask(server, -1, SOCK_STREAM, server->ip, 80);
    serve_and_ask(server, -1, SOCK_STREAM, "127.0.0.1", bound[0].host_port);
    serve_and_ask(server, -1, SOCK_STREAM, server->gateway, bound[0].host_port);
    serve_and_ask(server, -1, SOCK_STREAM, "127.0.0.1", bound[1].host_port);
    serve_and_ask(server, -1, SOCK_DGRAM, "127.0.0.1", bound[2].host_port);
    /* From a container to its host's published port, from another one and from the container itself. */
    serve_and_ask(server, other->netns_fd, SOCK_STREAM, server->gateway, bound[0].host_port);
    serve_and_ask(server, server->netns_fd, SOCK_STREAM, server->gateway, bound[0].host_port);
    serve_and_ask(server, other->netns_fd, SOCK_STREAM, server->ip, 80);
    /* A port on 127.0.0.1 is on no other address. */
    pid_t pid = start_server(server->netns_fd, SOCK_STREAM, 80);
    assert_false(asks(-1, SOCK_STREAM, server->gateway, bound[1].host_port));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    network_detach(fixture->manager, "server");
    network_detach(fixture->manager, "other");
    network_endpoint_free(server);
    network_endpoint_free(other);
}

static void a_port_is_taken_once(void **state)
{
    struct fixture *fixture = *state;
    struct network_port port = { (char *)"", 0, 80, (char *)"tcp" };
    struct network_endpoint *first = attach(fixture, "first", &port, 1), *second = NULL;
    port.host_port = g_array_index(first->ports, struct network_port, 0).host_port;
    struct network_request request = { .container_id = "second", .ports = &port, .n_ports = 1 };
    g_autoptr(GError) error = NULL;
    assert_false(network_attach(fixture->manager, "web", &request, &second, &error));
    g_autofree char *tail = g_strdup_printf("Bind for 0.0.0.0:%u failed: port is already allocated", port.host_port);
    assert_true(g_str_has_suffix(error->message, tail));
    assert_true(g_str_has_prefix(error->message, "driver failed programming external connectivity on endpoint web ("));
    /* Taken by a stranger: the port of a plain socket. */
    network_detach(fixture->manager, "first");
    network_endpoint_free(first);
    GArray *fds = g_array_new(FALSE, TRUE, sizeof(int));
    assert_true(port_reserve(&port, fds, NULL));
    g_clear_error(&error);
    assert_false(network_attach(fixture->manager, "web", &request, &second, &error));
    assert_non_null(strstr(error->message, "bind: address already in use"));
    for (guint i = 0; i < fds->len; i++)
        close(g_array_index(fds, int, i));
    g_array_unref(fds);
    second = attach(fixture, "second", &port, 1);
    network_detach(fixture->manager, "second");
    network_endpoint_free(second);
}

static void records_survive(void **state)
{
    struct fixture *fixture = *state;
    struct network_port port = { (char *)"", 0, 80, (char *)"tcp" };
    struct network_endpoint *endpoint = attach(fixture, "kept", &port, 1);
    g_autoptr(json_t) record = network_endpoint_to_json(endpoint);
    struct network_endpoint *again = network_endpoint_from_json(record);
    g_autoptr(json_t) second = network_endpoint_to_json(again);
    assert_true(json_equal(record, second));
    network_detach(fixture->manager, "kept");
    assert_true(network_restore(fixture->manager, "kept", again, NULL));
    serve_and_ask(endpoint, -1, SOCK_STREAM, "127.0.0.1", g_array_index(endpoint->ports, struct network_port, 0).host_port);
    const char *const none[] = { NULL };
    network_sweep(fixture->manager, none);
    network_endpoint_free(again);
    network_endpoint_free(endpoint);
}

static void addresses_go_round(void **state)
{
    struct address_pool *pool = NULL;
    assert_false(address_pool_new("10.0.0.0/33", &pool, NULL));
    assert_false(address_pool_new("10.0.0.0", &pool, NULL));
    assert_true(address_pool_new("10.9.8.0/29", &pool, NULL));
    guint32 first = address_pool_take(pool, NULL, NULL);
    assert_int_equal(ntohl(first), 0x0a090802);
    address_pool_give(pool, first);
    assert_int_equal(ntohl(address_pool_take(pool, NULL, NULL)), 0x0a090803);
    assert_int_equal(ntohl(address_pool_take(pool, "10.9.8.6", NULL)), 0x0a090806);
    assert_int_equal(address_pool_take(pool, "10.9.8.6", NULL), 0);
    assert_int_equal(address_pool_take(pool, "10.9.8.7", NULL), 0); /* broadcast */
    for (int i = 0; i < 3; i++)
        assert_true(address_pool_take(pool, NULL, NULL) != 0);
    assert_int_equal(address_pool_take(pool, NULL, NULL), 0);
    address_pool_free(pool);
}

static void files_are_generated(void **state)
{
    struct network_endpoint endpoint = { .ip = "172.17.0.2", .gateway = "172.17.0.1" };
    const char *const extra[] = { "db:10.0.0.9", "host:host-gateway", NULL };
    g_autofree char *hosts = network_hosts_file(&endpoint, "abc", "", extra);
    assert_non_null(strstr(hosts, "127.0.0.1\tlocalhost\n"));
    assert_non_null(strstr(hosts, "10.0.0.9\tdb\n172.17.0.1\thost\n172.17.0.2\tabc\n"));
    const char *const dns[] = { "192.0.2.53", NULL }, *const search[] = { "example.org", NULL };
    g_autofree char *resolv = network_resolv_conf(NULL, dns, search, NULL, false);
    assert_non_null(strstr(resolv, "nameserver 192.0.2.53\nsearch example.org\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_go_round),
        cmocka_unit_test(files_are_generated),
        cmocka_unit_test_setup_teardown(published_ports_answer_everywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_port_is_taken_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(records_survive, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
