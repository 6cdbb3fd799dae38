/* Contexts on their way to the engine. A large directory is announced first, and only what the engine does not have is sent. */
#include "cli/build-internal.h"

#include "base/digest.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/git.h"
#include "base/size.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PROGRESS_STEP (512 * 1024)
#define SMALL_BYTES (256u * 1024) /* sent without a word before */
#define REST_MAX (16u << 20)      /* of a Dockerfile on stdin */
#define DOCKERFILE_MAX (4u << 20)

struct build_send {
    struct cli *cli;
    struct build_source *source;
    const struct options *options;
    bool quiet;
    guint64 shown;
    bool nothing;   /* the engine has it all */
    char *patterns; /* what the directory was cut down to; NULL: nothing is left out */
    GArray *needed; /* numbers of entries; NULL: all */
    /* the thread that makes the body */
    GThread *thread;
    int pipe[2];
    pid_t compressor;
    GError *problem;
};

struct build_send *build_send_new(struct cli *cli, struct build_source *source, const struct options *options, bool quiet)
{
    struct build_send *send = g_new0(struct build_send, 1);

    send->cli = cli;
    send->source = source;
    send->options = options;
    send->quiet = quiet;
    send->pipe[0] = send->pipe[1] = -1;
    return send;
}

void build_send_free(struct build_send *send)
{
    if (!send)
        return;
    build_send_end(send, NULL);
    if (send->needed)
        g_array_unref(send->needed);
    g_free(send->patterns);
    g_free(send);
}

/* ---- announcing ---- */

/* Which directory it is, for an engine that several machines and users may have. */
static char *context_key(const struct build_send *send)
{
    const struct build_source *source = send->source;
    g_autofree char *machine = NULL, *text = NULL;
    char digest[DIGEST_ROOM];

    if (!file_read(AT_FDCWD, "/etc/machine-id", 256, &machine, NULL, NULL))
        machine = g_strdup("");
    text = g_strdup_printf("%s\n%s\n%u\n%s\n%s", machine, g_get_host_name(), getuid(), source->directory,
                           send->patterns ? send->patterns : "");
    digest_of(text, strlen(text), digest);
    return g_strdup(digest_hex(digest));
}

/* "Id", "All", "Need"; NULL where the engine takes no announcement. */
static json_t *announce(struct build_send *send, bool is_named, GError **error)
{
    GString *listing = context_scan_listing(send->source->scan);
    g_autofree char *key = context_key(send), *query = g_strconcat("key=", key, is_named ? "&named=1" : "", NULL);
    g_autofd int fd = memfd_create("listing", MFD_CLOEXEC);
    struct call call = { .method = "POST", .path = "/build/context", .query = query, .has_body_fd = true, .body_fd = fd };
    g_autoptr(GError) local = NULL;
    json_t *answer = NULL;

    if (fd < 0 || fd_write_full(fd, listing->str, listing->len) < 0 || lseek(fd, 0, SEEK_SET) < 0) {
        error_set_errno(error, errno, "write the context's listing");
    } else if (!(answer = api_json(send->cli, &call, &local)) && !error_is(local, TARE_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
    }
    g_string_free(listing, TRUE);
    return answer;
}

static void take_needs(struct build_send *send, const json_t *answer)
{
    json_t *list = json_get_array(answer, "Need"), *item;
    size_t i;

    if (json_get_bool(answer, "All", true))
        return;
    send->needed = g_array_new(FALSE, FALSE, sizeof(guint));
    json_array_foreach(list, i, item)
    {
        guint index = (guint)json_integer_value(item);

        if (index < send->source->scan->entries->len)
            g_array_append_val(send->needed, index);
    }
    send->nothing = json_get_bool(answer, "Nothing", false);
}

/* ---- what the Dockerfile can use ---- */

static bool read_dockerfile(const struct build_source *source, char **ret, gsize *ret_length)
{
    if (!source->dockerfile_text)
        return file_read(source->scan->fd, source->dockerfile, DOCKERFILE_MAX, ret, ret_length, NULL);
    *ret = g_strdup(source->dockerfile_text);
    *ret_length = strlen(*ret);
    return true;
}

/* The engine reads the Dockerfile and says what of the directory it needs. One that does not know how gets everything. */
static void leave_out_unused(struct build_send *send, const GString *query)
{
    struct build_source *source = send->source;
    g_autofree char *text = NULL, *own = g_strconcat(source->dockerfile, ".dockerignore", NULL);
    const char *const always[] = { source->dockerfile, own, ".dockerignore" };
    g_autofd int fd = memfd_create("Dockerfile", MFD_CLOEXEC);
    struct call call = { .method = "POST", .path = "/build/sources", .query = query->str, .has_body_fd = true, .body_fd = fd };
    g_autoptr(json_t) answer = NULL;
    gsize length;

    if (!read_dockerfile(source, &text, &length) || fd < 0 || fd_write_full(fd, text, length) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return;
    answer = api_json(send->cli, &call, NULL);
    if (!answer || json_get_bool(answer, "All", true) ||
        !context_scan_restrict(source->scan, json_get_array(answer, "Patterns"), always, G_N_ELEMENTS(always)))
        return;
    send->patterns = json_text(json_get_array(answer, "Patterns"));
}

/* ---- --build-context name=value ---- */

static char *upload_id(struct build_send *send, const char *id, GError **error)
{
    g_autofree char *query = id ? g_strconcat("id=", id, NULL) : NULL;
    struct call call = { .method = "POST", .path = "/build/context", .query = query, .has_body_fd = true };
    json_t *answer;
    char *found;

    if (send->nothing)
        call.has_body_fd = false;
    else if ((call.body_fd = build_send_start(send, error)) < 0)
        return NULL;
    answer = api_json(send->cli, &call, error);
    if (!build_send_end(send, answer ? error : NULL)) {
        json_decref(answer);
        return NULL;
    }
    found = answer ? g_strconcat("upload:", json_get_string(answer, "Id", ""), NULL) : NULL;
    json_decref(answer);
    return found;
}

static char *upload(struct build_send *send, GError **error)
{
    g_autoptr(GError) local = NULL;
    json_t *answer = send->source->scan ? announce(send, true, &local) : NULL;
    char *id;

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    if (answer)
        take_needs(send, answer);
    id = upload_id(send, json_get_string(answer, "Id", NULL), error);
    json_decref(answer);
    return id;
}

static char *send_named(struct build_send *send, const char *name, const char *value, GError **error)
{
    struct build_source source = { .fd = -1 };
    struct build_send *named;
    char *id = NULL;
    bool good;

    if (g_str_has_prefix(value, "docker-image://"))
        return g_strconcat("image:", value + strlen("docker-image://"), NULL);
    if (g_str_has_prefix(value, "oci-layout://")) {
        error_set(error, TARE_ERROR_INVALID, "named context %s: oci-layout:// is not supported: load the image first", name);
        return NULL;
    }
    if (git_is_source(value))
        good = build_source_open_git(&source, value, error);
    else if (g_str_has_prefix(value, "http://") || g_str_has_prefix(value, "https://"))
        good = build_source_open_url(&source, value, true, error);
    else
        good = build_source_open_directory(&source, value, error);
    if (good && !source.scan && !source.is_archive)
        good = error_set(error, TARE_ERROR_INVALID, "named context %s: %s is no archive", name, value);
    named = build_send_new(send->cli, &source, send->options, true);
    if (good)
        id = upload(named, error);
    build_send_free(named);
    build_source_clear(&source);
    return id;
}

static bool send_all_named(struct build_send *send, GString *query, GError **error)
{
    const char *const *list = options_list(send->options, "build-context");
    g_autoptr(json_t) contexts = json_object();

    for (; *list; list++) {
        const char *equals = strchr(*list, '=');
        g_autofree char *name = g_strndup(*list, strcspn(*list, "=")), *value = NULL;

        if (!equals || equals == *list)
            return error_set(error, TARE_ERROR_INVALID, "invalid context value: %s, expected key=value", *list);
        value = send_named(send, name, equals + 1, error);
        if (!value)
            return false;
        json_object_set_new(contexts, name, json_string_lossy(value));
    }
    if (json_object_size(contexts) > 0)
        query_add_json(query, "contexts", g_steal_pointer(&contexts));
    return true;
}

bool build_send_prepare(struct build_send *send, GString *query, GError **error)
{
    const struct context_scan *scan = send->source->scan;
    g_autofree char *warning = scan ? context_scan_warning(scan) : NULL;
    g_autoptr(GError) local = NULL;
    json_t *answer;

    if (warning)
        print_error("%s", warning);
    if (!send_all_named(send, query, error))
        return false;
    if (!scan || scan->bytes < SMALL_BYTES)
        return true;
    /* Platforms may need different files of one scan. */
    if (!options_bool(send->options, "check", false) && !strchr(options_string(send->options, "platform", ""), ','))
        leave_out_unused(send, query);
    answer = announce(send, false, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (!answer)
        return true;
    take_needs(send, answer);
    query_add(query, "context", json_get_string(answer, "Id", NULL));
    json_decref(answer);
    return true;
}

/* ---- the body ---- */

static void say(struct build_send *send, const char *text)
{
    if (!send->quiet)
        fd_write_full(STDOUT_FILENO, text, strlen(text));
}

static void show_sent(guint64 sent, void *user)
{
    struct build_send *send = user;

    if (sent - send->shown < PROGRESS_STEP || send->quiet || !is_terminal(STDOUT_FILENO))
        return;
    send->shown = sent;
    g_autofree char *size = size_human(sent, 4), *line = g_strdup_printf("Sending build context to Docker daemon %8s\r", size);
    say(send, line);
}

/* One line per context, as everybody knows it: the carriage returns are docker's. It names the whole context, also where the
 * engine had most of it. */
static void show_total(struct build_send *send, guint64 sent)
{
    g_autofree char *size = size_human(send->source->scan ? send->source->scan->bytes : sent, 4),
                    *line = g_strdup_printf("Sending build context to Docker daemon %8s\r\r\n", size);

    say(send, line);
}

static bool send_text(struct pack *pack, const char *head, gsize head_length, const char *rest, gsize length, GError **error)
{
    struct pack_entry entry = {
        .name = "Dockerfile", .mode = 0600, .type = '0', .size = head_length + length, .mtime = g_get_real_time() / G_USEC_PER_SEC
    };

    return pack_header(pack, &entry, error) && pack_data(pack, head, head_length, error) &&
           pack_data(pack, rest, length, error) && pack_padding(pack, entry.size, error) && pack_end(pack, error);
}

static bool send_stream(struct build_send *send, struct pack *pack, GError **error)
{
    enum { SIZE = 256 * 1024 };
    const struct build_source *source = send->source;
    g_autofree char *buffer = g_malloc(SIZE), *rest = NULL;
    size_t length;
    ssize_t n = 1;
    bool good;

    if (!source->is_archive)
        return fd_read_all(source->fd, REST_MAX, "Dockerfile", &rest, &length, error) &&
               send_text(pack, source->head, source->head_length, rest, length, error);
    good = pack_data(pack, source->head, source->head_length, error);
    while (good && (n = fd_read_full(source->fd, buffer, SIZE)) > 0)
        good = pack_data(pack, buffer, (gsize)n, error);
    return good && (n == 0 || error_set_errno(error, errno, "read stdin"));
}

static gpointer make_body(gpointer user)
{
    struct build_send *send = user;
    struct pack pack = { .fd = send->pipe[1], .progress = show_sent, .user = send };
    bool good = send->source->scan ? context_pack(&pack, send->source->scan, send->needed, &send->problem)
                                   : send_stream(send, &pack, &send->problem);

    if (good) /* before the pipe closes: the engine's first line comes after this one */
        show_total(send, pack.sent);
    fd_clear(&send->pipe[1]);
    return NULL;
}

/* --compress: gzip between us and the engine, but not upon what is compressed already. */
static bool wants_compressor(const struct build_send *send)
{
    return options_bool(send->options, "compress", false) && !send->source->is_compressed;
}

static bool start_compressor(struct build_send *send, GError **error)
{
    int pair[2];

    if (pipe2(pair, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "pipe");
    static const char *const argv[] = { "gzip", "-c", NULL };
    struct spawn_fd fds[] = { { send->pipe[0], 0 }, { pair[1], 1 }, { STDERR_FILENO, 2 } };
    struct spawn_options spawn = { .argv = argv, .fds = fds, .n_fds = G_N_ELEMENTS(fds), .search_path = true };
    send->compressor = spawn_program(&spawn, error);
    fd_close(pair[1]);
    fd_close(send->pipe[0]);
    send->pipe[0] = pair[0];
    return send->compressor > 0;
}

int build_send_start(struct build_send *send, GError **error)
{
    if (pipe2(send->pipe, O_CLOEXEC) < 0) {
        error_set_errno(error, errno, "pipe");
        return -1;
    }
    if (wants_compressor(send) && !start_compressor(send, error))
        return -1;
    send->thread = g_thread_new("context", make_body, send);
    return send->pipe[0];
}

bool build_send_end(struct build_send *send, GError **error)
{
    fd_clear(&send->pipe[0]); /* makes the thread's next write fail */
    if (send->thread)
        g_thread_join(g_steal_pointer(&send->thread));
    fd_clear(&send->pipe[1]);
    if (send->compressor > 0)
        spawn_wait(send->compressor);
    send->compressor = 0;
    if (!send->problem)
        return true;
    /* Not only that the engine stopped listening: that has an answer of its own. */
    if (g_error_matches(send->problem, TARE_ERROR, TARE_ERROR_INTERNAL)) {
        g_clear_error(&send->problem);
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&send->problem));
    return false;
}
