/* Docker's default policy, as facts: what a container without further capabilities may call, what each capability adds, and what
 * each architecture has besides. Everything else answers EPERM. */
#include "runtime/runtime-internal.h"

#include <string.h>
#include <sys/utsname.h>

/* Names are separated by single blanks; those that a kernel or libseccomp does not know are skipped. */
static const char time_calls[] =
    "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep "
    "clock_nanosleep_time64 futimesat getitimer gettimeofday nanosleep setitimer time timer_create timer_delete timer_getoverrun "
    "timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 "
    "timerfd_settime "
    "timerfd_settime64 times utime utimensat utimensat_time64 utimes";
static const char scheduling_calls[] =
    "getcpu getpriority ioprio_get ioprio_set sched_getaffinity sched_getattr sched_getparam sched_get_priority_max "
    "sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity "
    "sched_setattr "
    "sched_setparam sched_setscheduler sched_yield setpriority";
static const char network_calls[] =
    "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg send "
    "sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair";
static const char identity_calls[] = "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 "
                                     "getpgid getpgrp getpid getppid getresgid "
                                     "getresgid32 getresuid getresuid32 getsid gettid getuid getuid32 setfsgid setfsgid32 "
                                     "setfsuid setfsuid32 setgid setgid32 setgroups "
                                     "setgroups32 setpgid setregid setregid32 setresgid setresgid32 setresuid setresuid32 "
                                     "setreuid setreuid32 setsid setuid setuid32";
static const char memory_calls[] =
    "brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap "
    "mseal "
    "msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages";
static const char waiting_calls[] =
    "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 "
    "fanotify_mark futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake inotify_add_watch inotify_init "
    "inotify_init1 "
    "inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect pipe "
    "pipe2 "
    "poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4";
static const char ipc_calls[] = "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend "
                                "mq_timedsend_time64 mq_unlink msgctl "
                                "msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget";
static const char process_calls[] =
    "execve execveat exit exit_group fork getrlimit get_robust_list getrusage get_thread_area kill pause pidfd_open "
    "pidfd_send_signal "
    "prctl prlimit64 process_vm_readv process_vm_writev ptrace restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask "
    "rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo seccomp setrlimit "
    "set_robust_list set_thread_area set_tid_address sigaltstack sigprocmask sigreturn tgkill tkill ugetrlimit uretprobe vfork "
    "wait4 "
    "waitid waitpid";
static const char file_calls[] =
    "access cachestat chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 "
    "fadvise64 "
    "fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr "
    "flistxattr "
    "flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 getcwd getdents "
    "getdents64 "
    "getxattr getxattrat ioctl lchown lchown32 lgetxattr link linkat listmount listxattr listxattrat llistxattr _llseek "
    "lremovexattr "
    "lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pread64 preadv "
    "preadv2 "
    "pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr removexattrat rename renameat renameat2 "
    "rmdir "
    "sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync "
    "sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat vmsplice write writev";
static const char other_calls[] =
    "getrandom landlock_add_rule landlock_create_ruleset landlock_restrict_self riscv_hwprobe sysinfo uname";

static const char *const always[] = { time_calls,    scheduling_calls, network_calls, identity_calls, memory_calls,
                                      waiting_calls, ipc_calls,        process_calls, file_calls,     other_calls };

static const struct {
    const char *capability, *calls;
} by_capability[] = {
    { "CAP_DAC_READ_SEARCH", "open_by_handle_at" },
    { "CAP_SYS_ADMIN",
      "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules "
      "lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname "
      "sethostname setns syslog umount umount2 unshare" },
    { "CAP_SYS_BOOT", "reboot" },
    { "CAP_SYS_CHROOT", "chroot" },
    { "CAP_SYS_MODULE", "delete_module init_module finit_module" },
    { "CAP_SYS_PACCT", "acct" },
    { "CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise" },
    { "CAP_SYS_RAWIO", "iopl ioperm" },
    { "CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64" },
    { "CAP_SYS_TTY_CONFIG", "vhangup" },
    { "CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node" },
    { "CAP_SYSLOG", "syslog" },
    { "CAP_BPF", "bpf" },
    { "CAP_PERFMON", "perf_event_open" },
};

/* machine: as uname(2) has it. */
static const struct {
    const char *machine, *architectures, *calls;
} by_machine[] = {
    { "x86_64", "SCMP_ARCH_X86_64 SCMP_ARCH_X86 SCMP_ARCH_X32", "arch_prctl modify_ldt" },
    { "i686", "SCMP_ARCH_X86", "modify_ldt" },
    { "aarch64", "SCMP_ARCH_AARCH64 SCMP_ARCH_ARM",
      "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls" },
    { "armv7l", "SCMP_ARCH_ARM", "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls" },
    { "ppc64le", "SCMP_ARCH_PPC64LE", "sync_file_range2 swapcontext" },
    { "s390x", "SCMP_ARCH_S390X SCMP_ARCH_S390", "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr" },
    { "riscv64", "SCMP_ARCH_RISCV64", "riscv_flush_icache" },
    { "loongarch64", "SCMP_ARCH_LOONGARCH64", "" },
};

static void add_words(json_t *list, const char *words)
{
    g_auto(GStrv) each = g_strsplit(words, " ", -1);
    for (char **word = each; *word; word++)
        if (**word)
            json_array_append_new(list, json_string(*word));
}

static void add_rule(json_t *rules, const char *calls, const char *action, json_t *extra)
{
    json_t *names = json_array();
    add_words(names, calls);
    json_t *rule = json_pack("{s:o, s:s}", "names", names, "action", action);
    if (extra)
        json_object_update(rule, extra);
    json_decref(extra);
    json_array_append_new(rules, rule);
}

static void allow_where(json_t *rules, const char *call, int argument, json_int_t value, json_int_t value_two, const char *op)
{
    add_rule(rules, call, "SCMP_ACT_ALLOW",
             json_pack("{s:[{s:i, s:I, s:I, s:s}]}", "args", "index", argument, "value", value, "valueTwo", value_two, "op", op));
}

/* Every CLONE_NEW… but the time namespace's, which clone cannot carry. */
#define NEW_NAMESPACES 0x7e020000

static void add_conditions(json_t *rules, bool admin, bool s390)
{
    static const json_int_t personalities[] = { 0x0, 0x8, 0x20000, 0x20008, 0xffffffff };
    /* No AF_VSOCK (40), which reaches the hypervisor past every namespace, and no AF_ALG (38). */
    allow_where(rules, "socket", 0, 38, 0, "SCMP_CMP_LT");
    allow_where(rules, "socket", 0, 39, 0, "SCMP_CMP_EQ");
    allow_where(rules, "socket", 0, 40, 0, "SCMP_CMP_GT");
    for (size_t i = 0; i < G_N_ELEMENTS(personalities); i++)
        allow_where(rules, "personality", 0, personalities[i], 0, "SCMP_CMP_EQ");
    if (admin)
        return;
    allow_where(rules, "clone", s390 ? 1 : 0, NEW_NAMESPACES, 0, "SCMP_CMP_MASKED_EQ");
    /* Its flags are behind a pointer: ENOSYS makes C libraries fall back to clone. */
    add_rule(rules, "clone3", "SCMP_ACT_ERRNO", json_pack("{s:i}", "errnoRet", 38));
}

json_t *runtime_seccomp_default(const char *const *capabilities)
{
    struct utsname host;
    json_t *architectures = json_array(), *rules = json_array();
    uname(&host);
    for (size_t i = 0; i < G_N_ELEMENTS(always); i++)
        add_rule(rules, always[i], "SCMP_ACT_ALLOW", NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(by_machine); i++)
        if (strcmp(by_machine[i].machine, host.machine) == 0) {
            add_words(architectures, by_machine[i].architectures);
            if (by_machine[i].calls[0])
                add_rule(rules, by_machine[i].calls, "SCMP_ACT_ALLOW", NULL);
        }
    for (size_t i = 0; capabilities && i < G_N_ELEMENTS(by_capability); i++)
        if (g_strv_contains(capabilities, by_capability[i].capability))
            add_rule(rules, by_capability[i].calls, "SCMP_ACT_ALLOW", NULL);
    add_conditions(rules, capabilities && g_strv_contains(capabilities, "CAP_SYS_ADMIN"), strcmp(host.machine, "s390x") == 0);
    return json_pack("{s:s, s:i, s:o, s:o}", "defaultAction", "SCMP_ACT_ERRNO", "defaultErrnoRet", 1, "architectures",
                     architectures, "syscalls", rules);
}
