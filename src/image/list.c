/* GET /images/json: the list with its filters. Reads one index of the database, never whole configs, and writes text, never a
 * tree: a list of 10,000 images must be quick. */
#include "image/image-internal.h"

#include "base/filter.h"
#include "base/parse.h"
#include "base/timestamp.h"

#include <fnmatch.h>
#include <string.h>

struct summary {
    const char *id, *labels, *parent; /* in the listing's chunk */
    gint64 created_ns, size, shared;
    bool is_shown;
    struct listed_name *tags, *digests; /* in order */
};

struct listed_name {
    const char *name, *value;
    bool is_digest;
    struct listed_name *next;
};

struct listing {
    GStringChunk *texts;
    GArray *summaries;   /* of struct summary */
    GHashTable *by_id;   /* id → index + 1 */
    GHashTable *parents; /* ids that are a parent */
};

static bool take_summary(sqlite3_stmt *row, void *user, GError **error)
{
    struct listing *listing = user;
    const char *id = (const char *)sqlite3_column_text(row, 0), *labels = (const char *)sqlite3_column_text(row, 1),
               *parent = (const char *)sqlite3_column_text(row, 2);
    struct summary summary = { .id = g_string_chunk_insert(listing->texts, id),
                               .labels = labels ? g_string_chunk_insert(listing->texts, labels) : NULL,
                               .parent = parent ? g_string_chunk_insert(listing->texts, parent) : NULL,
                               .created_ns = sqlite3_column_int64(row, 3),
                               .size = sqlite3_column_int64(row, 4),
                               .shared = -1 };
    g_array_append_val(listing->summaries, summary);
    g_hash_table_insert(listing->by_id, (gpointer)summary.id, GUINT_TO_POINTER(listing->summaries->len));
    if (summary.parent)
        g_hash_table_add(listing->parents, (gpointer)summary.parent);
    return true;
}

static struct summary *find_summary(struct listing *listing, const char *id)
{
    guint index = GPOINTER_TO_UINT(g_hash_table_lookup(listing->by_id, id));
    return index ? &g_array_index(listing->summaries, struct summary, index - 1) : NULL;
}

static bool take_name(sqlite3_stmt *row, void *user, GError **error)
{
    struct listing *listing = user;
    struct summary *summary = find_summary(listing, (const char *)sqlite3_column_text(row, 3));
    if (!summary)
        return true;
    struct listed_name *name = g_new0(struct listed_name, 1), **at;
    name->name = g_string_chunk_insert_const(listing->texts, (const char *)sqlite3_column_text(row, 0));
    name->value = g_string_chunk_insert(listing->texts, (const char *)sqlite3_column_text(row, 1));
    name->is_digest = sqlite3_column_int(row, 2) != 0;
    at = name->is_digest ? &summary->digests : &summary->tags;
    while (*at && image_name_compare((*at)->name, (*at)->value, name->is_digest, name->name, name->value, name->is_digest) < 0)
        at = &(*at)->next;
    name->next = *at;
    *at = name;
    return true;
}

/* ---- what images share ---- */

struct layer_use {
    struct summary *summary;
    guint *users; /* of the layer, in this place of a stack */
    gint64 bytes;
};

struct sharing {
    struct listing *listing;
    GHashTable *users; /* chain id → how many of the shown images stand on it */
    GArray *uses;      /* of struct layer_use */
};

static bool take_use(sqlite3_stmt *row, void *user, GError **error)
{
    struct sharing *sharing = user;
    struct summary *summary = find_summary(sharing->listing, (const char *)sqlite3_column_text(row, 0));
    if (!summary || !summary->is_shown)
        return true;
    const char *chain_id = (const char *)sqlite3_column_text(row, 1);
    guint *users = g_hash_table_lookup(sharing->users, chain_id);
    if (!users)
        g_hash_table_insert(sharing->users, g_strdup(chain_id), users = g_new0(guint, 1));
    ++*users;
    struct layer_use use = { summary, users, sqlite3_column_int64(row, 2) };
    g_array_append_val(sharing->uses, use);
    return true;
}

/* As docker counts: among the images that are shown, not with those of a build's steps. */
static bool read_shared(struct image_store *store, struct listing *listing, GError **error)
{
    struct sharing sharing = { .listing = listing,
                               .users = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
                               .uses = g_array_new(FALSE, FALSE, sizeof(struct layer_use)) };
    bool ok = database_query(store->database, take_use, &sharing, error,
                             "SELECT image, chain_id, content_bytes FROM image_layer JOIN layer USING (diff_id)", NULL);
    for (guint i = 0; i < listing->summaries->len; i++)
        g_array_index(listing->summaries, struct summary, i).shared = 0;
    for (guint i = 0; i < sharing.uses->len; i++) {
        const struct layer_use *use = &g_array_index(sharing.uses, struct layer_use, i);
        if (*use->users > 1)
            use->summary->shared += use->bytes;
    }
    g_array_unref(sharing.uses);
    g_hash_table_unref(sharing.users);
    return ok;
}

static bool listing_read(struct image_store *store, struct listing *listing, GError **error)
{
    listing->texts = g_string_chunk_new(1 << 16);
    listing->summaries = g_array_new(FALSE, FALSE, sizeof(struct summary));
    listing->by_id = g_hash_table_new(g_str_hash, g_str_equal);
    listing->parents = g_hash_table_new(g_str_hash, g_str_equal);
    return database_query(store->database, take_summary, listing, error,
                          "SELECT id, labels, parent, created, size FROM image ORDER BY created DESC, serial DESC", NULL) &&
           database_query(store->database, take_name, listing, error, "SELECT name, value, is_digest, image FROM image_name",
                          NULL);
}

static void free_names(struct listed_name *name)
{
    while (name) {
        struct listed_name *next = name->next;
        g_free(name);
        name = next;
    }
}

static void listing_clear(struct listing *listing)
{
    for (guint i = 0; i < listing->summaries->len; i++) {
        free_names(g_array_index(listing->summaries, struct summary, i).tags);
        free_names(g_array_index(listing->summaries, struct summary, i).digests);
    }
    g_hash_table_unref(listing->parents);
    g_hash_table_unref(listing->by_id);
    g_array_unref(listing->summaries);
    g_string_chunk_free(listing->texts);
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
    if (values[0] && (values[1] || !parse_bool(values[0], &filter->dangling_only))) {
        g_autofree char *text = g_strjoinv(" ", values);
        return error_set(error, TARE_ERROR_INVALID, "Invalid filter 'dangling=[%s]'", text);
    }
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
        if (!filter_time(*value, &ns, error))
            return false;
        filter->before_ns = filter->before_ns ? MIN(filter->before_ns, ns) : ns;
    }
    return true;
}

/* One character of a class in brackets, as Go's path.Match has it: NULL where it is none. */
static const char *class_character(const char *at)
{
    if (!*at || *at == '-' || *at == ']')
        return NULL;
    if (*at == '\\')
        at++;
    return *at && at[1] ? g_utf8_next_char(at) : NULL;
}

/* From behind a "[": what follows the "]", or NULL. */
static const char *skip_class(const char *at)
{
    if (*at == '^')
        at++;
    for (unsigned n = 0; at && (*at != ']' || n == 0); n++) {
        at = class_character(at);
        if (at && *at == '-')
            at = class_character(at + 1);
    }
    return at ? at + 1 : NULL;
}

static bool check_patterns(char **patterns, GError **error)
{
    for (; *patterns; patterns++) {
        const char *at = *patterns;
        while (at && *at)
            at = *at == '[' ? skip_class(at + 1) : *at == '\\' ? (at[1] ? at + 2 : NULL) : at + 1;
        if (!at)
            return error_set(error, TARE_ERROR_INVALID, "syntax error in pattern");
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
    return filters_validate(filters, known, error) && check_patterns(filter->references, error) &&
           read_dangling(filters, filter, error) && read_times(store, filters, filter, error);
}

/* distribution/reference's FamiliarMatch: the pattern against the name with and without its tag; "*" does not cross "/". */
static bool reference_matches(const struct listed_name *name, char **patterns)
{
    g_autofree char *text = g_strconcat(name->name, name->is_digest ? "@" : ":", name->value, NULL);
    for (; *patterns; patterns++)
        if (fnmatch(*patterns, text, FNM_PATHNAME) == 0 || fnmatch(*patterns, name->name, FNM_PATHNAME) == 0)
            return true;
    return false;
}

static void keep_matching(struct listed_name **names, char **patterns)
{
    while (*names) {
        struct listed_name *name = *names;
        if (reference_matches(name, patterns)) {
            names = &name->next;
        } else {
            *names = name->next;
            g_free(name);
        }
    }
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
    bool named = summary->tags || summary->digests;
    if (filter->has_references) {
        keep_matching(&summary->tags, filter->references);
        keep_matching(&summary->digests, filter->references);
        if (!summary->tags && !summary->digests)
            return false;
    }
    if (named)
        return !filter->has_dangling || !filter->dangling_only || !summary->tags;
    if (filter->has_dangling && !filter->dangling_only)
        return false;
    return all || !g_hash_table_contains(listing->parents, summary->id);
}

/* ---- output ---- */

/* Names and values have no character that JSON escapes: the grammar of references does not allow any. */
static void append_names(GString *out, const char *key, const struct listed_name *names, const char *none)
{
    g_string_append_printf(out, ",\"%s\":[", key);
    if (!names && none)
        g_string_append_printf(out, "\"%s\"", none);
    for (const struct listed_name *name = names; name; name = name->next) {
        g_string_append(out, name == names ? "\"" : ",\"");
        g_string_append(out, name->name);
        g_string_append_c(out, name->is_digest ? '@' : ':');
        g_string_append(out, name->value);
        g_string_append_c(out, '"');
    }
    g_string_append_c(out, ']');
}

static void append_summary(GString *out, const struct summary *summary, const struct image_list_options *options)
{
    bool says_none = !summary->tags && !summary->digests && options->api_version < 43;
    gint64 containers =
        options->count_containers ? (gint64)options->count_containers(options->count_containers_user, summary->id) : -1;
    g_string_append_printf(out,
                           "{\"Containers\":%" G_GINT64_FORMAT ",\"Created\":%" G_GINT64_FORMAT
                           ",\"Id\":\"%s\",\"Labels\":%s,\"ParentId\":\"%s\"",
                           containers, summary->created_ns / 1000000000, summary->id, summary->labels ? summary->labels : "null",
                           summary->parent ? summary->parent : "");
    append_names(out, "RepoDigests", summary->digests, says_none ? "<none>@<none>" : NULL);
    append_names(out, "RepoTags", summary->tags, says_none ? "<none>:<none>" : NULL);
    g_string_append_printf(out, ",\"SharedSize\":%" G_GINT64_FORMAT ",\"Size\":%" G_GINT64_FORMAT, summary->shared,
                           summary->size);
    if (options->api_version < 44)
        g_string_append_printf(out, ",\"VirtualSize\":%" G_GINT64_FORMAT, summary->size);
    g_string_append_c(out, '}');
}

bool image_store_list_json(struct image_store *store, const struct image_list_options *options, GString *out, GError **error)
{
    struct image_filter filter = { 0 };
    struct listing listing = { 0 };
    if (!read_filter(store, options->filters, &filter, error)) {
        image_filter_clear(&filter);
        return false;
    }
    bool ok = listing_read(store, &listing, error);
    const char *separator = "[";
    for (guint i = 0; ok && i < listing.summaries->len; i++) {
        struct summary *summary = &g_array_index(listing.summaries, struct summary, i);
        summary->is_shown = passes(&listing, summary, &filter, options->all);
    }
    ok = ok && (!options->with_shared || read_shared(store, &listing, error));
    for (guint i = 0; ok && i < listing.summaries->len; i++) {
        const struct summary *summary = &g_array_index(listing.summaries, struct summary, i);
        if (!summary->is_shown)
            continue;
        g_string_append(out, separator);
        append_summary(out, summary, options);
        separator = ",";
    }
    g_string_append(out, *separator == '[' ? "[]" : "]");
    listing_clear(&listing);
    image_filter_clear(&filter);
    return ok;
}
