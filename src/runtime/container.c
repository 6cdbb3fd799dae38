/* Creating and starting a container: the parent's side. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool write_text(const char *path, const char *text, GError **error)
{
    g_autofd int fd = open(path, O_WRONLY | O_CLOEXEC);
    return (fd >= 0 && write(fd, text, strlen(text)) >= 0) || error_set_errno(error, errno, "write %s", path);
}

static bool write_mapping(pid_t pid, const char *file, const GArray *mappings, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (guint i = 0; i < mappings->len; i++) {
        const struct plan_mapping *mapping = &g_array_index(mappings, struct plan_mapping, i);
        g_string_append_printf(text, "%u %u %u\n", mapping->container, mapping->host, mapping->size);
    }
    g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int)pid, file);
    return write_text(path, text->str, error);
}

/* Opens the namespaces to join. The one for pids is for the parent, all others for the child. */
static bool open_namespaces(const struct runtime_plan *plan, const struct runtime_create_options *options, struct child *child,
                            int *ret_pid_namespace, int *ret_flags, GError **error)
{
    /* A user namespace first: what follows is joined with its rights. */
    for (int round = 0; round < 2; round++)
        for (guint i = 0; i < plan->namespaces->len; i++) {
            const struct plan_namespace *ns = &g_array_index(plan->namespaces, struct plan_namespace, i);
            if ((ns->flag == CLONE_NEWUSER) != (round == 0) || (ns->flag == CLONE_NEWNET && options->netns_fd >= 0))
                continue;
            if (!ns->path) {
                if (ns->flag == CLONE_NEWCGROUP)
                    child->unshare_cgroup = true;
                else
                    *ret_flags |= ns->flag;
                continue;
            }
            int fd = open(ns->path, O_RDONLY | O_CLOEXEC);
            if (fd < 0)
                return error_set_errno(error, errno, "open namespace %s", ns->path);
            if (ns->flag == CLONE_NEWPID) {
                *ret_pid_namespace = fd;
                continue;
            }
            child->namespaces[child->n_namespaces] = fd;
            child->namespace_flags[child->n_namespaces++] = ns->flag;
        }
    child->netns = options->netns_fd;
    child->new_namespaces = *ret_flags;
    return true;
}

static void close_namespaces(struct child *child)
{
    for (size_t i = 0; i < child->n_namespaces; i++)
        fd_clear(&child->namespaces[i]);
    child->n_namespaces = 0;
}

static bool make_filter(const struct runtime_plan *plan, const struct runtime_create_options *options, GBytes **ret,
                        GError **error)
{
    if (options->seccomp) {
        *ret = g_bytes_new(options->seccomp, options->seccomp_length);
        return true;
    }
    GByteArray *bytes = NULL;
    if (!runtime_seccomp_compile(plan->seccomp, &bytes, error))
        return false;
    *ret = g_byte_array_free_to_bytes(bytes);
    return true;
}

json_t *container_state(const struct runtime_container *container, const char *status)
{
    json_t *state = json_pack("{s:s, s:s, s:s, s:i, s:s}", "ociVersion", "1.0.2", "id", container->id, "status", status, "pid",
                              (int)container->pid, "bundle", container->bundle ? container->bundle : "");
    if (container->annotations)
        json_object_set(state, "annotations", container->annotations);
    return state;
}

/* The parent's part while the child mounts: mappings, cgroups, hooks; then the child waits before exec. */
static bool accompany(struct launch *launch, const struct runtime_plan *plan, struct runtime_container *container,
                      bool in_cgroups, GError **error)
{
    const struct plan_process *process = &plan->process;
    if (launch->child.new_namespaces & CLONE_NEWUSER) {
        if (!write_mapping(launch->pid, "uid_map", plan->uid_mappings, error) ||
            !write_mapping(launch->pid, "gid_map", plan->gid_mappings, error))
            return false;
        channel_send(launch->channel, FRAME_MAPPED, 0, NULL, NULL, 0);
    }
    if (process->has_oom_score_adj) {
        g_autofree char *path = g_strdup_printf("/proc/%d/oom_score_adj", (int)launch->pid);
        g_autofree char *score = g_strdup_printf("%d", process->oom_score_adj);
        if (!write_text(path, score, error))
            return false;
    }
    if (!in_cgroups && !container->cgroup->backend->attach(container->cgroup, launch->pid, error))
        return false;
    g_autoptr(json_t) state = container_state(container, "creating");
    g_autofree char *text = json_text(state);
    const char *strings[3] = { text, NULL, NULL };
    channel_send(launch->channel, FRAME_ATTACHED, 0, strings, NULL, 0);
    if (plan->hooks[HOOK_PRESTART]->len || plan->hooks[HOOK_CREATE_RUNTIME]->len) {
        if (!launch_await(launch, FRAME_HOOKS, NULL, error) || !hooks_run(plan->hooks[HOOK_PRESTART], state, "prestart", error) ||
            !hooks_run(plan->hooks[HOOK_CREATE_RUNTIME], state, "createRuntime", error))
            return false;
        channel_send(launch->channel, FRAME_PROCEED, 0, NULL, NULL, 0);
    }
    int fds[2];
    if (!launch_await(launch, FRAME_READY, fds, error))
        return false;
    container->root_fd = fds[0];
    container->terminal = fds[1];
    return true;
}

static bool create(const struct runtime_plan *plan, const struct runtime_create_options *options, int listener,
                   struct runtime_container *container, struct launch *launch, GError **error)
{
    g_autofd int root =
        options->root_fd >= 0 ? -1 : open(plan->root_path ? plan->root_path : "", O_PATH | O_DIRECTORY | O_CLOEXEC);
    g_autofd int pid_namespace = -1;
    int flags = 0;
    bool in_cgroups = false;
    if (!plan->has_process)
        return error_set(error, TARE_ERROR_INVALID, "process: is required");
    if (options->root_fd < 0 && root < 0)
        return error_set_errno(error, errno, "open root %s", plan->root_path ? plan->root_path : "");
    if (!launch_init(launch, &plan->process, options->root_fd >= 0 ? options->root_fd : root, options->stdio, error))
        return false;
    struct child *child = &launch->child;
    child->plan = plan;
    child->root = options->root_fd;
    child->listener = listener;
    child->init_path = options->init_path;
    if (options->init_path) {
        const char *const front[] = { "/sbin/docker-init", "--", NULL };
        GPtrArray *all = g_ptr_array_new();
        for (size_t i = 0; front[i]; i++)
            g_ptr_array_add(all, g_strdup(front[i]));
        for (char **each = launch->arguments; *each; each++)
            g_ptr_array_add(all, *each);
        g_ptr_array_add(all, NULL);
        g_free(launch->arguments);
        launch->arguments = (char **)g_ptr_array_free(all, FALSE);
        child->arguments = (const char *const *)launch->arguments;
    }
    g_autofree char *own_path = g_strconcat("tare/", options->id, NULL);
    if (!make_filter(plan, options, &container->filter, error) ||
        !cgroup_new(plan->cgroups_path ? plan->cgroups_path : own_path, &container->cgroup, error) ||
        !cgroup_create(container->cgroup, &plan->resources, error) ||
        !open_namespaces(plan, options, child, &pid_namespace, &flags, error))
        return false;
    child->cgroup = container->cgroup;
    child->filter = g_bytes_get_data(container->filter, &child->filter_length);
    container->new_pid_namespace = (flags & CLONE_NEWPID) != 0;
    container->joinable = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP |
                          (plan_namespace(plan, CLONE_NEWUSER) ? CLONE_NEWUSER : 0);
    if (!launch_clone(launch, flags, container->cgroup, pid_namespace, child_run_container, &in_cgroups, error))
        return false;
    container->pid = launch->pid;
    return accompany(launch, plan, container, in_cgroups, error);
}

static struct runtime_container *container_allocate(const char *id, const char *bundle)
{
    struct runtime_container *container = g_new0(struct runtime_container, 1);
    container->id = g_strdup(id);
    container->bundle = g_strdup(bundle);
    container->pidfd = container->channel = container->terminal = container->root_fd = -1;
    return container;
}

bool container_create(const struct runtime_plan *plan, const struct runtime_create_options *options, const char *bundle,
                      int listener, struct runtime_container **ret, GError **error)
{
    struct runtime_container *container = container_allocate(options->id, bundle);
    struct launch launch = { .pidfd = -1, .channel = -1, .null = -1, .child.channel = -1 };
    for (int i = 0; i < HOOK_N; i++)
        container->hooks[i] = g_array_ref(plan->hooks[i]);
    container->annotations = json_incref(plan->annotations);
    container->argument = g_strdup(plan->process.args ? plan->process.args[0] : "");
    bool ok = create(plan, options, listener, container, &launch, error);
    close_namespaces(&launch.child);
    fd_close(options->root_fd);
    if (!ok) {
        launch_abort(&launch);
        container->pid = 0;
        if (container->cgroup)
            cgroup_remove(container->cgroup, NULL);
        runtime_container_free(container);
        return false;
    }
    container->pidfd = fd_steal(&launch.pidfd);
    container->channel = fd_steal(&launch.channel);
    launch_clear(&launch);
    *ret = container;
    return true;
}

bool runtime_create(const struct runtime_plan *plan, const struct runtime_create_options *options, struct runtime_container **ret,
                    GError **error)
{
    return container_create(plan, options, options->state_dir, -1, ret, error);
}

bool runtime_start(struct runtime_container *container, GError **error)
{
    struct channel_frame frame;
    if (container->started || container->channel < 0)
        return error_set(error, TARE_ERROR_CONFLICT, "container %s is already started", container->id);
    int r = channel_send(container->channel, FRAME_GO, 0, NULL, NULL, 0);
    r = r < 0 ? r : channel_receive(container->channel, &frame, NULL);
    if (r < 0)
        return error_set(error, TARE_ERROR_INTERNAL, "the container's process ended before it was started");
    if (frame.type == FRAME_FAILED || frame.type == FRAME_EXEC_FAILED)
        return channel_failure(&frame, container->argument, error);
    if (frame.type != FRAME_EXECUTING)
        return error_set(error, TARE_ERROR_INTERNAL, "unexpected frame %u from the container's process", frame.type);
    /* The end of file is execve, which closes the channel. */
    r = channel_receive(container->channel, &frame, NULL);
    if (r != -EPIPE)
        return error_set(error, TARE_ERROR_INTERNAL, "unexpected frame from the container's process");
    fd_clear(&container->channel);
    container->started = true;
    g_autoptr(json_t) state = container_state(container, "running");
    return hooks_run(container->hooks[HOOK_POSTSTART], state, "poststart", error);
}

pid_t runtime_pid(const struct runtime_container *container)
{
    return container->pid;
}

int runtime_pidfd(const struct runtime_container *container)
{
    return container->pidfd;
}

int runtime_take_terminal(struct runtime_container *container)
{
    return fd_steal(&container->terminal);
}

int runtime_root_fd(const struct runtime_container *container)
{
    return container->root_fd;
}

bool container_load(const json_t *state, struct runtime_container **ret, GError **error)
{
    const char *id = json_get_string(state, "id", ""), *cgroup = json_get_string(state, "tare.cgroup", NULL);
    gint64 pid = json_get_int(state, "pid", 0);
    struct runtime_container *container = container_allocate(id, json_get_string(state, "bundle", NULL));
    container->pid = (pid_t)pid;
    container->joinable = (int)json_get_int(state, "tare.joinable", 0);
    container->new_pid_namespace = json_get_bool(state, "tare.newPid", true);
    container->started = true;
    container->argument = g_strdup("");
    for (int i = 0; i < HOOK_N; i++)
        container->hooks[i] = g_array_new(FALSE, TRUE, sizeof(struct plan_hook));
    bool ok = cgroup && cgroup_new(cgroup, &container->cgroup, error) && cgroup_open_existing(container->cgroup, error);
    if (pid > 0) {
        container->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
        g_autofree char *root = g_strdup_printf("/proc/%d/root", (int)pid);
        container->root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    if (!ok) {
        runtime_container_free(container);
        return false;
    }
    *ret = container;
    return true;
}

void runtime_container_free(struct runtime_container *container)
{
    if (!container)
        return;
    fd_clear(&container->pidfd);
    fd_clear(&container->channel);
    fd_clear(&container->terminal);
    fd_clear(&container->root_fd);
    cgroup_free(container->cgroup);
    for (int i = 0; i < HOOK_N; i++)
        g_clear_pointer(&container->hooks[i], g_array_unref);
    g_clear_pointer(&container->filter, g_bytes_unref);
    json_decref(container->annotations);
    g_free(container->argument);
    g_free(container->bundle);
    g_free(container->id);
    g_free(container);
}
