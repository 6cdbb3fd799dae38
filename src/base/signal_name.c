#include "base/signal_name.h"

#include "base/parse.h"

#include <signal.h>

static const struct {
    const char *name;
    int number;
} signals[] = {
    { "ABRT", SIGABRT },       { "ALRM", SIGALRM },   { "BUS", SIGBUS },   { "CHLD", SIGCHLD }, { "CLD", SIGCHLD },
    { "CONT", SIGCONT },       { "FPE", SIGFPE },     { "HUP", SIGHUP },   { "ILL", SIGILL },   { "INT", SIGINT },
    { "IO", SIGIO },           { "IOT", SIGIOT },     { "KILL", SIGKILL }, { "PIPE", SIGPIPE }, { "POLL", SIGPOLL },
    { "PROF", SIGPROF },       { "PWR", SIGPWR },     { "QUIT", SIGQUIT }, { "SEGV", SIGSEGV }, { "STKFLT", 16 },
    { "STOP", SIGSTOP },       { "SYS", SIGSYS },     { "TERM", SIGTERM }, { "TRAP", SIGTRAP }, { "TSTP", SIGTSTP },
    { "TTIN", SIGTTIN },       { "TTOU", SIGTTOU },   { "URG", SIGURG },   { "USR1", SIGUSR1 }, { "USR2", SIGUSR2 },
    { "VTALRM", SIGVTALRM },   { "WINCH", SIGWINCH }, { "XCPU", SIGXCPU }, { "XFSZ", SIGXFSZ }, { "RTMIN", SIGNAL_RTMIN },
    { "RTMAX", SIGNAL_RTMAX },
};

bool signal_name_parse(const char *text, int *ret)
{
    guint64 number;
    if (parse_uint(text, G_MAXINT, &number)) {
        *ret = (int)number;
        return number > 0;
    }
    const char *name = g_ascii_strncasecmp(text, "SIG", 3) ? text : text + 3;
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++)
        if (!g_ascii_strcasecmp(name, signals[i].name)) {
            *ret = signals[i].number;
            return true;
        }
    if (!g_ascii_strncasecmp(name, "RTMIN+", 6) && parse_uint(name + 6, 15, &number) && number > 0) {
        *ret = SIGNAL_RTMIN + (int)number;
        return true;
    }
    if (!g_ascii_strncasecmp(name, "RTMAX-", 6) && parse_uint(name + 6, 14, &number) && number > 0) {
        *ret = SIGNAL_RTMAX - (int)number;
        return true;
    }
    return false;
}
