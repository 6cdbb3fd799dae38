/* A container's file system as an fd of its root. Read: an overlay of its own over upper and layers, so that neither the
 * container's mounts nor its life matter. Write: as the container sees it while it runs, else its overlay mounted here meanwhile.
 */
#include "container/container-internal.h"

#include "shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static bool mount_read_only(struct container *container, struct container_root *root, GError **error)
{
    struct container_manager *manager = container->manager;
    const int *stack_fds;
    const char *const *stack_paths = layer_stack_paths(root->stack, NULL);
    size_t n = layer_stack_fds(root->stack, &stack_fds);
    g_autofree char *name = g_strdup_printf("%s/upper", container->id);
    g_autofree char *upper_path = g_build_filename(manager->containers_dir, name, NULL);
    g_autofd int upper = openat(manager->containers_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_autoptr(GPtrArray) paths = g_ptr_array_new();
    if (upper >= 0) {
        g_array_append_val(fds, upper);
        g_ptr_array_add(paths, upper_path);
    }
    g_array_append_vals(fds, stack_fds, n);
    for (size_t i = 0; stack_paths && stack_paths[i]; i++)
        g_ptr_array_add(paths, (char *)stack_paths[i]);
    g_array_append_val(fds, manager->init_layer_fd);
    g_ptr_array_add(paths, manager->init_layer_path);
    g_ptr_array_add(paths, NULL);
    const struct overlay_options options = {
        .lower_fds = stack_paths ? NULL : (const int *)(void *)fds->data,
        .n_lower_fds = stack_paths ? 0 : fds->len,
        .lower_paths = stack_paths ? (const char *const *)paths->pdata : NULL,
    };
    root->fd = layer_stack_overlay(root->stack, &options, error);
    return root->fd >= 0;
}

static bool mount_writable(struct container *container, struct container_root *root, GError **error)
{
    struct container_manager *manager = container->manager;
    g_autofree char *state_dir = container_state_dir(container);
    g_autofree char *upper = g_build_filename(state_dir, "upper", NULL);
    g_autofree char *work = g_build_filename(state_dir, "work", NULL);
    const int *stack_fds;
    const char *const *stack_paths = layer_stack_paths(root->stack, NULL);
    size_t n = layer_stack_fds(root->stack, &stack_fds);
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_autoptr(GPtrArray) paths = g_ptr_array_new();
    if (!container_make_directories(container, root->stack, error))
        return false;
    g_array_append_vals(fds, stack_fds, n);
    g_array_append_val(fds, manager->init_layer_fd);
    for (size_t i = 0; stack_paths && stack_paths[i]; i++)
        g_ptr_array_add(paths, (char *)stack_paths[i]);
    g_ptr_array_add(paths, manager->init_layer_path);
    g_ptr_array_add(paths, NULL);
    const struct overlay_options options = {
        .lower_fds = stack_paths ? NULL : (const int *)(void *)fds->data,
        .n_lower_fds = stack_paths ? 0 : fds->len,
        .lower_paths = stack_paths ? (const char *const *)paths->pdata : NULL,
        .upper = upper,
        .work = work,
        .is_volatile = container->is_volatile,
        .label = container_mount_label(container),
    };
    root->fd = layer_stack_overlay(root->stack, &options, error);
    return root->fd >= 0;
}

static bool root_of_running(struct container *container, struct container_root *root, GError **error)
{
    g_autofree char *socket_path = container_socket(container);
    g_autoptr(json_t) request = json_pack("{s:s}", "op", "root");
    int fds[1];
    size_t n_fds = 1;
    if (!shim_call(socket_path, request, NULL, 0, NULL, fds, &n_fds, error))
        return false;
    if (n_fds != 1)
        return error_set(error, TARE_ERROR_INTERNAL, "shim: no root was sent");
    root->fd = fds[0];
    return true;
}

bool container_root_open(struct container *container, bool live, struct container_root *ret, GError **error)
{
    struct container_root root = { .fd = -1 };
    if (live) {
        struct container_state state = container_get_state(container);
        if (state.status == CONTAINER_RUNNING || state.status == CONTAINER_PAUSED) {
            if (!root_of_running(container, &root, error))
                return false;
            *ret = root;
            return true;
        }
    }
    if (!layer_stack_acquire(container->manager->layers, (const char *const *)container->diff_ids, &root.stack, error))
        return false;
    if (live ? mount_writable(container, &root, error) : mount_read_only(container, &root, error)) {
        *ret = root;
        return true;
    }
    container_root_close(&root);
    return false;
}

void container_root_close(struct container_root *root)
{
    fd_clear(&root->fd);
    if (root->stack)
        layer_stack_release(root->stack);
    root->stack = NULL;
}
