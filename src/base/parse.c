#include "base/parse.h"

#include <string.h>

static bool parse_digits(const char *text, unsigned base, guint64 max, guint64 *ret)
{
    guint64 value = 0;
    if (!text || !*text)
        return false;
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c >= (char)('0' + base))
            return false;
        unsigned digit = (unsigned)(*c - '0');
        if (value > (max - digit) / base || digit > max)
            return false;
        value = value * base + digit;
    }
    *ret = value;
    return true;
}

bool parse_uint(const char *text, guint64 max, guint64 *ret)
{
    return parse_digits(text, 10, max, ret);
}

bool parse_octal(const char *text, guint64 max, guint64 *ret)
{
    return parse_digits(text, 8, max, ret);
}

bool parse_int(const char *text, gint64 min, gint64 max, gint64 *ret)
{
    guint64 magnitude;
    if (!text)
        return false;
    bool negative = text[0] == '-';
    if (!parse_digits(text + negative, 10, negative ? (guint64)G_MAXINT64 + 1 : G_MAXINT64, &magnitude))
        return false;
    gint64 value = negative ? (gint64)(0 - magnitude) : (gint64)magnitude;
    if (value < min || value > max)
        return false;
    *ret = value;
    return true;
}

bool parse_bool(const char *text, bool *ret)
{
    static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True", NULL };
    static const char *const no[] = { "0", "f", "F", "FALSE", "false", "False", NULL };
    if (!text)
        return false;
    if (g_strv_contains(yes, text))
        return *ret = true, true;
    if (g_strv_contains(no, text))
        return *ret = false, true;
    return false;
}

/* Digits with an optional fraction; *end is what follows. Locale-free. */
static bool parse_decimal(const char *text, const char **end, double *ret)
{
    double value = 0, scale = 1;
    size_t digits = 0;
    const char *c = text;
    for (; g_ascii_isdigit(*c); c++, digits++)
        value = value * 10 + (*c - '0');
    if (*c == '.')
        for (c++; g_ascii_isdigit(*c); c++, digits++)
            value += (*c - '0') * (scale /= 10);
    if (digits == 0 || digits > 40)
        return false;
    *end = c;
    *ret = value;
    return true;
}

bool parse_ram_bytes(const char *text, gint64 *ret)
{
    static const char units[] = "kmgtp";
    const char *suffix;
    double value;
    if (!text || !parse_decimal(text, &suffix, &value))
        return false;
    if (*suffix == ' ')
        suffix++;
    char unit = g_ascii_tolower(*suffix);
    const char *at = unit ? strchr(units, unit) : NULL;
    if (at) {
        for (const char *power = units; power <= at; power++)
            value *= 1024;
        suffix++;
        if (g_ascii_tolower(suffix[0]) == 'i' && g_ascii_tolower(suffix[1]) == 'b')
            suffix += 2;
        else if (g_ascii_tolower(suffix[0]) == 'b')
            suffix++;
    } else if (unit == 'b') {
        suffix++;
    }
    if (*suffix || value >= 9.2e18)
        return false;
    *ret = (gint64)value;
    return true;
}

struct duration_unit {
    const char *name;
    double ns;
};

bool parse_duration_ns(const char *text, gint64 *ret)
{
    static const struct duration_unit units[] = {
        { "ns", 1 },   { "us", 1e3 }, { "\u00b5s", 1e3 }, { "\u03bcs", 1e3 },
        { "ms", 1e6 }, { "s", 1e9 },  { "m", 60e9 },      { "h", 3600e9 },
    };
    if (!text)
        return false;
    bool negative = *text == '-';
    if (*text == '-' || *text == '+')
        text++;
    if (strcmp(text, "0") == 0)
        return *ret = 0, true;
    if (!*text)
        return false;
    double total = 0;
    while (*text) {
        double value;
        if (!parse_decimal(text, &text, &value))
            return false;
        size_t unit_length = 0;
        while (text[unit_length] && text[unit_length] != '.' && !g_ascii_isdigit(text[unit_length]))
            unit_length++;
        const struct duration_unit *unit = NULL;
        for (size_t i = 0; i < G_N_ELEMENTS(units); i++)
            if (strlen(units[i].name) == unit_length && strncmp(units[i].name, text, unit_length) == 0)
                unit = &units[i];
        if (!unit)
            return false;
        total += value * unit->ns;
        text += unit_length;
    }
    if (total >= 9.2e18)
        return false;
    *ret = (gint64)(negative ? -total : total);
    return true;
}
