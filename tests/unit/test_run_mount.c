/* RUN --mount's text, --chmod, and what a mount reads from. */
#include "build/build-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static char *dump(const char *text)
{
    g_autoptr(GHashTable) variables = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GError) error = NULL;
    struct run_mount *mount;
    char *out;

    g_hash_table_insert(variables, (char *)"v", (char *)"value");
    if (!run_mount_parse(text, variables, '\\', &mount, &error))
        return g_strdup(error->message);
    out = g_strdup_printf("%d %d from=%s source=%s target=%s id=%s env=%s%s%s size=%d mode=%o %d:%d", mount->type, mount->sharing,
                          mount->from ? mount->from : "", mount->source ? mount->source : "", mount->target ? mount->target : "",
                          mount->id ? mount->id : "", mount->env ? mount->env : "", mount->read_only ? " ro" : "",
                          mount->required ? " required" : "", (int)mount->size, (unsigned)mount->mode, (int)mount->uid,
                          (int)mount->gid);
    run_mount_free(mount);
    return out;
}

static const struct {
    const char *text, *expected;
} cases[] = {
    { "target=/x", "0 0 from= source= target=/x id= env= ro size=0 mode=37777777777 -1:-1" },
    { "type=bind,from=a,source=/s,dst=/x,rw", "0 0 from=a source=/s target=/x id= env= size=0 mode=37777777777 -1:-1" },
    { "type=cache,target=/$v,id=${v%e},sharing=locked,mode=0700,uid=1,gid=2",
      "1 2 from= source= target=/value id=valu env= size=0 mode=700 1:2" },
    { "type=tmpfs,\"target=/a,b\",size=1m", "2 0 from= source= target=/a,b id= env= size=1048576 mode=37777777777 -1:-1" },
    { "type=secret,id=k,env=K,required", "3 0 from= source= target= id=k env=K ro required size=0 mode=37777777777 -1:-1" },
    { "type=ssh", "4 0 from= source= target= id= env= ro size=0 mode=37777777777 -1:-1" },
    { "type=ssh,source=/x", "ssh does not support source" },
    { "type=secret", "invalid secret mount. one of source, target required" },
    { "type=secret,id=a,from=b", "secret mount should not have a from" },
    { "type=secret,id=a,src=b", "both source and id can't be set" },
    { "type=cache,target=/x,sharing=no", "unsupported sharing value \"no\"" },
    { "type=bind,target=/x,sharing=shared", "invalid cache sharing set for bind mount" },
    { "type=cache,target=/x,size=1", "unexpected key 'size' for mount type 'cache'" },
    { "type=tmpfs,target=/x,uid=1", "uid not allowed for \"tmpfs\" type mounts" },
    { "type=cache,target=/x,uid=4294967296", "invalid value 4294967296 for uid" },
    { "type=cache,target=/x,mode=9", "invalid value 9 for mode" },
    { "type=cache,target=/x,required", "unexpected key 'required' for mount type 'cache'" },
    { "type=cache,target", "invalid field 'target' must be a key=value pair" },
    { "type=cache,target=/x,ro=perhaps", "invalid value for ro: perhaps" },
    { "from=$v,target=/x", "'from' doesn't support variable expansion, define alias stage instead" },
    { "type=bind,target=${v", "failed to process \"${v\": missing ':' in substitution" },
    { "", "invalid field '' must be a key=value pair" },
    { "\"type=bind\"x,target=/", "failed to parse csv mounts: a quote that is not closed" },
};

static void test_mounts(void **state)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *got = dump(cases[i].text);

        assert_string_equal(got, cases[i].expected);
    }
}

static void test_from(void **state)
{
    g_autofree char *from = run_mount_from("type=bind,FROM=a,target=/x,from=b"), *none = run_mount_from("target=/from=x");

    assert_string_equal(from, "b");
    assert_null(none);
}

static void test_modes(void **state)
{
    static const struct {
        const char *text;
        unsigned before, after; /* after ~0: refused */
        bool is_directory;
    } modes[] = {
        { "0755", 0, 0755 },
        { "4711", 0600, 04711 },
        { "u+x", 0644, 0744 },
        { "a+X", 0644, 0644 },
        { "a+X", 0744, 0755 },
        { "a+X", 0644, 0755, true },
        { "go=", 0777, 0700 },
        { "u=rw,g=r,o=", 07777, 01640 },
        { "+x", 0600, 0711 },
        { "g=u", 0640, 0660 },
        { "o-rwx", 0777, 0770 },
        { "u+s,g+s,+t", 0755, 07755 },
        { "u=rwx,go=rx", 0, 0755 },
        { "a=r+w", 0, 0666 },
        { "888", 0, ~0u },
        { "u+q", 0, ~0u },
        { "u", 0, ~0u },
        { "", 0, ~0u },
        { "u+x,", 0, ~0u },
        { "10000", 0, ~0u },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        mode_t got = 0;
        bool good = copy_mode_apply(modes[i].text, modes[i].before, modes[i].is_directory, &got);

        if (good != (modes[i].after != ~0u) || (good && got != modes[i].after))
            fail_msg("%s on %o: %d %o", modes[i].text, modes[i].before, good, got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mounts),
        cmocka_unit_test(test_from),
        cmocka_unit_test(test_modes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
