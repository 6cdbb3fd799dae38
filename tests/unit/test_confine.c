/* What a worker can still do: each try runs in a child of its own. */
#include "layer/worker.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SURVIVED 0

/* The wait status of a child that confines itself and does this. */
static int run_confined(const struct confine_limits *limits, void (*try)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        if (!confine_worker(limits, NULL))
            _exit(99);
        try();
        _exit(SURVIVED);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void do_nothing(void)
{
    g_autofree char *memory = g_malloc(1 << 20);
    memset(memory, 1, 1 << 20);
}

static void try_open(void)
{
    (void)!open("/etc/passwd", O_RDONLY);
}

static void try_open_here(void)
{
    (void)!syscall(SYS_openat, AT_FDCWD, ".", O_RDONLY, 0);
}

static void try_socket(void)
{
    (void)!socket(AF_INET, SOCK_STREAM, 0);
}

static void try_fork(void)
{
    (void)!fork();
}

static void try_exec(void)
{
    execl("/bin/true", "true", (char *)NULL);
}

static void try_executable_memory(void)
{
    (void)!syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void try_executable_protection(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    syscall(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC);
}

static void try_kill(void)
{
    kill(getppid(), SIGTERM);
}

static void try_ptrace(void)
{
    syscall(SYS_ptrace, 0, 0, 0, 0);
}

static void try_pread(void)
{
    char byte;
    (void)!syscall(SYS_pread64, STDIN_FILENO, &byte, (size_t)1, (off_t)0);
}

static void try_dup(void)
{
    (void)!syscall(SYS_dup, 0);
}

static void test_everything_else_ends_it(void **state)
{
    static const struct {
        const char *name;
        void (*try)(void);
    } tries[] = {
        { "open", try_open },
        { "open here", try_open_here },
        { "socket", try_socket },
        { "fork", try_fork },
        { "exec", try_exec },
        { "executable memory", try_executable_memory },
        { "executable protection", try_executable_protection },
        { "kill", try_kill },
        { "ptrace", try_ptrace },
        { "pread in a decoder", try_pread },
        { "dup", try_dup },
    };
    const struct confine_limits limits = { 0 };
    assert_int_equal(run_confined(&limits, do_nothing), SURVIVED);
    for (size_t i = 0; i < G_N_ELEMENTS(tries); i++) {
        int status = run_confined(&limits, tries[i].try);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
            fail_msg("%s: status %x", tries[i].name, (unsigned)status);
    }
}

static void test_an_indexer_may_use_its_files(void **state)
{
    const struct confine_limits limits = { .file_access = true };
    assert_int_equal(run_confined(&limits, try_pread), SURVIVED);
}

/* Without root, too: then a user namespace gives the right to change the root. */
static void test_without_privilege(void **state)
{
    pid_t pid = fork();
    if (pid == 0) {
        const struct confine_limits limits = { 0 };
        if (setresgid(1234, 1234, 1234) < 0 || setresuid(1234, 1234, 1234) < 0 || !confine_worker(&limits, NULL))
            _exit(99);
        do_nothing();
        try_open();
        _exit(SURVIVED);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

/* What the kernel says of it. */
static void test_it_has_nothing(void **state)
{
    int ready[2], go[2];
    char byte = 0;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        const struct confine_limits limits = { .max_file = 4096 };
        if (!confine_worker(&limits, NULL))
            _exit(99);
        fd_write_full(ready[1], "x", 1);
        (void)!read(go[0], &byte, 1);
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    static const char *const lines[] = { "\nUid:\t65534\t65534\t65534\t65534\n",
                                         "\nGid:\t65534\t65534\t65534\t65534\n",
                                         "\nCapInh:\t0000000000000000\n",
                                         "\nCapPrm:\t0000000000000000\n",
                                         "\nCapEff:\t0000000000000000\n",
                                         "\nCapAmb:\t0000000000000000\n",
                                         "\nNoNewPrivs:\t1\n",
                                         "\nSeccomp:\t2\n" };
    g_autofree char *path = g_strdup_printf("/proc/%d/status", pid), *status = NULL;
    assert_true(g_file_get_contents(path, &status, NULL, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++)
        if (!strstr(status, lines[i]))
            fail_msg("no %sin %s", lines[i], status);
    g_autofree char *limits_path = g_strdup_printf("/proc/%d/limits", pid), *limits = NULL;
    assert_true(g_file_get_contents(limits_path, &limits, NULL, NULL));
    assert_non_null(strstr(limits, "Max open files            0 "));
    assert_non_null(strstr(limits, "Max processes             0 "));
    assert_non_null(strstr(limits, "Max file size             4096 "));
    g_autofree char *root = g_strdup_printf("/proc/%d/root", pid);
    GDir *dir = g_dir_open(root, 0, NULL);
    assert_non_null(dir);
    assert_null(g_dir_read_name(dir));
    g_dir_close(dir);
    fd_write_full(go[1], "x", 1);
    waitpid(pid, NULL, 0);
    for (int i = 0; i < 2; i++) {
        fd_close(ready[i]);
        fd_close(go[i]);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_else_ends_it),
        cmocka_unit_test(test_an_indexer_may_use_its_files),
        cmocka_unit_test(test_without_privilege),
        cmocka_unit_test(test_it_has_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
