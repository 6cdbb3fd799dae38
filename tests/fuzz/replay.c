/* Runs a fuzz target over the files of a directory: how the corpora become ordinary tests. */
#include <dirent.h>
#include <glib.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    unsigned count = 0;
    GDir *dir = argc == 2 ? g_dir_open(argv[1], 0, NULL) : NULL;
    if (!dir) {
        fprintf(stderr, "no corpus: %s\n", argc == 2 ? argv[1] : "");
        return 1;
    }
    for (const char *name; (name = g_dir_read_name(dir)); count++) {
        g_autofree char *path = g_build_filename(argv[1], name, NULL);
        g_autofree char *data = NULL;
        gsize size;
        if (!g_file_get_contents(path, &data, &size, NULL))
            return 1;
        LLVMFuzzerTestOneInput((const uint8_t *)data, size);
    }
    g_dir_close(dir);
    printf("%u inputs\n", count);
    return count == 0;
}
