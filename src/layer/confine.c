#include "layer/worker.h"

#include "base/fd.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY 65534

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define NATIVE_ARCH AUDIT_ARCH_RISCV64
#else
#error "no system call filter for this architecture yet"
#endif

/* ---- an empty root ---- */

/* A read-only tmpfs that is mounted nowhere: nobody else can reach it and it leaves with the process. 0, or -1 with errno. */
static int enter_empty_root(void)
{
    g_autofd int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -1;
    g_autofd int root = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV);
    return root < 0 || fchdir(root) < 0 || chroot(".") < 0 ? -1 : 0;
}

/* Where that is not permitted, a user namespace gives the right to it; where even those are forbidden, the filter alone must do:
 * it has no call that takes a path. Any other failure is one. */
static bool leave_the_file_system(GError **error)
{
    if (enter_empty_root() == 0)
        return true;
    if (errno == EPERM && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return true;
    return enter_empty_root() == 0 || error_set_errno(error, errno, "enter an empty root");
}

/* ---- no privilege ---- */

static bool drop_privileges(GError **error)
{
    if (geteuid() == 0 &&
        (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0))
        return error_set_errno(error, errno, "give up root");
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct none[2] = { { 0 } };
    if (syscall(SYS_capset, &header, none) < 0)
        return error_set_errno(error, errno, "give up capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return error_set_errno(error, errno, "prctl");
    /* The thread that started a worker waits for it, so its death is the engine's. */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    return true;
}

static bool set_limit(int resource, guint64 value, GError **error)
{
    struct rlimit limit = { .rlim_cur = value, .rlim_max = value };
    return setrlimit((__rlimit_resource_t)resource, &limit) == 0 ||
           error_set_errno(error, errno, "set resource limit %d", resource);
}

static bool set_limits(const struct confine_limits *limits, GError **error)
{
    bool ok = set_limit(RLIMIT_NOFILE, 0, error) && set_limit(RLIMIT_NPROC, 0, error) && set_limit(RLIMIT_CORE, 0, error) &&
              set_limit(RLIMIT_FSIZE, limits->max_file, error);
#ifndef __SANITIZE_ADDRESS__ /* whose shadow memory is terabytes */
    if (limits->max_memory > 0)
        ok = ok && set_limit(RLIMIT_DATA, limits->max_memory, error);
#endif
    return ok;
}

/* ---- system calls ---- */

static const int always_allowed[] = {
    SYS_read,           SYS_write,           SYS_futex,         SYS_brk,   SYS_munmap,    SYS_mremap,
    SYS_madvise,        SYS_exit_group,      SYS_exit,          SYS_lseek, SYS_getrandom, SYS_rt_sigreturn,
    SYS_rt_sigprocmask, SYS_restart_syscall, SYS_clock_gettime, SYS_close,
#ifdef __SANITIZE_ADDRESS__
    SYS_sigaltstack,    SYS_getpid,          SYS_gettid,
#endif
};
static const int with_files[] = { SYS_pread64, SYS_pwrite64, SYS_ftruncate, SYS_fstat, SYS_newfstatat, SYS_pwritev };

/* A classic BPF program, written out by hand: libseccomp would add its own start-up time to each worker, and a list this short
 * needs no tree. */
struct filter {
    struct sock_filter code[128];
    unsigned short length;
};

static void emit(struct filter *filter, unsigned short code, guint8 yes, guint8 no, guint32 value)
{
    g_assert(filter->length < G_N_ELEMENTS(filter->code));
    filter->code[filter->length++] = (struct sock_filter){ code, yes, no, value };
}

static void emit_allow(struct filter *filter, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        emit(filter, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, (guint32)calls[i]);
        emit(filter, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
    }
}

static const int with_pages[] = { SYS_vmsplice };

static bool install_filter(const struct confine_limits *limits, GError **error)
{
    struct filter filter = { .length = 0 };
    emit(&filter, BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, arch));
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, NATIVE_ARCH);
    emit(&filter, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
    emit(&filter, BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
    emit_allow(&filter, always_allowed, G_N_ELEMENTS(always_allowed));
    if (limits->file_access)
        emit_allow(&filter, with_files, G_N_ELEMENTS(with_files));
    if (limits->gives_pages)
        emit_allow(&filter, with_pages, G_N_ELEMENTS(with_pages));
    /* Memory, but never executable: args[2] is the protection of both calls. */
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, 2, 0, SYS_mmap);
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, SYS_mprotect);
    emit(&filter, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
    emit(&filter, BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, args[2]));
    emit(&filter, BPF_JMP | BPF_JSET | BPF_K, 0, 1, PROT_EXEC);
    emit(&filter, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
    emit(&filter, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
    struct sock_fprog program = { .len = filter.length, .filter = filter.code };
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0 ||
           error_set_errno(error, errno, "install system call filter");
}

bool confine_worker(const struct confine_limits *limits, GError **error)
{
    return leave_the_file_system(error) && drop_privileges(error) && set_limits(limits, error) && install_filter(limits, error);
}
