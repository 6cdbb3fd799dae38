/* The container manager's inside. Lock order: a container's operation lock, then the manager's table lock, then a container's
 * lock.
 *
 * operation   serialises what changes a container's life (start, the handling of its end, removal, rename, update); may be held
 * for long lock        protects the fields below it; never held across anything that blocks, so that lists and inspect never wait
 * for a stuck container table lock  protects by_id and by_name; the same rule */
#pragma once

#include "container/container.h"

#include "base/digest.h"
#include "base/fd.h"
#include "base/identifier.h"
#include "base/timestamp.h"

#include <sys/types.h>

#define CONTAINER_BODY_STRINGS_MAX 65536 /* elements of one list in a request */
#define CONTAINER_LOG_LINE_MAX (1u << 20)

enum container_status {
    CONTAINER_CREATED,
    CONTAINER_RUNNING,
    CONTAINER_PAUSED,
    CONTAINER_RESTARTING,
    CONTAINER_EXITED,
    CONTAINER_REMOVING,
    CONTAINER_DEAD
};
const char *container_status_name(enum container_status status);

struct container_state {
    enum container_status status;
    pid_t pid;
    int exit_code;
    gint64 started_at, finished_at;
    bool oom_killed;
    int restart_count;
    bool stopped_by_user; /* docker stop, kill: unless-stopped does not start it again at boot */
    bool has_been_started;
};

/* A client that attached before the container was started. */
struct pending_attach {
    int connection, done;
    bool use_stdin, use_stdout, use_stderr, stream, logs, multiplex;
    char *detach_keys;
};
void pending_attach_free(struct pending_attach *attach);

/* A record's documents as they lie in the database: at a start with many containers most are never looked at. */
struct packed_documents {
    char *config, *host_config, *networking, *mounts;
};

struct container {
    gint references;
    struct packed_documents *packed; /* NULL: unpacked into the members below. Atomic; container_find and table_snapshot unpack */
    struct container_manager *manager;
    char id[IDENTIFIER_LENGTH + 1];
    gint64 created_ns;
    char *image_id;
    char **diff_ids;
    json_t *config;                    /* merged with the image's; immutable */
    json_t *networking;                /* the request's NetworkingConfig.EndpointsConfig; immutable */
    json_t *mounts;                    /* mount points as inspect shows them, plus our own members; immutable */
    bool is_volatile;                  /* its upper directory is never synced: --rm and build steps */
    char **secret_env;                 /* of a build's step: in no record, no inspect and no image; or NULL */
    char *process_label, *mount_label; /* SELinux contexts, immutable; NULL: none. See container_process_label */

    GMutex operation;

    GMutex lock;
    char *name; /* without "/" */
    json_t *host_config;
    struct container_state state;
    char *error;
    GPtrArray *waiters;  /* of struct container_waiter *, borrowed */
    GPtrArray *attaches; /* of struct pending_attach * */
    GHashTable *execs;   /* id → struct exec * (exec.c) */
    json_t *endpoint;    /* network_endpoint_to_json, or NULL */
    struct layer_stack *stack;
    pid_t shim_pid; /* our child; 0 when another tared started it */
    json_t *health; /* as inspect shows it, immutable; NULL: no probe, or not started yet */
    bool removed;
    bool restarting_by_user; /* docker restart: its end is no reason for an automatic removal */
};

struct container_manager {
    struct database *database;
    struct layer_store *layers;
    struct image_store *images;
    struct network_manager *networks;
    struct volume_manager *volumes;
    const struct event_sink *events;
    char *data_root, *run_root; /* without a trailing slash */
    char *containers_dir, *run_dir;
    char *shim_program, *init_program, *cgroup_parent, *default_runtime, *default_shm_size;
    json_t *default_ulimits, *log_config;
    int containers_fd, run_fd;
    int init_layer_fd; /* the directory of mount points that lies under every image */
    char *init_layer_path;
    int shim_fd; /* sealed memfd of the shim program */
    struct spares *spares;

    GMutex table_lock;
    GHashTable *by_id;   /* id → struct container * (a reference) */
    GHashTable *by_name; /* name → id */
    GHashTable *execs;   /* exec id → container id */

    GMutex seccomp_lock;
    GHashTable *seccomp; /* digest of the policy → fd + 1 of its compiled filter */

    bool cgroup_v2, verify_images;
    struct selinux *selinux; /* NULL: not enabled, or not there */
    bool host_has_selinux;
    json_t *network_ids; /* name → id */
    struct monitor *monitor;
    GThread *starter; /* applies restart policies after a boot */
    GThread *unpacker;
    GMutex unpack_lock;
    gint pruning;
};

/* ---- manager.c, recover.c ---- */
void container_image_users(void *user, const char *image_id, char **ret_running, char **ret_stopped);
bool containers_recover(struct container_manager *manager, GError **error);
/* Its restart policy starts it when the engine comes up, or when its shim, which else restarts it, has died. */
bool container_wants_start(struct container *container);

/* ---- records.c ---- */
bool records_migrate(struct database *database, GError **error);
bool record_insert(struct container *container, GError **error);
bool record_save_state(struct container *container, GError **error);
/* The same where nobody can be told of a failure: it is logged. */
void record_keep_state(struct container *container);
bool record_save_host_config(struct container *container, GError **error);
bool record_save_name(struct container_manager *manager, const char *id, const char *name, GError **error);
bool record_delete(struct container_manager *manager, const char *id, GError **error);
/* The same, and its exit code is kept for a while: record_departed, for a whole id. */
bool record_delete_departing(struct container_manager *manager, const char *id, int exit_code, GError **error);
bool record_departed(struct container_manager *manager, const char *id, int *ret_exit_code);
bool records_load(struct container_manager *manager, GError **error);

/* ---- spares.c: shims in waiting ---- */
void spares_open(struct container_manager *manager, unsigned size); /* size 0: none */
void spares_close(struct container_manager *manager);
/* Hands these fds (3, 4, 5, 6 … of a shim's start) to one: its pid, or -1 where there is none. */
pid_t spares_use(struct container_manager *manager, const char *id, const int *fds, size_t n_fds);

/* ---- table.c ---- */
struct container *container_new(struct container_manager *manager);
struct container *container_ref(struct container *container);
void container_unref(struct container *container);
static inline void container_clear(struct container **container)
{
    if (*container)
        container_unref(*container);
}
#define autocontainer _GLIB_CLEANUP(container_clear) struct container *
/* id, name or unique prefix → a new reference, or NULL and NOT_FOUND 'No such container: X'. */
struct container *container_find(struct container_manager *manager, const char *text, GError **error);
void table_add(struct container_manager *manager, struct container *container);
void table_remove(struct container_manager *manager, struct container *container);
/* Takes the name for the id, or CONFLICT with Docker's text. */
bool table_reserve_name(struct container_manager *manager, const char *name, const char *id, GError **error);
void table_release_name(struct container_manager *manager, const char *name, const char *id);
bool container_check_name(const char *name, GError **error);
/* All containers, newest first; an array of references. */
GPtrArray *table_snapshot(struct container_manager *manager);
GPtrArray *table_snapshot_packed(struct container_manager *manager); /* for those who look at no document */
/* Any thread. */
void container_unpack(struct container *container);
void packed_free(struct packed_documents *packed);

#define CONTAINER_HOLDER "container/"
bool container_hold_layers(struct container *container, GError **error);
void container_release_layers(struct container *container);

struct container_state container_get_state(struct container *container);
/* After a start that is under way: the container's output may be with its client before the start has been answered, and what the
 * client asks for then is meant for a running container. The caller does not hold the operation lock. */
struct container_state container_settled_state(struct container *container);
bool container_is_running(const struct container_state *state);
char *container_get_name(struct container *container);
json_t *container_get_host_config(struct container *container); /* a new reference */
void container_emit(struct container *container, const char *action, ...) G_GNUC_NULL_TERMINATED;
/* With what docker tells of its network and volumes. */
void container_emit_start(struct container *container);
void container_emit_die(struct container *container, int exit_code);

/* ---- request.c: the create body in canonical form ---- */
bool request_parse(const json_t *body, json_t **ret_config, json_t **ret_host_config, json_t **ret_networking, GError **error);
bool request_validate(const json_t *config, const json_t *host_config, bool update, json_t *warnings, GError **error);
void request_merge_image(json_t *config, const json_t *image_config);
/* Whether the container's runtime is one of container_runtime_names. */
bool runtime_check(const struct container_manager *manager, const json_t *host_config, GError **error);
bool signal_parse(const char *text, int *ret, GError **error);

/* ---- refuse.c ---- */
bool request_refuse(struct container_manager *manager, const json_t *config, const json_t *host_config, const json_t *networking,
                    unsigned api_version, json_t *warnings, GError **error);
/* The whole LogConfig, defaults included; warnings may be NULL. */
bool refuse_log_options(const json_t *log, json_t *warnings, GError **error);

/* ---- mounts.c ---- */
/* Binds, Mounts, Tmpfs, VolumesFrom and the config's Volumes → mount points; makes named and anonymous volumes and fills fresh
 * ones from the image. */
bool mounts_resolve(struct container *container, const json_t *config, const json_t *host_config, GError **error);
/* At each start: bind sources that -v makes, and the event. */
bool mounts_check(struct container *container, GError **error);
json_t *mounts_public(const json_t *mounts);
char *mounts_clean_path(const char *path);
/* The first step of mounts_resolve: parses and checks, makes nothing. */
bool mounts_collect(struct container_manager *manager, const json_t *config, const json_t *host_config, json_t *mounts,
                    GError **error);

/* ---- tree.c ---- */
/* Copies the content of one directory into another (owner, mode, times, xattrs, hard links, devices); what exists is merged with
 * directories and replaced else. */
struct tree_copy_options {
    bool no_overwrite_dir_non_dir;
    bool keep_target; /* leave the target directory's own attributes alone */
    bool set_owner;   /* all belongs to uid and gid */
    uid_t uid;
    gid_t gid;
};
bool tree_copy(int from, int to, const struct tree_copy_options *options, GError **error);
/* Writes dirfd/name and all below into a tar as prefix…; prefix "" for the content of a root. */
struct tar_writer;
bool tree_write_tar(int dirfd, const char *name, const char *prefix, struct tar_writer *writer, struct cancel *cancel,
                    GError **error);

/* ---- apparmor.c ---- */
/* The profile for a container's processes; NULL where the host has no AppArmor or no profile. Loads the default one at need. */
const char *apparmor_profile(const json_t *host_config);

/* ---- selinux.c ---- */
struct selinux;
/* NULL and a warning where the host runs without. */
struct selinux *selinux_open(void);
bool selinux_is_there(void);
void selinux_free(struct selinux *selinux);
/* Gives a new container its contexts, after its --security-opt label=. Nothing where SELinux is not enabled. */
bool selinux_take_labels(struct container *container, const json_t *host_config, GError **error);
/* A context's categories are in use, and not any more. */
void selinux_hold(struct selinux *selinux, const char *context);
void selinux_drop(struct selinux *selinux, const char *context);
/* What docker adds to SecurityOpt: nothing is confined that shares the host's processes (nor what is_open says), and who joins
 * another's namespaces has its label. The modes are pinned to ids. */
bool selinux_complete_options(struct container_manager *manager, json_t *host_config, bool is_open, GError **error);
/* "disable", "type:NAME" …, applied to both contexts. *process becomes NULL where it is not to be confined. Pure. */
bool selinux_apply_options(const char *const *options, char **process, char **file, GError **error);
/* The contexts that count now; NULL: none. */
const char *container_process_label(const struct container *container);
const char *container_mount_label(const struct container *container);
/* AppArmor's profile and SELinux's context in the OCI object of one more process. */
void container_label_process(const struct container *container, const json_t *host_config, json_t *process);
/* The same context for all containers alike. */
char *selinux_shared_label(const char *label);
/* ---- relabel.c ---- */
/* path and all below it get the label (NULL: nothing is done). */
bool selinux_relabel(const char *path, const char *label, bool is_shared, GError **error);

/* Where run_dir/<id> names the namespace of its network: a symbolic link. */
#define CONTAINER_SANDBOX_FILE "netns"

/* ---- spec.c ---- */
struct spec_device {
    char *host, *path;
    char type;
    unsigned major, minor;
    unsigned mode, uid, gid;
};
struct spec_input {
    const char *id, *name;
    const json_t *config, *host_config, *mounts;
    const char *hosts_path, *hostname_path, *resolv_path; /* or NULL: not mounted */
    const char *cgroup_parent;
    const char *shm_path;     /* bind mount for /dev/shm (ipc of another container or the host's), or NULL */
    const char *network_path; /* namespace to join, "" for the host's, NULL for one of its own (or handed over as an fd) */
    const char *ipc_path, *pid_path, *uts_path;
    const json_t *default_ulimits;
    const char *apparmor_profile;            /* loaded by the host, or NULL */
    const char *process_label, *mount_label; /* SELinux contexts, or NULL */
    bool cgroup_v2;                          /* then the cgroup namespace is private by default */
    const struct spec_device *devices;
    size_t n_devices;
};
char *spec_cgroup_path(const char *id, const json_t *host_config, const char *default_parent);
bool spec_build(const struct spec_input *input, json_t **ret, GError **error);
/* The process object of an exec. */
bool spec_exec_process(const json_t *config, const json_t *host_config, const json_t *exec, const char *hostname, json_t **ret,
                       GError **error);
/* The seccomp policy as OCI object; *ret NULL where unconfined. */
bool spec_seccomp(const json_t *host_config, json_t **ret, GError **error);
bool spec_capabilities(const json_t *host_config, char ***ret, GError **error);
/* HostConfig's resources as linux.resources (create and update). */
json_t *spec_resources(const json_t *host_config);
/* Parts of spec_build: linux.devices and their rules; process.rlimits; mounts, and the propagation that they need of the root (or
 * NULL). */
bool spec_add_devices(const struct spec_input *input, json_t *linux_part, json_t *resources, GError **error);
json_t *spec_rlimits(const json_t *host_config, const json_t *defaults);
json_t *spec_mounts(const struct spec_input *input, const char **ret_propagation);
bool spec_parse_port(const char *text, guint16 *ret_port, const char **ret_protocol, GError **error);

/* ---- files.c ---- */
char *spec_hostname(const char *id, const json_t *config);
char *container_state_dir(const struct container *container);
char *container_run_dir(const struct container *container);
char *container_socket(const struct container *container);
char *container_log_path(const struct container *container);
bool container_make_directories(struct container *container, struct layer_stack *stack, GError **error);
bool init_layer_open(struct container_manager *manager, GError **error);
bool files_write(struct container *container, const struct network_endpoint *endpoint, GError **error);
/* The mount label for those files; is_shared: for those of another container, whose network is joined. */
bool files_label(struct container *container, struct container *files_of, GError **error);
bool files_mount_shm(struct container *container, gint64 size, GError **error);
void files_remove_run(struct container *container);

/* ---- devices.c, seccomp.c ---- */
GArray *devices_new(void); /* of struct spec_device */
/* The devices that --device-read-bps and the like name are there. */
bool devices_check_limits(const json_t *host_config, GError **error);
bool devices_collect(const json_t *host_config, GArray *devices, GError **error);
/* A new fd of the compiled filter; -1 where there is to be none. */
bool seccomp_filter(struct container_manager *manager, const json_t *host_config, int *ret, GError **error);

/* ---- log_config.c ---- */
json_t *log_configuration(struct container *container, const json_t *host_config, GError **error); /* NULL and an error */

/* ---- start.c ---- */
/* The caller holds the operation lock. */
bool container_start_locked(struct container *container, GError **error);

/* ---- monitor.c ---- */
bool monitor_open(struct container_manager *manager, GError **error);
void monitor_close(struct container_manager *manager);
/* Takes the fd of a subscription over. */
void monitor_watch(struct container *container, int fd);
/* The container is not running any more: records, events, network, waiters; removes it where it is --rm. */
void container_ended(struct container *container, int exit_code, gint64 finished_at, bool oom_killed, const char *error_text);
/* Waits for a shim that is our child, whenever it ends. remove_directories: the container is gone, and its directories go when
 * the shim does not hold them any more. */
void monitor_reap(struct container *container, pid_t pid, bool remove_directories);
/* Its shim has died: kills what it ran and removes its cgroup. True where something still ran. */
bool container_sweep_processes(struct container *container);
void waiters_wake(struct container *container, bool exited, bool removed);

/* ---- wait.c, life.c ---- */
int container_waiter_fd(const struct container_waiter *waiter);
void container_waiter_free(struct container_waiter *waiter);
bool container_wait_stopped(struct container *container, int timeout_ms, GError **error);
/* One request to the container's shim. */
bool container_call(struct container *container, const json_t *request, json_t **ret_reply, GError **error);

/* ---- remove.c ---- */
bool container_destroy_locked(struct container *container, bool volumes, GError **error);
/* The two halves of it: all but the directories, and those. */
bool container_forget_locked(struct container *container, bool volumes, GError **error);
void container_remove_directories(struct container *container);

/* ---- attach.c ---- */
int pipe2_cloexec(int ends[2], GError **error);

/* ---- exec.c ---- */
void exec_ended(struct container *container, const char *exec_id, int exit_code);
json_t *exec_ids(struct container *container); /* array, or null; container's lock held by the caller */
void execs_forget(struct container *container);
void execs_adopt(struct container *container, const json_t *execs); /* a shim's status of them */

/* ---- health.c ---- */
/* What its shim is told of the probe; *ret NULL where there is none. */
bool health_configuration(const struct container *container, const json_t *host_config, json_t **ret, GError **error);
/* The container's lock is held by the caller. Takes a reference; anything but an object changes nothing. */
void health_set_locked(struct container *container, const json_t *health);
void health_lost_locked(struct container *container); /* nobody probes any more */
void health_told(struct container *container, const json_t *event);

/* ---- root.c: a container's file system, running or not ---- */
struct container_root {
    int fd; /* of its root directory */
    struct layer_stack *stack;
};
bool container_root_open(struct container *container, bool writable, struct container_root *ret, GError **error);
void container_root_close(struct container_root *root);

/* ---- inspect.c ---- */
bool container_sizes(struct container *container, guint64 *ret_rw, guint64 *ret_root);

/* ---- network_settings.c ---- */
json_t *network_settings(struct container *container, const json_t *host_config, bool summary);
const char *network_name(const json_t *host_config); /* as it stands in NetworkSettings.Networks; host_config's */
/* What the request says of this network, by its name or as the "default" one; NULL: nothing. */
const json_t *network_request_settings(const struct container *container, const char *network);
json_t *network_ports_summary(struct container *container, const json_t *host_config);
