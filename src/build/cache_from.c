/* --cache-from: an image that has been built elsewhere stands for its steps. Its history says what they were, and where the
 * images before a step agree, its layer is the step's. */
#include "build/build-internal.h"

#include <string.h>

static const json_t *history_of(const struct image *image)
{
    return image ? json_get_array(image->config, "history") : NULL;
}

static bool entries_agree(const json_t *a, const json_t *b)
{
    return strcmp(json_get_string(a, "created_by", ""), json_get_string(b, "created_by", "")) == 0 &&
           json_get_bool(a, "empty_layer", false) == json_get_bool(b, "empty_layer", false);
}

/* The candidate stands on all that parent is. */
static bool continues(const struct image *candidate, const struct image *parent)
{
    const json_t *mine = history_of(parent), *other = history_of(candidate);
    size_t n = json_array_size(mine);

    if (json_array_size(other) <= n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!entries_agree(json_array_get(mine, i), json_array_get(other, i)))
            return false;
    for (guint i = 0; parent && parent->diff_ids[i]; i++)
        if (g_strcmp0(parent->diff_ids[i], candidate->diff_ids[i]) != 0)
            return false;
    return true;
}

static bool take_step(struct build *build, const struct image *candidate, json_t *cmd, bool *ret_hit, GError **error)
{
    const struct image *parent = build->state->image;
    const json_t *entry = json_array_get(history_of(candidate), json_array_size(history_of(parent)));
    guint n = parent ? g_strv_length(parent->diff_ids) : 0;
    bool empty = json_get_bool(entry, "empty_layer", false);
    g_auto(GStrv) words = json_string_array(cmd);
    g_autofree char *text = words ? g_strjoinv(" ", words) : g_strdup("");
    struct layer_info layer;
    json_t *word;
    size_t i;

    json_array_foreach(cmd, i, word) if (!json_is_string(word)) return true; /* it has more to it than a history tells */
    if (strcmp(json_get_string(entry, "created_by", ""), text) != 0 || (!empty && g_strv_length(candidate->diff_ids) <= n))
        return true;
    if (!empty && !layer_store_info(build->builder->layers, candidate->diff_ids[n], &layer, NULL))
        return true;
    *ret_hit = true;
    return build_add_image(build, cmd, empty ? NULL : &layer, NULL, error);
}

bool cache_take_over(struct build *build, const json_t *cmd, bool *ret_hit, GError **error)
{
    bool good = true;

    /* What no history tells (files of mounts, owners that are kept) no other image can vouch for. */
    for (const char *const *name = build->request->cache_from; name && *name && good && !*ret_hit && !build->cache_extra;
         name++) {
        g_autoimage struct image *candidate = NULL;

        if (**name && image_store_get(build->builder->images, *name, &candidate, NULL) &&
            continues(candidate, build->state->image))
            good = take_step(build, candidate, (json_t *)cmd, ret_hit, error);
    }
    return good;
}

void cache_fetch_sources(struct build *build)
{
    for (const char *const *name = build->request->cache_from; name && *name; name++) {
        g_autoimage struct image *image = NULL;

        /* A cache that is not there is none. */
        if (**name && !reference_may_be_id(*name) && !image_store_get(build->builder->images, *name, &image, NULL))
            build_find_image(build, *name, &image, NULL);
    }
}
