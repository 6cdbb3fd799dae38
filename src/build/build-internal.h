/* The builder's own parts. Bytes → struct dockerfile → struct build_plan is pure; what executes steps is at the end. */
#pragma once

#include "base/cancel.h"
#include "build/build.h"

#include <sys/stat.h>

/* ---- Go's ways of writing values, which Docker's messages and history texts have ---- */
char *go_quote(const char *text);                           /* %q of a string; g_free */
char *go_quote_list(const char *const *items);              /* %q of a slice: ["a" "b"] */
char *go_list(const char *const *items);                    /* %v of a slice: [a b] */
char *go_quote_rune(gint64 value);                          /* %q of an integer: '\x03' */
char *go_clean_path(const char *path);                      /* path.Clean */
char *go_join_path(const char *base, const char *relative); /* path.Join("/", base, relative) */

/* ---- a Dockerfile as text: instructions with their words, nothing checked beyond the syntax ---- */
#define DOCKERFILE_MAX (4u << 20)
#define DOCKERFILE_LINE_MAX 65535 /* of one physical line, as Docker */
#define DOCKERFILE_INSTRUCTIONS_MAX 10000

#define DOCKERFILE_HEREDOCS_MAX 100 /* of one instruction */

struct dockerfile_heredoc {
    char *name;
    char *content;    /* with the line ends that it had; without the tabs that <<- takes off */
    bool is_expanded; /* its name was not quoted */
    bool is_chomped;  /* <<- */
};
/* Is word a here-document's (<<EOF, 3<<-"EOF")? NULL where it is not; the content is not known yet. */
struct dockerfile_heredoc *heredoc_of_word(const char *word);
/* Those of a logical line, in order, where its instruction can have any; else an empty array. */
GPtrArray *heredocs_of_line(const char *line, GError **error);
/* The one that word names, or NULL. */
const struct dockerfile_heredoc *heredoc_find(const GPtrArray *heredocs, const char *word);
GPtrArray *heredocs_copy(const GPtrArray *heredocs);
void heredoc_free(struct dockerfile_heredoc *heredoc);
char *heredoc_summary(const struct dockerfile_heredoc *heredoc); /* its first line, and "..." where there are more; g_free */
/* What RUN executes for a line with here-documents: the content alone, or the line with them after it. */
char *heredoc_script(const char *line, const GPtrArray *heredocs);

struct dockerfile_instruction {
    char *command;       /* small letters: "run" */
    char *word;          /* as it is spelled: "Run" */
    char *source;        /* the line with its continuations joined, blanks around cut */
    char **flags;        /* "--name=value" before the arguments */
    char **args;         /* ENV, LABEL: name, value, name, value …; ONBUILD: the inner command, then its args */
    bool is_json;        /* args came from a JSON array */
    bool is_old_form;    /* ENV, LABEL: name value, without "=" */
    unsigned line, end;  /* the lines where it begins and ends, from 1 */
    GPtrArray *heredocs; /* of struct dockerfile_heredoc *, never NULL */
    char **comments;     /* the lines of comment just above it, without "#"; NULL for none */
};
struct dockerfile {
    GPtrArray *instructions;     /* of struct dockerfile_instruction * */
    GPtrArray *warnings;         /* of char *: for the stream's stderr, without line feed */
    GArray *empty_continuations; /* of unsigned: lines at which an instruction with one ends */
    char *check, *syntax;        /* values of the parser directives, or NULL */
    char escape;                 /* '\\' or '`' */
};
/* Errors are INVALID, as Docker words them after "failed to parse Dockerfile: ". */
bool dockerfile_parse(const char *text, size_t length, struct dockerfile **ret, GError **error);
/* The same; on failure *ret_lines says where: first and last line. */
struct dockerfile_lines {
    unsigned first, last;
};
bool dockerfile_parse_at(const char *text, size_t length, struct dockerfile **ret, struct dockerfile_lines *ret_lines,
                         GError **error);
/* The lines first to last of a Dockerfile with two around them, numbered, those meant marked; g_free. */
char *dockerfile_excerpt(const char *text, size_t length, const char *name, unsigned first, unsigned last);
void dockerfile_free(struct dockerfile *dockerfile);

/* Between the lexer (physical lines → logical lines) and the parser (one logical line → an instruction). */
struct dockerfile_line {
    char *text;
    unsigned line, end;
    GPtrArray *heredocs;
    char **comments;
};
/* Fills dockerfile's directives and warnings; lines: of struct dockerfile_line *. */
bool dockerfile_lex(const char *text, size_t length, GPtrArray *lines, struct dockerfile *dockerfile,
                    struct dockerfile_lines *ret_lines, GError **error);
void dockerfile_line_free(struct dockerfile_line *line);
bool dockerfile_parse_line(const char *text, char escape, struct dockerfile_instruction **ret, GError **error);
void dockerfile_instruction_free(struct dockerfile_instruction *instruction);

/* ---- build --check ---- */
struct lint_warning {
    const char *rule, *description;
    char *url, *message;
    unsigned line, end;
    guint order;
};
void lint_warning_free(struct lint_warning *warning);
struct lint_options {
    const json_t *build_args;
    const char *dockerignore; /* its rules, or NULL */
    /* The "k=v" that an image sets, or NULL where that is not known; a new array. May be NULL. */
    json_t *(*base_env)(void *user, const char *image);
    void *user;
};
struct lint_result {
    GPtrArray *warnings; /* of struct lint_warning *, by line */
    bool is_error;       /* "check=error=true" */
};
/* INVALID for a "check" directive that says something else. */
bool dockerfile_lint(const struct dockerfile *dockerfile, const struct lint_options *options, struct lint_result *ret,
                     GError **error);

/* ---- expansion of variables: $x ${x} ${x:-y} ${x:+y} ${x:?y} ${x#p} ${x##p} ${x%p} ${x%%p} ${x/p/r} ${x//p/r}, quotes and
 * escapes as a shell ---- */
/* variables: name → value (char *). NULL and INVALID: 'failed to process "…": …'. g_free / g_strfreev. */
char *expand_word(const char *word, GHashTable *variables, char escape, GError **error);
char **expand_words(const char *word, GHashTable *variables, char escape, GError **error);
#define EXPAND_RESULT_MAX (1u << 20)
/* value without the prefix or suffix that pattern matches, or with what it matches replaced. */
bool expand_trim(const char *value, const char *pattern, bool is_suffix, bool is_greedy, char **ret, GError **error);
bool expand_replace(const char *value, const char *pattern, const char *replacement, bool all, char **ret, GError **error);
/* The content of a here-document: quotes are characters like others. */
char *expand_text(const char *text, GHashTable *variables, GError **error);
/* The names that word uses and that variables does not have, each once, are appended to unset (of char *). */
void expand_find_unset(const char *word, GHashTable *variables, char escape, GPtrArray *unset);

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
    unsigned end;                          /* the last line of it; see line */
    bool literal;                          /* not to be expanded: labels of --label */
    char *chown, *chmod, *from, *platform; /* flags, NULL where not given */
    char *checksum, *network, *security;   /* the same */
    char **excludes, **mounts;             /* flags that may come several times; NULL where not given */
    bool link, parents, keep_git_dir;      /* flags without a value */
    int unpack;                            /* ADD --unpack: 1, 0, -1 where not given */
    json_t *health;                        /* HEALTHCHECK's Config.Healthcheck */
    GPtrArray *heredocs;                   /* of struct dockerfile_heredoc *, never NULL */
    GPtrArray *run_mounts;                 /* of struct run_mount *: what mounts says, once expanded; else NULL */
};

/* ---- RUN --mount ---- */
enum run_mount_type { RUN_MOUNT_BIND, RUN_MOUNT_CACHE, RUN_MOUNT_TMPFS, RUN_MOUNT_SECRET, RUN_MOUNT_SSH };
enum run_mount_sharing { RUN_MOUNT_SHARED, RUN_MOUNT_PRIVATE, RUN_MOUNT_LOCKED };
struct run_mount {
    enum run_mount_type type;
    enum run_mount_sharing sharing;
    char *from, *source, *target, *id, *env; /* NULL where not given */
    bool read_only, required;
    gint64 size;     /* of a tmpfs; 0: no limit of its own */
    int mode;        /* -1: not given */
    gint64 uid, gid; /* -1: not given */
};
/* variables NULL: only what can be said before expansion is checked, and nothing returned. */
bool run_mount_parse(const char *text, GHashTable *variables, char escape, struct run_mount **ret, GError **error);
void run_mount_free(struct run_mount *mount);
/* from= of a --mount's text, unexpanded (it may hold no variable), or NULL; g_free. What a step reads from besides --from. */
char *run_mount_from(const char *text);

struct build_stage {
    struct build_step *from; /* args[0]: the base, unexpanded */
    char *name;              /* small letters, or NULL */
    GPtrArray *steps;        /* of struct build_step * */
};
struct build_plan {
    GPtrArray *meta_args; /* ARG steps before the first FROM */
    GPtrArray *stages;    /* of struct build_stage * */
    GPtrArray *warnings;
    char *platform, *target; /* of the request, for the predefined args; or NULL */
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

/* ---- build args: what ARG declares, what --build-arg gives ---- */
struct build_args;
struct build_args *build_args_new(const json_t *given);
void build_args_free(struct build_args *args);
/* For one stage: what stands before the first FROM is known, nothing is declared. */
struct build_args *build_args_new_stage(const struct build_args *args);
/* What the stage referenced counts for the warning about the rest. */
void build_args_merge(struct build_args *args, const struct build_args *stage);
/* An ARG before the first FROM, expanded; or all of a plan. */
bool build_args_declare_step(struct build_args *args, const struct build_step *step, char escape, GError **error);
bool build_args_declare_all_meta(struct build_args *args, const struct build_plan *plan, GError **error);
void build_args_declare(struct build_args *args, const char *name, const char *value); /* value may be NULL */
void build_args_declare_meta(struct build_args *args, const char *name, const char *value);
/* For expansion: env (["k=v"]) and the declared args; for FROM: only what stands before the first one. Values are owned by the
 * table. */
GHashTable *build_args_variables(const struct build_args *args, const json_t *env);
GHashTable *build_args_meta_variables(const struct build_args *args);
/* "k=v" of the args that RUN gets beside env, sorted; g_strfreev. */
char **build_args_env(const struct build_args *args, const json_t *env);
/* The proxy variables, which need no ARG and stay out of history unless declared. */
/* TARGETPLATFORM, BUILDPLATFORM, their parts and TARGETSTAGE; NULL: this machine's platform, no target. */
void build_args_predefine(struct build_args *args, const char *platform, const char *target);
/* A stage that is based on another has what that one declared: in variables and environment, not in the history. */
void build_args_inherit(struct build_args *args, const struct build_args *base);
bool build_args_is_declared(const struct build_args *args, const char *name);
bool build_args_is_inherited(const struct build_args *args, const char *name);
bool build_args_is_transparent(const struct build_args *args, const char *name);
char **build_args_unconsumed(const struct build_args *args); /* sorted */

/* ---- the graph of stages ---- */
struct build_node {
    GArray *needs; /* of guint: earlier stages */
    int base;      /* the stage that FROM names, or -1 */
    bool needed;   /* by the target */
};
struct build_graph {
    struct build_node *nodes; /* one a stage */
    guint n;
};
/* given: of --build-arg, which may decide what FROM names. */
struct build_graph *build_graph_new(const struct build_plan *plan, const json_t *given);
void build_graph_free(struct build_graph *graph);
/* Marks a stage and all that it needs. */
void build_graph_need(struct build_graph *graph, guint stage);
unsigned build_graph_count(const struct build_graph *graph, const struct build_plan *plan);
/* One line a stage, for tests. */
char *build_graph_text(const struct build_graph *graph, const struct build_plan *plan);
/* The stage of this name among the first ones, or -1. */
int build_plan_find_stage(const struct build_plan *plan, const char *name, guint before);

/* ---- the run config (Config of an image) ---- */
/* SHELL, or /bin/sh -c; a new array. */
json_t *run_config_shell(const json_t *config);
bool run_config_has_path(const json_t *config);
/* What a metadata step changes. */
struct metadata {
    json_t *config;
    char *maintainer;
    bool cmd_set;            /* CMD in this stage: ENTRYPOINT then leaves it */
    struct build_args *args; /* NULL where ARG is not allowed */
};
/* Applies an expanded step (all kinds but FROM, RUN, COPY, ADD). *ret_comment is the history's text ("CMD [\"x\"]"), *ret_note a
 * line for the stream or NULL. */
bool metadata_apply(struct metadata *metadata, const struct build_step *step, char **ret_comment, char **ret_note,
                    GError **error);
/* The words of RUN, CMD, ENTRYPOINT with the shell before them where they are a text; new array, json null for none. */
json_t *metadata_command_line(const json_t *config, const struct build_step *step);

/* ---- the stream of messages ---- */
struct build_stream {
    const struct build_output *output;
    bool quiet;                 /* keep all back; only an error lets it out */
    bool sent;                  /* something went out */
    bool broken;                /* the client does not take messages any more */
    bool progress;              /* steps as they begin and end, not the classic text */
    char *vertex, *vertex_name; /* of the step under way; NULL between steps */
    gint64 vertex_started;
    GQueue pending; /* of json_t *, when quiet */
    gsize pending_bytes;
};
void build_stream_init(struct build_stream *stream, const struct build_output *output, bool quiet);
void build_stream_clear(struct build_stream *stream);
void build_stream_text(struct build_stream *stream, const char *format, ...) G_GNUC_PRINTF(2, 3);
void build_stream_bytes(struct build_stream *stream, const char *data, gsize length, bool is_stderr);
void build_stream_aux(struct build_stream *stream, const char *image_id);
/* A message as it is; takes it. */
void build_stream_pass(struct build_stream *stream, json_t *message);
/* The image's id as the only output of a quiet build. */
void build_stream_quiet_result(struct build_stream *stream, const char *image_id);
/* Sends the error where something was sent or kept before; else the caller answers with it alone. code 0: none. */
void build_stream_error(struct build_stream *stream, int code, const char *message);
/* ---- progress, for our own command: see progress.c ---- */
#define BUILD_PROGRESS_ID "tare.build"
void build_progress_begin(struct build_stream *stream, const char *name);
void build_progress_log(struct build_stream *stream, const char *data, gsize length, bool is_stderr);
void build_progress_warn(struct build_stream *stream, const char *text, const char *url);
/* problem: NULL for success. */
void build_progress_end(struct build_stream *stream, bool cached, const char *problem);
struct build;
void build_progress_begin_step(struct build *build, const struct build_stage *stage, const struct build_step *step);

/* The 12 digits that people see; "" for NULL. */
const char *short_id(const char *id, char buffer[13]);

/* ---- wildcards ---- */
/* filepath.Match: 1, 0, or -1 for a malformed pattern. */
int copy_match(const char *pattern, const char *name);
/* A pattern with "**" for any number of directories against a whole path, or a directory above it. */
bool copy_match_covers(const char *pattern, const char *path);
/* --chmod, octal or symbolic, applied to a mode; false for a text that is neither. */
bool copy_mode_apply(const char *text, mode_t mode, bool is_directory, mode_t *ret);
bool copy_mode_check(const char *text, GError **error);
bool copy_has_wildcards(const char *pattern);
/* .dockerignore's rules for one path: the last rule that matches it or a parent decides. */
bool dockerignore_excludes(const char *rules, const char *path);

/* ---- execution ---- */
struct build;
struct builder {
    struct database *database;
    struct layer_store *layers;
    struct image_store *images;
    struct container_manager *containers;
    build_pull_func pull;
    void *pull_user;

    /* Between the moment when an ingest may find its layer in the store and the moment when the build holds it, no other build
     * may let go of that layer: the same context is often built twice at once. */
    GMutex layers_lock;
    GCond layers_free;
    unsigned n_taking;

    GMutex flights_lock;
    GHashTable *flights; /* "PARENT KEY" of steps under way → struct flight */

    GMutex contexts_lock;
    GHashTable *uploads; /* id → struct context_upload */

    GMutex lent_lock;
    GHashTable *lent; /* id → secrets that wait for their build, or that one has */

    build_download_func download;
    void *download_user;
    char *directory; /* has caches/ and tmp/; or NULL */
    GMutex caches_lock;
    GCond caches_changed;
    GHashTable *caches; /* names of cache mounts in use → struct cache_use */
};
/* caches/ and tmp/; what a killed engine left in tmp goes. */
bool builder_open_directory(struct builder *builder, const char *directory, GError **error);
void builder_close_directory(struct builder *builder);
/* A new directory in tmp: its path, or NULL. Removed with all in it. */
char *builder_temporary(struct builder *builder, GError **error);
void builder_temporary_remove(struct builder *builder, char *path); /* frees path; NULL is allowed */
void builder_begin_taking(struct builder *builder);
void builder_end_taking(struct builder *builder);
/* Waits for those who are taking layers, which is short. */
void builder_release(struct builder *builder, const char *holder);
/* Commits the draft and holds its layer for the build. */
bool build_commit_draft(struct build *build, struct layer_draft *draft, struct layer_info *ret, GError **error);

/* ---- listings of clients' directories: pure ---- */
#define LISTING_ENTRIES_MAX 4000000u
#define LISTING_BYTES_MAX (512u << 20)

/* In data: facts NUL path NUL, sorted by path. facts: "MODE SIZE STAMP", and for a symbolic link " TARGET"; MODE octal with the
 * type, STAMP whatever changes when the content may have changed, with "?" before it where that is not known; names of one file
 * have one stamp. */
struct listing_entry {
    const char *facts, *path;
};
struct listing {
    const char *data;
    gsize length;
    GMappedFile *mapping; /* that data is in; NULL: data is the listing's own */
    GArray *entries;      /* of struct listing_entry */
};
struct listing_facts {
    mode_t mode;
    guint64 size;
    const char *stamp, *link; /* in the facts; stamp goes up to a blank; link NULL for none */
};
struct listing_pair {
    guint old, new;
};
/* Takes data in any case. */
bool listing_parse(char *data, gsize length, struct listing **ret, GError **error);
/* Of a part of a file. */
bool listing_parse_mapped(GMappedFile *mapping, gsize offset, gsize length, struct listing **ret, GError **error);
void listing_free(struct listing *listing);
bool listing_read_facts(const char *facts, struct listing_facts *ret);
int listing_compare_paths(const char *a, const char *b);
/* Indices of new that must be sent, pairs that stay, and paths of old that are gone (without what is below them). */
void listing_diff(const struct listing *old, const struct listing *new, GArray *needed, GArray *kept, GPtrArray *removed);
/* What a tar of it all has at least, contents of hard links once; no more than 2^64 - 1. */
guint64 listing_tar_bytes(const struct listing *listing);
/* The first entry that is not before path. */
guint listing_find(const struct listing *listing, const char *path);

/* ---- contexts that are kept for the next build ---- */
#define CONTEXT_DIGEST_SIZE 32
/* ---- content_digest.c ---- */
/* path is for the error. */
bool content_digest(int fd, const char *path, struct cancel *cancel, guint8 ret[CONTEXT_DIGEST_SIZE], GError **error);

/* What a context has, and the digests of those contents that were read (zeros: not yet). Shared by the stages. */
struct context_files {
    gint references;
    struct listing *listing;
    guint64 bytes; /* of its files */
    GMutex lock;   /* of what follows */
    guint8 *digests;
    bool changed; /* since it was saved */
};
struct context_files *context_files_new(struct listing *listing);
static inline struct context_files *context_files_ref(struct context_files *files)
{
    g_atomic_int_inc(&files->references);
    return files;
}
void context_files_unref(struct context_files *files);
struct build_context;
/* Takes what builder_announce_context announced, and the body with what it lacked. */
bool context_store_open(struct builder *builder, const char *id, struct byte_source *body, const char *holder,
                        struct cancel *cancel, struct build_context *context, GError **error);
/* What cannot be kept is forgotten, and sent again. */
void context_store_save(struct builder *builder, const char *key, const char *const *layers, struct context_files *files);
/* What was kept under a key. */
struct context_record {
    char **layers;
    struct listing *listing;
    const guint8 *digests; /* as in struct context_files; in the listing's mapping */
};
/* False where there is none that can be built on. */
bool context_record_read(struct builder *builder, const char *key, struct context_record *ret);
void context_record_clear(struct context_record *record);
/* Makes contexts/ in the builder's directory, and sweeps it. */
void context_records_open(struct builder *builder, int top);
/* A named context that was uploaded; context is filled as far as it got. */
bool context_store_share(struct builder *builder, const char *id, const char *holder, struct build_context *context,
                         GError **error);
void context_store_forget(struct builder *builder, const char *key);
/* After a build: what it learned is kept. */
void context_store_finish(struct builder *builder, struct build_context *context);
void context_store_close(struct builder *builder);

/* The build context: a mounted layer, or nothing where the body was a Dockerfile. */
struct build_context {
    int root_fd; /* -1: none */
    struct layer_stack *stack;
    struct context_files *files; /* of one that is kept, else NULL */
    char *key, **layers;         /* of the same */
    char *directory;             /* a clone that goes with the context, or NULL */
    GHashTable *excluded;        /* paths that COPY does not see: the Dockerfile and .dockerignore where the rules say so */
    char *dockerfile;            /* its text */
    gsize dockerfile_length;
    char *dockerfile_name;
    gint64 dockerfile_mtime; /* 0 where unknown */
};
/* source: the request's body, NULL where the request says what to fetch. holder: see image_store_hold_layers. */
bool build_context_open(struct builder *builder, struct byte_source *source, const struct build_request *request,
                        const char *holder, struct cancel *cancel, struct build_context *ret, GError **error);
void build_context_clear(struct build_context *context);
/* TOO_LARGE for more than one layer may have: what is sent is measured again as it comes. */
bool build_context_check_size(const struct builder *builder, guint64 bytes, GError **error);
/* gzip, zstd, xz, bzip2 or a tar, by the first 512 bytes. */
bool build_looks_archived(const char *start, gsize length);
bool build_is_tar_header(const char *block, gsize length);

/* A stage under way, and what is left of a finished one. */
struct build_state {
    struct image *image; /* NULL: scratch and nothing on it yet */
    struct image *base;  /* what FROM named; NULL: scratch */
    struct metadata metadata;
    char *stage_name;
};

struct build_job;
/* One stage's view of a build: its own stream, args, state and containers; the rest is shared by the stages, which run in
 * parallel. */
struct build {
    struct builder *builder;
    const struct build_request *request;
    struct build_stream stream;
    struct cancel *cancel;
    char *holder; /* of layers that no image has yet */
    struct build_context context;
    struct build_named *named;
    struct build_plan *plan;
    struct build_args *args;
    gint64 epoch; /* the time of what a step makes without a model, in seconds: the same for the same context */
    unsigned step, n_steps;
    bool no_cache;           /* of this stage */
    const char *cache_extra; /* what else the step's result depends on, for its key; NULL from step to step */
    bool was_cached;         /* the step under way */
    struct flight *flight;   /* of the step under way, from its probe to its end */
    struct build_job *job;
    guint index; /* of the stage */
    struct build_state *state;
    GPtrArray *containers; /* ids of intermediate containers of the current step; those that do not exist begin with "-" */
    bool made_images;      /* not all came from the cache */
    int exit_code;         /* of a failed RUN, for the error message */
    bool bad_format;       /* the step under way has said that the kernel cannot execute its program */
};

/* A root file system to read in: of an image, or empty. */
struct build_root {
    struct layer_stack *stack;
    int fd;
};

void build_state_free(struct build_state *state);
/* Runs what the graph says is needed; the target's state becomes the build's. */
bool build_run_stages(struct build *build, struct build_graph *graph, GError **error);
bool build_run_stage(struct build *build, const struct build_stage *stage, guint index, GError **error);
/* Waits until that stage is through, or has it run. It must be an earlier one; nothing may be locked, and the step's cache key
 * not yet asked for. */
bool build_stage_result(struct build *build, guint index, const struct build_state **ret, GError **error);
/* What --from names, by name or number: *ret is NULL where it is no stage. Waits. */
bool build_find_stage(struct build *build, const char *name, const struct build_state **ret, GError **error);
/* "Step 1/3 : …" */
void build_print_step(struct build *build, const struct build_step *step);
/* What --from (and RUN --mount's from) names: a named context, a stage, which is waited for, or an image; its files. Before the
 * step's cache key is asked for. ret_files, where not NULL: as in struct copy_sources, borrowed. */
bool build_open_from(struct build *build, const char *name, struct build_root *ret, struct context_files **ret_files,
                     GError **error);
/* Is it a directory of the client's, and no image? */
bool build_named_is_context(const struct build *build, const char *name);
/* FROM of a named context. *ret NULL and *ret_found false where there is none of this name. */
bool build_named_base(struct build *build, const char *name, bool *ret_found, struct image **ret, GError **error);
bool build_named_image(const struct build *build, const char *name, const char **ret);
struct build_named *build_named_new(void);
void build_named_free(struct build_named *named);
/* The context's Dockerfile as the build's plan. */
bool build_read_plan(struct build *build, GError **error);
/* Puts the lines of a step that failed before the error, where the client wants them. */
void build_add_excerpt(const struct build *build, const struct build_step *step, GError **error);
bool build_check_platform(const char *text, GError **error);

bool build_root_acquire(struct build *build, const struct image *image, struct build_root *ret,
                        GError **error); /* no mount yet */
bool build_root_open(struct build *build, const struct image *image, struct build_root *ret, GError **error);
void build_root_clear(struct build_root *root);

/* The image that FROM or --from names, pulled where it is missing and can be. */
bool build_find_image(struct build *build, const char *name, struct image **ret, GError **error);
bool build_find_image_for(struct build *build, const char *name, const char *platform, struct image **ret, GError **error);
/* Makes the step's image the state's. cmd: the words that history shows, joined; layer NULL: none was added. container may be
 * NULL. */
bool build_add_image(struct build *build, json_t *cmd, const struct layer_info *layer, const char *container, GError **error);

/* Looks for the step in the cache: the config with cmd as its command on the state's image. On a hit the state has the image.
 * Waits where another stage or build is at the same step. After a miss this one is, until the step's end: what it must wait for
 * (other stages) it has waited for before. */
bool cache_probe(struct build *build, const json_t *cmd, const json_t *entrypoint, bool *ret_hit, GError **error);
/* The step out of an image of --cache-from; *ret_hit stays false where none has it. */
bool cache_take_over(struct build *build, const json_t *cmd, bool *ret_hit, GError **error);
/* Pulls those images of --cache-from that are not there, as far as they can be had. */
void cache_fetch_sources(struct build *build);
void cache_end_flight(struct build *build);
/* Whether this build, in any stage, has made that step; add notes it. */
bool build_made_step(struct build *build, const char *name, bool add);
/* Remembers the state's image as the result of the step that was probed on parent. */
bool cache_store(struct build *build, const char *parent, const char *key, GError **error);
/* The end of a build: one durable transaction, which makes those of the steps durable too. */
bool cache_finish(struct build *build, const struct image *image, GError **error);
char *cache_key(const struct build *build, const json_t *cmd, const json_t *entrypoint);
bool cache_migrate(struct database *database, GError **error);

/* --squash: the state's image becomes one with a single layer upon its stage's base. */
bool build_squash(struct build *build, GError **error);

bool step_metadata(struct build *build, const struct build_step *step, GError **error);
bool step_workdir(struct build *build, const char *comment, GError **error);
bool step_run(struct build *build, const struct build_step *step, GError **error);
bool step_copy(struct build *build, const struct build_step *step, GError **error);
/* " ---> Running in ID"; the container is a real one only where it would stay. */
bool build_announce_container(struct build *build, const json_t *cmd, char **ret_id, GError **error);
json_t *build_nop_command(const struct build *build, const char *comment, bool two_words);
/* The time that the document of a step's image has: that of its sources, so that the same sources give the same image, or now. */
gint64 build_created_ns(const struct build *build);
const char *build_parent_id(const struct build *build); /* "" for none */

/* ---- what a RUN step has mounted ---- */
/* A cache mount in use by a step. */
struct cache_mount;
/* image: the base that from= names, or NULL. Waits as sharing says. name: the Dockerfile's id. */
struct cache_mount_options {
    const char *name, *description;
    const struct image *base;
    enum run_mount_sharing sharing;
    mode_t mode;
    uid_t uid;
    gid_t gid;
};
bool cache_mount_acquire(struct builder *builder, const struct cache_mount_options *options, struct cancel *cancel,
                         struct cache_mount **ret, GError **error);
int cache_mount_fd(const struct cache_mount *cache);           /* over a base: the overlay */
const char *cache_mount_path(const struct cache_mount *cache); /* without one */
void cache_mount_release(struct builder *builder, struct cache_mount *cache);

/* A detached mount of a stack with an upper directory, or -1. */
int build_stack_writable(struct layer_stack *stack, const char *upper, const char *work, GError **error);

struct run_mounts;
/* Resolves what the step's mounts read from, which may wait for other stages; nothing is mounted yet. */
bool run_mounts_new(struct build *build, const struct build_step *step, struct run_mounts **ret, GError **error);
/* What the cache key has of them: no secret's content, no cache's. New array of strings. */
json_t *run_mounts_key(const struct run_mounts *mounts);
/* Mounts all. HostConfig gets its members; env: "NAME=value" that no record may have. */
bool run_mounts_open(struct run_mounts *mounts, json_t *host_config, GError **error);
/* A script for /dev/pipes, where a here-document begins with "#!". */
bool run_mounts_add_script(struct run_mounts *mounts, const char *name, const char *script, json_t *host_config, GError **error);
const char *const *run_mounts_env(const struct run_mounts *mounts);
const char *const *run_mounts_stubs(const struct run_mounts *mounts); /* see struct container_commit_options */
void run_mounts_free(struct run_mounts *mounts);

void secrets_open(struct builder *builder);
void secrets_close(struct builder *builder);
/* A socket in a directory that leads to the client's ssh agent, served by a thread of its own. */
struct agent_socket;
bool agent_socket_open(struct build_secrets *secrets, const char *id, int directory_fd, const char *name,
                       struct agent_socket **ret, GError **error);
void agent_socket_close(struct agent_socket *agent);

/* ---- files in memory ---- */
struct scratch_file {
    const char *name; /* one component */
    const void *data;
    gsize length;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    gint64 mtime;
};
/* A detached mount, or -1. */
int scratch_open(GError **error);
bool scratch_write(int root, const struct scratch_file *file, GError **error);
/* What an fd (of a detached mount too, from Linux 6.15 on) leads to as a mount of its own, detached. */
int mount_clone(int fd, GError **error);

/* ---- COPY's parts ---- */
struct copy_source {
    int root_fd;      /* borrowed */
    char *path;       /* below it, clean, "." for the root; links in it are followed */
    char *parents;    /* --parents: the path below dest, with its directories; else NULL */
    char *pivot;      /* with parents: where that path begins, "." or a path of the root */
    struct stat stat; /* of what it leads to */
    char *hash;       /* "file:…" or "dir:…" */
    bool is_remote;   /* came from a URL: an archive stays as it is then */
};
struct copy_sources {
    int root_fd;
    GHashTable *excluded;        /* or NULL */
    struct context_files *files; /* of the context, or NULL */
    char **exclude;              /* --exclude: patterns, or NULL */
    bool is_context;             /* for the messages */
    bool parents;                /* --parents */
    bool left_out;               /* a file that was named is left out by exclude */
    GPtrArray *items;            /* of struct copy_source * */
    struct cancel *cancel;
};
bool copy_sources_add(struct copy_sources *sources, const char *pattern, GError **error);
/* ---- ADD's sources from elsewhere ---- */
#define COPY_DOWNLOAD_MAX (G_GUINT64_CONSTANT(64) << 30)
struct copy_remote;
struct copy_remote *copy_remote_new(struct build *build);
void copy_remote_free(struct copy_remote *remote); /* after the layer is written */
bool copy_is_url(const char *text);
/* --checksum, before anything is fetched. */
bool copy_remote_check(const struct build_step *step, GError **error);
bool copy_remote_add(struct copy_remote *remote, const struct build_step *step, const char *source, struct copy_sources *sources,
                     GError **error);

/* One file of another root (a here-document, a download); name as the copy has it. hash NULL: made of the content. */
bool copy_sources_add_file(struct copy_sources *sources, int root_fd, const char *path, const char *hash, GError **error);
/* Is a path, relative to the source that it belongs to, left out by --exclude? */
bool copy_sources_leave_out(const struct copy_sources *sources, const char *relative);
void copy_sources_clear(struct copy_sources *sources);
/* All below path (itself not), parents before children, sorted; called with the path relative to the root. */
typedef bool (*copy_walk_func)(void *user, const char *path, const struct stat *stat, GError **error);
bool copy_walk(const struct copy_sources *sources, const char *path, unsigned max_depth, copy_walk_func func, void *user,
               GError **error);

/* What the new layer will have. */
struct copy_layer;
struct copy_layer_options {
    int target_fd; /* the image's root */
    bool keep_owner;
    bool is_link; /* --link: the image's own links are not followed, its directories keep their attributes */
    uid_t uid;
    gid_t gid;
    const char *chmod; /* NULL: modes stay; checked before */
    gint64 epoch;      /* of directories that are made */
    struct cancel *cancel;
};
struct copy_layer *copy_layer_new(const struct copy_layer_options *options);
void copy_layer_free(struct copy_layer *layer);
/* dest: absolute; a trailing "/" says that it is a directory. archive: extract the tree rather than copy one file. */
bool copy_layer_add(struct copy_layer *layer, const struct copy_sources *sources, const struct copy_source *source,
                    const char *dest, GError **error);
bool copy_layer_add_tree(struct copy_layer *layer, const struct copy_sources *sources, const char *path, const char *dest,
                         bool as_archive, GError **error);
bool copy_layer_write(struct copy_layer *layer, struct tar_writer *writer, GError **error);
/* mkdir -p inside the image, for WORKDIR; *ret_made: something has to be written. */
bool copy_layer_make_directory(struct copy_layer *layer, const char *path, bool *ret_made, GError **error);
/* Where path leads inside root: real path without leading "/", links resolved, what is missing kept. */
bool root_resolve(int root_fd, const char *path, char **ret_real, bool *ret_exists, struct stat *ret_stat, GError **error);
/* --chown=user[:group] against a root's passwd and group. */
bool copy_resolve_owner(int root_fd, const char *text, uid_t *ret_uid, gid_t *ret_gid, GError **error);
