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
typedef bool (*build_pull_func)(void *user, const char *reference, const struct build_request *request,
                                const struct build_output *output, struct cancel *cancel, GError **error);
struct builder_options {
    struct database *database;
    struct layer_store *layers;
    struct image_store *images;
    struct container_manager *containers;
    build_pull_func pull; /* NULL: a missing image is an error */
    void *pull_user;
    const char *directory; /* for clones of git repositories: a directory of the builder's own, made when missing and swept */
};
bool builder_open(const struct builder_options *options, struct builder **ret, GError **error);
void builder_close(struct builder *builder);

struct build_request {
    const char *dockerfile; /* path in the context; NULL: Dockerfile, then dockerfile */
    const char *const *tags;
    const json_t *build_args; /* {"name": "value" or null} */
    const json_t *labels;
    const char *target, *platform, *network_mode;
    bool no_cache, remove, force_remove, pull, quiet, squash;
    const json_t *
        container_limits; /* HostConfig members for RUN: Memory, CpuShares, Ulimits, ShmSize, ExtraHosts, SecurityOpt … or NULL */
    const char *const *cache_from;
    const json_t *registry_auths;    /* X-Registry-Config: {"host": {"username", …}}, or NULL */
    const char *const *entitlements; /* --allow: "network.host", "security.insecure"; or NULL */
    const char *git;        /* the context is this repository (URL#ref:subdir); then there is no body */
    const char *context_id; /* of builder_announce_context: the body has what it lacks; or NULL */
    const json_t *contexts; /* {"name": "upload:ID" or "image:REFERENCE"}: --build-context; or NULL */
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
bool builder_announce_context(struct builder *builder, const char *key, char *data, gsize length, json_t **ret, GError **error);
/* The tar of a named context: what was announced as id lacks, or all (id NULL). *ret: {"Id"}, for "upload:ID". */
bool builder_upload_context(struct builder *builder, const char *id, struct byte_source *body, struct cancel *cancel,
                            json_t **ret, GError **error);
/* Applies Dockerfile instructions (import -c, commit -c) to a run config; returns a new object. Errors as Docker's: '… is not a
 * valid change command'. */
bool build_apply_changes(const json_t *run_config, const char *const *changes, json_t **ret, GError **error);
bool builder_prune(struct builder *builder, json_t **ret, GError **error);
