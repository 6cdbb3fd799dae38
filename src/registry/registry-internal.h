/* Shared by the files of this directory only. */
#pragma once

#include "registry/registry.h"

#include "base/digest.h"

#include <curl/curl.h>

enum {
    REGISTRY_CONNECT_TIMEOUT_S = 30,
    REGISTRY_MAX_REDIRECTS = 10,
    REGISTRY_MAX_WAIT_S = 60, /* what a Retry-After may ask for */
    REGISTRY_MIN_SPEED = 64,  /* bytes a second, over the stall timeout: less is standing still */
};

/* ---- registry.c ---- */
struct registry {
    struct database *database;
    struct layer_store *layers;
    struct image_store *images;
    const struct event_sink *events;
    char *data_root;
    char **mirrors, **insecure, **config_paths;
    unsigned max_downloads, max_uploads, max_attempts, stall_timeout_s;
    GMutex lock;
    GHashTable *known_hosts; /* host → struct known_host *: what was found out about it */
    struct transfers *transfers;
};

/* ---- hosts.c: where a registry's name leads to ---- */
struct tls_settings {
    char *authorities;       /* PEM, beside the system's; or NULL */
    char *certificate, *key; /* files; or NULL */
    bool skip_verify;
};
void tls_settings_clear(struct tls_settings *tls);

enum auth_scheme { AUTH_NONE, AUTH_BASIC, AUTH_BEARER };
struct challenge {
    enum auth_scheme scheme;
    char *realm, *service, *scope, *problem;
};
void challenge_clear(struct challenge *challenge);
/* A WWW-Authenticate header, which may carry several: the best that we can do; AUTH_NONE where it has none of them. */
void challenge_parse(const char *header, struct challenge *ret);

struct endpoint {
    char *url;  /* "https://host:port", with a path where a mirror has one; no "/" at its end */
    char *host; /* "host" or "host:port" of it */
    bool is_mirror, is_plain;
    bool can_pull, can_push, can_resolve;
    bool exact_path;  /* requests go to url/<repository> instead of url/v2/<repository> */
    bool is_fallback; /* plain http of an insecure registry: only where https could not be spoken */
    char **headers;   /* "Name: value"; or NULL */
    unsigned dial_timeout_s;
    struct tls_settings tls;
    /* Under the session's lock: */
    struct challenge challenge;
    char *token;
    gint64 token_until; /* monotonic microseconds */
};
void endpoint_free(gpointer endpoint);
/* The endpoints of a registry, in the order in which they are tried; never empty. */
bool hosts_resolve(struct registry *registry, const char *domain, enum registry_access access, GPtrArray **ret, GError **error);
/* Files for a host that is no endpoint (a redirect's target, a token server). */
bool hosts_tls(struct registry *registry, const char *host, struct tls_settings *ret, GError **error);
bool hosts_is_insecure(struct registry *registry, const char *host);
/* An insecure registry spoke plain http: later sessions need not try the other. */
void hosts_note_plain(struct registry *registry, const char *host, bool plain);
bool hosts_is_plain(struct registry *registry, const char *host);

/* ---- hosts_toml.c: containerd's hosts.toml ---- */
struct hosts_entry {
    char *url;
    bool has_capabilities, can_pull, can_push, can_resolve;
    bool skip_verify, override_path;
    GPtrArray *authorities, *certificates, *keys; /* file names; certificates and keys in pairs */
    GPtrArray *headers;                           /* "Name: value" */
    gint64 dial_timeout_s;
};
struct hosts_file {
    struct hosts_entry *server; /* the table's own settings; its url may be NULL */
    GPtrArray *hosts;           /* of struct hosts_entry *, in the order of the file */
};
bool hosts_toml_parse(const char *text, gsize length, struct hosts_file **ret, GError **error);
void hosts_file_free(struct hosts_file *file);

/* ---- transport.c: one HTTP exchange ---- */
struct transport;
struct transport *transport_new(void);
void transport_free(struct transport *transport);
/* A name and port that both sides agree on: what must not change when credentials go along. "https://host:443" */
char *url_origin(const char *url);
char *url_host(const char *url); /* "host" or "host:port", as written */
char *url_resolve(const char *base, const char *target);

struct exchange {
    const char *method, *url;
    struct curl_slist *headers;
    const struct tls_settings *tls;
    const struct registry_request *request; /* body, range, sink, begin, max_body */
    struct registry_body *body;             /* or NULL, whatever the request has */
    bool keep_body;                         /* the answer's is for us, whatever the request wants */
    unsigned stall_timeout_s, dial_timeout_s;
    struct cancel *cancel;
};
enum exchange_result {
    EXCHANGE_ANSWERED,
    EXCHANGE_UNREACHABLE, /* nothing was sent that a server could have acted on: another endpoint may be tried */
    EXCHANGE_BROKEN,      /* lost on the way: may be tried again */
    EXCHANGE_FAILED,      /* ours, or for good */
};
enum exchange_result transport_exchange(struct transport *transport, const struct exchange *exchange,
                                        struct registry_response *ret, GError **error);

/* ---- session.c ---- */
struct registry_session {
    gint references;
    struct registry *registry;
    char *repository, *domain;
    struct registry_auth auth;
    enum registry_access access;
    struct cancel *cancel;
    GPtrArray *endpoints; /* of struct endpoint * */
    GMutex lock;
    GPtrArray *scopes; /* beside the repository's own */
    GMutex idle_lock;
    GQueue idle;         /* of struct transport * */
    char *refresh_token; /* that a login brought */
};
struct registry_session *session_ref(struct registry_session *session);
struct transport *session_take_transport(struct registry_session *session);
void session_give_transport(struct registry_session *session, struct transport *transport);
/* Sleeps; false where cancelled meanwhile. */
bool session_wait(struct cancel *cancel, gint64 us, GError **error);

/* ---- token.c ---- */
/* "Authorization: …" for a request to this endpoint, or NULL where nothing is known to be needed; g_free. */
bool token_header(struct registry_session *session, struct endpoint *endpoint, struct cancel *cancel, char **ret, GError **error);
/* After a 401: remembers the challenge and drops the token. False and an error where there is nothing to answer with. */
bool token_challenged(struct registry_session *session, struct endpoint *endpoint, const char *header, const char *used,
                      GError **error);
/* {"errors":[{"code","message"}]} as Docker words it: "denied: requested …"; NULL where the body is none. */
char *registry_error_text(const char *body, gsize length, char **ret_code);

/* ---- records.c ---- */
bool records_open(struct registry *registry, GError **error);
