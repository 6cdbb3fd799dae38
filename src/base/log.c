#include "base/log.h"

#include "base/fd.h"
#include "base/timestamp.h"

#include <string.h>

static int lowest_level = LOG_LEVEL_INFO;

static const char *const level_names[] = { "debug", "info", "warn", "error" };

void log_set_level(enum log_level lowest)
{
    g_atomic_int_set(&lowest_level, (int)lowest);
}

bool log_level_parse(const char *text, enum log_level *ret)
{
    for (size_t i = 0; i < G_N_ELEMENTS(level_names); i++)
        if (g_strcmp0(text, level_names[i]) == 0)
            return *ret = (enum log_level)i, true;
    if (g_strcmp0(text, "fatal") == 0)
        return *ret = LOG_LEVEL_ERROR, true;
    return false;
}

/* Quoted where it has anything but plain characters, so that a line stays a line. */
static void append_value(GString *line, const char *value)
{
    bool plain = *value != '\0';
    for (const char *c = value; *c && plain; c++)
        plain = g_ascii_isalnum(*c) || strchr("-_./:@+", *c);
    if (plain) {
        g_string_append(line, value);
        return;
    }
    g_string_append_c(line, '"');
    for (const char *c = value; *c; c++) {
        if (*c == '"' || *c == '\\')
            g_string_append_printf(line, "\\%c", *c);
        else if ((unsigned char)*c < 32 || *c == 127)
            g_string_append_printf(line, "\\x%02x", (unsigned char)*c);
        else
            g_string_append_c(line, *c);
    }
    g_string_append_c(line, '"');
}

static void emit(enum log_level level, const char *message, va_list pairs)
{
    char now[TIMESTAMP_ROOM];
    timestamp_format_fixed(timestamp_now(), now);
    g_autoptr(GString) line = g_string_new("time=");
    g_string_append_printf(line, "%s level=%s msg=", now, level_names[level]);
    append_value(line, message);
    for (const char *key; (key = va_arg(pairs, const char *));) {
        const char *value = va_arg(pairs, const char *);
        if (!value)
            continue;
        g_string_append_printf(line, " %s=", key);
        append_value(line, value);
    }
    g_string_append_c(line, '\n');
    fd_write_full(2, line->str, line->len);
}

void log_line(enum log_level level, const char *message, ...)
{
    if ((int)level < g_atomic_int_get(&lowest_level))
        return;
    va_list pairs;
    va_start(pairs, message);
    emit(level, message, pairs);
    va_end(pairs);
}

void log_error(const GError *error, const char *what, ...)
{
    va_list pairs;
    va_start(pairs, what);
    g_autofree char *message = g_strdup_printf("%s: %s", what, error ? error->message : "unknown error");
    emit(LOG_LEVEL_ERROR, message, pairs);
    va_end(pairs);
}
