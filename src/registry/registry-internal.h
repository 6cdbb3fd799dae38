/* Shared by the files of this directory only. */
#pragma once

#include "registry/registry.h"

#include "base/digest.h"
#include "layer/encode.h"

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
    int downloads; /* the directory of partial blobs */
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
    bool exact_path;     /* requests go to url/<repository> instead of url/v2/<repository> */
    bool names_registry; /* a mirror for several: told which one is meant ("?ns=docker.io") */
    bool is_fallback;    /* plain http of an insecure registry: only where https could not be spoken */
    char **headers;      /* "Name: value"; or NULL */
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
/* As for a registry that the engine's settings call insecure. */
void session_allow_insecure(struct registry_session *session);
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
char *url_host(const char *url);                                 /* "host" or "host:port", as written */
char *url_part(const char *url, CURLUPart part, unsigned flags); /* NULL where it has none; g_free */
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
    EXCHANGE_STOPPED,     /* by the sink: it wants no more, from nobody */
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
/* Where an answer's Location leads, for the next request; never from TLS to plain text. */
char *session_location(const struct registry_session *session, const char *base, const char *location, GError **error);
/* What went wrong with it names its host and repository, whoever found the words. */
void session_name_error(const struct registry_session *session, GError **error);
/* As dockerd has it: clients that see a 401 ask for a password at once, which is of no use where nothing is at hand to ask. */
void soften_unauthorized(GError **error);
const char *http_status_name(int status); /* "Not Found"; "" where we know none */
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

/* ---- upload.c: one blob to a registry ---- */
/* Bytes that can be had again: after a broken connection they are asked for anew. */
struct upload_content {
    /* From the beginning; *ret is valid until the next call. */
    bool (*open)(struct upload_content *self, struct byte_source **ret, GError **error);
};
struct upload {
    struct registry_session *session;
    struct upload_content *content;
    const char *digest; /* what it has to be, or NULL: then it is what it turns out to be */
    guint64 size;       /* with digest */
    /* Where a refused mount has begun one already, or NULL. */
    const char *location;
    void (*progress)(void *user, guint64 sent); /* may be NULL */
    void (*retrying)(void *user, unsigned seconds);
    void *user;
};
bool upload_blob(const struct upload *upload, char ret_digest[DIGEST_ROOM], guint64 *ret_size, GError **error);
/* HEAD. */
bool upload_exists(struct registry_session *session, const char *digest, bool *ret, guint64 *ret_size, GError **error);
/* Takes a blob over from another repository of the same registry. Where that is refused: false in *ret_mounted, and maybe an
 * upload that has begun instead in *ret_location (g_free). */
bool upload_mount(struct registry_session *session, const char *digest, const char *from, bool *ret_mounted, char **ret_location,
                  GError **error);
/* A small one, from memory, where it is not there yet. */
bool upload_text(struct registry_session *session, const char *digest, const char *text, gsize length, GError **error);

/* PUT manifests/NAME, and that the registry has understood the same. */
bool upload_manifest(struct registry_session *session, const char *name, const char *media_type, const char *text, gsize length,
                     char ret_digest[DIGEST_ROOM], GError **error);
/* From one repository to another, through us. */
bool upload_through(struct registry_session *from, struct registry_session *to, const char *digest, guint64 size,
                    const char *location, GError **error);

/* ---- push_layer.c: one layer of a push, in a thread of its own ---- */
enum push_phase {
    PUSH_PREPARING,
    PUSH_WAITING, /* for a place among those that are sent */
    PUSH_ASKING,  /* whether it is there */
    PUSH_SENDING,
    PUSH_RETRYING,
    PUSH_EXISTS,
    PUSH_MOUNTED,
    PUSH_PUSHED,
    PUSH_FAILED,
};
struct push {
    struct registry *registry;
    struct registry_session *session;
    struct layer_encoder_pool *encoders;
    enum layer_encoding encoding;
    const struct registry_auth *auth;
    const json_t *auths;
    struct cancel *cancel; /* of the whole push: set when a layer fails or the client has gone */
    char *repository;      /* "localhost:5000/app" */
    GMutex lock;           /* what follows, and what the layers say says */
    GCond changed;
    unsigned n_sending;
    GHashTable *layers; /* diff id → struct push_layer *: layers are the same for all tags */
};
struct push_layer {
    struct push *push;
    GThread *thread;
    struct layer_info info;
    /* The blob of the manifest that is kept, if there is one: sent as it is, if it can be had. */
    bool has_wanted;
    struct registry_blob wanted;
    /* Under the push's lock: */
    enum push_phase phase;
    guint64 current, total; /* while it is sent */
    unsigned retry_seconds;
    char *mounted_from;
    struct cancel *fetch_cancel; /* of what is being fetched from elsewhere; or NULL */
    /* What the registry has in the end. */
    char digest[DIGEST_ROOM];
    guint64 size;
    char *media_type;
    GError *error;
    /* The caller's: what has been told. */
    enum push_phase shown_phase;
    guint64 shown_current;
    unsigned shown_seconds;
};
struct push_layer *push_layer_new(struct push *push, const struct layer_info *info, const struct registry_blob *wanted);
void push_layer_free(gpointer layer); /* waits for its thread */

/* How a layer's being sent is told. */
void push_layer_show(struct push_layer *layer, guint64 current, guint64 total);
void push_layer_show_retrying(struct push_layer *layer, unsigned seconds);

/* ---- push_source.c: a blob from the repository that a layer was pulled from ---- */
/* Sends the wanted blob; false in *ret_done where no repository that is known to have it gives it. */
bool push_from_source(struct push_layer *layer, const GPtrArray *blobs, const char *location, bool *ret_done, GError **error);

/* ---- push_manifest.c: what a push ends with. Pure. ---- */
/* The blobs of a manifest's layers, lowest first, if it has as many as that; of struct registry_blob (g_free), digest, size and
 * media_type borrowed from the manifest. */
struct registry_blob *manifest_blobs(const struct registry_manifest *manifest, size_t n_layers);
/* A manifest of our own: Docker's schema 2, or OCI's where a layer needs that. */
char *manifest_text(const char *config_digest, gsize config_length, const struct push_layer *const *layers, size_t n_layers,
                    const char **ret_media_type);

/* ---- records.c ---- */
bool records_open(struct registry *registry, GError **error);
/* A layer that is brought stays for the next pull, should this one come to nothing: until an image has it, or for so long. */
bool records_expect_layer(struct registry *registry, const char *diff_id, GError **error);
char *records_layer_holder(const char *diff_id);
void records_expire_layers(struct registry *registry, gint64 life_s);
/* A pull has come to its end: where its layers are from, and nobody but the image needs to hold them. */
struct records_layer {
    const char *diff_id, *digest, *media_type;
    guint64 size;
};
bool records_note_pull(struct registry *registry, const struct records_layer *layers, size_t n_layers, const char *repository,
                       const char *holder, GError **error);

/* ---- fetch.c: the bytes of one blob ---- */
struct fetch;
struct fetch_options {
    struct registry_session *session;
    const char *digest;
    guint64 size;
    int directory;         /* where unfinished blobs lie */
    unsigned max_attempts; /* in vain, one after another */
    bool fresh;            /* nothing that is there is to be trusted */
    bool origin_only;
    struct cancel *cancel; /* of this fetch alone: fetch_finish sets it */
    void (*retrying)(void *user, unsigned seconds);
    void *user;
};
bool fetch_start(const struct fetch_options *options, struct fetch **ret, GError **error);
struct byte_source *fetch_source(struct fetch *fetch);
guint64 fetch_have(struct fetch *fetch);
guint64 fetch_reused(const struct fetch *fetch); /* bytes that an earlier fetch had left */
/* Ends it. keep: what came stays for the next one. */
void fetch_finish(struct fetch *fetch, bool keep);

/* ---- transfer.c: layers on their way into the store, each once however many pulls want it ---- */
enum transfer_phase {
    TRANSFER_QUEUED,
    TRANSFER_WAITING, /* for others to finish */
    TRANSFER_DOWNLOADING,
    TRANSFER_RETRYING,
    TRANSFER_EXTRACTING, /* all bytes are here */
    TRANSFER_DONE,
    TRANSFER_FAILED,
};
struct transfer_status {
    enum transfer_phase phase;
    guint64 fetched, decoded; /* bytes of the blob */
    unsigned retry_seconds;
};
struct transfer_layer {
    const char *diff_id, *digest;
    guint64 size;
};
struct transfer;
bool transfers_open(struct registry *registry, GError **error);
/* Cancels all, and waits for them. */
void transfers_close(struct registry *registry);
/* Joins the one that brings this layer, or starts it. */
bool transfer_join(struct registry_session *session, const struct transfer_layer *layer, struct transfer **ret, GError **error);
/* The last one that leaves ends it. */
void transfer_leave(struct transfer *transfer);
/* Whoever joined first: the others try for themselves where it fails. */
bool transfer_is_own(const struct transfer *transfer, const struct registry_session *session);
void transfer_get_status(struct transfer *transfer, struct transfer_status *ret);
/* Of a finished one: the layer, or the error. */
bool transfer_result(struct transfer *transfer, struct layer_info *ret, GError **error);
/* Waits until something of any transfer has changed, or so long. */
void transfers_wait(struct registry *registry, gint64 us);
/* Removes what nobody came back for. */
void transfers_expire(struct registry *registry);

/* ---- config.c: what a manifest names ---- */
#define REGISTRY_MAX_LAYERS 127
#define REGISTRY_CONFIG_MAX (8u << 20)
struct descriptor {
    const char *digest, *media_type; /* the manifest's */
    guint64 size;
};
bool descriptor_parse(const json_t *object, guint64 max, struct descriptor *ret, GError **error);
bool manifest_layers(const struct registry_manifest *manifest, struct descriptor **ret, size_t *ret_n,
                     GError **error); /* g_free */
bool manifest_config(const struct registry_manifest *manifest, struct descriptor *ret, GError **error);
bool config_parse(const char *text, gsize length, size_t n_layers, json_t **ret, char ***ret_diff_ids, GError **error);
/* Verified. */
bool config_fetch(struct registry_session *session, const struct descriptor *descriptor, char **ret, gsize *ret_length,
                  GError **error);

/* ---- progress.c ---- */
json_t *progress_status(const char *id, const char *status);
json_t *progress_layer(const char *id, const char *status);
json_t *progress_bytes(const char *id, const char *status, guint64 current, guint64 total);
