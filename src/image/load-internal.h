/* What load.c and load_legacy.c share. */
#pragma once

#include "image/image-internal.h"

#define MANIFEST_MAX (16u << 20)
#define LAYERS_MAX 127

struct loading {
    struct image_store *store;
    struct layer_archive *archive;
    struct byte_sink *progress;
    struct cancel *cancel;
    struct image_layer_claim claim;
    const char *holder;
    const struct platform *platform; /* wanted, or NULL */
    bool quiet;
    guint n_loaded;
    GPtrArray *links; /* of struct parent_link *, in the archive's order */
    GHashTable *seen; /* files whose bytes were shown as they came */
};

bool load_say(struct loading *loading, json_t *message, GError **error);
bool load_stream_line(struct loading *loading, char *line, GError **error); /* takes it */
json_t *load_read_json(struct loading *loading, const char *path, GError **error);
/* diff_id may be NULL: any will do. id: what the progress calls it. */
bool load_layer(struct loading *loading, const char *path, const char *diff_id, struct layer_info *ret, GError **error);
/* Tags an image, and tells which name moved and which was loaded. NULL or empty: tells its id. */
bool load_announce(struct loading *loading, char *const *tags, const struct image *image, GError **error);
/* Says which names will be taken from other images; before they are. */
bool load_tell_moved(struct loading *loading, char *const *tags, const char *id, GError **error);

/* ---- load_legacy.c: what Docker 1.9 and older wrote: a directory for each layer, "VERSION", "json" and "layer.tar" in it ----
 */
bool load_is_legacy(struct loading *loading);
bool load_legacy(struct loading *loading, GError **error);
