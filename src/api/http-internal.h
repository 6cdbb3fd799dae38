/* What the files of the HTTP server share. */
#pragma once

#include "api/http.h"
#include "base/fd.h"

#include <openssl/ssl.h>

#define HTTP_HEAD_TIMEOUT_MS 30000  /* from a request's first byte to its head's end */
#define HTTP_IDLE_TIMEOUT_MS 300000 /* between requests */
#define HTTP_LINGER_MS 10000        /* how long unread uploads are taken off a client that has its answer */
#define HTTP_MAX_CONNECTIONS 4096
#define HTTP_INPUT_ROOM 65536

/* ---- transport: the bytes of a connection, plain or TLS ---- */
struct http_transport {
    int fd;
    SSL *tls;   /* NULL: plain. Then fd is non-blocking. */
    int passed; /* the last fd that a client on a unix socket sent along, or -1 */
};
/* Bytes, 0 at the end, -1 with errno (EAGAIN after timeout_ms, which -1 makes endless). */
gssize http_transport_read(struct http_transport *transport, void *buffer, gsize length, int timeout_ms);
/* 0, or -1 with errno. */
int http_transport_write(struct http_transport *transport, const void *data, gsize length);
/* The server's half of a TLS handshake; false with errno on failure. */
bool http_transport_accept_tls(struct http_transport *transport, SSL_CTX *context, int timeout_ms);
/* Copies both ways between the transport and a plain socket until both directions ended. prefix: bytes of the client that were
 * read before. */
void http_transport_pump(struct http_transport *transport, int socket, const void *prefix, gsize prefix_length);

/* ---- watcher: tells when a client goes away while its request is being served ---- */
struct http_watcher;
struct http_watcher *http_watcher_new(void);
void http_watcher_free(struct http_watcher *watcher);
struct http_watch;
/* Triggers cancel when the peer closed, or half-closed while body_done is set. */
struct http_watch *http_watcher_add(struct http_watcher *watcher, int fd, struct cancel *cancel, bool body_done);
/* The request's body has been read whole: from now on a half-closed connection is a gone client, unless it was half-closed
 * before. */
void http_watch_body_done(struct http_watch *watch);
void http_watcher_remove(struct http_watcher *watcher, struct http_watch *watch);

/* ---- connection ---- */
struct http_connection {
    struct http_server *server;
    struct http_transport transport;
    struct http_parser_state *parser;
    char input[HTTP_INPUT_ROOM]; /* received and not yet eaten: [input_at, input_end) */
    gsize input_at, input_end;
    bool broken;     /* writing failed or the answer is incomplete: nothing more can be sent */
    int hijack_pair; /* our end of the pair that a hijacked exchange got, or -1 */
    bool hijacked;
};

struct http_sink {
    struct byte_sink sink;
    struct http_exchange *exchange;
};
struct http_body {
    struct byte_source source;
    struct http_exchange *exchange;
};

struct http_exchange {
    struct http_connection *connection;
    struct http_request *request;
    struct cancel *cancel;
    struct http_watch *watch;
    guint64 number;
    struct http_body body;
    bool body_done, continue_sent;
    int read_timeout_ms;
    GError *body_error; /* a broken body stays broken */
    struct http_sink sink;
    GString *headers; /* further ones of the answer */
    GByteArray *gathered;
    bool begun, finished, chunked, buffered, keep_alive, without_content;
    int status;
};

struct http_server {
    http_handler handler;
    void *user;
    GString *headers;
    SSL_CTX *tls;
    struct http_watcher *watcher;
    GArray *listeners; /* of struct http_listener */
    GMutex lock;
    GCond idle;
    GHashTable *connections; /* set of struct http_connection * */
    GHashTable *exchanges;   /* set of struct http_exchange *, running */
    guint n_threads;
    bool stopping;
    guint64 next_number;
};
struct http_listener {
    int fd;
    bool tls;
};

/* http_exchange.c */
struct http_exchange *http_exchange_new(struct http_connection *connection, struct http_request *request);
void http_exchange_free(struct http_exchange *exchange);
/* Ends the answer; false where the connection cannot serve another request. */
bool http_exchange_finish(struct http_exchange *exchange);
/* http_connection.c: serves until the connection ends; closes the transport. */
void http_connection_serve(struct http_server *server, int fd, bool tls);
