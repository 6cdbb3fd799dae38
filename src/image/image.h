/* Images: configs, names and the layers they stand on. An image's id is the digest of its config blob. Thread-safe.
 *
 * A struct image is an immutable, reference-counted snapshot of a record. */
#pragma once

#include "base/cancel.h"
#include "base/database.h"
#include "base/event.h"
#include "base/json.h"
#include "base/platform.h"
#include "image/reference.h"
#include "layer/layer.h"

struct image {
    gint references;
    char *id;        /* "sha256:…" */
    char *parent;    /* image id, or NULL */
    json_t *config;  /* the whole config document: {"architecture","config","created","history","os","rootfs",…} */
    char **diff_ids; /* lowest first, NULL-terminated */
    gint64 created_ns;
    guint64 size; /* content bytes of all layers, repeated ones each time, as Docker counts */
    gint64 last_tagged_ns;
    char **repo_tags;    /* familiar "name:tag", sorted; NULL-terminated, never NULL */
    char **repo_digests; /* familiar "name@sha256:…" */
};
struct image *image_ref(struct image *image);
void image_unref(struct image *image);
static inline void image_clear(struct image **image)
{
    if (*image)
        image_unref(*image);
    *image = NULL;
}
/* g_autoimage struct image *image = NULL; … unreferenced at the end of the scope. */
#define g_autoimage _GLIB_CLEANUP(image_clear)
/* The "config" member (Cmd, Env, …) of the document, never NULL. Borrowed. */
const json_t *image_run_config(const struct image *image);

/* All members of a run config in Docker's order, maps sorted, what is absent as dockerd shows it; a new object. */
json_t *image_canonical_config(const json_t *config);

struct image_store;
bool image_store_open(struct database *database, struct layer_store *layers, const struct event_sink *events,
                      struct image_store **ret, GError **error);
void image_store_close(struct image_store *store);

/* How containers use an image: fills *ret_running (an id of a running one, or NULL) and *ret_stopped; g_free both. Set once by
 * the container manager's owner. */
typedef void (*image_user_check)(void *user, const char *image_id, char **ret_running, char **ret_stopped);
void image_store_set_user_check(struct image_store *store, image_user_check check, void *user);

/* By name, name:tag, name@digest, id or unique prefix of one (4 and more digits are tried after names). NOT_FOUND: 'No such
 * image: X' with the default tag added as Docker does. */
bool image_store_get(struct image_store *store, const char *name, struct image **ret, GError **error);
/* All, newest first. Free with g_ptr_array_unref. */
bool image_store_list(struct image_store *store, GPtrArray **ret, GError **error);
bool image_store_count(struct image_store *store, gint64 *ret, GError **error);
/* NOT_FOUND where the image that the name means is not for the platform, as moby's API says it. */
bool image_store_check_platform(struct image_store *store, const char *name, const struct platform *platform, GError **error);

/* Registers an image. config: the document without rootfs and (if absent) without created; layers: lowest first. Makes fix-ups,
 * writes the record durably, in one transaction with the tags. The same document again is the same image: success. config is
 * borrowed. */
struct image_new_options {
    const json_t *config;
    const struct layer_info *layers;
    size_t n_layers;
    const char *parent;            /* image id or NULL */
    const char *const *references; /* to tag with; NULL-terminated or NULL */
    bool raw_config;               /* config_text is the exact blob to store (load, pull), config its parsed form with rootfs */
    const char *config_text;
    gint64 created_ns; /* what lists and prune go by, where that is not what the document says; 0: the document's */
    bool intermediate; /* of a build's step: durable with the next durable transaction, which the build ends with */
    bool pulled;       /* its names are none that somebody gave here: no "tag" events */
};
bool image_store_add(struct image_store *store, const struct image_new_options *options, struct image **ret, GError **error);
bool image_store_layers(struct image_store *store, const struct image *image, struct layer_info **ret, size_t *ret_n,
                        GError **error); /* g_free */

/* Layers that something other than an image needs: a container of a removed image, a build or pull under way. holder is any
 * unique text ("container/<id>"). A layer goes when neither an image nor a holder has it; releasing removes what is then unused.
 * hold fails with NOT_FOUND when a layer is not in the store. */
bool image_store_hold_layers(struct image_store *store, const char *holder, const char *const *diff_ids, GError **error);
bool image_store_release_layers(struct image_store *store, const char *holder, GError **error);
/* A layer that an ingest has just stored and that holder needs until it is registered (recorded with its facts). */
bool image_store_hold_new_layer(struct image_store *store, const char *holder, const struct layer_info *layer, GError **error);
/* The same as a claim for an ingest, a draft or a seal, which then cannot lose the layer to a removal in between. */
struct image_layer_claim {
    struct layer_claim claim;
    struct image_store *store;
    const char *holder; /* borrowed */
};
void image_layer_claim_init(struct image_layer_claim *claim, struct image_store *store, const char *holder);
/* A layer that is there already, with what is recorded of it; NOT_FOUND where it is not. */
bool image_store_hold_known_layer(struct image_store *store, const char *holder, const char *diff_id, struct layer_info *ret,
                                  GError **error);
/* Several at once; NULL-terminated. */
bool image_store_release_holders(struct image_store *store, const char *const *holders, GError **error);
/* Start-up: releases every holder for which keep says false, and layers in the store that nothing refers to. */
bool image_store_sweep_holders(struct image_store *store, bool (*keep)(void *user, const char *holder), void *user,
                               GError **error);

/* Names ("name:tag", "name@sha256:…") for an image that is there, as image_store_add gives them; no events. */
bool image_store_put_names(struct image_store *store, const char *image_id, const char *const *references, GError **error);
/* The id that exactly this tag or digest names; *ret_id is NULL where none does (g_free). */
bool image_store_named(struct image_store *store, const char *reference, char **ret_id, GError **error);
/* The config blob, byte for byte; g_free. */
bool image_store_config_text(struct image_store *store, const struct image *image, char **ret, GError **error);
/* The tags of a repository (familiar name), sorted; g_strfreev. */
bool image_store_tags(struct image_store *store, const char *name, char ***ret, GError **error);

/* Says which local image another one was made from. INVALID where it cannot have been; NOT_FOUND where one of them is gone. */
bool image_store_set_parent(struct image_store *store, const char *id, const char *parent_id, GError **error);

/* Moves the tag when it exists. Reference without tag means latest; one with digest is INVALID. */
bool image_store_tag(struct image_store *store, const struct image *image, const char *reference, GError **error);
/* docker image rm: → [{"Untagged":…},{"Deleted":…}] in Docker's order. */
bool image_store_remove(struct image_store *store, const char *name, bool force, bool prune_parents, json_t **ret,
                        GError **error);

/* The API's objects; new references. api_version is the minor number: 51 for 1.51. */
bool image_store_inspect(struct image_store *store, const char *name, unsigned api_version, json_t **ret, GError **error);
/* The list as JSON text, appended to out. */
struct image_list_options {
    bool all, with_shared;
    const json_t *filters;
    unsigned api_version;
    guint (*count_containers)(void *user, const char *image_id); /* NULL: "Containers" is -1 */
    void *count_containers_user;
};
bool image_store_list_json(struct image_store *store, const struct image_list_options *options, GString *out, GError **error);
/* What the layers of all images come to, each counted once: content, and what their files take on the disk (layers that only a
 * holder needs included). */
struct image_usage {
    gint64 content_bytes;
    guint64 disk_bytes;
};
bool image_store_usage(struct image_store *store, bool with_disk, struct image_usage *ret, GError **error);
bool image_store_history(struct image_store *store, const char *name, json_t **ret, GError **error);
bool image_store_prune(struct image_store *store, bool dangling_only, const json_t *filters, json_t **ret, GError **error);

/* tare image verify: of one image, or of all (name NULL): recomputes the digest of the config and of each layer, makes the
 * indexes again, and reports layer by layer. A damaged one makes it fail in the end, with all of them named; a layer that heals
 * is told. */
struct image_verify_options {
    struct cancel *cancel;
    bool (*report)(void *user, const char *id, const char *status, GError **error);
    void *user;
};
bool image_store_verify(struct image_store *store, const char *name, const struct image_verify_options *options, GError **error);

/* docker import: a root file system becomes an image. changes: Dockerfile instructions, already applied to run_config by the
 * caller. */
struct image_import_options {
    const char *source_name;  /* "-" or a URL, for history: "Imported from -" */
    const char *message;      /* NULL: the default text */
    const json_t *run_config; /* or NULL */
    const char *reference;    /* or NULL: dangling */
    const char *platform;     /* "linux/arm64/v8", or NULL: the host's */
    struct cancel *cancel;
};
bool image_import(struct image_store *store, struct byte_source *source, const struct image_import_options *options,
                  struct image **ret, GError **error);

/* docker save and load. names: references or ids. progress lines of load are the API's JSON messages. */
struct image_save_options {
    const char *const *without;      /* layers (diff ids) whose tars the reader has already; NULL-terminated, or NULL */
    const struct platform *platform; /* that each image must be for, or NULL */
    /* One image for several platforms: index.json names an index of all by each of these ("": no name); or NULL. */
    const char *const *index;
    struct cancel *cancel;
};
bool image_save(struct image_store *store, const char *const *names, const struct image_save_options *options,
                struct byte_sink *sink, GError **error);
struct image_load_options {
    bool quiet;                      /* no progress of layers */
    const struct platform *platform; /* images for others are left out; NULL: of one for several, the host's */
    struct cancel *cancel;
};
bool image_load(struct image_store *store, struct byte_source *source, const struct image_load_options *options,
                struct byte_sink *progress, GError **error);
