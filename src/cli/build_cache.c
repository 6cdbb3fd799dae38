/* --cache-from and --cache-to: images whose steps the engine may take over. A local cache is a saved image in a directory. */
#include "cli/build-internal.h"

#include "base/fd.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define ID_MAX 128

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

/* The image of a local cache, loaded; NULL without an error where there is none yet. */
static char *load_local(struct cli *cli, const char *directory, GError **error)
{
    g_autofree char *tar = g_build_filename(directory, "cache.tar", NULL), *id = NULL;
    g_autofd int dirfd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = open(tar, O_RDONLY | O_CLOEXEC);

    if (dirfd < 0 || fd < 0 || !file_read(dirfd, "image", ID_MAX, &id, NULL, NULL))
        return NULL;
    struct call call = { .method = "POST", .path = "/images/load", .query = "quiet=1", .has_body_fd = true, .body_fd = fd };

    if (!api_done(cli, &call, error))
        return NULL;
    return g_strdup(g_strstrip(id));
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
                        *mount = field_of(*list, "id"), *id = NULL;
        g_autoptr(GError) local = NULL;

        if (g_strcmp0(type, "mount") == 0 && mount && src) {
            if (!load_mount(cli, mount, src, error))
                return NULL;
        } else if (!type && !strchr(*list, '=')) {
            json_array_append_new(sources, json_string_lossy(*list));
        } else if (g_strcmp0(type, "registry") == 0 && ref) {
            json_array_append_new(sources, json_string_lossy(ref));
        } else if (g_strcmp0(type, "local") == 0 && src) {
            id = load_local(cli, src, &local);
            if (local) {
                g_propagate_error(error, g_steal_pointer(&local));
                return NULL;
            }
            if (id)
                json_array_append_new(sources, json_string_lossy(id));
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

/* The archive first, then the id that makes it count. */
static bool save_local(struct cli *cli, const char *image, const char *directory, GError **error)
{
    g_autofree char *tar = g_build_filename(directory, "cache.tar", NULL);
    static const char *const none[] = { NULL }, *const any[] = { "", NULL };
    g_autoptr(GPtrArray) images = g_ptr_array_new();
    struct build_output output = { .type = (char *)"oci", .dest = tar };
    struct build_result result = { .images = images, .platforms = any, .tags = none };

    g_ptr_array_add(images, (gpointer)image);
    if (g_mkdir_with_parents(directory, 0777) < 0)
        return error_set_errno(error, errno, "mkdir %s", directory);
    g_autofd int dirfd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return (dirfd >= 0 || error_set_errno(error, errno, "open %s", directory)) &&
           build_output_write(cli, &output, &result, error) &&
           file_write(dirfd, "image", image, strlen(image), 0644, false, error);
}

static bool has_image(struct cli *cli, const char *name)
{
    g_autofree char *path = api_path("images", name, "/json");
    struct call call = { .method = "GET", .path = path };

    return api_done(cli, &call, NULL);
}

/* The engine pushes what has a name; one that is only the cache's goes again. */
static bool push_cache(struct cli *cli, const char *image, const char *name, GError **error)
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

bool build_cache_export(struct cli *cli, const char *const *list, const char *image, GError **error)
{
    g_auto(GStrv) whole = join_fields(list);

    for (list = (const char *const *)whole; *list; list++) {
        g_autofree char *type = field_of(*list, "type"), *ref = field_of(*list, "ref"), *dest = field_of(*list, "dest"),
                        *mount = field_of(*list, "id");
        const char *name = ref ? ref : strchr(*list, '=') ? NULL : *list;
        bool good;

        if (g_strcmp0(type, "inline") == 0)
            continue; /* an image says by its history what its steps were */
        if (g_strcmp0(type, "mount") == 0 && mount && dest)
            good = save_mount(cli, mount, dest, error);
        else if (g_strcmp0(type, "local") == 0 && dest)
            good = save_local(cli, image, dest, error);
        else if (name && (!type || strcmp(type, "registry") == 0))
            good = push_cache(cli, image, name, error);
        else
            good = error_set(error, TARE_ERROR_INVALID,
                             "unknown cache exporter %s: inline, registry,ref=IMAGE, local,dest=DIR or mount,id=NAME,dest=FILE",
                             *list);
        if (!good)
            return false;
    }
    return true;
}
