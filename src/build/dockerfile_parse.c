/* One logical line → command, flags and arguments, by the kind of arguments that each instruction takes. */
#include "build/build-internal.h"

#include <string.h>

enum argument_form {
    FORM_TEXT,          /* all of the rest is one argument */
    FORM_WORDS,         /* split at blanks */
    FORM_JSON_OR_TEXT,  /* exec form, or one text */
    FORM_JSON_OR_WORDS, /* a JSON array, or split at blanks */
    FORM_NAMES,         /* words that may be quoted: NAME or NAME=value */
    FORM_PAIRS,         /* NAME=value …, or the old form NAME value */
    FORM_HEALTH,        /* a type, then FORM_JSON_OR_TEXT */
    FORM_INSTRUCTION,   /* ONBUILD */
};

static const struct {
    const char *command;
    enum argument_form form;
} forms[] = {
    { "add", FORM_JSON_OR_WORDS },
    { "arg", FORM_NAMES },
    { "cmd", FORM_JSON_OR_TEXT },
    { "copy", FORM_JSON_OR_WORDS },
    { "entrypoint", FORM_JSON_OR_TEXT },
    { "env", FORM_PAIRS },
    { "expose", FORM_WORDS },
    { "from", FORM_WORDS },
    { "healthcheck", FORM_HEALTH },
    { "label", FORM_PAIRS },
    { "maintainer", FORM_TEXT },
    { "onbuild", FORM_INSTRUCTION },
    { "run", FORM_JSON_OR_TEXT },
    { "shell", FORM_JSON_OR_TEXT },
    { "stopsignal", FORM_TEXT },
    { "user", FORM_TEXT },
    { "volume", FORM_JSON_OR_WORDS },
    { "workdir", FORM_TEXT },
};

struct arguments {
    GPtrArray *items;
    bool is_json, is_old_form;
    char escape;
};

static bool parse_arguments(struct arguments *out, const char *command, const char *rest, unsigned depth, GError **error);
static bool parse_instruction(const char *text, char escape, unsigned depth, struct dockerfile_instruction **ret, GError **error);

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static const char *skip_space(const char *at)
{
    while (is_space(*at))
        at++;
    return at;
}

static char **take_items(GPtrArray *items)
{
    g_ptr_array_add(items, NULL);
    return (char **)g_ptr_array_free(items, FALSE);
}

static void append_split(GPtrArray *items, const char *rest)
{
    while (*(rest = skip_space(rest))) {
        const char *end = rest;

        while (*end && !is_space(*end))
            end++;
        g_ptr_array_add(items, g_strndup(rest, (gsize)(end - rest)));
        rest = end;
    }
}

/* Words with their quotes and escapes kept: expansion takes them off. */
static void append_quoted_words(GPtrArray *items, const char *rest, char escape)
{
    while (*(rest = skip_space(rest))) {
        g_autoptr(GString) word = g_string_new(NULL);
        char quote = '\0';
        bool quoted = false;

        for (; *rest && (quote || !is_space(*rest)); rest++) {
            if (*rest == escape && quote != '\'') {
                if (!rest[1]) /* an escape at the end of the line is skipped */
                    continue;
                g_string_append_c(word, *rest++);
            } else if (quote && *rest == quote) {
                quote = '\0';
            } else if (!quote && (*rest == '\'' || *rest == '"')) {
                quote = *rest;
                quoted = true;
            }
            g_string_append_c(word, *rest);
        }
        if (quoted || word->len > 0)
            g_ptr_array_add(items, g_strdup(word->str));
    }
}

static bool append_pairs(struct arguments *out, const char *command, const char *rest, GError **error)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);

    append_quoted_words(words, rest, out->escape);
    if (words->len == 0)
        return true;
    if (!strchr(words->pdata[0], '=')) {
        const char *end = rest;

        while (*end && !is_space(*end))
            end++;
        if (!*end) {
            g_autofree char *name = g_ascii_strup(command, -1);

            return error_set(error, TARE_ERROR_INVALID, "%s must have two arguments", name);
        }
        out->is_old_form = true;
        g_ptr_array_add(out->items, g_strndup(rest, (gsize)(end - rest)));
        g_ptr_array_add(out->items, g_strdup(skip_space(end)));
        return true;
    }
    for (guint i = 0; i < words->len; i++) {
        const char *word = words->pdata[i], *equals = strchr(word, '=');

        if (!equals) {
            g_autofree char *quoted = go_quote(word);

            return error_set(error, TARE_ERROR_INVALID, "Syntax error - can't find = in %s. Must be of the form: name=value",
                             quoted);
        }
        g_ptr_array_add(out->items, g_strndup(word, (gsize)(equals - word)));
        g_ptr_array_add(out->items, g_strdup(equals + 1));
    }
    return true;
}

/* 1: it was a JSON array of strings; 0: no JSON, so a text; -1: an array of something else. */
static int append_json(struct arguments *out, const char *rest, GError **error)
{
    g_autoptr(json_t) array = NULL;
    json_t *item;
    size_t i;

    if (*rest != '[')
        return 0;
    array = json_parse(rest, strlen(rest), DOCKERFILE_MAX, "exec form", NULL);
    if (!json_is_array(array))
        return 0;
    json_array_foreach(array, i, item)
    {
        if (!json_is_string(item)) {
            error_set(error, TARE_ERROR_INVALID, "when using JSON array syntax, arrays must be comprised of strings only");
            return -1;
        }
        g_ptr_array_add(out->items, g_strdup(json_string_value(item)));
    }
    out->is_json = true;
    return 1;
}

static bool append_health(struct arguments *out, const char *rest, GError **error)
{
    const char *end = rest;

    while (*end && !is_space(*end))
        end++;
    if (end == rest)
        return true;
    g_ptr_array_add(out->items, g_strndup(rest, (gsize)(end - rest)));
    end = skip_space(end);
    switch (append_json(out, end, error)) {
    case -1:
        return false;
    case 0:
        if (*end)
            g_ptr_array_add(out->items, g_strdup(end));
        return true;
    default:
        return true;
    }
}

static bool append_instruction(struct arguments *out, const char *rest, unsigned depth, GError **error)
{
    struct dockerfile_instruction *inner;

    if (!*rest)
        return true;
    if (depth > 8) /* ONBUILD ONBUILD … is refused later, by name */
        return error_set(error, TARE_ERROR_INVALID, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
    if (!parse_instruction(rest, out->escape, depth + 1, &inner, error))
        return false;
    g_ptr_array_add(out->items, g_strdup(inner->command));
    for (char **arg = inner->args; *arg; arg++)
        g_ptr_array_add(out->items, g_strdup(*arg));
    dockerfile_instruction_free(inner);
    return true;
}

static bool append_json_or(struct arguments *out, const char *rest, bool words, GError **error)
{
    int json = append_json(out, rest, error);

    if (json != 0)
        return json > 0;
    if (words)
        append_split(out->items, rest);
    else if (*rest)
        g_ptr_array_add(out->items, g_strdup(rest));
    return true;
}

static bool parse_arguments(struct arguments *out, const char *command, const char *rest, unsigned depth, GError **error)
{
    size_t i = 0;

    while (i < G_N_ELEMENTS(forms) && !g_str_equal(forms[i].command, command))
        i++;
    if (i == G_N_ELEMENTS(forms)) /* the plan says which line */
        return true;
    switch (forms[i].form) {
    case FORM_TEXT:
        if (*rest)
            g_ptr_array_add(out->items, g_strdup(rest));
        return true;
    case FORM_WORDS:
        append_split(out->items, rest);
        return true;
    case FORM_JSON_OR_TEXT:
        return append_json_or(out, rest, false, error);
    case FORM_JSON_OR_WORDS:
        return append_json_or(out, rest, true, error);
    case FORM_NAMES:
        append_quoted_words(out->items, rest, out->escape);
        return true;
    case FORM_PAIRS:
        return append_pairs(out, command, rest, error);
    case FORM_HEALTH:
        return append_health(out, rest, error);
    case FORM_INSTRUCTION:
        return append_instruction(out, rest, depth, error);
    }
    g_assert_not_reached();
}

/* Takes the words that begin with "--" off the front; quotes and escapes in them are resolved at once. Returns where the
 * arguments begin. */
static const char *take_flags(const char *rest, char escape, GPtrArray *flags)
{
    while (g_str_has_prefix(rest = skip_space(rest), "--")) {
        g_autoptr(GString) word = g_string_new(NULL);
        char quote = '\0';
        bool quoted = false;

        for (; *rest && (quote || !is_space(*rest)); rest++) {
            if (quote && *rest == quote) {
                quote = '\0';
                continue;
            }
            if (!quote && (*rest == '\'' || *rest == '"')) {
                quote = *rest;
                quoted = true;
                continue;
            }
            if (*rest == escape) {
                if (!rest[1])
                    continue;
                rest++;
            }
            g_string_append_c(word, *rest);
        }
        if (g_str_equal(word->str, "--"))
            break;
        if (quoted || word->len > 0)
            g_ptr_array_add(flags, g_strdup(word->str));
    }
    return rest;
}

static bool parse_instruction(const char *text, char escape, unsigned depth, struct dockerfile_instruction **ret, GError **error)
{
    g_autofree char *line = g_strstrip(g_strdup(text));
    g_autofree char *command = NULL;
    struct arguments arguments = { .items = g_ptr_array_new_with_free_func(g_free), .escape = escape };
    GPtrArray *flags = g_ptr_array_new_with_free_func(g_free);
    struct dockerfile_instruction *instruction;
    const char *rest = line;

    while (*rest && !is_space(*rest))
        rest++;
    command = g_ascii_strdown(line, rest - line);
    rest = skip_space(take_flags(rest, escape, flags));
    if (!parse_arguments(&arguments, command, rest, depth, error)) {
        g_ptr_array_unref(arguments.items);
        g_ptr_array_unref(flags);
        return false;
    }
    instruction = g_new0(struct dockerfile_instruction, 1);
    instruction->word = g_strndup(line, strlen(command));
    instruction->command = g_steal_pointer(&command);
    instruction->flags = take_items(flags);
    instruction->args = take_items(arguments.items);
    instruction->is_json = arguments.is_json;
    instruction->is_old_form = arguments.is_old_form;
    instruction->heredocs = g_ptr_array_new_with_free_func((GDestroyNotify)heredoc_free);
    instruction->source = g_steal_pointer(&line);
    *ret = instruction;
    return true;
}

bool dockerfile_parse_line(const char *text, char escape, struct dockerfile_instruction **ret, GError **error)
{
    return parse_instruction(text, escape, 0, ret, error);
}

void dockerfile_instruction_free(struct dockerfile_instruction *instruction)
{
    if (!instruction)
        return;
    g_free(instruction->command);
    g_free(instruction->word);
    g_free(instruction->source);
    g_strfreev(instruction->flags);
    g_strfreev(instruction->args);
    g_strfreev(instruction->comments);
    g_ptr_array_unref(instruction->heredocs);
    g_free(instruction);
}

void dockerfile_free(struct dockerfile *dockerfile)
{
    if (!dockerfile)
        return;
    g_ptr_array_unref(dockerfile->instructions);
    g_ptr_array_unref(dockerfile->warnings);
    g_array_unref(dockerfile->empty_continuations);
    g_free(dockerfile->check);
    g_free(dockerfile->syntax);
    g_free(dockerfile);
}

static bool parse_lines(const GPtrArray *lines, struct dockerfile *dockerfile, struct dockerfile_lines *where, GError **error)
{
    for (guint i = 0; i < lines->len; i++) {
        struct dockerfile_line *line = lines->pdata[i];
        struct dockerfile_instruction *instruction;

        *where = (struct dockerfile_lines){ line->line, line->end };
        if (!dockerfile_parse_line(line->text, dockerfile->escape, &instruction, error))
            return false;
        instruction->line = line->line;
        instruction->end = line->end;
        instruction->comments = g_steal_pointer(&line->comments);
        if (!instruction->is_json) {
            g_ptr_array_unref(instruction->heredocs);
            instruction->heredocs = g_steal_pointer(&line->heredocs);
        }
        g_ptr_array_add(dockerfile->instructions, instruction);
    }
    if (dockerfile->instructions->len > 0)
        return true;
    *where = (struct dockerfile_lines){ 0 };
    return error_set(error, TARE_ERROR_INVALID, "file with no instructions");
}

bool dockerfile_parse_at(const char *text, size_t length, struct dockerfile **ret, struct dockerfile_lines *ret_lines,
                         GError **error)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func((GDestroyNotify)dockerfile_line_free);
    struct dockerfile *dockerfile = g_new0(struct dockerfile, 1);

    dockerfile->instructions = g_ptr_array_new_with_free_func((GDestroyNotify)dockerfile_instruction_free);
    dockerfile->warnings = g_ptr_array_new_with_free_func(g_free);
    dockerfile->empty_continuations = g_array_new(FALSE, FALSE, sizeof(unsigned));
    if (!dockerfile_lex(text, length, lines, dockerfile, ret_lines, error) || !parse_lines(lines, dockerfile, ret_lines, error)) {
        dockerfile_free(dockerfile);
        return false;
    }
    *ret = dockerfile;
    return true;
}

bool dockerfile_parse(const char *text, size_t length, struct dockerfile **ret, GError **error)
{
    struct dockerfile_lines lines;

    return dockerfile_parse_at(text, length, ret, &lines, error);
}

/* ---- for messages ---- */

char *dockerfile_excerpt(const char *text, size_t length, const char *name, unsigned first, unsigned last)
{
    GString *out = g_string_new(NULL);
    const char *at = text, *end = text + length;

    g_string_append_printf(out, "%s:%u\n--------------------\n", name, first);
    for (unsigned line = 1; at < end && line <= last + 2; line++) {
        const char *feed = memchr(at, '\n', (size_t)(end - at));
        size_t width = (size_t)((feed ? feed : end) - at);

        if (line + 2 >= first)
            g_string_append_printf(out, "%4u | %s %.*s\n", line, line >= first && line <= last ? ">>>" : "   ",
                                   (int)MIN(width, 4096), at);
        at = feed ? feed + 1 : end;
    }
    g_string_append(out, "--------------------\n");
    return g_string_free(out, FALSE);
}
