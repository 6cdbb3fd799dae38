/* The builder's own parts. Bytes → struct dockerfile → struct build_plan is pure; what executes steps is at the end. */
#pragma once

#include "base/cancel.h"
#include "build/build.h"

/* ---- Go's ways of writing values, which Docker's messages and history texts have ---- */
char *go_quote(const char *text);                           /* %q of a string; g_free */
char *go_quote_list(const char *const *items);              /* %q of a slice: ["a" "b"] */
char *go_list(const char *const *items);                    /* %v of a slice: [a b] */
char *go_quote_rune(gint64 value);                          /* %q of an integer: '\x03' */
char *go_duration(gint64 ns);                               /* time.Duration.String(): 1m30s */
char *go_clean_path(const char *path);                      /* path.Clean */
char *go_join_path(const char *base, const char *relative); /* path.Join("/", base, relative) */

/* ---- a Dockerfile as text: instructions with their words, nothing checked beyond the syntax ---- */
#define DOCKERFILE_MAX (4u << 20)
#define DOCKERFILE_LINE_MAX 65535 /* of one physical line, as Docker */
#define DOCKERFILE_INSTRUCTIONS_MAX 10000

struct dockerfile_instruction {
    char *command;    /* small letters: "run" */
    char *source;     /* the line with its continuations joined, blanks around cut */
    char **flags;     /* "--name=value" before the arguments */
    char **args;      /* ENV, LABEL: name, value, name, value …; ONBUILD: the inner command, then its args */
    bool is_json;     /* args came from a JSON array */
    unsigned line;    /* where it begins, from 1 */
    bool has_heredoc; /* a word like <<EOF, which needs a later builder */
};
struct dockerfile {
    GPtrArray *instructions; /* of struct dockerfile_instruction * */
    GPtrArray *warnings;     /* of char *: for the stream's stderr, without line feed */
    char escape;             /* '\\' or '`' */
};
/* Errors are INVALID, as Docker words them after "failed to parse Dockerfile: ". */
bool dockerfile_parse(const char *text, size_t length, struct dockerfile **ret, GError **error);
void dockerfile_free(struct dockerfile *dockerfile);

/* Between the lexer (physical lines → logical lines) and the parser (one logical line → an instruction). */
struct dockerfile_line {
    char *text;
    unsigned line;
};
bool dockerfile_lex(const char *text, size_t length, GPtrArray *lines, GPtrArray *warnings, char *ret_escape, GError **error);
void dockerfile_line_free(struct dockerfile_line *line);
bool dockerfile_parse_line(const char *text, char escape, struct dockerfile_instruction **ret, GError **error);
void dockerfile_instruction_free(struct dockerfile_instruction *instruction);

/* ---- expansion of variables: $x ${x} ${x:-y} ${x:+y} ${x:?y}, quotes and escapes as a shell ---- */
/* variables: name → value (char *). NULL and INVALID: 'failed to process "…": …'. g_free / g_strfreev. */
char *expand_word(const char *word, GHashTable *variables, char escape, GError **error);
char **expand_words(const char *word, GHashTable *variables, char escape, GError **error);

/* ---- the plan ---- */
enum step_kind {
    STEP_ADD,
    STEP_ARG,
    STEP_CMD,
    STEP_COPY,
    STEP_ENTRYPOINT,
    STEP_ENV,
    STEP_EXPOSE,
    STEP_FROM,
    STEP_HEALTHCHECK,
    STEP_LABEL,
    STEP_MAINTAINER,
    STEP_ONBUILD,
    STEP_RUN,
    STEP_SHELL,
    STEP_STOPSIGNAL,
    STEP_USER,
    STEP_VOLUME,
    STEP_WORKDIR,
    STEP_N_KINDS,
};
const char *step_kind_name(enum step_kind kind); /* "ADD" */

struct build_step {
    enum step_kind kind;
    unsigned line;
    char *source; /* what "Step 1/3 : " shows */
    char **args;  /* as in dockerfile_instruction; ONBUILD: one, the trigger; HEALTHCHECK: none */
    bool is_json;
    bool literal;                          /* not to be expanded: labels of --label */
    char *chown, *chmod, *from, *platform; /* flags, NULL where not given */
    char *buildkit_flag;                   /* a flag of RUN that only BuildKit honours: "mount" */
    json_t *health;                        /* HEALTHCHECK's Config.Healthcheck */
};
struct build_stage {
    struct build_step *from; /* args[0]: the base, unexpanded */
    char *name;              /* small letters, or NULL */
    GPtrArray *steps;        /* of struct build_step * */
};
struct build_plan {
    GPtrArray *meta_args; /* ARG steps before the first FROM */
    GPtrArray *stages;    /* of struct build_stage * */
    GPtrArray *warnings;
    char escape;
};
/* Errors as Docker's, whole: 'dockerfile parse error line 3: unknown instruction: FOO'. */
bool build_plan_new(const struct dockerfile *dockerfile, struct build_plan **ret, GError **error);
void build_plan_free(struct build_plan *plan);
/* Drops what follows the stage target (a name or a number). */
bool build_plan_select(struct build_plan *plan, const char *target, GError **error);
/* --label: LABEL steps at the end of the last stage, by name. */
void build_plan_add_labels(struct build_plan *plan, const json_t *labels);
unsigned build_plan_count(const struct build_plan *plan);
bool build_step_new(const struct dockerfile_instruction *instruction, struct build_step **ret, GError **error);
void build_step_free(struct build_step *step);
/* One instruction as a text (an ONBUILD trigger). */
bool build_step_parse(const char *text, struct build_step **ret, GError **error);

/* A copy with its words expanded by the rules of its kind. */
bool build_step_expand(const struct build_step *step, GHashTable *variables, char escape, struct build_step **ret,
                       GError **error);
