/* What build --check says: each warning with its lines, as docker's does. */
#include "cli/build-internal.h"

#include <string.h>

static void show_lines(const char *source, const char *name, int first, int last)
{
    g_auto(GStrv) lines = g_strsplit(source, "\n", -1);
    int n = (int)g_strv_length(lines);
    if (n > 0 && !*lines[n - 1])
        n--;
    print("%s:%d\n--------------------\n", name, first);
    for (int line = MAX(first - 2, 1); line <= MIN(last + 2, n); line++)
        print("%4d | %s %s\n", line, line >= first && line <= last ? ">>>" : "   ", lines[line - 1]);
    print("--------------------\n\n");
}

int build_show_check(const json_t *result)
{
    const json_t *warnings = json_get_array(result, "warnings");
    const char *source = json_get_string(result, "source", ""), *name = json_get_string(result, "dockerfile", "Dockerfile");
    size_t n = json_array_size(warnings), i;
    json_t *warning;
    if (n == 0) {
        print("Check complete, no warnings found.\n");
        return 0;
    }
    print(n == 1 ? "Check complete, 1 warning has been found!\n" : "Check complete, %zu warnings have been found!\n", n);
    json_array_foreach(warnings, i, warning)
    {
        print("\nWARNING: %s - %s\n%s\n", json_get_string(warning, "rule", ""), json_get_string(warning, "url", ""),
              json_get_string(warning, "message", ""));
        show_lines(source, name, (int)json_get_int(warning, "line", 0), (int)json_get_int(warning, "end", 0));
    }
    return 1;
}
