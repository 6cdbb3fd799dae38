/* The runtime's own files share these: the plan's shape, the child's frames and the cgroup backends. Not for other directories.
 */
#pragma once

#include "runtime/runtime.h"

#include <sys/resource.h>

/* ---- the plan: what the specification says, checked and in the units that the kernel takes. All of it is made before clone and
 * only read after. ---- */

#define PLAN_ITEMS_MAX 65536 /* members of any array in a specification */
#define PLAN_MOUNTS_MAX 4096
#define RUNTIME_CAPABILITIES_MAX 63

enum { CAPS_BOUNDING, CAPS_EFFECTIVE, CAPS_INHERITABLE, CAPS_PERMITTED, CAPS_AMBIENT, CAPS_N };

struct plan_rlimit {
    int resource;
    struct rlimit limit;
};

struct plan_process {
    bool terminal, no_new_privileges, has_capabilities, has_oom_score_adj, has_umask;
    unsigned rows, columns; /* consoleSize; 0: unknown */
    char **args, **env, *cwd;
    char *username;           /* NULL: uid and gid as numbers */
    char **additional_groups; /* names and numbers, resolved in the container */
    uid_t uid;
    gid_t gid;
    GArray *groups;  /* of gid_t */
    GArray *rlimits; /* of plan_rlimit */
    guint64 capabilities[CAPS_N];
    int oom_score_adj;
    mode_t umask;
    char *apparmor_profile, *selinux_label;
};

struct plan_namespace {
    int flag;   /* CLONE_NEW… */
    char *path; /* NULL: a new one */
};

struct plan_mapping {
    guint32 container, host, size;
};

struct plan_option {
    char *key, *value; /* value NULL: a flag */
};

struct plan_mount {
    char *destination, *source, *type;
    bool bind, recursive;
    guint64 set, clear;                     /* MOUNT_ATTR_… of the mount itself */
    guint64 recursive_set, recursive_clear; /* of all below it, too ("rro") */
    guint64 propagation;                    /* MS_PRIVATE …, 0: left alone */
    bool propagation_recursive;
    GArray *options; /* of plan_option: the file system's own */
};

struct plan_device {
    char *path;
    mode_t mode; /* with S_IFCHR, S_IFBLK or S_IFIFO */
    dev_t number;
    uid_t uid;
    gid_t gid;
};

struct plan_sysctl {
    char *path, *value; /* path below /proc/sys, with slashes */
    int needs;          /* the CLONE_NEW… flag whose namespace must be the container's own */
};

struct plan_hook {
    char *path, **args, **env;
    int timeout_s; /* 0: none */
};
enum { HOOK_PRESTART, HOOK_CREATE_RUNTIME, HOOK_CREATE_CONTAINER, HOOK_START_CONTAINER, HOOK_POSTSTART, HOOK_POSTSTOP, HOOK_N };

/* One device rule; type 'a', 'b' or 'c'; -1 is any number; access bits r, w, m. */
enum { DEVICE_READ = 1, DEVICE_WRITE = 2, DEVICE_MKNOD = 4 };
struct plan_device_rule {
    bool allow;
    char type;
    gint64 major, minor;
    unsigned access;
};

struct plan_blkio_device {
    const char *kind; /* weightDevice, throttleReadBpsDevice … */
    guint64 major, minor, value;
};

struct plan_hugepage {
    char *size;
    guint64 limit;
};

/* linux.resources; the has_ bits tell given from absent. */
enum plan_resource {
    RES_MEMORY_LIMIT,
    RES_MEMORY_RESERVATION,
    RES_MEMORY_SWAP,
    RES_MEMORY_SWAPPINESS,
    RES_MEMORY_KERNEL_TCP,
    RES_OOM_DISABLE,
    RES_CPU_SHARES,
    RES_CPU_QUOTA,
    RES_CPU_PERIOD,
    RES_CPU_BURST,
    RES_CPU_RT_RUNTIME,
    RES_CPU_RT_PERIOD,
    RES_CPU_IDLE,
    RES_PIDS_LIMIT,
    RES_BLKIO_WEIGHT,
    RES_BLKIO_LEAF_WEIGHT,
    RES_N
};
struct plan_resources {
    bool has[RES_N];
    gint64 value[RES_N]; /* -1: unlimited where that means something */
    char *cpus, *mems;
    GArray *devices;   /* of plan_device_rule */
    GArray *blkio;     /* of plan_blkio_device */
    GArray *hugepages; /* of plan_hugepage */
    char **unified;    /* file, value, file, value …: v2 only */
};

struct runtime_plan {
    char *root_path, *hostname, *domainname, *cgroups_path, *mount_label;
    bool root_readonly, has_process;
    guint64 root_propagation;
    struct plan_process process;
    GArray *namespaces; /* of plan_namespace */
    GArray *uid_mappings, *gid_mappings;
    GArray *mounts, *devices, *sysctls;
    GArray *hooks[HOOK_N];
    char **masked, **readonly;
    struct plan_resources resources;
    json_t *seccomp, *annotations; /* borrowed nowhere: references */
};

/* The namespace of this kind, or NULL: then the container shares the host's. */
const struct plan_namespace *plan_namespace(const struct runtime_plan *plan, int flag);
/* Every decision of the plan, a line each: for golden tests and --debug. g_free. */
char *runtime_plan_text(const struct runtime_plan *plan);

/* plan_field.c: one row per member of a JSON object. Unknown members are ignored, as the specification demands; null is absent.
 */
typedef bool (*plan_parser)(const json_t *value, const char *path, void *out, GError **error);
enum plan_kind { PLAN_STRING, PLAN_BOOL, PLAN_INT, PLAN_INT64, PLAN_UINT32, PLAN_STRINGS, PLAN_CUSTOM };
struct plan_field {
    const char *name;
    enum plan_kind kind;
    size_t offset;
    gint64 min, max;   /* numbers; max 0: the kind's whole range */
    plan_parser parse; /* PLAN_CUSTOM: gets (char *)out + offset */
    bool required;
    size_t has_offset; /* of a bool set where the member is given; 0: none */
};
bool plan_parse_object(const json_t *object, const char *path, const struct plan_field *fields, size_t n_fields, void *out,
                       GError **error);
/* An array whose elements are parsed into a GArray's new, zeroed elements. */
bool plan_parse_array(const json_t *array, const char *path, size_t max, plan_parser parse, GArray *out, GError **error);
/* For what would be silently without effect: an empty object or array passes, all else is NOT_IMPLEMENTED. */
bool plan_refuse(const json_t *value, const char *path, void *out, GError **error);
bool plan_wrong(GError **error, const char *path, const char *what);
/* An index in a table of names; -1: none. */
int plan_lookup(const char *const *names, size_t n, const char *name);

bool plan_parse_process(const json_t *value, const char *path, void *out, GError **error);
bool plan_parse_mounts(const json_t *value, const char *path, void *out, GError **error);
bool plan_parse_hooks(const json_t *value, const char *path, void *out, GError **error);
bool plan_parse_linux(const json_t *value, const char *path, void *out, GError **error);
bool plan_parse_resources(const json_t *value, const char *path, void *out, GError **error);
/* One word of a mount's options into it; false where it is known and not implemented. */
bool plan_mount_option(struct plan_mount *mount, const char *option);

void plan_process_init(struct plan_process *process);
void plan_process_clear(struct plan_process *process);
void plan_resources_init(struct plan_resources *resources);
void plan_resources_clear(struct plan_resources *resources);
void plan_mount_clear(void *mount);
void plan_device_clear(void *device);
void plan_hook_clear(void *hook);
void plan_sysctl_clear(void *sysctl);
void plan_namespace_clear(void *ns);

/* ---- capabilities.c ---- */
int capability_number(const char *name); /* "CAP_CHOWN" → 0; -1: unknown */
const char *capability_name(int number); /* NULL beyond the table */
/* Between clone and exec; negative errno. The bounding set goes first, while CAP_SETPCAP is still there. */
int capabilities_drop_bounding(guint64 keep);
int capabilities_set(guint64 effective, guint64 permitted, guint64 inheritable);
int capabilities_set_ambient(guint64 ambient);

/* ---- user.c ---- */
#define USER_FILE_MAX (8u << 20)
#define USER_GROUPS_MAX 65536 /* NGROUPS_MAX */
/* runtime_resolve_user over the texts of the two files ("" where absent): pure. */
bool user_resolve_text(const char *passwd, const char *group, const char *user, const char *const *additional,
                       struct runtime_user *ret, GError **error);

/* ---- cgroup.c: the two layouts behind one table. A cgroup is named by its path below the mount points ("docker/ID"), the same
 * in all hierarchies. ---- */
struct cgroup;
struct cgroup_backend {
    bool (*create)(struct cgroup *cgroup, GError **error);
    bool (*apply)(struct cgroup *cgroup, const struct plan_resources *resources, bool with_devices, GError **error);
    bool (*attach)(struct cgroup *cgroup, pid_t pid, GError **error);
    bool (*freeze)(struct cgroup *cgroup, bool frozen, GError **error);
    json_t *(*stats)(struct cgroup *cgroup, GError **error);
    int (*oom_open)(struct cgroup *cgroup, GError **error); /* the fd to poll */
    guint64 (*oom_kills)(struct cgroup *cgroup);            /* how many so far */
};
extern const struct cgroup_backend cgroup_v1_backend, cgroup_v2_backend;

#define CGROUP_HIERARCHIES_MAX 24
struct cgroup_hierarchy {
    char *controllers; /* "cpu,cpuacct", "name=systemd"; "" for the unified one */
    char *mount_point; /* where the host has it */
    char *name;        /* its last component: how it is named inside a container, too */
    bool unified;
    int fd; /* O_PATH of our cgroup's directory there; -1 before create or open */
};
struct cgroup {
    const struct cgroup_backend *backend;
    char *path;
    struct cgroup_hierarchy hierarchies[CGROUP_HIERARCHIES_MAX];
    size_t n_hierarchies;
    int oom_fd, oom_control_fd;
    guint64 oom_seen;
};
/* mountinfo is the text of /proc/self/mountinfo (pure); true v2 when no v1 controller is mounted. */
bool cgroup_parse_mountinfo(const char *mountinfo, struct cgroup *out, GError **error);
/* A file to write in the directory of a controller, from resources: the pure half of both backends. */
struct cgroup_setting {
    const char *controller; /* v1: which hierarchy; v2: for messages */
    char *file, *value;
    bool optional; /* a kernel without this file is no error */
};
GArray *cgroup_v1_settings(const struct plan_resources *resources);
GArray *cgroup_v2_settings(const struct plan_resources *resources);
void cgroup_settings_add(GArray *settings, const char *controller, bool optional, const char *file, const char *format, ...)
    G_GNUC_PRINTF(5, 6);
GArray *cgroup_settings_new(void);
void cgroup_settings_free(GArray *settings);

bool cgroup_new(const char *path, struct cgroup **ret, GError **error);
/* Makes it (existing directories are taken over) and sets the limits. */
bool cgroup_create(struct cgroup *cgroup, const struct plan_resources *resources, GError **error);
bool cgroup_open_existing(struct cgroup *cgroup, GError **error);
struct cgroup_hierarchy *cgroup_find(struct cgroup *cgroup, const char *controller);
bool cgroup_write(int dir, const char *file, const char *value, GError **error);
char *cgroup_read(int dir, const char *file); /* NULL where absent; bounded; g_free */
guint64 cgroup_read_number(int dir, const char *file);
guint64 cgroup_read_key(int dir, const char *file, const char *key); /* "key number" lines */
bool cgroup_kill(struct cgroup *cgroup, int signal, GError **error);
GArray *cgroup_pids(struct cgroup *cgroup); /* of pid_t, recursively */
bool cgroup_remove(struct cgroup *cgroup, GError **error);
void cgroup_free(struct cgroup *cgroup);

/* device_filter.c: rules (the last that matches wins, nothing matching is refused) as a BPF_PROG_TYPE_CGROUP_DEVICE program; of
 * struct bpf_insn. */
GArray *device_filter_compile(const GArray *rules);
int device_filter_attach(int cgroup_dir, const GArray *program); /* 0 or negative errno */
/* The rules of a specification followed by what every container needs (null, zero, tty, ptmx, mknod of anything …), as runc adds
 * them. */
GArray *device_rules_with_defaults(const GArray *rules);

/* Makes every directory of the path below a mount point, calling visit (may be NULL) on each new or found one with its parent;
 * O_PATH of the last, -1 and error. */
typedef bool (*cgroup_visit)(int parent, int dir, GError **error);
int cgroup_make_path(const char *mount_point, const char *path, cgroup_visit visit, GError **error);
bool cgroup_v2_make(struct cgroup_hierarchy *hierarchy, const char *path, GError **error);
bool cgroup_v2_freeze_at(int dir, bool frozen, GError **error);
bool cgroup_apply_settings(struct cgroup *cgroup, GArray *settings, GError **error);
/* Lines "A:B op value" or "A:B k=v …" as the API's blkio entries. */
void cgroup_blkio_entry(json_t *list, guint64 major, guint64 minor, const char *op, guint64 value);
/* What both layouts share: system_cpu_usage and online_cpus; the memory limit cut to what the machine has. */
void cgroup_stats_host(json_t *stats);
guint64 cgroup_limit_cut(guint64 limit);

/* ---- channel.c: typed frames between the parent and the child on a SOCK_SEQPACKET pair; no GLib. ---- */
enum frame_type {
    FRAME_MAPPED = 1, /* parent: the user namespace has its mappings */
    FRAME_ATTACHED,   /* parent: the cgroups are entered */
    FRAME_PROCEED,    /* parent: its hooks have run */
    FRAME_GO,         /* parent: exec now */
    FRAME_HOOKS,      /* child: the namespaces are there, run the hooks */
    FRAME_READY,      /* child: waiting for FRAME_GO; fds: root, pty master (where terminal) */
    FRAME_EXECUTING,  /* child: the next thing is execve; end of file then means that it worked */
    FRAME_FAILED,     /* child: error, step, subject, target */
    FRAME_EXEC_FAILED /* child: error; the executable cannot be executed. step "stat" where that failed */
};
/* Errors of ours, beyond the kernel's. */
enum { REFUSED_OVER_PROC = 5001, REFUSED_IN_PROC };
#define FRAME_TEXT_MAX 8192
struct channel_frame {
    guint32 length; /* of the whole frame */
    guint32 type;
    gint32 error; /* errno, positive */
    guint32 n_fds;
    char text[FRAME_TEXT_MAX]; /* three strings, each NUL-terminated */
};
/* 0 or negative errno. Strings may be NULL; they are cut where they do not fit. */
int channel_send(int channel, enum frame_type type, int error, const char *const strings[3], const int *fds, size_t n_fds);
/* 0; -EPIPE at end of file; -EPROTO for what is no frame; negative errno. fds: room for 2, -1 where none came. */
int channel_receive(int channel, struct channel_frame *ret, int fds[2]);
/* Waits for one frame of this type and nothing else. */
int channel_expect(int channel, enum frame_type type);
const char *channel_string(const struct channel_frame *frame, int which);
/* Puts a child's failure into words: what dockerd prints after "unable to start container process: ". */
bool channel_failure(const struct channel_frame *frame, const char *argument, GError **error);

/* ---- the child's side: everything it needs, made before clone. Steps return 0 or negative errno and allocate nothing through
 * GLib. ---- */
struct child {
    const struct runtime_plan *plan; /* NULL in an exec */
    const struct plan_process *process;
    int channel;
    int root;           /* the root file system: detached at first, then where we are */
    int namespace_root; /* that of the new mount namespace, below the container's */
    int netns;          /* to join; -1 */
    int namespaces[8];  /* fds of existing ones to join, in order; -1 */
    int namespace_flags[8];
    size_t n_namespaces;
    int target_pidfd, target_namespaces; /* exec: setns flags on the container's init */
    int new_namespaces;                  /* CLONE_NEW… flags that clone made */
    bool unshare_cgroup, attached, selinux, apparmor;
    int stdio[3];
    int master;                  /* our pty */
    int dev, proc, null;         /* fds in the new root; -1 */
    const struct cgroup *cgroup; /* for cgroup mounts */
    bool enters_cgroups;         /* those of v1, by itself */
    const char *init_path;
    const char *const *environment, *const *arguments;
    const void *filter;
    size_t filter_length;
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    size_t n_groups;
    const char *subject, *target; /* what the present step works on, for its error */
    char *state;                  /* JSON text for hooks, malloc'd; comes with FRAME_ATTACHED */
    int listener;                 /* where the one who starts us will connect; -1: the channel itself */
    char *executable;             /* found by lookup_executable; malloc'd */
};
typedef int (*child_step)(struct child *child);
/* Never return. */
_Noreturn void child_run_container(struct child *child);
_Noreturn void child_run_process(struct child *child);

/* namespaces.c */
int step_reset_signals(struct child *child);
int step_enter_cgroups(struct child *child);
int step_join_namespaces(struct child *child);
int step_await_mapping(struct child *child);
int step_await_cgroup(struct child *child);
int step_host_names(struct child *child);
int step_join_target(struct child *child);
/* mounts.c */
int step_private_mounts(struct child *child);
int step_attach_root(struct child *child);
int step_mounts(struct child *child);
int step_masked_paths(struct child *child);
int step_readonly_paths(struct child *child);
int step_readonly_root(struct child *child);
int step_pivot(struct child *child);
int mount_open_tree(int dir, const char *path, unsigned flags);
int mount_place(int tree, int target);
int mount_target(int root, const char *path, bool directory); /* O_PATH of the mount point, made where missing */
int mount_fs_new(const char *type, guint64 attributes, const struct plan_option *options, size_t n_options, const char *source);
int mount_attributes(int fd, bool recursive, guint64 set, guint64 clear, guint64 propagation);
int mount_cgroup(struct child *child, const struct plan_mount *mount);
/* devices.c */
int step_devices(struct child *child);
int step_sysctls(struct child *child);
int device_check(int fd, mode_t type, dev_t number);
/* terminal.c */
int step_terminal(struct child *child);
int step_stdio(struct child *child);
/* identity.c */
int step_working_directory(struct child *child);
int step_limits(struct child *child);
int step_user(struct child *child);
int step_final_rights(struct child *child);
int step_labels(struct child *child);
/* lookup.c: what execvp would find, inside the root, through no magic link */
int step_lookup(struct child *child);

/* ---- container.c ---- */
struct runtime_container {
    char *id, *bundle, *argument; /* argument: args[0], for messages */
    pid_t pid;
    int pidfd, channel, terminal, root_fd;
    bool started, paused;
    struct cgroup *cgroup;
    GBytes *filter;
    int joinable; /* CLONE_NEW… flags that an exec joins */
    bool new_pid_namespace;
    GArray *hooks[HOOK_N];
    json_t *annotations;
};
/* runtime_create for a child that is started by another process: it accepts a connection on listener and is told there. */
bool container_create(const struct runtime_plan *plan, const struct runtime_create_options *options, const char *bundle,
                      int listener, struct runtime_container **ret, GError **error);
/* A container that another process of ours created; NOT_FOUND where its process is gone. */
bool container_load(const json_t *state, struct runtime_container **ret, GError **error);
json_t *container_state(const struct runtime_container *container, const char *status);

/* ---- launch.c: what create and exec share ---- */
struct launch {
    struct child child;
    pid_t pid;
    int pidfd, channel;
    char **environment, **arguments; /* owned */
    struct runtime_user user;
    int null;
};
bool launch_init(struct launch *launch, const struct plan_process *process, int root_fd, const int stdio[3], GError **error);
/* Clones; in the child it runs run and never returns. pid_namespace: fd of one to be born in, or -1. *ret_in_cgroups: the child
 * is or comes by itself into all its cgroups. */
bool launch_clone(struct launch *launch, int flags, const struct cgroup *cgroup, int pid_namespace, void (*run)(struct child *),
                  bool *ret_in_cgroups, GError **error);
/* Reads frames until one of this type; a failure frame or end of file is the error. */
bool launch_await(struct launch *launch, enum frame_type type, int fds[2], GError **error);
/* Kills and reaps the child of a launch that failed, closes everything. */
void launch_abort(struct launch *launch);
void launch_clear(struct launch *launch);

/* ---- hooks.c: those that run in the caller's namespaces ---- */
bool hooks_run(const GArray *hooks, const json_t *state, const char *kind, GError **error);

/* ---- command_state.c: what tare-runtime remembers between its calls: ROOT/ID/{state.json, config.json, start.sock} ---- */
int command_state_new(const char *root, const char *id, GError **error);  /* the new directory's fd; CONFLICT where it exists */
int command_state_open(const char *root, const char *id, GError **error); /* NOT_FOUND: container "x" does not exist */
bool command_state_save(int dir, const struct runtime_container *container, const json_t *spec, GError **error);
/* The container and its specification's plan; *ret_status is "created", "running" or "stopped". */
bool command_state_load(int dir, struct runtime_container **ret, struct runtime_plan **ret_plan, const char **ret_status,
                        GError **error);
int command_listen(int dir, GError **error);
bool command_start(int dir, struct runtime_container *container, GError **error);
bool command_state_remove(const char *root, const char *id, GError **error);
/* ---- command_terminal.c ---- */
bool command_send_terminal(const char *console_socket, int master, GError **error);
/* Relays between our terminal (or streams) and the master, forwards signals, until the process of pidfd ends; its exit status as
 * a shell has it. */
int command_relay(int pidfd, int master);
/* Before anything is started whose signals command_relay forwards: one that comes earlier waits for it. */
void command_hold_signals(void);
