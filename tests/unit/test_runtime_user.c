/* Who "docker run -u X" is, by the texts of passwd and group. */
#include "runtime/runtime-internal.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "# a comment\n"
                             "\n"
                             "broken line\n"
                             "strange:x:1x:5::/strange:\n"
                             "minus:x:-1:5::/minus:\n"
                             "huge:x:4294967295:5::/huge:\n"
                             "wide:x:2147483648:5::/wide:\n"
                             "gap:x::5::/gap:\n"
                             "user:x:1000:100:The User,,,:/home/user:/bin/sh\n"
                             "user:x:1001:101::/second:\n"
                             "homeless:x:1002:102\n"
                             "7:x:1003:103::/seven:\n"
                             "last:x:1004:104::/last:/bin/false";
static const char group[] = "root:x:0:\nusers:x:100:\naudio:x:29:user,other\nvideo:x:44:other,user\nuser-like:x:45:user2,xuser\n"
                            "bad:x:12x:user\nwide:x:2147483648:user\n1000:x:55:\nlast:x:104:last";

static const char range[] = "uids and gids must be in range 0-2147483647";

static void test_users(void **state)
{
    static const struct {
        const char *user;
        uid_t uid;
        gid_t gid;
        const char *groups, *home, *message;
    } rows[] = {
        { "", 0, 0, "", "/root", NULL },
        { "root", 0, 0, "", "/root", NULL },
        { "0", 0, 0, "", "/root", NULL },
        { "user", 1000, 100, "29 44 ", "/home/user", NULL },
        { "1000", 1000, 100, "29 44 ", "/home/user", NULL },
        { "1001", 1001, 101, "29 44 ", "/second", NULL },
        { "user:audio", 1000, 29, "", "/home/user", NULL },
        { "user:0", 1000, 0, "", "/home/user", NULL },
        { "user:", 1000, 100, "29 44 ", "/home/user", NULL },
        { ":video", 0, 44, "", "/root", NULL },
        { "4242", 4242, 0, "", "/", NULL },
        { "4242:4243", 4242, 4243, "", "/", NULL },
        { "homeless", 1002, 102, "", "/", NULL },
        { "last", 1004, 104, "104 ", "/last", NULL },
        { "7", 7, 0, "", "/", NULL }, /* a number is a number, whoever is called so */
        { "user:1000", 1000, 1000, "", "/home/user", NULL },
        { "2147483647:2147483647", 2147483647, 2147483647, "", "/", NULL },
        { "nobody", 0, 0, NULL, NULL, "unable to find user nobody: no matching entries in passwd file" },
        { "strange", 0, 0, NULL, NULL, "unable to find user strange: no matching entries in passwd file" },
        { "minus", 0, 0, NULL, NULL, "unable to find user minus: no matching entries in passwd file" },
        { "gap", 0, 0, NULL, NULL, "unable to find user gap: no matching entries in passwd file" },
        { "user:nogroup", 0, 0, NULL, NULL, "unable to find group nogroup: no matching entries in group file" },
        { "user:bad", 0, 0, NULL, NULL, "unable to find group bad: no matching entries in group file" },
        { "huge", 0, 0, NULL, NULL, range },
        { "wide", 0, 0, NULL, NULL, range },
        { "user:wide", 0, 0, NULL, NULL, range },
        { "2147483648", 0, 0, NULL, NULL, range },
        { "4294967296", 0, 0, NULL, NULL, range },
        { "99999999999999999999999", 0, 0, NULL, NULL, range },
        { "-1", 0, 0, NULL, NULL, range },
        { "0:-1", 0, 0, NULL, NULL, range },
        { " 1", 0, 0, NULL, NULL, "unable to find user  1: no matching entries in passwd file" },
        { "1x", 0, 0, NULL, NULL, "unable to find user 1x: no matching entries in passwd file" },
        { "0x0", 0, 0, NULL, NULL, "unable to find user 0x0: no matching entries in passwd file" },
        { "+1", 0, 0, NULL, NULL, "unable to find user +1: no matching entries in passwd file" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct runtime_user user = { 0 };
        GError *error = NULL;
        bool ok = user_resolve_text(passwd, group, rows[i].user, NULL, &user, &error);
        if (rows[i].message) {
            assert_false(ok);
            assert_string_equal(error->message, rows[i].message);
            g_clear_error(&error);
            continue;
        }
        assert_true(ok);
        assert_int_equal(user.uid, rows[i].uid);
        assert_int_equal(user.gid, rows[i].gid);
        assert_string_equal(user.home, rows[i].home);
        g_autoptr(GString) groups = g_string_new(NULL);
        for (guint k = 0; k < user.groups->len; k++)
            g_string_append_printf(groups, "%u ", g_array_index(user.groups, gid_t, k));
        assert_string_equal(groups->str, rows[i].groups);
        runtime_user_clear(&user);
    }
}

static void test_additional_groups(void **state)
{
    struct runtime_user user = { 0 };
    GError *error = NULL;
    const char *const good[] = { "users", "29", "777", "audio", NULL };
    assert_true(user_resolve_text(passwd, group, "user", good, &user, &error));
    static const gid_t wanted[] = { 29, 44, 100, 777 };
    assert_int_equal(user.groups->len, G_N_ELEMENTS(wanted));
    assert_memory_equal(user.groups->data, wanted, sizeof wanted);
    runtime_user_clear(&user);
    const char *const unknown[] = { "foo", NULL };
    assert_false(user_resolve_text(passwd, group, "user", unknown, &user, &error));
    assert_string_equal(error->message, "Unable to find group foo: no matching entries in group file");
    g_clear_error(&error);
    const char *const wide[] = { "2147483648", NULL };
    assert_false(user_resolve_text(passwd, group, "user", wide, &user, &error));
    assert_string_equal(error->message, range);
    g_clear_error(&error);
}

/* Files that an image may bring to stop or mislead us. */
static void test_files(void **state)
{
    struct runtime_user user = { 0 };
    GError *error = NULL;
    g_autofree char *path = g_dir_make_tmp("tare-user-XXXXXX", NULL);
    int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(runtime_resolve_user(root, "5", NULL, &user, &error)); /* no files at all */
    assert_int_equal(user.uid, 5);
    runtime_user_clear(&user);
    assert_int_equal(mkdirat(root, "etc", 0755), 0);
    assert_int_equal(mkfifoat(root, "etc/passwd", 0644), 0); /* CVE-2024-9676: who opens it waits for ever */
    assert_false(runtime_resolve_user(root, "user", NULL, &user, &error));
    assert_string_equal(error->message, "/etc/passwd: not a regular file");
    g_clear_error(&error);
    assert_int_equal(unlinkat(root, "etc/passwd", 0), 0);
    assert_int_equal(symlinkat("../../../../../../etc/passwd", root, "etc/passwd"), 0); /* the host's: a loop inside */
    assert_false(runtime_resolve_user(root, "root", NULL, &user, &error));
    g_clear_error(&error);
    assert_int_equal(unlinkat(root, "etc/passwd", 0), 0);
    int fd = openat(root, "etc/passwd", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(ftruncate(fd, USER_FILE_MAX + 1), 0);
    close(fd);
    assert_false(runtime_resolve_user(root, "root", NULL, &user, &error));
    assert_string_equal(error->message, "open /etc/passwd: file too large");
    g_clear_error(&error);
    unlinkat(root, "etc/passwd", 0);
    unlinkat(root, "etc", AT_REMOVEDIR);
    rmdir(path);
    close(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_users), cmocka_unit_test(test_additional_groups),
                                        cmocka_unit_test(test_files) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
