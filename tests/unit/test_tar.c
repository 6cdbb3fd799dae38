#include "base/fd.h"
#include "layer/tar-internal.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct memory_sink {
    struct byte_sink sink;
    GByteArray *bytes;
};

static bool memory_sink_write(struct byte_sink *sink, const void *data, gsize length, GError **error)
{
    g_byte_array_append(((struct memory_sink *)sink)->bytes, data, (guint)length);
    return true;
}

static GByteArray *write_entry(const struct tar_entry *entry, const void *data)
{
    struct memory_sink sink = { .sink.write = memory_sink_write, .bytes = g_byte_array_new() };
    struct tar_writer *writer = tar_writer_new(&sink.sink);
    assert_true(tar_writer_entry(writer, entry, NULL));
    assert_true(tar_writer_data(writer, data, entry->stored_size, NULL));
    assert_true(tar_writer_finish(writer, NULL));
    assert_int_equal(tar_writer_offset(writer), sink.bytes->len);
    assert_int_equal(sink.bytes->len % 512, 0);
    tar_writer_free(writer);
    return sink.bytes;
}

static void assert_same_text(const char *a, const char *b)
{
    assert_int_equal(!a, !b);
    if (a)
        assert_string_equal(a, b);
}

static void assert_same(const struct tar_entry *a, const struct tar_entry *b)
{
    assert_string_equal(a->path, b->path);
    assert_same_text(a->link, b->link);
    assert_same_text(a->uname, b->uname);
    assert_same_text(a->gname, b->gname);
    assert_int_equal(a->is_hard_link, b->is_hard_link);
    if (!a->is_hard_link)
        assert_int_equal(a->mode, b->mode);
    assert_int_equal(a->uid, b->uid);
    assert_int_equal(a->gid, b->gid);
    assert_int_equal(a->mtime, b->mtime);
    assert_int_equal(a->mtime_ns, b->mtime_ns);
    assert_int_equal(a->size, b->size);
    assert_int_equal(a->stored_size, b->stored_size);
    assert_int_equal(a->major, b->major);
    assert_int_equal(a->minor, b->minor);
    guint n = a->xattrs ? a->xattrs->len : 0;
    assert_int_equal(n, b->xattrs ? b->xattrs->len : 0);
    for (guint i = 0; i < n; i++) {
        const struct tar_xattr *x = a->xattrs->pdata[i], *y = b->xattrs->pdata[i];
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->size, y->size);
        assert_memory_equal(x->value, y->value, x->size);
    }
    assert_int_equal(!a->extents, !b->extents);
    for (guint i = 0; a->extents && i < a->extents->len; i++) {
        const struct tar_extent *x = &g_array_index(a->extents, struct tar_extent, i);
        const struct tar_extent *y = &g_array_index(b->extents, struct tar_extent, i);
        assert_int_equal(x->offset, y->offset);
        assert_int_equal(x->length, y->length);
    }
}

/* Writes, reads back, compares; the same bytes both times. Returns the archive's length. */
static guint round_trip(const struct tar_entry *entry, const void *data)
{
    g_autoptr(GByteArray) once = write_entry(entry, data), again = write_entry(entry, data);
    assert_int_equal(once->len, again->len);
    assert_memory_equal(once->data, again->data, once->len);
    struct memory_source source;
    memory_source_init(&source, once->data, once->len);
    struct tar_reader *reader = tar_reader_new(&source.source, NULL);
    const struct tar_entry *read;
    GError *error = NULL;
    int found = tar_reader_next(reader, &read, &error);
    if (error)
        fail_msg("%s", error->message);
    assert_int_equal(found, 1);
    assert_same(entry, read);
    if (entry->stored_size > 0) {
        g_autofree char *buffer = g_malloc(entry->stored_size);
        guint64 at =
            read->extents && read->extents->len > 0 ? g_array_index(read->extents, struct tar_extent, 0).at : read->data_at;
        assert_memory_equal(once->data + at, data, MIN(entry->stored_size, 1));
        gsize done = 0;
        for (gssize n; (n = tar_reader_read(reader, buffer + done, entry->stored_size - done, NULL)) > 0;)
            done += (gsize)n;
        assert_int_equal(done, entry->stored_size);
        assert_memory_equal(buffer, data, done);
    }
    assert_int_equal(tar_reader_next(reader, &read, NULL), 0);
    tar_reader_free(reader);
    return once->len;
}

static void plain_entries_are_ustar(void **state)
{
    struct tar_entry file = {
        .path = (char *)"a/b", .mode = S_IFREG | 04755, .uid = 2097151, .mtime = 0777777777777 >> 3, .size = 5, .stored_size = 5
    };
    assert_int_equal(round_trip(&file, "hello"), 4 * 512);
    struct tar_entry root = { .path = (char *)"", .mode = S_IFDIR | 0755 };
    assert_int_equal(round_trip(&root, NULL), 3 * 512);
    struct tar_entry device = { .path = (char *)"dev/x", .mode = S_IFBLK | 0600, .major = 259, .minor = 1048575 };
    assert_int_equal(round_trip(&device, NULL), 3 * 512);
    struct tar_entry pipe = { .path = (char *)"p", .mode = S_IFIFO | 0600, .uname = (char *)"root", .gname = (char *)"wheel" };
    assert_int_equal(round_trip(&pipe, NULL), 3 * 512);
    struct tar_entry link = { .path = (char *)"l", .link = (char *)"../x//y", .mode = S_IFLNK | 0777 };
    assert_int_equal(round_trip(&link, NULL), 3 * 512);
    struct tar_entry hard = { .path = (char *)"h", .link = (char *)"a/b", .is_hard_link = true, .mode = 0644 };
    assert_int_equal(round_trip(&hard, NULL), 3 * 512);
}

static void what_does_not_fit_becomes_records(void **state)
{
    g_autofree char *deep = g_strnfill(6000, 'd');
    for (size_t i = 99; i < 6000; i += 100)
        deep[i] = i == 5999 ? 'x' : '/';
    struct tar_entry file = {
        .path = deep, .mode = S_IFREG | 0644, .uid = G_MAXUINT32, .gid = 2097152, .mtime = -3, .mtime_ns = 250000000
    };
    file.uname = (char *)"a_user_with_a_name_of_more_than_32_bytes";
    round_trip(&file, NULL);
    struct tar_entry link = { .path = (char *)"l", .link = deep, .mode = S_IFLNK | 0777, .mtime = 1, .mtime_ns = 1 };
    round_trip(&link, NULL);
    /* 155 + 1 + 100 still fits; a directory counts its slash. */
    for (int n = 99; n < 260; n++) {
        g_autofree char *path = g_strnfill((gsize)n, 'e');
        if (n > 60)
            path[60] = '/';
        if (n > 151)
            path[150] = '/';
        struct tar_entry dir = { .path = path, .mode = S_IFDIR | 0755 }, plain = { .path = path, .mode = S_IFREG };
        round_trip(&dir, NULL);
        round_trip(&plain, NULL);
    }
    struct tar_entry odd = { .path = (char *)"\xff\x01\n=\"\\", .mode = S_IFREG };
    tar_entry_set_xattr(&odd, "user.b=c%", "\0\n=", 3);
    tar_entry_set_xattr(&odd, "user.a", "old", 3);
    tar_entry_set_xattr(&odd, "user.a", "", 0);
    g_autofree char *big = g_strnfill(65000, 'v');
    tar_entry_set_xattr(&odd, "security.big", big, 65000);
    round_trip(&odd, NULL);
    g_ptr_array_unref(odd.xattrs);
}

static void record_lengths_count_themselves(void **state)
{
    /* around 9→10, 99→100, 999→1000 digits */
    for (gsize n = 1; n < 1100; n++) {
        g_autofree char *value = g_strnfill(n, 'v');
        struct tar_entry file = { .path = (char *)"f", .mode = S_IFREG };
        tar_entry_set_xattr(&file, "u", value, n);
        round_trip(&file, NULL);
        g_ptr_array_unref(file.xattrs);
    }
}

static void sparse_files_round_trip(void **state)
{
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(struct tar_extent));
    struct tar_entry hole = { .path = (char *)"hole", .mode = S_IFREG, .size = 1ull << 40, .extents = extents };
    round_trip(&hole, NULL);
    guint64 total = 0;
    for (guint64 i = 0; i < 100; i++) {
        struct tar_extent extent = { .offset = i * 81920 + 3, .length = (i % 7 + 1) * 512 };
        g_array_append_val(extents, extent);
        total += extent.length;
    }
    struct tar_entry many = {
        .path = (char *)"many", .mode = S_IFREG, .size = 10 << 20, .stored_size = total, .extents = extents
    };
    g_autofree char *data = g_strnfill(total, 's');
    round_trip(&many, data);
    many.stored_size--;
    struct memory_sink sink = { .sink.write = memory_sink_write };
    struct tar_writer *writer = tar_writer_new(&sink.sink);
    assert_false(tar_writer_entry(writer, &many, NULL));
    tar_writer_free(writer);
}

static void contents_must_have_the_promised_size(void **state)
{
    struct memory_sink sink = { .sink.write = memory_sink_write, .bytes = g_byte_array_new() };
    struct tar_writer *writer = tar_writer_new(&sink.sink);
    struct tar_entry file = { .path = (char *)"f", .mode = S_IFREG, .size = 3, .stored_size = 3 };
    assert_true(tar_writer_entry(writer, &file, NULL));
    assert_false(tar_writer_data(writer, "abcd", 4, NULL));
    assert_true(tar_writer_data(writer, "ab", 2, NULL));
    assert_false(tar_writer_entry(writer, &file, NULL));
    assert_false(tar_writer_finish(writer, NULL));
    tar_writer_free(writer);
    g_byte_array_unref(sink.bytes);
}

static void numbers(void **state)
{
    gint64 value;
    assert_true(tar_number_parse((const unsigned char *)"0000644", 8, &value));
    assert_int_equal(value, 0644);
    assert_true(tar_number_parse((const unsigned char *)"  644 \0", 8, &value));
    assert_int_equal(value, 0644);
    assert_true(tar_number_parse((const unsigned char *)"77777777", 8, &value));
    assert_int_equal(value, 077777777);
    assert_true(tar_number_parse((const unsigned char *)"\0\0\0\0\0\0\0\0", 8, &value));
    assert_int_equal(value, 0);
    assert_true(tar_number_parse((const unsigned char *)"\xff\xff\xff\xff\xff\xff\xff\xfe", 8, &value));
    assert_int_equal(value, -2);
    assert_true(tar_number_parse((const unsigned char *)"\x80\0\0\0\0\0\0\x02\0\0\0\0", 12, &value));
    assert_true(value == 2ll << 32);
    assert_false(tar_number_parse((const unsigned char *)"\x80\0\0\x01\0\0\0\0\0\0\0\0", 12, &value));
    assert_false(tar_number_parse((const unsigned char *)"12 34\0\0", 8, &value));
    assert_false(tar_number_parse((const unsigned char *)"0000648", 8, &value));
    assert_false(tar_number_parse((const unsigned char *)"-000001", 8, &value));
}

static void times(void **state)
{
    gint64 seconds;
    guint32 ns;
    assert_true(tar_time_parse("1700000000", &seconds, &ns));
    assert_true(seconds == 1700000000 && ns == 0);
    assert_true(tar_time_parse("1.000000001999", &seconds, &ns));
    assert_true(seconds == 1 && ns == 1);
    assert_true(tar_time_parse("-0.5", &seconds, &ns));
    assert_true(seconds == -1 && ns == 500000000);
    assert_true(tar_time_parse("-1.75", &seconds, &ns));
    assert_true(seconds == -2 && ns == 250000000);
    assert_true(tar_time_parse("-3", &seconds, &ns));
    assert_true(seconds == -3 && ns == 0);
    assert_true(tar_time_parse("-1.0000000001", &seconds, &ns));
    assert_true(seconds == -2 && ns == 999999999);
    static const char *const bad[] = { "", "-", ".5", "1.5x", "1e3", " 1", "--1", "99999999999999999999", "1-2" };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_false(tar_time_parse(bad[i], &seconds, &ns));
}

static void paths_are_normalised(void **state)
{
    static const char *const table[][2] = {
        { "./a//b/./c/", "a/b/c" },
        { "/etc/passwd", "etc/passwd" },
        { ".", "" },
        { "./", "" },
        { "...", "..." },
        { "a/.b", "a/.b" },
        { "", "" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        g_autofree char *path = g_strdup(table[i][0]);
        assert_true(tar_path_normalise(path, NULL));
        assert_string_equal(path, table[i][1]);
    }
    static const char *const bad[] = { "..", "../a", "a/..", "a/../b", "/.." };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *path = g_strdup(bad[i]);
        assert_false(tar_path_normalise(path, NULL));
    }
}

/* ---- archives made by hand ---- */
static void append_header(GByteArray *tar, char typeflag, const char *name, const char *link, guint64 size)
{
    unsigned char block[512] = { 0 };
    memcpy(block, name, strlen(name));
    memcpy(block + 100, "0000644", 7);
    g_autofree char *octal = g_strdup_printf("%011" G_GINT64_MODIFIER "o", size);
    memcpy(block + 124, octal, 11);
    block[156] = (unsigned char)typeflag;
    if (link)
        memcpy(block + 157, link, strlen(link));
    memcpy(block + 257,
           "ustar\0"
           "00",
           8);
    tar_block_set_checksum(block);
    g_byte_array_append(tar, block, 512);
}

static void append_padded(GByteArray *tar, const void *data, gsize size)
{
    static const guint8 zeros[512];
    g_byte_array_append(tar, data, (guint)size);
    g_byte_array_append(tar, zeros, (guint)((512 - size % 512) % 512));
}

/* Reads all; the message of the error, or NULL. */
static char *read_through(const void *data, gsize size, guint *ret_entries)
{
    struct memory_source source;
    memory_source_init(&source, data, size);
    struct tar_reader *reader = tar_reader_new(&source.source, NULL);
    const struct tar_entry *entry;
    g_autoptr(GError) error = NULL;
    int found;
    *ret_entries = 0;
    while ((found = tar_reader_next(reader, &entry, &error)) > 0)
        ++*ret_entries;
    assert_int_equal(found < 0, error != NULL);
    tar_reader_free(reader);
    return error ? g_strdup(error->message) : NULL;
}

static void assert_refused(GByteArray *tar, const char *message)
{
    guint entries;
    g_autofree char *text = read_through(tar->data, tar->len, &entries);
    if (!text || !strstr(text, message))
        fail_msg("\"%s\" instead of \"%s\"", text ? text : "no error", message);
    g_byte_array_set_size(tar, 0);
}

static void append_pax(GByteArray *tar, const char *records, gsize size)
{
    append_header(tar, 'x', "pax", NULL, size);
    append_padded(tar, records, size);
    append_header(tar, '0', "file", NULL, 0);
}

static void hostile_archives_are_refused(void **state)
{
    g_autoptr(GByteArray) tar = g_byte_array_new();
    append_header(tar, '0', "../etc/passwd", NULL, 0);
    assert_refused(tar, "has a \"..\" in it");
    append_header(tar, '1', "x", "a/../../b", 0);
    assert_refused(tar, "has a \"..\" in it");
    append_header(tar, '1', "x", NULL, 0);
    assert_refused(tar, "\"x\" is a link to nothing");
    append_header(tar, '5', "dir/", NULL, 512); /* the next header is no content */
    append_header(tar, '0', "../evil", NULL, 0);
    assert_refused(tar, "has a \"..\" in it");
    append_header(tar, '0', "dir/", NULL, 512);
    assert_refused(tar, "\"dir/\" is a directory with content");
    append_header(tar, '0', "big", NULL, 077777777777ull);
    assert_refused(tar, "unexpected end of tar archive");
    append_header(tar, 'M', "rest", NULL, 0);
    assert_refused(tar, "tar entry \"rest\" is of unknown type 77");
    append_header(tar, 'L', "long", NULL, 1 << 20);
    assert_refused(tar, "is too long");
    append_pax(tar, "11 path=a\0b\n", 11);
    assert_refused(tar, "malformed pax record");
    append_pax(tar, "12 path=a\0b\n", 12);
    assert_refused(tar, "bad value of pax record \"path\"");
    append_pax(tar, "11 path=ab\n12", 13);
    assert_refused(tar, "malformed pax record");
    append_pax(tar, "99999999 path=ab\n", 17);
    assert_refused(tar, "malformed pax record");
    append_pax(tar, "21 uid=-1\n", 10);
    assert_refused(tar, "malformed pax record");
    append_pax(tar, "10 uid=-1\n", 10);
    assert_refused(tar, "bad value of pax record \"uid\"");
    append_pax(tar, "30 size=9223372036854775807\n\n\n", 30);
    assert_refused(tar, "bad value of pax record \"size\"");
    append_pax(tar, "28 size=9223372036854775807\n", 28);
    assert_refused(tar, "has a size out of range");
    append_pax(tar, "26 GNU.sparse.map=0,5,3,5\n25 GNU.sparse.realsize=99\n", 51);
    assert_refused(tar, "bad value of pax record \"GNU.sparse.map\"");
    append_pax(tar, "24 GNU.sparse.map=0,512\n25 GNU.sparse.realsize=10\n", 49);
    assert_refused(tar, "malformed pax record");
    append_pax(tar, "24 GNU.sparse.map=0,512\n26 GNU.sparse.realsize=10\n", 50);
    assert_refused(tar, "sparse map reaches beyond the file");
    append_header(tar, '0', "x", NULL, 0);
    tar->data[0] ^= 1;
    assert_refused(tar, "bad checksum");
    append_header(tar, 'x', "pax", NULL, 0);
    assert_refused(tar, "unexpected end of tar archive");
}

static void sparse_maps_are_checked(void **state)
{
    g_autoptr(GByteArray) tar = g_byte_array_new();
    append_pax(tar, "24 GNU.sparse.map=0,512\n22 GNU.sparse.size=10\n", 46);
    assert_refused(tar, "sparse map reaches beyond the file");
    append_pax(tar, "22 GNU.sparse.map=0,0\n22 GNU.sparse.size=10\n", 44);
    guint entries;
    g_autofree char *text = read_through(tar->data, tar->len, &entries);
    assert_null(text);
    assert_int_equal(entries, 1);
}

static void old_checksums_and_lenient_ends(void **state)
{
    g_autoptr(GByteArray) tar = g_byte_array_new();
    guint entries;
    append_header(tar, '0', "\xe4\xf6", NULL, 3);
    append_padded(tar, "abc", 3);
    /* As signed chars: each byte above 127 counts 256 less. */
    unsigned sum = 0;
    for (int i = 0; i < 512; i++)
        sum += i >= 148 && i < 156 ? ' ' : (unsigned)(signed char)tar->data[i];
    g_autofree char *octal = g_strdup_printf("%06o", sum);
    memcpy(tar->data + 148, octal, 6);
    g_autofree char *none = read_through(tar->data, tar->len, &entries);
    assert_null(none);
    assert_int_equal(entries, 1);
    /* without the content's padding */
    none = read_through(tar->data, 515, &entries);
    assert_null(none);
    g_autofree char *cut = read_through(tar->data, 514, &entries);
    assert_non_null(strstr(cut, "unexpected end"));
    none = read_through("", 0, &entries);
    assert_null(none);
    assert_int_equal(entries, 0);
}

/* ---- what GNU tar makes ---- */
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

static int make_temporary(void **state)
{
    temporary = g_dir_make_tmp("tare-tar-XXXXXX", NULL);
    return temporary ? 0 : -1;
}

static int remove_temporary(void **state)
{
    char *argv[] = { (char *)"/bin/rm", (char *)"-rf", temporary, NULL };
    g_spawn_sync(NULL, argv, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL);
    g_free(temporary);
    return 0;
}

static void sparse_formats_of_gnu_tar(void **state)
{
    static const char *const formats[] = { "--format=gnu", "--format=pax --sparse-version=0.0",
                                           "--format=pax --sparse-version=0.1", "--format=pax --sparse-version=1.0" };
    /* more runs than the header and one extension block hold */
    shell("for i in $(seq 0 39); do printf data$i | dd of=sparse bs=1 seek=$((i * 65536)) conv=notrunc status=none; done; "
          "truncate -s 3000000 sparse");
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autofree char *make = g_strdup_printf("tar -cSf s.tar %s sparse", formats[i]);
        shell(make);
        g_autofree char *path = g_build_filename(temporary, "s.tar", NULL);
        g_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct tar_reader *reader = tar_reader_new_fd(fd, NULL);
        const struct tar_entry *entry;
        g_autoptr(GError) error = NULL;
        if (tar_reader_next(reader, &entry, &error) != 1)
            fail_msg("%s: %s", formats[i], error->message);
        assert_string_equal(entry->path, "sparse");
        assert_int_equal(entry->size, 3000000);
        assert_non_null(entry->extents);
        assert_int_equal(entry->extents->len, 40);
        for (guint j = 0; j < 40; j++) {
            const struct tar_extent *extent = &g_array_index(entry->extents, struct tar_extent, j);
            g_autofree char *expected = g_strdup_printf("data%u", j);
            char bytes[16] = { 0 };
            assert_int_equal(extent->offset, j * 65536);
            assert_int_equal(fd_pread_full(fd, bytes, strlen(expected), (off_t)extent->at), strlen(expected));
            assert_string_equal(bytes, expected);
        }
        assert_int_equal(tar_reader_next(reader, &entry, NULL), 0);
        tar_reader_free(reader);
    }
}

static void every_cut_is_noticed_or_clean(void **state)
{
    shell("mkdir -p t/$(printf %0200d 0)/$(printf %0200d 1); echo x > t/a; ln t/a t/b; ln -s /x t/c; mkfifo t/fifo; head -c 3000 "
          "/dev/zero > t/z; cp sparse t");
    static const char *const formats[] = { "gnu", "pax", "ustar", "v7" };
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autofree char *make =
            g_strdup_printf("rm -f t.tar; tar -cf t.tar --format=%s %s t/[abcz]* $(test %s = v7 || test %s = ustar || echo t)",
                            formats[i], i < 2 ? "-S" : "", formats[i], formats[i]);
        shell(make);
        g_autofree char *path = g_build_filename(temporary, "t.tar", NULL), *data = NULL;
        gsize size;
        assert_true(g_file_get_contents(path, &data, &size, NULL));
        guint whole, entries;
        g_autofree char *none = read_through(data, size, &whole);
        assert_null(none);
        assert_true(whole >= 4);
        for (gsize cut = 0; cut < size; cut += 256) {
            /* in a buffer of its own, so that reading beyond it is seen */
            g_autofree char *part = g_memdup2(data, cut);
            g_autofree char *message = read_through(part, cut, &entries);
            assert_true(entries <= whole);
            if (entries == 0 && cut > 0)
                assert_non_null(message);
        }
    }
}

static void gnu_tar_reads_what_we_write(void **state)
{
    struct memory_sink sink = { .sink.write = memory_sink_write, .bytes = g_byte_array_new() };
    struct tar_writer *writer = tar_writer_new(&sink.sink);
    g_autofree char *deep = g_strnfill(300, 'n');
    deep[150] = '/';
    struct tar_extent runs[] = { { 4096, 512, 0 }, { 99999, 1024, 0 } };
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(struct tar_extent));
    g_array_append_vals(extents, runs, 2);
    deep[149] = '\0';
    struct tar_entry dir = { .path = deep, .mode = S_IFDIR | 0750, .mtime = 1700000000 };
    g_autofree char *inside = g_strconcat(deep, "/", deep + 151, NULL);
    struct tar_entry file = {
        .path = inside, .mode = S_IFREG | 0600, .size = 5, .stored_size = 5, .mtime = 1700000000, .mtime_ns = 123456789
    };
    g_autofree char *content = g_strnfill(1536, 'Y');
    content[0] = 'X';
    struct tar_entry sparse = {
        .path = (char *)"holes", .mode = S_IFREG | 0644, .size = 200000, .stored_size = 1536, .extents = extents
    };
    tar_entry_set_xattr(&sparse, "user.k=%", "v\0w", 3);
    assert_true(tar_writer_entry(writer, &dir, NULL));
    assert_true(tar_writer_entry(writer, &file, NULL) && tar_writer_data(writer, "hello", 5, NULL));
    assert_true(tar_writer_entry(writer, &sparse, NULL) && tar_writer_data(writer, content, 1536, NULL));
    assert_true(tar_writer_finish(writer, NULL));
    tar_writer_free(writer);
    g_ptr_array_unref(sparse.xattrs);
    g_autofree char *path = g_build_filename(temporary, "ours.tar", NULL);
    assert_true(g_file_set_contents(path, (const char *)sink.bytes->data, sink.bytes->len, NULL));
    g_byte_array_unref(sink.bytes);
    shell("mkdir ours; tar -xpf ours.tar -C ours --xattrs --xattrs-include='*' 2>messages; test ! -s messages; cd ours;"
          "test $(stat -c %a n*) = 750; test \"$(cat n*/n*)\" = hello; test $(stat -c %.9Y n*/n*) = 1700000000.123456789;"
          "test $(stat -c %s holes) = 200000; test $(stat -c %b holes) -lt 64; test $(tail -c +4097 holes | head -c 5) = XYYYY;"
          "test $(tail -c +100000 holes | head -c 3) = YYY; test $(tr -d '\\0' < holes | wc -c) = 1536");
    g_autofree char *holes = g_build_filename(temporary, "ours/holes", NULL);
    char value[8];
    extern ssize_t lgetxattr(const char *path, const char *name, void *value, size_t size);
    assert_int_equal(lgetxattr(holes, "user.k=%", value, sizeof value), 3);
    assert_memory_equal(value, "v\0w", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_entries_are_ustar),
        cmocka_unit_test(what_does_not_fit_becomes_records),
        cmocka_unit_test(record_lengths_count_themselves),
        cmocka_unit_test(sparse_files_round_trip),
        cmocka_unit_test(contents_must_have_the_promised_size),
        cmocka_unit_test(numbers),
        cmocka_unit_test(times),
        cmocka_unit_test(paths_are_normalised),
        cmocka_unit_test(hostile_archives_are_refused),
        cmocka_unit_test(sparse_maps_are_checked),
        cmocka_unit_test(old_checksums_and_lenient_ends),
        cmocka_unit_test(sparse_formats_of_gnu_tar),
        cmocka_unit_test(every_cut_is_noticed_or_clean),
        cmocka_unit_test(gnu_tar_reads_what_we_write),
    };
    return cmocka_run_group_tests(tests, make_temporary, remove_temporary);
}
