#include "layer/mounts.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

/* setns(2) and unshare(2) of a mount namespace act on one thread and refuse where threads share their working directory: each job
 * runs in a short-lived thread that has first left the others (CLONE_FS). The namespace itself lives as long as its fd. */
struct job {
    int namespace; /* -1: make one */
    const char *directory;
    namespace_func function;
    void *user;
    int made;
    GError *error;
};

static bool make_namespace(struct job *job)
{
    if (unshare(CLONE_FS | CLONE_NEWNS) < 0)
        return error_set_errno(&job->error, errno, "unshare mount namespace");
    /* Slave: what the host unmounts goes away here too, and nothing of ours is seen there. */
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return error_set_errno(&job->error, errno, "make mounts private");
    if (mount("tare-layers", job->directory, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
        return error_set_errno(&job->error, errno, "mount tmpfs on %s", job->directory);
    job->made = open("/proc/thread-self/ns/mnt", O_RDONLY | O_CLOEXEC);
    return job->made >= 0 || error_set_errno(&job->error, errno, "open mount namespace");
}

static gpointer run_job(gpointer data)
{
    struct job *job = data;
    if (job->namespace < 0)
        return GINT_TO_POINTER(make_namespace(job));
    if (unshare(CLONE_FS) < 0 || setns(job->namespace, CLONE_NEWNS) < 0)
        return GINT_TO_POINTER(error_set_errno(&job->error, errno, "enter mount namespace"));
    return GINT_TO_POINTER(job->function(job->user, &job->error));
}

static bool run(struct job *job, GError **error)
{
    GThread *thread = g_thread_try_new("mounts", run_job, job, error);
    if (!thread)
        return false;
    bool ok = GPOINTER_TO_INT(g_thread_join(thread)) != 0;
    if (job->error)
        g_propagate_error(error, job->error);
    return ok;
}

int mount_namespace_new(const char *directory, GError **error)
{
    struct job job = { .namespace = -1, .directory = directory, .made = -1 };
    return run(&job, error) ? job.made : -1;
}

bool mount_namespace_run(int namespace, namespace_func function, void *user, GError **error)
{
    struct job job = { .namespace = namespace, .function = function, .user = user, .made = -1 };
    return run(&job, error);
}
