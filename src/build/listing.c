/* What a client's directory has: paths with what stat says of them, in the order of a walk. Pure: bytes of a client come in. */
#include "build/build-internal.h"

#include <string.h>

#define BLOCK 512u

/* A "/" sorts before all else, so that what is in a directory follows it at once. */
int listing_compare_paths(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    if (*a == *b)
        return 0;
    if (!*a || !*b)
        return *a ? 1 : -1;
    if (*a == '/' || *b == '/')
        return *a == '/' ? -1 : 1;
    return (guchar)*a < (guchar)*b ? -1 : 1;
}

static bool path_is_clean(const char *path)
{
    const char *at = path;

    if (!*path)
        return false;
    for (;;) {
        gsize n = strcspn(at, "/");

        if (n == 0 || (n == 1 && at[0] == '.') || (n == 2 && at[0] == '.' && at[1] == '.'))
            return false;
        if (!at[n])
            return true;
        at += n + 1;
    }
}

void listing_free(struct listing *listing)
{
    if (!listing)
        return;
    if (listing->mapping)
        g_mapped_file_unref(listing->mapping);
    else
        g_free((char *)listing->data);
    g_array_unref(listing->entries);
    g_free(listing);
}

/* The text up to the next NUL, or NULL where there is none. */
static const char *next_text(const char **at, const char *end)
{
    const char *text = *at, *stop = memchr(text, '\0', (gsize)(end - text));

    if (!stop)
        return NULL;
    *at = stop + 1;
    return text;
}

static bool read_entries(struct listing *listing, GError **error)
{
    const char *at = listing->data, *end = at + listing->length, *before = NULL;

    while (at < end) {
        struct listing_entry entry;

        entry.facts = next_text(&at, end);
        entry.path = entry.facts && at < end ? next_text(&at, end) : NULL;
        if (!entry.path)
            return error_set(error, TARE_ERROR_INVALID, "the context's listing is cut short");
        if (listing->entries->len >= LISTING_ENTRIES_MAX)
            return error_set(error, TARE_ERROR_TOO_LARGE, "the context has more than %u entries", LISTING_ENTRIES_MAX);
        if (!path_is_clean(entry.path) || (before && listing_compare_paths(before, entry.path) >= 0))
            return error_set(error, TARE_ERROR_INVALID, "the context's listing is out of order at \"%s\"", entry.path);
        before = entry.path;
        g_array_append_val(listing->entries, entry);
    }
    return true;
}

static bool parse(const char *data, gsize length, GMappedFile *mapping, struct listing **ret, GError **error)
{
    struct listing *listing = g_new0(struct listing, 1);

    listing->data = data;
    listing->length = length;
    listing->mapping = mapping;
    listing->entries = g_array_new(FALSE, FALSE, sizeof(struct listing_entry));
    if (!read_entries(listing, error)) {
        listing_free(listing);
        return false;
    }
    *ret = listing;
    return true;
}

bool listing_parse(char *data, gsize length, struct listing **ret, GError **error)
{
    return parse(data, length, NULL, ret, error);
}

bool listing_parse_mapped(GMappedFile *mapping, gsize offset, gsize length, struct listing **ret, GError **error)
{
    return parse(g_mapped_file_get_contents(mapping) + offset, length, g_mapped_file_ref(mapping), ret, error);
}

/* Digits at *text up to a blank, which is passed. */
static bool take_number(const char **text, guint base, guint64 max, guint64 *ret)
{
    const char *at = *text;
    guint64 value = 0;

    for (; *at >= '0' && *at < (char)('0' + base); at++) {
        guint digit = (guint)(*at - '0');

        if (value > (max - digit) / base)
            return false;
        value = value * base + digit;
    }
    if (at == *text || *at != ' ')
        return false;
    *text = at + 1;
    *ret = value;
    return true;
}

bool listing_read_facts(const char *facts, struct listing_facts *ret)
{
    const char *blank;
    guint64 mode, size;

    if (!take_number(&facts, 8, 0177777, &mode) || !take_number(&facts, 10, G_MAXINT64, &size))
        return false;
    blank = strchr(facts, ' ');
    ret->stamp = facts;
    ret->link = blank ? blank + 1 : NULL;
    ret->mode = (mode_t)mode;
    ret->size = size;
    return true;
}

/* 2^64 - 1 is never passed: each step adds less than 2^63 + 1024 to what is at most 2^63. */
guint64 listing_tar_bytes(const struct listing *listing)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    guint64 bytes = 2 * BLOCK;

    for (guint i = 0; i < listing->entries->len && bytes <= G_MAXINT64; i++) {
        struct listing_facts facts;

        bytes += BLOCK;
        if (listing_read_facts(g_array_index(listing->entries, struct listing_entry, i).facts, &facts) && facts.size > 0 &&
            g_hash_table_add(seen, (void *)facts.stamp))
            bytes += (facts.size + BLOCK - 1) / BLOCK * BLOCK;
    }
    return bytes;
}

static bool is_same(const struct listing_entry *old, const struct listing_entry *new)
{
    struct listing_facts facts;

    /* A stamp of "?" is of a file that may have changed again within the clock's grain. */
    return strcmp(old->facts, new->facts) == 0 && listing_read_facts(new->facts, &facts) && facts.stamp[0] != '?';
}

static bool is_below(const char *path, const char *directory)
{
    gsize length = strlen(directory);

    return strncmp(path, directory, length) == 0 && path[length] == '/';
}

/* What hides it: a path that is no directory now, with which all below it has gone. */
static void note_removed(GPtrArray *removed, const char *path, const struct listing_entry *changed)
{
    const char *last = removed->len ? removed->pdata[removed->len - 1] : NULL;
    struct listing_facts facts;

    if (changed && is_below(path, changed->path) && listing_read_facts(changed->facts, &facts) && !S_ISDIR(facts.mode))
        return;
    if (!last || !is_below(path, last))
        g_ptr_array_add(removed, (void *)path);
}

void listing_diff(const struct listing *old, const struct listing *new, GArray *needed, GArray *kept, GPtrArray *removed)
{
    const struct listing_entry *changed = NULL;
    guint i = 0, j = 0;

    while (i < old->entries->len || j < new->entries->len) {
        const struct listing_entry *a = i < old->entries->len ? &g_array_index(old->entries, struct listing_entry, i) : NULL;
        const struct listing_entry *b = j < new->entries->len ? &g_array_index(new->entries, struct listing_entry, j) : NULL;
        int order = !a ? 1 : !b ? -1 : listing_compare_paths(a->path, b->path);

        if (order < 0) {
            note_removed(removed, a->path, changed);
        } else if (order == 0 && is_same(a, b)) {
            struct listing_pair pair = { i, j };

            g_array_append_val(kept, pair);
        } else {
            g_array_append_val(needed, j);
            changed = b;
        }
        i += order <= 0;
        j += order >= 0;
    }
}

guint listing_find(const struct listing *listing, const char *path)
{
    guint low = 0, high = listing->entries->len;

    while (low < high) {
        guint middle = low + (high - low) / 2;

        if (listing_compare_paths(g_array_index(listing->entries, struct listing_entry, middle).path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
