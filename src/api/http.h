/* A blocking HTTP/1.1 server: a thread per connection, and an endpoint is a function that may read the body, answer and take the
 * connection over, in any order (RFC 9112). It knows nothing of containers: src/api/router.c gives it meaning.
 *
 * An exchange belongs to its connection's thread. Strings of the request live as long as the exchange. */
#pragma once

#include "base/cancel.h"
#include "base/json.h"
#include "base/stream.h"

#define HTTP_MAX_HEAD (256u << 10)  /* request line and headers together */
#define HTTP_MAX_TARGET (64u << 10) /* build requests carry their arguments in the URL */
#define HTTP_MAX_HEADERS 128
#define HTTP_MAX_JSON (4u << 20)

struct http_pair {
    char *name;
    char *value;
};

struct http_request {
    char *method;    /* "GET" */
    char *target;    /* as sent */
    char *path;      /* percent-decoded, without the query */
    GArray *query;   /* of struct http_pair, decoded, in order */
    GArray *headers; /* of struct http_pair */
    unsigned minor;  /* HTTP/1.minor */
    bool keep_alive; /* the client wants the connection to stay */
    bool has_body;
    bool chunked;
    bool expect_continue;
    bool upgrade;           /* "Connection: Upgrade" with "Upgrade: tcp" (or another protocol) */
    guint64 content_length; /* where has_body and not chunked */
};
/* First value of a header (any case), or NULL. */
const char *http_request_header(const struct http_request *request, const char *name);
/* First value of a query parameter, or NULL when it is absent. */
const char *http_request_query(const struct http_request *request, const char *name);
/* All values of it, NULL-terminated, borrowed strings; g_free the vector. */
const char **http_request_query_all(const struct http_request *request, const char *name);
void http_request_free(struct http_request *request);

/* ---- the incremental parser of one connection: pure, no fd ---- */
struct http_parser_state;
struct http_parser_state *http_parser_state_new(void);
void http_parser_state_free(struct http_parser_state *state);
/* Eats bytes of a request's head. Returns how many were eaten (fewer than length only when the head is done) or -1 and an error:
 * INVALID, TOO_LARGE, NOT_IMPLEMENTED. *ret_request is set when the head is done (the caller's); body bytes, if has_body, follow
 * by http_parser_state_body. */
gssize http_parser_state_head(struct http_parser_state *state, const char *data, gsize length, struct http_request **ret_request,
                              GError **error);
/* Decodes body bytes in place: *ret_body of them stand at data's start afterwards. Returns the bytes eaten; *ret_done at the
 * message's end. */
gssize http_parser_state_body(struct http_parser_state *state, char *data, gsize length, gsize *ret_body, bool *ret_done,
                              GError **error);

/* ---- an exchange: one request and its answer ---- */
struct http_exchange;
const struct http_request *http_exchange_request(const struct http_exchange *exchange);
/* The body as a stream; sends "100 Continue" at the first read when the client waits for it. */
struct byte_source *http_exchange_body(struct http_exchange *exchange);
/* The whole body, at most max bytes; NUL-terminated; g_free. */
bool http_exchange_read_body(struct http_exchange *exchange, gsize max, char **ret, gsize *ret_length, GError **error);
/* Set when the client goes away, or the server stops. */
/* A regular file that the client sent along with a request whose header X-Tare-File says what for ("output": its answer is
 * written there and not sent; "input": it is the body); -1 where there is none of that use. The caller's. */
int http_exchange_take_file(struct http_exchange *exchange, const char *use);
struct cancel *http_exchange_cancel(struct http_exchange *exchange);
/* A number that the log names the request by. */
guint64 http_exchange_number(const struct http_exchange *exchange);

/* A further header of the answer; before it begins. */
void http_exchange_header(struct http_exchange *exchange, const char *name, const char *value);
/* A whole answer. Errors of writing are remembered; nobody is left to tell them. */
void http_exchange_respond(struct http_exchange *exchange, int status, const char *content_type, const void *data, gsize length);
void http_exchange_respond_json(struct http_exchange *exchange, int status, const json_t *value);
void http_exchange_respond_empty(struct http_exchange *exchange, int status);
/* {"message": …} with the error's status. */
void http_exchange_respond_error(struct http_exchange *exchange, const GError *error);
/* An answer of unknown length: the header goes out at once, data by the sink (chunked, or until the connection ends for
 * HTTP/1.0). buffered: small writes are gathered until http_exchange_flush or the end. */
bool http_exchange_begin(struct http_exchange *exchange, int status, const char *content_type, bool buffered, GError **error);
struct byte_sink *http_exchange_sink(struct http_exchange *exchange);
bool http_exchange_flush(struct http_exchange *exchange, GError **error);
bool http_exchange_has_begun(const struct http_exchange *exchange);
/* Where an answer cannot be finished: the connection is cut, so that the client sees an incomplete answer and no false end. */
void http_exchange_abort(struct http_exchange *exchange);

/* Taking the connection over, in two steps, since a stream may have to be registered somewhere before the client hears that it
 * may go on. First a plain socket, the caller's to close: the connection itself, or, under TLS and where the client has already
 * sent more, one end of a pair that the connection's thread serves after the endpoint returned (the endpoint must not wait for
 * it). Without the second step the exchange is answered as usual. */
bool http_exchange_take_socket(struct http_exchange *exchange, int *ret_fd, GError **error);
/* Answers "101 UPGRADED", or 200 where the client did not ask for an upgrade; all further bytes are the socket's. */
bool http_exchange_upgrade(struct http_exchange *exchange, const char *content_type, GError **error);

/* ---- the server ---- */
typedef void (*http_handler)(struct http_exchange *exchange, void *user);

struct http_server;
struct http_server *http_server_new(http_handler handler, void *user);
/* Headers that every answer carries. Before the first listener. */
void http_server_header(struct http_server *server, const char *name, const char *value);
struct http_tls_options {
    const char *ca, *certificate, *key; /* PEM files */
    bool verify_clients;
};
bool http_server_use_tls(struct http_server *server, const struct http_tls_options *options, GError **error);
/* A listening socket (taken). tls: only where http_server_use_tls succeeded. */
void http_server_add_listener(struct http_server *server, int fd, bool tls);
/* Accepts until stop_fd is readable; then stops listening, cancels what runs, waits for the connections to end (10 s). *ret_idle:
 * all have; only then may the server be freed. */
bool http_server_run(struct http_server *server, int stop_fd, bool *ret_idle, GError **error);
/* Serves one connection in the calling thread (tests). */
void http_server_serve(struct http_server *server, int fd);
void http_server_free(struct http_server *server);
