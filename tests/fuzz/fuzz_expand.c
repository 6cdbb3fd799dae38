/* The first line is the value of $x, the second a word, --mount or --chmod; the rest a here-document. */
#include "build/build-internal.h"

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size);
int LLVMFuzzerTestOneInput(const guint8 *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, MIN(size, 4096));
    g_auto(GStrv) lines = g_strsplit(text, "\n", 3);
    g_autoptr(GHashTable) variables = g_hash_table_new(g_str_hash, g_str_equal);
    struct run_mount *mount;
    mode_t mode;

    if (g_strv_length(lines) < 3)
        return 0;
    g_hash_table_insert(variables, (char *)"x", lines[0]);
    g_strfreev(expand_words(lines[1], variables, '\\', NULL));
    g_free(expand_text(lines[2], variables, NULL));
    if (run_mount_parse(lines[1], variables, '`', &mount, NULL))
        run_mount_free(mount);
    copy_mode_apply(lines[1], 0644, false, &mode);
    heredoc_free(heredoc_of_word(lines[1]));
    return 0;
}
