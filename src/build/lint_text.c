/* Rules over instructions as they are spelled. */
#include "build/lint-internal.h"

#include <string.h>

bool lint_is(const struct dockerfile_instruction *instruction, const char *command)
{
    return g_str_equal(instruction->command, command);
}

const char *lint_flag(const struct dockerfile_instruction *instruction, const char *name)
{
    gsize length = strlen(name);

    for (char **flag = instruction->flags; *flag; flag++)
        if (g_str_has_prefix(*flag + 2, name) && (*flag)[2 + length] == '=')
            return *flag + 3 + length;
    return NULL;
}

static bool is_lower(const char *text)
{
    g_autofree char *lower = g_ascii_strdown(text, -1);

    return g_str_equal(lower, text);
}

static bool is_upper(const char *text)
{
    g_autofree char *upper = g_ascii_strup(text, -1);

    return g_str_equal(upper, text);
}

/* FROM base AS name, or NULL. */
static const char *stage_name(const struct dockerfile_instruction *from)
{
    return g_strv_length(from->args) == 3 ? from->args[2] : NULL;
}

static void check_from(struct lint *lint, const struct dockerfile_instruction *from)
{
    const char *name = stage_name(from);

    if (!name)
        return;
    if (!is_lower(name))
        lint_warn(lint, LINT_STAGE_NAME_CASING, from, "Stage name '%s' should be lowercase", name);
    if ((is_lower(from->word) && !is_lower(from->args[1])) || (is_upper(from->word) && !is_upper(from->args[1])))
        lint_warn(lint, LINT_FROM_AS_CASING, from, "'%s' and '%s' keywords' casing do not match", from->args[1], from->word);
}

/* The last line of comment above an ARG or a stage should tell of it. */
static void check_description(struct lint *lint, const struct dockerfile_instruction *at, const char *kind,
                              const char *const *names)
{
    const char *last = NULL;
    g_autofree char *first = NULL;

    for (char **comment = at->comments; comment && *comment; comment++)
        last = *comment;
    if (!last || !names[0])
        return;
    first = g_strndup(last, strcspn(last, " "));
    if (g_strv_contains(names, first))
        return;
    lint_warn(lint, LINT_DEFINITION_DESCRIPTION, at, "Comment for %s should follow the format: `# %s <description>`", kind,
              names[1] ? "<arg_key>" : names[0]);
}

static void check_arg_description(struct lint *lint, const struct dockerfile_instruction *arg)
{
    g_auto(GStrv) names = g_strdupv(arg->args);

    for (char **name = names; *name; name++)
        (*name)[strcspn(*name, "=")] = '\0';
    check_description(lint, arg, "ARG", (const char *const *)names);
}

static void check_stage_description(struct lint *lint, const struct dockerfile_instruction *from)
{
    g_autofree char *lower = stage_name(from) ? g_ascii_strdown(stage_name(from), -1) : NULL;
    const char *const names[] = { lower, NULL };

    if (lower)
        check_description(lint, from, "FROM", names);
}

static void check_spelling(struct lint *lint, const struct dockerfile_instruction *at)
{
    if (lint_is(at, "maintainer"))
        lint_warn(lint, LINT_MAINTAINER_DEPRECATED, at, "Maintainer instruction is deprecated in favor of using label");
    if (lint_is(at, "from")) {
        check_from(lint, at);
        check_stage_description(lint, at);
    }
    if (lint_is(at, "arg"))
        check_arg_description(lint, at);
    if (at->is_old_form)
        lint_warn(lint, LINT_LEGACY_KEY_VALUE, at, "\"%s key=value\" should be used instead of legacy \"%s key value\" format",
                  at->word, at->word);
}

static void check_stage_names(struct lint *lint)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; i < lint->dockerfile->instructions->len; i++) {
        const struct dockerfile_instruction *from = lint->dockerfile->instructions->pdata[i];
        char *name;

        if (!lint_is(from, "from") || !stage_name(from))
            continue;
        name = g_ascii_strdown(stage_name(from), -1);
        if (g_str_equal(name, "scratch") || g_str_equal(name, "context"))
            lint_warn(lint, LINT_RESERVED_STAGE_NAME, from, "Stage name should not use the same name as reserved stage \"%s\"",
                      name);
        if (g_hash_table_contains(seen, name))
            lint_warn(lint, LINT_DUPLICATE_STAGE_NAME, from, "Duplicate stage name \"%s\", stage names should be unique", name);
        g_hash_table_add(seen, name);
    }
}

/* Instructions from the first FROM on: what the majority does, all should. */
static void check_casing(struct lint *lint)
{
    const GPtrArray *all = lint->dockerfile->instructions;
    unsigned lower = 0, upper = 0;
    guint first = 0;

    while (first < all->len && !lint_is(all->pdata[first], "from"))
        first++;
    for (guint i = first; i < all->len; i++) {
        const struct dockerfile_instruction *at = all->pdata[i];

        lower += is_lower(at->word);
        upper += is_upper(at->word);
    }
    for (guint i = first; i < all->len; i++) {
        const struct dockerfile_instruction *at = all->pdata[i];
        bool good = lower > upper ? is_lower(at->word) : is_upper(at->word);

        if (!good)
            lint_warn(lint, LINT_CONSISTENT_INSTRUCTION_CASING, at,
                      "Command '%s' should match the case of the command majority (%s)", at->word,
                      lower > upper ? "lowercase" : "uppercase");
    }
}

void lint_check_texts(struct lint *lint)
{
    for (guint i = 0; i < lint->dockerfile->instructions->len; i++)
        check_spelling(lint, lint->dockerfile->instructions->pdata[i]);
    check_stage_names(lint);
    check_casing(lint);
}
