/* The runtime library: an OCI runtime specification (config.json, version 1.0 to 1.2) becomes a validated plan, the plan becomes
 * a container.
 *
 * Parse and plan are pure and need no root. The executor must be called from a single-threaded process (a shim, tare-runtime): it
 * clones and works in the child. Between clone and exec there is no GLib: steps return negative errno, and the step's name
 * travels to the parent in a typed frame. */
#pragma once

#include "base/error.h"
#include "base/json.h"

#include <sys/types.h>

#define RUNTIME_SPECIFICATION_MAX (16u << 20)
/* The bytes of a config.json as a value, with Go's unsigned "unlimited" numbers as -1. New reference. */
json_t *runtime_specification_parse(const char *text, size_t length, GError **error);

struct runtime_plan;
/* Validates everything that can be without touching the system; the error names the field ("linux.namespaces[2].type: …").
 * Extension: process.user.username
 * ("user", "uid", "user:group" …, docker's -u) is resolved against the container's own files when the container is created, and
 * adds its groups; extension annotation "tare.additionalGroups" (comma-separated names or numbers): --group-add. */
bool runtime_plan_new(const json_t *spec, struct runtime_plan **ret, GError **error);
void runtime_plan_free(struct runtime_plan *plan);

/* Docker's default seccomp policy and OCI linux.seccomp objects, compiled to BPF bytes; cacheable by the object's text. NULL
 * object: no filter, empty array. */
bool runtime_seccomp_compile(const json_t *seccomp, GByteArray **ret, GError **error);
/* Docker's default policy as an OCI linux.seccomp object for these capabilities (as "CAP_CHOWN"); new reference. */
json_t *runtime_seccomp_default(const char *const *capabilities);

struct runtime_create_options {
    const char *id;
    int root_fd;         /* detached mount of the root file system (taken, closed); -1: bind root.path of the spec */
    int netns_fd;        /* a ready network namespace to join; -1: as the spec says */
    const void *seccomp; /* compiled filter that replaces the spec's; NULL: compile the spec's */
    size_t seccomp_length;
    int stdio[3]; /* the container's; -1: /dev/null. Not used when process.terminal */
    const char
        *init_path; /* path of tare-init for --init (bind-mounted read-only as /sbin/docker-init and put before args), or NULL */
    const char *state_dir; /* for hooks' state; may be NULL */
};

struct runtime_container;
/* Clones and sets everything up; the container's process then waits before exec. Errors are what dockerd would say after "OCI
 * runtime create failed: ". */
bool runtime_create(const struct runtime_plan *plan, const struct runtime_create_options *options, struct runtime_container **ret,
                    GError **error);
/* Lets it exec; returns when exec has happened, or the error ('exec: "foo": executable file not found in $PATH', 'exec: "/x":
 * permission denied', …). */
bool runtime_start(struct runtime_container *container, GError **error);
pid_t runtime_pid(const struct runtime_container *container);
int runtime_pidfd(const struct runtime_container *container);   /* owned by the container */
int runtime_take_terminal(struct runtime_container *container); /* the pty's master, once; -1 without terminal */
int runtime_root_fd(
    const struct runtime_container *container); /* O_PATH of the container's root, as it sees it; owned by the container */
/* An fd that becomes readable at an OOM kill (v1: eventfd, v2: memory.events by inotify), or -1; runtime_oom_happened tells and
 * re-arms. */
int runtime_oom_fd(const struct runtime_container *container);
bool runtime_oom_happened(struct runtime_container *container);

/* A further process: an OCI process object, joined into all namespaces, cgroups, seccomp and capability rules. */
struct runtime_exec_options {
    int stdio[3];
};
struct runtime_process {
    pid_t pid;
    int pidfd;       /* the caller's */
    int terminal_fd; /* pty master or -1; the caller's */
};
bool runtime_exec(struct runtime_container *container, const json_t *process, const struct runtime_exec_options *options,
                  struct runtime_process *ret, GError **error);

bool runtime_kill(struct runtime_container *container, int signal, bool all, GError **error);
bool runtime_pause(struct runtime_container *container, bool paused, GError **error);
/* linux.resources of the OCI specification. */
bool runtime_update(struct runtime_container *container, const json_t *resources, GError **error);
/* cpu, memory, pids, blkio figures in the shape that the Engine API's stats use; new reference. */
json_t *runtime_stats(struct runtime_container *container, GError **error);
json_t *runtime_pids(struct runtime_container *container, GError **error);
/* Kills what is left, removes the cgroups. Idempotent; also works for a container whose process has gone. */
bool runtime_destroy(struct runtime_container *container, GError **error);
void runtime_container_free(struct runtime_container *container);
/* Kills all that is left in the cgroup of a container whose supervisor has died, and removes it; a missing one is no error.
 * ret_was_alive may be NULL. Unlike the rest, for any process. */
bool runtime_sweep(const char *cgroups_path, bool *ret_was_alive, GError **error);

/* Users and groups from a root's own /etc/passwd and /etc/group, by our own bounded reader. */
struct runtime_user {
    uid_t uid;
    gid_t gid;
    GArray *groups; /* of gid_t: the additional ones */
    char *home;     /* "/" where unknown */
};
/* user: "", "name", "uid", "name:group", "uid:gid" …; errors as docker: 'unable to find user foo: no matching entries in passwd
 * file'. */
bool runtime_resolve_user(int root_fd, const char *user, const char *const *additional, struct runtime_user *ret, GError **error);
void runtime_user_clear(struct runtime_user *user);

/* The command line of tare-runtime: create start state kill delete run exec ps pause resume. Returns the process's exit status.
 */
int runtime_command(int argc, char **argv);
