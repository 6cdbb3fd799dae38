#include "base/git.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define URL_MAX 8192
#define COMPLAINT_MAX 65536

/* ---- URL#ref:subdir ---- */

static bool is_web(const char *text)
{
    return g_str_has_prefix(text, "http://") || g_str_has_prefix(text, "https://");
}

bool git_is_source(const char *text)
{
    static const char *const prefixes[] = { "git://", "ssh://", "git@", "github.com/" };
    g_autofree char *plain = g_strndup(text, strcspn(text, "#"));

    for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++)
        if (g_str_has_prefix(text, prefixes[i]))
            return true;
    return is_web(text) && g_str_has_suffix(plain, ".git");
}

void git_source_clear(struct git_source *source)
{
    g_free(source->url);
    g_free(source->ref);
    g_free(source->subdir);
    *source = (struct git_source){ 0 };
}

/* "a/./b//c" → "a/b/c"; NULL for what leads out. */
static char *clean_subdir(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, "/", -1);
    g_autoptr(GPtrArray) kept = g_ptr_array_new();

    for (char **part = parts; *part; part++) {
        if (!**part || strcmp(*part, ".") == 0)
            continue;
        if (strcmp(*part, "..") == 0) {
            if (kept->len == 0)
                return NULL;
            g_ptr_array_set_size(kept, (gint)kept->len - 1);
        } else {
            g_ptr_array_add(kept, *part);
        }
    }
    g_ptr_array_add(kept, NULL);
    return g_strjoinv("/", (char **)kept->pdata);
}

static bool has_control(const char *text)
{
    for (; *text; text++)
        if (g_ascii_iscntrl(*text))
            return true;
    return false;
}

static bool parse_fragment(const char *fragment, struct git_source *source, GError **error)
{
    const char *colon = strchr(fragment, ':');
    g_autofree char *subdir = colon ? clean_subdir(colon + 1) : NULL;
    g_autofree char *ref = g_strndup(fragment, colon ? (gsize)(colon - fragment) : strlen(fragment));

    if (colon && !subdir)
        return error_set(error, TARE_ERROR_INVALID, "error setting git context, \"%s\" not within git root", colon + 1);
    if (*ref == '-')
        return error_set(error, TARE_ERROR_INVALID, "invalid refspec: %s", ref);
    if (*ref)
        source->ref = g_steal_pointer(&ref);
    if (subdir && *subdir)
        source->subdir = g_steal_pointer(&subdir);
    return true;
}

bool git_source_parse(const char *text, struct git_source *ret, GError **error)
{
    struct git_source source = { 0 };
    const char *hash = strchr(text, '#');
    g_autofree char *plain = g_strndup(text, hash ? (gsize)(hash - text) : strlen(text));
    const char *host = strstr(plain, "://") ? strstr(plain, "://") + 3 : plain;

    if (strlen(text) > URL_MAX || has_control(text))
        return error_set(error, TARE_ERROR_INVALID, "remote git context is malformed");
    /* ssh would take a host or user that begins with a dash for an option of its own. */
    if (*plain == '-' || *host == '-' || !*host)
        return error_set(error, TARE_ERROR_INVALID, "remote git context is malformed: %s", plain);
    if (hash && !parse_fragment(hash + 1, &source, error)) {
        git_source_clear(&source);
        return false;
    }
    source.url = g_str_has_prefix(plain, "github.com/") ? g_strconcat("https://", plain, NULL) : g_steal_pointer(&plain);
    *ret = source;
    return true;
}

/* ---- the git program ---- */

struct clone {
    const struct git_source *source;
    const struct git_clone_options *options;
    const char *directory;
    char **environment;
};

/* Nothing that comes with a repository or that an environment says runs a program, asks a question or leads elsewhere. */
static char **make_environment(bool inherit)
{
    static const char *const kept[] = { "PATH",        "HOME",      "SSH_AUTH_SOCK",   "SSH_AGENT_PID",
                                        "USER",        "LOGNAME",   "XDG_CONFIG_HOME", "http_proxy",
                                        "https_proxy", "no_proxy",  "HTTP_PROXY",      "HTTPS_PROXY",
                                        "NO_PROXY",    "all_proxy", "ALL_PROXY",       "SSL_CERT_FILE",
                                        "SSL_CERT_DIR" };
    char **environment = g_new0(char *, 1);

    for (size_t i = 0; i < G_N_ELEMENTS(kept); i++)
        if (g_getenv(kept[i]))
            environment = g_environ_setenv(environment, kept[i], g_getenv(kept[i]), TRUE);
    if (inherit && g_getenv("GIT_SSH_COMMAND"))
        environment = g_environ_setenv(environment, "GIT_SSH_COMMAND", g_getenv("GIT_SSH_COMMAND"), TRUE);
    if (!inherit || !g_getenv("GIT_SSH_COMMAND"))
        environment = g_environ_setenv(environment, "GIT_SSH_COMMAND", "ssh -o BatchMode=yes", TRUE);
    if (!g_environ_getenv(environment, "PATH"))
        environment = g_environ_setenv(environment, "PATH", "/usr/local/bin:/usr/bin:/bin", TRUE);
    environment = g_environ_setenv(environment, "GIT_TERMINAL_PROMPT", "0", TRUE);
    environment = g_environ_setenv(environment, "GIT_ASKPASS", "/bin/true", TRUE);
    environment = g_environ_setenv(environment, "GIT_LFS_SKIP_SMUDGE", "1", TRUE);
    environment = g_environ_setenv(environment, "GIT_CONFIG_NOSYSTEM", inherit ? "0" : "1", TRUE);
    return g_environ_setenv(environment, "LC_ALL", "C", TRUE);
}

/* What git said, to its end; the process group goes when the cancel is set. */
static bool collect(const struct clone *clone, int fd, pid_t pid, GString *said, GError **error)
{
    char buffer[4096];
    ssize_t n;

    for (;;) {
        if (cancel_poll(clone->options->cancel, fd, POLLIN, -1, error) < 0) {
            kill(-pid, SIGKILL);
            return false;
        }
        n = read(fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return true;
        g_string_append_len(said, buffer, (gssize)MIN((gsize)n, COMPLAINT_MAX - said->len));
    }
}

/* git with these words, in the directory. *ret_status -1 where it could not be run. */
static bool run_git(const struct clone *clone, const char *const *words, GString *said, GError **error)
{
    static const char *const safe[] = { "git",
                                        "-c",
                                        "core.hooksPath=/dev/null",
                                        "-c",
                                        "core.fsmonitor=false",
                                        "-c",
                                        "protocol.ext.allow=never",
                                        "-c",
                                        "protocol.file.allow=user",
                                        "-c",
                                        "init.defaultBranch=main",
                                        "-c",
                                        "advice.detachedHead=false",
                                        "-C" };
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    const char *command = words[0];
    int pair[2], status;
    bool good;
    pid_t pid;

    for (size_t i = 0; i < G_N_ELEMENTS(safe); i++)
        g_ptr_array_add(argv, (void *)safe[i]);
    g_ptr_array_add(argv, (void *)clone->directory);
    for (; *words; words++)
        g_ptr_array_add(argv, (void *)*words);
    g_ptr_array_add(argv, NULL);
    if (pipe2(pair, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "make a pipe");
    struct spawn_fd fds[] = { { pair[1], 1 }, { pair[1], 2 } };
    struct spawn_options options = { .argv = (const char *const *)argv->pdata,
                                     .envp = (const char *const *)clone->environment,
                                     .fds = fds,
                                     .n_fds = G_N_ELEMENTS(fds),
                                     .new_session = true,
                                     .search_path = true };
    g_string_truncate(said, 0);
    pid = spawn_program(&options, error);
    fd_close(pair[1]);
    if (pid < 0) {
        fd_close(pair[0]);
        g_prefix_error(error, "unable to find 'git': ");
        return false;
    }
    good = collect(clone, pair[0], pid, said, error);
    fd_close(pair[0]);
    status = spawn_wait(pid);
    g_strchomp(said->str);
    said->len = strlen(said->str);
    return good && (status == 0 || error_set(error, TARE_ERROR_INVALID, "git %s failed: %s", command, said->str));
}

static bool is_commit(const char *ref)
{
    gsize length = strlen(ref);

    return length >= 7 && length <= 64 && strspn(ref, "0123456789abcdefABCDEF") == length;
}

/* One commit where the server gives it so; else everything, of which the ref is then looked up. */
static bool fetch_and_check_out(const struct clone *clone, GString *said, GError **error)
{
    const char *ref = clone->source->ref ? clone->source->ref : "HEAD";
    const char *shallow[] = { "fetch", "-q", "--no-tags", "--depth", "1", "--", "origin", ref, NULL };
    const char *one[] = { "fetch", "-q", "--no-tags", "--", "origin", ref, NULL };
    const char *all[] = { "fetch", "-q", "--tags", "--", "origin", "+refs/heads/*:refs/remotes/origin/*", NULL };
    const char *fetched[] = { "checkout", "-q", "--detach", "FETCH_HEAD", "--", NULL };
    g_autofree char *branch = g_strconcat("refs/remotes/origin/", ref, NULL), *commit = g_strconcat(ref, "^{commit}", NULL);
    const char *by_branch[] = { "checkout", "-q", "--detach", branch, "--", NULL };
    const char *by_name[] = { "checkout", "-q", "--detach", commit, "--", NULL };
    g_autoptr(GError) first = NULL;

    if (run_git(clone, shallow, said, &first) || (!cancel_is_set(clone->options->cancel) && run_git(clone, one, said, NULL)))
        return run_git(clone, fetched, said, error);
    if (!is_commit(ref) || !cancel_check(clone->options->cancel, NULL)) {
        g_propagate_error(error, g_steal_pointer(&first));
        return false;
    }
    return run_git(clone, all, said, error) && (run_git(clone, by_name, said, NULL) || run_git(clone, by_branch, said, error));
}

static bool clone_all(const struct clone *clone, GError **error)
{
    const char *init[] = { "init", "-q", NULL };
    const char *remote[] = { "remote", "add", "--", "origin", clone->source->url, NULL };
    const char *submodules[] = { "submodule", "update", "-q", "--init", "--recursive", "--depth=1", NULL };
    const char *deep[] = { "submodule", "update", "-q", "--init", "--recursive", NULL };
    g_autoptr(GString) said = g_string_new(NULL);

    if (!run_git(clone, init, said, error) || !run_git(clone, remote, said, error) || !fetch_and_check_out(clone, said, error))
        return false;
    return run_git(clone, submodules, said, NULL) || run_git(clone, deep, said, error);
}

/* The tree gets the commit's time, so that the same commit is the same context wherever it is checked out. */
static void set_times(const struct clone *clone)
{
    const char *show[] = { "log", "-1", "--format=%ct", NULL };
    g_autoptr(GString) said = g_string_new(NULL);
    char *paths[] = { (char *)clone->directory, NULL };
    struct timespec times[2] = { { 0 } };
    guint64 seconds;
    FTS *tree;
    FTSENT *entry;

    if (!run_git(clone, show, said, NULL) || !parse_uint(said->str, G_MAXINT32, &seconds))
        return; /* times are no reason to fail */
    times[0].tv_sec = times[1].tv_sec = (time_t)seconds;
    tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_NOSTAT, NULL);
    while (tree && (entry = fts_read(tree)))
        if (entry->fts_info != FTS_D)
            utimensat(AT_FDCWD, entry->fts_path, times, AT_SYMLINK_NOFOLLOW);
    if (tree)
        fts_close(tree);
}

static bool find_commit(const struct clone *clone, GError **error)
{
    const char *words[] = { "rev-parse", "HEAD", NULL };
    g_autoptr(GString) said = g_string_new(NULL);

    if (!clone->options->ret_commit)
        return true;
    if (!run_git(clone, words, said, error))
        return false;
    *clone->options->ret_commit = g_strdup(said->str);
    return true;
}

bool git_clone(const struct git_source *source, const char *directory, const struct git_clone_options *options, GError **error)
{
    struct clone clone = { .source = source, .options = options, .directory = directory };
    g_autofree char *git = g_build_filename(directory, ".git", NULL);
    bool good;

    clone.environment = make_environment(options->inherit_environment);
    good = clone_all(&clone, error) && find_commit(&clone, error);
    if (good)
        set_times(&clone);
    g_strfreev(clone.environment);
    if (good && !options->keep_git_directory)
        good = dir_remove_tree(AT_FDCWD, git, error);
    return good;
}
