/* Manifest lists being made: below the configuration's directory, a directory for each list and a file for each manifest in it,
 * named and written as docker does, so that a list that one client began the other can push. */
#include "cli/cli-internal.h"

#include "base/fd.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MAX = 16 << 20, LIST_MAX = 10000 };

static char *file_name(const char *reference)
{
    return g_strdelimit(g_strdelimit(g_strdup(reference), ":", '-'), "/", '_');
}

static char *list_path(struct cli *cli, const char *list)
{
    g_autofree char *name = file_name(list);
    return g_build_filename(cli->config_directory, "manifests", name, NULL);
}

static bool no_such_manifest(const char *reference, GError **error)
{
    return error_set(error, TARE_ERROR_NOT_FOUND, "No such manifest: %s", reference);
}

static json_t *read_one(int dirfd, const char *name, const char *called, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) problem = NULL;
    size_t length;
    if (!file_read(dirfd, name, FILE_MAX, &text, &length, &problem)) {
        if (g_error_matches(problem, TARE_ERROR, TARE_ERROR_NOT_FOUND))
            no_such_manifest(called, error);
        else
            g_propagate_error(error, g_steal_pointer(&problem));
        return NULL;
    }
    return json_parse(text, length, FILE_MAX, called, error);
}

json_t *manifest_store_get(struct cli *cli, const char *list, const char *manifest, GError **error)
{
    g_autofree char *directory = list_path(cli, list), *name = file_name(manifest),
                    *path = g_build_filename(directory, name, NULL);
    return read_one(AT_FDCWD, path, manifest, error);
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted, as docker reads them: the order in the list follows from it. */
static GPtrArray *names_in(const char *path)
{
    DIR *directory = opendir(path);
    if (!directory)
        return NULL;
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    for (struct dirent *entry; names->len < LIST_MAX && (entry = readdir(directory));)
        if (entry->d_name[0] != '.')
            g_ptr_array_add(names, g_strdup(entry->d_name));
    closedir(directory);
    g_ptr_array_sort(names, by_name);
    return names;
}

json_t *manifest_store_list(struct cli *cli, const char *list, GError **error)
{
    g_autofree char *path = list_path(cli, list);
    g_autoptr(GPtrArray) names = names_in(path);
    if (!names)
        return no_such_manifest(list, error), NULL;
    g_autoptr(json_t) all = json_array();
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *file = g_build_filename(path, names->pdata[i], NULL);
        json_t *one = read_one(AT_FDCWD, file, list, error);
        if (!one)
            return NULL;
        json_array_append_new(all, one);
    }
    return g_steal_pointer(&all);
}

bool manifest_store_save(struct cli *cli, const char *list, const char *manifest, const json_t *image, GError **error)
{
    g_autofree char *path = list_path(cli, list), *name = file_name(manifest), *text = json_text(image);
    g_autofd int dirfd = dir_make_path(path, 0755, error);
    return dirfd >= 0 && file_write(dirfd, name, text, strlen(text), 0644, false, error);
}

bool manifest_store_remove(struct cli *cli, const char *list, GError **error)
{
    g_autofree char *path = list_path(cli, list);
    return access(path, F_OK) == 0 ? dir_remove_tree(AT_FDCWD, path, error) : no_such_manifest(list, error);
}
