/* What a RUN step has mounted: resolved before the cache is asked, mounted only where the step runs. Every source is opened by fd
 * inside its root and handed over as a mount of its own, so no path of a stranger's is ever followed on the host. */
#include "base/digest.h"
#include "base/fd.h"
#include "base/root_path.h"
#include "build/build-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define AGENT_DIRECTORY "/run/buildkit"

struct prepared {
    const struct run_mount *mount;
    char *target;  /* absolute; NULL for a secret that is a variable alone */
    bool is_image; /* it reads from a stage or an image: image, NULL for an empty one */
    struct image *image;
    bool on_host; /* its root is a directory of the host, which only an overlay may bring into a container */
    char *state;  /* what the cache key says of its content */

    /* once open */
    struct build_root root;
    char *temporary;
    struct cache_mount *cache;
    struct agent_socket *agent;
    int directory; /* of a secret or socket */
};

struct run_mounts {
    struct build *build;
    const struct build_step *step;
    GPtrArray *all; /* of struct prepared * */
    GArray *fds;    /* of int: what HostConfig names by our process's table */
    GPtrArray *env, *stubs;
    unsigned n_agents;
};

static void prepared_free(struct prepared *prepared, struct builder *builder)
{
    agent_socket_close(prepared->agent);
    cache_mount_release(builder, prepared->cache);
    build_root_clear(&prepared->root);
    fd_clear(&prepared->directory);
    builder_temporary_remove(builder, prepared->temporary);
    if (prepared->image)
        image_unref(prepared->image);
    g_free(prepared->target);
    g_free(prepared->state);
    g_free(prepared);
}

/* ---- resolving ---- */

/* Secrets and agents have places of their own where none is said. */
static char *default_target(const struct run_mounts *mounts, const struct run_mount *mount)
{
    const char *id = mount->id ? mount->id : mount->source;
    g_autofree char *name = NULL;

    if (mount->target && *mount->target)
        return g_strdup(mount->target);
    if (mount->type == RUN_MOUNT_SSH)
        return g_strdup_printf(AGENT_DIRECTORY "/ssh_agent.%u", mounts->n_agents);
    if (mount->env || !id)
        return NULL;
    name = g_path_get_basename(id);
    return g_strconcat("/run/secrets/", name, NULL);
}

static bool resolve_target(struct run_mounts *mounts, struct prepared *prepared, GError **error)
{
    g_autofree char *given = default_target(mounts, prepared->mount);
    const json_t *config = mounts->build->state->metadata.config;

    if (!given)
        return true;
    prepared->target = *given == '/' ? go_clean_path(given) : go_join_path(json_get_string(config, "WorkingDir", ""), given);
    return !g_str_equal(prepared->target, "/") ||
           error_set(error, TARE_ERROR_INVALID, "invalid mount target \"%s\"", prepared->target);
}

/* A directory of the client's, by content, as COPY has it. */
static bool resolve_content(struct build *build, struct copy_sources *sources, struct prepared *prepared, GError **error)
{
    const char *source = prepared->mount->source ? prepared->mount->source : ".";
    g_autofree char *inside = go_join_path("", source);
    bool good = copy_sources_add(sources, inside[1] ? inside + 1 : ".", error);

    if (good)
        prepared->state = g_strdup(((const struct copy_source *)sources->items->pdata[0])->hash);
    copy_sources_clear(sources);
    return good;
}

static bool resolve_context(struct build *build, struct prepared *prepared, GError **error)
{
    struct copy_sources sources = {
        .root_fd = build->context.root_fd, .files = build->context.files, .is_context = true, .cancel = build->cancel
    };

    prepared->root.fd = build->context.root_fd >= 0 ? fcntl(build->context.root_fd, F_DUPFD_CLOEXEC, 3) : -1;
    prepared->on_host = !build->context.stack;
    return resolve_content(build, &sources, prepared, error);
}

static bool resolve_named(struct build *build, const char *name, struct prepared *prepared, GError **error)
{
    struct copy_sources sources = { .cancel = build->cancel };

    if (!build_open_from(build, name, &prepared->root, &sources.files, error))
        return false;
    sources.root_fd = prepared->root.fd;
    return resolve_content(build, &sources, prepared, error);
}

static bool resolve_from(struct build *build, const char *from, struct prepared *prepared, GError **error)
{
    const struct build_state *stage = NULL;
    const char *reference = from;
    char chain[72] = "";

    if (build_named_is_context(build, from))
        return prepared->mount->type == RUN_MOUNT_BIND
                   ? resolve_named(build, from, prepared, error)
                   : error_set(error, TARE_ERROR_INVALID, "a cache is based on a stage or an image");
    if (!build_named_image(build, from, &reference) && !build_find_stage(build, from, &stage, error))
        return false;
    prepared->is_image = true;
    if (stage && stage->image)
        prepared->image = image_ref(stage->image);
    else if (!stage && !g_str_equal(reference, "scratch") && !build_find_image(build, reference, &prepared->image, error))
        return false;
    if (prepared->image)
        layer_chain_id((const char *const *)prepared->image->diff_ids, chain);
    prepared->state = g_strdup(chain);
    return true;
}

static bool resolve(struct run_mounts *mounts, const struct run_mount *mount, GError **error)
{
    struct prepared *prepared = g_new0(struct prepared, 1);

    prepared->mount = mount;
    prepared->root.fd = prepared->directory = -1;
    g_ptr_array_add(mounts->all, prepared);
    if (!resolve_target(mounts, prepared, error))
        return false;
    mounts->n_agents += mount->type == RUN_MOUNT_SSH;
    if (mount->from && (mount->type == RUN_MOUNT_BIND || mount->type == RUN_MOUNT_CACHE)) {
        if (resolve_from(mounts->build, mount->from, prepared, error))
            return true;
        g_prefix_error(error, "invalid from of a mount, %s: ", mount->from);
        return false;
    }
    return mount->type != RUN_MOUNT_BIND || resolve_context(mounts->build, prepared, error);
}

bool run_mounts_new(struct build *build, const struct build_step *step, struct run_mounts **ret, GError **error)
{
    struct run_mounts *mounts = g_new0(struct run_mounts, 1);

    mounts->build = build;
    mounts->step = step;
    mounts->all = g_ptr_array_new();
    mounts->fds = g_array_new(FALSE, FALSE, sizeof(int));
    mounts->env = g_ptr_array_new_with_free_func(g_free);
    mounts->stubs = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < step->run_mounts->len; i++)
        if (!resolve(mounts, step->run_mounts->pdata[i], error)) {
            run_mounts_free(mounts);
            return false;
        }
    *ret = mounts;
    return true;
}

void run_mounts_free(struct run_mounts *mounts)
{
    if (!mounts)
        return;
    for (guint i = 0; i < mounts->fds->len; i++)
        fd_close(g_array_index(mounts->fds, int, i));
    for (guint i = mounts->all->len; i > 0; i--)
        prepared_free(mounts->all->pdata[i - 1], mounts->build->builder);
    g_ptr_array_unref(mounts->all);
    g_array_unref(mounts->fds);
    g_ptr_array_unref(mounts->env);
    g_ptr_array_unref(mounts->stubs);
    g_free(mounts);
}

json_t *run_mounts_key(const struct run_mounts *mounts)
{
    json_t *key = json_array();

    for (char **text = mounts->step->mounts; text && *text; text++)
        json_array_append_new(key, json_string_lossy(*text));
    for (guint i = 0; i < mounts->all->len; i++) {
        const struct prepared *prepared = mounts->all->pdata[i];
        g_autofree char *text =
            g_strdup_printf("mount %d %s %s", prepared->mount->type, prepared->target ? prepared->target : prepared->mount->env,
                            prepared->state ? prepared->state : "");

        json_array_append_new(key, json_string_lossy(text));
    }
    return key;
}

const char *const *run_mounts_env(const struct run_mounts *mounts)
{
    return mounts->env->len > 0 ? (const char *const *)mounts->env->pdata : NULL;
}

const char *const *run_mounts_stubs(const struct run_mounts *mounts)
{
    return mounts->stubs->len > 0 ? (const char *const *)mounts->stubs->pdata : NULL;
}

/* ---- handing over ---- */

static void add_path(json_t *host_config, const char *path, const char *target, bool read_only)
{
    json_t *list = json_get_array(host_config, "Mounts");

    if (!list) {
        list = json_array();
        json_object_set_new(host_config, "Mounts", list);
    }
    json_array_append_new(
        list, json_pack("{s:s, s:s, s:s, s:b}", "Type", "bind", "Source", path, "Target", target, "ReadOnly", read_only));
}

/* The container's side takes the mount by the number that it has in our process's table. */
static void add_bind(struct run_mounts *mounts, json_t *host_config, int tree, const char *target, bool read_only)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd/%d", (int)getpid(), tree);

    g_array_append_val(mounts->fds, tree);
    add_path(host_config, path, target, read_only);
}

static bool add_tree(struct run_mounts *mounts, json_t *host_config, int root, const char *source,
                     const struct prepared *prepared, GError **error)
{
    g_autofree char *inside = go_join_path("", source ? source : "");
    g_autofd int fd = root_open(root, inside[1] ? inside + 1 : ".", O_PATH, 0);
    int tree;

    if (fd < 0)
        return error_set_errno(error, errno, "mount of %s: %s", prepared->target, inside);
    tree = mount_clone(fd, error);
    if (tree < 0)
        return false;
    add_bind(mounts, host_config, tree, prepared->target, prepared->mount->read_only);
    return true;
}

/* ---- kinds ---- */

/* Writes are taken, and gone with the step. The root becomes an overlay over what it was. */
static bool open_writable(struct run_mounts *mounts, struct prepared *prepared, GError **error)
{
    g_autofree char *upper = NULL, *work = NULL;
    const struct layer_stack *stack = prepared->root.stack;
    int overlay;

    prepared->temporary = builder_temporary(mounts->build->builder, error);
    if (!prepared->temporary)
        return false;
    upper = g_build_filename(prepared->temporary, "upper", NULL);
    work = g_build_filename(prepared->temporary, "work", NULL);
    if (mkdir(upper, 0755) < 0 || mkdir(work, 0700) < 0)
        return error_set_errno(error, errno, "make the directories of a mount");
    if (stack) {
        overlay = build_stack_writable(prepared->root.stack, upper, work, error);
    } else {
        const struct overlay_options options = {
            .lower_fds = &prepared->root.fd, .n_lower_fds = 1, .upper = upper, .work = work, .is_volatile = true
        };

        overlay = overlay_mount(&options, error);
    }
    fd_clear(&prepared->root.fd);
    prepared->root.fd = overlay;
    return overlay >= 0;
}

static bool open_bind(struct run_mounts *mounts, struct prepared *prepared, json_t *host_config, GError **error)
{
    const struct run_mount *mount = prepared->mount;
    bool needs_overlay = !mount->read_only || prepared->on_host, good = true;

    if (prepared->is_image)
        good = needs_overlay ? build_root_acquire(mounts->build, prepared->image, &prepared->root, error)
                             : build_root_open(mounts->build, prepared->image, &prepared->root, error);
    if (good && prepared->root.fd < 0 && !prepared->root.stack)
        good = error_set(error, TARE_ERROR_INVALID, "missing build context");
    return good && (!needs_overlay || open_writable(mounts, prepared, error)) &&
           add_tree(mounts, host_config, prepared->root.fd, mount->source, prepared, error);
}

static bool open_cache(struct run_mounts *mounts, struct prepared *prepared, json_t *host_config, GError **error)
{
    const struct run_mount *mount = prepared->mount;
    const struct cache_mount_options options = {
        .name = mount->id && *mount->id ? mount->id : prepared->target,
        .description = mounts->step->source,
        .base = prepared->image,
        .sharing = mount->sharing,
        .mode = mount->mode >= 0 ? (mode_t)mount->mode : 0755,
        .uid = mount->uid >= 0 ? (uid_t)mount->uid : 0,
        .gid = mount->gid >= 0 ? (gid_t)mount->gid : 0,
    };

    if (mount->source && !prepared->is_image)
        return error_set(error, TARE_ERROR_INVALID, "the source of a cache mount is a path in its from, which it does not have");
    if (!cache_mount_acquire(mounts->build->builder, &options, mounts->build->cancel, &prepared->cache, error))
        return false;
    if (prepared->image)
        return add_tree(mounts, host_config, cache_mount_fd(prepared->cache), mount->source, prepared, error);
    add_path(host_config, cache_mount_path(prepared->cache), prepared->target, mount->read_only);
    return true;
}

static bool open_tmpfs(struct run_mounts *mounts, struct prepared *prepared, json_t *host_config, GError **error)
{
    const struct run_mount *mount = prepared->mount;
    json_t *tmpfs = json_get_object(host_config, "Tmpfs");
    g_autofree char *options = NULL;

    if (!tmpfs) {
        tmpfs = json_object();
        json_object_set_new(host_config, "Tmpfs", tmpfs);
    }
    options = g_strdup_printf("exec%s", mount->read_only ? ",ro" : "");
    if (mount->size > 0) {
        g_autofree char *sized = g_strdup_printf("%s,size=%" G_GINT64_FORMAT, options, mount->size);

        json_object_set_new(tmpfs, prepared->target, json_string(sized));
    } else {
        json_object_set_new(tmpfs, prepared->target, json_string(options));
    }
    return true;
}

static const char *secret_id(const struct prepared *prepared, char **buffer)
{
    const struct run_mount *mount = prepared->mount;

    if (mount->source && *mount->source)
        return mount->source;
    if (mount->id && *mount->id)
        return mount->id;
    return *buffer = g_path_get_basename(mount->target ? mount->target : "");
}

static bool add_scratch_file(struct run_mounts *mounts, struct prepared *prepared, json_t *host_config, const char *name,
                             GError **error)
{
    g_autofd int fd = openat(prepared->directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int tree;

    if (fd < 0)
        return error_set_errno(error, errno, "open %s", name);
    tree = mount_clone(fd, error);
    if (tree < 0)
        return false;
    add_bind(mounts, host_config, tree, prepared->target, prepared->mount->read_only);
    return true;
}

static bool open_secret(struct run_mounts *mounts, struct prepared *prepared, json_t *host_config, GError **error)
{
    const struct run_mount *mount = prepared->mount;
    g_autofree char *buffer = NULL;
    const char *id = secret_id(prepared, &buffer);
    const GByteArray *secret = build_secrets_find(mounts->build->request->secrets, id);
    const struct scratch_file file = { .name = "secret",
                                       .data = secret ? secret->data : NULL,
                                       .length = secret ? secret->len : 0,
                                       .mode = mount->mode >= 0 ? (mode_t)mount->mode : 0400,
                                       .uid = mount->uid >= 0 ? (uid_t)mount->uid : 0,
                                       .gid = mount->gid >= 0 ? (gid_t)mount->gid : 0 };

    if (!secret && mount->required)
        return error_set(error, TARE_ERROR_INVALID, "secret %s: not found", id);
    if (!secret)
        return true;
    if (mount->env) {
        if (memchr(secret->data, '\0', secret->len))
            return error_set(error, TARE_ERROR_INVALID, "secret %s: a NUL byte cannot be in a variable", id);
        g_ptr_array_add(mounts->env, g_strdup_printf("%s=%.*s", mount->env, (int)secret->len, (const char *)secret->data));
    }
    if (!prepared->target)
        return true;
    prepared->directory = scratch_open(error);
    return prepared->directory >= 0 && scratch_write(prepared->directory, &file, error) &&
           add_scratch_file(mounts, prepared, host_config, file.name, error);
}

static bool open_agent(struct run_mounts *mounts, struct prepared *prepared, json_t *host_config, GError **error)
{
    const struct run_mount *mount = prepared->mount;
    const char *id = mount->id && *mount->id ? mount->id : "default";
    struct build_secrets *secrets = mounts->build->request->secrets;
    bool has_variable = false;

    if (!build_secrets_has_agent(secrets, id))
        return !mount->required || error_set(error, TARE_ERROR_INVALID, "ssh agent %s: not given to the build", id);
    prepared->directory = scratch_open(error);
    if (prepared->directory < 0 || !agent_socket_open(secrets, id, prepared->directory, "agent", &prepared->agent, error))
        return false;
    if (fchownat(prepared->directory, "agent", mount->uid >= 0 ? (uid_t)mount->uid : 0, mount->gid >= 0 ? (gid_t)mount->gid : 0,
                 AT_SYMLINK_NOFOLLOW) < 0 ||
        fchmodat(prepared->directory, "agent", mount->mode >= 0 ? (mode_t)mount->mode : 0600, 0) < 0)
        return error_set_errno(error, errno, "make an agent's socket");
    for (guint i = 0; i < mounts->env->len; i++)
        has_variable |= g_str_has_prefix(mounts->env->pdata[i], "SSH_AUTH_SOCK=");
    if (!has_variable)
        g_ptr_array_add(mounts->env, g_strconcat("SSH_AUTH_SOCK=", prepared->target, NULL));
    return add_scratch_file(mounts, prepared, host_config, "agent", error);
}

static bool (*const openers[])(struct run_mounts *, struct prepared *, json_t *, GError **) = {
    [RUN_MOUNT_BIND] = open_bind,     [RUN_MOUNT_CACHE] = open_cache, [RUN_MOUNT_TMPFS] = open_tmpfs,
    [RUN_MOUNT_SECRET] = open_secret, [RUN_MOUNT_SSH] = open_agent,
};

/* ---- all ---- */

static gint compare_caches(gconstpointer a, gconstpointer b)
{
    const struct prepared *first = *(const struct prepared *const *)a, *second = *(const struct prepared *const *)b;

    return g_strcmp0(first->mount->id ? first->mount->id : first->target, second->mount->id ? second->mount->id : second->target);
}

/* Caches in the order of their names, so that two steps that lock the same two never wait for each other. */
static bool open_caches(struct run_mounts *mounts, json_t *host_config, GError **error)
{
    g_autoptr(GPtrArray) caches = g_ptr_array_new();

    for (guint i = 0; i < mounts->all->len; i++)
        if (((const struct prepared *)mounts->all->pdata[i])->mount->type == RUN_MOUNT_CACHE)
            g_ptr_array_add(caches, mounts->all->pdata[i]);
    g_ptr_array_sort(caches, compare_caches);
    for (guint i = 0; i < caches->len; i++) {
        if (i > 0 && compare_caches(&caches->pdata[i - 1], &caches->pdata[i]) == 0)
            return error_set(error, TARE_ERROR_INVALID, "one RUN has the cache mount %s twice",
                             ((const struct prepared *)caches->pdata[i])->target);
        if (!open_cache(mounts, caches->pdata[i], host_config, error))
            return false;
    }
    return true;
}

/* The directories that the image lacks on the way to a target, deepest first: made for the mount, and gone after it. */
static bool note_stubs(struct run_mounts *mounts, int root, const char *target, GError **error)
{
    g_autofree char *real = NULL;
    bool exists;

    if (!root_resolve(root, target, &real, &exists, NULL, error))
        return false;
    while (!exists && *real) {
        char *slash = strrchr(real, '/');
        g_autofd int fd = -1;

        g_ptr_array_add(mounts->stubs, g_strdup(real));
        if (!slash)
            break;
        *slash = '\0';
        fd = root_open(root, real, O_PATH | O_NOFOLLOW, 0);
        exists = fd >= 0;
    }
    return true;
}

static gint compare_deepest_first(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)b, *(const char *const *)a);
}

static bool note_all_stubs(struct run_mounts *mounts, GError **error)
{
    struct build_root root = { .fd = -1 };
    bool good = build_root_open(mounts->build, mounts->build->state->image, &root, error);

    for (guint i = 0; good && i < mounts->all->len; i++) {
        const struct prepared *prepared = mounts->all->pdata[i];

        good = !prepared->target || note_stubs(mounts, root.fd, prepared->target, error);
    }
    build_root_clear(&root);
    g_ptr_array_sort(mounts->stubs, compare_deepest_first);
    return good;
}

bool run_mounts_open(struct run_mounts *mounts, json_t *host_config, GError **error)
{
    if (mounts->all->len == 0)
        return true;
    if (!note_all_stubs(mounts, error) || !open_caches(mounts, host_config, error))
        return false;
    for (guint i = 0; i < mounts->all->len; i++) {
        struct prepared *prepared = mounts->all->pdata[i];

        if (prepared->mount->type != RUN_MOUNT_CACHE && !openers[prepared->mount->type](mounts, prepared, host_config, error))
            return false;
    }
    if (mounts->env->len > 0)
        g_ptr_array_add(mounts->env, NULL);
    if (mounts->stubs->len > 0)
        g_ptr_array_add(mounts->stubs, NULL);
    return true;
}

bool run_mounts_add_script(struct run_mounts *mounts, const char *name, const char *script, json_t *host_config, GError **error)
{
    const struct scratch_file file = { .name = name, .data = script, .length = strlen(script), .mode = 0755 };
    g_autofd int directory = scratch_open(error);

    if (directory < 0 || !scratch_write(directory, &file, error))
        return false;
    add_bind(mounts, host_config, fd_steal(&directory), "/dev/pipes", true);
    return true;
}
