/* The layer store as its users see it: ingest and what can go wrong with it. Needs root. */
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

/* ---- ingest ---- */

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
    assert_int_equal(first.content_bytes, 100000 + 11 + 2 + 2 + strlen("../usr/bin/tool"));
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
    assert_true(layer_store_verify(place->store, digest, NULL, NULL));
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
    assert_true(layer_store_verify(place->store, digest, NULL, NULL));
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
    assert_false(layer_store_verify(place->store, info.diff_id, NULL, &error));
    assert_true(error_is(error, TARE_ERROR_INVALID));
    g_clear_error(&error);
    assert_true(layer_store_remove(place->store, info.diff_id, NULL));
    assert_true(layer_store_remove(place->store, info.diff_id, NULL));
    assert_false(layer_store_verify(place->store, info.diff_id, NULL, &error));
    assert_true(error_is(error, TARE_ERROR_NOT_FOUND));
    g_clear_error(&error);
    assert_false(layer_store_remove(place->store, "sha256:../../etc", &error));
    assert_true(error_is(error, TARE_ERROR_INVALID));
}

/* Files that are removed and still open here. */
static guint count_held(void)
{
    g_autoptr(GDir) fds = g_dir_open("/proc/self/fd", 0, NULL);
    guint held = 0;
    for (const char *name; (name = g_dir_read_name(fds));) {
        g_autofree char *link = g_strconcat("/proc/self/fd/", name, NULL), *target = g_file_read_link(link, NULL);
        held += target && strstr(target, "layers/sha256/") && g_str_has_suffix(target, " (deleted)");
    }
    return held;
}

static void test_the_space_of_a_removed_layer_comes_back(void **state)
{
    struct place *place = *state;
    open_store(place, NULL);
    shell(place, "mkdir -p big && head -c 6000000 /dev/zero > big/zeros && tar -C big -cf big.tar .");
    struct layer_info info = ingest(place, "big.tar");
    assert_true(layer_store_remove(place->store, info.diff_id, NULL));
    assert_false(layer_store_has(place->store, info.diff_id));
    layer_store_wait_for_space(place->store);
    assert_int_equal(count_held(), 0);
    info = ingest(place, "big.tar");
    assert_true(layer_store_has(place->store, info.diff_id));
    assert_true(layer_store_remove(place->store, info.diff_id, NULL)); /* and closing ends what is under way */
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
        if (!layer_store_verify(place->store, info.diff_id, NULL, &error))
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

/* One that takes nothing, one that takes all and gives nothing; and an indexer that never answers. */
static void test_a_hanging_worker_is_ended(void **state)
{
    struct place *place = *state;
    shell(place, MAKE_BASE "head -c 5000000 /dev/urandom | gzip > big.gz; gzip -k base.tar\n"
                           "printf '#!/bin/sh\\nexec sleep 1000\\n' > sleeper; chmod +x sleeper");
    g_autofree char *sleeper = g_build_filename(place->directory, "sleeper", NULL);
    open_store(place, &(struct layer_store_options){ .ingest_program = sleeper, .stall_seconds = 1 });
    assert_ingest_fails(place, "big.gz", (struct layer_ingest_options){ 0 }, TARE_ERROR_INTERNAL,
                        "layer X: the decoder stood still for 1 seconds");
    assert_ingest_fails(place, "base.tar.gz", (struct layer_ingest_options){ 0 }, TARE_ERROR_INTERNAL,
                        "layer X: the decoder stood still for 1 seconds");
    assert_ingest_fails(place, "base.tar", (struct layer_ingest_options){ 0 }, TARE_ERROR_INTERNAL,
                        "layer X: the indexer does not answer");
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

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(ingest_keeps_the_tar),
        T(everything_is_private),
        T(bad_input_leaves_nothing),
        T(same_layer_at_the_same_time),
        T(leftovers_are_swept),
        T(damage_is_found),
        T(the_space_of_a_removed_layer_comes_back),
        T(a_damaged_index_is_made_again),
        T(a_lying_decoder_changes_nothing),
        T(cancel_ends_a_hanging_worker),
        T(a_hanging_worker_is_ended),
        T(a_dying_worker_is_an_error),
        T(full_disk),
        T(decode_for_archives),
    };
    return own_mounts("test_layer_store") ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
