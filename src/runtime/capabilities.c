/* Capabilities by name, and the five sets put on a process between clone and exec (raw system calls: nothing here allocates). */
#include "runtime/runtime-internal.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* By number, as <linux/capability.h> has them. */
static const char *const names[] = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == CAP_CHECKPOINT_RESTORE + 1);

int capability_number(const char *name)
{
    return plan_lookup(names, G_N_ELEMENTS(names), name);
}

const char *capability_name(int number)
{
    return number >= 0 && (size_t)number < G_N_ELEMENTS(names) ? names[number] : NULL;
}

int capabilities_drop_bounding(guint64 keep)
{
    for (int i = 0; i <= RUNTIME_CAPABILITIES_MAX; i++) {
        if (keep >> i & 1)
            continue;
        /* EINVAL: one beyond what this kernel knows; none can follow. */
        if (prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0)
            return errno == EINVAL && i > 0 ? 0 : -errno;
    }
    return 0;
}

int capabilities_set(guint64 effective, guint64 permitted, guint64 inheritable)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2] = {
        { (guint32)effective, (guint32)permitted, (guint32)inheritable },
        { (guint32)(effective >> 32), (guint32)(permitted >> 32), (guint32)(inheritable >> 32) },
    };
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int capabilities_set_ambient(guint64 ambient)
{
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return errno == EINVAL && !ambient ? 0 : -errno;
    for (int i = 0; i <= RUNTIME_CAPABILITIES_MAX; i++)
        if (ambient >> i & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) < 0)
            return -errno;
    return 0;
}
