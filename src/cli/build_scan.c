/* A directory as a context, before anything of it is read: what is in it, in the order of names, without what is left out. */
#include "cli/build-internal.h"

#include "base/digest.h"
#include "base/fd.h"
#include "base/size.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define UNSETTLED_NS 100000000 /* younger than this a file may change again without its times telling */
#define BLOCK 512
#define HUGE (G_GUINT64_CONSTANT(1) << 30)
#define LARGEST 5

static void entry_clear(gpointer data)
{
    struct scan_entry *entry = data;

    g_free(entry->path);
    g_free(entry->link);
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

GPtrArray *context_list_names(int dirfd, const char *path, GError **error)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;

    if (!stream) {
        error_set(error, TARE_ERROR_INVALID, "error checking context: can't stat '%s'", path);
        fd_close(fd);
        return NULL;
    }
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    for (struct dirent *entry; (entry = readdir(stream));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            g_ptr_array_add(names, g_strdup(entry->d_name));
    closedir(stream);
    g_ptr_array_sort(names, by_name);
    return names;
}

char *context_read_link(int dirfd, const char *name)
{
    for (gsize room = 256; room <= 65536; room *= 4) {
        g_autofree char *text = g_malloc(room);
        ssize_t n = readlinkat(dirfd, name, text, room);

        if (n < 0)
            return NULL;
        if ((gsize)n < room)
            return g_strndup(text, (gsize)n);
    }
    return NULL;
}

static guint64 bytes_in_tar(const struct scan_entry *entry)
{
    guint64 size = S_ISREG(entry->stat.st_mode) ? (guint64)entry->stat.st_size : 0;
    gsize name = strlen(entry->path) + S_ISDIR(entry->stat.st_mode);

    /* Long names and links take a pax header of two blocks, mostly. */
    return BLOCK + (size + BLOCK - 1) / BLOCK * BLOCK +
           (name > 255 || (entry->link && strlen(entry->link) > 100) ? 2 * BLOCK : 0);
}

bool context_walk(int dirfd, const char *path, guint depth, context_visit_func *visit, void *user, GError **error)
{
    if (depth > CONTEXT_DEPTH_MAX)
        return error_set(error, TARE_ERROR_TOO_LARGE, "context is deeper than %d directories", CONTEXT_DEPTH_MAX);
    g_autoptr(GPtrArray) names = context_list_names(dirfd, path, error);

    if (!names)
        return false;
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *child = *path ? g_strconcat(path, "/", names->pdata[i], NULL) : g_strdup(names->pdata[i]);

        if (!visit(user, dirfd, names->pdata[i], child, depth, error))
            return false;
    }
    return true;
}

bool context_descend(int dirfd, const char *name, const char *path, guint depth, context_visit_func *visit, void *user,
                     GError **error)
{
    g_autofd int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return error_set(error, TARE_ERROR_INVALID, "error checking context: can't stat '%s'", path);
    return context_walk(fd, path, depth + 1, visit, user, error);
}

/* A "/" sorts before all else: the order in which a directory is walked. */
static int compare_paths(const char *a, const char *b)
{
    for (; *a && *a == *b; a++)
        b++;
    if (!*a || !*b)
        return *a ? 1 : *b ? -1 : 0;
    if (*a == '/' || *b == '/')
        return *a == '/' ? -1 : 1;
    return (guchar)*a < (guchar)*b ? -1 : 1;
}

/* A file that is not in the directory, or not so: it takes the place of what is there. */
void context_scan_put(struct context_scan *scan, const char *path, const char *text, gsize length)
{
    struct scan_entry entry = { .path = g_strdup(path), .text = text, .length = length };
    guint at = 0;

    while (at < scan->entries->len && compare_paths(g_array_index(scan->entries, struct scan_entry, at).path, path) < 0)
        at++;
    if (at < scan->entries->len && strcmp(g_array_index(scan->entries, struct scan_entry, at).path, path) == 0) {
        entry.stat = g_array_index(scan->entries, struct scan_entry, at).stat;
        scan->bytes -= bytes_in_tar(&g_array_index(scan->entries, struct scan_entry, at));
        g_array_remove_index(scan->entries, at);
    } else {
        entry.stat.st_mode = S_IFREG | 0600;
        entry.stat.st_mtim.tv_sec = g_get_real_time() / G_USEC_PER_SEC;
    }
    entry.stat.st_size = (off_t)length;
    entry.stat.st_nlink = 1;
    scan->bytes += bytes_in_tar(&entry);
    g_array_insert_val(scan->entries, at, entry);
}

struct context_scan *context_scan_new(const char *directory, const struct ignore *ignore, GError **error)
{
    struct context_scan *scan = g_new0(struct context_scan, 1);

    scan->entries = g_array_new(FALSE, FALSE, sizeof(struct scan_entry));
    g_array_set_clear_func(scan->entries, entry_clear);
    scan->bytes = 2 * BLOCK;
    scan->now_ns = g_get_real_time() * 1000;
    scan->fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (scan->fd < 0) {
        error_set_errno(error, errno, "open %s", directory);
        context_scan_free(scan);
        return NULL;
    }
    if (!context_scan_walk(scan, ignore, error)) {
        context_scan_free(scan);
        return NULL;
    }
    for (guint i = 0; i < scan->entries->len; i++)
        scan->bytes += bytes_in_tar(&g_array_index(scan->entries, struct scan_entry, i));
    return scan;
}

void context_scan_free(struct context_scan *scan)
{
    if (!scan)
        return;
    fd_close(scan->fd);
    g_array_unref(scan->entries);
    g_free(scan);
}

/* ---- what the engine is told beforehand ---- */

static gint64 nanoseconds(const struct timespec *time)
{
    return (gint64)time->tv_sec * G_GINT64_CONSTANT(1000000000) + time->tv_nsec;
}

/* Digits as printf has them, which would take longer than the look at the file. */
static char *put_digits(char *at, guint64 value, guint base)
{
    char digits[22];
    guint n = 0;

    do
        digits[n++] = "0123456789abcdef"[value % base];
    while ((value /= base) > 0);
    while (n > 0)
        *at++ = digits[--n];
    return at;
}

static char *put_stamp(char *at, const struct stat *stat)
{
    bool is_file = S_ISREG(stat->st_mode);

    at = put_digits(at, (guint64)nanoseconds(&stat->st_mtim), 16);
    *at++ = '.';
    at = put_digits(at, is_file ? (guint64)nanoseconds(&stat->st_ctim) : 0, 16);
    *at++ = '.';
    at = put_digits(at, (guint64)stat->st_ino, 16);
    *at++ = '.';
    return put_digits(at, (guint64)stat->st_rdev, 16);
}

static bool is_unsettled(const struct context_scan *scan, const struct stat *stat)
{
    gint64 limit = scan->now_ns - UNSETTLED_NS;

    return S_ISREG(stat->st_mode) && (nanoseconds(&stat->st_ctim) > limit || nanoseconds(&stat->st_mtim) > limit);
}

static void append_facts(GString *out, const struct context_scan *scan, const struct scan_entry *entry)
{
    const struct stat *stat = &entry->stat;
    char text[128], *at = text, digest[DIGEST_ROOM];

    at = put_digits(at, stat->st_mode, 8);
    *at++ = ' ';
    at = put_digits(at, S_ISREG(stat->st_mode) ? (guint64)stat->st_size : 0, 10);
    *at++ = ' ';
    if (!entry->text && is_unsettled(scan, stat))
        *at++ = '?';
    if (!entry->text)
        at = put_stamp(at, stat);
    g_string_append_len(out, text, at - text);
    if (entry->text) {
        digest_of(entry->text, entry->length, digest);
        g_string_append(out, digest_hex(digest));
    }
    if (entry->link) {
        g_string_append_c(out, ' ');
        g_string_append(out, entry->link);
    }
    g_string_append_c(out, '\0');
}

GString *context_scan_listing(const struct context_scan *scan)
{
    GString *out = g_string_sized_new((gsize)scan->entries->len * 128);

    for (guint i = 0; i < scan->entries->len; i++) {
        const struct scan_entry *entry = &g_array_index(scan->entries, struct scan_entry, i);

        append_facts(out, scan, entry);
        g_string_append_len(out, entry->path, (gssize)strlen(entry->path) + 1);
    }
    return out;
}

/* ---- a warning for the Dockerfile in "/" ---- */

struct weight {
    char *name;
    guint64 bytes;
};

static gint heavier_first(gconstpointer a, gconstpointer b)
{
    const struct weight *first = a, *second = b;

    return first->bytes > second->bytes ? -1 : first->bytes < second->bytes;
}

static void weight_clear(gpointer data)
{
    g_free(((struct weight *)data)->name);
}

char *context_scan_warning(const struct context_scan *scan)
{
    g_autoptr(GArray) weights = g_array_new(FALSE, FALSE, sizeof(struct weight));
    g_autofree char *all = size_human(scan->bytes, 3);
    GString *text;

    if (scan->bytes <= HUGE)
        return NULL;
    g_array_set_clear_func(weights, weight_clear);
    for (guint i = 0; i < scan->entries->len; i++) {
        const struct scan_entry *entry = &g_array_index(scan->entries, struct scan_entry, i);
        gsize length = strcspn(entry->path, "/");
        struct weight *last = weights->len ? &g_array_index(weights, struct weight, weights->len - 1) : NULL;

        if (!last || strncmp(last->name, entry->path, length) != 0 || last->name[length]) {
            struct weight weight = { g_strndup(entry->path, length), 0 };

            g_array_append_val(weights, weight);
            last = &g_array_index(weights, struct weight, weights->len - 1);
        }
        last->bytes += bytes_in_tar(entry);
    }
    g_array_sort(weights, heavier_first);
    text = g_string_new(NULL);
    g_string_append_printf(text, "WARNING: The build context has %s. Its largest entries:", all);
    for (guint i = 0; i < MIN(weights->len, LARGEST); i++) {
        g_autofree char *size = size_human(g_array_index(weights, struct weight, i).bytes, 3);

        g_string_append_printf(text, "%s %s (%s)", i ? "," : "", g_array_index(weights, struct weight, i).name, size);
    }
    g_string_append(text, ". What the build does not need can be left out with a .dockerignore file.\n");
    return g_string_free(text, FALSE);
}
