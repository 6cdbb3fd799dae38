#include "store_fixture.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/spawn.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- a place for each test ---- */

guint count_fds(void)
{
    guint n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

void open_store(struct place *place, const struct layer_store_options *options)
{
    struct layer_store_options with_program = options ? *options : (struct layer_store_options){ 0 };
    g_autoptr(GError) error = NULL;
    if (!with_program.ingest_program)
        with_program.ingest_program = TARE_INGEST;
    if (!layer_store_open(place->root, &with_program, &place->store, &error))
        fail_msg("%s", error->message);
}

int set_up(void **state)
{
    struct place *place = g_new0(struct place, 1);
    place->n_fds = count_fds();
    place->directory = g_strdup("/tmp/tare-test-XXXXXX");
    if (!g_mkdtemp(place->directory))
        return -1;
    place->root = g_build_filename(place->directory, "root", NULL);
    *state = place;
    return 0;
}

/* Whatever a test did: no process, no fd, no temporary file may be left. */
int tear_down(void **state)
{
    struct place *place = *state;
    layer_store_close(place->store);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_int_equal(count_fds(), place->n_fds);
    assert_true(dir_remove_tree(AT_FDCWD, place->directory, NULL));
    g_free(place->root);
    g_free(place->directory);
    g_free(place);
    return 0;
}

void shell(const struct place *place, const char *script)
{
    g_autofree char *whole = g_strdup_printf("set -eu; umask 022; cd '%s'\n%s", place->directory, script);
    const char *const argv[] = { "/bin/bash", "-c", whole, NULL };
    struct spawn_fd errors = { STDERR_FILENO, STDERR_FILENO };
    g_autoptr(GError) error = NULL;
    pid_t pid = spawn_program(&(struct spawn_options){ .argv = argv, .fds = &errors, .n_fds = 1 }, &error);
    assert_true(pid > 0);
    assert_int_equal(spawn_wait(pid), 0);
}

guint count_files(const struct place *place, const char *below)
{
    g_autofree char *path = g_build_filename(place->root, below, NULL);
    guint n = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return n;
}

/* ---- ingesting ---- */

bool ingest_with(struct place *place, const char *name, struct layer_ingest_options *options, struct layer_info *info,
                 GError **error)
{
    g_autofree char *path = g_build_filename(place->directory, name, NULL);
    g_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct fd_source source;
    assert_true(fd >= 0);
    fd_source_init(&source, fd, name);
    return layer_store_ingest(place->store, &source.source, options, info, error);
}

struct layer_info ingest(struct place *place, const char *name)
{
    struct layer_info info;
    struct layer_ingest_options options = { .name = name };
    g_autoptr(GError) error = NULL;
    if (!ingest_with(place, name, &options, &info, &error))
        fail_msg("%s", error->message);
    return info;
}

void digest_file(const struct place *place, const char *name, char ret[DIGEST_ROOM])
{
    g_autofree char *path = g_build_filename(place->directory, name, NULL);
    g_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(digest_of_fd(fd, ret, NULL));
}

void assert_ingest_fails(struct place *place, const char *name, struct layer_ingest_options options, enum tare_error code,
                         const char *message)
{
    struct layer_info info;
    g_autoptr(GError) error = NULL;
    options.name = options.name ? options.name : "layer X";
    guint n_files = count_files(place, "layers/sha256");
    assert_false(ingest_with(place, name, &options, &info, &error));
    if (message)
        assert_string_equal(error->message, message);
    assert_int_equal(error->code, code);
    assert_int_equal(count_files(place, "layers/sha256"), n_files);
}

/* ---- trees as text ---- */

static gint compare_strings(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void describe_xattrs(GString *out, const char *path)
{
    char names[4096], value[4096];
    ssize_t n = llistxattr(path, names, sizeof names);
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    for (const char *name = names; name < names + MAX(n, 0); name += strlen(name) + 1)
        if (!g_str_has_prefix(name, "trusted.overlay."))
            g_ptr_array_add(sorted, (gpointer)name);
    g_ptr_array_sort(sorted, compare_strings);
    for (guint i = 0; i < sorted->len; i++) {
        ssize_t length = lgetxattr(path, sorted->pdata[i], value, sizeof value);
        g_autofree char *digest = g_compute_checksum_for_data(G_CHECKSUM_MD5, (guchar *)value, (gsize)MAX(length, 0));
        g_string_append_printf(out, " %s=%s", (char *)sorted->pdata[i], digest);
    }
}

static void describe(GString *out, const char *path, const char *name)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    g_string_append_printf(out, "/%s %o %u:%u", name, st.st_mode, st.st_uid, st.st_gid);
    if (!S_ISDIR(st.st_mode))
        g_string_append_printf(out, " links=%lu size=%ld", (unsigned long)st.st_nlink, (long)st.st_size);
    if (name[0])
        g_string_append_printf(out, " mtime=%ld", (long)st.st_mtim.tv_sec);
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
        g_string_append_printf(out, " device=%u:%u", major(st.st_rdev), minor(st.st_rdev));
    describe_xattrs(out, path);
    g_autofree char *content = NULL;
    gsize length = 0;
    if (S_ISLNK(st.st_mode)) {
        content = g_file_read_link(path, NULL);
        g_string_append_printf(out, " -> %s", content);
    } else if (S_ISREG(st.st_mode)) {
        assert_true(g_file_get_contents(path, &content, &length, NULL));
        g_autofree char *digest = g_compute_checksum_for_data(G_CHECKSUM_MD5, (guchar *)content, length);
        g_string_append_printf(out, " %s", digest);
    }
    g_string_append_c(out, '\n');
    if (!S_ISDIR(st.st_mode))
        return;
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            g_ptr_array_add(names, g_strdup(entry->d_name));
    closedir(dir);
    g_ptr_array_sort(names, compare_strings);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *below = g_build_filename(path, names->pdata[i], NULL);
        g_autofree char *called = g_build_filename(name[0] ? name : "", names->pdata[i], NULL);
        describe(out, below, called);
    }
}

char *describe_fd(int fd)
{
    GString *out = g_string_new(NULL);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *here = g_strconcat(path, "/.", NULL);
    describe(out, here, "");
    return g_string_free(out, FALSE);
}

char *describe_path(const struct place *place, const char *name)
{
    g_autofree char *path = g_build_filename(place->directory, name, NULL);
    g_autofd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return describe_fd(fd);
}

char *describe_chain(struct place *place, const char *const *diff_ids)
{
    struct layer_stack *stack = NULL;
    g_autoptr(GError) error = NULL;
    if (!layer_chain_prepare(place->store, diff_ids, &error) || !layer_stack_acquire(place->store, diff_ids, &stack, &error))
        fail_msg("%s", error->message);
    int mount = layer_stack_mount(stack, &error);
    if (mount < 0)
        fail_msg("%s", error->message);
    char *text = describe_fd(mount);
    fd_close(mount);
    layer_stack_release(stack);
    return text;
}

void assert_chain_is(struct place *place, const char *const *diff_ids, const char *directory)
{
    g_autofree char *is = describe_chain(place, diff_ids);
    g_autofree char *should = describe_path(place, directory);
    assert_string_equal(is, should);
}

bool own_mounts(const char *program)
{
    if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
        return true;
    fprintf(stderr, "%s needs root: %s\n", program, strerror(errno));
    return false;
}
