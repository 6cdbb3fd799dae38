/* Contexts of builds: what of a directory is sent, and how it becomes a tar. */
#pragma once

#include "cli/cli-internal.h"

/* ---- dockerignore.c: pure ---- */

#define IGNORE_TEXT_MAX (4u << 20)
#define IGNORE_PATTERNS_MAX 100000

struct ignore;
/* Patterns of a .dockerignore's text: comments, blank lines and leading slashes are dealt with. */
GPtrArray *ignore_read(const char *text, gsize length);
/* NULL and "syntax error in pattern" for a malformed one. patterns: of strings, NULL-terminated not needed. */
struct ignore *ignore_new(const GPtrArray *patterns, GError **error);
void ignore_free(struct ignore *ignore);
/* A path, relative and clean, is left out. Its parents are asked too: the last pattern that matches any of them decides. */
bool ignore_matches(const struct ignore *ignore, const char *path);
/* A left-out directory may hold something that is let in again. */
bool ignore_may_hold(const struct ignore *ignore, const char *directory);
/* Go's path.Clean. g_free. */
char *path_clean(const char *path);

/* ---- tar_pack.c: a small writer of ustar and pax, bytes to an fd ---- */

struct pack {
    int fd;
    guint64 sent;
    void (*progress)(guint64 sent, void *user); /* after each piece; may be NULL */
    void *user;
};
struct pack_entry {
    const char *name, *link;
    guint32 mode, uid, gid;
    char type; /* '0' file, '1' hard link, '2' symbolic link, '3' '4' devices, '5' directory, '6' FIFO */
    guint64 size;
    gint64 mtime;
    guint32 major, minor;
    const void *capability; /* security.capability, or NULL */
    gsize capability_size;
};
bool pack_header(struct pack *pack, const struct pack_entry *entry, GError **error);
bool pack_data(struct pack *pack, const void *data, gsize length, GError **error);
bool pack_padding(struct pack *pack, guint64 size, GError **error);
bool pack_end(struct pack *pack, GError **error);

/* ---- build_context.c ---- */

struct extra_dockerfile { /* a Dockerfile that does not come from the context */
    char *name;
    char *text;
    gsize length;
};
/* Writes a directory as a tar; excludes are of .dockerignore. */
/* One file or tree parent/name as `as`, with its owners; name NULL: what is in parent. For cp. */
bool context_pack_entry(struct pack *pack, const char *parent, const char *name, const char *as, GError **error);
bool context_pack(struct pack *pack, const char *directory, const struct ignore *ignore, const struct extra_dockerfile *extra,
                  GError **error);
