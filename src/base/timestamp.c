#include "base/timestamp.h"

#include "base/parse.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS_PER_SECOND G_GINT64_CONSTANT(1000000000)

gint64 timestamp_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

static void format_at(gint64 ns, bool fixed, char ret[TIMESTAMP_ROOM])
{
    if (ns == 0) {
        g_strlcpy(ret, TIMESTAMP_ZERO, TIMESTAMP_ROOM);
        return;
    }
    gint64 seconds = ns / NS_PER_SECOND, rest = ns % NS_PER_SECOND;
    if (rest < 0) {
        rest += NS_PER_SECOND;
        seconds--;
    }
    time_t when = (time_t)seconds;
    struct tm utc;
    gmtime_r(&when, &utc);
    char date[24], fraction[12] = "";
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
    if (rest || fixed)
        g_snprintf(fraction, sizeof fraction, ".%09" G_GINT64_FORMAT, rest);
    for (size_t n = strlen(fraction); !fixed && n > 0 && fraction[n - 1] == '0'; n--)
        fraction[n - 1] = '\0';
    g_snprintf(ret, TIMESTAMP_ROOM, "%s%sZ", date, fraction);
}

void timestamp_format(gint64 ns, char ret[TIMESTAMP_ROOM])
{
    format_at(ns, false, ret);
}

void timestamp_format_fixed(gint64 ns, char ret[TIMESTAMP_ROOM])
{
    format_at(ns, true, ret);
}

/* Fixed-width decimal field. */
static bool field(const char **at, int width, int *ret)
{
    int value = 0;
    for (int i = 0; i < width; i++, (*at)++) {
        if (!g_ascii_isdigit(**at))
            return false;
        value = value * 10 + (**at - '0');
    }
    *ret = value;
    return true;
}

static bool literal(const char **at, char wanted)
{
    if (g_ascii_toupper(**at) != wanted)
        return false;
    (*at)++;
    return true;
}

static bool parse_fraction(const char **at, gint64 *ret)
{
    gint64 value = 0, scale = NS_PER_SECOND;
    *ret = 0;
    if (**at != '.')
        return true;
    (*at)++;
    if (!g_ascii_isdigit(**at))
        return false;
    for (; g_ascii_isdigit(**at); (*at)++)
        if (scale > 1) {
            value = value * 10 + (**at - '0');
            scale /= 10;
        }
    *ret = value * scale;
    return true;
}

static bool parse_offset(const char **at, int *ret_seconds)
{
    int hours, minutes;
    *ret_seconds = 0;
    if (literal(at, 'Z'))
        return true;
    int sign = **at == '-' ? -1 : 1;
    if (**at != '-' && **at != '+')
        return false;
    (*at)++;
    if (!field(at, 2, &hours) || !literal(at, ':') || !field(at, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret_seconds = sign * (hours * 3600 + minutes * 60);
    return true;
}

static bool parse_date(const char **at, struct tm *tm)
{
    return field(at, 4, &tm->tm_year) && literal(at, '-') && field(at, 2, &tm->tm_mon) && literal(at, '-') &&
           field(at, 2, &tm->tm_mday);
}

/* "T07:17:03.5"; short: minutes and seconds may be missing. */
static bool parse_clock(const char **at, struct tm *tm, gint64 *ret_fraction, bool may_be_short)
{
    *ret_fraction = 0;
    if (!literal(at, 'T') || !field(at, 2, &tm->tm_hour))
        return false;
    if (may_be_short && **at != ':')
        return true;
    if (!literal(at, ':') || !field(at, 2, &tm->tm_min))
        return false;
    if (may_be_short && **at != ':')
        return true;
    return literal(at, ':') && field(at, 2, &tm->tm_sec) && parse_fraction(at, ret_fraction);
}

static bool join(struct tm *tm, gint64 fraction, gint64 offset, gint64 *ret)
{
    if (tm->tm_mon < 1 || tm->tm_mon > 12 || tm->tm_year < 1 || tm->tm_hour > 23 || tm->tm_min > 59 || tm->tm_sec > 60 ||
        !g_date_valid_dmy((GDateDay)tm->tm_mday, (GDateMonth)tm->tm_mon, (GDateYear)tm->tm_year))
        return false;
    if (tm->tm_year == 1) {
        *ret = 0;
        return true;
    }
    if (tm->tm_year < 1678 || tm->tm_year > 2261)
        return false;
    tm->tm_year -= 1900;
    tm->tm_mon -= 1;
    *ret = ((gint64)timegm(tm) - offset) * NS_PER_SECOND + fraction;
    return true;
}

bool timestamp_parse(const char *text, gint64 *ret)
{
    struct tm tm = { 0 };
    gint64 fraction;
    int offset;
    const char *at = text;
    return text && parse_date(&at, &tm) && parse_clock(&at, &tm, &fraction, false) && parse_offset(&at, &offset) && !*at &&
           join(&tm, fraction, offset, ret);
}

static int local_offset(gint64 now_ns)
{
    time_t now = (time_t)(now_ns / NS_PER_SECOND);
    struct tm local = { 0 };
    localtime_r(&now, &local);
    return (int)local.tm_gmtoff;
}

static bool parse_local(const char *text, gint64 now_ns, gint64 *ret)
{
    struct tm tm = { 0 };
    gint64 fraction = 0;
    int offset;
    const char *at = text;
    if (!parse_date(&at, &tm) || (g_ascii_toupper(*at) == 'T' && !parse_clock(&at, &tm, &fraction, true)))
        return false;
    if (!*at)
        offset = local_offset(now_ns);
    else if (!parse_offset(&at, &offset) || *at)
        return false;
    return join(&tm, fraction, offset, ret);
}

static bool parse_seconds(const char *text, gint64 *ret)
{
    guint64 seconds;
    gint64 fraction = 0;
    size_t length = strcspn(text, ".");
    g_autofree char *whole = g_strndup(text, length);
    const char *at = text + length;
    if (!parse_uint(whole, G_MAXINT64 / NS_PER_SECOND - 1, &seconds) ||
        (strcmp(at, ".") != 0 && !(parse_fraction(&at, &fraction) && !*at)))
        return false;
    *ret = (gint64)seconds * NS_PER_SECOND + fraction;
    return true;
}

bool timestamp_parse_given(const char *text, gint64 now_ns, gint64 *ret)
{
    gint64 ago, then;
    if (strcmp(text, "0") != 0 && parse_duration_ns(text, &ago)) {
        if (__builtin_sub_overflow(now_ns, ago, &then))
            return false;
        *ret = then;
        return true;
    }
    return parse_local(text, now_ns, ret) || parse_seconds(text, ret);
}

char *duration_human(gint64 ns)
{
    gint64 seconds = ns / NS_PER_SECOND, minutes = seconds / 60;
    gint64 hours = (seconds + 1800) / 3600; /* go-units rounds hours, and cuts the rest */
    if (seconds < 1)
        return g_strdup("Less than a second");
    if (seconds == 1)
        return g_strdup("1 second");
    if (seconds < 60)
        return g_strdup_printf("%d seconds", (int)seconds);
    if (minutes == 1)
        return g_strdup("About a minute");
    if (minutes < 60)
        return g_strdup_printf("%d minutes", (int)minutes);
    if (hours == 1)
        return g_strdup("About an hour");
    if (hours < 48)
        return g_strdup_printf("%d hours", (int)hours);
    if (hours < 24 * 7 * 2)
        return g_strdup_printf("%d days", (int)(hours / 24));
    if (hours < 24 * 30 * 2)
        return g_strdup_printf("%d weeks", (int)(hours / 24 / 7));
    if (hours < 24 * 365 * 2)
        return g_strdup_printf("%d months", (int)(hours / 24 / 30));
    return g_strdup_printf("%d years", (int)(hours / 24 / 365));
}

/* number/unit as a decimal fraction without trailing zeros. */
static char *decimal(gint64 number, gint64 unit, const char *suffix)
{
    char digits[16];
    int width = 0, n;
    gint64 fraction = number % unit;

    if (fraction == 0)
        return g_strdup_printf("%" G_GINT64_FORMAT "%s", number / unit, suffix);
    for (gint64 left = unit; left > 1; left /= 10)
        width++;
    n = g_snprintf(digits, sizeof digits, "%0*" G_GINT64_FORMAT, width, fraction);
    while (n > 0 && digits[n - 1] == '0')
        digits[--n] = '\0';
    return g_strdup_printf("%" G_GINT64_FORMAT ".%s%s", number / unit, digits, suffix);
}

char *duration_go(gint64 ns)
{
    const gint64 second = 1000000000;
    if (ns < 0) {
        g_autofree char *positive = duration_go(ns == G_MININT64 ? G_MAXINT64 : -ns);
        return g_strconcat("-", positive, NULL);
    }
    if (ns == 0)
        return g_strdup("0s");
    if (ns < 1000)
        return decimal(ns, 1, "ns");
    if (ns < 1000000)
        return decimal(ns, 1000, "µs");
    if (ns < second)
        return decimal(ns, 1000000, "ms");
    g_autofree char *seconds = decimal(ns % (60 * second), second, "s");
    gint64 minutes = ns / (60 * second);
    if (minutes == 0)
        return g_steal_pointer(&seconds);
    if (minutes < 60)
        return g_strdup_printf("%" G_GINT64_FORMAT "m%s", minutes, seconds);
    return g_strdup_printf("%" G_GINT64_FORMAT "h%" G_GINT64_FORMAT "m%s", minutes / 60, minutes % 60, seconds);
}
