/* A developer's tool over the layer store, with times; no test:
 *   layer_tool ROOT ingest FILE…           tars, compressed or not; prints diff ids
 *   layer_tool ROOT mount DIR DIFF-ID…     mounts the chain (lowest first) read-only at DIR
 *   layer_tool ROOT seal UPPER             makes a layer of a directory
 *   layer_tool ROOT list | verify | stack DIFF-ID… (a thousand acquisitions) */
#include "base/fd.h"
#include "layer/layer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static gint64 started;

static void print_time(const char *what)
{
    fprintf(stderr, "%s: %.3f ms\n", what, (double)(g_get_monotonic_time() - started) / 1000);
    started = g_get_monotonic_time();
}

static bool ingest(struct layer_store *store, char **files, GError **error)
{
    for (; *files; files++) {
        struct layer_info info;
        struct layer_ingest_options options = { .name = *files };
        struct fd_source source;
        g_autofd int fd = open(*files, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return error_set_errno(error, errno, "open %s", *files);
        fd_source_init(&source, fd, *files);
        if (!layer_store_ingest(store, &source.source, &options, &info, error))
            return false;
        printf("%s\n", info.diff_id);
        print_time(*files);
        fprintf(stderr, "tar %" G_GUINT64_FORMAT ", index %" G_GUINT64_FORMAT ", content %" G_GUINT64_FORMAT " bytes\n",
                info.tar_bytes, info.index_bytes, info.content_bytes);
    }
    return true;
}

static bool mount_chain(struct layer_store *store, char **arguments, GError **error)
{
    struct layer_stack *stack;
    const char *const *chain = (const char *const *)arguments + 1;
    if (!layer_chain_prepare(store, chain, error) || !layer_stack_acquire(store, chain, &stack, error))
        return false;
    print_time("acquire");
    g_autofd int mount = layer_stack_mount(stack, error);
    layer_stack_release(stack);
    if (mount < 0)
        return false;
    print_time("overlay");
    return syscall(SYS_move_mount, mount, "", AT_FDCWD, arguments[0], MOVE_MOUNT_F_EMPTY_PATH) == 0 ||
           error_set_errno(error, errno, "mount at %s", arguments[0]);
}

static bool seal(struct layer_store *store, char **arguments, GError **error)
{
    struct layer_info info;
    const struct layer_seal_options options = { .clamp_mtime = -1 };
    g_autofd int fd = open(arguments[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, errno, "open %s", arguments[0]);
    if (!layer_store_seal(store, fd, &options, &info, error))
        return false;
    print_time("seal");
    printf("%s\n", info.diff_id);
    return true;
}

static bool acquire_often(struct layer_store *store, char **arguments, GError **error)
{
    for (int i = 0; i < 1000; i++) {
        struct layer_stack *stack;
        if (!layer_stack_acquire(store, (const char *const *)arguments, &stack, error))
            return false;
        layer_stack_release(stack);
        if (i == 0)
            print_time("cold");
    }
    print_time("999 times warm");
    return true;
}

static bool list(struct layer_store *store, char **arguments, GError **error)
{
    g_auto(GStrv) ids = layer_store_list(store, error);
    for (char **id = ids; id && *id; id++)
        printf("%s\n", *id);
    return ids != NULL;
}

static bool verify(struct layer_store *store, char **arguments, GError **error)
{
    g_auto(GStrv) ids = layer_store_list(store, error);
    bool ok = ids != NULL;
    for (char **id = ids; ok && *id; id++)
        ok = layer_store_verify(store, *id, NULL, error);
    print_time("verify");
    return ok;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int n_arguments;
        bool (*run)(struct layer_store *store, char **arguments, GError **error);
    } verbs[] = { { "ingest", 1, ingest },       { "mount", 2, mount_chain }, { "seal", 1, seal },
                  { "stack", 1, acquire_often }, { "list", 0, list },         { "verify", 0, verify } };
    g_autoptr(GError) error = NULL;
    struct layer_store *store = NULL;
    started = g_get_monotonic_time();
    for (size_t i = 0; argc > 2 && i < G_N_ELEMENTS(verbs); i++) {
        if (strcmp(argv[2], verbs[i].name) != 0 || argc < 3 + verbs[i].n_arguments)
            continue;
        bool ok = layer_store_open(argv[1], &(struct layer_store_options){ .ingest_program = TARE_INGEST }, &store, &error);
        if (ok) {
            print_time("open");
            ok = verbs[i].run(store, argv + 3, &error);
        }
        layer_store_close(store);
        if (!ok)
            fprintf(stderr, "%s\n", error->message);
        return ok ? 0 : 1;
    }
    fprintf(stderr, "usage: layer_tool ROOT VERB ARGUMENT…\n");
    return 2;
}
