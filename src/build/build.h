/* The builder: Dockerfile → plan → execution (docs/ARCHITECTURE.md, section 4). First version: the classic builder's language and
 * output.
 *
 * Parsing takes bytes and touches no file; RUN executes through the container manager so that its step shows in `ps -a`. */
#pragma once

#include "container/container.h"

struct builder;
struct build_output;
struct build_request;
/* Fetches an image that FROM names and that is not there (or that must be fresh: request->pull). Progress goes to output. */
typedef bool (*build_pull_func)(void *user, const char *reference, const char *platform, const struct build_request *request,
                                const struct build_output *output, struct cancel *cancel, GError **error);
/* ADD of a URL: the answer's body goes to the sink. *ret_modified: Last-Modified in seconds, 0 where the server does not say. */
typedef bool (*build_download_func)(void *user, const char *url, struct byte_sink *sink, gint64 *ret_modified,
                                    struct cancel *cancel, GError **error);
struct builder_options {
    struct database *database;
    struct layer_store *layers;
    struct image_store *images;
    struct container_manager *containers;
    build_pull_func pull; /* NULL: a missing image is an error */
    void *pull_user;
    const char *directory; /* of the builder's own, made when missing: cache mounts, and what is temporary; NULL: neither */
    build_download_func download;
    void *download_user;
};
bool builder_open(const struct builder_options *options, struct builder **ret, GError **error);
void builder_close(struct builder *builder);

/* What a client lends a build for RUN --mount=type=secret and ssh. It is in memory only, and reaches no layer, history, cache
 * key, record or log. */
struct build_secrets;
#define BUILD_SECRET_MAX (500u << 10)
#define BUILD_SECRETS_MAX 100
struct build_secrets *build_secrets_new(void);
struct build_secrets *build_secrets_ref(struct build_secrets *secrets);
void build_secrets_unref(struct build_secrets *secrets); /* the last reference wipes them */
bool build_secrets_add(struct build_secrets *secrets, const char *id, const void *data, gsize length, GError **error);
bool build_secrets_add_agent(struct build_secrets *secrets, const char *id, GError **error);
/* NULL where there is none. */
const GByteArray *build_secrets_find(const struct build_secrets *secrets, const char *id);
bool build_secrets_has_agent(const struct build_secrets *secrets, const char *id);
/* A stream socket that leads to the client's agent, or -1. Waits for one to be offered. */
int build_secrets_connect(struct build_secrets *secrets, const char *id, struct cancel *cancel, GError **error);

/* They come before the build, in a request of their own, and wait under an id that only their client knows: for one build, which
 * takes them and drops them at its end, and not for long. */
bool builder_lend_secrets(struct builder *builder, struct build_secrets *secrets, char **ret_id, GError **error);
bool builder_take_secrets(struct builder *builder, const char *id, struct build_secrets **ret, GError **error);
void builder_drop_secrets(struct builder *builder, const char *id);
/* A client's connection to one of its agents; taken on success. */
bool builder_offer_agent(struct builder *builder, const char *id, const char *agent, int connection, GError **error);

struct build_request {
    const char *dockerfile; /* path in the context; NULL: Dockerfile, then dockerfile */
    const char *const *tags;
    const json_t *build_args; /* {"name": "value" or null} */
    const json_t *labels;
    const char *target, *platform, *network_mode;
    const char *const *no_cache_stages; /* names or numbers of stages that are built anew; or NULL */
    bool no_cache, remove, force_remove, pull, quiet, squash;
    const json_t *
        container_limits; /* HostConfig members for RUN: Memory, CpuShares, Ulimits, ShmSize, ExtraHosts, SecurityOpt … or NULL */
    const char *const *cache_from;
    const json_t *registry_auths;    /* X-Registry-Config: {"host": {"username", …}}, or NULL */
    const char *const *entitlements; /* --allow: "network.host", "security.insecure"; or NULL */
    struct build_secrets *secrets;   /* or NULL */
    bool progress;                   /* steps and their logs as objects of their own, for our command */
    bool tell_stages;       /* {"aux":{"Stages":[IDs]}}: what the other stages became, for a cache that has all of them */
    bool tell_failed;       /* {"aux":{"Failed":{"Container":ID}}}: the container of a RUN that failed, which stays */
    const char *git;        /* the context is this repository (URL#ref:subdir); then there is no body */
    const char *context_id; /* of builder_announce_context: the body has what it lacks; or NULL */
    const json_t *contexts; /* {"name": "upload:ID" or "image:REFERENCE"}: --build-context; or NULL */
    bool excerpts; /* errors show the lines of the Dockerfile that they are about, before what the classic builder says */
};
/* Messages of the /build stream: {"stream":…}, {"aux":{"ID":…}}, {"errorDetail":{…},"error":…}; the callee serialises. Called
 * from one thread at a time. */
struct build_output {
    bool (*message)(void *user, const json_t *message);
    void *user;
};
/* context: the tar (compressed or not) or, where it is no tar, a single Dockerfile. A build that fails before its first message
 * (a bad Dockerfile, a bad tag) returns the error alone, for an HTTP status; later its error has been sent as the last message
 * too. *ret_id is the image. */
bool builder_run(struct builder *builder, struct byte_source *context, const struct build_request *request,
                 const struct build_output *output, struct cancel *cancel, char **ret_id, GError **error);
/* A directory of a client, before it is sent: data is its listing (taken, in any case; see build-internal.h), key says which
 * directory it is. *ret: {"Id", "All", "Need": [indices]}: what the tar must have that comes as the body of a build with this
 * context_id. */
struct builder_announcement {
    const char *key;
    bool is_named; /* --build-context: it may become an image's layers, where ".wh." names are whiteouts, and is kept apart */
    char *data;
    gsize length;
};
bool builder_announce_context(struct builder *builder, const struct builder_announcement *announcement, json_t **ret,
                              GError **error);
/* Before that: what of the directory the Dockerfile can use. {"All", "Patterns": [as COPY has them]}; a new object. What is wrong
 * with the text the build tells. */
json_t *builder_plan_sources(struct builder *builder, const struct build_request *request, const char *text, gsize length);
/* The tar of a named context: what was announced as id lacks, or all (id NULL). *ret: {"Id"}, for "upload:ID". */
bool builder_upload_context(struct builder *builder, const char *id, struct byte_source *body, struct cancel *cancel,
                            json_t **ret, GError **error);
/* build --check: what the documented rules say of the Dockerfile, with nothing built. → {"dockerfile", "source", "error": bool,
 * "warnings": [{"rule", "description", "url", "message", "line", "end"}]}; a Dockerfile that cannot be parsed is an error. */
bool builder_check(struct builder *builder, struct byte_source *context, const struct build_request *request,
                   struct cancel *cancel, json_t **ret, GError **error);
/* Applies Dockerfile instructions (import -c, commit -c) to a run config; returns a new object. Errors as Docker's: '… is not a
 * valid change command'. */
bool build_apply_changes(const json_t *run_config, const char *const *changes, json_t **ret, GError **error);

/* ---- cache mounts: the directories of RUN --mount=type=cache, which outlive builds ---- */
/* [{"ID", "Name" (the Dockerfile's id), "Type": "exec.cachemount", "Description", "InUse", "Shared", "Size", "CreatedAt",
 * "LastUsedAt", "UsageCount"}], times as RFC 3339. */
bool builder_cache_mounts(struct builder *builder, json_t **ret, GError **error);
/* One by its "ID". CONFLICT while a step has it, NOT_FOUND. */
bool builder_cache_mount_remove(struct builder *builder, const char *id, guint64 *ret_freed, GError **error);
/* Its directory, for export and import by name; with create one that is not there is made. While the fd is open nobody is kept
 * from using it. -1 and an error. */
int builder_cache_mount_open(struct builder *builder, const char *name, bool create, GError **error);
/* By its Dockerfile's name as a tar, and back: what the tar has at its top takes the place of what is there. */
bool builder_cache_mount_export(struct builder *builder, const char *name, struct byte_sink *sink, struct cancel *cancel,
                                GError **error);
bool builder_cache_mount_import(struct builder *builder, const char *name, struct byte_source *source, struct cancel *cancel,
                                GError **error);
/* All files of an image as one tar. */
bool builder_export_files(struct builder *builder, const char *name, struct byte_sink *sink, struct cancel *cancel,
                          GError **error);
/* The API's BuildCache of /system/df: kept contexts, and the steps that the cache knows. */
bool builder_usage(struct builder *builder, json_t **ret, GError **error);
struct builder_prune_options {
    bool all;            /* steps of images that are named as well */
    gint64 keep_storage; /* bytes that may stay; 0: nothing */
    const json_t *filters;
};
bool builder_prune(struct builder *builder, const struct builder_prune_options *options, json_t **ret, GError **error);
