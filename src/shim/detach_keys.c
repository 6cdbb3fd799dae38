#include "shim/shim.h"

#include "shim/shim-internal.h"

#include <string.h>

/* The control codes by what follows "ctrl-". */
static const char control_names[] = "@abcdefghijklmnopqrstuvwxyz[\\]^_";

static bool parse_key(const char *key, size_t length, guint8 *ret)
{
    if (length == 1) {
        *ret = (guint8)key[0];
        return true;
    }
    if (length == 3 && memcmp(key, "DEL", 3) == 0) {
        *ret = 127;
        return true;
    }
    const char *name =
        length == 6 && memcmp(key, "ctrl-", 5) == 0 ? memchr(control_names, key[5], sizeof control_names - 1) : NULL;
    if (!name)
        return false;
    *ret = (guint8)(name - control_names);
    return true;
}

bool detach_keys_parse(const char *text, struct detach_keys *ret, GError **error)
{
    struct detach_keys parsed = { 0 };
    if (!text || !*text)
        text = "ctrl-p,ctrl-q";
    for (const char *at = text;;) {
        size_t length = strcspn(at, ",");
        if (parsed.n_keys == DETACH_KEYS_MAX || !parse_key(at, length, &parsed.keys[parsed.n_keys]))
            return error_set(error, TARE_ERROR_INVALID, "Invalid detach keys (%s) provided", text);
        parsed.n_keys++;
        if (at[length] == '\0')
            break;
        at += length + 1;
    }
    *ret = parsed;
    return true;
}

/* After a mismatch what was held back may still end in a beginning of the sequence: gives up bytes from its front until it does.
 */
static void shorten_match(struct detach_keys *keys, GByteArray *out)
{
    unsigned old = keys->n_matched, shorter = old - 1;
    while (shorter > 0 && memcmp(keys->keys, keys->keys + old - shorter, shorter) != 0)
        shorter--;
    g_byte_array_append(out, keys->keys, old - shorter);
    keys->n_matched = shorter;
}

bool detach_keys_filter(struct detach_keys *keys, const guint8 *data, size_t length, GByteArray *out)
{
    for (size_t i = 0; i < length; i++) {
        while (keys->n_matched > 0 && data[i] != keys->keys[keys->n_matched])
            shorten_match(keys, out);
        if (data[i] != keys->keys[keys->n_matched]) {
            g_byte_array_append(out, data + i, 1);
            continue;
        }
        if (++keys->n_matched == keys->n_keys) {
            keys->n_matched = 0;
            return true;
        }
    }
    return false;
}

bool shim_check_detach_keys(const char *text, GError **error)
{
    struct detach_keys keys;
    return detach_keys_parse(text, &keys, error);
}
