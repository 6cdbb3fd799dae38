/* docker image rm: Untagged and Deleted lines, and what protects an image, in Docker's order and words. */
#include "image/image-internal.h"

#include "base/digest.h"
#include "base/identifier.h"

#include <string.h>

/* One `docker image rm NAME`. */
struct removal {
    struct image_store *store;
    json_t *lines;     /* the answer */
    GPtrArray *fixups; /* chain ids whose fix-up index nobody needs any more */
    GHashTable *freed; /* diff ids of deleted images: what nobody else has goes */
};

enum conflict_kind {
    CONFLICT_CHILDREN = 1,
    CONFLICT_RUNNING = 2,
    CONFLICT_NAMES = 4,
    CONFLICT_STOPPED = 8,
    CONFLICTS_HARD = CONFLICT_CHILDREN | CONFLICT_RUNNING,
    CONFLICTS_SOFT = CONFLICT_NAMES | CONFLICT_STOPPED,
};

static void short_id(const char *id, char ret[IDENTIFIER_SHORT + 1])
{
    g_strlcpy(ret, g_str_has_prefix(id, DIGEST_PREFIX) ? digest_hex(id) : id, IDENTIFIER_SHORT + 1);
}

static void say(struct removal *removal, const char *what, const char *text)
{
    json_array_append_new(removal->lines, json_pack("{s:s}", what, text));
}

/* With the image's labels; its name is the id, as in docker. */
static bool emit_untag(struct image_store *store, const char *id, GError **error)
{
    g_autofree char *labels = NULL;
    if (!database_get_string(store->database, &labels, error, "SELECT labels FROM image WHERE id = ?", "s", id))
        return false;
    g_autoptr(json_t) parsed = labels ? json_parse(labels, strlen(labels), 64 << 20, "image labels", NULL) : NULL;
    store_emit(store, "untag", id, parsed, id);
    return true;
}

static bool untag(struct removal *removal, const char *id, const struct image_name *name, GError **error)
{
    if (!database_run(removal->store->database, error, "DELETE FROM image_name WHERE name = ? AND value = ?", "ss", name->name,
                      name->value))
        return false;
    g_autofree char *text = image_name_text(name);
    say(removal, "Untagged", text);
    return emit_untag(removal->store, id, error);
}

bool store_has_children(struct image_store *store, const char *id, bool *ret, GError **error)
{
    gint64 count;
    if (!database_get_int(store->database, 0, &count, error, "SELECT count(*) FROM image WHERE parent = ?", "s", id))
        return false;
    *ret = count > 0;
    return true;
}

static bool conflict(GError **error, const char *id, bool is_hard, const char *reason, const char *container)
{
    char image_short[IDENTIFIER_SHORT + 1], container_short[IDENTIFIER_SHORT + 1] = "";
    short_id(id, image_short);
    if (container)
        short_id(container, container_short);
    return error_set(error, TARE_ERROR_CONFLICT, "conflict: unable to delete %s (%s) - %s%s", image_short,
                     is_hard ? "cannot be forced" : "must be forced", reason, container_short);
}

/* False and an error where something of the mask stands against the removal; *ret_is_used tells whether it is a container. */
static bool check_conflicts(struct removal *removal, const char *id, unsigned mask, bool *ret_is_used, GError **error)
{
    g_autofree char *running = NULL, *stopped = NULL;
    g_autoptr(GPtrArray) names = NULL;
    bool has_children;
    *ret_is_used = false;
    if (!store_has_children(removal->store, id, &has_children, error) || !store_names(removal->store, id, &names, error))
        return false;
    if (removal->store->user_check)
        removal->store->user_check(removal->store->user_check_data, id, &running, &stopped);
    if ((mask & CONFLICT_CHILDREN) && has_children)
        return conflict(error, id, true, "image has dependent child images", NULL);
    if ((mask & CONFLICT_RUNNING) && running)
        return *ret_is_used = true, conflict(error, id, true, "image is being used by running container ", running);
    if ((mask & CONFLICT_NAMES) && names->len > 0)
        return conflict(error, id, false, "image is referenced in multiple repositories", NULL);
    if ((mask & CONFLICT_STOPPED) && stopped)
        return *ret_is_used = true, conflict(error, id, false, "image is being used by stopped container ", stopped);
    return true;
}

/* At most one tag, and digests of that repository only. */
static bool is_single_reference(const GPtrArray *names)
{
    const struct image_name *single = NULL;
    if (names->len <= 1)
        return true;
    for (guint i = 0; i < names->len; i++) {
        const struct image_name *name = names->pdata[i];
        if (!name->is_digest && single)
            return false;
        if (!name->is_digest)
            single = name;
    }
    if (!single)
        single = names->pdata[0];
    for (guint i = 0; i < names->len; i++)
        if (strcmp(((const struct image_name *)names->pdata[i])->name, single->name) != 0)
            return false;
    return true;
}

/* ---- the record and its layers ---- */

struct doomed_layer {
    char *chain_id;
    gint64 position;
};

static void clear_doomed(gpointer layer)
{
    g_free(((struct doomed_layer *)layer)->chain_id);
}

struct doomed_layers {
    GArray *layers; /* topmost first */
    GHashTable *diff_ids;
};

static bool take_layer(sqlite3_stmt *row, void *user, GError **error)
{
    struct doomed_layers *doomed = user;
    struct doomed_layer layer = { g_strdup((const char *)sqlite3_column_text(row, 0)), sqlite3_column_int64(row, 2) };
    g_array_append_val(doomed->layers, layer);
    g_hash_table_add(doomed->diff_ids, g_strdup((const char *)sqlite3_column_text(row, 1)));
    return true;
}

struct held {
    char *holder;
    gint64 next, most; /* how many of the image's lowest layers this holder and any holder have */
};

static bool take_held(sqlite3_stmt *row, void *user, GError **error)
{
    struct held *held = user;
    const char *holder = (const char *)sqlite3_column_text(row, 0);
    if (g_strcmp0(held->holder, holder) != 0) {
        g_free(held->holder);
        held->holder = g_strdup(holder);
        held->next = 0;
    }
    if (sqlite3_column_int64(row, 1) == held->next) {
        held->next++;
        held->most = MAX(held->most, held->next);
    }
    return true;
}

/* What stays below, and is not said to be deleted: layers on which a container or a build stands. */
static bool count_held(struct image_store *store, const char *id, gint64 *ret, GError **error)
{
    struct held held = { 0 };
    bool ok = database_query(
        store->database, take_held, &held, error,
        "SELECT holder, position FROM image_layer JOIN layer_hold USING (diff_id) WHERE image = ? ORDER BY holder, position", "s",
        id);
    g_free(held.holder);
    *ret = held.most;
    return ok;
}

static bool say_deleted_layers(struct removal *removal, const struct doomed_layers *doomed, gint64 n_held, GError **error)
{
    for (guint i = 0; i < doomed->layers->len; i++) {
        const struct doomed_layer *layer = &g_array_index(doomed->layers, struct doomed_layer, i);
        gint64 users;
        if (!database_get_int(removal->store->database, 0, &users, error, "SELECT count(*) FROM image_layer WHERE chain_id = ?",
                              "s", layer->chain_id))
            return false;
        if (users > 0 || layer->position < n_held)
            break; /* what lies below is used as well */
        say(removal, "Deleted", layer->chain_id);
        g_ptr_array_add(removal->fixups, g_strdup(layer->chain_id));
    }
    return true;
}

static bool delete_record(struct removal *removal, const char *id, GError **error)
{
    struct image_store *store = removal->store;
    struct doomed_layers doomed = { .layers = g_array_new(FALSE, FALSE, sizeof(struct doomed_layer)),
                                    .diff_ids = removal->freed };
    g_array_set_clear_func(doomed.layers, clear_doomed);
    gint64 n_held = 0;
    bool ok =
        database_query(store->database, take_layer, &doomed, error,
                       "SELECT chain_id, diff_id, position FROM image_layer WHERE image = ? ORDER BY position DESC", "s", id) &&
        count_held(store, id, &n_held, error) && database_run(store->database, error, "DELETE FROM image WHERE id = ?", "s", id);
    if (ok) {
        say(removal, "Deleted", id);
        store_emit(store, "delete", id, NULL, id);
        ok = say_deleted_layers(removal, &doomed, n_held, error);
    }
    g_array_unref(doomed.layers);
    return ok;
}

/* After the commit. A container of a removed image still holds its layers, and with them the fix-ups: those wait for the next
 * start's sweep. */
static bool remove_fixups(struct removal *removal, GError **error)
{
    gint64 holders;
    if (!database_get_int(removal->store->database, 0, &holders, error, "SELECT count(*) FROM layer_hold", NULL))
        return false;
    removal->store->fixups_wait |= holders > 0;
    for (guint i = 0; holders == 0 && i < removal->fixups->len; i++)
        if (!layer_store_remove_fixups(removal->store->layers, removal->fixups->pdata[i], error))
            return false;
    return true;
}

/* Deletes an image without names of interest and then, quietly, its parents that nothing else needs. */
static bool delete_image(struct removal *removal, const char *first, bool force, bool prune_parents, bool quiet, GError **error)
{
    g_autofree char *id = g_strdup(first);
    while (id) {
        bool is_used;
        g_autoptr(GError) problem = NULL;
        g_autoptr(GPtrArray) names = NULL;
        g_autofree char *parent = NULL;
        if (!store_names(removal->store, id, &names, error) ||
            !database_get_string(removal->store->database, &parent, error, "SELECT parent FROM image WHERE id = ?", "s", id))
            return false;
        if (!check_conflicts(removal, id, force ? CONFLICTS_HARD : CONFLICTS_HARD | CONFLICTS_SOFT, &is_used, &problem)) {
            bool has_children = true;
            if (!store_has_children(removal->store, id, &has_children, error))
                return false;
            bool is_dangling = names->len == 0 && !has_children;
            if (quiet && (!is_dangling || is_used))
                return true;
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
        for (guint i = 0; i < names->len; i++)
            if (!untag(removal, id, names->pdata[i], error))
                return false;
        if (!delete_record(removal, id, error))
            return false;
        g_free(id);
        id = prune_parents ? g_steal_pointer(&parent) : NULL;
        force = false;
        quiet = true;
    }
    return true;
}

/* ---- by name and by id ---- */

static bool drop_digests_without_tag(struct removal *removal, const char *id, const char *repository, GError **error)
{
    g_autoptr(GPtrArray) names = NULL;
    if (!store_names(removal->store, id, &names, error))
        return false;
    for (guint i = 0; i < names->len; i++) {
        const struct image_name *name = names->pdata[i];
        if (!name->is_digest && strcmp(name->name, repository) == 0)
            return true;
    }
    for (guint i = 0; i < names->len; i++) {
        const struct image_name *name = names->pdata[i];
        if (name->is_digest && strcmp(name->name, repository) == 0 && !untag(removal, id, name, error))
            return false;
    }
    return true;
}

static bool check_single_name_use(struct removal *removal, const char *id, const char *text, GError **error)
{
    g_autofree char *running = NULL, *stopped = NULL;
    if (removal->store->user_check)
        removal->store->user_check(removal->store->user_check_data, id, &running, &stopped);
    const char *container = running ? running : stopped;
    if (!container)
        return true;
    char image_short[IDENTIFIER_SHORT + 1], container_short[IDENTIFIER_SHORT + 1];
    short_id(id, image_short);
    short_id(container, container_short);
    return error_set(
        error, TARE_ERROR_CONFLICT,
        "conflict: unable to remove repository reference \"%s\" (must force) - container %s is using its referenced image %s",
        text, container_short, image_short);
}

/* Takes the given name away; *ret_done where other names remain. */
static bool remove_by_name(struct removal *removal, const char *id, const char *text, bool force, GPtrArray *names,
                           bool *ret_done, GError **error)
{
    struct reference reference;
    if (!force && is_single_reference(names) && !check_single_name_use(removal, id, text, error))
        return false;
    if (!reference_parse(text, &reference, error))
        return false;
    reference_default_tag(&reference);
    g_autofree char *familiar_name = reference_familiar_name(&reference);
    struct image_name name = { .name = familiar_name,
                               .value = reference.digest ? reference.digest : reference.tag,
                               .is_digest = reference.digest != NULL };
    g_autoptr(GPtrArray) left = NULL;
    bool ok = untag(removal, id, &name, error) &&
              (name.is_digest || drop_digests_without_tag(removal, id, familiar_name, error)) &&
              store_names(removal->store, id, &left, error);
    reference_clear(&reference);
    *ret_done = ok && left->len > 0;
    return ok;
}

static bool remove_all_names(struct removal *removal, const char *id, bool force, GPtrArray *names, GError **error)
{
    bool is_used;
    if (!is_single_reference(names))
        return true;
    unsigned mask = CONFLICTS_HARD | (force ? 0 : CONFLICT_STOPPED);
    if (!check_conflicts(removal, id, mask, &is_used, error))
        return false;
    for (guint i = 0; i < names->len; i++)
        if (!untag(removal, id, names->pdata[i], error))
            return false;
    return true;
}

static bool is_id_prefix(const char *id, const char *text)
{
    return g_str_has_prefix(id, text) || g_str_has_prefix(digest_hex(id), text);
}

static bool remove_image(struct removal *removal, const char *text, bool force, bool prune_parents, GError **error)
{
    g_autofree char *id = NULL;
    g_autoptr(GPtrArray) names = NULL;
    if (!store_resolve(removal->store, text, &id, error))
        return false;
    if (!id)
        return store_no_such_image(text, error);
    if (!store_names(removal->store, id, &names, error))
        return false;
    bool done = false, by_id = is_id_prefix(id, text);
    if (by_id ? !remove_all_names(removal, id, force, names, error)
              : !remove_by_name(removal, id, text, force, names, &done, error))
        return false;
    return done || delete_image(removal, id, force, prune_parents, !by_id, error);
}

static void removal_init(struct removal *removal, struct image_store *store)
{
    *removal = (struct removal){ .store = store,
                                 .lines = json_array(),
                                 .fixups = g_ptr_array_new_with_free_func(g_free),
                                 .freed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL) };
}

static void removal_clear(struct removal *removal)
{
    json_decref(removal->lines);
    g_ptr_array_unref(removal->fixups);
    g_hash_table_unref(removal->freed);
}

/* Ends the transaction, and then lets the files go. */
static bool removal_end(struct removal *removal, bool ok, GError **error)
{
    struct image_store *store = removal->store;
    return database_end(store->database, ok, error) && store_collect_layers(store, removal->freed, error) &&
           remove_fixups(removal, error);
}

bool image_store_remove(struct image_store *store, const char *name, bool force, bool prune_parents, json_t **ret, GError **error)
{
    struct removal removal;
    removal_init(&removal, store);
    g_mutex_lock(&store->lock);
    bool ok = database_begin(store->database, true, error) &&
              removal_end(&removal, remove_image(&removal, name, force, prune_parents, error), error);
    g_mutex_unlock(&store->lock);
    if (ok)
        *ret = json_incref(removal.lines);
    removal_clear(&removal);
    return ok;
}

/* As many as a transaction takes: what is killed in between is whole or absent, and others get their turn. */
#define REMOVALS_PER_TRANSACTION 250

static bool remove_some(struct removal *removal, const char *const **names, GError **error)
{
    for (guint n = 0; **names && n < REMOVALS_PER_TRANSACTION; n++, ++*names) {
        g_autoptr(GError) problem = NULL;
        /* What is refused has changed nothing: conflicts are looked for before anything is untagged. */
        if (!remove_image(removal, **names, false, true, &problem) && !error_is(problem, TARE_ERROR_CONFLICT) &&
            !error_is(problem, TARE_ERROR_NOT_FOUND))
            return g_propagate_error(error, g_steal_pointer(&problem)), false;
    }
    return true;
}

bool store_remove_many(struct image_store *store, const char *const *names, json_t *lines, GError **error)
{
    bool ok = true;
    while (ok && *names) {
        struct removal removal;
        removal_init(&removal, store);
        g_mutex_lock(&store->lock);
        ok = database_begin(store->database, true, error) && removal_end(&removal, remove_some(&removal, &names, error), error);
        g_mutex_unlock(&store->lock);
        json_array_extend(lines, removal.lines);
        removal_clear(&removal);
    }
    return ok;
}
