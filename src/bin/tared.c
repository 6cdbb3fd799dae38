/* tared: the engine. Options, signals, and the order of opening and closing; everything else is src/engine and src/api. */
#include "api/api.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
enum { THREAD_STACK = 8 << 20 };
#else
enum { THREAD_STACK = 1 << 20 };
#endif

/* A thread per connection must cost little: small stacks, and two heaps for all threads instead of one for each. */
static void limit_memory(void)
{
    pthread_attr_t attributes;
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_TRIM_THRESHOLD, 256 << 10);
    mallopt(M_MMAP_THRESHOLD, 256 << 10);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Before the first thread, so that all inherit the mask. */
static int stop_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN); /* the configuration is read at the start only */
    return signalfd(-1, &signals, SFD_CLOEXEC);
}

/* sd_notify(3) without its library: one datagram to the socket that the environment names. */
static void notify_systemd(const char *message)
{
    const char *path = g_getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof address.sun_path)
        return;
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    g_autofd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        (void)sendto(fd, message, strlen(message), MSG_NOSIGNAL, (struct sockaddr *)&address, length);
}

static bool write_pidfile(const char *path, GError **error)
{
    if (!path)
        return true;
    g_autofree char *text = g_strdup_printf("%d", (int)getpid());
    g_autofree char *directory = g_path_get_dirname(path), *name = g_path_get_basename(path);
    g_autofd int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, errno, "pidfile %s", path);
    return file_write(fd, name, text, strlen(text), 0644, false, error);
}

/* Runs until a signal; false where starting failed. */
static bool run(const struct engine_options *options, int stop_fd, gint64 begun, GError **error)
{
    struct engine *engine = NULL;
    struct api_server *server = NULL;
    if (!engine_open(options, &engine, error))
        return false;
    if (!api_server_open(engine, &server, error) || !write_pidfile(options->pidfile, error)) {
        if (server)
            api_server_close(server);
        engine_close(engine);
        return false;
    }
    g_autofree char *took = g_strdup_printf("%.1fms", (double)(g_get_monotonic_time() - begun) / 1000);
    log_line(LOG_LEVEL_INFO, "ready", "version", TARE_VERSION, "data-root", options->data_root, "took", took, NULL);
    notify_systemd("READY=1");

    bool idle = false;
    bool ok = api_server_run(server, stop_fd, &idle, error);
    notify_systemd("STOPPING=1");
    if (options->pidfile)
        unlink(options->pidfile);
    if (!idle) {
        /* A request that did not heed its cancellation still uses the engine: what it does is safe to cut, what it uses is not
         * safe to free. */
        log_line(LOG_LEVEL_WARNING, "requests did not end in time", NULL);
        return ok;
    }
    api_server_close(server);
    engine_close(engine);
    log_line(LOG_LEVEL_INFO, "stopped", NULL);
    return ok;
}

static bool start(struct engine_options *options, int argc, char **argv, gint64 begun, GError **error)
{
    if (!engine_options_parse(options, argc, argv, error))
        return false;
    if (options->help) {
        g_autofree char *help = engine_options_help();
        fputs(help, stdout);
        return true;
    }
    if (options->version) {
        puts("tare version " TARE_VERSION);
        return true;
    }
    if (!engine_options_load(options, error))
        return false;
    if (options->validate) {
        fputs("configuration OK\n", stderr);
        return true;
    }
    enum log_level level = LOG_LEVEL_INFO;
    log_level_parse(options->log_level, &level);
    log_set_level(options->debug ? LOG_LEVEL_DEBUG : level);
    if (geteuid() != 0)
        return error_set(error, TARE_ERROR_FORBIDDEN, "tared needs to be started with root privileges");
    umask(0077);
    raise_file_limit();
    /* For registries, contexts of builds and git alike. */
    proxy_export(&(struct proxy_settings){ options->http_proxy, options->https_proxy, options->no_proxy });
    return run(options, stop_signals(), begun, error);
}

int main(int argc, char **argv)
{
    gint64 begun = g_get_monotonic_time();
    struct engine_options options;
    g_autoptr(GError) error = NULL;
    limit_memory();
    bool ok = start(&options, argc, argv, begun, &error);
    if (!ok)
        fprintf(stderr, "tared: %s\n", error->message);
    fflush(NULL);
    engine_options_clear(&options);
    return ok ? 0 : 1;
}
