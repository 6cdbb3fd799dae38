/* Errors: one GError domain whose codes decide the HTTP status that an API client sees.
 *
 * Functions return false (or NULL) and set *error; on success *error is untouched. Messages are what a Docker user expects to
 * read: lower case, naming the object, without a full stop. Libraries return errors; only programs log them, once. */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define TARE_ERROR (tare_error_quark())
GQuark tare_error_quark(void);

enum tare_error {
    TARE_ERROR_INTERNAL,        /* 500 */
    TARE_ERROR_INVALID,         /* 400: a parameter or input is wrong */
    TARE_ERROR_UNAUTHORIZED,    /* 401 */
    TARE_ERROR_FORBIDDEN,       /* 403 */
    TARE_ERROR_NOT_FOUND,       /* 404 */
    TARE_ERROR_CONFLICT,        /* 409 */
    TARE_ERROR_NOT_MODIFIED,    /* 304 */
    TARE_ERROR_TOO_LARGE,       /* 413 */
    TARE_ERROR_NOT_IMPLEMENTED, /* 501 */
    TARE_ERROR_UNAVAILABLE,     /* 503 */
    TARE_ERROR_NO_SPACE,        /* 500: the disk or a quota is full */
    TARE_ERROR_CANCELLED,       /* 499: the client went away; nobody reads the answer */
    TARE_ERROR_N_CODES,
};

/* The HTTP status for an error of any domain (500 for those of others). */
int error_http_status(const GError *error);
/* What another server's refusal is to our client: it needs a login, may not, or what it asks for is not there; INTERNAL else. */
enum tare_error error_code_of_refusal(int status);

static inline bool error_false(void)
{
    return false;
}

/* Sets an error and is false, so that failing is one statement: return error_set(error, TARE_ERROR_NOT_FOUND, "no such image:
 * %s", name); A macro around the function, so that the compiler sees the constant and knows which paths go on. */
#define error_set(error, code, ...) (error_fill(error, code, __VA_ARGS__), error_false())
void error_fill(GError **error, enum tare_error code, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* The same from an errno value (positive); the text is "<formatted>: <errno text>". ENOSPC and EDQUOT become TARE_ERROR_NO_SPACE,
 * all else INTERNAL. */
#define error_set_errno(error, errnum, ...) (error_fill_errno(error, errnum, __VA_ARGS__), error_false())
void error_fill_errno(GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* What Docker (Go's syscall package) prints for an errno: the C library's text with a small first letter. Never NULL; valid until
 * the thread's next call. */
const char *error_errno_text(int errnum);

/* True where *error is of our domain with this code. */
bool error_is(const GError *error, enum tare_error code);
