/* TLS by OpenSSL, which is loaded only here: a command that does not need it starts without paying for it. */
#include "cli/cli-internal.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/* Every function that is used, under its own name; tls_load fills the table. */
/* The formatter moves the backslashes each time. */
/* clang-format off */
#define TLS_FUNCTIONS(F)                                                                                             \
    F(SSL_CTX_new)                                                                                                   \
    F(SSL_CTX_free) F(TLS_client_method) F(SSL_CTX_ctrl) F(SSL_CTX_set_verify) F(SSL_CTX_set_default_verify_paths)   \
        F(SSL_CTX_load_verify_locations) F(SSL_CTX_use_certificate_chain_file) F(SSL_CTX_use_PrivateKey_file)        \
            F(SSL_CTX_check_private_key) F(SSL_new) F(SSL_free) F(SSL_set_fd) F(SSL_ctrl) F(SSL_connect) F(SSL_read) \
                F(SSL_write) F(SSL_pending) F(SSL_shutdown) F(SSL_get_error) F(SSL_set1_host) F(SSL_get0_param)      \
                    F(SSL_get_verify_result)
#define CRYPTO_FUNCTIONS(F) \
    F(ERR_get_error) F(ERR_reason_error_string) F(X509_VERIFY_PARAM_set1_ip_asc) F(X509_verify_cert_error_string)
/* clang-format on */

#define DECLARE(name) __typeof__(name) *name;
struct openssl {
    TLS_FUNCTIONS(DECLARE) CRYPTO_FUNCTIONS(DECLARE)
};

struct tls {
    struct openssl lib;
    SSL_CTX *context;
    SSL *ssl;
    const char *problem; /* of the last read or write, a constant; NULL before */
};

static bool tls_load(struct openssl *lib, GError **error)
{
    void *ssl = dlopen("libssl.so.3", RTLD_NOW | RTLD_GLOBAL), *crypto = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_GLOBAL);
    const char *missing = ssl && crypto ? NULL : "libssl.so.3";
#define FIND(from, name)                                                      \
    if (!missing && !(lib->name = (__typeof__(lib->name))dlsym(from, #name))) \
        missing = #name;
#define FIND_TLS(name) FIND(ssl, name)
#define FIND_CRYPTO(name) FIND(crypto, name)
    TLS_FUNCTIONS(FIND_TLS)
    CRYPTO_FUNCTIONS(FIND_CRYPTO)
    return !missing || error_set(error, TARE_ERROR_INTERNAL, "TLS needs OpenSSL 3 (%s is missing)", missing);
}

static bool tls_fail(struct tls *tls, const char *what, GError **error)
{
    unsigned long code = tls->lib.ERR_get_error();
    const char *reason = code ? tls->lib.ERR_reason_error_string(code) : NULL;
    return error_set(error, TARE_ERROR_UNAVAILABLE, "%s: %s", what, reason ? reason : "unknown error");
}

static bool tls_configure(struct tls *tls, const struct endpoint *endpoint, GError **error)
{
    struct openssl *lib = &tls->lib;
    lib->SSL_CTX_ctrl(tls->context, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL);
    lib->SSL_CTX_set_verify(tls->context, endpoint->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (endpoint->ca && lib->SSL_CTX_load_verify_locations(tls->context, endpoint->ca, NULL) != 1)
        return tls_fail(tls, "could not load X509 CA certificates", error);
    if (!endpoint->ca)
        lib->SSL_CTX_set_default_verify_paths(tls->context);
    if (!endpoint->certificate || !endpoint->key)
        return true;
    if (lib->SSL_CTX_use_certificate_chain_file(tls->context, endpoint->certificate) != 1 ||
        lib->SSL_CTX_use_PrivateKey_file(tls->context, endpoint->key, SSL_FILETYPE_PEM) != 1 ||
        lib->SSL_CTX_check_private_key(tls->context) != 1)
        return tls_fail(tls, "could not load X509 key pair", error);
    return true;
}

static bool tls_expect_host(struct tls *tls, const char *host)
{
    unsigned char room[16];
    if (inet_pton(AF_INET, host, room) == 1 || inet_pton(AF_INET6, host, room) == 1)
        return tls->lib.X509_VERIFY_PARAM_set1_ip_asc(tls->lib.SSL_get0_param(tls->ssl), host) == 1;
    tls->lib.SSL_ctrl(tls->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, (void *)host);
    return tls->lib.SSL_set1_host(tls->ssl, host) == 1;
}

static bool tls_handshake(struct tls *tls, int fd, const struct endpoint *endpoint, GError **error)
{
    struct openssl *lib = &tls->lib;
    tls->context = lib->SSL_CTX_new(lib->TLS_client_method());
    if (!tls->context || !tls_configure(tls, endpoint, error))
        return tls->context ? false : tls_fail(tls, "TLS", error);
    lib->SSL_CTX_ctrl(tls->context, SSL_CTRL_MODE, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, NULL);
    tls->ssl = lib->SSL_new(tls->context);
    if (!tls->ssl || lib->SSL_set_fd(tls->ssl, fd) != 1 || !tls_expect_host(tls, endpoint->address))
        return tls_fail(tls, "TLS", error);
    if (lib->SSL_connect(tls->ssl) == 1)
        return true;
    long verdict = lib->SSL_get_verify_result(tls->ssl);
    if (endpoint->verify && verdict != X509_V_OK)
        return error_set(error, TARE_ERROR_UNAVAILABLE, "error during connect: failed to verify certificate: %s",
                         lib->X509_verify_cert_error_string(verdict));
    return tls_fail(tls, "error during connect: TLS handshake", error);
}

struct tls *tls_connect(int fd, const struct endpoint *endpoint, GError **error)
{
    struct tls *tls = g_new0(struct tls, 1);
    if (tls_load(&tls->lib, error) && tls_handshake(tls, fd, endpoint, error))
        return tls;
    tls_free(tls);
    return NULL;
}

static ssize_t tls_result(struct tls *tls, int n)
{
    if (n > 0)
        return n;
    switch (tls->lib.SSL_get_error(tls->ssl, n)) {
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_SYSCALL:
        if (errno == 0)
            return 0;
        return -1;
    default:
        tls->problem = tls->lib.ERR_reason_error_string(tls->lib.ERR_get_error());
        errno = EPROTO;
        return -1;
    }
}

ssize_t tls_read(struct tls *tls, void *buffer, size_t length)
{
    errno = 0;
    return tls_result(tls, tls->lib.SSL_read(tls->ssl, buffer, (int)MIN(length, G_MAXINT)));
}

ssize_t tls_write(struct tls *tls, const void *data, size_t length)
{
    errno = 0;
    return tls_result(tls, tls->lib.SSL_write(tls->ssl, data, (int)MIN(length, G_MAXINT)));
}

const char *tls_problem(const struct tls *tls)
{
    return tls->problem;
}

bool tls_pending(struct tls *tls)
{
    return tls->lib.SSL_pending(tls->ssl) > 0;
}

void tls_close_write(struct tls *tls)
{
    tls->lib.SSL_shutdown(tls->ssl);
}

void tls_free(struct tls *tls)
{
    if (!tls)
        return;
    if (tls->ssl)
        tls->lib.SSL_free(tls->ssl);
    if (tls->context)
        tls->lib.SSL_CTX_free(tls->context);
    g_free(tls);
}
