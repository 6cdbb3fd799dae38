/* Contexts of builds: what of a directory is sent, and how it becomes a tar. */
#pragma once

#include "cli/cli-internal.h"

#include <sys/stat.h>

/* ---- dockerignore.c: pure ---- */

#define IGNORE_TEXT_MAX (4u << 20)
#define IGNORE_PATTERNS_MAX 100000

struct ignore;
/* Patterns of a .dockerignore's text: comments, blank lines and leading slashes are dealt with. */
GPtrArray *ignore_read(const char *text, gsize length);
/* NULL and "syntax error in pattern" for a malformed one. patterns: of strings, NULL-terminated not needed. */
struct ignore *ignore_new(const GPtrArray *patterns, GError **error);
void ignore_free(struct ignore *ignore);
/* A path, relative and clean, is left out. Its parents are asked too: the last pattern that matches any of them decides. */
bool ignore_matches(const struct ignore *ignore, const char *path);
/* A left-out directory may hold something that is let in again. */
bool ignore_may_hold(const struct ignore *ignore, const char *directory);
/* Go's path.Clean. g_free. */
char *path_clean(const char *path);

/* ---- tar_pack.c: a small writer of ustar and pax, bytes to an fd ---- */

struct pack {
    int fd;
    guint64 sent;
    void (*progress)(guint64 sent, void *user); /* after each piece; may be NULL */
    void *user;
};
struct pack_entry {
    const char *name, *link;
    guint32 mode, uid, gid;
    char type; /* '0' file, '1' hard link, '2' symbolic link, '3' '4' devices, '5' directory, '6' FIFO */
    guint64 size;
    gint64 mtime;
    guint32 major, minor;
    const void *capability; /* security.capability, or NULL */
    gsize capability_size;
};
bool pack_header(struct pack *pack, const struct pack_entry *entry, GError **error);
bool pack_data(struct pack *pack, const void *data, gsize length, GError **error);
bool pack_padding(struct pack *pack, guint64 size, GError **error);
bool pack_end(struct pack *pack, GError **error);

/* ---- build_scan.c ---- */

struct scan_entry {
    char *path, *link;
    struct stat stat;
    const char *text; /* instead of what is in the directory; borrowed */
    gsize length;
};
struct context_scan {
    int fd;          /* of the directory */
    GArray *entries; /* of struct scan_entry, in the order of a walk */
    guint64 bytes;   /* as a tar; all that was found, also where it is not sent */
    gint64 now_ns;   /* before the first was looked at */
};
struct context_scan *context_scan_new(const char *directory, const struct ignore *ignore, GError **error);
void context_scan_free(struct context_scan *scan);
/* Leaves in what the patterns can mean (as COPY has them), the directories above it, and the files named in always (NULL entries
 * are skipped). False: links are in the way, or a pattern is none; all stays. */
bool context_scan_restrict(struct context_scan *scan, const json_t *patterns, const char *const *always, gsize n_always);
/* A file that the context has instead of, or beside, the directory's own. text is borrowed. */
void context_scan_put(struct context_scan *scan, const char *path, const char *text, gsize length);
/* What POST /build/context takes: "MODE SIZE STAMP[ LINK]" NUL PATH NUL for each. */
GString *context_scan_listing(const struct context_scan *scan);
/* For a context above 1 GB: its largest entries; else NULL. g_free. */
char *context_scan_warning(const struct context_scan *scan);
/* Called for each name in a directory, sorted; goes into directories with context_descend. */
typedef bool context_visit_func(void *user, int dirfd, const char *name, const char *path, guint depth, GError **error);
bool context_walk(int dirfd, const char *path, guint depth, context_visit_func *visit, void *user, GError **error);
bool context_descend(int dirfd, const char *name, const char *path, guint depth, context_visit_func *visit, void *user,
                     GError **error);
char *context_read_link(int dirfd, const char *name);
#define CONTEXT_DEPTH_MAX 1024
/* The names in a directory, sorted; path is for the error. */
GPtrArray *context_list_names(int dirfd, const char *path, GError **error);

/* ---- build_walk.c ---- */

/* Fills the entries of a scan whose directory is open. */
bool context_scan_walk(struct context_scan *scan, const struct ignore *ignore, GError **error);

/* ---- build_context.c ---- */

/* Writes a directory as a tar: all, or only the entries with these numbers. */
bool context_pack(struct pack *pack, const struct context_scan *scan, const GArray *only, GError **error);
/* One file or tree parent/name as `as`, with its owners; name NULL: what is in parent. For cp. */
bool context_pack_entry(struct pack *pack, const char *parent, const char *name, const char *as, GError **error);

/* ---- build_fetch.c: contexts from elsewhere, fetched by us ---- */

/* GET of an http(s) URL to the fd, redirects followed; progress may be NULL. *ret_type: the media type, or NULL. */
bool fetch_url(const char *url, int fd, void (*progress)(guint64 got, guint64 total, void *user), void *user, char **ret_type,
               GError **error);

/* ---- build_source.c: what a build is made of ---- */

struct build_source {
    char *dockerfile;                    /* its name in the context; NULL: the engine's default */
    char *directory;                     /* a local context, or NULL */
    char *clone;                         /* of a repository: a directory that goes with the source, or NULL */
    struct context_scan *scan;           /* of the directory */
    char *dockerfile_text, *ignore_text; /* of a Dockerfile that does not come from the context */
    int fd;                              /* an archive or a Dockerfile: stdin, or what was downloaded; -1 for none */
    char *head;                          /* of the fd, read to see what it is */
    gsize head_length;
    bool is_archive, is_compressed;
};
bool build_source_open(struct build_source *source, const struct options *options, bool quiet, GError **error);
void build_source_clear(struct build_source *source);
/* A directory or a clone, for --build-context: all of it but what its .dockerignore leaves out. */
bool build_source_open_directory(struct build_source *source, const char *path, GError **error);
bool build_source_open_git(struct build_source *source, const char *url, GError **error);
/* For another build of the same: an archive is read once more. */
bool build_source_rewind(struct build_source *source, GError **error);
bool build_source_open_url(struct build_source *source, const char *url, bool quiet, GError **error);

/* ---- build_send.c ---- */

/* Sends what stands before the body: the engine's answers go into the query ("context", "contexts"). */
struct build_send;
struct build_send *build_send_new(struct cli *cli, struct build_source *source, const struct options *options, bool quiet);
bool build_send_prepare(struct build_send *send, GString *query, GError **error);
/* The body's fd, -1 for none; written by a thread until build_send_end. */
int build_send_start(struct build_send *send, GError **error);
/* Ends the thread; *error where the context could not be read. */
bool build_send_end(struct build_send *send, GError **error);
void build_send_free(struct build_send *send);

/* ---- build_progress.c ---- */

enum build_face { BUILD_FACE_CLASSIC, BUILD_FACE_PLAIN, BUILD_FACE_TTY, BUILD_FACE_QUIET, BUILD_FACE_RAW };
/* --progress, DOCKER_BUILDKIT and the terminal decide. */
/* to_stdout: something else than what is told goes there. */
bool build_face_choose(const struct options *options, bool to_stdout, enum build_face *ret, GError **error);
struct build_progress;
struct build_progress *build_progress_new(enum build_face face);
/* One of BuildKit's status objects: vertexes and logs. */
void build_progress_take(struct build_progress *progress, const json_t *status);
/* The last picture, and what the failed step said; frees. */
void build_progress_finish(struct build_progress *progress);

/* ---- build_output.c ---- */

struct build_output {
    char *type, *dest; /* "local", "tar", "oci", "docker" or "image" */
    char **names;      /* of an image; NULL: the build's tags */
    bool push;
};
/* What was built, for all outputs. */
struct build_result {
    GPtrArray *images;            /* ids, one a platform */
    GPtrArray *stages;            /* ids of what the stages before became, where they were asked for */
    const char *const *platforms; /* as they were asked for; a single "" where none was */
    const char *const *tags;      /* what -t says */
    json_t *pushed; /* {"mediaType", "digest", "size"} of what went to a registry, or of an archive's index; NULL: neither */
};
bool build_output_parse(const char *text, struct build_output *ret, GError **error);
void build_output_clear(struct build_output *output);
/* All of --output, which for several platforms can be less. *ret_to_stdout: one of them has stdout for itself. */
bool build_outputs_check(const struct options *options, bool several_platforms, bool *ret_to_stdout, GError **error);
bool build_output_write(struct cli *cli, const struct build_output *output, struct build_result *result, GError **error);
/* ---- build_push.c ---- */
/* Pushes the images under each of the names: one manifest, or a list of those of several platforms. The images get the names. */
bool build_push(struct cli *cli, struct build_result *result, const char *const *names, GError **error);
bool build_tag_image(struct cli *cli, const char *image, const char *name, GError **error);
/* Images (ids) to a repository ("HOST/NAME", no tag), where the digest is the only name of each; NULL or an array of their
 * manifests, as manifest_fetch gives them. */
json_t *build_push_each(struct cli *cli, const GPtrArray *images, const char *repository, GError **error);
/* ---- build_archive.c ---- */
/* Fed with an archive as it goes by. */
struct archive_index;
struct archive_index *archive_index_new(void);
void archive_index_free(struct archive_index *index);
void archive_index_take(struct archive_index *index, const void *data, gsize length);
/* Of the first entry of its index.json; NULL where there is none. New reference. */
json_t *archive_index_descriptor(const struct archive_index *index);

/* ---- build_cache.c ---- */

/* --cache-from: what the engine is told; local caches are loaded before. New reference, NULL on error. */
json_t *build_cache_sources(struct cli *cli, const char *const *list, GError **error);
/* --cache-to, after the build. */
bool build_cache_export(struct cli *cli, const char *const *list, const struct build_result *result, GError **error);
/* mode=max: the stages before the last one are wanted, too. */
bool build_cache_wants_stages(const char *const *list);

/* ---- build_shell.c ---- */

/* --shell-on-failure: a shell in the files that the failed step left; the container goes afterwards. */
void build_shell_run(struct cli *cli, const char *container);

/* ---- build_secrets.c, build_check.c ---- */

/* Sends what --secret and --ssh name; *ret_id is for the build's header X-Tare-Secrets, NULL where nothing was named. */
bool build_lend_secrets(struct cli *cli, const struct options *options, char **ret_id, GError **error);
/* Ends the agents that were made for key files. */
void build_return_secrets(void);
/* ---- build_keys.c ---- */
struct build_keys;
/* An agent of its own with the keys of a list of files ("a,b"); ends with the object. */
struct build_keys *build_keys_new(const char *list, const char **ret_socket, GError **error);
void build_keys_free(struct build_keys *keys);
/* Prints what the engine's check answered; the exit code. */
int build_show_check(const json_t *result);
