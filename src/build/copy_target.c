/* Where COPY writes to: paths resolved through the image's own links, owners by its own passwd and group. */
#include "base/fd.h"
#include "base/parse.h"
#include "base/root_path.h"
#include "build/build-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define LINKS_MAX 40
#define COMPONENTS_MAX 65536

static void push_components(GQueue *pending, const char *path)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);

    for (guint i = g_strv_length(parts); i > 0; i--)
        if (*parts[i - 1] && !g_str_equal(parts[i - 1], "."))
            g_queue_push_head(pending, g_strdup(parts[i - 1]));
}

static void drop_last(GString *real)
{
    const char *slash = strrchr(real->str, '/');

    g_string_truncate(real, slash ? (gsize)(slash - real->str) : 0);
}

struct resolution {
    int root_fd;
    GQueue pending;
    GString *real;
    unsigned links;
    bool exists;
    struct stat stat;
};

/* One component further; a link puts what it says before the rest. */
static bool step_into(struct resolution *resolution, const char *name, GError **error)
{
    gsize before = resolution->real->len;
    g_autofree char *target = NULL;
    g_autofd int fd = -1;

    g_string_append_printf(resolution->real, "%s%s", before ? "/" : "", name);
    fd = root_open(resolution->root_fd, resolution->real->str, O_PATH | O_NOFOLLOW, 0);
    resolution->exists = fd >= 0;
    if (fd < 0)
        return errno == ENOENT || error_set_errno(error, errno, "lstat /%s", resolution->real->str);
    if (fstat(fd, &resolution->stat) < 0)
        return error_set_errno(error, errno, "lstat /%s", resolution->real->str);
    if (!S_ISLNK(resolution->stat.st_mode))
        return true;
    if (++resolution->links > LINKS_MAX || g_queue_get_length(&resolution->pending) > COMPONENTS_MAX)
        return error_set_errno(error, ELOOP, "lstat /%s", resolution->real->str);
    target = g_malloc0(PATH_MAX + 1);
    if (readlinkat(fd, "", target, PATH_MAX) < 0)
        return error_set_errno(error, errno, "readlink /%s", resolution->real->str);
    g_string_truncate(resolution->real, *target == '/' ? 0 : before);
    push_components(&resolution->pending, target);
    return true;
}

static bool resolve_all(struct resolution *resolution, GError **error)
{
    char *next;

    while ((next = g_queue_pop_head(&resolution->pending))) {
        g_autofree char *name = next;

        if (g_str_equal(name, ".."))
            drop_last(resolution->real);
        else if (!step_into(resolution, name, error))
            return false;
    }
    return true;
}

bool root_resolve(int root_fd, const char *path, char **ret_real, bool *ret_exists, struct stat *ret_stat, GError **error)
{
    struct resolution resolution = { .root_fd = root_fd, .real = g_string_new(NULL) };
    g_autofd int fd = -1;
    bool good;

    g_queue_init(&resolution.pending);
    push_components(&resolution.pending, path);
    good = resolve_all(&resolution, error);
    g_queue_clear_full(&resolution.pending, g_free);
    if (good) {
        /* After ".." or a link what was last looked at is not where it ended. */
        fd = root_open(root_fd, resolution.real->len ? resolution.real->str : ".", O_PATH | O_NOFOLLOW, 0);
        resolution.exists = fd >= 0 && fstat(fd, &resolution.stat) == 0;
        *ret_exists = resolution.exists;
        if (ret_stat && resolution.exists)
            *ret_stat = resolution.stat;
        *ret_real = g_strdup(resolution.real->str);
    }
    g_string_free(resolution.real, TRUE);
    return good;
}

/* ---- --chown ---- */

/* The third field of the line that begins with name in a colon-separated file. */
static bool look_up(int root_fd, const char *file, const char *name, guint64 *ret)
{
    g_auto(GStrv) lines = NULL;
    char *text = NULL;
    bool found = false;

    if (root_read_file(root_fd, file, 4 << 20, &text) < 0)
        return false;
    lines = g_strsplit(text, "\n", -1);
    free(text);
    for (char **line = lines; *line && !found; line++) {
        g_auto(GStrv) fields = g_strsplit(*line, ":", 4);

        found = g_strv_length(fields) >= 3 && g_str_equal(fields[0], name) && parse_uint(fields[2], G_MAXUINT32 - 1, ret);
    }
    return found;
}

static bool resolve_id(int root_fd, const char *text, const char *file, const char *what, const char *id_name, guint32 *ret,
                       GError **error)
{
    guint64 id;

    if (!parse_uint(text, G_MAXUINT32 - 1, &id) && !look_up(root_fd, file, text, &id))
        return error_set(error, TARE_ERROR_INVALID,
                         "unable to convert uid/gid chown string to host mapping: can't find %s for %s %s: no such %s: %s",
                         id_name, what, text, what, text);
    *ret = (guint32)id;
    return true;
}

bool copy_resolve_owner(int root_fd, const char *text, uid_t *ret_uid, gid_t *ret_gid, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 3);
    guint n = g_strv_length(parts);

    if (n < 1 || n > 2)
        return error_set(error, TARE_ERROR_INVALID,
                         "unable to convert uid/gid chown string to host mapping: invalid chown string format: %s", text);
    /* Without a group Docker looks for one of the user's name. */
    return resolve_id(root_fd, parts[0], "/etc/passwd", "user", "uid", ret_uid, error) &&
           resolve_id(root_fd, n == 2 ? parts[1] : parts[0], "/etc/group", "group", "gid", ret_gid, error);
}
