/* What a build is made of: a directory, stdin, a URL, a git repository, and the Dockerfile, which may come from elsewhere. */
#include "cli/build-internal.h"

#include "base/digest.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/git.h"
#include "base/root_path.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define DOCKERFILE_MAX (16u << 20)
#define HEAD_SIZE 1024

static void source_init(struct build_source *source)
{
    *source = (struct build_source){ .fd = -1 };
}

void build_source_clear(struct build_source *source)
{
    context_scan_free(source->scan);
    if (source->clone)
        dir_remove_tree(AT_FDCWD, source->clone, NULL);
    g_free(source->clone);
    g_free(source->dockerfile);
    g_free(source->directory);
    g_free(source->dockerfile_text);
    g_free(source->ignore_text);
    g_free(source->head);
    if (source->fd > STDERR_FILENO)
        fd_close(source->fd);
    source_init(source);
}

static char *real_path(const char *path)
{
    char *resolved = realpath(path, NULL), *copy = g_strdup(resolved);
    free(resolved);
    return copy;
}

/* ---- .dockerignore ---- */

/* DOCKERFILE.dockerignore goes before .dockerignore. *ret_text NULL where there is neither. */
static bool read_ignore_text(const struct build_source *source, const char *beside, char **ret_text, gsize *ret_length,
                             GError **error)
{
    g_autofree char *own = beside ? g_strconcat(beside, ".dockerignore", NULL) : NULL,
                    *shared = g_build_filename(source->directory, ".dockerignore", NULL);
    g_autoptr(GError) local = NULL;

    *ret_text = NULL;
    *ret_length = 0;
    if (own && file_read(AT_FDCWD, own, IGNORE_TEXT_MAX, ret_text, ret_length, NULL))
        return true;
    if (file_read(AT_FDCWD, shared, IGNORE_TEXT_MAX, ret_text, ret_length, &local) || error_is(local, TARE_ERROR_NOT_FOUND))
        return true;
    return error_set(error, TARE_ERROR_INVALID, "error checking context: %s", local->message);
}

/* The engine needs the rules and the Dockerfile also when they are left out; it hides them itself. */
static struct ignore *make_ignore(const struct build_source *source, GPtrArray *patterns, GError **error)
{
    struct ignore *ignore = ignore_new(patterns, error);
    guint before = patterns->len;

    if (!ignore) {
        g_prefix_error(error, "error checking context: ");
        return NULL;
    }
    if (ignore_matches(ignore, ".dockerignore"))
        g_ptr_array_add(patterns, g_strdup("!.dockerignore"));
    if (source->dockerfile && !source->dockerfile_text) {
        g_autofree char *own = g_strconcat(source->dockerfile, ".dockerignore", NULL);

        if (ignore_matches(ignore, source->dockerfile))
            g_ptr_array_add(patterns, g_strconcat("!", source->dockerfile, NULL));
        if (ignore_matches(ignore, own))
            g_ptr_array_add(patterns, g_strconcat("!", own, NULL));
    }
    if (patterns->len == before)
        return ignore;
    ignore_free(ignore);
    return ignore_new(patterns, error);
}

/* A Dockerfile from elsewhere gets a name of its contents, and .dockerignore hides it from COPY. */
static void put_dockerfile(struct build_source *source, const char *rules)
{
    char digest[DIGEST_ROOM];

    digest_of(source->dockerfile_text, strlen(source->dockerfile_text), digest);
    g_free(source->dockerfile);
    source->dockerfile = g_strdup_printf(".dockerfile.%.20s", digest_hex(digest));
    source->ignore_text = g_strconcat(rules ? rules : "", "\n", source->dockerfile, "\n", NULL);
    context_scan_put(source->scan, ".dockerignore", source->ignore_text, strlen(source->ignore_text));
    context_scan_put(source->scan, source->dockerfile, source->dockerfile_text, strlen(source->dockerfile_text));
}

/* beside: the Dockerfile's path on our side, for its own rules; or NULL. */
static bool scan_directory(struct build_source *source, const char *beside, GError **error)
{
    g_autofree char *text = NULL;
    gsize length;

    if (!read_ignore_text(source, beside, &text, &length, error))
        return false;
    g_autoptr(GPtrArray) patterns = text ? ignore_read(text, length) : g_ptr_array_new_with_free_func(g_free);
    struct ignore *ignore = make_ignore(source, patterns, error);

    if (!ignore)
        return false;
    source->scan = context_scan_new(source->directory, ignore, error);
    ignore_free(ignore);
    if (!source->scan)
        return false;
    if (source->dockerfile_text)
        put_dockerfile(source, text);
    return true;
}

/* ---- a directory ---- */

/* Where the Dockerfile lies, links resolved. */
static char *find_dockerfile(const struct build_source *source, const char *given, GError **error)
{
    g_autofree char *path = NULL;

    if (given && source->clone) {
        path = g_build_filename(source->directory, given, NULL);
    } else if (given) {
        path = g_path_is_absolute(given) ? g_strdup(given) : g_canonicalize_filename(given, NULL);
    } else {
        path = g_build_filename(source->directory, "Dockerfile", NULL);
        g_autofree char *small = g_build_filename(source->directory, "dockerfile", NULL);

        if (access(path, F_OK) != 0 && access(small, F_OK) == 0) {
            g_free(path);
            path = g_steal_pointer(&small);
        }
    }
    char *resolved = real_path(path);

    if (!resolved)
        error_set(error, TARE_ERROR_INVALID,
                  "unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat %s: %s", path,
                  error_errno_text(errno));
    return resolved;
}

static bool read_dockerfile(struct build_source *source, int fd, GError **error)
{
    gsize length;

    return fd_read_all(fd, DOCKERFILE_MAX, "Dockerfile", &source->dockerfile_text, &length, error);
}

static bool open_with_dockerfile(struct build_source *source, const char *given, GError **error)
{
    gsize length = strlen(source->directory);
    bool at_root = strcmp(source->directory, "/") == 0;

    if (given && strcmp(given, "-") == 0)
        return read_dockerfile(source, STDIN_FILENO, error) && scan_directory(source, NULL, error);
    g_autofree char *path = find_dockerfile(source, given && *given ? given : NULL, error);

    if (!path)
        return false;
    if (at_root || (strncmp(path, source->directory, length) == 0 && path[length] == '/')) {
        source->dockerfile = g_strdup(path + (at_root ? 1 : length + 1));
        return scan_directory(source, path, error);
    }
    if (source->clone) /* whoever wrote the repository must not have files of ours read */
        return error_set(error, TARE_ERROR_INVALID,
                         "unable to prepare context: the Dockerfile (%s) must be within the build context",
                         given ? given : "Dockerfile");
    g_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return error_set(error, TARE_ERROR_INVALID, "unable to open Dockerfile: open %s: %s", given, error_errno_text(errno));
    return read_dockerfile(source, fd, error) && scan_directory(source, path, error);
}

static bool prepare_directory(struct build_source *source, const char *path, GError **error)
{
    source->directory = real_path(path);
    return source->directory || error_set(error, TARE_ERROR_INVALID,
                                          "unable to prepare context: unable to evaluate symlinks in context path: lstat %s: %s",
                                          path, error_errno_text(errno));
}

bool build_source_open_directory(struct build_source *source, const char *path, GError **error)
{
    source_init(source);
    return prepare_directory(source, path, error) && scan_directory(source, NULL, error);
}

/* ---- a git repository ---- */

static bool clone_repository(struct build_source *source, const char *url, GError **error)
{
    const char *keep = g_getenv("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
    struct git_clone_options options = { .inherit_environment = true, .keep_git_directory = keep && strcmp(keep, "1") == 0 };
    struct git_source git;
    g_autofd int top = -1, below = -1;
    bool good;

    if (!git_source_parse(url, &git, error))
        return false;
    source->clone = g_build_filename(g_get_tmp_dir(), "tare-build-git-XXXXXX", NULL);
    if (!g_mkdtemp_full(source->clone, 0700)) {
        error_set_errno(error, errno, "make %s", source->clone);
        g_clear_pointer(&source->clone, g_free);
        git_source_clear(&git);
        return false;
    }
    good = git_clone(&git, source->clone, &options, error);
    top = good ? open(source->clone, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    below = good ? root_open(top, git.subdir ? git.subdir : ".", O_PATH | O_DIRECTORY, 0) : -1;
    if (good && below < 0)
        good = error_set(error, TARE_ERROR_INVALID, "error setting git context, \"%s\" not within git root", git.subdir);
    git_source_clear(&git);
    if (!good)
        return false;
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", below);

    return prepare_directory(source, link, error);
}

bool build_source_open_git(struct build_source *source, const char *url, GError **error)
{
    source_init(source);
    return clone_repository(source, url, error) && scan_directory(source, NULL, error);
}

/* ---- stdin, and what comes from a URL ---- */

/* By gzip, bzip2, xz or zstd. */
static bool looks_compressed(const guint8 *data, gsize length)
{
    static const struct {
        const char *bytes;
        gsize length;
    } magics[] = { { "\x1f\x8b\x08", 3 },
                   { "BZh", 3 },
                   { "\xfd"
                     "7zXZ",
                     6 },
                   { "\x28\xb5\x2f\xfd", 4 } };

    for (gsize i = 0; i < G_N_ELEMENTS(magics); i++)
        if (length >= magics[i].length && memcmp(data, magics[i].bytes, magics[i].length) == 0)
            return true;
    return length >= 4 && (data[0] & 0xf0) == 0x50 &&
           memcmp(data + 1, "\x2a\x4d\x18", 3) == 0; /* zstd, a skippable frame first */
}

static bool looks_like_tar(const guint8 *data, gsize length)
{
    return length >= 512 && memcmp(data + 257, "ustar", 5) == 0;
}

static bool open_stream(struct build_source *source, const char *given, GError **error)
{
    ssize_t n;

    source->head = g_malloc(HEAD_SIZE);
    n = fd_read_full(source->fd, source->head, HEAD_SIZE);
    source->head_length = n > 0 ? (gsize)n : 0;
    source->is_compressed = looks_compressed((guint8 *)source->head, source->head_length);
    source->is_archive = source->is_compressed || looks_like_tar((guint8 *)source->head, source->head_length);
    if (!source->is_archive && given && *given)
        return error_set(
            error, TARE_ERROR_INVALID,
            "unable to prepare context from STDIN: ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles");
    source->dockerfile = source->is_archive ? g_strdup(given) : g_strdup("Dockerfile");
    return true;
}

bool build_source_rewind(struct build_source *source, GError **error)
{
    if (source->fd < 0 || lseek(source->fd, (off_t)source->head_length, SEEK_SET) >= 0)
        return true;
    return error_set(error, TARE_ERROR_INVALID,
                     "several platforms need a context that can be read more than once: a directory, a URL or a file");
}

struct download {
    const char *url;
    bool quiet;
    guint64 shown, got, total;
};

static void show_download(const struct download *download, const char *end)
{
    enum { BAR = 50 };
    g_autofree char *now = size_human(download->got, 4), *all = size_human(download->total, 4);
    int done = download->total ? (int)((double)download->got / (double)download->total * BAR) : 0;
    g_autofree char *full = g_strnfill((gsize)CLAMP(done, 0, BAR), '='),
                    *rest = g_strnfill((gsize)(BAR - CLAMP(done, 0, BAR)), ' ');

    if (download->quiet)
        return;
    if (download->total)
        print("Downloading build context from remote url: %s [%s>%s] %8s/%s%s", download->url, full, rest, now, all, end);
    else
        print("Downloading build context from remote url: %s %8s%s", download->url, now, end);
    fflush(stdout);
}

static void take_progress(guint64 got, guint64 total, void *user)
{
    struct download *download = user;

    download->got = got;
    download->total = total;
    if (got - download->shown < 512 * 1024)
        return;
    download->shown = got;
    show_download(download, "\r");
}

/* As docker shows it: the whole size, and once more with the end of the line. */
static bool download(struct build_source *source, const char *url, bool quiet, GError **error)
{
    struct download download = { .url = url, .quiet = quiet };
    g_autofree char *name = NULL, *type = NULL;

    source->fd = g_file_open_tmp("tare-build-XXXXXX", &name, NULL);
    if (source->fd < 0)
        return error_set_errno(error, errno, "make a temporary file");
    unlink(name);
    if (!fetch_url(url, source->fd, take_progress, &download, &type, error)) {
        g_prefix_error(error, "unable to prepare context: unable to download remote context %s: ", url);
        return false;
    }
    show_download(&download, "\r");
    show_download(&download, "\r\r\n");
    return lseek(source->fd, 0, SEEK_SET) == 0 || error_set_errno(error, errno, "seek");
}

bool build_source_open_url(struct build_source *source, const char *url, bool quiet, GError **error)
{
    source_init(source);
    return download(source, url, quiet, error) && open_stream(source, NULL, error);
}

/* ---- any of them ---- */

bool build_source_open(struct build_source *source, const struct options *options, bool quiet, GError **error)
{
    const char *context = options->args[0], *given = options_string(options, "file", NULL);
    struct stat status;

    source_init(source);
    if (strcmp(context, "-") == 0) {
        if (given && strcmp(given, "-") == 0)
            return error_set(error, TARE_ERROR_INVALID,
                             "invalid argument: can't use stdin for both build context and dockerfile");
        source->fd = STDIN_FILENO;
        return open_stream(source, given, error);
    }
    if (stat(context, &status) == 0 && S_ISDIR(status.st_mode))
        return prepare_directory(source, context, error) && open_with_dockerfile(source, given, error);
    if (git_is_source(context)) {
        if (clone_repository(source, context, error))
            return open_with_dockerfile(source, given, error);
        g_prefix_error(error, "unable to prepare context: unable to 'git clone' to temporary context directory: ");
        return false;
    }
    if (g_str_has_prefix(context, "http://") || g_str_has_prefix(context, "https://"))
        return download(source, context, quiet, error) && open_stream(source, given, error);
    if (stat(context, &status) == 0 && prepare_directory(source, context, error))
        return error_set(error, TARE_ERROR_INVALID, "unable to prepare context: context must be a directory: %s",
                         source->directory);
    return error_set(error, TARE_ERROR_INVALID, "unable to prepare context: path \"%s\" not found", context);
}
