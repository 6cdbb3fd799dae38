/* COPY from plain directories into a tar: what is found, where it goes, and with which attributes. Needs no root. */
#include "base/fd.h"
#include "base/file.h"
#include "build/build-internal.h"
#include "layer/tar.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
    char *directory;
    int context, image;
};

static void put(int root, const char *path, const char *text, mode_t mode, time_t mtime)
{
    struct timespec times[2] = { { .tv_sec = mtime }, { .tv_sec = mtime, .tv_nsec = 5 } };
    g_autofd int fd = openat(root, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(futimens(fd, times), 0);
}

static void put_directory(int root, const char *path, mode_t mode)
{
    assert_int_equal(mkdirat(root, path, 0700), 0);
    assert_int_equal(fchmodat(root, path, mode, 0), 0);
}

static void set_time(int root, const char *path, time_t mtime)
{
    struct timespec times[2] = { { .tv_sec = mtime }, { .tv_sec = mtime } };

    assert_int_equal(utimensat(root, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

static int set_up(void **state)
{
    struct fixture *fixture = g_new0(struct fixture, 1);
    g_autofd int top = -1;
    int context;

    fixture->directory = g_dir_make_tmp("tare-copy-XXXXXX", NULL);
    top = open(fixture->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    put_directory(top, "context", 0755);
    put_directory(top, "image", 0755);
    fixture->image = openat(top, "image", O_PATH | O_DIRECTORY | O_CLOEXEC);
    fixture->context = context = openat(top, "context", O_PATH | O_DIRECTORY | O_CLOEXEC);

    put(context, "plain", "one", 0640, 100);
    put(context, "suid", "two!", 04755, 101);
    put(context, "x1", "=", 0644, 102);
    put_directory(context, "d", 0750);
    put_directory(context, "d/sub", 02700);
    put(context, "d/f", "abc", 0600, 103);
    put(context, "d/h1", "hh", 0644, 104);
    assert_int_equal(linkat(context, "d/h1", context, "d/sub/h2", 0), 0);
    assert_int_equal(symlinkat("f", context, "d/link"), 0);
    assert_int_equal(symlinkat("d/f", context, "tof"), 0);
    assert_int_equal(symlinkat("/../../etc", context, "out"), 0);
    set_time(context, "d/link", 105);
    set_time(context, "d/sub", 106);

    put_directory(fixture->image, "usr", 0755);
    put_directory(fixture->image, "usr/lib", 0755);
    put_directory(fixture->image, "etc", 0755);
    put(fixture->image, "etc/passwd", "root:x:0:0::/:/bin/sh\nme:x:7:8::/:\n", 0644, 1);
    put(fixture->image, "etc/group", "root:x:0:\nme:x:9:\n", 0644, 1);
    assert_int_equal(symlinkat("usr/lib", fixture->image, "lib"), 0);
    assert_int_equal(symlinkat("/lib/../nowhere/x", fixture->image, "dangling"), 0);
    assert_int_equal(symlinkat("loop", fixture->image, "loop"), 0);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    g_autofree char *name = g_path_get_basename(fixture->directory);
    g_autofd int parent = open(g_get_tmp_dir(), O_PATH | O_DIRECTORY | O_CLOEXEC);

    fd_close(fixture->context);
    fd_close(fixture->image);
    assert_true(dir_remove_tree(parent, name, NULL));
    g_free(fixture->directory);
    g_free(fixture);
    return 0;
}

struct memory_sink {
    struct byte_sink sink;
    GByteArray *bytes;
};

static bool memory_write(struct byte_sink *self, const void *data, gsize length, GError **error)
{
    g_byte_array_append(((struct memory_sink *)self)->bytes, data, (guint)length);
    return true;
}

/* "path mode uid:gid mtime [link|content]" of each entry. */
static char *dump_tar(const GByteArray *bytes)
{
    GString *out = g_string_new(NULL);
    struct memory_source source;
    struct tar_reader *reader;
    const struct tar_entry *entry;

    memory_source_init(&source, bytes->data, bytes->len);
    reader = tar_reader_new(&source.source, NULL);
    while (tar_reader_next(reader, &entry, NULL) == 1) {
        char content[32] = "";

        if (!entry->is_hard_link && S_ISREG(entry->mode))
            tar_reader_read(reader, content, sizeof content - 1, NULL);
        g_string_append_printf(out, "%s %o %u:%u %d%s%s%s\n", entry->path, entry->is_hard_link ? 0 : entry->mode, entry->uid,
                               entry->gid, (int)entry->mtime, entry->link ? (entry->is_hard_link ? " ==" : " -> ") : "",
                               entry->link ? entry->link : "", *content ? content : "");
    }
    tar_reader_free(reader);
    return g_string_free(out, FALSE);
}

static char *copy(struct fixture *fixture, const struct copy_layer_options *given, const char *const *patterns, const char *dest)
{
    struct copy_sources sources = { .root_fd = fixture->context, .is_context = true };
    struct copy_layer_options options = *given;
    struct memory_sink sink = { .sink.write = memory_write, .bytes = g_byte_array_new() };
    struct tar_writer *writer = tar_writer_new(&sink.sink);
    g_autoptr(GError) error = NULL;
    struct copy_layer *layer;
    bool good = true;
    char *text;

    options.target_fd = fixture->image;
    options.epoch = 77;
    layer = copy_layer_new(&options);
    for (; good && *patterns; patterns++)
        good = copy_sources_add(&sources, *patterns, &error);
    for (guint i = 0; good && sources.items && i < sources.items->len; i++)
        good = copy_layer_add(layer, &sources, sources.items->pdata[i], dest, &error);
    good = good && copy_layer_write(layer, writer, &error) && tar_writer_finish(writer, &error);
    text = good ? dump_tar(sink.bytes) : g_strdup(error->message);
    tar_writer_free(writer);
    g_byte_array_unref(sink.bytes);
    copy_layer_free(layer);
    copy_sources_clear(&sources);
    return text;
}

static const struct {
    const char *sources[3], *dest, *expected;
    const char *chmod;
    uid_t owner;
} cases[] = {
    { { "plain" }, "/new", "new 100640 0:0 100one\n", NULL },
    { { "/plain" }, "/a/b/", "a 40755 0:0 77\na/b 40755 0:0 77\na/b/plain 100640 0:0 100one\n", NULL },
    { { "plain" }, "/etc", "etc/plain 100640 0:0 100one\n", NULL },
    { { "plain" }, "/", "plain 100640 0:0 100one\n", NULL },
    { { "suid" }, "/s", "s 100755 0:0 101two!\n", NULL },
    { { "suid" }, "/o/s", "o 40755 5:5 77\no/s 100755 5:5 101two!\n", NULL, 5 },
    { { "plain" }, "/s", "s 100604 0:0 100one\n", "0604" },
    { { "plain" }, "/lib/x", "usr/lib/x 100640 0:0 100one\n", NULL },
    { { "plain" }, "/lib", "usr/lib/plain 100640 0:0 100one\n", NULL },
    { { "plain" }, "/dangling", "usr/nowhere 40755 0:0 77\nusr/nowhere/x 100640 0:0 100one\n", NULL },
    { { "plain" }, "/../../x", "x 100640 0:0 100one\n", NULL },
    { { "tof" }, "/t/", "t 40755 0:0 77\nt/tof 100600 0:0 103abc\n", NULL },
    { { "d/sub/../f" }, "/t/", "t 40755 0:0 77\nt/f 100600 0:0 103abc\n", NULL },
    { { "d" },
      "/two",
      "two 40755 0:0 77\ntwo/f 100600 0:0 103abc\ntwo/h1 100644 0:0 104hh\ntwo/link 120777 0:0 105 -> f\ntwo/sub 42700 0:0 106\n"
      "two/sub/h2 0 0:0 104 ==two/h1\n",
      NULL },
    { { "d" },
      "/etc/",
      "etc/f 100600 0:0 103abc\netc/h1 100644 0:0 104hh\netc/link 120777 0:0 105 -> f\netc/sub 42700 0:0 106\netc/sub/h2 0 0:0 "
      "104 ==etc/h1\n",
      NULL },
    { { "p*", "[sx]*" },
      "/w/",
      "w 40755 0:0 77\nw/plain 100640 0:0 100one\nw/suid 100755 0:0 101two!\nw/x1 100644 0:0 102=\n",
      NULL },
    { { "d/h*" }, "/w/", "w 40755 0:0 77\nw/h1 100644 0:0 104hh\n", NULL },
    { { "nosuch" }, "/", "file not found in build context or excluded by .dockerignore: stat nosuch: file does not exist", NULL },
    { { "plain/x" },
      "/",
      "file not found in build context or excluded by .dockerignore: stat plain/x: file does not exist",
      NULL },
    { { "out" }, "/", "file not found in build context or excluded by .dockerignore: stat out: file does not exist", NULL },
    { { "../a" }, "/", "forbidden path outside the build context: ../a ()", NULL },
    { { "/../a" }, "/", "forbidden path outside the build context: ../a ()", NULL },
    { { "plain" }, "/etc/passwd/", "mkdir /etc/passwd: not a directory", NULL },
    { { "d" }, "/etc/passwd", "mkdir /etc/passwd: not a directory", NULL },
    { { "plain" }, "/loop/x", "lstat /loop: too many levels of symbolic links", NULL },
};

static void test_cases(void **state)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct copy_layer_options options = { .chmod = cases[i].chmod, .uid = cases[i].owner, .gid = cases[i].owner };
        g_autofree char *got = copy(*state, &options, cases[i].sources, cases[i].dest);

        assert_string_equal(got, cases[i].expected);
    }
}

static char *hash_of(const struct fixture *fixture, const char *pattern)
{
    struct copy_sources sources = { .root_fd = fixture->context };
    char *hash;

    assert_true(copy_sources_add(&sources, pattern, NULL));
    hash = g_strdup(((struct copy_source *)sources.items->pdata[0])->hash);
    copy_sources_clear(&sources);
    return hash;
}

static void test_hash_is_of_content_not_of_times(void **state)
{
    struct fixture *fixture = *state;
    g_autofree char *before = hash_of(fixture, "d"), *later = NULL, *changed = NULL, *mode = NULL;

    set_time(fixture->context, "d/f", 999);
    later = hash_of(fixture, "d");
    assert_string_equal(before, later);
    assert_int_equal(fchmodat(fixture->context, "d/f", 0611, 0), 0);
    mode = hash_of(fixture, "d");
    assert_string_not_equal(before, mode);
    put(fixture->context, "d/f", "abd", 0600, 103);
    changed = hash_of(fixture, "d");
    assert_string_not_equal(before, changed);
    put(fixture->context, "d/f", "abc", 0600, 103);
}

static void test_owners(void **state)
{
    static const struct {
        const char *text, *error;
        uid_t uid;
        gid_t gid;
    } owners[] = {
        { "me", NULL, 7, 9 },
        { "5", NULL, 5, 5 },
        { "me:root", NULL, 7, 0 },
        { "1:2", NULL, 1, 2 },
        { "no", "unable to convert uid/gid chown string to host mapping: can't find uid for user no: no such user: no", 0, 0 },
        { "1:no", "unable to convert uid/gid chown string to host mapping: can't find gid for group no: no such group: no", 0,
          0 },
        { "a:b:c", "unable to convert uid/gid chown string to host mapping: invalid chown string format: a:b:c", 0, 0 },
        { "4294967295",
          "unable to convert uid/gid chown string to host mapping: can't find uid for user 4294967295: no such user: 4294967295",
          0, 0 },
    };
    const struct fixture *fixture = *state;

    for (size_t i = 0; i < G_N_ELEMENTS(owners); i++) {
        g_autoptr(GError) error = NULL;
        uid_t uid = 0;
        gid_t gid = 0;

        if (!copy_resolve_owner(fixture->image, owners[i].text, &uid, &gid, &error)) {
            assert_string_equal(error->message, owners[i].error);
            continue;
        }
        assert_null(owners[i].error);
        assert_int_equal(uid, owners[i].uid);
        assert_int_equal(gid, owners[i].gid);
    }
}

static void test_made_directory(void **state)
{
    const struct fixture *fixture = *state;
    struct copy_layer_options options = { .target_fd = fixture->image };
    struct copy_layer *layer = copy_layer_new(&options);
    bool made;

    assert_true(copy_layer_make_directory(layer, "/lib", &made, NULL));
    assert_false(made);
    assert_true(copy_layer_make_directory(layer, "/lib/a/b", &made, NULL));
    assert_true(made);
    copy_layer_free(layer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cases, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hash_is_of_content_not_of_times, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_owners, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_made_directory, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
