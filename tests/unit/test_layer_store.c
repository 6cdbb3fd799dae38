/* The layer store as its users see it. Needs root: layers are mounted. Runs in a mount namespace of its own. */
#include "base/digest.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/spawn.h"
#include "layer/mounts.h"

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

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* ---- a place for each test ---- */

struct place {
    char *directory, *root;
    struct layer_store *store;
    guint n_fds; /* before the store was opened */
};

static guint count_fds(void)
{
    guint n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void open_store(struct place *place, const struct layer_store_options *options)
{
    struct layer_store_options with_program = options ? *options : (struct layer_store_options){ 0 };
    g_autoptr(GError) error = NULL;
    if (!with_program.ingest_program)
        with_program.ingest_program = TARE_INGEST;
    if (!layer_store_open(place->root, &with_program, &place->store, &error))
        fail_msg("%s", error->message);
}

static int set_up(void **state)
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
static int tear_down(void **state)
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

static void shell(const struct place *place, const char *script)
{
    g_autofree char *whole = g_strdup_printf("set -eu; umask 022; cd '%s'\n%s", place->directory, script);
    const char *const argv[] = { "/bin/bash", "-c", whole, NULL };
    struct spawn_fd errors = { STDERR_FILENO, STDERR_FILENO };
    g_autoptr(GError) error = NULL;
    pid_t pid = spawn_program(&(struct spawn_options){ .argv = argv, .fds = &errors, .n_fds = 1 }, &error);
    assert_true(pid > 0);
    assert_int_equal(spawn_wait(pid), 0);
}

static guint count_files(const struct place *place, const char *below)
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

static bool ingest_with(struct place *place, const char *name, struct layer_ingest_options *options, struct layer_info *info,
                        GError **error)
{
    g_autofree char *path = g_build_filename(place->directory, name, NULL);
    g_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct fd_source source;
    assert_true(fd >= 0);
    fd_source_init(&source, fd, name);
    return layer_store_ingest(place->store, &source.source, options, info, error);
}

static struct layer_info ingest(struct place *place, const char *name)
{
    struct layer_info info;
    struct layer_ingest_options options = { .name = name };
    g_autoptr(GError) error = NULL;
    if (!ingest_with(place, name, &options, &info, &error))
        fail_msg("%s", error->message);
    return info;
}

static void digest_file(const struct place *place, const char *name, char ret[DIGEST_ROOM])
{
    g_autofree char *path = g_build_filename(place->directory, name, NULL);
    g_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(digest_of_fd(fd, ret, NULL));
}

static void assert_ingest_fails(struct place *place, const char *name, struct layer_ingest_options options, enum tare_error code,
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

static char *describe_fd(int fd)
{
    GString *out = g_string_new(NULL);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *here = g_strconcat(path, "/.", NULL);
    describe(out, here, "");
    return g_string_free(out, FALSE);
}

static char *describe_path(const struct place *place, const char *name)
{
    g_autofree char *path = g_build_filename(place->directory, name, NULL);
    g_autofd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return describe_fd(fd);
}

static char *describe_chain(struct place *place, const char *const *diff_ids)
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

static void assert_chain_is(struct place *place, const char *const *diff_ids, const char *directory)
{
    g_autofree char *is = describe_chain(place, diff_ids);
    g_autofree char *should = describe_path(place, directory);
    assert_string_equal(is, should);
}

/* ---- ingest ---- */

#define MAKE_BASE                                                                                                               \
    "mkdir -p base/etc base/usr/bin base/var/deep/er base/gone\n"                                                               \
    "echo root:x:0:0 > base/etc/passwd; chmod 640 base/etc/passwd; chown 7:8 base/etc/passwd\n"                                 \
    "head -c 100000 /dev/urandom > base/usr/bin/tool; chmod 4755 base/usr/bin/tool; ln base/usr/bin/tool base/usr/bin/same\n"   \
    "ln -s ../usr/bin/tool base/etc/link; mkfifo base/var/pipe; mknod base/var/null c 1 3; mknod base/var/disk b 259 300\n"     \
    "echo x > base/gone/file; echo y > base/var/deep/er/file; : > base/empty; setfattr -n user.note -v hello base/etc/passwd\n" \
    "setcap cap_net_raw=ep base/usr/bin/tool; chmod 1777 base/var/deep; touch -d @1000000000 base/empty\n"                      \
    "T='tar --xattrs --xattrs-include=* --format=posix --pax-option=delete=atime,delete=ctime'; $T -C base -cf base.tar .\n"

static void test_ingest_keeps_the_tar(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, MAKE_BASE "gzip -k base.tar; zstd -q -k base.tar; xz -k -0 base.tar; bzip2 -k base.tar");
    char digest[DIGEST_ROOM], of_copy[DIGEST_ROOM], of_blob[DIGEST_ROOM];
    digest_file(place, "base.tar", digest);
    struct layer_info first = ingest(place, "base.tar");
    assert_string_equal(first.diff_id, digest);
    assert_true(first.tar_bytes > 100000 && first.index_bytes > 4096 && first.index_bytes < 20000);
    assert_int_equal(first.content_bytes, 100000 + 11 + 2 + 2);
    g_autofd int tar = layer_store_open_tar(place->store, digest, NULL);
    assert_true(tar >= 0 && digest_of_fd(tar, of_copy, NULL));
    assert_string_equal(of_copy, digest);

    static const char *const packed[] = { "base.tar.gz", "base.tar.zst", "base.tar.xz", "base.tar.bz2" };
    for (size_t i = 0; i < G_N_ELEMENTS(packed); i++) {
        struct layer_info again;
        g_autoptr(GError) error = NULL;
        digest_file(place, packed[i], of_blob);
        assert_true(layer_store_remove(place->store, digest, NULL));
        assert_false(layer_store_has(place->store, digest));
        struct layer_ingest_options options = { .name = packed[i], .expected_blob = of_blob, .expected_diff_id = digest };
        if (!ingest_with(place, packed[i], &options, &again, &error))
            fail_msg("%s", error->message);
        assert_memory_equal(&again, &first, sizeof first);
    }
    g_auto(GStrv) list = layer_store_list(place->store, NULL);
    assert_int_equal(g_strv_length(list), 1);
    assert_string_equal(list[0], digest);
    assert_true(layer_store_verify(place->store, digest, NULL));
    assert_true(layer_store_make_durable(place->store, digest, NULL));
}

static void test_everything_is_private(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, MAKE_BASE);
    ingest(place, "base.tar");
    shell(place, "test -z \"$(find root -type d ! -perm 700)\"; test -z \"$(find root -type f ! -perm 600)\"");
}

static void test_bad_input_leaves_nothing(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, MAKE_BASE
          "gzip -k base.tar; head -c 50000 base.tar.gz > cut.gz; cp base.tar.gz flipped.gz\n"
          "printf XXXX | dd of=flipped.gz bs=1 seek=60000 conv=notrunc status=none\n"
          "head -c 50000 base.tar > cut.tar; head -c 5000 /dev/urandom > noise; head -c 50000000 /dev/zero | gzip > bomb.gz\n"
          "cat base.tar.gz noise > trailing.gz");
    char digest[DIGEST_ROOM];
    digest_file(place, "base.tar", digest);
    struct layer_ingest_options none = { 0 };
    assert_ingest_fails(place, "cut.gz", none, TARE_ERROR_INVALID, "layer X: unexpected end of gzip stream");
    assert_ingest_fails(place, "flipped.gz", none, TARE_ERROR_INVALID, NULL);
    assert_ingest_fails(place, "trailing.gz", none, TARE_ERROR_INVALID,
                        "layer X: unexpected data after the end of the gzip stream");
    assert_ingest_fails(place, "cut.tar", none, TARE_ERROR_INVALID, NULL);
    assert_ingest_fails(place, "noise", none, TARE_ERROR_INVALID, NULL);
    struct layer_ingest_options small = { .max_bytes = 1 << 20 };
    assert_ingest_fails(place, "bomb.gz", small, TARE_ERROR_TOO_LARGE, "layer X: uncompressed data is larger than 1048576 bytes");
    small.max_bytes = 1000;
    assert_ingest_fails(place, "base.tar", small, TARE_ERROR_TOO_LARGE, "layer X: uncompressed data is larger than 1000 bytes");
    struct layer_ingest_options wrong = { .expected_diff_id =
                                              "sha256:"
                                              "0000000000000000000000000000000000000000000000000000000000000000" };
    g_autofree char *message =
        g_strdup_printf("layer X: its content has the digest %s and not %s", digest, wrong.expected_diff_id);
    assert_ingest_fails(place, "base.tar.gz", wrong, TARE_ERROR_INVALID, message);
    struct layer_ingest_options wrong_blob = { .expected_blob = wrong.expected_diff_id };
    g_autofree char *blob_message =
        g_strdup_printf("layer X: filesystem layer verification failed for digest %s", wrong.expected_diff_id);
    assert_ingest_fails(place, "base.tar.gz", wrong_blob, TARE_ERROR_INVALID, blob_message);
    assert_ingest_fails(place, "base.tar", wrong_blob, TARE_ERROR_INVALID, blob_message);
}

static gpointer ingest_base(gpointer data)
{
    struct layer_info info = ingest(data, "base.tar.gz");
    return g_strdup(info.diff_id);
}

static void test_same_layer_at_the_same_time(void **state)
{
    struct place *place = *state;
    GThread *threads[8];
    char digest[DIGEST_ROOM];
    open_store(place, NULL);
    shell(place, MAKE_BASE "gzip -k base.tar");
    digest_file(place, "base.tar", digest);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("ingest", ingest_base, place);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_autofree char *got = g_thread_join(threads[i]);
        assert_string_equal(got, digest);
    }
    assert_int_equal(count_files(place, "layers/sha256"), 3);
    assert_true(layer_store_verify(place->store, digest, NULL));
}

static void test_leftovers_are_swept(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, MAKE_BASE);
    ingest(place, "base.tar");
    layer_store_close(g_steal_pointer(&place->store));
    shell(place,
          "cd root/layers/sha256; echo x > .tmp-0123; for k in erofs facts; do echo x > $(printf 'f%.0s' {1..64}).$k; done");
    open_store(place, NULL);
    assert_int_equal(count_files(place, "layers/sha256"), 3);
}

static void test_damage_is_found(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, MAKE_BASE);
    struct layer_info info = ingest(place, "base.tar");
    g_autoptr(GError) error = NULL;
    shell(place, "printf X | dd of=$(echo root/layers/sha256/*.tar) bs=1 seek=3000 conv=notrunc status=none");
    assert_false(layer_store_verify(place->store, info.diff_id, &error));
    assert_true(error_is(error, TARE_ERROR_INVALID));
    g_clear_error(&error);
    assert_true(layer_store_remove(place->store, info.diff_id, NULL));
    assert_true(layer_store_remove(place->store, info.diff_id, NULL));
    assert_false(layer_store_verify(place->store, info.diff_id, &error));
    assert_true(error_is(error, TARE_ERROR_NOT_FOUND));
    g_clear_error(&error);
    assert_false(layer_store_remove(place->store, "sha256:../../etc", &error));
    assert_true(error_is(error, TARE_ERROR_INVALID));
}

static void test_a_damaged_index_is_made_again(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, MAKE_BASE);
    struct layer_info info = ingest(place, "base.tar"), again;
    static const char *const damage[] = {
        "rm root/layers/sha256/*.erofs",
        "rm root/layers/sha256/*.facts",
        "echo > $(echo root/layers/sha256/*.facts)",
        "truncate -s 4096 root/layers/sha256/*.erofs",
        "printf XXXXXXXX | dd of=$(echo root/layers/sha256/*.erofs) bs=1 seek=4200 conv=notrunc status=none",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(damage); i++) {
        g_autoptr(GError) error = NULL;
        shell(place, damage[i]);
        if (!layer_store_verify(place->store, info.diff_id, &error))
            fail_msg("%s: %s", damage[i], error->message);
        assert_true(layer_store_info(place->store, info.diff_id, &again, NULL));
        assert_memory_equal(&again, &info, sizeof info);
    }
    assert_int_equal(count_files(place, "layers/sha256"), 3);
}

/* ---- workers that lie or hang ---- */

static void test_a_lying_decoder_changes_nothing(void **state)
{
    struct place *place = *state;
    shell(place, MAKE_BASE "gzip -k base.tar; mkdir evil; echo evil > evil/file; tar -C evil -cf evil.tar .\n"
                           "printf '#!/bin/sh\\nif [ \"$1\" = decode ]; then cat \"%s/evil.tar\"; cat >/dev/null;\\n"
                           "printf \"PERT\\\\0\\\\0\\\\0\\\\0\" >&5; head -c 552 /dev/zero >&5; exit 0; fi\\nexec " TARE_INGEST
                           " \"$@\"\\n' \"$PWD\" > liar; chmod +x liar");
    g_autofree char *liar = g_build_filename(place->directory, "liar", NULL);
    open_store(place, &(struct layer_store_options){ .ingest_program = liar });
    char digest[DIGEST_ROOM], evil[DIGEST_ROOM];
    digest_file(place, "base.tar", digest);
    digest_file(place, "evil.tar", evil);
    g_autofree char *message = g_strdup_printf("layer X: its content has the digest %s and not %s", evil, digest);
    assert_ingest_fails(place, "base.tar.gz", (struct layer_ingest_options){ .expected_diff_id = digest }, TARE_ERROR_INVALID,
                        message);
    assert_false(layer_store_has(place->store, digest));
    /* Where nobody knows what it should be, it is what its digest says: never another layer. */
    struct layer_info info = ingest(place, "base.tar.gz");
    assert_string_equal(info.diff_id, evil);
}

static gpointer cancel_soon(gpointer cancel)
{
    g_usleep(50000);
    cancel_trigger(cancel);
    return NULL;
}

static void test_cancel_ends_a_hanging_worker(void **state)
{
    struct place *place = *state;
    shell(place,
          "head -c 5000000 /dev/urandom | gzip > big.gz; printf '#!/bin/sh\\nexec sleep 1000\\n' > sleeper; chmod +x sleeper");
    g_autofree char *sleeper = g_build_filename(place->directory, "sleeper", NULL);
    open_store(place, &(struct layer_store_options){ .ingest_program = sleeper });
    struct cancel *cancel = cancel_new();
    GThread *thread = g_thread_new("cancel", cancel_soon, cancel);
    gint64 start = g_get_monotonic_time();
    assert_ingest_fails(place, "big.gz", (struct layer_ingest_options){ .cancel = cancel }, TARE_ERROR_CANCELLED, NULL);
    assert_true(g_get_monotonic_time() - start < 2000000);
    g_thread_join(thread);
    cancel_unref(cancel);
}

static void test_a_dying_worker_is_an_error(void **state)
{
    struct place *place = *state;
    shell(place, MAKE_BASE "gzip -k base.tar; printf '#!/bin/sh\\nkill -9 $$\\n' > dying; chmod +x dying");
    g_autofree char *dying = g_build_filename(place->directory, "dying", NULL);
    open_store(place, &(struct layer_store_options){ .ingest_program = dying });
    assert_ingest_fails(place, "base.tar.gz", (struct layer_ingest_options){ 0 }, TARE_ERROR_INTERNAL,
                        "layer X: the decoder was stopped");
    assert_ingest_fails(place, "base.tar", (struct layer_ingest_options){ 0 }, TARE_ERROR_INTERNAL,
                        "layer X: the indexer was stopped");
}

static void test_full_disk(void **state)
{
    struct place *place = *state;
    shell(place, "mkdir root; mount -t tmpfs -o size=1m,mode=700 tare-test root\n"
                 "mkdir big; head -c 3000000 /dev/urandom > big/file; tar -C big -cf big.tar .; gzip -k big.tar");
    open_store(place, NULL);
    struct layer_ingest_options none = { 0 };
    assert_ingest_fails(place, "big.tar", none, TARE_ERROR_NO_SPACE, "layer X: write: no space left on device");
    assert_ingest_fails(place, "big.tar.gz", none, TARE_ERROR_NO_SPACE, "layer X: write: no space left on device");
    layer_store_close(g_steal_pointer(&place->store));
    assert_int_equal(umount(place->root), 0);

    /* Room for the tar but not for its index. */
    shell(place, "mkdir many; for i in $(seq 600); do : > many/$(printf %0200d $i); done; tar -C many -cf many.tar .\n"
                 "size=$(stat -c %s many.tar); mount -t tmpfs -o size=$(((size / 4096 + 30) * 4096)),mode=700 tare-test root");
    open_store(place, NULL);
    assert_ingest_fails(place, "many.tar", none, TARE_ERROR_NO_SPACE, NULL);

    /* Sealing, on the same disk. */
    g_autofree char *path = g_build_filename(place->directory, "big", NULL);
    g_autofd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct layer_info info;
    g_autoptr(GError) error = NULL;
    assert_false(layer_store_seal(place->store, fd, &(struct layer_seal_options){ .clamp_mtime = -1 }, &info, &error));
    assert_true(error_is(error, TARE_ERROR_NO_SPACE));
    assert_int_equal(count_files(place, "layers/sha256"), 0);
    layer_store_close(g_steal_pointer(&place->store));
    assert_int_equal(umount(place->root), 0);
}

/* ---- decoding without storing ---- */

struct string_sink {
    struct byte_sink sink;
    GString *text;
};

static bool append_text(struct byte_sink *sink, const void *data, gsize length, GError **error)
{
    g_string_append_len(((struct string_sink *)sink)->text, data, (gssize)length);
    return true;
}

static void test_decode_for_archives(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place,
          "seq 1 100000 > text; gzip -k text; cat text.gz text.gz > twice.gz; cp text plain; head -c 1000 text.gz > cut.gz");
    g_autofree char *expected = NULL, *path = g_build_filename(place->directory, "text", NULL);
    gsize length;
    assert_true(g_file_get_contents(path, &expected, &length, NULL));
    static const struct {
        const char *name;
        guint copies;
        guint64 max;
        const char *error;
    } cases[] = {
        { "text.gz", 1, 0, NULL },
        { "twice.gz", 2, 0, NULL },
        { "plain", 1, 0, NULL },
        { "text.gz", 0, 1000, "uncompressed data is larger than 1000 bytes" },
        { "plain", 0, 1000, "data is larger than 1000 bytes" },
        { "cut.gz", 0, 0, "unexpected end of gzip stream" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *file = g_build_filename(place->directory, cases[i].name, NULL);
        g_autofd int fd = open(file, O_RDONLY | O_CLOEXEC);
        struct fd_source source;
        struct string_sink sink = { .sink.write = append_text, .text = g_string_new(NULL) };
        fd_source_init(&source, fd, cases[i].name);
        assert_int_equal(layer_decode(place->store, &source.source, &sink.sink, cases[i].max, NULL, &error),
                         cases[i].error == NULL);
        if (cases[i].error)
            assert_string_equal(error->message, cases[i].error);
        else
            assert_int_equal(sink.text->len, cases[i].copies * length);
        g_string_free(sink.text, TRUE);
    }
}

/* ---- mounts, in each mode ---- */

static const enum layer_mount_mode all_modes[] = { LAYER_MOUNT_DETACHED, LAYER_MOUNT_ATTACHED, LAYER_MOUNT_LOOP,
                                                   LAYER_MOUNT_UNPACKED };

static void reopen(struct place *place, enum layer_mount_mode mode)
{
    layer_store_close(g_steal_pointer(&place->store));
    open_store(place, &(struct layer_store_options){ .mode = mode });
    assert_int_equal(layer_store_mode(place->store), mode);
}

static void test_auto_finds_the_best_mode(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    assert_int_equal(layer_store_mode(place->store), LAYER_MOUNT_DETACHED);
    assert_string_equal(layer_store_verdict(place->store), "layers are detached");
}

static void test_one_layer_in_each_mode(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, MAKE_BASE);
    struct layer_info info = ingest(place, "base.tar");
    const char *const chain[] = { info.diff_id, NULL };
    for (size_t i = 0; i < G_N_ELEMENTS(all_modes); i++) {
        reopen(place, all_modes[i]);
        assert_chain_is(place, chain, "base");
        assert_chain_is(place, chain, "base");
    }
    assert_true(layer_store_remove(place->store, info.diff_id, NULL));
    shell(place, "test -z \"$(find root/layers/sha256 root/layers/unpacked -mindepth 1 ! -name empty)\"");
}

/* The second layer deletes, hides, replaces and adds; the merged tree is made by hand. */
#define MAKE_CHANGES                                                                                               \
    "cp -a base merged; mkdir -p up/var/deep up/etc up/usr/bin\n"                                                  \
    "chmod 1777 up/var/deep\n"                                                                                     \
    ": > up/.wh.gone; : > up/var/deep/.wh..wh..opq; echo new > up/var/deep/new; : > up/usr/bin/.wh.same\n"         \
    "echo changed > up/etc/passwd; for d in . var var/deep etc usr usr/bin; do touch -d @1500000000 up/$d; done\n" \
    "$T -C up -cf up.tar .; rm -r merged/gone merged/var/deep/er merged/usr/bin/same merged/etc/passwd\n"          \
    "cp -a up/var/deep/new merged/var/deep/; cp -a up/etc/passwd merged/etc/\n"                                    \
    "for d in . var var/deep etc usr usr/bin; do touch -d @1500000000 merged/$d; done\n"

static void test_whiteouts_in_each_mode(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, MAKE_BASE MAKE_CHANGES);
    struct layer_info base = ingest(place, "base.tar"), up = ingest(place, "up.tar");
    const char *const chain[] = { base.diff_id, up.diff_id, NULL };
    for (size_t i = 0; i < G_N_ELEMENTS(all_modes); i++) {
        reopen(place, all_modes[i]);
        g_autofree char *is = describe_chain(place, chain), *should = describe_path(place, "merged");
        /* A deleted name still counts in its sibling's links on overlayfs, which shows the lower inode. */
        g_autofree char *with_links = strstr(is, "/usr/bin/tool") ? g_strdup(is) : NULL;
        char *links = with_links ? strstr(strstr(with_links, "/usr/bin/tool"), "links=2") : NULL;
        if (links)
            links[6] = '1';
        assert_string_equal(with_links, should);
    }
}

static void test_one_layer_under_two_bases(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place,
          "mkdir -p a/dir b/dir a/bin b/bin top/dir; chmod 700 a/dir; chown 5:6 b/dir; chmod 751 b/dir\n"
          "echo from a > a/bin/tool; echo from b > b/bin/tool; chmod 755 b/bin/tool; echo x > top/dir/file\n"
          "for d in a b top; do touch -d @1400000000 $d/bin $d/dir 2>/dev/null || true; rm -rf top/bin; done\n"
          "tar -C a -cf a.tar .; tar -C b -cf b.tar .; tar -C top -cf top.tar dir/file\n"
          "cp -a a am; cp -a b bm; cp -a top/dir/file am/dir; cp -a top/dir/file bm/dir; touch -d @1400000000 am/dir bm/dir");
    struct layer_info a = ingest(place, "a.tar"), b = ingest(place, "b.tar"), top = ingest(place, "top.tar");
    const char *const over_a[] = { a.diff_id, top.diff_id, NULL }, *const over_b[] = { b.diff_id, top.diff_id, NULL };
    for (size_t i = 0; i < G_N_ELEMENTS(all_modes); i++) {
        reopen(place, all_modes[i]);
        assert_chain_is(place, over_a, "am");
        assert_chain_is(place, over_b, "bm");
    }
    char chain_id[72];
    layer_chain_id(over_a, chain_id);
    assert_true(layer_store_remove_fixups(place->store, chain_id, NULL));
    layer_chain_id(over_b, chain_id);
    assert_true(layer_store_remove_fixups(place->store, chain_id, NULL));
    assert_int_equal(count_files(place, "layers/fixups"), 0);
}

static void test_hard_link_into_a_lower_layer(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, "mkdir low both; echo text > low/one; tar -C low -cf low.tar .; cp -a low/one both/one; ln both/one both/two\n"
                 "tar -C both -cf both.tar one two; tar --delete -f both.tar one; touch -r low both");
    struct layer_info low = ingest(place, "low.tar"), link = ingest(place, "both.tar");
    const char *const chain[] = { low.diff_id, link.diff_id, NULL };
    for (size_t i = 0; i < G_N_ELEMENTS(all_modes); i++) {
        reopen(place, all_modes[i]);
        assert_chain_is(place, chain, "both");
    }
    /* Alone it means nothing. */
    const char *const alone[] = { link.diff_id, NULL };
    g_autoptr(GError) error = NULL;
    assert_false(layer_chain_prepare(place->store, alone, &error));
    assert_true(error_is(error, TARE_ERROR_INVALID));
}

static void test_same_layer_twice_and_empty_chains(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, "mkdir -p a b ab nothing; chmod 755 nothing; echo a > a/file; echo b > b/other; tar -C a -cf a.tar .; tar -C b "
                 "-cf b.tar .\n"
                 "cp -a a/file b/other ab; touch -r a ab");
    struct layer_info a = ingest(place, "a.tar"), b = ingest(place, "b.tar");
    const char *const chain[] = { a.diff_id, b.diff_id, a.diff_id, NULL }, *const none[] = { NULL };
    for (size_t i = 0; i < G_N_ELEMENTS(all_modes); i++) {
        reopen(place, all_modes[i]);
        assert_chain_is(place, chain, "ab");
        assert_chain_is(place, none, "nothing");
    }
    const char *const missing[] = { a.diff_id, "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", NULL };
    g_autoptr(GError) error = NULL;
    struct layer_stack *stack;
    assert_false(layer_stack_acquire(place->store, missing, &stack, &error));
    assert_true(error_is(error, TARE_ERROR_NOT_FOUND));
}

static void test_127_layers(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, "mkdir all l; for i in $(seq 127); do rm -f l/*; echo $i > l/f$i; echo $i > l/last; touch -d @1600000000 l/last "
                 "l/f$i l;\n"
                 "tar -C l -cf $i.tar .; cp -a l/. all; done; touch -d @1600000000 all");
    g_autoptr(GPtrArray) chain = g_ptr_array_new_with_free_func(g_free);
    for (int i = 1; i <= 127; i++) {
        g_autofree char *name = g_strdup_printf("%d.tar", i);
        struct layer_info info = ingest(place, name);
        g_ptr_array_add(chain, g_strdup(info.diff_id));
    }
    g_ptr_array_add(chain, NULL);
    /* Kernels before 6.7 take all layers in one page of options. */
    overlay_force_old_mount = true;
    reopen(place, LAYER_MOUNT_UNPACKED);
    assert_chain_is(place, (const char *const *)chain->pdata, "all");
    overlay_force_old_mount = false;
    /* Not over loop devices: setting up 254 of them takes longer than all other tests, and they differ from attached only in what
     * is mounted. */
    for (size_t i = 0; i < G_N_ELEMENTS(all_modes); i++) {
        if (all_modes[i] == LAYER_MOUNT_LOOP)
            continue;
        reopen(place, all_modes[i]);
        assert_chain_is(place, (const char *const *)chain->pdata, "all");
    }
}

struct stress {
    struct place *place;
    GPtrArray *ids;
    guint32 seed;
};

static gpointer acquire_at_random(gpointer data)
{
    struct stress *stress = data;
    g_autoptr(GRand) rand = g_rand_new_with_seed(stress->seed);
    for (int i = 0; i < 300; i++) {
        const char *chain[] = { NULL, NULL, NULL };
        for (int k = 0; k < 2; k++)
            chain[k] = stress->ids->pdata[g_rand_int_range(rand, 0, (gint32)stress->ids->len)];
        struct layer_stack *stack = NULL;
        g_autoptr(GError) error = NULL;
        const int *fds;
        if (!layer_stack_acquire(stress->place->store, chain, &stack, &error))
            return g_strdup(error->message);
        for (size_t n = layer_stack_fds(stack, &fds); n-- > 0;)
            if (faccessat(fds[n], "file", F_OK, 0) < 0)
                return g_strdup("the mount is not there");
        layer_stack_release(stack);
    }
    return NULL;
}

/* More layers than stay mounted, from several threads: each gets what it asked for, and what is unused is bounded. */
static void test_the_cache_of_mounts_is_bounded(void **state)
{
    struct place *place = *state;
    enum { N_LAYERS = 150, N_THREADS = 4 };
    open_store(place, NULL);
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    shell(place, "mkdir l; for i in $(seq 150); do echo $i > l/file; tar -C l -cf $i.tar .; done");
    for (int i = 1; i <= N_LAYERS; i++) {
        g_autofree char *name = g_strdup_printf("%d.tar", i);
        struct layer_info info = ingest(place, name);
        g_ptr_array_add(ids, g_strdup(info.diff_id));
    }
    struct stress stress[N_THREADS];
    GThread *threads[N_THREADS];
    for (guint32 i = 0; i < N_THREADS; i++) {
        stress[i] = (struct stress){ place, ids, i };
        threads[i] = g_thread_new("stress", acquire_at_random, &stress[i]);
    }
    for (int i = 0; i < N_THREADS; i++)
        assert_null(g_thread_join(threads[i]));
    assert_true(count_fds() < place->n_fds + 128 + 10);
}

/* ---- sealing ---- */

static int mount_writable(struct place *place, struct layer_stack *stack)
{
    g_autofree char *upper = g_build_filename(place->directory, "upper", NULL);
    g_autofree char *work = g_build_filename(place->directory, "work", NULL);
    struct overlay_options options = { .upper = upper, .work = work, .is_volatile = true };
    g_autoptr(GError) error = NULL;
    shell(place, "rm -rf upper work; mkdir upper work");
    options.n_lower_fds = layer_stack_fds(stack, &options.lower_fds);
    int mount = overlay_mount(&options, &error);
    if (mount < 0)
        fail_msg("%s", error->message);
    return mount;
}

static void change_through(struct place *place, int mount, const char *script)
{
    g_autofree char *whole = g_strdup_printf("cd /proc/%d/fd/%d\n%s", getpid(), mount, script);
    shell(place, whole);
}

static struct layer_info seal_upper(struct place *place, const struct layer_seal_options *options)
{
    struct layer_info info;
    g_autofree char *upper = g_build_filename(place->directory, "upper", NULL);
    g_autofd int fd = open(upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_autoptr(GError) error = NULL;
    if (!layer_store_seal(place->store, fd, options, &info, &error))
        fail_msg("%s", error->message);
    return info;
}

#define CHANGES                                                                                                                  \
    "rm -r gone; rm usr/bin/same; echo changed >> etc/passwd; rm -r var/deep; mkdir var/deep; echo again > var/deep/fresh\n"     \
    "mkdir -p new/dir; echo one > new/dir/one; ln new/dir/one new/dir/two; ln -s nowhere new/link; mknod new/dev c 5 1; mkfifo " \
    "new/fifo\n"                                                                                                                 \
    "truncate -s 10M new/sparse; echo end >> new/sparse; cp -a etc/link new/link2; setfattr -n user.x -v y new/dir; chown 1:2 "  \
    "new/dir/one\n"                                                                                                              \
    "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.bind(\"new/socket\")'; mkdir kept; echo no > kept/no\n"     \
    "cp /bin/true new/capable; setcap cap_net_bind_service=ep new/capable\n"                                                     \
    "find . -exec touch -h -d @1600000000 {} +\n"

static void test_seal_round_trip(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, MAKE_BASE);
    struct layer_info base = ingest(place, "base.tar");
    const char *const lower[] = { base.diff_id, NULL };
    struct layer_stack *stack = NULL;
    assert_true(layer_stack_acquire(place->store, lower, &stack, NULL));
    int mount = mount_writable(place, stack);
    change_through(place, mount, CHANGES);
    const char *const exclude[] = { "kept", NULL };
    struct layer_seal_options options = { .clamp_mtime = -1, .exclude = exclude };
    struct layer_info sealed = seal_upper(place, &options), again = seal_upper(place, &options);
    assert_string_equal(sealed.diff_id, again.diff_id);
    change_through(place, mount, "rm -r kept new/socket; touch -d @1600000000 . new");
    g_autofree char *should = describe_fd(mount);
    fd_close(mount);
    layer_stack_release(stack);
    const char *const chain[] = { base.diff_id, sealed.diff_id, NULL };
    g_autofree char *is = describe_chain(place, chain);
    /* The root directory itself is not part of a sealed layer. */
    assert_string_equal(strchr(is, '\n'), strchr(should, '\n'));
}

static void test_seal_clamps_times(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, "mkdir -p upper/d; echo x > upper/d/f; echo x > upper/.wh.strange; touch -d @100.5 upper/d/f");
    struct layer_info now = seal_upper(place, &(struct layer_seal_options){ .clamp_mtime = 200 });
    shell(place, "touch upper/d; mkdir -p should/d; cp -a upper/d should; touch -d @200 should/d; touch -d @100 should/d/f");
    struct layer_info later = seal_upper(place, &(struct layer_seal_options){ .clamp_mtime = 200 });
    assert_string_equal(now.diff_id, later.diff_id);
    const char *const chain[] = { now.diff_id, NULL };
    g_autofree char *is = describe_chain(place, chain), *should = describe_path(place, "should");
    assert_string_equal(strchr(is, '\n'), strchr(should, '\n'));
}

static void test_seal_deep_trees(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, "mkdir upper should; for where in upper should; do (cd $where; for i in $(seq 100); do mkdir d; : > e; : > z; "
                 "cd d; done;\n"
                 "echo bottom > file); find $where -exec touch -h -d @1600000000 {} +; done");
    struct layer_info info = seal_upper(place, &(struct layer_seal_options){ .clamp_mtime = -1 });
    const char *const chain[] = { info.diff_id, NULL };
    g_autofree char *is = describe_chain(place, chain), *should = describe_path(place, "should");
    assert_string_equal(strchr(is, '\n'), strchr(should, '\n'));
}

static void test_drafts(void **state)
{
    struct place *place = *state;
    struct layer_draft *draft;
    struct layer_info info;
    open_store(place, NULL);
    assert_true(layer_draft_new(place->store, &draft, NULL));
    layer_draft_discard(draft);
    assert_int_equal(count_files(place, "layers/sha256"), 0);
    assert_true(layer_draft_new(place->store, &draft, NULL));
    assert_true(layer_draft_commit(draft, &info, NULL));
    assert_true(layer_store_has(place->store, info.diff_id));
    assert_int_equal(info.content_bytes, 0);
}

static void test_overlay_that_cannot_be_written_is_an_error(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, MAKE_BASE "mkdir ro; mount -t tmpfs tare-test ro; mkdir ro/upper ro/work; mount -o remount,ro ro");
    struct layer_info base = ingest(place, "base.tar");
    const char *const lower[] = { base.diff_id, NULL };
    struct layer_stack *stack = NULL;
    assert_true(layer_stack_acquire(place->store, lower, &stack, NULL));
    g_autofree char *upper = g_build_filename(place->directory, "ro/upper", NULL);
    g_autofree char *work = g_build_filename(place->directory, "ro/work", NULL);
    struct overlay_options options = { .upper = upper, .work = work };
    options.n_lower_fds = layer_stack_fds(stack, &options.lower_fds);
    g_autoptr(GError) error = NULL;
    assert_int_equal(overlay_mount(&options, &error), -1);
    assert_non_null(error);
    layer_stack_release(stack);
    shell(place, "umount ro");
}

/* What a shim does where layers are attached: it enters the namespace, mounts, and takes the mount along. */
static void test_overlay_by_paths(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, MAKE_BASE);
    struct layer_info base = ingest(place, "base.tar");
    const char *const lower[] = { base.diff_id, NULL };
    g_autofree char *upper = g_build_filename(place->directory, "upper", NULL);
    g_autofree char *work = g_build_filename(place->directory, "work", NULL);
    for (size_t i = 1; i < G_N_ELEMENTS(all_modes); i++) {
        struct layer_stack *stack = NULL;
        int namespace = -1;
        reopen(place, all_modes[i]);
        shell(place, "rm -rf upper work; mkdir upper work");
        assert_true(layer_stack_acquire(place->store, lower, &stack, NULL));
        struct overlay_options options = { .upper = upper, .work = work, .lower_paths = layer_stack_paths(stack, &namespace) };
        assert_non_null(options.lower_paths);
        pid_t pid = fork();
        if (pid == 0) {
            if (namespace >= 0 && setns(namespace, CLONE_NEWNS) < 0)
                _exit(2);
            int mount = overlay_mount(&options, NULL);
            if (mount < 0)
                _exit(3);
            int fd = openat(mount, "etc/passwd", O_WRONLY | O_APPEND | O_CLOEXEC);
            _exit(fd >= 0 && fd_write_full(fd, "more\n", 5) == 0 ? 0 : 4);
        }
        assert_int_equal(spawn_wait(pid), 0);
        layer_stack_release(stack);
        shell(place, "test \"$(cat upper/etc/passwd)\" = \"root:x:0:0\nmore\"");
    }
}

static guint64 inode_of(int mount, const char *name)
{
    struct stat st;
    assert_int_equal(fstatat(mount, name, &st, AT_SYMLINK_NOFOLLOW), 0);
    return st.st_ino;
}

/* One device for `du -x` and find -xdev; a file keeps its number when it is copied up, and after a restart. */
static void test_inode_numbers(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, MAKE_BASE);
    struct layer_info base = ingest(place, "base.tar");
    const char *const lower[] = { base.diff_id, NULL };
    for (size_t i = 0; i < 2; i++) {
        struct layer_stack *stack = NULL;
        reopen(place, i == 0 ? LAYER_MOUNT_DETACHED : LAYER_MOUNT_UNPACKED);
        assert_true(layer_stack_acquire(place->store, lower, &stack, NULL));
        int mount = mount_writable(place, stack);
        guint64 before = inode_of(mount, "etc/passwd"), linked = inode_of(mount, "usr/bin/tool");
        assert_int_equal(linked, inode_of(mount, "usr/bin/same"));
        change_through(place, mount,
                       "test $(find . -xdev | wc -l) = $(find . | wc -l); test $(du -xs . | cut -f1) = $(du -s . | cut -f1)\n"
                       "echo more >> etc/passwd; mkdir -p new; echo x > new/file");
        assert_int_equal(inode_of(mount, "etc/passwd"), before);
        change_through(place, mount, "test $(find . -xdev | wc -l) = $(find . | wc -l)");
        fd_close(mount);
        layer_stack_release(stack);
        reopen(place, layer_store_mode(place->store));
        assert_true(layer_stack_acquire(place->store, lower, &stack, NULL));
        g_autofree char *upper = g_build_filename(place->directory, "upper", NULL);
        g_autofree char *work = g_build_filename(place->directory, "work", NULL);
        struct overlay_options options = { .upper = upper, .work = work };
        shell(place, "rm -rf work; mkdir work");
        options.n_lower_fds = layer_stack_fds(stack, &options.lower_fds);
        mount = overlay_mount(&options, NULL);
        assert_true(mount >= 0);
        assert_int_equal(inode_of(mount, "etc/passwd"), before);
        assert_int_equal(inode_of(mount, "usr/bin/tool"), linked);
        fd_close(mount);
        layer_stack_release(stack);
    }
}

static void test_read_only_overlay_of_one_layer(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, MAKE_BASE);
    struct layer_info base = ingest(place, "base.tar");
    const char *const lower[] = { base.diff_id, NULL };
    struct layer_stack *stack = NULL;
    assert_true(layer_stack_acquire(place->store, lower, &stack, NULL));
    struct overlay_options options = { 0 };
    options.n_lower_fds = layer_stack_fds(stack, &options.lower_fds);
    int mount = overlay_mount(&options, NULL);
    assert_true(mount >= 0);
    g_autofree char *is = describe_fd(mount), *should = describe_path(place, "base");
    assert_string_equal(is, should);
    assert_int_equal(openat(mount, "x", O_WRONLY | O_CREAT, 0600), -1);
    assert_int_equal(errno, EROFS);
    fd_close(mount);
    layer_stack_release(stack);
}

#define T(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(ingest_keeps_the_tar),
        T(everything_is_private),
        T(bad_input_leaves_nothing),
        T(same_layer_at_the_same_time),
        T(leftovers_are_swept),
        T(damage_is_found),
        T(a_damaged_index_is_made_again),
        T(a_lying_decoder_changes_nothing),
        T(cancel_ends_a_hanging_worker),
        T(a_dying_worker_is_an_error),
        T(full_disk),
        T(decode_for_archives),
        T(auto_finds_the_best_mode),
        T(one_layer_in_each_mode),
        T(whiteouts_in_each_mode),
        T(one_layer_under_two_bases),
        T(hard_link_into_a_lower_layer),
        T(same_layer_twice_and_empty_chains),
        T(127_layers),
        T(the_cache_of_mounts_is_bounded),
        T(overlay_by_paths),
        T(inode_numbers),
        T(read_only_overlay_of_one_layer),
        T(seal_round_trip),
        T(seal_clamps_times),
        T(seal_deep_trees),
        T(drafts),
        T(overlay_that_cannot_be_written_is_an_error),
    };
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        fprintf(stderr, "test_layer_store needs root: %s\n", strerror(errno));
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
