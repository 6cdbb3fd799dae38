/* Our terminal: raw mode, size, detach keys, and signals as a readable fd. */
#include "cli/cli-internal.h"

#include "base/parse.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

static struct termios saved_state; /* of stdin, while raw: an exit handler has no argument */
static bool is_raw;

void terminal_restore(void)
{
    if (is_raw)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &saved_state);
    is_raw = false;
}

bool terminal_set_raw(GError **error)
{
    static bool registered;
    if (is_raw || !isatty(STDIN_FILENO))
        return true;
    if (tcgetattr(STDIN_FILENO, &saved_state) < 0)
        return error_set_errno(error, errno, "read the terminal's state");
    struct termios raw = saved_state;
    cfmakeraw(&raw);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0)
        return error_set_errno(error, errno, "set the terminal to raw mode");
    is_raw = true;
    if (!registered)
        atexit(terminal_restore);
    registered = true;
    return true;
}

bool terminal_size(int *ret_height, int *ret_width)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
        return false;
    *ret_height = size.ws_row;
    *ret_width = size.ws_col;
    return size.ws_row || size.ws_col;
}

/* One key: a character, or ctrl- and one of a-z @ [ \ ] ^ _. */
static bool parse_key(const char *key, guint8 *ret)
{
    size_t length = strlen(key);
    if (length == 1) {
        *ret = (guint8)key[0];
        return true;
    }
    if (!g_str_has_prefix(key, "ctrl-") || length != 6)
        return false;
    char c = key[5];
    if (c >= 'a' && c <= 'z')
        *ret = (guint8)(c - 'a' + 1);
    else if (c == '@')
        *ret = 0;
    else if (c >= '[' && c <= '_')
        *ret = (guint8)(c - '[' + 27);
    else
        return false;
    return true;
}

bool detach_keys_parse(const char *text, GByteArray *ret, GError **error)
{
    if (!text || !*text)
        return true;
    g_auto(GStrv) keys = g_strsplit(text, ",", -1);
    for (char **key = keys; *key; key++) {
        guint8 byte;
        if (!parse_key(*key, &byte))
            return error_set(error, TARE_ERROR_INVALID, "invalid detach keys (%s): Unknown character: '%s'", text, *key);
        g_byte_array_append(ret, &byte, 1);
    }
    return true;
}

int signals_open(void)
{
    sigset_t set;
    sigfillset(&set);
    static const int ours[] = { SIGCHLD, SIGPIPE, SIGURG, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTTIN, SIGTTOU };
    for (size_t i = 0; i < G_N_ELEMENTS(ours); i++)
        sigdelset(&set, ours[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

const char *signal_name(int number, char room[16])
{
    static const struct {
        int number;
        const char *name;
    } names[] = { { SIGHUP, "HUP" },   { SIGINT, "INT" },       { SIGQUIT, "QUIT" },  { SIGTERM, "TERM" }, { SIGUSR1, "USR1" },
                  { SIGUSR2, "USR2" }, { SIGALRM, "ALRM" },     { SIGCONT, "CONT" },  { SIGTSTP, "TSTP" }, { SIGIO, "IO" },
                  { SIGPROF, "PROF" }, { SIGVTALRM, "VTALRM" }, { SIGTRAP, "TRAP" },  { SIGXCPU, "XCPU" }, { SIGXFSZ, "XFSZ" },
                  { SIGPWR, "PWR" },   { SIGSYS, "SYS" },       { SIGWINCH, "WINCH" } };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (names[i].number == number)
            return names[i].name;
    if (number < SIGRTMIN || number > SIGRTMAX)
        return NULL;
    if (number == SIGRTMIN)
        g_strlcpy(room, "RTMIN", 16);
    else
        g_snprintf(room, 16, "RTMIN+%d", number - SIGRTMIN);
    return room;
}
