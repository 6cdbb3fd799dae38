/* One line of a json-file log: {"log":"text\n","stream":"stdout","attrs":{…},"time":"…"}. A scanner of our own, since a JSON
 * library is too slow for logs; what it does not know it refuses, and the line is left out. Pure. */
#include "container/log-internal.h"

#include "base/timestamp.h"

#include <string.h>

struct scanner {
    const char *at, *end;
};

static void skip_blanks(struct scanner *scanner)
{
    while (scanner->at < scanner->end && (*scanner->at == ' ' || *scanner->at == '\t'))
        scanner->at++;
}

static bool expect(struct scanner *scanner, char c)
{
    skip_blanks(scanner);
    if (scanner->at >= scanner->end || *scanner->at != c)
        return false;
    scanner->at++;
    return true;
}

static bool hex4(struct scanner *scanner, guint *ret)
{
    guint value = 0;
    if (scanner->end - scanner->at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        int digit = g_ascii_xdigit_value(*scanner->at++);
        if (digit < 0)
            return false;
        value = value << 4 | (guint)digit;
    }
    *ret = value;
    return true;
}

/* After "\u": one code point, of a surrogate pair where it begins one. */
static bool unescape_unicode(struct scanner *scanner, GString *out)
{
    guint code, low;
    if (!hex4(scanner, &code))
        return false;
    if (code >= 0xd800 && code < 0xdc00 && scanner->end - scanner->at >= 6 && scanner->at[0] == '\\' && scanner->at[1] == 'u') {
        struct scanner ahead = { scanner->at + 2, scanner->end };
        if (hex4(&ahead, &low) && low >= 0xdc00 && low < 0xe000) {
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            *scanner = ahead;
        }
    }
    if (code >= 0xd800 && code < 0xe000)
        code = 0xfffd;
    if (code == 0)
        g_string_append_c(out, '\0');
    else
        g_string_append_unichar(out, code);
    return true;
}

static bool unescape(struct scanner *scanner, GString *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (scanner->at >= scanner->end)
        return false;
    char c = *scanner->at++;
    const char *known = c ? strchr(from, c) : NULL;
    if (c == 'u')
        return unescape_unicode(scanner, out);
    if (!known)
        return false;
    g_string_append_c(out, to[known - from]);
    return true;
}

static bool scan_string(struct scanner *scanner, GString *out)
{
    if (!expect(scanner, '"'))
        return false;
    while (scanner->at < scanner->end) {
        const char *run = scanner->at;
        while (scanner->at < scanner->end && *scanner->at != '"' && *scanner->at != '\\')
            scanner->at++;
        g_string_append_len(out, run, scanner->at - run);
        if (scanner->at >= scanner->end)
            return false;
        if (*scanner->at++ == '"')
            return true;
        if (!unescape(scanner, out))
            return false;
    }
    return false;
}

/* {"k":"v",…} becomes "k=v,k2=v2", escaped as in a URL's query. */
static bool scan_attributes(struct scanner *scanner, GString *out)
{
    if (!expect(scanner, '{'))
        return false;
    if (expect(scanner, '}'))
        return true;
    do {
        g_autoptr(GString) key = g_string_new(NULL);
        g_autoptr(GString) value = g_string_new(NULL);
        if (!scan_string(scanner, key) || !expect(scanner, ':') || !scan_string(scanner, value))
            return false;
        if (out->len)
            g_string_append_c(out, ',');
        g_string_append_uri_escaped(out, key->str, NULL, FALSE);
        g_string_append_c(out, '=');
        g_string_append_uri_escaped(out, value->str, NULL, FALSE);
    } while (expect(scanner, ','));
    return expect(scanner, '}');
}

static bool scan_member(struct scanner *scanner, struct log_entry *entry)
{
    g_autoptr(GString) key = g_string_new(NULL);
    g_autoptr(GString) text = g_string_new(NULL);
    if (!scan_string(scanner, key) || !expect(scanner, ':'))
        return false;
    if (!strcmp(key->str, "log"))
        return scan_string(scanner, entry->line);
    if (!strcmp(key->str, "attrs"))
        return scan_attributes(scanner, entry->attributes);
    if (!scan_string(scanner, text))
        return false;
    if (!strcmp(key->str, "stream"))
        entry->stream = !strcmp(text->str, "stderr") ? 2 : 1;
    else if (!strcmp(key->str, "time"))
        return timestamp_parse(text->str, &entry->time_ns);
    return true;
}

void log_entry_init(struct log_entry *entry)
{
    *entry = (struct log_entry){ .line = g_string_new(NULL), .attributes = g_string_new(NULL) };
}

void log_entry_clear(struct log_entry *entry)
{
    g_string_free(entry->line, TRUE);
    g_string_free(entry->attributes, TRUE);
}

bool log_entry_parse(const char *text, size_t length, struct log_entry *entry)
{
    struct scanner scanner = { text, text + length };
    g_string_truncate(entry->line, 0);
    g_string_truncate(entry->attributes, 0);
    entry->stream = 1;
    entry->time_ns = 0;
    if (!expect(&scanner, '{'))
        return false;
    do {
        if (!scan_member(&scanner, entry))
            return false;
    } while (expect(&scanner, ','));
    if (!expect(&scanner, '}'))
        return false;
    skip_blanks(&scanner);
    return scanner.at == scanner.end;
}
