#include "layer_fixture.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int mount_overlay(const int *lowers, size_t n)
{
    int fs = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
    assert_true(fs >= 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(syscall(SYS_fsconfig, fs, FSCONFIG_SET_FD, "lowerdir+", NULL, lowers[i]), 0);
    assert_int_equal(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), 0);
    int mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
    assert_true(mount >= 0);
    close(fs);
    return mount;
}

struct chain {
    struct layer layers[8];
    struct fixup_layer fixup[8];
    const char *names[8];
    size_t n;
};

static struct chain make_chain(const char *const *tars)
{
    struct chain chain = { 0 };
    for (; tars[chain.n]; chain.n++) {
        struct layer *layer = &chain.layers[chain.n];
        *layer = make_layer(tars[chain.n]);
        chain.names[chain.n] = tars[chain.n];
    }
    return chain;
}

static bool build_fixup(struct chain *chain, struct byte_sink *sink, char id[DIGEST_ROOM], bool *ret_needed, GError **error)
{
    for (size_t i = 0; i < chain->n; i++) {
        const struct layer *layer = &chain->layers[i];
        chain->fixup[i] = (struct fixup_layer){ layer->device.diff_id, layer->device.tar_bytes, layer->index_fd, layer->facts };
    }
    digest_of("chain", 5, id);
    return fixup_build(chain->fixup, chain->n, id, sink, ret_needed, error);
}

static void chain_close(struct chain *chain)
{
    for (size_t i = 0; i < chain->n; i++)
        layer_close(&chain->layers[i]);
}

/* The chain's overlay mount, with its fix-up on top where it needs one. */
static int mount_chain(struct chain *chain, bool *ret_needed)
{
    char id[DIGEST_ROOM];
    int lowers[9];
    size_t n = 0;
    g_autofree char *path = path_in("fixup");
    g_autofd int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct fd_sink sink;
    fd_sink_init(&sink, fd, "fix-up");
    g_autoptr(GError) error = NULL;
    if (!build_fixup(chain, &sink.sink, id, ret_needed, &error))
        fail_msg("%s", error->message);
    if (*ret_needed) {
        if (!fixup_check(fd, chain->fixup, chain->n, id, &error))
            fail_msg("fix-up: %s", error->message);
        g_autoptr(erofs_reader) reader = NULL;
        const struct erofs_device *devices;
        assert_true(erofs_reader_open(fd, &reader, NULL));
        size_t n_devices = erofs_reader_devices(reader, &devices);
        g_autoptr(GPtrArray) tars = g_ptr_array_new_with_free_func(g_free);
        for (size_t i = 0; i < n_devices; i++)
            for (size_t j = 0; j < chain->n; j++)
                if (strcmp(devices[i].diff_id, chain->layers[j].device.diff_id) == 0)
                    g_ptr_array_add(tars, path_in(chain->names[j]));
        assert_int_equal(tars->len, n_devices);
        g_ptr_array_add(tars, NULL);
        lowers[n++] = mount_index(path, (const char *const *)tars->pdata);
    }
    for (size_t i = chain->n; i-- > 0;)
        lowers[n++] = mount_layer(chain->names[i]);
    int mount = mount_overlay(lowers, n);
    for (size_t i = 0; i < n; i++)
        close(lowers[i]);
    return mount;
}

static void make_base(const char *name, mode_t mode, guint32 uid)
{
    struct tar_file *tar = tar_begin(name);
    struct tar_entry etc = { .path = (char *)"etc", .mode = S_IFDIR | mode, .uid = uid, .mtime = 1600000000, .mtime_ns = 5 };
    tar_entry_set_xattr(&etc, "user.base", name, strlen(name));
    assert_true(tar_writer_entry(tar->writer, &etc, NULL));
    g_ptr_array_unref(etc.xattrs);
    tar_add(tar, 'f', "etc/passwd", "root:x");
    tar_add(tar, 'd', "etc/ssl", NULL);
    tar_add(tar, 'f', "etc/ssl/old", "old");
    tar_add(tar, 'l', "link", "etc/passwd");
    tar_add(tar, 'd', "home", NULL);
    tar_end(tar);
}

static void one_layer_under_two_bases(void **state)
{
    make_base("base-1.tar", 0700, 7);
    make_base("base-2.tar", 0711, 8);
    struct tar_file *tar = tar_begin("top.tar");
    tar_add(tar, 'f', "etc/ssl/new", "new");  /* etc and etc/ssl are implied */
    tar_add(tar, 'f', "opt/own/file", "own"); /* no layer has opt */
    tar_end(tar);
    for (int i = 1; i <= 2; i++) {
        g_autofree char *base = g_strdup_printf("base-%d.tar", i);
        const char *const names[] = { base, "top.tar", NULL };
        struct chain chain = make_chain(names);
        bool needed;
        g_autofd int mount = mount_chain(&chain, &needed);
        struct stat status;
        assert_true(needed);
        assert_text(mount, "etc/ssl/old", "old");
        assert_text(mount, "etc/ssl/new", "new");
        assert_int_equal(fstatat(mount, "etc", &status, 0), 0);
        assert_int_equal(status.st_mode, S_IFDIR | (i == 1 ? 0700 : 0711));
        assert_int_equal(status.st_uid, 6 + i);
        assert_int_equal(status.st_mtim.tv_sec, 1600000000);
        assert_int_equal(status.st_mtim.tv_nsec, 5);
        g_autofree char *attributes = attributes_of(mount, "etc");
        assert_true(g_str_has_prefix(attributes, "user.base"));
        assert_int_equal(mode_of(mount, "etc/ssl"), S_IFDIR | 0750);
        assert_int_equal(mode_of(mount, "opt/own"), S_IFDIR | 0755);
        chain_close(&chain);
    }
}

static void nothing_differs_nothing_is_made(void **state)
{
    const char *const names[] = { "base-1.tar", "base-2.tar", NULL };
    struct chain chain = make_chain(names);
    bool needed;
    g_autofd int mount = mount_chain(&chain, &needed);
    assert_false(needed);
    assert_true(layer_facts_is_empty(chain.layers[0].facts));
    chain_close(&chain);
}

static void facts_that_upper_layers_overrule(void **state)
{
    struct tar_file *tar = tar_begin("covers.tar");
    tar_add(tar, 'd', "etc", NULL);
    tar_add(tar, 'f', "etc/.wh.ssl", NULL);
    tar_add(tar, 'f', ".wh.opt", NULL);
    tar_end(tar);
    const char *const names[] = { "base-1.tar", "top.tar", "covers.tar", NULL };
    struct chain chain = make_chain(names);
    bool needed;
    g_autofd int mount = mount_chain(&chain, &needed);
    assert_false(needed);
    assert_int_equal(mode_of(mount, "etc"), S_IFDIR | 0750);
    assert_int_equal(mode_of(mount, "etc/ssl"), 0);
    chain_close(&chain);
}

static void hard_links_to_lower_layers(void **state)
{
    shell("head -c 100000 /dev/zero | tr '\\0' z > lower-data");
    struct tar_file *tar = tar_begin("lower.tar");
    tar_add(tar, 'f', "dir/file", "lower content");
    tar_add(tar, 'f', "dir/replaced", "old");
    tar_add(tar, 'l', "dir/symlink", "somewhere");
    struct tar_extent run = { .offset = 100001, .length = 7 };
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof run);
    g_array_append_val(extents, run);
    struct tar_entry sparse = {
        .path = (char *)"dir/sparse", .mode = S_IFREG | 0600, .size = 200000, .stored_size = 7, .extents = extents
    };
    tar_entry_set_xattr(&sparse, "user.s", "s", 1);
    assert_true(tar_writer_entry(tar->writer, &sparse, NULL) && tar_writer_data(tar->writer, "sparse!", 7, NULL));
    g_ptr_array_unref(sparse.xattrs);
    tar_end(tar);
    tar = tar_begin("middle.tar");
    tar_add(tar, 'h', "middle/one", "dir/file");
    tar_add(tar, 'h', "middle/two", "middle/one");
    tar_add(tar, 'h', "middle/sparse", "dir/sparse");
    tar_add(tar, 'h', "middle/symlink", "dir/symlink");
    tar_add(tar, 'h', "middle/overruled", "dir/file");
    tar_add(tar, 'h', "middle/old", "dir/replaced");
    tar_end(tar);
    tar = tar_begin("upper.tar");
    tar_add(tar, 'h', "upper", "middle/two");
    tar_add(tar, 'f', "middle/.wh.overruled", NULL);
    tar_add(tar, 'f', "dir/replaced", "new");
    tar_end(tar);
    const char *const names[] = { "lower.tar", "middle.tar", "upper.tar", NULL };
    struct chain chain = make_chain(names);
    bool needed;
    g_autofd int mount = mount_chain(&chain, &needed);
    assert_true(needed);
    struct stat first, other;
    assert_int_equal(fstatat(mount, "dir/file", &first, 0), 0);
    assert_int_equal(first.st_nlink, 4);
    static const char *const links[] = { "middle/one", "middle/two", "upper" };
    for (size_t i = 0; i < G_N_ELEMENTS(links); i++) {
        assert_text(mount, links[i], "lower content");
        assert_int_equal(fstatat(mount, links[i], &other, 0), 0);
        assert_int_equal(other.st_ino, first.st_ino);
    }
    assert_int_equal(mode_of(mount, "middle/overruled"), 0);
    assert_text(mount, "middle/old", "old");
    assert_text(mount, "dir/replaced", "new");
    assert_true(S_ISLNK(mode_of(mount, "middle/symlink")));
    g_autofd int fd = openat(mount, "middle/sparse", O_RDONLY | O_CLOEXEC);
    char bytes[8] = { 0 };
    assert_int_equal(fd_pread_full(fd, bytes, 7, 100001), 7);
    assert_string_equal(bytes, "sparse!");
    assert_int_equal(lseek(fd, 0, SEEK_END), 200000);
    chain_close(&chain);

    tar = tar_begin("nowhere.tar");
    tar_add(tar, 'h', "x", "not/there");
    tar_end(tar);
    const char *const bad[] = { "lower.tar", "nowhere.tar", NULL };
    chain = make_chain(bad);
    char id[DIGEST_ROOM];
    g_autoptr(GError) error = NULL;
    assert_false(build_fixup(&chain, NULL, id, &needed, &error));
    assert_string_equal(error->message, "hard link \"x\" to \"not/there\", which no layer below has");
    chain_close(&chain);
}

static void a_layer_may_stand_twice(void **state)
{
    /* The link in the middle has its target below; the same layer on top brings nothing new, and is stacked only there. */
    const char *const names[] = { "lower.tar", "middle.tar", "lower.tar", NULL };
    struct chain chain = make_chain(names);
    char id[DIGEST_ROOM];
    bool needed;
    g_autofree char *path = path_in("fixup");
    g_autofd int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct fd_sink sink;
    fd_sink_init(&sink, fd, "fix-up");
    g_autoptr(GError) error = NULL;
    if (!build_fixup(&chain, &sink.sink, id, &needed, &error) || !fixup_check(fd, chain.fixup, chain.n, id, &error))
        fail_msg("%s", error->message);
    assert_true(needed);
    g_autofree char *lower = path_in("lower.tar");
    const char *tars[] = { lower, NULL };
    int lowers[] = { mount_index(path, tars), mount_layer("lower.tar"), mount_layer("middle.tar") };
    g_autofd int mount = mount_overlay(lowers, 3);
    for (int i = 0; i < 3; i++)
        close(lowers[i]);
    assert_text(mount, "middle/one", "lower content");
    assert_text(mount, "dir/file", "lower content");
    chain_close(&chain);
}

static void facts_survive_their_file(void **state)
{
    const char *const names[] = { "middle.tar", "top.tar", NULL };
    struct chain chain = make_chain(names);
    for (size_t i = 0; i < chain.n; i++) {
        g_autoptr(GBytes) bytes = layer_facts_write(chain.layers[i].facts), again = NULL;
        gsize size;
        const guint8 *data = g_bytes_get_data(bytes, &size);
        g_autoptr(layer_facts) parsed = NULL;
        assert_true(layer_facts_parse(data, size, &parsed, NULL));
        again = layer_facts_write(parsed);
        assert_true(g_bytes_equal(bytes, again));
        for (gsize cut = 0; cut < size; cut++) {
            g_autofree guint8 *part = g_memdup2(data, cut);
            g_autoptr(layer_facts) half = NULL;
            if (layer_facts_parse(part, cut, &half, NULL))
                assert_true(cut >= 12);
        }
    }
    chain_close(&chain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_layer_under_two_bases),        cmocka_unit_test(nothing_differs_nothing_is_made),
        cmocka_unit_test(facts_that_upper_layers_overrule), cmocka_unit_test(hard_links_to_lower_layers),
        cmocka_unit_test(a_layer_may_stand_twice),          cmocka_unit_test(facts_survive_their_file),
    };
    return cmocka_run_group_tests(tests, make_temporary, remove_temporary);
}
