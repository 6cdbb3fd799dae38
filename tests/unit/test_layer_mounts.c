/* Layers mounted in each mode, overlays over them, and sealing what was written. Needs root. */
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
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- mounts, in each mode ---- */

static const enum layer_mount_mode all_modes[] = { LAYER_MOUNT_DETACHED, LAYER_MOUNT_ATTACHED, LAYER_MOUNT_LOOP,
                                                   LAYER_MOUNT_UNPACKED };

/* Kernels before 6.12 mount no layer from a file: what they have begins with loop devices. */
static size_t first_mode(void)
{
    struct utsname name;
    unsigned major = 0, minor = 0;
    assert_int_equal(uname(&name), 0);
    assert_int_equal(sscanf(name.release, "%u.%u", &major, &minor), 2);
    return major > 6 || (major == 6 && minor >= 12) ? 0 : 2;
}

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
    assert_int_equal(layer_store_mode(place->store), all_modes[first_mode()]);
    if (first_mode() == 0)
        assert_string_equal(layer_store_verdict(place->store), "layers are detached");
    else
        assert_true(g_str_has_prefix(layer_store_verdict(place->store), "layers are loop; "));
}

static void test_one_layer_in_each_mode(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, MAKE_BASE);
    struct layer_info info = ingest(place, "base.tar");
    const char *const chain[] = { info.diff_id, NULL };
    for (size_t i = first_mode(); i < G_N_ELEMENTS(all_modes); i++) {
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
    for (size_t i = first_mode(); i < G_N_ELEMENTS(all_modes); i++) {
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
    for (size_t i = first_mode(); i < G_N_ELEMENTS(all_modes); i++) {
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
    for (size_t i = first_mode(); i < G_N_ELEMENTS(all_modes); i++) {
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
    for (size_t i = first_mode(); i < G_N_ELEMENTS(all_modes); i++) {
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
    for (size_t i = first_mode(); i < G_N_ELEMENTS(all_modes); i++) {
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
    for (size_t i = MAX(first_mode(), 1); i < G_N_ELEMENTS(all_modes); i++) {
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
        reopen(place, i == 0 ? all_modes[first_mode()] : LAYER_MOUNT_UNPACKED);
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

int main(void)
{
    static const struct CMUnitTest tests[] = {
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
    return own_mounts("test_layer_mounts") ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
