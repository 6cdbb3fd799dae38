/* The Engine API's filters object, decoded: {"status": {"running": true}} or, from old clients, {"status": ["running"]}. NULL is
 * "no filter". */
#pragma once

#include "base/error.h"
#include "base/json.h"

/* INVALID "Invalid filter 'x'" where a key is not in accepted (NULL-terminated) or the object is of another shape. */
bool filters_validate(const json_t *filters, const char *const *accepted, GError **error);
bool filters_has(const json_t *filters, const char *key);
/* The values given for the key, NULL-terminated, never NULL; g_strfreev. */
char **filters_values(const json_t *filters, const char *key);
/* True where the key is absent or one of its values is exactly this. */
bool filters_matches_exactly(const json_t *filters, const char *key, const char *value);
/* True where the key is absent or one of its values, taken as a regular expression (or literally), is found in the text. */
bool filters_matches(const json_t *filters, const char *key, const char *text);
/* "label" (all must match) and "label!" (none may): values are "key" or "key=value". */
bool filters_matches_labels(const json_t *filters, const json_t *labels);
/* "until": one time, as filter_time reads it. 0 where absent; more than one is INVALID. */
bool filters_until(const json_t *filters, gint64 *ret_ns, GError **error);
/* What timestamp_parse_given takes; never 0, so that the start of 1970 is not taken for no filter. */
bool filter_time(const char *text, gint64 *ret_ns, GError **error);
/* A boolean value ("1", "true", …); fallback where absent. */
bool filters_bool(const json_t *filters, const char *key, bool fallback, bool *ret, GError **error);
