/* A place for each test of the layer store: a directory, a store in it, and trees as text to compare. Tests run in a mount
 * namespace of their own, as root. */
#pragma once

#include "base/digest.h"
#include "layer/mounts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

struct place {
    char *directory, *root;
    struct layer_store *store;
    guint n_fds; /* before the store was opened */
};

#define MAKE_BASE                                                                                                               \
    "mkdir -p base/etc base/usr/bin base/var/deep/er base/gone\n"                                                               \
    "echo root:x:0:0 > base/etc/passwd; chmod 640 base/etc/passwd; chown 7:8 base/etc/passwd\n"                                 \
    "head -c 100000 /dev/urandom > base/usr/bin/tool; chmod 4755 base/usr/bin/tool; ln base/usr/bin/tool base/usr/bin/same\n"   \
    "ln -s ../usr/bin/tool base/etc/link; mkfifo base/var/pipe; mknod base/var/null c 1 3; mknod base/var/disk b 259 300\n"     \
    "echo x > base/gone/file; echo y > base/var/deep/er/file; : > base/empty; setfattr -n user.note -v hello base/etc/passwd\n" \
    "setcap cap_net_raw=ep base/usr/bin/tool; chmod 1777 base/var/deep; touch -d @1000000000 base/empty\n"                      \
    "T='tar --xattrs --xattrs-include=* --format=posix --pax-option=delete=atime,delete=ctime'; $T -C base -cf base.tar .\n"

guint count_fds(void);
void open_store(struct place *place, const struct layer_store_options *options);
int set_up(void **state);
int tear_down(void **state);
void shell(const struct place *place, const char *script);
guint count_files(const struct place *place, const char *below);
bool ingest_with(struct place *place, const char *name, struct layer_ingest_options *options, struct layer_info *info,
                 GError **error);
struct layer_info ingest(struct place *place, const char *name);
void digest_file(const struct place *place, const char *name, char ret[DIGEST_ROOM]);
void assert_ingest_fails(struct place *place, const char *name, struct layer_ingest_options options, enum tare_error code,
                         const char *message);
char *describe_fd(int fd);
char *describe_path(const struct place *place, const char *name);
char *describe_chain(struct place *place, const char *const *diff_ids);
void assert_chain_is(struct place *place, const char *const *diff_ids, const char *directory);

#define T(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)
/* Enters a mount namespace, so that nothing of the tests is seen outside; false and a message without the right. */
bool own_mounts(const char *program);
