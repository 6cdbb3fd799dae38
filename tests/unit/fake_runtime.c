/* A runtime without namespaces or root, so that the shim can be tested by itself: processes are plain children, "the container"
 * is the first one's process group. */
#include "layer/layer.h"
#include "runtime/runtime.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct runtime_plan {
    char **args;
    bool terminal;
};

struct runtime_container {
    pid_t pid;
    int pidfd, start_fd, status_fd, terminal_fd;
};

static char **args_of(const json_t *process)
{
    return json_string_array(json_get_array(process, "args"));
}

bool runtime_plan_new(const json_t *spec, struct runtime_plan **ret, GError **error)
{
    const json_t *process = json_get_object(spec, "process");
    if (!json_get_array(process, "args"))
        return error_set(error, TARE_ERROR_INVALID, "process.args: missing");
    *ret = g_new0(struct runtime_plan, 1);
    (*ret)->args = args_of(process);
    (*ret)->terminal = json_get_bool(process, "terminal", false);
    return true;
}

void runtime_plan_free(struct runtime_plan *plan)
{
    if (!plan)
        return;
    g_strfreev(plan->args);
    g_free(plan);
}

static void put_stdio(const int stdio[3], int slave)
{
    for (int i = 0; i < 3; i++) {
        int fd = slave >= 0 ? slave : stdio[i] >= 0 ? stdio[i] : open("/dev/null", O_RDWR);
        dup2(fd, i);
    }
}

/* The child waits for a byte on gate (-1: at once), then executes; an errno goes to status, whose end of file means success. */
static void G_GNUC_NORETURN child(char *const *args, const int stdio[3], int slave, int gate, int status)
{
    char byte;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int number = 1; number < 32; number++)
        signal(number, SIG_DFL);
    setsid();
    put_stdio(stdio, slave);
    if (slave >= 0)
        ioctl(0, TIOCSCTTY, 0);
    if (gate >= 0 && read(gate, &byte, 1) != 1)
        _exit(1);
    execvp(args[0], args);
    int problem = errno;
    if (write(status, &problem, sizeof problem) < 0)
        _exit(2);
    _exit(127);
}

static bool spawn(char *const *args, bool terminal, const int stdio[3], bool gated, struct runtime_container *ret, GError **error)
{
    int gate[2] = { -1, -1 }, status[2], master = -1, slave = -1;
    if ((gated && pipe2(gate, O_CLOEXEC) < 0) || pipe2(status, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "pipe");
    if (terminal && openpty(&master, &slave, NULL, NULL, NULL) < 0)
        return error_set_errno(error, errno, "openpty");
    if (terminal) {
        fcntl(master, F_SETFD, FD_CLOEXEC);
        fcntl(slave, F_SETFD, FD_CLOEXEC);
    }
    pid_t pid = fork();
    if (pid == 0) {
        fd_close(gate[1]);
        child(args, stdio, slave, gate[0], status[1]);
    }
    fd_close(gate[0]);
    fd_close(status[1]);
    fd_close(slave);
    *ret = (struct runtime_container){ .pid = pid,
                                       .pidfd = (int)syscall(SYS_pidfd_open, pid, 0),
                                       .start_fd = gate[1],
                                       .status_fd = status[0],
                                       .terminal_fd = master };
    return true;
}

static bool wait_exec(struct runtime_container *container, const char *program, GError **error)
{
    int problem;
    bool failed = fd_read_full(container->status_fd, &problem, sizeof problem) == (ssize_t)sizeof problem;
    fd_clear(&container->status_fd);
    if (!failed)
        return true;
    if (problem == ENOENT)
        return error_set(error, TARE_ERROR_INVALID, "exec: \"%s\": executable file not found in $PATH", program);
    return error_set(error, TARE_ERROR_INVALID, "exec: \"%s\": %s", program, error_errno_text(problem));
}

static char *program_name;

bool runtime_create(const struct runtime_plan *plan, const struct runtime_create_options *options, struct runtime_container **ret,
                    GError **error)
{
    struct runtime_container *container = g_new0(struct runtime_container, 1);
    fd_close(options->root_fd);
    g_free(program_name);
    program_name = g_strdup(plan->args[0]);
    if (!spawn(plan->args, plan->terminal, options->stdio, true, container, error)) {
        g_free(container);
        return false;
    }
    *ret = container;
    return true;
}

bool runtime_start(struct runtime_container *container, GError **error)
{
    if (fd_write_full(container->start_fd, "x", 1) < 0)
        return error_set_errno(error, errno, "start");
    fd_clear(&container->start_fd);
    return wait_exec(container, program_name, error);
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
    return fd_steal(&container->terminal_fd);
}

int runtime_root_fd(const struct runtime_container *container)
{
    return -1;
}

int runtime_oom_fd(const struct runtime_container *container)
{
    return -1;
}

bool runtime_oom_happened(struct runtime_container *container)
{
    return false;
}

bool runtime_exec(struct runtime_container *container, const json_t *process, const struct runtime_exec_options *options,
                  struct runtime_process *ret, GError **error)
{
    struct runtime_container child_process;
    g_auto(GStrv) args = args_of(process);
    if (!spawn(args, json_get_bool(process, "terminal", false), options->stdio, false, &child_process, error))
        return false;
    bool ok = wait_exec(&child_process, args[0], error);
    *ret = (struct runtime_process){ .pid = child_process.pid,
                                     .pidfd = child_process.pidfd,
                                     .terminal_fd = child_process.terminal_fd };
    if (!ok) {
        waitpid(child_process.pid, NULL, 0);
        fd_close(child_process.pidfd);
        fd_close(child_process.terminal_fd);
    }
    return ok;
}

bool runtime_kill(struct runtime_container *container, int signal, bool all, GError **error)
{
    return kill(all ? -container->pid : container->pid, signal) == 0 || error_set_errno(error, errno, "kill");
}

bool runtime_pause(struct runtime_container *container, bool paused, GError **error)
{
    return runtime_kill(container, paused ? SIGSTOP : SIGCONT, true, error);
}

bool runtime_update(struct runtime_container *container, const json_t *resources, GError **error)
{
    return true;
}

json_t *runtime_stats(struct runtime_container *container, GError **error)
{
    return json_object();
}

json_t *runtime_pids(struct runtime_container *container, GError **error)
{
    return json_pack("[i]", (int)container->pid);
}

bool runtime_destroy(struct runtime_container *container, GError **error)
{
    /* As the real one, whose cgroup is removed only when it is empty: no copy of the shim's sockets is left after this. */
    struct pollfd end = { .fd = container->pidfd, .events = POLLIN };
    kill(-container->pid, SIGKILL);
    kill(container->pid, SIGKILL); /* it may not have made its session yet */
    poll(&end, 1, 5000);
    return true;
}

void runtime_container_free(struct runtime_container *container)
{
    fd_close(container->pidfd);
    fd_close(container->start_fd);
    fd_close(container->status_fd);
    fd_close(container->terminal_fd);
    g_clear_pointer(&program_name, g_free);
    g_free(container);
}

int overlay_mount(const struct overlay_options *options, GError **error)
{
    error_set(error, TARE_ERROR_NOT_IMPLEMENTED, "the fake runtime mounts nothing");
    return -1;
}
