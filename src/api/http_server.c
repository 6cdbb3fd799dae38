/* Listeners, threads, and the end. */
#include "api/http-internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

enum { GRACE_S = 2, STOP_WAIT_S = 8 };

struct http_server *http_server_new(http_handler handler, void *user)
{
    struct http_server *server = g_new0(struct http_server, 1);
    server->handler = handler;
    server->user = user;
    server->headers = g_string_new(NULL);
    server->watcher = http_watcher_new();
    server->listeners = g_array_new(FALSE, FALSE, sizeof(struct http_listener));
    server->connections = g_hash_table_new(g_direct_hash, g_direct_equal);
    server->exchanges = g_hash_table_new(g_direct_hash, g_direct_equal);
    g_mutex_init(&server->lock);
    g_cond_init(&server->idle);
    return server;
}

void http_server_header(struct http_server *server, const char *name, const char *value)
{
    g_string_append_printf(server->headers, "%s: %s\r\n", name, value);
}

static bool set_tls_error(GError **error, const char *what)
{
    char text[256];
    ERR_error_string_n(ERR_peek_last_error(), text, sizeof text);
    ERR_clear_error();
    return error_set(error, TARE_ERROR_INVALID, "%s: %s", what, text);
}

bool http_server_use_tls(struct http_server *server, const struct http_tls_options *options, GError **error)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
    bool ok = true;
    if (SSL_CTX_use_certificate_chain_file(context, options->certificate) != 1)
        ok = set_tls_error(error, options->certificate);
    else if (SSL_CTX_use_PrivateKey_file(context, options->key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(context) != 1)
        ok = set_tls_error(error, options->key);
    else if (options->verify_clients && SSL_CTX_load_verify_locations(context, options->ca, NULL) != 1)
        ok = set_tls_error(error, options->ca);
    if (!ok) {
        SSL_CTX_free(context);
        return false;
    }
    if (options->verify_clients)
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    server->tls = context;
    return true;
}

void http_server_add_listener(struct http_server *server, int fd, bool tls)
{
    struct http_listener listener = { fd, tls };
    fd_set_nonblocking(fd, true);
    g_array_append_val(server->listeners, listener);
}

struct start {
    struct http_server *server;
    int fd;
    bool tls;
};

static void *connection_thread(void *data)
{
    struct start *start = data;
    struct http_server *server = start->server;
    http_connection_serve(server, start->fd, start->tls);
    g_free(start);
    g_mutex_lock(&server->lock);
    if (--server->n_threads == 0)
        g_cond_broadcast(&server->idle);
    g_mutex_unlock(&server->lock);
    return NULL;
}

static void accept_one(struct http_server *server, const struct http_listener *listener)
{
    int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        /* Without a free descriptor the listener stays readable: give those that run time to end instead of spinning. */
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
            g_usleep(50000);
        return;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* fails on unix sockets, where it means nothing */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    struct start *start = g_new(struct start, 1);
    *start = (struct start){ server, fd, listener->tls };
    g_mutex_lock(&server->lock);
    bool full = server->n_threads >= HTTP_MAX_CONNECTIONS;
    server->n_threads += !full;
    g_mutex_unlock(&server->lock);
    pthread_t thread;
    if (!full && pthread_create(&thread, NULL, connection_thread, start) == 0) {
        pthread_detach(thread);
        return;
    }
    if (!full) {
        g_mutex_lock(&server->lock);
        server->n_threads--;
        g_mutex_unlock(&server->lock);
    }
    static const char text[] = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    if (!listener->tls)
        (void)send(fd, text, sizeof text - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    fd_close(fd);
    g_free(start);
}

static void close_listeners(struct http_server *server)
{
    for (guint i = 0; i < server->listeners->len; i++)
        fd_close(g_array_index(server->listeners, struct http_listener, i).fd);
    g_array_set_size(server->listeners, 0);
}

/* Lock held. Sessions that were taken over are left alone: shims serve them, except those that only we can carry on. */
static void shut_connections(struct http_server *server, int how)
{
    GHashTableIter iter;
    gpointer item;
    g_hash_table_iter_init(&iter, server->connections);
    while (g_hash_table_iter_next(&iter, &item, NULL)) {
        struct http_connection *connection = item;
        if (connection->hijacked && connection->hijack_pair >= 0)
            shutdown(connection->hijack_pair, SHUT_RDWR);
        else if (!connection->hijacked)
            shutdown(connection->transport.fd, how);
    }
}

/* Lock held. True when no thread is left. */
static bool wait_for_threads(struct http_server *server, gint64 seconds)
{
    gint64 deadline = g_get_monotonic_time() + seconds * G_TIME_SPAN_SECOND;
    while (server->n_threads > 0)
        if (!g_cond_wait_until(&server->idle, &server->lock, deadline))
            break;
    return server->n_threads == 0;
}

/* Running requests are cancelled and readers woken by the end of their connection's input, so that answers still go out whole;
 * then what waits for a client that does not read is cut. */
static bool stop_connections(struct http_server *server)
{
    GHashTableIter iter;
    gpointer item;
    g_mutex_lock(&server->lock);
    server->stopping = true;
    g_hash_table_iter_init(&iter, server->exchanges);
    while (g_hash_table_iter_next(&iter, &item, NULL))
        cancel_trigger(((struct http_exchange *)item)->cancel);
    shut_connections(server, SHUT_RD);
    bool idle = wait_for_threads(server, GRACE_S);
    if (!idle) {
        shut_connections(server, SHUT_RDWR);
        idle = wait_for_threads(server, STOP_WAIT_S);
    }
    g_mutex_unlock(&server->lock);
    return idle;
}

bool http_server_run(struct http_server *server, int stop_fd, bool *ret_idle, GError **error)
{
    guint n = server->listeners->len;
    g_autofree struct pollfd *fds = g_new0(struct pollfd, n + 1);
    for (guint i = 0; i < n; i++)
        fds[i] = (struct pollfd){ .fd = g_array_index(server->listeners, struct http_listener, i).fd, .events = POLLIN };
    fds[n] = (struct pollfd){ .fd = stop_fd, .events = POLLIN };
    bool ok = true;
    while (ok && !fds[n].revents) {
        if (poll(fds, n + 1, -1) < 0) {
            if (errno != EINTR)
                ok = error_set_errno(error, errno, "poll");
            continue;
        }
        for (guint i = 0; i < n; i++)
            if (fds[i].revents)
                accept_one(server, &g_array_index(server->listeners, struct http_listener, i));
    }
    close_listeners(server);
    *ret_idle = stop_connections(server);
    return ok;
}

void http_server_serve(struct http_server *server, int fd)
{
    http_connection_serve(server, fd, false);
}

void http_server_free(struct http_server *server)
{
    if (!server)
        return;
    close_listeners(server);
    http_watcher_free(server->watcher);
    if (server->tls)
        SSL_CTX_free(server->tls);
    g_hash_table_unref(server->connections);
    g_hash_table_unref(server->exchanges);
    g_array_unref(server->listeners);
    g_string_free(server->headers, TRUE);
    g_cond_clear(&server->idle);
    g_mutex_clear(&server->lock);
    g_free(server);
}
