/* Rules that follow the values of variables through the stages. */
#include "build/lint-internal.h"
#include "image/reference.h"

#include <string.h>

/* One stage as far as it has been read. */
struct stage {
    char *name;
    struct build_args *args;
    json_t *env;     /* "k=v" */
    bool knows_base; /* what the image below sets is known */
    bool has_workdir, has_shell;
    const struct dockerfile_instruction *last[3]; /* CMD, ENTRYPOINT, HEALTHCHECK */
};

struct walk {
    struct lint *lint;
    struct build_args *args;     /* given and of before the first FROM */
    struct build_args *defaults; /* without what was given */
    GPtrArray *stages;
    char escape;
};

static void stage_free(struct stage *stage)
{
    g_free(stage->name);
    build_args_free(stage->args);
    json_decref(stage->env);
    g_free(stage);
}

/* ---- names that are near ---- */

static unsigned distance(const char *a, const char *b)
{
    size_t n = strlen(b);
    g_autofree unsigned *row = g_new(unsigned, n + 1);

    for (size_t j = 0; j <= n; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; a[i - 1]; i++) {
        unsigned diagonal = row[0];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= n; j++) {
            unsigned above = row[j], replaced = diagonal + (a[i - 1] != b[j - 1]);

            row[j] = MIN(MIN(above, row[j - 1]) + 1, replaced);
            diagonal = above;
        }
    }
    return row[n];
}

/* Of the names the nearest, sorted first; "" where none is near. */
static const char *suggest(const char *name, GHashTable *variables)
{
    g_autoptr(GList) names = g_list_sort(g_hash_table_get_keys(variables), (GCompareFunc)strcmp);
    const char *best = "";
    unsigned least = 3;

    if (strlen(name) > 200)
        return "";
    for (const GList *at = names; at; at = at->next) {
        unsigned d = strlen(at->data) > 200 ? least : distance(name, at->data);

        if (d < least) {
            least = d;
            best = at->data;
        }
    }
    return best;
}

/* ---- FROM ---- */

static void check_from_args(struct walk *walk, const struct dockerfile_instruction *from, const char *text, GHashTable *variables)
{
    g_autoptr(GPtrArray) unset = g_ptr_array_new_with_free_func(g_free);

    expand_find_unset(text, variables, walk->escape, unset);
    for (guint i = 0; i < unset->len; i++) {
        const char *near = suggest(unset->pdata[i], variables);

        if (build_args_is_declared(walk->args, unset->pdata[i]))
            continue;
        if (*near)
            lint_warn(walk->lint, LINT_UNDEFINED_ARG_IN_FROM, from, "FROM argument '%s' is not declared (did you mean %s?)",
                      (const char *)unset->pdata[i], near);
        else
            lint_warn(walk->lint, LINT_UNDEFINED_ARG_IN_FROM, from, "FROM argument '%s' is not declared",
                      (const char *)unset->pdata[i]);
    }
}

static void check_platform(struct walk *walk, const struct dockerfile_instruction *from, const char *platform, const char *name)
{
    g_auto(GStrv) parts = g_strsplit(platform, "/", 3);

    if (g_str_equal(platform, "$TARGETPLATFORM") || g_str_equal(platform, "${TARGETPLATFORM}"))
        lint_warn(walk->lint, LINT_REDUNDANT_TARGET_PLATFORM, from,
                  "Setting platform to predefined %s in FROM is redundant as this is the default behavior", platform);
    if (strchr(platform, '$') || g_strv_length(parts) < 2)
        return;
    /* A stage that is named for a platform is meant to be so. */
    if (name && (strstr(name, parts[0]) || strstr(name, parts[1])))
        return;
    lint_warn(walk->lint, LINT_CONST_PLATFORM, from, "FROM --platform flag should not use constant value \"%s\"", platform);
}

static void check_default(struct walk *walk, const struct dockerfile_instruction *from)
{
    g_autoptr(GHashTable) variables = build_args_meta_variables(walk->defaults);
    g_autofree char *base = expand_word(from->args[0], variables, walk->escape, NULL);
    struct reference reference;

    if (!base)
        return;
    if (*base && reference_parse(base, &reference, NULL)) {
        reference_clear(&reference);
        return;
    }
    lint_warn(walk->lint, LINT_INVALID_DEFAULT_ARG, from, "Default value for ARG %s results in empty or invalid base image name",
              from->args[0]);
}

static const struct stage *find_stage(const struct walk *walk, const char *name)
{
    for (guint i = walk->stages->len; i > 0; i--) {
        const struct stage *stage = walk->stages->pdata[i - 1];

        if (stage->name && g_ascii_strcasecmp(stage->name, name) == 0)
            return stage;
    }
    return NULL;
}

static void take_base(struct walk *walk, struct stage *stage, const char *base)
{
    const struct stage *below = find_stage(walk, base);

    if (below) {
        stage->env = json_deep_copy(below->env);
        stage->knows_base = below->knows_base;
        build_args_inherit(stage->args, below->args);
        return;
    }
    if (g_str_equal(base, "scratch"))
        stage->env = json_array();
    else if (walk->lint->options->base_env)
        stage->env = walk->lint->options->base_env(walk->lint->options->user, base);
    stage->knows_base = stage->env != NULL;
    if (!stage->env)
        stage->env = json_array();
}

static struct stage *begin_stage(struct walk *walk, const struct dockerfile_instruction *from)
{
    g_autoptr(GHashTable) variables = build_args_meta_variables(walk->args);
    struct stage *stage = g_new0(struct stage, 1);
    const char *platform = lint_flag(from, "platform");
    g_autofree char *base = from->args[0] ? expand_word(from->args[0], variables, walk->escape, NULL) : NULL;

    stage->args = build_args_new_stage(walk->args);
    stage->name = g_strv_length(from->args) == 3 ? g_ascii_strdown(from->args[2], -1) : NULL;
    take_base(walk, stage, base ? base : "");
    g_ptr_array_add(walk->stages, stage);
    if (!from->args[0])
        return stage;
    check_default(walk, from);
    check_from_args(walk, from, from->args[0], variables);
    if (platform) {
        check_from_args(walk, from, platform, variables);
        check_platform(walk, from, platform, stage->name);
    }
    return stage;
}

/* ---- instructions of a stage ---- */

static void check_used_once(struct walk *walk, struct stage *stage, const struct dockerfile_instruction *at)
{
    static const char *const commands[] = { "cmd", "entrypoint", "healthcheck" };

    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (!lint_is(at, commands[i]))
            continue;
        /* The one before is what will not count. */
        if (stage->last[i])
            lint_warn(walk->lint, LINT_MULTIPLE_INSTRUCTIONS, stage->last[i],
                      "Multiple %s instructions should not be used in the same stage because only the last one will be used",
                      at->word);
        stage->last[i] = at;
    }
}

static bool is_secret_name(const char *name)
{
    static const char *const secret[] = { "apikey", "auth",   "credential", "credentials", "key", "password",
                                          "pword",  "passwd", "secret",     "token",       NULL };
    static const char *const harmless[] = { "public", "file", "version", NULL };
    g_autofree char *lower = g_ascii_strdown(name, -1);
    g_auto(GStrv) parts = g_strsplit(lower, "_", -1);
    bool is_secret = false;

    for (char **part = parts; *part; part++) {
        if (g_strv_contains(harmless, *part))
            return false;
        is_secret |= g_strv_contains(secret, *part);
    }
    return is_secret;
}

static void check_secret_names(struct walk *walk, const struct dockerfile_instruction *at)
{
    bool is_arg = lint_is(at, "arg");

    if (!is_arg && !lint_is(at, "env"))
        return;
    for (char **arg = at->args; *arg; arg += is_arg || !arg[1] ? 1 : 2) {
        g_autofree char *name = g_strndup(*arg, strcspn(*arg, "="));

        if (is_secret_name(name))
            lint_warn(walk->lint, LINT_SECRETS_IN_ARG_OR_ENV, at,
                      "Do not use ARG or ENV instructions for sensitive data (%s \"%s\")", is_arg ? "ARG" : "ENV", name);
    }
}

static bool is_expanded(const struct dockerfile_instruction *at)
{
    static const char *const commands[] = { "add",   "arg",        "copy", "env",    "expose",
                                            "label", "stopsignal", "user", "volume", "workdir" };

    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
        if (lint_is(at, commands[i]))
            return true;
    return false;
}

static void check_variables(struct walk *walk, const struct stage *stage, const struct dockerfile_instruction *at,
                            GHashTable *variables)
{
    g_autoptr(GPtrArray) unset = g_ptr_array_new_with_free_func(g_free);

    if (!is_expanded(at) || !stage->knows_base)
        return;
    for (char **arg = at->args; *arg; arg++)
        if (!heredoc_find(at->heredocs, *arg))
            expand_find_unset(*arg, variables, walk->escape, unset);
    for (guint i = 0; i < unset->len; i++) {
        const char *near = suggest(unset->pdata[i], variables);

        if (build_args_is_declared(stage->args, unset->pdata[i]))
            continue;
        if (*near)
            lint_warn(walk->lint, LINT_UNDEFINED_VAR, at, "Usage of undefined variable '$%s' (did you mean $%s?)",
                      (const char *)unset->pdata[i], near);
        else
            lint_warn(walk->lint, LINT_UNDEFINED_VAR, at, "Usage of undefined variable '$%s'", (const char *)unset->pdata[i]);
    }
}

static void check_ports(struct walk *walk, const struct dockerfile_instruction *at, GHashTable *variables)
{
    for (char **arg = at->args; *arg; arg++) {
        g_auto(GStrv) ports = expand_words(*arg, variables, walk->escape, NULL);

        for (char **port = ports; port && *port; port++) {
            const char *slash = strrchr(*port, '/');
            g_autofree char *lower = slash ? g_ascii_strdown(slash, -1) : NULL;

            if (lower && !g_str_equal(lower, slash))
                lint_warn(walk->lint, LINT_EXPOSE_PROTO_CASING, at,
                          "Defined protocol '%s' in EXPOSE instruction should be lowercase", *port);
            if (strchr(*port, ':'))
                lint_warn(walk->lint, LINT_EXPOSE_INVALID_FORMAT, at,
                          "EXPOSE instruction should not define an IP address or host-port mapping, found '%s'", *port);
        }
    }
}

/* Rules with exceptions are too hard to judge: a directory may be left out and a file in it not. */
static bool leaves_out(const char *rules, const char *path)
{
    g_auto(GStrv) lines = g_strsplit(rules, "\n", -1);

    for (char **line = lines; *line; line++) {
        const char *rule = g_strstrip(*line);

        if (*rule == '!')
            return false;
        if (g_str_equal(path, ".") && (g_str_equal(rule, "*") || g_str_equal(rule, "**") || g_str_equal(rule, "**/*")))
            return true;
    }
    return !g_str_equal(path, ".") && dockerignore_excludes(rules, path);
}

static void check_ignored(struct walk *walk, const struct dockerfile_instruction *at, GHashTable *variables)
{
    const char *rules = walk->lint->options->dockerignore;
    guint n = g_strv_length(at->args);

    if (!rules || lint_flag(at, "from"))
        return;
    for (guint i = 0; i + 1 < n; i++) {
        g_autofree char *source = expand_word(at->args[i], variables, walk->escape, NULL), *clean = NULL;

        if (!source || heredoc_find(at->heredocs, at->args[i]) || strstr(source, "://"))
            continue;
        clean = go_clean_path(*source == '/' && source[1] ? source + 1 : g_str_equal(source, "/") ? "." : source);
        if (leaves_out(rules, clean))
            lint_warn(walk->lint, LINT_COPY_IGNORED_FILE, at, "Attempting to %s file \"%s\" that is excluded by .dockerignore",
                      lint_is(at, "add") ? "Add" : "Copy", clean);
    }
}

static void set_env(struct stage *stage, const char *name, const char *value)
{
    g_autofree char *text = g_strconcat(name, "=", value, NULL);

    json_array_append_new(stage->env, json_string_lossy(text)); /* of two the later counts */
}

static void follow_values(struct walk *walk, struct stage *stage, const struct dockerfile_instruction *at, GHashTable *variables)
{
    if (lint_is(at, "arg"))
        for (char **arg = at->args; *arg; arg++) {
            const char *equals = strchr(*arg, '=');
            g_autofree char *name = g_strndup(*arg, strcspn(*arg, "="));
            g_autofree char *value = equals ? expand_word(equals + 1, variables, walk->escape, NULL) : NULL;

            build_args_declare(stage->args, name, value);
        }
    if (lint_is(at, "env"))
        for (char **arg = at->args; *arg && arg[1]; arg += 2) {
            g_autofree char *value = expand_word(arg[1], variables, walk->escape, NULL);

            set_env(stage, arg[0], value ? value : "");
        }
}

static void check_instruction(struct walk *walk, struct stage *stage, const struct dockerfile_instruction *at)
{
    g_autoptr(GHashTable) variables = build_args_variables(stage->args, stage->env);

    if (!g_hash_table_contains(variables, "PATH"))
        g_hash_table_insert(variables, g_strdup("PATH"), g_strdup("/bin"));
    check_variables(walk, stage, at, variables);
    check_secret_names(walk, at);
    check_used_once(walk, stage, at);
    if (lint_is(at, "workdir")) {
        g_autofree char *path = at->args[0] ? expand_word(at->args[0], variables, walk->escape, NULL) : NULL;

        if (path && *path != '/' && !stage->has_workdir)
            lint_warn(walk->lint, LINT_WORKDIR_RELATIVE_PATH, at,
                      "Relative workdir \"%s\" can have unexpected results if the base image changes", path);
        stage->has_workdir = true;
    }
    stage->has_shell |= lint_is(at, "shell");
    if ((lint_is(at, "cmd") || lint_is(at, "entrypoint")) && !at->is_json && at->args[0] && !stage->has_shell)
        lint_warn(walk->lint, LINT_JSON_ARGS_RECOMMENDED, at,
                  "JSON arguments recommended for %s to prevent unintended behavior related to OS signals", at->word);
    if (lint_is(at, "expose"))
        check_ports(walk, at, variables);
    if (lint_is(at, "copy") || lint_is(at, "add"))
        check_ignored(walk, at, variables);
    follow_values(walk, stage, at, variables);
}

static void declare_meta(struct build_args *args, const struct dockerfile_instruction *at, char escape)
{
    for (char **arg = at->args; *arg; arg++) {
        g_autoptr(GHashTable) variables = build_args_meta_variables(args);
        const char *equals = strchr(*arg, '=');
        g_autofree char *name = g_strndup(*arg, strcspn(*arg, "="));
        g_autofree char *value = equals ? expand_word(equals + 1, variables, escape, NULL) : NULL;

        build_args_declare_meta(args, name, value);
    }
}

void lint_check_stages(struct lint *lint)
{
    struct walk walk = { .lint = lint, .escape = lint->dockerfile->escape };
    struct stage *stage = NULL;

    walk.args = build_args_new(lint->options->build_args);
    walk.defaults = build_args_new(NULL);
    walk.stages = g_ptr_array_new_with_free_func((GDestroyNotify)stage_free);
    for (guint i = 0; i < lint->dockerfile->instructions->len; i++) {
        const struct dockerfile_instruction *at = lint->dockerfile->instructions->pdata[i];

        if (lint_is(at, "from")) {
            stage = begin_stage(&walk, at);
        } else if (stage) {
            check_instruction(&walk, stage, at);
        } else if (lint_is(at, "arg")) {
            check_secret_names(&walk, at);
            declare_meta(walk.args, at, walk.escape);
            declare_meta(walk.defaults, at, walk.escape);
        }
    }
    g_ptr_array_unref(walk.stages);
    build_args_free(walk.args);
    build_args_free(walk.defaults);
}
