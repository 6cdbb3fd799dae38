#include "base/fd.h"
#include "base/file.h"
#include "layer/erofs-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

static char *temporary;

static void shell(const char *script)
{
    g_autofree char *command = g_strdup_printf("cd %s && umask 022 && %s", temporary, script);
    char *argv[] = { (char *)"/bin/sh", (char *)"-ec", command, NULL };
    int status;
    assert_true(g_spawn_sync(NULL, argv, NULL, 0, NULL, NULL, NULL, NULL, &status, NULL));
    if (status != 0)
        fail_msg("failed: %s", script);
}

static char *path_in(const char *name)
{
    return g_build_filename(temporary, name, NULL);
}

static int make_temporary(void **state)
{
    temporary = g_dir_make_tmp("tare-erofs-XXXXXX", NULL);
    return temporary ? 0 : -1;
}

static int remove_temporary(void **state)
{
    g_autoptr(GError) error = NULL;
    if (!dir_remove_tree(AT_FDCWD, temporary, &error))
        print_error("%s\n", error->message);
    g_free(temporary);
    return error ? -1 : 0;
}

/* ---- index, check, mount ---- */
struct layer {
    int tar_fd, index_fd;
    struct erofs_device device;
    struct layer_facts *facts;
    struct erofs_stats stats;
};

static void layer_close(struct layer *layer)
{
    fd_clear(&layer->tar_fd);
    fd_clear(&layer->index_fd);
    g_clear_pointer(&layer->facts, layer_facts_free);
}

static bool check(const struct layer *layer, GError **error)
{
    struct erofs_check_options options = { .id = layer->device.diff_id, .devices = &layer->device, .n_devices = 1 };
    return erofs_check(layer->index_fd, &options, error);
}

static bool try_layer(const char *tar, struct layer *ret, GError **error)
{
    g_autofree char *path = path_in(tar), *index = g_strconcat(path, ".erofs", NULL);
    *ret = (struct layer){ .tar_fd = open(path, O_RDONLY | O_CLOEXEC),
                           .index_fd = open(index, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) };
    assert_true(ret->tar_fd >= 0 && ret->index_fd >= 0);
    assert_true(digest_of_fd(ret->tar_fd, ret->device.diff_id, NULL));
    ret->device.tar_bytes = (guint64)lseek(ret->tar_fd, 0, SEEK_END);
    struct erofs_builder_options options = { .diff_id = ret->device.diff_id, .tar_bytes = ret->device.tar_bytes };
    struct fd_sink sink;
    fd_sink_init(&sink, ret->index_fd, "index");
    if (!erofs_index_tar(ret->tar_fd, &options, &sink.sink, &ret->facts, &ret->stats, error))
        return false;
    assert_int_equal(lseek(ret->index_fd, 0, SEEK_END), ret->stats.index_bytes);
    g_autoptr(GError) bad = NULL;
    if (!check(ret, &bad))
        fail_msg("%s: %s", tar, bad->message);
    return true;
}

static struct layer make_layer(const char *tar)
{
    struct layer layer;
    g_autoptr(GError) error = NULL;
    if (!try_layer(tar, &layer, &error))
        fail_msg("%s: %s", tar, error->message);
    return layer;
}

static int mount_index(const char *index, const char *const *tars)
{
    int fs = (int)syscall(SYS_fsopen, "erofs", FSOPEN_CLOEXEC);
    assert_true(fs >= 0);
    assert_int_equal(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", index, 0), 0);
    for (; *tars; tars++)
        assert_int_equal(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "device", *tars, 0), 0);
    assert_int_equal(syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "ro", NULL, 0), 0);
    if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) != 0)
        fail_msg("cannot mount %s: %s", index, strerror(errno));
    int mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
    assert_true(mount >= 0);
    close(fs);
    return mount;
}

static int mount_layer(const char *tar)
{
    g_autofree char *path = path_in(tar), *index = g_strconcat(path, ".erofs", NULL);
    const char *tars[] = { path, NULL };
    return mount_index(index, tars);
}

/* ---- comparing trees, entry by entry ---- */
struct comparison {
    GString *path;
    bool ignore_holes;
    guint n_entries;
};

static int by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static char *attributes_of(int dirfd, const char *name)
{
    /* By the parent's path: there is no lgetxattrat. */
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/%s", dirfd, name);
    char list[8192];
    ssize_t length = llistxattr(path, list, sizeof list);
    assert_true(length >= 0 || errno == EOPNOTSUPP);
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    for (char *at = list; length > 0 && at < list + length; at += strlen(at) + 1) {
        g_autofree char *value = g_malloc(65536);
        ssize_t size = lgetxattr(path, at, value, 65536);
        assert_true(size >= 0);
        GString *line = g_string_new(at);
        for (ssize_t i = 0; i < size; i++)
            g_string_append_printf(line, " %02x", (guint8)value[i]);
        g_ptr_array_add(lines, g_string_free(line, FALSE));
    }
    g_ptr_array_sort(lines, by_text);
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

static char *holes_of(int fd)
{
    GString *text = g_string_new(NULL);
    off_t end = lseek(fd, 0, SEEK_END);
    for (off_t at = 0; at < end;) {
        off_t data = lseek(fd, at, SEEK_DATA);
        if (data < 0)
            break;
        at = lseek(fd, data, SEEK_HOLE);
        g_string_append_printf(text, "[%jd,%jd)", (intmax_t)data, (intmax_t)at);
    }
    return g_string_free(text, FALSE);
}

static void compare_contents(struct comparison *comparison, int a_dir, int b_dir, const char *name)
{
    g_autofd int a = openat(a_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC),
                 b = openat(b_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    assert_true(a >= 0 && b >= 0);
    g_autofree char *a_holes = holes_of(a), *b_holes = holes_of(b);
    if (!comparison->ignore_holes && strcmp(a_holes, b_holes) != 0)
        fail_msg("%s: data %s instead of %s", comparison->path->str, a_holes, b_holes);
    g_autofree char *x = g_malloc(1 << 16), *y = g_malloc(1 << 16);
    for (off_t at = 0;; at += 1 << 16) {
        /* Holes read as zeros: of a huge file only the data is compared. */
        off_t data = lseek(b, at, SEEK_DATA);
        if (data < 0)
            break;
        at = data & ~(off_t)0xffff;
        ssize_t n = fd_pread_full(a, x, 1 << 16, at), m = fd_pread_full(b, y, 1 << 16, at);
        assert_int_equal(n, m);
        if (n <= 0)
            break;
        if (memcmp(x, y, (size_t)n) != 0)
            fail_msg("%s differs after %jd", comparison->path->str, (intmax_t)at);
    }
}

static int not_dots(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static char *describe(const struct stat *status)
{
    return g_strdup_printf("mode %o owner %u:%u size %jd mtime %jd.%09ld links %ju device %jx", status->st_mode, status->st_uid,
                           status->st_gid, S_ISDIR(status->st_mode) ? 0 : (intmax_t)status->st_size,
                           (intmax_t)status->st_mtim.tv_sec, status->st_mtim.tv_nsec, (uintmax_t)status->st_nlink,
                           (uintmax_t)status->st_rdev);
}

static void compare_entry(struct comparison *comparison, int a_dir, int b_dir, const char *name);

static void compare_directories(struct comparison *comparison, int a, int b)
{
    struct dirent **names, **others;
    int n = scandirat(a, ".", &names, not_dots, by_bytes), m = scandirat(b, ".", &others, not_dots, by_bytes);
    assert_true(n >= 0 && m >= 0);
    for (int i = 0; i < MAX(n, m); i++) {
        if (i >= n || i >= m || strcmp(names[i]->d_name, others[i]->d_name) != 0)
            fail_msg("%s: \"%s\" instead of \"%s\"", comparison->path->str, i < n ? names[i]->d_name : "",
                     i < m ? others[i]->d_name : "");
        assert_int_equal(names[i]->d_type, others[i]->d_type);
        gsize length = comparison->path->len;
        g_string_append_printf(comparison->path, "/%s", names[i]->d_name);
        compare_entry(comparison, a, b, names[i]->d_name);
        g_string_truncate(comparison->path, length);
        free(names[i]);
        free(others[i]);
    }
    free(names);
    free(others);
}

static void compare_entry(struct comparison *comparison, int a_dir, int b_dir, const char *name)
{
    struct stat x, y;
    assert_int_equal(fstatat(a_dir, name, &x, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(fstatat(b_dir, name, &y, AT_SYMLINK_NOFOLLOW), 0);
    g_autofree char *a_text = describe(&x), *b_text = describe(&y);
    if (strcmp(a_text, b_text) != 0)
        fail_msg("%s: %s\ninstead of %s", comparison->path->str, a_text, b_text);
    g_autofree char *a_attributes = attributes_of(a_dir, name), *b_attributes = attributes_of(b_dir, name);
    if (strcmp(a_attributes, b_attributes) != 0)
        fail_msg("%s: attributes\n%s\ninstead of\n%s", comparison->path->str, a_attributes, b_attributes);
    comparison->n_entries++;
    if (S_ISDIR(x.st_mode)) {
        g_autofd int a = openat(a_dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                     b = openat(b_dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(a >= 0 && b >= 0);
        compare_directories(comparison, a, b);
    } else if (S_ISREG(x.st_mode)) {
        compare_contents(comparison, a_dir, b_dir, name);
    } else if (S_ISLNK(x.st_mode)) {
        char a_target[4097] = { 0 }, b_target[4097] = { 0 };
        assert_true(readlinkat(a_dir, name, a_target, 4096) > 0 && readlinkat(b_dir, name, b_target, 4096) > 0);
        assert_string_equal(a_target, b_target);
    }
}

static guint compare_trees(int a, int b, bool ignore_holes)
{
    struct comparison comparison = { .path = g_string_new(NULL), .ignore_holes = ignore_holes };
    compare_entry(&comparison, a, b, ".");
    g_string_free(comparison.path, TRUE);
    return comparison.n_entries;
}

static int open_dir(const char *name)
{
    g_autofree char *path = path_in(name);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void compare_replay(const struct layer *layer, int other, bool ignore_holes)
{
    g_autoptr(erofs_reader) reader = NULL;
    g_autoptr(GError) error = NULL;
    shell("rm -rf r; mkdir r");
    g_autofd int dir = open_dir("r");
    assert_true(erofs_reader_open(layer->index_fd, &reader, NULL));
    if (!erofs_replay(reader, &layer->tar_fd, dir, &error))
        fail_msg("replay: %s", error->message);
    compare_trees(dir, other, ignore_holes);
}

/* Mounts the tar's index, untars the tar by GNU tar, and compares. */
static guint compare_with_gnu_tar(const char *tar, bool ignore_holes)
{
    struct layer layer = make_layer(tar);
    g_autofree char *untar =
        g_strdup_printf("rm -rf x; mkdir x; tar -xpf %s -C x --numeric-owner --xattrs --xattrs-include='*' --same-owner", tar);
    shell(untar);
    g_autofd int mount = mount_layer(tar), extracted = open_dir("x");
    guint n = compare_trees(mount, extracted, ignore_holes);
    assert_true(n >= layer.stats.n_inodes);
    compare_replay(&layer, extracted, ignore_holes);
    layer_close(&layer);
    return n;
}

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

/* ---- tars of our own writing ---- */
struct tar_file {
    struct fd_sink sink;
    struct tar_writer *writer;
};

static struct tar_file *tar_begin(const char *name)
{
    struct tar_file *tar = g_new0(struct tar_file, 1);
    g_autofree char *path = path_in(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    fd_sink_init(&tar->sink, fd, "tar");
    tar->writer = tar_writer_new(&tar->sink.sink);
    return tar;
}

static void tar_end(struct tar_file *tar)
{
    assert_true(tar_writer_finish(tar->writer, NULL));
    tar_writer_free(tar->writer);
    close(tar->sink.fd);
    g_free(tar);
}

/* A file whose content is its text, a directory (0750), or with a target a link. */
static void tar_add(struct tar_file *tar, char type, const char *path, const char *text)
{
    struct tar_entry entry = { .path = (char *)path, .mode = 0640, .uid = 3, .gid = 4, .mtime = 1700000000 };
    entry.mode |= type == 'd' ? S_IFDIR | 0110 : type == 'l' ? S_IFLNK : type == 'c' ? S_IFCHR : S_IFREG;
    entry.is_hard_link = type == 'h';
    if (type == 'l' || type == 'h')
        entry.link = (char *)text;
    else if (text)
        entry.size = entry.stored_size = strlen(text);
    assert_true(tar_writer_entry(tar->writer, &entry, NULL));
    if (entry.size > 0)
        assert_true(tar_writer_data(tar->writer, text, entry.size, NULL));
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
static char *read_text(int dir, const char *path)
{
    char *content = NULL;
    gsize length;
    g_autoptr(GError) error = NULL;
    if (!file_read(dir, path, 100, &content, &length, &error))
        return g_strdup(error->message);
    return content;
}

static void assert_text(int dir, const char *path, const char *expected)
{
    g_autofree char *text = read_text(dir, path);
    if (strcmp(text, expected) != 0)
        fail_msg("%s: \"%s\" instead of \"%s\"", path, text, expected);
}

static mode_t mode_of(int dir, const char *path)
{
    struct stat status;
    return fstatat(dir, path, &status, AT_SYMLINK_NOFOLLOW) == 0 ? status.st_mode : 0;
}

static bool is_whiteout(int dir, const char *path)
{
    struct stat status;
    return fstatat(dir, path, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == 0;
}

static bool is_opaque(int dir, const char *path)
{
    char value[2];
    g_autofree char *whole = g_strdup_printf("/proc/self/fd/%d/%s", dir, path);
    return lgetxattr(whole, "trusted.overlay.opaque", value, sizeof value) == 1 && value[0] == 'y';
}

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

/* ---- chains ---- */
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
        if (!check(&layer, &error)) {
            refused++;
            assert_true(error_is(error, TARE_ERROR_INVALID));
        }
        assert_int_equal(fd_pwrite_full(layer.index_fd, &old, 1, (off_t)at), 0);
    }
    g_rand_free(random);
    assert_true(check(&layer, NULL));
    assert_true(refused > ROUNDS / 3);
    /* shorter and longer */
    assert_int_equal(ftruncate(layer.index_fd, (off_t)size - 512), 0);
    assert_false(check(&layer, NULL));
    assert_int_equal(ftruncate(layer.index_fd, (off_t)size + 512), 0);
    assert_false(check(&layer, NULL));
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
        if (check(&layer, NULL))
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
        cmocka_unit_test(later_entries_replace_earlier_ones),
        cmocka_unit_test(whiteouts),
        cmocka_unit_test(hostile_entries_are_refused),
        cmocka_unit_test(attributes_that_are_commands_are_dropped),
        cmocka_unit_test(archives_that_end_early),
        cmocka_unit_test(one_layer_under_two_bases),
        cmocka_unit_test(nothing_differs_nothing_is_made),
        cmocka_unit_test(facts_that_upper_layers_overrule),
        cmocka_unit_test(hard_links_to_lower_layers),
        cmocka_unit_test(facts_survive_their_file),
        cmocka_unit_test(changed_indexes_never_crash_the_checker),
        cmocka_unit_test(circles_and_strange_extents_are_refused),
    };
    return cmocka_run_group_tests(tests, make_temporary, remove_temporary);
}
