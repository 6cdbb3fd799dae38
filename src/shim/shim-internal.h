/* What the files of the shim share. The shim is one thread around one epoll loop; nothing here locks, and every callback runs
 * from loop_run.
 *
 * Who owns what: struct shim owns all; a struct stdio owns its attach clients; a connection owns the fds that came with its
 * request until an operation takes them. */
#pragma once

#include "base/error.h"
#include "base/fd.h"
#include "base/json.h"
#include "runtime/runtime.h"

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- loop.c: epoll with timers ---- */
struct loop;
struct loop_watch;
struct loop_timer;
typedef void (*loop_func)(void *user, uint32_t events);
typedef void (*loop_timer_func)(void *user);

bool loop_new(struct loop **ret, GError **error);
void loop_free(struct loop *loop);
/* Level-triggered. events 0: not watched at all; LOOP_HANGUP: told only of hang-ups and errors. NULL and errno where the fd
 * cannot be polled. The fd stays the caller's, who frees the watch before closing it. Watches and timers may be freed from any
 * callback. */
#define LOOP_HANGUP ((uint32_t)1 << 3) /* EPOLLERR, which is always reported */
struct loop_watch *loop_watch_new(struct loop *loop, int fd, uint32_t events, loop_func func, void *user);
void loop_watch_set(struct loop_watch *watch, uint32_t events);
void loop_watch_free(struct loop_watch *watch);
/* Once, after delay_ms; frees itself after it has fired: the callback forgets its pointer. */
struct loop_timer *loop_timer_new(struct loop *loop, gint64 delay_ms, loop_timer_func func, void *user);
void loop_timer_free(struct loop_timer *timer);
/* Called at the end of every turn. */
void loop_set_turn(struct loop *loop, loop_timer_func func, void *user);
void loop_run(struct loop *loop);
/* One turn, waiting at most timeout_ms: for tests. */
void loop_turn(struct loop *loop, int timeout_ms);
void loop_quit(struct loop *loop);

/* ---- restart_policy.c: pure ---- */
enum restart_name { RESTART_NO, RESTART_ALWAYS, RESTART_ON_FAILURE, RESTART_UNLESS_STOPPED };
struct restart_policy {
    enum restart_name name;
    gint64 maximum_retry; /* 0: no limit */
};
struct restart_state {
    gint64 count;    /* restarts so far */
    gint64 delay_ms; /* the last one's; 0: none yet */
};
/* {"name", "maximum_retry"}; NULL: no restart. field names it in errors. */
bool restart_policy_parse(const json_t *object, const char *field, struct restart_policy *ret, GError **error);
/* Whether a container that ended so is started again, and after how long; counts it when so. */
bool restart_decide(const struct restart_policy *policy, struct restart_state *state, int exit_code, bool stopped_by_user,
                    gint64 ran_ns, gint64 *ret_delay_ms);

/* ---- health_state.c: pure ---- */
#define HEALTH_RESULTS_MAX 5
enum health_status { HEALTH_STARTING, HEALTHY, UNHEALTHY };
struct health_result {
    gint64 start, end; /* ns since 1970 */
    int exit_code;
    char *output;
};
struct health_state {
    enum health_status status;
    gint64 failing_streak;
    struct health_result results[HEALTH_RESULTS_MAX]; /* oldest first */
    unsigned n_results;
};
struct health_options {
    json_t *process; /* a reference */
    gint64 interval_ns, timeout_ns, start_period_ns, start_interval_ns;
    gint64 retries;
};
/* The configuration's "health"; what is absent or 0 gets Docker's default. */
bool health_options_parse(const json_t *object, struct health_options *ret, GError **error);
/* A (further) life begins; the results of the last one stay to be seen. */
void health_state_begin(struct health_state *state);
void health_state_clear(struct health_state *state);
/* Until the next probe of a container that has been running for so long. */
gint64 health_state_delay_ms(const struct health_state *state, const struct health_options *options, gint64 running_ns);
/* Takes a copy of the result. True where the status is another one now. */
bool health_state_apply(struct health_state *state, const struct health_options *options, const struct health_result *result,
                        gint64 started_at);
json_t *health_state_json(const struct health_state *state); /* as inspect shows it */

/* ---- config.c ---- */
#define SHIM_CONFIG_MAX (8u << 20)
#define SHIM_FD_FIRST 6
#define SHIM_LOWERS_MAX 500
enum shim_log_driver { SHIM_LOG_NONE, SHIM_LOG_JSON_FILE };
struct shim_config {
    char *id, *name, *state_dir, *run_dir, *init_path;
    json_t *spec;
    char *upper, *work; /* NULL: no overlay */
    char *label;        /* SELinux context of all files, or NULL */
    bool has_overlay, is_volatile, no_xino;
    char **lower_paths;
    int *lowers;
    size_t n_lowers;
    int netns_fd, seccomp_fd, log_fd, mount_namespace_fd; /* -1: none */
    int *ports;
    size_t n_ports;
    char *relay_address;  /* the container's, or NULL: nothing is relayed */
    guint16 *relay_ports; /* as many as ports */
    enum shim_log_driver log_driver;
    char *log_path;
    guint64 log_max_size; /* 0: no rotation */
    unsigned log_max_file;
    char *log_attributes; /* JSON text of the "attrs" member, or NULL */
    bool terminal, open_stdin, stdin_once;
    struct restart_policy restart;
    json_t *health; /* or NULL; not yet looked into */
    int stop_signal;
};
/* Pure: fds are numbers until the shim uses them. The error names the field. */
bool shim_config_parse(const char *text, size_t length, struct shim_config **ret, GError **error);
void shim_config_free(struct shim_config *config);
void shim_config_release_ports(struct shim_config *config);
typedef struct shim_config shim_config_t;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(shim_config_t, shim_config_free)
/* All fds that the configuration names; for close-on-exec, and to close the others. n_fds is room on entry. */
size_t shim_config_fds(const struct shim_config *config, int *ret_fds, size_t room);

/* ---- attach_frame.c: the API's multiplexed stream: {stream, 0, 0, 0, length (big endian)} and so many bytes ---- */
#define ATTACH_FRAME_HEADER 8
#define ATTACH_FRAME_MAX (16u << 20)
void attach_frame_header(unsigned stream, guint32 length, guint8 ret[ATTACH_FRAME_HEADER]);
struct attach_frame_decoder {
    guint8 header[ATTACH_FRAME_HEADER];
    unsigned n_header;
    guint32 left;
};
/* Calls payload with each piece as it comes (a frame may come in several). False and error at a stream above 3, bytes that must
 * be zero, or a length above the maximum. */
bool attach_frame_decode(struct attach_frame_decoder *decoder, const void *data, size_t length,
                         void (*payload)(void *user, unsigned stream, const void *data, size_t length), void *user,
                         GError **error);
/* False where the input ended inside a frame. */
bool attach_frame_at_boundary(const struct attach_frame_decoder *decoder);

/* ---- detach_keys.c ---- */
#define DETACH_KEYS_MAX 64
struct detach_keys {
    guint8 keys[DETACH_KEYS_MAX];
    unsigned n_keys, n_matched;
};
/* "ctrl-p,ctrl-q", "a,b"; NULL or "" gives the default. */
bool detach_keys_parse(const char *text, struct detach_keys *ret, GError **error);
/* Appends to out what is to be passed on; bytes that may begin the sequence are held back. True when the sequence is complete
 * (what follows it is dropped). */
bool detach_keys_filter(struct detach_keys *keys, const guint8 *data, size_t length, GByteArray *out);

/* ---- log.c: the json-file log ---- */
struct log_file;
struct log_file_options {
    const char *path;
    int fd; /* an open log file to begin with (taken), or -1 */
    guint64 max_size;
    unsigned max_file;
    const char *attributes;
};
#define LOG_LINE_MAX 16384
bool log_file_open(const struct log_file_options *options, struct log_file **ret, GError **error);
/* stream 1 or 2. Whole lines and 16 KiB pieces go to the batch; the rest waits. */
void log_file_append(struct log_file *log, unsigned stream, const void *data, size_t length, gint64 now_ns);
/* Logs what waits without its newline: the streams have ended. */
void log_file_end_lines(struct log_file *log);
void log_file_flush(struct log_file *log);
void log_file_close(struct log_file *log);
/* What waits for its newline. */
const GByteArray *log_file_pending(const struct log_file *log, unsigned stream);
/* Each rotation adds one; the file of generation g is path.(now - g), path itself for now. */
guint64 log_file_generation(const struct log_file *log);
/* Opens the file of a generation, read-only; -1 when it is gone. */
int log_file_open_generation(const struct log_file *log, guint64 generation);
guint64 log_file_oldest_generation(const struct log_file *log);
/* One entry: as Docker writes it, with its newline. */
void log_entry_format(GString *out, const void *line, size_t length, bool whole_line, unsigned stream, const char *attributes,
                      gint64 time_ns);

/* ---- log_replay.c: an attach with logs=1 reads the log from its beginning until it has caught up with the writer ---- */
struct log_replay;
struct log_replay *log_replay_new(struct log_file *log);
void log_replay_free(struct log_replay *replay);
/* Delivers some more entries; false when it has caught up (also with lines that are not complete yet): from here on the live
 * output is the continuation. */
bool log_replay_step(struct log_replay *replay, void (*entry)(void *user, unsigned stream, const void *data, size_t length),
                     void *user);

/* ---- stdio.c: one process's standard streams, and who is attached to them ---- */
struct shim;
struct attach_client;
struct stdio {
    struct shim *shim;
    struct loop *loop;
    struct log_file *log; /* borrowed; NULL: nothing is logged */
    const char *exec_id;  /* borrowed; NULL: the container's own process */
    bool terminal, stdin_once;
    bool ended; /* stdio_finish was called */
    bool out_ended[2];
    int theirs[3]; /* the process's ends, until it has them */
    int in;        /* our end of stdin, or a duplicate of the pty's master */
    int out[2];    /* of stdout (or the pty's master) and stderr */
    struct loop_watch *in_watch, *out_watch[2];
    struct loop_timer *reopen_timer;
    GByteArray *input; /* not yet taken by the process; clients are not read meanwhile */
    bool open_stdin, close_input;
    unsigned short rows, columns;
    GPtrArray *clients;
    void (*at_end)(void *user); /* told when the outputs come to their end; may be NULL */
    void *user;
};
struct stdio_options {
    const char *exec_id;
    bool terminal, open_stdin, stdin_once, want_stdout, want_stderr;
};
/* For a process of the container; it has the container's SELinux label. */
bool stdio_make_pipe(const struct shim *shim, int *ret_read, int *ret_write, GError **error);
bool stdio_init(struct stdio *stdio, struct shim *shim, const struct stdio_options *options, struct log_file *log,
                GError **error);
/* The process has its ends now; terminal_fd (taken) is the pty's master or -1. */
void stdio_started(struct stdio *stdio, int terminal_fd);
bool stdio_resize(struct stdio *stdio, unsigned rows, unsigned columns, GError **error);
/* Reads all that is there, whatever the clients' queues hold: the process has ended. True when the outputs are at their end. */
bool stdio_drain(struct stdio *stdio);
bool stdio_at_end(const struct stdio *stdio);
/* No more output: clients get what is queued for them, then their end; until then they belong to the shim's list of lingering
 * ones. */
void stdio_finish(struct stdio *stdio);
void stdio_clear(struct stdio *stdio);
/* Between a client and its stdio. */
void stdio_input(struct stdio *stdio, const void *data, size_t length);
void stdio_input_end(struct stdio *stdio);
bool stdio_takes_input(const struct stdio *stdio);
void stdio_update(struct stdio *stdio);

/* ---- attach.c: one attached client ---- */
#define ATTACH_QUEUE_LIMIT (64u << 10)
struct attach_options {
    bool use[3];
    bool stream, logs, multiplex;
    const char *detach_keys; /* NULL: default */
};
/* fd and done_fd (or -1) are taken on success. On failure they stay the caller's. The client belongs to stdio. */
bool attach_client_new(struct stdio *stdio, const struct attach_options *options, int fd, int done_fd, GError **error);
void attach_client_output(struct attach_client *client, unsigned stream, const void *data, size_t length);
/* It wants the stream, lives, and has more queued than it may. */
bool attach_client_blocks(const struct attach_client *client, unsigned stream);
void attach_client_resume_input(struct attach_client *client);
/* Ends when its queue is empty and its log is read. */
void attach_client_finish(struct attach_client *client);
void attach_client_free(struct attach_client *client);

/* ---- exec.c ---- */
struct exec_session;
#define EXEC_FINISHED_KEPT 1000
#define EXEC_RUNNING_MAX 4096
void exec_list_init(struct shim *shim);
void exec_list_clear(struct shim *shim);
struct exec_options {
    const char *exec_id;
    const json_t *process;
    struct attach_options attach;
};
/* client_fd and done_fd (or -1) are taken on success. */
bool exec_start(struct shim *shim, const struct exec_options *options, int client_fd, int done_fd, pid_t *ret_pid,
                GError **error);
bool exec_resize(struct shim *shim, const char *exec_id, unsigned rows, unsigned columns, GError **error);
bool exec_signal(struct shim *shim, const char *exec_id, int signal, GError **error);
json_t *exec_status(struct shim *shim, const char *exec_id); /* of all, or of one */
bool exec_knows(const struct shim *shim, pid_t pid);
/* Those that run, or whose streams are not at their end. */
size_t exec_n_open(const struct shim *shim);

/* ---- overlay.c: the container's root ---- */
/* Mounts where that has not been done; a mount for the runtime (caller's), or -1 for spec.root.path with *ret_ok true. */
bool overlay_take(struct shim *shim, int *ret_fd, GError **error);
/* Lets go of the mount; where that may sync a disk, in a child, so that we go on meanwhile. */
void overlay_release(struct shim *shim);
bool overlay_is_released(const struct shim *shim);

/* ---- container.c: create, start, signals, stop ---- */
enum shim_state { SHIM_NEW, SHIM_CREATED, SHIM_RUNNING, SHIM_PAUSED, SHIM_RESTARTING, SHIM_EXITED };
bool shim_container_create(struct shim *shim, GError **error);
bool shim_container_start(struct shim *shim, GError **error);
bool shim_container_signal(struct shim *shim, int signal, bool all, GError **error);
bool shim_container_pause(struct shim *shim, bool paused, GError **error);
bool shim_container_update(struct shim *shim, const json_t *resources, GError **error);
/* Forgets the runtime's container: kills what is left, removes its cgroups. */
void shim_container_destroy(struct shim *shim);

/* ---- exit.c ---- */
void exit_on_pidfd(void *user, uint32_t events);
/* The end without (further) restart. */
void exit_final(struct shim *shim);
/* Waits for the process of a pidfd; 0-255, 128+n for a signal. */
int exit_reap(int pidfd);
/* What Docker reports for a process that could not be started: 127, 126, 128. */
int exit_code_of_failure(const char *message);
/* The container never ran, or could not be started again. */
void exit_failed(struct shim *shim, const char *message);

/* ---- restart.c: the timer ---- */
void restart_schedule(struct shim *shim, gint64 delay_ms);
void restart_cancel(struct shim *shim);

/* ---- health.c ---- */
struct health;
bool health_new(struct shim *shim, GError **error); /* shim->health stays NULL where there is no probe */
void health_free(struct health *health);
void health_begin(struct shim *shim); /* the container's process runs */
void health_end(struct shim *shim);   /* it does not any more */
void health_pause(struct shim *shim, bool paused);
bool health_knows(const struct shim *shim, pid_t pid);
json_t *health_json(const struct shim *shim); /* NULL: none, or it never ran */

/* ---- oom.c ---- */
void oom_watch(struct shim *shim);
void oom_check(struct shim *shim);
void oom_unwatch(struct shim *shim);

/* ---- stop.c: a signal, and SIGKILL after a time ---- */
struct connection;
/* connection NULL: nobody waits. */
bool stop_begin(struct shim *shim, struct connection *connection, int signal, gint64 timeout_ms, GError **error);
/* The process has ended: answers all who wait. */
void stop_finished(struct shim *shim);
void stop_forget(struct shim *shim, struct connection *connection);

/* ---- server.c: connections and frames ---- */
struct request {
    struct connection *connection;
    const json_t *body;
    int *fds; /* an operation that takes one leaves -1 */
    size_t n_fds;
    json_t *reply; /* the operation adds members */
    int reply_fds[FD_PASS_MAX];
    size_t n_reply_fds; /* duplicates, closed when sent */
    bool later;         /* the operation answers by itself */
};
bool server_start(struct shim *shim, int listen_fd, GError **error);
void server_stop_listening(struct shim *shim);
void server_clear(struct shim *shim);
void server_reply(struct connection *connection, json_t *reply, int *fds, size_t n_fds);
void server_reply_error(struct connection *connection, const GError *error);
void server_subscribe(struct connection *connection);
/* Takes the event's reference. */
void server_emit(struct shim *shim, json_t *event);
size_t server_n_connections(const struct shim *shim);

/* ---- operations.c: one function for each op of the protocol, in a table ---- */
typedef bool (*operation_func)(struct shim *shim, struct request *request, GError **error);
/* NULL for an unknown one. */
operation_func operation_find(const char *name);
json_t *shim_status(struct shim *shim, const char *exec_id);

/* ---- spare.c ---- */
bool spare_is(char **argv);
/* Waits to be needed. False: it is not any more. */
bool spare_await(char **argv);

/* ---- relay.c ---- */
/* From the first start until the ports are released; a second call changes nothing. */
void relay_start(struct shim *shim);
void relay_stop(struct shim *shim);

/* ---- main.c ---- */
struct shim {
    struct shim_config *config;
    struct runtime_plan *plan;
    struct loop *loop;
    enum shim_state state;
    struct runtime_container *container;
    struct loop_watch *pidfd_watch, *oom_fd_watch;
    struct loop_timer *oom_timer; /* while a kill that was announced is not seen */
    int oom_looks;
    struct loop_timer *drain_timer;
    struct log_file *log;
    struct stdio stdio;
    GHashTable *execs; /* id to struct exec_session */
    GQueue finished_execs;

    int overlay_fd;     /* our own mount of the container's root, or -1 */
    bool overlay_moved; /* it went into the container (kernels before 6.15): only a reference is left */
    pid_t unmount_pid;  /* the child that lets go of it, or 0 */
    struct loop_watch *unmount_watch;
    int unmount_pidfd;

    int signal_fd, listen_fd;
    struct loop_watch *signal_watch, *listen_watch;
    GPtrArray *connections;
    struct connection *quit_connection;

    struct restart_policy restart;
    struct restart_state restart_state;
    struct loop_timer *restart_timer;
    struct health *health;     /* NULL: no probe */
    struct relay *relay;       /* NULL: nothing to relay */
    json_t *updated_resources; /* applied again after a restart */
    bool stopped_by_user, final, quitting;
    bool reap_again; /* children may wait behind one that has its own event */

    GPtrArray *stops;
    GPtrArray *lingering; /* attach clients of ended processes that still have to get their output */

    pid_t pid;
    int exit_code;
    gint64 started_at, finished_at;
    gint64 started_monotonic_us;
    bool oom_killed;
    char *error;
};
/* After what follows a container's process: how long its outputs may be held open by others. Docker's figure. */
#define SHIM_DRAIN_MS 2000
/* run_dir/shim.json. */
void shim_write_record(struct shim *shim);
/* Ends the loop when nothing is left to do. */
void shim_consider_end(struct shim *shim);
