/* Variables and quotes in the arguments of instructions, as a shell would, within bounds. */
#include "build/build-internal.h"

#include <string.h>

#define EXPAND_DEPTH_MAX 64

struct expansion {
    const char *at;
    GHashTable *variables;
    char escape;
    unsigned depth;
    bool keep_escapes; /* in a pattern, which has its own use for them */
    bool plain_quotes; /* in a here-document */
    GPtrArray *unset;  /* names without a value go here, or NULL */
};

/* What is being built: the result, and the same split into words at unquoted blanks. */
struct result {
    GString *text;
    GString *word;
    GPtrArray *words; /* NULL where nobody wants words */
};

static bool expand_until(struct expansion *in, char stop, struct result *out, GError **error);

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void end_word(struct result *out)
{
    if (out->words && out->word->len > 0) {
        g_ptr_array_add(out->words, g_strdup(out->word->str));
        g_string_truncate(out->word, 0);
    }
}

static void add_quoted(struct result *out, const char *text, gsize length)
{
    g_string_append_len(out->text, text, (gssize)length);
    if (out->words)
        g_string_append_len(out->word, text, (gssize)length);
}

static void add_splitting(struct result *out, const char *text, gsize length)
{
    g_string_append_len(out->text, text, (gssize)length);
    if (!out->words)
        return;
    for (gsize i = 0; i < length; i++) {
        if (is_space(text[i]))
            end_word(out);
        else
            g_string_append_c(out->word, text[i]);
    }
}

static gsize character_length(const char *at)
{
    gunichar c = g_utf8_get_char_validated(at, -1);

    return c == (gunichar)-1 || c == (gunichar)-2 ? 1 : (gsize)(g_utf8_next_char(at) - at);
}

/* A name after "$": digits alone, one special character, or letters, digits and "_". Empty when there is none. */
static char *take_name(struct expansion *in)
{
    const char *start = in->at;

    if (g_ascii_isdigit(*in->at)) {
        while (g_ascii_isdigit(*in->at))
            in->at++;
    } else if (*in->at && strchr("@*#?-$!", *in->at)) {
        in->at++;
    } else {
        while (*in->at) {
            gunichar c = g_utf8_get_char_validated(in->at, -1);

            if (c == (gunichar)-1 || c == (gunichar)-2 || (c != '_' && !g_unichar_isalpha(c) && !g_unichar_isdigit(c)))
                break;
            in->at = g_utf8_next_char(in->at);
        }
    }
    return g_strndup(start, (gsize)(in->at - start));
}

static const char *value_of(const struct expansion *in, const char *name)
{
    const char *value = g_hash_table_lookup(in->variables, name);

    if (!value && in->unset && !g_ptr_array_find_with_equal_func(in->unset, name, g_str_equal, NULL))
        g_ptr_array_add(in->unset, g_strdup(name));
    return value;
}

/* The word after ${name- ${name:+ and so on, up to stop. */
static char *take_operand(struct expansion *in, char stop, bool is_pattern, GError **error)
{
    struct result operand = { .text = g_string_new(NULL) };
    g_autoptr(GError) local = NULL;
    bool kept = in->keep_escapes, good;

    in->keep_escapes = is_pattern;
    good = expand_until(in, stop, &operand, &local);
    in->keep_escapes = kept;
    if (!good) {
        g_string_free(operand.text, TRUE);
        if (!*in->at && stop == '/')
            error_set(error, TARE_ERROR_INVALID, "syntax error: missing '/' in ${}");
        else if (!*in->at)
            error_set(error, TARE_ERROR_INVALID, "syntax error: missing '}'");
        else
            g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    return g_string_free(operand.text, FALSE);
}

/* operator: one of - + ?; null_counts: there was a colon, so an empty value is as good as none. */
static char *choose(const char *name, const char *value, char operator, bool null_counts, const char *operand, GError **error)
{
    bool there = value && !(null_counts && !*value);

    switch (operator) {
    case '-':
        return g_strdup(there ? value : operand);
    case '+':
        return g_strdup(there ? operand : "");
    default:
        if (there)
            return g_strdup(value);
        if (*operand)
            error_set(error, TARE_ERROR_INVALID, "%s: %s", name, operand);
        else
            error_set(error, TARE_ERROR_INVALID, "%s: is not allowed to be %s", name, value ? "empty" : "unset");
        return NULL;
    }
}

/* ${name#pattern} ${name%%pattern}: at the operator. A name without a value has an empty one. */
static char *expand_trimmed(struct expansion *in, const char *value, GError **error)
{
    char operator= * in->at++;
    g_autofree char *operand = take_operand(in, '}', true, error);
    char *trimmed;
    bool greedy;

    if (!operand)
        return NULL;
    greedy = operand[0] == operator;
    return expand_trim(value ? value : "", operand + greedy, operator== '%', greedy, &trimmed, error) ? trimmed : NULL;
}

/* ${name/pattern/replacement}: at the first slash. */
static char *expand_replaced(struct expansion *in, const char *value, GError **error)
{
    g_autofree char *pattern = NULL, *replacement = NULL;
    char *replaced;
    bool all = in->at[1] == '/';

    in->at += 1 + all;
    pattern = take_operand(in, '/', true, error);
    replacement = pattern ? take_operand(in, '}', true, error) : NULL;
    return replacement && expand_replace(value ? value : "", pattern, replacement, all, &replaced, error) ? replaced : NULL;
}

static char *expand_chosen(struct expansion *in, const char *name, const char *value, GError **error)
{
    bool null_counts = *in->at == ':';
    g_autofree char *operand = NULL;
    char operator;

    in->at += null_counts;
    operator= * in->at;
    if (!operator|| !strchr("-+?", operator)) {
        if (null_counts && operator)
            error_set(error, TARE_ERROR_INVALID, "unsupported modifier (%.*s) in substitution", (int)character_length(in->at),
                      in->at);
        else
            error_set(error, TARE_ERROR_INVALID, "missing ':' in substitution");
        return NULL;
    }
    in->at++;
    operand = take_operand(in, '}', false, error);
    return operand ? choose(name, value, operator, null_counts, operand, error) : NULL;
}

static char *expand_braced(struct expansion *in, GError **error)
{
    g_autofree char *name = NULL;
    const char *value;

    if (!*in->at) {
        error_set(error, TARE_ERROR_INVALID, "syntax error: missing '}'");
        return NULL;
    }
    if (strchr("{}:", *in->at)) {
        error_set(error, TARE_ERROR_INVALID, "syntax error: bad substitution");
        return NULL;
    }
    name = take_name(in);
    value = value_of(in, name);
    switch (*in->at) {
    case '}':
        in->at++;
        return g_strdup(value ? value : "");
    case '#':
    case '%':
        return expand_trimmed(in, value, error);
    case '/':
        return expand_replaced(in, value, error);
    default:
        return expand_chosen(in, name, value, error);
    }
}

/* At "$". */
static char *expand_dollar(struct expansion *in, GError **error)
{
    g_autofree char *name = NULL;
    const char *value;

    in->at++;
    if (*in->at == '{') {
        char *text;

        in->at++;
        if (++in->depth > EXPAND_DEPTH_MAX) {
            error_set(error, TARE_ERROR_INVALID, "substitutions are nested too deeply");
            return NULL;
        }
        text = expand_braced(in, error);
        in->depth--;
        return text;
    }
    name = take_name(in);
    if (!*name)
        return g_strdup("$");
    value = value_of(in, name);
    return g_strdup(value ? value : "");
}

static bool expand_single_quoted(struct expansion *in, struct result *out, GError **error)
{
    const char *end = strchr(++in->at, '\'');

    if (!end) {
        in->at += strlen(in->at);
        return error_set(error, TARE_ERROR_INVALID, "unexpected end of statement while looking for matching single-quote");
    }
    add_quoted(out, in->at, (gsize)(end - in->at));
    in->at = end + 1;
    return true;
}

static bool expand_double_quoted(struct expansion *in, struct result *out, GError **error)
{
    for (in->at++; *in->at != '"';) {
        if (!*in->at)
            return error_set(error, TARE_ERROR_INVALID, "unexpected end of statement while looking for matching double-quote");
        if (*in->at == '$') {
            g_autofree char *value = expand_dollar(in, error);

            if (!value)
                return false;
            add_quoted(out, value, strlen(value));
            continue;
        }
        if (*in->at == in->escape) {
            if (in->keep_escapes)
                add_quoted(out, in->at, 1);
            if (!in->at[1]) {
                in->at++;
                continue;
            }
            if (in->at[1] == '"' || in->at[1] == '$' || in->at[1] == in->escape)
                in->at++;
        }
        add_quoted(out, in->at, 1);
        in->at++;
    }
    in->at++;
    return true;
}

static bool expand_variable(struct expansion *in, struct result *out, GError **error)
{
    g_autofree char *value = expand_dollar(in, error);

    if (!value)
        return false;
    add_splitting(out, value, strlen(value));
    return true;
}

/* To the end (stop 0) or to the character stop, which is taken too. */
static bool expand_until(struct expansion *in, char stop, struct result *out, GError **error)
{
    while (*in->at) {
        char c = *in->at;
        bool good = true;

        if (out->text->len > EXPAND_RESULT_MAX)
            return error_set(error, TARE_ERROR_TOO_LARGE, "the result is longer than %u bytes", EXPAND_RESULT_MAX);
        if (stop && c == stop) {
            in->at++;
            return true;
        }
        if (c == '$') {
            good = expand_variable(in, out, error);
        } else if (c == '\'' && !in->plain_quotes) {
            good = expand_single_quoted(in, out, error);
        } else if (c == '"' && !in->plain_quotes) {
            good = expand_double_quoted(in, out, error);
        } else if (c == in->escape) {
            if (in->keep_escapes)
                add_quoted(out, in->at, 1);
            in->at++;
            if (*in->at) {
                gsize length = character_length(in->at);

                add_quoted(out, in->at, length);
                in->at += length;
            }
        } else {
            add_splitting(out, in->at++, 1);
        }
        if (!good)
            return false;
    }
    if (stop)
        return error_set(error, TARE_ERROR_INVALID, "unexpected end of statement while looking for matching %c", stop);
    return true;
}

static bool expand_all(struct expansion *in, const char *word, struct result *out, GError **error)
{
    in->at = word;
    if (!expand_until(in, '\0', out, error)) {
        g_autofree char *quoted = go_quote(word);

        g_prefix_error(error, "failed to process %s: ", quoted);
        return false;
    }
    return true;
}

static char *expand_to_text(struct expansion *in, const char *word, GError **error)
{
    struct result out = { .text = g_string_new(NULL) };
    bool good = expand_all(in, word, &out, error);

    return g_string_free(out.text, !good);
}

char *expand_word(const char *word, GHashTable *variables, char escape, GError **error)
{
    struct expansion in = { .variables = variables, .escape = escape };

    return expand_to_text(&in, word, error);
}

char *expand_text(const char *text, GHashTable *variables, GError **error)
{
    struct expansion in = { .variables = variables, .escape = '\\', .plain_quotes = true };

    return expand_to_text(&in, text, error);
}

void expand_find_unset(const char *word, GHashTable *variables, char escape, GPtrArray *unset)
{
    struct expansion in = { .variables = variables, .escape = escape, .unset = unset };

    g_free(expand_to_text(&in, word, NULL));
}

char **expand_words(const char *word, GHashTable *variables, char escape, GError **error)
{
    struct result out = { .text = g_string_new(NULL),
                          .word = g_string_new(NULL),
                          .words = g_ptr_array_new_with_free_func(g_free) };
    struct expansion in = { .variables = variables, .escape = escape };
    bool good = expand_all(&in, word, &out, error);

    end_word(&out);
    g_string_free(out.text, TRUE);
    g_string_free(out.word, TRUE);
    if (!good) {
        g_ptr_array_unref(out.words);
        return NULL;
    }
    g_ptr_array_add(out.words, NULL);
    return (char **)g_ptr_array_free(out.words, FALSE);
}
