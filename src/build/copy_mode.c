/* --chmod: octal, or as chmod(1) has it: u+x,go=rX. Pure. */
#include "base/parse.h"
#include "build/build-internal.h"

#include <string.h>

#define USER 04700u
#define GROUP 02070u
#define OTHER 00007u
#define STICKY 01000u

struct change {
    unsigned who, bits;
    char operator;
};

static unsigned take_who(const char **at)
{
    unsigned who = 0;

    for (;; (*at)++)
        switch (**at) {
        case 'u':
            who |= USER;
            break;
        case 'g':
            who |= GROUP;
            break;
        case 'o':
            who |= OTHER;
            break;
        case 'a':
            who |= USER | GROUP | OTHER | STICKY;
            break;
        default:
            return who;
        }
}

/* What one of three has, for all three: 5 → 0555. */
static unsigned spread(unsigned three)
{
    return (three & 7) * 0111;
}

static bool take_bits(const char **at, mode_t mode, bool is_directory, unsigned *ret)
{
    *ret = 0;
    if (**at && strchr("ugo", **at)) {
        *ret = spread(**at == 'u' ? mode >> 6 : **at == 'g' ? mode >> 3 : mode);
        (*at)++;
        return true;
    }
    for (; **at && !strchr(",+-=", **at); (*at)++)
        switch (**at) {
        case 'r':
            *ret |= 0444;
            break;
        case 'w':
            *ret |= 0222;
            break;
        case 'x':
            *ret |= 0111;
            break;
        case 'X':
            *ret |= is_directory || (mode & 0111) ? 0111 : 0;
            break;
        case 's':
            *ret |= 06000;
            break;
        case 't':
            *ret |= STICKY;
            break;
        default:
            return false;
        }
    return true;
}

static mode_t apply(mode_t mode, const struct change *change)
{
    unsigned bits = change->bits & change->who;

    switch (change->operator) {
    case '+':
        return mode | bits;
    case '-':
        return mode & ~bits;
    default:
        return (mode & ~change->who) | bits;
    }
}

bool copy_mode_apply(const char *text, mode_t mode, bool is_directory, mode_t *ret)
{
    guint64 octal;

    if (parse_octal(text, 07777, &octal)) {
        *ret = (mode_t)octal;
        return true;
    }
    mode &= 07777;
    for (const char *at = text;; at++) {
        struct change change = { .who = take_who(&at) };

        if (!change.who)
            change.who = USER | GROUP | OTHER | STICKY;
        if (!*at || !strchr("+-=", *at))
            return false;
        while (*at && strchr("+-=", *at)) {
            change.operator= * at++;
            if (!take_bits(&at, mode, is_directory, &change.bits))
                return false;
            mode = apply(mode, &change);
        }
        if (!*at) {
            *ret = mode;
            return true;
        }
        if (*at != ',')
            return false;
    }
}

bool copy_mode_check(const char *text, GError **error)
{
    mode_t mode;

    return copy_mode_apply(text, 0644, false, &mode) ||
           error_set(error, TARE_ERROR_INVALID,
                     "invalid chmod parameter: '%s'. it should be octal string and between 0 and 07777, or symbolic as u+x,go=rX",
                     text);
}
