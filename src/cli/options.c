/* Parsing of the command line against the table of commands, with the rules and texts of the flag library that docker uses. */
#include "cli/cli-internal.h"

#include "base/parse.h"

#include <string.h>

#define STATUS_USAGE 125

static bool is_bool(const struct cli_flag *flag)
{
    return !flag->value[0];
}

void options_free(struct options *options)
{
    if (!options)
        return;
    g_hash_table_unref(options->values);
    g_strfreev(options->args);
    g_free(options->path);
    g_free(options);
}

static void add_value(struct options *options, const struct cli_flag *flag, const char *value)
{
    GPtrArray *values = g_hash_table_lookup(options->values, flag->name);
    if (!values) {
        values = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(values, NULL);
        g_hash_table_insert(options->values, (gpointer)flag->name, values);
    }
    values->pdata[values->len - 1] = g_strdup(value);
    g_ptr_array_add(values, NULL);
}

static bool set_flag(struct options *options, const struct cli_flag *flag, const char *value, GError **error)
{
    g_autofree char *problem = option_check(flag, value);
    if (problem) {
        g_autofree char *letter = flag->letter ? g_strdup_printf("-%c, ", flag->letter) : g_strdup("");
        return error_set(error, TARE_ERROR_INVALID, "invalid argument \"%s\" for \"%s--%s\" flag: %s", value, letter, flag->name,
                         problem);
    }
    if (strcmp(flag->value, "strings") == 0) { /* comma-separated values, each one of its own */
        g_auto(GStrv) parts = g_strsplit(value, ",", -1);
        for (char **part = parts; *part; part++)
            add_value(options, flag, *part);
        return true;
    }
    add_value(options, flag, value);
    return true;
}

/* --name, --name=value or --name value; *next is the word after it. */
static bool parse_long(struct options *options, const char *word, const char *const **next, GError **error)
{
    const char *name = word + 2, *equals = strchr(name, '=');
    if (!*name || *name == '-' || *name == '=')
        return error_set(error, TARE_ERROR_INVALID, "bad flag syntax: %s", word);
    g_autofree char *key = equals ? g_strndup(name, (size_t)(equals - name)) : g_strdup(name);
    const struct cli_flag *flag = cli_find_flag(options->command, key, 0);
    if (strcmp(key, "help") == 0) {
        options->help = true;
        return true;
    }
    if (!flag)
        return error_set(error, TARE_ERROR_INVALID, "unknown flag: --%s", key);
    if (equals)
        return set_flag(options, flag, equals + 1, error);
    if (is_bool(flag))
        return set_flag(options, flag, "true", error);
    if (!**next)
        return error_set(error, TARE_ERROR_INVALID, "flag needs an argument: %s", word);
    return set_flag(options, flag, *(*next)++, error);
}

/* -abc, -p80, -p=80 or -p 80. */
static bool parse_letters(struct options *options, const char *word, const char *const **next, GError **error)
{
    for (const char *at = word + 1; *at;) {
        const struct cli_flag *flag = cli_find_flag(options->command, NULL, *at);
        char letter = *at++;
        if (!flag && letter == 'h') {
            options->help = options->help_by_letter = true;
            continue;
        }
        if (!flag)
            return error_set(error, TARE_ERROR_INVALID, "unknown shorthand flag: '%c' in -%s", letter, at - 1);
        if (at[0] == '=' && at[1])
            return set_flag(options, flag, at + 1, error);
        if (is_bool(flag)) {
            if (!set_flag(options, flag, "true", error))
                return false;
            continue;
        }
        if (*at)
            return set_flag(options, flag, at, error);
        if (!**next)
            return error_set(error, TARE_ERROR_INVALID, "flag needs an argument: '%c' in -%s", letter, at - 1);
        return set_flag(options, flag, *(*next)++, error);
    }
    return true;
}

static bool parse_words(struct options *options, const char *const *words, GPtrArray *args, GError **error)
{
    while (*words) {
        const char *word = *words++;
        bool is_flag = word[0] == '-' && word[1];
        if (!is_flag) {
            g_ptr_array_add(args, g_strdup(word));
            if (!options->command->stop_at_argument)
                continue;
        } else if (strcmp(word, "--") != 0) {
            if (word[1] == '-' ? !parse_long(options, word, &words, error) : !parse_letters(options, word, &words, error))
                return false;
            continue;
        }
        while (*words)
            g_ptr_array_add(args, g_strdup(*words++));
    }
    return true;
}

/* DOCKER_CONTENT_TRUST stands for --disable-content-trust=false where images are fetched, made or sent. */
static const char *trust_refusal(const struct options *options)
{
    bool wanted;
    const char *flag = "disable-content-trust", *text = g_getenv("DOCKER_CONTENT_TRUST");
    if (!cli_find_flag(options->command, flag, 0) || options_given(options, flag) || !text || !parse_bool(text, &wanted) ||
        !wanted)
        return NULL;
    return cli_refusal(options->command->spellings, flag, "false");
}

static bool check_refusals(const struct options *options, GError **error)
{
    const char *untrusted = trust_refusal(options);
    if (untrusted)
        return error_set(error, TARE_ERROR_INVALID, "DOCKER_CONTENT_TRUST is not supported: %s", untrusted);
    GHashTableIter iter;
    gpointer name;
    g_hash_table_iter_init(&iter, options->values);
    while (g_hash_table_iter_next(&iter, &name, NULL)) {
        bool value;
        const char *text = options_string(options, name, ""), *plain = parse_bool(text, &value) ? value ? "true" : "false" : text;
        const char *reason = cli_refusal(options->command->spellings, name, plain);
        if (reason)
            return error_set(error, TARE_ERROR_INVALID, "--%s is not supported: %s", (const char *)name, reason);
    }
    return true;
}

struct options *options_parse(const char *program, const char *path, const struct cli_command *command, const char *const *words,
                              GError **error)
{
    struct options *options = g_new0(struct options, 1);
    options->program = program;
    options->path = g_strdup(path);
    options->command = command;
    options->values = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)g_ptr_array_unref);
    GPtrArray *args = g_ptr_array_new();
    g_autoptr(GError) problem = NULL;
    bool ok = parse_words(options, words, args, &problem);
    options->n_args = args->len;
    g_ptr_array_add(args, NULL);
    options->args = (char **)g_ptr_array_free(args, FALSE);
    ok = ok && (options->help || check_refusals(options, &problem));
    if (ok)
        return options;
    g_autofree char *usage = help_usage_line(program, path, command);
    error_set(error, TARE_ERROR_INVALID, "%s\n\nUsage:  %s\n\nRun '%s%s%s --help' for more information", problem->message, usage,
              program, *path ? " " : "", path);
    options_free(options);
    return NULL;
}

bool options_check_count(const struct options *options, GError **error)
{
    const struct cli_command *command = options->command;
    guint n = options->n_args;
    if (n >= command->min && n <= command->max)
        return true;
    g_autofree char *usage = help_usage_line(options->program, options->path, command);
    g_autofree char *wanted = NULL;
    const char *hint = "Run";
    if (command->max == 0) {
        wanted = g_strdup("accepts no arguments");
    } else if (command->max == command->min) {
        wanted = g_strdup_printf("requires %u argument%s", command->min, command->min == 1 ? "" : "s");
    } else if (command->max == CLI_ANY) {
        wanted = g_strdup_printf("requires at least %u argument%s", command->min, command->min == 1 ? "" : "s");
        hint = "See";
    } else if (command->min == 0) {
        wanted = g_strdup_printf("requires at most %u argument%s", command->max, command->max == 1 ? "" : "s");
    } else {
        wanted = g_strdup_printf("requires at least %u and at most %u argument%s", command->min, command->max,
                                 command->max == 1 ? "" : "s");
    }
    return error_set(error, TARE_ERROR_INVALID, "%s: '%s %s' %s\n\nUsage:  %s\n\n%s '%s %s --help' for more information",
                     options->program, options->program, options->path, wanted, usage, hint, options->program, options->path);
}

static const GPtrArray *values_of(const struct options *options, const char *name)
{
    return g_hash_table_lookup(options->values, name);
}

bool options_given(const struct options *options, const char *name)
{
    return values_of(options, name) != NULL;
}

const char *options_string(const struct options *options, const char *name, const char *fallback)
{
    const GPtrArray *values = values_of(options, name);
    return values && values->len > 1 ? values->pdata[values->len - 2] : fallback;
}

bool options_bool(const struct options *options, const char *name, bool fallback)
{
    const char *text = options_string(options, name, NULL);
    bool value;
    return text && parse_bool(text, &value) ? value : fallback;
}

gint64 options_int(const struct options *options, const char *name, gint64 fallback)
{
    const char *text = options_string(options, name, NULL);
    gint64 value;
    return text && parse_int(text[0] == '+' ? text + 1 : text, G_MININT64, G_MAXINT64, &value) ? value : fallback;
}

gint64 options_bytes(const struct options *options, const char *name, gint64 fallback)
{
    const char *text = options_string(options, name, NULL);
    gint64 value;
    if (text && strcmp(text, "-1") == 0)
        return -1;
    return text && parse_ram_bytes(text, &value) ? value : fallback;
}

gint64 options_duration(const struct options *options, const char *name, gint64 fallback)
{
    const char *text = options_string(options, name, NULL);
    gint64 value;
    return text && parse_duration_ns(text, &value) ? value : fallback;
}

const char *const *options_list(const struct options *options, const char *name)
{
    static const char *const none[] = { NULL };
    const GPtrArray *values = values_of(options, name);
    return values ? (const char *const *)values->pdata : none;
}

json_t *options_map(const struct options *options, const char *name)
{
    json_t *map = json_object();
    for (const char *const *pair = options_list(options, name); *pair; pair++) {
        g_autofree char *key = g_strndup(*pair, strcspn(*pair, "="));
        const char *equals = strchr(*pair, '=');
        json_object_set_new(map, key, json_string_lossy(equals ? equals + 1 : ""));
    }
    return map;
}
