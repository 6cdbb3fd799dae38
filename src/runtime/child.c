/* Between clone and exec: two lists of steps, run in order by one loop. The first error goes to the parent with its step's name.
 */
#include "runtime/runtime-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct named_step {
    const char *name;
    child_step run;
};

static int step_hooks_before_pivot(struct child *child);
static int step_ready(struct child *child);
static int step_hooks_before_start(struct child *child);

static const struct named_step container_steps[] = {
    { "reset signals", step_reset_signals },
    { "enter the cgroups", step_enter_cgroups },
    { "wait for the id mappings", step_await_mapping },
    { "join namespaces", step_join_namespaces },
    { "set hostname", step_host_names },
    { "make mounts private", step_private_mounts },
    { "mount the root", step_attach_root },
    { "error mounting", step_mounts },
    { "make device", step_devices },
    { "open a terminal", step_terminal },
    { "write sysctl", step_sysctls },
    { "mask path", step_masked_paths },
    { "make path read-only", step_readonly_paths },
    { "run hooks", step_hooks_before_pivot },
    { "wait for the cgroups", step_await_cgroup },
    { "pivot_root", step_pivot },
    { "mkdir", step_working_directory },
    { "make the root read-only", step_readonly_root },
    { "set limits", step_limits },
    { "set streams", step_stdio },
    { "apply apparmor profile or selinux label", step_labels },
    { "set user", step_user },
    { "look up the executable", step_lookup },
    { "wait for start", step_ready },
    { "run startContainer hooks", step_hooks_before_start },
    { "set capabilities and seccomp", step_final_rights },
};

static const struct named_step process_steps[] = {
    { "reset signals", step_reset_signals },
    { "enter the cgroups", step_enter_cgroups },
    { "join namespaces", step_join_target },
    { "chdir", step_working_directory },
    { "open a terminal", step_terminal },
    { "set limits", step_limits },
    { "set streams", step_stdio },
    { "apply apparmor profile or selinux label", step_labels },
    { "set user", step_user },
    { "look up the executable", step_lookup },
    { "wait for the cgroups", step_await_cgroup },
    { "wait for start", step_ready },
    { "set capabilities and seccomp", step_final_rights },
};

static _Noreturn void run_hook_program(const struct plan_hook *hook, int input)
{
    static char *const nothing[] = { NULL };
    char *const alone[] = { hook->path, NULL };
    if (dup2(input, 0) == 0) {
        syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
        execve(hook->path, hook->args && hook->args[0] ? hook->args : alone, hook->env ? hook->env : nothing);
    }
    _exit(127);
}

/* Hooks of the specification that belong into the container's namespaces; only tare-runtime's users have any. */
static int run_hooks(struct child *child, const GArray *hooks, const char *state)
{
    for (guint i = 0; i < hooks->len; i++) {
        const struct plan_hook *hook = &g_array_index(hooks, struct plan_hook, i);
        int ends[2], status;
        child->subject = hook->path;
        if (pipe2(ends, O_CLOEXEC) < 0)
            return -errno;
        pid_t pid = fork();
        if (pid == 0)
            run_hook_program(hook, ends[0]);
        fd_close(ends[0]);
        if (pid > 0 && state)
            (void)!write(ends[1], state, strlen(state));
        fd_close(ends[1]);
        if (pid < 0)
            return -errno;
        while (waitpid(pid, &status, 0) < 0)
            if (errno != EINTR)
                return -errno;
        if (status != 0)
            return -ECANCELED;
    }
    child->subject = NULL;
    return 0;
}

static int step_hooks_before_pivot(struct child *child)
{
    GArray *const *hooks = child->plan->hooks;
    if (hooks[HOOK_PRESTART]->len || hooks[HOOK_CREATE_RUNTIME]->len) {
        int r = step_await_cgroup(child);
        r = r < 0 ? r : channel_send(child->channel, FRAME_HOOKS, 0, NULL, NULL, 0);
        r = r < 0 ? r : channel_expect(child->channel, FRAME_PROCEED);
        if (r < 0)
            return r;
    }
    return run_hooks(child, hooks[HOOK_CREATE_CONTAINER], child->state);
}

static int step_hooks_before_start(struct child *child)
{
    return run_hooks(child, child->plan->hooks[HOOK_START_CONTAINER], child->state);
}

static int step_ready(struct child *child)
{
    int root = openat(child->root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return -errno;
    int fds[2] = { root, child->master };
    int r = channel_send(child->channel, FRAME_READY, 0, NULL, fds, child->master >= 0 ? 2 : 1);
    fd_close(root);
    fd_clear(&child->master);
    if (r < 0)
        return r;
    if (child->listener >= 0) {
        int connection = accept4(child->listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0)
            return -errno;
        child->channel = connection;
        fd_clear(&child->listener);
    }
    return channel_expect(child->channel, FRAME_GO);
}

/* What cannot be foreseen (a wrong format, a missing interpreter) is the container's own story by now: it says so on its stderr,
 * as under runc. */
static _Noreturn void execute(struct child *child)
{
    int r = channel_send(child->channel, FRAME_EXECUTING, 0, NULL, NULL, 0);
    if (r < 0 || syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
        _exit(127);
    execve(child->executable, (char *const *)child->arguments, (char *const *)child->environment);
    const char *reason = error_errno_text(errno);
    const char *parts[] = { "exec ", child->executable, ": ", reason, "\n" };
    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++)
        (void)!write(2, parts[i], strlen(parts[i]));
    _exit(1);
}

static _Noreturn void run(struct child *child, const struct named_step *steps, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int r = steps[i].run(child);
        if (r < 0) {
            const char *strings[3] = { steps[i].name, child->subject, child->target };
            channel_send(child->channel, FRAME_FAILED, -r, strings, NULL, 0);
            _exit(127);
        }
    }
    execute(child);
}

void child_run_container(struct child *child)
{
    run(child, container_steps, G_N_ELEMENTS(container_steps));
}

void child_run_process(struct child *child)
{
    run(child, process_steps, G_N_ELEMENTS(process_steps));
}
