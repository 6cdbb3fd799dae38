/* Points in time as nanoseconds since 1970 (gint64), and the texts that Docker uses for them. */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define TIMESTAMP_ROOM 48
#define TIMESTAMP_ZERO "0001-01-01T00:00:00Z" /* Go's zero time: what 0 is written as */

gint64 timestamp_now(void);
/* RFC 3339 with nanoseconds, trailing zeros cut, in UTC ("2026-11-24T07:17:03.5Z"), as Go's RFC3339Nano. 0 gives TIMESTAMP_ZERO.
 */
void timestamp_format(gint64 ns, char ret[TIMESTAMP_ROOM]);
/* The same with all nine digits, as the json-file log's and `docker logs -t` have it. */
void timestamp_format_fixed(gint64 ns, char ret[TIMESTAMP_ROOM]);
/* RFC 3339 with any offset and fraction; the zero time gives 0. */
bool timestamp_parse(const char *text, gint64 *ret);
/* What a user gives as a time, as moby reads it: a duration before now ("1h30m"), a date with or without a time of the day and an
 * offset ("2026-11-24", "2026-11-24T07:17", "2026-11-24T07:17:03.5Z"; without one it is the local time with today's offset), or
 * seconds since 1970 with or without a fraction ("1700000000.5"). */
bool timestamp_parse_given(const char *text, gint64 now_ns, gint64 *ret);
/* go-units HumanDuration: "Less than a second", "5 seconds", "About a minute", "3 weeks"; g_free. */
char *duration_human(gint64 ns);
/* Go's time.Duration.String(): "1m30s", "1.5s", "250ms"; g_free. */
char *duration_go(gint64 ns);
