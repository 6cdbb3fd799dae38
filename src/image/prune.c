/* docker image prune: what no container uses and, with -a, nothing names. */
#include "image/image-internal.h"

#include "base/filter.h"

#include <string.h>

static bool is_candidate(struct image_store *store, const struct image *image, bool dangling_only, gint64 until_ns,
                         const json_t *filters, GError **error)
{
    g_autofree char *running = NULL, *stopped = NULL;
    bool has_children = true;
    if (!store_has_children(store, image->id, &has_children, error) || has_children)
        return false;
    if (dangling_only && (image->repo_tags[0] || image->repo_digests[0]))
        return false;
    if (until_ns && image->created_ns > until_ns)
        return false;
    if (!filters_matches_labels(filters, json_get_object(image_run_config(image), "Labels")))
        return false;
    if (store->user_check)
        store->user_check(store->user_check_data, image->id, &running, &stopped);
    return !running && !stopped;
}

/* Each name by itself, so that the answer's lines are those of `image rm NAME`; a dangling image by its id. */
static bool remove_whole(struct image_store *store, const struct image *image, json_t *lines, GError **error)
{
    g_auto(GStrv) one = g_strdupv((char *[]){ image->id, NULL });
    char **names = image->repo_tags[0] ? image->repo_tags : image->repo_digests[0] ? image->repo_digests : one;
    for (; *names; names++) {
        g_autoptr(json_t) part = NULL;
        g_autoptr(GError) problem = NULL;
        if (image_store_remove(store, *names, false, true, &part, &problem))
            json_array_extend(lines, part);
        else if (!error_is(problem, TARE_ERROR_CONFLICT) && !error_is(problem, TARE_ERROR_NOT_FOUND))
            return g_propagate_error(error, g_steal_pointer(&problem)), false;
    }
    return true;
}

static bool layers_size(struct image_store *store, gint64 *ret, GError **error)
{
    return database_get_int(store->database, 0, ret, error, "SELECT coalesce(sum(content_bytes), 0) FROM layer", NULL);
}

static bool read_until(const json_t *filters, gint64 *ret, GError **error)
{
    g_auto(GStrv) until = filters_values(filters, "until");
    *ret = 0;
    if (!until[0])
        return true;
    if (until[1])
        return error_set(error, TARE_ERROR_INVALID, "more than one until filter specified");
    return image_filter_time(until[0], ret, error);
}

bool image_store_prune(struct image_store *store, bool dangling_only, const json_t *filters, json_t **ret, GError **error)
{
    static const char *const known[] = { "dangling", "label", "label!", "until", NULL };
    g_autoptr(GPtrArray) images = NULL;
    gint64 until_ns, before, after;
    if (!image_filter_check_names(filters, known, error) || !read_until(filters, &until_ns, error) ||
        !layers_size(store, &before, error) || !image_store_list(store, &images, error))
        return false;
    g_autoptr(json_t) lines = json_array();
    for (guint i = 0; i < images->len; i++) {
        GError *problem = NULL;
        bool wanted = is_candidate(store, images->pdata[i], dangling_only, until_ns, filters, &problem);
        if (problem)
            return g_propagate_error(error, problem), false;
        if (wanted && !remove_whole(store, images->pdata[i], lines, error))
            return false;
    }
    if (!layers_size(store, &after, error))
        return false;
    bool any = json_array_size(lines) > 0;
    *ret = json_pack("{s:o, s:I}", "ImagesDeleted", any ? g_steal_pointer(&lines) : json_null(), "SpaceReclaimed",
                     (json_int_t)(before - after));
    return true;
}
