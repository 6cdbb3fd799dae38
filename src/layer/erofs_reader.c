#include "layer/erofs-internal.h"

#include "base/fd.h"

#include <errno.h>
#include <string.h>

enum { WINDOW = 16384, N_WINDOWS = 4 };

struct window {
    guint64 at; /* multiple of WINDOW */
    gsize length;
    guint64 used; /* the reader's clock */
    guint8 *bytes;
};

struct erofs_reader {
    int fd;
    struct erofs_super super;
    struct erofs_device *devices;
    guint32 *device_blocks;
    size_t n_devices;
    guint64 clock;
    struct window windows[N_WINDOWS];
};

static bool bad(GError **error, const char *what)
{
    return error_set(error, TARE_ERROR_INVALID, "layer index: bad %s", what);
}

/* ---- bytes: a few windows over the file, so that neighbours cost no system call ---- */
static struct window *find_window(struct erofs_reader *reader, guint64 at, GError **error)
{
    struct window *oldest = &reader->windows[0];
    for (int i = 0; i < N_WINDOWS; i++) {
        struct window *window = &reader->windows[i];
        if (window->bytes && window->at == at) {
            window->used = ++reader->clock;
            return window;
        }
        if (window->used < oldest->used)
            oldest = window;
    }
    if (!oldest->bytes)
        oldest->bytes = g_malloc(WINDOW);
    oldest->length = 0;
    oldest->at = at;
    ssize_t n = fd_pread_full(reader->fd, oldest->bytes, WINDOW, (off_t)at);
    if (n < 0) {
        error_set_errno(error, errno, "read layer index");
        return NULL;
    }
    oldest->length = (gsize)n;
    oldest->used = ++reader->clock;
    return oldest;
}

bool erofs_reader_pread(struct erofs_reader *reader, guint64 at, void *into, gsize length, GError **error)
{
    guint8 *to = into;
    while (length > 0) {
        const struct window *window = find_window(reader, at / WINDOW * WINDOW, error);
        if (!window)
            return false;
        gsize from = (gsize)(at - window->at);
        if (from >= window->length)
            return bad(error, "length");
        gsize n = MIN(length, window->length - from);
        memcpy(to, window->bytes + from, n);
        to += n;
        at += n;
        length -= n;
    }
    return true;
}

/* ---- superblock and devices ---- */
static bool read_super(struct erofs_reader *reader, guint16 *ret_n_devices, GError **error)
{
    guint8 raw[EROFS_SUPER];
    guint8 expected[EROFS_SUPER] = { 0 };
    if (!erofs_reader_pread(reader, EROFS_SUPER_AT, raw, sizeof raw, error))
        return false;
    guint32 incompat = get32(raw + 80);
    *ret_n_devices = get16(raw + 86);
    reader->super.n_inodes = get64(raw + 16);
    reader->super.n_blocks = get32(raw + 36);
    reader->super.header_blocks = get32(raw + 40);
    reader->super.has_chunks = incompat & EROFS_INCOMPAT_CHUNKED;
    memcpy(reader->super.uuid, raw + 48, 16);
    /* All that may differ taken over, the rest must be as we write it. */
    put32(expected, EROFS_MAGIC);
    expected[12] = EROFS_BLOCK_BITS;
    put16(expected + 14, EROFS_ROOT_NID);
    memcpy(expected + 16, raw + 16, 8);
    memcpy(expected + 36, raw + 36, 4);
    put32(expected + 40,
          (guint32)(erofs_round_up(EROFS_SLOTS_AT + *ret_n_devices * (guint64)EROFS_SLOT, EROFS_BLOCK) / EROFS_BLOCK));
    memcpy(expected + 48, raw + 48, 16);
    memcpy(expected + 64, EROFS_VOLUME, strlen(EROFS_VOLUME));
    put32(expected + 80, EROFS_INCOMPAT_DEVICES | (reader->super.has_chunks ? EROFS_INCOMPAT_CHUNKED : 0));
    memcpy(expected + 86, raw + 86, 2);
    put16(expected + 88, EROFS_SLOTS_AT / EROFS_SLOT);
    if (memcmp(raw, expected, sizeof raw) != 0 || *ret_n_devices > EROFS_MAX_DEVICES ||
        reader->super.n_blocks > EROFS_MAX_BLOCKS || reader->super.n_blocks < reader->super.header_blocks ||
        reader->super.n_inodes > (guint64)reader->super.n_blocks * EROFS_BLOCK / EROFS_INODE)
        return bad(error, "superblock");
    return true;
}

static bool read_devices(struct erofs_reader *reader, GError **error)
{
    guint64 next = reader->super.n_blocks;
    for (size_t i = 0; i < reader->n_devices; i++) {
        guint8 raw[EROFS_SLOT];
        static const guint8 zeros[EROFS_SLOT - 72];
        if (!erofs_reader_pread(reader, EROFS_SLOTS_AT + i * EROFS_SLOT, raw, sizeof raw, error))
            return false;
        struct erofs_device *device = &reader->devices[i];
        memcpy(device->diff_id, DIGEST_PREFIX, strlen(DIGEST_PREFIX));
        memcpy(device->diff_id + strlen(DIGEST_PREFIX), raw, DIGEST_HEX_LENGTH);
        device->tar_bytes = (guint64)get32(raw + 64) * EROFS_BLOCK;
        reader->device_blocks[i] = get32(raw + 68);
        if (strlen(device->diff_id) != DIGEST_LENGTH || !digest_is_valid(device->diff_id) || reader->device_blocks[i] != next ||
            memcmp(raw + 72, zeros, sizeof zeros) != 0)
            return bad(error, "device table");
        next += get32(raw + 64);
        if (next > EROFS_MAX_BLOCKS)
            return bad(error, "device table");
    }
    return true;
}

bool erofs_reader_open(int index_fd, struct erofs_reader **ret, GError **error)
{
    g_autoptr(erofs_reader) reader = g_new0(struct erofs_reader, 1);
    guint16 n_devices;
    reader->fd = index_fd;
    if (!read_super(reader, &n_devices, error))
        return false;
    reader->n_devices = n_devices;
    reader->devices = g_new0(struct erofs_device, n_devices + 1);
    reader->device_blocks = g_new0(guint32, n_devices + 1);
    if (!read_devices(reader, error))
        return false;
    *ret = g_steal_pointer(&reader);
    return true;
}

void erofs_reader_free(struct erofs_reader *reader)
{
    if (!reader)
        return;
    for (int i = 0; i < N_WINDOWS; i++)
        g_free(reader->windows[i].bytes);
    g_free(reader->devices);
    g_free(reader->device_blocks);
    g_free(reader);
}

const struct erofs_super *erofs_reader_super(const struct erofs_reader *reader)
{
    return &reader->super;
}

size_t erofs_reader_devices(const struct erofs_reader *reader, const struct erofs_device **ret)
{
    *ret = reader->devices;
    return reader->n_devices;
}

guint32 erofs_reader_device_block(const struct erofs_reader *reader, size_t device)
{
    return reader->device_blocks[device];
}

int erofs_reader_find_device(const struct erofs_reader *reader, guint32 block, guint64 n_blocks)
{
    for (size_t i = 0; i < reader->n_devices; i++) {
        guint64 end = reader->device_blocks[i] + reader->devices[i].tar_bytes / EROFS_BLOCK;
        if (block >= reader->device_blocks[i] && block + n_blocks <= end)
            return (int)i;
    }
    return -1;
}

/* ---- inodes ---- */
guint64 erofs_inode_offset(const struct erofs_reader *reader, guint64 nid)
{
    return (guint64)reader->super.header_blocks * EROFS_BLOCK + nid * EROFS_NID_UNIT;
}

static bool type_agrees(const struct erofs_file *file)
{
    switch (file->mode & S_IFMT) {
    case S_IFREG:
        return (file->layout == EROFS_FLAT_PLAIN && (file->size > 0 || file->where == 0) && file->size <= EROFS_MAX_FILE) ||
               (file->layout == EROFS_CHUNK_BASED && file->size > 0 && file->size <= EROFS_MAX_FILE && file->where <= 31);
    case S_IFDIR:
        return file->layout == EROFS_FLAT_PLAIN && file->size > 0;
    case S_IFLNK:
        return file->mode == (S_IFLNK | 0777) && file->size > 0 && file->size <= EROFS_MAX_TARGET &&
               (file->layout == EROFS_FLAT_INLINE ? file->where == 0 : file->layout == EROFS_FLAT_PLAIN);
    case S_IFCHR:
    case S_IFBLK:
        return file->layout == EROFS_FLAT_PLAIN && file->size == 0;
    case S_IFIFO:
        return file->layout == EROFS_FLAT_PLAIN && file->size == 0 && file->where == 0;
    default:
        return false;
    }
}

bool erofs_reader_inode(struct erofs_reader *reader, guint64 nid, struct erofs_file *ret, GError **error)
{
    guint8 raw[EROFS_INODE];
    static const guint8 zeros[15];
    guint64 end = (guint64)reader->super.n_blocks * EROFS_BLOCK;
    if (nid < EROFS_ROOT_NID || nid > G_MAXUINT32 || erofs_inode_offset(reader, nid) + EROFS_INODE > end)
        return bad(error, "inode number");
    if (!erofs_reader_pread(reader, erofs_inode_offset(reader, nid), raw, sizeof raw, error))
        return false;
    guint16 n_xattrs = get16(raw + 2);
    struct erofs_file file = {
        .nid = nid,
        .layout = (enum erofs_layout)(get16(raw) >> 1),
        .xattrs_size = n_xattrs > 0 ? EROFS_XATTR_HEADER + 4 * (guint32)(n_xattrs - 1) : 0,
        .mode = get16(raw + 4),
        .size = get64(raw + 8),
        .where = get32(raw + 16),
        .number = get32(raw + 20),
        .uid = get32(raw + 24),
        .gid = get32(raw + 28),
        .mtime = (gint64)get64(raw + 32),
        .mtime_ns = get32(raw + 40),
        .n_links = get32(raw + 44),
        .implied = raw[48] == EROFS_INODE_IMPLIED,
    };
    if (!(raw[0] & 1) || get16(raw + 6) != 0 || raw[48] > EROFS_INODE_IMPLIED || memcmp(raw + 49, zeros, sizeof zeros) != 0 ||
        file.mtime_ns >= 1000000000 || file.n_links == 0 || file.number == 0 || file.number > reader->super.n_inodes ||
        n_xattrs == 1 || erofs_inode_offset(reader, nid) + EROFS_INODE + file.xattrs_size > end ||
        (file.implied && !S_ISDIR(file.mode)) || !type_agrees(&file))
        return bad(error, "inode");
    *ret = file;
    return true;
}

bool erofs_reader_root(struct erofs_reader *reader, struct erofs_file *ret, GError **error)
{
    if (!erofs_reader_inode(reader, EROFS_ROOT_NID, ret, error))
        return false;
    return S_ISDIR(ret->mode) || bad(error, "root");
}

/* ---- directories ---- */
struct dir_block {
    guint8 bytes[EROFS_BLOCK];
    gsize length; /* without the zeros behind the last name */
    unsigned n;
};

static bool read_dir_block(struct erofs_reader *reader, const struct erofs_file *dir, guint64 index, struct dir_block *ret,
                           GError **error)
{
    guint64 at = ((guint64)dir->where + index) * EROFS_BLOCK;
    gsize length = (gsize)MIN(EROFS_BLOCK, dir->size - index * EROFS_BLOCK);
    if (at + length > (guint64)reader->super.n_blocks * EROFS_BLOCK || length <= EROFS_DIRENT)
        return bad(error, "directory");
    if (!erofs_reader_pread(reader, at, ret->bytes, length, error))
        return false;
    unsigned heads = get16(ret->bytes + 8);
    if (heads == 0 || heads % EROFS_DIRENT != 0 || heads >= length)
        return bad(error, "directory");
    ret->n = heads / EROFS_DIRENT;
    /* Names follow each other without gaps; the last ends at the first NUL, after which only zeros come. */
    unsigned previous = heads;
    for (unsigned i = 1; i < ret->n; i++) {
        unsigned at_name = get16(ret->bytes + i * EROFS_DIRENT + 8);
        if (at_name <= previous || at_name >= length)
            return bad(error, "directory");
        previous = at_name;
    }
    ret->length = previous + strnlen((const char *)ret->bytes + previous, length - previous);
    for (gsize i = ret->length; i < length; i++)
        if (ret->bytes[i] != 0)
            return bad(error, "directory");
    return ret->length > previous || bad(error, "directory");
}

static const char *block_name(const struct dir_block *block, unsigned i, gsize *ret_length)
{
    unsigned at = get16(block->bytes + i * EROFS_DIRENT + 8);
    gsize end = i + 1 < block->n ? get16(block->bytes + (i + 1) * EROFS_DIRENT + 8) : block->length;
    *ret_length = end - at;
    return (const char *)block->bytes + at;
}

static int compare(const char *a, gsize a_length, const char *b, gsize b_length)
{
    int order = memcmp(a, b, MIN(a_length, b_length));
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

int erofs_reader_lookup(struct erofs_reader *reader, const struct erofs_file *dir, const char *name, gsize length,
                        struct erofs_file *ret, GError **error)
{
    /* Blocks by their first names, then the block's entries one after another: at most 39. */
    guint64 low = 0, high = (dir->size + EROFS_BLOCK - 1) / EROFS_BLOCK;
    struct dir_block block;
    const char *text;
    gsize text_length;
    while (low + 1 < high) {
        guint64 middle = low + (high - low) / 2;
        if (!read_dir_block(reader, dir, middle, &block, error))
            return -1;
        text = block_name(&block, 0, &text_length);
        if (compare(text, text_length, name, length) <= 0)
            low = middle;
        else
            high = middle;
    }
    if (!read_dir_block(reader, dir, low, &block, error))
        return -1;
    for (unsigned i = 0; i < block.n; i++) {
        text = block_name(&block, i, &text_length);
        if (compare(text, text_length, name, length) == 0)
            return erofs_reader_inode(reader, get64(block.bytes + i * EROFS_DIRENT), ret, error) ? 1 : -1;
    }
    return 0;
}

bool erofs_reader_list(struct erofs_reader *reader, const struct erofs_file *dir, erofs_entry_callback callback, void *user,
                       GError **error)
{
    struct dir_block block;
    char last[EROFS_MAX_NAME + 1];
    gsize last_length = 0;
    guint64 n_blocks = (dir->size + EROFS_BLOCK - 1) / EROFS_BLOCK;
    for (guint64 index = 0; index < n_blocks; index++) {
        if (!read_dir_block(reader, dir, index, &block, error))
            return false;
        for (unsigned i = 0; i < block.n; i++) {
            gsize length;
            const char *name = block_name(&block, i, &length);
            const guint8 *head = block.bytes + i * EROFS_DIRENT;
            if (length > EROFS_MAX_NAME || memchr(name, '/', length) || memchr(name, '\0', length) || head[11] != 0 ||
                compare(last, last_length, name, length) >= 0)
                return bad(error, "directory");
            memcpy(last, name, length);
            last_length = length;
            if (!callback(user, name, length, get64(head), head[10], error))
                return false;
        }
    }
    return true;
}

/* ---- attributes ---- */
bool erofs_reader_xattrs(struct erofs_reader *reader, const struct erofs_file *file, erofs_xattr_callback callback, void *user,
                         GError **error)
{
    static const guint8 zeros[EROFS_XATTR_HEADER];
    if (file->xattrs_size == 0)
        return true;
    g_autofree guint8 *body = g_malloc(file->xattrs_size);
    if (!erofs_reader_pread(reader, erofs_inode_offset(reader, file->nid) + EROFS_INODE, body, file->xattrs_size, error))
        return false;
    if (memcmp(body, zeros, sizeof zeros) != 0)
        return bad(error, "attributes");
    for (gsize at = EROFS_XATTR_HEADER; at < file->xattrs_size;) {
        if (file->xattrs_size - at < 4)
            return bad(error, "attributes");
        gsize name_length = body[at], size = get16(body + at + 2);
        enum erofs_xattr_index index = body[at + 1];
        at += 4;
        gsize padded = (gsize)erofs_round_up(name_length + size, 4);
        if (padded > file->xattrs_size - at || memchr(body + at, '\0', name_length) ||
            memcmp(body + at + name_length + size, zeros, padded - name_length - size) != 0)
            return bad(error, "attributes");
        g_autofree char *name = g_strndup((const char *)body + at, name_length);
        if (!callback(user, index, name, body + at + name_length, size, error))
            return false;
        at += padded;
    }
    return true;
}

/* ---- content ---- */
char *erofs_reader_target(struct erofs_reader *reader, const struct erofs_file *file, GError **error)
{
    guint64 at = file->layout == EROFS_FLAT_INLINE ? erofs_inode_offset(reader, file->nid) + EROFS_INODE + file->xattrs_size
                                                   : (guint64)file->where * EROFS_BLOCK;
    g_autofree char *target = g_malloc0((gsize)file->size + 1);
    if (!S_ISLNK(file->mode) || at + file->size > (guint64)reader->super.n_blocks * EROFS_BLOCK) {
        bad(error, "link");
        return NULL;
    }
    if (!erofs_reader_pread(reader, at, target, (gsize)file->size, error))
        return NULL;
    if (strlen(target) != file->size) {
        bad(error, "link");
        return NULL;
    }
    return g_steal_pointer(&target);
}

bool erofs_reader_pieces(struct erofs_reader *reader, const struct erofs_file *file, erofs_piece_callback callback, void *user,
                         GError **error)
{
    if (!S_ISREG(file->mode) || file->size == 0)
        return S_ISREG(file->mode) || bad(error, "file");
    if (file->layout == EROFS_FLAT_PLAIN)
        return callback(user, 0, file->size, file->where, error);
    unsigned bits = EROFS_BLOCK_BITS + file->where;
    guint64 chunk = G_GUINT64_CONSTANT(1) << bits, n = (file->size - 1) / chunk + 1;
    guint64 at = erofs_inode_offset(reader, file->nid) + EROFS_INODE + file->xattrs_size;
    if (n * 4 > (guint64)reader->super.n_blocks * EROFS_BLOCK - at)
        return bad(error, "file");
    for (guint64 i = 0; i < n; i++) {
        guint8 raw[4];
        if (!erofs_reader_pread(reader, at + i * 4, raw, sizeof raw, error))
            return false;
        guint32 block = get32(raw);
        if (block != EROFS_HOLE && !callback(user, i * chunk, MIN(chunk, file->size - i * chunk), block, error))
            return false;
    }
    return true;
}
