/* The parts of the linter: lint.c has the rules and what becomes of them, lint_text.c those over instructions as they are
 * spelled, lint_stages.c those that follow the values of variables. */
#pragma once

#include "build/build-internal.h"

enum lint_rule {
    LINT_STAGE_NAME_CASING,
    LINT_FROM_AS_CASING,
    LINT_NO_EMPTY_CONTINUATION,
    LINT_CONSISTENT_INSTRUCTION_CASING,
    LINT_DUPLICATE_STAGE_NAME,
    LINT_RESERVED_STAGE_NAME,
    LINT_JSON_ARGS_RECOMMENDED,
    LINT_MAINTAINER_DEPRECATED,
    LINT_UNDEFINED_ARG_IN_FROM,
    LINT_WORKDIR_RELATIVE_PATH,
    LINT_UNDEFINED_VAR,
    LINT_MULTIPLE_INSTRUCTIONS,
    LINT_LEGACY_KEY_VALUE,
    LINT_REDUNDANT_TARGET_PLATFORM,
    LINT_SECRETS_IN_ARG_OR_ENV,
    LINT_INVALID_DEFAULT_ARG,
    LINT_CONST_PLATFORM,
    LINT_COPY_IGNORED_FILE,
    LINT_DEFINITION_DESCRIPTION,
    LINT_EXPOSE_PROTO_CASING,
    LINT_EXPOSE_INVALID_FORMAT,
    LINT_N_RULES,
};
const char *lint_rule_name(enum lint_rule rule);

struct lint_config {
    guint64 skipped, experimental; /* bits of rules */
    bool is_error;
};
bool lint_config_parse(const char *text, struct lint_config *config, GError **error);

struct lint {
    const struct dockerfile *dockerfile;
    const struct lint_options *options;
    struct lint_config config;
    GPtrArray *warnings;
};
void lint_warn(struct lint *lint, enum lint_rule rule, const struct dockerfile_instruction *at, const char *format, ...)
    G_GNUC_PRINTF(4, 5);
void lint_check_texts(struct lint *lint);
void lint_check_stages(struct lint *lint);
bool lint_is(const struct dockerfile_instruction *instruction, const char *command);
/* The value of a flag, or NULL. */
const char *lint_flag(const struct dockerfile_instruction *instruction, const char *name);
