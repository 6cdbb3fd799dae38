#include "base/digest.h"

#include "base/fd.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

struct hasher {
    EVP_MD_CTX *context;
};

bool digest_is_valid(const char *text)
{
    if (!text || strncmp(text, DIGEST_PREFIX, strlen(DIGEST_PREFIX)) != 0)
        return false;
    const char *hex = text + strlen(DIGEST_PREFIX);
    return strspn(hex, "0123456789abcdef") == DIGEST_HEX_LENGTH && hex[DIGEST_HEX_LENGTH] == '\0';
}

const char *digest_hex(const char *digest)
{
    return digest + strlen(DIGEST_PREFIX);
}

struct hasher *hasher_new(void)
{
    struct hasher *hasher = g_new0(struct hasher, 1);
    hasher->context = EVP_MD_CTX_new();
    if (!hasher->context || EVP_DigestInit_ex(hasher->context, EVP_sha256(), NULL) != 1)
        g_error("sha256 is not available");
    return hasher;
}

void hasher_update(struct hasher *hasher, const void *data, size_t length)
{
    EVP_DigestUpdate(hasher->context, data, length);
}

void hasher_finish(struct hasher *hasher, char ret[DIGEST_ROOM])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char raw[32];
    unsigned length = 0;
    EVP_DigestFinal_ex(hasher->context, raw, &length);
    char *out = stpcpy(ret, DIGEST_PREFIX);
    for (unsigned i = 0; i < sizeof raw; i++) {
        *out++ = digits[raw[i] >> 4];
        *out++ = digits[raw[i] & 15];
    }
    *out = '\0';
}

void hasher_free(struct hasher *hasher)
{
    if (!hasher)
        return;
    EVP_MD_CTX_free(hasher->context);
    g_free(hasher);
}

void digest_of(const void *data, size_t length, char ret[DIGEST_ROOM])
{
    struct hasher *hasher = hasher_new();
    hasher_update(hasher, data, length);
    hasher_finish(hasher, ret);
    hasher_free(hasher);
}

bool digest_of_fd(int fd, char ret[DIGEST_ROOM], GError **error)
{
    enum { CHUNK = 1 << 18 };
    g_autofree char *buffer = g_malloc(CHUNK);
    struct hasher *hasher = hasher_new();
    off_t at = 0;
    ssize_t n;
    while ((n = fd_pread_full(fd, buffer, CHUNK, at)) > 0) {
        hasher_update(hasher, buffer, (size_t)n);
        at += n;
    }
    int saved = errno;
    hasher_finish(hasher, ret);
    hasher_free(hasher);
    return n == 0 || error_set_errno(error, saved, "read");
}
