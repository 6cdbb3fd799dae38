/* Helpers over jansson: bounded strict parsing, typed look-ups that treat null as absent, and the cleanup. */
#pragma once

#include "base/error.h"

#include <jansson.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

/* Parses one JSON value of at most max bytes (depth is bounded by jansson at 2048), rejecting duplicate keys and trailing data.
 * The error is INVALID and begins with what. */
json_t *json_parse(const char *text, size_t length, size_t max, const char *what, GError **error);

/* Compact text with Go's escapes (encoding/json: <, >, & and U+2028/9 as \u….); g_free. Keys in their order of insertion. */
char *json_text(const json_t *value);
/* The same indented by four blanks, as `docker inspect` prints. */
char *json_text_indented(const json_t *value);

/* Members; absent, null or of another type gives the fallback. Borrowed. */
const char *json_get_string(const json_t *object, const char *key, const char *fallback);
gint64 json_get_int(const json_t *object, const char *key, gint64 fallback);
bool json_get_bool(const json_t *object, const char *key, bool fallback);
json_t *json_get_object(const json_t *object, const char *key); /* NULL when absent */
json_t *json_get_array(const json_t *object, const char *key);
/* Case-insensitive member, as Go decodes request bodies; exact match first. */
json_t *json_get_folded(const json_t *object, const char *key);

/* A string array as a NULL-terminated vector (g_strfreev); NULL where absent; non-strings are skipped. */
char **json_string_array(const json_t *array);
/* The other way; NULL vector gives json null. New reference. */
json_t *json_from_strv(const char *const *strings);
/* A copy with the same values in the order of their keys, as Go writes maps; an empty one of NULL. New reference. */
json_t *json_sorted(const json_t *object);
/* json_string() that accepts any bytes: invalid UTF-8 becomes U+FFFD. New reference. */
json_t *json_string_lossy(const char *text);
