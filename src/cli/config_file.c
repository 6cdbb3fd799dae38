/* ~/.docker/config.json: shared with other clients, so that log-ins and contexts made by one are known to the other. */
#include "cli/cli-internal.h"

#include "base/fd.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_MAX (4u << 20)

json_t *config_file_load(const char *directory, GError **error)
{
    g_autofree char *path = g_build_filename(directory, "config.json", NULL), *text = NULL;
    size_t length;
    g_autoptr(GError) problem = NULL;
    if (!file_read(AT_FDCWD, path, CONFIG_MAX, &text, &length, &problem))
        return json_object();
    json_t *config = json_parse(text, length, CONFIG_MAX, path, error);
    if (config && !json_is_object(config)) {
        json_decref(config);
        error_set(error, TARE_ERROR_INVALID, "%s: not an object", path);
        return NULL;
    }
    return config;
}

/* Indented by tabs, as docker writes it. */
static char *tabbed(const json_t *config)
{
    char *text = json_dumps(config, JSON_INDENT(1));
    GString *out = g_string_new(NULL);
    for (const char *c = text; *c;) {
        size_t line = strcspn(c, "\n"), blanks = strspn(c, " ");
        for (size_t i = 0; i < blanks; i++)
            g_string_append_c(out, '\t');
        g_string_append_len(out, c + blanks, (gssize)(line - blanks));
        c += line;
        if (*c)
            g_string_append_c(out, *c++);
    }
    free(text);
    return g_string_free(out, FALSE);
}

/* Where the file is a link, what it points to is replaced and not the link; mode and owner of what was there stay. */
bool config_file_save(const char *directory, const json_t *config, GError **error)
{
    g_autofree char *given = g_build_filename(directory, "config.json", NULL);
    char *target = realpath(given, NULL);
    g_autofree char *path = g_strdup(target ? target : given), *parent = g_path_get_dirname(path),
                    *name = g_path_get_basename(path), *text = tabbed(config);
    free(target);
    struct stat old = { .st_mode = 0600, .st_uid = geteuid(), .st_gid = getegid() };
    bool existed = stat(path, &old) == 0;
    g_autofd int dirfd = dir_make_path(parent, 0700, error);
    if (dirfd < 0 || !file_write(dirfd, name, text, strlen(text), old.st_mode & 0777, true, error))
        return false;
    if (existed && (old.st_uid != geteuid() || old.st_gid != getegid()) &&
        fchownat(dirfd, name, old.st_uid, old.st_gid, AT_SYMLINK_NOFOLLOW) < 0 && errno != EPERM)
        return error_set_errno(error, errno, "chown %s", path);
    return true;
}
