/* Whom Go's HTTP client trusts, and how it tells failures: Docker's users know both. */
#include "registry/registry-internal.h"

#include <string.h>

/* Each alone leaves the other's authorities to the system, as in Go. */
void registry_curl_authorities(void *easy)
{
    const char *file = g_getenv("SSL_CERT_FILE"), *directory = g_getenv("SSL_CERT_DIR");
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (file && *file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, file);
    if (directory && *directory)
        curl_easy_setopt(easy, CURLOPT_CAPATH, directory);
}

/* OpenSSL's words as Go's. */
static char *describe_certificate(const char *host, const char *problem)
{
    static const struct {
        const char *openssl, *go;
    } words[] = {
        { "unable to get local issuer certificate", "certificate signed by unknown authority" },
        { "self-signed certificate", "certificate signed by unknown authority" },
        { "certificate has expired", "certificate has expired or is not yet valid" },
        { "certificate is not yet valid", "certificate has expired or is not yet valid" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
        if (strstr(problem, words[i].openssl))
            problem = words[i].go;
    if (strstr(problem, "no alternative certificate subject name"))
        return g_strdup_printf("tls: failed to verify certificate: x509: certificate is not valid for %s", host);
    return g_strdup_printf("tls: failed to verify certificate: x509: %s", problem);
}

static char *describe_connect(CURL *easy, const char *url, const char *problem)
{
    long os_error = 0, port = 0;
    char *address = NULL;
    curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &os_error);
    curl_easy_getinfo(easy, CURLINFO_PRIMARY_PORT, &port);
    curl_easy_getinfo(easy, CURLINFO_PRIMARY_IP, &address);
    const char *why = os_error ? error_errno_text((int)os_error) : problem;
    if (os_error && address && *address)
        return g_strdup_printf("dial tcp %s:%ld: connect: %s", address, port, why);
    g_autofree char *at = url_host(url);
    return g_strdup_printf("dial tcp %s: connect: %s", at, why);
}

char *registry_curl_describe(void *easy, const char *url, int code, const char *problem)
{
    long os_error = 0;
    g_autofree char *host = url_part(url, CURLUPART_HOST, 0), *at = url_host(url);
    if (!*problem)
        problem = curl_easy_strerror((CURLcode)code);
    switch ((CURLcode)code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return g_strdup_printf("dial tcp: lookup %s: no such host", host);
    case CURLE_COULDNT_CONNECT:
        return describe_connect(easy, url, problem);
    case CURLE_SSL_CONNECT_ERROR:
        return g_strdup(strstr(problem, "wrong version number") ? "http: server gave HTTP response to HTTPS client" : problem);
    case CURLE_PEER_FAILED_VERIFICATION:
        return describe_certificate(host, problem);
    case CURLE_OPERATION_TIMEDOUT:
        return g_strdup_printf("dial tcp %s: i/o timeout", at);
    case CURLE_TOO_MANY_REDIRECTS:
        return g_strdup("stopped after 10 redirects");
    case CURLE_GOT_NOTHING:
        return g_strdup("EOF");
    case CURLE_PARTIAL_FILE:
        return g_strdup_printf("unexpected EOF: %s", problem);
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &os_error);
        return g_strdup_printf("connection broken: %s", os_error ? error_errno_text((int)os_error) : problem);
    default:
        return g_strdup(problem);
    }
}
