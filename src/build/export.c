/* The files of an image as a tar: what --output type=local and type=tar are made of. */
#include "base/fd.h"
#include "build/build-internal.h"

bool builder_export_files(struct builder *builder, const char *name, struct byte_sink *sink, struct cancel *cancel,
                          GError **error)
{
    struct copy_sources sources = { .root_fd = -1, .cancel = cancel };
    struct copy_layer_options options = { .target_fd = -1, .keep_owner = true, .cancel = cancel };
    struct layer_stack *stack = NULL;
    struct tar_writer *writer = NULL;
    struct copy_layer *layer = NULL;
    g_autoimage struct image *image = NULL;
    g_autofd int root = -1;
    bool good;

    if (!image_store_get(builder->images, name, &image, error) ||
        !layer_stack_acquire(builder->layers, (const char *const *)image->diff_ids, &stack, error))
        return false;
    root = layer_stack_mount(stack, error);
    good = root >= 0;
    if (good) {
        sources.root_fd = options.target_fd = root;
        layer = copy_layer_new(&options);
        writer = tar_writer_new(sink);
        good = copy_layer_add_tree(layer, &sources, ".", "/", false, error) && copy_layer_write(layer, writer, error) &&
               tar_writer_finish(writer, error);
    }
    tar_writer_free(writer);
    copy_layer_free(layer);
    fd_clear(&root);
    layer_stack_release(stack);
    return good;
}
