/* Instructions → stages of typed steps. What each instruction accepts is in one table; messages are the classic builder's. */
#include "base/parse.h"
#include "build/build-internal.h"

#include <stdlib.h>
#include <string.h>

static bool check_from(const struct dockerfile_instruction *from, struct build_step *step, GError **error);
static bool check_onbuild(const struct dockerfile_instruction *from, struct build_step *step, GError **error);
static bool check_health(const struct dockerfile_instruction *from, struct build_step *step, GError **error);
static bool check_names(const struct dockerfile_instruction *from, struct build_step *step, GError **error);
static bool check_expose(const struct dockerfile_instruction *from, struct build_step *step, GError **error);
static bool check_volume(const struct dockerfile_instruction *from, struct build_step *step, GError **error);
static bool check_shell(const struct dockerfile_instruction *from, struct build_step *step, GError **error);
static bool check_copy(const struct dockerfile_instruction *from, struct build_step *step, GError **error);
static bool check_run(const struct dockerfile_instruction *from, struct build_step *step, GError **error);

enum arity { ANY, ONE, ONE_OR_MORE, TWO_OR_MORE };

static const struct {
    const char *name;
    enum arity arity;
    const char *flags; /* names between blanks; "?" before one that needs no value, "*" before one that may come again */
    bool (*check)(const struct dockerfile_instruction *from, struct build_step *step, GError **error);
} kinds[STEP_N_KINDS] = {
    [STEP_ADD] = { "ADD", TWO_OR_MORE, " chown chmod checksum ?link ?keep-git-dir ?unpack *exclude ", check_copy },
    [STEP_ARG] = { "ARG", ONE_OR_MORE, "", check_names },
    [STEP_CMD] = { "CMD", ANY, "" },
    [STEP_COPY] = { "COPY", TWO_OR_MORE, " chown from chmod ?link ?parents *exclude ", check_copy },
    [STEP_ENTRYPOINT] = { "ENTRYPOINT", ANY, "" },
    [STEP_ENV] = { "ENV", ONE_OR_MORE, "", check_names },
    [STEP_EXPOSE] = { "EXPOSE", ONE_OR_MORE, "", check_expose },
    [STEP_FROM] = { "FROM", ANY, " platform ", check_from },
    [STEP_HEALTHCHECK] = { "HEALTHCHECK", ONE_OR_MORE, " interval timeout start-period start-interval retries ", check_health },
    [STEP_LABEL] = { "LABEL", ONE_OR_MORE, "", check_names },
    [STEP_MAINTAINER] = { "MAINTAINER", ONE, "" },
    [STEP_ONBUILD] = { "ONBUILD", ONE_OR_MORE, "", check_onbuild },
    [STEP_RUN] = { "RUN", ANY, " *mount network security *device ", check_run },
    [STEP_SHELL] = { "SHELL", ONE_OR_MORE, "", check_shell },
    [STEP_STOPSIGNAL] = { "STOPSIGNAL", ONE, "" },
    [STEP_USER] = { "USER", ONE, "" },
    [STEP_VOLUME] = { "VOLUME", ONE_OR_MORE, "", check_volume },
    [STEP_WORKDIR] = { "WORKDIR", ONE, "" },
};

const char *step_kind_name(enum step_kind kind)
{
    return kinds[kind].name;
}

void build_step_free(struct build_step *step)
{
    if (!step)
        return;
    g_free(step->source);
    g_strfreev(step->args);
    g_free(step->chown);
    g_free(step->chmod);
    g_free(step->from);
    g_free(step->platform);
    g_free(step->checksum);
    g_free(step->network);
    g_free(step->security);
    g_strfreev(step->excludes);
    g_strfreev(step->mounts);
    g_ptr_array_unref(step->heredocs);
    if (step->run_mounts)
        g_ptr_array_unref(step->run_mounts);
    json_decref(step->health);
    g_free(step);
}

static void stage_free(struct build_stage *stage)
{
    build_step_free(stage->from);
    g_free(stage->name);
    g_ptr_array_unref(stage->steps);
    g_free(stage);
}

void build_plan_free(struct build_plan *plan)
{
    if (!plan)
        return;
    g_ptr_array_unref(plan->meta_args);
    g_ptr_array_unref(plan->stages);
    g_ptr_array_unref(plan->warnings);
    g_free(plan->platform);
    g_free(plan->target);
    g_free(plan);
}

/* ---- flags ---- */

/* The value of a flag, NULL where it was not given. Flags are checked by check_flags before. */
static const char *flag_value(char **flags, const char *name)
{
    for (; *flags; flags++)
        if (g_str_has_prefix(*flags + 2, name) && (*flags)[2 + strlen(name)] == '=')
            return *flags + 2 + strlen(name) + 1;
    return NULL;
}

/* '=' where it needs a value, '?' where it does not, '*' where it may come several times, 0 for a flag that is not known. */
static char flag_form(const char *known, const char *name)
{
    static const char forms[] = { ' ', '?', '*' };

    for (size_t i = 0; *name && !strchr(name, ' ') && i < sizeof forms; i++) {
        g_autofree char *needle = g_strdup_printf("%c%s ", forms[i], name);

        if (strstr(known, needle))
            return forms[i] == ' ' ? '=' : forms[i];
    }
    return '\0';
}

static bool check_switch(const char *name, const char *value, GError **error)
{
    if (!*value)
        return error_set(error, TARE_ERROR_INVALID, "Missing a value on flag: %s", name);
    if (g_ascii_strcasecmp(value, "true") != 0 && g_ascii_strcasecmp(value, "false") != 0)
        return error_set(error, TARE_ERROR_INVALID, "Expecting boolean value for flag %s, not: %s", name, value);
    return true;
}

static bool check_flags(char **flags, const char *known, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (; *flags; flags++) {
        const char *equals = strchr(*flags, '=');
        char *name = equals ? g_strndup(*flags + 2, (gsize)(equals - *flags - 2)) : g_strdup(*flags + 2);
        bool duplicate = g_hash_table_contains(seen, name);
        char form = flag_form(known, name);

        g_hash_table_add(seen, name);
        if (!form)
            return error_set(error, TARE_ERROR_INVALID, "Unknown flag: %s", name);
        if (duplicate && form != '*')
            return error_set(error, TARE_ERROR_INVALID, "Duplicate flag specified: %s", name);
        if (!equals && form != '?')
            return error_set(error, TARE_ERROR_INVALID, "Missing a value on flag: %s", name);
        if (equals && form == '?' && !check_switch(name, equals + 1, error))
            return false;
    }
    return true;
}

/* 1, 0, or -1 where it was not given. */
static int flag_switch(char **flags, const char *name)
{
    const char *value = flag_value(flags, name);

    for (; !value && *flags; flags++)
        if (g_str_equal(*flags + 2, name))
            return 1;
    return value ? g_ascii_strcasecmp(value, "true") == 0 : -1;
}

static char **flag_values(char **flags, const char *name)
{
    g_autoptr(GPtrArray) values = g_ptr_array_new();

    for (; *flags; flags++)
        if (g_str_has_prefix(*flags + 2, name) && (*flags)[2 + strlen(name)] == '=')
            g_ptr_array_add(values, g_strdup(*flags + 2 + strlen(name) + 1));
    if (values->len == 0)
        return NULL;
    g_ptr_array_add(values, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&values), FALSE);
}

static void take_flags(char **flags, struct build_step *step)
{
    step->chown = g_strdup(flag_value(flags, "chown"));
    step->chmod = g_strdup(flag_value(flags, "chmod"));
    step->from = g_strdup(flag_value(flags, "from"));
    step->platform = g_strdup(flag_value(flags, "platform"));
    step->checksum = g_strdup(flag_value(flags, "checksum"));
    step->network = g_strdup(flag_value(flags, "network"));
    step->security = g_strdup(flag_value(flags, "security"));
    step->excludes = flag_values(flags, "exclude");
    step->mounts = flag_values(flags, "mount");
    step->link = flag_switch(flags, "link") == 1;
    step->parents = flag_switch(flags, "parents") == 1;
    step->keep_git_dir = flag_switch(flags, "keep-git-dir") == 1;
    step->unpack = flag_switch(flags, "unpack");
}

/* ---- what is particular to a kind ---- */

static bool check_stage_name(const char *name, GError **error)
{
    bool good = g_ascii_isalpha(*name);

    for (const char *at = name; good && *at; at++)
        good = g_ascii_isalnum(*at) || strchr("-_.", *at);
    if (!good) {
        g_autofree char *quoted = go_quote(name);

        return error_set(error, TARE_ERROR_INVALID,
                         "invalid name for build stage: %s, name can't start with a number or contain symbols", quoted);
    }
    return true;
}

static bool check_from(const struct dockerfile_instruction *from, struct build_step *step, GError **error)
{
    guint n = g_strv_length(from->args);

    if (n == 3 && g_ascii_strcasecmp(from->args[1], "as") == 0)
        return check_stage_name(from->args[2], error);
    if (n != 1)
        return error_set(error, TARE_ERROR_INVALID, "FROM requires either one or three arguments");
    return true;
}

/* The trigger with its here-documents after it, as they stood in the file. */
static char *trigger_text(const char *rest, const GPtrArray *heredocs)
{
    GString *text = g_string_new(rest);

    for (guint i = 0; i < heredocs->len; i++) {
        const struct dockerfile_heredoc *heredoc = heredocs->pdata[i];

        g_string_append_printf(text, "\n%s%s", heredoc->content, heredoc->name);
    }
    return g_string_free(text, FALSE);
}

static bool check_onbuild(const struct dockerfile_instruction *from, struct build_step *step, GError **error)
{
    const char *rest = from->source + strlen("ONBUILD");

    if (g_str_equal(from->args[0], "onbuild"))
        return error_set(error, TARE_ERROR_INVALID, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
    if (g_str_equal(from->args[0], "maintainer") || g_str_equal(from->args[0], "from")) {
        g_autofree char *name = g_ascii_strup(from->args[0], -1);

        return error_set(error, TARE_ERROR_INVALID, "%s isn't allowed as an ONBUILD trigger", name);
    }
    while (g_ascii_isspace(*rest))
        rest++;
    g_strfreev(step->args);
    step->args = g_new0(char *, 2);
    step->args[0] = trigger_text(rest, from->heredocs);
    return true;
}

static bool check_copy(const struct dockerfile_instruction *from, struct build_step *step, GError **error)
{
    const char *dest = from->args[g_strv_length(from->args) - 1];

    if (heredoc_find(from->heredocs, dest))
        return error_set(error, TARE_ERROR_INVALID, "%s cannot accept a heredoc as a destination",
                         step->kind == STEP_COPY ? "COPY" : "ADD");
    return true;
}

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (g_str_equal(text, *words))
            return true;
    return false;
}

static bool check_run(const struct dockerfile_instruction *from, struct build_step *step, GError **error)
{
    static const char *const networks[] = { "default", "none", "host", NULL };
    static const char *const securities[] = { "sandbox", "insecure", NULL };
    const char *network = flag_value(from->flags, "network"), *security = flag_value(from->flags, "security");
    g_auto(GStrv) mounts = flag_values(from->flags, "mount"), devices = flag_values(from->flags, "device");

    if (network && !is_one_of(network, networks))
        return error_set(error, TARE_ERROR_INVALID, "invalid network mode \"%s\"", network);
    if (security && !is_one_of(security, securities))
        return error_set(error, TARE_ERROR_INVALID, "security \"%s\" is not valid", security);
    if (devices)
        return error_set(error, TARE_ERROR_INVALID,
                         "RUN --device=%s: devices of the host are not given to builds by this engine; use run --device",
                         devices[0]);
    for (char **mount = mounts; mount && *mount; mount++)
        if (!run_mount_parse(*mount, NULL, '\\', NULL, error))
            return false;
    return true;
}

static bool health_duration(char **flags, const char *name, json_t *health, const char *member, GError **error)
{
    const char *text = flag_value(flags, name);
    gint64 ns = 0;

    if (!text || !*text)
        return true;
    if (!parse_duration_ns(text, &ns)) {
        g_autofree char *quoted = go_quote(text);

        return error_set(error, TARE_ERROR_INVALID, "time: invalid duration %s", quoted);
    }
    if (ns != 0 && ns < 1000000)
        return error_set(error, TARE_ERROR_INVALID, "Interval \"%s\" cannot be less than 1ms", name);
    if (ns != 0)
        json_object_set_new(health, member, json_integer(ns));
    return true;
}

static bool health_retries(char **flags, json_t *health, GError **error)
{
    const char *text = flag_value(flags, "retries");
    gint64 retries;

    if (!text || !*text)
        return true;
    if (!parse_int(text, G_MININT32, G_MAXINT32, &retries)) {
        g_autofree char *quoted = go_quote(text);

        return error_set(error, TARE_ERROR_INVALID, "strconv.ParseInt: parsing %s: invalid syntax", quoted);
    }
    if (retries < 1)
        return error_set(error, TARE_ERROR_INVALID, "--retries must be at least 1 (not %" G_GINT64_FORMAT ")", retries);
    json_object_set_new(health, "Retries", json_integer(retries));
    return true;
}

static bool check_health(const struct dockerfile_instruction *from, struct build_step *step, GError **error)
{
    g_autofree char *type = g_ascii_strup(from->args[0], -1);
    json_t *test = json_array();

    step->health = json_pack("{s:o}", "Test", test);
    if (g_str_equal(type, "NONE")) {
        if (from->args[1])
            return error_set(error, TARE_ERROR_INVALID, "HEALTHCHECK NONE takes no arguments");
        json_array_append_new(test, json_string("NONE"));
        return true;
    }
    if (!g_str_equal(type, "CMD")) {
        g_autofree char *quoted = go_quote(type);

        return error_set(error, TARE_ERROR_INVALID, "Unknown type %s in HEALTHCHECK (try CMD)", quoted);
    }
    if (!from->args[1])
        return error_set(error, TARE_ERROR_INVALID, "Missing command after HEALTHCHECK CMD");
    json_array_append_new(test, json_string(from->is_json ? "CMD" : "CMD-SHELL"));
    for (char **arg = from->args + 1; *arg; arg++)
        json_array_append_new(test, json_string_lossy(*arg));
    return health_duration(from->flags, "interval", step->health, "Interval", error) &&
           health_duration(from->flags, "timeout", step->health, "Timeout", error) &&
           health_duration(from->flags, "start-period", step->health, "StartPeriod", error) &&
           health_duration(from->flags, "start-interval", step->health, "StartInterval", error) &&
           health_retries(from->flags, step->health, error);
}

static bool check_names(const struct dockerfile_instruction *from, struct build_step *step, GError **error)
{
    size_t stride = step->kind == STEP_ARG ? 1 : 2;

    for (char **arg = from->args; *arg; arg += stride)
        if (!**arg || (stride == 1 && **arg == '='))
            return error_set(error, TARE_ERROR_INVALID, "%s names can not be blank", kinds[step->kind].name);
    return true;
}

static gint compare_texts(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Docker sorts the words before it expands them. */
static bool check_expose(const struct dockerfile_instruction *from, struct build_step *step, GError **error)
{
    qsort(step->args, g_strv_length(step->args), sizeof *step->args, compare_texts);
    return true;
}

static bool check_volume(const struct dockerfile_instruction *from, struct build_step *step, GError **error)
{
    for (char **arg = step->args; *arg; arg++)
        if (!*g_strstrip(*arg))
            return error_set(error, TARE_ERROR_INVALID, "VOLUME specified can not be an empty string");
    return true;
}

static bool check_shell(const struct dockerfile_instruction *from, struct build_step *step, GError **error)
{
    if (!from->is_json)
        return error_set(error, TARE_ERROR_INVALID, "SHELL requires the arguments to be in JSON form");
    return true;
}

/* ---- steps ---- */

static bool check_arity(enum step_kind kind, char **args, GError **error)
{
    guint n = g_strv_length(args);

    switch (kinds[kind].arity) {
    case ONE:
        return n == 1 || error_set(error, TARE_ERROR_INVALID, "%s requires exactly one argument", kinds[kind].name);
    case ONE_OR_MORE:
        return n > 0 || error_set(error, TARE_ERROR_INVALID, "%s requires at least one argument", kinds[kind].name);
    case TWO_OR_MORE:
        return n > 1 ||
               error_set(error, TARE_ERROR_INVALID,
                         "%s requires at least two arguments, but only one was provided. Destination could not be determined",
                         kinds[kind].name);
    case ANY:
        return true;
    }
    g_assert_not_reached();
}

static bool check_instruction(const struct dockerfile_instruction *from, struct build_step *step, GError **error)
{
    if (!check_arity(step->kind, from->args, error))
        return false;
    /* The name of a stage is looked at before FROM's flags, as Docker does; all others look at their flags first. */
    if (step->kind == STEP_FROM)
        return check_from(from, step, error) && check_flags(from->flags, kinds[STEP_FROM].flags, error);
    if (!check_flags(from->flags, kinds[step->kind].flags, error))
        return false;
    return !kinds[step->kind].check || kinds[step->kind].check(from, step, error);
}

/* The line as it is shown; of a here-document its beginning. */
static char *source_text(const struct dockerfile_instruction *instruction)
{
    GString *text = g_string_new(instruction->source);

    for (guint i = 0; i < instruction->heredocs->len; i++) {
        g_autofree char *summary = heredoc_summary(instruction->heredocs->pdata[i]);

        g_string_append_printf(text, " (%s)", summary);
    }
    return g_string_free(text, FALSE);
}

bool build_step_new(const struct dockerfile_instruction *instruction, struct build_step **ret, GError **error)
{
    g_autofree char *name = g_ascii_strup(instruction->command, -1);
    struct build_step *step;
    int kind = 0;

    while (kind < STEP_N_KINDS && !g_str_equal(kinds[kind].name, name))
        kind++;
    if (kind == STEP_N_KINDS)
        return error_set(error, TARE_ERROR_INVALID, "unknown instruction: %s", name);
    step = g_new0(struct build_step, 1);
    step->unpack = -1;
    step->kind = (enum step_kind)kind;
    step->line = instruction->line;
    step->end = instruction->end;
    step->source = source_text(instruction);
    step->heredocs = heredocs_copy(instruction->heredocs);
    step->args = g_strdupv(instruction->args);
    step->is_json = instruction->is_json;
    if (!check_instruction(instruction, step, error)) {
        build_step_free(step);
        return false;
    }
    take_flags(instruction->flags, step);
    *ret = step;
    return true;
}

bool build_step_parse(const char *text, struct build_step **ret, GError **error)
{
    struct dockerfile *dockerfile;
    bool good;

    if (!dockerfile_parse(text, strlen(text), &dockerfile, error))
        return false;
    if (dockerfile->instructions->len != 1)
        good = error_set(error, TARE_ERROR_INVALID, "onbuild trigger should be a single expression");
    else
        good = build_step_new(dockerfile->instructions->pdata[0], ret, error);
    dockerfile_free(dockerfile);
    return good;
}

static bool expand_in_place(char **text, GHashTable *variables, char escape, GError **error)
{
    char *expanded;

    if (!*text)
        return true;
    expanded = expand_word(*text, variables, escape, error);
    if (!expanded)
        return false;
    g_free(*text);
    *text = expanded;
    return true;
}

static bool expand_ports(struct build_step *step, GHashTable *variables, char escape, GError **error)
{
    g_autoptr(GPtrArray) ports = g_ptr_array_new_with_free_func(g_free);

    for (char **arg = step->args; *arg; arg++) {
        g_autofree char **words = expand_words(*arg, variables, escape, error);

        if (!words)
            return false;
        for (char **word = words; *word; word++)
            g_ptr_array_add(ports, *word);
    }
    g_ptr_array_add(ports, NULL);
    g_strfreev(step->args);
    step->args = (char **)g_ptr_array_free(g_steal_pointer(&ports), FALSE);
    return true;
}

/* "name=value" and "name": both sides by themselves, so that a value's "=" stays out of it. */
static bool expand_args(struct build_step *step, GHashTable *variables, char escape, GError **error)
{
    for (char **arg = step->args; *arg; arg++) {
        g_autofree char *name = g_strndup(*arg, strcspn(*arg, "="));
        g_autofree char *value = strchr(*arg, '=') ? g_strdup(strchr(*arg, '=') + 1) : NULL;

        if (!expand_in_place(&name, variables, escape, error) || !expand_in_place(&value, variables, escape, error))
            return false;
        g_free(*arg);
        *arg = value ? g_strconcat(name, "=", value, NULL) : g_strdup(name);
    }
    return true;
}

static bool expand_list(char **list, GHashTable *variables, char escape, GError **error)
{
    for (; list && *list; list++)
        if (!expand_in_place(list, variables, escape, error))
            return false;
    return true;
}

static bool expand_heredocs(struct build_step *step, GHashTable *variables, GError **error)
{
    for (guint i = 0; i < step->heredocs->len; i++) {
        struct dockerfile_heredoc *heredoc = step->heredocs->pdata[i];
        char *content;

        if (!heredoc->is_expanded)
            continue;
        content = expand_text(heredoc->content, variables, error);
        if (!content)
            return false;
        g_free(heredoc->content);
        heredoc->content = content;
    }
    return true;
}

/* The words of COPY and ADD but for those of here-documents. */
static bool expand_copy(struct build_step *step, GHashTable *variables, char escape, GError **error)
{
    for (char **arg = step->args; *arg; arg++)
        if (!heredoc_find(step->heredocs, *arg) && !expand_in_place(arg, variables, escape, error))
            return false;
    return expand_heredocs(step, variables, error) && expand_in_place(&step->chown, variables, escape, error) &&
           expand_in_place(&step->chmod, variables, escape, error) &&
           expand_in_place(&step->checksum, variables, escape, error) && expand_list(step->excludes, variables, escape, error);
}

static bool expand_mounts(struct build_step *step, GHashTable *variables, char escape, GError **error)
{
    step->run_mounts = g_ptr_array_new_with_free_func((GDestroyNotify)run_mount_free);
    for (char **text = step->mounts; text && *text; text++) {
        struct run_mount *mount;

        if (!run_mount_parse(*text, variables, escape, &mount, error))
            return false;
        g_ptr_array_add(step->run_mounts, mount);
    }
    return true;
}

static bool expand_by_kind(struct build_step *step, GHashTable *variables, char escape, GError **error)
{
    switch (step->kind) {
    case STEP_EXPOSE:
        return expand_ports(step, variables, escape, error);
    case STEP_ARG:
        return expand_args(step, variables, escape, error);
    case STEP_ADD:
    case STEP_COPY:
        return expand_copy(step, variables, escape, error);
    case STEP_RUN:
        return expand_mounts(step, variables, escape, error);
    case STEP_ENV:
    case STEP_LABEL:
    case STEP_STOPSIGNAL:
    case STEP_USER:
    case STEP_VOLUME:
    case STEP_WORKDIR:
        return expand_list(step->args, variables, escape, error);
    default:
        return true;
    }
}

static struct build_step *step_copy_of(const struct build_step *step)
{
    struct build_step *copy = g_memdup2(step, sizeof *step);

    copy->source = g_strdup(step->source);
    copy->args = g_strdupv(step->args);
    copy->chown = g_strdup(step->chown);
    copy->chmod = g_strdup(step->chmod);
    copy->from = g_strdup(step->from);
    copy->platform = g_strdup(step->platform);
    copy->checksum = g_strdup(step->checksum);
    copy->network = g_strdup(step->network);
    copy->security = g_strdup(step->security);
    copy->excludes = g_strdupv(step->excludes);
    copy->mounts = g_strdupv(step->mounts);
    copy->health = json_incref(step->health);
    copy->heredocs = heredocs_copy(step->heredocs);
    copy->run_mounts = NULL;
    return copy;
}

bool build_step_expand(const struct build_step *step, GHashTable *variables, char escape, struct build_step **ret, GError **error)
{
    struct build_step *copy = step_copy_of(step);

    if (!step->literal && !expand_by_kind(copy, variables, escape, error)) {
        build_step_free(copy);
        return false;
    }
    *ret = copy;
    return true;
}

/* ---- the plan ---- */

static bool add_step(struct build_plan *plan, struct build_step *step, GError **error)
{
    struct build_stage *stage;

    if (step->kind == STEP_FROM) {
        stage = g_new0(struct build_stage, 1);
        stage->name = step->args[1] ? g_ascii_strdown(step->args[2], -1) : NULL;
        stage->steps = g_ptr_array_new_with_free_func((GDestroyNotify)build_step_free);
        stage->from = step;
        g_ptr_array_add(plan->stages, stage);
        return true;
    }
    if (plan->stages->len == 0 && step->kind == STEP_ARG) {
        g_ptr_array_add(plan->meta_args, step);
        return true;
    }
    if (plan->stages->len == 0) {
        build_step_free(step);
        return error_set(error, TARE_ERROR_INVALID, "no build stage in current context");
    }
    stage = plan->stages->pdata[plan->stages->len - 1];
    g_ptr_array_add(stage->steps, step);
    return true;
}

static bool add_instructions(struct build_plan *plan, const GPtrArray *instructions, GError **error)
{
    for (guint i = 0; i < instructions->len; i++) {
        const struct dockerfile_instruction *instruction = instructions->pdata[i];
        g_autoptr(GError) local = NULL;
        struct build_step *step;

        if (!build_step_new(instruction, &step, &local))
            return error_set(error, TARE_ERROR_INVALID, "dockerfile parse error line %u: %s", instruction->line, local->message);
        if (!add_step(plan, step, error))
            return false;
    }
    if (plan->stages->len == 0)
        return error_set(error, TARE_ERROR_INVALID, "no build stage in current context");
    return true;
}

bool build_plan_new(const struct dockerfile *dockerfile, struct build_plan **ret, GError **error)
{
    struct build_plan *plan = g_new0(struct build_plan, 1);

    plan->meta_args = g_ptr_array_new_with_free_func((GDestroyNotify)build_step_free);
    plan->stages = g_ptr_array_new_with_free_func((GDestroyNotify)stage_free);
    plan->warnings = g_ptr_array_new_with_free_func(g_free);
    plan->escape = dockerfile->escape;
    for (guint i = 0; i < dockerfile->warnings->len; i++)
        g_ptr_array_add(plan->warnings, g_strdup(dockerfile->warnings->pdata[i]));
    if (!add_instructions(plan, dockerfile->instructions, error)) {
        build_plan_free(plan);
        return false;
    }
    *ret = plan;
    return true;
}

bool build_plan_select(struct build_plan *plan, const char *target, GError **error)
{
    guint64 number;

    for (guint i = 0; i < plan->stages->len; i++) {
        const struct build_stage *stage = plan->stages->pdata[i];

        if (stage->name && g_ascii_strcasecmp(stage->name, target) == 0) {
            g_ptr_array_set_size(plan->stages, (gint)i + 1);
            return true;
        }
    }
    if (parse_uint(target, G_MAXINT, &number) && number < plan->stages->len) {
        g_ptr_array_set_size(plan->stages, (gint)number + 1);
        return true;
    }
    return error_set(error, TARE_ERROR_INVALID, "failed to reach build target %s in Dockerfile", target);
}

void build_plan_add_labels(struct build_plan *plan, const json_t *labels)
{
    struct build_stage *last = plan->stages->pdata[plan->stages->len - 1];
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)labels, name, value) if (json_is_string(value)) g_ptr_array_add(names, (void *)name);
    g_ptr_array_sort(names, compare_texts);
    for (guint i = 0; i < names->len; i++) {
        struct build_step *step = g_new0(struct build_step, 1);

        name = names->pdata[i];
        step->kind = STEP_LABEL;
        step->literal = true;
        step->unpack = -1;
        step->heredocs = heredocs_copy(NULL);
        step->args = g_new0(char *, 3);
        step->args[0] = g_strdup(name);
        step->args[1] = g_strdup(json_get_string(labels, name, ""));
        step->source = g_strdup_printf("LABEL %s=%s", step->args[0], step->args[1]);
        g_ptr_array_add(last->steps, step);
    }
}

unsigned build_plan_count(const struct build_plan *plan)
{
    unsigned count = plan->meta_args->len + plan->stages->len;

    for (guint i = 0; i < plan->stages->len; i++)
        count += ((const struct build_stage *)plan->stages->pdata[i])->steps->len;
    return count;
}
