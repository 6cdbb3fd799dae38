/* tare-runtime's terminal: handed over by --console-socket, or relayed here for a run in the foreground. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

bool command_send_terminal(const char *console_socket, int master, GError **error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(console_socket) >= sizeof address.sun_path)
        return error_set(error, TARE_ERROR_INVALID, "--console-socket: path is too long");
    memcpy(address.sun_path, console_socket, strlen(console_socket));
    g_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return error_set_errno(error, errno, "connect to %s", console_socket);
    static const char name[] = "/dev/ptmx";
    return fd_send(fd, name, strlen(name), &master, 1) == 0 || error_set_errno(error, errno, "send the terminal");
}

static void copy_size(int master)
{
    struct winsize size;
    if (ioctl(0, TIOCGWINSZ, &size) == 0)
        ioctl(master, TIOCSWINSZ, &size);
}

static int exit_status(int pidfd)
{
    siginfo_t info = { 0 };
    while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0)
        if (errno != EINTR)
            return 255;
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

/* One turn of copying; false at the end of what is read. */
static bool copy(int from, int to)
{
    char buffer[8192];
    ssize_t n = read(from, buffer, sizeof buffer);
    return n > 0 && fd_write_full(to, buffer, (size_t)n) == 0;
}

static void take_signal(int signals, int pidfd, int master)
{
    struct signalfd_siginfo info;
    if (read(signals, &info, sizeof info) != sizeof info)
        return;
    if (info.ssi_signo == SIGWINCH && master >= 0)
        copy_size(master);
    else if (info.ssi_signo != SIGCHLD)
        syscall(SYS_pidfd_send_signal, pidfd, (int)info.ssi_signo, NULL, 0);
}

static void forwarded_signals(sigset_t *ret)
{
    sigfillset(ret);
    sigdelset(ret, SIGTSTP);
}

void command_hold_signals(void)
{
    sigset_t set;
    forwarded_signals(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

int command_relay(int pidfd, int master)
{
    struct termios before, raw;
    sigset_t set;
    forwarded_signals(&set);
    g_autofd int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    bool own = master >= 0 && tcgetattr(0, &before) == 0;
    if (own) {
        raw = before;
        cfmakeraw(&raw);
        tcsetattr(0, TCSANOW, &raw);
        copy_size(master);
    }
    struct pollfd polls[] = {
        { pidfd, POLLIN, 0 }, { signals, POLLIN, 0 }, { master, POLLIN, 0 }, { master >= 0 ? 0 : -1, POLLIN, 0 }
    };
    bool ended = false;
    while (!ended || polls[2].fd >= 0) {
        if (poll(polls, G_N_ELEMENTS(polls), ended ? 100 : -1) == 0)
            break;
        if (polls[1].revents)
            take_signal(signals, pidfd, master);
        if (polls[2].revents && !copy(master, 1))
            polls[2].fd = -1;
        if (polls[3].revents && !copy(0, master))
            polls[3].fd = -1;
        if (polls[0].revents) {
            ended = true;
            polls[0].fd = -1;
        }
    }
    if (own)
        tcsetattr(0, TCSANOW, &before);
    return exit_status(pidfd);
}
