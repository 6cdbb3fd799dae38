/* The one strict parser of numbers, sizes, booleans and durations that come from outside. The whole text must match; no sign,
 * blank or base prefix is skipped in silence; ranges are checked. On failure the functions return false and leave the output
 * alone: the caller words the error. */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Decimal digits only, with an optional leading '-' for the signed one. */
bool parse_uint(const char *text, guint64 max, guint64 *ret);
bool parse_int(const char *text, gint64 min, gint64 max, gint64 *ret);
/* Octal digits only ("0644", "755"). */
bool parse_octal(const char *text, guint64 max, guint64 *ret);

/* go-units RAMInBytes: "512m", "1.5GiB", "64kb", "10" → bytes, powers of 1024. */
bool parse_ram_bytes(const char *text, gint64 *ret);
/* Go's strconv.ParseBool: 1 t T TRUE true True 0 f F FALSE false False. */
bool parse_bool(const char *text, bool *ret);
/* Go's time.ParseDuration: "1h2m3.5s", "300ms", "0" → nanoseconds. */
bool parse_duration_ns(const char *text, gint64 *ret);
