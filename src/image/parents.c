/* Links from an image to the local one that it was made from, where an archive brings them: what can be true of them, and how
 * they are set. */
#include "image/image-internal.h"

#include "base/timestamp.h"

#include <string.h>

static bool is_same_time(const char *a, const char *b)
{
    gint64 at, bt;
    if (!a || !b)
        return !a && !b;
    return timestamp_parse(a, &at) && timestamp_parse(b, &bt) ? at == bt : strcmp(a, b) == 0;
}

static bool is_same_step(const json_t *a, const json_t *b)
{
    static const char *const texts[] = { "author", "comment", "created_by" };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
        if (strcmp(json_get_string(a, texts[i], ""), json_get_string(b, texts[i], "")) != 0)
            return false;
    return json_get_bool(a, "empty_layer", false) == json_get_bool(b, "empty_layer", false) &&
           is_same_time(json_get_string(a, "created", NULL), json_get_string(b, "created", NULL));
}

bool image_may_be_parent(const struct image *parent, const struct image *child)
{
    const json_t *above = json_get_array(child->config, "history"), *below = json_get_array(parent->config, "history");
    size_t n = json_array_size(below);
    for (guint i = 0; parent->diff_ids[i]; i++) /* a child that ends before is told by its NULL */
        if (g_strcmp0(parent->diff_ids[i], child->diff_ids[i]) != 0)
            return false;
    if (n == 0 && json_array_size(above) == 0)
        return strcmp(parent->id, child->id) != 0; /* nobody must have a history */
    if (json_array_size(above) != n + 1)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_same_step(json_array_get(above, i), json_array_get(below, i)))
            return false;
    return true;
}

/* The id itself, its parent, that one's parent, …: UNION stops at whatever came before. */
static bool stands_on(struct image_store *store, const char *id, const char *ancestor, bool *ret, GError **error)
{
    gint64 count;
    if (!database_get_int(store->database, 0, &count, error,
                          "WITH RECURSIVE below (id) AS (SELECT ? UNION SELECT image.parent FROM image JOIN below USING (id) "
                          "WHERE image.parent IS NOT NULL) SELECT count(*) FROM below WHERE id = ?",
                          "ss", id, ancestor))
        return false;
    *ret = count > 0;
    return true;
}

static bool link_images(struct image_store *store, const char *id, const char *parent_id, GError **error)
{
    g_autoimage struct image *child = NULL, *parent = NULL;
    bool is_circle;
    if (!store_load(store, id, &child, error) || !store_load(store, parent_id, &parent, error))
        return false;
    if (!child || !parent)
        return store_no_such_image(child ? parent_id : id, error);
    if (!stands_on(store, parent_id, id, &is_circle, error))
        return false;
    if (is_circle || !image_may_be_parent(parent, child))
        return error_set(error, TARE_ERROR_INVALID, "image %s is not a valid parent for %s", parent_id, id);
    return g_strcmp0(child->parent, parent_id) == 0 ||
           database_run(store->database, error, "UPDATE image SET parent = ? WHERE id = ?", "ss", parent_id, id);
}

bool image_store_set_parent(struct image_store *store, const char *id, const char *parent_id, GError **error)
{
    g_mutex_lock(&store->lock);
    bool ok = database_begin(store->database, true, error) &&
              database_end(store->database, link_images(store, id, parent_id, error), error);
    g_mutex_unlock(&store->lock);
    return ok;
}
