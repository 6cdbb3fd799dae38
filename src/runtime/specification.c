/* The bytes of a config.json. Go writes "unlimited" as 18446744073709551615, which no reader of signed 64-bit numbers takes. */
#include "runtime/runtime-internal.h"

#include "base/parse.h"

#include <string.h>

/* Numbers beyond 63 bits, outside of strings, become -1: the same 64 bits, and what the specification's signed fields mean by
 * "unlimited". */
static void shrink_numbers(char *text, size_t length)
{
    bool in_string = false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '"')
            in_string = !in_string;
        else if (in_string && text[i] == '\\')
            i++;
        else if (!in_string && g_ascii_isdigit(text[i])) {
            size_t n = strspn(text + i, "0123456789");
            if (n == 20 && strncmp(text + i, "18446744073709551615", n) == 0 && text[i + n] != '.' &&
                (i == 0 || text[i - 1] != '-')) {
                memset(text + i, ' ', n);
                text[i] = '-';
                text[i + 1] = '1';
            }
            i += n - 1;
        }
    }
}

json_t *runtime_specification_parse(const char *text, size_t length, GError **error)
{
    if (length > RUNTIME_SPECIFICATION_MAX) {
        error_set(error, TARE_ERROR_TOO_LARGE, "config.json: larger than %u bytes", RUNTIME_SPECIFICATION_MAX);
        return NULL;
    }
    g_autofree char *copy = g_malloc(length + 1);
    memcpy(copy, text, length);
    copy[length] = '\0';
    shrink_numbers(copy, length);
    return json_parse(copy, length, RUNTIME_SPECIFICATION_MAX, "config.json", error);
}
