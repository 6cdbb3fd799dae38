/* The init of --init: starts one program, forwards signals to it, reaps whatever is orphaned, and ends as it ended. Static, and
 * no library but libc: it runs in every kind of image. */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static int fail(const char *what, const char *name, int status)
{
    fprintf(stderr, "[FATAL tare-init] %s %s: %s\n", what, name, strerror(errno));
    return status;
}

static _Noreturn void run_program(char **argv, const sigset_t *before)
{
    /* A process group of its own, in the foreground of the terminal where there is one. */
    setpgid(0, 0);
    if (isatty(0)) {
        signal(SIGTTOU, SIG_IGN);
        tcsetpgrp(0, getpid());
        signal(SIGTTOU, SIG_DFL);
    }
    sigprocmask(SIG_SETMASK, before, NULL);
    execvp(argv[0], argv);
    int status = errno == ENOENT ? 127 : 126;
    _exit(fail("exec", argv[0], status));
}

/* Reaps all that have ended; true and the status once the program itself is among them. */
static bool reap(pid_t program, int *ret_status)
{
    bool ended = false;
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid != program)
            continue;
        *ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        ended = true;
    }
    return ended;
}

int main(int argc, char **argv)
{
    sigset_t all, before;
    int status = 0;
    char **program_argv = argc > 1 && strcmp(argv[1], "--") == 0 ? argv + 2 : argv + 1;
    if (!program_argv[0]) {
        fprintf(stderr, "Usage: %s [--] PROGRAM [ARG …]\n", argv[0]);
        return 1;
    }
    /* Faults of our own stay faults. Everything else is waited for. */
    sigfillset(&all);
    static const int faults[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS, SIGTTIN, SIGTTOU };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&all, faults[i]);
    sigprocmask(SIG_BLOCK, &all, &before);
    if (getpid() != 1 && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return fail("become a reaper for", program_argv[0], 1);
    signal(SIGTTIN, SIG_IGN);
    signal(SIGTTOU, SIG_IGN);
    pid_t program = fork();
    if (program < 0)
        return fail("fork for", program_argv[0], 1);
    if (program == 0) {
        signal(SIGTTIN, SIG_DFL);
        run_program(program_argv, &before);
    }
    for (;;) {
        siginfo_t info;
        if (sigwaitinfo(&all, &info) < 0)
            continue;
        if (info.si_signo != SIGCHLD)
            kill(program, info.si_signo);
        else if (reap(program, &status))
            return status;
    }
}
