/* linux.seccomp → libseccomp → the BPF bytes that seccomp(2) takes. Slow (tens of milliseconds for Docker's policy), so callers
 * cache the bytes. */
#include "runtime/runtime-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RULES_MAX 4096
#define NAMES_MAX 4096

static bool parse_action(const char *name, gint64 errno_ret, guint32 *ret)
{
    static const struct {
        const char *name;
        guint32 action;
    } actions[] = {
        { "SCMP_ACT_KILL", SCMP_ACT_KILL },
        { "SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS },
        { "SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD },
        { "SCMP_ACT_TRAP", SCMP_ACT_TRAP },
        { "SCMP_ACT_ALLOW", SCMP_ACT_ALLOW },
        { "SCMP_ACT_LOG", SCMP_ACT_LOG },
    };
    if (errno_ret < 0 || errno_ret > 4095)
        return false;
    for (size_t i = 0; name && i < G_N_ELEMENTS(actions); i++)
        if (strcmp(actions[i].name, name) == 0)
            return *ret = actions[i].action, true;
    if (name && strcmp(name, "SCMP_ACT_ERRNO") == 0)
        return *ret = SCMP_ACT_ERRNO((guint32)errno_ret), true;
    if (name && strcmp(name, "SCMP_ACT_TRACE") == 0)
        return *ret = SCMP_ACT_TRACE((guint32)errno_ret), true;
    return false;
}

static bool parse_architecture(const char *name, guint32 *ret)
{
    static const char prefix[] = "SCMP_ARCH_";
    if (!name || strncmp(name, prefix, strlen(prefix)) != 0)
        return false;
    g_autofree char *lower = g_ascii_strdown(name + strlen(prefix), -1);
    *ret = seccomp_arch_resolve_name(lower);
    return *ret != 0;
}

static bool parse_argument(const json_t *value, const char *path, struct scmp_arg_cmp *ret, GError **error)
{
    static const struct {
        const char *name;
        enum scmp_compare op;
    } operators[] = {
        { "SCMP_CMP_NE", SCMP_CMP_NE },
        { "SCMP_CMP_LT", SCMP_CMP_LT },
        { "SCMP_CMP_LE", SCMP_CMP_LE },
        { "SCMP_CMP_EQ", SCMP_CMP_EQ },
        { "SCMP_CMP_GE", SCMP_CMP_GE },
        { "SCMP_CMP_GT", SCMP_CMP_GT },
        { "SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ },
    };
    const char *name = json_get_string(value, "op", "");
    gint64 index = json_get_int(value, "index", -1);
    const json_t *first = json_object_get(value, "value"), *second = json_object_get(value, "valueTwo");
    if (index < 0 || index > 5)
        return error_set(error, TARE_ERROR_INVALID, "%s.index: must be 0 to 5", path);
    if (!json_is_integer(first) || (second && !json_is_integer(second) && !json_is_null(second)))
        return error_set(error, TARE_ERROR_INVALID, "%s.value: must be an integer", path);
    for (size_t i = 0; i < G_N_ELEMENTS(operators); i++)
        if (strcmp(operators[i].name, name) == 0) {
            *ret = (struct scmp_arg_cmp){ (unsigned)index, operators[i].op, (scmp_datum_t)json_integer_value(first),
                                          (scmp_datum_t)(second ? json_integer_value(second) : 0) };
            return true;
        }
    return error_set(error, TARE_ERROR_INVALID, "%s.op: unknown operator \"%s\"", path, name);
}

/* Two conditions on one argument are alternatives (libseccomp takes each argument once): then each becomes a rule of its own. */
static int add_call(scmp_filter_ctx context, guint32 action, int call, const struct scmp_arg_cmp *arguments, unsigned n)
{
    bool twice = false;
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < i; k++)
            twice |= arguments[i].arg == arguments[k].arg;
    if (!twice)
        return seccomp_rule_add_array(context, action, call, n, arguments);
    int r = 0;
    for (unsigned i = 0; r == 0 && i < n; i++)
        r = seccomp_rule_add_array(context, action, call, 1, &arguments[i]);
    return r;
}

static bool add_rule(scmp_filter_ctx context, const json_t *rule, const char *path, guint32 default_action, GError **error)
{
    struct scmp_arg_cmp arguments[6];
    unsigned n = 0;
    guint32 action;
    size_t i;
    json_t *each;
    if (!parse_action(json_get_string(rule, "action", NULL), json_get_int(rule, "errnoRet", EPERM), &action))
        return error_set(error, TARE_ERROR_INVALID, "%s.action: unknown action", path);
    json_array_foreach(json_get_array(rule, "args"), i, each)
    {
        g_autofree char *where = g_strdup_printf("%s.args[%zu]", path, i);
        if (n == G_N_ELEMENTS(arguments))
            return error_set(error, TARE_ERROR_INVALID, "%s: too many arguments", where);
        if (!parse_argument(each, where, &arguments[n++], error))
            return false;
    }
    const json_t *names = json_get_array(rule, "names");
    if (json_array_size(names) > NAMES_MAX)
        return error_set(error, TARE_ERROR_INVALID, "%s.names: too many", path);
    if (action == default_action)
        return true;
    json_array_foreach(names, i, each)
    {
        const char *name = json_string_value(each);
        if (!name)
            return error_set(error, TARE_ERROR_INVALID, "%s.names[%zu]: must be a string", path, i);
        int call = seccomp_syscall_resolve_name(name);
        /* A policy names calls of many kernels and machines; those that do not exist here cannot be called. */
        if (call == __NR_SCMP_ERROR)
            continue;
        int r = add_call(context, action, call, arguments, n);
        if (r < 0 && r != -EDOM && r != -EEXIST)
            return error_set_errno(error, -r, "%s: add rule for %s", path, name);
    }
    return true;
}

static bool fill(scmp_filter_ctx context, const json_t *seccomp, guint32 default_action, GError **error)
{
    size_t i;
    json_t *each;
    guint32 architecture;
    json_array_foreach(json_get_array(seccomp, "architectures"), i, each)
    {
        if (!parse_architecture(json_string_value(each), &architecture))
            return error_set(error, TARE_ERROR_INVALID, "linux.seccomp.architectures[%zu]: unknown architecture", i);
        int r = seccomp_arch_add(context, architecture);
        if (r < 0 && r != -EEXIST)
            return error_set_errno(error, -r, "linux.seccomp.architectures[%zu]", i);
    }
    const json_t *rules = json_get_array(seccomp, "syscalls");
    if (json_array_size(rules) > RULES_MAX)
        return error_set(error, TARE_ERROR_INVALID, "linux.seccomp.syscalls: too many rules");
    json_array_foreach(rules, i, each)
    {
        g_autofree char *path = g_strdup_printf("linux.seccomp.syscalls[%zu]", i);
        if (!add_rule(context, each, path, default_action, error))
            return false;
    }
    return true;
}

static int newest_call(const json_t *seccomp, guint32 architecture)
{
    size_t i, k;
    json_t *rule, *name;
    int newest = -1;
    json_array_foreach(json_get_array(seccomp, "syscalls"), i, rule) json_array_foreach(json_get_array(rule, "names"), k, name)
    {
        int call = json_is_string(name) ? seccomp_syscall_resolve_name_arch(architecture, json_string_value(name)) : -1;
        newest = MAX(newest, call);
    }
    return newest;
}

static void append(GByteArray *program, guint16 code, guint8 jt, guint8 jf, guint32 k)
{
    struct sock_filter insn = { code, jt, jf, k };
    g_byte_array_append(program, (const guint8 *)&insn, sizeof insn);
}

/* Calls newer than any that the policy knows answer ENOSYS, so that C libraries fall back, where EPERM would make them give up
 * (runc does the same). */
static void prepend_enosys(GByteArray *program, const json_t *seccomp)
{
    static const guint32 known[] = { SCMP_ARCH_X86_64,  SCMP_ARCH_X86,   SCMP_ARCH_AARCH64, SCMP_ARCH_ARM,
                                     SCMP_ARCH_PPC64LE, SCMP_ARCH_S390X, SCMP_ARCH_S390,    SCMP_ARCH_RISCV64 };
    enum { X32_BIT = 0x40000000 };
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        int newest = newest_call(seccomp, known[i]);
        if (newest < 0)
            continue;
        append(program, BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, arch));
        append(program, BPF_JMP | BPF_JEQ | BPF_K, 0, 4, known[i]);
        append(program, BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
        append(program, BPF_JMP | BPF_JGE | BPF_K, 2, 0, X32_BIT);
        append(program, BPF_JMP | BPF_JGT | BPF_K, 0, 1, (guint32)newest);
        append(program, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | ENOSYS);
    }
}

static bool export_bytes(scmp_filter_ctx context, GByteArray *program, GError **error)
{
    g_autofd int fd = memfd_create("seccomp", MFD_CLOEXEC);
    g_autofree char *bytes = NULL;
    size_t length;
    if (fd < 0)
        return error_set_errno(error, errno, "memfd");
    int r = seccomp_export_bpf(context, fd);
    if (r < 0)
        return error_set_errno(error, -r, "export the seccomp filter");
    if (lseek(fd, 0, SEEK_SET) < 0 || !fd_read_all(fd, 1u << 20, "the seccomp filter", &bytes, &length, error))
        return false;
    g_byte_array_append(program, (const guint8 *)bytes, (guint)length);
    if (program->len / sizeof(struct sock_filter) > BPF_MAXINSNS)
        return error_set(error, TARE_ERROR_INVALID, "linux.seccomp: the filter is too large");
    return true;
}

static bool compile(const json_t *seccomp, GByteArray *program, GError **error)
{
    guint32 default_action;
    gint64 errno_ret = json_get_int(seccomp, "defaultErrnoRet", EPERM);
    if (!parse_action(json_get_string(seccomp, "defaultAction", NULL), errno_ret, &default_action))
        return error_set(error, TARE_ERROR_INVALID, "linux.seccomp.defaultAction: unknown action");
    scmp_filter_ctx context = seccomp_init(default_action);
    if (!context)
        return error_set(error, TARE_ERROR_INTERNAL, "linux.seccomp: out of memory");
    /* A binary tree instead of a chain: the kernel walks the filter once for every call number when it is installed (0.7 ms with
     * the chain). */
    seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    bool ok = fill(context, seccomp, default_action, error);
    if (ok && default_action == SCMP_ACT_ERRNO(EPERM))
        prepend_enosys(program, seccomp);
    ok = ok && export_bytes(context, program, error);
    seccomp_release(context);
    return ok;
}

bool runtime_seccomp_compile(const json_t *seccomp, GByteArray **ret, GError **error)
{
    g_autoptr(GByteArray) program = g_byte_array_new();
    if (seccomp && !json_is_null(seccomp) && !compile(seccomp, program, error))
        return false;
    *ret = g_steal_pointer(&program);
    return true;
}
