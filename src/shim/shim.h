/* The shim's contract with tared: how it is started, and the protocol on its socket. Client functions for tared's side are at the
 * end. */
#pragma once

#include "base/error.h"
#include "base/json.h"

/* clang-format off */
/*
 * START. tared executes `tare-shim` (from one sealed memfd) with argv ["tare-shim", ID], a new session, and these fds: 3 the
 * configuration (sealed memfd, JSON as below), 4 the listening unix socket (SOCK_STREAM, bound by tared at <run_dir>/shim.sock:
 * shim_listen), 5 tared's end of a ready pipe: the shim writes one frame {"ok":true} or {"error":{"code":N,"message":"…"}} when it
 * serves (shim_wait_ready), 6… as "fds" names them. stderr is tared's log.
 *
 * SPARES. Started with argv[1] SHIM_SPARE_ID and a socket (SOCK_SEQPACKET) as fd 3, a shim waits to be needed: one message with the
 * container's id comes, and with it the fds 3, 4, 5, 6… of an ordinary start, at most FD_PASS_MAX. End of file: it is not needed, and
 * ends.
 *
 * CONFIGURATION
 *   id, name      strings
 *   spec          the OCI specification (runtime.h, with its extensions)
 *   state_dir     <data-root>/containers/<id>: exit.json (below); run_dir: <run-root>/containers/<id>
 *   overlay       {"upper": PATH, "work": PATH, "volatile": bool, "no_xino": bool, "lower_paths": [..]?}; absent: spec.root.path is used
 *   fds           {"lowers": [N, …] topmost first, "netns": N, "seccomp": N (compiled filter in a memfd), "ports": [N, …] sockets to
 *                 keep open, "log": N (the log file, open), "mountns": N (the namespace where lower_paths are)}; members optional
 *   relay         {"address": the container's IPv4 address, "ports": [the container's port of each of fds.ports, …]}: what comes to
 *                 those of these sockets that are IPv6 is carried over; absent: nothing is
 *   log           {"driver": "json-file"|"none"|"local", "path": PATH, "max_size": bytes or 0, "max_file": n, "labels": {…}}
 *                 ("local" is written as json-file; labels become each entry's "attrs")
 *   open_stdin, stdin_once        bools as in the API's Config
 *   restart       {"name": "no"|"always"|"on-failure"|"unless-stopped", "maximum_retry": n}
 *   auto_remove   bool (then no exit.json is kept by tared afterwards; the shim does not care)
 *   init_path     path of tare-init, or absent
 *   health        {"process": OCI process of the probe, "interval", "timeout", "start_period", "start_interval" (ns), "retries"};
 *                 numbers that are absent or 0 are Docker's defaults (start_interval: not above
 *                 the interval); absent: no probe
 *   stop_signal   number
 *   runtime       path of an OCI runtime to execute instead of the built-in one, or absent. Refused for now (NOT_IMPLEMENTED).
 *
 * PROTOCOL: frames (base/frame.h) on connections to shim.sock. Each request {"op": …} gets one reply: {"ok": true, …} or
 * {"error": {"code": enum tare_error, "message": …}}.
 *   create     makes the container (overlay, namespaces, all), waiting before exec → {pid}
 *   start      lets it exec → {pid, started_at (ns), health?}; error message as runtime_start. After an error the container is over: exit.json
 *              has the error and the code that Docker gives it (127, 126, 128), "die-final" is emitted, no "exit".
 *   attach     {stdin, stdout, stderr: bool, stream: bool (default true), logs: bool, multiplex: bool, detach_keys: "ctrl-p,ctrl-q"}
 *              + fd 0 = the client's socket (or any stream fd; the shim owns it then). Output goes there raw (terminal or
 *              !multiplex) or in the API's 8-byte-header frames. The reply is sent first. Also before create and start: nothing is
 *              lost then. Optional fd 1: an fd closed by the shim when the session ends. At the end the socket is shut down for
 *              writing, so the peer sees it even while somebody holds a copy of the fd.
 *              A client that is alive and does not read blocks the process's output after 64 KiB, as in Docker; one that has gone
 *              does not. With stdin_once and no terminal the client's end of input is the process's; else it ends the session.
 *   exec       {exec_id, process: OCI process (user.username allowed), stdin, stdout, stderr: bool, multiplex, detach_keys,
 *              detach: bool} + optional fd 0 (and 1) as attach → {pid}. On an error the fds are untouched.
 *   resize     {rows, cols, exec_id?}; before the start it is remembered
 *   signal     {signal, exec_id?, all?}; SIGKILL and the stop signal count as the user's wish to end it (no restart)
 *   stop       {signal, timeout_ms (-1: for ever)}: signal, then SIGKILL after the time; counts as asked for by the user (no
 *              restart); replies when the process has ended → {exit_code}. NOT_MODIFIED when it does not run.
 *   pause, resume
 *   update     {resources?, restart?, name?}
 *   stats, pids                  → {stats} / {pids}
 *   status     {exec_id?: only that one in execs} → {state: "created"|"running"|"paused"|"restarting"|"exited", pid, exit_code, started_at, finished_at, oom_killed,
 *              error, restart_count, health? (as inspect has it), execs: {id: {running, pid, exit_code}}} (of the finished execs the last 1,000)
 *   subscribe  → after the reply (a status), events follow as frames
 *              {"event": "start", pid, started_at} | {"event": "exit", exit_code, finished_at, oom_killed, will_restart: bool}
 *              | {"event": "oom"} | {"event": "kill", signal} (a stop that took too long) | {"event": "exec-exit", exec_id, exit_code} | {"event": "detach", exec_id?} (by the detach keys)
 *              | {"event": "health", health, changed: bool: the status is another one by a probe}
 *              | {"event": "die-final"}: after it the shim ends when the last connection and attached client have gone
 *   root       → + fd: O_PATH of the container's root
 *   fds        → {lowers: n} + the layer fds, so that a new tared shares the mounts; "netns" + fd likewise when {"which": "netns"}
 *   quit       the container must not be running; unmounts, replies, and ends
 *
 * exit.json in state_dir, written (rename) before the exit event: {"exit_code", "finished_at", "started_at", "oom_killed", "error",
 * "restart_count", "stopped_by_user", "will_restart", "health"?}; by it a tared that was away learns the end.
 * A record in run_dir/shim.json: {"shim_pid", "pid" (0 until the start), "started_at"}.
 *
 * SIGTERM to the shim stops its container (the host shuts down); it survives all else that may befall tared.
 */
/* clang-format on */

#define SHIM_SPARE_ID "-spare----------------------------------------------------------" /* as long as an id */
#define SHIM_SPARE_TEXT_MAX 256

/* tared's side: one request and its reply on a connection of its own. request is borrowed; *ret_reply (may be NULL) is a new
 * reference without "ok". fds are sent along and stay the caller's; received fds go to ret_fds (room on entry, count on return).
 * A reply with "error" becomes the GError. */
bool shim_call(const char *socket_path, const json_t *request, const int *fds, size_t n_fds, json_t **ret_reply, int *ret_fds,
               size_t *n_ret_fds, GError **error);
/* Connects; for subscribe, whose events the caller reads with frame_receive. -1 and error (NOT_FOUND when nobody listens). */
int shim_connect(const char *socket_path, GError **error);
/* shim_call on a connection of the caller's: a subscription, or several requests one after the other. */
bool shim_request(int connection, const json_t *request, const int *fds, size_t n_fds, json_t **ret_reply, int *ret_fds,
                  size_t *n_ret_fds, GError **error);
/* The second half of shim_request, for requests that were sent (frame_send) without waiting for the answers to those before. */
bool shim_reply(int connection, json_t **ret_reply, int *ret_fds, size_t *n_ret_fds, GError **error);
/* For starting one: the listening socket (0600; what a dead shim left at the path is removed). Paths may be longer than a socket
 * address has room for. */
int shim_listen(const char *socket_path, GError **error);
/* Whether an attach or exec will take these detach keys ("ctrl-p,ctrl-q"; NULL or "": the default). */
bool shim_check_detach_keys(const char *text, GError **error);
/* Reads the frame of the ready pipe: true when the shim serves. */
bool shim_wait_ready(int ready_fd, GError **error);
/* The shim program's main loop; returns the process's exit status. */
int shim_main(int argc, char **argv);
