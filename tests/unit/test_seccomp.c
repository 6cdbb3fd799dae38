/* The compiled filter, run by an interpreter of classic BPF on made-up calls: what Docker's default policy lets through. */
#include "runtime/runtime-internal.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

/* As the kernel would run it; only what libseccomp emits. */
static guint32 run_filter(const GByteArray *program, const struct seccomp_data *data)
{
    const struct sock_filter *code = (const struct sock_filter *)program->data;
    size_t n = program->len / sizeof *code;
    guint32 a = 0, x = 0, memory[16] = { 0 };
    for (size_t at = 0; at < n; at++) {
        const struct sock_filter *insn = &code[at];
        switch (insn->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_true(insn->k + 4 <= sizeof *data);
            memcpy(&a, (const char *)data + insn->k, 4);
            break;
        case BPF_JMP | BPF_JA:
            at += insn->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            at += a == insn->k ? insn->jt : insn->jf;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            at += a > insn->k ? insn->jt : insn->jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            at += a >= insn->k ? insn->jt : insn->jf;
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= insn->k;
            break;
        case BPF_ST:
            memory[insn->k & 15] = a;
            break;
        case BPF_LD | BPF_MEM:
            a = memory[insn->k & 15];
            break;
        case BPF_MISC | BPF_TAX:
            x = a;
            break;
        case BPF_MISC | BPF_TXA:
            a = x;
            break;
        case BPF_RET | BPF_K:
            return insn->k;
        default:
            fail_msg("instruction %x", insn->code);
        }
    }
    fail_msg("the filter has no end");
    return 0;
}

static const char *const usual_capabilities[] = { "CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_KILL", NULL };
static const char *const admin_capabilities[] = { "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", NULL };

static GByteArray *compiled(const char *const *capabilities)
{
    GByteArray *program = NULL;
    GError *error = NULL;
    g_autoptr(json_t) policy = runtime_seccomp_default(capabilities);
    if (!runtime_seccomp_compile(policy, &program, &error))
        fail_msg("%s", error->message);
    assert_true(program->len > 0 && program->len % sizeof(struct sock_filter) == 0);
    assert_true(program->len / sizeof(struct sock_filter) <= BPF_MAXINSNS);
    return program;
}

#define ERRNO(e) ((guint32)SECCOMP_RET_ERRNO | (e))

static guint32 call(const GByteArray *program, const char *name, guint64 first)
{
    int nr = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name);
    assert_true(nr >= 0);
    struct seccomp_data data = { .nr = nr, .arch = AUDIT_ARCH_X86_64, .args = { first } };
    return run_filter(program, &data);
}

static void test_default_policy(void **state)
{
    static const struct {
        const char *name;
        guint64 first;
        guint32 usual, admin;
    } rows[] = {
        { "read", 0, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { "execve", 0, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { "ptrace", 0, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { "chroot", 0, SECCOMP_RET_ALLOW, ERRNO(EPERM) },
        { "arch_prctl", 0, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { "mount", 0, ERRNO(EPERM), SECCOMP_RET_ALLOW },
        { "unshare", 0, ERRNO(EPERM), SECCOMP_RET_ALLOW },
        { "setns", 0, ERRNO(EPERM), SECCOMP_RET_ALLOW },
        { "bpf", 0, ERRNO(EPERM), SECCOMP_RET_ALLOW },
        { "kcmp", 0, ERRNO(EPERM), SECCOMP_RET_ALLOW },
        { "open_by_handle_at", 0, ERRNO(EPERM), ERRNO(EPERM) },
        { "keyctl", 0, ERRNO(EPERM), ERRNO(EPERM) },
        { "add_key", 0, ERRNO(EPERM), ERRNO(EPERM) },
        { "userfaultfd", 0, ERRNO(EPERM), ERRNO(EPERM) },
        { "io_uring_setup", 0, ERRNO(EPERM), ERRNO(EPERM) },
        { "kexec_load", 0, ERRNO(EPERM), ERRNO(EPERM) },
        { "init_module", 0, ERRNO(EPERM), ERRNO(EPERM) },
        { "clone", 0x11, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { "clone", 0x10000000 | 0x11, ERRNO(EPERM), SECCOMP_RET_ALLOW }, /* a user namespace */
        { "clone", 0x00020000 | 0x11, ERRNO(EPERM), SECCOMP_RET_ALLOW }, /* a mount namespace */
        { "clone3", 0, ERRNO(ENOSYS), SECCOMP_RET_ALLOW },
        { "socket", 1, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { "socket", 2, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { "socket", 38, ERRNO(EPERM), ERRNO(EPERM) }, /* AF_ALG */
        { "socket", 40, ERRNO(EPERM), ERRNO(EPERM) }, /* AF_VSOCK */
        { "socket", 41, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { "personality", 0, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { "personality", 0x20008, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { "personality", 0xffffffff, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { "personality", 0x40000, ERRNO(EPERM), ERRNO(EPERM) }, /* ADDR_NO_RANDOMIZE */
    };
    g_autoptr(GByteArray) usual = compiled(usual_capabilities), admin = compiled(admin_capabilities);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (call(usual, rows[i].name, rows[i].first) != rows[i].usual ||
            call(admin, rows[i].name, rows[i].first) != rows[i].admin)
            fail_msg("%s(%" G_GUINT64_FORMAT "): %x, %x", rows[i].name, rows[i].first, call(usual, rows[i].name, rows[i].first),
                     call(admin, rows[i].name, rows[i].first));
    }
}

static void test_other_architectures_and_new_calls(void **state)
{
    g_autoptr(GByteArray) program = compiled(usual_capabilities);
    /* 32-bit programs: read is 3, mount 21; mount as x86-64's number 165 would be getresuid there. */
    struct seccomp_data data = { .nr = 3, .arch = AUDIT_ARCH_I386 };
    assert_int_equal(run_filter(program, &data), SECCOMP_RET_ALLOW);
    data.nr = 21;
    assert_int_equal(run_filter(program, &data), ERRNO(EPERM));
    data.nr = 165;
    assert_int_equal(run_filter(program, &data), SECCOMP_RET_ALLOW);
    /* An architecture that is not in the list is killed; a call of the future does not exist; x32 is not the future. */
    data = (struct seccomp_data){ .nr = 0, .arch = AUDIT_ARCH_AARCH64 };
    assert_int_not_equal(run_filter(program, &data), SECCOMP_RET_ALLOW);
    data = (struct seccomp_data){ .nr = 100000, .arch = AUDIT_ARCH_X86_64 };
    assert_int_equal(run_filter(program, &data), ERRNO(ENOSYS));
    data.nr = 0x40000000; /* x32's read */
    assert_int_equal(run_filter(program, &data), SECCOMP_RET_ALLOW);
    data.nr = 0x40000000 | 165; /* x32's mount */
    assert_int_equal(run_filter(program, &data), ERRNO(EPERM));
}

static void test_objects(void **state)
{
    static const struct {
        const char *json, *message;
    } wrong[] = {
        { "{}", "linux.seccomp.defaultAction: unknown action" },
        { "{\"defaultAction\":\"SCMP_ACT_NOTHING\"}", "linux.seccomp.defaultAction: unknown action" },
        { "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":5000}", "linux.seccomp.defaultAction: unknown action" },
        { "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_Z80\"]}",
          "linux.seccomp.architectures[0]: unknown architecture" },
        { "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"X\"}]}",
          "linux.seccomp.syscalls[0].action: unknown action" },
        { "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[3],\"action\":\"SCMP_ACT_KILL\"}]}",
          "linux.seccomp.syscalls[0].names[0]: must be a string" },
        { "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[{"
          "\"index\":6,"
          "\"value\":0,\"op\":\"SCMP_CMP_EQ\"}]}]}",
          "linux.seccomp.syscalls[0].args[0].index: must be 0 to 5" },
        { "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[{"
          "\"index\":0,"
          "\"value\":0,\"op\":\"EQ\"}]}]}",
          "linux.seccomp.syscalls[0].args[0].op: unknown operator \"EQ\"" },
    };
    GByteArray *program = NULL;
    GError *error = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(json_t) object = json_loads(wrong[i].json, 0, NULL);
        assert_non_null(object);
        assert_false(runtime_seccomp_compile(object, &program, &error));
        assert_string_equal(error->message, wrong[i].message);
        g_clear_error(&error);
    }
    /* No object: no filter. */
    assert_true(runtime_seccomp_compile(NULL, &program, &error));
    assert_int_equal(program->len, 0);
    g_byte_array_unref(program);
    /* Two conditions on one argument are alternatives; a call that nobody knows is skipped. */
    g_autoptr(json_t) object =
        json_loads("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"no_such_call\",\"close\"],\"action\":"
                   "\"SCMP_ACT_ERRNO\",\"errnoRet\":7,\"args\":[{\"index\":0,\"value\":3,\"op\":\"SCMP_CMP_EQ\"},{\"index\":0,"
                   "\"value\":5,\"op\":\"SCMP_CMP_EQ\"}]}]}",
                   0, NULL);
    assert_true(runtime_seccomp_compile(object, &program, &error));
    assert_int_equal(call(program, "close", 3), ERRNO(7));
    assert_int_equal(call(program, "close", 4), SECCOMP_RET_ALLOW);
    assert_int_equal(call(program, "close", 5), ERRNO(7));
    g_byte_array_unref(program);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_default_policy),
                                        cmocka_unit_test(test_other_architectures_and_new_calls),
                                        cmocka_unit_test(test_objects) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
