/* GET /images/json: the list with its filters. Reads columns, never whole configs: a list of 10,000 images must be quick. */
#include "image/image-internal.h"

#include "base/filter.h"
#include "base/parse.h"
#include "base/timestamp.h"

#include <fnmatch.h>
#include <string.h>

struct summary {
    char *id, *labels, *parent;
    gint64 created_ns, size;
    GPtrArray *tags, *digests; /* of struct image_name * */
};

static void summary_free(gpointer data)
{
    struct summary *summary = data;
    g_free(summary->id);
    g_free(summary->labels);
    g_free(summary->parent);
    g_ptr_array_unref(summary->tags);
    g_ptr_array_unref(summary->digests);
    g_free(summary);
}

struct listing {
    GPtrArray *summaries;
    GHashTable *by_id;   /* id → struct summary * */
    GHashTable *parents; /* ids that are a parent */
};

static bool take_summary(sqlite3_stmt *row, void *user, GError **error)
{
    struct listing *listing = user;
    struct summary *summary = g_new0(struct summary, 1);
    summary->id = g_strdup((const char *)sqlite3_column_text(row, 0));
    summary->labels = g_strdup((const char *)sqlite3_column_text(row, 1));
    summary->parent = g_strdup((const char *)sqlite3_column_text(row, 2));
    summary->created_ns = sqlite3_column_int64(row, 3);
    summary->size = sqlite3_column_int64(row, 4);
    summary->tags = g_ptr_array_new_with_free_func(image_name_free);
    summary->digests = g_ptr_array_new_with_free_func(image_name_free);
    g_ptr_array_add(listing->summaries, summary);
    g_hash_table_insert(listing->by_id, summary->id, summary);
    if (summary->parent)
        g_hash_table_add(listing->parents, summary->parent);
    return true;
}

static bool take_name(sqlite3_stmt *row, void *user, GError **error)
{
    struct listing *listing = user;
    struct summary *summary = g_hash_table_lookup(listing->by_id, sqlite3_column_text(row, 3));
    if (!summary)
        return true;
    struct image_name *name = g_new0(struct image_name, 1);
    name->name = g_strdup((const char *)sqlite3_column_text(row, 0));
    name->value = g_strdup((const char *)sqlite3_column_text(row, 1));
    name->is_digest = sqlite3_column_int(row, 2) != 0;
    g_ptr_array_add(name->is_digest ? summary->digests : summary->tags, name);
    return true;
}

static bool listing_read(struct image_store *store, struct listing *listing, GError **error)
{
    listing->summaries = g_ptr_array_new_with_free_func(summary_free);
    listing->by_id = g_hash_table_new(g_str_hash, g_str_equal);
    listing->parents = g_hash_table_new(g_str_hash, g_str_equal);
    return database_query(store->database, take_summary, listing, error,
                          "SELECT id, labels, parent, created, size FROM image ORDER BY created DESC, serial DESC", NULL) &&
           database_query(store->database, take_name, listing, error,
                          "SELECT name, value, is_digest, image FROM image_name ORDER BY name, value", NULL);
}

static void listing_clear(struct listing *listing)
{
    g_hash_table_unref(listing->parents);
    g_hash_table_unref(listing->by_id);
    g_ptr_array_unref(listing->summaries);
}

/* ---- filters ---- */

struct image_filter {
    const json_t *filters; /* as given, for the labels */
    bool has_labels, has_references;
    char **references; /* none of them is also a filter: nothing passes */
    bool has_dangling, dangling_only;
    gint64 before_ns, since_ns; /* exclusive; 0: none */
};

static void image_filter_clear(struct image_filter *filter)
{
    g_strfreev(filter->references);
}

static bool created_of(struct image_store *store, const char *name, gint64 *ret, GError **error)
{
    g_autoimage struct image *image = NULL;
    if (!image_store_get(store, name, &image, error))
        return false;
    *ret = image->created_ns;
    return true;
}

static bool read_dangling(const json_t *filters, struct image_filter *filter, GError **error)
{
    g_auto(GStrv) values = filters_values(filters, "dangling");
    filter->has_dangling = values[0] != NULL;
    for (char **value = values; *value; value++)
        if (!parse_bool(*value, &filter->dangling_only))
            return error_set(error, TARE_ERROR_INVALID, "invalid filter 'dangling=%s'", *value);
    return true;
}

static bool read_times(struct image_store *store, const json_t *filters, struct image_filter *filter, GError **error)
{
    g_auto(GStrv) before = filters_values(filters, "before");
    g_auto(GStrv) since = filters_values(filters, "since");
    g_auto(GStrv) until = filters_values(filters, "until");
    gint64 ns;
    for (char **value = before; *value; value++) {
        if (!created_of(store, *value, &ns, error))
            return false;
        filter->before_ns = filter->before_ns ? MIN(filter->before_ns, ns) : ns;
    }
    for (char **value = since; *value; value++) {
        if (!created_of(store, *value, &ns, error))
            return false;
        filter->since_ns = MAX(filter->since_ns, ns);
    }
    for (char **value = until; *value; value++) {
        if (!image_filter_time(*value, &ns, error))
            return false;
        filter->before_ns = filter->before_ns ? MIN(filter->before_ns, ns) : ns;
    }
    return true;
}

static bool read_filter(struct image_store *store, const json_t *filters, struct image_filter *filter, GError **error)
{
    static const char *const known[] = { "dangling", "label", "label!", "before", "since", "reference", "until", NULL };
    filter->filters = filters;
    filter->has_labels = filters_has(filters, "label") || filters_has(filters, "label!");
    filter->has_references = json_object_get(filters, "reference") != NULL;
    filter->references = filters_values(filters, "reference");
    return image_filter_check_names(filters, known, error) && read_dangling(filters, filter, error) &&
           read_times(store, filters, filter, error);
}

/* distribution/reference's FamiliarMatch: the pattern against the name with and without its tag; "*" does not cross "/". */
static bool reference_matches(const struct image_name *name, char **patterns)
{
    g_autofree char *text = image_name_text(name);
    for (; *patterns; patterns++)
        if (fnmatch(*patterns, text, FNM_PATHNAME) == 0 || fnmatch(*patterns, name->name, FNM_PATHNAME) == 0)
            return true;
    return false;
}

static void keep_matching(GPtrArray *names, char **patterns)
{
    for (guint i = names->len; i-- > 0;)
        if (!reference_matches(names->pdata[i], patterns))
            g_ptr_array_remove_index(names, i);
}

static bool labels_pass(const struct summary *summary, const struct image_filter *filter)
{
    if (!filter->has_labels)
        return true;
    g_autoptr(json_t) labels =
        summary->labels ? json_parse(summary->labels, strlen(summary->labels), 64 << 20, "labels", NULL) : NULL;
    return filters_matches_labels(filter->filters, labels);
}

static bool passes(const struct listing *listing, struct summary *summary, const struct image_filter *filter, bool all)
{
    if ((filter->before_ns && summary->created_ns >= filter->before_ns) ||
        (filter->since_ns && summary->created_ns <= filter->since_ns))
        return false;
    if (!labels_pass(summary, filter))
        return false;
    bool named = summary->tags->len + summary->digests->len > 0;
    if (filter->has_references) {
        keep_matching(summary->tags, filter->references);
        keep_matching(summary->digests, filter->references);
        if (summary->tags->len + summary->digests->len == 0)
            return false;
    }
    if (named)
        return !filter->has_dangling || !filter->dangling_only || summary->tags->len == 0;
    if (filter->has_dangling && !filter->dangling_only)
        return false;
    return all || !g_hash_table_contains(listing->parents, summary->id);
}

/* ---- output ---- */

static json_t *names_array(const GPtrArray *names, const char *none, unsigned api_version, bool other_empty)
{
    json_t *array = json_array();
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *text = image_name_text(names->pdata[i]);
        json_array_append_new(array, json_string(text));
    }
    if (names->len == 0 && other_empty && api_version < 43)
        json_array_append_new(array, json_string(none));
    return array;
}

static json_t *summary_object(const struct summary *summary, unsigned api_version)
{
    bool dangling = summary->tags->len + summary->digests->len == 0;
    json_t *labels = summary->labels ? json_parse(summary->labels, strlen(summary->labels), 64 << 20, "labels", NULL) : NULL;
    json_t *object = json_pack("{s:i, s:I, s:s, s:o, s:s, s:o, s:o, s:i, s:I}", "Containers", -1, "Created",
                               (json_int_t)(summary->created_ns / 1000000000), "Id", summary->id, "Labels",
                               labels ? labels : json_null(), "ParentId", summary->parent ? summary->parent : "", "RepoDigests",
                               names_array(summary->digests, "<none>@<none>", api_version, dangling), "RepoTags",
                               names_array(summary->tags, "<none>:<none>", api_version, dangling), "SharedSize", -1, "Size",
                               (json_int_t)summary->size);
    if (api_version < 44)
        json_object_set_new(object, "VirtualSize", json_integer((json_int_t)summary->size));
    return object;
}

bool image_store_summaries(struct image_store *store, bool all, bool digests, const json_t *filters, unsigned api_version,
                           json_t **ret, GError **error)
{
    struct image_filter filter = { 0 };
    struct listing listing = { 0 };
    if (!read_filter(store, filters, &filter, error)) {
        image_filter_clear(&filter);
        return false;
    }
    bool ok = listing_read(store, &listing, error);
    json_t *array = json_array();
    for (guint i = 0; ok && i < listing.summaries->len; i++) {
        struct summary *summary = listing.summaries->pdata[i];
        if (passes(&listing, summary, &filter, all))
            json_array_append_new(array, summary_object(summary, api_version));
    }
    listing_clear(&listing);
    image_filter_clear(&filter);
    if (ok)
        *ret = array;
    else
        json_decref(array);
    return ok;
}
