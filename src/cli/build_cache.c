/* --cache-from and --cache-to: images whose steps the engine may take over. A local cache is a saved image in a directory. */
#include "cli/build-internal.h"

#include "base/fd.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define IDS_MAX 65536
#define STAGES_ANNOTATION "tare.build.cache" /* of an index that has the images of a build's stages */
#define OCI_INDEX "application/vnd.oci.image.index.v1+json"

/* The value of key in "type=local,dest=DIR"; NULL where there is none. g_free. */
static char *field_of(const char *text, const char *key)
{
    g_auto(GStrv) fields = g_strsplit(text, ",", -1);
    gsize length = strlen(key);

    for (char **field = fields; *field; field++)
        if (strncmp(*field, key, length) == 0 && (*field)[length] == '=')
            return g_strdup(*field + length + 1);
    return NULL;
}

/* The images of a local cache, loaded, are added to sources; none yet is no error. */
static bool load_local(struct cli *cli, const char *directory, json_t *sources, GError **error)
{
    g_autofree char *tar = g_build_filename(directory, "cache.tar", NULL), *text = NULL;
    g_autofd int dirfd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = open(tar, O_RDONLY | O_CLOEXEC);

    if (dirfd < 0 || fd < 0 || !file_read(dirfd, "image", IDS_MAX, &text, NULL, NULL))
        return true;
    struct call call = { .method = "POST", .path = "/images/load", .query = "quiet=1", .has_body_fd = true, .body_fd = fd };
    g_auto(GStrv) ids = g_strsplit(text, "\n", -1);

    if (!api_done(cli, &call, error))
        return false;
    for (char **id = ids; *id; id++)
        if (**id)
            json_array_append_new(sources, json_string_lossy(*id));
    return true;
}

/* An image, or what mode=max left there: an index of the stages' images. What cannot be had is no cache. */
static void add_registry(struct cli *cli, const char *name, json_t *sources)
{
    g_autofree char *normal = manifest_normalize(name, NULL);
    g_autofree char *repository = normal ? g_strndup(normal, (gsize)(strrchr(normal, ':') - normal)) : NULL;
    g_autoptr(json_t) found = normal && !strchr(normal, '@') ? manifest_fetch(cli, normal, false, NULL) : NULL;
    const json_t *document = found ? manifest_document(found) : NULL;
    json_t *entries = json_get_array(document, "manifests"), *entry;
    size_t i;

    if (!json_get_string(json_get_object(document, "annotations"), STAGES_ANNOTATION, NULL)) {
        json_array_append_new(sources, json_string_lossy(name));
        return;
    }
    json_array_foreach(entries, i, entry)
    {
        g_autofree char *reference = g_strconcat(repository, "@", json_get_string(entry, "digest", ""), NULL);

        json_array_append_new(sources, json_string_lossy(reference));
    }
}

/* The flag's values were cut at every comma: what follows "type=…" belongs to it. */
static char **join_fields(const char *const *list)
{
    GPtrArray *whole = g_ptr_array_new();

    for (; *list; list++) {
        char *last = whole->len ? whole->pdata[whole->len - 1] : NULL;

        if (last && g_str_has_prefix(last, "type=") && strchr(*list, '=') && !g_str_has_prefix(*list, "type=")) {
            whole->pdata[whole->len - 1] = g_strconcat(last, ",", *list, NULL);
            g_free(last);
        } else {
            g_ptr_array_add(whole, g_strdup(*list));
        }
    }
    g_ptr_array_add(whole, NULL);
    return (char **)g_ptr_array_free(whole, FALSE);
}

/* type=mount,id=NAME,src=FILE: what RUN --mount=type=cache has there. None yet is no error. */
static bool load_mount(struct cli *cli, const char *name, const char *file, GError **error)
{
    g_autofd int fd = open(file, O_RDONLY | O_CLOEXEC);
    g_autoptr(GString) query = g_string_new(NULL);
    struct call call = { .method = "POST", .path = "/build/caches", .has_body_fd = true, .body_fd = fd };

    if (fd < 0)
        return errno == ENOENT || error_set_errno(error, errno, "open %s", file);
    query_add(query, "id", name);
    call.query = query->str;
    return api_done(cli, &call, error);
}

static bool save_mount(struct cli *cli, const char *name, const char *file, GError **error)
{
    g_autoptr(GString) query = g_string_new(NULL);
    struct call call = { .method = "GET", .path = "/build/caches" };

    query_add(query, "id", name);
    call.query = query->str;
    g_autoptr(response_t) response = api_call(cli, &call, error);

    if (!response)
        return false;
    g_autofd int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    return (fd >= 0 || error_set_errno(error, errno, "open %s", file)) && response_copy(response, fd, error);
}

json_t *build_cache_sources(struct cli *cli, const char *const *list, GError **error)
{
    g_autoptr(json_t) sources = json_array();
    g_auto(GStrv) whole = join_fields(list);

    for (list = (const char *const *)whole; *list; list++) {
        g_autofree char *type = field_of(*list, "type"), *ref = field_of(*list, "ref"), *src = field_of(*list, "src"),
                        *mount = field_of(*list, "id");

        if (g_strcmp0(type, "mount") == 0 && mount && src) {
            if (!load_mount(cli, mount, src, error))
                return NULL;
        } else if (!type && !strchr(*list, '=')) {
            json_array_append_new(sources, json_string_lossy(*list));
        } else if (g_strcmp0(type, "registry") == 0 && ref) {
            add_registry(cli, ref, sources);
        } else if (g_strcmp0(type, "local") == 0 && src) {
            if (!load_local(cli, src, sources, error))
                return NULL;
        } else {
            error_set(
                error, TARE_ERROR_INVALID,
                "unknown cache source %s: an image, type=registry,ref=IMAGE, type=local,src=DIR or type=mount,id=NAME,src=FILE",
                *list);
            return NULL;
        }
    }
    return g_steal_pointer(&sources);
}

/* ---- export ---- */

/* The result first: who pulls the cache as an image gets that. */
static GPtrArray *images_of(const struct build_result *result, bool with_stages)
{
    GPtrArray *images = g_ptr_array_new();

    for (guint i = 0; i < result->images->len; i++)
        g_ptr_array_add(images, result->images->pdata[i]);
    for (guint i = 0; with_stages && i < result->stages->len; i++)
        if (!g_ptr_array_find_with_equal_func(images, result->stages->pdata[i], g_str_equal, NULL))
            g_ptr_array_add(images, result->stages->pdata[i]);
    return images;
}

/* The archive first, then the ids that make it count. */
static bool save_local(struct cli *cli, const GPtrArray *images, const char *directory, GError **error)
{
    g_autofree char *tar = g_build_filename(directory, "cache.tar", NULL);
    g_autoptr(GString) query = g_string_new(NULL), ids = g_string_new(NULL);
    struct call call = { .method = "GET", .path = "/images/get" };

    for (guint i = 0; i < images->len; i++) {
        query_add(query, "names", images->pdata[i]);
        g_string_append_printf(ids, "%s%s", i ? "\n" : "", (char *)images->pdata[i]);
    }
    call.query = query->str;
    if (g_mkdir_with_parents(directory, 0777) < 0)
        return error_set_errno(error, errno, "mkdir %s", directory);
    g_autofd int dirfd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_autoptr(response_t) response = dirfd < 0 ? NULL : api_call(cli, &call, error);

    if (!response)
        return dirfd >= 0 ? false : error_set_errno(error, errno, "open %s", directory);
    g_autofd int fd = open(tar, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    return (fd >= 0 || error_set_errno(error, errno, "open %s", tar)) && response_copy(response, fd, error) &&
           file_write(dirfd, "image", ids->str, ids->len, 0644, false, error);
}

static bool has_image(struct cli *cli, const char *name)
{
    g_autofree char *path = api_path("images", name, "/json");
    struct call call = { .method = "GET", .path = path };

    return api_done(cli, &call, NULL);
}

/* The engine pushes what has a name; one that is only the cache's goes again. */
static bool push_image(struct cli *cli, const char *image, const char *name, GError **error)
{
    static const char *const none[] = { NULL }, *const any[] = { "", NULL };
    const char *const names[] = { name, NULL };
    g_autoptr(GPtrArray) images = g_ptr_array_new();
    struct build_result result = { .images = images, .platforms = any, .tags = none };
    bool was_there = has_image(cli, name), good;

    g_ptr_array_add(images, (gpointer)image);
    good = build_push(cli, &result, names, error);
    json_decref(result.pushed);
    if (good && !was_there) {
        g_autofree char *path = api_path("images", name, "");
        struct call call = { .method = "DELETE", .path = path, .query = "noprune=1" };

        api_done(cli, &call, NULL);
    }
    return good;
}

/* Several images: each under its digest, and an index of them under the name. */
static bool push_images(struct cli *cli, const GPtrArray *images, const char *name, GError **error)
{
    g_autofree char *normal = manifest_normalize(name, error);
    g_autofree char *repository = normal ? g_strndup(normal, (gsize)(strrchr(normal, ':') - normal)) : NULL;
    g_autoptr(json_t) manifests = repository ? build_push_each(cli, images, repository, error) : NULL;
    g_autoptr(json_t) entries = json_array(), index = NULL, pushed = NULL;
    json_t *manifest;
    char *text;
    size_t i;
    bool good;

    if (!manifests)
        return false;
    json_array_foreach(manifests, i, manifest) json_array_append(entries, json_get_object(manifest, "Descriptor"));
    index = json_pack("{s:i, s:s, s:O, s:{s:s}}", "schemaVersion", 2, "mediaType", OCI_INDEX, "manifests", entries, "annotations",
                      STAGES_ANNOTATION, "max");
    text = json_dumps(index, JSON_INDENT(3));
    good = manifest_push_text(cli, normal, OCI_INDEX, text, &pushed, error);
    free(text);
    return good;
}

static bool is_max(const char *text)
{
    g_autofree char *mode = field_of(text, "mode");

    return g_strcmp0(mode, "max") == 0;
}

bool build_cache_wants_stages(const char *const *list)
{
    g_auto(GStrv) whole = join_fields(list);
    bool wanted = false;

    for (char **item = whole; *item; item++)
        wanted = wanted || is_max(*item);
    return wanted;
}

static bool check_mode(const char *mode, GError **error)
{
    return !mode || strcmp(mode, "min") == 0 || strcmp(mode, "max") == 0 ||
           error_set(error, TARE_ERROR_INVALID, "unknown cache mode %s: min or max", mode);
}

bool build_cache_export(struct cli *cli, const char *const *list, const struct build_result *result, GError **error)
{
    g_auto(GStrv) whole = join_fields(list);

    for (list = (const char *const *)whole; *list; list++) {
        g_autofree char *type = field_of(*list, "type"), *ref = field_of(*list, "ref"), *dest = field_of(*list, "dest"),
                        *mount = field_of(*list, "id"), *mode = field_of(*list, "mode");
        g_autoptr(GPtrArray) images = images_of(result, is_max(*list));
        const char *name = ref ? ref : strchr(*list, '=') ? NULL : *list;
        bool good;

        if (!check_mode(mode, error))
            return false;
        if (g_strcmp0(type, "inline") == 0)
            continue; /* an image says by its history what its steps were */
        if (g_strcmp0(type, "mount") == 0 && mount && dest)
            good = save_mount(cli, mount, dest, error);
        else if (g_strcmp0(type, "local") == 0 && dest)
            good = save_local(cli, images, dest, error);
        else if (name && (!type || strcmp(type, "registry") == 0))
            good = images->len > 1 ? push_images(cli, images, name, error) : push_image(cli, images->pdata[0], name, error);
        else
            good = error_set(error, TARE_ERROR_INVALID,
                             "unknown cache exporter %s: inline, registry,ref=IMAGE, local,dest=DIR or mount,id=NAME,dest=FILE",
                             *list);
        if (!good)
            return false;
    }
    return true;
}
