/* The log of our programs: one line on stderr, key=value: time=… level=info msg="…" container=…; libraries do not log, programs
 * do. Thread-safe. */
#pragma once

#include <glib.h>
#include <stdbool.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

void log_set_level(enum log_level lowest);
bool log_level_parse(const char *text, enum log_level *ret); /* debug, info, warn, error, fatal */

/* message, then key, value pairs of strings ending in NULL (a NULL value is left out): log_line(LOG_LEVEL_INFO, "started",
 * "container", id, NULL); */
void log_line(enum log_level level, const char *message, ...) G_GNUC_NULL_TERMINATED;
/* "what: error" and the pairs. */
void log_error(const GError *error, const char *what, ...) G_GNUC_NULL_TERMINATED;
