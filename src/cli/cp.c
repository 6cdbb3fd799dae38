/* container cp. Out of a container the archive is unpacked by tar(1), which is confined to its directory; into one it is packed
 * as a build's context is. */
#include "cli/build-internal.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/size.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GO_MODE_DIRECTORY (G_GUINT64_CONSTANT(1) << 31)

struct copy {
    struct cli *cli;
    const struct options *options;
    char *container, *inside; /* the container's side */
    const char *outside;      /* ours; "-" is a stream */
    bool quiet;
};

/* "name:path"; a path that begins with / or . is ours whatever follows. */
static bool split(const char *text, char **ret_container, char **ret_path)
{
    const char *colon = strchr(text, ':');
    if (text[0] == '/' || text[0] == '.' || !colon || colon == text)
        return false;
    *ret_container = g_strndup(text, (gsize)(colon - text));
    *ret_path = g_strdup(colon + 1);
    return true;
}

static char *archive_path(const struct copy *copy)
{
    return api_path("containers", copy->container, "/archive");
}

static void say(const struct copy *copy, guint64 bytes, const char *target)
{
    if (copy->quiet)
        return;
    g_autofree char *size = size_human(bytes, 3);
    print_error("Successfully copied %s to %s\n", size, target);
}

/* What a path inside is: 1 a directory, 0 something else, -1 not there (or an error, set). */
static int kind_inside(const struct copy *copy, const char *path, GError **error)
{
    g_autofree char *target = archive_path(copy);
    g_autoptr(GString) query = g_string_new(NULL);
    g_autoptr(GError) problem = NULL;
    query_add(query, "path", path);
    struct call call = { .method = "HEAD", .path = target, .query = query->str };
    g_autoptr(response_t) response = api_call(copy->cli, &call, &problem);
    if (!response) {
        if (!error_is(problem, TARE_ERROR_NOT_FOUND))
            g_propagate_error(error, g_steal_pointer(&problem));
        return -1;
    }
    const char *encoded = g_hash_table_lookup(response->head.headers, "x-docker-container-path-stat");
    gsize length = 0;
    g_autofree guchar *text = encoded ? g_base64_decode(encoded, &length) : NULL;
    g_autoptr(json_t) status = text ? json_parse((char *)text, length, 65536, "path status", error) : NULL;
    return ((guint64)json_get_int(status, "mode", 0) & GO_MODE_DIRECTORY) != 0;
}

/* ---- out of a container ---- */

static bool untar(struct response *response, const char *directory, bool keep_owner, guint64 *ret_bytes, GError **error)
{
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "pipe");
    const char *const argv[] = { "tar", "-x", "-f",      "-", keep_owner ? "--same-owner" : "--no-same-owner",
                                 "-p",  "-C", directory, NULL };
    struct spawn_fd fds[] = { { pair[0], 0 }, { STDERR_FILENO, 2 } };
    struct spawn_options spawn = { .argv = argv, .fds = fds, .n_fds = G_N_ELEMENTS(fds), .search_path = true };
    pid_t pid = spawn_program(&spawn, error);
    fd_close(pair[0]);
    g_autofd int out = pair[1];
    if (pid < 0)
        return false;
    g_autofree char *buffer = g_malloc(65536);
    gssize n;
    bool ok = true;
    while (ok && (n = response_read(response, buffer, 65536, error)) != 0) {
        ok = n > 0 && (fd_write_full(out, buffer, (gsize)n) == 0 || error_set_errno(error, errno, "unpack"));
        *ret_bytes += n > 0 ? (guint64)n : 0;
    }
    fd_clear(&out);
    int status = spawn_wait(pid);
    return ok && (status == 0 || error_set(error, TARE_ERROR_INTERNAL, "unpacking failed (tar: %d)", status));
}

/* The only entry of a directory, or NULL. */
static char *only_entry(const char *directory)
{
    g_autoptr(GDir) entries = g_dir_open(directory, 0, NULL);
    char *name = entries ? g_strdup(g_dir_read_name(entries)) : NULL;
    return name;
}

/* To a name that is not there yet, or a file: unpacked aside, then renamed. */
static bool unpack_renamed(struct copy *copy, struct response *response, const char *target, guint64 *bytes, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(target), *aside = g_build_filename(parent, ".tmp-cp-XXXXXX", NULL);
    struct stat status;
    if (stat(parent, &status) < 0 || !S_ISDIR(status.st_mode))
        return error_set(error, TARE_ERROR_INVALID, "invalid output path: directory \"%s\" does not exist", parent);
    if (!g_mkdtemp_full(aside, 0700))
        return error_set_errno(error, errno, "mkdir %s", aside);
    bool ok = untar(response, aside, options_bool(copy->options, "archive", false), bytes, error);
    g_autofree char *name = ok ? only_entry(aside) : NULL, *from = name ? g_build_filename(aside, name, NULL) : NULL;
    if (ok && (!from || rename(from, target) < 0))
        ok = error_set_errno(error, from ? errno : ENOENT, "rename to %s", target);
    dir_remove_tree(AT_FDCWD, aside, NULL);
    return ok;
}

static int copy_out(struct copy *copy, GError **error)
{
    g_autofree char *path = archive_path(copy),
                    *target = strcmp(copy->outside, "-") == 0 ? NULL : g_canonicalize_filename(copy->outside, NULL);
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "path", copy->inside);
    query_add_bool(query, "follow", options_bool(copy->options, "follow-link", false));
    struct call call = { .method = "GET", .path = path, .query = query->str };
    if (!target && is_terminal(STDOUT_FILENO))
        return error_set(error, TARE_ERROR_INVALID, "cowardly refusing to write an archive to a terminal"), 1;
    g_autoptr(response_t) response = api_call(copy->cli, &call, error);
    if (!response)
        return 1;
    fflush(stdout);
    if (!target)
        return response_copy(response, STDOUT_FILENO, error) ? 0 : 1;
    struct stat status;
    guint64 bytes = 0;
    bool is_directory = stat(target, &status) == 0 && S_ISDIR(status.st_mode);
    if (!is_directory && g_str_has_suffix(copy->outside, "/") && access(target, F_OK) == 0)
        return error_set(error, TARE_ERROR_INVALID, "not a directory"), 1;
    bool ok = is_directory ? untar(response, target, options_bool(copy->options, "archive", false), &bytes, error)
                           : unpack_renamed(copy, response, target, &bytes, error);
    if (ok)
        say(copy, bytes, target);
    return ok ? 0 : 1;
}

/* ---- into a container ---- */

struct packing {
    struct pack pack;
    char *parent, *name, *as;
    bool contents; /* of the directory, not itself */
    GError *problem;
};

static gpointer pack_source(gpointer user)
{
    struct packing *packing = user;
    context_pack_entry(&packing->pack, packing->parent, packing->contents ? NULL : packing->name, packing->as, &packing->problem);
    fd_clear(&packing->pack.fd);
    return NULL;
}

static bool put(struct copy *copy, const char *directory, int fd, GError **error)
{
    g_autofree char *path = archive_path(copy);
    g_autoptr(GString) query = g_string_new(NULL);
    query_add(query, "path", directory);
    query_add(query, "noOverwriteDirNonDir", "true");
    query_add(query, "copyUIDGID", options_bool(copy->options, "archive", false) ? "true" : NULL);
    struct call call = { .method = "PUT", .path = path, .query = query->str, .has_body_fd = true, .body_fd = fd };
    return api_done(copy->cli, &call, error);
}

/* Where inside it goes, and under which name. */
static bool choose_target(struct copy *copy, bool source_is_directory, char **ret_directory, char **ret_name, GError **error)
{
    g_autoptr(GError) problem = NULL;
    int kind = kind_inside(copy, copy->inside, &problem);
    if (problem) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    g_autofree char *base = g_path_get_basename(copy->inside);
    if (kind == 1) {
        *ret_directory = g_strdup(copy->inside);
        return true;
    }
    if (kind == 0 && source_is_directory)
        return error_set(error, TARE_ERROR_INVALID, "cannot copy directory");
    if (kind < 0 && g_str_has_suffix(copy->inside, "/") && !source_is_directory)
        return error_set(error, TARE_ERROR_INVALID, "no such directory");
    g_autofree char *plain = path_clean(copy->inside);
    g_free(base);
    base = g_path_get_basename(plain);
    *ret_directory = g_path_get_dirname(plain);
    *ret_name = g_steal_pointer(&base);
    return true;
}

static int copy_in(struct copy *copy, GError **error)
{
    if (strcmp(copy->outside, "-") == 0)
        return put(copy, copy->inside, STDIN_FILENO, error) ? 0 : 1;
    g_autofree char *source = g_canonicalize_filename(copy->outside, NULL), *directory = NULL, *as = NULL, *linked = NULL;
    struct stat status;
    bool follow = options_bool(copy->options, "follow-link", false) || g_str_has_suffix(copy->outside, "/");
    if ((follow ? stat : lstat)(source, &status) < 0)
        return error_set(error, TARE_ERROR_INVALID, "lstat %s: %s", source, error_errno_text(errno)), 1;
    if (follow) {
        char *real = realpath(source, NULL);
        linked = g_strdup(real);
        free(real);
    }
    bool is_directory = S_ISDIR(status.st_mode), contents = is_directory && g_str_has_suffix(copy->outside, "/.");
    if (!choose_target(copy, is_directory, &directory, &as, error))
        return 1;
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "pipe"), 1;
    const char *place = linked ? linked : source;
    struct packing packing = { .pack.fd = pair[1], .contents = contents && !as };
    packing.parent = packing.contents ? g_strdup(place) : g_path_get_dirname(place);
    packing.name = g_path_get_basename(place);
    packing.as = packing.contents ? NULL : as ? g_strdup(as) : g_path_get_basename(source);
    GThread *thread = g_thread_new("archive", pack_source, &packing);
    bool ok = put(copy, directory, pair[0], error);
    fd_close(pair[0]);
    g_thread_join(thread);
    if (ok && packing.problem) {
        g_propagate_error(error, g_steal_pointer(&packing.problem));
        ok = false;
    }
    g_clear_error(&packing.problem);
    g_autofree char *shown = g_strconcat(copy->container, ":", copy->inside, NULL);
    if (ok)
        say(copy, packing.pack.sent, shown);
    g_free(packing.parent);
    g_free(packing.name);
    g_free(packing.as);
    return ok ? 0 : 1;
}

int cmd_container_cp(struct cli *cli, const struct options *options, GError **error)
{
    const char *from = options->args[0], *to = options->args[1];
    if (!*from || !*to)
        return error_set(error, TARE_ERROR_INVALID, *from ? "destination can not be empty" : "source can not be empty"), 1;
    g_autofree char *from_container = NULL, *from_path = NULL, *to_container = NULL, *to_path = NULL;
    bool out = split(from, &from_container, &from_path), in = split(to, &to_container, &to_path);
    struct copy copy = { .cli = cli, .options = options, .quiet = options_bool(options, "quiet", !is_terminal(STDOUT_FILENO)) };
    if (out && in)
        return error_set(error, TARE_ERROR_INVALID, "copying between containers is not supported"), 1;
    if (!out && !in)
        return error_set(error, TARE_ERROR_INVALID, "must specify at least one container source"), 1;
    copy.container = out ? from_container : to_container;
    copy.inside = out ? from_path : to_path;
    copy.outside = out ? to : from;
    return out ? copy_out(&copy, error) : copy_in(&copy, error);
}
