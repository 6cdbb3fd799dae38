/* tare image verify: is what we have what its names say? */
#include "image/image-internal.h"

#include "base/digest.h"
#include "base/identifier.h"

#include <string.h>

struct verifying {
    struct image_store *store;
    const struct image_verify_options *options;
    const char *holder;
    GHashTable *layers; /* that were looked at: diff id → NULL, or why it is damaged */
    GPtrArray *damaged; /* ids of layers and images */
};

static bool report(struct verifying *verifying, const char *id, const char *status, GError **error)
{
    return cancel_check(verifying->options->cancel, error) &&
           (!verifying->options->report || verifying->options->report(verifying->options->user, id, status, error));
}

/* What is wrong is reported, and not an error yet: the other layers are of interest, too. */
static bool report_damage(struct verifying *verifying, const char *id, const char *why, GError **error)
{
    g_autofree char *status = g_strconcat("DAMAGED: ", why, NULL);
    g_ptr_array_add(verifying->damaged, g_strdup(id));
    return report(verifying, id, status, error);
}

static bool verify_layer(struct verifying *verifying, const char *diff_id, GError **error)
{
    g_autoptr(GError) problem = NULL;
    bool remade = false;
    if (!g_hash_table_add(verifying->layers, g_strdup(diff_id)))
        return true;
    if (!layer_store_verify(verifying->store->layers, diff_id, &remade, &problem)) {
        g_autofree char *prefix = g_strdup_printf("layer %s is damaged: ", diff_id);
        const char *why = problem->message;
        return report_damage(verifying, diff_id, g_str_has_prefix(why, prefix) ? why + strlen(prefix) : why, error);
    }
    return report(verifying, diff_id, remade ? "OK (its index was damaged and has been made again)" : "OK", error);
}

static bool verify_config(struct verifying *verifying, const struct image *image, GError **error)
{
    g_autofree char *config = NULL;
    char digest[DIGEST_ROOM];
    if (!database_get_string(verifying->store->database, &config, error, "SELECT config FROM image WHERE id = ?", "s", image->id))
        return false;
    if (!config)
        return store_no_such_image(image->id, error);
    digest_of(config, strlen(config), digest);
    if (strcmp(digest, image->id) == 0)
        return true;
    g_autofree char *why = g_strdup_printf("its configuration has the digest %s", digest);
    return report_damage(verifying, image->id, why, error);
}

static bool verify_fixup(struct verifying *verifying, const struct image *image, GError **error)
{
    bool remade = false;
    g_autoptr(GError) problem = NULL;
    if (!layer_chain_verify(verifying->store->layers, (const char *const *)image->diff_ids, &remade, &problem))
        return report_damage(verifying, image->id, problem->message, error);
    return !remade || report(verifying, image->id, "OK (its fix-up index was damaged and has been made again)", error);
}

/* Nobody takes the layers away meanwhile. */
static bool verify_image(struct verifying *verifying, const struct image *image, GError **error)
{
    guint before = verifying->damaged->len;
    if (!image_store_hold_layers(verifying->store, verifying->holder, (const char *const *)image->diff_ids, error) ||
        !verify_config(verifying, image, error))
        return false;
    for (char **diff_id = image->diff_ids; *diff_id; diff_id++)
        if (!verify_layer(verifying, *diff_id, error))
            return false;
    return verifying->damaged->len > before || verify_fixup(verifying, image, error);
}

static bool verify_all(struct verifying *verifying, GError **error)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    if (!database_get_strings(verifying->store->database, ids, error, "SELECT id FROM image ORDER BY serial", NULL))
        return false;
    for (guint i = 0; i < ids->len; i++) {
        g_autoimage struct image *image = NULL;
        g_autoptr(GError) problem = NULL;
        if (!store_load(verifying->store, ids->pdata[i], &image, error))
            return false;
        if (!image || verify_image(verifying, image, &problem))
            continue;
        if (!error_is(problem, TARE_ERROR_NOT_FOUND)) /* one that was removed meanwhile is nobody's concern */
            return g_propagate_error(error, g_steal_pointer(&problem)), false;
    }
    return true;
}

static bool verify_one(struct verifying *verifying, const char *name, GError **error)
{
    g_autoimage struct image *image = NULL;
    return image_store_get(verifying->store, name, &image, error) && verify_image(verifying, image, error);
}

bool image_store_verify(struct image_store *store, const char *name, const struct image_verify_options *options, GError **error)
{
    char id[IDENTIFIER_LENGTH + 1];
    identifier_new(id);
    g_autofree char *holder = g_strconcat("verify/", id, NULL);
    g_autoptr(GHashTable) layers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) damaged = g_ptr_array_new_with_free_func(g_free);
    struct verifying verifying = { .store = store, .options = options, .holder = holder, .layers = layers, .damaged = damaged };
    bool ok = name ? verify_one(&verifying, name, error) : verify_all(&verifying, error);
    image_store_release_layers(store, holder, NULL);
    if (!ok || damaged->len == 0)
        return ok;
    g_ptr_array_add(damaged, NULL);
    g_autofree char *list = g_strjoinv(", ", (char **)damaged->pdata);
    return error_set(error, TARE_ERROR_CONFLICT, "damaged: %s", list);
}
