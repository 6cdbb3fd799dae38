/* Only what the Dockerfile can use of a directory is sent: the scan is cut down to it. */
#include "cli/build-internal.h"

#include <string.h>

/* Every directory that a pattern leads through: "a/b?/c" → "a", "a/b?". */
static void add_leading(GPtrArray *leading, const char *pattern)
{
    for (const char *slash = strchr(pattern, '/'); slash; slash = strchr(slash + 1, '/'))
        g_ptr_array_add(leading, g_strndup(pattern, (gsize)(slash - pattern)));
}

static bool read_patterns(const json_t *patterns, struct ignore **ret_wanted, struct ignore **ret_leading)
{
    g_autoptr(GPtrArray) wanted = g_ptr_array_new_with_free_func(g_free), leading = g_ptr_array_new_with_free_func(g_free);
    json_t *pattern;
    size_t i;

    json_array_foreach(patterns, i, pattern)
    {
        if (!json_is_string(pattern))
            return false;
        g_ptr_array_add(wanted, g_strdup(json_string_value(pattern)));
        add_leading(leading, json_string_value(pattern));
    }
    *ret_wanted = ignore_new(wanted, NULL);
    *ret_leading = *ret_wanted ? ignore_new(leading, NULL) : NULL;
    return *ret_leading != NULL;
}

static bool is_always(const char *path, const char *const *always, gsize n_always)
{
    for (gsize i = 0; i < n_always; i++)
        if (always[i] && strcmp(path, always[i]) == 0)
            return true;
    return false;
}

static bool is_below_wanted(const struct ignore *wanted, const char *path)
{
    const char *slash = strrchr(path, '/');
    g_autofree char *parent = slash ? g_strndup(path, (gsize)(slash - path)) : NULL;

    return parent && ignore_matches(wanted, parent);
}

/* A link that a source leads through or to would need what it points at. */
static bool is_in_the_way(const struct scan_entry *entry, const struct ignore *wanted, const struct ignore *leading)
{
    if (!entry->link)
        return false;
    return ignore_matches(wanted, entry->path) ? !is_below_wanted(wanted, entry->path) : ignore_matches(leading, entry->path);
}

/* From the end: whether something in a directory stays is known when it is come to. */
static bool choose(const struct context_scan *scan, const struct ignore *wanted, const struct ignore *leading,
                   const char *const *always, gsize n_always, guint8 *keep)
{
    g_autoptr(GHashTable) parents = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = scan->entries->len; i-- > 0;) {
        const struct scan_entry *entry = &g_array_index(scan->entries, struct scan_entry, i);
        const char *slash = strrchr(entry->path, '/');

        if (is_in_the_way(entry, wanted, leading))
            return false;
        keep[i] = is_always(entry->path, always, n_always) || g_hash_table_contains(parents, entry->path) ||
                  ignore_matches(wanted, entry->path);
        if (keep[i] && slash)
            g_hash_table_add(parents, g_strndup(entry->path, (gsize)(slash - entry->path)));
    }
    return true;
}

bool context_scan_restrict(struct context_scan *scan, const json_t *patterns, const char *const *always, gsize n_always)
{
    struct ignore *wanted = NULL, *leading = NULL;
    g_autofree guint8 *keep = g_new0(guint8, scan->entries->len + 1);
    bool good = read_patterns(patterns, &wanted, &leading) && choose(scan, wanted, leading, always, n_always, keep);
    guint n = 0;

    ignore_free(wanted);
    ignore_free(leading);
    if (!good)
        return false;
    for (guint i = 0; i < scan->entries->len; i++) {
        struct scan_entry *entry = &g_array_index(scan->entries, struct scan_entry, i);

        if (keep[i] && i != n) { /* the places change, so that nothing is freed twice */
            struct scan_entry other = g_array_index(scan->entries, struct scan_entry, n);

            g_array_index(scan->entries, struct scan_entry, n) = *entry;
            *entry = other;
        }
        n += keep[i];
    }
    g_array_set_size(scan->entries, n);
    return true;
}
