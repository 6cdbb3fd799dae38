#include "base/error.h"

#include <errno.h>
#include <string.h>

G_DEFINE_QUARK(tare - error - quark, tare_error)

static const int http_status[TARE_ERROR_N_CODES] = {
    [TARE_ERROR_INTERNAL] = 500,     [TARE_ERROR_INVALID] = 400,   [TARE_ERROR_UNAUTHORIZED] = 401,
    [TARE_ERROR_FORBIDDEN] = 403,    [TARE_ERROR_NOT_FOUND] = 404, [TARE_ERROR_CONFLICT] = 409,
    [TARE_ERROR_NOT_MODIFIED] = 304, [TARE_ERROR_TOO_LARGE] = 413, [TARE_ERROR_NOT_IMPLEMENTED] = 501,
    [TARE_ERROR_UNAVAILABLE] = 503,  [TARE_ERROR_NO_SPACE] = 500,  [TARE_ERROR_CANCELLED] = 499,
};

int error_http_status(const GError *error)
{
    if (!error || error->domain != TARE_ERROR || error->code < 0 || error->code >= TARE_ERROR_N_CODES)
        return 500;
    return http_status[error->code];
}

enum tare_error error_code_of_refusal(int status)
{
    switch (status) {
    case 401:
        return TARE_ERROR_UNAUTHORIZED;
    case 403:
        return TARE_ERROR_FORBIDDEN;
    case 404:
        return TARE_ERROR_NOT_FOUND;
    default:
        return TARE_ERROR_INTERNAL;
    }
}

void error_fill(GError **error, enum tare_error code, const char *format, ...)
{
    if (!error)
        return;
    va_list args;
    va_start(args, format);
    *error = g_error_new_valist(TARE_ERROR, code, format, args);
    va_end(args);
}

void error_fill_errno(GError **error, int errnum, const char *format, ...)
{
    if (!error)
        return;
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    enum tare_error code = errnum == ENOSPC || errnum == EDQUOT ? TARE_ERROR_NO_SPACE : TARE_ERROR_INTERNAL;
    g_set_error(error, TARE_ERROR, (int)code, "%s: %s", what, error_errno_text(errnum));
}

const char *error_errno_text(int errnum)
{
    static _Thread_local char text[128];
    const char *from = strerror(errnum);
    g_strlcpy(text, from, sizeof text);
    /* "RPC: …" and the like keep their capitals. */
    if (g_ascii_isupper(text[0]) && !g_ascii_isupper(text[1]))
        text[0] = g_ascii_tolower(text[0]);
    return text;
}

bool error_is(const GError *error, enum tare_error code)
{
    return g_error_matches(error, TARE_ERROR, (int)code);
}
