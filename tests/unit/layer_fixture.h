/* What the tests of layers share: tars of their own writing, indexing and mounting them, and comparing trees entry by entry.
 * Failures end the test. */
#pragma once

#include "base/fd.h"
#include "base/file.h"
#include "layer/erofs-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

struct layer {
    int tar_fd, index_fd;
    struct erofs_device device;
    struct layer_facts *facts;
    struct erofs_stats stats;
};

struct tar_file {
    struct fd_sink sink;
    struct tar_writer *writer;
};

/* Set-up and tear-down of a group: a directory that path_in and shell work in. */
int make_temporary(void **state);
int remove_temporary(void **state);
void shell(const char *script);
char *path_in(const char *name);
int open_dir(const char *name);
struct tar_file *tar_begin(const char *name);
void tar_add(struct tar_file *tar, char type, const char *path, const char *text);
void tar_end(struct tar_file *tar);
bool try_layer(const char *tar, struct layer *ret, GError **error);
struct layer make_layer(const char *tar);
bool check_layer(const struct layer *layer, GError **error);
void layer_close(struct layer *layer);
int mount_index(const char *index, const char *const *tars);
int mount_layer(const char *tar);
guint compare_trees(int a, int b, bool ignore_holes);
void compare_replay(const struct layer *layer, int other, bool ignore_holes);
guint compare_with_gnu_tar(const char *tar, bool ignore_holes);
char *attributes_of(int dirfd, const char *name);
void assert_text(int dir, const char *path, const char *expected);
mode_t mode_of(int dir, const char *path);
bool is_whiteout(int dir, const char *path);
bool is_opaque(int dir, const char *path);
