/* ADD's sources that are no files of the context: URLs and git repositories. They are fetched into a temporary directory of the
 * engine's, and copied from there. */
#include "base/digest.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/git.h"
#include "base/root_path.h"
#include "build/build-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct copy_remote {
    struct build *build;
    char *directory;
    GArray *fds;
    unsigned count;
};

struct copy_remote *copy_remote_new(struct build *build)
{
    struct copy_remote *remote = g_new0(struct copy_remote, 1);

    remote->build = build;
    remote->fds = g_array_new(FALSE, FALSE, sizeof(int));
    return remote;
}

void copy_remote_free(struct copy_remote *remote)
{
    if (!remote)
        return;
    for (guint i = 0; i < remote->fds->len; i++)
        fd_close(g_array_index(remote->fds, int, i));
    g_array_unref(remote->fds);
    builder_temporary_remove(remote->build->builder, remote->directory);
    g_free(remote);
}

/* A directory for each source, since their names may be the same. The fd is the remote's. */
static int new_directory(struct copy_remote *remote, char **ret_path, GError **error)
{
    g_autofree char *name = g_strdup_printf("%u", remote->count++);
    g_autofd int parent = -1;
    int fd;

    if (!remote->directory)
        remote->directory = builder_temporary(remote->build->builder, error);
    if (!remote->directory)
        return -1;
    parent = open(remote->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0) {
        error_set_errno(error, errno, "open %s", remote->directory);
        return -1;
    }
    fd = dir_make(parent, name, 0755, error);
    if (fd < 0)
        return -1;
    g_array_append_val(remote->fds, fd);
    if (ret_path)
        *ret_path = g_build_filename(remote->directory, name, NULL);
    return fd;
}

/* ---- URLs ---- */

/* What the last component of its path says; NULL where there is none. */
static char *name_of_url(const char *url)
{
    g_autoptr(GUri) parsed = g_uri_parse(url, G_URI_FLAGS_NON_DNS | G_URI_FLAGS_PARSE_RELAXED, NULL);
    const char *path = parsed ? g_uri_get_path(parsed) : "", *name = strrchr(path, '/');

    name = name ? name + 1 : path;
    if (!*name || g_str_equal(name, ".") || g_str_equal(name, ".."))
        return NULL;
    return g_strdup(name);
}

/* Depends on the content alone, so that a checksum says it before anything is fetched. */
static char *hash_of_url(const char *name, const char *digest)
{
    g_autofree char *text = g_strdup_printf("url\n%s\n%s", name, digest);
    char whole[DIGEST_ROOM];

    digest_of(text, strlen(text), whole);
    return g_strconcat("file:", digest_hex(whole), NULL);
}

struct hashing_sink {
    struct byte_sink sink;
    struct fd_sink file;
    struct hasher *hasher;
    guint64 bytes;
};

static bool hashing_write(struct byte_sink *self, const void *data, gsize length, GError **error)
{
    struct hashing_sink *sink = (struct hashing_sink *)self;

    sink->bytes += length;
    if (sink->bytes > COPY_DOWNLOAD_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "a download is larger than %" G_GUINT64_FORMAT " bytes",
                         (guint64)COPY_DOWNLOAD_MAX);
    hasher_update(sink->hasher, data, length);
    return sink_write(&sink->file.sink, data, length, error);
}

static bool download(struct copy_remote *remote, const char *url, int fd, char digest[DIGEST_ROOM], gint64 *ret_modified,
                     GError **error)
{
    struct hashing_sink sink = { .sink.write = hashing_write, .hasher = hasher_new() };
    struct builder *builder = remote->build->builder;
    bool good;

    fd_sink_init(&sink.file, fd, "a download");
    good = builder->download
               ? builder->download(builder->download_user, url, &sink.sink, ret_modified, remote->build->cancel, error)
               : error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "this engine fetches nothing for builds");
    if (good)
        hasher_finish(sink.hasher, digest);
    hasher_free(sink.hasher);
    return good;
}

bool copy_remote_check(const struct build_step *step, GError **error)
{
    const char *source = step->args[0];

    if (!step->checksum)
        return true;
    if (g_strv_length(step->args) != 2)
        return error_set(error, TARE_ERROR_INVALID, "checksum can't be specified for multiple sources");
    if (git_is_source(source))
        return true;
    if (!copy_is_url(source))
        return error_set(error, TARE_ERROR_INVALID, "checksum requires HTTP(S) or Git sources");
    return digest_is_valid(step->checksum) ||
           error_set(error, TARE_ERROR_INVALID, "invalid checksum digest format: %s", step->checksum);
}

bool copy_is_url(const char *text)
{
    return (g_str_has_prefix(text, "http://") || g_str_has_prefix(text, "https://")) && !git_is_source(text);
}

static bool fetch_url(struct copy_remote *remote, const struct build_step *step, const char *url, int directory, const char *name,
                      char digest[DIGEST_ROOM], GError **error)
{
    struct timespec times[2] = { { 0 } };
    g_autofd int fd = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    gint64 modified = 0;

    if (fd < 0)
        return error_set_errno(error, errno, "make %s", name);
    if (!download(remote, url, fd, digest, &modified, error))
        return false;
    if (step->checksum && !g_str_equal(step->checksum, digest))
        return error_set(error, TARE_ERROR_INVALID, "digest mismatch %s: %s", digest, step->checksum);
    times[0].tv_sec = times[1].tv_sec = MAX(modified, 0);
    return futimens(fd, times) == 0 || error_set_errno(error, errno, "date %s", name);
}

/* As Docker has it: 0600, root's, of the time that the server says. */
static bool add_url(struct copy_remote *remote, const struct build_step *step, const char *url, struct copy_sources *sources,
                    GError **error)
{
    g_autofree char *name = name_of_url(url), *hash = NULL;
    bool dest_is_directory = g_str_has_suffix(step->args[g_strv_length(step->args) - 1], "/");
    char digest[DIGEST_ROOM];
    int directory;

    if (!name && dest_is_directory)
        return error_set(error, TARE_ERROR_INVALID, "cannot determine filename from url: %s", url);
    if (!name)
        name = g_strdup("__unnamed__");
    directory = new_directory(remote, NULL, error);
    if (directory < 0 || !fetch_url(remote, step, url, directory, name, digest, error))
        return false;
    hash = hash_of_url(name, digest);
    if (!copy_sources_add_file(sources, directory, name, hash, error))
        return false;
    ((struct copy_source *)sources->items->pdata[sources->items->len - 1])->is_remote = true;
    return true;
}

/* ---- git ---- */

static bool check_commit(const struct build_step *step, const char *commit, GError **error)
{
    return !step->checksum || (strlen(step->checksum) >= 7 && g_str_has_prefix(commit, step->checksum)) ||
           error_set(error, TARE_ERROR_INVALID, "expected checksum to match %s, got %s", step->checksum, commit);
}

/* In the checkout, wherever a link in it points. The fd is the remote's. */
static int open_subdirectory(struct copy_remote *remote, int directory, const struct git_source *source, GError **error)
{
    int root = root_open(directory, source->subdir ? source->subdir : ".", O_RDONLY | O_DIRECTORY, 0);

    if (root < 0)
        error_set_errno(error, errno, "open %s of the git repository", source->subdir ? source->subdir : "/");
    else
        g_array_append_val(remote->fds, root);
    return root;
}

static bool add_checkout(const struct build_step *step, const struct git_source *source, const char *commit, int root,
                         struct copy_sources *sources, GError **error)
{
    g_autofree char *said = g_strdup_printf("git\n%s\n%s\n%d", commit, source->subdir ? source->subdir : "", step->keep_git_dir);
    g_autofree char *hash = NULL;
    char digest[DIGEST_ROOM];

    digest_of(said, strlen(said), digest);
    hash = g_strconcat("dir:", digest_hex(digest), NULL);
    if (!copy_sources_add_file(sources, root, ".", hash, error))
        return false;
    ((struct copy_source *)sources->items->pdata[sources->items->len - 1])->is_remote = true;
    return true;
}

static bool add_git(struct copy_remote *remote, const struct build_step *step, const char *text, struct copy_sources *sources,
                    GError **error)
{
    g_autofree char *path = NULL, *commit = NULL;
    struct git_clone_options options = { .keep_git_directory = step->keep_git_dir,
                                         .cancel = remote->build->cancel,
                                         .ret_commit = &commit };
    struct git_source source;
    int directory, root = -1;
    bool good;

    if (!git_source_parse(text, &source, error))
        return false;
    directory = new_directory(remote, &path, error);
    good = directory >= 0 && git_clone(&source, path, &options, error) && check_commit(step, commit, error) &&
           (root = open_subdirectory(remote, directory, &source, error)) >= 0 &&
           add_checkout(step, &source, commit, root, sources, error);
    git_source_clear(&source);
    return good;
}

bool copy_remote_add(struct copy_remote *remote, const struct build_step *step, const char *source, struct copy_sources *sources,
                     GError **error)
{
    return git_is_source(source) ? add_git(remote, step, source, sources, error) : add_url(remote, step, source, sources, error);
}
