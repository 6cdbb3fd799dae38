/* docker commit: the upper directory is sealed into a layer, and an image made of the container's layers and that one. */
#include "container/container-internal.h"

#include "base/identifier.h"
#include "base/root_path.h"
#include "image/reference.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Facts of the container's layers, and room for one more. g_free. */
static struct layer_info *own_layers(struct container *container, size_t *ret_n, GError **error)
{
    size_t n = g_strv_length(container->diff_ids);
    struct layer_info *layers = g_new0(struct layer_info, n + 1);
    for (size_t i = 0; i < n; i++)
        if (!layer_store_info(container->manager->layers, container->diff_ids[i], &layers[i], error)) {
            g_free(layers);
            return NULL;
        }
    *ret_n = n;
    return layers;
}

/* A mount point that was made for a step is none of its work. By fd, inside the layer, and only what is empty. */
static void remove_stubs(int upper, const char *const *stubs)
{
    for (; stubs && *stubs; stubs++) {
        const char *name;
        struct stat st;
        g_autofd int parent = root_open_parent(upper, *stubs, &name);
        if (parent < 0 || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISDIR(st.st_mode))
            unlinkat(parent, name, AT_REMOVEDIR);
        else if (S_ISREG(st.st_mode) && st.st_size == 0)
            unlinkat(parent, name, 0);
    }
}

static bool seal(struct container *container, const struct container_commit_options *options, const char *holder,
                 struct layer_info *ret, GError **error)
{
    g_autofree char *name = g_strdup_printf("%s/upper", container->id);
    struct image_layer_claim claim;
    image_layer_claim_init(&claim, container->manager->images, holder);
    const struct layer_seal_options seal_options = { .clamp_mtime = options->clamp_mtime, .claim = &claim.claim };
    g_autofd int upper = openat(container->manager->containers_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (upper < 0 && errno == ENOENT) { /* never started: nothing changed, which is a layer all the same */
        struct layer_stack *stack;
        if (!layer_stack_acquire(container->manager->layers, (const char *const *)container->diff_ids, &stack, error))
            return false;
        bool made = container_make_directories(container, stack, error);
        layer_stack_release(stack);
        if (!made)
            return false;
        upper = openat(container->manager->containers_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (upper < 0)
        return error_set_errno(error, errno, "open the layer of container %s", container->id);
    remove_stubs(upper, options->stubs);
    return layer_store_seal(container->manager->layers, upper, &seal_options, ret, error);
}

static bool seal_paused(struct container *container, const struct container_commit_options *options, const char *holder,
                        struct layer_info *ret, GError **error)
{
    struct container_state state = container_get_state(container);
    bool pause =
        options->pause && state.status == CONTAINER_RUNNING && container_pause(container->manager, container->id, true, NULL);
    bool ok = seal(container, options, holder, ret, error);
    if (pause)
        container_pause(container->manager, container->id, false, NULL);
    return ok;
}

/* ---- the new image's document ---- */

static char *command_text(const json_t *config)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    const char *const keys[] = { "Entrypoint", "Cmd" };
    for (size_t k = 0; k < G_N_ELEMENTS(keys); k++) {
        size_t i;
        json_t *value;
        json_array_foreach(json_get_array(config, keys[k]), i, value) g_ptr_array_add(words, (char *)json_string_value(value));
    }
    g_ptr_array_add(words, NULL);
    return g_strjoinv(" ", (char **)words->pdata);
}

/* A tar without entries. Who changes nothing adds no layer, only a line of history. */
#define EMPTY_TAR_DIFF_ID "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

static json_t *history_entry(struct container *container, const struct container_commit_options *options, const char *created,
                             bool is_empty)
{
    g_autofree char *command = options->created_by ? g_strdup(options->created_by) : command_text(container->config);
    json_t *entry = json_pack("{s:s, s:o}", "created", created, "created_by", json_string_lossy(command));
    if (options->author && *options->author)
        json_object_set_new(entry, "author", json_string_lossy(options->author));
    if (options->comment && *options->comment)
        json_object_set_new(entry, "comment", json_string_lossy(options->comment));
    if (is_empty)
        json_object_set_new(entry, "empty_layer", json_true());
    return entry;
}

/* The container's config without what is of this container alone. */
static json_t *image_config(struct container *container)
{
    json_t *config = json_deep_copy(container->config);
    const char *const own[] = { "Hostname", "Domainname" };
    for (size_t i = 0; i < G_N_ELEMENTS(own); i++)
        json_object_set_new(config, own[i], json_string(""));
    return config;
}

static json_t *document(struct container *container, const struct container_commit_options *options, const struct image *base,
                        bool is_empty)
{
    char created[TIMESTAMP_ROOM];
    timestamp_format(options->created_ns ? options->created_ns : timestamp_now(), created);
    json_t *old_history = base ? json_get_array(base->config, "history") : NULL;
    json_t *history = old_history ? json_copy(old_history) : json_array();
    json_array_append_new(history, history_entry(container, options, created, is_empty));
    json_t *config = options->config ? json_deep_copy(options->config) : image_config(container);
    json_t *result = json_object();
    json_object_set_new(result, "architecture",
                        json_string(json_get_string(base ? base->config : NULL, "architecture", "amd64")));
    if (options->author && *options->author)
        json_object_set_new(result, "author", json_string_lossy(options->author));
    if (options->comment && *options->comment)
        json_object_set_new(result, "comment", json_string_lossy(options->comment));
    json_object_set_new(result, "config", config);
    if (!options->created_ns)
        json_object_set_new(result, "container", json_string(container->id));
    json_object_set_new(result, "container_config",
                        options->created_ns ? image_config(container) : json_deep_copy(container->config));
    json_object_set_new(result, "created", json_string(created));
    json_object_set_new(result, "docker_version", json_string(TARE_VERSION));
    json_object_set_new(result, "history", history);
    json_object_set_new(result, "os", json_string(json_get_string(base ? base->config : NULL, "os", "linux")));
    if (base && json_object_get(base->config, "variant"))
        json_object_set(result, "variant", json_object_get(base->config, "variant"));
    return result;
}

static bool refuse_going(struct container *container, GError **error)
{
    struct container_state state = container_get_state(container);
    if (state.status == CONTAINER_DEAD)
        return error_set(error, TARE_ERROR_CONFLICT, "You cannot commit container %s which is Dead", container->id);
    if (state.status == CONTAINER_REMOVING)
        return error_set(error, TARE_ERROR_CONFLICT, "You cannot commit container %s which is being removed", container->id);
    return true;
}

static bool add_image(struct container *container, const struct container_commit_options *options,
                      const struct layer_info *layers, size_t n_layers, struct image **ret, GError **error)
{
    struct image_store *images = container->manager->images;
    g_autoimage struct image *base = NULL;
    const char *parent = options->parent ? options->parent : *container->image_id ? container->image_id : NULL;
    if (parent && !image_store_get(images, parent, &base, NULL))
        parent = NULL; /* it has been removed meanwhile: its history is lost, its layers are not */
    bool is_empty = g_str_equal(layers[n_layers - 1].diff_id, EMPTY_TAR_DIFF_ID);
    g_autoptr(json_t) config = document(container, options, base, is_empty);
    const char *const references[] = { options->reference, NULL };
    const struct image_new_options image = {
        .config = config,
        .layers = layers,
        .n_layers = is_empty ? n_layers - 1 : n_layers,
        .parent = parent,
        .references = references,
        .intermediate = options->intermediate,
        .created_ns = options->created_ns ? timestamp_now() : 0,
    };
    return image_store_add(images, &image, ret, error);
}

bool container_commit(struct container_manager *manager, const char *name, const struct container_commit_options *options,
                      struct image **ret, GError **error)
{
    autocontainer container = container_find(manager, name, error);
    if (!container || !refuse_going(container, error))
        return false;
    /* The container and its image may be removed meanwhile: until the new image is registered all of its layers are held. */
    char random[IDENTIFIER_LENGTH + 1];
    identifier_new(random);
    g_autofree char *holder = g_strconcat("commit/", random, NULL);
    size_t n = 0;
    g_autofree struct layer_info *layers = NULL;
    bool ok = image_store_hold_layers(manager->images, holder, (const char *const *)container->diff_ids, error) &&
              (layers = own_layers(container, &n, error)) && seal_paused(container, options, holder, &layers[n], error) &&
              add_image(container, options, layers, n + 1, ret, error);
    image_store_release_layers(manager->images, holder, NULL);
    if (!ok)
        return false;
    g_autofree char *reference = reference_familiar_text(options->reference ? options->reference : "");
    container_emit(container, "commit", "comment", options->comment ? options->comment : "", "imageID", (*ret)->id, "imageRef",
                   reference, NULL);
    return true;
}
