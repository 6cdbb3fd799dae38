#include "layer_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* ---- a tree with one of everything ---- */
static const char make_tree[] =
    "mkdir -p t/dir t/empty t/sticky t/many t/$(printf %0255d 1); cd t;"
    "echo hello > dir/file; chmod 4755 dir/file; : > nothing; head -c 512 /dev/urandom > block; head -c 513 /dev/urandom > more;"
    "head -c 1000000 /dev/urandom > big; ln big dir/big-again; ln big many/big-too; ln -s ../nowhere link; ln -s $(printf %0700d "
    "3) long-link;"
    "ln -s $(printf %0400d 3) middle-link; ln link link-again; mknod null c 1 3; mknod sda b 8 0; mknod strange c 4095 1048575; "
    "mkfifo pipe;"
    "ln pipe pipe-again; chmod 1777 sticky; chmod 0 nothing; chown 12345:4294967294 block; chown -h 7:8 link;"
    "for i in $(seq 1 300); do echo $i > many/file-with-a-name-$i; done; ln dir/file $(printf %0255d 1)/$(printf %0255d 2);"
    "printf x > \"$(printf 'odd\\377\\001\\n\\\\\"name')\"; printf x > ' '; printf x > '!'; printf x > .hidden; printf x > ...;"
    "touch -d @-1000000000.5 old; touch -d @1.000000001 early; touch -d @20000000000.999999999 late; touch -h -d @5 link; cd ..";

static const char add_xattrs[] = "cd t; setfattr -n user.comment -v 'a b' dir/file; setfattr -n user.binary -v 0x000a3d00ff "
                                 "dir/file; setfattr -n user.empty dir/file;"
                                 "setfattr -n user.on-dir -v x dir; setfattr -n trusted.t -v y big; setfattr -h -n "
                                 "trusted.of-link -v z link; setfattr -h -n trusted.of-link -v z long-link;"
                                 "setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 more;"
                                 "setfattr -n trusted.big -v $(printf %03000d 7) early; cd ..";

static void a_tree_is_what_gnu_tar_extracts(void **state)
{
    shell(make_tree);
    shell(add_xattrs);
    static const char *const formats[] = { "gnu", "pax --xattrs --xattrs-include='*'",
                                           "pax --xattrs --xattrs-include='*' --sparse" };
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autofree char *make = g_strdup_printf("tar -cf a.tar --format=%s -C t .", formats[i]);
        shell(make);
        assert_true(compare_with_gnu_tar("a.tar", true) > 325);
    }
}

static void older_formats_too(void **state)
{
    shell("cd t; rm -rf *[0-9][0-9][0-9][0-9] long-link middle-link odd* old late strange link link-again pipe pipe-again; chown "
          "1:2 block");
    shell("tar -cf u.tar --format=ustar -C t .");
    assert_true(compare_with_gnu_tar("u.tar", true) > 300);
    shell("cd t; rm -f null sda; cd ..; tar -cf v.tar --format=v7 -C t .");
    assert_true(compare_with_gnu_tar("v.tar", true) > 300);
}

/* Python's writer has other habits: fractions of seconds in every pax header, bytes that are no UTF-8, GNU's base-256 for large
 * owners. */
static void archives_made_by_python(void **state)
{
    static const char script[] = "cat > make.py <<'END'\n"
                                 "import io, os, sys, tarfile\n"
                                 "with tarfile.open(sys.argv[1], 'w', format=getattr(tarfile, sys.argv[2]), encoding='utf-8', "
                                 "errors='surrogateescape') as tar:\n"
                                 "    def add(name, kind=tarfile.REGTYPE, data=b'', **more):\n"
                                 "        info = tarfile.TarInfo(name)\n"
                                 "        info.type, info.size, info.mode, info.mtime = kind, len(data), 0o640, 1234567890.125\n"
                                 "        for key, value in more.items():\n"
                                 "            setattr(info, key, value)\n"
                                 "        tar.addfile(info, io.BytesIO(data))\n"
                                 "    add('.', tarfile.DIRTYPE, mode=0o751, mtime=17)\n"
                                 "    add('d', tarfile.DIRTYPE, mode=0o755)\n"
                                 "    add('d/' + 'n' * 200, data=b'x' * 1000)\n"
                                 "    add('d/link', tarfile.SYMTYPE, linkname='t' * 300)\n"
                                 "    add('d/hard', tarfile.LNKTYPE, linkname='d/' + 'n' * 200)\n"
                                 "    add('d/' + os.fsdecode(b'\\xe4\\xff-bytes'), data=b'bytes')\n"
                                 "    add('d/\u00e4\u20ac', data=b'text')\n"
                                 "    add('d/owner', uid=4000000000, gid=3000000)\n"
                                 "    add('d/old', mtime=-7)\n"
                                 "    add('d/tape', tarfile.CONTTYPE, data=b'contiguous')\n"
                                 "    add('d/block', tarfile.BLKTYPE, devmajor=259, devminor=70000)\n"
                                 "END\n"
                                 "for format in GNU_FORMAT PAX_FORMAT; do python3 make.py $format.tar $format; done";
    shell(script);
    assert_int_equal(compare_with_gnu_tar("GNU_FORMAT.tar", false), 11);
    assert_int_equal(compare_with_gnu_tar("PAX_FORMAT.tar", false), 11);
}

static void every_cut_gives_an_error_or_a_good_index(void **state)
{
    static const char *const tars[] = { "GNU_FORMAT.tar", "PAX_FORMAT.tar", "s.tar" };
    for (size_t i = 0; i < G_N_ELEMENTS(tars); i++) {
        g_autofree char *copy = g_strdup_printf("cp %s part", tars[i]), *path = path_in("part");
        shell(copy);
        struct stat status;
        assert_int_equal(stat(path, &status), 0);
        unsigned taken = 0, refused = 0;
        for (off_t cut = MIN(status.st_size, 79 * 512); cut >= 0; cut -= 512) {
            struct layer layer;
            g_autoptr(GError) error = NULL;
            assert_int_equal(truncate(path, cut), 0);
            bool ok = try_layer("part", &layer, &error); /* checks what was made */
            taken += ok;
            refused += !ok;
            layer_close(&layer);
        }
        if (taken < 2 || refused < 2)
            fail_msg("%s: %u taken, %u refused", tars[i], taken, refused);
    }
}

static void deep_paths(void **state)
{
    /* 30 components of 255 bytes: 7,680 bytes, beyond what one system call takes. */
    g_autofree char *name = g_strnfill(255, 'n');
    g_autoptr(GString) path = g_string_new(name);
    struct tar_file *tar = tar_begin("deep.tar");
    for (int i = 1; i < 30; i++)
        g_string_append_printf(path, "/%s", name);
    tar_add(tar, 'f', path->str, "bottom");
    tar_end(tar);
    struct layer layer = make_layer("deep.tar");
    assert_int_equal(layer.stats.n_inodes, 31);
    int at = mount_layer("deep.tar");
    for (int i = 0; i < 29; i++) {
        int next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        close(at);
        at = next;
    }
    g_autofree char *content = NULL;
    gsize length;
    assert_true(file_read(at, name, 100, &content, &length, NULL));
    assert_string_equal(content, "bottom");
    close(at);
    g_autofd int mount = mount_layer("deep.tar");
    compare_replay(&layer, mount, false);
    layer_close(&layer);
}

static void sparse_files_have_holes(void **state)
{
    shell("mkdir s; cd s; truncate -s 100M all-hole; for i in $(seq 0 39); do printf data$i | dd of=many bs=1 seek=$((i * "
          "65536)) conv=notrunc status=none; done;"
          "truncate -s 3000000 many; printf end | dd of=end bs=1 seek=1G status=none; printf x > small; truncate -s 4097 small;"
          "head -c 8192 /dev/urandom > tail; truncate -s 1000000 tail; cd ..");
    static const char *const formats[] = { "gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1",
                                           "pax --sparse-version=1.0" };
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autofree char *make = g_strdup_printf("tar -cSf s.tar --format=%s -C s .", formats[i]);
        shell(make);
        struct layer layer = make_layer("s.tar");
        assert_true(layer.stats.content_bytes > 1 << 30);
        if (layer.stats.index_bytes > 300000)
            fail_msg("%ju bytes of index", (uintmax_t)layer.stats.index_bytes);
        shell("rm -rf x; mkdir x; tar -xpf s.tar -C x");
        g_autofd int mount = mount_layer("s.tar"), extracted = open_dir("x");
        compare_trees(mount, extracted, true);
        compare_replay(&layer, mount, false);
        g_autofd int hole = openat(mount, "all-hole", O_RDONLY | O_CLOEXEC), many = openat(mount, "many", O_RDONLY | O_CLOEXEC);
        assert_int_equal(lseek(hole, 0, SEEK_DATA), -1);
        assert_int_equal(errno, ENXIO);
        assert_int_equal(lseek(many, 0, SEEK_HOLE), 4096);
        assert_int_equal(lseek(many, 4096, SEEK_DATA), 65536);
        layer_close(&layer);
    }
}

/* ---- the meaning of entries ---- */
static void later_entries_replace_earlier_ones(void **state)
{
    struct tar_file *tar = tar_begin("e.tar");
    tar_add(tar, 'f', "a", "one");
    tar_add(tar, 'f', "a", "two");
    tar_add(tar, 'd', "file-over-dir", NULL);
    tar_add(tar, 'f', "file-over-dir/gone", "x");
    tar_add(tar, 'h', "kept", "file-over-dir/gone");
    tar_add(tar, 'f', "file-over-dir", "file");
    tar_add(tar, 'f', "dir-over-file", "x");
    tar_add(tar, 'd', "dir-over-file", NULL);
    tar_add(tar, 'f', "dir-over-file/new", "new");
    tar_add(tar, 'f', "merged/child", "child"); /* the parent is implied, then said */
    tar_add(tar, 'd', "merged", NULL);
    tar_add(tar, 'h', "link-1", "a");
    tar_add(tar, 'h', "link-2", "link-1");
    tar_add(tar, 'f', "link-1", "other");
    tar_add(tar, 'h', "a", "a"); /* to itself: nothing */
    tar_add(tar, 'l', "symlink", "merged");
    tar_add(tar, 'f', "symlink/through", "through the link");
    tar_add(tar, 'l', "absolute", "/merged/../dir-over-file");
    tar_add(tar, 'f', "absolute/through", "absolute");
    tar_add(tar, 'l', "outside", "../../../../etc");
    tar_add(tar, 'f', "outside/passwd", "inside");
    tar_add(tar, 'h', "link-3", "symlink/through");
    tar_end(tar);
    struct layer layer = make_layer("e.tar");
    g_autofd int mount = mount_layer("e.tar");
    assert_text(mount, "a", "two");
    assert_text(mount, "file-over-dir", "file");
    assert_text(mount, "kept", "x");
    assert_text(mount, "dir-over-file/new", "new");
    assert_text(mount, "merged/child", "child");
    assert_int_equal(mode_of(mount, "merged"), S_IFDIR | 0750);
    assert_text(mount, "link-1", "other");
    assert_text(mount, "link-2", "two");
    assert_text(mount, "merged/through", "through the link");
    assert_text(mount, "dir-over-file/absolute", "open dir-over-file/absolute: no such file or directory");
    assert_text(mount, "dir-over-file/through", "absolute");
    assert_text(mount, "etc/passwd", "inside");
    assert_true(S_ISLNK(mode_of(mount, "symlink")) && S_ISLNK(mode_of(mount, "outside")));
    struct stat a, b;
    assert_int_equal(fstatat(mount, "merged/through", &a, 0), 0);
    assert_int_equal(fstatat(mount, "link-3", &b, 0), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    assert_int_equal(a.st_nlink, 2);
    assert_int_equal(fstatat(mount, "kept", &a, 0), 0);
    assert_int_equal(a.st_nlink, 1);
    compare_replay(&layer, mount, false);
    layer_close(&layer);
}

static void whiteouts(void **state)
{
    struct tar_file *tar = tar_begin("w.tar");
    tar_add(tar, 'f', ".wh.gone", NULL);
    tar_add(tar, 'f', "dir/.wh..wh..opq", NULL);
    tar_add(tar, 'f', "dir/.wh.unseen", NULL);
    tar_add(tar, 'f', "dir/sub/.wh.unseen", NULL);
    tar_add(tar, 'f', "dir/shown", "shown");
    tar_add(tar, 'c', "dir/device", NULL); /* 0:0 */
    tar_add(tar, 'c', "device", NULL);
    tar_add(tar, 'f', ".wh.replaced", NULL);
    tar_add(tar, 'f', "replaced/new", "new");
    tar_add(tar, 'f', "both", "both");
    tar_add(tar, 'f', ".wh.both", NULL);
    tar_add(tar, 'd', "late", NULL);
    tar_add(tar, 'f', "late/kept", "kept");
    tar_add(tar, 'f', ".wh.late", NULL);
    tar_add(tar, 'f', ".wh.file", NULL);
    tar_add(tar, 'f', "file", "file");
    tar_add(tar, 'f', ".wh..wh.plnk/1.2", "aufs");
    tar_add(tar, 'f', "sub/.wh.x/y", "a name in the middle is none");
    tar_end(tar);
    struct layer layer = make_layer("w.tar");
    g_autofd int mount = mount_layer("w.tar");
    assert_true(is_whiteout(mount, "gone"));
    assert_true(is_whiteout(mount, "device"));
    assert_true(is_opaque(mount, "dir"));
    assert_int_equal(mode_of(mount, "dir/unseen"), 0);
    assert_int_equal(mode_of(mount, "dir/sub/unseen"), 0);
    assert_int_equal(mode_of(mount, "dir/device"), 0);
    assert_text(mount, "dir/shown", "shown");
    assert_true(is_opaque(mount, "replaced"));
    assert_text(mount, "replaced/new", "new");
    assert_text(mount, "both", "both");
    assert_true(is_opaque(mount, "late"));
    assert_text(mount, "late/kept", "kept");
    assert_text(mount, "file", "file");
    assert_int_equal(mode_of(mount, ".wh..wh.plnk"), 0);
    assert_text(mount, "sub/.wh.x/y", "a name in the middle is none");
    assert_false(is_opaque(mount, "sub"));
    compare_replay(&layer, mount, false);
    layer_close(&layer);
}

static void assert_tar_refused(const char *name, const char *message)
{
    struct layer layer;
    g_autoptr(GError) error = NULL;
    if (try_layer(name, &layer, &error))
        fail_msg("taken, not refused: %s", message);
    if (!strstr(error->message, message))
        fail_msg("\"%s\" instead of \"%s\"", error->message, message);
    layer_close(&layer);
}

static void hostile_entries_are_refused(void **state)
{
    g_autofree char *long_name = g_strnfill(256, 'n'), *long_target = g_strnfill(4096, 't');
    const struct {
        char type;
        const char *path, *text, *message;
    } table[] = {
        { 'f', ".wh.", NULL, "invalid whiteout entry \".wh.\"" },
        { 'f', "dir/.wh..", NULL, "invalid whiteout entry \"dir/.wh..\"" },
        { 'f', ".wh...", NULL, "invalid whiteout entry \".wh...\"" },
        { 'f', "first/below", "x", "\"first\" is not a directory" },
        { 'h', "x", "dir", "hard link \"x\" to a directory" },
        { 'f', long_name, "x", "is too long" },
        { 'l', "x", long_target, "the link target of \"x\" is too long" },
        { 'f', "loop/x", "x", "\"loop\" is not a directory" },
        { 'f', "", "x", "the root of the layer is not a directory" },
        { 'h', "", "first", "hard link \"\" to a directory" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        struct tar_file *tar = tar_begin("h.tar");
        tar_add(tar, 'd', "dir", NULL);
        tar_add(tar, 'f', "first", "x");
        tar_add(tar, 'l', "loop", "./loop");
        tar_add(tar, table[i].type, table[i].path, table[i].text);
        tar_end(tar);
        assert_tar_refused("h.tar", table[i].message);
    }
}

static void attributes_that_are_commands_are_dropped(void **state)
{
    struct tar_file *tar = tar_begin("x.tar");
    struct tar_entry dir = { .path = (char *)"dir", .mode = S_IFDIR | 0755 };
    tar_entry_set_xattr(&dir, "trusted.overlay.redirect", "/etc", 4);
    tar_entry_set_xattr(&dir, "trusted.overlay.opaque", "y", 1);
    tar_entry_set_xattr(&dir, "user.overlay.opaque", "y", 1);
    tar_entry_set_xattr(&dir, "user.kept", "k", 1);
    tar_entry_set_xattr(&dir, "com.example.unknown", "k", 1);
    assert_true(tar_writer_entry(tar->writer, &dir, NULL));
    tar_end(tar);
    struct layer layer = make_layer("x.tar");
    g_autofd int mount = mount_layer("x.tar");
    g_autofree char *attributes = attributes_of(mount, "dir");
    assert_string_equal(attributes, "user.kept 6b");
    layer_close(&layer);
    tar = tar_begin("x.tar");
    tar_entry_set_xattr(&dir, "system.posix_acl_access", "\2\0\0\0junk", 8);
    assert_true(tar_writer_entry(tar->writer, &dir, NULL));
    tar_end(tar);
    assert_tar_refused("x.tar", "\"dir\" has a malformed access control list");
    g_ptr_array_unref(dir.xattrs);
}

static void archives_that_end_early(void **state)
{
    /* Docker takes an archive without its end, even without the last file's padding. */
    struct tar_file *tar = tar_begin("cut.tar");
    tar_add(tar, 'f', "a", "content of the file");
    tar_end(tar);
    g_autofree char *path = path_in("cut.tar");
    assert_int_equal(truncate(path, 512 + 19), 0);
    struct layer layer = make_layer("cut.tar");
    g_autofd int mount = mount_layer("cut.tar");
    assert_text(mount, "a", "content of the file");
    layer_close(&layer);
    assert_int_equal(truncate(path, 512 + 18), 0);
    assert_tar_refused("cut.tar", "the archive ends within \"a\"");
    assert_int_equal(truncate(path, 0), 0);
    layer = make_layer("cut.tar");
    assert_int_equal(layer.stats.n_inodes, 1);
    g_autofd int empty = mount_layer("cut.tar");
    assert_int_equal(mode_of(empty, "."), S_IFDIR | 0755);
    layer_close(&layer);
}

/* ---- the checker ---- */
static void changed_indexes_never_crash_the_checker(void **state)
{
    struct layer layer = make_layer("a.tar");
    g_autofree guint8 *bytes = g_malloc(layer.stats.index_bytes);
    gsize size = (gsize)layer.stats.index_bytes;
    assert_int_equal(fd_pread_full(layer.index_fd, bytes, size, 0), size);
    GRand *random = g_rand_new_with_seed(20261124);
    unsigned refused = 0;
    enum { ROUNDS = 1500 };
    for (int i = 0; i < ROUNDS; i++) {
        /* Near the start more often: there every byte counts. */
        gsize at = (gsize)g_rand_int_range(random, 0, (gint32)(i % 3 ? size : 4096));
        guint8 old = bytes[at], new = i % 2 ? (guint8)g_rand_int(random) : (guint8)(old ^ 1 << g_rand_int_range(random, 0, 8));
        assert_int_equal(fd_pwrite_full(layer.index_fd, &new, 1, (off_t)at), 0);
        g_autoptr(GError) error = NULL;
        if (!check_layer(&layer, &error)) {
            refused++;
            assert_true(error_is(error, TARE_ERROR_INVALID));
        }
        assert_int_equal(fd_pwrite_full(layer.index_fd, &old, 1, (off_t)at), 0);
    }
    g_rand_free(random);
    assert_true(check_layer(&layer, NULL));
    assert_true(refused > ROUNDS / 3);
    /* shorter and longer */
    assert_int_equal(ftruncate(layer.index_fd, (off_t)size - 512), 0);
    assert_false(check_layer(&layer, NULL));
    assert_int_equal(ftruncate(layer.index_fd, (off_t)size + 512), 0);
    assert_false(check_layer(&layer, NULL));
    layer_close(&layer);
}

static void change32(const struct layer *layer, guint64 at, guint32 value)
{
    guint8 raw[4];
    put32(raw, value);
    assert_int_equal(fd_pwrite_full(layer->index_fd, raw, 4, (off_t)at), 0);
}

static void circles_and_strange_extents_are_refused(void **state)
{
    struct tar_file *tar = tar_begin("c.tar");
    tar_add(tar, 'd', "a", NULL);
    tar_add(tar, 'd', "a/b", NULL);
    tar_add(tar, 'f', "f", "content");
    tar_end(tar);
    struct {
        const char *what;
        guint64 at;
        guint32 value;
    } changes[] = {
        { "a/b in a becomes the root", 0, 1 },
        { "the file starts beyond the tar", 0, 0 },
        { "the file is longer than the tar", 0, 1 << 20 },
        { "a link count", 0, 2 },
    };
    struct layer layer = make_layer("c.tar");
    g_autoptr(erofs_reader) reader = NULL;
    struct erofs_file root, a, file;
    assert_true(erofs_reader_open(layer.index_fd, &reader, NULL));
    assert_true(erofs_reader_root(reader, &root, NULL));
    assert_int_equal(erofs_reader_lookup(reader, &root, "a", 1, &a, NULL), 1);
    assert_int_equal(erofs_reader_lookup(reader, &root, "f", 1, &file, NULL), 1);
    changes[0].at = (guint64)a.where * 512 + 2 * 12;
    changes[1].at = erofs_inode_offset(reader, file.nid) + 16;
    changes[1].value = erofs_reader_device_block(reader, 0) + (guint32)(layer.device.tar_bytes / 512);
    changes[2].at = erofs_inode_offset(reader, file.nid) + 8;
    changes[3].at = erofs_inode_offset(reader, file.nid) + 44;
    layer_close(&layer);
    for (size_t i = 0; i < G_N_ELEMENTS(changes); i++) {
        layer = make_layer("c.tar");
        change32(&layer, changes[i].at, changes[i].value);
        if (check_layer(&layer, NULL))
            fail_msg("not noticed: %s", changes[i].what);
        layer_close(&layer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_is_what_gnu_tar_extracts),
        cmocka_unit_test(older_formats_too),
        cmocka_unit_test(deep_paths),
        cmocka_unit_test(sparse_files_have_holes),
        cmocka_unit_test(archives_made_by_python),
        cmocka_unit_test(every_cut_gives_an_error_or_a_good_index),
        cmocka_unit_test(later_entries_replace_earlier_ones),
        cmocka_unit_test(whiteouts),
        cmocka_unit_test(hostile_entries_are_refused),
        cmocka_unit_test(attributes_that_are_commands_are_dropped),
        cmocka_unit_test(archives_that_end_early),
        cmocka_unit_test(changed_indexes_never_crash_the_checker),
        cmocka_unit_test(circles_and_strange_extents_are_refused),
    };
    return cmocka_run_group_tests(tests, make_temporary, remove_temporary);
}
