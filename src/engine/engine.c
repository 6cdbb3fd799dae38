/* Opening and closing of everything an engine has, in order. */
#include "engine/engine.h"
#include "engine/download.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/root_path.h"
#include "base/timestamp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define CGROUP_ROOT "/sys/fs/cgroup"
enum { NETWORK_POOL = 4, SPARE_SHIMS = 3 };

/* Two engines on one root would destroy each other's state; the lock lives as long as the fd, so that nothing stale remains after
 * a crash. */
static bool lock_data_root(struct engine *engine, GError **error)
{
    g_autofree char *path = g_build_filename(engine->options->data_root, "tared.lock", NULL);
    engine->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (engine->lock_fd < 0)
        return error_set_errno(error, errno, "open %s", path);
    /* A child of an engine that was killed between its fork and its exec holds the lock for a moment longer. */
    int r;
    for (int tries = 0; (r = flock(engine->lock_fd, LOCK_EX | LOCK_NB)) < 0 && errno == EWOULDBLOCK && tries < 100; tries++)
        g_usleep(10000);
    if (r < 0)
        return errno == EWOULDBLOCK ? error_set(error, TARE_ERROR_CONFLICT, "another tared uses %s", engine->options->data_root)
                                    : error_set_errno(error, errno, "lock %s", path);
    return true;
}

static bool make_roots(const struct engine_options *options, GError **error)
{
    g_autofd int data = dir_make_path(options->data_root, 0700, error);
    if (data < 0)
        return false;
    /* Others may pass through the run root to reach the socket, whose own mode decides; they cannot list it. */
    g_autofd int run = dir_make_path(options->run_root, 0711, error);
    return run >= 0;
}

/* Names outside the file system are shared by all engines of the machine: those of another data root carry its mark. */
static void derive_names(struct engine *engine)
{
    const struct engine_options *options = engine->options;
    g_autofree char *real = realpath(options->data_root, NULL);
    const char *root = real ? real : options->data_root;
    if (strcmp(root, ENGINE_DEFAULT_DATA_ROOT) == 0) {
        engine->bridge = g_strdup("tare0");
        engine->table = g_strdup("tare");
        engine->cgroup_parent = g_strdup("tare");
    } else {
        g_autofree char *digest = g_compute_checksum_for_string(G_CHECKSUM_SHA256, root, -1);
        engine->bridge = g_strdup_printf("tare-%.8s", digest);
        engine->table = g_strdup_printf("tare_%.8s", digest);
        engine->cgroup_parent = g_strdup_printf("tare-%.8s", digest);
    }
    if (options->bridge) {
        g_free(engine->bridge);
        engine->bridge = g_strdup(options->bridge);
    }
    if (options->cgroup_parent) {
        g_free(engine->cgroup_parent);
        engine->cgroup_parent = g_strdup(options->cgroup_parent);
    }
}

/* What an engine that is closed in order leaves in the database, so that the next one need not look for leftovers among thousands
 * of files, nor try again how layers are mounted. It counts until the machine goes down: what was written before that may be
 * lost, and the next kernel may be another. */
static char *whole_mark(const struct engine *engine)
{
    g_autofree char *boot = NULL;
    size_t length;
    if (!file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &boot, &length, NULL))
        return NULL;
    return g_strdup_printf("%s %s " TARE_VERSION, g_strchomp(boot), engine->options->storage_backend);
}

/* The mark goes at once: an engine that is killed leaves none. */
static bool take_whole_mark(struct engine *engine, GError **error)
{
    g_autofree char *mark = whole_mark(engine), *left = NULL;
    if (!database_get_string(engine->database, &left, error, "SELECT value FROM engine WHERE name = 'whole'", NULL))
        return false;
    engine->is_left_whole = mark && g_strcmp0(left, mark) == 0;
    return !left || database_run(engine->database, error, "DELETE FROM engine WHERE name = 'whole'", NULL);
}

static void leave_whole_mark(struct engine *engine)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *mark = whole_mark(engine);
    if (mark && !database_run(engine->database, &error, "REPLACE INTO engine (name, value) VALUES ('whole', ?)", "s", mark))
        log_error(error, "mark of an orderly end", NULL);
}

static bool open_database(struct engine *engine, GError **error)
{
    static const char *const steps[] = {
        "CREATE TABLE engine (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    };
    g_autofree char *path = g_build_filename(engine->options->data_root, "tare.db", NULL);
    g_autofree char *fresh = g_uuid_string_random();
    if (!database_open(path, &engine->database, error) ||
        !database_migrate(engine->database, "engine", steps, G_N_ELEMENTS(steps), error) || !take_whole_mark(engine, error))
        return false;
    return database_get_string(engine->database, &engine->id, error, "SELECT value FROM engine WHERE name = 'id'", NULL) &&
           (engine->id ||
            (database_run(engine->database, error, "INSERT INTO engine (name, value) VALUES ('id', ?)", "s", fresh) &&
             (engine->id = g_steal_pointer(&fresh))));
}

static enum layer_mount_mode mount_mode(const char *backend)
{
    static const struct {
        const char *name;
        enum layer_mount_mode mode;
    } modes[] = { { "auto", LAYER_MOUNT_AUTO },
                  { "detached", LAYER_MOUNT_DETACHED },
                  { "attached", LAYER_MOUNT_ATTACHED },
                  { "loop", LAYER_MOUNT_LOOP },
                  { "unpacked", LAYER_MOUNT_UNPACKED } };
    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++)
        if (strcmp(modes[i].name, backend) == 0)
            return modes[i].mode;
    return LAYER_MOUNT_AUTO;
}

/* Remembered for a start on a full disk, where no mode can be tried. */
static bool open_layers(struct engine *engine, GError **error)
{
    gint64 known = LAYER_MOUNT_AUTO, most = 0;
    if (engine->options->max_layer_size)
        parse_ram_bytes(engine->options->max_layer_size, &most);
    if (!database_get_int(engine->database, known, &known, error, "SELECT value FROM engine WHERE name = 'mount-mode'", NULL))
        return false;
    g_autofree char *label = engine->options->selinux ? container_layer_label() : NULL;
    const struct layer_store_options options = { .ingest_program = engine->options->ingest_path,
                                                 .mode = mount_mode(engine->options->storage_backend),
                                                 .known_mode = (enum layer_mount_mode)known,
                                                 .is_left_whole = engine->is_left_whole,
                                                 .max_layer_bytes = (guint64)most,
                                                 .stall_seconds = engine->options->ingest_timeout,
                                                 .label = label };
    if (!layer_store_open(engine->options->data_root, &options, &engine->layers, error))
        return false;
    enum layer_mount_mode mode = layer_store_mode(engine->layers);
    g_autofree char *text = g_strdup_printf("%d", (int)mode);
    return (gint64)mode == known || options.mode != LAYER_MOUNT_AUTO ||
           database_run(engine->database, error, "REPLACE INTO engine (name, value) VALUES ('mount-mode', ?)", "s", text);
}

static bool open_stores(struct engine *engine, GError **error)
{
    return open_layers(engine, error) &&
           image_store_open(engine->database, engine->layers, &engine->sink, &engine->images, error) &&
           volume_manager_open(engine->database, engine->options->data_root, &engine->sink, &engine->volumes, error);
}

/* Loading the rules takes the kernel longer than all the rest of a start, so it goes on beside the stores: it needs none of them.
 */
struct network_start {
    GThread *thread;
    struct engine *engine;
    struct network_manager *networks;
    bool ok;
    GError *error;
};

static gpointer network_thread(gpointer data)
{
    struct network_start *start = data;
    struct engine *engine = start->engine;
    const struct engine_options *options = engine->options;
    g_autofree char *run_dir = g_build_filename(options->run_root, "network", NULL);
    const struct network_options network = {
        .bridge = engine->bridge,
        .table = engine->table,
        .subnet = options->bip,
        .run_dir = run_dir,
        .dns = (const char *const *)options->dns,
        .pool_size = NETWORK_POOL,
    };
    start->ok = network_open(&network, &start->networks, &start->error);
    return NULL;
}

static bool begin_networks(struct engine *engine, GError **error)
{
    /* "none" is dockerd's way to have no bridge at all. */
    if (g_strcmp0(engine->options->bridge, "none") == 0)
        return true;
    engine->network_start = g_new0(struct network_start, 1);
    engine->network_start->engine = engine;
    engine->network_start->thread = g_thread_new("networks", network_thread, engine->network_start);
    return true;
}

static bool finish_networks(struct engine *engine, GError **error)
{
    g_autofree struct network_start *start = g_steal_pointer(&engine->network_start);
    if (!start)
        return true;
    g_thread_join(start->thread);
    engine->networks = start->networks;
    if (!start->ok)
        g_propagate_error(error, start->error);
    return start->ok;
}

static json_t *limits_object(char **limits)
{
    if (!limits)
        return NULL;
    json_t *object = json_object();
    for (; *limits; limits++) {
        struct engine_limit limit;
        if (!engine_limit_parse(*limits, &limit, NULL)) /* engine_options_load has checked them */
            continue;
        json_object_set_new(
            object, limit.name,
            json_pack("{s:s, s:I, s:I}", "Name", limit.name, "Soft", (json_int_t)limit.soft, "Hard", (json_int_t)limit.hard));
        g_free(limit.name);
    }
    return object;
}

static json_t *log_object(const struct engine_options *options)
{
    json_t *config = json_object();
    for (char **pair = options->log_options; pair && *pair; pair++) {
        g_auto(GStrv) parts = g_strsplit(*pair, "=", 2);
        json_object_set_new(config, parts[0], json_string_lossy(parts[1]));
    }
    return json_pack("{s:s, s:o}", "Type", options->log_driver, "Config", config);
}

/* While containers run on, their network and cgroups stay; with none, nothing of ours should. */
static bool is_idle(const struct engine *engine)
{
    int running = 0, paused = 0, stopped = 0;
    if (!engine->containers)
        return false; /* the start failed before it was known */
    container_manager_counts(engine->containers, &running, &paused, &stopped);
    return running + paused == 0;
}

static bool open_containers(struct engine *engine, GError **error)
{
    const struct engine_options *options = engine->options;
    g_autoptr(json_t) limits = limits_object(options->default_ulimits), log = log_object(options);
    const struct container_manager_options containers = {
        .database = engine->database,
        .layers = engine->layers,
        .images = engine->images,
        .networks = engine->networks,
        .volumes = engine->volumes,
        .events = &engine->sink,
        .data_root = options->data_root,
        .run_root = options->run_root,
        .shim_program = options->shim_path,
        .init_program = options->init_path,
        .cgroup_parent = engine->cgroup_parent,
        .default_runtime = options->default_runtime,
        .default_ulimits = limits,
        .default_shm_size = options->default_shm_size,
        .log_config = log,
        .verify_images = engine->options->verify_images,
        .selinux = options->selinux,
        .n_spares = SPARE_SHIMS,
    };
    if (!container_manager_open(&containers, &engine->containers, error))
        return false;
    if (is_idle(engine))
        layer_store_sweep_unpacked(engine->layers);
    return true;
}

static bool open_registry(struct engine *engine, GError **error)
{
    const struct engine_options *options = engine->options;
    const struct registry_options registry = {
        .database = engine->database,
        .layers = engine->layers,
        .images = engine->images,
        .events = &engine->sink,
        .data_root = options->data_root,
        .mirrors = (const char *const *)options->registry_mirrors,
        .insecure = (const char *const *)options->insecure_registries,
        .config_paths = (const char *const *)options->registry_config_paths,
        .max_downloads = (unsigned)options->max_concurrent_downloads,
        .max_uploads = (unsigned)options->max_concurrent_uploads,
        .max_attempts = (unsigned)options->max_download_attempts,
        .stall_timeout_s = (unsigned)options->registry_timeout,
    };
    return registry_open(&registry, &engine->registry, error);
}

static bool take_pull_message(void *user, const json_t *message, GError **error)
{
    const struct build_output *output = user;
    return output->message(output->user, message);
}

/* A build's FROM. */
static bool pull_base(void *user, const char *name, const char *platform, const struct build_request *request,
                      const struct build_output *output, struct cancel *cancel, GError **error)
{
    struct engine *engine = user;
    struct reference reference = { 0 };
    struct registry_auth auth;
    if (!reference_parse(name, &reference, error))
        return false;
    registry_auth_find(request->registry_auths, reference.domain, &auth);
    reference_clear(&reference);
    const struct registry_pull_options options = {
        .reference = name,
        .platform = platform,
        .auth = &auth,
        .cancel = cancel,
        .message = take_pull_message,
        .user = (void *)output,
    };
    bool ok = registry_pull(engine->registry, &options, error);
    registry_auth_clear(&auth);
    return ok;
}

static bool download_for_build(void *user, const char *url, struct byte_sink *sink, gint64 *ret_modified, struct cancel *cancel,
                               GError **error)
{
    struct download *download = NULL;
    if (!download_open(url, NULL, NULL, cancel, &download, error))
        return false;
    bool ok = stream_copy(download_source(download), sink, NULL, error);
    *ret_modified = download_modified(download);
    download_free(download);
    return ok;
}

static bool open_builder(struct engine *engine, GError **error)
{
    g_autofree char *directory = g_build_filename(engine->options->data_root, "build", NULL);
    const struct builder_options options = { .database = engine->database,
                                             .layers = engine->layers,
                                             .images = engine->images,
                                             .containers = engine->containers,
                                             .pull = pull_base,
                                             .pull_user = engine,
                                             .directory = directory,
                                             .download = download_for_build };
    return builder_open(&options, &engine->builder, error);
}

/* The start-up order: each step may use what the steps before it opened; engine_close goes the other way. */
static const struct phase {
    const char *name;
    bool (*open)(struct engine *engine, GError **error);
} phases[] = {
    { "lock", lock_data_root },
    { "networks", begin_networks },
    { "database", open_database },
    { "stores", open_stores },
    { "networks are there", finish_networks },
    { "containers", open_containers },
    { "registry", open_registry },
    { "builder", open_builder },
};

bool engine_open(const struct engine_options *options, struct engine **ret, GError **error)
{
    root_path_force_walk = options->no_openat2;
    if (!make_roots(options, error))
        return false;
    struct engine *engine = g_new0(struct engine, 1);
    engine->options = options;
    engine->lock_fd = -1;
    engine->started_ns = timestamp_now();
    engine->events = event_bus_new();
    engine->sink = event_bus_sink(engine->events);
    derive_names(engine);
    for (size_t i = 0; i < G_N_ELEMENTS(phases); i++) {
        gint64 begun = g_get_monotonic_time();
        if (!phases[i].open(engine, error)) {
            engine_close(engine);
            return false;
        }
        g_autofree char *took = g_strdup_printf("%" G_GINT64_FORMAT "us", g_get_monotonic_time() - begun);
        log_line(LOG_LEVEL_DEBUG, "opened", "part", phases[i].name, "took", took, NULL);
    }
    engine->is_open = true;
    *ret = engine;
    return true;
}

/* The parent of all containers' cgroups, in each hierarchy; one that is not empty stays by itself. One that the user named is the
 * user's. */
static void remove_cgroup_parent(const struct engine *engine)
{
    if (engine->options->cgroup_parent || !engine->cgroup_parent)
        return;
    g_autofree char *unified = g_build_filename(CGROUP_ROOT, engine->cgroup_parent, NULL);
    rmdir(unified);
    GDir *hierarchies = g_dir_open(CGROUP_ROOT, 0, NULL);
    const char *name;
    while (hierarchies && (name = g_dir_read_name(hierarchies))) {
        g_autofree char *path = g_build_filename(CGROUP_ROOT, name, engine->cgroup_parent, NULL);
        rmdir(path);
    }
    if (hierarchies)
        g_dir_close(hierarchies);
}

void engine_close(struct engine *engine)
{
    if (!engine)
        return;
    finish_networks(engine, NULL); /* where the start failed before it was awaited */
    bool idle = is_idle(engine);
    builder_close(engine->builder);
    registry_close(engine->registry);
    container_manager_close(engine->containers);
    if (engine->networks)
        network_close(engine->networks, idle);
    if (idle)
        remove_cgroup_parent(engine);
    volume_manager_close(engine->volumes);
    image_store_close(engine->images);
    layer_store_close(engine->layers);
    if (engine->is_open)
        leave_whole_mark(engine);
    database_close(engine->database);
    fd_close(engine->lock_fd);
    event_bus_free(engine->events);
    g_free(engine->bridge);
    g_free(engine->table);
    g_free(engine->cgroup_parent);
    g_free(engine->id);
    g_free(engine);
}
