/* First line: a pattern or a path; the rest: a name to match, and rules of a .dockerignore. */
#include "build/build-internal.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size);
int LLVMFuzzerTestOneInput(const guint8 *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    char *feed = strchr(text, '\n');

    if (!feed)
        return 0;
    *feed = '\0';
    copy_match(text, feed + 1);
    dockerignore_excludes(feed + 1, text);
    return 0;
}
