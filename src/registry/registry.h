/* Registries: the OCI distribution protocol (and Docker's schema 2), from credentials to whole images. Thread-safe.
 *
 * Three levels: a `struct registry` is what an engine has (settings, certificates, partial downloads, what is known of blobs); a
 * `struct registry_session` is one client's conversation about one repository (credentials, tokens, endpoints, cancellation);
 * registry_request is one request within it, with everything that the protocol asks for on the way: mirrors, the choice between
 * https and http, tokens and their renewal, redirects, 429, retries.
 *
 * Errors name host and repository. A cancelled session's functions return TARE_ERROR_CANCELLED at once. */
#pragma once

#include "base/cancel.h"
#include "base/database.h"
#include "base/event.h"
#include "base/json.h"
#include "base/stream.h"
#include "image/image.h"

struct registry;
struct registry_options {
    struct database *database;
    struct layer_store *layers;
    struct image_store *images;
    const struct event_sink *events;
    const char *data_root;           /* partial downloads are kept in data_root/downloads */
    const char *const *mirrors;      /* URLs, for docker.io; vectors are NULL-terminated and may be NULL */
    const char *const *insecure;     /* host, host:port or CIDR */
    const char *const *config_paths; /* directories with <host>/hosts.toml, *.crt, *.cert, *.key; NULL: the usual ones */
    unsigned max_downloads, max_uploads, max_attempts; /* 0: 3, 5, 5 */
    unsigned stall_timeout_s;                          /* a transfer that stands still for so long is broken; 0: 30 */
};
bool registry_open(const struct registry_options *options, struct registry **ret, GError **error);
/* Ends what still runs. */
void registry_close(struct registry *registry);
/* What /info shows: {"AllowNondistributableArtifactsCIDRs":[],…,"IndexConfigs":{…},"InsecureRegistryCIDRs":[…],"Mirrors":[…]}. */
json_t *registry_service_config(const struct registry *registry);
/* "" or the reason why a mirror or an insecure registry is none. */
bool registry_check_mirror(const char *url, GError **error);
bool registry_check_insecure(const char *text, GError **error);

/* ---- credentials ---- */
struct registry_auth {
    char *username, *password;
    char *identity_token; /* a refresh token (OAuth2) */
    char *registry_token; /* a bearer token, used as it is */
    char *server_address;
};
/* X-Registry-Auth: base64url of a JSON object; absent or "" is no credentials. A broken one is no credentials either, as Docker
 * has it for pulls; with strict it is an error. */
bool registry_auth_parse(const char *header, bool strict, struct registry_auth *ret, GError **error);
/* From the object itself (POST /auth's body, members of X-Registry-Config). */
void registry_auth_from_json(const json_t *object, struct registry_auth *ret);
void registry_auth_clear(struct registry_auth *auth);
/* X-Registry-Config: the object, or NULL where there is none or a broken one. New reference. */
json_t *registry_auths_parse(const char *header);
/* In it ({"host": {…}}; may be NULL): the credentials for a reference's registry; Docker Hub's are under
 * https://index.docker.io/v1/. */
void registry_auth_find(const json_t *by_host, const char *domain, struct registry_auth *ret);
/* POST /auth: tries the credentials of its own. *ret_identity_token: where the server gave one, else "". */
bool registry_login(struct registry *registry, const struct registry_auth *auth, struct cancel *cancel, char **ret_identity_token,
                    GError **error);

/* ---- sessions ---- */
enum registry_access {
    REGISTRY_PULL, /* mirrors first; scope repository:<path>:pull */
    REGISTRY_PUSH, /* the registry itself (and mirrors of hosts.toml that have the capability "push"); scope pull,push */
};
struct registry_session;
/* auth may be NULL and is copied. The reference's tag and digest do not matter. */
bool registry_session_new(struct registry *registry, const struct reference *reference, const struct registry_auth *auth,
                          enum registry_access access, struct cancel *cancel, struct registry_session **ret, GError **error);
void registry_session_free(struct registry_session *session);
/* A further scope that tokens are asked for from now on: "repository:other/name:pull", for mounts across repositories. */
void registry_session_add_scope(struct registry_session *session, const char *scope);
const char *registry_session_repository(const struct registry_session *session); /* "library/debian" */
const char *registry_session_host(const struct registry_session *session);       /* "docker.io", for messages */

/* ---- requests ---- */
/* A request's body. Read from the beginning again after a 401, a redirect or a failed try: rewind. length: G_MAXUINT64 where
 * unknown (sent in chunks). */
struct registry_body {
    struct byte_source *source;
    bool (*rewind)(struct registry_body *self, GError **error); /* NULL: can be sent once */
    guint64 length;
    void (*progress)(void *user, guint64 sent); /* may be NULL */
    void *user;
};
/* Over memory, which stays the caller's: embed it and pass &self->body. */
struct registry_memory_body {
    struct registry_body body;
    struct memory_source source;
};
void registry_memory_body_init(struct registry_memory_body *self, const void *data, gsize length);

struct registry_response;
struct registry_request {
    const char *method; /* "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE" */
    /* "manifests/latest": below /v2/<repository>/ of the session's endpoints, tried in their order. "/v2/…" (and "/v1/…"): the
     * same, but from the endpoint's root. "https://…": as it stands, once; the session's credentials go along only when it is on
     * one of the session's endpoints. */
    const char *target;
    const char *base;           /* resolve target against this URL (a response's url), as "Location" needs it; may be NULL */
    const char *accept;         /* or NULL */
    const char *content_type;   /* of the body; or NULL */
    const char *const *headers; /* further ones: "Name: value"; NULL-terminated, or NULL */
    struct registry_body *body; /* or NULL */
    bool has_range;
    guint64 range_first, range_last; /* G_MAXUINT64: to the end */
    struct byte_sink *sink;          /* takes a 2xx answer's body; without it (and for all others) the body is kept in memory */
    gsize max_body;                  /* in memory; 0: 4 MiB; more is TARE_ERROR_TOO_LARGE */
    /* Before the first byte of an answer goes to the sink (again, where a mirror failed and the next endpoint answers): false
     * ends the request with its error. May be NULL. Without a sink it is not called. */
    bool (*begin)(void *user, const struct registry_response *response, GError **error);
    void *user;
    bool origin_only;      /* no mirrors */
    bool once;             /* no retries after network failures, 5xx and 429: the caller does its own */
    struct cancel *cancel; /* instead of the session's; or NULL */
};
struct registry_response {
    int status;
    char *url;           /* where it came from in the end, for a next request's base */
    GHashTable *headers; /* small letters → value (the last one) */
    char *body;          /* NUL-terminated; never NULL */
    gsize body_length;
    guint64 received; /* bytes given to the sink */
};
void registry_response_clear(struct registry_response *response);
const char *registry_response_header(const struct registry_response *response, const char *name); /* NULL: absent */
/* True when a server has answered, whatever the status: 401 only after credentials were tried, 429 and 5xx only after retries,
 * 404 and the like only when the last endpoint said so. Blocks; from any thread, many at once. ret is filled on success only. */
bool registry_request(struct registry_session *session, const struct registry_request *request, struct registry_response *ret,
                      GError **error);
/* A status of 400 and more becomes an error in Docker's words: "denied: requested access to the resource is denied",
 * "unauthorized: authentication required", "received unexpected HTTP status: 500 Internal Server Error". what: "HEAD blob
 * sha256:…", for the log and messages without a body. */
bool registry_response_check(const struct registry_session *session, const struct registry_response *response, const char *what,
                             GError **error);

/* ---- manifests ---- */
#define REGISTRY_MANIFEST_MAX (4u << 20)
#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define MEDIA_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define MEDIA_DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar.gzip"
#define MEDIA_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define MEDIA_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define MEDIA_OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
#define MEDIA_OCI_LAYER_GZIP "application/vnd.oci.image.layer.v1.tar+gzip"
#define MEDIA_OCI_LAYER_ZSTD "application/vnd.oci.image.layer.v1.tar+zstd"

struct registry_manifest {
    char *media_type;
    char *digest; /* of the bytes */
    char *body;   /* as they came; NUL-terminated */
    gsize length;
    json_t *json;
    bool is_index;
};
void registry_manifest_clear(struct registry_manifest *manifest);
/* GET manifests/<tag or digest>, checked: size, digest, JSON, body and media type agree. */
bool registry_get_manifest(struct registry_session *session, const char *tag_or_digest, struct registry_manifest *ret,
                           GError **error);
/* Pure: bytes and the Content-Type they came with ("" where none). */
bool registry_manifest_parse(const char *body, gsize length, const char *content_type, struct registry_manifest *ret,
                             GError **error);

/* ---- what was seen where: for pushes ---- */
struct registry_blob {
    char digest[72];
    guint64 size;
    char *media_type;
    char *repository; /* "docker.io/library/debian" */
};
/* Blobs that have this layer's content, newest first; of struct registry_blob *; g_ptr_array_unref. */
bool registry_blobs_of_layer(struct registry *registry, const char *diff_id, GPtrArray **ret, GError **error);
/* After a pull or push: the layer is that blob there. */
bool registry_note_blob(struct registry *registry, const char *diff_id, const char *digest, guint64 size, const char *media_type,
                        const char *repository, GError **error);
/* The manifests that led to an image, as they came (of struct registry_manifest *): the oldest first, but indexes at the end. */
bool registry_manifests_of_image(struct registry *registry, const char *image_id, GPtrArray **ret, GError **error);
bool registry_keep_manifest(struct registry *registry, const char *image_id, const struct registry_manifest *manifest,
                            GError **error);

/* ---- pull ---- */
struct registry_pull_options {
    const char *reference; /* without tag and digest: the tag latest, or with all_tags every tag */
    const char *platform;  /* "linux/arm64/v8"; NULL: the host's */
    bool all_tags;
    const struct registry_auth *auth;
    struct cancel *cancel;
    /* The API's messages, from the calling thread alone; false (the client has gone) ends the pull. */
    bool (*message)(void *user, const json_t *message, GError **error);
    void *user;
};
bool registry_pull(struct registry *registry, const struct registry_pull_options *options, GError **error);
/* GET /distribution/NAME/json: {"Descriptor":{…},"Platforms":[…]}. */
bool registry_inspect(struct registry *registry, const char *reference, const struct registry_auth *auth, struct cancel *cancel,
                      json_t **ret, GError **error);
/* GET /images/search. filters: as the API has them; limit 0: 25. */
bool registry_search(struct registry *registry, const char *term, gint64 limit, const json_t *filters,
                     const struct registry_auth *auth, struct cancel *cancel, json_t **ret, GError **error);

/* ---- push ---- */
struct registry_push_options {
    const char *name;  /* a repository, without tag and digest */
    const char *tag;   /* NULL: all of its tags */
    const char *image; /* or this image, by its digest alone, and no tag; else NULL */
    bool use_zstd;     /* for layers that have to be compressed */
    const struct registry_auth *auth;
    const json_t *auths; /* X-Registry-Config: for the registries that layers came from; or NULL */
    struct cancel *cancel;
    /* The API's messages, from the calling thread alone; false (the client has gone) ends the push. */
    bool (*message)(void *user, const json_t *message, GError **error);
    void *user;
};
/* An image that was pulled and not changed goes out with the manifest and the blobs that it came with, wherever those can be had:
 * from the target itself, another repository of its registry, or where they were pulled from. */
bool registry_push(struct registry *registry, const struct registry_push_options *options, GError **error);

/* ---- manifests by hand ---- */
struct registry_remote {
    const char *reference; /* without tag and digest: latest */
    bool insecure;         /* as if the engine had been told that this registry is */
    const struct registry_auth *auth;
    struct cancel *cancel;
};
/* {"Descriptor":{"mediaType","digest","size","platform"},"Raw":base64}; the platform of an image is its config's. */
bool registry_remote_get(struct registry *registry, const struct registry_remote *remote, json_t **ret, GError **error);
/* {"MediaType","Raw","Mounts":[{"Digest","From"}]}: blobs that other repositories of the registry have are made known to this
 * one, then the manifest is stored under the reference's tag or digest. g_free *ret_digest. */
bool registry_remote_put(struct registry *registry, const struct registry_remote *remote, const json_t *request,
                         char **ret_digest, GError **error);

/* ---- libcurl as Docker's users expect it, for others that use it ---- */
/* For a handle (CURL): TLS from 1.2 on, and the authorities that $SSL_CERT_FILE and $SSL_CERT_DIR name instead of the system's.
 */
void registry_curl_authorities(void *easy);
/* What a failed exchange is told as: "dial tcp 127.0.0.1:1: connect: connection refused". code: a CURLcode; problem: of the
 * handle's error buffer. g_free. */
char *registry_curl_describe(void *easy, const char *url, int code, const char *problem);
