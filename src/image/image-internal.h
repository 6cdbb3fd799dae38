/* Shared by the files of this directory only. */
#pragma once

#include "image/image.h"

struct image_store {
    struct database *database;
    struct layer_store *layers;
    const struct event_sink *events;
    image_user_check user_check;
    void *user_check_data;
    bool fixups_wait; /* some could not be removed while layers were held; under the lock */
    GMutex lock; /* registration, removal and holding of layers exclude each other: a layer is never removed between the look and
                    the record */
};

/* By exact id; NULL without an error where there is none. */
bool store_load(struct image_store *store, const char *id, struct image **ret, GError **error);
/* The id for a user's text, or NULL (g_free); the error is for the database only. */
bool store_resolve(struct image_store *store, const char *text, char **ret_id, GError **error);
/* 'No such image: X', the default tag added as Docker does; false. */
bool store_no_such_image(const char *text, GError **error);

/* Tags and digests as struct reference-like rows. */
struct image_name {
    char *name;  /* familiar */
    char *value; /* tag, or "sha256:…" */
    bool is_digest;
};
void image_name_free(gpointer name);
/* Docker's order: by the whole text with what familiar names leave out ("docker.io/library/debian:12" before
 * "localhost:5000/a:1").
 */
gint image_name_compare(const char *name_a, const char *value_a, bool digest_a, const char *name_b, const char *value_b,
                        bool digest_b);
char *image_name_text(const struct image_name *name); /* "name:tag" or "name@digest"; g_free */
bool store_names(struct image_store *store, const char *id, GPtrArray **ret, GError **error);
bool store_has_children(struct image_store *store, const char *id, bool *ret, GError **error);

/* Inside a transaction: the image got a name just now. */
bool store_note_tagging(struct image_store *store, const char *id, GError **error);
const json_t *store_labels(const json_t *config); /* the image's; NULL: none */
/* labels: those of the image, or NULL. name: a reference or an id, or NULL. */
void store_emit(struct image_store *store, const char *action, const char *id, const json_t *labels, const char *name);

/* Removes layers (rows, files) that nothing refers to: of these diff ids, or (NULL) of all. Lock held, no transaction open. */
bool store_collect_layers(struct image_store *store, GHashTable *candidates, GError **error);
/* One `docker image rm NAME` after another, in transactions of many: what is refused (CONFLICT, NOT_FOUND) is left out and counts
 * as success. Lines are appended. */
bool store_remove_many(struct image_store *store, const char *const *names, json_t *lines, GError **error);
/* Inserts or keeps the layer's row. Within a transaction. */
bool store_put_layer(struct image_store *store, const struct layer_info *layer, GError **error);
/* Whether the child can have been made from the parent by one step: layers and history of the one begin those of the other. */
bool image_may_be_parent(const struct image *parent, const struct image *child);

/* Whether an image with this config is for exactly that platform. */
bool image_is_for(const json_t *config, const struct platform *platform);
