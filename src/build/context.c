/* The build context: ingested as one layer and mounted, never unpacked; or, where the body is no archive, a Dockerfile alone. */
#include "base/digest.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/git.h"
#include "base/measure.h"
#include "base/root_path.h"
#include "build/build-internal.h"
#include "layer/decode.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* The first bytes of a body, looked at, and then the whole of it. */
struct peeked_source {
    struct byte_source source;
    struct byte_source *rest;
    char start[512];
    gsize length, at;
};

static gssize peeked_read(struct byte_source *self, void *buffer, gsize length, GError **error)
{
    struct peeked_source *peeked = (struct peeked_source *)self;
    gsize n = MIN(length, peeked->length - peeked->at);

    if (n == 0)
        return source_read(peeked->rest, buffer, length, error);
    memcpy(buffer, peeked->start + peeked->at, n);
    peeked->at += n;
    return (gssize)n;
}

/* A tar header has its own checksum; an archive without entries begins with zeros. */
bool build_is_tar_header(const char *block, gsize length)
{
    guint sum = 0, stored = 0;
    gsize i;

    if (length < 512)
        return false;
    for (i = 0; i < 512; i++)
        sum += i >= 148 && i < 156 ? ' ' : (guchar)block[i];
    if (sum == 8 * ' ')
        return true;
    for (i = 148; i < 156 && block[i] == ' '; i++)
        ;
    for (; i < 156 && block[i] >= '0' && block[i] <= '7'; i++)
        stored = stored * 8 + (guint)(block[i] - '0');
    return stored == sum;
}

bool build_looks_archived(const char *start, gsize length)
{
    return decode_sniff(start, length) != DECODE_PLAIN || build_is_tar_header(start, length);
}

/* ---- a Dockerfile alone ---- */

struct text_sink {
    struct byte_sink sink;
    GString *text;
};

static bool text_write(struct byte_sink *self, const void *data, gsize length, GError **error)
{
    struct text_sink *sink = (struct text_sink *)self;

    if (sink->text->len + length > DOCKERFILE_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "the Dockerfile is larger than %u bytes", DOCKERFILE_MAX);
    g_string_append_len(sink->text, data, (gssize)length);
    return true;
}

static bool read_text(struct peeked_source *source, struct build_context *context, GError **error)
{
    struct text_sink sink = { .sink.write = text_write, .text = g_string_new(NULL) };

    if (!stream_copy(&source->source, &sink.sink, NULL, error)) {
        g_string_free(sink.text, TRUE);
        return false;
    }
    context->dockerfile_length = sink.text->len;
    context->dockerfile = g_string_free(sink.text, FALSE);
    return true;
}

bool build_context_check_size(const struct builder *builder, guint64 bytes, GError **error)
{
    guint64 most = layer_store_max_bytes(builder->layers);

    return bytes <= most || error_set(error, TARE_ERROR_TOO_LARGE,
                                      "build context: uncompressed data is larger than %" G_GUINT64_FORMAT " bytes", most);
}

/* ---- an archive ---- */

static bool mount_context(struct builder *builder, struct byte_source *source, const char *holder, struct cancel *cancel,
                          struct build_context *context, GError **error)
{
    struct image_layer_claim claim;
    struct layer_ingest_options options = { .name = "build context", .is_tree = true, .claim = &claim.claim, .cancel = cancel };
    struct layer_info layer;
    const char *diff_ids[] = { layer.diff_id, NULL };

    image_layer_claim_init(&claim, builder->images, holder);
    if (!layer_store_ingest(builder->layers, source, &options, &layer, error) ||
        !layer_chain_prepare(builder->layers, diff_ids, error) || /* a hard link to a file that is not there is an error */
        !layer_stack_acquire(builder->layers, diff_ids, &context->stack, error))
        return false;
    context->root_fd = layer_stack_mount(context->stack, error);
    return context->root_fd >= 0;
}

static bool escapes(const char *path)
{
    g_autofree char *clean = go_clean_path(path);

    return g_str_equal(clean, "..") || g_str_has_prefix(clean, "../");
}

static bool read_dockerfile(struct build_context *context, const char *name, GError **error)
{
    g_autofd int fd = -1;
    struct stat stat;
    char *text = NULL;
    ssize_t length;

    if (escapes(name))
        return error_set(error, TARE_ERROR_INVALID, "forbidden path outside the build context: %s ()", name);
    fd = root_open(context->root_fd, name, O_PATH, 0);
    if (fd < 0 && errno == ENOENT)
        return error_set(error, TARE_ERROR_NOT_FOUND, "Cannot locate specified Dockerfile: %s", name);
    if (fd < 0 || fstat(fd, &stat) < 0)
        return error_set_errno(error, errno, "open %s", name);
    if (S_ISDIR(stat.st_mode))
        return error_set(error, TARE_ERROR_INVALID, "read %s: is a directory", name);
    length = root_read_file(context->root_fd, name, DOCKERFILE_MAX, &text);
    if (length < 0 && errno == EFBIG)
        return error_set(error, TARE_ERROR_TOO_LARGE, "the Dockerfile (%s) is larger than %u bytes", name, DOCKERFILE_MAX);
    if (length < 0)
        return error_set_errno(error, errno, "read %s", name);
    context->dockerfile = g_memdup2(text, (gsize)length + 1);
    free(text);
    context->dockerfile_length = (gsize)length;
    context->dockerfile_mtime = stat.st_mtim.tv_sec;
    context->dockerfile_name = g_strdup(name);
    return true;
}

/* Clients send the Dockerfile and .dockerignore even where the rules leave them out, since the engine needs them: COPY must not
 * see them then. */
static void apply_dockerignore(struct build_context *context)
{
    g_autofree char *name = go_clean_path(context->dockerfile_name), *own = g_strconcat(name, ".dockerignore", NULL);
    char *rules = NULL;

    if (root_read_file(context->root_fd, own, 1 << 20, &rules) < 0 &&
        root_read_file(context->root_fd, ".dockerignore", 1 << 20, &rules) < 0)
        return;
    if (dockerignore_excludes(rules, own))
        g_hash_table_add(context->excluded, g_strdup(own));
    if (dockerignore_excludes(rules, ".dockerignore"))
        g_hash_table_add(context->excluded, g_strdup(".dockerignore"));
    if (dockerignore_excludes(rules, name))
        g_hash_table_add(context->excluded, g_strdup(name));
    free(rules);
}

static bool find_dockerfile(struct build_context *context, const char *name, GError **error)
{
    bool is_default = !name || !*name || g_str_equal(name, "Dockerfile");
    g_autoptr(GError) local = NULL;

    if (read_dockerfile(context, is_default ? "Dockerfile" : name, &local) ||
        (is_default && error_is(local, TARE_ERROR_NOT_FOUND) && read_dockerfile(context, "dockerfile", NULL))) {
        apply_dockerignore(context);
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

static bool open_body(struct builder *builder, struct peeked_source *source, const char *dockerfile, const char *holder,
                      struct cancel *cancel, struct build_context *context, GError **error)
{
    gssize length = source_read_full(source->rest, source->start, sizeof source->start, error);
    const char *name = dockerfile && *dockerfile ? dockerfile : "Dockerfile";

    if (length < 0)
        return false;
    source->length = (gsize)length;
    if (length == 0)
        return error_set(error, TARE_ERROR_NOT_FOUND, "Cannot locate specified Dockerfile: %s", name);
    if (!build_looks_archived(source->start, source->length)) {
        context->dockerfile_name = g_strdup(name);
        return read_text(source, context, error);
    }
    return mount_context(builder, &source->source, holder, cancel, context, error) && find_dockerfile(context, dockerfile, error);
}

/* ---- a git repository ---- */

static bool open_git(struct builder *builder, const struct build_request *request, struct cancel *cancel,
                     struct build_context *context, GError **error)
{
    bool keep = g_strcmp0(json_get_string(request->build_args, "BUILDKIT_CONTEXT_KEEP_GIT_DIR", NULL), "1") == 0;
    struct git_clone_options options = { .keep_git_directory = keep, .cancel = cancel };
    struct git_source source;
    struct measure size = { 0 };
    g_autofd int top = -1;
    bool good;

    if (!builder->directory)
        return error_set(error, TARE_ERROR_INTERNAL, "the engine has no directory for clones");
    if (!git_source_parse(request->git, &source, error))
        return false;
    context->directory = g_build_filename(builder->directory, "tmp", "git-XXXXXX", NULL);
    good = g_mkdtemp_full(context->directory, 0700) || error_set_errno(error, errno, "make %s", context->directory);
    if (good && !git_clone(&source, context->directory, &options, error)) {
        g_prefix_error(error, "unable to prepare context: ");
        good = false;
    }
    top = good ? open(context->directory, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (good)
        context->root_fd = root_open(top, source.subdir ? source.subdir : ".", O_PATH | O_DIRECTORY, 0);
    if (good && context->root_fd < 0)
        good = error_set(error, TARE_ERROR_INVALID, "error setting git context, \"%s\" not within git root", source.subdir);
    git_source_clear(&source);
    if (good)
        measure_tree(context->root_fd, ".", &size);
    return good && build_context_check_size(builder, size.content_bytes, error) &&
           find_dockerfile(context, request->dockerfile, error);
}

static bool open_any(struct builder *builder, struct byte_source *source, const struct build_request *request, const char *holder,
                     struct cancel *cancel, struct build_context *context, GError **error)
{
    struct peeked_source peeked = { .source.read = peeked_read, .rest = source };

    if (request->git)
        return open_git(builder, request, cancel, context, error);
    if (request->context_id)
        return context_store_open(builder, request->context_id, source, holder, cancel, context, error) &&
               find_dockerfile(context, request->dockerfile, error);
    return open_body(builder, &peeked, request->dockerfile, holder, cancel, context, error);
}

bool build_context_open(struct builder *builder, struct byte_source *source, const struct build_request *request,
                        const char *holder, struct cancel *cancel, struct build_context *ret, GError **error)
{
    struct build_context context = { .root_fd = -1, .excluded = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL) };

    if (!open_any(builder, source, request, holder, cancel, &context, error)) {
        build_context_clear(&context);
        return false;
    }
    *ret = context;
    return true;
}

void build_context_clear(struct build_context *context)
{
    fd_clear(&context->root_fd);
    if (context->stack)
        layer_stack_release(context->stack);
    context_files_unref(context->files);
    g_free(context->key);
    g_strfreev(context->layers);
    if (context->directory)
        dir_remove_tree(AT_FDCWD, context->directory, NULL);
    g_free(context->directory);
    if (context->excluded)
        g_hash_table_unref(context->excluded);
    g_free(context->dockerfile);
    g_free(context->dockerfile_name);
    *context = (struct build_context){ .root_fd = -1 };
}
