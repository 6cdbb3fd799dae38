/* docker export: a tar of the merged file system, without what is mounted on it. */
#include "container/container-internal.h"

#include "layer/tar.h"

bool container_export(struct container_manager *manager, const char *name, struct byte_sink *sink, struct cancel *cancel,
                      GError **error)
{
    struct container_root root;
    autocontainer container = container_find(manager, name, error);
    if (!container)
        return false;
    struct container_state state = container_get_state(container);
    if (state.status == CONTAINER_DEAD)
        return error_set(error, TARE_ERROR_CONFLICT, "You cannot export container %s which is Dead", container->id);
    if (state.status == CONTAINER_REMOVING)
        return error_set(error, TARE_ERROR_CONFLICT, "You cannot export container %s which is being removed", container->id);
    if (!container_root_open(container, false, &root, error))
        return false;
    struct tar_writer *writer = tar_writer_new(sink);
    bool ok = tree_write_tar(root.fd, ".", "", writer, cancel, error) && tar_writer_finish(writer, error);
    tar_writer_free(writer);
    container_root_close(&root);
    if (ok)
        container_emit(container, "export", NULL);
    return ok;
}
