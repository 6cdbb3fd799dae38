/* What the phases of a start share (start.c, start_network.c). */
#pragma once

#include "container/container-internal.h"

struct start {
    struct container *container;
    struct container_manager *manager;
    json_t *host_config, *spec;
    struct layer_stack *stack;
    struct network_endpoint *endpoint;
    struct container *shared_network; /* --network container:X */
    bool host_network;
    GArray *fds;     /* of int, borrowed: what the shim gets, from its fd 6 on */
    GArray *devices; /* of struct spec_device */
    char *shm_path, *ipc_path, *pid_path;
    int netns_fd, seccomp_fd;
    int netns_number;       /* of its network's namespace in the shim; 0: it has none of its own */
    int connection, events; /* to the shim */
    guint n_attaches;       /* sent ahead, not yet answered */
    pid_t shim_pid, pid;
    gint64 started_at;
    json_t *health; /* at the start, or NULL */
};

bool start_join_namespaces(struct start *start, GError **error);
bool start_take_network(struct start *start, GError **error);
void start_drop_network(struct start *start);
bool start_take_shm(struct start *start, GError **error);
/* start_errors.c: takes the error and sets another; the exit code that the record gets. */
bool start_is_plan_error(const GError *error);
void start_word_error(GError **error, int *ret_exit_code);
bool dir_make_run(struct container *container, GError **error);
