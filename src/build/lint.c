/* The rules of build --check over a parsed Dockerfile. Pure: what the images below have is asked for by a callback. */
#include "build/lint-internal.h"

#include "base/parse.h"

#include <stdarg.h>
#include <string.h>

/* ---- the rules ---- */

static const struct rule {
    const char *name, *page, *description;
    bool is_experimental;
} rules[LINT_N_RULES] = {
    [LINT_STAGE_NAME_CASING] = { "StageNameCasing", "stage-name-casing", "Stage names should be lowercase" },
    [LINT_FROM_AS_CASING] = { "FromAsCasing", "from-as-casing", "The 'as' keyword should match the case of the 'from' keyword" },
    [LINT_NO_EMPTY_CONTINUATION] = { "NoEmptyContinuation", "no-empty-continuation",
                                     "Empty continuation lines will become errors in a future release" },
    [LINT_CONSISTENT_INSTRUCTION_CASING] = { "ConsistentInstructionCasing", "consistent-instruction-casing",
                                             "All commands within the Dockerfile should use the same casing (either upper or "
                                             "lower)" },
    [LINT_DUPLICATE_STAGE_NAME] = { "DuplicateStageName", "duplicate-stage-name", "Stage names should be unique" },
    [LINT_RESERVED_STAGE_NAME] = { "ReservedStageName", "reserved-stage-name",
                                   "Reserved words should not be used as stage names" },
    [LINT_JSON_ARGS_RECOMMENDED] = { "JSONArgsRecommended", "json-args-recommended",
                                     "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS "
                                     "signals" },
    [LINT_MAINTAINER_DEPRECATED] = { "MaintainerDeprecated", "maintainer-deprecated",
                                     "The MAINTAINER instruction is deprecated, use a label instead to define an image author" },
    [LINT_UNDEFINED_ARG_IN_FROM] = { "UndefinedArgInFrom", "undefined-arg-in-from", "FROM command must use declared ARGs" },
    [LINT_WORKDIR_RELATIVE_PATH] = { "WorkdirRelativePath", "workdir-relative-path",
                                     "Relative workdir without an absolute workdir declared within the build can have unexpected "
                                     "results if the base image changes" },
    [LINT_UNDEFINED_VAR] = { "UndefinedVar", "undefined-var", "Variables should be defined before their use" },
    [LINT_MULTIPLE_INSTRUCTIONS] = { "MultipleInstructionsDisallowed", "multiple-instructions-disallowed",
                                     "Multiple instructions of the same type should not be used in the same stage" },
    [LINT_LEGACY_KEY_VALUE] = { "LegacyKeyValueFormat", "legacy-key-value-format",
                                "Legacy key/value format with whitespace separator should not be used" },
    [LINT_REDUNDANT_TARGET_PLATFORM] = { "RedundantTargetPlatform", "redundant-target-platform",
                                         "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the "
                                         "default behavior" },
    [LINT_SECRETS_IN_ARG_OR_ENV] = { "SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env",
                                     "Sensitive data should not be used in the ARG or ENV commands" },
    [LINT_INVALID_DEFAULT_ARG] = { "InvalidDefaultArgInFrom", "invalid-default-arg-in-from",
                                   "Default value for global ARG results in an empty or invalid base image name" },
    [LINT_CONST_PLATFORM] = { "FromPlatformFlagConstDisallowed", "from-platform-flag-const-disallowed",
                              "FROM --platform flag should not use a constant value" },
    [LINT_COPY_IGNORED_FILE] = { "CopyIgnoredFile", "copy-ignored-file",
                                 "Attempting to Copy file that is excluded by .dockerignore" },
    [LINT_DEFINITION_DESCRIPTION] = { "InvalidDefinitionDescription", "invalid-definition-description",
                                      "Comment for build stage or argument should follow the format: `# <arg/stage name> "
                                      "<description>`. If this is not intended to be a description comment, add an empty line or "
                                      "comment between the instruction and the comment.",
                                      true },
    [LINT_EXPOSE_PROTO_CASING] = { "ExposeProtoCasing", "expose-proto-casing",
                                   "Protocol in EXPOSE instruction should be lowercase" },
    [LINT_EXPOSE_INVALID_FORMAT] = { "ExposeInvalidFormat", "expose-invalid-format",
                                     "IP address and host-port mapping should not be used in EXPOSE instruction. This will "
                                     "become "
                                     "an error in a future release" },
};

const char *lint_rule_name(enum lint_rule rule)
{
    return rules[rule].name;
}

/* ---- which of them count ---- */

static int find_rule(const char *name)
{
    for (int i = 0; i < LINT_N_RULES; i++)
        if (g_ascii_strcasecmp(rules[i].name, name) == 0)
            return i;
    return -1;
}

static guint64 rule_set(const char *list)
{
    g_auto(GStrv) names = g_strsplit(list, ",", 256);
    guint64 set = 0;

    for (char **name = names; *name; name++) {
        int rule = find_rule(g_strstrip(*name));

        if (g_str_equal(*name, "all"))
            return G_MAXUINT64;
        if (rule >= 0)
            set |= G_GUINT64_CONSTANT(1) << rule;
    }
    return set;
}

/* "skip=A,B;error=true;experimental=all" */
bool lint_config_parse(const char *text, struct lint_config *config, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, ";", 3);

    for (char **part = parts; *part; part++) {
        char *equals = strchr(*part, '=');
        const char *value;
        bool on;

        if (!*g_strstrip(*part) && !parts[1])
            return true;
        if (!equals)
            return error_set(error, TARE_ERROR_INVALID, "invalid check option \"%s\"", *part);
        *equals = '\0';
        value = g_strstrip(equals + 1);
        g_strchomp(*part);
        if (g_str_equal(*part, "skip"))
            config->skipped |= rule_set(value);
        else if (g_str_equal(*part, "experimental"))
            config->experimental |= rule_set(value);
        else if (!g_str_equal(*part, "error"))
            return error_set(error, TARE_ERROR_INVALID, "invalid check option \"%s\"", *part);
        else if (!parse_bool(value, &on))
            return error_set(error, TARE_ERROR_INVALID, "failed to parse check option \"error=%s\"", value);
        else
            config->is_error = on;
    }
    return true;
}

/* "# check=skip=A because of this": for the instruction below the comment. */
static struct lint_config config_for(const struct lint *lint, const struct dockerfile_instruction *instruction)
{
    struct lint_config config = lint->config;

    for (char **comment = instruction->comments; comment && *comment; comment++) {
        g_autofree char *text = NULL;

        if (g_ascii_strncasecmp(*comment, "check=", 6) != 0)
            continue;
        text = g_strndup(*comment + 6, strcspn(*comment + 6, " "));
        lint_config_parse(text, &config, NULL);
    }
    return config;
}

/* ---- warnings ---- */

void lint_warning_free(struct lint_warning *warning)
{
    g_free(warning->message);
    g_free(warning->url);
    g_free(warning);
}

static void add_warning(struct lint *lint, enum lint_rule rule, const struct lint_config *config, unsigned line, unsigned end,
                        char *message)
{
    guint64 bit = G_GUINT64_CONSTANT(1) << rule;
    struct lint_warning *warning;

    if (rules[rule].is_experimental ? !(config->experimental & bit) : (config->skipped & bit) != 0) {
        g_free(message);
        return;
    }
    warning = g_new0(struct lint_warning, 1);
    warning->rule = rules[rule].name;
    warning->description = rules[rule].description;
    warning->url = g_strdup_printf("https://docs.docker.com/go/dockerfile/rule/%s/", rules[rule].page);
    warning->message = message;
    warning->line = line;
    warning->end = end;
    g_ptr_array_add(lint->warnings, warning);
}

void lint_warn(struct lint *lint, enum lint_rule rule, const struct dockerfile_instruction *at, const char *format, ...)
{
    struct lint_config config = config_for(lint, at);
    va_list arguments;
    char *message;

    va_start(arguments, format);
    message = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    add_warning(lint, rule, &config, at->line, at->end, message);
}

static void check_continuations(struct lint *lint)
{
    const GArray *lines = lint->dockerfile->empty_continuations;

    for (guint i = 0; i < lines->len; i++) {
        unsigned line = g_array_index(lines, unsigned, i);

        add_warning(lint, LINT_NO_EMPTY_CONTINUATION, &lint->config, line, line, g_strdup("Empty continuation line"));
    }
}

static gint compare_lines(gconstpointer a, gconstpointer b)
{
    const struct lint_warning *first = *(const struct lint_warning *const *)a, *second = *(const struct lint_warning *const *)b;

    if (first->line != second->line)
        return first->line < second->line ? -1 : 1;
    return first->order < second->order ? -1 : first->order > second->order;
}

bool dockerfile_lint(const struct dockerfile *dockerfile, const struct lint_options *options, struct lint_result *ret,
                     GError **error)
{
    struct lint lint = { .dockerfile = dockerfile, .options = options };

    if (dockerfile->check && !lint_config_parse(dockerfile->check, &lint.config, error))
        return false;
    lint.warnings = g_ptr_array_new_with_free_func((GDestroyNotify)lint_warning_free);
    check_continuations(&lint);
    lint_check_texts(&lint);
    lint_check_stages(&lint);
    for (guint i = 0; i < lint.warnings->len; i++)
        ((struct lint_warning *)lint.warnings->pdata[i])->order = i;
    g_ptr_array_sort(lint.warnings, compare_lines);
    *ret = (struct lint_result){ .warnings = lint.warnings, .is_error = lint.config.is_error };
    return true;
}
