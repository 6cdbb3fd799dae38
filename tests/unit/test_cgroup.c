/* The pure halves of cgroups: which hierarchies a mountinfo shows, and what a device filter answers. */
#include "runtime/runtime-internal.h"

#include <linux/bpf.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

static struct cgroup *parsed(const char *mountinfo, GError **error)
{
    struct cgroup *cgroup = g_new0(struct cgroup, 1);
    cgroup->oom_fd = cgroup->oom_control_fd = -1;
    if (cgroup_parse_mountinfo(mountinfo, cgroup, error))
        return cgroup;
    cgroup_free(cgroup);
    return NULL;
}

static void test_hybrid(void **state)
{
    struct cgroup *cgroup = parsed("22 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n"
                                   "30 22 0:25 / /sys/fs/cgroup rw shared:9 - tmpfs tmpfs rw,mode=755\n"
                                   "31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct\n"
                                   "32 30 0:27 / /sys/fs/cgroup/with\\040blank rw - cgroup cgroup rw,memory\n"
                                   "33 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,name=systemd\n"
                                   "34 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
                                   "35 30 0:26 / /mnt/again rw - cgroup cgroup rw,cpu,cpuacct\n",
                                   NULL);
    assert_non_null(cgroup);
    assert_ptr_equal(cgroup->backend, &cgroup_v1_backend);
    assert_int_equal(cgroup->n_hierarchies, 4);
    assert_string_equal(cgroup->hierarchies[0].controllers, "cpu,cpuacct");
    assert_string_equal(cgroup->hierarchies[0].name, "cpu,cpuacct");
    assert_string_equal(cgroup->hierarchies[1].mount_point, "/sys/fs/cgroup/with blank");
    assert_string_equal(cgroup->hierarchies[2].controllers, "name=systemd");
    assert_true(cgroup->hierarchies[3].unified);
    cgroup_free(cgroup);
}

static void test_unified_and_none(void **state)
{
    GError *error = NULL;
    struct cgroup *cgroup = parsed(
        "34 22 0:29 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n33 30 0:28 / /run/s rw - cgroup c rw,name=systemd", NULL);
    assert_ptr_equal(cgroup->backend, &cgroup_v2_backend);
    cgroup_free(cgroup);
    assert_null(parsed("", &error));
    assert_string_equal(error->message, "no cgroup file system is mounted");
    g_clear_error(&error);
    assert_null(parsed("garbage\n - \n1 2 3 - cgroup\n22 1 254:0 / / rw - cgroup2", &error));
    g_clear_error(&error);
}

/* As the kernel would run it: only the instructions that the compiler emits. */
static guint64 run_program(const GArray *program, guint32 type, guint32 access, guint32 major, guint32 minor)
{
    struct bpf_cgroup_dev_ctx context = { .access_type = access << 16 | type, .major = major, .minor = minor };
    guint64 reg[11] = { 0 };
    for (guint at = 0; at < program->len; at++) {
        const struct bpf_insn *insn = &g_array_index(program, struct bpf_insn, at);
        guint64 *dst = &reg[insn->dst_reg];
        switch (insn->code) {
        case BPF_LDX | BPF_MEM | BPF_W: {
            guint32 word;
            assert_int_equal(insn->src_reg, BPF_REG_1);
            memcpy(&word, (char *)&context + insn->off, sizeof word);
            *dst = word;
            break;
        }
        case BPF_ALU64 | BPF_MOV | BPF_X:
            *dst = reg[insn->src_reg];
            break;
        case BPF_ALU64 | BPF_MOV | BPF_K:
            *dst = (guint64)(gint64)insn->imm;
            break;
        case BPF_ALU64 | BPF_AND | BPF_K:
            *dst &= (guint64)(gint64)insn->imm;
            break;
        case BPF_ALU64 | BPF_RSH | BPF_K:
            *dst >>= insn->imm;
            break;
        case BPF_JMP | BPF_JNE | BPF_K:
            at += *dst != (guint64)(gint64)insn->imm ? (guint)insn->off : 0;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            at += *dst == (guint64)(gint64)insn->imm ? (guint)insn->off : 0;
            break;
        case BPF_JMP | BPF_EXIT:
            return reg[0];
        default:
            fail_msg("instruction %x", insn->code);
        }
    }
    fail_msg("the program has no end");
    return 0;
}

static void test_device_filter(void **state)
{
    static const struct plan_device_rule rules[] = {
        { false, 'a', -1, -1, 7 },
        { true, 'c', 10, 229, DEVICE_READ | DEVICE_WRITE },
        { true, 'b', 8, -1, DEVICE_READ },
        { false, 'b', 8, 3, DEVICE_READ },
    };
    enum {
        CHAR = BPF_DEVCG_DEV_CHAR,
        BLOCK = BPF_DEVCG_DEV_BLOCK,
        MKNOD = BPF_DEVCG_ACC_MKNOD,
        READ = BPF_DEVCG_ACC_READ,
        WRITE = BPF_DEVCG_ACC_WRITE
    };
    static const struct {
        guint32 type, access, major, minor, wanted;
    } rows[] = {
        { CHAR, READ, 10, 229, 1 },      { CHAR, READ | WRITE, 10, 229, 1 },
        { CHAR, READ, 10, 228, 0 },      { CHAR, READ | MKNOD, 10, 229, 0 },
        { BLOCK, READ, 10, 229, 0 },     { BLOCK, READ, 8, 0, 1 },
        { BLOCK, WRITE, 8, 0, 0 },       { BLOCK, READ, 8, 3, 0 },
        { BLOCK, MKNOD, 8, 3, 1 },       { CHAR, MKNOD, 1, 1, 1 }, /* any node may be made … */
        { CHAR, READ, 1, 1, 0 },                                   /* … but /dev/mem not opened */
        { CHAR, READ | WRITE, 1, 3, 1 }, { CHAR, READ | WRITE, 136, 7, 1 },
        { CHAR, READ, 5, 3, 0 },
    };
    g_autoptr(GArray) given = g_array_new(FALSE, FALSE, sizeof(struct plan_device_rule));
    g_array_append_vals(given, rules, G_N_ELEMENTS(rules));
    g_autoptr(GArray) all = device_rules_with_defaults(given);
    g_autoptr(GArray) program = device_filter_compile(all);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        if (run_program(program, rows[i].type, rows[i].access, rows[i].major, rows[i].minor) != rows[i].wanted)
            fail_msg("row %zu", i);
    /* Privileged: one rule, and nothing else is asked. */
    g_array_set_size(given, 0);
    g_array_append_val(given, ((struct plan_device_rule){ true, 'a', -1, -1, 7 }));
    g_autoptr(GArray) open_rules = device_rules_with_defaults(given);
    g_autoptr(GArray) open_program = device_filter_compile(open_rules);
    assert_int_equal(open_rules->len, 1);
    assert_int_equal(run_program(open_program, CHAR, READ | WRITE | MKNOD, 1, 1), 1);
}

static void test_v2_numbers(void **state)
{
    static const struct {
        gint64 shares;
        const char *weight;
    } rows[] = { { 2, "1" }, { 1024, "39" }, { 262144, "10000" }, { 1, "1" }, { G_MAXINT64, "10000" } };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct plan_resources resources;
        plan_resources_init(&resources);
        resources.has[RES_CPU_SHARES] = true;
        resources.value[RES_CPU_SHARES] = rows[i].shares;
        GArray *settings = cgroup_v2_settings(&resources);
        assert_int_equal(settings->len, 1);
        assert_string_equal(g_array_index(settings, struct cgroup_setting, 0).value, rows[i].weight);
        cgroup_settings_free(settings);
        plan_resources_clear(&resources);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_hybrid), cmocka_unit_test(test_unified_and_none),
                                        cmocka_unit_test(test_device_filter), cmocka_unit_test(test_v2_numbers) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
