/* The patterns of ${x#p}, ${x%p} and ${x/p/r}: * and ? and characters, \ before one that is meant itself. Pure, and bounded: a
 * hostile pattern runs out of its budget. */
#include "build/build-internal.h"

#include <string.h>

#define COMPARISONS_MAX (1u << 25)

struct token {
    const char *text; /* NULL: any character */
    gsize length;
};

/* What stands between two stars. */
struct segment {
    GArray *tokens;
};

struct pattern {
    GPtrArray *segments; /* of struct segment *, at least one */
    const char *value, *end;
    guint budget;
};

static void segment_free(struct segment *segment)
{
    g_array_unref(segment->tokens);
    g_free(segment);
}

static gsize character_length(const char *at)
{
    gunichar c = g_utf8_get_char_validated(at, -1);

    return c == (gunichar)-1 || c == (gunichar)-2 ? 1 : (gsize)g_unichar_to_utf8(c, NULL);
}

static struct segment *add_segment(struct pattern *pattern)
{
    struct segment *segment = g_new0(struct segment, 1);

    segment->tokens = g_array_new(FALSE, FALSE, sizeof(struct token));
    g_ptr_array_add(pattern->segments, segment);
    return segment;
}

static bool pattern_init(struct pattern *pattern, const char *text, const char *value, GError **error)
{
    struct segment *segment;

    *pattern = (struct pattern){ .value = value, .end = value + strlen(value), .budget = COMPARISONS_MAX };
    pattern->segments = g_ptr_array_new_with_free_func((GDestroyNotify)segment_free);
    segment = add_segment(pattern);
    while (*text) {
        struct token token = { .text = text, .length = character_length(text) };

        if (*text == '*') {
            segment = add_segment(pattern);
            text++;
            continue;
        }
        if (*text == '\\') {
            if (!text[1])
                return error_set(error, TARE_ERROR_INVALID, "invalid pattern in substitution: escape at its end");
            token = (struct token){ .text = text + 1, .length = character_length(text + 1) };
            text++;
        } else if (*text == '?') {
            token.text = NULL;
        }
        text += token.length;
        g_array_append_val(segment->tokens, token);
    }
    return true;
}

/* Where the segment ends that begins at at, or NULL. */
static const char *match_segment(struct pattern *pattern, guint index, const char *at)
{
    const GArray *tokens = ((const struct segment *)pattern->segments->pdata[index])->tokens;

    for (guint i = 0; i < tokens->len; i++) {
        const struct token *token = &g_array_index(tokens, struct token, i);

        if (at == pattern->end || pattern->budget == 0)
            return NULL;
        pattern->budget--;
        if (token->text && (token->length > (gsize)(pattern->end - at) || memcmp(at, token->text, token->length) != 0))
            return NULL;
        at += token->text ? token->length : character_length(at);
    }
    return at;
}

/* The first place from at on where the segment matches; its end. */
static const char *find_segment(struct pattern *pattern, guint index, const char *at)
{
    for (;; at += character_length(at)) {
        const char *end = match_segment(pattern, index, at);

        if (end || at == pattern->end || pattern->budget == 0)
            return end;
        pattern->budget--;
    }
}

/* All segments but the last, each as early as can be. */
static const char *match_first(struct pattern *pattern, const char *start)
{
    const char *at = pattern->segments->len > 1 ? match_segment(pattern, 0, start) : start;

    for (guint i = 1; at && i + 1 < pattern->segments->len; i++)
        at = find_segment(pattern, i, at);
    return at;
}

/* The end of a match that begins at start: the shortest, the longest, or the one at the value's end. NULL for none. */
enum extent { SHORTEST, LONGEST, WHOLE };
static const char *match_at(struct pattern *pattern, const char *start, enum extent extent)
{
    guint last = pattern->segments->len - 1;
    const char *at = match_first(pattern, start), *best = NULL;

    if (!at)
        return NULL;
    if (pattern->segments->len <= 1) {
        best = match_segment(pattern, 0, at);
        return extent != WHOLE || best == pattern->end ? best : NULL;
    }
    if (extent == SHORTEST)
        return find_segment(pattern, last, at);
    for (;; at += character_length(at)) {
        const char *end = match_segment(pattern, last, at);

        if (end && (extent == LONGEST || end == pattern->end))
            best = end;
        if (at == pattern->end || pattern->budget == 0)
            return best;
        pattern->budget--;
    }
}

static bool finish(struct pattern *pattern, char *result, char **ret, GError **error)
{
    g_ptr_array_unref(pattern->segments);
    if (pattern->budget > 0) {
        *ret = result;
        return true;
    }
    g_free(result);
    return error_set(error, TARE_ERROR_INVALID, "the pattern of a substitution takes too long to match");
}

bool expand_trim(const char *value, const char *text, bool is_suffix, bool is_greedy, char **ret, GError **error)
{
    struct pattern pattern;
    const char *cut = NULL;

    if (!pattern_init(&pattern, text, value, error)) {
        g_ptr_array_unref(pattern.segments);
        return false;
    }
    if (!is_suffix) {
        cut = match_at(&pattern, value, is_greedy ? LONGEST : SHORTEST);
        return finish(&pattern, g_strdup(cut ? cut : value), ret, error);
    }
    /* The longest suffix begins first, the shortest last. */
    for (const char *at = value;; at += character_length(at)) {
        bool is_match = match_at(&pattern, at, WHOLE) != NULL;

        if (is_match)
            cut = at;
        if ((is_match && is_greedy) || at == pattern.end || pattern.budget == 0)
            break;
    }
    return finish(&pattern, cut ? g_strndup(value, (gsize)(cut - value)) : g_strdup(value), ret, error);
}

bool expand_replace(const char *value, const char *text, const char *replacement, bool all, char **ret, GError **error)
{
    struct pattern pattern;
    GString *out;
    bool done = false;

    if (!pattern_init(&pattern, text, value, error)) {
        g_ptr_array_unref(pattern.segments);
        return false;
    }
    out = g_string_new(NULL);
    for (const char *at = value;;) {
        const char *end = done || pattern.budget == 0 ? NULL : match_at(&pattern, at, LONGEST);
        gsize step;

        if (end) {
            g_string_append(out, replacement);
            done = !all;
        }
        if (out->len > EXPAND_RESULT_MAX)
            pattern.budget = 0;
        if (end && end > at) {
            at = end;
            if (at == pattern.end)
                break;
            continue;
        }
        if (at == pattern.end || pattern.budget == 0)
            break;
        step = character_length(at);
        g_string_append_len(out, at, (gssize)step);
        at += step;
    }
    return finish(&pattern, g_string_free(out, FALSE), ret, error);
}
