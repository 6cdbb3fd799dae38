/* The device allow-list of cgroup v2: a small BPF program that the kernel asks at each open and mknod of a device. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

GArray *device_rules_with_defaults(const GArray *rules)
{
    enum { ALL = DEVICE_READ | DEVICE_WRITE | DEVICE_MKNOD };
    static const struct plan_device_rule defaults[] = {
        { true, 'c', -1, -1, DEVICE_MKNOD }, /* making a node is harmless: opening it is what is judged */
        { true, 'b', -1, -1, DEVICE_MKNOD },
        { true, 'c', 1, 3, ALL }, /* null, zero, full, random, urandom, tty, console, ptmx, pts */
        { true, 'c', 1, 5, ALL },
        { true, 'c', 1, 7, ALL },
        { true, 'c', 1, 8, ALL },
        { true, 'c', 1, 9, ALL },
        { true, 'c', 5, 0, ALL },
        { true, 'c', 5, 1, ALL },
        { true, 'c', 5, 2, ALL },
        { true, 'c', 136, -1, ALL },
    };
    GArray *all = g_array_new(FALSE, TRUE, sizeof(struct plan_device_rule));
    g_array_append_vals(all, rules->data, rules->len);
    /* Where all is allowed ("a" last), more rules would only be noise. */
    if (rules->len && g_array_index(rules, struct plan_device_rule, rules->len - 1).allow &&
        g_array_index(rules, struct plan_device_rule, rules->len - 1).type == 'a')
        return all;
    g_array_append_vals(all, defaults, G_N_ELEMENTS(defaults));
    return all;
}

static void emit(GArray *program, guint8 code, unsigned dst, unsigned src, int offset, gint32 immediate)
{
    struct bpf_insn insn = { .code = code, .off = (gint16)offset, .imm = immediate };
    insn.dst_reg = dst & 15;
    insn.src_reg = src & 15;
    g_array_append_val(program, insn);
}

/* The last rule is asked first. Registers: 2 type, 3 access, 4 major, 5 minor; a rule that does not match jumps over its answer.
 */
static void emit_rule(GArray *program, const struct plan_device_rule *rule)
{
    guint start = program->len;
    enum { PATCH = -1 };
    if (rule->type != 'a')
        emit(program, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_2, 0, PATCH,
             rule->type == 'c' ? BPF_DEVCG_DEV_CHAR : BPF_DEVCG_DEV_BLOCK);
    gint32 bits = (rule->access & DEVICE_MKNOD ? BPF_DEVCG_ACC_MKNOD : 0) |
                  (rule->access & DEVICE_READ ? BPF_DEVCG_ACC_READ : 0) | (rule->access & DEVICE_WRITE ? BPF_DEVCG_ACC_WRITE : 0);
    if (rule->type != 'a') {
        if (rule->allow) {
            /* All that is asked for must be in the rule. */
            emit(program, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_3, 0, 0);
            emit(program, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_1, 0, 0, ~bits & 7);
            emit(program, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_1, 0, PATCH, 0);
        } else {
            /* One bit that the rule refuses is enough. */
            emit(program, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_3, 0, 0);
            emit(program, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_1, 0, 0, bits);
            emit(program, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 0, PATCH, 0);
        }
    }
    if (rule->type != 'a' && rule->major >= 0)
        emit(program, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_4, 0, PATCH, (gint32)rule->major);
    if (rule->type != 'a' && rule->minor >= 0)
        emit(program, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_5, 0, PATCH, (gint32)rule->minor);
    emit(program, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, rule->allow);
    emit(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    for (guint i = start; i < program->len; i++) {
        struct bpf_insn *insn = &g_array_index(program, struct bpf_insn, i);
        if (insn->off == PATCH)
            insn->off = (gint16)(program->len - i - 1);
    }
}

GArray *device_filter_compile(const GArray *rules)
{
    GArray *program = g_array_new(FALSE, TRUE, sizeof(struct bpf_insn));
    emit(program, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, access_type), 0);
    emit(program, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_3, BPF_REG_2, 0, 0);
    emit(program, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff);
    emit(program, BPF_ALU64 | BPF_RSH | BPF_K, BPF_REG_3, 0, 0, 16);
    emit(program, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_4, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, major), 0);
    emit(program, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_5, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, minor), 0);
    for (guint i = rules->len; i > 0; i--) {
        const struct plan_device_rule *rule = &g_array_index(rules, struct plan_device_rule, i - 1);
        emit_rule(program, rule);
        if (rule->type ==
            'a') /* answers for everything: what stands before it is never reached, and the verifier refuses dead code */
            return program;
    }
    emit(program, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0);
    emit(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    return program;
}

int device_filter_attach(int cgroup_dir, const GArray *program)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attr.insns = (guint64)(guintptr)program->data;
    attr.insn_cnt = program->len;
    attr.license = (guint64)(guintptr) "Apache-2.0";
    g_autofd int fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
    if (fd < 0)
        return -errno;
    /* BPF_PROG_ATTACH wants a directory that is open for real. */
    g_autofd int dir = openat(cgroup_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -errno;
    memset(&attr, 0, sizeof attr);
    attr.target_fd = (guint32)dir;
    attr.attach_bpf_fd = (guint32)fd;
    attr.attach_type = BPF_CGROUP_DEVICE;
    attr.attach_flags = BPF_F_ALLOW_MULTI;
    return syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof attr) < 0 ? -errno : 0;
}
