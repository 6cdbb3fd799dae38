#include "layer_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

static char *temporary;

void shell(const char *script)
{
    g_autofree char *command = g_strdup_printf("cd %s && umask 022 && %s", temporary, script);
    char *argv[] = { (char *)"/bin/sh", (char *)"-ec", command, NULL };
    int status;
    assert_true(g_spawn_sync(NULL, argv, NULL, 0, NULL, NULL, NULL, NULL, &status, NULL));
    if (status != 0)
        fail_msg("failed: %s", script);
}

char *path_in(const char *name)
{
    return g_build_filename(temporary, name, NULL);
}

int make_temporary(void **state)
{
    temporary = g_dir_make_tmp("tare-erofs-XXXXXX", NULL);
    return temporary ? 0 : -1;
}

int remove_temporary(void **state)
{
    g_autoptr(GError) error = NULL;
    if (!dir_remove_tree(AT_FDCWD, temporary, &error))
        print_error("%s\n", error->message);
    g_free(temporary);
    return error ? -1 : 0;
}

/* ---- index, check, mount ---- */

void layer_close(struct layer *layer)
{
    fd_clear(&layer->tar_fd);
    fd_clear(&layer->index_fd);
    g_clear_pointer(&layer->facts, layer_facts_free);
}

bool check_layer(const struct layer *layer, GError **error)
{
    struct erofs_check_options options = { .id = layer->device.diff_id, .devices = &layer->device, .n_devices = 1 };
    return erofs_check(layer->index_fd, &options, error);
}

bool try_layer(const char *tar, struct layer *ret, GError **error)
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
    if (!check_layer(ret, &bad))
        fail_msg("%s: %s", tar, bad->message);
    return true;
}

struct layer make_layer(const char *tar)
{
    struct layer layer;
    g_autoptr(GError) error = NULL;
    if (!try_layer(tar, &layer, &error))
        fail_msg("%s: %s", tar, error->message);
    return layer;
}

int mount_index(const char *index, const char *const *tars)
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

int mount_layer(const char *tar)
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

char *attributes_of(int dirfd, const char *name)
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

guint compare_trees(int a, int b, bool ignore_holes)
{
    struct comparison comparison = { .path = g_string_new(NULL), .ignore_holes = ignore_holes };
    compare_entry(&comparison, a, b, ".");
    g_string_free(comparison.path, TRUE);
    return comparison.n_entries;
}

int open_dir(const char *name)
{
    g_autofree char *path = path_in(name);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

void compare_replay(const struct layer *layer, int other, bool ignore_holes)
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
guint compare_with_gnu_tar(const char *tar, bool ignore_holes)
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

/* ---- tars of our own writing ---- */

struct tar_file *tar_begin(const char *name)
{
    struct tar_file *tar = g_new0(struct tar_file, 1);
    g_autofree char *path = path_in(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    fd_sink_init(&tar->sink, fd, "tar");
    tar->writer = tar_writer_new(&tar->sink.sink);
    return tar;
}

void tar_end(struct tar_file *tar)
{
    assert_true(tar_writer_finish(tar->writer, NULL));
    tar_writer_free(tar->writer);
    close(tar->sink.fd);
    g_free(tar);
}

/* A file whose content is its text, a directory (0750), or with a target a link. */
void tar_add(struct tar_file *tar, char type, const char *path, const char *text)
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

/* ---- what a mount shows ---- */
static char *read_text(int dir, const char *path)
{
    char *content = NULL;
    gsize length;
    g_autoptr(GError) error = NULL;
    if (!file_read(dir, path, 100, &content, &length, &error))
        return g_strdup(error->message);
    return content;
}

void assert_text(int dir, const char *path, const char *expected)
{
    g_autofree char *text = read_text(dir, path);
    if (strcmp(text, expected) != 0)
        fail_msg("%s: \"%s\" instead of \"%s\"", path, text, expected);
}

mode_t mode_of(int dir, const char *path)
{
    struct stat status;
    return fstatat(dir, path, &status, AT_SYMLINK_NOFOLLOW) == 0 ? status.st_mode : 0;
}

bool is_whiteout(int dir, const char *path)
{
    struct stat status;
    return fstatat(dir, path, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == 0;
}

bool is_opaque(int dir, const char *path)
{
    char value[2];
    g_autofree char *whole = g_strdup_printf("/proc/self/fd/%d/%s", dir, path);
    return lgetxattr(whole, "trusted.overlay.opaque", value, sizeof value) == 1 && value[0] == 'y';
}
