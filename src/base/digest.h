/* SHA-256 over streams, and the grammar of digests ("sha256:" and 64 small hexadecimal digits), which is checked before one
 * becomes part of a path. */
#pragma once

#include "base/error.h"

#define DIGEST_PREFIX "sha256:"
#define DIGEST_HEX_LENGTH 64
#define DIGEST_LENGTH 71 /* of the text, without its NUL */
#define DIGEST_ROOM (DIGEST_LENGTH + 1)

bool digest_is_valid(const char *text);
/* The 64 digits after the prefix; the text must be valid. */
const char *digest_hex(const char *digest);

/* Incremental hashing; not thread-safe, one at a time. */
struct hasher;
struct hasher *hasher_new(void);
void hasher_update(struct hasher *hasher, const void *data, size_t length);
/* Writes "sha256:…" and its NUL; the hasher can then only be freed. */
void hasher_finish(struct hasher *hasher, char ret[DIGEST_ROOM]);
void hasher_free(struct hasher *hasher);

void digest_of(const void *data, size_t length, char ret[DIGEST_ROOM]);
/* From the fd's offset 0 to its end, by pread: its position does not change. */
bool digest_of_fd(int fd, char ret[DIGEST_ROOM], GError **error);
