/* The COPY and ADD steps. */
#include "base/digest.h"
#include "base/fd.h"
#include "base/git.h"
#include "base/parse.h"
#include "base/root_path.h"
#include "build/build-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct copy_step {
    struct build *build;
    const struct build_step *step;
    const char *name; /* COPY or ADD */
    int scratch;      /* here-documents as files, -1 where there are none */
    struct copy_remote *remote;
    struct copy_sources sources;
    struct build_root from;   /* of --from */
    struct build_root target; /* the state's image */
    char *dest;               /* absolute */
};

/* ---- --from ---- */

static bool open_from(struct copy_step *copy, GError **error)
{
    if (!build_open_from(copy->build, copy->step->from, &copy->from, &copy->sources.files, error)) {
        g_prefix_error(error, "invalid from flag value %s: ", copy->step->from);
        return false;
    }
    copy->sources.root_fd = copy->from.fd;
    return true;
}

/* ---- sources ---- */

/* A here-document is a file like any: 0644, of the time of what has no model. */
static bool add_heredoc(struct copy_step *copy, const struct dockerfile_heredoc *heredoc, GError **error)
{
    const struct scratch_file file = { .name = heredoc->name,
                                       .data = heredoc->content,
                                       .length = strlen(heredoc->content),
                                       .mode = 0644,
                                       .mtime = copy->build->epoch };

    if (strchr(heredoc->name, '/') || g_str_equal(heredoc->name, ".") || g_str_equal(heredoc->name, ".."))
        return error_set(error, TARE_ERROR_INVALID, "the name of a here-document that is copied cannot be %s", heredoc->name);
    if (copy->scratch < 0)
        copy->scratch = scratch_open(error);
    return copy->scratch >= 0 && scratch_write(copy->scratch, &file, error) &&
           copy_sources_add_file(&copy->sources, copy->scratch, heredoc->name, NULL, error);
}

static bool gather_sources(struct copy_step *copy, GError **error)
{
    char **last = copy->step->args + g_strv_length(copy->step->args) - 1;

    for (char **arg = copy->step->args; arg < last; arg++) {
        const struct dockerfile_heredoc *heredoc = heredoc_find(copy->step->heredocs, *arg);

        if (heredoc) {
            if (!add_heredoc(copy, heredoc, error))
                return false;
            continue;
        }
        if (copy->step->kind == STEP_COPY && copy_is_url(*arg))
            return error_set(error, TARE_ERROR_INVALID, "source can't be a URL for COPY");
        if (copy->step->kind == STEP_COPY && git_is_source(*arg))
            return error_set(error, TARE_ERROR_INVALID, "source can't be a git ref for COPY");
        if (copy_is_url(*arg) || git_is_source(*arg)) {
            if (!copy_remote_add(copy->remote, copy->step, *arg, &copy->sources, error))
                return false;
            continue;
        }
        if (!copy_sources_add(&copy->sources, *arg, error))
            return false;
    }
    if (!copy->sources.items)
        copy->sources.items = g_ptr_array_new();
    if (copy->sources.items->len == 0 && !copy->sources.left_out)
        return error_set(error, TARE_ERROR_INVALID, "no source files were specified");
    return true;
}

/* What stands for the sources in history and cache. */
static char *sources_hash(const struct copy_step *copy)
{
    g_autoptr(GString) joined = g_string_new(NULL);
    char digest[DIGEST_ROOM];

    for (guint i = 0; i < copy->sources.items->len; i++) {
        const struct copy_source *source = copy->sources.items->pdata[i];

        g_string_append_printf(joined, "%s%s", i ? "," : "", source->hash);
    }
    if (copy->sources.items->len == 1)
        return g_strdup(joined->str);
    digest_of(joined->str, joined->len, digest);
    return g_strconcat("multi:", digest_hex(digest), NULL);
}

static json_t *nop_command(const struct copy_step *copy)
{
    g_autofree char *hash = sources_hash(copy);
    const char *chown = copy->step->chown, *chmod = copy->step->chmod;
    const char *dest = copy->step->args[g_strv_length(copy->step->args) - 1];
    const char *unpack = copy->step->unpack == 1 ? "--unpack " : copy->step->unpack == 0 ? "--unpack=false " : "";
    g_autofree char *comment =
        g_strdup_printf("%s %s%s%s%s%s%s%s%s%s%s in %s ", copy->name, unpack, copy->step->link ? "--link " : "",
                        copy->step->parents ? "--parents " : "", chown ? "--chown=" : "", chown ? chown : "", chown ? " " : "",
                        chmod ? "--chmod=" : "", chmod ? chmod : "", chmod ? " " : "", hash, dest);

    return build_nop_command(copy->build, comment, false);
}

/* ---- ADD of an archive ---- */

struct head_sink {
    struct byte_sink sink;
    char start[512];
    gsize length;
};

/* Stops the decoder by an error once it has shown enough. */
static bool head_write(struct byte_sink *self, const void *data, gsize length, GError **error)
{
    struct head_sink *head = (struct head_sink *)self;
    gsize n = MIN(length, sizeof head->start - head->length);

    memcpy(head->start + head->length, data, n);
    head->length += n;
    return head->length < sizeof head->start || error_set(error, TARE_ERROR_CANCELLED, "enough");
}

/* A tar, perhaps compressed. Its first block is all that is looked at here, and the decoder is a confined worker. */
static bool is_archive(const struct copy_step *copy, const struct copy_source *source)
{
    g_autofd int fd = root_open(source->root_fd, source->path, O_RDONLY | O_NONBLOCK, 0);
    struct head_sink head = { .sink.write = head_write };
    struct fd_source file;
    char start[512];
    ssize_t length;

    if (!S_ISREG(source->stat.st_mode) || fd < 0 || (length = fd_pread_full(fd, start, sizeof start, 0)) <= 0)
        return false;
    if (build_is_tar_header(start, (gsize)length))
        return true;
    if (!build_looks_archived(start, (gsize)length))
        return false;
    fd_source_init(&file, fd, source->path);
    layer_decode(copy->build->builder->layers, &file.source, &head.sink, 0, copy->build->cancel, NULL);
    return build_is_tar_header(head.start, head.length);
}

/* ---- the layer ---- */

struct archive_root {
    struct layer_stack *stack;
    int fd;
};

static void archive_root_free(struct archive_root *root)
{
    fd_clear(&root->fd);
    if (root->stack)
        layer_stack_release(root->stack);
    g_free(root);
}

/* The archive becomes a layer of its own and is mounted, so that the engine itself parses no stranger's tar. */
static struct archive_root *open_archive(const struct copy_step *copy, const struct copy_source *source, GError **error)
{
    g_autofd int fd = root_open(source->root_fd, source->path, O_RDONLY | O_NONBLOCK, 0);
    struct image_layer_claim claim;
    struct layer_ingest_options options = {
        .name = source->path, .is_tree = true, .claim = &claim.claim, .cancel = copy->build->cancel
    };
    struct archive_root *root;
    struct layer_info info;
    bool good;
    const char *diff_ids[] = { info.diff_id, NULL };
    struct fd_source file;

    if (fd < 0) {
        error_set_errno(error, errno, "open %s", source->path);
        return NULL;
    }
    fd_source_init(&file, fd, source->path);
    builder_begin_taking(copy->build->builder);
    image_layer_claim_init(&claim, copy->build->builder->images, copy->build->holder);
    good = layer_store_ingest(copy->build->builder->layers, &file.source, &options, &info, error);
    builder_end_taking(copy->build->builder);
    if (!good)
        return NULL;
    root = g_new0(struct archive_root, 1);
    root->fd = -1;
    if (!layer_chain_prepare(copy->build->builder->layers, diff_ids, error) ||
        !layer_stack_acquire(copy->build->builder->layers, diff_ids, &root->stack, error) ||
        (root->fd = layer_stack_mount(root->stack, error)) < 0) {
        archive_root_free(root);
        return NULL;
    }
    return root;
}

/* ADD takes archives of the context apart, and those of URLs where --unpack says so. */
static bool is_unpacked(const struct copy_step *copy, const struct copy_source *source)
{
    if (copy->step->kind != STEP_ADD)
        return false;
    return copy->step->unpack >= 0 ? copy->step->unpack == 1 : !source->is_remote;
}

static bool add_source(const struct copy_step *copy, struct copy_layer *layer, const struct copy_source *source,
                       GPtrArray *archives, GError **error)
{
    struct copy_sources tree = { .cancel = copy->build->cancel };
    struct archive_root *root;

    if (!is_unpacked(copy, source) || !is_archive(copy, source))
        return copy_layer_add(layer, &copy->sources, source, copy->dest, error);
    root = open_archive(copy, source, error);
    if (!root)
        return false;
    g_ptr_array_add(archives, root);
    tree.root_fd = root->fd;
    return copy_layer_add_tree(layer, &tree, ".", copy->dest, true, error);
}

static bool add_sources(const struct copy_step *copy, struct copy_layer *layer, GPtrArray *archives, GError **error)
{
    for (guint i = 0; i < copy->sources.items->len; i++) {
        if (!add_source(copy, layer, copy->sources.items->pdata[i], archives, error)) {
            g_prefix_error(error, "failed to copy files: ");
            return false;
        }
    }
    return true;
}

static bool commit_layer(const struct copy_step *copy, struct copy_layer *layer, struct layer_info *ret, GError **error)
{
    struct layer_draft *draft;

    if (!layer_draft_new(copy->build->builder->layers, &draft, error))
        return false;
    if (!copy_layer_write(layer, layer_draft_writer(draft), error)) {
        layer_draft_discard(draft);
        return false;
    }
    return build_commit_draft(copy->build, draft, ret, error);
}

static bool layer_options(const struct copy_step *copy, struct copy_layer_options *options, GError **error)
{
    const struct build_step *step = copy->step;

    *options = (struct copy_layer_options){ .target_fd = copy->target.fd,
                                            .keep_owner = step->from && !step->chown,
                                            .is_link = step->link,
                                            .chmod = step->chmod,
                                            .epoch = copy->build->epoch,
                                            .cancel = copy->build->cancel };
    if (step->chown && !copy_resolve_owner(copy->target.fd, step->chown, &options->uid, &options->gid, error))
        return false;
    return !step->chmod || copy_mode_check(step->chmod, error);
}

static bool make_layer(struct copy_step *copy, struct layer_info *ret, GError **error)
{
    g_autoptr(GPtrArray) archives = g_ptr_array_new_with_free_func((GDestroyNotify)archive_root_free);
    struct copy_layer_options options;
    struct copy_layer *layer;
    bool good;

    if (!build_root_open(copy->build, copy->build->state->image, &copy->target, error) || !layer_options(copy, &options, error))
        return false;
    layer = copy_layer_new(&options);
    good = add_sources(copy, layer, archives, error) && commit_layer(copy, layer, ret, error);
    copy_layer_free(layer);
    return good;
}

/* Relative to WORKDIR; a trailing slash says something and stays. */
static char *absolute_dest(const struct build *build, const char *dest)
{
    g_autofree char *joined = NULL;

    if (*dest == '/')
        return g_strdup(dest);
    joined = go_join_path(json_get_string(build->state->metadata.config, "WorkingDir", ""), dest);
    return g_str_has_suffix(dest, "/") && !g_str_has_suffix(joined, "/") ? g_strconcat(joined, "/", NULL)
                                                                         : g_steal_pointer(&joined);
}

static bool run_copy(struct copy_step *copy, GError **error)
{
    const char *dest = copy->step->args[g_strv_length(copy->step->args) - 1];
    g_autoptr(json_t) cmd = NULL;
    g_autofree char *parent = g_strdup(build_parent_id(copy->build)), *key = NULL;
    struct layer_info layer;
    bool hit;

    if (copy->step->from && !open_from(copy, error))
        return false;
    if (!copy_remote_check(copy->step, error) || !gather_sources(copy, error)) {
        g_prefix_error(error, "%s failed: ", copy->name);
        return false;
    }
    if (copy->sources.items->len > 1 && !g_str_has_suffix(dest, "/"))
        return error_set(error, TARE_ERROR_INVALID,
                         "When using %s with more than one source file, the destination must be a directory and end with a /",
                         copy->name);
    cmd = nop_command(copy);
    copy->build->cache_extra = copy->step->from && !copy->step->chown ? "owners are kept" : NULL;
    if (!cache_probe(copy->build, cmd, NULL, &hit, error))
        return false;
    if (hit)
        return true;
    key = cache_key(copy->build, cmd, NULL);
    copy->dest = absolute_dest(copy->build, dest);
    return make_layer(copy, &layer, error) && build_add_image(copy->build, cmd, &layer, NULL, error) &&
           cache_store(copy->build, parent, key, error);
}

bool step_copy(struct build *build, const struct build_step *step, GError **error)
{
    struct copy_step copy = {
        .build = build,
        .step = step,
        .name = step_kind_name(step->kind),
        .from.fd = -1,
        .target.fd = -1,
        .scratch = -1,
        .remote = copy_remote_new(build),
        .sources = { .root_fd = build->context.root_fd,
                     .exclude = step->excludes,
                     .parents = step->parents,
                     .cancel = build->cancel },
    };
    bool good;

    if (!step->from) {
        copy.sources.is_context = true;
        copy.sources.excluded = build->context.excluded;
        copy.sources.files = build->context.files;
    }
    good = run_copy(&copy, error);
    copy_sources_clear(&copy.sources);
    build_root_clear(&copy.from);
    build_root_clear(&copy.target);
    fd_clear(&copy.scratch);
    copy_remote_free(copy.remote);
    g_free(copy.dest);
    return good;
}
