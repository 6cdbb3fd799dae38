/* Names: how a user's text finds an image, tags and digests. */
#include "image/image-internal.h"

#include "base/digest.h"
#include "base/timestamp.h"

#include <string.h>

void image_name_free(gpointer data)
{
    struct image_name *name = data;
    g_free(name->name);
    g_free(name->value);
    g_free(name);
}

char *image_name_text(const struct image_name *name)
{
    return g_strconcat(name->name, name->is_digest ? "@" : ":", name->value, NULL);
}

/* What a familiar name leaves out. */
static const char *implied_prefix(const char *name)
{
    const char *slash = strchr(name, '/');
    if (!slash)
        return "docker.io/library/";
    bool has_domain = memchr(name, '.', (size_t)(slash - name)) || memchr(name, ':', (size_t)(slash - name)) ||
                      g_str_has_prefix(name, "localhost/");
    return has_domain ? "" : "docker.io/";
}

gint image_name_compare(const char *name_a, const char *value_a, bool digest_a, const char *name_b, const char *value_b,
                        bool digest_b)
{
    if (strcmp(name_a, name_b) == 0)
        return digest_a != digest_b ? (digest_a ? 1 : -1) : strcmp(value_a, value_b);
    g_autofree char *a = g_strconcat(implied_prefix(name_a), name_a, digest_a ? "@" : ":", value_a, NULL);
    g_autofree char *b = g_strconcat(implied_prefix(name_b), name_b, digest_b ? "@" : ":", value_b, NULL);
    return strcmp(a, b);
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
    const struct image_name *x = *(const struct image_name *const *)a, *y = *(const struct image_name *const *)b;
    return image_name_compare(x->name, x->value, x->is_digest, y->name, y->value, y->is_digest);
}

static bool take_name(sqlite3_stmt *row, void *user, GError **error)
{
    struct image_name *name = g_new0(struct image_name, 1);
    name->name = g_strdup((const char *)sqlite3_column_text(row, 0));
    name->value = g_strdup((const char *)sqlite3_column_text(row, 1));
    name->is_digest = sqlite3_column_int(row, 2) != 0;
    g_ptr_array_add(user, name);
    return true;
}

bool store_names(struct image_store *store, const char *id, GPtrArray **ret, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(image_name_free);
    if (!database_query(store->database, take_name, names, error, "SELECT name, value, is_digest FROM image_name WHERE image = ?",
                        "s", id))
        return false;
    g_ptr_array_sort(names, compare_names);
    *ret = g_steal_pointer(&names);
    return true;
}

bool store_no_such_image(const char *text, GError **error)
{
    struct reference reference;
    if (strcmp(text, DIGEST_PREFIX) == 0)
        return error_set(error, TARE_ERROR_INVALID, "invalid reference format");
    if (g_str_has_prefix(text, DIGEST_PREFIX))
        return error_set(error, TARE_ERROR_NOT_FOUND, "No such image: %s", text);
    g_autoptr(GError) unnamed = NULL;
    if (!reference_parse(text, &reference, &unnamed)) {
        if (reference_may_be_id(text)) /* 64 digits are no name */
            return error_set(error, TARE_ERROR_NOT_FOUND, "No such image: %s", text);
        g_propagate_error(error, g_steal_pointer(&unnamed));
        return false;
    }
    reference_default_tag(&reference);
    g_autofree char *familiar = reference_familiar(&reference);
    reference_clear(&reference);
    return error_set(error, TARE_ERROR_NOT_FOUND, "No such image: %s", familiar);
}

/* Takes the reference. */
static bool find_name(struct image_store *store, struct reference *reference, char **ret_id, GError **error)
{
    reference_default_tag(reference);
    g_autofree char *name = reference_familiar_name(reference);
    bool ok = database_get_string(store->database, ret_id, error, "SELECT image FROM image_name WHERE name = ? AND value = ?",
                                  "ss", name, reference->digest ? reference->digest : reference->tag);
    reference_clear(reference);
    return ok;
}

bool image_store_named(struct image_store *store, const char *text, char **ret_id, GError **error)
{
    struct reference reference;
    return reference_parse(text, &reference, error) && find_name(store, &reference, ret_id, error);
}

/* What is no reference names nothing. */
static bool by_name(struct image_store *store, const char *text, char **ret_id, GError **error)
{
    struct reference reference;
    *ret_id = NULL;
    return !reference_parse(text, &reference, NULL) || find_name(store, &reference, ret_id, error);
}

/* A unique prefix; two that share it are no match, as Docker has it. */
static bool by_prefix(struct image_store *store, const char *text, char **ret_id, GError **error)
{
    *ret_id = NULL;
    if (!reference_may_be_id(text))
        return true;
    const char *hex = g_str_has_prefix(text, DIGEST_PREFIX) ? digest_hex(text) : text;
    g_autofree char *low = g_strconcat(DIGEST_PREFIX, hex, NULL);
    g_autofree char *high = g_strconcat(DIGEST_PREFIX, hex, "g", NULL);
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(g_free);
    if (!database_get_strings(store->database, found, error, "SELECT id FROM image WHERE id >= ? AND id < ? LIMIT 2", "ss", low,
                              high))
        return false;
    if (found->len == 1)
        *ret_id = g_strdup(found->pdata[0]);
    return true;
}

bool store_resolve(struct image_store *store, const char *text, char **ret_id, GError **error)
{
    char *id = NULL;
    if (!g_str_has_prefix(text, DIGEST_PREFIX) && !by_name(store, text, &id, error))
        return false;
    if (!id && !by_prefix(store, text, &id, error))
        return false;
    *ret_id = id;
    return true;
}

static bool put_tag(struct image_store *store, const char *name, const char *tag, const char *id, GError **error)
{
    return database_run(store->database, error,
                        "INSERT INTO image_name (name, value, is_digest, image) VALUES (?, ?, 0, ?) ON CONFLICT (name, value) "
                        "DO UPDATE SET image = excluded.image",
                        "sss", name, tag, id) &&
           store_note_tagging(store, id, error);
}

bool image_store_tag(struct image_store *store, const struct image *image, const char *text, GError **error)
{
    struct reference reference;
    if (!reference_parse(text, &reference, error))
        return false;
    if (reference.digest) {
        reference_clear(&reference);
        return error_set(error, TARE_ERROR_INVALID, "refusing to create a tag with a digest reference");
    }
    reference_default_tag(&reference);
    g_autofree char *name = reference_familiar_name(&reference);
    g_autofree char *familiar = reference_familiar(&reference);
    if (strcmp(name, "sha256") == 0) {
        reference_clear(&reference);
        return error_set(error, TARE_ERROR_INVALID, "refusing to create an ambiguous tag using digest algorithm as name");
    }
    g_mutex_lock(&store->lock);
    bool ok = database_begin(store->database, true, error) &&
              database_end(store->database, put_tag(store, name, reference.tag, image->id, error), error);
    g_mutex_unlock(&store->lock);
    reference_clear(&reference);
    if (ok)
        store_emit(store, "tag", image->id, store_labels(image->config), familiar);
    return ok;
}

bool image_store_tags(struct image_store *store, const char *name, char ***ret, GError **error)
{
    GPtrArray *tags = g_ptr_array_new_with_free_func(g_free);
    bool ok = database_get_strings(store->database, tags, error,
                                   "SELECT value FROM image_name WHERE name = ? AND is_digest = 0 ORDER BY value", "s", name);
    g_ptr_array_add(tags, NULL);
    if (ok)
        *ret = (char **)g_ptr_array_free(tags, FALSE);
    else
        g_ptr_array_unref(tags);
    return ok;
}
