/* What the files of the command share. Layers, from below: options and commands (tables and parsing, pure); endpoint, transport
 * and http (the API client); request (one call of the API); stream and terminal; table, template and progress (output); and one
 * file per command, named for it. */
#pragma once

#include "base/error.h"
#include "base/json.h"

#include <stdio.h>

/* ---- the table of commands (commands*.c): parsing, --help, completions and manual pages come from it ---- */

struct cli;
struct options;

struct cli_flag {
    char letter; /* 0 where there is none */
    const char *name;
    const char *value; /* how --help names its value, which is also its type (options.c); "" is a boolean */
    const char *usage;
    bool own; /* docker has it not: --help shows it apart */
};

#define CLI_ANY G_MAXUINT

/* A command's body. Returns the exit status; with *error set the message goes to stderr, and 0 becomes 1. */
typedef int cli_handler(struct cli *cli, const struct options *options, GError **error);

struct cli_command {
    const char *spellings; /* "container ls,container list,container ps,ps": the first is its name */
    const char *arguments; /* of the usage line */
    const char *summary;
    const char *description;                   /* NULL: the summary */
    guint min, max;                            /* arguments */
    bool stop_at_argument;                     /* what follows the first argument belongs to it, also when it looks like a flag */
    bool own;                                  /* docker has it not: --help shows it apart */
    int rank;                                  /* place among the common commands; 0: not among them */
    const struct cli_flag *flags, *more_flags; /* each ends with an entry without name */
    cli_handler *run;                          /* NULL: its issue is still open */
};

struct cli_group {
    const char *name, *summary;
    bool swarm;
    const char *description; /* NULL: the summary */
};

extern const struct cli_command cli_container_commands[], cli_image_commands[], cli_object_commands[], cli_swarm_commands[],
    cli_system_commands[];
extern const struct cli_command *const cli_command_tables[]; /* those, and NULL */
extern const struct cli_group cli_groups[];                  /* sorted; ends without name */
extern const struct cli_command cli_root;                    /* `tare` itself: the global options */

struct cli_found {
    const struct cli_command *command; /* NULL where the words name a group, the root or nothing */
    const struct cli_group *group;
    guint n_words; /* how many words it took */
    char *path;    /* "container ls": as error messages and --help spell it; "" for the root. g_free */
};
/* Finds what the first words name. False when a word is left over that names nothing in a group (ret->group says which). */
bool cli_find(const char *const *words, struct cli_found *ret);
/* Calls visit for every flag of a command, in the order of their names. */
void cli_each_flag(const struct cli_command *command, void (*visit)(const struct cli_flag *flag, void *user), void *user);
const struct cli_flag *cli_find_flag(const struct cli_command *command, const char *name, char letter);
/* Why a flag is known and yet not honoured with this value, or NULL: the one table of refusals (refused.c). The command is given
 * by its spellings. */
const char *cli_refusal(const char *command, const char *flag, const char *value);
/* Why a command has no body. */
const char *cli_verb_refusal(const struct cli_command *command);
/* A command's name within a group ("" for the top level): "ls", or NULL where it has none there. g_free. */
char *cli_name_in_group(const struct cli_command *command, const char *group);

/* ---- help.c: texts from the table ---- */
char *help_root(const char *program, int width, const char *config_directory);
char *help_group(const char *program, const struct cli_group *group);
char *help_command(const char *program, const char *path, const struct cli_command *command, int width);
char *help_flags(const struct cli_command *command, int width, const char *config_directory);
/* "tare run [OPTIONS] IMAGE [COMMAND] [ARG...]" */
char *help_usage_line(const char *program, const char *path, const struct cli_command *command);
/* Generated files: `tare completion bash`, and `tare completion man COMMAND…` for manual pages (roff). */
char *help_bash_completion(const char *program);
char *help_manual_page(const char *path, const struct cli_command *command);
/* A page for every spelling of every command: tare-image-ls.1 and so on. */
bool help_write_manual_pages(const char *directory, GError **error);

/* ---- options.c: what was given ---- */
struct options {
    const struct cli_command *command;
    char *path; /* as help spells it */
    const char *program;
    GHashTable *values; /* flag name → GPtrArray of values */
    char **args;        /* NULL-terminated */
    guint n_args;
    bool help;           /* --help was given: nothing else counts */
    bool help_by_letter; /* as -h, which is deprecated */
};
void options_free(struct options *options);
/* Parses words against a command's flags. The error has the text that docker prints, usage line included; its status is 125. */
struct options *options_parse(const char *program, const char *path, const struct cli_command *command, const char *const *words,
                              GError **error);
/* The counts of arguments against the table; the error has docker's text, status 1. */
bool options_check_count(const struct options *options, GError **error);

bool options_given(const struct options *options, const char *name);
const char *options_string(const struct options *options, const char *name, const char *fallback); /* the last one given */
bool options_bool(const struct options *options, const char *name, bool fallback);
gint64 options_int(const struct options *options, const char *name, gint64 fallback);
gint64 options_bytes(const struct options *options, const char *name, gint64 fallback);
gint64 options_duration(const struct options *options, const char *name, gint64 fallback); /* ns */
/* All values in order; never NULL; NULL-terminated, borrowed. */
const char *const *options_list(const struct options *options, const char *name);

/* Checks that depend on what a flag means, at parse time (option_checks.c). NULL when right, else the text (g_free). */
char *option_check(const struct cli_flag *flag, const char *value);

/* ---- endpoint.c: where the engine listens ---- */

enum endpoint_kind { ENDPOINT_UNIX, ENDPOINT_TCP, ENDPOINT_SSH };

struct endpoint {
    char *host; /* as given, for messages: "unix:///run/tare/tare.sock" */
    enum endpoint_kind kind;
    char *address; /* a path, a host name, or what ssh is to connect to */
    char *port;    /* TCP and ssh; NULL where none was given (ssh) */
    char *socket;  /* ssh: a path behind the host name, else NULL */
    bool tls, verify;
    bool prefer_tare;             /* ssh: the far end is asked for `tare`, and for `docker` only where that is missing */
    char *ca, *certificate, *key; /* files, NULL where there is none */
};
void endpoint_free(struct endpoint *endpoint);
/* unix://PATH, tcp://HOST:PORT, http(s)://…, ssh://[USER@]HOST[:PORT]; the error has docker's text. */
struct endpoint *endpoint_parse(const char *host, GError **error);

/* What can say where the engine is; the order is: -H, --context, TARE_HOST, DOCKER_HOST, DOCKER_CONTEXT, the configuration's
 * current context, default socket. */
struct host_sources {
    const char *flag_host, *flag_context, *tare_host, *docker_host, *environment_context, *config_context;
};
/* What to use: *ret_host (borrowed) or *ret_context (borrowed; "default" never comes out); both NULL: the default socket. */
void host_choose(const struct host_sources *sources, const char **ret_host, const char **ret_context);

/* ---- config_file.c and context.c: ~/.docker/config.json and the contexts beside it ---- */
json_t *config_file_load(const char *directory, GError **error); /* an empty object where there is none */
bool config_file_save(const char *directory, const json_t *config, GError **error);
/* The context's meta.json; NOT_FOUND with docker's text. */
json_t *context_load(const char *directory, const char *name, GError **error);
struct endpoint *context_endpoint(const char *directory, const char *name, GError **error);

/* ---- credentials.c: what is known of registries, in the file, in the environment or with helper programs ---- */

#define CREDENTIALS_HUB "https://index.docker.io/v1/" /* Docker Hub's name there */
/* A server as the file names it ("" is Docker Hub): without scheme and path; g_free. */
char *credentials_server(const char *given);
char *credentials_host(const char *given); /* the same, whatever it is */
/* As the API has it ({"username","password","identitytoken","serveraddress"}); an empty object where nothing is known; NULL and
 * an error when a helper failed. */
json_t *credentials_get(struct cli *cli, const char *server, GError **error);
/* Warns where they become readable. */
bool credentials_store(struct cli *cli, const char *server, const json_t *auth, GError **error);
bool credentials_erase(struct cli *cli, const char *server, GError **error);
/* X-Registry-Auth for an image (base64url of JSON), never NULL; a helper's failure is a warning. g_free. */
char *registry_auth_header(struct cli *cli, const char *image);
bool credentials_any(const struct cli *cli); /* whether something says that there are some */
/* X-Registry-Config with those of the registries that these images are in, but one; NULL where there are none. */
char *registry_auths_header_of(struct cli *cli, const char *const *images, const char *but_image);
char *registry_auths_header(struct cli *cli); /* X-Registry-Config: all of them */

/* ---- transport.c: bytes to and from the engine, over a unix socket, TCP, TLS or ssh ---- */

struct tls; /* tls.c: loads OpenSSL when first used */
struct tls *tls_connect(int fd, const struct endpoint *endpoint, GError **error);
ssize_t tls_read(struct tls *tls, void *buffer, size_t length);      /* as read(2) on a non-blocking socket */
ssize_t tls_write(struct tls *tls, const void *data, size_t length); /* as write(2) */
const char *tls_problem(const struct tls *tls);                      /* why the last failed with EPROTO; may be NULL */
bool tls_pending(struct tls *tls);                                   /* bytes that poll(2) does not know of */
void tls_close_write(struct tls *tls);
void tls_free(struct tls *tls);

struct transport {
    int fd; /* non-blocking; poll it */
    struct tls *tls;
    pid_t helper; /* ssh; 0 for none */
    int to_pass;  /* goes along with the next bytes that are written, or -1; borrowed */
};
struct transport *transport_open(const struct endpoint *endpoint, GError **error);
ssize_t transport_read(struct transport *transport, void *buffer, size_t length);
ssize_t transport_write(struct transport *transport, const void *data, size_t length);
bool transport_pending(const struct transport *transport);
void transport_close_write(struct transport *transport);
void transport_free(struct transport *transport);

/* ---- http_parse.c: responses of HTTP/1.1, pure ---- */

#define HTTP_HEAD_MAX (256 * 1024)
#define HTTP_HEADERS_MAX 256

enum http_framing { HTTP_NO_BODY, HTTP_LENGTH, HTTP_CHUNKED, HTTP_UNTIL_CLOSE };

struct http_head {
    int status;
    char *reason;
    GHashTable *headers; /* lower-case name → value */
    enum http_framing framing;
    guint64 length; /* of the body, for HTTP_LENGTH */
    bool keep_alive;
};
void http_head_clear(struct http_head *head);
/* Bytes taken, 0 for "not whole yet", -1 and an error. no_body: the answer to HEAD. */
gssize http_head_parse(const char *data, gsize length, bool no_body, struct http_head *ret, GError **error);

struct http_body {
    enum http_framing framing;
    guint64 left; /* of the body or of the chunk */
    int state;
    bool done;
};
void http_body_init(struct http_body *body, const struct http_head *head);
/* Takes from data: *ret_taken bytes of it are spent, and [*ret_content, *ret_length) is content inside it (maybe none). False and
 * an error when malformed. */
bool http_body_take(struct http_body *body, const char *data, gsize length, gsize *ret_taken, const char **ret_content,
                    gsize *ret_length, GError **error);

/* ---- http_client.c: one connection, one exchange at a time ---- */

struct connection;
struct connection *connection_open(const struct endpoint *endpoint, GError **error);
void connection_free(struct connection *connection);

struct http_request {
    const char *method;
    const char *target;         /* path and query, encoded */
    const char *host;           /* NULL: the engine's */
    const char *const *headers; /* name, value, …, NULL; may be NULL */
    const char *body;           /* NULL for none */
    gsize body_length;
    int file;     /* sent along with the first byte, or -1; the caller's */
    int body_fd;  /* -1 for none; sent in chunks while the answer is already read; the caller's */
    bool upgrade; /* ask for the raw connection */
};
bool http_exchange(struct connection *connection, const struct http_request *request, struct http_head *ret_head, GError **error);
gssize http_read(struct connection *connection, void *buffer, gsize length, GError **error);
/* True when the answer was read to its end and the connection can serve again. */
bool http_reusable(const struct connection *connection);
/* The raw connection after an upgrade: what was read too far is given first. */
struct transport *connection_transport(struct connection *connection);
const char *connection_leftover(const struct connection *connection, gsize *ret_length);

/* ---- request.c: one call of the API ---- */

#define API_VERSION_MAX "1.51"
#define API_VERSION_MIN "1.24"
#define API_JSON_MAX (512u << 20)

struct call {
    const char *method;
    const char *path;  /* "/containers/json", encoded; the version comes in front */
    const char *query; /* encoded, without '?'; may be NULL */
    json_t *json;      /* body; borrowed */
    bool has_body_fd;
    int body_fd;
    const char *const *headers;
    /* A regular file that an engine of ours on this machine reads ("input", instead of body_fd) or writes ("output", and says so
     * in X-Tare-File) by itself; file_use NULL: none. */
    const char *file_use;
    int file;
    bool unversioned, upgrade;
};

struct response {
    struct cli *cli;
    struct connection *connection;
    struct http_head head;
};
/* Errors: "Error response from daemon: …" with the code of the status; the connection's with docker's texts and code UNAVAILABLE.
 */
struct response *api_call(struct cli *cli, const struct call *call, GError **error);
void response_free(struct response *response);
typedef struct response response_t;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(response_t, response_free)
gssize response_read(struct response *response, void *buffer, gsize length, GError **error);
char *response_text(struct response *response, gsize *ret_length, GError **error);
json_t *response_json(struct response *response, GError **error);
/* The whole call, its answer as JSON (new reference), as text, or as nothing. */
json_t *api_json(struct cli *cli, const struct call *call, GError **error);
char *api_text(struct cli *cli, const struct call *call, gsize *ret_length, GError **error);
bool api_done(struct cli *cli, const struct call *call, GError **error);
json_t *api_get(struct cli *cli, const char *path, const char *query, GError **error);
/* Copies the answer to an fd. */
bool response_copy(struct response *response, int fd, GError **error);

/* The API's version, agreed on with the engine at the first call; "1.41". NULL and an error where there is no engine. */
const char *api_version(struct cli *cli, GError **error);
/* At least this minor version of 1.x. */
bool api_at_least(struct cli *cli, int minor);
const char *api_os(struct cli *cli); /* the engine's operating system */

/* Queries: "a=1&b=2"; NULL values are left out. */
void query_add(GString *query, const char *key, const char *value);
void query_add_bool(GString *query, const char *key, bool value); /* "1", nothing when false */
void query_add_int(GString *query, const char *key, gint64 value);
void query_add_json(GString *query, const char *key, json_t *value); /* steals value */
/* A platform as newer endpoints take it; none where text is NULL or empty. */
bool query_add_platform(GString *query, const char *key, const char *text, GError **error);
/* -f a=b …: the API's {"a":{"b":true}}; nothing where none is given. */
void query_add_filters(GString *query, const struct options *options);
json_t *filters_from_options(const struct options *options, GError **error);
char *path_escape(const char *segment); /* g_free */
/* "/containers/<escaped id><tail>" */
char *api_path(const char *collection, const char *id, const char *tail);

/* ---- cli.c: the program's one context ---- */
struct cli {
    const char *program; /* "tare", or "docker" */
    const struct options *global;
    char *config_directory;
    json_t *config; /* config.json */
    char *context_name;
    struct endpoint *endpoint;
    struct connection *idle; /* kept for the next call */
    char *version;           /* agreed on; NULL before */
    char *os;
    bool takes_files; /* the engine is one of ours, and on this machine */
    bool debug, colour;
};
/* Opens the endpoint's description (no connection yet). */
bool cli_resolve_endpoint(struct cli *cli, GError **error);

/* ---- file-independent pieces of output ---- */
bool is_terminal(int fd);
int terminal_width(int fd, int fallback);
/* "y/N" question; true for y or Y. */
bool confirm(const char *question);
/* Writes to stdout through the C library, and to stderr. */
void print(const char *format, ...) G_GNUC_PRINTF(1, 2);
void print_error(const char *format, ...) G_GNUC_PRINTF(1, 2);

char *context_path(const char *directory, const char *kind, const char *name);

/* ---- table.c: columns of text, laid out as docker's tables are ---- */

struct table;
/* minimum: of a column with its padding (docker: 10, padding 3). */
struct table *table_new(guint minimum, guint padding);
/* One line: cells are separated by tabs; all but the last are padded. */
void table_line(struct table *table, const char *line);
/* The text; frees the table. g_free. */
char *table_finish(struct table *table);
/* Columns that a text takes on a terminal: wide characters take two, combining ones none. */
guint text_width(const char *text);
/* docker's Ellipsis: at most max columns, "…" where it was cut. g_free. */
char *text_ellipsis(const char *text, guint max);

/* ---- template_*.c: Go templates, for --format ---- */

enum template_flags {
    TEMPLATE_HEADER = 1,      /* functions leave their argument as it is, for a table's header */
    TEMPLATE_MISSING_KEY = 2, /* what a map does not have is an error */
    TEMPLATE_RAW = 4,         /* numbers whose type nobody knows keep their text, as json.Number has it */
};
struct template;
/* Before the name of a type: a row of a list, whose fields are methods there, and those of the JSON object here. */
#define TEMPLATE_ROW_TYPE "@"
#define TEMPLATE_HEADER_TYPE "formatter.SubHeaderContext"
#define TEMPLATE_ANY_TYPE "interface {}"
/* Errors: "template: :1: unclosed action". */
struct template *template_parse(const char *text, GError **error);
/* data is of a Go type, which says what it has besides what is there, and what errors call it. Appends to out. Errors:
 * 'template: :1:2: executing "" at <.X>: …'. */
bool template_execute(const struct template *template, const char *type, json_t *data, enum template_flags flags, GString *out,
                      GError **error);
void template_free(struct template *template);

/* ---- list.c: what ls commands and their --format share ---- */

struct list_field {
    const char *name;   /* of the template: "ID" */
    const char *header; /* "CONTAINER ID" */
};
struct list;
/* fields end without name (the header is there the type that errors name); default_template is what stands for "table"; quiet
 * prints only that template (NULL: not quiet). NULL and an error for a bad template. */
struct list *list_new(const struct list_field *fields, const char *format, const char *default_template, const char *quiet,
                      GError **error);
/* row: the fields as JSON (stolen); labels for .Label may be among them as "_Labels". */
/* The template that "raw" stands for, or format as it is; *quiet becomes NULL where raw has a form of its own for it. */
const char *list_raw_format(const char *format, const char **quiet, const char *raw, const char *raw_quiet);
bool list_add(struct list *list, json_t *row, GError **error);
/* False where the template cannot show the field: then a long list need not work it out. */
bool list_wants(const struct list *list, const char *field);
/* Prints what is left; frees. */
bool list_finish(struct list *list, GError **error);
void list_free(struct list *list);

/* ---- texts that many commands share (describe.c) ---- */
const char *short_id(const char *id, char room[13]); /* without "sha256:", 12 digits */
char *age_text(gint64 seconds);                      /* "3 weeks ago"; "N/A" for zero */
char *age_text_ns(gint64 ns);
char *bytes_text(gint64 bytes);            /* HumanSizeWithPrecision(…, 3) */
json_t *labels_text(const json_t *labels); /* "a=b,c=d" */

/* As docker sorts names: "a2" before "a10". */
gint text_natural_compare(const char *a, const char *b);
json_t *created_at_text(gint64 seconds); /* "2026-11-24 07:17:03 +0000 UTC" */
/* Errors of several objects, one a line: add takes the error; finish sets *error where there is one (and returns the status). */
void errors_add(GString *all, GError **problem);
int errors_finish(GString *all, GError **error);
/* --format of version and info: prints data and a line feed; name and type are what errors call
 * template and data. Returns the exit status. */
int show_by_format(const char *format, const char *name, const char *type, json_t *data, GError **error);
/* JSON text indented by four blanks as Go's json.Indent does, without touching its tokens. g_free. */
char *json_indent_raw(const char *text, gsize length);

/* A row of ps, out of an object of GET /containers/json; new reference. */
json_t *describe_listed_container(const json_t *container, bool truncate);

/* image ls --tree (image_tree.c): what does not go together with it, and the picture. */
bool image_tree_check(const struct options *options, GError **error);
void image_tree_show(const json_t *images, bool all);

/* An image's name in its parts; name is as people see it ("debian", "localhost:5000/app"). */
struct image_name {
    char *name, *tag, *digest;
};
bool image_name_parse(const char *text, struct image_name *ret, GError **error);
void image_name_clear(struct image_name *name);
/* "docker.io/library/debian:12". g_free. */
char *image_name_canonical(const struct image_name *name);

/* ---- manifest.c and manifest_store.c: manifests of registries, through the engine; lists that are being made ---- */
/* With registry and tag: "docker.io/library/debian:latest"; NULL and an error. g_free. */
char *manifest_normalize(const char *text, GError **error);
/* {"Ref","Descriptor","Raw", and the document as "SchemaV2Manifest", "OCIManifest" or "List"}. */
json_t *manifest_fetch(struct cli *cli, const char *reference, bool insecure, GError **error);
json_t *manifest_document(const json_t *manifest);             /* borrowed */
char *manifest_raw(const json_t *manifest, gsize *ret_length); /* the bytes that have the digest; g_free */
/* Names are normalized ones. NOT_FOUND: "No such manifest: X". */
json_t *manifest_store_get(struct cli *cli, const char *list, const char *manifest, GError **error);
json_t *manifest_store_list(struct cli *cli, const char *list, GError **error);
bool manifest_store_save(struct cli *cli, const char *list, const char *manifest, const json_t *image, GError **error);
bool manifest_store_remove(struct cli *cli, const char *list, GError **error);
/* Pushes a list of manifests (as manifest_fetch gives them, of the same repository) under a name; *ret: its descriptor. */
bool manifest_push_list(struct cli *cli, const char *list, const json_t *manifests, json_t **ret, GError **error);
/* Any document. */
bool manifest_push_text(struct cli *cli, const char *reference, const char *type, const char *text, json_t **ret, GError **error);

/* The stream of messages that build, pull, push, load and import answer with (progress.c). */
struct progress_options {
    int fd; /* 1 or 2 */
    bool quiet;
    void (*aux)(const json_t *aux, void *user); /* may be NULL */
    GString *quiet_text;                        /* streams are collected here instead of printed (build -q); may be NULL */
    void *user;
};
/* *ret_code: the error's code (a RUN step's exit status), or 0. False and an error when the stream carries one. */
bool progress_show(struct response *response, const struct progress_options *options, int *ret_code, GError **error);
/* POST /images/create; used by pull, create and run. */
bool image_pull(struct cli *cli, const char *image, const char *platform, bool all, const struct progress_options *output,
                GError **error);

/* Where export and save write: refuses a terminal, and paths that cannot become a file. */
bool check_output(const char *output, const char *what, GError **error);
/* Makes the call, and writes its answer to path, or to stdout. */
bool save_answer(struct cli *cli, struct call *call, const char *path, GError **error);
/* "on-failure:3" → the API's object; new reference. */
json_t *restart_policy(const char *text, GError **error);

/* ---- terminal.c ---- */

/* The terminal of stdin in raw mode, restored at exit also by terminal_restore. */
bool terminal_set_raw(GError **error);
void terminal_restore(void);
bool terminal_size(int *ret_height, int *ret_width);
/* "ctrl-p,ctrl-q" → bytes; empty text gives none. False and docker's text when it is malformed. */
bool detach_keys_parse(const char *text, GByteArray *ret, GError **error);
/* Blocks the signals that are forwarded (and SIGWINCH); readable when one came. Close after use. */
int signals_open(void);
/* The name to send ("TERM", "RTMIN+1"); NULL for what is not forwarded. */
const char *signal_name(int number, char room[16]);

/* ---- stream.c, wait.c: attached sessions ---- */

struct session {
    struct cli *cli;
    struct response *response; /* after an upgrade */
    const char *id;            /* of the container or exec, for resizing and signals */
    bool is_exec, tty, input, output, errors;
    bool forward_signals;
    int signals;           /* of signals_open, -1 for none */
    struct response *wait; /* ends the session where nothing is shown; may be NULL */
    const GByteArray *detach_keys;
};
enum session_end { SESSION_CLOSED, SESSION_DETACHED, SESSION_FAILED };
enum session_end session_run(struct session *session, GError **error);
/* Tells the engine the size of our terminal. */
void session_resize(struct cli *cli, const char *id, bool is_exec, int more);
/* stdcopy's frames of logs and attach, written to stdout and stderr as they come. */
struct demultiplexer {
    guint8 header[8];
    gsize have;
    guint32 left;
    int out, err; /* fds; -1 drops */
};
bool demultiplex(struct demultiplexer *demultiplexer, const char *data, gsize length, GError **error);
/* stdin of a tty container must be a terminal. */
bool check_tty(bool attach_stdin, bool tty, GError **error);
/* POST …/wait with a condition, answered when it holds; its body gives the status (125 for errors). */
struct response *wait_begin(struct cli *cli, const char *id, const char *condition, GError **error);
int wait_finish(struct response *wait, GError **error);
/* The same; where the engine goes away meanwhile, it is asked again when it is back. removed: the condition was that. */
int wait_outlast(struct response *wait, const char *id, bool removed, GError **error);
/* Pauses between attempts to reach an engine that has gone; false after a minute. Begins as { 0 }. */
struct patience {
    gulong pause_us;
    gint64 until_us;
};
bool patience_pause(struct patience *patience);

/* --since and --until as the API takes them ("1700000000.000000000"); NULL for nothing given, or with *error. g_free. */
char *time_text(const char *text, GError **error);

/* KEY=VALUE values of a flag as an object; new reference. */
json_t *options_map(const struct options *options, const char *name);
/* DELETE /<collection>/NAME for every argument. */
int remove_each(struct cli *cli, const struct options *options, const char *collection, const char *query, bool ignore_missing,
                GError **error);

/* ---- commands ---- */
cli_handler cmd_builder_prune;
cli_handler cmd_container_attach;
cli_handler cmd_container_commit;
cli_handler cmd_container_cp;
cli_handler cmd_container_create;
cli_handler cmd_container_diff;
cli_handler cmd_container_exec;
cli_handler cmd_container_export;
cli_handler cmd_container_inspect;
cli_handler cmd_container_kill;
cli_handler cmd_container_logs;
cli_handler cmd_container_ls;
cli_handler cmd_container_pause;
cli_handler cmd_container_port;
cli_handler cmd_container_prune;
cli_handler cmd_container_rename;
cli_handler cmd_container_restart;
cli_handler cmd_container_rm;
cli_handler cmd_container_run;
cli_handler cmd_container_start;
cli_handler cmd_container_stats;
cli_handler cmd_container_stop;
cli_handler cmd_container_top;
cli_handler cmd_container_unpause;
cli_handler cmd_container_update;
cli_handler cmd_container_wait;
cli_handler cmd_context_create;
cli_handler cmd_context_inspect;
cli_handler cmd_context_ls;
cli_handler cmd_context_rm;
cli_handler cmd_context_show;
cli_handler cmd_context_update;
cli_handler cmd_context_use;
cli_handler cmd_image_build;
cli_handler cmd_image_history;
cli_handler cmd_image_verify;
cli_handler cmd_image_import;
cli_handler cmd_image_inspect;
cli_handler cmd_image_load;
cli_handler cmd_image_ls;
cli_handler cmd_image_prune;
cli_handler cmd_image_pull;
cli_handler cmd_image_pull_from;
cli_handler cmd_image_push;
cli_handler cmd_image_push_to;
cli_handler cmd_image_rm;
cli_handler cmd_image_save;
cli_handler cmd_image_tag;
cli_handler cmd_imagetools_inspect;
cli_handler cmd_inspect;
cli_handler cmd_login;
cli_handler cmd_logout;
cli_handler cmd_manifest_annotate;
cli_handler cmd_manifest_create;
cli_handler cmd_manifest_inspect;
cli_handler cmd_manifest_push;
cli_handler cmd_manifest_rm;
cli_handler cmd_network_connect;
cli_handler cmd_network_create;
cli_handler cmd_network_disconnect;
cli_handler cmd_network_inspect;
cli_handler cmd_network_ls;
cli_handler cmd_network_prune;
cli_handler cmd_network_rm;
cli_handler cmd_search;
cli_handler cmd_system_df;
cli_handler cmd_system_dial_stdio;
cli_handler cmd_system_events;
cli_handler cmd_system_info;
cli_handler cmd_system_prune;
cli_handler cmd_version;
cli_handler cmd_volume_create;
cli_handler cmd_volume_inspect;
cli_handler cmd_volume_ls;
cli_handler cmd_volume_prune;
cli_handler cmd_volume_rm;