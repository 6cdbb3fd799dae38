#include "base/size.h"

static char *with_units(double value, double base, const char *const *units, int digits)
{
    size_t i = 0;
    for (; value >= base && units[i + 1]; i++)
        value /= base;
    char number[32], format[8];
    g_snprintf(format, sizeof format, "%%.%dg", digits);
    g_ascii_formatd(number, sizeof number, format, value);
    return g_strconcat(number, units[i], NULL);
}

char *size_human(guint64 bytes, int digits)
{
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB", NULL };
    return with_units((double)bytes, 1000, units, digits);
}

char *size_human_binary(guint64 bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", NULL };
    return with_units((double)bytes, 1024, units, 4);
}
