#include "layer/mounts.h"

#include "base/fd.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Fix-up indexes: layers/fixups/<hex of the chain id>.erofs, for chains whose layers do not mean the same over any other
 * (docs/ARCHITECTURE.md, section 1). */

/* ---- chain ids ---- */

/* The next chain id from the last: the digest of "<chain id> <diff id>". */
static void extend_chain_id(char chain_id[DIGEST_ROOM], const char *diff_id)
{
    if (chain_id[0] == '\0') {
        g_strlcpy(chain_id, diff_id, DIGEST_ROOM);
        return;
    }
    char text[2 * DIGEST_ROOM];
    int n = g_snprintf(text, sizeof text, "%s %s", chain_id, diff_id);
    digest_of(text, (size_t)n, chain_id);
}

void layer_chain_id(const char *const *diff_ids, char ret[72])
{
    ret[0] = '\0';
    for (; diff_ids && *diff_ids; diff_ids++)
        extend_chain_id(ret, *diff_ids);
}

/* ---- the layers of a chain, opened ---- */

struct chain {
    GArray *layers; /* of struct fixup_layer, lowest first; owns fds and facts */
    bool has_facts;
};

static void chain_clear(struct chain *chain)
{
    for (guint i = 0; i < chain->layers->len; i++) {
        struct fixup_layer *layer = &g_array_index(chain->layers, struct fixup_layer, i);
        fd_close(layer->index_fd);
        layer_facts_free((struct layer_facts *)layer->facts);
    }
    g_array_unref(chain->layers);
}

static bool chain_add(struct layer_store *store, struct chain *chain, const char *diff_id, GError **error)
{
    struct stat st;
    guint64 content_bytes;
    struct layer_facts *facts = NULL;
    g_autofd int tar = layer_open_file(store, diff_id, LAYER_FILE_TAR, error);
    if (tar < 0)
        return false;
    g_autofd int index = layer_open_file(store, diff_id, LAYER_FILE_INDEX, error);
    if (index < 0)
        return false;
    if (fstat(tar, &st) < 0)
        return error_set_errno(error, errno, "stat layer %s", diff_id);
    if (!layer_read_sidecar(store, diff_id, &content_bytes, &facts, error))
        return false;
    struct fixup_layer layer = {
        .diff_id = diff_id, .tar_bytes = (guint64)st.st_size, .index_fd = fd_steal(&index), .facts = facts
    };
    g_array_append_val(chain->layers, layer);
    chain->has_facts |= !layer_facts_is_empty(facts);
    return true;
}

/* ---- building ---- */

static char *fixup_key(const char *chain_id)
{
    return g_strconcat("fix-", digest_hex(chain_id), NULL);
}

static bool check_fixup(int index, const char *chain_id, GError **error)
{
    g_autoptr(erofs_reader) reader = NULL;
    if (!erofs_reader_open(index, &reader, error))
        return false;
    struct erofs_check_options options = { .id = chain_id };
    options.n_devices = erofs_reader_devices(reader, &options.devices);
    return erofs_check(index, &options, error);
}

static bool build_fixup(int directory, const struct chain *chain, const char *chain_id, const char *name, GError **error)
{
    g_autofree char *temporary = NULL;
    g_autofd int fd = file_new_temporary(directory, 0600, &temporary, error);
    if (fd < 0)
        return false;
    struct fd_sink sink;
    bool needed = false;
    fd_sink_init(&sink, fd, "fix-up index");
    bool ok = fixup_build((const struct fixup_layer *)(void *)chain->layers->data, chain->layers->len, chain_id, &sink.sink,
                          &needed, error);
    if (ok && needed && check_fixup(fd, chain_id, error) && file_publish(directory, temporary, fd, name, true, error))
        return true;
    ok = ok && !needed;
    unlinkat(directory, temporary, 0);
    return ok;
}

static int open_fixups(struct layer_store *store, GError **error)
{
    return dir_make_path(store->fixups, 0700, error);
}

static bool chain_open(struct layer_store *store, const char *const *diff_ids, struct chain *ret, char chain_id[DIGEST_ROOM],
                       GError **error)
{
    chain_id[0] = '\0';
    *ret = (struct chain){ .layers = g_array_new(FALSE, FALSE, sizeof(struct fixup_layer)) };
    for (; diff_ids && *diff_ids; diff_ids++) {
        if (!layer_check_diff_id(*diff_ids, error) || !chain_add(store, ret, *diff_ids, error))
            return false;
        extend_chain_id(chain_id, *diff_ids);
    }
    return true;
}

/* Of the whole chain alone: what its beginnings mean is asked when an image is registered that ends there. A single layer has
 * nothing below it, but a hard link to nowhere is found here too. */
bool layer_chain_prepare(struct layer_store *store, const char *const *diff_ids, GError **error)
{
    char chain_id[DIGEST_ROOM], name[LAYER_NAME_ROOM];
    struct chain chain;
    g_autofd int directory = open_fixups(store, error);
    bool ok = chain_open(store, diff_ids, &chain, chain_id, error) && directory >= 0;
    if (ok && chain.has_facts) {
        layer_file_name(chain_id, LAYER_FILE_INDEX, name);
        ok = faccessat(directory, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || build_fixup(directory, &chain, chain_id, name, error);
    }
    chain_clear(&chain);
    return ok;
}

bool layer_chain_has_fixup(struct layer_store *store, const char *const *diff_ids)
{
    char chain_id[DIGEST_ROOM], name[LAYER_NAME_ROOM];
    layer_chain_id(diff_ids, chain_id);
    if (!*chain_id)
        return false;
    layer_file_name(chain_id, LAYER_FILE_INDEX, name);
    g_autofree char *path = g_build_filename(store->fixups, name, NULL);
    return access(path, F_OK) == 0;
}

static bool same_file(int directory, const char *one, const char *other)
{
    char digests[2][DIGEST_ROOM];
    const char *const names[] = { one, other };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofd int fd = openat(directory, names[i], O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || !digest_of_fd(fd, digests[i], NULL))
            return false;
    }
    return strcmp(digests[0], digests[1]) == 0;
}

/* Makes the fix-up anew beside the old one. */
static bool compare_fixup(struct layer_store *store, int directory, const struct chain *chain, const char *chain_id,
                          bool *ret_remade, GError **error)
{
    /* One that is left behind by a death counts as a temporary, and is swept. */
    char name[LAYER_NAME_ROOM];
    layer_file_name(chain_id, LAYER_FILE_INDEX, name);
    g_autofree char *again = g_strconcat(FILE_TEMPORARY_PREFIX, name, NULL), *key = fixup_key(chain_id);
    if (!build_fixup(directory, chain, chain_id, again, error))
        return false;
    bool needed = faccessat(directory, again, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    bool there = faccessat(directory, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    *ret_remade = needed != there || (needed && !same_file(directory, name, again));
    bool ok = !*ret_remade || (layer_mounts_forget(store, key, error) &&
                               ((needed ? renameat(directory, again, directory, name) : unlinkat(directory, name, 0)) == 0 ||
                                error_set_errno(error, errno, "replace fix-up of chain %s", chain_id)));
    unlinkat(directory, again, 0);
    return ok;
}

bool layer_chain_verify(struct layer_store *store, const char *const *diff_ids, bool *ret_remade, GError **error)
{
    char chain_id[DIGEST_ROOM];
    struct chain chain;
    *ret_remade = false;
    g_autofd int directory = open_fixups(store, error);
    bool ok = chain_open(store, diff_ids, &chain, chain_id, error) && directory >= 0;
    if (ok && chain.has_facts)
        ok = compare_fixup(store, directory, &chain, chain_id, ret_remade, error);
    chain_clear(&chain);
    return ok;
}

/* ---- using ---- */

bool layer_fixup_source(struct layer_store *store, const char *const *diff_ids, char **ret_key, struct mount_source *ret,
                        bool *ret_found, GError **error)
{
    char chain_id[DIGEST_ROOM], name[LAYER_NAME_ROOM];
    layer_chain_id(diff_ids, chain_id);
    layer_file_name(chain_id, LAYER_FILE_INDEX, name);
    g_autofree char *path = g_build_filename(store->fixups, name, NULL);
    g_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    *ret_found = fd >= 0;
    if (fd < 0)
        return errno == ENOENT || error_set_errno(error, errno, "open %s", path);
    g_autoptr(erofs_reader) reader = NULL;
    if (!erofs_reader_open(fd, &reader, error))
        return false;
    const struct erofs_device *devices;
    size_t n = erofs_reader_devices(reader, &devices);
    ret->devices = g_new0(char *, n + 1);
    for (size_t i = 0; i < n; i++) {
        char tar[LAYER_NAME_ROOM];
        layer_file_name(devices[i].diff_id, LAYER_FILE_TAR, tar);
        ret->devices[i] = g_build_filename(store->directory, tar, NULL);
    }
    ret->index = g_steal_pointer(&path);
    ret->key = *ret_key = fixup_key(chain_id);
    return true;
}

bool layer_store_remove_fixups(struct layer_store *store, const char *chain_id, GError **error)
{
    if (!layer_check_diff_id(chain_id, error))
        return false;
    char name[LAYER_NAME_ROOM];
    layer_file_name(chain_id, LAYER_FILE_INDEX, name);
    g_autofree char *key = fixup_key(chain_id);
    g_autofree char *path = g_build_filename(store->fixups, name, NULL);
    if (!layer_mounts_forget(store, key, error))
        return false;
    return unlink(path) == 0 || errno == ENOENT || error_set_errno(error, errno, "remove fix-up of chain %s", chain_id);
}
