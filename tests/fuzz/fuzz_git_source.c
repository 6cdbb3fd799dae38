/* URL#ref:subdir. */
#include "base/git.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size < 16384 ? size : 0);
    struct git_source source;

    if (git_is_source(text) && git_source_parse(text, &source, NULL))
        git_source_clear(&source);
    return 0;
}
