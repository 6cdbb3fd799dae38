#include "layer/erofs-internal.h"

#include <errno.h>
#include <string.h>

/* What an index must fulfil beyond what erofs_reader checks of each part: the writer puts inodes, directories, targets and copies
 * in order and without gaps, and a directory before what is in it. So one pass over the inodes finds where everything must be,
 * and one over the directories proves the tree. */
struct check {
    struct erofs_reader *reader;
    guint64 meta_end;                         /* offset where the next inode must begin */
    guint64 *nids;                            /* of each inode by number; 0 is unused */
    guint32 *links;                           /* how often directories name it */
    guint32 *parents;                         /* of directories: the number of the directory that names it */
    guint64 next_dir, next_target, next_copy; /* blocks; 0: none seen yet */
    guint64 first_dir, first_target, first_copy;
};

static bool bad(GError **error, const char *what)
{
    return error_set(error, TARE_ERROR_INVALID, "layer index: bad %s", what);
}

/* ---- header ---- */
static bool is_zero(struct erofs_reader *reader, guint64 from, guint64 to, GError **error)
{
    guint8 bytes[EROFS_BLOCK];
    while (from < to) {
        gsize n = (gsize)MIN(to - from, sizeof bytes);
        if (!erofs_reader_pread(reader, from, bytes, n, error))
            return false;
        for (gsize i = 0; i < n; i++)
            if (bytes[i] != 0)
                return bad(error, "padding");
        from += n;
    }
    return true;
}

static bool check_header(struct check *check, int fd, const struct erofs_check_options *options, GError **error)
{
    const struct erofs_super *super = erofs_reader_super(check->reader);
    const struct erofs_device *devices;
    size_t n_devices = erofs_reader_devices(check->reader, &devices);
    guint8 uuid[16];
    struct stat status;
    if (fstat(fd, &status) < 0)
        return error_set_errno(error, errno, "stat layer index");
    if (!S_ISREG(status.st_mode) || (guint64)status.st_size != (guint64)super->n_blocks * EROFS_BLOCK)
        return bad(error, "length");
    erofs_uuid_of(options->id, uuid);
    if (memcmp(uuid, super->uuid, sizeof uuid) != 0)
        return bad(error, "identity");
    if (n_devices != options->n_devices)
        return bad(error, "device table");
    for (size_t i = 0; i < n_devices; i++)
        if (strcmp(devices[i].diff_id, options->devices[i].diff_id) != 0 ||
            devices[i].tar_bytes != options->devices[i].tar_bytes / EROFS_BLOCK * EROFS_BLOCK)
            return bad(error, "device table");
    return is_zero(check->reader, 0, EROFS_SUPER_AT, error) &&
           is_zero(check->reader, EROFS_SLOTS_AT + n_devices * EROFS_SLOT,
                   (guint64)super->header_blocks * EROFS_BLOCK + EROFS_NID_UNIT, error);
}

/* ---- first pass: inodes ---- */
static bool check_xattr(void *user, enum erofs_xattr_index index, const char *name, const void *value, gsize size, GError **error)
{
    const struct erofs_file *file = user;
    switch (index) {
    case EROFS_XATTR_ACL_ACCESS:
    case EROFS_XATTR_ACL_DEFAULT:
        return (!*name && erofs_acl_is_good(value, size)) || bad(error, "attributes");
    case EROFS_XATTR_TRUSTED:
        /* The one thing that we tell overlayfs. */
        if (g_str_has_prefix(name, "overlay."))
            return (strcmp(name, "overlay.opaque") == 0 && S_ISDIR(file->mode) && size == 1 && *(const char *)value == 'y') ||
                   bad(error, "attributes");
        return *name || bad(error, "attributes");
    case EROFS_XATTR_USER:
        return (*name && !g_str_has_prefix(name, "overlay.") && (S_ISREG(file->mode) || S_ISDIR(file->mode))) ||
               bad(error, "attributes");
    case EROFS_XATTR_SECURITY:
        return *name || bad(error, "attributes");
    default:
        return bad(error, "attributes");
    }
}

/* Blocks of one kind follow each other. */
static bool take_blocks(guint64 *first, guint64 *next, guint64 block, guint64 n, GError **error)
{
    if (*next == 0)
        *first = *next = block;
    if (block != *next)
        return bad(error, "block");
    *next += n;
    return true;
}

struct piece_check {
    struct check *check;
    const struct erofs_file *file;
};

static bool check_piece(void *user, guint64 offset, guint64 length, guint32 block, GError **error)
{
    struct piece_check *piece = user;
    struct erofs_reader *reader = piece->check->reader;
    guint64 n = erofs_round_up(length, EROFS_BLOCK) / EROFS_BLOCK;
    if (erofs_reader_find_device(reader, block, n) >= 0)
        return true;
    if (piece->file->layout != EROFS_CHUNK_BASED || block >= erofs_reader_super(reader)->n_blocks)
        return bad(error, "extent");
    /* A copied chunk is whole, unless it is the file's only one. */
    guint64 chunk = G_GUINT64_CONSTANT(1) << piece->file->where;
    if (chunk * EROFS_BLOCK < piece->file->size)
        n = chunk;
    return take_blocks(&piece->check->first_copy, &piece->check->next_copy, block, n, error);
}

static bool check_content(struct check *check, const struct erofs_file *file, guint64 *size, GError **error)
{
    guint64 n_blocks = erofs_round_up(file->size, EROFS_BLOCK) / EROFS_BLOCK;
    if (S_ISDIR(file->mode))
        return take_blocks(&check->first_dir, &check->next_dir, file->where, n_blocks, error);
    if (S_ISLNK(file->mode)) {
        g_autofree char *target = erofs_reader_target(check->reader, file, error);
        if (!target)
            return false;
        if (file->layout == EROFS_FLAT_PLAIN)
            return take_blocks(&check->first_target, &check->next_target, file->where, n_blocks, error);
        *size += file->size;
        guint64 within = erofs_inode_offset(check->reader, file->nid) % EROFS_BLOCK;
        return within + *size <= EROFS_BLOCK || bad(error, "link");
    }
    if (!S_ISREG(file->mode))
        return true;
    if (file->layout == EROFS_CHUNK_BASED) {
        if (!erofs_reader_super(check->reader)->has_chunks)
            return bad(error, "inode");
        *size += (((file->size - 1) >> (EROFS_BLOCK_BITS + file->where)) + 1) * 4;
    }
    struct piece_check piece = { check, file };
    return erofs_reader_pieces(check->reader, file, check_piece, &piece, error);
}

/* Inodes lie one behind the other; only before one with its target inside, the rest of a block may be left. */
static bool check_next_inode(struct check *check, guint32 number, GError **error)
{
    const struct erofs_super *super = erofs_reader_super(check->reader);
    guint64 base = (guint64)super->header_blocks * EROFS_BLOCK;
    struct erofs_file file;
    guint8 first;
    if (check->meta_end >= (guint64)super->n_blocks * EROFS_BLOCK)
        return bad(error, "inode");
    if (!erofs_reader_pread(check->reader, check->meta_end, &first, 1, error))
        return false;
    bool skipped = first == 0;
    if (skipped) {
        guint64 block_end = erofs_round_up(check->meta_end, EROFS_BLOCK);
        if (!is_zero(check->reader, check->meta_end, block_end, error))
            return false;
        check->meta_end = block_end;
    }
    if (!erofs_reader_inode(check->reader, (check->meta_end - base) / EROFS_NID_UNIT, &file, error))
        return false;
    if (file.number != number || (skipped && file.layout != EROFS_FLAT_INLINE))
        return bad(error, "inode");
    guint64 size = EROFS_INODE + file.xattrs_size;
    if (!erofs_reader_xattrs(check->reader, &file, check_xattr, &file, error) || !check_content(check, &file, &size, error))
        return false;
    check->nids[number] = file.nid;
    guint64 end = check->meta_end + erofs_round_up(size, EROFS_NID_UNIT);
    if (end > (guint64)super->n_blocks * EROFS_BLOCK || !is_zero(check->reader, check->meta_end + size, end, error))
        return bad(error, "inode");
    check->meta_end = end;
    return true;
}

static bool check_inodes(struct check *check, GError **error)
{
    const struct erofs_super *super = erofs_reader_super(check->reader);
    check->meta_end = erofs_inode_offset(check->reader, EROFS_ROOT_NID);
    for (guint32 number = 1; number <= super->n_inodes; number++)
        if (!check_next_inode(check, number, error)) {
            g_prefix_error(error, "inode %u: ", number);
            return false;
        }
    guint64 block = erofs_round_up(check->meta_end, EROFS_BLOCK) / EROFS_BLOCK;
    if (!is_zero(check->reader, check->meta_end, block * EROFS_BLOCK, error))
        return false;
    if (check->first_dir != block)
        return bad(error, "directory");
    block = check->next_dir;
    if (check->next_target != 0) {
        if (check->first_target != block)
            return bad(error, "link");
        block = check->next_target;
    }
    if (check->next_copy != 0) {
        if (check->first_copy != block)
            return bad(error, "extent");
        block = check->next_copy;
    }
    return block == super->n_blocks || bad(error, "length");
}

/* ---- second pass: directories ---- */
struct dir_check {
    struct check *check;
    const struct erofs_file *dir;
    unsigned n_dots;
    guint32 n_subdirectories;
};

static bool check_entry(void *user, const char *name, gsize length, guint64 nid, guint8 type, GError **error)
{
    struct dir_check *dir = user;
    struct check *check = dir->check;
    struct erofs_file file;
    if (!erofs_reader_inode(check->reader, nid, &file, error))
        return false;
    if (check->nids[file.number] != nid || erofs_dirent_type(file.mode) != type)
        return bad(error, "directory");
    if (name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.'))) {
        guint32 expected = length == 1 ? dir->dir->number : check->parents[dir->dir->number];
        dir->n_dots++;
        return file.number == expected || bad(error, "directory");
    }
    check->links[file.number]++;
    if (!S_ISDIR(file.mode))
        return true;
    /* After its parent, and in one directory only: so there is no circle. */
    if (file.number <= dir->dir->number || check->links[file.number] != 1)
        return bad(error, "directory");
    check->parents[file.number] = dir->dir->number;
    dir->n_subdirectories++;
    return true;
}

static bool check_directories(struct check *check, GError **error)
{
    const struct erofs_super *super = erofs_reader_super(check->reader);
    check->parents[1] = 1;
    for (guint32 number = 1; number <= super->n_inodes; number++) {
        struct erofs_file file;
        if (!erofs_reader_inode(check->reader, check->nids[number], &file, error))
            return false;
        if (!S_ISDIR(file.mode)) {
            if (number == 1)
                return bad(error, "root");
            continue;
        }
        if (number > 1 && check->links[number] != 1)
            return bad(error, "directory");
        struct dir_check dir = { .check = check, .dir = &file };
        if (!erofs_reader_list(check->reader, &file, check_entry, &dir, error))
            return false;
        if (dir.n_dots != 2 || file.n_links != 2 + dir.n_subdirectories)
            return bad(error, "directory");
        if (!is_zero(check->reader, (guint64)file.where * EROFS_BLOCK + file.size,
                     erofs_round_up((guint64)file.where * EROFS_BLOCK + file.size, EROFS_BLOCK), error))
            return false;
    }
    for (guint32 number = 2; number <= super->n_inodes; number++) {
        struct erofs_file file;
        if (!erofs_reader_inode(check->reader, check->nids[number], &file, error))
            return false;
        if (!S_ISDIR(file.mode) && file.n_links != check->links[number])
            return bad(error, "link count");
    }
    return true;
}

bool erofs_check(int index_fd, const struct erofs_check_options *options, GError **error)
{
    g_autoptr(erofs_reader) reader = NULL;
    if (!erofs_reader_open(index_fd, &reader, error))
        return false;
    struct check check = { .reader = reader };
    if (!check_header(&check, index_fd, options, error))
        return false;
    /* At most one inode per 64 bytes of a file whose length is now known. */
    gsize n = (gsize)erofs_reader_super(reader)->n_inodes + 1;
    check.nids = g_new0(guint64, n);
    check.links = g_new0(guint32, n);
    check.parents = g_new0(guint32, n);
    bool ok = check_inodes(&check, error) && check_directories(&check, error);
    g_free(check.nids);
    g_free(check.links);
    g_free(check.parents);
    return ok;
}
