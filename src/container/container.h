/* Containers: records, life, and everything that is done to one. Requests and answers are the Engine API's JSON objects; this
 * directory holds the logic, src/api only HTTP.
 *
 * Thread-safe; calls on one container are serialised where they must be, and a stuck container never blocks calls on others or
 * lists. Names in errors are what the user gave. "container" arguments are an id, a unique prefix of one, or a name (with or
 * without a leading "/"). */
#pragma once

#include "base/cancel.h"
#include "base/database.h"
#include "base/event.h"
#include "base/json.h"
#include "image/image.h"
#include "layer/layer.h"
#include "network/network.h"
#include "volume/volume.h"

struct container_manager;

/* Runtimes that a container may ask for; NULL-terminated. */
const char *const *container_runtime_names(void);
bool container_has_apparmor(void);
/* Enabled, and there. */
bool container_has_selinux(const struct container_manager *manager);
/* The SELinux context of images' files, which all containers may read; NULL where the host runs without. g_free. */
char *container_layer_label(void);

struct container_manager_options {
    struct database *database;
    struct layer_store *layers;
    struct image_store *images;
    struct network_manager *networks; /* NULL: only none and host */
    struct volume_manager *volumes;
    const struct event_sink *events;
    const char *data_root, *run_root;
    const char *shim_program, *init_program; /* NULL: found by spawn_find_helper */
    const char *cgroup_parent;               /* "tare" or derived from the data root: cgroup path prefix */
    const char *default_runtime;             /* NULL: built in */
    json_t *default_ulimits;                 /* or NULL */
    const char *default_shm_size;            /* or NULL: 64m */
    json_t *log_config;                      /* {"Type","Config"} of the engine, or NULL: json-file */
    bool verify_images;                      /* before each start */
    bool selinux;                            /* label containers, where the host runs SELinux */
    unsigned n_spares;                       /* shims kept in waiting, so that a start need not wait for one */
};

/* Opens the records and recovers: shims that live are taken over, ends that came meanwhile are recorded, leftovers removed,
 * restart policies of a booted host applied. */
bool container_manager_open(const struct container_manager_options *options, struct container_manager **ret, GError **error);
/* Containers run on. */
void container_manager_close(struct container_manager *manager);

/* ---- life ---- */
/* Is an image's config for this platform ("linux/arm64"; NULL: any)? NOT_FOUND, as docker words it. */
bool container_check_platform(const char *platform, const char *image_name, const json_t *image_config, GError **error);
/* body: POST /containers/create's. → {"Id", "Warnings"}. name may be NULL. Image missing: NOT_FOUND 'No such image: X'. */
bool container_create(struct container_manager *manager, const char *name, const char *platform, const json_t *body,
                      unsigned api_version, json_t **ret, GError **error);
/* The same for a builder's step: its upper directory is never synced to disk. */
bool container_create_step(struct container_manager *manager, const json_t *body, json_t **ret, GError **error);
/* "NAME=value" for such a container's process alone, before its start: kept in memory, in no record, inspect or image. */
bool container_set_secret_environment(struct container_manager *manager, const char *container, const char *const *env,
                                      GError **error);
/* NOT_MODIFIED when it runs already. */
bool container_start(struct container_manager *manager, const char *container, const char *detach_keys, GError **error);
bool container_stop(struct container_manager *manager, const char *container, const char *signal, int timeout_s /* -1: default */,
                    struct cancel *cancel, GError **error);
bool container_restart(struct container_manager *manager, const char *container, const char *signal, int timeout_s,
                       struct cancel *cancel, GError **error);
bool container_kill(struct container_manager *manager, const char *container, const char *signal, GError **error);
bool container_pause(struct container_manager *manager, const char *container, bool paused, GError **error);
bool container_rename(struct container_manager *manager, const char *container, const char *new_name, GError **error);
bool container_update(struct container_manager *manager, const char *container, const json_t *body, json_t **ret, GError **error);
bool container_resize(struct container_manager *manager, const char *container, unsigned rows, unsigned cols, GError **error);
bool container_remove(struct container_manager *manager, const char *container, bool force, bool volumes, bool link,
                      GError **error);
/* condition: "not-running" (or NULL, ""), "next-exit", "removed". A handle, so that the HTTP header can go out before the wait. →
 * {"StatusCode", "Error"} */
struct container_waiter;
bool container_wait_begin(struct container_manager *manager, const char *container, const char *condition,
                          struct container_waiter **ret, GError **error);
bool container_wait_finish(struct container_waiter *waiter, struct cancel *cancel, json_t **ret,
                           GError **error); /* frees the waiter */

/* ---- looking ---- */
/* filters: the API's decoded filters object {"status": {"running": true}} or {"status": ["running"]}. */
bool container_list(struct container_manager *manager, bool all, int limit, bool size, const json_t *filters,
                    unsigned api_version, json_t **ret, GError **error);
bool container_inspect(struct container_manager *manager, const char *container, bool size, unsigned api_version, json_t **ret,
                       GError **error);
bool container_top(struct container_manager *manager, const char *container, const char *ps_args, json_t **ret, GError **error);
bool container_stats(struct container_manager *manager, const char *container, json_t **ret, GError **error);
bool container_changes(struct container_manager *manager, const char *container, json_t **ret, GError **error); /* docker diff */

/* ---- streams ---- */
bool container_has_terminal(struct container_manager *manager, const char *container, bool *ret, GError **error);
struct container_attach_options {
    bool use_stdin, use_stdout, use_stderr, stream, logs;
    bool multiplex; /* false for a terminal, or where the client asked for raw */
    const char *detach_keys;
    /* Called when the client stands in the list of those that are served, and before any output can flow: the place to answer it.
     * A client that is told earlier may start the container, and miss what it says first. False ends the attach. May be NULL. */
    bool (*begin)(void *user, GError **error);
    void *begin_user;
};
/* Hands the client's connection over (the fd is dup'ed; the shim then serves it). done_fd, when not NULL, gets an fd that turns
 * readable (end of file) when the session ends: the caller's. */
bool container_attach(struct container_manager *manager, const char *container, const struct container_attach_options *options,
                      int connection, int *done_fd, GError **error);
struct container_logs_options {
    bool use_stdout, use_stderr, follow, timestamps, multiplex, details;
    gint64 since_ns, until_ns; /* 0: none */
    gint64 tail;               /* -1: all */
};
bool container_logs(struct container_manager *manager, const char *container, const struct container_logs_options *options,
                    struct byte_sink *sink, struct cancel *cancel, GError **error);

/* ---- exec ---- */
bool container_exec_create(struct container_manager *manager, const char *container, const json_t *body, json_t **ret,
                           GError **error); /* → {"Id"} */
/* body: {"Detach","Tty","ConsoleSize"}; connection -1 when detached. *ret_multiplex tells the caller which content type to
 * announce; call container_exec_prepare first. */
bool container_exec_prepare(struct container_manager *manager, const char *exec_id, const json_t *body, bool *ret_terminal,
                            GError **error);
bool container_exec_start(struct container_manager *manager, const char *exec_id, const json_t *body, int connection,
                          int *done_fd, GError **error);
bool container_exec_resize(struct container_manager *manager, const char *exec_id, unsigned rows, unsigned cols, GError **error);
bool container_exec_inspect(struct container_manager *manager, const char *exec_id, json_t **ret, GError **error);

/* ---- content ---- */
bool container_export(struct container_manager *manager, const char *container, struct byte_sink *sink, struct cancel *cancel,
                      GError **error);
/* Seals the upper directory and registers an image. reference may be NULL. changes: Dockerfile instructions already applied to
 * config by the caller. */
struct container_commit_options {
    const char *reference, *comment, *author;
    const json_t *config;     /* the API's Config for the new image, or NULL: the container's merged with the image's */
    const char *parent;       /* image id, NULL: the container's image */
    const char *created_by;   /* history text; NULL: the container's command */
    gint64 clamp_mtime;       /* -1: none */
    const char *const *stubs; /* paths, deepest first, made for mounts alone: they go where they are empty; or NULL */
    gint64 created_ns;        /* of the document, which then names no container; 0: now */
    bool pause;
    bool intermediate; /* of a build's step: see struct image_new_options */
};
bool container_commit(struct container_manager *manager, const char *container, const struct container_commit_options *options,
                      struct image **ret, GError **error);
/* cp: archives through an fd inside the root. */
bool container_archive_stat(struct container_manager *manager, const char *container, const char *path, json_t **ret,
                            GError **error);
bool container_archive_get(struct container_manager *manager, const char *container, const char *path, struct byte_sink *sink,
                           GError **error);
bool container_archive_put(struct container_manager *manager, const char *container, const char *path, struct byte_source *source,
                           bool no_overwrite_dir_non_dir, bool copy_uid_gid, GError **error);

/* ---- housekeeping ---- */
bool container_prune(struct container_manager *manager, const json_t *filters, json_t **ret, GError **error);
/* For image removal: how the containers use an image id; the callback of image_store_set_user_check. */
void container_manager_counts(struct container_manager *manager, int *ret_running, int *ret_paused, int *ret_stopped);
