/* What is known of a context that was sent, kept for the next build: its chain of layers, its listing, and the digests of those
 * contents that were read. A file for each, since it has megabytes and is read and written by every build of a large directory;
 * the database has what it takes to list and prune them, and the layers' holder. */
#include "base/digest.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/timestamp.h"
#include "build/build-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc64.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#define CHAIN_MAX 12    /* layers of one context; then it is sent whole again */
#define CONTEXTS_MAX 64 /* kept; the least recently used goes */
#define SHARE_OF_ROOM 4 /* kept where it takes less than this part of the free space */
#define MAGIC "tarectx1"

struct header {
    char magic[8];
    guint64 checksum; /* of all that follows: nothing is synced, and a record that is torn is none */
    char boot[40];    /* of the machine: the layers are not synced either, and what a power cut left of them nobody knows */
    guint64 layers, listing, digests; /* their bytes, which follow */
};

static int open_directory(const struct builder *builder)
{
    g_autofree char *path = builder->directory ? g_build_filename(builder->directory, "contexts", NULL) : NULL;

    return path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

static char *name_of(const char *key)
{
    char digest[DIGEST_ROOM];

    digest_of(key, strlen(key), digest);
    return g_strdup(digest_hex(digest));
}

static char *holder_of(const char *key)
{
    g_autofree char *name = name_of(key);

    return g_strconcat("context/", name, NULL);
}

/* ---- reading ---- */

void context_record_clear(struct context_record *record)
{
    g_strfreev(record->layers);
    listing_free(record->listing);
    *record = (struct context_record){ 0 };
}

static guint64 checksum_of(guint64 before, const void *data, gsize length)
{
    return crc64_ecma_refl(before, data, length);
}

static guint64 checksum_of_rest(const struct header *header)
{
    return checksum_of(0, &header->boot, sizeof *header - offsetof(struct header, boot));
}

static void put_boot(struct header *header)
{
    g_autofree char *text = NULL;

    if (file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", sizeof header->boot, &text, NULL, NULL))
        g_strlcpy(header->boot, text, sizeof header->boot);
}

static bool parse(GMappedFile *mapping, struct context_record *record)
{
    const char *data = g_mapped_file_get_contents(mapping), *at = data + sizeof(struct header);
    gsize left = g_mapped_file_get_length(mapping);
    g_autofree char *layers = NULL;
    struct header header, now = { 0 };

    if (left < sizeof header)
        return false;
    memcpy(&header, data, sizeof header);
    left -= sizeof header;
    put_boot(&now);
    if (memcmp(header.magic, MAGIC, sizeof header.magic) != 0 || memcmp(header.boot, now.boot, sizeof now.boot) != 0 ||
        header.layers > left || header.listing > left - header.layers ||
        header.digests != left - header.layers - header.listing ||
        checksum_of(checksum_of_rest(&header), at, left) != header.checksum)
        return false;
    layers = g_strndup(at, header.layers);
    record->layers = g_strsplit(layers, " ", -1);
    record->digests = (const guint8 *)at + header.layers + header.listing;
    return listing_parse_mapped(mapping, sizeof header + header.layers, header.listing, &record->listing, NULL) &&
           header.digests == (guint64)record->listing->entries->len * CONTEXT_DIGEST_SIZE;
}

static bool read_file(const struct builder *builder, const char *key, struct context_record *record)
{
    g_autofd int directory = open_directory(builder), fd = -1;
    g_autofree char *name = name_of(key);
    GMappedFile *mapping;
    bool good;

    fd = directory >= 0 ? openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    mapping = fd >= 0 ? g_mapped_file_new_from_fd(fd, FALSE, NULL) : NULL;
    if (!mapping)
        return false;
    good = parse(mapping, record);
    g_mapped_file_unref(mapping); /* the listing has it */
    return good;
}

bool context_record_read(struct builder *builder, const char *key, struct context_record *ret)
{
    struct context_record record = { 0 };
    g_autofree char *held = NULL, *joined = NULL;
    bool good;

    good = database_get_string(builder->database, &held, NULL, "SELECT layers FROM build_context WHERE key = ?", "s", key) &&
           held && read_file(builder, key, &record);
    joined = record.layers ? g_strjoinv(" ", record.layers) : NULL;
    good = good && joined && strcmp(joined, held) == 0 && g_strv_length(record.layers) < CHAIN_MAX;
    for (char **layer = record.layers; good && *layer; layer++)
        good = layer_store_has(builder->layers, *layer);
    if (good)
        *ret = record;
    else
        context_record_clear(&record);
    return good;
}

/* ---- writing ---- */

static bool write_all(int fd, struct iovec *pieces, int n)
{
    for (int i = 0; i < n; i++)
        if (fd_write_full(fd, pieces[i].iov_base, pieces[i].iov_len) < 0)
            return false;
    return true;
}

static bool write_file(const struct builder *builder, const char *key, const char *layers, const struct context_files *files)
{
    const struct listing *listing = files->listing;
    g_autofree char *name = name_of(key), *temporary = NULL;
    g_autofd int directory = open_directory(builder), fd = -1;
    struct header header = { .magic = MAGIC,
                             .layers = strlen(layers),
                             .listing = listing->length,
                             .digests = (guint64)listing->entries->len * CONTEXT_DIGEST_SIZE };
    struct iovec pieces[] = { { &header, sizeof header },
                              { (void *)layers, header.layers },
                              { (void *)listing->data, header.listing },
                              { files->digests, header.digests } };
    bool good;

    if (directory < 0 || (fd = file_new_temporary(directory, 0600, &temporary, NULL)) < 0)
        return false;
    put_boot(&header);
    header.checksum = checksum_of_rest(&header);
    for (guint i = 1; i < G_N_ELEMENTS(pieces); i++)
        header.checksum = checksum_of(header.checksum, pieces[i].iov_base, pieces[i].iov_len);
    good = write_all(fd, pieces, G_N_ELEMENTS(pieces));
    unlinkat(directory, name, 0); /* ext4 writes a file to the disk at once where it takes another's name */
    good = good && file_publish(directory, temporary, fd, name, false, NULL);
    if (!good)
        unlinkat(directory, temporary, 0);
    return good;
}

void context_store_forget(struct builder *builder, const char *key)
{
    g_autofree char *holder = holder_of(key), *name = name_of(key);
    g_autofd int directory = open_directory(builder);

    database_run(builder->database, NULL, "DELETE FROM build_context WHERE key = ?", "s", key);
    if (directory >= 0)
        unlinkat(directory, name, 0);
    image_store_release_layers(builder->images, holder, NULL);
}

static void forget_oldest(struct builder *builder)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);

    database_get_strings(builder->database, keys, NULL, "SELECT key FROM build_context ORDER BY used DESC LIMIT -1 OFFSET ?", "i",
                         (gint64)CONTEXTS_MAX);
    for (guint i = 0; i < keys->len; i++)
        context_store_forget(builder, keys->pdata[i]);
}

/* What is kept makes a rebuild fast; it must not be what fills the disk. */
static bool has_room(const struct builder *builder, const struct context_files *files)
{
    struct statvfs disk;

    return !builder->directory || statvfs(builder->directory, &disk) < 0 ||
           files->bytes < (guint64)disk.f_bavail * disk.f_frsize / SHARE_OF_ROOM;
}

static bool put_row(struct builder *builder, const char *key, const char *layers, const struct context_files *files)
{
    gint64 now = timestamp_now();

    return database_run(builder->database, NULL,
                        "INSERT OR REPLACE INTO build_context (key, layers, listing, digests, created, used, listing_bytes) "
                        "VALUES (?, ?, x'', x'', coalesce((SELECT created FROM build_context WHERE key = ?), ?), ?, ?)",
                        "sssiii", key, layers, key, now, now, (gint64)files->listing->length);
}

void context_store_save(struct builder *builder, const char *key, const char *const *layers, struct context_files *files)
{
    g_autofree char *holder = holder_of(key), *joined = g_strjoinv(" ", (char **)layers);
    bool good;

    /* The build holds the layers as well, so that none is unheld in between. */
    g_mutex_lock(&builder->contexts_lock);
    g_mutex_lock(&files->lock);
    good = has_room(builder, files) && write_file(builder, key, joined, files);
    files->changed = false;
    g_mutex_unlock(&files->lock);
    good = good && image_store_release_layers(builder->images, holder, NULL) &&
           image_store_hold_layers(builder->images, holder, layers, NULL) && put_row(builder, key, joined, files);
    if (!good) /* then it is sent again */
        context_store_forget(builder, key);
    forget_oldest(builder);
    g_mutex_unlock(&builder->contexts_lock);
}

/* ---- at the start ---- */

/* Those whose row went while the engine was killed go. Where there is no room for the directory no context is kept. */
void context_records_open(struct builder *builder, int top)
{
    g_autofd int directory = dir_make(top, "contexts", 0700, NULL);
    g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    int copy = directory >= 0 ? fcntl(directory, F_DUPFD_CLOEXEC, 3) : -1;
    DIR *stream;

    if (copy < 0 || !database_get_strings(builder->database, keys, NULL, "SELECT key FROM build_context", "")) {
        fd_close(copy);
        return;
    }
    for (guint i = 0; i < keys->len; i++)
        g_hash_table_add(known, name_of(keys->pdata[i]));
    stream = fdopendir(copy);
    for (const struct dirent *entry; stream && (entry = readdir(stream));)
        if (entry->d_name[0] != '.' || g_str_has_prefix(entry->d_name, FILE_TEMPORARY_PREFIX))
            if (!g_hash_table_contains(known, entry->d_name))
                unlinkat(directory, entry->d_name, 0);
    if (stream)
        closedir(stream);
    else
        fd_close(copy);
}
