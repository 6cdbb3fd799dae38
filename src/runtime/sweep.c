/* What a dead supervisor leaves. In a file of its own: programs that have no containers of the runtime's link it without them. */
#include "runtime/runtime-internal.h"

#include <signal.h>

bool runtime_sweep(const char *cgroups_path, bool *ret_was_alive, GError **error)
{
    struct cgroup *cgroup = NULL;
    if (!cgroup_new(cgroups_path, &cgroup, error))
        return false;
    bool ok = cgroup_open_existing(cgroup, error);
    if (ok) {
        g_autoptr(GArray) pids = cgroup_pids(cgroup);
        if (ret_was_alive)
            *ret_was_alive = pids->len > 0;
        /* On v1 a signal reaches the frozen once they may run. */
        cgroup_kill(cgroup, SIGKILL, NULL);
        cgroup->backend->freeze(cgroup, false, NULL);
        ok = cgroup_remove(cgroup, error);
    }
    cgroup_free(cgroup);
    return ok;
}
